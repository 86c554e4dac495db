// The end of a close line.
#include "net/loop/traffic_notes.h"

#include <fmt/format.h>

namespace pulse {

std::string TrafficNotes::summary(Index index, Nanos now) const {
    const auto note = notes_.find(index);
    if (note == notes_.end()) return ", accepted before the debug log was on";
    const Nanos lasted_ms = (now - note->second.accepted_at) / kMillisecond;
    return fmt::format(" after {}.{:03} s, {} bytes received, {} sent", lasted_ms / 1'000,
                       lasted_ms % 1'000, note->second.received_bytes, note->second.sent_bytes);
}

}  // namespace pulse
