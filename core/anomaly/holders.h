// Which part of the peers holds most of an anomaly: their network, at three lengths of a prefix,
// and the listener through which they came.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "core/anomaly/heavy_hitters.h"
#include "core/anomaly/limits.h"
#include "core/transport_facts.h"

namespace pulse {

struct NetworkPrefix {
    uint8_t family = 0;  // 4 or 6
    uint8_t bits = 0;
    std::array<uint8_t, 16> bytes{};  // the rest of them 0

    friend bool operator==(const NetworkPrefix&, const NetworkPrefix&) = default;
};

// The first `bits` of an address. Requires: bits is a multiple of 8, and the address is present.
NetworkPrefix prefix_of(const PeerAddress& address, uint8_t bits);

class Holders {
  public:
    // One connection that is a part of it.
    void add(const PeerAddress& address, uint8_t listener);
    void add(const Holders& other);

    template <class Key>
    struct Share {
        Key key{};
        uint64_t count = 0;  // at least
        double part = 0;     // of all that were added
    };
    // The longest prefix (of IPv4 /24, then /16; of IPv6 /48) that holds at least half of all.
    std::optional<Share<NetworkPrefix>> prefix() const;
    // The listener that does.
    std::optional<Share<uint8_t>> listener() const;
    uint64_t total() const { return listeners_.total(); }

  private:
    HeavyHitters<NetworkPrefix, kHeavyHitters> near_;  // /24 and /48
    HeavyHitters<NetworkPrefix, kHeavyHitters> far_;   // /16
    HeavyHitters<uint8_t, kHeavyHitters> listeners_;
};

}  // namespace pulse
