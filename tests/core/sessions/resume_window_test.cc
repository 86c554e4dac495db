// The window of what a client may not have seen: each bound, and a plain model beside it.
#include "core/sessions/resume_window.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"

#include "tests/support/scale.h"

namespace pulse::test {
namespace {

std::span<const uint8_t> bytes_of(const std::string& text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

using Numbered = std::vector<std::pair<uint64_t, std::string>>;

Numbered kept(const ResumeWindow& window, BufferPool& pool) {
    Numbered found;
    window.each(pool, [&](const ResumeWindow::Kept& at) {
        EXPECT_EQ(at.kind, at.number % 4);
        EXPECT_EQ(at.sequence, at.number * 7);
        found.emplace_back(at.number, std::string(at.bytes.begin(), at.bytes.end()));
        return true;
    });
    return found;
}

ResumeDrops push(ResumeWindow& window, BufferPool& pool, const ResumeBounds& bounds, Nanos now,
                 const std::string& text) {
    const uint64_t number = window.sent() + 1;
    return window.push(pool, bounds, now, static_cast<uint8_t>(number % 4),
                       static_cast<uint32_t>(number * 7), bytes_of(text));
}

TEST(ResumeWindow, KeepsWhatIsNotAcknowledgedAndOwnsNothingWithoutIt) {
    BufferPool pool(1 << 20);
    ResumeWindow window;
    EXPECT_EQ(window.first(), 1u);
    for (const char* text : {"a", "", "ccc"}) push(window, pool, {}, 0, text);
    EXPECT_EQ(kept(window, pool), (Numbered{{1, "a"}, {2, ""}, {3, "ccc"}}));
    EXPECT_FALSE(window.acknowledge(pool, 4)) << "so many were not sent";
    EXPECT_TRUE(window.acknowledge(pool, 2));
    EXPECT_TRUE(window.acknowledge(pool, 1)) << "an older one says nothing";
    EXPECT_EQ(kept(window, pool), (Numbered{{3, "ccc"}}));
    EXPECT_EQ(pool.taken(), 1u);
    EXPECT_TRUE(window.acknowledge(pool, 3));
    EXPECT_EQ(pool.taken(), 0u);
    EXPECT_EQ(window.first(), 4u);
    EXPECT_EQ(window.sent(), 3u);
}

TEST(ResumeWindow, EachBoundDropsTheOldestAndIsCountedByItself) {
    BufferPool pool(1 << 20);
    ResumeWindow window;
    const ResumeBounds few{.messages = 2, .bytes = 1'000, .age = 10};
    push(window, pool, few, 0, "1");
    push(window, pool, few, 0, "2");
    EXPECT_EQ(push(window, pool, few, 0, "3").count, 1u);
    EXPECT_EQ(kept(window, pool), (Numbered{{2, "2"}, {3, "3"}}));
    const ResumeDrops large = push(window, pool, few, 0, std::string(970, 'x'));
    EXPECT_EQ(large.count + large.bytes, 2u);
    EXPECT_EQ(window.first(), 4u);
    EXPECT_EQ(push(window, pool, few, 0, std::string(977, 'x')).bytes, 2u)
        << "one that is too large alone is not kept, nor what is before the gap";
    EXPECT_EQ(window.first(), 6u);
    EXPECT_EQ(pool.taken(), 0u);
    push(window, pool, few, 5, "6");
    EXPECT_EQ(push(window, pool, few, 15, "7").age, 0u);
    EXPECT_EQ(push(window, pool, few, 16, "8").age, 1u);
    EXPECT_EQ(kept(window, pool), (Numbered{{7, "7"}, {8, "8"}}));
    EXPECT_EQ(window.expire(pool, 16), 1u);
    EXPECT_EQ(window.expire(pool, 17), 1u);
    EXPECT_EQ(pool.taken(), 0u);
}

TEST(ResumeWindow, WhereThePoolIsFullItKeepsWhatItCan) {
    BufferPool pool(1'024);
    ResumeWindow window, other;
    const ResumeBounds bounds{};
    push(other, pool, bounds, 0, std::string(400, 'o'));
    uint32_t dropped = 0;
    for (int i = 0; i < 20; ++i)
        dropped += push(window, pool, bounds, 0, std::string(100, 'x')).memory;
    EXPECT_GT(dropped, 0u);
    EXPECT_EQ(window.kept() + dropped, 20u);
    EXPECT_EQ(kept(window, pool).size(), window.kept());
    EXPECT_EQ(other.kept(), 1u) << "others keep theirs";
    EXPECT_EQ(push(window, pool, bounds, 0, std::string(2'000, 'x')).memory, 21u - dropped);
    other.release(pool);
    EXPECT_EQ(pool.taken(), 0u);
}

TEST(ResumeWindow, GoesFromOnePoolToAnother) {
    BufferPool here(1 << 20), there(1 << 20), full(16);
    ResumeWindow window, arrived, dropped;
    for (const char* text : {"a", "b", "c"}) push(window, here, {}, 0, text);
    window.acknowledge(here, 1);
    const ResumeWindow::Packed packed = window.pack(here);
    EXPECT_EQ(here.taken(), 0u);
    EXPECT_EQ(window.sent(), 0u);
    EXPECT_EQ(arrived.unpack(there, packed), 0u);
    EXPECT_EQ(kept(arrived, there), (Numbered{{2, "b"}, {3, "c"}}));
    push(arrived, there, {}, 0, "d");
    EXPECT_EQ(arrived.sent(), 4u);
    EXPECT_EQ(dropped.unpack(full, packed), 2u) << "no room";
    EXPECT_EQ(dropped.first(), 4u);
    EXPECT_EQ(full.taken(), 0u);
}

TEST(ResumeWindow, AgreesWithAPlainModel) {
    struct Sent {
        uint64_t number;
        Nanos at;
        std::string text;
    };
    const uint64_t worlds = scaled(300);
    for (uint64_t seed = 1; seed <= worlds; ++seed) {
        Random random(seed);
        BufferPool pool(1 << 20);
        ResumeWindow window;
        std::deque<Sent> model;
        uint64_t sent = 0;
        const ResumeBounds bounds{.messages = 1 + static_cast<uint32_t>(random.below(20)),
                                  .bytes = 30 + random.below(1'000),
                                  .age = 1 + static_cast<Nanos>(random.below(50))};
        const auto bytes_of_model = [&] {
            size_t bytes = 0;
            for (const Sent& each : model) bytes += ResumeWindow::kHeadBytes + each.text.size();
            return bytes;
        };
        for (Nanos now = 0; now < 200; ++now) {
            if (random.below(4) == 0) {
                const uint64_t number = random.below(sent + 3);
                EXPECT_EQ(window.acknowledge(pool, number), number <= sent);
                while (number <= sent && !model.empty() && model.front().number <= number)
                    model.pop_front();
                continue;
            }
            const std::string text(random.below(200), static_cast<char>('a' + now % 26));
            push(window, pool, bounds, now, text);
            model.push_back({++sent, now, text});
            while (!model.empty() && model.front().at < now - bounds.age) model.pop_front();
            while (!model.empty() &&
                   (model.size() > bounds.messages || bytes_of_model() > bounds.bytes))
                model.pop_front();
            Numbered wanted;
            for (const Sent& each : model) wanted.emplace_back(each.number, each.text);
            ASSERT_EQ(kept(window, pool), wanted) << "seed " << seed << " at " << now;
            ASSERT_EQ(window.first(), sent + 1 - model.size());
            ASSERT_LE(pool.held_bytes(), 4 * bounds.bytes + 1'024);
        }
        window.release(pool);
        EXPECT_EQ(pool.taken(), 0u);
    }
}

}  // namespace
}  // namespace pulse::test
