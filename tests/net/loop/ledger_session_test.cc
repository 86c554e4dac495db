// What a reactor remembers of connections that end, and tells of those that are open: the whole
// loop over the simulated kernel.
#include <gtest/gtest.h>

#include "core/sessions/explain.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

constexpr size_t kLines = 0, kBinary = 1, kProxied = 2;

// Counts what a close asks the kernel for.
class CountingKernel : public SimBackend {
  public:
    using SimBackend::SimBackend;
    TransportFacts transport_facts(Index index) {
        ++asked;
        return SimBackend::transport_facts(index);
    }
    int asked = 0;
};
using LedgerStage = ReactorStageOn<CountingKernel>;

StagePlan plan(uint32_t ledger) {
    StagePlan plan{.listen = {"jsonl://10.0.0.1:9000", "tcp://10.0.0.1:9001",
                              "jsonl://10.0.0.1:9002?proxy=on"}};
    plan.options.heartbeat_interval = 10 * kSecond;
    plan.options.heartbeat_timeout = 25 * kSecond;
    plan.ledger_entries = ledger;
    return plan;
}

const Ledger& ledger(LedgerStage& stage) { return stage.reactor().connections().ledger(); }
const Evidence& newest(LedgerStage& stage) {
    const Ledger& kept = ledger(stage);
    PULSE_ASSERT(kept.size() > 0);
    return *kept.find(kept.next() - 1);
}
std::string told(LedgerStage& stage, const Evidence& evidence) {
    return stage.reactor().connections().explain(evidence);
}
void expect_in(const std::string& text, std::string_view part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

size_t speaks(LedgerStage& stage, size_t listener, std::string_view words = "PING\n") {
    const size_t peer = stage.connect(listener, "192.0.2.7:40001");
    stage.write(peer, words);
    stage.settle();
    return peer;
}

TEST(LedgerOfAReactor, RemembersASilenceWithItsProbes) {
    LedgerStage stage(plan(10));
    const size_t peer = speaks(stage, kLines);
    const Index index = *stage.index(peer);
    stage.settle(26 * kSecond);
    const Evidence& evidence = newest(stage);
    EXPECT_EQ(evidence.reason, CloseReason::idle_timeout);
    EXPECT_EQ(evidence.id.index, index);
    EXPECT_EQ(evidence.listener, kLines);
    EXPECT_EQ(socket_address(evidence.peer).text(), "192.0.2.7:40001");
    EXPECT_EQ(evidence.probes_sent, 2);
    EXPECT_GE(evidence.at - evidence.heard_at, 25 * kSecond);
    EXPECT_LE(evidence.at - evidence.heard_at, 26 * kSecond);
    EXPECT_EQ(evidence.transport.received_bytes, 5u);
    EXPECT_TRUE(evidence.said_goodbye);
    EXPECT_EQ(peer_state(evidence), PeerState::silent);
    EXPECT_EQ(evidence.end, SocketEnd::none) << "the linger runs";
    expect_in(told(stage, evidence), "is closing as idle_timeout after 25.");
    stage.settle(3 * kSecond);
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_TRUE(evidence.goodbye_taken);
    EXPECT_EQ(evidence.end, SocketEnd::reset) << "its peer did not end the stream";
    EXPECT_GT(evidence.ended_at, evidence.at + kSecond / 2);
    expect_in(told(stage, evidence), "was closed as idle_timeout after 26.");
    expect_in(told(stage, evidence), "2 probes were sent since, the last one ");
}

TEST(LedgerOfAReactor, RemembersFaultsWithTheirDetailAndGoodbyesWithTheirCode) {
    LedgerStage stage(plan(10));
    const size_t broken = speaks(stage, kBinary, std::string("\xB7\x63\0\0\0\0\0\0", 8));
    EXPECT_EQ(newest(stage).reason, CloseReason::protocol_error);
    EXPECT_EQ(newest(stage).detail.view(), "unknown frame type");
    stage.close(broken, false);
    speaks(stage, kLines, "{\"type\":\"goodbye\",\"code\":1001}\n");
    EXPECT_EQ(newest(stage).reason, CloseReason::peer_goodbye);
    EXPECT_EQ(newest(stage).peer_code, 1001);
    const size_t reset = speaks(stage, kLines);
    stage.close(reset, true);
    stage.settle();
    EXPECT_EQ(newest(stage).reason, CloseReason::peer_reset);
    EXPECT_EQ(newest(stage).error, ECONNRESET);
    expect_in(told(stage, newest(stage)), "errno 104");
    const size_t kicked = speaks(stage, kLines);
    stage.post({.body = Message::Kick{stage.table().id(*stage.index(kicked))}});
    stage.settle();
    EXPECT_EQ(newest(stage).reason, CloseReason::kicked);
    EXPECT_EQ(ledger(stage).size(), 4u) << "one entry for each";
}

TEST(LedgerOfAReactor, HasTheAddressThatAProxyHeaderNamed) {
    LedgerStage stage(plan(10));
    const size_t peer = stage.connect(kProxied, "127.0.0.1:5000");
    stage.write(peer, "PROXY TCP6 2001:db8::7 2001:db8::1 443 9000\r\nPING\n");
    stage.settle();
    const Connections& connections = stage.reactor().connections();
    EXPECT_EQ(socket_address(connections.evidence(*stage.index(peer)).peer).text(),
              "[2001:db8::7]:443");
    stage.finish(peer);
    stage.settle();
    EXPECT_TRUE(newest(stage).proxied);
    EXPECT_EQ(socket_address(newest(stage).peer).text(), "[2001:db8::7]:443");
    // The next owner of the place has its own.
    stage.close(peer, false);
    stage.settle(2 * kSecond);
    const size_t next = stage.connect(kProxied, "127.0.0.1:5001");
    stage.write(next, "PROXY UNKNOWN\r\nPING\n");
    stage.settle();
    const Evidence evidence = connections.evidence(*stage.index(next));
    EXPECT_FALSE(evidence.proxied);
    EXPECT_EQ(socket_address(evidence.peer).text(), "127.0.0.1:5001");
}

TEST(LedgerOfAReactor, TellsOfOneThatIsOpen) {
    for (const uint32_t kept : {0u, 10u}) {
        LedgerStage stage(plan(kept));
        const size_t peer = speaks(stage, kLines);
        stage.settle(4 * kSecond);
        const Connections& connections = stage.reactor().connections();
        const Evidence evidence = connections.evidence(*stage.index(peer));
        EXPECT_FALSE(evidence.closing());
        EXPECT_EQ(evidence.accepted_at != 0, kept > 0);
        EXPECT_NEAR(static_cast<double>(evidence.deadline - evidence.at), 21e9, 0.1e9);
        EXPECT_NEAR(static_cast<double>(evidence.next_probe_at - evidence.at), 7.25e9, 0.1e9);
        expect_in(told(stage, evidence), kept > 0 ? "is open for 4.0" : "is open.");
        expect_in(told(stage, evidence), "evicted as idle_timeout in ");
    }
}

TEST(LedgerOfAReactor, CostsNothingWhereItIsOff) {
    LedgerStage stage(plan(0));
    for (int i = 0; i < 5; ++i) stage.close(speaks(stage, kLines), i % 2 == 0);
    stage.settle(3 * kSecond);
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_EQ(stage.io().asked, 0) << "a close asks the kernel nothing";
    ReactorStats stats;
    stage.reactor().fill(stats);
    EXPECT_EQ(stats.gauges.ledger_bytes, 0u);
    EXPECT_EQ(ledger(stage).size(), 0u);
    LedgerStage on(plan(10));
    for (int i = 0; i < 5; ++i) on.close(speaks(on, kLines), i % 2 == 0);
    on.settle(3 * kSecond);
    EXPECT_EQ(on.io().asked, 5) << "once for each";
}

// The entry of one that still ends may be another's already.
TEST(LedgerOfAReactor, ForgetsThoseThatNewerOnesPushOutWhileTheyEnd) {
    LedgerStage stage(plan(3));
    std::vector<size_t> peers;
    for (int i = 0; i < 20; ++i) peers.push_back(speaks(stage, kLines));
    for (const size_t peer : peers) stage.finish(peer);
    stage.settle(100 * kMillisecond);
    for (const size_t peer : peers) stage.close(peer, false);
    stage.settle(3 * kSecond);
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_EQ(ledger(stage).size(), 3u);
    EXPECT_EQ(ledger(stage).next(), 20u);
    for (uint64_t number = ledger(stage).first(); number < ledger(stage).next(); ++number)
        EXPECT_EQ(ledger(stage).find(number)->reason, CloseReason::peer_closed);
}

// Where that is kept changes with each login; the record has no other room for it.
TEST(LedgerOfAReactor, KnowsWhenItWasAcceptedThroughLogins) {
    StagePlan with = plan(10);
    with.options.duplicate.rule = DuplicateRule::reject;
    LedgerStage stage(with);
    const Connections& connections = stage.reactor().connections();
    const size_t other = speaks(stage, kLines, "{\"type\":\"hello\",\"user\":\"taken\"}\n");
    const Nanos came = stage.network().clock();
    const size_t peer = speaks(stage, kLines);
    const auto expect_known = [&](const Evidence& evidence, bool logged_in, const char* when) {
        EXPECT_NEAR(static_cast<double>(evidence.accepted_at), static_cast<double>(came), 40e6)
            << when;
        EXPECT_EQ(evidence.user != 0, logged_in) << when;
    };
    const auto says_hello = [&](std::string_view user) {
        stage.write(peer, "{\"type\":\"hello\",\"user\":\"" + std::string(user) + "\"}\n");
        stage.settle();
        return connections.evidence(*stage.index(peer));
    };
    expect_known(connections.evidence(*stage.index(peer)), false, "anonymous");
    const Evidence first = says_hello("u1");
    expect_known(first, true, "logged in");
    EXPECT_EQ(first.user, connections.logins().number_of("u1"));
    expect_known(says_hello("u1"), true, "again");
    expect_known(says_hello("u2"), true, "as another user");
    stage.settle(3 * kSecond);
    stage.finish(peer);
    stage.settle();
    expect_known(newest(stage), true, "closed");
    const size_t refused = speaks(stage, kLines, "{\"type\":\"hello\",\"user\":\"taken\"}\n");
    EXPECT_EQ(newest(stage).reason, CloseReason::duplicate_login);
    EXPECT_NE(newest(stage).accepted_at, 0);
    for (const size_t each : {peer, other, refused}) stage.close(each, true);
    stage.settle(3 * kSecond);
    EXPECT_EQ(stage.table().live(), 0u);
}

// A ring of another length, and connections that were accepted before.
TEST(LedgerOfAReactor, GoesOnWhenTheDebugLogIsSwitched) {
    StagePlan with = plan(3);
    with.keeps_debug_lines = true;
    LedgerStage stage(with);
    const size_t stays = speaks(stage, kLines);
    for (int i = 0; i < 5; ++i) stage.close(speaks(stage, kLines), true);
    stage.settle(kSecond);
    EXPECT_EQ(ledger(stage).limit(), kLedgerEntriesForLog);
    EXPECT_EQ(ledger(stage).size(), 5u);
    stage.reload([](LoopOptions& options) { options.log_level = LogLevel::info; });
    stage.settle(kSecond);
    EXPECT_EQ(ledger(stage).limit(), 3u);
    EXPECT_EQ(ledger(stage).size(), 3u) << "the newest of them";
    const Connections& connections = stage.reactor().connections();
    expect_in(told(stage, connections.evidence(*stage.index(stays))), "is open for 2.");
}

}  // namespace
}  // namespace pulse::test
