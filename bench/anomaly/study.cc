// Who finds faults in simulated days, how soon, and with how many false alarms: the detector of the
// server, a fixed threshold, an EWMA and an LSTM. `make anomaly-study` runs it.
//
//     --days N      of the test, 14 a server at least; default 1008
//     --weights F   of the LSTM
//     --train       trains it first, and writes F
//     --epochs N    of that
//
// What has a parameter to be chosen has it chosen on the training servers, by F1; the table is of
// the test servers, whose seeds none has seen.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/anomaly/contenders.h"
#include "bench/anomaly/days.h"
#include "bench/anomaly/lstm.h"

namespace pulse::study {
namespace {

constexpr uint32_t kDaysEach = 14;
constexpr uint32_t kTrainServers = 16;
constexpr uint64_t kTrainSeed = 1;
constexpr uint64_t kTestSeed = 100'001;
// Alarms of one contender that are not further apart are one: what Alertmanager groups.
constexpr uint32_t kOneAlarm = 600 / kSampleSeconds;

struct Score {
    uint32_t days = 0;
    uint32_t false_alarms = 0;
    std::array<uint32_t, kFaultKinds> faults{}, found{};
    std::array<std::vector<double>, kFaultKinds> delays_s{};

    uint32_t all(const std::array<uint32_t, kFaultKinds>& of) const {
        return of[0] + of[1] + of[2] + of[3];
    }
    double precision() const {
        const double alarms = all(found) + false_alarms;
        return alarms == 0 ? 1 : all(found) / alarms;
    }
    double recall() const { return static_cast<double>(all(found)) / std::max(1u, all(faults)); }
    double f1() const {
        const double sum = precision() + recall();
        return sum == 0 ? 0 : 2 * precision() * recall() / sum;
    }
    double false_a_day() const { return static_cast<double>(false_alarms) / days; }
    double median_delay() const {
        std::vector<double> every;
        for (const auto& of : delays_s) every.insert(every.end(), of.begin(), of.end());
        return median(every);
    }
    static double median(std::vector<double> of) {
        if (of.empty()) return 0;
        std::ranges::nth_element(of, of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2));
        return of[of.size() / 2];
    }
};

using Make = std::function<std::unique_ptr<Contender>()>;

void judge(Contender& contender, const Server& server, Score& score) {
    score.days += static_cast<uint32_t>(server.points.size()) / kSamplesADay;
    std::vector<bool> found(server.faults.size());
    bool before = false;
    uint32_t last_on = 0;
    size_t first = 0;
    for (uint32_t now = 0; now < server.points.size(); ++now) {
        const Point& point = server.points[now];
        if (point.restarted) contender.reset();
        const bool on = contender.alarms(point.sample);
        while (first < server.faults.size() && server.faults[first].over <= now) ++first;
        const bool in_fault = first < server.faults.size() && server.faults[first].begins <= now;
        // An alarm begins; within a fault one that goes on from before it does not count.
        const bool is_new = on && !before && (last_on == 0 || now - last_on > kOneAlarm);
        if (on && !before && in_fault && !found[first]) {
            found[first] = true;
            const auto kind = static_cast<size_t>(server.faults[first].kind);
            ++score.found[kind];
            score.delays_s[kind].push_back((now - server.faults[first].begins + 1) *
                                           double{kSampleSeconds});
        } else if (is_new && !in_fault) {
            ++score.false_alarms;
        }
        if (on) last_on = now;
        before = on;
    }
    for (const PlannedFault& fault : server.faults) ++score.faults[static_cast<size_t>(fault.kind)];
}

Score judge_all(const std::vector<Server>& servers, const Make& make) {
    Score score;
    for (const Server& server : servers) judge(*make(), server, score);
    return score;
}

std::vector<Server> simulate_all(uint64_t first_seed, uint32_t servers) {
    std::vector<Server> all;
    for (uint32_t at = 0; at < servers; ++at) all.push_back(simulate(first_seed + at, kDaysEach));
    return all;
}

struct Choice {
    std::string name;
    std::string chosen;  // its parameters, in words
    Make make;
};

// Of several, what has the best F1 on the training servers.
class Best {
  public:
    Best(std::string name, const std::vector<Server>& servers)
        : name_(std::move(name)), servers_(servers) {}
    void offer(const std::string& words, const Make& make) {
        const Score score = judge_all(servers_, make);
        if (score.f1() <= f1_) return;
        f1_ = score.f1();
        choice_ = {name_, words, make};
    }
    const Choice& choice() const {
        std::printf("chosen on training servers: %s, %s (F1 %.3f)\n", name_.c_str(),
                    choice_.chosen.c_str(), f1_);
        std::fflush(stdout);
        return choice_;
    }

  private:
    std::string name_;
    const std::vector<Server>& servers_;
    double f1_ = -1;
    Choice choice_;
};

template <class... Numbers>
std::string words(const char* format, Numbers... numbers) {
    char text[96];
    // NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): the formats are below
    std::snprintf(text, sizeof text, format, numbers...);
    return text;
}

std::vector<Choice> simple_ones(const std::vector<Server>& training) {
    std::vector<Choice> choices;
    Best fixed("fixed threshold", training);
    for (const double counts : {2.0, 3.0, 4.0, 6.0, 10.0})
        for (const double times : {1.3, 1.6, 2.0, 3.0, 6.0, 15.0})
            for (const uint32_t in_a_row : {1u, 2u, 3u})
                fixed.offer(
                    words("counts %g and times %g times the first day's, %u samples", counts, times,
                          in_a_row),
                    [=] { return std::make_unique<FixedThreshold>(counts, times, in_a_row); });
    choices.push_back(fixed.choice());
    choices.push_back({"EWMA", "3 sigma, 1 h, 1 sample: as in textbooks",
                       [] { return std::make_unique<Ewma>(3, 1, 1); }});
    Best ewma("EWMA", training);
    for (const double deviations : {3.0, 4.0, 6.0, 8.0, 12.0, 24.0})
        for (const double hours : {0.25, 1.0, 6.0})
            for (const uint32_t in_a_row : {1u, 2u, 3u})
                ewma.offer(words("%g sigma, %g h, %u samples", deviations, hours, in_a_row),
                           [=] { return std::make_unique<Ewma>(deviations, hours, in_a_row); });
    choices.push_back(ewma.choice());
    return choices;
}

// Of each series, how often an anomaly began in it outside of all faults.
std::array<uint32_t, kAnomalySeries> false_beginnings(const std::vector<Server>& servers) {
    std::array<uint32_t, kAnomalySeries> counts{};
    for (const Server& server : servers) {
        Shipped shipped;
        for (uint32_t now = 0; now < server.points.size(); ++now) {
            if (server.points[now].restarted) shipped.reset();
            static_cast<void>(shipped.alarms(server.points[now].sample));
            const bool in_fault = std::ranges::any_of(server.faults, [&](const auto& fault) {
                return now >= fault.begins && now < fault.over;
            });
            for (size_t series = 0; series < kAnomalySeries; ++series) {
                const auto& state = shipped.detector().state(static_cast<AnomalySeries>(series));
                counts[series] += state.began() && !in_fault ? 1 : 0;
            }
        }
    }
    return counts;
}

// Only to see that the constants of core/anomaly/limits.h are what training servers want.
void check_shipped(const std::vector<Server>& training) {
    Best best("the server's rules, among others", training);
    for (const double allowance : {2.0, 3.0, 4.0, 5.0})
        for (const double threshold : {8.0, 14.0, 24.0}) {
            const DetectorRules rules{allowance, allowance + 1, threshold};
            best.offer(words("allowance %g, threshold %g", allowance, threshold),
                       [=] { return std::make_unique<Shipped>(rules); });
        }
    static_cast<void>(best.choice());
    const Score own = judge_all(training, [] { return std::make_unique<Shipped>(); });
    std::printf("the server's own rules there: F1 %.3f, precision %.3f, recall", own.f1(),
                own.precision());
    for (size_t kind = 0; kind < kFaultKinds; ++kind)
        std::printf(" %.2f", static_cast<double>(own.found[kind]) / std::max(1u, own.faults[kind]));
    std::printf("; false beginnings a day:");
    const auto false_ones = false_beginnings(training);
    for (size_t series = 0; series < kAnomalySeries; ++series)
        std::printf(" %s %.3f", std::string(kAnomalySeriesInfos[series].name).c_str(),
                    static_cast<double>(false_ones[series]) / own.days);
    std::printf("\n");
}

// What the LSTM said of all training servers, one after the other, to try thresholds on.
class Replay final : public Contender {
  public:
    Replay(const std::vector<float>& said, size_t& next, float threshold)
        : said_(said), next_(next), threshold_(threshold) {}
    void reset() override {}
    bool alarms(const AnomalySample&) override { return said_[next_++] > threshold_; }

  private:
    const std::vector<float>& said_;
    size_t& next_;
    float threshold_;
};

LstmWeights train(const std::vector<Server>& training, uint32_t epochs, const std::string& path) {
    std::printf("training an LSTM of %zu units on %zu servers\n", kUnits, training.size());
    LstmWeights weights = train_lstm(training, epochs, kTrainSeed);
    std::vector<float> said;
    for (const Server& server : training) {
        Lstm lstm(weights);
        for (const Point& point : server.points) {
            if (point.restarted) lstm.reset();
            said.push_back(lstm.probability(point.sample));
        }
    }
    Best best("LSTM", training);
    for (const float threshold : {0.3f, 0.5f, 0.7f, 0.8f, 0.9f, 0.95f, 0.98f, 0.99f, 0.995f}) {
        size_t next = 0;
        best.offer(words("alarm above %g", static_cast<double>(threshold)),
                   [&] { return std::make_unique<Replay>(said, next, threshold); });
    }
    weights.threshold = std::stof(best.choice().chosen.substr(sizeof "alarm above"));
    write_weights(weights, path,
                  "of the LSTM in bench/anomaly/lstm.h; made by make anomaly-study ARGS=--train");
    return weights;
}

void print_table(const std::vector<Choice>& choices, const std::vector<Score>& scores) {
    std::printf("\n| | precision | recall | false alarms a day | delay, median |");
    for (const std::string_view name : kFaultNames) std::printf(" %s |", std::string(name).c_str());
    std::printf("\n|---|---|---|---|---|---|---|---|---|\n");
    for (size_t at = 0; at < choices.size(); ++at) {
        const Score& score = scores[at];
        std::printf("| %s (%s) | %.3f | %.3f | %.3f | %.0f s |", choices[at].name.c_str(),
                    choices[at].chosen.c_str(), score.precision(), score.recall(),
                    score.false_a_day(), score.median_delay());
        for (size_t kind = 0; kind < kFaultKinds; ++kind) {
            std::printf(" %.0f %%, %.0f s |",
                        100.0 * score.found[kind] / std::max(1u, score.faults[kind]),
                        Score::median(score.delays_s[kind]));
        }
        std::printf("\n");
    }
}

int run(uint32_t days, const std::string& path, bool trains, uint32_t epochs) {
    const uint32_t servers = std::max(1u, (days + kDaysEach - 1) / kDaysEach);
    std::printf("training: %u servers of %u days, seeds %llu to %llu\n", kTrainServers, kDaysEach,
                static_cast<unsigned long long>(kTrainSeed),
                static_cast<unsigned long long>(kTrainSeed + kTrainServers - 1));
    std::vector<Choice> choices;
    LstmWeights weights;
    {
        const std::vector<Server> training = simulate_all(kTrainSeed, kTrainServers);
        choices = simple_ones(training);
        check_shipped(training);
        weights = trains ? train(training, epochs, path) : read_weights(path);
    }
    choices.push_back({"LSTM",
                       words("16 units, alarm above %g", static_cast<double>(weights.threshold)),
                       [&] { return std::make_unique<Lstm>(weights); }});
    choices.push_back(
        {"robust baseline and CUSUM", "the server's", [] { return std::make_unique<Shipped>(); }});
    std::vector<Score> scores(choices.size());
    for (uint32_t at = 0; at < servers; ++at) {
        const Server server = simulate(kTestSeed + at, kDaysEach);
        for (size_t which = 0; which < choices.size(); ++which)
            judge(*choices[which].make(), server, scores[which]);
    }
    std::printf("test: %u servers of %u days = %u days, seeds %llu to %llu, %u faults (", servers,
                kDaysEach, scores[0].days, static_cast<unsigned long long>(kTestSeed),
                static_cast<unsigned long long>(kTestSeed + servers - 1),
                scores[0].all(scores[0].faults));
    for (size_t kind = 0; kind < kFaultKinds; ++kind)
        std::printf("%s%s %u", kind == 0 ? "" : ", ", std::string(kFaultNames[kind]).c_str(),
                    scores[0].faults[kind]);
    std::printf(")\n");
    print_table(choices, scores);
    return 0;
}

}  // namespace
}  // namespace pulse::study

int main(int argc, char** argv) {
    std::string path = "bench/anomaly/lstm_weights.txt";
    uint32_t days = 1'008, epochs = 8;
    bool trains = false;
    for (int at = 1; at < argc; ++at) {
        const std::string flag = argv[at];
        const bool has_value = at + 1 < argc;
        if (flag == "--train") {
            trains = true;
        } else if (flag == "--weights" && has_value) {
            path = argv[++at];
        } else if (flag == "--days" && has_value) {
            days = static_cast<uint32_t>(std::strtoul(argv[++at], nullptr, 10));
        } else if (flag == "--epochs" && has_value) {
            epochs = static_cast<uint32_t>(std::strtoul(argv[++at], nullptr, 10));
        } else {
            std::fprintf(stderr,
                         "anomaly_study: '%s' is not a flag here; the first lines of "
                         "bench/anomaly/study.cc list them\n",
                         flag.c_str());
            return 2;
        }
    }
    return pulse::study::run(days, path, trains, epochs);
}
