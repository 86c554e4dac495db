// std::thread without its exception.
#include "net/server/threads.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

namespace pulse {

Result<std::thread> start_thread(std::function<void()> run, std::string_view whose) {
    try {
        return std::thread([run = std::move(run), name = std::string(whose)] {
            try {
                run();
            } catch (const std::exception& error) {
                // What it was in the middle of is undefined: it cannot go on, nor the rest without.
                std::fprintf(stderr, "pulsewheel: %s has thrown: %s; the process ends\n",
                             name.c_str(), error.what());
                std::abort();
            }
        });
    } catch (const std::system_error& error) {
        return Error{std::string(whose) + " cannot be started: " + error.code().message() +
                     "; raise the limit on threads (pids.max of the cgroup, TasksMax=, ulimit -u), "
                     "or allow clone3 in the container's seccomp profile"};
    }
}

}  // namespace pulse
