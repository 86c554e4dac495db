// JSON objects on lines: jsonl:// (proto/jsonl.h, proto/json.h, proto/PROTOCOL.md).
#include "proto/jsonl.h"

#include "net/protocols/json_dialect.h"
#include "net/protocols/refusal.h"

namespace pulse {
namespace {

using namespace std::string_view_literals;

struct Lines {
    static constexpr bool kMayBeAnything = false;
    static void object(Conversation& conversation, const json::Object& object) {
        uint8_t* to = conversation.claim(object.bytes() + 1);
        if (to == nullptr) return;
        object.write(to);
        to[object.bytes()] = '\n';
    }
    static void text(Conversation& conversation, std::span<const uint8_t> words) {
        uint8_t* to = conversation.claim(words.size() + 1);
        if (to == nullptr) return;
        std::memcpy(to, words.data(), words.size());
        to[words.size()] = '\n';
    }
    static void answer_goodbye(Conversation&) {}
};
using OnLines = JsonDialect<Lines>;

void again(Conversation& conversation, MessageForm, uint32_t, std::span<const uint8_t> line) {
    Lines::text(conversation, line);
}

// Lines are texts; the rest is other codecs'.
struct Sink : HeadSink {
    void on_message(MessageKind, uint32_t, std::span<uint8_t> line) {
        OnLines::receive(conversation, line);
    }
};

void receive(Conversation& conversation, std::span<uint8_t> bytes) {
    Sink sink{{{conversation}}};
    conversation.finish(jsonl::decode(bytes, conversation.shared().limits, sink), bytes);
}

void ping(Conversation& conversation, const ProbeValue* value) {
    if (value == nullptr) return Lines::text(conversation, binary::bytes_of(json::kProbe));
    Lines::object(conversation, json::ping(value->number()));
}

RefusalMessage refuse(CloseReason reason, uint32_t retry_after_ms) {
    const CloseReasonInfo& info = describe(reason);
    return line_refusal(json::goodbye(info.code, info.name, retry_after_ms));
}

// An empty line is one before JSON where no request line follows it.
constexpr Prefix kPrefixes[] = {{"{"sv},  {"PING"sv}, {"ping"sv}, {" "sv},
                                {"\t"sv}, {"\n"sv},   {"\r"sv}};

}  // namespace

constinit const Protocol jsonl_protocol = {
    .name = "jsonl",
    .title = "JSON lines",
    .scheme = "jsonl",
    .framing = Framing::lines,
    .dialect = Dialect::json,
    .prefixes = kPrefixes,
    .prefix_name = "JSON lines",
    .only_this = "this listener speaks JSON lines only (jsonl://): one object a line",
    .receive = receive,
    .welcome = OnLines::welcome,
    .ping = ping,
    .interval = OnLines::interval,
    .data = OnLines::data,
    .again = again,
    .expiring = OnLines::expiring,
    .error = OnLines::error,
    .goodbye = OnLines::goodbye,
    .move = OnLines::goodbye,
    .refuse = refuse,
    .reject = error_line,
};

}  // namespace pulse
