// The thread that reads what changes in the shards of the directory, and those that follow it.
//
//     shards <-- ChangesJob, every kPresencePollNs while there are followers -- hub: PresenceFeed
//            <-- UsersJob, a page ----------------------------- for a follower's snapshot
//     hub --> buffer of each follower --> front thread (http_front.h) --> client
//
// A follower is sent, as Server-Sent Events:
//
//     snapshot     forget what you know; `user` events follow, one for each that is not offline
//     live         that was all; from here on `change` events, each with an id
//     gap          what you have is not enough to go on; a snapshot follows
//     dropped      you read too slowly; the stream ends
//
// A snapshot is read while users change: what a `user` event says may be newer than a change that
// follows. A change counts if its (generation, sequence) is above what is known of its user.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/result.h"
#include "net/control/errands.h"
#include "net/control/http_front.h"
#include "net/control/presence_feed.h"
#include "net/control/target.h"

namespace pulse {

class PresenceHub {
  public:
    // Both outlive this.
    PresenceHub(Errands& errands, const ControlTarget& target);
    // Waits for the thread. The streams that it gave may outlive it, and say nothing more.
    ~PresenceHub();
    PresenceHub(const PresenceHub&) = delete;
    PresenceHub& operator=(const PresenceHub&) = delete;

    // One more follower, which goes on behind the event `id`; empty: it begins. The error is that
    // of the thread. nullptr: as many follow as may. Any thread.
    Result<std::shared_ptr<HttpStream>> follow(std::string id);

    // What followers and the feed may hold.
    static size_t memory_bytes_max();

  private:
    class Follower;
    Result<void> start();
    void run();
    void serve();
    void drop_all(std::string_view why);
    void poll();
    bool poll_once();
    bool fill(Follower& follower);
    void begin(Follower& follower, std::string& text);
    bool add_page(Follower& follower, std::string& text);

    Errands& errands_;
    const ControlTarget& target_;
    std::mutex lock_;
    std::condition_variable changed_;
    std::vector<std::shared_ptr<Follower>> followers_;  // of all threads
    bool stopping_ = false;
    std::thread thread_;
    // The thread's.
    PresenceFeed feed_;
    std::vector<uint64_t> positions_;  // in the streams of the shards
    bool lost_some_ = false;           // of what was read, on its way to the feed
};

}  // namespace pulse
