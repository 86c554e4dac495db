// One open, one write, one close.
#include "tools/pulseload/text_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace pulse::load {

Error unwritable(const std::string& path, int error) {
    const std::string why = error == 0 ? "the disk did not take it" : std::strerror(error);
    return {"'" + path + "' cannot be written: " + why +
            "; name a file in a folder that exists, may be written to and has room"};
}

Result<void> write_file(const std::string& path, std::string_view text) {
    std::FILE* file = std::fopen(path.c_str(), "we");
    if (file == nullptr) return unwritable(path, errno);
    errno = 0;
    const bool wrote = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    int error = wrote ? 0 : errno;
    const bool closed = std::fclose(file) == 0;
    if (wrote && !closed) error = errno;
    if (!wrote || !closed) return unwritable(path, error);
    return {};
}

}  // namespace pulse::load
