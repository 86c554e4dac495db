// What the admin endpoint has done on a reactor's thread: jobs (net/loop/job.h) that read or act on
// connections, each over one reactor. What a job found is read after its acknowledgement.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/sessions/cohorts.h"
#include "core/shared_pace.h"
#include "core/sweep.h"
#include "net/control/filter.h"
#include "net/control/limits.h"
#include "net/loop/job.h"
#include "net/loop/reactor_stats.h"

namespace pulse {

// One connection, as a list shows it.
struct ConnectionRow {
    uint32_t reactor = 0;
    ConnectionId id;
    std::string name;     // r3-000123-9
    std::string address;  // of the socket; "none" where it is gone
    uint8_t protocol = 0;
    Stage stage = Stage::free;
    uint8_t listener = 0;
    std::string profile;  // empty: it has no heartbeats yet, or is closing
    Nanos idle = 0;
    Nanos age = 0;
    uint32_t probes_unanswered = 0;
    size_t queued_bytes = 0;           // to be sent, or not taken by the kernel
    size_t unfinished_bytes = 0;       // of a message that is not whole
    SessionHandle session = 0;         // 0: it is not logged in
    uint32_t shard = 0;                // that has the session
    std::string user, device, labels;  // filled in by the asker (NamesJob)
};

// A copy of what the reactor measures.
struct StatsJob final : Job {
    std::unique_ptr<ReactorStats> stats = std::make_unique<ReactorStats>();
    std::shared_ptr<const Cohorts> cohorts;  // nullptr: there never was a policy
    std::array<CohortCounts, kCohortsMax> cohort_counts{};
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;
};

// How many connections match: by protocol and state.
struct CountJob final : Job {
    explicit CountJob(const ConnectionFilter& wanted) : filter(wanted) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const ConnectionFilter filter;
    uint64_t total = 0;
    std::vector<uint64_t> by_protocol;
    std::vector<uint64_t> by_stage;

  private:
    std::optional<Candidates> places_;
};

// A page of those that match, in the order of their places: begins at place `from`, ends with the
// last place or when `most` were found.
struct PageJob final : Job {
    PageJob(const ConnectionFilter& wanted, Index first, uint32_t limit)
        : filter(wanted), most(limit), next(first) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const ConnectionFilter filter;
    const uint32_t most;
    Index next;         // where the next page begins
    bool over = false;  // no place is left
    std::vector<ConnectionRow> rows;

  private:
    std::optional<Candidates> places_;
};

// The `most` of those that match which have been idle, or open, longest, the longest first. Begins
// behind `after`, a connection of the page before.
struct LongestJob final : Job {
    enum class Order : uint8_t { idle, age };
    // Since when it is idle, or open, and where it is: the order of the list.
    struct Key {
        Nanos since = 0;
        uint32_t reactor = 0;
        Index index = 0;
        auto operator<=>(const Key&) const = default;
    };
    LongestJob(const ConnectionFilter& wanted, Order by, std::optional<Key> last, uint32_t limit)
        : filter(wanted), order(by), after(last), most(limit) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    struct Found {
        Key key;
        ConnectionRow row;
    };
    const ConnectionFilter filter;
    const Order order;
    const std::optional<Key> after;
    const uint32_t most;
    // Fewer than `most` where some have gone between the choice of them and their description.
    std::vector<Found> found;
    // The last that was chosen, where others that match come behind it.
    std::optional<Key> more_behind;

  private:
    void consider(Connections& connections, Index index, Nanos now, uint32_t& cost);

    std::optional<Candidates> places_;
    // The largest key on top: what gives way to a smaller one.
    struct Candidate {
        Key key;
        uint32_t generation;
    };
    std::vector<Candidate> heap_;
    bool left_out_ = false;
    bool sorted_ = false;
    size_t described_ = 0;
};

// A page of several reactors together: the first `limit` of what is known, and where the next page
// begins. Nothing is known of what comes behind a job's choice: such a page ends there, and may be
// shorter than `limit`, or empty, with a next one.
struct LongestPage {
    std::vector<LongestJob::Found*> found;
    std::optional<LongestJob::Key> next;
};
// Requires: the jobs are finished, and outlive the page.
LongestPage page_of(std::span<const std::shared_ptr<LongestJob>> jobs, uint32_t limit);

// Does something to each connection that matches.
class ActJob : public Job {
  public:
    explicit ActJob(const ConnectionFilter& filter, std::shared_ptr<SharedPace> pace = nullptr)
        : filter_(filter), pace_(std::move(pace)) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;
    bool acts() const override { return true; }

    uint64_t done = 0;
    uint64_t skipped = 0;  // they match, and could not be acted on

  protected:
    // Whether it was done; its cost beside that of passing over a place.
    virtual bool act(Connections& connections, Index index) = 0;
    virtual uint32_t cost() const = 0;
    // What is not even to be counted as skipped.
    virtual bool concerns(const Connection& connection) const = 0;

  private:
    uint32_t visit(Connections& connections, Index index, Nanos now);

    const ConnectionFilter filter_;
    const std::shared_ptr<SharedPace> pace_;
    std::optional<Candidates> places_;
    std::optional<ConnectionId> held_up_;  // it matches, and waits for the pace
};

// Closes them as `kicked`; those that are closing already are left alone.
class KickJob final : public ActJob {
  public:
    KickJob(const ConnectionFilter& filter, std::string reason, std::shared_ptr<SharedPace> pace)
        : ActJob(filter, std::move(pace)), reason_(std::move(reason)) {}

  private:
    bool act(Connections& connections, Index index) override;
    uint32_t cost() const override { return kEvictCost; }
    bool concerns(const Connection& connection) const override { return is_live(connection.stage); }
    const std::string reason_;
};

// A drain of a listener or of those that match, of all reactors: how far it is. Any thread.
struct PartialDrain {
    PartialDrain(uint64_t per_second, uint32_t reactors) : pace(per_second), walking(reactors) {}
    SharedPace pace;
    std::atomic<uint64_t> closed{0};
    std::atomic<uint32_t> walking;  // reactors that have not come to the end
};

// Says goodbye to those that match, as a server that stops does. A listener is closed before, or,
// where it was `passed` by a program that has it open, refuses from then on.
class PartialDrainJob final : public ActJob {
  public:
    PartialDrainJob(const ConnectionFilter& filter, std::optional<uint8_t> listener, bool passed,
                    const std::shared_ptr<PartialDrain>& drain)
        : ActJob(filter, std::shared_ptr<SharedPace>(drain, &drain->pace)),
          listener_(listener),
          passed_(passed),
          drain_(drain) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

  private:
    bool act(Connections& connections, Index index) override;
    uint32_t cost() const override { return kEvictCost; }
    bool concerns(const Connection& connection) const override { return is_live(connection.stage); }
    std::optional<uint8_t> listener_;  // to be closed
    const bool passed_;
    const std::shared_ptr<PartialDrain> drain_;
};

// Sends a text as application data. Skips those whose handshake is not over, and those that do not
// read: a text for all must not be what closes them.
class BroadcastJob final : public ActJob {
  public:
    BroadcastJob(const ConnectionFilter& filter, std::string text)
        : ActJob(filter), text_(std::move(text)) {}
    // What a text takes of a send queue at most, whatever the protocol.
    static size_t wire_bytes_of(std::string_view text);

  private:
    bool act(Connections& connections, Index index) override;
    uint32_t cost() const override {
        return kEvictCost + static_cast<uint32_t>(text_.size() / kTextBytesPerCost);
    }
    bool concerns(const Connection& connection) const override { return is_live(connection.stage); }
    const std::string text_;
};

// Moves them to a profile and sends them the interval. Skips those whose greeting is not over.
class RetuneJob final : public ActJob {
  public:
    RetuneJob(const ConnectionFilter& filter, uint8_t profile)
        : ActJob(filter), profile_(profile) {}

  private:
    bool act(Connections& connections, Index index) override;
    uint32_t cost() const override { return kEvictCost; }
    bool concerns(const Connection& connection) const override { return is_live(connection.stage); }
    const uint8_t profile_;
};

// Closes those that have given a token with this id, which no token with it opens again.
struct RevokeJob final : Job {
    explicit RevokeJob(std::string id) : token_id(std::move(id)) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const std::string token_id;
    uint64_t closed = 0;

  private:
    std::optional<Sweep> places_;
};

// All that the record tells of one connection.
struct ConnectionFacts {
    ConnectionRow row;
    bool proxied = false;  // the address is a balancer's
    bool probes = false;
    uint32_t interval_ms = 0;  // of its profile; 0: it has no heartbeats now
    uint32_t timeout_ms = 0;
    Nanos deadline_in = 0;  // until silence closes it
    bool held_off = false;  // bytes of it are parked: it sent more than its share of a turn
    uint32_t offences = 0;  // bad messages forgiven
    Evidence evidence;
    std::string explained;  // of that, in sentences
};

struct FactsJob final : Job {
    explicit FactsJob(ConnectionId wanted) : id(wanted) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const ConnectionId id;
    std::optional<ConnectionFacts> facts;  // empty: there is no such connection
};

// Closes one as `kicked`.
struct KickOneJob final : Job {
    KickOneJob(ConnectionId wanted, std::string words) : id(wanted), reason(std::move(words)) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const ConnectionId id;
    const std::string reason;
    bool found = false;
};

}  // namespace pulse
