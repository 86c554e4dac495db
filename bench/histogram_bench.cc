// Recording a duration, and reading a distribution back: what the loop pays a turn, and what a
// snapshot pays a second.
#include <benchmark/benchmark.h>

#include <vector>

#include "core/histogram.h"
#include "core/random.h"

namespace pulse {
namespace {

// Durations as turns have them: spread evenly over the magnitudes below `bits`.
std::vector<Nanos> durations(uint64_t bits) {
    Random random(1);
    std::vector<Nanos> values(4'096);
    for (Nanos& value : values) {
        value = static_cast<Nanos>(random.below(uint64_t{1} << random.between(10, bits)));
    }
    return values;
}

void record(benchmark::State& state) {
    const std::vector<Nanos> values = durations(static_cast<uint64_t>(state.range(0)));
    Histogram histogram;
    size_t at = 0;
    for (auto _ : state) {
        histogram.record(values[at++ & (values.size() - 1)]);
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(record)->Name("histogram_record/below_1ms/pulse")->Arg(20);
BENCHMARK(record)->Name("histogram_record/below_18min/pulse")->Arg(40);

void percentile(benchmark::State& state) {
    Histogram histogram;
    for (const Nanos value : durations(30)) histogram.record(value);
    for (auto _ : state) benchmark::DoNotOptimize(histogram.percentile(99));
}
BENCHMARK(percentile)->Name("histogram_read/p99/pulse");

void merge(benchmark::State& state) {
    Histogram histogram;
    for (const Nanos value : durations(30)) histogram.record(value);
    Histogram sum;
    for (auto _ : state) {
        sum.merge(histogram);
        benchmark::ClobberMemory();
    }
}
BENCHMARK(merge)->Name("histogram_read/merge/pulse");

}  // namespace
}  // namespace pulse
