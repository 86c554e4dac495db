// Socket addresses, prefixes of them, and where to listen.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/sip_hash.h"
#include "core/transport_facts.h"

namespace pulse {

// An IPv4 or IPv6 address with its port, as the kernel wants it. Family 0: none.
struct SocketAddress {
    union {
        sockaddr base;
        sockaddr_in v4;
        sockaddr_in6 v6;
    };

    SocketAddress() : v6{} {}
    bool present() const { return base.sa_family != 0; }
    socklen_t size_bytes() const;
    uint16_t port() const;
    void set_port(uint16_t port);
    // An IPv4 address that came in IPv6 clothes (::ffff:1.2.3.4, from a dual-stack listener)
    // becomes itself, so that logs and limits by address know one peer by one name.
    void unmap();
    // "127.0.0.1:9000", "[::1]:9000"; "unix" of a Unix socket, "none" where there is none.
    std::string text() const;
};

// "HOST:PORT"; HOST is an IPv4 address, an IPv6 address in brackets, "localhost" (127.0.0.1), or
// "*" for any, IPv4 and IPv6. No name is looked up: a server that waits for DNS at start is a
// server that does not start. Port 0 leaves the choice to the kernel. An error names the text, what
// is wrong, the remedy.
Result<SocketAddress> parse_address(std::string_view text);

// A block of addresses: those whose first `bits` are the same. Ports do not matter.
struct AddressPrefix {
    SocketAddress address;  // an unmapped one
    uint32_t bits = 0;

    // `other` is unmapped too; one of another family is outside.
    bool contains(const SocketAddress& other) const;
    std::string text() const;  // "10.0.0.0/8", "::1/128"
};

// "10.0.0.0/8", "fd00::/8"; a bare address is a block of one. Bits behind the prefix must be zero:
// a slip there would trust a whole network where one host was meant.
Result<AddressPrefix> parse_prefix(std::string_view text);

// 127.0.0.0/8 and ::1/128: this machine.
std::vector<AddressPrefix> loopback_prefixes();

// The block of so many bits that an address lies in. Requires: it is one of IPv4 or IPv6, unmapped.
AddressPrefix prefix_of(const SocketAddress& address, uint32_t bits);

// An address as a number under a secret, without its port; of IPv6 the first 64 bits, which one
// site has in common. 0: no address. Two may have the same number, by chance alone.
uint32_t number_of(const SocketAddress& address, const SipKey& key);

// The same address without the kernel's types, and back.
PeerAddress plain_address(const SocketAddress& address);
SocketAddress socket_address(const PeerAddress& address);

// One listener: where, and what is spoken there, which is not for the backends. The text is kept
// for messages and metrics. parse_listen_uri() of net/protocols/listen_uri.h makes one.
struct ListenAddress {
    uint8_t protocol = 0;               // a row of kProtocols; 0: by the first bytes of a peer
    bool tls = false;                   // its peers begin with a TLS handshake
    bool expects_proxy_header = false;  // ?proxy=on, before that
    uint32_t connections_max = 0;       // ?max-connections=N; 0: no limit of its own
    SocketAddress address;              // none: that of the descriptor
    std::string text;
    // A socket that listens already, passed to this process, and the name that it was asked for by.
    // Several reactors accept from it.
    int descriptor = -1;
    std::string passed_name;
};

}  // namespace pulse
