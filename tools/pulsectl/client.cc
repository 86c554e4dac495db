// Sockets, and as much of HTTP as one answer needs.
#include "tools/pulsectl/client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

namespace pulse::ctl {
namespace {

Error gone(const std::string& address, std::string_view what) {
    return Error{address + ": " + std::string(what) +
                 "; is the server running, with --admin on this address?"};
}

// The value of a header, by its lower-case name.
std::optional<std::string_view> header(std::string_view head, std::string_view name) {
    while (!head.empty()) {
        const size_t end = std::min(head.find("\r\n"), head.size());
        const std::string_view line = head.substr(0, end);
        head.remove_prefix(std::min(end + 2, head.size()));
        const bool is_it = line.size() > name.size() && line[name.size()] == ':' &&
                           std::equal(name.begin(), name.end(), line.begin(), [](char a, char b) {
                               return a == std::tolower(static_cast<unsigned char>(b));
                           });
        if (!is_it) continue;
        const size_t from = line.find_first_not_of(" \t", name.size() + 1);
        return from == std::string_view::npos ? std::string_view{} : line.substr(from);
    }
    return std::nullopt;
}

}  // namespace

Result<Answer> parse_response(std::string_view text) {
    const Error cut{"the answer is cut short; the server may have ended"};
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string_view::npos) return cut;
    const std::string_view head = text.substr(0, end);
    constexpr std::string_view kVersion = "HTTP/1.1 ";
    Answer answer;
    if (!head.starts_with(kVersion) ||
        std::from_chars(head.data() + kVersion.size(), head.data() + head.size(), answer.status)
                .ec != std::errc{}) {
        return Error{"the answer is not HTTP; give the address of --admin, not of --listen"};
    }
    std::string_view body = text.substr(end + 4);
    // Interim responses come before the answer.
    if (answer.status == 100) return parse_response(body);
    const auto length = header(head, "content-length");
    size_t bytes = 0;
    if (!length ||
        std::from_chars(length->data(), length->data() + length->size(), bytes).ec != std::errc{} ||
        body.size() < bytes) {
        return cut;
    }
    answer.body = body.substr(0, bytes);
    return answer;
}

std::string percent_encoded(std::string_view text) {
    constexpr std::string_view kPlain =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    constexpr char kDigits[] = "0123456789ABCDEF";
    std::string encoded;
    for (const char c : text) {
        if (kPlain.find(c) != std::string_view::npos) {
            encoded += c;
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        encoded.append({'%', kDigits[byte >> 4], kDigits[byte & 15]});
    }
    return encoded;
}

Result<int> Client::connect() {
    sockaddr_un path{};
    const sockaddr* to = &address_.address.base;
    socklen_t size_bytes = address_.address.size_bytes();
    if (address_.is_unix()) {
        path.sun_family = AF_UNIX;
        std::memcpy(path.sun_path, address_.path.data(), address_.path.size());
        to = reinterpret_cast<const sockaddr*>(&path);
        size_bytes = sizeof path;
    }
    nothing_listens_ = false;
    const int descriptor = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0 && ::connect(descriptor, to, size_bytes) == 0) return descriptor;
    const int error = errno;
    if (descriptor >= 0) ::close(descriptor);
    nothing_listens_ = error == ECONNREFUSED || error == ENOENT;
    return gone(address_.text, std::strerror(error));
}

std::string Client::head(std::string_view method, const std::string& target) const {
    std::string head(method);
    head.append(" ").append(target).append(" HTTP/1.1\r\nHost: localhost\r\n");
    head.append("Connection: close\r\n");
    if (!token_.empty()) head.append("Authorization: Bearer ").append(token_).append("\r\n");
    return head;
}

Result<Answer> Client::ask(std::string_view method, const std::string& target,
                           const std::string& body) {
    const Result<int> descriptor = connect();
    if (!descriptor) return Error{descriptor.error()};
    std::string request = head(method, target);
    if (!body.empty()) {
        request.append("Content-Type: application/json\r\nContent-Length: ");
        request.append(std::to_string(body.size())).append("\r\n");
    }
    request.append("\r\n").append(body);
    std::string answer;
    bool failed = send(*descriptor, request.data(), request.size(), MSG_NOSIGNAL) !=
                  static_cast<ssize_t>(request.size());
    char bytes[16'384];
    while (!failed) {
        const ssize_t got = recv(*descriptor, bytes, sizeof bytes, 0);
        if (got == 0) break;
        failed = got < 0;
        if (!failed) answer.append(bytes, static_cast<size_t>(got));
    }
    const int error = errno;
    ::close(*descriptor);
    if (failed && answer.empty()) return gone(address_.text, std::strerror(error));
    Result<Answer> parsed = parse_response(answer);
    if (!parsed) return Error{address_.text + ": " + parsed.error()};
    return parsed;
}

bool EventReader::add(std::string_view piece, const std::function<bool(const Event&)>& on_event) {
    for (const char c : piece) {
        if (c != '\n') {
            line_ += c;
            continue;
        }
        const std::string line = std::exchange(line_, {});
        const size_t colon = std::min(line.find(':'), line.size());
        const std::string field = line.substr(0, colon);
        std::string value = line.substr(std::min(colon + 1, line.size()));
        if (value.starts_with(' ')) value.erase(0, 1);
        if (field == "event") event_.name = std::move(value);
        if (field == "id") event_.id = std::move(value);
        if (field == "data") event_.data += value;
        if (!line.empty()) continue;
        const Event event = std::exchange(event_, {});
        if (!event.name.empty() && !on_event(event)) return false;
    }
    return true;
}

Result<bool> Client::follow(const std::string& target, const std::string& last_id,
                            const std::function<bool(const Event&)>& on_event) {
    const Result<int> descriptor = connect();
    if (!descriptor) return Error{descriptor.error()};
    std::string request = head("GET", target);
    if (!last_id.empty()) request.append("Last-Event-ID: ").append(last_id).append("\r\n");
    request.append("\r\n");
    // The server says something four times a minute.
    const timeval silence{.tv_sec = 60, .tv_usec = 0};
    setsockopt(*descriptor, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    bool open = send(*descriptor, request.data(), request.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(request.size());
    std::string answer;  // until its head is whole, or all of one that is not a stream
    EventReader events;
    bool streams = false, wanted = true;
    char bytes[16'384];
    while (open && wanted) {
        const ssize_t got = recv(*descriptor, bytes, sizeof bytes, 0);
        open = got > 0;
        if (!open) break;
        std::string_view piece(bytes, static_cast<size_t>(got));
        if (!streams) {
            answer.append(piece);
            const size_t end = answer.find("\r\n\r\n");
            streams = end != std::string::npos && answer.starts_with("HTTP/1.1 200") &&
                      header(std::string_view(answer).substr(0, end), "content-type") ==
                          "text/event-stream";
            if (!streams) continue;
            piece = std::string_view(answer).substr(end + 4);
        }
        wanted = events.add(piece, on_event);
    }
    ::close(*descriptor);
    if (streams) return !wanted;
    const Result<Answer> refused = parse_response(answer);
    if (!refused) return Error{address_.text + ": " + refused.error()};
    const Result<Json> error = json(refused);
    return Error{error ? address_.text + ": the answer is not a stream of events" : error.error()};
}

Result<Json> Client::json(const Result<Answer>& answer) {
    if (!answer) return Error{answer.error()};
    Json object = Json::parse(answer->body, nullptr, false);
    if (object.is_discarded() || !object.is_object())
        return Error{"the answer is not a JSON object; is this address --admin of a pulsewheel?"};
    if (answer->ok() || !object.contains("error")) return object;
    const Json& error = object["error"];
    const auto part = [&](const char* name) { return error.value(name, std::string()); };
    std::string text = part("offender") + ": " + part("reason");
    if (!part("remedy").empty()) text += "; " + part("remedy");
    return Error{text};
}

}  // namespace pulse::ctl
