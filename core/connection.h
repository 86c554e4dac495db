// The record: all that an idle connection owns in user space, one cache line.
//
// The first eight bytes are what a message and a look touch (heartbeat_policy.h, timing_wheel.h);
// the rest is identity, the codec's memory and handles to things that a connection borrows only
// while it is not idle. Written by its reactor's thread alone. Owned by ConnectionTable; all others
// hold a ConnectionId. core/README.md accounts for every byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/close_reason.h"
#include "core/limits.h"
#include "core/types.h"

namespace pulse {

// Where a connection is in its life, in order; any of them may be skipped but `closed`. From
// `proxy` to `open` it is live, and the stage says what reads its next bytes.
enum class Stage : uint8_t {
    free,     // in the table's free list; the wheel may still hold an entry for the index
    proxy,    // a PROXY header
    tls,      // the handshake of TLS, behind which records hold what the next stages read
    detect,   // the first bytes, which tell the protocol
    http,     // the head of an upgrade
    open,     // frames of its protocol
    closing,  // a goodbye is on its way or was answered; the close deadline runs
    closed,   // handed to the backend's close; only its on_closed may follow
};

constexpr bool is_live(Stage stage) { return stage > Stage::free && stage < Stage::closing; }

// Handles are indexes into pools of the reactor; 0 means none: a zeroed record borrows nothing.
struct Connection {
    uint32_t heard;   // what the heartbeat policy remembers: see heartbeat_policy.h
    uint16_t armed;   // the wheel's: where the valid entry of this place is; outlives the owner
    uint8_t profile;  // which HeartbeatConfig
    Stage stage;
    uint32_t generation;  // changes with every owner
    int32_t descriptor;   // of its socket; the backend's
    // The codec's memory between reads.
    std::array<std::byte, kCodecStateBytes> codec;
    uint32_t outbox;      // bytes that wait to be sent; the reactor's
    uint32_t inbox;       // bytes of a message that is not whole yet; the reactor's
    uint32_t user;        // is_logged_in(): entry of the logins; else when it was accepted, or 0
    uint32_t address;     // the peer's, as a number (net/io/address.h: number_of); the reactor's
    uint16_t operations;  // requests in flight and other marks; the backend's
    uint8_t protocol;     // what is spoken: a row of kProtocols (net/protocols/protocol.h)
    CloseReason close_reason;
    uint8_t flags;         // the reactor's and its sessions': kDirty and on (connection_flags.h)
    uint8_t listener : 6;  // which listener accepted it
    uint8_t tls : 1;       // its bytes are TLS records, from the first of its handshake on
    uint8_t clocked : 1;   // its reads and writes are noted, for idle clocks
    // Small numbers of the reactor's and its sessions', in two bytes together.
    uint16_t unnoted : 7;     // small sends since bulk was last noted, in kUnnotedUnitBytes
    uint16_t offences : 3;    // bad messages forgiven so far
    uint16_t one_way : 3;     // heartbeats that go without an answer before each that has one
    uint16_t unanswered : 3;  // of those, how many there were since the last answer
};

// In Connection::user: the rest says when the connection was accepted (net/loop/history.h). In a
// record that is free `user` is the next free place.
inline constexpr uint32_t kAcceptedMark = uint32_t{1} << 31;
static_assert(2 * kConnectionsPerReactorMax < kAcceptedMark, "handles of logins are below");
constexpr bool is_logged_in(const Connection& connection) {
    return connection.user != 0 && (connection.user & kAcceptedMark) == 0;
}

static_assert(sizeof(Connection) == kConnectionBytes, "one cache line; see core/README.md first");
static_assert(offsetof(Connection, heard) == 0);
static_assert(offsetof(Connection, armed) == 4);
static_assert(offsetof(Connection, profile) == 6);
static_assert(offsetof(Connection, stage) == 7);
static_assert(offsetof(Connection, generation) == 8);
static_assert(offsetof(Connection, descriptor) == 12);
static_assert(offsetof(Connection, codec) == 16);
static_assert(offsetof(Connection, outbox) == 40);
static_assert(offsetof(Connection, inbox) == 44);
static_assert(offsetof(Connection, user) == 48);
static_assert(offsetof(Connection, address) == 52);
static_assert(offsetof(Connection, operations) == 56);
static_assert(offsetof(Connection, protocol) == 58);
static_assert(offsetof(Connection, close_reason) == 59);
static_assert(offsetof(Connection, flags) == 60);

}  // namespace pulse
