// Contexts of OpenSSL, and what they do in a handshake: names, ALPN, tickets.
#include "net/tls/tls_context.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cstring>
#include <utility>

#include "net/tls/traffic_secrets.h"

namespace pulse {
namespace {

constexpr unsigned char kHttp[] = "\x08http/1.1";

// What a context owns for as long as a connection has it, which may be longer than its snapshot.
struct Kept {
    std::shared_ptr<TicketKeys> keys;
    std::vector<SSL_CTX*> others;  // of the first: one reference each
};

void free_kept(void*, void* kept, CRYPTO_EX_DATA*, int, long, void*) {
    auto* const own = static_cast<Kept*>(kept);
    if (own == nullptr) return;
    for (SSL_CTX* other : own->others) SSL_CTX_free(other);
    delete own;
}

int kept_index() {
    static const int index =
        CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, nullptr, nullptr, nullptr, &free_kept);
    return index;
}

Kept* kept_of(const SSL* ssl) {
    return static_cast<Kept*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), kept_index()));
}

bool has_name(SSL_CTX* context, const char* name) {
    X509* const certificate = SSL_CTX_get0_certificate(context);
    return certificate != nullptr && X509_check_host(certificate, name, 0, 0, nullptr) == 1;
}

// The first that has the name; a name that none has gets the first of all, which its client judges.
int choose_certificate(SSL* ssl, int*, void*) {
    const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const Kept* const kept = kept_of(ssl);
    if (name == nullptr || kept == nullptr || has_name(SSL_get_SSL_CTX(ssl), name))
        return SSL_TLSEXT_ERR_OK;
    for (SSL_CTX* other : kept->others) {
        if (!has_name(other, name)) continue;
        return SSL_set_SSL_CTX(ssl, other) != nullptr ? SSL_TLSEXT_ERR_OK
                                                      : SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_OK;
}

// A client that insists on another protocol is told so (RFC 7301 section 3.2), and not by frames of
// one that it does not speak.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_bytes,
                    const unsigned char* offered, unsigned int offered_bytes, void*) {
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_bytes, kHttp, sizeof kHttp - 1, offered,
                              offered_bytes) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

int use_ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                   EVP_MAC_CTX* mac, int sealing) {
    const Kept* const kept = kept_of(ssl);
    if (kept == nullptr) return -1;
    return sealing == 1 ? kept->keys->seal(name, iv, cipher, mac)
                        : kept->keys->open(name, iv, cipher, mac);
}

// A session that a client's certificate began ends with it: each ticket brings the next one, and no
// certificate is looked at again.
SSL_TICKET_RETURN judge_ticket(SSL*, SSL_SESSION* session, const unsigned char*, size_t,
                               SSL_TICKET_STATUS status, void*) {
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;  // no session
    const X509* const peer = SSL_SESSION_get0_peer(session);
    if (peer != nullptr && X509_cmp_current_time(X509_get0_notAfter(peer)) <= 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
}

bool keep(SSL_CTX* context, const std::shared_ptr<TicketKeys>& keys) {
    auto kept = std::make_unique<Kept>(Kept{keys, {}});
    if (SSL_CTX_set_ex_data(context, kept_index(), kept.get()) != 1) return false;
    kept.release();  // free_kept()'s now
    return true;
}

}  // namespace

TlsContext::TlsContext(std::vector<SSL_CTX*> contexts, std::shared_ptr<TicketKeys> keys,
                       std::vector<CertificateTerm> terms, bool freezes)
    : contexts_(std::move(contexts)),
      keys_(std::move(keys)),
      terms_(std::move(terms)),
      freezes_(freezes) {}

std::shared_ptr<const TlsContext> TlsContext::make(std::vector<SSL_CTX*> contexts,
                                                   std::shared_ptr<TicketKeys> keys,
                                                   std::vector<CertificateTerm> terms,
                                                   bool freezes) {
    const std::shared_ptr<const TlsContext> made(
        new TlsContext(std::move(contexts), std::move(keys), std::move(terms), freezes));
    for (SSL_CTX* context : made->contexts_) {
        if (!keep(context, made->keys_)) return nullptr;
        SSL_CTX_set_alpn_select_cb(context, &choose_protocol, nullptr);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(context, &use_ticket_key);
        SSL_CTX_set_session_ticket_cb(context, nullptr, &judge_ticket, nullptr);
        if (freezes && !allow_freezing(context)) return nullptr;
    }
    SSL_CTX* const first = made->first();
    auto* const kept = static_cast<Kept*>(SSL_CTX_get_ex_data(first, kept_index()));
    for (size_t other = 1; other < made->contexts_.size(); ++other) {
        if (SSL_CTX_up_ref(made->contexts_[other]) != 1) return nullptr;
        kept->others.push_back(made->contexts_[other]);
    }
    // What SSL_CTX_set_tlsext_servername_callback() expands to, with a cast of C.
    SSL_CTX_callback_ctrl(first, SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
                          reinterpret_cast<void (*)()>(&choose_certificate));
    return made;
}

TlsContext::~TlsContext() {
    for (SSL_CTX* context : contexts_) SSL_CTX_free(context);
}

}  // namespace pulse
