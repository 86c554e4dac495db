// The cipher suites of TLS 1.3 that are known here (RFC 8446 appendix B.4), and what each needs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace pulse::tls {

enum class Suite : uint8_t {
    none,
    aes_128_gcm_sha256,
    aes_256_gcm_sha384,
    chacha20_poly1305_sha256,
};

struct SuiteInfo {
    uint16_t number;       // as on the wire
    uint8_t key_bytes;     // of its AEAD
    uint8_t secret_bytes;  // of its hash, and so of a traffic secret
};

inline constexpr std::array<SuiteInfo, 4> kSuites = {{
    {0, 0, 0},
    {0x1301, 16, 32},
    {0x1302, 32, 48},
    {0x1303, 32, 32},
}};
inline constexpr size_t kKeyBytesMax = 32;
inline constexpr size_t kSecretBytesMax = 48;
// Of all of them (RFC 8446 section 5.3).
inline constexpr size_t kIvBytes = 12;
inline constexpr size_t kTagBytes = 16;

constexpr const SuiteInfo& info(Suite suite) { return kSuites[static_cast<size_t>(suite)]; }

// Suite::none: it is not one of these.
constexpr Suite suite_of(uint16_t number) {
    for (size_t suite = 1; suite < kSuites.size(); ++suite)
        if (kSuites[suite].number == number) return static_cast<Suite>(suite);
    return Suite::none;
}

}  // namespace pulse::tls
