// Reading targets, headers and subprotocols; looking names up.
#include "tools/pulseload/run/target.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "net/client/endpoint.h"
#include "net/protocols/protocol.h"

namespace pulse::load {
namespace {

constexpr size_t kPathBytesMax = 4'096;
constexpr int kTryConnectMs = 1'000;
constexpr std::string_view kForms =
    "write ws://HOST:PORT/PATH, tcp://HOST:PORT, jsonl://HOST:PORT or auto://HOST:PORT, with TLS "
    "wss://HOST:PORT/PATH or tls+ before the others, or unix:/PATH/OF/SOCKET";

bool is_visible(char c) { return c > ' ' && c < 0x7f; }

// RFC 9110 5.6.2.
bool is_token(std::string_view text) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    return !text.empty() && std::ranges::all_of(text, [&](char c) {
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        return letter || (c >= '0' && c <= '9') || kMarks.find(c) != kMarks.npos;
    });
}

bool equal_without_case(std::string_view one, std::string_view other) {
    const auto lower = [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    return std::ranges::equal(one, other, {}, lower, lower);
}

Result<void> read_path(std::string_view text, std::string_view path, Target& target) {
    if (path.size() > kPathBytesMax || !std::ranges::all_of(path, is_visible))
        return wrong_text(text, "the path is over 4096 bytes or has a blank",
                          "encode it as in %20");
    if (path.find('#') != path.npos)
        return wrong_text(text, "a WebSocket URL has no fragment (RFC 6455 3)", "leave out '#...'");
    if (path == "?proxy=on" || path == "/?proxy=on")
        return wrong_text(text, "no PROXY header is sent", "leave out '?proxy=on'");
    target.path = (path.starts_with('/') ? "" : "/") + std::string(path);
    return {};
}

// unix:/run/app.sock, unix:/run/app.sock:/path?query
Result<Target> parse_unix(std::string_view text) {
    Target target;
    target.text = text;
    target.host = "localhost";
    const std::string_view rest = text.substr(std::string_view("unix:").size());
    const size_t colon = rest.find(':');
    target.unix_path = rest.substr(0, colon);
    if (!target.unix_path.starts_with('/') ||
        target.unix_path.size() >= sizeof(sockaddr_un::sun_path))
        return wrong_text(text, "is not the path of a Unix socket (absolute, under 108 bytes)",
                          "write unix:/run/app.sock or unix:/run/app.sock:/path");
    if (colon == rest.npos) return target;
    if (Result<void> path = read_path(text, rest.substr(colon + 1), target); !path)
        return Error{path.error()};
    return target;
}

bool takes_connection(const SocketAddress& address) {
    const int descriptor =
        socket(address.base.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return false;
    int error = connect(descriptor, &address.base, address.size_bytes()) == 0 ? 0 : errno;
    pollfd events{descriptor, POLLOUT, 0};
    if (error == EINPROGRESS && poll(&events, 1, kTryConnectMs) == 1) {
        socklen_t bytes = sizeof error;
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &bytes);
    }
    close(descriptor);
    return error == 0;
}

Result<SocketAddress> look_up(std::string_view text, const std::string& name, uint16_t port) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failed = getaddrinfo(name.c_str(), nullptr, &hints, &found);
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, [](addrinfo* list) {
        if (list != nullptr) freeaddrinfo(list);
    });
    if (failed != 0) {
        return wrong_text(text,
                          fmt::format("'{}' cannot be looked up: {}", name, gai_strerror(failed)),
                          "correct the name, or write an address");
    }
    std::vector<SocketAddress> addresses;
    for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
        SocketAddress address;
        if (each->ai_addrlen > sizeof(sockaddr_in6)) continue;
        std::memcpy(&address.base, each->ai_addr, each->ai_addrlen);
        address.set_port(port);
        addresses.push_back(address);
    }
    if (addresses.empty())
        return wrong_text(text, "'" + name + "' has no address", "write an address");
    for (const SocketAddress& address : addresses) {
        if (addresses.size() > 1 && takes_connection(address)) return address;
    }
    return addresses.front();
}

Result<void> read_scheme(std::string_view text, std::string_view name, Target& target) {
    std::optional<uint8_t> protocol = find_tls_scheme(name);
    target.tls = protocol.has_value();
    if (!protocol) protocol = find_scheme(name);
    if (protocol) {
        target.scheme = kProtocols[*protocol]->scheme;
        return {};
    }
    if (name == "http" || name == "https")
        return wrong_text(text, "a WebSocket URL has another scheme (RFC 6455 3)",
                          name == "https" ? "write wss://" : "write ws://");
    return wrong_text(text, fmt::format("'{}' is not a known scheme", name), kForms);
}

}  // namespace

std::string Target::address_text() const {
    return unix_path.empty() ? address.text() : "unix:" + unix_path;
}

Result<Target> parse_target(std::string_view text) {
    if (text.starts_with("unix:")) return parse_unix(text);
    Target target;
    target.text = text;
    std::string_view rest = text;
    if (const size_t end = text.find("://"); end != text.npos) {
        if (Result<void> scheme = read_scheme(text, text.substr(0, end), target); !scheme)
            return Error{scheme.error()};
        rest.remove_prefix(end + 3);
    }
    const bool has_requests = target.scheme == "ws" || target.scheme == "auto";
    if (const size_t end = rest.find_first_of("/?#"); end != rest.npos) {
        if (rest.substr(end) != "/") {
            if (!has_requests)
                return wrong_text(text, "only a WebSocket target has a path",
                                  "leave it out, or use ws://");
            if (Result<void> path = read_path(text, rest.substr(end), target); !path)
                return Error{path.error()};
        }
        rest = rest.substr(0, end);
    }
    const Result<client::Authority> authority = client::split_authority(text, rest, kForms);
    if (!authority) return Error{authority.error()};
    const uint16_t port_usual = target.tls ? 443 : 80;
    const uint16_t port = authority->port == 0 ? port_usual : authority->port;
    if (authority->port == 0 && target.scheme != "ws") return wrong_text(text, "no port", kForms);
    target.host = target.server = authority->host;
    if (port != port_usual) target.host += ":" + std::to_string(port);
    if (target.server.starts_with('['))
        target.server = target.server.substr(1, target.server.size() - 2);
    const std::string with_port = std::string(authority->host) + ":" + std::to_string(port);
    if (authority->host == "*")
        return wrong_text(text, "'*' is where a server listens", "write the host to connect to");
    if (const Result<SocketAddress> address = parse_address(with_port)) {
        target.address = *address;
        return target;
    }
    if (authority->host.starts_with('['))
        return wrong_text(text, "is not an IPv6 address", "write for example [::1]:9000");
    const Result<SocketAddress> address = look_up(text, std::string(authority->host), port);
    if (!address) return Error{address.error()};
    target.address = *address;
    return target;
}

Result<std::string> parse_header(std::string_view text) {
    const size_t colon = text.find(':');
    const std::string_view name = text.substr(0, colon);
    const bool clean = std::ranges::all_of(
        text, [](char c) { return static_cast<unsigned char>(c) >= ' ' && c != 0x7f; });
    if (colon == text.npos || !is_token(name) || !clean)
        return wrong_text(text, "is not a header", "write 'Name: value' on one line");
    for (const std::string_view own :
         {"Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
          "Sec-WebSocket-Extensions", "Sec-WebSocket-Accept"}) {
        if (equal_without_case(name, own))
            return wrong_text(text, "the handshake has its own", "leave it out");
    }
    if (equal_without_case(name, "Sec-WebSocket-Protocol"))
        return wrong_text(text, "is a subprotocol", "use --subprotocol");
    return std::string(text);
}

Result<std::string> parse_subprotocol(std::string_view text) {
    if (!is_token(text))
        return wrong_text(text, "is not a token (RFC 9110 5.6.2)", "write a name such as chat.v2");
    if (text == "pulse.v1.binary")
        return wrong_text(text, "frames within messages are not spoken here",
                          "use a tcp:// target");
    return std::string(text);
}

}  // namespace pulse::load
