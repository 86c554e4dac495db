// What the main thread has asked of one reactor and was not acknowledged yet.
//
// An order is never lost and never waited for. One of a kind is on its way at a time; of those that
// follow meanwhile the last counts, and is posted once the first was acknowledged: a reactor that
// is stuck costs one message of each kind, however often it is asked, and orders alone never fill a
// server's mailbox. Where other messages have filled it, an order stays wanted, and deliver() posts
// it again. A drain follows the reloads before it, so that peers have the last settings before
// their goodbyes; a stop waits for nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/mailbox.h"
#include "core/message.h"
#include "net/loop/loop_options.h"

namespace pulse {

class Orders {
  public:
    // `mailbox` outlives the orders; `sender` is the lane of the one thread that calls them. What
    // was posted must be handled, or the reactor's thread have ended, before they are destroyed.
    Orders(Mailbox& mailbox, uint32_t sender) : mailbox_(mailbox), sender_(sender) {}
    Orders(const Orders&) = delete;
    Orders& operator=(const Orders&) = delete;

    void reload(std::shared_ptr<const LoopOptions> options);
    // Nothing but an acknowledgement: the reactor makes progress.
    void check() { check_.wanted = true; }
    // Each counts: those that follow while some are on their way go together.
    void revoke(std::string token_id);
    void drain() { drain_.wanted = true; }
    void stop() { stop_.wanted = true; }

    // Posts what is wanted, as far as there is room. Returns true while something is wanted or not
    // acknowledged: then call it again soon.
    bool deliver();
    // The reactor's thread has ended: nothing is wanted of it any more.
    void cancel();

  private:
    struct Order {
        bool wanted = false;
        std::atomic<bool> on_its_way{false};  // set by the sender, cleared by the reactor's thread
        bool may_post() const { return wanted && !on_its_way.load(std::memory_order_acquire); }
        bool pending() const { return wanted || on_its_way.load(std::memory_order_acquire); }
    };
    static void acknowledge(void* order, uint32_t reactor);
    void post(Order& order, const Message::Body& body, Payload payload = {});

    Mailbox& mailbox_;
    const uint32_t sender_;
    Order check_, reload_, revoke_, drain_, stop_;
    // The payload: read by the reactor's thread while the reload is on its way.
    std::shared_ptr<const LoopOptions> posted_options_;
    std::shared_ptr<const LoopOptions> wanted_options_;
    // Likewise.
    std::vector<std::string> posted_revocations_, wanted_revocations_;
    bool revocations_posted_ = false;
};

}  // namespace pulse
