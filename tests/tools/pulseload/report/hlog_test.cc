// The interval log: its text, its payload decoded again by the format's words, its errors. That
// another implementation reads it is tests/clients/hlog_test.py's to show.
#include "tools/pulseload/report/hlog.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <zlib.h>

#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "core/random.h"
#include "core/types.h"

namespace pulse::load {
namespace {

using Bytes = std::vector<uint8_t>;

std::string file_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

uint64_t big_endian(const Bytes& bytes, size_t at, size_t size) {
    uint64_t value = 0;
    for (size_t byte = 0; byte < size; ++byte) value = value << 8 | bytes.at(at + byte);
    return value;
}

Bytes from_base64(const std::string& text) {
    Bytes bytes(text.size() / 4 * 3);
    const int size = EVP_DecodeBlock(bytes.data(), reinterpret_cast<const uint8_t*>(text.data()),
                                     static_cast<int>(text.size()));
    EXPECT_EQ(size, static_cast<int>(bytes.size()));
    return bytes;
}

// What a reader gets: the inflated payload.
Bytes inflated(const Bytes& whole) {
    EXPECT_EQ(big_endian(whole, 0, 4), 0x1c849314u);
    const uint64_t packed = big_endian(whole, 4, 4);
    EXPECT_LE(8 + packed, whole.size());
    EXPECT_LT(whole.size(), 8 + packed + 3);  // base64's own padding
    Bytes plain(1 << 20);
    uLongf size = plain.size();
    EXPECT_EQ(uncompress(plain.data(), &size, whole.data() + 8, packed), Z_OK);
    plain.resize(size);
    return plain;
}

// Reads counts as the format describes them, one byte at a time.
std::vector<uint64_t> decoded_counts(const Bytes& plain) {
    EXPECT_EQ(big_endian(plain, 0, 4), 0x1c849313u);
    EXPECT_EQ(big_endian(plain, 4, 4), plain.size() - 40);
    EXPECT_EQ(big_endian(plain, 8, 4), 0u);
    EXPECT_EQ(big_endian(plain, 12, 4), 3u);
    EXPECT_EQ(big_endian(plain, 16, 8), 1u);
    EXPECT_EQ(big_endian(plain, 24, 8), 3'600'000'000u);
    EXPECT_EQ(big_endian(plain, 32, 8), 0x3ff0000000000000u);
    std::vector<uint64_t> counts;
    for (size_t at = 40; at < plain.size();) {
        uint64_t zigzag = 0;
        for (int place = 0; place < 9; ++place) {
            const uint64_t byte = plain[at++];
            zigzag |= (place < 8 ? byte & 0x7f : byte) << (7 * place);
            if (place == 8 || byte < 0x80) break;
        }
        const int64_t value = static_cast<int64_t>(zigzag >> 1) ^ -static_cast<int64_t>(zigzag & 1);
        if (value < 0) {
            counts.resize(counts.size() + static_cast<size_t>(-value));
        } else {
            counts.push_back(static_cast<uint64_t>(value));
        }
    }
    return counts;
}

void expect_survives(const Histogram& histogram) {
    const std::vector<uint64_t> counts =
        decoded_counts(inflated(from_base64(encode_hlog_payload(histogram))));
    ASSERT_LE(counts.size(), Histogram::kCounters);
    for (uint32_t at = 0; at < Histogram::kCounters; ++at)
        ASSERT_EQ(at < counts.size() ? counts[at] : 0, histogram.counter_at(at)) << at;
}

TEST(HlogPayload, HoldsEveryCounter) {
    Histogram histogram;
    expect_survives(histogram);
    histogram.record(0);
    expect_survives(histogram);
    histogram.record(3 * kMillisecond, 4'000'000'000u);
    histogram.record(3 * kMillisecond, 4'000'000'000u);  // past 32 bits: five bytes of LEB128
    histogram.record(3'600 * kSecond);                   // the last counter in use
    histogram.record(9'000 * kSecond);
    expect_survives(histogram);
}

TEST(HlogPayload, HoldsRandomOnes) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        Random random(seed);
        Histogram histogram;
        for (int value = 0; value < 2'000; ++value)
            histogram.record(static_cast<Nanos>(random.next() >> (22 + random.below(40))));
        expect_survives(histogram);
    }
}

TEST(Hlog, WritesALineForEachIntervalAndTag) {
    const std::string path = testing::TempDir() + "lines.hlog";
    Result<HlogWriter> log = HlogWriter::open(path, "2026-11-22T20:00:00Z", 1'795'377'600.25);
    ASSERT_TRUE(log) << log.error();
    Histogram histogram;
    log->append(0, 1, "connect", histogram);  // empty: no line
    histogram.record(1'500'000);
    log->append(1, 1.0015, "heartbeat", histogram);
    ASSERT_TRUE(log->close());
    std::istringstream lines(file_text(path));
    std::vector<std::string> read;
    for (std::string line; std::getline(lines, line);) read.push_back(line);
    ASSERT_EQ(read.size(), 6u);
    EXPECT_NE(read[0].find("microseconds"), std::string::npos);
    EXPECT_EQ(read[1], "#[Histogram log format version 1.3]");
    EXPECT_EQ(read[2], "#[StartTime: 1795377600.250 (seconds since epoch), 2026-11-22T20:00:00Z]");
    EXPECT_EQ(read[3], "#[BaseTime: 1795377600.250 (seconds since epoch)]");
    EXPECT_EQ(read[4].substr(0, 17), "\"StartTimestamp\",");
    EXPECT_EQ(read[5], "Tag=heartbeat,1.000,1.002,1.500," + encode_hlog_payload(histogram));
}

// What a reader that rounds each value up to its counter's highest is to get.
uint64_t highest_us(Nanos value) {
    const auto us = static_cast<uint64_t>(value) / Histogram::kUnitNanos;
    return Histogram::highest_of(Histogram::counter_of(us));
}

std::string expected_json(const Histogram& whole, int intervals) {
    std::ostringstream json;
    json << "{\"intervals\": [";
    for (int at = 0; at < intervals; ++at)
        json << (at > 0 ? ", [" : "[") << 1'795'377'600'250 + at * 1'000 << ", "
             << 1'795'377'601'250 + at * 1'000 << "]";
    json << "], \"count\": " << whole.count() << ", \"max_us\": " << highest_us(whole.max())
         << ", \"percentiles_us\": [";
    for (const double percent : {0.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0})
        json << (percent > 0 ? ", " : "") << highest_us(whole.percentile(percent));
    json << "]}";
    return json.str();
}

// Writes whole.hlog and whole.json, which tests/clients/hlog_test.py gives to another reader.
TEST(Hlog, AddsUpToTheWholeRun) {
    constexpr int kIntervals = 20;
    constexpr int kValues = 500;  // a round number in all, so that no percentile falls between two
    const std::string folder = testing::TempDir();
    Result<HlogWriter> log =
        HlogWriter::open(folder + "whole.hlog", "2026-11-22T20:00:00Z", 1'795'377'600.25);
    ASSERT_TRUE(log) << log.error();
    Random random(5);
    std::map<std::string, Histogram> wholes;
    for (int interval = 0; interval < kIntervals; ++interval) {
        for (const auto& [tag, shift] :
             {std::pair{"connect", 28}, {"heartbeat", 24}, {"slow", 22}}) {
            Histogram second;
            for (int value = 0; value < kValues; ++value)
                second.record(static_cast<Nanos>(random.next() >> (shift + random.below(16))));
            log->append(interval, 1, tag, second);
            wholes[tag].merge(second);
        }
    }
    ASSERT_TRUE(log->close());
    std::map<std::string, std::vector<uint64_t>> read;
    std::istringstream lines(file_text(folder + "whole.hlog"));
    for (std::string line; std::getline(lines, line);) {
        if (line.substr(0, 4) != "Tag=") continue;
        std::vector<uint64_t>& sum = read[line.substr(4, line.find(',') - 4)];
        sum.resize(Histogram::kCounters);
        const std::vector<uint64_t> counts =
            decoded_counts(inflated(from_base64(line.substr(line.rfind(',') + 1))));
        for (size_t at = 0; at < counts.size(); ++at) sum[at] += counts[at];
    }
    std::string json;
    for (const auto& [tag, whole] : wholes) {
        for (uint32_t at = 0; at < Histogram::kCounters; ++at)
            ASSERT_EQ(read[tag].at(at), whole.counter_at(at)) << tag << " " << at;
        json += (json.empty() ? "{\"" : ",\n\"") + tag + "\": " + expected_json(whole, kIntervals);
    }
    std::ofstream(folder + "whole.json") << json << "}\n";
}

TEST(Hlog, NamesTheFileThatItCouldNotWrite) {
    const Result<HlogWriter> nowhere = HlogWriter::open("/nowhere/a.hlog", "", 0);
    ASSERT_FALSE(nowhere);
    EXPECT_NE(nowhere.error().find("'/nowhere/a.hlog'"), std::string::npos);
    Result<HlogWriter> full = HlogWriter::open("/dev/full", "", 0);
    ASSERT_TRUE(full);
    const Result<void> closed = full->close();
    ASSERT_FALSE(closed);
    EXPECT_EQ(closed.error().substr(0, 50), "'/dev/full' cannot be written: No space left on de");
}

}  // namespace
}  // namespace pulse::load
