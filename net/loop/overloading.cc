// What a reactor gives up under overload, and takes back (core/overload.h): by its own judge lag,
// by the memory of the process, at which the main thread looks, and by anomalies, which have a
// thread of their own (net/control/anomaly_watch.h).
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/units.h"
#include "net/loop/connections.h"

namespace pulse {

// What memory and anomalies ask for is the same in all reactors, and logged where it is found out.
void Connections::watch_overload(Nanos judge_lag) {
    const LoopOptions& options = *config_.options;
    const bool watches = options.overload != OverloadStep::none;
    if (draining_) return;
    if (!watches && overload_step_ == OverloadStep::none) {
        lag_overload_ = {};  // a reading of before is not the first of a span
        return;
    }
    overload_looked_at_ = io_.now();
    report_reusable();
    const double pressure =
        static_cast<double>(judge_lag) / static_cast<double>(options.overload_lag);
    const bool by_lag =
        lag_overload_.update(io_.now(), pressure, {options.overload, options.overload_span});
    const OverloadStep by_others =
        std::max(config_.admission->memory_step(), config_.admission->anomaly_step());
    const OverloadStep step = std::max(lag_overload_.step(), std::min(options.overload, by_others));
    const OverloadStep before = overload_step_;
    if (step != before) enter_overload(step);
    if (step != before && by_lag && config_.warn) {
        config_.warn(
            fmt::format("reactor {}: overload step '{}' ({}): judge lag {} (--overload-lag {})",
                        config_.number, name_of(step), step > before ? "entered" : "back to it",
                        format_duration(judge_lag / kMillisecond * kMillisecond),
                        format_duration(options.overload_lag)));
    }
    if (step == OverloadStep::close) begin_close_idle();
}

// What is free of records, buffers and logins: it stays in RSS when connections leave, and is what
// those that come are given first.
void Connections::report_reusable() {
    if (io_.now() < reusable_due_at_) return;
    reusable_due_at_ = io_.now() + kOverloadLookNs;
    const size_t records = table_.live() * sizeof(Connection);
    const size_t free_bytes =
        table_.backed_bytes() - records + buffers_.idle_bytes() + logins_.free_bytes();
    const auto bytes = static_cast<int64_t>(free_bytes);
    config_.admission->add_reusable(bytes - std::exchange(reusable_told_, bytes));
}

void Connections::enter_overload(OverloadStep step) {
    const OverloadStep before = overload_step_;
    overload_step_ = step;
    metrics_.gauges.overload_step = static_cast<uint64_t>(step);
    if (step > before) {
        const int entered = static_cast<int>(step) - static_cast<int>(before);
        metrics_.add(Metric::overload_steps, static_cast<uint64_t>(entered));
    }
    if (before == OverloadStep::none) config_.admission->begin_overload();
    if (step == OverloadStep::none) config_.admission->end_overload();
    // A walk that goes on takes it up at its end.
    const bool stretches = step >= OverloadStep::stretch;
    if (stretches != (before >= OverloadStep::stretch) && retuning_.done() && !draining_)
        begin_retune();
}

// The last step: each second a walk over all, which ends with closing those that were silent for
// the longest time, and still are.
void Connections::begin_close_idle() {
    if (!idling_.done() || io_.now() < close_idle_at_ || table_.live() == 0) return;
    close_idle_at_ = io_.now() + kOverloadCloseEveryNs;
    idlest_max_ = overload_closes(table_.live());
    idling_ = Sweep(table_.limit());
}

void Connections::close_idle_some(uint32_t& budget) {
    idling_.advance(budget, [this](Index index) { return consider_idle(index); });
    if (!idling_.done()) return;
    const bool still = overload_step_ == OverloadStep::close && !draining_;
    for (const Idle& idle : idlest_) {
        const Connection* const connection = table_.find(idle.id);
        if (!still || connection == nullptr || !is_live(connection->stage)) continue;
        if (last_heard(idle.id.index) != idle.heard || is_bulky(idle.id.index)) continue;
        begin_close(idle.id.index, CloseReason::overloaded);
        budget -= std::min(budget, kEvictCost);
    }
    idlest_.clear();
}

// Bytes on their way, in either direction, are no silence.
bool Connections::is_bulky(Index index) const {
    return (table_[index].flags & kBulkOut) != 0 || io_.is_held_off(index);
}

Tick Connections::last_heard(Index index) const {
    return restore_tick(table_[index].heard & kStoredTickMask, config_.clock.up(io_.now()));
}

uint32_t Connections::consider_idle(Index index) {
    const Connection& connection = at(index);
    if (!is_live(connection.stage) || connection.profile < kProfileDefault) return kPassCost;
    if (is_bulky(index)) return kPassCost;
    const Tick heard = last_heard(index);
    const auto sooner = [](const Idle& a, const Idle& b) { return a.heard < b.heard; };
    if (idlest_.size() == idlest_max_) {
        if (heard >= idlest_.front().heard) return kPassCost;
        std::ranges::pop_heap(idlest_, sooner);
        idlest_.pop_back();
    }
    idlest_.push_back({heard, table_.id(index)});
    std::ranges::push_heap(idlest_, sooner);
    return kPassCost;
}

}  // namespace pulse
