// Text to listeners.
#include "net/protocols/listen_uri.h"

#include <algorithm>
#include <optional>
#include <string>

#include "core/units.h"
#include "net/protocols/protocol.h"

namespace pulse {
namespace {

constexpr std::string_view kMaxConnections = "max-connections=";

// What follows the '?' of a listener: name=value, joined by '&'.
Result<void> parse_options(std::string_view uri, std::string_view options,
                           ListenAddress& listener) {
    while (!options.empty()) {
        const size_t end = std::min(options.find('&'), options.size());
        const std::string_view option = options.substr(0, end);
        options.remove_prefix(std::min(end + 1, options.size()));
        if (option == "proxy=on") {
            listener.expects_proxy_header = true;
        } else if (option == "proxy=off") {
            listener.expects_proxy_header = false;
        } else if (option.starts_with(kMaxConnections)) {
            const Result<uint64_t> most = parse_count(option.substr(kMaxConnections.size()));
            if (!most || *most == 0 || *most > UINT32_MAX) {
                return wrong_text(uri, quoted(option) + " is not a number of connections",
                                  "write something like ?max-connections=50k");
            }
            listener.connections_max = static_cast<uint32_t>(*most);
        } else {
            return wrong_text(uri, quoted(option) + " is not an option of a listener",
                              "write ?proxy=on, ?proxy=off, ?max-connections=N, or nothing");
        }
    }
    return {};
}

}  // namespace

Result<ListenAddress> parse_listen_uri(std::string_view uri) {
    ListenAddress listener;
    listener.text = uri;
    std::string_view rest = uri;
    if (const size_t end = uri.find("://"); end != std::string_view::npos) {
        const std::string_view scheme = uri.substr(0, end);
        std::optional<uint8_t> protocol = find_tls_scheme(scheme);
        listener.tls = protocol.has_value();
        if (!protocol) protocol = find_scheme(scheme);
        if (!protocol) {
            return wrong_text(uri, quoted(scheme) + " is not a known scheme",
                              "write " + scheme_list() +
                                  " before HOST:PORT, with tls+ before it, or wss://, for TLS");
        }
        listener.protocol = *protocol;
        rest.remove_prefix(end + 3);
    }
    if (const size_t mark = rest.find('?'); mark != std::string_view::npos) {
        if (Result<void> done = parse_options(uri, rest.substr(mark + 1), listener); !done)
            return Error{done.error()};
        rest = rest.substr(0, mark);
    }
    if (rest.ends_with('/')) rest.remove_suffix(1);
    if (rest.find('/') != std::string_view::npos)
        return wrong_text(uri, "a listener has no path", "write only SCHEME://HOST:PORT");
    constexpr std::string_view kPassed = "fd:";
    if (rest.starts_with(kPassed)) {
        listener.passed_name = rest.substr(kPassed.size());
        if (listener.passed_name.empty() || listener.passed_name.find(':') != std::string::npos)
            return wrong_text(uri, "not a name behind fd:",
                              "write fd:NAME, with the FileDescriptorName= of the socket");
        return listener;
    }
    Result<SocketAddress> address = parse_address(rest);
    if (!address) {
        // The part that was wrong is named; the whole is what the operator can find again.
        return rest == uri ? Error{address.error()}
                           : Error{"'" + std::string(uri) + "': " + address.error()};
    }
    listener.address = *address;
    return listener;
}

}  // namespace pulse
