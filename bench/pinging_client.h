// The peers of a whole server that is measured: WebSocket connections over loopback, all in one
// thread with a descriptor table of its own, each of which sends a masked empty ping, or a pong
// that wants no answer, when it is due. Rounds are ordered from another thread.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/server/descriptors.h"

#include "bench/thread_cpu.h"

namespace pulse::bench {

class PingingClient {
  public:
    // What a round saw after its warming up.
    struct Seen {
        uint64_t sent = 0;     // heartbeats, of which some want no answer
        uint64_t one_way = 0;  // those
        uint64_t answered = 0;
        Nanos waited = 0;       // for all answers together
        Nanos longest_gap = 0;  // between two answers of one connection
        Nanos measured = 0;
        Nanos cpu = 0;         // of the client
        Nanos server_cpu = 0;  // what the server's threads had
        // Heartbeats that the server is done with, as far as it can be known.
        uint64_t served() const { return answered + one_way; }
    };
    struct Options {
        uint16_t port = 0;
        uint32_t core = 0;
        uint32_t connections = 0;
        uint32_t answer_every = 1;  // the others are unsolicited pongs
        std::function<Nanos()> server_cpu;
    };

    explicit PingingClient(Options options)
        : options_(std::move(options)), thread_([this] { run(); }) {}
    ~PingingClient() {
        leaves_ = true;
        order();
        thread_.join();
    }
    PingingClient(const PingingClient&) = delete;
    PingingClient& operator=(const PingingClient&) = delete;

    // Until all are connected and upgraded. Returns the server's CPU time for one of them.
    Nanos connect_cpu() {
        connected_.wait(false);
        return connect_cpu_;
    }
    // `rate` heartbeats a second, for `warm_up` and then for `measured`.
    void start_round(uint32_t rate, Nanos warm_up, Nanos measured) {
        rate_ = rate;
        warm_up_ = warm_up;
        measured_ = measured;
        done_ = false;
        order();
    }
    bool done() const { return done_; }
    // Once the round is done, for which it waits.
    const Seen& seen() const {
        done_.wait(false);
        return seen_;
    }

  private:
    static constexpr uint32_t kPerSource = 8'000;  // connections of one source address
    // Later than this, pings are given up instead of sending ever more at once.
    static constexpr Nanos kLateMax = 20 * kMillisecond;
    static constexpr uint32_t kSendsAtOnce = 64;
    static constexpr Nanos kLastAnswers = kSecond;  // to wait for after a round
    static constexpr size_t kFrameBytes = 6;

    void run() {
        pin_to_core(options_.core);
        // Where it is refused the server and the client share one.
        static_cast<void>(own_descriptor_table());
        const Nanos before = options_.server_cpu();
        connect_all();
        connect_cpu_ = (options_.server_cpu() - before) / options_.connections;
        connected_ = true;
        connected_.notify_one();
        for (uint32_t orders = 0;;) {
            ordered_.wait(orders);
            if (leaves_) break;
            orders = ordered_;
            beat();
            done_ = true;
            done_.notify_one();
        }
        for (const int descriptor : sockets_) ::close(descriptor);
        ::close(epoll_);
    }

    void order() {
        ++ordered_;
        ordered_.notify_one();
    }

    int connect_one(uint32_t number) const {
        static constexpr char kUpgrade[] =
            "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const SocketAddress to = *parse_address("127.0.0.1:" + std::to_string(options_.port));
        SocketAddress source = *parse_address("127.0.0.1:0");
        source.v4.sin_addr.s_addr = htonl(0x7f000002u + number / kPerSource);
        const int yes = 1;
        setsockopt(descriptor, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &yes, sizeof yes);
        setsockopt(descriptor, IPPROTO_TCP, 1 /* TCP_NODELAY */, &yes, sizeof yes);
        PULSE_ASSERT(bind(descriptor, &source.base, source.size_bytes()) == 0);
        PULSE_ASSERT(::connect(descriptor, &to.base, to.size_bytes()) == 0);
        PULSE_ASSERT(::send(descriptor, kUpgrade, sizeof kUpgrade - 1, 0) > 0);
        char answer[1'024];
        PULSE_ASSERT(::recv(descriptor, answer, sizeof answer, 0) > 12);
        PULSE_ASSERT(std::memcmp(answer, "HTTP/1.1 101", 12) == 0);
        return descriptor;
    }
    void connect_all() {
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        for (uint32_t i = 0; i < options_.connections; ++i) {
            sockets_.push_back(connect_one(i));
            epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u32 = i}};
            PULSE_ASSERT(epoll_ctl(epoll_, EPOLL_CTL_ADD, sockets_[i], &event) == 0);
            beats_.push_back(static_cast<uint8_t>(i));  // or all would want their answers at once
        }
        answered_at_.assign(options_.connections, 0);
        sent_at_.assign(options_.connections, 0);
    }

    // Heartbeat k is due k / rate after the start, on connection k modulo their number.
    void beat() {
        seen_ = {};
        const Nanos begin = monotonic_clock();
        const Nanos from = begin + warm_up_;
        const Nanos until = from + measured_;
        const Nanos pace = kSecond / rate_;
        Nanos due = begin;
        Seen before{};
        for (Nanos time = begin; time < until; time = monotonic_clock()) {
            if (seen_.measured == 0 && time >= from) {
                before = seen_;
                before.cpu = thread_cpu_clock();
                before.server_cpu = options_.server_cpu();
                answered_at_.assign(options_.connections, time);
                seen_.longest_gap = 0;
                seen_.measured = 1;
            }
            due = std::max(due, time - kLateMax);
            uint32_t sent = 0;
            for (; due <= time && sent < kSendsAtOnce; due += pace, ++sent) heartbeat(time);
            take_answers(sent > 0 ? 0 : due - time);
        }
        const Nanos end = monotonic_clock();
        for (const Nanos last : answered_at_)
            seen_.longest_gap = std::max(seen_.longest_gap, end - last);
        Seen seen = seen_;
        seen.measured = end - from;
        seen.sent -= before.sent;
        seen.one_way -= before.one_way;
        seen.answered -= before.answered;
        seen.waited -= before.waited;
        seen.cpu = thread_cpu_clock() - before.cpu;
        seen.server_cpu = options_.server_cpu() - before.server_cpu;
        while (seen_.served() < seen_.sent && monotonic_clock() < end + kLastAnswers)
            take_answers(kMillisecond);
        seen_ = seen;
    }
    void heartbeat(Nanos time) {
        static constexpr uint8_t kPing[kFrameBytes] = {0x89, 0x80, 0, 0, 0, 0};
        static constexpr uint8_t kPong[kFrameBytes] = {0x8a, 0x80, 0, 0, 0, 0};
        const bool one_way = beats_[next_]++ % options_.answer_every != 0;
        PULSE_ASSERT(::send(sockets_[next_], one_way ? kPong : kPing, kFrameBytes,
                            MSG_DONTWAIT | MSG_NOSIGNAL) == kFrameBytes);
        ++seen_.sent;
        seen_.one_way += one_way ? 1 : 0;
        sent_at_[next_] = time;
        next_ = (next_ + 1) % options_.connections;
    }
    void take_answers(Nanos wait) {
        epoll_event events[256];
        const timespec timeout{.tv_sec = 0, .tv_nsec = std::clamp<Nanos>(wait, 0, kMillisecond)};
        const int count = epoll_pwait2(epoll_, events, 256, &timeout, nullptr);
        const Nanos time = count > 0 ? monotonic_clock() : 0;
        for (int i = 0; i < count; ++i) {
            const uint32_t number = events[i].data.u32;
            uint8_t bytes[512];
            const ssize_t got = ::recv(sockets_[number], bytes, sizeof bytes, MSG_DONTWAIT);
            PULSE_ASSERT(got > 0 && bytes[0] >= 0x89);
            // A pong has two bytes, and so has a probe of the server, which is a ping.
            seen_.answered += static_cast<uint64_t>(got) / 2;
            seen_.waited += (time - sent_at_[number]) * (got / 2);
            seen_.longest_gap = std::max(seen_.longest_gap, time - answered_at_[number]);
            answered_at_[number] = time;
        }
    }

    const Options options_;
    int epoll_ = -1;
    std::vector<int> sockets_;
    std::vector<uint8_t> beats_;  // of each, so far
    std::vector<Nanos> answered_at_, sent_at_;
    uint32_t next_ = 0;
    Nanos connect_cpu_ = 0;
    // Written before ordered_.
    uint32_t rate_ = 0;
    Nanos warm_up_ = 0, measured_ = 0;
    Seen seen_;
    std::atomic<uint32_t> ordered_{0};
    std::atomic<bool> connected_{false}, done_{false}, leaves_{false};
    std::thread thread_;
};

}  // namespace pulse::bench
