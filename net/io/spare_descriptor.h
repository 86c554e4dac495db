// A descriptor kept for the time when the table is full. A peer that comes then is accepted in its
// place and refused; left in the backlog, it would keep the listener readable.
#pragma once

#include "net/io/io_backend.h"
#include "net/io/system_calls.h"

namespace pulse {

class SpareDescriptor {
  public:
    // A duplicate of `source`, which must stay open. Fails with errno set.
    bool open(SystemCalls& calls, int source);
    void close(SystemCalls& calls);

    // accept4() from `listener` with `flags`; where that finds the table full, through the spare,
    // and then `accepted.exhausted` is set: restore() once that peer was refused. Fails with errno
    // set: EAGAIN if no peer waits.
    bool accept(SystemCalls& calls, int listener, int flags, Accepted& accepted);
    // Nothing happens if it is there; if it cannot be had now, the next accept() tries again.
    void restore(SystemCalls& calls);

    // Whether accept() failed with `error` for want of a descriptor or of memory. A listener then
    // stays readable, and must rest. Of other errors only that peer is gone (accept(2)).
    static bool is_shortage(int error);

  private:
    int source_ = -1;
    int number_ = -1;
};

}  // namespace pulse
