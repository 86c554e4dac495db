// The parts of the client engine by themselves: policies, backoff, heartbeats, addresses, words.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/limits.h"
#include "net/client/endpoint.h"
#include "net/client/heartbeat.h"
#include "net/client/outbox.h"
#include "net/client/policy.h"
#include "net/client/resume_window.h"
#include "net/client/wire.h"

namespace pulse::client {
namespace {

// ---------------------------------------------------------------------------------------- policies

std::string text_of(const Policy& policy) {
    const Delay& delay = policy.delay;
    if (policy.tries == 0) return "never | ";
    const char* const shapes[] = {"immediate", "linear", "exponential"};
    const char* const jitters[] = {"none", "equal", "full"};
    std::ostringstream text;
    policy.tries == kAlways ? text << "always" : text << policy.tries;
    text << (policy.renews_token ? ", with a new token" : "") << " | "
         << shapes[static_cast<size_t>(delay.shape)] << ", " << delay.base / kSecond << " s to "
         << delay.cap / kSecond << " s, " << jitters[static_cast<size_t>(delay.jitter)];
    return text.str();
}

TEST(Policies, AreThoseThatTheReadmeOfTheJavaScriptClientHas) {
    std::ifstream file("tools/client/js/README.md");
    std::stringstream readme;
    readme << file.rdbuf();
    const std::string text = readme.str();
    size_t rows = 0;
    for (const PolicyRow& row : default_policies()) {
        const std::string line =
            "| `" + std::string(row.name) + "` | " + text_of(row.policy) + " |";
        EXPECT_NE(text.find(line), std::string::npos) << line;
    }
    for (size_t at = text.find("| cause | tries"); (at = text.find("\n| `", at + 1)) != text.npos;)
        ++rows;
    EXPECT_EQ(rows, default_policies().size()) << "rows that are not in the table";
}

TEST(Policies, ARowIsFoundByNameThenByCodeOrClassOfStatus) {
    const PolicyTable table;
    const auto row = [&](std::string name, uint16_t code, uint16_t status) {
        return std::string(
            table.find({.name = std::move(name), .code = code, .status = status}).name);
    };
    EXPECT_EQ(row("kicked", 4005, 0), "kicked");
    EXPECT_EQ(row("server_full", 1013, 0), "close_1013");
    EXPECT_EQ(row("close_4321", 4321, 0), "close_other");
    EXPECT_EQ(row("http_429", 0, 429), "http_429");
    EXPECT_EQ(row("http_400", 0, 400), "http_4xx");
    EXPECT_EQ(row("http_502", 0, 502), "http_5xx");
    EXPECT_EQ(row("http_301", 0, 301), "http_other");
    EXPECT_EQ(row("", 0, 0), "close_other");
}

TEST(Policies, TriesAreCountedByCauseAndForgottenOnceAConnectionLasts) {
    Random random(2);
    Retries retries{PolicyTable()};
    const Cause timeout{.name = "connect_timeout"};
    for (uint32_t attempt = 1; attempt <= 5; ++attempt) {
        const Retries::Decision decision = retries.decide(timeout, false, random);
        EXPECT_TRUE(decision.retry);
        EXPECT_EQ(decision.attempt, attempt);
        const Nanos plain = std::min<Nanos>(10, 2 * attempt) * kSecond;
        EXPECT_GE(decision.wait, plain / 2);
        EXPECT_LE(decision.wait, plain);
    }
    EXPECT_TRUE(retries.decide({.name = "refused"}, false, random).retry);
    EXPECT_FALSE(retries.decide(timeout, false, random).retry);
    retries.reset();
    EXPECT_EQ(retries.decide(timeout, false, random).attempt, 1u);
}

TEST(Policies, AtOnceIsAtOnceAlsoBehindOtherEndsAndNotTwiceInARow) {
    Random random(3);
    Retries retries{PolicyTable()};
    for (int i = 0; i < 5; ++i) (void)retries.decide({.name = "refused"}, false, random);
    const Cause moved{.name = "moved", .code = 4011};
    EXPECT_EQ(retries.decide(moved, false, random).wait, 0);
    EXPECT_GT(retries.decide(moved, false, random).wait, 0);
    Cause later = moved;
    later.retry_after = 50 * kSecond;
    EXPECT_EQ(retries.decide(later, false, random).wait, 50 * kSecond);
}

TEST(Policies, ATokenIsRenewedOnlyWhereAFunctionGivesOne) {
    Random random(4);
    Retries retries{PolicyTable()};
    const Cause cause{.name = "unauthorized", .code = 4001};
    const Retries::Decision first = retries.decide(cause, true, random);
    EXPECT_TRUE(first.retry && first.renews_token && first.wait == 0);
    EXPECT_TRUE(retries.decide(cause, true, random).retry);
    EXPECT_FALSE(retries.decide(cause, true, random).retry);
    Retries without{PolicyTable()};
    EXPECT_FALSE(without.decide(cause, false, random).retry);
}

// ----------------------------------------------------------------------------------------- backoff

TEST(Backoff, GrowsToItsCapWhateverTheAttempt) {
    const Delay doubling{Shape::exponential, kSecond, 60 * kSecond, Jitter::none};
    EXPECT_EQ(plain_delay(doubling, 1), kSecond);
    EXPECT_EQ(plain_delay(doubling, 4), 8 * kSecond);
    EXPECT_EQ(plain_delay(doubling, UINT32_MAX), 60 * kSecond);
    const Delay adding{Shape::linear, 2 * kSecond, 10 * kSecond, Jitter::none};
    EXPECT_EQ(plain_delay(adding, 3), 6 * kSecond);
    EXPECT_EQ(plain_delay(adding, UINT32_MAX), 10 * kSecond);
    EXPECT_EQ(plain_delay({}, 1), 0);
    EXPECT_EQ(plain_delay({}, 2), kSecond);
    EXPECT_EQ(plain_delay({}, 100), 30 * kSecond);
}

TEST(Backoff, JitterIsUniformWithinItsBounds) {
    Random random(5);
    Nanos full = 0, least = kNever, equal_least = kNever;
    for (int i = 0; i < 4'000; ++i) {
        const Nanos one = jittered(1'000, Jitter::full, random);
        const Nanos other = jittered(1'000, Jitter::equal, random);
        full += one;
        least = std::min(least, one);
        equal_least = std::min(equal_least, other);
        EXPECT_LE(std::max(one, other), 1'000);
    }
    EXPECT_NEAR(static_cast<double>(full) / 4'000, 500, 20);
    EXPECT_LT(least, 10);
    EXPECT_GE(equal_least, 500);
    EXPECT_EQ(jittered(1'000, Jitter::none, random), 1'000);
}

TEST(Backoff, AHintIsKeptToAndSpreadWhereAllAreGivenTheSame) {
    Random random(6);
    const Delay none{Shape::exponential, 1, 1, Jitter::none};
    EXPECT_EQ(wait_before(none, 1, Hint{kSecond, false}, random), kSecond);
    EXPECT_EQ(wait_before(none, 1, Hint{kNever, false}, random), kHintMax);
    for (int i = 0; i < 100; ++i) {
        const Nanos wait = wait_before(none, 1, Hint{kSecond, true}, random);
        EXPECT_TRUE(wait >= kSecond && wait <= kSecond * 3 / 2);
    }
}

// -------------------------------------------------------------------------------------- heartbeats

Heartbeat started(Nanos answer_timeout = kSecond) {
    Random random(1);
    Heartbeat heartbeat({answer_timeout, 3});
    heartbeat.start(0, 10 * kSecond, random);
    return heartbeat;
}

TEST(Heartbeats, TheFirstIsSpreadOverHalfAnInterval) {
    Random random(3);
    for (int i = 0; i < 1'000; ++i) {
        Heartbeat heartbeat({kSecond, 3});
        heartbeat.start(100, 10 * kSecond, random);
        EXPECT_GE(heartbeat.due_at(), 100 + 5 * kSecond);
        EXPECT_LE(heartbeat.due_at(), 100 + 10 * kSecond);
    }
}

TEST(Heartbeats, MissesInARowEndItEachWithAnotherPingAtOnce) {
    Heartbeat heartbeat = started();
    Nanos now = heartbeat.due_at();
    EXPECT_EQ(heartbeat.poll(now, false).ping, 1u);
    for (uint64_t ping = 2; ping <= 4; ++ping) {
        now += kSecond;
        EXPECT_EQ(heartbeat.due_at(), now);
        const Heartbeat::Step step = heartbeat.poll(now, false);
        EXPECT_TRUE(step.missed);
        EXPECT_EQ(step.gone, ping == 4);
        EXPECT_EQ(step.ping, ping == 4 ? 0 : ping);
    }
}

TEST(Heartbeats, ALateEndIsNotAMissAndTooManyAre) {
    Heartbeat heartbeat = started();
    Nanos now = heartbeat.due_at();
    (void)heartbeat.poll(now, false);
    for (uint32_t late = 1; late <= kLateMax; ++late) {
        now += kSecond + kLate + 1;
        const Heartbeat::Step step = heartbeat.poll(now, false);
        EXPECT_TRUE(!step.missed && !step.gone && step.ping == late + 1);
    }
    EXPECT_TRUE(heartbeat.poll(now + 60 * kSecond, false).gone);
}

TEST(Heartbeats, AnUploadThatMovesIsWaitedFor) {
    Heartbeat heartbeat = started();
    Nanos now = heartbeat.due_at();
    (void)heartbeat.poll(now, false);
    for (int i = 0; i < 20; ++i) EXPECT_FALSE(heartbeat.poll(now += kSecond, true).missed);
    EXPECT_TRUE(heartbeat.poll(now += kSecond, false).missed);
    heartbeat.heard(now);
    EXPECT_EQ(heartbeat.misses(), 0u);
}

TEST(Heartbeats, AWakeMakesOneBeatHoweverOftenItIsCalled) {
    Heartbeat heartbeat = started();
    heartbeat.wake(10);
    EXPECT_EQ(heartbeat.poll(10, false).ping, 1u);
    heartbeat.wake(20);
    EXPECT_EQ(heartbeat.poll(20, false).ping, 0u);
    EXPECT_TRUE(heartbeat.poll(10 + kSecond, false).missed);
}

TEST(Heartbeats, AnotherIntervalHoldsAtOnceWhereItIsShorter) {
    Heartbeat heartbeat = started();
    heartbeat.retime(kSecond, 2 * kSecond);
    EXPECT_EQ(heartbeat.due_at(), 3 * kSecond);
    heartbeat.retime(kSecond, 100 * kSecond);
    EXPECT_EQ(heartbeat.due_at(), 3 * kSecond) << "the next beat was promised";
}

TEST(Heartbeats, SlowRoundTripsLengthenTheWait) {
    Heartbeat heartbeat = started(100);
    for (int i = 0; i < 50; ++i) {
        const Nanos now = heartbeat.due_at();
        heartbeat.heard(now + 80, heartbeat.poll(now, false).ping);
    }
    EXPECT_NEAR(static_cast<double>(heartbeat.round_trip().value()), 80, 1);
    EXPECT_EQ(heartbeat.wait(), 100);
    const Nanos now = heartbeat.due_at();
    heartbeat.heard(now + 400, heartbeat.poll(now, false).ping);
    EXPECT_NEAR(static_cast<double>(heartbeat.wait()), 120 + 4 * 80, 20);
}

// ---------------------------------------------------------------------------- outbox, what resumes

QueuedMessage message_of(uint64_t id, size_t bytes, Nanos at = 0) {
    return {id, MessageKind::text, std::string(bytes, 'x'), true, at};
}

std::string answers(Events& events) {
    std::string text;
    for (const Event& event : events)
        text +=
            std::to_string(std::get<Answered>(event).id) + std::get<Answered>(event).reason + " ";
    events.clear();
    return text;
}

TEST(Outboxes, DropByEachBoundAndSayWhich) {
    Events events;
    Outbox newest({2, 10, kSecond, Overflow::newest});
    for (uint64_t id = 1; id <= 3; ++id) newest.push(message_of(id, 2), events);
    newest.push(message_of(4, 11), events);
    EXPECT_EQ(answers(events), "3count 4bytes ");
    newest.expire(kSecond - 1, events);
    EXPECT_EQ(newest.count(), 2u);
    newest.expire(kSecond, events);
    EXPECT_EQ(answers(events), "1age 2age ");
    EXPECT_EQ(newest.bytes(), 0u);
    EXPECT_EQ(newest.expires_at(), kNever);
    Outbox oldest({10, 10, kSecond, Overflow::oldest});
    for (uint64_t id = 1; id <= 3; ++id) oldest.push(message_of(id, 4), events);
    EXPECT_EQ(answers(events), "1bytes ");
    oldest.clear("ended", events);
    EXPECT_EQ(answers(events), "2ended 3ended ");
    Outbox none({0, 10, kSecond, Overflow::oldest});
    none.push(message_of(1, 1), events);
    EXPECT_EQ(answers(events), "1count ");
}

TEST(ResumeWindows, AWelcomeThatSaysWhatCannotBeIsNotBelieved) {
    Events events;
    for (const auto& [received, from] : {std::pair{2u, 1u}, {0u, 0u}, {UINT32_MAX, 1u}}) {
        ResumeWindow window("t", "ws://a");
        window.keep({message_of(1, 1)});
        JsonResumption welcome;
        welcome.received = received;
        welcome.from = from;
        EXPECT_FALSE(window.resume(welcome, "ws://a", events)) << received << " " << from;
        EXPECT_EQ(window.drop("x", events), 1u);
    }
}

// ------------------------------------------------------------------------------- addresses, words

TEST(Endpoints, AreReadOrNameWhatIsWrong) {
    const Result<Endpoint> plain = parse_endpoint("ws://name.example/chat?a=b");
    ASSERT_TRUE(plain);
    EXPECT_EQ(plain->host, "name.example");
    EXPECT_EQ(plain->port, 80);
    EXPECT_EQ(plain->authority, "name.example");
    EXPECT_EQ(plain->path, "/chat?a=b");
    const Result<Endpoint> v6 = parse_endpoint("jsonl://[::1]:9000");
    ASSERT_TRUE(v6);
    EXPECT_EQ(v6->host, "::1");
    EXPECT_EQ(v6->authority, "[::1]:9000");
    EXPECT_EQ(v6->framing, Framing::lines);
    for (const char* url :
         {"",           "ws://",      "ws:///a",       "http://a",      "mqtt://a:1",
          "ws://a:0",   "ws://a:b",   "ws://a:70000",  "ws://[::1",     "ws://::1:2",
          "ws://a/b c", "ws://a/#b",  "jsonl://a",     "jsonl://a:1/b", "auto://a",
          "ws://*:1",   "ws://a b:1", "ws://user@a:1", "ws://[]:1",     "ws://a\r\nb:1"})
        EXPECT_FALSE(parse_endpoint(url)) << url;
    EXPECT_EQ(v6->tls, false);
    const Result<Endpoint> secure = parse_endpoint("wss://name.example/chat");
    ASSERT_TRUE(secure);
    EXPECT_TRUE(secure->tls);
    EXPECT_EQ(secure->port, 443);
    EXPECT_EQ(secure->authority, "name.example");
    EXPECT_EQ(parse_endpoint("wss://a:80")->authority, "a:80");
    EXPECT_EQ(parse_endpoint("ws://a:443")->authority, "a:443");
    EXPECT_EQ(parse_endpoint("TLS+jsonl://a:1")->framing, Framing::lines);
    EXPECT_TRUE(parse_endpoint("tls+auto://a:1")->tls);
}

TEST(Endpoints, OfAMoveAreOfTheSameProtocolAndNeverOutOfTls) {
    const auto target = [](const char* from, const char* to) {
        const auto endpoint = move_target(to, *parse_endpoint(from));
        return endpoint ? endpoint->url : std::string();
    };
    EXPECT_EQ(target("jsonl://b:1", "auto://a:1"), "jsonl://a:1");
    EXPECT_EQ(target("tls+jsonl://b:1", "auto://a:1"), "tls+jsonl://a:1");
    EXPECT_EQ(target("ws://b", "AUTO://a:1"), "ws://a:1");
    EXPECT_EQ(target("wss://b", "auto://a:1"), "wss://a:1");
    EXPECT_EQ(target("ws://b", "tls+auto://a:1"), "wss://a:1");
    EXPECT_EQ(target("ws://b", "wss://a"), "wss://a");
    EXPECT_EQ(target("wss://b", "tls+ws://a:1"), "tls+ws://a:1");
    for (const char* to : {"jsonl://a:1", "tls+jsonl://a:1", "a:1", "", "tcp://a:1"})
        EXPECT_EQ(target("ws://b", to), "") << to;
    for (const char* to : {"ws://a:1", "jsonl://a:1"}) EXPECT_EQ(target("wss://b", to), "") << to;
}

TEST(Words, OfACloseFrameNameItsCause) {
    const Cause moved = cause_of_close(4011, "moved: ws://b.example:9000; retry_after_ms=1500");
    EXPECT_EQ(moved.name, "moved");
    EXPECT_EQ(moved.move_to, "ws://b.example:9000");
    EXPECT_EQ(moved.retry_after, 1500 * kMillisecond);
    const Cause away = cause_of_close(1001, "going_away; retry_after_ms=20");
    EXPECT_EQ(away.name, "going_away");
    EXPECT_EQ(away.retry_after, 20 * kMillisecond);
    const Cause fault = cause_of_close(1002, "protocol_error: reserved bits");
    EXPECT_EQ(fault.name, "protocol_error");
    EXPECT_EQ(fault.message, "reserved bits");
    EXPECT_TRUE(fault.move_to.empty());
    EXPECT_EQ(cause_of_close(1012, "Service restart").name, "close_1012");
    EXPECT_EQ(cause_of_close(0, "").name, "close_1006");
    EXPECT_FALSE(cause_of_close(1001, "retry_after_ms=99999999999").retry_after);
    EXPECT_FALSE(cause_of_close(1001, "xretry_after_ms=9").retry_after);
    EXPECT_FALSE(cause_of_close(1001, "going_away; retry_after_ms=0").retry_after);
}

TEST(Words, OfAHintAndAnIdentityAreChecked) {
    const Nanos now = 1'445'412'480 * kSecond;  // Wed, 21 Oct 2015 07:28:00 GMT
    EXPECT_EQ(parse_retry_after(" 120 ", now), 120 * kSecond);
    EXPECT_EQ(parse_retry_after("Wed, 21 Oct 2015 07:28:30 GMT", now + 1), 30 * kSecond - 1);
    EXPECT_GT(parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", now), kHintMax);
    for (const char* field :
         {"", "0", "-1", "1.5", "99999999999", "Fri, 31 Dec 1999 23:59:59 GMT",
          "Fri, 01 Jan 1700 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"})
        EXPECT_FALSE(parse_retry_after(field, now)) << field;
    Identity identity{.user = "u\"1", .device = "d", .labels = {{"a", "b"}}, .profile = "mobile"};
    EXPECT_TRUE(check_identity(identity));
    EXPECT_EQ(hello_text(identity, "t", ResumeRequest{"s", 7}),
              R"({"type":"hello","user":"u\"1","device":"d","labels":{"a":"b"},"profile":"mobile",)"
              R"("token":"t","resume":{"token":"s","last_seq":7}})");
    identity.labels = {{"a", "b"}, {"a", "c"}};
    EXPECT_FALSE(check_identity(identity));
    identity.labels = {{"a", std::string(65, 'x')}};
    EXPECT_FALSE(check_identity(identity));
    identity.labels = {};
    identity.user = "\xff";
    EXPECT_FALSE(check_identity(identity));
    EXPECT_FALSE(check_token(std::string(4'097, 'x')));
}

TEST(Words, OfAWelcomeAreReadOrFaulty) {
    WelcomeParser parser;
    const auto parse = [&](std::string text, JsonResumption& resumption) {
        const size_t bytes = text.size();
        text.resize(bytes + kReceivePadBytes);
        const JsonFault fault =
            parser.parse({reinterpret_cast<const uint8_t*>(text.data()), bytes}, resumption);
        return fault.ok();
    };
    JsonResumption read;
    ASSERT_TRUE(parse(R"({"type":"welcome","session":"resumed","resume":{"token":"t","x":[1],)"
                      R"("resumed":true,"received":7,"from":12,"lost":0}})",
                      read));
    EXPECT_TRUE(read.resumed);
    EXPECT_EQ(read.received, 7u);
    EXPECT_EQ(read.from, 12u);
    for (const char* resume : {"[]", "7", R"({"received":-1})", R"({"from":1.5})", R"({"token":7})",
                               R"({"resumed":1})", R"({"why":null})"})
        EXPECT_FALSE(parse(R"({"type":"welcome","resume":)" + std::string(resume) + "}", read))
            << resume;
}

}  // namespace
}  // namespace pulse::client
