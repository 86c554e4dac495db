// Messages that wait for a connection: first in, first out, bounded by count, bytes and age. Pure.
// Each is answered once: by what takes it out, or here, where a bound drops it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "core/types.h"
#include "net/client/events.h"
#include "proto/codec.h"

namespace pulse::client {

struct QueuedMessage {
    uint64_t id = 0;
    MessageKind kind = MessageKind::text;
    std::string bytes;
    bool confirm = false;
    Nanos queued_at = 0;
};

enum class Overflow : uint8_t { newest, oldest };

struct QueueBounds {
    size_t messages_max = 1'000;  // 0: none waits; each is dropped
    size_t bytes_max = 1 << 20;   // of all of them
    Nanos age_max = 60 * kSecond;
    Overflow overflow = Overflow::newest;  // which are dropped where there is no room
};

class Outbox {
  public:
    explicit Outbox(const QueueBounds& bounds) : bounds_(bounds) {}

    // Takes it, or answers it; where the oldest give way, answers those.
    void push(QueuedMessage message, Events& events);

    size_t count() const { return messages_.size(); }
    size_t bytes() const { return bytes_; }
    const QueueBounds& bounds() const { return bounds_; }

    // The oldest. Requires: count() is not 0.
    const QueuedMessage& front() const { return messages_.front(); }
    QueuedMessage take();

    // When expire() has something to do. Drops those that are too old.
    Nanos expires_at() const;
    void expire(Nanos now, Events& events);

    // Drops all. `reason`: closed or ended.
    void clear(const char* reason, Events& events);

  private:
    QueueBounds bounds_;
    std::deque<QueuedMessage> messages_;
    size_t bytes_ = 0;
};

}  // namespace pulse::client
