// The epoll backend as a World of the contract suite.
#pragma once

#include "net/io/epoll_backend.h"

#include "tests/net/io/real_world.h"

namespace pulse::test {

class EpollWorld : public RealWorld {
  public:
    using Io = EpollBackend;
    EpollWorld(Connection* records, uint32_t places) : io_({}, records, places) {
        PULSE_ASSERT(io_.ready());
    }
    Io& io() { return io_; }

  private:
    EpollBackend io_;
};

}  // namespace pulse::test
