// Cores of threads, and the CPU time of all the threads that something has started.
#pragma once

#include <dirent.h>
#include <pthread.h>
#include <sched.h>

#include <cstdint>
#include <cstdlib>
#include <set>

#include "core/types.h"
#include "net/io/clocks.h"

namespace pulse::bench {

inline void pin_to_core(uint32_t core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}

// The threads that begin while it is alive, and that still live.
class ThreadsSince {
  public:
    // What began is known from now on.
    void note() {
        for (const int thread : threads_now())
            if (!before_.contains(thread)) begun_.insert(thread);
    }
    // Requires: note(), and that all of them live.
    Nanos cpu() const {
        Nanos spent = 0;
        for (const int thread : begun_) {
            // The kernel's name of a thread's CPU clock (clock_getcpuclockid(3), of a thread).
            const unsigned name = ~static_cast<unsigned>(thread) << 3 | 6;
            spent += read_kernel_clock(static_cast<clockid_t>(name));
        }
        return spent;
    }

  private:
    static std::set<int> threads_now() {
        std::set<int> threads;
        DIR* const folder = opendir("/proc/self/task");
        while (const dirent* entry = readdir(folder))
            if (entry->d_name[0] != '.') threads.insert(std::atoi(entry->d_name));
        closedir(folder);
        return threads;
    }

    const std::set<int> before_ = threads_now();
    std::set<int> begun_;
};

}  // namespace pulse::bench
