// The loop without a kernel: what one heartbeat costs from the bytes that a backend hands over to
// the answer that it is given to send, whole turns included. Rows are heartbeat/form; each turn
// brings one heartbeat of each of 1,000 connections. `allocations` counts those of a heartbeat.
//
// bench/instructions.py runs this under callgrind: what a busy machine does not blur.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <vector>

#include "core/page_source.h"
#include "net/loop/reactor.h"
#include "net/loop/reactor_config.h"
#include "net/protocols/listen_uri.h"

#include "bench/allocations.h"

namespace pulse::bench {
namespace {

constexpr uint32_t kConnections = 1'000;
constexpr int kTurns = 200;

// Takes whatever it is given to send, at once, and brings what the bench puts in `next`.
class NoKernel {
  public:
    // ---- what the bench says and asks
    void accept(uint32_t count) { accepts_ = count; }
    void bring(const std::string& bytes) {
        incoming_.assign(kReceiveFrontBytes + bytes.size() + kReceivePadBytes, 0);
        std::memcpy(incoming_.data() + kReceiveFrontBytes, bytes.data(), bytes.size());
        original_ = incoming_;
        bytes_ = bytes.size();
    }
    uint64_t sent_bytes() const { return all_sent_bytes_; }
    void forget() { all_sent_bytes_ = 0; }

    // ---- the backend
    Result<void> listen(std::span<const ListenAddress>) { return {}; }
    void connect(Index, const SocketAddress&, const SocketAddress&) {}
    void attach(Index, const Accepted&) {}
    void refuse(const Accepted&, std::span<const uint8_t>) {}
    bool send(Index, std::span<const uint8_t> bytes) {
        all_sent_bytes_ += bytes.size();
        return true;
    }
    void hold_off(Index) { PULSE_ASSERT(false && "a heartbeat is a small frame"); }
    void resume(Index) {}
    bool is_held_off(Index) const { return false; }
    void finish(Index) {}
    void close(Index index, CloseMode) { closes_.push_back(index); }
    bool rest(Nanos) { return false; }
    void wake() {}
    Nanos now() const { return now_; }
    Nanos drained_until() const { return now_; }
    SendProgress send_progress(Index) { return {}; }
    SocketAddress peer_address(Index) { return {}; }
    TransportFacts transport_facts(Index) { return {}; }
    void bound_silence(Index, const SocketOptions&) {}
    bool spread_accepts(std::span<const uint32_t>) { return false; }
    void close_listener(uint8_t) {}
    Nanos woke_at() const { return now_; }
    Nanos clock() const { return now_; }
    Nanos cpu_clock() const { return 0; }
    const IoCounters& counters() const { return counters_; }
    size_t memory_bytes() const { return 0; }
    template <IoHandler H>
    void poll(Nanos, H& handler) {
        now_ += kMillisecond;
        for (; accepts_ > 0; --accepts_) handler.on_accept(Accepted{});
        if (bytes_ > 0) {
            for (Index index = 0; index < kConnections; ++index) {
                // A codec may write into what it is lent: unmasking does.
                std::memcpy(incoming_.data(), original_.data(), original_.size());
                handler.on_bytes(index, {incoming_.data() + kReceiveFrontBytes, bytes_});
            }
        }
        std::vector<Index> closed;
        closed.swap(closes_);
        for (const Index index : closed) handler.on_closed(index);
    }

  private:
    Nanos now_ = kSecond;
    uint32_t accepts_ = 0;
    std::vector<uint8_t> incoming_, original_;
    size_t bytes_ = 0;
    std::vector<Index> closes_;
    uint64_t all_sent_bytes_ = 0;
    IoCounters counters_;
};

// A masked frame of a client's, with less than 126 bytes.
std::string masked(uint8_t first, std::string_view payload) {
    std::string frame{static_cast<char>(first), static_cast<char>(0x80 | payload.size())};
    frame += "\x11\x22\x33\x44";
    for (size_t i = 0; i < payload.size(); ++i)
        frame += static_cast<char>(payload[i] ^ frame[2 + i % 4]);
    return frame;
}
std::string upgrade(std::string_view subprotocol = {}) {
    std::string request =
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    if (!subprotocol.empty())
        request.append("Sec-WebSocket-Protocol: ").append(subprotocol) += "\r\n";
    return request + "\r\n";
}
const std::string kBinaryPing("\xB7\x01\0\4\0\0\0\7beat", 12);
const std::string kBinaryPong("\xB7\x02\0\4\0\0\0\7beat", 12);

struct Form {
    const char* name;
    std::string upgrade;
    std::string ping;
    size_t pong_bytes;
};
const Form kForms[] = {
    {"heartbeat/binary", "", kBinaryPing, kBinaryPong.size()},
    {"heartbeat/websocket_empty", upgrade(), masked(0x89, ""), 2},
    {"heartbeat/websocket_payload", upgrade(), masked(0x89, "beat"), 6},
    {"heartbeat/websocket_json", upgrade(), masked(0x81, R"({"type":"ping","seq":7})"), 25},
    {"heartbeat/websocket_bare_ping", upgrade(), masked(0x81, "PING"), 6},
    {"heartbeat/websocket_binary", upgrade("pulse.v1.binary"), masked(0x82, kBinaryPing), 14},
    {"heartbeat/json_line", "", "{\"type\":\"ping\",\"seq\":7}\n", 24},
};

class Stage {
  public:
    Stage()
        : table_(pages_, kConnections),
          mailbox_(1, kMailboxSlots, {}),
          config_(config()),
          reactor_(config_, pages_, table_, io_, mailbox_, metrics_) {}
    ~Stage() {
        io_.bring({});
        reactor_.drain();
        reactor_.stop_hard();
        while (!reactor_.drained()) reactor_.turn(0);
    }
    void begin(const Form& form) {
        io_.accept(kConnections);
        reactor_.turn(0);
        if (!form.upgrade.empty()) {
            io_.bring(form.upgrade);
            reactor_.turn(0);
        }
        io_.bring(form.ping);
        for (int warm = 0; warm < 10; ++warm) reactor_.turn(0);
        io_.forget();
    }
    // Not inlined: what callgrind counts.
    [[gnu::noinline]] void run_heartbeats() {
        for (int turn = 0; turn < kTurns; ++turn) reactor_.turn(0);
    }
    uint64_t sent_bytes() const { return io_.sent_bytes(); }

  private:
    ReactorConfig config() {
        auto options = std::make_shared<LoopOptions>();
        options->listen = {*parse_listen_uri("auto://127.0.0.1:0")};
        ReactorConfig config = make_reactor_config(std::move(options));
        config.admission = &admission_;
        return config;
    }

    HeapPages pages_;
    ConnectionTable table_;
    NoKernel io_;
    Mailbox mailbox_;
    Admission admission_{kConnections};
    ReactorMetrics metrics_;
    ReactorConfig config_;
    Reactor<NoKernel> reactor_;
};

void heartbeat(benchmark::State& state, const Form& form) {
    Stage stage;
    stage.begin(form);
    const uint64_t before = allocations;
    uint64_t beats = 0;
    for (auto _ : state) {
        stage.run_heartbeats();
        beats += uint64_t{kTurns} * kConnections;
    }
    const auto count = static_cast<double>(beats);
    state.counters["allocations"] = static_cast<double>(allocations - before) / count;
    state.counters["per_heartbeat"] =
        benchmark::Counter(count, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
    if (stage.sent_bytes() != beats * form.pong_bytes) {
        state.SkipWithError("the answers are not those of the heartbeats");
    }
}

const bool kRegistered = [] {
    for (const Form& form : kForms) {
        benchmark::RegisterBenchmark(form.name, [&form](benchmark::State& state) {
            heartbeat(state, form);
        })->Iterations(5);
    }
    return true;
}();

}  // namespace
}  // namespace pulse::bench
