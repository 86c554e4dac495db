// A protocol that tests/add_one_test.py adds: what begins with `#` is lines, each a heartbeat.
#include "net/protocols/conversation.h"
#include "net/protocols/refusal.h"
#include "proto/jsonl.h"

namespace pulse {
namespace {

void line(Conversation& conversation, std::string_view words) {
    conversation.append(binary::bytes_of(words));
}

struct Sink : HeadSink {
    void on_message(MessageKind, uint32_t, std::span<uint8_t>) {
        conversation.on_ping();
        line(conversation, "#pong\n");
    }
};

void receive(Conversation& conversation, std::span<uint8_t> bytes) {
    Sink sink{{{conversation}}};
    conversation.finish(jsonl::decode(bytes, conversation.shared().limits, sink), bytes);
}

RefusalMessage sorry() {
    RefusalMessage text;
    text << "#another time\n";
    return text;
}

constexpr Prefix kPrefixes[] = {{"#"}};

}  // namespace

constinit const Protocol added_protocol = {
    .name = "added",
    .title = "lines of a test",
    .scheme = "added",
    .framing = Framing::lines,
    .prefixes = kPrefixes,
    .prefix_name = "added lines",
    .only_this = "this listener speaks added lines only (added://)",
    .receive = receive,
    .ping = [](Conversation& conversation, const ProbeValue*) { line(conversation, "#ping\n"); },
    .error = [](Conversation& conversation, uint16_t,
                std::string_view) { line(conversation, "#error\n"); },
    .goodbye = [](Conversation& conversation, const Goodbye&) { line(conversation, "#bye\n"); },
    .refuse = [](CloseReason, uint32_t) { return sorry(); },
    .reject = [](uint16_t, std::string_view) { return sorry(); },
};

}  // namespace pulse
