// The queue of an epoll set against what WatchProof says of it: whatever is taken, put back and
// marked, nothing that became ready before proven_until() is left in the queue; and a queue that is
// never empty does not hold it back for long.
#include "net/io/watch_proof.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "core/random.h"

namespace pulse::test {
namespace {

struct Entry {
    Nanos ready_at;
    uint32_t mark;  // kWatchMarks: none
};

class Queue {
  public:
    Nanos now = 1'000;
    WatchProof proof{now};
    std::deque<Entry> entries;

    void make_ready(uint32_t count) {
        for (; count > 0; --count) entries.push_back({++now, kWatchMarks});
    }
    // As a backend does it: a look of `most`, what it says, then a mark if one is due. One in
    // `put_back_one_in` events goes to the end again (0: none).
    void look(uint32_t most, Random& random, uint32_t put_back_one_in = 0) {
        const Nanos began = ++now;
        std::vector<Entry> taken;
        while (taken.size() < most && !entries.empty()) {
            taken.push_back(entries.front());
            entries.pop_front();
        }
        bool put_back = false;
        for (const Entry& entry : taken) {
            const bool is_mark = entry.mark < kWatchMarks;
            if (is_mark || put_back_one_in == 0 || random.below(put_back_one_in) != 0) continue;
            entries.push_back(entry);
            put_back = true;
        }
        proof.took(began, static_cast<uint32_t>(taken.size()), taken.size() < most && !put_back);
        if (put_back) proof.put_back();
        for (const Entry& entry : taken)
            if (entry.mark < kWatchMarks) proof.passed(entry.mark);
        const uint32_t mark = proof.due();
        if (mark == kWatchMarks) return;
        const Nanos at = ++now;
        const auto is_this = [&](const Entry& entry) { return entry.mark == mark; };
        if (std::ranges::none_of(entries, is_this)) entries.push_back({++now, mark});
        proof.placed(mark, at);
    }
    Nanos oldest() const {
        Nanos oldest = kNever;
        for (const Entry& entry : entries)
            if (entry.mark == kWatchMarks) oldest = std::min(oldest, entry.ready_at);
        return oldest;
    }
};

TEST(WatchProof, NothingThatIsLeftBecameReadyBeforeWhatItProves) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Random random(seed);
        Queue queue;
        for (int step = 0; step < 400; ++step) {
            queue.make_ready(static_cast<uint32_t>(random.below(seed % 2 == 0 ? 30 : 9)));
            queue.look(1 + static_cast<uint32_t>(random.below(16)), random, seed % 3 == 0 ? 20 : 0);
            ASSERT_LT(queue.proof.proven_until(), queue.oldest()) << "seed " << seed;
            ASSERT_LE(queue.proof.proven_until(), queue.now);
        }
    }
}

// 15,000 wait at any time, and a look takes 512: what is proven is at most a pass of the queue and
// a part of it old.
TEST(WatchProof, AQueueThatIsNeverEmptyHoldsItBackByLittleMoreThanAPass) {
    constexpr uint32_t kWaiting = 15'000;
    constexpr uint32_t kTaken = 512;
    Random random(1);
    Queue queue;
    queue.make_ready(kWaiting);
    Nanos most = 0;
    for (int look = 0; look < 1'000; ++look) {
        queue.look(kTaken, random);
        queue.make_ready(kTaken);
        EXPECT_TRUE(queue.proof.backed_up());
        // A pass of the queue, in the time that this clock counts.
        if (look > 100) most = std::max(most, queue.now - queue.proof.proven_until());
    }
    EXPECT_LT(most, kWaiting + kWaiting / kWatchMarks + 4 * kTaken);
    EXPECT_GT(most, kWaiting) << "what waits was passed";
}

TEST(WatchProof, AMarkThatWasOvertakenProvesNothing) {
    WatchProof proof(10);
    proof.took(20, 8, false);
    ASSERT_LT(proof.due(), kWatchMarks);
    proof.placed(0, 30);
    proof.put_back();
    proof.took(40, 8, false);
    proof.passed(0);
    EXPECT_EQ(proof.proven_until(), 10);
    proof.took(50, 3, true);
    EXPECT_EQ(proof.proven_until(), 50);
    EXPECT_EQ(proof.due(), kWatchMarks) << "marks are for a queue that is backed up";
}

}  // namespace
}  // namespace pulse::test
