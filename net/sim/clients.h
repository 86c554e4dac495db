// The peers of a simulated server, and the judge that knows what each of them did.
//
// Each peer speaks one of the protocols (net/sim/wire.h), comes to that protocol's listener or to
// the one that detects, and has a behaviour; it keeps both for the whole run, over as many
// connections as it takes. The judge (judge.cc) sits on the peer's side of the wire, so it
// knows, byte by byte, when a heartbeat had reached the server's kernel and when the server was
// given it; from that follows which peer may be evicted and which must be.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "core/buffer_pool.h"
#include "core/connection_table.h"
#include "core/limits.h"
#include "core/random.h"
#include "core/sessions/directory.h"
#include "net/loop/limits.h"
#include "net/loop/reactor_config.h"
#include "net/sim/backend.h"
#include "net/sim/log.h"
#include "net/sim/network.h"
#include "net/sim/wire.h"

namespace pulse {

class Connections;

// X(name, what it does). What the load generator has too (tools/pulseload/run/result.h) has its
// name there, too.
#define PULSE_SIM_BEHAVIOURS(X)                                    \
    X(beat, "beats on time")                                       \
    X(idle, "sends nothing but the answers to probes")             \
    X(mute, "sends nothing")                                       \
    X(vanish, "beats, and is gone without a word")                 \
    X(half_closer, "beats, sends FIN, reads on")                   \
    X(slow_reader, "beats, and does not read")                     \
    X(flapper, "comes and goes, with a reset, a FIN or a goodbye") \
    X(garbage, "sends bytes that mean nothing")                    \
    X(chatty, "sends data, much of it")                            \
    X(dribbler, "beats one byte at a time")                        \
    X(tardy, "beats about when the timeout is over")               \
    X(ender, "beats, and ends in the middle of a message")         \
    X(ponger, "sends pongs that answer no ping, and nothing else") \
    X(flooder, "beats many times at once, in one piece")           \
    X(uploader, "beats, and sends large messages slowly")          \
    X(downloader, "asks for much data and reads it slowly")        \
    X(hoarder, "beats in the middle of a message that never ends")

enum class Behaviour : uint8_t {
#define X(name, text) name,
    PULSE_SIM_BEHAVIOURS(X)
#undef X
};
inline constexpr size_t kBehaviours = 0
#define X(name, text) +1
    PULSE_SIM_BEHAVIOURS(X)
#undef X
    ;

// Of the users that clients log in as.
inline std::string name_of_user(uint32_t user) { return "user" + std::to_string(user); }

// What the clients and the judge know of the server.
struct SimServerFacts {
    std::array<uint16_t, kSimWires> ports{};  // by wire
    uint16_t any_port = 0;                    // where every protocol is spoken
    Nanos tick_ns = 0;
    Nanos handshake_timeout = 0;
    size_t send_queue_bytes = 0;
    bool echo = true;
    Liveness liveness = Liveness::any;
    Nanos interval = 0;  // of the default profile
    bool adapts = false;  // intervals are adaptive: peers beat by what they are told
    const ReactorConfig* config = nullptr;  // that is in force
    const BufferPool* pool = nullptr;
    const Connections* connections = nullptr;
    uint32_t misses = 0;  // --suspect-misses
    Nanos suspect_probe = 0;
    bool stretches = false;  // heartbeats, under overload
    // Of each profile, over the whole run: an operator may retune it.
    std::array<Nanos, kHeartbeatProfilesMax> timeout_min{};
    std::array<Nanos, kHeartbeatProfilesMax> timeout_max{};
    std::array<Nanos, kHeartbeatProfilesMax> answer_time_min{};  // from a probe to the deadline
    Nanos retuned_at = 0;                                        // the default profile, if it was
    Nanos stretched_at = 0;  // heartbeats of all profiles, or when that was over (overload)
    Nanos regrouped_at = 0;  // policies changed
    std::vector<std::string> profile_names;
    uint32_t users = 0;  // that clients log in as; 0: all are anonymous
    // A probe and its answer take no longer; kNever: the network may keep them for ever.
    Nanos round_trip_max = kNever;
    // From then on the server may reset a peer before it has read its goodbye: the drain is over.
    Nanos hard_stop_at = kNever;
    bool stops_hard = false;  // it may reset without one: it was told to
    // No goodbye of the drain comes before, and until `paced_until` so many a second; 0: as many.
    Nanos drain_at = kNever;
    Nanos paced_until = 0;
    uint64_t goodbyes_per_second = 0;
};

struct SimClientCounts {
    uint64_t connects = 0;
    uint64_t beats = 0;
    uint64_t answers = 0;  // pongs, echoes and welcomes that came and were right
    uint64_t probes = 0;   // pings of the server's
    uint64_t goodbyes = 0;
    uint64_t ended = 0;      // connections that the server ended
    uint64_t evictions = 0;  // seen by the judge
};

class SimClients final : private SimProgram, public SimWitness {
  public:
    // The judge becomes the backend's witness; all outlive it. Records [0, places) are the table's.
    SimClients(SimNetwork& network, SimBackend& io, SimLog& log, uint64_t seed,
               const FaultPlan& faults, const SimServerFacts& facts, uint32_t peers,
               const Connection* records, uint32_t places);

    // All begin to connect, spread over `window`.
    void start(Nanos window);
    // No client connects any more. Connected ones stop doing anything; with `vanish` their
    // hosts are gone.
    void stop(bool vanish);
    // Those who are left close.
    void leave();

    // After each turn that evicted: whether that was right. `judged` is the instant by which
    // it was decided.
    void judge_evictions(const ConnectionTable& table, Nanos judged);
    // Whether a client should have been evicted or should be gone, and is not.
    void watch_bulk(const ConnectionTable& table);
    void judge_the_living(const ConnectionTable& table);
    // After each turn, where idle clocks run: whether those that they closed were idle, by what was
    // delivered before `judged`.
    void judge_idle_closes(const ConnectionTable& table, Nanos judged);
    // Whether the directory has the sessions of the logged-in connections, and no others.
    void judge_sessions(const ConnectionTable& table, const Directory& directory);

    const SimClientCounts& counts() const { return counts_; }
    SimServerFacts& facts() { return facts_; }

  private:
    // A message in the stream to the server: where it ends, and what it is worth.
    struct Mark {
        uint64_t end = 0;
        bool opens = false;        // the request of a WebSocket: silence begins behind it
        bool frame = false;        // complete and valid: proves life where any frame does
        bool proof = false;        // proves it under round trip too
        bool answer = false;       // to a probe: proves it there if the probe is still out
        bool awaits_pong = false;  // is a heartbeat that is to be answered
        uint8_t profile = 0;       // a hello that asks for it; 0: none
        bool slow = false;         // sent through the drip
    };
    struct Expected {
        SimKind kind;
        uint32_t sequence;
        uint64_t payload_hash;  // of a welcome the answer_every that it is to repeat
    };
    // How many bytes of a stream had passed when, for as long as a timeout.
    struct Flow {
        struct Passed {
            Nanos at;
            uint64_t offset;
        };
        std::deque<Passed> passed;
        // Keeps what tells how many passed in the last `timeout`, in steps.
        void add(Nanos now, uint64_t offset, Nanos timeout);
        // Whether so many bytes a second passed in each part of the last `timeout`.
        bool is_above(uint64_t rate, Nanos now, Nanos timeout) const;
        uint64_t offset_at(Nanos at) const;
    };
    // One connection, seen from both sides.
    struct Line {
        uint32_t client = 0;
        bool client_holds = false;
        bool server_holds = false;
        bool attached = false;         // the server has had it
        bool innocent = true;          // sent nothing but valid messages
        bool answered = false;         // the server was given an answer of it, to a probe
        bool was_cut = false;          // its link was silent for a while
        bool went_unread = false;      // the client did not read for a while
        bool filled_a_buffer = false;  // the server read a buffer-full of it
        bool piled_up = false;         // the server was given much of it at once
        bool evicted = false;
        uint8_t profile = kProfileDefault;
        bool closed_unknown = false;  // nothing had come that tells the protocol
        bool gave_way = false;        // its flight held memory that another wanted
        CloseReason closed_for = CloseReason::none;
        SimSocket socket;         // the client's end
        uint64_t enqueued = 0;    // bytes of the stream so far, sent or not
        uint64_t delivered = 0;   // of them, those that the server was given
        uint64_t whole = 0;       // and those before the end of the last whole message
        std::deque<Mark> marks;   // of messages that the server was not given yet
        uint32_t pongs_owed = 0;  // of heartbeats that the server was given
        Nanos pongs_owed_at = 0;  // when it was given the last of them
        Nanos way_free_at = 0;    // when the first send since then was done
        bool was_sending = false;
        Nanos sending_at = 0;  // when something last waited to be sent, as far as was looked
        Flow uploaded;         // to the server's program
        Flow downloaded;       // to the client's kernel, which acknowledges it
        Nanos attached_at = 0;
        // When the server was given the last certain proof, or the place; and the last bytes that
        // may count as one.
        Nanos heard_at = 0;
        Nanos maybe_heard_at = 0;
        // What the client was told last, 0: nothing; and how long it may be silent by that.
        Nanos told_timeout = 0;
        Nanos told_at = 0;
        Nanos promised_until = 0;
        bool awaits_welcome = false;  // of a hello that asked for another profile
        // By what the server judges it, and since when.
        Nanos judged_timeout = 0;
        Nanos judged_since = 0;
        bool was_held_off = false;    // after the last turn
        bool bulk_waits = false;      // and whether bulk was on its way to it
        bool closed_on_bulk = false;  // one of the two held when it began to close
        Nanos bulk_taken_at = 0;      // when its host took the newest that came while bulk waited
        Nanos behind_at = 0;          // how far behind the server had been until then
        // For idle clocks: the last bytes that the server was given and the last send that was
        // done; after how long its heartbeats let it be closed, and what of that an answer has.
        Nanos read_at = 0;
        Nanos written_at = 0;
        Nanos written_behind_at = 0;  // how far behind the server had been until that send
        Nanos greeting_at = 0;  // when it last was in its greeting, in which they do not run
        Nanos closes_after = 0;
        Nanos answer_span = 0;
        bool closed_idle = false;
        Nanos closing_seen_at = 0;
        Nanos closing_behind_at = 0;
    };
    struct Client {
        Behaviour behaviour = Behaviour::beat;
        SimWire wire = SimWire::binary;
        bool offers_deflate = false;
        bool stopped = false;
        bool reading = true;
        bool connected = false;
        bool introduced = false;   // past the handshake
        bool finished = false;     // sends nothing any more
        bool fin_follows = false;  // behind what is in `out`
        bool said_goodbye = false;
        bool hoards = false;  // is in the middle of a message
        bool got_goodbye = false;
        uint16_t goodbye_code = 0;
        uint32_t epoch = 0;  // timers of earlier connections are stale
        uint32_t line = UINT32_MAX;
        uint32_t sequence = 0;
        Nanos gap = 0;  // between beats, about
        Nanos next_beat_at = 0;
        uint8_t profile = 0;
        bool asks_answer_every = false;
        uint32_t answer_every = 1;  // what its last hello asked for
        uint32_t unanswered = 0;    // heartbeats since the last that is to be answered
        uint32_t user = 0;          // that it logs in as; 0: it is anonymous
        uint32_t device = 0;
        SimSocket left_behind;  // of a host that has vanished
        SimCodec codec;
        std::vector<uint8_t> out;   // not written yet
        std::vector<uint8_t> drip;  // waits to be sent, a little at a time
        size_t drip_bytes = 0;      // so much
        Nanos drip_gap = 0;         // every so often
        size_t read_bytes = 0;      // what a downloader reads at once; 0: all that there is
        std::vector<uint8_t> in;    // a message that is not whole yet
        std::deque<Expected> expected;
    };
    enum class Timer : uint8_t { connect, beat, drip, fate, heal, read, read_some, reboot, storm };

    void on_socket(uint64_t cookie) override;
    void on_backlog(uint16_t) override {}
    void on_timer(uint64_t cookie) override;
    void on_attached(Index index, SimSocket far) override;
    void on_delivered(Index index, uint64_t offset) override;
    void on_begin_close(Index index) override;
    void on_closed(Index index) override;
    void on_resumed(Index index) override;
    void on_sent(Index index) override;
    void on_sent_at_once(Index index) override { note_written(index); }

    void set_timer(uint32_t client, Timer timer, Nanos delay);
    Nanos share(Nanos whole, uint64_t from_percent, uint64_t to_percent);
    void connect(uint32_t number);
    void reconnect_later(uint32_t number, Nanos within);
    void begin(uint32_t number);
    void introduce(uint32_t number);
    void say_hello(uint32_t number, uint8_t profile);
    bool awaits_pong(Client& client, bool own_frame);
    bool repeats_answer_every(const Client& client, const SimMessage& message) const;
    void follow(uint32_t number, const SimMessage& message);
    std::vector<uint8_t> any_bytes(uint64_t count);
    void beat(uint32_t number);
    void beat_with(uint32_t number, std::span<const uint8_t> payload);
    void misfortune(uint32_t number);
    void fate(uint32_t number);
    void vanish(uint32_t number);
    void end_in_mid_message(uint32_t number);
    void leave_with_goodbye(uint32_t number);
    void drop(uint32_t number, bool reset);
    void storm();
    void begin_upload(uint32_t number);
    void begin_download(uint32_t number);
    void begin_hoard(uint32_t number);
    void drip(uint32_t number);
    void stop_reading(uint32_t number, Nanos at_most);
    void read_some(uint32_t number);
    void read(uint32_t number);
    bool parse(uint32_t number);
    void receive(uint32_t number, const SimMessage& message);
    void receive_answer(uint32_t number, const SimMessage& message);
    void put(uint32_t number, SimKind kind, uint32_t sequence, std::span<const uint8_t> payload,
             uint8_t profile = 0, bool slow = false);
    void enqueue(uint32_t number, std::span<const uint8_t> bytes, Mark mark);
    void noise(uint32_t number);
    void flush(uint32_t number);
    void release_line(uint32_t number);
    Line* line_at(Index index);
    // Whether it does so for certain; a hello only where any frame does.
    bool counts_as_life(const Mark& mark) const {
        return mark.opens || (facts_.liveness == Liveness::roundtrip ? mark.proof : mark.frame);
    }
    Nanos known_timeout(const Line& line) const;
    Nanos soonest_end(const Line& line) const;
    void note_told(Line& line, Nanos timeout, bool by_welcome);
    void note_judged(Line& line, const Connection& connection);
    bool beats_in_time(const Line& line) const;
    Nanos latest_end(Index index, const Line& line) const;
    void judge_one(Index index, Line& line, Nanos judged);
    void judge_misses(Index index, const Line& line, const Evidence& end, Nanos judged);
    Nanos misses_end(Index index, const Line& line) const;
    void judge_unheard(const Line& line, Nanos deadline);
    void judge_flow(const Line& line, Nanos judged);
    void judge_handshake(const Line& line);
    void note_written(Index index);
    void judge_idle_close(Index index, const Line& line, Nanos judged);
    void judge_idle_kept(Index index, const Line& line);
    bool lives_as_told(const Line& line) const;
    void judge_goodbye(const Line& line);
    void judge_memory(const Line& line);
    void judge_answers(Index index, Line& line);
    void judge_end(uint32_t number);
    void judge_session(const Line& line, const ConnectionRef& connection,
                       const Directory& directory);
    void judge_presence(const Directory& directory);
    Nanos lateness_allowed(Nanos behind_at) const;
    Nanos silence_began(Index index, const Line& line) const;
    void broken(std::string_view rule, const Line& line, std::string_view what);
    std::string who(const Line& line) const;

    SimNetwork& network_;
    SimBackend& io_;
    SimLog& log_;
    Random random_;
    Random
        asking_;  // drawn from apart: a world in which no peer asks for answer_every is as before
    Random following_;  // likewise, of peers that are told another interval
    FaultPlan faults_;
    SimServerFacts facts_;
    const Connection* records_;
    std::deque<Client> clients_;
    std::deque<Line> lines_;
    std::vector<uint32_t> free_lines_;
    std::vector<uint32_t> line_of_slot_;   // by the network's slot of the client's end
    std::vector<uint32_t> line_of_index_;  // by the server's place
    uint64_t presence_judged_ = 0;         // position in the stream of changes
    std::vector<uint8_t> watched_;         // by the same: bulk or parked bytes after the last turn
    SimClientCounts counts_;
    uint64_t goodbyes_begun_ = 0;  // of a drain
};

}  // namespace pulse
