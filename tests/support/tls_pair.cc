// Memory BIOs, and a certificate of the process.
#include "tests/support/tls_pair.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include "core/check.h"

#include "tests/support/certificates.h"

namespace pulse::test {
namespace {

const TestCertificate& certificate() {
    static const TestCertificate made{{.names = {"a.example"}}};
    return made;
}

constexpr const char* kSuiteNames[] = {"", "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                       "TLS_CHACHA20_POLY1305_SHA256"};

std::shared_ptr<SSL_CTX> context(const SSL_METHOD* method, tls::Suite suite) {
    const std::shared_ptr<SSL_CTX> made(SSL_CTX_new(method), SSL_CTX_free);
    SSL_CTX_set_min_proto_version(made.get(), TLS1_3_VERSION);
    PULSE_ASSERT(SSL_CTX_set_ciphersuites(made.get(), kSuiteNames[static_cast<int>(suite)]) == 1);
    PULSE_ASSERT(allow_freezing(made.get()));
    return made;
}

std::shared_ptr<SSL> connection(SSL_CTX* from) {
    const std::shared_ptr<SSL> made(SSL_new(from), SSL_free);
    PULSE_ASSERT(watch_secrets(made.get()));
    SSL_set_bio(made.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    return made;
}

std::string taken_from(BIO* bio) {
    std::string all(BIO_ctrl_pending(bio), '\0');
    if (!all.empty()) BIO_read(bio, all.data(), static_cast<int>(all.size()));
    return all;
}

void give(SSL* ssl, std::string_view records) {
    if (!records.empty())
        BIO_write(SSL_get_rbio(ssl), records.data(), static_cast<int>(records.size()));
}

// The last alert that is written is the one that ends a connection.
void note_alert(int written, int, int what, const void* message, size_t bytes, SSL*, void* to) {
    if (written != 1 || what != SSL3_RT_ALERT || bytes != 2) return;
    *static_cast<tls::Alert*>(to) =
        static_cast<tls::Alert>(static_cast<const uint8_t*>(message)[1]);
}

}  // namespace

TlsPair::TlsPair(tls::Suite suite, int tickets)
    : client_context_(context(TLS_client_method(), suite)),
      server_context_(context(TLS_server_method(), suite)) {
    SSL_CTX* const serving = server_context_.get();
    SSL_CTX_use_certificate(serving, certificate().certificate());
    SSL_CTX_use_PrivateKey(serving, certificate().key());
    SSL_CTX_set_num_tickets(serving, static_cast<size_t>(tickets));
    client_ = connection(client_context_.get());
    server_ = connection(serving);
    SSL_set_connect_state(client());
    SSL_set_accept_state(server());
    SSL_do_handshake(client());
    give(server(), written_by(client()));
    SSL_do_handshake(server());
    give(client(), written_by(server()));
    PULSE_ASSERT(SSL_do_handshake(client()) == 1);
    give(server(), written_by(client()));
    PULSE_ASSERT(SSL_do_handshake(server()) == 1);
    server_beginning_ = frozen_beginning(server()).value();
    client_beginning_ = frozen_beginning(client()).value();
}

std::string TlsPair::written_by(SSL* end) const { return taken_from(SSL_get_wbio(end)); }

Verdict read_by_openssl(SSL* ssl, std::string_view records) {
    Verdict verdict;
    SSL_set_msg_callback(ssl, &note_alert);
    SSL_set_msg_callback_arg(ssl, &verdict.alert);
    ERR_clear_error();
    give(ssl, records);
    char window[20'000];
    int got = 0;
    while ((got = SSL_read(ssl, window, sizeof window)) > 0)
        verdict.plain.append(window, static_cast<size_t>(got));
    const int error = SSL_get_error(ssl, got);
    verdict.ended = error == SSL_ERROR_ZERO_RETURN;
    verdict.failed = error == SSL_ERROR_SSL;
    SSL_set_msg_callback(ssl, nullptr);
    return verdict;
}

}  // namespace pulse::test
