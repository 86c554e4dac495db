// The files of one run: --report, --json, --csv, --hlog.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/pulseload/report/hlog.h"
#include "tools/pulseload/report/text_file.h"
#include "tools/pulseload/run/load_options.h"
#include "tools/pulseload/run/run.h"
#include "tools/pulseload/run/slo.h"
#include "tools/pulseload/run/verdict.h"

namespace pulse::load {

class Outputs {
  public:
    // Opens all that the options name; the error is of the first that cannot be written.
    static Result<Outputs> open(const LoadOptions& options);

    // What is written, and where.
    std::vector<std::pair<std::string, std::string>> names() const;
    // While the run goes on.
    void append(const Interval& interval);
    // Writes each file whatever became of the others, and names it in `result.files`. Returns what
    // went wrong. Requires: once.
    std::vector<std::string> write(RunResult& result, const Verdict& verdict,
                                   const std::vector<ObjectiveResult>& objectives);

    // The same for JSON and a page that are not of one run.
    std::vector<std::string> write_texts(const std::string& json, const std::string& page);

  private:
    std::optional<OutputFile> page_;
    std::optional<OutputFile> csv_;
    std::optional<OutputFile> json_;
    bool json_to_stdout_ = false;
    std::optional<HlogWriter> hlog_;
    std::string hlog_path_;
};

}  // namespace pulse::load
