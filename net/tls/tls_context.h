// All that handshakes are made with, as one snapshot that never changes: reactors share it, and a
// reload brings another, whole, or none. A connection keeps the part that its handshake took.
//
// OpenSSL's security level and its defaults are kept but for these: nothing below TLS 1.2, no
// renegotiation, no early data, no stateful session cache, one ticket a handshake.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "net/tls/ticket_keys.h"
#include "net/tls/tls_files.h"

namespace pulse {

// Until when a certificate of the server's own is good.
struct CertificateTerm {
    std::string file;     // as --tls-cert names it
    int64_t not_after_s;  // since 1970
};

class TlsContext {
  public:
    // Takes over one reference of each of `contexts`, of which there is at least one, and makes
    // them serve names, ALPN and tickets, and where it `freezes`, give out what frozen connections
    // go on with. nullptr: there is no memory.
    static std::shared_ptr<const TlsContext> make(std::vector<SSL_CTX*> contexts,
                                                  std::shared_ptr<TicketKeys> keys,
                                                  std::vector<CertificateTerm> terms = {},
                                                  bool freezes = false);
    ~TlsContext();
    TlsContext(const TlsContext&) = delete;
    TlsContext& operator=(const TlsContext&) = delete;

    // That of peers which name no server, or one that no certificate has.
    SSL_CTX* first() const { return contexts_.front(); }
    const std::shared_ptr<TicketKeys>& ticket_keys() const { return keys_; }
    // Of each --tls-cert, in their order.
    const std::vector<CertificateTerm>& terms() const { return terms_; }
    // Its connections are frozen where that can be (net/tls/traffic_secrets.h).
    bool freezes() const { return freezes_; }

  private:
    TlsContext(std::vector<SSL_CTX*> contexts, std::shared_ptr<TicketKeys> keys,
               std::vector<CertificateTerm> terms, bool freezes);

    std::vector<SSL_CTX*> contexts_;
    std::shared_ptr<TicketKeys> keys_;
    std::vector<CertificateTerm> terms_;
    const bool freezes_;
};

struct LoadedTls {
    std::shared_ptr<const TlsContext> context;  // nullptr where TLS is off
    std::vector<std::string> notes;             // which certificates there are, for the log
    std::vector<std::string> warnings;          // what an operator should look at
};

// Reads the files. `before` is what they replace: its tickets stay good, unless client certificates
// are judged otherwise from now on. The error names the flag, the file, the reason and the remedy;
// it holds nothing of a key.
Result<LoadedTls> load_tls(const TlsFiles& files, const TlsContext* before = nullptr);

}  // namespace pulse
