// The most that meets an objective: runs again and again with more, then bisects.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace pulse::load {

// One trial: so much was asked for, and whether it held.
struct Trial {
    uint64_t load = 0;
    bool met = false;
};

// The search without the runs, so that it can be tested: which load is next, and when it is over.
// Doubles from `first` until a trial fails or `most` was reached, then halves the gap until it is
// within a twentieth.
class Search {
  public:
    Search(uint64_t first, uint64_t most) : next_(std::min(first, most)), most_(most) {}

    // Nothing: it is over.
    std::optional<uint64_t> next() const { return over_ ? std::nullopt : std::optional(next_); }
    void took(bool met);
    // The highest that met; 0: none did.
    uint64_t best() const { return met_; }
    const std::vector<Trial>& trials() const { return trials_; }

  private:
    uint64_t next_;
    uint64_t most_;
    uint64_t met_ = 0;
    uint64_t missed_ = 0;  // the lowest that did not; 0: none
    bool over_ = false;
    std::vector<Trial> trials_;
};

// Whether a load meets the objective, by the majority of up to `tries` runs: a single miss may be a
// busy moment of the machine.
class Votes {
  public:
    explicit Votes(uint32_t tries) : tries_(tries) {}
    void cast(bool met) { ++(met ? met_ : missed_); }
    // Nothing: another run is needed.
    std::optional<bool> decided() const {
        if (2 * met_ > tries_) return true;
        if (2 * missed_ >= tries_) return false;
        return std::nullopt;
    }
    uint32_t cast() const { return met_ + missed_; }

  private:
    uint32_t tries_;
    uint32_t met_ = 0;
    uint32_t missed_ = 0;
};

}  // namespace pulse::load
