// The simplest alternative to the wheel: compare every deadline. A dense array and a compare that
// the compiler vectorises. It audits the wheel in tests and debug builds.
#pragma once

#include <cstdint>
#include <span>

#include "core/types.h"

namespace pulse {

// Calls due(index) for every deadline at or before `now`, by 32-bit modular comparison (deadlines
// within 2^31 ticks of now). `absent` marks places without a deadline.
template <class Due>
void sweep_due(std::span<const uint32_t> deadlines, uint32_t now, uint32_t absent, Due&& due) {
    constexpr size_t kBlock = 64;
    size_t start = 0;
    for (; start + kBlock <= deadlines.size(); start += kBlock) {
        uint32_t any = 0;
        for (size_t offset = 0; offset < kBlock; ++offset) {
            const uint32_t deadline = deadlines[start + offset];
            any |= static_cast<uint32_t>(static_cast<int32_t>(now - deadline) >= 0) &
                   static_cast<uint32_t>(deadline != absent);
        }
        if (any == 0) continue;
        for (size_t offset = 0; offset < kBlock; ++offset) {
            const uint32_t deadline = deadlines[start + offset];
            if (deadline != absent && static_cast<int32_t>(now - deadline) >= 0) {
                due(static_cast<Index>(start + offset));
            }
        }
    }
    for (; start < deadlines.size(); ++start) {
        const uint32_t deadline = deadlines[start];
        if (deadline != absent && static_cast<int32_t>(now - deadline) >= 0) {
            due(static_cast<Index>(start));
        }
    }
}

}  // namespace pulse
