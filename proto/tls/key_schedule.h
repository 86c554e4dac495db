// What is derived from a traffic secret (RFC 8446 sections 7.1 to 7.3): the key and the IV of one
// direction, and the secret that follows it. Handshakes and all secrets before are OpenSSL's.
//
// One a reactor, and of its thread; has nothing of OpenSSL's before it is used. Between two calls
// it keeps what OpenSSL's object for HMAC holds of the last secret, until the next, or its end.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/tls/suite.h"

namespace pulse::tls {

class KeySchedule {
  public:
    KeySchedule() = default;
    ~KeySchedule();
    KeySchedule(const KeySchedule&) = delete;
    KeySchedule& operator=(const KeySchedule&) = delete;

    // HKDF-Expand-Label(secret, label, "", to.size()) by the hash of `suite`. False: OpenSSL has no
    // memory. Requires: `to` is no longer than that hash, `label` no longer than 20 bytes.
    bool expand(Suite suite, std::span<const uint8_t> secret, std::string_view label,
                std::span<uint8_t> to);

  private:
    EVP_MAC_CTX* hmac_of(Suite suite);

    EVP_MAC* hmac_ = nullptr;
    std::array<EVP_MAC_CTX*, 2> contexts_{};  // by SHA-256, SHA-384
};

}  // namespace pulse::tls
