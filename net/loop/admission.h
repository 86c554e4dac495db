// How many connections the whole server holds: the one number that reactors share, touched when a
// connection begins and ends and never in between.
#pragma once

#include <atomic>
#include <cstdint>

namespace pulse {

class Admission {
  public:
    explicit Admission(uint32_t connections_max) : connections_max_(connections_max) {}

    // Counts one in, unless that is one too many.
    bool enter() {
        if (live_.fetch_add(1, std::memory_order_relaxed) < connections_max_) return true;
        leave();
        return false;
    }
    void leave() { live_.fetch_sub(1, std::memory_order_relaxed); }

    uint32_t live() const { return live_.load(std::memory_order_relaxed); }
    uint32_t connections_max() const { return connections_max_; }

  private:
    const uint32_t connections_max_;
    alignas(64) std::atomic<uint32_t> live_{0};
};

}  // namespace pulse
