// Changes of presence on their way to those that follow them: the newest of all shards in one
// order, as Server-Sent Events, written once for all followers.
//
// Positions count from 0 in the order in which the changes came here. The id of an event is
//
//     EPOCH.POSITION.GENERATION.SEQUENCE      epoch: of this start of the server
//
// where POSITION is behind the event, and generation and sequence are those of its user. Who comes
// back with an id goes on behind that event, or learns that what followed is not kept. Bounded by
// bytes: the oldest is forgotten. Pure, not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace pulse {

class PresenceFeed {
  public:
    PresenceFeed(uint64_t epoch, size_t bytes_max) : epoch_(epoch), bytes_max_(bytes_max) {}

    // A change: `data` is JSON, a line.
    void append(std::string_view data, uint32_t generation, uint32_t sequence);
    // Some changes were lost before they came here.
    void append_gap() { push({{}, true}); }

    // Positions first() .. end() - 1 are kept.
    uint64_t first() const { return end_ - entries_.size(); }
    uint64_t end() const { return end_; }
    // Behind the event that has this id; nullopt: it is not one of this feed, or what follows it
    // is not kept.
    std::optional<uint64_t> position_of(std::string_view id) const;
    // The id of a follower that has all before `position`.
    std::string id_of(uint64_t position, uint32_t generation = 0, uint32_t sequence = 0) const;

    enum class Read : uint8_t {
        done,  // `position` is the end, or `out` is full
        gap,   // `position` is behind one; a follower begins anew
        lost,  // `position` is not kept any more
    };
    // Appends the events from `position` on to `out`, whole ones, until it has `full` bytes.
    Read read(uint64_t& position, std::string& out, size_t full) const;

  private:
    struct Entry {
        std::string text;
        bool gap = false;
    };
    void push(Entry entry);

    const uint64_t epoch_;
    const size_t bytes_max_;
    uint64_t end_ = 0;
    size_t bytes_ = 0;
    std::deque<Entry> entries_;
};

}  // namespace pulse
