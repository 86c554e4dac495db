// TLS between the backend and a conversation:
//
//     on_bytes: records  --read_records-->  plaintext  -->  Session, as if it had been read
//     flush_one: records <------seal------  the queue  <--  Session, as if it were sent
//
// One that is handshaking is in Stage::tls; its records are the session's to pass on, since they
// may be put off and parked as any other bytes (Session::continue_handshake). Behind that all that
// is parked is plaintext. A frame's cost is counted on plaintext, and what a protocol knows of
// sending, caps, deadlines and endings holds behind TLS as it does without. An end says
// close_notify behind the goodbye; a close_notify of the peer is the end of what it sends.
#include <algorithm>

#include "net/loop/connections.h"
#include "net/loop/session.h"
#include "net/protocols/refusal.h"

namespace pulse {

// Those that wait and those that come have a half each, or a storm would keep out who waits.
bool Connections::puts_off_tls(Index index) {
    if (tls_spent(index) < kTlsHandshakeNsPerTurn / 2) return false;
    metrics_.add(Metric::tls_put_off);
    return true;
}

bool Connections::begin_tls(Index index) {
    PULSE_ASSERT(serves_tls());
    if (!config_.admission->begin_tls(config_.options->tls_handshakes_max)) {
        refuse_tls(index, CloseCause(CloseReason::handshakes_full).noted("of TLS"));
        return false;
    }
    if (!tls_.begin(index, *config_.options->tls_context)) {
        config_.admission->end_tls();
        refuse_tls(index, CloseCause(CloseReason::out_of_memory).noted("for a TLS handshake"));
        return false;
    }
    at(index).tls = 1;
    return true;
}

// It has begun with TLS and is given none.
void Connections::refuse_tls(Index index, const CloseCause& cause) {
    const RefusalMessage alert = tls_refusal();
    uint8_t* const to = claim(index, alert.bytes().size());
    if (to != nullptr) std::ranges::copy(alert.bytes(), to);
    begin_close_silent(index, cause);
}

TlsConnections::Read Connections::read_records(Index index, std::span<uint8_t> records) {
    const bool was_handshaking = tls_.is_handshaking(index);
    const Nanos began = was_handshaking ? io_.clock() : 0;
    const bool held = hold_records(index, records);
    TlsConnections::Read read = tls_.read(index, records);
    if (was_handshaking) tls_spent(index) += io_.clock() - began;
    if (read.opened) config_.admission->end_tls();
    // It waits for our flight since it sent its own, however long this thread was away meanwhile:
    // what follows has the deadline's time from now on. There are three at most.
    if (was_handshaking && !read.failed && !tls_.output().empty() && is_live(at(index).stage))
        at(index).heard = heard_progress(at(index).heard, kAllTicks, config_.clock.up(io_.now()));
    const bool has_room = append_records(index);
    if (!tls_.output().empty()) mark_dirty(index);
    if (!held || !hold_record(index, read.rest)) {
        begin_close(index, CloseCause(CloseReason::out_of_memory).noted("for a part of a record"));
    } else if (!has_room) {
        begin_close_silent(index,
                           CloseCause(CloseReason::out_of_memory).noted("for records of TLS"));
    } else if (outboxes_.record_bytes(at(index)) > kTlsOutputBytesMax) {
        begin_close_silent(index,
                           CloseCause(CloseReason::slow_reader).noted("it read no TLS alerts"));
    }
    if (at(index).stage >= Stage::closing) read.plain = {};
    if (read.opened) {
        if (at(index).stage == Stage::tls) on_tls_opened(index);
        tls_.end_description();
    }
    return read;
}

// Of a record that is cut the part that came first is held, if OpenSSL has it not: what is at the
// beginning of `records` goes there as far as that record goes. False: there is no memory.
bool Connections::hold_records(Index index, std::span<uint8_t>& records) {
    for (size_t wanted = 0;
         !records.empty() && (wanted = tls_.wanted_bytes(index)) > 0;) {
        const std::span<uint8_t> piece = records.first(std::min(wanted, records.size()));
        if (!hold_record(index, piece)) return false;
        records = records.subspan(piece.size());
    }
    return true;
}

bool Connections::hold_record(Index index, std::span<const uint8_t> piece) {
    if (piece.empty()) return true;
    while (!tls_.hold(index, at(index).address, piece))
        if (!buffers_.was_short() || !make_room(index)) return false;
    return true;
}

// What the last call of TLS had to say goes out with the next send. False: there is no memory.
bool Connections::append_records(Index index) {
    const std::span<const uint8_t> records = tls_.output();
    if (records.empty()) return true;
    uint8_t* place = nullptr;
    do {
        place = outboxes_.claim_records(at(index), index, records.size());
    } while (place == nullptr && buffers_.was_short() && make_room(index));
    if (place == nullptr) return false;
    std::ranges::copy(records, place);
    return true;
}

// As behind a PROXY header: the next stage has its own deadline where no handshake follows.
void Connections::on_tls_opened(Index index) {
    metrics_.add(tls_.is_resumed(index) ? Metric::tls_resumed : Metric::tls_handshakes);
    if (logs_peers_) log_debug(index, "speaks TLS: ", tls_.describe(index));
    set_stage(index, Stage::detect);
    if (!kProtocols[at(index).protocol]->greets_at_once) begin_heartbeats(index);
}

void Connections::end_records(Index index, const TlsConnections::Read& read) {
    const Connection& connection = at(index);
    if (read.failed) {
        // The alert for it, if there is one, waits to be sent already.
        const std::string reason(tls_.reason());
        release_tls(index);
        if (connection.stage >= Stage::closing) return;
        metrics_.add(Metric::faults);
        log_debug(index, "TLS failed: ", reason);
        const bool never_opened = connection.stage == Stage::tls;
        return begin_close_silent(
            index,
            {never_opened ? CloseReason::tls_handshake_failed : CloseReason::tls_failed, reason});
    }
    // What it sent before is decoded first: its FIN, which the backend holds back, comes behind it.
    if (!read.ended || connection.stage >= Stage::closing || io_.is_held_off(index)) return;
    begin_close(index, CloseReason::peer_closed);
}

// What waits becomes records, behind those that wait; of one that is closing the end of all.
// Nothing may be in flight. False: it was closed.
bool Connections::seal(Index index) {
    Connection& connection = at(index);
    const bool leaves = connection.stage == Stage::closing;
    if (!tls_.has(index) || tls_.is_handshaking(index)) {
        // Nothing can be said any more, or yet.
        if (leaves) outboxes_.drop_queue(connection);
        return true;
    }
    const std::span<const uint8_t> queue = outboxes_.queue(connection);
    if (!queue.empty()) {
        const bool sealed = tls_.seal(index, queue);
        // First, so that the pool need not have room for both: the largest message fits just once.
        outboxes_.end_queue(connection);
        if (!sealed || !append_records(index)) {
            close_socket(index, CloseCause(CloseReason::out_of_memory).noted("for records of TLS"),
                         CloseMode::reset);
            return false;
        }
    }
    if (leaves) {
        tls_.say_end(index);
        append_records(index);  // or it is not said
    }
    return true;
}

// Sends what waits. False: nothing does. Kept out of flush_one(), which each plain answer passes.
bool Connections::flush_records(Index index) {
    Connection& connection = at(index);
    if (!seal(index)) return true;
    if (outboxes_.record_bytes(connection) == 0) return false;
    const std::span<const uint8_t> flight = outboxes_.begin_flight_of_records(connection);
    note_flight(index, flight.size());
    if (connection.stage == Stage::closing) linger_from_now(connection);
    if (io_.send(index, flight)) on_sent(index, 0);
    return true;
}

void Connections::release_tls(Index index) {
    if (tls_.is_handshaking(index)) config_.admission->end_tls();
    tls_.release(index);
}

}  // namespace pulse
