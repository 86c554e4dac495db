// What is said to peers that never became connections.
#include "net/speech.h"

namespace pulse {
namespace {

// Collects what an encoder writes.
struct Collected {
    uint8_t bytes[256];
    uint8_t* claim(size_t wanted) {
        if (wanted > sizeof bytes) return nullptr;
        size = wanted;
        return bytes;
    }
    size_t size = 0;
};

}  // namespace

RefusalMessage refusal_message(Protocol protocol, CloseReason reason, uint32_t retry_after_ms) {
    const CloseReasonInfo& info = describe(reason);
    RefusalMessage text;
    switch (protocol) {
        case Protocol::binary: {
            ShortText words;
            words << info.text;
            if (retry_after_ms > 0) words << "; retry_after_ms=" << uint64_t{retry_after_ms};
            Collected frame;
            binary::write_code(frame, binary::Type::goodbye, info.code, words.view());
            text << std::string_view(reinterpret_cast<const char*>(frame.bytes), frame.size);
            break;
        }
        case Protocol::jsonl:
            text << R"({"type":"goodbye","code":)" << uint64_t{info.code} << R"(,"reason":")"
                 << info.name << "\"";
            if (retry_after_ms > 0) text << R"(,"retry_after_ms":)" << uint64_t{retry_after_ms};
            text << "}\n";
            break;
        // A peer that has not spoken yet is most likely to be a browser or a proxy.
        case Protocol::websocket:
        case Protocol::detect: {
            HttpBytes answer;
            const uint16_t status = info.code == 1008 ? 403 : 503;
            write_http_answer(answer, status, info.text, false, (retry_after_ms + 999) / 1000);
            text << std::string_view(answer.octets.data(), answer.count);
            break;
        }
    }
    return text;
}

}  // namespace pulse
