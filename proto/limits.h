// Bounds of what a peer may send: each of a message, a head or a field of one protocol.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// ---------------------------------------------------------------------------------- first bytes
// What tells a protocol by its first bytes: the PROXY signature is the longest.
inline constexpr size_t kDetectBytesMax = 12;
inline constexpr size_t kProxyLineBytesMax = 107;  // PROXY protocol 1, its own bound
// PROXY protocol 2 may claim 64 KiB. Addresses are 36 B; names, identities and the subject of a
// client's certificate fit many times, and a peer that has sent nothing else costs no more.
inline constexpr size_t kProxyHeaderBytesMax = 4'096;

// ------------------------------------------------------------------------------------- messages
// --max-message-bytes, of every protocol: a megabyte, and what it may be set to at most.
inline constexpr size_t kMessageBytesDefault = 1'048'576;
inline constexpr size_t kMessageBytesMax = size_t{64} << 20;

// --------------------------------------------------------------------------- HTTP and WebSocket
inline constexpr size_t kHandshakeBytesMax = 16'384;  // request line and headers, else 431
// Of those that decide the answer (Host, Upgrade, Sec-WebSocket-... and the like: a few hundred
// bytes, and a token that some send as a subprotocol), else 431. All else is left out as it comes,
// so that an unfinished head costs no more than a small buffer.
inline constexpr size_t kHandshakeKeptBytesMax = 4'000;
inline constexpr uint32_t kHandshakeFieldsMax = 64;     // header lines, else 431
inline constexpr size_t kControlPayloadBytesMax = 125;  // RFC 6455 section 5.5
inline constexpr size_t kReasonBytesMax = 123;          // close frame: 125 less the code
// Headers of the frames of one message, in bytes: this many (16,384 of the smallest), and one more
// for so many bytes of its payload. Tiny fragments cost time that their payload does not pay for;
// 4 MiB in fragments of 64 bytes, 65,536 of them, are well below.
inline constexpr size_t kFrameOverheadBytesMin = 16'384 * 6;
inline constexpr size_t kPayloadBytesPerOverheadByte = 8;

// --------------------------------------------------------------------------------------- binary
inline constexpr size_t kBinaryHeaderBytes = 8;
inline constexpr size_t kBinaryPayloadBytesMax = 65'535;  // u16 length

// ----------------------------------------------------------------------------------- heartbeats
// answer_every: of so many heartbeats at most one is answered. At 8 seven eighths of the cost of
// answers are saved, and a peer notices a server that is gone after 8 intervals; more would save
// little. Three bits of a record hold it.
inline constexpr uint32_t kAnswerEveryMax = 8;

// ---------------------------------------------------------------------------------- compression
// Shorter messages are sent as they are: deflating 128 B of JSON costs 4 us and saves 36 B.
inline constexpr size_t kDeflateBytesMin = 128;
// Blocks in a compressed message: this many, and one more for so many bytes of it. An empty block
// costs 11 bytes and 1.1 us of zlib's time, a mebibyte of them a tenth of a second; senders that
// flush after every fragment stay far below.
inline constexpr size_t kInflateBlocksMin = 4'096;
inline constexpr size_t kInflateBytesPerBlockMin = 64;
// What a reactor's inflater and deflater each keep of their buffers between messages.
inline constexpr size_t kDeflateKeepBytes = 256 * 1024;

// ----------------------------------------------------------------------------------------- JSON
// A control object (hello, ping) says little; application data travels inside `data` or as it is.
inline constexpr size_t kJsonBytesMax = 1'048'576;
inline constexpr uint32_t kJsonDepthMax = 64;  // application data nests
// Of user, device, token, profile. A token is the long one: signed claims are 1 to 2 KiB, and 4 KiB
// is what browsers let a cookie be, so that whatever a web login hands out fits.
inline constexpr size_t kJsonStringBytesMax = 4'096;
// Largest count in a JSON object: what a number of JavaScript holds exactly.
inline constexpr uint64_t kJsonNumberMax = uint64_t{1} << 53;
// Labels say which ring, region or version a peer belongs to: a few words, not a document.
inline constexpr uint32_t kLabelsMax = 16;
inline constexpr size_t kLabelBytesMax = 64;       // of a name, and of a value
inline constexpr size_t kJsonTokenBytesMax = 256;  // of seq and ts, which are given back

// --------------------------------------------------------------------------------------- tokens
// Of a hello or a head, as long as any string of a hello.
inline constexpr size_t kTokenBytesMax = kJsonStringBytesMax;
// `kid` and `jti`: a UUID or a SHA-512 in hex.
inline constexpr size_t kKeyIdBytesMax = 128;
inline constexpr size_t kTokenIdBytesMax = 128;
// Keys of a header, or of the claims: each is compared with all before it. Identity servers write
// 10 to 30.
inline constexpr size_t kTokenKeysMax = 64;
inline constexpr size_t kTokenAudiencesMax = 16;  // of `aud`

// -------------------------------------------------------------------------------------- TLS 1.3
// The longest plaintext of a record, and what sealing may add to it (RFC 8446 sections 5.1, 5.2).
inline constexpr size_t kTlsRecordBytesMax = 16'384;
inline constexpr size_t kTlsExpansionBytesMax = 256;
// Records that one key seals before another follows it: AES-GCM may have 2^24.5 (RFC 8446, 5.5).
inline constexpr uint64_t kTlsRecordsPerKeyMax = uint64_t{1} << 24;
// KeyUpdates (RFC 8446 section 4.6.3) that one read of a peer may hold. Each costs as much as many
// records; peers send one in 2^24.
inline constexpr uint32_t kTlsKeyUpdatesPerRead = 8;
// Records without a byte of content, and warnings that are ignored, one behind the other: as many
// as OpenSSL allows.
inline constexpr uint32_t kTlsEmptyRecordsMax = 32;
inline constexpr uint32_t kTlsWarningsMax = 4;
// A session ticket, with what belongs to it (RFC 8446 section 4.6.1): a client's to skip.
inline constexpr size_t kTlsTicketBytesMax = 131'338;
// Contexts that keep their key, of each cipher and a reactor: four connections that send much.
inline constexpr size_t kTlsKeyedContexts = 8;

}  // namespace pulse
