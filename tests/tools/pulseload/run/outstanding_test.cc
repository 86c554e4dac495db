// What is outstanding is answered by its own answer, once, and nothing else is.
#include "tools/pulseload/run/outstanding.h"

#include <gtest/gtest.h>

namespace pulse::load {
namespace {

std::vector<Nanos> answered(OutstandingPings& pings, PingList& list, uint32_t sequence) {
    std::vector<Nanos> instants;
    pings.answer(list, sequence, [&](const Due& due) { instants.push_back(due.intended_at); });
    return instants;
}

TEST(OutstandingPings, APongAnswersItsPingAndTheOlderOnes) {
    OutstandingPings pings(100);
    PingList one;
    PingList other;
    for (uint32_t sequence = 1; sequence <= 4; ++sequence) {
        EXPECT_TRUE(pings.add(one, {sequence * 10, sequence * 10 + 1, sequence}));
        EXPECT_TRUE(pings.add(other, {sequence * 100, 0, sequence}));
    }
    EXPECT_EQ(answered(pings, one, 0), (std::vector<Nanos>{}));
    EXPECT_EQ(answered(pings, one, 1), (std::vector<Nanos>{10}));
    EXPECT_EQ(answered(pings, one, 1), (std::vector<Nanos>{}));
    EXPECT_EQ(answered(pings, one, 3), (std::vector<Nanos>{20, 30}));
    EXPECT_EQ(pings.count(), 5u);
    std::vector<Nanos> left;
    pings.clear(other, [&](const Due& due) { left.push_back(due.intended_at); });
    EXPECT_EQ(left, (std::vector<Nanos>{100, 200, 300, 400}));
    EXPECT_EQ(answered(pings, one, 4), (std::vector<Nanos>{40}));
    EXPECT_EQ(pings.count(), 0u);
}

TEST(OutstandingPings, WhereEachIsAnsweredByItselfOlderOnesStay) {
    OutstandingPings pings(100);
    PingList list;
    const auto answered_only = [&](uint32_t sequence) {
        std::vector<Nanos> instants;
        pings.answer_only(list, sequence,
                          [&](const Due& due) { instants.push_back(due.intended_at); });
        return instants;
    };
    for (const uint32_t sequence : {4u, 8u, 8u, 12u, 16u})
        EXPECT_TRUE(pings.add(list, {sequence, 0, sequence}));
    EXPECT_EQ(answered_only(6), (std::vector<Nanos>{}));
    EXPECT_EQ(answered_only(8), (std::vector<Nanos>{8, 8}));
    EXPECT_EQ(answered_only(16), (std::vector<Nanos>{16}));
    EXPECT_TRUE(pings.add(list, {20, 0, 20}));
    EXPECT_EQ(answered_only(4), (std::vector<Nanos>{4}));
    EXPECT_EQ(pings.count(), 2u);
    std::vector<Nanos> lost;
    pings.clear(list, [&](const Due& due) { lost.push_back(due.intended_at); });
    EXPECT_EQ(lost, (std::vector<Nanos>{12, 20}));
    EXPECT_TRUE(pings.add(list, {1, 0, 1}));
    EXPECT_EQ(answered_only(1), (std::vector<Nanos>{1}));
    EXPECT_EQ(list.first, 0u);
}

TEST(OutstandingPings, OnePingMayStandForSeveralThatWereDue) {
    OutstandingPings pings(100);
    PingList list;
    for (Nanos at = 1; at <= 3; ++at) EXPECT_TRUE(pings.add(list, {at, 9, 7}));
    EXPECT_EQ(answered(pings, list, 7), (std::vector<Nanos>{1, 2, 3}));
}

TEST(OutstandingPings, SequencesWrap) {
    OutstandingPings pings(100);
    PingList list;
    EXPECT_TRUE(pings.add(list, {1, 0, UINT32_MAX}));
    EXPECT_TRUE(pings.add(list, {2, 0, 0}));
    EXPECT_EQ(answered(pings, list, UINT32_MAX), (std::vector<Nanos>{1}));
    EXPECT_EQ(answered(pings, list, 0), (std::vector<Nanos>{2}));
}

TEST(OutstandingPings, AreBoundedAndTheirRoomIsUsedAgain) {
    OutstandingPings pings(2);
    PingList list;
    for (uint32_t round = 0; round < 1'000; ++round) {
        EXPECT_TRUE(pings.add(list, {1, 0, 2 * round}));
        EXPECT_TRUE(pings.add(list, {2, 0, 2 * round + 1}));
        EXPECT_FALSE(pings.add(list, {3, 0, 2 * round + 1}));
        EXPECT_EQ(answered(pings, list, 2 * round + 1), (std::vector<Nanos>{1, 2}));
    }
}

TEST(OutstandingMessages, AreAnsweredOnceByTheirClient) {
    OutstandingMessages messages(100);
    const auto none = [](const auto&) { FAIL(); };
    messages.add({10, 11, 0, 1}, none);
    messages.add({10, 12, 1, 1}, none);
    messages.add({20, 21, 0, 1}, none);
    EXPECT_EQ(messages.answer(2, 10), nullptr);         // another client's
    EXPECT_EQ(messages.answer(0, INT64_MIN), nullptr);  // forged
    EXPECT_EQ(messages.answer(0, INT64_MAX), nullptr);
    ASSERT_NE(messages.answer(1, 10), nullptr);
    EXPECT_EQ(messages.answer(1, 10), nullptr);
    EXPECT_EQ(messages.answer(0, 10)->began, 11);
    std::vector<Nanos> left;
    messages.clear([&](const auto& message) { left.push_back(message.intended_at); });
    EXPECT_EQ(left, (std::vector<Nanos>{20}));
    EXPECT_TRUE(messages.empty());
}

TEST(OutstandingMessages, TheOldestGivesWayWhereThereAreTooMany) {
    OutstandingMessages messages(2);
    std::vector<Nanos> dropped;
    for (Nanos at = 1; at <= 5; ++at) {
        messages.add({at, at, 0, 1},
                     [&](const auto& message) { dropped.push_back(message.intended_at); });
    }
    EXPECT_EQ(dropped, (std::vector<Nanos>{1, 2, 3}));
    EXPECT_EQ(messages.answer(0, 3), nullptr);
    EXPECT_NE(messages.answer(0, 5), nullptr);
    EXPECT_NE(messages.answer(0, 4), nullptr);
    EXPECT_TRUE(messages.empty());
}

}  // namespace
}  // namespace pulse::load
