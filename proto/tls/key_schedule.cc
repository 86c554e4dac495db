// HKDF-Expand of RFC 5869 for outputs of one block, which all of TLS 1.3's are.
#include "proto/tls/key_schedule.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>

#include "core/check.h"

namespace pulse::tls {

KeySchedule::~KeySchedule() {
    for (EVP_MAC_CTX* context : contexts_) EVP_MAC_CTX_free(context);
    EVP_MAC_free(hmac_);
}

EVP_MAC_CTX* KeySchedule::hmac_of(Suite suite) {
    const bool long_hash = info(suite).secret_bytes == 48;
    EVP_MAC_CTX*& context = contexts_[long_hash ? 1 : 0];
    if (context != nullptr) return context;
    if (hmac_ == nullptr) hmac_ = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    if (hmac_ == nullptr) return nullptr;
    char digest[8] = "SHA256";
    if (long_hash) std::copy_n("SHA384", 7, digest);
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    context = EVP_MAC_CTX_new(hmac_);
    if (context != nullptr && EVP_MAC_CTX_set_params(context, parameters) != 1) {
        EVP_MAC_CTX_free(context);
        context = nullptr;
    }
    return context;
}

bool KeySchedule::expand(Suite suite, std::span<const uint8_t> secret, std::string_view label,
                         std::span<uint8_t> to) {
    constexpr std::string_view kPrefix = "tls13 ";
    constexpr size_t kLabelBytesMax = 20;
    PULSE_ASSERT(to.size() <= info(suite).secret_bytes && label.size() <= kLabelBytesMax);
    // HkdfLabel, and the number of the first block.
    std::array<uint8_t, 2 + 1 + kPrefix.size() + kLabelBytesMax + 1 + 1> text{};
    auto* at = text.data();
    *at++ = 0;
    *at++ = static_cast<uint8_t>(to.size());
    *at++ = static_cast<uint8_t>(kPrefix.size() + label.size());
    at = std::ranges::copy(kPrefix, at).out;
    at = std::ranges::copy(label, at).out;
    *at++ = 0;  // an empty context
    *at++ = 1;
    EVP_MAC_CTX* const hmac = hmac_of(suite);
    std::array<uint8_t, kSecretBytesMax> block{};
    size_t bytes = 0;
    const bool done =
        hmac != nullptr && EVP_MAC_init(hmac, secret.data(), secret.size(), nullptr) == 1 &&
        EVP_MAC_update(hmac, text.data(), static_cast<size_t>(at - text.data())) == 1 &&
        EVP_MAC_final(hmac, block.data(), &bytes, block.size()) == 1;
    if (done) std::copy_n(block.begin(), to.size(), to.begin());
    OPENSSL_cleanse(block.data(), block.size());
    return done;
}

}  // namespace pulse::tls
