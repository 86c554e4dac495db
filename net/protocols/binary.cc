// Binary frames in a stream: tcp:// (proto/binary.h, proto/PROTOCOL.md).
#include "net/protocols/binary_dialect.h"
#include "net/protocols/refusal.h"

namespace pulse {
namespace {

using namespace std::string_view_literals;

// Frames one behind another.
struct Stream {
    Conversation& conversation;
    uint8_t* claim(size_t bytes) { return conversation.claim(bytes); }
};
using InStream = BinaryDialect<Stream>;

struct Sink : InStream::Sink {
    void on_goodbye(uint16_t code, std::span<const uint8_t>) {
        conversation.on_frame();
        conversation.peer_said_goodbye(code);
    }
};

void receive(Conversation& conversation, std::span<uint8_t> bytes) {
    auto state = conversation.load<binary::State>();
    Sink sink{{{conversation}}};
    const Decoded decoded = binary::decode(state, bytes, conversation.shared().limits, sink);
    conversation.store(state);
    conversation.finish(decoded, bytes);
}

void ping(Conversation& conversation, const ProbeValue* value) {
    if (value == nullptr) return InStream::frame(conversation, binary::Type::ping, 0, {});
    InStream::frame(conversation, binary::Type::ping, value->sequence(), value->payload());
}

RefusalMessage refusal(binary::Type type, uint16_t code, std::string_view words) {
    struct Frame {
        RefusalMessage text;
        uint8_t* claim(size_t bytes) { return text.claim(bytes); }
    } frame;
    binary::write_code(frame, type, code, words);
    return frame.text;
}

RefusalMessage refuse(CloseReason reason, uint32_t retry_after_ms) {
    const CloseReasonInfo& info = describe(reason);
    FixedText<512> words;
    words << info.text;
    if (retry_after_ms > 0) words << "; retry_after_ms=" << uint64_t{retry_after_ms};
    return refusal(binary::Type::goodbye, info.code, words.view());
}

RefusalMessage reject(uint16_t code, std::string_view words) {
    return refusal(binary::Type::error, code, words);
}

constexpr Prefix kPrefixes[] = {{"\xB7"sv}};

}  // namespace

constinit const Protocol binary_protocol = {
    .name = "binary",
    .title = "binary frames (0xB7)",
    .scheme = "tcp",
    .framing = Framing::stream,
    .dialect = Dialect::binary,
    .prefixes = kPrefixes,
    .prefix_name = "binary frames",
    .only_this = "this listener speaks binary frames only (tcp://), which begin with 0xB7",
    .receive = receive,
    .welcome = InStream::welcome,
    .ping = ping,
    .interval = InStream::interval,
    .data = InStream::data,
    .again = InStream::again,
    .expiring = InStream::expiring,
    .error = InStream::error,
    .goodbye = InStream::goodbye,
    .refuse = refuse,
    .reject = reject,
};

}  // namespace pulse
