// The gate through which a backend makes its system calls: each is counted, and any one can be made
// to fail, so that a test can fail the Nth for every N. Costs the count, which is wanted anyway,
// and a compare.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace pulse {

class SystemCalls {
  public:
    // `made` counts; it is the backend's counter and must outlive this.
    explicit SystemCalls(uint64_t& made) : made_(made) {}

    // What `call` returns, which is -1 with errno set if it fails, or is made to.
    template <class Call>
    auto operator()(Call call) -> decltype(call()) {
        if (++made_ - fails_at_ < fails_times_) [[unlikely]] {
            errno = error_;
            return -1;
        }
        return call();
    }
    // A failing close has closed all the same (close(2)), so there is nothing to make fail.
    void close(int descriptor) {
        ++made_;
        ::close(descriptor);
    }

    // The call that will be the `count`th since the start fails with `error`, and so do those
    // behind it, `times` in all.
    void fail_at(uint64_t count, int error, uint64_t times = 1) {
        fails_at_ = count;
        fails_times_ = times;
        error_ = error;
    }

  private:
    uint64_t& made_;
    uint64_t fails_at_ = 0;
    uint64_t fails_times_ = 0;
    int error_ = 0;
};

}  // namespace pulse
