// A loop over shards and followers.
#include "net/control/presence_hub.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "net/control/event_buffer.h"
#include "net/control/evidence_json.h"
#include "net/control/limits.h"
#include "net/control/presence_jobs.h"
#include "net/control/warn_of_streams.h"
#include "net/io/clocks.h"
#include "net/loop/public_name.h"

namespace pulse {
namespace {

constexpr uint64_t kNotRead = UINT64_MAX;  // a position in a stream that was never read

std::string line_of(const Json& object) {
    return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string event(std::string_view name, const Json& data, std::string_view id = {}) {
    return event_text(name, line_of(data), id);
}

Json json_of(const UserRow& row) {
    return {{"user", row.name},
            {"state", kUserStateNames[static_cast<size_t>(row.state)]},
            {"sessions", row.sessions},
            {"generation", row.generation},
            {"sequence", row.sequence}};
}

Json json_of(const PresenceEvent& change, const Clocks& clocks) {
    Json object = {{"user", change.user},
                   {"change", name_of(change.kind)},
                   {"generation", change.generation},
                   {"sequence", change.sequence},
                   {"at", clocks.text(change.at)},
                   {"device", change.device}};
    const bool ends = change.reason != CloseReason::none;
    if (change.connection.id.index != kNoIndex)
        object["connection"] = public_name(change.connection.reactor, change.connection.id).view();
    if (ends) object["reason"] = describe(change.reason).name;
    return object;
}

}  // namespace

// What is beside the buffer is the hub's.
class PresenceHub::Follower final : public EventBuffer {
  public:
    explicit Follower(std::string last_id) : id(std::move(last_id)) {}

    enum class Phase : uint8_t { begun, snapshot, live, over };
    Phase phase = Phase::begun;
    std::string id;         // of the last event that it had before
    uint64_t position = 0;  // in the feed
    uint32_t shard = 0;     // of the snapshot: where its next page begins
    uint32_t user = 1;
};

PresenceHub::PresenceHub(Errands& errands, const ControlTarget& target)
    : errands_(errands),
      target_(target),
      feed_(static_cast<uint64_t>(Clocks::now().wall / 1'000), kPresenceFeedBytes) {}

PresenceHub::~PresenceHub() {
    {
        const std::lock_guard guard(lock_);
        stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

size_t PresenceHub::memory_bytes_max() {
    // What a follower has waiting here, and what the front sends of it.
    return kPresenceFeedBytes + kPresenceFollowersMax * 2 * kFollowerBufferBytes;
}

Result<std::shared_ptr<HttpStream>> PresenceHub::follow(std::string id) {
    const std::lock_guard guard(lock_);
    std::erase_if(followers_, [](const auto& follower) { return follower->gone(); });
    if (followers_.size() >= kPresenceFollowersMax) return std::shared_ptr<HttpStream>();
    if (!thread_.joinable()) {
        try {
            thread_ = std::thread([this] { run(); });
        } catch (const std::system_error& error) {
            return Error{"a thread cannot be started: " + error.code().message() +
                         "; raise the limit on threads (pids.max of the cgroup, TasksMax=)"};
        }
    }
    auto follower = std::make_shared<Follower>(std::move(id));
    followers_.push_back(follower);
    changed_.notify_all();
    return std::shared_ptr<HttpStream>(std::move(follower));
}

// As StatusHub::run().
void PresenceHub::run() {
    pthread_setname_np(pthread_self(), "admin presence");
    for (bool stopped = false; !stopped;) {
        try {
            serve();
            stopped = true;
        } catch (const std::exception& error) {
            drop_all(error.what());
        }
    }
}

void PresenceHub::drop_all(std::string_view why) {
    warn_of_streams(target_, "presence", why);
    lost_some_ = true;
    std::unique_lock guard(lock_);
    for (const auto& follower : followers_) follower->drop();
    followers_.clear();
    // Where it goes on being thrown, this thread does not spin.
    changed_.wait_for(guard, std::chrono::milliseconds(kAdminRetryMs),
                      [this] { return stopping_; });
}

void PresenceHub::serve() {
    if (positions_.empty()) positions_.assign(errands_.reactors(), kNotRead);
    // Those that come again with the id of an event begin anew.
    if (lost_some_) feed_.append_gap();
    lost_some_ = false;
    std::unique_lock guard(lock_);
    while (!stopping_) {
        std::erase_if(followers_, [](const auto& follower) { return follower->gone(); });
        if (followers_.empty()) {
            changed_.wait(guard, [this] { return stopping_ || !followers_.empty(); });
            continue;
        }
        const auto followers = followers_;
        guard.unlock();
        poll();
        bool more = false;
        for (const auto& follower : followers) more |= fill(*follower);
        guard.lock();
        if (more || stopping_) continue;
        const size_t before = followers_.size();
        changed_.wait_for(guard, std::chrono::nanoseconds(kPresencePollNs),
                          [&] { return stopping_ || followers_.size() > before; });
    }
}

// ------------------------------------------------------------------------------------ the shards

void PresenceHub::poll() {
    for (uint32_t rounds = 0; rounds < kPresenceRoundsMax && poll_once(); ++rounds) continue;
}

// Whether a shard has more.
bool PresenceHub::poll_once() {
    std::vector<std::shared_ptr<ChangesJob>> changes;
    std::vector<std::shared_ptr<Job>> jobs;
    for (const uint64_t position : positions_) {
        changes.push_back(std::make_shared<ChangesJob>(position, kPresenceChangesAtOnce));
        jobs.push_back(changes.back());
    }
    const auto gone = [this] {
        const std::lock_guard guard(lock_);
        return stopping_;
    };
    const Errands::Outcome outcome = errands_.run(jobs, kPresenceAnswerNs, gone);
    const Clocks clocks = Clocks::now();
    bool more = false;
    for (uint32_t shard = 0; shard < changes.size(); ++shard) {
        const ChangesJob& job = *changes[shard];
        if (std::ranges::count(outcome.unanswered, shard) > 0) continue;  // it is asked again
        if (!job.finished()) {                                            // its reactor has ended
            if (positions_[shard] == kNotRead) positions_[shard] = 0;
            continue;
        }
        const bool first = std::exchange(positions_[shard], job.position) == kNotRead;
        if (job.gap && !first) feed_.append_gap();
        for (const PresenceEvent& change : job.events)
            feed_.append(line_of(json_of(change, clocks)), change.generation, change.sequence);
        more |= !job.at_end;
    }
    return more;
}

// --------------------------------------------------------------------------------- the followers

void PresenceHub::begin(Follower& follower, std::string& text) {
    follower.phase = Follower::Phase::snapshot;
    follower.position = feed_.end();
    follower.shard = 0;
    follower.user = 1;
    text += event("snapshot", Json::object());
}

// Whether there is more for it at once.
bool PresenceHub::fill(Follower& follower) {
    using Phase = Follower::Phase;
    // What changes behind a page of a snapshot must come as a change.
    if (std::ranges::count(positions_, kNotRead) > 0) return false;
    const size_t room = follower.room();
    std::string text;
    const auto gap = [&](std::string_view reason) {
        text += event("gap", {{"reason", reason}});
        begin(follower, text);
    };
    if (follower.phase == Phase::begun && follower.id.empty()) {
        begin(follower, text);
    } else if (follower.phase == Phase::begun) {
        const std::optional<uint64_t> position = feed_.position_of(follower.id);
        if (position) {
            follower.phase = Phase::live;
            follower.position = *position;
        } else {
            gap("what followed " + follower.id + " is not kept");
        }
    }
    bool paged = true;
    while (text.size() < room && follower.phase == Phase::snapshot && paged)
        paged = add_page(follower, text);
    if (follower.phase == Phase::live) {
        switch (feed_.read(follower.position, text, room)) {
            case PresenceFeed::Read::done:
                break;
            case PresenceFeed::Read::gap:
                gap("changes were lost before they could be read");
                break;
            case PresenceFeed::Read::lost:
                text += event("dropped", {{"reason", "changes came faster than they were read"}});
                follower.phase = Phase::over;
                break;
        }
    }
    if (text.empty()) return false;
    follower.add(text, follower.phase == Phase::over);
    return follower.phase == Phase::snapshot && paged && follower.room() > 0;
}

// False: the shard has not answered, and is asked again.
bool PresenceHub::add_page(Follower& follower, std::string& text) {
    std::vector<std::shared_ptr<Job>> jobs(errands_.reactors());
    const auto page = std::make_shared<UsersJob>(std::nullopt, false, follower.user, kSnapshotPage);
    jobs[follower.shard] = page;
    const auto gone = [this] {
        const std::lock_guard guard(lock_);
        return stopping_;
    };
    if (!errands_.run(jobs, kPresenceAnswerNs, gone).all()) return false;
    for (const UserRow& row : page->rows) text += event("user", json_of(row));
    const bool over = page->over || !page->finished();  // or its reactor has ended
    follower.user = over ? 1 : page->next;
    follower.shard += over ? 1 : 0;
    if (follower.shard < errands_.reactors()) return true;
    follower.phase = Follower::Phase::live;
    text += event("live", Json::object(), feed_.id_of(follower.position));
    return true;
}

}  // namespace pulse
