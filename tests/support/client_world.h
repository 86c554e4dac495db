// A world for the client engine: its clock, its network, and servers that speak the protocol, all
// from a seed. Nothing here waits or looks at a real clock; events happen one at a time, in the
// order of their instants.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "net/client/engine.h"

namespace pulse::client::test {

class World;
class FakeServer;

// One connection, as both of its ends have it.
struct Wire {
    LinkId link = 0;
    FakeServer* server = nullptr;
    Framing framing = Framing::lines;
    bool client_open = true;  // the client has not closed it
    bool up = false;          // the path carries bytes; what is on its way when it ends is lost
    bool deaf = false;        // it carries none any more, and neither end knows
    bool read = true;         // the server reads what comes
    bool upgraded = false;
    Nanos to_server_at = 0, to_client_at = 0;  // of the last bytes: their order is kept
    std::string inbox;                         // of the server
    std::string waiting;                       // in the client's socket
    std::string token;                         // of its session
    std::vector<uint16_t> closes;              // codes that the client closed it with
};

// A model of a server, with sessions that can be resumed (proto/PROTOCOL.md, "Resuming").
class FakeServer {
  public:
    enum class Accepts : uint8_t { all, refuses, hangs };

    explicit FakeServer(World& world) : world_(world) {}

    Accepts accepts = Accepts::all;
    uint16_t status = 101;  // of an upgrade; another refuses it
    std::string retry_after;
    Nanos interval = 10 * kSecond;
    bool has_sessions = true;
    bool has_welcomes = true;
    bool takes_bytes = true;  // else what is sent waits in the client's socket
    size_t kept_max = SIZE_MAX;
    Nanos stalled_until = 0;  // it reads nothing until then, and loses nothing
    std::function<bool(Wire&, std::string_view)> on_message;  // whether it is dealt with

    std::vector<std::string> hellos;
    std::vector<int> data;           // numbers of the messages that it read, in order
    std::vector<std::string> texts;  // other texts of the application
    size_t pings = 0;

    void push(std::string_view session);  // {"type":"data","n":...} to a session, there or not
    int pushed(std::string_view session) const { return sessions_.at(std::string(session)).sent; }
    std::string last_session() const { return "token" + std::to_string(sessions_made_); }
    size_t sessions() const { return sessions_.size(); }
    void forget() { sessions_.clear(); }

    void send(Wire& wire, std::string_view text);
    void goodbye(Wire& wire, std::string_view members);  // `"code":1001,"reason":"going_away"`
    void close_frame(Wire& wire, uint16_t code, std::string_view words);

    // Of the world.
    void receive(Wire& wire, std::string_view bytes);
    void read_all();

  private:
    struct Session {
        int sent = 0, received = 0;
        std::deque<std::pair<int, std::string>> kept;
        Wire* wire = nullptr;
    };
    void take(Wire& wire);
    void upgrade(Wire& wire);
    bool take_frame(Wire& wire);
    void read(Wire& wire, std::string_view text);
    void greet(Wire& wire, std::string_view hello);
    std::string resume(Wire& wire, std::string_view hello);
    void end_session(Wire& wire, uint16_t code);

    World& world_;
    std::map<std::string, Session> sessions_;
    int sessions_made_ = 0;
    std::deque<Wire*> unread_;
};

class World : public Transport {
  public:
    World(uint64_t seed, Options options);

    // ---------------------------------------------------------------------- what happens, and when
    void at(Nanos instant, std::function<void()> action);
    void in(Nanos wait, std::function<void()> action) { at(now + wait, std::move(action)); }
    void run(Nanos duration);
    void open();  // connects, and runs until the client is open
    FakeServer& server(const std::string& authority);
    std::vector<Wire*> wires_up();
    Wire& wire();  // the one that is up
    void cut(Wire& wire);
    Nanos latency() { return static_cast<Nanos>(random.between(kMillisecond, 50 * kMillisecond)); }
    Nanos between(Nanos least, Nanos most) {
        return static_cast<Nanos>(
            random.between(static_cast<uint64_t>(least), static_cast<uint64_t>(most)));
    }
    void deliver(Wire& wire, std::string bytes);  // to the client

    // ----------------------------------------------------------------------- what the client does
    int say(bool confirm = false, size_t bytes = 0);  // {"type":"data","n":...}; returns n
    template <class Kind>
    std::vector<Kind> of() const {
        std::vector<Kind> found;
        for (const Event& event : events)
            if (const Kind* one = std::get_if<Kind>(&event)) found.push_back(*one);
        return found;
    }
    Answered answer_of(int number) const;
    std::vector<int> received() const;  // numbers of the data that came

    Nanos now = kSecond;
    Random random;
    std::map<std::string, std::unique_ptr<FakeServer>> servers;
    std::vector<std::unique_ptr<Wire>> wires;
    std::vector<Event> events;
    std::vector<uint64_t> ids;       // by number, from 1
    std::function<void()> boundary;  // called when a message was delivered, in either direction
    Engine engine;

    // ------------------------------------------------------------------------------ of a transport
    void connect(LinkId link, const Endpoint& endpoint) override;
    void send(LinkId link, std::string bytes) override;
    size_t buffered(LinkId link) const override;
    void close(LinkId link, Ending ending) override;
    Nanos wall_clock() const override { return 1'445'412'480 * kSecond + now; }

  private:
    Wire* find(LinkId link) const;
    void carry(Wire& wire, std::string bytes);
    void drain();

    std::multimap<Nanos, std::function<void()>> due_;
};

}  // namespace pulse::client::test
