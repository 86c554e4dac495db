// A client's end of TLS for tests: OpenSSL over two strings, without a socket.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

#include "tests/support/certificates.h"

namespace pulse::test {

struct TlsPeerPlan {
    int least = 0, most = 0;  // TLS1_2_VERSION and the like; 0: OpenSSL's
    std::string suites{};     // of TLS 1.3, that it offers; empty: OpenSSL's
    std::string ciphers{};    // of what was before; likewise
    std::string server_name{};
    std::string protocols{};                  // ALPN, as on the wire
    const TestCertificate* shows = nullptr;   // its own certificate
    const TestCertificate* trusts = nullptr;  // nullptr: it does not look
    std::shared_ptr<SSL_SESSION> resumes = nullptr;
};

class TlsPeer {
  public:
    explicit TlsPeer(const TlsPeerPlan& plan = {});
    TlsPeer(const TlsPeer&) = delete;
    TlsPeer& operator=(const TlsPeer&) = delete;

    // What it was sent; handshakes and reads as far as that goes.
    void take(std::string_view records);
    // What it has to send, once.
    std::string records();
    void say(std::string_view plain);
    // Another ClientHello instead of the first: what is set at ssl() by now is in it. Requires:
    // nothing was taken yet.
    void begin_anew();

    bool open() const { return open_; }
    bool failed() const { return failed_; }
    bool ended() const { return ended_; }  // close_notify came
    std::string heard;                     // plaintext
    std::string alert;                     // why it failed, in OpenSSL's words
    SSL* ssl() const { return ssl_.get(); }
    std::string server_subject() const;
    // What another resumes: the last ticket that came. nullptr: none.
    std::shared_ptr<SSL_SESSION> session() const;

  private:
    static int on_session(SSL* ssl, SSL_SESSION* session);

    std::shared_ptr<SSL_CTX> context_;
    std::shared_ptr<SSL> ssl_;
    std::shared_ptr<SSL_SESSION> session_;
    bool open_ = false, failed_ = false, ended_ = false;
};

}  // namespace pulse::test
