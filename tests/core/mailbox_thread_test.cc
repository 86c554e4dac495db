// The mailbox between real threads: senders that flood and pause, an owner that sleeps whenever it
// may. A lost wake would leave it asleep, which the bound on its sleep turns into a failure.
#include <gtest/gtest.h>

#include <chrono>
#include <semaphore>
#include <thread>
#include <vector>

#include "core/mailbox.h"
#include "core/random.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

struct Letter {
    uint32_t sender;
    uint64_t number;
};

using Bell = std::counting_semaphore<>;
void ring(void* bell) { static_cast<Bell*>(bell)->release(); }
using LetterBox = BasicMailbox<Letter>;

constexpr uint32_t kSenders = 3;
constexpr std::chrono::seconds kLost{60};  // no thread is descheduled for so long

// Posts `total` letters, tries again what was refused, and pauses now and then so that the owner
// falls asleep. Returns how many were refused.
uint64_t send(LetterBox& mailbox, uint32_t sender, uint64_t total, uint64_t pause_every) {
    Random random(sender);
    uint64_t refused = 0;
    for (uint64_t number = 0; number < total;) {
        if (mailbox.post(sender, {sender, number})) {
            ++number;
        } else {
            ++refused;
            std::this_thread::yield();
        }
        if (random.chance(1, pause_every)) {
            std::this_thread::sleep_for(std::chrono::microseconds(random.below(50)));
        }
    }
    return refused;
}

class MailboxThreads : public ::testing::TestWithParam<uint64_t> {};

TEST_P(MailboxThreads, EveryMessageArrivesAndEverySleeperWakes) {
    const uint64_t pause_every = GetParam();
    const uint64_t each = test::scaled(pause_every < 100 ? 10'000 : 200'000);
    Bell bell(0);
    LetterBox mailbox(kSenders, 16, Doorbell{&ring, &bell});
    uint64_t refused[kSenders] = {};
    std::vector<std::thread> threads;
    for (uint32_t sender = 0; sender < kSenders; ++sender) {
        threads.emplace_back(
            [&, sender] { refused[sender] = send(mailbox, sender, each, pause_every); });
    }

    uint64_t next[kSenders] = {};
    uint64_t received = 0;
    uint64_t out_of_order = 0;
    uint64_t sleeps = 0;
    bool lost = false;
    while (received < each * kSenders) {
        if (mailbox.may_sleep()) {
            ++sleeps;
            lost |= !bell.try_acquire_for(kLost);
        }
        mailbox.awake();
        mailbox.drain(8, [&](const Letter& letter) {
            out_of_order += letter.number != next[letter.sender]++;
            ++received;
        });
        ASSERT_FALSE(lost) << "asleep with " << received << " of " << each * kSenders;
    }
    for (std::thread& thread : threads) thread.join();

    const LetterBox::Counts counts = mailbox.counts();
    EXPECT_EQ(out_of_order, 0u);
    EXPECT_EQ(counts.posted(), each * kSenders);
    EXPECT_EQ(counts.refused, refused[0] + refused[1] + refused[2]);
    EXPECT_LE(counts.rung, sleeps) << "at most one doorbell a sleep";
    EXPECT_GT(sleeps, 0u);
}

INSTANTIATE_TEST_SUITE_P(PausesEvery, MailboxThreads, ::testing::Values(2, 20, 1'000));

}  // namespace
}  // namespace pulse
