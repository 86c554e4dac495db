// Where the admin endpoint listens: --admin HOST:PORT or unix:PATH.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"
#include "net/io/address.h"

namespace pulse {

struct AdminAddress {
    SocketAddress address;  // family 0: a socket of the file system
    std::string path;
    std::string text;

    bool is_unix() const { return !path.empty(); }
    // Only this machine can reach it.
    bool is_local() const;
};

// The error is "'TEXT': reason; remedy".
Result<AdminAddress> parse_admin_address(std::string_view text);

// A listener that holds its address: what is in its way is an error at the start. A socket of the
// file system is for the user of this process alone; one that a dead process left is replaced.
class AdminListener {
  public:
    AdminListener() = default;
    AdminListener(AdminListener&& other) noexcept;
    AdminListener& operator=(AdminListener&&) = delete;
    // Closes it, if it was not taken, and removes the file.
    ~AdminListener();

    // The error names the address, the reason and the remedy.
    static Result<AdminListener> open(const AdminAddress& address);
    // The descriptor is the caller's from now on; the file is still removed here.
    int take();
    // With the port that the kernel chose.
    const std::string& text() const { return text_; }

  private:
    int descriptor_ = -1;
    std::string path_;
    std::string text_;
};

}  // namespace pulse
