// Any bytes as the first of a connection: decided within kDetectBytesMax, never otherwise than by
// fewer of them, by a listener of one protocol as by one of all; and a refusal always fits.
#include "net/protocols/first_bytes.h"
#include "proto/limits.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

void check(std::span<const uint8_t> bytes, uint8_t listener, const FirstBytes& first) {
    const FirstBytes here = classify(bytes, listener);
    if (here.kind != first.kind || here.protocol != first.protocol) __builtin_trap();
    const bool taken = here.kind == WireKind::spoken &&
                       (listener == kUndetected || listener == here.protocol);
    if (here.fault.ok() != (taken || here.kind == WireKind::undecided)) __builtin_trap();
    if (!here.fault.ok()) reject(here);  // a text asserts that it fits
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    FirstBytes before;
    for (size_t count = 1; count <= size && count <= kDetectBytesMax + 2; ++count) {
        LentBytes lent({data, count});
        const FirstBytes first = classify(lent.span());
        const bool decided = before.kind != WireKind::undecided;
        if (decided && (first.kind != before.kind || first.protocol != before.protocol))
            __builtin_trap();
        if (count >= kDetectBytesMax && first.kind == WireKind::undecided) __builtin_trap();
        before = first;
        for (size_t row = 0; row < all_protocols().size(); ++row) {
            const bool listens = !kProtocols[row]->scheme.empty();
            if (listens) check(lent.span(), static_cast<uint8_t>(row), first);
        }
    }
    return 0;
}
