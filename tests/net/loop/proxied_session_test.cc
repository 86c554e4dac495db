// Listeners with ?proxy=on: whose connection it is, said first; who may say so; and what becomes of
// those who say it wrongly, or not at all. The whole loop, over the simulated kernel.
#include <gtest/gtest.h>

#include <array>

#include "proto/endian.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

const std::vector<std::string> kListeners = {
    "auto://10.0.0.1:9000?proxy=on", "ws://10.0.0.1:9001?proxy=on", "tcp://10.0.0.1:9002?proxy=on",
    "jsonl://10.0.0.1:9003?proxy=on", "auto://10.0.0.1:9004"};
constexpr size_t kAuto = 0, kWebSocket = 1, kBinary = 2, kLines = 3, kPlain = 4;
constexpr size_t kProxied[] = {kAuto, kWebSocket, kBinary, kLines};

const std::string kLine = "PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n";

// A header of version 2.
std::string version2(uint8_t command, uint8_t family, std::string_view body) {
    std::string header = "\r\n\r\n\0\r\nQUIT\n"s;
    header += static_cast<char>(0x20 | command);
    header += static_cast<char>(family);
    header += static_cast<char>(body.size() >> 8);
    header += static_cast<char>(body.size());
    return header.append(body);
}
std::string from_ipv4() {
    return version2(1, 0x11, "\xC0\x00\x02\x01\xC6\x33\x64\x09\xDC\x04\x01\xBB"s);
}
std::string from_ipv6() {
    std::string body(36, '\0');
    body[0] = 0x20, body[1] = 0x01, body[2] = 0x0d, body[3] = static_cast<char>(0xb8);
    body[15] = 7;
    body[32] = static_cast<char>(0xDC), body[33] = 0x04;
    return version2(1, 0x21,
                    body +
                        "\x04\x00\x03"
                        "abc"s);
}

std::string binary_ping(uint32_t sequence) {
    std::string frame = "\xB7\x01\0\0\0\0\0\0"s;
    store_be32(reinterpret_cast<uint8_t*>(frame.data()) + 4, sequence);
    return frame;
}
std::string binary_pong(uint32_t sequence) {
    std::string frame = binary_ping(sequence);
    frame[1] = 2;
    return frame;
}
const std::string kUpgrade =
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const std::string kMaskedPing = "\x89\x82\x01\x02\x03\x04ij"s;  // payload "hh"

struct Words {
    size_t listener;
    std::string says;      // behind the header
    std::string expected;  // the end of the answer
};
std::vector<Words> conversations() {
    return {{kAuto, binary_ping(7), binary_pong(7)},
            {kAuto, "PING\n", "PONG\n"},
            {kAuto, kUpgrade + kMaskedPing, "\x8a\x02hh"},
            {kWebSocket, kUpgrade + kMaskedPing, "\x8a\x02hh"},
            {kBinary, binary_ping(8), binary_pong(8)},
            {kLines, "PING\n", "PONG\n"}};
}

StagePlan plan() { return {.listen = kListeners, .keeps_debug_lines = true}; }
uint64_t closed_for(const ReactorStage& stage, CloseReason reason) {
    return stage.metrics().closed[static_cast<size_t>(reason)];
}
uint64_t refused_for(const ReactorStage& stage, CloseReason reason) {
    return stage.metrics().refused[static_cast<size_t>(reason)];
}

TEST(ProxiedSession, EveryProtocolFollowsAHeaderOfEitherVersion) {
    for (const std::string& header :
         {kLine, from_ipv4(), from_ipv6(), version2(0, 0, ""), "PROXY UNKNOWN\r\n"s}) {
        for (const Words& words : conversations()) {
            ReactorStage stage(plan());
            const size_t peer = stage.connect(words.listener);
            stage.write(peer, header + words.says);  // all at once: pipelined
            stage.settle();
            EXPECT_TRUE(stage.heard(peer).ends_with(words.expected)) << stage.heard(peer);
            ASSERT_NE(stage.record(peer), nullptr);
            EXPECT_EQ(stage.record(peer)->stage, Stage::open);
            EXPECT_EQ(stage.record(peer)->inbox, 0u) << "nothing is held once it is idle";
            EXPECT_EQ(stage.metrics()[Metric::proxy_headers], 1u);
            EXPECT_EQ(stage.log().violations(), 0u);
        }
    }
}

TEST(ProxiedSession, TheHeaderMayBeCutAnywhereAndSoMayWhatFollows) {
    for (const std::string& header : {kLine, from_ipv6()}) {
        for (const Words& words : conversations()) {
            const std::string all = header + words.says;
            for (size_t cut = 1; cut < all.size(); ++cut) {
                ReactorStage stage(plan());
                const size_t peer = stage.connect(words.listener);
                stage.write(peer, all.substr(0, cut));
                stage.settle();
                ASSERT_NE(stage.record(peer), nullptr);
                if (cut < header.size()) {
                    ASSERT_EQ(stage.record(peer)->stage, Stage::proxy) << cut;
                    ASSERT_EQ(stage.heard(peer), "")
                        << "nothing is said before the header is whole";
                }
                stage.write(peer, all.substr(cut));
                stage.settle();
                ASSERT_TRUE(stage.heard(peer).ends_with(words.expected)) << cut;
            }
        }
    }
}

TEST(ProxiedSession, ByteByByteIsTheSame) {
    for (const Words& words : conversations()) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(words.listener);
        for (const char byte : from_ipv6() + words.says) {
            stage.write(peer, std::string_view(&byte, 1));
            stage.settle(kMillisecond);
        }
        stage.settle();
        EXPECT_TRUE(stage.heard(peer).ends_with(words.expected));
    }
}

TEST(ProxiedSession, TheAddressThatTheHeaderNamesIsLimited) {
    const struct {
        size_t listener;
        std::string refusal;
    } kRefusals[] = {{kAuto, "HTTP/1.1 429 Too Many Requests\r\n"},
                     {kWebSocket, "HTTP/1.1 429 Too Many Requests\r\n"},
                     {kBinary, "address_full"},
                     {kLines, R"("reason":"address_full")"}};
    StagePlan limited = plan();
    limited.options.max_connections_per_address = 1;
    for (const auto& [listener, refusal] : kRefusals) {
        ReactorStage stage(limited);
        const auto say = [&](const std::string& header) {
            const size_t peer = stage.connect(listener);
            stage.write(peer, header);
            stage.settle();
            return peer;
        };
        EXPECT_EQ(stage.heard(say(kLine)), "");
        EXPECT_EQ(stage.heard(say(from_ipv6())), "") << "another address";
        // Version 2 names the same as the line does; what follows it is not read any more.
        const size_t second = say(from_ipv4() + "PING\n");
        EXPECT_NE(stage.heard(second).find(refusal), std::string::npos) << stage.heard(second);
        EXPECT_TRUE(stage.ended(second));
        // The balancer itself has no limit, and checks as often as it likes.
        for (int check = 0; check < 3; ++check) EXPECT_EQ(stage.heard(say(version2(0, 0, ""))), "");
        stage.close(0, true);
        stage.close(second, false);
        stage.settle();
        EXPECT_EQ(closed_for(stage, CloseReason::address_full), 1u);
        EXPECT_EQ(stage.heard(say(kLine)), "") << "there is room again";
        for (size_t peer = 0; peer < stage.peers(); ++peer) stage.close(peer, true);
        stage.settle();
        EXPECT_EQ(stage.table().live(), 0u);
    }
}

TEST(ProxiedSession, ThePeerIsTheSourceThatTheHeaderNames) {
    const struct {
        std::string header;
        const char* named;
    } rows[] = {
        {kLine, "192.0.2.1:56324"},
        {from_ipv4(), "192.0.2.1:56324"},
        {from_ipv6(), "[2001:db8::7]:56324"},
        {"PROXY TCP6 ::ffff:192.0.2.9 ::1 5 6\r\n", "192.0.2.9:5"},
        {"PROXY UNKNOWN whatever it is\r\n", "its proxy"},
        {version2(0, 0x11, "\xC0\x00\x02\x01\xC6\x33\x64\x09\xDC\x04\x01\xBB"s), "its proxy"}};
    for (const auto& row : rows) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(kBinary, "127.0.0.1:4711");
        stage.write(peer, row.header);
        stage.settle();
        ASSERT_EQ(stage.debug_lines().size(), 2u);
        EXPECT_EQ(stage.debug_lines()[0],
                  "r0-000000-0 accepted from 127.0.0.1:4711 on tcp://10.0.0.1:9002?proxy=on");
        EXPECT_EQ(stage.debug_lines()[1], "r0-000000-0 speaks for "s + row.named);
    }
}

// The balancer would pass on to its client whatever we say, so that we say nothing.
TEST(ProxiedSession, APeerWithoutAHeaderIsClosedSilentlyAndCounted) {
    const std::string bad[] = {
        "PING\n",
        binary_ping(1),
        kUpgrade,
        "{\"type\":\"ping\"}\n",
        "\x16\x03\x01",
        "PROXY TCP4 192.0.2.1 198.51.100.9 56324\r\n",
        "PROXY TCP4 192.0.2.1 1.2.3.4 1 65536\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY " + std::string(120, 'x'),
        version2(2, 0x11, std::string(12, '\0')),
        version2(1, 0x11, "short"),
        version2(1, 0x99, std::string(12, '\0')),
        version2(1, 0x11, "\xC0\x00\x02\x01\xC6\x33\x64\x09\xDC\x04\x01\xBB\x03\x00\x04----"s),
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF"s};
    for (const size_t listener : kProxied) {
        for (const std::string& words : bad) {
            ReactorStage stage(plan());
            const size_t peer = stage.connect(listener);
            stage.write(peer, words);
            stage.settle();
            EXPECT_TRUE(stage.ended(peer)) << words;
            EXPECT_EQ(stage.heard(peer), "") << words;
            EXPECT_EQ(stage.metrics()[Metric::faults], 1u) << words;
            EXPECT_EQ(stage.metrics()[Metric::proxy_headers], 0u);
            EXPECT_NE(stage.debug_lines().back().find("refused: "), std::string::npos);
            stage.close(peer, false);
            ASSERT_TRUE(stage.empty_within(5 * kSecond));
            EXPECT_EQ(closed_for(stage, CloseReason::bad_proxy_header), 1u) << words;
            EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
        }
    }
}

TEST(ProxiedSession, OneHeaderAndNoMore) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kAuto);
    stage.write(peer, kLine + kLine);
    stage.settle();
    EXPECT_TRUE(stage.ended(peer));
    EXPECT_EQ(stage.heard(peer), "");
    EXPECT_EQ(stage.metrics()[Metric::faults], 1u);
}

// The header has no deadline of its own: header and handshake share one.
TEST(ProxiedSession, TheHandshakeDeadlineRunsFromTheAccept) {
    for (const size_t listener : kProxied) {
        for (const std::string& begun : {""s, "PROXY TCP4 192"s, from_ipv6().substr(0, 20)}) {
            StagePlan with_deadline = plan();
            with_deadline.options.handshake_timeout = 2 * kSecond;
            ReactorStage stage(with_deadline);
            const size_t peer = stage.connect(listener);
            stage.settle(kSecond);
            stage.write(peer, begun);
            stage.settle(kSecond * 9 / 10);
            EXPECT_FALSE(stage.ended(peer));
            stage.settle(kSecond / 5);
            EXPECT_TRUE(stage.ended(peer)) << "what came before does not put it off";
            EXPECT_EQ(stage.heard(peer), "");
            ASSERT_TRUE(stage.empty_within(5 * kSecond));
            EXPECT_EQ(closed_for(stage, CloseReason::handshake_timeout), 1u);
        }
    }
    // With the header whole and no handshake behind it, the client is told.
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kWebSocket);
    stage.settle(5 * kSecond);
    stage.write(peer, kLine);
    stage.settle(6 * kSecond);
    EXPECT_TRUE(stage.heard(peer).starts_with("HTTP/1.1 408 ")) << stage.heard(peer);
}

TEST(ProxiedSession, HeartbeatsCountFromTheHeaderOn) {
    StagePlan quick = plan();
    quick.options.heartbeat_interval = kSecond;
    quick.options.heartbeat_timeout = 3 * kSecond;
    ReactorStage stage(quick);
    const size_t peer = stage.connect(kBinary);
    stage.settle(2 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::probes_sent], 0u) << "no probe is sent before";
    stage.write(peer, kLine);
    stage.settle(2 * kSecond + kSecond / 2);
    EXPECT_GE(stage.metrics()[Metric::probes_sent], 1u);
    EXPECT_FALSE(stage.ended(peer));
    stage.settle(kSecond);
    EXPECT_TRUE(stage.ended(peer));
    EXPECT_EQ(stage.metrics()[Metric::evicted], 1u);
}

TEST(ProxiedSession, UntrustedSourcesAreRefusedWithAReasonAndCounted) {
    const struct {
        const char* source;
        bool trusted;
    } rows[] = {{"10.1.2.3:5", true},   {"10.255.0.1:5", true}, {"11.1.2.3:5", false},
                {"127.0.0.1:5", false}, {"[fd00::7]:5", true},  {"[fd01::7]:5", false},
                {"[::1]:5", false}};
    StagePlan trusting = plan();
    trusting.options.proxy_trusted = {*parse_prefix("10.0.0.0/8"), *parse_prefix("fd00::/16")};
    ReactorStage stage(trusting);
    uint64_t strangers = 0;
    for (const auto& row : rows) {
        for (const size_t listener : kProxied) {
            const size_t peer = stage.connect(listener, row.source);
            stage.settle();
            stage.write(peer, kLine + "x");
            stage.settle();
            EXPECT_EQ(stage.record(peer) != nullptr, row.trusted) << row.source;
            if (row.trusted) continue;
            ++strangers;
            const char* const why = listener == kLines ? "untrusted_source" : "for proxies";
            EXPECT_NE(stage.heard(peer).find(why), std::string::npos) << stage.heard(peer);
            EXPECT_EQ(stage.heard(peer).find("retry"), std::string::npos) << "it would not help";
            EXPECT_NE(stage.debug_lines().back().find(row.source), std::string::npos);
        }
        const size_t peer = stage.connect(kPlain, row.source);
        stage.settle();
        EXPECT_NE(stage.record(peer), nullptr) << "a listener without headers is for all peers";
    }
    EXPECT_EQ(refused_for(stage, CloseReason::untrusted_source), strangers);
    EXPECT_EQ(stage.metrics()[Metric::refused], strangers);
}

TEST(ProxiedSession, AnUntrustedSourceReadsTheReasonInTheListenersProtocol) {
    ReactorStage stage(plan());
    std::array<std::string, 4> heard;
    for (const size_t listener : kProxied) {
        const size_t peer = stage.connect(listener, "10.9.9.9:1");
        stage.settle();
        heard[listener] = stage.heard(peer);
    }
    EXPECT_TRUE(heard[kAuto].starts_with("HTTP/1.1 403 ")) << heard[kAuto];
    EXPECT_TRUE(heard[kWebSocket].starts_with("HTTP/1.1 403 ")) << heard[kWebSocket];
    EXPECT_EQ(heard[kBinary].substr(0, 2), "\xB7\x06");
    EXPECT_EQ(heard[kBinary].substr(8, 2), "\x03\xF0") << "code 1008";
    EXPECT_EQ(heard[kLines],
              "{\"type\":\"goodbye\",\"code\":1008,\"reason\":\"untrusted_source\"}\n");
}

TEST(ProxiedSession, StoppingSendsNothingToPeersWithoutAHeader) {
    ReactorStage stage(plan());
    const size_t waiting = stage.connect(kLines);
    const size_t known = stage.connect(kLines);
    stage.write(known, kLine);
    stage.settle();
    stage.post({Message::Drain{}});
    stage.settle(12 * kSecond);
    EXPECT_EQ(stage.heard(waiting), "");
    EXPECT_NE(stage.heard(known).find("going_away"), std::string::npos);
    EXPECT_TRUE(stage.ended(waiting));
    EXPECT_TRUE(stage.ended(known));
}

// A kernel that does not know the address of a peer any more: it was reset before it was accepted.
class NamelessKernel : public SimBackend {
  public:
    using SimBackend::SimBackend;
    template <IoHandler H>
    void poll(Nanos until, H& handler) {
        Nameless<H> nameless{handler};
        SimBackend::poll(until, nameless);
    }

  private:
    template <IoHandler H>
    struct Nameless {
        H& handler;
        void on_accept(const Accepted& accepted) {
            Accepted nameless = accepted;
            nameless.peer = SocketAddress();
            handler.on_accept(nameless);
        }
        void on_connected(Index index, IoError error) { handler.on_connected(index, error); }
        void on_bytes(Index index, std::span<uint8_t> bytes) { handler.on_bytes(index, bytes); }
        void on_end(Index index, IoError error) { handler.on_end(index, error); }
        void on_sent(Index index, IoError error) { handler.on_sent(index, error); }
        void on_closed(Index index) { handler.on_closed(index); }
    };
};

// Its header may be right: the balancer is not to blame.
TEST(ProxiedSession, AHeaderThatFindsNoMemoryIsNoBadHeader) {
    for (const size_t listener : kProxied) {
        StagePlan none = plan();
        none.options.buffer_bytes = 0;
        none.buffer_reserve_bytes = 0;
        ReactorStage stage(none);
        const size_t peer = stage.connect(listener);
        stage.write(peer, kLine.substr(0, 10));
        stage.settle(3 * kSecond);
        EXPECT_EQ(closed_for(stage, CloseReason::out_of_memory), 1u) << listener;
        EXPECT_EQ(closed_for(stage, CloseReason::bad_proxy_header), 0u) << listener;
    }
}

// That peer is not a stranger that an operator should look for.
TEST(ProxiedSession, APeerWithoutAnAddressWasResetAndIsNotUntrusted) {
    for (const size_t listener : kProxied) {
        ReactorStageOn<NamelessKernel> stage(plan());
        stage.connect(listener);
        stage.connect(kPlain);
        stage.settle();
        const auto& refused = stage.metrics().refused;
        EXPECT_EQ(refused[static_cast<size_t>(CloseReason::peer_reset)], 1u) << listener;
        EXPECT_EQ(refused[static_cast<size_t>(CloseReason::untrusted_source)], 0u) << listener;
        EXPECT_EQ(stage.metrics()[Metric::accepted], 1u) << "where no address is needed";
    }
}

}  // namespace
}  // namespace pulse::test
