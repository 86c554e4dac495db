// The queue, and what its bounds drop.
#include "net/client/outbox.h"

#include <utility>

#include "core/check.h"
#include "net/client/deadline.h"

namespace pulse::client {
namespace {

Answered dropped(uint64_t id, const char* reason) { return {id, Outcome::dropped, reason}; }

}  // namespace

void Outbox::push(QueuedMessage message, Events& events) {
    const size_t bytes = message.bytes.size();
    if (bounds_.messages_max == 0 || bytes > bounds_.bytes_max) {
        const char* const reason = bounds_.messages_max == 0 ? "count" : "bytes";
        events.push_back(dropped(message.id, reason));
        return;
    }
    while (count() >= bounds_.messages_max || bytes_ > bounds_.bytes_max - bytes) {
        const char* const reason = count() >= bounds_.messages_max ? "count" : "bytes";
        if (bounds_.overflow == Overflow::newest) {
            events.push_back(dropped(message.id, reason));
            return;
        }
        events.push_back(dropped(take().id, reason));
    }
    bytes_ += bytes;
    messages_.push_back(std::move(message));
}

QueuedMessage Outbox::take() {
    PULSE_ASSERT(!messages_.empty());
    QueuedMessage message = std::move(messages_.front());
    messages_.pop_front();
    bytes_ -= message.bytes.size();
    return message;
}

Nanos Outbox::expires_at() const {
    return messages_.empty() ? kNever : after(messages_.front().queued_at, bounds_.age_max);
}

void Outbox::expire(Nanos now, Events& events) {
    while (now >= expires_at()) events.push_back(dropped(take().id, "age"));
}

void Outbox::clear(const char* reason, Events& events) {
    while (!messages_.empty()) events.push_back(dropped(take().id, reason));
}

}  // namespace pulse::client
