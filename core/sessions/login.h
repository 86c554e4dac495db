// A login, and what a shard of the directory answers to it (core/sessions/directory.h).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/types.h"

namespace pulse {

using SessionHandle = uint32_t;  // 0 is none

struct Login {
    std::string_view user;  // 1 .. kUserBytesMax
    std::string_view device;
    std::string_view labels;
    ConnectionRef connection;
    // That the connection had, as its reactor knows it. Requires: of the same user; a connection
    // that is another user from now on ends its session first.
    SessionHandle session = 0;
    uint32_t sessions_max = 0;  // of this user, by its cohort; 0: what the rules say
};

// What a hello wants of --resume-hold: a session that can be resumed, or the one that it had. What
// was given as a token and is none names no session.
struct ResumeAsk {
    bool wanted = false;
    bool names_session = false;
    SessionHandle session = 0;
    std::array<uint64_t, 2> secret{};
};

// What of it travels to the shard of another reactor.
struct LoginTexts {
    std::string user;
    std::string device;
    std::string labels;
    ResumeAsk resume{};
};

struct LoginAnswer {
    enum class Verdict : uint8_t {
        accepted,
        refreshed,     // this connection had this session: device and labels are what was given now
        resumed,       // likewise, as the client of the connection that had the session before
        replaced,      // rejected: another connection has taken the session that this one had
        duplicate,     // rejected: the device has its session
        user_full,     // rejected: the user has per_user_max sessions
        out_of_memory  // rejected: no room for one more user or its texts
    };
    Verdict verdict = Verdict::accepted;
    bool replaces = false;
    SessionHandle session = 0;  // of accepted, refreshed and resumed
    ConnectionRef replaced{};   // if `replaces`: to be closed by its reactor
    SessionHandle replaced_session = 0;
    uint8_t cohort = 0;  // by the policies of the shard, not the directory's (cohorts.h)
};

}  // namespace pulse
