// Orders of the main thread to a reactor that takes its messages late, or never: what is posted,
// what waits, and what is said about it.
#include "net/server/orders.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/limits.h"

namespace pulse {
namespace {

constexpr uint32_t kSlots = 2;

struct OrdersTest : ::testing::Test {
    // What the reactor handles, oldest first, and acknowledges.
    std::vector<Message> handle_all() {
        std::vector<Message> handled;
        mailbox.drain(kMailboxSlots, [&](const Message& message) {
            handled.push_back(message);
            if (const auto* reload = std::get_if<Message::Reload>(&message.body); reload != nullptr)
                in_force = message.payload.as<std::shared_ptr<const LoopOptions>>();
            if (std::holds_alternative<Message::Revoke>(message.body))
                revoked.push_back(message.payload.as<std::vector<std::string>>());
            if (message.acknowledgement.call != nullptr)
                message.acknowledgement.call(message.acknowledgement.context, 0);
        });
        return handled;
    }
    static std::shared_ptr<const LoopOptions> timeout(Nanos timeout) {
        auto options = std::make_shared<LoopOptions>();
        options->heartbeat_timeout = timeout;
        return options;
    }

    Mailbox mailbox{1, kSlots, {[](void*) {}, nullptr}};
    Orders orders{mailbox, 0};
    std::shared_ptr<const LoopOptions> in_force;
    std::vector<std::vector<std::string>> revoked;
};

TEST_F(OrdersTest, AreDeliveredUntilTheyAreAcknowledged) {
    EXPECT_FALSE(orders.deliver());
    orders.drain();
    EXPECT_TRUE(orders.deliver());
    EXPECT_TRUE(orders.deliver()) << "posted, not acknowledged";
    EXPECT_EQ(handle_all().size(), 1u);
    EXPECT_FALSE(orders.deliver());
    EXPECT_TRUE(handle_all().empty());
}

TEST_F(OrdersTest, ACheckIsAcknowledgedAndChangesNothing) {
    orders.check();
    orders.check();
    EXPECT_TRUE(orders.deliver());
    EXPECT_TRUE(orders.deliver()) << "posted, not acknowledged";
    const std::vector<Message> handled = handle_all();
    ASSERT_EQ(handled.size(), 1u) << "one is on its way at a time";
    EXPECT_TRUE(std::holds_alternative<Message::Snapshot>(handled[0].body));
    EXPECT_FALSE(orders.deliver());
    orders.check();
    orders.cancel();
    EXPECT_FALSE(orders.deliver()) << "the reactor has ended";
}

TEST_F(OrdersTest, OneReloadIsOnItsWayAndTheLastFollows) {
    for (int second = 1; second <= 100; ++second) {
        orders.reload(timeout(second * kSecond));
        EXPECT_TRUE(orders.deliver());
    }
    EXPECT_EQ(mailbox.counts().posted(), 1u);
    EXPECT_EQ(handle_all().size(), 1u);
    EXPECT_EQ(in_force->heartbeat_timeout, kSecond);
    EXPECT_TRUE(orders.deliver());
    EXPECT_EQ(handle_all().size(), 1u);
    EXPECT_EQ(in_force->heartbeat_timeout, 100 * kSecond);
    EXPECT_FALSE(orders.deliver());
}

TEST_F(OrdersTest, EachRevocationCountsAndThoseThatWaitGoTogether) {
    using Ids = std::vector<std::string>;
    orders.revoke("a");
    EXPECT_TRUE(orders.deliver());
    orders.revoke("b");
    orders.revoke("c");
    EXPECT_TRUE(orders.deliver());
    EXPECT_EQ(mailbox.counts().posted(), 1u);
    handle_all();
    EXPECT_TRUE(orders.deliver());
    handle_all();
    EXPECT_FALSE(orders.deliver());
    EXPECT_EQ(revoked, (std::vector<Ids>{{"a"}, {"b", "c"}}));
    // Of a full mailbox none is lost either.
    while (mailbox.post(0, {Message::Snapshot{}})) continue;
    orders.revoke("d");
    EXPECT_TRUE(orders.deliver());
    orders.revoke("e");
    EXPECT_TRUE(orders.deliver());
    handle_all();
    EXPECT_TRUE(orders.deliver());
    handle_all();
    EXPECT_FALSE(orders.deliver());
    EXPECT_EQ(revoked.back(), (Ids{"d", "e"}));
}

TEST_F(OrdersTest, WhatFindsTheMailboxFullIsPostedOnceThereIsRoom) {
    while (mailbox.post(0, {Message::Snapshot{}})) continue;
    const uint64_t refused = mailbox.counts().refused;
    orders.reload(timeout(kSecond));
    orders.stop();
    EXPECT_TRUE(orders.deliver());
    EXPECT_EQ(mailbox.counts().refused, refused + 2);
    EXPECT_EQ(handle_all().size(), kSlots);
    EXPECT_EQ(in_force, nullptr);
    EXPECT_TRUE(orders.deliver());
    const std::vector<Message> handled = handle_all();
    ASSERT_EQ(handled.size(), 2u);
    EXPECT_NE(in_force, nullptr);
    EXPECT_TRUE(std::holds_alternative<Message::Stop>(handled[1].body));
    EXPECT_FALSE(orders.deliver());
}

// Peers are sent the last settings before their goodbyes.
TEST_F(OrdersTest, ADrainFollowsTheReloadsBeforeItAndAStopDoesNot) {
    for (int second = 1; second <= 2; ++second) {
        orders.reload(timeout(second * kSecond));
        orders.deliver();
    }
    orders.drain();
    orders.deliver();
    EXPECT_EQ(handle_all().size(), 1u) << "the first reload";
    orders.deliver();
    EXPECT_EQ(handle_all().size(), 1u) << "the second";
    EXPECT_EQ(in_force->heartbeat_timeout, 2 * kSecond);
    orders.reload(timeout(3 * kSecond));
    orders.stop();
    orders.deliver();
    const std::vector<Message> handled = handle_all();
    ASSERT_EQ(handled.size(), 2u);
    EXPECT_TRUE(std::holds_alternative<Message::Stop>(handled[1].body));
    EXPECT_TRUE(orders.deliver());
    EXPECT_TRUE(std::holds_alternative<Message::Drain>(handle_all()[0].body));
    EXPECT_FALSE(orders.deliver());
}

TEST_F(OrdersTest, NothingIsWantedOfAReactorThatHasEnded) {
    orders.reload(timeout(kSecond));
    orders.drain();
    EXPECT_TRUE(orders.deliver());
    orders.stop();
    orders.cancel();
    EXPECT_FALSE(orders.deliver());
}

// The payload of a reload lives until the reactor has taken it, and no longer than a next one.
TEST_F(OrdersTest, OptionsAreKeptUntilTheyAreReplaced) {
    std::weak_ptr<const LoopOptions> first, second;
    {
        const auto options = timeout(kSecond);
        first = options;
        orders.reload(options);
    }
    orders.deliver();
    {
        const auto options = timeout(2 * kSecond);
        second = options;
        orders.reload(options);
    }
    orders.deliver();
    EXPECT_FALSE(first.expired());
    handle_all();
    orders.deliver();
    handle_all();
    EXPECT_TRUE(first.expired());
    EXPECT_EQ(in_force, second.lock());
}

}  // namespace
}  // namespace pulse
