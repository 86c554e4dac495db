// Looking rows up, and the schemes that they make.
#include <algorithm>

#include "net/protocols/protocol.h"

namespace pulse {

constexpr const Protocol* kProtocols[] = {
#define X(name) &name##_protocol,
#include "net/protocols/protocols.def"
#undef X
};
static_assert(kProtocols[kUndetected] == &undetected_protocol);
static_assert(std::size(kProtocols) <= 256, "a record holds the number in a byte");

std::span<const Protocol* const> all_protocols() { return kProtocols; }

uint8_t with_dialect(uint8_t protocol, Dialect dialect) {
    const Protocol& now = *kProtocols[protocol];
    if (!now.dialect_is_open) return protocol;
    const auto row = std::ranges::find_if(kProtocols, [&](const Protocol* other) {
        return other->framing == now.framing && other->dialect == dialect;
    });
    if (row == std::end(kProtocols)) return protocol;
    return static_cast<uint8_t>(row - std::begin(kProtocols));
}

std::optional<uint8_t> find_scheme(std::string_view scheme) {
    if (scheme.empty()) return std::nullopt;
    const auto row = std::ranges::find(kProtocols, scheme, &Protocol::scheme);
    if (row == std::end(kProtocols)) return std::nullopt;
    return static_cast<uint8_t>(row - std::begin(kProtocols));
}

std::optional<uint8_t> find_tls_scheme(std::string_view scheme) {
    constexpr std::string_view kBelow = "tls+";
    if (scheme == "wss") return find_scheme("ws");
    if (!scheme.starts_with(kBelow)) return std::nullopt;
    return find_scheme(scheme.substr(kBelow.size()));
}

std::string scheme_list() {
    std::string list;
    const auto has_scheme = [](const Protocol* row) { return !row->scheme.empty(); };
    const auto rows = std::ranges::count_if(kProtocols, has_scheme);
    std::ptrdiff_t written = 0;
    for (const Protocol* row : kProtocols) {
        if (!has_scheme(row)) continue;
        if (written > 0) list += written + 1 < rows ? ", " : " or ";
        list.append(row->scheme).append("://");
        ++written;
    }
    return list;
}

std::string scheme_help() {
    std::string help;
    for (const Protocol* row : kProtocols) {
        if (row->scheme.empty()) continue;
        if (!help.empty()) help += "; ";
        help.append(row->scheme).append(":// ").append(row->title);
    }
    return help;
}

}  // namespace pulse
