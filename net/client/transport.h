// What an engine asks of the network, and what it shares with its links: net/client/sockets.h is
// the kernel's, a test has its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/random.h"
#include "net/client/endpoint.h"
#include "net/client/events.h"
#include "proto/deflate.h"
#include "proto/json.h"
#include "proto/json_welcome.h"

namespace pulse::client {

using LinkId = uint32_t;  // of one connection, and of no other of the same client

// orderly: what was sent still goes out, then FIN. reset: the other end does not answer.
enum class Ending : uint8_t { orderly, reset };

// Tells the engine of a connection by Engine::on_connected, on_bytes, on_sent, on_end; never from
// inside one of these calls, and nothing any more behind on_end() or close().
class Transport {
  public:
    virtual ~Transport() = default;
    virtual void connect(LinkId link, const Endpoint& endpoint) = 0;
    // Takes all of it; what the kernel does not take yet waits here.
    virtual void send(LinkId link, std::string bytes) = 0;
    virtual size_t buffered(LinkId link) const = 0;  // bytes that wait
    virtual void close(LinkId link, Ending ending) = 0;
    virtual Nanos wall_clock() const = 0;  // since 1970: servers name dates by it
};

// Of one engine and its links.
struct Context {
    Transport& transport;
    Random random;
    Events events;
    Nanos now = 0;  // of the call that is being served
    JsonParser json{};
    WelcomeParser welcomes{};
    Inflater inflater{};
};

}  // namespace pulse::client
