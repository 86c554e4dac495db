// RFC 6455 sections 4 and 9.1, and the HTTP around them: which requests are upgraded and how, what
// all others are told, and what a client makes of the answer. Each request is delivered whole, in
// bytes, cut in two at every place, and with frames behind it.
#include <gtest/gtest.h>

#include <map>

#include "core/random.h"
#include "proto/handshake.h"
#include "proto/traceparent.h"

#include "tests/support/conformance.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Request {
    std::string line = "GET /chat HTTP/1.1";
    Fields fields = {{"Host", "server.example.com"},
                     {"Upgrade", "websocket"},
                     {"Connection", "Upgrade"},
                     {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="},
                     {"Sec-WebSocket-Version", "13"}};

    Request without(const std::string& name) const {
        Request changed = *this;
        std::erase_if(changed.fields, [&](const auto& field) { return field.first == name; });
        return changed;
    }
    Request with(const std::string& name, const std::string& value) const {
        Request changed = *this;
        changed.fields.emplace_back(name, value);
        return changed;
    }
    Request replaced(const std::string& name, const std::string& value) const {
        return without(name).with(name, value);
    }
    Request first_line(const std::string& text) const {
        Request changed = *this;
        changed.line = text;
        return changed;
    }
    std::string text() const {
        std::string head = line + "\r\n";
        for (const auto& [name, value] : fields) head += name + ": " + value + "\r\n";
        return head + "\r\n";
    }
};

struct Outcome {
    Handshake result;
    std::string answer;
    std::string rest;  // of the wire, behind the head
    size_t held = 0;   // left in the sink

    // The value of an answer's field; "(none)".
    std::string field(const std::string& name) const {
        const size_t at = answer.find("\r\n" + name + ": ");
        if (at == std::string::npos) return "(none)";
        const size_t from = at + name.size() + 4;
        return answer.substr(from, answer.find("\r\n", from) - from);
    }
};

Outcome serve(const std::string& wire, const HandshakePolicy& policy,
              const std::vector<size_t>& cuts) {
    HandshakeState state;
    RecordingSink sink;
    ByteBuffer out;
    Outcome outcome;
    size_t seen = 0;
    feed_in_pieces(bytes_of(wire), cuts, [&](std::span<uint8_t> piece) {
        outcome.result = serve_handshake(state, piece, policy, sink, out);
        const bool more = outcome.result.step == Handshake::Step::more;
        seen += more ? piece.size() : outcome.result.consumed_bytes;
        return more;
    });
    outcome.answer = out.text();
    if (outcome.result.step == Handshake::Step::upgraded) outcome.rest = wire.substr(seen);
    outcome.held = sink.held().size();
    return outcome;
}

// An answer that is not an upgrade must be whole HTTP by itself.
void expect_proper(const Outcome& outcome, bool head_only) {
    const size_t end = outcome.answer.find("\r\n\r\n");
    ASSERT_NE(end, std::string::npos);
    const std::string body = outcome.answer.substr(end + 4);
    EXPECT_EQ(outcome.answer.rfind("HTTP/1.1 " + std::to_string(outcome.result.status) + " ", 0),
              0u);
    EXPECT_NE(outcome.field("Connection").find("close"), std::string::npos);
    EXPECT_EQ(outcome.field("Content-Type"), "text/plain; charset=utf-8");
    if (head_only) {
        EXPECT_EQ(body, "");
        EXPECT_NE(outcome.field("Content-Length"), "0");
    } else {
        EXPECT_EQ(outcome.field("Content-Length"), std::to_string(body.size()));
        EXPECT_GT(body.size(), 10u);
    }
    EXPECT_FALSE(outcome.result.outcome.ok());
    EXPECT_FALSE(outcome.result.outcome.detail.empty());
}

// The same in every delivery; returns the one of the whole.
Outcome check(const std::string& section, const std::string& wire, uint16_t status,
              const HandshakePolicy& policy = {}) {
    const Outcome whole = serve(wire, policy, {});
    EXPECT_EQ(whole.result.status, status) << section << "\n" << wire << "\n" << whole.answer;
    const bool upgraded = status == 101;
    EXPECT_EQ(whole.result.step, upgraded ? Handshake::Step::upgraded : Handshake::Step::ended);
    if (!upgraded) expect_proper(whole, wire.rfind("HEAD ", 0) == 0);
    uint64_t deliveries = 1;
    const auto expect_same = [&](const std::string& text, const std::vector<size_t>& cuts) {
        const Outcome other = serve(text, policy, cuts);
        ++deliveries;
        EXPECT_EQ(other.answer, whole.answer) << section << "\n" << text << "\ncut " << cuts.size();
        EXPECT_EQ(other.result.step, whole.result.step);
        EXPECT_EQ(other.held, 0u);
        EXPECT_EQ(other.rest, upgraded ? text.substr(wire.size()) : "");
    };
    expect_same(wire, every_byte(wire.size()));
    for (size_t at = 1; at < wire.size(); at += wire.size() < 1'000 ? 1 : 97)
        expect_same(wire, {at});
    if (upgraded) {
        const std::string frames = text_of(frame(0x89, "early")) + "\r\n\r\n";
        expect_same(wire + frames, {});
        expect_same(wire + frames, every_byte(wire.size() + 3));
        expect_same(wire + frames, {wire.size() - 1});
    }
    count_case("RFC 6455 " + section, deliveries);
    return whole;
}

Outcome check(const std::string& section, const Request& request, uint16_t status,
              const HandshakePolicy& policy = {}) {
    return check(section, request.text(), status, policy);
}

const Request kGood;

// ------------------------------------------------------------------------------------- 4.2.1
const char* const kReading = "4.2.1 reading the request";

TEST(Rfc6455_4_2_1_Request, TheExampleOfTheStandard) {
    const Outcome outcome = check("1.3 the example", kGood, 101);
    EXPECT_EQ(outcome.answer,
              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
}

TEST(Rfc6455_4_2_1_Request, MethodAndVersion) {
    for (const char* method :
         {"POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE", "get", "options"}) {
        const Outcome outcome =
            check(kReading, kGood.first_line(std::string(method) + " /chat HTTP/1.1"), 405);
        EXPECT_EQ(outcome.field("Allow"), "GET, HEAD, OPTIONS");
    }
    check(kReading, kGood.first_line("GET /chat HTTP/1.0"), 505);
    check(kReading, kGood.first_line("GET /chat HTTP/2.0"), 505);
    check(kReading, kGood.first_line("GET /chat HTTP/0.9"), 505);
    check(kReading, kGood.first_line("GET /chat HTTP/1.9"),
          101);  // a later minor version is 1.1 to us
    for (const char* version :
         {"HTTP/1.", "HTTP/11", "HTTP/1.10", "http/1.1", "HTTP/x.1", "HTTPS/1.1", "1.1", ""})
        check(kReading, kGood.first_line(std::string("GET /chat ") + version), 400);
}

TEST(Rfc6455_4_2_1_Request, RequestLine) {
    for (const char* line : {"GET",
                             "GET /chat",
                             "GET  HTTP/1.1",
                             "GET /a b HTTP/1.1",
                             "GET  /chat HTTP/1.1",
                             "GET /chat  HTTP/1.1",
                             "G(T /chat HTTP/1.1",
                             "GET /\xC3\xBC HTTP/1.1",
                             "GET chat HTTP/1.1",
                             "GET * HTTP/1.1",
                             "GET /chat#part HTTP/1.1",
                             "GET ftp://x/chat HTTP/1.1",
                             "/chat HTTP/1.1",
                             "GET http:///chat HTTP/1.1",
                             "GET http:// HTTP/1.1",
                             "GET http://?x HTTP/1.1",
                             "GET http://u@x/chat HTTP/1.1",
                             "GET httpx://x/ HTTP/1.1",
                             "GET http:/x HTTP/1.1",
                             "HEAD * HTTP/1.1"})
        check(kReading, kGood.first_line(line), 400);
    for (const char* target : {"/", "/a/b?c=d&e=%20", "http://server.example.com/chat", "https://x",
                               "/;a=b,c:@!", "HTTP://server.example.com/chat",
                               "hTTpS://x:443/chat?a", "http://x?a=/b", "http://[::1]:9000/"})
        check(kReading, kGood.first_line(std::string("GET ") + target + " HTTP/1.1"), 101);
    // RFC 9112 section 2.2: empty lines before a request line.
    for (const char* before : {"\r\n", "\r\n\r\n"}) check(kReading, before + kGood.text(), 101);
}

TEST(Rfc6455_4_2_1_Request, HostIsRequiredOnce) {
    check(kReading, kGood.without("Host"), 400);
    check(kReading, kGood.with("Host", "other.example.com"), 400);
    check(kReading, kGood.with("host", "server.example.com"), 400);
    for (const char* host : {"a b", "a/b", "a@b", "a,b", "\"a\"", "h\xC3\xBC"})
        check(kReading, kGood.replaced("Host", host), 400);
    for (const char* host : {"127.0.0.1:9000", "[::1]:9000", "localhost", "h-1.example:80"})
        check(kReading, kGood.replaced("Host", host), 101);
}

TEST(Rfc6455_4_2_1_Request, UpgradeNamesWebsocket) {
    for (const char* value :
         {"WebSocket", "WEBSOCKET", "h2c, websocket", "websocket,h2c", " \twebsocket\t "})
        check(kReading, kGood.replaced("Upgrade", value), 101);
    check(kReading, kGood.without("Upgrade"), 426);
    for (const char* value :
         {"", "h2c", "websocket2", "web socket", "websocketwebsocket", "websocket/13"})
        check(kReading, kGood.replaced("Upgrade", value), 426);
    check(kReading, kGood.replaced("Upgrade", "h2c").with("Upgrade", "websocket"), 101);
}

TEST(Rfc6455_4_2_1_Request, ConnectionNamesUpgrade) {
    for (const char* value :
         {"upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive", ",upgrade,"})
        check(kReading, kGood.replaced("Connection", value), 101);
    check(kReading, kGood.without("Connection"), 400);
    for (const char* value : {"", "keep-alive", "close", "Upgrades", "keep-alive Upgrade"})
        check(kReading, kGood.replaced("Connection", value), 400);
    check(kReading, kGood.replaced("Connection", "keep-alive").with("Connection", "Upgrade"), 101);
}

TEST(Rfc6455_4_2_1_Request, KeyIs16BytesInBase64) {
    check(kReading, kGood.without("Sec-WebSocket-Key"), 400);
    check(kReading, kGood.with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), 400);
    for (const char* key :
         {"", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ===",
          "dGhlIHNhbXBsZSBub25jZSE=", "dGhlIHNhbXBsZSBub25jZSEh", "dGhlIHNh XBsZSBub25jZQ==",
          "dGhlIHNhbXBs=SBub25jZQ==", "dGhlIHNhbXBsZSBub25j_Q==", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA=="})
        check(kReading, kGood.replaced("Sec-WebSocket-Key", key), 400);
    for (const char* key :
         {"AAAAAAAAAAAAAAAAAAAAAA==", "//////////////////////==", "x3JJHMbDL1EzLkh9GBhXDw=="})
        check(kReading, kGood.replaced("Sec-WebSocket-Key", key), 101);
}

TEST(Rfc6455_4_2_1_Request, FieldNamesIgnoreCaseAndOrder) {
    Request request;
    request.fields = {
        {"SEC-WEBSOCKET-VERSION", "13"}, {"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="},
        {"CONNECTION", "upgrade"},       {"x-more", "a:b: c"},
        {"uPgRaDe", "websocket"},        {"hOST", "x"}};
    EXPECT_EQ(check(kReading, request, 101).field("Sec-WebSocket-Accept"),
              "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST(Rfc6455_4_2_1_Request, ABodyIsRefused) {
    check(kReading, kGood.with("Content-Length", "0"), 101);
    for (const char* length : {"1", "00", "-1", "", "0, 0", "0x0"})
        check(kReading, kGood.with("Content-Length", length), 400);
    check(kReading, kGood.with("Content-Length", "0").with("Content-Length", "0"), 400);
    check(kReading, kGood.with("Transfer-Encoding", "chunked"), 400);
    check(kReading, kGood.with("Transfer-Encoding", "identity"), 400);
}

// ------------------------------------------------------------------------------ 4.2.2 to 4.4
TEST(Rfc6455_4_2_2_Response, OriginsAreCheckedAgainstTheList) {
    const char* section = "4.2.2 origin";
    const std::vector<std::string> allowed = {"https://app.example", "http://localhost:3000"};
    const HandshakePolicy policy{.origins = allowed};
    check(section, kGood.with("Origin", "https://evil.example"), 101);  // no list: all
    check(section, kGood, 101, policy);                                 // no browser
    check(section, kGood.with("Origin", "https://app.example"), 101, policy);
    check(section, kGood.with("Origin", "HTTPS://App.Example"), 101, policy);
    check(section, kGood.with("Origin", "http://localhost:3000"), 101, policy);
    for (const char* origin :
         {"https://evil.example", "http://app.example", "https://app.example.evil", "null", "",
          "https://app.example:444", "https://sub.app.example"}) {
        const Outcome outcome = check(section, kGood.with("Origin", origin), 403, policy);
        EXPECT_EQ(outcome.result.outcome.fault, CloseReason::unauthorized);
    }
    check(section, kGood.with("Origin", allowed[0]).with("Origin", allowed[1]), 400, policy);
}

TEST(Rfc6455_4_2_2_Response, SubprotocolsAreAnsweredWithTheFirstKnown) {
    const char* section = "4.2.2 subprotocols";
    const std::pair<const char*, const char*> cases[] = {
        {"pulse.v1.json", "pulse.v1.json"},
        {"pulse.v1.binary", "pulse.v1.binary"},
        {"pulse.v1.binary, pulse.v1.json", "pulse.v1.binary"},
        {"chat,pulse.v1.json , superchat", "pulse.v1.json"},
        {"chat, superchat", "(none)"},
        {"PULSE.V1.JSON", "(none)"},  // subprotocols are compared byte by byte
        {"pulse.v1", "(none)"},
        {",chat,, pulse.v1.json,", "pulse.v1.json"},  // empty elements are passed over
        {"a, a, pulse.v1.json", "pulse.v1.json"}};
    for (const auto& [offered, answered] : cases)
        EXPECT_EQ(check(section, kGood.with("Sec-WebSocket-Protocol", offered), 101)
                      .field("Sec-WebSocket-Protocol"),
                  answered);
    const Outcome lines = check(section,
                                kGood.with("Sec-WebSocket-Protocol", "chat")
                                    .with("Sec-WebSocket-Protocol", "pulse.v1.binary"),
                                101);
    EXPECT_EQ(lines.result.subprotocol, Subprotocol::binary);
    EXPECT_EQ(check(section, kGood, 101).field("Sec-WebSocket-Protocol"), "(none)");
    for (const char* offered : {"", ",", "a b", "chat/1", "chat;q=1", "\"chat\"", "ch\xC3\xBCt"})
        check(section, kGood.with("Sec-WebSocket-Protocol", offered), 400);
}

TEST(Rfc6455_4_2_2_Response, ALongSubprotocolListIsReadOnce) {
    std::string offered;
    for (int at = 0; at < 1'800; ++at) offered += "a,";
    check("4.2.2 subprotocols", kGood.with("Sec-WebSocket-Protocol", offered + "pulse.v1.json"),
          101);
    offered += offered;
    check("4.2.2 subprotocols", kGood.with("Sec-WebSocket-Protocol", offered + "pulse.v1.json"),
          431);
}

TEST(Rfc6455_4_4_Versions, OthersAreToldOurs) {
    const char* section = "4.4 versions";
    for (const char* version :
         {"0", "7", "8", "12", "14", "25", "013", "13.0", "13, 8", "", "-13", "thirteen"}) {
        const Outcome outcome =
            check(section, kGood.replaced("Sec-WebSocket-Version", version), 426);
        EXPECT_EQ(outcome.field("Sec-WebSocket-Version"), "13");
        EXPECT_EQ(outcome.field("Upgrade"), "websocket");
        EXPECT_EQ(outcome.field("Connection"), "close, Upgrade");
    }
    check(section, kGood.without("Sec-WebSocket-Version"), 426);
    check(section, kGood.with("Sec-WebSocket-Version", "13"), 400);
    // A version that is refused is refused before the key is looked at.
    check(section, kGood.replaced("Sec-WebSocket-Version", "8").without("Sec-WebSocket-Key"), 426);
}

TEST(Rfc6455_9_1_Extensions, OthersThanDeflateAreNotAnswered) {
    const char* section = "9.1 extensions";
    for (const char* offer :
         {"x-webkit-deflate-frame", "foo; bar=1, baz", "foo;a=\"b\"", "permessage-deflate",
          ",foo,,bar", "foo ; a = b ; c", "permessage-bzip2; level=9"})
        EXPECT_EQ(check(section, kGood.with("Sec-WebSocket-Extensions", offer), 101)
                      .field("Sec-WebSocket-Extensions"),
                  "(none)");
    for (const char* offer :
         {"", ",", ";", "foo;", "foo; =1", "foo; a=", "foo; a=\"", "foo; a=\"b", "foo; a=\"b c\"",
          "foo; a=\"\"", "foo bar", "foo, b@r", "foo; a b", "=", "foo; a=b=c", "\"foo\""})
        check(section, kGood.with("Sec-WebSocket-Extensions", offer), 400);
}

// ------------------------------------------------------------------- HTTP that is not an upgrade
const char* const kPlain = "4.2.1 plain HTTP";

TEST(Rfc6455_4_2_1_PlainHttp, TheRootSaysWhatThisIs) {
    const Request plain{"GET / HTTP/1.1", {{"Host", "x"}}};
    const Outcome outcome = check(kPlain, plain, 200);
    EXPECT_NE(outcome.answer.find("Pulsewheel"), std::string::npos);
    EXPECT_EQ(outcome.result.outcome.fault, CloseReason::http_answered);
    check(kPlain, plain.first_line("GET /?probe=1 HTTP/1.1"), 200);
    check(kPlain, plain.first_line("HEAD / HTTP/1.1"), 200);
    check(kPlain, Request{"GET / HTTP/1.0", {}}, 200);
    check(kPlain, plain.first_line("GET http://x HTTP/1.1"), 200);
    check(kPlain, "\r\n" + plain.text(), 200);  // an empty line before a request is passed over
}

// What balancers ask: HAProxy's default, its httpchk with HTTP/1.1, and the usual path.
TEST(Rfc6455_4_2_1_PlainHttp, HealthChecksAreAnsweredWith200) {
    for (const char* target : {"/", "*", "/healthz", "/any/where", "http://x/", "HTTP://x"}) {
        const std::string line = "OPTIONS " + std::string(target);
        const Outcome old = check(kPlain, Request{line + " HTTP/1.0", {}}, 200);
        EXPECT_EQ(old.field("Allow"), "GET, HEAD, OPTIONS");
        EXPECT_EQ(old.field("Connection"), "close");
        EXPECT_EQ(old.result.outcome.fault, CloseReason::http_answered);
        check(kPlain, Request{line + " HTTP/1.1", {{"Host", "x"}}}, 200);
        check(kPlain, Request{line + " HTTP/1.1", {{"Host", "x"}, {"Content-Length", "0"}}}, 200);
        check(kPlain, Request{line + " HTTP/1.1", {}}, 400);
    }
    for (const char* target :
         {"/healthz", "/healthz?full", "http://x/healthz", "HTTP://x/healthz"}) {
        const Outcome get =
            check(kPlain, Request{"GET " + std::string(target) + " HTTP/1.0", {}}, 200);
        EXPECT_TRUE(get.answer.ends_with("\r\n\r\nok: this server accepts connections\n"))
            << get.answer;
        const Outcome head =
            check(kPlain, Request{"HEAD " + std::string(target) + " HTTP/1.0", {}}, 200);
        EXPECT_TRUE(head.answer.ends_with("\r\n\r\n")) << head.answer;
    }
    check(kPlain, Request{"GET /healthzz HTTP/1.0", {}}, 426);
    check(kPlain, Request{"GET http://x?y HTTP/1.0", {}}, 200);
}

TEST(Rfc6455_4_2_1_PlainHttp, EverythingElseMustUpgrade) {
    const Request plain{"GET /chat HTTP/1.1", {{"Host", "x"}}};
    const Outcome outcome = check(kPlain, plain, 426);
    EXPECT_EQ(outcome.field("Upgrade"), "websocket");
    EXPECT_EQ(outcome.result.outcome.fault, CloseReason::http_answered);
    check(kPlain, plain.first_line("HEAD /chat HTTP/1.1"), 426);
    check(kPlain, plain.first_line("HEAD /chat HTTP/1.1").with("Upgrade", "websocket"), 426);
    check(kPlain, plain.first_line("GET / HTTP/1.1").with("Sec-WebSocket-Version", "13"), 426);
}

TEST(Rfc6455_4_2_1_PlainHttp, MalformedHeads) {
    const std::string start = "GET / HTTP/1.1\r\nHost: x\r\n";
    for (const std::string& wire :
         {std::string("GET / HTTP/1.1\nHost: x\n\n"), start + "a: b\n\r\n",
          start + "a: b\rc\r\n\r\n", start + "\r\r\n", start + "a: b\r\n folded\r\n\r\n",
          start + "a: b\r\n\tfolded\r\n\r\n", start + "a b: c\r\n\r\n", start + "a : c\r\n\r\n",
          start + "no colon\r\n\r\n", start + ": c\r\n\r\n", start + "a(b: c\r\n\r\n",
          start + "a: b\x01\r\n\r\n", start + "a: b\x7F\r\n\r\n",
          start + std::string("a: b\0\r\n\r\n", 9), " " + start + "\r\n",
          std::string("\x16\x03\x01\x02\x00\x01", 6), std::string("{\"type\":\"ping\"}\n"),
          std::string("\n")})
        check(kPlain, wire, 400);
    check(kPlain, start + "a: \xC3\xBC\xFF\t.\r\n\r\n",
          200);  // obs-text and tabs are allowed in values
    check(kPlain, start + "a:\r\n\r\n", 200);
}

// Lines are scanned eight bytes at a time; given one by one, they are not.
TEST(Rfc6455_4_2_1_PlainHttp, AnyByteAnywhereInALineIsJudgedTheSame) {
    const std::string before = "GET / HTTP/1.1\r\nHost: x\r\n";
    for (size_t at = 0; at < 24; ++at) {
        for (unsigned value = 0; value < 256; ++value) {
            std::string head = before + "a: " + std::string(24, '~') + "\r\n\r\n";
            head[before.size() + at] = static_cast<char>(value);
            const auto bytes =
                std::span(reinterpret_cast<const uint8_t*>(head.data()), head.size());
            HandshakeState whole, cut;
            const HeadScan scan = scan_head(whole, bytes);
            size_t given = 0;
            HeadScan last;
            while (given < bytes.size() && last.step == HeadScan::Step::more)
                last = scan_head(cut, bytes.subspan(given++, 1));
            EXPECT_EQ(scan.step, last.step) << at << ' ' << value;
            EXPECT_EQ(scan.status, last.status) << at << ' ' << value;
            EXPECT_EQ(scan.detail, last.detail) << at << ' ' << value;
            EXPECT_EQ(whole.bytes, cut.bytes) << at << ' ' << value;
            EXPECT_EQ(whole.lines, cut.lines) << at << ' ' << value;
        }
    }
}

TEST(Rfc6455_4_2_1_PlainHttp, HeadsAreBounded) {
    Request request{"GET / HTTP/1.1", {{"Host", "x"}}};
    while (request.fields.size() < kHandshakeFieldsMax) request.fields.emplace_back("a", "b");
    check(kPlain, request, 200);
    check(kPlain, request.with("one", "more"), 431);
    const std::string start = "GET / HTTP/1.1\r\nHost: x\r\na: ";
    const std::string longest = start + std::string(kHandshakeBytesMax - start.size() - 4, 'a');
    check(kPlain, longest + "\r\n\r\n", 200);
    check(kPlain, longest + "a\r\n\r\n", 431);
    check(kPlain, "GET /" + std::string(20'000, 'a'), 431);
    check(kPlain, std::string(kHandshakeBytesMax + 1, 'a'), 431);
    std::string blank_lines;
    while (blank_lines.size() <= kHandshakeBytesMax) blank_lines += "\r\n";
    check(kPlain, blank_lines, 431);
}

// Most of a long head is cookies, or a token in the target's query: it is answered all the same.
TEST(Rfc6455_4_2_1_Request, LongLinesThatAreNotReadAreNoMatter) {
    const std::string word(1'400, 'c');
    Request request = kGood.first_line("GET /?token=" + word + word + word + word + " HTTP/1.1");
    for (const char* name : {"Cookie", "User-Agent", "X-Forwarded-For", "Sec-Fetch-Mode", "x"})
        request = request.with(name, word);
    check("4.2.1 request", request, 101);
    check("4.2.1 request", request.first_line("GET /" + word + word + word + word + " HTTP/1.1"),
          101);
    check("4.2.1 request", request.first_line(std::string(600, 'G') + " / HTTP/1.1"), 405);
    check("4.2.1 request", request.first_line("GET /" + word + "# HTTP/1.1"), 400);
    check("4.2.1 request", request.first_line("GET http://a/" + word + " HTTP/1.1"), 101);
    check("4.2.1 request", request.first_line("GET http://" + word + "@/ HTTP/1.1"), 400);
    check("4.2.1 request", request.with("Sec-WebSocket-Other", word + word), 101);
    check("4.2.1 request", request.with(word, "x"), 101);
    check("4.2.1 request", request.with(word + " ", "x"), 400);
    check("4.2.1 request", request.with("Transfer-Encoding", word), 400);
    check("4.2.1 request", request.with("Host", word), 400);
    check("4.2.1 request", request.replaced("Host", word + word + word), 431);
}

// A head of lines that are read, that are not, and that are none, up to `bytes_max` and a line.
std::string random_head(Random& random, size_t bytes_max) {
    const std::string starts[] = {"Cookie: ",
                                  "Host: ",
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                                  "Origin",
                                  "Sec-WebSocket-Q:",
                                  "Sec-WebSocket-Extensions: ",
                                  "Connection: ",
                                  "bad line ",
                                  "A",
                                  "Upgrade: ",
                                  "transfer-encoding: "};
    const std::string firsts[] = {"GET / HTTP/1.1", "GET /", "A",        "GET http://a/",
                                  "GET https://",   "\r\n",  "OPTIONS *"};
    std::string wire =
        random.below(2) == 0 ? kGood.text() : firsts[random.below(std::size(firsts))];
    if (wire.ends_with("\r\n\r\n")) wire.resize(wire.size() - 4);
    while (wire.size() < bytes_max) {
        const size_t bytes = random.below(4) == 0 ? random.below(3'000) : random.below(40);
        wire.append(bytes, "ab,= \xc3:/?#"[random.below(random.below(3) == 0 ? 10 : 3)]);
        if (random.below(3) == 0) wire += " HTTP/1.1";
        wire += "\r\n" + starts[random.below(std::size(starts))];
    }
    return wire + "\r\n\r\n";
}

TEST(Rfc6455_4_2_1_Request, HowARandomHeadIsCutChangesNothing) {
    Random random(2);
    std::map<uint16_t, int> seen;
    for (int head = 0; head < 3'000; ++head) {
        const std::string wire = random_head(random, random.below(head % 2 == 0 ? 500 : 18'000));
        std::vector<size_t> cuts;
        for (size_t at = 0; at < wire.size();) cuts.push_back(at += 1 + random.below(3'000));
        if (cuts.back() >= wire.size()) cuts.pop_back();
        const Outcome whole = serve(wire, {}, {});
        const Outcome cut = serve(wire, {}, cuts);
        ASSERT_EQ(cut.result.status, whole.result.status) << wire;
        ASSERT_EQ(cut.answer, whole.answer) << wire;
        ASSERT_EQ(cut.held, 0u);
        ++seen[whole.result.status];
    }
    for (const uint16_t status : {uint16_t{101}, uint16_t{400}, uint16_t{431}})
        EXPECT_GT(seen[status], 20) << status;
}

// ----------------------------------------------------------------------- W3C Trace Context 3.2
const std::string kTrace = "4bf92f3577b34da6a3ce929d0e0e4736", kParent = "00f067aa0ba902b7";
const std::string kTraceParent = "00-" + kTrace + "-" + kParent + "-01";

TEST(TraceContext_3_2_Traceparent, EachPartIsRead) {
    const std::optional<TraceContext> read = parse_traceparent(kTraceParent);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->trace, (TraceId{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce,
                                    0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}));
    EXPECT_EQ(read->parent, (SpanId{0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7}));
    // 3.2.2.5: only the last bit says that it was sampled; others are of later versions.
    const std::string before = kTraceParent.substr(0, 53);
    for (const auto& [flags, sampled] : std::map<std::string, bool>{
             {"00", false}, {"01", true}, {"02", false}, {"03", true}, {"fe", false}, {"ff", true}})
        EXPECT_EQ(parse_traceparent(before + flags)->sampled, sampled) << flags;
}

TEST(TraceContext_3_2_Traceparent, WhatIsMalformedIsPassedOver) {
    EXPECT_FALSE(parse_traceparent(""));
    for (size_t bytes = 0; bytes < kTraceParent.size(); ++bytes)
        EXPECT_FALSE(parse_traceparent(kTraceParent.substr(0, bytes))) << bytes;
    // At each place a byte that may not stand there: a capital, a dash in a number, a digit for a
    // dash, white space.
    for (size_t at = 0; at < kTraceParent.size(); ++at) {
        for (const char wrong : {'A', 'F', 'g', ' ', '\0', kTraceParent[at] == '-' ? '0' : '-'}) {
            std::string text = kTraceParent;
            text[at] = wrong;
            EXPECT_FALSE(parse_traceparent(text)) << text;
        }
    }
    EXPECT_FALSE(parse_traceparent("00-" + std::string(32, '0') + "-" + kParent + "-01"));
    EXPECT_FALSE(parse_traceparent("00-" + kTrace + "-" + std::string(16, '0') + "-01"));
    EXPECT_FALSE(parse_traceparent(kTraceParent + "-"));
    EXPECT_FALSE(parse_traceparent(kTraceParent + "0"));
    EXPECT_FALSE(parse_traceparent(" " + kTraceParent));
    EXPECT_FALSE(parse_traceparent("ff" + kTraceParent.substr(2)));
}

// 3.2.2.1, 4.3: what is known of a version that is not, as long as it begins as this one does.
TEST(TraceContext_3_2_Traceparent, LaterVersionsAreReadAsThisOne) {
    for (const std::string version : {"01", "cc", "fe"}) {
        const std::string text = version + kTraceParent.substr(2);
        for (const std::string& whole : {text, text + "-", text + "-what.follows"}) {
            ASSERT_TRUE(parse_traceparent(whole)) << whole;
            EXPECT_TRUE(parse_traceparent(whole)->sampled);
        }
        EXPECT_FALSE(parse_traceparent(text + "0")) << "flags of three digits";
        EXPECT_FALSE(parse_traceparent(text.substr(0, 54)));
    }
}

TEST(TraceContext_3_2_Traceparent, AnUpgradeHasOneWhereItIsRead) {
    const HandshakePolicy reads{.reads_trace = true};
    const auto trace_of = [](const Request& request, const HandshakePolicy& policy) {
        const Outcome outcome = serve(request.text(), policy, {});
        EXPECT_EQ(outcome.result.status, 101) << outcome.answer;
        return outcome.result.trace;
    };
    const auto expect = [&](const Request& request, bool present) {
        const TraceContext whole = trace_of(request, reads);
        EXPECT_EQ(whole.present(), present) << request.text();
        const std::string wire = request.text();
        const TraceContext cut = serve(wire, reads, every_byte(wire.size())).result.trace;
        EXPECT_EQ(cut.trace, whole.trace) << "however it is cut";
        EXPECT_EQ(cut.parent, whole.parent);
        EXPECT_EQ(cut.sampled, whole.sampled);
    };
    expect({}, false);
    expect(Request().with("traceparent", kTraceParent), true);
    expect(Request().with("TraceParent", " " + kTraceParent + "\t"), true);
    expect(Request().with("traceparent", "nonsense"), false);
    expect(Request().with("traceparent", kTraceParent).with("traceparent", kTraceParent), false);
    // A long one costs what is read of it, and is read as the whole one is.
    const std::string space(4'000, ' ');
    const std::string later = "01" + kTraceParent.substr(2);
    expect(Request().with("traceparent", later + "-" + std::string(4'000, 'a')), true);
    expect(Request().with("traceparent", later + " -" + std::string(4'000, 'a')), false);
    expect(Request().with("traceparent", kTraceParent + std::string(4'000, 'a')), false);
    expect(Request().with("traceparent", kTraceParent + space), true);
    expect(Request().with("traceparent", kTraceParent + space + "x"), false);
    expect(Request().with("traceparent", space + kTraceParent), true);
    const Request named = Request().with("traceparent", kTraceParent);
    EXPECT_FALSE(trace_of(named, {}).present()) << "where it is not read";
}

// Whatever a peer sends without an end, a small buffer is all that it costs.
TEST(Rfc6455_4_2_1_Request, AnUnfinishedHeadIsHeldInASmallBuffer) {
    Random random(1);
    size_t most = 0;
    for (int head = 0; head < 400; ++head) {
        const std::string wire = random_head(random, 20'000);
        HandshakeState state;
        RecordingSink sink;
        ByteBuffer out;
        Handshake result;
        for (size_t at = 0; at < wire.size() && result.step == Handshake::Step::more;) {
            const std::string piece = wire.substr(at, 1 + random.below(2'000));
            feed_in_pieces(bytes_of(piece), {}, [&](std::span<uint8_t> bytes) {
                result = serve_handshake(state, bytes, {}, sink, out);
                return true;
            });
            at += piece.size();
            most = std::max(most, sink.held().size());
        }
        ASSERT_EQ(result.step, Handshake::Step::ended);
    }
    EXPECT_LE(most, kBufferSmallBytes);
    EXPECT_GT(most, kHandshakeKeptBytesMax / 2) << "some were full";
}

TEST(Rfc6455_4_2_1_PlainHttp, AnUnfinishedHeadWaits) {
    const std::string head = kGood.text();
    for (size_t bytes = 1; bytes < head.size(); ++bytes) {
        const Outcome outcome = serve(head.substr(0, bytes), {}, {});
        ASSERT_EQ(outcome.result.step, Handshake::Step::more) << bytes;
        ASSERT_EQ(outcome.answer, "");
        ASSERT_EQ(outcome.held, bytes);
    }
    count_case(std::string("RFC 6455 ") + kReading, head.size() - 1);
}

TEST(HandshakeAnswers, AreWholeForSessionsThatFail) {
    for (const uint16_t status : {uint16_t{408}, uint16_t{503}}) {
        HttpBytes bytes;
        write_http_answer(bytes, status, "Come back later.", false, 30);
        const std::string text(bytes.chars.data(), bytes.count);
        EXPECT_EQ(text.rfind("HTTP/1.1 " + std::to_string(status), 0), 0u);
        EXPECT_NE(text.find("\r\nRetry-After: 30\r\n"), std::string::npos);
        EXPECT_NE(text.find("\r\nContent-Length: 17\r\n"), std::string::npos);
        EXPECT_NE(text.find("\r\n\r\nCome back later.\n"), std::string::npos);
    }
}

TEST(HandshakeAnswers, WithoutMemoryOrRoom) {
    const std::string head = kGood.text();
    HandshakeState state;
    RecordingSink sink;
    ByteBuffer out;
    out.room = 20;
    LentBytes whole(bytes_of(head));
    Handshake result = serve_handshake(state, whole.span(), {}, sink, out);
    EXPECT_EQ(result.step, Handshake::Step::ended);
    EXPECT_EQ(result.outcome.fault, CloseReason::out_of_memory);
    sink.hold_bytes_max = 10;
    LentBytes part(bytes_of(head.substr(0, 11)));
    result = serve_handshake(state, part.span(), {}, sink, out);
    EXPECT_EQ(result.outcome.fault, CloseReason::out_of_memory);
    EXPECT_TRUE(out.bytes.empty());
}

// ------------------------------------------------------------------------------- 4.1, client
UpgradeRequest client_request() {
    UpgradeRequest request{.host = "server.example.com", .path = "/chat"};
    const std::string nonce = "the sample nonce";
    std::copy(nonce.begin(), nonce.end(), request.nonce.begin());
    return request;
}

Handshake judge(const std::string& answer, const UpgradeRequest& request,
                const std::vector<size_t>& cuts) {
    HandshakeState state;
    RecordingSink sink;
    Handshake result;
    feed_in_pieces(bytes_of(answer), cuts, [&](std::span<uint8_t> piece) {
        result = read_upgrade_answer(state, piece, request, sink);
        return result.step == Handshake::Step::more;
    });
    EXPECT_EQ(sink.held().size(), result.step == Handshake::Step::more ? answer.size() : 0);
    return result;
}

void expect_judgement(const std::string& answer, const UpgradeRequest& request, bool upgraded,
                      uint16_t status) {
    for (const std::vector<size_t>& cuts : {std::vector<size_t>{}, every_byte(answer.size())}) {
        const Handshake result = judge(answer, request, cuts);
        EXPECT_EQ(result.step, upgraded ? Handshake::Step::upgraded : Handshake::Step::ended)
            << answer;
        EXPECT_EQ(result.outcome.ok(), upgraded) << answer;
        EXPECT_EQ(result.status, status) << answer;
    }
    count_case("RFC 6455 4.1 client", 2);
}

TEST(Rfc6455_4_1_Client, ItsRequestIsUpgradedByUs) {
    for (const Subprotocol subprotocol :
         {Subprotocol::none, Subprotocol::json, Subprotocol::binary}) {
        for (const bool deflate : {false, true}) {
            UpgradeRequest request = client_request();
            request.subprotocol = subprotocol;
            request.deflate = deflate;
            request.origin = "https://app.example";
            ByteBuffer out;
            ASSERT_TRUE(write_upgrade_request(request, out));
            const Outcome outcome = serve(out.text(), {.deflate = true}, {});
            ASSERT_EQ(outcome.result.status, 101);
            EXPECT_EQ(outcome.result.subprotocol, subprotocol);
            const Handshake result = judge(outcome.answer, request, {});
            EXPECT_EQ(result.step, Handshake::Step::upgraded) << result.outcome.detail;
            EXPECT_EQ(result.subprotocol, subprotocol);
            EXPECT_EQ(result.deflate.window_bits, deflate ? 15 : 0);
            EXPECT_EQ(result.consumed_bytes, outcome.answer.size());
            count_case("RFC 6455 4.1 client", 2);
        }
    }
}

TEST(Rfc6455_4_1_Client, WhatItSends) {
    ByteBuffer out;
    ASSERT_TRUE(write_upgrade_request(client_request(), out));
    EXPECT_EQ(out.text(),
              "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    UpgradeRequest request = client_request();
    const std::string path(700, '/');
    request.path = path;
    EXPECT_FALSE(write_upgrade_request(request, out));
    out.room = out.bytes.size() + 10;
    EXPECT_FALSE(write_upgrade_request(client_request(), out));
}

TEST(Rfc6455_4_1_Client, WhatItRefuses) {
    const UpgradeRequest request = client_request();
    const std::string good =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    const auto swapped = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        return text.replace(text.find(from), from.size(), to) + "\r\n";
    };
    expect_judgement(good + "\r\n", request, true, 101);
    expect_judgement(swapped(" Switching Protocols", ""), request, true, 101);
    expect_judgement(swapped("websocket", "h2c"), request, false, 101);
    expect_judgement(swapped("Connection: Upgrade", "Connection: close"), request, false, 101);
    expect_judgement(swapped("s3pP", "s3pp"), request, false, 101);
    expect_judgement(swapped("Sec-WebSocket-Accept", "Accept"), request, false, 101);
    expect_judgement(swapped("101", "200"), request, false, 200);
    expect_judgement(swapped("HTTP/1.1", "HTTP/2.0"), request, false, 0);
    expect_judgement(swapped("101", "1x1"), request, false, 0);
    expect_judgement("HTTP/1.1 503 Full\r\nRetry-After: 1\r\n\r\n", request, false, 503);
    expect_judgement(good + "Sec-WebSocket-Protocol: pulse.v1.json\r\n\r\n", request, false, 101);
    expect_judgement(good + "Sec-WebSocket-Protocol: chat\r\n\r\n", request, false, 101);
    expect_judgement(good + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", request, false,
                     101);
    expect_judgement(good + "no colon\r\n\r\n", request, false, 101);
    expect_judgement(good + "bare\n", request, false, 0);
}

TEST(Rfc6455_4_1_Client, WhatItRefusesOfDeflate) {
    UpgradeRequest request = client_request();
    request.deflate = true;
    const std::string good =
        "HTTP/1.1 101 .\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: ";
    const std::string agreed = "permessage-deflate; server_no_context_takeover";
    expect_judgement(good + agreed + "\r\n\r\n", request, true, 101);
    expect_judgement(
        good + agreed + "; client_no_context_takeover; server_max_window_bits=9\r\n\r\n", request,
        true, 101);
    for (const std::string& answer :
         {std::string("permessage-deflate"), agreed + "; client_max_window_bits=9",
          agreed + "; unknown", agreed + ", " + agreed, agreed + "; server_max_window_bits=7",
          agreed + "; server_max_window_bits", std::string("foo"), agreed + ", foo", agreed + ";"})
        expect_judgement(good + answer + "\r\n\r\n", request, false, 101);
}

}  // namespace
}  // namespace pulse::test
