// Scheme, authority, path.
#include "net/client/endpoint.h"

#include <algorithm>
#include <charconv>

#include "proto/http_fields.h"

namespace pulse::client {
namespace {

constexpr size_t kPathBytesMax = 4'096;
constexpr uint16_t kHttpPort = 80;
constexpr uint16_t kHttpsPort = 443;
constexpr std::string_view kForms =
    "write wss://HOST:PORT/PATH, tls+auto://HOST:PORT or tls+jsonl://HOST:PORT, without TLS ws://, "
    "auto:// or jsonl://";

bool is_visible(char byte) { return byte > ' ' && byte < 0x7f; }

struct Scheme {
    std::string_view name;
    Framing framing;
    bool tls;
    uint16_t port;  // where none is named; 0: one must be
};
constexpr Scheme kSchemes[] = {
    {"ws", Framing::websocket, false, kHttpPort},     {"wss", Framing::websocket, true, kHttpsPort},
    {"tls+ws", Framing::websocket, true, kHttpsPort}, {"auto", Framing::websocket, false, 0},
    {"tls+auto", Framing::websocket, true, 0},        {"jsonl", Framing::lines, false, 0},
    {"tls+jsonl", Framing::lines, true, 0},
};

Result<Scheme> scheme_of(std::string_view url, std::string_view name) {
    for (const Scheme& scheme : kSchemes) {
        if (equal_ignoring_case(scheme.name, name)) return scheme;
    }
    return wrong_text(url, "its scheme is not spoken", kForms);
}

Result<void> read_path(std::string_view url, std::string_view path, Endpoint& endpoint) {
    if (path.size() > kPathBytesMax || !std::ranges::all_of(path, is_visible))
        return wrong_text(url, "the path is over 4096 bytes, or has a blank or what is not ASCII",
                          "encode it as in %20");
    if (path.find('#') != path.npos)
        return wrong_text(url, "a WebSocket URL has no fragment (RFC 6455 3)", "leave out '#...'");
    if (endpoint.framing == Framing::lines && path != "/")
        return wrong_text(url, "only a WebSocket has a path", "leave it out");
    endpoint.path = (path.starts_with('/') ? "" : "/") + std::string(path);
    return {};
}

}  // namespace

Result<Authority> split_authority(std::string_view text, std::string_view authority,
                                  std::string_view forms) {
    Authority split;
    size_t end = authority.rfind(':');
    if (authority.starts_with('[')) {
        const size_t bracket = authority.find(']');
        if (bracket == authority.npos) return wrong_text(text, "no closing bracket", forms);
        end = bracket + 1;
        if (end < authority.size() && authority[end] != ':')
            return wrong_text(text, "something follows the bracket that is not a port", forms);
    } else if (authority.find(':') != end) {
        return wrong_text(text, "an IPv6 address without brackets", "write [ADDRESS]:PORT");
    }
    split.host = authority.substr(0, end);
    if (split.host.empty() || split.host == "[]") return wrong_text(text, "no host", forms);
    if (end >= authority.size()) return split;
    const std::string_view digits = authority.substr(end + 1);
    const char* const digits_end = digits.data() + digits.size();
    const auto [stopped, error] = std::from_chars(digits.data(), digits_end, split.port);
    if (error != std::errc{} || stopped != digits_end || split.port == 0)
        return wrong_text(text, quoted(digits) + " is not a port",
                          "a port is a number from 1 to 65535");
    return split;
}

Result<Endpoint> parse_endpoint(std::string_view url) {
    const size_t scheme_end = url.find("://");
    if (scheme_end == url.npos) return wrong_text(url, "no scheme", kForms);
    const Result<Scheme> scheme = scheme_of(url, url.substr(0, scheme_end));
    if (!scheme) return Error{scheme.error()};
    Endpoint endpoint;
    endpoint.framing = scheme->framing;
    endpoint.tls = scheme->tls;
    endpoint.url = url;
    std::string_view rest = url.substr(scheme_end + 3);
    if (const size_t end = rest.find_first_of("/?#"); end != rest.npos) {
        if (Result<void> path = read_path(url, rest.substr(end), endpoint); !path)
            return Error{path.error()};
        rest = rest.substr(0, end);
    }
    if (!std::ranges::all_of(rest, is_visible) || rest.find('@') != rest.npos)
        return wrong_text(url, "its host has a blank, an @, or what is not ASCII", kForms);
    const Result<Authority> authority = split_authority(url, rest, kForms);
    if (!authority) return Error{authority.error()};
    if (authority->host == "*")
        return wrong_text(url, "'*' is where a server listens", "write the host to connect to");
    endpoint.port = authority->port == 0 ? scheme->port : authority->port;
    if (endpoint.port == 0) return wrong_text(url, "no port", kForms);
    endpoint.authority = authority->host;
    if (endpoint.port != (endpoint.tls ? kHttpsPort : kHttpPort))
        endpoint.authority += ":" + std::to_string(endpoint.port);
    endpoint.host = authority->host;
    if (endpoint.host.starts_with('['))
        endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    return endpoint;
}

std::optional<Endpoint> move_target(std::string_view target, const Endpoint& from) {
    const size_t scheme_end = target.find("://");
    if (scheme_end == target.npos) return std::nullopt;
    std::string url(target);
    const bool lines = from.framing == Framing::lines;
    // As the JavaScript client: of all protocols, with TLS where that is spoken already.
    if (equal_ignoring_case(target.substr(0, scheme_end), "auto")) {
        const std::string_view spoken =
            from.tls ? (lines ? "tls+jsonl" : "wss") : (lines ? "jsonl" : "ws");
        url.replace(0, scheme_end, spoken);
    } else if (equal_ignoring_case(target.substr(0, scheme_end), "tls+auto")) {
        url.replace(0, scheme_end, lines ? "tls+jsonl" : "wss");
    }
    Result<Endpoint> endpoint = parse_endpoint(url);
    if (!endpoint || endpoint->framing != from.framing) return std::nullopt;
    if (from.tls && !endpoint->tls) return std::nullopt;
    return *endpoint;
}

}  // namespace pulse::client
