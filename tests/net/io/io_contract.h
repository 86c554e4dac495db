// The backend contract (net/io/io_backend.h) as a suite: a test, or a few, per sentence, the
// sentence in the test's name. A backend joins with a World and a file of its own,
// BACKEND_contract_thread_test.cc (the suite crosses threads where it wakes, so it runs under
// ThreadSanitizer too):
//
//     #include "tests/net/io/io_contract.h"
//     INSTANTIATE_TYPED_TEST_SUITE_P(Epoll, IoContract, EpollWorld);
//
// A World is a backend and whatever is at the other end of it. Nothing in it may block for longer
// than a test can wait, and nothing needs another thread: the test polls, and asks the peers in
// between.
//
//     struct World {
//         using Io = ...;    // the backend
//         using Peer = ...;  // the far end of a connection; movable; lets go when destroyed
//         using Door = ...;  // where peers wait for connects of ours: SocketAddress address();
//                            // optional<Peer> accept()
//         static constexpr bool kThreads;  // wake() may come from another thread
//         World(Connection* records, uint32_t places);  // the backend for these records
//         Io& io();
//         Nanos stall(Nanos);              // time passes and nobody polls; the time after it
//         ListenAddress free_address();    // another one each time
//         ListenAddress taken_address();   // listen() must fail here
//         SocketAddress dead_address();    // a connect is refused here
//         SocketAddress source_address();  // connects may come from here, whatever the port
//         Peer connect(const SocketAddress&);  // begins; some polls later it is known what became
//         Door open_door();
//         void exhaust();                  // the next accept finds the descriptor table full
//         void relieve();                  // and no longer
//     };
//     struct Peer {
//         size_t write(std::span<const uint8_t>);  // as many as fit now
//         void read(std::string& into, size_t most = SIZE_MAX);  // appends what is there now
//         bool ended();           // a read has met our FIN
//         IoError error();        // ECONNRESET, ECONNREFUSED: what a write or a read has met
//         void finish();          // FIN
//         void reset();           // RST
//         Nanos arrived_at();     // when all that was written (and FIN, RST) had reached the
//                                 // backend's socket, or a little later; kNever as long as some
//                                 // is on its way
//         SocketAddress local();  // whom the backend sees
//     };
#pragma once

#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>

#include "tests/net/io/io_stage.h"
#include "tests/support/scale.h"

namespace pulse::test {

// More than the kernels of both ends can hold of one stream while nobody reads it.
inline constexpr size_t kMoreThanFitsBytes = size_t{12} << 20;
// A poll that has nothing to do sleeps; a few early returns are allowed in a stretch of silence.
inline constexpr uint64_t kQuietPollsMax = 15;

template <class World>
class IoContract : public ::testing::Test {};
TYPED_TEST_SUITE_P(IoContract);

// ------------------------------------------------------------------------------------------- C1
TYPED_TEST_P(IoContract, C1_NoOperationCallsTheHandlerBack) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    auto two = stage.join();
    // From outside: everything that could call back has its chance, with input waiting.
    ASSERT_EQ(one.peer.write(as_bytes("hello")), 5u);
    stage.world.stall(5 * kMillisecond);
    stage.seen.send(*one.seen, "answer");
    stage.seen.close(*two.seen, CloseMode::orderly);
    stage.seen.connect(stage.world.dead_address(), {});
    EXPECT_TRUE(one.seen->bytes.empty());
    EXPECT_EQ(one.seen->sents, 0);
    EXPECT_EQ(two.seen->closes, 0);
    // And from inside an event: the recorder objects to one within another.
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (seen.reads > 1) return;
        if (!seen.sending) stage.seen.send(seen, "more");
        stage.io.wake();
        stage.io.finish(seen.index);
    };
    stage.seen.sent_hook = [&](Seen& seen) {
        if (seen.sents == 2) stage.seen.close(seen, CloseMode::orderly);
    };
    ASSERT_EQ(one.peer.write(as_bytes("again")), 5u);
    EXPECT_TRUE(stage.until([&] { return one.seen->reads > 0 && two.seen->closes == 1; }));
    stage.seen.bytes_hook = nullptr;
    stage.close_all();
}

// ------------------------------------------------------------------------------------------- C2
TYPED_TEST_P(IoContract, C2_BytesAreWritableWithRoomAroundThem) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    auto two = stage.join();
    unsigned read_behind = 0;
    stage.seen.raw_bytes_hook = [&](std::span<uint8_t> bytes) {
        std::fill(bytes.data() - kReceiveFrontBytes, bytes.data() + bytes.size(), uint8_t{0xaa});
        for (size_t i = 0; i < kReceivePadBytes; ++i)
            read_behind += *(bytes.data() + bytes.size() + i);
    };
    std::string expected_one, expected_two;
    for (uint32_t round = 0; round < 20; ++round) {
        const std::string text = pattern(round, size_t{1} << (round % 18));
        expected_one += text;
        expected_two += text;
        ASSERT_TRUE(stage.peer_writes(one.peer, text));
        ASSERT_TRUE(stage.peer_writes(two.peer, text));
        ASSERT_TRUE(stage.until([&] {
            return one.seen->bytes.size() >= expected_one.size() &&
                   two.seen->bytes.size() >= expected_two.size();
        }));
    }
    EXPECT_TRUE(one.seen->bytes == expected_one);
    EXPECT_TRUE(two.seen->bytes == expected_two);
    EXPECT_GE(read_behind, 0u);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C2_BytesArriveWholeAndInOrder) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const std::string text = pattern(1, 3 << 20);
    std::string_view rest = text;
    uint32_t piece = 1;
    while (!rest.empty()) {
        const std::string_view head = rest.substr(0, piece % 70'001);
        ASSERT_TRUE(stage.peer_writes(one.peer, head));
        rest.remove_prefix(head.size());
        piece = piece * 7 + 1;
    }
    one.peer.finish();
    EXPECT_TRUE(stage.until([&] { return one.seen->ends == 1; }));
    EXPECT_EQ(one.seen->end_error, 0);
    EXPECT_EQ(one.seen->bytes.size(), text.size());
    EXPECT_TRUE(one.seen->bytes == text);
    stage.close_all();
}

// ------------------------------------------------------------------------------------------- C3
TYPED_TEST_P(IoContract, C3_OnSentComesOnceAndAfterTheLastByteWasTaken) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const std::string text = pattern(2, kMoreThanFitsBytes);
    stage.seen.send(*one.seen, text);
    stage.settle(50 * kMillisecond);
    EXPECT_EQ(one.seen->sents, 0) << "the kernel cannot have taken all of it";
    std::string got;
    EXPECT_TRUE(stage.peer_reads(one.peer, got, text.size()));
    EXPECT_TRUE(stage.until([&] { return one.seen->sents > 0; }));
    stage.settle();
    EXPECT_EQ(one.seen->sents, 1);
    EXPECT_EQ(one.seen->sent_error, 0);
    EXPECT_TRUE(got == text) << "a short write showed";
    stage.close_all();
}

TYPED_TEST_P(IoContract, C3_ShortWritesAreHiddenBothWaysAtOnce) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const std::string there = pattern(3, kMoreThanFitsBytes);
    const std::string back = pattern(4, kMoreThanFitsBytes);
    stage.seen.send(*one.seen, there);
    std::string_view rest = back;
    std::string got;
    EXPECT_TRUE(stage.until([&] {
        rest.remove_prefix(one.peer.write(as_bytes(rest)));
        one.peer.read(got, 100'000);
        return rest.empty() && got.size() == there.size() && one.seen->bytes.size() == back.size();
    }));
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
    EXPECT_TRUE(got == there);
    EXPECT_TRUE(one.seen->bytes == back);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C3_TheNextSendMayStartInOnSent) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    constexpr int kSends = 500;
    std::string expected, got;
    const auto send_next = [&](Seen& seen) {
        if (seen.sents == kSends) return;
        const std::string text = "<" + std::to_string(seen.sents) + ">";
        expected += text;
        stage.seen.send(seen, text);
    };
    stage.seen.sent_hook = send_next;
    send_next(*one.seen);
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == kSends; }));
    EXPECT_TRUE(stage.peer_reads(one.peer, got, expected.size()));
    EXPECT_EQ(got, expected);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C3_OnSentComesWithAnErrorWhenThePeerIsGone) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.seen.send(*one.seen, pattern(5, kMoreThanFitsBytes));
    stage.settle();
    one.peer.reset();
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1 && one.seen->ends == 1; }));
    EXPECT_NE(one.seen->sent_error, 0);
    EXPECT_NE(one.seen->end_error, 0) << "a failed connection is no FIN";
    // A send on what is known to be broken fails in the same way, later.
    stage.seen.send(*one.seen, "into the void");
    EXPECT_EQ(one.seen->sents, 1);
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 2; }));
    EXPECT_NE(one.seen->sent_error, 0);
    stage.close_all();
}

// The reset has come, nobody has polled, and it is the send that meets it.
TYPED_TEST_P(IoContract, C3_ASendThatMeetsTheResetLeavesOnEndItsError) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    one.peer.reset();
    stage.world.stall(5 * kMillisecond);
    stage.seen.send(*one.seen, "too late");
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1 && one.seen->ends == 1; }));
    EXPECT_NE(one.seen->end_error, 0) << "a failed connection is no FIN";
    stage.close_all();
}

TYPED_TEST_P(IoContract, C3_APeerThatFinishedIsStillSentTo) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    ASSERT_TRUE(stage.peer_writes(one.peer, "last words"));
    one.peer.finish();
    EXPECT_TRUE(stage.until([&] { return one.seen->ends == 1; }));
    EXPECT_EQ(one.seen->end_error, 0);
    EXPECT_EQ(one.seen->bytes, "last words");
    const std::string text = pattern(6, kMoreThanFitsBytes);
    stage.seen.send(*one.seen, text);
    std::string got;
    EXPECT_TRUE(stage.peer_reads(one.peer, got, text.size()));
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
    EXPECT_EQ(one.seen->sent_error, 0);
    EXPECT_TRUE(got == text);
    stage.close_all();
}

// --------------------------------------------------------------------------------------- finish
TYPED_TEST_P(IoContract, Finish_FollowsWhatWasSent) {
    Stage<TypeParam> stage;
    stage.listen();
    for (const bool in_flight : {false, true}) {
        auto one = stage.join();
        const std::string text = pattern(7, in_flight ? kMoreThanFitsBytes : 1000);
        stage.seen.send(*one.seen, text);
        if (!in_flight) {
            EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
        }
        stage.io.finish(one.seen->index);
        std::string got;
        EXPECT_TRUE(stage.peer_reads_to_end(one.peer, got));
        EXPECT_TRUE(one.peer.ended());
        EXPECT_EQ(one.peer.error(), 0);
        EXPECT_TRUE(got == text) << "FIN overtook the bytes";
        EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
        EXPECT_EQ(one.seen->sent_error, 0);
    }
    stage.close_all();
}

TYPED_TEST_P(IoContract, Finish_LeavesTheInputOpen) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.io.finish(one.seen->index);
    std::string got;
    EXPECT_TRUE(stage.peer_reads_to_end(one.peer, got));
    EXPECT_TRUE(one.peer.ended());
    const std::string text = pattern(8, 300'000);
    ASSERT_TRUE(stage.peer_writes(one.peer, text));
    one.peer.finish();
    EXPECT_TRUE(stage.until([&] { return one.seen->ends == 1; }));
    EXPECT_EQ(one.seen->end_error, 0);
    EXPECT_TRUE(one.seen->bytes == text);
    stage.close_all(CloseMode::orderly);
}

// ------------------------------------------------------------------------------------------- C4
TYPED_TEST_P(IoContract, C4_CloseIsTheLastWordAndNotFromInsideClose) {
    Stage<TypeParam> stage;
    stage.listen();
    for (const CloseMode mode : {CloseMode::orderly, CloseMode::reset}) {
        auto one = stage.join();
        stage.seen.close(*one.seen, mode);
        EXPECT_EQ(one.seen->closes, 0) << "on_closed from inside close()";
        EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
        stage.settle();
        EXPECT_EQ(one.seen->closes, 1);
    }
}

TYPED_TEST_P(IoContract, C4_CloseMayComeFromEveryEvent) {
    Stage<TypeParam> stage;
    stage.listen();
    const auto close_it = [&](Seen& seen) {
        if (!seen.close_called) stage.seen.close(seen, CloseMode::orderly);
    };
    const auto gone = [&] { return stage.seen.live == 0; };
    stage.seen.attached_hook = close_it;
    stage.join();
    EXPECT_TRUE(stage.until(gone)) << "from on_accept, after attach";
    stage.seen.attached_hook = nullptr;
    {
        stage.seen.bytes_hook = close_it;
        auto one = stage.join();
        ASSERT_TRUE(stage.peer_writes(one.peer, pattern(9, 200'000)));
        EXPECT_TRUE(stage.until(gone)) << "from on_bytes, with more waiting";
        EXPECT_EQ(one.seen->reads, 1);
        stage.seen.bytes_hook = nullptr;
    }
    stage.seen.end_hook = close_it;
    for (const bool reset : {false, true}) {
        auto one = stage.join();
        if (reset) one.peer.reset();
        if (!reset) one.peer.finish();
        EXPECT_TRUE(stage.until(gone)) << "from on_end";
        EXPECT_EQ(one.seen->end_error != 0, reset);
    }
    stage.seen.end_hook = nullptr;
    stage.seen.sent_hook = close_it;
    auto one = stage.join();
    stage.seen.send(*one.seen, "bye");
    EXPECT_TRUE(stage.until(gone)) << "from on_sent";
    std::string got;
    EXPECT_TRUE(stage.peer_reads_to_end(one.peer, got));
    EXPECT_EQ(got, "bye");
}

// Whoever comes first in a batch closes all the others, whose events are in the same batch.
TYPED_TEST_P(IoContract, C4_ClosingTheOthersOfTheSameBatch) {
    constexpr uint32_t kPeers = 100;
    for (const bool and_itself : {false, true}) {
        Stage<TypeParam> stage(kPeers);
        stage.listen();
        std::vector<typename Stage<TypeParam>::Joined> peers;
        for (uint32_t i = 0; i < kPeers; ++i) peers.push_back(stage.join());
        // New peers wait to be accepted: a place that is freed is taken again as early as may be.
        std::vector<typename TypeParam::Peer> successors;
        for (uint32_t i = 0; i < kPeers; ++i) successors.push_back(stage.connect());
        for (auto& each : peers) ASSERT_EQ(each.peer.write(as_bytes("now")), 3u);
        stage.world.stall(10 * kMillisecond);
        bool done = false;
        stage.seen.bytes_hook = [&](Seen& first) {
            if (done) return;
            done = true;
            for (auto& each : peers) {
                if (each.seen == &first && !and_itself) continue;
                stage.seen.close(*each.seen, CloseMode::reset);
            }
        };
        EXPECT_TRUE(stage.until([&] {
            size_t closed = 0;
            for (auto& each : peers) closed += each.seen->closes;
            return closed == kPeers - (and_itself ? 0 : 1);
        }));
        stage.seen.bytes_hook = nullptr;
        stage.close_all();
    }
}

TYPED_TEST_P(IoContract, C4_APlaceIsUsedAgainAfterOnClosed) {
    Stage<TypeParam> stage(1);
    stage.listen();
    for (uint32_t round = 0; round < 100; ++round) {
        auto one = stage.join();
        EXPECT_EQ(one.seen->index, 0u);
        const std::string text = "round " + std::to_string(round);
        ASSERT_TRUE(stage.peer_writes(one.peer, text));
        ASSERT_TRUE(stage.until([&] { return one.seen->bytes.size() == text.size(); }));
        EXPECT_EQ(one.seen->bytes, text) << "bytes of an earlier owner";
        stage.seen.send(*one.seen, text);
        if (round % 3 == 0) {  // let the rest come while the place changes hands
            ASSERT_EQ(one.peer.write(as_bytes("stale")), 5u);
            one.peer.finish();
        }
        if (round % 2 == 0) {
            ASSERT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
        }
        stage.seen.close(*one.seen, round % 5 == 0 ? CloseMode::reset : CloseMode::orderly);
        ASSERT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
    }
}

// Closed with news of its own still to be told, its place taken at once by a connect.
TYPED_TEST_P(IoContract, C4_NothingOfTheLastOwnerReachesTheNext) {
    Stage<TypeParam> stage(1);
    stage.listen();
    auto door = stage.world.open_door();
    for (int round = 0; round < 3; ++round) {
        auto one = stage.join();
        Seen* next = nullptr;
        stage.seen.sent_hook = [&](Seen& seen) {
            if (&seen != one.seen) return;
            stage.seen.send(seen, "more");
            stage.seen.close(seen, CloseMode::reset);
        };
        stage.seen.closed_hook = [&](Seen& seen) {
            if (&seen == one.seen) next = &stage.seen.connect(door.address(), {});
        };
        // From inside an event, so that the news is told late in the poll.
        stage.seen.bytes_hook = [&](Seen& seen) { stage.seen.send(seen, "some"); };
        ASSERT_EQ(one.peer.write(as_bytes("go")), 2u);
        EXPECT_TRUE(stage.until([&] { return next != nullptr && next->connects == 1; }));
        stage.settle(5 * kMillisecond);
        EXPECT_EQ(next->sents + next->ends + next->reads, 0);
        stage.close_all();
    }
}

// ------------------------------------------------------------------------------------------- C5
TYPED_TEST_P(IoContract, C5_NothingButOnClosedAfterClose) {
    Stage<TypeParam> stage;
    stage.listen();
    for (const bool end : {false, true}) {
        auto one = stage.join();
        ASSERT_TRUE(stage.until([&] { return one.peer.write(as_bytes(pattern(1, 5000))) > 0; }));
        if (end) one.peer.finish();
        stage.seen.send(*one.seen, "answer");
        stage.world.stall(5 * kMillisecond);
        const int reads = one.seen->reads;
        stage.seen.close(*one.seen, CloseMode::orderly);
        EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
        stage.settle();
        EXPECT_EQ(one.seen->reads, reads);
        EXPECT_EQ(one.seen->sents, 0);
    }
}

// The recorder spoils the bytes in on_closed: what the peer reads shows whether that was too early.
TYPED_TEST_P(IoContract, C5_ASendInFlightPinsItsBytesUntilOnClosed) {
    Stage<TypeParam> stage;
    stage.listen();
    for (const CloseMode mode : {CloseMode::orderly, CloseMode::reset}) {
        auto one = stage.join();
        const std::string text = pattern(10, kMoreThanFitsBytes);
        stage.seen.send(*one.seen, text);
        stage.settle();
        stage.seen.close(*one.seen, mode);
        EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }))
            << "a peer that does not read holds up the close";
        EXPECT_EQ(one.seen->sents, 0);
        std::string got;
        EXPECT_TRUE(stage.peer_reads_to_end(one.peer, got));
        EXPECT_LT(got.size(), text.size());
        EXPECT_TRUE(std::string_view(text).starts_with(got)) << "bytes that were never sent";
        EXPECT_EQ(one.peer.error(), mode == CloseMode::reset ? ECONNRESET : 0);
        EXPECT_EQ(one.peer.ended(), mode == CloseMode::orderly);
    }
}

// ---------------------------------------------------------------------------------------- close
TYPED_TEST_P(IoContract, Close_InOrderDeliversWhatTheKernelHasTaken) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const std::string text = pattern(11, 100'000);
    stage.seen.send(*one.seen, text);
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
    stage.seen.close(*one.seen, CloseMode::orderly);
    std::string got;
    EXPECT_TRUE(stage.peer_reads_to_end(one.peer, got));
    EXPECT_TRUE(got == text);
    EXPECT_TRUE(one.peer.ended());
    EXPECT_EQ(one.peer.error(), 0);
    EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
}

TYPED_TEST_P(IoContract, Close_WithResetTellsThePeerAtOnce) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.seen.close(*one.seen, CloseMode::reset);
    std::string got;
    EXPECT_TRUE(stage.peer_reads_to_end(one.peer, got));
    EXPECT_EQ(one.peer.error(), ECONNRESET);
    EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
}

// The order that keeps a goodbye from being destroyed: say it, finish, read on to the end, close.
TYPED_TEST_P(IoContract, Close_AfterFinishAndOnEndLosesNothing) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    ASSERT_TRUE(stage.peer_writes(one.peer, pattern(12, 100'000)));
    stage.seen.send(*one.seen, "goodbye");
    stage.io.finish(one.seen->index);
    stage.seen.end_hook = [&](Seen& seen) { stage.seen.close(seen, CloseMode::orderly); };
    std::string got;
    EXPECT_TRUE(stage.peer_reads_to_end(one.peer, got));
    one.peer.finish();
    EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
    EXPECT_EQ(got, "goodbye");
    EXPECT_EQ(one.peer.error(), 0);
}

// ------------------------------------------------------------------------------------------- C6
TYPED_TEST_P(IoContract, C6_PollReturnsByItsDeadlineAndSleepsUntilThen) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos start = stage.io.now();
    const uint64_t polls = stage.io.counters().polls;
    while (stage.io.now() < start + 100 * kMillisecond)
        stage.turn(start + 100 * kMillisecond - stage.io.now());
    EXPECT_LE(stage.io.counters().polls - polls, kQuietPollsMax);
    EXPECT_LT(stage.io.now(), start + 5 * kSecond);
    stage.close_all();
}

// What is known to have happened does not wait for the deadline.
TYPED_TEST_P(IoContract, C6_NewsEndsTheSleep) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos before = stage.io.now();
    const auto sleep_until = [&](const int& count) {
        while (count == 0 && stage.io.now() < before + 5 * kSecond) stage.turn(10 * kSecond);
    };
    stage.seen.send(*one.seen, "hello");
    sleep_until(one.seen->sents);
    stage.seen.close(*one.seen, CloseMode::orderly);
    sleep_until(one.seen->closes);
    Seen& two = stage.seen.connect(stage.world.dead_address(), {});
    sleep_until(two.connects);
    EXPECT_LT(stage.io.now() - before, 5 * kSecond);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C6_ADeadlineInThePastStillHarvests) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    ASSERT_EQ(one.peer.write(as_bytes("hello")), 5u);
    stage.world.stall(20 * kMillisecond);
    for (int i = 0; i < 3 && one.seen->reads == 0; ++i) stage.turn(-kSecond);
    EXPECT_EQ(one.seen->bytes, "hello");
    stage.close_all();
}

// Silence of every kind lets poll sleep: nobody is asked again and again about what is known.
TYPED_TEST_P(IoContract, C6_SilenceCostsNoPolls) {
    Stage<TypeParam> stage;
    stage.listen();
    auto idle = stage.join();
    auto peer_finished = stage.join();
    auto we_finished = stage.join();
    auto both_finished = stage.join();
    auto broken = stage.join();
    auto choked = stage.join();
    peer_finished.peer.finish();
    stage.io.finish(we_finished.seen->index);
    stage.io.finish(both_finished.seen->index);
    both_finished.peer.finish();
    broken.peer.reset();
    stage.seen.send(*choked.seen, pattern(13, kMoreThanFitsBytes));
    EXPECT_TRUE(stage.until([&] {
        return peer_finished.seen->ends + both_finished.seen->ends + broken.seen->ends == 3;
    }));
    EXPECT_NE(broken.seen->end_error, 0);
    EXPECT_LE(stage.polls_within(100 * kMillisecond), kQuietPollsMax);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C6_AWakeBeforePollIsNotLost) {
    Stage<TypeParam> stage;
    stage.listen();
    stage.settle();
    stage.io.wake();
    const Nanos before = stage.io.now();
    stage.turn(10 * kSecond);
    EXPECT_LT(stage.io.now() - before, 5 * kSecond);
    EXPECT_GE(stage.io.counters().wakes_received, 1u);
}

TYPED_TEST_P(IoContract, C6_AWakeFromInsideAnEventEndsTheNextPoll) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    stage.seen.bytes_hook = [&](Seen&) { stage.io.wake(); };
    ASSERT_EQ(one.peer.write(as_bytes("x")), 1u);
    ASSERT_TRUE(stage.until([&] { return one.seen->reads == 1; }));
    const Nanos before = stage.io.now();
    while (stage.io.counters().wakes_received == 0 && stage.io.now() - before < 5 * kSecond)
        stage.turn(10 * kSecond);
    EXPECT_LT(stage.io.now() - before, 5 * kSecond);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C6_ManyWakesAreAnsweredAndThenThereIsQuiet) {
    Stage<TypeParam> stage;
    stage.listen();
    stage.settle();
    for (int i = 0; i < 1000; ++i) stage.io.wake();
    ASSERT_TRUE(stage.until([&] { return stage.io.counters().wakes_received > 0; }));
    EXPECT_LE(stage.polls_within(100 * kMillisecond), kQuietPollsMax);
}

TYPED_TEST_P(IoContract, C6_NoWakeFromAnotherThreadIsLost) {
    if constexpr (TypeParam::kThreads) {
        Stage<TypeParam> stage;
        stage.listen();
        const uint32_t rounds = static_cast<uint32_t>(scaled(2000));
        std::atomic<uint32_t> posted{0}, answered{0};
        std::atomic<bool> stop{false};
        std::thread other([&] {
            for (uint32_t round = 1; round <= rounds && !stop; ++round) {
                // Now and then late enough that the poll sleeps, otherwise while it is on its way.
                if (round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
                posted = round;
                stage.io.wake();
                while (answered != round && !stop) std::this_thread::yield();
            }
        });
        bool lost = false;
        while (answered != rounds && !lost) {
            const Nanos before = stage.io.now();
            stage.turn(8 * kSecond);
            lost = stage.io.now() - before > 6 * kSecond;
            answered = posted.load();
        }
        stop = true;
        other.join();
        EXPECT_FALSE(lost);
    } else {
        GTEST_SKIP() << "this world has one thread";
    }
}

// ------------------------------------------------------------------------------------------- C7
TYPED_TEST_P(IoContract, C7_NowMovesOnlyInsidePoll) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const Nanos now = stage.io.now();
    stage.world.stall(3 * kMillisecond);
    stage.seen.send(*one.seen, "hello");
    stage.io.wake();
    EXPECT_EQ(stage.io.now(), now);
    stage.turn(0);
    EXPECT_GE(stage.io.now(), now + 3 * kMillisecond) << "a poll reads the clock";
    stage.close_all();
}

// The process pauses in the middle of a batch, and peers speak meanwhile. Whoever is handed over
// after the pause, with bytes from before it or from within, is stamped with a clock of after it.
TYPED_TEST_P(IoContract, C7_NowWasReadAfterWhatTheEventTellsOf) {
    Stage<TypeParam> stage;
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (int i = 0; i < 8; ++i) peers.push_back(stage.join());
    Nanos resumed_at = 0;
    size_t late = 0;
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (resumed_at != 0) {
            EXPECT_GE(stage.io.now(), resumed_at) << "C7: stamped with a clock of before the pause";
            ++late;
            return;
        }
        for (auto& each : peers)
            if (each.seen != &seen) each.peer.write(as_bytes("y"));
        resumed_at = stage.world.stall(20 * kMillisecond);
    };
    for (auto& each : peers) ASSERT_EQ(each.peer.write(as_bytes("x")), 1u);
    stage.world.stall(5 * kMillisecond);
    EXPECT_TRUE(stage.until([&] { return late >= peers.size() - 1; }));
    stage.seen.bytes_hook = nullptr;
    EXPECT_LE(stage.io.woke_at(), stage.io.now());
    stage.close_all();
}

// woke_at() parts waiting from work: what a handler takes is on the side of the work.
TYPED_TEST_P(IoContract, WokeAt_IsAfterTheWaitAndBeforeTheWork) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos began_at = stage.io.now();
    stage.turn(5 * kMillisecond);
    EXPECT_GE(stage.io.woke_at(), began_at + 5 * kMillisecond) << "a wait that found nothing";
    Nanos resumed_at = 0;
    stage.seen.bytes_hook = [&](Seen&) { resumed_at = stage.world.stall(20 * kMillisecond); };
    ASSERT_EQ(one.peer.write(as_bytes("x")), 1u);
    stage.world.stall(kMillisecond);
    EXPECT_TRUE(stage.until([&] { return resumed_at != 0; }));
    EXPECT_LE(stage.io.woke_at(), resumed_at - 20 * kMillisecond);
    stage.seen.bytes_hook = nullptr;
    stage.close_all();
}

// ------------------------------------------------------------------------------------------- C8
// After a pause the kernel holds what nobody has read: drained_until may not pass its arrival
// before it was delivered. Bytes, FIN and RST, on a few of many.
TYPED_TEST_P(IoContract, C8_WhatArrivedBeforeItWasDelivered) {
    Stage<TypeParam> stage(200);
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (uint32_t i = 0; i < 200; ++i) peers.push_back(stage.join());
    for (uint32_t round = 0; round < 10; ++round) {
        const auto involved = [&](uint32_t i) { return i / 10 == round || i % 7 == round; };
        std::vector<size_t> expected(peers.size(), 0);
        for (uint32_t i = 0; i < peers.size(); ++i) {
            expected[i] = peers[i].seen->bytes.size();
            if (!involved(i) || i / 10 < round) continue;
            if (peers[i].seen->ends == 0) expected[i] += peers[i].peer.write(as_bytes("beat"));
        }
        auto& finisher = peers[round * 10];
        auto& breaker = peers[round * 10 + 1];
        finisher.peer.finish();
        breaker.peer.reset();
        expected[round * 10 + 1] = 0;  // a reset may overtake bytes
        stage.world.stall(10 * kMillisecond);
        const auto all_passed = [&] {
            bool passed = true;
            for (uint32_t i = 0; i < peers.size(); ++i) {
                if (!involved(i) || i / 10 < round) continue;
                const Nanos arrived = peers[i].peer.arrived_at();
                if (stage.io.drained_until() <= arrived) {
                    passed = false;
                    continue;
                }
                EXPECT_GE(peers[i].seen->bytes.size(), expected[i]) << "C8: bytes of peer " << i;
                if (i == round * 10) {
                    EXPECT_EQ(finisher.seen->ends, 1) << "C8: a FIN";
                }
                if (i == round * 10 + 1) {
                    EXPECT_EQ(breaker.seen->ends, 1) << "C8: an RST";
                }
            }
            return passed;
        };
        EXPECT_TRUE(stage.until(all_passed)) << "drained_until stands still";
        if (this->HasFailure()) break;
    }
    stage.close_all();
}

// More at once than one batch can carry.
TYPED_TEST_P(IoContract, C8_HoldsForMoreThanABatch) {
    constexpr uint32_t kPeers = 1000;
    Stage<TypeParam> stage(kPeers);
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (uint32_t i = 0; i < kPeers; ++i) peers.push_back(stage.join());
    for (uint32_t round = 1; round <= 3; ++round) {
        for (auto& each : peers) ASSERT_EQ(each.peer.write(as_bytes("beat")), 4u);
        stage.world.stall(10 * kMillisecond);
        std::vector<Nanos> arrived(kPeers, kNever);
        EXPECT_TRUE(stage.until([&] {
            bool passed = true;
            for (uint32_t i = 0; i < kPeers; ++i) {
                if (arrived[i] == kNever) arrived[i] = peers[i].peer.arrived_at();
                if (stage.io.drained_until() <= arrived[i]) {
                    passed = false;
                } else {
                    EXPECT_GE(peers[i].seen->bytes.size(), 4 * round) << "C8: peer " << i;
                }
            }
            return passed || this->HasFailure();
        }));
        if (this->HasFailure()) break;
    }
    stage.close_all();
}

// And where there is always more than a batch, it moves on all the same, and does not lie.
TYPED_TEST_P(IoContract, C8_MovesOnWhereEveryBatchIsFull) {
    constexpr uint32_t kPeers = 1000;
    constexpr uint32_t kWatched = 20;  // whose bytes are followed one by one
    Stage<TypeParam> stage(kPeers);
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (uint32_t i = 0; i < kPeers; ++i) peers.push_back(stage.join());
    std::vector<std::pair<size_t, Nanos>> arrivals(kWatched, {0, kNever});
    const Nanos start = stage.io.now();
    uint32_t told = 0;
    for (uint32_t round = 1; round <= 60 && told < kWatched; ++round) {
        for (auto& each : peers) ASSERT_EQ(each.peer.write(as_bytes("x")), 1u);
        stage.world.stall(kMillisecond / 2);
        for (uint32_t i = 0; i < kWatched; ++i) {
            auto& [bytes, at] = arrivals[i];
            if (at == kNever && peers[i * 50].peer.arrived_at() != kNever)
                arrivals[i] = {round, peers[i * 50].peer.arrived_at()};
        }
        stage.turn(0);
        for (uint32_t i = 0; i < kWatched; ++i) {
            auto& [bytes, at] = arrivals[i];
            if (at == kNever || stage.io.drained_until() <= at) continue;
            EXPECT_GE(peers[i * 50].seen->bytes.size(), bytes) << "C8: peer " << i * 50;
            if (bytes > 0) ++told;
            arrivals[i] = {0, kNever};
        }
    }
    EXPECT_GT(told, 0u) << "no arrival was passed";
    EXPECT_GT(stage.io.drained_until(), start) << "drained_until stands still";
    stage.close_all();
}

TYPED_TEST_P(IoContract, C8_AFloodingConnectionDoesNotHoldItBack) {
    Stage<TypeParam> stage;
    stage.listen();
    auto flooder = stage.join();
    auto quiet = stage.join();
    const std::string flood = pattern(14, 4 << 20);
    const auto turn_flooded = [&] {
        flooder.peer.write(as_bytes(flood));
        stage.turn(0);
        flooder.seen->bytes.clear();
    };
    for (int i = 0; i < 20; ++i) turn_flooded();
    // With the flood before and behind it, a beat passes and time goes on.
    const Nanos before = stage.io.now();
    ASSERT_EQ(quiet.peer.write(as_bytes("beat")), 4u);
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    const auto passed = [&] {
        return stage.io.drained_until() >= before + 10 * kMillisecond &&
               stage.io.drained_until() > quiet.peer.arrived_at();
    };
    while (!passed() && std::chrono::steady_clock::now() < give_up) {
        turn_flooded();
        stage.world.stall(kMillisecond / 10);
    }
    EXPECT_TRUE(passed()) << "C8: held back for ever";
    EXPECT_EQ(quiet.seen->bytes, "beat");
    EXPECT_GT(flooder.seen->reads, 1);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C8_SilenceLetsItPass) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos deadline = stage.io.now() + 30 * kMillisecond;
    uint64_t polls = 0;
    while (stage.io.drained_until() < deadline && polls < kQuietPollsMax) {
        stage.turn(deadline - stage.io.now());
        ++polls;
    }
    EXPECT_GE(stage.io.drained_until(), deadline);
    stage.close_all();
}

// --------------------------------------------------------------------------------------- listen
TYPED_TEST_P(IoContract, Listen_SaysWhichListenerAndWhoCame) {
    Stage<TypeParam> stage;
    const ListenAddress both[] = {stage.world.free_address(), stage.world.free_address()};
    const Result<void> listening = stage.io.listen(both);
    ASSERT_TRUE(listening) << listening.error();
    for (const uint8_t listener : {uint8_t{1}, uint8_t{0}, uint8_t{1}}) {
        stage.address = both[listener];
        auto one = stage.join();
        EXPECT_EQ(one.seen->listener, listener);
        if (one.seen->peer.present()) {
            EXPECT_EQ(one.seen->peer.text(), one.peer.local().text());
        }
    }
    stage.close_all();
}

TYPED_TEST_P(IoContract, Listen_AnErrorNamesTheAddressAndNothingIsListenedOn) {
    Stage<TypeParam> stage;
    const ListenAddress both[] = {stage.world.free_address(), stage.world.taken_address()};
    const Result<void> listening = stage.io.listen(both);
    ASSERT_FALSE(listening);
    EXPECT_NE(listening.error().find(both[1].text), std::string::npos) << listening.error();
    auto peer = stage.world.connect(both[0].address);
    EXPECT_TRUE(stage.until([&] {
        std::string nothing;
        peer.read(nothing);
        return peer.error() != 0;
    }));
    EXPECT_EQ(stage.seen.accepts, 0);
    stage.listen();
    stage.join();
    stage.close_all();
}

TYPED_TEST_P(IoContract, Listen_AnEmptyListStopsAcceptingAndKeepsWhatIsThere) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    auto too_late = stage.connect();
    stage.world.stall(5 * kMillisecond);
    ASSERT_TRUE(stage.io.listen({}));
    auto much_too_late = stage.connect();
    stage.settle();
    EXPECT_EQ(stage.seen.accepts, 1);
    std::string nothing;
    EXPECT_TRUE(stage.peer_reads_to_end(much_too_late, nothing));
    EXPECT_EQ(much_too_late.error(), ECONNREFUSED);
    stage.seen.send(*one.seen, "still here");
    std::string got;
    EXPECT_TRUE(stage.peer_reads(one.peer, got, 10));
    EXPECT_EQ(got, "still here");
    ASSERT_TRUE(stage.io.listen(std::span(&stage.address, 1)));
    auto again = stage.join();
    stage.close_all();
}

TYPED_TEST_P(IoContract, Listen_MayStopFromInsideOnAccept) {
    Stage<TypeParam> stage;
    stage.listen();
    std::vector<typename TypeParam::Peer> peers;
    for (int i = 0; i < 20; ++i) peers.push_back(stage.connect());
    stage.world.stall(5 * kMillisecond);
    stage.seen.attached_hook = [&](Seen&) { ASSERT_TRUE(stage.io.listen({})); };
    EXPECT_TRUE(stage.until([&] { return stage.seen.accepts > 0; }));
    stage.settle();
    EXPECT_EQ(stage.seen.accepts, 1) << "accepted after listen({})";
    stage.close_all();
}

// --------------------------------------------------------------------------------------- attach
TYPED_TEST_P(IoContract, Attach_DeliversWhatWasAlreadyThere) {
    Stage<TypeParam> stage;
    stage.listen();
    auto early = stage.connect();
    auto ended = stage.connect();
    ASSERT_TRUE(stage.until([&] { return early.write(as_bytes("early")) == 5; }));
    ASSERT_TRUE(stage.until([&] { return ended.write(as_bytes("ended")) == 5; }));
    ended.finish();
    EXPECT_TRUE(stage.until([&] {
        return stage.seen.all.size() == 2 &&
               stage.seen.all[0].bytes.size() + stage.seen.all[1].bytes.size() == 10 &&
               stage.seen.all[0].ends + stage.seen.all[1].ends == 1;
    }));
    stage.close_all();
}

TYPED_TEST_P(IoContract, Attach_AThousandTalkAndLeave) {
    constexpr uint32_t kPeers = 1000;
    Stage<TypeParam> stage(kPeers);
    stage.listen();
    std::vector<typename TypeParam::Peer> peers;
    for (uint32_t i = 0; i < kPeers; ++i) {
        peers.push_back(stage.connect());
        if (i % 100 == 99) {
            ASSERT_TRUE(stage.until([&] { return stage.seen.live == static_cast<int>(i + 1); }));
        }
    }
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (seen.bytes.size() == 8) stage.seen.send(seen, seen.bytes);
    };
    stage.seen.end_hook = [&](Seen& seen) { stage.seen.close(seen, CloseMode::orderly); };
    std::vector<std::string> got(kPeers);
    const auto name = [](uint32_t i) { return std::to_string(10'000'000 + i); };
    for (uint32_t i = 0; i < kPeers; ++i) ASSERT_EQ(peers[i].write(as_bytes(name(i))), 8u);
    for (uint32_t i = 0; i < kPeers; ++i) {
        ASSERT_TRUE(stage.peer_reads(peers[i], got[i], 8));
        EXPECT_EQ(got[i], name(i));
    }
    for (auto& peer : peers) peer.finish();
    EXPECT_TRUE(stage.until([&] { return stage.seen.live == 0; }));
    for (uint32_t i = 0; i < kPeers; ++i) {
        ASSERT_TRUE(stage.peer_reads_to_end(peers[i], got[i]));
        EXPECT_EQ(peers[i].error(), 0);
    }
}

// --------------------------------------------------------------------------------------- refuse
TYPED_TEST_P(IoContract, Refuse_SaysFarewellAndClosesInOrder) {
    Stage<TypeParam> stage;
    stage.listen();
    stage.seen.farewell = "come back in 30 s";
    stage.seen.accept_hook = [&](const Accepted& accepted) {
        stage.seen.refuse(accepted);
        return true;
    };
    for (const bool spoke_first : {false, true}) {
        auto peer = stage.connect();
        // Input that nobody reads would turn the close into a reset, and the farewell would be
        // lost.
        if (spoke_first) {
            ASSERT_TRUE(peer.write(as_bytes("GET / HTTP/1.1\r\n\r\n")) > 0);
            stage.world.stall(5 * kMillisecond);
        }
        std::string got;
        EXPECT_TRUE(stage.peer_reads_to_end(peer, got));
        EXPECT_EQ(got, stage.seen.farewell);
        EXPECT_EQ(peer.error(), 0);
    }
    EXPECT_EQ(stage.seen.refusals, 2);
    EXPECT_EQ(stage.seen.live, 0);
}

TYPED_TEST_P(IoContract, Refuse_ManyAtOnceAndWithoutAFarewell) {
    Stage<TypeParam> stage(1);
    stage.listen();
    auto one = stage.join();
    stage.seen.farewell = "";
    std::vector<typename TypeParam::Peer> peers;
    for (int i = 0; i < 300; ++i) peers.push_back(stage.connect());
    for (auto& peer : peers) {
        std::string got;
        EXPECT_TRUE(stage.peer_reads_to_end(peer, got));
        EXPECT_EQ(got, "");
    }
    EXPECT_EQ(stage.seen.refusals, 300);
    stage.seen.send(*one.seen, "unhurt");
    std::string got;
    EXPECT_TRUE(stage.peer_reads(one.peer, got, 6));
    stage.close_all();
}

// ------------------------------------------------------------------------------------ exhausted
TYPED_TEST_P(IoContract, Exhausted_RefusesThroughTheSpareAndDoesNotSpin) {
    Stage<TypeParam> stage;
    stage.listen();
    auto inside = stage.join();
    for (int round = 1; round <= 2; ++round) {
        constexpr int kPeers = 20;
        std::vector<typename TypeParam::Peer> peers;
        for (int i = 0; i < kPeers; ++i) peers.push_back(stage.connect());
        stage.world.exhaust();
        EXPECT_TRUE(stage.until([&] { return stage.seen.exhausted == kPeers * round; }));
        EXPECT_LE(stage.polls_within(100 * kMillisecond), kQuietPollsMax);
        EXPECT_GE(stage.io.counters().spare_used, static_cast<uint64_t>(kPeers * round));
        // Those inside notice nothing.
        const size_t before = inside.seen->bytes.size();
        ASSERT_TRUE(stage.peer_writes(inside.peer, "beat"));
        EXPECT_TRUE(stage.until([&] { return inside.seen->bytes.size() == before + 4; }));
        stage.world.relieve();
        for (auto& peer : peers) {
            std::string got;
            EXPECT_TRUE(stage.peer_reads_to_end(peer, got));
            EXPECT_EQ(got, "full");
            EXPECT_EQ(peer.error(), 0);
        }
        auto again = stage.join();
        ASSERT_TRUE(stage.peer_writes(again.peer, "in"));
        EXPECT_TRUE(stage.until([&] { return again.seen->bytes == "in"; }));
    }
    EXPECT_EQ(stage.seen.exhausted, 40);
    stage.close_all();
}

// -------------------------------------------------------------------------------------- connect
TYPED_TEST_P(IoContract, Connect_SucceedsAndIsAsIfAttached) {
    Stage<TypeParam> stage;
    auto door = stage.world.open_door();
    const SocketAddress source = stage.world.source_address();
    for (const bool choose : {false, true}) {
        Seen& seen = stage.seen.connect(door.address(), choose ? source : SocketAddress{});
        std::optional<typename TypeParam::Peer> peer;
        EXPECT_EQ(seen.connects, 0) << "C1";
        EXPECT_TRUE(stage.until([&] {
            if (!peer) peer = door.accept();
            return peer && seen.connects == 1;
        }));
        EXPECT_EQ(seen.connect_error, 0);
        stage.seen.send(seen, "from us");
        std::string got;
        EXPECT_TRUE(stage.peer_reads(*peer, got, 7));
        EXPECT_EQ(got, "from us");
        ASSERT_TRUE(stage.peer_writes(*peer, "from them"));
        EXPECT_TRUE(stage.until([&] { return seen.bytes == "from them"; }));
        peer->finish();
        EXPECT_TRUE(stage.until([&] { return seen.ends == 1; }));
        EXPECT_EQ(seen.end_error, 0);
    }
    stage.close_all();
}

TYPED_TEST_P(IoContract, Connect_RefusedIsToldOnceAndOnlyCloseFollows) {
    Stage<TypeParam> stage;
    Seen& seen = stage.seen.connect(stage.world.dead_address(), {});
    EXPECT_TRUE(stage.until([&] { return seen.connects == 1; }));
    EXPECT_EQ(seen.connect_error, ECONNREFUSED);
    stage.settle();
    EXPECT_EQ(seen.ends + seen.reads + seen.sents, 0);
    EXPECT_LE(stage.polls_within(100 * kMillisecond), kQuietPollsMax);
    stage.seen.connected_hook = [&](Seen& other) { stage.seen.close(other, CloseMode::reset); };
    Seen& second = stage.seen.connect(stage.world.dead_address(), {});
    EXPECT_TRUE(stage.until([&] { return second.closes == 1; })) << "close from on_connected";
    stage.seen.connected_hook = nullptr;
    stage.close_all();
}

TYPED_TEST_P(IoContract, Connect_MayBeClosedBeforeItsAnswer) {
    Stage<TypeParam> stage;
    auto door = stage.world.open_door();
    for (const bool alive : {true, false}) {
        Seen& seen = stage.seen.connect(alive ? door.address() : stage.world.dead_address(), {});
        stage.seen.close(seen, CloseMode::orderly);
        EXPECT_TRUE(stage.until([&] { return seen.closes == 1; }));
        EXPECT_EQ(seen.connects, 0);
    }
    stage.settle();
}

// ------------------------------------------------------------------------------------------- C9
TYPED_TEST_P(IoContract, C9_NothingOfAConnectionThatIsHeldOffIsDelivered) {
    Stage<TypeParam> stage;
    stage.listen();
    auto held = stage.join();
    auto free = stage.join();
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (&seen == held.seen && !stage.io.is_held_off(seen.index)) stage.io.hold_off(seen.index);
    };
    const std::string text = pattern(1, 300'000);
    ASSERT_EQ(held.peer.write(as_bytes("x")), 1u);
    ASSERT_TRUE(stage.until([&] { return held.seen->bytes == "x"; }));
    EXPECT_TRUE(stage.io.is_held_off(held.seen->index));
    std::string_view left = text;
    for (int turns = 0; turns < 50; ++turns) {
        left.remove_prefix(held.peer.write(as_bytes(left)));
        stage.turn();
    }
    const bool all_written = left.empty();
    if (all_written) held.peer.finish();
    // Others are delivered, sends go on, and C8 does not wait for it.
    const Nanos before = stage.io.now();
    ASSERT_EQ(free.peer.write(as_bytes("y")), 1u);
    ASSERT_TRUE(stage.until([&] { return free.seen->bytes == "y"; }));
    stage.seen.send(*held.seen, "answer");
    std::string answer;
    ASSERT_TRUE(stage.peer_reads(held.peer, answer, 6));
    EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > before; }));
    EXPECT_EQ(held.seen->bytes, "x");
    EXPECT_EQ(held.seen->ends, 0);
    // Everything is still there, in order, and the end behind it.
    stage.seen.bytes_hook = nullptr;
    stage.io.resume(held.seen->index);
    EXPECT_FALSE(stage.io.is_held_off(held.seen->index));
    if (!all_written) {
        ASSERT_TRUE(stage.peer_writes(held.peer, left));
        held.peer.finish();
    }
    EXPECT_TRUE(stage.until([&] { return held.seen->ends == 1; }));
    EXPECT_EQ(held.seen->bytes, "x" + text);
    EXPECT_EQ(held.seen->end_error, 0);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C9_AConnectionMayBeClosedWhileItIsHeldOff) {
    Stage<TypeParam> stage;
    stage.listen();
    for (const CloseMode mode : {CloseMode::orderly, CloseMode::reset}) {
        auto one = stage.join();
        stage.seen.bytes_hook = [&](Seen& seen) { stage.io.hold_off(seen.index); };
        ASSERT_EQ(one.peer.write(as_bytes("x")), 1u);
        ASSERT_TRUE(stage.until([&] { return one.seen->bytes == "x"; }));
        one.peer.write(as_bytes("more"));
        stage.settle(5 * kMillisecond);
        stage.seen.close(*one.seen, mode);
        EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
        stage.seen.bytes_hook = nullptr;
        // The place is used again, and is not held off.
        auto next = stage.join();
        EXPECT_FALSE(stage.io.is_held_off(next.seen->index));
        ASSERT_EQ(next.peer.write(as_bytes("z")), 1u);
        EXPECT_TRUE(stage.until([&] { return next.seen->bytes == "z"; }));
    }
    stage.close_all();
}

// --------------------------------------------------------------------------------- send progress
TYPED_TEST_P(IoContract, SendProgress_TellsWhatThePeerHasTaken) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const Index index = one.seen->index;
    EXPECT_EQ(stage.io.send_progress(index).waiting_bytes, 0u);
    const uint64_t before = stage.io.send_progress(index).acked_bytes;
    const std::string text = pattern(1, kMoreThanFitsBytes);
    stage.seen.send(*one.seen, text);
    stage.settle();
    const SendProgress stuck = stage.io.send_progress(index);
    EXPECT_GT(stuck.waiting_bytes, 0u) << "the peer does not read";
    EXPECT_LT(stuck.acked_bytes - before, text.size());
    std::string heard;
    ASSERT_TRUE(stage.peer_reads(one.peer, heard, text.size()));
    EXPECT_TRUE(stage.until([&] { return stage.io.send_progress(index).waiting_bytes == 0; }));
    EXPECT_EQ(stage.io.send_progress(index).acked_bytes - before, text.size());
    // The kernel counts in its own ticks, of up to 10 ms.
    const Nanos asked_at = stage.io.clock();
    const Nanos acked_at = asked_at - stage.io.send_progress(index).since_acked;
    EXPECT_LE(acked_at, asked_at);
    stage.settle(50 * kMillisecond);
    const Nanos again = stage.io.clock() - stage.io.send_progress(index).since_acked;
    EXPECT_NEAR(static_cast<double>(again), static_cast<double>(acked_at), 25e6)
        << "nothing was acknowledged since";
    stage.close_all();
}

// ------------------------------------------------------------------------------------- counters
TYPED_TEST_P(IoContract, Counters_CountPolls) {
    Stage<TypeParam> stage;
    const uint64_t before = stage.io.counters().polls;
    for (int i = 0; i < 5; ++i) stage.turn(0);
    EXPECT_EQ(stage.io.counters().polls, before + 5);
    stage.listen();
    auto one = stage.join();
    EXPECT_GT(stage.io.counters().completions, 0u);
    EXPECT_GT(stage.io.counters().batches, 0u);
    EXPECT_LE(stage.io.counters().batches, stage.io.counters().polls);
    stage.close_all();
}

REGISTER_TYPED_TEST_SUITE_P(
    IoContract, C1_NoOperationCallsTheHandlerBack, C2_BytesAreWritableWithRoomAroundThem,
    C2_BytesArriveWholeAndInOrder, C3_OnSentComesOnceAndAfterTheLastByteWasTaken,
    C3_ShortWritesAreHiddenBothWaysAtOnce, C3_TheNextSendMayStartInOnSent,
    C3_OnSentComesWithAnErrorWhenThePeerIsGone, C3_ASendThatMeetsTheResetLeavesOnEndItsError,
    C3_APeerThatFinishedIsStillSentTo, Finish_FollowsWhatWasSent, Finish_LeavesTheInputOpen,
    C4_CloseIsTheLastWordAndNotFromInsideClose, C4_CloseMayComeFromEveryEvent,
    C4_ClosingTheOthersOfTheSameBatch, C4_APlaceIsUsedAgainAfterOnClosed,
    C4_NothingOfTheLastOwnerReachesTheNext, C5_NothingButOnClosedAfterClose,
    C5_ASendInFlightPinsItsBytesUntilOnClosed, Close_InOrderDeliversWhatTheKernelHasTaken,
    Close_WithResetTellsThePeerAtOnce, Close_AfterFinishAndOnEndLosesNothing,
    C6_PollReturnsByItsDeadlineAndSleepsUntilThen, C6_NewsEndsTheSleep,
    C6_ADeadlineInThePastStillHarvests, C6_SilenceCostsNoPolls, C6_AWakeBeforePollIsNotLost,
    C6_AWakeFromInsideAnEventEndsTheNextPoll, C6_ManyWakesAreAnsweredAndThenThereIsQuiet,
    C6_NoWakeFromAnotherThreadIsLost, C7_NowMovesOnlyInsidePoll,
    C7_NowWasReadAfterWhatTheEventTellsOf, WokeAt_IsAfterTheWaitAndBeforeTheWork,
    C8_WhatArrivedBeforeItWasDelivered, C8_HoldsForMoreThanABatch, C8_MovesOnWhereEveryBatchIsFull,
    C8_AFloodingConnectionDoesNotHoldItBack, C8_SilenceLetsItPass,
    Listen_SaysWhichListenerAndWhoCame, Listen_AnErrorNamesTheAddressAndNothingIsListenedOn,
    Listen_AnEmptyListStopsAcceptingAndKeepsWhatIsThere, Listen_MayStopFromInsideOnAccept,
    Attach_DeliversWhatWasAlreadyThere, Attach_AThousandTalkAndLeave,
    Refuse_SaysFarewellAndClosesInOrder, Refuse_ManyAtOnceAndWithoutAFarewell,
    Exhausted_RefusesThroughTheSpareAndDoesNotSpin, Connect_SucceedsAndIsAsIfAttached,
    Connect_RefusedIsToldOnceAndOnlyCloseFollows, Connect_MayBeClosedBeforeItsAnswer,
    C9_NothingOfAConnectionThatIsHeldOffIsDelivered, C9_AConnectionMayBeClosedWhileItIsHeldOff,
    SendProgress_TellsWhatThePeerHasTaken, Counters_CountPolls);

}  // namespace pulse::test
