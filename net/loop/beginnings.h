// When the connections of one reactor began. Off, it has no memory; on, 4 bytes for each place
// that is used.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/page_source.h"
#include "core/types.h"

namespace pulse {

class Beginnings {
  public:
    // For indexes below `places`. `pages` outlives it.
    Beginnings(PageSource& pages, uint32_t places) : pages_(pages), places_(places) {}
    ~Beginnings() {
        if (on()) pages_.release(reinterpret_cast<std::byte*>(began_), bytes_max());
    }
    Beginnings(const Beginnings&) = delete;
    Beginnings& operator=(const Beginnings&) = delete;

    // From now on beginnings are kept, for ever. False: there is no address space.
    bool turn_on(Nanos now) {
        if (on()) return true;
        began_ = reinterpret_cast<uint32_t*>(pages_.reserve_small(bytes_max()));
        epoch_ = now;
        return on();
    }
    bool on() const { return began_ != nullptr; }

    void begin(Index index, Nanos now) {
        if (!on()) return;
        used_ = std::max<size_t>(used_, index + 1);
        began_[index] = units(now);
    }
    // It is not young, however soon it ends.
    void forget(Index index) {
        if (index < used_) began_[index] = 0;
    }
    // Whether it lived for less than `span`, to 16.8 ms; not if it began before this was on.
    bool is_younger(Index index, Nanos span, Nanos now) const {
        if (!on() || began_[index] == 0) return false;
        return Nanos{units(now) - began_[index]} << kShift < span;
    }

    size_t memory_bytes() const { return on() ? used_ * kBytesEach : 0; }
    static constexpr size_t kBytesEach = sizeof(uint32_t);

  private:
    // 16.8 ms, of which 32 bits are 2.2 years; then they wrap, as their differences may.
    static constexpr uint32_t kShift = 24;
    uint32_t units(Nanos now) const {
        return std::max(1u, static_cast<uint32_t>(((now - epoch_) >> kShift) + 1));
    }
    size_t bytes_max() const { return places_ * kBytesEach; }

    PageSource& pages_;
    const size_t places_;
    uint32_t* began_ = nullptr;
    Nanos epoch_ = 0;
    size_t used_ = 0;  // places below this were used
};

}  // namespace pulse
