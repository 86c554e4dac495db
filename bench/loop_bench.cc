// The loop without a kernel: what one heartbeat costs from the bytes that a backend hands over to
// the answer that it is given to send, whole turns included. Rows are heartbeat/form; each turn
// brings one heartbeat of each of 1,000 connections. `allocations` counts those of a heartbeat.
// Behind TLS, with OpenSSL's objects and frozen, each connection has its own records, which its
// client has sealed before anything is counted.
//
// bench/instructions.py runs this under callgrind: what a busy machine does not blur.
#include <benchmark/benchmark.h>
#include <openssl/ssl.h>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/page_source.h"
#include "net/loop/reactor.h"
#include "net/loop/reactor_config.h"
#include "net/protocols/listen_uri.h"
#include "net/tls/traffic_secrets.h"
#include "proto/tls/records.h"

#include "bench/allocations.h"
#include "tests/support/certificates.h"

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
    void submit() {}
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

  protected:
    uint64_t all_sent_bytes_ = 0;

  private:
    Nanos now_ = kSecond;
    uint32_t accepts_ = 0;
    std::vector<uint8_t> incoming_, original_;
    size_t bytes_ = 0;
    std::vector<Index> closes_;
    IoCounters counters_;
};

// Brings each connection what is its own, and may keep what each is sent.
class NoKernelForEach : public NoKernel {
  public:
    // Of a turn, by connection; with the slack of a backend around it. Empty: nothing.
    using Turn = std::vector<std::string>;
    static std::string with_slack(std::string_view bytes) {
        if (bytes.empty()) return {};
        return std::string(kReceiveFrontBytes, '\0').append(bytes).append(kReceivePadBytes, '\0');
    }
    void bring_each(std::vector<Turn> turns) {
        turns_ = std::move(turns);
        turn_ = 0;
    }
    void keep_sent(bool keeps) {
        keeps_ = keeps;
        sent_.assign(kConnections, {});
    }
    std::string take_sent(Index index) { return std::exchange(sent_[index], {}); }

    bool send(Index index, std::span<const uint8_t> bytes) {
        all_sent_bytes_ += bytes.size();
        if (keeps_) sent_[index].append(bytes.begin(), bytes.end());
        return true;
    }
    template <IoHandler H>
    void poll(Nanos deadline, H& handler) {
        NoKernel::poll(deadline, handler);
        if (turn_ == turns_.size()) return;
        Turn& turn = turns_[turn_++];
        for (Index index = 0; index < kConnections; ++index) {
            std::string& own = turn[index];
            if (own.empty()) continue;
            auto* const start = reinterpret_cast<uint8_t*>(own.data());
            handler.on_bytes(index, {start + kReceiveFrontBytes,
                                     own.size() - kReceiveFrontBytes - kReceivePadBytes});
        }
    }

  private:
    std::vector<Turn> turns_;
    size_t turn_ = 0;
    std::vector<std::string> sent_;
    bool keeps_ = false;
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

template <class Io>
class Stage {
  public:
    explicit Stage(std::string_view listener = "auto://127.0.0.1:0",
                   std::shared_ptr<const TlsContext> tls = nullptr)
        : table_(pages_, kConnections),
          mailbox_(1, kMailboxSlots, {}),
          config_(config(listener, std::move(tls))),
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
    Io& io() { return io_; }
    void turn() { reactor_.turn(0); }

  private:
    ReactorConfig config(std::string_view listener, std::shared_ptr<const TlsContext> tls) {
        auto options = std::make_shared<LoopOptions>();
        options->listen = {*parse_listen_uri(listener)};
        options->tls_context = std::move(tls);
        ReactorConfig config = make_reactor_config(std::move(options));
        config.admission = &admission_;
        return config;
    }

    HeapPages pages_;
    ConnectionTable table_;
    Io io_;
    Mailbox mailbox_;
    Admission admission_{kConnections};
    ReactorMetrics metrics_;
    ReactorConfig config_;
    Reactor<Io> reactor_;
};

// The clients of 1,000 connections: a handshake each by OpenSSL, records by ours behind it.
class TlsClients {
  public:
    explicit TlsClients(Stage<NoKernelForEach>& stage)
        : stage_(stage), context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
        allow_freezing(context_.get());
        SSL_CTX_set_ciphersuites(context_.get(), "TLS_AES_128_GCM_SHA256");
        for (Index index = 0; index < kConnections; ++index) {
            SSL* const ssl = clients_.emplace_back(SSL_new(context_.get()), SSL_free).get();
            PULSE_ASSERT(watch_secrets(ssl));
            SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
            SSL_set_connect_state(ssl);
        }
    }
    // False: one failed.
    bool continue_handshakes() {
        NoKernelForEach& io = stage_.io();
        io.keep_sent(true);
        io.accept(kConnections);
        stage_.turn();
        bool open = false;
        for (int flight = 0; flight < 2; ++flight) {
            NoKernelForEach::Turn turn(kConnections);
            open = true;
            for (Index index = 0; index < kConnections; ++index) {
                SSL* const ssl = clients_[index].get();
                const std::string heard = io.take_sent(index);
                if (!heard.empty())
                    BIO_write(SSL_get_rbio(ssl), heard.data(), static_cast<int>(heard.size()));
                open &= SSL_do_handshake(ssl) == 1;
                std::string says(BIO_ctrl_pending(SSL_get_wbio(ssl)), '\0');
                BIO_read(SSL_get_wbio(ssl), says.data(), static_cast<int>(says.size()));
                turn[index] = NoKernelForEach::with_slack(says);
            }
            io.bring_each({std::move(turn)});
            stage_.turn();
        }
        io.keep_sent(false);
        for (Index index = 0; open && index < kConnections; ++index)
            open = records_.begin(state(index), frozen_beginning(clients_[index].get()).value());
        clients_.clear();
        return open;
    }
    // So many turns of a record from each.
    void bring(size_t turns, std::string_view plain) {
        std::vector<NoKernelForEach::Turn> all(turns, NoKernelForEach::Turn(kConnections));
        std::vector<uint8_t> record(tls::sealed_bytes_max(plain.size()));
        const std::span<const uint8_t> bytes{reinterpret_cast<const uint8_t*>(plain.data()),
                                             plain.size()};
        for (NoKernelForEach::Turn& turn : all) {
            for (Index index = 0; index < kConnections; ++index) {
                const size_t made = records_.seal(state(index), bytes, record.data());
                turn[index] = NoKernelForEach::with_slack(
                    {reinterpret_cast<const char*>(record.data()), made});
            }
        }
        stage_.io().bring_each(std::move(all));
    }

  private:
    struct alignas(8) State {
        std::array<std::byte, tls::kStateBytesMax> bytes{};
    };
    tls::State& state(Index index) {
        return *reinterpret_cast<tls::State*>(states_[index].bytes.data());
    }

    Stage<NoKernelForEach>& stage_;
    std::shared_ptr<SSL_CTX> context_;
    std::vector<std::shared_ptr<SSL>> clients_;
    tls::Records records_;
    std::vector<State> states_{kConnections};
};

void heartbeat_of_tls(benchmark::State& state, TlsIdle idle) {
    const test::TestCertificate certificate;
    const test::TestFolder folder;
    const Result<LoadedTls> loaded = load_tls(
        {.certificates = {folder.write("a.pem", certificate.certificate_pem() +
                                                    certificate.key_pem())},
         .idle = idle});
    if (!loaded) return state.SkipWithError(loaded.error().c_str());
    Stage<NoKernelForEach> stage("tls+tcp://127.0.0.1:0", loaded->context);
    TlsClients clients(stage);
    if (!clients.continue_handshakes()) return state.SkipWithError("a handshake failed");
    clients.bring(10, kBinaryPing);
    for (int warm = 0; warm < 10; ++warm) stage.turn();
    stage.io().forget();
    uint64_t beats = 0, allocated = 0;
    for (auto _ : state) {
        state.PauseTiming();
        clients.bring(kTurns, kBinaryPing);
        const uint64_t before = allocations;
        state.ResumeTiming();
        stage.run_heartbeats();
        allocated += allocations - before;
        beats += uint64_t{kTurns} * kConnections;
    }
    const auto count = static_cast<double>(beats);
    state.counters["allocations"] = static_cast<double>(allocated) / count;
    state.counters["per_heartbeat"] =
        benchmark::Counter(count, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
    if (stage.sent_bytes() != beats * (kBinaryPong.size() + tls::kRecordExtraBytes))
        state.SkipWithError("the answers are not those of the heartbeats");
}

void heartbeat(benchmark::State& state, const Form& form) {
    Stage<NoKernel> stage;
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
    for (const auto& [name, idle] : {std::pair{"heartbeat/tls_openssl", TlsIdle::openssl},
                                     std::pair{"heartbeat/tls_frozen", TlsIdle::frozen}}) {
        benchmark::RegisterBenchmark(name, [idle = idle](benchmark::State& state) {
            heartbeat_of_tls(state, idle);
        })->Iterations(5);
    }
    return true;
}();

}  // namespace
}  // namespace pulse::bench
