// The directory in random worlds against its model, and by the cases that operators ask about.
//
// PULSE_PRESENCE_SEEDS: how many worlds (default 400).
#include "core/sessions/directory.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

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

}  // namespace
}  // namespace pulse::test
