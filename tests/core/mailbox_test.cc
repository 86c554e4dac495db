// The mailbox: every interleaving of its handshake, of the real code, and of weaker handshakes that
// must be caught losing a wake; then fairness, budgets, counts and memory on one thread.
#include "core/mailbox.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "core/limits.h"
#include "core/random.h"

#include "tests/support/interleavings.h"
#include "tests/support/scale.h"

namespace pulse {
namespace {

using test::Exploration;
using test::explore;
using test::Memory;
using test::Modelled;

struct Letter {
    uint32_t sender;
    uint32_t number;
};

// ------------------------------------------------------------------------ every interleaving

// How big a world is explored.
struct World {
    uint32_t senders;
    uint32_t posts_each;
    uint32_t slots;
    uint32_t budget;
    uint32_t timeouts;  // sleeps that end by themselves
};

// Senders post all they have, once each; the owner sleeps and drains for ever, as a reactor does.
// M has the mailbox's interface.
template <class M>
class Handshake : public test::Scenario {
  public:
    explicit Handshake(const World& world) : world_(world), delivered_(world.senders) {}

    std::vector<std::function<void()>> threads() override {
        std::vector<std::function<void()>> bodies;
        for (uint32_t sender = 0; sender < world_.senders; ++sender) {
            bodies.push_back([this, sender] { send(sender); });
        }
        bodies.push_back([this] { own(); });
        return bodies;
    }
    std::string wrong_at_the_end() override {
        if (senders_done_ != world_.senders) return "a sender waits";
        uint32_t delivered = 0;
        for (const uint32_t of_sender : delivered_) delivered += of_sender;
        if (delivered != posted_) return "a wake was lost: a message waits and the owner sleeps";
        if (!in_order_) return "out of order";
        if (rings_ >= sleeps_) return "more doorbells than sleeps";  // none rang in the last one
        return "";
    }

  private:
    static void ring(void* context) {
        auto& self = *static_cast<Handshake*>(context);
        ++self.rings_;
        self.bell_.exchange(1, std::memory_order_acq_rel);
    }
    void send(uint32_t sender) {
        for (uint32_t number = 0; number < world_.posts_each; ++number) {
            posted_ += mailbox_.post(sender, {sender, posted_by_[sender]});
            posted_by_[sender] = number + 1;
        }
        ++senders_done_;
    }
    void own() {
        for (;;) {
            if (mailbox_.may_sleep()) {
                ++sleeps_;
                test::wait_and_clear(bell_.cell());
            }
            mailbox_.awake();
            mailbox_.drain(world_.budget, [this](const Letter& letter) {
                test::observe(letter.sender * 100 + letter.number);
                in_order_ &= letter.number >= next_[letter.sender];
                next_[letter.sender] = letter.number + 1;
                ++delivered_[letter.sender];
            });
        }
    }

    const World world_;
    uint32_t posted_ = 0;
    uint32_t senders_done_ = 0;
    uint32_t sleeps_ = 0;
    uint32_t rings_ = 0;
    bool in_order_ = true;
    std::map<uint32_t, uint32_t> posted_by_;
    std::map<uint32_t, uint32_t> next_;
    std::vector<uint32_t> delivered_;
    Modelled<uint32_t> bell_{0u};
    M mailbox_{world_.senders, world_.slots, Doorbell{&Handshake::ring, this}};
};

template <class M>
Exploration explore_all(Memory memory, const World& world) {
    return explore(memory, world.timeouts, [&] { return std::make_unique<Handshake<M>>(world); });
}

using ModelledMailbox = BasicMailbox<Letter, Modelled>;

// Big enough for two posts to meet each other and every step of a sleep; sanitizers take the first.
constexpr World kWorlds[] = {
    {.senders = 1, .posts_each = 2, .slots = 2, .budget = 4, .timeouts = 0},
    {.senders = 1, .posts_each = 3, .slots = 4, .budget = 4, .timeouts = 1},
    {.senders = 1, .posts_each = 3, .slots = 4, .budget = 1, .timeouts = 1},  // budgets run out
    {.senders = 1, .posts_each = 3, .slots = 1, .budget = 4, .timeouts = 0},  // full now and then
    {.senders = 2, .posts_each = 1, .slots = 2, .budget = 4, .timeouts = 0},
    {.senders = 2, .posts_each = 1, .slots = 2, .budget = 1, .timeouts = 1},
    {.senders = 3, .posts_each = 1, .slots = 2, .budget = 4, .timeouts = 0},
    {.senders = 2, .posts_each = 2, .slots = 1, .budget = 4, .timeouts = 0},
};

TEST(MailboxInterleavings, NoWakeIsLostAndNoSleepIsRungTwice) {
    uint64_t states = 0;
    for (const Memory memory : {Memory::sequential, Memory::store_buffers}) {
        for (const World& world : kWorlds) {
            if (test::kSlowness > 1 && &world != kWorlds) break;
            const Exploration found = explore_all<ModelledMailbox>(memory, world);
            EXPECT_EQ(found.wrong, "");
            EXPECT_GT(found.states, 50u);
            EXPECT_GT(found.ends, 0u);
            states += found.states;
        }
    }
    RecordProperty("states", std::to_string(states));
}

// ------------------------------------------------------------------ what must be caught

// A read-modify-write that is a load and then a store: what the word would be as a plain variable.
template <class T>
class SplitAtomic : public Modelled<T> {
  public:
    using Modelled<T>::Modelled;
    T exchange(T value, std::memory_order order) {
        const T was = this->load(order);
        this->store(value, order);
        return was;
    }
    bool compare_exchange_strong(T& expected, T value, std::memory_order order, std::memory_order) {
        const T was = this->load(order);
        const bool same = was == expected;
        if (same) this->store(value, order);
        expected = was;
        return same;
    }
};

// The handshake by a plain store and a plain load on each side, with a full fence between them on
// the sides that have one.
template <bool kSenderFence, bool kOwnerFence>
class StoreLoadMailbox {
  public:
    StoreLoadMailbox(uint32_t, uint32_t slots, Doorbell bell) : bell_(bell), ring_(slots) {}
    bool post(uint32_t, const Letter& letter) {
        if (!ring_.try_push(letter)) return false;
        if (kSenderFence) test::modelled_fence();
        if (sleeping_.load(std::memory_order_relaxed) != 0) bell_();
        return true;
    }
    bool may_sleep() {
        sleeping_.store(1, std::memory_order_relaxed);
        if (kOwnerFence) test::modelled_fence();
        if (ring_.empty()) return true;
        sleeping_.store(0, std::memory_order_relaxed);
        return false;
    }
    void awake() { sleeping_.store(0, std::memory_order_relaxed); }
    template <class Take>
    bool drain(uint32_t budget, Take&& take) {
        return ring_.pop_batch(budget, take) == budget;
    }

  private:
    Doorbell bell_;
    SpscRing<Letter, Modelled> ring_;
    Modelled<uint32_t> sleeping_{0u};
};

constexpr World kOnePost = {.senders = 1, .posts_each = 1, .slots = 2, .budget = 4, .timeouts = 0};

TEST(MailboxInterleavings, WithoutAFenceAWakeIsLost) {
    constexpr Memory kTso = Memory::store_buffers;
    constexpr const char* kLost = "a wake was lost";
    EXPECT_EQ((explore_all<StoreLoadMailbox<true, true>>(kTso, kOnePost)).wrong, "");
    EXPECT_EQ((explore_all<StoreLoadMailbox<false, true>>(kTso, kOnePost)).wrong.find(kLost), 0u);
    EXPECT_EQ((explore_all<StoreLoadMailbox<true, false>>(kTso, kOnePost)).wrong.find(kLost), 0u);
    // On a machine without store buffers the order of the program would be enough.
    EXPECT_EQ((explore_all<StoreLoadMailbox<false, false>>(Memory::sequential, kOnePost)).wrong,
              "");
}

TEST(MailboxInterleavings, AStoreLoadHandshakeMayRingTwiceASleep) {
    const World two_posts = {.senders = 1, .posts_each = 2, .slots = 2, .budget = 4, .timeouts = 0};
    const Exploration found =
        explore_all<StoreLoadMailbox<true, true>>(Memory::store_buffers, two_posts);
    EXPECT_EQ(found.wrong.find("more doorbells than sleeps"), 0u) << found.wrong;
}

TEST(MailboxInterleavings, OurHandshakeNeedsItsReadModifyWrites) {
    using Split = BasicMailbox<Letter, SplitAtomic>;
    EXPECT_NE(explore_all<Split>(Memory::sequential, kOnePost).wrong, "");
    EXPECT_NE(explore_all<Split>(Memory::store_buffers, kOnePost).wrong, "");
}

// The ring by itself: three values through two slots, popped in batches, whatever the order.
class ThroughTheRing : public test::Scenario {
  public:
    std::vector<std::function<void()>> threads() override {
        return {[this] {
                    const uint32_t values[] = {1, 2, 3, 4};
                    pushed_ = ring_.push_batch({values, 3});
                    pushed_ += ring_.push_batch({values + pushed_, 4 - pushed_});
                },
                [this] {
                    for (uint32_t tries = 0; tries < 4; ++tries) {
                        ring_.pop_batch(1 + tries % 2, [this](uint32_t value) {
                            test::observe(value);
                            in_order_ &= value == ++popped_;
                        });
                    }
                }};
    }
    std::string wrong_at_the_end() override {
        if (!in_order_) return "values were lost, doubled or swapped";
        if (pushed_ < 2 || popped_ > pushed_) return "the counts do not agree";
        uint32_t left = 0;
        while (ring_.try_pop(left)) in_order_ &= left == ++popped_;
        return in_order_ && popped_ == pushed_ ? "" : "what is left is not what was pushed";
    }

  private:
    SpscRing<uint32_t, Modelled> ring_{2};
    size_t pushed_ = 0;
    uint32_t popped_ = 0;
    bool in_order_ = true;
};

TEST(SpscRingInterleavings, ValuesComeOutOnceAndInOrder) {
    for (const Memory memory : {Memory::sequential, Memory::store_buffers}) {
        const Exploration found =
            explore(memory, 0, [] { return std::make_unique<ThroughTheRing>(); });
        EXPECT_EQ(found.wrong, "");
        EXPECT_GT(found.states, 30u);
    }
}

// ------------------------------------------------------------------------------- one thread

using LetterBox = BasicMailbox<Letter>;

struct MailboxTest : ::testing::Test {
    std::vector<Letter> drain(LetterBox& mailbox, uint32_t budget) {
        std::vector<Letter> taken;
        more = mailbox.drain(budget, [&](const Letter& letter) { taken.push_back(letter); });
        return taken;
    }
    uint32_t rings = 0;
    const Doorbell bell{[](void* context) { ++*static_cast<uint32_t*>(context); }, &rings};
    bool more = false;
};

TEST_F(MailboxTest, RingsOnceASleepAndNeverForTheAwake) {
    LetterBox mailbox(2, 8, bell);
    EXPECT_TRUE(mailbox.post(0, {0, 0}));
    EXPECT_EQ(rings, 0u);
    EXPECT_FALSE(mailbox.may_sleep());
    EXPECT_EQ(drain(mailbox, 8).size(), 1u);

    EXPECT_TRUE(mailbox.may_sleep());
    EXPECT_TRUE(mailbox.post(0, {0, 1}));
    EXPECT_TRUE(mailbox.post(1, {1, 0}));
    EXPECT_TRUE(mailbox.post(0, {0, 2}));
    EXPECT_EQ(rings, 1u);
    mailbox.awake();
    EXPECT_FALSE(mailbox.may_sleep());
    EXPECT_EQ(drain(mailbox, 8).size(), 3u);

    EXPECT_TRUE(mailbox.may_sleep());
    mailbox.awake();  // by itself: a thread that posts now needs no doorbell
    EXPECT_TRUE(mailbox.post(1, {1, 1}));
    EXPECT_EQ(rings, 1u);
    EXPECT_EQ(mailbox.counts().rung, 1u);
    EXPECT_EQ(mailbox.counts().not_rung, 4u);
    EXPECT_EQ(mailbox.counts().posted(), 5u);
}

TEST_F(MailboxTest, ARefusalIsCounted) {
    LetterBox mailbox(2, 4, bell);
    for (uint32_t i = 0; i < 4; ++i) EXPECT_TRUE(mailbox.post(0, {0, i}));
    EXPECT_FALSE(mailbox.post(0, {0, 4}));
    EXPECT_FALSE(mailbox.post(0, {0, 4}));
    EXPECT_TRUE(mailbox.post(1, {1, 0}));  // the flood of one sender does not fill another's room
    EXPECT_EQ(mailbox.counts().refused, 2u);
    EXPECT_EQ(mailbox.counts().posted(), 5u);
    EXPECT_EQ(drain(mailbox, 100).size(), 5u);
    EXPECT_FALSE(more);
    EXPECT_TRUE(mailbox.post(0, {0, 4}));
}

TEST_F(MailboxTest, ABudgetThatRanOutKeepsTheOwnerAwake) {
    LetterBox mailbox(1, 8, bell);
    for (uint32_t i = 0; i < 5; ++i) mailbox.post(0, {0, i});
    EXPECT_EQ(drain(mailbox, 3).size(), 3u);
    EXPECT_TRUE(more);
    EXPECT_FALSE(mailbox.may_sleep());
    EXPECT_EQ(drain(mailbox, 3).size(), 2u);
    EXPECT_FALSE(more);
    EXPECT_TRUE(mailbox.may_sleep());
}

TEST_F(MailboxTest, SendersShareABudget) {
    LetterBox mailbox(4, 64, bell);
    for (uint32_t i = 0; i < 64; ++i) mailbox.post(2, {2, i});  // a flood
    for (const uint32_t sender : {0u, 1u, 3u}) {
        for (uint32_t i = 0; i < 4; ++i) mailbox.post(sender, {sender, i});
    }
    std::map<uint32_t, uint32_t> of_sender;
    for (const Letter& letter : drain(mailbox, 16)) ++of_sender[letter.sender];
    EXPECT_EQ(of_sender, (std::map<uint32_t, uint32_t>{{0, 4}, {1, 4}, {2, 4}, {3, 4}}));
    // What others do not need, the flood may have.
    EXPECT_EQ(drain(mailbox, 16).size(), 16u);
    EXPECT_TRUE(more);
}

TEST_F(MailboxTest, ABudgetBelowTheNumberOfSendersReachesAllInTurn) {
    LetterBox mailbox(5, 8, bell);
    for (uint32_t i = 0; i < 8; ++i) {
        for (uint32_t sender = 0; sender < 5; ++sender) mailbox.post(sender, {sender, i});
    }
    std::map<uint32_t, uint32_t> of_sender;
    for (uint32_t turn = 0; turn < 5; ++turn) {
        for (const Letter& letter : drain(mailbox, 2)) ++of_sender[letter.sender];
    }
    EXPECT_EQ(of_sender, (std::map<uint32_t, uint32_t>{{0, 2}, {1, 2}, {2, 2}, {3, 2}, {4, 2}}));
}

TEST_F(MailboxTest, AMessageMayPostToTheMailboxThatItCameFrom) {
    LetterBox mailbox(1, 2, bell);
    mailbox.post(0, {0, 0});
    uint32_t taken = 0;
    mailbox.drain(8, [&](const Letter& letter) {
        if (letter.number < 3) mailbox.post(0, {0, letter.number + 1});
        ++taken;
    });
    while (!mailbox.may_sleep())
        mailbox.drain(8, [&](const Letter& letter) {
            if (letter.number < 3) mailbox.post(0, {0, letter.number + 1});
            ++taken;
        });
    EXPECT_EQ(taken, 4u);
}

// Against a map of queues, with random senders, budgets, sleeps and floods.
TEST_F(MailboxTest, AgreesWithQueues) {
    Random random(7);
    LetterBox mailbox(3, 4, bell);
    std::map<uint32_t, std::vector<uint32_t>> queues;
    uint32_t number = 0;
    uint32_t sleeps = 0;
    for (uint64_t round = test::scaled(200'000); round > 0; --round) {
        if (random.chance(2, 3)) {
            const auto sender = static_cast<uint32_t>(random.below(3));
            const bool room = queues[sender].size() < 4;
            ASSERT_EQ(mailbox.post(sender, {sender, number}), room);
            if (room) queues[sender].push_back(number++);
            continue;
        }
        if (mailbox.may_sleep()) ++sleeps;
        mailbox.awake();
        const auto budget = static_cast<uint32_t>(random.between(1, 6));
        const std::vector<Letter> taken = drain(mailbox, budget);
        ASSERT_LE(taken.size(), budget);
        for (const Letter& letter : taken) {
            ASSERT_FALSE(queues[letter.sender].empty());
            ASSERT_EQ(letter.number, queues[letter.sender].front());
            queues[letter.sender].erase(queues[letter.sender].begin());
        }
        const bool empty = queues[0].empty() && queues[1].empty() && queues[2].empty();
        ASSERT_TRUE(more || empty);
    }
    EXPECT_GT(sleeps, 0u);
    EXPECT_EQ(rings, 0u);  // nothing was posted into a sleep
}

TEST(MailboxMemory, SixtyReactorsOfSixtyOneSendersAreCheap) {
    const Mailbox mailbox(61, kMailboxSlots, Doorbell{});
    EXPECT_LE(mailbox.memory_bytes() * 60, size_t{16} << 20);
    EXPECT_EQ(kMailboxSlots * sizeof(Message) % 4096, 0u) << "a lane is whole pages";
}

}  // namespace
}  // namespace pulse
