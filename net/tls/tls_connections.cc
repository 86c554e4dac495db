// OpenSSL between spans.
#include "net/tls/tls_connections.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/limits.h"
#include "net/tls/limits.h"
#include "net/tls/openssl_memory.h"
#include "net/tls/openssl_words.h"
#include "net/tls/traffic_secrets.h"
#include "proto/limits.h"

namespace pulse {
namespace {

constexpr uint32_t kRecordHeaderBytes = tls::kHeaderBytes;

// Without an end of its own it would spoil its session, which may be resumed all the same (RFC
// 5246 section 7.2.1).
void free_ssl(SSL* ssl) {
    const WipedFrees wiped;
    if (ssl != nullptr) SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}

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
        set_written(bio, written(bio) + 1);
        return bytes;
    }
    // Records with the key of now, each of which is one write, or more; those of the handshake with
    // them. Kept in the argument of a callback that is not set: a connection pays nothing for it.
    static uint64_t written(BIO* bio) {
        return reinterpret_cast<uintptr_t>(BIO_get_callback_arg(bio));
    }
    static void set_written(BIO* bio, uint64_t records) {
        BIO_set_callback_arg(bio, reinterpret_cast<char*>(static_cast<uintptr_t>(records)));
    }
    static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH; }

    static BIO_METHOD* make_method() {
        BIO_METHOD* const made = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "spans");
        if (made == nullptr) return nullptr;
        BIO_meth_set_read(made, &read);
        BIO_meth_set_write(made, &write);
        BIO_meth_set_ctrl(made, &control);
        return made;
    }

    // Of messages behind a handshake. The callback cannot end it: no bytes are left to read
    // instead, and read() sees why.
    static void on_message(int written, int, int what, const void* message, size_t bytes, SSL*,
                           void* owner) {
        if (written != 0 || what != SSL3_RT_HANDSHAKE || bytes == 0) return;
        if (*static_cast<const uint8_t*>(message) != SSL3_MT_KEY_UPDATE) return;
        TlsConnections& own = *static_cast<TlsConnections*>(owner);
        if (++own.key_updates_ > kTlsKeyUpdatesPerRead) own.input_ = {};
    }
};

TlsConnections::TlsConnections(PageSource& pages, BufferPool& buffers, uint32_t places,
                               uint64_t records_per_key)
    : pages_(pages), buffers_(buffers), places_(places), records_per_key_(records_per_key) {}

TlsConnections::~TlsConnections() {
    free_ssl(just_frozen_);
    for (size_t index = 0; index < used_; ++index) release(static_cast<Index>(index));
    BIO_meth_free(method_);
    if (entries_ == nullptr) return;
    pages_.release(reinterpret_cast<std::byte*>(entries_), places_ * sizeof(Entry));
}

bool TlsConnections::turn_on() {
    if (method_ == nullptr) method_ = Bio::make_method();
    if (entries_ == nullptr)
        entries_ = reinterpret_cast<Entry*>(pages_.reserve_small(places_ * sizeof(Entry)));
    return entries_ != nullptr && method_ != nullptr;
}

// An object for this place; nullptr: there is no memory.
SSL* TlsConnections::make(Index index, SSL_CTX* context, bool freezes) {
    if (!turn_on()) {
        ERR_clear_error();
        return nullptr;
    }
    PULSE_ASSERT(!has(index));
    SSL* const ssl = SSL_new(context);
    BIO* const bio = ssl == nullptr ? nullptr : BIO_new(method_);
    if (bio == nullptr || (freezes && !watch_secrets(ssl))) {
        BIO_free(bio);
        SSL_free(ssl);
        reason_ = take_openssl_error();
        return nullptr;
    }
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);  // takes it over
    used_ = std::max<size_t>(used_, index + 1);
    entries_[index] = {.ssl = ssl,
                       .come = 0,
                       .length = 0,
                       .kind = Kind::handshaking,
                       .suite = tls::Suite::none};
    ++count_;
    ++handshaking_;
    return ssl;
}

bool TlsConnections::begin(Index index, const TlsContext& context) {
    SSL* const ssl = make(index, context.first(), context.freezes());
    if (ssl == nullptr) return false;
    SSL_set_accept_state(ssl);
    return true;
}

bool TlsConnections::begin_client(Index index, const TlsClientStart& start) {
    // Frozen, it would skip the tickets that it is to keep.
    SSL* const ssl = make(index, start.context.get(),
                          start.context.freezes() && start.keeps == nullptr);
    if (ssl == nullptr) return false;
    SSL_set_connect_state(ssl);
    begin_call({});
    const bool ready = set_tls_server(ssl, start.server) && keep_tls_sessions(ssl, start.keeps) &&
                       (start.resumes == nullptr || SSL_set_session(ssl, start.resumes) == 1) &&
                       SSL_get_error(ssl, SSL_do_handshake(ssl)) == SSL_ERROR_WANT_READ;
    if (ready) return true;
    reason_ = take_openssl_error();
    output_.clear();
    release(index);
    return false;
}

void TlsConnections::begin_call(std::span<const uint8_t> records) {
    ERR_clear_error();  // or SSL_get_error() takes an old one for ours
    input_ = records;
    key_updates_ = 0;
    begin_frozen_call();
}

void TlsConnections::begin_frozen_call() {
    end_description();
    output_.clear();
    reason_.clear();
    tidy();
}

void TlsConnections::end_description() {
    if (just_frozen_ != nullptr) free_ssl(std::exchange(just_frozen_, nullptr));
}

// What a large message needed is given back.
void TlsConnections::tidy() {
    if (output_.capacity() > kTlsScratchBytes) output_ = std::vector<uint8_t>();
    if (plain_.capacity() > kTlsScratchBytes) plain_ = std::vector<uint8_t>();
}

void TlsConnections::end_handshake(Entry& entry) {
    SSL_set_msg_callback(entry.ssl, &Bio::on_message);
    SSL_set_msg_callback_arg(entry.ssl, this);
    keep_resumed_session(entry.ssl);
    entry.kind = Kind::open;
    PULSE_ASSERT(handshaking_ > 0);
    --handshaking_;
}

TlsConnections::Read TlsConnections::read(Index index, std::span<uint8_t> records) {
    PULSE_ASSERT(has(index));
    Entry& entry = entries_[index];
    Read read;
    if (entry.kind == Kind::frozen) {
        begin_frozen_call();
        read_frozen(entry, records, read);
        return read;
    }
    begin_call(records);
    if (entry.kind == Kind::handshaking) {
        const int done = SSL_do_handshake(entry.ssl);
        if (done != 1) {
            const int error = SSL_get_error(entry.ssl, done);
            if (error != SSL_ERROR_WANT_READ) fail(entry.ssl, read);
            return read;
        }
        read.opened = true;
        end_handshake(entry);
        if (freeze(entry)) {
            read_frozen(entry, records.last(input_.size()), read);
            input_ = {};
            return read;
        }
    }
    // All that can come of it: what it has, and the rest of a record that OpenSSL has a part of.
    plain_.resize(std::max(plain_.size(), kReceiveFrontBytes + records.size() + kTlsRecordBytesMax +
                                              kReceivePadBytes));
    follow(entry, input_);
    read_plain(entry.ssl, read);
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
    if (is_frozen(index)) return state_of(entries_[index]).has_ended();
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

// ------------------------------------------------------------------------------------- frozen ones

tls::State& TlsConnections::state_of(const Entry& entry) const {
    SecretSlab& states = *states_[static_cast<size_t>(entry.suite)];
    return *reinterpret_cast<tls::State*>(states.at(entry.frozen.state));
}

// From now on OpenSSL's object does nothing but describe what it agreed on. False: it goes on.
bool TlsConnections::freeze(Entry& entry) {
    const std::optional<tls::Beginning> from = frozen_beginning(entry.ssl);
    if (!from) return false;
    if (records_ == nullptr) records_ = std::make_unique<tls::Records>();
    std::unique_ptr<SecretSlab>& states = states_[static_cast<size_t>(from->suite)];
    if (states == nullptr) {
        states = std::make_unique<SecretSlab>(pages_, static_cast<uint32_t>(places_),
                                              tls::state_bytes(from->suite));
    }
    const SecretSlab::Handle state = states->take();
    if (state == 0) return false;
    if (!records_->begin(*reinterpret_cast<tls::State*>(states->at(state)), *from)) {
        states->release(state);
        ERR_clear_error();
        return false;
    }
    just_frozen_ = entry.ssl;
    entry.frozen = {.state = state, .held = 0};
    entry.come = 0;
    entry.kind = Kind::frozen;
    entry.suite = from->suite;
    return true;
}

// Where they lie, if they are whole, as a heartbeat is. What comes with a handshake may be parked
// bytes, of which Connections::what_is_left() takes what is in them to reach to their end.
void TlsConnections::read_frozen(Entry& entry, std::span<uint8_t> records, Read& read) {
    tls::State& state = state_of(entry);
    const bool moves = read.opened || entry.come > 0;
    if (moves) {
        plain_.resize(std::max(plain_.size(), kReceiveFrontBytes + entry.come + records.size() +
                                                  kReceivePadBytes));
        read.plain = {plain_.data() + kReceiveFrontBytes, 0};
    }
    if (entry.come > 0) {
        const tls::Opened opened = records_->open(state, buffers_.bytes(entry.frozen.held));
        add_plain(opened.plain, read);
        note(state, opened, read);
        if (opened.bytes == 0) return;  // more of it is wanted, which is all that came
        drop_held(entry);
    }
    if (read.failed || read.ended) return;
    const tls::Opened opened = records_->open(state, records);
    note(state, opened, read);
    if (moves) {
        add_plain(opened.plain, read);
    } else {
        read.plain = opened.plain;
    }
    read.rest = records.subspan(opened.bytes);
}

void TlsConnections::add_plain(std::span<const uint8_t> plain, Read& read) {
    std::ranges::copy(plain, read.plain.data() + read.plain.size());
    read.plain = {read.plain.data(), read.plain.size() + plain.size()};
}

void TlsConnections::note(tls::State& state, const tls::Opened& opened, Read& read) {
    read.ended = state.has_ended();
    if (!opened.failed) return;
    read.failed = true;
    if (opened.alert == tls::Alert::none) {  // the peer's, which may be any number
        const int alert = static_cast<int>(opened.peer_alert);
        reason_ = std::string("the peer's alert: ") + SSL_alert_desc_string_long(alert);
        return;
    }
    reason_ = opened.reason;
    const size_t before = output_.size();
    output_.resize(before + tls::kAlertRecordBytes);
    output_.resize(before + records_->seal_alert(state, opened.alert, output_.data() + before));
}

size_t TlsConnections::wanted_bytes(Index index) {
    if (!is_frozen(index) || entries_[index].come == 0) return 0;
    const Entry& entry = entries_[index];
    if (entry.come < kRecordHeaderBytes) return kRecordHeaderBytes - entry.come;
    const size_t whole = tls::record_bytes(buffers_.bytes(entry.frozen.held));
    return whole - std::min<size_t>(whole, entry.come);
}

bool TlsConnections::hold(Index index, uint32_t address, std::span<const uint8_t> piece) {
    PULSE_ASSERT(is_frozen(index));
    Entry& entry = entries_[index];
    if (entry.frozen.held == 0) entry.frozen.held = buffers_.take(index, address);
    if (!buffers_.append(entry.frozen.held, piece, SIZE_MAX)) return false;
    entry.come += static_cast<uint32_t>(piece.size());
    return true;
}

void TlsConnections::drop_held(Index index) {
    if (is_frozen(index)) drop_held(entries_[index]);
}

void TlsConnections::drop_held(Entry& entry) {
    if (entry.frozen.held != 0) buffers_.release(std::exchange(entry.frozen.held, 0));
    entry.come = 0;
}

uint32_t TlsConnections::frozen() const {
    uint32_t all = 0;
    for (const auto& states : states_) all += states == nullptr ? 0 : states->taken();
    return all;
}

size_t TlsConnections::frozen_bytes() const {
    size_t bytes = 0;
    for (const auto& states : states_) bytes += states == nullptr ? 0 : states->memory_bytes();
    return bytes;
}

// --------------------------------------------------------------------------------------- bytes out

bool TlsConnections::seal(Index index, std::span<const uint8_t> plain) {
    PULSE_ASSERT(has(index) && !is_handshaking(index));
    Entry& entry = entries_[index];
    if (entry.kind == Kind::frozen) {
        begin_frozen_call();
        tls::State& state = state_of(entry);
        if (state.said_end()) return false;
        output_.resize(tls::sealed_bytes_max(plain.size()));
        output_.resize(records_->seal(state, plain, output_.data()));
        return !output_.empty();
    }
    begin_call({});
    renew_worn_key(entry.ssl);
    size_t written = 0;
    const bool done = SSL_write_ex(entry.ssl, plain.data(), plain.size(), &written) == 1;
    if (!done) reason_ = take_openssl_error();
    return done && written == plain.size();
}

// As tls::Records does for those that are frozen: OpenSSL looks at no key's age. TLS 1.2 has no
// message for it.
void TlsConnections::renew_worn_key(SSL* ssl) {
    BIO* const bio = SSL_get_wbio(ssl);
    if (Bio::written(bio) < records_per_key_ || SSL_version(ssl) != TLS1_3_VERSION) return;
    // Goes out in front of what is written next.
    if (SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1) Bio::set_written(bio, 0);
}

void TlsConnections::say_end(Index index) {
    begin_call({});
    if (!has(index) || is_handshaking(index)) return;
    Entry& entry = entries_[index];
    if (entry.kind == Kind::frozen) {
        output_.resize(tls::kAlertRecordBytes);
        output_.resize(records_->seal_alert(state_of(entry), tls::Alert::close_notify,
                                            output_.data()));
        return;
    }
    if ((SSL_get_shutdown(entry.ssl) & SSL_SENT_SHUTDOWN) != 0) return;
    SSL_shutdown(entry.ssl);
    ERR_clear_error();
}

SSL* TlsConnections::ssl_of(Index index) const {
    PULSE_ASSERT(has(index));
    const Entry& entry = entries_[index];
    SSL* const ssl = entry.kind == Kind::frozen ? just_frozen_ : entry.ssl;
    PULSE_ASSERT(ssl != nullptr);
    return ssl;
}

std::string TlsConnections::suite(Index index) const {
    const SSL* const ssl = ssl_of(index);
    return std::string(SSL_get_version(ssl)) + " " + SSL_get_cipher_name(ssl);
}

std::string TlsConnections::describe(Index index) const {
    const SSL* const ssl = ssl_of(index);
    std::string text = suite(index);
    if (SSL_session_reused(ssl) == 1) text += ", resumed";
    if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name); name != nullptr)
        text.append(", for ").append(name);
    if (X509* const peer = SSL_get0_peer_certificate(ssl); peer != nullptr) {
        char subject[256] = {};
        X509_NAME_oneline(X509_get_subject_name(peer), subject, sizeof subject);
        text.append(", as ").append(subject);
    }
    if (is_frozen(index)) text += ", frozen";
    return text;
}

bool TlsConnections::is_resumed(Index index) const {
    return SSL_session_reused(ssl_of(index)) == 1;
}

size_t TlsConnections::memory_bytes() const {
    const int64_t openssl = std::max<int64_t>(openssl_memory_bytes(), 0);
    return used_ * sizeof(Entry) + frozen_bytes() + output_.capacity() + plain_.capacity() +
           static_cast<size_t>(openssl);
}

void TlsConnections::release(Index index) {
    if (!has(index)) return;
    Entry& entry = entries_[index];
    if (entry.kind == Kind::handshaking) --handshaking_;
    --count_;
    if (entry.kind == Kind::frozen) {
        drop_held(entry);
        states_[static_cast<size_t>(entry.suite)]->release(entry.frozen.state);
    } else {
        free_ssl(entry.ssl);
    }
    entry = {};
}

}  // namespace pulse
