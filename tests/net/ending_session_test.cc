// How conversations end: who is answered with what, and what counts once the end was announced. The
// whole loop, over the simulated kernel.
#include <gtest/gtest.h>

#include "tests/net/conversation.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

constexpr size_t kAuto = 0, kBinary = 1, kLines = 2;

StagePlan plan() {
    StagePlan plan{
        .listen = {"auto://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
    plan.options.on_message = OnMessage::echo;
    return plan;
}

size_t upgraded(ReactorStage& stage, std::string_view subprotocol = {}) {
    const size_t peer = stage.connect(kAuto);
    EXPECT_TRUE(answer(stage, peer, upgrade_request(subprotocol)).starts_with("HTTP/1.1 101 "));
    return peer;
}

// ---------------------------------------------------------------------------- the peer's goodbyes
TEST(Goodbye, InAWebSocketMessageIsAnsweredWithACloseFrameWhateverItsFormat) {
    const struct {
        std::string_view subprotocol;
        std::string message;
    } rows[] = {
        {"", masked(0x81, R"({"type":"goodbye","code":1000})")},
        {"pulse.v1.json", masked(0x81, R"({"type":"goodbye"})")},
        {"pulse.v1.binary", masked(0x82, binary_frame(kBinaryGoodbye, 0, "\x03\xE8"))},
        {"pulse.v1.binary", masked(0x82, binary_frame(kBinaryGoodbye, 0, "\x0F\xA3 text"))},
        {"pulse.v1.binary", masked(0x82, binary_frame(kBinaryPing, 3, "x") +
                                             binary_frame(kBinaryGoodbye, 0, "\x03\xE8"))},
    };
    for (const auto& row : rows) {
        ReactorStage stage(plan());
        const size_t peer = upgraded(stage, row.subprotocol);
        const std::string heard = answer(stage, peer, row.message);
        EXPECT_TRUE(heard.ends_with(plain(0x88, "\x03\xE8"))) << testing::PrintToString(heard);
        EXPECT_TRUE(stage.ended(peer)) << "our FIN follows";
        stage.finish(peer);
        stage.settle();
        EXPECT_EQ(closed_for(stage, CloseReason::peer_closed), 1u);
        EXPECT_FALSE(stage.was_reset(peer));
    }
}

TEST(Goodbye, OfAPlainConnectionIsAnsweredWithFinAlone) {
    const std::pair<size_t, std::string> rows[] = {
        {kBinary, binary_frame(kBinaryGoodbye, 0, "\x03\xE8")},
        {kLines, "{\"type\":\"goodbye\"}\n"}};
    for (const auto& [listener, words] : rows) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(listener);
        EXPECT_EQ(answer(stage, peer, words), "");
        EXPECT_TRUE(stage.ended(peer));
    }
}

}  // namespace
}  // namespace pulse::test
