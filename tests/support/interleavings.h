// Runs a few threads of real code through every interleaving of their atomic operations.
//
// The code under test takes its atomics as a template parameter and is given Modelled<T>. Its
// threads are fibers of one real thread; before each operation that others could notice, a fiber
// gives way to the explorer, which tries every choice of the next fiber, depth first, each from
// a fresh start.
//
// Memory is sequentially consistent, or x86's (TSO): a store goes into its thread's buffer and
// reaches memory at any later moment, in order; a load looks into its own buffer first; a
// read-modify-write and a fence wait for an empty buffer.
//
// States that were met before are not explored twice. What a thread does next depends only on what
// it has observed, so a state is: every thread's observations, the buffers, and memory. Loads of
// what only the loading thread ever writes cannot be noticed and do not give way; which cells those
// are is learnt, and the exploration starts again when one turns out otherwise.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace pulse::test {

enum class Memory { sequential, store_buffers };

// One fresh start: what the threads share, and what each of them does. Thread bodies must leave
// nothing on their stacks that needs a destructor: they may be abandoned half-way.
class Scenario {
  public:
    virtual ~Scenario() = default;
    virtual std::vector<std::function<void()>> threads() = 0;
    // Called when no thread can go on: what is wrong with how it ended, or nothing. May load and
    // store, as may the constructor.
    virtual std::string wrong_at_the_end() = 0;
};

struct Exploration {
    uint64_t states = 0;  // different ones
    uint64_t runs = 0;    // from the start to an end or to a state met before
    uint64_t ends = 0;
    std::string wrong;  // the first thing that went wrong, with the steps that led there
};

// Explores until everything was seen or something went wrong. `timeouts` is how many waits may end
// without what they waited for.
Exploration explore(Memory memory, uint32_t timeouts,
                    const std::function<std::unique_ptr<Scenario>()>& make);

// What Modelled<T> is made of. Values are kept as 64 bits.
namespace model {
size_t make_cell(uint64_t value);
uint64_t load(size_t cell);
void store(size_t cell, uint64_t value);
// Replaces the value by what `change` makes of it, in one step, and returns what it was.
uint64_t read_modify_write(size_t cell, const std::function<uint64_t(uint64_t)>& change);
}  // namespace model

// A full fence.
void modelled_fence();
// Sleeps until the cell is not 0 (or for nothing, while there are timeouts left), then makes it 0.
void wait_and_clear(size_t cell);
// To be called with whatever a thread learns by other ways than an atomic.
void observe(uint64_t value);

template <class T>
class Modelled {
    static_assert(std::is_unsigned_v<T>);

  public:
    Modelled(T value) : cell_(model::make_cell(value)) {}

    T load(std::memory_order) const { return static_cast<T>(model::load(cell_)); }
    void store(T value, std::memory_order) { model::store(cell_, value); }
    T exchange(T value, std::memory_order) {
        return static_cast<T>(model::read_modify_write(cell_, [=](uint64_t) { return value; }));
    }
    bool compare_exchange_strong(T& expected, T value, std::memory_order, std::memory_order) {
        const uint64_t wanted = expected;
        expected = static_cast<T>(model::read_modify_write(
            cell_, [=](uint64_t was) { return was == wanted ? uint64_t{value} : was; }));
        return expected == wanted;
    }
    size_t cell() const { return cell_; }

  private:
    size_t cell_;
};

}  // namespace pulse::test
