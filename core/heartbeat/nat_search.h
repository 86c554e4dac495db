// Which silences a network bears: a search by side connections, each of which is silent for a while
// and then has an answer or none. Pure: the caller has clocks, sockets and the judgement whether a
// sample counts (proto/PROTOCOL.md, "Side connections"). The same in JavaScript is
// tools/client/js/src/nat_search.js, and both are tested with the same silences.
//
// One at a time, as bisection goes, half an hour that is borne would take two hours to find. So
// each round tries two or three silences at once, which split what is left on a log scale: 30 s to
// 30 min in three rounds, eight silences and less than an hour. What is found is a silence that was
// borne, within kNatFactor of one that was not.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/limits.h"
#include "core/types.h"

namespace pulse {

// What is known of the silences that a network bears.
struct NatSilence {
    Nanos kept = 0;  // was borne; 0: nothing is known
    Nanos lost = 0;  // was not, and is longer; 0: none was tried that was not borne

    // Whether a client may say so (proto/PROTOCOL.md, "Side connections").
    constexpr bool is_valid() const {
        const bool is_range = kept >= kNatSilenceMinNs && kept <= kNatSilenceMaxNs;
        return is_range && (lost == 0 || (lost > kept && lost <= kNatSilenceMaxNs));
    }
    // The longest interval of heartbeats that goes with it. Requires: is_valid().
    constexpr Nanos interval() const {
        return kept - std::max(kept / kNatMarginShare, kNatMarginMinNs);
    }

    bool operator==(const NatSilence&) const = default;
};

class NatSearch {
  public:
    static constexpr size_t kAtOnceMax = 3;

    // `hint`: what others have found, which one silence is to confirm; NatSilence{}: nothing.
    explicit NatSearch(NatSilence hint = {}) {
        if (hint.is_valid() && hint.kept > kNatSilenceMinNs) {
            hint_ = hint;
            round_[0] = hint.kept;
            in_round_ = 1;
        } else {
            plan();
        }
    }

    // The silences that are to be tried now, each on a connection of its own, shortest first; those
    // that are tried and are not among them any more need no result. Empty: it is done.
    std::span<const Nanos> round() const { return {round_.data(), in_round_}; }
    bool done() const { return in_round_ == 0; }
    // A connection that was silent for so long had an answer, or had none although its device was
    // on the network. A silence of which the answer is known already is not noted.
    void note(Nanos silence, bool kept) {
        if (silence <= found_.kept || silence >= upper()) return;
        if (kept) {
            found_.kept = silence;
        } else {
            found_.lost = silence;
        }
        if (kept && silence == hint_.kept) found_.lost = hint_.lost;
        hint_ = {};
        size_t left = 0;
        for (const Nanos each : round()) {
            if (each > found_.kept && each < upper()) round_[left++] = each;
        }
        in_round_ = left;
        if (left == 0) plan();
    }
    // So far; `kept` is kNatSilenceMinNs at the least, which is not tried.
    NatSilence found() const { return found_; }

  private:
    Nanos upper() const { return found_.lost == 0 ? kNatSilenceMaxNs + 1 : found_.lost; }

    // Into so many parts that two rounds follow at most, or one, or none.
    void plan() {
        const auto least = static_cast<double>(found_.kept);
        const double most =
            static_cast<double>(found_.lost == 0 ? kNatSilenceMaxNs : found_.lost);
        // A step less than a thousandth is one of rounding.
        const double steps = std::log(most / least) / std::log(kNatFactor) - 1e-3;
        size_t parts = 3;
        if (steps <= 1) {
            parts = 1;
        } else if (steps <= 4) {
            parts = static_cast<size_t>(std::ceil(steps));
        } else if (steps <= 16) {
            parts = static_cast<size_t>(std::ceil(std::sqrt(steps)));
        }
        in_round_ = parts - 1;
        for (size_t i = 0; i < in_round_; ++i) {
            const double share = static_cast<double>(i + 1) / static_cast<double>(parts);
            const double silence = least * std::pow(most / least, share);
            round_[i] = static_cast<Nanos>(silence / kMillisecond) * kMillisecond;
        }
    }

    NatSilence found_{.kept = kNatSilenceMinNs};
    NatSilence hint_;
    std::array<Nanos, kAtOnceMax> round_{};
    size_t in_round_ = 0;
};

}  // namespace pulse
