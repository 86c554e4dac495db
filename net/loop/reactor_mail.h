// What a reactor posts to the others: in order for each of them, and never lost. A message that
// finds a full lane waits here and goes first in the turns that follow; what comes behind it waits,
// too. Nothing blocks. What may wait is bounded by what reactors post: for each connection or login
// one message at a time (logins.h). Belongs to the reactor's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>

#include "core/mailbox.h"
#include "core/message.h"

namespace pulse {

class ReactorMail {
  public:
    // `mailboxes` are those of all reactors by number, its own among them; empty: there is one
    // reactor. They outlive this. `sender` is its lane in them.
    ReactorMail(std::span<Mailbox* const> mailboxes, uint32_t sender)
        : mailboxes_(mailboxes), sender_(sender) {}

    uint32_t reactors() const {
        return mailboxes_.empty() ? 1 : static_cast<uint32_t>(mailboxes_.size());
    }

    // Requires: `to` is another reactor.
    void post(uint32_t to, const Message& message) {
        if (try_post(to, message)) return;
        waiting_[to].push_back(message);
        ++delayed_;
    }
    // False: the message would have to wait, and was not posted.
    bool try_post(uint32_t to, const Message& message) {
        return !waiting_.contains(to) && mailboxes_[to]->post(sender_, message);
    }
    // Posts what waits, as far as lanes have room. Returns whether anything was posted.
    bool deliver();

    bool empty() const { return waiting_.empty(); }
    // Messages that found a full lane, since the start.
    uint64_t delayed() const { return delayed_; }

  private:
    std::span<Mailbox* const> mailboxes_;
    uint32_t sender_;
    uint64_t delayed_ = 0;
    std::map<uint32_t, std::deque<Message>> waiting_;  // by reactor; none of them is empty
};

}  // namespace pulse
