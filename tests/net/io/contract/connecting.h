// The backend contract: connections that this side opens.
#pragma once

#include <cerrno>
#include <optional>
#include <string>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

// -------------------------------------------------------------------------------------- connect
TYPED_TEST_P(IoContract, Connect_SucceedsAndIsAsIfAttached) {
    Stage<TypeParam> stage;
    auto listener = stage.world.open_listener();
    const SocketAddress source = stage.world.source_address();
    for (const bool choose : {false, true}) {
        Seen& seen = stage.seen.connect(listener.address(), choose ? source : SocketAddress{});
        std::optional<typename TypeParam::Peer> peer;
        EXPECT_EQ(seen.connects, 0) << "C1";
        EXPECT_TRUE(stage.until([&] {
            if (!peer) peer = listener.accept();
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

TYPED_TEST_P(IoContract, Connect_ARefusalIsReportedOnceAndOnlyCloseFollows) {
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
    auto listener = stage.world.open_listener();
    for (const bool alive : {true, false}) {
        Seen& seen =
            stage.seen.connect(alive ? listener.address() : stage.world.dead_address(), {});
        stage.seen.close(seen, CloseMode::orderly);
        EXPECT_TRUE(stage.until([&] { return seen.closes == 1; }));
        EXPECT_EQ(seen.connects, 0);
    }
    stage.settle();
}

}  // namespace pulse::test
