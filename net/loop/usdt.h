// USDT probes of the reactors: where perf, bpftrace and SystemTap can look into a server that runs.
//
// A probe is one nop and a note in the ELF file, until something attaches to it. There are no
// semaphores: every argument is at hand where its probe is, so that nothing is computed for it.
// The provider is `pulsewheel`. Names, and the number, order and types of arguments are promised;
// tests/system/scripts_test.py compares the notes with this file, and tools/perf/bpf/ with both.
//
// Common to all: `reactor` is its number; `index` and `generation` name a connection together with
// it, as in r3-000123-9. Durations are in nanoseconds.
#pragma once

#include <sys/sdt.h>

#include <cstdint>

#include "core/types.h"

namespace pulse::usdt {

// A connection was accepted and has its record.
[[gnu::always_inline]] inline void accept(uint32_t reactor, Index index, uint32_t generation,
                                          uint8_t listener) {
    STAP_PROBE4(pulsewheel, accept, reactor, index, generation, listener);
}

// A peer's complete frame or message, a heartbeat for the most part, was decoded. Its answer leaves
// at the end of the turn.
[[gnu::always_inline]] inline void frame(uint32_t reactor, Index index) {
    STAP_PROBE2(pulsewheel, frame, reactor, index);
}

// A probe was sent to a silent peer; `sent`: how many there were in this silence.
[[gnu::always_inline]] inline void probe(uint32_t reactor, Index index, uint32_t sent) {
    STAP_PROBE3(pulsewheel, probe, reactor, index, sent);
}

// A silent peer is evicted, `late_ns` after its deadline. `unfinished`: in the middle of a message.
[[gnu::always_inline]] inline void evict(uint32_t reactor, Index index, int64_t late_ns,
                                         bool unfinished) {
    STAP_PROBE4(pulsewheel, evict, reactor, index, late_ns, unfinished);
}

// A connection has ended, and its record is free. `reason`: its name (core/close_reason.def).
[[gnu::always_inline]] inline void close(uint32_t reactor, Index index, uint32_t generation,
                                         const char* reason) {
    STAP_PROBE4(pulsewheel, close, reactor, index, generation, reason);
}

// A turn has ended, which took `took_ns` after it had waited for `waited_ns`. `batch`: how many
// connections had sent something that it read.
[[gnu::always_inline]] inline void turn(uint32_t reactor, int64_t took_ns, int64_t waited_ns,
                                        uint32_t batch) {
    STAP_PROBE4(pulsewheel, turn, reactor, took_ns, waited_ns, batch);
}

// The part of a turn in which deadlines are judged, where some were due. `left`: its budget ran out
// before all were judged.
[[gnu::always_inline]] inline void slice(uint32_t reactor, int64_t cpu_ns, bool left) {
    STAP_PROBE3(pulsewheel, slice, reactor, cpu_ns, left);
}

// A control message was taken from the mailbox. `kind`: its position in Message::Body
// (core/message.h).
[[gnu::always_inline]] inline void mailbox(uint32_t reactor, uint32_t kind) {
    STAP_PROBE2(pulsewheel, mailbox, reactor, kind);
}

}  // namespace pulse::usdt
