// What a simulated run leaves behind: a hash of everything that happened, a readable trace if
// a caller wants one, and the rules that were broken.
//
// Two runs of one seed are the same run exactly if their hashes are the same.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "core/types.h"

namespace pulse {

struct Violation {
    Nanos at = 0;
    std::string rule;  // C4, punctual_peer_evicted ...
    std::string what;
};

class SimLog {
  public:
    // Breaches that are kept with their words; the rest is counted.
    static constexpr size_t kViolationsKept = 16;

    // Lines go to `trace` from now on, one an event; it is the caller's. nullptr: none.
    void write_trace_to(std::FILE* trace) { trace_ = trace; }

    void note(Nanos at, std::string_view event, uint64_t first, uint64_t second = 0) {
        uint64_t name = event.size();
        std::memcpy(&name, event.data(), std::min(event.size(), sizeof name));
        mix(name);
        mix(static_cast<uint64_t>(at));
        mix(first);
        mix(second);
        ++events_;
        if (trace_ != nullptr) [[unlikely]]
            print(at, event, first, second);
    }

    // A rule does not hold. The run goes on, so that one seed tells all it knows.
    void broken(Nanos at, std::string_view rule, std::string what);

    uint64_t hash() const { return hash_; }
    uint64_t events() const { return events_; }
    uint64_t violations() const { return violations_; }
    const std::vector<Violation>& kept() const { return kept_; }

  private:
    void mix(uint64_t value) { hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15 ^ (hash_ >> 29); }
    void print(Nanos at, std::string_view event, uint64_t first, uint64_t second);

    std::FILE* trace_ = nullptr;
    uint64_t hash_ = mix64(0);
    uint64_t events_ = 0;
    uint64_t violations_ = 0;
    std::vector<Violation> kept_;
};

}  // namespace pulse
