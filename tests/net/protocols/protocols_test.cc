// Every row of kProtocols, whatever it is: looked up, detected, refused, and spoken through a whole
// reactor as far as a row says by itself what is spoken. A new row is tested here without a line.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "net/protocols/first_bytes.h"
#include "net/protocols/listen_uri.h"
#include "net/protocols/protocol.h"
#include "proto/limits.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

std::span<const uint8_t> bytes_of(std::string_view text) { return binary::bytes_of(text); }

uint8_t row_of(const Protocol* protocol) {
    const auto row = std::ranges::find(all_protocols(), protocol);
    return static_cast<uint8_t>(row - all_protocols().begin());
}

class EachProtocol : public testing::TestWithParam<const Protocol*> {
  protected:
    const Protocol& protocol() const { return *GetParam(); }
    uint8_t row() const { return row_of(GetParam()); }
    std::string uri() const { return std::string(protocol().scheme) + "://10.0.0.1:9000"; }
};
INSTANTIATE_TEST_SUITE_P(Rows, EachProtocol,
                         testing::ValuesIn(all_protocols().begin(), all_protocols().end()),
                         [](const auto& row) { return std::string(row.param->name); });

TEST_P(EachProtocol, HasNamesOfItsOwn) {
    EXPECT_FALSE(protocol().name.empty());
    EXPECT_FALSE(protocol().title.empty());
    for (const Protocol* other : all_protocols()) {
        if (other == &protocol()) continue;
        EXPECT_NE(other->name, protocol().name);
        EXPECT_TRUE(protocol().scheme.empty() || other->scheme != protocol().scheme);
    }
}

TEST_P(EachProtocol, IsItsListenersSchemeAndIsInTheHelp) {
    if (protocol().scheme.empty()) return;
    EXPECT_EQ(find_scheme(protocol().scheme), row());
    const Result<ListenAddress> listener = parse_listen_uri(uri());
    ASSERT_TRUE(listener) << listener.error();
    EXPECT_EQ(listener->protocol, row());
    EXPECT_NE(scheme_list().find(std::string(protocol().scheme) + "://"), std::string::npos);
    EXPECT_NE(scheme_help().find(protocol().title), std::string::npos);
    const Result<ListenAddress> unknown = parse_listen_uri("x" + uri());
    ASSERT_FALSE(unknown);
    EXPECT_NE(unknown.error().find(std::string(protocol().scheme) + "://"), std::string::npos);
}

// A prefix may be the beginning of another, as an empty line is; then the longer one wins. Two that
// are the same would not tell.
TEST_P(EachProtocol, IsToldByItsPrefixesAndNoOtherIs) {
    for (const Prefix& prefix : protocol().prefixes) {
        EXPECT_LE(prefix.bytes.size() + (prefix.behind_empty_lines ? 4 : 0), kDetectBytesMax);
        std::string wire(prefix.bytes);
        if (wire == "\r") wire += "x";  // the first byte of an empty line waits for the second
        const FirstBytes first = classify(bytes_of(wire));
        EXPECT_EQ(first.kind, WireKind::spoken) << testing::PrintToString(wire);
        EXPECT_EQ(first.protocol, row()) << testing::PrintToString(wire);
        EXPECT_TRUE(first.fault.ok());
        EXPECT_FALSE(name_of_what_began(bytes_of(wire), first).empty());
        for (const Protocol* other : all_protocols()) {
            if (other->prefixes.empty() || other == &protocol()) continue;
            const FirstBytes there = classify(bytes_of(wire), row_of(other));
            EXPECT_EQ(there.fault.fault, CloseReason::wrong_protocol);
            EXPECT_EQ(there.fault.detail, other->only_this);
            EXPECT_FALSE(reject(there).view().empty()) << "a peer is told in its own words";
        }
    }
}

// A text asserts that nothing is cut.
TEST_P(EachProtocol, RefusesWithWordsThatAreWholeForEveryReason) {
    for (size_t reason = 0; reason < kCloseReasons; ++reason) {
        const RefusalMessage words =
            protocol().refuse(static_cast<CloseReason>(reason), UINT32_MAX);
        EXPECT_GT(words.bytes().size(), 8u) << kCloseReasonInfos[reason].name;
    }
}

// A first byte that is not whole, and then silence: the deadline of the handshake ends it, on a
// listener of its own and on one of all.
TEST_P(EachProtocol, IsGreetedByTheLoop) {
    if (protocol().prefixes.empty()) return;
    for (const std::string& listener : {uri(), std::string("auto://10.0.0.1:9000")}) {
        StagePlan plan{.listen = {listener}};
        plan.options.handshake_timeout = 2 * kSecond;
        ReactorStage stage(plan);
        const size_t peer = stage.connect(0);
        stage.write(peer, std::string(protocol().prefixes.front().bytes));
        stage.settle(kSecond);
        ASSERT_NE(stage.record(peer), nullptr);
        EXPECT_EQ(stage.record(peer)->protocol, row());
        EXPECT_GT(stage.record(peer)->stage, pulse::Stage::detect);
        stage.settle(2 * kSecond);
        EXPECT_TRUE(stage.ended(peer));
    }
}

TEST(Protocols, HaveWhatIsCalledOfEach) {
    for (const Protocol* row : all_protocols()) {
        EXPECT_NE(row->refuse, nullptr) << row->name;
        EXPECT_NE(row->reject, nullptr) << row->name;
        EXPECT_EQ(row->receive == nullptr, row == all_protocols()[kUndetected]) << row->name;
    }
}

TEST(Protocols, AgreeOnOneDialectAFraming) {
    std::set<std::pair<Framing, Dialect>> rows;
    for (const Protocol* row : all_protocols()) {
        EXPECT_TRUE(rows.insert({row->framing, row->dialect}).second) << row->name;
    }
    const uint8_t plain = row_of(&websocket_protocol), json = row_of(&websocket_json_protocol);
    EXPECT_EQ(with_dialect(plain, Dialect::json), json);
    EXPECT_EQ(with_dialect(json, Dialect::binary), json) << "once agreed on it stays";
    const uint8_t stream = row_of(&binary_protocol);
    EXPECT_EQ(with_dialect(stream, Dialect::json), stream);
    EXPECT_EQ(with_dialect(kUndetected, Dialect::json), kUndetected);
}

}  // namespace
}  // namespace pulse::test
