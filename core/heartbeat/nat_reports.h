// What clients have found that their networks bear (nat_search.h), for those that come next from
// the same network. Pure: no clock, and networks and clients are numbers.
//
// It is hearsay, and handed out as such: a client that is given it confirms it by one silence
// before it goes by it, so that a lie costs a silence and never a connection. Against lies that
// make others beat too often the median of the last kNatReporters clients counts, the shorter of
// two; a client has one voice, and may change it once in kNatReportEveryNs. Of a crowd that speaks
// at once so many count: each that does is passed on to all reactors.
//
// Off, it has no memory; on, kNatNetworks entries of 64 bytes. Of two networks with one place the
// newer stays, but for a minute. A report that is older than kNatReportNs is not one: the
// table is asked, and has no timer.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/heartbeat/nat_search.h"
#include "core/limits.h"
#include "core/types.h"

namespace pulse {

class NatReports {
  public:
    void turn_on() { entries_.resize(kNatNetworks); }
    bool on() const { return !entries_.empty(); }

    // A client found that, to a tenth of a second. False: it, or so many others, have said
    // something too short a time ago, and this does not count. Requires: it is on, `found` is
    // valid, and no number is 0.
    bool add(uint32_t network, uint32_t client, const NatSilence& found, Nanos now) {
        const auto is_fresh = [now](const Report& each) {
            return age(each, now) < kFreshUnits;
        };
        Entry& entry = entries_[network % kNatNetworks];
        if (entry.network != network) {
            if (std::ranges::any_of(entry.reports, is_fresh)) return false;
            entry = Entry{.network = network};
        }
        Report* place = &entry.reports[0];
        for (Report& each : entry.reports) {
            if (each.client == client) {
                if (age(each, now) < kNatReportEveryNs / kUnit) return false;
                place = &each;
                break;
            }
            if (age(each, now) > age(*place, now)) place = &each;
        }
        if (place->client != client && is_fresh(*place)) return false;
        *place = {.client = client,
                  .kept = static_cast<uint16_t>(found.kept / kSilenceUnit),
                  .lost = static_cast<uint16_t>((found.lost + kSilenceUnit - 1) / kSilenceUnit),
                  .at = unit(now)};
        return true;
    }
    // Of a network; NatSilence{}: nothing is known.
    NatSilence of(uint32_t network, Nanos now) const {
        if (!on()) return {};
        const Entry& entry = entries_[network % kNatNetworks];
        if (entry.network != network) return {};
        std::array<Report, kNatReporters> known;  // shortest first
        size_t count = 0;
        for (const Report& each : entry.reports) {
            if (each.client == 0 || age(each, now) > kNatReportNs / kUnit) continue;
            size_t at = count++;
            for (; at > 0 && known[at - 1].kept > each.kept; --at) known[at] = known[at - 1];
            known[at] = each;
        }
        if (count == 0) return {};
        const Report& median = known[(count - 1) / 2];
        return {.kept = median.kept * kSilenceUnit, .lost = median.lost * kSilenceUnit};
    }
    size_t memory_bytes() const { return entries_.size() * sizeof(Entry); }

  private:
    struct Report {
        uint32_t client = 0;  // 0: none
        uint16_t kept = 0;  // in kSilenceUnit
        uint16_t lost = 0;
        uint32_t at = 0;  // in kUnit
    };
    struct Entry {
        uint32_t network = 0;
        std::array<Report, kNatReporters> reports{};
    };
    static_assert(sizeof(Entry) == kCacheLineBytes);

    static constexpr Nanos kUnit = 60 * kSecond;
    static constexpr Nanos kFreshUnits = 1;  // a voice that is so new gives way to no other
    static constexpr Nanos kSilenceUnit = kSecond / 10;
    static_assert(kNatSilenceMaxNs / kSilenceUnit <= UINT16_MAX);
    static uint32_t unit(Nanos now) { return static_cast<uint32_t>(now / kUnit); }
    // Of a place that has none it is the greatest.
    static Nanos age(const Report& report, Nanos now) {
        return report.client == 0 ? INT64_MAX : Nanos{unit(now)} - Nanos{report.at};
    }

    std::vector<Entry> entries_;
};

}  // namespace pulse
