// Loops over rows of weights.
#include "bench/anomaly/lstm.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numbers>

#include "core/random.h"

namespace pulse::study {
namespace {

constexpr size_t kRow = LstmWeights::kRow;
constexpr uint32_t kStepsBack = 60;  // ten minutes
constexpr float kPositiveWeight = 4;
constexpr float kInputMax = 8;

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

// What a step leaves for the way back.
struct Trace {
    Inputs inputs{};
    std::array<float, kUnits> in{}, forget{}, out{}, candidate{}, cell{}, cell_before{},
        hidden_before{}, squashed{}, hidden{};
    float probability = 0;
};

float forward(const LstmWeights& weights, LstmState& state, const Inputs& inputs, Trace& trace) {
    trace.inputs = inputs;
    trace.cell_before = state.cell;
    trace.hidden_before = state.hidden;
    std::array<float, kRow> x{};
    std::copy(inputs.begin(), inputs.end(), x.begin());
    std::copy(state.hidden.begin(), state.hidden.end(), x.begin() + kInputs);
    x[kRow - 1] = 1;
    std::array<float, 4 * kUnits> sums{};
    for (size_t row = 0; row < 4 * kUnits; ++row) {
        const float* const of = &weights.gates[row * kRow];
        float sum = 0;
        for (size_t at = 0; at < kRow; ++at) sum += of[at] * x[at];
        sums[row] = sum;
    }
    float logit = weights.output[kUnits];
    for (size_t unit = 0; unit < kUnits; ++unit) {
        trace.in[unit] = sigmoid(sums[unit]);
        trace.forget[unit] = sigmoid(sums[kUnits + unit]);
        trace.out[unit] = sigmoid(sums[2 * kUnits + unit]);
        trace.candidate[unit] = std::tanh(sums[3 * kUnits + unit]);
        state.cell[unit] =
            trace.forget[unit] * state.cell[unit] + trace.in[unit] * trace.candidate[unit];
        trace.squashed[unit] = std::tanh(state.cell[unit]);
        state.hidden[unit] = trace.out[unit] * trace.squashed[unit];
        logit += weights.output[unit] * state.hidden[unit];
    }
    trace.cell = state.cell;
    trace.hidden = state.hidden;
    return logit;
}

using Flat = std::vector<float>;
constexpr size_t kParameters = 4 * kUnits * kRow + kUnits + 1;

// Adds the gradient of one stretch of one server to `gradient`.
void backward(const LstmWeights& weights, const std::vector<Trace>& traces,
              const std::vector<float>& errors, Flat& gradient) {
    std::array<float, kUnits> hidden_error{}, cell_error{};
    for (size_t step = traces.size(); step-- > 0;) {
        const Trace& trace = traces[step];
        float* const output = &gradient[4 * kUnits * kRow];
        std::array<float, 4 * kUnits> sums{};
        for (size_t unit = 0; unit < kUnits; ++unit) {
            output[unit] += errors[step] * trace.hidden[unit];
            const float hidden = hidden_error[unit] + errors[step] * weights.output[unit];
            const float squashed = trace.squashed[unit];
            const float cell =
                cell_error[unit] + hidden * trace.out[unit] * (1 - squashed * squashed);
            const auto slope = [](float gate) { return gate * (1 - gate); };
            sums[unit] = cell * trace.candidate[unit] * slope(trace.in[unit]);
            sums[kUnits + unit] = cell * trace.cell_before[unit] * slope(trace.forget[unit]);
            sums[2 * kUnits + unit] = hidden * squashed * slope(trace.out[unit]);
            sums[3 * kUnits + unit] =
                cell * trace.in[unit] * (1 - trace.candidate[unit] * trace.candidate[unit]);
            cell_error[unit] = cell * trace.forget[unit];
        }
        output[kUnits] += errors[step];
        hidden_error = {};
        for (size_t row = 0; row < 4 * kUnits; ++row) {
            const float* const of = &weights.gates[row * kRow];
            float* const to = &gradient[row * kRow];
            for (size_t at = 0; at < kInputs; ++at) to[at] += sums[row] * trace.inputs[at];
            for (size_t unit = 0; unit < kUnits; ++unit) {
                to[kInputs + unit] += sums[row] * trace.hidden_before[unit];
                hidden_error[unit] += sums[row] * of[kInputs + unit];
            }
            to[kRow - 1] += sums[row];
        }
    }
}

// Kingma and Ba 2014.
class Adam {
  public:
    void step(LstmWeights& weights, Flat& gradient, float rate) {
        float norm = 0;
        for (const float value : gradient) norm += value * value;
        const float shrink = std::min(1.0f, 1 / (std::sqrt(norm) + 1e-9f));
        ++steps_;
        const float first = 1 - std::pow(0.9f, static_cast<float>(steps_));
        const float second = 1 - std::pow(0.999f, static_cast<float>(steps_));
        for (size_t at = 0; at < kParameters; ++at) {
            const float value = gradient[at] * shrink;
            means_[at] = 0.9f * means_[at] + 0.1f * value;
            squares_[at] = 0.999f * squares_[at] + 0.001f * value * value;
            float& weight = at < weights.gates.size() ? weights.gates[at]
                                                      : weights.output[at - weights.gates.size()];
            weight -= rate * means_[at] / first / (std::sqrt(squares_[at] / second) + 1e-8f);
        }
    }

  private:
    Flat means_ = Flat(kParameters), squares_ = Flat(kParameters);
    uint32_t steps_ = 0;
};

LstmWeights first_weights(uint64_t seed) {
    Random random(seed);
    LstmWeights weights;
    const auto draw = [&] { return static_cast<float>(random.unit() * 2 - 1) * 0.2f; };
    for (float& weight : weights.gates) weight = draw();
    for (float& weight : weights.output) weight = draw();
    for (size_t unit = 0; unit < kUnits; ++unit)  // it remembers at first
        weights.gates[(kUnits + unit) * kRow + kRow - 1] = 1;
    weights.output[kUnits] = -3;
    return weights;
}

// One server on its way through the days.
struct Stream {
    const Server* server;
    FeatureMaker features{};
    LstmState state{};
    std::vector<Trace> traces = std::vector<Trace>(kStepsBack);
    std::vector<float> errors = std::vector<float>(kStepsBack);
};

double advance(const LstmWeights& weights, Stream& stream, size_t from, Flat& gradient,
               float scale) {
    double loss = 0;
    for (size_t step = 0; step < kStepsBack; ++step) {
        const Point& point = stream.server->points[from + step];
        if (point.restarted) {
            stream.features = {};
            stream.state = {};
        }
        const Inputs inputs = stream.features.make(point.sample);
        const float p = sigmoid(forward(weights, stream.state, inputs, stream.traces[step]));
        const float wanted = point.faulty ? 1 : 0;
        const float weight = point.faulty ? kPositiveWeight : 1;
        stream.errors[step] = scale * weight * (p - wanted);
        loss -= weight * std::log(std::max(1e-7f, point.faulty ? p : 1 - p));
    }
    backward(weights, stream.traces, stream.errors, gradient);
    return loss;
}

}  // namespace

Inputs FeatureMaker::make(const AnomalySample& sample) {
    Inputs inputs{};
    ++samples_;
    const double slow = 1.0 / std::min(samples_, 6 * 360u);
    for (size_t at = 0; at < kAnomalySeries; ++at) {
        const AnomalySeriesInfo& info = kAnomalySeriesInfos[at];
        Slow& series = series_[at];
        const double value = info.scale == SeriesScale::count
                                 ? 2 * std::sqrt(sample.values[at] + 0.375)
                                 : std::log(sample.values[at] + info.floor);
        if (samples_ == 1) series.mean = value;
        const double least = std::max(info.spread_min, info.spread_part * series.mean / 2);
        const double spread = std::max(least, series.spread);
        const auto input = [&](double away) {
            return static_cast<float>(std::clamp<double>(away / spread / 4, -kInputMax, kInputMax));
        };
        const double away = value - series.mean;
        inputs[2 * at] = input(away);
        const double usual = series.day.at(sample.second_of_day);
        inputs[2 * at + 1] = series.day.known() ? input(value - usual) : inputs[2 * at];
        const double pulled = std::clamp(away, -2 * spread, 2 * spread);
        series.mean += slow * pulled;
        series.spread += slow * (std::abs(pulled) * 1.25 - series.spread);
        series.day.observe(sample.second_of_day, series.mean + pulled);
    }
    const double turn = 2 * std::numbers::pi * sample.second_of_day / 86'400;
    inputs[kInputs - 2] = static_cast<float>(std::sin(turn));
    inputs[kInputs - 1] = static_cast<float>(std::cos(turn));
    return inputs;
}

float lstm_step(const LstmWeights& weights, LstmState& state, const Inputs& inputs) {
    Trace trace;
    return forward(weights, state, inputs, trace);
}

float Lstm::probability(const AnomalySample& sample) {
    const float p = sigmoid(lstm_step(weights_, state_, features_.make(sample)));
    return ++samples_ > kAnomalyLearnSamples ? p : 0;
}

LstmWeights train_lstm(const std::vector<Server>& servers, uint32_t epochs, uint64_t seed) {
    LstmWeights weights = first_weights(seed);
    Adam adam;
    const size_t length = servers.front().points.size() / kStepsBack;
    for (uint32_t epoch = 0; epoch < epochs; ++epoch) {
        std::vector<Stream> streams;
        for (const Server& server : servers) streams.push_back({.server = &server});
        const float rate =
            4e-3f * (1 - static_cast<float>(epoch) / static_cast<float>(epochs)) + 2e-4f;
        double loss = 0;
        for (size_t stretch = 0; stretch < length; ++stretch) {
            Flat gradient(kParameters);
            const float scale = 1.0f / static_cast<float>(kStepsBack * streams.size());
            for (Stream& stream : streams)
                loss += advance(weights, stream, stretch * kStepsBack, gradient, scale);
            adam.step(weights, gradient, rate);
        }
        const double steps = static_cast<double>(length * kStepsBack * servers.size());
        std::printf("  epoch %u of %u: loss %.5f\n", epoch + 1, epochs, loss / steps);
        std::fflush(stdout);
    }
    return weights;
}

void write_weights(const LstmWeights& weights, const std::string& path, const std::string& about) {
    std::ofstream file(path);
    char number[32];
    size_t column = 0;
    file << "# " << about << '\n';
    const auto put = [&](float value) {
        std::snprintf(number, sizeof number, "%.5g", static_cast<double>(value));
        file << number << (++column % 10 == 0 ? '\n' : ' ');
    };
    put(weights.threshold);
    for (const float value : weights.gates) put(value);
    for (const float value : weights.output) put(value);
    file << '\n';
}

LstmWeights read_weights(const std::string& path) {
    std::ifstream file(path);
    std::string about;
    std::getline(file, about);
    LstmWeights weights;
    bool whole = static_cast<bool>(file >> weights.threshold);
    for (float& value : weights.gates) whole &= static_cast<bool>(file >> value);
    for (float& value : weights.output) whole &= static_cast<bool>(file >> value);
    if (whole) return weights;
    std::fprintf(stderr, "anomaly_study: %s: is not a file of weights; run with --train\n",
                 path.c_str());
    std::exit(1);
}

}  // namespace pulse::study
