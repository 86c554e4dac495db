// What a connection's coming and going costs its record, and what a judgement costs by itself.
//
// Places are taken, asked for and released in an order that has nothing to do with where they lie:
// a million records of 64 bytes are more than a cache holds.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/connection_table.h"
#include "core/heartbeat_policy.h"
#include "core/random.h"
#include "net/io/mapped_pages.h"

namespace pulse {
namespace {

constexpr uint32_t kMillion = 1 << 20;

struct FullTable {
    MappedPages pages;
    ConnectionTable table{pages, kMillion};
    std::vector<ConnectionId> ids;  // of all places, shuffled

    explicit FullTable(uint32_t connections) {
        for (uint32_t count = 0; count < connections; ++count)
            ids.push_back(table.id(table.take()));
        Random random(1);
        std::shuffle(ids.begin(), ids.end(), random);
    }
};

// One goes, one comes, in a table that is full otherwise.
void churn(benchmark::State& state) {
    FullTable full(static_cast<uint32_t>(state.range(0)));
    size_t at = 0;
    for (auto _ : state) {
        ConnectionId& id = full.ids[at++ % full.ids.size()];
        full.table.release(id.index);
        id = full.table.id(full.table.take());
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(churn)->Name("table/release_and_take")->Arg(1'000)->Arg(kMillion);

// A message for a connection that may be gone.
void find(benchmark::State& state) {
    FullTable full(static_cast<uint32_t>(state.range(0)));
    size_t at = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(full.table.find(full.ids[at++ % full.ids.size()]));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(find)->Name("table/find")->Arg(1'000)->Arg(kMillion);

// The first to come, each into a record that was never used: pages are backed as they go.
void fill(benchmark::State& state) {
    for (auto _ : state) {
        MappedPages pages;
        ConnectionTable table(pages, kMillion);
        for (uint32_t count = 0; count < kMillion; ++count) benchmark::DoNotOptimize(table.take());
    }
    state.SetItemsProcessed(state.iterations() * int64_t{kMillion});
}
BENCHMARK(fill)->Name("table/fill/a million places")->Unit(benchmark::kMillisecond);

// ------------------------------------------------------------------------------- the policy alone

constexpr HeartbeatConfig kStandard{
    .interval_ticks = 3'570, .grace_ticks = 238, .timeout_ticks = 10'710};
constexpr Tick kNow = Tick{1} << 20;

// What looks find: words heard `from` to `to` ticks ago, with so many probes sent since.
std::array<uint32_t, 1'024> heard_before(Tick from, Tick to, uint32_t probes) {
    std::array<uint32_t, 1'024> words{};
    Random random(2);
    for (uint32_t& word : words) {
        word = heard_at(kNow - random.between(from, to)) | probes << kHeardProbeShift;
    }
    return words;
}

void step(benchmark::State& state, HeartbeatEvent event, Tick from, Tick to, uint32_t probes,
          Verdict expected) {
    const std::array<uint32_t, 1'024> words = heard_before(from, to, probes);
    size_t at = 0;
    uint64_t wrong = 0;
    for (auto _ : state) {
        const auto index = static_cast<Index>(at++ % words.size());
        const HeartbeatStep answer = heartbeat_step(words[index], event, index, kNow, kStandard);
        benchmark::DoNotOptimize(answer.next);
        benchmark::DoNotOptimize(answer.heard);
        wrong += answer.verdict != expected;
    }
    if (wrong != 0) state.SkipWithError("not the verdict that this row is named after");
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(step, rearm, HeartbeatEvent::look, 0, 3'800, 0, Verdict::rearm)
    ->Name("policy_step/alone/look that rearms");
BENCHMARK_CAPTURE(step, probe, HeartbeatEvent::look, 3'808, 4'000, 0, Verdict::probe)
    ->Name("policy_step/alone/look that probes");
BENCHMARK_CAPTURE(step, evict, HeartbeatEvent::look, 10'710, 12'000, 2, Verdict::evict)
    ->Name("policy_step/alone/look that evicts");
BENCHMARK_CAPTURE(step, frame, HeartbeatEvent::frame, 0, 3'800, 0, Verdict::rearm)
    ->Name("policy_step/alone/frame");

}  // namespace
}  // namespace pulse
