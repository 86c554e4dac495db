// What is said to peers that never became connections.
#include "net/session.h"

namespace pulse {
namespace {

// Collects one frame that an encoder writes.
struct FrameSink {
    uint8_t bytes[256];
    size_t size = 0;
    uint8_t* claim(size_t wanted) {
        if (wanted > sizeof bytes) return nullptr;
        size = wanted;
        return bytes;
    }
};

}  // namespace

ShortText farewell(Scheme scheme, CloseReason reason, uint32_t retry_after_ms) {
    const CloseReasonInfo& info = describe(reason);
    ShortText text;
    switch (scheme) {
        case Scheme::binary: {
            ShortText words;
            words << info.text << "; retry_after_ms=" << uint64_t{retry_after_ms};
            FrameSink frame;
            binary::write_code(frame, binary::Type::goodbye, info.code, words.view());
            text << std::string_view(reinterpret_cast<const char*>(frame.bytes), frame.size);
            break;
        }
        case Scheme::jsonl:
            text << R"({"type":"goodbye","code":)" << uint64_t{info.code} << R"(,"reason":")"
                 << info.name << R"(","retry_after_ms":)" << uint64_t{retry_after_ms} << "}\n";
            break;
        case Scheme::websocket:
        case Scheme::detect:
            // A peer that has not spoken yet is most likely to be a browser or a proxy.
            text << "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: "
                 << uint64_t{(retry_after_ms + 999) / 1000}
                 << "\r\nContent-Length: " << uint64_t{info.name.size() + 1} << "\r\n\r\n"
                 << info.name << "\n";
            break;
        case Scheme::websocket_tls:
            break;  // nothing can be said before the TLS handshake
    }
    return text;
}

}  // namespace pulse
