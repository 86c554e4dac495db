// The index against std::unordered_multimap: every record is found, and no other.
#include "core/sessions/hash_index.h"

#include <gtest/gtest.h>

#include <unordered_map>
#include <vector>

#include "core/random.h"

namespace pulse::test {
namespace {

struct Record {
    HashNode node;
    uint32_t key = 0;
};

class Records {
  public:
    explicit Records(uint32_t size) : records_(size + 1) {}
    HashNode& operator()(uint32_t handle) { return records_[handle].node; }
    uint32_t& key(uint32_t handle) { return records_[handle].key; }

  private:
    std::vector<Record> records_;
};

TEST(HashIndex, FindsWhatIsInItWhateverTheHashes) {
    for (const uint32_t hashes : {1u, 7u, 3'000u, UINT32_MAX}) {
        Random random(hashes);
        constexpr uint32_t kRecords = 6'000;
        Records records(kRecords);
        HashIndex index;
        std::unordered_map<uint32_t, uint32_t> expected;  // key -> handle
        const auto hash_of = [&](uint32_t key) {
            return static_cast<uint32_t>(mix64(key)) % hashes;
        };
        const auto find = [&](uint32_t key) {
            return index.find(hash_of(key), records,
                              [&](uint32_t handle) { return records.key(handle) == key; });
        };
        std::vector<uint32_t> free;
        for (uint32_t handle = kRecords; handle > 0; --handle) free.push_back(handle);
        for (int step = 0; step < (hashes < 10 ? 4'000 : 40'000); ++step) {
            const auto key = static_cast<uint32_t>(random.below(2 * kRecords));
            const auto known = expected.find(key);
            ASSERT_EQ(find(key), known == expected.end() ? 0 : known->second);
            if (known != expected.end() && random.chance(1, 2)) {
                index.erase(known->second, records);
                free.push_back(known->second);
                expected.erase(known);
            } else if (known == expected.end() && !free.empty()) {
                const uint32_t handle = free.back();
                free.pop_back();
                records.key(handle) = key;
                index.insert(handle, hash_of(key), records);
                expected.emplace(key, handle);
            }
            ASSERT_EQ(index.records(), expected.size());
        }
        for (const auto& [key, handle] : expected) ASSERT_EQ(find(key), handle);
    }
}

TEST(HashIndex, GrowsByABucketAnInsertion) {
    constexpr uint32_t kRecords = 100'000;
    Records records(kRecords);
    HashIndex index;
    for (uint32_t handle = 1; handle <= kRecords; ++handle) {
        const uint32_t before = index.buckets();
        index.insert(handle, static_cast<uint32_t>(mix64(handle)), records);
        ASSERT_LE(index.buckets() - before, 1u);
        ASSERT_GE(index.buckets(), index.records()) << "buckets hold one record on the average";
    }
}

}  // namespace
}  // namespace pulse::test
