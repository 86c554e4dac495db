// A template for each reason, and the evidence behind it.
#include "core/sessions/explain.h"

#include <algorithm>
#include <utility>

namespace pulse {
namespace {

// Text that grows, with the kinds of numbers that sentences have.
class Words {
  public:
    Words& operator<<(std::string_view words) {
        text_.append(words);
        return *this;
    }
    Words& operator<<(uint64_t number) {
        text_.append(std::to_string(number));
        return *this;
    }
    // "0.350 s", and from 10 s on "92.4 s".
    Words& time(Nanos duration) {
        const auto ms = static_cast<uint64_t>(std::max<Nanos>(0, duration) / kMillisecond);
        const std::string part = std::to_string(1'000 + ms % 1'000);
        return *this << ms / 1'000 << "." << std::string_view(part).substr(1, ms < 10'000 ? 3 : 1)
                     << " s";
    }
    // "0.12 ms": a round trip.
    Words& short_time(Nanos duration) {
        const auto us = static_cast<uint64_t>(std::max<Nanos>(0, duration) / 1'000);
        const std::string part = std::to_string(1'000 + us % 1'000);
        return *this << us / 1'000 << "." << std::string_view(part).substr(1, 2) << " ms";
    }
    // "1 probe was", "2 probes were".
    Words& count(uint64_t number, std::string_view one, std::string_view many) {
        return *this << number << " " << (number == 1 ? one : many);
    }
    std::string take() { return std::move(text_); }

  private:
    std::string text_;
};

// Until this a sent byte may be unacknowledged without meaning anything: the kernel's first
// retransmission comes no sooner (TCP_RTO_MIN).
constexpr Nanos kUnackedMeansNothing = 200 * kMillisecond;

// ------------------------------------------------------------------------------------- evidence
void add_transport_evidence(Words& words, const Evidence& facts) {
    const TransportFacts& seen = facts.transport;
    switch (peer_state(facts)) {
        case PeerState::gone:
            words << " The kernel shows that ";
            words.count(seen.unacked_bytes, "byte was", "bytes were") << " not acknowledged";
            if (seen.timeouts > 0) {
                words << " and were sent again ";
                words.count(seen.timeouts, "time", "times") << " in vain";
            }
            words << ", the last acknowledgement ";
            words.time(seen.since_acked) << " before: the peer or its network is gone.";
            return;
        case PeerState::stuck:
            words << " The kernel shows that ";
            words.count(seen.unsent_bytes, "byte waits", "bytes wait")
                << " for room at the peer, whose host answers: its program does not read.";
            return;
        case PeerState::silent:
            words << " The kernel shows that the peer's host acknowledged all that was sent, "
                     "the last of it ";
            words.time(seen.since_acked)
                << " before: the host is there, and its program says nothing.";
            return;
        case PeerState::unknown:
            words << (seen.known ? " Nothing was sent since that its host had to acknowledge: "
                                   "whether the peer is gone is not known."
                                 : " The kernel could not be asked about it.");
            return;
    }
}

// Bytes that came later than the last proof of life, and proved nothing.
void add_unproven_bytes(Words& words, const Evidence& facts) {
    const TransportFacts& seen = facts.transport;
    const Nanos silent = facts.at - facts.heard_at;
    if (!seen.known || seen.received_bytes == 0 || seen.since_received + kSecond > silent) return;
    words << " Bytes came ";
    words.time(seen.since_received)
        << (facts.liveness == Liveness::roundtrip ? " before, and none of them answered a probe."
                                                  : " before, and made no complete message.");
}

void add_silence(Words& words, const Evidence& facts) {
    words << "nothing that proves life came for ";
    words.time(facts.at - facts.heard_at);
    if (facts.reason == CloseReason::idle_timeout && facts.ends_by_misses()) {
        words << ", and " << uint64_t{facts.misses} << " probes had no answer in time "
              << "(--suspect-misses), the last one ";
        words.time(facts.at - facts.probed_at) << " before; its timeout is ";
        words.time(facts.timeout);
        return;
    }
    words << ", and its timeout is ";
    words.time(facts.timeout);
    if (!facts.probes_on) {
        words << "; probes are off";
    } else if (facts.probes_sent == 0) {
        words << "; no probe was due";
    } else {
        words << "; ";
        words.count(facts.probes_sent, "probe was", "probes were") << " sent since, the last one ";
        words.time(facts.at - facts.probed_at) << " before";
    }
}

// False: its end was decided while the ledger was off.
bool was_seen(const Evidence& facts) { return is_live(facts.stage); }

bool has_silence(CloseReason reason) {
    return reason == CloseReason::idle_timeout || reason == CloseReason::slow_upload ||
           reason == CloseReason::idle_read || reason == CloseReason::idle_both;
}

std::string_view unfinished_greeting(const Evidence& facts) {
    if (facts.transport.known && facts.transport.received_bytes == 0) return "it sent nothing";
    switch (facts.stage) {
        case Stage::proxy:
            return "its PROXY header was not whole";
        case Stage::tls:
            return "its TLS handshake was not over";
        case Stage::http:
            return "its HTTP request was not whole";
        case Stage::detect:
            return "what it sent was not enough to tell its protocol";
        default:
            return "its first message was not whole";
    }
}

// ---------------------------------------------------------------------------------------- causes
void add_error(Words& words, const Evidence& facts, const ConnectionNames& names) {
    if (facts.error == 0) return;
    words << " (" << (names.error.empty() ? "error" : names.error) << ", errno "
          << static_cast<uint64_t>(facts.error) << ")";
}

void add_lost_network(Words& words, const Evidence& facts, const ConnectionNames& names) {
    words << describe(facts.reason).text;
    add_error(words, facts, names);
    const TransportFacts& seen = facts.transport;
    if (!seen.known) return;
    words << "; ";
    words.count(seen.unacked_bytes + seen.unsent_bytes, "byte", "bytes") << " waited, ";
    words.count(seen.retransmitted_segments, "segment was", "segments were")
        << " sent again, and the last acknowledgement had come ";
    words.time(seen.since_acked) << " before";
}

void add_slow_reader(Words& words, const Evidence& facts) {
    words << "it reads too slowly: ";
    words.count(facts.queued_bytes, "byte", "bytes") << " waited for it here";
    if (facts.unfinished_bytes > 0) {
        words << " beside ";
        words.count(facts.unfinished_bytes, "byte", "bytes") << " of a message of its own";
    }
    if (!facts.transport.known) return;
    words << ", and ";
    words.count(facts.transport.unacked_bytes + facts.transport.unsent_bytes, "byte", "bytes")
        << " in the kernel";
}

// What else is known, without the full stop that sentences for peers have.
std::string_view detail_of(const Evidence& facts) {
    const std::string_view detail = facts.detail.view();
    return detail.substr(0, detail.ends_with('.') ? detail.size() - 1 : detail.size());
}

// One sentence without its end.
void add_cause(Words& words, const Evidence& facts, const ConnectionNames& names) {
    if (!was_seen(facts)) {
        words << describe(facts.reason).text << ", and nothing more is remembered of it";
        return;
    }
    switch (facts.reason) {
        case CloseReason::peer_goodbye:
            words << "the peer said goodbye";
            if (facts.peer_code != 0) words << " with code " << uint64_t{facts.peer_code};
            return;
        case CloseReason::peer_closed:
            words << "the peer ended the stream without a goodbye";
            return;
        case CloseReason::network_timeout:
        case CloseReason::network_unreachable:
            return add_lost_network(words, facts, names);
        case CloseReason::idle_timeout:
            return add_silence(words, facts);
        case CloseReason::slow_upload:
            words << "a message of which ";
            words.count(facts.unfinished_bytes, "byte", "bytes")
                << " had come stopped or came too slowly: ";
            return add_silence(words, facts);
        case CloseReason::handshake_timeout:
            words << unfinished_greeting(facts) << " within ";
            words.time(facts.timeout);
            return;
        case CloseReason::slow_reader:
            return add_slow_reader(words, facts);
        case CloseReason::too_many_offences:
            words << "it went on sending messages that mean nothing here, and was told so";
            return;
        case CloseReason::kicked:
            words << "an operator closed it";
            if (!facts.detail.empty()) words << ": " << detail_of(facts);
            return;
        case CloseReason::going_away:
            words << "the server was told to drain";
            return;
        case CloseReason::hard_stop:
            words << "the server stopped while it was open";
            return;
        case CloseReason::out_of_memory:
            words << "the buffers of its reactor were short";
            if (!facts.detail.empty()) words << ": " << detail_of(facts);
            return;
        default:
            break;
    }
    // Those whose words are enough, and those that name a fault.
    const CloseReasonInfo& info = describe(facts.reason);
    words << (info.text == info.name && !facts.detail.empty() ? detail_of(facts) : info.text);
    if (info.text != info.name && !facts.detail.empty()) words << ": " << detail_of(facts);
    add_error(words, facts, names);
}

// "idle_timeout after 92.480 s"
void add_headline(Words& words, const Evidence& facts) {
    words << describe(facts.reason).name;
    if (facts.accepted_at == 0) return;
    words << " after ";
    words.time((facts.ended_at != 0 ? facts.ended_at : facts.at) - facts.accepted_at);
}

// ------------------------------------------------------------------------------------ the rest
void add_traffic(Words& words, const Evidence& facts) {
    const TransportFacts& seen = facts.transport;
    if (!seen.known) return;
    words << " Its host had sent ";
    words.count(seen.received_bytes, "byte", "bytes");
    if (seen.received_bytes > 0) {
        words << " (the last ";
        words.time(seen.since_received) << " before)";
    }
    words << " and acknowledged " << seen.acked_bytes << ", round trip ";
    words.short_time(seen.round_trip);
    if (seen.retransmitted_segments > 0) {
        words << ", ";
        words.count(seen.retransmitted_segments, "segment", "segments") << " sent again";
    }
    words << ".";
}

void add_ending(Words& words, const Evidence& facts) {
    if (facts.said_goodbye) {
        words << (facts.goodbye_taken            ? " The kernel took the goodbye"
                  : facts.end == SocketEnd::none ? " The goodbye waits to be sent"
                                                 : " The goodbye was queued and could not be sent");
    } else {
        words << " No goodbye was due";
    }
    switch (facts.end) {
        case SocketEnd::none:
            words << ", and the peer has not ended the stream yet.";
            return;
        case SocketEnd::orderly:
            words << (facts.peer_ended ? ", and both ends closed in order."
                                       : ", and the socket was closed in order.");
            return;
        case SocketEnd::reset:
            break;
    }
    words << (facts.peer_ended ? ", and the socket was reset behind the peer's end."
              : facts.goodbye_taken
                  ? ", the peer did not answer it in time, and the socket was reset."
                  : ", and the socket was reset.");
}

void add_who(Words& words, const ConnectionNames& names) {
    words << names.name << " (" << names.protocol;
    if (!names.peer.empty()) words << " from " << names.peer;
    if (!names.listener.empty()) words << " on " << names.listener;
    words << ")";
}

// ------------------------------------------------------------------------------------- one open
void add_open_state(Words& words, const Evidence& facts) {
    if (facts.greeting) {
        words << " "
              << (facts.stage == Stage::proxy  ? "Its PROXY header"
                  : facts.stage == Stage::tls  ? "The end of its TLS handshake"
                  : facts.stage == Stage::http ? "Its HTTP request"
                                               : "Its first message")
              << " is awaited: it is closed as handshake_timeout in ";
        words.time(facts.deadline - facts.at) << " otherwise.";
        return;
    }
    words << (facts.heard_nothing ? " Nothing has proved that it lives yet, for "
                                  : " It last proved that it lives ");
    words.time(facts.at - facts.heard_at) << (facts.heard_nothing ? "." : " ago.");
    if (facts.probes_sent > 0) {
        words << " ";
        words.count(facts.probes_sent, "probe was", "probes were") << " sent since.";
    }
    if (facts.held_off) {
        words << " Bytes of it wait to be decoded, and it is not judged meanwhile.";
        return;
    }
    words << " If it stays silent it is ";
    if (facts.next_probe_at != 0) {
        words << "probed in ";
        words.time(facts.next_probe_at - facts.at) << " and ";
    }
    words << "evicted as " << (facts.unfinished_bytes > 0 ? "slow_upload" : "idle_timeout")
          << " in ";
    words.time(facts.deadline - facts.at) << ".";
    if (facts.idle_reason == CloseReason::none) return;
    words << " If nothing is "
          << (facts.idle_reason == CloseReason::idle_read    ? "read from it"
              : facts.idle_reason == CloseReason::idle_write ? "sent to it"
                                                             : "read from it or sent to it")
          << " it is closed as " << describe(facts.idle_reason).name << " in ";
    words.time(facts.idle_closes_in_ms * kMillisecond) << ".";
}

void add_open_memory(Words& words, const Evidence& facts) {
    if (facts.unfinished_bytes > 0) {
        words << " ";
        words.count(facts.unfinished_bytes, "byte", "bytes")
            << " of an unfinished message are held.";
    }
    if (facts.queued_bytes > 0) {
        words << " ";
        words.count(facts.queued_bytes, "byte waits", "bytes wait")
            << " to be sent: a peer that does not read is closed as slow_reader.";
    }
}

}  // namespace

PeerState peer_state(const Evidence& facts) {
    const TransportFacts& seen = facts.transport;
    if (!seen.known) return PeerState::unknown;
    if (seen.timeouts > 0) return PeerState::gone;
    if (seen.unacked_bytes > 0 && seen.since_acked > kUnackedMeansNothing &&
        seen.since_sent > kUnackedMeansNothing) {
        return PeerState::gone;
    }
    if (seen.unsent_bytes > 0) return PeerState::stuck;
    // What was sent within the silence came to its host.
    const bool sent_since = facts.probes_sent > 0 || seen.since_sent < facts.at - facts.heard_at;
    if (sent_since && seen.acked_bytes > 0) return PeerState::silent;
    return PeerState::unknown;
}

std::string explain_cause(const Evidence& facts, const ConnectionNames& names) {
    Words words;
    add_headline(words, facts);
    words << ": ";
    add_cause(words, facts, names);
    words << ".";
    return words.take();
}

std::string explain_end(const Evidence& facts, const ConnectionNames& names) {
    Words words;
    words << explain_cause(facts, names);
    if (!was_seen(facts)) return words.take();
    if (has_silence(facts.reason)) {
        add_transport_evidence(words, facts);
        add_unproven_bytes(words, facts);
    }
    add_traffic(words, facts);
    add_ending(words, facts);
    return words.take();
}

std::string explain(const Evidence& facts, const ConnectionNames& names) {
    Words words;
    add_who(words, names);
    if (facts.closing()) {
        words << (facts.end == SocketEnd::none ? " is closing as " : " was closed as ")
              << explain_end(facts, names);
        words << " Ended by: " << name_of(describe(facts.reason).party) << ".";
        const std::string_view advice = describe(facts.reason).advice;
        if (!advice.empty()) words << " What to do: " << advice << ".";
        return words.take();
    }
    words << " is open";
    if (facts.accepted_at != 0) {
        words << " for ";
        words.time(facts.at - facts.accepted_at);
    }
    words << ".";
    add_open_state(words, facts);
    add_open_memory(words, facts);
    if (facts.transport.known && facts.transport.awaits_peer())
        add_transport_evidence(words, facts);
    add_traffic(words, facts);
    return words.take();
}

}  // namespace pulse
