// Files in PEM to contexts.
#include "net/tls/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "net/tls/limits.h"
#include "net/tls/openssl_words.h"
#include "net/tls/tls_context.h"

namespace pulse {
namespace {

struct Free {
    void operator()(BIO* file) const { BIO_free(file); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(STACK_OF(X509) * chain) const { sk_X509_pop_free(chain, X509_free); }
    void operator()(BIGNUM* number) const { BN_free(number); }
    void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

// A certificate with what leads from it to an authority, and its key.
struct Pair {
    std::string certificate_flag, key_flag;  // with the file, for errors
    Owned<X509> certificate;
    Owned<STACK_OF(X509)> chain;
    Owned<EVP_PKEY> key;
    std::string names;  // "a.example b.example"
};

Error refused(const std::string& flag, const std::string& what, const std::string& remedy) {
    return Error{flag + ": " + what + "; " + remedy};
}

// No terminal is asked for a passphrase: a server has none, and would hang at a reload.
int no_passphrase(char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

Result<Owned<BIO>> open_file(const std::string& flag, const std::string& path) {
    ERR_clear_error();
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
        return refused(flag, "is not a regular file", "name one that a reload can read again");
    Owned<BIO> file(BIO_new_file(path.c_str(), "r"));
    if (file == nullptr) {
        return refused(flag, "cannot be read: " + take_openssl_error(),
                       "name a file that this user may read");
    }
    return file;
}

Result<void> read_certificates(const std::string& path, Pair& pair) {
    Result<Owned<BIO>> file = open_file(pair.certificate_flag, path);
    if (!file) return Error{file.error()};
    bool asked = false;
    pair.certificate.reset(PEM_read_bio_X509_AUX(file->get(), nullptr, &no_passphrase, &asked));
    pair.chain.reset(sk_X509_new_null());
    if (pair.certificate == nullptr || pair.chain == nullptr) {
        return refused(pair.certificate_flag,
                       "has no certificate in PEM (" + take_openssl_error() + ")",
                       "name one that begins with -----BEGIN CERTIFICATE-----");
    }
    for (;;) {
        Owned<X509> next(PEM_read_bio_X509(file->get(), nullptr, &no_passphrase, &asked));
        if (next == nullptr) break;
        if (sk_X509_push(pair.chain.get(), next.get()) == 0) return Error{"no memory"};
        next.release();
    }
    const unsigned long code = ERR_peek_last_error();
    const bool at_end =
        ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    const std::string why = take_openssl_error();
    if (at_end) return {};
    return refused(pair.certificate_flag, "a certificate of its chain cannot be read (" + why + ")",
                   "let it hold whole certificates, the server's own first");
}

Result<void> read_key(const std::string& path, Pair& pair, std::vector<std::string>& warnings) {
    Result<Owned<BIO>> file = open_file(pair.key_flag, path);
    if (!file) return Error{file.error()};
    bool asked = false;
    pair.key.reset(PEM_read_bio_PrivateKey(file->get(), nullptr, &no_passphrase, &asked));
    if (asked && pair.key == nullptr) {
        take_openssl_error();
        return refused(pair.key_flag, "is encrypted, and a server has no passphrase",
                       "name the key without one (openssl pkey -in FILE -out NEW)");
    }
    if (pair.key == nullptr) {
        return refused(pair.key_flag, "has no private key in PEM (" + take_openssl_error() + ")",
                       "name one that begins with -----BEGIN PRIVATE KEY-----");
    }
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0 && (status.st_mode & S_IROTH) != 0) {
        warnings.push_back(pair.key_flag +
                           ": every user of this machine may read it, and it is secret; "
                           "chmod o-r it");
    }
    return {};
}

std::string text_of(const ASN1_TIME* time) {
    const Owned<BIO> memory(BIO_new(BIO_s_mem()));
    if (memory == nullptr || ASN1_TIME_print(memory.get(), time) != 1) return "an unknown time";
    char* words = nullptr;
    const long bytes = BIO_get_mem_data(memory.get(), &words);
    return {words, static_cast<size_t>(bytes)};
}

// Since 1970. What OpenSSL cannot read, which it refuses in a handshake too, is over.
int64_t seconds_of(const ASN1_TIME* time) {
    tm moment{};
    return ASN1_TIME_to_tm(time, &moment) == 1 ? timegm(&moment) : 0;
}

// What clients will look for: subjectAltName's DNS names, or else the common name.
std::string names_of(X509* certificate) {
    std::vector<std::string> names;
    const Owned<GENERAL_NAMES> all(static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
    for (int i = 0; all != nullptr && i < sk_GENERAL_NAME_num(all.get()); ++i) {
        const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all.get(), i);
        if (name->type != GEN_DNS) continue;
        names.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                           static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
    }
    std::ranges::sort(names);
    char common[256] = {};
    if (names.empty() && X509_NAME_get_text_by_NID(X509_get_subject_name(certificate),
                                                   NID_commonName, common, sizeof common) > 0)
        names.emplace_back(common);
    std::string text;
    for (const std::string& name : names) text.append(text.empty() ? "" : " ").append(name);
    return text.empty() ? "no name" : text;
}

Result<Pair> read_pair(const std::string& certificate, const std::string& key, LoadedTls& loaded) {
    Pair pair{.certificate_flag = "--tls-cert " + certificate,
              .key_flag = "--tls-key " + key,
              .certificate = nullptr,
              .chain = nullptr,
              .key = nullptr,
              .names = {}};
    if (Result<void> read = read_certificates(certificate, pair); !read) return Error{read.error()};
    if (Result<void> read = read_key(key, pair, loaded.warnings); !read) return Error{read.error()};
    if (X509_check_private_key(pair.certificate.get(), pair.key.get()) != 1) {
        take_openssl_error();
        return refused(pair.key_flag, "is not the key of " + pair.certificate_flag,
                       "give certificates and keys in the same order");
    }
    pair.names = names_of(pair.certificate.get());
    const ASN1_TIME* const ends = X509_get0_notAfter(pair.certificate.get());
    loaded.notes.push_back(pair.certificate_flag + ": " + pair.names + ", " +
                           OBJ_nid2sn(EVP_PKEY_get_base_id(pair.key.get())) + ", until " +
                           text_of(ends));
    if (X509_cmp_current_time(ends) < 0) {
        loaded.warnings.push_back(pair.certificate_flag + ": has expired at " + text_of(ends) +
                                  "; clients refuse it, renew it and send SIGHUP");
    }
    if (X509_cmp_current_time(X509_get0_notBefore(pair.certificate.get())) > 0) {
        loaded.warnings.push_back(pair.certificate_flag +
                                  ": is not valid yet; clients refuse it, look at the clock");
    }
    return pair;
}

Result<void> set_ciphers(SSL_CTX* context, const std::string& all) {
    std::string suites, older;
    size_t at = 0;
    while (at < all.size()) {
        const size_t end = std::min(all.find(':', at), all.size());
        const std::string name = all.substr(at, end - at);
        std::string& list = name.starts_with("TLS_") ? suites : older;
        list.append(list.empty() ? "" : ":").append(name);
        at = end + 1;
    }
    const bool done = (suites.empty() || SSL_CTX_set_ciphersuites(context, suites.c_str()) == 1) &&
                      (older.empty() || SSL_CTX_set_cipher_list(context, older.c_str()) == 1);
    if (done) return {};
    return refused("--tls-ciphers '" + all + "'", take_openssl_error(),
                   "write names that `openssl ciphers -v` lists, with colons between them");
}

// Of TLS 1.3's suites the one of which the least is kept, unless the client would rather have
// ChaCha20, as one without instructions for AES does.
bool prefer_small(SSL_CTX* context) {
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    return SSL_CTX_set_ciphersuites(context,
                                    "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                                    "TLS_AES_256_GCM_SHA384") == 1;
}

// Sessions of before are not resumed where other authorities are asked from now on.
Result<void> set_session_id(SSL_CTX* context, const TlsFiles& files) {
    unsigned char digest[EVP_MAX_MD_SIZE] = {};
    unsigned int bytes = 0;
    std::string text = "pulsewheel";
    if (!files.client_ca.empty()) {
        const Result<Owned<BIO>> file =
            open_file("--tls-client-ca " + files.client_ca, files.client_ca);
        if (!file) return Error{file.error()};
        char piece[4'096];
        for (int got = 0; (got = BIO_read(file->get(), piece, sizeof piece)) > 0;)
            text.append(piece, static_cast<size_t>(got));
    }
    const bool done =
        EVP_Digest(text.data(), text.size(), digest, &bytes, EVP_sha256(), nullptr) == 1 &&
        SSL_CTX_set_session_id_context(context, digest, bytes) == 1;
    if (done) return {};
    return Error{"--tls-cert: " + take_openssl_error() + "; start with more memory"};
}

Result<void> ask_clients(SSL_CTX* context, const std::string& path) {
    const std::string flag = "--tls-client-ca " + path;
    if (Result<Owned<BIO>> file = open_file(flag, path); !file) return Error{file.error()};
    STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(path.c_str());
    if (names == nullptr || SSL_CTX_load_verify_file(context, path.c_str()) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return refused(flag, "has no certificates in PEM (" + take_openssl_error() + ")",
                       "name the authorities whose clients may connect");
    }
    SSL_CTX_set_client_CA_list(context, names);  // its own now
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    return {};
}

Result<Owned<SSL_CTX>> make_context(const TlsFiles& files) {
    Owned<SSL_CTX> context(SSL_CTX_new(TLS_server_method()));
    if (context == nullptr) return Error{"--tls-cert: no memory; start with more of it"};
    SSL_CTX* const raw = context.get();
    SSL_CTX_set_min_proto_version(
        raw, files.least == TlsVersion::v1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_early_data(raw, 0);
    // A client has one connection here, and a ticket is for one (RFC 8446 appendix C.4).
    SSL_CTX_set_num_tickets(raw, 1);
    if (Result<void> set = set_session_id(raw, files); !set) return Error{set.error()};
    if (!files.ciphers.empty()) {
        if (Result<void> set = set_ciphers(raw, files.ciphers); !set) return Error{set.error()};
    } else if (files.idle == TlsIdle::frozen && !prefer_small(raw)) {
        return Error{"--tls-idle frozen: " + take_openssl_error() + "; use openssl"};
    }
    if (!files.client_ca.empty()) {
        if (Result<void> set = ask_clients(raw, files.client_ca); !set) return Error{set.error()};
    }
    return context;
}

// One context for each set of names: a certificate of RSA and one of ECDSA for the same names share
// one, from which OpenSSL takes what a client can verify.
struct Named {
    std::string names;
    Owned<SSL_CTX> context;
    std::vector<int> key_types;
};

Result<void> use(std::vector<Named>& all, const Pair& pair, const TlsFiles& files) {
    const int type = EVP_PKEY_get_base_id(pair.key.get());
    auto named = std::ranges::find(all, pair.names, &Named::names);
    if (named != all.end() && std::ranges::count(named->key_types, type) > 0) {
        return refused(pair.certificate_flag, "another certificate has the same names and kind",
                       "give each once");
    }
    if (named == all.end()) {
        Result<Owned<SSL_CTX>> context = make_context(files);
        if (!context) return Error{context.error()};
        all.push_back({pair.names, std::move(*context), {}});
        named = all.end() - 1;
    }
    named->key_types.push_back(type);
    if (SSL_CTX_use_cert_and_key(named->context.get(), pair.certificate.get(), pair.key.get(),
                                 pair.chain.get(), 1) == 1)
        return {};
    return refused(pair.certificate_flag, "OpenSSL does not take it: " + take_openssl_error(),
                   "make one that its security level allows, such as of P-256");
}

}  // namespace

Result<LoadedTls> load_tls(const TlsFiles& files, const TlsContext* before) {
    LoadedTls loaded;
    if (!files.on() && !files.keys.empty()) {
        loaded.warnings.push_back("--tls-key " + files.keys.front() +
                                  ": its certificate is missing; give "
                                  "--tls-cert, or do without it");
    }
    if (!files.on()) return loaded;
    const bool apart = !files.keys.empty();
    if (apart && files.keys.size() != files.certificates.size()) {
        return Error{"--tls-key: there are " + std::to_string(files.keys.size()) + " keys for " +
                     std::to_string(files.certificates.size()) +
                     " certificates; give one for each, in the same order, or none where the files "
                     "of the certificates hold them"};
    }
    std::vector<Named> named;
    std::vector<CertificateTerm> terms;
    for (size_t i = 0; i < files.certificates.size(); ++i) {
        const std::string& certificate = files.certificates[i];
        const std::string& key = apart ? files.keys[i] : certificate;
        const Result<Pair> pair = read_pair(certificate, key, loaded);
        if (!pair) return Error{pair.error()};
        if (Result<void> used = use(named, *pair, files); !used) return Error{used.error()};
        terms.push_back({certificate, seconds_of(X509_get0_notAfter(pair->certificate.get()))});
    }
    std::vector<SSL_CTX*> contexts;
    contexts.reserve(named.size());
    for (Named& one : named) contexts.push_back(one.context.release());
    loaded.context =
        TlsContext::make(std::move(contexts),
                         before != nullptr ? before->ticket_keys() : std::make_shared<TicketKeys>(),
                         std::move(terms), files.idle == TlsIdle::frozen);
    if (loaded.context == nullptr) return Error{"--tls-cert: no memory; start with more of it"};
    return loaded;
}

}  // namespace pulse
