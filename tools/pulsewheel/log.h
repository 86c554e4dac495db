// The log: spdlog's levels and patterns, before a writer that never makes the program wait.
//
//   where it goes            as text                                   --log-format auto is
//   a terminal (stderr)      TIME LEVEL MESSAGE, the level in colour    text
//   systemd's journal        <PRIORITY>MESSAGE; it has times itself     text
//   a pipe, --log-file       TIME LEVEL MESSAGE                         JSON
//
// JSON is an object a line: time, level and message, and the facts of an event. NO_COLOR and
// TERM=dumb switch colours off. Into the journal a line of JSON has its priority, too.
#pragma once

#include <memory>
#include <string>

#include "core/result.h"
#include "net/loop/log_event.h"
#include "net/server/options.h"
#include "tools/pulsewheel/line_writer.h"

namespace pulse::serve {

class QueueSink;

// spdlog's default logger, once open.
class Log {
  public:
    // Into options.log_file, or to stderr.
    static Result<Log> open(const ServerOptions& options);

    // What a reload may change: level, format and rate.
    void tune(const ServerOptions& options);
    void reopen() { writer_->reopen(); }
    // At level info; not limited by --log-rate. Any thread's; never waits.
    static void event(const LogEvent& event);
    // Logs what was dropped, once the log is read again, and what was left out of messages that
    // came too often. Call it now and then.
    void report_trouble();
    // The same at the end: waits until everything is written, for `wait` at most.
    void finish(Nanos wait);

  private:
    std::shared_ptr<LineWriter> writer_;  // the sink's too
    std::shared_ptr<QueueSink> sink_;
    LogFormat automatic_ = LogFormat::json;  // what --log-format auto is here
};

// Whether `descriptor` is what systemd connected to the journal: `stream` is $JOURNAL_STREAM, the
// device and inode of that, or nullptr.
bool is_journal(int descriptor, const char* stream);

}  // namespace pulse::serve
