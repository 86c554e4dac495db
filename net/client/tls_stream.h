// TLS of one connection of a client: records in, records out (SSL_read(3), BIO_s_mem(3)). No socket
// is known here, and nothing waits.
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "net/tls/tls_client.h"

namespace pulse::client {

class TlsStream {
  public:
    // The client's end of a handshake with `server`, a name or an address, whose first flight is in
    // take_output(). nullptr: there is no memory. `context` outlives it.
    static std::unique_ptr<TlsStream> make(const TlsClientContext& context,
                                           const std::string& server);
    ~TlsStream();
    TlsStream(const TlsStream&) = delete;
    TlsStream& operator=(const TlsStream&) = delete;

    // Records of the server, to be handled by the calls below. False: there is no memory.
    bool take(std::span<const uint8_t> records);
    enum class Step : uint8_t { more, opened, failed };
    Step handshake();
    // What has come, as far as there is room. Requires: the handshake has ended.
    struct Read {
        size_t bytes = 0;    // 0: there is nothing now
        bool ended = false;  // nothing comes any more: failure() says why, or it is the orderly end
    };
    Read read(std::span<uint8_t> to);
    // `plain` becomes records. False: it cannot go on. Requires: the handshake has ended.
    bool write(std::string_view plain);
    // close_notify, where the handshake has ended.
    void say_end();
    // Records that wait to be sent.
    std::string take_output();
    // Of what failed: "certificate verify failed".
    const std::string& failure() const { return failure_; }

  private:
    explicit TlsStream(SSL* ssl) : ssl_(ssl) {}

    SSL* ssl_;
    std::string failure_;
};

}  // namespace pulse::client
