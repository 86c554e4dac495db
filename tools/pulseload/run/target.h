// Where a run connects to, read from text. A target may be any server: WebSocket by URL or Unix
// socket, or Pulsewheel's own protocols.
//
//     ws://name:port/path?query      ws://[::1]:9000      auto://127.0.0.1:9000
//     tcp://127.0.0.1:9000           jsonl://...          unix:/run/app.sock:/path?query
//     wss://name:port/path?query     tls+tcp://...        tls+jsonl://...    tls+auto://...
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "net/io/address.h"

namespace pulse::load {

struct Target {
    SocketAddress address;  // none where unix_path is set
    std::string unix_path;
    std::string_view scheme = "auto";  // of kProtocols (net/protocols/protocol.h)
    bool tls = false;                  // below it
    std::string server;                // what TLS asks for: the name, or the address
    std::string host;        // as a WebSocket request names it
    std::string path = "/";  // with its query
    std::string text;        // as given

    // Only Pulsewheel speaks its protocols; what speaks WebSocket may be any server.
    bool is_ours() const { return scheme != "ws" && unix_path.empty(); }
    std::string address_text() const;
};

// Looks names up; of a name with several addresses, the first that takes a connection is chosen.
// The error names the text, the reason and the remedy.
Result<Target> parse_target(std::string_view text);

// "Name: value", for --header. Fails for what is not a header, and for those of the handshake.
Result<std::string> parse_header(std::string_view text);

// A token, for --subprotocol.
Result<std::string> parse_subprotocol(std::string_view text);

}  // namespace pulse::load
