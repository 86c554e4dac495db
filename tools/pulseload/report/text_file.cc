// Plain descriptors for files: a path may be a pipe or a device, too.
#include "tools/pulseload/report/text_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace pulse::load {
namespace {

constexpr mode_t kMode = 0666;  // less the umask

// 0, or an errno.
int write_all(int descriptor, std::string_view text) {
    while (!text.empty()) {
        const ssize_t wrote = ::write(descriptor, text.data(), text.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return errno;
        text.remove_prefix(static_cast<size_t>(wrote));
    }
    return 0;
}

}  // namespace

Error unwritable(const std::string& path, int error) {
    const std::string why = error == 0 ? "the disk did not take it" : std::strerror(error);
    return {"'" + path + "' cannot be written: " + why +
            "; name a file in a folder that exists, may be written to and has room"};
}

Result<OutputFile> OutputFile::open(std::string path) {
    int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode);
    const bool made = descriptor >= 0;
    if (!made) descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, kMode);
    if (descriptor < 0) return unwritable(path, errno);
    return OutputFile(std::move(path), descriptor, made);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      made_(other.made_) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
    discard();
    path_ = std::move(other.path_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    made_ = other.made_;
    return *this;
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    descriptor_ = -1;
    if (made_) ::unlink(path_.c_str());
}

Result<void> OutputFile::write(std::string_view text) {
    const int descriptor = std::exchange(descriptor_, -1);
    // A pipe or a device has no length to cut.
    int error = ftruncate(descriptor, 0) == 0 || errno == EINVAL ? 0 : errno;
    if (error == 0) error = write_all(descriptor, text);
    if (::close(descriptor) != 0 && error == 0) error = errno;
    if (error != 0) return unwritable(path_, error);
    return {};
}

Result<void> write_file(const std::string& path, std::string_view text) {
    Result<OutputFile> file = OutputFile::open(path);
    if (!file) return Error{file.error()};
    return file->write(text);
}

Result<void> print(std::FILE* stream, std::string_view text) {
    errno = 0;
    const bool wrote = std::fwrite(text.data(), 1, text.size(), stream) == text.size();
    if (wrote && std::fflush(stream) == 0) return {};
    return Error{std::string(stream == stdout ? "stdout" : "stderr") + " cannot be written: " +
                 std::strerror(errno) + "; give it a file or a pipe that takes the output"};
}

void print_error(std::string_view text) {
    static_cast<void>(print(stderr, "pulseload: " + std::string(text) + "\n"));
}

}  // namespace pulse::load
