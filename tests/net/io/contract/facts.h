// The backend contract: what the kernel knows of a connection (TransportFacts).
#pragma once

#include <string>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

TYPED_TEST_P(IoContract, Facts_AreThePeersAddressAndTheBytesOfBothWays) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const Index index = one.seen->index;
    const TransportFacts begin = stage.io.transport_facts(index);
    ASSERT_TRUE(begin.known);
    EXPECT_EQ(begin.received_bytes, 0u);
    EXPECT_EQ(begin.acked_bytes + begin.unacked_bytes + begin.unsent_bytes, 0u);
    EXPECT_EQ(socket_address(begin.peer).text(), one.peer.local().text());
    ASSERT_TRUE(stage.peer_writes(one.peer, pattern(1, 3'000)));
    ASSERT_TRUE(stage.until([&] { return one.seen->bytes.size() == 3'000; }));
    stage.seen.send(*one.seen, pattern(2, 500));
    std::string heard;
    ASSERT_TRUE(stage.peer_reads(one.peer, heard, 500));
    ASSERT_TRUE(stage.until([&] { return stage.io.transport_facts(index).acked_bytes == 500; }));
    const TransportFacts now = stage.io.transport_facts(index);
    EXPECT_EQ(now.received_bytes, 3'000u);
    EXPECT_EQ(now.unacked_bytes + now.unsent_bytes, 0u);
    EXPECT_FALSE(now.awaits_peer());
    EXPECT_GT(now.round_trip, 0);
    EXPECT_LT(now.since_received, kSecond * 10);
    // The kernel counts in its own ticks, of up to 10 ms.
    stage.settle(60 * kMillisecond);
    const TransportFacts later = stage.io.transport_facts(index);
    EXPECT_GE(later.since_received, now.since_received + 40 * kMillisecond);
    EXPECT_GE(later.since_sent, now.since_sent + 40 * kMillisecond);
    EXPECT_GE(later.since_acked, now.since_acked + 40 * kMillisecond);
    stage.close_all();
}

TYPED_TEST_P(IoContract, Facts_TellWhatThePeersHostHasNotAcknowledged) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const Index index = one.seen->index;
    const std::string text = pattern(1, kMoreThanFitsBytes);
    stage.seen.send(*one.seen, text);
    stage.settle();
    const TransportFacts stuck = stage.io.transport_facts(index);
    EXPECT_GT(stuck.unacked_bytes + stuck.unsent_bytes, 0u) << "the peer does not read";
    EXPECT_LT(stuck.acked_bytes, text.size());
    std::string heard;
    ASSERT_TRUE(stage.peer_reads(one.peer, heard, text.size()));
    EXPECT_TRUE(
        stage.until([&] { return stage.io.transport_facts(index).acked_bytes == text.size(); }));
    EXPECT_FALSE(stage.io.transport_facts(index).awaits_peer());
    stage.close_all();
}

// Of a connection that one end has ended, or that was reset.
TYPED_TEST_P(IoContract, Facts_AreThereAfterAResetAndDoNotCountFins) {
    enum class End { ours, peers, reset };
    for (const End end : {End::ours, End::peers, End::reset}) {
        Stage<TypeParam> stage;
        stage.listen();
        auto one = stage.join();
        const Index index = one.seen->index;
        ASSERT_TRUE(stage.peer_writes(one.peer, "hello"));
        ASSERT_TRUE(stage.until([&] { return one.seen->bytes.size() == 5; }));
        stage.seen.send(*one.seen, "answer");
        std::string heard;
        ASSERT_TRUE(stage.peer_reads(one.peer, heard, 6));
        ASSERT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
        if (end == End::ours) {
            stage.io.finish(index);
            ASSERT_TRUE(stage.peer_reads_to_end(one.peer, heard));
            stage.settle();
        } else {
            end == End::peers ? one.peer.finish() : one.peer.reset();
            ASSERT_TRUE(stage.until([&] { return one.seen->ends == 1; }));
        }
        const TransportFacts facts = stage.io.transport_facts(index);
        const auto which = static_cast<int>(end);
        EXPECT_TRUE(facts.known) << which;
        EXPECT_EQ(facts.received_bytes, 5u) << which;
        EXPECT_EQ(facts.acked_bytes, 6u) << which;
        EXPECT_EQ(facts.unacked_bytes, 0u) << which;
        EXPECT_EQ(facts.peer, plain_address(one.seen->peer)) << which;
        stage.close_all();
    }
}

}  // namespace pulse::test
