// The name by which clients, logs and operators know a connection: r3-000123-9, which is its
// reactor, the index of its record and the generation of that.
#pragma once

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

}  // namespace pulse
