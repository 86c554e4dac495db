// The request as text; of the answer, the subprotocol here and the rest by proto/handshake.
#include "tools/pulseload/run/client_upgrade.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

namespace pulse::load {
namespace {

constexpr std::string_view kProtocolHeader = "sec-websocket-protocol:";

std::string key_of(const HandshakeNonce& nonce) {
    std::array<char, 32> key{};
    const int bytes = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(key.data()), nonce.data(),
                                      static_cast<int>(nonce.size()));
    return {key.data(), static_cast<size_t>(bytes)};
}

bool is_host_header(const std::string& header) {
    constexpr std::string_view kHost = "host:";
    return header.size() >= kHost.size() &&
           std::equal(kHost.begin(), kHost.end(), header.begin(),
                      [](char one, char other) { return one == (other | 0x20) || one == other; });
}

bool names_protocol(std::string_view line) {
    return line.size() >= kProtocolHeader.size() &&
           std::equal(kProtocolHeader.begin(), kProtocolHeader.end(), line.begin(),
                      [](char one, char other) {
                          return one == other ||
                                 (other >= 'A' && other <= 'Z' && one == other - 'A' + 'a');
                      });
}

std::string_view trimmed(std::string_view text) {
    const size_t first = text.find_first_not_of(" \t");
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
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
    std::string rest;
    std::vector<std::string> chosen;
    for (size_t at = 0; at < head.size();) {
        const size_t end = std::min(head.find("\r\n", at), head.size());
        const std::string_view line = head.substr(at, end - at);
        at = end + 2;
        if (names_protocol(line)) {
            chosen.emplace_back(trimmed(line.substr(kProtocolHeader.size())));
        } else {
            rest.append(line).append("\r\n");
        }
    }
    UpgradeRequest request;
    request.nonce = plan.nonce;
    const Handshake answer = check_answer(rest, request);
    UpgradeOutcome outcome;
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

}  // namespace pulse::load
