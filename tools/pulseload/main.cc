// pulseload: holds very many connections to a server, beats on each of them, lets some fall silent,
// and says how the server answered, whom it let go, and whether the numbers can be trusted.
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <ctime>

#include "core/limits.h"
#include "core/units.h"
#include "net/descriptors.h"
#include "tools/pulseload/csv_report.h"
#include "tools/pulseload/find_max.h"
#include "tools/pulseload/hlog.h"
#include "tools/pulseload/html_report.h"
#include "tools/pulseload/json_report.h"
#include "tools/pulseload/progress.h"
#include "tools/pulseload/run.h"
#include "tools/pulseload/slo.h"
#include "tools/pulseload/summary.h"
#include "tools/pulseload/verdict.h"

namespace pulse::load {
namespace {

enum ExitCode { kOk = 0, kCouldNotRun = 1, kUsage = 2, kInvalid = 3, kMissed = 4 };

// The first load that --find-max tries, where it searches for a rate.
constexpr uint64_t kFirstRate = 1'000;
constexpr uint64_t kRateMax = 10'000'000;
constexpr uint64_t kFirstConnections = 1'000;

std::atomic<bool> interrupted{false};

int complain(const std::string& what, int code = kCouldNotRun) {
    fmt::print(stderr, "pulseload: {}\n", what);
    return code;
}

std::string command_line(int argc, const char* const* argv) {
    std::string line;
    for (int i = 0; i < argc; ++i) line += (i == 0 ? "" : " ") + std::string(argv[i]);
    return line;
}

// One run, told as it goes.
Result<RunResult> run_once(const LoadOptions& options) {
    const Result<Layout> layout = lay_out(options);
    if (!layout) return Error{layout.error()};
    if (!options.quiet) {
        for (const std::string& line : layout->lines) fmt::print(stderr, "{}\n", line);
    }
    std::optional<HlogWriter> hlog;
    if (!options.hlog_file.empty()) {
        timespec now{};
        clock_gettime(CLOCK_REALTIME, &now);
        const auto iso = format_utc(now.tv_sec);
        const double epoch_s =
            static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / kSecond;
        auto opened = HlogWriter::open(options.hlog_file, iso, epoch_s);
        if (!opened) return Error{opened.error()};
        hlog.emplace(std::move(*opened));
    }
    Progress progress(!options.quiet && isatty(STDERR_FILENO) != 0,
                      !options.quiet && options.progress);
    auto result = run_load(options, *layout, interrupted, [&](const Interval& interval) {
        progress.show(interval.now, interval.before, options.connections);
        for (size_t i = 0; hlog && i < kTimed; ++i) {
            hlog->append(interval.begin_s, interval.length_s, name_of(static_cast<Timed>(i)),
                         interval.latency[i]);
        }
    });
    progress.finish();
    if (hlog && result) {
        if (const Result<void> closed = hlog->close(); !closed) return Error{closed.error()};
        result->files.emplace_back("interval log", options.hlog_file);
    }
    return result;
}

// Names of all files first, so that each can name the others.
Result<void> write_files(const LoadOptions& options, RunResult& result, const Verdict& verdict,
                         const std::vector<ObjectiveResult>& objectives) {
    if (!options.report_file.empty()) result.files.emplace_back("page", options.report_file);
    if (!options.csv_file.empty()) result.files.emplace_back("CSV", options.csv_file);
    const bool json_to_file = !options.json_file.empty() && options.json_file != "-";
    if (json_to_file) result.files.emplace_back("JSON", options.json_file);
    if (!options.report_file.empty()) {
        Result<void> page = write_html(options.report_file, result, verdict, objectives);
        if (!page) return page;
    }
    if (!options.csv_file.empty()) {
        Result<void> csv = write_csv(options.csv_file, result);
        if (!csv) return csv;
    }
    if (json_to_file) return write_json(options.json_file, result, verdict, objectives);
    if (options.json_file == "-") {
        fmt::print("{}\n", to_json(result, verdict, objectives).dump(2));
    }
    return {};
}

int run(const LoadOptions& options, const std::string& command) {
    std::vector<Objective> objectives;
    if (!options.slo.empty()) {
        auto parsed = parse_objectives(options.slo);
        if (!parsed) return complain("--slo: " + parsed.error(), kUsage);
        objectives = *std::move(parsed);
    }
    Result<RunResult> result = run_once(options);
    if (!result) return complain(result.error());
    result->command_line = command;
    const Verdict verdict = judge_validity(*result);
    const std::vector<ObjectiveResult> judged = judge(objectives, *result);
    if (const Result<void> written = write_files(options, *result, verdict, judged); !written) {
        return complain(written.error());
    }
    // Where JSON has stdout, the words go where people look.
    std::FILE* const out = options.json_file == "-" ? stderr : stdout;
    if (!options.quiet) {
        fmt::print(out, "{}", summary_text(*result, verdict, judged, isatty(fileno(out)) != 0));
    }
    if (!verdict.valid) return kInvalid;
    for (const ObjectiveResult& objective : judged) {
        if (!objective.met) return kMissed;
    }
    return kOk;
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
        const Result<RunResult> result = run_once(options);
        if (!result) return complain(result.error());
        if (interrupted) return complain("interrupted; nothing was found");
        const Counts& counts = result->counts;
        bool met = judge_validity(*result).valid && counts.connect_failures + counts.refusals == 0;
        std::string told = met ? "" : "  INVALID, or not everybody was let in";
        for (const ObjectiveResult& objective : judge(*objectives, *result)) {
            met = met && objective.met;
            told += fmt::format("  {} {}", objective.objective,
                                objective.measured.empty() ? objective.why : objective.measured);
        }
        fmt::print(stderr, "{:>10} {}  {}{}\n", *load, what, met ? "met   " : "missed", told);
        search.took(met);
    }
    fmt::print("{}\n", search.best());
    if (search.best() > 0) return kOk;
    return complain("not even the smallest load met " + options.find_max, kMissed);
}

}  // namespace
}  // namespace pulse::load

int main(int argc, char** argv) {
    using namespace pulse::load;
    pulse::open_standard_descriptors();
    int exit_code = 0;
    const std::optional<LoadOptions> options = parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, [](int) { interrupted = true; });
    signal(SIGTERM, [](int) { interrupted = true; });
    if (!options->find_max.empty()) return find_max(*options);
    return run(*options, command_line(argc, argv));
}
