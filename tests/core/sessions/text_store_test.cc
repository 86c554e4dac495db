// The store against a map of texts to their holders.
#include "core/sessions/text_store.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

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
    EXPECT_EQ(store.chunk_bytes(), 0u);
}

// Texts of one size do not keep the memory from those of another: peers choose the sizes.
TEST(TextStore, GivesBackWhatWasFreedWhateverSizesCome) {
    TextStore store(kKey, size_t{1} << 20);
    for (size_t size = 8; size <= TextStore::kTextBytesMax; size += 8) {
        std::vector<TextStore::Handle> handles;
        for (int number = 0;; ++number) {
            std::string text = std::to_string(number);
            text.resize(size, 'x');
            TextStore::Handle handle = 0;
            if (!store.hold(text, handle)) break;
            handles.push_back(handle);
        }
        EXPECT_GT(handles.size() * size, size_t{1} << 17) << "an eighth of the bound is text";
        EXPECT_LE(store.chunk_bytes(), size_t{1} << 20);
        for (const TextStore::Handle handle : handles) store.drop(handle);
        EXPECT_EQ(store.chunk_bytes(), 0u);
    }
}

TEST(TextStore, RefusesWhatIsBeyondItsBound) {
    TextStore store(kKey, TextStore::kChunkBytes);
    TextStore::Handle first = 0, other = 0;
    EXPECT_TRUE(store.hold("0123456789", first));
    EXPECT_FALSE(store.hold(std::string(100, 'x'), other)) << "the one chunk is for short texts";
    EXPECT_TRUE(store.hold("0123456789", other)) << "what is there costs nothing";
    EXPECT_EQ(other, first);
    store.drop(first);
    store.drop(first);
    EXPECT_TRUE(store.hold(std::string(100, 'x'), other));
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
