// Bounds and constants of the anomaly watch. Those that decide what is an anomaly were chosen on
// the training servers of the study (bench/anomaly/), never on those that its table reports.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// Times below are in samples: at --anomaly-interval 10s, its default, 360 are an hour.
// ------------------------------------------------------------------------------------- baseline
// Before so many samples there is no baseline, and nothing is an anomaly: 5 minutes, in which the
// clients of a server that has just started have come back.
inline constexpr uint32_t kAnomalyLearnSamples = 30;
// How slowly the level follows what is normal: an hour until a day is known, then three, since the
// time of day explains the rest.
inline constexpr uint32_t kAnomalyLevelSamples = 360;
inline constexpr uint32_t kAnomalySeasonedLevelSamples = 1'080;
// The same of the spread. A drift of an hour widens it by less than a fifth.
inline constexpr uint32_t kAnomalySpreadSamples = 2'160;
// A sample moves the level as if it were this many spreads away at most.
inline constexpr double kAnomalyPull = 2;
// Slots of a day, half an hour each, and how many days are remembered of each: a week.
inline constexpr uint32_t kAnomalyDaySlots = 48;
inline constexpr uint32_t kAnomalyDaysKept = 7;
// Samples of a slot without which it is not learned: a day may begin in the middle of one.
inline constexpr uint32_t kAnomalySlotSamplesMin = 30;

// --------------------------------------------------------------------------------------- change
// CUSUM over the distance from the baseline in spreads: the allowance, the threshold, and what one
// sample can add, so that one alone never is an anomaly.
inline constexpr double kAnomalyAllowance = 4;
inline constexpr double kAnomalyThreshold = 8;
inline constexpr double kAnomalyDistanceMax = 10;
static_assert(kAnomalyDistanceMax - kAnomalyAllowance < kAnomalyThreshold);
// The allowance while no day is known yet.
inline constexpr double kAnomalyFirstDayAllowance = 5;
// It is over after so many samples in a row within the allowance: a minute. One that lasts longer
// than an hour is what is normal from then on.
inline constexpr uint32_t kAnomalyCalmSamples = 6;
inline constexpr uint32_t kAnomalySamplesMax = 360;

// ------------------------------------------------------------------------------------- evidence
// Entries of a table of those that hold most: any group with more than a 64th of all is in it.
inline constexpr size_t kHeavyHitters = 64;

}  // namespace pulse
