// A whole reactor over a real kernel, on the thread of the test: the production loop and sessions,
// real sockets, real time.
//
//     KernelStage<EpollWorld> stage(16);
//     RealPeer peer = stage.connect();
//     peer.write(...); stage.turn(); peer.read(heard);
#pragma once

#include <memory>
#include <string>

#include "core/page_source.h"
#include "net/loop/admission.h"
#include "net/loop/reactor.h"

#include "tests/net/io/real_world.h"

namespace pulse::test {

template <class World>
class KernelStage {
  public:
    // Of the options all but where to listen.
    explicit KernelStage(uint32_t places, const LoopOptions& options = {})
        : table_(pages_, places),
          world_(table_.records(), places),
          mailbox_(1, kMailboxSlots, {&ring, &world_.io()}),
          admission_(places),
          config_(config_of(options)),
          reactor_(config_, pages_, table_, world_.io(), mailbox_, metrics_) {
        const Result<void> listening = reactor_.listen();
        PULSE_ASSERT(listening);
    }
    KernelStage(const KernelStage&) = delete;
    KernelStage& operator=(const KernelStage&) = delete;
    ~KernelStage() {
        reactor_.drain();
        reactor_.stop_hard();
        for (int left = 1'000; left > 0 && !reactor_.drained(); --left) turn();
    }

    RealPeer connect() { return world_.connect(config_.options->listen[0].address); }
    // Once; it sleeps no longer than `most`.
    void turn(Nanos most = kMillisecond) { reactor_.turn(world_.io().now() + most); }
    const ConnectionTable& table() const { return table_; }
    const Reactor<typename World::Io>& reactor() const { return reactor_; }
    MetricsSnapshot metrics() const { return metrics_.snapshot(); }

  private:
    static void ring(void* io) { static_cast<typename World::Io*>(io)->wake(); }
    ReactorConfig config_of(const LoopOptions& options) {
        auto own = std::make_shared<LoopOptions>(options);
        own->listen = {world_.free_address()};
        ReactorConfig config = make_reactor_config(std::move(own));
        config.admission = &admission_;
        return config;
    }

    HeapPages pages_;
    ConnectionTable table_;
    World world_;
    Mailbox mailbox_;
    Admission admission_;
    ReactorMetrics metrics_;
    ReactorConfig config_;
    Reactor<typename World::Io> reactor_;
};

}  // namespace pulse::test
