// Reading a schedule, and walking along it.
#include "tools/pulseload/run/pace.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/units.h"

namespace pulse::load {
namespace {

constexpr std::string_view kForms =
    "; write a rate (20000/s), ramp:RATE..RATE@TIME, step:RATE..RATE@TIME/STEPS, "
    "or poisson: and one of them";
constexpr uint64_t kStepsMax = 1'000;
constexpr double kForEver = std::numeric_limits<double>::infinity();

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

// RATE..RATE@TIME
struct Slope {
    double from = 0;
    double to = 0;
    double time_s = 0;
};
Result<Slope> parse_slope(std::string_view text) {
    const size_t dots = text.find("..");
    const size_t at = text.find('@');
    if (dots == text.npos || at == text.npos || at < dots) return Error{"a part is missing"};
    const auto from = parse_rate(text.substr(0, dots));
    if (!from) return Error{from.error()};
    const auto to = parse_rate(text.substr(dots + 2, at - dots - 2));
    if (!to) return Error{to.error()};
    const auto time = parse_duration(text.substr(at + 1));
    if (!time) return Error{time.error()};
    if (*time <= 0) return Error{"the time must be longer than 0"};
    if (*to == 0) return Error{"the last rate is 0, so that it would never end"};
    return Slope{static_cast<double>(*from), static_cast<double>(*to),
                 static_cast<double>(*time) / kSecond};
}

Result<std::vector<PaceSpec::Segment>> parse_segments(std::string_view text) {
    using Segments = std::vector<PaceSpec::Segment>;
    if (take_prefix(text, "ramp:")) {
        const auto slope = parse_slope(text);
        if (!slope) return Error{slope.error()};
        return Segments{{slope->time_s, slope->from, slope->to}, {kForEver, slope->to, slope->to}};
    }
    if (take_prefix(text, "step:")) {
        const size_t slash = text.rfind('/');
        if (slash == text.npos) return Error{"the number of steps is missing"};
        const auto steps = parse_count(text.substr(slash + 1));
        if (!steps || *steps < 2 || *steps > kStepsMax) {
            return Error{"the number of steps must be from 2 to " + std::to_string(kStepsMax)};
        }
        const auto slope = parse_slope(text.substr(0, slash));
        if (!slope) return Error{slope.error()};
        Segments segments;
        const double rise = (slope->to - slope->from) / static_cast<double>(*steps - 1);
        for (uint64_t step = 0; step < *steps; ++step) {
            const double rate = slope->from + rise * static_cast<double>(step);
            segments.push_back({slope->time_s, rate, rate});
        }
        segments.back().length_s = kForEver;
        return segments;
    }
    const auto rate = parse_rate(text);
    if (!rate) return Error{rate.error()};
    if (*rate == 0) return Error{"the rate must be more than 0"};
    const auto events = static_cast<double>(*rate);
    return Segments{{kForEver, events, events}};
}

}  // namespace

Result<PaceSpec> parse_pace(std::string_view text) {
    PaceSpec spec;
    spec.text = text;
    std::string_view rest = text;
    spec.poisson = take_prefix(rest, "poisson:");
    auto segments = parse_segments(rest);
    if (!segments) {
        return Error{"'" + std::string(text) + "': " + segments.error() + std::string(kForms)};
    }
    spec.segments = *std::move(segments);
    return spec;
}

Pace::Pace(const PaceSpec& spec, uint32_t share, uint32_t shares, uint64_t seed)
    : spec_(spec), shares_(shares), random_(mix64(seed) ^ share) {
    position_ = spec.poisson ? 0 : static_cast<double>(share) - shares_;
    advance();
}

void Pace::advance() {
    if (spec_.at_once()) return;
    position_ += spec_.poisson ? -std::log1p(-random_.unit()) * shares_ : shares_;
    next_ = instant_of(position_);
}

uint64_t Pace::due(Nanos by) const {
    double events = 0;
    double left_s = std::max(0.0, static_cast<double>(by) / kSecond);
    for (const PaceSpec::Segment& segment : spec_.segments) {
        const double inside_s = std::min(left_s, segment.length_s);
        const bool last = std::isinf(segment.length_s);
        const double slope = last ? 0 : (segment.to - segment.from) / segment.length_s;
        events += segment.from * inside_s + slope / 2 * inside_s * inside_s;
        left_s -= inside_s;
    }
    return static_cast<uint64_t>(events / shares_);
}

// Solves from * t + (to - from) / (2 length) * t^2 = events in the segment where it falls.
Nanos Pace::instant_of(double events) const {
    double begin_s = 0;
    for (const PaceSpec::Segment& segment : spec_.segments) {
        const bool last = std::isinf(segment.length_s);
        const double whole = last ? kForEver : (segment.from + segment.to) / 2 * segment.length_s;
        if (events >= whole) {
            events -= whole;
            begin_s += segment.length_s;
            continue;
        }
        const double slope = last ? 0 : (segment.to - segment.from) / segment.length_s;
        // This form of the root holds for a slope of any sign, 0 among them.
        const double root =
            std::sqrt(std::max(0.0, segment.from * segment.from + 2 * slope * events));
        const double divisor = segment.from + root;
        const double inside_s = divisor > 0 ? 2 * events / divisor : 0;
        const double at = (begin_s + inside_s) * static_cast<double>(kSecond);
        return at < static_cast<double>(kNever) ? static_cast<Nanos>(at) : kNever;
    }
    return kNever;
}

}  // namespace pulse::load
