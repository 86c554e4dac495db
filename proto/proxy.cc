// Both versions of the header, from their bytes alone.
#include "proto/proxy.h"

#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include "proto/endian.h"

namespace pulse {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kLineStart = "PROXY "sv;
constexpr std::string_view kSignature = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr size_t kFixedBytes = 16;

ProxyHeader refused(std::string_view detail) {
    ProxyHeader header;
    header.fault = {CloseReason::protocol_error, detail};
    return header;
}
ProxyHeader wants(size_t bytes) {
    ProxyHeader header;
    header.bytes_wanted = bytes;
    return header;
}

// ------------------------------------------------------------------------------------- version 1
// Takes what stands before the next `separator`, and the separator; all that is left without one.
std::string_view take_word(std::string_view& text, char separator) {
    const size_t end = text.find(separator);
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    return word;
}

// Decimal digits without a leading zero.
std::optional<uint32_t> read_decimal(std::string_view word, uint32_t most) {
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc{} || end != word.data() + word.size() || value > most) return {};
    if (word.size() > 1 && word.front() == '0') return {};
    return value;
}

bool read_ipv4(std::string_view text, uint8_t* to) {
    if (std::count(text.begin(), text.end(), '.') != 3) return false;
    for (int part = 0; part < 4; ++part) {
        const std::optional<uint32_t> value = read_decimal(take_word(text, '.'), 255);
        if (!value) return false;
        to[part] = static_cast<uint8_t>(*value);
    }
    return true;
}

// Groups of hexadecimal digits, and an IPv4 address in place of the last two (RFC 4291 section
// 2.2). How many bytes they made, at most `room`; none: malformed.
std::optional<size_t> read_groups(std::string_view text, uint8_t* to, size_t room) {
    size_t used = 0;
    if (text.empty()) return used;
    for (bool last = false; !last;) {
        last = text.find(':') == std::string_view::npos;
        const std::string_view word = take_word(text, ':');
        if (last && word.find('.') != std::string_view::npos) {
            if (used + 4 > room || !read_ipv4(word, to + used)) return {};
            return used + 4;
        }
        uint16_t group = 0;
        const auto [end, error] =
            std::from_chars(word.data(), word.data() + word.size(), group, 16);
        if (error != std::errc{} || end != word.data() + word.size() || word.size() > 4) return {};
        if (used + 2 > room) return {};
        store_be16(to + used, group);
        used += 2;
    }
    return used;
}

bool read_ipv6(std::string_view text, uint8_t* to) {
    const size_t gap = text.find("::");
    if (gap == std::string_view::npos) return read_groups(text, to, 16) == size_t{16};
    uint8_t tail[16] = {};
    const std::string_view head_text = text.substr(0, gap);
    if (head_text.find('.') != std::string_view::npos) return false;
    // The gap stands for one group at least.
    const std::optional<size_t> head = read_groups(head_text, to, 14);
    if (!head) return false;
    const std::optional<size_t> rest = read_groups(text.substr(gap + 2), tail, 14 - *head);
    if (!rest) return false;
    std::memcpy(to + 16 - *rest, tail, *rest);
    return true;
}

bool read_endpoint(std::string_view host, std::string_view port, ProxyAddress::Family family,
                   ProxyAddress& to) {
    const std::optional<uint32_t> number = read_decimal(port, 65'535);
    if (!number) return false;
    to.family = family;
    to.port = static_cast<uint16_t>(*number);
    return family == ProxyAddress::Family::ipv4 ? read_ipv4(host, to.bytes.data())
                                                : read_ipv6(host, to.bytes.data());
}

ProxyHeader parse_line(std::string_view text) {
    const size_t end = text.substr(0, kProxyLineBytesMax).find('\n');
    if (end == std::string_view::npos) {
        if (text.size() < kProxyLineBytesMax) return wants(text.size() + 1);
        return refused("a PROXY line is over 107 bytes");
    }
    std::string_view line = text.substr(0, end);
    if (!line.ends_with('\r')) return refused("a PROXY line ends without CR LF");
    line.remove_suffix(1);
    line.remove_prefix(kLineStart.size());
    ProxyHeader header;
    header.bytes = end + 1;
    const std::string_view protocol = take_word(line, ' ');
    if (protocol == "UNKNOWN") return header;
    if (protocol != "TCP4" && protocol != "TCP6") {
        return refused("a PROXY line names neither TCP4, TCP6 nor UNKNOWN");
    }
    if (std::count(line.begin(), line.end(), ' ') != 3) {
        return refused("a PROXY line has not two addresses and two ports");
    }
    const auto family =
        protocol == "TCP4" ? ProxyAddress::Family::ipv4 : ProxyAddress::Family::ipv6;
    const std::string_view source = take_word(line, ' ');
    const std::string_view destination = take_word(line, ' ');
    const std::string_view source_port = take_word(line, ' ');
    if (!read_endpoint(source, source_port, family, header.source)) {
        return refused("a PROXY line has a malformed source");
    }
    if (!read_endpoint(destination, line, family, header.destination)) {
        return refused("a PROXY line has a malformed destination");
    }
    return header;
}

// ------------------------------------------------------------------------------------- version 2
// RFC 3720 appendix B.4, as RFC 9260 has it: reflected, polynomial 0x1EDC6F41.
constexpr std::array<uint32_t, 256> crc32c_table() {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0x82F63B78 : 0);
        table[i] = value;
    }
    return table;
}
constexpr std::array<uint32_t, 256> kCrc32c = crc32c_table();

// Of `bytes`, with zeros instead of the four from `hole` on.
uint32_t crc32c(std::span<const uint8_t> bytes, size_t hole) {
    uint32_t crc = 0xFFFFFFFF;
    for (size_t at = 0; at < bytes.size(); ++at) {
        const uint8_t byte = at - hole < 4 ? 0 : bytes[at];
        crc = crc >> 8 ^ kCrc32c[(crc ^ byte) & 0xFF];
    }
    return ~crc;
}

// Type, length, value, from `at` to the end of the header.
Decoded judge_tlvs(std::span<const uint8_t> header, size_t at) {
    constexpr uint8_t kTypeCrc32c = 0x03;
    while (at < header.size()) {
        if (header.size() - at < 3) return {CloseReason::protocol_error, "a PROXY TLV is cut"};
        const uint8_t type = header[at];
        const size_t bytes = load_be16(&header[at + 1]);
        at += 3;
        if (bytes > header.size() - at) {
            return {CloseReason::protocol_error, "a PROXY TLV is longer than its header"};
        }
        if (type == kTypeCrc32c && (bytes != 4 || load_be32(&header[at]) != crc32c(header, at))) {
            return {CloseReason::protocol_error, "a PROXY header's CRC-32C is wrong"};
        }
        at += bytes;
    }
    return {};
}

struct FamilyRule {
    uint8_t code;
    uint8_t address_bytes;  // both ends and their ports
    ProxyAddress::Family family;
};
constexpr FamilyRule kFamilies[] = {
    {0x00, 0, ProxyAddress::Family::none},    // UNSPEC
    {0x11, 12, ProxyAddress::Family::ipv4},   // TCP over IPv4
    {0x12, 12, ProxyAddress::Family::none},   // UDP over IPv4
    {0x21, 36, ProxyAddress::Family::ipv6},   // TCP over IPv6
    {0x22, 36, ProxyAddress::Family::none},   // UDP over IPv6
    {0x31, 216, ProxyAddress::Family::none},  // UNIX, stream
    {0x32, 216, ProxyAddress::Family::none},  // UNIX, datagram
};

void read_addresses(const uint8_t* from, ProxyAddress::Family family, ProxyHeader& header) {
    const size_t bytes = family == ProxyAddress::Family::ipv4 ? 4 : 16;
    header.source.family = family;
    header.destination.family = family;
    std::memcpy(header.source.bytes.data(), from, bytes);
    std::memcpy(header.destination.bytes.data(), from + bytes, bytes);
    header.source.port = load_be16(from + 2 * bytes);
    header.destination.port = load_be16(from + 2 * bytes + 2);
}

// The fixed part, as much of it as has come, signature excepted.
Decoded judge_fixed(std::span<const uint8_t> first, const FamilyRule*& family) {
    if (first.size() < 13) return {};
    if (first[12] >> 4 != 2) return {CloseReason::protocol_error, "a PROXY version that is not 2"};
    const bool local = (first[12] & 0x0F) == 0;
    if (!local && (first[12] & 0x0F) != 1) {
        return {CloseReason::protocol_error, "a PROXY command that is neither LOCAL nor PROXY"};
    }
    if (first.size() < 14) return {};
    family = &kFamilies[0];  // LOCAL: whatever it says is to be ignored
    if (!local) {
        family = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                              [&](const FamilyRule& rule) { return rule.code == first[13]; });
        if (family == std::end(kFamilies)) {
            return {CloseReason::protocol_error, "a PROXY address family that does not exist"};
        }
    }
    if (first.size() < 15) return {};
    const size_t least = size_t{first[14]} << 8 | (first.size() < 16 ? 0x00 : first[15]);
    if (least > kProxyHeaderBytesMax - kFixedBytes) {
        return {CloseReason::message_too_big, "a PROXY header is over its limit"};
    }
    if (first.size() >= 16 && least < family->address_bytes) {
        return {CloseReason::protocol_error, "a PROXY header is too short for its addresses"};
    }
    return {};
}

ProxyHeader parse_binary(std::span<const uint8_t> first) {
    const FamilyRule* family = nullptr;
    ProxyHeader header;
    header.fault = judge_fixed(first, family);
    if (!header.fault.ok()) return header;
    if (first.size() < kFixedBytes) return wants(kFixedBytes);
    const size_t bytes = kFixedBytes + load_be16(&first[14]);
    if (first.size() < bytes) return wants(bytes);
    if (family->code != 0) {
        header.fault = judge_tlvs(first.first(bytes), kFixedBytes + family->address_bytes);
        if (!header.fault.ok()) return header;
    }
    header.bytes = bytes;
    if (family->family != ProxyAddress::Family::none) {
        read_addresses(first.data() + kFixedBytes, family->family, header);
    }
    return header;
}

}  // namespace

ProxyHeader parse_proxy_header(std::span<const uint8_t> first) {
    const std::string_view text(reinterpret_cast<const char*>(first.data()), first.size());
    if (text.starts_with(kLineStart)) return parse_line(text);
    if (text.starts_with(kSignature)) return parse_binary(first);
    if (kLineStart.starts_with(text)) return wants(kLineStart.size());
    if (kSignature.starts_with(text)) return wants(kSignature.size());
    return refused("this listener expects a PROXY header (?proxy=on), and none came");
}

}  // namespace pulse
