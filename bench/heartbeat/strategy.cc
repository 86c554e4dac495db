// The ways of beating, others' and ours.
#include "bench/heartbeat/strategy.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/heartbeat/adaptive.h"
#include "core/heartbeat/nat_search.h"
#include "core/heartbeat_policy.h"

namespace pulse::study {
namespace {

// The standard profile.
class Fixed : public Strategy {
  public:
    double interval() const override { return 30; }
    double server_timeout() const override { return 90; }
    double answer_wait() const override { return 30; }
    void connected(uint32_t, double) override {}
    void answered(double, double) override {}
    void failed(double, double) override {}
};

// The same with --suspect-misses 5 --suspect-probe 2s. Its device beats by itself, so that nothing
// is known of its round trips when it is probed.
class Missed final : public Fixed {
  public:
    double server_timeout() const override {
        constexpr TickClock kClock{kTickShiftDefault};
        HeartbeatConfig heartbeat{
            .misses = 5, .quick_ticks = static_cast<uint16_t>(kClock.ticks(2 * kSecond))};
        const AnswerWait wait = kClock.ticks(kAnswerWaitUnknownNs);
        const Nanos grace = probe_grace(30 * kSecond, 90 * kSecond);
        const Nanos missed = kClock.begins(detail::misses_take(heartbeat, wait));
        return 30 + static_cast<double>(grace + missed) / kSecond;
    }
    bool is_probed() const override { return true; }
};

// Tencent Mars, mars/stn/src/smart_heartbeat.cc: on the one connection, each network for itself.
// Its server is not told the interval, and is given the longest one and a minute here.
class Mars final : public Strategy {
  public:
    double interval() const override { return stable_count_ < kStable ? kLeast : info().current; }
    double server_timeout() const override { return kMost + 60; }
    double answer_wait() const override { return 8; }
    void connected(uint32_t network, double) override {
        network_ = network;
        stable_count_ = 0;
    }
    void answered(double, double now) override {
        const double last = interval();
        ++stable_count_;
        Info& of = info();
        if (of.stable) {
            if (stable_count_ < kStable || of.current >= kMost - kMargin) return;
            if (now - of.changed < 7 * 86'400) return;
            of = {.current = of.current + kMargin, .changed = now};
            return;
        }
        if (last != of.current || stable_count_ < kStable) return;
        of.failures = 0;
        of.changed = now;
        if (of.current >= kMost) {
            of = {.current = kMost - kMargin, .stable = true, .changed = now};
        } else if (++of.successes >= kSuccesses) {
            of.current = std::min(of.current + kStep, kMost);
            of.successes = 0;
        }
    }
    void failed(double, double now) override {
        Info& of = info();
        const double last = interval();
        const bool counts = last == of.current && last != kLeast && stable_count_ >= kStable;
        if (!counts || ++of.failures < kFailures) return;
        const bool was_stable = of.stable;
        const double back = of.current - kStep - kMargin;
        of = {.current = was_stable ? kLeast : std::max(back, kLeast), .stable = !was_stable,
              .changed = now};
    }

  private:
    static constexpr double kLeast = 210, kMost = 600, kStep = 60, kMargin = 20;
    static constexpr int kStable = 3, kSuccesses = 5, kFailures = 2;
    struct Info {
        double current = kLeast;
        int successes = 0;
        int failures = 0;
        bool stable = false;
        double changed = 0;
    };
    Info& info() { return networks_[network_]; }
    const Info& info() const { return networks_.at(network_); }

    std::map<uint32_t, Info> networks_;
    uint32_t network_ = 0;
    int stable_count_ = 0;
};

// Gojek Courier, adaptive-keep-alive: whole minutes, tried on a second connection; the first one
// beats at the lower bound until an optimum is found. Bounds and step are the application's: 1 to
// 15 minutes in steps of 4 here. Its broker is told, as by MQTT's CONNECT, and evicts after 1.5
// times the interval.
class Courier final : public Strategy {
  public:
    double interval() const override {
        return 60.0 * (state_.optimal ? state_.kept : kLower);
    }
    double server_timeout() const override { return 1.5 * interval(); }
    double answer_wait() const override { return 40; }
    void connected(uint32_t network, double) override {
        if (network == network_) return;
        networks_[network_] = state_;
        network_ = network;
        state_ = networks_[network];
    }
    void answered(double, double) override {}
    void failed(double, double) override {
        if (state_.optimal && ++state_.optimal_failures >= kDropsOptimum) state_ = {};
    }
    std::vector<Trial> trials(double) override {
        while (!state_.optimal) {
            const int minutes = std::min(state_.kept + state_.step, state_.upper);
            state_.tries = minutes == state_.trying ? state_.tries + 1 : 0;
            state_.trying = minutes;
            if (state_.tries < kTries) return {{60.0 * minutes}};
            give_up(minutes);
        }
        return {};
    }
    void tried(double, Tried how, double) override {
        if (how != Tried::kept) return;  // it is tried again, up to kTries times
        state_.kept = state_.trying;
        state_.tries = 0;
        state_.optimal = state_.kept == state_.upper;
    }

  private:
    static constexpr int kLower = 1, kUpper = 15, kStep = 4, kTries = 3, kDropsOptimum = 3;
    struct State {
        int kept = kLower - kStep;
        int upper = kUpper;
        int step = kStep;
        int trying = -1;
        int tries = 0;
        bool optimal = false;
        int optimal_failures = 0;
    };
    void give_up(int minutes) {
        state_.tries = 0;
        state_.trying = -1;
        if (minutes <= kLower) {
            state_.kept = kLower;
            state_.optimal = true;
        } else if (state_.kept >= minutes - 1) {
            state_.upper = minutes - 1;
            state_.optimal = true;
        } else if (state_.step > 1) {
            state_.upper = minutes - 1;
            state_.step /= 2;
        }
    }

    std::map<uint32_t, State> networks_;
    uint32_t network_ = 0;
    State state_;
};

// --heartbeat-adaptive 30s..15m, as net/loop/adapting.cc has it.
class Ours : public Strategy {
  public:
    explicit Ours(Knowledge& knowledge) : knowledge_(knowledge) {}
    double interval() const override { return in_s(kRange.interval(level_)); }
    double server_timeout() const override {
        return in_s(adaptive_timeout(kRange.interval(level_), true));
    }
    double answer_wait() const override { return 30; }
    bool is_probed() const override { return true; }
    void connected(uint32_t network, double now) override {
        network_ = network;
        state_ = {};
        level_ = levels().start(network, kRange.level_at(30 * kSecond), in_ns(now));
    }
    void answered(double late_s, double now) override {
        // Later than the grace and the answer to the probe that follows it.
        const Nanos interval = kRange.interval(level_);
        const Nanos grace = probe_grace(interval, adaptive_timeout(interval, true));
        const bool kept = late_s < in_s(grace + kAnswerWaitNsMin);
        if (kept) levels().note_kept(network_, level_);
        level_ = adapt_level(state_, level_, kept, most(now));
    }
    void failed(double after_s, double now) override {
        const bool came_back = after_s <= in_s(kAdaptiveReturnNs);
        levels().note_lost(network_, level_, came_back, in_ns(now));
    }
    void evicted(double now) override { levels().note_lost(network_, level_, false, in_ns(now)); }

  protected:
    static constexpr AdaptiveRange kRange{30 * kSecond, 900 * kSecond};
    static constexpr uint8_t kTop = kRange.top();
    static double in_s(Nanos time) { return static_cast<double>(time) / kSecond; }
    static Nanos in_ns(double time_s) { return static_cast<Nanos>(time_s * kSecond); }
    NetworkLevels& levels() { return knowledge_.levels; }
    uint8_t most(double now) {
        return state_.top(levels().most(network_, kTop, in_ns(now)));
    }

    Knowledge& knowledge_;
    uint32_t network_ = 0;
    uint8_t level_ = 0;
    AdaptiveState state_;
};

// The same with --nat-probes, as net/loop/sides.cc and tools/client/js/src/nat_probes.js do: it
// stays where it begins until it has found by side connections what its network bears, and
// remembers that for a week.
class OursBeside final : public Ours {
  public:
    using Ours::Ours;
    void connected(uint32_t network, double now) override {
        Ours::connected(network, now);
        connected_at_ = now;
        begin_at_ = now + kBeginsAfter;
        voids_ = 0;
        searches_.try_emplace(network, reports().of(number(), in_ns(now)));
        bound(now);
    }
    void failed(double after_s, double now) override {
        Ours::failed(after_s, now);
        int& losses = losses_[network_];
        losses = now - connected_at_ < 3'600 ? losses + 1 : 0;
        if (losses < kForgets) return;
        losses = 0;
        if (search().done()) searches_.erase(network_);
    }
    std::vector<Trial> trials(double now) override {
        std::vector<Trial> all;
        for (const Nanos each : search().round())
            all.push_back({in_s(each), std::max(0.0, begin_at_ - now)});
        return all;
    }
    void tried(double silence_s, Tried how, double now) override {
        if (how == Tried::unknown) {
            begin_at_ = now + std::min(600.0, 30.0 * std::exp2(voids_++));
            return;
        }
        voids_ = 0;
        search().note(static_cast<Nanos>(std::llround(silence_s * 1e3)) * kMillisecond,
                      how == Tried::kept);
        if (search().done()) bound(now);
    }
    std::optional<double> found() const override {
        const NatSearch& of = searches_.at(network_);
        return of.done() ? std::optional(in_s(of.found().kept)) : std::nullopt;
    }

  private:
    static constexpr double kBeginsAfter = 35;  // 10 s to 60 s
    static constexpr int kForgets = 3;          // connections lost in a row, none an hour old
    uint32_t number() const { return network_ + 1; }
    NatReports& reports() { return knowledge_.reports; }
    NatSearch& search() { return searches_.at(network_); }
    void bound(double now) {
        if (search().done()) {
            const NatSilence found = search().found();
            reports().add(number(), 1, found, in_ns(now));
            state_ = {};
            level_ = std::min(kRange.level_at(found.interval()),
                              levels().most(network_, kTop, in_ns(now)));
        }
        state_.most = level_ + 1;
    }

    std::map<uint32_t, NatSearch> searches_;
    std::map<uint32_t, int> losses_;
    double connected_at_ = 0;
    double begin_at_ = 0;
    int voids_ = 0;
};

template <class Of>
std::unique_ptr<Strategy> make(Knowledge&) {
    return std::make_unique<Of>();
}
template <class Of>
std::unique_ptr<Strategy> make_ours(Knowledge& knowledge) {
    return std::make_unique<Of>(knowledge);
}

}  // namespace

const std::vector<Contender>& contenders() {
    static const std::vector<Contender> kAll = {
        {"fixed 30 s", make<Fixed>},
        {"fixed 30 s, 5 misses", make<Missed>},
        {"Mars", make<Mars>},
        {"Courier", make<Courier>},
        {"ours, first of its network", make_ours<Ours>},
        {"ours, network known", make_ours<Ours>, true},
        {"ours, side probing, first", make_ours<OursBeside>, false, true},
        {"ours, side probing, known", make_ours<OursBeside>, true, true},
    };
    return kAll;
}

}  // namespace pulse::study
