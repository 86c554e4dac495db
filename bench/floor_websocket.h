// The least of WebSocket that a floor needs: the answer to an upgrade. Links OpenSSL's libcrypto.
#pragma once

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <string>
#include <string_view>

namespace pulse::bench {

// Appends the answer to an upgrade. Returns whether it was one.
inline bool upgrade(std::string_view head, std::string& out) {
    static constexpr std::string_view kName = "Sec-WebSocket-Key: ";
    const size_t at = head.find(kName);
    if (at == head.npos || head.substr(head.size() - 4) != "\r\n\r\n") return false;
    std::string key(head.substr(at + kName.size(), 24));
    key += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[SHA_DIGEST_LENGTH];
    unsigned char text[32];
    SHA1(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest);
    EVP_EncodeBlock(text, digest, sizeof digest);
    out += "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    out += "Sec-WebSocket-Accept: ";
    out += reinterpret_cast<const char*>(text);
    out += "\r\n\r\n";
    return true;
}

}  // namespace pulse::bench
