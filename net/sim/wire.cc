// Frames, lines and WebSocket messages, written and read as a client does.
#include "net/sim/wire.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>

#include "core/check.h"

namespace pulse {
namespace {

constexpr uint8_t kMagic = 0xB7;
constexpr size_t kHeaderBytes = 8;
// By SimKind, whose order is that of the binary types.
constexpr std::string_view kNames[] = {"",     "ping",    "pong",     "hello", "welcome",
                                       "data", "goodbye", "interval", "error"};
constexpr uint8_t kContinuation = 0, kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;
constexpr uint8_t kFinal = 0x80, kCompressed = 0x40, kMasked = 0x80;
constexpr size_t kInflatedBytesMax = size_t{4} << 20;
constexpr uint16_t kNoCloseCode = 1005;  // RFC 6455 section 7.1.5

std::span<const uint8_t> bytes_of(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
void append(std::vector<uint8_t>& out, std::span<const uint8_t> bytes) {
    out.insert(out.end(), bytes.begin(), bytes.end());
}
void put_be(std::vector<uint8_t>& out, uint64_t value, size_t bytes) {
    while (bytes-- > 0) out.push_back(static_cast<uint8_t>(value >> 8 * bytes));
}
uint64_t get_be(std::span<const uint8_t> bytes) {
    uint64_t value = 0;
    for (const uint8_t byte : bytes) value = value << 8 | byte;
    return value;
}

void put_binary(SimKind kind, uint32_t sequence, std::span<const uint8_t> payload,
                std::vector<uint8_t>& out) {
    out.push_back(kMagic);
    out.push_back(static_cast<uint8_t>(kind));
    put_be(out, payload.size(), 2);
    put_be(out, sequence, 4);
    append(out, payload);
}

constexpr std::string_view kDigits = "0123456789abcdef";
std::string hex(std::span<const uint8_t> bytes) {
    std::string text;
    text.reserve(2 * bytes.size());
    for (const uint8_t byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}
std::vector<uint8_t> unhex(std::string_view text) {
    std::vector<uint8_t> bytes;
    bytes.reserve(text.size() / 2);
    for (size_t at = 0; at + 1 < text.size(); at += 2) {
        const size_t high = kDigits.find(text[at]), low = kDigits.find(text[at + 1]);
        bytes.push_back(static_cast<uint8_t>(high << 4 | (low & 15)));
    }
    return bytes;
}

// What stands behind `"key":` up to a quote, a comma or the end of the object.
std::string_view value_of(std::string_view object, std::string_view key) {
    const size_t at = object.find(key);
    if (at == std::string_view::npos) return {};
    std::string_view rest = object.substr(at + key.size());
    return rest.substr(0, rest.find_first_of("\",}"));
}
uint32_t number_of(std::string_view object, std::string_view key) {
    const std::string_view digits = value_of(object, key);
    uint32_t number = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return number;
}
// 1 where the object has none.
uint32_t answer_every_of(std::string_view object) {
    return std::max(1u, number_of(object, "\"answer_every\":"));
}

// Of a welcome or an interval in JSON.
void read_deadlines(std::string_view object, SimMessage& message) {
    message.answer_every = answer_every_of(object);
    message.interval_ms = number_of(object, "\"interval_ms\":");
    message.timeout_ms = number_of(object, "\"timeout_ms\":");
}

// A client's frame: masked, in the shortest form of its length.
void put_frame(uint8_t first, std::span<const uint8_t> payload, Random& random,
               std::vector<uint8_t>& out) {
    out.push_back(first);
    if (payload.size() < 126) {
        out.push_back(static_cast<uint8_t>(kMasked | payload.size()));
    } else if (payload.size() < 65'536) {
        out.push_back(kMasked | 126);
        put_be(out, payload.size(), 2);
    } else {
        out.push_back(kMasked | 127);
        put_be(out, payload.size(), 8);
    }
    const auto key = static_cast<uint32_t>(random.next());
    put_be(out, key, 4);
    for (size_t at = 0; at < payload.size(); ++at) {
        out.push_back(payload[at] ^ static_cast<uint8_t>(key >> 8 * (3 - at % 4)));
    }
}

// Blocks that are stored as they are, which is deflate too, and the one that RFC 7692 section
// 7.2.1 leaves cut off.
std::vector<uint8_t> stored(std::span<const uint8_t> bytes) {
    std::vector<uint8_t> out;
    while (!bytes.empty()) {
        const auto piece = bytes.first(std::min<size_t>(bytes.size(), 65'535));
        const auto low = static_cast<uint8_t>(piece.size());
        const auto high = static_cast<uint8_t>(piece.size() >> 8);
        append(out, std::vector<uint8_t>{0, low, high, static_cast<uint8_t>(~low),
                                         static_cast<uint8_t>(~high)});
        append(out, piece);
        bytes = bytes.subspan(piece.size());
    }
    out.push_back(0);
    return out;
}

// False: it is not deflate, or longer than any answer of the server's.
bool inflate_message(std::span<const uint8_t> payload, std::vector<uint8_t>& out) {
    std::vector<uint8_t> in(payload.begin(), payload.end());
    append(in, std::vector<uint8_t>{0, 0, 0xff, 0xff});
    z_stream stream{};
    if (inflateInit2(&stream, -15) != Z_OK) return false;
    stream.next_in = in.data();
    stream.avail_in = static_cast<uInt>(in.size());
    int result = Z_OK;
    while (result == Z_OK && stream.avail_in > 0 && out.size() < kInflatedBytesMax) {
        uint8_t window[16 * 1024];
        stream.next_out = window;
        stream.avail_out = sizeof window;
        result = inflate(&stream, Z_SYNC_FLUSH);
        append(out, std::span(window).first(sizeof window - stream.avail_out));
    }
    inflateEnd(&stream);
    return (result == Z_OK || result == Z_BUF_ERROR) && stream.avail_in == 0;
}

}  // namespace

// --------------------------------------------------------------------------------------- writing
void SimCodec::put_request(std::vector<uint8_t>& out) const {
    std::string text =
        "GET /pulse HTTP/1.1\r\nHost: wheel\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    if (wire_ == SimWire::ws_binary) text += "Sec-WebSocket-Protocol: pulse.v1.binary\r\n";
    if (offers_deflate_) text += "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    append(out, bytes_of(text + "\r\n"));
}

bool SimCodec::put(SimKind kind, uint32_t sequence, std::span<const uint8_t> payload,
                   Random& random, std::vector<uint8_t>& out) const {
    const bool own_ping = is_websocket() && kind == SimKind::ping && random.chance(1, 3);
    if (own_ping) {
        put_own_ping(sequence, payload, random, out);
        return true;
    }
    if (is_websocket() && kind == SimKind::goodbye && random.chance(1, 2)) {
        put_frame(kFinal | kClose, payload, random, out);
        return true;
    }
    put_in_dialect(kind, sequence, payload, random, out);
    return false;
}

void SimCodec::put_in_dialect(SimKind kind, uint32_t sequence, std::span<const uint8_t> payload,
                              Random& random, std::vector<uint8_t>& out) const {
    if (wire_ == SimWire::binary) return put_binary(kind, sequence, payload, out);
    if (wire_ == SimWire::ws_binary) {
        std::vector<uint8_t> frame;
        put_binary(kind, sequence, payload, frame);
        return put_message(kBinary, frame, random, out);
    }
    const bool plain_data =
        wire_ == SimWire::ws_json && kind == SimKind::data && random.chance(1, 2);
    if (plain_data) {
        std::vector<uint8_t> numbered;
        put_be(numbered, sequence, 4);
        append(numbered, payload);
        return put_message(kBinary, numbered, random, out);
    }
    if (kind == SimKind::hello) {
        return put_text({reinterpret_cast<const char*>(payload.data()), payload.size()}, random,
                        out);
    }
    if (kind == SimKind::goodbye) return put_text("{\"type\":\"goodbye\"}", random, out);
    std::string_view name = kNames[static_cast<size_t>(kind)];
    if (kind == SimKind::ping && random.chance(1, 3)) name = "heartbeat";
    const std::string_view key = kind == SimKind::data ? "x" : "ts";
    put_text("{\"type\":\"" + std::string(name) + "\",\"seq\":" + std::to_string(sequence) + ",\"" +
                 std::string(key) + "\":\"" + hex(payload) + "\"}",
             random, out);
}

void SimCodec::put_answer(const SimMessage& ping, Random& random, std::vector<uint8_t>& out) const {
    if (ping.control) return put_frame(kFinal | kPong, ping.payload, random, out);
    if (numbers_welcomes()) {
        return put_in_dialect(SimKind::pong, ping.sequence, ping.payload, random, out);
    }
    const std::string rest(ping.payload.begin(), ping.payload.end());
    put_text("{\"type\":\"pong\"" + rest, random, out);
}

void SimCodec::put_pong(uint32_t sequence, Random& random, std::vector<uint8_t>& out) const {
    if (!is_websocket() || random.chance(1, 2)) {
        return put_in_dialect(SimKind::pong, sequence, {}, random, out);
    }
    std::vector<uint8_t> payload;
    put_be(payload, sequence, 4);
    put_frame(kFinal | kPong, payload, random, out);
}

void SimCodec::put_fragment(std::span<const uint8_t> payload, Random& random,
                            std::vector<uint8_t>& out) const {
    PULSE_ASSERT(is_websocket());
    put_frame(kBinary, payload, random, out);
}

void SimCodec::put_own_ping(uint32_t sequence, std::span<const uint8_t> payload, Random& random,
                            std::vector<uint8_t>& out) const {
    PULSE_ASSERT(is_websocket());
    std::vector<uint8_t> numbered;
    numbered.reserve(4 + payload.size());
    put_be(numbered, sequence, 4);
    append(numbered, payload);
    put_frame(kFinal | kPing, numbered, random, out);
}

void SimCodec::put_text(std::string_view text, Random& random, std::vector<uint8_t>& out) const {
    if (is_websocket()) return put_message(kText, bytes_of(text), random, out);
    append(out, bytes_of(text));
    out.push_back('\n');
}

// Whole or in fragments, compressed or not.
void SimCodec::put_message(uint8_t opcode, std::span<const uint8_t> payload, Random& random,
                           std::vector<uint8_t>& out) const {
    std::vector<uint8_t> compressed;
    uint8_t first = opcode;
    if (deflates_ && random.chance(1, 2)) {
        compressed = stored(payload);
        payload = compressed;
        first |= kCompressed;
    }
    const bool whole = !random.chance(1, 4);
    size_t pieces = whole ? 1 : random.between(2, 4);
    for (; pieces > 1; --pieces) {
        const auto piece = payload.first(random.below(payload.size() + 1));
        put_frame(first, piece, random, out);
        payload = payload.subspan(piece.size());
        first = kContinuation;
    }
    put_frame(kFinal | first, payload, random, out);
}

// --------------------------------------------------------------------------------------- reading
SimCodec::Parsed SimCodec::parse(std::vector<uint8_t>& in, SimMessage& message) {
    if (refused_) in.clear();  // words for a reader
    if (in.empty()) return Parsed::more;
    message = {};
    // Where every protocol is spoken, a refusal is HTTP.
    if (!opened_ && (is_websocket() || in[0] == 'H')) return parse_answer(in, message);
    size_t whole = 0;
    Parsed parsed;
    if (wire_ == SimWire::jsonl) {
        const auto end = std::ranges::find(in, uint8_t{'\n'});
        if (end == in.end()) return Parsed::more;
        whole = static_cast<size_t>(end - in.begin()) + 1;
        parsed = parse_text({reinterpret_cast<const char*>(in.data()), whole - 1}, message);
    } else {
        parsed =
            is_websocket() ? parse_websocket(in, whole, message) : parse_binary(in, whole, message);
    }
    if (parsed == Parsed::message) {
        opened_ = true;
        in.erase(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(whole));
    }
    return parsed;
}

SimCodec::Parsed SimCodec::parse_binary(std::span<const uint8_t> in, size_t& whole,
                                        SimMessage& message) const {
    if (in[0] != kMagic) return Parsed::garbage;
    if (in.size() < kHeaderBytes) return Parsed::more;
    if (in[1] == 0 || in[1] > static_cast<uint8_t>(SimKind::error)) return Parsed::garbage;
    whole = kHeaderBytes + get_be(in.subspan(2, 2));
    if (in.size() < whole) return Parsed::more;
    message.kind = static_cast<SimKind>(in[1]);
    message.sequence = static_cast<uint32_t>(get_be(in.subspan(4, 4)));
    message.payload.assign(in.begin() + kHeaderBytes,
                           in.begin() + static_cast<std::ptrdiff_t>(whole));
    const bool coded = message.kind == SimKind::goodbye || message.kind == SimKind::error;
    if (coded && message.payload.size() >= 2) {
        message.code = static_cast<uint16_t>(get_be(std::span(message.payload).first(2)));
    }
    if (message.kind == SimKind::interval) {
        if (message.payload.size() != 8) return Parsed::garbage;
        message.answer_every = std::max(1u, message.sequence);
        message.interval_ms = static_cast<uint32_t>(get_be(std::span(message.payload).first(4)));
        message.timeout_ms = static_cast<uint32_t>(get_be(std::span(message.payload).last(4)));
    }
    if (message.kind == SimKind::welcome) {
        read_deadlines(
            {reinterpret_cast<const char*>(message.payload.data()), message.payload.size()},
            message);
    }
    return Parsed::message;
}

SimCodec::Parsed SimCodec::parse_text(std::string_view text, SimMessage& message) const {
    constexpr std::string_view kBegins = "{\"type\":\"";
    if (!text.starts_with(kBegins)) return Parsed::garbage;
    const std::string_view rest = text.substr(kBegins.size());
    const std::string_view name = rest.substr(0, rest.find('"'));
    const auto* found = std::ranges::find(kNames, name);
    if (found == std::end(kNames) || name.empty()) return Parsed::garbage;
    message.kind = static_cast<SimKind>(found - kNames);
    message.sequence = number_of(text, "\"seq\":");
    message.code = static_cast<uint16_t>(number_of(text, "\"code\":"));
    read_deadlines(text, message);
    if (message.kind == SimKind::ping) {
        const auto behind = bytes_of(rest.substr(name.size() + 1));
        message.payload.assign(behind.begin(), behind.end());
    }
    if (message.kind == SimKind::pong) message.payload = unhex(value_of(text, "\"ts\":\""));
    if (message.kind == SimKind::data) message.payload = unhex(value_of(text, "\"x\":\""));
    return Parsed::message;
}

// RFC 6455 section 1.3 has the answer to the key that we give.
SimCodec::Parsed SimCodec::parse_answer(std::vector<uint8_t>& in, SimMessage& message) {
    const std::string_view all(reinterpret_cast<const char*>(in.data()), in.size());
    const size_t end = all.find("\r\n\r\n");
    if (end == std::string_view::npos) return Parsed::more;
    const std::string_view head = all.substr(0, end + 4);
    if (!head.starts_with("HTTP/1.1 ")) return Parsed::garbage;
    if (!head.starts_with("HTTP/1.1 101 ")) {
        message.kind = SimKind::goodbye;
        in.clear();
        refused_ = true;
        return Parsed::message;
    }
    if (head.find("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") == std::string_view::npos) return Parsed::garbage;
    opened_ = true;
    deflates_ = head.find("permessage-deflate") != std::string_view::npos;
    message.kind = SimKind::opened;
    in.erase(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(end + 4));
    return Parsed::message;
}

SimCodec::Parsed SimCodec::parse_websocket(std::span<const uint8_t> in, size_t& whole,
                                           SimMessage& message) const {
    if ((in[0] & kFinal) == 0) return Parsed::garbage;  // this server fragments nothing
    if (in.size() < 2) return Parsed::more;
    if ((in[1] & kMasked) != 0) return Parsed::garbage;
    const size_t more = in[1] == 126 ? 2 : in[1] == 127 ? 8 : 0;
    if (in.size() < 2 + more) return Parsed::more;
    const uint64_t bytes = more == 0 ? in[1] : get_be(in.subspan(2, more));
    if (bytes > kInflatedBytesMax) return Parsed::garbage;
    whole = 2 + more + bytes;
    if (in.size() < whole) return Parsed::more;
    return parse_payload(in[0], in.subspan(2 + more, bytes), message);
}

SimCodec::Parsed SimCodec::parse_payload(uint8_t first, std::span<const uint8_t> payload,
                                         SimMessage& message) const {
    std::vector<uint8_t> inflated;
    if ((first & kCompressed) != 0) {
        if (!deflates_ || !inflate_message(payload, inflated)) return Parsed::garbage;
        payload = inflated;
    }
    size_t whole = 0;
    switch (first & 15) {
        case kClose:
            message.kind = SimKind::goodbye;
            message.control = true;
            message.code =
                payload.size() < 2 ? kNoCloseCode : static_cast<uint16_t>(get_be(payload.first(2)));
            return Parsed::message;
        case kPing:
        case kPong:
            message.kind = (first & 15) == kPing ? SimKind::ping : SimKind::pong;
            message.control = true;
            message.payload.assign(payload.begin(), payload.end());
            if (message.kind == SimKind::ping) return Parsed::message;
            break;
        case kText:
            return parse_text({reinterpret_cast<const char*>(payload.data()), payload.size()},
                              message);
        case kBinary:
            if (wire_ == SimWire::ws_binary) {
                const Parsed parsed =
                    payload.empty() ? Parsed::garbage : parse_binary(payload, whole, message);
                return whole == payload.size() ? parsed : Parsed::garbage;
            }
            message.kind = SimKind::data;
            message.payload.assign(payload.begin(), payload.end());
            break;
        default:
            return Parsed::garbage;
    }
    // What we numbered ourselves.
    if (message.payload.size() < 4) return Parsed::garbage;
    message.sequence = static_cast<uint32_t>(get_be(std::span(message.payload).first(4)));
    message.payload.erase(message.payload.begin(), message.payload.begin() + 4);
    return Parsed::message;
}

}  // namespace pulse
