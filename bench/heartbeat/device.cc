// One device, event by event: heartbeats, what ends them, and trials beside them.
#include "bench/heartbeat/device.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/random.h"

namespace pulse::study {
namespace {

constexpr double kConnectPackets = 12;  // TCP, TLS, upgrade, hello and welcome
constexpr double kReconnectS = 1;

// Where in the spans of a world the time is; asked with times that do not go back.
class Where {
  public:
    explicit Where(const std::vector<Span>& spans) : spans_(spans) {}
    // When the span that `at` is in ends; `at` where it is in none.
    double over(double at) {
        const auto after = std::ranges::upper_bound(spans_, at, {}, &Span::from);
        if (after == spans_.begin()) return at;
        return std::max(at, std::prev(after)->to);
    }
    // When the first that begins at or behind `at` does; infinity: none.
    double next(double at) const {
        const auto after = std::ranges::lower_bound(spans_, at, {}, &Span::from);
        return after == spans_.end() ? INFINITY : after->from;
    }

  private:
    const std::vector<Span>& spans_;
};

class Device {
  public:
    Device(const World& world, Strategy& strategy)
        : world_(world),
          strategy_(strategy),
          random_(mix64(world.seed) ^ 5),
          outages_(world.outages),
          off_(world.off),
          stalls_(world.stalls) {}

    Outcome run() {
        const double end = world_.days * 86'400;
        connect(0);
        while (now_ < end) live(end);
        settle();
        return std::move(outcome_);
    }

  private:
    struct Used {
        double at;
        double interval;
        uint64_t tries;
    };
    const Network& network() const { return world_.scenario->networks[network_]; }
    double round_trip() {
        const double share = (static_cast<double>(random_.below(1 << 20)) + 0.5) / (1 << 20);
        return network().round_trip_s * (0.7 - std::log(share) * 0.43);
    }

    // Once the network passes something.
    void connect(double at) {
        now_ = outages_.over(at) + round_trip();
        outcome_.packets += static_cast<uint64_t>(kConnectPackets);
        strategy_.connected(network_, now_);
        heard_ = passed_ = now_;
        trials_.clear();
        begin_trials();
    }

    // Until its next heartbeat is over, or what comes before that.
    void live(double end) {
        const double beat = passed_ + strategy_.interval();
        used_.push_back({now_, strategy_.interval(), tries_});
        const double switched_off = off_.next(now_);
        const double moves = move_ < world_.moves.size() ? world_.moves[move_].at : INFINITY;
        const double next = std::min({beat, switched_off, moves, end});
        try_until(next);
        outcome_.on_s += next - now_;
        now_ = next;
        if (next == end) return;
        if (next == switched_off) return be_off();
        if (next == moves) return move();
        this->beat();
    }

    void be_off() {
        const double known = std::max(now_, heard_ + strategy_.server_timeout());
        outcome_.detection_s.push_back(known - now_);
        const double back = off_.over(now_);
        if (known < back) strategy_.evicted(known);
        for (; move_ < world_.moves.size() && world_.moves[move_].at <= back; ++move_)
            network_ = world_.moves[move_].network;
        moved_ = false;
        connect(back);
    }

    void move() {
        const Move& to = world_.moves[move_++];
        network_ = to.network;
        moved_ = true;
        trials_.clear();
        if (!to.noticed) return;
        moved_ = false;
        connect(now_ + kReconnectS);
    }

    void beat() {
        ++tries_;
        ++outcome_.packets;
        const double sent = now_;
        const double forgets = network().forgets_s;
        if (moved_) {
            moved_ = false;
            now_ = sent + strategy_.answer_wait();
            return lose(nullptr, sent);
        }
        if (forgets > 0 && sent - passed_ > forgets) {
            now_ = sent + round_trip();
            return lose(&outcome_.lost_forgotten, sent);
        }
        // In an outage TCP sends again, at twice the time since each time.
        const double over = outages_.over(sent);
        const double wait = over > sent ? (over - sent) * random_fraction() : 0;
        const double arrives = over + wait + network().round_trip_s / 2;
        const double evicts = heard_ + strategy_.server_timeout();
        if (arrives > evicts) {
            now_ = arrives;
            return lose(&outcome_.lost_evicted, sent);
        }
        // The server judges by what has arrived, however late it comes to it.
        const double read = stalls_.over(arrives);
        const double answered = read + round_trip() / 2;
        const double late = arrives - sent;
        if (strategy_.is_probed() && late > 2) outcome_.packets += 2;
        if (answered - sent > strategy_.answer_wait()) {
            now_ = sent + strategy_.answer_wait();
            return lose(&outcome_.lost_given_up, sent);
        }
        ++outcome_.packets;
        now_ = answered;
        heard_ = read;
        passed_ = answered;
        const double before = strategy_.interval();
        strategy_.answered(late, now_);
        if (strategy_.is_probed() && strategy_.interval() != before) ++outcome_.packets;
    }
    double random_fraction() { return static_cast<double>(random_.below(1 << 20)) / (1 << 20); }

    void lose(uint64_t* count, double sent) {
        if (count != nullptr) ++*count;
        strategy_.failed(now_ - sent, now_);
        connect(now_ + kReconnectS);
    }
    // ---- trials on connections beside it
    void begin_trials() {
        const std::vector<Strategy::Trial> wanted = strategy_.trials(now_);
        std::erase_if(trials_, [&](const Trial& trial) {
            const auto is_it = [&](const Strategy::Trial& each) {
                return each.silence_s == trial.silence_s;
            };
            return std::ranges::none_of(wanted, is_it);
        });
        for (const auto& [silence_s, after_s] : wanted) {
            const auto runs = [&](const Trial& trial) { return trial.silence_s == silence_s; };
            if (std::ranges::any_of(trials_, runs)) continue;
            trials_.push_back({silence_s, now_ + after_s, now_ + after_s + silence_s});
        }
        connect_trials(now_);
    }
    // Those that have begun by then have cost their packets.
    void connect_trials(double at) {
        for (Trial& trial : trials_) {
            if (trial.connected || trial.begins > at) continue;
            trial.connected = true;
            ++outcome_.trials;
            ++tries_;
            outcome_.packets += static_cast<uint64_t>(kConnectPackets) + 2;
        }
    }
    void try_until(double next) {
        while (!trials_.empty()) {
            const auto first = std::ranges::min_element(trials_, {}, &Trial::ends);
            if (first->ends > next) break;
            const Trial trial = *first;
            connect_trials(trial.ends);
            trials_.erase(first);
            const double forgets = network().forgets_s;
            const bool borne = forgets == 0 || trial.silence_s <= forgets;
            const double waits = stalls_.over(outages_.over(trial.ends)) - trial.ends;
            const bool answers = waits < strategy_.answer_wait();
            outcome_.samples += answers;
            strategy_.tried(trial.silence_s,
                            !answers ? Strategy::Tried::unknown
                            : borne  ? Strategy::Tried::kept
                                     : Strategy::Tried::lost,
                            trial.ends);
            const double now = std::exchange(now_, trial.ends);
            if (const auto found = strategy_.found(); found && outcome_.found_s == 0) {
                outcome_.found_s = *found;
                outcome_.found_at_s = trial.ends;
                outcome_.found_after = outcome_.samples;
                outcome_.found_trials = outcome_.trials;
            }
            begin_trials();
            now_ = now;
        }
        connect_trials(next);
    }

    void settle() {
        if (used_.empty()) return;
        outcome_.interval_s = used_.back().interval;
        for (const Used& used : used_) {
            if (used.interval < 0.9 * outcome_.interval_s) continue;
            outcome_.settled_s = used.at;
            outcome_.settled_after = used.tries;
            return;
        }
    }

    const World& world_;
    Strategy& strategy_;
    Random random_;
    Where outages_, off_, stalls_;
    Outcome outcome_;
    double now_ = 0;
    double heard_ = 0;   // by the server
    double passed_ = 0;  // the last packet through the network
    uint32_t network_ = 0;
    size_t move_ = 0;
    bool moved_ = false;  // and the device has not noticed
    struct Trial {
        double silence_s;
        double begins;
        double ends;
        bool connected = false;
    };
    std::vector<Trial> trials_;
    uint64_t tries_ = 0;
    std::vector<Used> used_;
};

}  // namespace

Outcome run_device(const World& world, Strategy& strategy) { return Device(world, strategy).run(); }

}  // namespace pulse::study
