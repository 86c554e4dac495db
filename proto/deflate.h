// permessage-deflate (RFC 7692): what is agreed in the handshake, and messages in and out of zlib.
//
// Context takeover is always declined, in both directions: each message is compressed by itself, no
// window outlives it, and one inflater and one deflater serve all connections of a reactor. An idle
// connection owns nothing. Not thread-safe: each belongs to its reactor.
//
// A compressed message is held compressed until its last fragment is here and inflated in one go,
// so all that can be wrong with it is found at its last byte. It may be no longer than a message
// may be, compressed or not.
//
// What inflating may cost is bounded by the bytes that come out and by blocks (kInflateBlocksMin):
// of messages of 1 MiB the dearest found took 24 ms of processor time, one of JSON 1.3 ms.
#pragma once

#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/codec.h"

namespace pulse {

// What both sides agreed on. `window_bits`, 8..15, bounds how far back our compressed messages may
// refer (server_max_window_bits for a server); 0: messages are not compressed. The peer may use
// up to 15.
struct DeflateAgreement {
    uint8_t window_bits = 0;
    bool window_bits_named = false;  // the offer named them, so the answer must
    bool malformed = false;  // not the grammar of section 9.1 of RFC 6455: the handshake fails
};

// Server: the values of all Sec-WebSocket-Extensions lines of a request, in their order. Takes the
// first offer that can be taken; unknown extensions, and offers with unknown, repeated or invalid
// parameters, are passed over.
DeflateAgreement agree_on_deflate(std::span<const std::string_view> values);

// Client: what we offer, and the judgement of the answer. malformed: the answer accepts what was
// not offered, or not all of what was.
inline constexpr std::string_view kDeflateOffer =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
DeflateAgreement check_deflate_answer(std::span<const std::string_view> values);

// A buffer of bytes that grows without throwing, padded behind.
class DeflateBuffer {
  public:
    ~DeflateBuffer();
    DeflateBuffer() = default;
    DeflateBuffer(const DeflateBuffer&) = delete;
    DeflateBuffer& operator=(const DeflateBuffer&) = delete;

    // At least `bytes` of room, what was written stays. False: no memory, nothing changed.
    [[nodiscard]] bool reserve(size_t bytes);
    void trim();  // gives back what exceeds kDeflateKeepBytes
    uint8_t* data() { return data_; }
    size_t capacity() const { return capacity_; }

  private:
    uint8_t* data_ = nullptr;
    size_t capacity_ = 0;
};

class Inflater {
  public:
    Inflater() = default;
    ~Inflater();
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;

    struct Outcome {
        Decoded fault;               // message_too_big, invalid_data or out_of_memory
        std::span<uint8_t> message;  // ours until the next call; kReceivePadBytes readable behind
    };
    // The payload of a whole message. Stops as soon as more than `message_bytes_max` come out.
    Outcome inflate(std::span<const uint8_t> payload, size_t message_bytes_max);
    void trim() { buffer_.trim(); }  // after the message was used
    size_t kept_bytes() const { return buffer_.capacity(); }

  private:
    bool prepare();
    Decoded pump(std::span<const uint8_t> piece, size_t bytes_max);

    z_stream stream_{};
    bool ready_ = false;
    bool ended_ = false;  // the last byte given so far ended a final block
    size_t produced_ = 0;
    size_t blocks_left_ = 0;
    DeflateBuffer buffer_;
};

class Deflater {
  public:
    Deflater() = default;
    ~Deflater();
    Deflater(const Deflater&) = delete;
    Deflater& operator=(const Deflater&) = delete;

    // The payload that stands for `message`, ours until the next call; empty when sending the
    // message as it is is better: it is short, it would not become shorter, or there is no memory.
    std::span<const uint8_t> deflate(std::span<const uint8_t> message, uint8_t window_bits);
    void trim() { buffer_.trim(); }

  private:
    z_stream* stream_for(uint8_t window_bits);

    std::array<z_stream*, 16> streams_{};  // by window bits, each made when first asked for
    DeflateBuffer buffer_;
};

}  // namespace pulse
