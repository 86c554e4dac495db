// The counts of both ends, compared at a welcome.
#include "net/client/resume_window.h"

#include <utility>

namespace pulse::client {
namespace {

// So many messages, or so many bytes, are acknowledged at once; fewer after a while.
constexpr uint64_t kAckMessages = 32;
constexpr size_t kAckBytes = 16'384;

}  // namespace

bool ResumeWindow::count(size_t bytes) {
    ++received_;
    unacknowledged_bytes_ += bytes;
    return received_ - acknowledged_ >= kAckMessages || unacknowledged_bytes_ >= kAckBytes;
}

std::optional<uint64_t> ResumeWindow::take_ack() {
    if (acknowledged_ == received_) return std::nullopt;
    acknowledged_ = received_;
    unacknowledged_bytes_ = 0;
    return received_;
}

std::optional<ResumeWindow::Resumption> ResumeWindow::resume(const JsonResumption& welcome,
                                                             std::string_view url, Events& events) {
    if (welcome.received < confirmed_ || welcome.received - confirmed_ > unconfirmed_.size() ||
        welcome.from <= received_) {
        return std::nullopt;
    }
    for (; confirmed_ < welcome.received; ++confirmed_) {
        const QueuedMessage& message = unconfirmed_.front();
        if (message.confirm) events.push_back(Answered{message.id, Outcome::received, {}});
        unconfirmed_.pop_front();
    }
    Resumption resumption;
    resumption.lost = welcome.from - 1 - received_;
    resumption.again = std::exchange(unconfirmed_, {});
    received_ = acknowledged_ = welcome.from - 1;
    unacknowledged_bytes_ = 0;
    url_ = url;
    return resumption;
}

size_t ResumeWindow::drop(const std::string& reason, Events& events) {
    const std::deque<QueuedMessage> dropped = std::exchange(unconfirmed_, {});
    for (const QueuedMessage& message : dropped) {
        if (!message.confirm) continue;
        events.push_back(Answered{message.id, Outcome::unconfirmed, reason});
    }
    return dropped.size();
}

}  // namespace pulse::client
