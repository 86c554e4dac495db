// All that is known of one connection at an instant, open or closed: what is kept in the ledger
// (ledger.h), explained (explain.h) and listed.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/close_reason.h"
#include "core/connection.h"
#include "core/heartbeat_policy.h"
#include "core/transport_facts.h"
#include "core/types.h"

namespace pulse {

// A text of which the beginning is kept, in whole UTF-8 characters.
template <size_t kBytes>
class CutText {
  public:
    CutText() = default;
    explicit CutText(std::string_view text) {
        size_t size = std::min(text.size(), kBytes);
        while (size < text.size() && size > 0 && (text[size] & '\xC0') == '\x80') --size;
        std::copy_n(text.data(), size, text_.begin());
        size_ = static_cast<uint8_t>(size);
    }
    std::string_view view() const { return {text_.data(), size_}; }
    bool empty() const { return size_ == 0; }

  private:
    static_assert(kBytes < 256);
    std::array<char, kBytes> text_{};
    uint8_t size_ = 0;
};

// How a socket was closed.
enum class SocketEnd : uint8_t {
    none,     // it is open
    orderly,  // both ends had ended the stream, or the window of a drain was over
    reset,
};

// Instants are of the reactor's clock; 0: not known, or not yet. Of a connection that is open, `at`
// is now; of one that ends, when that was decided, and all above "the end" is as it was then.
struct Evidence {
    ConnectionId id{};
    uint32_t reactor = 0;
    uint32_t idle_closes_in_ms = 0;  // if nothing happens any more, for idle_reason
    Nanos at = 0;
    Nanos accepted_at = 0;
    // Of the PROXY header behind ?proxy=on, otherwise the socket's.
    PeerAddress peer{};
    bool proxied = false;
    uint8_t listener = 0;
    uint8_t protocol = 0;  // a row of net/protocols/
    CloseReason idle_reason = CloseReason::none;  // of the idle clock that closes it; none does
    uint64_t user = 0;  // stands for the name that it was logged in as (net/loop/logins.h); 0: none

    // ---- silence, as its heartbeat profile judges it
    Stage stage = Stage::free;
    bool greeting = false;  // the handshake deadline runs
    bool held_off = false;  // bytes of it wait to be decoded: it is not judged
    // Nothing was heard since `heard_at`, which is when the connection (or this phase) began.
    bool heard_nothing = false;
    Liveness liveness = Liveness::any;
    bool probes_on = false;
    uint8_t probes_sent = 0;  // since heard_at
    uint8_t misses = 0;       // probes without an answer that end this silence; 0: its timeout does
    Nanos heard_at = 0;       // the last proof of life; bytes that moved count for a part of it
    Nanos interval = 0;
    Nanos timeout = 0;
    Nanos probed_at = 0;      // when the last of the probes was due
    Nanos next_probe_at = 0;  // 0: none is due before the deadline
    Nanos deadline = 0;       // heard_at + timeout, or sooner by misses

    // ---- memory
    uint64_t unfinished_bytes = 0;  // of a message that is not whole
    uint64_t queued_bytes = 0;      // waiting to be sent

    TransportFacts transport{};

    // ---- the end
    CloseReason reason = CloseReason::none;
    int error = 0;           // an errno of the kernel's, where that was the cause
    uint16_t peer_code = 0;  // of the peer's goodbye; 0: it gave none
    CutText<88> detail{};    // of a fault, or of who asked for it
    bool said_goodbye = false;
    bool goodbye_taken = false;  // the kernel took all of it, and our FIN behind it
    bool peer_ended = false;     // its FIN was seen
    SocketEnd end = SocketEnd::none;
    Nanos ended_at = 0;  // the socket was closed

    // It ended, or is to end, by probes without an answer before its timeout was over.
    bool ends_by_misses() const { return misses != 0 && probes_sent >= misses; }
    bool closing() const { return reason != CloseReason::none; }
};

}  // namespace pulse
