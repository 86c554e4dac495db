// The PROXY protocol, versions 1 and 2, as a receiver reads it: a header in front of everything
// else, by which a load balancer tells whose connection it passes on. (HAProxy's
// doc/proxy-protocol.txt, 2020/03/05.)
//
//   1  "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", TCP6, or "PROXY UNKNOWN ...\r\n"; at most
//      kProxyLineBytesMax
//   2  16 bytes: signature, version and command, family, length; then addresses, then TLVs; at
//      most kProxyHeaderBytesMax in all
//
// Only listeners that were told to (?proxy=on) expect one, and they demand it: the specification
// forbids to guess. LOCAL, UNKNOWN, UNSPEC and families that are no TCP over IP (UDP, UNIX) leave
// the connection its own addresses. TLVs are passed over, but must be well formed, and a CRC-32C
// among them must be right. A signature, a command, a length that cannot stand is found at its
// byte; a line's fields and TLVs are judged when the header is whole. After a fault the peer gets
// no answer: it is a balancer, which would pass it on to a client.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "proto/codec.h"

namespace pulse {

struct ProxyAddress {
    enum class Family : uint8_t { none, ipv4, ipv6 };
    Family family = Family::none;      // none: the connection's own address stands
    std::array<uint8_t, 16> bytes{};   // in network order; the first 4 of an IPv4 address
    uint16_t port = 0;
};

struct ProxyHeader {
    ProxyAddress source;       // the client; both have a family or none has
    ProxyAddress destination;  // where it connected to
    size_t bytes = 0;          // of the header, which is whole; 0: it is not
    size_t bytes_wanted = 0;   // not whole: there is nothing to see before so many bytes are here
    Decoded fault;
};

// `first`: what has come, from the first byte on; one byte or more, and of any number only the
// header's are looked at.
ProxyHeader parse_proxy_header(std::span<const uint8_t> first);

// The same for a connection whose bytes come as they come: what is not whole is held, and nothing
// is held once it is. Takes the header's bytes from the front of `input`; bytes == 0 and no fault:
// all of it, and more are needed.
template <CodecSink S>
ProxyHeader read_proxy_header(std::span<uint8_t>& input, S& sink) {
    ProxyHeader header;
    size_t wanted = 1;
    if (sink.held().empty()) {
        header = parse_proxy_header(input);
        if (!header.fault.ok()) return header;
        if (header.bytes > 0) {
            input = input.subspan(header.bytes);
            return header;
        }
    } else {
        wanted = parse_proxy_header(sink.held()).bytes_wanted - sink.held().size();
    }
    while (!input.empty()) {
        const std::span<uint8_t> piece = input.first(std::min(wanted, input.size()));
        input = input.subspan(piece.size());
        if (!sink.hold(piece)) {
            header.fault = {CloseReason::out_of_memory, "no memory for the PROXY header"};
            return header;
        }
        header = parse_proxy_header(sink.held());
        if (!header.fault.ok()) return header;
        if (header.bytes > 0) {
            sink.keep_held(0);
            return header;
        }
        wanted = header.bytes_wanted - sink.held().size();
    }
    return header;
}

}  // namespace pulse
