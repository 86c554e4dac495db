// One message of a kind on its way, and the last that is wanted behind it.
#include "net/server/orders.h"

#include <utility>

namespace pulse {

void Orders::reload(std::shared_ptr<const LoopOptions> options) {
    wanted_options_ = std::move(options);
    reload_.wanted = true;
}

bool Orders::deliver() {
    post(check_, Message::Snapshot{});
    if (reload_.may_post()) {
        posted_options_ = wanted_options_;
        post(reload_, Message::Reload{}, Payload::of(posted_options_));
    }
    if (!reload_.pending()) post(drain_, Message::Drain{});
    post(stop_, Message::Stop{});
    return check_.pending() || reload_.pending() || drain_.pending() || stop_.pending();
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
    for (Order* order : {&check_, &reload_, &drain_, &stop_}) {
        order->wanted = false;
        order->on_its_way.store(false, std::memory_order_relaxed);
    }
}

}  // namespace pulse
