// How long each connection has lasted and what it has received and sent: for the debug log, and
// kept only while that is on. The record has no room for it, and otherwise an idle connection
// costs nothing more.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "core/types.h"

namespace pulse {

class TrafficNotes {
  public:
    void accepted(Index index, Nanos now) { notes_[index] = {.accepted_at = now}; }
    void received(Index index, size_t bytes) {
        if (!notes_.empty()) add(index, &Note::received_bytes, bytes);
    }
    void sent(Index index, size_t bytes) {
        if (!notes_.empty()) add(index, &Note::sent_bytes, bytes);
    }
    // " after 12.345 s, 678 bytes received, 90 sent": what its last line says of a connection.
    // Nothing is known of one that was accepted before the debug log was on.
    std::string summary(Index index, Nanos now) const;
    void forget(Index index) {
        if (!notes_.empty()) notes_.erase(index);
    }
    void forget_all() { notes_ = {}; }
    size_t size() const { return notes_.size(); }

  private:
    struct Note {
        Nanos accepted_at = 0;
        uint64_t received_bytes = 0;
        uint64_t sent_bytes = 0;
    };
    void add(Index index, uint64_t Note::* bytes, size_t more) {
        const auto note = notes_.find(index);
        if (note != notes_.end()) note->second.*bytes += more;
    }
    std::unordered_map<Index, Note> notes_;
};

}  // namespace pulse
