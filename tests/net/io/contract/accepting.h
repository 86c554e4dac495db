// The backend contract: listeners, attaching, refusing, and a full descriptor table.
#pragma once

#include <cerrno>
#include <string>
#include <vector>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

// --------------------------------------------------------------------------------------- listen
TYPED_TEST_P(IoContract, Listen_ReportsTheListenerAndThePeersAddress) {
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
        EXPECT_EQ(stage.io.peer_address(one.seen->index).text(), one.peer.local().text());
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

TYPED_TEST_P(IoContract, Listen_AListenerIsClosedAndTheOthersGoOn) {
    Stage<TypeParam> stage;
    const ListenAddress three[] = {stage.world.free_address(), stage.world.free_address(),
                                   stage.world.free_address()};
    ASSERT_TRUE(stage.io.listen(three));
    stage.address = three[1];
    auto one = stage.join();
    stage.address = three[2];
    auto waits = stage.connect();
    stage.world.stall(5 * kMillisecond);
    stage.io.close_listener(1);
    stage.io.close_listener(1);
    EXPECT_TRUE(stage.until([&] { return stage.seen.accepts == 2; })) << "it had not been accepted";
    stage.address = three[1];
    auto too_late = stage.connect();
    stage.settle();
    std::string nothing;
    EXPECT_TRUE(stage.peer_reads_to_end(too_late, nothing));
    EXPECT_EQ(too_late.error(), ECONNREFUSED);
    stage.seen.send(*one.seen, "still here");
    std::string got;
    EXPECT_TRUE(stage.peer_reads(one.peer, got, 10));
    for (const uint8_t listener : {uint8_t{0}, uint8_t{2}}) {
        stage.address = three[listener];
        auto more = stage.join();
        EXPECT_EQ(more.seen->listener, listener);
    }
    ASSERT_TRUE(stage.io.listen({}));
    stage.io.close_listener(0);
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
TYPED_TEST_P(IoContract, Refuse_SendsTheMessageAndClosesInOrder) {
    Stage<TypeParam> stage;
    stage.listen();
    stage.seen.refusal_message = "come back in 30 s";
    stage.seen.accept_hook = [&](const Accepted& accepted) {
        stage.seen.refuse(accepted);
        return true;
    };
    for (const bool spoke_first : {false, true}) {
        auto peer = stage.connect();
        // Unread input would turn the close into a reset, and the message would be lost.
        if (spoke_first) {
            ASSERT_TRUE(peer.write(as_bytes("GET / HTTP/1.1\r\n\r\n")) > 0);
            stage.world.stall(5 * kMillisecond);
        }
        std::string got;
        EXPECT_TRUE(stage.peer_reads_to_end(peer, got));
        EXPECT_EQ(got, stage.seen.refusal_message);
        EXPECT_EQ(peer.error(), 0);
    }
    EXPECT_EQ(stage.seen.refusals, 2);
    EXPECT_EQ(stage.seen.live, 0);
}

TYPED_TEST_P(IoContract, Refuse_ManyAtOnceAndWithoutAMessage) {
    Stage<TypeParam> stage(1);
    stage.listen();
    auto one = stage.join();
    stage.seen.refusal_message = "";
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

}  // namespace pulse::test
