// Three questions to the generator, in the order of their weight.
#include "tools/pulseload/verdict.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/pulseload/reading.h"
#include "tools/pulseload/words.h"

namespace pulse::load {
namespace {

void find(Verdict& verdict, std::string evidence, std::string_view remedy) {
    verdict.valid = false;
    verdict.evidence.push_back(std::move(evidence));
    const auto& known = verdict.remedies;
    if (std::find(known.begin(), known.end(), remedy) == known.end())
        verdict.remedies.emplace_back(remedy);
}

void judge_made(const Generator& generator, Verdict& verdict) {
    if (generator.intended == 0) return;
    const double share =
        static_cast<double>(generator.made) / static_cast<double>(generator.intended);
    if (share >= kMadeShareMin) return;
    find(verdict,
         fmt::format("It made {} of the {} connects and sends that the schedule held ({}); less "
                     "than {} says nothing about the load that was asked for.",
                     told_count(generator.made), told_count(generator.intended), told_share(share),
                     told_share(kMadeShareMin)),
         "Ask for less (--connect-rate, --connections, a longer --heartbeat-interval), or give the "
         "generator more: --threads, or a machine of its own.");
}

// `intended` counts from when it should have begun, `service` from when it did: what lies between
// is the generator's.
void judge_own_share(const RunResult& result, Timed intended, Timed service, Verdict& verdict) {
    const Histogram& whole = told_latency(result, intended);
    const Histogram& served = told_latency(result, service);
    if (whole.count() < kValuesMin || served.count() < kValuesMin) return;
    const Nanos latency = whole.percentile(99);
    const Nanos own = latency - served.percentile(99);
    if (own <= kOwnLatencyMin ||
        static_cast<double>(own) <= kOwnShareMax * static_cast<double>(latency))
        return;
    find(verdict,
         fmt::format("Of the {} latency at p99 ({}), {} passed before the generator had begun: "
                     "from there on it took {}. Its sends and connects were {} late at p99.",
                     name_of(intended), told_duration(latency), told_duration(own),
                     told_duration(served.percentile(99)),
                     told_duration(result.generator.lateness.percentile(99))),
         "Let nothing else run on the generator's cores, give it more of them (--threads), or let "
         "it run on a machine of its own.");
}

void judge_busy(const RunResult& result, Verdict& verdict) {
    const Generator& generator = result.generator;
    if (result.held_s <= 0 || generator.busiest_thread <= kBusyShareMax) return;
    find(verdict,
         fmt::format("The busiest of its threads ({}) used {} of a core while the connections were "
                     "held: over {} there is no reserve, and waiting in the generator looks like "
                     "waiting for the server.",
                     generator.threads, told_share(generator.busiest_thread),
                     told_share(kBusyShareMax)),
         generator.threads < generator.cores
             ? "Give it more threads: --threads."
             : "Ask for less a thread (a longer --heartbeat-interval, fewer --connections), or let "
               "it run on a machine with more cores.");
}

}  // namespace

Verdict judge_validity(const RunResult& result) {
    Verdict verdict;
    judge_made(result.generator, verdict);
    judge_own_share(result, Timed::heartbeat, Timed::heartbeat_service, verdict);
    judge_own_share(result, Timed::message, Timed::message_service, verdict);
    judge_own_share(result, Timed::connect, Timed::connect_service, verdict);
    judge_busy(result, verdict);
    return verdict;
}

}  // namespace pulse::load
