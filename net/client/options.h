// What a program asks of a client. Every member has a default but `urls`.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "net/client/outbox.h"
#include "net/client/policy.h"
#include "net/client/wire.h"

namespace pulse::client {

struct TokenRequest {
    std::string_view cause;  // connect, login, expiring, or the name of the last end's cause
    bool renew = false;      // the server did not take the last one, or it ends soon
};

// None: there is none to be had now, which is tried again by the row `token_failed`. Called from
// connect(), login() and step(), on their thread; what it waits for, the client waits for. An
// exception is as if there were none.
// Requires: it calls nothing of its client, and neither does allow_move.
using TokenSource = std::function<std::optional<std::string>(const TokenRequest&)>;

struct Options {
    // wss://HOST:PORT/PATH, tls+auto://HOST:PORT or tls+jsonl://HOST:PORT, without TLS ws://,
    // auto:// or jsonl://, all of one protocol. Of several the next is tried after one that did not
    // welcome the client; it ends once the policies try none of them again.
    std::vector<std::string> urls;
    Identity identity{};
    std::string token{};         // empty: none
    TokenSource token_source{};  // before `token`
    bool resume = true;  // go on with the session after a connection was lost, where the server can
    std::vector<std::pair<std::string, Policy>> policies{};  // rows in the place of default ones
    QueueBounds queue{};
    // With TLS: whether a certificate must be trusted and be of the host. A file of authorities to
    // be trusted, in PEM; empty: the system's.
    bool tls_verify = true;
    std::string tls_authorities{};
    // Whether a goodbye may send the client to that URL; none: anywhere, but never from TLS to a
    // server without. An exception is a no.
    std::function<bool(std::string_view url)> allow_move{};
    Nanos connect_timeout = 10 * kSecond;  // until WebSocket or the line is open
    Nanos welcome_timeout = 10 * kSecond;  // from there until the welcome, and of a later hello
    Nanos answer_timeout = 5 * kSecond;    // of a ping; longer where round trips are
    uint32_t misses = 3;                   // pings in a row without an answer: the server is gone
    Nanos stable = 10 * kSecond;    // that a connection must last for earlier ends to be forgotten
    size_t buffered_max = 1 << 20;  // bytes in the socket beyond which messages wait in the queue
    size_t message_bytes_max = size_t{16} << 20;  // of a message of the server's
    uint64_t seed = 0;  // of jitter and masks; 0: another for each client, from the system
};

// Fails for what cannot be meant, and names it.
Result<void> check_options(const Options& options);

}  // namespace pulse::client
