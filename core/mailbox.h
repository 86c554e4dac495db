// A reactor's mailbox: one ring a sender, and a doorbell that rings only for a sleeper.
//
// Sleep and wake: both sides write, then look. The sender pushes, then looks whether the owner
// sleeps; the owner announces its sleep, then looks whether something was pushed:
//
//     sender                                        owner
//       push                                          sleeping.exchange(true)
//       if sleeping.exchange(false): ring             if nothing was pushed: sleep until the
//       doorbell
//                                                     else sleeping.exchange(false)
//
// Both announcements are read-modify-writes of one word, so they stand in one order. If the owner's
// comes after the sender's it reads the sender's value, hence sees its push; if it comes before,
// the sender reads true and rings. Either way no wake is lost, and of many senders one rings, once
// a sleep. (A store and a load instead would need full fences between them on both sides, and x86
// too would reorder them without.)
//
// Full is an answer: post() returns false, counts it, and never waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/limits.h"
#include "core/message.h"
#include "core/spsc_ring.h"

namespace pulse {

// Ends the owner's sleep; called on a sender's thread, possibly for nothing.
struct Doorbell {
    void (*ring)(void* context) = nullptr;
    void* context = nullptr;
    void operator()() const { ring(context); }
};

template <class T>
class BasicMailbox {
  public:
    BasicMailbox(uint32_t senders, uint32_t slots, Doorbell doorbell) : doorbell_(doorbell) {
        for (uint32_t i = 0; i < senders; ++i) lanes_.push_back(std::make_unique<Lane>(slots));
    }

    // --- the thread of `sender` ---
    // False: full, nothing was posted.
    bool post(uint32_t sender, const T& message) {
        Lane& lane = *lanes_[sender];
        if (!lane.ring.try_push(message)) {
            bump(lane.refused);
            return false;
        }
        if (sleeping_.exchange(false, std::memory_order_acq_rel)) {
            bump(lane.rung);
            doorbell_();
        } else {
            bump(lane.not_rung);
        }
        return true;
    }

    // --- the owner's thread ---
    // Says that the owner is about to sleep, and whether it may. After true and the sleep: awake().
    bool may_sleep() {
        sleeping_.exchange(true, std::memory_order_acq_rel);
        for (const auto& lane : lanes_) {
            if (!lane->ring.empty()) {
                awake();
                return false;
            }
        }
        return true;
    }
    void awake() { sleeping_.exchange(false, std::memory_order_acq_rel); }

    // Calls take(const T&) for at most `budget` messages of each sender; true if one may have more.
    template <class Take>
    bool drain(uint32_t budget, Take&& take) {
        bool more = false;
        for (const auto& lane : lanes_) more |= lane->ring.pop_batch(budget, take) == budget;
        return more;
    }

    // --- any thread ---
    struct Counts {
        uint64_t refused = 0;   // posts into a full ring
        uint64_t rung = 0;      // doorbells
        uint64_t not_rung = 0;  // posts to an owner that was awake anyway
    };
    Counts counts() const {
        Counts counts;
        for (const auto& lane : lanes_) {
            counts.refused += lane->refused.load(std::memory_order_relaxed);
            counts.rung += lane->rung.load(std::memory_order_relaxed);
            counts.not_rung += lane->not_rung.load(std::memory_order_relaxed);
        }
        return counts;
    }

  private:
    struct Lane {
        explicit Lane(uint32_t slots) : ring(slots) {}
        SpscRing<T> ring;
        alignas(64) std::atomic<uint64_t> refused{0};
        std::atomic<uint64_t> rung{0};
        std::atomic<uint64_t> not_rung{0};
    };
    static void bump(std::atomic<uint64_t>& counter) {
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }

    std::vector<std::unique_ptr<Lane>> lanes_;
    Doorbell doorbell_;
    alignas(64) std::atomic<bool> sleeping_{false};
};

// What other threads have to say to a reactor.
using Mailbox = BasicMailbox<Message>;

}  // namespace pulse
