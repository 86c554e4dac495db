// Durations and amounts that a reactor measures of itself, a histogram each (distributions.def).
// Belongs to the reactor's thread; others get a copy in a snapshot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/histogram.h"

namespace pulse {

// How long what is measured takes, as peers see it or as a part of a turn; or how much it is.
enum class DistributionScale : uint8_t { delay, work, amount };

struct DistributionInfo {
    std::string_view name;
    DistributionScale scale;
    std::string_view help;
};

inline constexpr DistributionInfo kDistributionInfos[] = {
#define X(name, scale, help) {#name, DistributionScale::scale, help},
#include "core/distributions.def"
#undef X
};

struct Distributions {
#define X(name, scale, help) Histogram name;
#include "core/distributions.def"
#undef X

    Distributions& operator+=(const Distributions& other);
};

// Calls visit(info, histogram of the first, histogram of the second ...) for each, in order.
template <class Visit, class... D>
void for_each_distribution(Visit&& visit, D&... distributions) {
    size_t position = 0;
#define X(name, scale, help) visit(kDistributionInfos[position++], distributions.name...);
#include "core/distributions.def"
#undef X
}

inline Distributions& Distributions::operator+=(const Distributions& other) {
    for_each_distribution([](const DistributionInfo&, Histogram& mine,
                             const Histogram& others) { mine.merge(others); },
                          *this, other);
    return *this;
}

}  // namespace pulse
