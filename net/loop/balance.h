// What the reactors of a server tell each other so that all of them hold about as many connections:
// each says what it holds, and whichever has accepted some looks whether the kernel should draw
// otherwise (core/accept_shares.h). Written when a turn ends, and never waited for.
//
// Reactors are known by their numbers, and the kernel knows their listeners by the order in which
// they began to listen: listen() keeps that order, the same for every address.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "core/accept_shares.h"
#include "core/limits.h"

namespace pulse {

class Balance {
  public:
    // Each of the reactors may hold `places` connections.
    Balance(uint32_t reactors, uint32_t places);
    Balance(const Balance&) = delete;
    Balance& operator=(const Balance&) = delete;

    // On the reactor's thread, once: calls `begin()`, by which it begins to listen at every address
    // or at none, in an order with the others. Returns its result.
    template <class Begin>
    auto listen(uint32_t reactor, Begin&& begin) {
        const std::lock_guard lock(order_mutex_);
        auto began = begin();
        if (began) order_.push_back(reactor);
        return began;
    }

    // On the reactor's thread: what it holds, and how many came to it since the start.
    void report(uint32_t reactor, uint32_t live, uint64_t came) {
        lines_[reactor].live.store(live, std::memory_order_relaxed);
        lines_[reactor].came.store(came, std::memory_order_relaxed);
    }
    // On the reactor's thread, after report(): whether it is time to look. A reactor looks after
    // its own part of the connections that should come between two looks.
    bool is_due(uint32_t reactor) {
        Line& line = lines_[reactor];
        const uint64_t came = line.came.load(std::memory_order_relaxed);
        if (came - line.looked_at < line.look_after) return false;
        line.looked_at = came;
        return !given_up_.load(std::memory_order_relaxed);
    }
    // On the reactor's thread: calls `apply(shares)`, in the order of listening, if others than
    // before are to hold. One thread at a time looks, and the others do without. False where
    // apply() failed: the kernel spreads by its hash, and nothing is tried again.
    template <class Apply>
    bool look(uint32_t reactor, Apply&& apply) {
        const std::unique_lock lock(look_mutex_, std::try_to_lock);
        if (!lock.owns_lock() || !update(reactor) || apply(in_order())) return true;
        given_up_.store(true, std::memory_order_relaxed);
        return false;
    }

  private:
    // Of one reactor, which writes it; a cache line.
    struct alignas(64) Line {
        std::atomic<uint32_t> live{0};
        std::atomic<uint64_t> came{0};
        uint64_t looked_at = 0;  // its own: `came` of then
        uint64_t look_after = 1;
    };
    bool update(uint32_t reactor);
    std::span<const uint32_t> in_order();

    const uint32_t places_;
    std::vector<Line> lines_;
    std::atomic<bool> given_up_{false};

    std::mutex order_mutex_;
    std::vector<uint32_t> order_;  // reactors as they began to listen

    std::mutex look_mutex_;
    AcceptShares shares_;
    std::vector<ReactorLoad> loads_;
    std::vector<uint32_t> ordered_;
    uint64_t came_ = 0;  // to all, until the last look
};

}  // namespace pulse
