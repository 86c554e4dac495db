// What one client of a stream of Server-Sent Events has not taken yet: written by the thread that
// makes the events, read by the front thread (http_front.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "net/control/http_front.h"
#include "net/control/limits.h"
#include "net/io/clocks.h"

namespace pulse {

// `data` is JSON, a line; it and `id` come without line breaks.
inline std::string event_text(std::string_view name, std::string_view data,
                              std::string_view id = {}) {
    std::string text;
    if (!id.empty()) text.append("id: ").append(id).append("\n");
    return text.append("event: ").append(name).append("\ndata: ").append(data).append("\n\n");
}

// Any thread.
class EventBuffer : public HttpStream {
  public:
    void begin(std::function<void()> wake) override {
        const std::lock_guard guard(lock_);
        wake_ = std::move(wake);
        spoke_at_ = monotonic_clock();
    }
    bool read(std::string& out) override {
        const std::lock_guard guard(lock_);
        const Nanos now = monotonic_clock();
        // So that a client that is gone is noticed, and a balancer in between keeps the stream.
        if (out_.empty() && !over_ && now - spoke_at_ >= kPresencePingNs) out_ = ":\n\n";
        if (!out_.empty()) spoke_at_ = now;
        out += std::exchange(out_, {});
        return !over_;
    }
    void end() override {
        const std::lock_guard guard(lock_);
        gone_ = true;
        wake_ = {};
    }

    bool gone() const {
        const std::lock_guard guard(lock_);
        return gone_;
    }
    // Bytes that it may still be given, of kFollowerBufferBytes.
    size_t room() const {
        const std::lock_guard guard(lock_);
        return kFollowerBufferBytes - std::min(kFollowerBufferBytes, out_.size());
    }
    // `over`: nothing follows, and the connection is closed behind it.
    void add(std::string_view text, bool over) {
        const std::lock_guard guard(lock_);
        out_ += text;
        over_ |= over;
        if (wake_) wake_();
    }

    // Nothing follows, not even what was added and is not read; the connection is closed.
    void drop() {
        const std::lock_guard guard(lock_);
        out_.clear();
        over_ = true;
        if (wake_) wake_();
    }

  private:
    mutable std::mutex lock_;
    std::string out_;
    std::function<void()> wake_;
    Nanos spoke_at_ = 0;
    bool gone_ = false;
    bool over_ = false;
};

}  // namespace pulse
