// How many connections the whole server holds, and how fast they come: what reactors share, touched
// when a connection begins and ends and never in between. Of 54 reactors a share of a rate would be
// too small for the burst that the kernel happens to give one of them.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "core/overload.h"
#include "core/rate_limiter.h"
#include "core/types.h"
#include "net/io/limits.h"
#include "net/loop/limits.h"

namespace pulse {

class Admission {
  public:
    explicit Admission(uint32_t connections_max) : connections_max_(connections_max) {}

    // Counts one in, unless that is one too many.
    bool enter() {
        if (live_.fetch_add(1, std::memory_order_relaxed) < connections_max_) return true;
        leave();
        return false;
    }
    void leave() { live_.fetch_sub(1, std::memory_order_relaxed); }

    // The same of one listener, which may have `most` at once.
    bool enter(uint8_t listener, uint32_t most) {
        if (of_listener_[listener].fetch_add(1, std::memory_order_relaxed) < most) return true;
        leave(listener);
        return false;
    }
    void leave(uint8_t listener) { of_listener_[listener].fetch_sub(1, std::memory_order_relaxed); }
    uint32_t live(uint8_t listener) const {
        return of_listener_[listener].load(std::memory_order_relaxed);
    }

    // Connections whose handshake, or first complete message, is due.
    void begin_handshake() { handshakes_.fetch_add(1, std::memory_order_relaxed); }
    void end_handshake() { handshakes_.fetch_sub(1, std::memory_order_relaxed); }
    uint32_t handshakes() const { return handshakes_.load(std::memory_order_relaxed); }

    // TLS handshakes in flight, each with the memory that OpenSSL has for one: counts one in,
    // unless that is more than `most`.
    bool begin_tls(uint32_t most) {
        const uint32_t others = tls_handshakes_.fetch_add(1, std::memory_order_relaxed);
        if (others >= most) {
            end_tls();
            return false;
        }
        uint32_t before = tls_handshakes_most_.load(std::memory_order_relaxed);
        while (before <= others && !tls_handshakes_most_.compare_exchange_weak(
                                       before, others + 1, std::memory_order_relaxed)) {
        }
        return true;
    }
    void end_tls() { tls_handshakes_.fetch_sub(1, std::memory_order_relaxed); }
    uint32_t tls_handshakes() const { return tls_handshakes_.load(std::memory_order_relaxed); }
    // The most of them at once since the last call.
    uint32_t take_tls_handshakes_most() {
        return tls_handshakes_most_.exchange(tls_handshakes(), std::memory_order_relaxed);
    }

    // A side connection of this address begins, unless the server has `most` of them already, or
    // the address kSidesPerAddressMax.
    bool begin_side(uint32_t address, uint32_t most) {
        const bool fits = sides_.fetch_add(1, std::memory_order_relaxed) < most;
        auto& of_address = sides_of_[address % kSideCounts];
        if (of_address.fetch_add(1, std::memory_order_relaxed) < kSidesPerAddressMax && fits)
            return true;
        end_side(address);
        return false;
    }
    void end_side(uint32_t address) {
        sides_.fetch_sub(1, std::memory_order_relaxed);
        sides_of_[address % kSideCounts].fetch_sub(1, std::memory_order_relaxed);
    }
    uint32_t sides() const { return sides_.load(std::memory_order_relaxed); }

    // The step of overload that memory asks for, which the main thread finds out, and how many
    // reactors refuse newcomers for any.
    void set_memory_step(OverloadStep step) { memory_step_.store(step, std::memory_order_relaxed); }
    OverloadStep memory_step() const { return memory_step_.load(std::memory_order_relaxed); }
    // The same of anomalies, which their watch finds out (--on-anomaly).
    void set_anomaly_step(OverloadStep step) {
        anomaly_step_.store(step, std::memory_order_relaxed);
    }
    OverloadStep anomaly_step() const { return anomaly_step_.load(std::memory_order_relaxed); }
    void begin_overload() { overloaded_.fetch_add(1, std::memory_order_relaxed); }
    void end_overload() { overloaded_.fetch_sub(1, std::memory_order_relaxed); }
    uint32_t overloaded() const { return overloaded_.load(std::memory_order_relaxed); }

    // Bytes that reactors hold and use before they take more; each adds what has changed.
    void add_reusable(int64_t bytes) { reusable_.fetch_add(bytes, std::memory_order_relaxed); }
    uint64_t reusable() const {
        const int64_t bytes = reusable_.load(std::memory_order_relaxed);
        return static_cast<uint64_t>(std::max<int64_t>(0, bytes));
    }

    // The bucket of --accept-rate.
    SharedBucket& accepts() { return accepts_; }

    uint32_t live() const { return live_.load(std::memory_order_relaxed); }
    uint32_t connections_max() const { return connections_max_; }

  private:
    const uint32_t connections_max_;
    alignas(kCacheLineBytes) std::atomic<uint32_t> live_{0};
    alignas(kCacheLineBytes) std::atomic<uint32_t> handshakes_{0};
    std::atomic<uint32_t> tls_handshakes_{0};
    std::atomic<uint32_t> tls_handshakes_most_{0};
    std::atomic<uint32_t> sides_{0};
    std::array<std::atomic<uint16_t>, kSideCounts> sides_of_{};  // by address
    SharedBucket accepts_;
    std::atomic<OverloadStep> memory_step_{OverloadStep::none};
    std::atomic<OverloadStep> anomaly_step_{OverloadStep::none};
    std::atomic<uint32_t> overloaded_{0};
    std::atomic<int64_t> reusable_{0};
    std::array<std::atomic<uint32_t>, kListenersMax> of_listener_{};  // with a limit of its own
};

}  // namespace pulse
