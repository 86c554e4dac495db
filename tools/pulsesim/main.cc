// pulsesim: runs the server's production loop in a simulated kernel and network, one world a seed,
// with faults, and reports which invariants broke.
//
//     pulsesim --seeds 1..10000           a campaign on all cores
//     pulsesim --seed 4711 --trace t.txt  one world again, event by event
//
// Exit codes: 0 every invariant held, 1 one was broken, 2 usage.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

#include "core/units.h"
#include "tools/manual/cli11.h"
#include "tools/pulsesim/campaign.h"

namespace {

using namespace pulse;

struct Flags {
    std::string seed;
    std::string seeds;
    double minutes = 10;
    double hours = 0;
    uint32_t peers = 300;
    std::string faults;
    std::string mutant = "none";
    std::string trace;
    bool json = false;
    bool list_faults = false;
    bool list_mutants = false;
    uint32_t jobs = static_cast<uint32_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
    uint32_t failures_max = 10;
};

bool parse_number(std::string_view text, uint64_t& number) {
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc{} && stop == text.data() + text.size();
}

Result<void> parse_seeds(const Flags& flags, CampaignOptions& options) {
    if (!flags.seed.empty() && !flags.seeds.empty())
        return Error{"--seed and --seeds: contradict each other; leave one out"};
    if (!flags.seed.empty()) {
        if (!parse_number(flags.seed, options.first_seed))
            return Error{"--seed '" + flags.seed + "' is not a number; write for example --seed 7"};
        options.last_seed = options.first_seed;
        return {};
    }
    if (flags.seeds.empty()) return {};
    const size_t dots = flags.seeds.find("..");
    const std::string_view text = flags.seeds;
    const bool good = dots != std::string::npos &&
                      parse_number(text.substr(0, dots), options.first_seed) &&
                      parse_number(text.substr(dots + 2), options.last_seed) &&
                      options.first_seed <= options.last_seed;
    if (!good)
        return Error{"--seeds '" + flags.seeds + "' is not a range; write for example 1..10000"};
    return {};
}

Result<CampaignOptions> parse(const Flags& flags) {
    CampaignOptions options;
    if (Result<void> seeds = parse_seeds(flags, options); !seeds) return Error{seeds.error()};
    if (!flags.faults.empty()) {
        const Result<FaultSet> faults = parse_faults(flags.faults);
        if (!faults) return Error{"--faults " + faults.error()};
        options.simulation.faults = *faults;
    }
    const Result<SimMutant> mutant = parse_mutant(flags.mutant);
    if (!mutant) return Error{"--mutant " + mutant.error()};
    options.simulation.mutant = *mutant;
    const double minutes = flags.minutes + 60 * flags.hours;
    constexpr double kMinutesMax = 60.0 * 24 * 366;
    if (!(minutes > 0 && minutes <= kMinutesMax))
        return Error{"--minutes and --hours must add up to more than 0 and at most a year"};
    options.simulation.duration = static_cast<Nanos>(minutes * 60) * kSecond;
    if (options.simulation.duration == 0)
        return Error{"--minutes must be a second (0.017) at least"};
    options.simulation.peers = flags.peers;
    options.jobs = flags.jobs;
    options.failures_max = flags.failures_max;
    options.trace = flags.trace;
    if (!flags.trace.empty() && options.first_seed != options.last_seed)
        return Error{"--trace writes one world; name it with --seed"};
    return options;
}

// The command that runs a seed again.
std::string replay(const Flags& flags, uint64_t seed) {
    std::string command = fmt::format("build/pulsesim --seed {} --peers {}", seed, flags.peers);
    if (flags.minutes != 10) command += fmt::format(" --minutes {}", flags.minutes);
    if (flags.hours != 0) command += fmt::format(" --hours {}", flags.hours);
    if (!flags.faults.empty()) command += " --faults " + flags.faults;
    if (flags.mutant != "none") command += " --mutant " + flags.mutant;
    return command;
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else {
            out += c;
        }
    }
    return out;
}

void print_json(const Flags& flags, const CampaignResult& result, double wall_s) {
    const SeedResult& total = result.total;
    fmt::print(
        "{{\"seeds\":{},\"failed\":{},\"violations\":{},\"hash\":\"{:016x}\",\"virtual_s\":{},"
        "\"wall_s\":{:.3f},\"turns\":{},\"connections\":{},\"refusals\":{},\"beats\":{},"
        "\"probes\":{},\"evictions\":{},\"judge_lag_max_ms\":{},\"failures\":[",
        result.seeds, result.failed.size(), total.violations, result.hash,
        total.virtual_time / kSecond, wall_s, total.turns, total.connections, total.refusals,
        total.beats, total.probes, total.evictions, total.judge_lag_max / kMillisecond);
    const char* comma = "";
    for (const SeedResult& each : result.failed) {
        fmt::print(
            "{}{{\"seed\":{},\"violations\":{},\"signal\":{},\"hash\":\"{:016x}\","
            "\"faults\":\"{}\",\"words\":\"{}\",\"replay\":\"{}\"}}",
            comma, each.seed, each.violations, each.signal, each.hash, each.faults,
            escaped(each.words), escaped(replay(flags, each.seed)));
        comma = ",";
    }
    fmt::print("]}}\n");
}

void print_text(const Flags& flags, const CampaignResult& result, double wall_s) {
    for (const SeedResult& each : result.failed) {
        if (each.signal != 0) {
            fmt::print("seed {}: the process ended by signal {} (an assertion is printed above)\n",
                       each.seed, each.signal);
        } else {
            fmt::print("seed {}: {} breaches, with {}\n{}", each.seed, each.violations, each.faults,
                       each.words);
        }
        fmt::print("  replay: {}\n", replay(flags, each.seed));
    }
    const SeedResult& total = result.total;
    fmt::print(
        "{} seeds, {} virtual hours in {:.1f} s: {} connections, {} refused, {} beats, {} "
        "probes, {} evictions, {} turns\n",
        result.seeds, total.virtual_time / (3600 * kSecond), wall_s, total.connections,
        total.refusals, total.beats, total.probes, total.evictions, total.turns);
    fmt::print("trace hash {:016x}\n", result.hash);
    if (result.failed.empty()) {
        fmt::print("every invariant held\n");
    } else {
        fmt::print("BROKEN in {} of {} seeds\n", result.failed.size(), result.seeds);
    }
}

int campaign(const Flags& flags, const CampaignOptions& options) {
    const auto began = std::chrono::steady_clock::now();
    const auto elapsed_s = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    };
    const bool terminal = isatty(STDERR_FILENO) == 1;
    const uint64_t seeds = options.last_seed - options.first_seed + 1;
    double printed_s = 0;
    const auto progress = [&](const CampaignResult& result) {
        if (!terminal || elapsed_s() - printed_s < 0.1) return;
        printed_s = elapsed_s();
        fmt::print(stderr, "\r{} of {} seeds, {} broken, {:.0f} s ", result.seeds, seeds,
                   result.failed.size(), printed_s);
    };
    const Result<CampaignResult> result = run_campaign(options, progress);
    if (terminal) fmt::print(stderr, "\r\033[K");
    if (!result) {
        fmt::print(stderr, "pulsesim: {}\n", result.error());
        return 2;
    }
    if (flags.json) {
        print_json(flags, *result, elapsed_s());
    } else {
        print_text(flags, *result, elapsed_s());
    }
    return result->failed.empty() ? 0 : 1;
}

// A result that did not reach its reader is not one.
int printed(int code) {
    if (std::fflush(stdout) == 0) return code;
    std::fputs(
        "pulsesim: stdout cannot be written; give it a file or a pipe that takes the output\n",
        stderr);
    return 2;
}

constexpr const char* kFooter = R"(
Exit codes
  0  every invariant held
  1  an invariant broke, or an assertion failed
  2  the command line is wrong, or the machine gave no process or file

Examples
  pulsesim --seeds 1..10000            a campaign on all cores
  pulsesim --seed 4711 --trace t.txt   one world again, event by event
  pulsesim --seeds 1..40 --mutant stamp_before_pause   a broken rule, which must be found
)";

void add_flags(CLI::App& app, Flags& flags) {
    const auto from_one_to = [](uint32_t most) { return CLI::Range(1u, most).description(""); };
    app.footer(kFooter);
    app.get_formatter()->column_width(26);
    app.add_option("--seed", flags.seed, "one world (default 1)")->type_name("N");
    app.add_option("--seeds", flags.seeds, "a campaign over these worlds")->type_name("A..B");
    app.add_option("--minutes", flags.minutes, "virtual minutes of a world (default 10)")
        ->type_name("N");
    app.add_option("--hours", flags.hours, "virtual hours on top of --minutes (default 0)")
        ->type_name("N");
    app.add_option("--peers", flags.peers, "clients of a world, 1 to 100000 (default 300)")
        ->check(from_one_to(100'000))
        ->type_name("N");
    app.add_option("--faults", flags.faults,
                   "all, none, or names with commas: these and no others (default: by the seed)")
        ->type_name("LIST");
    app.add_flag("--list-faults", flags.list_faults, "print the names of the faults");
    app.add_option("--mutant", flags.mutant, "break a rule on purpose: the judge must find it")
        ->type_name("NAME");
    app.add_flag("--list-mutants", flags.list_mutants, "print the names of the mutants");
    app.add_option("--trace", flags.trace, "write every event of the one world")->type_name("FILE");
    app.add_flag("--json", flags.json, "print one JSON object");
    app.add_option("--jobs", flags.jobs, "processes at once, 1 to 256 (default: one a core)")
        ->check(from_one_to(256))
        ->type_name("N");
    app.add_option("--failures-max", flags.failures_max,
                   "begin no new world after so many broke (default 10)")
        ->check(from_one_to(1'000'000))
        ->type_name("N");
}

}  // namespace

// What escapes cannot be handled here, such as no memory; it ends the program with a
// message. NOLINTNEXTLINE(bugprone-exception-escape)
int main(int count, char** words) {
    std::signal(SIGXFSZ, SIG_IGN);  // a file at its size limit is a failed write, which is reported
    Flags flags;
    CLI::App app(
        "Runs Pulsewheel's production loop in a simulated kernel and network, one world a\n"
        "seed, and reports which invariants broke.",
        "pulsesim");
    manual::add_generate_flag(app);
    add_flags(app, flags);
    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (flags.list_faults) {
        for (const FaultInfo& info : kFaultInfos) fmt::print("{:16} {}\n", info.name, info.text);
        return printed(0);
    }
    if (flags.list_mutants) {
        for (const SimMutantInfo& info : kSimMutantInfos) {
            fmt::print("{:20} {}\n", info.name, info.text);
        }
        return printed(0);
    }
    const Result<CampaignOptions> options = parse(flags);
    if (!options) {
        fmt::print(stderr, "pulsesim: {}\n", options.error());
        return 2;
    }
    return printed(campaign(flags, *options));
}
