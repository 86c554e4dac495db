// What other threads have the main thread do: it runs each task between two signals, and the
// thread that gave it waits.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "core/types.h"

namespace pulse::serve {

// Wakes the main thread from sigtimedwait; blocked in all threads, and of no meaning by itself.
int task_signal();

class MainTasks {
  public:
    // On the main thread.
    MainTasks() : main_(pthread_self()) {}
    MainTasks(const MainTasks&) = delete;
    MainTasks& operator=(const MainTasks&) = delete;

    // Any other thread. False: the main thread has not come to it within `most`, or runs no tasks
    // any more, and never will run it; or it has thrown, which is logged.
    bool run(std::function<void()> task, Nanos most);

    // The main thread.
    void run_waiting();
    // From now on none is run.
    void close();

  private:
    struct Task {
        std::function<void()> run;
        bool begun = false;
        bool done = false;
        bool failed = false;  // something was thrown
    };

    const pthread_t main_;
    std::mutex lock_;
    std::condition_variable changed_;
    std::deque<std::shared_ptr<Task>> tasks_;
    bool closed_ = false;
};

}  // namespace pulse::serve
