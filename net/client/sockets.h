// The transport of a client over the kernel: non-blocking TCP sockets in an epoll set, whose
// descriptor any other loop may wait for.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "net/client/engine.h"
#include "net/client/tls_stream.h"
#include "net/io/address.h"
#include "net/io/system_calls.h"

namespace pulse::client {

// Where a host is. Waits for the answer.
using Addresses = std::vector<SocketAddress>;
using LookUp = std::function<Result<Addresses>(const Endpoint&)>;
Result<Addresses> look_up(const Endpoint& endpoint);  // by getaddrinfo()

class Sockets final : public Transport {
  public:
    // Requires: open() before any other call.
    explicit Sockets(LookUp look_up_host = look_up, TlsClientFiles tls_files = {.verify = true})
        : look_up_(std::move(look_up_host)), tls_files_(std::move(tls_files)) {}
    ~Sockets() override;
    Sockets(const Sockets&) = delete;
    Sockets& operator=(const Sockets&) = delete;

    Result<void> open();
    // What TLS needs is read, once: with the first connection that has it, or before. The error
    // names the file, the reason and the remedy.
    Result<void> read_tls_files();

    // Readable when step() has something to do.
    int descriptor() const { return set_; }
    // When it has something to do besides.
    Nanos due_at() const;
    // Delivers what has come: of each connection that has something all of it, or a mebibyte.
    // Requires: `now` was read from monotonic_clock() before.
    void step(Engine& engine, Nanos now);
    // Whether anything is open, or still on its way out.
    bool busy() const { return !sockets_.empty() || !failed_.empty(); }

    // Of several addresses the next is tried at once where one refuses, and each connect() begins
    // with another, so that one that does not answer is not the first again.
    void connect(LinkId link, const Endpoint& endpoint) override;
    void send(LinkId link, std::string bytes) override;
    size_t buffered(LinkId link) const override;
    void close(LinkId link, Ending ending) override;
    Nanos wall_clock() const override;

  private:
    struct Socket {
        enum class Stage : uint8_t { connecting, handshaking, open, lingering };
        int descriptor = -1;
        Stage stage = Stage::connecting;
        bool waits_to_write = true;
        bool broken = false;  // it takes nothing any more; its end is read
        std::string out;
        size_t out_begin = 0;
        Nanos lingers_until = kNever;
        Addresses others;        // while it connects: those to try yet, the last one first
        std::string tls_server;  // whose certificate is wanted; empty: it has no TLS
        std::unique_ptr<TlsStream> tls;
    };

    std::string start_next(LinkId link, Socket& socket);
    int start(const SocketAddress& to);
    void serve(LinkId link, uint32_t events, Engine& engine, Nanos now);
    bool finish_connect(LinkId link, Engine& engine, Nanos now);
    bool begin_tls(LinkId link, Engine& engine, Nanos now);
    void read(LinkId link, Engine& engine, Nanos now);
    bool take_records(LinkId link, std::span<const uint8_t> records, Engine& engine, Nanos now);
    bool continue_handshake(LinkId link, Socket& socket, Engine& engine, Nanos now);
    void queue(LinkId link, Socket& socket, std::string_view bytes);
    void end(LinkId link, std::string why, Engine& engine, Nanos now);
    void flush(Socket& socket);
    void wait_to_write(LinkId link, Socket& socket, bool wanted);
    void drop(LinkId link);

    LookUp look_up_;
    TlsClientFiles tls_files_;
    std::shared_ptr<const TlsClientContext> tls_;
    int set_ = -1;
    uint64_t calls_made_ = 0;
    SystemCalls calls_{calls_made_};
    std::map<LinkId, Socket> sockets_;
    std::vector<std::pair<LinkId, std::string>> failed_;  // to connect, and why
    size_t connects_ = 0;
    std::vector<uint8_t> buffer_;
};

}  // namespace pulse::client
