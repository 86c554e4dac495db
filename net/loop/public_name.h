// The name by which clients, logs and operators know a connection: r3-000123-9, which is its
// reactor, the index of its record and the generation of that.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>

#include "core/fixed_text.h"
#include "core/types.h"

namespace pulse {

inline FixedText<64> public_name(uint32_t reactor, ConnectionId id) {
    FixedText<64> digits;
    digits << uint64_t{id.index};
    FixedText<64> text;
    text << "r" << uint64_t{reactor} << "-";
    for (size_t count = digits.view().size(); count < 6; ++count) text << "0";
    text << digits.view() << "-" << uint64_t{id.generation};
    return text;
}

struct PublicName {
    uint32_t reactor;
    ConnectionId id;
    friend bool operator==(const PublicName&, const PublicName&) = default;
};
// Of a text that is one.
inline std::optional<PublicName> parse_public_name(std::string_view text) {
    PublicName name{};
    const auto number = [&](char before, uint32_t& value) {
        if (text.empty() || text.front() != before) return false;
        const auto [end, error] =
            std::from_chars(text.data() + 1, text.data() + text.size(), value);
        if (error != std::errc{}) return false;
        text.remove_prefix(static_cast<size_t>(end - text.data()));
        return true;
    };
    const bool whole = number('r', name.reactor) && number('-', name.id.index) &&
                       number('-', name.id.generation) && text.empty();
    return whole ? std::optional(name) : std::nullopt;
}

}  // namespace pulse
