// Responses as pulsectl reads them, texts in queries, and the table of commands.
#include "tools/pulsectl/client.h"

#include <gtest/gtest.h>

#include <set>

#include "tools/pulsectl/commands.h"
#include "tools/pulsectl/table.h"

namespace pulse::ctl {
namespace {

TEST(Client, AResponseIsItsStatusAndItsWholeBody) {
    const auto answer = parse_response(
        "HTTP/1.1 503 Service Unavailable\r\nCONTENT-LENGTH:  4\r\nX: y\r\n\r\nbody and more");
    ASSERT_TRUE(answer) << answer.error();
    EXPECT_EQ(answer->status, 503);
    EXPECT_EQ(answer->body, "body");
    EXPECT_FALSE(answer->ok());
}

TEST(Client, AnInterimResponseIsPassedOver) {
    const auto answer =
        parse_response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    ASSERT_TRUE(answer) << answer.error();
    EXPECT_EQ(answer->status, 200);
}

TEST(Client, WhatIsCutShortOrNotHttpIsAnError) {
    const std::string_view whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    for (size_t bytes = 0; bytes < whole.size(); ++bytes)
        EXPECT_FALSE(parse_response(whole.substr(0, bytes))) << bytes;
    EXPECT_TRUE(parse_response(whole));
    EXPECT_FALSE(parse_response("SSH-2.0-x\r\n\r\n"));
    EXPECT_FALSE(parse_response("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc"));
}

TEST(EventReader, ReadsEventsInPiecesOfAnySize) {
    const std::string_view stream =
        ":\n\nevent: snapshot\ndata: {}\n\nid: 7.1.5.2\nevent: change\ndata:{\"a\":1}\n\n"
        "event: half";
    for (size_t piece = 1; piece <= stream.size(); ++piece) {
        EventReader reader;
        std::string seen;
        for (size_t from = 0; from < stream.size(); from += piece) {
            EXPECT_TRUE(reader.add(stream.substr(from, piece), [&](const Event& event) {
                seen += event.name + "|" + event.id + "|" + event.data + ";";
                return true;
            }));
        }
        EXPECT_EQ(seen, "snapshot||{};change|7.1.5.2|{\"a\":1};") << piece;
    }
    EventReader reader;
    int events = 0;
    EXPECT_FALSE(reader.add(stream, [&](const Event&) { return ++events < 1; }));
    EXPECT_EQ(events, 1) << "no more than it was asked for";
}

TEST(Client, AnErrorIsSaidAsTheServerSaysIt) {
    const Answer refused{400, R"({"error":{"status":400,"offender":"limit","reason":"'0' is out",
                                  "remedy":"write 1 to 1000"}})"};
    const auto object = Client::json(refused);
    ASSERT_FALSE(object);
    EXPECT_EQ(object.error(), "limit: '0' is out; write 1 to 1000");
    EXPECT_FALSE(Client::json(Answer{200, "[]"}));
    EXPECT_FALSE(Client::json(Answer{200, "{"}));
    EXPECT_TRUE(Client::json(Answer{503, R"({"ready":false})"}));
}

TEST(Client, PercentEncodingKeepsWhatIsPlain) {
    EXPECT_EQ(percent_encoded("r3-000123-9"), "r3-000123-9");
    EXPECT_EQ(percent_encoded("tcp://a b?\xC3\xBC"), "tcp%3A%2F%2Fa%20b%3F%C3%BC");
}

TEST(Commands, NamesAndFlagsAreUniqueAndEachIsInItsHelp) {
    std::set<std::string_view> names;
    for (const Command& command : commands()) {
        EXPECT_TRUE(names.insert(command.name).second) << command.name;
        EXPECT_NE(help().find("\n  " + std::string(command.name)), std::string::npos);
        std::set<std::string_view> flags;
        for (const Flag& flag : global_flags()) flags.insert(flag.name);
        for (const Flag& flag : command.flags) {
            EXPECT_TRUE(flags.insert(flag.name).second) << command.name << " " << flag.name;
            EXPECT_NE(help_of(command).find("\n  --" + std::string(flag.name)), std::string::npos);
        }
    }
}

TEST(Commands, HelpFitsATerminal) {
    std::string all = help();
    for (const Command& command : commands()) all += help_of(command);
    for (size_t from = 0; from < all.size();) {
        const size_t end = all.find('\n', from);
        EXPECT_LE(end - from, 96u) << all.substr(from, end - from);
        from = end + 1;
    }
}

TEST(Tables, ColumnsAreAsWideAsWhatIsInThem) {
    Table table({{"ID"}, {"IDLE", Table::Align::right}, {"WHERE"}});
    table.add({"r0-000001-0", "950 ms", "\xC3\xBC"});
    table.add({"r1", "12.3 s", "a\x1b[2Jb"});
    EXPECT_EQ(table.text(),
              "ID             IDLE  WHERE\n"
              "r0-000001-0  950 ms  \xC3\xBC\n"
              "r1           12.3 s  a\\x1b[2Jb\n");
}

TEST(Tables, NumbersAreShort) {
    EXPECT_EQ(grouped(0), "0");
    EXPECT_EQ(grouped(999), "999");
    EXPECT_EQ(grouped(1'234'567), "1,234,567");
    EXPECT_EQ(short_rate(0, ""), "0");
    EXPECT_EQ(short_rate(999.4, ""), "999");
    EXPECT_EQ(short_rate(1'000, ""), "1.00 k");
    EXPECT_EQ(short_rate(12'345'678, "B"), "12.3 MB");
    EXPECT_EQ(short_time(950), "950 ms");
    EXPECT_EQ(short_time(12'300), "12.3 s");
    EXPECT_EQ(short_time(245'000), "4 m 05 s");
    EXPECT_EQ(short_time(12'000'000), "3 h 20 m");
}

}  // namespace
}  // namespace pulse::ctl
