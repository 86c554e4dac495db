// The store against a map of texts to their holders.
#include "core/sessions/text_store.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "core/random.h"

namespace pulse::test {
namespace {

constexpr SipKey kKey = {1, 2};

TEST(TextStore, KeepsEachTextOnceForAsLongAsItIsHeld) {
    Random random(3);
    TextStore store(kKey, size_t{1} << 30);
    struct Held {
        TextStore::Handle handle;
        uint32_t holders;
    };
    std::map<std::string, Held> held;
    for (int step = 0; step < 60'000; ++step) {
        const size_t size = random.chance(1, 50) ? random.between(1, TextStore::kTextBytesMax)
                                                 : random.between(1, 40);
        std::string text(size, 'a');
        text[size / 2] = static_cast<char>('a' + random.below(20));
        const auto known = held.find(text);
        ASSERT_EQ(store.find(text), known == held.end() ? 0 : known->second.handle);
        if (known != held.end() && random.chance(1, 2)) {
            ASSERT_EQ(store.text(known->second.handle), text);
            store.drop(known->second.handle);
            if (--known->second.holders == 0) held.erase(known);
        } else {
            TextStore::Handle handle = 0;
            ASSERT_TRUE(store.hold(text, handle));
            Held& now = held.try_emplace(text, Held{handle, 0}).first->second;
            ASSERT_EQ(now.handle, handle);
            ++now.holders;
        }
        ASSERT_EQ(store.texts(), held.size());
    }
    for (const auto& [text, holders] : held) ASSERT_EQ(store.text(holders.handle), text);
    for (const auto& [text, holders] : held)
        for (uint32_t count = 0; count < holders.holders; ++count) store.drop(holders.handle);
    EXPECT_EQ(store.texts(), 0u);
    EXPECT_EQ(store.held_bytes(), 0u);
}

TEST(TextStore, UsesAgainWhatWasFreed) {
    TextStore store(kKey, size_t{1} << 30);
    size_t after_first = 0;
    for (int round = 0; round < 20; ++round) {
        std::vector<TextStore::Handle> handles;
        for (int number = 0; number < 10'000; ++number) {
            handles.emplace_back();
            ASSERT_TRUE(store.hold(std::to_string(number * 1'000 + round), handles.back()));
        }
        for (const TextStore::Handle handle : handles) store.drop(handle);
        if (round == 0) after_first = store.bytes();
    }
    EXPECT_LE(store.bytes(), after_first + 64 * 1024);
}

TEST(TextStore, RefusesWhatIsBeyondItsBound) {
    TextStore store(kKey, 100);
    TextStore::Handle first = 0, second = 0, third = 0;
    EXPECT_TRUE(store.hold("0123456789", first));
    EXPECT_TRUE(store.hold("0123456789abcdef0123456789abcdef", second));
    EXPECT_FALSE(store.hold("x", third)) << store.held_bytes();
    EXPECT_TRUE(store.hold("0123456789", third)) << "what is there costs nothing";
    EXPECT_EQ(third, first);
    store.drop(second);
    EXPECT_TRUE(store.hold("x", second));
}

TEST(TextStore, TheEmptyTextIsNothing) {
    TextStore store(kKey, 0);
    TextStore::Handle handle = 7;
    EXPECT_TRUE(store.hold("", handle));
    EXPECT_EQ(handle, 0u);
    EXPECT_EQ(store.text(0), "");
    store.drop(0);
}

}  // namespace
}  // namespace pulse::test
