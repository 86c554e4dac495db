// A reactor's mailbox: one ring a sender, and a doorbell that rings only for a sleeper.
//
//     sender 0 --> [ ring ] --.
//     sender 1 --> [ ring ] ---+--> owner: drain()          state_: idle, posted, sleeping
//     sender 2 --> [ ring ] --'
//
// One word says how owner and senders stand. Both sides write, then look, in one step each:
//
//     sender                                    owner
//       push                                      drain:  exchange(idle), look into every ring
//       exchange(posted); was it sleeping? ring   sleep:  only if idle becomes sleeping
//                                                 awake:  sleeping becomes idle, posted stays
//
//     idle ---post---> posted ---drain---> idle ---may_sleep---> sleeping ---post, rings---> posted
//
// Why no wake is lost: every write of the word is a read-modify-write, so all of them stand in one
// order, and each sees what went before the one whose value it reads. A post that comes before the
// owner's step into sleeping has left `posted` behind, and then the step fails, unless a drain took
// it away; that drain reads the post's value, hence sees its push, and either took the message or
// remembers that its budget ran out, and then the owner may not sleep. A post that comes after
// finds sleeping and rings. Of many such posts the first turns the word to posted: one doorbell a
// sleep. (With a plain store and a plain load instead, x86 too would let both sides look before
// either wrote. Full fences would do, but ThreadSanitizer does not model them.)
//
// Why a ring for each sender, and not one ring that all push into. Both sides are wait-free: a post
// is one copy and one exchange, whatever other senders do. In a shared ring a sender that loses its
// core between taking a slot and filling it hides all that came behind it, and one that floods
// takes the others' room: a drain could then not be posted. The price is memory, and a look into
// every ring when something was posted. For each sender, of at most kMailboxSendersMax, a mailbox
// has kMailboxSlots of 64 B, which is one page that stays untouched until it posts, and 256 B of
// indexes and counts.
//
// An owner whose mailbox is empty looks at this one word a turn, however many senders there are.
// Full is an answer: post() returns false, counts it, and never waits; what becomes of the message
// is the sender's decision, written where it sends (net/server/orders.h). A message that was posted
// and not drained when the mailbox goes is forgotten: what it points to is the sender's to free.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>

#include "core/limits.h"
#include "core/message.h"
#include "core/spsc_ring.h"
#include "core/types.h"

namespace pulse {

// Ends the owner's sleep; called on a sender's thread. It may ring for nothing, when the owner
// woke by itself and found the message first.
struct Doorbell {
    void (*ring)(void* context) = nullptr;
    void* context = nullptr;
    void operator()() const { ring(context); }
};

template <class T, template <class> class Atomic = std::atomic>
class BasicMailbox {
  public:
    // Memory is taken here, once: a page-aligned block of `slots` (a power of two) for each sender,
    // untouched until its sender posts.
    BasicMailbox(uint32_t senders, uint32_t slots, Doorbell doorbell)
        : block_(size_t{senders} * slots),
          block_bytes_(size_t{senders} * slots * sizeof(T)),
          doorbell_(doorbell) {
        PULSE_ASSERT(senders > 0 && senders <= kMailboxSendersMax);
        for (size_t i = 0; i < senders; ++i) lanes_.emplace_back(block_.get() + i * slots, slots);
    }

    // --- the thread of `sender` ---
    // False: full, nothing was posted.
    bool post(uint32_t sender, const T& message) {
        PULSE_ASSERT(sender < lanes_.size());
        Lane& lane = lanes_[sender];
        if (!lane.ring.try_push(message)) {
            bump(lane.refused);
            return false;
        }
        if (state_.exchange(kPosted, std::memory_order_acq_rel) == kSleeping) {
            bump(lane.rung);
            doorbell_();
        } else {
            bump(lane.not_rung);
        }
        return true;
    }

    // --- the owner's thread ---
    // Announces that the owner is about to sleep; false if it may not, because there is something
    // to drain. After true and the sleep: awake().
    bool may_sleep() {
        if (left_over_) return false;
        uint8_t idle = kIdle;
        return state_.compare_exchange_strong(idle, kSleeping, std::memory_order_acq_rel,
                                              std::memory_order_acquire);
    }
    // Posts ring no more. Harmless if the owner did not sleep. Only the owner writes kSleeping, so
    // it never misses its own by looking first.
    void awake() {
        uint8_t sleeping = state_.load(std::memory_order_relaxed);
        if (sleeping != kSleeping) return;
        state_.compare_exchange_strong(sleeping, kIdle, std::memory_order_acq_rel,
                                       std::memory_order_acquire);
    }

    // Calls take(const T&) for at most `budget` messages of all senders together; true if the
    // budget ran out, and there may be more. Senders take turns, in equal shares while several have
    // something, beginning after the one that was served last. In order for each sender.
    template <class Take>
    bool drain(uint32_t budget, Take&& take) {
        // A post that this look misses stops the owner from sleeping.
        if (state_.load(std::memory_order_relaxed) == kPosted) {
            state_.exchange(kIdle, std::memory_order_acq_rel);
        } else if (!left_over_) {
            return false;
        }
        const auto lanes = static_cast<uint32_t>(lanes_.size());
        const uint32_t share = std::max(uint32_t{1}, budget / lanes);
        uint32_t exhausted = 0;  // lanes in a row that had less than was asked for
        while (budget > 0 && exhausted < lanes) {
            const uint32_t asked = std::min(share, budget);
            const auto got = static_cast<uint32_t>(lanes_[next_lane_].ring.pop_batch(asked, take));
            budget -= got;
            exhausted = got < asked ? exhausted + 1 : 0;
            next_lane_ = next_lane_ + 1 == lanes ? 0 : next_lane_ + 1;
        }
        left_over_ = exhausted < lanes;
        return left_over_;
    }

    // --- any thread ---
    struct Counts {
        uint64_t refused = 0;   // posts into a full ring
        uint64_t rung = 0;      // doorbells: posts to a sleeper
        uint64_t not_rung = 0;  // posts to an owner that was awake, or that another has woken
        uint64_t posted() const { return rung + not_rung; }
    };
    Counts counts() const {
        Counts counts;
        for (const Lane& lane : lanes_) {
            counts.refused += lane.refused.load(std::memory_order_relaxed);
            counts.rung += lane.rung.load(std::memory_order_relaxed);
            counts.not_rung += lane.not_rung.load(std::memory_order_relaxed);
        }
        return counts;
    }
    // What was taken at the start; the slots' part of it is backed as senders begin to post.
    size_t memory_bytes() const {
        return sizeof *this + lanes_.size() * sizeof(Lane) + block_bytes_;
    }

  private:
    static constexpr size_t kBlockAlignment =
        4'096;  // pages of senders that never post stay unbacked
    enum : uint8_t { kIdle, kPosted, kSleeping };

    struct Lane {
        Lane(T* first, uint32_t slots) : ring(first, slots) {}
        SpscRing<T, Atomic> ring;
        alignas(kCacheLineBytes) std::atomic<uint64_t> refused{0};  // the sender's, as all three
        std::atomic<uint64_t> rung{0};
        std::atomic<uint64_t> not_rung{0};
    };
    static void bump(std::atomic<uint64_t>& counter) {
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }

    const RawSlots<T, kBlockAlignment> block_;
    const size_t block_bytes_;
    std::deque<Lane> lanes_;  // never moves
    Doorbell doorbell_;
    // The owner's.
    uint32_t next_lane_ = 0;
    bool left_over_ = false;  // a budget ran out: the rings may hold what the word does not tell
    alignas(kCacheLineBytes) Atomic<uint8_t> state_{kIdle};
};

using Mailbox = BasicMailbox<Message>;

}  // namespace pulse
