// Listener URIs, such as auto://HOST:PORT: which protocol, where, and what comes before it.
#pragma once

#include <string_view>

#include "core/result.h"
#include "net/io/address.h"

namespace pulse {

// "tcp://127.0.0.1:9000", "auto://*:9000?proxy=on", "wss://*:443"; a bare HOST:PORT means auto://.
// "ws://fd:NAME" is a socket that is passed by that name (tools/pulsewheel/passed_sockets.h). The
// schemes are those of kProtocols. An error names the URI, what is wrong, the remedy.
Result<ListenAddress> parse_listen_uri(std::string_view uri);

}  // namespace pulse
