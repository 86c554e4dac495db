// JSON objects: what each kind says, what is given back as it came, what is wrong and where, and
// that what the writers write is JSON that says what it was given. nlohmann's parser, which shares
// nothing with ours, is the oracle.
#include "proto/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/random.h"

#include "tests/support/allocation_count.h"
#include "tests/support/recording_sink.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

using Oracle = nlohmann::json;

// A text, lent with nothing but the promised slack behind it, and what the parser made of it.
struct Parsed {
    explicit Parsed(std::string_view text) : lent(bytes_of(text)) {
        fault = parser.parse(lent.span(), message);
    }
    LentBytes lent;
    JsonParser parser;
    JsonMessage message;
    JsonFault fault;
};

std::string written(const json::Object& object) {
    std::vector<uint8_t> out(object.bytes());
    object.write(out.data());
    return {out.begin(), out.end()};
}

// ---------------------------------------------------------------------------------- what is said
TEST(JsonKinds, EveryTypeByItsName) {
    const std::pair<std::string_view, JsonKind> kinds[] = {
        {"ping", JsonKind::ping},
        {"heartbeat", JsonKind::ping},
        {"pong", JsonKind::pong},
        {"hello", JsonKind::hello},
        {"data", JsonKind::data},
        {"goodbye", JsonKind::goodbye},
        {"welcome", JsonKind::welcome},
        {"interval", JsonKind::interval},
        {"expiring", JsonKind::expiring},
        {"error", JsonKind::error},
        {"ack", JsonKind::ack},
        {"chat", JsonKind::application},
        {"Ping", JsonKind::application},
        {"", JsonKind::application},
        {"p\\u0069ng", JsonKind::ping},  // the same string, spelt otherwise
    };
    for (const auto& [name, kind] : kinds) {
        const Parsed parsed("{\"type\":\"" + std::string(name) + "\"}");
        EXPECT_TRUE(parsed.fault.ok()) << name << " " << parsed.fault.what;
        EXPECT_EQ(parsed.message.kind, kind) << name;
    }
    EXPECT_EQ(Parsed("PING").message.kind, JsonKind::bare_ping);
    EXPECT_EQ(Parsed("ping").message.kind, JsonKind::bare_ping);
    for (const char* near : {"Ping", "PING ", " ping", "PINGS", "pin", "PONG"}) {
        EXPECT_FALSE(Parsed(near).fault.ok()) << near;
        EXPECT_EQ(Parsed(near).message.kind, JsonKind::application) << near;
    }
}

TEST(JsonKinds, EveryFieldOfEveryKind) {
    const Parsed hello(
        R"({"type":"hello","user":"u1","device":"ios","token":"a\"b","profile":"mobile",)"
        R"("labels":{"ring":"canary","region":"","v\"1":"\u00e9"}})");
    ASSERT_TRUE(hello.fault.ok()) << hello.fault.what;
    EXPECT_TRUE(hello.message.has_type);
    EXPECT_EQ(hello.message.labels, 3u);
    EXPECT_EQ(hello.message.labels_text, "region= ring=canary v\"1=\u00e9") << "by name";
    EXPECT_EQ(hello.message.kind, JsonKind::hello);
    EXPECT_EQ(hello.message.user, "u1");
    EXPECT_EQ(hello.message.device, "ios");
    EXPECT_EQ(hello.message.token, "a\"b");
    EXPECT_EQ(hello.message.profile, "mobile");
    EXPECT_EQ(hello.message.traceparent, "");
    const Parsed traced(R"({"type":"hello","traceparent":"00-\u0061b-c-01"})");
    EXPECT_EQ(traced.message.traceparent, "00-ab-c-01") << "as it came, whatever it is";
    for (const char* other : {"7", "null", "[\"a\"]", "{}"}) {
        const Parsed passed(R"({"type":"hello","user":"u1","traceparent":)" + std::string(other) +
                            "}");
        EXPECT_TRUE(passed.fault.ok()) << other << passed.fault.what;
        EXPECT_EQ(passed.message.traceparent, "");
        EXPECT_EQ(passed.message.user, "u1");
    }
    const Parsed welcome(
        R"({"type":"welcome","conn":"r3-000123-9","interval_ms":60000,"timeout_ms":4294967295})");
    EXPECT_EQ(welcome.message.conn, "r3-000123-9");
    EXPECT_EQ(welcome.message.interval_ms, 60'000u);
    EXPECT_EQ(welcome.message.timeout_ms, UINT32_MAX);
    EXPECT_EQ(welcome.message.answer_every, 0u) << "it was not given";
    for (const char* type : {"hello", "welcome", "interval"}) {
        const Parsed asked(R"({"answer_every":8,"type":")" + std::string(type) + "\"}");
        EXPECT_EQ(asked.message.answer_every, 8u) << type << asked.fault.what;
    }
    const Parsed goodbye(
        R"({"type":"goodbye","code":65535,"reason":"idle_timeout","retry_after_ms":250})");
    EXPECT_EQ(goodbye.message.kind, JsonKind::goodbye);
    EXPECT_EQ(goodbye.message.code, 65'535);
    EXPECT_EQ(goodbye.message.reason, "idle_timeout");
    EXPECT_EQ(goodbye.message.retry_after_ms, 250u);
    const Parsed error(R"({"type":"error","code":1007,"message":"\u00e9\ud83d\ude00"})");
    EXPECT_EQ(error.message.code, 1'007);
    EXPECT_EQ(error.message.message, "\xC3\xA9\xF0\x9F\x98\x80");
}

TEST(JsonKinds, TheTypeMayComeLastAndWhiteSpaceAnywhere) {
    const Parsed parsed(
        " \t\r\n{ \"seq\" :\t7 ,\n\"ts\" : \"x y\" \r, \"type\" : \"ping\" } \n\t ");
    ASSERT_TRUE(parsed.fault.ok()) << parsed.fault.what;
    EXPECT_EQ(parsed.message.kind, JsonKind::ping);
    EXPECT_EQ(parsed.message.seq, "7");
    EXPECT_EQ(parsed.message.ts, "\"x y\"");
}

TEST(JsonKinds, SeqAndTsAreGivenBackAsTheyCame) {
    for (const char* token :
         {"7", "0", "-0", "-1", "1.5e3", "1E-7", "0.10", "18446744073709551615",
          "18446744073709551616", "123456789012345678901234567890", "1700000000.123456789",
          "4.9e-324", "1.7976931348623157e308", R"("")", R"("abc")", R"("\u0041\n\"\\\/")",
          "\"\xE4\xBD\xA0\"", R"("{\"a\":[1,2]}")", R"("a, \"ts\":5}")"}) {
        for (const char* behind : {"", " ", "\t\r\n "}) {
            const std::string seq_last = std::string(R"({"type":"ping","ts":)") + token + behind +
                                         R"(,"seq":)" + token + behind + "}";
            const Parsed parsed(seq_last);
            ASSERT_TRUE(parsed.fault.ok()) << seq_last << " " << parsed.fault.what;
            EXPECT_EQ(parsed.message.seq, token);
            EXPECT_EQ(parsed.message.ts, token);
            EXPECT_EQ(written(json::pong(parsed.message)),
                      std::string(R"({"type":"pong","seq":)") + token + R"(,"ts":)" + token + "}");
        }
    }
    EXPECT_EQ(written(json::pong(Parsed(R"({"type":"ping"})").message)), R"({"type":"pong"})");
    EXPECT_EQ(written(json::pong(Parsed(R"({"type":"ping","ts":1})").message)),
              R"({"type":"pong","ts":1})");
}

// ------------------------------------------------------------------------------- what is not ours
TEST(JsonApplication, ATypeThatIsNotOursIsAnApplications) {
    for (const char* text :
         {"{}", R"({"a":1})", R"({"type":"chat","seq":[1],"user":{"id":5},"code":"x"})",
          R"({"seq":[1,2],"type":"chat","seq":3})",
          // A message of the peers' may use our words for its own things.
          R"({"type":"data","message":{"text":"hi"},"code":"E1","ts":null,"user":7})"}) {
        const Parsed parsed(text);
        EXPECT_TRUE(parsed.fault.ok()) << text << " " << parsed.fault.what;
        EXPECT_LE(parsed.message.kind, JsonKind::data);
    }
}

TEST(JsonApplication, TextThatIsNotAnObjectIsAFaultWithoutAKind) {
    for (const char* text : {"", " ", "[]", "[{\"type\":\"ping\"}]", "\"ping\"", "7", "null",
                             "hello", "\xEF\xBB\xBF{}"}) {
        const Parsed parsed(text);
        EXPECT_EQ(parsed.fault.what, "is not a JSON object") << text;
        EXPECT_EQ(parsed.message.kind, JsonKind::application);
    }
}

// -------------------------------------------------------------------------------- what and where
struct Wrong {
    std::string text;
    std::string_view what;
    std::string_view key;
    size_t offset;
    JsonKind kind;
};

void expect_faults(std::span<const Wrong> cases) {
    for (const Wrong& wrong : cases) {
        const Parsed parsed(wrong.text);
        EXPECT_EQ(parsed.fault.what, wrong.what) << wrong.text;
        EXPECT_EQ(parsed.fault.key, wrong.key) << wrong.text;
        EXPECT_EQ(parsed.fault.offset, wrong.offset) << wrong.text;
        EXPECT_EQ(parsed.message.kind, wrong.kind) << wrong.text;
    }
}

constexpr std::string_view kNotAnswerEvery =
    "is not a whole number from 1 to 8; leave it out to have every heartbeat answered";

TEST(JsonFaults, EveryFaultNamesWhatAndWhere) {
    const std::string long_token(kJsonTokenBytesMax + 1, '1');
    const std::string long_string(kJsonStringBytesMax + 1, 'u');
    const Wrong cases[] = {
        {R"({"type":"ping","seq":1,"seq":1})", "stands twice", "seq", 29, JsonKind::ping},
        {R"({"seq":1,"s\u0065q":2,"type":"ping"})", "stands twice", "seq", 20, JsonKind::ping},
        {R"({"type":"ping","type":"ping"})", "stands twice", "type", 22, JsonKind::ping},
        {R"({"type":"data","type":"ping"})", "stands twice", "type", 22, JsonKind::data},
        {R"({"type":"ping","seq":1e999})", "is neither a number in range nor a string", "seq", 21,
         JsonKind::ping},
        {R"({"seq":-1e999,"type":"ping"})", "is neither a number in range nor a string", "seq", 7,
         JsonKind::ping},
        {R"({"type":"ping","seq":null})", "is neither a number in range nor a string", "seq", 21,
         JsonKind::ping},
        {R"({"type":"ping","ts":[1]})", "is neither a number in range nor a string", "ts", 20,
         JsonKind::ping},
        {R"({"type":"ping","ts":{"a":1},"seq":true})", "is neither a number in range nor a string",
         "ts", 20, JsonKind::ping},
        {R"({"type":"ping","seq":01})", "is neither a number in range nor a string", "seq", 21,
         JsonKind::ping},
        {R"({"type":"ping","seq":1.})", "is neither a number in range nor a string", "seq", 21,
         JsonKind::ping},
        {R"({"type":"ping","seq":-})", "is neither a number in range nor a string", "seq", 21,
         JsonKind::ping},
        {R"({"type":"ping","seq":7x})", "is neither a number in range nor a string", "seq", 21,
         JsonKind::ping},
        {R"({"type":"ping","seq":x})", "is not a JSON value", "seq", 21, JsonKind::ping},
        {R"({"type":"ping","seq":"\q"})", "is not a JSON string", "seq", 21, JsonKind::ping},
        {R"({"type":"ping","seq":"\ud800"})", "is not a JSON string", "seq", 21, JsonKind::ping},
        {R"({"type":"ping","seq":)" + long_token + "}", "is too long to be given back", "seq", 21,
         JsonKind::ping},
        {R"({"type":5})", "is not a string", "type", 8, JsonKind::application},
        {R"({"type":"hello","user":7})", "is not a string", "user", 23, JsonKind::hello},
        {R"({"user":7,"type":"hello"})", "is not a string", "user", 8, JsonKind::hello},
        {R"({"user":7})", "is not a string", "user", 8, JsonKind::application},
        {R"({"type":"hello","token":")" + long_string + "\"}", "is too long", "token", 24,
         JsonKind::hello},
        {R"({"type":"hello","profile":7,"user":8})", "is not a string", "profile", 26,
         JsonKind::hello},
        {R"({"type":"hello","answer_every":9})", kNotAnswerEvery, "answer_every", 31,
         JsonKind::hello},
        {R"({"type":"welcome","answer_every":0})", kNotAnswerEvery, "answer_every", 33,
         JsonKind::welcome},
        {R"({"type":"interval","answer_every":"2"})", kNotAnswerEvery, "answer_every", 34,
         JsonKind::interval},
        {R"({"type":"goodbye","code":65536})", "is not a whole number in range", "code", 25,
         JsonKind::goodbye},
        {R"({"type":"goodbye","code":-1})", "is not a whole number in range", "code", 25,
         JsonKind::goodbye},
        {R"({"type":"interval","interval_ms":4294967296})", "is not a whole number in range",
         "interval_ms", 33, JsonKind::interval},
        {R"({"type":"interval","timeout_ms":1.5})", "is not a whole number in range", "timeout_ms",
         32, JsonKind::interval},
        {R"({"type":"ping"}{})", "has something behind the object", "", 15, JsonKind::ping},
        {R"({"type":"ping"} })", "has something behind the object", "", 16, JsonKind::ping},
        {"{\"type\":\"\xC3\x28\"}", "is not UTF-8", "", 10, JsonKind::application},
        {"{\"type\":\"ping\",\"x\":\"\xED\xA0\x80\"}", "is not UTF-8", "", 21,
         JsonKind::application},
        {"{\"x\":\"" + std::string(5'000, 'a') + "\xFF\"}", "is not UTF-8", "", 5'006,
         JsonKind::application},
        {"{\"type\":\"ping\",\"x\":\"\\\"a\nb\"}", "has a control character in a string", "", 23,
         JsonKind::application},
        {R"({"type":"ping)", "has a string without an end", "", 13, JsonKind::application},
    };
    expect_faults(cases);
}

TEST(JsonKinds, AHelloMayAskForASessionThatCanBeResumed) {
    const Parsed without(R"({"type":"hello","user":"u1"})");
    EXPECT_FALSE(without.message.resume);
    const Parsed asks(R"({"type":"hello","resume":{}})");
    EXPECT_TRUE(asks.message.resume);
    EXPECT_EQ(asks.message.resume_token.data(), nullptr);
    const Parsed names(
        R"({"type":"hello","resume":{"x":[1],"last_seq":9007199254740992,"token":"\u0061b"}})");
    EXPECT_TRUE(names.fault.ok()) << names.fault.what;
    EXPECT_EQ(names.message.resume_token, "ab");
    EXPECT_EQ(names.message.resume_last_seq, uint64_t{1} << 53);
    const Parsed empty(R"({"type":"hello","resume":{"token":""}})");
    EXPECT_NE(empty.message.resume_token.data(), nullptr) << "it names one, which there is not";
    const Parsed ack(R"({"received":12,"type":"ack"})");
    EXPECT_EQ(ack.message.received, 12u);
}

TEST(JsonFaults, ResumeIsAnObjectOfATokenAndANumber) {
    const std::string_view number = "has a last_seq that is not a whole number from 0 to 2^53";
    const Wrong cases[] = {
        {R"({"type":"hello","resume":true})",
         "is not a JSON object", "resume", 25, JsonKind::hello},
        {R"({"type":"hello","resume":{"token":7}})", "has a token that is not a string", "resume",
         25, JsonKind::hello},
        {R"({"type":"hello","resume":{"token":"a","token":"b"}})", "has a token twice", "resume",
         25, JsonKind::hello},
        {R"({"type":"hello","resume":{"last_seq":1,"last_seq":1}})", "has last_seq twice",
         "resume", 25, JsonKind::hello},
        {R"({"type":"hello","resume":{"last_seq":-1},"user":"u"})", number, "resume", 25,
         JsonKind::hello},
        {R"({"type":"hello","resume":{"last_seq":9007199254740993}})", number, "resume", 25,
         JsonKind::hello},
        {R"({"type":"ack","received":"1"})", "is not a whole number from 0 to 2^53", "received", 25,
         JsonKind::ack},
    };
    expect_faults(cases);
}

TEST(JsonKinds, AHelloMayBeOfASideConnectionOrSayWhatThoseFound) {
    const Parsed without(R"({"type":"hello","probe":false})");
    EXPECT_FALSE(without.message.probe || without.message.nat);
    EXPECT_TRUE(Parsed(R"({"type":"hello","probe":true})").message.probe);
    const Parsed begins(R"({"type":"hello","nat":{}})");
    EXPECT_TRUE(begins.message.nat);
    EXPECT_EQ(begins.message.nat_kept_ms, 0u);
    const Parsed found(
        R"({"type":"hello","nat":{"network":"x","lost_ms":290000,"kept_ms":270000}})");
    EXPECT_TRUE(found.fault.ok()) << found.fault.what;
    EXPECT_EQ(found.message.nat_kept_ms, 270'000u);
    EXPECT_EQ(found.message.nat_lost_ms, 290'000u);
    EXPECT_TRUE(Parsed(R"({"type":"welcome","nat":{"kept_ms":30000}})").message.nat);
}

TEST(JsonFaults, NatIsAnObjectOfNumbersAndProbeABoolean) {
    const std::string_view number = "has a silence that is not a whole number in range";
    const Wrong cases[] = {
        {R"({"type":"hello","probe":1})", "is neither true nor false", "probe", 24,
         JsonKind::hello},
        {R"({"type":"hello","nat":true})", "is not a JSON object", "nat", 22, JsonKind::hello},
        {R"({"type":"hello","nat":{"kept_ms":"1"}})", number, "nat", 22, JsonKind::hello},
        {R"({"type":"hello","nat":{"lost_ms":4294967296}})", number, "nat", 22, JsonKind::hello},
        {R"({"type":"hello","nat":{"kept_ms":1,"kept_ms":1}})", "has a silence twice", "nat", 22,
         JsonKind::hello},
    };
    expect_faults(cases);
}

TEST(JsonFaults, LabelsAreAnObjectOfShortStrings) {
    const std::string long_label(kLabelBytesMax + 1, 'l');
    const Wrong cases[] = {
        {R"({"type":"hello","labels":["a"]})",
         "is not a JSON object", "labels", 25, JsonKind::hello},
        {R"({"type":"hello","labels":null})",
         "is not a JSON object", "labels", 25, JsonKind::hello},
        {R"({"labels":{"a":{"b":"c"}},"type":"hello"})", "has a value that is not a string",
         "labels", 10, JsonKind::hello},
        {R"({"type":"hello","labels":{"a":"b","c":7}})", "has a value that is not a string",
         "labels", 25, JsonKind::hello},
        {R"({"type":"hello","labels":{"a":"b","\u0061":"c"}})", "has a name twice", "labels", 25,
         JsonKind::hello},
        {R"({"type":"hello","labels":{"a":")" + long_label + "\"}}", "has a value that is too long",
         "labels", 25, JsonKind::hello},
        {R"({"type":"hello","labels":{")" + long_label + "\":\"\"}}", "has a name that is too long",
         "labels", 25, JsonKind::hello},
        {R"({"type":"hello","labels":{},"labels":{}})", "stands twice", "labels", 37,
         JsonKind::hello},
    };
    expect_faults(cases);
}

TEST(JsonFaults, TextThatIsNotJsonIsAFaultAtAByteOfIt) {
    for (const char* text : {"{", "}", "{]", "{\"type\"}", "{\"type\":}", "{\"type\":\"ping\"",
                             "{\"type\":\"ping\",}", "{\"type\":\"ping\" \"seq\":1}", "{,}",
                             "{\"type\":\"ping\"]", "{\"type\" \"ping\"}", "{\"a\":[1,2}", "{1:2}",
                             "{type:\"ping\"}", "{\"type\":\"ping\"} x", "{\"a\":{\"b\":1}"}) {
        const Parsed parsed(text);
        EXPECT_FALSE(parsed.fault.ok()) << text;
        EXPECT_LE(parsed.fault.offset, std::strlen(text)) << text;
    }
}

TEST(JsonFaults, AParserIsAsGoodAsNewAfterEveryFault) {
    JsonParser parser;
    LentBytes good(bytes_of(R"({"seq":1,"type":"ping"})"));
    for (const char* text :
         {"{", "{\"seq\":1,\"seq\":2}", "{\"type\":\"ping\"}{", "\xFF", "{}{}"}) {
        JsonMessage message;
        LentBytes bad(bytes_of(text));
        EXPECT_FALSE(parser.parse(bad.span(), message).ok()) << text;
        EXPECT_TRUE(parser.parse(good.span(), message).ok()) << text;
        EXPECT_EQ(message.kind, JsonKind::ping);
        EXPECT_EQ(message.seq, "1");
    }
}

TEST(JsonLimits, DepthIsCountedOutsideOfStrings) {
    const auto nested = [](size_t depth) {
        return R"({"type":"data","d":)" + std::string(depth - 1, '[') +
               std::string(depth - 1, ']') + "}";
    };
    EXPECT_TRUE(Parsed(nested(kJsonDepthMax)).fault.ok());
    const Parsed deep(nested(kJsonDepthMax + 1));
    EXPECT_EQ(deep.fault.what, "is too deep");
    EXPECT_EQ(deep.fault.offset, 19 + kJsonDepthMax - 1);
    const std::string brackets(1'000, '[');
    EXPECT_TRUE(Parsed(R"({"type":"data","d":"\")" + brackets + "\"}").fault.ok());
    EXPECT_EQ(Parsed(R"({"type":"data","d\\":)" + brackets + "}").fault.what, "is too deep");
    EXPECT_FALSE(Parsed("{\"d\":" + std::string(100'000, '[')).fault.ok());
    // Many beside each other are not deep.
    std::string wide = R"({"type":"data","d":[)";
    for (int at = 0; at < 500; ++at) wide += "{},";
    EXPECT_TRUE(Parsed(wide + "0]}").fault.ok());
}

TEST(JsonLimits, TheLongestObjectAndOneByteMore) {
    const std::string begin = R"({"type":"data","d":")";
    const std::string end = "\"}";
    const std::string longest =
        begin + std::string(kJsonBytesMax - begin.size() - end.size(), 'd') + end;
    ASSERT_EQ(longest.size(), kJsonBytesMax);
    EXPECT_TRUE(Parsed(longest).fault.ok());
    EXPECT_EQ(Parsed(longest + " ").fault.what, "is too long");
    const std::string string(kJsonStringBytesMax, 's');
    EXPECT_EQ(Parsed(R"({"type":"hello","token":")" + string + "\"}").message.token, string);
    const std::string user(kUserBytesMax, 'u'), device(kDeviceBytesMax, 'd');
    const auto hello = [](const std::string& name, const std::string& of) {
        return R"({"type":"hello","user":")" + name + R"(","device":")" + of + "\"}";
    };
    EXPECT_EQ(Parsed(hello(user, device)).message.user, user);
    EXPECT_EQ(Parsed(hello(user, device)).message.device, device);
    EXPECT_EQ(Parsed(hello(user + "u", device)).fault.what, "is too long");
    EXPECT_EQ(Parsed(hello(user, device + "d")).fault.key, "device");
    EXPECT_EQ(Parsed(hello("", device)).fault.what, "is empty");
    const std::string token(kJsonTokenBytesMax, '1');
    EXPECT_EQ(Parsed(R"({"type":"ping","seq":)" + token + "}").message.seq, token);
}

// Which labels a connection has is told by comparing texts.
TEST(JsonLabels, TheSameLabelsAreTheSameTextInAnyOrder) {
    const auto text = [](const std::string& labels) {
        const Parsed parsed(R"({"type":"hello","labels":)" + labels + "}");
        EXPECT_TRUE(parsed.fault.ok()) << labels;
        return std::string(parsed.message.labels_text);
    };
    EXPECT_EQ(text(R"({"ring":"canary","region":"eu"})"), "region=eu ring=canary");
    EXPECT_EQ(text(R"({"region":"eu","ring":"canary"})"), "region=eu ring=canary");
    EXPECT_EQ(text("{}"), "");
    EXPECT_EQ(text(R"({"a b":"c=d%","e":"\n"})"), "a%20b=c%3Dd%25 e=%0A");
    EXPECT_NE(text(R"({"a":"b c=d"})"), text(R"({"a":"b","c":"d"})"));
}

TEST(JsonLimits, AsManyLabelsAsThereMayBeAndOneMore) {
    const auto hello = [](uint32_t labels) {
        std::string text;
        for (uint32_t label = 0; label < labels; ++label) {
            std::string name = std::to_string(label);
            name.resize(15, '-');
            text += (label > 0 ? ",\"" : "\"") + name + "\":\"" + std::string(15, 'v') + "\"";
        }
        return R"({"labels":{)" + text + R"(},"type":"hello","user":"u"})";
    };
    for (const uint32_t labels : {0u, 1u, kLabelsMax}) {
        const Parsed parsed(hello(labels));
        EXPECT_TRUE(parsed.fault.ok()) << parsed.fault.what;
        EXPECT_EQ(parsed.message.labels, labels);
        EXPECT_EQ(parsed.message.user, "u");
    }
    EXPECT_EQ(Parsed(hello(kLabelsMax)).message.labels_text.size(), kLabelsBytesMax - 1);
    EXPECT_EQ(Parsed(hello(kLabelsMax + 1)).fault.what, "are too many");
    const std::string longest(kLabelBytesMax, 'l');
    std::string text;
    for (char label = 'a'; label < 'e'; ++label)
        text += std::string(text.empty() ? "\"" : ",\"") + label + longest.substr(1) + "\":\"" +
                longest + '"';
    EXPECT_EQ(Parsed(R"({"type":"hello","labels":{)" + text + "}}").fault.what,
              "are too long together");
    // Where they are not read they are anything.
    EXPECT_TRUE(Parsed(R"({"type":"data","labels":[1,{"a":2}]})").fault.ok());
    EXPECT_TRUE(Parsed(R"({"labels":{"a":[{}],"b":1},"type":"chat","x":{}})").fault.ok());
}

// -------------------------------------------------------------------------------------- an oracle
// What nlohmann says a text is; duplicate keys it does not mind.
JsonKind oracle_kind(const Oracle& object) {
    const auto type = object.find("type");
    if (type == object.end() || !type->is_string()) return JsonKind::application;
    return Parsed("{\"type\":" + type->dump() + "}").message.kind;
}

std::string random_value(Random& random, int depth) {
    switch (random.below(depth > 3 ? 6 : 8)) {
        case 0:
            return std::to_string(random.next() >> random.below(64));
        case 1:
            return "-" + std::to_string(random.below(1'000)) + ".5e" +
                   std::to_string(random.below(400));
        case 2:
            return "\"" + std::string(random.below(20), 's') + "\\u00e9\\n\"";
        case 3:
            return random.chance(1, 2) ? "true" : "null";
        case 4:
            return "\"ping\"";
        case 5:
            return "\"\xE2\x82\xAC{[\\\"\"";
        case 6:
            return "[" + random_value(random, depth + 1) + ", " + random_value(random, depth + 1) +
                   "]";
        default:
            return "{\"type\":" + random_value(random, depth + 1) + " }";
    }
}

std::string random_object(Random& random) {
    static constexpr std::string_view kNames[] = {"type", "type", "seq",  "ts",    "user",
                                                  "code", "x",    "conn", "reason"};
    std::string text = "{";
    for (uint64_t at = random.below(6); at > 0; --at) {
        const std::string_view name = kNames[random.below(std::size(kNames))];
        text += "\"" + std::string(name) + "\":";
        text += name == "type" && random.chance(3, 4) ? "\"heartbeat\"" : random_value(random, 0);
        if (at > 1) text += random.chance(1, 2) ? "," : " ,\n";
    }
    text += "}";
    if (random.chance(1, 4)) text[random.below(text.size())] = static_cast<char>(random.next());
    if (random.chance(1, 20)) text.resize(random.below(text.size()));
    return text;
}

TEST(JsonOracle, WhatWeTakeIsJsonAndMeansTheSame) {
    Random random(1);
    uint64_t taken = 0;
    uint64_t refused = 0;
    const uint64_t rounds = scaled(60'000);
    for (uint64_t round = 0; round < rounds; ++round) {
        const std::string text = random_object(random);
        const Parsed parsed(text);
        ASSERT_LE(parsed.fault.offset, text.size());
        const Oracle oracle = Oracle::parse(text, nullptr, false);
        if (!parsed.fault.ok()) {
            ++refused;
            continue;
        }
        ++taken;
        // Values of keys that are not read are passed over, so that an object may be taken here
        // that is none; but a ping that is answered is JSON in all that is given back.
        if (oracle.is_discarded()) continue;
        ASSERT_EQ(parsed.message.kind, oracle_kind(oracle)) << text;
        if (parsed.message.kind != JsonKind::ping) continue;
        for (const auto& [key, token] :
             {std::pair{"seq", parsed.message.seq}, std::pair{"ts", parsed.message.ts}}) {
            ASSERT_EQ(oracle.contains(key), !token.empty()) << text;
            if (token.empty()) continue;
            ASSERT_EQ(Oracle::parse(token), oracle[key]) << text;
        }
        const std::string pong = written(json::pong(parsed.message));
        ASSERT_EQ(Oracle::parse(pong)["type"], "pong") << pong;
    }
    EXPECT_GT(taken, rounds / 10);
    EXPECT_GT(refused, rounds / 10);
}

TEST(JsonOracle, EveryPrefixOfAnObjectIsRefused) {
    const std::string text =
        R"({"type":"hello","user":"\u00e9","labels":{"a":"b","c":"[1,2.5e3"},"x":[1,2.5e3,null]})";
    ASSERT_TRUE(Parsed(text).fault.ok());
    for (size_t bytes = 0; bytes < text.size(); ++bytes) {
        const Parsed parsed(text.substr(0, bytes));
        ASSERT_FALSE(parsed.fault.ok()) << bytes;
        ASSERT_LE(parsed.fault.offset, bytes);
    }
}

// ---------------------------------------------------------------------------------- what we write
TEST(JsonWriters, EveryByteIsEscapedSoThatItComesBack) {
    for (int byte = 0; byte < 128; ++byte) {
        const std::string text = std::string("a") + static_cast<char>(byte) + "b";
        const std::string line = written(json::error(1'007, text));
        EXPECT_EQ(Oracle::parse(line)["message"], text) << byte;
        const Parsed parsed(line);
        EXPECT_TRUE(parsed.fault.ok()) << byte;
        EXPECT_EQ(parsed.message.message, text) << byte;
        EXPECT_EQ(line.find('\n'), std::string::npos);
    }
    Random random(2);
    for (uint64_t round = 0; round < scaled(5'000); ++round) {
        std::string text;
        for (uint64_t at = random.below(60); at > 0; --at) {
            text += random.chance(1, 5) ? "\xF0\x9F\x98\x80"
                                        : std::string(1, static_cast<char>(random.below(128)));
        }
        EXPECT_EQ(Oracle::parse(written(json::error(1, text)))["message"], text);
        ASSERT_EQ(Parsed(written(json::error(1, text))).message.message, text);
    }
}

TEST(JsonWriters, EveryObjectSaysWhatItWasGiven) {
    EXPECT_EQ(Oracle::parse(written(json::interval(60'000, UINT32_MAX, 1))),
              (Oracle{{"type", "interval"}, {"interval_ms", 60'000}, {"timeout_ms", UINT32_MAX}}));
    EXPECT_EQ(
        Oracle::parse(written(json::interval(1, 2, 8))),
        (Oracle{{"type", "interval"}, {"interval_ms", 1}, {"timeout_ms", 2}, {"answer_every", 8}}));
    EXPECT_EQ(Oracle::parse(written(json::expiring(60'000))),
              (Oracle{{"type", "expiring"}, {"in_ms", 60'000}}));
    EXPECT_EQ(Oracle::parse(written(json::goodbye(4'003, "idle_timeout", 0))),
              (Oracle{{"type", "goodbye"}, {"code", 4'003}, {"reason", "idle_timeout"}}));
    EXPECT_EQ(Oracle::parse(written(json::goodbye(1'001, "going \"away\"", 4'294'967'295))),
              (Oracle{{"type", "goodbye"},
                      {"code", 1'001},
                      {"reason", "going \"away\""},
                      {"retry_after_ms", 4'294'967'295}}));
    EXPECT_EQ(Oracle::parse(written(json::error(65'535, ""))),
              (Oracle{{"type", "error"}, {"code", 65'535}, {"message", ""}}));
    EXPECT_EQ(Oracle::parse(json::kProbe), (Oracle{{"type", "ping"}}));
    json::Object three;
    three.raw("[").number(0).raw(",").number(UINT64_MAX).raw(",").number(UINT64_MAX).raw("]");
    EXPECT_EQ(written(three), "[0,18446744073709551615,18446744073709551615]");
}

TEST(JsonWriters, ACopyOfAnObjectSaysTheSame) {
    json::Object object = json::interval(30'000, 90'000, 1);
    const json::Object copy = object;
    object = json::interval(11'111, 22'222, 1);
    EXPECT_EQ(written(copy), R"({"type":"interval","interval_ms":30000,"timeout_ms":90000})");
    EXPECT_EQ(written(object), R"({"type":"interval","interval_ms":11111,"timeout_ms":22222})");
}

// ------------------------------------------------------------------------------------- allocation
TEST(JsonCost, AHeartbeatAnsweredAllocatesNothingAfterTheFirst) {
    if (!kAllocationsCounted) GTEST_SKIP() << "a sanitizer brings an allocator of its own";
    JsonParser parser;
    std::array<uint8_t, 256> out;
    LentBytes ping(bytes_of(R"({"type":"ping","seq":7,"ts":1700000000.123})"));
    LentBytes heartbeat(bytes_of(R"({"type":"heartbeat","seq":"abc\u0041"})"));
    LentBytes wrong(bytes_of(R"({"type":"ping","seq":[1],"seq":2})"));
    const auto round = [&] {
        for (LentBytes* text : {&ping, &heartbeat, &wrong}) {
            JsonMessage message;
            static_cast<void>(parser.parse(text->span(), message));
            json::pong(message).write(out.data());
        }
    };
    round();
    const uint64_t before = allocations();
    for (int at = 0; at < 1'000; ++at) round();
    EXPECT_EQ(allocations(), before);
}

// One function makes JSON of any text: of paths and peers' words in logs as well.
TEST(JsonEscape, WhateverTheTextItIsJsonAndPrintable) {
    const std::pair<std::string, std::string> rows[] = {
        {"plain", "plain"},
        {"\"\\", "\\\"\\\\"},
        {std::string("\0\x1f\x7f", 3), "\\u0000\\u001f\\u007f"},
        {"/etc/\xff\xfe.toml", "/etc/\\ufffd\\ufffd.toml"},
        {"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc2\x9b"
         "31m",
         "\\u009b31m"},
        {"\xc2", "\\ufffd"},
        {"\xc0\x80", "\\ufffd\\ufffd"},
        {"\xed\xa0\x80x", "\\ufffd\\ufffd\\ufffdx"},
        {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"},
    };
    const auto escaped = [](std::string_view text) {
        std::string out(json::escaped_bytes(text), '\0');
        auto* const begin = reinterpret_cast<uint8_t*>(out.data());
        EXPECT_EQ(json::write_escaped(begin, text), begin + out.size());
        return out;
    };
    for (const auto& [text, wanted] : rows) EXPECT_EQ(escaped(text), wanted);
    Random random(7);
    for (int run = 0; run < 20'000; ++run) {
        std::string text(random.below(12), '\0');
        for (char& byte : text) byte = static_cast<char>(random.next());
        const std::string out = '"' + escaped(text) + '"';
        ASSERT_TRUE(nlohmann::json::accept(out)) << testing::PrintToString(text);
    }
}

}  // namespace
}  // namespace pulse::test
