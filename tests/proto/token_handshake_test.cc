// Tokens in an upgrade: where one may stand, where none is looked at, and what is answered to one
// that is not right. Each request is delivered whole and in bytes.
#include <gtest/gtest.h>

#include "proto/handshake.h"

#include "tests/support/recording_sink.h"

namespace pulse::test {
namespace {

// Knows one token, and counts what it was asked.
class OneToken final : public TokenJudge {
  public:
    explicit OneToken(AuthFailure of_others = AuthFailure::bad_signature) : of_others_(of_others) {}
    AuthFailure judge(std::string_view token, uint32_t count) override {
        if (count > 1) return AuthFailure::several_tokens;
        asked.emplace_back(token);
        return token == "a.b.c" ? AuthFailure::none : of_others_;
    }
    std::vector<std::string> asked;

  private:
    AuthFailure of_others_;
};

struct Answer {
    Handshake result;
    std::string text;
    friend bool operator==(const Answer& one, const Answer& other) {
        return one.text == other.text && one.result.status == other.result.status;
    }
};

Answer serve(const std::string& wire, TokenJudge* tokens, const std::vector<size_t>& cuts) {
    HandshakeState state;
    RecordingSink sink;
    ByteBuffer out;
    Answer answer;
    const HandshakePolicy policy{.tokens = tokens};
    feed_in_pieces(bytes_of(wire), cuts, [&](std::span<uint8_t> piece) {
        answer.result = serve_handshake(state, piece, policy, sink, out);
        return answer.result.step == Handshake::Step::more;
    });
    EXPECT_EQ(sink.held().size(), 0u);
    answer.text = out.text();
    return answer;
}

std::string upgrade(const std::string& fields, const std::string& target = "/chat") {
    return "GET " + target +
           " HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" +
           fields + "\r\n";
}

// However it is cut, it is answered the same, and its token is judged once.
Answer ask(const std::string& wire, OneToken tokens, size_t times_judged) {
    OneToken whole_judge = tokens, cut_judge = tokens;
    const Answer whole = serve(wire, &whole_judge, {});
    EXPECT_EQ(serve(wire, &cut_judge, every_byte(wire.size())), whole) << wire;
    EXPECT_EQ(whole_judge.asked, cut_judge.asked) << wire;
    EXPECT_EQ(whole_judge.asked.size(), times_judged) << wire;
    return whole;
}

TEST(TokenHandshake, WhereATokenMayStand) {
    for (const char* fields :
         {"Authorization: Bearer a.b.c\r\n", "authorization:bearer   a.b.c \r\n",
          "Sec-WebSocket-Protocol: bearer.a.b.c\r\n",
          "Sec-WebSocket-Protocol: pulse.v1.json, bearer.a.b.c\r\n",
          "Sec-WebSocket-Protocol: bearer.a.b.c,pulse.v1.json\r\n",
          "Sec-WebSocket-Protocol: pulse.v1.json\r\nSec-WebSocket-Protocol: bearer.a.b.c\r\n"}) {
        const Answer answer = ask(upgrade(fields), OneToken(), 1);
        EXPECT_EQ(answer.result.status, 101) << fields << answer.text;
        EXPECT_EQ(answer.text.find("bearer"), std::string::npos) << "never sent back";
        const bool real = std::string_view(fields).find("pulse.v1.json") != std::string::npos;
        EXPECT_EQ(answer.result.subprotocol, real ? Subprotocol::json : Subprotocol::none);
    }
}

TEST(TokenHandshake, WhereNoneIsLookedAt) {
    const std::string right = "Authorization: Bearer a.b.c\r\n";
    for (const std::string& wire :
         {upgrade(""), upgrade("", "/chat?token=x&access_token=x"),
          upgrade("Authorization: Basic YTpi\r\n"), upgrade("Authorization: Bearer\r\n"),
          upgrade("Cookie: token=x\r\n"), upgrade("Proxy-Authorization: Bearer x\r\n")}) {
        EXPECT_EQ(ask(wire, OneToken(), 0).result.status, 101) << wire;
    }
    EXPECT_EQ(serve(upgrade("Authorization: Bearer x\r\n"), nullptr, {}).result.status, 101);
    // What would not be upgraded anyway is not judged.
    EXPECT_EQ(ask("GET / HTTP/1.1\r\nHost: a\r\n" + right + "\r\n", OneToken(), 0).result.status,
              200);
    EXPECT_EQ(ask(upgrade(right + "Sec-WebSocket-Version: 13\r\n"), OneToken(), 0).result.status,
              400);
}

TEST(TokenHandshake, RefusalsSayWhatIsWrong) {
    const std::string wrong = upgrade("Authorization: Bearer x\r\n");
    const Answer expired = ask(wrong, OneToken(AuthFailure::expired), 1);
    EXPECT_EQ(expired.result.status, 401);
    EXPECT_EQ(expired.result.outcome.fault, CloseReason::unauthorized);
    EXPECT_EQ(expired.text,
              "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain; charset=utf-8\r\n"
              "Content-Length: 23\r\nConnection: close\r\n"
              "WWW-Authenticate: Bearer error=\"invalid_token\", "
              "error_description=\"expired: The token has expired.\"\r\n\r\n"
              "The token has expired.\n");
    const Answer often = ask(wrong, OneToken(AuthFailure::too_many_failures), 1);
    EXPECT_EQ(often.result.status, 429);
    EXPECT_NE(often.text.find("\r\nRetry-After: 1\r\n"), std::string::npos) << often.text;
    EXPECT_EQ(often.text.find("WWW-Authenticate"), std::string::npos);
    for (const char* fields :
         {"Authorization: Bearer a.b.c\r\nAuthorization: Bearer a.b.c\r\n",
          "Authorization: Bearer a.b.c\r\nSec-WebSocket-Protocol: bearer.a.b.c\r\n",
          "Sec-WebSocket-Protocol: bearer.a.b.c, bearer.a.b.c\r\n"}) {
        const Answer several = ask(upgrade(fields), OneToken(), 0);
        EXPECT_EQ(several.result.status, 400) << fields;
        EXPECT_NE(several.text.find("error=\"invalid_request\""), std::string::npos);
    }
    // Every failure fits, and none of it is the token's.
    for (size_t at = 1; at < kAuthFailures; ++at) {
        const Answer answer = ask(upgrade("Authorization: Bearer secret\r\n"),
                                  OneToken(static_cast<AuthFailure>(at)), 1);
        EXPECT_EQ(answer.text.find("secret"), std::string::npos);
    }
}

TEST(TokenHandshake, IsBoundedLikeTheOtherLines) {
    const std::string token(3'000, 'x');
    EXPECT_EQ(ask(upgrade("Authorization: Bearer " + token + "\r\n"), OneToken(), 1).result.status,
              401);
    EXPECT_EQ(ask(upgrade("Authorization: Bearer " + token + token + "\r\n"), OneToken(), 0)
                  .result.status,
              431);
    // Where tokens are not looked at, what others send there costs nothing.
    const std::string wire = upgrade("Authorization: Negotiate " + token + token + "\r\n");
    EXPECT_EQ(serve(wire, nullptr, every_byte(wire.size())).result.status, 101);
}

// A server may not choose what a client did not ask for.
TEST(TokenHandshake, ClientsRefuseABearerSubprotocol) {
    const UpgradeRequest request{.host = "a"};
    HttpBytes bytes;
    ASSERT_TRUE(format_upgrade_request(request, bytes));
    const std::string_view text(bytes.chars.data(), bytes.count);
    const size_t key = text.find("Sec-WebSocket-Key: ") + 19;
    const AcceptValue accept = accept_value(text.substr(key, 24));
    const std::string head =
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
        std::string(accept.text()) + "\r\n";
    EXPECT_EQ(check_answer(head + "\r\n", request).step, Handshake::Step::upgraded);
    EXPECT_EQ(check_answer(head + "Sec-WebSocket-Protocol: bearer.x\r\n\r\n", request).step,
              Handshake::Step::ended);
}

}  // namespace
}  // namespace pulse::test
