// WebSocket++ (Debian's libwebsocketpp-dev) as a heartbeat server: pongs by the library, echo here.
//
//   websocketpp PORT
//
// The library has a timeout for the answer to a ping that the application sends, and none for
// silence: no peer is evicted.
#include <cstdio>
#include <cstdlib>
#include <websocketpp/concurrency/none.hpp>
#include <websocketpp/config/asio_no_tls.hpp>
#include <websocketpp/logger/stub.hpp>
#include <websocketpp/server.hpp>

namespace {

// The library's own configuration of a server without TLS and without compression, but for:
struct Config : public websocketpp::config::asio {
    using type = Config;
    using base = websocketpp::config::asio;
    // One thread runs it, so that it needs no locks.
    using concurrency_type = websocketpp::concurrency::none;
    static const bool enable_multithreading = false;
    // Nothing is logged.
    using alog_type = websocketpp::log::stub;
    using elog_type = websocketpp::log::stub;
    // Part of each connection; 16 KiB by default. Its manual says to shrink it for small messages.
    static const size_t connection_read_buffer_size = 512;

    struct transport_config : public base::transport_config {
        using concurrency_type = Config::concurrency_type;
        using alog_type = Config::alog_type;
        using elog_type = Config::elog_type;
        static const bool enable_multithreading = false;
    };
    using transport_type = websocketpp::transport::asio::endpoint<transport_config>;
};
using Server = websocketpp::server<Config>;

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "websocketpp: give PORT\n");
        return 2;
    }
    Server server;
    server.init_asio();
    server.set_reuse_addr(true);
    server.set_listen_backlog(boost::asio::socket_base::max_listen_connections);
    server.set_message_handler([&](websocketpp::connection_hdl from, Server::message_ptr message) {
        websocketpp::lib::error_code ignored;
        server.send(from, message, ignored);
    });
    const auto port = static_cast<unsigned short>(atoi(arguments[1]));
    server.listen({boost::asio::ip::address_v4::loopback(), port});
    server.start_accept();
    std::puts("listening");
    std::fflush(stdout);
    server.run();
}
