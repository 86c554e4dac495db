// Many clients on one thread, in the binary protocol: the load generator's side of the loop. They
// connect at a given pace, beat at a given interval from a timing wheel, spread evenly over it, and
// every pong is timed from the instant its ping was meant to go out.
//
// Owns no thread; everything belongs to the caller's, but for counts(), which any thread may read.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>
#include <vector>

#include "core/connection_table.h"
#include "core/histogram.h"
#include "core/time.h"
#include "core/timing_wheel.h"
#include "net/address.h"
#include "net/io_backend.h"
#include "proto/binary.h"

namespace pulse {

struct CrowdConfig {
    SocketAddress target;
    std::vector<SocketAddress> sources;  // bound in turn; empty: the kernel chooses
    uint32_t connections = 0;
    uint64_t connects_per_second = 0;  // 0: as fast as it goes
    Nanos heartbeat_interval = 0;      // 0: silent
    uint32_t in_progress_max = 256;    // connects at once
    TickClock clock;
};

// One writer, read by anybody.
struct CrowdCounts {
    std::atomic<uint64_t> open{0};
    std::atomic<uint64_t> refused{0};  // connect failed
    std::atomic<uint64_t> lost{0};     // was open, and the server ended it
    std::atomic<uint64_t> pings{0};
    std::atomic<uint64_t> pongs{0};
    std::atomic<uint64_t> probes_answered{0};
    std::atomic<uint64_t> late_pings{0};  // the one before it was not answered yet
};

template <IoBackend Io>
class Crowd {
  public:
    // `io` knows the records of `table`, which holds config.connections places.
    Crowd(const CrowdConfig& config, PageSource& pages, ConnectionTable& table, Io& io)
        : config_(config),
          table_(table),
          io_(io),
          wheel_(pages, table.records(), table.limit(), config.clock.down(io.now())),
          clients_(table.limit()),
          began_(io.now()) {}

    // One pass; returns by `sleep_until`.
    void turn(Nanos sleep_until) {
        connect_some();
        Nanos until = std::min(sleep_until, begins(wheel_.next_work()));
        if (started_ < config_.connections && in_progress_ < config_.in_progress_max) {
            until = std::min(until, next_connect_at());
        }
        io_.poll(until, *this);
        beat_some();
    }
    bool connected() const { return started_ == config_.connections && in_progress_ == 0; }
    const CrowdCounts& counts() const { return counts_; }
    // From the instant a ping was meant to go out to its pong. The crowd's thread only.
    const Histogram& latency() const { return latency_; }

    void on_accept(const Accepted&) { PULSE_ASSERT(false && "a client does not accept"); }
    void on_connected(Index index, IoError error) {
        --in_progress_;
        if (error != 0) {
            bump(counts_.refused);
            return close(index, CloseMode::reset);
        }
        table_[index].state = ConnectionState::open;
        bump(counts_.open);
        if (config_.heartbeat_interval > 0) arm_first(index);
    }
    void on_bytes(Index index, std::span<uint8_t> bytes) {
        Connection& connection = table_[index];
        if (connection.state == ConnectionState::closed) return;
        binary::State state;
        std::memcpy(&state, connection.codec.data(), sizeof state);
        Sink sink{*this, index};
        const Decoded decoded =
            binary::decode<binary::Role::client>(state, bytes, CodecLimits{}, sink);
        if (!decoded.ok()) return lose(index);
        std::memcpy(connection.codec.data(), &state, sizeof state);
    }
    void on_end(Index index, IoError) { lose(index); }
    void on_sent(Index index, IoError error) {
        if (error != 0) return lose(index);
        clients_[index].sending = false;
        flush(index);
    }
    void on_closed(Index index) {
        clients_[index] = Client{};
        table_.release(index);
    }

  private:
    // Beside the record: what a client remembers. The frames of a send in flight must stay where
    // they are.
    struct Client {
        Nanos due = 0;  // when the ping that waits for its pong was meant to go out; 0: none waits
        uint32_t sequence = 0;
        bool sending = false;
        bool ping_wanted = false;
        bool pong_wanted = false;
        uint8_t frames[2 * kBinaryHeaderBytes];
    };
    struct Sink {
        Crowd& crowd;
        Index index;
        void on_ping(uint32_t, std::span<const uint8_t>) {
            bump(crowd.counts_.probes_answered);
            crowd.clients_[index].pong_wanted = true;
            crowd.flush(index);
        }
        void on_pong(uint32_t sequence, std::span<const uint8_t>) { crowd.pong(index, sequence); }
        void on_hello(uint32_t, std::span<const uint8_t>) {}
        void on_message(MessageKind, uint32_t, std::span<const uint8_t>) {}
        void on_goodbye(uint16_t, std::span<const uint8_t>) { crowd.lose(index); }
        void on_welcome(uint32_t, std::span<const uint8_t>) {}
        void on_interval(uint32_t, uint32_t) {}
        void on_error(uint16_t, std::span<const uint8_t>) {}
        bool hold(std::span<const uint8_t>) { return false; }  // it asks for nothing long
        std::span<uint8_t> held() { return {}; }
        void keep_held(size_t) {}
        bool stopped() const { return crowd.table_[index].state == ConnectionState::closed; }
    };

    static void bump(std::atomic<uint64_t>& counter) {
        counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    Nanos begins(Tick tick) const { return tick == kNoTick ? kNever : config_.clock.begins(tick); }
    Nanos next_connect_at() const {
        if (config_.connects_per_second == 0) return 0;
        return began_ + static_cast<Nanos>(started_ * static_cast<uint64_t>(kSecond) /
                                           config_.connects_per_second);
    }

    void connect_some() {
        while (started_ < config_.connections && in_progress_ < config_.in_progress_max &&
               next_connect_at() <= io_.now()) {
            const Index index = table_.take();
            const SocketAddress source = config_.sources.empty()
                                             ? SocketAddress()
                                             : config_.sources[started_ % config_.sources.size()];
            ++started_;
            ++in_progress_;
            io_.connect(index, config_.target, source);
        }
    }
    // Phases by Fibonacci hashing of the place, so that any number of clients covers the interval
    // evenly.
    void arm_first(Index index) {
        const uint64_t fraction = index * 2'654'435'769u;
        const auto phase = static_cast<Nanos>((static_cast<unsigned __int128>(fraction) *
                                               static_cast<uint64_t>(config_.heartbeat_interval)) >>
                                              32);
        wheel_.arm(index, config_.clock.up(io_.now() + phase));
    }
    void beat_some() {
        uint32_t budget = UINT32_MAX;
        const Tick reached = config_.clock.down(io_.now());
        Index index;
        while ((index = wheel_.pop_due(reached, budget)) != kNoIndex) {
            if (table_[index].state != ConnectionState::open) continue;
            Client& client = clients_[index];
            wheel_.arm(index, reached + config_.clock.ticks(config_.heartbeat_interval));
            if (client.due != 0) {
                bump(counts_.late_pings);
                continue;
            }
            client.due = config_.clock.begins(reached);
            client.ping_wanted = true;
            bump(counts_.pings);
            flush(index);
        }
    }
    void flush(Index index) {
        Client& client = clients_[index];
        if (client.sending || (!client.ping_wanted && !client.pong_wanted)) return;
        struct Frames {
            uint8_t* next;
            uint8_t* claim(size_t bytes) { return std::exchange(next, next + bytes); }
        } frames{client.frames};
        if (client.ping_wanted) {
            binary::write_frame(frames, binary::Type::ping, ++client.sequence, {});
        }
        if (client.pong_wanted) binary::write_frame(frames, binary::Type::pong, 0, {});
        client.ping_wanted = client.pong_wanted = false;
        client.sending = true;
        io_.send(index, {client.frames, static_cast<size_t>(frames.next - client.frames)});
    }
    void pong(Index index, uint32_t sequence) {
        Client& client = clients_[index];
        if (client.due == 0 || sequence != client.sequence) return;
        latency_.record(io_.now() - client.due);
        client.due = 0;
        bump(counts_.pongs);
    }
    void lose(Index index) {
        if (table_[index].state == ConnectionState::closed) return;
        bump(counts_.lost);
        counts_.open.store(counts_.open.load(std::memory_order_relaxed) - 1,
                           std::memory_order_relaxed);
        close(index, CloseMode::orderly);
    }
    void close(Index index, CloseMode mode) {
        table_[index].state = ConnectionState::closed;
        io_.close(index, mode);
    }

    CrowdConfig config_;
    ConnectionTable& table_;
    Io& io_;
    TimingWheel<Connection> wheel_;
    std::vector<Client> clients_;
    CrowdCounts counts_;
    Histogram latency_;
    const Nanos began_;
    uint32_t started_ = 0;
    uint32_t in_progress_ = 0;
};

}  // namespace pulse
