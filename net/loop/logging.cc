// What is logged of connections: a line for each at debug level, and events of a sample of them.
//
// Whether a connection is in the sample follows from its name, so that all of its events are logged
// or none is, as long as the share stays the same; a larger share has those of the smaller one.
#include <fmt/format.h>

#include <algorithm>

#include "core/random.h"
#include "core/units.h"
#include "net/loop/connections.h"
#include "net/loop/log_event.h"
#include "net/loop/public_name.h"
#include "net/loop/session.h"

namespace pulse {
namespace {

// The first `millionths` of a million equal parts of all hashes.
constexpr uint64_t hashes_below(uint64_t millionths) {
    return millionths >= kRatioWhole ? UINT64_MAX : UINT64_MAX / kRatioWhole * millionths;
}

std::string text_of(const PeerAddress& peer) {
    return peer.present() ? socket_address(peer).text() : std::string();
}

}  // namespace

// By the options in force: at the start, and after a reload.
void Connections::set_logging() {
    const LoopOptions& options = *config_.options;
    logs_peers_ = options.log_level == LogLevel::debug && config_.debug;
    const bool samples = options.log_level <= LogLevel::info && config_.event;
    logged_hashes_ = samples ? hashes_below(options.log_connections) : 0;
    const bool proxied = std::ranges::any_of(options.listen, &ListenAddress::expects_proxy_header);
    // Which network a peer behind a balancer is of is known by what its header names.
    const bool names_networks = options.nat_probes > 0 && proxied;
    const bool reads = logs_peers_ || logged_hashes_ > 0 || traces_.on() || names_networks;
    const uint32_t entries = std::max(config_.ledger_entries, reads ? kLedgerEntriesForLog : 0);
    if (!history_.keep(entries, proxied) && config_.warn)
        config_.warn("no address space for what PROXY headers name: the ledger has no addresses");
}

void Connections::log_debug(Index index, std::string_view what, std::string_view of_what) {
    if (!logs_peers_) return;
    std::string line(Session(*this, index).name().view());
    config_.debug(line.append(" ").append(what).append(of_what));
}

bool Connections::in_sample(ConnectionId id) const {
    const uint64_t name = uint64_t{id.index} << 32 | id.generation;
    return mix64(name ^ mix64(config_.number)) < logged_hashes_;
}

void Connections::log_event(std::string_view event, const FixedText<64>& name, std::string words,
                            std::vector<LogEvent::Fact> facts) const {
    facts.insert(facts.begin(),
                 {{"event", std::string(event)}, {"connection", std::string(name.view())}});
    config_.event({std::string(name.view()).append(" ").append(words), std::move(facts)});
}

void Connections::log_accept(Index index, const Accepted& accepted) {
    const ConnectionId id = table_.id(index);
    if (!in_sample(id)) return;
    const std::string peer = accepted.peer.text();
    const std::string& listener = config_.options->listen[accepted.listener].text;
    log_event("accept", public_name(config_.number, id),
              fmt::format("accepted from {} on {}", peer, listener),
              {{"peer", peer}, {"listener", listener}});
}

void Connections::log_refusal(const Accepted& accepted, CloseReason reason) {
    // It has no name: by the number of those that came.
    if (mix64(came_ ^ mix64(config_.number)) >= logged_hashes_) return;
    const std::string peer = accepted.peer.text();
    const std::string& listener = config_.options->listen[accepted.listener].text;
    const std::string why(describe(reason).name);
    config_.event({fmt::format("{} refused on {}: {}", peer, listener, why),
                   {{"event", "refuse"}, {"peer", peer}, {"listener", listener}, {"reason", why}}});
}

void Connections::log_open(Index index) {
    const ConnectionId id = table_.id(index);
    if (!in_sample(id)) return;
    const Evidence facts = evidence(index);
    const Protocol& protocol = *kProtocols[facts.protocol];
    log_event("open", public_name(config_.number, id), fmt::format("opened: {}", protocol.title),
              {{"peer", text_of(facts.peer)},
               {"listener", config_.options->listen[facts.listener].text},
               {"protocol", std::string(protocol.name)}});
}

void Connections::log_close(Index index) {
    const ConnectionId id = table_.id(index);
    if (!in_sample(id)) return;
    const Evidence facts = evidence(index);
    std::vector<LogEvent::Fact> named = {
        {"listener", config_.options->listen[facts.listener].text},
        {"protocol", std::string(kProtocols[facts.protocol]->name)},
        {"reason", std::string(describe(facts.reason).name)}};
    // The ledger may have forgotten it already.
    if (facts.peer.present()) named.insert(named.begin(), {"peer", text_of(facts.peer)});
    if (!facts.detail.empty()) named.push_back({"detail", std::string(facts.detail.view())});
    if (facts.accepted_at > 0) {
        const auto age = static_cast<double>(std::max<Nanos>(0, facts.at - facts.accepted_at));
        named.push_back({"duration_s", fmt::format("{:.3f}", age / kSecond), true});
    }
    if (facts.transport.known) {
        named.push_back({"received_bytes", std::to_string(facts.transport.received_bytes), true});
        named.push_back({"acked_bytes", std::to_string(facts.transport.acked_bytes), true});
    }
    log_event("close", public_name(config_.number, id), "closed: " + explain(facts, false),
              std::move(named));
}

}  // namespace pulse
