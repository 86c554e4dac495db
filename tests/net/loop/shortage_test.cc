// Too little memory for what peers have unfinished or do not read: the largest holder gives way,
// heartbeats, newcomers and goodbyes do not notice. And overload: what is given up in which step.
#include <gtest/gtest.h>

#include "tests/net/loop/conversation.h"
#include "tests/net/loop/reactor_stage.h"
#include "tests/support/scale.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

constexpr size_t kMebibyte = size_t{1} << 20;
constexpr auto kOutOfMemory = static_cast<size_t>(CloseReason::out_of_memory);
constexpr auto kSlowReader = static_cast<size_t>(CloseReason::slow_reader);

constexpr std::string_view kUpgrade =
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n";

StagePlan plan(uint32_t places) {
    StagePlan plan{.listen = {"ws://10.0.0.1:9000"}, .places = places};
    plan.options.on_message = OnMessage::echo;
    plan.options.heartbeat_interval = 60 * kSecond;
    plan.options.heartbeat_timeout = 600 * kSecond;
    plan.faults.socket_buffer_bytes = 4 * kMebibyte;
    return plan;
}

size_t upgraded(ReactorStage& stage, std::string_view source = "127.0.0.1:0",
                const std::string& header = {}) {
    const size_t peer = stage.connect(0, source);
    stage.write(peer, header);
    stage.write(peer, kUpgrade);
    stage.settle();
    EXPECT_TRUE(stage.heard(peer).starts_with("HTTP/1.1 101 ")) << stage.heard(peer);
    stage.heard(peer).clear();
    return peer;
}

// All but the last byte of a message.
Bytes unfinished(size_t bytes) {
    Bytes message = frame(0x82, Bytes(bytes, 'u'));
    message.pop_back();
    return message;
}

void expect_beats(ReactorStage& stage, size_t peer) {
    stage.write(peer, frame(0x89, "beat"));
    stage.settle();
    EXPECT_EQ(std::exchange(stage.heard(peer), {}),
              "\x8A\x04"
              "beat");
}

TEST(Shortage, UnfinishedMessagesOfAFewHundredPeersHarmNothingButThemselves) {
    ReactorStage stage(plan(400));
    const size_t canary = upgraded(stage);
    const Bytes message = unfinished(kMebibyte - 64);
    std::vector<size_t> hoarders;
    for (int i = 0; i < 267; ++i) {
        hoarders.push_back(upgraded(stage));
        stage.write(hoarders.back(), message);
        stage.settle();
    }
    stage.settle(kSecond);
    EXPECT_LE(stage.reactor().connections().buffers().held_bytes(), kBufferedBytesDefault);
    expect_beats(stage, canary);
    const size_t newcomer = upgraded(stage);
    expect_beats(stage, newcomer);
    // An honest message of the same size still comes through: an older one gives way.
    stage.write(newcomer, frame(0x82, Bytes(kMebibyte - 64, 'h')));
    stage.settle(kSecond);
    EXPECT_GT(stage.heard(newcomer).size(), kMebibyte - 64);
    EXPECT_GT(stage.metrics().closed[kOutOfMemory], 0u);
    EXPECT_LT(stage.metrics().closed[kOutOfMemory], 40u) << "no more than must";
    EXPECT_EQ(stage.metrics().closed[kSlowReader], 0u);
    // Who gave way was told why.
    stage.settle(3 * kSecond);
    size_t told = 0;
    for (const size_t hoarder : hoarders)
        told += stage.heard(hoarder).find("out_of_memory") != std::string::npos;
    EXPECT_EQ(told, stage.metrics().closed[kOutOfMemory]);
}

TEST(Shortage, ManyPeersThatNeverReadHarmNothingButThemselves) {
    StagePlan with = plan(200);
    with.options.max_message_bytes = 4 * kMebibyte;
    with.options.send_queue_bytes = 8 * kMebibyte;
    with.faults.socket_buffer_bytes = 64 * 1024;
    ReactorStage stage(with);
    const size_t canary = upgraded(stage);
    const Bytes message = frame(0x82, Bytes(3 * kMebibyte, 'e'));
    std::vector<size_t> deaf;
    for (int i = 0; i < 100; ++i) {
        deaf.push_back(upgraded(stage));
        stage.set_reading(deaf.back(), false);
        stage.write(deaf.back(), message);
        stage.settle(200 * kMillisecond);
    }
    stage.settle(kSecond);
    EXPECT_LE(stage.reactor().connections().buffers().held_bytes(), kBufferedBytesDefault);
    EXPECT_GT(stage.metrics().closed[kOutOfMemory], 0u);
    expect_beats(stage, canary);
    expect_beats(stage, upgraded(stage));
}

TEST(Shortage, HeadsThatAreNotFinishedLeaveRoomForThoseThatAre) {
    StagePlan with = plan(17'000);
    with.options.handshake_timeout = 600 * kSecond;
    ReactorStage stage(with);
    const size_t canary = upgraded(stage);
    const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nCookie: " + std::string(16'000, 'c');
    const uint64_t heads = scaled(16'384);
    for (uint64_t i = 0; i < heads; ++i) {
        stage.write(stage.connect(0), head);
        if (i % 64 == 0) stage.settle();
    }
    stage.settle(kSecond);
    EXPECT_LE(stage.reactor().connections().buffers().held_bytes(), heads * kBufferSmallBytes);
    EXPECT_EQ(stage.metrics()[Metric::closed], 0u);
    expect_beats(stage, canary);
    expect_beats(stage, upgraded(stage));
}

// Many connections of one address, whatever each of them holds, do not push out the largest upload
// of another; behind a balancer the address is the one that its header names.
TEST(Shortage, TheAddressThatHoldsMostGivesWay) {
    struct Hoard {
        uint32_t peers;
        size_t bytes;
        bool proxied;
    };
    for (const auto& [peers, bytes, proxied] :
         {Hoard{300, kMebibyte - 64, false}, Hoard{2'500, 120'000, false},
          Hoard{300, kMebibyte - 64, true}}) {
        StagePlan with = plan(peers + 10);
        with.options.max_message_bytes = with.options.send_queue_bytes = 8 * kMebibyte;
        with.options.on_message = OnMessage::discard;
        if (proxied) with.listen[0] += "?proxy=on";
        ReactorStage stage(with);
        const auto peer_of = [&](const std::string& address) {
            if (!proxied) return upgraded(stage, address + ":0");
            return upgraded(stage, "127.0.0.1:0", "PROXY TCP4 " + address + " 10.0.0.1 9 9000\r\n");
        };
        const size_t honest = peer_of("127.0.0.3");
        const Bytes upload = frame(0x82, Bytes(4 * kMebibyte, 'h'));
        const Bytes message = unfinished(bytes);
        const std::span<const uint8_t> all(upload);
        size_t sent = 0;
        const auto go_on = [&](size_t until) {
            stage.write(honest, all.subspan(sent, until - sent));
            sent = until;
            stage.settle();
        };
        for (uint32_t i = 0; i < peers; ++i) {
            stage.write(peer_of("127.0.0.2"), message);
            if (i % 8 == 0) go_on(upload.size() / 2 * i / peers);
        }
        go_on(upload.size() / 2);
        EXPECT_GT(stage.reactor().connections().buffers().held_bytes(),
                  kBufferedBytesDefault * 3 / 4);
        const uint64_t discarded = stage.metrics()[Metric::messages_discarded];
        while (sent < upload.size()) go_on(std::min(upload.size(), sent + 65'536));
        stage.settle(kSecond);
        EXPECT_EQ(stage.metrics()[Metric::messages_discarded], discarded + 1) << peers;
        EXPECT_GT(stage.metrics().closed[kOutOfMemory], 0u);
        EXPECT_EQ(stage.heard(honest), "");
        expect_beats(stage, honest);
    }
}

// One address cannot have the reserve for itself: where small buffers fill it, those of the address
// that holds most give way. Not the upload of another, which is the only large one; not a peer that
// asks for its first block; and a newcomer enters.
TEST(Shortage, TheReserveIsSharedByAddress) {
    constexpr uint32_t kHoarders = 1'500;
    StagePlan with = plan(kHoarders + 10);
    with.options.buffer_bytes = 4 * kMebibyte;
    with.buffer_reserve_bytes = kMebibyte / 2;
    ReactorStage stage(with);
    const size_t canary = upgraded(stage, "127.0.0.4:0");
    const size_t honest = upgraded(stage, "127.0.0.3:0");
    const Bytes upload = frame(0x82, Bytes(100'000, 'h'));
    stage.write(honest, std::span(upload).first(50'000));
    const Bytes message = unfinished(kBufferSmallBytes - 100);
    for (uint32_t i = 0; i < kHoarders; ++i) {
        const size_t hoarder = stage.connect(0, "127.0.0.2:0");
        stage.write(hoarder, kUpgrade);
        stage.write(hoarder, message);
        if (i % 64 == 0) stage.settle();
    }
    stage.settle(kSecond);
    const BufferPool& buffers = stage.reactor().connections().buffers();
    EXPECT_GT(buffers.held_bytes(), 4 * kMebibyte) << "the hoarders are too few";
    EXPECT_LE(buffers.held_bytes(), 4 * kMebibyte + kMebibyte / 2);
    expect_beats(stage, canary);
    expect_beats(stage, upgraded(stage, "127.0.0.5:0"));
    stage.write(honest, std::span(upload).subspan(50'000));
    stage.settle(kSecond);
    EXPECT_GE(stage.heard(honest).size(), 100'000u) << "it gave way to the small ones of another";
    EXPECT_EQ(stage.metrics().closed[kSlowReader], 0u);
}

// Where all is held in small pieces a large buffer would close hundreds. It makes so many give way
// in a turn and no more, which is enough for one of the longest messages; heartbeats are answered.
TEST(Shortage, ATurnMakesABoundedNumberGiveWay) {
    constexpr uint32_t kHoarders = 4'300;
    StagePlan with = plan(kHoarders + 10);
    with.options.on_message = OnMessage::discard;
    with.options.buffer_bytes = 16 * kMebibyte;
    with.options.max_message_bytes = 4 * kMebibyte;
    with.buffer_reserve_bytes = kMebibyte / 2;
    ReactorStage stage(with);
    const size_t canary = upgraded(stage, "127.0.0.4:0");
    const size_t honest = upgraded(stage, "127.0.0.3:0");
    const size_t longest = upgraded(stage, "127.0.0.5:0");
    for (uint32_t i = 0; i < kHoarders; ++i) {
        const size_t hoarder = stage.connect(0, "127.0.0.2:0");
        stage.write(hoarder, kUpgrade);
        stage.write(hoarder, unfinished(kBufferSmallBytes - 100));
        if (i % 64 == 0) stage.settle();
    }
    stage.settle(kSecond);
    EXPECT_GT(stage.reactor().connections().buffers().held_bytes(), 16 * kMebibyte);
    const auto most_in_a_turn = [&](size_t peer, size_t bytes) {
        stage.write(peer, frame(0x82, Bytes(bytes, 'h')));
        uint64_t most = 0;
        for (const Nanos end = stage.network().clock() + kSecond; stage.network().clock() < end;) {
            const uint64_t before = stage.metrics()[Metric::memory_shortages];
            stage.reactor().turn(end);
            most = std::max(most, stage.metrics()[Metric::memory_shortages] - before);
        }
        return most;
    };
    const uint64_t gave_way = most_in_a_turn(honest, 500'000);
    EXPECT_GT(gave_way, 100u) << "nothing had to give way";
    EXPECT_LE(gave_way, kGivingWayPerTurn);
    EXPECT_EQ(stage.metrics()[Metric::messages_discarded], 1u) << "it was within the bound";
    const uint32_t most = Connections::giving_way_per_turn(with.options.max_message_bytes);
    const uint64_t gave_way_to_the_longest = most_in_a_turn(longest, 4 * kMebibyte - 64);
    EXPECT_GT(gave_way_to_the_longest, kGivingWayPerTurn);
    EXPECT_LE(gave_way_to_the_longest, most);
    EXPECT_EQ(stage.metrics()[Metric::messages_discarded], 2u) << "small pieces kept it out";
    expect_beats(stage, canary);
    expect_beats(stage, honest);
}

// One line a second, of all that gave way; and the last of them is not forgotten.
TEST(Shortage, IsLoggedOnceASecond) {
    StagePlan with = plan(40);
    with.options.buffer_bytes = 8 * kMebibyte;
    ReactorStage stage(with);
    const Bytes message = unfinished(kMebibyte - 64);
    const auto hoard = [&](int peers) {
        for (int i = 0; i < peers; ++i) stage.write(upgraded(stage), message);
        stage.settle();
    };
    hoard(7);
    EXPECT_EQ(stage.warnings(), std::vector<std::string>{}) << "there is room";
    hoard(13);
    ASSERT_EQ(stage.warnings().size(), 1u);
    const std::string first = stage.warnings()[0];
    EXPECT_TRUE(first.starts_with("reactor 0 is short of buffers: ")) << first;
    EXPECT_NE(first.find(" of 8192 KiB are held; raise --buffer-bytes"), std::string::npos);
    stage.settle(2 * kSecond);
    ASSERT_EQ(stage.warnings().size(), 2u) << "the rest, a second later, without another cause";
    const auto count_in = [](const std::string& line) {
        return std::stoull(line.substr(line.find(": ") + 2));
    };
    const uint64_t closed = stage.metrics().closed[kOutOfMemory];
    EXPECT_GT(closed, 10u);
    EXPECT_EQ(count_in(first) + count_in(stage.warnings()[1]), closed);
    stage.settle(10 * kSecond);
    EXPECT_EQ(stage.warnings().size(), 2u);
}

// One that is closing for another reason, and gives way meanwhile, was not closed for that.
TEST(Shortage, OnlyWhatIsClosedForItIsCounted) {
    StagePlan with = plan(40);
    with.options.buffer_bytes = 8 * kMebibyte;
    with.faults.socket_buffer_bytes = 64 * 1024;
    ReactorStage stage(with);
    const size_t deaf = upgraded(stage);
    stage.set_reading(deaf, false);
    stage.write(deaf, frame(0x82, Bytes(kMebibyte - 64, 'e')) + close_frame(1000));
    stage.settle(200 * kMillisecond);
    ASSERT_NE(stage.record(deaf), nullptr);
    ASSERT_EQ(stage.record(deaf)->stage, Stage::closing);
    const Bytes message = unfinished(kMebibyte - 64);
    for (int i = 0; i < 10; ++i) stage.write(upgraded(stage), message);
    stage.settle(200 * kMillisecond);
    EXPECT_EQ(stage.record(deaf), nullptr) << "it has not given way";
    stage.settle(2 * kSecond);
    uint64_t counted = 0;
    for (const std::string& line : stage.warnings())
        counted += std::stoull(line.substr(line.find(": ") + 2));
    EXPECT_GT(counted, 0u);
    EXPECT_EQ(counted, stage.metrics().closed[kOutOfMemory]);
}

// One that is closed and holds most, and is chosen to give way before its goodbye has left, has it
// all the same.
TEST(Shortage, WhatIsClosedAndGivesWayInOneTurnHasItsGoodbye) {
    StagePlan with = plan(8);
    with.listen.emplace_back("jsonl://10.0.0.1:9001");
    with.options.on_message = OnMessage::discard;
    with.options.buffer_bytes = 2 * kMebibyte + 65'536;
    ReactorStage stage(with);
    constexpr std::string_view kHello = R"({"type":"hello","user":"u","device":"d"})";
    const size_t holder = upgraded(stage, "127.0.0.2:0");
    const size_t other = upgraded(stage, "127.0.0.3:0");
    const size_t heir = stage.connect(1, "127.0.0.4:0");
    stage.write(holder, frame(0x81, kHello));
    stage.write(holder, unfinished(900'000));
    const Bytes upload = frame(0x82, Bytes(700'000, 'o'));
    stage.write(other, std::span(upload).first(500'000));
    stage.settle(kSecond);
    ASSERT_EQ(stage.metrics()[Metric::memory_shortages], 0u);
    // In one turn:
    stage.write(heir, kHello);
    stage.write(heir, "\n");
    stage.write(other, std::span(upload).subspan(500'000));
    stage.io().pass_time(10 * kMillisecond);
    stage.settle(kSecond);
    EXPECT_EQ(stage.metrics()[Metric::memory_shortages], 1u);
    EXPECT_EQ(stage.metrics()[Metric::messages_discarded], 1u) << "the room was made";
    EXPECT_NE(stage.heard(holder).find("taken_over"), std::string::npos) << stage.heard(holder);
}

// A reply for which there is no memory is not the fault of a peer that reads.
TEST(Shortage, AReplyWithoutMemoryIsNotCountedAsASlowReader) {
    StagePlan with = plan(4);
    with.options.buffer_bytes = kMebibyte;
    ReactorStage stage(with);
    const size_t peer = upgraded(stage);
    stage.write(peer, frame(0x82, Bytes(300 * 1024, 'e')));
    stage.settle(2 * kSecond);
    EXPECT_EQ(stage.metrics().closed[kSlowReader], 0u);
    EXPECT_EQ(stage.metrics().closed[kOutOfMemory], 1u);
}

// The least memory that a server starts with is enough for its largest message and the echo of it.
TEST(Shortage, TheLargestMessageFitsTheLeastMemory) {
    for (const OnMessage does : {OnMessage::echo, OnMessage::discard}) {
        for (const size_t largest : {kMebibyte - 2'000, kMebibyte - 1, kMebibyte, kMebibyte + 1}) {
            StagePlan with = plan(4);
            with.options.on_message = does;
            with.options.max_message_bytes = largest;
            with.options.buffer_bytes = buffers_for(largest, does);
            ReactorStage stage(with);
            const size_t peer = upgraded(stage);
            stage.write(peer, frame(0x82, Bytes(largest, 'e')));
            stage.settle(2 * kSecond);
            EXPECT_EQ(stage.metrics().closed[kOutOfMemory], 0u) << largest;
            EXPECT_EQ(stage.heard(peer).size() > largest, does == OnMessage::echo) << largest;
        }
    }
}

// What one peer costs that reads nothing and has a message of its own unfinished.
TEST(Shortage, APeerThatDoesNotReadIsNotHeldForBeyondItsQueue) {
    StagePlan with = plan(8);
    with.faults.socket_buffer_bytes = 64 * 1024;
    ReactorStage stage(with);
    const size_t deaf = upgraded(stage);
    stage.set_reading(deaf, false);
    const Bytes message = frame(0x82, Bytes(700'000, 'e'));
    stage.write(deaf, message);
    stage.write(deaf, message);
    stage.write(deaf, unfinished(kMebibyte - 64));
    size_t most = 0;
    for (int i = 0; i < 1'000; ++i) {
        stage.settle(kMillisecond);
        most = std::max(most, stage.reactor().connections().buffers().held_bytes());
    }
    EXPECT_EQ(stage.metrics().closed[kSlowReader] + (stage.record(deaf) != nullptr), 1u);
    EXPECT_GT(most, kMebibyte);
    // In blocks that double; what is in them is bounded by the queue and the slack.
    EXPECT_LE(most, 2 * (kSendQueueBytesDefault + kConnectionSlackBytes));
    stage.settle(5 * kSecond);
    EXPECT_EQ(stage.record(deaf), nullptr) << "slow_reader";
}

// A send queue shorter than the longest message is allowed where nothing is echoed. A pong that is
// queued while the next piece of the message is read does not make its peer a slow reader.
TEST(Shortage, APeerThatReadsAtOnceIsNotASlowReaderHoweverShortItsQueue) {
    for (const size_t queue : {size_t{4} << 10, size_t{64} << 10, kMebibyte}) {
        StagePlan with = plan(4);
        with.options.on_message = OnMessage::discard;
        with.options.send_queue_bytes = queue;
        ReactorStage stage(with);
        const size_t peer = upgraded(stage);
        constexpr size_t kFragments = 32, kFragmentBytes = kMebibyte / kFragments;
        Bytes message;
        std::string pongs;
        for (size_t i = 0; i < kFragments; ++i) {
            const uint8_t first = (i == 0 ? 0x02 : 0x00) | (i + 1 == kFragments ? 0x80 : 0x00);
            message = message + frame(first, Bytes(kFragmentBytes, 'f')) + frame(0x89, "between");
            pongs +=
                "\x8A\x07"
                "between";
        }
        stage.write(peer, message);
        stage.settle(kSecond);
        EXPECT_EQ(stage.metrics().closed[kSlowReader], 0u) << queue;
        EXPECT_EQ(stage.metrics()[Metric::messages_discarded], 1u) << queue;
        EXPECT_EQ(stage.heard(peer), pongs) << queue;
    }
}

// A message that takes a peer which does not read over its bound is not delivered without its last
// piece. A hello would give a connection that is closing the deadline of an open one.
TEST(Shortage, TheMessageThatEndsASlowReaderIsNotDelivered) {
    StagePlan with = plan(8);
    with.options.send_queue_bytes = with.options.max_message_bytes = 128 * 1024;
    with.faults.socket_buffer_bytes = 8 * 1024;
    const std::string hello = R"({"type":"hello","user":"u1","profile":"mobile"})";
    int whole = 0, ended = 0;
    // Spaces make it large. It comes in pieces of up to 8 KiB; with some of these sizes the last of
    // them is the one that is over.
    for (size_t spaces = 60'000; spaces < 110'000; spaces += 1'000) {
        ReactorStage stage(with);
        const size_t deaf = upgraded(stage);
        stage.set_reading(deaf, false);
        stage.write(deaf, frame(0x82, Bytes(120'000, 'e')));
        stage.settle(kSecond);
        ASSERT_EQ(stage.metrics()[Metric::messages_echoed], 1u);
        stage.write(deaf, frame(0x81, hello + std::string(spaces, ' ')));
        stage.settle(kSecond);
        const bool fits = stage.record(deaf) != nullptr && stage.record(deaf)->stage == Stage::open;
        EXPECT_EQ(stage.metrics()[Metric::hellos], fits ? 1u : 0u) << spaces;
        EXPECT_EQ(stage.metrics()[Metric::faults], 0u) << spaces;
        if (!fits) {
            EXPECT_TRUE(stage.empty_within(4 * kSecond)) << "as if it were open: " << spaces;
            EXPECT_EQ(stage.metrics().closed[kSlowReader], 1u) << spaces;
        }
        ++(fits ? whole : ended);
    }
    EXPECT_GT(whole, 0);
    EXPECT_GT(ended, 0);
}

// --------------------------------------------------------------------------------------- overload

StagePlan overload_plan() {
    StagePlan plan{.listen = {"jsonl://10.0.0.1:9000"}, .places = 2'000};
    plan.options.overload = OverloadStep::close;
    plan.options.on_message = OnMessage::echo;
    plan.options.heartbeat_interval = 300 * kSecond;
    plan.options.heartbeat_timeout = 600 * kSecond;
    return plan;
}
// Memory asks for that step, and the reactor has taken it.
void squeeze(ReactorStage& stage, OverloadStep step) {
    stage.admission().set_memory_step(step);
    stage.settle(kSecond);
    ASSERT_EQ(stage.stats().gauges.overload_step, static_cast<uint64_t>(step));
}
std::string says(ReactorStage& stage, size_t peer, std::string_view words) {
    stage.heard(peer).clear();
    return answer(stage, peer, words);
}

// What stays in RSS when connections leave is taken off what counts.
TEST(Overload, ReportsWhatLeavingConnectionsLeaveBehind) {
    constexpr size_t kPeers = 1'000;
    ReactorStage stage(overload_plan());
    for (size_t i = 0; i < kPeers; ++i) stage.connect(0);
    stage.settle(kSecond);
    ASSERT_EQ(stage.table().live(), kPeers);
    const uint64_t full = stage.admission().reusable();
    for (size_t i = 0; i < kPeers; ++i)
        stage.write(i, R"({"type":"hello","user":"u)" + std::to_string(i) + "\"}\n");
    stage.settle(kSecond);
    for (size_t i = 0; i < kPeers; ++i) stage.close(i, false);
    ASSERT_TRUE(stage.empty_within(60 * kSecond));
    stage.settle(kSecond);
    const uint64_t empty = stage.admission().reusable();
    EXPECT_GE(empty, full + kPeers * (sizeof(Connection) + sizeof(SessionBook::Entry)));
    EXPECT_LE(empty, full + kPeers * (sizeof(Connection) + 200) + kIdleBufferBytesMax);
    for (size_t i = 0; i < kPeers; ++i) stage.connect(0);
    stage.settle(kSecond);
    EXPECT_LE(stage.admission().reusable() + kPeers * sizeof(Connection), empty);
}

TEST(Overload, GivesUpStepByStepAndTakesBack) {
    ReactorStage stage(overload_plan());
    const size_t peer = stage.connect(0);
    const std::string data = "{\"type\":\"data\",\"n\":1}\n";
    EXPECT_EQ(says(stage, peer, "PING\n"), "PONG\n");
    EXPECT_EQ(says(stage, peer, data), data);

    squeeze(stage, OverloadStep::refuse);
    EXPECT_EQ(stage.admission().overloaded(), 1u);
    const std::string refusal = take(stage, stage.connect(0));
    EXPECT_TRUE(refusal.starts_with(
        R"({"type":"goodbye","code":1013,"reason":"overloaded","retry_after_ms":)"))
        << refusal;
    EXPECT_EQ(says(stage, peer, "PING\n"), "PONG\n") << "heartbeats are answered in every step";

    stage.heard(peer).clear();
    squeeze(stage, OverloadStep::stretch);
    EXPECT_EQ(stage.heard(peer),
              "{\"type\":\"interval\",\"interval_ms\":600000,\"timeout_ms\":1200000}\n");
    EXPECT_EQ(says(stage, peer, data), data);

    squeeze(stage, OverloadStep::drop);
    EXPECT_EQ(says(stage, peer, data), "");
    EXPECT_EQ(stage.metrics()[Metric::messages_dropped], 1u);
    EXPECT_EQ(says(stage, peer, "PING\n"), "PONG\n");

    stage.heard(peer).clear();
    squeeze(stage, OverloadStep::none);
    EXPECT_EQ(stage.admission().overloaded(), 0u);
    EXPECT_EQ(stage.heard(peer),
              "{\"type\":\"interval\",\"interval_ms\":300000,\"timeout_ms\":600000}\n");
    EXPECT_EQ(says(stage, peer, data), data);
    EXPECT_EQ(says(stage, stage.connect(0), "PING\n"), "PONG\n");
    EXPECT_EQ(stage.metrics()[Metric::overload_steps], 3u);
}

// A silent peer is evicted by what it was told last, and by nothing sooner.
TEST(Overload, DeadlinesFollowWhatPeersWereTold) {
    StagePlan plan = overload_plan();
    plan.options.heartbeat_probe = false;
    plan.options.heartbeat_interval = 10 * kSecond;
    plan.options.heartbeat_timeout = 30 * kSecond;
    ReactorStage stage(plan);
    const size_t peer = stage.connect(0);
    EXPECT_EQ(says(stage, peer, "PING\n"), "PONG\n");
    squeeze(stage, OverloadStep::stretch);
    stage.settle(50 * kSecond);
    EXPECT_FALSE(stage.ended(peer));
    squeeze(stage, OverloadStep::none);
    stage.settle(28 * kSecond);
    EXPECT_FALSE(stage.ended(peer)) << "its silence begins anew with a shorter timeout";
    stage.settle(5 * kSecond);
    EXPECT_TRUE(stage.ended(peer));
    EXPECT_EQ(closed_for(stage, CloseReason::idle_timeout), 1u);
}

// In the last step those go that were silent longest, a share a second, and none that beats.
TEST(Overload, ClosesThoseThatWereSilentLongest) {
    ReactorStage stage(overload_plan());
    constexpr size_t kPeers = 1'100, kSilent = 20;
    for (size_t i = 0; i < kPeers; ++i) {
        stage.write(stage.connect(0), "PING\n");
        if (i < kSilent) stage.settle(20 * kMillisecond);
    }
    stage.settle();
    for (size_t i = kSilent; i < kPeers; ++i) stage.write(i, "PING\n");
    const auto was_sent_away = [&](size_t peer) {
        return stage.heard(peer).find("overloaded") != std::string::npos;
    };
    const auto sent_away = [&] {
        size_t count = 0;
        for (size_t i = 0; i < kPeers; ++i) count += was_sent_away(i);
        return count;
    };
    stage.admission().set_memory_step(OverloadStep::close);
    stage.settle(4 * kSecond + kSecond / 2);
    const size_t closed = sent_away();
    EXPECT_GE(closed, 3 * overload_closes(kPeers));
    EXPECT_LE(closed, 5 * overload_closes(kPeers));
    for (size_t i = 0; i < kPeers; ++i) ASSERT_EQ(was_sent_away(i), i < closed) << i;
    // An operator's reload ends it at once, whatever memory asks for.
    stage.reload([](LoopOptions& options) { options.overload = OverloadStep::none; });
    stage.settle(3 * kSecond);
    EXPECT_EQ(sent_away(), closed);
    EXPECT_EQ(closed_for(stage, CloseReason::overloaded), closed);
    EXPECT_EQ(stage.stats().gauges.overload_step, 0u);
    EXPECT_EQ(stage.admission().overloaded(), 0u);
    EXPECT_EQ(says(stage, stage.connect(0), "PING\n"), "PONG\n");
}

// The further of two that ask is taken, no further than --overload allows.
TEST(Overload, AnomaliesAskForStepsAsMemoryDoes) {
    StagePlan plan = overload_plan();
    plan.options.overload = OverloadStep::stretch;
    ReactorStage stage(plan);
    const auto step = [&](OverloadStep memory, OverloadStep anomaly) {
        stage.admission().set_memory_step(memory);
        stage.admission().set_anomaly_step(anomaly);
        stage.settle(kSecond);
        return static_cast<OverloadStep>(stage.stats().gauges.overload_step);
    };
    EXPECT_EQ(step(OverloadStep::none, OverloadStep::refuse), OverloadStep::refuse);
    EXPECT_EQ(step(OverloadStep::stretch, OverloadStep::refuse), OverloadStep::stretch);
    EXPECT_EQ(step(OverloadStep::none, OverloadStep::close), OverloadStep::stretch);
    EXPECT_EQ(step(OverloadStep::none, OverloadStep::none), OverloadStep::none);
}

}  // namespace
}  // namespace pulse::test
