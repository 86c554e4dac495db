// Memory that connections borrow: of messages that are not whole, of bytes that a turn's share did
// not reach; and who has to give way where it is short.
#include <algorithm>

#include "net/loop/connections.h"
#include "net/loop/session.h"

namespace pulse {

// More of a message that is not whole. False: there is no memory for it. A peer that does not read
// what it is sent may not have us hold what it sends, too. The longest message always fits: where
// the queue is shorter, a pong in it must not cost the peer its message.
bool Connections::hold(Index index, std::span<const uint8_t> piece, size_t most) {
    Connection& connection = at(index);
    if (connection.inbox == 0) connection.inbox = buffers_.take(index, connection.address);
    const size_t waiting = outboxes_.bytes(connection);
    const size_t all =
        std::max(config_.options->send_queue_bytes, config_.limits.message_bytes_max) +
        kConnectionSlackBytes;
    if (waiting > 0 && buffers_.size(connection.inbox) + piece.size() + waiting > all) {
        begin_close(index, CloseReason::slow_reader);
        return false;  // a fault of a session that has stopped is not reported
    }
    while (!buffers_.append(connection.inbox, piece, most)) {
        if (!buffers_.was_short() || !make_room(index)) return false;
    }
    return true;
}

BufferPool::Handle Connections::keep(Index index, std::span<const uint8_t> bytes) {
    for (;;) {
        const BufferPool::Handle handle = parking_.keep(index, at(index).address, bytes);
        if (handle != 0 || !buffers_.was_short() || !make_room(index)) return handle;
    }
}

// Nothing more is decoded of a connection that is closing.
void Connections::drop_unfinished(Index index) {
    Connection& connection = at(index);
    if (connection.stage < Stage::closing || connection.inbox == 0) return;
    buffers_.release(connection.inbox);
    connection.inbox = 0;
}

// How many give way in a turn at most. Where longer messages are allowed, as many more: or small
// pieces of one address would keep them out.
uint32_t Connections::giving_way_per_turn(size_t message_bytes_max) {
    const size_t pieces = 2 * message_bytes_max / kBufferSmallBytes;
    return static_cast<uint32_t>(std::max<size_t>(kGivingWayPerTurn, pieces));
}

// The pool is short of what `asker` wants: the largest holder of the address that holds most gives
// way, what the asker wants counted as its address's. False where that is the asker itself, or one
// of its own address which is smaller than what it wants, or where as many have given way in this
// turn as may (giving_way_per_turn): the next that asks finds the room that they left.
bool Connections::make_room(Index asker) {
    // The goodbye of one that gives way must not make another do so: that may be who asked.
    if (giving_way_) return false;
    const uint32_t address = at(asker).address;
    BufferPool::Handle largest = buffers_.largest();
    const bool asks_for_most =
        largest == 0 || buffers_.held_by(address) + buffers_.wanted_more_bytes() >
                            buffers_.held_by(buffers_.address(largest));
    if (asks_for_most) largest = buffers_.largest_of(address);
    metrics_.add(Metric::memory_shortages);
    if (largest == 0) return false;
    if (asks_for_most && buffers_.capacity(largest) < buffers_.wanted_bytes()) return false;
    const Index owner = buffers_.owner(largest);
    if (owner == asker) return false;
    if (buffers_.wanted_bytes() > kBufferSmallBytes && may_give_way_-- == 0) {
        may_give_way_ = 0;
        return false;
    }
    giving_way_ = true;
    take_memory_from(owner);
    giving_way_ = false;
    return true;
}

// What it holds is given back at once, but for what is in flight: the kernel may still read that,
// and a peer that does not take it would not see a goodbye behind it, nor behind records of TLS
// that are dropped. Where there is a goodbye that waits already, it is left.
void Connections::take_memory_from(Index index) {
    Connection& connection = at(index);
    constexpr CloseCause gives_way =
        CloseCause(CloseReason::out_of_memory).noted("its address held most, and it the largest");
    const bool leaving = connection.stage == Stage::closing;
    log_debug(index, "gives way, being the largest holder of buffers: ", "out_of_memory");
    if (connection.inbox != 0) {
        buffers_.release(connection.inbox);
        connection.inbox = 0;
    }
    parking_.drop(index);
    if (connection.tls != 0) tls_.drop_held(index);
    if (leaving) {
        outboxes_.drop_all_but_last_words(connection, index);
    } else {
        outboxes_.drop_queue(connection);
    }
    if (outboxes_.drop_records(connection) || outboxes_.in_flight(connection)) {
        outboxes_.write_off(connection);
        return close_socket(index, gives_way, CloseMode::reset);
    }
    begin_close(index, gives_way);
    resume(index);
}

void Connections::park(Index index, const Session& session) {
    Parking::Entry entry{.index = index, .message = session.kept_message()};
    entry.message_at = entry.bytes_at = kReceiveFrontBytes;
    if (!session.rest().empty()) {
        entry.bytes = keep(index, session.rest());
        if (entry.bytes == 0) {
            parking_.release(entry);
            begin_close(index, CloseCause(CloseReason::out_of_memory).noted("it had sent more"));
            return drop_unfinished(index);
        }
    }
    parking_.push(entry);
    io_.hold_off(index);
}

// R4. A share for each in turn; who is not done goes behind the others.
void Connections::decode_parked() {
    if (parking_.empty()) return;
    parked_work_.refill(kWorkPerTurn / 2);
    heard_now_ = heard_at(config_.clock.up(io_.now()));
    size_t left = parking_.size();
    for (; left > 0 && !parking_.empty() && !parked_work_.empty(); --left) {
        Parking::Entry entry = parking_.pop();
        decoding_ = entry.index;
        Session session(*this, entry.index, false);
        session.resume(parking_.rest(entry.message, entry.message_at),
                       parking_.rest(entry.bytes, entry.bytes_at));
        if (session.left_something()) {
            parking_.push(what_is_left(entry, session));
        } else {
            if (session.kept_message() != 0) buffers_.release(session.kept_message());
            drop_unfinished(entry.index);
            parking_.release(entry);
            resume(entry.index);
        }
    }
    decoding_ = kNoIndex;
}

// Reads on. What arrived while it was held off was not waited for (C8, C9): the silence of a
// connection that is not closing begins now.
void Connections::resume(Index index) {
    Connection& connection = at(index);
    if (connection.stage == Stage::closed || !io_.is_held_off(index)) return;
    if (connection.stage != Stage::closing) {
        connection.heard = heard_progress(connection.heard, kAllTicks, config_.clock.up(io_.now()));
    }
    io_.resume(index);
    // A close_notify behind what was parked: nothing that could be read follows it.
    if (connection.tls != 0 && tls_.has_ended(index)) begin_close(index, CloseReason::peer_closed);
}

Parking::Entry Connections::what_is_left(Parking::Entry entry, const Session& session) {
    const bool same_message = session.kept_message() == 0 && !session.message_rest().empty();
    if (same_message) {
        entry.message_at = parking_.position(entry.message, session.message_rest());
    } else {
        if (entry.message != 0) buffers_.release(entry.message);
        entry.message = session.kept_message();
        entry.message_at = kReceiveFrontBytes;
    }
    if (!session.rest().empty() && !parking_.has(entry.bytes, session.rest())) {
        // Records were parked, and what is left is plaintext.
        if (entry.bytes != 0) buffers_.release(entry.bytes);
        entry.bytes = keep(entry.index, session.rest());
        entry.bytes_at = kReceiveFrontBytes;
        if (entry.bytes == 0)
            begin_close(entry.index,
                        CloseCause(CloseReason::out_of_memory).noted("it had sent more"));
    } else if (!session.rest().empty()) {
        entry.bytes_at = parking_.position(entry.bytes, session.rest());
    } else if (entry.bytes != 0) {
        buffers_.release(entry.bytes);
        entry.bytes = 0;
    }
    return entry;
}

}  // namespace pulse
