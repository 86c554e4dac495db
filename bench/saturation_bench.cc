// What a whole server costs beside the least code that does the same, at loads that it can serve
// and at one that it cannot: one reactor on one core, clients on another, WebSocket connections
// over loopback, of which each sends a masked empty ping when it is due.
//
//     saturation_bench [--rates N,N...] [--contenders NAME,NAME...] [--lives N] [--rounds N]
//                      [--seconds S] [--connections N] [--looks] [--benchmark_out FILE]
//
//   floor, ring_floor             the least code over epoll and over io_uring (floor_epoll.h): one
//                                 receive, one constant answer; the head of an upgrade is read
//   epoll, pulse                  the server over epoll and over io_uring
//   epoll_at_once, pulse_at_once  the same with --gather off
//   NAME_every_K                  any of these, where one heartbeat in K wants an answer: the
//                                 others are unsolicited pongs
//
// At each rate all contenders live at once, with connections of their own, and in each round each
// has its --seconds, in random order. So what the machine does meanwhile meets all of them, and
// ratios are those of one round. Where the sockets of a server happen to lie is worth up to 6 % of
// its time, for its life: so after --rounds all are made anew, in another order, --lives times.
// With --looks a server lives for one round alone, and looks at connections are due all the time,
// so that there is a judge lag to see.
//
// What is printed are medians of the rounds, and of ratios the quartiles, too:
//   us               the server's CPU for a heartbeat that was served: all threads of it
//   to_floor         that by the floor's
//   served_to_floor  what was served by what the floor served
//   to_epoll         of io_uring: by that of the same server over epoll
//   to_at_once       where it gathers: by that of the same server without
//   to_each          of NAME_every_K: by that of NAME
//   offered, served  heartbeats a second
//   wait_us          from a ping to its answer, the mean
//   calls, turns     system calls and turns for a heartbeat
//   gathered         turns a second that rested first
//   open_us          the server's CPU to accept a connection and upgrade it, one at a time
//   open_calls       system calls for that, waits included
//   gap              the longest time between two answers of one connection, in mean gaps: the most
//   lag_ms           the longest judge lag, with --looks
//   overflows        completions that a ring had no room for: all
//   evicted          must be 0
//   client_us        the client's CPU for a heartbeat: where its core is full, less is offered
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "bench/contenders.h"
#include "bench/pinging_client.h"

namespace pulse::bench {
namespace {

constexpr uint16_t kPort = 19'473;
constexpr std::string_view kEvery = "_every_";

struct Options {
    std::vector<uint32_t> rates{1'000, 15'000, 75'000, 150'000};
    std::vector<std::string> contenders;  // by default all
    uint32_t lives = 3;
    uint32_t rounds = 2;
    double seconds = 1;
    uint32_t connections = 15'000;
    bool looks = false;
    std::string out;     // Google Benchmark's JSON, for bench/run.py
    std::string filter;  // rows, as Google Benchmark understands it
};

double quantile(std::vector<double> values, double part) {
    std::sort(values.begin(), values.end());
    const auto last = static_cast<double>(values.size() - 1);
    return values[static_cast<size_t>(std::lround(part * last))];
}
double median(const std::vector<double>& values) { return quantile(values, 0.5); }
double most(const std::vector<double>& values) { return quantile(values, 1); }

// NAME or NAME_every_K.
struct Row {
    std::string name;
    const Contender* contender = nullptr;
    uint32_t answer_every = 1;
    std::map<std::string, std::vector<double>> figures{};  // one of each round

    // The row of `base` with the same suffix.
    std::string twin(std::string_view base) const {
        return base.empty() ? std::string{} : std::string(base) + suffix();
    }
    std::string suffix() const { return name.substr(contender->name.size()); }
};

std::optional<Row> row_of(const std::string& name) {
    Row row{.name = name};
    const size_t at = name.find(kEvery);
    if (at != name.npos) {
        const std::string every = name.substr(at + kEvery.size());
        if (every.size() != 1 || every[0] < '2' || every[0] > '8') return {};
        row.answer_every = static_cast<uint32_t>(every[0] - '0');
    }
    for (const Contender& contender : kContenders)
        if (contender.name == std::string_view(name).substr(0, at)) row.contender = &contender;
    if (row.contender == nullptr) return {};
    return row;
}

// A server and its clients.
class Pair {
  public:
    Pair(const Row& row, const Terms& terms) : connections_(terms.connections) {
        served_ = row.contender->start(terms);
        usleep(50'000);
        threads_.note();
        client_ = std::make_unique<PingingClient>(
            PingingClient::Options{.port = terms.port,
                                   .core = Machine().allowed_cores()[1],
                                   .connections = terms.connections,
                                   .answer_every = row.answer_every,
                                   .server_cpu = [this] { return threads_.cpu(); }});
        open_cpu_ = client_->connect_cpu();
        usleep(20'000);  // until the last turn is counted
        open_calls_ = served_->read().calls;
    }

    void round(uint32_t rate, double seconds, bool looks, Row& row) {
        const Nanos warm_up = looks ? kSecond : 200 * kMillisecond;
        const Reading before = served_->read();
        client_->start_round(rate, warm_up, static_cast<Nanos>(seconds * kSecond));
        Nanos lag = 0;
        for (; looks && !client_->done(); usleep(100'000)) lag = std::max(lag, served_->read().lag);
        const PingingClient::Seen& seen = client_->seen();
        const Reading after = served_->read();
        if (after.lag_max > before.lag_max) lag = after.lag_max;
        const auto served = static_cast<double>(seen.served());
        const double took = static_cast<double>(seen.measured) / kSecond;
        // Counts are of the warming up, too.
        const double all = served * (1 + static_cast<double>(warm_up) / kSecond / took);
        const auto note = [&](const char* figure, double value) {
            row.figures[figure].push_back(value);
        };
        note("us", static_cast<double>(seen.server_cpu) / 1e3 / served);
        note("client_us", static_cast<double>(seen.cpu) / 1e3 / served);
        note("offered", static_cast<double>(seen.sent) / took);
        note("served", served / took);
        const double answered = std::max(1.0, static_cast<double>(seen.answered));
        note("wait_us", static_cast<double>(seen.waited) / 1e3 / answered);
        note("gap",
             static_cast<double>(seen.longest_gap) / kSecond / (connections_ * took) * answered);
        note("calls", static_cast<double>(after.calls - before.calls) / all);
        note("turns", static_cast<double>(after.turns - before.turns) / all);
        note("gathered", static_cast<double>(after.turns_gathered - before.turns_gathered) / took);
        note("open_us", static_cast<double>(open_cpu_) / 1e3);
        note("open_calls", static_cast<double>(open_calls_) / connections_);
        note("lag_ms", static_cast<double>(lag) / kMillisecond);
        note("overflows", static_cast<double>(after.overflows - before.overflows));
        note("evicted", static_cast<double>(after.evicted));
    }

  private:
    const uint32_t connections_;
    ThreadsSince threads_;
    std::unique_ptr<Served> served_;
    std::unique_ptr<PingingClient> client_;
    Nanos open_cpu_ = 0;
    uint64_t open_calls_ = 0;
};

// The rounds of one rate.
void measure(const Options& options, uint32_t rate, std::vector<Row>& rows) {
    std::mt19937 random(std::random_device{}());
    std::vector<std::unique_ptr<Pair>> pairs(rows.size());
    const auto begin = [&](size_t i) {
        pairs[i] = std::make_unique<Pair>(rows[i], Terms{.port = static_cast<uint16_t>(kPort + i),
                                                         .connections = options.connections,
                                                         .rate = rate,
                                                         .looks = options.looks});
    };
    std::vector<size_t> order(rows.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    for (uint32_t round = 0; round < options.rounds * options.lives; ++round) {
        std::shuffle(order.begin(), order.end(), random);
        if (round % options.rounds == 0 && !options.looks) {
            for (std::unique_ptr<Pair>& pair : pairs) pair.reset();
            for (const size_t i : order) begin(i);
            std::shuffle(order.begin(), order.end(), random);
        }
        for (const size_t i : order) {
            if (options.looks) begin(i);
            pairs[i]->round(rate, options.seconds, options.looks, rows[i]);
            if (options.looks) pairs[i].reset();
        }
    }
}

// Of each round the ratio of a row's CPU to that of another row, if there is one.
void compare(std::vector<Row>& rows) {
    const auto by = [&](Row& row, const char* figure, const std::string& other,
                        const char* of = "us") {
        for (const Row& base : rows) {
            if (base.name != other) continue;
            for (size_t i = 0; i < row.figures[of].size(); ++i)
                row.figures[figure].push_back(row.figures[of][i] / base.figures.at(of)[i]);
        }
    };
    for (Row& row : rows) {
        by(row, "to_floor", row.twin("floor"));
        by(row, "served_to_floor", row.twin("floor"), "served");
        by(row, "to_epoll", row.twin(row.contender->epoll));
        by(row, "to_at_once", row.twin(row.contender->at_once));
        if (row.answer_every > 1) by(row, "to_each", std::string(row.contender->name));
    }
}

constexpr const char* kRatios[] = {"to_floor", "served_to_floor", "to_epoll", "to_at_once",
                                   "to_each"};
constexpr const char* kMedians[] = {"offered",  "served",  "wait_us",    "calls",    "turns",
                                    "gathered", "open_us", "open_calls", "client_us"};
constexpr const char* kMost[] = {"gap", "lag_ms", "overflows", "evicted"};

void print(const Options& options, uint32_t rate, const std::vector<Row>& rows) {
    std::printf("\n%u/s, %u connections, %u lives of %u rounds of %g s, medians", rate,
                options.connections, options.lives, options.rounds, options.seconds);
    std::printf(" (us: least-most; ratios: quartiles)%s\n",
                options.looks ? "; looks always due, servers one at a time" : "");
    std::printf("%-22s %21s", "", "us");
    for (const char* figure : kRatios) std::printf(" %19s", figure);
    for (const char* figure : kMedians) std::printf(" %10s", figure);
    for (const char* figure : kMost) std::printf(" %9s", figure);
    std::printf("\n");
    for (const Row& row : rows) {
        const std::vector<double>& us = row.figures.at("us");
        std::printf("%-22s %7.2f (%5.2f-%5.2f)", row.name.c_str(), median(us), quantile(us, 0),
                    most(us));
        for (const char* figure : kRatios) {
            const auto found = row.figures.find(figure);
            if (found == row.figures.end()) {
                std::printf(" %19s", "-");
            } else {
                std::printf("  %5.3f (%4.2f-%4.2f)", median(found->second),
                            quantile(found->second, 0.25), quantile(found->second, 0.75));
            }
        }
        for (const char* figure : kMedians)
            std::printf(" %10.*f", median(row.figures.at(figure)) < 1e3 ? 2 : 0,
                        median(row.figures.at(figure)));
        for (const char* figure : kMost) std::printf(" %9.1f", most(row.figures.at(figure)));
        std::printf("\n");
    }
    std::fflush(stdout);
}

// As Google Benchmark writes it, one aggregate a row.
void write_rows(std::FILE* file, bool& is_first, const Options& options, uint32_t rate,
                const std::vector<Row>& rows) {
    for (const Row& row : rows) {
        const std::string name =
            std::to_string(rate) + "/" + std::to_string(options.connections) + "/" + row.name;
        const double us = median(row.figures.at("us"));
        std::fprintf(file,
                     "%s\n{\"name\": \"%s_median\", \"run_name\": \"%s\", "
                     "\"aggregate_name\": \"median\", \"real_time\": %g, \"cpu_time\": %g, "
                     "\"time_unit\": \"us\", \"spread\": %g",
                     is_first ? "" : ",", name.c_str(), name.c_str(), us, us,
                     (most(row.figures.at("us")) - quantile(row.figures.at("us"), 0)) / us);
        is_first = false;
        for (const char* figure : kRatios) {
            if (const auto found = row.figures.find(figure); found != row.figures.end())
                std::fprintf(file, ", \"%s\": %g", figure, median(found->second));
        }
        for (const char* figure : kMedians)
            std::fprintf(file, ", \"%s\": %g", figure, median(row.figures.at(figure)));
        for (const char* figure : kMost)
            std::fprintf(file, ", \"%s\": %g", figure, most(row.figures.at(figure)));
        std::fprintf(file, "}");
    }
}

int run(const Options& options, const std::vector<Row>& wanted) {
    std::FILE* const file = options.out.empty() ? nullptr : std::fopen(options.out.c_str(), "w");
    if (!options.out.empty() && file == nullptr) {
        std::fprintf(stderr, "--benchmark_out %s: cannot be written; give another file\n",
                     options.out.c_str());
        return 1;
    }
    if (file != nullptr) std::fprintf(file, "{\"context\": {}, \"benchmarks\": [");
    bool is_first = true;
    for (const uint32_t rate : options.rates) {
        std::vector<Row> rows;
        for (const Row& row : wanted) {
            const std::string name =
                std::to_string(rate) + "/" + std::to_string(options.connections) + "/" + row.name;
            if (std::regex_search(name, std::regex(options.filter))) rows.push_back(row);
        }
        if (rows.empty()) continue;
        measure(options, rate, rows);
        compare(rows);
        print(options, rate, rows);
        if (file != nullptr) write_rows(file, is_first, options, rate, rows);
    }
    if (file == nullptr) return 0;
    std::fprintf(file, "\n]}\n");
    return std::fclose(file) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace pulse::bench

int main(int argc, char** argv) {
    using namespace pulse::bench;
    Options options;
    CLI::App app("What a whole server costs beside the least code that does the same");
    const auto count = [&](const char* flag, auto& value, unsigned most, const char* what) {
        return app.add_option(flag, value, what)->check(CLI::Range(1u, most));
    };
    count("--rates", options.rates, 10'000'000, "heartbeats offered a second")->delimiter(',');
    app.add_option("--contenders", options.contenders, "by default all that bench/contenders.h has")
        ->delimiter(',');
    count("--lives", options.lives, 100, "of each contender: servers made anew, in another order");
    count("--rounds", options.rounds, 1'000, "in a life");
    app.add_option("--seconds", options.seconds, "of a contender in a round")
        ->check(CLI::Range(0.1, 3600.0));
    count("--connections", options.connections, 1'000'000, "of each contender");
    app.add_flag("--looks", options.looks, "looks are always due; servers one at a time");
    app.add_option("--benchmark_out", options.out, "JSON for bench/run.py");
    app.add_option("--benchmark_filter", options.filter, "only rows rate/connections/contender");
    std::string format;
    app.add_option("--benchmark_out_format", format)->check(CLI::IsMember({"json"}));
    CLI11_PARSE(app, argc, argv);
    if (options.contenders.empty()) {
        for (const Contender& contender : kContenders)
            options.contenders.emplace_back(contender.name);
    }
    std::vector<Row> rows;
    for (const std::string& name : options.contenders) {
        const std::optional<Row> row = row_of(name);
        if (!row) {
            std::fprintf(stderr,
                         "--contenders %s: is not a contender; bench/contenders.h has them\n",
                         name.c_str());
            return 2;
        }
        rows.push_back(*row);
    }
    pulse::raise_descriptor_limit();
    return run(options, rows);
}
