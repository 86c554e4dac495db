// unshare, getrlimit, /proc.
#include "net/server/descriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <thread>

#include "net/server/threads.h"

namespace pulse {
namespace {

constexpr const char* kOwnDescriptors = "/proc/thread-self/fd";

// What every Linux system gives a process, where neither call nor /proc says more.
constexpr rlim_t kDescriptorsUsual = 1'024;

// A seccomp filter may refuse prlimit64, which getrlimit() is made of; /proc says the same.
rlimit limits() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) return limit;
    limit.rlim_cur = limit.rlim_max = kDescriptorsUsual;
    std::FILE* file = std::fopen("/proc/self/limits", "re");
    if (file == nullptr) return limit;
    char line[128];
    while (std::fgets(line, sizeof line, file) != nullptr) {
        unsigned long soft = 0;
        unsigned long hard = 0;
        if (std::sscanf(line, "Max open files %lu %lu", &soft, &hard) == 2) limit = {soft, hard};
    }
    std::fclose(file);
    return limit;
}

uint64_t walk_descriptors() {
    DIR* directory = opendir(kOwnDescriptors);
    if (directory == nullptr) return 0;
    uint64_t count = 0;
    while (const dirent* entry = readdir(directory))
        if (entry->d_name[0] != '.') ++count;
    closedir(directory);
    return count - 1;  // the directory's own
}

}  // namespace

Result<void> own_descriptor_table() {
    if (unshare(CLONE_FILES) == 0) return {};
    return Error{
        std::string("no descriptor table of its own for a thread (unshare(CLONE_FILES)): ") +
        std::strerror(errno) + "; allow unshare in the container's seccomp profile"};
}

Result<void> try_own_descriptor_table() {
    Result<void> outcome;
    Result<std::thread> trial =
        start_thread([&outcome] { outcome = own_descriptor_table(); }, "the first thread");
    if (!trial) return Error{trial.error()};
    trial->join();
    return outcome;
}

uint64_t descriptor_limit() { return limits().rlim_cur; }

uint64_t raise_descriptor_limit() {
    rlimit limit = limits();
    limit.rlim_cur = limit.rlim_max;
    // Refused by a seccomp filter, or if the hard limit sank in this instant: the soft one stays.
    setrlimit(RLIMIT_NOFILE, &limit);
    return descriptor_limit();
}

void widen_descriptor_table(uint64_t count) {
    const uint64_t most = std::min<uint64_t>(descriptor_limit(), INT_MAX);
    if (count == 0 || count > most) count = most;
    const int last = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, static_cast<int>(count - 1));
    if (last >= 0) ::close(last);
}

uint64_t open_descriptors() {
    struct stat status{};
    if (stat(kOwnDescriptors, &status) == 0 && status.st_size > 0)
        return static_cast<uint64_t>(status.st_size);
    return walk_descriptors();
}

void open_standard_descriptors() {
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
        if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
        // Takes the lowest that is free, which is this one. Where /dev/null is missing the
        // descriptor stays closed, and what is opened next takes it: there is nothing better.
        [[maybe_unused]] const int opened = ::open("/dev/null", O_RDWR);
    }
}

void unblock_stderr() {
    struct stat status{};
    if (fstat(STDERR_FILENO, &status) != 0 || !S_ISFIFO(status.st_mode)) return;
    // O_NONBLOCK belongs to the open file, which others share: so it is opened once more. Where
    // that is refused (/proc is missing, the pipe is another user's) it stays as it is.
    const int own = ::open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (own < 0) return;
    dup2(own, STDERR_FILENO);
    ::close(own);
}

}  // namespace pulse
