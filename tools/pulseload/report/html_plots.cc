// One function a plot. A long run's samples are thinned first: a screen has no more columns.
#include "tools/pulseload/report/html_plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/units.h"
#include "tools/pulseload/report/plot.h"
#include "tools/pulseload/run/derived.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {
namespace {

constexpr size_t kColumnsMax = 600;  // samples that a plot shows
constexpr size_t kBars = 40;
// A sample that a change of phase cut shorter has too little in it for a rate.
constexpr double kSampleSecondsMin = 0.5;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kMebibyte = 1'048'576;
// Below this share of the wanted connections, bytes a connection are mostly the server's own.
constexpr double kCrowdedShare = 0.1;

std::string human_ns(double value) { return human_duration(static_cast<Nanos>(value)); }
std::string human_whole(double value) {
    return human_count(static_cast<uint64_t>(std::llround(value)));
}
std::string human_rate(double value) { return human_whole(value) + "/s"; }
std::string human_mebibytes(double value) { return fmt::format("{:.4g} MiB", value); }
std::string human_whole_bytes(double value) { return human_whole(value) + " B"; }

// Two neighbours in one: totals and gauges of the later, the worst of the latencies. What a short
// one has too few values for, percentiles, are the other's.
void merge(Sample& into, const Sample& later, bool is_short) {
    const Sample earlier = into;
    into = later;
    into.lateness_max = std::max(earlier.lateness_max, later.lateness_max);
    for (size_t timed = 0; timed < kTimed; ++timed) {
        LatencyPoint& point = into.latency[timed];
        const LatencyPoint& other = earlier.latency[timed];
        LatencyPoint merged = point.count >= other.count ? point : other;
        merged.count = point.count + other.count;
        for (Nanos LatencyPoint::* part :
             {&LatencyPoint::p50, &LatencyPoint::p90, &LatencyPoint::p99, &LatencyPoint::p999}) {
            if (!is_short) merged.*part = std::max(point.*part, other.*part);
        }
        merged.max = std::max(point.max, other.max);
        point = merged;
    }
}

// The short ones merged into the one before, whose phase they take, then as many together as it
// takes to have few enough.
std::vector<Sample> thinned(const std::vector<Sample>& samples) {
    const size_t stride = (samples.size() + kColumnsMax - 1) / kColumnsMax;
    std::vector<Sample> thin;
    size_t merged = 0;  // into the last of them
    double before_s = 0;
    for (const Sample& sample : samples) {
        const bool is_short = sample.at_s - before_s < kSampleSecondsMin;
        before_s = sample.at_s;
        if (thin.empty() || (!is_short && merged >= stride)) {
            thin.push_back(sample);
            merged = 1;
            continue;
        }
        const Phase phase = is_short ? thin.back().phase : sample.phase;
        merge(thin.back(), sample, is_short);
        thin.back().phase = phase;
        ++merged;
    }
    return thin;
}

class Plots {
  public:
    explicit Plots(const RunResult& result) : result_(result), samples_(thinned(result.samples)) {
        double from = 0;
        for (size_t at = 0; at < samples_.size(); ++at) {
            at_s_.push_back(samples_[at].at_s);
            const bool ends =
                at + 1 == samples_.size() || samples_[at + 1].phase != samples_[at].phase;
            if (!ends) continue;
            bands_.push_back({from, samples_[at].at_s, std::string(name_of(samples_[at].phase))});
            from = samples_[at].at_s;
        }
        for (const StormResult& storm : result.storms) marks_.push_back({storm.at_s, "storm"});
    }

    std::string connections() const {
        LinePlot plot =
            over_time("Connections", "Open at the end of each second.", "connections", human_whole);
        plot.series.push_back(gauge("open", 1, [](const Sample& s) { return s.counts.open; }));
        plot.series[0].filled = true;
        plot.series.push_back(
            gauge("on the way", 3, [](const Sample& s) { return s.counts.connecting; }));
        return draw(plot);
    }
    std::string comings() const {
        LinePlot plot =
            over_time("Comings and goings", "Connections that opened and ended, a second.",
                      "connections a second", human_rate);
        plot.series.push_back(rate("opened", 1, &Counts::connected));
        plot.series.push_back(rate("ended by the client", 4, &Counts::client_closes));
        plot.series.push_back(rate("ended by the server", 3, &Counts::server_closes));
        return draw(plot);
    }
    std::string heartbeats() const {
        LinePlot plot = over_time("Heartbeats a second", "Pings that were answered.",
                                  "messages a second", human_rate);
        plot.series.push_back(rate("heartbeats", 0, &Counts::pongs));
        plot.series[0].filled = true;
        if (result_.counts.messages_returned > 0)
            plot.series.push_back(rate("messages echoed", 2, &Counts::messages_returned));
        if (result_.counts.probes > 0)
            plot.series.push_back(rate("probes by the server", 3, &Counts::probes));
        return draw(plot);
    }
    std::string latency(Timed timed, const char* title, const char* note) const {
        const auto at = static_cast<size_t>(timed);
        if (result_.latency[at].count() == 0) return "";
        LinePlot plot = over_time(title, note, "latency", human_ns);
        plot.scale = Scale::log;
        const auto line = [&](const char* name, uint32_t color, Nanos LatencyPoint::* part) {
            Series series = gauge(name, color, [=](const Sample& s) {
                const LatencyPoint& point = s.latency[at];
                return point.count == 0 ? kNone : static_cast<double>(point.*part);
            });
            plot.series.push_back(std::move(series));
        };
        line("max", 5, &LatencyPoint::max);
        line("p99.9", 4, &LatencyPoint::p999);
        line("p99", 2, &LatencyPoint::p99);
        line("p90", 1, &LatencyPoint::p90);
        line("p50", 0, &LatencyPoint::p50);
        return draw(plot);
    }
    std::string processors() const {
        LinePlot plot = over_time("CPU", "Of one core; more than 100 % is more than one.",
                                  "of one core", human_share);
        if (watched()) {
            plot.series.push_back(
                slope("server", 1, [](const Sample& s) { return s.server.cpu_seconds; }));
        }
        plot.series.push_back(
            slope("generator", 5, [](const Sample& s) { return s.generator_cpu_seconds; }));
        return draw(plot);
    }
    std::string resident() const {
        if (!watched()) return "";
        LinePlot plot =
            over_time("Server memory", "Resident, all of the process.", "RSS", human_mebibytes);
        plot.series.push_back(gauge("RSS", 1, [](const Sample& s) {
            return s.server.present ? static_cast<double>(s.server.rss_bytes) / kMebibyte : kNone;
        }));
        plot.series[0].filled = true;
        return draw(plot);
    }
    std::string per_connection() const {
        if (!watched()) return "";
        LinePlot plot =
            over_time("Memory a connection",
                      "RSS above the empty server, and what the kernel charged to its cgroup.",
                      "bytes a connection", human_whole_bytes);
        plot.scale = Scale::log;
        const double crowded = kCrowdedShare * result_.wanted;
        const auto share = [=](const Sample& s, const std::optional<double>& bytes) {
            const bool typical = static_cast<double>(s.counts.open) >= crowded;
            return typical && s.phase != Phase::drain ? bytes.value_or(kNone) : kNone;
        };
        const Sample* last = last_held(result_);
        if (last != nullptr && last->server.kernel_bytes) {
            plot.series.push_back(gauge("kernel", 2, [=](const Sample& s) {
                return share(s, kernel_per_connection(s.server, s.counts.open));
            }));
        }
        plot.series.push_back(gauge("RSS", 1, [=](const Sample& s) {
            return share(s, rss_per_connection(s.server, s.counts.open));
        }));
        return draw(plot);
    }
    std::string lateness() const {
        LinePlot plot =
            over_time("Lateness of the generator",
                      "The latest of its own sends and connects in each second, behind its plan.",
                      "lateness", human_ns);
        plot.scale = Scale::log;
        plot.series.push_back(gauge("latest", 5, [](const Sample& s) {
            return s.lateness_max > 0 ? static_cast<double>(s.lateness_max) : kNone;
        }));
        return draw(plot);
    }

  private:
    LinePlot over_time(std::string title, std::string note, std::string unit,
                       Formatter format) const {
        LinePlot plot;
        plot.title = std::move(title);
        plot.note = std::move(note);
        plot.unit = std::move(unit);
        plot.integer = format == human_whole || format == human_rate;
        plot.at_s = at_s_;
        plot.marks = marks_;
        plot.bands = bands_;
        plot.format = format;
        return plot;
    }
    template <class Of>
    Series gauge(std::string name, uint32_t color, Of&& of) const {
        Series series{.name = std::move(name), .color = color, .values = {}};
        for (const Sample& sample : samples_)
            series.values.push_back(static_cast<double>(of(sample)));
        return series;
    }
    // What a total grew by, a second.
    template <class Of>
    Series slope(std::string name, uint32_t color, Of&& of) const {
        Series series = gauge(std::move(name), color, of);
        double before = 0;
        double before_s = 0;
        for (size_t at = 0; at < at_s_.size(); ++at) {
            const double total = series.values[at];
            const double seconds = at_s_[at] - before_s;
            // What a process used before the run began is not the first second's.
            const bool known = seconds > 0 && (at > 0 || total == 0);
            series.values[at] = known ? std::max(total - before, 0.0) / seconds : kNone;
            before = total;
            before_s = at_s_[at];
        }
        return series;
    }
    Series rate(std::string name, uint32_t color, uint64_t Counts::* total) const {
        Series series =
            slope(std::move(name), color, [=](const Sample& s) { return s.counts.*total; });
        // Counts begin with the run.
        if (!samples_.empty() && at_s_[0] > 0)
            series.values[0] = static_cast<double>(samples_[0].counts.*total) / at_s_[0];
        return series;
    }
    bool watched() const {
        return std::any_of(samples_.begin(), samples_.end(),
                           [](const Sample& s) { return s.server.present; });
    }

    const RunResult& result_;
    std::vector<Sample> samples_;
    std::vector<double> at_s_;
    std::vector<PlotMark> marks_;
    std::vector<PlotBand> bands_;
};

// ------------------------------------------------------------------------------- eviction delays

std::string human_delay(double ns) {
    if (std::fabs(ns) < 1) return "0";
    return (ns > 0 ? "+" : "") + human_duration(static_cast<Nanos>(ns));
}

// Calls visit(delay, count): early ones are negative.
template <class Visit>
void visit_delays(const Detection::Row& row, Visit&& visit) {
    row.late_by.visit([&](Nanos low, Nanos, uint64_t count) {
        visit(static_cast<double>(low), static_cast<double>(count));
    });
    row.early_by.visit([&](Nanos low, Nanos, uint64_t count) {
        visit(-static_cast<double>(low), static_cast<double>(count));
    });
}

std::string eviction_delays(const Detection& detection) {
    if (!any_judged(detection)) return "";
    double low = 0;
    double high = 0;
    visit_delays(silenced_peers(detection), [&](double delay, double) {
        low = std::min(low, delay);
        high = std::max(high, delay);
    });
    // Bars of a round width, with the deadline between two of them and room on both its sides.
    const double span = std::max(high - low, 1e6);
    const std::vector<double> steps = axis_steps(0, span * 1.2, kBars);
    BarPlot plot;
    plot.width = steps[1];
    plot.from = (std::floor(low / plot.width) - 2) * plot.width;
    const auto bars = static_cast<size_t>(std::floor((high - plot.from) / plot.width)) + 3;
    for (size_t at = 0; at < kBehaviours; ++at) {
        const Detection::Row& row = detection.rows[at];
        if (row.late_by.count() + row.early_by.count() == 0) continue;
        constexpr uint32_t kColors[] = {1, 3, 0, 4, 2, 5};
        Series series{.name = std::string(name_of(static_cast<Behaviour>(at))),
                      .color = kColors[plot.series.size() % std::size(kColors)],
                      .values = std::vector<double>(bars, 0.0)};
        visit_delays(row, [&](double delay, double count) {
            const double bar = std::floor((delay - plot.from) / plot.width);
            series.values[std::min(static_cast<size_t>(bar), bars - 1)] += count;
        });
        plot.series.push_back(std::move(series));
    }
    plot.title = "Eviction delay";
    plot.note = fmt::format("When the server evicted silenced peers, from their deadline ({}).",
                            format_duration(detection.timeout));
    plot.unit = "peers";
    plot.place_unit = "time from the deadline";
    plot.marks.push_back({0, "deadline"});
    plot.format = human_delay;
    return draw(plot);
}

}  // namespace

std::string html_plots(const RunResult& result) {
    const Plots plots(result);
    std::string html = plots.connections();
    html += plots.heartbeats();
    html += plots.latency(Timed::heartbeat, "Heartbeat latency",
                          "Ping to pong, from when the ping was due.");
    html += eviction_delays(result.detection);
    html += plots.comings();
    html += plots.latency(Timed::connect, "Connect latency",
                          "Connect to open, from when the connect was due.");
    html += plots.latency(Timed::message, "Message latency",
                          "Message to its echo, from when the message was due.");
    html += plots.processors();
    html += plots.resident();
    html += plots.per_connection();
    html += plots.lateness();
    return html;
}

}  // namespace pulse::load
