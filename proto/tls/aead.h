// One record's bytes under its key and number: AES-GCM and ChaCha20-Poly1305 by OpenSSL's EVP.
//
// Contexts that have a key are kept for the last few that were used: a key is set in 150 ns and
// more, which a connection that sends much does not pay for each record. A context is found by the
// key itself, a copy of which lies beside it: whatever becomes of a connection's memory, no record
// is sealed with the key of another.
//
// One a reactor, and of its thread. Source: EVP_EncryptInit(3), "AEAD interface".
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "proto/limits.h"
#include "proto/tls/suite.h"

namespace pulse::tls {

// What one direction seals with. The bytes stay where they are for the length of a call.
struct TrafficKey {
    Suite suite;
    std::span<const uint8_t> key;
    std::span<const uint8_t, kIvBytes> iv;
};

class Aead {
  public:
    Aead() = default;
    ~Aead();
    Aead(const Aead&) = delete;
    Aead& operator=(const Aead&) = delete;

    // `bytes`, whose last kTagBytes are the tag, become plaintext where they are. False: they are
    // not what was sealed, or OpenSSL has no memory. Requires: there is a tag.
    bool open(const TrafficKey& key, uint64_t number, std::span<const uint8_t> header,
              std::span<uint8_t> bytes);
    // The same the other way: the tag is written to the last kTagBytes. False: OpenSSL has no
    // memory, and nothing may be sealed with this number again.
    // Requires: no record was sealed with this key and number, or with this key and a later one.
    bool seal(const TrafficKey& key, uint64_t number, std::span<const uint8_t> header,
              std::span<uint8_t> bytes);

    // No context has this key any more: what was sealed with it stays secret from now on, if none
    // has it elsewhere. Requires: it is not used again.
    void forget(const TrafficKey& key);

  private:
    struct Keyed {
        EVP_CIPHER_CTX* context = nullptr;
        std::array<uint8_t, kKeyBytesMax> key{};
        uint64_t used_at = 0;      // by clock_; 0: it has no key
        uint64_t next_number = 0;  // of a record that is to be sealed, at the least
    };
    using Contexts = std::array<Keyed, kTlsKeyedContexts>;

    Keyed* begin(const TrafficKey& key, uint64_t number, bool seals);
    static bool make(Suite suite, Keyed& keyed);
    void note_sealed(const TrafficKey& key, uint64_t number);

    std::array<Contexts, kSuites.size()> contexts_{};
    uint64_t clock_ = 0;
    // With PULSE_AUDIT: by the beginning of each key that has sealed, the last number.
    std::unordered_map<uint64_t, uint64_t> sealed_;
};

}  // namespace pulse::tls
