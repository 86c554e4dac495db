// How often a peer is probed and how long its interval is, where that is found out for each: quick
// probes, adaptive intervals, side connections. The whole loop over the simulated kernel.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/units.h"
#include "net/loop/profiles.h"

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

// A kernel that says of what was sent what a test wants.
class SayingKernel : public SimBackend {
  public:
    using SimBackend::SimBackend;
    TransportFacts transport_facts(Index index) {
        TransportFacts facts = SimBackend::transport_facts(index);
        if (cut_off) facts.unacked_bytes = 8;
        return facts;
    }
    SendProgress send_progress(Index index) {
        SendProgress progress = SimBackend::send_progress(index);
        if (cut_off) progress.waiting_bytes = 8;
        return progress;
    }
    bool send(Index index, std::span<const uint8_t> bytes) {
        if (const Nanos takes = std::exchange(send_takes, 0); takes > 0) pass_time(takes);
        waits_ = true;
        return SimBackend::send(index, bytes);
    }
    void submit() {
        be_away();
        SimBackend::submit();
    }
    template <class H>
    void poll(Nanos until, H& handler) {
        be_away();
        SimBackend::poll(until, handler);
    }
    bool cut_off = false;
    Nanos send_takes = 0;    // the next one
    Nanos submit_takes = 0;  // of a send, to the kernel, by whatever is called first behind it

  private:
    void be_away() {
        if (!std::exchange(waits_, false)) return;
        if (const Nanos takes = std::exchange(submit_takes, 0); takes > 0) pass_time(takes);
    }
    bool waits_ = false;
};
using PacingStage = ReactorStageOn<SayingKernel>;

constexpr std::string_view kProbe = "{\"type\":\"ping\"}\n";
constexpr std::string_view kPong = "{\"type\":\"pong\"}\n";

size_t probes(PacingStage& stage, size_t peer) {
    size_t count = 0;
    const std::string& heard = stage.heard(peer);
    for (size_t at = heard.find(kProbe); at != std::string::npos; at = heard.find(kProbe, at + 1))
        ++count;
    return count;
}
uint64_t count(const PacingStage& stage, Metric metric) { return stage.metrics()[metric]; }

StagePlan plan(Nanos suspect_probe = kSecond) {
    StagePlan plan{.listen = {"jsonl://10.0.0.1:9000", "ws://10.0.0.1:9001"}};
    plan.options.suspect_probe = suspect_probe;
    return plan;
}

size_t join(PacingStage& stage, std::string_view words) {
    const size_t peer = stage.connect(0);
    stage.write(peer, words);
    stage.settle();
    stage.heard(peer).clear();
    return peer;
}
// Says nothing but the answers to so many probes, each so late.
void answer_probes(PacingStage& stage, size_t peer, int times, Nanos late) {
    for (int left = times * 20'000; times > 0 && left > 0; --left) {
        stage.settle(10 * kMillisecond);
        if (probes(stage, peer) == 0) continue;
        stage.settle(late);
        stage.heard(peer).clear();
        stage.write(peer, kPong);
        --times;
    }
    ASSERT_EQ(times, 0) << "it was not probed";
    stage.settle();
    stage.heard(peer).clear();
}

TEST(QuickProbes, FollowAnAnswerThatIsLate) {
    PacingStage stage(plan());
    const size_t peer = join(stage, "{\"type\":\"hello\",\"user\":\"u\"}\n");
    answer_probes(stage, peer, 8, 100 * kMillisecond);
    EXPECT_EQ(count(stage, Metric::suspects), 0u);
    const RoundTrip trip = stage.reactor().connections().round_trip(*stage.index(peer));
    EXPECT_NEAR(static_cast<double>(trip.smoothed()) / kMillisecond, 100, 25);
    // An interval and its grace after the last answer.
    stage.settle(31 * kSecond);
    EXPECT_EQ(probes(stage, peer), 0u);
    stage.settle(1'100 * kMillisecond);
    EXPECT_EQ(probes(stage, peer), 1u);
    stage.settle(400 * kMillisecond);
    EXPECT_EQ(probes(stage, peer), 2u) << "its round trip and four deviations are over";
    EXPECT_EQ(count(stage, Metric::suspects), 1u);
    EXPECT_EQ(count(stage, Metric::suspects_cut_off), 0u) << "its host has all of it";
    EXPECT_EQ(stage.stats().gauges.users_suspect, 1u);
    stage.settle(10 * kSecond);
    EXPECT_EQ(probes(stage, peer), 2 + kSuspectProbesMax);
    stage.settle(15 * kSecond);
    EXPECT_EQ(probes(stage, peer), 2 + kSuspectProbesMax) << "then an interval passes";
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
    stage.settle(33 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 1u) << "by the timeout that it was told";
    stage.reactor().connections().validate();
}

TEST(QuickProbes, AreNotSentToThoseThatAnswerAsTheyDo) {
    for (const Nanos late : {5 * kMillisecond, 700 * kMillisecond, 2'500 * kMillisecond}) {
        PacingStage stage(plan());
        const size_t peer = join(stage, "PING\n");
        answer_probes(stage, peer, 20, late);
        EXPECT_EQ(count(stage, Metric::probes_sent), 20u) << format_duration(late);
        EXPECT_EQ(count(stage, Metric::suspects), 0u) << format_duration(late);
    }
}

TEST(QuickProbes, FindOutWhetherTheHostIsThere) {
    PacingStage stage(plan());
    const size_t peer = join(stage, "PING\n");
    answer_probes(stage, peer, 1, 20 * kMillisecond);
    stage.io().cut_off = true;
    stage.settle(36 * kSecond);
    EXPECT_EQ(count(stage, Metric::suspects), 1u);
    EXPECT_EQ(count(stage, Metric::suspects_cut_off), 1u);
}

TEST(QuickProbes, LeaveTheTimesOfAnotherPeerBehind) {
    StagePlan one_place = plan();
    one_place.places = 1;
    PacingStage stage(one_place);
    const size_t slow = join(stage, "PING\n");
    answer_probes(stage, slow, 2, 2 * kSecond);
    stage.close(slow, true);
    stage.settle(kSecond);
    const size_t other = join(stage, "PING\n");
    EXPECT_FALSE(stage.reactor().connections().round_trip(*stage.index(other)).known());
}

// ---------------------------------------------------------------------------------------- misses

constexpr size_t kLines = 0, kWebSocket = 1;

StagePlan missing(uint32_t misses = 3) {
    StagePlan missing = plan();
    missing.options.suspect_misses = misses;
    missing.options.on_message = OnMessage::echo;
    missing.ledger_entries = 10;
    return missing;
}
const Evidence& newest(PacingStage& stage) {
    const Ledger& ledger = stage.reactor().connections().ledger();
    PULSE_ASSERT(ledger.size() > 0);
    return *ledger.find(ledger.next() - 1);
}
// One that answers within 100 ms, and has done so for the last time.
size_t answerer(PacingStage& stage) {
    const size_t peer = join(stage, "PING\n");
    answer_probes(stage, peer, 8, 100 * kMillisecond);
    return peer;
}
// Until its next probe leaves.
void await_probe(PacingStage& stage, size_t peer) {
    const size_t before = probes(stage, peer);
    for (int left = 4'000; left > 0 && probes(stage, peer) == before; --left)
        stage.settle(10 * kMillisecond);
    ASSERT_GT(probes(stage, peer), before);
}
// It is there for its timeout, and then it is not.
void expect_whole_timeout(PacingStage& stage, Nanos heard_at) {
    stage.settle(heard_at + 89 * kSecond - stage.network().clock());
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
    stage.settle(2 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 1u);
    EXPECT_EQ(count(stage, Metric::evicted_by_misses), 0u);
    stage.reactor().connections().validate();
}

TEST(Misses, EvictOneThatAnsweredBeforeAndDoesNotNow) {
    for (const uint32_t misses : {2u, 3u, 5u, 9u}) {
        PacingStage stage(missing(misses));
        const size_t peer = answerer(stage);
        const Nanos heard_at = stage.network().clock();
        stage.settle(31'900 * kMillisecond);
        EXPECT_EQ(probes(stage, peer), 0u);
        await_probe(stage, peer);
        // The last but one quick interval, and the last; what the first has is less, but for two.
        const Nanos wait =
            stage.reactor().connections().round_trip(*stage.index(peer)).answer_wait(30 * kSecond);
        const Nanos least = std::max(Nanos{misses - 2} * kSecond + wait + kSecond, 3 * wait);
        stage.settle(least - 50 * kMillisecond);
        EXPECT_EQ(count(stage, Metric::evicted), 0u) << misses;
        EXPECT_EQ(probes(stage, peer), misses);
        stage.settle(100 * kMillisecond + misses * kSecond / 100);  // each to whole ticks
        EXPECT_EQ(count(stage, Metric::evicted), 1u) << misses;
        EXPECT_EQ(count(stage, Metric::evicted_by_misses), 1u);
        EXPECT_EQ(probes(stage, peer), misses);
        const Evidence& end = newest(stage);
        EXPECT_EQ(end.reason, CloseReason::idle_timeout);
        EXPECT_EQ(end.detail.view(), "missed probes");
        EXPECT_NEAR(static_cast<double>(end.at - heard_at) / kSecond,
                    32.0 + static_cast<double>(least) / kSecond, 0.2);
        const std::string words = stage.reactor().connections().explain(end);
        EXPECT_NE(words.find(std::to_string(misses) + " probes had no answer in time"),
                  std::string::npos)
            << words;
        stage.reactor().connections().validate();
    }
}

TEST(Misses, DoNotCountForOneThatIsNotKnownToAnswer) {
    PacingStage stage(missing());
    const size_t peer = join(stage, "PING\n");
    stage.settle(20 * kSecond);
    stage.write(peer, "PING\n");
    stage.settle();
    expect_whole_timeout(stage, stage.network().clock());
    EXPECT_GT(probes(stage, peer), 3u);
}

// Its frames of type ping are answered by every endpoint: of one that was never probed before the
// answer may take as long as where nothing is known of round trips.
TEST(Misses, CountForWebSocketFromTheFirstProbeOn) {
    PacingStage stage(missing());
    const size_t peer = stage.connect(kWebSocket);
    stage.write(peer, upgrade_request());
    stage.settle(5 * kSecond);
    stage.write(peer, masked(0x8A, ""));  // a heartbeat
    stage.settle(32 * kSecond + 2 * kAnswerWaitUnknownNs);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
    stage.settle(kAnswerWaitUnknownNs + kSecond);
    EXPECT_EQ(count(stage, Metric::evicted_by_misses), 1u);
}

TEST(Misses, AreEndedByOneAnswerOrAnyFrame) {
    for (const std::string_view life : {kPong, std::string_view("PING\n")}) {
        PacingStage stage(missing());
        const size_t peer = answerer(stage);
        for (int silence = 0; silence < 5; ++silence) {
            for (int probe = 0; probe < 3; ++probe) await_probe(stage, peer);
            stage.settle(500 * kMillisecond);
            stage.write(peer, life);
            stage.settle();
            stage.heard(peer).clear();
        }
        EXPECT_EQ(count(stage, Metric::evicted), 0u) << life;
    }
}

// A message of its own is on its way, or what it does not read: its answer is behind that.
TEST(Misses, DoNotCountWhileBytesAreOnTheirWay) {
    PacingStage uploads(missing());
    const size_t sender = answerer(uploads);
    const Nanos heard_at = uploads.network().clock();
    await_probe(uploads, sender);
    uploads.write(sender, "{\"type\":\"da");
    uploads.settle(10 * kSecond);
    EXPECT_EQ(count(uploads, Metric::evicted), 0u);
    expect_whole_timeout(uploads, heard_at);
    EXPECT_EQ(newest(uploads).reason, CloseReason::slow_upload);

    PacingStage downloads(missing());
    const size_t reader = answerer(downloads);
    downloads.set_reading(reader, false);
    const std::string large = "{\"type\":\"data\",\"x\":\"" + std::string(40'000, 'x') + "\"}\n";
    for (int i = 0; i < 8; ++i) {
        downloads.write(reader, large);
        downloads.settle(50 * kMillisecond);
    }
    downloads.settle(60 * kSecond);
    EXPECT_EQ(count(downloads, Metric::evicted_by_misses), 0u);
    EXPECT_EQ(count(downloads, Metric::evicted), 0u);
}

// It did not come to send the second probe, or the third, or was away between the look and that.
TEST(Misses, DoNotCountWhereThisServerWasLate) {
    for (const int late_behind : {1, 2}) {
        PacingStage stage(missing());
        const size_t peer = answerer(stage);
        const Nanos heard_at = stage.network().clock();
        for (int probe = 0; probe < late_behind; ++probe) await_probe(stage, peer);
        stage.io().pass_time(2'500 * kMillisecond);
        stage.settle(5 * kSecond);
        EXPECT_EQ(count(stage, Metric::evicted), 0u) << late_behind;
        EXPECT_GT(probes(stage, peer), 3u);
        expect_whole_timeout(stage, heard_at);
    }
    PacingStage sends(missing());
    const size_t peer = answerer(sends);
    const Nanos heard_at = sends.network().clock();
    for (int probe = 0; probe < 2; ++probe) await_probe(sends, peer);
    sends.io().send_takes = 900 * kMillisecond;
    sends.settle(5 * kSecond);
    sends.reactor().connections().validate();
    expect_whole_timeout(sends, heard_at);
}

// It was away until the timeout was over, too: that is what ends it.
TEST(Misses, AreNotWhyWhereTheTimeoutWasOverFirst) {
    PacingStage stage(missing());
    const size_t peer = answerer(stage);
    for (int probe = 0; probe < 2; ++probe) await_probe(stage, peer);
    stage.io().pass_time(80 * kSecond);
    stage.settle(kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 1u);
    EXPECT_EQ(count(stage, Metric::evicted_by_misses), 0u);
    EXPECT_EQ(newest(stage).detail.view(), "");
    EXPECT_EQ(newest(stage).deadline, newest(stage).heard_at + newest(stage).timeout);
}

TEST(Misses, DoNotCountInAStretchOrUnderOtherHeartbeats) {
    StagePlan stretching = missing();
    stretching.options.overload = OverloadStep::stretch;
    stretching.options.overload_span = kSecond;
    PacingStage stage(stretching);
    const size_t peer = answerer(stage);
    for (int probe = 0; probe < 2; ++probe) await_probe(stage, peer);
    stage.admission().set_memory_step(OverloadStep::stretch);
    stage.settle(60 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);

    // Of longer ones than those by which its probes left.
    PacingStage retuned(missing());
    const size_t other = answerer(retuned);
    for (int probe = 0; probe < 2; ++probe) await_probe(retuned, other);
    retuned.reload([](LoopOptions& options) { options.heartbeat_timeout = 120 * kSecond; });
    retuned.settle(40 * kSecond);
    EXPECT_EQ(count(retuned, Metric::evicted), 0u);
    retuned.reactor().connections().validate();
}

// With a round trip wanted, and misses that do not count any more: an answer to a probe of before
// that is one all the same.
TEST(Misses, LeaveTheValuesOfProbesAsTheyAre) {
    StagePlan quick = missing();
    quick.options.liveness = Liveness::roundtrip;
    PacingStage stage(quick);
    const size_t peer = join(stage, "PING\n");
    stage.settle(25 * kSecond);
    stage.write(peer, "PING\n");
    stage.settle();
    stage.heard(peer).clear();
    for (int i = 0; i < 4'000 && stage.heard(peer).empty(); ++i) stage.settle(kSecond / 100);
    std::string answer = stage.heard(peer);
    stage.settle(8 * kSecond);
    EXPECT_EQ(count(stage, Metric::probe_answers), 0u);
    stage.write(peer, answer.replace(10, 1, "o"));
    stage.settle();
    EXPECT_EQ(count(stage, Metric::probe_answers), 1u);
}

TEST(QuickProbes, OffKeepNothing) {
    PacingStage stage(plan(0));
    const size_t peer = join(stage, "PING\n");
    answer_probes(stage, peer, 3, 100 * kMillisecond);
    EXPECT_EQ(stage.stats().gauges.heartbeats_bytes, 0u);
    stage.settle(70 * kSecond);
    EXPECT_EQ(probes(stage, peer), 2u) << "one an interval";
    EXPECT_EQ(count(stage, Metric::suspects), 1u);
}

// ------------------------------------------------------------------------------ adaptive intervals

StagePlan adaptive() {
    StagePlan adaptive = plan(0);
    adaptive.options.heartbeat_adaptive = {15 * kSecond, 120 * kSecond};
    return adaptive;
}

// A client that beats at the interval that it was told last.
struct Beating {
    PacingStage& stage;
    size_t peer;
    Nanos interval = 0;
    Nanos told_timeout = 0;
    Nanos beat_at = 0;

    void hear() {
        const std::string words = std::exchange(stage.heard(peer), {});
        const auto last = [&words](std::string_view key, Nanos& into) {
            const size_t at = words.rfind(key);
            if (at == std::string::npos) return;
            into = std::stoll(words.substr(at + key.size())) * kMillisecond;
        };
        last("\"interval_ms\":", interval);
        last("\"timeout_ms\":", told_timeout);
    }
    Nanos now() const { return stage.network().clock(); }
    void beat_for(Nanos span) {
        for (const Nanos end = now() + span; now() < end;) {
            stage.settle(200 * kMillisecond);
            hear();
            if (now() - beat_at < interval) continue;
            stage.write(peer, "PING\n");
            beat_at = now();
        }
    }
    Nanos timeout() const {
        const Connections& connections = stage.reactor().connections();
        const TickClock clock = connections.config().clock;
        return clock.begins(connections.heartbeat_of(*stage.record(peer)).timeout_ticks);
    }
};
Beating begin(PacingStage& stage, std::string_view hello = "{\"type\":\"hello\"}\n") {
    Beating client{stage, stage.connect(0)};
    stage.write(client.peer, hello);
    stage.settle();
    client.hear();
    client.beat_at = client.now();
    return client;
}

TEST(AdaptiveIntervals, GrowWhileAllIsWellAndTheDeadlineFollows) {
    PacingStage stage(adaptive());
    Beating client = begin(stage);
    EXPECT_GT(client.interval, 25 * kSecond);
    EXPECT_LE(client.interval, 30 * kSecond) << "the level below --heartbeat-interval";
    client.beat_for(40 * kSecond);  // the first probe is spread, and not waited for
    const uint64_t probed = count(stage, Metric::probes_sent);
    Nanos before = client.interval;
    while (client.interval < 120 * kSecond && client.now() < 10'000 * kSecond) {
        client.beat_for(10 * kSecond);
        ASSERT_GE(client.interval, before);
        ASSERT_LE(client.interval, before * 119 / 100) << "one level at a time";
        before = client.interval;
        ASSERT_GE(client.timeout(), adaptive_timeout(client.interval, true));
        stage.reactor().connections().validate();
    }
    EXPECT_EQ(client.interval, 120 * kSecond);
    client.beat_for(1'000 * kSecond);
    EXPECT_EQ(client.interval, 120 * kSecond);
    EXPECT_EQ(count(stage, Metric::probes_sent), probed) << "it always beat in time";
    // And then falls silent.
    const Nanos silent_since = client.beat_at;
    while (count(stage, Metric::evicted) == 0 && client.now() < silent_since + 1'000 * kSecond)
        stage.settle(100 * kMillisecond);
    EXPECT_GE(client.now() - silent_since, 180 * kSecond);
    EXPECT_LE(client.now() - silent_since, 181 * kSecond);
}

// A peer that answers probes and says nothing else.
TEST(AdaptiveIntervals, GrowForThoseThatOnlyAnswer) {
    PacingStage stage(adaptive());
    const size_t peer = join(stage, "{\"type\":\"hello\"}\n");
    for (int probed = 0; probed < 60; ++probed) answer_probes(stage, peer, 1, 50 * kMillisecond);
    EXPECT_GT(count(stage, Metric::intervals_lengthened), 10u);
    EXPECT_EQ(count(stage, Metric::intervals_shortened), 0u);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
}

// Its answer is late: it beats again when it was probed twice.
void be_late(Beating& client) {
    const uint64_t missed = count(client.stage, Metric::probes_missed);
    for (int i = 0; i < 100'000 && count(client.stage, Metric::probes_missed) == missed; ++i)
        client.stage.settle(kSecond / 10);
    ASSERT_GT(count(client.stage, Metric::probes_missed), missed);
    client.stage.write(client.peer, "PING\n");
    client.beat_at = client.now();
}

TEST(AdaptiveIntervals, AreHalvedWhereAnAnswerIsLateOnceThePeerKnows) {
    for (const bool cut_off : {false, true}) {
        PacingStage stage(adaptive());
        Beating client = begin(stage);
        for (int i = 0; i < 10'000 && client.interval < 100 * kSecond; ++i)
            client.beat_for(10 * kSecond);
        ASSERT_GE(client.interval, 100 * kSecond);
        const Nanos interval = client.interval, timeout = client.timeout();
        be_late(client);
        stage.io().cut_off = cut_off;
        for (int i = 0; i < 100'000 && count(stage, Metric::intervals_shortened) == 0; ++i)
            client.stage.settle(kSecond / 10);
        ASSERT_GT(count(stage, Metric::intervals_shortened), 0u);
        client.hear();
        EXPECT_LT(client.interval, interval * 52 / 100);
        EXPECT_GT(client.interval, interval * 48 / 100);
        const Nanos told_at = client.now();
        stage.settle(3 * kSecond);
        EXPECT_EQ(client.timeout() < timeout, !cut_off) << "by what its host has acknowledged";
        if (cut_off) {
            stage.settle(timeout - (told_at - client.beat_at) - 4 * kSecond);
            EXPECT_EQ(count(stage, Metric::evicted), 0u) << "it was promised so much";
            stage.settle(2 * kSecond);
            EXPECT_EQ(count(stage, Metric::evicted), 1u);
        } else {
            client.beat_for(2 * interval);
            EXPECT_EQ(count(stage, Metric::evicted), 0u);
        }
        stage.reactor().connections().validate();
    }
}

TEST(AdaptiveIntervals, AreOfThoseThatNameNoProfileAndCanBeTold) {
    PacingStage stage(adaptive());
    Beating named = begin(stage, "{\"type\":\"hello\",\"profile\":\"mobile\"}\n");
    named.beat_for(1'000 * kSecond);
    EXPECT_EQ(named.interval, 60 * kSecond);
    // A WebSocket on which no dialect was agreed.
    const size_t plain = stage.connect(1);
    stage.write(plain, upgrade_request());
    for (int i = 0; i < 20; ++i) {
        stage.settle(20 * kSecond);
        stage.write(plain, masked(0x8A, ""));
        named.beat_for(20 * kSecond);
    }
    EXPECT_EQ(count(stage, Metric::intervals_lengthened), 0u);
    stage.close(plain, true);
    // A hello of its own: adaptive from now on.
    stage.write(named.peer, "{\"type\":\"hello\",\"profile\":\"default\"}\n");
    named.beat_for(500 * kSecond);
    EXPECT_GT(count(stage, Metric::intervals_lengthened), 0u);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
}

// Before a hello, or where there is no message for it, a peer knows what the flags say.
TEST(AdaptiveIntervals, AreNotOfThoseThatWereToldOfNone) {
    StagePlan patient = adaptive();
    patient.options.heartbeat_interval = 60 * kSecond;
    patient.options.heartbeat_timeout = 600 * kSecond;
    patient.options.heartbeat_probe = false;
    PacingStage stage(patient);
    const size_t plain = stage.connect(1);
    stage.write(plain, upgrade_request());
    Beating client{stage, join(stage, "PING\n")};
    EXPECT_EQ(client.timeout() / kSecond, 600);
    // A look finds the one that can be told, and it is held to what it has.
    stage.settle(20 * kSecond);
    client.hear();
    EXPECT_GT(client.interval, 50 * kSecond);
    EXPECT_LE(client.interval, 60 * kSecond);
    EXPECT_EQ(client.timeout() / kSecond, client.told_timeout / kSecond);
    client.beat_for(570 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
    client.beat_for(20 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 1u);
    EXPECT_TRUE(stage.ended(plain));
}

// Messages of the application say nothing of how long a silence may be.
TEST(AdaptiveIntervals, DoNotGrowForThoseThatAreNeverSilent) {
    PacingStage stage(adaptive());
    Beating client = begin(stage);
    const Nanos first = client.interval;
    for (int i = 0; i < 400; ++i) {
        stage.write(client.peer, "{\"type\":\"data\"}\n");
        stage.settle(5 * kSecond);
    }
    client.hear();
    EXPECT_EQ(client.interval, first);
    client.beat_for(1'000 * kSecond);
    EXPECT_GT(client.interval, first);
}

// Behind a hello that comes meanwhile, too: the welcome says what it has been told.
TEST(AdaptiveIntervals, ThatAreShorterWaitForTheAcknowledgementOfTheirWelcome) {
    PacingStage stage(adaptive());
    Beating client = begin(stage);
    for (int i = 0; i < 10'000 && client.interval < 100 * kSecond; ++i)
        client.beat_for(10 * kSecond);
    ASSERT_GE(client.interval, 100 * kSecond);
    const Nanos interval = client.interval, timeout = client.timeout();
    be_late(client);
    stage.io().cut_off = true;
    for (int i = 0; i < 100'000 && count(stage, Metric::intervals_shortened) == 0; ++i)
        stage.settle(kSecond / 10);
    ASSERT_GT(count(stage, Metric::intervals_shortened), 0u);
    client.hear();
    EXPECT_LT(client.interval, interval);
    stage.write(client.peer, "{\"type\":\"hello\"}\n");
    stage.settle(3 * kSecond);
    client.interval = 0;
    client.hear();
    EXPECT_LT(client.interval, interval) << "the welcome names the shorter";
    EXPECT_GT(client.interval, 0);
    EXPECT_EQ(client.timeout(), timeout) << "it may not know yet";
    stage.io().cut_off = false;
    stage.settle(2 * kSecond);
    EXPECT_LT(client.timeout(), timeout);
    EXPECT_EQ(client.timeout() / kSecond, client.told_timeout / kSecond);
}

constexpr std::string_view kUser = "{\"type\":\"hello\",\"user\":\"u\"}\n";

// A network that forgets what is silent for 60 s or more.
TEST(AdaptiveIntervals, BeginWithWhatTheNetworkOfAPeerHasBorne) {
    PacingStage stage(adaptive());
    Nanos first = 0;
    for (int life = 0; life < 4; ++life) {
        Beating client = begin(stage, kUser);
        if (life == 0) first = client.interval;
        if (life > 0) {
            EXPECT_GT(client.interval, 50 * kSecond) << life;
            EXPECT_LT(client.interval, 60 * kSecond) << "and stays so";
        }
        const Nanos until = client.now() + 2'000 * kSecond;
        while (client.interval < 60 * kSecond && client.now() < until) client.beat_for(kSecond);
        EXPECT_EQ(client.interval >= 60 * kSecond, life == 0) << life;
        // Its next heartbeat finds that out, and it comes back.
        if (life == 0) stage.settle(client.interval + kSecond);
        if (life > 0) stage.close(client.peer, true);
        stage.settle(kSecond);
    }
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
    EXPECT_EQ(stage.metrics().closed[static_cast<size_t>(CloseReason::taken_over)], 1u);
    EXPECT_LE(first, 30 * kSecond);
    // A week later it is tried again, and another network knows nothing.
    const size_t other = stage.connect(0, "192.0.2.7:40001");
    stage.write(other, "{\"type\":\"hello\"}\n");
    stage.settle();
    Beating stranger{stage, other};
    stranger.hear();
    EXPECT_EQ(stranger.interval, first);
    stage.close(other, true);
    stage.settle(kAdaptiveNetworkNs);
    Beating later = begin(stage, kUser);
    const Nanos until = later.now() + 1'000 * kSecond;
    while (later.interval < 60 * kSecond && later.now() < until) later.beat_for(kSecond);
    EXPECT_GE(later.interval, 60 * kSecond);
}

TEST(AdaptiveIntervals, AreStretchedUnderOverloadAsOthersAre) {
    StagePlan stretching = adaptive();
    stretching.options.overload = OverloadStep::stretch;
    stretching.options.overload_span = kSecond;
    PacingStage stage(stretching);
    Beating client = begin(stage);
    client.beat_for(100 * kSecond);
    const Nanos interval = client.interval;
    stage.admission().set_memory_step(OverloadStep::stretch);
    client.beat_for(2 * kSecond);
    EXPECT_EQ(client.interval, 2 * interval);
    EXPECT_GE(client.timeout(), 2 * adaptive_timeout(interval, true));
    stage.admission().set_memory_step(OverloadStep::none);
    client.beat_for(2 * kSecond);
    EXPECT_EQ(client.interval, interval);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
}

// What a peer was told of while intervals were stretched it never has when they are not any more.
TEST(AdaptiveIntervals, ThatWereToldAreVoidWhereAWalkChangesThem) {
    StagePlan stretching = adaptive();
    stretching.options.overload = OverloadStep::stretch;
    stretching.options.overload_span = kSecond;
    PacingStage stage(stretching);
    Beating client = begin(stage);
    for (int i = 0; i < 10'000 && client.interval < 100 * kSecond; ++i)
        client.beat_for(10 * kSecond);
    ASSERT_GE(client.interval, 100 * kSecond);
    stage.admission().set_memory_step(OverloadStep::stretch);
    client.beat_for(2 * client.interval);
    be_late(client);
    stage.io().cut_off = true;
    for (int i = 0; i < 100'000 && count(stage, Metric::intervals_shortened) == 0; ++i)
        stage.settle(kSecond / 10);
    ASSERT_GT(count(stage, Metric::intervals_shortened), 0u);
    client.hear();
    // Its host has it in the turn in which the stretch is over.
    stage.io().cut_off = false;
    stage.admission().set_memory_step(OverloadStep::none);
    stage.io().pass_time(2 * kSecond);
    stage.settle(5 * kSecond);
    client.hear();
    EXPECT_GE(client.timeout(), client.told_timeout);
    client.beat_for(5 * client.interval);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
}

// ------------------------------------------------------------------- when shorter heartbeats begin

// Ends of a stretch are as reloads are.
struct Stretching {
    StagePlan plan_of() {
        StagePlan stretching = plan(0);
        stretching.options.overload = OverloadStep::stretch;
        stretching.options.overload_span = kSecond;
        return stretching;
    }
    PacingStage stage{plan_of()};
    void stretch(bool on) {
        stage.admission().set_memory_step(on ? OverloadStep::stretch : OverloadStep::none);
        stage.settle(10 * kMillisecond);
        stage.settle(10 * kMillisecond);  // the message comes
    }
    Nanos timeout(size_t peer) { return Beating{stage, peer}.timeout() / kSecond; }
};

TEST(ShorterHeartbeats, WaitUntilThePeerKnowsThem) {
    Stretching world;
    const size_t peer = join(world.stage, "{\"type\":\"hello\"}\n");
    world.stretch(true);
    EXPECT_EQ(world.timeout(peer), 180) << "longer ones hold at once";
    world.stage.io().cut_off = true;
    world.stretch(false);
    EXPECT_NE(world.stage.heard(peer).find("\"timeout_ms\":90000"), std::string::npos);
    world.stage.settle(100 * kSecond);
    EXPECT_EQ(world.timeout(peer), 180);
    EXPECT_EQ(count(world.stage, Metric::evicted), 0u) << "it was promised so much";
    world.stage.io().cut_off = false;
    world.stage.settle(2 * kSecond);
    EXPECT_EQ(world.timeout(peer), 90);
    world.stage.reactor().connections().validate();
}

// One that is heard of and acknowledges nothing, and one that there is no message for.
TEST(ShorterHeartbeats, HoldOneTimeoutOfBeforeLaterAtTheLatest) {
    Stretching world;
    const size_t beats = join(world.stage, "PING\n");
    const size_t plain = world.stage.connect(1);
    world.stage.write(plain, upgrade_request());
    world.stretch(true);
    world.stage.io().cut_off = true;
    world.stretch(false);
    const auto live = [&](int seconds) {
        for (int i = 0; i < seconds; i += 10) {
            world.stage.write(beats, "PING\n");
            world.stage.write(plain, masked(0x8A, ""));
            world.stage.settle(10 * kSecond);
        }
    };
    live(170);
    EXPECT_EQ(world.timeout(beats), 180);
    EXPECT_EQ(world.timeout(plain), 180);
    live(20);
    EXPECT_EQ(world.timeout(beats), 90);
    EXPECT_EQ(world.timeout(plain), 90);
    EXPECT_EQ(count(world.stage, Metric::evicted), 0u);
    world.stage.settle(100 * kSecond);
    EXPECT_EQ(count(world.stage, Metric::evicted), 2u);
}

// Under overload that comes again none waits for those that have not taken its end.
TEST(ShorterHeartbeats, AreTakenBackAtOnce) {
    Stretching world;
    const size_t slow = join(world.stage, "{\"type\":\"hello\"}\n");
    world.stretch(true);
    world.stage.io().cut_off = true;
    world.stretch(false);
    world.stage.settle(5 * kSecond);
    const size_t newcomer = join(world.stage, "{\"type\":\"hello\"}\n");
    EXPECT_EQ(world.timeout(newcomer), 90);
    world.stage.heard(slow).clear();
    world.stretch(true);
    EXPECT_EQ(world.timeout(newcomer), 180);
    EXPECT_EQ(world.timeout(slow), 180);
    EXPECT_NE(world.stage.heard(slow).find("\"timeout_ms\":180000"), std::string::npos);
    world.stage.settle(20 * kSecond);
    EXPECT_EQ(world.timeout(slow), 180) << "what it was told before is void";
    world.stage.reactor().connections().validate();
}

// Nor does a peer that greets without end keep a reload waiting that comes behind.
TEST(ShorterHeartbeats, AreNotPutOffByHellos) {
    Stretching world;
    const size_t peer = join(world.stage, "{\"type\":\"hello\"}\n");
    world.stretch(true);
    world.stage.io().cut_off = true;
    world.stretch(false);
    const auto greet = [&](int seconds) {
        for (int i = 0; i < seconds; i += 10) {
            world.stage.write(peer, "{\"type\":\"hello\"}\n");
            world.stage.settle(10 * kSecond);
        }
    };
    greet(170);
    EXPECT_EQ(world.timeout(peer), 180);
    greet(20);
    EXPECT_EQ(world.timeout(peer), 90);
    EXPECT_EQ(count(world.stage, Metric::evicted), 0u);
}

// Overload that comes and goes does not keep those that are gone.
TEST(LongerHeartbeats, LetTheSilenceGoOn) {
    Stretching world;
    join(world.stage, "PING\n");
    world.stage.io().cut_off = true;
    for (int second = 0; second < 182 && count(world.stage, Metric::evicted) == 0; second += 26) {
        world.stage.settle(13 * kSecond);
        world.stretch(true);
        world.stage.settle(13 * kSecond);
        if (second < 150) world.stretch(false);
    }
    EXPECT_EQ(count(world.stage, Metric::evicted), 1u);
    world.stage.reactor().connections().validate();
}

// ------------------------------------------------------------------------------- probes that wait

// This thread is away between the look and the send, or between that and the kernel: of the time in
// which the peer had no probe its answer has all.
TEST(LateProbes, AreNotThePeersSilence) {
    for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
        for (const auto& [suspect_probe, in_ring] :
             {std::pair{Nanos{0}, false}, {Nanos{0}, true}, {kSecond, false}, {kSecond, true}}) {
            StagePlan slow = plan(suspect_probe);
            slow.faults.submit_in_poll = in_ring;
            slow.options.heartbeat_timeout = 45 * kSecond;
            slow.options.liveness = liveness;
            PacingStage stage(slow);
            const size_t peer = join(stage, "PING\n");
            stage.settle(20 * kSecond);
            stage.write(peer, "PING\n");
            stage.settle();
            stage.heard(peer).clear();
            const Nanos heard_at = stage.network().clock();
            (in_ring ? stage.io().submit_takes : stage.io().send_takes) = 40 * kSecond;
            stage.settle(31 * kSecond);
            EXPECT_TRUE(stage.heard(peer).empty());
            stage.settle(2 * kSecond);
            EXPECT_GT(stage.network().clock(), heard_at + 70 * kSecond);
            stage.settle(9 * kSecond);
            std::string answer = stage.heard(peer);
            answer.erase(0, answer.rfind("{\"type\":\"ping\""));
            ASSERT_FALSE(answer.empty());
            stage.write(peer, answer.replace(10, 1, "o"));
            stage.settle(20 * kSecond);
            EXPECT_EQ(count(stage, Metric::evicted), 0u);
            // And then it says nothing.
            stage.settle(30 * kSecond);
            EXPECT_EQ(count(stage, Metric::evicted), 1u);
        }
    }
}

// Nor do idle clocks close for it, whose probes those of heartbeats are, or their own.
TEST(LateProbes, GiveTheirAnswersTimeBeforeAnIdleClockCloses) {
    for (const bool by_clock : {false, true}) {
        for (const bool in_ring : {false, true}) {
            StagePlan late = plan(0);
            late.faults.submit_in_poll = in_ring;
            late.options.idle[0] = {33'100 * kMillisecond, IdleAction::close};
            if (by_clock) late.options.idle[2] = {31 * kSecond, IdleAction::probe};
            PacingStage stage(late);
            const size_t peer = join(stage, "PING\n");
            stage.settle(20 * kSecond);
            stage.write(peer, "PING\n");
            stage.settle();
            stage.heard(peer).clear();
            const Nanos heard_at = stage.network().clock();
            (in_ring ? stage.io().submit_takes : stage.io().send_takes) = 5 * kSecond;
            await_probe(stage, peer);
            EXPECT_GT(stage.network().clock(), heard_at + 35 * kSecond);
            stage.settle(700 * kMillisecond);
            stage.write(peer, kPong);
            stage.settle(kSecond);
            EXPECT_NE(stage.record(peer), nullptr) << by_clock << in_ring;
            EXPECT_EQ(count(stage, Metric::idle_probes), by_clock ? 1u : 0u);
            stage.settle(35 * kSecond);
            EXPECT_EQ(stage.record(peer), nullptr) << "it says nothing";
        }
    }
}

// With a round trip wanted, and quick probes that are a little late, the first answer still counts.
TEST(LateProbes, LeaveTheAnswerToTheFirstItsTime) {
    StagePlan quick = plan(kSecond / 10);
    quick.options.heartbeat_timeout = 36 * kSecond;
    quick.options.liveness = Liveness::roundtrip;
    PacingStage stage(quick);
    const size_t peer = join(stage, "PING\n");
    stage.settle(20 * kSecond);
    stage.write(peer, "PING\n");
    stage.settle();
    stage.heard(peer).clear();
    for (int i = 0; i < 4'000 && stage.heard(peer).empty(); ++i) stage.settle(kSecond / 100);
    std::string answer = stage.heard(peer);
    stage.settle(2'900 * kMillisecond);  // nothing is known of its round trips
    for (int i = 0; i < 5; ++i) {
        stage.io().pass_time(150 * kMillisecond);
        stage.settle(kSecond / 100);
    }
    EXPECT_GT(count(stage, Metric::probes_sent), 4u);
    stage.write(peer, answer.replace(10, 1, "o"));
    stage.settle(10 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
}

// ------------------------------------------------------------------------------ side connections

constexpr std::string_view kSide = "{\"type\":\"hello\",\"probe\":true}\n";

StagePlan probing(uint32_t nat_probes = 100) {
    StagePlan probing = plan(0);
    probing.options.nat_probes = nat_probes;
    return probing;
}
std::string says(PacingStage& stage, size_t peer, std::string_view words) {
    stage.heard(peer).clear();
    stage.write(peer, words);
    stage.settle();
    return std::exchange(stage.heard(peer), {});
}
// What clients of a network are told that others have found.
std::string told(PacingStage& stage, std::string_view source = "127.0.0.1:0") {
    const size_t peer = stage.connect(0, source);
    const std::string welcome = says(stage, peer, "{\"type\":\"hello\"}\n");
    stage.close(peer, false);
    stage.settle(kSecond);
    const size_t at = welcome.find("\"nat\":");
    return at == std::string::npos ? "" : welcome.substr(at + 6, welcome.rfind('}') - at - 6);
}

TEST(SideConnections, MayBeSilentForHalfAnHourAndAreAnsweredThen) {
    PacingStage stage(probing());
    const size_t peer = stage.connect(0);
    EXPECT_EQ(says(stage, peer, kSide),
              "{\"type\":\"welcome\",\"conn\":\"r0-000000-0\",\"interval_ms\":1800000,"
              "\"timeout_ms\":1920000,\"nat\":{\"network\":\"127.0.0.0/24\",\"probe\":true}}\n");
    EXPECT_EQ(stage.stats().gauges.sides, 1u);
    EXPECT_EQ(stage.stats().gauges.users, 0u);
    for (int silence = 0; silence < 2; ++silence) {
        stage.settle(1'860 * kSecond);
        EXPECT_EQ(stage.heard(peer), "") << "the server breaks no silence";
        EXPECT_EQ(says(stage, peer, "{\"type\":\"ping\",\"seq\":1}\n"),
                  "{\"type\":\"pong\",\"seq\":1}\n");
    }
    stage.reactor().connections().validate();
    stage.settle(1'921 * kSecond);
    EXPECT_TRUE(stage.ended(peer)) << "and no longer";
    EXPECT_EQ(stage.stats().gauges.sides, 0u);
    EXPECT_EQ(stage.admission().sides(), 0u);
    EXPECT_EQ(count(stage, Metric::evicted), 1u);
}

TEST(SideConnections, AreOfNoUserAndSayOneHello) {
    PacingStage stage(probing());
    const size_t user = join(stage, "{\"type\":\"hello\",\"user\":\"u\"}\n");
    const size_t both = stage.connect(0);
    for (const auto& [peer, words] :
         {std::pair<size_t, std::string_view>{user, kSide},
          {both, "{\"type\":\"hello\",\"probe\":true,\"user\":\"v\"}\n"}}) {
        EXPECT_NE(says(stage, peer, words).find("without a user"), std::string::npos) << words;
        EXPECT_EQ(stage.stats().gauges.sides, 0u);
    }
    const size_t side = stage.connect(0);
    says(stage, side, kSide);
    for (const std::string_view more : {kSide, kUser, std::string_view("{\"type\":\"hello\"}\n")})
        EXPECT_NE(says(stage, side, more).find("one too many"), std::string::npos) << more;
    EXPECT_EQ(stage.stats().gauges.sides, 1u);
    EXPECT_EQ(stage.stats().gauges.users, 1u);
}

TEST(SideConnections, AreSoManyOfAnAddressAndInAll) {
    PacingStage stage(probing(kSidesPerAddressMax + 2));
    const auto open = [&](std::string_view source) {
        const size_t peer = stage.connect(0, source);
        const bool taken = says(stage, peer, kSide).find("\"probe\":true") != std::string::npos;
        return std::pair{peer, taken};
    };
    std::vector<size_t> sides;
    for (uint32_t at = 0; at < kSidesPerAddressMax; ++at) {
        const auto [peer, taken] = open("127.0.0.1:0");
        EXPECT_TRUE(taken) << at;
        sides.push_back(peer);
    }
    const auto [refused, taken] = open("127.0.0.1:0");
    EXPECT_FALSE(taken) << "one too many of its address";
    EXPECT_NE(says(stage, refused, "PING\n").find("PONG"), std::string::npos) << "it stays";
    EXPECT_TRUE(open("192.0.2.7:0").second);
    EXPECT_TRUE(open("192.0.2.8:0").second);
    EXPECT_FALSE(open("192.0.2.9:0").second) << "one too many in all";
    EXPECT_EQ(count(stage, Metric::nat_probes_refused), 2u);
    stage.close(sides[0], true);
    stage.settle(kSecond);
    EXPECT_NE(says(stage, refused, kSide).find("\"probe\":true"), std::string::npos);
    EXPECT_EQ(stage.admission().sides(), kSidesPerAddressMax + 2);
}

// A search opens several and gives some up, and one that was too many is closed at once.
TEST(SideConnections, AreNoFlaps) {
    StagePlan busy = probing(1);
    busy.options.flapping = {.ends = 1, .window = 60 * kSecond, .hold_off = 300 * kSecond};
    PacingStage stage(busy);
    for (int i = 0; i < 3; ++i) {
        const size_t taken = join(stage, kSide), refused = join(stage, kSide);
        EXPECT_EQ(count(stage, Metric::nat_probes_refused), i + 1u) << "it came in";
        stage.close(refused, true);
        stage.close(taken, true);
        stage.settle(kSecond);
    }
    const size_t flaps = join(stage, "PING\n");
    stage.close(flaps, true);
    stage.settle(kSecond);
    EXPECT_EQ(stage.record(join(stage, "PING\n")), nullptr) << "this does";
}

TEST(SideConnections, AreOffUntilTheyAreAskedFor) {
    PacingStage stage(probing(0));
    const size_t peer = stage.connect(0);
    EXPECT_NE(says(stage, peer, kSide).find("is off in this server"), std::string::npos);
    EXPECT_EQ(told(stage), "");
    says(stage, peer, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":270000}}\n");
    EXPECT_EQ(count(stage, Metric::nat_reports), 0u);
    EXPECT_EQ(stage.stats().gauges.heartbeats_bytes, 0u);
}

TEST(SideConnections, WhatTheyFoundIsNamedToThoseThatComeNextFromTheNetwork) {
    PacingStage stage(probing());
    EXPECT_EQ(told(stage), "{\"network\":\"127.0.0.0/24\"}");
    const size_t user = join(stage, kUser);
    const std::string welcome = says(
        stage, user, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":270000,\"lost_ms\":290000}}\n");
    EXPECT_NE(welcome.find("\"interval_ms\":30000"), std::string::npos) << "it is not adaptive";
    EXPECT_EQ(told(stage, "127.0.0.9:0"),
              "{\"network\":\"127.0.0.0/24\",\"kept_ms\":270000,\"lost_ms\":290000}");
    EXPECT_EQ(told(stage, "192.0.2.7:0"), "{\"network\":\"192.0.2.0/24\"}");
    // One voice for a user, however often it speaks.
    says(stage, user, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":40000}}\n");
    EXPECT_EQ(count(stage, Metric::nat_reports), 1u);
    // What another reactor has been told.
    const Connections& connections = stage.reactor().connections();
    const uint32_t number = connections.network_of(*stage.index(user))->number;
    for (const uint32_t client : {1u, 2u})
        stage.post({.body = Message::NatFound{number, client, 1'500'000, 0}});
    EXPECT_EQ(told(stage), "{\"network\":\"127.0.0.0/24\",\"kept_ms\":1500000}");
    for (const std::string_view wrong :
         {"\"kept_ms\":29999", "\"lost_ms\":90000", "\"kept_ms\":90000,\"lost_ms\":90000",
          "\"kept_ms\":1800001"}) {
        const std::string words = "{\"type\":\"hello\",\"nat\":{" + std::string(wrong) + "}}\n";
        EXPECT_NE(says(stage, stage.connect(0), words).find("out of bounds"), std::string::npos)
            << wrong;
    }
    EXPECT_EQ(says(stage, user, "PING\n"), "PONG\n");
}

// The first hello of a user counts as the user's, and not as its address's.
TEST(SideConnections, EachUserHasOneVoiceFromItsFirstHelloOn) {
    PacingStage stage(probing());
    const auto hello = [](std::string_view user) {
        return "{\"type\":\"hello\",\"user\":\"" + std::string(user) +
               "\",\"nat\":{\"kept_ms\":270000}}\n";
    };
    const size_t first = stage.connect(0);
    for (int i = 0; i < 2; ++i) says(stage, first, hello("a"));
    EXPECT_EQ(count(stage, Metric::nat_reports), 1u);
    says(stage, stage.connect(0), hello("b"));
    EXPECT_EQ(count(stage, Metric::nat_reports), 2u) << "of the same address";
}

// Hellos that name one and another, of a peer whose host acknowledges nothing.
TEST(SideConnections, WhatIsFoundTimeAndAgainHoldsATimeoutLaterAllTheSame) {
    StagePlan both = adaptive();
    both.options.nat_probes = 100;
    PacingStage stage(both);
    Beating client = begin(stage);
    client.beat_for(4'000 * kSecond);
    const Nanos before = client.timeout();
    ASSERT_GT(before, 120 * kSecond);
    stage.io().cut_off = true;
    for (int i = 0; i < 14; ++i) {
        const std::string_view kept = i % 2 == 0 ? "64000" : "40000";
        stage.write(client.peer, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":" +
                                     std::string(kept) + "}}\n");
        client.beat_for(15 * kSecond);
    }
    EXPECT_LT(client.timeout(), before) << "after " << format_duration(14 * 15 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
    stage.reactor().connections().validate();
}

TEST(SideConnections, WhatAClientFoundBoundsItsOwnInterval) {
    StagePlan both = adaptive();
    both.options.nat_probes = 100;
    PacingStage stage(both);
    Beating client = begin(stage, "{\"type\":\"hello\",\"nat\":{}}\n");
    const Nanos first = client.interval;
    client.beat_for(2'000 * kSecond);
    EXPECT_EQ(client.interval, first) << "it finds out elsewhere";
    stage.write(client.peer, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":64000}}\n");
    client.beat_for(kSecond);
    const Nanos bounded = client.interval;
    EXPECT_LE(bounded, 61 * kSecond);
    EXPECT_GT(bounded, 61 * kSecond / 1.13);
    EXPECT_NEAR(static_cast<double>(client.timeout()),
                static_cast<double>(adaptive_timeout(bounded, true)), 10. * kMillisecond)
        << "it is judged by what it was told";
    client.beat_for(10'000 * kSecond);
    EXPECT_EQ(client.interval, bounded);
    // A shorter one is told at once.
    stage.write(client.peer, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":40000}}\n");
    client.beat_for(kSecond);
    EXPECT_LE(client.interval, 37 * kSecond);
    EXPECT_EQ(count(stage, Metric::evicted), 0u);
    stage.reactor().connections().validate();
    // Another of the address goes by its own.
    stage.close(client.peer, true);
    Beating other = begin(stage);
    other.beat_for(2'000 * kSecond);
    EXPECT_GT(other.interval, bounded);
}

// Whatever it had before its interval became adaptive, or in between.
TEST(SideConnections, WhatAClientFoundHoldsWhenItsIntervalBecomesAdaptive) {
    StagePlan both = adaptive();
    both.options.nat_probes = 100;
    for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
        both.options.liveness = liveness;
        PacingStage stage(both);
        Beating searches = begin(stage, "{\"type\":\"hello\",\"nat\":{}}\n");
        searches.beat_for(3'000 * kSecond);
        EXPECT_LE(searches.interval, 30 * kSecond) << "it finds out elsewhere";
        stage.close(searches.peer, true);
        Beating named = begin(
            stage, "{\"type\":\"hello\",\"profile\":\"mobile\",\"nat\":{\"kept_ms\":64000}}\n");
        EXPECT_EQ(named.interval, 60 * kSecond);
        stage.write(named.peer, "{\"type\":\"hello\",\"profile\":\"default\"}\n");
        named.beat_for(10'000 * kSecond);
        EXPECT_LE(named.interval, 61 * kSecond);
        EXPECT_GT(named.interval, 50 * kSecond);
        EXPECT_EQ(count(stage, Metric::evicted), 0u);
    }
    // It was told, and its host has not said that it knows.
    both.options.liveness = Liveness::any;
    both.options.heartbeat_timeout = 400 * kSecond;
    PacingStage stage(both);
    stage.io().cut_off = true;
    Beating client = begin(stage, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":64000}}\n");
    const Nanos bounded = client.interval;
    EXPECT_GT(bounded, 50 * kSecond);
    stage.write(client.peer, "{\"type\":\"hello\",\"profile\":\"default\"}\n");
    client.beat_for(kSecond);
    EXPECT_EQ(client.interval, bounded);
    stage.io().cut_off = false;
    client.beat_for(10'000 * kSecond);
    EXPECT_EQ(client.interval, bounded);
}

}  // namespace
}  // namespace pulse::test
