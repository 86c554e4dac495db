// unshare, getrlimit, /proc.
#include "net/descriptors.h"

#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace pulse {
namespace {

constexpr const char* kOwnDescriptors = "/proc/thread-self/fd";

rlimit limits() {
    rlimit limit{};
    PULSE_ASSERT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
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

uint64_t descriptor_limit() { return limits().rlim_cur; }

uint64_t raise_descriptor_limit() {
    rlimit limit = limits();
    limit.rlim_cur = limit.rlim_max;
    // Refused only if the hard limit sank in this instant: then the soft one stays as it is.
    setrlimit(RLIMIT_NOFILE, &limit);
    return descriptor_limit();
}

uint64_t open_descriptors() {
    struct stat status{};
    if (stat(kOwnDescriptors, &status) == 0 && status.st_size > 0)
        return static_cast<uint64_t>(status.st_size);
    return walk_descriptors();
}

}  // namespace pulse
