// The floor that all other servers stand on: epoll, one recv and one send a heartbeat, no library.
//
//   bare PORT
//
// Answers the upgrade, pings and messages. A frame must lie whole in one read and hold at most 125
// bytes; any other byte closes the connection. Keeps no time and evicts no peer.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "bench/floor_epoll.h"
#include "bench/floor_websocket.h"

namespace {

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

// What is sent back; without a pointer the connection ends.
std::string_view reply(uint8_t* bytes, size_t count) {
    static std::string out;
    out.clear();
    const bool is_head = bytes[0] == 'G';
    const std::string_view head(reinterpret_cast<const char*>(bytes), count);
    const bool stays = is_head ? pulse::bench::upgrade(head, out) : answer(bytes, count, out);
    return stays ? std::string_view(out) : std::string_view();
}

}  // namespace

int main(int count, char** arguments) {
    const int listener =
        count == 2 ? pulse::bench::floor_listener(static_cast<uint16_t>(atoi(arguments[1]))) : -1;
    if (listener < 0) {
        std::fprintf(stderr, "bare: cannot listen; give PORT, one that is free\n");
        return 1;
    }
    pulse::bench::EpollFloor floor(listener, reply);
    std::puts("listening");
    std::fflush(stdout);
    for (;;) floor.turn(-1);
}
