// A client's and a server's OpenSSL over memory, behind a whole handshake of TLS 1.3, of which the
// secrets are known: what records of ours are compared with.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/tls/traffic_secrets.h"
#include "proto/tls/records.h"

namespace pulse::test {

class TlsPair {
  public:
    // With this suite alone. The server has sent so many tickets, and the client has read none.
    explicit TlsPair(tls::Suite suite, int tickets = 2);

    SSL* client() const { return client_.get(); }
    SSL* server() const { return server_.get(); }
    // From here both ends' records go on; taken when the handshake was over.
    const tls::Beginning& server_beginning() const { return server_beginning_; }
    const tls::Beginning& client_beginning() const { return client_beginning_; }
    // The records of tickets, and of all that an end has written since; once.
    std::string written_by(SSL* end) const;

  private:
    std::shared_ptr<SSL_CTX> client_context_, server_context_;
    std::shared_ptr<SSL> client_, server_;
    tls::Beginning client_beginning_, server_beginning_;
};

// What OpenSSL made of bytes: as far as it goes, from one object.
struct Verdict {
    std::string plain;
    bool ended = false;
    bool failed = false;
    tls::Alert alert = tls::Alert::none;  // that it sent
    friend bool operator==(const Verdict&, const Verdict&) = default;
};
Verdict read_by_openssl(SSL* ssl, std::string_view records);

}  // namespace pulse::test
