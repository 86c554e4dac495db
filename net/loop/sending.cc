// R2: whatever a turn has to say to a peer goes out in one send at its end.
#include "net/loop/connections.h"

namespace pulse {

void Connections::on_sent(Index index, IoError error) {
    Connection& connection = at(index);
    if (error != 0) return close_socket(index, cause_of(error), CloseMode::reset);
    metrics_.add(Metric::bytes_sent, outboxes_.flight_bytes(connection));
    if ((connection.flags & kBulkOut) != 0 && io_.now() - send_notes_[index].at > kLongFlightNs)
        credit_flight(index, io_.send_progress(index));
    const bool has_outbox = outboxes_.end_flight(connection);
    if (connection.clocked != 0) [[unlikely]]
        note_idle_write(index);
    // A close goes on when its last words have gone.
    const bool closing = connection.stage == Stage::closing;
    if (closing || (has_outbox && outboxes_.waits(connection))) mark_dirty(index);
}

// Room in the connection's next send. nullptr: it is gone, or going, or has too much waiting; then
// it is closed as a slow reader, or for want of memory.
uint8_t* Connections::claim(Index index, size_t bytes) {
    Connection& connection = at(index);
    if (connection.stage >= Stage::closing) return nullptr;
    uint8_t* place = nullptr;
    // A goodbye has room behind what fills the queue.
    const bool leaving = connection.close_reason != CloseReason::none;
    const size_t cap = config_.options->send_queue_bytes + (leaving ? kConnectionSlackBytes : 0);
    do {
        place = outboxes_.claim(connection, index, bytes, cap);
    } while (place == nullptr && buffers_.was_short() && make_room(index));
    if (place == nullptr && leaving && buffers_.was_short()) {
        // Why it ends matters more than what waits before it: alone the goodbye is a small buffer.
        outboxes_.drop_queue(connection);
        place = outboxes_.claim(connection, index, bytes, cap);
    }
    if (place == nullptr) {
        if (leaving) return nullptr;  // this is the goodbye itself: it goes unsaid
        begin_close(index,
                    buffers_.was_short() ? CloseReason::out_of_memory : CloseReason::slow_reader);
        return nullptr;
    }
    if (leaving) outboxes_.add_last_words(connection, bytes);
    mark_dirty(index);
    return place;
}

void Connections::flush() {
    flush_dirty();
    if (!asked_.empty()) [[unlikely]]
        note_asked_left();
    if (probed_.empty()) return;
    excuse_late_probes();
    flush_dirty();
}

void Connections::flush_dirty() {
    for (size_t position = 0; position < dirty_.size(); ++position) flush_one(dirty_[position]);
    dirty_.clear();
}

// R2. A place may stand here for an owner that is gone; then its flag is clear.
void Connections::flush_one(Index index) {
    Connection& connection = at(index);
    if ((connection.flags & kDirty) == 0) return;
    connection.flags &= static_cast<uint8_t>(~kDirty);
    if (connection.stage == Stage::free || connection.stage == Stage::closed ||
        outboxes_.in_flight(connection)) {
        return;  // on_sent comes back here
    }
    if (connection.tls != 0) [[unlikely]] {
        if (flush_records(index)) return;
    } else if (outboxes_.queued(connection)) {
        const std::span<const uint8_t> flight = outboxes_.begin_flight(connection);
        note_flight(index, flight.size());
        if (connection.stage == Stage::closing) linger_from_now(connection);
        if (io_.send(index, flight)) on_sent(index, 0);
        return;
    }
    if (connection.stage != Stage::closing) return;
    if ((connection.flags & kPeerEnded) != 0) {
        return close_socket(index, connection.close_reason, CloseMode::orderly);
    }
    if ((connection.flags & kFinished) != 0) return;
    connection.flags |= kFinished;
    linger_from_now(connection);
    io_.finish(index);
}

}  // namespace pulse
