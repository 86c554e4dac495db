// Times in milliseconds, bytes as they are.
#include "net/control/evidence_json.h"

#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "core/sessions/timeline.h"

namespace pulse {
namespace {

Nanos read_clock(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

int64_t to_ms(Nanos nanos) { return nanos / kMillisecond; }

}  // namespace

Clocks Clocks::now() { return {read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_REALTIME)}; }

std::string Clocks::text(Nanos at) const {
    const Nanos then = wall - (monotonic - at);
    const time_t seconds = then / kSecond;
    tm parts{};
    gmtime_r(&seconds, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                       parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                       then % kSecond / kMillisecond);
}

Json timeline_json(const Evidence& facts, const Clocks& clocks) {
    Json list = Json::array();
    for (const Moment& moment : timeline(facts)) {
        list.push_back({{"at", clocks.text(moment.at)},
                        {"ago_ms", to_ms(clocks.monotonic - moment.at)},
                        {"what", moment.what}});
    }
    return list;
}

Json transport_json(const TransportFacts& facts) {
    if (!facts.known) return nullptr;
    return {{"received_bytes", facts.received_bytes},
            {"acked_bytes", facts.acked_bytes},
            {"unacked_bytes", facts.unacked_bytes},
            {"unsent_bytes", facts.unsent_bytes},
            {"received_segments", facts.received_segments},
            {"sent_segments", facts.sent_segments},
            {"retransmitted_segments", facts.retransmitted_segments},
            {"timeouts", facts.timeouts},
            {"since_received_ms", to_ms(facts.since_received)},
            {"since_sent_ms", to_ms(facts.since_sent)},
            {"since_acked_ms", to_ms(facts.since_acked)},
            {"round_trip_us", facts.round_trip / 1'000}};
}

}  // namespace pulse
