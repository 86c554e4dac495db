// What an operator asks of a reactor: limits on what comes in, and messages.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/fixed_text.h"
#include "core/random.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

StagePlan plan_of(const LoopOptions& options = {}) {
    return {.listen = {"tcp://10.0.0.1:9000"}, .options = options, .places = 2'000};
}

auto log_at(LogLevel level) {
    return [level](LoopOptions& options) { options.log_level = level; };
}

TEST(Operation, AcceptsNoFasterThanTheRate) {
    LoopOptions options;
    options.accept_rate.events = 100;
    ReactorStage stage(plan_of(options));
    for (int i = 0; i < 500; ++i) stage.connect(0);
    stage.settle(100 * kMillisecond);
    // The burst of a tenth of a second, and what came in since.
    EXPECT_GE(stage.table().live(), 10u);
    EXPECT_LE(stage.table().live(), 20u);
    const MetricsSnapshot metrics = stage.metrics();
    EXPECT_EQ(metrics.refused[static_cast<size_t>(CloseReason::accept_rate)],
              500 - stage.table().live());
    for (int second = 0; second < 10; ++second) {
        for (int i = 0; i < 50; ++i) stage.connect(0);
        stage.settle(kSecond / 2);
    }
    EXPECT_GE(stage.metrics()[Metric::accepted], 100u);
    EXPECT_LE(stage.metrics()[Metric::accepted], 530u);
}

// ------------------------------------------------------------------------------- limits by address
uint64_t refused_for(const ReactorStage& stage, CloseReason reason) {
    return stage.metrics().refused[static_cast<size_t>(reason)];
}
StagePlan limited(const LoopOptions& options) {
    return {.listen = {"tcp://10.0.0.1:9000", "jsonl://10.0.0.1:9001", "ws://10.0.0.1:9002",
                       "auto://10.0.0.1:9003"},
            .options = options,
            .places = 2'000};
}
// Connects, and whether it is let in.
bool gets_in(ReactorStage& stage, std::string_view source, size_t listener = 0) {
    const size_t peer = stage.connect(listener, source);
    stage.settle();
    return stage.record(peer) != nullptr;
}

TEST(Operation, AListenerHasSoManyConnections) {
    ReactorStage stage(
        {.listen = {"jsonl://10.0.0.1:9000?max-connections=1",
                    "ws://10.0.0.1:9001?proxy=on&max-connections=2", "jsonl://10.0.0.1:9002"}});
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", 0));
    EXPECT_FALSE(gets_in(stage, "192.0.2.2:0", 0));
    EXPECT_NE(stage.heard(1).find(R"("reason":"listener_full")"), std::string::npos);
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(gets_in(stage, "127.0.0.1:0", 1));
    const size_t third = stage.connect(1);
    stage.settle();
    EXPECT_TRUE(stage.heard(third).starts_with("HTTP/1.1 503 ")) << stage.heard(third);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", 2)) << "no limit";
    stage.close(0, true);
    stage.settle();
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", 0)) << "there is room again";
    EXPECT_EQ(refused_for(stage, CloseReason::listener_full), 2u);
    for (size_t peer = 0; peer < stage.peers(); ++peer) stage.close(peer, true);
    stage.settle();
    for (uint8_t listener = 0; listener < 3; ++listener)
        EXPECT_EQ(stage.admission().live(listener), 0u);
    EXPECT_EQ(stage.admitted(), 0u);
}

// From the accept on a WebSocket, from its first byte on a peer of lines, which may do nothing but
// answer probes; until the first message is whole, or the connection is closed.
TEST(Operation, SoManyHandshakesAreInFlight) {
    LoopOptions options;
    options.handshakes_max = 2;
    ReactorStage stage(limited(options));
    constexpr size_t kLines = 1, kWebSocket = 2;
    const auto in_flight = [&] { return stage.admission().handshakes(); };
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", kLines)) << "silent";
    EXPECT_EQ(in_flight(), 0u);
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", kWebSocket));
    stage.write(0, "PI");
    stage.settle();
    EXPECT_EQ(in_flight(), 2u);
    const size_t third = stage.connect(kWebSocket, "192.0.2.2:0");
    stage.settle();
    EXPECT_TRUE(stage.heard(third).starts_with("HTTP/1.1 503 ")) << stage.heard(third);
    EXPECT_EQ(refused_for(stage, CloseReason::handshakes_full), 1u);
    stage.write(0, "NG\n");
    stage.settle();
    EXPECT_EQ(in_flight(), 1u) << "it is answered";
    const size_t fourth = stage.connect(kWebSocket, "192.0.2.2:0");
    stage.settle();
    EXPECT_EQ(in_flight(), 2u);
    stage.close(fourth, true);
    stage.settle();
    EXPECT_EQ(in_flight(), 1u) << "it is gone";
    stage.settle(options.handshake_timeout + 2 * kCloseLingerNs);
    EXPECT_EQ(in_flight(), 0u) << "its deadline is over";
}

TEST(AddressLimits, ARefusalIsInTheWordsOfTheProtocol) {
    LoopOptions options;
    options.max_connections_per_address = 2;
    const std::vector<std::string> words = {
        "address_full", R"({"type":"goodbye","code":1013,"reason":"address_full",)",
        "HTTP/1.1 429 Too Many Requests\r\n", "HTTP/1.1 429 Too Many Requests\r\n"};
    for (size_t listener = 0; listener < words.size(); ++listener) {
        ReactorStage stage(limited(options));
        EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", listener));
        EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", listener));
        const size_t third = stage.connect(listener, "192.0.2.1:0");
        stage.settle();
        EXPECT_NE(stage.heard(third).find(words[listener]), std::string::npos)
            << stage.heard(third);
        EXPECT_EQ(stage.record(third), nullptr);
        EXPECT_TRUE(stage.ended(third));
        EXPECT_EQ(refused_for(stage, CloseReason::address_full), 1u);
        EXPECT_TRUE(gets_in(stage, "192.0.2.2:0", listener)) << "another address";
        stage.close(0, true);
        stage.settle();
        EXPECT_TRUE(gets_in(stage, "192.0.2.1:0", listener)) << "there is room again";
    }
}

TEST(AddressLimits, OfIpv6ASiteIsOneAddress) {
    LoopOptions options;
    options.max_connections_per_address = 1;
    ReactorStage stage(limited(options));
    EXPECT_TRUE(gets_in(stage, "[2001:db8::1]:0"));
    EXPECT_FALSE(gets_in(stage, "[2001:db8::ffff:ffff:ffff:ffff]:0"));
    EXPECT_TRUE(gets_in(stage, "[2001:db8:0:1::1]:0"));
    EXPECT_EQ(refused_for(stage, CloseReason::address_full), 1u);
}

TEST(AddressLimits, AnAddressComesNoFasterThanItsRate) {
    LoopOptions options;
    options.address_accept_rate = {.events = 1, .burst = 3};
    options.accept_rate = {.events = 1, .burst = 6};
    ReactorStage stage(limited(options));
    const auto come = [&](std::string_view source, int times) {
        int let_in = 0;
        for (int i = 0; i < times; ++i) let_in += gets_in(stage, source, 1);
        return let_in;
    };
    EXPECT_EQ(come("192.0.2.1:0", 20), 3);
    const std::string& words = stage.heard(stage.peers() - 1);
    EXPECT_NE(words.find(R"("reason":"address_rate")"), std::string::npos) << words;
    EXPECT_EQ(refused_for(stage, CloseReason::address_rate), 17u);
    // What was refused for its address has taken nothing of what all may have together.
    EXPECT_EQ(come("[2001:db8::1]:0", 3), 3);
    EXPECT_EQ(come("192.0.2.7:0", 1), 0);
    EXPECT_EQ(refused_for(stage, CloseReason::accept_rate), 1u);
    stage.settle(kSecond);
    EXPECT_EQ(come("192.0.2.1:0", 2), 1);
    stage.settle(kSecond);
    EXPECT_EQ(come("192.0.2.1:0", 2), 1);
}

// The rest of what it may have at once is a reload's to change.
TEST(AddressLimits, AReloadChangesRates) {
    LoopOptions options;
    options.accept_rate = {.events = 1, .burst = 1};
    ReactorStage stage(limited(options));
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0"));
    EXPECT_FALSE(gets_in(stage, "192.0.2.1:0"));
    stage.reload([](LoopOptions& changed) { changed.accept_rate = {}; });
    stage.settle();
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0"));
}

LoopOptions hold_off_after(uint32_t ends) {
    LoopOptions options;
    options.flapping = {.ends = ends, .window = 60 * kSecond, .hold_off = 300 * kSecond};
    return options;
}

TEST(AddressLimits, WhatFlapsIsHeldOff) {
    ReactorStage stage(limited(hold_off_after(3)));
    const auto come_and_go = [&](std::string_view source) {
        const size_t peer = stage.connect(1, source);
        stage.settle();
        const bool let_in = stage.record(peer) != nullptr;
        stage.close(peer, true);
        stage.settle(kSecond);
        return let_in;
    };
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(come_and_go("192.0.2.1:0")) << i;
    EXPECT_FALSE(come_and_go("192.0.2.1:0"));
    const std::string& words = stage.heard(stage.peers() - 1);
    EXPECT_NE(words.find(R"("reason":"flapping","retry_after_ms":29)"), std::string::npos) << words;
    EXPECT_EQ(refused_for(stage, CloseReason::flapping), 1u);
    EXPECT_TRUE(come_and_go("192.0.2.2:0")) << "another address";
    stage.settle(300 * kSecond);
    EXPECT_TRUE(come_and_go("192.0.2.1:0")) << "its time is over";
}

// One that lived for a window, a health check, and what an operator closes are no flaps.
TEST(AddressLimits, NotEveryEndIsAFlap) {
    ReactorStage stage(limited(hold_off_after(1)));
    const size_t old = stage.connect(1, "192.0.2.1:0");
    for (int i = 0; i < 4; ++i) {
        stage.settle(20 * kSecond);
        stage.write(old, "PING\n");
    }
    stage.settle();
    stage.close(old, false);
    stage.settle();
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0"));

    const size_t check = stage.connect(3, "192.0.2.2:0");
    stage.write(check, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    stage.settle();
    stage.close(check, false);
    stage.settle();
    EXPECT_TRUE(gets_in(stage, "192.0.2.2:0"));

    const size_t kicked = stage.connect(1, "192.0.2.3:0");
    stage.settle();
    const ConnectionId target = stage.table().id(*stage.index(kicked));
    stage.post({Message::Kick{.target = target, .reason = CloseReason::kicked}});
    stage.settle();
    stage.close(kicked, false);
    stage.settle();
    EXPECT_TRUE(gets_in(stage, "192.0.2.3:0"));
    EXPECT_EQ(stage.metrics()[Metric::refused], 0u);
}

// ------------------------------------------------------------------------------- behind a NAT
constexpr std::string_view kShared = "192.0.2.1:0";

LoopOptions share_of(uint32_t connections) {
    LoopOptions options;
    options.address_share = connections;
    return options;
}
size_t comes(ReactorStage& stage, std::string_view says) {
    const size_t peer = stage.connect(1, kShared);
    stage.write(peer, says);
    stage.settle();
    return peer;
}

TEST(AddressShare, TheOldestAnonymousGivesWay) {
    ReactorStage stage(limited(share_of(2)));
    std::vector<size_t> peers;
    for (int i = 0; i < 2; ++i) peers.push_back(comes(stage, "PING\n"));
    const size_t other = stage.connect(1, "192.0.2.9:0");
    for (int i = 0; i < 4; ++i) {
        peers.push_back(comes(stage, "PING\n"));
        EXPECT_EQ(stage.heard(peers.back()), "PONG\n") << "the newest is let in";
        const size_t oldest = peers[peers.size() - 3];
        EXPECT_NE(stage.heard(oldest).find(R"("reason":"address_share","retry_after_ms":1000)"),
                  std::string::npos)
            << stage.heard(oldest);
        EXPECT_FALSE(stage.ended(peers[peers.size() - 2]));
    }
    EXPECT_FALSE(stage.ended(other)) << "another address gives way";
    // What ends by itself leaves its part to others.
    stage.close(peers.back(), true);
    stage.settle();
    peers.back() = comes(stage, "PING\n");
    EXPECT_FALSE(stage.ended(peers[peers.size() - 2]));
    for (size_t peer = 0; peer < stage.peers(); ++peer) stage.close(peer, true);
    EXPECT_TRUE(stage.empty_within(10 * kSecond));
    EXPECT_EQ(stage.metrics().closed[static_cast<size_t>(CloseReason::address_share)], 4u);
    EXPECT_EQ(stage.metrics()[Metric::refused], 0u);
}

TEST(AddressShare, LoggedInOnesAreSpared) {
    for (const bool users : {false, true}) {
        LoopOptions options = share_of(1);
        options.address_share_users = users;
        ReactorStage stage(limited(options));
        const size_t first = comes(stage, "{\"type\":\"hello\",\"user\":\"u1\"}\n");
        const size_t second = comes(stage, "{\"type\":\"hello\",\"user\":\"u2\"}\n");
        EXPECT_EQ(stage.ended(first), users);
        const size_t third = comes(stage, "PING\n");
        EXPECT_EQ(stage.ended(second), users);
        const size_t fourth = comes(stage, "PING\n");
        EXPECT_TRUE(stage.ended(third)) << "anonymous";
        EXPECT_FALSE(stage.ended(fourth));
    }
}

// Before the upgrade it is HTTP that ends; and behind a balancer the header tells the address.
TEST(AddressShare, HoldsForEveryProtocolAndBehindABalancer) {
    StagePlan plan = limited(share_of(1));
    plan.listen.push_back("ws://10.0.0.1:9004?proxy=on");
    ReactorStage stage(plan);
    const size_t upgrading = stage.connect(2, kShared);
    stage.settle();
    comes(stage, "PING\n");
    EXPECT_TRUE(stage.heard(upgrading).starts_with("HTTP/1.1 429 ")) << stage.heard(upgrading);
    const size_t named = stage.connect(4);
    stage.write(named, "PROXY TCP4 192.0.2.1 198.51.100.9 1 2\r\n");
    stage.settle();
    EXPECT_TRUE(stage.ended(stage.peers() - 2)) << "it has the address that the header names";
    EXPECT_EQ(stage.heard(named), "");
}

// Reactors that count addresses together.
class Reactors {
  public:
    Reactors(uint32_t count, const LoopOptions& options) : mailboxes_(count) {
        for (uint32_t number = 0; number < count; ++number) {
            StagePlan plan = limited(options);
            plan.listen.push_back("auto://10.0.0.1:9004?proxy=on");
            plan.number = number;
            plan.mailboxes = mailboxes_;
            plan.addresses = &addresses_;
            stages_.push_back(std::make_unique<ReactorStage>(plan));
            mailboxes_[number] = &stages_.back()->mailbox();
        }
    }
    ReactorStage& operator[](size_t number) { return *stages_[number]; }
    // All messages that are on their way arrive.
    void settle() {
        for (size_t round = 0; round < 2 * stages_.size(); ++round)
            for (const auto& stage : stages_) stage->settle();
    }

  private:
    HeapPages pages_;
    AddressTable addresses_{pages_, 2'000};
    std::vector<Mailbox*> mailboxes_;
    std::vector<std::unique_ptr<ReactorStage>> stages_;
};

// Wherever the newest comes, and wherever those are that it finds there.
TEST(AddressShare, IsExactOverSeveralReactorsAndTheNewestIsLetIn) {
    Random random(7);
    for (uint32_t share : {1u, 2u, 4u}) {
        Reactors reactors(3, share_of(share));
        std::vector<std::pair<size_t, size_t>> peers;
        const auto count = [&] {
            return static_cast<size_t>(std::ranges::count_if(
                peers, [&](auto peer) { return !reactors[peer.first].ended(peer.second); }));
        };
        for (size_t arrival = 1; arrival <= 100; ++arrival) {
            const size_t reactor = random.below(3);
            peers.emplace_back(reactor, comes(reactors[reactor], "PING\n"));
            EXPECT_FALSE(reactors[reactor].ended(peers.back().second)) << arrival;
            reactors.settle();
            EXPECT_EQ(count(), std::min<size_t>(arrival, share)) << arrival;
            EXPECT_FALSE(reactors[reactor].ended(peers.back().second)) << arrival;
        }
    }
}

// Three come at once to reactors that have none, where one may stay; and one that does not turn
// holds up no more than its lane takes.
TEST(AddressShare, HoldsWhereReactorsAskEachOtherAtOnceAndWhereOneIsStuck) {
    Reactors reactors(3, share_of(1));
    std::vector<size_t> peers;
    for (size_t reactor = 0; reactor < 3; ++reactor)
        peers.push_back(reactors[reactor].connect(1, kShared));
    reactors.settle();
    size_t left = 0;
    for (size_t reactor = 0; reactor < 3; ++reactor)
        left += !reactors[reactor].ended(peers[reactor]);
    EXPECT_EQ(left, 1u);
    const size_t holder = comes(reactors[1], "PING\n");
    reactors.settle();
    for (uint32_t newcomer = 0; newcomer < 2 * kMailboxSlots; ++newcomer) {
        const size_t peer = comes(reactors[0], "PING\n");  // and reactor 1 does not turn
        EXPECT_EQ(reactors[0].ended(peer), newcomer >= kMailboxSlots) << newcomer;
        reactors[0].close(peer, true);
        reactors[0].settle();
    }
    EXPECT_FALSE(reactors[1].ended(holder));
    // A header and what follows it in one piece: it ends, and is not taken further.
    const size_t named = reactors[0].connect(4);
    reactors[0].write(named, "PROXY TCP4 192.0.2.1 198.51.100.9 1 2\r\n{\"type\":\"ping\"}\n");
    reactors[0].settle();
    EXPECT_TRUE(reactors[0].ended(named));
    EXPECT_EQ(reactors[0].heard(named).find("pong"), std::string::npos);
    reactors.settle();
    EXPECT_FALSE(reactors[1].ended(holder)) << "by now no other is there";
}

// ------------------------------------------------------------------------------------- messages
constexpr std::string_view kTooFast =
    R"({"type":"goodbye","code":1013,"reason":"message_rate","retry_after_ms":1000})";

TEST(MessageRate, ABurstIsTakenAndOneMoreCloses) {
    LoopOptions options;
    options.message_rate = {.events = 10, .burst = 3};
    ReactorStage stage(limited(options));
    const size_t steady = stage.connect(1, kShared);
    for (int i = 0; i < 50; ++i) {
        stage.write(steady, "PING\n");
        stage.settle(kSecond / 10);
    }
    EXPECT_EQ(stage.heard(steady).size(), 50 * 5u) << "ten a second";
    const size_t flood = comes(stage, "PING\nPING\nPING\nPING\nPING\n");
    EXPECT_EQ(stage.heard(flood), std::string("PONG\nPONG\nPONG\n").append(kTooFast) + "\n");
    EXPECT_TRUE(stage.ended(flood));
    EXPECT_FALSE(stage.ended(steady));
    // The next connection in the place of one that was too fast begins anew.
    stage.close(flood, true);
    stage.settle();
    EXPECT_EQ(stage.heard(comes(stage, "PING\nPING\nPING\n")), "PONG\nPONG\nPONG\n");
}

TEST(MessageRate, HoldsForEveryProtocolAndFromAReloadOn) {
    const std::string binary_ping("\xB7\x01\0\0\0\0\0\1", 8);
    ReactorStage stage(limited({}));
    const size_t lines = comes(stage, "PING\n"), binary = stage.connect(0, kShared);
    stage.write(binary, binary_ping);
    stage.settle();
    stage.reload([](LoopOptions& changed) { changed.message_rate = {.events = 1, .burst = 1}; });
    stage.settle();
    for (int i = 0; i < 2; ++i) {
        EXPECT_FALSE(stage.ended(lines) || stage.ended(binary));
        stage.write(lines, "PING\n");
        stage.write(binary, binary_ping);
        stage.settle();
    }
    EXPECT_TRUE(stage.ended(lines) && stage.ended(binary));
    EXPECT_TRUE(stage.heard(lines).ends_with(std::string(kTooFast) + "\n")) << stage.heard(lines);
}

// What was sent at the rate of before, within its burst, is no debt at another; and a change of the
// rate gives no burst.
TEST(MessageRate, ThatAReloadChangesLacksThePartOfABurstThatItLacked) {
    LoopOptions options;
    options.message_rate = {.events = 1, .burst = 60};
    ReactorStage stage(limited(options));
    std::string pings;
    for (int i = 0; i < 30; ++i) pings += "PING\n";
    const size_t peer = comes(stage, pings);
    stage.reload([](LoopOptions& changed) { changed.message_rate = {.events = 100}; });
    stage.settle();
    stage.write(peer, "PING\n");
    stage.settle();
    EXPECT_FALSE(stage.ended(peer)) << stage.heard(peer);
    for (const uint64_t burst : {4u, 8u, 2u}) {
        stage.reload([&](LoopOptions& changed) {
            changed.message_rate = {.events = 1, .period = 3'600 * kSecond, .burst = burst};
        });
        stage.settle();
        stage.write(peer, "PING\n");
        stage.settle();
    }
    EXPECT_TRUE(stage.ended(peer)) << "half a burst of 4 or 8 was left, and one of 2 is not";
}

// What comes at once after a pause of this thread is not a flood.
TEST(MessageRate, WithoutABurstTenSecondsOfMessagesMayComeAtOnce) {
    LoopOptions options;
    options.message_rate = {.events = 120, .period = 60 * kSecond};
    ReactorStage stage(limited(options));
    std::string pings, pongs;
    for (int i = 0; i < 20; ++i) pings += "PING\n", pongs += "PONG\n";
    const size_t peer = comes(stage, pings);
    EXPECT_EQ(stage.heard(peer), pongs);
    stage.write(peer, "PING\n");
    stage.settle();
    EXPECT_TRUE(stage.ended(peer));
}

// The hello that is one message too many does not log in, and a user's rate is that of all of its
// connections, until the last of them has ended.
TEST(MessageRate, OfAUserIsThatOfAllItsConnections) {
    LoopOptions options;
    options.user_message_rate = {.events = 1, .period = 3'600 * kSecond, .burst = 2};
    ReactorStage stage(limited(options));
    const auto hello = [](const char* user, const char* device) {
        return std::string(R"({"type":"hello","user":")") + user + R"(","device":")" + device +
               "\"}\n";
    };
    const size_t one = comes(stage, hello("u1", "a")), two = comes(stage, hello("u1", "b"));
    const size_t other = comes(stage, hello("u2", "a"));
    for (const size_t peer : {one, two, other}) {
        stage.write(peer, "PING\n");
        stage.settle();
    }
    EXPECT_FALSE(stage.ended(one) || stage.ended(two) || stage.ended(other));
    stage.write(one, "PING\n");
    stage.settle();
    EXPECT_NE(stage.heard(one).find(R"("reason":"user_message_rate")"), std::string::npos);
    EXPECT_TRUE(stage.ended(one));
    stage.write(other, "PING\n");
    stage.settle();
    EXPECT_FALSE(stage.ended(other)) << "another user";
    for (size_t peer = 0; peer < stage.peers(); ++peer) stage.close(peer, true);
    EXPECT_TRUE(stage.empty_within(10 * kSecond));
    EXPECT_EQ(stage.users().entries_used(), 2u);
    EXPECT_EQ(stage.directory().counts().sessions, 0u);
}

TEST(MessageRate, AHelloTooManyDoesNotLogIn) {
    LoopOptions options;
    options.message_rate = {.events = 1, .burst = 1};
    ReactorStage stage(limited(options));
    const size_t peer = comes(stage, "PING\n{\"type\":\"hello\",\"user\":\"u1\"}\n");
    EXPECT_EQ(stage.heard(peer), std::string("PONG\n").append(kTooFast) + "\n");
    stage.close(peer, true);
    EXPECT_TRUE(stage.empty_within(10 * kSecond));
    EXPECT_EQ(stage.directory().counts().sessions, 0u);
}

TEST(AddressLimits, AReloadCountsThoseThatComeFromThenOn) {
    ReactorStage stage(limited({}));
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0"));
    EXPECT_EQ(stage.addresses().entries_used(), 0u) << "nothing is limited";
    stage.reload([](LoopOptions& options) { options.max_connections_per_address = 1; });
    stage.settle();
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0"));
    EXPECT_FALSE(gets_in(stage, "192.0.2.1:0"));
    stage.reload([](LoopOptions& options) { options.max_connections_per_address = 0; });
    stage.settle();
    EXPECT_TRUE(gets_in(stage, "192.0.2.1:0"));
    // Those that were not counted leave no other's count behind.
    for (size_t peer = 0; peer < stage.peers(); ++peer) stage.close(peer, true);
    stage.settle();
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_EQ(stage.addresses().entries_used(), 1u);
    EXPECT_EQ(stage.stats().gauges.limits_bytes, AddressTable::kEntryBytes);
}

// Floods from a few sites, over a network and a kernel that do all they can, and honest peers that
// have sites of their own: none of these is refused, whatever the floods do.
TEST(AddressLimits, AFloodRefusesNoHonestPeer) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
        Random random(seed);
        LoopOptions options;
        options.max_connections_per_address = static_cast<uint32_t>(random.between(2, 8));
        StagePlan plan = limited(options);
        plan.seed = seed;
        FaultSet faults = FaultSet().set();
        // What refuses any peer, and has nothing to do with addresses.
        for (const Fault fault : {Fault::emfile, Fault::backlog, Fault::small_pool})
            faults.reset(static_cast<size_t>(fault));
        plan.faults = draw_faults(random, faults);
        ReactorStage stage(plan);
        const auto source_of = [](uint64_t site) {
            return site % 2 == 0 ? "10.1.0." + std::to_string(site) + ":0"
                                 : "[2001:db8:0:" + std::to_string(site) + "::1]:0";
        };
        std::vector<size_t> honest, flood;
        for (int step = 0; step < 300; ++step) {
            const size_t listener = random.below(4);
            if (random.chance(1, 10) && honest.size() < 100) {
                honest.push_back(stage.connect(listener, source_of(100 + honest.size())));
            } else if (random.chance(3, 4) || flood.empty()) {
                flood.push_back(stage.connect(listener, source_of(random.below(3))));
            } else {
                stage.close(flood[random.below(flood.size())], random.chance(1, 2));
            }
            stage.settle(static_cast<Nanos>(random.below(20)) * kMillisecond);
        }
        stage.settle(2 * kSecond);
        const uint64_t refused = refused_for(stage, CloseReason::address_full);
        EXPECT_EQ(stage.metrics()[Metric::refused], refused) << seed;
        EXPECT_GT(refused, 0u) << seed;
        for (const size_t peer : honest)
            EXPECT_EQ(stage.heard(peer).find("address_full"), std::string::npos) << seed;
    }
}

TEST(Operation, ATurnTakesNoMoreMessagesThanItsBudget) {
    StagePlan plan = plan_of();
    plan.senders = 2 * kMailboxBudgetPerTurn / kMailboxSlots;
    ReactorStage stage(plan);
    stage.settle();
    for (uint32_t sender = 0; sender < plan.senders; ++sender)
        while (stage.post({Message::Snapshot{}}, sender)) continue;
    uint64_t before = stage.metrics()[Metric::control_messages];
    for (int turn = 0; turn < 2; ++turn) {
        stage.reactor().turn(kNever);  // at once, as long as some are left
        const uint64_t taken = stage.metrics()[Metric::control_messages] - before;
        EXPECT_EQ(taken, kMailboxBudgetPerTurn);
        before += taken;
    }
}

TEST(Operation, AReloadTurnsTheDebugLogOnAndOff) {
    StagePlan plan = plan_of();
    plan.keeps_debug_lines = true;
    ReactorStage stage(plan);
    stage.reload(log_at(LogLevel::info));
    stage.settle();
    stage.connect(0);
    stage.settle();
    EXPECT_TRUE(stage.debug_lines().empty());
    stage.reload(log_at(LogLevel::debug));
    stage.settle();
    stage.connect(0);
    stage.settle();
    EXPECT_EQ(stage.debug_lines().size(), 1u);
}

TEST(Operation, ATextThatWouldBeCutIsAnAssertion) {
    FixedText<16> text;
    volatile size_t too_many = 17;  // not known to the compiler, which would refuse it
    EXPECT_DEATH(text << std::string(too_many, 'x'), "size");
}

// The tightest timeouts that are accepted: a peer that answers each probe in half of the time that
// an answer must have is never evicted, whatever ticks round to.
TEST(Operation, APeerThatAnswersEveryProbeStaysWithTheTightestTimeout) {
    for (const Nanos interval : {50 * kMillisecond, 123 * kMillisecond, kSecond, 4 * kSecond,
                                 30 * kSecond, 300 * kSecond}) {
        StagePlan plan = plan_of();
        const TickClock clock{plan.options.tick_shift};
        plan.options.heartbeat_interval = interval;
        plan.options.heartbeat_timeout = interval + answer_time(interval) + 2 * clock.tick_ns();
        ReactorStage stage(plan);
        const size_t peer = stage.connect(0);
        const std::string ping{"\xB7\x01\0\0\0\0\0\0", 8};
        const std::string pong{"\xB7\x02\0\0\0\0\0\0", 8};
        stage.write(peer, ping);
        const Nanos end = stage.network().clock() + 20 * interval;
        while (stage.network().clock() < end) {
            stage.settle(std::max<Nanos>(kMillisecond, answer_time(interval) / 8));
            const size_t probe = stage.heard(peer).find(ping);
            if (probe == std::string::npos) continue;
            stage.heard(peer).clear();
            stage.settle(answer_time(interval) / 2);
            stage.write(peer, pong);
        }
        EXPECT_FALSE(stage.ended(peer)) << "interval of " << interval / kMillisecond << " ms";
        EXPECT_GE(stage.metrics()[Metric::probes_sent], 10u);
    }
}

// 30 s and 32 s: the grace of 2 s would send the probe with the eviction.
TEST(Operation, TheGraceIsShorterWhereTheTimeoutIsTight) {
    EXPECT_EQ(probe_grace(30 * kSecond, 90 * kSecond), 2 * kSecond);
    EXPECT_EQ(probe_grace(30 * kSecond, 32 * kSecond), kSecond);
    EXPECT_EQ(probe_grace(4 * kSecond, 12 * kSecond), kSecond / 2);
    EXPECT_EQ(probe_grace(4 * kSecond, 5 * kSecond), 0);
    EXPECT_EQ(probe_grace(4 * kSecond, 4'500 * kMillisecond), 0);
}

}  // namespace
}  // namespace pulse::test
