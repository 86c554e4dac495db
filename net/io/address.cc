// Text to socket addresses and back.
#include "net/io/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <span>

#include "core/check.h"

namespace pulse {
namespace {

// False if the text is not a port.
bool parse_port(std::string_view text, uint16_t& port) {
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, port);
    return error == std::errc{} && stop == end;
}

// inet_pton() reads a C string: what stands behind a NUL would be ignored.
bool parse_number(int family, std::string_view host, void* address) {
    return host.find('\0') == std::string_view::npos &&
           inet_pton(family, std::string(host).c_str(), address) == 1;
}

bool parse_v4(std::string_view host, in_addr& address) {
    return parse_number(AF_INET, host, &address);
}

bool parse_v6(std::string_view host, in6_addr& address) {
    return parse_number(AF_INET6, host, &address);
}

// `host` with its brackets, if it has any.
Result<SocketAddress> parse_host(std::string_view text, std::string_view host) {
    SocketAddress address;
    if (host == "*") {
        address.v6.sin6_family = AF_INET6;
        address.v6.sin6_addr = in6addr_any;
    } else if (host == "localhost") {
        address.v4.sin_family = AF_INET;
        address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else if (host.starts_with('[')) {
        const std::string_view inner = host.substr(1, host.size() - 2);
        if (!parse_v6(inner, address.v6.sin6_addr))
            return wrong_text(text, quoted(inner) + " is no IPv6 address",
                              "write for example [::1]");
        address.v6.sin6_family = AF_INET6;
    } else if (parse_v4(host, address.v4.sin_addr)) {
        address.v4.sin_family = AF_INET;
    } else if (in6_addr ignored; parse_v6(host, ignored) || parse_v6(text, ignored)) {
        return wrong_text(text, "an IPv6 address without brackets", "write [ADDRESS]:PORT");
    } else {
        return wrong_text(
            text, quoted(host) + " is not an address and names are not looked up",
            "write an IPv4 address, an IPv6 address in brackets, localhost, or * for any");
    }
    return address;
}

// The bytes of an address, without its port.
std::span<const uint8_t> bytes_of(const SocketAddress& address) {
    if (address.base.sa_family == AF_INET) {
        return {reinterpret_cast<const uint8_t*>(&address.v4.sin_addr), sizeof(in_addr)};
    }
    if (address.base.sa_family == AF_INET6) return address.v6.sin6_addr.s6_addr;
    return {};
}

// Which bits of byte number `at` a prefix of `bits` decides.
uint8_t mask_of(uint32_t bits, size_t at) {
    const uint32_t left = bits > 8 * at ? static_cast<uint32_t>(bits - 8 * at) : 0;
    return static_cast<uint8_t>(0xFF00 >> std::min(left, 8u));
}

}  // namespace

socklen_t SocketAddress::size_bytes() const {
    if (base.sa_family == AF_INET) return sizeof(v4);
    if (base.sa_family == AF_INET6) return sizeof(v6);
    return 0;
}

// The port lies at the same place in both families.
static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));

uint16_t SocketAddress::port() const { return ntohs(v4.sin_port); }
void SocketAddress::set_port(uint16_t port) { v4.sin_port = htons(port); }

void SocketAddress::unmap() {
    if (base.sa_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) return;
    SocketAddress inner;
    inner.v4.sin_family = AF_INET;
    inner.v4.sin_port = v6.sin6_port;
    std::memcpy(&inner.v4.sin_addr, v6.sin6_addr.s6_addr + 12, sizeof(inner.v4.sin_addr));
    *this = inner;
}

std::string SocketAddress::text() const {
    char host[INET6_ADDRSTRLEN] = {};
    if (base.sa_family == AF_INET) {
        inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
        return std::string(host) + ":" + std::to_string(port());
    }
    if (base.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
        return "[" + std::string(host) + "]:" + std::to_string(port());
    }
    return base.sa_family == AF_UNIX ? "unix" : "none";
}

bool AddressPrefix::contains(const SocketAddress& other) const {
    if (!other.present() || other.base.sa_family != address.base.sa_family) return false;
    const std::span<const uint8_t> ours = bytes_of(address);
    const std::span<const uint8_t> theirs = bytes_of(other);
    for (size_t at = 0; at < ours.size(); ++at) {
        if (((ours[at] ^ theirs[at]) & mask_of(bits, at)) != 0) return false;
    }
    return true;
}

std::string AddressPrefix::text() const {
    char host[INET6_ADDRSTRLEN] = {};
    inet_ntop(address.base.sa_family, bytes_of(address).data(), host, sizeof(host));
    return std::string(host) + "/" + std::to_string(bits);
}

AddressPrefix prefix_of(const SocketAddress& address, uint32_t bits) {
    AddressPrefix prefix{address, bits};
    prefix.address.set_port(0);
    const std::span<const uint8_t> bytes = bytes_of(prefix.address);
    const std::span writable(const_cast<uint8_t*>(bytes.data()), bytes.size());
    for (size_t at = 0; at < writable.size(); ++at) writable[at] &= mask_of(bits, at);
    return prefix;
}

Result<AddressPrefix> parse_prefix(std::string_view text) {
    const size_t slash = std::min(text.find('/'), text.size());
    const std::string_view host = text.substr(0, slash);
    AddressPrefix prefix;
    if (parse_v4(host, prefix.address.v4.sin_addr)) {
        prefix.address.v4.sin_family = AF_INET;
    } else if (parse_v6(host, prefix.address.v6.sin6_addr)) {
        prefix.address.v6.sin6_family = AF_INET6;
    } else {
        return wrong_text(text, quoted(host) + " is not an address",
                          "write for example 10.0.0.0/8, 192.0.2.7 or fd00::/8");
    }
    const auto most = static_cast<uint32_t>(8 * bytes_of(prefix.address).size());
    prefix.bits = most;
    if (slash < text.size()) {
        const std::string_view digits = text.substr(slash + 1);
        uint16_t bits = 0;
        if (!parse_port(digits, bits) || bits > most) {
            return wrong_text(text, quoted(digits) + " is not the length of a prefix",
                              "write a number up to " + std::to_string(most));
        }
        prefix.bits = bits;
    }
    const std::span<const uint8_t> bytes = bytes_of(prefix.address);
    for (size_t at = 0; at < bytes.size(); ++at) {
        if ((bytes[at] & ~mask_of(prefix.bits, at)) != 0) {
            return wrong_text(text, "has bits behind its prefix of " + std::to_string(prefix.bits),
                              "write them as zeros, or the whole address without a prefix");
        }
    }
    if (prefix.address.base.sa_family == AF_INET6 && prefix.bits >= 96) {
        prefix.address.unmap();
        if (prefix.address.base.sa_family == AF_INET) prefix.bits -= 96;
    }
    return prefix;
}

std::vector<AddressPrefix> loopback_prefixes() {
    return {*parse_prefix("127.0.0.0/8"), *parse_prefix("::1/128")};
}

Result<SocketAddress> parse_address(std::string_view text) {
    constexpr std::string_view kRemedy =
        "write HOST:PORT, for example 127.0.0.1:9000 or [::1]:9000";
    size_t host_end = 0;
    if (text.starts_with('[')) {
        host_end = text.find(']');
        if (host_end == std::string_view::npos)
            return wrong_text(text, "no closing bracket", kRemedy);
        ++host_end;
    } else {
        // The last colon: a bare IPv6 address then shows itself as a host with colons.
        host_end = std::min(text.rfind(':'), text.size());
    }
    const std::string_view host = text.substr(0, host_end);
    std::string_view port_text = text.substr(host_end);
    if (host.empty()) return wrong_text(text, "no host", kRemedy);
    if (!port_text.starts_with(':') || port_text.size() == 1) {
        if (in6_addr ignored; parse_v6(text, ignored))
            return wrong_text(text, "an IPv6 address without brackets and port", kRemedy);
        return wrong_text(text, "no port", kRemedy);
    }
    port_text.remove_prefix(1);
    uint16_t port = 0;
    if (!parse_port(port_text, port))
        return wrong_text(text, quoted(port_text) + " is not a port",
                          "a port is a number up to 65535");
    Result<SocketAddress> address = parse_host(text, host);
    if (address) address->set_port(port);
    return address;
}

uint32_t number_of(const SocketAddress& address, const SipKey& key) {
    if (!address.present()) return 0;
    uint64_t site = 0;
    if (address.base.sa_family == AF_INET6)
        std::memcpy(&site, &address.v6.sin6_addr, sizeof site);
    else
        std::memcpy(&site, &address.v4.sin_addr, sizeof address.v4.sin_addr);
    const uint64_t hash = sip_hash(key, site, address.base.sa_family);
    return std::max(1u, static_cast<uint32_t>(hash));
}

PeerAddress plain_address(const SocketAddress& address) {
    PeerAddress plain;
    if (address.base.sa_family == AF_INET) {
        plain.family = 4;
        std::memcpy(plain.bytes.data(), &address.v4.sin_addr, sizeof address.v4.sin_addr);
    } else if (address.base.sa_family == AF_INET6) {
        plain.family = 6;
        std::memcpy(plain.bytes.data(), &address.v6.sin6_addr, sizeof address.v6.sin6_addr);
    } else {
        return plain;
    }
    plain.port = address.port();
    return plain;
}

SocketAddress socket_address(const PeerAddress& plain) {
    SocketAddress address;
    if (plain.family == 4) {
        address.v4.sin_family = AF_INET;
        std::memcpy(&address.v4.sin_addr, plain.bytes.data(), sizeof address.v4.sin_addr);
    } else if (plain.family == 6) {
        address.v6.sin6_family = AF_INET6;
        std::memcpy(&address.v6.sin6_addr, plain.bytes.data(), sizeof address.v6.sin6_addr);
    } else {
        return address;
    }
    address.set_port(plain.port);
    return address;
}

}  // namespace pulse
