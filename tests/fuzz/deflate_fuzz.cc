// Any bytes as a compressed message, and as a message to compress: what comes out is bounded, the
// inflater is sound after whatever it was given, what was deflated comes back, and any extension
// header is read to its end. The first byte chooses which, and the window.
#include <algorithm>
#include <cstdlib>

#include "proto/deflate.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

void expect(bool holds) {
    if (!holds) __builtin_trap();
}

void inflate_anything(std::span<const uint8_t> payload, Inflater& inflater) {
    constexpr size_t kMessageMax = 30'000;
    const Inflater::Outcome outcome = inflater.inflate(payload, kMessageMax);
    expect(!outcome.fault.ok() || outcome.message.size() <= kMessageMax);
    const Bytes hello = {0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00};
    const Inflater::Outcome again = inflater.inflate(hello, kMessageMax);
    expect(again.fault.ok() && text_of(again.message) == "Hello");
}

void round_trip(std::span<const uint8_t> message, uint8_t window_bits, Inflater& inflater,
                Deflater& deflater) {
    const std::span<const uint8_t> payload = deflater.deflate(message, window_bits);
    if (payload.empty()) return;
    expect(payload.size() < message.size());
    const Inflater::Outcome outcome = inflater.inflate(payload, message.size());
    expect(outcome.fault.ok() && std::ranges::equal(outcome.message, message));
}

void negotiate(std::string_view value) {
    const DeflateAgreement agreement = agree_on_deflate({&value, 1});
    expect(agreement.window_bits == 0 ||
           (agreement.window_bits >= 8 && agreement.window_bits <= 15));
    expect(!agreement.malformed || agreement.window_bits == 0);
    check_deflate_answer({&value, 1});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static Inflater inflater;
    static Deflater deflater;
    if (size < 2) return 0;
    LentBytes lent({data + 1, size - 1});
    switch (data[0] & 3) {
        case 0:
            round_trip(lent.span(), static_cast<uint8_t>(8 + (data[0] >> 2 & 7)), inflater,
                       deflater);
            break;
        case 1:
            negotiate({reinterpret_cast<const char*>(lent.span().data()), lent.span().size()});
            break;
        default:
            inflate_anything(lent.span(), inflater);
            break;
    }
    return 0;
}
