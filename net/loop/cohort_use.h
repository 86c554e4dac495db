// Which cohorts the reactors of a server still have sessions in, and which policies each has learnt
// of: by them the main thread knows which numbers of cohorts it may give to new policies. A number
// is given again once all reactors have learnt that its policy was taken back, after which none
// lets a session in, and none has a session left in it. So no session ever has another policy's
// number, however fast policies change.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "core/sessions/cohorts.h"

namespace pulse {

class CohortUse {
  public:
    explicit CohortUse(uint32_t reactors) : learned_(reactors) {}

    // ---- a reactor's thread
    // It has learnt of Cohorts::changes(), and lets no session into what they have taken back.
    void learn(uint32_t reactor, uint64_t changes) {
        learned_[reactor].store(changes, std::memory_order_release);
    }
    void enter(Cohort cohort) { sessions_[cohort].fetch_add(1, std::memory_order_relaxed); }
    void leave(Cohort cohort) { sessions_[cohort].fetch_sub(1, std::memory_order_relaxed); }

    // ---- any thread; held() after learned() of all reactors
    uint64_t learned(uint32_t reactor) const {
        return learned_[reactor].load(std::memory_order_acquire);
    }
    CohortSet held() const {
        CohortSet held = 0;
        for (Cohort cohort = 0; cohort < kCohortsMax; ++cohort)
            if (sessions_[cohort].load(std::memory_order_relaxed) > 0) held |= set_of(cohort);
        return held;
    }

  private:
    std::vector<std::atomic<uint64_t>> learned_;  // by reactor
    std::array<std::atomic<uint32_t>, kCohortsMax> sessions_{};
};

}  // namespace pulse
