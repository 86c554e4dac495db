// The backend contract: on_closed (C4), what is not delivered after close() (C5), and how a peer
// sees a close.
#pragma once

#include <cerrno>
#include <string>
#include <vector>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

// ------------------------------------------------------------------------------------------- C4
TYPED_TEST_P(IoContract, C4_OnClosedIsTheLastEventAndNotFromInsideClose) {
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

// What comes first in a batch closes all the others, whose events are in the same batch.
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

// Closed with an event of its own still pending, its place taken at once by a connect.
TYPED_TEST_P(IoContract, C4_NothingOfTheLastOwnerReachesTheNext) {
    Stage<TypeParam> stage(1);
    stage.listen();
    auto listener = stage.world.open_listener();
    for (int round = 0; round < 3; ++round) {
        auto one = stage.join();
        Seen* next = nullptr;
        stage.seen.sent_hook = [&](Seen& seen) {
            if (&seen != one.seen || seen.sents > 1) return;
            stage.seen.send(seen, "more");
            stage.seen.close(seen, CloseMode::reset);
        };
        stage.seen.closed_hook = [&](Seen& seen) {
            if (&seen == one.seen) next = &stage.seen.connect(listener.address(), {});
        };
        // From inside an event, so that the event is reported late in the poll.
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
        EXPECT_EQ(one.seen->sents, one.seen->sents_at_once);
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

}  // namespace pulse::test
