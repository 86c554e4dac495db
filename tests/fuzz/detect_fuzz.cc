// Any bytes as the first of a connection: decided within kDetectBytesMax, never otherwise than by
// fewer of them, by a listener of one protocol as by one of all; and a refusal always fits.
#include "proto/detect.h"
#include "proto/refusal.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

void check(std::span<const uint8_t> bytes, Protocol wanted, Spoken spoken) {
    const Detected detected = detect_protocol(bytes, wanted);
    if (detected.spoken != spoken) __builtin_trap();
    const bool undecided = spoken == Spoken::undecided;
    const bool taken = detected.protocol != Protocol::detect;
    if (taken && !detected.fault.ok()) __builtin_trap();
    if (!taken && detected.fault.ok() && !undecided) __builtin_trap();
    if (taken && wanted != Protocol::detect && wanted != detected.protocol) __builtin_trap();
    if (detected.fault.ok()) return;
    ByteBuffer out;
    if (!write_refusal(out, spoken, detected.fault) || out.bytes.size() > 1024) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Spoken before = Spoken::undecided;
    for (size_t count = 1; count <= size && count <= kDetectBytesMax + 2; ++count) {
        LentBytes lent({data, count});
        const Spoken spoken = recognise(lent.span());
        if (before != Spoken::undecided && spoken != before) __builtin_trap();
        if (count >= kDetectBytesMax && spoken == Spoken::undecided) __builtin_trap();
        before = spoken;
        for (const Protocol wanted :
             {Protocol::detect, Protocol::binary, Protocol::websocket, Protocol::jsonl})
            check(lent.span(), wanted, spoken);
    }
    return 0;
}
