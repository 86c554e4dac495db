// Flags, what each takes, and what must hold between them.
#include "tools/pulseload/options.h"

#include <arpa/inet.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <iostream>

#include "core/limits.h"
#include "core/units.h"
#include "core/version.h"
#include "tools/manual/cli11.h"
#include "tools/pulseload/options_check.h"
#include "tools/pulseload/report/text_file.h"

namespace pulse::load {
namespace {

constexpr uint64_t kRepeatMax = 1'000;
constexpr std::string_view kFooter = R"(
Targets (--target)
  ws://HOST:PORT/PATH?QUERY       any WebSocket server: a name, an address, [::1]
  unix:/SOCKET, unix:/SOCKET:/PATH  the same through a Unix socket
  auto:// tcp:// jsonl://HOST:PORT  Pulsewheel, by --mix or with one protocol
  wss://HOST:PORT/PATH?QUERY      as ws://, over TLS; before other schemes: tls+tcp://HOST:PORT

Behaviours (--behaviour beat=90,mute=10)
  beat             pings every interval, answers the server's probes
  idle             answers probes, nothing else
  mute             reads, but sends nothing: the server must evict it
  vanish           neither reads nor writes nor closes (half-open): the server must evict it
  slow-reader      asks for more than it reads
  flapper          closes and comes back, again and again (--flap-interval)
  chatty           beats, and sends --message-rate
  slowloris        sends a greeting a byte a second, never to its end
  garbage          sends what no protocol allows
  duplicate-login  beats, under a user name that another has, too

Paces (--connect-rate, --message-rate)
  20000/s   ramp:0/s..20000/s@30s   step:1000/s..10000/s@10s/5   poisson:500/s

Storms (--storm, counted from the beginning of the hold)
  kill=50%@30s,reconnect=full-jitter   silence=100000@1m   vanish=10%@30s
  reconnect, and --reconnect: none (at once), fixed, exponential, full-jitter, never, or hint (when
  the server's goodbye proposes)

Exit codes
  0  the run is valid, and every objective was met
  1  could not run: nothing connected, or a file could not be written
  2  the command line is wrong
  3  INVALID: the generator was the bottleneck or did not run for a while
  4  an objective (--slo, --find-max) was missed
  5  INCOMPLETE: cut short, the target went away, or fewer were held than asked for

Examples
  pulseload --connections 100000 --connect-rate 20000/s --duration 2m
  pulseload --target auto://127.0.0.1:9000 --mix ws=70,jsonl=20,tcp=10 --report run.html
  pulseload --behaviour beat=90,mute=10 --slo 'p99<10ms,false-evictions=0,missed-evictions=0'
  pulseload --repeat 5 --target ws://127.0.0.1:9000 --target ws://127.0.0.1:9001 --report ab.html
  pulseload --find-max 'rtt.p99<10ms,refused=0' --connections 200k --report most.html
)";

// A CLI11 check that stores what `parse` made of the text.
template <class T, class Parse>
CLI::Validator stores(T& field, Parse parse) {
    return CLI::Validator(
        [&field, parse](const std::string& text) -> std::string {
            auto parsed = parse(std::string_view(text));
            if (!parsed) return parsed.error();
            field = *std::move(parsed);
            return {};
        },
        "");
}

// "127.0.0.2-127.0.0.60", or one address.
Result<SourceRange> parse_sources(std::string_view text) {
    const size_t dash = text.find('-');
    const std::string first(text.substr(0, dash));
    const std::string last(dash == text.npos ? first : text.substr(dash + 1));
    in_addr from{};
    in_addr to{};
    if (inet_pton(AF_INET, first.c_str(), &from) != 1 ||
        inet_pton(AF_INET, last.c_str(), &to) != 1) {
        return Error{"'" + std::string(text) +
                     "' is not a range of IPv4 addresses; write 127.0.0.2-127.0.0.60"};
    }
    const SourceRange range{ntohl(from.s_addr), ntohl(to.s_addr)};
    if (range.last < range.first || range.last - range.first >= 65'536) {
        return Error{"'" + std::string(text) + "' holds no address or over 65,536 of them"};
    }
    return range;
}

// Whether it is frozen.
Result<bool> parse_tls_idle(std::string_view text) {
    if (text == "frozen" || text == "openssl") return text == "frozen";
    return wrong_text(text, "is neither openssl nor frozen", "write one of them");
}

class Reader {
  public:
    explicit Reader(LoadOptions& options) : options_(options) {
        app_.get_formatter()->column_width(34);
        app_.footer(std::string(kFooter));
        app_.set_version_flag("--version", "pulseload " + std::string(kVersion));
        manual::add_generate_flag(app_);
        connecting();
        tls();
        load();
        faults();
        reports();
    }

    std::optional<int> parse(int argc, const char* const* argv) {
        try {
            app_.parse(argc, argv);
        } catch (const CLI::ParseError& error) {
            if (app_.exit(error) != 0) return 2;
            if (std::cout.flush()) return 0;
            print_error("stdout cannot be written; give it a file or a pipe that takes the output");
            return 1;
        }
        const std::string wrong = check();
        if (wrong.empty()) return std::nullopt;
        print_error(wrong);
        return 2;
    }

  private:
    template <class Validator>
    void text(const char* flag, const char* shape, const char* help, Validator validator,
              const char* group) {
        texts_.push_back(std::make_unique<std::string>());
        app_.add_option(flag, *texts_.back(), help)
            ->check(std::move(validator))
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
            ->group(group)
            ->type_name(shape);
    }
    // A flag that may be repeated.
    template <class T, class Parse>
    void list(const char* flag, const char* shape, const char* help, std::vector<T>& values,
              Parse parse_one, const char* group) {
        app_.add_option_function<std::vector<std::string>>(
                flag, [](const auto&) {}, help)
            ->check(CLI::Validator(
                [&values, parse_one](const std::string& given) -> std::string {
                    auto parsed = parse_one(given);
                    if (!parsed) return parsed.error();
                    values.push_back(*std::move(parsed));
                    return {};
                },
                ""))
            ->group(group)
            ->type_name(shape);
    }
    void duration(const char* flag, Nanos& field, const char* help, const char* group) {
        text(flag, "TIME", help, stores(field, parse_duration), group);
    }
    template <class T>
    void value(const char* flag, const char* shape, T& field, const char* help, const char* group) {
        app_.add_option(flag, field, help)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
            ->group(group)
            ->type_name(shape);
    }

    void connecting() {
        const char* group = "Connecting";
        list("--target", "URI",
             "where to connect, see below; repeatable (default ws://127.0.0.1:9000)",
             options_.targets, parse_target, group);
        list("--header", "HEADER", "'Name: value' to send in WebSocket handshakes; repeatable",
             options_.headers, parse_header, group);
        text("--subprotocol", "NAME", "offered in WebSocket handshakes (default none)",
             stores(options_.subprotocol, parse_subprotocol), group);
        text("--connections,-n", "N", "connections to hold (default 1000)",
             stores(connections_, parse_count), group);
        text("--connect-rate", "PACE", "when to begin each connect (default: as fast as possible)",
             stores(options_.connect_rate, parse_pace), group);
        duration("--connect-timeout", options_.connect_timeout,
                 "a connect that takes longer fails (default 30s)", group);
        value("--connecting-max", "N", options_.connecting_max,
              "connects in progress at once, a thread (default 1024)", group);
        text("--source-ips", "A-B", "addresses to connect from (default: chosen, on loopback)",
             stores(options_.sources, parse_sources), group);
        value("--threads", "N", options_.threads, "fewest threads (default: as descriptors demand)",
              group);
        app_.add_flag("--tcp-only", options_.tcp_only,
                      "send nothing: a connection is open once TCP is")
            ->group(group);
    }
    void tls() {
        const char* group = "TLS";
        app_.add_flag("--tls-verify", options_.tls_verify,
                      "refuse certificates that are not trusted, or of another name (default: "
                      "none is looked at, as in h2load and wrk)")
            ->group(group);
        value("--tls-ca", "FILE", options_.tls_authorities,
              "authorities to trust, in PEM (implies --tls-verify; default: the system's)", group);
        value("--tls-server-name", "NAME", options_.tls_server_name,
              "ask for this name, and verify it (default: the target's)", group);
        text("--tls-idle", "openssl|frozen",
             "what a client keeps behind its handshake: OpenSSL's object, or its keys alone "
             "(default openssl)",
             stores(options_.tls_frozen, parse_tls_idle), group);
        text("--tls-resume", "PERCENT",
             "of the handshakes that offer a session of one before (default 0)",
             stores(tls_resume_, parse_count), group);
        value("--tls-handshakes", "N", options_.tls_handshakes_max,
              "connects over TLS in progress at once, one a thread at least (default 1024)", group);
    }
    void load() {
        const char* group = "Load";
        duration("--duration,-d", options_.duration,
                 "length of the hold, once all are open (default 20s)", group);
        duration("--heartbeat-interval", options_.heartbeat_interval,
                 "between the pings of one client; 0: none (default 10s)", group);
        text("--mix", "WEIGHTS", "protocols: ws, ws-json, jsonl, tcp (default: the target's)",
             stores(options_.mix, parse_mix), group);
        text("--behaviour", "WEIGHTS", "kinds of clients, see below (default beat=1)",
             stores(options_.behaviours, parse_behaviours), group);
        text("--message-rate", "PACE", "echoed messages, of all clients together",
             stores(options_.message_rate, parse_pace), group);
        text("--message-bytes", "SIZE", "size of each message (default 128)",
             stores(options_.message_bytes, parse_size), group);
        app_.add_flag("--hello", options_.hello, "every client sends a hello")->group(group);
        app_.add_flag("--no-hello", options_.no_hello,
                      "no client sends a hello (default if the target is not Pulsewheel)")
            ->group(group);
        value("--answer-every", "K", options_.answer_every,
              "ask for an answer to every K-th heartbeat, 1 to 8 (default 1)", group);
        value("--users", "N", options_.users,
              "every client logs in, as one of N users in turn, with labels (implies --hello)",
              group);
        value("--devices", "N", options_.devices,
              "devices that each of --users has in turn (default 1)", group);
        value("--profile", "NAME", options_.profile, "heartbeat profile that hellos ask for",
              group);
        duration("--flap-interval", options_.flap_interval,
                 "mean time that a flapper stays (default 5s)", group);
        value("--seed", "N", options_.seed, "seed of all random draws (default 1)", group);
    }
    void faults() {
        const char* group = "Faults and storms";
        list("--storm", "STORM", "what happens to many at once, see below; repeatable",
             options_.storms, parse_storm, group);
        duration("--expect-timeout", options_.expect_timeout,
                 "the target's heartbeat timeout (default: as it announces)", group);
        duration("--tolerance", options_.tolerance,
                 "an eviction later than this is missed (default 1s)", group);
        text("--reconnect", "HOW", "when clients that the target closed come back (default never)",
             stores(options_.reconnect, parse_reconnect), group);
        duration("--reconnect-base", options_.reconnect_base,
                 "first wait before a reconnect (default 1s)", group);
        duration("--reconnect-cap", options_.reconnect_cap,
                 "longest wait before a reconnect (default 30s)", group);
    }
    void reports() {
        const char* group = "Reports";
        value("--report", "FILE", options_.report_file, "write an HTML page with the run's plots",
              group);
        value("--json", "FILE", options_.json_file, "write everything as JSON; - is stdout", group);
        value("--csv", "FILE", options_.csv_file, "write a CSV row a second", group);
        value("--hlog", "FILE", options_.hlog_file, "write an HdrHistogram interval log", group);
        value("--server-pid", "PID", options_.server_pid, "measure CPU and memory of this process",
              group);
        value("--server-stats", "FILE", options_.server_stats_file,
              "the server's --stats-json file: closes as it counts them", group);
        value("--slo", "LIST", options_.slo,
              "objectives, as p99<10ms,false-evictions=0; exit code 4 if missed", group);
        text("--repeat", "N", "number of runs, to report medians; several targets take turns",
             stores(repeat_, parse_count), group);
        value("--find-max", "OBJECTIVE", options_.find_max,
              "search for the most connections, up to --connections, that meet it", group);
        app_.add_flag("--find-rate", options_.find_rate,
                      "let --find-max search for a message rate, up to --message-rate")
            ->group(group);
        app_.add_flag("--quiet,-q", options_.quiet, "print no progress and no summary")
            ->group(group);
        app_.add_flag("--progress", options_.progress,
                      "show progress even if stderr is not a terminal")
            ->group(group);
    }

    std::string check() {
        if (options_.targets.empty()) {
            options_.targets.push_back(*parse_target("ws://127.0.0.1:9000"));
        }
        if (connections_ == 0 || connections_ > kConnectionsPerReactorMax) {
            return "--connections " + std::to_string(connections_) + ": must be from 1 to " +
                   std::to_string(kConnectionsPerReactorMax);
        }
        options_.connections = static_cast<uint32_t>(connections_);
        if (tls_resume_ > 100) {
            return "--tls-resume " + std::to_string(tls_resume_) +
                   ": must be from 0 to 100 (percent); give another number";
        }
        options_.tls_resume = static_cast<uint32_t>(tls_resume_);
        options_.tls_verify = options_.tls_verify || !options_.tls_authorities.empty();
        // What --find-max searches in is all there is, where no ceiling is given.
        if (!options_.find_max.empty() && !options_.find_rate && app_.count("--connections") == 0)
            options_.connections = kConnectionsPerReactorMax;
        if (app_.count("--repeat") > 0 && (repeat_ == 0 || repeat_ > kRepeatMax)) {
            return "--repeat " + std::to_string(repeat_) + ": must be from 1 to " +
                   std::to_string(kRepeatMax) + "; give another number";
        }
        options_.repeat = static_cast<uint32_t>(repeat_);
        return find_contradiction(
            options_, [this](std::string_view flag) { return app_.count(std::string(flag)) > 0; });
    }

    LoadOptions& options_;
    CLI::App app_{
        "Holds very many connections to a heartbeat server, beats on each of them, makes some\n"
        "fall silent, and reports how the server answered, which it evicted, and whether the\n"
        "run is valid.",
        "pulseload"};
    uint64_t connections_ = 1'000;
    uint64_t repeat_ = 0;
    uint64_t tls_resume_ = 0;
    std::vector<std::unique_ptr<std::string>>
        texts_;  // CLI11 stores the text here, and its check the value
};

}  // namespace

std::optional<LoadOptions> parse_options(int argc, const char* const* argv, int& exit_code) {
    LoadOptions options;
    Reader reader(options);
    if (const std::optional<int> code = reader.parse(argc, argv)) {
        exit_code = *code;
        return std::nullopt;
    }
    return options;
}

}  // namespace pulse::load
