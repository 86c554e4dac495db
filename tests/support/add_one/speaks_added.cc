// What tests/add_one_test.py wants of the protocol that it adds: the server speaks it.
#include <gtest/gtest.h>

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

TEST(AddedProtocol, IsSpokenByItsListenerAndByOneOfAll) {
    for (const char* uri : {"added://10.0.0.1:9000", "auto://10.0.0.1:9000"}) {
        StagePlan plan{.listen = {uri}};
        plan.options.heartbeat_interval = 10 * kSecond;
        plan.options.heartbeat_timeout = 30 * kSecond;
        ReactorStage stage(plan);
        const size_t peer = stage.connect(0);
        EXPECT_EQ(answer(stage, peer, "#\n#\n"), "#pong\n#pong\n") << uri;
        EXPECT_EQ(stage.metrics()[Metric::heartbeats_answered], 2u);
        stage.settle(12 * kSecond);
        EXPECT_EQ(take(stage, peer), "#ping\n") << uri;
        stage.settle(30 * kSecond);
        EXPECT_TRUE(stage.heard(peer).ends_with("#bye\n")) << stage.heard(peer);
        EXPECT_EQ(stage.metrics()[Metric::evicted], 1u);
    }
}

TEST(AddedProtocol, IsRefusedInItsWordsAndRefusesInItsName) {
    ReactorStage stage({.listen = {"jsonl://10.0.0.1:9000", "added://10.0.0.1:9001"}});
    EXPECT_EQ(answer(stage, stage.connect(0), "#\n"), "#another time\n");
    const std::string refused = answer(stage, stage.connect(1), "PING\n");
    EXPECT_NE(refused.find("speaks added lines only"), std::string::npos) << refused;
}

}  // namespace
}  // namespace pulse::test
