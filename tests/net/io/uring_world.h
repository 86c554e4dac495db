// The Worlds of the io_uring backend for the contract suite: three ways to run it.
#pragma once

#include <vector>

#include "net/io/uring_backend.h"

#include "tests/net/io/io_stage.h"
#include "tests/net/io/real_world.h"

namespace pulse::test {

template <class Options>
class UringWorld : public RealWorld {
  public:
    using Io = UringBackend;
    UringWorld(Connection* records, uint32_t places) : io_(Options::make(), records, places) {
        PULSE_ASSERT(io_.ready());
    }
    ~UringWorld() { relieve(); }
    Io& io() { return io_; }
    void exhaust() {
        for (int next = ::dup(0); next >= 0; next = ::dup(0)) taken_.emplace_back(next);
    }
    void relieve() { taken_.clear(); }

  private:
    std::vector<Descriptor> taken_;
    UringBackend io_;
};

struct Full {
    static UringOptions make() { return {}; }
};
struct Plain {
    static UringOptions make() { return {.newer_features = false}; }
};
struct Starved {
    static UringOptions make() { return {.receive_buffers = 2, .receive_buffer_bytes = 2048}; }
};

}  // namespace pulse::test
