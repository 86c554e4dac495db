// A whole run against a server of this process, on each backend: every protocol and behaviour,
// storms, and the observer beside them; what sanitizers are to look at.
#include <gtest/gtest.h>

#include "net/protocols/listen_uri.h"
#include "net/server/server.h"
#include "tools/pulseload/run/run.h"

#include "tests/support/certificates.h"

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer believes that all threads share one descriptor table, and takes the same number
// in two tables for one descriptor. Every such report has a system call of ours on top.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:net/io/system_calls.h"; }
#endif

namespace pulse::load {
namespace {

class LoadThreads : public testing::TestWithParam<BackendChoice> {
  protected:
    void SetUp() override {
        ServerOptions options;
        options.listen.push_back(*parse_listen_uri("auto://127.0.0.1:0"));
        options.tls.certificates = {certificate()};
        options.backend = GetParam();
        options.reactors = 2;
        options.max_connections = 1'000;
        options.heartbeat_interval = 400 * kMillisecond;
        options.heartbeat_timeout = 1'200 * kMillisecond;
        options.handshake_timeout = kSecond;
        options.on_message = OnMessage::echo;
        options.max_message_bytes = options.send_queue_bytes = 65'536;
        const auto plan = plan_server(options);
        if (!plan && GetParam() == BackendChoice::io_uring) GTEST_SKIP() << plan.error();
        ASSERT_TRUE(plan) << plan.error();
        auto server = Server::start(*plan);
        ASSERT_TRUE(server) << server.error();
        server_ = std::move(*server);
        // "auto://127.0.0.1:40123", maybe with words behind it.
        const std::string listening = server_->listening().front();
        const size_t port = listening.find("127.0.0.1:");
        ASSERT_NE(port, listening.npos) << listening;
        Target target;
        target.address = *parse_address(listening.substr(port));
        target.host = target.address.text();
        target.text = "auto://" + target.host;
        options_.targets.push_back(target);
        options_.connections = 120;
        options_.threads = 2;
        options_.heartbeat_interval = 400 * kMillisecond;
        options_.duration = 2 * kSecond;
        options_.mix = *parse_mix("ws=1,ws-json=1,jsonl=1,tcp=1");
        // Under a sanitizer everything is late, and that is not what is tested.
        options_.tolerance = 5 * kSecond;
    }
    // Made once: auto:// serves TLS besides.
    static std::string certificate() {
        static const test::TestFolder folder;
        static const test::TestCertificate made({.names = {"a.example"}, .authority = true});
        return folder.write("a.pem", made.certificate_pem() + made.key_pem());
    }
    RunResult run() {
        const auto layout = lay_out(options_);
        EXPECT_TRUE(layout) << layout.error();
        auto result = run_load(options_, *layout, interrupted_, [&](const Interval& interval) {
            ++samples_;
            EXPECT_GE(interval.now.at_s, interval.before.at_s);
        });
        EXPECT_TRUE(result) << result.error();
        return std::move(*result);
    }

    LoadOptions options_;
    std::unique_ptr<Server> server_;
    std::atomic<int> interrupted_{0};
    int samples_ = 0;
};

TEST_P(LoadThreads, EveryClientBeats) {
    options_.hello = true;
    options_.message_rate = *parse_pace("poisson:200/s");
    const RunResult result = run();
    EXPECT_EQ(result.counts.open, 120u);
    EXPECT_EQ(result.counts.protocol_errors, 0u);
    EXPECT_EQ(result.counts.error_frames, 0u);
    EXPECT_GT(result.counts.pongs, 120u);
    EXPECT_GT(result.counts.messages_returned, 0u);
    const uint64_t timed = result.latency[static_cast<size_t>(Timed::heartbeat)].count();
    EXPECT_EQ(timed, result.counts.pings - result.counts.pings_lost);
    EXPECT_EQ(result.latency[static_cast<size_t>(Timed::connect)].count(), 120u);
    EXPECT_EQ(result.detection.timeout, 1'200 * kMillisecond);
    EXPECT_EQ(result.detection.false_evictions, 0u);
    EXPECT_GE(samples_, 3);
}

// Of four heartbeats one is answered, in each protocol, and none is lost.
TEST_P(LoadThreads, EveryClientAsksForEveryFourthAnswer) {
    options_.answer_every = 4;
    options_.heartbeat_interval = 50 * kMillisecond;
    const RunResult result = run();
    EXPECT_EQ(result.counts.open, 120u);
    EXPECT_EQ(result.counts.protocol_errors, 0u);
    EXPECT_EQ(result.counts.refusals, 0u);
    EXPECT_GT(result.counts.pongs, 120u);
    // Each client is somewhere among its four when the hold ends; late ones go out as one.
    const uint64_t pings = result.counts.pings - result.counts.pings_skipped;
    EXPECT_LE(3 * pings, result.counts.one_way);
    EXPECT_LE(result.counts.one_way, 3 * pings + 3 * 120);
    EXPECT_EQ(result.latency[static_cast<size_t>(Timed::heartbeat)].count(), result.counts.pings);
    EXPECT_EQ(result.detection.false_evictions, 0u);
    const ServerStats& stats = server_->stats();
    // Those of plain WebSocket are pongs, and count as no heartbeats there.
    EXPECT_GT(stats.total.metrics[Metric::heartbeats_received],
              2 * stats.total.metrics[Metric::heartbeats_answered]);
}

TEST_P(LoadThreads, EveryClientMisbehaves) {
    options_.behaviours = *parse_behaviours(
        "beat=30,idle=10,mute=10,vanish=10,slow-reader=5,flapper=10,chatty=10,slowloris=5,"
        "garbage=5,duplicate-login=5");
    options_.message_rate = *parse_pace("200/s");
    options_.flap_interval = 500 * kMillisecond;
    options_.storms.push_back(*parse_storm("kill=50%@500ms,reconnect=full-jitter"));
    options_.storms.push_back(*parse_storm("silence=5@1s"));
    options_.storms.push_back(*parse_storm("vanish=5@1s"));
    options_.reconnect = Reconnect::hint;
    options_.reconnect_base = 100 * kMillisecond;
    const RunResult result = run();
    EXPECT_EQ(result.storms.size(), 3u);
    EXPECT_GT(result.storms[0].killed, 0u);
    EXPECT_GT(result.counts.client_closes, result.storms[0].killed);
    uint64_t silenced = 0;
    uint64_t accounted = 0;
    for (const Detection::Row& row : result.detection.rows) {
        silenced += row.silenced;
        accounted += row.evicted + row.early + row.missed + row.waiting;
        EXPECT_EQ(row.early, 0u);
    }
    EXPECT_GT(silenced, 20u);
    EXPECT_EQ(accounted, silenced);
    ASSERT_TRUE(result.ends);
    const ConnectionOutcome& ends = *result.ends;
    EXPECT_EQ(ends.there + ends.evicted + ends.by_kind + ends.lost, 120u);
    EXPECT_GT(ends.by_kind, 0u);  // slow readers are not lost
}

// Clients leave and come back, and half of their handshakes offer a session; no more connect at
// once than may.
TEST_P(LoadThreads, EveryClientSpeaksTls) {
    options_.targets.front().tls = true;
    options_.tls_verify = true;
    options_.tls_authorities = certificate();
    options_.tls_server_name = "a.example";
    options_.tls_resume = 50;
    options_.tls_handshakes_max = 8;
    options_.behaviours = *parse_behaviours("beat=8,flapper=1,garbage=1");
    options_.flap_interval = 500 * kMillisecond;
    options_.message_rate = *parse_pace("200/s");
    options_.storms.push_back(*parse_storm("kill=50%@500ms,reconnect=none"));
    const RunResult result = run();
    EXPECT_EQ(result.counts.tls_failed, 0u) << testing::PrintToString(result.errors);
    EXPECT_GT(result.counts.tls_full, 0u);
    EXPECT_GT(result.counts.tls_resumed, 0u);
    EXPECT_LE(result.counts.tls_resumed, result.counts.tls_offered);
    EXPECT_LT(result.counts.tls_offered, result.counts.connects);
    EXPECT_EQ(result.storms.front().recovered, result.storms.front().killed);
    EXPECT_GT(result.counts.pongs, 120u);
    EXPECT_GT(result.counts.messages_returned, 0u);
    EXPECT_EQ(result.counts.protocol_errors, 0u);
    EXPECT_EQ(result.detection.false_evictions, 0u);
    ASSERT_TRUE(result.tls);
    ASSERT_EQ(result.tls->suites.size(), 1u);
    EXPECT_EQ(result.tls->suites.front().second,
              result.counts.tls_full + result.counts.tls_resumed);
    EXPECT_EQ(result.latency[static_cast<size_t>(Timed::tls_handshake)].count(),
              result.tls->suites.front().second);
    for (const Sample& sample : result.samples) EXPECT_LE(sample.counts.connecting, 8u);
    EXPECT_GT(server_->stats().total.metrics[Metric::tls_resumed], 0u);
}

// Messages are longer than a read, so that records come in parts. That they are frozen is seen in
// tests/system/load_targets_test.py, by the words for a record that does not open.
TEST_P(LoadThreads, FrozenClientsSpeakTls) {
    options_.targets.front().tls = true;
    options_.tls_frozen = true;
    options_.connections = 40;
    options_.duration = kSecond;
    options_.message_rate = *parse_pace("200/s");
    options_.message_bytes = 40'000;
    const RunResult result = run();
    EXPECT_EQ(result.counts.tls_failed, 0u) << testing::PrintToString(result.errors);
    EXPECT_EQ(result.counts.tls_full, result.counts.connects);
    EXPECT_GT(result.counts.messages_returned, 0u);
    EXPECT_GT(result.counts.pongs, 40u);
    EXPECT_EQ(result.counts.protocol_errors, 0u);
    EXPECT_EQ(result.detection.false_evictions, 0u);
}

// Those that come back wait for each other, which is not the generator's lateness.
TEST_P(LoadThreads, WaitingForAHandshakeIsNoFaultOfTheGenerator) {
    options_.targets.front().tls = true;
    options_.tls_handshakes_max = 1;
    options_.storms.push_back(*parse_storm("kill=100%@100ms,reconnect=none"));
    const RunResult result = run();
    EXPECT_EQ(result.storms.front().recovered, result.storms.front().killed);
    const auto latency = [&](Timed timed) { return result.latency[static_cast<size_t>(timed)]; };
    const Nanos longest = latency(Timed::connect).max();
    EXPECT_GT(2 * latency(Timed::connect_service).max(), longest);
    EXPECT_GT(static_cast<double>(longest), 2 * latency(Timed::tls_handshake).mean());
    for (const Sample& sample : result.samples) EXPECT_LE(sample.counts.connecting, 2u);
}

TEST_P(LoadThreads, ACertificateOfAnotherNameIsReported) {
    options_.targets.front().tls = true;
    options_.tls_verify = true;
    options_.tls_authorities = certificate();
    options_.duration = 200 * kMillisecond;
    options_.tls_server_name = "b.example";
    const RunResult result = run();
    EXPECT_EQ(result.counts.open, 0u);
    EXPECT_EQ(result.counts.connect_failures, 120u);
    EXPECT_EQ(result.counts.tls_failed, 120u);
    ASSERT_EQ(result.tls->failures.size(), 1u);
    EXPECT_EQ(result.tls->failures.front().first, "certificate verify failed: hostname mismatch");
    ASSERT_FALSE(result.errors.empty());
    EXPECT_NE(result.errors.front().find("--tls-server-name"), std::string::npos);
}

TEST_P(LoadThreads, AnInterruptEndsItEarlyWithAllItHas) {
    options_.duration = 3'600 * kSecond;
    interrupted_ = 15;
    const RunResult result = run();
    EXPECT_TRUE(result.cut_short);
    EXPECT_EQ(result.cut_short_by, "SIGTERM");
    EXPECT_LT(result.ended_s, 60);
}

TEST_P(LoadThreads, AClosedPortIsReported) {
    options_.targets.front().address = *parse_address("127.0.0.1:1");
    options_.duration = 200 * kMillisecond;
    const RunResult result = run();
    EXPECT_EQ(result.counts.connect_failures, 120u);
    EXPECT_EQ(result.counts.open, 0u);
    ASSERT_FALSE(result.errors.empty());
    EXPECT_NE(result.errors.front().find("refused"), std::string::npos) << result.errors.front();
}

INSTANTIATE_TEST_SUITE_P(Backends, LoadThreads,
                         testing::Values(BackendChoice::epoll, BackendChoice::io_uring),
                         [](const auto& param) {
                             return param.param == BackendChoice::epoll ? "epoll" : "io_uring";
                         });

}  // namespace
}  // namespace pulse::load
