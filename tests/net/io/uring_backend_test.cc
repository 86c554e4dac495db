// What the contract does not say of the io_uring backend: kernels that refuse it, its lists and
// rings when they overflow, every system call failing once, and what it costs.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <set>

#include "tests/net/io/uring_world.h"

namespace pulse::test {
namespace {

// Runs `body` in a process where io_uring_setup fails with `error`; its exit code.
template <class Body>
int without_io_uring(int error, Body body) {
    const pid_t child = fork();
    if (child == 0) {
        sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        const sock_fprog program{.len = std::size(filter), .filter = filter};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(98);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(99);
        _exit(body());
    }
    int status = 0;
    PULSE_ASSERT(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(UringBackend, IsRefusedWithAReasonAndARemedy) {
    for (const int error : {ENOSYS, EPERM, EACCES}) {
        const int code = without_io_uring(error, [&] {
            Connection record{};
            UringBackend io({}, &record, 1);
            if (io.ready()) return 1;
            const std::string& text = io.ready().error();
            if (text.find(std::strerror(error)) == std::string::npos) return 2;
            return text.find("--backend epoll") == std::string::npos ? 3 : 0;
        });
        EXPECT_EQ(code, 0) << std::strerror(error);
    }
}

TEST(UringBackend, ReportsItsFeaturesAndItsMemory) {
    std::vector<Connection> records(8);
    UringBackend full({}, records.data(), 8);
    ASSERT_TRUE(full.ready()) << full.ready().error();
    UringBackend plain({.newer_features = false}, records.data(), 8);
    ASSERT_TRUE(plain.ready()) << plain.ready().error();
    EXPECT_EQ(plain.features().text(), "no-defer_taskrun");
    // 16 B a connection at 19,000 a reactor, if all of it was touched.
    EXPECT_LT(full.memory_bytes(), size_t{300} * 1024);
}

// A reactor that reads one message at a time touches one buffer's pages, and not all in turn.
TEST(UringBackend, ProvidesTheBufferThatWasUsedLast) {
    Stage<UringWorld<Full>> stage;
    stage.listen();
    auto one = stage.join();
    auto two = stage.join();
    std::set<const uint8_t*> places;
    stage.seen.raw_bytes_hook = [&](std::span<uint8_t> bytes) { places.insert(bytes.data()); };
    size_t wanted = 0;
    for (uint32_t i = 0; i < 2 * kUringReceiveBuffers; ++i) {
        auto& peer = i % 2 == 0 ? one.peer : two.peer;
        ASSERT_EQ(peer.write(as_bytes("beat")), 4u);
        wanted += 4;
        ASSERT_TRUE(
            stage.until([&] { return one.seen->bytes.size() + two.seen->bytes.size() == wanted; }));
    }
    EXPECT_EQ(places.size(), 1u);
    stage.close_all();
}

// So few entries that every list of the ring overflows, the kernel's of completions among them.
struct Tiny {
    static UringOptions make() { return {.submission_entries = 2}; }
};
struct TinyPlain {
    static UringOptions make() { return {.submission_entries = 2, .newer_features = false}; }
};

template <class World>
class UringCrowd : public ::testing::Test {};
using Crowded = ::testing::Types<UringWorld<Tiny>, UringWorld<TinyPlain>, UringWorld<Starved>>;
TYPED_TEST_SUITE(UringCrowd, Crowded);

// More connections become ready at once than any list holds; all are heard and answered, in any
// order, and time passes.
TYPED_TEST(UringCrowd, EveryConnectionIsServed) {
    constexpr uint32_t kPeers = kUringReadyMax + 376;
    Stage<TypeParam> stage(kPeers);
    stage.listen();
    std::vector<typename TypeParam::Peer> peers;
    for (uint32_t i = 0; i < kPeers; ++i) {
        peers.push_back(stage.connect());
        if (i % 200 == 199) stage.settle(kMillisecond);
    }
    ASSERT_TRUE(stage.until([&] { return stage.seen.live == static_cast<int>(kPeers); }));
    stage.settle();
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (!seen.sending) stage.seen.send(seen, "pong");
    };
    for (uint32_t round = 1; round <= 2; ++round) {
        for (auto& peer : peers) ASSERT_EQ(peer.write(as_bytes("ping")), 4u);
        const Nanos sent = stage.world.stall(5 * kMillisecond);
        ASSERT_TRUE(stage.until([&] { return stage.io.drained_until() > sent; }));
        for (const Seen& seen : stage.seen.all) ASSERT_EQ(seen.bytes.size(), 4 * round);
        for (auto& peer : peers) {
            std::string got;
            ASSERT_TRUE(stage.peer_reads(peer, got, 4));
            ASSERT_EQ(got, "pong");
        }
    }
    stage.close_all();
}

// ------------------------------------------------------------------------- what one poll handles

template <class World>
class UringPoll : public ::testing::Test {};
using Polled = ::testing::Types<UringWorld<Full>, UringWorld<Plain>>;
TYPED_TEST_SUITE(UringPoll, Polled);

// Where few are ready a heartbeat takes what it takes over epoll: nothing goes through the ring.
TYPED_TEST(UringPoll, AFewBeatsAreALookAReceiveAndASendEach) {
    Stage<TypeParam> stage;
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> few;
    while (few.size() < kUringAtOnce) few.push_back(stage.join());
    stage.settle();
    stage.seen.bytes_hook = [&](Seen& seen) { stage.seen.send(seen, "pong"); };
    for (auto& each : few) ASSERT_EQ(each.peer.write(as_bytes("beat")), 4u);
    stage.world.stall(kMillisecond);
    const uint64_t before = stage.io.counters().system_calls;
    stage.turn();
    for (const auto& each : few) EXPECT_EQ(each.seen->sents_at_once, 1);
    EXPECT_LE(stage.io.counters().system_calls - before, 1 + 2 * kUringAtOnce);
    stage.close_all();
}

// However many flood, one poll reads a bounded amount from them.
TYPED_TEST(UringPoll, FloodersShareABudget) {
    constexpr uint32_t kFlooders = 200;
    constexpr size_t kBufferBytes =
        kUringReceiveBufferBytes - kReceiveFrontBytes - kReceivePadBytes;
    constexpr size_t kMost = kUringRoundsPerPoll * kUringReceiveBuffers * kBufferBytes;
    Stage<TypeParam> stage(kFlooders);
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> flooders;
    for (uint32_t i = 0; i < kFlooders; ++i) flooders.push_back(stage.join());
    size_t bytes = 0;
    stage.seen.bytes_hook = [&](Seen& seen) {
        bytes += seen.bytes.size();
        seen.bytes.clear();
    };
    const std::string flood = pattern(1, 300'000);
    bool more_than_the_budget = false;
    for (int round = 0; round < 8; ++round) {
        size_t written = 0;
        for (auto& each : flooders) written += each.peer.write(as_bytes(flood));
        more_than_the_budget |= written > 2 * kMost;
        bytes = 0;
        stage.turn(0);
        EXPECT_GT(bytes, 0u);
        EXPECT_LE(bytes, kMost);
    }
    EXPECT_TRUE(more_than_the_budget) << "what was sent is within the bound";
    stage.close_all();
}

// A poll ends after kUringCompletionsPerPoll, of which an accept counts as kUringAcceptCost; and
// C8, where it ended before all that is ready was read: what a peer wrote must not be passed.
TYPED_TEST(UringPoll, WhatIsLeftForTheNextIsNotPassed) {
    constexpr uint32_t kPeers = 600;
    Stage<TypeParam> stage(kPeers);
    stage.listen();
    std::vector<typename TypeParam::Peer> peers;
    for (uint32_t i = 0; i < kPeers; ++i) peers.push_back(stage.connect());
    stage.world.stall(5 * kMillisecond);
    Nanos arrived = kNever;
    int passed = 0;
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (seen.reads == 1 && stage.io.drained_until() > arrived) ++passed;
    };
    int polls = 0;
    for (; stage.seen.live < static_cast<int>(kPeers) && polls < 100; ++polls) {
        const int live = stage.seen.live;
        const uint64_t completions = stage.io.counters().completions;
        stage.turn(0);
        EXPECT_LE(stage.seen.live - live, static_cast<int>(kAcceptsPerTurn));
        EXPECT_LE(stage.io.counters().completions - completions, kUringCompletionsPerPoll);
        if (stage.seen.live < static_cast<int>(2 * kAcceptsPerTurn) || arrived != kNever) continue;
        for (auto& peer : peers) ASSERT_EQ(peer.write(as_bytes("beat")), 4u);
        arrived = stage.world.stall(2 * kMillisecond);
    }
    EXPECT_GE(polls, 3) << "all were accepted within one budget";
    ASSERT_TRUE(stage.until([&] { return stage.io.drained_until() > arrived; }));
    for (const Seen& seen : stage.seen.all) EXPECT_EQ(seen.bytes, "beat");
    EXPECT_EQ(passed, 0) << "C8: drained_until had passed bytes that were delivered after it";
    // A poll of 600 that all have something to say is within its budget as well.
    for (auto& peer : peers) ASSERT_EQ(peer.write(as_bytes("beat")), 4u);
    const Nanos again = stage.world.stall(2 * kMillisecond);
    while (stage.io.drained_until() <= again) {
        const uint64_t completions = stage.io.counters().completions;
        stage.turn(0);
        ASSERT_LE(stage.io.counters().completions - completions, kUringCompletionsPerPoll);
    }
    stage.close_all();
}

// A small life: accept, speak, finish, connect, refuse, close in both ways. The number of system
// calls it took, from the first after the start.
template <class World>
uint64_t live_a_little(uint64_t fail_at, int error) {
    Stage<World> stage(16);
    const uint64_t start = stage.io.counters().system_calls;
    if (fail_at > 0) stage.io.system_calls().fail_at(start + fail_at, error);
    ListenAddress address = stage.world.free_address();
    if (!stage.io.listen(std::span(&address, 1))) {
        EXPECT_TRUE(stage.io.listen(std::span(&address, 1))) << "once is once";
    }
    stage.seen.accept_hook = [&](const Accepted& accepted) {
        if (stage.seen.accepts != 3) return false;
        stage.seen.refuse(accepted);
        return true;
    };
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (!seen.sending) stage.seen.send(seen, seen.bytes);
    };
    auto listener = stage.world.open_listener();
    Seen& ours = stage.seen.connect(listener.address(), {});
    std::vector<typename World::Peer> peers;
    for (int i = 0; i < 4; ++i) peers.push_back(stage.world.connect(address.address));
    EXPECT_TRUE(stage.until([&] { return stage.seen.accepts == 4 && ours.connects == 1; }));
    for (auto& peer : peers) peer.write(as_bytes("beat"));
    EXPECT_TRUE(stage.until([&] {
        int answered = 0;  // or, where it could not be watched, ended
        for (const Seen& seen : stage.seen.all) answered += seen.sents > 0 || seen.ends > 0;
        return answered >= 3;
    }));
    peers[0].finish();
    for (Seen& seen : stage.seen.all)
        if (seen.sents > 0 && seen.ends == 0) stage.io.finish(seen.index);
    EXPECT_TRUE(stage.until([&] {
        int ends = 0;
        for (const Seen& seen : stage.seen.all) ends += seen.ends;
        return ends >= 1;
    }));
    stage.io.wake();
    EXPECT_TRUE(stage.until([&] { return stage.io.counters().wakes_received > 0; }));
    if (ours.connect_error == 0) stage.seen.close(ours, CloseMode::orderly);
    EXPECT_TRUE(stage.io.listen({}));
    stage.close_all();
    return stage.io.counters().system_calls - start;
}

template <class World>
class UringFaults : public ::testing::Test {};
using Faulty = ::testing::Types<UringWorld<Full>, UringWorld<Plain>>;
TYPED_TEST_SUITE(UringFaults, Faulty);

// A machine without memory for longer than a moment: the reactor waits, and loses nothing.
TEST(UringShortage, SubmissionsThatAreRefusedForLongAreTriedOn) {
    // The second more often in a row than 10,000 times, after which earlier code gave up: 10 s.
    for (const auto& [error, refusals] :
         {std::pair{EAGAIN, kUringSubmitYields + 30}, std::pair{ENOMEM, 10'030u}}) {
        constexpr uint32_t kConnects = kUringSubmissionEntries / 2;
        Stage<UringWorld<Full>> stage(kConnects);
        const SocketAddress dead = stage.world.dead_address();
        for (uint32_t i = 0; i < kConnects; ++i) stage.seen.connect(dead, {});
        const uint64_t made = stage.io.counters().system_calls;
        stage.io.system_calls().fail_at(made + 1, error, refusals);
        // Two submissions each and no other call: the ring is full long before the last.
        for (Seen& each : stage.seen.all) stage.seen.close(each, CloseMode::orderly);
        EXPECT_EQ(stage.io.counters().enter_shortages, refusals);
        EXPECT_TRUE(stage.until([&] { return stage.seen.live == 0; }));
        EXPECT_EQ(stage.io.counters().completions_lost, 0u);
    }
}

// ----------------------------------------------------------------------------- lost completions

template <class World>
class UringLoss : public ::testing::Test {};
using Lossy = ::testing::Types<UringWorld<Full>, UringWorld<Plain>, UringWorld<Starved>>;
TYPED_TEST_SUITE(UringLoss, Lossy);

// The handler of a stage closes whatever has ended or failed, and answers each beat.
template <class World>
void close_what_fails(Stage<World>& stage) {
    const auto close = [&](Seen& seen) {
        if (!seen.close_called) stage.seen.close(seen, CloseMode::orderly);
    };
    stage.seen.end_hook = close;
    stage.seen.connected_hook = [close](Seen& seen) {
        if (seen.connect_error != 0) close(seen);
    };
    stage.seen.sent_hook = [close](Seen& seen) {
        if (seen.sent_error != 0) close(seen);
    };
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (!seen.sending) stage.seen.send(seen, "pong");
    };
}

// The kernel says that it dropped something: deadlines are judged again soon, and nothing spins.
TYPED_TEST(UringLoss, AfterEbadrTimeIsJudgedAgain) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    close_what_fails(stage);
    stage.settle();
    // So that there is something to submit, behind a look at the set.
    stage.seen.connect(stage.world.dead_address(), {});
    stage.io.system_calls().fail_at(stage.io.counters().system_calls + 2, EBADR);
    stage.turn(0);
    EXPECT_EQ(stage.io.counters().completions_lost, 1u);
    const Nanos lost_at = stage.io.clock();
    EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > lost_at; }))
        << "drained_until stands still";
    EXPECT_LE(stage.polls_within(50 * kMillisecond), 15u) << "it spins";
    one.peer.write(as_bytes("beat"));
    std::string got;
    EXPECT_TRUE(stage.peer_reads(one.peer, got, 4));
    EXPECT_EQ(got, "pong");
    EXPECT_EQ(one.seen->ends, 0) << "nothing of it was lost";
    stage.close_all();
}

// Submissions are refused for a while from the `behind`th call on, with completions lost before or
// not. Until what a peer wrote meanwhile is delivered, no later deadline may be judged (C8).
template <class World>
void refuse_after(uint32_t behind, bool loses) {
    Stage<World> stage;
    stage.listen();
    std::vector<typename Stage<World>::Joined> many;  // received by submissions
    while (many.size() <= kUringAtOnce) many.push_back(stage.join());
    auto two = stage.join();
    close_what_fails(stage);
    stage.settle();
    for (auto& each : many) each.peer.write(as_bytes("beat"));
    if (loses) stage.io.lose_completions();
    stage.io.system_calls().fail_at(stage.io.counters().system_calls + 1 + behind, ENOMEM, 60);
    for (uint32_t turn = 0; turn < behind / 4; ++turn) stage.turn(0);
    two.peer.write(as_bytes("beat"));
    const Nanos written = stage.world.stall(kMillisecond);
    const auto is_known = [&] { return two.seen->bytes.size() == 4 || two.seen->ends > 0; };
    for (int turn = 0; turn < 200 && !is_known(); ++turn) {
        stage.turn(0);
        if (is_known()) break;
        ASSERT_LE(stage.io.drained_until(), written) << "behind " << behind;
    }
    EXPECT_TRUE(is_known());
    EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > written; }));
    stage.close_all();
}

TYPED_TEST(UringLoss, NothingIsProvenWhileSubmissionsAreRefused) {
    for (uint32_t behind = 0; behind < 12; ++behind) {
        refuse_after<TypeParam>(behind, false);
        refuse_after<TypeParam>(behind, true);
    }
}

// Accept, hear, answer, connect, a send that waits for room, a wake, an end, closes: with the
// completions of one entry lost. A connection that lost something is reported as failed or heard
// all the same, and the backend lives on. Returns how many completions were lost.
template <class World>
uint64_t lose_something(uint32_t behind) {
    Stage<World> stage(16);
    constexpr int kPeers = kUringAtOnce + 4;  // received and answered by submissions
    stage.io.lose_completions(behind);
    stage.listen();
    close_what_fails(stage);
    auto listener = stage.world.open_listener();
    Seen& ours = stage.seen.connect(listener.address(), {});
    std::vector<typename World::Peer> peers;
    for (int i = 0; i < kPeers; ++i) peers.push_back(stage.connect());
    EXPECT_TRUE(stage.until([&] { return stage.seen.accepts == kPeers && ours.connects == 1; }));
    const std::string much = pattern(1, 6 << 20);
    if (!stage.seen.all.back().close_called) stage.seen.send(stage.seen.all.back(), much);
    for (auto& peer : peers) peer.write(as_bytes("beat"));
    const auto is_done = [&](const Seen& seen) {
        return &seen == &ours || seen.close_called || seen.bytes == "beat";
    };
    EXPECT_TRUE(stage.until([&] { return std::ranges::all_of(stage.seen.all, is_done); }));
    stage.io.wake();
    const uint64_t wakes = stage.io.counters().wakes_received;
    peers[0].finish();
    peers[1].reset();
    EXPECT_TRUE(stage.until([&] {
        const auto is_closed = [](const Seen& seen) { return seen.closes > 0; };
        return std::ranges::count_if(stage.seen.all, is_closed) >= 2;
    }));
    stage.settle(2 * kMillisecond);
    const uint64_t lost = stage.io.counters().completions_lost;
    stage.io.wake();
    EXPECT_TRUE(stage.until([&] { return stage.io.counters().wakes_received > wakes; }));
    const Nanos then = stage.io.clock();
    EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > then; }));
    auto late = stage.join();
    late.peer.write(as_bytes("beat"));
    std::string got;
    EXPECT_TRUE(stage.peer_reads(late.peer, got, 4));
    EXPECT_EQ(got, "pong");
    EXPECT_LE(stage.polls_within(20 * kMillisecond), 15u) << "it spins";
    stage.close_all();
    return lost;
}

TYPED_TEST(UringLoss, WhateverIsLostTheRestGoesOn) {
    uint32_t losses = 0;
    for (uint32_t behind = 0; lose_something<TypeParam>(behind) > 0; ++behind) {
        ASSERT_FALSE(this->HasFailure()) << "entry " << behind;
        ++losses;
    }
    EXPECT_GE(losses, 3u);
}

// Hundreds of receives, sends and closes are lost at once, more than the lists hold.
TYPED_TEST(UringLoss, ManyLoseSomethingAtOnce) {
    constexpr uint32_t kPeers = 700;
    for (uint32_t behind = 0; behind < 12; behind += 2) {
        Stage<TypeParam> stage(kPeers);
        stage.listen();
        close_what_fails(stage);
        std::vector<typename TypeParam::Peer> peers;
        for (uint32_t i = 0; i < kPeers; ++i) {
            peers.push_back(stage.connect());
            if (i % 200 == 199) stage.settle(kMillisecond);
        }
        ASSERT_TRUE(stage.until([&] { return stage.seen.live == static_cast<int>(kPeers); }));
        stage.settle();
        for (auto& peer : peers) peer.write(as_bytes("beat"));
        stage.io.lose_completions(behind);
        ASSERT_TRUE(stage.until([&] {
            return std::ranges::all_of(stage.seen.all, [](const Seen& seen) {
                return seen.close_called || seen.sents > 0;
            });
        })) << "entry "
            << behind;
        EXPECT_GT(stage.io.counters().completions_lost, 0u);
        const Nanos then = stage.io.clock();
        EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > then; }));
        // Of those that live, none has lost a byte.
        for (const Seen& seen : stage.seen.all) {
            if (seen.close_called) continue;
            EXPECT_EQ(seen.bytes, "beat");
        }
        stage.io.lose_completions(1);
        stage.close_all();
    }
}

// A loss in any entry of a poll, the last among them, while most of what is known to be ready is
// not read: none of it is passed by time (C8).
TYPED_TEST(UringLoss, WhatIsAskedForAnewIsNotPassed) {
    constexpr uint32_t kPeers = 200;
    static_assert(kPeers < kUringWatchEvents, "one look takes all, which proves the time of it");
    for (uint32_t behind = 0; behind <= kUringRoundsPerPoll; ++behind) {
        Stage<TypeParam> stage(kPeers);
        stage.listen();
        close_what_fails(stage);
        std::vector<typename TypeParam::Peer> peers;
        for (uint32_t i = 0; i < kPeers; ++i) peers.push_back(stage.connect());
        ASSERT_TRUE(stage.until([&] { return stage.seen.live == static_cast<int>(kPeers); }));
        stage.settle();
        for (auto& peer : peers) peer.write(as_bytes("beat"));
        const Nanos written = stage.world.stall(kMillisecond);
        stage.io.lose_completions(behind);
        const auto is_known = [](const Seen& seen) { return seen.ends > 0 || !seen.bytes.empty(); };
        uint32_t passed = 0;
        ASSERT_TRUE(stage.until([&] {
            const auto unknown = kPeers - std::ranges::count_if(stage.seen.all, is_known);
            if (unknown > 0 && stage.io.drained_until() > written) ++passed;
            return unknown == 0;
        }));
        EXPECT_EQ(passed, 0u) << "entry " << behind;
        EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > written; }));
        stage.io.lose_none();
        stage.close_all();
    }
}

// ---------------------------------------------------------------------------------- backpressure

template <class World>
class UringSaturated : public ::testing::Test {};
TYPED_TEST_SUITE(UringSaturated, Polled);

template <class World>
std::vector<typename World::Peer> fill(Stage<World>& stage, uint32_t peers) {
    stage.listen();
    std::vector<typename World::Peer> joined;
    for (uint32_t i = 0; i < peers; ++i) {
        joined.push_back(stage.connect());
        if (i % 200 == 199) stage.settle(kMillisecond);
    }
    EXPECT_TRUE(stage.until([&] { return stage.seen.live == static_cast<int>(peers); }));
    stage.settle();
    return joined;
}

// More than the completion queue holds are heard in a few polls and answered at once; what each
// message costs in completions is its receive and its send, and what the looks at the set are.
TYPED_TEST(UringSaturated, TheCompletionQueueDoesNotOverflow) {
    constexpr uint32_t kPeers = 2 * kUringSubmissionEntries * kUringCompletionsPerSubmission;
    Stage<TypeParam> stage(kPeers);
    auto peers = fill(stage, kPeers);
    std::vector<Seen*> heard;
    stage.seen.bytes_hook = [&](Seen& seen) { heard.push_back(&seen); };
    uint64_t messages = 0;
    const uint64_t before = stage.io.counters().completions;
    for (uint32_t round = 0; round < 3; ++round) {
        for (auto& peer : peers) ASSERT_EQ(peer.write(as_bytes("beat")), 4u);
        heard.clear();
        ASSERT_TRUE(stage.until([&] { return heard.size() == kPeers; }));
        for (Seen* seen : heard) stage.seen.send(*seen, "pong");
        messages += kPeers;
        ASSERT_TRUE(stage.until([&] {
            return std::ranges::none_of(stage.seen.all, [](Seen& seen) { return seen.sending; });
        }));
    }
    EXPECT_EQ(stage.io.counters().completion_overflows, 0u);
    EXPECT_LE(stage.io.counters().completions - before, messages * 2 + messages / 10);
    stage.close_all();
    EXPECT_EQ(stage.io.counters().completion_overflows, 0u);
}

// All of them always have more than a buffer-full: none is read twice more often than another.
TYPED_TEST(UringSaturated, WhatWasReadGoesBehindWhatWaits) {
    constexpr uint32_t kPeers = kUringReadyMax + 476;
    constexpr int kReads = 4;
    Stage<TypeParam> stage(kPeers);
    auto peers = fill(stage, kPeers);
    const std::string bytes = pattern(1, kReads * kUringReceiveBufferBytes);
    for (auto& peer : peers) ASSERT_EQ(peer.write(as_bytes(bytes)), bytes.size());
    const Nanos written = stage.world.stall(kMillisecond);
    stage.seen.bytes_hook = [&](Seen& seen) { seen.bytes.clear(); };
    int polls = 0;
    for (bool more = true; more && polls < 1'000; ++polls) {
        stage.turn(0);
        const auto [least, most] = std::ranges::minmax_element(
            stage.seen.all, {}, [](const Seen& seen) { return seen.reads; });
        ASSERT_LE(most->reads - least->reads, 2) << "poll " << polls;
        more = least->reads < kReads;
    }
    EXPECT_GE(polls, kReads * 2) << "they were read within a few polls: nothing had to wait";
    EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > written; }));
    EXPECT_EQ(stage.io.counters().completion_overflows, 0u);
    stage.close_all();
}

// As many as the ready list holds are always ready: what is ready anew waits in the set, and
// drained_until goes on, behind what was heard.
TYPED_TEST(UringSaturated, DrainedUntilAdvances) {
    constexpr uint32_t kPeers = kUringReadyMax + 476;
    Stage<TypeParam> stage(kPeers);
    auto peers = fill(stage, kPeers);
    std::vector<size_t> written(kPeers, 0), given(kPeers, 0);
    std::vector<Nanos> arrived_at(kPeers, 0), given_at(kPeers, 0);
    stage.seen.bytes_hook = [&](Seen& seen) {
        given[seen.index] = seen.bytes.size();
        given_at[seen.index] = stage.io.clock();
    };
    const Nanos start = stage.io.clock();
    int advances = 0;
    for (int poll = 0; poll < 60; ++poll) {
        for (uint32_t i = 0; i < kPeers; ++i) {
            const Index index = stage.seen.all[i].index;
            if (given[index] < written[index]) continue;
            ASSERT_EQ(peers[i].write(as_bytes("beat")), 4u);
            arrived_at[index] = stage.io.clock();
            written[index] += 4;
        }
        const Nanos before = stage.io.drained_until();
        stage.turn(0);
        advances += stage.io.drained_until() > before;
        for (Index index = 0; index < kPeers; ++index) {
            if (given[index] == written[index]) continue;
            ASSERT_LE(stage.io.drained_until(), std::max(arrived_at[index], given_at[index]));
        }
    }
    EXPECT_GT(stage.io.drained_until(), start);
    EXPECT_GE(advances, 5);
    stage.close_all();
}

// Until a run makes fewer calls than the one that is to fail. No connection hangs, leaks or
// is reported twice.
TYPED_TEST(UringFaults, AnySystemCallMayFailOnce) {
    const uint64_t whole = live_a_little<TypeParam>(0, 0);
    EXPECT_GT(whole, 20u);
    for (const int error : {ENOMEM, EINTR}) {
        for (uint64_t fail_at = 1; fail_at <= whole; ++fail_at) {
            live_a_little<TypeParam>(fail_at, error);
            ASSERT_FALSE(this->HasFailure()) << "call " << fail_at << ": " << std::strerror(error);
        }
    }
}

}  // namespace
}  // namespace pulse::test
