// EVP contexts, and which of them has which key.
#include "proto/tls/aead.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace pulse::tls {
namespace {

constexpr const char* kNames[] = {nullptr, "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"};
static_assert(std::size(kNames) == kSuites.size());

// An audit knows a key by its first 8 bytes, as keys are random, and forgets all beyond so many.
[[maybe_unused]] constexpr size_t kAuditedKeysMax = 100'000;

// RFC 8446 section 5.3: the number of the record, padded on the left, under the IV.
std::array<uint8_t, kIvBytes> nonce(std::span<const uint8_t, kIvBytes> iv, uint64_t number) {
    std::array<uint8_t, kIvBytes> made;
    std::ranges::copy(iv, made.begin());
    for (size_t byte = 0; byte < sizeof number; ++byte)
        made[kIvBytes - 1 - byte] ^= static_cast<uint8_t>(number >> (8 * byte));
    return made;
}

}  // namespace

Aead::~Aead() {
    for (Contexts& contexts : contexts_) {
        for (Keyed& keyed : contexts) {
            EVP_CIPHER_CTX_free(keyed.context);  // wipes what it has
            OPENSSL_cleanse(keyed.key.data(), keyed.key.size());
        }
    }
}

bool Aead::make(Suite suite, Keyed& keyed) {
    if (keyed.context != nullptr) return true;
    EVP_CIPHER* const cipher =
        EVP_CIPHER_fetch(nullptr, kNames[static_cast<size_t>(suite)], nullptr);
    keyed.context = cipher == nullptr ? nullptr : EVP_CIPHER_CTX_new();
    if (keyed.context != nullptr &&
        EVP_CipherInit_ex2(keyed.context, cipher, nullptr, nullptr, 1, nullptr) != 1) {
        EVP_CIPHER_CTX_free(keyed.context);
        keyed.context = nullptr;
    }
    EVP_CIPHER_free(cipher);  // a context has its own reference
    return keyed.context != nullptr;
}

// A context with the key and the nonce. nullptr: OpenSSL has no memory.
Aead::Keyed* Aead::begin(const TrafficKey& key, uint64_t number, bool seals) {
    Contexts& contexts = contexts_[static_cast<size_t>(key.suite)];
    const size_t bytes = info(key.suite).key_bytes;
    PULSE_ASSERT(bytes > 0 && key.key.size() == bytes);
    Keyed* found = nullptr;
    Keyed* oldest = contexts.data();
    for (Keyed& keyed : contexts) {
        if (keyed.used_at != 0 && std::memcmp(keyed.key.data(), key.key.data(), bytes) == 0)
            found = &keyed;
        if (keyed.used_at < oldest->used_at) oldest = &keyed;
    }
    const bool is_new = found == nullptr;
    if (is_new) {
        found = oldest;
        if (!make(key.suite, *found)) return nullptr;
        found->used_at = 0;
        found->next_number = 0;
    }
    const auto at = nonce(key.iv, number);
    if (EVP_CipherInit_ex2(found->context, nullptr, is_new ? key.key.data() : nullptr, at.data(),
                           seals ? 1 : 0, nullptr) != 1)
        return nullptr;
    if (is_new) std::ranges::copy(key.key, found->key.begin());
    found->used_at = ++clock_;
    return found;
}

bool Aead::open(const TrafficKey& key, uint64_t number, std::span<const uint8_t> header,
                std::span<uint8_t> bytes) {
    PULSE_ASSERT(bytes.size() >= kTagBytes);
    const std::span<uint8_t> text = bytes.first(bytes.size() - kTagBytes);
    const Keyed* const keyed = begin(key, number, false);
    if (keyed == nullptr) return false;
    int done = 0;
    return EVP_CIPHER_CTX_ctrl(keyed->context, EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                               text.data() + text.size()) == 1 &&
           EVP_CipherUpdate(keyed->context, nullptr, &done, header.data(),
                            static_cast<int>(header.size())) == 1 &&
           EVP_CipherUpdate(keyed->context, text.data(), &done, text.data(),
                            static_cast<int>(text.size())) == 1 &&
           EVP_CipherFinal_ex(keyed->context, text.data() + text.size(), &done) == 1;
}

bool Aead::seal(const TrafficKey& key, uint64_t number, std::span<const uint8_t> header,
                std::span<uint8_t> bytes) {
    PULSE_ASSERT(bytes.size() >= kTagBytes);
    const std::span<uint8_t> text = bytes.first(bytes.size() - kTagBytes);
    Keyed* const keyed = begin(key, number, true);
    if (keyed == nullptr) return false;
    PULSE_ASSERT(number >= keyed->next_number);  // a nonce is never used twice
    keyed->next_number = number + 1;
    note_sealed(key, number);
    int done = 0;
    return EVP_CipherUpdate(keyed->context, nullptr, &done, header.data(),
                            static_cast<int>(header.size())) == 1 &&
           EVP_CipherUpdate(keyed->context, text.data(), &done, text.data(),
                            static_cast<int>(text.size())) == 1 &&
           EVP_CipherFinal_ex(keyed->context, text.data() + text.size(), &done) == 1 &&
           EVP_CIPHER_CTX_ctrl(keyed->context, EVP_CTRL_AEAD_GET_TAG, kTagBytes,
                               text.data() + text.size()) == 1;
}

// A key of zeros takes its place in the context, which is wanted again soon.
void Aead::forget(const TrafficKey& key) {
    constexpr std::array<uint8_t, kKeyBytesMax> kNone{};
    for (Keyed& keyed : contexts_[static_cast<size_t>(key.suite)]) {
        if (keyed.used_at == 0 ||
            std::memcmp(keyed.key.data(), key.key.data(), key.key.size()) != 0)
            continue;
        keyed.used_at = keyed.next_number = 0;
        OPENSSL_cleanse(keyed.key.data(), keyed.key.size());
        if (EVP_CipherInit_ex2(keyed.context, nullptr, kNone.data(), nullptr, 1, nullptr) != 1) {
            EVP_CIPHER_CTX_free(keyed.context);  // wipes what it has
            keyed.context = nullptr;
        }
    }
}

// A context forgets its key when others push it out; this does not.
void Aead::note_sealed([[maybe_unused]] const TrafficKey& key, [[maybe_unused]] uint64_t number) {
#if defined(PULSE_AUDIT) && PULSE_AUDIT
    if (sealed_.size() > kAuditedKeysMax) sealed_.clear();
    uint64_t beginning = 0;
    std::memcpy(&beginning, key.key.data(), sizeof beginning);
    const auto [known, is_first] = sealed_.try_emplace(beginning, number);
    PULSE_ASSERT(is_first || number > known->second);
    known->second = number;
#endif
}

}  // namespace pulse::tls
