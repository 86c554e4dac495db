// What a reactor remembers of connections that end, tells of those that are open, and hands over as
// traces: the whole loop over the simulated kernel.
#include <gtest/gtest.h>

#include "core/random.h"
#include "core/sessions/explain.h"
#include "net/loop/trace_table.h"

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
        EXPECT_NE(evidence.accepted_at, 0) << "also where nothing is kept";
        EXPECT_NEAR(static_cast<double>(evidence.deadline - evidence.at), 21e9, 0.1e9);
        EXPECT_NEAR(static_cast<double>(evidence.next_probe_at - evidence.at), 7.25e9, 0.1e9);
        expect_in(told(stage, evidence), "is open for 4.0");
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

// ------------------------------------------------------------------------------------------ traces
constexpr size_t kUpgrades = 3;

class TracesOfAReactor : public ::testing::Test {
  protected:
    LedgerStage& begin(uint32_t ratio, uint32_t kept = 10) {
        StagePlan with = plan(kept);
        with.listen.push_back("ws://10.0.0.1:9003");
        with.options.trace_ratio = ratio;
        with.traces = &queue_;
        with.trace_key = {7, 8};
        with.places = 2'048;
        return stage_.emplace(with);
    }
    std::vector<TraceRecord> taken() {
        std::vector<TraceRecord> records;
        queue_.pop_batch(queue_.capacity(),
                         [&](const TraceRecord& each) { records.push_back(each); });
        return records;
    }
    TraceRecord only() {
        const std::vector<TraceRecord> records = taken();
        EXPECT_EQ(records.size(), 1u);
        return records.empty() ? TraceRecord{} : records[0];
    }
    void upgrade(size_t peer, const std::string& traceparent) {
        stage_->write(peer,
                      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                      "traceparent: " +
                          traceparent + "\r\n\r\n");
        stage_->settle();
    }
    void end(size_t peer) {
        stage_->close(peer, true);
        stage_->settle();
    }

    TraceQueue queue_{kTraceQueueSlots};
    std::optional<LedgerStage> stage_;
};

TEST_F(TracesOfAReactor, HaveWhatASampledConnectionDid) {
    LedgerStage& stage = begin(kTraceRatioOne);
    const Nanos came = stage.network().clock();
    const size_t peer =
        speaks(stage, kLines, "{\"type\":\"hello\"}\nPING\nPING\n{\"type\":\"data\"}\n");
    const ConnectionId id = stage.table().id(*stage.index(peer));
    stage.settle(12 * kSecond);
    stage.write(peer, "{\"type\":\"pong\"}\n");
    stage.settle(kSecond);
    EXPECT_TRUE(taken().empty()) << "it has not ended";
    end(peer);
    const TraceRecord record = only();
    EXPECT_TRUE(record.sampled && !record.parent_remote && !record.refused);
    EXPECT_EQ(record.facts.id, id);
    EXPECT_EQ(record.facts.reason, CloseReason::peer_reset);
    EXPECT_NEAR(static_cast<double>(record.accepted_at), static_cast<double>(came), 5e6);
    EXPECT_GE(record.hello_at, record.accepted_at);
    EXPECT_EQ(record.upgraded_at, 0);
    EXPECT_EQ(record.messages, 5u);
    EXPECT_EQ(record.heartbeats, 2u);
    EXPECT_EQ(record.probes, 1u);
    EXPECT_EQ(record.probe_answers, 1u);
    EXPECT_GE(record.ended_at, record.facts.at);
    EXPECT_EQ(record.ids.trace, span_ids_of({7, 8}, 0, id).trace);
    EXPECT_EQ(stage.metrics()[Metric::traced], 1u);
    EXPECT_EQ(stage.record(peer), nullptr);
}

TEST_F(TracesOfAReactor, AreAShareThatTheIdsDecide) {
    LedgerStage& stage = begin(100'000);
    uint64_t expected = 0;
    constexpr int kPeers = 500;
    for (int i = 0; i < kPeers; ++i) {
        const size_t peer = speaks(stage, kLines);
        const ConnectionId id = stage.table().id(*stage.index(peer));
        const bool sampled = TraceRatio(100'000).samples(span_ids_of({7, 8}, 0, id).trace);
        EXPECT_EQ((stage.record(peer)->flags & kTraced) != 0, sampled);
        expected += sampled;
        end(peer);
        EXPECT_EQ(taken().size(), sampled ? 1u : 0u);
    }
    EXPECT_EQ(stage.metrics()[Metric::traced], expected);
    EXPECT_GT(expected, 20u);
    EXPECT_LT(expected, 90u);
    stage.reload([](LoopOptions& options) { options.trace_ratio = 0; });
    for (int i = 0; i < 50; ++i) end(speaks(stage, kLines));
    EXPECT_TRUE(taken().empty()) << "the ratio is live";
}

TEST_F(TracesOfAReactor, HaveEndsThatAreAnomaliesUnsampled) {
    LedgerStage& stage = begin(0);
    end(speaks(stage, kLines));
    const size_t leaves = speaks(stage, kLines, "{\"type\":\"goodbye\"}\n");
    end(leaves);
    EXPECT_TRUE(taken().empty()) << "these are none";
    end(speaks(stage, kBinary, std::string("\xB7\x63\0\0\0\0\0\0", 8)));
    const TraceRecord broken = only();
    EXPECT_EQ(broken.facts.reason, CloseReason::protocol_error);
    EXPECT_FALSE(broken.sampled);
    EXPECT_EQ(broken.facts.detail.view(), "unknown frame type");
    const size_t silent = speaks(stage, kLines);
    const ConnectionId id = stage.table().id(*stage.index(silent));
    stage.settle(28 * kSecond);
    const TraceRecord evicted = only();
    EXPECT_EQ(evicted.facts.reason, CloseReason::idle_timeout);
    EXPECT_EQ(evicted.facts.probes_sent, 2);
    EXPECT_EQ(evicted.ids.trace, span_ids_of({7, 8}, 0, id).trace) << "as if it were sampled";
    EXPECT_NE(evicted.accepted_at, 0);
    EXPECT_EQ(stage.metrics()[Metric::traced_anomalies], 2u);
    EXPECT_EQ(stage.metrics()[Metric::traced], 0u);
}

// In a second so many, and what is beyond is counted; without a ledger they are kept all the same.
TEST_F(TracesOfAReactor, OfAnomaliesAreBounded) {
    LedgerStage& stage = begin(0, 0);
    constexpr uint32_t kMany = kTraceAnomaliesPerSecond + 44;
    std::vector<size_t> peers;
    for (uint32_t i = 0; i < kMany; ++i) peers.push_back(stage.connect(kBinary));
    stage.settle();
    for (const size_t peer : peers) stage.write(peer, std::string("\xB7\x63\0\0\0\0\0\0", 8));
    stage.settle();
    for (const size_t peer : peers) stage.close(peer, false);
    stage.settle(100 * kMillisecond);
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_EQ(taken().size(), kTraceAnomaliesPerSecond);
    EXPECT_EQ(stage.metrics()[Metric::traces_lost_rate], 44u);
}

TEST_F(TracesOfAReactor, AreLostAndCountedWhereNoneIsTaken) {
    LedgerStage& stage = begin(kTraceRatioOne);
    constexpr uint32_t kRoom = kTraceQueueSlots - kTraceQueueReserve;
    for (uint32_t i = 0; i < kRoom + 7; ++i) end(speaks(stage, kLines));
    EXPECT_EQ(stage.metrics()[Metric::traces_lost_queue_full], 7u);
    EXPECT_EQ(taken().size(), kRoom);
}

const std::string kClientTrace = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-";

// What is sampled, by the ratio or because its peer forces it, fills the queue to the reserve, and
// ends of interest find room behind it, sampled or not.
TEST_F(TracesOfAReactor, OfAnomaliesHaveRoomOfTheirOwn) {
    LedgerStage& stage = begin(0);
    const auto forced = [&] {
        const size_t peer = stage.connect(kUpgrades, "192.0.2.7:0");
        upgrade(peer, "00-" + kClientTrace + "01");
        return peer;
    };
    const std::string broken("\xB7\x63\0\0\0\0\0\0", 8);
    for (uint32_t i = 0; i < kTraceQueueSlots; ++i) end(forced());
    EXPECT_EQ(stage.metrics()[Metric::traces_lost_queue_full], kTraceQueueReserve);
    for (uint32_t i = 0; i < kTraceQueueReserve - 1; ++i) end(speaks(stage, kBinary, broken));
    const size_t both = forced();
    stage.write(both, "\xff\xff\xff\xff");  // reserved bits
    stage.settle();
    end(both);
    EXPECT_EQ(stage.metrics()[Metric::traces_lost_queue_full], kTraceQueueReserve);
    EXPECT_EQ(stage.metrics()[Metric::traced_anomalies], kTraceQueueReserve - 1);
    const std::vector<TraceRecord> records = taken();
    ASSERT_EQ(records.size(), kTraceQueueSlots);
    EXPECT_TRUE(records.back().sampled && records.back().anomaly);
    EXPECT_EQ(records.back().facts.reason, CloseReason::protocol_error);
    end(speaks(stage, kBinary, broken));
    end(forced());
    EXPECT_EQ(taken().size(), 2u) << "there is room again for either";
}

TEST_F(TracesOfAReactor, GoOnWithTheTraceOfAnUpgrade) {
    LedgerStage& stage = begin(0);
    const size_t asked = stage.connect(kUpgrades, "192.0.2.7:40001");
    upgrade(asked, "00-" + kClientTrace + "01");
    EXPECT_NE(stage.record(asked)->flags & kTraced, 0);
    end(asked);
    const TraceRecord record = only();
    EXPECT_TRUE(record.sampled && record.parent_remote);
    EXPECT_EQ(record.ids.trace[0], 0x4b);
    EXPECT_EQ(record.ids.parent, (SpanId{0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7}));
    EXPECT_GE(record.upgraded_at, record.accepted_at);
    EXPECT_NE(record.accepted_at, 0);
    const size_t malformed = stage.connect(kUpgrades);
    upgrade(malformed, "00-" + kClientTrace + "1");
    EXPECT_EQ(stage.record(malformed)->flags & kTraced, 0);
    EXPECT_TRUE(stage.heard(malformed).starts_with("HTTP/1.1 101 ")) << "and is let in";
    end(malformed);
    EXPECT_TRUE(taken().empty());
}

TEST_F(TracesOfAReactor, AreNotMadeWhereTheClientHasDecidedSo) {
    LedgerStage& stage = begin(kTraceRatioOne);
    const size_t not_sampled = stage.connect(kUpgrades);
    stage.settle();
    EXPECT_NE(stage.record(not_sampled)->flags & kTraced, 0) << "by the ratio";
    upgrade(not_sampled, "00-" + kClientTrace + "00");
    EXPECT_EQ(stage.record(not_sampled)->flags & kTraced, 0);
    end(not_sampled);
    EXPECT_TRUE(taken().empty());
}

TEST_F(TracesOfAReactor, GoOnWithTheTraceOfAHello) {
    LedgerStage& stage = begin(0);
    const auto hello = [](const std::string& user, const std::string& traceparent) {
        return "{\"type\":\"hello\"," + user + "\"traceparent\":\"" + traceparent + "\"}\n";
    };
    const size_t peer = speaks(stage, kLines, "PING\n");
    stage.settle(kSecond);
    stage.write(peer, hello("\"user\":\"u1\",", "00-" + kClientTrace + "01"));
    stage.settle();
    // The first one counts.
    stage.write(peer, hello("", "00-" + std::string(32, '7') + "-00f067aa0ba902b7-00"));
    stage.settle();
    end(peer);
    const TraceRecord record = only();
    EXPECT_TRUE(record.sampled && record.parent_remote);
    EXPECT_EQ(record.ids.trace[0], 0x4b);
    EXPECT_GE(record.hello_at - record.accepted_at, 950 * kMillisecond);
    end(speaks(stage, kLines, hello("", "nonsense")));
    EXPECT_TRUE(taken().empty());
}

TEST_F(TracesOfAReactor, AreAsManyAsMayBe) {
    HeapPages pages;
    TraceTable table(pages, &queue_);
    ASSERT_TRUE(table.on());
    // Indexes in no order, with others ended in between: each is found, whatever chains they form.
    std::vector<Index> open;
    Random random(3);
    Index next = 0;
    for (int step = 0; step < 60'000; ++step) {
        if (random.chance(1, 3) && !open.empty()) {
            const size_t at = random.below(open.size());
            EXPECT_EQ(table.at(open[at]).index, open[at]);
            table.end(open[at]);
            open[at] = open.back();
            open.pop_back();
            continue;
        }
        next += 1 + static_cast<Index>(random.below(100));
        TraceTable::Entry* const entry = table.begin(next, {}, step);
        ASSERT_EQ(entry != nullptr, open.size() < kTracedMax);
        if (entry != nullptr) open.push_back(next);
    }
    EXPECT_EQ(table.traced(), kTracedMax);
    for (const Index index : open) EXPECT_EQ(table.at(index).index, index);
}

TEST_F(TracesOfAReactor, HaveThoseThatWereRefusedForWantOfMemory) {
    StagePlan with = plan(10);
    with.options.overload = OverloadStep::refuse;
    with.options.overload_span = 100 * kMillisecond;
    with.traces = &queue_;
    LedgerStage stage(with);
    stage.admission().set_memory_step(OverloadStep::refuse);
    stage.settle(kSecond);
    const size_t peer = stage.connect(kLines, "192.0.2.7:40001");
    stage.settle();
    EXPECT_TRUE(stage.ended(peer));
    const TraceRecord record = only();
    EXPECT_TRUE(record.refused);
    EXPECT_EQ(record.facts.reason, CloseReason::overloaded);
    EXPECT_EQ(socket_address(record.facts.peer).text(), "192.0.2.7:40001");
    EXPECT_TRUE(is_present(record.ids.trace) && is_present(record.ids.span));
}

}  // namespace
}  // namespace pulse::test
