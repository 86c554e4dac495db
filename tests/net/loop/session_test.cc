// Conversations through the whole loop over the simulated kernel: hellos, what an idle connection
// owns, and what a heartbeat costs.
#include <gtest/gtest.h>

#include "tests/net/io/epoll_world.h"
#include "tests/net/io/uring_world.h"
#include "tests/net/loop/conversation.h"
#include "tests/net/loop/kernel_stage.h"
#include "tests/support/allocation_count.h"
#include "tests/support/websocket_frames.h"

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

// ---------------------------------------------------------------------------------------- hellos
TEST(Hello, ABinaryHelloIsAnObjectOfThatTypeOrOfNone) {
    for (const char* good : {"{}", R"({"user":"u1","labels":{"ring":"canary"}})",
                             R"({"type":"hello","profile":"mobile"})", " { \"x\" : [1] } "}) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(kBinary);
        const std::string heard = answer(stage, peer, binary_frame(kBinaryHello, 5, good));
        ASSERT_GE(heard.size(), kBinaryHeaderBytes) << good;
        EXPECT_EQ(heard[1], kBinaryWelcome) << good;
        EXPECT_EQ(heard.substr(4, 4), "\0\0\0\x05"s);
        EXPECT_EQ(stage.metrics()[Metric::hellos], 1u);
        EXPECT_EQ(stage.metrics()[Metric::offences], 0u);
    }
}

TEST(Hello, WhatElseABinaryHelloHoldsIsAnOffenceAndNoWelcome) {
    const struct {
        const char* payload;
        const char* complaint;
    } rows[] = {
        {"PING", "is not a JSON object"},
        {"ping", "is not a JSON object"},
        {R"("hello")", "is not a JSON object"},
        {R"({"type":"ping"})", "'type' is not hello"},
        {R"({"type":"heartbeat","seq":1})", "'type' is not hello"},
        {R"({"type":"welcome"})", "'type' is not hello"},
        {R"({"type":"chat","profile":"mobile"})", "'type' is not hello"},
        {R"({"type":7})", "'type' is not a string"},
        {R"({"labels":{"a":1}})", "'labels' has a value that is not a string"},
        {R"({"type":"hello","profile":"fast"})", "'profile' is not a profile of this server"},
    };
    for (const auto& row : rows) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(kBinary);
        const std::string heard = answer(stage, peer, binary_frame(kBinaryHello, 5, row.payload));
        ASSERT_GT(heard.size(), kBinaryHeaderBytes) << row.payload;
        EXPECT_EQ(heard[1], kBinaryError) << row.payload;
        EXPECT_NE(heard.find(row.complaint), std::string::npos) << heard;
        EXPECT_EQ(stage.metrics()[Metric::hellos], 0u) << row.payload;
        EXPECT_EQ(stage.metrics()[Metric::heartbeats_answered], 0u) << row.payload;
        EXPECT_EQ(answer(stage, peer, binary_frame(kBinaryPing, 9, "")),
                  binary_frame(kBinaryPong, 9, ""))
            << "it is forgiven";
    }
}

TEST(Hello, LongTokensAndLabelsAreWelcomeAndKeptNowhere) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    const std::string token(kJsonStringBytesMax, 't');
    std::string hello =
        R"({"type":"hello","user":"u","labels":{"ring":"canary","v":"7"},"token":")";
    hello += token + "\"}\n";
    EXPECT_TRUE(answer(stage, peer, hello).starts_with(R"({"type":"welcome","conn":"r0-000000-)"));
    EXPECT_EQ(stage.record(peer)->inbox, 0u);
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
    hello.insert(hello.size() - 3, "t");
    EXPECT_NE(answer(stage, peer, hello).find("'token' is too long"), std::string::npos);
}

// ------------------------------------------------------------------------- what the idle own
const std::string kUpgrade =
    "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

size_t upgraded(ReactorStage& stage) {
    const size_t peer = stage.connect(kAuto);
    EXPECT_TRUE(answer(stage, peer, kUpgrade).starts_with("HTTP/1.1 101 "));
    return peer;
}

// Everything that a record can borrow, and everything that could be borrowed by others for it.
void expect_owns_its_record_alone(ReactorStage& stage, size_t peer) {
    const Connection* record = stage.record(peer);
    ASSERT_NE(record, nullptr);
    EXPECT_EQ(record->inbox, 0u) << "holds bytes";
    EXPECT_EQ(record->outbox, 0u) << "has an outbox";
    EXPECT_FALSE(is_logged_in(*record)) << "stands in a table of users";
    EXPECT_EQ(stage.reactor().connections().buffers().addresses(), 0u) << "its address is kept";
    EXPECT_EQ(record->flags & kDirty, 0) << "stands in the list of those to be sent to";
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u) << "a buffer is out";
    EXPECT_EQ(stage.reactor().connections().outboxes_taken(), 0u) << "an outbox is out";
    stage.reactor().connections().validate();  // one deadline each
}

TEST(Idle, AWebSocketConnectionOwnsItsRecordAndNothingElse) {
    static_assert(sizeof(Connection) == 64);
    for (const bool deflate : {false, true}) {
        StagePlan with = plan();
        with.options.ws_deflate = deflate;
        ReactorStage stage(with);
        const size_t peer = upgraded(stage);
        expect_owns_its_record_alone(stage, peer);
        EXPECT_EQ(answer(stage, peer, masked(0x89, "beat")), plain(0x8A, "beat"));
        expect_owns_its_record_alone(stage, peer);
        // A message in three fragments with a ping between them, in pieces.
        EXPECT_EQ(answer(stage, peer, masked(0x01, "one ")), "");
        EXPECT_NE(stage.record(peer)->inbox, 0u) << "while it is not whole it is held";
        EXPECT_EQ(answer(stage, peer, masked(0x89, "")), plain(0x8A, ""));
        EXPECT_EQ(answer(stage, peer, masked(0x00, "two ").substr(0, 5)), "");
        EXPECT_EQ(answer(stage, peer, masked(0x00, "two ").substr(5)), "");
        EXPECT_EQ(answer(stage, peer, masked(0x80, "three")), plain(0x81, "one two three"));
        expect_owns_its_record_alone(stage, peer);
        EXPECT_EQ(answer(stage, peer, masked(0x81, R"({"type":"ping","seq":7})")),
                  plain(0x81, R"({"type":"pong","seq":7})"));
        expect_owns_its_record_alone(stage, peer);
        EXPECT_NE(answer(stage, peer, masked(0x81, R"({"type":"hello","device":"d"})")), "");
        expect_owns_its_record_alone(stage, peer);
        // Long enough to be compressed, where that was agreed on.
        EXPECT_NE(answer(stage, peer, masked(0x82, std::string(100, 'x'))), "");
        EXPECT_NE(answer(stage, peer, text_of(frame(0x82, std::string(20'000, 'x')))), "");
        expect_owns_its_record_alone(stage, peer);
        // A header cut in half waits in the record.
        EXPECT_EQ(answer(stage, peer, masked(0x89, "beat").substr(0, 3)), "");
        expect_owns_its_record_alone(stage, peer);
    }
}

TEST(Idle, AConnectionOfEveryOtherProtocolOwnsItsRecordAndNothingElse) {
    ReactorStage stage(plan());
    const size_t binary = stage.connect(kAuto);
    const size_t lines = stage.connect(kAuto);
    EXPECT_EQ(answer(stage, binary, binary_frame(kBinaryPing, 1, "x")),
              binary_frame(kBinaryPong, 1, "x"));
    EXPECT_EQ(answer(stage, lines, "{\"type\":\"pi"), "");
    EXPECT_EQ(answer(stage, lines, "ng\"}\r\n"), "{\"type\":\"pong\"}\n");
    expect_owns_its_record_alone(stage, binary);
    expect_owns_its_record_alone(stage, lines);
}

// ----------------------------------------------------------------------------- what a beat costs
// One peer of a reactor over a real kernel.
template <class World>
class BeatStage {
  public:
    BeatStage() : peer_(stage_.connect()) { heard_.reserve(1'024); }
    // Until what is heard ends like this; asks for no memory itself. All that was heard.
    const std::string& beat(std::string_view words, std::string_view end) {
        heard_.clear();
        EXPECT_EQ(peer_.write(as_bytes(words)), words.size());
        for (int left = 20'000; left > 0 && !heard_.ends_with(end); --left) {
            stage_.turn();
            peer_.read(heard_);
        }
        return heard_;
    }
    uint64_t answered() const { return stage_.metrics()[Metric::heartbeats_answered]; }

  private:
    KernelStage<World> stage_{16};
    RealPeer peer_;
    std::string heard_;
};

template <class World>
class HeartbeatCost : public ::testing::Test {
  protected:
    void expect_nothing_allocated(const std::string& upgrade, const std::string& beat,
                                  const std::string& expected) {
        if (!kAllocationsCounted) GTEST_SKIP() << "a sanitizer brings an allocator of its own";
        BeatStage<World> stage;
        if (!upgrade.empty()) {
            EXPECT_TRUE(stage.beat(upgrade, "\r\n\r\n").starts_with("HTTP/1.1 101"));
        }
        constexpr int kWarm = 100;
        constexpr int kBeats = 1'000;
        uint64_t before = 0;
        for (int number = 0; number < kWarm + kBeats; ++number) {
            if (number == kWarm) before = allocations();
            ASSERT_EQ(stage.beat(beat, expected), expected);
        }
        EXPECT_EQ(allocations() - before, 0u);
        EXPECT_EQ(stage.answered(), uint64_t{kWarm + kBeats});
    }
};
using Kernels = ::testing::Types<EpollWorld, UringWorld<Full>>;
TYPED_TEST_SUITE(HeartbeatCost, Kernels);

TYPED_TEST(HeartbeatCost, AWebSocketPing) {
    this->expect_nothing_allocated(kUpgrade, masked(0x89, "beat"), plain(0x8A, "beat"));
}
TYPED_TEST(HeartbeatCost, AJsonPingInAWebSocketMessage) {
    this->expect_nothing_allocated(kUpgrade, masked(0x81, R"({"type":"ping","seq":7,"ts":1.5})"),
                                   plain(0x81, R"({"type":"pong","seq":7,"ts":1.5})"));
}
TYPED_TEST(HeartbeatCost, ABarePingInAWebSocketMessage) {
    this->expect_nothing_allocated(kUpgrade, masked(0x81, "PING"), plain(0x81, "PONG"));
}
TYPED_TEST(HeartbeatCost, AJsonLine) {
    this->expect_nothing_allocated("", "{\"type\":\"ping\",\"seq\":7}\n",
                                   "{\"type\":\"pong\",\"seq\":7}\n");
}
TYPED_TEST(HeartbeatCost, ABinaryPing) {
    this->expect_nothing_allocated("", binary_frame(kBinaryPing, 7, "payload8"),
                                   binary_frame(kBinaryPong, 7, "payload8"));
}
TYPED_TEST(HeartbeatCost, ABinaryPingInAWebSocketMessage) {
    std::string upgrade = kUpgrade;
    upgrade.insert(upgrade.find("\r\n\r\n"), "\r\nSec-WebSocket-Protocol: pulse.v1.binary");
    this->expect_nothing_allocated(upgrade, masked(0x82, binary_frame(kBinaryPing, 7, "x")),
                                   plain(0x82, binary_frame(kBinaryPong, 7, "x")));
}

}  // namespace
}  // namespace pulse::test
