// Boost.Beast (Debian's libboost-dev) as a heartbeat server: pongs by the library, echo here.
//
//   beast PORT TIMEOUT_S      0: no peer is evicted
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = beast::websocket;
using asio::ip::tcp;
using boost::system::error_code;
// The executor by its own type: the usual one is type-erased, at a cost for each handler.
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;

class Session : public std::enable_shared_from_this<Session> {
  public:
    Session(Socket socket, std::chrono::seconds timeout) : stream_(std::move(socket)) {
        auto times = websocket::stream_base::timeout::suggested(beast::role_type::server);
        // The stream looks every half of idle_timeout: after one look without a byte it pings, at
        // the next it closes. Doubled, a peer is never closed before TIMEOUT_S after its last byte.
        times.idle_timeout = timeout.count() > 0 ? std::chrono::seconds(2 * timeout)
                                                 : websocket::stream_base::none();
        times.keep_alive_pings = timeout.count() > 0;
        stream_.set_option(times);
    }
    void start() {
        stream_.async_accept([self = shared_from_this()](error_code error) {
            if (!error) self->read();
        });
    }

  private:
    void read() {
        stream_.async_read(buffer_, [self = shared_from_this()](error_code error, size_t) {
            if (!error) self->write();
        });
    }
    void write() {
        stream_.binary(stream_.got_binary());
        stream_.async_write(buffer_.data(),
                            [self = shared_from_this()](error_code error, size_t count) {
                                if (error) return;
                                self->buffer_.consume(count);
                                self->read();
                            });
    }

    websocket::stream<Socket, false> stream_;  // false: without the state of compression
    beast::flat_buffer buffer_;
};

void accept_next(Acceptor& acceptor, std::chrono::seconds timeout) {
    acceptor.async_accept([&acceptor, timeout](error_code error, Socket socket) {
        if (!error) std::make_shared<Session>(std::move(socket), timeout)->start();
        accept_next(acceptor, timeout);
    });
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::fprintf(stderr, "beast: give PORT and TIMEOUT_S\n");
        return 2;
    }
    // One thread runs it, so that it needs no locks.
    asio::io_context loop{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE};
    const auto port = static_cast<unsigned short>(atoi(arguments[1]));
    Acceptor acceptor(loop, tcp::endpoint{asio::ip::address_v4::loopback(), port});
    acceptor.listen(asio::socket_base::max_listen_connections);
    accept_next(acceptor, std::chrono::seconds(atoi(arguments[2])));
    std::puts("listening");
    std::fflush(stdout);
    loop.run();
}
