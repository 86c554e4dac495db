// Any bytes as WebSocket frames, in both roles: nothing is read or written outside of the buffers,
// and what is heard does not depend on how the bytes were cut. The first byte chooses role,
// compression and limit, the second how the rest is cut.
#include "core/random.h"
#include "proto/websocket.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

struct Heard {
    std::vector<std::string> calls;
    CloseReason fault = CloseReason::none;
    friend bool operator==(const Heard&, const Heard&) = default;
};

template <Role role>
Heard hear(std::span<const uint8_t> wire, const std::vector<size_t>& cuts, uint8_t options) {
    static Inflater inflater;
    websocket::State state;
    state.window_bits = (options & 2) != 0 ? 15 : 0;
    const CodecLimits limits{.message_bytes_max =
                                 (options & 4) != 0 ? size_t{100} : size_t{20'000}};
    RecordingSink sink;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = websocket::decode<role>(state, piece, limits, sink, inflater);
        return fault.ok();
    });
    if (fault.ok() && sink.held().size() > limits.message_bytes_max + kControlPayloadBytesMax)
        __builtin_trap();  // held more than it may
    return {sink.calls, fault.fault};
}

template <Role role>
void whole_against_cut(std::span<const uint8_t> wire, uint8_t options, uint8_t cutting) {
    std::vector<size_t> cuts;
    Random random(cutting);
    const size_t step = size_t{1} << random.below(6);
    for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
        cuts.push_back(at);
    if (!(hear<role>(wire, {}, options) == hear<role>(wire, cuts, options))) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 3) return 0;
    const std::span<const uint8_t> wire{data + 2, size - 2};
    if ((data[0] & 1) != 0) {
        whole_against_cut<Role::client>(wire, data[0], data[1]);
    } else {
        whole_against_cut<Role::server>(wire, data[0], data[1]);
    }
    return 0;
}
