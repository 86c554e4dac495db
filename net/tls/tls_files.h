// What an operator asks of TLS: files, and what of OpenSSL's defaults is to be another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pulse {

enum class TlsVersion : uint8_t { v1_2, v1_3 };

// What is kept of a connection whose handshake is over: OpenSSL's object, or no more than what its
// records need, where it speaks TLS 1.3.
enum class TlsIdle : uint8_t { openssl, frozen };

struct TlsFiles {
    // --tls-cert and --tls-key, in pairs: chains in PEM, the server's own certificate first.
    // Without any key each is in the file of its certificate. TLS is on where there is one.
    std::vector<std::string> certificates{};
    std::vector<std::string> keys{};
    std::string client_ca{};              // --tls-client-ca; empty: peers show no certificate
    TlsVersion least = TlsVersion::v1_2;  // --tls-min
    std::string ciphers{};                // --tls-ciphers; empty: OpenSSL's
    TlsIdle idle = TlsIdle::openssl;      // --tls-idle
    bool on() const { return !certificates.empty(); }
};

}  // namespace pulse
