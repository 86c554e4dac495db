// How connections end.
//
// A connection is closed with a goodbye (begin_close), after words that were sent already
// (begin_close_silent), or without any (close_socket). Seven functions move it:
//
//   live
//     |  begin_close(_silent)           goodbye queued, kProfileClosing: the linger runs
//     v
//   closing, goodbye queued
//     |  flush_one                      the kernel has all of it: FIN is asked for (kFinished)
//     v
//   closing, finished -- on_end(0), flush_one: the peer has ended, too --> close_socket(orderly)
//     |
//     |  evict: the linger is over and the peer is silent --------------> close_socket(reset)
//     |  end_one: the drain window is over; its goodbye was taken or not -> close_socket(either)
//     v
//   closed:  the backend joins what is in flight; on_closed frees the record --> free
//
// From any state but closed and free:
//   on_end(error), on_sent(error), stop_hard, a flight that holds memory --> close_socket(reset)
#include <algorithm>
#include <cerrno>
#include <cmath>

#include "net/loop/connections.h"
#include "net/loop/session.h"
#include "net/loop/usdt.h"

namespace pulse {
namespace {

// Of a goodbye or close frame of a client that comes back: its session waits for it.
constexpr uint16_t kComesBackCode = 4'000;

// An end by the peer, which does not come back: of one that was sent away it is why.
bool has_gone(const CloseCause& cause) {
    return cause.reason == CloseReason::peer_closed ||
           (cause.reason == CloseReason::peer_goodbye && cause.peer_code != kComesBackCode);
}

}  // namespace

// What an error of a connection says of its cause. What is not listed is this machine's failure: it
// has no memory, or lost the socket.
CloseReason reason_of(IoError error) {
    switch (error) {
        case ECONNRESET:
        case EPIPE:
        case ECONNABORTED:
            return CloseReason::peer_reset;
        case ETIMEDOUT:  // retransmissions, keepalive, or --tcp-user-timeout
            return CloseReason::network_timeout;
        case EHOSTUNREACH:  // ICMP said so
        case ENETUNREACH:
            return CloseReason::network_unreachable;
        default:
            return CloseReason::io_error;
    }
}

// Says why, sends FIN behind it, and gives the peer a moment to do the same: a close with unread
// input, or a reset, would destroy the goodbye on its way. A peer that stays silent is reset at the
// deadline, not before.
void Connections::begin_close(Index index, const CloseCause& cause) {
    Connection& connection = at(index);
    if (connection.stage == Stage::closed) return;
    if (connection.stage != Stage::closing) {
        set_cause(index, cause);
        if (cause.reason == CloseReason::slow_reader) outboxes_.drop_queue(connection);
        Session(*this, index).send_goodbye(cause.reason, cause.detail);
        if (outboxes_.last_words(connection) > 0) note_goodbye(index);
    }
    begin_close_silent(index, cause);
}

// Once for each connection: what comes later is not why it ends.
void Connections::set_cause(Index index, const CloseCause& given) {
    Connection& connection = at(index);
    if (connection.close_reason != CloseReason::none) return;
    CloseCause cause = given;
    const bool moves = end_stay(index) && has_gone(given);
    if (moves) cause.reason = CloseReason::moved;
    if (adapts_) [[unlikely]]
        note_lost(index, cause.reason);
    note_cause(index, cause);
    if (moves) note_goodbye(index);  // which was before its end
    connection.close_reason = cause.reason;
    end_share(index);
    end_side(index);
    end_anonymous(index, cause.reason);
    // It has ended the connection, and not the session.
    const bool comes_back = cause.peer_code == kComesBackCode;
    if (is_logged_in(connection))
        logins_.ended(index, comes_back ? CloseReason::peer_closed : cause.reason);
    authentication_.ended(index);
    if (cause.reason == CloseReason::out_of_memory) notices_.gave_way();
}

// The same without a word of ours: what there was to say was said.
void Connections::begin_close_silent(Index index, const CloseCause& cause) {
    Connection& connection = at(index);
    if (connection.stage == Stage::closed) return;
    if (connection.stage != Stage::closing) {
        set_cause(index, cause);
        set_stage(index, Stage::closing);
        if ((connection.flags & kBulkOut) != 0) note_bulk(index, 0);
        if (index != decoding_ && io_.is_held_off(index)) {
            parking_.drop(index);
            resume(index);
        }
        set_profile(index, kProfileClosing);
    }
    mark_dirty(index);
}

void Connections::on_end(Index index, IoError error) {
    Connection& connection = at(index);
    if (error != 0) return close_socket(index, cause_of(error), CloseMode::reset);
    connection.flags |= kPeerEnded;
    begin_close(index, CloseReason::peer_closed);
}

void Connections::close_socket(Index index, const CloseCause& cause, CloseMode mode) {
    Connection& connection = at(index);
    if (connection.stage == Stage::closed) return;
    set_cause(index, cause);
    note_end(index, mode);
    set_stage(index, Stage::closed);
    io_.close(index, mode);
}

void Connections::on_closed(Index index) {
    Connection& connection = at(index);
    PULSE_ASSERT(connection.stage == Stage::closed);
    if (!parking_.empty()) parking_.drop(index);
    if ((connection.flags & kBulkOut) != 0) send_notes_.erase(index);
    outboxes_.release(connection);
    if (connection.tls != 0) release_tls(index);
    if (connection.inbox != 0) buffers_.release(connection.inbox);
    metrics_.closed(connection.close_reason);
    if (logs_peers_) log_debug(index, "closed: ", explain(evidence(index), false));
    if (samples()) log_close(index);
    if (traces_.on()) [[unlikely]]
        trace_closed(index);
    uncount(index);
    population_.leaves(connection);
    // The name is a literal, which a null byte ends.
    usdt::close(config_.number, index, connection.generation,
                describe(connection.close_reason).name.data());
    table_.release(index);
}

}  // namespace pulse
