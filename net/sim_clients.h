// The peers of a simulated server, and the judge who knows what each of them did.
//
// Clients of the binary protocol, written apart from proto/ so that a mistake there cannot cancel
// itself out. Each has a behaviour, and behaves in it for the whole run, over as many connections
// as it takes. Because the judge sits on the peer's side of the wire he knows, octet by octet, when
// a heartbeat had reached the server's kernel and when the server was given it; from that follows
// who may be evicted and who must be.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "core/connection_table.h"
#include "core/limits.h"
#include "core/random.h"
#include "net/reactor_config.h"
#include "net/sim_backend.h"
#include "net/sim_log.h"
#include "net/sim_network.h"

namespace pulse {

enum class Behaviour : uint8_t {
    punctual,     // beats on time
    prober,       // says nothing but the answers to probes
    mute,         // says nothing
    vanisher,     // beats, and is gone without a word
    half_closer,  // beats, sends FIN, reads on
    slow_reader,  // beats, and does not read
    flapper,      // comes and goes
    garbage,      // sends octets that mean nothing
    chatty,       // sends data, much of it
    dribbler,     // beats one octet at a time
    tardy,        // beats about when the timeout is over
};
inline constexpr size_t kBehaviours = 11;

// What the clients and the judge know of the server.
struct SimServerFacts {
    uint16_t port = 0;
    Nanos tick_ns = 0;
    bool echo = true;
    Liveness liveness = Liveness::any;
    Nanos interval = 0;  // of the default profile
    // Of each profile, over the whole run: an operator may retune it.
    std::array<Nanos, kHeartbeatProfilesMax> timeout_min{};
    std::array<Nanos, kHeartbeatProfilesMax> timeout_max{};
    std::array<Nanos, kHeartbeatProfilesMax> answer_time_min{};  // from a probe to the deadline
    Nanos retuned_at = 0;                                        // the default profile, if it was
    std::vector<std::string> profile_names;
    // A probe and its answer take no longer; kNever: the network may keep them for ever.
    Nanos round_trip_max = kNever;
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
    // The judge becomes the backend's witness; all outlive him.
    SimClients(SimNetwork& network, SimBackend& io, SimLog& log, uint64_t seed,
               const FaultPlan& faults, const SimServerFacts& facts, uint32_t peers,
               uint32_t places);

    // Everybody begins to connect, spread over `window`.
    void start(Nanos window);
    // Nobody connects any more. Those who are connected stop doing anything; with `vanish` their
    // hosts are gone.
    void stop(bool vanish);
    // Those who are left close.
    void leave();

    // After each turn in which somebody was evicted: whether that was right. `judged` is the
    // instant by which it was decided.
    void judge_evictions(const ConnectionTable& table, Nanos judged);
    // Whether somebody should have been evicted or should be gone, and is not.
    void judge_the_living(const ConnectionTable& table);

    const SimClientCounts& counts() const { return counts_; }
    SimServerFacts& facts() { return facts_; }

  private:
    // A frame in the stream to the server: where it ends, and what it is worth.
    struct Mark {
        uint64_t end;
        bool frame;       // complete and valid: proves life where any frame does
        bool proof;       // proves it under round trip too
        uint8_t profile;  // a hello that asks for it; 0: none
    };
    struct Expected {
        uint8_t type;
        uint32_t sequence;
        uint64_t payload_hash;
    };
    // One connection, seen from both sides.
    struct Line {
        uint32_t client = 0;
        bool client_holds = false;
        bool server_holds = false;
        bool attached = false;  // the server has had it
        bool innocent = true;   // sent nothing but valid frames
        bool evicted = false;
        uint8_t profile = kProfileDefault;
        SimSocket socket;        // the client's end
        uint64_t enqueued = 0;   // octets of the stream so far, sent or not
        std::deque<Mark> marks;  // of frames that the server was not given yet
        Nanos heard_at = 0;      // when the server was given the last proof, or the place
        Nanos behind_at = 0;     // how far behind the server had been until then
        Nanos closing_seen_at = 0;
        Nanos closing_behind_at = 0;
    };
    struct Client {
        Behaviour behaviour = Behaviour::punctual;
        bool stopped = false;
        bool reading = true;
        bool greeted = false;
        bool finished = false;
        uint32_t epoch = 0;  // timers of earlier connections are stale
        uint32_t line = UINT32_MAX;
        uint32_t sequence = 0;
        Nanos gap = 0;  // between beats, about
        uint8_t profile = 0;
        std::vector<uint8_t> out;   // not written yet
        std::vector<uint8_t> drip;  // a dribbler's, one octet at a time
        std::vector<uint8_t> in;    // a frame that is not whole yet
        std::deque<Expected> expected;
    };
    enum class Timer : uint8_t { connect, beat, drip, fate, heal, read, reboot };

    void on_socket(uint64_t cookie) override;
    void on_backlog(uint16_t) override {}
    void on_timer(uint64_t cookie) override;
    void on_attached(Index index, SimSocket far) override;
    void on_delivered(Index index, uint64_t offset) override;
    void on_let_go(Index) override {}
    void on_closed(Index index) override;

    void set_timer(uint32_t client, Timer timer, Nanos delay);
    Nanos share(Nanos whole, uint64_t from_percent, uint64_t to_percent);
    void connect(uint32_t number);
    void reconnect_later(uint32_t number, Nanos within);
    void begin(uint32_t number);
    void beat(uint32_t number);
    void misfortune(uint32_t number);
    void fate(uint32_t number);
    void drop(uint32_t number, bool reset);
    void read(uint32_t number);
    bool parse(uint32_t number);
    void receive(uint32_t number, uint8_t type, uint32_t sequence,
                 std::span<const uint8_t> payload);
    void frame(uint32_t number, uint8_t type, uint32_t sequence, std::span<const uint8_t> payload,
               uint8_t profile = 0);
    void noise(uint32_t number);
    void flush(uint32_t number);
    void release_line(uint32_t number);
    Line* line_at(Index index);
    bool counts_as_life(const Mark& mark) const {
        return facts_.liveness == Liveness::roundtrip ? mark.proof : mark.frame;
    }
    void judge_one(Line& line, Nanos judged);
    Nanos lateness_allowed(Nanos behind_at) const;
    Nanos silence_began(const Line& line) const;
    void broken(std::string_view rule, const Line& line, std::string_view what);
    std::string who(const Line& line) const;

    SimNetwork& network_;
    SimBackend& io_;
    SimLog& log_;
    Random random_;
    FaultPlan faults_;
    SimServerFacts facts_;
    std::deque<Client> clients_;
    std::deque<Line> lines_;
    std::vector<uint32_t> free_lines_;
    std::vector<uint32_t> line_of_slot_;   // by the network's slot of the client's end
    std::vector<uint32_t> line_of_index_;  // by the server's place
    SimClientCounts counts_;
};

}  // namespace pulse
