// TLS in front of every protocol: handshakes of a real client, whole and cut, tickets, names,
// reloads, what is refused and why, and how one ends. The whole loop, over the simulated kernel.
#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <optional>

#include "net/tls/limits.h"
#include "net/tls/traffic_secrets.h"
#include "proto/endian.h"
#include "proto/tls/records.h"

#include "tests/net/loop/reactor_stage.h"
#include "tests/support/certificates.h"
#include "tests/support/tls_peer.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

const std::vector<std::string> kListeners = {
    "wss://10.0.0.1:9000",      "tls+tcp://10.0.0.1:9001", "tls+jsonl://10.0.0.1:9002",
    "tls+auto://10.0.0.1:9003", "auto://10.0.0.1:9004",    "wss://10.0.0.1:9005?proxy=on",
    "ws://10.0.0.1:9006"};
constexpr size_t kWebSocket = 0, kBinary = 1, kLines = 2, kDetected = 3, kAuto = 4, kProxied = 5,
                 kPlainWebSocket = 6;

const std::string kUpgrade =
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const std::string kMaskedPing = "\x89\x82\x01\x02\x03\x04ij"s;  // payload "hh"
const std::string kPong = "\x8a\x02hh"s;
const std::string kBinaryPing = "\xB7\x01\0\0\0\0\0\x07"s, kBinaryPong = "\xB7\x02\0\0\0\0\0\x07"s;

std::string text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

uint64_t closed_for(const ReactorStage& stage, CloseReason reason) {
    return stage.metrics().closed[static_cast<size_t>(reason)];
}
bool logged(const ReactorStage& stage, std::string_view words) {
    return std::ranges::any_of(stage.debug_lines(), [&](const std::string& line) {
        return line.find(words) != std::string::npos;
    });
}

// One of each, made once: a key of RSA takes a tenth of a second.
struct World {
    TestFolder folder;
    TestCertificate authority{{.names = {"authority"}, .authority = true}};
    TestCertificate leaf{{.names = {"a.example"}}, &authority};
    TestCertificate other{{.names = {"b.example", "*.c.example"}}, &authority};
    std::string leaf_file = folder.write("a.pem", leaf.certificate_pem() + leaf.key_pem());
    std::string other_file = folder.write("b.pem", other.certificate_pem() + other.key_pem());
    std::string authority_file = folder.write("authority.pem", authority.certificate_pem());
};
const World& world() {
    static const World made;
    return made;
}

// Each test runs with both: what is kept of an idle connection is nothing that a peer may notice.
class TlsSession : public testing::TestWithParam<TlsIdle> {
  protected:
    void SetUp() override { idle_ = GetParam(); }

  public:
    static bool is_frozen() { return idle_ == TlsIdle::frozen; }
    static inline TlsIdle idle_ = TlsIdle::openssl;
};
INSTANTIATE_TEST_SUITE_P(Kept, TlsSession, testing::Values(TlsIdle::openssl, TlsIdle::frozen),
                         [](const auto& test) {
                             return test.param == TlsIdle::frozen ? "frozen" : "openssl";
                         });

std::shared_ptr<const TlsContext> load(TlsFiles files, const TlsContext* before = nullptr) {
    files.idle = TlsSession::idle_;
    const Result<LoadedTls> loaded = load_tls(files, before);
    EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error());
    return loaded ? loaded->context : nullptr;
}

StagePlan plan(const TlsFiles& files = {.certificates = {world().leaf_file}}) {
    StagePlan plan{.listen = kListeners, .keeps_debug_lines = true};
    plan.options.tls_context = load(files);
    plan.options.proxy_trusted = loopback_prefixes();
    plan.options.on_message = OnMessage::echo;
    return plan;
}

// A client and its connection.
struct Client {
    ReactorStage& stage;
    size_t number;
    TlsPeer tls;

    Client(ReactorStage& on, size_t listener, const TlsPeerPlan& plan = {})
        : stage(on), number(on.connect(listener)), tls(plan) {}

    void send() {
        const std::string records = tls.records();
        if (!records.empty()) stage.write(number, records);
    }
    void take() {
        const std::string records = std::exchange(stage.heard(number), {});
        tls.take(records);
    }
    // Until nothing more is said by either.
    void talk() {
        for (int round = 0; round < 12; ++round) {
            send();
            stage.settle();
            take();
        }
    }
    void say(std::string_view plain) {
        tls.say(plain);
        talk();
    }
    void upgrade() {
        talk();
        ASSERT_TRUE(tls.open()) << tls.alert;
        say(kUpgrade);
        ASSERT_TRUE(tls.heard.starts_with("HTTP/1.1 101")) << tls.heard;
        tls.heard.clear();
    }
    const Connection* record() const { return stage.record(number); }
};

struct Words {
    size_t listener;
    std::string says, expected;
};
std::vector<Words> conversations() {
    return {{kWebSocket, kUpgrade + kMaskedPing, kPong},
            {kBinary, kBinaryPing, kBinaryPong},
            {kLines, "PING\n", "PONG\n"},
            {kDetected, kBinaryPing, kBinaryPong},
            {kDetected, kUpgrade + kMaskedPing, kPong},
            {kAuto, "PING\n", "PONG\n"},
            {kAuto, kUpgrade + kMaskedPing, kPong}};
}

TEST_P(TlsSession, EveryProtocolIsSpokenBehindEitherVersion) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        for (const Words& words : conversations()) {
            ReactorStage stage(plan());
            Client client(stage, words.listener,
                          {.least = version, .most = version, .trusts = &world().authority});
            client.talk();
            ASSERT_TRUE(client.tls.open()) << client.tls.alert;
            client.say(words.says);
            EXPECT_TRUE(client.tls.heard.ends_with(words.expected)) << client.tls.heard;
            ASSERT_NE(client.record(), nullptr);
            EXPECT_EQ(client.record()->stage, Stage::open);
            EXPECT_EQ(client.record()->outbox, 0u) << "nothing is held once it is idle";
            EXPECT_EQ(stage.metrics()[Metric::tls_handshakes], 1u);
            EXPECT_EQ(stage.admission().tls_handshakes(), 0u);
            EXPECT_EQ(stage.stats().gauges.tls_connections, 1u);
            EXPECT_EQ(stage.stats().gauges.tls_frozen,
                      TlsSession::is_frozen() && version == TLS1_3_VERSION ? 1u : 0u);
            EXPECT_EQ(stage.log().violations(), 0u);
            EXPECT_TRUE(logged(stage, "speaks TLS: TLSv1.")) << words.says;
        }
    }
}

// A plain connection beside it is not touched.
TEST_P(TlsSession, PlainPeersOfAutoAreServedBesides) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kAuto);
    stage.write(peer, "PING\n");
    stage.settle();
    EXPECT_EQ(stage.heard(peer), "PONG\n");
    EXPECT_EQ(stage.record(peer)->tls, 0);
    EXPECT_EQ(stage.stats().gauges.tls_connections, 0u);
}

TEST_P(TlsSession, RecordsMayBeCutAtEveryByte) {
    for (const size_t listener : {kWebSocket, kAuto}) {
        ReactorStage stage(plan());
        Client client(stage, listener);
        for (int round = 0; round < 12; ++round) {
            if (round == 5) client.tls.say(kUpgrade + kMaskedPing);
            for (const char byte : client.tls.records()) {
                stage.write(client.number, std::string(1, byte));
                stage.settle(kMillisecond);
            }
            client.take();
        }
        EXPECT_TRUE(client.tls.heard.ends_with(kPong)) << client.tls.heard;
    }
}

TEST_P(TlsSession, AProxyHeaderComesBeforeTheHandshake) {
    ReactorStage stage(plan());
    const std::string header = "PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n";
    for (const bool at_once : {true, false}) {
        Client client(stage, kProxied);
        stage.write(client.number, at_once ? header + client.tls.records() : header);
        stage.settle();
        client.take();
        client.upgrade();
        client.say(kMaskedPing);
        EXPECT_EQ(client.tls.heard, kPong);
    }
    EXPECT_EQ(stage.metrics()[Metric::proxy_headers], 2u);
}

TEST_P(TlsSession, WhatBeginsWithoutTlsIsToldSoInItsOwnWords) {
    ReactorStage stage(plan());
    for (const size_t listener : {kWebSocket, kBinary, kDetected}) {
        const size_t peer = stage.connect(listener);
        stage.write(peer, kUpgrade);
        stage.settle();
        EXPECT_TRUE(stage.heard(peer).starts_with("HTTP/1.1 400")) << stage.heard(peer);
        EXPECT_NE(stage.heard(peer).find("speaks TLS only"), std::string::npos);
    }
    const size_t binary = stage.connect(kWebSocket);
    stage.write(binary, kBinaryPing);
    stage.settle(2 * kSecond);
    EXPECT_TRUE(stage.heard(binary).starts_with("\xB7\x08")) << "an error frame";
    EXPECT_EQ(closed_for(stage, CloseReason::wrong_protocol), 4u);
    EXPECT_EQ(stage.stats().gauges.tls_connections, 0u);
}

TEST_P(TlsSession, IsRefusedByAnAlertWhereItIsNotSpoken) {
    for (const bool has_certificate : {true, false}) {
        StagePlan without = plan();
        if (!has_certificate) {
            without.listen = {"auto://10.0.0.1:9000", "ws://10.0.0.1:9006"};
            without.options.tls_context = nullptr;
        }
        ReactorStage stage(without);
        const size_t listener = has_certificate ? kPlainWebSocket : 0;
        Client client(stage, listener);
        client.talk();
        EXPECT_TRUE(client.tls.failed());
        EXPECT_NE(client.tls.alert.find("handshake failure"), std::string::npos)
            << client.tls.alert;
        stage.settle(2 * kSecond);
        EXPECT_EQ(closed_for(stage, CloseReason::wrong_protocol), 1u);
    }
}

TEST_P(TlsSession, GarbageAndOldVersionsAreFailuresWithAReason) {
    ReactorStage stage(plan());
    // What looks like a record and is none, and what does not.
    for (const std::string& words : {"\x16\x03\x01\x00\x05hello"s, "\x16\x03\x01\xff\xff"s,
                                     std::string(600, '\x80'), "\x17\x03\x03\x00\x01x"s}) {
        const size_t peer = stage.connect(kWebSocket);
        stage.write(peer, words);
        stage.settle();
        EXPECT_TRUE(stage.ended(peer)) << testing::PrintToString(words);
        EXPECT_TRUE(stage.heard(peer).empty() || stage.heard(peer)[0] == '\x15') << "or an alert";
        EXPECT_FALSE(stage.debug_lines().back().ends_with("no reason is known"));
    }
    Client old(stage, kWebSocket, {.least = TLS1_1_VERSION, .most = TLS1_1_VERSION});
    old.talk();
    EXPECT_TRUE(old.tls.failed());
    EXPECT_NE(old.tls.alert.find("protocol version"), std::string::npos) << old.tls.alert;
    EXPECT_TRUE(logged(stage, "TLS failed: unsupported protocol"));
    stage.settle(2 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::tls_handshake_failed), 5u);
    EXPECT_EQ(stage.admission().tls_handshakes(), 0u);
    EXPECT_EQ(stage.stats().gauges.tls_connections, 0u);
}

TEST_P(TlsSession, AClientThatDoesNotTrustUsIsNamedAsTheReason) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket, {.trusts = &world().other});
    client.talk();
    EXPECT_TRUE(client.tls.failed());
    EXPECT_TRUE(logged(stage, "TLS failed: the peer's alert: unknown CA"))
        << stage.debug_lines().back();
}

// At each flight, by FIN and by reset.
TEST_P(TlsSession, AbortedHandshakesLeaveNothing) {
    for (const bool reset : {false, true}) {
        for (int flights = 0; flights < 3; ++flights) {
            ReactorStage stage(plan());
            Client client(stage, kWebSocket, {.least = TLS1_2_VERSION, .most = TLS1_2_VERSION});
            for (int flight = 0; flight < flights; ++flight) {
                client.send();
                stage.settle();
                client.take();
            }
            if (flights > 0) {
                EXPECT_EQ(stage.stats().gauges.tls_connections, 1u);
            }
            stage.close(client.number, reset);
            EXPECT_TRUE(stage.empty_within(30 * kSecond));
            EXPECT_EQ(stage.admission().tls_handshakes(), 0u);
            EXPECT_EQ(stage.stats().gauges.tls_connections, 0u);
            EXPECT_EQ(stage.stats().gauges.buffers, 0u);
        }
    }
}

TEST_P(TlsSession, ASlowHandshakeEndsAtTheDeadline) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket);
    const std::string hello = client.tls.records();
    stage.settle();
    for (size_t at = 0; at < 40 && stage.record(client.number) != nullptr; ++at) {
        stage.write(client.number, hello.substr(at, 1));
        stage.settle(kSecond);
    }
    EXPECT_EQ(closed_for(stage, CloseReason::handshake_timeout), 1u);
    EXPECT_EQ(stage.heard(client.number), "") << "nothing was agreed on that could say it";
    EXPECT_EQ(stage.admission().tls_handshakes(), 0u);
}

TEST_P(TlsSession, HandshakesInFlightAreBounded) {
    StagePlan one = plan();
    one.options.tls_handshakes_max = 1;
    ReactorStage stage(one);
    Client first(stage, kWebSocket);
    first.send();
    stage.settle();
    EXPECT_EQ(stage.admission().tls_handshakes(), 1u);
    Client second(stage, kAuto);
    second.talk();
    EXPECT_TRUE(second.tls.failed());
    EXPECT_NE(second.tls.alert.find("internal error"), std::string::npos) << second.tls.alert;
    stage.settle(2 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::handshakes_full), 1u);
    first.take();
    first.upgrade();
    EXPECT_EQ(stage.admission().tls_handshakes(), 0u);
    Client third(stage, kWebSocket);
    third.upgrade();
}

TEST_P(TlsSession, TheNameChoosesTheCertificate) {
    ReactorStage stage(plan({.certificates = {world().leaf_file, world().other_file}}));
    for (const auto& [asked, shown] :
         {std::pair{"a.example", "a.example"}, std::pair{"b.example", "b.example"},
          std::pair{"x.c.example", "b.example"}, std::pair{"unknown.example", "a.example"},
          std::pair{"", "a.example"}}) {
        Client client(stage, kWebSocket, {.server_name = asked, .trusts = &world().authority});
        client.upgrade();
        EXPECT_EQ(client.tls.server_subject(), shown) << asked;
    }
}

TEST_P(TlsSession, HttpIsTheOnlyProtocolThatIsAgreedOn) {
    ReactorStage stage(plan());
    Client both(stage, kWebSocket, {.protocols = "\x02h2\x08http/1.1"});
    both.upgrade();
    const unsigned char* chosen = nullptr;
    unsigned bytes = 0;
    SSL_get0_alpn_selected(both.tls.ssl(), &chosen, &bytes);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(chosen), bytes), "http/1.1");
    Client other(stage, kWebSocket, {.protocols = "\x02h2"});
    other.talk();
    EXPECT_TRUE(other.tls.failed());
    EXPECT_NE(other.tls.alert.find("no application protocol"), std::string::npos);
}

TEST_P(TlsSession, TicketsResumeAlsoAfterAReload) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        SCOPED_TRACE(version);
        const TlsFiles files{.certificates = {world().leaf_file}};
        StagePlan first = plan(files);
        const std::shared_ptr<const TlsContext> before = first.options.tls_context;
        ReactorStage stage(first);
        TlsPeerPlan peer{.least = version, .most = version};
        Client full(stage, kWebSocket, peer);
        full.upgrade();
        ASSERT_NE(full.tls.session(), nullptr);
        peer.resumes = full.tls.session();
        Client again(stage, kWebSocket, peer);
        again.upgrade();
        EXPECT_EQ(stage.metrics()[Metric::tls_resumed], 1u);
        stage.reload(
            [&](LoopOptions& options) { options.tls_context = load(files, before.get()); });
        stage.settle();
        peer.resumes = again.tls.session();
        Client after(stage, kWebSocket, peer);
        after.upgrade();
        EXPECT_EQ(stage.metrics()[Metric::tls_resumed], 2u);
        // Who was let in without a certificate is asked for one from now on.
        stage.reload([&](LoopOptions& options) {
            options.tls_context =
                load({.certificates = {world().leaf_file}, .client_ca = world().authority_file},
                     before.get());
        });
        stage.settle();
        peer.resumes = after.tls.session();
        Client without(stage, kWebSocket, peer);
        without.talk();
        EXPECT_TRUE(without.tls.failed());
        full.say(kMaskedPing);
        EXPECT_EQ(full.tls.heard, kPong) << "who is inside notices nothing";
    }
}

TEST_P(TlsSession, TicketKeysTurnOver) {
    Nanos now = kSecond;
    TlsFiles files{.certificates = {world().leaf_file}};
    const auto keys = std::make_shared<TicketKeys>([&] { return now; });
    std::vector<SSL_CTX*> contexts{SSL_CTX_new(TLS_server_method())};
    SSL_CTX_use_certificate(contexts[0], world().leaf.certificate());
    SSL_CTX_use_PrivateKey(contexts[0], world().leaf.key());
    StagePlan aged = plan();
    aged.options.tls_context = TlsContext::make(contexts, keys);
    ReactorStage stage(aged);
    const auto resumes_after = [&](Nanos age) {
        Client full(stage, kWebSocket);
        full.upgrade();
        const uint64_t before = stage.metrics()[Metric::tls_resumed];
        now += age;
        // Another handshake in between turns the keys over.
        Client between(stage, kWebSocket);
        between.upgrade();
        Client again(stage, kWebSocket, {.resumes = full.tls.session()});
        again.upgrade();
        return stage.metrics()[Metric::tls_resumed] > before;
    };
    EXPECT_TRUE(resumes_after(kTicketKeyNs / 2));
    EXPECT_TRUE(resumes_after(kTicketKeyNs)) << "the key before is known";
    EXPECT_FALSE(resumes_after(3 * kTicketKeyNs));
}

TEST_P(TlsSession, AReloadedCertificateIsForThoseWhoCome) {
    ReactorStage stage(plan());
    Client inside(stage, kWebSocket), between(stage, kWebSocket);
    inside.upgrade();
    between.send();
    stage.settle();
    stage.reload([&](LoopOptions& options) {
        options.tls_context = load({.certificates = {world().other_file}});
    });
    stage.settle();
    between.take();
    between.upgrade();
    EXPECT_EQ(between.tls.server_subject(), "a.example") << "its handshake had begun";
    inside.say(kMaskedPing);
    EXPECT_EQ(inside.tls.heard, kPong);
    Client after(stage, kWebSocket);
    after.upgrade();
    EXPECT_EQ(after.tls.server_subject(), "b.example");
}

TEST_P(TlsSession, ClientsShowACertificateWhereOneIsAskedFor) {
    ReactorStage stage(
        plan({.certificates = {world().leaf_file}, .client_ca = world().authority_file}));
    Client known(stage, kWebSocket, {.shows = &world().other});
    known.upgrade();
    EXPECT_TRUE(logged(stage, "as /CN=b.example"));
    const TestCertificate stranger;
    for (const TestCertificate* shown : {static_cast<const TestCertificate*>(nullptr), &stranger}) {
        Client client(stage, kWebSocket, {.shows = shown});
        client.talk();
        EXPECT_TRUE(client.tls.failed());
    }
    stage.settle(2 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::tls_handshake_failed), 2u);
}

TEST_P(TlsSession, AGoodbyeIsFollowedByTheEndOfTls) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket);
    client.upgrade();
    const ConnectionId id = stage.table().id(*stage.index(client.number));
    ASSERT_TRUE(stage.post({.body = Message::Kick{id, CloseReason::kicked}}));
    client.talk();
    EXPECT_EQ(client.tls.heard.substr(0, 1), "\x88") << "a close frame";
    EXPECT_TRUE(client.tls.ended()) << "close_notify";
    EXPECT_TRUE(stage.ended(client.number)) << "and FIN";
    EXPECT_FALSE(client.tls.failed());
    stage.finish(client.number);
    stage.settle();
    EXPECT_EQ(stage.record(client.number), nullptr);
    EXPECT_FALSE(stage.was_reset(client.number));
}

// With the close frame in the same segment, and without one.
TEST_P(TlsSession, AnEndOfThePeersIsAnsweredBehindWhatItSaid) {
    for (const bool says_goodbye : {true, false}) {
        ReactorStage stage(plan());
        Client client(stage, kWebSocket);
        client.upgrade();
        client.tls.say(says_goodbye ? text(close_frame(1000)) : kMaskedPing);
        SSL_shutdown(client.tls.ssl());
        client.talk();
        EXPECT_EQ(client.tls.heard.substr(0, 1), says_goodbye ? "\x88" : "\x8a");
        EXPECT_TRUE(client.tls.ended());
        EXPECT_TRUE(stage.ended(client.number));
        stage.finish(client.number);
        stage.settle();
        EXPECT_EQ(
            closed_for(stage, says_goodbye ? CloseReason::peer_goodbye : CloseReason::peer_closed),
            1u);
        EXPECT_EQ(stage.stats().gauges.tls_connections, 0u);
    }
}

TEST_P(TlsSession, ATruncatedEndIsThePeersEnd) {
    ReactorStage stage(plan());
    Client client(stage, kLines);
    client.talk();
    client.say("PING\n");
    stage.finish(client.number);
    client.talk();
    EXPECT_TRUE(client.tls.ended());
    EXPECT_EQ(closed_for(stage, CloseReason::peer_closed), 1u);
}

TEST_P(TlsSession, AForgedRecordEndsItWithAnAlert) {
    ReactorStage stage(plan());
    for (const bool behind_a_frame : {false, true}) {
        Client client(stage, kWebSocket);
        client.upgrade();
        if (behind_a_frame) client.tls.say(kMaskedPing);
        std::string records = client.tls.records();
        client.tls.say(kMaskedPing);
        std::string forged = client.tls.records();
        forged.back() ^= 1;
        stage.write(client.number, records + forged);
        stage.settle();
        client.take();
        EXPECT_TRUE(client.tls.failed());
        EXPECT_NE(client.tls.alert.find("bad record mac"), std::string::npos) << client.tls.alert;
    }
    stage.settle(2 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::tls_failed), 2u);
    EXPECT_EQ(stage.stats().gauges.tls_connections, 0u);
}

TEST_P(TlsSession, KeysMayBeUpdatedButNotInAFlood) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket, {.least = TLS1_3_VERSION});
    client.upgrade();
    for (int round = 0; round < 50; ++round) {
        SSL_key_update(client.tls.ssl(), SSL_KEY_UPDATE_REQUESTED);
        client.say(kMaskedPing);
        ASSERT_EQ(std::exchange(client.tls.heard, {}), kPong) << round << client.tls.alert;
    }
    for (uint32_t update = 0; update < 100; ++update) {
        SSL_key_update(client.tls.ssl(), SSL_KEY_UPDATE_NOT_REQUESTED);
        SSL_do_handshake(client.tls.ssl());
    }
    client.talk();
    stage.settle(2 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::tls_failed), 1u);
}

TEST_P(TlsSession, TlsOf12IsNotRenegotiated) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket, {.least = TLS1_2_VERSION, .most = TLS1_2_VERSION});
    client.upgrade();
    const uint64_t before = stage.metrics()[Metric::tls_handshakes];
    SSL_renegotiate(client.tls.ssl());
    SSL_do_handshake(client.tls.ssl());
    client.talk();
    EXPECT_EQ(stage.metrics()[Metric::tls_handshakes], before);
    EXPECT_TRUE(client.tls.failed()) << "no_renegotiation";
}

// In one flight with the end of the handshake, whatever suite.
TEST_P(TlsSession, WhatComesWithTheHandshakeIsRead) {
    for (const std::string& suite :
         {"TLS_AES_128_GCM_SHA256"s, "TLS_AES_256_GCM_SHA384"s, "TLS_CHACHA20_POLY1305_SHA256"s,
          "TLS_AES_128_CCM_SHA256"s}) {
        for (const size_t cut : {0, 1, 30}) {
            ReactorStage stage(plan({.certificates = {world().leaf_file}, .ciphers = suite}));
            Client client(stage, kLines, {.least = TLS1_3_VERSION});
            SSL_set_ciphersuites(client.tls.ssl(), suite.c_str());
            SSL_clear(client.tls.ssl());
            SSL_set_connect_state(client.tls.ssl());
            client.tls.records();
            client.tls.take("");
            client.send();
            stage.settle();
            client.take();
            ASSERT_TRUE(client.tls.open()) << client.tls.alert << suite;
            client.tls.say("PING\n");
            client.tls.say("PING\n");
            const std::string records = client.tls.records();
            stage.write(client.number, records.substr(0, records.size() - cut));
            stage.settle();
            stage.write(client.number, records.substr(records.size() - cut));
            client.talk();
            EXPECT_EQ(client.tls.heard, "PONG\nPONG\n") << suite << cut;
            const bool freezes = TlsSession::is_frozen() && !suite.ends_with("CCM_SHA256");
            EXPECT_EQ(stage.stats().gauges.tls_frozen, freezes ? 1u : 0u) << suite;
            stage.close(client.number, true);
            EXPECT_TRUE(stage.empty_within(kSecond));
            EXPECT_EQ(stage.stats().gauges.tls_frozen, 0u);
            EXPECT_EQ(stage.stats().gauges.buffers, 0u);
        }
    }
}

// A small client's buffer is respected: such a connection is OpenSSL's.
TEST_P(TlsSession, RecordsAreNoLongerThanAClientAsked) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket, {.least = TLS1_3_VERSION});
    SSL_set_tlsext_max_fragment_length(client.tls.ssl(), TLSEXT_max_fragment_length_512);
    SSL_clear(client.tls.ssl());
    SSL_set_connect_state(client.tls.ssl());
    client.tls.records();
    client.tls.take("");
    client.upgrade();
    const std::string words(4'000, 'x');
    client.say(text(frame(0x82, words)));
    EXPECT_TRUE(client.tls.heard.ends_with(words)) << client.tls.heard.size() << client.tls.alert;
    EXPECT_EQ(stage.stats().gauges.tls_frozen, 0u);
}

// Whatever number it has, known or not.
TEST_P(TlsSession, AnAlertIsNotAnsweredByOne) {
    for (const int number : {40, 255}) {
        ReactorStage stage(plan());
        Client client(stage, kWebSocket, {.least = TLS1_3_VERSION});
        allow_freezing(SSL_get_SSL_CTX(client.tls.ssl()));
        ASSERT_TRUE(watch_secrets(client.tls.ssl()));
        client.upgrade();
        const std::optional<tls::Beginning> from = frozen_beginning(client.tls.ssl());
        ASSERT_TRUE(from);
        alignas(8) std::array<std::byte, tls::kStateBytesMax> bytes{};
        auto& state = *reinterpret_cast<tls::State*>(bytes.data());
        tls::Records records;
        ASSERT_TRUE(records.begin(state, *from));
        std::string alert(tls::kAlertRecordBytes, '\0');
        ASSERT_GT(records.seal_alert(state, static_cast<tls::Alert>(number),
                                     reinterpret_cast<uint8_t*>(alert.data())),
                  0u);
        stage.write(client.number, alert);
        stage.settle();
        EXPECT_EQ(stage.heard(client.number), "") << number;
        EXPECT_TRUE(logged(stage, "TLS failed")) << number;
    }
}

// Where nothing else is said of suites, that of which the least is kept is taken.
TEST_P(TlsSession, AFrozenConnectionIsAFewBytes) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket);
    client.upgrade();
    const uint64_t bytes = stage.stats().gauges.tls_frozen_bytes;
    EXPECT_EQ(bytes, TlsSession::is_frozen() ? 144u : 0u);
    client.say(kMaskedPing);
    EXPECT_EQ(client.tls.heard, kPong);
    EXPECT_EQ(stage.stats().gauges.buffers, 0u);
    client.tls.say(std::string(1'000, 'x'));
    stage.write(client.number, client.tls.records().substr(0, 900));
    stage.settle();
    EXPECT_EQ(stage.stats().gauges.buffers, TlsSession::is_frozen() ? 1u : 0u);
    stage.close(client.number, false);
    EXPECT_TRUE(stage.empty_within(30 * kSecond));
    EXPECT_EQ(stage.stats().gauges.buffers, 0u);
    EXPECT_EQ(stage.stats().gauges.tls_frozen_bytes, bytes);
}

// Parts of records are held in the pool, and give way as what else is unfinished does.
TEST_P(TlsSession, PartsOfRecordsGiveWay) {
    StagePlan small = plan();
    small.options.buffer_bytes = 100'000;
    small.options.max_message_bytes = 4'096;
    small.options.heartbeat_interval = 60 * kSecond;
    small.options.heartbeat_timeout = 600 * kSecond;
    ReactorStage stage(small);
    std::vector<std::unique_ptr<Client>> clients;
    for (int number = 0; number < 20; ++number) {
        clients.push_back(std::make_unique<Client>(stage, kWebSocket));
        Client& client = *clients.back();
        client.upgrade();
        client.tls.say(text(frame(0x82, std::string(16'000, 'x'))));
        const std::string records = client.tls.records();
        stage.write(client.number, records.substr(0, records.size() - 1));
        stage.settle();
    }
    const uint64_t gave_way = closed_for(stage, CloseReason::out_of_memory);
    EXPECT_EQ(gave_way > 0, TlsSession::is_frozen()) << gave_way;
    Client beats(stage, kWebSocket);
    beats.upgrade();
    beats.say(kMaskedPing);
    EXPECT_EQ(beats.tls.heard, kPong);
    for (const auto& client : clients) stage.close(client->number, true);
    stage.close(beats.number, true);
    EXPECT_TRUE(stage.empty_within(30 * kSecond));
    EXPECT_EQ(stage.stats().gauges.buffers, 0u);
}

TEST_P(TlsSession, LargeMessagesComeBackWhole) {
    StagePlan large = plan();
    large.options.max_message_bytes = 1 << 20;
    large.options.send_queue_bytes = echo_bytes(1 << 20);
    ReactorStage stage(large);
    Client client(stage, kWebSocket);
    client.upgrade();
    std::string message(1 << 20, 'x');
    for (size_t at = 0; at < message.size(); ++at) message[at] = static_cast<char>('a' + at % 26);
    client.tls.say(text(frame(0x82, message)));
    for (int round = 0; round < 400 && client.tls.heard.size() < message.size() + 10; ++round)
        client.talk();
    ASSERT_EQ(client.tls.heard.size(), message.size() + 10) << client.tls.alert;
    EXPECT_EQ(client.tls.heard.substr(10), message);
    EXPECT_EQ(client.record()->outbox, 0u);
}

// More than a turn admits: what is parked is plaintext, and comes in its order.
TEST_P(TlsSession, PipelinedFramesAreAllAnswered) {
    ReactorStage stage(plan());
    for (const bool with_handshake : {true, false}) {
        Client client(stage, kLines);
        constexpr size_t kCount = 5'000;
        std::string pings;
        for (size_t ping = 0; ping < kCount; ++ping) pings += "PING\n";
        client.send();
        stage.settle();
        client.take();
        if (!with_handshake) client.talk();
        client.tls.say(pings);
        client.talk();
        EXPECT_EQ(client.tls.heard.size(), pings.size());
    }
}

TEST_P(TlsSession, APeerThatReadsNothingIsClosed) {
    StagePlan small = plan();
    small.options.max_message_bytes = 4'096;
    small.options.send_queue_bytes = 16'384;
    ReactorStage stage(small);
    Client client(stage, kWebSocket);
    client.upgrade();
    stage.set_reading(client.number, false);
    for (int message = 0; message < 4'000 && stage.record(client.number) != nullptr; ++message) {
        client.tls.say(text(frame(0x82, std::string(4'000, 'x'))));
        client.send();
        stage.settle(kMillisecond);
    }
    stage.settle(5 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::slow_reader), 1u);
    EXPECT_EQ(stage.stats().gauges.buffers, 0u);
}

TEST_P(TlsSession, SilentPeersAreProbedAndEvicted) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket);
    client.upgrade();
    for (int second = 0; second < 40; ++second) {
        stage.settle(kSecond);
        client.take();
    }
    EXPECT_EQ(client.tls.heard.substr(0, 1), "\x89") << "a ping";
    stage.settle(100 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::idle_timeout), 1u);
}

StagePlan quick(Liveness liveness = Liveness::any) {
    StagePlan quick = plan();
    quick.options.heartbeat_interval = kSecond;
    quick.options.heartbeat_timeout = 3 * kSecond;
    quick.options.liveness = liveness;
    return quick;
}

// Sends `records` over `duration`; false as soon as the peer is gone.
bool upload(Client& client, std::string_view records, Nanos duration) {
    const auto steps = static_cast<size_t>(duration / (100 * kMillisecond));
    for (size_t step = 0; step < steps; ++step) {
        const size_t from = records.size() * step / steps;
        client.stage.write(client.number,
                           records.substr(from, records.size() * (step + 1) / steps - from));
        client.stage.settle(100 * kMillisecond);
        if (client.record() == nullptr || client.record()->stage != Stage::open) return false;
    }
    return true;
}

// It answers no probe: its answer would wait behind the record.
TEST_P(TlsSession, ARecordThatTakesLongerThanTheTimeoutProvesLife) {
    for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
        ReactorStage stage(quick(liveness));
        Client client(stage, kWebSocket);
        client.upgrade();
        for (int record = 0; record < 2; ++record) {
            client.tls.say(text(frame(0x82, std::string(16'000, 'x'))));
            EXPECT_TRUE(upload(client, client.tls.records(), 10 * kSecond)) << record;
        }
        EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
        EXPECT_EQ(stage.metrics()[Metric::messages_echoed], 2u);
    }
}

TEST_P(TlsSession, ARecordThatDripsOrStopsIsClosedForIt) {
    for (const Nanos duration : {60 * kSecond, 500 * kMillisecond}) {
        ReactorStage stage(quick());
        Client client(stage, kWebSocket);
        client.upgrade();
        client.tls.say(text(frame(0x82, std::string(16'000, 'x'))));
        const std::string records = client.tls.records();
        const bool drips = duration > kSecond;
        EXPECT_EQ(upload(client, drips ? records : records.substr(0, 1'000), duration), !drips);
        stage.settle(10 * kSecond);
        EXPECT_EQ(closed_for(stage, CloseReason::slow_upload), 1u);
    }
}

// What came while this thread was away was in time, and so is what follows our answer to it.
TEST_P(TlsSession, AHandshakeOutlivesAStallOfTheServer) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        for (int flights = 0; flights < 2; ++flights) {
            ReactorStage stage(plan());
            Client client(stage, kWebSocket, {.least = version, .most = version});
            stage.settle();
            for (int flight = 0; flight < flights; ++flight) {
                client.send();
                stage.settle();
                client.take();
            }
            client.send();
            stage.io().pass_time(30 * kSecond);
            stage.settle();
            client.take();
            client.upgrade();
            EXPECT_EQ(closed_for(stage, CloseReason::handshake_timeout), 0u);
        }
    }
}

// An end behind more than a turn admits: all of it is answered, and then the end.
TEST_P(TlsSession, AnEndBehindAFloodComesBehindItsAnswers) {
    for (const bool with_handshake : {true, false}) {
        ReactorStage stage(plan());
        Client client(stage, kLines, {.least = TLS1_3_VERSION});
        constexpr size_t kCount = 5'000;
        std::string pings;
        for (size_t ping = 0; ping < kCount; ++ping) pings += "PING\n";
        client.send();
        stage.settle();
        client.take();
        if (!with_handshake) client.talk();
        client.tls.say(pings);
        SSL_shutdown(client.tls.ssl());
        client.talk();
        EXPECT_EQ(client.tls.heard.size(), pings.size());
        EXPECT_TRUE(client.tls.ended()) << "though no FIN came";
        EXPECT_EQ(stage.metrics().closed[static_cast<size_t>(CloseReason::peer_closed)] +
                      stage.table().live(),
                  1u);
    }
}

}  // namespace
}  // namespace pulse::test
