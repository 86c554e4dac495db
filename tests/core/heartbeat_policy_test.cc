// The heartbeat policy: four lines of table a row, every string of events against a slow model that
// keeps whole ticks, peers of every kind, a server that stalls, and 500 days with table and wheel.
#include "core/heartbeat_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <optional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "core/connection_table.h"
#include "core/heartbeat/adaptive.h"
#include "core/heartbeat/network_levels.h"
#include "core/heartbeat/round_trip.h"
#include "core/random.h"
#include "core/timing_wheel.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

constexpr uint32_t sent(uint32_t probes) { return probes << kHeardProbeShift; }

// A third of the timeout, a little grace: the standard shape.
constexpr HeartbeatConfig kStandard{.interval_ticks = 30, .grace_ticks = 2, .timeout_ticks = 90};
// An answer has half an interval.
constexpr HeartbeatConfig kTight{.interval_ticks = 30, .grace_ticks = 2, .timeout_ticks = 48};
constexpr HeartbeatConfig kRoundtrip{
    .interval_ticks = 30, .grace_ticks = 2, .timeout_ticks = 90, .liveness = Liveness::roundtrip};
constexpr HeartbeatConfig kQuiet{
    .interval_ticks = 30, .grace_ticks = 2, .timeout_ticks = 90, .probe = false};
constexpr HeartbeatConfig kDeadline{
    .timeout_ticks = 90, .probe = false, .liveness = Liveness::none};

// --------------------------------------------------------------------------------------- tables

struct Row {
    const char* what;
    HeartbeatConfig config;
    uint32_t heard;
    HeartbeatEvent event;
    Tick now;
    HeartbeatStep expected;
};

constexpr auto kLook = HeartbeatEvent::look;
constexpr auto kFrame = HeartbeatEvent::frame;
constexpr auto kProof = HeartbeatEvent::proof;
constexpr auto kConnected = HeartbeatEvent::connected;
constexpr auto kRearm = Verdict::rearm;
constexpr auto kProbe = Verdict::probe;
constexpr auto kEvict = Verdict::evict;

// Place 0 has its first probe 0.618 of an interval after connecting.
const Row kRows[] = {
    {"heard of in this tick", kStandard, 1000, kLook, 1000, {kRearm, 1000, 1032}},
    {"the last tick of peace", kStandard, 1000, kLook, 1031, {kRearm, 1000, 1032}},
    {"silent for interval and grace", kStandard, 1000, kLook, 1032, {kProbe, 1000 | sent(1), 1062}},
    {"heard of after what is judged", kStandard, 1000, kLook, 998, {kRearm, 1000, 1032}},

    {"waits for the answer",
     kStandard,
     1000 | sent(1),
     kLook,
     1061,
     {kRearm, 1000 | sent(1), 1062}},
    {"missed again", kStandard, 1000 | sent(1), kLook, 1062, {kProbe, 1000 | sent(2), 1090}},
    {"not yet", kStandard, 1000 | sent(2), kLook, 1089, {kRearm, 1000 | sent(2), 1090}},
    {"missed three times", kStandard, 1000 | sent(2), kLook, 1090, {kEvict, 1000 | sent(2), 1090}},

    {"a quarter late is tolerated", kStandard, 1000, kLook, 1039, {kProbe, 1000 | sent(1), 1062}},
    {"more than that is the server's",
     kStandard,
     1000,
     kLook,
     1040,
     {kProbe, 1008 | sent(1), 1070}},
    {"a quarter of a short time", kTight, 1000, kLook, 1036, {kProbe, 1000 | sent(1), 1048}},
    {"more than that", kTight, 1000, kLook, 1037, {kProbe, 1005 | sent(1), 1053}},
    {"slept for days", kStandard, 1000, kLook, 901'032, {kProbe, 901'000 | sent(1), 901'062}},
    {"slept behind a probe",
     kStandard,
     1000 | sent(1),
     kLook,
     1200,
     {kProbe, 1138 | sent(2), 1228}},

    {"any frame proves", kStandard, 1000 | sent(2), kFrame, 1080, {kRearm, 1080, 1112}},
    {"so does an answer", kStandard, 1000 | sent(2), kProof, 1080, {kRearm, 1080, 1112}},
    {"a frame is not a round trip", kRoundtrip, 1000, kFrame, 1080, {kRearm, 1000, 1032}},
    {"an answer is", kRoundtrip, 1000 | sent(2), kProof, 1080, {kRearm, 1080, 1112}},

    {"connected", kStandard, 77 | sent(9), kConnected, 500, {kRearm, 500 | kHeardFirst, 519}},
    {"first probe",
     kStandard,
     500 | kHeardFirst,
     kLook,
     519,
     {kProbe, 500 | kHeardFirst | sent(1), 549}},
    {"first probe, late",
     kStandard,
     500 | kHeardFirst,
     kLook,
     529,
     {kProbe, 510 | kHeardFirst | sent(1), 559}},
    {"spoke", kStandard, 500 | kHeardFirst | sent(1), kFrame, 520, {kRearm, 520, 552}},

    {"no probes, still in time", kQuiet, 1000, kLook, 1089, {kRearm, 1000, 1090}},
    {"no probes, over", kQuiet, 1000, kLook, 1090, {kEvict, 1000, 1090}},
    {"no probes, spoke", kQuiet, 1000, kFrame, 1050, {kRearm, 1050, 1140}},
    {"no probes, connected", kQuiet, 0, kConnected, 1000, {kRearm, 1000 | kHeardFirst, 1090}},

    {"a deadline runs", kDeadline, 1000, kLook, 1089, {kRearm, 1000, 1090}},
    {"a deadline is not moved by words", kDeadline, 1000, kFrame, 1050, {kRearm, 1000, 1090}},
    {"nor by answers", kDeadline, 1000, kProof, 1050, {kRearm, 1000, 1090}},
    {"a deadline is over", kDeadline, 1000, kLook, 1090, {kEvict, 1000, 1090}},
};

TEST(HeartbeatPolicy, DoesWhatTheTableSays) {
    for (const Row& row : kRows) {
        const HeartbeatStep step = heartbeat_step(row.heard, row.event, 0, row.now, row.config);
        EXPECT_EQ(step.verdict, row.expected.verdict) << row.what;
        EXPECT_EQ(step.heard, row.expected.heard) << row.what;
        EXPECT_EQ(step.next, row.expected.next) << row.what;
        EXPECT_EQ(heartbeat_deadline(step.heard, 0, row.now, row.config),
                  step.verdict == kEvict ? row.now : step.next)
            << row.what;
    }
}

TEST(HeartbeatPolicy, AProfileThatChangesUnderwayIsFollowedFromTheLastProofOn) {
    const uint32_t heard = 1000 | sent(1);
    HeartbeatConfig config = kStandard;
    config.interval_ticks = 300;
    config.timeout_ticks = 900;
    EXPECT_EQ(heartbeat_deadline(heard, 0, 1040, config), 1602u);
    EXPECT_EQ(heartbeat_evict_at(heard, 1040, config), 1900u);
    // A shorter one, by which the peer would be long overdue: it was never probed.
    config.interval_ticks = 5;
    config.grace_ticks = 0;
    config.timeout_ticks = 15;
    const HeartbeatStep step = heartbeat_step(heard, kLook, 0, 1040, config);
    EXPECT_EQ(step.verdict, kProbe);
    EXPECT_EQ(heartbeat_evict_at(step.heard, 1040, config), 1045u);
}

TEST(HeartbeatPolicy, TheMessagePathIsWhatTheEventsDo) {
    for (const Tick tick :
         {Tick{0}, Tick{1}, Tick{kStoredTickMask}, Tick{1} << 24, Tick{1} << 40}) {
        EXPECT_EQ(heard_at(tick), heartbeat_step(sent(3), kProof, 7, tick, kStandard).heard);
        EXPECT_EQ(connected_at(tick), heartbeat_step(5, kConnected, 7, tick, kStandard).heard);
        EXPECT_EQ(probes_sent(heard_at(tick)), 0u);
        EXPECT_EQ(probes_sent(connected_at(tick)), 0u);
    }
    EXPECT_EQ(probes_sent(heard_at(kStoredTickMask) | kHeardFirst | sent(kProbesMax)), kProbesMax);
}

// ------------------------------------------------------------------------- every string of events

// What the header says, kept the long way: whole ticks, one fact a member, and every "when" found
// by trying one tick after the other.
struct SlowModel {
    HeartbeatConfig config;
    AnswerWait wait = 0;
    Tick spread = 0;      // how long after connecting the first probe comes
    Tick last_proof = 0;  // really
    Tick since = 0;       // from when silence counts: moved by what the server overslept
    bool fresh = true;    // nothing was heard yet
    uint32_t probes = 0;  // since the last proof
    bool excused = false;  // misses do not count

    // When the probe leaves that so many go before.
    Tick leaves_at(uint32_t before) const {
        Tick due = since + first_after();
        for (uint32_t i = 0; i < before; ++i) due += answer_has(i);
        return due;
    }
    // By misses, whether they count or not; never where there are none.
    Tick missed_at() const {
        if (config.misses == 0 || !config.probe || excused) return kNoTick;
        const Tick last = leaves_at(config.misses - 1u) + std::max<Tick>(wait, config.quick_ticks);
        return std::max(last, leaves_at(0) + wait + wait + wait);
    }
    Tick ends_at() const { return std::min<Tick>(missed_at(), since + config.timeout_ticks); }
    Tick missed_or_timeout() const {
        return std::min<Tick>(missed_at(), last_proof + config.timeout_ticks);
    }
    bool counts() const { return missed_at() < since + config.timeout_ticks; }
    bool probe_is_due(Tick at) const {
        if (!config.probe || probes == kProbesMax || (counts() && probes >= config.misses))
            return false;
        const Tick due = leaves_at(probes);
        return due <= at && due < ends_at();
    }
    Tick first_after() const {
        return fresh ? spread : Tick{config.interval_ticks} + config.grace_ticks;
    }
    // From the i-th probe of a silence to the next.
    Tick answer_has(uint32_t i) const {
        if (config.quick_ticks == 0) return config.interval_ticks;
        if (i == 0) return wait;
        return i <= kSuspectProbesMax ? config.quick_ticks : config.interval_ticks;
    }
    bool is_over(Tick at) const { return at >= ends_at() && !probe_is_due(at); }
    Tick first_due(Tick from) const {
        while (!probe_is_due(from) && !is_over(from)) ++from;
        return from;
    }
    HeartbeatStep step(HeartbeatEvent event, Tick now) {
        if (event == kConnected) {
            *this = SlowModel{config, wait, spread, now, now, true, 0, false};
        } else if (event != kLook) {
            const bool counts = config.liveness == Liveness::any ||
                                (config.liveness == Liveness::roundtrip && event == kProof);
            if (counts) *this = SlowModel{config, wait, spread, now, now, false, 0, false};
        } else if (is_over(now)) {
            return {kEvict, 0, 0};
        } else if (probe_is_due(now)) {
            Tick due = now;
            while (probe_is_due(due - 1)) --due;
            // Less than three quarters of its time are left to the answer.
            if (counts() && probes > 0 && 4 * (now - due) > ends_at() - due) excused = true;
            const Tick over = since + config.timeout_ticks;
            if (config.quick_ticks != 0 && probes > 0) {
                const Tick first = since + first_after();
                const bool voids =
                    config.liveness == Liveness::roundtrip && wait > (over - first) / 4;
                const bool moves = probes == 1 && !voids && 4 * (now - due) > over - first;
                if (!moves && now >= over) return {kEvict, 0, 0};
                if (moves) since += now - due;
            } else if (4 * (now - due) > std::min<Tick>(answer_has(probes), over - due)) {
                since += now - due;
            }
            ++probes;
            return {kProbe, 0, first_due(now + 1)};
        }
        return {kRearm, 0, first_due(since)};
    }
};

class Strings {
  public:
    Strings(const HeartbeatConfig& config, Index index, AnswerWait wait = 0)
        : config_(config), index_(index), wait_(wait) {
        model_.config = config;
        model_.wait = wait;
        const double golden = (std::sqrt(5.0) - 1) / 2 * (index + 1);
        model_.spread =
            1 + static_cast<Tick>((golden - std::floor(golden)) * config.interval_ticks);
    }
    // Every string of up to `length` letters behind a connect at `start`; how many there were.
    uint64_t run(Tick start, int length) {
        const HeartbeatStep step = heartbeat_step(0, kConnected, index_, start, config_, wait_);
        SlowModel model = model_;
        EXPECT_EQ(step.next, model.step(kConnected, start).next);
        descend(step.heard, step.next, start, model, length);
        return strings_;
    }
    bool failed() const { return failed_; }

  private:
    struct Letter {
        char name;
        HeartbeatEvent event;
        Tick at;
    };
    // Letters are events and the time that passes before them. `promised` is when the wheel comes.
    std::array<Letter, 7> alphabet(Tick now, Tick promised) const {
        return {{{'L', kLook, std::max(now, promised)},
                 {'e', kLook, std::max(now, promised - 1)},  // too early
                 {'b', kLook, now - 1},                      // behind what was heard already
                 {'S', kLook, now + 2 * config_.interval_ticks + 1},  // after a stall
                 {'f', kFrame, now + 2},
                 {'p', kProof, now + 3},
                 {'c', kConnected, now + 1}}};
    }
    void descend(uint32_t heard, Tick promised, Tick now, const SlowModel& model, int length) {
        ++strings_;
        if (length == 0) return;
        for (const Letter& letter : alphabet(now, promised)) {
            path_.push_back(letter.name);
            SlowModel after = model;
            const HeartbeatStep step =
                heartbeat_step(heard, letter.event, index_, letter.at, config_, wait_);
            const HeartbeatStep expected = after.step(letter.event, letter.at);
            check(step, expected, after, letter);
            if (failed_) return;
            if (step.verdict != kEvict) {
                descend(step.heard, step.next, std::max(now, letter.at), after, length - 1);
                if (failed_) return;
            }
            path_.pop_back();
        }
    }
    void check(const HeartbeatStep& step, const HeartbeatStep& expected, const SlowModel& after,
               const Letter& letter) {
        bool right = step.verdict == expected.verdict &&
                     heartbeat_evict_at(step.heard, letter.at, config_) ==
                         after.since + config_.timeout_ticks &&
                     heartbeat_ends_at(step.heard, index_, letter.at, config_, wait_) ==
                         after.ends_at();
        if (step.verdict == kEvict) {
            const Tick least = config_.misses == 0 ? after.last_proof + config_.timeout_ticks
                                                   : after.missed_or_timeout();
            right = right && letter.at >= least;
        } else {
            right = right && step.next == expected.next && probes_sent(step.heard) == after.probes;
        }
        failed_ = !right;
        EXPECT_TRUE(right) << "string " << path_ << ": verdict " << int(step.verdict) << " for "
                           << int(expected.verdict) << ", next " << step.next << " for "
                           << expected.next << ", at " << letter.at;
    }

    HeartbeatConfig config_;
    Index index_;
    AnswerWait wait_;
    SlowModel model_{};
    std::string path_;
    uint64_t strings_ = 0;
    bool failed_ = false;
};

TEST(HeartbeatPolicy, AgreesWithASlowModelOnEveryStringOfEvents) {
    const int length = test::kSlowness > 1 ? 6 : 8;
    const Tick start = (Tick{1} << 24) - 20;  // the stored ticks wrap underway
    uint64_t strings = 0;
    for (const Liveness liveness : {Liveness::any, Liveness::roundtrip, Liveness::none}) {
        for (const bool probe : {true, false}) {
            for (const uint32_t grace : {0u, 1u}) {
                const HeartbeatConfig config{4, grace, 12, probe, 0, liveness};
                Strings all(config, 5 + grace);
                strings += all.run(start, length);
                ASSERT_FALSE(all.failed()) << "liveness " << int(liveness) << ", probe " << probe;
            }
        }
    }
    EXPECT_GT(strings, test::kSlowness > 1 ? 400'000u : 15'000'000u);
    // Suspect peers: quick probes that end before the deadline, at it, and long ones.
    for (const auto& [wait, quick] : {std::pair{1u, uint16_t{1}}, {2u, uint16_t{1}},
                                      {3u, uint16_t{2}}, {4u, uint16_t{4}}}) {
        for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
            Strings all({4, 1, 12, true, 0, liveness, quick}, 5, wait);
            all.run(start, length - 1);
            ASSERT_FALSE(all.failed()) << "wait " << wait << ", quick " << quick;
        }
    }
    // And misses: that end before the timeout, with it, and behind it.
    for (const int misses : {2, 3, 4, 9}) {
        for (const auto& [wait, quick] : {std::pair{1u, uint16_t{1}}, {2u, uint16_t{2}}}) {
            for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
                HeartbeatConfig config{4, 1, 16, true, 0, liveness, quick};
                config.misses = misses & 127;
                Strings all(config, 5, wait);
                all.run(start, length - 2);
                ASSERT_FALSE(all.failed()) << misses << " misses, wait " << wait;
            }
        }
    }
    // Unusual shapes, which must be sound all the same.
    for (const HeartbeatConfig& odd :
         {HeartbeatConfig{1, 0, 1}, HeartbeatConfig{1, 0, 3}, HeartbeatConfig{9, 0, 5},
          HeartbeatConfig{3, 7, 9}, HeartbeatConfig{2, 0, 40}, HeartbeatConfig{5, 0, 5}}) {
        Strings all(odd, 2);
        all.run(start, length - 2);
        ASSERT_FALSE(all.failed()) << odd.interval_ticks << '/' << odd.timeout_ticks;
    }
}

TEST(HeartbeatPolicy, ASuspectPeerIsProbedQuicklyAndEvictedAtItsTimeoutAllTheSame) {
    constexpr HeartbeatConfig kQuick{30, 2, 90, true, 0, Liveness::any, 2};
    constexpr AnswerWait kWait = 5;
    uint32_t heard = heard_at(1000);
    std::vector<Tick> probes;
    Tick now = 1000, evicted = 0;
    for (int looks = 0; evicted == 0 && looks < 100; ++looks) {
        const HeartbeatStep step = heartbeat_step(heard, kLook, 0, now, kQuick, kWait);
        if (step.verdict == kProbe) probes.push_back(now);
        if (step.verdict == kEvict) evicted = now;
        if (step.verdict == kProbe && probes.size() == 1) {
            EXPECT_EQ(heartbeat_suspect_at(step.heard, 0, now, kQuick, kWait), now + kWait);
        }
        heard = step.heard;
        now = step.next;
    }
    EXPECT_EQ(probes, (std::vector<Tick>{1032, 1037, 1039, 1041, 1043, 1045, 1047, 1049, 1051,
                                         1053, 1083}));
    EXPECT_EQ(evicted, 1090u);
    // Late by more than a quarter of what its answer has: the silence is the server's.
    const HeartbeatStep late = heartbeat_step(heard_at(1000), kLook, 0, 1034, kQuick, kWait);
    EXPECT_EQ(late.heard, heard_at(1002) | sent(1));
    EXPECT_EQ(heartbeat_step(heard_at(1000), kLook, 0, 1033, kQuick, kWait).heard,
              heard_at(1000) | sent(1));
}

// What is on its way is still an answer: to the first probe of a silence there is most of the time.
TEST(HeartbeatPolicy, QuickProbesThatAreLateMakeNoAnswerVoid) {
    constexpr HeartbeatConfig kQuick{30, 2, 90, true, 0, Liveness::roundtrip, 2};
    constexpr AnswerWait kWait = 5;
    for (uint32_t out = 1; out <= kSuspectProbesMax + 1; ++out) {
        const Tick due = 1032 + kWait + 2 * (out - 1);
        const auto step = [&](Tick late) {
            return heartbeat_step(heard_at(1000) | sent(out), kLook, 0, due + late, kQuick, kWait);
        };
        EXPECT_EQ(step(14).heard, heard_at(1000) | sent(out + 1)) << out;
        // A quarter of it is over: the first may have left only now.
        const uint32_t heard = out == 1 ? heard_at(1015) : heard_at(1000);
        EXPECT_EQ(step(15).heard, heard | sent(out + 1)) << out;
        EXPECT_EQ(step(1089 - due).verdict, kProbe) << out;
        EXPECT_EQ(step(1090 - due).verdict, out == 1 ? kProbe : kEvict) << out;
    }
    // One whose answers take long would have too little time for the second.
    EXPECT_EQ(heartbeat_step(heard_at(1000) | sent(1), kLook, 0, 1070, kQuick, 20).heard,
              heard_at(1000) | sent(2));
}

// However late the server is with each of its looks, it keeps a silent peer no longer than that.
TEST(HeartbeatPolicy, ASilentPeerGoesByItsTimeoutAndWhatTheServerWasAway) {
    Random random(16);
    for (int world = 0; world < 20'000; ++world) {
        const auto quick = static_cast<uint16_t>(random.between(0, 9));
        const Liveness liveness = random.chance(1, 2) ? Liveness::any : Liveness::roundtrip;
        const auto timeout = static_cast<uint32_t>(random.between(32, 120));
        const HeartbeatConfig config{30, 2, timeout, true, 0, liveness, quick};
        const auto wait = static_cast<AnswerWait>(random.between(1, 30));
        const uint64_t late_max = random.between(0, 60);
        uint32_t heard = heard_at(1000);
        Tick now = 1000, away = 0;
        for (int looks = 0; looks < 1'000; ++looks) {
            const HeartbeatStep step = heartbeat_step(heard, kLook, 0, now, config, wait);
            if (step.verdict == kEvict) break;
            ASSERT_LT(looks, 999);
            heard = step.heard;
            const Tick late = random.chance(1, 3) ? random.below(late_max + 1) : 0;
            away += late;
            now = step.next + late;
        }
        ASSERT_GE(now, 1000 + timeout);
        ASSERT_LE(now, 1000 + timeout + away) << "quick " << quick << ", wait " << wait;
    }
}

// ---------------------------------------------------------------------------------------- misses

constexpr HeartbeatConfig missing(uint32_t misses, uint16_t quick, uint32_t timeout = 90) {
    HeartbeatConfig config{30, 2, timeout, true, 0, Liveness::any, quick};
    config.misses = misses & 127;
    return config;
}

// What becomes of a peer that was heard of at 1000 and says nothing more, by a punctual server.
struct Missing {
    std::vector<Tick> probes;
    Tick evicted = 0;

    Missing(const HeartbeatConfig& config, AnswerWait wait) {
        uint32_t heard = heard_at(1000);
        for (Tick now = 1000; evicted == 0 && now < 2'000;) {
            const HeartbeatStep step = heartbeat_step(heard, kLook, 0, now, config, wait);
            if (step.verdict == kProbe) probes.push_back(now);
            if (step.verdict == kEvict) evicted = now;
            heard = step.heard;
            now = step.next;
        }
    }
};

TEST(Misses, EvictAtTheTickWhenTheLastAndTheFirstHaveHadTheirTime) {
    using Ticks = std::vector<Tick>;
    const Missing three(missing(3, 2), 5);
    EXPECT_EQ(three.probes, (Ticks{1032, 1037, 1039}));
    EXPECT_EQ(three.evicted, 1047u) << "three times what answers to the first take";
    const Missing slow(missing(3, 9), 5);
    EXPECT_EQ(slow.probes, (Ticks{1032, 1037, 1046}));
    EXPECT_EQ(slow.evicted, 1055u) << "a quick interval behind the last";
    const Missing two(missing(2, 1), 12);
    EXPECT_EQ(two.probes, (Ticks{1032, 1044}));
    EXPECT_EQ(two.evicted, 1068u);
    const Missing most(missing(kSuspectMissesMax, 2), 5);
    EXPECT_EQ(most.probes.size(), kSuspectMissesMax);
    EXPECT_EQ(most.evicted, 1032u + 5 + 7 * 2 + 5);
    // Where the timeout is over by then, and where there are none.
    for (const auto& [misses, timeout] : {std::pair{9u, 48u}, {3u, 41u}}) {
        const Missing with(missing(misses, 2, timeout), 5), without(missing(0, 2, timeout), 5);
        EXPECT_EQ(with.evicted, misses == 9 ? 1048u : 1041u);
        EXPECT_EQ(with.probes, without.probes);
    }
}

TEST(Misses, ThatAreLateDoNotCountInThisSilence) {
    const HeartbeatConfig config = missing(3, 2);
    const auto late = [&](uint32_t out, Tick now) {
        return heartbeat_step(heard_at(1000) | sent(out), kLook, 0, now, config, 5);
    };
    // Due at 1037 and 1039, with 10 and 8 ticks left to the end.
    EXPECT_EQ(late(1, 1039).heard, heard_at(1000) | sent(2));
    EXPECT_EQ(late(1, 1040).heard, heard_excused(heard_at(1000) | sent(2)));
    EXPECT_EQ(late(2, 1041).heard, heard_at(1000) | sent(3));
    EXPECT_EQ(late(2, 1042).heard, heard_excused(heard_at(1000) | sent(3)));
    EXPECT_EQ(late(2, 1060).verdict, kProbe) << "the end by misses is over, and not the timeout";
    EXPECT_EQ(late(2, 1095).verdict, kEvict);
    // Or late behind the look.
    const auto leaves = [&](uint32_t out, Tick now) {
        return heartbeat_left_late(heard_at(1000) | sent(out), 0, now, config, 5);
    };
    EXPECT_EQ(leaves(3, 1041), heard_at(1000) | sent(3));
    EXPECT_EQ(leaves(3, 1042), heard_excused(heard_at(1000) | sent(3)));
    EXPECT_EQ(leaves(1, 1035), heard_at(1000) | sent(1));
    EXPECT_EQ(leaves(1, 1036), heard_at(1004) | sent(1)) << "the first moves the last proof";
    // Then the timeout holds, with all its probes; and a proof begins anew.
    const uint32_t excused = heard_excused(heard_at(1000) | sent(3));
    EXPECT_EQ(heartbeat_deadline(excused, 0, 1047, config, 5), 1041u);
    EXPECT_EQ(heartbeat_ends_at(excused, 0, 1047, config, 5), 1090u);
    EXPECT_EQ(heartbeat_step(excused, kProof, 0, 1050, config, 5).heard, heard_at(1050));
    EXPECT_EQ(heard_progress(excused, 10, 1050), heard_excused(heard_at(1010) | sent(3)));
}

// A server that is late now and then, and a peer that is dead, or answers each probe after no more
// than twice what its answers take, however late the server reads them. What is expected is kept
// the long way: when each probe left.
TEST(Misses, EvictNoneThatAnswersAndNoneBeforeEachProbeHasHadItsTime) {
    uint64_t by_misses = 0;
    for (uint64_t seed = 1; seed <= test::scaled(20'000); ++seed) {
        Random random(seed);
        const auto misses = static_cast<uint32_t>(random.between(2, kSuspectMissesMax));
        const auto quick = static_cast<uint16_t>(random.between(1, 12));
        const auto timeout = static_cast<uint32_t>(random.between(40, 150));
        HeartbeatConfig config = missing(misses, quick, timeout);
        if (random.chance(1, 2)) config.liveness = Liveness::roundtrip;
        const auto wait = static_cast<AnswerWait>(random.between(1, 20));
        const bool answers = random.chance(1, 2);
        const bool punctual = random.chance(1, 3);
        uint32_t heard = heard_at(1000);
        Tick now = 1000, away = 0, proof = 1000, answer_at = kNoTick;
        std::vector<Tick> left;
        for (int looks = 0; looks < 400; ++looks) {
            if (answer_at <= now) {
                heard = heard_at(now);
                proof = now;
                left.clear();
                answer_at = kNoTick;
            }
            const HeartbeatStep step = heartbeat_step(heard, kLook, 0, now, config, wait);
            if (step.verdict == kEvict) {
                const bool has_time = left[0] + 3 * Tick{wait} < proof + timeout;
                ASSERT_FALSE(answers && has_time) << "seed " << seed;
                ASSERT_LE(now, proof + timeout + away) << "seed " << seed;
                if (now >= proof + timeout) break;
                ++by_misses;
                ASSERT_EQ(left.size(), misses) << "seed " << seed;
                ASSERT_GE(4 * (now - left.back()), 3 * std::max<Tick>(wait, quick)) << seed;
                ASSERT_GE(4 * (now - left[0]), 11 * Tick{wait}) << seed;
                if (punctual) {
                    ASSERT_EQ(now, Missing(config, wait).evicted + proof - 1000) << seed;
                }
                break;
            }
            heard = step.heard;
            if (step.verdict == kProbe) {
                left.push_back(now);
                if (answers && answer_at == kNoTick) answer_at = now + 1 + random.below(2 * wait);
            }
            const Tick late =
                !punctual && random.chance(1, 4) ? random.below(random.chance(1, 4) ? 300 : 6) : 0;
            away += late;
            now = std::min(step.next, std::max(answer_at, now + 1)) + late;
        }
    }
    EXPECT_GT(by_misses, test::scaled(4'000));
}

TEST(RoundTrips, AreSmoothedAsRfc6298Says) {
    constexpr Nanos kMost = 30 * kSecond;
    const auto in_ms = [](Nanos time) { return static_cast<double>(time) / kMillisecond; };
    RoundTrip trip;
    EXPECT_FALSE(trip.known());
    EXPECT_EQ(trip.answer_wait(kMost), kAnswerWaitUnknownNs);
    EXPECT_EQ(trip.answer_wait(kSecond), kSecond);
    double smoothed = 0, deviation = 0;
    Random random(7);
    for (int i = 0; i < 1'000; ++i) {
        const auto took = static_cast<Nanos>(random.between(80, 900)) * kMillisecond;
        const double sample = in_ms(took);
        deviation = i == 0 ? sample / 2 : deviation * 3 / 4 + std::abs(smoothed - sample) / 4;
        smoothed = i == 0 ? sample : smoothed * 7 / 8 + sample / 8;
        trip.add(took, kRoundTripAlphaDefault);
        ASSERT_NEAR(in_ms(trip.smoothed()), smoothed, 2) << i;
        ASSERT_NEAR(in_ms(trip.deviation()), deviation, 2) << i;
        ASSERT_NEAR(in_ms(trip.answer_wait(kMost)), smoothed + 4 * deviation, 10) << i;
    }
    // Even ones leave no deviation, and no wait is shorter than a host may put an answer off.
    for (int i = 0; i < 100; ++i) trip.add(20 * kMillisecond, kRoundTripAlphaDefault);
    EXPECT_NEAR(in_ms(trip.smoothed()), 20, 2);
    EXPECT_EQ(trip.answer_wait(kMost), kAnswerWaitNsMin);
    // With an alpha of 1 the newest is all.
    trip.add(5 * kSecond, 1'000'000);
    EXPECT_NEAR(in_ms(trip.smoothed()), 5'000, 1);
    trip.add(kSecond * 3'600, kRoundTripAlphaDefault);
    trip.add(0, 1'000'000);
    EXPECT_TRUE(trip.known());
}

TEST(AdaptiveIntervals, AreLevelsFromOneEndToTheOther) {
    for (const auto& [least, most] : {std::pair{30 * kSecond, 600 * kSecond},
                                      {kSecond, 1'200 * kSecond},
                                      {10 * kSecond, 10 * kSecond},
                                      {30 * kSecond, 32 * kSecond}}) {
        const AdaptiveRange range{least, most};
        ASSERT_TRUE(range.fits());
        EXPECT_EQ(range.interval(0), std::min(least, most));
        EXPECT_EQ(range.interval(range.top()), most);
        for (uint8_t level = 0; level < range.top(); ++level) {
            const double step = static_cast<double>(range.interval(level + 1)) /
                                static_cast<double>(range.interval(level));
            EXPECT_GT(step, 1.05) << int{level};
            EXPECT_LT(step, 1.19) << int{level};
            EXPECT_EQ(range.level_at(range.interval(level)), level);
        }
        EXPECT_EQ(range.level_at(least / 2), 0);
        EXPECT_EQ(range.level_at(2 * most), range.top());
    }
    EXPECT_FALSE((AdaptiveRange{kSecond, 1'500 * kSecond}.fits())) << "64 levels do not reach";
    EXPECT_FALSE((AdaptiveRange{2 * kSecond, kSecond}.fits()));
}

// A network that bears silences below `bears`: how its level goes.
TEST(AdaptiveIntervals, StayBelowWhatFailedAndTryItAgainSeldom) {
    constexpr uint8_t kBears = 20, kTop = 30;
    AdaptiveState state;
    uint8_t level = 5;
    int failures = 0, below = 0;
    for (int silence = 0; silence < 1'000; ++silence) {
        const bool kept = level < kBears;
        failures += kept ? 0 : 1;
        below += level == kBears - 1 ? 1 : 0;
        const uint8_t before = level;
        level = adapt_level(state, level, kept, kTop);
        ASSERT_LE(level, kept ? before + 1 : before - kAdaptiveBack);
    }
    EXPECT_LE(failures, 1'000 / kAdaptiveRetry);
    EXPECT_GT(failures, 5) << "it is tried again";
    EXPECT_GT(below, 700);
    // Without a bound it grows to the top and stays.
    state = {};
    level = 0;
    for (int silence = 0; silence < kTop * kAdaptiveQuiet; ++silence) {
        EXPECT_EQ(level, silence / kAdaptiveQuiet);
        level = adapt_level(state, level, true, kTop);
    }
    for (int silence = 0; silence < 300; ++silence)
        EXPECT_EQ(level = adapt_level(state, level, true, kTop), kTop);
    EXPECT_EQ(adapt_level(state, 3, false, kTop), 0);
}

TEST(NetworkLevels, TellANatFromADeviceThatIsSwitchedOff) {
    constexpr Nanos kHour = 3'600 * kSecond;
    NetworkLevels networks;
    EXPECT_EQ(networks.start(7, 3, 0), 3) << "off";
    networks.turn_on();
    EXPECT_EQ(networks.start(7, 3, 0), 3);
    EXPECT_EQ(networks.most(7, 30, 0), 30);
    for (uint8_t level = 3; level <= 6; ++level) networks.note_kept(7, level);
    EXPECT_EQ(networks.start(7, 3, 0), 6);
    // Lost at a level that others keep, or without a return: it was switched off.
    networks.note_lost(7, 6, true, 0);
    networks.note_lost(7, 9, false, 0);
    EXPECT_EQ(networks.most(7, 30, 0), 30);
    networks.note_kept(7, 5);
    networks.note_kept(7, 6);
    networks.note_lost(7, 6, true, 0);
    networks.note_lost(7, 6, false, 0);
    EXPECT_EQ(networks.most(7, 30, 0), 30) << "three in a row, it would be";
    networks.note_kept(7, 6);
    // One that none has kept, and whose device is there.
    networks.note_lost(7, 7, true, kHour);
    EXPECT_EQ(networks.most(7, 30, kHour), 6);
    EXPECT_EQ(networks.start(7, 20, kHour), 6);
    networks.note_lost(7, 6, true, kHour);
    networks.note_kept(7, 5);
    networks.note_lost(7, 6, false, kHour);
    networks.note_lost(7, 6, false, kHour);
    EXPECT_EQ(networks.most(7, 30, kHour), 5) << "and it bears less now";
    EXPECT_EQ(networks.most(7, 30, 24 * kHour), 5);
    EXPECT_EQ(networks.most(7, 30, 170 * kHour), 30) << "a week later that is tried again";
    networks.note_lost(7, 0, true, 0);
    EXPECT_EQ(networks.start(7 + kAdaptiveNetworks, 2, 0), 2) << "another one of the same place";
    networks.note_kept(7 + kAdaptiveNetworks, 9);
    EXPECT_EQ(networks.start(7, 1, 0), 1);
}

// What --heartbeat-interval 30s makes of a million that log in within one second, each of which
// answers its probes 50 ms later and says nothing else.
TEST(HeartbeatPolicy, AMillionThatLoggedInWithinASecondAreProbedEvenly) {
    constexpr TickClock kClock{kTickShiftDefault};
    constexpr Nanos kInterval = 30 * kSecond, kTimeout = 90 * kSecond, kBin = 100 * kMillisecond;
    const HeartbeatConfig config{kClock.ticks(kInterval),
                                 kClock.ticks(probe_grace(kInterval, kTimeout)),
                                 kClock.ticks(kTimeout)};
    const auto peers = static_cast<Index>(test::scaled(1'000'000));
    std::vector<uint32_t> bins(1'300);
    for (Index index = 0; index < peers; ++index) {
        const Nanos login = 1'000 * kSecond + kSecond * index / peers;
        uint32_t heard = connected_at(kClock.up(login));
        Tick now = kClock.up(login);
        while (true) {
            now = heartbeat_deadline(heard, index, now, config);
            const auto bin = static_cast<size_t>((kClock.begins(now) - 1'000 * kSecond) / kBin);
            if (bin >= bins.size()) break;
            ++bins[bin];
            now += kClock.ticks(50 * kMillisecond);
            heard = heard_at(now);
        }
    }
    // From when all are in, over three intervals and their graces.
    uint32_t peak = 0;
    double sum = 0;
    size_t from = 10, to = 10 + 3 * 320;
    for (size_t bin = from; bin < to; ++bin) {
        peak = std::max(peak, bins[bin]);
        sum += bins[bin];
    }
    const double ratio = peak / (sum / static_cast<double>(to - from));
    std::cout << "REPORT probes of " << peers << " that logged in within 1 s, per 100 ms: peak "
              << peak << ", " << ratio << " of the mean\n";
    EXPECT_LE(ratio, 1.5);
}

// ------------------------------------------------------------------------------ peers of any kind

// One connection of a server that comes exactly when it said it would.
struct Served {
    HeartbeatConfig config;
    Index index = 0;
    uint32_t heard = 0;
    Tick next = 0;
    std::vector<Tick> probes;
    std::optional<Tick> evicted;

    Served(const HeartbeatConfig& heartbeat, Tick heard_tick)
        : config(heartbeat), heard(heard_at(heard_tick)), next(heard_tick) {}
    // Looks up to and at `to`. What arrives at a tick is delivered before that tick is judged.
    void run(Tick to) {
        for (int looks = 0; !evicted && next <= to; ++looks) {
            ASSERT_LT(looks, 10'000);
            look(next);
        }
    }
    Verdict look(Tick now) {
        const HeartbeatStep step = heartbeat_step(heard, kLook, index, now, config);
        heard = step.heard;
        next = step.next;
        if (step.verdict == kProbe) probes.push_back(now);
        if (step.verdict == kEvict) evicted = now;
        return step.verdict;
    }
    void proof(Tick now) {
        run(now - 1);
        if (!evicted) heard = heard_at(now);
    }
};

TEST(HeartbeatPolicy, ASilentPeerIsProbedOnceAnIntervalAndEvictedAtTheTimeout) {
    for (const Tick start : {Tick{1000}, (Tick{1} << 24) - 17, (Tick{1} << 32) - 3}) {
        for (uint32_t intervals = 1; intervals <= 9; ++intervals) {
            for (const uint32_t grace : {0u, 3u}) {
                Served peer({10, grace, 10 * intervals}, start);
                peer.run(start + 1'000);
                std::vector<Tick> expected;
                for (Tick at = start + 10 + grace; at < start + 10 * intervals; at += 10) {
                    expected.push_back(at);
                }
                EXPECT_EQ(peer.probes, expected) << intervals << " intervals";
                EXPECT_EQ(peer.evicted, start + 10 * intervals);
            }
        }
    }
}

TEST(HeartbeatPolicy, WhenProbesCannotBeCountedAnyMoreTheDeadlineStillHolds) {
    Served peer({1, 0, 500}, 1000);
    peer.run(2'000);
    EXPECT_EQ(peer.probes.size(), kProbesMax);
    EXPECT_EQ(peer.evicted, 1500u);
}

// All ways to lose beats: two in a row are forgiven, and three are the timeout to the tick, whether
// the server probes besides or not.
TEST(HeartbeatPolicy, TwoBeatsLostInARowAreForgivenAndThreeAreNot) {
    for (const HeartbeatConfig& config : {kStandard, kQuiet}) {
        for (uint32_t arrives = 0; arrives < (1u << 12); ++arrives) {
            Served peer(config, 1000);
            Tick last = 1000;
            std::optional<Tick> expected;
            for (uint32_t beat = 1; beat <= 12; ++beat) {
                const Tick at = 1000 + beat * 30;
                if ((arrives >> (beat - 1) & 1) != 0) {
                    peer.proof(at);
                    if (!expected) last = at;
                } else if (!expected && at == last + 90) {
                    expected = at;
                }
                peer.run(at);
            }
            ASSERT_EQ(peer.evicted, expected) << "beats that arrive: " << arrives;
        }
    }
}

// All ways to lose probes: as long as one of those that fit into the timeout is answered, the peer
// stays; otherwise it goes at the timeout after the last answer.
TEST(HeartbeatPolicy, APeerThatAnswersOneProbeOfASilenceIsNeverEvicted) {
    for (const uint32_t intervals : {3u, 4u, 5u}) {
        const uint32_t fit = intervals - 1;  // the last interval is for the answer to the last
        const HeartbeatConfig config{30, 2, 30 * intervals};
        for (uint32_t answered = 0; answered < (1u << 12); ++answered) {
            Served peer(config, 1000);
            Tick last = 1000;
            uint32_t unanswered = 0;
            for (uint32_t probe = 0; probe < 12 && unanswered < fit; ++probe) {
                while (peer.probes.size() == probe && !peer.evicted) peer.run(peer.next);
                ASSERT_FALSE(peer.evicted) << intervals << " intervals, answers " << answered;
                ++unanswered;
                if ((answered >> probe & 1) == 0) continue;
                unanswered = 0;
                last = peer.probes.back() + 25;  // slow, but before the next
                peer.proof(last);
            }
            if (unanswered < fit) continue;
            peer.run(last + 30 * intervals - 1);
            ASSERT_FALSE(peer.evicted);
            peer.run(last + 30 * intervals);
            ASSERT_TRUE(peer.evicted) << intervals << " intervals, answers " << answered;
        }
    }
}

TEST(HeartbeatPolicy, FirstProbesAreSpreadEvenlyOverTheInterval) {
    const HeartbeatConfig config{
        .interval_ticks = 3'600, .grace_ticks = 100, .timeout_ticks = 10'800};
    for (const Index first : {0u, 1u, 1'000u, 123'456u, 16'000'000u}) {
        for (const uint32_t count : {10u, 100u, 3'000u, 100'000u}) {
            std::vector<uint32_t> after;
            for (Index index = first; index < first + count; ++index) {
                const HeartbeatStep step = heartbeat_step(0, kConnected, index, 5'000, config);
                ASSERT_GT(step.next, 5'000u);
                ASSERT_LE(step.next, 5'000u + config.interval_ticks);  // only ever earlier
                after.push_back(static_cast<uint32_t>(step.next - 5'000));
            }
            // In any tenth of the interval there is a tenth of the peers, give or take a few.
            std::sort(after.begin(), after.end());
            for (uint32_t from = 0; from + 360 <= 3'600; from += 90) {
                const auto low = std::upper_bound(after.begin(), after.end(), from);
                const auto high = std::upper_bound(after.begin(), after.end(), from + 360);
                ASSERT_NEAR(static_cast<double>(high - low), count / 10.0, 4 + count / 1'000.0)
                    << count << " places from " << first << ", ticks from " << from;
            }
        }
    }
}

// ---------------------------------------------------------------------------- a server that stalls

// The server comes by only between its stalls; each time it first hears what has arrived.
struct Stalling {
    Served peer;
    Random random;
    Tick now;
    Tick overslept = 0;  // by how much probes came late, in all

    Stalling(const HeartbeatConfig& config, uint64_t seed)
        : peer(config, 1000), random(seed), now(1000) {}
    Tick wake() {
        const Tick late = random.chance(1, 4) ? random.below(peer.config.timeout_ticks * 5) : 0;
        const Tick wanted = std::max(now + 1, peer.next);
        return now = wanted + (random.chance(1, 3) ? random.below(8) : late);
    }
    Verdict look() {
        const Tick due = heartbeat_deadline(peer.heard, 0, now, peer.config);
        const Verdict verdict = peer.look(now);
        if (verdict == kProbe) overslept += now - due;
        return verdict;
    }
};

TEST(HeartbeatPolicy, NoStallEvictsAPeerThatAnswersProbes) {
    const HeartbeatConfig config{.interval_ticks = 40, .grace_ticks = 2, .timeout_ticks = 120};
    for (uint64_t seed = 1; seed <= test::scaled(300); ++seed) {
        Stalling server(config, seed);
        Tick answer_at = kNoTick;
        for (int turn = 0; turn < 300; ++turn) {
            const Tick now = server.wake();
            if (answer_at <= now) {
                server.peer.heard = heard_at(now);  // heard of when it was read
                answer_at = kNoTick;
            }
            const Verdict verdict = server.look();
            ASSERT_NE(verdict, kEvict) << "seed " << seed << " at " << server.now;
            if (verdict == kProbe && answer_at == kNoTick) {
                answer_at = now + 1 + server.random.below(20);
            }
        }
        EXPECT_GT(server.peer.probes.size(), 50u);
    }
}

// The first probe of a silence is planned to have all that interval and grace leave of the timeout.
TEST(HeartbeatPolicy, AnAnswerHasThreeQuartersOfItsTimeHoweverLateTheProbe) {
    for (const uint32_t interval : {1u, 4u, 8u, 30u}) {
        for (uint32_t planned = 1; planned <= 3 * interval; ++planned) {
            const HeartbeatConfig config{interval, 1, interval + 1 + planned};
            const Tick due = 1000 + interval + 1;
            for (Tick late = 0; late <= 5 * interval; ++late) {
                Served peer(config, 1000);
                ASSERT_EQ(peer.look(due + late), kProbe);
                const Tick evict_at = heartbeat_evict_at(peer.heard, due + late, config);
                ASSERT_GE(4 * (evict_at - (due + late)), 3 * Tick{planned})
                    << interval << '/' << config.timeout_ticks << ", late by " << late;
            }
        }
    }
}

TEST(HeartbeatPolicy, TheFirstProbeOfASilenceIsSaidToLeaveWhenItWasDueOrAsLateAsItWas) {
    const HeartbeatConfig config{40, 5, 130};
    for (const uint32_t first : {0u, kHeardFirst}) {
        for (const Tick late : {0, 3, 10, 11, 25}) {
            Served peer(config, 1000);
            peer.heard |= first;
            EXPECT_EQ(heartbeat_first_probe_due(peer.heard, 0, 1000, config), kNoTick);
            const Tick due = heartbeat_deadline(peer.heard, 0, 1000, config);
            ASSERT_EQ(peer.look(due + late), kProbe);
            // Up to a quarter of an interval is borne, and the look's lateness is in the answer's.
            const Tick said = heartbeat_first_probe_due(peer.heard, 0, due + late, config);
            EXPECT_EQ(said, late <= 10 ? due : due + late) << late;
            ASSERT_EQ(peer.look(peer.next), kProbe);
            EXPECT_EQ(heartbeat_first_probe_due(peer.heard, 0, peer.next, config), said)
                << "a second one that is not late";
            peer.heard = heard_at(peer.next);
            EXPECT_EQ(heartbeat_first_probe_due(peer.heard, 0, peer.next, config), kNoTick);
        }
    }
}

TEST(HeartbeatPolicy, AStallDelaysTheEvictionOfTheDeadByNoMoreThanItself) {
    for (uint64_t seed = 1; seed <= test::scaled(2'000); ++seed) {
        Stalling server(kStandard, seed);
        Tick before = 1000;
        for (int turn = 0; !server.peer.evicted; ++turn) {
            ASSERT_LT(turn, 100);
            before = server.now;
            server.wake();
            server.look();
            ASSERT_LT(server.peer.probes.size(), 4u);
        }
        ASSERT_GE(server.now, 1090u);  // never early
        ASSERT_LE(heartbeat_evict_at(server.peer.heard, server.now, kStandard),
                  1090 + server.overslept);
        ASSERT_LT(before, 1090 + server.overslept);  // it went on the first look at or after that
    }
}

TEST(HeartbeatPolicy, AServerThatSleptForManyTimeoutsProbesFirst) {
    for (Tick slept = 0; slept < 3'000; ++slept) {
        for (const uint32_t word : {1000u, 1000u | kHeardFirst, 1000 | sent(1)}) {
            Served peer(kStandard, 1000);
            peer.heard = word;
            const Tick due = heartbeat_deadline(word, 0, 1000, kStandard);
            ASSERT_EQ(peer.look(due + slept), kProbe);
            // The answer has the rest of the interval, less what is a quarter late at most.
            const Tick evict_at = heartbeat_evict_at(peer.heard, due + slept, kStandard);
            ASSERT_GE(evict_at, due + slept + 28 - 7);
            peer.run(evict_at - 1);
            ASSERT_FALSE(peer.evicted);
            peer.run(evict_at);
            ASSERT_TRUE(peer.evicted);
        }
    }
}

// -------------------------------------------------------------------------------- ticks and clocks

TEST(Ticks, AStoredTickIsUnambiguousAtEveryWrap) {
    constexpr int64_t kHalf = int64_t{1} << (kStoredTickBits - 1);
    std::vector<Tick> edges;
    for (Tick wraps = 1; wraps < 5'000; wraps += 7) edges.push_back(wraps << kStoredTickBits);
    for (Tick wraps = 1; wraps < 9; ++wraps) {
        edges.push_back(wraps << 31);
        edges.push_back(wraps << 32);
    }
    for (const Tick edge : edges) {
        for (int64_t near = -3; near <= 3; ++near) {
            for (const int64_t distance :
                 {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{3}, int64_t{kTimeoutTicksMax},
                  kHalf - 1, int64_t{-1}, int64_t{-2}, -int64_t{kTimeoutTicksMax}, -kHalf}) {
                const Tick now = edge + static_cast<Tick>(near);
                const Tick tick = now + static_cast<Tick>(distance);
                ASSERT_EQ(restore_tick(static_cast<uint32_t>(tick) & kStoredTickMask, now), tick)
                    << edge << ' ' << near << ' ' << distance;
                ASSERT_EQ(restore_tick(heard_at(tick), now), tick);
            }
        }
    }
    EXPECT_EQ(restore_tick(5, 0), 5u);
    EXPECT_EQ(restore_tick(0, 0), 0u);
}

TEST(Ticks, ClocksRoundSoThatNothingIsEarly) {
    Random random(1);
    for (uint32_t shift = kTickShiftMin; shift <= kTickShiftMax; ++shift) {
        const TickClock clock{shift};
        EXPECT_EQ(clock.tick_ns(), Nanos{1} << shift);
        EXPECT_EQ(clock.ticks(0), 1u);
        EXPECT_EQ(clock.ticks(1), 1u);
        EXPECT_EQ(clock.ticks(clock.tick_ns()), 1u);
        EXPECT_EQ(clock.ticks(clock.tick_ns() + 1), 2u);
        for (int i = 0; i < 2'000; ++i) {
            const Nanos whole = clock.begins(random.below(uint64_t{1} << 34));
            const Nanos at = whole + static_cast<Nanos>(random.below(3)) - (whole > 0 ? 1 : 0);
            const Nanos any = static_cast<Nanos>(random.below(uint64_t{1} << 60));
            for (const Nanos instant : {whole, at, any}) {
                const Tick up = clock.up(instant);
                const Tick down = clock.down(instant);
                ASSERT_GE(clock.begins(up), instant);
                ASSERT_LT(clock.begins(up), instant + clock.tick_ns());
                ASSERT_LE(clock.begins(down), instant);
                ASSERT_GT(clock.begins(down + 1), instant);
                // An eviction at the tick that follows from what is remembered: not before the
                // timeout is over, and less than two ticks after.
                const Nanos timeout = 1 + static_cast<Nanos>(random.below(3'600 * kSecond));
                const Nanos evicted = clock.begins(up + clock.ticks(timeout));
                ASSERT_GE(evicted, instant + timeout);
                ASSERT_LT(evicted, instant + timeout + 2 * clock.tick_ns());
            }
        }
    }
}

// ---------------------------------------------------------------------------------------- the soak

// Five hundred days of a server on a clock that only moves from one event to the next: table, wheel
// and policy together, under peers that beat, peers that only answer, and peers that say nothing.
// All of them are silent in the end, or leave.
class Soak {
  public:
    explicit Soak(uint64_t seed, uint32_t population)
        : random_(seed),
          table_(pages_, population),
          wheel_(pages_, table_.records(), population, 0),
          peers_(population) {
        for (uint32_t i = 0; i < population; ++i) {
            plan({random_.below(1'000'000), kNoIndex, 0, Kind::arrive});
        }
    }
    void run(Tick end) {
        for (uint64_t turn = 0; now_ < end && !::testing::Test::HasFatalFailure(); ++turn) {
            now_ = wheel_.next_work();
            if (!plans_.empty()) now_ = std::min(now_, plans_.top().at);
            while (!plans_.empty() && plans_.top().at <= now_) {
                const Plan plan = plans_.top();
                plans_.pop();
                happen(plan);
            }
            judge();
            if (turn % 50'000 == 0) audit();
        }
        audit();
    }

    uint64_t evicted = 0;
    uint64_t left = 0;
    uint64_t beats = 0;
    uint64_t answers = 0;
    uint64_t probes_lost = 0;

  private:
    enum class Kind : uint8_t { arrive, beat, answer, leave };
    enum class Manner : uint8_t { beats, answers, silent };
    struct Plan {
        Tick at;
        Index index;
        uint32_t generation;
        Kind kind;
        bool operator<(const Plan& other) const { return at > other.at; }
    };
    struct Peer {
        Manner manner = Manner::silent;
        bool fresh = true;
        Tick last_proof = 0;
        Tick last_probe = kNoTick;
        Tick mute_from = 0;
        uint32_t lost = 0;  // probes in a row
    };

    static constexpr uint32_t kSecondTicks = 119;  // of 8.39 ms
    static HeartbeatConfig config_of(uint8_t profile) {
        constexpr uint32_t kIntervals[] = {30, 1'200, 3'600, 10'800};
        const uint32_t interval = kIntervals[profile / 2] * kSecondTicks;
        return {interval, interval / 50, 3 * interval, true, 0,
                profile % 2 == 0 ? Liveness::any : Liveness::roundtrip};
    }
    static_assert(3u * 10'800 * kSecondTicks <= kTimeoutTicksMax);

    void plan(const Plan& plan) { plans_.push(plan); }

    void happen(const Plan& plan) {
        if (plan.kind == Kind::arrive) return arrive();
        if (table_.find({plan.index, plan.generation}) == nullptr) return;
        Peer& peer = peers_[plan.index];
        if (plan.kind == Kind::leave) {
            ++left;
            return depart(plan.index);
        }
        if (now_ >= peer.mute_from) return;
        ++(plan.kind == Kind::beat ? beats : answers);
        // The message path: one store, and nothing to the wheel.
        table_[plan.index].heard = heard_at(now_);
        peer.last_proof = now_;
        peer.last_probe = kNoTick;
        peer.fresh = false;
        peer.lost = 0;
        if (plan.kind == Kind::beat) plan_beat(plan.index);
    }
    void plan_beat(Index index) {
        const uint32_t interval = config_of(table_[index].profile).interval_ticks;
        // Up to three intervals and a bit less: beats may be lost, and one is just in time.
        const Tick after = random_.chance(1, 8) ? 3 * interval - random_.below(2)
                                                : interval - random_.below(interval / 10);
        plan({now_ + after, index, table_[index].generation, Kind::beat});
    }
    void arrive() {
        const Index index = table_.take();
        ASSERT_NE(index, kNoIndex);
        Connection& connection = table_[index];
        const uint64_t draw = random_.below(100);
        connection.profile = draw < 5 ? 0 : draw < 12 ? 2 : draw < 35 ? 4 : 6;
        connection.profile = static_cast<uint8_t>(connection.profile + random_.below(2));
        const HeartbeatConfig config = config_of(connection.profile);
        const Tick life = config.interval_ticks * (2 + random_.below(150));
        Peer& peer = peers_[index];
        peer = {};
        peer.manner = static_cast<Manner>(random_.below(3));
        peer.last_proof = now_;
        peer.mute_from = peer.manner == Manner::silent ? now_ : now_ + life;
        const HeartbeatStep step = heartbeat_step(0, kConnected, index, now_, config);
        connection.heard = step.heard;
        connection.stage = Stage::open;
        wheel_.arm(index, step.next);
        if (peer.manner == Manner::beats) plan_beat(index);
        if (random_.chance(1, 4)) plan({now_ + life, index, connection.generation, Kind::leave});
    }
    void depart(Index index) {
        table_.release(index);
        plan({now_ + 1 + random_.below(3'600 * kSecondTicks), kNoIndex, 0, Kind::arrive});
    }

    void judge() {
        while (wheel_.next_work() <= now_) {
            uint32_t budget = 1 + static_cast<uint32_t>(random_.below(20));
            Index index;
            while ((index = wheel_.pop_due(now_, budget)) != kNoIndex) {
                if (table_[index].stage != Stage::free) judge(index);
            }
        }
    }
    void judge(Index index) {
        Connection& connection = table_[index];
        Peer& peer = peers_[index];
        const HeartbeatConfig config = config_of(connection.profile);
        const HeartbeatStep step = heartbeat_step(connection.heard, kLook, index, now_, config);
        if (step.verdict == kEvict) {
            ++evicted;
            ASSERT_EQ(now_, peer.last_proof + config.timeout_ticks);
            ASSERT_TRUE(now_ >= peer.mute_from) << "a live peer was evicted";
            return depart(index);
        }
        connection.heard = step.heard;
        wheel_.arm(index, step.next);
        if (step.verdict == kProbe) probed(index, config);
    }
    void probed(Index index, const HeartbeatConfig& config) {
        Peer& peer = peers_[index];
        if (peer.last_probe != kNoTick) {
            ASSERT_EQ(now_, peer.last_probe + config.interval_ticks);
        } else if (peer.fresh) {
            ASSERT_LE(now_, peer.last_proof + config.interval_ticks);
        } else {
            ASSERT_EQ(now_, peer.last_proof + config.interval_ticks + config.grace_ticks);
        }
        peer.last_probe = now_;
        if (peer.manner != Manner::answers) return;
        if (peer.lost == 0 && random_.chance(1, 5)) {
            ++probes_lost;
            ++peer.lost;
            return;
        }
        const Tick answer = now_ + 1 + random_.below(config.interval_ticks / 2);
        if (answer >= peer.mute_from) peer.mute_from = std::min(peer.mute_from, now_);
        plan({answer, index, table_[index].generation, Kind::answer});
    }
    // None that is overdue is still here, and wheel and table are sound.
    void audit() {
        table_.validate();
        wheel_.validate([&](Index index) {
            const Connection& connection = table_[index];
            if (connection.stage == Stage::free) return kNoTick;
            return heartbeat_deadline(connection.heard, index, now_, config_of(connection.profile));
        });
        for (Index index = 0; index < peers_.size(); ++index) {
            const Connection& connection = table_[index];
            if (connection.stage == Stage::free) continue;
            ASSERT_GT(peers_[index].last_proof + config_of(connection.profile).timeout_ticks, now_);
        }
    }

    Random random_;
    HeapPages pages_;
    ConnectionTable table_;
    TimingWheel<Connection> wheel_;
    std::vector<Peer> peers_;
    std::priority_queue<Plan> plans_;
    Tick now_ = 0;
};

TEST(HeartbeatSoak, FiveHundredDaysWithoutAFalseALateOrAnEarlyEviction) {
    Soak soak(500, static_cast<uint32_t>(test::scaled(1'000)));
    soak.run(Tick{500} * 86'400 * 119);
    std::cout << soak.evicted << " evicted, " << soak.left << " left, " << soak.beats << " beats, "
              << soak.answers << " answers\n";
    EXPECT_GT(soak.evicted, test::scaled(20'000));
    EXPECT_GT(soak.left, test::scaled(5'000));
    EXPECT_GT(soak.beats, test::scaled(500'000));
    EXPECT_GT(soak.answers, test::scaled(500'000));
    EXPECT_GT(soak.probes_lost, test::scaled(100'000));
}

// --------------------------------------------------------------------------------- progress
TEST(HeardProgress, IsAProofUpToNowAndMovesTheLastOneOtherwise) {
    constexpr uint32_t kTwoProbes = 2u << kHeardProbeShift;
    const struct {
        uint32_t heard;
        uint64_t credit;
        Tick now;
        uint32_t expected;
    } rows[] = {
        {heard_at(100) | kTwoProbes, 0, 200, heard_at(100) | kTwoProbes},   // nothing
        {heard_at(100) | kTwoProbes, 30, 200, heard_at(130) | kTwoProbes},  // a part
        {heard_at(100) | kTwoProbes, 99, 200, heard_at(199) | kTwoProbes},  // one short
        {heard_at(100) | kTwoProbes, 100, 200, heard_at(200)},              // all: a proof
        {heard_at(100) | kTwoProbes, UINT64_MAX, 200, heard_at(200)},       // never beyond now
        {heard_at(201) | kTwoProbes, 50, 200, heard_at(201) | kTwoProbes},  // stamped rounded up
        {connected_at(100), 30, 200, connected_at(130)},                    // still its first
        {heard_at(0xFFFFF0), 0x20, 0x1000100, heard_at(0x1000010)},         // across the wrap
    };
    for (const auto& row : rows)
        EXPECT_EQ(heard_progress(row.heard, row.credit, row.now), row.expected) << row.credit;
}

}  // namespace
}  // namespace pulse
