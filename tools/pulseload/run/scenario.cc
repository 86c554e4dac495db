// Reading weights and storms, with errors that name what was wrong.
#include "tools/pulseload/run/scenario.h"

#include <charconv>
#include <cmath>
#include <optional>

#include "core/units.h"

namespace pulse::load {
namespace {

constexpr uint64_t kWeightMax = 1'000'000;
constexpr std::string_view kReconnects[] = {"never",       "none",        "fixed",
                                            "exponential", "full-jitter", "hint"};

std::string quoted(std::string_view text) { return "'" + std::string(text) + "'"; }

template <class NameAt>
std::string list_of(size_t count, NameAt name_at) {
    std::string list;
    for (size_t i = 0; i < count; ++i) {
        if (i > 0) list += i + 1 == count ? " or " : ", ";
        list += name_at(i);
    }
    return list;
}

// Calls take(key, value) for each KEY=VALUE between commas; its first error ends it.
template <class Take>
Result<void> each_pair(std::string_view text, Take take) {
    while (!text.empty()) {
        const size_t comma = std::min(text.find(','), text.size());
        const std::string_view pair = text.substr(0, comma);
        text.remove_prefix(std::min(comma + 1, text.size()));
        const size_t equals = pair.find('=');
        if (equals == pair.npos) {
            return Error{quoted(pair) + " has no '='; write NAME=VALUE,NAME=VALUE"};
        }
        Result<void> taken = take(pair.substr(0, equals), pair.substr(equals + 1));
        if (!taken) return taken;
    }
    return {};
}

template <size_t kKinds, class NameAt>
Result<Weights<kKinds>> parse_weights(std::string_view text, NameAt name_at) {
    Weights<kKinds> weights;
    const Result<void> done = each_pair(text, [&](auto key, auto value) -> Result<void> {
        for (size_t kind = 0; kind < kKinds; ++kind) {
            if (name_at(kind) != key) continue;
            const auto weight = parse_count(value);
            if (!weight) return Error{weight.error()};
            if (*weight > kWeightMax) {
                return Error{quoted(value) + " is over " + std::to_string(kWeightMax) +
                             "; weights are shares, as in 70 and 30"};
            }
            weights.of[kind] = static_cast<uint32_t>(*weight);
            return {};
        }
        return Error{quoted(key) + " is unknown; there is " + list_of(kKinds, name_at)};
    });
    if (!done) return Error{done.error()};
    if (weights.total() == 0) return Error{quoted(text) + ": all weights are 0; give one of them"};
    return weights;
}

Result<void> parse_victims(std::string_view value, StormPlan& storm) {
    const size_t at = value.find('@');
    if (at == value.npos) {
        return Error{quoted(value) + " lacks its time; write HOW-MANY@TIME, as in 50%@30s"};
    }
    std::string_view many = value.substr(0, at);
    const auto time = parse_duration(value.substr(at + 1));
    if (!time) return Error{time.error()};
    storm.at = *time;
    const bool percent = many.ends_with('%');
    if (percent) many.remove_suffix(1);
    const auto count = parse_count(many);
    if (!count) return Error{count.error()};
    if (*count == 0 || (percent && *count > 100)) {
        return Error{quoted(value) + ": how many must be over 0, and at most 100%"};
    }
    storm.count = percent ? 0 : *count;
    storm.fraction = percent ? static_cast<double>(*count) / 100 : 0;
    return {};
}

}  // namespace

Result<Mix> parse_mix(std::string_view text) {
    return parse_weights<kWires>(text,
                                 [](size_t kind) { return name_of(static_cast<Wire>(kind)); });
}

Result<Behaviours> parse_behaviours(std::string_view text) {
    return parse_weights<kBehaviours>(
        text, [](size_t kind) { return name_of(static_cast<Behaviour>(kind)); });
}

// Roberts' R2 sequence: multiples of 1/p and 1/p^2, p the root of p^3 = p + 1.
ClientKind kind_of(uint64_t client, const Mix& mix, const Behaviours& behaviours) {
    constexpr double kPlastic = 1.32471795724474602596;
    const auto place = [&](double step) {
        const double at = 0.5 + static_cast<double>(client) * step;
        return at - std::floor(at);
    };
    return {static_cast<Wire>(mix.pick(place(1 / kPlastic))),
            static_cast<Behaviour>(behaviours.pick(place(1 / (kPlastic * kPlastic))))};
}

std::string_view name_of(Reconnect reconnect) {
    return kReconnects[static_cast<size_t>(reconnect)];
}

Result<Reconnect> parse_reconnect(std::string_view text) {
    const size_t count = std::size(kReconnects);
    for (size_t i = 0; i < count; ++i) {
        if (kReconnects[i] == text) return static_cast<Reconnect>(i);
    }
    return Error{quoted(text) + " is not a way to reconnect; there is " +
                 list_of(count, [](size_t i) { return kReconnects[i]; })};
}

Result<StormPlan> parse_storm(std::string_view text) {
    StormPlan storm;
    storm.text = text;
    bool has_kind = false;
    const Result<void> done = each_pair(text, [&](auto key, auto value) -> Result<void> {
        constexpr std::string_view kKinds[] = {"kill", "silence", "vanish"};
        for (size_t kind = 0; kind < std::size(kKinds); ++kind) {
            if (kKinds[kind] != key) continue;
            if (has_kind) return Error{"a storm does one thing; give --storm twice for two"};
            has_kind = true;
            storm.kind = static_cast<StormPlan::Kind>(kind);
            return parse_victims(value, storm);
        }
        if (key != "reconnect") {
            return Error{quoted(key) +
                         " is not a part of a storm; write kill=50%@30s,reconnect=full-jitter, "
                         "silence=10%@30s or vanish=1000@30s"};
        }
        const auto reconnect = parse_reconnect(value);
        if (!reconnect) return Error{reconnect.error()};
        storm.reconnect = *reconnect;
        return {};
    });
    if (!done) return Error{done.error()};
    if (!has_kind) return Error{quoted(text) + " has none of kill, silence and vanish"};
    return storm;
}

}  // namespace pulse::load
