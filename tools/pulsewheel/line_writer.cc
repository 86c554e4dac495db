// A bounded queue, a condition variable, write(2).
#include "tools/pulsewheel/line_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>
#include <string_view>
#include <utility>

#include "net/server/threads.h"

namespace pulse::serve {
namespace {

// Of lines that wait: some thousand log lines, or the statistics of dozens of reactors.
constexpr size_t kQueuedBytesMax = size_t{1} << 20;
constexpr int kAppendFlags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC;
constexpr mode_t kFileMode = 0644;

// Whether the file, open for writing as `descriptor`, ends in a part of a line. `unknown` is the
// answer where the file must not be read, or was renamed meanwhile.
bool ends_in_a_part(int descriptor, const std::string& path, bool unknown) {
    struct stat status{}, read_status{};
    if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0)
        return false;
    const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (reader < 0) return unknown;
    char last = 0;
    const bool is_known =
        ::fstat(reader, &read_status) == 0 && read_status.st_dev == status.st_dev &&
        read_status.st_ino == status.st_ino && ::pread(reader, &last, 1, status.st_size - 1) == 1;
    ::close(reader);
    return is_known ? last != '\n' : unknown;
}

Error cannot_write(const std::string& path, int error) {
    return Error{"'" + path + "': " + std::strerror(error) + "; name a file that can be written"};
}

}  // namespace

struct LineWriter::State {
    std::string name;     // for messages
    std::string path;     // empty: `descriptor` is not a file of ours
    int descriptor = -1;  // the thread's, once that runs
    bool cut = false;     // the thread's: the file ends in a part of a line

    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::string> queue;
    size_t queued_bytes = 0;
    bool writing = false;  // a line left the queue and is not written yet
    bool reopen = false;
    bool ended = false;
    uint64_t dropped = 0;  // since take_trouble()
    uint64_t failed = 0;   // the same: lines that the kernel refused
    int error = 0;         // why the last of them

    void run();
    bool open_file();
    // 0, or why it was not written whole.
    int write_line(std::string_view line);
    int write_all(std::string_view text);
};

// ------------------------------------------------------------------------------ the writing thread

void LineWriter::State::run() {
    pthread_setname_np(pthread_self(), "writer");
    std::unique_lock lock(mutex);
    for (;;) {
        changed.wait(lock, [this] { return ended || !queue.empty(); });
        if (queue.empty()) break;
        const std::string line = std::move(queue.front());
        queue.pop_front();
        queued_bytes -= line.size();
        writing = true;
        const bool anew = std::exchange(reopen, false);
        lock.unlock();
        if (anew && !path.empty() && descriptor >= 0) ::close(std::exchange(descriptor, -1));
        const int failure = descriptor >= 0 || open_file() ? write_line(line) : errno;
        lock.lock();
        writing = false;
        if (failure != 0) {
            ++failed;
            error = failure;
        }
        changed.notify_all();
    }
    if (!path.empty() && descriptor >= 0) ::close(descriptor);
}

// Waits for the reader of a FIFO.
bool LineWriter::State::open_file() {
    descriptor = ::open(path.c_str(), kAppendFlags, kFileMode);
    if (descriptor < 0) return false;
    cut = ends_in_a_part(descriptor, path, cut);
    return true;
}

// A full disk takes a part of a line; the next line must not continue it.
int LineWriter::State::write_line(std::string_view line) {
    if (cut) {
        if (const int failure = write_all("\n"); failure != 0) return failure;
        cut = false;
    }
    return write_all(line);
}

int LineWriter::State::write_all(std::string_view text) {
    const size_t whole = text.size();
    while (!text.empty()) {
        const ssize_t written = ::write(descriptor, text.data(), text.size());
        if (written >= 0) {
            text.remove_prefix(static_cast<size_t>(written));
        } else if (errno == EAGAIN) {  // another program made the descriptor non-blocking
            pollfd waiting{.fd = descriptor, .events = POLLOUT, .revents = 0};
            ::poll(&waiting, 1, -1);
        } else if (errno != EINTR) {
            const int failure = errno;
            cut |= text.size() < whole;
            // The reader of a FIFO left: the next line waits for the next one.
            if (failure == EPIPE && !path.empty()) ::close(std::exchange(descriptor, -1));
            return failure;
        }
    }
    return 0;
}

// ------------------------------------------------------------------------------------- the writers

Result<std::unique_ptr<LineWriter>> LineWriter::start(std::shared_ptr<State> state) {
    Result<std::thread> thread =
        start_thread([state] { state->run(); }, "the thread that writes " + state->name);
    if (!thread) {
        if (!state->path.empty() && state->descriptor >= 0) ::close(state->descriptor);
        return Error{thread.error()};
    }
    thread->detach();
    return std::unique_ptr<LineWriter>(new LineWriter(std::move(state)));
}

Result<std::unique_ptr<LineWriter>> LineWriter::to(int descriptor, std::string name) {
    auto state = std::make_shared<State>();
    state->name = std::move(name);
    state->descriptor = descriptor;
    return start(std::move(state));
}

Result<std::unique_ptr<LineWriter>> LineWriter::append_to(const std::string& path) {
    auto state = std::make_shared<State>();
    state->name = state->path = path;
    // O_NONBLOCK is for FIFOs: one without a reader is ENXIO instead of a wait, and the thread
    // opens it. The thread waits for room by poll().
    state->descriptor = ::open(path.c_str(), kAppendFlags | O_NONBLOCK, kFileMode);
    if (state->descriptor < 0 && errno != ENXIO) return cannot_write(path, errno);
    if (state->descriptor >= 0) state->cut = ends_in_a_part(state->descriptor, path, false);
    return start(std::move(state));
}

LineWriter::~LineWriter() {
    const std::lock_guard lock(state_->mutex);
    state_->ended = true;
    state_->changed.notify_all();
}

void LineWriter::write(std::string line) {
    const std::lock_guard lock(state_->mutex);
    if (state_->queued_bytes + line.size() > kQueuedBytesMax && !state_->queue.empty()) {
        ++state_->dropped;
        return;
    }
    state_->queued_bytes += line.size();
    state_->queue.push_back(std::move(line));
    state_->changed.notify_all();
}

void LineWriter::reopen() {
    const std::lock_guard lock(state_->mutex);
    state_->reopen = true;
}

void LineWriter::finish(Nanos wait) {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait_for(lock, std::chrono::nanoseconds(wait),
                             [this] { return state_->queue.empty() && !state_->writing; });
}

std::optional<std::string> LineWriter::take_trouble() {
    const std::lock_guard lock(state_->mutex);
    State& state = *state_;
    if (!state.queue.empty() || state.writing || state.dropped + state.failed == 0)
        return std::nullopt;
    std::string text;
    if (state.dropped > 0)
        text = fmt::format("{}: dropped {} lines while it was not read", state.name, state.dropped);
    if (state.failed > 0) {
        text += fmt::format("{}{}: lost {} lines ({})", text.empty() ? "" : "; ", state.name,
                            state.failed, std::strerror(state.error));
    }
    state.dropped = state.failed = 0;
    return text;
}

Result<void> can_append_to(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0) {
        if (S_ISDIR(status.st_mode)) return cannot_write(path, EISDIR);
        if (::access(path.c_str(), W_OK) != 0) return cannot_write(path, errno);
        return {};
    }
    if (errno != ENOENT) return cannot_write(path, errno);
    const std::string parent = std::filesystem::path(path).parent_path().string();
    if (::access(parent.empty() ? "." : parent.c_str(), W_OK | X_OK) != 0)
        return cannot_write(path, errno);
    return {};
}

}  // namespace pulse::serve
