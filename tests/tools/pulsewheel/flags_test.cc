// The server's flags: what each layer may say, which layer wins, that every setting survives a
// round trip through the config file, and that every error names the setting and a remedy.
#include "tools/pulsewheel/flags.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>

#include "core/version.h"
#include "net/io/limits.h"
#include "net/io/sockets.h"
#include "net/protocols/listen_uri.h"
#include "net/protocols/protocol.h"
#include "tools/pulsewheel/settings.h"

#include "tests/tools/pulsewheel/other_values.h"

namespace pulse::serve {
namespace {

using Variables = std::map<std::string, std::string>;

Result<Invocation> read(std::vector<const char*> arguments, const Variables& variables = {}) {
    return read_invocation(arguments, [&](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
    });
}
ServerOptions options_of(std::vector<const char*> arguments, const Variables& variables = {}) {
    const Result<Invocation> invocation = read(std::move(arguments), variables);
    EXPECT_TRUE(invocation) << invocation.error();
    EXPECT_EQ(invocation->action, Action::serve);
    return invocation ? invocation->options : ServerOptions{};
}

class ConfigFile {
  public:
    explicit ConfigFile(const std::string& text) {
        const int descriptor = mkstemp(path_);
        EXPECT_GE(descriptor, 0);
        close(descriptor);
        std::ofstream(path_) << text;
    }
    ~ConfigFile() { unlink(path_); }
    const char* path() const { return path_; }

  private:
    char path_[32] = "/tmp/pulsewheel_test_XXXXXX";
};

void expect_error(const Result<Invocation>& invocation, const std::vector<std::string>& parts) {
    ASSERT_FALSE(invocation) << "accepted";
    for (const std::string& part : parts)
        EXPECT_NE(invocation.error().find(part), std::string::npos) << "no '" << part << "' in:\n"
                                                                    << invocation.error();
}

TEST(Flags, NothingGivenMeansTheDefaults) {
    const ServerOptions options = options_of({});
    ASSERT_EQ(options.listen.size(), 1u);
    EXPECT_EQ(options.listen[0].address.text(), "127.0.0.1:9000");
    EXPECT_EQ(kProtocols[options.listen[0].protocol], &undetected_protocol);
    EXPECT_EQ(options.max_connections, 100'000u);
    EXPECT_EQ(options.heartbeat_interval, 30 * kSecond);
    EXPECT_EQ(options.heartbeat_timeout, 90 * kSecond);
    EXPECT_EQ(options.tcp_keepalive, kByHeartbeat);
    EXPECT_EQ(options.tcp_user_timeout, kByHeartbeat);
    EXPECT_EQ(options.reactors, 0u);
    EXPECT_EQ(options.backend, BackendChoice::automatic);
    EXPECT_FALSE(options.pin);
}

TEST(Flags, WhereAndHowToServe) {
    const ServerOptions options = options_of({"--listen",
                                              "tcp://127.0.0.1:9001",
                                              "--listen=ws://[::1]:9002",
                                              "--max-connections",
                                              "1M",
                                              "--accept-rate",
                                              "5k/s",
                                              "--handshake-timeout",
                                              "3s",
                                              "--tcp-keepalive",
                                              "1m",
                                              "--tcp-user-timeout",
                                              "45s",
                                              "--backend",
                                              "epoll",
                                              "--reactors",
                                              "3",
                                              "--pin",
                                              "--drain-timeout",
                                              "0s"});
    ASSERT_EQ(options.listen.size(), 2u);
    EXPECT_EQ(kProtocols[options.listen[0].protocol], &binary_protocol);
    EXPECT_EQ(kProtocols[options.listen[1].protocol], &websocket_protocol);
    EXPECT_EQ(options.max_connections, 1'000'000u);
    EXPECT_EQ(options.accept_rate, (RateLimit{5'000}));
    EXPECT_EQ(options.handshake_timeout, 3 * kSecond);
    EXPECT_EQ(options.tcp_keepalive, 60 * kSecond);
    EXPECT_EQ(options.tcp_user_timeout, 45 * kSecond);
    EXPECT_EQ(options.backend, BackendChoice::epoll);
    EXPECT_EQ(options.reactors, 3u);
    EXPECT_TRUE(options.pin);
    EXPECT_EQ(options.drain_timeout, 0);
}

TEST(Flags, HeartbeatsMessagesAndFigures) {
    const ServerOptions options = options_of({"--heartbeat-profile",
                                              "mobile",
                                              "--heartbeat-interval",
                                              "5s",
                                              "--heartbeat-timeout",
                                              "12s",
                                              "--heartbeat-probe",
                                              "off",
                                              "--liveness",
                                              "roundtrip",
                                              "--tick",
                                              "1ms",
                                              "--on-message",
                                              "echo",
                                              "--max-message-bytes",
                                              "64KiB",
                                              "--send-queue-bytes",
                                              "1MiB",
                                              "--buffer-bytes",
                                              "4MiB",
                                              "--ws-deflate",
                                              "on",
                                              "--ws-origin",
                                              "https://a.example",
                                              "--log-level",
                                              "debug",
                                              "--log-format",
                                              "json",
                                              "--stats-interval",
                                              "1s",
                                              "--stats-json",
                                              "out.json"});
    EXPECT_EQ(kNamedProfiles[options.heartbeat_profile].name, "mobile");
    EXPECT_EQ(options.heartbeat_interval, 5 * kSecond);
    EXPECT_EQ(options.heartbeat_timeout, 12 * kSecond);
    EXPECT_FALSE(options.heartbeat_probe);
    EXPECT_EQ(options.liveness, Liveness::roundtrip);
    EXPECT_EQ(options.tick_shift, 20u);
    EXPECT_EQ(options.on_message, OnMessage::echo);
    EXPECT_EQ(options.max_message_bytes, 65'536u);
    EXPECT_EQ(options.send_queue_bytes, 1'048'576u);
    EXPECT_EQ(options.buffer_bytes, 4u << 20);
    EXPECT_TRUE(options.ws_deflate);
    EXPECT_EQ(options.ws_origins, std::vector<std::string>{"https://a.example"});
    EXPECT_EQ(options.log_level, LogLevel::debug);
    EXPECT_EQ(options.log_format, LogFormat::json);
    EXPECT_EQ(options.stats_interval, kSecond);
    EXPECT_EQ(options.stats_json, "out.json");
}

std::vector<std::string> value_of(const Setting& setting, const ServerOptions& options) {
    return setting.get(options);
}

// A setting that is left out of the table above would not be tested: that is a failure.
TEST(Flags, EverySettingGoesThroughFlagVariableAndFile) {
    const ServerOptions defaults = options_of({});
    for (const Setting& setting : settings()) {
        SCOPED_TRACE(setting.name);
        ASSERT_TRUE(kOther.contains(setting.name)) << "give it a value in kOther";
        const std::string value = kOther.at(setting.name);
        std::string variable = "PULSEWHEEL_";
        for (const char c : setting.name)
            variable += c == '-' ? '_' : static_cast<char>(std::toupper(c));

        const std::string flag = "--" + std::string(setting.name) + "=" + value;
        const std::vector<const char*> beside = needed_beside(setting.name);
        std::vector<const char*> flags = beside;
        flags.push_back(flag.c_str());
        const ServerOptions by_flag = options_of(flags);
        const ServerOptions by_variable = options_of(beside, {{variable, value}});
        EXPECT_EQ(value_of(setting, by_flag), std::vector<std::string>{value});
        EXPECT_EQ(value_of(setting, by_variable), std::vector<std::string>{value});
        EXPECT_NE(value_of(setting, defaults), std::vector<std::string>{value}) << "is the default";

        const ConfigFile file(to_toml(by_flag));
        const ServerOptions by_file = options_of({"--config", file.path()});
        EXPECT_EQ(to_toml(by_file), to_toml(by_flag));
    }
}

TEST(Flags, ProxySourcesAreABlockEachInEveryLayer) {
    const auto texts = [](const ServerOptions& options) {
        return find_setting("proxy-trusted")->get(options);
    };
    using Texts = std::vector<std::string>;
    EXPECT_EQ(texts(options_of({})), (Texts{"127.0.0.0/8", "::1/128"}));
    EXPECT_EQ(texts(options_of(
                  {"--proxy-trusted", "10.0.0.0/8,fd00::/8", "--proxy-trusted", "192.0.2.7"})),
              (Texts{"10.0.0.0/8", "fd00::/8", "192.0.2.7/32"}));
    const ConfigFile file("proxy-trusted = [\"10.1.0.0/16\", \"::/0\"]\n");
    EXPECT_EQ(texts(options_of({"--config", file.path()})), (Texts{"10.1.0.0/16", "::/0"}));
    EXPECT_EQ(texts(options_of({"--config", file.path()},
                               {{"PULSEWHEEL_PROXY_TRUSTED", "192.0.2.1,192.0.2.2/31"}})),
              (Texts{"192.0.2.1/32", "192.0.2.2/31"}));
    expect_error(read({"--proxy-trusted", "balancer.example"}),
                 {"--proxy-trusted: 'balancer.example'", "is not an address", "10.0.0.0/8"});
    expect_error(read({"--proxy-trusted", "10.0.0.1/8"}), {"'10.0.0.1/8'", "as zeros"});
    const ConfigFile no_range("proxy-trusted = []\nlisten = \"tcp://*:1?proxy=on\"\n");
    expect_error(read({"--config", no_range.path()}),
                 {":1: proxy-trusted: no address is trusted", "'tcp://*:1?proxy=on'", "balancer"});
}

TEST(Flags, VariablesOverrideTheFileAndFlagsOverrideBoth) {
    const ConfigFile file(
        "max-connections = 1\nheartbeat-interval = \"1s\"\nlog-level = \"debug\"\n");
    const Variables variables = {{"PULSEWHEEL_CONFIG", file.path()},
                                 {"PULSEWHEEL_MAX_CONNECTIONS", "2"},
                                 {"PULSEWHEEL_HEARTBEAT_INTERVAL", "2s"}};
    const ServerOptions options = options_of({"--max-connections", "3"}, variables);
    EXPECT_EQ(options.max_connections, 3u);
    EXPECT_EQ(options.heartbeat_interval, 2 * kSecond);
    EXPECT_EQ(options.log_level, LogLevel::debug);
}

TEST(Flags, AListIsReplacedByTheStrongerLayer) {
    const ConfigFile file("listen = [\"tcp://127.0.0.1:1\", \"tcp://127.0.0.1:2\"]\n");
    EXPECT_EQ(options_of({"--config", file.path()}).listen.size(), 2u);
    const Variables variables = {{"PULSEWHEEL_LISTEN", "tcp://127.0.0.1:3,tcp://127.0.0.1:4"}};
    const ServerOptions by_variable = options_of({"--config", file.path()}, variables);
    ASSERT_EQ(by_variable.listen.size(), 2u);
    EXPECT_EQ(by_variable.listen[0].address.port(), 3);
    const ServerOptions by_flag =
        options_of({"--config", file.path(), "--listen", "tcp://127.0.0.1:5"}, variables);
    ASSERT_EQ(by_flag.listen.size(), 1u);
    EXPECT_EQ(by_flag.listen[0].address.port(), 5);
}

TEST(Flags, TheLastOfARepeatedFlagCounts) {
    EXPECT_EQ(options_of({"--reactors", "2", "--reactors", "4"}).reactors, 4u);
}

TEST(Flags, ASwitchCanBeTurnedOffAgain) {
    const ConfigFile file("pin = true\n");
    EXPECT_TRUE(options_of({"--config", file.path()}).pin);
    EXPECT_FALSE(options_of({"--config", file.path(), "--pin=off"}).pin);
    EXPECT_FALSE(options_of({"--config", file.path()}, {{"PULSEWHEEL_PIN", "0"}}).pin);
    EXPECT_TRUE(options_of({}, {{"PULSEWHEEL_PIN", "true"}}).pin);
}

TEST(Flags, TimeoutFollowsTheIntervalThatIsGiven) {
    const ServerOptions own = options_of({"--heartbeat-interval", "7s"});
    EXPECT_EQ(own.heartbeat_timeout, 21 * kSecond);
    const ServerOptions mobile = options_of({"--heartbeat-profile", "mobile"});
    EXPECT_EQ(mobile.heartbeat_interval, 60 * kSecond);
    EXPECT_EQ(mobile.heartbeat_timeout, 120 * kSecond);
}

TEST(Flags, TheTickIsRoundedToAPowerOfTwo) {
    EXPECT_EQ(options_of({"--tick", "8ms"}).tick_shift, 23u);
    EXPECT_EQ(options_of({"--tick", "10ms"}).tick_shift, 23u);
    EXPECT_EQ(options_of({"--tick", "128ms", "--heartbeat-interval", "1s"}).tick_shift, 27u);
    expect_error(read({"--tick", "500us"}), {"--tick: '500us' is out of range", "1ms to 128ms"});
    expect_error(read({"--tick", "1s"}), {"--tick: '1s' is out of range"});
    expect_error(read({"--tick", "0"}), {"--tick: '0' is out of range"});
}

TEST(Flags, MistakesOnTheCommandLineNameFlagValueAndRemedy) {
    expect_error(read({"--heartbeat-timeout", "90"}),
                 {"--heartbeat-timeout: '90' has no unit; write a duration such as 250ms"});
    expect_error(
        read({"--heartbeat-timout", "90s"}),
        {"'--heartbeat-timout' is not a flag; did you mean --heartbeat-timeout?", "--help"});
    expect_error(read({"--lisen=tcp://*:1"}), {"'--lisen=tcp://*:1' is not a flag", "--listen?"});
    expect_error(read({"9000"}), {"'9000' is not a flag's value"});
    expect_error(read({"--reactors"}), {"--reactors", "--help shows how"});
    expect_error(read({"--reactors", "0"}),
                 {"--reactors: '0' is not a number of reactors", "auto"});
    expect_error(read({"--backend", "kqueue"}),
                 {"--backend: 'kqueue' is not known here; write auto, io_uring or epoll"});
    expect_error(read({"--max-message-bytes", "1GiB"}),
                 {"--max-message-bytes: '1GiB' is out of range", "from 125B to 64MiB"});
    expect_error(read({"--stats-interval", "0s"}), {"'0s' is out of range", "write off or"});
    expect_error(read({"--ws-origin", "chat.example"}), {"is not an origin", "SCHEME://HOST"});
    expect_error(read({"--ws-origin", "https://chat.example/"}), {"is not an origin"});
    expect_error(read({"--listen", "tcp://here"}), {"--listen: 'tcp://here'", "HOST:PORT"});
    expect_error(read({"--listen", "tcp://*:1", "--listen", "ws://*:1"}),
                 {"'ws://*:1' is listened on already by 'tcp://*:1'"});
    expect_error(read({"--pin=maybe"}), {"--pin"});
}

TEST(Flags, PoliciesAreReadAndRefused) {
    const ServerOptions options = options_of(
        {"--policy", "region=eu, ring=canary ,0.25%: profile=mobile message-rate=20/s,100",
         "--policy", " 10% ; user type=free:", "--policy",
         "b=1: drain=last max-connections-per-user=3 move-to=wss://b.example:9000 move-over=1m"});
    ASSERT_EQ(options.policies.size(), 4u);
    EXPECT_EQ(options.policies[3].move_to, "wss://b.example:9000");
    EXPECT_EQ(options.policies[3].move_over, 60 * kSecond);
    EXPECT_EQ(options.policies[2].move_over, std::nullopt);
    EXPECT_EQ(options.policies[3].drains, CohortPolicy::Drains::last);
    EXPECT_EQ(options.policies[3].sessions_max, 3u);
    const CohortPolicy& first = options.policies[0];
    EXPECT_EQ(first.labels, (std::vector<std::string>{"region=eu", "ring=canary"}));
    EXPECT_EQ(first.share, 25u);
    EXPECT_EQ(first.profile, "mobile");
    EXPECT_EQ(first.message_rate, (RateLimit{20, kSecond, 100}));
    EXPECT_EQ(options.policies[1].share, 1'000u);
    EXPECT_EQ(options.policies[1].text, "10%");
    EXPECT_EQ(options.policies[2].labels, std::vector<std::string>{"user%20type=free"});
    EXPECT_EQ(options.policies[2].share, kCohortShares);
    expect_error(read({"--policy", ": profile=mobile"}), {"is for no cohort", "ring=canary"});
    expect_error(read({"--policy", "canary: profile=mobile"}), {"'canary' is not a label"});
    expect_error(read({"--policy", "a=1,a=2: "}), {"'a=2' names a label twice"});
    for (const char* share : {"0%", "101%", "1.234%", "x%", "1.%", "%"})
        expect_error(read({"--policy", share}), {share, "is not a share"});
    expect_error(read({"--policy", "1%,2%"}), {"'2%' is a second share"});
    expect_error(read({"--policy", "1%: profile=fast"}), {"profile=fast", "realtime"});
    expect_error(read({"--policy", "1%: move-to=b.example"}), {"move-to=b.example", "URI"});
    expect_error(read({"--policy", "1%: move-to=ws://b move-over=2d"}), {"move-over=2d", "24h"});
    expect_error(read({"--policy", "1%: move-to=ws://b move-over=1s move-over=1s"}),
                 {"move-over=1s", "there twice"});
    expect_error(read({"--policy", "1%: move-over=1s"}), {"has move-over and no move-to"});
    expect_error(read({"--policy", "1%: drain=soon"}), {"drain=soon", "drain=first"});
    expect_error(read({"--policy", "1%: drop"}), {"'drop' is not an effect"});
    expect_error(read({"--policy", "1%: message-rate=x"}), {"'x' is not a rate"});
    for (const char* most : {"0", "65", "x", "3x"}) {
        const std::string limits = std::string("1%: max-connections-per-user=") + most;
        expect_error(read({"--policy", limits.c_str()}),
                     {"is not a number of connections", "1 to 64"});
    }
    const std::string long_one = "a=" + std::string(300, 'b');
    expect_error(read({"--policy", long_one.c_str()}), {"is too long", "256"});
    expect_error(read({"--policy", "1%;1%"}), {"'1%' is there already"});
}

TEST(Flags, TlsWantsACertificate) {
    expect_error(read({"--listen", "wss://*:9443"}),
                 {"--tls-cert: a certificate is missing, which 'wss://*:9443' needs",
                  "name one and its key (--tls-key)"});
}

TEST(Flags, ClientsAreAskedForCertificatesOnlyBehindTls) {
    const std::initializer_list<const char*> wrong[] = {
        {"--tls-client-ca", "ca.pem"},
        {"--tls-client-ca", "ca.pem", "--listen", "ws://*:9000", "--tls-cert", "a.pem"},
    };
    for (const auto& flags : wrong) {
        expect_error(read(flags), {"--tls-client-ca: no listener speaks TLS",
                                   "give a wss:// or tls+SCHEME:// listener and --tls-cert"});
    }
    options_of({"--tls-client-ca", "ca.pem", "--tls-cert", "a.pem"});  // auto://
    options_of({"--tls-client-ca", "ca.pem", "--tls-cert", "a.pem", "--listen", "wss://*:9443"});
}

TEST(Flags, TlsIsNotLeftToTheKernel) {
    expect_error(read({"--tls-idle", "ktls"}),
                 {"--tls-idle: 'ktls': records are not left to the kernel", "use 'frozen'"});
    expect_error(read({"--tls-idle", "warm"}), {"'warm'", "openssl or frozen"});
}

TEST(Flags, TracesGoToAUrlAndTheirShareIsOne) {
    EXPECT_EQ(options_of({}).otlp_endpoint, "");
    EXPECT_EQ(options_of({}).trace_ratio, kTraceRatioDefault);
    EXPECT_EQ(options_of({"--otlp-endpoint", "off"}).otlp_endpoint, "");
    EXPECT_EQ(options_of({"--trace-ratio", "off"}).trace_ratio, 0u);
    EXPECT_EQ(options_of({"--trace-ratio", "0.000001"}).trace_ratio, 1u);
    EXPECT_EQ(options_of({"--trace-ratio", "25%"}).trace_ratio, 250'000u);
    EXPECT_EQ(options_of({"--trace-ratio", "1"}).trace_ratio, kTraceRatioOne);
    for (const char* wrong : {"", "2", "101%", "0", "-1"})
        expect_error(read({"--trace-ratio", wrong}),
                     {"--trace-ratio: '" + std::string(wrong) + "'"});
    expect_error(read({"--otlp-endpoint", "https://a:4318"}), {"TLS", "collector on this machine"});
    expect_error(read({"--otlp-endpoint", "a:4318"}), {"is not an http:// URL"});
}

TEST(Flags, FieldsMustAgree) {
    expect_error(read({"--heartbeat-interval", "10s", "--heartbeat-timeout", "5s"}),
                 {"--heartbeat-timeout: '5s' leaves too little time", "interval of 10s", "30s"});
    expect_error(read({"--heartbeat-timeout", "2h", "--tick", "1ms"}),
                 {"--heartbeat-timeout: '2h' is longer than a wheel of this --tick", "4398s"});
    expect_error(read({"--heartbeat-interval", "50ms", "--tick", "64ms"}),
                 {"--heartbeat-interval: '50ms' is less than two ticks"});
    EXPECT_TRUE(read({"--heartbeat-timeout", "9h"}));
    expect_error(read({"--heartbeat-timeout", "10h"}), {"is longer than a wheel"});
}

TEST(Flags, MissesAreOfQuickProbesAndEndBeforeTheTimeout) {
    const ServerOptions options = options_of({"--suspect-misses", "5", "--suspect-probe", "2s"});
    EXPECT_EQ(options.suspect_misses, 5u);
    EXPECT_EQ(options_of({"--suspect-misses", "off"}).suspect_misses, 0u);
    expect_error(read({"--suspect-misses", "3"}),
                 {"--suspect-misses: '3' are of quick probes", "--suspect-probe"});
    for (const char* wrong : {"0", "1", "10"})
        expect_error(read({"--suspect-misses", wrong}), {"write off or something from 2 to 9"});
    expect_error(read({"--suspect-misses", "9", "--suspect-probe", "10s"}),
                 {"'9' probes, 10s apart, take longer than --heartbeat-timeout leaves", "1m"});
}

TEST(Flags, AdaptiveIntervalsAreARangeWhoseTimeoutsFit) {
    const AdaptiveRange range = options_of({"--heartbeat-adaptive", "30s..10m"}).heartbeat_adaptive;
    EXPECT_EQ(range, (AdaptiveRange{30 * kSecond, 600 * kSecond}));
    expect_error(read({"--heartbeat-adaptive", "30s"}),
                 {"--heartbeat-adaptive: '30s' is not a range"});
    for (const char* wrong : {"10m..30s", "500ms..1m", "1s..1h", "1s..2h"})
        expect_error(read({"--heartbeat-adaptive", wrong}), {"is not a range of intervals"});
    expect_error(
        read({"--tick", "1ms", "--heartbeat-probe", "off", "--heartbeat-adaptive", "30s..1h"}),
        {"--heartbeat-adaptive: the timeout that goes with '1h' is longer than a wheel"});
}

// What was not given is not the offender.
TEST(Flags, AnIntervalWhoseDerivedTimeoutDoesNotFitIsTheOffender) {
    const Result<Invocation> too_long = read({"--tick", "128ms", "--heartbeat-interval", "10h"});
    expect_error(too_long, {"--heartbeat-interval: '10h' makes a timeout of three intervals, 30h",
                            "longer than 1d", "write at most 8h", "--heartbeat-timeout"});
    EXPECT_EQ(too_long.error().find("--heartbeat-timeout: "), std::string::npos);
    EXPECT_TRUE(read({"--tick", "128ms", "--heartbeat-interval", "8h"}));
    EXPECT_TRUE(
        read({"--tick", "128ms", "--heartbeat-interval", "10h", "--heartbeat-timeout", "24h"}));
    // The wheel of the tick is shorter than the row.
    expect_error(
        read({"--heartbeat-interval", "4h"}),
        {"--heartbeat-interval: '4h' makes a timeout of three intervals, 12h",
         "longer than a wheel of this --tick can wait", "write at most 11728s", "longer --tick"});
    EXPECT_TRUE(read({"--heartbeat-interval", "11728s"}));
    // A profile's interval does not make the timeout an interval's.
    expect_error(read({"--heartbeat-timeout", "10h"}), {"--heartbeat-timeout: '10h' is longer"});
    const ConfigFile file("heartbeat-interval = \"10h\"\ntick = \"128ms\"\n");
    expect_error(read({"--config", file.path()}),
                 {std::string(file.path()) + ":1: heartbeat-interval: '10h' makes"});
}

// The probe leaves after an interval, and its answer needs time.
TEST(Flags, ATimeoutMustLeaveTimeForAnAnswer) {
    const auto of = [](const char* interval, const char* timeout) {
        return read({"--heartbeat-interval", interval, "--heartbeat-timeout", timeout});
    };
    expect_error(of("4s", "4500ms"), {"--heartbeat-timeout: '4500ms' leaves too little time",
                                      "write at least 5017ms, or three intervals: 12s"});
    EXPECT_TRUE(of("4s", "5017ms"));
    expect_error(of("4s", "5016ms"), {"at least 5017ms"});
    expect_error(of("30s", "30s"), {"at least 31017ms"});
    EXPECT_TRUE(of("30s", "32s"));
    EXPECT_TRUE(of("1s", "1500ms"));
    expect_error(read({"--heartbeat-interval", "4s", "--heartbeat-timeout", "4500ms",
                       "--heartbeat-probe", "off"}),
                 {"too little time"});
}

TEST(Flags, IdleClocksHaveATimeAndWhatIsDoneThen) {
    const ServerOptions options =
        options_of({"--idle-read", "60s=probe", "--idle-both", "5m=close"});
    EXPECT_EQ(options.idle[0], (IdleRule{60 * kSecond, IdleAction::probe}));
    EXPECT_EQ(options.idle[1], IdleRule{});
    EXPECT_EQ(options.idle[2], (IdleRule{300 * kSecond, IdleAction::close}));
    for (const char* wrong : {"60s", "60s=", "=close", "60s=kick", "99ms=event", "25h=event"}) {
        expect_error(read({"--idle-write", wrong}),
                     {std::string("--idle-write: '") + wrong + "' is not an idle clock",
                      "event, probe or close, such as 60s=probe"});
    }
    // Peers beat each 30 s, are probed after 32 s, and have a second for the answer.
    expect_error(read({"--idle-read", "33s=close"}),
                 {"--idle-read: '33s=close' leaves peers too little time", "each 30s",
                  "write at least 33026ms"});
    EXPECT_TRUE(read({"--idle-read", "33026ms=close"}));
    EXPECT_TRUE(read({"--idle-read", "1s=probe"}));
}

TEST(Flags, BuffersHoldAFewOfTheLongestMessages) {
    EXPECT_EQ(options_of({}).buffer_bytes, kBufferedBytesDefault);
    EXPECT_EQ(options_of({"--max-message-bytes", "64MiB"}).buffer_bytes, size_t{384} << 20);
    expect_error(read({"--buffer-bytes", "2MiB"}),
                 {"--buffer-bytes: '2MiB' cannot hold messages of 1MiB", "write at least 6MiB",
                  "shorter --max-message-bytes"});
    EXPECT_TRUE(read({"--buffer-bytes", "6MiB"}));
    expect_error(read({"--buffer-bytes", "6MiB", "--on-message", "echo"}),
                 {"--buffer-bytes: '6MiB' cannot echo messages of 1MiB", "write at least 8MiB"});
    EXPECT_TRUE(read({"--buffer-bytes", "2MiB", "--max-message-bytes", "512000B"}));
}

TEST(Flags, MessageLimitAndSendQueueFollowEachOther) {
    EXPECT_EQ(options_of({}).send_queue_bytes, kSendQueueBytesDefault);
    const auto echo = [](std::vector<const char*> more) {
        more.insert(more.end(), {"--on-message", "echo"});
        return read(more);
    };
    for (const char* message : {"1B", "125B", "64KiB", "1MiB", "4MiB", "64MiB"}) {
        const Result<Invocation> followed = echo({"--max-message-bytes", message});
        if (!followed) continue;  // below the least
        const ServerOptions& options = followed->options;
        EXPECT_GE(options.send_queue_bytes, 2 * options.max_message_bytes);
        EXPECT_GE(options.send_queue_bytes, echo_bytes(options.max_message_bytes));
    }
    const Result<Invocation> shorter = echo({"--send-queue-bytes", "64KiB"});
    ASSERT_TRUE(shorter) << shorter.error();
    EXPECT_LE(echo_bytes(shorter->options.max_message_bytes), 65'536u);
    EXPECT_GE(shorter->options.max_message_bytes, 65'000u);
    EXPECT_EQ(options_of({"--send-queue-bytes", "64KiB"}).max_message_bytes, kMessageBytesDefault);
    expect_error(echo({"--send-queue-bytes", "1MiB", "--max-message-bytes", "1MiB"}),
                 {"--send-queue-bytes: '1MiB' cannot hold the echo", "1MiB", "write at least",
                  "shorter --max-message-bytes"});
    EXPECT_TRUE(echo({"--send-queue-bytes", "1030KiB", "--max-message-bytes", "1MiB"}));
    EXPECT_TRUE(read({"--send-queue-bytes", "4KiB", "--max-message-bytes", "1MiB"}))
        << "nothing is echoed";
}

TEST(Flags, NoMoreListenersThanAReactorCanHave) {
    std::vector<std::string> addresses;
    std::vector<const char*> arguments;
    for (uint32_t i = 0; i < kListenersMax + 1; ++i)
        addresses.push_back("--listen=tcp://127.0.0.1:" + std::to_string(10'000 + i));
    for (const std::string& address : addresses) arguments.push_back(address.c_str());
    expect_error(read(arguments), {"'tcp://127.0.0.1:10064' is one too many", "at most 64"});
    arguments.pop_back();
    EXPECT_EQ(options_of(arguments).listen.size(), kListenersMax);
}

// The flags refuse what the kernel does: any address includes all others of its port, of IPv6 those
// of IPv4, too.
TEST(Flags, ListenersThatOverlapAreRefusedAsByTheKernel) {
    std::vector<std::string> hosts = {"0.0.0.0", "127.0.0.1", "127.0.0.2"};
    ListenAddress any = *parse_listen_uri("tcp://[::1]:0");
    if (PortHolder().hold(any, false)) {
        for (const char* host : {"*", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]"})
            hosts.emplace_back(host);
    }
    any = *parse_listen_uri("tcp://*:0");
    ASSERT_TRUE(PortHolder().hold(any, false));
    const std::string port = ":" + std::to_string(any.address.port());
    size_t refused = 0;
    for (const std::string& host : hosts) {
        for (const std::string& next : hosts) {
            const std::string first = "tcp://" + host + port, second = "ws://" + next + port;
            PortHolder holds, joins;
            ListenAddress one = *parse_listen_uri(first), other = *parse_listen_uri(second);
            ASSERT_TRUE(holds.hold(one, false)) << first;
            const bool fits{joins.hold(other, false)};
            const Result<Invocation> invocation =
                read({"--listen", first.c_str(), "--listen", second.c_str()});
            EXPECT_EQ(static_cast<bool>(invocation), fits) << first << " and " << second;
            if (invocation) continue;
            ++refused;
            expect_error(invocation, {"'" + second + "' is listened on already by '" + first + "'",
                                      "any address"});
        }
    }
    EXPECT_GT(refused, hosts.size());
    EXPECT_LT(refused, hosts.size() * hosts.size());
    EXPECT_TRUE(read({"--listen", "tcp://*:9000", "--listen", "ws://127.0.0.1:9001"}));
    EXPECT_TRUE(read({"--listen", "tcp://*:0", "--listen", "ws://*:0"}));
}

// A TOML string can hold a NUL, and inet_pton() and open() stop at one.
TEST(Flags, NoValueContainsANul) {
    for (const Setting& setting : settings()) {
        if (setting.kind == SettingKind::flag || setting.kind == SettingKind::boolean) continue;
        const ConfigFile file(std::string(setting.name) + " = \"10.0.0.0\\u0000junk/8\"\n");
        expect_error(read({"--config", file.path()}), {std::string(setting.name), "NUL"});
    }
}

TEST(Flags, AConfigThatCannotBeReadAgainIsKept) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const std::string_view text = "heartbeat-interval = \"7s\"\n";
    ASSERT_EQ(write(ends[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
    close(ends[1]);
    const std::string path = "/dev/fd/" + std::to_string(ends[0]);
    const Result<Invocation> first = read({"--config", path.c_str()});
    close(ends[0]);
    ASSERT_TRUE(first) << first.error();
    EXPECT_EQ(first->options.heartbeat_interval, 7 * kSecond);
    ASSERT_EQ(first->kept_config, text);
    const std::vector<const char*> arguments{"--config", path.c_str()};
    const Result<Invocation> again = read_invocation(
        arguments, [](const char*) -> const char* { return nullptr; }, first->kept_config);
    ASSERT_TRUE(again) << again.error();
    EXPECT_EQ(again->options.heartbeat_interval, 7 * kSecond);
    const ConfigFile file(text.data());
    EXPECT_FALSE(read({"--config", file.path()})->kept_config);
}

TEST(Flags, AllErrorsAreReportedAtOnce) {
    const ConfigFile file("reactors = 0\n");
    const Result<Invocation> invocation =
        read({"--config", file.path(), "--tick", "x"}, {{"PULSEWHEEL_BACKEND", "y"}});
    expect_error(invocation, {":1: reactors: '0'", "PULSEWHEEL_BACKEND: 'y'", "--tick: 'x'"});
}

TEST(Flags, MistakesInTheFileNameTheLine) {
    const auto read_file = [](const std::string& text) {
        const ConfigFile file(text);
        return read({"--config", file.path()});
    };
    expect_error(read_file("# a comment\n\nhartbeat-interval = \"5s\"\n"),
                 {":3: 'hartbeat-interval' is not a setting; did you mean 'heartbeat-interval'?"});
    expect_error(read_file("tick = 8\n"), {":1: tick: the value has the wrong type", "in quotes"});
    expect_error(read_file("pin = 1\n"),
                 {":1: pin: the value has the wrong type", "true or false"});
    expect_error(read_file("max-connections = 1.5\n"), {":1: max-connections:", "wrong type"});
    expect_error(read_file("max-connections = -1\n"),
                 {":1: max-connections: '-1' is not a number"});
    expect_error(read_file("listen = [\"tcp://*:1\", 2]\n"), {":1: listen:", "a list of them"});
    expect_error(read_file("listen = []\n"), {":1: listen: no address at all"});
    expect_error(read_file("reactors = 1\nreactors = 2\n"), {":2: "});
    expect_error(read_file("reactors 1\n"), {":1: ", "write TOML"});
    expect_error(read_file("\n[server]\nreactors = 1\n"), {":2: 'server' is a section"});
    expect_error(read_file("log-level = \"loud\"\n"), {":1: log-level: 'loud' is not known here"});
    expect_error(read({"--config", "/nonexistent/file"}), {"--config: '/nonexistent/file'"});
    expect_error(read({"--config", "/"}), {"--config"});
}

// What holds between settings, too: the offender is where it was given last.
TEST(Flags, MistakesBetweenSettingsNameWhereTheOffenderWasGiven) {
    const ConfigFile file("heartbeat-interval = \"30s\"\nheartbeat-timeout = \"5s\"\n");
    expect_error(read({"--config", file.path()}),
                 {std::string(file.path()) + ":2: heartbeat-timeout: '5s' leaves too little time"});
    const ConfigFile interval("heartbeat-interval = \"30s\"\n");
    expect_error(read({"--config", interval.path()}, {{"PULSEWHEEL_HEARTBEAT_TIMEOUT", "5s"}}),
                 {"PULSEWHEEL_HEARTBEAT_TIMEOUT: '5s' leaves too little time"});
    expect_error(read({"--config", interval.path(), "--heartbeat-timeout", "5s"}),
                 {"--heartbeat-timeout: '5s' leaves too little time"});
    const ConfigFile buffers("# small\nbuffer-bytes = \"4KiB\"\n");
    expect_error(read({"--config", buffers.path()}), {":2: buffer-bytes: '4KiB' cannot hold"});
}

TEST(Flags, UnknownVariablesAreLeftAlone) {
    EXPECT_TRUE(read({}, {{"PULSEWHEEL_PORT", "tcp://10.0.0.1:9000"}}));
    EXPECT_TRUE(read({}, {{"PULSEWHEEL_TICK", ""}}));
}

TEST(Flags, PrintedConfigurationReadsBackToItself) {
    const Result<Invocation> printed =
        read({"--print-config", "--listen", "ws://*:9001", "--ws-origin", "https://a.example",
              "--ws-origin", "null", "--heartbeat-interval", "1500ms", "--pin"});
    ASSERT_TRUE(printed) << printed.error();
    EXPECT_EQ(printed->action, Action::print);
    const ConfigFile file(printed->text);
    const Result<Invocation> again = read({"--config", file.path(), "--print-config"});
    ASSERT_TRUE(again) << again.error();
    EXPECT_EQ(again->text, printed->text);
    EXPECT_NE(printed->text.find("heartbeat-timeout = \"4500ms\""), std::string::npos)
        << printed->text;
}

// What is derived from extreme settings either refuses them or is in the range of its own row.
TEST(Flags, WhateverStartsPrintsAConfigurationThatStarts) {
    size_t started = 0;
    const auto prints_itself = [&](std::vector<const char*> flags) {
        flags.push_back("--print-config");
        const Result<Invocation> printed = read(flags);
        if (!printed) return;
        ++started;
        const ConfigFile file(printed->text);
        const Result<Invocation> again = read({"--config", file.path(), "--print-config"});
        ASSERT_TRUE(again) << again.error() << "\nof\n" << printed->text;
        EXPECT_EQ(again->text, printed->text);
    };
    for (const char* tick : {"1ms", "2ms", "8ms", "32ms", "64ms", "128ms"}) {
        for (const char* profile : {"realtime", "standard", "mobile", "powersave"})
            prints_itself({"--tick", tick, "--heartbeat-profile", profile});
        for (const char* interval : {"50ms", "60ms", "300ms", "1s", "1h", "3h", "8h", "10h", "24h"})
            prints_itself({"--tick", tick, "--heartbeat-interval", interval});
        for (const char* timeout : {"50ms", "40s", "1h", "9h", "24h"})
            prints_itself({"--tick", tick, "--heartbeat-timeout", timeout});
    }
    EXPECT_GT(started, 50u);
    started = 0;
    for (const char* on_message : {"echo", "discard"}) {
        for (const char* message : {"125B", "4KiB", "1MiB", "1025KiB", "64MiB"})
            prints_itself({"--on-message", on_message, "--max-message-bytes", message});
        for (const char* queue : {"4KiB", "5000B", "1MiB", "1GiB"})
            prints_itself({"--on-message", on_message, "--send-queue-bytes", queue});
        for (const char* buffers : {"4KiB", "6MiB", "8MiB", "64GiB"})
            prints_itself({"--on-message", on_message, "--buffer-bytes", buffers});
    }
    EXPECT_GT(started, 16u);
}

TEST(Flags, CheckConfigPrintsOkOrTheError) {
    const Result<Invocation> good = read({"--check-config"});
    ASSERT_TRUE(good);
    EXPECT_EQ(good->action, Action::check);
    expect_error(read({"--check-config", "--tick", "1h"}), {"--tick"});
}

TEST(Flags, HelpListsEveryFlagWithinTheWidthOfATerminal) {
    const Result<Invocation> help = read({"--help", "--tick", "nonsense", "--unknown"});
    ASSERT_TRUE(help);
    EXPECT_EQ(help->action, Action::print);
    for (const Setting& setting : settings())
        EXPECT_NE(help->text.find("\n  --" + std::string(setting.name)), std::string::npos)
            << setting.name;
    std::istringstream lines(help->text);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
    EXPECT_EQ(read({"-h"})->text, help->text);
}

TEST(Flags, VersionIsPrinted) {
    EXPECT_EQ(read({"--version"})->text, "pulsewheel " + std::string(kVersion) + "\n");
}

}  // namespace
}  // namespace pulse::serve
