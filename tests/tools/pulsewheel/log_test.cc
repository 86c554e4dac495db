// Log lines that name what peers sent and users chose.
#include "tools/pulsewheel/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "proto/binary.h"
#include "proto/utf8.h"
#include "tools/pulsewheel/line_limiter.h"

namespace pulse::serve {
namespace {

using std::string_literals::operator""s;

// A new line, a forged one behind it, colours, C1's CSI, bytes that are not UTF-8.
const std::string kHostile =
    "it sent 'a\n2026-01-01 00:00:00.000 info  all is well\r\x1b[31m\x7f\0\xc2\x9b"
    "2J\xff\xc0\xaf\xed\xa0\x80\xe2\x80\xae' \xc3\xa4"s;

class LogTest : public testing::Test {
  protected:
    void SetUp() override {
        char path[] = "/tmp/pulsewheel_log_XXXXXX";
        directory_ = mkdtemp(path);
    }
    void TearDown() override {
        spdlog::shutdown();
        std::filesystem::remove_all(directory_);
    }
    // What one line of the log becomes in its file.
    std::string logged(LogFormat format, const std::string& line) {
        return logged_by(format, [&line](Log&) { spdlog::warn("{}", line); });
    }
    template <class Write>
    std::string logged_by(LogFormat format, Write&& write) {
        ServerOptions options;
        options.log_file = directory_ + "/log";
        options.log_format = format;
        Result<Log> log = Log::open(options);
        EXPECT_TRUE(log) << log.error();
        write(*log);
        log->finish(10 * kSecond);
        std::ostringstream text;
        text << std::ifstream(options.log_file, std::ios::binary).rdbuf();
        return text.str();
    }
    std::string directory_;
};

void expect_one_clean_line(const std::string& text) {
    ASSERT_FALSE(text.empty());
    EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
    EXPECT_TRUE(utf8_valid(binary::bytes_of(text)));
    for (size_t at = 0; at + 1 < text.size(); ++at) {
        const auto byte = static_cast<uint8_t>(text[at]);
        EXPECT_TRUE(byte >= 0x20 && byte != 0x7F) << at;
        EXPECT_FALSE(byte == 0xC2 && static_cast<uint8_t>(text[at + 1]) < 0xA0) << at;
    }
}

TEST_F(LogTest, ATextLineHasNoControlCharacters) {
    const std::string text = logged(LogFormat::text, kHostile);
    expect_one_clean_line(text);
    EXPECT_NE(text.find("warn"), std::string::npos) << text;
    EXPECT_TRUE(
        text.ends_with("it sent 'a\\x0a2026-01-01 00:00:00.000 info  all is well\\x0d\\x1b[31m"
                       "\\x7f\\x00\\x9b2J\\xff\\xc0\\xaf\\xed\\xa0\\x80\\u202e' \xc3\xa4\n"))
        << text;
}

TEST_F(LogTest, AJsonLineIsJson) {
    const std::string text = logged(LogFormat::json, kHostile);
    expect_one_clean_line(text);
    const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
    ASSERT_FALSE(object.is_discarded()) << text;
    EXPECT_EQ(object["level"], "warning");
}

TEST_F(LogTest, IsJsonWhereNoTerminalReadsIt) {
    const std::string text = logged(LogFormat::automatic, "a line");
    EXPECT_EQ(nlohmann::json::parse(text)["message"], "a line");
}

// ------------------------------------------------------------------------------------ the events
// As a user, a label, a path or a reason may be.
LogEvent hostile_event() {
    return {"r0-000001-0 closed: " + kHostile,
            {{"event", "close"},
             {"connection", "r0-000001-0"},
             {"detail", kHostile + "\",\"event\":\"forged"},
             {"duration_s", "1.500", true}}};
}

TEST_F(LogTest, AnEventHasItsFactsAsMembersOfJson) {
    const std::string text = logged_by(LogFormat::json, [](Log&) { Log::event(hostile_event()); });
    expect_one_clean_line(text);
    const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
    ASSERT_FALSE(object.is_discarded()) << text;
    EXPECT_EQ(object["level"], "info");
    EXPECT_EQ(object["event"], "close");
    EXPECT_EQ(object["duration_s"], 1.5);
    EXPECT_EQ(object.size(), 7u) << text;
    const std::string detail = object["detail"];
    EXPECT_TRUE(detail.ends_with("\",\"event\":\"forged")) << detail;
    EXPECT_TRUE(detail.starts_with("it sent 'a\n2026-01-01")) << detail;
}

TEST_F(LogTest, AnEventIsALineOfText) {
    const std::string text = logged_by(LogFormat::text, [](Log&) { Log::event(hostile_event()); });
    expect_one_clean_line(text);
    EXPECT_NE(text.find(" info  r0-000001-0 closed: it sent 'a\\x0a2026"), std::string::npos)
        << text;
}

// ------------------------------------------------------------------------------------- the limit
std::vector<std::string> lines_of(const std::string& text) {
    std::istringstream stream(text);
    std::vector<std::string> lines;
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

TEST_F(LogTest, OneMessageIsLimitedAndWhatIsLeftOutIsCounted) {
    const std::string text = logged_by(LogFormat::text, [](Log&) {
        for (int i = 0; i < 10'000; ++i) spdlog::warn("reactor {} is short of buffers", i);
        spdlog::warn("another message");
        for (int i = 0; i < 200; ++i) Log::event(hostile_event());
    });
    uint64_t logged = 0, left_out = 0, events = 0, others = 0;
    for (const std::string& line : lines_of(text)) {
        const size_t count_at = line.find(" left out ");
        events += line.find(" closed: it sent ") != std::string::npos;
        others += line.find("another message") != std::string::npos;
        logged += line.find(" warning reactor ") != std::string::npos;
        if (count_at != std::string::npos)
            left_out += std::stoull(line.substr(count_at + 10));
        else if (const size_t open = line.rfind('('); line.ends_with(" were left out)"))
            left_out += std::stoull(line.substr(open + 1));
    }
    EXPECT_EQ(logged + left_out, 10'000u) << text.substr(0, 2'000);
    EXPECT_GE(logged, 100u);
    EXPECT_LT(logged, 1'000u);
    EXPECT_EQ(others, 1u);
    EXPECT_EQ(events, 200u) << "chosen already, and not limited again";
}

// Also where --log-level leaves out the warning that would say so.
TEST_F(LogTest, WhatIsLeftOutIsCountedAtItsLevel) {
    const std::string text = logged_by(LogFormat::text, [](Log&) {
        spdlog::default_logger()->set_level(spdlog::level::err);
        for (int i = 0; i < 10'000; ++i) spdlog::error("reactor {} is broken", i);
    });
    EXPECT_NE(text.find(" error log: left out "), std::string::npos) << text.substr(0, 2'000);
}

TEST(LineLimiter, KnowsAMessageByItsWords) {
    const auto words = LineLimiter::words_of;
    EXPECT_EQ(words("reactor 3 is short: 17 of 20 KiB"), words("reactor 12 is short: 4 of 20 KiB"));
    EXPECT_EQ(words("r0-000001-0 sent 'a' on tcp://10.0.0.1:1"),
              words("r7-000009-2 sent 'b c'd' on tcp://10.0.0.2:1"));
    EXPECT_EQ(words("peer's 'x'"), words("peer's 'it's 5 o'clock'"));
    EXPECT_NE(words("reload: tick: 1"), words("reload: pin: 1"));
    EXPECT_NE(words("peer's end"), words("peer's beginning"));
}

TEST(LineLimiter, AllowsARateAndCountsTheRest) {
    LineLimiter limiter;
    limiter.set({.events = 2, .period = kSecond, .burst = 3});
    Nanos now = 100 * kSecond;
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.judge("a 1", now).passes);
    for (int i = 0; i < 5; ++i) EXPECT_FALSE(limiter.judge("a 2", now).passes);
    EXPECT_TRUE(limiter.judge("b 1", now).passes) << "another message";
    now += kSecond / 2;
    const LineLimiter::Verdict next = limiter.judge("a 3", now);
    EXPECT_TRUE(next.passes);
    EXPECT_EQ(next.left_out, 5u);
    EXPECT_FALSE(limiter.judge("a 4", now).passes);
    EXPECT_TRUE(limiter.take_quiet(now + LineLimiter::kQuietNs - 1).empty());
    const auto quiet = limiter.take_quiet(now + LineLimiter::kQuietNs);
    ASSERT_EQ(quiet.size(), 1u);
    EXPECT_EQ(quiet[0].lines, 1u);
    EXPECT_EQ(quiet[0].first, "a 4");
    EXPECT_TRUE(limiter.take_quiet(kNever).empty()) << "once";
    limiter.set({});
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(limiter.judge("a 5", now).passes);
}

// Words that peers choose, outside quotation marks: they get one rate together.
TEST(LineLimiter, RemembersABoundedNumberOfMessages) {
    LineLimiter limiter;
    limiter.set({.events = 1, .period = kSecond, .burst = 1});
    size_t passed = 0;
    for (int i = 0; i < 5'000; ++i) {
        std::string word = "word";
        for (int rest = i; rest > 0; rest /= 26) word += static_cast<char>('a' + rest % 26);
        passed += limiter.judge(word, 100 * kSecond).passes;
    }
    EXPECT_EQ(passed, LineLimiter::kMessagesMax + 1);
    EXPECT_EQ(limiter.messages(), LineLimiter::kMessagesMax + 1);
    uint64_t left_out = 0;
    for (const auto& message : limiter.take_quiet(kNever)) left_out += message.lines;
    EXPECT_EQ(passed + left_out, 5'000u);
}

// --------------------------------------------------------------------------------- where it goes
TEST(IsJournal, ByTheDeviceAndTheInode) {
    const int descriptor = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct stat status{};
    ASSERT_EQ(fstat(descriptor, &status), 0);
    const std::string here = fmt::format("{}:{}", status.st_dev, status.st_ino);
    EXPECT_TRUE(is_journal(descriptor, here.c_str()));
    EXPECT_FALSE(is_journal(descriptor, (here + "1").c_str()));
    EXPECT_FALSE(is_journal(descriptor, ""));
    EXPECT_FALSE(is_journal(descriptor, nullptr));
    EXPECT_FALSE(is_journal(-1, here.c_str()));
    close(descriptor);
}

}  // namespace
}  // namespace pulse::serve
