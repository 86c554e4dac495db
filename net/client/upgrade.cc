// The request as text; of the answer, the subprotocol here and the rest by proto/handshake.
#include "net/client/upgrade.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <optional>

#include "proto/http_fields.h"

namespace pulse::client {
namespace {

constexpr std::string_view kProtocolHeader = "sec-websocket-protocol:";
constexpr std::string_view kRetryAfterHeader = "retry-after:";

std::string key_of(const HandshakeNonce& nonce) {
    std::array<char, 32> key{};
    const int bytes = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(key.data()), nonce.data(),
                                      static_cast<int>(nonce.size()));
    return {key.data(), static_cast<size_t>(bytes)};
}

bool is_host_header(const std::string& header) {
    constexpr std::string_view kHost = "host:";
    return equal_ignoring_case(std::string_view(header).substr(0, kHost.size()), kHost);
}

// What follows the name of a field (in lower case, with its colon) in a line that has it.
std::optional<std::string_view> field_value(std::string_view line, std::string_view name) {
    if (!equal_ignoring_case(line.substr(0, name.size()), name)) return std::nullopt;
    return trim_blanks(line.substr(name.size()));
}

}  // namespace

std::string upgrade_text(const UpgradePlan& plan) {
    const bool own_host =
        plan.headers != nullptr && std::ranges::any_of(*plan.headers, is_host_header);
    std::string text = fmt::format("GET {} HTTP/1.1\r\n", plan.path);
    if (!own_host) text += fmt::format("Host: {}\r\n", plan.host);
    text +=
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: " +
        key_of(plan.nonce) + "\r\n";
    std::string offers;
    for (const std::string_view offer : plan.subprotocols)
        offers += (offers.empty() ? "" : ", ") + std::string(offer);
    if (!offers.empty()) text += "Sec-WebSocket-Protocol: " + offers + "\r\n";
    if (plan.headers != nullptr) {
        for (const std::string& header : *plan.headers) text += header + "\r\n";
    }
    return text + "\r\n";
}

UpgradeOutcome judge_upgrade(std::string_view head, const UpgradePlan& plan) {
    UpgradeOutcome outcome;
    std::string rest;
    std::vector<std::string> chosen;
    for (size_t at = 0; at < head.size();) {
        const size_t end = std::min(head.find("\r\n", at), head.size());
        const std::string_view line = head.substr(at, end - at);
        at = end + 2;
        if (const auto protocol = field_value(line, kProtocolHeader)) {
            chosen.emplace_back(*protocol);
            continue;
        }
        if (const auto retry_after = field_value(line, kRetryAfterHeader))
            outcome.retry_after = *retry_after;
        rest.append(line).append("\r\n");
    }
    UpgradeRequest request;
    request.nonce = plan.nonce;
    const Handshake answer = check_answer(rest, request);
    outcome.status = answer.status;
    if (answer.step != Handshake::Step::upgraded) {
        outcome.why_not = answer.outcome.detail;
        return outcome;
    }
    const bool offered =
        chosen.empty() || (chosen.size() == 1 && std::ranges::find(plan.subprotocols, chosen[0]) !=
                                                     plan.subprotocols.end());
    if (!offered) {
        outcome.why_not = "the answer has a subprotocol that was not offered";
        return outcome;
    }
    outcome.upgraded = true;
    if (!chosen.empty()) outcome.subprotocol = chosen.front();
    return outcome;
}

}  // namespace pulse::client
