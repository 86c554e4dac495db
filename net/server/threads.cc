// std::thread without its exception.
#include "net/server/threads.h"

#include <string>
#include <system_error>
#include <utility>

namespace pulse {

Result<std::thread> start_thread(std::function<void()> run, std::string_view whose) {
    try {
        return std::thread(std::move(run));
    } catch (const std::system_error& error) {
        return Error{std::string(whose) + " cannot be started: " + error.code().message() +
                     "; raise the limit on threads (pids.max of the cgroup, TasksMax=, ulimit -u), "
                     "or allow clone3 in the container's seccomp profile"};
    }
}

}  // namespace pulse
