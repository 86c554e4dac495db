// Draws plots for the report page: HTML around an inline SVG, drawn when the page is written, so
// that it needs neither a script nor a network.
//
// The SVG holds only shapes and is stretched over whatever room the page gives; every word (axes,
// legend, tips) is HTML beside it, so that text keeps its size on a phone. Colours are the classes
// s0 ... s5, which the page's style sheet defines for light and dark. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pulse::load {

enum class Scale : uint8_t { linear, log };

struct Series {
    std::string name;
    uint32_t color = 0;          // s0 ... s5
    std::vector<double> values;  // one for each instant; NaN where there is none
    bool filled = false;         // down to the axis
};

// A vertical line: a storm, a deadline.
struct PlotMark {
    double at = 0;
    std::string label;
};
// A stretch of the x axis: ramp, hold, drain.
struct PlotBand {
    double from = 0;
    double to = 0;
    std::string label;
};

using Formatter = std::string (*)(double value);

// Values over time.
struct LinePlot {
    std::string title;
    std::string note;            // a sentence under the title
    std::vector<double> at_s;    // instants, rising
    std::vector<Series> series;  // none, or all of them empty: no plot
    std::vector<PlotMark> marks;
    std::vector<PlotBand> bands;
    Scale scale = Scale::linear;
    std::string unit;            // of the y axis: "connections", "latency"
    bool integer = false;        // between two whole numbers there is nothing
    Formatter format = nullptr;  // values as text, at the axis and in tips
};
std::string draw(const LinePlot& plot);

// Counts in stacked bars; each bar is as wide as the others.
struct BarPlot {
    std::string title;
    std::string note;
    double from = 0;             // where the first bar begins
    double width = 1;            // of a bar
    std::vector<Series> series;  // a count for each bar
    std::vector<PlotMark> marks;
    std::string unit;            // of the y axis
    std::string place_unit;      // of the x axis
    Formatter format = nullptr;  // values of the x axis as text
};
std::string draw(const BarPlot& plot);

// Round numbers from at most `low` to at least `high`: at most `most` steps of 1, 2, 2.5 or 5 times
// a power of ten. For tests.
std::vector<double> axis_steps(double low, double high, uint32_t most);
// From 1, 2 or 5 times a power of ten at or below `low` to one at or above `high`: all of them
// where they are few, else powers of ten between these two. Both above 0.
std::vector<double> log_steps(double low, double high);
// "0:30", "12:05", "1:00:00".
std::string clock_label(double seconds);

}  // namespace pulse::load
