// When things are meant to happen: an open-loop schedule, decided before any answer.
//
//     20000/s                        evenly, from the start
//     ramp:0/s..20000/s@30s          linearly from the one rate to the other, then on at that
//     step:1000/s..10000/s@10s/5     in 5 equal steps of 10 s each, then on at the last rate
//     poisson:500/s                  independent arrivals; stands before any of the above, too
//
// The n-th event happens when the integral of the rate reaches n; with poisson, when it reaches the
// sum of n exponential draws of mean 1 (time change of a Poisson process). Pure: no clock.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "core/result.h"
#include "core/types.h"

namespace pulse::load {

struct PaceSpec {
    struct Segment {
        double length_s;  // of the last one: for ever
        double from;      // events a second at its begin
        double to;        // and at its end
    };
    std::vector<Segment> segments;  // empty: everything at once
    bool poisson = false;
    std::string text = "as fast as it goes";

    bool at_once() const { return segments.empty(); }
};

// The error quotes the text and shows the forms.
Result<PaceSpec> parse_pace(std::string_view text);

// One thread's share of a schedule: of `shares` threads, the one number `share`.
class Pace {
  public:
    Pace(const PaceSpec& spec, uint32_t share, uint32_t shares, uint64_t seed);

    // The instant of the next event, counted from the schedule's begin; kNever: there is none.
    Nanos next() const { return next_; }
    void advance();
    // How many have come due by then, next() or not.
    uint64_t due(Nanos by) const;

  private:
    Nanos instant_of(double events) const;

    const PaceSpec spec_;
    const double shares_;
    Random random_;
    double position_ = 0;  // of the next event, on the integral of the rate
    Nanos next_ = 0;
};

}  // namespace pulse::load
