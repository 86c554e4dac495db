// Targets, headers and subprotocols: what may be written, what the errors are; and the
// handshake with a server that may be any.
#include "tools/pulseload/run/target.h"

#include <gtest/gtest.h>

#include "net/client/upgrade.h"

namespace pulse::load {
namespace {

using client::judge_upgrade;
using client::upgrade_text;
using client::UpgradeOutcome;
using client::UpgradePlan;

TEST(Target, MayBeAnyServer) {
    const struct {
        std::string_view text;
        std::string_view address;
        std::string_view scheme;
        std::string_view host;
        std::string_view path;
    } kRows[] = {
        {"ws://127.0.0.1:9000", "127.0.0.1:9000", "ws", "127.0.0.1:9000", "/"},
        {"ws://127.0.0.1:9000/", "127.0.0.1:9000", "ws", "127.0.0.1:9000", "/"},
        {"ws://127.0.0.1/chat", "127.0.0.1:80", "ws", "127.0.0.1", "/chat"},
        {"ws://127.0.0.1?a=b", "127.0.0.1:80", "ws", "127.0.0.1", "/?a=b"},
        {"ws://localhost:8080/a/b?c=d&e", "127.0.0.1:8080", "ws", "localhost:8080",
         "/a/b?c=d&e"},
        {"ws://[::1]:9000/x", "[::1]:9000", "ws", "[::1]:9000", "/x"},
        {"ws://[::1]", "[::1]:80", "ws", "[::1]", "/"},
        {"auto://127.0.0.1:9000/x", "127.0.0.1:9000", "auto", "127.0.0.1:9000", "/x"},
        {"127.0.0.1:9000", "127.0.0.1:9000", "auto", "127.0.0.1:9000", "/"},
        {"tcp://127.0.0.1:9000/", "127.0.0.1:9000", "tcp", "127.0.0.1:9000", "/"},
        {"wss://127.0.0.1/chat", "127.0.0.1:443", "ws", "127.0.0.1", "/chat"},
        {"wss://[::1]:80", "[::1]:80", "ws", "[::1]:80", "/"},
        {"tls+ws://127.0.0.1:9443", "127.0.0.1:9443", "ws", "127.0.0.1:9443", "/"},
        {"tls+tcp://127.0.0.1:9000", "127.0.0.1:9000", "tcp", "127.0.0.1:9000", "/"},
        {"tls+auto://127.0.0.1:443/x", "127.0.0.1:443", "auto", "127.0.0.1", "/x"},
        {"unix:/run/app.sock", "unix:/run/app.sock", "auto", "localhost", "/"},
        {"unix:/run/app.sock:/chat?x", "unix:/run/app.sock", "auto", "localhost",
         "/chat?x"},
    };
    for (const auto& row : kRows) {
        const Result<Target> target = parse_target(row.text);
        ASSERT_TRUE(target) << row.text << ": " << target.error();
        EXPECT_EQ(target->address_text(), row.address) << row.text;
        EXPECT_EQ(target->scheme, row.scheme) << row.text;
        EXPECT_EQ(target->host, row.host) << row.text;
        EXPECT_EQ(target->path, row.path) << row.text;
        EXPECT_EQ(target->text, row.text);
        EXPECT_EQ(target->tls, row.text.starts_with("wss") || row.text.starts_with("tls+"));
    }
    // What TLS asks for has neither brackets nor a port.
    EXPECT_EQ(parse_target("wss://[::1]:80")->server, "::1");
    EXPECT_EQ(parse_target("wss://localhost:9443")->server, "localhost");
    EXPECT_FALSE(parse_target("ws://127.0.0.1:9000")->is_ours());
    EXPECT_FALSE(parse_target("unix:/run/app.sock")->is_ours());
    EXPECT_TRUE(parse_target("auto://127.0.0.1:9000")->is_ours());
}

TEST(Target, MistakesAreNamedWithARemedy) {
    const struct {
        std::string_view text;
        std::string_view words;
    } kRows[] = {
        {"https://127.0.0.1:1", "write wss://"},
        {"tls+mqtt://127.0.0.1:1", "'tls+mqtt' is not a known scheme"},
        {"tls+tcp://127.0.0.1", "no port"},
        {"mqtt://127.0.0.1:1", "'mqtt' is not a known scheme"},
        {"tcp://127.0.0.1", "no port"},
        {"tcp://127.0.0.1:1/x", "only a WebSocket target has a path"},
        {"ws://", "no host"},
        {"ws://127.0.0.1:0", "'0' is not a port"},
        {"ws://127.0.0.1:x", "'x' is not a port"},
        {"ws://127.0.0.1:1/a b", "encode it"},
        {"ws://127.0.0.1:1/#a", "fragment"},
        {"ws://::1:9000", "without brackets"},
        {"ws://[::1", "bracket"},
        {"ws://[::x]:1", "is not an IPv6 address"},
        {"ws://*:9000", "where a server listens"},
        {"ws://name.invalid:9000", "cannot be looked up"},
        {"auto://127.0.0.1:1?proxy=on", "PROXY"},
        {"unix:relative.sock", "is not the path of a Unix socket"},
    };
    for (const auto& row : kRows) {
        const Result<Target> target = parse_target(row.text);
        ASSERT_FALSE(target) << row.text;
        EXPECT_NE(target.error().find(row.words), std::string::npos) << target.error();
        EXPECT_NE(target.error().find(row.text), std::string::npos) << target.error();
        EXPECT_EQ(target.error().find(" is no "), std::string::npos) << target.error();
    }
}

TEST(Target, HeadersAndSubprotocols) {
    EXPECT_TRUE(parse_header("Authorization: Bearer abc"));
    EXPECT_TRUE(parse_header("Origin:https://app.example"));
    for (const char* text : {"no colon", ": x", "a b: c", "A: b\r\nC: d", "upgrade: x",
                             "Sec-WebSocket-Key: x", "sec-websocket-protocol: x"})
        EXPECT_FALSE(parse_header(text)) << text;
    EXPECT_TRUE(parse_subprotocol("chat.v2"));
    for (const char* text : {"", "a b", "a,b", "pulse.v1.binary"})
        EXPECT_FALSE(parse_subprotocol(text)) << text;
}

// ---------------------------------------------------------------------------------- the handshake

UpgradePlan plan_with(std::vector<std::string_view> subprotocols) {
    UpgradePlan plan;
    plan.host = "server.example.com";
    plan.path = "/chat?a";
    plan.subprotocols = std::move(subprotocols);
    const std::string_view nonce = "the sample nonce";  // RFC 6455 1.3
    std::copy(nonce.begin(), nonce.end(), plan.nonce.begin());
    return plan;
}
constexpr std::string_view kRightAnswer =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

TEST(ClientUpgrade, AsksWithHeadersAndSubprotocols) {
    const std::vector<std::string> headers = {"Authorization: Bearer abc"};
    UpgradePlan plan = plan_with({"chat", "superchat"});
    plan.headers = &headers;
    EXPECT_EQ(upgrade_text(plan),
              "GET /chat?a HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
              "Sec-WebSocket-Protocol: chat, superchat\r\nAuthorization: Bearer abc\r\n\r\n");
    const std::vector<std::string> host = {"host: other.example"};
    plan.headers = &host;
    EXPECT_EQ(upgrade_text(plan).find("server.example.com"), std::string::npos);
}

TEST(ClientUpgrade, JudgesTheAnswer) {
    const auto judge = [](const std::string& more, std::vector<std::string_view> offered) {
        return judge_upgrade(std::string(kRightAnswer) + more + "\r\n", plan_with(offered));
    };
    EXPECT_TRUE(judge("", {}).upgraded);
    EXPECT_TRUE(judge("", {"chat"}).upgraded);
    const UpgradeOutcome chosen = judge("SEC-WebSocket-Protocol:  chat \r\n", {"a", "chat"});
    EXPECT_TRUE(chosen.upgraded);
    EXPECT_EQ(chosen.subprotocol, "chat");
    for (const char* more : {"Sec-WebSocket-Protocol: other\r\n", "Sec-WebSocket-Protocol: \r\n",
                             "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n"}) {
        EXPECT_FALSE(judge(more, {"chat"}).upgraded) << more;
        EXPECT_NE(judge(more, {"chat"}).why_not.find("not offered"), std::string::npos);
    }
    EXPECT_FALSE(judge("Sec-WebSocket-Extensions: permessage-deflate\r\n", {}).upgraded);
    const UpgradeOutcome refused = judge_upgrade("HTTP/1.1 403 Forbidden\r\n\r\n", plan_with({}));
    EXPECT_FALSE(refused.upgraded);
    EXPECT_EQ(refused.status, 403);
}

}  // namespace
}  // namespace pulse::load
