// Any bytes as a PROXY header: nothing is read outside of them, at most the bound is held, what is
// behind a header is left alone, and none of it depends on how the bytes were cut. The first byte
// chooses the cuts; an address that was accepted is there on both sides.
#include "core/random.h"
#include "proto/proxy.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

struct Heard {
    size_t bytes = 0;
    Bytes behind;
    CloseReason fault = CloseReason::none;
    std::array<uint8_t, 16> source{};
    uint16_t port = 0;
    friend bool operator==(const Heard&, const Heard&) = default;
};

Heard hear(std::span<const uint8_t> wire, const std::vector<size_t>& cuts) {
    RecordingSink sink;
    Heard heard;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        if (heard.bytes == 0) {
            const ProxyHeader header = read_proxy_header(piece, sink);
            heard.fault = header.fault.fault;
            if (!header.fault.ok()) return false;
            if (sink.held().size() >= kProxyHeaderBytesMax) __builtin_trap();
            if (header.bytes == 0) return true;
            if (header.bytes > kProxyHeaderBytesMax) __builtin_trap();
            if (header.source.family != header.destination.family) __builtin_trap();
            if (!sink.held().empty()) __builtin_trap();
            heard.bytes = header.bytes;
            heard.source = header.source.bytes;
            heard.port = header.source.port;
        }
        heard.behind.insert(heard.behind.end(), piece.begin(), piece.end());
        return true;
    });
    return heard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 2) return 0;
    const std::span<const uint8_t> wire{data + 1, size - 1};
    Random random(data[0]);
    std::vector<size_t> cuts;
    const size_t step = size_t{1} << random.below(6);
    for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
        cuts.push_back(at);
    const Heard whole = hear(wire, {});
    if (!(whole == hear(wire, cuts))) __builtin_trap();
    if (whole.bytes > 0 && whole.bytes + whole.behind.size() != wire.size()) __builtin_trap();
    return 0;
}
