// The rows' prefixes, and those of TLS and PROXY headers.
#include "net/protocols/first_bytes.h"

#include <algorithm>
#include <string>
#include <vector>

#include "net/protocols/refusal.h"

namespace pulse {
namespace {

using namespace std::string_view_literals;

struct Foreign {
    WireKind kind;
    std::string_view name;
    std::span<const Prefix> prefixes;
    std::string_view refusal_reason;
};
constexpr Prefix kTls[] = {{"\x16\x03"sv}};
constexpr Prefix kProxyHeader[] = {{"PROXY "sv}, {"\r\n\r\n\0\r\nQUIT\n"sv}};
constexpr Foreign kForeign[] = {
    {WireKind::tls, "TLS", kTls,
     "this listener speaks no TLS: connect without it, or let the server have a certificate "
     "(--tls-cert), with which auto:// and wss:// speak it"},
    {WireKind::proxy_header, "a PROXY header", kProxyHeader,
     "this listener expects no PROXY header: add ?proxy=on to its URI"},
};

const Foreign* find_foreign(WireKind kind) {
    const auto found = std::ranges::find(kForeign, kind, &Foreign::kind);
    return found == std::end(kForeign) ? nullptr : found;
}

// The longest match wins, once no longer one is possible.
FirstBytes longest_match(std::span<const uint8_t> bytes) {
    FirstBytes first{.kind = WireKind::unknown};
    size_t longest = 0;
    bool may_grow = false;
    const auto consider = [&](std::span<const Prefix> prefixes, WireKind kind, size_t row) {
        const PrefixMatch match = match_prefixes(bytes, prefixes);
        may_grow |= match.may_grow;
        if (match.bytes <= longest) return;
        longest = match.bytes;
        first = {.kind = kind, .protocol = static_cast<uint8_t>(row)};
    };
    for (size_t row = 0; row < all_protocols().size(); ++row) {
        consider(kProtocols[row]->prefixes, WireKind::spoken, row);
    }
    for (const Foreign& foreign : kForeign) consider(foreign.prefixes, foreign.kind, kUndetected);
    return may_grow ? FirstBytes{} : first;
}

// What a listener of all protocols says it speaks: made once, since a detail is a view.
std::string_view all_of_them() {
    static const std::string text = [] {
        std::vector<std::string_view> titles;
        for (const Protocol* protocol : all_protocols())
            if (!protocol->prefixes.empty()) titles.push_back(protocol->title);
        std::string list = "not a protocol of this listener (auto://): ";
        for (size_t i = 0; i < titles.size(); ++i) {
            if (i > 0) list += i + 1 < titles.size() ? ", " : ", or ";
            list += titles[i];
        }
        return list;
    }();
    return text;
}

std::string_view refusal_reason(WireKind kind, uint8_t listener) {
    if (const Foreign* foreign = find_foreign(kind)) return foreign->refusal_reason;
    return listener == kUndetected ? all_of_them() : kProtocols[listener]->only_this;
}

}  // namespace

FirstBytes classify(std::span<const uint8_t> bytes, uint8_t listener) {
    FirstBytes first = longest_match(bytes);
    const bool spoken =
        first.kind == WireKind::spoken && (listener == kUndetected || listener == first.protocol);
    if (first.kind != WireKind::undecided && !spoken) {
        first.fault = {CloseReason::wrong_protocol, refusal_reason(first.kind, listener)};
    }
    return first;
}

std::string_view name_of_what_began(std::span<const uint8_t> bytes, const FirstBytes& first) {
    if (const std::string_view name = name_of_foreign(bytes); !name.empty()) return name;
    if (const Foreign* foreign = find_foreign(first.kind)) return foreign->name;
    return kProtocols[first.protocol]->prefix_name;
}

RefusalMessage reject(const FirstBytes& first) {
    const uint16_t code = describe(first.fault.fault).code;
    RefusalMessage nothing;
    switch (first.kind) {
        case WireKind::proxy_header:
            return nothing;
        case WireKind::tls:
            return nothing << "\x15\x03\x03\x00\x02\x02\x28"sv;
        case WireKind::spoken:
        case WireKind::unknown:
        case WireKind::undecided:
            break;
    }
    return kProtocols[first.protocol]->reject(code, first.fault.detail);
}

}  // namespace pulse
