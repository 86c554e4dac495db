// OpenSSL between spans.
#include "net/tls/tls_connections.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "core/check.h"
#include "core/limits.h"
#include "net/tls/limits.h"
#include "net/tls/openssl_memory.h"
#include "net/tls/openssl_words.h"

namespace pulse {
namespace {

// Whose it is: its application data.
TlsConnections* owner_of(const SSL* ssl) {
    return static_cast<TlsConnections*>(SSL_get_ex_data(ssl, 0));
}

// Type, version, and two bytes of length (RFC 8446 section 5.1).
constexpr uint32_t kRecordHeaderBytes = 5;

}  // namespace

// What OpenSSL asks for bytes, and where it puts them: the spans of the call that runs.
struct TlsConnections::Bio {
    static int read(BIO* bio, char* to, int room) {
        auto& own = *static_cast<TlsConnections*>(BIO_get_data(bio));
        BIO_clear_retry_flags(bio);
        if (room <= 0) return 0;
        if (own.input_.empty()) {
            BIO_set_retry_read(bio);
            return -1;
        }
        const size_t bytes = std::min(own.input_.size(), static_cast<size_t>(room));
        std::memcpy(to, own.input_.data(), bytes);
        own.input_ = own.input_.subspan(bytes);
        return static_cast<int>(bytes);
    }
    static int write(BIO* bio, const char* from, int bytes) {
        auto& own = *static_cast<TlsConnections*>(BIO_get_data(bio));
        BIO_clear_retry_flags(bio);
        const auto* const first = reinterpret_cast<const uint8_t*>(from);
        own.output_.insert(own.output_.end(), first, first + bytes);
        return bytes;
    }
    static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH; }

    static const BIO_METHOD* method() {
        static BIO_METHOD* const made = [] {
            BIO_METHOD* const fresh =
                BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "spans");
            if (fresh == nullptr) return fresh;
            BIO_meth_set_read(fresh, &read);
            BIO_meth_set_write(fresh, &write);
            BIO_meth_set_ctrl(fresh, &control);
            return fresh;
        }();
        return made;
    }

    // A step of a handshake behind the first is one of a KeyUpdate. The callback cannot end it: no
    // bytes are left to read instead, and read() sees why. To a client tickets come so, too, as
    // many as its server likes.
    static void on_event(const SSL* ssl, int where, int) {
        if ((where & SSL_CB_LOOP) == 0 || SSL_is_server(ssl) == 0) return;
        TlsConnections& own = *owner_of(ssl);
        if (++own.key_updates_ > kTlsKeyUpdatesPerRead) own.input_ = {};
    }
};

TlsConnections::TlsConnections(PageSource& pages, uint32_t places)
    : pages_(pages), places_(places) {}

TlsConnections::~TlsConnections() {
    if (entries_ == nullptr) return;
    for (size_t index = 0; index < used_; ++index) SSL_free(entries_[index].ssl);
    pages_.release(reinterpret_cast<std::byte*>(entries_), places_ * sizeof(Entry));
}

bool TlsConnections::turn_on() {
    if (entries_ != nullptr) return true;
    entries_ = reinterpret_cast<Entry*>(pages_.reserve_small(places_ * sizeof(Entry)));
    return entries_ != nullptr;
}

// An object for this place; nullptr: there is no memory.
SSL* TlsConnections::make(Index index, SSL_CTX* context) {
    if (!turn_on() || Bio::method() == nullptr) return nullptr;
    PULSE_ASSERT(!has(index));
    SSL* const ssl = SSL_new(context);
    BIO* const bio = ssl == nullptr ? nullptr : BIO_new(Bio::method());
    if (bio == nullptr || SSL_set_ex_data(ssl, 0, this) != 1) {
        BIO_free(bio);
        SSL_free(ssl);
        ERR_clear_error();
        return nullptr;
    }
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);  // takes it over
    used_ = std::max<size_t>(used_, index + 1);
    entries_[index] = {.ssl = ssl, .come = 0, .length = 0};
    ++count_;
    ++handshaking_;
    return ssl;
}

bool TlsConnections::begin(Index index, const TlsContext& context) {
    SSL* const ssl = make(index, context.first());
    if (ssl == nullptr) return false;
    SSL_set_accept_state(ssl);
    return true;
}

bool TlsConnections::begin_client(Index index, const TlsClientStart& start) {
    SSL* const ssl = make(index, start.context.get());
    if (ssl == nullptr) return false;
    SSL_set_connect_state(ssl);
    begin_call({});
    const bool ready = set_tls_server(ssl, start.server) && keep_tls_sessions(ssl, start.keeps) &&
                       (start.resumes == nullptr || SSL_set_session(ssl, start.resumes) == 1) &&
                       SSL_get_error(ssl, SSL_do_handshake(ssl)) == SSL_ERROR_WANT_READ;
    if (ready) return true;
    ERR_clear_error();
    output_.clear();
    release(index);
    return false;
}

// The callback of events is set once a handshake is over, and on no object before.
bool TlsConnections::is_handshaking(Index index) const {
    return has(index) && SSL_get_info_callback(entries_[index].ssl) == nullptr;
}

void TlsConnections::begin_call(std::span<const uint8_t> records) {
    ERR_clear_error();  // or SSL_get_error() takes an old one for ours
    input_ = records;
    output_.clear();
    reason_.clear();
    key_updates_ = 0;
    tidy();
}

// What a large message needed is given back.
void TlsConnections::tidy() {
    if (output_.capacity() > kTlsScratchBytes) output_ = std::vector<uint8_t>();
    if (plain_.capacity() > kTlsScratchBytes) plain_ = std::vector<uint8_t>();
}

void TlsConnections::end_handshake(SSL* ssl) {
    SSL_set_info_callback(ssl, &Bio::on_event);
    keep_resumed_session(ssl);
    PULSE_ASSERT(handshaking_ > 0);
    --handshaking_;
}

TlsConnections::Read TlsConnections::read(Index index, std::span<const uint8_t> records) {
    PULSE_ASSERT(has(index));
    SSL* const ssl = entries_[index].ssl;
    begin_call(records);
    Read read;
    // All that can come of it: what it has, and the rest of a record that OpenSSL has a part of.
    plain_.resize(std::max(plain_.size(), kReceiveFrontBytes + records.size() + kTlsRecordBytesMax +
                                              kReceivePadBytes));
    if (is_handshaking(index)) {
        const int done = SSL_do_handshake(ssl);
        if (done != 1) {
            const int error = SSL_get_error(ssl, done);
            if (error != SSL_ERROR_WANT_READ) fail(ssl, read);
            return read;
        }
        end_handshake(ssl);
        read.opened = true;
    }
    follow(entries_[index], input_);
    read_plain(ssl, read);
    input_ = {};
    return read;
}

// Where records begin: OpenSSL, which is never asked to read ahead, took the handshake's whole.
void TlsConnections::follow(Entry& entry, std::span<const uint8_t> records) {
    while (!records.empty()) {
        size_t taken = 1;
        if (entry.come < kRecordHeaderBytes) {
            if (entry.come == kRecordHeaderBytes - 2) entry.length = 0;
            if (entry.come >= kRecordHeaderBytes - 2)
                entry.length = static_cast<uint16_t>(entry.length << 8 | records[0]);
        } else {
            taken = std::min<size_t>(records.size(),
                                     kRecordHeaderBytes + entry.length - entry.come);
        }
        entry.come += static_cast<uint32_t>(taken);
        records = records.subspan(taken);
        if (entry.come >= kRecordHeaderBytes && entry.come == kRecordHeaderBytes + entry.length)
            entry.come = 0;
    }
}

bool TlsConnections::has_ended(Index index) const {
    return has(index) && (SSL_get_shutdown(entries_[index].ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

void TlsConnections::read_plain(SSL* ssl, Read& read) {
    size_t used = 0;
    for (;;) {
        uint8_t* const to = plain_.data() + kReceiveFrontBytes + used;
        const size_t room = plain_.size() - kReceiveFrontBytes - kReceivePadBytes - used;
        size_t got = 0;
        if (SSL_read_ex(ssl, to, room, &got) == 1) {
            used += got;
            continue;
        }
        const int error = SSL_get_error(ssl, 0);
        if (key_updates_ > kTlsKeyUpdatesPerRead) {
            reason_ = "more KeyUpdates at once than any peer needs";
            read.failed = true;
        } else if (error == SSL_ERROR_ZERO_RETURN) {
            read.ended = true;
        } else if (error != SSL_ERROR_WANT_READ) {
            fail(ssl, read);
        }
        break;
    }
    read.plain = {plain_.data() + kReceiveFrontBytes, used};
}

void TlsConnections::fail(const SSL* ssl, Read& read) {
    read.failed = true;
    const unsigned long code = ERR_peek_last_error();
    const bool of_certificate =
        ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    reason_ = take_openssl_error();
    if (!of_certificate) return;
    reason_.append(": ").append(X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
}

bool TlsConnections::seal(Index index, std::span<const uint8_t> plain) {
    PULSE_ASSERT(has(index) && !is_handshaking(index));
    begin_call({});
    size_t written = 0;
    const bool done = SSL_write_ex(entries_[index].ssl, plain.data(), plain.size(), &written) == 1;
    if (!done) reason_ = take_openssl_error();
    return done && written == plain.size();
}

void TlsConnections::say_end(Index index) {
    begin_call({});
    if (!has(index) || is_handshaking(index)) return;
    if ((SSL_get_shutdown(entries_[index].ssl) & SSL_SENT_SHUTDOWN) != 0) return;
    SSL_shutdown(entries_[index].ssl);
    ERR_clear_error();
}

std::string TlsConnections::suite(Index index) const {
    PULSE_ASSERT(has(index));
    const SSL* const ssl = entries_[index].ssl;
    return std::string(SSL_get_version(ssl)) + " " + SSL_get_cipher_name(ssl);
}

std::string TlsConnections::describe(Index index) const {
    PULSE_ASSERT(has(index));
    const SSL* const ssl = entries_[index].ssl;
    std::string text = suite(index);
    if (SSL_session_reused(ssl) == 1) text += ", resumed";
    if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name); name != nullptr)
        text.append(", for ").append(name);
    if (X509* const peer = SSL_get0_peer_certificate(ssl); peer != nullptr) {
        char subject[256] = {};
        X509_NAME_oneline(X509_get_subject_name(peer), subject, sizeof subject);
        text.append(", as ").append(subject);
    }
    return text;
}

bool TlsConnections::is_resumed(Index index) const {
    PULSE_ASSERT(has(index));
    return SSL_session_reused(entries_[index].ssl) == 1;
}

size_t TlsConnections::memory_bytes() const {
    const int64_t openssl = std::max<int64_t>(openssl_memory_bytes(), 0);
    return used_ * sizeof(Entry) + output_.capacity() + plain_.capacity() +
           static_cast<size_t>(openssl);
}

void TlsConnections::release(Index index) {
    if (!has(index)) return;
    if (is_handshaking(index)) --handshaking_;
    --count_;
    // Else it spoils the session, which may be resumed all the same (RFC 5246 section 7.2.1).
    SSL_set_shutdown(entries_[index].ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(entries_[index].ssl);
    entries_[index] = {};
}

}  // namespace pulse
