// Which instants there are depends on what the kernel knew and how the connection ended.
#include "core/sessions/timeline.h"

#include <algorithm>

namespace pulse {
namespace {

void add_transport(std::vector<Moment>& moments, const Evidence& facts) {
    const TransportFacts& seen = facts.transport;
    if (!seen.known) return;
    if (seen.received_bytes > 0)
        moments.push_back({facts.at - seen.since_received, "last byte in"});
    if (seen.acked_bytes + seen.unacked_bytes == 0) return;
    moments.push_back({facts.at - seen.since_sent, "last byte out"});
    if (seen.acked_bytes > 0) moments.push_back({facts.at - seen.since_acked, "last acknowledged"});
}

void add_silence(std::vector<Moment>& moments, const Evidence& facts) {
    if (!is_live(facts.stage)) return;  // nothing of it was seen
    if (!facts.heard_nothing && !facts.greeting)
        moments.push_back({facts.heard_at, "last proof of life"});
    if (facts.probes_sent > 0) moments.push_back({facts.probed_at, "last probe"});
    if (facts.closing() || facts.held_off) return;
    if (!facts.greeting && facts.next_probe_at != 0)
        moments.push_back({facts.next_probe_at, "next probe, if it stays silent"});
    moments.push_back({facts.deadline, "closed, if it stays silent"});
}

}  // namespace

std::vector<Moment> timeline(const Evidence& facts) {
    std::vector<Moment> moments;
    if (facts.accepted_at != 0) moments.push_back({facts.accepted_at, "accepted"});
    add_transport(moments, facts);
    add_silence(moments, facts);
    // What else happened in the instant of a cause came before it.
    if (facts.closing()) moments.push_back({facts.at, "its end was decided"});
    if (facts.ended_at != 0) moments.push_back({facts.ended_at, "the socket was closed"});
    std::ranges::stable_sort(moments, {}, &Moment::at);
    return moments;
}

}  // namespace pulse
