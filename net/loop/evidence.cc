// What is known of a connection, for the ledger, the debug log and those that ask (Connections).
#include <algorithm>
#include <cstring>
#include <string>

#include "core/sessions/explain.h"
#include "net/loop/connections.h"
#include "net/loop/public_name.h"
#include "net/protocols/protocol.h"

namespace pulse {

// The silence of a connection as its profile judges it (core/heartbeat_policy.h).
void Connections::fill_silence(Evidence& facts, Index index) const {
    const Connection& connection = table_[index];
    const HeartbeatConfig& heartbeat = heartbeat_of(connection);
    const TickClock clock = config_.clock;
    const auto span = [&](uint32_t ticks) { return Nanos{ticks} << clock.shift; };
    const Tick now = clock.down(facts.at);
    const AnswerWait wait = answer_wait(index);
    const detail::Silence silence(connection.heard, index, now, heartbeat, wait);
    facts.heard_nothing = (connection.heard & kHeardFirst) != 0;
    facts.liveness = heartbeat.liveness;
    facts.probes_on = heartbeat.probe;
    facts.probes_sent = static_cast<uint8_t>(silence.sent);
    facts.heard_at = clock.begins(silence.heard_tick);
    facts.interval = span(heartbeat.interval_ticks);
    facts.timeout = span(heartbeat.timeout_ticks);
    if (silence.sent > 0)
        facts.probed_at = clock.begins(silence.probed_at(heartbeat, wait));
    if (silence.probes_left) facts.next_probe_at = clock.begins(silence.probe_at);
    facts.misses = static_cast<uint8_t>(silence.counts_misses ? heartbeat.misses : 0);
    facts.deadline = clock.begins(silence.evict_at);
}

Evidence Connections::evidence(Index index) const {
    const Connection& connection = table_[index];
    const ConnectionId id = table_.id(index);
    if (connection.stage >= Stage::closing) {
        if (const Evidence* ending = history_.ending(id)) return *ending;
    }
    Evidence facts;
    facts.id = id;
    facts.reactor = config_.number;
    facts.at = io_.clock();
    facts.listener = connection.listener;
    facts.protocol = connection.protocol;
    facts.stage = connection.stage;
    facts.reason = connection.close_reason;
    if (!is_live(connection.stage)) return facts;
    const SessionBook::Entry* const login = logins_.entry_of(connection);
    facts.accepted_at = accepted_at(index);
    facts.user = login != nullptr ? login->number() : 0;
    facts.greeting = is_greeting(connection);
    facts.held_off = io_.is_held_off(index);
    fill_silence(facts, index);
    fill_idle(facts, index);
    facts.unfinished_bytes = incoming_bytes(index);
    facts.queued_bytes = outboxes_.bytes(connection);
    facts.transport = io_.transport_facts(index);
    facts.peer = history_.address(index);
    facts.proxied = facts.peer.present();
    if (!facts.proxied) facts.peer = facts.transport.peer;
    return facts;
}

// Its end was decided, and nothing of it has changed yet. Asks the kernel, which costs
// 0.75 us of CPU (net/README.md), and only where it is remembered.
void Connections::note_cause(Index index, const CloseCause& cause) {
    if (!history_.on()) return;
    Evidence facts = evidence(index);
    facts.reason = cause.reason;
    facts.detail = CutText<88>(cause.note.empty() ? cause.detail : cause.note);
    facts.peer_code = cause.peer_code;
    facts.error = cause.error;
    history_.end(facts);
}

// Its socket is about to be closed.
void Connections::note_end(Index index, CloseMode mode) {
    Evidence* const facts = history_.ending(table_.id(index));
    if (facts == nullptr) return;
    const uint8_t flags = at(index).flags;
    facts->goodbye_taken = facts->said_goodbye && (flags & kFinished) != 0;
    facts->peer_ended = (flags & kPeerEnded) != 0;
    facts->end = mode == CloseMode::orderly ? SocketEnd::orderly : SocketEnd::reset;
    facts->ended_at = io_.clock();
}

std::string Connections::explain(const Evidence& facts, bool whole) const {
    const FixedText<64> name = public_name(facts.reactor, facts.id);
    const bool told = facts.protocol != kUndetected;
    const std::string peer = facts.peer.present() ? socket_address(facts.peer).text() : "";
    const ConnectionNames names{
        .name = name.view(),
        .peer = peer,
        .protocol = told ? kProtocols[facts.protocol]->title : "no protocol yet",
        .listener = config_.options->listen[facts.listener].text,
        .error = facts.error != 0 ? std::strerror(facts.error) : ""};
    return whole ? pulse::explain(facts, names) : explain_end(facts, names);
}

}  // namespace pulse
