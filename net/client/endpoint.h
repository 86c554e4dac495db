// Where a client connects to, read from text. Pure.
//
//     ws://name:port/path?query      ws://[::1]:9000      auto://127.0.0.1:9000
//     jsonl://127.0.0.1:9000
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace pulse::client {

// How messages are told apart on a stream: each a WebSocket message, or a line.
enum class Framing : uint8_t { websocket, lines };

struct Endpoint {
    Framing framing = Framing::websocket;
    bool tls = false;
    std::string host;  // a name or an address, an IPv6 address without its brackets
    uint16_t port = 0;
    std::string authority;   // as a Host header names it
    std::string path = "/";  // with its query
    std::string url;         // as given
};

// "auto" is a server's scheme for a listener of all protocols: WebSocket, here. wss is tls+ws. ws
// has port 80 and wss 443 where none is named; the others must name one. The error names the text,
// the reason, the remedy.
Result<Endpoint> parse_endpoint(std::string_view url);

// "HOST:PORT", "[::1]:9000"; without a port `port` is 0. Fails for what is neither. `forms` is the
// remedy that an error about the form of all of `text` has.
struct Authority {
    std::string_view host;  // an IPv6 address in its brackets
    uint16_t port = 0;
};
Result<Authority> split_authority(std::string_view text, std::string_view authority,
                                  std::string_view forms);

// Where a goodbye sends its reader, who is at `from`. None: it is not an address that this client
// reaches by what it speaks already, since a session, and what waits, are of one protocol; or it
// would leave TLS.
std::optional<Endpoint> move_target(std::string_view target, const Endpoint& from);

}  // namespace pulse::client
