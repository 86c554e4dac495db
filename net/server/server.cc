// Threads, doorbells and snapshots: the part of the server that is not the loop.
#include "net/server/server.h"

#include <fmt/format.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <functional>
#include <future>
#include <mutex>
#include <semaphore>
#include <thread>
#include <utility>

#include "core/random.h"
#include "core/units.h"
#include "net/io/epoll_backend.h"
#include "net/io/mapped_pages.h"
#include "net/io/sockets.h"
#include "net/io/uring_backend.h"
#include "net/loop/kernel_bounds.h"
#include "net/loop/reactor.h"
#include "net/server/descriptors.h"
#include "net/server/limits.h"
#include "net/server/orders.h"
#include "net/server/threads.h"

namespace pulse {
namespace {

Nanos monotonic_now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

Nanos wall_now() {
    timespec time{};
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

// A secret for as long as the process lives. Where the kernel refuses to give one (seccomp), what
// differs from start to start has to do: probes, and which users share a shard, are then guessed
// more easily, and nothing else.
SipKey random_key() {
    SipKey key;
    if (::getrandom(key.data(), sizeof key, 0) == static_cast<ssize_t>(sizeof key)) return key;
    const auto place = reinterpret_cast<uintptr_t>(&key);
    return {
        mix64(static_cast<uint64_t>(monotonic_now()) ^ place),
        mix64(static_cast<uint64_t>(::getpid()) << 32 ^ static_cast<uint64_t>(std::time(nullptr)))};
}

void set_secrets_and_clock(ReactorConfig& config) {
    config.probe_key = random_key();
    config.user_key = random_key();
    config.trace_key = random_key();
    config.wall_clock = wall_now;
}

// Those of its policies; the same as before where these are.
void form_cohorts(ServerOptions& options, const ServerOptions& before, CohortSet free) {
    const auto text = &CohortPolicy::text;
    options.cohorts = before.cohorts;
    if (std::ranges::equal(options.policies, before.policies, {}, text, text)) return;
    const Cohorts former = before.cohorts == nullptr ? Cohorts() : *before.cohorts;
    options.cohorts = std::make_shared<const Cohorts>(former, options.policies, free);
}

void pin_to_core(uint32_t core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}

}  // namespace

// Shared with a reactor's thread. What only one of the two touches says so.
struct Server::Thread {
    Thread(uint32_t which, uint32_t reactors)
        : number(which),
          mailbox(kFirstReactorSender + (reactors > 1 ? reactors : 0), kMailboxSlots,
                  {&Thread::ring, this}) {}

    const uint32_t number;
    int doorbell = -1;  // opened by the main thread, good in every table
    std::thread thread;
    std::promise<Result<void>> ready;
    std::atomic<bool> ended{true};  // false while the thread runs, or is about to
    bool cut_short = false;         // written before `ended`

    Mailbox mailbox;
    Orders orders{mailbox, kMainSender};      // the main thread's
    std::function<void(ReactorStats&)> fill;  // the reactor thread's
    std::unique_ptr<ReactorStats> answer;     // the reactor thread's from asked to `answered`
    std::unique_ptr<ReactorStats> last;       // the reactor thread's until `ended`
    std::counting_semaphore<8> answered{0};
    bool asked = false;  // the main thread's: an answer is outstanding
    std::chrono::steady_clock::time_point answers_by;  // the main thread's

    // Not the backend's wake(): the backend is gone before the last message may have been posted.
    static void ring(void* context) {
        const uint64_t one = 1;
        [[maybe_unused]] const ssize_t rung =
            ::write(static_cast<Thread*>(context)->doorbell, &one, sizeof one);
    }
    static void respond(void* context, uint32_t) {
        auto* self = static_cast<Thread*>(context);
        self->fill(*self->answer);
        self->answered.release();
    }
};

struct Server::Shared final : Reactors {
    Shared(uint32_t connections_max, std::vector<std::unique_ptr<Thread>>& all)
        : admission(connections_max),
          addresses(pages, connections_max),
          users(pages, connections_max),
          threads(all) {}

    // What all reactors count in.
    Result<void> limit_by(ReactorConfig& all) {
        if (!addresses.ok() || !users.ok()) {
            return Error{
                "no address space for tables of addresses and users (RLIMIT_AS); raise "
                "ulimit -v, or lower --max-connections"};
        }
        all.admission = &admission;
        all.addresses = &addresses;
        all.users = &users;
        return {};
    }

    uint32_t count() const override { return static_cast<uint32_t>(threads.size()); }
    bool ended(uint32_t reactor) const override {
        return threads[reactor]->ended.load(std::memory_order_acquire);
    }
    // A lane has one sender; here several take turns.
    bool post(uint32_t reactor, const Message& message) override {
        const std::lock_guard guard(admin_lane);
        return threads[reactor]->mailbox.post(kAdminSender, message);
    }

    Admission admission;
    MappedPages pages;
    AddressTable addresses;
    AddressTable users;
    std::unique_ptr<Balance> balance;
    std::unique_ptr<CohortUse> cohort_use;
    SharedPace drain_pace;
    std::shared_ptr<TraceQueues> traces;  // by reactor; null: off
    ReactorConfig config;                 // what all reactors have in common
    std::mutex admin_lane;
    std::vector<std::unique_ptr<Thread>>& threads;  // none comes or goes while a server runs
    std::vector<Mailbox*> mailboxes;
    // Reactors serve once all can, and end together: until the last has closed its connections and
    // has no question open, each may be asked and told by it.
    std::promise<bool> all_ready;
    std::shared_future<bool> may_serve{all_ready.get_future()};
    std::atomic<uint32_t> serving{0};
    // And none is gone before all have read what was posted last: of a session that is on its way
    // home the sender keeps what it is resumed by (net/loop/resumption.h).
    std::atomic<uint32_t> reading{0};
    void finish_reading() {
        if (reading.fetch_sub(1, std::memory_order_acq_rel) == 1) reading.notify_all();
        for (;;) {
            const uint32_t left = reading.load(std::memory_order_acquire);
            if (left == 0) return;
            reading.wait(left, std::memory_order_acquire);
        }
    }
    void wake_all() const {
        for (const auto& thread : threads) Thread::ring(thread.get());
    }
};

namespace {

// One reactor from its first to its last turn, on the calling thread.
template <IoBackend Io, class Thread, class Shared>
void run_reactor(Thread& self, Shared& shared, const ReactorConfig& config, uint32_t places, Io& io,
                 ConnectionTable& table, PageSource& pages) {
    ReactorMetrics metrics;
    Reactor<Io> reactor(config, pages, table, io, self.mailbox, metrics);
    if (!reactor.connections().wheel().ok()) {
        return self.ready.set_value(Error{"no memory for the wheel of " + std::to_string(places)});
    }
    self.fill = [&](ReactorStats& stats) { reactor.fill(stats); };
    if (Result<void> listening = reactor.listen(); !listening) {
        return self.ready.set_value(Error{listening.error()});
    }
    self.ready.set_value({});
    if (!shared.may_serve.get()) return;
    while (!reactor.retired()) reactor.turn(kNever);
    // Each has posted all that it had to before it counts itself out here.
    if (shared.serving.fetch_sub(1, std::memory_order_acq_rel) == 1) shared.wake_all();
    while (shared.serving.load(std::memory_order_acquire) > 0) reactor.turn(kNever);
    reactor.finish_mail();
    shared.finish_reading();
    self.last = std::make_unique<ReactorStats>();
    reactor.fill(*self.last);
    self.cut_short = reactor.drain_cut_short();
}

template <class Thread, class Shared>
void reactor_thread(Thread& self, Shared& shared, const ServerPlan& plan) {
    if (plan.own_tables) {
        if (Result<void> own = own_descriptor_table(); !own)
            return self.ready.set_value(Error{own.error()});
    }
    pthread_setname_np(pthread_self(), fmt::format("reactor {}", self.number).c_str());
    if (plan.options.pin) pin_to_core(plan.cores[self.number % plan.cores.size()]);
    ReactorConfig config = shared.config;
    config.number = self.number;
    config.sender = kFirstReactorSender + self.number;
    if (shared.traces != nullptr) config.traces = (*shared.traces)[self.number].get();
    const uint32_t places = plan.connections_per_reactor;
    MappedPages pages;
    ConnectionTable table(pages, places);
    if (!table.ok())
        return self.ready.set_value(Error{"no address space for the connection table"});
    const SocketOptions sockets = kernel_bounds(plan.options, plan.options.heartbeat_timeout);
    auto run = [&](auto& io) {
        if (!io.ready()) return self.ready.set_value(Error{io.ready().error()});
        run_reactor(self, shared, config, places, io, table, pages);
    };
    if (plan.uring) {
        UringOptions options;
        options.sockets = sockets;
        options.doorbell = self.doorbell;
        if (plan.reactors > plan.cores.size())
            options.receive_buffers = kUringReceiveBuffersCrowded;
        UringBackend io(options, table.records(), places);
        return run(io);
    }
    EpollBackend io({.sockets = sockets, .doorbell = self.doorbell}, table.records(), places);
    run(io);
}

}  // namespace

Server::Server(const ServerPlan& plan)
    : plan_(plan),
      shared_(
          std::make_unique<Shared>(static_cast<uint32_t>(plan.options.max_connections), threads_)),
      started_at_(monotonic_now()),
      wall_started_at_(wall_now()) {
    form_cohorts(plan_.options, ServerOptions(), Cohorts().free(0, 0));
    shared_->cohort_use = std::make_unique<CohortUse>(plan.reactors);
    if (plan.options.otlp_endpoint.empty()) return;
    shared_->traces = std::make_shared<TraceQueues>();
    for (uint32_t number = 0; number < plan.reactors; ++number)
        shared_->traces->push_back(std::make_unique<TraceQueue>(kTraceQueueSlots));
}

Result<std::unique_ptr<Server>> Server::start(const ServerPlan& plan, LogLine debug, LogLine warn,
                                              LogEvents event) {
    std::unique_ptr<Server> server(new Server(plan));
    Result<void> started =
        server->start_threads(std::move(debug), std::move(warn), std::move(event));
    if (!started) return Error{started.error()};
    return server;
}

Result<void> Server::open_doorbells() {
    for (uint32_t number = 0; number < plan_.reactors; ++number) {
        auto thread = std::make_unique<Thread>(number, plan_.reactors);
        thread->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (thread->doorbell < 0) {
            return Error{
                fmt::format("eventfd: {}; raise the descriptor limit (ulimit -n), inherit "
                            "fewer descriptors, or lower --reactors",
                            std::strerror(errno))};
        }
        shared_->mailboxes.push_back(&thread->mailbox);
        threads_.push_back(std::move(thread));
    }
    return {};
}

Result<void> Server::start_threads(LogLine debug, LogLine warn, LogEvents event) {
    const auto options = std::make_shared<ServerOptions>(plan_.options);
    options_ = options;
    std::vector<PortHolder> holders(options->listen.size());
    for (size_t i = 0; i < holders.size(); ++i) {
        // Writes the port that the kernel chose.
        if (Result<void> held = holders[i].hold(options->listen[i], options->share_port); !held)
            return held;
        listening_.push_back(options->listen[i].text);
    }
    ReactorConfig& config = shared_->config;
    config = make_reactor_config(options, plan_.reactors);
    set_secrets_and_clock(config);
    config.debug = std::move(debug);
    config.warn = std::move(warn);
    config.event = std::move(event);
    if (Result<void> has_room = shared_->limit_by(config); !has_room) return has_room;
    config.drain_pace = &shared_->drain_pace;
    config.cohort_use = shared_->cohort_use.get();
    // Of a port that is shared with other programs the positions of their listeners are not known,
    // and a socket that was passed is one for all reactors.
    const bool passed = std::ranges::any_of(
        options->listen, [](const ListenAddress& listener) { return listener.descriptor >= 0; });
    if (plan_.reactors > 1 && !options->share_port && !passed) {
        shared_->balance = std::make_unique<Balance>(plan_.reactors, plan_.connections_per_reactor);
        config.balance = shared_->balance.get();
    }
    if (Result<void> opened = open_doorbells(); !opened) return opened;
    config.mailboxes = shared_->mailboxes;
    if (!plan_.own_tables) {
        widen_descriptor_table(plan_.options.max_connections +
                               uint64_t{plan_.reactors} * kReactorDescriptors);
    }
    // All doorbells are open before the first thread takes its copy of the descriptor table.
    std::vector<std::future<Result<void>>> answers;
    for (const auto& thread : threads_) answers.push_back(thread->ready.get_future());
    Result<void> outcome;
    size_t running = 0;
    while (running < threads_.size() && outcome) {
        Thread& thread = *threads_[running];
        thread.ended = false;
        Result<std::thread> started = start_thread(
            [this, &thread] {
                reactor_thread(thread, *shared_, plan_);
                thread.ended.store(true, std::memory_order_release);
            },
            fmt::format("reactor {} of {}", running + 1, threads_.size()));
        if (!started) {
            thread.ended = true;
            outcome = Error{started.error() + ", or lower --reactors"};
            break;
        }
        thread.thread = std::move(*started);
        ++running;
    }
    for (size_t i = 0; i < running; ++i) {
        Result<void> started = answers[i].get();
        if (outcome && !started) outcome = std::move(started);
    }
    shared_->serving = plan_.reactors;
    shared_->reading = plan_.reactors;
    shared_->all_ready.set_value(static_cast<bool>(outcome));
    return outcome;
}

Server::~Server() {
    stop();
    while (deliver() > 0) usleep(1'000);
    // The last to end rings the doorbells of all.
    for (const auto& thread : threads_)
        if (thread->thread.joinable()) thread->thread.join();
    for (const auto& thread : threads_)
        if (thread->doorbell >= 0) ::close(thread->doorbell);
}

uint32_t Server::deliver() {
    uint32_t pending = 0;
    for (const auto& thread : threads_) {
        if (thread->ended.load(std::memory_order_acquire)) thread->orders.cancel();
        pending += thread->orders.deliver() ? 1 : 0;
    }
    return pending;
}

void Server::check() {
    for (const auto& thread : threads_) thread->orders.check();
    deliver();
}

uint64_t goodbyes_needed(uint32_t connections, Nanos window) {
    const double goodbyes_s = static_cast<double>(window) / kSecond * 0.75;
    return static_cast<uint64_t>(std::ceil(connections / std::max(goodbyes_s, 1e-3)));
}

DrainPlan Server::drain() {
    DrainPlan plan{.connections = connections(), .rate = options_->drain_rate};
    const uint64_t needed = goodbyes_needed(plan.connections, options_->drain_timeout);
    plan.keeps_rate = plan.rate > 0 && plan.rate >= needed;
    if (plan.keeps_rate) {
        shared_->drain_pace.set(plan.rate);
    } else {
        plan.rate = needed;
    }
    for (const auto& thread : threads_) thread->orders.drain();
    deliver();
    return plan;
}

void Server::stop() {
    for (const auto& thread : threads_) thread->orders.stop();
    deliver();
}

// Reactors that have ended have no sessions, and learn no more.
CohortSet Server::free_cohorts() const {
    if (options_->cohorts == nullptr) return Cohorts().free(0, 0);
    uint64_t learned = options_->cohorts->changes();
    for (const auto& thread : threads_) {
        if (thread->ended.load(std::memory_order_acquire)) continue;
        learned = std::min(learned, shared_->cohort_use->learned(thread->number));
    }
    return options_->cohorts->free(learned, shared_->cohort_use->held());
}

bool Server::has_cohorts_for(const std::vector<CohortPolicy>& policies) const {
    const Cohorts none;
    const Cohorts& running = options_->cohorts == nullptr ? none : *options_->cohorts;
    return running.has_room_for(policies, free_cohorts());
}

void Server::reload(const ServerOptions& options) {
    // Without the first, every hello would be taken at its word from now on.
    PULSE_ASSERT((options.credentials != nullptr) == options.auth.on());
    PULSE_ASSERT((options.tls_context != nullptr) == options.tls.on());
    // What the plan and the kernel decided at the start.
    const std::shared_ptr<const ServerOptions> running = options_;
    auto fresh = std::make_shared<ServerOptions>(options);
    fresh->max_connections = running->max_connections;
    fresh->listen = running->listen;
    form_cohorts(*fresh, *running, free_cohorts());
    options_ = std::move(fresh);
    for (const auto& thread : threads_) thread->orders.reload(options_);
    deliver();
}

std::string Server::watch_memory() {
    const ServerOptions& options = *options_;
    const bool watches = options.overload != OverloadStep::none;
    double pressure = 0;
    if (watches) {
        const uint64_t reusable = shared_->admission.reusable() + mallinfo2().fordblks;
        pressure = Machine().memory_pressure(options.overload_memory, reusable);
    }
    const OverloadStep before = memory_overload_.step();
    if (!memory_overload_.update(monotonic_now(), pressure,
                                 {options.overload, options.overload_span})) {
        return {};
    }
    const OverloadStep step = memory_overload_.step();
    shared_->admission.set_memory_step(step);
    return fmt::format(
        "memory: overload step '{}' ({}): at {:.0f} % of what is too much "
        "(--overload-memory {})",
        name_of(step), step > before ? "entered" : "back to it", 100 * pressure,
        options.overload_memory == 0 ? "auto" : format_size(options.overload_memory));
}

void Server::set_anomaly_step(OverloadStep step) { shared_->admission.set_anomaly_step(step); }

void Server::revoke(const std::string& token_id) {
    for (const auto& thread : threads_) thread->orders.revoke(token_id);
    deliver();
}

bool Server::ended(Nanos wait) {
    const Nanos until = monotonic_now() + wait;
    for (;;) {
        const bool all = std::ranges::all_of(threads_, [](const auto& thread) {
            return thread->ended.load(std::memory_order_acquire);
        });
        if (all || monotonic_now() >= until) return all;
        usleep(1'000);
    }
}

bool Server::drain_cut_short() const {
    return std::ranges::any_of(threads_, [](const auto& thread) {
        return thread->ended.load(std::memory_order_acquire) && thread->cut_short;
    });
}

const ServerStats& Server::stats() {
    const auto now = std::chrono::steady_clock::now();
    for (const auto& thread : threads_) {
        // One that has not answered the last time is stuck: it is not waited for again.
        thread->answers_by = thread->asked ? now : now + std::chrono::seconds(1);
        if (thread->asked || thread->ended.load(std::memory_order_acquire)) continue;
        if (thread->answer == nullptr) thread->answer = std::make_unique<ReactorStats>();
        // One that finds the mailbox full is asked the next time, and reported as it was.
        thread->asked = thread->mailbox.post(
            kMainSender,
            {.body = Message::Snapshot{}, .acknowledgement = {&Thread::respond, thread.get()}});
    }
    stats_.reactors.resize(threads_.size());
    stats_.total = ReactorStats{};
    for (const auto& thread : threads_) {
        const bool ended = thread->ended.load(std::memory_order_acquire);
        if (thread->asked && !ended && thread->answered.try_acquire_until(thread->answers_by)) {
            thread->asked = false;
            stats_.reactors[thread->number] = std::move(*thread->answer);
            // With what it said before, and the pages of that.
            thread->answer.reset();
        } else if (ended && thread->last != nullptr) {
            stats_.reactors[thread->number] = std::move(*thread->last);
            thread->last.reset();
        }
        stats_.total += stats_.reactors[thread->number];
    }
    fill_process(stats_);
    if (options_->texts != nullptr) stats_.settings = options_->texts(*options_);
    return stats_;
}

void Server::fill_process(ServerStats& stats) const {
    stats.at = monotonic_now();
    stats.uptime = stats.at - started_at_;
    stats.backend = plan_.uring ? "io_uring" : "epoll";
    stats.listening = listening_;
    stats.wall_started_at = wall_started_at_;
    stats.memory_available_bytes = Machine().memory().bytes;
    read_process(stats);
}

Reactors& Server::reactors() { return *shared_; }
std::shared_ptr<TraceQueues> Server::traces() const { return shared_->traces; }
uint32_t Server::connections() const { return shared_->admission.live(); }
uint32_t Server::tls_handshakes() const { return shared_->admission.tls_handshakes(); }
uint32_t Server::take_tls_handshakes_most() {
    return shared_->admission.take_tls_handshakes_most();
}
uint32_t Server::overloaded() const { return shared_->admission.overloaded(); }
uint32_t Server::connections_max() const { return shared_->admission.connections_max(); }

}  // namespace pulse
