// One run: the world is drawn from the seed, lives for its time, and ends in one of three ways.
#include "net/sim/simulation.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "core/page_source.h"
#include "net/loop/admission.h"
#include "net/loop/profiles.h"
#include "net/loop/reactor.h"
#include "net/loop/reactor_config.h"
#include "net/protocols/listen_uri.h"
#include "net/sim/backend.h"

namespace pulse {
namespace {

constexpr uint16_t kFirstPort = 9'000;
// In the order of their ports, from kFirstPort on.
constexpr std::string_view kListeners[] = {"tcp://10.0.0.1:9000", "jsonl://10.0.0.1:9001",
                                           "ws://10.0.0.1:9002", "auto://10.0.0.1:9003"};
constexpr uint32_t kAuditsPerTimeout = 6;
constexpr uint64_t kTurnsAtOneInstantMax = 1'000'000;
// Fewer than give a cohort again that connections may still be in.
constexpr uint32_t kRegroupingsMax = 8;
// Longer than any kernel here tries to deliver an orphan's last bytes.
constexpr Nanos kOrphanPatience = 61 * kSecond;

// What of the server the seed decides.
struct World {
    LoopOptions server;
    FaultPlan faults;
    Nanos start = 0;
    uint32_t places = 0;
    bool operator_acts = false;
    bool has_policies = false;     // which the operator changes
    uint32_t users = 0;            // that peers log in as; 0: all are anonymous
    bool memory_is_short = false;  // now and then, where the server has steps of overload
    enum class Ending : uint8_t { all_vanish, drain, stop } ending = Ending::all_vanish;
};

// Half of the worlds have users, few enough that peers take over from each other. Drawn apart, so
// that the other half are the worlds that they were before there were any.
void draw_sessions(World& world, const SimulationOptions& options) {
    Random random(mix64(options.seed) ^ 0x73657373);
    if (random.chance(1, 2)) return;
    world.users = static_cast<uint32_t>(random.between(1, std::max(1u, options.peers / 2)));
    LoopOptions& server = world.server;
    server.duplicate.rule = static_cast<DuplicateRule>(random.below(3));
    if (server.duplicate.rule == DuplicateRule::allow)
        server.duplicate.same_device_max = static_cast<uint32_t>(random.between(1, 3));
    if (random.chance(1, 3))
        server.max_connections_per_user = static_cast<uint32_t>(random.between(1, 4));
    if (random.chance(1, 2))
        server.presence_linger = static_cast<Nanos>(random.between(1, 60)) * kSecond;
}

// A quarter of the worlds give up something under overload. By a generator of its own, likewise.
void draw_overload(World& world, const SimulationOptions& options) {
    Random random(mix64(options.seed) ^ 0x6f766572);
    if (!random.chance(1, 4)) return;
    LoopOptions& server = world.server;
    server.overload = static_cast<OverloadStep>(random.between(1, 4));
    server.overload_lag = static_cast<Nanos>(random.between(1, 50)) * 10 * kMillisecond;
    server.overload_span = static_cast<Nanos>(random.between(1, 20)) * 100 * kMillisecond;
    world.memory_is_short = random.chance(1, 2);
    // Peers take what is left out for a wrong answer.
    if (server.overload >= OverloadStep::drop) server.on_message = OnMessage::discard;
}

// A quarter of the worlds probe suspect peers quickly, most of which count misses; a quarter have
// adaptive intervals. Likewise.
void draw_heartbeats(World& world, const SimulationOptions& options) {
    LoopOptions& server = world.server;
    Random quick(mix64(options.seed) ^ 0x717569);
    if (quick.chance(1, 4))
        server.suspect_probe = static_cast<Nanos>(quick.between(1, 30)) * 100 * kMillisecond;
    // Of those some evict by misses.
    Random misses(mix64(options.seed) ^ 0x6d6973);
    if (server.suspect_probe > 0 && misses.chance(2, 3))
        server.suspect_misses =
            static_cast<uint32_t>(misses.between(kSuspectMissesMin, kSuspectMissesMax));
    Random adaptive(mix64(options.seed) ^ 0x616461);
    if (adaptive.chance(1, 4)) {
        const Nanos least = server.heartbeat_interval / static_cast<Nanos>(adaptive.between(1, 3));
        server.heartbeat_adaptive = {least, least * static_cast<Nanos>(adaptive.between(1, 8))};
    }
}

// A quarter of the worlds have idle clocks, likewise: half of them close.
void draw_idle(World& world, const SimulationOptions& options) {
    Random random(mix64(options.seed) ^ 0x69646c);
    if (!random.chance(1, 4)) return;
    LoopOptions& server = world.server;
    const Nanos interval = server.heartbeat_interval;
    const Nanos most = 2 * server.heartbeat_timeout;
    for (IdleRule& rule : server.idle) {
        if (random.chance(1, 3)) continue;
        rule.action = random.chance(1, 2)   ? IdleAction::close
                      : random.chance(1, 2) ? IdleAction::probe
                                            : IdleAction::event;
        const Nanos least = rule.action == IdleAction::close ? interval : interval / 4;
        rule.after = static_cast<Nanos>(
            random.between(static_cast<uint64_t>(least), static_cast<uint64_t>(most)));
    }
    server.idle_observe_output = random.chance(1, 2);
}

// A quarter of the worlds with an operator have policies, likewise.
void draw_policies(World& world, const SimulationOptions& options) {
    Random random(mix64(options.seed) ^ 0x706f6c);
    world.has_policies = world.operator_acts && random.chance(1, 4);
}

World draw_world(Random& random, const SimulationOptions& options) {
    World world;
    if (options.faults) {
        world.faults = force_faults(random, *options.faults);
    } else {
        world.faults = draw_faults(random, FaultSet().set());
    }
    world.faults.mutant = options.mutant;

    LoopOptions& server = world.server;
    constexpr Nanos kIntervals[] = {1, 2, 5, 10, 15, 30, 30, 60};
    server.heartbeat_interval = kIntervals[random.below(std::size(kIntervals))] * kSecond;
    const auto tenths = static_cast<Nanos>(random.between(15, 45));
    server.heartbeat_timeout = server.heartbeat_interval / 10 * tenths;
    // A stall tells most when it is about as long as the timeout.
    if (world.faults.has(Fault::stall) && random.chance(1, 2)) {
        world.faults.stall_max =
            server.heartbeat_timeout * static_cast<Nanos>(random.between(1, 3));
    }
    if (world.faults.has(Fault::stutter) && random.chance(1, 2)) {
        world.faults.stutter_max =
            server.heartbeat_timeout * static_cast<Nanos>(random.between(1, 3));
    }
    server.heartbeat_probe = random.chance(2, 3);
    // Without probes none can be answered.
    const bool round_trip = server.heartbeat_probe && random.chance(1, 4);
    server.liveness = round_trip ? Liveness::roundtrip : Liveness::any;
    server.tick_shift = kTickShiftDefault;
    if (random.chance(1, 3)) {
        server.tick_shift = static_cast<uint32_t>(random.between(kTickShiftMin, kTickShiftMax));
    }
    server.on_message = random.chance(1, 2) ? OnMessage::echo : OnMessage::discard;
    server.send_queue_bytes = random.chance(1, 4) ? 4'096 : kSendQueueBytesDefault;
    server.ws_deflate = random.chance(1, 2);
    server.drain_timeout = static_cast<Nanos>(random.between(1, 30)) * kSecond;

    world.places = options.peers;
    if (random.chance(1, 5)) world.places = std::max(1u, options.peers * 3 / 4);
    if (random.chance(1, 5)) server.accept_rate.events = random.between(5, 500);
    // Near where the 24-bit ticks of the records wrap, and the 32-bit ones.
    const uint64_t wrap = uint64_t{1} << (random.chance(1, 2) ? 24 : 32);
    const auto tick_ns = Nanos{1} << server.tick_shift;
    const Nanos before = static_cast<Nanos>(random.below(static_cast<uint64_t>(options.duration)));
    world.start = std::max(kSecond, static_cast<Nanos>(wrap) * tick_ns - before);
    if (random.chance(1, 2)) world.start = 1'000 * kSecond;
    world.operator_acts = random.chance(1, 2);
    world.ending = static_cast<World::Ending>(random.below(3));
    draw_sessions(world, options);
    // By a generator of its own: worlds that do not gather are what they were before some did.
    Random gathers(mix64(options.seed) ^ 0x676174);
    server.gather = 0;
    if (gathers.chance(1, 4)) server.gather = kGatherAuto;
    if (gathers.chance(1, 4)) {
        const auto most = static_cast<uint64_t>(kGatherMaxNs);
        server.gather = static_cast<Nanos>(gathers.between(kGatherRestMinNs, most));
    }
    // Likewise, of drains with a rate or a delay.
    Random drains(mix64(options.seed) ^ 0x647261);
    if (drains.chance(1, 3)) server.drain_rate = drains.between(1, 200);
    if (drains.chance(1, 4))
        server.drain_delay = static_cast<Nanos>(drains.between(1, 10)) * kSecond;
    draw_overload(world, options);
    draw_heartbeats(world, options);
    draw_idle(world, options);
    draw_policies(world, options);
    return world;
}

// What the server grants the answer to the first probe of a silence, at the least: what interval
// and grace leave of the timeout, less the quarter by which a probe may be late before the deadline
// moves with it, less the tick in which it goes out. 0: there is no such probe.
Nanos answer_time(const HeartbeatConfig& heartbeat, const TickClock& clock) {
    const uint32_t asked_after = heartbeat.interval_ticks + heartbeat.grace_ticks;
    if (!heartbeat.probe || heartbeat.timeout_ticks <= asked_after) return 0;
    const uint32_t planned = heartbeat.timeout_ticks - asked_after;
    const uint32_t late = std::min(heartbeat.interval_ticks, planned) / 4;
    return clock.tick_ns() * (planned - late - 1);
}

// Kicks, retunes, policies and floods through the mailbox, while the loop sleeps in poll.
class SimOperator final : private SimProgram {
  public:
    SimOperator(SimNetwork& network, uint64_t seed, Mailbox& mailbox, const ConnectionTable& table,
                const ReactorConfig& config, SimServerFacts& facts)
        : network_(network),
          random_(mix64(seed) ^ 0x6f7065),
          mailbox_(mailbox),
          table_(table),
          options_(config.options),
          facts_(facts) {}

    void act_every(Nanos about, bool has_policies) {
        every_ = about;
        has_policies_ = has_policies;
        again();
    }
    void rest() { every_ = 0; }
    bool post(const Message& message) { return mailbox_.post(0, message); }

  private:
    void on_socket(uint64_t) override {}
    void on_backlog(uint16_t) override {}
    void on_timer(uint64_t) override {
        if (every_ == 0) return;
        switch (random_.below(has_policies_ ? 6 : 4)) {
            case 0:
                flood();
                break;
            case 1:
                if (!retuned_) retune();
                break;
            case 4:
            case 5:
                regroup();
                break;
            default:
                kick();
        }
        again();
    }
    void again() {
        const auto delay = random_.between(1, static_cast<uint64_t>(2 * every_));
        network_.set_timer(*this, 0, network_.clock() + static_cast<Nanos>(delay));
    }
    // A place that is in use, was in use, or never was.
    Message::Kick any_kick() {
        Message::Kick kick{.target = table_.id(static_cast<Index>(random_.below(table_.limit()))),
                           .reason = CloseReason::kicked};
        if (random_.chance(1, 4)) ++kick.target.generation;
        return kick;
    }
    void kick() { post({any_kick()}); }
    // More than the mailbox holds: the rest is refused, and no sender waits.
    void flood() {
        Message::Kick kick = any_kick();
        kick.target.generation += 1'000;
        for (uint32_t left = kMailboxSlots + 10; left > 0; --left) post({kick});
    }
    // Other heartbeats for those that name no profile, as a reload of the settings brings them.
    void retune() {
        retuned_ = true;
        auto options = std::make_shared<LoopOptions>(*options_);
        const auto percent = static_cast<Nanos>(random_.between(60, 200));
        options->heartbeat_interval = options->heartbeat_interval * percent / 100;
        options->heartbeat_timeout = options->heartbeat_timeout * percent / 100;
        if (!reload(std::move(options))) return;
        const ReactorConfig fresh = make_reactor_config(options_);
        const HeartbeatConfig& heartbeat = fresh.profiles[kProfileDefault];
        const bool stretches = fresh.options->overload >= OverloadStep::stretch;
        const Nanos timeout = fresh.clock.tick_ns() * heartbeat.timeout_ticks;
        Nanos& answer = facts_.answer_time_min[kProfileDefault];
        answer = std::min(answer, answer_time(heartbeat, fresh.clock));
        Nanos& least = facts_.timeout_min[kProfileDefault];
        Nanos& most = facts_.timeout_max[kProfileDefault];
        least = std::min(least, timeout);
        most = std::max(most, stretches ? kOverloadStretch * timeout : timeout);
        facts_.retuned_at = network_.clock();
    }
    // Another profile for a share of all, or of two, or for none any more.
    void regroup() {
        if (++regroupings_ > kRegroupingsMax) return;
        std::vector<CohortPolicy> policies;
        for (uint64_t left = random_.below(3); left > 0; --left) {
            const uint64_t last = facts_.profile_names.size() - 1;
            policies.push_back(
                {.text = std::to_string(regroupings_) + "." + std::to_string(left),
                 .share = static_cast<uint32_t>(random_.between(1, kCohortShares)),
                 .profile = facts_.profile_names[random_.between(kProfileDefault, last)]});
        }
        auto options = std::make_shared<LoopOptions>(*options_);
        const Cohorts none;
        const Cohorts& before = options->cohorts != nullptr ? *options->cohorts : none;
        options->cohorts = std::make_shared<const Cohorts>(before, policies);
        if (reload(std::move(options))) facts_.regrouped_at = network_.clock();
    }
    // The loop takes it from where it is.
    bool reload(std::shared_ptr<const LoopOptions> options) {
        posted_.push_back(std::move(options));
        if (!post({.body = Message::Reload{}, .payload = Payload::of(posted_.back())}))
            return false;
        options_ = posted_.back();
        return true;
    }

    SimNetwork& network_;
    Random random_;
    Mailbox& mailbox_;
    const ConnectionTable& table_;
    std::shared_ptr<const LoopOptions> options_;  // in force, or on their way
    std::deque<std::shared_ptr<const LoopOptions>> posted_;
    SimServerFacts& facts_;
    Nanos every_ = 0;
    bool retuned_ = false;
    bool has_policies_ = false;
    uint32_t regroupings_ = 0;
};

using LogSink = std::function<void(const std::string& line)>;

ReactorConfig config_of(const World& world, Admission& admission, SharedPace& drain_pace,
                        LogSink log_sink) {
    auto options = std::make_shared<LoopOptions>(world.server);
    for (const std::string_view uri : kListeners) options->listen.push_back(*parse_listen_uri(uri));
    options->buffer_bytes = world.faults.pool_bytes;
    if (world.faults.has(Fault::slow_log)) options->log_level = LogLevel::debug;
    const bool no_reserve = world.faults.mutant == SimMutant::no_reserve;
    if (no_reserve) options->buffer_bytes = kBufferSmallBytes;
    ReactorConfig config = make_reactor_config(std::move(options));
    if (no_reserve) config.buffer_reserve_bytes = 0;
    config.admission = &admission;
    config.drain_pace = &drain_pace;
    config.debug = std::move(log_sink);
    return config;
}

SimServerFacts facts_of(const World& world, const ReactorConfig& config) {
    SimServerFacts facts;
    facts.ports = {kFirstPort, kFirstPort + 1, kFirstPort + 2, kFirstPort + 2};
    facts.any_port = kFirstPort + 3;
    facts.handshake_timeout = world.server.handshake_timeout;
    facts.send_queue_bytes = world.server.send_queue_bytes;
    facts.tick_ns = config.clock.tick_ns();
    facts.echo = world.server.on_message == OnMessage::echo;
    facts.liveness = world.server.liveness;
    facts.interval = world.server.heartbeat_interval;
    facts.misses = world.server.suspect_misses;
    facts.suspect_probe = world.server.suspect_probe;
    facts.profile_names = config.profile_names;
    facts.users = world.users;
    for (size_t profile = 0; profile < kHeartbeatProfilesMax; ++profile) {
        const Nanos timeout = facts.tick_ns * config.profiles[profile].timeout_ticks;
        facts.timeout_min[profile] = facts.timeout_max[profile] = timeout;
        if (world.server.overload >= OverloadStep::stretch && profile >= kProfileDefault)
            facts.timeout_max[profile] *= kOverloadStretch;
        facts.answer_time_min[profile] = answer_time(config.profiles[profile], config.clock);
    }
    if (const AdaptiveRange& range = world.server.heartbeat_adaptive; range.on()) {
        const size_t lowest = profile_of_level(0), highest = profile_of_level(range.top());
        facts.timeout_min[kProfileDefault] =
            std::min(facts.timeout_min[kProfileDefault], facts.timeout_min[lowest]);
        facts.timeout_max[kProfileDefault] =
            std::max(facts.timeout_max[kProfileDefault], facts.timeout_max[highest]);
        facts.answer_time_min[kProfileDefault] =
            std::min(facts.answer_time_min[kProfileDefault], facts.answer_time_min[lowest]);
    }
    // By a policy each may have those of any profile before it is told.
    if (world.has_policies) {
        const size_t count = facts.profile_names.size() - kProfileDefault;
        const auto least = [count](const std::array<Nanos, kHeartbeatProfilesMax>& of) {
            return std::ranges::min(std::span(of).subspan(kProfileDefault, count));
        };
        facts.timeout_min.fill(least(facts.timeout_min));
        facts.answer_time_min.fill(least(facts.answer_time_min));
    }
    const FaultPlan& faults = world.faults;
    const bool reliable = !faults.has(Fault::loss) && !faults.has(Fault::partition) &&
                          !faults.has(Fault::small_buffers);
    if (reliable) {
        facts.round_trip_max =
            2 * (faults.delay_max + faults.jitter) + faults.completion_max + kSecond / 100;
    }
    return facts;
}

class Simulation {
  public:
    Simulation(const SimulationOptions& options, Random& random)
        : options_(options),
          world_(draw_world(random, options)),
          network_(options.seed, world_.faults, world_.start),
          table_(pages_, world_.places),
          io_(network_, log_, options.seed, world_.faults, table_.records(), world_.places),
          mailbox_(1, kMailboxSlots, {&ring, &io_}),
          admission_(world_.places),
          config_(config_of(world_, admission_, drain_pace_,
                            [this](const std::string&) { log_line(); })),
          reactor_(config_, pages_, table_, io_, mailbox_, metrics_),
          clients_(network_, io_, log_, options.seed, world_.faults, facts_of(world_, config_),
                   options.peers, table_.records(), world_.places),
          operator_(network_, options.seed, mailbox_, table_, config_, clients_.facts()) {
        log_.write_trace_to(options.trace);
        clients_.facts().pool = &reactor_.connections().buffers();
        clients_.facts().adapts = world_.server.heartbeat_adaptive.on();
        clients_.facts().config = &reactor_.connections().config();
        clients_.facts().connections = &reactor_.connections();
    }

    SimulationVerdict run() {
        const Result<void> listening = reactor_.listen();
        PULSE_ASSERT(listening);
        const Nanos end = network_.clock() + options_.duration;
        clients_.start(std::min(world_.server.heartbeat_interval, options_.duration / 10));
        if (world_.operator_acts)
            operator_.act_every(options_.duration / 20 + 1, world_.has_policies);
        live_until(end);
        operator_.rest();
        finish();
        return verdict();
    }

  private:
    // A sink that blocks now and then: a terminal that is stopped, a disk that is busy.
    void log_line() {
        if (!world_.faults.strikes(Fault::slow_log, log_random_)) return;
        const auto most = static_cast<uint64_t>(world_.faults.log_max);
        const auto span = static_cast<Nanos>(log_random_.below(most));
        log_.note(network_.clock(), "slow_log", static_cast<uint64_t>(span));
        io_.pass_time(span);
    }

    static void ring(void* io) { static_cast<SimBackend*>(io)->wake(); }

    void live_until(Nanos end) {
        while (network_.clock() < end) {
            turn(std::min(end, next_audit_));
            if (io_.now() >= next_audit_) audit();
        }
    }

    void turn(Nanos sleep_until) {
        const Nanos before = network_.clock();
        reactor_.turn(sleep_until);
        spoil_answers();
        note_overload();
        ++turns_;
        turns_at_one_instant_ = network_.clock() == before ? turns_at_one_instant_ + 1 : 0;
        if (turns_at_one_instant_ > kTurnsAtOneInstantMax) {
            log_.broken(before, "progress", "the loop spins: a million turns at one instant");
            network_.run_until(before + kSecond);
        }
        clients_.watch_bulk(table_);
        const Nanos judged = config_.clock.begins(config_.clock.down(io_.drained_until()));
        if (has_idle_clocks_) clients_.judge_idle_closes(table_, judged);
        const uint64_t evicted = metrics_.distributions.eviction_delay.count();
        if (evicted == evicted_) return;
        evicted_ = evicted;
        clients_.judge_evictions(table_, judged);
    }

    // Where heartbeats are stretched, or are so no more, each silence begins anew.
    void note_overload() {
        const auto step = static_cast<OverloadStep>(metrics_.gauges.overload_step);
        const OverloadStep before = std::exchange(overload_, step);
        if (step == before) return;
        log_.note(io_.now(), "overload", static_cast<uint64_t>(step));
        overload_left_ += step == OverloadStep::none ? 1 : 0;
        clients_.facts().stretches = step >= OverloadStep::stretch;
        if ((step >= OverloadStep::stretch) != (before >= OverloadStep::stretch))
            clients_.facts().stretched_at = network_.clock();
    }
    void squeeze_memory() {
        if (!world_.memory_is_short || !memory_random_.chance(1, 4)) return;
        const bool is_short = memory_random_.chance(1, 2);
        const uint64_t step = is_short ? memory_random_.between(1, 4) : 0;
        admission_.set_memory_step(static_cast<OverloadStep>(step));
    }

    // The mutants of answer_every.
    void spoil_answers() {
        const bool each = world_.faults.mutant == SimMutant::answers_each;
        if (!each && world_.faults.mutant != SimMutant::answers_forgotten) return;
        for (Index index = 0; index < table_.limit(); ++index) {
            if (!is_live(table_[index].stage)) continue;
            table_[index].unanswered = 0;
            if (each) table_[index].one_way = 0;
        }
    }

    void audit() {
        const Nanos timeout = world_.server.heartbeat_timeout;
        next_audit_ = io_.now() + std::max<Nanos>(timeout / kAuditsPerTimeout, kSecond / 10);
        reactor_.connections().validate();
        clients_.judge_the_living(table_);
        squeeze_memory();
        sabotage();
        clients_.judge_sessions(table_, reactor_.connections().directory());
        if (io_.attaches() != io_.closes() + io_.attached() || table_.live() != io_.attached()) {
            log_.broken(io_.now(), "closed_once", "places given away, given back and held differ");
        }
    }

    // The mutants that are about sessions: a report too many, and one that is not made.
    void sabotage() {
        if (world_.faults.mutant == SimMutant::session_ended_early) end_a_session();
        if (world_.faults.mutant == SimMutant::session_end_unreported) forget_a_login();
    }
    void end_a_session() {
        const Directory& directory = reactor_.connections().directory();
        for (uint32_t at = 1; at <= directory.last_user(); ++at) {
            const Directory::User* const user = directory.user(at);
            if (user == nullptr || user->first == 0) continue;
            const ConnectionRef connection = directory.session(user->first).ref();
            operator_.post(
                {Message::SessionEnded{user->first, connection, CloseReason::peer_closed}});
            return;
        }
    }
    void forget_a_login() {
        for (Index index = 0; index < table_.limit(); ++index) {
            Connection& connection = table_[index];
            if (!is_live(connection.stage) || !is_logged_in(connection)) continue;
            connection.user = 0;
            return;
        }
    }

    // How long the slowest of the living may take to go.
    Nanos patience() const {
        const SimServerFacts& facts = const_cast<SimClients&>(clients_).facts();
        const Nanos timeout = *std::ranges::max_element(facts.timeout_max);
        return 2 * timeout + 10 * kCloseLingerNs + 8 * world_.faults.completion_max;
    }

    void finish() {
        switch (world_.ending) {
            case World::Ending::all_vanish:
                clients_.stop(true);
                wait_until_empty(patience(), "silent_peer_kept");
                break;
            case World::Ending::drain:
                clients_.stop(false);
                drain();
                break;
            case World::Ending::stop:
                clients_.stop(false);
                stop({Message::Stop{}});
                wait_until_empty(kSecond + 8 * world_.faults.completion_max, "drain");
                break;
        }
        clients_.stop(false);
        if (world_.ending == World::Ending::all_vanish) stop({Message::Stop{}});
        clients_.leave();
        live_until(network_.clock() + kOrphanPatience);
        check_pools();
    }

    // As the server plans it: the rate, if the window has room for all.
    void drain() {
        const LoopOptions& server = world_.server;
        SimServerFacts& facts = clients_.facts();
        facts.drain_at = network_.clock() + server.drain_delay;
        facts.hard_stop_at = facts.drain_at + server.drain_timeout;
        const Nanos spread = server.drain_timeout / 4 * 3;
        const double most = static_cast<double>(spread) / kSecond * double(server.drain_rate);
        if (table_.live() <= most) {
            drain_pace_.set(server.drain_rate);
            facts.goodbyes_per_second = server.drain_rate;
            facts.paced_until = facts.drain_at + spread;
        }
        stop({Message::Drain{}});
        wait_until_empty(server.drain_delay + server.drain_timeout + 2 * kSecond +
                             8 * world_.faults.completion_max,
                         "drain");
    }

    // A full mailbox is an answer; an operator asks again.
    void stop(const Message& message) {
        Nanos& hard_stop_at = clients_.facts().hard_stop_at;
        if (std::holds_alternative<Message::Stop>(message.body)) {
            hard_stop_at = std::min(hard_stop_at, network_.clock());
            clients_.facts().stops_hard = true;
        }
        while (!operator_.post(message)) turn(network_.clock());
    }

    void wait_until_empty(Nanos allowed, std::string_view rule) {
        const Nanos behind = io_.behind_total();
        const Nanos from = network_.clock();
        while (table_.live() > 0) {
            const Nanos waited = network_.clock() - from - (io_.behind_total() - behind);
            if (waited > allowed) {
                log_.broken(network_.clock(), rule,
                            std::to_string(table_.live()) + " connections are left after " +
                                std::to_string(waited / kMillisecond) + " ms");
                return;
            }
            turn(network_.clock() + kSecond);
            if (io_.now() >= next_audit_) audit();
        }
    }

    void check_pools() {
        if (!reactor_.connections().logins().settled() ||
            reactor_.connections().directory().counts().sessions != 0) {
            log_.broken(network_.clock(), "pools", "a session outlived all connections");
        }
        reactor_.connections().validate();
        const auto expect_none = [this](std::string_view what, uint64_t count) {
            if (count == 0) return;
            log_.broken(network_.clock(), "pools",
                        std::to_string(count) + " " + std::string(what) + " are left");
        };
        expect_none("connections", table_.live());
        expect_none("places", io_.attached());
        expect_none("buffers", reactor_.connections().buffers().taken());
        expect_none("admissions", admission_.live());
        expect_none("descriptors", io_.descriptors_used());
        expect_none("orphans", io_.orphans());
        if (io_.attaches() != io_.closes()) {
            log_.broken(network_.clock(), "closed_once",
                        std::to_string(io_.attaches()) + " places were given away, " +
                            std::to_string(io_.closes()) + " came back");
        }
    }

    SimulationVerdict verdict() {
        SimulationVerdict verdict;
        const MetricsSnapshot metrics = metrics_.snapshot();
        verdict.seed = options_.seed;
        verdict.faults = world_.faults.present;
        verdict.hash = log_.hash();
        verdict.events = log_.events();
        verdict.turns = turns_;
        verdict.violations = log_.violations();
        verdict.broken = log_.kept();
        verdict.clients = clients_.counts();
        verdict.accepted = metrics[Metric::accepted];
        verdict.refused = metrics[Metric::refused];
        verdict.probes = metrics[Metric::probes_sent];
        verdict.evicted = metrics[Metric::evicted];
        verdict.virtual_time = network_.clock() - world_.start;
        verdict.judge_lag_max = metrics_.gauges.judge_lag_max;
        const uint64_t entered = metrics[Metric::overload_steps];
        (world_.memory_is_short ? verdict.overload_by_memory : verdict.overload_by_lag) = entered;
        verdict.overload_left = overload_left_;
        return verdict;
    }

    SimulationOptions options_;
    World world_;
    Random log_random_{mix64(options_.seed) ^ 0x6c6f67};
    SimLog log_;
    SimNetwork network_;
    HeapPages pages_;
    ConnectionTable table_;
    SimBackend io_;
    Mailbox mailbox_;
    SharedPace drain_pace_;
    Admission admission_;
    ReactorConfig config_;
    ReactorMetrics metrics_;
    Reactor<SimBackend> reactor_;
    SimClients clients_;
    SimOperator operator_;
    Nanos next_audit_ = 0;
    uint64_t turns_ = 0;
    uint64_t turns_at_one_instant_ = 0;
    Random memory_random_{mix64(options_.seed) ^ 0x6d656d};
    OverloadStep overload_ = OverloadStep::none;
    uint64_t overload_left_ = 0;
    uint64_t evicted_ = 0;
    const bool has_idle_clocks_ = std::ranges::any_of(world_.server.idle, &IdleRule::on);
};

}  // namespace

SimulationVerdict simulate(const SimulationOptions& options) {
    PULSE_ASSERT(options.peers > 0 && options.duration > 0);
    Random random(mix64(options.seed));
    return std::make_unique<Simulation>(options, random)->run();
}

}  // namespace pulse
