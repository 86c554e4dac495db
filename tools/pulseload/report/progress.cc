// A table of five lines, drawn over itself.
#include "tools/pulseload/report/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "tools/pulseload/run/human.h"

namespace pulse::load {
namespace {

constexpr size_t kBarColumns = 30;
constexpr double kSecondsMin = 0.25;
constexpr size_t kTerminalColumns = 80;  // where it does not report them

// Differences over the time between two samples. Totals never fall; a gauge is not asked for here.
class Rates {
  public:
    Rates(const Sample& now, const Sample& before)
        : now_(now), before_(before), seconds_(std::max(now.at_s - before.at_s, 1e-3)) {}

    std::string of(uint64_t Counts::* total) const {
        const uint64_t now = now_.counts.*total;
        const uint64_t before = std::min(now, before_.counts.*total);
        return human_count(static_cast<uint64_t>(static_cast<double>(now - before) / seconds_));
    }
    std::string share_of_core(double now, double before) const {
        return human_share(std::max(0.0, now - before) / seconds_);
    }

  private:
    const Sample& now_;
    const Sample& before_;
    double seconds_;
};

std::string bar(uint64_t have, uint64_t wanted) {
    const uint64_t filled = wanted == 0 ? 0 : std::min(have, wanted) * kBarColumns / wanted;
    return "[" + std::string(filled, '#') + std::string(kBarColumns - filled, '.') + "]";
}

std::string latency_words(const LatencyPoint& point) {
    if (point.count == 0) return "no answer in this second";
    return fmt::format("p50 {}, p99 {}, max {}", human_duration(point.p50),
                       human_duration(point.p99), human_duration(point.max));
}

size_t terminal_columns(std::FILE* out) {
    winsize size{};
    if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kTerminalColumns;
    return size.ws_col;
}

}  // namespace

std::vector<std::string> progress_table(const Sample& now, const Sample& before, uint32_t wanted) {
    const Rates rates(now, before);
    const Counts& counts = now.counts;
    const LatencyPoint& beats = now.latency[static_cast<size_t>(Timed::heartbeat)];
    std::vector<std::string> lines;
    lines.push_back(fmt::format("  {:>9}  {:<6} {} {} of {} open", human_seconds(now.at_s),
                                name_of(now.phase), bar(counts.open, wanted),
                                human_count(counts.open), human_count(wanted)));
    lines.push_back(fmt::format("  connects   {:>9}/s   {} on the way, {} failed, {} refused",
                                rates.of(&Counts::connected), human_count(counts.connecting),
                                human_count(counts.connect_failures),
                                human_count(counts.refusals)));
    lines.push_back(
        fmt::format("  heartbeats {:>9}/s   {}", rates.of(&Counts::pongs), latency_words(beats)));
    if (counts.messages > 0) {
        const LatencyPoint& messages = now.latency[static_cast<size_t>(Timed::message)];
        lines.push_back(fmt::format("  messages   {:>9}/s   {}",
                                    rates.of(&Counts::messages_returned), latency_words(messages)));
    }
    lines.push_back(
        fmt::format("  ended      {:>9}/s   by the server, {} so far; {} protocol errors",
                    rates.of(&Counts::server_closes), human_count(counts.server_closes),
                    human_count(counts.protocol_errors)));
    lines.push_back(
        fmt::format("  generator  {:>11}   of a core, sends late by {} at most",
                    rates.share_of_core(now.generator_cpu_seconds, before.generator_cpu_seconds),
                    human_duration(now.lateness_max)));
    if (now.server.present) {
        lines.push_back(
            fmt::format("  server     {:>11}   of a core, {} resident",
                        rates.share_of_core(now.server.cpu_seconds, before.server.cpu_seconds),
                        human_bytes(static_cast<double>(now.server.rss_bytes))));
    }
    return lines;
}

std::string progress_line(const Sample& now, const Sample& before, uint32_t wanted) {
    const Rates rates(now, before);
    const LatencyPoint& beats = now.latency[static_cast<size_t>(Timed::heartbeat)];
    return fmt::format(
        "{} {}: {}/{} open, {} connects/s, {} heartbeats/s, {}, server ended {}, late by {}",
        human_seconds(now.at_s), name_of(now.phase), human_count(now.counts.open),
        human_count(wanted), rates.of(&Counts::connected), rates.of(&Counts::pongs),
        latency_words(beats), human_count(now.counts.server_closes),
        human_duration(now.lateness_max));
}

void Progress::show(const Sample& now, const Sample& before, uint32_t wanted) {
    // Rates of a sample that a change of phase cut short mean nothing; the table before does.
    if (now.at_s - before.at_s < kSecondsMin) return;
    std::string drawn;
    if (lines_) drawn = progress_line(now, before, wanted) + "\n";
    if (terminal_) {
        // A line that wraps would take two, and the next table would begin one too low.
        const size_t columns = terminal_columns(out_);
        if (drawn_lines_ > 0) drawn = fmt::format("\x1b[{}A", drawn_lines_);
        const std::vector<std::string> lines = progress_table(now, before, wanted);
        for (const std::string& line : lines) drawn += line.substr(0, columns - 1) + "\x1b[K\n";
        drawn += "\x1b[J";  // where the table before was longer
        drawn_lines_ = lines.size();
    }
    std::fwrite(drawn.data(), 1, drawn.size(), out_);
    std::fflush(out_);
}

void Progress::finish() { drawn_lines_ = 0; }

}  // namespace pulse::load
