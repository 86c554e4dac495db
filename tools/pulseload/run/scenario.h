// What the clients of a run are and what happens to them: weights of protocols and behaviours, and
// storms, as the command line writes them.
//
//     --mix ws=70,jsonl=20,tcp=10
//     --behaviour beat=90,mute=10
//     --storm kill=50%@30s,reconnect=full-jitter      --storm silence=100000@1m
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/types.h"
#include "net/io/address.h"
#include "tools/pulseload/run/result.h"

namespace pulse::load {

// What a client speaks, heartbeats included.
enum class Wire : uint8_t {
    ws,       // WebSocket: ping and pong frames
    ws_json,  // WebSocket: {"type":"ping"} in text messages
    jsonl,    // JSON lines
    tcp,      // binary frames
};
inline constexpr size_t kWires = 4;
constexpr std::string_view name_of(Wire wire) {
    constexpr std::string_view kNames[kWires] = {"ws", "ws-json", "jsonl", "tcp"};
    return kNames[static_cast<size_t>(wire)];
}

template <size_t kKinds>
struct Weights {
    std::array<uint32_t, kKinds> of{};
    uint64_t total() const {
        uint64_t sum = 0;
        for (const uint32_t weight : of) sum += weight;
        return sum;
    }
    // Returns the kind that has `place`, in [0, 1), of the whole.
    size_t pick(double place) const {
        const auto whole = static_cast<double>(total());
        double upto = 0;
        for (size_t kind = 0; kind < kKinds; ++kind) {
            upto += static_cast<double>(of[kind]);
            if (place * whole < upto) return kind;
        }
        return 0;
    }
};
using Mix = Weights<kWires>;
using Behaviours = Weights<kBehaviours>;

Result<Mix> parse_mix(std::string_view text);
Result<Behaviours> parse_behaviours(std::string_view text);

// What the n-th client of a run is. Spread by a sequence of low discrepancy in two dimensions, so
// that any run of clients, on any thread, has the weights that were asked for.
struct ClientKind {
    Wire wire;
    Behaviour behaviour;
};
ClientKind kind_of(uint64_t client, const Mix& mix, const Behaviours& behaviours);

// How a client that lost its connection comes back.
enum class Reconnect : uint8_t {
    never,
    none,         // at once: no waiting
    fixed,        // after the base time
    exponential,  // base, 2 base, 4 base ... up to the cap
    full_jitter,  // anywhere between 0 and what exponential waits
    hint,         // when the server's goodbye proposes; full_jitter where it proposes nothing
};
Result<Reconnect> parse_reconnect(std::string_view text);
std::string_view name_of(Reconnect reconnect);

// Counted from the beginning of the hold.
struct StormPlan {
    enum class Kind : uint8_t {
        kill,     // the client closes
        silence,  // becomes mute
        vanish,   // stops reading and writing
    };
    Kind kind = Kind::kill;
    double fraction = 0;  // of the open ones; 0: `count` of them
    uint64_t count = 0;
    Nanos at = 0;
    Reconnect reconnect = Reconnect::full_jitter;  // of the killed
    std::string text;
};
Result<StormPlan> parse_storm(std::string_view text);

}  // namespace pulse::load
