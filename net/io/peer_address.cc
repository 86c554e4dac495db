// getpeername().
#include "net/io/peer_address.h"

namespace pulse {

SocketAddress peer_address(SystemCalls& calls, int descriptor) {
    SocketAddress peer;
    socklen_t size_bytes = sizeof peer.v6;
    if (calls([&] { return getpeername(descriptor, &peer.base, &size_bytes); }) != 0) return {};
    peer.unmap();
    return peer;
}

}  // namespace pulse
