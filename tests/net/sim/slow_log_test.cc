// A log sink that blocks in the middle of a handler: the time that passes there belongs to no peer.
#include <gtest/gtest.h>

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

using namespace std::string_view_literals;

constexpr auto kBinaryPing = "\xB7\1\0\0\0\0\0\1"sv;
constexpr auto kProxyLine = "PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n"sv;

StagePlan slow_log(Nanos takes) {
    StagePlan plan{.listen = {"tcp://10.0.0.1:9000?proxy=on"}};
    plan.options.heartbeat_interval = kSecond;
    plan.options.heartbeat_timeout = 3 * kSecond;
    plan.options.heartbeat_probe = false;
    plan.keeps_debug_lines = true;
    plan.log_takes = takes;
    return plan;
}

// The line that names the peer is written between its header and its first heartbeat: a phase
// begins by the clock, and the heartbeat behind it in the same read is not older than the phase.
TEST(SlowLog, AHeartbeatIsNotOlderThanThePhaseThatItIsIn) {
    for (const Nanos takes : {10 * kMillisecond, 700 * kMillisecond, 2 * kSecond}) {
        ReactorStage stage(slow_log(takes));
        const size_t peer = stage.connect(0);
        stage.write(peer, std::string(kProxyLine) + std::string(kBinaryPing));
        stage.settle(takes + kSecond);
        ASSERT_NE(stage.record(peer), nullptr);
        EXPECT_EQ(stage.record(peer)->stage, Stage::open);
        stage.reactor().connections().validate();
    }
}

}  // namespace
}  // namespace pulse::test
