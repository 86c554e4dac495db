// A small LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers 2000) that reads the
// series of a server and gives the probability that a fault has an effect in them: inference,
// training by truncated backpropagation through time with Adam, and a text file of weights. Plain
// C++; the same numbers from the same seed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/anomaly/baseline.h"

#include "bench/anomaly/contenders.h"

namespace pulse::study {

// Of each series: how far it is from its slow mean and from what it was at that time of day, on the
// scale of the baseline and by its usual spread; and the time of day, as a sine and a cosine.
inline constexpr size_t kInputs = 2 * kAnomalySeries + 2;
inline constexpr size_t kUnits = 16;
using Inputs = std::array<float, kInputs>;

class FeatureMaker {
  public:
    Inputs make(const AnomalySample& sample);

  private:
    struct Slow {
        double mean = 0, spread = 0;
        DailyPattern day;
    };
    std::array<Slow, kAnomalySeries> series_;
    uint32_t samples_ = 0;
};

struct LstmWeights {
    static constexpr size_t kRow = kInputs + kUnits + 1;  // the last is the bias
    // Gates in the order input, forget, output, candidate; a row a unit.
    std::array<float, 4 * kUnits * kRow> gates{};
    std::array<float, kUnits + 1> output{};
    float threshold = 0.5f;  // of an alarm
};

struct LstmState {
    std::array<float, kUnits> cell{}, hidden{};
};

// One step; returns the logit.
float lstm_step(const LstmWeights& weights, LstmState& state, const Inputs& inputs);

class Lstm final : public Contender {
  public:
    explicit Lstm(const LstmWeights& weights) : weights_(weights) {}
    void reset() override {
        features_ = {};
        state_ = {};
        samples_ = 0;
    }
    // Of a fault; 0 while the first samples of a server are learned from.
    float probability(const AnomalySample& sample);
    bool alarms(const AnomalySample& sample) override {
        return probability(sample) > weights_.threshold;
    }

  private:
    const LstmWeights& weights_;
    FeatureMaker features_;
    LstmState state_;
    uint32_t samples_ = 0;
};

// Prints the loss of each epoch.
LstmWeights train_lstm(const std::vector<Server>& servers, uint32_t epochs, uint64_t seed);

void write_weights(const LstmWeights& weights, const std::string& path, const std::string& about);
// Ends the program where the file is not one of weights.
LstmWeights read_weights(const std::string& path);

}  // namespace pulse::study
