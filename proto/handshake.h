// The opening handshake of RFC 6455 section 4, both sides, and short answers to other HTTP.
//
// Server: feed serve_handshake what arrives until it says something other than `more`. The request
// may come a byte at a time: what its answer depends on is given to the sink's hold(), at most
// kBufferSmallBytes of it. Nothing is held afterwards.
//
//   status  when
//   101     an upgrade as RFC 6455 section 4.2.1 wants it
//   200     GET / without a word of WebSocket, and OPTIONS: says what this port is and what it
//           allows; GET /healthz, for balancers
//   400     malformed: request line, header line, bare CR or LF, folded line, Host, key, a body, a
//           Connection without `upgrade`, Sec-WebSocket-* lines that are no grammar or come twice
//   401     an upgrade with a token that is not right, where the policy judges tokens;
//           WWW-Authenticate says what is wrong with it (RFC 6750 section 3)
//   403     an Origin that is not in the allow-list (a request without one comes from no browser)
//   405     a method other than GET, HEAD and OPTIONS
//   429     an upgrade with a token whose address has given too many wrong ones
//   426     a GET that is not an upgrade, or a version other than 13; names the version we speak
//   431     the head is over kHandshakeBytesMax or has over kHandshakeFieldsMax lines, or what its
//           answer depends on (proto/kept_head.h) is over kHandshakeKeptBytesMax
//   505     HTTP that is neither 1.0 nor 1.1, or an upgrade over 1.0
//
// Empty lines before the request are passed over (RFC 9112 section 2.2), and its target may be in
// absolute form (section 3.2.2).
//
// Every answer but 101 has Connection: close, Content-Length and a text for people; to HEAD without
// it. Faults are found at the byte that proves them where they are of the head's form or size, and
// at the end of the head otherwise. Bytes after the head of an upgrade are frames; after any other
// they are dropped.
//
// Client: write_upgrade_request, then read_upgrade_answer with what arrives.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "core/auth_failure.h"
#include "core/check.h"
#include "core/limits.h"
#include "core/trace.h"
#include "proto/codec.h"
#include "proto/deflate.h"
#include "proto/kept_head.h"
#include "proto/limits.h"

namespace pulse {

enum class Subprotocol : uint8_t { none, json, binary };  // pulse.v1.json, pulse.v1.binary

// Whether the token of an upgrade is right. Called at most once for each, and last: with the right
// one it is upgraded. `count`: how many it has; with more than one none is right.
class TokenJudge {
  public:
    virtual AuthFailure judge(std::string_view token, uint32_t count) = 0;

  protected:
    ~TokenJudge() = default;
};

struct HandshakePolicy {
    // Origins that browsers may come from ("https://app.example"), in any case; empty: any.
    std::span<const std::string> origins{};
    bool deflate = false;  // agree to permessage-deflate where it is offered
    bool ready = true;     // what balancers are told that ask
    // nullptr: tokens are not looked at. Else that of `Authorization: Bearer TOKEN`, or of
    // `bearer.TOKEN` among the subprotocols, which is what a browser can send. Never of the URL,
    // which ends up in logs.
    TokenJudge* tokens = nullptr;
    bool reads_trace = false;  // the traceparent of an upgrade
};

// What one connection remembers of a head between reads. All zero is the initial state.
struct HandshakeState {
    uint16_t bytes = 0;     // of the head so far
    uint16_t lines = 0;     // ended so far, the request or status line being the first
    bool in_line = false;   // the current line is not empty
    bool after_cr = false;  // the last byte was a CR
};
static_assert(sizeof(HandshakeState) <= kCodecStateBytes);
static_assert(kHandshakeBytesMax < UINT16_MAX);

struct Handshake {
    enum class Step : uint8_t {
        more,      // the head is not whole
        upgraded,  // frames follow
        ended,     // server: an answer was written, close after it. Client: the server refused
    };
    Step step = Step::more;
    Subprotocol subprotocol = Subprotocol::none;
    uint16_t status = 0;  // of the answer written or received; 0: there is none
    DeflateAgreement deflate;
    TraceContext trace{};       // of an upgrade that has one, where the policy reads it
    size_t consumed_bytes = 0;  // of the input; what follows an upgrade is frames
    // Why the connection ends, where it does: http_answered (200, and 426 to what never meant to
    // upgrade), unauthorized (401, 403, 429), out_of_memory, protocol_error (all others).
    Decoded outcome;
};

// ---------------------------------------------------------------------------------------- the head
// Looks for the empty line that ends a head, and refuses what no head may hold.
struct HeadScan {
    enum class Step : uint8_t { more, whole, refused };
    Step step = Step::more;
    size_t bytes = 0;     // whole: of the input that belong to the head; refused: before the fault
    uint16_t status = 0;  // refused: 400 or 431
    std::string_view detail;
};
HeadScan scan_head(HandshakeState& state, std::span<const uint8_t> input);

// An answer, whole; made on the stack because one never is longer.
struct HttpBytes {
    std::array<char, 1024> chars;
    size_t count = 0;
    void append(std::string_view text);
    void append_number(uint64_t number);
};

// The server's answer to a whole head (with its empty line), and what came of it.
struct HandshakeAnswer {
    Handshake result;
    HttpBytes bytes;
};
void answer_request(std::string_view head, const HandshakePolicy& policy, HandshakeAnswer& answer);
// The answer of `status`, closing, with a text for people. Also 408 and 503, for a session that
// gives up on a handshake: past its deadline, or at a limit (with Retry-After, unless 0).
void write_http_answer(HttpBytes& bytes, uint16_t status, std::string_view detail,
                       bool head_only = false, uint32_t retry_after_s = 0);
// 400, 401 or 429, to a token that is not right. Requires: not none.
void write_token_refusal(HttpBytes& bytes, AuthFailure failure);

// Where the parts of a head are put together: in the input if it lies there whole, else in what is
// held. Empty: no memory to hold it.
template <CodecSink S>
std::string_view assemble_head(std::span<uint8_t> piece, size_t held_before, S& sink) {
    if (held_before == 0) return {reinterpret_cast<const char*>(piece.data()), piece.size()};
    if (!sink.hold(piece)) return {};
    const std::span<uint8_t> held = sink.held();
    return {reinterpret_cast<const char*>(held.data()), held.size()};
}

// What is held becomes the shortened head. False: there is no memory for it.
template <CodecSink S>
bool keep_head(const KeptHead& head, S& sink) {
    const size_t held_bytes = sink.held().size();
    if (head.held_bytes() < held_bytes) sink.keep_held(head.held_bytes());
    return head.kept().empty() || sink.hold(head.kept());
}

// Scans `input`, holds what is not whole, and calls judge(head) with a whole head,
// judge_refusal(scan) with one that may not stand. A client keeps the head as it is: whose client
// it is decides what it reads of the answer.
template <CodecSink S, class Judge, class JudgeRefusal>
Handshake take_head(HandshakeState& state, std::span<uint8_t> input, S& sink, Judge judge,
                    JudgeRefusal judge_refusal) {
    Handshake no_memory;
    no_memory.step = Handshake::Step::ended;
    no_memory.outcome = {CloseReason::out_of_memory, "no memory for a handshake"};
    const size_t held_before = state.bytes;
    const HeadScan scan = scan_head(state, input);
    if (scan.step == HeadScan::Step::more) return sink.hold(input) ? Handshake{} : no_memory;
    Handshake result;
    if (scan.step == HeadScan::Step::refused) {
        result = judge_refusal(scan);
    } else {
        const std::string_view head = assemble_head(input.first(scan.bytes), held_before, sink);
        if (head.empty()) return no_memory;
        result = judge(head);
    }
    if (held_before > 0) sink.keep_held(0);
    state = {};
    result.consumed_bytes = scan.bytes;
    return result;
}

// The same for a server, which keeps only what its answer depends on.
template <CodecSink S, class Judge, class JudgeRefusal>
Handshake take_request(HandshakeState& state, std::span<uint8_t> input, KeptFields fields, S& sink,
                       Judge judge, JudgeRefusal judge_refusal) {
    const size_t seen_before = state.bytes;
    HeadScan scan = scan_head(state, input);
    const bool more = scan.step == HeadScan::Step::more;
    const std::span<uint8_t> piece = more ? input : input.first(scan.bytes);
    std::string_view head{reinterpret_cast<const char*>(piece.data()), piece.size()};
    if (more || seen_before > 0 || state.bytes > kHandshakeKeptBytesMax) {
        const KeptHead shortened(sink.held(), piece, fields);
        if (shortened.too_big()) {
            scan.step = HeadScan::Step::refused;
            scan.status = 431;
            static_assert(kHandshakeKeptBytesMax == 4'000);
            scan.detail = "The lines that this port reads are over 4000 bytes.";
        } else if (more || seen_before > 0) {
            if (!keep_head(shortened, sink)) {
                Handshake no_memory;
                no_memory.step = Handshake::Step::ended;
                no_memory.outcome = {CloseReason::out_of_memory, "no memory for a handshake"};
                return no_memory;
            }
            const std::span<uint8_t> held = sink.held();
            head = {reinterpret_cast<const char*>(held.data()), held.size()};
        }
    }
    if (scan.step == HeadScan::Step::more) return {};
    Handshake result = scan.step == HeadScan::Step::refused ? judge_refusal(scan) : judge(head);
    sink.keep_held(0);
    state = {};
    result.consumed_bytes = scan.bytes;
    return result;
}

// One call per read. The answer is appended to `out` when there is one.
template <CodecSink S, ByteSink B>
Handshake serve_handshake(HandshakeState& state, std::span<uint8_t> input,
                          const HandshakePolicy& policy, S& sink, B& out) {
    const auto send = [&](HandshakeAnswer& answer) {
        uint8_t* to = out.claim(answer.bytes.count);
        if (to == nullptr) {
            answer.result.step = Handshake::Step::ended;
            answer.result.outcome = {CloseReason::out_of_memory,
                                     "no room for the handshake's answer"};
            return answer.result;
        }
        std::memcpy(to, answer.bytes.chars.data(), answer.bytes.count);
        return answer.result;
    };
    HandshakeAnswer answer;
    return take_request(
        state, input, {policy.tokens != nullptr, policy.reads_trace}, sink,
        [&](std::string_view head) {
            answer_request(head, policy, answer);
            return send(answer);
        },
        [&](const HeadScan& scan) {
            answer.result.step = Handshake::Step::ended;
            answer.result.status = scan.status;
            answer.result.outcome = {CloseReason::protocol_error, scan.detail};
            write_http_answer(answer.bytes, scan.status, scan.detail);
            return send(answer);
        });
}

// -------------------------------------------------------------------------------------- the client
using HandshakeNonce = std::array<uint8_t, 16>;  // random, fresh for each connection

struct UpgradeRequest {
    std::string_view host;  // "127.0.0.1:9000"
    std::string_view path = "/";
    std::string_view origin{};  // empty: none
    Subprotocol subprotocol = Subprotocol::none;
    bool deflate = false;
    HandshakeNonce nonce{};
};

// False: no room, or host, path and origin are over 600 bytes together.
bool format_upgrade_request(const UpgradeRequest& request, HttpBytes& bytes);
template <ByteSink B>
bool write_upgrade_request(const UpgradeRequest& request, B& out) {
    HttpBytes bytes;
    if (!format_upgrade_request(request, bytes)) return false;
    uint8_t* to = out.claim(bytes.count);
    if (to == nullptr) return false;
    std::memcpy(to, bytes.chars.data(), bytes.count);
    return true;
}

// The judgement of a whole answer (section 4.1): 101, Upgrade, Connection, the right accept value,
// and nothing that was not asked for.
Handshake check_answer(std::string_view head, const UpgradeRequest& request);
template <CodecSink S>
Handshake read_upgrade_answer(HandshakeState& state, std::span<uint8_t> input,
                              const UpgradeRequest& request, S& sink) {
    return take_head(
        state, input, sink, [&](std::string_view head) { return check_answer(head, request); },
        [](const HeadScan& scan) {
            Handshake refused;
            refused.step = Handshake::Step::ended;
            refused.outcome = {CloseReason::protocol_error, scan.detail};
            return refused;
        });
}

// base64 of SHA-1 of the key and the protocol's GUID: 28 characters. Empty: OpenSSL had no memory.
struct AcceptValue {
    std::array<char, 29> chars{};
    std::string_view text() const { return {chars.data()}; }
};
AcceptValue accept_value(std::string_view key);

}  // namespace pulse
