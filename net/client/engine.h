// The engine of a client: keeps one connection, or comes back to one by the policy of each cause,
// and answers for every message that it is given. Pure but for the transport that it is given: time
// is a parameter, of a clock that only goes forwards. client.h puts sockets and a clock under it.
//
//     idle --connect()--> connecting --welcome--> open --end--> waiting --> connecting ...
//                             any of them --close(), or a terminal cause--> closed
//
// While another server takes over (move_to) two links are there: `link_` serves until `next_` is
// welcomed. The state is open as long as `link_` is.
//
// What it reports waits in a queue until next() takes it, so that whatever a program does about an
// event finds the engine at rest.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "net/client/link.h"
#include "net/client/options.h"
#include "net/client/outbox.h"
#include "net/client/policy.h"
#include "net/client/transport.h"

namespace pulse::client {

class Engine final : public LinkOwner {
  public:
    // Requires: check_options() takes the options. Their seed is used as it is.
    Engine(Options options, Transport& transport);

    // ------------------------------------------------------------------------- what client.h has
    void connect(Nanos now);
    Result<uint64_t> send(Nanos now, MessageKind kind, std::string_view bytes, bool confirm);
    Result<void> login(Nanos now, Identity identity, std::string token);
    void wake(Nanos now);
    void close(Nanos now);
    std::optional<Event> next();
    State state() const { return state_; }
    const Outbox& outbox() const { return outbox_; }
    std::optional<Nanos> round_trip() const;

    // ------------------------------------------------------------------------- what is due, when
    Nanos due_at() const;
    // Requires: of what had come by `now` something was delivered of each connection.
    void poll(Nanos now);

    // ---------------------------------------------------------------- what its transport delivers
    void on_connected(LinkId link, Nanos now);
    void on_bytes(LinkId link, std::span<const uint8_t> bytes, Nanos now);
    void on_sent(LinkId link, Nanos now);  // fewer bytes wait than before
    void on_end(LinkId link, const std::string& why, Nanos now);

  private:
    void link_welcomed(Link& link, Welcomed welcome, const JsonResumption& resumption) override;
    void hello_welcomed(Link& link, HelloFor purpose, Welcomed welcome) override;
    void hello_refused(Link& link, HelloFor purpose, std::string why) override;
    bool link_told_goodbye(Link& link, const Cause& cause,
                           const std::optional<Endpoint>& target) override;
    void link_heard(Link& link, Event event) override;
    void link_confirmed(Link& link) override;
    void link_ended(Link& link, const Cause& cause) override;
    bool keeps_session(const Link& link) const override;

    void enter(Nanos now);
    class Asking;  // of the program, by a function of its own
    Link* find(LinkId id) const;
    void set_aside(Link& link);

    void attempt();
    void leave_for_home();
    std::optional<ResumeRequest> resume_request(const std::string& url) const;
    Result<std::string> token_for(std::string_view cause);
    void try_failed(const Cause& cause);
    void again(const Cause& cause, bool elsewhere, bool is_of_url);
    void finish(const Cause& cause);
    void become(State state);
    void report(Event event) { context_.events.push_back(std::move(event)); }

    bool may_move(const std::string& url);
    std::optional<Resumed> resume(Link& link, const JsonResumption& resumption);
    void greet_again(Link& link, HelloFor purpose);
    void renew();
    void rest_from_renewal(const std::string& why);
    void end_renewal();
    void pump();

    Options options_;
    std::vector<Endpoint> endpoints_;
    Context context_;
    Outbox outbox_;
    Retries retries_;
    State state_ = State::idle;

    std::unique_ptr<Link> link_;
    std::unique_ptr<Link> next_;  // that is to take its place
    std::vector<std::unique_ptr<Link>> retired_;
    std::vector<std::unique_ptr<Link>> ended_;  // until the call that ended them is over
    LinkId last_link_ = 0;
    uint64_t last_message_ = 0;

    size_t endpoint_ = 0;               // of the next try, counted on
    size_t refused_urls_ = 0;           // own ones in a row that are not to be tried again
    std::optional<Endpoint> moved_to_;  // where a goodbye has sent the client
    uint32_t move_failures_ = 0;
    std::shared_ptr<ResumeWindow> session_;  // what the next connection goes on with
    uint32_t identity_version_ = 0;
    bool asks_ = false;

    bool renew_token_ = false;
    std::string token_cause_ = "connect";
    Nanos retry_at_ = kNever;
    Nanos not_before_ = 0;  // the server does not want the client back before
    Nanos stable_at_ = kNever;
    Nanos renew_at_ = kNever;  // another try to get a new token
    uint32_t renewals_left_ = 0;
    Nanos renewal_pause_ = 0;
};

}  // namespace pulse::client
