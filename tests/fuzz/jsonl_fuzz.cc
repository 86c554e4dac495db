// Any bytes as lines: cut anywhere they are the lines that the obvious splitter makes of them. The
// first byte chooses the limit, the second the cuts.
#include "core/random.h"
#include "proto/jsonl.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

struct Heard {
    std::vector<std::string> calls;
    bool fault = false;
    std::string held;
    friend bool operator==(const Heard&, const Heard&) = default;
};

Heard split(std::span<const uint8_t> wire, size_t limit) {
    Heard heard;
    for (const uint8_t byte : wire) {
        if (byte != '\n') {
            heard.held.push_back(static_cast<char>(byte));
            if (heard.held.size() > limit) return {heard.calls, true, ""};
            continue;
        }
        if (!heard.held.empty() && heard.held.back() == '\r') heard.held.pop_back();
        if (!heard.held.empty()) heard.calls.push_back("text:" + heard.held);
        heard.held.clear();
    }
    return heard;
}

Heard hear(std::span<const uint8_t> wire, const std::vector<size_t>& cuts, size_t limit) {
    RecordingSink sink;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = jsonl::decode(piece, {.message_bytes_max = limit}, sink);
        return fault.ok();
    });
    return {sink.calls, !fault.ok(), fault.ok() ? text_of(sink.held()) : ""};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 3) return 0;
    const std::span<const uint8_t> wire{data + 2, size - 2};
    const size_t limit = (data[0] & 1) != 0 ? 8 : 3'000;
    std::vector<size_t> cuts;
    Random random(data[1]);
    const size_t step = size_t{1} << random.below(6);
    for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
        cuts.push_back(at);
    const Heard expected = split(wire, limit);
    if (!(hear(wire, {}, limit) == expected)) __builtin_trap();
    if (!(hear(wire, cuts, limit) == expected)) __builtin_trap();
    return 0;
}
