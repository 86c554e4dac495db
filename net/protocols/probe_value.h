// What a probe carries under --liveness roundtrip, so that only its answer proves life.
//
// Nothing is remembered for it. The value of a probe follows from what the record holds while the
// probe is out (its owner, the tick of the last proof of life, the probes sent since) and from a
// secret of the server's; the next proof of life, whatever it was, makes it void. After a late
// probe that moved the last proof (heartbeat_policy.h) only that probe and later ones
// can be answered. Whether misses count is not part of it.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/heartbeat_policy.h"
#include "core/sip_hash.h"
#include "core/types.h"
#include "proto/endian.h"

namespace pulse {

// What a pong brought back, as far as a probe's value can tell; `given` is false for what is none.
struct ProbeAnswer {
    uint64_t bits = 0;
    uint32_t dropped_bits = 0;  // that the protocol does not carry
    bool given = false;
};

// As each protocol carries it.
class ProbeValue {
  public:
    ProbeValue() = default;
    explicit ProbeValue(uint64_t bits) : bits_(bits) {}

    // The binary protocol: half of it is the sequence, half the payload.
    uint32_t sequence() const { return static_cast<uint32_t>(bits_); }
    std::array<uint8_t, 4> payload() const {
        std::array<uint8_t, 4> bytes;
        store_be32(bytes.data(), static_cast<uint32_t>(bits_ >> 32));
        return bytes;
    }
    static ProbeAnswer in_frame(uint32_t sequence, std::span<const uint8_t> payload) {
        if (payload.size() != 4) return {};
        return {.bits = uint64_t{load_be32(payload.data())} << 32 | sequence, .given = true};
    }
    // WebSocket: the payload of a ping frame.
    std::array<uint8_t, 8> bytes() const {
        std::array<uint8_t, 8> bytes;
        store_be32(bytes.data(), static_cast<uint32_t>(bits_ >> 32));
        store_be32(bytes.data() + 4, static_cast<uint32_t>(bits_));
        return bytes;
    }
    static ProbeAnswer in_ping(std::span<const uint8_t> payload) {
        if (payload.size() != 8) return {};
        return in_frame(load_be32(payload.data() + 4), payload.first(4));
    }
    // JSON: `seq`. 53 bits survive a peer whose numbers are doubles.
    uint64_t number() const { return bits_ >> kDroppedInJson; }
    static ProbeAnswer in_json(std::string_view seq) {
        ProbeAnswer answer{.dropped_bits = kDroppedInJson};
        const auto result = std::from_chars(seq.data(), seq.data() + seq.size(), answer.bits);
        answer.given =
            !seq.empty() && result.ec == std::errc{} && result.ptr == seq.data() + seq.size();
        return answer;
    }

    bool is(const ProbeAnswer& answer) const {
        return answer.given && bits_ >> answer.dropped_bits == answer.bits;
    }

  private:
    static constexpr uint32_t kDroppedInJson = 11;
    uint64_t bits_ = 0;
};

// Of the probe that was sent last, by what is remembered since (Connection::heard).
inline ProbeValue probe_value(const SipKey& key, ConnectionId id, uint32_t heard) {
    const uint32_t kept = heard & ~kHeardExcused;
    return ProbeValue(sip_hash(key, uint64_t{id.index} << 32 | id.generation, kept));
}

// Whether one of the probes that are out has the value that was given back.
inline bool answers_probe(const SipKey& key, ConnectionId id, uint32_t heard,
                          const ProbeAnswer& answer) {
    for (uint32_t sent = probes_sent(heard); sent > 0; --sent) {
        const uint32_t then = (heard & ~kHeardProbeMask) | sent << kHeardProbeShift;
        if (probe_value(key, id, then).is(answer)) return true;
    }
    return false;
}

}  // namespace pulse
