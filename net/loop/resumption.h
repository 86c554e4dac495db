// Sessions that outlive their connection for a while (--resume-hold), so that their client comes
// back to them and nothing is lost or doubled: what both ends have counted, and what the client
// may not have seen. What logins.h reports of sessions takes it along:
//
//     connection's reactor                        shard of the user
//       attach  <-- LoginAnswered + parcel ----     (first login, or resumed)
//       counts, keeps what is sent
//       detach  --- SessionEnded + parcel ---->     hold, for --resume-hold
//                                                     |  Login that names it: out again, to
//                                                     |  whatever reactor the client came to
//                                                     '- none: the session ends
//
// So it is in one place at a time: with the connection, on its way, or held by the shard. A client
// that is back before its old connection is known to be dead waits until that one's reactor has
// sent it home. A token is the session's for its whole life, so that it does not matter whether the
// client has read a welcome. Belongs to the reactor's thread, but for parcels.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/buffer_pool.h"
#include "core/close_reason.h"
#include "core/fixed_text.h"
#include "core/sessions/login.h"
#include "core/sessions/resume_window.h"
#include "net/loop/reactor_config.h"
#include "net/loop/reactor_metrics.h"

namespace pulse {

// The session of a client that ended for this reason may be resumed: neither the client nor an
// operator has ended it, and the server goes on.
bool is_resumable(CloseReason reason);

// What a session has to be resumed by, on its way from one place to another.
struct ResumeParcel {
    // Why a session that was named is not the one that is given; none: it is, or none was named.
    enum class Miss : uint8_t { none, unknown, ended, protocol, ahead };

    std::array<uint64_t, 2> secret{};
    bool resumed = false;  // or may be: what follows is of a client that knows of it
    Miss miss = Miss::none;
    uint8_t protocol = 0;  // a row of kProtocols; of one that is new: none yet
    uint64_t received = 0;
    ResumeWindow::Packed window{};
};

// One between two threads: its sender keeps it until the receiver has taken what is in it.
struct SentParcel {
    explicit SentParcel(ResumeParcel&& parcel) : content(std::move(parcel)) {}

    ResumeParcel take() const {
        ResumeParcel out = std::move(content);
        taken.store(true, std::memory_order_release);
        return out;
    }

    mutable ResumeParcel content;  // the receiver's
    mutable std::atomic<bool> taken{false};
};

// What the welcome says of it.
struct ResumeWelcome {
    FixedText<64> token;
    bool resumed = false;
    ResumeParcel::Miss miss = ResumeParcel::Miss::none;
    uint64_t received = 0;
    uint64_t from = 0;  // the next that is sent
    uint64_t lost = 0;
};

// 40 digits: the secret, and the session. Anything else names no session.
FixedText<64> resume_token(const std::array<uint64_t, 2>& secret, SessionHandle session);
void read_resume_token(std::string_view token, ResumeAsk& ask);

class Resumption {
  public:
    Resumption(const ReactorConfig& config, ReactorMetrics& metrics);

    bool on() const { return hold_ > 0; }
    // Some connection of this reactor has such a session: only then the calls below do anything.
    bool any() const { return !attached_.empty(); }

    // ---- of connections of this reactor
    // The connection, which speaks `protocol` and has seen all up to `seen`, has the session now.
    ResumeWelcome attach(Index index, SessionHandle session, uint8_t protocol, uint64_t seen,
                         ResumeParcel&& parcel);
    // It has it no more. None: it had none.
    std::optional<ResumeParcel> detach(Index index);
    // A message of the application came.
    void count_received(Index index);
    // One is sent.
    void keep(Index index, Nanos now, uint8_t kind, uint32_t sequence,
              std::span<const uint8_t> bytes);
    // The client has all up to `number`. False: it was not sent so many.
    bool acknowledge(Index index, uint64_t number);
    // As ResumeWindow::each().
    template <class Send>
    void each(Index index, Send&& send) {
        const auto at = attached_.find(index);
        if (at != attached_.end()) at->second.window.each(pool_, send);
    }
    void count_resent(uint64_t messages) { metrics_.add(Metric::resume_resent, messages); }

    // ---- of sessions of this shard
    struct Waiter {  // a login that waits for the session to come home
        ConnectionRef connection;
        uint32_t entry = 0;
        LoginAnswer answer;
    };
    struct Session {
        std::array<uint64_t, 2> secret{};
        ConnectionRef holder;  // whose end brings it home, or has done so
        std::optional<Waiter> waiter{};
        bool held = false;
        CloseReason reason = CloseReason::none;  // of the connection that it is held for
        Nanos until = 0;
        uint8_t protocol = 0;
        uint64_t received = 0;
        ResumeWindow window{};
        std::list<SessionHandle>::iterator place{};  // among those that are held
    };
    // nullptr: the session cannot be resumed, or never could.
    Session* find(SessionHandle session);
    // Of the secret in time that says nothing of how much of it is right.
    Session* find(const ResumeAsk& ask);
    // The session, which is none of these yet, may be resumed from now on.
    ResumeParcel create(SessionHandle session, const ConnectionRef& holder);
    // Its connection has ended, and its client is waited for. Returns one that gives way to it,
    // since as many are held as may be; 0: none.
    SessionHandle hold(SessionHandle session, CloseReason reason, const ResumeParcel& parcel,
                       Nanos now);
    // It is held no more, and goes to the connection that is its holder now.
    ResumeParcel release(SessionHandle session, Nanos now);
    // It is over, whether or not it is one of these.
    void erase(SessionHandle session);
    // One whose time is over, or with `all` any that is held; 0: there is none.
    SessionHandle next_over(Nanos now, bool all) const;
    Nanos next_deadline() const;

    // Kept here until another reactor has taken it.
    const SentParcel& keep_sent(ResumeParcel&& parcel);

    uint64_t held() const { return held_.size(); }
    size_t bytes() const;

  private:
    struct Attached {
        SessionHandle session = 0;
        std::array<uint64_t, 2> secret{};
        uint8_t protocol = 0;
        uint64_t received = 0;
        ResumeWindow window{};
    };
    void count_drops(const ResumeDrops& drops);

    const Nanos hold_;
    const ResumeBounds bounds_;
    const SipKey key_;  // what secrets are made from
    ReactorMetrics& metrics_;
    BufferPool pool_;
    std::unordered_map<Index, Attached> attached_;
    std::unordered_map<SessionHandle, Session> sessions_;
    std::list<SessionHandle> held_;  // those held longest first: each is held for as long
    std::list<SentParcel> sent_;
    size_t sweep_sent_at_ = 0;  // so many of them, and those that were taken are forgotten
    uint64_t secrets_ = 0;
};

}  // namespace pulse
