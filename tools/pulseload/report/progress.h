// What a run is doing, shown while it runs: a small table that redraws itself on a terminal, lines
// where lines were asked for, nothing where the output is piped.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "tools/pulseload/run/result.h"

namespace pulse::load {

// What happened from `before` to `now`; a line of text each, without line feeds.
std::vector<std::string> progress_table(const Sample& now, const Sample& before, uint32_t wanted);
std::string progress_line(const Sample& now, const Sample& before, uint32_t wanted);

// One thread's. Anything else that prints to `out` meanwhile ends up above the next table.
class Progress {
  public:
    // `terminal`: whether `out` is one. If not, `forced` prints plain lines. Does not own `out`.
    explicit Progress(bool terminal, bool forced = false, std::FILE* out = stderr)
        : terminal_(terminal), lines_(!terminal && forced), out_(out) {}

    // Once a second; `wanted` is how many connections the run is to hold.
    void show(const Sample& now, const Sample& before, uint32_t wanted);
    // Leaves the last table where it is; what is printed next begins a line of its own.
    void finish();

  private:
    bool terminal_;
    bool lines_;
    std::FILE* out_;
    size_t drawn_lines_ = 0;
};

}  // namespace pulse::load
