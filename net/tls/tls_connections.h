// TLS of the connections of one reactor: an OpenSSL object each, bytes in, bytes out. Where they
// are frozen (TlsContext::freezes) it is freed at the end of the handshake, and records are opened
// and sealed in proto/tls/, with no more than a state of 144 to 208 bytes.
//
//     records of the peer  --read()-->  plaintext, and records of ours (a handshake, an alert)
//     plaintext of ours    --seal()-->  records
//
// No socket is known here, and nothing waits: an object gets the bytes that it is given, through a
// BIO of our own, and what it has to say lies in output() until the next call. OpenSSL consumes all
// of what it is given; the part of a record is kept in its object. SSL_MODE_RELEASE_BUFFERS frees
// its buffers while they are empty. The part of a frozen connection's record is in a buffer of the
// pool: its caller hold()s it, and can make room there.
//
// Off, it has no memory; on, 16 bytes for each place that is used, besides the states and what
// OpenSSL has. It belongs to the reactor's thread. Sources: SSL_read(3), SSL_do_handshake(3), RFC
// 8446, RFC 5246.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/buffer_pool.h"
#include "core/page_source.h"
#include "core/secret_slab.h"
#include "core/types.h"
#include "net/tls/tls_client.h"
#include "net/tls/tls_context.h"
#include "proto/tls/records.h"

using BIO_METHOD = struct bio_method_st;  // as <openssl/bio.h> has it

namespace pulse {

// A client's handshake.
struct TlsClientStart {
    const TlsClientContext& context;  // outlives the connection
    const std::string& server;        // the name it asks for: set_tls_server()
    SSL_SESSION* resumes = nullptr;   // offered; nullptr: none
    TlsSessions* keeps = nullptr;     // takes new ones, and outlives the connection; nullptr: none
};

class TlsConnections {
  public:
    // For indexes below `places`. `pages` and `buffers` outlive it. Behind so many records of TLS
    // 1.3 that OpenSSL has sealed with a key another follows.
    TlsConnections(PageSource& pages, BufferPool& buffers, uint32_t places,
                   uint64_t records_per_key = kTlsRecordsPerKeyMax);
    ~TlsConnections();
    TlsConnections(const TlsConnections&) = delete;
    TlsConnections& operator=(const TlsConnections&) = delete;

    // The server's end of a handshake. False: there is no memory, and reason() has OpenSSL's words
    // for it. Requires: it has none here.
    bool begin(Index index, const TlsContext& context);
    // The client's end of one, whose first flight is in output(). Likewise, and false where OpenSSL
    // does not take the name.
    bool begin_client(Index index, const TlsClientStart& start);
    bool has(Index index) const { return used_ > index && entries_[index].kind != Kind::none; }
    // begin() was called, and the handshake is neither over nor given up.
    bool is_handshaking(Index index) const {
        return used_ > index && entries_[index].kind == Kind::handshaking;
    }

    // What a read came to. `plain` comes before the rest.
    struct Read {
        // Borrowed until the next call; writable, with the slack of io_backend.h's C2 around it.
        std::span<uint8_t> plain{};
        std::span<const uint8_t> rest{};  // of what was read: a part of a record, to be held
        bool opened = false;  // the handshake ended with it
        bool ended = false;   // close_notify: the peer sends nothing more
        bool failed = false;  // reason() says why; nothing can be read or sealed any more
    };
    // `records` may be written to; what is left of them is worthless but for `rest`. Requires:
    // has(index). A read that has failed is followed by release().
    Read read(Index index, std::span<uint8_t> records);
    // How much more the record needs of which a part is held, or its header; 0: nothing is held, or
    // all of the record is, and read() comes next.
    size_t wanted_bytes(Index index);
    // More of a record, behind what is held of it. False: the pool has no room (was_short()).
    // Requires: is_frozen(index), and `piece` has no more than is wanted, if any is.
    bool hold(Index index, uint32_t address, std::span<const uint8_t> piece);
    // What is held is given back. Requires: nothing is read of it any more.
    void drop_held(Index index);
    bool is_frozen(Index index) const {
        return used_ > index && entries_[index].kind == Kind::frozen;
    }
    // How much has come of a record that is not whole yet; 0 before the handshake is over.
    size_t unread_bytes(Index index) const { return has(index) ? entries_[index].come : 0; }
    // Its close_notify came, with this read or one before.
    bool has_ended(Index index) const;
    // Of the last call that failed, until the next: "wrong version number".
    std::string_view reason() const { return reason_; }

    // `plain` becomes records. False: OpenSSL has no memory, and the connection cannot go on.
    // Requires: has(index), and its handshake is over.
    bool seal(Index index, std::span<const uint8_t> plain);
    // close_notify, once; nothing where there is no handshake behind it, or none at all.
    void say_end(Index index);
    // Records that the last call made, until the next.
    std::span<const uint8_t> output() const { return output_; }

    // "TLSv1.3 TLS_AES_256_GCM_SHA384". Requires: its handshake ended with the last read().
    std::string suite(Index index) const;
    // What was agreed on, for the log: "TLSv1.3 TLS_AES_256_GCM_SHA384, resumed, for a.example, as
    // CN=client, frozen". Requires: its handshake ended with the last read().
    std::string describe(Index index) const;
    // Whether a ticket spared it the certificates. Requires: likewise.
    bool is_resumed(Index index) const;
    // No more is asked of the three above. With the next call at the latest: on a reactor without
    // another that may be long, and the object has secrets.
    void end_description();

    // Frees what there is of it.
    void release(Index index);

    // How many there are, and of them those whose handshake is not over, and those that are frozen.
    uint32_t count() const { return count_; }
    uint32_t handshaking() const { return handshaking_; }
    uint32_t frozen() const;
    // Of the latter the states.
    size_t frozen_bytes() const;
    // With them, and what OpenSSL holds for this thread where that is counted (openssl_memory.h).
    size_t memory_bytes() const;

  private:
    struct Bio;  // the callbacks
    friend struct Bio;

    enum class Kind : uint8_t { none, handshaking, open, frozen };
    struct Frozen {
        SecretSlab::Handle state;
        BufferPool::Handle held;  // a part of a record; 0: none
    };
    struct Entry {
        union {
            SSL* ssl;       // of one that is handshaking or open
            Frozen frozen;  // of one that is
        };
        uint32_t come;    // of the record that has begun, with its header
        uint16_t length;  // what that header says of the rest, as far as it has come
        Kind kind;
        tls::Suite suite;  // of one that is frozen
    };
    static_assert(sizeof(Entry) == 16);

    bool turn_on();  // false: there is no memory
    SSL* make(Index index, SSL_CTX* context, bool freezes);
    static void follow(Entry& entry, std::span<const uint8_t> records);
    void begin_call(std::span<const uint8_t> records);
    void begin_frozen_call();
    void end_handshake(Entry& entry);
    bool freeze(Entry& entry);
    SSL* ssl_of(Index index) const;
    tls::State& state_of(const Entry& entry) const;
    void drop_held(Entry& entry);
    void renew_worn_key(SSL* ssl);
    void read_plain(SSL* ssl, Read& read);
    void read_frozen(Entry& entry, std::span<uint8_t> records, Read& read);
    void add_plain(std::span<const uint8_t> plain, Read& read);
    void note(tls::State& state, const tls::Opened& opened, Read& read);
    void fail(const SSL* ssl, Read& read);
    void tidy();

    PageSource& pages_;
    BufferPool& buffers_;
    const size_t places_;
    const uint64_t records_per_key_;
    BIO_METHOD* method_ = nullptr;
    Entry* entries_ = nullptr;
    size_t used_ = 0;  // places below this were used
    uint32_t count_ = 0;
    uint32_t handshaking_ = 0;

    // There is none before the first is frozen.
    std::unique_ptr<tls::Records> records_;
    std::array<std::unique_ptr<SecretSlab>, tls::kSuites.size()> states_;  // by suite
    // Of the handshake that ended with the last call, frozen.
    SSL* just_frozen_ = nullptr;

    // Of the call that runs, and of what it left.
    std::span<const uint8_t> input_;
    std::vector<uint8_t> output_;
    std::vector<uint8_t> plain_;
    std::string reason_;
    uint32_t key_updates_ = 0;
};

}  // namespace pulse
