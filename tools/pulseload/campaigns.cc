// A run, rounds, and the search; what each prints and writes.
#include "tools/pulseload/campaigns.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "tools/pulseload/exit_code.h"
#include "tools/pulseload/report/json_report.h"
#include "tools/pulseload/report/outputs.h"
#include "tools/pulseload/report/progress.h"
#include "tools/pulseload/report/rounds_report.h"
#include "tools/pulseload/report/summary.h"
#include "tools/pulseload/run/attempt.h"
#include "tools/pulseload/run/find_max.h"
#include "tools/pulseload/run/rounds.h"
#include "tools/pulseload/run/run.h"

namespace pulse::load {
namespace {

// The first load that a search tries.
constexpr uint64_t kFirstRate = 1'000;
constexpr uint64_t kRateMax = 10'000'000;
constexpr uint64_t kFirstConnections = 1'000;
constexpr uint32_t kTriesDefault = 3;

// Reports to stderr. Returns `code`.
int fail(const std::string& what, int code) {
    print_error(what);
    return code;
}

Result<std::vector<Objective>> objectives_from(const std::string& text) {
    if (text.empty()) return std::vector<Objective>{};
    return parse_objectives(text);
}

// Where JSON has stdout, the words go to the terminal's other stream.
void show(const LoadOptions& options, const std::string& text, std::vector<std::string>& failures) {
    if (options.quiet) return;
    std::FILE* const out = options.json_file == "-" ? stderr : stdout;
    const Result<void> shown = print(out, text);
    if (!shown && out == stdout) failures.push_back(shown.error());
}

bool is_colored(const LoadOptions& options) {
    return isatty(options.json_file == "-" ? STDERR_FILENO : STDOUT_FILENO) != 0;
}

int finish(const std::vector<std::string>& failures, int code) {
    for (const std::string& failure : failures) print_error(failure);
    return failures.empty() ? code : kCouldNotRun;
}

std::string names_of(const std::vector<std::pair<std::string, std::string>>& files) {
    std::string text;
    for (const auto& [what, path] : files) text += "Written     " + what + ": " + path + "\n";
    return text;
}

// One run with its live table. `outputs` may be null. Fails where the run cannot begin.
Result<Attempt> attempt(const LoadOptions& options, const std::vector<Objective>& objectives,
                        Outputs* outputs, const std::atomic<int>& interrupted) {
    const Result<Layout> layout = lay_out(options);
    if (!layout) return Error{layout.error()};
    if (!options.quiet) {
        for (const std::string& line : layout->lines) static_cast<void>(print(stderr, line + "\n"));
    }
    Progress progress(!options.quiet && isatty(STDERR_FILENO) != 0,
                      !options.quiet && options.progress);
    auto result = run_load(options, *layout, interrupted, [&](const Interval& interval) {
        progress.show(interval.now, interval.before, options.connections);
        if (outputs != nullptr) outputs->append(interval);
    });
    progress.finish();
    if (!result) return Error{result.error()};
    result->command_line = options.command_line;
    Attempt made;
    made.result = std::move(*result);
    made.verdict = judge_validity(made.result);
    made.objectives = judge(objectives, made.result);
    return made;
}

}  // namespace

int run_single(const LoadOptions& options, const std::atomic<int>& interrupted) {
    const auto objectives = objectives_from(options.slo);
    if (!objectives) return fail("--slo: " + objectives.error(), kUsage);
    Result<Outputs> outputs = Outputs::open(options);
    if (!outputs) return fail(outputs.error(), kCouldNotRun);
    Result<Attempt> made = attempt(options, *objectives, &*outputs, interrupted);
    if (!made) return fail(made.error(), kCouldNotRun);
    std::vector<std::string> failures =
        outputs->write(made->result, made->verdict, made->objectives);
    show(options, summary_text(made->result, made->verdict, made->objectives, is_colored(options)),
         failures);
    if (made->verdict.state == RunState::not_connected)
        print_error(made->verdict.evidence.front() + " " + made->verdict.remedies.front());
    return finish(failures, exit_code_of(made->verdict.state, made->objectives));
}

// -------------------------------------------------------------------------------------- the rounds
namespace {

// The attempts in their order: each round takes the targets in turn, so that what the machine does
// meanwhile affects all alike.
Result<std::deque<Attempt>> make_rounds(const LoadOptions& options,
                                        const std::vector<Objective>& objectives,
                                        const std::atomic<int>& interrupted) {
    std::deque<Attempt> attempts;
    for (uint32_t round = 0; round < options.repeat; ++round) {
        for (const Target& target : options.targets) {
            if (interrupted != 0) return attempts;
            LoadOptions one = options;
            one.targets = {target};
            const std::string line =
                fmt::format("round {} of {}: {}\n", round + 1, options.repeat, target.text);
            if (!options.quiet) static_cast<void>(print(stderr, line));
            Result<Attempt> made = attempt(one, objectives, nullptr, interrupted);
            if (!made) return Error{made.error()};
            attempts.push_back(std::move(*made));
        }
    }
    return attempts;
}

}  // namespace

int run_rounds(const LoadOptions& options, const std::atomic<int>& interrupted) {
    const auto objectives = objectives_from(options.slo);
    if (!objectives) return fail("--slo: " + objectives.error(), kUsage);
    Result<Outputs> outputs = Outputs::open(options);
    if (!outputs) return fail(outputs.error(), kCouldNotRun);
    Result<std::deque<Attempt>> attempts = make_rounds(options, *objectives, interrupted);
    if (!attempts) return fail(attempts.error(), kCouldNotRun);
    if (attempts->empty()) return fail("interrupted before the first round", kIncomplete);
    std::vector<TargetRounds> targets;
    for (const Target& target : options.targets) targets.push_back({target.text, {}});
    for (size_t at = 0; at < attempts->size(); ++at)
        targets[at % targets.size()].rounds.push_back(&(*attempts)[at]);
    std::erase_if(targets, [](const TargetRounds& rounds) { return rounds.rounds.empty(); });
    std::vector<std::string> failures =
        outputs->write_texts(dumped(rounds_json(targets, *attempts)), rounds_page(targets));
    show(options, rounds_text(targets, is_colored(options)) + names_of(outputs->names()), failures);
    RunState worst = RunState::valid;
    std::vector<ObjectiveResult> judged;
    for (const TargetRounds& rounds : targets) {
        worst = std::max(worst, state_of(rounds));
        const std::vector<ObjectiveResult> own = objectives_of(rounds);
        judged.insert(judged.end(), own.begin(), own.end());
    }
    if (interrupted != 0) worst = std::max(worst, RunState::incomplete);
    return finish(failures, exit_code_of(worst, judged));
}

// -------------------------------------------------------------------------------------- the search
namespace {

struct LoadSearch {
    LoadOptions options;
    std::vector<Objective> objectives;
    const std::atomic<int>& interrupted;
    std::string trials{};           // for the reports
    std::optional<Attempt> best{};  // the last run that met, of the highest load

    void set_load(uint64_t load) {
        if (options.find_rate) {
            options.message_rate = *parse_pace(std::to_string(load) + "/s");
        } else {
            options.connections = static_cast<uint32_t>(load);
        }
    }
    // One run with that load; whether it met.
    Result<bool> try_once(uint64_t load) {
        Result<Attempt> made = attempt(options, objectives, nullptr, interrupted);
        if (!made) return Error{made.error()};
        if (interrupted != 0) return false;
        const Counts& counts = made->result.counts;
        bool met = made->verdict.valid() && counts.connect_failures + counts.refusals == 0;
        std::string words;
        if (!met) {
            words = "  " + std::string(name_of(made->verdict.state));
            if (counts.connect_failures + counts.refusals > 0)
                words += fmt::format(", {} refused or failed",
                                     counts.connect_failures + counts.refusals);
        }
        for (const ObjectiveResult& objective : made->objectives) {
            met = met && objective.met;
            words += fmt::format("  {} {}", objective.objective,
                                 objective.measured.empty() ? objective.why : objective.measured);
        }
        static_cast<void>(print(
            stderr,
            fmt::format("{:>10} {}  {}{}\n", load, options.find_rate ? "messages/s" : "connections",
                        met ? "met   " : "missed", words)));
        if (met) best = std::move(*made);
        return met;
    }
    // By majority; nothing where it was interrupted.
    Result<std::optional<bool>> try_load(uint64_t load, uint32_t tries) {
        set_load(load);
        Votes votes(tries);
        std::optional<Attempt> before = std::move(best);
        best.reset();
        while (!votes.decided()) {
            const Result<bool> met = try_once(load);
            if (!met) return Error{met.error()};
            if (interrupted != 0) {
                best = std::move(before);
                return std::optional<bool>();
            }
            votes.cast(*met);
        }
        const bool met = *votes.decided();
        if (!met) best = std::move(before);
        trials += fmt::format("{}{} {}", trials.empty() ? "" : ", ", load, met ? "met" : "missed");
        return votes.decided();
    }
};

uint64_t ceiling_of(const LoadOptions& options) {
    if (!options.find_rate) return options.connections;
    if (!options.message_rate) return kRateMax;
    return std::max<uint64_t>(
        1, static_cast<uint64_t>(std::llround(options.message_rate->segments.back().to)));
}

}  // namespace

int run_search(LoadOptions options, const std::atomic<int>& interrupted) {
    const auto objectives = parse_objectives(options.find_max);
    if (!objectives) return fail("--find-max: " + objectives.error(), kUsage);
    Result<Outputs> outputs = Outputs::open(options);
    if (!outputs) return fail(outputs.error(), kCouldNotRun);
    const uint32_t tries = options.repeat > 0 ? options.repeat : kTriesDefault;
    Search search(options.find_rate ? kFirstRate : kFirstConnections, ceiling_of(options));
    LoadSearch runs{std::move(options), *objectives, interrupted};
    while (const std::optional<uint64_t> load = search.next()) {
        const Result<std::optional<bool>> met = runs.try_load(*load, tries);
        if (!met) return fail(met.error(), kCouldNotRun);
        if (!*met) break;
        search.took(**met);
    }
    std::vector<std::string> failures;
    if (runs.best) {
        Attempt& best = *runs.best;
        best.result.settings.emplace_back("search", runs.trials);
        failures = outputs->write(best.result, best.verdict, best.objectives);
    }
    if (const auto shown = print(runs.options.json_file == "-" ? stderr : stdout,
                                 fmt::format("{}\n", search.best()));
        !shown)
        failures.push_back(shown.error());
    if (interrupted != 0) {
        print_error("interrupted: what is printed is the highest load that met so far");
        return finish(failures, kIncomplete);
    }
    if (search.best() > 0) return finish(failures, kOk);
    print_error("not even the smallest load met " + runs.options.find_max);
    return finish(failures, kMissed);
}

}  // namespace pulse::load
