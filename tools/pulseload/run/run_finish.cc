// Sums over threads, and the question whether the target is still there.
#include "tools/pulseload/run/run_finish.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <map>

namespace pulse::load {
namespace {

constexpr double kRecoveredShare = 0.99;
// More of the open connections that end without a goodbye within two samples than this share, and
// no fewer than so many, are a crash.
constexpr double kGoneShare = 0.9;
constexpr uint64_t kGoneMin = 10;
constexpr int kConnectWaitMs = 1'000;

double seconds(Nanos duration) { return static_cast<double>(duration) / kSecond; }

void merge(Detection& to, const Detection& from) {
    to.false_evictions += from.false_evictions;
    to.own_silences += from.own_silences;
    for (size_t i = 0; i < kBehaviours; ++i) {
        Detection::Row& row = to.rows[i];
        row.silenced += from.rows[i].silenced;
        row.evicted += from.rows[i].evicted;
        row.early += from.rows[i].early;
        row.missed += from.rows[i].missed;
        row.waiting += from.rows[i].waiting;
        row.late_by.merge(from.rows[i].late_by);
        row.early_by.merge(from.rows[i].early_by);
    }
}

void merge(ConnectionOutcome& to, const ConnectionOutcome& from) {
    to.there += from.there;
    to.evicted += from.evicted;
    to.by_kind += from.by_kind;
    to.lost += from.lost;
}

StormResult finish_storm(const LoadOptions& options, const Workers& workers, Nanos began,
                         size_t number, const std::vector<Sample>& samples) {
    StormResult storm;
    storm.what = options.storms[number].text;
    std::vector<Nanos> recoveries;
    Nanos at = 0;
    for (const auto& worker : workers) {
        const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
        if (crowd == nullptr) continue;
        const StormCount& part = crowd->storms()[number];
        if (part.at != 0) at = at == 0 ? part.at : std::min(at, part.at);
        storm.killed += part.killed;
        storm.recovered += part.recovered;
        storm.refusals += part.refusals;
        storm.tries += part.tries;
        storm.tries_max = std::max(storm.tries_max, part.tries_max);
        recoveries.insert(recoveries.end(), part.recoveries.begin(), part.recoveries.end());
    }
    if (at == 0) return storm;
    storm.at_s = seconds(at - began);
    std::ranges::sort(recoveries);
    const auto most = static_cast<size_t>(static_cast<double>(storm.killed) * kRecoveredShare);
    if (most > 0 && recoveries.size() >= most) storm.recovery_s = seconds(recoveries[most - 1]);
    for (size_t i = 1; i < samples.size(); ++i) {
        const Sample& sample = samples[i];
        const Sample& before = samples[i - 1];
        if (before.at_s < storm.at_s - 1) continue;
        const auto opened = static_cast<double>(sample.counts.connected - before.counts.connected);
        const double length_s = std::max(0.1, sample.at_s - before.at_s);
        storm.peak_accepts_per_s = std::max(storm.peak_accepts_per_s, opened / length_s);
    }
    return storm;
}

// When most of the open connections ended together; 0: they did not.
double mass_end_s(const std::vector<Sample>& samples) {
    for (size_t i = 0; i < samples.size(); ++i) {
        const Counts before = i < 2 ? Counts{} : samples[i - 2].counts;
        const uint64_t ended = samples[i].counts.cut_off - before.cut_off;
        const uint64_t opened = samples[i].counts.connected - before.connected;
        const auto most = static_cast<double>(before.open + opened);
        if (ended >= kGoneMin && static_cast<double>(ended) >= kGoneShare * most)
            return samples[i].at_s;
    }
    return 0;
}

double last_cut_off_s(const std::vector<Sample>& samples) {
    double at_s = 0;
    uint64_t before = 0;
    for (const Sample& sample : samples) {
        if (sample.counts.cut_off > before) at_s = sample.at_s;
        before = sample.counts.cut_off;
    }
    return at_s;
}

// How it is known that a connect is refused; empty where it is not.
std::string why_refused(const Target& target) {
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    target.unix_path.copy(path.sun_path, sizeof path.sun_path - 1);
    const bool is_unix = !target.unix_path.empty();
    const auto* const address =
        is_unix ? reinterpret_cast<const sockaddr*>(&path) : &target.address.base;
    const socklen_t size = is_unix ? sizeof path : target.address.size_bytes();
    const int descriptor =
        socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return {};
    int error = connect(descriptor, address, size) == 0 ? 0 : errno;
    pollfd events{descriptor, POLLOUT, 0};
    if (error == EINPROGRESS && poll(&events, 1, kConnectWaitMs) == 1) {
        socklen_t bytes = sizeof error;
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &bytes);
    }
    close(descriptor);
    if (error != ECONNREFUSED && error != ENOENT) return {};
    return "it refuses connections now";
}

}  // namespace

void finish_clients(const LoadOptions& options, const Workers& workers, RunResult& result) {
    std::map<uint16_t, uint64_t> codes;
    std::map<std::string, uint64_t> errors;
    std::map<std::string, uint64_t> suites;
    std::map<std::string, uint64_t> tls_failures;
    ConnectionOutcome ends;
    for (const auto& worker : workers) {
        const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
        if (crowd == nullptr) continue;
        merge(result.detection, crowd->detection());
        merge(ends, crowd->ends());
        result.unanswered_max = std::max(result.unanswered_max, crowd->unanswered_max());
        for (const auto& [code, count] : crowd->codes()) codes[code] += count;
        for (const auto& [what, count] : crowd->errors()) errors[what] += count;
        for (const auto& [name, count] : crowd->tls_suites()) suites[name] += count;
        for (const auto& [why, count] : crowd->tls_failures()) tls_failures[why] += count;
    }
    if (options.speaks_tls()) {
        result.tls = TlsResult{{suites.begin(), suites.end()},
                               {tls_failures.begin(), tls_failures.end()}};
    }
    if (result.held_s > 0) result.ends = ends;
    result.detection.codes.assign(codes.begin(), codes.end());
    std::vector<std::pair<std::string, uint64_t>> sorted(errors.begin(), errors.end());
    std::ranges::stable_sort(sorted, std::greater(), &std::pair<std::string, uint64_t>::second);
    for (const auto& [what, count] : sorted) {
        result.errors.push_back(count == 1 ? what : fmt::format("{} ({} times)", what, count));
    }
}

void finish_storms(const LoadOptions& options, const Workers& workers, Nanos began,
                   RunResult& result) {
    for (size_t i = 0; i < options.storms.size(); ++i) {
        StormResult storm = finish_storm(options, workers, began, i, result.samples);
        if (storm.at_s > 0) result.storms.push_back(std::move(storm));  // else it ended before
    }
}

void find_target_gone(const LoadOptions& options, RunResult& result) {
    Detection& detection = result.detection;
    const uint64_t cut_off = result.counts.cut_off;
    if (cut_off == 0) return;
    if (result.target_gone_s == 0) {
        result.target_gone_s = mass_end_s(result.samples);
        result.target_gone = "most of its connections ended together, without a goodbye";
    }
    for (const Target& target : options.targets) {
        if (result.target_gone_s > 0) break;
        result.target_gone = why_refused(target);
        if (!result.target_gone.empty()) result.target_gone_s = last_cut_off_s(result.samples);
    }
    if (result.target_gone_s > 0) {
        detection.cut_off = cut_off;
    } else {
        result.target_gone.clear();
        if (detection.timeout != 0) detection.false_evictions += cut_off;
    }
}

}  // namespace pulse::load
