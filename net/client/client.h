// A client of Pulsewheel, to be driven by a program's own loop (tools/client/README.md): it beats,
// finds out that a server is gone, comes back by a policy for each cause, moves to another server
// without a gap where the server lets it, goes on with its session, and answers for every message.
//
//     Result<Client> client = Client::make({.urls = {"ws://127.0.0.1:9000"}});
//     client->connect();
//     while (client->state() != State::closed)
//         for (client->wait(kSecond); std::optional<Event> event = client->next();) ...
//
// Or in a loop of the program's: wait until descriptor() is readable or deadline() has come, call
// step(), take what next() has. Nothing else happens, or is waited for, in between.
//
// One thread at a time may use a client; it has none of its own, no signal, no global state, and
// throws nothing (but what std::bad_alloc is thrown for).
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "core/result.h"
#include "core/types.h"
#include "net/client/events.h"
#include "net/client/options.h"

namespace pulse::client {

class Client {
  public:
    // Fails for options that cannot be meant, and where there is no descriptor left; the error
    // names what is wrong and the remedy. Connects to nothing yet.
    static Result<Client> make(Options options);
    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    ~Client();  // ends connections at once; what was sent may be lost

    // Begins, or begins anew behind an end. A name in a URL is looked up by getaddrinfo(), here and
    // in step(), which then wait for its answer: give addresses where that matters. All that it
    // has are tried, one after the other.
    void connect();
    // A message, which waits where there is no connection. Returns its id, under which exactly one
    // Answered follows. `confirm`: the answer is that the server has read it.
    // text: UTF-8, of the application, or a {"type":"data"} object; over jsonl:// the latter, on
    // one line. Fails, and nothing is sent, for what is none of these, or the protocol's own.
    Result<uint64_t> send(std::string_view text, bool confirm = false);
    Result<uint64_t> send_bytes(std::string_view bytes, bool confirm = false);
    // Who this is from now on, and at once where there is a connection: Welcomed or Reported
    // follows. An empty token leaves it, or its source, as it was. Fails for an identity that a
    // server does not take, and names what is wrong with it.
    Result<void> login(Identity identity, std::string token = {});
    // The machine was asleep, or its network is another: a beat, or a try, now.
    void wake();
    // Ends it: what waits is dropped, and nothing is tried until connect(). What was sent leaves
    // while busy(), if step() is called.
    void close();

    // The oldest event that was not taken yet. Requires: taken until there is none, after each call
    // of step() or another of these; what has come waits in memory.
    std::optional<Event> next();

    State state() const;
    struct Queued {
        size_t messages = 0, bytes = 0;
    };
    Queued queued() const;                    // messages that wait
    std::optional<Nanos> round_trip() const;  // of a ping, smoothed; none before the first
    bool busy() const;                        // a socket is open

    int descriptor() const;    // the client's; for reading in poll(2) or epoll(7), and nothing else
    Nanos deadline() const;    // of CLOCK_MONOTONIC; kNever: there is nothing but the descriptor
    int wait_ms() const;       // until then, rounded up, as poll(2) wants it; -1: for ever
    void step();               // does what is due; never waits
    void wait(Nanos at_most);  // for the descriptor or the deadline, and a step()

  private:
    struct Parts;
    explicit Client(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace pulse::client
