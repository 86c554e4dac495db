// The contract suite over the simulated kernel: a fake that breaks the contract tests nothing. Once
// as a plain kernel, and again as kernels with the habits that a plan can give one
// within the contract.
#include <deque>
#include <memory>

#include "net/sim/backend.h"

#include "tests/net/io/io_contract.h"

namespace pulse::test {
namespace {

constexpr Nanos kStart = 1'000 * kSecond;
constexpr Nanos kHandshakePatience = 100 * kMillisecond;

struct SimParts : SimProgram {
    explicit SimParts(const FaultPlan& faults) : network(1, faults, kStart) {}
    void on_socket(uint64_t) override {}
    void on_backlog(uint16_t) override {}
    void on_timer(uint64_t) override {}

    SimNetwork network;
    SimLog log;
};

class SimPeer {
  public:
    SimPeer(SimParts& parts, SimSocket socket)
        : parts_(&parts),
          socket_(socket),
          far_(parts.network.far_end(socket)),
          local_(parts.network.address(socket)) {}
    SimPeer(SimPeer&& other) noexcept { *this = std::move(other); }
    SimPeer& operator=(SimPeer&& other) noexcept {
        std::swap(parts_, other.parts_);
        std::swap(socket_, other.socket_);
        std::swap(far_, other.far_);
        std::swap(local_, other.local_);
        std::swap(ended_, other.ended_);
        std::swap(error_, other.error_);
        return *this;
    }
    ~SimPeer() {
        if (parts_ != nullptr && socket_ != SimSocket{}) parts_->network.close(socket_, false);
    }

    size_t write(std::span<const uint8_t> bytes) {
        if (socket_ == SimSocket{}) return 0;
        const size_t count = parts_->network.write(socket_, bytes);
        if (count == 0) meet_error();
        return count;
    }
    void read(std::string& into, size_t most = SIZE_MAX) {
        if (socket_ == SimSocket{}) return;
        std::vector<uint8_t> buffer(64 * 1024);
        while (most > 0) {
            const auto window = std::span(buffer).first(std::min(most, buffer.size()));
            const size_t count = parts_->network.read(socket_, window);
            if (count == 0) break;
            into.append(reinterpret_cast<const char*>(buffer.data()), count);
            most -= count;
        }
        if (most == 0) return;
        if (parts_->network.ended(socket_)) {
            ended_ = true;
        } else {
            meet_error();
        }
    }
    bool ended() const { return ended_; }
    IoError error() const { return error_; }
    void finish() { parts_->network.finish(socket_); }
    void reset() {
        parts_->network.close(std::exchange(socket_, SimSocket{}), true);
        error_ = ECONNRESET;
    }
    Nanos arrived_at() const {
        const SimNetwork& network = parts_->network;
        return network.valid(far_) ? network.all_arrived_at(far_) : network.clock();
    }
    SocketAddress local() const { return local_; }

  private:
    void meet_error() {
        if (error_ == 0) error_ = parts_->network.error(socket_);
    }

    SimParts* parts_ = nullptr;
    SimSocket socket_;
    SimSocket far_;
    SocketAddress local_;
    bool ended_ = false;
    IoError error_ = 0;
};

// An address of the simulated machine; only its port means something there.
SocketAddress address_of(uint16_t port) {
    SocketAddress address = *parse_address("10.0.0.1:1");
    address.set_port(port);
    return address;
}

class SimListener {
  public:
    explicit SimListener(SimParts& parts)
        : parts_(parts), port_(parts.network.listen(parts, 0, 64)) {}
    ~SimListener() { parts_.network.stop_listening(port_); }
    SocketAddress address() const { return address_of(port_); }
    std::optional<SimPeer> accept() {
        if (parts_.network.backlog(port_) == 0) return std::nullopt;
        return SimPeer(parts_, parts_.network.accept(port_, parts_, 0));
    }

  private:
    SimParts& parts_;
    uint16_t port_;
};

class SimWorld {
  public:
    using Io = SimBackend;
    using Peer = SimPeer;
    using PeerListener = SimListener;
    static constexpr bool kThreads = false;  // virtual time does not wait for another thread

    SimWorld(const FaultPlan& faults, Connection* records, uint32_t places)
        : parts_(faults), io_(parts_.network, parts_.log, 1, faults, records, places) {}
    ~SimWorld() {
        for (const Violation& each : parts_.log.kept()) ADD_FAILURE() << each.rule << each.what;
    }

    Io& io() { return io_; }
    Nanos stall(Nanos duration) {
        parts_.network.run_until(parts_.network.clock() + duration);
        return parts_.network.clock();
    }
    ListenAddress free_address() { return listener_at(next_port_++); }
    ListenAddress taken_address() {
        const ListenAddress address = listener_at(next_port_++);
        parts_.network.listen(parts_, address.address.port(), 1);
        return address;
    }
    SocketAddress dead_address() { return address_of(next_port_++); }
    static SocketAddress source_address() { return *parse_address("10.0.0.9:0"); }
    // Past the handshake, if there is an answer: a real peer on loopback may write at once.
    SimPeer connect(const SocketAddress& to) {
        SimNetwork& network = parts_.network;
        const SimSocket socket = network.connect(parts_, 0, to.port(), {});
        const Nanos give_up = network.clock() + kHandshakePatience;
        while (!network.connected(socket) && network.error(socket) == 0 &&
               network.next_event_at() <= give_up) {
            network.run_until(network.next_event_at());
        }
        return {parts_, socket};
    }
    PeerListener open_listener() { return PeerListener(parts_); }
    void exhaust() { io_.set_descriptors_max(io_.descriptors_used()); }
    void relieve() { io_.set_descriptors_max(UINT32_MAX); }

  private:
    static ListenAddress listener_at(uint16_t port) {
        ListenAddress listener;
        listener.address = address_of(port);
        listener.text = "tcp://" + listener.address.text();
        return listener;
    }

    SimParts parts_;
    SimBackend io_;
    uint16_t next_port_ = 9'000;
};

// A kernel that answers at once, as an epoll set does.
struct PlainKernel : SimWorld {
    PlainKernel(Connection* records, uint32_t places) : SimWorld(no_faults(), records, places) {}
};

// A ring: operations are submitted in poll, complete later, and have to be cancelled; a few
// completions a poll, in any order, into few buffers.
FaultPlan ring_habits() {
    FaultPlan plan;
    plan.submit_in_poll = true;
    for (const Fault fault : {Fault::late_completion, Fault::shuffle, Fault::short_read,
                              Fault::buffers_short, Fault::small_batch}) {
        plan.present.set(static_cast<size_t>(fault));
        plan.per_million[static_cast<size_t>(fault)] = 100'000;
    }
    plan.completion_max = 2 * kMillisecond;
    plan.receive_buffers = 24;
    plan.batch_max = 32;
    return plan;
}
struct RingKernel : SimWorld {
    RingKernel(Connection* records, uint32_t places) : SimWorld(ring_habits(), records, places) {}
};

// A network that cuts segments up, one byte now and then.
FaultPlan crumbling_habits() {
    FaultPlan plan;
    plan.present.set(static_cast<size_t>(Fault::split));
    plan.per_million[static_cast<size_t>(Fault::split)] = 300'000;
    return plan;
}
struct CrumblingNetwork : SimWorld {
    CrumblingNetwork(Connection* records, uint32_t places)
        : SimWorld(crumbling_habits(), records, places) {}
};

// A process that is not scheduled for a moment, now and then, in the middle of a poll.
FaultPlan stuttering_habits() {
    FaultPlan plan;
    plan.present.set(static_cast<size_t>(Fault::stutter));
    plan.per_million[static_cast<size_t>(Fault::stutter)] = 200'000;
    plan.stutter_max = kMillisecond;
    return plan;
}
struct StutteringKernel : SimWorld {
    StutteringKernel(Connection* records, uint32_t places)
        : SimWorld(stuttering_habits(), records, places) {}
};

using SimKernels = ::testing::Types<PlainKernel, RingKernel, CrumblingNetwork, StutteringKernel>;
INSTANTIATE_TYPED_TEST_SUITE_P(Simulated, IoContract, SimKernels);

}  // namespace
}  // namespace pulse::test
