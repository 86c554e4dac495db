// Detection by prefix.
#include "proto/detect.h"

#include <algorithm>
#include <string_view>

namespace pulse {
namespace {

struct Prefix {
    std::string_view text;
    Protocol protocol;
};

// Methods of RFC 9110 section 9 and RFC 5789; a registry of more exists, no client begins with
// them.
constexpr Prefix kPrefixes[] = {
    {"GET ", Protocol::websocket},
    {"HEAD ", Protocol::websocket},
    {"POST ", Protocol::websocket},
    {"PUT ", Protocol::websocket},
    {"DELETE ", Protocol::websocket},
    {"OPTIONS ", Protocol::websocket},
    {"PATCH ", Protocol::websocket},
    {"TRACE ", Protocol::websocket},
    {"CONNECT ", Protocol::websocket},
    {"PING", Protocol::jsonl},
    {"ping", Protocol::jsonl},
    {"{", Protocol::jsonl},
    {" ", Protocol::jsonl},
    {"\t", Protocol::jsonl},
    {"\r", Protocol::jsonl},
    {"\n", Protocol::jsonl},
    {"\xB7", Protocol::binary},
};

constexpr std::string_view kTls("\x16\x03", 2);

}  // namespace

Detected detect_protocol(std::span<const uint8_t> bytes) {
    const std::string_view seen(reinterpret_cast<const char*>(bytes.data()),
                                std::min(bytes.size(), kDetectBytesMax));
    bool undecided = seen.empty();
    for (const Prefix& prefix : kPrefixes) {
        const std::string_view known = prefix.text.substr(0, kDetectBytesMax);
        const size_t common = std::min(known.size(), seen.size());
        if (known.substr(0, common) != seen.substr(0, common)) continue;
        if (common == known.size()) return {prefix.protocol, {}};
        undecided = true;
    }
    const size_t common = std::min(kTls.size(), seen.size());
    if (kTls.substr(0, common) == seen.substr(0, common)) {
        if (common == kTls.size()) {
            return {Protocol::detect,
                    {CloseReason::protocol_error, "TLS is not spoken on this port"}};
        }
        undecided = true;
    }
    if (undecided) return {};
    return {Protocol::detect,
            {CloseReason::protocol_error, "neither a binary frame nor HTTP nor a line of JSON"}};
}

}  // namespace pulse
