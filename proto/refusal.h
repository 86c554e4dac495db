// Telling a peer that its protocol is not spoken here, in the words of that protocol.
//
//   binary frames      an error frame, code 1002
//   HTTP               400, with the explanation as its text
//   JSON lines         {"type":"error","code":1002,...}, and the same to who speaks nothing we know
//   TLS                the fatal alert handshake_failure (RFC 8446 section 6.2): it has no words
//   a PROXY header     nothing: it comes from a balancer, which would pass the answer to its client
//
// The connection is to be closed afterwards.
#pragma once

#include <cstring>
#include <string_view>

#include "proto/binary.h"
#include "proto/detect.h"
#include "proto/handshake.h"
#include "proto/json.h"

namespace pulse {

// One claim at most; false: there was no room.
template <ByteSink B>
bool write_refusal(B& out, Spoken spoken, const Decoded& fault) {
    const auto append = [&](const void* bytes, size_t count) {
        uint8_t* to = out.claim(count);
        if (to != nullptr) std::memcpy(to, bytes, count);
        return to != nullptr;
    };
    const uint16_t code = describe(fault.fault).code;
    switch (spoken) {
        case Spoken::proxy_header:
            return true;
        case Spoken::binary:
            return binary::write_code(out, binary::Type::error, code, fault.detail);
        case Spoken::http: {
            HttpBytes answer;
            write_http_answer(answer, 400, fault.detail, false);
            return append(answer.chars.data(), answer.count);
        }
        case Spoken::tls: {
            constexpr uint8_t kAlert[] = {21, 3, 3, 0, 2, 2, 40};
            return append(kAlert, sizeof kAlert);
        }
        case Spoken::jsonl:
        case Spoken::unknown:
        case Spoken::undecided:
            break;
    }
    json::Object error = json::error(code, fault.detail);
    error.raw("\n");
    uint8_t* to = out.claim(error.bytes());
    if (to != nullptr) error.write(to);
    return to != nullptr;
}

}  // namespace pulse
