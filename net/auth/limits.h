// Bounds of authentication: of the files that an operator gives, and of what reactors keep of
// tokens that peers give.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// ---------------------------------------------------------------------------------------- time
// Clocks of an issuer and of a server differ: a token is taken so many seconds before its `nbf` and
// after its `exp`. NTP keeps clocks closer than half a minute, and tokens live longer.
inline constexpr int64_t kTokenLeewayS = 30;

// --------------------------------------------------------------------------------------- files
// A secret of HS256 is as long as the hash (RFC 7518 section 3.2), RSA has 2,048 bits (section 3.3)
// and no more than 4,096, with which one check takes three times as long.
inline constexpr size_t kSecretBytesMin = 32;
inline constexpr size_t kSecretBytesMax = 4'096;
inline constexpr int kRsaBitsMin = 2'048;
inline constexpr int kRsaBitsMax = 4'096;
// Two an issuer while it changes its key, and several issuers.
inline constexpr size_t kSigningKeysMax = 64;
inline constexpr size_t kKeyFileBytesMax = size_t{1} << 20;
// Static tokens are for services and tests, not for users: about 300 B each in memory.
inline constexpr size_t kStaticTokensMax = 100'000;
inline constexpr size_t kTokenFileBytesMax = size_t{64} << 20;
// A shorter token may be guessed: 16 characters of base64 are 96 bits.
inline constexpr size_t kStaticTokenBytesMin = 16;

// ---------------------------------------------------------------------------------- signatures
// Keys that a token without `kid` is tried against: an old and a new one of two issuers.
inline constexpr size_t kKeyTriesMax = 4;
// Tokens of which a reactor knows that their signature is right, 40 B each: those of peers that
// reconnect, as all do when a network fails.
inline constexpr size_t kVerifiedTokensKept = 16'384;

// ---------------------------------------------------------------------------------- revocation
// Ids of revoked tokens that a reactor keeps, 40 B each; one more, and the oldest is forgotten.
inline constexpr size_t kRevokedTokensMax = 65'536;

// ------------------------------------------------------------------------------------ failures
// Tokens of one address (of IPv6 one /64) that a reactor refuses after a look at them: so many at
// once, and one more each second. Beyond that it does not look: a guess costs a peer an address.
inline constexpr uint32_t kAuthFailuresBurst = 20;
inline constexpr uint32_t kAuthFailuresPerSecond = 1;
// Addresses that a reactor counts, 16 B each. When all are in use, of those in its place the one is
// forgotten that has the fewest failures to make up for.
inline constexpr size_t kAuthFailureAddresses = 4'096;

// ------------------------------------------------------------------------------------- in all
inline constexpr size_t kAuthBytesPerReactorMax =
    kVerifiedTokensKept * 40 + kAuthFailureAddresses * 16 + kRevokedTokensMax * 40;
// Of a connection, where authentication is on: net/loop/authentication.h has 32 B of it, and where
// it has a deadline the queue 20 more.
inline constexpr size_t kAuthBytesPerConnection = 52;

}  // namespace pulse
