// Layout, run, verdict.
#include "tools/pulseload/attempt.h"

#include <unistd.h>

#include "tools/pulseload/progress.h"

namespace pulse::load {

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

}  // namespace pulse::load
