// The WebSocket handshake of a client of any server: any path, headers and subprotocol, and an
// answer that may choose among the subprotocols that were offered.
#pragma once

#include <span>
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

// The next bytes of an answer, up to its end: `outcome` holds once the step is not `more`.
template <CodecSink S>
Handshake take_answer(HandshakeState& state, std::span<uint8_t> bytes, S& sink,
                      const UpgradePlan& plan, UpgradeOutcome& outcome) {
    const Handshake answer = take_head(
        state, bytes, sink,
        [&](std::string_view head) {
            outcome = judge_upgrade(head, plan);
            Handshake judged;
            judged.step = outcome.upgraded ? Handshake::Step::upgraded : Handshake::Step::ended;
            return judged;
        },
        [&](const HeadScan& scan) {
            outcome.why_not = scan.detail;
            Handshake judged;
            judged.step = Handshake::Step::ended;
            return judged;
        });
    if (answer.step == Handshake::Step::ended && outcome.why_not.empty())
        outcome.why_not = answer.outcome.detail;
    return answer;
}

}  // namespace pulse::client
