// Idle clocks: a table of what each means, and random lives against a slow and obvious version, by
// ticks that do not wrap, in which every activity is kept.
#include "core/heartbeat/idle_clocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/random.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

constexpr IdleAction kEvent = IdleAction::event, kProbe = IdleAction::probe,
                     kClose = IdleAction::close;
constexpr size_t kRead = 0, kWrite = 1, kBoth = 2;
constexpr Tick kStart = 1'000;

bool is_over(const IdleStep& step, size_t clock) { return step.clocks[clock].is_over; }

TEST(IdleClocks, AreOverOncePerPeriodForAsLongAsItIsIdle) {
    const IdleConfig config{.ticks = {10, 0, 0}};
    IdleState state = idle_from(kStart);
    IdleStep step = idle_step(state, config, {.now = kStart + 9});
    EXPECT_FALSE(is_over(step, kRead));
    EXPECT_EQ(step.next, kStart + 10);
    step = idle_step(state, config, {.now = kStart + 10});
    EXPECT_TRUE(is_over(step, kRead) && step.clocks[kRead].first);
    EXPECT_EQ(step.next, kStart + 20);
    EXPECT_FALSE(is_over(idle_step(state, config, {.now = kStart + 19}), kRead));
    // A look that is late is one, and the next is in step again.
    step = idle_step(state, config, {.now = kStart + 47});
    EXPECT_TRUE(is_over(step, kRead) && !step.clocks[kRead].first);
    EXPECT_EQ(step.clocks[kRead].ticks, 47u);
    EXPECT_EQ(step.next, kStart + 50);
    state.read = kStart + 48;
    step = idle_step(state, config, {.now = kStart + 58});
    EXPECT_TRUE(is_over(step, kRead) && step.clocks[kRead].first) << "there was activity";
}

TEST(IdleClocks, CountWhatTheirNamesSay) {
    const IdleConfig config{.ticks = {10, 10, 10}};
    const auto over_after = [&](Tick read, Tick written) {
        IdleState state = idle_from(kStart);
        state.read = static_cast<uint32_t>(kStart + read);
        state.written = static_cast<uint32_t>(kStart + written);
        const IdleStep step = idle_step(state, config, {.now = kStart + 10});
        return std::vector<bool>{is_over(step, kRead), is_over(step, kWrite), is_over(step, kBoth)};
    };
    EXPECT_EQ(over_after(0, 0), (std::vector{true, true, true}));
    EXPECT_EQ(over_after(1, 0), (std::vector{false, true, false}));
    EXPECT_EQ(over_after(0, 1), (std::vector{true, false, false}));
    EXPECT_EQ(over_after(1, 1), (std::vector{false, false, false}));
}

// What a peer takes counts where output is observed; a close never comes while it takes some.
TEST(IdleClocks, ObserveOutput) {
    for (const bool observes : {false, true}) {
        for (const IdleAction action : {kEvent, kProbe, kClose}) {
            const IdleConfig config{.ticks = {0, 10, 10},
                                    .actions = {kEvent, action, action},
                                    .observes_output = observes};
            IdleState state = idle_from(kStart);
            state.taken = kStart + 5;
            const IdleStep step = idle_step(state, config, {.now = kStart + 10});
            EXPECT_EQ(is_over(step, kWrite), !observes && action != kClose);
            EXPECT_EQ(is_over(step, kBoth), !observes && action != kClose);
            EXPECT_FALSE(step.closes);
            EXPECT_TRUE(idle_step(state, config, {.now = kStart + 15}).closes || action != kClose);
        }
    }
}

TEST(IdleClocks, CloseNoneThatLives) {
    const IdleConfig config{.ticks = {20, 0, 0}, .actions = {kClose, kProbe, kEvent}};
    const auto closes = [&](IdleState state, const IdleLook& look) {
        return idle_step(state, config, look).closes.has_value();
    };
    const IdleState silent = idle_from(kStart);
    const Tick now = kStart + 20;
    EXPECT_TRUE(closes(silent, {.now = now}));
    EXPECT_FALSE(closes(silent, {.now = now, .reads = true})) << "it is here, and not decoded";
    EXPECT_FALSE(closes(silent, {.now = now, .proven = kStart + 1}));
    EXPECT_TRUE(closes(silent, {.now = now, .proven = kStart}));
    EXPECT_FALSE(closes(silent, {.now = now, .close_ticks = 21})) << "its heartbeats are slower";
    IdleState asked = silent;
    EXPECT_TRUE(note_asked(asked, kStart + 18));
    EXPECT_FALSE(note_asked(asked, kStart + 19)) << "the first of the silence counts";
    EXPECT_FALSE(closes(asked, {.now = now, .answer_ticks = 3}));
    EXPECT_TRUE(closes(asked, {.now = now + 1, .answer_ticks = 3}));
    asked.read = kStart + 18;
    EXPECT_TRUE(note_asked(asked, kStart + 19)) << "another silence";
}

TEST(IdleClocks, CloseNoneForTheWritesOfAServerThatWasAway) {
    const IdleConfig config{.ticks = {0, 20, 0}, .actions = {kEvent, kClose, kEvent}};
    IdleState state = idle_from(kStart);
    EXPECT_FALSE(idle_step(state, config, {.now = kStart + 20, .writes = true}).closes);
    IdleStep step = idle_step(state, config, {.now = kStart + 26});
    EXPECT_FALSE(step.closes) << "six late";
    EXPECT_EQ(step.next, kStart + 46);
    EXPECT_TRUE(idle_step(state, config, {.now = kStart + 51}).closes) << "five late";
}

// A probe of one clock has its answer before another closes.
TEST(IdleClocks, ProbeBeforeTheyClose) {
    const IdleConfig config{.ticks = {20, 20, 0}, .actions = {kClose, kProbe, kEvent}};
    IdleState state = idle_from(kStart);
    IdleStep step = idle_step(state, config, {.now = kStart + 20, .answer_ticks = 5});
    EXPECT_TRUE(step.probes && !step.closes);
    EXPECT_EQ(step.next, kStart + 25);
    const auto close = idle_close(state, config, {.now = kStart + 21, .answer_ticks = 5});
    ASSERT_TRUE(close);
    EXPECT_EQ(close->clock, IdleClock::read);
    EXPECT_EQ(close->at, kStart + 25);
    step = idle_step(state, config, {.now = kStart + 25, .answer_ticks = 5});
    EXPECT_EQ(step.closes, IdleClock::read);
}

// What is older than the low bits can tell is old, and not new again.
TEST(IdleClocks, DoNotTakeWhatIsVeryOldForNew) {
    const IdleConfig config{.ticks = {0, 1'000, 1u << 20}};
    IdleState state = idle_from(kStart);
    for (Tick now = kStart; now < kStart + (Tick{1} << 34); now += 1 << 29) {
        state.read = static_cast<uint32_t>(now);
        const IdleStep step = idle_step(state, config, {.now = now});
        ASSERT_EQ(is_over(step, kWrite), now > kStart) << now;
        ASSERT_FALSE(is_over(step, kBoth));
    }
}

// ------------------------------------------------------------------------ the slow and obvious one
struct Life {
    std::vector<Tick> reads, writes, taken, proofs, probes;
};
struct Model {
    Life life;
    IdleConfig config;
    std::array<Tick, kIdleClocks> began{};  // of the period that runs

    static Tick last(const std::vector<Tick>& of) { return of.empty() ? 0 : std::ranges::max(of); }
    Tick activity(size_t clock, const IdleLook& look) const {
        const bool closes = config.actions[clock] == kClose;
        std::vector<Tick> all;
        if (clock != kWrite) all.push_back(last(life.reads));
        if (clock != kRead) all.push_back(look.writes ? look.now : last(life.writes));
        if (closes || (clock != kRead && config.observes_output)) all.push_back(last(life.taken));
        if (closes && clock != kWrite) all.push_back(look.proven);
        return last(all);
    }
    // Period by period; a close where each of its conditions holds.
    bool is_over(size_t clock, const IdleLook& look) {
        const Tick period = config.ticks[clock];
        if (period == 0) return false;
        const Tick active = activity(clock, look);
        const Tick from = std::max(began[clock], active);
        Tick begins = from;
        while (begins + period <= look.now) begins += period;
        if (config.actions[clock] != kClose) {
            if (begins > from) began[clock] = begins;
            return begins > from;
        }
        const auto asked =
            std::ranges::find_if(life.probes, [&](Tick at) { return at > last(life.reads); });
        const Tick answered = asked == life.probes.end() ? 0 : *asked + look.answer_ticks;
        const Tick due = std::max({from + period, active + look.close_ticks, answered});
        const bool away = clock == kWrite && look.now > due + period / 4;
        if (due <= look.now && away) began[clock] = look.now;
        return due <= look.now && !away;
    }
};

class RandomLife {
  public:
    explicit RandomLife(uint64_t seed) : random_(seed) {
        constexpr Tick kStarts[] = {1'000, (Tick{1} << 32) - 300, (Tick{1} << 31) - 300};
        now_ = kStarts[random_.below(3)];
        for (size_t clock = 0; clock < kIdleClocks; ++clock) {
            const bool on = random_.chance(3, 4);
            model_.config.ticks[clock] = on ? static_cast<uint32_t>(random_.between(2, 60)) : 0;
            model_.config.actions[clock] = static_cast<IdleAction>(random_.below(3));
        }
        model_.config.observes_output = random_.chance(1, 2);
        state_ = idle_from(now_);
        model_.began.fill(now_);
        model_.life = {{now_}, {now_}, {now_}, {now_}, {}};
    }
    // Until it is closed, or for some time. An error says what differs.
    std::string live() {
        for (int step = 0; step < 200; ++step) {
            now_ += random_.chance(1, 4) ? random_.between(1, 40) : random_.between(1, 4);
            happen();
            if (!random_.chance(1, 2)) continue;
            const std::string differs = look();
            if (!differs.empty() || closed_) return differs;
        }
        return {};
    }
    uint64_t overs() const { return overs_; }
    bool closed() const { return closed_; }

  private:
    void happen() {
        Life& life = model_.life;
        if (random_.chance(1, 12)) some(life.reads, state_.read);
        if (random_.chance(1, 12)) some(life.writes, state_.written);
        if (random_.chance(1, 12)) some(life.taken, state_.taken);
        if (random_.chance(1, 12)) life.proofs.push_back(now_);
        if (random_.chance(1, 12)) ask();
    }
    void some(std::vector<Tick>& of, uint32_t& stored) {
        of.push_back(now_);
        stored = static_cast<uint32_t>(now_);
    }
    void ask() {
        model_.life.probes.push_back(now_);
        note_asked(state_, now_);
    }
    std::string look() {
        const IdleLook look{.now = now_,
                            .proven = Model::last(model_.life.proofs),
                            .reads = random_.chance(1, 10),
                            .writes = random_.chance(1, 10),
                            .close_ticks = static_cast<uint32_t>(random_.below(40)),
                            .answer_ticks = static_cast<uint32_t>(random_.below(10))};
        if (look.reads) some(model_.life.reads, state_.read);
        const IdleStep step = idle_step(state_, model_.config, look);
        // Those that close come behind the others, as a probe of this look is to be answered.
        std::array<bool, kIdleClocks> over{};
        bool probes = false, closes = false;
        for (const bool closing : {false, true}) {
            for (size_t clock = 0; clock < kIdleClocks; ++clock) {
                if ((model_.config.actions[clock] == kClose) != closing) continue;
                over[clock] = model_.is_over(clock, look);
                overs_ += over[clock];
                closes |= over[clock] && closing;
                probes |= over[clock] && model_.config.actions[clock] == kProbe;
            }
            if (!closing && probes) model_.life.probes.push_back(now_);
        }
        for (size_t clock = 0; clock < kIdleClocks; ++clock) {
            if (is_over(step, clock) != over[clock])
                return "clock " + std::to_string(clock) + " at " + std::to_string(now_);
        }
        closed_ = closes;
        if (step.closes.has_value() != closes || step.probes != probes) return "what is done";
        if (!closes && model_.config.on() && step.next <= now_) return "the next look is over";
        return {};
    }

    Random random_;
    Tick now_;
    Model model_;
    IdleState state_;
    uint64_t overs_ = 0;
    bool closed_ = false;
};

TEST(IdleClocks, AreThoseOfTheSlowAndObviousVersion) {
    uint64_t overs = 0, closed = 0;
    const uint64_t lives = test::scaled(20'000);
    for (uint64_t seed = 1; seed <= lives; ++seed) {
        RandomLife life(seed);
        ASSERT_EQ(life.live(), "") << "seed " << seed;
        overs += life.overs();
        closed += life.closed();
    }
    EXPECT_GT(overs, lives);
    EXPECT_GT(closed, lives / 10);
}

// Looked at when it is asked for, one that nothing happens to is over at each period, to the tick.
TEST(IdleClocks, AskForTheLookThatFindsThemOver) {
    for (uint64_t seed = 1; seed <= test::scaled(1'000); ++seed) {
        Random random(seed);
        const IdleConfig config{
            .ticks = {static_cast<uint32_t>(random.between(1, 50)),
                      static_cast<uint32_t>(random.between(1, 50)), 0},
        };
        IdleState state = idle_from(kStart);
        IdleStep step = idle_step(state, config, {.now = kStart});
        for (int look = 0; look < 100; ++look) {
            const Tick now = step.next;
            step = idle_step(state, config, {.now = now});
            ASSERT_EQ(is_over(step, kRead), (now - kStart) % config.ticks[kRead] == 0);
            ASSERT_EQ(is_over(step, kWrite), (now - kStart) % config.ticks[kWrite] == 0);
            ASSERT_TRUE(is_over(step, kRead) || is_over(step, kWrite)) << "a look for nothing";
        }
    }
}

}  // namespace
}  // namespace pulse
