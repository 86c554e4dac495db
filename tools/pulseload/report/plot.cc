// Axes, shapes and tips. Inside an SVG x and y run from 0 to 1000, y downwards.
#include "tools/pulseload/report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "tools/pulseload/report/markup.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {
namespace {

constexpr double kSide = 1'000;
constexpr uint32_t kValueSteps = 5;
constexpr int64_t kLogStepsMax = 8;
constexpr uint32_t kPlaceSteps = 6;
constexpr double kNarrowPercent = 16;  // of the width: too little for a word on a phone
constexpr double kEndPercent = 95;     // a word centred here would leave the figure
constexpr size_t kDashes = 5;     // d0 ... d4 of the style sheet: series differ without colour, too
constexpr size_t kTipsMax = 150;  // columns that can be pointed at; more are narrower than a finger

// From values to 0..1 along an axis.
struct Axis {
    double low = 0;
    double high = 1;
    Scale scale = Scale::linear;
    std::vector<double> steps;

    double place(double value) const {
        if (scale == Scale::log) {
            return std::clamp(std::log(std::max(value, low) / low) / std::log(high / low), 0.0,
                              1.0);
        }
        return std::clamp((value - low) / (high - low), 0.0, 1.0);
    }
};

// Of whole numbers: no steps between them, whose labels would repeat.
std::vector<double> linear_steps(double high, bool integer) {
    if (!integer || high > kValueSteps) return axis_steps(0, high, kValueSteps);
    std::vector<double> steps;
    for (double step = 0; step < high + 1; ++step) steps.push_back(step);
    return steps;
}

Axis value_axis(const std::vector<Series>& series, Scale scale, bool integer) {
    double low = INFINITY;
    double high = -INFINITY;
    for (const Series& one : series) {
        for (const double value : one.values) {
            if (std::isnan(value) || (scale == Scale::log && value <= 0)) continue;
            low = std::min(low, value);
            high = std::max(high, value);
        }
    }
    Axis axis;
    axis.scale = scale;
    if (scale == Scale::log) {
        axis.steps = std::isinf(low) ? std::vector<double>{1, 10} : log_steps(low, high);
    } else {
        axis.steps = linear_steps(std::isinf(high) || high <= 0 ? 1 : high, integer);
    }
    axis.low = axis.steps.front();
    axis.high = axis.steps.back();
    return axis;
}

// Clock times: steps of whole seconds, minutes or hours, and the axis ends where the run does.
Axis time_axis(double from, double to) {
    constexpr double kSteps[] = {1,   2,   5,   10,    15,    20,    30,     60,     120,
                                 300, 600, 900, 1'800, 3'600, 7'200, 14'400, 43'200, 86'400};
    Axis axis;
    axis.low = from;
    axis.high = to > from ? to : from + 1;
    double step = kSteps[std::size(kSteps) - 1];
    for (const double candidate : kSteps) {
        if ((axis.high - axis.low) / candidate <= kPlaceSteps) {
            step = candidate;
            break;
        }
    }
    for (int64_t at = std::llround(std::ceil(from / step));
         static_cast<double>(at) * step <= axis.high; ++at)
        axis.steps.push_back(static_cast<double>(at) * step);
    return axis;
}

// ------------------------------------------------------------------------------------------ shapes

struct Frame {
    Axis x;
    Axis y;
    double across(double value) const { return x.place(value) * kSide; }
    double down(double value) const { return (1 - y.place(value)) * kSide; }
};

bool drawable(const Frame& frame, double value) {
    return !std::isnan(value) && (frame.y.scale == Scale::linear || value > 0);
}

// Broken where there is no value; a value alone is a dot, by the line's round ends.
std::string line_path(const Frame& frame, const std::vector<double>& at, const Series& series) {
    std::string path;
    bool drawing = false;
    for (size_t index = 0; index < at.size(); ++index) {
        const double value = series.values[index];
        if (!drawable(frame, value)) {
            drawing = false;
            continue;
        }
        const double x = frame.across(at[index]);
        const double y = frame.down(value);
        path += fmt::format("{}{:.1f} {:.1f}{}", drawing ? "L" : "M", x, y, drawing ? "" : "h0");
        drawing = true;
    }
    return path;
}

// Values without a neighbour on either side: a line has no length there.
std::string lone_values(const Frame& frame, const std::vector<double>& at, const Series& series) {
    std::string path;
    for (size_t index = 0; index < at.size(); ++index) {
        const auto has = [&](size_t other) { return drawable(frame, series.values[other]); };
        const bool before = index > 0 && has(index - 1);
        const bool after = index + 1 < at.size() && has(index + 1);
        if (!has(index) || before || after) continue;
        path += fmt::format("M{:.1f} {:.1f}h0", frame.across(at[index]),
                            frame.down(series.values[index]));
    }
    return path;
}

std::string area_path(const Frame& frame, const std::vector<double>& at, const Series& series) {
    std::string path;
    double from = 0;
    double last = 0;
    const auto close = [&] {
        if (!path.empty() && path.back() != 'Z')
            path += fmt::format("L{:.1f} {}L{:.1f} {}Z", last, kSide, from, kSide);
    };
    bool drawing = false;
    for (size_t index = 0; index < at.size(); ++index) {
        if (!drawable(frame, series.values[index])) {
            close();
            drawing = false;
            continue;
        }
        last = frame.across(at[index]);
        if (!drawing) from = last;
        path += fmt::format("{}{:.1f} {:.1f}", drawing ? "L" : "M", last,
                            frame.down(series.values[index]));
        drawing = true;
    }
    close();
    return path;
}

std::string grid_lines(const Frame& frame) {
    std::string lines;
    for (const double step : frame.y.steps)
        lines += fmt::format("M0 {0:.1f}H{1}", frame.down(step), kSide);
    return "<path class=\"grid\" d=\"" + lines + "\"/>";
}

std::string mark_lines(const Frame& frame, const std::vector<PlotMark>& marks) {
    std::string lines;
    for (const PlotMark& mark : marks)
        lines += fmt::format("M{:.1f} 0V{}", frame.across(mark.at), kSide);
    return lines.empty() ? "" : "<path class=\"mark\" d=\"" + lines + "\"/>";
}

// ------------------------------------------------------------------------------ words around them

std::string axis_labels(const Frame& frame, Formatter format_x, Formatter format_y) {
    std::string html = "<div class=\"ys\" aria-hidden=\"true\">";
    for (const double step : frame.y.steps) {
        html +=
            fmt::format("<span style=\"top:{:.2f}%\">{}</span>", 100 - 100 * frame.y.place(step),
                        escaped(without_zeros(format_y(step))));
    }
    html += "</div><div class=\"xs\" aria-hidden=\"true\">";
    // A phone shows every other one; 0 is among them.
    const std::vector<double>& steps = frame.x.steps;
    const double apart = steps.size() > 1 ? steps[1] - steps[0] : 1;
    for (const double step : steps) {
        const bool odd = std::llround(step / apart) % 2 != 0;
        const double place = 100 * frame.x.place(step);
        html += fmt::format("<span class=\"{}{}\" style=\"left:{:.2f}%\">{}</span>",
                            odd ? "odd" : "", place > kEndPercent ? " end" : "", place,
                            escaped(without_zeros(format_x(step))));
    }
    return html + "</div>";
}

std::string axis_names(const std::string& y, const std::string& x) {
    return fmt::format("<span class=\"yname\">{}</span><span class=\"xname\">{}</span>", escaped(y),
                       escaped(x));
}

std::string mark_labels(const Frame& frame, const std::vector<PlotMark>& marks,
                        const std::vector<PlotBand>& bands) {
    std::string html;
    for (const PlotBand& band : bands) {
        const double from = 100 * frame.x.place(band.from);
        const double width = 100 * frame.x.place(band.to) - from;
        if (width < kNarrowPercent / 2) continue;
        html +=
            fmt::format("<span class=\"band{}\" style=\"left:{:.2f}%;width:{:.2f}%\">{}</span>",
                        width < kNarrowPercent ? " narrow" : "", from, width, escaped(band.label));
    }
    for (const PlotMark& mark : marks) {
        html += fmt::format("<span class=\"flag\" style=\"left:{:.2f}%\">{}</span>",
                            100 * frame.x.place(mark.at), escaped(mark.label));
    }
    return html;
}

std::string legend(const std::vector<Series>& series, bool bars) {
    if (series.size() < 2) return "";
    std::string html = "<ul class=\"legend\">";
    for (size_t at = 0; at < series.size(); ++at) {
        const std::string key =
            bars ? fmt::format("<rect class=\"bar s{}\" width=\"30\" height=\"4\"/>",
                               series[at].color)
                 : fmt::format("<path class=\"line s{} d{}\" d=\"M1 2H29\"/>", series[at].color,
                               at % kDashes);
        html += fmt::format(
            "<li><svg class=\"key\" viewBox=\"0 0 30 4\" aria-hidden=\"true\">{}</svg>{}</li>", key,
            escaped(series[at].name));
    }
    return html + "</ul>";
}

// A column to point at, with the text that it shows.
std::string tip(double left, double right, const std::string& words) {
    return fmt::format(
        "<b class=\"tip{}\" style=\"left:{:.2f}%;width:{:.2f}%\" data-tip=\"{}\"></b>",
        left + right > 100 ? " left" : "", left, right - left, escaped(words));
}

std::string figure(const std::string& title, const std::string& note, const std::string& spoken,
                   const std::string& legend, const std::string& shapes, const std::string& labels,
                   const std::string& over) {
    return fmt::format(
        "<figure>\n<figcaption><h3>{}</h3><p>{}</p></figcaption>{}\n<div class=\"frame\">"
        "<div class=\"area\"><svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" "
        "role=\"img\" aria-label=\"{}\">{}</svg>{}</div>{}</div>\n</figure>\n",
        escaped(title), escaped(note), legend, escaped(spoken), shapes, over, labels);
}

// What a picture shows, as text for screen readers.
std::string spoken_lines(const LinePlot& plot) {
    std::string words = plot.title + " over time.";
    for (const Series& one : plot.series) {
        double low = INFINITY;
        double high = -INFINITY;
        for (const double value : one.values) {
            if (std::isnan(value)) continue;
            low = std::min(low, value);
            high = std::max(high, value);
        }
        if (std::isinf(low)) continue;
        words += fmt::format(" {}: from {} to {}.", one.name, plot.format(low), plot.format(high));
    }
    return words;
}

std::string line_tips(const LinePlot& plot, const Frame& frame) {
    std::string html;
    const size_t stride = plot.at_s.size() / kTipsMax + 1;
    double left = 0;
    for (size_t index = 0; index < plot.at_s.size(); index += stride) {
        const size_t next = std::min(index + stride, plot.at_s.size() - 1);
        const double between = (plot.at_s[index] + plot.at_s[next]) / 2;
        const double right = next == index ? 100 : 100 * frame.x.place(between);
        std::string words = clock_label(plot.at_s[index]);
        for (const Series& one : plot.series) {
            if (!std::isnan(one.values[index]))
                words += fmt::format("\n{}: {}", one.name, plot.format(one.values[index]));
        }
        html += tip(left, right, words);
        left = right;
    }
    return html;
}

}  // namespace

std::vector<double> axis_steps(double low, double high, uint32_t most) {
    const double rough = std::max(high - low, 1e-9) / most;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    double step = 10 * power;
    for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
        if (factor * power >= rough * (1 - 1e-9)) {
            step = factor * power;
            break;
        }
    }
    std::vector<double> steps;
    const int64_t first = std::llround(std::floor(low / step + 1e-9));
    const int64_t last = std::llround(std::ceil(high / step - 1e-9));
    for (int64_t at = first; at <= last; ++at) steps.push_back(static_cast<double>(at) * step);
    return steps;
}

std::vector<double> log_steps(double low, double high) {
    constexpr double kFactors[] = {1, 2, 5};
    std::vector<double> all;
    const int64_t first_power = std::llround(std::floor(std::log10(low))) - 1;
    const int64_t last_power = std::llround(std::ceil(std::log10(high))) + 1;
    for (int64_t power = first_power; power <= last_power; ++power) {
        for (const double factor : kFactors)
            all.push_back(factor * std::pow(10, static_cast<double>(power)));
    }
    const auto after = [](double value) { return value * (1 + 1e-9); };
    const auto first = std::upper_bound(all.begin(), all.end(), after(low)) - 1;
    const auto last =
        std::max(std::lower_bound(all.begin(), all.end(), high / after(1)), first + 1);
    if (last - first <= kLogStepsMax) return {first, last + 1};
    // The ends where they are, and decades between them that are not too near to an end.
    std::vector<double> steps = {*first};
    for (auto at = first + 2; at + 2 <= last; ++at) {
        if ((at - all.begin()) % 3 == 0) steps.push_back(*at);
    }
    steps.push_back(*last);
    return steps;
}

std::string clock_label(double seconds) {
    const auto whole = static_cast<int64_t>(std::llround(std::max(seconds, 0.0)));
    if (whole < 3'600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
    return fmt::format("{}:{:02}:{:02}", whole / 3'600, whole / 60 % 60, whole % 60);
}

std::string draw(const LinePlot& plot) {
    if (plot.at_s.empty() || plot.series.empty()) return "";
    Frame frame;
    frame.x = time_axis(0, plot.at_s.back());
    frame.y = value_axis(plot.series, plot.scale, plot.integer);
    std::string shapes;
    for (const PlotBand& band : plot.bands) {
        const double from = frame.across(band.from);
        shapes +=
            fmt::format("<rect class=\"band {}\" x=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\"/>",
                        escaped(band.label), from, frame.across(band.to) - from, kSide);
    }
    shapes += grid_lines(frame);
    for (const Series& one : plot.series) {
        if (!one.filled) continue;
        shapes += fmt::format("<path class=\"fill s{}\" d=\"{}\"/>", one.color,
                              area_path(frame, plot.at_s, one));
    }
    for (size_t at = 0; at < plot.series.size(); ++at) {
        const Series& one = plot.series[at];
        shapes += fmt::format("<path class=\"line s{} d{}\" d=\"{}\"/>", one.color, at % kDashes,
                              line_path(frame, plot.at_s, one));
        if (const std::string lone = lone_values(frame, plot.at_s, one); !lone.empty())
            shapes += fmt::format("<path class=\"dot s{}\" d=\"{}\"/>", one.color, lone);
    }
    shapes += mark_lines(frame, plot.marks);
    const std::string over = mark_labels(frame, plot.marks, plot.bands) + line_tips(plot, frame);
    return figure(plot.title, plot.note, spoken_lines(plot), legend(plot.series, false), shapes,
                  axis_labels(frame, clock_label, plot.format) +
                      axis_names(plot.scale == Scale::log ? plot.unit + " (log scale)" : plot.unit,
                                 "time since the start (min:s)"),
                  over);
}

std::string draw(const BarPlot& plot) {
    const size_t bars = plot.series.empty() ? 0 : plot.series[0].values.size();
    if (bars == 0) return "";
    Series sums;
    sums.values.assign(bars, 0);
    for (const Series& one : plot.series) {
        for (size_t bar = 0; bar < bars; ++bar) sums.values[bar] += one.values[bar];
    }
    Frame frame;
    frame.x.low = plot.from;
    frame.x.high = plot.from + plot.width * static_cast<double>(bars);
    for (const double step : axis_steps(frame.x.low, frame.x.high, kPlaceSteps)) {
        if (step >= frame.x.low && step <= frame.x.high) frame.x.steps.push_back(step);
    }
    frame.y = value_axis({sums}, Scale::linear, true);
    std::string shapes = grid_lines(frame);
    std::string over = mark_labels(frame, plot.marks, {});
    std::string spoken = plot.title + ".";
    for (size_t bar = 0; bar < bars; ++bar) {
        const double from = plot.from + plot.width * static_cast<double>(bar);
        const double left = frame.across(from);
        const double width = frame.across(from + plot.width) - left;
        std::string words = plot.format(from) + " to " + plot.format(from + plot.width);
        double base = 0;
        for (const Series& one : plot.series) {
            const double count = one.values[bar];
            if (count <= 0) continue;
            const double top = frame.down(base + count);
            shapes += fmt::format(
                "<rect class=\"bar s{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
                "height=\"{:.1f}\"/>",
                one.color, left + width * 0.08, top, width * 0.84, frame.down(base) - top);
            base += count;
            words += fmt::format("\n{}: {}", one.name, human_count(static_cast<uint64_t>(count)));
        }
        over += tip(left / 10, (left + width) / 10, words);
        if (base > 0) spoken += " " + words + ".";
    }
    shapes += mark_lines(frame, plot.marks);
    const auto human_whole = [](double value) { return human_count(static_cast<uint64_t>(value)); };
    return figure(
        plot.title, plot.note, spoken, legend(plot.series, true), shapes,
        axis_labels(frame, plot.format, human_whole) + axis_names(plot.unit, plot.place_unit),
        over);
}

}  // namespace pulse::load
