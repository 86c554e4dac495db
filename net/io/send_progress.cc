// A file of its own: linux/tcp.h, which has the newer fields, and netinet/tcp.h exclude each other.
#include "net/io/send_progress.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstddef>

#include "net/io/clocks.h"

namespace pulse {

SendProgress send_progress(SystemCalls& calls, int descriptor) {
    SendProgress progress;
    int waiting = 0;
    if (calls([&] { return ioctl(descriptor, SIOCOUTQ, &waiting); }) != 0) return progress;
    progress.waiting_bytes = static_cast<uint64_t>(waiting);
    tcp_info info{};
    socklen_t size_bytes = sizeof info;
    const int done =
        calls([&] { return getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size_bytes); });
    constexpr size_t kNeeded = offsetof(tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked;
    if (done != 0 || size_bytes < kNeeded) return progress;
    progress.acked_bytes = info.tcpi_bytes_acked;
    progress.since_acked = Nanos{info.tcpi_last_ack_recv} * kMillisecond;
    constexpr size_t kBusy = offsetof(tcp_info, tcpi_busy_time) + sizeof info.tcpi_busy_time;
    if (size_bytes >= kBusy)
        progress.idle = monotonic_clock() - static_cast<Nanos>(info.tcpi_busy_time) * 1'000;
    return progress;
}

}  // namespace pulse
