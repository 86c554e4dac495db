// The WebSocket handshake of a client of any server: any path, headers and subprotocol, and an
// answer that may choose among the subprotocols that were offered.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proto/handshake.h"

namespace pulse::load {

// Offered by the client that asks what a server promises: a server that chooses the second one is
// Pulsewheel, which passes over the first. Others choose the first, or none.
inline constexpr std::string_view kIdentifyingOffers[] = {"pulseload.v1", "pulse.v1.json"};

struct UpgradePlan {
    std::string_view host;
    std::string_view path;
    const std::vector<std::string>* headers = nullptr;
    std::vector<std::string_view> subprotocols;  // offered, in this order
    HandshakeNonce nonce{};
};

std::string upgrade_text(const UpgradePlan& plan);

struct UpgradeOutcome {
    bool upgraded = false;
    uint16_t status = 0;  // of the answer; 0: it has none
    std::string why_not;
    std::string subprotocol;  // that the server chose
};

// Of a whole head of an answer (RFC 6455 4.1).
UpgradeOutcome judge_upgrade(std::string_view head, const UpgradePlan& plan);

}  // namespace pulse::load
