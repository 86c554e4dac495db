// Lines for the operator, at every log level up to warning, about what peers can cause as often as
// they like. The first of a kind is logged at once, then at most one in a while, which counts what
// came since the line before. A reactor's own; what takes the lines must not block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/types.h"

namespace pulse {

class Notices {
  public:
    using Line = std::function<void(const std::string& line)>;

    // Empty: nothing is counted, and no line is made.
    Notices(uint32_t reactor, Line warn) : reactor_(reactor), warn_(std::move(warn)) {}

    // A connection was closed for want of buffers.
    void gave_way() {
        if (warn_) ++gave_way_.waiting;
    }
    // The first bytes of `connection` are a protocol that its listener does not accept. `protocol`
    // is a literal.
    void foreign(std::string_view protocol, std::string_view connection, std::string_view listener);

    // The kernel dropped completions of this reactor's ring, `total` since the start. Logged once.
    void completions_lost(uint64_t total);

    // The kernel does not spread connections by shares, for this `error`. The caller logs it once.
    void cannot_spread(int error);

    // When report() has something to log; kNever while nothing waits.
    Nanos due_at() const { return std::min(gave_way_.due_at(), foreign_.due_at()); }
    // Logs what is due. `held_bytes` of `bytes_max` is how full the pool of buffers is.
    void report(Nanos now, size_t held_bytes, size_t bytes_max);

  private:
    struct Kind {
        uint64_t waiting = 0;  // since the line before
        Nanos next_at = 0;
        Nanos due_at() const { return waiting == 0 ? kNever : next_at; }
    };
    struct Count {
        std::string_view protocol;
        uint64_t connections;
    };

    uint32_t reactor_;
    Line warn_;
    Kind gave_way_, foreign_;
    std::vector<Count> protocols_;  // since the line before; as many as are recognised
    std::string first_foreign_;
    bool loss_logged_ = false;
};

}  // namespace pulse
