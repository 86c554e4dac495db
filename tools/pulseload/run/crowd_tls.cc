// TLS of clients, once TCP is there: between what the kernel brings and the codecs, and back.
//
//     on_bytes: records  --read_records-->  plaintext  --> take(), as if it had been read
//     flush: records     <--flush_records-- the queue  <-- as if it were sent
#include <algorithm>
#include <cerrno>
#include <string>

#include "proto/printable.h"
#include "tools/pulseload/run/crowd.h"

namespace pulse::load {
namespace {

constexpr size_t kFailureKindsMax = 64;

// What a user can do about what OpenSSL says.
std::string_view remedy_of(std::string_view reason) {
    constexpr std::string_view kNoCertificate =
        "the target asks for a client certificate, which pulseload does not have";
    constexpr struct {
        std::string_view words;
        std::string_view remedy;
    } kRemedies[] = {
        {"certificate verify failed",
         "name its authority by --tls-ca or its name by --tls-server-name, or leave out "
         "--tls-verify"},
        {"wrong version number", "the target answers without TLS; give the scheme without it"},
        {"packet length too long", "the target answers without TLS; give the scheme without it"},
        {"certificate required", kNoCertificate},
        {"bad certificate", kNoCertificate},
        {"internal error", "see the log of the target, which may do no more of them at once"},
        {"handshake failure", "see the log of the target, which may have no TLS, or do no more"},
        {"protocol version", "the target has none of TLS 1.2 and 1.3"},
    };
    for (const auto& row : kRemedies) {
        if (reason.find(row.words) != reason.npos) return row.remedy;
    }
    return "see the log of the target";
}

}  // namespace

void Crowd::begin_tls(Index index) {
    const Target& target = target_of(index);
    TlsSessions& kept = tls_sessions_[global(index) % options_.targets.size()];
    const bool resumes = options_.tls_resume > 0 && random_.below(100) < options_.tls_resume;
    SSL_SESSION* const session = resumes ? kept.take() : nullptr;
    const std::string& name =
        options_.tls_server_name.empty() ? target.server : options_.tls_server_name;
    TlsSessions* const keeps = options_.tls_resume > 0 ? &kept : nullptr;
    clients_[index].tls_began = io_.clock();
    const bool begun = tls_.begin_client(
        index, {.context = *plan_.tls, .server = name, .resumes = session, .keeps = keeps});
    free_tls_session(session);
    if (!begun) {
        const std::string reason(tls_.reason().empty() ? "out of memory" : tls_.reason());
        note_tls_failure(reason);
        return failed(index, "TLS: " + reason + " for a handshake; lower --tls-handshakes");
    }
    if (session != nullptr) bump(counts_.tls_offered);
    if (!queue_records(index)) return;
    flush(index);
}

void Crowd::read_records(Index index, std::span<uint8_t> records) {
    const bool held = hold_records(index, records);
    const TlsConnections::Read read = tls_.read(index, records);
    const std::string why_failed(tls_.reason());  // the next call forgets it
    if (!held || (!read.rest.empty() && !tls_.hold(index, 0, read.rest)))
        return ended_by_server(index, ENOMEM);
    if (!queue_records(index)) return;
    decoding_ = index;
    if (read.opened) on_tls_opened(index);
    if (!read.plain.empty() && table_[index].stage != pulse::Stage::closed)
        take(index, read.plain);
    decoding_ = kNoIndex;
    if (table_[index].stage == pulse::Stage::closed) return;
    if (read.failed) return fail_tls(index, why_failed);
    flush(index);
    if (read.ended && table_[index].stage != pulse::Stage::closed) ended_by_server(index, 0);
}

// Of a frozen client's record that is cut the part that came first is held. False: no memory.
bool Crowd::hold_records(Index index, std::span<uint8_t>& records) {
    for (size_t wanted = 0; !records.empty() && (wanted = tls_.wanted_bytes(index)) > 0;) {
        const std::span<uint8_t> piece = records.first(std::min(wanted, records.size()));
        if (!tls_.hold(index, 0, piece)) return false;
        records = records.subspan(piece.size());
    }
    return true;
}

void Crowd::on_tls_opened(Index index) {
    bump(tls_.is_resumed(index) ? counts_.tls_resumed : counts_.tls_full);
    record(Timed::tls_handshake, io_.now() - clients_[index].tls_began);
    ++tls_suites_[tls_.suite(index)];
    greet(index);
}

// Nothing can be read or sealed any more: what waits is dropped, and what TLS has to say is sent.
void Crowd::fail_tls(Index index, const std::string& reason) {
    note_tls_failure(reason);
    outboxes_.drop_queue(table_[index]);
    flush(index);
    tls_.release(index);
    const std::string why = "TLS with " + target_of(index).text + ": " + reason + "; " +
                            std::string(remedy_of(reason));
    switch (clients_[index].stage) {
        case Stage::greeting:  // its alert is not to be lost with a reset
            return failed(index, why, CloseMode::orderly);
        case Stage::misbehaving:
            return ended_by_server(index, EPROTO);
        default:
            return broke_the_protocol(index, why);
    }
}

// What waits becomes records, which are sent. While plaintext is being read it waits on, since
// sealing may overwrite that.
void Crowd::flush_records(Index index) {
    if (index == decoding_) return;
    Connection& connection = table_[index];
    const std::span<const uint8_t> queue = outboxes_.queue(connection);
    if (!queue.empty() && !tls_.is_handshaking(index)) {
        const bool sealed = tls_.seal(index, queue);
        outboxes_.end_queue(connection);
        if (!sealed) return ended_by_server(index, EPROTO);
        if (!queue_records(index)) return;
    }
    if (outboxes_.record_bytes(connection) == 0) return;
    const std::span<const uint8_t> bytes = outboxes_.begin_flight_of_records(connection);
    bump(counts_.bytes_sent, bytes.size());
    note_speech(index);
    if (io_.send(index, bytes)) outboxes_.end_flight(connection);
}

// What TLS has made goes out with the next send. False: memory ran out, and it was closed.
bool Crowd::queue_records(Index index) {
    const std::span<const uint8_t> records = tls_.output();
    if (records.empty()) return true;
    uint8_t* const place = outboxes_.claim_records(table_[index], index, records.size());
    if (place == nullptr) {
        ended_by_server(index, ENOMEM);
        return false;
    }
    std::ranges::copy(records, place);
    return true;
}

// close_notify, where nothing is on its way before it. Its absence ends nothing otherwise: both
// sides know by their protocol what is whole.
void Crowd::say_end_of_tls(Index index) {
    Connection& connection = table_[index];
    if (!tls_.has(index) || index == decoding_ || outboxes_.in_flight(connection)) return;
    tls_.say_end(index);
    if (tls_.output().empty()) return;
    outboxes_.drop_queue(connection);
    uint8_t* const place = outboxes_.claim_records(connection, index, tls_.output().size());
    if (place == nullptr) return;
    std::ranges::copy(tls_.output(), place);
    const std::span<const uint8_t> bytes = outboxes_.begin_flight_of_records(connection);
    bump(counts_.bytes_sent, bytes.size());
    if (io_.send(index, bytes)) outboxes_.end_flight(connection);
}

void Crowd::note_tls_failure(std::string_view why) {
    bump(counts_.tls_failed);
    std::string kind = printable(why);
    if (tls_failures_.size() >= kFailureKindsMax && !tls_failures_.contains(kind)) kind = "others";
    ++tls_failures_[std::move(kind)];
}

}  // namespace pulse::load
