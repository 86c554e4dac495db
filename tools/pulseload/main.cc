// pulseload: holds very many connections to a server, beats on each of them, lets some fall silent,
// and says how the server answered, whom it let go, and whether the numbers can be trusted.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>

#include "core/limits.h"
#include "core/units.h"
#include "net/descriptors.h"
#include "tools/pulseload/find_max.h"
#include "tools/pulseload/outputs.h"
#include "tools/pulseload/progress.h"
#include "tools/pulseload/run.h"
#include "tools/pulseload/slo.h"
#include "tools/pulseload/summary.h"
#include "tools/pulseload/verdict.h"

namespace pulse::load {
namespace {

enum ExitCode {
    kOk = 0,
    kCouldNotRun = 1,  // or not one connection opened, or a file could not be written
    kUsage = 2,
    kInvalid = 3,
    kMissed = 4,
    kIncomplete = 5,
};

// The first load that --find-max tries, where it searches for a rate.
constexpr uint64_t kFirstRate = 1'000;
constexpr uint64_t kRateMax = 10'000'000;
constexpr uint64_t kFirstConnections = 1'000;

std::atomic<int> interrupted{0};

int complain(const std::string& what, int code = kCouldNotRun) {
    print_error(what);
    return code;
}

// Reports are passed on: the values of headers, which may be secrets, are not in them.
std::string command_line(int argc, const char* const* argv) {
    std::string line;
    for (int i = 0; i < argc; ++i) {
        std::string word = argv[i];
        const bool is_value = i > 0 && std::string_view(argv[i - 1]) == "--header";
        if (is_value || word.starts_with("--header="))
            word = word.substr(0, word.find(':')) + ": ...";
        line += (i == 0 ? "" : " ") + word;
    }
    return line;
}

// One run, reported as it goes.
Result<RunResult> run_once(const LoadOptions& options, Outputs* outputs) {
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
    return result;
}

int exit_code_of(const Verdict& verdict, const std::vector<ObjectiveResult>& objectives) {
    switch (verdict.state) {
        case RunState::not_connected:
            return kCouldNotRun;
        case RunState::invalid:
            return kInvalid;
        case RunState::incomplete:
            return kIncomplete;
        case RunState::valid:
            break;
    }
    const bool met = std::ranges::all_of(objectives, &ObjectiveResult::met);
    return met ? kOk : kMissed;
}

int run(const LoadOptions& options, const std::string& command) {
    std::vector<Objective> objectives;
    if (!options.slo.empty()) {
        auto parsed = parse_objectives(options.slo);
        if (!parsed) return complain("--slo: " + parsed.error(), kUsage);
        objectives = *std::move(parsed);
    }
    Result<Outputs> outputs = Outputs::open(options);
    if (!outputs) return complain(outputs.error());
    Result<RunResult> result = run_once(options, &*outputs);
    if (!result) return complain(result.error());
    result->command_line = command;
    const Verdict verdict = judge_validity(*result);
    const std::vector<ObjectiveResult> judged = judge(objectives, *result);
    std::vector<std::string> failures = outputs->write(*result, verdict, judged);
    if (!options.quiet) {
        // Where JSON has stdout, the words go where people look.
        std::FILE* const out = options.json_file == "-" ? stderr : stdout;
        const bool color = isatty(fileno(out)) != 0;
        const Result<void> shown = print(out, summary_text(*result, verdict, judged, color));
        if (!shown && out == stdout) failures.push_back(shown.error());
    }
    if (verdict.state == RunState::not_connected) {
        complain(verdict.evidence.front() + " " + verdict.remedies.front());
    }
    for (const std::string& failure : failures) complain(failure);
    return failures.empty() ? exit_code_of(verdict, judged) : kCouldNotRun;
}

int find_max(LoadOptions options) {
    const auto objectives = parse_objectives(options.find_max);
    if (!objectives) return complain("--find-max: " + objectives.error(), kUsage);
    const char* const what = options.find_rate ? "messages/s" : "connections";
    Search search(options.find_rate ? kFirstRate : kFirstConnections,
                  options.find_rate ? kRateMax : kConnectionsPerReactorMax);
    while (const std::optional<uint64_t> load = search.next()) {
        if (options.find_rate) {
            options.message_rate = *parse_pace(std::to_string(*load) + "/s");
        } else {
            options.connections = static_cast<uint32_t>(*load);
        }
        const Result<RunResult> result = run_once(options, nullptr);
        if (!result) return complain(result.error());
        if (interrupted != 0) break;
        const Counts& counts = result->counts;
        bool met =
            judge_validity(*result).valid() && counts.connect_failures + counts.refusals == 0;
        std::string told = met ? "" : "  INVALID, or not everybody was let in";
        for (const ObjectiveResult& objective : judge(*objectives, *result)) {
            met = met && objective.met;
            told += fmt::format("  {} {}", objective.objective,
                                objective.measured.empty() ? objective.why : objective.measured);
        }
        const std::string line =
            fmt::format("{:>10} {}  {}{}\n", *load, what, met ? "met   " : "missed", told);
        static_cast<void>(print(stderr, line));
        search.took(met);
    }
    if (const auto shown = print(stdout, fmt::format("{}\n", search.best())); !shown)
        return complain(shown.error());
    if (interrupted != 0) {
        return complain(
            "interrupted: the highest load that met so far is printed, the search is "
            "not complete",
            kIncomplete);
    }
    if (search.best() > 0) return kOk;
    return complain("not even the smallest load met " + options.find_max, kMissed);
}

// The first one ends the run with all it has; the next has its usual effect.
void catch_signals() {
    signal(SIGPIPE, SIG_IGN);
    struct sigaction action{};
    action.sa_handler = [](int number) { interrupted = number; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction before{};
        sigaction(number, nullptr, &before);
        if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);  // nohup
    }
}

}  // namespace
}  // namespace pulse::load

int main(int argc, char** argv) {
    using namespace pulse::load;
    pulse::open_standard_descriptors();
    pulse::unblock_stderr();
    int exit_code = 0;
    const std::optional<LoadOptions> options = parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    catch_signals();
    if (!options->find_max.empty()) return find_max(*options);
    return run(*options, command_line(argc, argv));
}
