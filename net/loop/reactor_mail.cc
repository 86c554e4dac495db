// Another try for what found a full lane.
#include "net/loop/reactor_mail.h"

namespace pulse {

bool ReactorMail::deliver() {
    bool posted = false;
    for (auto at = waiting_.begin(); at != waiting_.end();) {
        auto& [to, messages] = *at;
        while (!messages.empty() && mailboxes_[to]->post(sender_, messages.front())) {
            messages.pop_front();
            posted = true;
        }
        at = messages.empty() ? waiting_.erase(at) : std::next(at);
    }
    return posted;
}

}  // namespace pulse
