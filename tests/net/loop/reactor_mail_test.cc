// Logins between two reactors, each over a simulated kernel of its own and turned by hand: what
// happens in between is what a test lets happen.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/random.h"

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

using Kind = PresenceChange::Kind;

class TwoReactors : public testing::Test {
  protected:
    TwoReactors() { restart({}); }
    void restart(const LoopOptions& options) {
        for (uint32_t number = 0; number < 2; ++number) {
            stages_[number] =
                std::make_unique<ReactorStage>(StagePlan{.listen = {"jsonl://10.0.0.1:9000"},
                                                         .options = options,
                                                         .places = 2'000,
                                                         .number = number,
                                                         .mailboxes = mailboxes_});
            mailboxes_[number] = &stages_[number]->mailbox();
        }
        here_ = far_ = {};
        for (int number = 0; here_.empty() || far_.empty(); ++number) {
            const std::string user = "u" + std::to_string(number);
            const size_t peer = first().connect(0);
            (hello(first(), peer, user).empty() ? far_ : here_) = user;
            first().close(peer, true);
            settle();
        }
    }

    ReactorStage& first() { return *stages_[0]; }
    ReactorStage& second() { return *stages_[1]; }
    // All messages that are on their way arrive.
    void settle() {
        for (int round = 0; round < 40; ++round)
            for (const auto& stage : stages_) stage->settle();
    }
    // What its own reactor answers, before the other has looked.
    static std::string hello(ReactorStage& stage, size_t peer, const std::string& user) {
        return answer(stage, peer, R"({"type":"hello","user":")" + user + "\"}\n");
    }
    static std::string heard(ReactorStage& stage, size_t peer) {
        return std::exchange(stage.heard(peer), {});
    }
    const std::string& here() const { return here_; }  // a user of the first reactor's shard
    const std::string& far() const { return far_; }    // and one of the second's
    std::vector<Kind> changes(ReactorStage& stage, const std::string& user) {
        std::vector<Kind> kinds;
        const PresenceStream& stream = stage.directory().stream();
        for (uint64_t at = stream.first(); at < stream.end(); ++at) {
            if (stage.directory().text(stream.at(at).user) == user)
                kinds.push_back(stream.at(at).kind);
        }
        kinds.erase(kinds.begin(), kinds.begin() + 2);  // of restart()
        return kinds;
    }

  private:
    std::array<Mailbox*, 2> mailboxes_{};
    std::array<std::unique_ptr<ReactorStage>, 2> stages_;
    std::string here_, far_;
};

TEST_F(TwoReactors, AWelcomeComesWithTheAnswerAndHeartbeatsGoOnMeanwhile) {
    const size_t peer = first().connect(0);
    EXPECT_EQ(hello(first(), peer, far()), "");
    EXPECT_EQ(first().stats().gauges.logins_waiting, 1u);
    EXPECT_EQ(answer(first(), peer, "PING\n"), "PONG\n");
    settle();
    EXPECT_NE(heard(first(), peer).find(R"("user":")" + far() + R"(","session":"new")"),
              std::string::npos);
    EXPECT_EQ(second().directory().counts().sessions, 1u);
    EXPECT_EQ(second().directory().find(far())->presence, Directory::Presence::online);
    first().close(peer, false);
    settle();
    EXPECT_EQ(second().directory().counts().sessions, 0u);
    EXPECT_EQ(first().stats().gauges.logins_waiting, 0u);
}

TEST_F(TwoReactors, ATakeoverClosesTheConnectionOfAnotherReactor) {
    const size_t old = first().connect(0);
    hello(first(), old, far());
    settle();
    const size_t fresh = second().connect(0);
    EXPECT_NE(hello(second(), fresh, far()).find("took_over"), std::string::npos);
    EXPECT_EQ(second().directory().counts().sessions, 1u);
    settle();
    EXPECT_NE(heard(first(), old).find("taken_over"), std::string::npos);
    first().close(old, false);
    settle();
    EXPECT_EQ(changes(second(), far()), (std::vector{Kind::online, Kind::replaced}))
        << "the late end of the old connection ends nothing";
    EXPECT_EQ(second().directory().counts().sessions, 1u);
}

// Both shard and the connection that gives way are the other reactor's, or each the other's.
TEST_F(TwoReactors, EachReactorMayHaveTheShardTheOldAndTheNewConnection) {
    for (const std::string& user : {here(), far()}) {
        ReactorStage& shard = user == here() ? first() : second();
        std::vector<std::pair<ReactorStage*, size_t>> peers;
        for (ReactorStage* stage : {&first(), &second(), &second(), &first(), &first()}) {
            peers.emplace_back(stage, stage->connect(0));
            hello(*stage, peers.back().second, user);
            settle();
        }
        for (const auto& [stage, peer] : peers) {
            const bool last = &peers.back().second == &peer;
            EXPECT_EQ(heard(*stage, peer).find("taken_over") == std::string::npos, last);
        }
        EXPECT_EQ(shard.directory().find(user)->sessions, 1u);
        EXPECT_EQ(changes(shard, user).size(), 5u);
    }
}

TEST_F(TwoReactors, AConnectionThatEndsBeforeTheAnswerLeavesNoSession) {
    const size_t peer = first().connect(0);
    hello(first(), peer, far());
    first().close(peer, true);
    first().settle(kSecond);
    EXPECT_EQ(first().record(peer), nullptr) << "its place may have a new owner";
    const size_t next = first().connect(0);
    first().settle();
    EXPECT_FALSE(first().reactor().connections().logins().settled());
    settle();
    EXPECT_EQ(second().directory().counts().sessions, 0u);
    EXPECT_EQ(changes(second(), far()), (std::vector{Kind::online, Kind::offline}));
    EXPECT_EQ(answer(first(), next, "PING\n"), "PONG\n");
    EXPECT_EQ(heard(first(), next), "") << "the answer was another's";
    EXPECT_TRUE(first().reactor().connections().logins().settled());
}

TEST_F(TwoReactors, AHelloBeforeTheAnswerToTheOneBeforeIsToBeTriedAgain) {
    const size_t peer = first().connect(0);
    hello(first(), peer, far());
    for (const std::string& user : {far(), here()}) {
        const std::string words = hello(first(), peer, user);
        EXPECT_TRUE(words.starts_with(R"({"type":"error","code":1013)")) << words;
        EXPECT_NE(words.find("try again"), std::string::npos) << words;
    }
    EXPECT_EQ(first().metrics()[Metric::logins_put_off], 2u);
    EXPECT_EQ(first().metrics()[Metric::offences], 0u);
    settle();
    EXPECT_NE(heard(first(), peer).find("welcome"), std::string::npos);
    EXPECT_NE(hello(first(), peer, here()).find("welcome"), std::string::npos);
    settle();
    EXPECT_EQ(second().directory().find(far())->presence, Directory::Presence::offline);
}

// What arrives about a session that the connection has left in the meantime does not close it.
TEST_F(TwoReactors, ATakeoverOfAUserThatItNoLongerIsDoesNotCloseAConnection) {
    const size_t peer = first().connect(0);
    hello(first(), peer, far());
    settle();
    const size_t other = second().connect(0);
    EXPECT_NE(hello(second(), other, far()).find("took_over"), std::string::npos);
    // The message that says so is in the mailbox, and the hello in the kernel, which is read first.
    heard(first(), peer);
    first().write(peer, R"({"type":"hello","user":")" + here() + "\"}\n");
    first().network().run_until(first().network().clock() + kMillisecond);
    settle();
    const std::string words = heard(first(), peer);
    EXPECT_NE(words.find(R"("user":")" + here()), std::string::npos) << words;
    EXPECT_EQ(words.find("taken_over"), std::string::npos) << words;
    EXPECT_EQ(answer(first(), peer, "PING\n"), "PONG\n");
    EXPECT_EQ(first().directory().counts().sessions, 1u);
    first().close(peer, false);
    settle();
    EXPECT_EQ(first().directory().counts().sessions, 0u);
    EXPECT_EQ(second().directory().counts().sessions, 1u);
}

// Which of them is last is the seed's; of each user the changes tell it, in order.
TEST_F(TwoReactors, OfAThousandRacingLoginsOneOwnerEachIsLeftAndChangesAreInOrder) {
    constexpr uint32_t kLogins = 1'000, kUsers = 20;
    Random random(7);
    std::vector<std::pair<ReactorStage*, size_t>> peers;
    for (uint32_t number = 0; number < kLogins; ++number) {
        ReactorStage& stage = random.chance(1, 2) ? first() : second();
        peers.emplace_back(&stage, stage.connect(0));
        const std::string user = "racer" + std::to_string(random.below(kUsers));
        stage.write(peers.back().second, R"({"type":"hello","user":")" + user + "\"}\n");
        if (random.chance(1, 8)) (random.chance(1, 2) ? first() : second()).settle();
    }
    settle();
    uint32_t here = 0;
    for (const auto& [stage, peer] : peers) {
        const std::string words = heard(*stage, peer);
        EXPECT_NE(words.find("welcome"), std::string::npos) << words;
        here += words.find("taken_over") == std::string::npos;
    }
    EXPECT_EQ(here, kUsers);
    uint32_t changes = 0;
    for (ReactorStage* stage : {&first(), &second()}) {
        const Directory& directory = stage->directory();
        directory.validate();
        std::map<std::string_view, const PresenceChange*> last;
        const PresenceStream& stream = directory.stream();
        for (uint64_t at = stream.first(); at < stream.end(); ++at) {
            const PresenceChange& change = stream.at(at);
            const std::string_view user = directory.text(change.user);
            if (!user.starts_with("racer")) continue;
            ++changes;
            EXPECT_EQ(change.kind, last[user] == nullptr ? Kind::online : Kind::replaced);
            EXPECT_EQ(change.sequence, last[user] == nullptr ? 1 : last[user]->sequence + 1);
            last[user] = &change;
        }
        for (const auto& [user, change] : last) {
            EXPECT_EQ(directory.find(user)->sessions, 1u);
            EXPECT_EQ(directory.session(directory.find(user)->first).ref(), change->connection);
        }
    }
    EXPECT_EQ(changes, kLogins);
}

// More than a lane holds, to a reactor that does not look: they wait in order and nothing is lost.
TEST_F(TwoReactors, WhatFindsAFullLaneWaitsAndKeepsItsOrder) {
    constexpr size_t kPeers = 5 * kMailboxSlots;
    std::vector<size_t> peers;
    for (size_t number = 0; number < kPeers; ++number) {
        peers.push_back(first().connect(0));
        first().write(peers.back(), R"({"type":"hello","user":")" + far() + R"(","device":"d)" +
                                        std::to_string(number % 60) + "\"}\n");
    }
    first().settle(20 * kMillisecond);
    EXPECT_GE(first().metrics()[Metric::mail_delayed], kPeers - kMailboxSlots);
    EXPECT_EQ(first().stats().gauges.logins_waiting, kPeers);
    // Of every second the connection ends: its report waits behind its login.
    for (size_t number = 0; number < kPeers; number += 2) first().close(peers[number], true);
    first().settle(20 * kMillisecond);
    for (int round = 0; round < 20; ++round) settle();
    EXPECT_TRUE(first().reactor().connections().logins().settled() ||
                second().directory().counts().sessions > 0);
    EXPECT_EQ(first().stats().gauges.logins_waiting, 0u);
    size_t here_still = 0;
    for (const size_t peer : peers) {
        here_still += first().record(peer) != nullptr &&
                      heard(first(), peer).find("taken_over") == std::string::npos;
    }
    EXPECT_EQ(second().directory().counts().sessions, here_still);
    second().directory().validate();
    first().directory().validate();
}

TEST_F(TwoReactors, ASuspicionThatFindsAFullLaneIsToldLater) {
    LoopOptions options;
    options.heartbeat_interval = 8 * kSecond;
    options.heartbeat_timeout = 80 * kSecond;
    restart(options);
    const size_t peer = first().connect(0);
    hello(first(), peer, far());
    settle();
    while (second().mailbox().post(1, {Message::Snapshot{}})) {
    }
    first().settle(16 * kSecond);
    settle();
    EXPECT_EQ(second().directory().counts().suspects, 0u) << "nothing waits for it";
    EXPECT_EQ(first().metrics()[Metric::mail_delayed], 0u);
    first().settle(2 * kSecond);
    settle();
    EXPECT_EQ(second().directory().counts().suspects, 1u);
    EXPECT_EQ(answer(first(), peer, "PONG\n").find("taken_over"), std::string::npos);
}

// A reactor without connections still has the others' questions and reports.
TEST_F(TwoReactors, ADrainedReactorAnswersUntilTheOthersAreDrained) {
    const size_t peer = first().connect(0);
    first().settle();
    second().reactor().drain();
    second().settle(kSecond);
    EXPECT_TRUE(second().reactor().retired());
    hello(first(), peer, far());
    EXPECT_FALSE(first().reactor().retired());
    first().reactor().stop_hard();
    first().reactor().drain();
    first().settle(kSecond);
    EXPECT_TRUE(first().reactor().drained());
    EXPECT_FALSE(first().reactor().retired()) << "a login has no answer yet";
    settle();
    EXPECT_TRUE(first().reactor().retired());
    second().reactor().finish_mail();
    EXPECT_EQ(second().directory().counts().sessions, 0u);
}

TEST_F(TwoReactors, WhatAClientFoundOfItsNetworkIsKnownToBoth) {
    LoopOptions options;
    options.nat_probes = 10;
    restart(options);
    const size_t peer = first().connect(0);
    answer(first(), peer, "{\"type\":\"hello\",\"nat\":{\"kept_ms\":270000}}\n");
    settle();
    for (ReactorStage* const stage : {&first(), &second()}) {
        const std::string welcome = answer(*stage, stage->connect(0), "{\"type\":\"hello\"}\n");
        EXPECT_NE(welcome.find("\"kept_ms\":270000"), std::string::npos) << welcome;
    }
}

}  // namespace
}  // namespace pulse::test
