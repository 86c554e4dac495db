// Durations that a reactor measures of itself, a histogram each (distributions.def). Belongs to the
// reactor's thread; others get a copy in a snapshot.
#pragma once

#include <cstddef>
#include <string_view>

#include "core/histogram.h"

namespace pulse {

struct DistributionInfo {
    std::string_view name;
    std::string_view help;
};

inline constexpr DistributionInfo kDistributionInfos[] = {
#define X(name, help) {#name, help},
#include "core/distributions.def"
#undef X
};

struct Distributions {
#define X(name, help) Histogram name;
#include "core/distributions.def"
#undef X

    Distributions& operator+=(const Distributions& other);
};

// Calls visit(info, histogram of the first, histogram of the second ...) for each, in order.
template <class Visit, class... D>
void for_each_distribution(Visit&& visit, D&... distributions) {
    size_t position = 0;
#define X(name, help) visit(kDistributionInfos[position++], distributions.name...);
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
