// The WebSocket handshake of a client of any server: any path, headers and subprotocol, and an
// answer that may choose among the subprotocols that were offered.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proto/handshake.h"

namespace pulse::client {

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
    std::string retry_after;  // the field of a refusal; empty: it has none
};

// Of a whole head of an answer (RFC 6455 4.1).
UpgradeOutcome judge_upgrade(std::string_view head, const UpgradePlan& plan);

}  // namespace pulse::client
