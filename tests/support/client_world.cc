// The network and the servers of client_world.h.
#include "tests/support/client_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "proto/endian.h"
#include "proto/handshake.h"
#include "proto/websocket.h"

namespace pulse::client::test {
namespace {

constexpr uint16_t kComesBack = 4000;

// What follows `"key":` in an object that a client wrote: a number, or a string without escapes.
std::string_view raw_of(std::string_view object, std::string_view key) {
    const std::string quoted_key = "\"" + std::string(key) + "\":";
    const size_t at = object.find(quoted_key);
    if (at == object.npos) return {};
    std::string_view rest = object.substr(at + quoted_key.size());
    if (rest.starts_with('"')) return rest.substr(1, rest.find('"', 1) - 1);
    return rest.substr(0, rest.find_first_not_of("0123456789"));
}

int number_of(std::string_view object, std::string_view key) {
    const std::string_view raw = raw_of(object, key);
    int number = 0;
    std::from_chars(raw.data(), raw.data() + raw.size(), number);
    return number;
}

struct StringSink {
    std::string& to;
    uint8_t* claim(size_t bytes) {
        const size_t before = to.size();
        to.resize(before + bytes);
        return reinterpret_cast<uint8_t*>(to.data()) + before;
    }
};

std::span<const uint8_t> bytes_of(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

// -------------------------------------------------------------------------------------- a server

void FakeServer::send(Wire& wire, std::string_view text) {
    std::string bytes;
    StringSink sink{bytes};
    if (wire.framing == Framing::lines) {
        bytes = std::string(text) + "\n";
    } else {
        websocket::write_frame(sink, websocket::Opcode::text, bytes_of(text));
    }
    world_.deliver(wire, std::move(bytes));
}

void FakeServer::goodbye(Wire& wire, std::string_view members) {
    if (wire.framing == Framing::websocket && !wire.upgraded) return world_.cut(wire);
    send(wire, R"({"type":"goodbye",)" + std::string(members) + "}");
    wire.read = false;
}

void FakeServer::close_frame(Wire& wire, uint16_t code, std::string_view words) {
    if (!wire.upgraded) return world_.cut(wire);
    std::string bytes;
    StringSink sink{bytes};
    websocket::write_close(sink, code, words);
    world_.deliver(wire, std::move(bytes));
    wire.read = false;
}

void FakeServer::push(std::string_view name) {
    Session& session = sessions_.at(std::string(name));
    const int number = ++session.sent;
    const std::string text = R"({"type":"data","n":)" + std::to_string(number) + "}";
    session.kept.emplace_back(number, text);
    while (session.kept.size() > kept_max) session.kept.pop_front();
    if (session.wire != nullptr && session.wire->up) send(*session.wire, text);
}

void FakeServer::receive(Wire& wire, std::string_view bytes) {
    wire.inbox += bytes;
    unread_.push_back(&wire);
    read_all();
}

void FakeServer::read_all() {
    if (world_.now < stalled_until) return world_.at(stalled_until, [this] { read_all(); });
    for (Wire* const wire : std::exchange(unread_, {})) take(*wire);
}

void FakeServer::take(Wire& wire) {
    if (wire.framing == Framing::websocket && !wire.upgraded) upgrade(wire);
    while (wire.read) {
        if (wire.framing == Framing::websocket) {
            if (!wire.upgraded || !take_frame(wire)) return;
            continue;
        }
        const size_t end = wire.inbox.find('\n');
        if (end == std::string::npos) return;
        const std::string line = wire.inbox.substr(0, end);
        wire.inbox.erase(0, end + 1);
        read(wire, line);
    }
}

void FakeServer::upgrade(Wire& wire) {
    const size_t end = wire.inbox.find("\r\n\r\n");
    if (end == std::string::npos) return;
    constexpr std::string_view kKey = "Sec-WebSocket-Key: ";
    const size_t key = wire.inbox.find(kKey) + kKey.size();
    const std::string accept(accept_value(std::string_view(wire.inbox).substr(key, 24)).text());
    wire.inbox.erase(0, end + 4);
    if (status != 101) {
        std::string answer = "HTTP/1.1 " + std::to_string(status) + " No\r\nContent-Length: 0\r\n";
        if (!retry_after.empty()) answer += "Retry-After: " + retry_after + "\r\n";
        wire.read = false;
        return world_.deliver(wire, answer + "\r\n");
    }
    wire.upgraded = true;
    world_.deliver(wire,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Protocol: pulse.v1.json\r\n"
                   "Sec-WebSocket-Accept: " +
                       accept + "\r\n\r\n");
}

// One masked frame, if it is there whole. Returns whether it was.
bool FakeServer::take_frame(Wire& wire) {
    std::string& in = wire.inbox;
    if (in.size() < 6) return false;
    const auto* const bytes = reinterpret_cast<const uint8_t*>(in.data());
    EXPECT_EQ(bytes[1] & 0x80, 0x80) << "a client masks";
    const size_t shortest = bytes[1] & 0x7f;
    const size_t header = shortest < 126 ? 2 : shortest == 126 ? 4 : 10;
    if (in.size() < header + 4) return false;
    const size_t length = shortest < 126    ? shortest
                          : shortest == 126 ? load_be16(bytes + 2)
                                            : load_be32(bytes + 6);
    if (in.size() < header + 4 + length) return false;
    std::string payload = in.substr(header + 4, length);
    for (size_t i = 0; i < length; ++i)
        payload[i] = static_cast<char>(payload[i] ^ in[header + i % 4]);
    const int opcode = bytes[0] & 0x0f;
    in.erase(0, header + 4 + length);
    if (opcode == 8) {
        const uint16_t code =
            length < 2 ? 0 : load_be16(reinterpret_cast<const uint8_t*>(payload.data()));
        end_session(wire, code);
    } else if (opcode == 1) {
        read(wire, payload);
    }
    return true;
}

void FakeServer::read(Wire& wire, std::string_view text) {
    if (world_.boundary) world_.boundary();
    if (!wire.up) return;
    if (on_message && on_message(wire, text)) return;
    const std::string_view type = raw_of(text, "type");
    const auto found = sessions_.find(wire.token);
    Session* const session = found == sessions_.end() ? nullptr : &found->second;
    if (type == "hello") {
        hellos.emplace_back(text);
        if (has_welcomes) greet(wire, text);
    } else if (type == "ping") {
        ++pings;
        send(wire, R"({"type":"pong","seq":)" + std::string(raw_of(text, "seq")) + "}");
    } else if (type == "ack" && session != nullptr) {
        const int received = number_of(text, "received");
        EXPECT_LE(received, session->sent) << "acknowledged what was not sent";
        while (!session->kept.empty() && session->kept.front().first <= received)
            session->kept.pop_front();
    } else if (type == "data") {
        data.push_back(number_of(text, "n"));
        if (session != nullptr) ++session->received;
    } else if (type == "goodbye") {
        end_session(wire, static_cast<uint16_t>(number_of(text, "code")));
    } else if (type.empty()) {
        texts.emplace_back(text);
        if (session != nullptr) ++session->received;
    }
}

void FakeServer::greet(Wire& wire, std::string_view hello) {
    const bool asks = hello.find("\"resume\":") != hello.npos && wire.token.empty();
    std::string welcome = R"({"type":"welcome","conn":"c)" + std::to_string(wire.link) +
                          R"(","interval_ms":)" + std::to_string(interval / kMillisecond) +
                          R"(,"timeout_ms":90000,"user":"u","session":"new")";
    if (asks && has_sessions) welcome += R"(,"resume":)" + resume(wire, hello);
    send(wire, welcome + "}");
    const auto found = sessions_.find(wire.token);
    if (!asks || found == sessions_.end()) return;
    for (const auto& [number, text] : found->second.kept) send(wire, text);
}

// An old connection of the session is read no more. What it has not acknowledged comes again.
std::string FakeServer::resume(Wire& wire, std::string_view hello) {
    const std::string token(raw_of(hello.substr(hello.find("\"resume\":")), "token"));
    const int last_seq = number_of(hello, "last_seq");
    const auto found = sessions_.find(token);
    const bool resumed = found != sessions_.end();
    wire.token = resumed ? token : "token" + std::to_string(++sessions_made_);
    Session& session = sessions_[wire.token];
    if (session.wire != nullptr && session.wire != &wire) {
        session.wire->token.clear();
        if (session.wire->up) goodbye(*session.wire, R"("code":4008,"reason":"taken_over")");
    }
    session.wire = &wire;
    std::string answer = R"({"token":")" + wire.token + R"(","hold_ms":30000,"resumed":)";
    if (!resumed) return answer + (token.empty() ? "false}" : R"(false,"why":"unknown"})");
    EXPECT_LE(last_seq, session.sent);
    while (!session.kept.empty() && session.kept.front().first <= last_seq)
        session.kept.pop_front();
    const int from = session.kept.empty() ? session.sent + 1 : session.kept.front().first;
    return answer + R"(true,"received":)" + std::to_string(session.received) + R"(,"from":)" +
           std::to_string(from) + R"(,"lost":)" + std::to_string(from - 1 - last_seq) + "}";
}

// The client has said that it goes: but for one that comes back its session is over.
void FakeServer::end_session(Wire& wire, uint16_t code) {
    wire.read = false;
    wire.closes.push_back(code);
    if (code != kComesBack) sessions_.erase(wire.token);
}

// --------------------------------------------------------------------------------------- the world

World::World(uint64_t seed, Options options)
    : random(seed), engine((options.seed = seed ^ 0x5eed, std::move(options)), *this) {}

FakeServer& World::server(const std::string& authority) {
    auto& server = servers[authority];
    if (server == nullptr) server = std::make_unique<FakeServer>(*this);
    return *server;
}

void World::at(Nanos instant, std::function<void()> action) {
    due_.emplace(std::max(instant, now), std::move(action));
}

// What has come is delivered before a deadline of the same instant is judged.
void World::run(Nanos duration) {
    const Nanos until = now + duration;
    drain();
    for (uint64_t turns = 0;; ++turns) {
        ASSERT_LT(turns, 10'000'000u) << "time stands still";
        const Nanos next = due_.empty() ? kNever : due_.begin()->first;
        const Nanos deadline = std::max(engine.due_at(), now);
        if (std::min(next, deadline) > until) break;
        if (next <= deadline) {
            now = std::max(now, next);
            const std::function<void()> action = std::move(due_.begin()->second);
            due_.erase(due_.begin());
            action();
        } else {
            now = deadline;
            engine.poll(now);
        }
        drain();
    }
    now = until;
}

void World::drain() {
    while (std::optional<Event> event = engine.next()) events.push_back(std::move(*event));
}

void World::open() {
    engine.connect(now);
    for (int i = 0; i < 200 && engine.state() != State::open; ++i) run(100 * kMillisecond);
    ASSERT_EQ(engine.state(), State::open);
}

std::vector<Wire*> World::wires_up() {
    std::vector<Wire*> up;
    for (const auto& wire : wires)
        if (wire->up && wire->client_open) up.push_back(wire.get());
    return up;
}

Wire& World::wire() {
    const std::vector<Wire*> up = wires_up();
    EXPECT_EQ(up.size(), 1u);
    return *up.at(0);
}

// The path breaks: what is on its way is lost, and the client is told.
void World::cut(Wire& wire) {
    wire.up = false;
    in(latency(), [this, link = wire.link] {
        Wire* const ended = find(link);
        if (!ended->client_open || ended->deaf) return;
        ended->client_open = false;
        engine.on_end(link, "reset", now);
    });
}

void World::deliver(Wire& wire, std::string bytes) {
    wire.to_client_at = std::max(wire.to_client_at, now + latency());
    at(wire.to_client_at, [this, link = wire.link, bytes = std::move(bytes)] {
        Wire* const to = find(link);
        if (!to->up || to->deaf || !to->client_open) return;
        if (boundary) boundary();
        if (to->up && !to->deaf) engine.on_bytes(link, bytes_of(bytes), now);
    });
}

int World::say(bool confirm, size_t bytes) {
    const int number = static_cast<int>(ids.size()) + 1;
    const std::string text = R"({"type":"data","n":)" + std::to_string(number) + R"(,"fill":")" +
                             std::string(bytes, 'x') + "\"}";
    const Result<uint64_t> id = engine.send(now, MessageKind::text, text, confirm);
    EXPECT_TRUE(id);
    ids.push_back(id ? *id : 0);
    drain();
    return number;
}

Answered World::answer_of(int number) const {
    std::vector<Answered> found;
    for (const Answered& answer : of<Answered>())
        if (answer.id == ids.at(static_cast<size_t>(number) - 1)) found.push_back(answer);
    EXPECT_EQ(found.size(), 1u) << "answers of message " << number;
    return found.empty() ? Answered{} : found.front();
}

std::vector<int> World::received() const {
    std::vector<int> numbers;
    for (const Message& message : of<Message>())
        if (message.is_data) numbers.push_back(number_of(message.bytes, "n"));
    return numbers;
}

// ------------------------------------------------------------------------------------ a transport

Wire* World::find(LinkId link) const {
    for (const auto& wire : wires)
        if (wire->link == link) return wire.get();
    return nullptr;
}

void World::connect(LinkId link, const Endpoint& endpoint) {
    const auto found = servers.find(endpoint.authority);
    wires.push_back(std::make_unique<Wire>());
    Wire& wire = *wires.back();
    wire.link = link;
    wire.framing = endpoint.framing;
    wire.server = found == servers.end() ? nullptr : found->second.get();
    in(2 * latency(), [this, link] {
        Wire& reached = *find(link);
        if (!reached.client_open) return;
        const FakeServer* const server = reached.server;
        if (server != nullptr && server->accepts == FakeServer::Accepts::hangs) return;
        if (server == nullptr || server->accepts == FakeServer::Accepts::refuses) {
            reached.client_open = false;
            return engine.on_end(link, "refused", now);
        }
        reached.up = true;
        engine.on_connected(link, now);
    });
}

void World::send(LinkId link, std::string bytes) {
    Wire& wire = *find(link);
    EXPECT_TRUE(wire.client_open) << "sent on a connection that has ended";
    if (wire.server->takes_bytes) return carry(wire, std::move(bytes));
    wire.waiting += bytes;
}

void World::carry(Wire& wire, std::string bytes) {
    wire.to_server_at = std::max(wire.to_server_at, now + latency());
    at(wire.to_server_at, [this, link = wire.link, bytes = std::move(bytes)] {
        Wire& to = *find(link);
        if (to.up && !to.deaf) to.server->receive(to, bytes);
    });
}

size_t World::buffered(LinkId link) const {
    const Wire* const wire = find(link);
    return wire == nullptr ? 0 : wire->waiting.size();
}

void World::close(LinkId link, Ending ending) {
    Wire& wire = *find(link);
    wire.client_open = false;
    if (ending == Ending::reset) wire.up = false;
}

}  // namespace pulse::client::test
