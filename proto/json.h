// The JSON objects of the protocol (proto/PROTOCOL.md): what a peer's object says, and how ours
// are written. Of proto/ these know simdjson: json.cc, json_welcome.cc, jwt.cc and utf8.cc.
//
// Reading is one pass of simdjson On-Demand over padded, borrowed bytes: nothing is copied, and
// once the parser has grown to the longest message nothing is allocated. Everything read is a view:
// raw tokens into the input, strings into the parser's memory until its next parse.
//
// What an object must be: UTF-8, at most kJsonBytesMax bytes and kJsonDepthMax deep, one object
// and nothing behind it, `type` not twice, no key that its type reads twice or with a value of
// another kind (where no type says which keys those are, all count). What it may be besides: any
// other key, which is passed over.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "core/check.h"
#include "proto/codec.h"

namespace pulse {

enum class JsonKind : uint8_t {
    application,  // no object, or one whose type is not ours: the peers' own business
    ping,         // "ping" or "heartbeat"
    bare_ping,    // the text PING or ping, without any JSON
    pong,
    hello,
    data,
    goodbye,
    welcome,
    interval,
    error,
    expiring,
    ack,
};

// Which keys an object had; the fields below are empty or 0 where it had not.
struct JsonMessage {
    JsonKind kind = JsonKind::application;
    bool has_type = false;  // one that is ours, or another
    std::string_view seq;   // raw: a number or a string with its quotes, given back as it came
    std::string_view ts;    // raw, likewise
    std::string_view user;
    std::string_view device;
    std::string_view token;
    std::string_view profile;
    uint32_t labels = 0;  // hello: how many, each a short string by a name of its own
    // hello: "region=eu ring=canary", by name; of a name or value a byte that is a space, '=', '%'
    // or a control character is written %20. The parser's until its next parse.
    std::string_view labels_text;
    std::string_view traceparent;  // hello: as it came (proto/traceparent.h)
    std::string_view reason;       // goodbye
    std::string_view move_to{};    // goodbye
    std::string_view message;      // error
    std::string_view conn;         // welcome
    // hello: it wants a session that can be resumed; the one that it had, if it names one (else
    // data() is nullptr), and up to where it has seen its messages. welcome: it can be resumed.
    bool resume = false;
    std::string_view resume_token;
    uint64_t resume_last_seq = 0;
    bool probe = false;  // hello: it is a side connection
    // hello, welcome: it has `nat`, and which silences that says were borne and were not; 0: none.
    bool nat = false;
    uint32_t nat_kept_ms = 0;
    uint32_t nat_lost_ms = 0;
    uint64_t received = 0;         // ack
    uint32_t interval_ms = 0;      // welcome, interval
    uint32_t timeout_ms = 0;
    uint32_t answer_every = 0;    // hello, welcome, interval: 1 to kAnswerEveryMax
    uint32_t retry_after_ms = 0;  // goodbye
    uint32_t in_ms = 0;           // expiring
    uint16_t code = 0;            // goodbye, error
};

// What is wrong with an object. `what` is a literal; `key` is the one it is about (empty: the
// object as a whole); `offset` counts bytes from the start of the text, if it is known.
struct JsonFault {
    std::string_view what{};
    std::string_view key{};
    size_t offset = 0;
    bool ok() const { return what.empty(); }
};

// One a reactor.
class JsonParser {
  public:
    JsonParser();
    ~JsonParser();
    JsonParser(const JsonParser&) = delete;
    JsonParser& operator=(const JsonParser&) = delete;

    // `text` has kReceivePadBytes readable behind it. With a fault, `message` has a kind
    // where a type of ours was seen, and nothing else.
    JsonFault parse(std::span<const uint8_t> text, JsonMessage& message);

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

// --- writers -------------------------------------------------------------------------------------
namespace json {

// Bytes that any text takes between the quotes of a string, and writing it there. The result is
// JSON whatever the text holds: controls (C0, DEL, C1) are escaped, and U+FFFD stands for bytes
// that are not UTF-8.
size_t escaped_bytes(std::string_view text);
uint8_t* write_escaped(uint8_t* to, std::string_view text);

// One object from pieces on the stack: literals, numbers, raw tokens and strings to be escaped; its
// size is known before anything is written, so that it is claimed and written once.
class Object {
  public:
    Object& raw(std::string_view text) { return add(text, Form::raw, text.size()); }
    Object& string(std::string_view text) { return add(text, Form::string, escaped_bytes(text)); }
    // Its digits are kept here, three numbers of any size or more of smaller ones.
    Object& number(uint64_t value) {
        char* const begin = digits_.data() + digits_used_;
        const auto result = std::to_chars(begin, digits_.data() + digits_.size(), value);
        PULSE_ASSERT(result.ec == std::errc{});
        const auto bytes = static_cast<size_t>(result.ptr - begin);
        digits_used_ += bytes;
        return add({begin, bytes}, Form::number, bytes);
    }
    size_t bytes() const { return bytes_; }
    void write(uint8_t* to) const {
        const char* digits = digits_.data();
        for (size_t i = 0; i < pieces_used_; ++i) {
            const auto& [text, form] = pieces_[i];
            if (form == Form::string) {
                to = write_escaped(to, text);
                continue;
            }
            // A number's text points into the object that it was added to, and this may be a copy.
            std::memcpy(to, form == Form::number ? digits : text.data(), text.size());
            if (form == Form::number) digits += text.size();
            to += text.size();
        }
    }

  private:
    enum class Form : uint8_t { raw, string, number };
    struct Piece {
        std::string_view text;
        Form form;
    };
    Object& add(std::string_view text, Form form, size_t written_bytes) {
        if (text.empty()) return *this;
        PULSE_ASSERT(pieces_used_ < pieces_.size());
        pieces_[pieces_used_++] = {text, form};
        bytes_ += written_bytes;
        return *this;
    }
    std::array<Piece, 16> pieces_;
    std::array<char, 64> digits_;
    size_t pieces_used_ = 0;
    size_t digits_used_ = 0;
    size_t bytes_ = 0;
};

// {"type":"pong","seq":7,"ts":...} with what was given.
inline Object pong(const JsonMessage& ping) {
    Object object;
    object.raw(R"({"type":"pong")");
    if (!ping.seq.empty()) object.raw(R"(,"seq":)").raw(ping.seq);
    if (!ping.ts.empty()) object.raw(R"(,"ts":)").raw(ping.ts);
    object.raw("}");
    return object;
}
inline Object ping(uint64_t seq) {
    Object object;
    object.raw(R"({"type":"ping","seq":)").number(seq).raw("}");
    return object;
}
inline Object interval(uint32_t interval_ms, uint32_t timeout_ms, uint32_t answer_every) {
    Object object;
    object.raw(R"({"type":"interval","interval_ms":)").number(interval_ms);
    object.raw(R"(,"timeout_ms":)").number(timeout_ms);
    if (answer_every != 1) object.raw(R"(,"answer_every":)").number(answer_every);
    return object.raw("}");
}
inline Object expiring(uint32_t in_ms) {
    Object object;
    object.raw(R"({"type":"expiring","in_ms":)").number(in_ms).raw("}");
    return object;
}
inline Object goodbye(uint16_t code, std::string_view reason, uint32_t retry_after_ms,
                      std::string_view move_to = {}) {
    Object object;
    object.raw(R"({"type":"goodbye","code":)").number(code).raw(R"(,"reason":")").string(reason);
    object.raw("\"");
    if (retry_after_ms > 0) object.raw(R"(,"retry_after_ms":)").number(retry_after_ms);
    if (!move_to.empty()) object.raw(R"(,"move_to":")").string(move_to).raw("\"");
    object.raw("}");
    return object;
}
inline Object data(std::string_view text) {
    Object object;
    object.raw(R"({"type":"data","text":")").string(text).raw("\"}");
    return object;
}
inline Object error(uint16_t code, std::string_view message) {
    Object object;
    object.raw(R"({"type":"error","code":)").number(code).raw(R"(,"message":")").string(message);
    object.raw("\"}");
    return object;
}
inline constexpr std::string_view kProbe = R"({"type":"ping"})";

}  // namespace json
}  // namespace pulse
