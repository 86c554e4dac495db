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

#include "tests/net/loop/tls_conversation.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

std::string text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

using Client = TlsClient;

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

std::shared_ptr<const TlsContext> load(const TlsFiles& files, const TlsContext* before = nullptr) {
    return load_context(files, TlsSession::idle_, before);
}

StagePlan plan(const TlsFiles& files = {.certificates = {world().leaf_file}}) {
    return tls_plan(files, TlsSession::idle_);
}

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

// A client that was kept from TLS 1.3 and says so (RFC 7507).
TEST_P(TlsSession, ADowngradeIsRefused) {
    ReactorStage stage(plan());
    Client client(stage, kWebSocket, {.most = TLS1_2_VERSION});
    SSL_set_mode(client.tls.ssl(), SSL_MODE_SEND_FALLBACK_SCSV);
    client.tls.begin_anew();
    client.talk();
    EXPECT_TRUE(client.tls.failed());
    EXPECT_NE(client.tls.alert.find("inappropriate fallback"), std::string::npos)
        << client.tls.alert;
}

// OpenSSL 3.0's own choice. Its TLS 1.2 has suites without forward secrecy: --tls-ciphers leaves
// them out, and --tls-min 1.3 all of them.
constexpr std::string_view kAccepted =
    "TLSv1.3 TLS_AES_128_GCM_SHA256\n"
    "TLSv1.3 TLS_AES_256_GCM_SHA384\n"
    "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256\n"
    "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384\n"
    "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384\n"
    "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305\n"
    "TLSv1.2 ECDHE-RSA-CHACHA20-POLY1305\n"
    "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256\n"
    "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256\n"
    "TLSv1.2 ECDHE-ECDSA-AES256-SHA384\n"
    "TLSv1.2 ECDHE-RSA-AES256-SHA384\n"
    "TLSv1.2 ECDHE-ECDSA-AES128-SHA256\n"
    "TLSv1.2 ECDHE-RSA-AES128-SHA256\n"
    "TLSv1.2 ECDHE-ECDSA-AES256-SHA\n"
    "TLSv1.2 ECDHE-RSA-AES256-SHA\n"
    "TLSv1.2 ECDHE-ECDSA-AES128-SHA\n"
    "TLSv1.2 ECDHE-RSA-AES128-SHA\n"
    "TLSv1.2 AES256-GCM-SHA384\n"
    "TLSv1.2 AES128-GCM-SHA256\n"
    "TLSv1.2 AES256-SHA256\n"
    "TLSv1.2 AES128-SHA256\n"
    "TLSv1.2 AES256-SHA\n"
    "TLSv1.2 AES128-SHA\n";

// What a scanner lists: of each version all ciphers that clients know, one by one.
TEST_P(TlsSession, TheseVersionsAndCiphersAreAccepted) {
    const TestCertificate rsa{{.names = {"a.example"}, .rsa = true}, &world().authority};
    const std::string rsa_file =
        world().folder.write("rsa.pem", rsa.certificate_pem() + rsa.key_pem());
    ReactorStage stage(plan({.certificates = {world().leaf_file, rsa_file}}));
    const std::string all = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    const std::string newer =
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
        "TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256";
    const TlsPeer knows({.suites = newer, .ciphers = all});
    const STACK_OF(SSL_CIPHER)* const ciphers = SSL_get_ciphers(knows.ssl());
    std::string accepted;
    const auto offer = [&](int version, const std::string& suites, const std::string& older) {
        Client client(stage, kLines,
                      {.least = version, .most = version, .suites = suites, .ciphers = older});
        client.talk();
        const SSL* const ssl = client.tls.ssl();
        if (client.tls.open())
            accepted += SSL_get_version(ssl) + " "s + SSL_get_cipher_name(ssl) + "\n";
        stage.close(client.number, true);
        stage.settle();
    };
    for (const int version : {TLS1_VERSION, TLS1_1_VERSION}) offer(version, newer, all);
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) {
        const SSL_CIPHER* const cipher = sk_SSL_CIPHER_value(ciphers, i);
        const std::string name = SSL_CIPHER_get_name(cipher);
        if (name.starts_with("TLS_")) {
            offer(TLS1_3_VERSION, name, all);
        } else {
            offer(TLS1_2_VERSION, newer, name + ":@SECLEVEL=0");
        }
    }
    EXPECT_EQ(accepted, kAccepted);
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
    for (const int flight : {0, 1, 2, 3, 4, 5}) {
        for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
            const bool reset = flight % 2 == 1;
            ReactorStage stage(plan());
            Client client(stage, kWebSocket, {.least = version, .most = version});
            for (int said = 0; said < flight / 2; ++said) {
                client.send();
                stage.settle();
                client.take();
            }
            EXPECT_EQ(stage.stats().gauges.tls_connections, flight < 2 ? 0u : 1u);
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
    const TestCertificate stranger, expired{{.until_s = -60}, &world().authority};
    for (const TestCertificate* shown :
         {static_cast<const TestCertificate*>(nullptr), &stranger, &expired}) {
        Client client(stage, kWebSocket, {.shows = shown});
        client.talk();
        EXPECT_TRUE(client.tls.failed());
    }
    stage.settle(2 * kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::tls_handshake_failed), 3u);
}

// A ticket would let in for ever who has shown a certificate once, since each brings the next.
TEST_P(TlsSession, ATicketIsNoLongerGoodThanTheCertificateThatItIsFor) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        for (const long until_s : {3'600, -60}) {
            // Judges nothing, so that one that has expired since needs no waiting for.
            std::vector<SSL_CTX*> contexts{SSL_CTX_new(TLS_server_method())};
            SSL_CTX_use_certificate(contexts[0], world().leaf.certificate());
            SSL_CTX_use_PrivateKey(contexts[0], world().leaf.key());
            SSL_CTX_set_verify(contexts[0], SSL_VERIFY_PEER,
                               [](int, X509_STORE_CTX*) { return 1; });
            SSL_CTX_set_session_id_context(contexts[0], reinterpret_cast<const unsigned char*>("a"),
                                           1);
            StagePlan asking = plan();
            asking.options.tls_context = TlsContext::make(contexts, std::make_shared<TicketKeys>(),
                                                          {}, TlsSession::is_frozen());
            ReactorStage stage(asking);
            const TestCertificate shown{{.until_s = until_s}, &world().authority};
            TlsPeerPlan peer{.least = version, .most = version, .shows = &shown};
            Client full(stage, kWebSocket, peer);
            full.upgrade();
            peer.resumes = full.tls.session();
            ASSERT_NE(peer.resumes, nullptr);
            Client again(stage, kWebSocket, peer);
            again.upgrade();
            EXPECT_EQ(stage.metrics()[Metric::tls_resumed], until_s > 0 ? 1u : 0u) << version;
        }
    }
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
            Client client(stage, kLines, {.least = TLS1_3_VERSION, .suites = suite});
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
    client.tls.begin_anew();
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
        ASSERT_TRUE(allow_freezing(SSL_get_SSL_CTX(client.tls.ssl())));
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
