// Opened first, written last.
#include "tools/pulseload/report/outputs.h"

#include <ctime>

#include "tools/pulseload/report/csv_report.h"
#include "tools/pulseload/report/html_report.h"
#include "tools/pulseload/report/json_report.h"

namespace pulse::load {
namespace {

Result<void> open_one(const std::string& path, std::optional<OutputFile>& file) {
    if (path.empty()) return {};
    Result<OutputFile> opened = OutputFile::open(path);
    if (!opened) return Error{opened.error()};
    file.emplace(std::move(*opened));
    return {};
}

Result<HlogWriter> open_hlog(const std::string& path) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    const double epoch_s =
        static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / kSecond;
    return HlogWriter::open(path, format_utc(now.tv_sec), epoch_s);
}

}  // namespace

Result<Outputs> Outputs::open(const LoadOptions& options) {
    Outputs outputs;
    outputs.json_to_stdout_ = options.json_file == "-";
    if (auto page = open_one(options.report_file, outputs.page_); !page)
        return Error{"--report " + page.error()};
    if (auto csv = open_one(options.csv_file, outputs.csv_); !csv)
        return Error{"--csv " + csv.error()};
    if (!outputs.json_to_stdout_) {
        if (auto json = open_one(options.json_file, outputs.json_); !json)
            return Error{"--json " + json.error()};
    }
    if (options.hlog_file.empty()) return outputs;
    Result<HlogWriter> hlog = open_hlog(options.hlog_file);
    if (!hlog) return Error{"--hlog " + hlog.error()};
    outputs.hlog_.emplace(std::move(*hlog));
    outputs.hlog_path_ = options.hlog_file;
    return outputs;
}

std::vector<std::pair<std::string, std::string>> Outputs::names() const {
    std::vector<std::pair<std::string, std::string>> names;
    if (page_) names.emplace_back("page", page_->path());
    if (csv_) names.emplace_back("CSV", csv_->path());
    if (json_) names.emplace_back("JSON", json_->path());
    if (hlog_) names.emplace_back("interval log", hlog_path_);
    return names;
}

void Outputs::append(const Interval& interval) {
    for (size_t i = 0; hlog_ && i < kTimed; ++i) {
        hlog_->append(interval.begin_s, interval.length_s, name_of(static_cast<Timed>(i)),
                      interval.latency[i]);
    }
}

std::vector<std::string> Outputs::write_texts(const std::string& json, const std::string& page) {
    std::vector<std::string> errors;
    const auto note = [&](const Result<void>& written) {
        if (!written) errors.push_back(written.error());
    };
    if (json_) note(json_->write(json));
    if (json_to_stdout_) note(print(stdout, json));
    if (page_) note(page_->write(page));
    return errors;
}

std::vector<std::string> Outputs::write(RunResult& result, const Verdict& verdict,
                                        const std::vector<ObjectiveResult>& objectives) {
    // Names first, so that each file can name the others.
    result.files = names();
    std::vector<std::string> errors;
    const auto note = [&](const Result<void>& written) {
        if (!written) errors.push_back(written.error());
    };
    if (hlog_) note(hlog_->close());
    if (csv_) note(csv_->write(csv_text(result)));
    if (json_) note(json_->write(json_text(result, verdict, objectives)));
    if (json_to_stdout_) note(print(stdout, json_text(result, verdict, objectives)));
    if (page_) note(page_->write(html_page(result, verdict, objectives)));
    return errors;
}

}  // namespace pulse::load
