// What a client's handshakes are made with (TlsConnections::begin_client()): what it trusts, and
// sessions that it resumes.
//
// OpenSSL's defaults are kept but for these: nothing below TLS 1.2, and by default no certificate
// is judged. Sources: SSL_CTX_set_verify(3), SSL_CTX_sess_set_new_cb(3), RFC 8446 appendix C.4.
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"

using SSL_SESSION = struct ssl_session_st;  // as <openssl/ssl.h> has it

namespace pulse {

struct TlsClientFiles {
    bool verify = false;       // refuse certificates that are not trusted, or of another name
    std::string authorities{};  // to be trusted, in PEM; empty: the system's
    bool freezes = false;       // connections that keep no sessions are frozen, where that can be
    // What `verify` and `authorities` are called where they are given: errors name them.
    std::string_view verify_name = "--tls-verify";
    std::string_view authorities_name = "--tls-ca";
};

// Sessions of one server, each for one handshake: a server that gives a ticket for each has as many
// as it resumes. The newest goes first, the oldest is dropped. Not for several threads at once.
class TlsSessions {
  public:
    explicit TlsSessions(size_t most) : most_(most) {}
    ~TlsSessions();
    TlsSessions(TlsSessions&& other) noexcept;
    TlsSessions(const TlsSessions&) = delete;
    TlsSessions& operator=(const TlsSessions&) = delete;
    TlsSessions& operator=(TlsSessions&&) = delete;

    // Takes over a reference.
    void keep(SSL_SESSION* session);
    // Gives one away; nullptr where there is none.
    SSL_SESSION* take();
    size_t count() const { return sessions_.size(); }

  private:
    size_t most_;
    std::deque<SSL_SESSION*> sessions_;
};

// Gives back a reference; nothing of nullptr.
void free_tls_session(SSL_SESSION* session);

// Never changes once it is made: threads share it.
class TlsClientContext {
  public:
    // The error names the file, the reason and the remedy.
    static Result<std::shared_ptr<const TlsClientContext>> make(const TlsClientFiles& files);
    ~TlsClientContext();
    TlsClientContext(const TlsClientContext&) = delete;
    TlsClientContext& operator=(const TlsClientContext&) = delete;

    SSL_CTX* get() const { return context_; }
    bool freezes() const { return freezes_; }

  private:
    TlsClientContext(SSL_CTX* context, bool freezes) : context_(context), freezes_(freezes) {}

    SSL_CTX* context_;
    const bool freezes_;
};

// Where a client's new sessions go: `sessions` outlives `ssl`, or is nullptr. False: no memory.
bool keep_tls_sessions(SSL* ssl, TlsSessions* sessions);
// Of a handshake that is over: a session that was resumed and may be again is kept, too, where no
// new ticket replaces it (TLS 1.2).
void keep_resumed_session(SSL* ssl);

// The name that a handshake asks for and, where certificates are judged, looks for: a host's (SNI,
// RFC 6066 section 3), or an address, of which servers are not told. False: no memory.
bool set_tls_server(SSL* ssl, const std::string& name);

}  // namespace pulse
