// Threads that may fail to start: a full pids limit or a seccomp filter is an error with a remedy,
// not an exception that ends the process with all its connections.
#pragma once

#include <functional>
#include <string_view>
#include <thread>

#include "core/result.h"

namespace pulse {

// A running thread. The error begins with `whose`, which says what the thread was for.
Result<std::thread> start_thread(std::function<void()> run, std::string_view whose);

}  // namespace pulse
