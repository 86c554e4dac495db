// What is kept of an HTTP head that is not whole yet: what decides the answer to it, and nothing
// else. A head may be kHandshakeBytesMax long, most of it cookies, and a peer that never ends it
// costs kHandshakeKeptBytesMax and a little more.
//
//   kept whole     the first line but for the end of a long target, Host, Origin, Connection,
//                  Upgrade, Content-Length and the Sec-WebSocket-... lines that are read;
//                  Authorization where tokens are looked at
//   cut short      lines of which only their presence matters, those that are malformed, and
//                  traceparent, where traces are, behind what is read of it
//   left out       everything else
//
// What is kept is a head again, and is answered as the whole one would be.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/limits.h"
#include "proto/limits.h"

namespace pulse {

// Lines that matter to some servers only.
struct KeptFields {
    bool token = false;  // Authorization
    bool trace = false;  // traceparent
};

class KeptHead {
  public:
    // `held`: what was kept of the head before; `piece`: what follows it. Requires: scan_head() has
    // refused no byte of them.
    KeptHead(std::span<const uint8_t> held, std::span<const uint8_t> piece, KeptFields fields);

    // The first of `held` stay as they are, and kept() follows them.
    size_t held_bytes() const { return held_bytes_; }
    std::span<const uint8_t> kept() const { return {text_.data(), kept_bytes_}; }
    // What is known to be kept is over kHandshakeKeptBytesMax, however the head was cut.
    bool too_big() const { return counted_bytes_ > kHandshakeKeptBytesMax; }

  private:
    void shorten(size_t bytes, KeptFields fields);

    size_t held_bytes_ = 0;
    size_t kept_bytes_ = 0;
    size_t counted_bytes_ = 0;
    std::array<uint8_t, kBufferSmallBytes + kHandshakeBytesMax> text_;
};

}  // namespace pulse
