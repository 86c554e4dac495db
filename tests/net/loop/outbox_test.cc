// What waits to be sent: the queue, the flight, and the cap that counts both.
#include "net/loop/outbox.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

namespace pulse::test {
namespace {

class Outbox : public ::testing::Test {
  protected:
    bool queue(std::string_view text, size_t cap) {
        uint8_t* place = outboxes_.claim(connection_, 0, text.size(), cap);
        if (place != nullptr) std::memcpy(place, text.data(), text.size());
        return place != nullptr;
    }
    static std::string text_of(std::span<const uint8_t> bytes) {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    BufferPool buffers_{1 << 20};
    Outboxes outboxes_{buffers_};
    Connection connection_{};
};

TEST_F(Outbox, WhatIsQueuedFliesTogetherAndOnce) {
    EXPECT_TRUE(queue("one ", 100));
    EXPECT_TRUE(queue("two", 100));
    EXPECT_TRUE(outboxes_.queued(connection_));
    EXPECT_FALSE(outboxes_.in_flight(connection_));
    const auto flight = outboxes_.begin_flight(connection_);
    EXPECT_EQ(text_of(flight), "one two");
    EXPECT_TRUE(outboxes_.in_flight(connection_));
    EXPECT_FALSE(outboxes_.queued(connection_));
    EXPECT_TRUE(queue("three", 100));
    EXPECT_EQ(text_of(flight), "one two") << "what flies stays as it is";
    outboxes_.end_flight(connection_);
    EXPECT_EQ(text_of(outboxes_.begin_flight(connection_)), "three");
    outboxes_.end_flight(connection_);
    EXPECT_EQ(connection_.outbox, 0u) << "an idle connection owns nothing";
    EXPECT_EQ(outboxes_.taken(), 0u);
    EXPECT_EQ(buffers_.taken(), 0u);
}

TEST_F(Outbox, WhatGivesWayLeavesTheGoodbye) {
    EXPECT_TRUE(queue(std::string(100'000, 'e'), 200'000));
    EXPECT_EQ(outboxes_.last_words(connection_), 0u);
    for (const std::string_view words : {"good", "bye"}) {
        EXPECT_TRUE(queue(words, 200'000));
        outboxes_.add_last_words(connection_, words.size());
    }
    outboxes_.drop_all_but_last_words(connection_, 0);
    EXPECT_LE(buffers_.held_bytes(), 1'000u);
    EXPECT_EQ(outboxes_.last_words(connection_), 7u);
    EXPECT_EQ(text_of(outboxes_.begin_flight(connection_)), "goodbye");
    EXPECT_TRUE(queue("more", 100));
    outboxes_.drop_all_but_last_words(connection_, 0);
    EXPECT_FALSE(outboxes_.queued(connection_)) << "the goodbye flies: nothing of it waits";
    outboxes_.end_flight(connection_);
    EXPECT_EQ(buffers_.taken(), 0u);
}

TEST_F(Outbox, TheCapCountsWhatIsInFlight) {
    EXPECT_FALSE(queue(std::string(101, 'x'), 100));
    EXPECT_TRUE(queue(std::string(60, 'x'), 100));
    outboxes_.begin_flight(connection_);
    EXPECT_FALSE(queue(std::string(41, 'x'), 100)) << "60 are in flight";
    EXPECT_TRUE(queue(std::string(40, 'x'), 100));
    EXPECT_FALSE(queue("x", 100)) << "60 are in flight and 40 wait";
    EXPECT_FALSE(queue("x", 59)) << "a cap below what is in flight";
    outboxes_.end_flight(connection_);
    EXPECT_TRUE(queue(std::string(60, 'x'), 100)) << "40 wait";
    EXPECT_FALSE(queue("x", 100));
}

TEST_F(Outbox, ADroppedQueueLeavesTheFlight) {
    EXPECT_TRUE(queue("flight", 100));
    const auto flight = outboxes_.begin_flight(connection_);
    EXPECT_TRUE(queue("queue", 100));
    outboxes_.drop_queue(connection_);
    EXPECT_FALSE(outboxes_.queued(connection_));
    EXPECT_TRUE(outboxes_.in_flight(connection_));
    EXPECT_EQ(text_of(flight), "flight");
    EXPECT_EQ(buffers_.taken(), 1u);
    outboxes_.end_flight(connection_);
    EXPECT_EQ(outboxes_.taken(), 0u);
    EXPECT_TRUE(queue("queue", 100));
    outboxes_.drop_queue(connection_);
    EXPECT_EQ(connection_.outbox, 0u);
    EXPECT_EQ(buffers_.taken(), 0u);
}

TEST_F(Outbox, WhatWaitsIsCountedOverAllConnections) {
    Connection other{};
    EXPECT_TRUE(queue("flight", 100));
    outboxes_.begin_flight(connection_);
    EXPECT_TRUE(queue("queue", 100));
    EXPECT_FALSE(queue(std::string(100, 'x'), 100)) << "what finds no room does not wait";
    ASSERT_NE(outboxes_.claim(other, 1, 7, 100), nullptr);
    EXPECT_EQ(outboxes_.waiting_bytes(), 18u);
    outboxes_.drop_queue(connection_);
    EXPECT_EQ(outboxes_.waiting_bytes(), 13u);
    outboxes_.write_off(connection_);
    outboxes_.end_flight(connection_);
    EXPECT_EQ(outboxes_.waiting_bytes(), 7u);
    outboxes_.release(other);
    EXPECT_EQ(outboxes_.waiting_bytes(), 0u);
}

TEST_F(Outbox, ReleaseGivesBackEverything) {
    EXPECT_TRUE(queue("flight", 100));
    outboxes_.begin_flight(connection_);
    EXPECT_TRUE(queue("queue", 100));
    outboxes_.release(connection_);
    EXPECT_EQ(connection_.outbox, 0u);
    EXPECT_EQ(outboxes_.taken(), 0u);
    EXPECT_EQ(buffers_.taken(), 0u);
    outboxes_.release(connection_);  // of a connection that has none
    Connection other{};
    EXPECT_FALSE(outboxes_.in_flight(other));
    EXPECT_FALSE(outboxes_.queued(other));
    ASSERT_NE(outboxes_.claim(other, 0, 1, 100), nullptr);
    EXPECT_FALSE(outboxes_.in_flight(other)) << "the flight of an earlier owner";
}

}  // namespace
}  // namespace pulse::test
