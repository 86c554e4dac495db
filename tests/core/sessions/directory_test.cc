// The directory in random worlds against its model, and by the cases that operators ask about.
//
// PULSE_PRESENCE_SEEDS: how many worlds (default 400).
#include "core/sessions/directory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/sessions/cohorts.h"

#include "tests/support/presence_world.h"

namespace pulse::test {
namespace {

using Kind = PresenceChange::Kind;
using Verdict = LoginAnswer::Verdict;

constexpr SipKey kKey = {11, 22};

ConnectionRef connection(uint32_t number, uint32_t reactor = 0) {
    return {{number, number + 1}, reactor};
}

std::vector<Kind> kinds(const Directory& directory) {
    std::vector<Kind> kinds;
    const PresenceStream& stream = directory.stream();
    for (uint64_t at = stream.first(); at < stream.end(); ++at) kinds.push_back(stream.at(at).kind);
    return kinds;
}

TEST(Directory, AgreesWithItsModelInRandomWorlds) {
    const char* asked = std::getenv("PULSE_PRESENCE_SEEDS");
    const uint64_t seeds = asked == nullptr ? 400 : std::strtoull(asked, nullptr, 10);
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
        const std::optional<std::string> fault = PresenceWorld(seed).run();
        ASSERT_FALSE(fault) << "seed " << seed << ": " << *fault;
    }
}

TEST(Directory, TheLateEndOfAnOldConnectionDoesNotEndTheNewLogin) {
    Directory directory({}, kKey);
    const LoginAnswer old = directory.login({"ann", "phone", "", connection(1)}, 0);
    const LoginAnswer next = directory.login({"ann", "phone", "", connection(2)}, kSecond);
    ASSERT_TRUE(next.replaces);
    EXPECT_EQ(next.replaced, connection(1));
    EXPECT_FALSE(directory.logout(old.session, connection(1), CloseReason::idle_timeout, kSecond));
    ASSERT_NE(directory.find("ann"), nullptr);
    EXPECT_EQ(directory.find("ann")->presence, Directory::Presence::online);
    EXPECT_EQ(kinds(directory), (std::vector{Kind::online, Kind::replaced}));
    EXPECT_EQ(directory.counts().stale, 1u);
}

TEST(Directory, AQuickReconnectIsNotABlip) {
    Directory directory({.linger = 10 * kSecond}, kKey);
    const LoginAnswer first = directory.login({"ann", "phone", "", connection(1)}, 0);
    directory.logout(first.session, connection(1), CloseReason::peer_reset, kSecond);
    EXPECT_EQ(directory.next_deadline(), 11 * kSecond);
    EXPECT_FALSE(directory.advance(11 * kSecond - 1, 10));
    directory.login({"ann", "phone", "", connection(2)}, 5 * kSecond);
    EXPECT_EQ(directory.next_deadline(), kNever);
    directory.advance(100 * kSecond, 10);
    EXPECT_EQ(kinds(directory), (std::vector{Kind::online, Kind::replaced}));
    EXPECT_EQ(directory.counts().blips, 1u);
    EXPECT_EQ(directory.find("ann")->generation, 1u);
}

TEST(Directory, LingeringEndsInSlices) {
    Directory directory({.linger = kSecond}, kKey);
    for (uint32_t number = 0; number < 10; ++number) {
        const auto login =
            directory.login({"u" + std::to_string(number), "", "", connection(number)}, 0);
        directory.logout(login.session, connection(number), CloseReason::peer_closed, 0);
    }
    EXPECT_TRUE(directory.advance(kSecond, 4));
    EXPECT_EQ(directory.counts().offline, 4u);
    EXPECT_TRUE(directory.advance(kSecond, 4));
    EXPECT_FALSE(directory.advance(kSecond, 4));
    EXPECT_EQ(directory.counts().offline, 10u);
}

TEST(Directory, ALoginThatCrossedItsOwnReplacementIsRefused) {
    Directory directory({}, kKey);
    const LoginAnswer first = directory.login({"ann", "phone", "", connection(1)}, 0);
    directory.login({"ann", "phone", "", connection(2)}, 0);
    const LoginAnswer late =
        directory.login({"ann", "phone", "x=y", connection(1), first.session}, 0);
    EXPECT_EQ(late.verdict, Verdict::replaced) << "or the two would take over each other for ever";
    EXPECT_EQ(directory.session(directory.find("ann")->first).ref(), connection(2));
}

TEST(Directory, RejectsADuplicateUnlessTheFirstIsSuspect) {
    Directory directory({.duplicate = DuplicateRule::reject}, kKey);
    const LoginAnswer first = directory.login({"ann", "phone", "", connection(1)}, 0);
    EXPECT_EQ(directory.login({"ann", "phone", "", connection(2)}, 0).verdict, Verdict::duplicate);
    EXPECT_EQ(directory.login({"ann", "desk", "", connection(3)}, 0).verdict, Verdict::accepted);
    directory.set_suspect(first.session, connection(1), true, 0);
    EXPECT_TRUE(directory.login({"ann", "phone", "", connection(4)}, 0).replaces);
}

TEST(Directory, ForgetsTheLongestOfflineWhereRoomIsNeeded) {
    Directory directory({.users_max = 3}, kKey);
    for (uint32_t number = 0; number < 3; ++number) {
        const auto login =
            directory.login({"u" + std::to_string(number), "", "", connection(number)}, 0);
        if (number != 1)
            directory.logout(login.session, connection(number), CloseReason::peer_closed, 0);
    }
    EXPECT_EQ(directory.login({"new", "", "", connection(8)}, 0).verdict, Verdict::accepted);
    EXPECT_EQ(directory.find("u0"), nullptr);
    EXPECT_NE(directory.find("u2"), nullptr);
    EXPECT_EQ(directory.login({"more", "", "", connection(9)}, 0).verdict, Verdict::accepted);
    EXPECT_EQ(directory.login({"most", "", "", connection(10)}, 0).verdict, Verdict::out_of_memory);
    EXPECT_EQ(directory.find("most"), nullptr);
    directory.validate();
}

// In a storm of reconnects, the old sessions are what fills it.
TEST(Directory, ATakeoverNeedsNoPlaceOfItsOwn) {
    Directory directory({.sessions_max = 2}, kKey);
    directory.login({"ann", "phone", "", connection(1)}, 0);
    directory.login({"bob", "phone", "", connection(2)}, 0);
    EXPECT_EQ(directory.login({"eve", "", "", connection(3)}, 0).verdict, Verdict::out_of_memory);
    const LoginAnswer again = directory.login({"ann", "phone", "", connection(4)}, 0);
    EXPECT_EQ(again.verdict, Verdict::accepted);
    EXPECT_EQ(again.replaced, connection(1));
    directory.validate();
}

TEST(Directory, AFollowerThatWasAwayTooLongSeesTheGap) {
    Directory directory({.changes_kept = 4}, kKey);
    for (uint32_t number = 0; number < 6; ++number)
        directory.login({"u" + std::to_string(number), "", "", connection(number)}, 0);
    EXPECT_EQ(directory.stream().end(), 6u);
    EXPECT_EQ(directory.stream().first(), 2u);
    EXPECT_EQ(directory.text(directory.stream().at(2).user), "u2");
}

// A 16-byte name and two labels, which a tenth of the users share.
TEST(Directory, AUserCostsLessThan150Bytes) {
    Directory directory({}, kKey);
    constexpr uint32_t kUsers = 100'000;
    const size_t before = directory.bytes();
    for (uint32_t number = 0; number < kUsers; ++number) {
        const std::string name = "user-" + std::to_string(10'000'000'000 + number);
        const std::string labels = "ring=" + std::to_string(number % 10) + " region=eu";
        directory.login({name, "ios", labels, connection(number)}, 0);
    }
    const double each = static_cast<double>(directory.bytes() - before) / kUsers;
    RecordProperty("bytes_per_user", std::to_string(each));
    EXPECT_LT(each, 150);
}

// ---------------------------------------------------------------------------------------- cohorts

CohortPolicy policy_for(std::vector<std::string> labels, uint32_t share, std::string text = {}) {
    CohortPolicy policy{.text = std::move(text), .labels = std::move(labels), .share = share};
    if (policy.text.empty()) {
        for (const std::string& label : policy.labels) policy.text.append(label).append(",");
        policy.text += std::to_string(share);
    }
    return policy;
}
std::string user_number(int number) { return "user" + std::to_string(number); }

TEST(Cohorts, APolicyIsForThoseWithAllOfItsLabels) {
    const CohortPolicy policy = policy_for({"region=eu", "ring=canary"}, kCohortShares);
    EXPECT_TRUE(policy.is_for("u", "region=eu ring=canary"));
    EXPECT_TRUE(policy.is_for("u", "a=b region=eu ring=canary z=1"));
    EXPECT_FALSE(policy.is_for("u", "ring=canary"));
    EXPECT_FALSE(policy.is_for("u", "region=eu ring=canary2"));
    EXPECT_FALSE(policy.is_for("u", "region=eu xring=canary"));
    EXPECT_FALSE(policy.is_for("u", ""));
}

// A share has its size, grows by others, and says nothing of the shares of other labels.
TEST(Cohorts, SharesAreStableGrowingAndIndependent) {
    constexpr int kUsers = 20'000;
    const CohortPolicy tenth = policy_for({"ring=canary"}, 1'000);
    const CohortPolicy fifth = policy_for({"ring=canary"}, 2'000);
    const CohortPolicy half_of_beta = policy_for({"ring=beta"}, 5'000);
    const std::string labels = "ring=canary", beta = "ring=beta";
    int in_tenth = 0, in_fifth = 0, in_both = 0;
    for (int i = 0; i < kUsers; ++i) {
        const std::string user = user_number(i);
        const bool is_in = tenth.is_for(user, labels);
        in_tenth += is_in;
        in_fifth += fifth.is_for(user, labels);
        ASSERT_LE(is_in, fifth.is_for(user, labels)) << user;
        in_both += is_in && half_of_beta.is_for(user, beta);
    }
    EXPECT_NEAR(in_tenth, kUsers / 10, kUsers / 100);
    EXPECT_NEAR(in_fifth, kUsers / 5, kUsers / 100);
    EXPECT_NEAR(in_both, in_tenth / 2, kUsers / 100);
    const uint32_t place = cohort_place({"ring=canary"}, "alice");
    EXPECT_FALSE(policy_for({"ring=canary"}, place).is_for("alice", labels));
    EXPECT_TRUE(policy_for({"ring=canary"}, place + 1).is_for("alice", labels));
    // The same in every server and for good: an operator may count on who is in.
    EXPECT_EQ(cohort_place({"ring=canary"}, "alice"), 3'420u);
}

// A cohort that was taken back is free once all have learnt that and none has a session in it.
TEST(Cohorts, AreGivenAgainOnceNoSessionIsLeftInThem) {
    const auto list_of = [](int first, int count) {
        std::vector<CohortPolicy> list;
        for (int i = first; i < first + count; ++i)
            list.push_back(policy_for({"ring=r"}, kCohortShares, "policy " + std::to_string(i)));
        return list;
    };
    CohortSet all = 0;
    for (Cohort cohort = kRestCohort + 1; cohort < kCohortsMax; ++cohort) all |= set_of(cohort);
    EXPECT_EQ(Cohorts().free(0, 0), all);
    Cohorts cohorts(Cohorts(), list_of(0, 10), all);
    CohortSet first = 0;
    for (const Cohort cohort : cohorts.order()) first |= set_of(cohort);
    EXPECT_EQ(cohorts.free(1, first), all & ~first);
    cohorts = Cohorts(cohorts, list_of(9, 15), cohorts.free(1, first));  // one of them stays
    const CohortSet kept = set_of(cohorts.order()[0]);
    CohortSet second = 0;
    for (const Cohort cohort : cohorts.order()) second |= set_of(cohort);
    EXPECT_EQ(second & first, kept);
    EXPECT_EQ(cohorts.free(1, 0), all & ~(first | second)) << "not all have learnt of it";
    EXPECT_EQ(cohorts.free(2, 0), all & ~second);
    EXPECT_EQ(cohorts.free(2, first), all & ~(first | second)) << "there are sessions left";
    EXPECT_TRUE(cohorts.has_room_for(list_of(24, 6), cohorts.free(2, first)));
    EXPECT_FALSE(cohorts.has_room_for(list_of(24, 7), cohorts.free(2, first)));
    EXPECT_TRUE(cohorts.has_room_for(list_of(9, 15), 0)) << "they have theirs";
    EXPECT_TRUE(cohorts.has_room_for(list_of(24, 7), cohorts.free(2, first & ~set_of(3))));
}

// Random changes against a plain rule: the first policy that is for a user has it, and keeps its
// cohort for as long as it is in force; what was given back last is given again last.
TEST(Cohorts, AgreeWithTheirModelThroughChanges) {
    Random random(1);
    std::vector<CohortPolicy> known;
    for (int i = 0; i < 40; ++i)
        known.push_back(policy_for({"ring=r" + std::to_string(i % 3)},
                                   static_cast<uint32_t>(random.between(1, kCohortShares)),
                                   "policy " + std::to_string(i)));
    Cohorts cohorts;
    std::map<std::string, Cohort> had;
    uint64_t numbers = 0;
    for (int change = 0; change < 2'000; ++change) {
        std::vector<CohortPolicy> list;
        for (const CohortPolicy& policy : known)
            if (list.size() < kPoliciesMax && random.chance(1, 5)) list.push_back(policy);
        for (size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[random.below(i)]);
        cohorts = Cohorts(cohorts, list);
        ASSERT_EQ(cohorts.order().size(), list.size());
        std::map<std::string, Cohort> has;
        for (size_t i = 0; i < list.size(); ++i) {
            const Cohort cohort = cohorts.order()[i];
            ASSERT_GT(cohort, kRestCohort);
            ASSERT_EQ(cohorts.policy(cohort)->text, list[i].text);
            ASSERT_TRUE(has.emplace(list[i].text, cohort).second);
            const auto before = had.find(list[i].text);
            if (before != had.end()) {
                ASSERT_EQ(before->second, cohort) << "it stays where it is";
            }
            for (const auto& [text, taken] : had) {
                ASSERT_TRUE(taken != cohort || text == list[i].text)
                    << "sessions of what was there have not been told yet";
            }
        }
        for (const auto& [text, cohort] : had)
            ASSERT_EQ(cohorts.in_force(cohort), std::ranges::count(cohorts.order(), cohort) == 1);
        for (const Cohort cohort : cohorts.order()) {
            const bool stayed = std::ranges::any_of(
                had, [&](const auto& before) { return before.second == cohort; });
            ASSERT_EQ(cohorts.number(cohort) <= numbers, stayed) << "what is new counts anew";
        }
        for (const Cohort cohort : cohorts.order())
            numbers = std::max(numbers, cohorts.number(cohort));
        had = std::move(has);
        for (int i = 0; i < 10; ++i) {
            const std::string user = user_number(static_cast<int>(random.below(1'000)));
            const std::string labels = "ring=r" + std::to_string(random.below(4));
            const auto first = std::ranges::find_if(
                list, [&](const auto& policy) { return policy.is_for(user, labels); });
            const Cohort wanted =
                first == list.end() ? kRestCohort : cohorts.order()[first - list.begin()];
            ASSERT_EQ(cohorts.of(user, labels), wanted);
        }
    }
}

}  // namespace
}  // namespace pulse::test
