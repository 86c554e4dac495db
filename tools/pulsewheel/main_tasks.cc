// A queue, and a signal.
#include "tools/pulsewheel/main_tasks.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <exception>
#include <utility>

namespace pulse::serve {

int task_signal() { return SIGRTMIN; }

bool MainTasks::run(std::function<void()> task, Nanos most) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(most);
    const auto mine = std::make_shared<Task>();
    mine->run = std::move(task);
    std::unique_lock guard(lock_);
    if (closed_) return false;
    tasks_.push_back(mine);
    pthread_kill(main_, task_signal());
    changed_.wait_until(guard, until, [&] { return mine->begun || closed_; });
    if (!mine->begun) {
        std::erase(tasks_, mine);
        return false;
    }
    changed_.wait(guard, [&] { return mine->done; });
    return !mine->failed;
}

void MainTasks::run_waiting() {
    std::unique_lock guard(lock_);
    while (!tasks_.empty()) {
        const std::shared_ptr<Task> task = std::move(tasks_.front());
        tasks_.pop_front();
        task->begun = true;
        guard.unlock();
        bool failed = false;
        try {
            task->run();
        } catch (const std::exception& error) {
            failed = true;
            spdlog::error("what the admin endpoint asked was not done: {}", error.what());
        }
        guard.lock();
        task->failed = failed;
        task->done = true;
        changed_.notify_all();
    }
}

void MainTasks::close() {
    const std::lock_guard guard(lock_);
    closed_ = true;
    changed_.notify_all();
}

}  // namespace pulse::serve
