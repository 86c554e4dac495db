// The log: spdlog's levels and patterns, before a writer that never makes the program wait.
#pragma once

#include <memory>

#include "core/result.h"
#include "net/server/options.h"
#include "tools/pulsewheel/line_writer.h"

namespace pulse::serve {

class QueueSink;

// spdlog's default logger, once open.
class Log {
  public:
    // Into options.log_file, or to stderr.
    static Result<Log> open(const ServerOptions& options);

    // What a reload may change: level and format.
    void tune(const ServerOptions& options);
    void reopen() { writer_->reopen(); }
    // Logs what was dropped, once the log is read again. Call it now and then.
    void report_trouble();
    void finish(Nanos wait) { writer_->finish(wait); }

  private:
    std::shared_ptr<LineWriter> writer_;  // the sink's too
    std::shared_ptr<QueueSink> sink_;
};

}  // namespace pulse::serve
