// base64url beside an encoder that works bit by bit, and what strict means.
#include "proto/base64url.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/random.h"

#include "tests/support/scale.h"
#include "tests/support/tokens.h"

namespace pulse::test {
namespace {

std::optional<std::string> decoded(std::string_view text) {
    std::vector<uint8_t> bytes(base64url_decoded_bytes(text.size()));
    const std::optional<size_t> count = decode_base64url(text, bytes);
    if (!count) return std::nullopt;
    return std::string(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(*count));
}

TEST(Base64Url, VectorsOfRfc4648) {
    EXPECT_EQ(decoded(""), "");
    EXPECT_EQ(decoded("Zg"), "f");
    EXPECT_EQ(decoded("Zm8"), "fo");
    EXPECT_EQ(decoded("Zm9v"), "foo");
    EXPECT_EQ(decoded("Zm9vYg"), "foob");
    EXPECT_EQ(decoded("Zm9vYmFy"), "foobar");
    EXPECT_EQ(decoded("-_8"), "\xfb\xff");
}

TEST(Base64Url, RefusesWhatHasAnotherSpelling) {
    for (const char* text : {"Zg==", "Zg=", "Z", "Zm9vY", "Zh", "Zm9", "+_8", "-/8", " Zg", "Zg\n",
                             "Zm 9v", "Zm9v.", "Zm9\x80"})
        EXPECT_EQ(decoded(text), std::nullopt) << text;
}

TEST(Base64Url, GivesBackWhatWasEncodedInOneSpellingOnly) {
    Random random(7);
    for (uint64_t round = 0; round < scaled(2'000); ++round) {
        std::string bytes(random.below(40), '\0');
        for (char& byte : bytes) byte = static_cast<char>(random.next());
        std::string text = base64url(bytes);
        ASSERT_EQ(decoded(text), bytes);
        if (text.empty()) continue;
        text[random.below(text.size())] = static_cast<char>(random.next());
        const std::optional<std::string> again = decoded(text);
        if (again) {
            ASSERT_EQ(base64url(*again), text);
        }
    }
}

}  // namespace
}  // namespace pulse::test
