// DrainedUntil against every short history of a watch set: connections become ready, are taken,
// proven and read in any order. Whatever holds something unread holds nothing from before value();
// and one that is always ready does not hold value() back.
#include "net/io/drained_until.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>

namespace pulse::test {
namespace {

enum class Step : uint8_t { arrive, take, prove, read_first, read_last, lose };
constexpr std::array kSteps = {Step::arrive,     Step::take,      Step::prove,
                               Step::read_first, Step::read_last, Step::lose};
constexpr uint32_t kConnectionsMax = 4;
constexpr int kStepsMax = 12;

// What a connection holds arrived at `since` or later. Taken, it is in `count`.
struct Unread {
    Nanos since;
    uint32_t count;
};

struct Queue {
    std::array<Unread, kConnectionsMax> entries{};
    uint32_t size = 0;

    void push(Unread entry) { entries[size++] = entry; }
    Unread pop(uint32_t at) {
        const Unread entry = entries[at];
        std::copy(entries.begin() + at + 1, entries.begin() + size, entries.begin() + at);
        --size;
        return entry;
    }
    Nanos oldest() const {
        Nanos oldest = kNever;
        for (uint32_t i = 0; i < size; ++i) oldest = std::min(oldest, entries[i].since);
        return oldest;
    }
};

// A watch set, what was taken from it, and a backend's use of DrainedUntil.
struct World {
    Nanos now = 1;
    Nanos proven = 1;
    Queue set, taken;
    DrainedUntil drained{1};

    // False: there is nothing to do it to.
    bool step(Step step) {
        ++now;
        switch (step) {
            case Step::arrive:
                if (set.size + taken.size == kConnectionsMax) return false;
                set.push({now, 0});
                return true;
            case Step::take:
                if (set.size == 0) return false;
                taken.push({set.pop(0).since, drained.count()});
                drained.add(drained.count());
                return true;
            case Step::prove:
                if (set.size == 0) proven = now;
                drained.advance(proven);
                return true;
            case Step::read_first:
            case Step::read_last:
                if (taken.size == 0 || (step == Step::read_last && taken.size == 1)) return false;
                drained.remove(taken.pop(step == Step::read_first ? 0 : taken.size - 1).count);
                return true;
            case Step::lose:
                drained.suspect();
                if (set.size == 0) proven = now;  // as far as is known
                drained.forget(proven);
                while (taken.size > 0) set.push(taken.pop(0));
                drained.advance(proven);
                return true;
        }
        return false;
    }
    bool is_true() const { return drained.value() <= std::min(set.oldest(), taken.oldest()); }

    // Each is read as it comes to its turn, and another is always ready: what is proven is reached.
    bool goes_on() {
        while (set.size > 0) step(Step::take);
        step(Step::prove);
        const Nanos wanted = proven;
        for (uint32_t i = 0; i < 3 * kConnectionsMax; ++i) {
            step(Step::arrive);
            step(Step::take);
            step(Step::read_first);
            step(Step::prove);
        }
        return drained.value() >= wanted && is_true();
    }
};

struct Tally {
    uint64_t histories = 0;
    uint64_t false_values = 0;
    uint64_t moved_back = 0;
    uint64_t stuck = 0;
};

void try_all(const World& world, int steps_left, Tally& tally) {
    for (const Step step : kSteps) {
        World next = world;
        if (!next.step(step)) continue;
        ++tally.histories;
        tally.false_values += next.is_true() ? 0 : 1;
        tally.moved_back += next.drained.value() < world.drained.value() ? 1 : 0;
        if (steps_left > 1)
            try_all(next, steps_left - 1, tally);
        else
            tally.stuck += next.goes_on() ? 0 : 1;
    }
}

TEST(DrainedUntil, HoldsInEveryShortHistory) {
    Tally tally;
    try_all(World{}, kStepsMax, tally);
    EXPECT_GT(tally.histories, 500'000u);
    EXPECT_EQ(tally.false_values, 0u);
    EXPECT_EQ(tally.moved_back, 0u);
    EXPECT_EQ(tally.stuck, 0u);
}

TEST(DrainedUntil, GoesAsFarAsTheOldestThatIsUnread) {
    constexpr std::array<Nanos, 5> kTimes = {1, 2, 3, 4, kNever};
    for (const Nanos start : {Nanos{1}, Nanos{2}, Nanos{3}})
        for (const Nanos proven : {Nanos{1}, Nanos{2}, Nanos{3}, Nanos{4}})
            for (const Nanos oldest : kTimes) {
                DrainedUntil drained(start);
                drained.advance(proven, oldest);
                const bool moves = proven > start && oldest > start;
                EXPECT_EQ(drained.value(), moves ? std::min(proven, oldest) : start);
            }
}

TEST(DrainedUntil, WhatIsAlwaysReadyDelaysNothing) {
    DrainedUntil drained(1);
    drained.add(drained.count());
    drained.advance(5);
    EXPECT_EQ(drained.value(), 1);
    drained.add(drained.count());  // ready after 5
    drained.remove(0);
    drained.advance(5);
    EXPECT_EQ(drained.value(), 5);
}

}  // namespace
}  // namespace pulse::test
