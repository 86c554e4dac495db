// Tokens through the whole loop over the simulated kernel and in virtual time: each way in, each
// failure, the ends of tokens and what is announced before, refreshes and revocations.
#include "net/loop/authentication.h"

#include <gtest/gtest.h>

#include "core/limits.h"
#include "core/sessions/text_store.h"
#include "net/auth/key_file.h"
#include "net/auth/limits.h"

#include "tests/net/loop/conversation.h"
#include "tests/support/tokens.h"

namespace pulse::test {
namespace {

constexpr size_t kAuto = 0, kBinary = 1, kLines = 2;
constexpr UnixSeconds kStart = ReactorStage::kWallStart / kSecond + 1'000;  // when a stage begins
const std::string kWord = "a-static-token-of-bob";

const Issuer& issuer() {
    static const Issuer one(Issuer::Kind::es256);
    return one;
}

std::shared_ptr<const Credentials> credentials() {
    auto made = std::make_shared<Credentials>();
    made->keys = parse_key_file(issuer().key_file())->keys;
    made->tokens = std::move(*StaticTokens::parse(kWord + " user=bob id=b-1\n", SipKey{3, 4}));
    return made;
}

StagePlan plan() {
    StagePlan plan{
        .listen = {"auto://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
    plan.options.credentials = credentials();
    plan.options.auth_deadline = 20 * kSecond;
    plan.options.heartbeat_probe = false;
    plan.options.heartbeat_interval = plan.options.heartbeat_timeout = 3'600 * kSecond;
    return plan;
}

// Of ann, ending so many seconds after the stage began; 0: never.
std::string token_for(const std::string& user, UnixSeconds in_s = 0, const std::string& more = {}) {
    const std::string end = in_s == 0 ? "" : R"(,"exp":)" + std::to_string(kStart + in_s);
    return issuer().token(R"({"sub":")" + user + "\"" + end + more + "}");
}

std::string hello(const std::string& token, const std::string& more = {}) {
    return R"({"type":"hello","token":")" + token + "\"" + more + "}\n";
}

std::string line(const std::string& object) { return object + "\n"; }

bool has(const std::string& text, const std::string& piece) {
    return text.find(piece) != std::string::npos;
}
bool is_open(const ReactorStage& stage, size_t peer) {
    return stage.record(peer) != nullptr && stage.record(peer)->stage == Stage::open;
}
uint64_t refused_for(const ReactorStage& stage, AuthFailure failure) {
    return stage.metrics().tokens_refused[static_cast<size_t>(failure)];
}
const Directory::User* user(ReactorStage& stage, std::string_view name) {
    return stage.directory().find(name);
}

std::string upgrade_with(const std::string& field) {
    std::string request = upgrade_request();
    return request.insert(request.size() - 2, field + "\r\n");
}

// ------------------------------------------------------------------------------------- ways in

TEST(Authentication, AHelloIsTheUserOfItsToken) {
    ReactorStage stage(plan());
    const std::string token =
        token_for("ann", 0, R"(,"device":"ios","labels":{"ring":"canary","a":"b"})");
    const size_t lines = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, lines, hello(token)), R"("user":"ann","device":"ios")"));
    const Directory::User* ann = user(stage, "ann");
    ASSERT_NE(ann, nullptr);
    EXPECT_EQ(stage.directory().text(stage.directory().session(ann->first).labels),
              "a=b ring=canary");
    const size_t binary = stage.connect(kBinary);
    EXPECT_TRUE(
        has(answer(stage, binary, binary_frame(kBinaryHello, 7, R"({"token":")" + kWord + "\"}")),
            R"("user":"bob")"));
    const size_t socket = stage.connect(kAuto);
    answer(stage, socket, upgrade_request());
    const std::string text = hello(token_for("carl"), R"(,"device":"web")");
    EXPECT_TRUE(
        has(answer(stage, socket, text_of(frame(0x81, text))), R"("user":"carl","device":"web")"));
    EXPECT_EQ(stage.metrics()[Metric::tokens_accepted], 3u);
    EXPECT_EQ(stage.metrics()[Metric::token_signatures_checked], 2u);
    EXPECT_EQ(stage.metrics()[Metric::tokens_refused], 0u);
}

TEST(Authentication, WhatTheTokenSaysHoldsAndTheHelloSaysTheRest) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    const std::string token = token_for("ann", 0, R"(,"device":"ios")");
    EXPECT_TRUE(
        has(answer(stage, peer, hello(token, R"(,"user":"ann","device":"x","labels":{"v":"1"})")),
            R"("user":"ann","device":"ios")"));
    const Directory::User* ann = user(stage, "ann");
    EXPECT_EQ(stage.directory().text(stage.directory().session(ann->first).labels), "v=1");
}

TEST(Authentication, AnUpgradeLogsIn) {
    for (const std::string& field :
         {"Authorization: Bearer " + token_for("ann", 0, R"(,"device":"web")"),
          "Sec-WebSocket-Protocol: pulse.v1.json, bearer." +
              token_for("ann", 0, R"(,"device":"web")")}) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(kAuto);
        EXPECT_TRUE(has(answer(stage, peer, upgrade_with(field)), "101 Switching"));
        EXPECT_EQ(user(stage, "ann"), nullptr) << "a hello may follow";
        stage.settle(kUpgradeLoginNs);
        ASSERT_NE(user(stage, "ann"), nullptr);
        EXPECT_EQ(stage.heard(peer), "") << "not welcomed: it said no hello";
        EXPECT_EQ(stage.metrics()[Metric::tokens_accepted], 1u);
        EXPECT_EQ(stage.metrics()[Metric::logins], 1u);
        stage.close(peer, false);
        stage.settle(2 * kSecond);
        EXPECT_EQ(stage.directory().counts().sessions, 0u);
    }
}

// Whatever room the pool has: where there is none for the answer, no other peer is who asked.
TEST(Authentication, AnUpgradeWithoutAnAnswerLeavesNobodyBehind) {
    int unanswered = 0;
    for (size_t reserve = 64; reserve <= 4'096; reserve += 64) {
        StagePlan with = plan();
        with.options.buffer_bytes = 0;
        with.buffer_reserve_bytes = reserve;
        ReactorStage stage(with);
        const size_t bob = stage.connect(kAuto);
        const std::string request = upgrade_with("Authorization: Bearer " + kWord);
        stage.write(bob, request.substr(0, 60));
        stage.settle();
        stage.write(bob, request.substr(60));
        stage.settle(3 * kSecond);
        if (has(stage.heard(bob), "101 Sw")) continue;
        ++unanswered;
        stage.close(bob, true);
        stage.settle(kSecond);
        const size_t other = stage.connect(kAuto);
        answer(stage, other, upgrade_request());
        stage.settle(2 * kUpgradeLoginNs);
        EXPECT_EQ(user(stage, "bob"), nullptr) << reserve;
    }
    EXPECT_GT(unanswered, 0);
}

// What a full directory refuses may be tried again, with the token of the upgrade: by a hello
// without one, and without any hello.
TEST(Authentication, AnUpgradeWhoseLoginWasRefusedMayTryAgain) {
    for (const bool says_hello : {true, false}) {
        StagePlan with = plan();
        // Names of two other sizes take all that there is.
        with.directory.emplace();
        with.directory->linger = 0;
        with.directory->changes_kept = 1;
        with.directory->text_bytes_max = 2 * TextStore::kChunkBytes;
        ReactorStage stage(with);
        std::vector<size_t> others;
        for (const size_t bytes : {60u, 100u}) {
            others.push_back(stage.connect(kLines));
            answer(stage, others.back(), hello(token_for(std::string(bytes, 'o'))));
        }
        ASSERT_EQ(stage.metrics()[Metric::logins], 2u);
        const size_t bob = stage.connect(kAuto);
        answer(stage, bob, upgrade_with("Authorization: Bearer " + kWord));
        const std::string word = R"({"type":"hello"})";
        if (says_hello) {
            EXPECT_TRUE(has(answer(stage, bob, masked(0x81, word)), "out_of_memory"));
        } else {
            stage.settle(kUpgradeLoginNs + kSecond / 2);
        }
        EXPECT_GT(stage.metrics()[Metric::logins_out_of_memory], 0u);
        EXPECT_EQ(user(stage, "bob"), nullptr);
        ASSERT_TRUE(is_open(stage, bob));
        for (const size_t other : others) {
            stage.close(other, true);
            stage.settle(kSecond / 4);
        }
        if (says_hello) {
            EXPECT_TRUE(has(answer(stage, bob, masked(0x81, word)), R"("user":"bob")"));
        } else {
            stage.settle(kUpgradeLoginNs + kSecond);
        }
        EXPECT_NE(user(stage, "bob"), nullptr) << says_hello;
    }
}

TEST(Authentication, AHelloBehindAnUpgradeNamesItsDevice) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kAuto);
    const std::string field = "Authorization: Bearer " + token_for("ann");
    answer(stage, peer, upgrade_with(field));
    const std::string text = R"({"type":"hello","device":"tab-1"})";
    EXPECT_TRUE(has(answer(stage, peer, masked(0x81, text)), R"("user":"ann","device":"tab-1")"));
    stage.settle(2 * kUpgradeLoginNs);
    EXPECT_EQ(stage.metrics()[Metric::logins], 1u);
    EXPECT_EQ(stage.metrics()[Metric::tokens_accepted], 1u);
    EXPECT_EQ(stage.directory().counts().sessions, 1u);
    const size_t other = stage.connect(kAuto);
    answer(stage, other, upgrade_with(field));
    const std::string wrong = R"({"type":"hello","user":"bob"})";
    EXPECT_TRUE(has(answer(stage, other, masked(0x81, wrong)), "wrong_user"));
    EXPECT_FALSE(is_open(stage, other));
}

TEST(Authentication, ATokenInTheUrlIsNotLookedAt) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kAuto);
    std::string request = upgrade_request();
    request.replace(request.find("/chat"), 5, "/chat?token=" + kWord + "&access_token=" + kWord);
    EXPECT_TRUE(has(answer(stage, peer, request), "101 Switching"));
    stage.settle(2 * kUpgradeLoginNs);
    EXPECT_EQ(user(stage, "bob"), nullptr);
}

TEST(Authentication, OffEveryHelloIsTakenAtItsWord) {
    StagePlan off = plan();
    off.options.credentials = nullptr;
    ReactorStage stage(off);
    const size_t peer = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, peer, hello("any", R"(,"user":"ann")")), R"("user":"ann")"));
    const size_t socket = stage.connect(kAuto);
    EXPECT_TRUE(has(answer(stage, socket, upgrade_with("Authorization: Bearer x")), "101 Sw"));
    stage.settle(60 * kSecond);
    EXPECT_TRUE(is_open(stage, peer) && is_open(stage, socket));
    EXPECT_EQ(stage.reactor().connections().authentication().bytes(), 0u) << "and costs nothing";
}

// ------------------------------------------------------------------------------------ failures

TEST(Authentication, ARefusedHelloIsToldWhyAndClosed) {
    const std::pair<std::string, AuthFailure> tokens[] = {
        {"abc", AuthFailure::unknown_token},
        {"a.b.c", AuthFailure::malformed},
        {token_for("ann", -100), AuthFailure::expired},
        {token_for("ann", 0, R"(,"nbf":1900000000)"), AuthFailure::not_yet_valid},
        {token_for("ann", 0, R"(,"aud":"x")"), AuthFailure::wrong_audience},
        {Issuer(Issuer::Kind::es256).token(R"({"sub":"ann"})"), AuthFailure::bad_signature},
    };
    for (const auto& [token, failure] : tokens) {
        ReactorStage stage(plan());
        const size_t lines = stage.connect(kLines);
        const std::string heard = answer(stage, lines, hello(token));
        const AuthFailureInfo& info = describe(failure);
        const std::string words = std::string(info.word) + ": " + std::string(info.sentence);
        EXPECT_TRUE(heard.starts_with(R"({"type":"error","code":4001,"message":")" + words))
            << heard;
        EXPECT_TRUE(has(heard, R"({"type":"goodbye","code":4001,"reason":"unauthorized"})"));
        EXPECT_FALSE(has(heard, token)) << "no token is ever sent back";
        const size_t binary = stage.connect(kBinary);
        const std::string frames =
            answer(stage, binary, binary_frame(kBinaryHello, 7, R"({"token":")" + token + "\"}"));
        EXPECT_EQ(frames.substr(0, 2), "\xB7\x08");
        EXPECT_EQ(static_cast<uint8_t>(frames[8]) << 8 | static_cast<uint8_t>(frames[9]), 4001);
        EXPECT_TRUE(has(frames, words));
        EXPECT_EQ(refused_for(stage, failure), 2u);
        EXPECT_EQ(stage.metrics()[Metric::tokens_refused], 2u);
        EXPECT_TRUE(stage.empty_within(10 * kSecond));
        EXPECT_EQ(closed_for(stage, CloseReason::unauthorized), 2u);
    }
}

TEST(Authentication, AUserWithoutATokenIsRefusedAndAnAnonymousHelloIsNot) {
    ReactorStage stage(plan());
    const size_t named = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, named, line(R"({"type":"hello","user":"ann"})")), "no_token: "));
    EXPECT_FALSE(is_open(stage, named));
    const size_t anonymous = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, anonymous, line(R"({"type":"hello","profile":"mobile"})")),
                    R"({"type":"welcome")"));
    const size_t other = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, other, hello(kWord, R"(,"user":"ann")")), "wrong_user: "));
    EXPECT_EQ(stage.directory().counts().users, 0u);
}

TEST(Authentication, ARefusedUpgradeIs401) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kAuto);
    const std::string heard =
        answer(stage, peer, upgrade_with("Authorization: Bearer " + token_for("ann", -100)));
    EXPECT_TRUE(heard.starts_with("HTTP/1.1 401 Unauthorized\r\n")) << heard;
    EXPECT_TRUE(has(heard,
                    "\r\nWWW-Authenticate: Bearer error=\"invalid_token\", "
                    "error_description=\"expired: The token has expired.\"\r\n"));
    const size_t two = stage.connect(kAuto);
    EXPECT_TRUE(has(answer(stage, two,
                           upgrade_with("Authorization: Bearer a\r\n"
                                        "Authorization: Bearer b")),
                    "HTTP/1.1 400 Bad Request"));
    EXPECT_EQ(refused_for(stage, AuthFailure::several_tokens), 1u);
    EXPECT_TRUE(stage.empty_within(10 * kSecond));
    EXPECT_EQ(closed_for(stage, CloseReason::unauthorized), 2u);
}

TEST(Authentication, WhoStaysAnonymousIsClosedAtTheDeadline) {
    ReactorStage stage(plan());
    const size_t lines = stage.connect(kLines);
    answer(stage, lines, line(R"({"type":"ping"})"));
    const size_t socket = stage.connect(kAuto);
    answer(stage, socket, upgrade_request());
    const size_t known = stage.connect(kLines);
    answer(stage, known, hello(kWord));
    stage.settle(19 * kSecond);
    EXPECT_TRUE(is_open(stage, lines) && is_open(stage, socket));
    const std::string heard = [&] {
        stage.settle(2 * kSecond);
        return stage.heard(lines);
    }();
    EXPECT_TRUE(has(heard, R"({"type":"error","code":4001,"message":"no_token: )")) << heard;
    EXPECT_TRUE(has(stage.heard(socket), "unauthorized: no_token")) << stage.heard(socket);
    EXPECT_EQ(refused_for(stage, AuthFailure::no_token), 2u);
    stage.settle(100 * kSecond);
    EXPECT_TRUE(is_open(stage, known)) << "its token never ends";
}

TEST(Authentication, WithoutADeadlineAnonymousPeersStay) {
    StagePlan open = plan();
    open.options.auth_deadline = 0;
    ReactorStage stage(open);
    const size_t peer = stage.connect(kLines);
    answer(stage, peer, line(R"({"type":"ping"})"));
    stage.settle(600 * kSecond);
    EXPECT_TRUE(is_open(stage, peer));
}

TEST(Authentication, AnAddressThatGuessesIsNotLookedAtForAWhile) {
    ReactorStage stage(plan());
    const auto attempt = [&](std::string_view source, const std::string& token) {
        return answer(stage, stage.connect(kLines, source), hello(token));
    };
    for (uint32_t count = 0; count < kAuthFailuresBurst; ++count)
        EXPECT_TRUE(has(attempt("10.1.0.1:0", "guess"), "unknown_token: "));
    EXPECT_TRUE(has(attempt("10.1.0.1:0", kWord), "too_many_failures: ")) << "even the right one";
    EXPECT_TRUE(has(attempt("10.1.0.2:0", kWord), "welcome")) << "another address";
    const size_t socket = stage.connect(kAuto, "10.1.0.1:0");
    EXPECT_TRUE(has(answer(stage, socket, upgrade_with("Authorization: Bearer " + kWord)),
                    "HTTP/1.1 429 Too Many Requests"));
    stage.settle(2 * kSecond);
    EXPECT_TRUE(has(attempt("10.1.0.1:0", kWord), "welcome"));
    EXPECT_EQ(refused_for(stage, AuthFailure::unknown_token), kAuthFailuresBurst);
    EXPECT_EQ(refused_for(stage, AuthFailure::too_many_failures), 2u);
}

// ------------------------------------------------------------------------------------- ends

TEST(Authentication, ATokenEndsAndAMinuteBeforeThePeerIsTold) {
    ReactorStage stage(plan());
    const size_t lines = stage.connect(kLines);
    // With its leeway it ends 100 s after the start.
    EXPECT_TRUE(has(answer(stage, lines, hello(token_for("ann", 100 - kTokenLeewayS))), "welcome"));
    const size_t binary = stage.connect(kBinary);
    const std::string token = token_for("eve", 100 - kTokenLeewayS);
    answer(stage, binary, binary_frame(kBinaryHello, 7, R"({"token":")" + token + "\"}"));
    const size_t socket = stage.connect(kAuto);
    answer(stage, socket, upgrade_with("Authorization: Bearer " + token_for("una", 70)));
    stage.settle(39 * kSecond);
    EXPECT_EQ(stage.heard(lines), "");
    stage.settle(2 * kSecond);
    EXPECT_TRUE(has(stage.heard(lines), R"({"type":"expiring","in_ms":)")) << stage.heard(lines);
    EXPECT_EQ(stage.heard(binary).substr(0, 4), std::string("\xB7\x09\0\4", 4));
    EXPECT_EQ(stage.heard(socket), "") << "plain WebSocket has no word for it";
    stage.heard(lines).clear();
    stage.settle(57 * kSecond);
    EXPECT_TRUE(is_open(stage, lines) && is_open(stage, socket));
    stage.settle(4 * kSecond);
    EXPECT_EQ(stage.heard(lines),
              line(R"({"type":"goodbye","code":4006,"reason":"token_expired"})"));
    EXPECT_TRUE(stage.empty_within(10 * kSecond));
    EXPECT_EQ(closed_for(stage, CloseReason::token_expired), 3u);
    EXPECT_EQ(stage.directory().counts().sessions, 0u);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
}

TEST(Authentication, ATokenThatEndsSoonIsAnnouncedBehindItsWelcome) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, peer, hello(token_for("ann", 10 - kTokenLeewayS))), "welcome"));
    stage.settle(2 * kSecond);
    EXPECT_TRUE(has(stage.heard(peer), "expiring"));
    stage.settle(10 * kSecond);
    EXPECT_FALSE(is_open(stage, peer));
}

TEST(Authentication, AnotherTokenRefreshesInPlace) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    answer(stage, peer, hello(token_for("ann", 100 - kTokenLeewayS)));
    stage.settle(50 * kSecond);
    EXPECT_TRUE(has(stage.heard(peer), "expiring"));
    EXPECT_TRUE(has(answer(stage, peer, hello(token_for("ann", 400 - kTokenLeewayS))),
                    R"("session":"refreshed")"));
    stage.settle(200 * kSecond);
    EXPECT_TRUE(is_open(stage, peer));
    EXPECT_EQ(stage.directory().counts().sessions, 1u);
    // Without a token it stays who it is, for as long as it was.
    EXPECT_TRUE(
        has(answer(stage, peer, line(R"({"type":"hello","profile":"powersave","device":"x"})")),
            R"("interval_ms":300000)"));
    EXPECT_TRUE(has(answer(stage, peer, line(R"({"type":"hello","user":"ann"})")), "welcome"));
    stage.heard(peer).clear();
    stage.settle(160 * kSecond);
    EXPECT_TRUE(has(stage.heard(peer), "token_expired")) << stage.heard(peer);
    const size_t other = stage.connect(kLines);
    answer(stage, other, hello(token_for("ann", 600)));
    EXPECT_TRUE(
        has(answer(stage, other, line(R"({"type":"hello","user":"bob"})")), "wrong_user: "));
    const size_t bad = stage.connect(kLines);
    answer(stage, bad, hello(token_for("ann", 600)));
    EXPECT_TRUE(has(answer(stage, bad, hello("x.y.z")), "malformed: ")) << "it is closed, too";
    EXPECT_FALSE(is_open(stage, bad));
}

TEST(Authentication, ARevokedTokenClosesWhoHasGivenItAndIsNotTakenAgain) {
    ReactorStage stage(plan());
    const std::string token = token_for("ann", 0, R"(,"jti":"t-1")");
    const size_t first = stage.connect(kLines), second = stage.connect(kLines);
    answer(stage, first, hello(token, R"(,"device":"1")"));
    answer(stage, second, hello(token, R"(,"device":"2")"));
    const size_t other = stage.connect(kLines);
    answer(stage, other, hello(token_for("ann", 0, R"(,"jti":"t-2","device":"3")")));
    const size_t fixed = stage.connect(kLines);
    answer(stage, fixed, hello(kWord));
    const size_t socket = stage.connect(kAuto);
    answer(stage, socket, upgrade_with("Authorization: Bearer " + token));
    const std::vector<std::string> ids = {"t-1", "t-9"};
    ASSERT_TRUE(stage.post({.body = Message::Revoke{}, .payload = Payload::of(ids)}));
    stage.settle(100 * kMillisecond);
    EXPECT_TRUE(has(stage.heard(first), R"("code":4001,"message":"revoked: )"));
    EXPECT_FALSE(is_open(stage, first) || is_open(stage, second) || is_open(stage, socket));
    EXPECT_TRUE(is_open(stage, other) && is_open(stage, fixed));
    EXPECT_EQ(stage.metrics()[Metric::closed_by_revocation], 3u);
    const size_t again = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, again, hello(token)), "revoked: "));
    const std::vector<std::string> more = {"b-1"};
    ASSERT_TRUE(stage.post({.body = Message::Revoke{}, .payload = Payload::of(more)}));
    stage.settle(100 * kMillisecond);
    EXPECT_FALSE(is_open(stage, fixed));
}

// Ids that come while a walk is under way: places that it has passed are walked again, and those
// ahead are reached however many ids come.
TEST(Authentication, RevocationsThatFollowEachOtherAllComeToTheirEnd) {
    StagePlan with = plan();
    with.places = 3 * kSweepBudgetPerTurn;
    with.options.auth_deadline = 0;
    ReactorStage stage(with);
    const size_t first = stage.connect(kLines);
    answer(stage, first, hello(token_for("ann", 0, R"(,"jti":"t-1")")));
    for (uint32_t peer = 2; peer < with.places; ++peer) stage.connect(kLines);
    stage.settle();
    const size_t last = stage.connect(kLines);
    answer(stage, last, hello(token_for("eve", 0, R"(,"jti":"t-2")")));
    ASSERT_TRUE(is_open(stage, first) && is_open(stage, last));
    const auto revoke = [&](const std::string& id) {
        const std::vector<std::string> ids = {id};
        ASSERT_TRUE(stage.post({.body = Message::Revoke{}, .payload = Payload::of(ids)}));
        stage.reactor().turn(stage.network().clock() + kMillisecond);
    };
    for (int turn = 0; turn < 6; ++turn) revoke("t-2");
    EXPECT_FALSE(is_open(stage, last));
    revoke("t-9");
    EXPECT_TRUE(is_open(stage, first));
    revoke("t-1");
    stage.settle(100 * kMillisecond);
    EXPECT_FALSE(is_open(stage, first));
}

// Reads that hold tokens wait behind those of the turn, and none is lost; who is known does not.
TEST(Authentication, ATurnChecksAsManySignaturesAsItsBudgetHas) {
    StagePlan with = plan();
    with.places = 256;
    ReactorStage stage(with);
    const size_t known = stage.connect(kLines);
    answer(stage, known, hello(kWord));
    std::vector<size_t> peers;
    std::vector<std::string> tokens;
    for (int number = 0; number < 150; ++number) {
        tokens.push_back(token_for("user-" + std::to_string(number)));
        peers.push_back(stage.connect(number % 2 == 0 ? kLines : kAuto));
    }
    stage.settle();
    for (size_t at = 0; at < peers.size(); ++at) {
        stage.write(peers[at], at % 2 == 0 ? hello(tokens[at])
                                           : upgrade_with("Authorization: Bearer " + tokens[at]));
    }
    stage.io().pass_time(50 * kMillisecond);  // all of it comes while the loop is away
    stage.settle(2 * kUpgradeLoginNs);
    for (const size_t peer : peers) EXPECT_TRUE(is_open(stage, peer));
    EXPECT_EQ(stage.metrics()[Metric::token_signatures_checked], 150u);
    EXPECT_GT(stage.metrics()[Metric::token_checks_put_off], 0u);
    EXPECT_EQ(stage.directory().counts().users, 151u);
    EXPECT_TRUE(has(answer(stage, known, line(R"({"type":"ping"})")), "pong"));
}

TEST(Authentication, AReloadBringsOtherKeysAndKeepsWhoIsHere) {
    ReactorStage stage(plan());
    const size_t old = stage.connect(kLines);
    answer(stage, old, hello(token_for("ann")));
    const Issuer next(Issuer::Kind::hs256);
    ASSERT_TRUE(stage.reload([&](LoopOptions& options) {
        auto fresh = std::make_shared<Credentials>();
        fresh->keys = parse_key_file(next.key_file())->keys;
        options.credentials = fresh;
    }));
    stage.settle();
    EXPECT_TRUE(is_open(stage, old));
    EXPECT_TRUE(
        has(answer(stage, stage.connect(kLines), hello(token_for("eve"))), "wrong_algorithm: "));
    EXPECT_TRUE(has(answer(stage, stage.connect(kLines), hello(next.token(R"({"sub":"eve"})"))),
                    R"("user":"eve")"));
    ASSERT_TRUE(stage.reload([&](LoopOptions& options) { options.credentials = nullptr; }));
    stage.settle(60 * kSecond);
    EXPECT_TRUE(is_open(stage, old));
    EXPECT_TRUE(has(answer(stage, stage.connect(kLines), line(R"({"type":"hello","user":"x"})")),
                    R"("user":"x")"));
}

// ------------------------------------------------------------------------------ side connections

// They want a token as others do, log none in, and end with it.
TEST(Authentication, ASideConnectionShowsATokenAndIsOfNoUser) {
    StagePlan probing = plan();
    probing.options.nat_probes = 10;
    ReactorStage stage(probing);
    const size_t none = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, none, line(R"({"type":"hello","probe":true})")), "no_token"));
    const size_t wrong = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, wrong, hello("x", R"(,"probe":true)")), "4001"));
    const size_t peer = stage.connect(kLines);
    EXPECT_TRUE(has(answer(stage, peer, hello(token_for("ann", 900), R"(,"probe":true)")),
                    R"("probe":true)"));
    EXPECT_EQ(user(stage, "ann"), nullptr);
    stage.settle(800 * kSecond);
    EXPECT_EQ(stage.heard(peer), "") << "nor is it closed for want of a login";
    EXPECT_EQ(stage.stats().gauges.sides, 1u);
    stage.settle(200 * kSecond);
    EXPECT_TRUE(has(stage.heard(peer), "token_expired"));
    stage.settle(5 * kSecond);
    EXPECT_EQ(stage.stats().gauges.sides, 0u);
    // The token of an upgrade will do.
    const size_t upgraded = stage.connect(kAuto);
    answer(stage, upgraded, upgrade_with("Authorization: Bearer " + kWord));
    EXPECT_TRUE(has(answer(stage, upgraded, masked(0x81, R"({"type":"hello","probe":true})")),
                    R"("probe":true)"));
    stage.settle(5 * kSecond);
    EXPECT_EQ(user(stage, "bob"), nullptr) << "it does not log in later, either";
}

}  // namespace
}  // namespace pulse::test
