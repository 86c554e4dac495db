// Where traces are sent: http://HOST:PORT/PATH of an OpenTelemetry collector, or of what speaks its
// protocol (OTLP/HTTP with JSON).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace pulse {

struct OtlpEndpoint {
    std::string host;  // without brackets, where it is an address of IPv6
    uint16_t port = 0;
    std::string path;
    std::string authority() const;  // HOST:PORT, as a Host header has it
    std::string text() const;       // the whole URL
};

// http://HOST:PORT[/PATH]; the default path is /v1/traces. HOST is a name, an IPv4 address, or an
// IPv6 address in brackets; a name is looked up when it is connected to. The error is
// "'TEXT' reason; remedy".
Result<OtlpEndpoint> parse_otlp_endpoint(std::string_view text);

}  // namespace pulse
