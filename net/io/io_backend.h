// The seam between the loop and a kernel: what a backend must do, said once and tested sentence by
// sentence over every implementation (tests/net/io/io_contract.h).
//
// Implementations: EpollBackend and UringBackend beside this file, SimBackend (net/sim/backend.h, a
// kernel and a network made from a seed). The turn, Reactor<Io>, is compiled once per backend, what
// is under it once (net/loop/io_requests.h).
//
//            listen / attach / refuse / send / finish / close          (handler -> backend, always
//          +---------------------------------------------------+        on the reactor's thread)
//          v                                                   |
//      [ backend ] -- on_accept on_connected on_bytes on_end on_sent on_closed --> [ handler ]
//                         (backend -> handler, inside poll only)
//
// The contract
//   C1  Events happen only inside poll(), on its thread. No operation calls the handler back.
//   C2  Received bytes are borrowed until the handler returns; they are writable, with
//       kReceiveFrontBytes of writable slack in front and kReceivePadBytes readable behind.
//   C3  One send in flight a connection; its bytes stay unchanged until on_sent. Short writes are
//       hidden: on_sent comes once, after the last byte was taken by the kernel, or with an error.
//       Where send() returns true the kernel took all of it at once, and no on_sent follows: the
//       bytes are the handler's again, and the next send may start.
//   C4  Exactly one on_closed for each attached connection, after close(), and it is the last word:
//       not from inside close(), and no event for that index follows it until it is attached again.
//   C5  No on_bytes, on_end or on_sent after close(). The send in flight, if any, still pins its
//       bytes until on_closed: only then may they go.
//   C6  poll() returns by its deadline or soon after wake(), whichever is first; no wake is lost,
//       not even one that came before poll() was entered. Several wakes may be answered as one.
//   C7  now() moves only inside poll(), and never back. When an event is handed over, now() was
//       read after what the event reports had happened: after the bytes were received, the peer
//       accepted, the send done. A clock of before a pause makes evidence look older than it is.
//   C8  drained_until() = t promises: every byte (and FIN and RST) that reached a socket of ours
//       before t was delivered, or belongs to a connection that was given bytes at or after t.
//       Never moves back, never passes now(). Where poll() always finds more than it may handle, t
//       lags; it does not lie.
//   C9  hold_off() stops the deliveries of one connection: no on_bytes and no on_end until
//       resume(). What arrives meanwhile waits in the kernel, whose window then stops the peer.
//       Sends go on. C8 leaves such a connection out until it is resumed: the handler holds bytes
//       of it already, and must not judge it.
//  C10  rest() sleeps until the instant that it is given: what was asked for before is on its way
//       meanwhile, what arrives waits for the next poll, a wake too. It returns false at once if
//       there is something to hand over.
//
// A connection ends only through close(): on_end (the peer sent FIN) and an error given to on_end
// or on_sent are reports, and the handler answers with close(). There is no timer in a backend:
// deadlines are the wheel's, also those of closing.
//
// Who keeps what: a backend stores its state of a connection in the record (Connection::descriptor
// and Connection::operations), and nothing else for an idle one in user space. A slot is freed by
// the handler, in on_closed, and nowhere else.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/transport_facts.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/io/io_counters.h"
#include "net/io/sockets.h"

namespace pulse {

// A peer that the kernel has accepted and the handler has not decided about. Valid during
// on_accept: before it returns, the handler calls exactly one of attach(index, accepted)
// and refuse(accepted, refusal_message).
struct Accepted {
    int32_t descriptor = -1;  // of its socket; the backend's
    uint8_t listener = 0;     // position in the list given to listen()
    // The descriptor table is full and this one came through the spare: it can only be refused.
    bool exhausted = false;
    SocketAddress peer;  // family 0 where the backend does not know it
};

enum class CloseMode : uint8_t {
    // Whatever the kernel has taken is still delivered; unread input is the handler's business:
    // read it first (finish, then on_end), or the kernel turns this into a reset.
    orderly,
    // SO_LINGER 0: drop the peer at once, leave no orphan. For peers believed dead or hostile.
    reset,
};

// Why an event came with an error: 0 is none, otherwise an errno of the kernel's.
using IoError = int;

// What the loop provides to a backend. Each is called inside poll() only.
template <class H>
concept IoHandler = requires(H handler, Index index, std::span<uint8_t> bytes, IoError error,
                             const Accepted& accepted) {
    handler.on_accept(accepted);
    handler.on_connected(index, error);  // client role: the answer to connect()
    handler.on_bytes(index, bytes);      // never empty
    handler.on_end(index, error);        // 0: the peer sent FIN; otherwise it failed. Once.
    handler.on_sent(index, error);       // the bytes given to send() are the handler's again
    handler.on_closed(index);            // C4: the place may be freed now
};

// What became of the bytes that a connection was given to send, as the kernel counts them.
struct SendProgress {
    uint64_t acked_bytes = 0;    // acknowledged by the peer's host, in all; only differences matter
    uint64_t waiting_bytes = 0;  // given to the kernel and not acknowledged
    Nanos since_acked = 0;       // since its newest acknowledgement came, of whatever
    // For how long nothing waited, in all; only differences matter. Always 0: not known.
    Nanos idle = 0;
};

template <class B>
concept IoBackend =
    requires(B io, const B& reading, Index index, Nanos until, const Accepted& accepted,
             std::span<const uint8_t> bytes, std::span<const ListenAddress> addresses,
             std::span<const uint32_t> shares, const SocketAddress& address, CloseMode mode,
             uint8_t listener, const SocketOptions& bounds) {
        // Accept on these from now on, and on no others; an empty list stops accepting. What was
        // accepted and attached stays. An error names the address and the cause; then there
        // is no listener.
        { io.listen(addresses) } -> std::same_as<Result<void>>;
        // Accept no more on one of them, by its position. The others keep theirs, and whom they
        // have not accepted yet; those that wait here are reset. Not from inside on_accept; nothing
        // happens where it is closed already.
        { io.close_listener(listener) } -> std::same_as<void>;
        // Of several backends that listen on the same addresses, in the same order each: from now
        // on the kernel gives connections to them by these shares, in the order in which they
        // began to listen. False, with errno: it cannot for one of the addresses, and chooses by
        // its hash at all of them.
        { io.spread_accepts(shares) } -> std::same_as<bool>;
        // Client role: opens a socket for a place that the caller took; on_connected follows, then
        // (after success) the connection is as if attached. After on_connected with an error only
        // close() may follow. `source` with family 0 lets the kernel choose.
        { io.connect(index, address, address) } -> std::same_as<void>;
        // Takes an accepted peer into a place; events for it may follow from the next poll on.
        { io.attach(index, accepted) } -> std::same_as<void>;
        // Sends `refusal_message` as far as one non-blocking write goes, and closes in order.
        { io.refuse(accepted, bytes) } -> std::same_as<void>;
        // True: it is done (C3). A send that fails is reported by on_sent, never here.
        { io.send(index, bytes) } -> std::same_as<bool>;
        // From inside on_bytes of this connection only; resume() once, at any time before close().
        { io.hold_off(index) } -> std::same_as<void>;
        { io.resume(index) } -> std::same_as<void>;
        { reading.is_held_off(index) } -> std::same_as<bool>;
        // No send follows; FIN goes out after what was sent. Bytes still arrive.
        { io.finish(index) } -> std::same_as<void>;
        { io.close(index, mode) } -> std::same_as<void>;
        // What was asked for before is on its way when it returns, and does not wait for the next
        // poll. A system call where something waits for that.
        { io.submit() } -> std::same_as<void>;
        { io.rest(until) } -> std::same_as<bool>;
        { io.wake() } -> std::same_as<void>;  // the only operation for other threads
        { reading.now() } -> std::same_as<Nanos>;
        { reading.drained_until() } -> std::same_as<Nanos>;
        // Of one that is attached. A system call or two: for those that are about to be judged.
        { io.send_progress(index) } -> std::same_as<SendProgress>;
        // Of one that is attached, unmapped; family 0 where the kernel does not know it any more. A
        // system call: for an operator who asks, not for every connection.
        { io.peer_address(index) } -> std::same_as<SocketAddress>;
        // Of one that is attached and not closed, also after on_end with an error. Two system
        // calls: for those that end, or that an operator asks about.
        { io.transport_facts(index) } -> std::same_as<TransportFacts>;
        // Of one that is attached and not closed: how long the kernel keeps it without a sign of
        // its peer's host from now on, instead of what its listener gave it; what is 0 stays.
        // Two system calls for the keepalive, one for the other. What ends so is reported by
        // on_end or on_sent, ETIMEDOUT.
        { io.bound_silence(index, bounds) } -> std::same_as<void>;
        // When the last poll stopped waiting and began to handle: what follows is work.
        { reading.woke_at() } -> std::same_as<Nanos>;
        // The clock at this instant: to measure with, and to begin a deadline outside poll. No
        // deadline is judged by it.
        { reading.clock() } -> std::same_as<Nanos>;
        // CPU time of the calling thread, likewise: what it spent, other threads' turns left out.
        { reading.cpu_clock() } -> std::same_as<Nanos>;
        { reading.counters() } -> std::same_as<const IoCounters&>;
        // What it holds in user space beside the records; part of --stats-json.
        { reading.memory_bytes() } -> std::same_as<size_t>;
        // poll(until, handler) is a template over the handler and so cannot stand in this list.
    };

}  // namespace pulse
