// Drawing a fault plan, and its names in text.
#include "net/sim/faults.h"

#include <algorithm>
#include <bit>

namespace pulse {
namespace {

// Between low and high, every octave alike. Integers only: the same on every machine.
uint64_t log_between(Random& random, uint64_t low, uint64_t high) {
    const uint64_t octave = random.below(static_cast<uint64_t>(std::bit_width(high / low)));
    const uint64_t from = low << octave;
    return random.between(from, std::min(high, from * 2 - 1));
}

Nanos log_nanos(Random& random, Nanos low, Nanos high) {
    return static_cast<Nanos>(
        log_between(random, static_cast<uint64_t>(low), static_cast<uint64_t>(high)));
}

void draw_rates(Random& random, FaultPlan& plan) {
    for (uint32_t& rate : plan.per_million) {
        rate = static_cast<uint32_t>(log_between(random, 500, 300'000));
    }
    const auto rate_of = [&plan](Fault fault) -> uint32_t& {
        return plan.per_million[static_cast<size_t>(fault)];
    };
    // What strikes a poll or a segment strikes far more often than what strikes a peer's minute.
    rate_of(Fault::stall) = static_cast<uint32_t>(log_between(random, 50, 5'000));
    rate_of(Fault::stutter) = static_cast<uint32_t>(log_between(random, 20, 2'000));
    rate_of(Fault::slow_log) = static_cast<uint32_t>(log_between(random, 20, 20'000));
    rate_of(Fault::loss) = static_cast<uint32_t>(log_between(random, 1'000, 100'000));
    rate_of(Fault::partition) = static_cast<uint32_t>(log_between(random, 100, 10'000));
    rate_of(Fault::spurious_wake) = static_cast<uint32_t>(log_between(random, 1'000, 200'000));
}

}  // namespace

FaultPlan force_faults(Random& random, const FaultSet& faults) {
    FaultPlan plan;
    plan.present = faults;
    draw_rates(random, plan);
    // Drawn whether or not they are used, so that a fault that is switched off by hand leaves the
    // rest of the plan as it was.
    const Nanos delay_max = log_nanos(random, kMillisecond, kSecond);
    const Nanos jitter = log_nanos(random, kMillisecond / 10, kSecond / 2);
    const Nanos partition_max = log_nanos(random, kSecond, 120 * kSecond);
    const Nanos completion_max = log_nanos(random, kMillisecond / 100, kSecond);
    const Nanos stall_max = log_nanos(random, kSecond, 200 * kSecond);
    const Nanos stutter_max = log_nanos(random, kSecond, 200 * kSecond);
    const Nanos log_max = log_nanos(random, kMillisecond, 60 * kSecond);
    const Nanos turn_max = log_nanos(random, kMillisecond / 100, 20 * kMillisecond);
    const auto buffer = static_cast<uint32_t>(log_between(random, 128, 8'192));
    const size_t pool_bytes = log_between(random, 256 * 1024, 4 * 1024 * 1024);
    const auto batch_max = static_cast<uint32_t>(log_between(random, 1, 64));
    const auto receive_buffers = static_cast<uint32_t>(log_between(random, 1, 32));
    const auto backlog = static_cast<uint32_t>(log_between(random, 1, 64));
    const auto descriptors = static_cast<uint32_t>(log_between(random, 8, 512));
    if (plan.has(Fault::delay)) {
        plan.delay_max = delay_max;
        plan.jitter = jitter;
    }
    plan.partition_max = partition_max;
    if (plan.has(Fault::late_completion)) plan.completion_max = completion_max;
    if (plan.has(Fault::stall)) plan.stall_max = stall_max;
    if (plan.has(Fault::stutter)) plan.stutter_max = stutter_max;
    if (plan.has(Fault::slow_log)) plan.log_max = log_max;
    if (plan.has(Fault::slow_turn)) plan.turn_max = turn_max;
    if (plan.has(Fault::small_buffers)) plan.socket_buffer_bytes = buffer;
    // Without the fault, what kernels do: a ring hands over 20 or 256 at once, an epoll set 512.
    constexpr uint32_t kBatches[] = {20, 256, 512};
    plan.batch_max = kBatches[random.below(std::size(kBatches))];
    if (plan.has(Fault::small_batch)) plan.batch_max = batch_max;
    if (plan.has(Fault::small_pool)) plan.pool_bytes = pool_bytes;
    if (plan.has(Fault::buffers_short)) plan.receive_buffers = receive_buffers;
    if (plan.has(Fault::backlog)) plan.backlog = backlog;
    if (plan.has(Fault::emfile)) plan.descriptors_max = descriptors;
    constexpr uint32_t kBuffers[] = {256 * 1024, 256 * 1024, 64 * 1024, 16 * 1024};
    const uint32_t usual_buffer = kBuffers[random.below(std::size(kBuffers))];
    if (!plan.has(Fault::small_buffers)) plan.socket_buffer_bytes = usual_buffer;
    plan.submit_in_poll = random.chance(1, 2);
    plan.coarse_drain = random.chance(1, 4);
    return plan;
}

FaultPlan draw_faults(Random& random, const FaultSet& allowed) {
    FaultSet present;
    for (size_t fault = 0; fault < kFaults; ++fault) present.set(fault, random.chance(1, 2));
    return force_faults(random, present & allowed);
}

Result<FaultSet> parse_faults(std::string_view text) {
    FaultSet faults;
    if (text == "none") return faults;
    if (text == "all") return faults.set();
    while (!text.empty()) {
        const size_t end = std::min(text.find(','), text.size());
        const std::string_view word = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const auto* info = std::ranges::find(kFaultInfos, word, &FaultInfo::name);
        if (info == std::end(kFaultInfos))
            return Error{"'" + std::string(word) +
                         "' is not a fault; --list-faults prints the names; 'all' and 'none' "
                         "are accepted too"};
        faults.set(static_cast<size_t>(info - kFaultInfos));
    }
    return faults;
}

std::string describe_faults(const FaultSet& faults) {
    if (faults.none()) return "none";
    std::string text;
    for (size_t fault = 0; fault < kFaults; ++fault) {
        if (!faults.test(fault)) continue;
        if (!text.empty()) text += ',';
        text += kFaultInfos[fault].name;
    }
    return text;
}

Result<SimMutant> parse_mutant(std::string_view text) {
    const auto* info = std::ranges::find(kSimMutantInfos, text, &SimMutantInfo::name);
    if (info != std::end(kSimMutantInfos)) {
        return static_cast<SimMutant>(info - kSimMutantInfos);
    }
    std::string names;
    for (const SimMutantInfo& each : kSimMutantInfos) names += ' ' + std::string(each.name);
    return Error{"'" + std::string(text) + "' is not a mutant; write one of" + names};
}

}  // namespace pulse
