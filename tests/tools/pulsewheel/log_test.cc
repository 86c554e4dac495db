// Log lines that name what peers sent and users chose.
#include "tools/pulsewheel/log.h"

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "proto/binary.h"
#include "proto/utf8.h"

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
        ServerOptions options;
        options.log_file = directory_ + "/log";
        options.log_format = format;
        Result<Log> log = Log::open(options);
        EXPECT_TRUE(log) << log.error();
        spdlog::warn("{}", line);
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

}  // namespace
}  // namespace pulse::serve
