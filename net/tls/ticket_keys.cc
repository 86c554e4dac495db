// AES-256-CBC and HMAC-SHA256, as RFC 5077 section 4 recommends and OpenSSL expects of a callback.
#include "net/tls/ticket_keys.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "net/tls/limits.h"

namespace pulse {
namespace {

bool set_mac(EVP_MAC_CTX* mac, const std::array<unsigned char, 32>& key) {
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_init(mac, key.data(), key.size(), parameters) == 1;
}

}  // namespace

TicketKeys::TicketKeys(std::function<Nanos()> clock) : clock_(std::move(clock)) {}

TicketKeys::~TicketKeys() {
    wipe(current_);
    wipe(before_);
}

void TicketKeys::wipe(Key& key) {
    OPENSSL_cleanse(key.cipher.data(), key.cipher.size());
    OPENSSL_cleanse(key.mac.data(), key.mac.size());
    key.known = false;
}

Nanos TicketKeys::now() const {
    if (clock_) return clock_();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

// Makes the current key one that may still seal. False: OpenSSL has no randomness.
bool TicketKeys::turn_over() {
    const Nanos at = now();
    if (before_.known && at - before_.made_at >= 2 * kTicketKeyNs) wipe(before_);
    if (current_.known && at - current_.made_at < kTicketKeyNs) return true;
    Key fresh{.made_at = at, .known = true};
    if (RAND_bytes(fresh.name.data(), static_cast<int>(fresh.name.size())) != 1 ||
        RAND_priv_bytes(fresh.cipher.data(), static_cast<int>(fresh.cipher.size())) != 1 ||
        RAND_priv_bytes(fresh.mac.data(), static_cast<int>(fresh.mac.size())) != 1)
        return false;
    wipe(before_);
    if (current_.known && at - current_.made_at < 2 * kTicketKeyNs) before_ = current_;
    wipe(current_);
    current_ = fresh;
    wipe(fresh);
    return true;
}

int TicketKeys::seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                     EVP_MAC_CTX* mac) {
    const std::lock_guard guard(lock_);
    if (!turn_over()) return -1;
    const EVP_CIPHER* const aes = EVP_aes_256_cbc();
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes)) != 1) return -1;
    std::ranges::copy(current_.name, name);
    const bool done = EVP_EncryptInit_ex2(cipher, aes, current_.cipher.data(), iv, nullptr) == 1 &&
                      set_mac(mac, current_.mac);
    return done ? 1 : -1;
}

int TicketKeys::open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
                     EVP_MAC_CTX* mac) {
    const std::lock_guard guard(lock_);
    if (!turn_over()) return -1;
    const auto is_named = [name](const Key& key) {
        return key.known && std::equal(key.name.begin(), key.name.end(), name);
    };
    Key* const key = is_named(current_) ? &current_ : is_named(before_) ? &before_ : nullptr;
    if (key == nullptr) return 0;
    const bool done =
        EVP_DecryptInit_ex2(cipher, EVP_aes_256_cbc(), key->cipher.data(), iv, nullptr) == 1 &&
        set_mac(mac, key->mac);
    return done ? 2 : -1;
}

}  // namespace pulse
