// Questions to the generator and to the outcome, in the order of their weight.
#include "tools/pulseload/run/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/close_reason.h"
#include "proto/printable.h"
#include "tools/pulseload/run/close_codes.h"
#include "tools/pulseload/run/derived.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {
namespace {

// What decides about the state, in rising order: a generator that stood still made up what follows,
// a target that went away did so whatever else was slow.
enum class Finding : uint8_t { bottleneck, incomplete, stood_still, not_connected };

struct Findings {
    Verdict verdict;
    std::optional<Finding> worst;
};

RunState state_for(Finding finding) {
    switch (finding) {
        case Finding::not_connected:
            return RunState::not_connected;
        case Finding::incomplete:
            return RunState::incomplete;
        case Finding::bottleneck:
        case Finding::stood_still:
            break;
    }
    return RunState::invalid;
}

void find(Findings& findings, Finding finding, std::string evidence, std::string_view remedy) {
    if (!findings.worst || finding > *findings.worst) {
        findings.worst = finding;
        findings.verdict.state = state_for(finding);
    }
    Verdict& verdict = findings.verdict;
    verdict.evidence.push_back(std::move(evidence));
    if (remedy.empty()) return;
    const auto& known = verdict.remedies;
    if (std::find(known.begin(), known.end(), remedy) == known.end())
        verdict.remedies.emplace_back(remedy);
}

void judge_made(const Generator& generator, Findings& findings) {
    if (generator.intended == 0) return;
    const double share =
        static_cast<double>(generator.made) / static_cast<double>(generator.intended);
    if (share >= kMadeShareMin) return;
    find(findings, Finding::bottleneck,
         fmt::format("It made {} of the {} connects and sends that the schedule held ({}); less "
                     "than {} does not describe the load that was asked for.",
                     human_count(generator.made), human_count(generator.intended),
                     human_share(share), human_share(kMadeShareMin)),
         "Ask for less (--connect-rate, --connections, a longer --heartbeat-interval), or give the "
         "generator more: --threads, or a machine of its own.");
}

// `intended` counts from when it should have begun, `service` from when it did: what lies between
// is the generator's.
void judge_own_share(const RunResult& result, Timed intended, Timed service, Findings& findings) {
    const Histogram& whole = reported_latency(result, intended);
    const Histogram& served = reported_latency(result, service);
    if (whole.count() < kValuesMin || served.count() < kValuesMin) return;
    const Nanos latency = whole.percentile(99);
    const Nanos own = latency - served.percentile(99);
    if (own <= kOwnLatencyMin ||
        static_cast<double>(own) <= kOwnShareMax * static_cast<double>(latency))
        return;
    find(findings, Finding::bottleneck,
         fmt::format("Of the {} latency at p99 ({}), {} passed before the generator had begun: "
                     "from there on it took {}. Its sends and connects were {} late at p99.",
                     name_of(intended), human_duration(latency), human_duration(own),
                     human_duration(served.percentile(99)),
                     human_duration(result.generator.lateness.percentile(99))),
         "Let nothing else run on the generator's cores, give it more of them (--threads), or let "
         "it run on a machine of its own.");
}

void judge_busy(const RunResult& result, Findings& findings) {
    const Generator& generator = result.generator;
    if (result.held_s <= 0 || generator.busiest_thread <= kBusyShareMax) return;
    find(findings, Finding::bottleneck,
         fmt::format("The busiest of its threads ({}) used {} of a core while the connections were "
                     "held: over {} there is no reserve, and waiting in the generator looks like "
                     "waiting for the server.",
                     generator.threads, human_share(generator.busiest_thread),
                     human_share(kBusyShareMax)),
         generator.threads < generator.cores
             ? "Give it more threads: --threads."
             : "Ask for less a thread (a longer --heartbeat-interval, fewer --connections), or let "
               "it run on a machine with more cores.");
}

void judge_gap(const RunResult& result, Findings& findings) {
    const Generator& generator = result.generator;
    if (generator.gap_max > kGapMax) {
        find(findings, Finding::stood_still,
             fmt::format("A thread of the generator did not run for {}, until {} after the start: "
                         "what it received and sent in that time is late by its own doing.",
                         human_duration(generator.gap_max), human_seconds(generator.gap_at_s)),
             "Do not stop the generator, and let nothing else take its cores.");
    }
    if (const uint64_t own = result.detection.own_silences; own > 0) {
        find(findings, Finding::stood_still,
             fmt::format("{} clients were evicted after the generator had kept them silent past "
                         "their deadline of {}.",
                         human_count(own), human_duration(result.detection.timeout)),
             "Do not stop the generator, and let nothing else take its cores.");
    }
    if (generator.untimed > 0) {
        find(findings, Finding::stood_still,
             fmt::format("{} pings were not timed: too many were unanswered at once.",
                         human_count(generator.untimed)),
             "Ask for less (fewer --connections, a longer --heartbeat-interval).");
    }
}

// -------------------------------------------------------------------------------- the outcome

void judge_connected(const RunResult& result, Findings& findings) {
    const Counts& counts = result.counts;
    if (counts.connects == 0 || counts.connected > 0) return;
    const uint64_t failed = counts.connect_failures + counts.refusals;
    find(
        findings, Finding::not_connected,
        fmt::format("Not one connection to {} opened in {} tries{}.", printable(result.target),
                    human_count(std::max(failed, counts.connects)),
                    result.errors.empty() ? "" : ": " + printable(result.errors.front())),
        "Start the target, or correct --target; --connect-timeout says how long one try may take.");
}

// What became of the connections that are not there, by number.
std::string causes_of_loss(const RunResult& result) {
    std::string causes;
    const auto add = [&](uint64_t count, std::string_view what) {
        if (count > 0)
            causes +=
                fmt::format("{}{} {}", causes.empty() ? ": " : ", ", human_count(count), what);
    };
    add(result.counts.refusals, "refused");
    add(result.counts.connect_failures, "failed to connect");
    const Detection::Row silenced = silenced_peers(result.detection);
    for (auto [code, count] : result.detection.codes) {
        // Silenced peers that were evicted are not lost.
        const uint64_t rightly = silenced.evicted + silenced.early;
        if (code == describe(CloseReason::idle_timeout).code) count -= std::min(count, rightly);
        add(count, code == 0 ? "ended by the target without a goodbye"
                             : "closed by the target with " + name_of_close_code(code));
    }
    return causes;
}

void judge_outcome(const RunResult& result, Findings& findings) {
    if (result.cut_short) {
        find(findings, Finding::incomplete,
             fmt::format("It was cut short by {} after {}.", result.cut_short_by,
                         human_seconds(result.ended_s)),
             "");
    }
    if (result.target_gone_s > 0) {
        find(findings, Finding::incomplete,
             fmt::format("The target went away {} after the start ({}); {} connections ended "
                         "without a goodbye.",
                         human_seconds(result.target_gone_s), result.target_gone,
                         human_count(result.counts.cut_off)),
             "Look at the target's log for why it ended.");
    }
    const std::optional<ConnectionOutcome> ends = connection_outcome(result);
    if (!ends || ends->lost == 0) return;
    find(findings, Finding::incomplete,
         fmt::format("{} of {} connections that were asked for were not there at the end{}.",
                     human_count(ends->lost), human_count(result.wanted), causes_of_loss(result)),
         result.target_gone_s > 0 ? ""
                                  : "Raise the target's limits, ask for fewer connections, or let "
                                    "them come back (--reconnect).");
}

}  // namespace

Verdict judge_validity(const RunResult& result) {
    Findings findings;
    judge_connected(result, findings);
    if (findings.worst) return std::move(findings.verdict);
    judge_gap(result, findings);
    judge_outcome(result, findings);
    judge_made(result.generator, findings);
    judge_own_share(result, Timed::heartbeat, Timed::heartbeat_service, findings);
    judge_own_share(result, Timed::message, Timed::message_service, findings);
    judge_own_share(result, Timed::connect, Timed::connect_service, findings);
    judge_busy(result, findings);
    return std::move(findings.verdict);
}

}  // namespace pulse::load
