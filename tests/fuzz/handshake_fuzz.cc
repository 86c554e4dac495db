// Any bytes as the head of a request, and as the answer that a client gets: nothing is read outside
// of the buffers, the outcome does not depend on how the bytes were cut, and every answer is a
// whole one. The first byte chooses policy and role, the second how the rest is cut.
#include "core/random.h"
#include "proto/handshake.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;

struct Outcome {
    Handshake::Step step = Handshake::Step::more;
    uint16_t status = 0;
    size_t seen_bytes = 0;
    TraceId trace{};
    std::string answer;
    friend bool operator==(const Outcome&, const Outcome&) = default;
};

// Half of all tokens are right.
struct HalfOfThem final : TokenJudge {
    AuthFailure judge(std::string_view token, uint32_t count) override {
        if (count > 1) return AuthFailure::several_tokens;
        return token.size() % 2 == 0 ? AuthFailure::none : AuthFailure::expired;
    }
};

Outcome shake(std::span<const uint8_t> wire, const std::vector<size_t>& cuts, uint8_t options) {
    static const std::vector<std::string> origins = {"https://a.example"};
    HandshakePolicy policy{.deflate = (options & 1) != 0, .reads_trace = (options & 16) != 0};
    if ((options & 2) != 0) policy.origins = origins;
    HalfOfThem tokens;
    if ((options & 8) != 0) policy.tokens = &tokens;
    const UpgradeRequest request{.host = "x", .deflate = (options & 1) != 0};
    HandshakeState state;
    RecordingSink sink;
    ByteBuffer out;
    Outcome outcome;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        const Handshake result = (options & 4) != 0
                                     ? read_upgrade_answer(state, piece, request, sink)
                                     : serve_handshake(state, piece, policy, sink, out);
        const bool more = result.step == Handshake::Step::more;
        outcome.step = result.step;
        outcome.status = result.status;
        outcome.trace = result.trace.trace;
        outcome.seen_bytes += more ? piece.size() : result.consumed_bytes;
        return more;
    });
    // A refusal in the middle of a head says nothing about what it had seen.
    if (outcome.step == Handshake::Step::ended) outcome.seen_bytes = 0;
    outcome.answer = out.text();
    const bool waiting = outcome.step == Handshake::Step::more;
    const bool client = (options & 4) != 0;
    if (client && sink.held().size() != (waiting ? wire.size() : 0)) __builtin_trap();
    if (!client && sink.held().size() > (waiting ? kBufferSmallBytes : 0)) __builtin_trap();
    if (waiting && wire.size() > kHandshakeBytesMax) __builtin_trap();
    const bool answered = (options & 4) == 0 && !waiting;
    if (answered != (outcome.answer.find("\r\n\r\n") != std::string::npos)) __builtin_trap();
    return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 3) return 0;
    const std::span<const uint8_t> wire{data + 2, size - 2};
    std::vector<size_t> cuts;
    Random random(data[1]);
    const size_t step = size_t{1} << random.below(9);
    for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
        cuts.push_back(at);
    if (!(shake(wire, {}, data[0]) == shake(wire, cuts, data[0]))) __builtin_trap();
    return 0;
}
