// Scheme, authority, path.
#include "net/client/endpoint.h"

#include <algorithm>
#include <charconv>

#include "proto/http_fields.h"

namespace pulse::client {
namespace {

constexpr size_t kPathBytesMax = 4'096;
constexpr uint16_t kHttpPort = 80;
constexpr std::string_view kForms =
    "write ws://HOST:PORT/PATH, auto://HOST:PORT or jsonl://HOST:PORT";

bool is_visible(char byte) { return byte > ' ' && byte < 0x7f; }

Result<Framing> framing_of(std::string_view url, std::string_view scheme) {
    for (const std::string_view name : {"ws", "auto"}) {
        if (equal_ignoring_case(scheme, name)) return Framing::websocket;
    }
    if (equal_ignoring_case(scheme, "jsonl")) return Framing::lines;
    for (const std::string_view name : {"wss", "tls+ws", "tls+auto", "tls+jsonl"}) {
        if (equal_ignoring_case(scheme, name))
            return wrong_text(url, "this client does not speak TLS",
                              "use ws:// to a proxy on this machine that adds it");
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
    const Result<Framing> framing = framing_of(url, url.substr(0, scheme_end));
    if (!framing) return Error{framing.error()};
    Endpoint endpoint;
    endpoint.framing = *framing;
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
    const bool may_lack_port = equal_ignoring_case(url.substr(0, scheme_end), "ws");
    if (authority->port == 0 && !may_lack_port) return wrong_text(url, "no port", kForms);
    endpoint.port = authority->port == 0 ? kHttpPort : authority->port;
    endpoint.authority = authority->host;
    if (endpoint.port != kHttpPort) endpoint.authority += ":" + std::to_string(endpoint.port);
    endpoint.host = authority->host;
    if (endpoint.host.starts_with('['))
        endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    return endpoint;
}

std::optional<Endpoint> move_target(std::string_view target, Framing spoken) {
    std::string url(target);
    constexpr std::string_view kAuto = "auto:";
    if (equal_ignoring_case(target.substr(0, kAuto.size()), kAuto))
        url = (spoken == Framing::lines ? "jsonl:" : "ws:") + url.substr(kAuto.size());
    Result<Endpoint> endpoint = parse_endpoint(url);
    if (!endpoint || endpoint->framing != spoken) return std::nullopt;
    return *endpoint;
}

}  // namespace pulse::client
