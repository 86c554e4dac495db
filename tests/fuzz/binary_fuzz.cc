// Any bytes as binary frames, in both roles: nothing is read or written outside of the buffers, and
// what is heard does not depend on how the bytes were cut. The first byte chooses role and limit,
// the second the cuts.
#include "core/random.h"
#include "proto/binary.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

struct Sink : RecordingSink {
    void on_welcome(uint32_t sequence, std::span<uint8_t> object) {
        calls.push_back("welcome#" + std::to_string(sequence) + ":" + text_of(object));
    }
    void on_interval(uint32_t interval_ms, uint32_t timeout_ms, uint32_t answer_every) {
        calls.push_back("interval " + std::to_string(interval_ms) + std::to_string(timeout_ms) +
                        "/" + std::to_string(answer_every));
    }
    void on_ack(uint64_t received) { calls.push_back("ack " + std::to_string(received)); }
    void on_expiring(uint32_t in_ms) { calls.push_back("expiring " + std::to_string(in_ms)); }
    void on_error(uint16_t code, std::span<uint8_t> text) {
        calls.push_back("error " + std::to_string(code) + ":" + text_of(text));
    }
};

struct Heard {
    std::vector<std::string> calls;
    CloseReason fault = CloseReason::none;
    friend bool operator==(const Heard&, const Heard&) = default;
};

template <Role role>
Heard hear(std::span<const uint8_t> wire, const std::vector<size_t>& cuts, size_t limit) {
    binary::State state{};
    Sink sink;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = binary::decode<role>(state, piece, {.message_bytes_max = limit}, sink);
        if (fault.ok() && sink.held().size() > limit) __builtin_trap();
        if (fault.ok() && state.in_payload == 0 && !sink.held().empty()) __builtin_trap();
        return fault.ok();
    });
    return {sink.calls, fault.fault};
}

template <Role role>
void whole_against_cut(std::span<const uint8_t> wire, size_t limit, uint8_t cutting) {
    std::vector<size_t> cuts;
    Random random(cutting);
    const size_t step = size_t{1} << random.below(6);
    for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
        cuts.push_back(at);
    if (!(hear<role>(wire, {}, limit) == hear<role>(wire, cuts, limit))) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 3) return 0;
    const std::span<const uint8_t> wire{data + 2, size - 2};
    const size_t limit = (data[0] & 2) != 0 ? 20 : 3'000;
    if ((data[0] & 1) != 0) {
        whole_against_cut<Role::client>(wire, limit, data[1]);
    } else {
        whole_against_cut<Role::server>(wire, limit, data[1]);
    }
    return 0;
}
