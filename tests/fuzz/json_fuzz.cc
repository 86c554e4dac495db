// Any bytes as a JSON text: nothing is read outside of them and their padding, a fault lies within
// them, the same text is judged the same twice, and what is answered is JSON (nlohmann's parser is
// the judge) that gives back what was given. Then the same bytes as words that we write.
#include <nlohmann/json.hpp>

#include "proto/json.h"
#include "proto/utf8.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;
using namespace pulse::test;
using Oracle = nlohmann::json;

void require(bool holds) {
    if (!holds) __builtin_trap();
}

std::string written(const json::Object& object) {
    std::string out(object.bytes(), '\0');
    object.write(reinterpret_cast<uint8_t*>(out.data()));
    return out;
}

void answer(const JsonMessage& ping) {
    static JsonParser parser;
    const std::string pong = written(json::pong(ping));
    const Oracle oracle = Oracle::parse(pong, nullptr, false);
    require(!oracle.is_discarded() && oracle.contains("seq") == !ping.seq.empty() &&
            oracle.contains("ts") == !ping.ts.empty());
    LentBytes lent(bytes_of(pong));
    JsonMessage heard;
    require(parser.parse(lent.span(), heard).ok() && heard.kind == JsonKind::pong);
    require(heard.seq == ping.seq && heard.ts == ping.ts);
    for (const std::string_view token : {ping.seq, ping.ts})
        require(token.empty() || (token.front() > ' ' && token.back() > ' '));
}

void say(std::string_view words) {
    static JsonParser parser;
    if (words.size() > kJsonStringBytesMax ||
        !utf8_valid({reinterpret_cast<const uint8_t*>(words.data()), words.size()})) {
        return;
    }
    LentBytes lent(bytes_of(written(json::error(1'007, words))));
    JsonMessage heard;
    require(parser.parse(lent.span(), heard).ok() && heard.kind == JsonKind::error);
    require(heard.message == words && heard.code == 1'007);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static JsonParser parser;
    LentBytes lent({data, size});
    JsonMessage message;
    const JsonFault fault = parser.parse(lent.span(), message);
    require(fault.offset <= size && fault.key.size() <= 16);
    if (fault.ok() && message.kind == JsonKind::ping) answer(message);
    const JsonKind kind = message.kind;
    JsonParser fresh;
    const JsonFault again = fresh.parse(lent.span(), message);
    require(again.what == fault.what && again.key == fault.key && again.offset == fault.offset);
    require(message.kind == kind);
    say({reinterpret_cast<const char*>(data), size});
    return 0;
}
