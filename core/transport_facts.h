// What a kernel knows of one connection at an instant: bytes, times, losses, and the peer's
// address. Plain numbers, so that what is remembered and explained of a connection needs no kernel.
#pragma once

#include <array>
#include <cstdint>

#include "core/types.h"

namespace pulse {

// An address and its port; family 0: none.
struct PeerAddress {
    uint8_t family = 0;  // 4 or 6
    uint16_t port = 0;
    std::array<uint8_t, 16> bytes{};  // of IPv4 the first four

    bool present() const { return family != 0; }
    friend bool operator==(const PeerAddress&, const PeerAddress&) = default;
};

// Bytes are those of the stream; a FIN is not counted, but where both ends have ended it. Times are
// durations up to the reading, in the kernel's own ticks of up to 10 ms; one of nothing (no byte
// was received) means nothing.
struct TransportFacts {
    bool known = false;  // false: the kernel could not be asked, and nothing but `peer` may be set
    PeerAddress peer{};
    uint64_t received_bytes = 0;  // by this host, read or not
    uint64_t acked_bytes = 0;     // sent, and acknowledged by the peer's host
    uint64_t unacked_bytes = 0;   // sent, and not acknowledged
    uint64_t unsent_bytes = 0;    // given to the kernel, and not sent yet
    uint32_t received_segments = 0;
    uint32_t sent_segments = 0;           // retransmissions included
    uint32_t retransmitted_segments = 0;  // in all
    uint32_t timeouts = 0;     // retransmission timers that expired in a row, without an answer
    Nanos since_received = 0;  // the newest byte
    Nanos since_sent = 0;      // the newest byte, first time or again
    Nanos since_acked = 0;     // the newest acknowledgement, of whatever
    Nanos round_trip = 0;      // smoothed

    // Whether something that was sent waits for the peer's host.
    bool awaits_peer() const { return unacked_bytes > 0 || timeouts > 0; }
};

}  // namespace pulse
