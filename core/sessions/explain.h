// What a connection's facts mean, in sentences that name their evidence.
//
//     r0-000012-3 (JSON lines from 192.0.2.7:40001 on jsonl://*:9000) was closed as idle_timeout
//     after 92.4 s: nothing that proves life came for 90.0 s, and its timeout is 90.0 s; 2 probes
//     were sent since, the last one 28.0 s before. The kernel shows that 16 bytes were not
//     acknowledged and were sent again 7 times, the last acknowledgement 92.4 s before: the peer or
//     its network is gone. ...
//
// Pure functions of the facts: nothing is asked of a kernel here.
#pragma once

#include <string>
#include <string_view>

#include "core/sessions/evidence.h"

namespace pulse {

// What core does not know the words of.
struct ConnectionNames {
    std::string_view name;      // r0-000012-3
    std::string_view peer;      // 192.0.2.7:40001
    std::string_view protocol;  // JSON lines
    std::string_view listener;  // jsonl://*:9000
    std::string_view error{};   // of Evidence::error, for people; empty: there is none
};

// What the transport tells of the peer at the other end of a silence.
enum class PeerState : uint8_t {
    unknown,  // the kernel could not be asked, or nothing was sent that had to be acknowledged
    gone,     // what was sent is not acknowledged: the peer or its network is gone
    stuck,    // its host is there, and takes nothing more: the program does not read
    silent,   // its host acknowledged everything, and the program says nothing
};
PeerState peer_state(const Evidence& facts);

// Of one that is open: its state, its deadline, and what would close it. Of one that is closing or
// closed: the cause, the evidence, what it had sent and received, and how it ended.
std::string explain(const Evidence& facts, const ConnectionNames& names);
// The part behind "was closed as": "idle_timeout after 92.4 s: ...". Requires: closing().
std::string explain_end(const Evidence& facts, const ConnectionNames& names);
// The first sentence of that. Requires: closing().
std::string explain_cause(const Evidence& facts, const ConnectionNames& names);

}  // namespace pulse
