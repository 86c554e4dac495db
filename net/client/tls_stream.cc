// OpenSSL over two BIOs in memory.
#include "net/client/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "net/tls/openssl_words.h"

namespace pulse::client {

std::unique_ptr<TlsStream> TlsStream::make(const TlsClientContext& context,
                                           const std::string& server) {
    SSL* const ssl = SSL_new(context.get());
    if (ssl == nullptr) return nullptr;
    std::unique_ptr<TlsStream> stream(new TlsStream(ssl));
    BIO* const in = BIO_new(BIO_s_mem());
    BIO* const out = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, in, out);  // which frees what is there
    if (in == nullptr || out == nullptr || !set_tls_server(ssl, server)) return nullptr;
    SSL_set_connect_state(ssl);
    stream->handshake();
    return stream;
}

TlsStream::~TlsStream() { SSL_free(ssl_); }

bool TlsStream::take(std::span<const uint8_t> records) {
    size_t written = 0;
    return BIO_write_ex(SSL_get_rbio(ssl_), records.data(), records.size(), &written) == 1 &&
           written == records.size();
}

TlsStream::Step TlsStream::handshake() {
    ERR_clear_error();
    const int done = SSL_do_handshake(ssl_);
    if (done == 1) return Step::opened;
    if (SSL_get_error(ssl_, done) == SSL_ERROR_WANT_READ) return Step::more;
    failure_ = take_openssl_error();
    return Step::failed;
}

TlsStream::Read TlsStream::read(std::span<uint8_t> to) {
    ERR_clear_error();
    Read read;
    const int done = SSL_read_ex(ssl_, to.data(), to.size(), &read.bytes);
    if (done == 1) return read;
    read.bytes = 0;
    switch (SSL_get_error(ssl_, done)) {
        case SSL_ERROR_WANT_READ:
            break;
        case SSL_ERROR_ZERO_RETURN:
            read.ended = true;
            break;
        default:
            read.ended = true;
            failure_ = take_openssl_error();
    }
    return read;
}

bool TlsStream::write(std::string_view plain) {
    if (plain.empty()) return true;
    ERR_clear_error();
    size_t written = 0;
    if (SSL_write_ex(ssl_, plain.data(), plain.size(), &written) == 1) return true;
    failure_ = take_openssl_error();
    return false;
}

void TlsStream::say_end() {
    if (SSL_is_init_finished(ssl_) != 1) return;
    ERR_clear_error();
    SSL_shutdown(ssl_);
}

std::string TlsStream::take_output() {
    BIO* const out = SSL_get_wbio(ssl_);
    std::string records(BIO_ctrl_pending(out), '\0');
    size_t read = 0;
    if (!records.empty() && BIO_read_ex(out, records.data(), records.size(), &read) != 1) read = 0;
    records.resize(read);
    return records;
}

}  // namespace pulse::client
