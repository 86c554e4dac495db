// What connections ask of the kernel, whichever backend there is: the operations and readings of
// io_backend.h that they use, so that they are compiled once and not once a backend. A call here is
// followed by a system call or a submission, beside which its indirection is nothing.
#pragma once

#include <span>

#include "net/io/io_backend.h"

namespace pulse {

// The contract of each is io_backend.h's.
class IoRequests {
  public:
    virtual Result<void> listen(std::span<const ListenAddress> addresses) = 0;
    virtual void close_listener(uint8_t listener) = 0;
    virtual bool spread_accepts(std::span<const uint32_t> shares) = 0;
    virtual void attach(Index index, const Accepted& accepted) = 0;
    virtual void refuse(const Accepted& accepted, std::span<const uint8_t> refusal_message) = 0;
    virtual bool send(Index index, std::span<const uint8_t> bytes) = 0;
    virtual void submit() = 0;
    virtual void hold_off(Index index) = 0;
    virtual void resume(Index index) = 0;
    virtual bool is_held_off(Index index) const = 0;
    virtual void finish(Index index) = 0;
    virtual void close(Index index, CloseMode mode) = 0;
    virtual SendProgress send_progress(Index index) = 0;
    virtual SocketAddress peer_address(Index index) = 0;
    virtual const IoCounters& counters() const = 0;
    virtual size_t memory_bytes() const = 0;
    virtual TransportFacts transport_facts(Index index) = 0;
    virtual void bound_silence(Index index, const SocketOptions& bounds) = 0;
    virtual Nanos now() const = 0;
    virtual Nanos drained_until() const = 0;
    virtual Nanos clock() const = 0;

  protected:
    ~IoRequests() = default;
};

// Those of one backend, which outlives this.
template <IoBackend Io>
class IoRequestsOf final : public IoRequests {
  public:
    explicit IoRequestsOf(Io& io) : io_(io) {}
    Result<void> listen(std::span<const ListenAddress> addresses) override {
        return io_.listen(addresses);
    }
    void close_listener(uint8_t listener) override { io_.close_listener(listener); }
    bool spread_accepts(std::span<const uint32_t> shares) override {
        return io_.spread_accepts(shares);
    }
    void attach(Index index, const Accepted& accepted) override { io_.attach(index, accepted); }
    void refuse(const Accepted& accepted, std::span<const uint8_t> refusal_message) override {
        io_.refuse(accepted, refusal_message);
    }
    bool send(Index index, std::span<const uint8_t> bytes) override {
        return io_.send(index, bytes);
    }
    void submit() override { io_.submit(); }
    void hold_off(Index index) override { io_.hold_off(index); }
    void resume(Index index) override { io_.resume(index); }
    bool is_held_off(Index index) const override { return io_.is_held_off(index); }
    void finish(Index index) override { io_.finish(index); }
    void close(Index index, CloseMode mode) override { io_.close(index, mode); }
    SendProgress send_progress(Index index) override { return io_.send_progress(index); }
    SocketAddress peer_address(Index index) override { return io_.peer_address(index); }
    const IoCounters& counters() const override { return io_.counters(); }
    size_t memory_bytes() const override { return io_.memory_bytes(); }
    TransportFacts transport_facts(Index index) override { return io_.transport_facts(index); }
    void bound_silence(Index index, const SocketOptions& bounds) override {
        io_.bound_silence(index, bounds);
    }
    Nanos now() const override { return io_.now(); }
    Nanos drained_until() const override { return io_.drained_until(); }
    Nanos clock() const override { return io_.clock(); }

  private:
    Io& io_;
};

}  // namespace pulse
