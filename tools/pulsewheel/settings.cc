// Every setting of the server: its name, its text for --help, and how its value is read
// and written out.
#include "tools/pulsewheel/settings.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "core/lifetime.h"
#include "core/units.h"
#include "net/control/admin_address.h"
#include "net/io/limits.h"
#include "net/observe/otlp_endpoint.h"
#include "net/protocols/listen_uri.h"
#include "net/server/limits.h"
#include "net/tls/limits.h"
#include "net/tls/tls_files.h"
#include "tools/pulsewheel/policy_text.h"

namespace pulse::serve {
namespace {

using Words = std::span<const std::string_view>;

Error refuse(std::string_view text, std::string_view what, std::string_view remedy) {
    std::string message = "'";
    message.append(text).append("' ").append(what).append("; ").append(remedy);
    return {std::move(message)};
}

// The position of `text` among `words`.
Result<size_t> parse_word(std::string_view text, Words words) {
    const auto found = std::find(words.begin(), words.end(), text);
    if (found != words.end()) return static_cast<size_t>(found - words.begin());
    std::string remedy = "write ";
    for (size_t at = 0; at < words.size(); ++at) {
        if (at > 0) remedy.append(at + 1 == words.size() ? " or " : ", ");
        remedy.append(words[at]);
    }
    return refuse(text, "is not known here", remedy);
}

// A field that is read by `parse` and must lie in [least, most]. With `kOff`, "off" is 0 and
// nothing else is.
constexpr std::string_view kOffWord = "off";

template <auto kField, auto kParse, auto kFormat, bool kOff, auto kLeast, auto kMost>
Result<void> set_quantity(ServerOptions& options, std::string_view text) {
    using Field = std::remove_reference_t<decltype(options.*kField)>;
    if (kOff && text == kOffWord) {
        options.*kField = 0;
        return {};
    }
    const auto value = kParse(text);
    if (!value) return Error{value.error()};
    if (*value < kLeast || *value > kMost) {
        return refuse(text, "is out of range",
                      "write " + std::string(kOff ? "off or " : "") + "something from " +
                          kFormat(kLeast) + " to " + kFormat(kMost));
    }
    options.*kField = static_cast<Field>(*value);
    return {};
}
template <auto kField, auto kFormat, bool kOff>
std::vector<std::string> get_quantity(const ServerOptions& options) {
    if (kOff && options.*kField == 0) return {std::string(kOffWord)};
    return {kFormat(options.*kField)};
}

// Shorthands for the table's rows.
#define DURATION(field, least, most)                                                          \
    set_quantity<&ServerOptions::field, parse_duration, format_duration, false, Nanos{least}, \
                 Nanos{most}>,                                                                \
        get_quantity<&ServerOptions::field, format_duration, false>
#define DURATION_OR_OFF(field, least, most)                                                  \
    set_quantity<&ServerOptions::field, parse_duration, format_duration, true, Nanos{least}, \
                 Nanos{most}>,                                                               \
        get_quantity<&ServerOptions::field, format_duration, true>
#define SIZE(field, least, most)                                                         \
    set_quantity<&ServerOptions::field, parse_size, format_size, false, uint64_t{least}, \
                 uint64_t{most}>,                                                        \
        get_quantity<&ServerOptions::field, format_size, false>
#define RATE(field) set_rate_limit<&ServerOptions::field>, get_rate_limit<&ServerOptions::field>
#define WORD(field, words) \
    set_word<&ServerOptions::field, words>, get_word<&ServerOptions::field, words>

template <auto kField, auto& kWords>
Result<void> set_word(ServerOptions& options, std::string_view text) {
    using Field = std::remove_reference_t<decltype(options.*kField)>;
    const Result<size_t> word = parse_word(text, kWords);
    if (!word) return Error{word.error()};
    options.*kField = static_cast<Field>(*word);
    return {};
}
template <auto kField, auto& kWords>
std::vector<std::string> get_word(const ServerOptions& options) {
    return {std::string(kWords[static_cast<size_t>(options.*kField)])};
}

// off, or TIME=ACTION.
constexpr Nanos kIdleLeast = 100 * kMillisecond, kIdleMost = 24 * 3'600 * kSecond;
template <IdleClock kClock>
Result<void> set_idle(ServerOptions& options, std::string_view text) {
    IdleRule& rule = options.idle[static_cast<size_t>(kClock)];
    rule = {};
    if (text == kOffWord) return {};
    const size_t equals = std::min(text.find('='), text.size());
    const Result<Nanos> after = parse_duration(text.substr(0, equals));
    const Result<size_t> action =
        equals < text.size() ? parse_word(text.substr(equals + 1), kIdleActionNames) : Error{""};
    if (!after || !action || *after < kIdleLeast || *after > kIdleMost) {
        return refuse(text, "is not an idle clock",
                      "write off, or a time from 100ms to 24h and what is done then: event, probe "
                      "or close, such as 60s=probe");
    }
    rule = {*after, static_cast<IdleAction>(*action)};
    return {};
}
template <IdleClock kClock>
std::vector<std::string> get_idle(const ServerOptions& options) {
    const IdleRule& rule = options.idle[static_cast<size_t>(kClock)];
    if (!rule.on()) return {std::string(kOffWord)};
    return {format_duration(rule.after).append("=").append(name_of(rule.action))};
}

constexpr std::string_view kSwitch[] = {"off", "on"};
constexpr std::string_view kBackends[] = {"auto", "io_uring", "epoll"};
constexpr std::string_view kLivenesses[] = {"any", "roundtrip"};
constexpr std::string_view kOnMessage[] = {"echo", "discard"};
constexpr std::string_view kOverloadSteps[] = {"off", "refuse", "stretch", "drop", "close"};
constexpr std::string_view kOnAnomaly[] = {"off", "log", "degrade"};
constexpr std::string_view kLogLevels[] = {"debug", "info", "warning", "error"};
constexpr std::string_view kLogFormats[] = {"auto", "text", "json"};
constexpr std::string_view kTlsVersions[] = {"1.2", "1.3"};
static_assert(static_cast<int>(TlsVersion::v1_3) == 1);
constexpr std::string_view kTlsIdle[] = {"openssl", "frozen"};
static_assert(static_cast<int>(TlsIdle::frozen) == 1);
static_assert(static_cast<int>(Liveness::roundtrip) == 1 &&
              static_cast<int>(OnMessage::discard) == 1);
static_assert(static_cast<int>(BackendChoice::epoll) == 2);
static_assert(static_cast<size_t>(OverloadStep::close) == std::size(kOverloadSteps) - 1);
static_assert(static_cast<size_t>(OnAnomaly::degrade) == std::size(kOnAnomaly) - 1);
static_assert(static_cast<int>(LogLevel::error) == 3 && static_cast<int>(LogFormat::json) == 2);
static_assert(kNamedProfiles[0].name == "realtime" && kNamedProfiles[3].name == "powersave");
constexpr std::string_view kProfileNames[] = {kNamedProfiles[0].name, kNamedProfiles[1].name,
                                              kNamedProfiles[2].name, kNamedProfiles[3].name};

// Whether one socket at most can have both: they name one port and one address, or one of them is
// any address, which includes those of its family, and IPv6's any those of IPv4 (net/io/sockets.h).
bool overlap(SocketAddress one, SocketAddress other) {
    if (one.port() == 0 || one.port() != other.port()) return false;
    one.unmap();
    other.unmap();
    const auto any_of_both = [](const SocketAddress& address) {
        return address.base.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&address.v6.sin6_addr);
    };
    if (any_of_both(one) || any_of_both(other)) return true;
    if (one.base.sa_family != other.base.sa_family) return false;
    if (one.base.sa_family == AF_INET6) return one.text() == other.text();
    const in_addr_t first = one.v4.sin_addr.s_addr, second = other.v4.sin_addr.s_addr;
    return first == second || first == INADDR_ANY || second == INADDR_ANY;
}

Result<void> add_listener(ServerOptions& options, std::string_view text) {
    const Result<ListenAddress> listener = parse_listen_uri(text);
    if (!listener) return Error{listener.error()};
    for (const ListenAddress& other : options.listen) {
        const bool same_name =
            !listener->passed_name.empty() && listener->passed_name == other.passed_name;
        if (!same_name && !overlap(listener->address, other.address)) continue;
        return refuse(text, "is listened on already by '" + other.text + "'",
                      "give each address and port once; any address includes all others");
    }
    if (options.listen.size() == kListenersMax) {
        return refuse(text, "is one too many",
                      "listen on at most " + std::to_string(kListenersMax) + " addresses");
    }
    options.listen.push_back(*listener);
    return {};
}
std::vector<std::string> get_listeners(const ServerOptions& options) {
    std::vector<std::string> texts;
    for (const ListenAddress& listener : options.listen) texts.push_back(listener.text);
    return texts;
}

Result<void> add_trusted(ServerOptions& options, std::string_view text) {
    while (!text.empty()) {
        const size_t end = std::min(text.find(','), text.size());
        const Result<AddressPrefix> prefix = parse_prefix(text.substr(0, end));
        if (!prefix) return Error{prefix.error()};
        options.proxy_trusted.push_back(*prefix);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return {};
}
std::vector<std::string> get_trusted(const ServerOptions& options) {
    std::vector<std::string> texts;
    for (const AddressPrefix& prefix : options.proxy_trusted) texts.push_back(prefix.text());
    return texts;
}

// RFC 6454: scheme://host[:port], nothing behind it; "null" is what sandboxed pages send.
Result<void> add_origin(ServerOptions& options, std::string_view text) {
    const size_t scheme_end = text.find("://");
    const bool whole = scheme_end != std::string_view::npos && scheme_end > 0 &&
                       scheme_end + 3 < text.size() &&
                       text.find_first_of("/ \t", scheme_end + 3) == std::string_view::npos;
    if (!whole && text != "null") {
        return refuse(text, "is not an origin",
                      "write SCHEME://HOST or SCHEME://HOST:PORT, no path");
    }
    options.ws_origins.emplace_back(text);
    return {};
}

constexpr Nanos kHour = 3600 * kSecond;
// An event takes whole nanoseconds (core/rate_limiter.h), and a burst of them less than 2^63.
constexpr uint64_t kRateMax = 10'000'000;
constexpr uint64_t kBurstMax = 1'000'000;
constexpr uint64_t kConnectionsMax = 1'000'000'000;  // more than memory holds, less than 2^32

Result<void> set_max_connections(ServerOptions& options, std::string_view text) {
    options.max_connections_given = true;
    return set_quantity<&ServerOptions::max_connections, parse_count, format_count, false,
                        uint64_t{1}, kConnectionsMax>(options, text);
}

Result<void> set_reactors(ServerOptions& options, std::string_view text) {
    if (text == "auto") {
        options.reactors = 0;
        return {};
    }
    const Result<uint64_t> count = parse_count(text);
    if (!count || *count == 0 || *count > kReactorsMax) {
        return refuse(text, "is not a number of reactors",
                      "write auto or 1 to " + std::to_string(kReactorsMax));
    }
    options.reactors = static_cast<uint32_t>(*count);
    return {};
}

// The power of two of nanoseconds that is nearest.
Result<void> set_tick(ServerOptions& options, std::string_view text) {
    const Result<Nanos> tick = parse_duration(text);
    if (!tick) return Error{tick.error()};
    const auto ns = static_cast<uint64_t>(*tick);
    const uint64_t below = std::bit_floor(ns | 1);
    const auto shift =
        static_cast<uint32_t>(std::countr_zero(below)) + (ns > below + below / 2 ? 1 : 0);
    if (shift < kTickShiftMin || shift > kTickShiftMax) {
        return refuse(text, "is out of range", "write something from 1ms to 128ms");
    }
    options.tick_shift = shift;
    return {};
}
std::vector<std::string> get_tick(const ServerOptions& options) {
    return {format_duration((Nanos{1} << (options.tick_shift - kTickShiftMin)) * kMillisecond)};
}
static_assert(kTickShiftMin == 20, "get_tick() counts in 2^20 ns, which people call a millisecond");

// takeover, reject, or allow with how many.
Result<void> set_duplicate(ServerOptions& options, std::string_view text) {
    constexpr std::string_view kAllow = "allow";
    options.duplicate = {};
    if (text == "takeover") return {};
    if (text == "reject") {
        options.duplicate.rule = DuplicateRule::reject;
        return {};
    }
    const Error wrong = refuse(text, "is not known here",
                               "write takeover, reject, allow, or allow=N with N from 1 to " +
                                   std::to_string(kSessionsPerUserMax));
    if (!text.starts_with(kAllow)) return wrong;
    options.duplicate = {DuplicateRule::allow, kSessionsPerUserMax};
    text.remove_prefix(kAllow.size());
    if (text.empty()) return {};
    const Result<uint64_t> most = text[0] == '=' ? parse_count(text.substr(1)) : Error{""};
    if (!most || *most == 0 || *most > kSessionsPerUserMax) return wrong;
    options.duplicate.same_device_max = static_cast<uint32_t>(*most);
    return {};
}
std::vector<std::string> get_duplicate(const ServerOptions& options) {
    switch (options.duplicate.rule) {
        case DuplicateRule::takeover:
            return {"takeover"};
        case DuplicateRule::reject:
            return {"reject"};
        case DuplicateRule::allow:
            break;
    }
    const uint32_t most = options.duplicate.same_device_max;
    return {most == kSessionsPerUserMax ? "allow" : "allow=" + std::to_string(most)};
}

Result<void> set_gather(ServerOptions& options, std::string_view text) {
    if (text == "auto") {
        options.gather = kGatherAuto;
        return {};
    }
    return set_quantity<&ServerOptions::gather, parse_duration, format_duration, true,
                        Nanos{kGatherRestMinNs}, Nanos{kGatherMaxNs}>(options, text);
}
std::vector<std::string> get_gather(const ServerOptions& options) {
    if (options.gather == kGatherAuto) return {"auto"};
    return get_quantity<&ServerOptions::gather, format_duration, true>(options);
}

// auto, off, or a duration.
template <auto kField, Nanos kLeast, Nanos kMost>
Result<void> set_kernel_bound(ServerOptions& options, std::string_view text) {
    if (text == "auto") {
        options.*kField = kByHeartbeat;
        return {};
    }
    return set_quantity<kField, parse_duration, format_duration, true, kLeast, kMost>(options,
                                                                                     text);
}
template <auto kField>
std::vector<std::string> get_kernel_bound(const ServerOptions& options) {
    if (options.*kField == kByHeartbeat) return {"auto"};
    return get_quantity<kField, format_duration, true>(options);
}

// off, or MIN..MAX.
Result<void> set_adaptive(ServerOptions& options, std::string_view text) {
    options.heartbeat_adaptive = {};
    if (text == kOffWord) return {};
    const size_t dots = text.find("..");
    if (dots == std::string_view::npos)
        return refuse(text, "is not a range", "write off, or two times, such as 30s..10m");
    const Result<Nanos> least = parse_duration(text.substr(0, dots));
    if (!least) return Error{least.error()};
    const Result<Nanos> most = parse_duration(text.substr(dots + 2));
    if (!most) return Error{most.error()};
    const AdaptiveRange range{*least, *most};
    if (*least < kSecond || *most > kHour || !range.fits()) {
        return refuse(text, "is not a range of intervals",
                      "write two times from 1s to 1h, the second at most 1,262 times the first");
    }
    options.heartbeat_adaptive = range;
    return {};
}
std::vector<std::string> get_adaptive(const ServerOptions& options) {
    const AdaptiveRange& range = options.heartbeat_adaptive;
    if (!range.on()) return {std::string(kOffWord)};
    return {format_duration(range.least) + ".." + format_duration(range.most)};
}

// auto, or RSS.
Result<void> set_overload_memory(ServerOptions& options, std::string_view text) {
    if (text == "auto") {
        options.overload_memory = 0;
        return {};
    }
    return set_quantity<&ServerOptions::overload_memory, parse_size, format_size, false,
                        uint64_t{1} << 20, uint64_t{1} << 50>(options, text);
}
std::vector<std::string> get_overload_memory(const ServerOptions& options) {
    if (options.overload_memory == 0) return {"auto"};
    return get_quantity<&ServerOptions::overload_memory, format_size, false>(options);
}

struct RatePeriod {
    std::string_view name;
    Nanos span;
};
constexpr RatePeriod kRatePeriods[] = {{"s", kSecond}, {"m", 60 * kSecond}, {"h", 3'600 * kSecond}};

}  // namespace

Result<RateLimit> parse_rate_limit(std::string_view text) {
    const size_t slash = text.find('/'), comma = text.find(',');
    const bool has_burst = comma != std::string_view::npos;
    const Error wrong =
        refuse(text, "is not a rate",
               "write off, a rate such as 1000/s, 20k/s or 30/m of at most " +
                   format_rate(kRateMax) + ", or one with how many at once, from 1 to " +
                   format_count(kBurstMax) + ", such as 30/m,10");
    if (slash == std::string_view::npos || comma < slash) return wrong;
    const Result<uint64_t> events = parse_count(text.substr(0, slash));
    const std::string_view name = text.substr(slash + 1, has_burst ? comma - slash - 1 : comma);
    const auto period = std::ranges::find(kRatePeriods, name, &RatePeriod::name);
    if (!events || *events == 0 || *events > kRateMax || period == std::end(kRatePeriods))
        return wrong;
    RateLimit limit{.events = *events, .period = period->span};
    if (!has_burst) return limit;
    const Result<uint64_t> burst = parse_count(text.substr(comma + 1));
    if (!burst || *burst == 0 || *burst > kBurstMax) return wrong;
    limit.burst = *burst;
    return limit;
}

namespace {

template <auto kField>
Result<void> set_rate_limit(ServerOptions& options, std::string_view text) {
    options.*kField = {};
    if (text == kOffWord) return {};
    const Result<RateLimit> limit = parse_rate_limit(text);
    if (!limit) return Error{limit.error()};
    options.*kField = *limit;
    return {};
}
template <auto kField>
std::vector<std::string> get_rate_limit(const ServerOptions& options) {
    const RateLimit& limit = options.*kField;
    if (limit.events == 0) return {std::string(kOffWord)};
    const auto period = std::ranges::find(kRatePeriods, limit.period, &RatePeriod::span);
    std::string rate = format_count(limit.events).append("/").append(period->name);
    if (limit.burst != 0) rate.append(",").append(format_count(limit.burst));
    return {std::move(rate)};
}

// ENDS/TIME,TIME.
Result<void> set_flapping(ServerOptions& options, std::string_view text) {
    options.flapping = {};
    if (text == kOffWord) return {};
    const size_t slash = std::min(text.find('/'), text.size());
    const size_t comma = std::min(text.find(',', slash), text.size());
    const Result<uint64_t> ends = parse_count(text.substr(0, slash));
    const bool whole = comma < text.size();
    const Result<Nanos> window =
        whole ? parse_duration(text.substr(slash + 1, comma - slash - 1)) : Error{""};
    const Result<Nanos> hold_off = whole ? parse_duration(text.substr(comma + 1)) : Error{""};
    const auto fits = [](const Result<Nanos>& time) {
        return time && *time >= kSecond && *time <= 24 * kHour;
    };
    if (!ends || *ends == 0 || *ends > Flaps::kEndsMax || !fits(window) || !fits(hold_off)) {
        return refuse(text, "is not a rule for flapping",
                      "write off, or how many ends, of 10k at most, within which time, and for how "
                      "long to hold off, both from 1s to 24h, such as 15/1m,5m");
    }
    options.flapping = {static_cast<uint32_t>(*ends), *window, *hold_off};
    return {};
}
std::vector<std::string> get_flapping(const ServerOptions& options) {
    const FlappingRule& rule = options.flapping;
    if (rule.ends == 0) return {std::string(kOffWord)};
    return {format_count(rule.ends) + "/" + format_duration(rule.window) + "," +
            format_duration(rule.hold_off)};
}

// MESSAGES/SIZE/TIME.
Result<void> set_resume_window(ServerOptions& options, std::string_view text) {
    const size_t first = std::min(text.find('/'), text.size());
    const size_t second = std::min(text.find('/', first + 1), text.size());
    const bool whole = second < text.size();
    const Result<uint64_t> messages = parse_count(text.substr(0, first));
    const Result<uint64_t> bytes =
        whole ? parse_size(text.substr(first + 1, second - first - 1)) : Error{""};
    const Result<Nanos> age = whole ? parse_duration(text.substr(second + 1)) : Error{""};
    const auto fits = [](const auto& value, auto least, auto most) {
        return value && *value >= least && *value <= most;
    };
    if (!fits(messages, uint64_t{1}, uint64_t{kResumeMessagesMax}) ||
        !fits(bytes, uint64_t{1'024}, uint64_t{kResumeWindowBytesMax}) ||
        !fits(age, kSecond, kHour)) {
        return refuse(text, "is not a window of messages",
                      "write how many are kept, of 10k at most, how many bytes, from 1KiB to 1MiB, "
                      "and for how long, from 1s to 1h, such as 256/64KiB/1m");
    }
    options.resume_window = {static_cast<uint32_t>(*messages), static_cast<size_t>(*bytes), *age};
    return {};
}
std::vector<std::string> get_resume_window(const ServerOptions& options) {
    const ResumeBounds& window = options.resume_window;
    return {format_count(window.messages) + "/" + format_size(window.bytes) + "/" +
            format_duration(window.age)};
}

template <auto kField>
Result<void> set_file(ServerOptions& options, std::string_view text) {
    options.*kField = text;
    return {};
}
template <auto kField>
std::vector<std::string> get_file(const ServerOptions& options) {
    return {options.*kField};
}

Result<void> set_admin(ServerOptions& options, std::string_view text) {
    if (text == kOffWord) {
        options.admin.clear();
        return {};
    }
    const Result<AdminAddress> address = parse_admin_address(text);
    if (!address) return Error{address.error()};
    options.admin = text;
    return {};
}
std::vector<std::string> get_admin(const ServerOptions& options) {
    return {options.admin.empty() ? std::string(kOffWord) : options.admin};
}

Result<void> set_otlp_endpoint(ServerOptions& options, std::string_view text) {
    if (text == kOffWord) {
        options.otlp_endpoint.clear();
        return {};
    }
    const Result<OtlpEndpoint> endpoint = parse_otlp_endpoint(text);
    if (!endpoint) return Error{endpoint.error()};
    options.otlp_endpoint = text;
    return {};
}
std::vector<std::string> get_otlp_endpoint(const ServerOptions& options) {
    return {options.otlp_endpoint.empty() ? std::string(kOffWord) : options.otlp_endpoint};
}

template <auto kFile>
Result<void> set_auth_file(ServerOptions& options, std::string_view text) {
    options.auth.*kFile = text;
    return {};
}
template <auto kFile>
std::vector<std::string> get_auth_file(const ServerOptions& options) {
    return {options.auth.*kFile};
}

Result<void> add_audience(ServerOptions& options, std::string_view text) {
    if (text.empty()) return refuse(text, "is not an audience", "write what tokens have as aud");
    options.auth.audiences.emplace_back(text);
    return {};
}

template <auto kFiles>
Result<void> add_tls_file(ServerOptions& options, std::string_view text) {
    if (text.empty()) return refuse(text, "is not a file", "name one in PEM");
    if ((options.tls.*kFiles).size() == kTlsCertificatesMax) {
        return refuse(text, "is one too many",
                      "give at most " + std::to_string(kTlsCertificatesMax) + " certificates");
    }
    (options.tls.*kFiles).emplace_back(text);
    return {};
}
template <auto kText>
Result<void> set_tls_text(ServerOptions& options, std::string_view text) {
    options.tls.*kText = text;
    return {};
}
template <auto kText>
std::vector<std::string> get_tls_text(const ServerOptions& options) {
    return {options.tls.*kText};
}
Result<void> set_tls_min(ServerOptions& options, std::string_view text) {
    const Result<size_t> word = parse_word(text, kTlsVersions);
    if (!word) return Error{word.error()};
    options.tls.least = static_cast<TlsVersion>(*word);
    return {};
}
Result<void> set_tls_idle(ServerOptions& options, std::string_view text) {
    if (text == "ktls") {
        return wrong_text(text, "records are not left to the kernel by this server",
                          "use 'frozen' where memory matters, or 'openssl'");
    }
    const Result<size_t> word = parse_word(text, kTlsIdle);
    if (!word) return Error{word.error()};
    options.tls.idle = static_cast<TlsIdle>(*word);
    return {};
}

// One, or several with semicolons between them.
Result<void> add_policies(ServerOptions& options, std::string_view text) {
    while (!text.empty()) {
        const size_t end = std::min(text.find(';'), text.size());
        const Result<CohortPolicy> policy = parse_policy(text.substr(0, end));
        if (!policy) return Error{policy.error()};
        text.remove_prefix(std::min(end + 1, text.size()));
        if (std::ranges::count(options.policies, policy->text, &CohortPolicy::text) > 0)
            return refuse(policy->text, "is there already", "give each policy once");
        if (options.policies.size() == kPoliciesMax) {
            return refuse(policy->text, "is one too many",
                          "give at most " + std::to_string(kPoliciesMax) + " policies");
        }
        options.policies.push_back(*policy);
    }
    return {};
}
std::vector<std::string> get_policies(const ServerOptions& options) {
    std::vector<std::string> texts;
    for (const CohortPolicy& policy : options.policies) texts.push_back(policy.text);
    return texts;
}

// Far more than one peer may have waiting, and 64 GiB a reactor: beyond these a unit was mistyped.
constexpr uint64_t kSendQueueBytesMax = uint64_t{1} << 30;
constexpr uint64_t kBufferBytesMax = uint64_t{1} << 36;

constexpr std::string_view kListening = "Listening";
constexpr std::string_view kTls = "TLS";
constexpr std::string_view kAuthentication = "Authentication";
constexpr std::string_view kProcess = "Process";
constexpr std::string_view kHeartbeats = "Heartbeats";
constexpr std::string_view kSessions = "Sessions";
constexpr std::string_view kMessages = "Messages";
constexpr std::string_view kAdministration = "Administration";
constexpr std::string_view kTraces = "Traces";
constexpr std::string_view kLogging = "Logging and statistics";

using enum SettingKind;
using enum ReloadKind;
constexpr Setting kSettings[] = {
    {"listen", kListening, "URI",
     "Where to accept: SCHEME://HOST:PORT. {schemes}. A bare HOST:PORT is auto. wss://, or tls+ "
     "before another scheme, is the same behind TLS (--tls-cert), which auto serves besides. "
     "* is every interface; fd:NAME instead is the sockets of that name which the service manager "
     "passes. ?proxy=on behind it demands a PROXY protocol header (1 or 2) before "
     "everything else, ?max-connections=N lets it have no more at once; & joins them. May "
     "be repeated.",
     list, restart, add_listener, get_listeners, [](ServerOptions& o) { o.listen.clear(); }},
    {"proxy-trusted", kListening, "CIDR",
     "Balancers that may connect where a PROXY header is demanded, such as 10.0.0.0/8 or "
     "192.0.2.7; others are refused there. Separated by commas, or repeated.",
     list, restart, add_trusted, get_trusted, [](ServerOptions& o) { o.proxy_trusted.clear(); }},
    {"share-port", kListening, "",
     "Listen although another server of this user does so on the same port: the kernel spreads "
     "new peers over both, until one of them stops. For a change of servers without a gap.",
     flag, restart, WORD(share_port, kSwitch)},
    {"max-connections", kListening, "N",
     "Most connections at once; more are refused with the reason. The server does not start "
     "where the machine cannot hold them; the default shrinks to what it can.",
     number, restart, set_max_connections,
     get_quantity<&ServerOptions::max_connections, format_count, false>},
    {"max-connections-per-address", kListening, "N",
     "Most connections of one address, of IPv6 of one /64, behind ?proxy=on of the one that the "
     "header names; more are refused. Counts those that come while it is on. off: no limit.",
     number, live,
     set_quantity<&ServerOptions::max_connections_per_address, parse_count, format_count, true,
                  uint64_t{1}, kConnectionsMax>,
     get_quantity<&ServerOptions::max_connections_per_address, format_count, true>},
    {"address-share", kListening, "N",
     "Anonymous connections of one address, of IPv6 of one /64, beyond which the oldest of them "
     "gives way to a new one: for addresses that many share. off: none gives way.",
     number, live,
     set_quantity<&ServerOptions::address_share, parse_count, format_count, true, uint64_t{1},
                  kConnectionsMax>,
     get_quantity<&ServerOptions::address_share, format_count, true>},
    {"address-share-users", kListening, "on|off",
     "Whether logged-in connections count in --address-share, and give way, too.", boolean, live,
     WORD(address_share_users, kSwitch)},
    {"accept-rate", kListening, "RATE",
     "Most accepts a second, such as 5000/s, or with how many at once, 5000/s,200 (without, a "
     "tenth of a second's worth); more are refused at once. off: unlimited.",
     text, live, RATE(accept_rate)},
    {"address-accept-rate", kListening, "RATE",
     "The same for each address, of IPv6 for each /64, behind ?proxy=on for the one that the "
     "header names, such as 30/m,50. off: unlimited.",
     text, live, RATE(address_accept_rate)},
    {"max-handshakes", kListening, "N",
     "Most connections at once that have not finished their first message or upgrade; more are "
     "refused. off: no limit but --max-connections.",
     number, live,
     set_quantity<&ServerOptions::handshakes_max, parse_count, format_count, true, uint64_t{1},
                  kConnectionsMax>,
     get_quantity<&ServerOptions::handshakes_max, format_count, true>},
    {"flapping", kListening, "N/TIME,TIME",
     "Hold an address off, of IPv6 a /64, of which so many connections ended within the first "
     "time, each younger than that, for the second time, such as 15/1m,5m. off: hold off none.",
     text, live, set_flapping, get_flapping},
    {"handshake-timeout", kListening, "TIME",
     "How long a peer may take until its first complete message or upgrade; on tcp:// and jsonl:// "
     "from its first byte, and silence before that counts against the heartbeat timeout.",
     text, restart, DURATION(handshake_timeout, 100 * kMillisecond, kHour)},
    {"tcp-keepalive", kListening, "auto|off|TIME",
     "Silence after which the kernel probes a connection too. auto: the heartbeat timeout of each, "
     "15s at least.",
     text, restart, set_kernel_bound<&ServerOptions::tcp_keepalive, kSecond, 9 * kHour>,
     get_kernel_bound<&ServerOptions::tcp_keepalive>},
    {"tcp-user-timeout", kListening, "auto|off|TIME",
     "How long sent bytes may stay unacknowledged before the kernel closes the connection. auto: "
     "twice the heartbeat timeout of each, or the above if that is longer, 30s at least; off: the "
     "kernel's own limit, 15 minutes.",
     text, restart,
     set_kernel_bound<&ServerOptions::tcp_user_timeout, 100 * kMillisecond, 24 * kHour>,
     get_kernel_bound<&ServerOptions::tcp_user_timeout>},

    {"tls-cert", kTls, "FILE",
     "Serve TLS with this certificate, in PEM, behind which those come that lead to its authority. "
     "wss:// and tls+SCHEME:// listeners need one, and auto:// speaks TLS besides. May be "
     "repeated: a client that names a server gets the first that has the name, and where two have "
     "the same names and keys of different kinds, the one that it can verify. "
     "SIGHUP reads it again.",
     list, live, add_tls_file<&TlsFiles::certificates>,
     [](const ServerOptions& o) { return o.tls.certificates; },
     [](ServerOptions& o) { o.tls.certificates.clear(); }},
    {"tls-key", kTls, "FILE",
     "The private key of a certificate, in PEM and not encrypted, in the order of --tls-cert. "
     "Without any, the files of the certificates hold them. SIGHUP reads it again.",
     list, live, add_tls_file<&TlsFiles::keys>, [](const ServerOptions& o) { return o.tls.keys; },
     [](ServerOptions& o) { o.tls.keys.clear(); }},
    {"tls-min", kTls, "1.2|1.3", "The oldest version of TLS that is spoken.", text, live,
     set_tls_min,
     [](const ServerOptions& o) {
         const auto version = static_cast<size_t>(o.tls.least);
         return std::vector<std::string>{std::string(kTlsVersions[version])};
     }},
    {"tls-ciphers", kTls, "NAMES",
     "Cipher suites instead of OpenSSL's own choice, as `openssl ciphers -v` names them, with "
     "colons between: those that begin with TLS_ are of TLS 1.3, the others of TLS 1.2.",
     text, live, set_tls_text<&TlsFiles::ciphers>, get_tls_text<&TlsFiles::ciphers>},
    {"tls-client-ca", kTls, "FILE",
     "Let in only clients that show a certificate of one of these authorities, in PEM. Its "
     "subject is logged at debug level. SIGHUP reads it again.",
     text, live, set_tls_text<&TlsFiles::client_ca>, get_tls_text<&TlsFiles::client_ca>},
    {"tls-idle", kTls, "openssl|frozen",
     "What is kept of a connection that is idle. openssl: the library's object, 14 KB; frozen: of "
     "TLS 1.3 no more than 144 to 208 bytes, with which records are opened and sealed here, and "
     "TLS_AES_128_GCM_SHA256, of which the least is kept, comes first unless --tls-ciphers is "
     "given. TLS 1.2 is kept by OpenSSL.",
     text, live, set_tls_idle,
     [](const ServerOptions& o) {
         return std::vector<std::string>{std::string(kTlsIdle[static_cast<size_t>(o.tls.idle)])};
     }},
    {"tls-handshakes", kTls, "N",
     "Most TLS handshakes in flight, each of which has memory of OpenSSL; "
     "more are refused with an alert.",
     number, live,
     set_quantity<&ServerOptions::tls_handshakes_max, parse_count, format_count, false, uint64_t{1},
                  kConnectionsMax>,
     get_quantity<&ServerOptions::tls_handshakes_max, format_count, false>},

    {"auth-token-file", kAuthentication, "FILE",
     "Peers must give a token of this file, one a line: TOKEN user=NAME [device=NAME] "
     "[labels=NAME=VALUE,...] [expires=2027-01-31T12:00:00Z] [id=ID], or sha256:HEX for TOKEN. "
     "SIGHUP reads it again.",
     text, live, set_auth_file<&AuthFiles::tokens>, get_auth_file<&AuthFiles::tokens>},
    {"auth-jwt-key", kAuthentication, "FILE",
     "Peers must give a JSON Web Token signed by a key of this file: public keys in PEM (RSA, "
     "P-256, Ed25519), a JWK set, or a secret of HS256. SIGHUP reads it again.",
     text, live, set_auth_file<&AuthFiles::keys>, get_auth_file<&AuthFiles::keys>},
    {"auth-audience", kAuthentication, "NAME",
     "Take only JSON Web Tokens whose aud names this; without it, only those that have none. "
     "May be repeated.",
     list, live, add_audience, [](const ServerOptions& o) { return o.auth.audiences; },
     [](ServerOptions& o) { o.auth.audiences.clear(); }},
    {"auth-deadline", kAuthentication, "TIME",
     "Where tokens are wanted, close peers that give none in this time; off: they may stay, "
     "without a user.",
     text, live, DURATION_OR_OFF(auth_deadline, 100 * kMillisecond, kHour)},

    {"backend", kProcess, "auto|epoll|io_uring",
     "io_uring, epoll, or auto: epoll, until io_uring costs less CPU at every load measured.", text,
     restart, WORD(backend, kBackends)},
    {"reactors", kProcess, "N",
     "Threads that serve, or auto: one a core, and more where the descriptor limit demands it.",
     number, restart, set_reactors,
     [](const ServerOptions& o) {
         return std::vector<std::string>{o.reactors == 0 ? "auto" : std::to_string(o.reactors)};
     }},
    {"gather", kProcess, "auto|off|TIME",
     "Rest before reaping, so that what arrives within TIME of the last wake-up, 1ms at most, is "
     "one turn's work: less CPU under load, for as much latency. auto: where turns come so fast "
     "that it pays.",
     text, live, set_gather, get_gather},
    {"overload", kProcess, "off|refuse|stretch|drop|close",
     "What may be given up while the server has more to do than it can, or no memory, each after "
     "those before it: refuse new connections, stretch heartbeats to twice their interval, drop "
     "echoes and broadcasts, close those that were silent longest. off: nothing is.",
     text, live, WORD(overload, kOverloadSteps)},
    {"overload-lag", kProcess, "TIME",
     "How far behind a reactor may be with its deadlines (judge_lag_us) before that is overload.",
     text, live, DURATION(overload_lag, 10 * kMillisecond, kHour)},
    {"overload-memory", kProcess, "auto|SIZE",
     "Memory in use of which 95 % is overload: RSS without what is free in the server's own pools "
     "and in its allocator, which stays in RSS when connections leave. auto: what the machine and "
     "the control group leave, or that tasks wait for memory (/proc/pressure/memory).",
     text, live, set_overload_memory, get_overload_memory},
    {"overload-step", kProcess, "TIME",
     "How long overload lasts until the next step is taken; the last is taken back after three "
     "times as long of half the judge lag or less, or of memory below 90 %.",
     text, live, DURATION(overload_span, 100 * kMillisecond, kHour)},
    {"on-anomaly", kProcess, "off|log|degrade",
     "Watch evictions, missed probes, round trips, newcomers and loop lag for what is not normal "
     "at this time of day, and log it with where it comes from. degrade: take steps of --overload "
     "too, refuse and stretch at most, until it is over; while it refuses the server is not ready.",
     text, live, WORD(on_anomaly, kOnAnomaly)},
    {"anomaly-interval", kProcess, "TIME",
     "Between two samples of that. Learning what is normal takes 30 of them, an anomaly is over "
     "after 6 in a row that are normal, and what lasts for 360 is normal from then on.",
     text, live, DURATION(anomaly_interval, kAnomalyIntervalMin, kAnomalyIntervalMax)},
    {"pin", kProcess, "", "Keep each reactor on a core of its own.", flag, restart,
     WORD(pin, kSwitch)},
    {"drain-delay", kProcess, "TIME",
     "In a drain, tell balancers for so long that this server is not ready, and go on accepting.",
     text, live, DURATION_OR_OFF(drain_delay, kMillisecond, kHour)},
    {"drain-rate", kProcess, "RATE",
     "Goodbyes a second of a drain, such as 500/s. off, or where it would not end in time: so "
     "many that three quarters of --drain-timeout suffice.",
     text, live,
     set_quantity<&ServerOptions::drain_rate, parse_rate, format_rate, true, uint64_t{1},
                  uint64_t{INT32_MAX}>,
     get_quantity<&ServerOptions::drain_rate, format_rate, true>},
    {"drain-timeout", kProcess, "TIME",
     "Time over which a drain spreads its goodbyes; peers left after it are reset, but none "
     "without a goodbye.",
     text, live, DURATION(drain_timeout, 0, kHour)},
    {"drain-retry-after", kProcess, "TIME",
     "The goodbye of a drain asks to come back after TIME to twice TIME, each peer after another.",
     text, live, DURATION(drain_retry_after, 100 * kMillisecond, kHour)},

    {"heartbeat-profile", kHeartbeats, "realtime|standard|mobile|powersave",
     "Interval and timeout by name: realtime 15s/45s, standard 30s/90s, mobile 60s/120s, "
     "powersave 300s/600s.",
     text, live, WORD(heartbeat_profile, kProfileNames)},
    {"heartbeat-interval", kHeartbeats, "TIME",
     "Silence after which a peer is probed, instead of the profile's.", text, live,
     DURATION(heartbeat_interval, 50 * kMillisecond, kHeartbeatTimeoutMax)},
    {"heartbeat-timeout", kHeartbeats, "TIME",
     "Silence after which a peer is evicted, instead of the profile's; three intervals if only "
     "the interval is given.",
     text, live, DURATION(heartbeat_timeout, 50 * kMillisecond, kHeartbeatTimeoutMax)},
    {"heartbeat-probe", kHeartbeats, "on|off",
     "Send probes to silent peers; off: only wait for their heartbeats.", boolean, live,
     WORD(heartbeat_probe, kSwitch)},
    {"heartbeat-adaptive", kHeartbeats, "MIN..MAX",
     "Find the interval of each peer that names no profile between these, such as 30s..10m: longer "
     "while its heartbeats come in time, half as long where an answer was late. It begins with "
     "--heartbeat-interval or what its network has borne, is told by 'interval', and has a timeout "
     "of a minute more, or three intervals where that is less or --heartbeat-probe is off. "
     "off: as configured.",
     text, restart, set_adaptive, get_adaptive},
    {"suspect-probe", kHeartbeats, "TIME",
     "Probe a peer again whose answer takes longer than its round trip and four deviations, "
     "then so soon up to eight times more, then once an interval. With it the timeout may be "
     "little longer than the interval. off: probe once an interval.",
     text, live, DURATION_OR_OFF(suspect_probe, 50 * kMillisecond, 60 * kSecond)},
    {"suspect-misses", kHeartbeats, "N",
     "Evict a peer that answered none of so many probes of one silence, 2 to 9, --suspect-probe "
     "apart, however long its timeout: as idle_timeout with the detail 'missed probes'. Only where "
     "it is known to answer probes: over WebSocket, and over others once it has. To TCP loss is "
     "delay: an outage lasts up to twice its time, so that N x TIME is to be twice the longest "
     "that peers are to survive, such as 5 x 2s. One loss is survived always. "
     "off: the timeout alone.",
     text, live,
     set_quantity<&ServerOptions::suspect_misses, parse_count, format_count, true,
                  uint64_t{kSuspectMissesMin}, uint64_t{kSuspectMissesMax}>,
     get_quantity<&ServerOptions::suspect_misses, format_count, true>},
    {"nat-probes", kHeartbeats, "N",
     "Most side connections at once, by which clients find out for how long a NAT or a firewall on "
     "their way bears silence; each may be silent for half an hour, and one address may have 12. "
     "What a client found bounds its own interval (--heartbeat-adaptive), and is named to those "
     "that come next from its /24, of IPv6 its /48, to be confirmed. off: refuse all.",
     number, live,
     set_quantity<&ServerOptions::nat_probes, parse_count, format_count, true, uint64_t{1},
                  kConnectionsMax>,
     get_quantity<&ServerOptions::nat_probes, format_count, true>},
    {"rtt-alpha", kHeartbeats, "RATIO",
     "How much the newest answer counts in the round trip of --suspect-probe, as 12.5% or 0.125; "
     "twice as much in its deviation.",
     text, live,
     set_quantity<&ServerOptions::rtt_alpha, parse_ratio, format_ratio, false, uint64_t{1'000},
                  kRatioWhole>,
     get_quantity<&ServerOptions::rtt_alpha, format_ratio, false>},
    {"liveness", kHeartbeats, "any|roundtrip",
     "What proves that a peer lives: any complete frame, or only a ping of its own or the answer "
     "to a probe with the value of that probe.",
     text, live, WORD(liveness, kLivenesses)},
    {"idle-read", kHeartbeats, "TIME=ACTION",
     "What to do with a connection of which no byte was read for so long, such as 60s=probe, and "
     "again each time as long passes: event counts it and logs it (--log-connections), probe sends "
     "a probe as well, close closes it (idle_read), though not before a silent peer was probed "
     "and could answer. Beside its heartbeats, which go on. off: nothing.",
     text, live, set_idle<IdleClock::read>, get_idle<IdleClock::read>},
    {"idle-write", kHeartbeats, "TIME=ACTION",
     "The same of one to which nothing was sent for so long, pongs and probes included: a write "
     "counts when the kernel has taken all of it.",
     text, live, set_idle<IdleClock::write>, get_idle<IdleClock::write>},
    {"idle-both", kHeartbeats, "TIME=ACTION", "The same of one with which neither was done.", text,
     live, set_idle<IdleClock::both>, get_idle<IdleClock::both>},
    {"idle-observe-output", kHeartbeats, "on|off",
     "Whether what a peer takes of a message that is on its way to it is activity for --idle-write "
     "and --idle-both; where they close it always is.",
     boolean, live, WORD(idle_observe_output, kSwitch)},
    {"tick", kHeartbeats, "TIME",
     "Precision of all deadlines, rounded to a power of two of nanoseconds.", text, restart,
     set_tick, get_tick},

    {"max-lifetime", kHeartbeats, "TIME",
     "Close a connection that has lived so long, however alive it is, with a goodbye that asks to "
     "come back; off: never.",
     text, live, DURATION_OR_OFF(max_lifetime, kSecond, kLifetimeMax)},
    {"max-lifetime-jitter", kHeartbeats, "PERCENT",
     "The last part of --max-lifetime, over which connections are closed, each at an instant of "
     "its own: those that came together do not leave together.",
     number, live,
     set_quantity<&ServerOptions::max_lifetime_jitter, parse_count, format_count, false,
                  uint64_t{0}, uint64_t{100}>,
     get_quantity<&ServerOptions::max_lifetime_jitter, format_count, false>},

    {"duplicate", kSessions, "RULE",
     "When a user logs in from a device that has a session already: takeover closes the old one; "
     "reject refuses the new one, unless a probe of the old one is unanswered; allow=N keeps N of "
     "them, and then takes over the oldest (allow: 64).",
     text, live, set_duplicate, get_duplicate},
    {"max-connections-per-user", kSessions, "N",
     "Most sessions of one user, of all devices together; a login beyond them is refused and its "
     "connection closed.",
     number, live,
     set_quantity<&ServerOptions::max_connections_per_user, parse_count, format_count, false,
                  uint64_t{1}, uint64_t{kSessionsPerUserMax}>,
     get_quantity<&ServerOptions::max_connections_per_user, format_count, false>},
    {"presence-linger", kSessions, "TIME",
     "How long a user whose last session ended is still online, so that a quick reconnect is no "
     "change; off: offline at once, so that what waits for it learns it at once.",
     text, live, DURATION_OR_OFF(presence_linger, 100 * kMillisecond, kHour)},
    {"resume-hold", kSessions, "TIME",
     "How long a session waits for its client when the connection is lost, if its hello asked for "
     "that: the client comes back to it, on any connection, and no message is lost or doubled; its "
     "user is not offline meanwhile. off: such hellos are logins like any other.",
     text, restart, DURATION_OR_OFF(resume_hold, kSecond, kHour)},
    {"resume-window", kSessions, "N/SIZE/TIME",
     "What is kept of such a session, until its client says that it has it: messages that it was "
     "sent, their bytes, with 24 for each, and how old they are. The oldest are dropped, and a "
     "client that comes back for them is told how many it has lost.",
     text, restart, set_resume_window, get_resume_window},
    {"resume-bytes", kSessions, "SIZE",
     "Most bytes that all these windows of all reactors may have together.", number, restart,
     SIZE(resume_bytes, size_t{1} << 20, uint64_t{1} << 40)},

    {"policy", kSessions, "POLICY",
     "Treat a cohort of users otherwise than the rest: 'MATCH: EFFECTS'. MATCH is labels of the "
     "login and a share of the users, such as ring=canary,10%; EFFECTS, with blanks between them, "
     "profile=NAME (of heartbeats), message-rate=RATE, max-connections-per-user=N, drain=first or "
     "last, and move-to=URI, which sends them to another server: those that are there already "
     "evenly over move-over=TIME [10s]. The first that matches counts; a share without labels is "
     "of anonymous connections, too. May be repeated.",
     list, live, add_policies, get_policies, [](ServerOptions& o) { o.policies.clear(); }, ';'},
    {"ledger", kSessions, "N|off",
     "Remember the last N connections that ended, of all reactors together, each with the evidence "
     "of why: /api/v1/closed of --admin, pulsectl ls --closed and pulsectl explain show them.",
     number, restart,
     set_quantity<&ServerOptions::ledger, parse_count, format_count, true, uint64_t{0},
                  uint64_t{kLedgerEntriesMax}>,
     get_quantity<&ServerOptions::ledger, format_count, true>},

    {"on-message", kMessages, "echo|discard",
     "What to do with application messages: send them back unchanged, or count and drop them.",
     text, restart, WORD(on_message, kOnMessage)},
    {"max-message-bytes", kMessages, "SIZE", "Longest message; a longer one ends its connection.",
     number, restart, SIZE(max_message_bytes, kControlPayloadBytesMax, kMessageBytesMax)},
    {"send-queue-bytes", kMessages, "SIZE",
     "Most bytes that may wait for one peer; one that reads too slowly for that is closed. Holds "
     "two of the longest messages if it is not given.",
     number, restart, SIZE(send_queue_bytes, 4'096, kSendQueueBytesMax)},
    {"buffer-bytes", kMessages, "SIZE",
     "Most bytes that all connections of one reactor may have unfinished or waiting to be sent; "
     "beyond it the largest holder of the address that has most is closed. Grows with "
     "--max-message-bytes if it is not given.",
     number, restart, SIZE(buffer_bytes, 4'096, kBufferBytesMax)},
    {"message-rate", kMessages, "RATE",
     "Most messages a second of one connection, heartbeats included, such as 20/s, or with how "
     "many at once, 20/s,500 (without, ten seconds' worth); one that sends more is closed. "
     "off: unlimited.",
     text, live, RATE(message_rate)},
    {"user-message-rate", kMessages, "RATE",
     "The same of one user, all its connections together. off: unlimited.", text, live,
     RATE(user_message_rate)},
    {"ws-deflate", kMessages, "on|off", "Offer WebSocket compression (permessage-deflate).",
     boolean, restart, WORD(ws_deflate, kSwitch)},
    {"ws-origin", kMessages, "ORIGIN",
     "Accept WebSocket upgrades of web pages from this origin only, such as "
     "https://chat.example; without it, from any. May be repeated.",
     list, restart, add_origin, [](const ServerOptions& o) { return o.ws_origins; },
     [](ServerOptions& o) { o.ws_origins.clear(); }},

    {"admin", kAdministration, "ADDRESS",
     "Where to serve the admin endpoint: HOST:PORT or unix:PATH, or off. pulsectl speaks to it; "
     "so do monitors (/metrics) and balancers (/readyz), and a browser shows a page (/).",
     text, restart, set_admin, get_admin},
    {"admin-token-file", kAdministration, "FILE",
     "Tokens, a line each, one of which each request must show (Authorization: Bearer TOKEN); "
     "needed where --admin can be reached from other machines. /healthz and /readyz need none; "
     "the page at / asks for one.",
     text, restart, set_file<&ServerOptions::admin_token_file>,
     get_file<&ServerOptions::admin_token_file>},

    {"otlp-endpoint", kTraces, "URL",
     "Send traces of connections, evictions and drains to an OpenTelemetry collector: "
     "http://HOST:PORT or http://HOST:PORT/PATH (OTLP in JSON; without a path, /v1/traces). "
     "off: none is made.",
     text, restart, set_otlp_endpoint, get_otlp_endpoint},
    {"trace-ratio", kTraces, "RATIO",
     "Part of connections that are traced from their beginning, as 1% or 0.001. Traced besides are "
     "those whose client asks for it (traceparent), evictions, breaches of a protocol, refusals "
     "under overload and slow closes. off: nothing but these.",
     text, live,
     set_quantity<&ServerOptions::trace_ratio, parse_ratio, format_ratio, true, uint64_t{1},
                  kRatioWhole>,
     get_quantity<&ServerOptions::trace_ratio, format_ratio, true>},

    {"log-level", kLogging, "debug|info|warning|error",
     "debug, info, warning or error. debug logs every peer with its address.", text, live,
     WORD(log_level, kLogLevels)},
    {"log-format", kLogging, "auto|text|json",
     "Format of log lines. auto: text on a terminal and for systemd's journal, otherwise JSON, an "
     "object a line.",
     text, live, WORD(log_format, kLogFormats)},
    {"log-connections", kLogging, "RATIO",
     "Log how connections come, open and end, with the cause: of such a part of them, as 1% or "
     "0.001. All lines of a connection are there, or none. off: of none.",
     text, live,
     set_quantity<&ServerOptions::log_connections, parse_ratio, format_ratio, true, uint64_t{1},
                  kRatioWhole>,
     get_quantity<&ServerOptions::log_connections, format_ratio, true>},
    {"log-rate", kLogging, "RATE",
     "Most lines of one message, whatever it is filled with, such as 10/s, or with how many at "
     "once, 10/s,100; what is left out is counted. Not of debug lines, nor of --log-connections. "
     "off: unlimited.",
     text, live, RATE(log_rate)},
    {"log-file", kLogging, "FILE",
     "Append the log to a file instead of stderr. SIGUSR1 reopens it, and that of the "
     "statistics, after a rename.",
     text, restart, set_file<&ServerOptions::log_file>, get_file<&ServerOptions::log_file>},
    {"stats-interval", kLogging, "TIME", "Print a line of figures this often, or off.", text, live,
     DURATION_OR_OFF(stats_interval, 100 * kMillisecond, kHour)},
    {"stats-json", kLogging, "FILE",
     "Append a JSON object of all figures at every interval, and one at the exit.", text, live,
     set_file<&ServerOptions::stats_json>, get_file<&ServerOptions::stats_json>},
};

// Levenshtein's distance: letters to insert, drop or change.
size_t distance(std::string_view a, std::string_view b) {
    std::vector<size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 0; i < a.size(); ++i) {
        size_t diagonal = row[0]++;
        for (size_t j = 0; j < b.size(); ++j) {
            const size_t changed = diagonal + (a[i] != b[j]);
            diagonal = row[j + 1];
            row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row[b.size()];
}

}  // namespace

std::span<const Setting> settings() { return kSettings; }

std::string joined(const std::vector<std::string>& values, std::string_view separator) {
    std::string text;
    for (const std::string& value : values)
        text.append(text.empty() ? "" : separator).append(value);
    return text;
}

ServerOptions::Texts settings_text(const ServerOptions& options) {
    ServerOptions::Texts texts;
    for (const Setting& setting : settings())
        texts.emplace_back(setting.name, joined(setting.get(options)));
    return texts;
}

const Setting* find_setting(std::string_view name) {
    for (const Setting& setting : kSettings)
        if (setting.name == name) return &setting;
    return nullptr;
}

std::string_view nearest_setting(std::string_view name) {
    std::string_view nearest;
    size_t least = name.size() / 3 + 1;
    for (const Setting& setting : kSettings) {
        const size_t letters = distance(name, setting.name);
        if (letters <= least) {
            least = letters - (letters > 0);
            nearest = setting.name;
        }
    }
    return nearest;
}

}  // namespace pulse::serve
