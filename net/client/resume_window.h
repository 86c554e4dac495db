// What lets a client come back to its session (proto/PROTOCOL.md, "Resuming"): what both ends have
// counted, and the messages that were sent and are not known to have come. Pure.
//
// While there is a connection its link has these messages; in between they are here, in order. Each
// keeps its one answer: of those that are lost with the session it is given here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "net/client/events.h"
#include "net/client/outbox.h"
#include "proto/json_welcome.h"

namespace pulse::client {

class ResumeWindow {
  public:
    // `url`: where the session is.
    ResumeWindow(std::string token, std::string url)
        : token_(std::move(token)), url_(std::move(url)) {}

    const std::string& token() const { return token_; }
    const std::string& url() const { return url_; }
    // Messages of the application that have come from the server.
    uint64_t received() const { return received_; }

    // One more has come. True: it is time to acknowledge, without waiting for more.
    bool count(size_t bytes);
    // What acknowledges all that has come; none: nothing new has.
    std::optional<uint64_t> take_ack();

    // So many more of the client's are known to have come.
    void confirm(size_t messages) { confirmed_ += messages; }
    // Those behind them, which were sent on a connection that has ended.
    void keep(std::deque<QueuedMessage> unconfirmed) { unconfirmed_ = std::move(unconfirmed); }

    struct Resumption {
        uint64_t lost = 0;                // messages of the server that did not come
        std::deque<QueuedMessage> again;  // those that are to be sent again
    };
    // The welcome of a connection that goes on with it, at `url`. None, and nothing is done: it
    // says what cannot be, and the session is over.
    std::optional<Resumption> resume(const JsonResumption& welcome, std::string_view url,
                                     Events& events);

    // It is over. Those that were not asked to be confirmed have had their answer: sent. Returns
    // how many may be lost.
    size_t drop(const std::string& reason, Events& events);

  private:
    std::string token_;
    std::string url_;
    uint64_t received_ = 0;
    uint64_t acknowledged_ = 0;
    size_t unacknowledged_bytes_ = 0;
    uint64_t confirmed_ = 0;
    std::deque<QueuedMessage> unconfirmed_;
};

}  // namespace pulse::client
