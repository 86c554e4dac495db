// Opening, ringing and closing marks.
#include "net/io/watch_marks.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace pulse {

bool WatchMarks::open(SystemCalls& calls, int watch_set) {
    for (uint32_t mark = 0; mark < kWatchMarks; ++mark) {
        const int descriptor = calls([] { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
        if (descriptor < 0) return false;
        descriptors_[mark] = descriptor;
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET;
        event.data.u64 = kTag | mark;
        if (calls([&] { return epoll_ctl(watch_set, EPOLL_CTL_ADD, descriptor, &event); }) != 0)
            return false;
    }
    return true;
}

void WatchMarks::close(SystemCalls& calls) {
    for (int& descriptor : descriptors_) {
        if (descriptor > 0) calls.close(descriptor);
        descriptor = 0;
    }
}

// False where it failed for a moment: the next look tries again.
bool WatchMarks::ring(SystemCalls& calls, uint32_t mark) {
    const uint64_t one = 1;
    return calls([&] { return ::write(descriptors_[mark], &one, sizeof(one)); }) > 0;
}

}  // namespace pulse
