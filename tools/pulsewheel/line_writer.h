// Lines on their way to a descriptor that may not take them: a pipe that is never drained, a FIFO
// without a reader, a disk that hangs. A thread of its own writes, and no other thread ever waits
// for it. What does not fit into the queue is dropped and counted.
//
// Not spdlog's asynchronous logger: its pool joins its thread, which would never end on a stuck
// descriptor; it is bounded in messages, and an object of statistics is as long as a thousand log
// lines; and it constructs every slot of its queue at the start, 400 B each.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "core/types.h"

namespace pulse::serve {

class LineWriter {
  public:
    // Writes to a descriptor that stays open as long as the process.
    static Result<std::unique_ptr<LineWriter>> to(int descriptor, std::string name);
    // Appends to a file, which is created if it is missing. Where it ends in a part of a line, the
    // first line begins on a new one. A FIFO without a reader is waited for, by the writing thread
    // alone. The error names the path, the reason and a remedy.
    static Result<std::unique_ptr<LineWriter>> append_to(const std::string& path);
    // Leaves what is not written yet, and a thread that cannot end, behind.
    ~LineWriter();

    // `line` ends with a newline. Never waits.
    void write(std::string line);
    // A file is opened anew before the next line: it was renamed, to be rotated.
    void reopen();
    // Waits until everything is written, for `wait` at most.
    void finish(Nanos wait);

    // What went wrong since the last call, once the queue is empty again: lines that were dropped,
    // a file that could not be written. Nothing while it is still stuck.
    std::optional<std::string> take_trouble();

  private:
    struct State;
    explicit LineWriter(std::shared_ptr<State> state) : state_(std::move(state)) {}
    static Result<std::unique_ptr<LineWriter>> start(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;  // the thread's too
};

// Whether append_to() would succeed, without creating anything.
Result<void> can_append_to(const std::string& path);

}  // namespace pulse::serve
