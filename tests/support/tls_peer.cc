// Memory BIOs, and OpenSSL's own way to go on.
#include "tests/support/tls_peer.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "core/check.h"

namespace pulse::test {

TlsPeer::TlsPeer(const TlsPeerPlan& plan)
    : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free) {
    SSL_CTX* const context = context_.get();
    // So that a test may offer what a server is to refuse.
    SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, plan.least);
    SSL_CTX_set_max_proto_version(context, plan.most);
    if (!plan.suites.empty()) SSL_CTX_set_ciphersuites(context, plan.suites.c_str());
    if (!plan.ciphers.empty()) SSL_CTX_set_cipher_list(context, plan.ciphers.c_str());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(context, &on_session);
    if (plan.shows != nullptr) {
        SSL_CTX_use_certificate(context, plan.shows->certificate());
        SSL_CTX_use_PrivateKey(context, plan.shows->key());
    }
    if (plan.trusts != nullptr) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), plan.trusts->certificate());
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    }
    ssl_.reset(SSL_new(context), SSL_free);
    SSL_set_app_data(ssl_.get(), reinterpret_cast<char*>(this));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl_.get());
    if (!plan.server_name.empty()) {
        SSL_ctrl(ssl_.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                 const_cast<char*>(plan.server_name.c_str()));
    }
    if (!plan.protocols.empty()) {
        SSL_set_alpn_protos(ssl_.get(),
                            reinterpret_cast<const unsigned char*>(plan.protocols.data()),
                            static_cast<unsigned>(plan.protocols.size()));
    }
    if (plan.resumes != nullptr) SSL_set_session(ssl_.get(), plan.resumes.get());
    take("");
}

int TlsPeer::on_session(SSL* ssl, SSL_SESSION* session) {
    auto* const own = reinterpret_cast<TlsPeer*>(SSL_get_app_data(ssl));
    own->session_.reset(session, SSL_SESSION_free);
    return 1;
}

void TlsPeer::take(std::string_view records) {
    ERR_clear_error();
    SSL* const ssl = ssl_.get();
    if (!records.empty())
        BIO_write(SSL_get_rbio(ssl), records.data(), static_cast<int>(records.size()));
    if (failed_) return;
    const auto stopped = [&](int done) {
        const int error = SSL_get_error(ssl, done);
        if (error == SSL_ERROR_WANT_READ) return;
        ended_ |= error == SSL_ERROR_ZERO_RETURN;
        failed_ |= error != SSL_ERROR_ZERO_RETURN;
        if (const char* words = ERR_reason_error_string(ERR_peek_last_error()); words != nullptr)
            alert = words;
    };
    if (!open_) {
        const int done = SSL_do_handshake(ssl);
        open_ = done == 1;
        if (!open_) return stopped(done);
    }
    char window[4'096];
    for (;;) {
        const int got = SSL_read(ssl, window, sizeof window);
        if (got <= 0) return stopped(got);
        heard.append(window, static_cast<size_t>(got));
    }
}

std::string TlsPeer::records() {
    BIO* const out = SSL_get_wbio(ssl_.get());
    std::string all(BIO_ctrl_pending(out), '\0');
    if (!all.empty()) BIO_read(out, all.data(), static_cast<int>(all.size()));
    return all;
}

void TlsPeer::say(std::string_view plain) {
    PULSE_ASSERT(SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size())) ==
                 static_cast<int>(plain.size()));
}

void TlsPeer::begin_anew() {
    SSL_clear(ssl_.get());
    SSL_set_connect_state(ssl_.get());
    records();
    take("");
}

// Of a ticket that replaces another in TLS 1.2 the callback is not told.
std::shared_ptr<SSL_SESSION> TlsPeer::session() const {
    if (SSL_version(ssl_.get()) == TLS1_3_VERSION) return session_;
    return {SSL_get1_session(ssl_.get()), SSL_SESSION_free};
}

std::string TlsPeer::server_subject() const {
    X509* const shown = SSL_get0_peer_certificate(ssl_.get());
    if (shown == nullptr) return "none";
    char name[256] = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, name, sizeof name);
    return name;
}

}  // namespace pulse::test
