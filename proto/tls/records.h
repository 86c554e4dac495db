// The records of a TLS 1.3 connection whose handshake is over (RFC 8446 sections 4.6, 5 and 6), in
// either role: opened in place, sealed, their keys updated. A state is nothing but bytes, so that
// a connection which is idle has no object of OpenSSL's.
//
//     OpenSSL: the handshake --secrets, numbers--> begin() --> open(), seal(), seal_alert()
//
// What is taken and what is refused, with which alert, is what OpenSSL 3.0 takes and refuses
// (tests/proto/tls/records_test.cc); README.md says why this is sound.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/codec.h"
#include "proto/limits.h"
#include "proto/tls/aead.h"
#include "proto/tls/key_schedule.h"
#include "proto/tls/suite.h"

namespace pulse::tls {

// Type, version, length (RFC 8446 section 5.1).
inline constexpr size_t kHeaderBytes = 5;
// What a record has besides its content: the header, the type of what is in it, the tag.
inline constexpr size_t kRecordExtraBytes = kHeaderBytes + 1 + kTagBytes;
inline constexpr size_t kAlertRecordBytes = kRecordExtraBytes + 2;
inline constexpr size_t kUpdateRecordBytes = kRecordExtraBytes + 5;

// RFC 8446 section 6: those that are sent or known here.
enum class Alert : uint8_t {
    close_notify = 0,
    unexpected_message = 10,
    bad_record_mac = 20,
    record_overflow = 22,
    illegal_parameter = 47,
    decode_error = 50,
    protocol_version = 70,
    internal_error = 80,
    user_canceled = 90,
    none = 255,  // not of the wire
};

// The beginning of what is kept of a connection: state_bytes() in all, of which the rest are its
// secrets, keys and IVs. Its owner gives it the memory, aligned to 8, has begin() fill it, and
// wipes it. It must not be copied: two would seal with the same numbers.
struct State {
    std::array<uint64_t, 2> number;  // of the next record that is read, and that is written
    Suite suite;
    uint8_t flags;
    uint8_t empty_records;    // one behind the other
    uint8_t head_bytes : 4;   // of a handshake message that has begun, its header
    uint8_t warnings : 4;     // one behind the other
    std::array<uint8_t, 4> head;  // of it; while a ticket is skipped, how much is to come

    static constexpr uint8_t kEnded = 1, kSaidEnd = 2, kOwesUpdate = 4, kSkips = 8, kClient = 16;
    bool has_ended() const { return (flags & kEnded) != 0; }     // the peer's close_notify came
    bool said_end() const { return (flags & kSaidEnd) != 0; }  // ours was sealed
};
static_assert(sizeof(State) == 24);

// With secrets, keys and IVs of both directions: 144, 208, 176 bytes, in the order of Suite.
constexpr size_t state_bytes(Suite suite) {
    return sizeof(State) + 2 * (info(suite).secret_bytes + info(suite).key_bytes + kIvBytes);
}
inline constexpr size_t kStateBytesMax = state_bytes(Suite::aes_256_gcm_sha384);
static_assert(state_bytes(Suite::aes_128_gcm_sha256) == 144);
static_assert(kStateBytesMax % 8 == 0 && state_bytes(Suite::chacha20_poly1305_sha256) % 8 == 0);

// What a handshake leaves: client_ and server_application_traffic_secret_0, and how many records
// were read and written with what follows from them.
struct Beginning {
    Suite suite = Suite::none;
    Role role = Role::server;
    std::span<const uint8_t> client_secret{}, server_secret{};
    uint64_t records_read = 0, records_written = 0;
};

// What open() came to. `plain` comes before the rest.
struct Opened {
    std::span<uint8_t> plain{};  // part of what was given
    size_t bytes = 0;            // of whole records; what is behind them is to be given again
    bool failed = false;         // nothing more can be read
    // Why: what the peer is to be sent, none where it sent an alert itself; and in words.
    Alert alert = Alert::none;
    std::string_view reason{};
    Alert peer_alert = Alert::none;
};

// How many bytes seal() makes of so many at most.
constexpr size_t sealed_bytes_max(size_t plain_bytes) {
    const size_t records = plain_bytes / kTlsRecordBytesMax + 1;
    return plain_bytes + records * kRecordExtraBytes + 2 * kUpdateRecordBytes;
}
// And how many bytes the record that begins so has. Requires: kHeaderBytes of it.
size_t record_bytes(std::span<const uint8_t> header);

// One a reactor, and of its thread: what is shared by the states of all its connections.
class Records {
  public:
    // False: OpenSSL has no memory. Requires: the secrets are as long as those of the suite, and
    // `state` has state_bytes() of it.
    bool begin(State& state, const Beginning& from);

    // Opens the whole records at the beginning of `bytes`, where they are. After a close_notify all
    // is taken and nothing is read. Requires: it has not failed.
    Opened open(State& state, std::span<uint8_t> bytes);

    // `plain` becomes records at `to`, behind a KeyUpdate where one is due. Returns how many bytes
    // they have, at most sealed_bytes_max(); 0: OpenSSL has no memory, and nothing more may be
    // sealed. Requires: not said_end(), `plain` is not empty and not part of `to`.
    size_t seal(State& state, std::span<const uint8_t> plain, uint8_t* to);
    // An alert, at most kAlertRecordBytes; behind it nothing may be sealed. 0: as above, or it is
    // not the first.
    size_t seal_alert(State& state, Alert alert, uint8_t* to);

  private:
    enum class ContentType : uint8_t;

    bool update(State& state, size_t way);
    bool derive(State& state, size_t way);
    static bool begins_well(std::span<const uint8_t> header, Opened& opened);
    void open_one(State& state, std::span<uint8_t> record, Opened& opened);
    void on_content(State& state, ContentType type, std::span<uint8_t> content, Opened& opened);
    static void on_alert(State& state, std::span<const uint8_t> content, Opened& opened);
    void on_handshake(State& state, std::span<const uint8_t> content, Opened& opened);
    static void begin_message(State& state, Opened& opened);
    void on_key_update(State& state, uint8_t request, Opened& opened);
    size_t seal_one(State& state, ContentType type, std::span<const uint8_t> content, uint8_t* to);

    KeySchedule schedule_;
    Aead aead_;
    uint32_t updates_ = 0;  // of the call of open() that runs
};

}  // namespace pulse::tls
