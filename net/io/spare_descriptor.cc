// Accepting with a full descriptor table.
#include "net/io/spare_descriptor.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>

namespace pulse {

bool SpareDescriptor::open(SystemCalls& calls, int source) {
    source_ = source;
    restore(calls);
    return number_ >= 0;
}

void SpareDescriptor::close(SystemCalls& calls) {
    if (number_ >= 0) calls.close(number_);
    number_ = -1;
}

bool SpareDescriptor::accept(SystemCalls& calls, int listener, int flags, Accepted& accepted) {
    const auto accept_one = [&] {
        socklen_t size_bytes = sizeof(accepted.peer);
        accepted.descriptor =
            calls([&] { return accept4(listener, &accepted.peer.base, &size_bytes, flags); });
        return accepted.descriptor >= 0;
    };
    if (!accept_one()) {
        int error = errno;
        if (error != EMFILE && error != ENFILE) return false;
        restore(calls);
        if (number_ >= 0) {
            close(calls);
            accepted.exhausted = accept_one();
            error = errno;
            if (!accepted.exhausted) restore(calls);
        }
        if (!accepted.exhausted) {
            errno = error;
            return false;
        }
    }
    accepted.peer.unmap();
    if (accepted.peer.base.sa_family == AF_UNIX) {
        // The path is the peer's to choose, and says nothing of it.
        accepted.peer = SocketAddress{};
        accepted.peer.base.sa_family = AF_UNIX;
    }
    return true;
}

void SpareDescriptor::restore(SystemCalls& calls) {
    if (number_ < 0) number_ = calls([&] { return fcntl(source_, F_DUPFD_CLOEXEC, 0); });
}

bool SpareDescriptor::is_shortage(int error) {
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

}  // namespace pulse
