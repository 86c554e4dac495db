// What a reactor reads of itself at one moment: values that go up and down (gauges.def). Belongs to
// the reactor's thread; others get a copy in a snapshot.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "core/types.h"

namespace pulse {

enum class GaugeUnit : uint8_t { count, bytes, payload, seconds, microseconds };
enum class GaugeTotal : uint8_t { sum, worst };

struct GaugeInfo {
    std::string_view name;
    std::string_view member;
    GaugeUnit unit;
    GaugeTotal total;
    std::string_view help;
};

inline constexpr GaugeInfo kGaugeInfos[] = {
#define X(name, member, unit, total, help) \
    {#name, member, GaugeUnit::unit, GaugeTotal::total, help},
#include "core/gauges.def"
#undef X
};

constexpr bool is_time(GaugeUnit unit) {
    return unit == GaugeUnit::seconds || unit == GaugeUnit::microseconds;
}

template <GaugeUnit kUnit>
using GaugeValue = std::conditional_t<is_time(kUnit), Nanos, uint64_t>;

struct Gauges {
#define X(name, member, unit, total, help) GaugeValue<GaugeUnit::unit> name = 0;
#include "core/gauges.def"
#undef X

    // Of several reactors: the sum or the worst, as gauges.def has it.
    Gauges& operator+=(const Gauges& other);
};

// Calls visit(info, value of the first, value of the second ...) for each gauge, in order.
template <class Visit, class... G>
constexpr void for_each_gauge(Visit&& visit, G&... gauges) {
    size_t position = 0;
#define X(name, member, unit, total, help) visit(kGaugeInfos[position++], gauges.name...);
#include "core/gauges.def"
#undef X
}

inline Gauges& Gauges::operator+=(const Gauges& other) {
    for_each_gauge(
        [](const GaugeInfo& info, auto& value, const auto& others) {
            value = info.total == GaugeTotal::sum ? value + others : std::max(value, others);
        },
        *this, other);
    return *this;
}

}  // namespace pulse
