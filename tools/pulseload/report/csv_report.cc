// Header and rows come from the same walk over the columns, so they cannot part.
#include "tools/pulseload/report/csv_report.h"

#include <fmt/format.h>

#include "tools/pulseload/report/text_file.h"

namespace pulse::load {
namespace {

// Calls cell(name, value as text) for each column.
template <class Cell>
void visit_columns(const Sample& sample, Cell&& cell) {
    cell("at_s", fmt::format("{:.3f}", sample.at_s));
    cell("phase", std::string(name_of(sample.phase)));
    sample.counts.visit([&](std::string_view name, uint64_t value) {
        cell(std::string(name), std::to_string(value));
    });
    for (size_t at = 0; at < kTimed; ++at) {
        const LatencyPoint& point = sample.latency[at];
        const std::string prefix = std::string(name_of(static_cast<Timed>(at))) + "_";
        const auto latency = [&](const char* name, Nanos value) {
            const Nanos us = value / static_cast<Nanos>(Histogram::kUnitNanos);
            cell(prefix + name, point.count == 0 ? std::string() : std::to_string(us));
        };
        cell(prefix + "count", std::to_string(point.count));
        latency("p50_us", point.p50);
        latency("p90_us", point.p90);
        latency("p99_us", point.p99);
        latency("p99_9_us", point.p999);
        latency("max_us", point.max);
    }
    cell("lateness_max_us",
         std::to_string(sample.lateness_max / static_cast<Nanos>(Histogram::kUnitNanos)));
    cell("generator_cpu_s", fmt::format("{:.3f}", sample.generator_cpu_seconds));
    const ServerReading& server = sample.server;
    const auto of_server = [&](const char* name, std::string value) {
        cell(name, server.present ? std::move(value) : std::string());
    };
    of_server("server_cpu_s", fmt::format("{:.3f}", server.cpu_seconds));
    of_server("server_rss_bytes", std::to_string(server.rss_bytes));
    of_server("server_kernel_bytes",
              server.kernel_bytes ? std::to_string(*server.kernel_bytes) : std::string());
}

}  // namespace

std::string csv_text(const RunResult& result) {
    std::string text;
    const auto end_line = [&text] { text.back() = '\n'; };
    visit_columns(Sample{}, [&](std::string_view name, const std::string&) {
        text.append(name).append(",");
    });
    end_line();
    for (const Sample& sample : result.samples) {
        visit_columns(sample, [&](std::string_view, const std::string& value) {
            text.append(value).append(",");
        });
        end_line();
    }
    return text;
}

Result<void> write_csv(const std::string& path, const RunResult& result) {
    return write_file(path, csv_text(result));
}

}  // namespace pulse::load
