// JSON by simdjson On-Demand: one pass, no tree.
#include "proto/json.h"

#include <simdjson.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/limits.h"
#include "proto/labels.h"
#include "proto/utf8.h"

namespace pulse {
namespace {

static_assert(kReceivePadBytes >= simdjson::SIMDJSON_PADDING);

using simdjson::ondemand::field;
using simdjson::ondemand::json_type;
using simdjson::ondemand::value;

// What a key's value must be, where it goes, and for which kinds of message that matters.
enum class Want : uint8_t {
    type,
    token,
    string,
    user,
    device,
    number,
    labels,
    answer_every,
    resume,
    received,
    probe,
    nat,
};

constexpr uint16_t bit(JsonKind kind) {
    return static_cast<uint16_t>(1u << static_cast<unsigned>(kind));
}
constexpr uint16_t kAllKinds = 0xFFFF;
constexpr uint16_t kBeats = bit(JsonKind::ping) | bit(JsonKind::pong);
constexpr uint16_t kHello = bit(JsonKind::hello);
constexpr uint16_t kGoodbye = bit(JsonKind::goodbye);
constexpr uint16_t kWelcome = bit(JsonKind::welcome);
constexpr uint16_t kInterval = bit(JsonKind::interval);
constexpr uint16_t kError = bit(JsonKind::error);
constexpr uint16_t kExpiring = bit(JsonKind::expiring);
constexpr uint16_t kAck = bit(JsonKind::ack);

struct Key {
    std::string_view name;
    Want want;
    uint16_t kinds;
    std::string_view JsonMessage::* text;
    uint32_t JsonMessage::* number;
};

constexpr Key kKeys[] = {
    {"type", Want::type, kAllKinds, nullptr, nullptr},
    {"seq", Want::token, kBeats, &JsonMessage::seq, nullptr},
    {"ts", Want::token, kBeats, &JsonMessage::ts, nullptr},
    {"user", Want::user, kHello | kWelcome, &JsonMessage::user, nullptr},
    {"device", Want::device, kHello | kWelcome, &JsonMessage::device, nullptr},
    {"token", Want::string, kHello, &JsonMessage::token, nullptr},
    {"profile", Want::string, kHello, &JsonMessage::profile, nullptr},
    {"labels", Want::labels, kHello, nullptr, &JsonMessage::labels},
    {"reason", Want::string, kGoodbye, &JsonMessage::reason, nullptr},
    {"move_to", Want::string, kGoodbye, &JsonMessage::move_to, nullptr},
    {"message", Want::string, kError, &JsonMessage::message, nullptr},
    {"conn", Want::string, kWelcome, &JsonMessage::conn, nullptr},
    {"interval_ms", Want::number, kWelcome | kInterval, nullptr, &JsonMessage::interval_ms},
    {"timeout_ms", Want::number, kWelcome | kInterval, nullptr, &JsonMessage::timeout_ms},
    {"answer_every", Want::answer_every, kHello | kWelcome | kInterval, nullptr,
     &JsonMessage::answer_every},
    {"retry_after_ms", Want::number, kGoodbye, nullptr, &JsonMessage::retry_after_ms},
    {"in_ms", Want::number, kExpiring, nullptr, &JsonMessage::in_ms},
    {"code", Want::number, kGoodbye | kError, nullptr, nullptr},
    {"resume", Want::resume, kHello | kWelcome, nullptr, nullptr},
    {"received", Want::received, kAck, nullptr, nullptr},
    {"probe", Want::probe, kHello, nullptr, nullptr},
    {"nat", Want::nat, kHello | kWelcome, nullptr, nullptr},
};

struct TypeName {
    std::string_view name;
    JsonKind kind;
};

constexpr TypeName kTypes[] = {
    {"ping", JsonKind::ping},       {"heartbeat", JsonKind::ping},
    {"pong", JsonKind::pong},       {"hello", JsonKind::hello},
    {"data", JsonKind::data},       {"goodbye", JsonKind::goodbye},
    {"welcome", JsonKind::welcome}, {"interval", JsonKind::interval},
    {"error", JsonKind::error},     {"expiring", JsonKind::expiring},
    {"ack", JsonKind::ack},
};

std::string_view trim_token(std::string_view token) {
    while (!token.empty() && (token.back() == ' ' || token.back() == '\t' || token.back() == '\n' ||
                              token.back() == '\r')) {
        token.remove_suffix(1);
    }
    return token;
}

// A number or a string, as it stands. It is parsed once, so that what is given back is JSON.
std::string_view take_token(value& from, JsonMessage& message, std::string_view JsonMessage::* to) {
    json_type type;
    if (from.type().get(type)) return "is not a JSON value";
    const std::string_view token = trim_token(from.raw_json_token());
    if (token.size() > kJsonTokenBytesMax) return "is too long to be given back";
    if (type == json_type::string) {
        std::string_view text;
        if (from.get_string().get(text)) return "is not a JSON string";
        message.*to = token;
        return {};
    }
    double number = 0;
    if (type != json_type::number || from.get_double().get(number)) {
        return "is neither a number in range nor a string";
    }
    message.*to = token;
    return {};
}

std::string_view take_string(value& from, JsonMessage& message, std::string_view JsonMessage::* to,
                             size_t bytes_max = kJsonStringBytesMax) {
    std::string_view text;
    if (from.get_string().get(text)) return "is not a string";
    if (text.size() > bytes_max) return "is too long";
    message.*to = text;
    return {};
}

std::string_view take_number(value& from, const Key& key, JsonMessage& message) {
    uint64_t number = 0;
    if (from.get_uint64().get(number) || number > UINT32_MAX)
        return "is not a whole number in range";
    if (key.number != nullptr) {
        message.*key.number = static_cast<uint32_t>(number);
        return {};
    }
    if (number > UINT16_MAX) return "is not a whole number in range";
    message.code = static_cast<uint16_t>(number);
    return {};
}

static_assert(kAnswerEveryMax == 8);
std::string_view take_answer_every(value& from, JsonMessage& message) {
    uint64_t number = 0;
    if (from.get_uint64().get(number) || number == 0 || number > kAnswerEveryMax) {
        return "is not a whole number from 1 to 8; leave it out to have every heartbeat answered";
    }
    message.answer_every = static_cast<uint32_t>(number);
    return {};
}

std::string_view take_type(value& from, JsonMessage& message) {
    std::string_view name;
    if (from.get_string().get(name)) return "is not a string";
    message.has_type = true;
    for (const TypeName& type : kTypes) {
        if (type.name == name) message.kind = type.kind;
    }
    return {};
}

// A user that logs in has a name.
std::string_view take_user(value& from, JsonMessage& message) {
    const std::string_view wrong = take_string(from, message, &JsonMessage::user, kUserBytesMax);
    return wrong.empty() && message.user.empty() ? "is empty" : wrong;
}

// {"ring":"canary"}, in canonical order, so that the same labels are the same text.
std::string_view take_labels(value& from, JsonMessage& message, std::string& kept) {
    simdjson::ondemand::object labels;
    if (from.get_object().get(labels)) return "is not a JSON object";
    std::array<Label, kLabelsMax> read;
    uint32_t count = 0;
    for (auto found : labels) {
        field entry;
        std::string_view name;
        if (std::move(found).get(entry) || entry.unescaped_key().get(name)) return "is not JSON";
        std::string_view text;
        if (entry.value().get_string().get(text)) return "has a value that is not a string";
        if (name.size() > kLabelBytesMax) return "has a name that is too long";
        if (text.size() > kLabelBytesMax) return "has a value that is too long";
        if (count == kLabelsMax) return "are too many";
        const auto seen = std::span(read).first(count);
        if (std::ranges::find(seen, name, &Label::name) != seen.end()) return "has a name twice";
        read[count++] = {name, text};
    }
    if (!write_labels(kept, std::span(read).first(count))) return "are too long together";
    message.labels = count;
    message.labels_text = kept;
    return {};
}

// A number of messages, exact in every JSON.
std::string_view take_received(value& from, uint64_t& to) {
    uint64_t number = 0;
    if (from.get_uint64().get(number) || number > kJsonNumberMax)
        return "is not a whole number from 0 to 2^53";
    to = number;
    return {};
}

// {} or {"token":"...","last_seq":7}.
std::string_view take_resume(value& from, JsonMessage& message) {
    simdjson::ondemand::object resume;
    if (from.get_object().get(resume)) return "is not a JSON object";
    bool has_last_seq = false;
    for (auto found : resume) {
        field entry;
        std::string_view name;
        if (std::move(found).get(entry) || entry.unescaped_key().get(name)) return "is not JSON";
        if (name == "token") {
            if (message.resume_token.data() != nullptr) return "has a token twice";
            if (entry.value().get_string().get(message.resume_token))
                return "has a token that is not a string";
        } else if (name == "last_seq") {
            if (std::exchange(has_last_seq, true)) return "has last_seq twice";
            if (!take_received(entry.value(), message.resume_last_seq).empty())
                return "has a last_seq that is not a whole number from 0 to 2^53";
        }
    }
    message.resume = true;
    return {};
}

// {} or {"kept_ms":270000,"lost_ms":290000}.
std::string_view take_nat(value& from, JsonMessage& message) {
    simdjson::ondemand::object nat;
    if (from.get_object().get(nat)) return "is not a JSON object";
    bool has_kept = false, has_lost = false;
    for (auto found : nat) {
        field entry;
        std::string_view name;
        if (std::move(found).get(entry) || entry.unescaped_key().get(name)) return "is not JSON";
        const bool kept = name == "kept_ms";
        if (!kept && name != "lost_ms") continue;
        if (std::exchange(kept ? has_kept : has_lost, true)) return "has a silence twice";
        uint64_t number = 0;
        if (entry.value().get_uint64().get(number) || number > UINT32_MAX)
            return "has a silence that is not a whole number in range";
        (kept ? message.nat_kept_ms : message.nat_lost_ms) = static_cast<uint32_t>(number);
    }
    message.nat = true;
    return {};
}

std::string_view take(const Key& key, value& from, JsonMessage& message, std::string& labels) {
    switch (key.want) {
        case Want::type:
            return take_type(from, message);
        case Want::token:
            return take_token(from, message, key.text);
        case Want::string:
            return take_string(from, message, key.text);
        case Want::number:
            return take_number(from, key, message);
        case Want::user:
            return take_user(from, message);
        case Want::device:
            return take_string(from, message, key.text, kDeviceBytesMax);
        case Want::labels:
            return take_labels(from, message, labels);
        case Want::answer_every:
            return take_answer_every(from, message);
        case Want::resume:
            return take_resume(from, message);
        case Want::received:
            return take_received(from, message.received);
        case Want::probe:
            return from.get_bool().get(message.probe) ? "is neither true nor false" : "";
        case Want::nat:
            return take_nat(from, message);
    }
    return {};
}

std::string_view describe(simdjson::error_code error) {
    switch (error) {
        case simdjson::UTF8_ERROR:
            return "is not UTF-8";
        case simdjson::UNCLOSED_STRING:
            return "has a string without an end";
        case simdjson::DEPTH_ERROR:
            return "is too deep";
        case simdjson::CAPACITY:
            return "is too long";
        case simdjson::MEMALLOC:
            return "found no memory";
        case simdjson::EMPTY:
            return "is empty";
        case simdjson::UNESCAPED_CHARS:
            return "has a control character in a string";
        default:
            return "is not JSON";
    }
}

// Where an error lies that simdjson finds before it has begun to walk.
size_t place_of(simdjson::error_code error, std::span<const uint8_t> text) {
    size_t at = 0;
    if (error == simdjson::UTF8_ERROR) {
        size_t step = 4'096;
        for (Utf8State state{}; at < text.size();) {
            Utf8State next = state;
            if (utf8_continue(next, text.subspan(at, std::min(step, text.size() - at)))) {
                state = next;
                at += step;
            } else if (step == 1) {
                break;
            } else {
                step = 1;
            }
        }
        return std::min(at, text.size());
    }
    if (error != simdjson::UNESCAPED_CHARS) return text.size();
    for (bool quoted = false; at < text.size(); ++at) {
        if (quoted && text[at] < 0x20) break;
        if (text[at] == '"') quoted = !quoted;
        if (quoted && text[at] == '\\') ++at;
    }
    return std::min(at, text.size());
}

// Brackets outside strings, counted: On-Demand passes over what is not asked for without a look at
// its depth. Where the bracket too many stands, or text.size().
size_t too_deep_at(std::span<const uint8_t> text) {
    // Too short to open and close so many; a ping is.
    if (text.size() <= 2 * kJsonDepthMax) return text.size();
    uint32_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const uint8_t byte = text[i];
        if (byte == '"') {
            quoted = !quoted;
        } else if (quoted) {
            i += byte == '\\';
        } else if (byte == '{' || byte == '[') {
            if (++depth > kJsonDepthMax) return i;
        } else if ((byte == '}' || byte == ']') && depth > 0) {
            --depth;
        }
    }
    return text.size();
}

}  // namespace

struct JsonParser::Implementation {
    simdjson::ondemand::parser parser;
    // What was wrong with a key, until the type, which may come last, says whether that matters;
    // `faulty` has a bit for each that is set.
    std::array<JsonFault, std::size(kKeys)> faults;
    uint32_t faulty = 0;
    uint32_t seen = 0;
    std::string labels;  // of the last hello

    JsonFault parse_object(std::span<const uint8_t> text, JsonMessage& message);
    void take_known(const uint8_t* start, std::string_view name, field& entry,
                    JsonMessage& message);
    JsonFault first_fault(JsonKind kind) const;
};

JsonParser::JsonParser() : implementation_(std::make_unique<Implementation>()) {}
JsonParser::~JsonParser() = default;

JsonFault JsonParser::parse(std::span<const uint8_t> text, JsonMessage& message) {
    message = JsonMessage{};
    const std::string_view view(reinterpret_cast<const char*>(text.data()), text.size());
    if (view == "PING" || view == "ping") {
        message.kind = JsonKind::bare_ping;
        return {};
    }
    const size_t start = view.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) return {"is not a JSON object"};
    if (view[start] != '{') return {"is not a JSON object", {}, start};
    if (text.size() > kJsonBytesMax) return {"is too long", {}, kJsonBytesMax};
    const size_t deep = too_deep_at(text);
    if (deep < text.size()) return {"is too deep", {}, deep};
    return implementation_->parse_object(text, message);
}

JsonFault JsonParser::Implementation::parse_object(std::span<const uint8_t> text,
                                                   JsonMessage& message) {
    const simdjson::padded_string_view padded(text.data(), text.size(),
                                              text.size() + kReceivePadBytes);
    simdjson::ondemand::document document;
    if (const auto error = parser.iterate(padded).get(document)) {
        return {describe(error), {}, place_of(error, text)};
    }
    auto fault_here = [&](std::string_view what) -> JsonFault {
        const char* place = nullptr;
        if (document.current_location().get(place)) return {what, {}, text.size()};
        const auto offset = static_cast<size_t>(place - reinterpret_cast<const char*>(text.data()));
        return {what, {}, std::min(offset, text.size())};
    };
    seen = 0;
    faulty = 0;
    simdjson::ondemand::object object;
    if (const auto error = document.get_object().get(object)) return fault_here(describe(error));
    for (auto found : object) {
        field entry;
        if (const auto error = std::move(found).get(entry)) return fault_here(describe(error));
        std::string_view name;
        if (const auto error = entry.unescaped_key().get(name)) return fault_here(describe(error));
        take_known(text.data(), name, entry, message);
    }
    const char* rest = nullptr;
    if (document.current_location().get(rest) != simdjson::OUT_OF_BOUNDS) {
        return fault_here("has something behind the object");
    }
    return faulty == 0 ? JsonFault{} : first_fault(message.kind);
}

void JsonParser::Implementation::take_known(const uint8_t* start, std::string_view name,
                                            field& entry, JsonMessage& message) {
    // Lengths and text of constants are compared in place; in a loop each is a call of memcmp.
#pragma GCC unroll 32
    for (uint32_t i = 0; i < std::size(kKeys); ++i) {
        if (kKeys[i].name != name) continue;
        const uint32_t mark = 1u << i;
        value& content = entry.value();
        const char* const token = content.raw_json_token().data();
        const std::string_view wrong =
            (seen & mark) != 0 ? "stands twice" : take(kKeys[i], content, message, labels);
        seen |= mark;
        if (wrong.empty() || (faulty & mark) != 0) return;
        faulty |= mark;
        faults[i] = {wrong, kKeys[i].name,
                     static_cast<size_t>(token - reinterpret_cast<const char*>(start))};
        return;
    }
    // Not a key of the table: what is not a string is malformed, and passed over as such.
    if (name == "traceparent" && entry.value().get_string().get(message.traceparent))
        message.traceparent = {};
}

// Of those that matter to `kind` the one that stands first. Without a type all of them do, since
// what the object was meant to be is unknown.
JsonFault JsonParser::Implementation::first_fault(JsonKind kind) const {
    const bool typed = (seen & 1u) != 0;
    JsonFault first;
    for (uint32_t i = 0; i < std::size(kKeys); ++i) {
        const bool matters = !typed || (kKeys[i].kinds & bit(kind)) != 0;
        if ((faulty & (1u << i)) == 0 || !matters) continue;
        if (first.ok() || faults[i].offset < first.offset) first = faults[i];
    }
    return first;
}
static_assert(kKeys[0].want == Want::type);

namespace json {
namespace {

constexpr char kHex[] = "0123456789abcdef";
constexpr uint32_t kReplacement = 0xFFFD;
constexpr uint32_t kAsItIs = UINT32_MAX;

// The character in front of a text: how many bytes it takes, and the code that is escaped instead.
struct Character {
    size_t bytes = 1;
    uint32_t escape = kAsItIs;
    bool backslash = false;  // a backslash in front is enough
};

Character first_character(std::string_view text) {
    const auto first = static_cast<uint8_t>(text[0]);
    if (first == '"' || first == '\\') return {1, kAsItIs, true};
    if (first < 0x20 || first == 0x7F) return {1, first, false};
    if (first < 0x80) return {};
    const size_t bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    const auto* const raw = reinterpret_cast<const uint8_t*>(text.data());
    if (text.size() < bytes || !utf8_valid({raw, bytes})) return {1, kReplacement, false};
    // C1 controls, which terminals obey.
    if (first == 0xC2 && raw[1] < 0xA0) return {2, raw[1], false};
    return {bytes, kAsItIs, false};
}

}  // namespace

size_t escaped_bytes(std::string_view text) {
    size_t bytes = 0;
    while (!text.empty()) {
        const Character character = first_character(text);
        bytes += character.escape != kAsItIs ? 6 : character.bytes + character.backslash;
        text.remove_prefix(character.bytes);
    }
    return bytes;
}

uint8_t* write_escaped(uint8_t* to, std::string_view text) {
    while (!text.empty()) {
        const Character character = first_character(text);
        if (character.escape != kAsItIs) {
            *to++ = '\\';
            *to++ = 'u';
            for (int shift = 12; shift >= 0; shift -= 4)
                *to++ = static_cast<uint8_t>(kHex[character.escape >> shift & 15]);
        } else {
            if (character.backslash) *to++ = '\\';
            std::memcpy(to, text.data(), character.bytes);
            to += character.bytes;
        }
        text.remove_prefix(character.bytes);
    }
    return to;
}

}  // namespace json
}  // namespace pulse
