// The client engine in simulated time (tests/support/client_world.h): cuts at every message, worlds
// of chance, moves, silence, refusals, tokens. Nothing is lost, nothing comes twice, the order is
// kept, and what a bound drops is reported. SEEDS=1000 runs more worlds; a failure names its seed.
#include "net/client/client.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <stdexcept>

#include "net/client/sockets.h"
#include "net/io/clocks.h"

#include "tests/support/client_world.h"
#include "tests/support/scale.h"

namespace pulse::client::test {
namespace {

constexpr std::string_view kHome = "home.example:9000";
constexpr std::string_view kAway = "away.example:9000";

Options options_for(std::string_view scheme) {
    Options options;
    options.urls = {std::string(scheme) + "://" + std::string(kHome)};
    options.identity.user = "u";
    options.connect_timeout = 4 * kSecond;
    options.welcome_timeout = 3 * kSecond;
    options.answer_timeout = 1500 * kMillisecond;
    options.misses = 2;
    options.queue.age_max = 600 * kSecond;
    return options;
}

struct Stage : World {
    explicit Stage(Options options, uint64_t seed = 1)
        : World(seed, std::move(options)), home(server(std::string(kHome))) {}
    explicit Stage(std::string_view scheme = "ws", uint64_t seed = 1)
        : Stage(options_for(scheme), seed) {}
    // Something for the client, whether or not it is there: it knows its session.
    void push() {
        const auto is_welcome = [](const Event& event) {
            return std::holds_alternative<Welcomed>(event);
        };
        if (std::ranges::any_of(events, is_welcome)) home.push(home.last_session());
    }
    FakeServer& home;
};

std::vector<int> up_to(int count) {
    std::vector<int> numbers(static_cast<size_t>(count));
    std::iota(numbers.begin(), numbers.end(), 1);
    return numbers;
}

// Of each message its one answer; what was not dropped was read once, in order, and nothing else.
void check_whole(World& world, FakeServer& home) {
    for (const Ended& ended : world.of<Ended>()) FAIL() << "ended: " << ended.cause.name;
    ASSERT_EQ(world.engine.state(), State::open);
    std::vector<int> sent;
    for (int number = 1; number <= static_cast<int>(world.ids.size()); ++number) {
        const Answered answer = world.answer_of(number);
        ASSERT_NE(answer.outcome, Outcome::unconfirmed) << number << " " << answer.reason;
        if (answer.outcome != Outcome::dropped) sent.push_back(number);
    }
    ASSERT_EQ(home.data, sent) << "what the client sent";
    ASSERT_EQ(world.received(), up_to(home.pushed(home.last_session()))) << "what the server sent";
    for (const Resumed& resumed : world.of<Resumed>()) {
        ASSERT_TRUE(resumed.resumed);
        ASSERT_EQ(resumed.lost, 0u);
    }
}

// ------------------------------------------------------------------------- nothing lost, or twice

enum class Cut : uint8_t { heard, unheard, close_frame };

void cut_by(World& world, Wire& wire, Cut cut) {
    if (cut == Cut::heard) return world.cut(wire);
    if (cut == Cut::unheard) {
        wire.deaf = true;
        return;
    }
    if (wire.framing == Framing::websocket) return wire.server->close_frame(wire, 1012, "");
    wire.server->goodbye(wire, R"("code":1012)");
}

void cut_all(World& world, Cut cut) {
    for (Wire* const wire : world.wires_up()) {
        if (!wire->deaf && wire->read) cut_by(world, *wire, cut);
    }
}

// Ten seconds of messages both ways, the connection ended when message `boundary` was delivered.
// Returns how many there were.
int cut_run(std::string_view scheme, Cut cut, int boundary) {
    Stage stage(scheme, 7);
    int seen = 0;
    stage.boundary = [&] {
        if (++seen == boundary) cut_all(stage, cut);
    };
    stage.engine.connect(stage.now);
    for (int i = 0; i < 20; ++i) {
        stage.at(stage.now + i * 400 * kMillisecond, [&stage, i] { stage.say(i % 3 == 0); });
        stage.at(stage.now + (2 + i * 300) * kMillisecond, [&stage] { stage.push(); });
    }
    stage.run(200 * kSecond);
    check_whole(stage, stage.home);
    return seen;
}

TEST(Resuming, SurvivesACutAtEveryMessage) {
    int runs = 0;
    for (const std::string_view scheme : {"ws", "jsonl"}) {
        for (const Cut cut : {Cut::heard, Cut::unheard, Cut::close_frame}) {
            const int messages = std::min(cut_run(scheme, cut, 0), 120);
            const int step = pulse::test::kSlowness > 1 ? 7 : 1;
            for (int boundary = 1; boundary <= messages; boundary += step, ++runs) {
                SCOPED_TRACE(testing::Message() << scheme << " cut " << static_cast<int>(cut)
                                                << " at message " << boundary);
                cut_run(scheme, cut, boundary);
                if (HasFatalFailure()) return;
            }
        }
    }
    printf("REPORT %d runs, each cut at another message\n", runs);
    EXPECT_GE(runs, pulse::test::kSlowness > 1 ? 50 : 300);
}

using Sums = std::map<std::string, uint64_t>;

// A minute of trouble: at each message a cut by chance, and faults of servers; then calm.
void live(uint64_t seed, Sums& sums) {
    Options options = options_for(seed % 2 == 0 ? "ws" : "jsonl");
    for (const char* cause : {"connect_timeout", "welcome_timeout"}) {
        const Delay delay{Shape::linear, kSecond / 2, 5 * kSecond, Jitter::equal};
        options.policies.emplace_back(cause, Policy{kAlways, delay, false});
    }
    options.buffered_max = 4'000;
    const bool tight = seed % 3 == 0;
    options.queue = tight ? QueueBounds{25, 6'000, 20 * kSecond,
                                        seed % 6 == 0 ? Overflow::newest : Overflow::oldest}
                          : options.queue;
    Stage stage(std::move(options), seed);
    FakeServer& home = stage.home;
    const Nanos calm_at = stage.now + 60 * kSecond;
    const uint64_t cuts_in = stage.random.between(10, 100);
    stage.boundary = [&] {
        if (stage.now >= calm_at || !stage.random.chance(1, cuts_in)) return;
        cut_all(stage, static_cast<Cut>(stage.random.below(3)));
    };
    stage.engine.connect(stage.now);
    for (Nanos at = stage.now; at < calm_at; at += stage.between(0, kSecond / 2)) {
        stage.at(at, [&] {
            const uint64_t most = stage.random.chance(1, 50) ? 7'000 : 400;
            stage.say(stage.random.chance(1, 3), stage.random.below(most));
        });
        stage.at(at + 1, [&] { stage.push(); });
    }
    for (Nanos at = stage.now; at < calm_at; at += stage.between(0, 12 * kSecond)) {
        stage.at(at, [&] {
            switch (stage.random.below(5)) {
                case 0:
                    home.accepts = FakeServer::Accepts::refuses;
                    break;
                case 1:
                    home.accepts = FakeServer::Accepts::hangs;
                    break;
                case 2:
                    home.stalled_until = stage.now + stage.between(0, 8 * kSecond);
                    break;
                case 3:
                    for (Wire* const wire : stage.wires_up())
                        home.goodbye(*wire, R"("code":1001,"reason":"going_away",)"
                                            R"("retry_after_ms":700)");
                    break;
                case 4:
                    stage.engine.wake(stage.now);
                    break;
            }
            stage.in(stage.between(0, 9 * kSecond),
                     [&] { home.accepts = FakeServer::Accepts::all; });
        });
    }
    stage.run(600 * kSecond);
    check_whole(stage, home);
    for (const Answered& answer : stage.of<Answered>())
        ++sums[answer.outcome == Outcome::dropped    ? "dropped: " + answer.reason
               : answer.outcome == Outcome::received ? "received"
                                                     : "sent"];
    sums["connections"] += stage.of<Welcomed>().size();
}

TEST(Resuming, LosesNothingInWorldsOfChance) {
    const char* const asked = std::getenv("SEEDS");
    const uint64_t seeds =
        asked == nullptr ? pulse::test::scaled(300) : std::strtoull(asked, nullptr, 10);
    Sums sums;
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        live(seed, sums);
        if (HasFatalFailure()) return;
    }
    printf("REPORT %llu worlds:", static_cast<unsigned long long>(seeds));
    for (const auto& [name, count] : sums)
        printf(" %s %llu,", name.c_str(), static_cast<unsigned long long>(count));
    printf("\n");
    for (const char* name :
         {"sent", "received", "dropped: count", "dropped: bytes", "dropped: age"})
        EXPECT_GT(sums[name], 0u) << name << ": the worlds are too kind";
}

TEST(Resuming, ReportsWhatTheServerKeepsNoMore) {
    Stage stage;
    stage.home.kept_max = 3;
    stage.open();
    stage.wire().deaf = true;
    for (int i = 0; i < 8; ++i) stage.home.push(stage.home.last_session());
    stage.run(60 * kSecond);
    EXPECT_EQ(stage.received(), (std::vector{6, 7, 8}));
    const std::vector<Resumed> resumed = stage.of<Resumed>();
    ASSERT_EQ(resumed.size(), 1u);
    EXPECT_TRUE(resumed[0].resumed);
    EXPECT_EQ(resumed[0].lost, 5u);
}

TEST(Resuming, OfASessionThatIsOverAnswersWhatWasSent) {
    Stage stage;
    stage.open();
    stage.home.stalled_until = kNever;
    const int confirmed = stage.say(true);
    const int plain = stage.say();
    stage.run(kSecond / 10);
    stage.home.forget();
    stage.wire().read = false;
    stage.home.stalled_until = 0;
    stage.cut(stage.wire());
    stage.run(60 * kSecond);
    EXPECT_EQ(stage.answer_of(plain).outcome, Outcome::sent);
    EXPECT_EQ(stage.answer_of(confirmed).outcome, Outcome::unconfirmed);
    EXPECT_EQ(stage.answer_of(confirmed).reason, "unknown");
    const std::vector<Resumed> resumed = stage.of<Resumed>();
    ASSERT_EQ(resumed.size(), 1u);
    EXPECT_FALSE(resumed[0].resumed);
    EXPECT_EQ(resumed[0].unconfirmed, 2u);
    EXPECT_EQ(resumed[0].why, "unknown");
    const int next = stage.say(true);
    stage.run(kSecond);
    EXPECT_EQ(stage.answer_of(next).outcome, Outcome::received);
}

// The server has counted less than it has answered for: it cannot be gone on with, and what came
// before comes no second time.
TEST(Resuming, ByCountsThatCannotBeIsGivenUp) {
    Stage stage;
    bool loses = true;
    stage.home.on_message = [&](Wire&, std::string_view text) {
        return loses && text.find(R"("type":"data")") != text.npos;
    };
    stage.open();
    const int lost = stage.say(true);
    stage.run(kSecond);
    EXPECT_EQ(stage.answer_of(lost).outcome, Outcome::received);
    loses = false;
    for (int i = 0; i < 3; ++i) {
        stage.push();
        stage.run(kSecond / 4);
        stage.cut(stage.wire());
        stage.run(10 * kSecond);
    }
    EXPECT_EQ(stage.home.sessions(), 2u);
    EXPECT_EQ(stage.received(), (std::vector{1, 2, 1}));
    const std::vector<Resumed> resumed = stage.of<Resumed>();
    ASSERT_EQ(resumed.size(), 2u);
    EXPECT_FALSE(resumed[0].resumed);
    EXPECT_TRUE(resumed[1].resumed);
}

TEST(Resuming, BoundsWhatMayHaveToBeSentAgain) {
    Options options = options_for("ws");
    options.queue = {4, 1 << 16, 5 * kSecond, Overflow::newest};
    options.answer_timeout = 60 * kSecond;
    Stage stage(std::move(options));
    stage.open();
    stage.home.stalled_until = kNever;
    for (int i = 0; i < 12; ++i) stage.say();
    stage.run(10 * kSecond);
    std::map<std::string, int> counts;
    for (const Answered& answer : stage.of<Answered>())
        ++counts[answer.outcome == Outcome::sent ? "sent" : answer.reason];
    EXPECT_EQ(counts, (std::map<std::string, int>{{"sent", 4}, {"count", 4}, {"age", 4}}));
}

TEST(Resuming, AcknowledgesEach32ndOrASecondAfterOne) {
    Stage stage;
    std::vector<std::string> acks;
    stage.home.on_message = [&](Wire&, std::string_view text) {
        if (text.find(R"("type":"ack")") != text.npos) acks.emplace_back(text);
        return false;
    };
    stage.open();
    stage.home.push(stage.home.last_session());
    stage.run(900 * kMillisecond);
    EXPECT_TRUE(acks.empty());
    stage.run(500 * kMillisecond);
    EXPECT_EQ(acks, (std::vector<std::string>{R"({"type":"ack","received":1})"}));
    for (int i = 0; i < 70; ++i) stage.home.push(stage.home.last_session());
    stage.run(3 * kSecond);
    ASSERT_EQ(acks.size(), 4u);
    EXPECT_EQ(acks[2], R"({"type":"ack","received":65})");
    EXPECT_EQ(acks[3], R"({"type":"ack","received":71})");
}

TEST(Resuming, IsNotAskedForWhereItIsNotWanted) {
    Options options = options_for("ws");
    options.resume = false;
    Stage stage(std::move(options));
    stage.open();
    EXPECT_EQ(stage.home.hellos.at(0), R"({"type":"hello","user":"u"})");
    Stage other;
    other.open();
    EXPECT_EQ(other.home.hellos.at(0), R"({"type":"hello","user":"u","resume":{}})");
}

// ------------------------------------------------------------------------------------------- moves

TEST(Moving, MakesBeforeItBreaks) {
    Stage stage;
    FakeServer& away = stage.server(std::string(kAway));
    stage.open();
    Wire& old = stage.wire();
    const int before = stage.say(true);
    stage.home.goodbye(old, R"("code":4011,"reason":"moved","retry_after_ms":800,)"
                            R"("move_to":"auto://away.example:9000")");
    stage.run(500 * kMillisecond);
    EXPECT_EQ(stage.engine.state(), State::open);
    EXPECT_TRUE(old.client_open) << "it is kept until the other welcomes";
    const int meanwhile = stage.say();
    stage.run(5 * kSecond);
    EXPECT_FALSE(old.client_open);
    EXPECT_EQ(away.data, std::vector{meanwhile});
    EXPECT_EQ(away.hellos.size(), 1u);
    EXPECT_NE(away.hellos[0].find(R"("resume":{})"), std::string::npos);
    EXPECT_EQ(stage.of<Welcomed>().back().url, "ws://away.example:9000");
    for (const StateChanged& change : stage.of<StateChanged>())
        EXPECT_NE(change.before, State::open) << "it was open all the while";
    EXPECT_NE(stage.answer_of(before).outcome, Outcome::dropped);
    EXPECT_TRUE(stage.of<Lost>().empty());
}

TEST(Moving, GoesHomeAfterThreeTries) {
    Stage stage;
    stage.open();
    stage.home.goodbye(stage.wire(), R"("code":4011,"reason":"moved","move_to":"ws://gone:1")");
    stage.run(120 * kSecond);
    EXPECT_EQ(stage.engine.state(), State::open);
    EXPECT_EQ(stage.wires.size(), 5u) << "home, three tries, home";
    EXPECT_EQ(stage.home.hellos.size(), 2u);
}

TEST(Moving, GoesHomeWithoutTheOldConnectionForWhichHomeMightRefuseIt) {
    Stage stage;
    stage.home.on_message = [&](Wire& wire, std::string_view text) {
        const bool is_second = stage.wires_up().size() > 1;
        if (is_second && text.find(R"("type":"hello")") != text.npos)
            return stage.home.goodbye(wire, R"("code":4009,"reason":"duplicate_login")"), true;
        return false;
    };
    stage.open();
    stage.home.send(stage.wire(), R"({"type":"goodbye","code":4011,"reason":"moved",)"
                                  R"("move_to":"ws://gone:1"})");
    stage.run(120 * kSecond);
    EXPECT_EQ(stage.engine.state(), State::open);
    EXPECT_EQ(stage.home.hellos.size(), 2u);
    EXPECT_EQ(stage.wires.at(0)->closes, std::vector<uint16_t>{4000});
    EXPECT_TRUE(stage.of<Resumed>().at(0).resumed);
}

TEST(Moving, IsForTheProgramToForbid) {
    Options options = options_for("ws");
    std::vector<std::string> asked;
    options.allow_move = [&](std::string_view url) { return asked.emplace_back(url), false; };
    Stage stage(std::move(options));
    stage.server(std::string(kAway));
    stage.open();
    stage.home.goodbye(stage.wire(), R"("code":4011,"reason":"moved",)"
                                     R"("move_to":"ws://away.example:9000")");
    stage.run(20 * kSecond);
    EXPECT_EQ(asked, std::vector<std::string>{"ws://away.example:9000"});
    EXPECT_EQ(stage.home.hellos.size(), 2u);
    EXPECT_EQ(stage.of<Lost>().size(), 1u);
}

TEST(Moving, FollowsACloseFrame) {
    Stage stage;
    FakeServer& away = stage.server(std::string(kAway));
    stage.open();
    stage.home.close_frame(stage.wire(), 4011, "moved: ws://away.example:9000; retry_after_ms=20");
    stage.run(20 * kSecond);
    EXPECT_EQ(away.hellos.size(), 1u);
    EXPECT_EQ(stage.of<Lost>().at(0).cause.name, "moved");
}

// --------------------------------------------------------------------------------------- silence

TEST(Silence, IsFoundByMisses) {
    Stage stage;
    stage.open();
    stage.run(30 * kSecond);
    EXPECT_GE(stage.home.pings, 2u);
    stage.wire().deaf = true;
    const Nanos from = stage.now;
    while (stage.of<Lost>().empty() && stage.now < from + 60 * kSecond)
        stage.run(kMillisecond * 10);
    ASSERT_EQ(stage.of<Lost>().size(), 1u);
    EXPECT_EQ(stage.of<Lost>()[0].cause.name, "silent");
    EXPECT_EQ(stage.of<Missed>().size(), 2u);
    EXPECT_LE(stage.now - from, stage.home.interval + 2 * 1500 * kMillisecond + kSecond / 10);
    stage.run(10 * kSecond);
    EXPECT_EQ(stage.engine.state(), State::open) << "it comes back at once";
}

TEST(Silence, OfAProcessThatWasStoppedIsNotAMiss) {
    Stage stage;
    stage.open();
    for (int i = 0; i < 5; ++i) {
        stage.run(12 * kSecond);
        // Stopped while a ping is out, whose answer comes before time is looked at.
        stage.home.stalled_until = stage.now + 3600 * kSecond;
        stage.engine.wake(stage.now);
        stage.run(kSecond);
        stage.now += 3600 * kSecond;
    }
    stage.run(20 * kSecond);
    EXPECT_TRUE(stage.of<Lost>().empty());
    EXPECT_TRUE(stage.of<Missed>().empty());
}

TEST(Silence, IsNotThatOfALongMessage) {
    Stage stage("jsonl");
    stage.open();
    stage.home.stalled_until = kNever;  // it answers no ping
    Wire& wire = stage.wire();
    stage.deliver(wire, R"({"type":"data","fill":")");
    for (int i = 0; i < 60; ++i) {
        stage.in(i * kSecond, [&] { stage.deliver(wire, "xxxxxxxx"); });
    }
    stage.run(60 * kSecond);
    EXPECT_TRUE(stage.of<Lost>().empty());
    stage.deliver(wire, "\"}\n");
    stage.run(kSecond);
    EXPECT_EQ(stage.of<Message>().size(), 1u);
}

TEST(Silence, FollowsTheInterval) {
    Stage stage;
    stage.open();
    stage.home.send(stage.wire(), R"({"type":"interval","interval_ms":1000,"timeout_ms":3000})");
    stage.run(500 * kMillisecond);
    const size_t before = stage.home.pings;
    stage.run(10 * kSecond);
    EXPECT_GE(stage.home.pings - before, 9u);
    EXPECT_EQ(stage.of<IntervalTold>().at(0).interval, kSecond);
}

TEST(Silence, ProbesAreAnswered) {
    for (const char* scheme : {"ws", "jsonl"}) {
        Stage stage(scheme);
        std::vector<std::string> pongs;
        stage.home.on_message = [&](Wire&, std::string_view text) {
            if (text.find(R"("type":"pong")") != text.npos) pongs.emplace_back(text);
            return false;
        };
        stage.open();
        stage.home.send(stage.wire(), R"({"type":"ping","seq":77,"ts":"now"})");
        stage.run(kSecond);
        EXPECT_EQ(pongs, std::vector<std::string>{R"({"type":"pong","seq":77,"ts":"now"})"});
    }
}

// ----------------------------------------------------------------------------- refusals, policies

TEST(Refusals, OfHttpFollowTheirRow) {
    const struct {
        uint16_t status;
        size_t tries;
    } kRows[] = {{503, 4}, {429, 4}, {400, 1}, {404, 1}, {200, 1}, {502, 4}};
    for (const auto& [status, tries] : kRows) {
        Stage stage;
        stage.home.status = status;
        stage.home.retry_after = "9";
        stage.engine.connect(stage.now);
        stage.run(1000 * kSecond);
        EXPECT_EQ(stage.engine.state(), State::closed) << status;
        EXPECT_EQ(stage.wires.size(), tries) << status;
        EXPECT_EQ(stage.of<Ended>().at(0).cause.name, "http_" + std::to_string(status));
        for (const RetryPlanned& retry : stage.of<RetryPlanned>()) {
            EXPECT_GE(retry.wait, 9 * kSecond) << "not before Retry-After";
            EXPECT_EQ(retry.cause.retry_after, 9 * kSecond);
        }
    }
}

TEST(Refusals, OfTcpAndOfSilenceFollowTheirRow) {
    Stage stage;
    stage.home.accepts = FakeServer::Accepts::hangs;
    stage.engine.connect(stage.now);
    stage.run(1000 * kSecond);
    EXPECT_EQ(stage.wires.size(), 6u) << "five more";
    EXPECT_EQ(stage.of<Ended>().at(0).cause.name, "connect_timeout");
    Stage refused;
    refused.home.accepts = FakeServer::Accepts::refuses;
    refused.engine.connect(refused.now);
    refused.run(1000 * kSecond);
    EXPECT_EQ(refused.engine.state(), State::waiting) << "for ever";
    EXPECT_GT(refused.wires.size(), 20u);
    refused.home.accepts = FakeServer::Accepts::all;
    refused.run(61 * kSecond);
    EXPECT_EQ(refused.engine.state(), State::open);
    Stage mute;
    mute.home.has_welcomes = false;
    mute.engine.connect(mute.now);
    mute.run(1000 * kSecond);
    EXPECT_EQ(mute.wires.size(), 6u);
    EXPECT_EQ(mute.of<Ended>().at(0).cause.name, "welcome_timeout");
}

TEST(Refusals, OfAHelloEndItOrPutItOff) {
    Stage stage;
    stage.home.on_message = [&](Wire& wire, std::string_view) {
        stage.home.send(wire, R"({"type":"error","code":1007,"message":"'profile' is unknown"})");
        return true;
    };
    stage.engine.connect(stage.now);
    stage.run(60 * kSecond);
    EXPECT_EQ(stage.of<Ended>().at(0).cause.name, "hello_refused");
    EXPECT_EQ(stage.wires.size(), 1u);
    Stage late;
    int hellos = 0;
    late.home.on_message = [&](Wire& wire, std::string_view text) {
        if (text.find("hello") == text.npos || ++hellos > 3) return false;
        late.home.send(wire, R"({"type":"error","code":1013,"message":"try again"})");
        return true;
    };
    late.engine.connect(late.now);
    late.run(30 * kSecond);
    EXPECT_EQ(late.engine.state(), State::open);
    EXPECT_EQ(late.wires.size(), 1u) << "on one connection";
    EXPECT_EQ(hellos, 4);
}

TEST(Refusals, ReasonsOfTheServerEndItForGood) {
    for (const char* scheme : {"ws", "jsonl"}) {
        Stage stage(scheme);
        stage.open();
        const int kept = stage.say(true);
        stage.run(kSecond);
        stage.home.goodbye(stage.wire(), R"("code":4008,"reason":"taken_over")");
        stage.run(60 * kSecond);
        EXPECT_EQ(stage.engine.state(), State::closed);
        EXPECT_EQ(stage.of<Ended>().at(0).cause.name, "taken_over");
        EXPECT_EQ(stage.answer_of(kept).outcome, Outcome::received) << "it was read before";
        EXPECT_EQ(stage.answer_of(stage.say()).reason, "closed");
    }
}

TEST(Refusals, OfSeveralUrlsTheNextIsTried) {
    Options options = options_for("ws");
    options.urls.insert(options.urls.begin(), "ws://away.example:9000");
    Stage stage(std::move(options));
    stage.server(std::string(kAway)).status = 404;
    stage.open();
    EXPECT_EQ(stage.home.hellos.size(), 1u);
    EXPECT_EQ(stage.wires.size(), 2u);
}

TEST(Refusals, AHintOfTheServerIsKeptTo) {
    Stage stage;
    stage.open();
    stage.home.goodbye(stage.wire(), R"("code":1001,"reason":"going_away","retry_after_ms":40000)");
    stage.run(39 * kSecond);
    stage.engine.wake(stage.now);
    EXPECT_EQ(stage.wires.size(), 1u);
    stage.run(3 * kSecond);
    EXPECT_EQ(stage.wires.size(), 2u);
}

TEST(Refusals, AWakeBringsTheNextTryForward) {
    Stage stage;
    stage.home.accepts = FakeServer::Accepts::refuses;
    stage.engine.connect(stage.now);
    stage.run(600 * kSecond);
    stage.home.accepts = FakeServer::Accepts::all;
    ASSERT_GT(stage.engine.due_at(), stage.now + 1500 * kMillisecond) << "it is about to try";
    stage.engine.wake(stage.now);
    stage.run(1500 * kMillisecond);
    EXPECT_EQ(stage.engine.state(), State::open);
}

TEST(Closing, AnswersWhatWaitsAndEndsTheSession) {
    for (const char* scheme : {"ws", "jsonl"}) {
        Stage stage(scheme);
        const int waits = stage.say();
        stage.engine.close(stage.now);
        stage.run(kSecond);
        EXPECT_EQ(stage.answer_of(waits).reason, "closed");
        EXPECT_EQ(stage.of<Ended>().at(0).cause.name, "closed");
        stage.open();
        Wire& wire = stage.wire();
        stage.engine.close(stage.now);
        stage.run(kSecond);
        EXPECT_EQ(wire.closes, std::vector<uint16_t>{1000});
        EXPECT_EQ(stage.home.sessions(), 0u);
        EXPECT_EQ(stage.engine.due_at(), kNever);
    }
}

// ------------------------------------------------------------------------------- messages, tokens

TEST(Messages, OfTheProtocolItselfAreRefused) {
    Stage stage;
    const auto send = [&](std::string_view text) {
        return stage.engine.send(stage.now, MessageKind::text, text, false);
    };
    for (const char* text :
         {"PING", R"({"type":"hello"})", R"({"type":"ack","received":-1})", "\xff"})
        EXPECT_FALSE(send(text)) << text;
    const std::string broken[] = {R"({"type":"data"}})", R"({"type":"data","type":"data"})"};
    for (const std::string& text : broken)
        EXPECT_FALSE(send(text)) << text << ": the server would answer it with an error";
    for (const char* text : {"hello", R"({"type":"chat"})", R"({"type":"data","a":1})", "{", ""})
        EXPECT_TRUE(send(text)) << text;
    Stage lines("jsonl");
    const auto say = [&](MessageKind kind, std::string_view text) {
        return bool(lines.engine.send(lines.now, kind, text, false));
    };
    EXPECT_TRUE(say(MessageKind::text, R"({"type":"data"})"));
    EXPECT_FALSE(say(MessageKind::text, "{\"type\":\"data\",\n\"a\":1}"));
    EXPECT_FALSE(say(MessageKind::text, "hello"));
    for (const std::string& text : broken) EXPECT_FALSE(say(MessageKind::text, text)) << text;
    EXPECT_FALSE(say(MessageKind::binary, "hello"));
}

TEST(Messages, WaitWhereTheSocketIsSlow) {
    Options options = options_for("ws");
    options.buffered_max = 500;
    options.answer_timeout = 60 * kSecond;
    Stage stage(std::move(options));
    stage.open();
    stage.home.takes_bytes = false;
    for (int i = 0; i < 20; ++i) stage.say(false, 100);
    EXPECT_GT(stage.engine.outbox().count(), 10u);
    EXPECT_LT(stage.wire().waiting.size(), 1'000u);
}

TEST(Messages, OfAServerThatReadsNothingFillNoMemory) {
    for (const char* scheme : {"ws", "jsonl"}) {
        Options options = options_for(scheme);
        options.buffered_max = options.queue.bytes_max = 4'000;
        Stage stage(std::move(options));
        stage.open();
        Wire& wire = stage.wire();
        stage.home.takes_bytes = false;
        std::string asks;
        for (int i = 0; i < 10'000; ++i)
            asks += scheme == std::string_view("ws") ? std::string("\x89\0", 2)
                                                     : "{\"type\":\"ping\"}\n";
        for (int i = 0; i < 10; ++i) stage.deliver(wire, asks);
        for (int i = 0; i < 4'000; ++i) stage.push();
        stage.run(kSecond / 2);
        EXPECT_LT(wire.waiting.size(), 70'000u) << scheme;
        EXPECT_GT(wire.waiting.size(), 10'000u) << scheme << ": none of many is answered";
    }
}

TEST(Messages, ThatLeaveSlowlyEndNoHelloBehindThem) {
    Options options = options_for("ws");
    options.answer_timeout = 60 * kSecond;
    Stage stage(std::move(options));
    stage.open();
    stage.home.takes_bytes = false;
    stage.say(false, 100'000);
    EXPECT_TRUE(stage.engine.login(stage.now, options_for("ws").identity, ""));
    stage.run(20 * kSecond);
    EXPECT_TRUE(stage.of<Lost>().empty());
}

TEST(Messages, ThatAreLargeComeWhole) {
    Stage stage;
    stage.home.has_sessions = false;
    stage.open();
    const int number = stage.say(true, 300'000);
    stage.run(kSecond);
    EXPECT_EQ(stage.answer_of(number).outcome, Outcome::received);
    stage.home.send(stage.wire(), std::string(300'000, 'y'));
    stage.run(kSecond);
    ASSERT_EQ(stage.of<Message>().size(), 1u);
    EXPECT_EQ(stage.of<Message>()[0].bytes, std::string(300'000, 'y'));
}

TEST(Messages, OverTheClientsLimitEndTheConnection) {
    Options options = options_for("ws");
    options.message_bytes_max = 1'000;
    Stage stage(std::move(options));
    stage.open();
    stage.home.send(stage.wire(), std::string(1'001, 'y'));
    stage.run(kSecond);
    EXPECT_EQ(stage.of<Lost>().at(0).cause.name, "close_1009");
}

TEST(Tokens, AreAskedForAndRenewed) {
    Options options = options_for("ws");
    std::vector<std::string> asked;
    options.token_source = [&](const TokenRequest& request) -> std::optional<std::string> {
        asked.push_back(std::string(request.cause) + (request.renew ? " anew" : ""));
        if (asked.size() == 1 || asked.size() == 3) return std::nullopt;
        return "token" + std::to_string(asked.size());
    };
    Stage stage(std::move(options));
    stage.open();
    EXPECT_NE(stage.home.hellos.at(0).find(R"("token":"token2")"), std::string::npos);
    stage.home.send(stage.wire(), R"({"type":"expiring","in_ms":60000})");
    stage.run(30 * kSecond);
    EXPECT_EQ(asked, (std::vector<std::string>{"connect", "token_failed", "expiring anew",
                                               "expiring anew"}));
    EXPECT_NE(stage.home.hellos.at(1).find(R"("token":"token4")"), std::string::npos);
    EXPECT_EQ(stage.of<Welcomed>().size(), 2u);
    stage.home.goodbye(stage.wire(), R"("code":4001,"reason":"unauthorized")");
    stage.run(kSecond);
    EXPECT_EQ(asked.back(), "unauthorized anew");
    EXPECT_EQ(stage.engine.state(), State::open);
}

TEST(Tokens, OfAFunctionThatThrowsAreAskedForAgain) {
    Options options = options_for("ws");
    int asked = 0;
    options.token_source = [&](const TokenRequest&) -> std::optional<std::string> {
        if (++asked < 3) throw std::runtime_error("no network");
        return "t";
    };
    options.allow_move = [](std::string_view) -> bool { throw std::runtime_error("no"); };
    Stage stage(std::move(options));
    stage.open();
    EXPECT_EQ(asked, 3);
    EXPECT_EQ(stage.of<RetryPlanned>().at(0).cause.name, "token_failed");
    EXPECT_NE(stage.of<RetryPlanned>().at(0).cause.message.find("no network"), std::string::npos);
    stage.home.goodbye(stage.wire(), R"("code":4011,"reason":"moved","move_to":"ws://gone:1")");
    stage.run(20 * kSecond);
    EXPECT_EQ(stage.engine.state(), State::open);
    EXPECT_EQ(stage.wires.size(), 2u) << "it stays";
}

TEST(Tokens, AFunctionThatCallsItsClientIsStopped) {
    Options options = options_for("ws");
    Engine* engine = nullptr;
    options.token_source = [&](const TokenRequest&) -> std::optional<std::string> {
        engine->close(0);
        return "t";
    };
    Stage stage(std::move(options));
    engine = &stage.engine;
    EXPECT_DEATH(stage.engine.connect(stage.now), "token_source");
}

TEST(Tokens, ThatAreWrongEndItWhereThereIsNoSource) {
    Options options = options_for("ws");
    options.token = "wrong";
    Stage stage(std::move(options));
    stage.open();
    stage.home.goodbye(stage.wire(), R"("code":4001,"reason":"unauthorized")");
    stage.run(kSecond);
    EXPECT_EQ(stage.engine.state(), State::closed);
}

TEST(Tokens, ALoginHoldsAtOnceAndLater) {
    Stage stage;
    stage.open();
    Identity other;
    other.user = "v";
    other.labels = {{"ring", "a \"b\""}};
    EXPECT_TRUE(stage.engine.login(stage.now, other, ""));
    stage.run(kSecond);
    EXPECT_EQ(stage.home.hellos.at(1),
              R"({"type":"hello","user":"v","labels":{"ring":"a \"b\""}})");
    other.user = std::string(129, 'x');
    EXPECT_FALSE(stage.engine.login(stage.now, other, ""));
    stage.cut(stage.wire());
    stage.run(20 * kSecond);
    EXPECT_NE(stage.home.hellos.at(2).find(R"("user":"v")"), std::string::npos);
}

// --------------------------------------------------------------------------------------- options

TEST(Options, ThatCannotBeMeantAreNamed) {
    const auto error_of = [](auto change) {
        Options options = options_for("ws");
        change(options);
        const Result<Client> made = Client::make(std::move(options));
        return made ? std::string() : made.error();
    };
    EXPECT_EQ(error_of([](Options&) {}), "");
    EXPECT_NE(error_of([](Options& o) {
                  o.urls = {"wss://a:1"};
                  o.tls_authorities = "/nowhere.pem";
              }).find("tls_authorities /nowhere.pem: cannot be read"),
              std::string::npos);
    EXPECT_NE(error_of([](Options& o) {
                  o.urls = {"ws://a", "jsonl://a:1"};
              }).find("protocol"),
              std::string::npos);
    EXPECT_NE(error_of([](Options& o) { o.urls.clear(); }).find("urls"), std::string::npos);
    EXPECT_NE(error_of([](Options& o) { o.misses = 0; }).find("misses"), std::string::npos);
    EXPECT_NE(error_of([](Options& o) { o.identity.device = std::string(65, 'x'); }).find("device"),
              std::string::npos);
    EXPECT_NE(error_of([](Options& o) {
                  o.policies.emplace_back("silent", Policy{1, {Shape::linear, 5, 1}, false});
              }).find("silent"),
              std::string::npos);
}

// A name of several addresses, one of which refuses: that is not the end of a try.
TEST(Sockets, TryEachAddressOfAName) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    SocketAddress here = *parse_address("127.0.0.1:0");
    ASSERT_EQ(bind(listener, &here.base, here.size_bytes()), 0);
    ASSERT_EQ(listen(listener, 8), 0);
    socklen_t bytes = sizeof here.v4;
    ASSERT_EQ(getsockname(listener, &here.base, &bytes), 0);
    Sockets sockets([&here](const Endpoint&) -> Result<Addresses> {
        return Addresses{*parse_address("127.0.0.1:1"), here, *parse_address("[::1]:1")};
    });
    ASSERT_TRUE(sockets.open());
    Engine engine(options_for("jsonl"), sockets);
    for (int i = 1; i <= 3; ++i) {  // each begins with another
        engine.connect(monotonic_clock());
        int accepted = -1;
        for (int turn = 0; turn < 500 && accepted < 0; ++turn) {
            pollfd ready{sockets.descriptor(), POLLIN, 0};
            poll(&ready, 1, 20);
            sockets.step(engine, monotonic_clock());
            accepted = accept(listener, nullptr, nullptr);
        }
        EXPECT_GE(accepted, 0);
        close(accepted);
        while (const std::optional<Event> event = engine.next())
            EXPECT_FALSE(std::holds_alternative<RetryPlanned>(*event)) << i;
        engine.close(monotonic_clock());
    }
    close(listener);
}

// A connection that is refused, by the kernel.
TEST(Sockets, ReportARefusal) {
    Options options;
    options.urls = {"ws://localhost:1"};
    Result<Client> client = Client::make(std::move(options));
    ASSERT_TRUE(client);
    EXPECT_FALSE(client->busy());
    client->connect();
    std::optional<RetryPlanned> planned;
    for (int i = 0; i < 100 && !planned; ++i) {
        client->wait(100 * kMillisecond);
        while (const std::optional<Event> event = client->next()) {
            if (const auto* retry = std::get_if<RetryPlanned>(&*event)) planned = *retry;
        }
    }
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->cause.name, "refused");
    EXPECT_FALSE(planned->cause.message.empty());
    EXPECT_GE(client->wait_ms(), 0);
    client->close();
    EXPECT_EQ(client->state(), State::closed);
    EXPECT_EQ(client->wait_ms(), -1);
}

}  // namespace
}  // namespace pulse::client::test
