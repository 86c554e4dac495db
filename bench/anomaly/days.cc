// The model. Each parameter is drawn for a server from the range beside it; the ranges are meant to
// be wider than what one operator sees, since none of the contenders is tuned for one server.
#include "bench/anomaly/days.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/random.h"

namespace pulse::study {
namespace {

constexpr double kStep = kSampleSeconds;
constexpr uint32_t kMinute = 60 / kSampleSeconds;
constexpr uint32_t kHour = 60 * kMinute;
// Heartbeats of the standard profile: a probe after 30 s of silence, a second after 60 s, and the
// eviction after 90 s. A probe is missed when the next is due.
constexpr uint32_t kInterval = 30 / kSampleSeconds;

class Dice {
  public:
    explicit Dice(uint64_t seed) : random_(seed) {}
    double unit() { return random_.unit(); }
    bool chance(double probability) { return unit() < probability; }
    double between(double low, double high) { return low + (high - low) * unit(); }
    // Evenly on a logarithmic scale.
    double scale(double low, double high) { return low * std::pow(high / low, unit()); }
    uint32_t below(uint32_t bound) { return static_cast<uint32_t>(random_.below(bound)); }
    double normal() {
        const double radius = std::sqrt(-2 * std::log(1 - unit()));
        return radius * std::cos(2 * std::numbers::pi * unit());
    }
    // Student's t with 3 degrees: a sample in 150 is beyond 5.
    double heavy() {
        double squares = 0;
        for (int i = 0; i < 3; ++i) squares += std::pow(normal(), 2);
        return normal() / std::sqrt(squares / 3);
    }
    double pareto(double least, double exponent) {
        return least * std::pow(1 - unit(), -1 / exponent);
    }
    // Marsaglia and Tsang 2000, for shapes of 1 and more; its mean is 1.
    double gamma(double shape) {
        const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
        for (;;) {
            const double x = normal(), v = std::pow(1 + c * x, 3);
            if (v > 0 && std::log(1 - unit()) < x * x / 2 + d - d * v + d * std::log(v))
                return d * v / shape;
        }
    }
    double poisson(double mean) {
        if (mean > 50) return std::max(0.0, std::round(mean + std::sqrt(mean) * normal()));
        const double limit = std::exp(-mean);
        double product = unit();
        double count = 0;
        for (; product > limit; ++count) product *= unit();
        return count;
    }

  private:
    Random random_;
};

// Slow noise: AR(1) of a deviation and a correlation time.
class Wander {
  public:
    Wander(double deviation, double minutes)
        : keep_(std::exp(-1 / (minutes * kMinute))),
          kick_(deviation * std::sqrt(1 - keep_ * keep_)) {}
    double next(Dice& dice) { return at_ = keep_ * at_ + kick_ * dice.normal(); }

  private:
    double keep_, kick_, at_ = 0;
};

// Harmless: more newcomers than usual for a while, which rise and fall.
struct Burst {
    uint32_t begins = 0, lasts = 0;
    double more = 0;  // times the usual, at the most
    double at(uint32_t now) const {
        if (now < begins || now >= begins + lasts) return 0;
        const double part = static_cast<double>(now - begins) / lasts;
        return more * std::sin(std::numbers::pi * part);
    }
};

class Model {
  public:
    Model(uint64_t seed, uint32_t days) : dice_(seed), samples_(days * kSamplesADay) {
        plan_faults(days);
        for (uint32_t day = 0; day < days; ++day) plan_day(day);
    }

    Server run(uint64_t seed) {
        Server server{seed, std::vector<Point>(samples_), faults_};
        for (uint32_t now = 0; now < samples_; ++now) server.points[now] = point(now);
        return server;
    }

  private:
    void plan_faults(uint32_t days);
    void plan_day(uint32_t day);
    PlannedFault draw_fault(uint32_t begins);
    Point point(uint32_t now);
    void apply(const PlannedFault& fault, uint32_t now, Point& point);
    double load(uint32_t now) const;
    double noisy_count(double mean, double slow) {
        return dice_.poisson(mean * std::exp(slow) * dice_.gamma(bursty_));
    }

    Dice dice_;
    uint32_t samples_;

    // ---- the server
    double connections_ = dice_.scale(2e3, 1e6);  // at an ordinary hour
    uint32_t reactors_ = 1 + dice_.below(16);
    // How far the night is below the day, and when the day is; messengers and push have 2 to 4
    // times as many by day.
    double swing_ = dice_.between(0.25, 0.6);
    double evening_ = dice_.between(0, 24);
    double second_swing_ = dice_.between(0, 0.15);
    // Saturday and Sunday: offices have less, games more.
    double weekend_ = dice_.between(0.6, 1.15);
    uint32_t first_weekday_ = dice_.below(7);
    // Connections of apps live minutes to hours; a part of them ends in silence.
    double lifetime_s_ = dice_.scale(1'200, 14'400);
    double silent_ = dice_.between(0.03, 0.3);
    // Probes that are missed and answered later: radio links that sleep.
    double misses_ = dice_.scale(2e-5, 1e-3);
    double round_trip_s_ = dice_.scale(0.015, 0.15);
    double round_trip_swing_ = dice_.between(0, 0.25);  // queues of the evening
    double lag_s_ = dice_.scale(0.001, 0.02);
    // Counts vary more than a Poisson process: gamma of this shape, and slow wander.
    double bursty_ = dice_.scale(20, 400);
    Wander newcomers_{dice_.between(0.03, 0.12), dice_.between(3, 30)};
    Wander ends_{dice_.between(0.03, 0.12), dice_.between(3, 30)};
    Wander radio_{dice_.between(0.05, 0.15), dice_.between(3, 30)};
    Wander path_{dice_.between(0.02, 0.06), dice_.between(5, 60)};
    Wander busy_{dice_.between(0.1, 0.3), dice_.between(1, 10)};
    double path_noise_ = dice_.between(0.01, 0.04);

    // ---- what happens
    std::vector<PlannedFault> faults_;
    std::vector<Burst> bursts_;
    std::vector<uint32_t> restarts_;
    uint32_t last_start_ = 0;
};

double Model::load(uint32_t now) const {
    const double hour = 24.0 * (now % kSamplesADay) / kSamplesADay;
    const double turn = 2 * std::numbers::pi * (hour - evening_) / 24;
    const double day = 1 + swing_ * std::cos(turn) + second_swing_ * std::cos(2 * turn + 1);
    // From one kind of day to the other within two hours around midnight.
    const double exact = static_cast<double>(now) / kSamplesADay + first_weekday_;
    const auto is_weekend = [&](double at) { return std::fmod(at, 7) < 2 ? 1.0 : 0.0; };
    const double hour_part = 1.0 / 24;
    double weekend = 0;
    for (const double shift : {-hour_part, -hour_part / 2, 0.0, hour_part / 2, hour_part})
        weekend += is_weekend(exact + 7 + shift) / 5;
    return day * (1 + (weekend_ - 1) * weekend);
}

PlannedFault Model::draw_fault(uint32_t begins) {
    const auto minutes = [&](double least, double most) {
        return static_cast<uint32_t>(dice_.between(least, most) * kMinute);
    };
    PlannedFault fault{static_cast<FaultKind>(dice_.below(kFaultKinds)), begins, begins, begins, 0};
    switch (fault.kind) {
        case FaultKind::prefix_loss:  // the part of all connections that is gone
            fault.strength = dice_.scale(0.005, 0.2);
            fault.ends = begins + 4 * kInterval;
            fault.over = begins + minutes(3, 30);
            break;
        case FaultKind::slow_drift:  // times as long, reached after two thirds of it
            fault.strength = dice_.scale(1.4, 4);
            fault.ends = fault.over = begins + minutes(30, 180);
            break;
        case FaultKind::storm:  // times the usual rate
            fault.strength = dice_.scale(4, 50);
            fault.ends = fault.over = begins + std::max(2u, minutes(0.5, 10));
            break;
        case FaultKind::stall:  // seconds of one reactor
            fault.strength = dice_.scale(0.3, 6);
            fault.ends = fault.over = begins + std::max(2u, minutes(0.3, 5));
            break;
    }
    fault.over += 5 * kMinute;
    return fault;
}

// Two faults in three days or so, none in the first hours of a server, hours between two.
void Model::plan_faults(uint32_t days) {
    for (uint32_t at = 6 * kHour;;) {
        at += static_cast<uint32_t>(-std::log(1 - dice_.unit()) * 20 * kHour);
        if (at + 6 * kHour >= days * kSamplesADay) return;
        faults_.push_back(draw_fault(at));
        at = faults_.back().over + 6 * kHour;
    }
}

// Harmless: campaigns and push messages three times a day, a release of a client every few days,
// a restart of the server every ten.
void Model::plan_day(uint32_t day) {
    const auto any_time = [&] { return day * kSamplesADay + dice_.below(kSamplesADay); };
    for (double count = dice_.poisson(3); count > 0; --count) {
        const auto lasts = static_cast<uint32_t>(dice_.between(2, 20) * kMinute);
        bursts_.push_back({any_time(), lasts, dice_.scale(0.2, 1.2)});
    }
    if (dice_.chance(0.3)) {
        const auto lasts = static_cast<uint32_t>(dice_.between(20, 90) * kMinute);
        bursts_.push_back({any_time(), lasts, dice_.between(0.3, 1.2)});
    }
    if (!dice_.chance(0.1)) return;
    const uint32_t at = any_time();
    const bool beside_fault = std::ranges::any_of(faults_, [&](const PlannedFault& fault) {
        return at + 2 * kHour > fault.begins && at < fault.over + kHour;
    });
    if (!beside_fault) restarts_.push_back(at);
}

void Model::apply(const PlannedFault& fault, uint32_t now, Point& point) {
    if (now < fault.begins || now >= fault.over) return;
    AnomalySample& sample = point.sample;
    const uint32_t age = now - fault.begins;
    const double live = connections_ * load(now);
    const bool lasts = now < fault.ends;
    switch (fault.kind) {
        case FaultKind::prefix_loss: {
            // Of each peer two probes are missed, 60 and 90 s after it was heard last, which was
            // within the last interval: spread over as long. Then it is evicted.
            const double each = fault.strength * live / kInterval;
            const uint32_t step = age / kInterval;
            if (step == 1 || step == 2) sample[AnomalySeries::missed_probes] += dice_.poisson(each);
            if (step == 2) sample[AnomalySeries::evictions] += dice_.poisson(each);
            const uint32_t back = fault.over - 5 * kMinute;  // when it is mended
            const bool returns = now >= back && now < back + 2 * kMinute;
            if (returns)
                sample[AnomalySeries::newcomers] +=
                    dice_.poisson(fault.strength * live / (2 * kMinute));
            point.faulty |= step == 1 || step == 2 || returns;
            break;
        }
        case FaultKind::slow_drift: {
            if (!lasts) break;
            const double part = static_cast<double>(age) / (fault.ends - fault.begins);
            sample[AnomalySeries::round_trip] *=
                std::pow(fault.strength, std::min(1.0, 1.5 * part));
            point.faulty = true;
            break;
        }
        case FaultKind::storm:
            if (!lasts) break;
            sample[AnomalySeries::newcomers] =
                dice_.poisson(sample[AnomalySeries::newcomers] * fault.strength);
            point.faulty = true;
            break;
        case FaultKind::stall:
            if (!lasts) break;
            // Its connections wait half of it in the mean; a few seem to miss a probe.
            sample[AnomalySeries::loop_lag] += fault.strength * dice_.between(0.5, 1.5);
            sample[AnomalySeries::round_trip] *=
                std::pow(1 + fault.strength / 2 / sample[AnomalySeries::round_trip],
                         std::min(1.0, fault.strength / kStep) / reactors_);
            sample[AnomalySeries::missed_probes] +=
                dice_.poisson(misses_ * live * fault.strength / reactors_);
            point.faulty = true;
            break;
    }
}

Point Model::point(uint32_t now) {
    Point point;
    AnomalySample& sample = point.sample;
    sample.second_of_day = now % kSamplesADay * kSampleSeconds;
    const double hours = load(now);
    const double live = connections_ * hours;
    const double comes = live * kStep / lifetime_s_;
    double more = 1;
    for (const Burst& burst : bursts_) more += burst.at(now);
    sample[AnomalySeries::newcomers] = noisy_count(comes * more, newcomers_.next(dice_));
    sample[AnomalySeries::evictions] = noisy_count(comes * silent_, ends_.next(dice_));
    sample[AnomalySeries::missed_probes] =
        noisy_count(live * misses_ * kStep / 30, radio_.next(dice_));
    const double evening = round_trip_swing_ * (hours - 1);
    sample[AnomalySeries::round_trip] =
        round_trip_s_ * std::exp(evening + path_.next(dice_) + path_noise_ * dice_.heavy());
    sample[AnomalySeries::loop_lag] =
        lag_s_ * hours * std::exp(busy_.next(dice_) + 0.3 * dice_.normal());
    // A neighbour of the machine takes the core: once in two hours or so, now and then for long.
    if (dice_.chance(1.0 / 700))
        sample[AnomalySeries::loop_lag] += std::min(3.0, dice_.pareto(0.02, 1.1));
    if (std::ranges::find(restarts_, now) != restarts_.end()) {
        point.restarted = true;
        last_start_ = now;
    }
    // All come back, half of those that are left each minute.
    if (last_start_ > 0 && now < last_start_ + kHour) {
        const double left = live * std::exp2(-static_cast<double>(now - last_start_) / kMinute);
        sample[AnomalySeries::newcomers] += dice_.poisson(left * (1 - std::exp2(-1.0 / kMinute)));
    }
    for (const PlannedFault& fault : faults_) apply(fault, now, point);
    return point;
}

}  // namespace

Server simulate(uint64_t seed, uint32_t days) { return Model(mix64(seed), days).run(seed); }

}  // namespace pulse::study
