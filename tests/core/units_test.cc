// Quantities as people write them: tables of what is read, what is refused and with which words,
// and that what is written is read back.
#include "core/units.h"

#include <gtest/gtest.h>

#include "core/random.h"

namespace pulse {
namespace {

struct Case {
    const char* text;
    uint64_t value;
};
struct Refused {
    const char* text;
    const char* because;  // what the error must say
};

template <class Parse>
void expect_read(Parse parse, std::initializer_list<Case> cases) {
    for (const Case& c : cases) {
        const auto result = parse(c.text);
        ASSERT_TRUE(result) << c.text << ": " << result.error();
        EXPECT_EQ(static_cast<uint64_t>(*result), c.value) << c.text;
    }
}

template <class Parse>
void expect_refused(Parse parse, std::initializer_list<Refused> cases) {
    for (const Refused& c : cases) {
        const auto result = parse(c.text);
        ASSERT_FALSE(result) << "'" << c.text << "' was taken for " << *result;
        EXPECT_NE(result.error().find(c.because), std::string::npos) << result.error();
        EXPECT_EQ(result.error().find(std::string("'") + c.text + "' "), 0u) << result.error();
        EXPECT_NE(result.error().find("; write "), std::string::npos) << result.error();
    }
}

TEST(Units, DurationsAreRead) {
    expect_read(parse_duration, {{"0", 0},
                                 {"0s", 0},
                                 {"1ns", 1},
                                 {"20us", 20'000},
                                 {"250ms", 250'000'000},
                                 {"30s", 30'000'000'000},
                                 {"30S", 30'000'000'000},
                                 {"1.5s", 1'500'000'000},
                                 {"2m", 120'000'000'000},
                                 {"1h", 3'600'000'000'000},
                                 {"1h30m", 5'400'000'000'000},
                                 {"1m0.5s", 60'500'000'000},
                                 {"1d", 86'400'000'000'000},
                                 {"1_000ms", 1'000'000'000},
                                 {"106751d", 106751ull * 86'400'000'000'000}});
}

TEST(Units, DurationsAreRefusedWithAReason) {
    expect_refused(parse_duration, {{"", "is not a duration"},
                                    {"30", "has no unit"},
                                    {"1m30", "has no unit"},
                                    {"s", "is not a duration"},
                                    {"-5s", "is not a duration"},
                                    {"+5s", "is not a duration"},
                                    {"5 s", "unit that is not known"},
                                    {"5s ", "is not a duration"},
                                    {" 5s", "is not a duration"},
                                    {"5sec", "unit that is not known"},
                                    {"1.s", "is not a duration"},
                                    {".5s", "is not a duration"},
                                    {"1..5s", "is not a duration"},
                                    {"1_s", "is not a duration"},
                                    {"_1s", "is not a duration"},
                                    {"1e3s", "unit that is not known"},
                                    {"0x10s", "unit that is not known"},
                                    {"0.5ns", "does not come out whole"},
                                    {"106752d", "is too large"},
                                    {"106751d1d", "is too large"},
                                    {"9999999999999999999999999s", "is not a duration"},
                                    {"999999999999999999999999s", "is too large"}});
}

TEST(Units, SizesAreRead) {
    expect_read(parse_size, {{"0", 0},
                             {"4096", 4096},
                             {"10B", 10},
                             {"64KiB", 65'536},
                             {"64kib", 65'536},
                             {"1.5KiB", 1'536},
                             {"1MiB", 1'048'576},
                             {"24GiB", 24ull << 30},
                             {"2TiB", 2ull << 40}});
}

TEST(Units, SizesAreRefusedWithAReason) {
    expect_refused(parse_size, {{"", "is not a size"},
                                {"KiB", "is not a size"},
                                {"64KB", "unit that is not known"},
                                {"64k", "unit that is not known"},
                                {"1.5B", "does not come out whole"},
                                {"-1", "is not a size"},
                                {"1KiB1", "is not a size"},
                                {"9TiB ", "is not a size"},
                                {"8388608TiB", "is too large"}});
}

TEST(Units, RatesAreRead) {
    expect_read(parse_rate, {{"off", 0},
                             {"0/s", 0},
                             {"1000/s", 1'000},
                             {"20k/s", 20'000},
                             {"1M/s", 1'000'000},
                             {"600/m", 10},
                             {"3600/h", 1}});
}

TEST(Units, RatesAreRefusedWithAReason) {
    expect_refused(parse_rate, {{"", "is not a rate"},
                                {"1000", "lacks its period"},
                                {"1000/", "is not a rate"},
                                {"/s", "is not a rate"},
                                {"1000/d", "is not a rate"},
                                {"1000/s/s", "is not a rate"},
                                {"OFF", "is not a rate"},
                                {"30/m", "does not come out whole"}});
}

TEST(Units, CountsAreRead) {
    expect_read(parse_count, {{"0", 0},
                              {"7", 7},
                              {"50000", 50'000},
                              {"1_000_000", 1'000'000},
                              {"50k", 50'000},
                              {"1M", 1'000'000},
                              {"1.5M", 1'500'000},
                              {"9223372036854775807", INT64_MAX}});
}

TEST(Units, CountsAreRefusedWithAReason) {
    expect_refused(parse_count, {{"", "is not a number"},
                                 {"many", "is not a number"},
                                 {"-1", "is not a number"},
                                 {"1,000", "is not a number"},
                                 {"1.5", "does not come out whole"},
                                 {"10G", "is not a number"},
                                 {"9223372036854775808", "is too large"}});
}

TEST(Units, RatiosAreRead) {
    expect_read(parse_ratio, {{"0", 0},
                              {"1", 1'000'000},
                              {"0.01", 10'000},
                              {"1%", 10'000},
                              {"100%", 1'000'000},
                              {"0.05%", 500},
                              {"12.5%", 125'000},
                              {"0.0001%", 1},
                              {"0.000001", 1}});
}

TEST(Units, RatiosAreRefusedWithAReason) {
    expect_refused(parse_ratio, {{"", "is not a ratio"},
                                 {"some", "is not a ratio"},
                                 {"1 %", "is not a ratio"},
                                 {"1%%", "is not a ratio"},
                                 {"101%", "is more than all"},
                                 {"2", "is more than all"},
                                 {"0.00001%", "does not come out whole"}});
}

TEST(Units, AreWrittenShort) {
    EXPECT_EQ(format_duration(0), "0s");
    EXPECT_EQ(format_duration(90 * kSecond), "90s");
    EXPECT_EQ(format_duration(120 * kSecond), "2m");
    EXPECT_EQ(format_duration(1), "1ns");
    EXPECT_EQ(format_duration(250 * kMillisecond), "250ms");
    EXPECT_EQ(format_size(0), "0B");
    EXPECT_EQ(format_size(65'536), "64KiB");
    EXPECT_EQ(format_size(1'000), "1000B");
    EXPECT_EQ(format_rate(0), "off");
    EXPECT_EQ(format_rate(20'000), "20k/s");
    EXPECT_EQ(format_count(0), "0");
    EXPECT_EQ(format_count(1'048'576), "1048576");
    EXPECT_EQ(format_count(1'000'000), "1M");
    EXPECT_EQ(format_ratio(0), "0%");
    EXPECT_EQ(format_ratio(10'000), "1%");
    EXPECT_EQ(format_ratio(500), "0.05%");
    EXPECT_EQ(format_ratio(1), "0.0001%");
    EXPECT_EQ(format_ratio(1'000'000), "100%");
}

TEST(Units, WhatIsWrittenIsReadBack) {
    Random random(1);
    for (int round = 0; round < 20'000; ++round) {
        const uint64_t value = random.next() >> random.between(1, 63);
        EXPECT_EQ(*parse_duration(format_duration(static_cast<Nanos>(value))),
                  static_cast<Nanos>(value));
        EXPECT_EQ(*parse_size(format_size(value)), value);
        EXPECT_EQ(*parse_rate(format_rate(value)), value);
        EXPECT_EQ(*parse_count(format_count(value)), value);
        EXPECT_EQ(*parse_ratio(format_ratio(value % (kRatioWhole + 1))), value % (kRatioWhole + 1));
    }
}

// Whatever bytes come, the answer is a value or an error, and a value is written and read again.
TEST(Units, AnyBytesAreAnswered) {
    Random random(2);
    constexpr std::string_view kAlphabet = "0123456789._-+/ %smhdkKMiBGn\x01\xff";
    for (int round = 0; round < 50'000; ++round) {
        std::string text(random.below(12), ' ');
        for (char& c : text) c = kAlphabet[random.below(kAlphabet.size())];
        if (const auto duration = parse_duration(text)) {
            EXPECT_EQ(*parse_duration(format_duration(*duration)), *duration) << text;
        }
        if (const auto size = parse_size(text)) {
            EXPECT_EQ(*parse_size(format_size(*size)), *size);
        }
        if (const auto rate = parse_rate(text)) {
            EXPECT_EQ(*parse_rate(format_rate(*rate)), *rate);
        }
        if (const auto count = parse_count(text)) {
            EXPECT_EQ(*parse_count(format_count(*count)), *count);
        }
        if (const auto ratio = parse_ratio(text)) {
            EXPECT_EQ(*parse_ratio(format_ratio(*ratio)), *ratio);
        }
    }
}

}  // namespace
}  // namespace pulse
