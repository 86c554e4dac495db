// A file of its own: linux/tcp.h, which has the newer fields, and netinet/tcp.h exclude each other.
#include "net/io/transport_facts.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>

#include "net/io/address.h"
#include "net/io/peer_address.h"

namespace pulse {
namespace {

constexpr size_t kNeeded = offsetof(tcp_info, tcpi_bytes_retrans) + sizeof(uint64_t);

// States (net/tcp_states.h) in which the peer's FIN was received, which tcpi_bytes_received counts
// as a byte.
bool has_fin(uint8_t state) {
    constexpr uint8_t kTimeWait = 6, kCloseWait = 8, kLastAck = 9, kClosing = 11;
    return state == kTimeWait || state == kCloseWait || state == kLastAck || state == kClosing;
}

TransportFacts read(const tcp_info& info) {
    TransportFacts facts;
    facts.known = true;
    const uint64_t fin = has_fin(info.tcpi_state) ? 1 : 0;
    facts.received_bytes =
        info.tcpi_bytes_received - std::min<uint64_t>(info.tcpi_bytes_received, fin);
    const uint64_t sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
    facts.acked_bytes = std::min<uint64_t>(info.tcpi_bytes_acked, sent);  // a FIN is counted, too
    facts.unacked_bytes = sent - facts.acked_bytes;
    facts.unsent_bytes = info.tcpi_notsent_bytes;
    facts.received_segments = info.tcpi_segs_in;
    facts.sent_segments = info.tcpi_segs_out;
    facts.retransmitted_segments = info.tcpi_total_retrans;
    facts.timeouts = info.tcpi_retransmits;
    facts.since_received = Nanos{info.tcpi_last_data_recv} * kMillisecond;
    facts.since_sent = Nanos{info.tcpi_last_data_sent} * kMillisecond;
    facts.since_acked = Nanos{info.tcpi_last_ack_recv} * kMillisecond;
    facts.round_trip = Nanos{info.tcpi_rtt} * 1'000;
    return facts;
}

// Of a socket that was reset getpeername() knows nothing any more, and SO_PEERNAME does
// (net/core/sock.c), if it is asked for exactly as many bytes as the address has.
SocketAddress peer_of(SystemCalls& calls, int descriptor) {
    const SocketAddress peer = peer_address(calls, descriptor);
    if (peer.present()) return peer;
    for (socklen_t size_bytes : {socklen_t{sizeof peer.v6}, socklen_t{sizeof peer.v4}}) {
        SocketAddress last;
        const int done = calls([&] {
            return getsockopt(descriptor, SOL_SOCKET, SO_PEERNAME, &last.base, &size_bytes);
        });
        if (done != 0) continue;
        last.unmap();
        return last;
    }
    return {};
}

}  // namespace

TransportFacts transport_facts(SystemCalls& calls, int descriptor) {
    TransportFacts facts;
    tcp_info info{};
    socklen_t size_bytes = sizeof info;
    const int done =
        calls([&] { return getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size_bytes); });
    if (done == 0 && size_bytes >= kNeeded) facts = read(info);
    facts.peer = plain_address(peer_of(calls, descriptor));
    return facts;
}

}  // namespace pulse
