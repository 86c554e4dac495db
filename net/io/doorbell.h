// What ends a backend's wait from another thread: an eventfd, of the backend's own or the caller's.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "net/io/system_calls.h"

namespace pulse {

class WakeDescriptor {
  public:
    // Takes `given`, an eventfd (EFD_NONBLOCK) that stays the caller's, or makes one if that is -1.
    // Fails with errno set.
    bool open(SystemCalls& calls, int given) {
        is_own_ = given < 0;
        number_ = is_own_ ? calls([] { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }) : given;
        return number_ >= 0;
    }
    void close(SystemCalls& calls) {
        if (is_own_ && number_ >= 0) calls.close(number_);
        number_ = -1;
    }

    // The descriptor, readable when it was rung; -1: not open.
    int number() const { return number_; }

    // From any thread or signal handler whose descriptor table has it. Not through the gate, which
    // is the backend's thread's.
    void ring() const {
        const uint64_t one = 1;
        // Fails only where 2^64 wakes were not taken: then the doorbell is ringing.
        [[maybe_unused]] const ssize_t written = ::write(number_, &one, sizeof(one));
    }

  private:
    int number_ = -1;
    bool is_own_ = false;
};

}  // namespace pulse
