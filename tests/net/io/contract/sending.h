// The backend contract: sends (C3), the end of sending, and what the kernel reports of it.
#pragma once

#include <string>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

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

// The reset has come, there was no poll since, and the send reports it.
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

// --------------------------------------------------------------------------------- send progress
TYPED_TEST_P(IoContract, SendProgress_ReportsWhatThePeerHasAcknowledged) {
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
    // now() may be from before the last call; after one poll it is not.
    const auto wait = [&] {
        stage.settle();
        stage.settle(100 * kMillisecond);
    };
    wait();
    EXPECT_LT(stage.io.send_progress(index).idle - stuck.idle, 50 * kMillisecond);
    std::string heard;
    ASSERT_TRUE(stage.peer_reads(one.peer, heard, text.size()));
    EXPECT_TRUE(stage.until([&] { return stage.io.send_progress(index).waiting_bytes == 0; }));
    EXPECT_EQ(stage.io.send_progress(index).acked_bytes - before, text.size());
    const Nanos idle = stage.io.send_progress(index).idle;
    wait();
    EXPECT_GE(stage.io.send_progress(index).idle - idle, 50 * kMillisecond);
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

}  // namespace pulse::test
