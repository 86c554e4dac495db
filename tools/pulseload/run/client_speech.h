// What a client sends, in whichever protocol it has: ping, pong, hello, data, and the answer to a
// close. Made on the stack for one call; writes into the connection's next send and owns nothing.
//
//   wire      ping              hello            data
//   ws        ping frame        JSON text        binary message
//   ws-json   {"type":"ping"}   JSON text        {"type":"data"}
//   jsonl     {"type":"ping"}   JSON line        {"type":"data"}
//   tcp       frame 1           frame 3          frame 5
//
// Data carries when it was intended to go out and when it went, so that its echo has both and the
// client need remember nothing:
//
//   binary   "pulse.1\n" | u64 meant | u64 began | 'x' ...       (native order: it comes back here)
//   JSON     {"type":"data","meant":M,"began":B,"body":"xxx"}
#pragma once

#include <charconv>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "core/random.h"
#include "net/client/message_writer.h"
#include "proto/binary.h"
#include "proto/json.h"
#include "proto/limits.h"
#include "proto/websocket.h"
#include "tools/pulseload/run/scenario.h"

namespace pulse::load {

struct Stamp {
    Nanos intended_at = 0;
    Nanos began = 0;
};

inline constexpr std::string_view kStampMagic = "pulse.1\n";
inline constexpr size_t kStampBytes = kStampMagic.size() + sizeof(Stamp);
inline constexpr std::string_view kJsonStampBegin = R"({"type":"data","meant":)";
inline constexpr std::string_view kJsonStampMiddle = R"(,"began":)";
// What any message has room for, in any protocol: the JSON around two instants of 19 digits.
inline constexpr size_t kDataBytesMin = 96;

// The instants of an echo; nothing if it is none of ours.
inline std::optional<Stamp> read_stamp(std::span<const uint8_t> bytes) {
    Stamp stamp;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (text.starts_with(kStampMagic) && text.size() >= kStampBytes) {
        std::memcpy(&stamp, text.data() + kStampMagic.size(), sizeof stamp);
        return stamp;
    }
    if (!text.starts_with(kJsonStampBegin)) return std::nullopt;
    const char* const end = text.data() + text.size();
    const auto intended =
        std::from_chars(text.data() + kJsonStampBegin.size(), end, stamp.intended_at);
    const std::string_view rest(intended.ptr, static_cast<size_t>(end - intended.ptr));
    if (!rest.starts_with(kJsonStampMiddle)) return std::nullopt;
    const auto began = std::from_chars(rest.data() + kJsonStampMiddle.size(), end, stamp.began);
    if (intended.ec != std::errc{} || began.ec != std::errc{}) return std::nullopt;
    return stamp;
}

template <ByteSink Out>
class ClientSpeech {
  public:
    ClientSpeech(Out out, Wire wire, Random& random)
        : out_(out), wire_(wire), writer_(out, framing_of(wire), random) {}

    // Each returns whether there was room.
    bool ping(uint32_t sequence) {
        switch (wire_) {
            case Wire::tcp:
                return binary::write_frame(out_, binary::Type::ping, sequence, {});
            case Wire::ws: {
                uint8_t payload[4];
                store_be32(payload, sequence);
                return writer_.frame(websocket::Opcode::ping, payload);
            }
            case Wire::ws_json:
            case Wire::jsonl:
                break;
        }
        return writer_.object(
            json::Object().raw(R"({"type":"ping","seq":)").number(sequence).raw("}"));
    }
    // One that wants no answer: a pong that nothing asked for (RFC 6455 5.5.3); elsewhere a ping,
    // of which the server knows by its number that it goes without.
    bool one_way(uint32_t sequence) {
        if (wire_ != Wire::ws) return ping(sequence);
        uint8_t payload[4];
        store_be32(payload, sequence);
        return pong(sequence, payload);
    }
    // The answer to a ping frame.
    bool pong(uint32_t sequence, std::span<const uint8_t> payload) {
        if (wire_ == Wire::tcp) {
            return binary::write_frame(out_, binary::Type::pong, sequence, payload);
        }
        return writer_.frame(websocket::Opcode::pong, payload);
    }
    // The answer to a {"type":"ping"}.
    bool json_pong(const JsonMessage& ping) { return writer_.object(json::pong(ping)); }

    // With `answer_every` above 1 it asks for that. `labels` is a JSON object. What is empty is
    // left out of the hello.
    bool hello(std::string_view user, std::string_view profile, uint32_t answer_every,
               std::string_view device = {}, std::string_view labels = {}) {
        json::Object hello;
        hello.raw(R"({"type":"hello")");
        if (!user.empty()) hello.raw(R"(,"user":")").string(user).raw("\"");
        if (!device.empty()) hello.raw(R"(,"device":")").string(device).raw("\"");
        if (!labels.empty()) hello.raw(R"(,"labels":)").raw(labels);
        if (!profile.empty()) hello.raw(R"(,"profile":")").string(profile).raw("\"");
        if (answer_every > 1) hello.raw(R"(,"answer_every":)").number(answer_every);
        hello.raw("}");
        if (wire_ != Wire::tcp) return writer_.object(hello);
        uint8_t bytes[512];
        if (hello.bytes() > sizeof bytes) return false;
        hello.write(bytes);
        return binary::write_frame(out_, binary::Type::hello, 0, {bytes, hello.bytes()});
    }

    // `bytes` in all, headers aside: kDataBytesMin or more.
    bool data(Stamp stamp, size_t bytes) {
        if (wire_ == Wire::ws || wire_ == Wire::tcp) {
            uint8_t* to = claim_data(bytes);
            if (to == nullptr) return false;
            std::memcpy(to, kStampMagic.data(), kStampMagic.size());
            std::memcpy(to + kStampMagic.size(), &stamp, sizeof stamp);
            std::memset(to + kStampBytes, 'x', bytes - kStampBytes);
            if (wire_ == Wire::ws) writer_.seal();
            return true;
        }
        json::Object head;
        head.raw(kJsonStampBegin).number(static_cast<uint64_t>(stamp.intended_at));
        head.raw(kJsonStampMiddle).number(static_cast<uint64_t>(stamp.began));
        head.raw(R"(,"body":")");
        constexpr std::string_view kTail = "\"}";
        uint8_t* to = writer_.claim(MessageKind::text, bytes);
        if (to == nullptr) return false;
        head.write(to);
        std::memset(to + head.bytes(), 'x', bytes - head.bytes() - kTail.size());
        std::memcpy(to + bytes - kTail.size(), kTail.data(), kTail.size());
        writer_.seal();
        return true;
    }

    // To the server's close frame (RFC 6455 section 5.5.1).
    bool close_answer(uint16_t code) {
        if (wire_ != Wire::ws && wire_ != Wire::ws_json) return true;
        return writer_.close(code);
    }

  private:
    // Of lines; WebSocket otherwise, and for nothing where frames are binary.
    static client::Framing framing_of(Wire wire) {
        return wire == Wire::jsonl ? client::Framing::lines : client::Framing::websocket;
    }
    // Where the payload goes; seal() when it is there.
    uint8_t* claim_data(size_t bytes) {
        if (wire_ == Wire::ws) return writer_.claim(MessageKind::binary, bytes);
        if (bytes > kBinaryPayloadBytesMax) return nullptr;
        uint8_t* const to = out_.claim(kBinaryHeaderBytes + bytes);
        if (to == nullptr) return nullptr;
        to[0] = binary::kMagic;
        to[1] = static_cast<uint8_t>(binary::Type::data);
        store_be16(to + 2, static_cast<uint16_t>(bytes));
        store_be32(to + 4, 0);
        return to + kBinaryHeaderBytes;
    }

    Out out_;
    const Wire wire_;
    client::MessageWriter<Out> writer_;
};

}  // namespace pulse::load
