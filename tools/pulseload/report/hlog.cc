// The V2 payload and the lines around it.
#include "tools/pulseload/report/hlog.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <zlib.h>

#include <bit>
#include <cerrno>
#include <vector>

#include "tools/pulseload/report/text_file.h"

namespace pulse::load {
namespace {

// A cookie's second byte from below is the width of a count: 0x10 is LEB128's 64 bits.
constexpr uint32_t kCookie = 0x1c849313;
constexpr uint32_t kCompressedCookie = 0x1c849314;
constexpr uint32_t kSignificantDigits = 3;
constexpr size_t kHeaderBytes = 40;
constexpr double kMillisecondUnits = 1'000;  // the log's "longest" column is in milliseconds

using Bytes = std::vector<uint8_t>;

void put_big_endian(Bytes& out, uint64_t value, size_t bytes) {
    for (size_t at = bytes; at-- > 0;) out.push_back(static_cast<uint8_t>(value >> (8 * at)));
}

// LEB128 of 64 bits in at most nine bytes: the ninth has no flag, all of its bits are the value's.
void put_zigzag(Bytes& out, int64_t value) {
    uint64_t rest = (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
    for (int byte = 0; byte < 8; ++byte) {
        if (rest < 0x80) return out.push_back(static_cast<uint8_t>(rest));
        out.push_back(static_cast<uint8_t>(rest | 0x80));
        rest >>= 7;
    }
    out.push_back(static_cast<uint8_t>(rest));
}

// Counters up to the longest value's; two or more zeros in a row are one negative number.
Bytes encode_counts(const Histogram& histogram) {
    const auto longest = static_cast<uint64_t>(histogram.max()) / Histogram::kUnitNanos;
    const uint32_t end = Histogram::counter_of(longest) + 1;
    Bytes counts;
    for (uint32_t at = 0; at < end;) {
        uint32_t zeros = 0;
        while (at + zeros < end && histogram.counter_at(at + zeros) == 0) ++zeros;
        if (zeros > 1) {
            put_zigzag(counts, -int64_t{zeros});
            at += zeros;
        } else {
            put_zigzag(counts, static_cast<int64_t>(histogram.counter_at(at++)));
        }
    }
    return counts;
}

Bytes deflated(const Bytes& plain) {
    uLongf size = compressBound(plain.size());
    Bytes out(size);
    const int code = compress2(out.data(), &size, plain.data(), plain.size(), Z_BEST_COMPRESSION);
    PULSE_ASSERT(code == Z_OK);  // the buffer is as large as zlib asked for
    out.resize(size);
    return out;
}

}  // namespace

std::string encode_hlog_payload(const Histogram& histogram) {
    const Bytes counts = encode_counts(histogram);
    Bytes plain;
    plain.reserve(kHeaderBytes + counts.size());
    put_big_endian(plain, kCookie, 4);
    put_big_endian(plain, counts.size(), 4);
    put_big_endian(plain, 0, 4);  // no shift of the index
    put_big_endian(plain, kSignificantDigits, 4);
    put_big_endian(plain, 1, 8);  // lowest value that can be discerned
    put_big_endian(plain, Histogram::kHighestUnits, 8);
    put_big_endian(plain, std::bit_cast<uint64_t>(1.0), 8);  // values are integers as they are
    plain.insert(plain.end(), counts.begin(), counts.end());

    const Bytes packed = deflated(plain);
    Bytes whole;
    put_big_endian(whole, kCompressedCookie, 4);
    put_big_endian(whole, packed.size(), 4);
    whole.insert(whole.end(), packed.begin(), packed.end());
    std::string text(4 * ((whole.size() + 2) / 3) + 1, '\0');  // and the NUL that EVP adds
    const int length = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(text.data()), whole.data(),
                                       static_cast<int>(whole.size()));
    text.resize(static_cast<size_t>(length));
    return text;
}

Result<HlogWriter> HlogWriter::open(std::string path, std::string_view started_at_iso,
                                    double epoch_seconds) {
    std::FILE* file = std::fopen(path.c_str(), "we");
    if (file == nullptr) return unwritable(path, errno);
    HlogWriter writer(std::move(path), file);
    writer.write(fmt::format(
        "#[Latencies of pulseload, in microseconds; -outputValueUnitRatio 1000 shows them in "
        "milliseconds, as the column Interval_Max is]\n"
        "#[Histogram log format version 1.3]\n"
        "#[StartTime: {0:.3f} (seconds since epoch), {1}]\n"
        "#[BaseTime: {0:.3f} (seconds since epoch)]\n"
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
        "\"Interval_Compressed_Histogram\"\n",
        epoch_seconds, started_at_iso));
    return writer;
}

void HlogWriter::append(double start_s, double length_s, std::string_view tag,
                        const Histogram& histogram) {
    PULSE_ASSERT(tag.find_first_of(", \t\r\n") == std::string_view::npos);
    if (histogram.count() == 0) return;
    const double longest_units =
        static_cast<double>(histogram.max()) / static_cast<double>(Histogram::kUnitNanos);
    write(fmt::format("Tag={},{:.3f},{:.3f},{:.3f},{}\n", tag, start_s, length_s,
                      longest_units / kMillisecondUnits, encode_hlog_payload(histogram)));
}

// The first failure has the reason.
void HlogWriter::write(std::string_view text) {
    errno = 0;
    const bool wrote = std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() &&
                       std::fflush(file_.get()) == 0;
    if (!wrote && !error_) error_ = errno;
}

Result<void> HlogWriter::close() {
    PULSE_ASSERT(file_ != nullptr);
    errno = 0;
    if (std::fclose(file_.release()) != 0 && !error_) error_ = errno;
    if (error_) return unwritable(path_, *error_);
    return {};
}

}  // namespace pulse::load
