// Something small of each connection beside its record, for features that are off by default. Off,
// it has no memory; on, a T for each place that was used, in pages that are backed as they are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "core/page_source.h"
#include "core/types.h"

namespace pulse {

// T{} is all zeros, and what a connection has of which nothing is kept.
template <class T>
class SideRows {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    // For indexes below `places`. `pages` outlives it.
    SideRows(PageSource& pages, uint32_t places) : pages_(pages), places_(places) {}
    ~SideRows() {
        if (on()) pages_.release(reinterpret_cast<std::byte*>(rows_), bytes_max());
    }
    SideRows(const SideRows&) = delete;
    SideRows& operator=(const SideRows&) = delete;

    // From now on they are kept, for ever. False: there is no address space.
    bool turn_on() {
        if (!on()) rows_ = reinterpret_cast<T*>(pages_.reserve_small(bytes_max()));
        return on();
    }
    bool on() const { return rows_ != nullptr; }

    // The place has another peer. What was never used is not touched.
    void begin(Index index) {
        if (index < used_) rows_[index] = T{};
    }
    // To be changed. Requires: it is on.
    T& at(Index index) {
        used_ = std::max<size_t>(used_, index + 1);
        return rows_[index];
    }
    T of(Index index) const { return index < used_ ? rows_[index] : T{}; }

    // An upper bound: pages of places below the last that was used may not be backed.
    size_t memory_bytes() const { return used_ * sizeof(T); }

  private:
    size_t bytes_max() const { return places_ * sizeof(T); }

    PageSource& pages_;
    const size_t places_;
    T* rows_ = nullptr;
    size_t used_ = 0;  // places below this may have been used
};

}  // namespace pulse
