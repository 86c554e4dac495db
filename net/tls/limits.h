// Bounds of TLS: what handshakes may take, how long a ticket is good, what a peer may make us do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// --tls-handshakes, of all reactors together: with a client 100 ms away, 20,000 handshakes a second
// have 2,000 in flight, which is more than two cores can do.
inline constexpr uint32_t kTlsHandshakesDefault = 2'048;
// What handshakes may take of one turn. The first flight of a full one is 0.07 to 0.34 ms, by
// version and certificate (net/README.md), so that a storm of them leaves the others their share.
// The last may exceed it, as one must be allowed.
inline constexpr int64_t kTlsHandshakeNsPerTurn = 2'000'000;
// Records of handshakes, alerts and KeyUpdates that may wait for a peer: a chain of certificates
// of RSA has 5 KiB, one with the names of client authorities more.
inline constexpr size_t kTlsOutputBytesMax = size_t{64} << 10;
// How long tickets are sealed with one key; they are good for as long as it and the next are kept.
inline constexpr int64_t kTicketKeyNs = 7'200'000'000'000;
// Scratch that a reactor keeps between two reads and sends; what was more is given back.
inline constexpr size_t kTlsScratchBytes = size_t{128} << 10;
// Pairs of a certificate and a key: as many names as one process may serve without a proxy.
inline constexpr size_t kTlsCertificatesMax = 64;

}  // namespace pulse
