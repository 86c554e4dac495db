// The search for what a network bears, over each silence that it might bear, and what is remembered
// of what clients found.
#include "core/heartbeat/nat_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/heartbeat/nat_reports.h"

namespace pulse {
namespace {

struct Tried {
    NatSilence found;
    std::vector<Nanos> silences;  // that were tried, in the order of their beginnings
    Nanos took = 0;               // with 10 s for the answer of each round
};

// As a client does it that tries the silences of a round at once.
Tried search(NatSilence hint, Nanos truth) {
    NatSearch search(hint);
    Tried run;
    while (!search.done()) {
        const std::vector<Nanos> round(search.round().begin(), search.round().end());
        Nanos begun_for = 0;
        for (const Nanos silence : round) {
            EXPECT_TRUE(silence >= kNatSilenceMinNs && silence <= kNatSilenceMaxNs) << silence;
            run.silences.push_back(silence);
        }
        for (const Nanos silence : round) {
            if (std::ranges::find(search.round(), silence) == search.round().end()) break;
            begun_for = silence;
            search.note(silence, silence <= truth);
        }
        run.took += begun_for + 10 * kSecond;
        EXPECT_LE(run.silences.size(), 20u);
        if (run.silences.size() > 20) break;
    }
    run.found = search.found();
    return run;
}

TEST(NatSearch, EndsWithinATenthOfTheTruthByEightSilencesAndInAnHour) {
    size_t most = 0;
    Nanos longest = 0;
    for (Nanos truth = kNatSilenceMinNs; truth < 4'000 * kSecond; truth += truth / 500) {
        const Tried run = search({}, truth);
        const Nanos bounded = std::min(truth, kNatSilenceMaxNs);
        EXPECT_LE(run.found.kept, truth);
        EXPECT_GE(static_cast<double>(run.found.kept) * kNatFactor,
                  static_cast<double>(bounded) * 0.999)
            << truth;
        EXPECT_TRUE(run.found.lost == 0 || run.found.lost > truth) << truth;
        most = std::max(most, run.silences.size());
        longest = std::max(longest, run.took);
    }
    EXPECT_LE(most, 8u);
    EXPECT_LT(longest, 3'600 * kSecond);
}

TEST(NatSearch, ConfirmsWhatOthersFoundByOneSilence) {
    for (Nanos truth = 40 * kSecond; truth < 4'000 * kSecond; truth += truth / 50) {
        const NatSilence hint = search({}, truth).found;
        const Tried run = search(hint, truth);
        if (hint.kept > kNatSilenceMinNs) {
            EXPECT_EQ(run.silences, std::vector{hint.kept}) << truth;
        }
        EXPECT_EQ(run.found, hint) << truth;
    }
}

TEST(NatSearch, FindsTheTruthAllTheSameWhereOthersAreWrong) {
    for (const Nanos said : {45 * kSecond, 300 * kSecond, 1'700 * kSecond}) {
        const Nanos truth = 200 * kSecond;
        const Tried run = search({.kept = said, .lost = 0}, truth);
        EXPECT_LE(run.found.kept, truth) << said;
        EXPECT_GE(static_cast<double>(run.found.kept) * kNatFactor, static_cast<double>(truth));
        EXPECT_LE(run.silences.size(), 9u) << said;
    }
    // What cannot be is not listened to.
    for (const NatSilence& hint :
         {NatSilence{5 * kSecond, 0}, NatSilence{300 * kSecond, 200 * kSecond},
          NatSilence{7'200 * kSecond, 0}})
        EXPECT_EQ(search(hint, 200 * kSecond).silences, search({}, 200 * kSecond).silences);
}

// The same as tests/tools/client/nat_test.mjs has: both clients try the same.
TEST(NatSearch, TriesTheseSilences) {
    const auto in_ms = [](Nanos truth) {
        std::vector<int64_t> all;
        for (const Nanos silence : search({}, truth).silences)
            all.push_back(silence / kMillisecond);
        return all;
    };
    EXPECT_EQ(in_ms(65 * kSecond),
              (std::vector<int64_t>{117'446, 459'785, 42'198, 59'358, 83'494, 64'643, 70'399,
                                    76'667}));
    EXPECT_EQ(in_ms(2'000 * kSecond),
              (std::vector<int64_t>{117'446, 459'785, 646'746, 909'732, 1'279'655, 1'393'598,
                                    1'517'688, 1'652'827}));
}

TEST(NatSearch, PassesOverWhatIsNotOfItsRound) {
    NatSearch search;
    const std::vector<Nanos> round(search.round().begin(), search.round().end());
    ASSERT_EQ(round.size(), 2u);
    search.note(kNatSilenceMinNs, false);
    EXPECT_EQ(search.round().size(), 2u) << "the shortest is taken to be borne";
    search.note(round[1], true);
    EXPECT_GT(search.round().front(), round[1]) << "a longer one was borne, and so was this";
    search.note(round[0], false);
    EXPECT_EQ(search.found().lost, 0);
}

TEST(NatSilences, LeaveAnIntervalAMargin) {
    EXPECT_EQ((NatSilence{30 * kSecond, 0}.interval()), 27 * kSecond);
    EXPECT_EQ((NatSilence{600 * kSecond, 0}.interval()), 570 * kSecond);
}

// --------------------------------------------------------------------------------- what is known

constexpr Nanos kHour = 3'600 * kSecond;

NatReports reports() {
    NatReports reports;
    reports.turn_on();
    return reports;
}

TEST(NatReports, HaveTheMedianOfTheLastClientsOfANetwork) {
    NatReports known = reports();
    EXPECT_EQ(known.of(7, kHour), NatSilence{});
    const auto say = [&](uint32_t client, int64_t kept_s) {
        return known.add(7, client, {kept_s * kSecond, (kept_s + 20) * kSecond}, kHour);
    };
    EXPECT_TRUE(say(1, 280));
    EXPECT_EQ(known.of(7, kHour), (NatSilence{280 * kSecond, 300 * kSecond}));
    EXPECT_EQ(known.of(8, kHour), NatSilence{}) << "another network";
    EXPECT_TRUE(say(2, 1'700));
    EXPECT_EQ(known.of(7, kHour).kept, 280 * kSecond) << "of two the shorter";
    EXPECT_TRUE(say(3, 284));
    EXPECT_EQ(known.of(7, kHour).kept, 284 * kSecond) << "one that lies is outvoted";
    EXPECT_TRUE(say(4, 31));
    EXPECT_TRUE(say(5, 282));
    EXPECT_EQ(known.of(7, kHour).kept, 282 * kSecond) << "and so are two";
}

TEST(NatReports, TakeOneVoiceOfAClientAndItsNewestInAnHour) {
    NatReports known = reports();
    EXPECT_TRUE(known.add(7, 1, {280 * kSecond, 0}, kHour));
    for (Nanos at = kHour; at < 2 * kHour; at += kHour / 4)
        EXPECT_FALSE(known.add(7, 1, {40 * kSecond, 0}, at)) << at;
    EXPECT_EQ(known.of(7, 2 * kHour).kept, 280 * kSecond);
    EXPECT_TRUE(known.add(7, 1, {300 * kSecond, 0}, 2 * kHour));
    EXPECT_EQ(known.of(7, 2 * kHour).kept, 300 * kSecond);
    // The oldest gives way to a sixth client.
    for (uint32_t client = 2; client <= 6; ++client)
        EXPECT_TRUE(known.add(7, client, {60 * kSecond, 0}, (client + 2) * kHour));
    EXPECT_EQ(known.of(7, 9 * kHour).kept, 60 * kSecond);
    EXPECT_TRUE(known.add(7, 1, {300 * kSecond, 0}, 8 * kHour)) << "it was forgotten";
}

// A crowd that comes back at once, and users that one peer makes up, are not passed on each.
TEST(NatReports, TakeAsManyVoicesOfACrowdAsCount) {
    NatReports known = reports();
    uint32_t taken = 0;
    for (uint32_t client = 1; client <= 10'000; ++client)
        taken += known.add(7, client, {280 * kSecond, 0}, kHour);
    EXPECT_EQ(taken, kNatReporters);
    EXPECT_FALSE(known.add(7 + kNatNetworks, 1, {90 * kSecond, 0}, kHour)) << "of its place, too";
    EXPECT_EQ(known.of(7, kHour).kept, 280 * kSecond);
    EXPECT_TRUE(known.add(7, 10'001, {280 * kSecond, 0}, kHour + 60 * kSecond));
}

TEST(NatReports, ExpireAndGiveWayToANewerNetwork) {
    NatReports known = reports();
    known.add(7, 1, {280 * kSecond, 0}, kHour);
    EXPECT_EQ(known.of(7, kHour + kNatReportNs).kept, 280 * kSecond);
    EXPECT_EQ(known.of(7, kHour + kNatReportNs + 61 * kSecond), NatSilence{});
    known.add(7 + kNatNetworks, 1, {90 * kSecond, 0}, 2 * kHour);
    EXPECT_EQ(known.of(7, 2 * kHour), NatSilence{}) << "they have one place";
    EXPECT_EQ(known.of(7 + kNatNetworks, 2 * kHour).kept, 90 * kSecond);
    EXPECT_EQ(known.memory_bytes(), kNatNetworks * kCacheLineBytes);
    EXPECT_EQ(NatReports{}.memory_bytes(), 0u);
    EXPECT_EQ(NatReports{}.of(7, kHour), NatSilence{}) << "off";
}

}  // namespace
}  // namespace pulse
