// What a backend counts (io_counters.def): totals since the start, written by the backend on the
// reactor's thread. An increment of a plain integer each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulse {

struct IoCounterInfo {
    std::string_view name;
    std::string_view help;
};

inline constexpr IoCounterInfo kIoCounterInfos[] = {
#define X(name, help) {#name, help},
#include "net/io/io_counters.def"
#undef X
};

struct IoCounters {
#define X(name, help) uint64_t name = 0;
#include "net/io/io_counters.def"
#undef X

    IoCounters& operator+=(const IoCounters& other);
};

// Calls visit(info, value of the first, value of the second ...) for each counter, in order.
template <class Visit, class... C>
constexpr void for_each_io_counter(Visit&& visit, C&... counters) {
    size_t position = 0;
#define X(name, help) visit(kIoCounterInfos[position++], counters.name...);
#include "net/io/io_counters.def"
#undef X
}

inline IoCounters& IoCounters::operator+=(const IoCounters& other) {
    for_each_io_counter(
        [](const IoCounterInfo&, uint64_t& value, uint64_t others) { value += others; }, *this,
        other);
    return *this;
}

}  // namespace pulse
