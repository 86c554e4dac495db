// A URL of one scheme, in its parts.
#include "net/observe/otlp_endpoint.h"

#include <algorithm>
#include <charconv>

#include "net/observe/limits.h"

namespace pulse {
namespace {

constexpr std::string_view kScheme = "http://";
constexpr std::string_view kDefaultPath = "/v1/traces";

bool is_host_byte(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_';
}
bool is_address_byte(char byte) { return is_host_byte(byte) || byte == ':' || byte == '%'; }
bool is_path_byte(char byte) { return byte > ' ' && byte <= '~' && byte != '#'; }

Error refuse(std::string_view text, std::string_view what, std::string_view remedy) {
    std::string message = "'";
    return Error{message.append(text).append("' ").append(what).append("; ").append(remedy)};
}

}  // namespace

std::string OtlpEndpoint::authority() const {
    const bool brackets = host.find(':') != std::string::npos;
    return (brackets ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

std::string OtlpEndpoint::text() const {
    return std::string(kScheme).append(authority()).append(path);
}

Result<OtlpEndpoint> parse_otlp_endpoint(std::string_view text) {
    constexpr std::string_view kRemedy = "write http://HOST:PORT or http://HOST:PORT/PATH";
    if (text.starts_with("https://")) {
        return refuse(text, "wants TLS, which the exporter does not speak",
                      "send to a collector on this machine by http://, and let it do that");
    }
    if (!text.starts_with(kScheme)) return refuse(text, "is not an http:// URL", kRemedy);
    std::string_view rest = text.substr(kScheme.size());
    const size_t slash = std::min(rest.find('/'), rest.size());
    OtlpEndpoint endpoint;
    endpoint.path = slash + 1 < rest.size() ? rest.substr(slash) : kDefaultPath;
    rest = rest.substr(0, slash);
    const size_t colon = rest.rfind(':');
    if (colon == std::string_view::npos) return refuse(text, "has no port", kRemedy);
    std::string_view host = rest.substr(0, colon);
    const std::string_view digits = rest.substr(colon + 1);
    bool host_is_right = false;
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
        host_is_right = std::ranges::all_of(host, is_address_byte);
    } else {
        host_is_right = std::ranges::all_of(host, is_host_byte);
    }
    if (!host_is_right || host.empty() || host.size() > kOtlpHostBytesMax)
        return refuse(text, "names no host", kRemedy);
    endpoint.host = host;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), endpoint.port);
    if (error != std::errc{} || end != digits.data() + digits.size() || endpoint.port == 0)
        return refuse(text, "has a port that is not one from 1 to 65535", kRemedy);
    if (!std::ranges::all_of(endpoint.path, is_path_byte) ||
        endpoint.path.size() > kOtlpPathBytesMax)
        return refuse(text, "has a path that no URL has", kRemedy);
    return endpoint;
}

}  // namespace pulse
