// The floor that all other servers stand on: epoll, one recv and one send a heartbeat, no library.
//
//   bare PORT
//
// Answers the upgrade, pings and messages. A frame must lie whole in one read and hold at most 125
// bytes; any other byte closes the connection. Keeps no time and evicts no peer.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

constexpr size_t kReadBytes = 4'096;

int listen_on(uint16_t port) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const int yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool is_bound =
        bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    return is_bound && listen(listener, SOMAXCONN) == 0 ? listener : -1;
}

// Appends the answer to an upgrade. Returns whether it was one.
bool upgrade(std::string_view head, std::string& out) {
    static constexpr std::string_view kName = "Sec-WebSocket-Key: ";
    const size_t at = head.find(kName);
    if (at == head.npos || head.substr(head.size() - 4) != "\r\n\r\n") return false;
    std::string key(head.substr(at + kName.size(), 24));
    key += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[SHA_DIGEST_LENGTH];
    unsigned char text[32];
    SHA1(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest);
    EVP_EncodeBlock(text, digest, sizeof digest);
    out += "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    out += "Sec-WebSocket-Accept: ";
    out += reinterpret_cast<const char*>(text);
    out += "\r\n\r\n";
    return true;
}

// Appends a pong for each ping and an echo of each message. Returns whether the peer may stay.
bool answer(uint8_t* bytes, size_t count, std::string& out) {
    for (size_t at = 0; at < count;) {
        const size_t length = at + 1 < count ? bytes[at + 1] & 0x7f : 126;
        if (length > 125 || at + 6 + length > count) return false;
        const uint8_t opcode = bytes[at] & 0x0f;
        if (opcode == 8) return false;
        uint8_t* payload = bytes + at + 6;
        for (size_t i = 0; i < length; ++i) payload[i] ^= bytes[at + 2 + (i & 3)];
        if (opcode != 10) {
            out += static_cast<char>(opcode == 9 ? 0x8a : bytes[at]);
            out += static_cast<char>(length);
            out.append(reinterpret_cast<const char*>(payload), length);
        }
        at += 6 + length;
    }
    return true;
}

// Returns whether the connection stays open.
bool serve(int peer) {
    static uint8_t bytes[kReadBytes];
    static std::string out;
    ssize_t got = 0;
    do {  // a read that fills the buffer may have left some behind
        got = recv(peer, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got <= 0) break;
        const size_t count = static_cast<size_t>(got);
        out.clear();
        const bool is_head = bytes[0] == 'G';
        const std::string_view head(reinterpret_cast<const char*>(bytes), count);
        if (!(is_head ? upgrade(head, out) : answer(bytes, count, out))) return false;
        if (!out.empty()) send(peer, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (got == static_cast<ssize_t>(sizeof bytes));
    return got != 0;
}

}  // namespace

int main(int count, char** arguments) {
    const int listener = count == 2 ? listen_on(static_cast<uint16_t>(atoi(arguments[1]))) : -1;
    if (listener < 0) {
        std::fprintf(stderr, "bare: cannot listen; give PORT, one that is free\n");
        return 1;
    }
    const int watched = epoll_create1(0);
    epoll_event event{EPOLLIN, {.fd = listener}};
    epoll_ctl(watched, EPOLL_CTL_ADD, listener, &event);
    std::puts("listening");
    std::fflush(stdout);
    for (;;) {
        epoll_event events[512];
        const int ready = epoll_wait(watched, events, 512, -1);
        for (int i = 0; i < ready; ++i) {
            const int peer = events[i].data.fd;
            if (peer == listener) {
                for (int next; (next = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
                    event = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.fd = next}};
                    epoll_ctl(watched, EPOLL_CTL_ADD, next, &event);
                }
            } else if (!serve(peer)) {
                close(peer);
            }
        }
    }
}
