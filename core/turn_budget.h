// How much of what peers sent is handled in one turn: by all connections together, and by each, so
// that a peer that pipelines, or sends a little that inflates to a lot, delays the others by
// milliseconds. Bounds and reasons are in limits.h. Pure arithmetic; what does not fit is parked by
// the caller (net/loop/parking.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/limits.h"

namespace pulse {

// Of all connections, for a part of a turn: bytes delivered, a frame counting as kFrameWork. The
// last message may overspend, by as much as it inflates to; that is paid back from what follows, so
// that two dear ones do not come in one turn.
class WorkBudget {
  public:
    void refill(size_t work) {
        const auto full = static_cast<int64_t>(work);
        left_ = std::min(full, left_ + full);
    }
    void spend(size_t work) { left_ -= static_cast<int64_t>(work); }
    bool empty() const { return left_ <= 0; }

  private:
    int64_t left_ = 0;
};

// Of one connection, for one call of its decoder.
class TurnShare {
  public:
    // `fresh`: the bytes were read just now, so that a few small frames are always admitted.
    explicit TurnShare(WorkBudget& all, bool fresh = true) : all_(all), fresh_(fresh) {}

    // One more frame or message, with so many bytes on the wire. False: not in this call, nor
    // anything after it.
    bool admits(size_t wire_bytes, bool compressed) {
        if (paused_) return false;
        const bool small = !compressed && wire_bytes <= kFrameAlwaysBytesMax;
        const bool always = fresh_ && small && frames_ < kFramesAlwaysPerTurn;
        const bool spent = frames_ >= kFramesPerTurn || delivered_ >= kDeliveredBytesPerTurn;
        if (spent || (all_.empty() && !always)) {
            paused_ = true;
            return false;
        }
        ++frames_;
        // What is admitted beyond the budget is few and small, and makes no debt.
        charged_ = !all_.empty();
        if (charged_) all_.spend(kFrameWork);
        return true;
    }
    // What was handed over, after inflating.
    void spend(size_t bytes) {
        delivered_ += bytes;
        if (charged_) all_.spend(bytes);
    }
    bool paused() const { return paused_; }
    // Nothing more in this call.
    void pause() { paused_ = true; }

  private:
    WorkBudget& all_;
    uint32_t frames_ = 0;
    size_t delivered_ = 0;
    bool fresh_;
    bool charged_ = true;
    bool paused_ = false;
};

}  // namespace pulse
