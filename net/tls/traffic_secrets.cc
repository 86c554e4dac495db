// The keylog's lines, and a count of records.
#include "net/tls/traffic_secrets.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <array>
#include <cstring>
#include <new>
#include <string_view>

namespace pulse {
namespace {

struct Secret {
    std::array<uint8_t, tls::kSecretBytesMax> value{};
    size_t bytes = 0;
    uint64_t records = 0;  // since it was known
};

// From the beginning of a handshake to the end of its SSL object.
struct Secrets {
    Secret client, server;
    ~Secrets() { OPENSSL_cleanse(this, sizeof *this); }
};

void free_secrets(void*, void* kept, CRYPTO_EX_DATA*, int, long, void*) {
    delete static_cast<Secrets*>(kept);
}

int place_of_secrets() {
    static const int place =
        CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, nullptr, nullptr, nullptr, &free_secrets);
    return place;
}

Secrets* secrets_of(const SSL* ssl) {
    return static_cast<Secrets*>(SSL_get_ex_data(ssl, place_of_secrets()));
}

// Nothing where it is not one: then the connection is not frozen.
void read_secret(std::string_view hex, Secret& to) {
    to = Secret{};
    if (hex.size() % 2 != 0 || hex.size() / 2 > to.value.size()) return;
    for (size_t byte = 0; byte < hex.size() / 2; ++byte) {
        const int high = OPENSSL_hexchar2int(static_cast<uint8_t>(hex[2 * byte]));
        const int low = OPENSSL_hexchar2int(static_cast<uint8_t>(hex[2 * byte + 1]));
        if (high < 0 || low < 0) return;
        to.value[byte] = static_cast<uint8_t>(high << 4 | low);
    }
    to.bytes = hex.size() / 2;
}

// LABEL, the client's random and the secret, with spaces between. Each end writes the first of its
// records with a secret after this, and reads the first of its peer's after this.
void on_secret(const SSL* ssl, const char* text) {
    Secrets* const secrets = secrets_of(ssl);
    const std::string_view line(text);
    const size_t label = line.find(' '), random = line.rfind(' ');
    if (secrets == nullptr || label == std::string_view::npos) return;
    const std::string_view name = line.substr(0, label);
    if (name == "CLIENT_TRAFFIC_SECRET_0") read_secret(line.substr(random + 1), secrets->client);
    if (name == "SERVER_TRAFFIC_SECRET_0") read_secret(line.substr(random + 1), secrets->server);
}

// Of each record that is sealed the type of what is in it is reported once.
void on_record(int written, int, int what, const void*, size_t, SSL* ssl, void* kept) {
    if (what != SSL3_RT_INNER_CONTENT_TYPE) return;
    auto& secrets = *static_cast<Secrets*>(kept);
    const bool by_server = (written != 0) == (SSL_is_server(ssl) == 1);
    ++(by_server ? secrets.server : secrets.client).records;
}

}  // namespace

// The place is asked for here, once: where there is no memory for it a server does not start.
bool allow_freezing(SSL_CTX* context) {
    SSL_CTX_set_keylog_callback(context, &on_secret);
    return place_of_secrets() >= 0;
}

bool watch_secrets(SSL* ssl) {
    auto* const secrets = new (std::nothrow) Secrets;
    if (secrets == nullptr || SSL_set_ex_data(ssl, place_of_secrets(), secrets) != 1) {
        delete secrets;
        return false;
    }
    SSL_set_msg_callback(ssl, &on_record);
    SSL_set_msg_callback_arg(ssl, secrets);
    return true;
}

std::optional<tls::Beginning> frozen_beginning(const SSL* ssl) {
    const Secrets* const secrets = secrets_of(ssl);
    const SSL_CIPHER* const cipher = SSL_get_current_cipher(ssl);
    if (secrets == nullptr || cipher == nullptr || SSL_version(ssl) != TLS1_3_VERSION ||
        SSL_has_pending(ssl) != 0)
        return std::nullopt;
    // A small client's buffer (RFC 6066 section 4): proto/tls/ seals records of any length.
    if (SSL_SESSION_get_max_fragment_length(SSL_get_session(ssl)) !=
        TLSEXT_max_fragment_length_DISABLED)
        return std::nullopt;
    const tls::Suite suite = tls::suite_of(SSL_CIPHER_get_protocol_id(cipher));
    const size_t bytes = tls::info(suite).secret_bytes;
    if (bytes == 0 || secrets->client.bytes != bytes || secrets->server.bytes != bytes)
        return std::nullopt;
    const bool is_server = SSL_is_server(ssl) == 1;
    const Secret& peer = is_server ? secrets->client : secrets->server;
    const Secret& own = is_server ? secrets->server : secrets->client;
    return tls::Beginning{.suite = suite,
                          .role = is_server ? Role::server : Role::client,
                          .client_secret = {secrets->client.value.data(), bytes},
                          .server_secret = {secrets->server.value.data(), bytes},
                          .records_read = peer.records,
                          .records_written = own.records};
}

}  // namespace pulse
