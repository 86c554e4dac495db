// Files and streams of results: opened before a run, so that a path that cannot be written is known
// then, and written when it has ended.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "core/result.h"

namespace pulse::load {

// What to report of a file that took no bytes; `error` is an errno, 0 where it was not kept.
Error unwritable(const std::string& path, int error);

class OutputFile {
  public:
    // Keeps what is in the file until write(); makes the file where there is none.
    static Result<OutputFile> open(std::string path);

    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&& other) noexcept;
    // Removes a file that it made and did not write.
    ~OutputFile();

    // Replaces the whole content and closes. A failure may leave a part of it. Requires: once.
    Result<void> write(std::string_view text);
    const std::string& path() const { return path_; }

  private:
    OutputFile(std::string path, int descriptor, bool made)
        : path_(std::move(path)), descriptor_(descriptor), made_(made) {}
    void discard();

    std::string path_;
    int descriptor_ = -1;
    bool made_ = false;  // by open()
};

// open() and write() in one.
Result<void> write_file(const std::string& path, std::string_view text);

// To stdout or stderr, flushed.
Result<void> print(std::FILE* stream, std::string_view text);

// To stderr, with the program's name; where it is full or closed, nothing can be done about it.
void print_error(std::string_view text);

}  // namespace pulse::load
