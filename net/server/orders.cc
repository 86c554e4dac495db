// One message of a kind on its way, and the last that is wanted behind it.
#include "net/server/orders.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace pulse {

void Orders::reload(std::shared_ptr<const LoopOptions> options) {
    wanted_options_ = std::move(options);
    reload_.wanted = true;
}

void Orders::revoke(std::string token_id) {
    wanted_revocations_.push_back(std::move(token_id));
    revoke_.wanted = true;
}

bool Orders::deliver() {
    post(check_, Message::Snapshot{});
    if (revoke_.may_post()) {
        // What a full mailbox refused is still there, in front.
        if (std::exchange(revocations_posted_, false)) posted_revocations_.clear();
        std::ranges::move(wanted_revocations_, std::back_inserter(posted_revocations_));
        wanted_revocations_.clear();
        post(revoke_, Message::Revoke{}, Payload::of(posted_revocations_));
        revocations_posted_ = !revoke_.wanted;
    }
    if (reload_.may_post()) {
        posted_options_ = wanted_options_;
        post(reload_, Message::Reload{}, Payload::of(posted_options_));
    }
    if (!reload_.pending()) post(drain_, Message::Drain{});
    post(stop_, Message::Stop{});
    return check_.pending() || reload_.pending() || revoke_.pending() || drain_.pending() ||
           stop_.pending();
}

void Orders::post(Order& order, const Message::Body& body, Payload payload) {
    if (!order.may_post()) return;
    const Message message{
        .body = body, .payload = payload, .acknowledgement = {&Orders::acknowledge, &order}};
    order.on_its_way.store(true, std::memory_order_relaxed);
    if (mailbox_.post(sender_, message)) {
        order.wanted = false;
    } else {
        order.on_its_way.store(false, std::memory_order_relaxed);
    }
}

void Orders::acknowledge(void* order, uint32_t) {
    static_cast<Order*>(order)->on_its_way.store(false, std::memory_order_release);
}

void Orders::cancel() {
    for (Order* order : {&check_, &reload_, &revoke_, &drain_, &stop_}) {
        order->wanted = false;
        order->on_its_way.store(false, std::memory_order_relaxed);
    }
}

}  // namespace pulse
