// What is spoken: one row a protocol, which is a framing and a dialect in it, and all that the loop
// and the flags know of it. A protocol is a file of this folder, which defines its row, and a line
// in protocols.def; schemes of listeners, --help, detection and refusals follow.
//
//   row                framing     dialect
//   undetected         -           -        auto://, until the first bytes have told
//   websocket          WebSocket   none     ws://; until an object of ours or a subprotocol
//   websocket_json     WebSocket   JSON     text messages
//   websocket_binary   WebSocket   binary   binary frames in binary messages
//   jsonl              lines       JSON     jsonl://
//   binary             stream      binary   tcp://
//
// MQTT will be a framing and a dialect of its own. TLS is not a row but a stage in front of any of
// them (core/connection.h), as the PROXY header is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/close_reason.h"
#include "core/fixed_text.h"
#include "core/limits.h"
#include "net/protocols/probe_value.h"
#include "proto/detect.h"
#include "proto/handshake.h"

namespace pulse {

class Conversation;

enum class Framing : uint8_t { none, stream, lines, websocket };
enum class Dialect : uint8_t { none, json, binary };

// What a message of the application is sent as; words are the operator's (Protocol::data).
enum class MessageForm : uint8_t { text, binary, frame, words };

// What a peer is told that is refused. A whole HTTP answer fits.
using RefusalMessage = FixedText<sizeof(HttpBytes::chars)>;

// The object that welcomes a peer: some 400 bytes, and a user and a device, whose bytes may all be
// escaped, six for each.
using WelcomeText = FixedText<512 + 6 * (kUserBytesMax + kDeviceBytesMax)>;

// Why a connection ends, as the protocols say it.
struct Goodbye {
    CloseReason reason;
    std::string_view words{};  // the reason's text and its detail, for people
    uint32_t retry_after_ms = 0;
    std::string_view move_to{};  // a URI of another server, to which the peer is to go
};

// Functions that are nullptr have nothing to do; receive, refuse and reject are always there, and
// resume where keep_message() is called. Those of a conversation write into its next send, keep
// nothing besides Connection::codec, and do not allocate.
struct Protocol {
    std::string_view name;   // its line in protocols.def
    std::string_view title;  // for people
    std::string_view
        scheme{};  // of listeners that speak it and nothing else; empty: there are none
    Framing framing = Framing::none;
    Dialect dialect = Dialect::none;
    bool dialect_is_open =
        false;  // a subprotocol, or what the peer sends, decides it (with_dialect)

    // ---- detection
    // None may be the beginning of another protocol's, but for a longer one that wins.
    std::span<const Prefix> prefixes{};
    std::string_view prefix_name{};  // what they are, in logs
    std::string_view only_this{};    // what its listeners answer to peers of other protocols
    bool greets_at_once = false;     // the peer's handshake is due from the accept on

    // ---- bytes of the peer: handshake() in Stage::http, if there is one, and receive() in
    // Stage::open. Both report how it went with fail(), begin_close() and the like.
    void (*handshake)(Conversation& conversation, std::span<uint8_t> bytes) = nullptr;
    void (*receive)(Conversation& conversation, std::span<uint8_t> bytes) = nullptr;
    // What was left of a message (Conversation::keep_message).
    void (*resume)(Conversation& conversation, std::span<uint8_t> message) = nullptr;

    // ---- what the server says first. Pongs, echoes and the welcomes of hellos that name no user
    // are receive()'s.
    // The welcome of one that does, with its sequence: it comes when the login is answered.
    void (*welcome)(Conversation& conversation, uint32_t sequence,
                    std::string_view object) = nullptr;
    // A probe; with a value, one that its answer must bring back.
    void (*ping)(Conversation& conversation, const ProbeValue* value) = nullptr;
    void (*interval)(Conversation& conversation, uint32_t interval_ms, uint32_t timeout_ms,
                     uint32_t answer_every) = nullptr;
    // A text of the operator's, which is UTF-8, as application data.
    void (*data)(Conversation& conversation, std::string_view text) = nullptr;
    // A message of the application, as it was sent before, of another form than words.
    void (*again)(Conversation& conversation, MessageForm form, uint32_t sequence,
                  std::span<const uint8_t> bytes) = nullptr;
    // The token of the peer ends in so long.
    void (*expiring)(Conversation& conversation, uint32_t in_ms) = nullptr;
    void (*error)(Conversation& conversation, uint16_t code, std::string_view words) = nullptr;
    void (*goodbye)(Conversation& conversation, const Goodbye& goodbye) = nullptr;
    // The goodbye to a peer that is to go to another server, and is served until it has gone: its
    // end follows. nullptr: a goodbye is the end.
    void (*move)(Conversation& conversation, const Goodbye& goodbye) = nullptr;
    bool goodbye_says_all = false;  // its goodbye has the detail, so that no error comes before it

    // ---- what is said to a peer without a conversation: to one that is not accepted, by a
    // listener of this protocol; and to one that speaks this protocol where it is not spoken.
    RefusalMessage (*refuse)(CloseReason reason, uint32_t retry_after_ms) = nullptr;
    RefusalMessage (*reject)(uint16_t code, std::string_view words) = nullptr;
};

#define X(name) extern const Protocol name##_protocol;
#include "net/protocols/protocols.def"
#undef X

// By Connection::protocol. Only protocols.cc knows how many there are, so that nothing else is
// compiled anew for one more.
extern const Protocol* const kProtocols[];
std::span<const Protocol* const> all_protocols();
inline constexpr uint8_t kUndetected = 0;

// The row of another dialect in the same framing, or `protocol` itself where that is not open.
uint8_t with_dialect(uint8_t protocol, Dialect dialect);

// The row of listeners with this scheme.
std::optional<uint8_t> find_scheme(std::string_view scheme);
// The same of one that has TLS below it: "tls+" and a scheme, or wss, as RFC 6455 calls tls+ws.
std::optional<uint8_t> find_tls_scheme(std::string_view scheme);

// "auto://, ws://, jsonl:// or tcp://", and what each of them speaks, for --help.
std::string scheme_list();
std::string scheme_help();

}  // namespace pulse
