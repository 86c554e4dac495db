// The variables, what the descriptors are, and which listener takes which.
#include "tools/pulsewheel/passed_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <optional>

#include "net/io/limits.h"
#include "net/protocols/listen_uri.h"
#include "tools/pulsewheel/take_variable.h"

namespace pulse::serve {
namespace {

constexpr int kFirstPassed = 3;  // SD_LISTEN_FDS_START

std::optional<int64_t> number(const std::string& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

bool is_set(int descriptor, int option, int wanted) {
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(descriptor, SOL_SOCKET, option, &value, &size) == 0 && value == wanted;
}

// What it listens on. An abstract name begins with '@', as ss(8) writes it.
void read_address(PassedSocket& socket) {
    union {
        sockaddr_un local;
        SocketAddress address;
    } any{};
    socklen_t size = sizeof any.local;
    if (getsockname(socket.descriptor, reinterpret_cast<sockaddr*>(&any.local), &size) != 0) return;
    if (any.local.sun_family != AF_UNIX) {
        socket.address = any.address;
        socket.text = any.address.text();
        return;
    }
    const size_t begins = offsetof(sockaddr_un, sun_path);
    std::string path(any.local.sun_path, size > begins ? size - begins : 0);
    if (path.starts_with('\0'))
        path[0] = '@';
    else
        path = path.c_str();
    socket.text = "unix:" + path;
}

Result<PassedSocket> inspect(int descriptor, std::string name) {
    PassedSocket socket{descriptor, std::move(name), {}, {}};
    const std::string where =
        "LISTEN_FDS: descriptor " + std::to_string(descriptor) + " ('" + socket.name + "') ";
    const int flags = fcntl(descriptor, F_GETFD);
    if (flags < 0) {
        return Error{where +
                     "is not open; let the service manager start this process itself, "
                     "without a shell between them"};
    }
    fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC);
    if (!is_set(descriptor, SO_TYPE, SOCK_STREAM) || !is_set(descriptor, SO_ACCEPTCONN, 1)) {
        return Error{where +
                     "is not a stream socket that listens; write ListenStream= and "
                     "Accept=no in the socket unit"};
    }
    read_address(socket);
    return socket;
}

// One listener for each socket that it takes.
ListenAddress with_socket(ListenAddress listener, const PassedSocket& socket) {
    listener.descriptor = socket.descriptor;
    listener.address = socket.address;
    if (!listener.passed_name.empty()) listener.text += " at " + socket.text;
    return listener;
}

}  // namespace

Result<std::vector<PassedSocket>> take_passed_sockets() {
    const std::optional<std::string> count_text = take_variable("LISTEN_FDS");
    const std::optional<std::string> pid_text = take_variable("LISTEN_PID");
    std::string names = take_variable("LISTEN_FDNAMES").value_or("");
    std::vector<PassedSocket> sockets;
    // Those of another process, which this one has inherited the variables from.
    if (!count_text || !pid_text || number(*pid_text) != getpid()) return sockets;
    const std::optional<int64_t> count = number(*count_text);
    if (!count || *count < 0 || *count > int64_t{kListenersMax}) {
        return Error{"LISTEN_FDS: '" + *count_text + "' is not a number of sockets; pass at most " +
                     std::to_string(kListenersMax)};
    }
    for (int i = 0; i < *count; ++i) {
        const size_t end = std::min(names.find(':'), names.size());
        std::string name = names.substr(0, end);
        names.erase(0, end + 1);
        // What sd_listen_fds_with_names(3) calls those without one.
        if (name.empty()) name = "unknown";
        Result<PassedSocket> socket = inspect(kFirstPassed + i, std::move(name));
        if (!socket) return Error{socket.error()};
        sockets.push_back(std::move(*socket));
    }
    return sockets;
}

Result<std::vector<std::string>> match_passed_sockets(ServerOptions& options, bool listen_given,
                                                      const std::vector<PassedSocket>& sockets) {
    std::vector<ListenAddress> asked = std::move(options.listen);
    if (!listen_given && !sockets.empty()) {
        asked.clear();
        for (const PassedSocket& socket : sockets) {
            ListenAddress listener;
            listener.text = "auto://fd:" + socket.name;
            listener.passed_name = socket.name;
            if (std::ranges::find(asked, listener.text, &ListenAddress::text) == asked.end())
                asked.push_back(std::move(listener));
        }
    }
    options.listen.clear();
    std::vector<bool> taken(sockets.size());
    for (const ListenAddress& listener : asked) {
        bool found = false;
        for (size_t i = 0; i < sockets.size(); ++i) {
            const bool fits = listener.passed_name.empty()
                                  ? sockets[i].address.present() && listener.address.port() != 0 &&
                                        sockets[i].address.text() == listener.address.text()
                                  : sockets[i].name == listener.passed_name;
            if (!fits || taken[i]) continue;
            found = taken[i] = true;
            options.listen.push_back(with_socket(listener, sockets[i]));
        }
        if (found) continue;
        if (!listener.passed_name.empty()) {
            return Error{"--listen: '" + listener.text + "': no socket of this name was passed; " +
                         "write FileDescriptorName=" + listener.passed_name +
                         " in a socket unit, and start that"};
        }
        options.listen.push_back(listener);
    }
    if (options.listen.size() > kListenersMax)
        return Error{"--listen: more than " + std::to_string(kListenersMax) +
                     " sockets; pass fewer of one name"};
    std::vector<std::string> warnings;
    for (size_t i = 0; i < sockets.size(); ++i) {
        if (taken[i]) continue;
        warnings.push_back("the socket '" + sockets[i].name + "' at " + sockets[i].text +
                           " was passed, and no --listen takes it: peers wait there in vain; write "
                           "--listen auto://fd:" +
                           sockets[i].name + ", or stop its socket unit");
    }
    return warnings;
}

}  // namespace pulse::serve
