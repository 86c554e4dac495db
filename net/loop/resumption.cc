// Tokens, what is held, and what is counted of it.
#include "net/loop/resumption.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/sip_hash.h"

namespace pulse {
namespace {

constexpr size_t kTokenDigits = 40;
constexpr size_t kParcelsKeptMin = 64;

// Of the low `digits` of it.
void write_hex(FixedText<64>& to, uint64_t number, int digits) {
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
        to << std::string_view("0123456789abcdef").substr(number >> shift & 15, 1);
}

// Requires: 16 digits at most.
bool read_hex(std::string_view digits, uint64_t& number) {
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
    return result.ec == std::errc{} && result.ptr == digits.data() + digits.size();
}

// A key of its own for each reactor, made from the secret of all.
SipKey secret_key(const ReactorConfig& config) {
    return {sip_hash(config.user_key, config.number, 2),
            sip_hash(config.probe_key, config.number, 3)};
}

// Of a connection's side or a shard's, whose window it takes.
template <class Side>
ResumeParcel parcel_of(Side& from, BufferPool& pool) {
    ResumeParcel parcel;
    parcel.secret = from.secret;
    parcel.resumed = true;
    parcel.protocol = from.protocol;
    parcel.received = from.received;
    parcel.window = from.window.pack(pool);
    return parcel;
}

}  // namespace

bool is_resumable(CloseReason reason) {
    switch (reason) {
        case CloseReason::peer_closed:
        case CloseReason::peer_reset:
        case CloseReason::network_timeout:
        case CloseReason::network_unreachable:
        case CloseReason::io_error:
        case CloseReason::idle_timeout:
        case CloseReason::idle_read:
        case CloseReason::idle_write:
        case CloseReason::idle_both:
        case CloseReason::slow_upload:
        case CloseReason::slow_reader:
        case CloseReason::out_of_memory:
        case CloseReason::overloaded:
        case CloseReason::address_share:
        case CloseReason::max_lifetime:
        case CloseReason::message_rate:
        case CloseReason::user_message_rate:
            return true;
        default:
            return false;
    }
}

FixedText<64> resume_token(const std::array<uint64_t, 2>& secret, SessionHandle session) {
    FixedText<64> text;
    write_hex(text, secret[0], 16);
    write_hex(text, secret[1], 16);
    write_hex(text, session, 8);
    return text;
}

void read_resume_token(std::string_view token, ResumeAsk& ask) {
    ask.names_session = true;
    uint64_t session = 0;
    if (token.size() != kTokenDigits || !read_hex(token.substr(0, 16), ask.secret[0]) ||
        !read_hex(token.substr(16, 16), ask.secret[1]) || !read_hex(token.substr(32), session))
        return;
    ask.session = static_cast<SessionHandle>(session);
}

Resumption::Resumption(const ReactorConfig& config, ReactorMetrics& metrics)
    : hold_(config.options->resume_hold),
      bounds_(config.options->resume_window),
      key_(secret_key(config)),
      metrics_(metrics),
      pool_(config.resume_bytes - config.resume_bytes / 8, config.resume_bytes / 8) {}

// ------------------------------------------------------------------------------------ connections

ResumeWelcome Resumption::attach(Index index, SessionHandle session, uint8_t protocol,
                                 uint64_t seen, ResumeParcel&& parcel) {
    Attached& attached = attached_[index];
    attached = {.session = session, .secret = parcel.secret, .protocol = protocol};
    ResumeWelcome welcome{.token = resume_token(parcel.secret, session), .miss = parcel.miss};
    // What was kept for another protocol is in its forms, and means nothing in this one.
    if (parcel.resumed && parcel.protocol != protocol) welcome.miss = ResumeParcel::Miss::protocol;
    if (parcel.resumed && seen > parcel.window.sent) welcome.miss = ResumeParcel::Miss::ahead;
    welcome.resumed = parcel.resumed && welcome.miss == ResumeParcel::Miss::none;
    if (welcome.resumed) {
        metrics_.add(Metric::resumed);
        attached.received = welcome.received = parcel.received;
        metrics_.add(Metric::resume_dropped_memory, attached.window.unpack(pool_, parcel.window));
        attached.window.acknowledge(pool_, seen);
        welcome.from = attached.window.first();
        welcome.lost = welcome.from - 1 - seen;
        metrics_.add(Metric::resume_lost, welcome.lost);
    } else if (welcome.miss != ResumeParcel::Miss::none) {
        metrics_.add(Metric::resume_missed);
    }
    return welcome;
}

std::optional<ResumeParcel> Resumption::detach(Index index) {
    const auto at = attached_.find(index);
    if (at == attached_.end()) return std::nullopt;
    ResumeParcel parcel = parcel_of(at->second, pool_);
    attached_.erase(at);
    return parcel;
}

void Resumption::count_received(Index index) {
    const auto at = attached_.find(index);
    if (at != attached_.end()) ++at->second.received;
}

void Resumption::keep(Index index, Nanos now, uint8_t kind, uint32_t sequence,
                      std::span<const uint8_t> bytes) {
    const auto at = attached_.find(index);
    if (at == attached_.end()) return;
    count_drops(at->second.window.push(pool_, bounds_, now, kind, sequence, bytes));
}

bool Resumption::acknowledge(Index index, uint64_t number) {
    const auto at = attached_.find(index);
    return at == attached_.end() || at->second.window.acknowledge(pool_, number);
}

void Resumption::count_drops(const ResumeDrops& drops) {
    const auto add = [this](Metric metric, uint32_t count) {
        if (count > 0) metrics_.add(metric, count);
    };
    add(Metric::resume_dropped_count, drops.count);
    add(Metric::resume_dropped_bytes, drops.bytes);
    add(Metric::resume_dropped_age, drops.age);
    add(Metric::resume_dropped_memory, drops.memory);
}

// --------------------------------------------------------------------------------------- sessions

Resumption::Session* Resumption::find(SessionHandle session) {
    if (sessions_.empty()) return nullptr;
    const auto at = sessions_.find(session);
    return at == sessions_.end() ? nullptr : &at->second;
}

Resumption::Session* Resumption::find(const ResumeAsk& ask) {
    Session* const session = ask.session == 0 ? nullptr : find(ask.session);
    if (session == nullptr) return nullptr;
    const uint64_t differs = (session->secret[0] ^ ask.secret[0]) |
                             (session->secret[1] ^ ask.secret[1]);
    return differs == 0 ? session : nullptr;
}

ResumeParcel Resumption::create(SessionHandle session, const ConnectionRef& holder) {
    ResumeParcel parcel;
    ++secrets_;
    parcel.secret = {sip_hash(key_, secrets_, 0), sip_hash(key_, secrets_, 1)};
    sessions_[session] = {.secret = parcel.secret, .holder = holder};
    return parcel;
}

SessionHandle Resumption::hold(SessionHandle handle, CloseReason reason, const ResumeParcel& parcel,
                               Nanos now) {
    Session& session = sessions_.at(handle);
    session.held = true;
    session.reason = reason;
    session.until = now + hold_;
    session.protocol = parcel.protocol;
    session.received = parcel.received;
    metrics_.add(Metric::resume_dropped_memory, session.window.unpack(pool_, parcel.window));
    count_drops({.age = session.window.expire(pool_, now - bounds_.age)});
    session.place = held_.insert(held_.end(), handle);
    return held_.size() > kResumeHeldMax ? held_.front() : 0;
}

ResumeParcel Resumption::release(SessionHandle handle, Nanos now) {
    Session& session = sessions_.at(handle);
    held_.erase(session.place);
    count_drops({.age = session.window.expire(pool_, now - bounds_.age)});
    session.held = false;
    return parcel_of(session, pool_);
}

void Resumption::erase(SessionHandle handle) {
    const auto at = sessions_.find(handle);
    if (at == sessions_.end()) return;
    if (at->second.held) held_.erase(at->second.place);
    at->second.window.release(pool_);
    sessions_.erase(at);
}

SessionHandle Resumption::next_over(Nanos now, bool all) const {
    return held_.empty() || !(all || next_deadline() <= now) ? 0 : held_.front();
}

Nanos Resumption::next_deadline() const {
    return held_.empty() ? kNever : sessions_.at(held_.front()).until;
}

// Those that were taken are looked for when there are twice as many as were left the last time.
const SentParcel& Resumption::keep_sent(ResumeParcel&& parcel) {
    if (sent_.size() >= sweep_sent_at_) {
        sent_.remove_if([](const SentParcel& sent) {
            return sent.taken.load(std::memory_order_acquire);
        });
        sweep_sent_at_ = std::max(kParcelsKeptMin, 2 * sent_.size());
    }
    return sent_.emplace_back(std::move(parcel));
}

size_t Resumption::bytes() const {
    return pool_.held_bytes() + pool_.idle_bytes() + attached_.size() * sizeof(Attached) +
           sessions_.size() * sizeof(Session);
}

}  // namespace pulse
