// The cohorts of connections that are not logged in (cohorts.cc); those of sessions are in their
// logins. Off, it has no memory; on, a byte for each place that is used.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/limits.h"
#include "core/page_source.h"
#include "core/sessions/cohorts.h"
#include "core/types.h"

namespace pulse {

class AnonymousCohorts {
  public:
    // For indexes below `places`. `pages` outlives it.
    AnonymousCohorts(PageSource& pages, uint32_t places) : pages_(pages), places_(places) {}
    ~AnonymousCohorts() {
        if (on()) pages_.release(reinterpret_cast<std::byte*>(entries_), places_);
    }
    AnonymousCohorts(const AnonymousCohorts&) = delete;
    AnonymousCohorts& operator=(const AnonymousCohorts&) = delete;

    // From now on, for ever: none of the connections has one yet. False: there is no address space.
    bool turn_on() {
        if (!on()) entries_ = reinterpret_cast<uint8_t*>(pages_.reserve_small(places_));
        return on();
    }
    bool on() const { return entries_ != nullptr; }

    void begin(Index index) {
        if (on()) set(index, kNoCohort, 0);
    }
    Cohort cohort(Index index) const {
        return on() ? static_cast<Cohort>(entries_[index] % kCohortsMax) : kNoCohort;
    }
    // The profile of its own: what it has where its cohort has none.
    uint8_t profile(Index index) const {
        return on() ? static_cast<uint8_t>(entries_[index] / kCohortsMax) : uint8_t{0};
    }
    // Requires: it is on.
    void set(Index index, Cohort cohort, uint8_t profile) {
        used_ = std::max<size_t>(used_, index + 1);
        entries_[index] = static_cast<uint8_t>(profile * kCohortsMax + cohort);
    }

    size_t memory_bytes() const { return on() ? used_ : 0; }

  private:
    static_assert(kAskedProfiles * kCohortsMax <= 256);

    PageSource& pages_;
    const size_t places_;
    uint8_t* entries_ = nullptr;
    size_t used_ = 0;  // places below this were used
};

}  // namespace pulse
