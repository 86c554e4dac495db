// What a reactor counts: one writer, any number of readers, no locks.
//
// A counter is an atomic that its one writer updates by a relaxed load, an add and a relaxed store.
// That is no locked instruction, only what ++ on a plain variable would be (g++ 12, x86-64):
//
//     mov rax, [rdi+8]     add rax, 1     mov [rdi+8], rax
//
// Other threads read it relaxed, and see a value that was true a moment ago. Counters of one
// snapshot are not of one instant. Aligned, so that two reactors never share a cache line.
//
// Everything in metrics.def only ever grows. What goes up and down is made of two that do (live is
// accepted - closed) or belongs to the reactor's thread and travels in its snapshots (judge lag).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "core/auth_failure.h"
#include "core/close_reason.h"
#include "core/types.h"

namespace pulse {

enum class Metric : uint8_t {
#define X(name, unit, help) name,
#include "core/metrics.def"
#undef X
};

inline constexpr size_t kMetrics = 0
#define X(name, unit, help) +1
#include "core/metrics.def"
#undef X
    ;

struct MetricInfo {
    std::string_view name;
    std::string_view unit;
    std::string_view help;
};

inline constexpr MetricInfo kMetricInfos[kMetrics] = {
#define X(name, unit, help) {#name, unit, help},
#include "core/metrics.def"
#undef X
};

// Plain numbers, taken from a Metrics at one moment; they can be added and subtracted.
struct MetricsSnapshot {
    std::array<uint64_t, kMetrics> counters{};
    std::array<uint64_t, kCloseReasons> refused{};
    std::array<uint64_t, kCloseReasons> closed{};
    std::array<uint64_t, kAuthFailures> tokens_refused{};

    uint64_t operator[](Metric metric) const { return counters[static_cast<size_t>(metric)]; }
    MetricsSnapshot& operator+=(const MetricsSnapshot& other);
    MetricsSnapshot& operator-=(const MetricsSnapshot& earlier);
};

class alignas(kCacheLineBytes) Metrics {
  public:
    // The writer's thread only.
    void add(Metric metric, uint64_t amount = 1) {
        bump(counters_[static_cast<size_t>(metric)], amount);
    }
    void refused(CloseReason reason) {
        add(Metric::refused);
        bump(refused_[static_cast<size_t>(reason)], 1);
    }
    void closed(CloseReason reason) {
        add(Metric::closed);
        bump(closed_[static_cast<size_t>(reason)], 1);
    }

    void token_refused(AuthFailure failure) {
        add(Metric::tokens_refused);
        bump(tokens_refused_[static_cast<size_t>(failure)], 1);
    }

    // Any thread.
    MetricsSnapshot snapshot() const;

  private:
    using Counter = std::atomic<uint64_t>;
    static void bump(Counter& counter, uint64_t amount) {
        counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
    }

    std::array<Counter, kMetrics> counters_{};
    std::array<Counter, kCloseReasons> refused_{};
    std::array<Counter, kCloseReasons> closed_{};
    std::array<Counter, kAuthFailures> tokens_refused_{};
};

static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(Metrics) % kCacheLineBytes == 0);

}  // namespace pulse
