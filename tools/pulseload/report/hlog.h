// Writes an interval log that HdrHistogram's tools read: version 1.3 text, V2 histograms.
//
//     #[Histogram log format version 1.3]
//     Tag=heartbeat,1.000,1.000,12.287,HISTFAAAAG...      start, length, longest, all of them
//
// A line holds what was recorded in one interval of one tag; the payload is the histogram's counts
// (ZigZag LEB128, runs of zeros shortened), deflated, in base64. Our Histogram is laid out as
// HdrHistogram lays one out for (1, 3.6e9, 3 digits), so its counters are written as they are. Its
// unit is the microsecond; the "longest" column is in milliseconds, and readers that print values
// want `-outputValueUnitRatio 1000` for milliseconds (their default is for nanoseconds).
// Source: HdrHistogram's AbstractHistogram.encodeIntoByteBuffer and HistogramLogWriter, 2.1.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/histogram.h"
#include "core/result.h"

namespace pulse::load {

// One thread's. close() reports the first write that failed.
class HlogWriter {
  public:
    // Writes the header. `epoch_seconds` is the run's beginning, which lines are counted from.
    static Result<HlogWriter> open(std::string path, std::string_view started_at_iso,
                                   double epoch_seconds);

    // One line, flushed, so that a run which is killed leaves what it had; no line for an empty
    // histogram. `tag` is a name: no comma, no white space.
    void append(double start_s, double length_s, std::string_view tag, const Histogram& histogram);
    Result<void> close();

  private:
    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };
    HlogWriter(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}

    void write(std::string_view text);

    std::string path_;
    std::unique_ptr<std::FILE, Close> file_;
    std::optional<int> error_;  // of the first write that failed
};

// The last column of a line, for tests and for other containers.
std::string encode_hlog_payload(const Histogram& histogram);

}  // namespace pulse::load
