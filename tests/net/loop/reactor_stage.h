// A whole reactor over the simulated kernel, and peers that write what a test wants, when it wants:
// the production loop and sessions, in virtual time, with every listener in one place.
//
//     ReactorStage stage({.listen = {"auto://10.0.0.1:9000?proxy=on"}});
//     const size_t peer = stage.connect(0);
//     stage.write(peer, "PROXY ...");
//     stage.settle();
//     stage.heard(peer), stage.ended(peer), stage.record(peer), stage.metrics()
//
// Without GoogleTest, so that a fuzz target can play on it too.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/page_source.h"
#include "net/loop/admission.h"
#include "net/loop/reactor.h"
#include "net/loop/reactor_config.h"
#include "net/protocols/listen_uri.h"
#include "net/sim/backend.h"
#include "proto/binary.h"

namespace pulse::test {

struct StagePlan {
    std::vector<std::string> listen;
    LoopOptions options{};  // heartbeats, limits and the like; not its listeners
    FaultPlan faults = no_faults();
    uint64_t seed = 1;
    uint32_t places = 64;
    uint32_t senders = 1;  // to its mailbox
    size_t buffer_reserve_bytes = kBufferReservePerReactor;
    std::optional<DirectoryConfig> directory{};  // not as in a server
    uint32_t ledger_entries = 0;
    bool keeps_debug_lines = false;
    Nanos log_takes = 0;  // how long the sink blocks for each of them
    SipKey probe_key{};
    TraceQueue* traces = nullptr;
    SipKey trace_key{};
    // Of several reactors: which it is, and the mailboxes of all. The caller puts that of each
    // stage into its place before any of them turns.
    uint32_t number = 0;
    std::span<Mailbox* const> mailboxes{};
    AddressTable* addresses = nullptr;  // of all; nullptr: one of its own
};

// `Io` is SimBackend, or derives from it to answer the loop what a test wants.
template <class Io>
class ReactorStageOn final : private SimProgram, private SimWitness {
  public:
    using Loop = Reactor<Io>;

    explicit ReactorStageOn(const StagePlan& plan)
        : network_(plan.seed, plan.faults, 1'000 * kSecond),
          table_(pages_, plan.places),
          io_(network_, log_, plan.seed, plan.faults, table_.records(), plan.places),
          mailbox_(plan.senders + static_cast<uint32_t>(plan.mailboxes.size()), kMailboxSlots,
                   {&ring, &io_}),
          admission_(plan.places),
          addresses_(pages_, plan.places),
          users_(pages_, plan.places),
          config_(config_of(plan)),
          reactor_(config_, pages_, table_, io_, mailbox_, metrics_) {
        io_.set_witness(this);
        const Result<void> listening = reactor_.listen();
        PULSE_ASSERT(listening);
    }
    ReactorStageOn(const ReactorStageOn&) = delete;
    ReactorStageOn& operator=(const ReactorStageOn&) = delete;
    ~ReactorStageOn() override {
        for (Peer& peer : peers_) close_peer(peer, true);
    }

    // ---- peers, by number
    // Port 0 in `source` is any.
    size_t connect(size_t listener, std::string_view source = "127.0.0.1:0") {
        const size_t number = peers_.size();
        Peer& peer = peers_.emplace_back();
        const uint16_t port = config_.options->listen[listener].address.port();
        peer.socket = network_.connect(*this, number, port, *parse_address(source));
        peer.held = true;
        return number;
    }
    // What fits is sent at once, the rest as the server reads. After finish() nothing is sent.
    void write(size_t number, std::span<const uint8_t> bytes) {
        Peer& peer = peers_[number];
        if (peer.finishing) return;
        peer.out.insert(peer.out.end(), bytes.begin(), bytes.end());
        pump(peer);
    }
    void write(size_t number, std::string_view text) { write(number, binary::bytes_of(text)); }
    void set_reading(size_t number, bool reading) {
        peers_[number].reading = reading;
        pump(peers_[number]);
    }
    void finish(size_t number) {
        peers_[number].finishing = true;
        pump(peers_[number]);
    }
    void close(size_t number, bool reset) { close_peer(peers_[number], reset); }
    // All that it was sent so far, but for what the caller has removed.
    std::string& heard(size_t number) { return peers_[number].heard; }
    bool ended(size_t number) const { return peers_[number].ended; }
    bool was_reset(size_t number) const { return peers_[number].was_reset; }
    size_t peers() const { return peers_.size(); }

    // ---- the server's side
    // Time passes, and the loop turns whenever there is something to do.
    void settle(Nanos duration = 5 * kMillisecond) {
        const Nanos end = network_.clock() + duration;
        for (uint64_t left = kTurnsMax; network_.clock() < end; --left) {
            PULSE_ASSERT(left > 0 && "the loop spins");
            reactor_.turn(end);
        }
    }
    // Until no connection is left, however long their deadlines are; false after `most`.
    bool empty_within(Nanos most) {
        const Nanos end = network_.clock() + most;
        while (table_.live() > 0 && network_.clock() < end) settle(kSecond / 4);
        return table_.live() == 0;
    }
    // The record of a peer that is connected; nullptr: it never was accepted, or is gone.
    const Connection* record(size_t number) const {
        const Peer& peer = peers_[number];
        return peer.index ? &table_[*peer.index] : nullptr;
    }
    // Where that record is.
    std::optional<Index> index(size_t number) const { return peers_[number].index; }
    Loop& reactor() { return reactor_; }
    const ReactorConfig& config() const { return config_; }
    Io& io() { return io_; }
    SimNetwork& network() { return network_; }
    HeapPages& pages() { return pages_; }
    const SimLog& log() const { return log_; }
    const ConnectionTable& table() const { return table_; }
    MetricsSnapshot metrics() const { return metrics_.snapshot(); }
    const Admission& admission() const { return admission_; }
    Admission& admission() { return admission_; }
    const AddressTable& users() const { return users_; }
    const AddressTable& addresses() const { return addresses_; }
    uint64_t admitted() const { return admission_.live(); }
    Mailbox& mailbox() { return mailbox_; }
    const Directory& directory() const { return reactor_.connections().directory(); }
    ReactorStats stats() const {
        ReactorStats stats;
        reactor_.fill(stats);
        return stats;
    }
    bool post(const Message& message, uint32_t sender = 0) {
        return mailbox_.post(sender, message);
    }
    // Posts a reload of options that `change` has changed since the reload before, or the start.
    template <class Change>
    bool reload(Change&& change) {
        auto options = std::make_shared<LoopOptions>(*options_.back());
        change(*options);
        return reload_to(std::move(options));
    }
    bool reload_to(std::shared_ptr<const LoopOptions> options) {
        options_.push_back(std::move(options));
        return post({.body = Message::Reload{}, .payload = Payload::of(options_.back())});
    }
    const std::vector<std::string>& debug_lines() const { return debug_lines_; }
    const std::vector<std::string>& warnings() const { return warnings_; }
    const std::vector<LogEvent>& events() const { return events_; }

    // What the wall clock showed when the network's was 0: 2027-01-15T08:00:00Z.
    static constexpr Nanos kWallStart = 1'800'000'000 * kSecond;

  private:
    static constexpr uint64_t kTurnsMax = 10'000'000;

    struct Peer {
        SimSocket socket;
        bool held = false;  // we have not closed it
        bool reading = true;
        bool finishing = false;  // FIN follows what is in `out`
        bool finished = false;
        bool ended = false;
        bool was_reset = false;
        std::optional<Index> index;
        std::vector<uint8_t> out;
        std::string heard;
    };

    static void ring(void* io) { static_cast<Io*>(io)->wake(); }

    ReactorConfig config_of(const StagePlan& plan) {
        auto options = std::make_shared<LoopOptions>(plan.options);
        options->listen.clear();
        for (const std::string& uri : plan.listen) {
            options->listen.push_back(*parse_listen_uri(uri));
        }
        if (plan.keeps_debug_lines) options->log_level = LogLevel::debug;
        ReactorConfig config = make_reactor_config(std::move(options));
        config.probe_key = plan.probe_key;
        config.traces = plan.traces;
        config.trace_key = plan.trace_key;
        config.number = plan.number;
        config.mailboxes = plan.mailboxes;
        config.sender = plan.senders + plan.number;
        config.wall_clock = [this] { return kWallStart + network_.clock(); };
        config.buffer_reserve_bytes = plan.buffer_reserve_bytes;
        config.ledger_entries = plan.ledger_entries;
        if (plan.directory) config.directory = *plan.directory;
        config.admission = &admission_;
        config.addresses = plan.addresses != nullptr ? plan.addresses : &addresses_;
        config.users = &users_;
        drain_pace_.set(config.options->drain_rate);
        config.drain_pace = &drain_pace_;
        config.warn = [this](const std::string& line) { warnings_.push_back(line); };
        config.event = [this](const LogEvent& event) { events_.push_back(event); };
        config.debug = [this, takes = plan.log_takes](const std::string& line) {
            debug_lines_.push_back(line);
            if (takes > 0) io_.pass_time(takes);
        };
        return config;
    }

    void pump(Peer& peer) {
        if (!peer.held) return;
        if (!peer.out.empty()) {
            const size_t taken = network_.write(peer.socket, peer.out);
            peer.out.erase(peer.out.begin(), peer.out.begin() + static_cast<ptrdiff_t>(taken));
        }
        const bool may_finish = peer.out.empty() && network_.connected(peer.socket);
        if (peer.finishing && may_finish && !std::exchange(peer.finished, true)) {
            network_.finish(peer.socket);
        }
        uint8_t window[4'096];
        while (peer.reading) {
            const size_t bytes = network_.read(peer.socket, window);
            if (bytes == 0) break;
            peer.heard.append(reinterpret_cast<const char*>(window), bytes);
        }
        peer.ended |= network_.ended(peer.socket);
        peer.was_reset |= network_.error(peer.socket) != 0;
    }
    void close_peer(Peer& peer, bool reset) {
        if (!std::exchange(peer.held, false)) return;
        network_.close(peer.socket, reset);
    }

    void on_socket(uint64_t cookie) override { pump(peers_[cookie]); }
    void on_backlog(uint16_t) override {}
    void on_timer(uint64_t) override {}
    void on_attached(Index index, SimSocket far) override {
        for (Peer& peer : peers_) {
            if (peer.socket == far) peer.index = index;
        }
    }
    void on_delivered(Index, uint64_t) override {}
    void on_begin_close(Index) override {}
    void on_closed(Index index) override {
        for (Peer& peer : peers_) {
            if (peer.index == index) peer.index.reset();
        }
    }

    HeapPages pages_;
    SimNetwork network_;
    SimLog log_;
    ConnectionTable table_;
    Io io_;
    Mailbox mailbox_;
    SharedPace drain_pace_;
    Admission admission_;
    AddressTable addresses_, users_;
    ReactorMetrics metrics_;
    std::vector<std::string> debug_lines_, warnings_;
    std::vector<LogEvent> events_;
    std::deque<Peer> peers_;
    ReactorConfig config_;
    // Of the start, and of each reload: payloads.
    std::deque<std::shared_ptr<const LoopOptions>> options_{config_.options};
    Loop reactor_;
};

using ReactorStage = ReactorStageOn<SimBackend>;

}  // namespace pulse::test
