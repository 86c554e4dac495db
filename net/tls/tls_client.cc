// The client's part of OpenSSL's contexts.
#include "net/tls/tls_client.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "net/tls/openssl_words.h"
#include "net/tls/traffic_secrets.h"

namespace pulse {
namespace {

int sessions_index() {
    static const int index =
        CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, nullptr, nullptr, nullptr, nullptr);
    return index;
}

TlsSessions* sessions_of(const SSL* ssl) {
    return static_cast<TlsSessions*>(SSL_get_ex_data(ssl, sessions_index()));
}

int on_session(SSL* ssl, SSL_SESSION* session) {
    TlsSessions* const sessions = sessions_of(ssl);
    if (sessions == nullptr || SSL_SESSION_is_resumable(session) != 1) return 0;
    sessions->keep(session);
    return 1;
}

Result<void> trust(SSL_CTX* context, const TlsClientFiles& files) {
    const std::string& authorities = files.authorities;
    const std::string name(files.authorities_name);
    ERR_clear_error();
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    if (authorities.empty()) {
        if (SSL_CTX_set_default_verify_paths(context) == 1) return {};
        return Error{std::string(files.verify_name) +
                     ": the system's authorities cannot be read (" + take_openssl_error() +
                     "); name a file by " + name};
    }
    // OpenSSL would say "system lib".
    if (access(authorities.c_str(), R_OK) != 0) {
        return Error{name + " " + authorities + ": cannot be read (" + std::strerror(errno) +
                     "); name a file of the authorities to trust"};
    }
    if (SSL_CTX_load_verify_file(context, authorities.c_str()) == 1) return {};
    return Error{name + " " + authorities + ": has no certificates in PEM that can be read (" +
                 take_openssl_error() + "); name the authorities to trust"};
}

}  // namespace

void free_tls_session(SSL_SESSION* session) { SSL_SESSION_free(session); }

TlsSessions::~TlsSessions() {
    for (SSL_SESSION* session : sessions_) SSL_SESSION_free(session);
}

TlsSessions::TlsSessions(TlsSessions&& other) noexcept
    : most_(other.most_), sessions_(std::exchange(other.sessions_, {})) {}

void TlsSessions::keep(SSL_SESSION* session) {
    sessions_.push_back(session);
    if (sessions_.size() <= most_) return;
    SSL_SESSION_free(sessions_.front());
    sessions_.pop_front();
}

SSL_SESSION* TlsSessions::take() {
    if (sessions_.empty()) return nullptr;
    SSL_SESSION* const newest = sessions_.back();
    sessions_.pop_back();
    return newest;
}

Result<std::shared_ptr<const TlsClientContext>> TlsClientContext::make(
    const TlsClientFiles& files) {
    SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
    if (context == nullptr) return Error{"TLS: " + take_openssl_error() + "; free some memory"};
    const std::shared_ptr<const TlsClientContext> made(
        new TlsClientContext(context, files.freezes));
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, &on_session);
    if (files.freezes && !allow_freezing(context))
        return Error{"TLS: " + take_openssl_error() + "; free some memory"};
    if (!files.verify) return made;
    if (Result<void> trusted = trust(context, files); !trusted)
        return Error{trusted.error()};
    return made;
}

TlsClientContext::~TlsClientContext() { SSL_CTX_free(context_); }

bool keep_tls_sessions(SSL* ssl, TlsSessions* sessions) {
    return SSL_set_ex_data(ssl, sessions_index(), sessions) == 1;
}

void keep_resumed_session(SSL* ssl) {
    TlsSessions* const sessions = sessions_of(ssl);
    if (sessions == nullptr || SSL_session_reused(ssl) != 1) return;
    if (SSL_version(ssl) >= TLS1_3_VERSION) return;  // its next ticket comes behind the handshake
    if (SSL_SESSION* const session = SSL_get1_session(ssl); session != nullptr)
        sessions->keep(session);
}

bool set_tls_server(SSL* ssl, const std::string& name) {
    if (name.empty()) return true;
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1) return true;
    ERR_clear_error();
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    // What SSL_set_tlsext_host_name() expands to, with a cast of C.
    return SSL_set1_host(ssl, name.c_str()) == 1 &&
           SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                    const_cast<char*>(name.c_str())) == 1;
}

}  // namespace pulse
