// The explorer: fibers, store buffers, and a depth-first search over who goes next.
#include "tests/support/interleavings.h"

#include <ucontext.h>

#include <deque>
#include <unordered_set>
#include <utility>

#include "core/check.h"
#include "core/random.h"

namespace pulse::test {
namespace {

constexpr size_t kStackBytes = 64 * 1024;
constexpr size_t kStepsMax = 2'000;  // a run that is longer does not end

enum class Pending : uint8_t { step, locked, wait, finished };  // `locked` needs an empty buffer
enum class Choice : uint8_t { step, timeout, flush };

struct Action {
    Choice choice;
    uint32_t thread;
};
struct Store {
    size_t cell;
    uint64_t value;
};

struct Fiber {
    ucontext_t context{};
    std::vector<char> stack = std::vector<char>(kStackBytes);
    std::function<void()> body;
    Pending pending = Pending::step;
    size_t cell = 0;           // what it waits for
    bool timed_out = false;    // the wait ended by itself
    uint64_t observed = 0;     // hash of all that it has seen
    std::deque<Store> buffer;  // stores that others do not see yet
};

// Apart, because getcontext may return twice as far as a compiler knows.
[[gnu::noinline]] void initialise(ucontext_t& context) { PULSE_ASSERT(getcontext(&context) == 0); }

class Explorer {
  public:
    Explorer(Memory memory, uint32_t timeouts) : memory_(memory), timeouts_(timeouts) {}

    Exploration run(const std::function<std::unique_ptr<Scenario>()>& make) {
        do {
            again_ = false;
            found_ = {};
            visited_.clear();
            path_.clear();
            do {
                one_run(make);
            } while (!again_ && found_.wrong.empty() && backtrack());
        } while (again_);
        found_.states = visited_.size();
        return found_;
    }

    // --- called by the code under test ---
    size_t make_cell(uint64_t value) {
        cells_.push_back(value);
        if (writers_.size() < cells_.size()) writers_.push_back(0);
        return cells_.size() - 1;
    }
    uint64_t load(size_t cell) {
        if (!among_threads_) return cells_[cell];
        const uint32_t mine = uint32_t{1} << running_;
        if ((writers_[cell] | mine) != mine || writers_[cell] == 0) give_way(Pending::step);
        uint64_t value = cells_[cell];
        for (const Store& store : self().buffer) {
            if (store.cell == cell) value = store.value;
        }
        observe(value);
        return value;
    }
    void store(size_t cell, uint64_t value) {
        if (!among_threads_) {
            cells_[cell] = value;
            return;
        }
        note_writer(cell);
        if (memory_ == Memory::store_buffers) {
            self().buffer.push_back({cell, value});
            return observe(0);
        }
        give_way(Pending::step);
        cells_[cell] = value;
    }
    uint64_t read_modify_write(size_t cell, const std::function<uint64_t(uint64_t)>& change) {
        note_writer(cell);
        give_way(Pending::locked);
        const uint64_t was = cells_[cell];
        cells_[cell] = change(was);
        observe(was);
        return was;
    }
    void fence() { give_way(Pending::locked); }
    void wait_and_clear(size_t cell) {
        note_writer(cell);
        self().cell = cell;
        give_way(Pending::wait);
        observe(self().timed_out);
        cells_[cell] = 0;
    }
    void observe(uint64_t value) { self().observed = mix64(self().observed ^ value) + 1; }

    void finish() {
        self().pending = Pending::finished;
        swapcontext(&self().context, &home_);
    }
    void run_body() { self().body(); }

  private:
    struct Node {
        std::vector<Action> actions;
        size_t taken;
    };

    Fiber& self() { return fibers_[running_]; }

    // Who writes what decides where loads give way: news means that all is to be explored again.
    void note_writer(size_t cell) {
        const uint32_t mine = uint32_t{1} << running_;
        if ((writers_[cell] & mine) != 0) return;
        writers_[cell] |= mine;
        again_ = true;
    }
    void give_way(Pending pending) {
        self().pending = pending;
        swapcontext(&self().context, &home_);
        observe(0);  // that it went on: a step may leave memory as it was
    }
    void resume(uint32_t thread) {
        running_ = thread;
        swapcontext(&home_, &fibers_[thread].context);
    }

    void start(Scenario& scenario) {
        std::vector<std::function<void()>> bodies = scenario.threads();
        fibers_.resize(bodies.size());
        timeouts_left_ = timeouts_;
        for (uint32_t i = 0; i < bodies.size(); ++i) {
            Fiber& fiber = fibers_[i];
            fiber.body = std::move(bodies[i]);
            fiber.observed = 0;
            fiber.buffer.clear();
            initialise(fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            fiber.context.uc_link = nullptr;
            makecontext(&fiber.context, &enter, 0);
            resume(i);  // to its first step
        }
    }
    static void enter();

    std::vector<Action> actions() const {
        std::vector<Action> found;
        for (uint32_t i = 0; i < fibers_.size(); ++i) {
            const Fiber& fiber = fibers_[i];
            const bool flushed = fiber.buffer.empty();
            if (!flushed) found.push_back({Choice::flush, i});
            if (fiber.pending == Pending::step || (fiber.pending == Pending::locked && flushed)) {
                found.push_back({Choice::step, i});
            }
            if (fiber.pending != Pending::wait || !flushed) continue;
            if (cells_[fiber.cell] != 0) found.push_back({Choice::step, i});
            if (timeouts_left_ > 0) found.push_back({Choice::timeout, i});
        }
        return found;
    }
    void take(Action action) {
        Fiber& fiber = fibers_[action.thread];
        if (action.choice == Choice::flush) {
            cells_[fiber.buffer.front().cell] = fiber.buffer.front().value;
            fiber.buffer.pop_front();
            return;
        }
        fiber.timed_out = action.choice == Choice::timeout;
        timeouts_left_ -= fiber.timed_out;
        resume(action.thread);
    }
    uint64_t state_hash() const {
        uint64_t hash = timeouts_left_;
        auto add = [&](uint64_t value) { hash = mix64(hash ^ value); };
        for (const uint64_t value : cells_) add(value);
        for (const Fiber& fiber : fibers_) {
            add(fiber.observed);
            add(static_cast<uint64_t>(fiber.pending));
            for (const Store& store : fiber.buffer) add(mix64(store.cell) ^ store.value);
            add(fiber.buffer.size());
        }
        return hash;
    }

    void one_run(const std::function<std::unique_ptr<Scenario>()>& make) {
        ++found_.runs;
        cells_.clear();
        running_ = 0;
        among_threads_ = false;
        const std::unique_ptr<Scenario> scenario = make();
        among_threads_ = true;
        start(*scenario);
        for (size_t i = 0; i < path_.size(); ++i) take(path_[i].actions[path_[i].taken]);
        while (!again_) {
            if (!visited_.insert(state_hash()).second) return;
            std::vector<Action> possible = actions();
            if (possible.empty()) {
                ++found_.ends;
                among_threads_ = false;
                const std::string wrong = scenario->wrong_at_the_end();
                if (!wrong.empty()) found_.wrong = wrong + "; steps:" + steps();
                return;
            }
            path_.push_back({std::move(possible), 0});
            PULSE_ASSERT(path_.size() < kStepsMax);
            take(path_.back().actions[0]);
        }
    }
    bool backtrack() {
        while (!path_.empty()) {
            if (++path_.back().taken < path_.back().actions.size()) return true;
            path_.pop_back();
        }
        return false;
    }
    std::string steps() const {
        std::string text;
        for (const Node& node : path_) {
            const Action action = node.actions[node.taken];
            const char* const words[] = {" ", " timeout-", " flush-"};
            text += words[static_cast<size_t>(action.choice)] + std::to_string(action.thread);
        }
        return text;
    }

    const Memory memory_;
    const uint32_t timeouts_;
    Exploration found_;
    bool again_ = false;
    std::vector<uint32_t> writers_;  // by cell: which threads ever write it, in any run
    std::unordered_set<uint64_t> visited_;
    std::vector<Node> path_;

    // One run's.
    ucontext_t home_{};
    std::deque<Fiber> fibers_;
    std::vector<uint64_t> cells_;
    bool among_threads_ = false;  // else the scenario is being made or judged, outside all threads
    uint32_t running_ = 0;
    uint32_t timeouts_left_ = 0;
};

Explorer* explorer = nullptr;

void Explorer::enter() {
    explorer->run_body();
    explorer->finish();
    PULSE_ASSERT(false);  // a thread that has ended runs again
}

}  // namespace

Exploration explore(Memory memory, uint32_t timeouts,
                    const std::function<std::unique_ptr<Scenario>()>& make) {
    Explorer one(memory, timeouts);
    explorer = &one;
    Exploration found = one.run(make);
    explorer = nullptr;
    return found;
}

namespace model {
size_t make_cell(uint64_t value) { return explorer->make_cell(value); }
uint64_t load(size_t cell) { return explorer->load(cell); }
void store(size_t cell, uint64_t value) { explorer->store(cell, value); }
uint64_t read_modify_write(size_t cell, const std::function<uint64_t(uint64_t)>& change) {
    return explorer->read_modify_write(cell, change);
}
}  // namespace model

void modelled_fence() { explorer->fence(); }
void wait_and_clear(size_t cell) { explorer->wait_and_clear(cell); }
void observe(uint64_t value) { explorer->observe(value); }

}  // namespace pulse::test
