// What messages cost beyond their bytes, in units of a turn's work (core/turn_budget.h).
#pragma once

#include <cstddef>

namespace pulse {

// JSON is looked through key by key: 170,000 keys in 850 kB take 1.8 ms (best of 15, 2 vCPU,
// 2026-11-27). Counted as its bytes alone, 50 flooders with such messages kept a heartbeat waiting
// for 38 to 57 ms in 99 of 100; with this factor, one such message a turn, for 6 to 10 ms.
inline constexpr size_t kJsonWorkPerByte = 8;
// A hello is looked through, set up and welcomed: 10 bytes in, 93 out.
inline constexpr size_t kHelloWork = 1'536;

}  // namespace pulse
