// Keys that session tickets are sealed with (RFC 5077, RFC 8446 section 4.6.1): shared by all
// reactors and by the contexts of before and after a reload, so that a client resumes wherever it
// comes. Each is used for kTicketKeyNs, and known for as long again. They are kept in memory only,
// and wiped: a server that starts anew makes full handshakes.
//
// Thread-safe: a lock is taken once a handshake.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>

#include "core/types.h"

namespace pulse {

class TicketKeys {
  public:
    // `clock` is monotonic; empty: the machine's.
    explicit TicketKeys(std::function<Nanos()> clock = {});
    ~TicketKeys();
    TicketKeys(const TicketKeys&) = delete;
    TicketKeys& operator=(const TicketKeys&) = delete;

    // SSL_CTX_set_tlsext_ticket_key_evp_cb()'s callback, on the thread of a handshake: -1 fails it,
    // 0 makes it a full one, 2 takes the ticket and gives another.
    int seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac);
    int open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
             EVP_MAC_CTX* mac);

  private:
    struct Key {
        std::array<unsigned char, 16> name{};
        std::array<unsigned char, 32> cipher{};
        std::array<unsigned char, 32> mac{};
        Nanos made_at = 0;
        bool known = false;
    };
    Nanos now() const;
    void wipe(Key& key);
    bool turn_over();  // requires: locked

    std::function<Nanos()> clock_;
    std::mutex lock_;
    Key current_, before_;
};

}  // namespace pulse
