// SipHash against the vector that its authors publish.
#include "core/sip_hash.h"

#include <gtest/gtest.h>

namespace pulse {
namespace {

TEST(SipHash, GivesThePublishedValues) {
    // Key and input are 00 01 02 ... 0f; vectors_sip64[16] of the reference implementation.
    constexpr SipKey kKey = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    static_assert(sip_hash(kKey, kKey[0], kKey[1]) == 0x3f2acc7f57c29bdb);
    EXPECT_EQ(sip_hash(kKey, kKey[0], kKey[1]), 0x3f2acc7f57c29bdbu);
}

TEST(SipHash, GivesThePublishedValuesOfTexts) {
    // The input of vectors_sip64[n] is 00 01 ... n-1.
    constexpr SipKey kKey = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    constexpr char kInput[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    EXPECT_EQ(sip_hash(kKey, std::string_view(kInput, 0)), 0x726fdb47dd0e0e31u);
    EXPECT_EQ(sip_hash(kKey, std::string_view(kInput, 1)), 0x74f839c593dc67fdu);
    EXPECT_EQ(sip_hash(kKey, std::string_view(kInput, 8)), 0x93f5f5799a932462u);
    EXPECT_EQ(sip_hash(kKey, std::string_view(kInput, 15)), 0xa129ca6149be45e5u);
    EXPECT_EQ(sip_hash(kKey, std::string_view(kInput, 16)), 0x3f2acc7f57c29bdbu);
}

TEST(SipHash, EveryBitOfKeyAndInputMatters) {
    const uint64_t plain = sip_hash({1, 2}, 3, 4);
    for (int bit = 0; bit < 64; ++bit) {
        const uint64_t flip = uint64_t{1} << bit;
        EXPECT_NE(sip_hash({1 ^ flip, 2}, 3, 4), plain);
        EXPECT_NE(sip_hash({1, 2 ^ flip}, 3, 4), plain);
        EXPECT_NE(sip_hash({1, 2}, 3 ^ flip, 4), plain);
        EXPECT_NE(sip_hash({1, 2}, 3, 4 ^ flip), plain);
    }
}

}  // namespace
}  // namespace pulse
