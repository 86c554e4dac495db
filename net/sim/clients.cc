// How each kind of peer behaves.
#include "net/sim/clients.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "core/check.h"

namespace pulse {
namespace {

constexpr uint32_t kNoLine = UINT32_MAX;
constexpr Nanos kConnectPatience = 5 * kSecond;
constexpr Nanos kStormGapMin = 30 * kSecond;
constexpr Nanos kStormGapMax = 300 * kSecond;
// Of what a flooder sends at once. More frames than one connection may have handled in a turn.
constexpr uint64_t kFloodMax = 2 * kFramesPerTurn;
constexpr uint64_t kFloodUsual = 20;
// Slow uploads and downloads.
constexpr uint64_t kRateMin = 256;  // bytes a second
constexpr uint64_t kRateMax = 65'536;
constexpr uint64_t kSlowBytesMax = 60'000;  // a binary frame, and less than a receive buffer
constexpr Nanos kSlowSteps = 100;
constexpr size_t kAnswerBytes = 512;  // more than any answer to a ping takes

// The first of them, for a reader.
std::string printable(std::span<const uint8_t> bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (const uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 60))) {
        if (byte >= ' ' && byte < 0x7f) {
            text += static_cast<char>(byte);
        } else {
            text += {'\\', kDigits[byte >> 4], kDigits[byte & 15]};
        }
    }
    return text;
}

uint64_t hash_of(std::span<const uint8_t> bytes) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
    return hash;
}

bool is_refused_login(uint16_t code) {
    return code == describe(CloseReason::duplicate_login).code ||
           code == describe(CloseReason::user_full).code;
}

}  // namespace

SimClients::SimClients(SimNetwork& network, SimBackend& io, SimLog& log, uint64_t seed,
                       const FaultPlan& faults, const SimServerFacts& facts, uint32_t peers,
                       const Connection* records, uint32_t places)
    : network_(network),
      io_(io),
      log_(log),
      random_(mix64(seed) ^ 0x7065657273),
      asking_(mix64(seed) ^ 0x6576657279),
      following_(mix64(seed) ^ 0x666f6c6c6f77),
      faults_(faults),
      facts_(facts),
      records_(records),
      line_of_index_(places, kNoLine),
      watched_(places) {
    io.set_witness(this);
    // Each run has some behaviours and leaves others out; punctual peers are in every one, since
    // they are who must not be hurt.
    uint64_t weights[kBehaviours];
    uint64_t whole = 0;
    for (size_t kind = 0; kind < kBehaviours; ++kind) {
        weights[kind] = random_.chance(1, 2) ? random_.between(1, 10) : 0;
    }
    weights[0] = random_.between(3, 20);
    const auto needs = [&](Behaviour kind, Fault fault) {
        if (!faults_.has(fault)) weights[static_cast<size_t>(kind)] = 0;
    };
    needs(Behaviour::vanish, Fault::vanish);
    needs(Behaviour::half_closer, Fault::half_close);
    needs(Behaviour::slow_reader, Fault::slow_reader);
    // Few of those cost more than all others.
    for (const Behaviour dear : {Behaviour::flooder, Behaviour::uploader, Behaviour::downloader}) {
        uint64_t& weight = weights[static_cast<size_t>(dear)];
        weight = std::min<uint64_t>(weight, 2);
    }
    // Half of the worlds speak one protocol, mostly the cheapest; the others all of them.
    uint64_t wires[kSimWires] = {3, 1, 1, 1};
    if (random_.chance(1, 2)) {
        const uint64_t only = random_.below(kSimWires + 2);
        for (size_t wire = 0; wire < kSimWires; ++wire) {
            wires[wire] = wire == (only < kSimWires ? only : 0);
        }
    }
    for (const uint64_t weight : weights) whole += weight;
    const bool some_ask = asking_.chance(1, 2);
    Random users(mix64(seed) ^ 0x7573657273);
    for (uint32_t number = 0; number < peers; ++number) {
        Client& client = clients_.emplace_back();
        client.asks_answer_every = some_ask && asking_.chance(1, 2);
        if (facts_.users > 0 && users.chance(1, 2)) {
            client.user = 1 + static_cast<uint32_t>(users.below(facts_.users));
            client.device = static_cast<uint32_t>(users.below(2));
        }
        uint64_t draw = random_.below(whole);
        size_t kind = 0;
        while (draw >= weights[kind]) draw -= weights[kind++];
        client.behaviour = static_cast<Behaviour>(kind);
        draw = random_.below(wires[0] + wires[1] + wires[2] + wires[3]);
        size_t wire = 0;
        while (draw >= wires[wire]) draw -= wires[wire++];
        client.wire = static_cast<SimWire>(wire);
        client.offers_deflate = random_.chance(1, 2);
        const bool names_profile = random_.chance(1, 6);
        const auto profile =
            static_cast<uint8_t>(random_.between(kProfileDefault, facts_.profile_names.size() - 1));
        if (names_profile) client.profile = profile;
    }
}

// ------------------------------------------------------------------------------------------ time
void SimClients::set_timer(uint32_t client, Timer timer, Nanos delay) {
    const uint64_t epoch = clients_[client].epoch & 0xffffff;
    const uint64_t cookie = epoch << 40 | static_cast<uint64_t>(timer) << 32 | client;
    network_.set_timer(*this, cookie, network_.clock() + delay);
}

void SimClients::on_timer(uint64_t cookie) {
    const auto number = static_cast<uint32_t>(cookie);
    const auto timer = static_cast<Timer>(cookie >> 32 & 0xff);
    Client& client = clients_[number];
    if (client.stopped) return;
    if (timer == Timer::storm) return storm();
    if ((client.epoch & 0xffffff) != cookie >> 40) return;
    switch (timer) {
        case Timer::connect:
            return client.line == kNoLine ? connect(number) : drop(number, true);
        case Timer::beat:
            return beat(number);
        case Timer::fate:
            return fate(number);
        case Timer::drip:
            return drip(number);
        case Timer::heal:
            if (client.line != kNoLine) network_.set_cut(lines_[client.line].socket, false);
            return;
        case Timer::read:
            client.reading = true;
            read(number);
            if (client.line == kNoLine || !random_.chance(3, 4)) return;
            return stop_reading(number, 4 * client.gap);
        case Timer::read_some:
            return read_some(number);
        case Timer::reboot:
            network_.reboot(client.left_behind);
            return reconnect_later(number, client.gap);
        case Timer::storm:
            return;
    }
}

Nanos SimClients::share(Nanos whole, uint64_t from_percent, uint64_t to_percent) {
    const auto percent = static_cast<Nanos>(random_.between(from_percent * 100, to_percent * 100));
    return whole / 10'000 * percent;
}

// ----------------------------------------------------------------------------- coming and going
void SimClients::start(Nanos window) {
    for (uint32_t number = 0; number < clients_.size(); ++number) reconnect_later(number, window);
    if (!faults_.has(Fault::storm)) return;
    set_timer(0, Timer::storm, static_cast<Nanos>(random_.between(kStormGapMin, kStormGapMax)));
}

void SimClients::stop(bool vanish) {
    for (uint32_t number = 0; number < clients_.size(); ++number) {
        Client& client = clients_[number];
        client.stopped = true;
        if (client.line == kNoLine) continue;
        Line& line = lines_[client.line];
        network_.set_cut(line.socket, false);
        if (!vanish) continue;
        network_.vanish(line.socket);
        release_line(number);
    }
}

void SimClients::leave() {
    for (uint32_t number = 0; number < clients_.size(); ++number) {
        if (clients_[number].line != kNoLine) drop(number, false);
    }
}

void SimClients::reconnect_later(uint32_t number, Nanos within) {
    ++clients_[number].epoch;
    set_timer(number, Timer::connect,
              static_cast<Nanos>(random_.below(static_cast<uint64_t>(within) + 1)));
}

// A balancer, a proxy or a radio mast fails: everything that is connected leaves in one way, and
// comes back within moments.
void SimClients::storm() {
    const uint64_t way = random_.below(3);
    constexpr Nanos kWindows[] = {0, kSecond / 10, 2 * kSecond};
    const Nanos window = kWindows[random_.below(std::size(kWindows))];
    log_.note(network_.clock(), "storm", way, static_cast<uint64_t>(window));
    for (uint32_t number = 0; number < clients_.size(); ++number) {
        if (clients_[number].line == kNoLine) continue;
        if (way == 0) {
            vanish(number);
        } else {
            drop(number, way == 1);
        }
        reconnect_later(number, window);
    }
    set_timer(0, Timer::storm, static_cast<Nanos>(random_.between(kStormGapMin, kStormGapMax)));
}

void SimClients::connect(uint32_t number) {
    Client& client = clients_[number];
    uint32_t id;
    if (free_lines_.empty()) {
        id = static_cast<uint32_t>(lines_.size());
        lines_.emplace_back();
    } else {
        id = free_lines_.back();
        free_lines_.pop_back();
        lines_[id] = Line{};
    }
    Line& line = lines_[id];
    line.client = number;
    line.client_holds = true;
    const bool detected = random_.chance(1, 4);
    const uint16_t port =
        detected ? facts_.any_port : facts_.ports[static_cast<size_t>(client.wire)];
    line.socket = network_.connect(*this, number, port, {});
    if (line_of_slot_.size() <= line.socket.slot)
        line_of_slot_.resize(line.socket.slot + 1, kNoLine);
    line_of_slot_[line.socket.slot] = id;
    client.line = id;
    client.connected = client.introduced = client.finished = client.fin_follows = false;
    client.said_goodbye = client.got_goodbye = client.hoards = false;
    client.goodbye_code = 0;
    client.reading = true;
    client.codec = SimCodec(client.wire, client.offers_deflate);
    client.out.clear();
    client.drip.clear();
    client.read_bytes = 0;
    client.in.clear();
    client.expected.clear();
    client.answer_every = 1;
    client.unanswered = 0;
    ++counts_.connects;
    set_timer(number, Timer::connect, kConnectPatience);
}

// The connection is there; a WebSocket asks for more.
void SimClients::begin(uint32_t number) {
    Client& client = clients_[number];
    client.connected = true;
    if (!client.codec.is_websocket()) return introduce(number);
    std::vector<uint8_t> request;
    client.codec.put_request(request);
    enqueue(number, request, {.opens = true});
}

void SimClients::introduce(uint32_t number) {
    Client& client = clients_[number];
    client.introduced = true;
    ++client.epoch;  // forgets the patience
    uint8_t profile = kProfileDefault;
    if (client.profile != 0) profile = client.profile;
    if (client.profile != 0 || client.user != 0 || client.asks_answer_every) {
        say_hello(number, profile);
        if (client.line == kNoLine) return;
    }
    const Nanos timeout = facts_.timeout_min[profile];
    client.gap = std::min(facts_.interval, timeout / 2);
    client.drip_bytes = 1;
    client.drip_gap = client.gap / 200;
    const Nanos first = share(client.gap, 0, 90);
    client.next_beat_at = network_.clock() + first;
    set_timer(number, Timer::beat, first);
    switch (client.behaviour) {
        case Behaviour::slow_reader:
            return stop_reading(number, 20 * client.gap);
        case Behaviour::vanish:
        case Behaviour::half_closer:
        case Behaviour::flapper:
        case Behaviour::ender:
            return set_timer(number, Timer::fate, share(client.gap, 0, 800));
        default:
            return;
    }
}

void SimClients::say_hello(uint32_t number, uint8_t profile) {
    Client& client = clients_[number];
    std::string hello = R"({"type":"hello",)";
    if (client.user != 0) {
        hello += R"("user":")" + name_of_user(client.user) + R"(","device":"d)" +
                 std::to_string(client.device);
    } else {
        hello += R"("name":"u)" + std::to_string(number);  // a key of no meaning
    }
    hello += R"(","profile":")" + facts_.profile_names[profile] + '"';
    if (client.asks_answer_every) {
        client.answer_every = static_cast<uint32_t>(asking_.between(1, kAnswerEveryMax));
        client.unanswered = 0;
        hello += ",\"answer_every\":" + std::to_string(client.answer_every);
    }
    hello += "}";
    put(number, SimKind::hello, number,
        {reinterpret_cast<const uint8_t*>(hello.data()), hello.size()}, profile);
}

void SimClients::stop_reading(uint32_t number, Nanos at_most) {
    clients_[number].reading = false;
    lines_[clients_[number].line].went_unread = true;
    set_timer(number, Timer::read, share(at_most, 5, 100));
}

// What ends the connections of those that do not stay.
void SimClients::fate(uint32_t number) {
    Client& client = clients_[number];
    if (client.line == kNoLine || client.finished) return;
    switch (client.behaviour) {
        case Behaviour::vanish:
            return vanish(number);
        case Behaviour::half_closer:
            client.finished = client.fin_follows = true;
            client.drip.clear();
            return flush(number);
        case Behaviour::ender:
            return end_in_mid_message(number);
        default:
            if (random_.chance(1, 3)) return leave_with_goodbye(number);
            return drop(number, random_.chance(1, 2));
    }
}

// The host is gone. Some come back and know nothing, at once or later: what reaches them then is
// answered by a reset.
void SimClients::vanish(uint32_t number) {
    Client& client = clients_[number];
    client.left_behind = lines_[client.line].socket;
    network_.vanish(client.left_behind);
    const uint64_t way = random_.below(3);
    if (way == 0) network_.reboot(client.left_behind);
    release_line(number);
    if (way != 1) return reconnect_later(number, share(client.gap, 100, 1'000));
    ++client.epoch;
    set_timer(number, Timer::reboot, share(client.gap, 10, 1'000));
}

// A part of a message, and then FIN, a reset, silence, or no host any more.
void SimClients::end_in_mid_message(uint32_t number) {
    Client& client = clients_[number];
    const auto payload = any_bytes(random_.between(1, random_.chance(1, 10) ? 40'000 : 400));
    std::vector<uint8_t> message;
    client.codec.put(SimKind::data, ++client.sequence, payload, random_, message);
    message.resize(random_.between(1, message.size() - 1));
    Line& line = lines_[client.line];
    line.enqueued += message.size();
    client.out.insert(client.out.end(), message.begin(), message.end());
    client.finished = true;
    const uint64_t way = random_.below(4);
    client.fin_follows = way == 0;
    flush(number);
    if (way == 1) return drop(number, true);
    if (way == 2) return vanish(number);
}

void SimClients::leave_with_goodbye(uint32_t number) {
    constexpr uint8_t kNormal[] = {1'000 >> 8, 1'000 & 0xff};
    Client& client = clients_[number];
    client.said_goodbye = true;
    put(number, SimKind::goodbye, 0, kNormal);
    client.finished = true;
}

// The client's program closes, and comes back later.
void SimClients::drop(uint32_t number, bool reset) {
    Client& client = clients_[number];
    network_.set_cut(lines_[client.line].socket, false);
    network_.close(lines_[client.line].socket, reset);
    release_line(number);
    reconnect_later(number, client.stopped ? 0 : 2 * facts_.interval);
}

void SimClients::release_line(uint32_t number) {
    const uint32_t id = std::exchange(clients_[number].line, kNoLine);
    Line& line = lines_[id];
    line.client_holds = false;
    const bool done = line.attached ? !line.server_holds : !network_.valid(line.socket);
    if (done) free_lines_.push_back(id);
}

// --------------------------------------------------------------------------------------- talking
std::vector<uint8_t> SimClients::any_bytes(uint64_t count) {
    std::vector<uint8_t> bytes(count);
    for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
        const uint64_t word = random_.next();
        std::memcpy(bytes.data() + at, &word, std::min(sizeof word, bytes.size() - at));
    }
    return bytes;
}

void SimClients::beat(uint32_t number) {
    Client& client = clients_[number];
    if (client.line == kNoLine || client.finished) return;
    if (network_.clock() < client.next_beat_at) return;  // it was told to beat sooner, and has
    // Another one, where no message is half sent.
    const bool between_messages = client.drip.empty() && !client.hoards;
    const bool pings = client.behaviour != Behaviour::idle && client.behaviour != Behaviour::mute &&
                       client.behaviour != Behaviour::ponger;
    if (client.asks_answer_every && pings && between_messages && asking_.chance(1, 20)) {
        say_hello(number, client.profile == 0 ? kProfileDefault : client.profile);
        if (client.line == kNoLine) return;
    }
    uint8_t payload[100];
    for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random_.next());
    const size_t payload_bytes = random_.chance(1, 4) ? random_.below(sizeof payload) : 0;
    beat_with(number, std::span(payload).first(payload_bytes));
    if (client.line == kNoLine) return;
    Nanos next = share(client.gap, 50, 95);
    if (client.behaviour == Behaviour::tardy) {
        const Nanos told = facts_.adapts ? lines_[client.line].told_timeout : 0;
        const uint8_t profile = client.profile == 0 ? kProfileDefault : client.profile;
        next = share(told != 0 ? told : facts_.timeout_min[profile], 80, 104);
    }
    if (client.behaviour == Behaviour::chatty) next = share(client.gap, 5, 95);
    client.next_beat_at = network_.clock() + next;
    set_timer(number, Timer::beat, next);
    misfortune(number);
}

void SimClients::beat_with(uint32_t number, std::span<const uint8_t> payload) {
    Client& client = clients_[number];
    uint64_t beats = 1;
    switch (client.behaviour) {
        case Behaviour::idle:
        case Behaviour::mute:
            return;
        case Behaviour::garbage:
            if (random_.chance(1, 4)) return noise(number);
            break;
        case Behaviour::ponger: {
            std::vector<uint8_t> pong;
            client.codec.put_pong(++client.sequence, random_, pong);
            return enqueue(number, pong, {.frame = true});
        }
        case Behaviour::flooder:
            // What comes back must fit the send queue: more would make it a slow reader.
            beats = std::min<uint64_t>(facts_.send_queue_bytes / kAnswerBytes, kFloodMax);
            if (!random_.chance(1, 200)) beats = std::min(beats, kFloodUsual);
            beats = random_.between(1, beats);
            break;
        case Behaviour::uploader:
            if (!client.drip.empty()) return;  // in the middle of one
            if (client.sequence > 0 && random_.chance(1, 4)) return begin_upload(number);
            break;
        case Behaviour::downloader:
            if (client.read_bytes > 0) return;  // has what it wants, and answers probes
            if (facts_.echo && random_.chance(1, 6)) return begin_download(number);
            break;
        case Behaviour::hoarder:
            if (!client.codec.is_websocket() || client.sequence == 0) break;
            if (!client.hoards) return begin_hoard(number);
            break;
        default:
            break;
    }
    for (; beats > 0 && client.line != kNoLine; --beats) {
        ++counts_.beats;
        put(number, SimKind::ping, ++client.sequence, payload);
    }
    if (client.behaviour != Behaviour::chatty) return;
    // Text is twice as long.
    const size_t most = client.wire == SimWire::binary ? 60'000 : 20'000;
    const auto data = any_bytes(random_.below(random_.chance(1, 20) ? most : 500));
    for (uint64_t left = random_.below(8); left > 0 && client.line != kNoLine; --left) {
        put(number, SimKind::data, ++client.sequence, data);
    }
}

// A large message at a bounded rate: for a part of the timeout, or for several.
void SimClients::begin_upload(uint32_t number) {
    Client& client = clients_[number];
    const uint64_t rate = kRateMin << random_.below(std::bit_width(kRateMax / kRateMin));
    const Nanos timeout = facts_.timeout_min[kProfileDefault];
    const auto wanted = rate * static_cast<uint64_t>(share(timeout, 20, 300) / kSecond + 1);
    // Text is twice as long.
    const uint64_t most = client.codec.numbers_welcomes() ? kSlowBytesMax : kSlowBytesMax / 2;
    const auto data = any_bytes(std::min(wanted, most));
    client.drip_bytes = data.size() / kSlowSteps + 1;
    client.drip_gap = static_cast<Nanos>(client.drip_bytes * kSecond / rate);
    put(number, SimKind::data, ++client.sequence, data, 0, true);
}

// Much data comes back, and is read at a bounded rate.
void SimClients::begin_download(uint32_t number) {
    Client& client = clients_[number];
    const uint64_t rate = kRateMin << random_.below(std::bit_width(kRateMax / kRateMin));
    const auto data = any_bytes(random_.between(1'000, 20'000));
    // More than socket buffers hold, so that the server's queue is seen to move.
    const size_t each = client.wire == SimWire::binary ? data.size() : 2 * data.size();
    const uint64_t most = std::min<uint64_t>(2 * kSlowBytesMax, facts_.send_queue_bytes / 4);
    for (uint64_t asked = 0; asked < most && client.line != kNoLine; asked += each) {
        put(number, SimKind::data, ++client.sequence, data);
    }
    if (client.line == kNoLine) return;
    client.reading = false;
    lines_[client.line].went_unread = true;
    client.read_bytes = std::max<size_t>(1, rate * 2 * static_cast<uint64_t>(client.gap) / kSecond /
                                                static_cast<uint64_t>(kSlowSteps));
    set_timer(number, Timer::read_some, 2 * client.gap / kSlowSteps);
}

// The fragment ends no message, so it has no mark.
void SimClients::begin_hoard(uint32_t number) {
    Client& client = clients_[number];
    std::vector<uint8_t> fragment;
    client.codec.put_fragment(any_bytes(random_.between(1, kSlowBytesMax)), random_, fragment);
    client.hoards = true;
    lines_[client.line].enqueued += fragment.size();
    client.out.insert(client.out.end(), fragment.begin(), fragment.end());
    flush(number);
}

void SimClients::drip(uint32_t number) {
    Client& client = clients_[number];
    if (client.drip.empty()) return;
    const auto end = client.drip.begin() +
                     static_cast<std::ptrdiff_t>(std::min(client.drip_bytes, client.drip.size()));
    client.out.insert(client.out.end(), client.drip.begin(), end);
    client.drip.erase(client.drip.begin(), end);
    flush(number);
    set_timer(number, Timer::drip, client.drip_gap + 1);
}

void SimClients::misfortune(uint32_t number) {
    Line& line = lines_[clients_[number].line];
    if (faults_.strikes(Fault::partition, random_)) {
        network_.set_cut(line.socket, true);
        line.was_cut = true;
        const auto silence = random_.below(static_cast<uint64_t>(faults_.partition_max));
        set_timer(number, Timer::heal, static_cast<Nanos>(silence));
    }
    if (!faults_.strikes(Fault::reset, random_) || !random_.chance(1, 10)) return;
    drop(number, true);
}

// Bytes that are not a message, or begin like one.
void SimClients::noise(uint32_t number) {
    Client& client = clients_[number];
    lines_[client.line].innocent = false;
    std::vector<uint8_t> bytes;
    if (random_.chance(1, 2)) {
        client.codec.put(SimKind::data, 1, {}, random_, bytes);
        bytes.resize(random_.between(1, bytes.size()));
    }
    for (uint64_t left = random_.below(40); left > 0; --left) {
        bytes.push_back(static_cast<uint8_t>(random_.next()));
    }
    enqueue(number, bytes, {});
}

void SimClients::put(uint32_t number, SimKind kind, uint32_t sequence,
                     std::span<const uint8_t> payload, uint8_t profile, bool slow) {
    Client& client = clients_[number];
    std::vector<uint8_t> message;
    bool own_frame = true;
    if (kind == SimKind::ping && client.hoards) {
        client.codec.put_own_ping(sequence, payload, random_, message);
    } else {
        own_frame = client.codec.put(kind, sequence, payload, random_, message);
    }
    const bool answered = kind == SimKind::ping && awaits_pong(client, own_frame);
    if (answered) client.expected.push_back({SimKind::pong, sequence, hash_of(payload)});
    if (kind == SimKind::data && facts_.echo)
        client.expected.push_back({SimKind::data, sequence, hash_of(payload)});
    if (kind == SimKind::hello)
        client.expected.push_back({SimKind::welcome, sequence, client.answer_every});
    slow |= client.behaviour == Behaviour::dribbler && kind == SimKind::ping;
    const Mark mark{.frame = true,
                    .proof = kind == SimKind::ping,
                    .awaits_pong = answered,
                    .profile = profile,
                    .slow = slow};
    enqueue(number, message, mark);
}

// Counts a heartbeat that is sent. Frames of WebSocket's own are all answered, and not counted.
bool SimClients::awaits_pong(Client& client, bool own_frame) {
    if (own_frame) return true;
    if (++client.unanswered < client.answer_every) return false;
    client.unanswered = 0;
    return true;
}

// Of what the client asked for last; while a welcome is on its way the server may know of less.
bool SimClients::repeats_answer_every(const Client& client, const SimMessage& message) const {
    const bool asking = std::ranges::any_of(
        client.expected, [](const Expected& answer) { return answer.kind == SimKind::welcome; });
    return asking || message.answer_every == client.answer_every;
}

// What is slow goes through the drip, and whatever follows must wait behind.
void SimClients::enqueue(uint32_t number, std::span<const uint8_t> bytes, Mark mark) {
    Client& client = clients_[number];
    Line& line = lines_[client.line];
    const bool begins_to_drip = mark.slow && client.drip.empty();
    std::vector<uint8_t>& out = mark.slow || !client.drip.empty() ? client.drip : client.out;
    out.insert(out.end(), bytes.begin(), bytes.end());
    line.enqueued += bytes.size();
    mark.end = line.enqueued;
    // After noise the server's codec may stand anywhere: nothing that follows is known to be heard.
    if (line.innocent) line.marks.push_back(mark);
    if (begins_to_drip) set_timer(number, Timer::drip, 1);
    flush(number);
}

void SimClients::flush(uint32_t number) {
    Client& client = clients_[number];
    if (client.line == kNoLine || !client.connected) return;
    const SimSocket socket = lines_[client.line].socket;
    if (!client.out.empty()) {
        const size_t count = network_.write(socket, client.out);
        client.out.erase(client.out.begin(),
                         client.out.begin() + static_cast<std::ptrdiff_t>(count));
    }
    if (client.fin_follows && client.out.empty()) {
        client.fin_follows = false;
        network_.finish(socket);
    }
}

// ------------------------------------------------------------------------------------- listening
void SimClients::on_socket(uint64_t cookie) {
    const auto number = static_cast<uint32_t>(cookie);
    Client& client = clients_[number];
    if (client.line == kNoLine) return;
    const SimSocket socket = lines_[client.line].socket;
    if (!client.connected) {
        if (network_.error(socket) != 0) return drop(number, false);
        if (!network_.connected(socket)) return;
        begin(number);
    }
    flush(number);
    if (client.line != kNoLine && client.reading) read(number);
}

// At its rate, until there is nothing for a while.
void SimClients::read_some(uint32_t number) {
    Client& client = clients_[number];
    if (client.line == kNoLine) return;
    const SimSocket socket = lines_[client.line].socket;
    std::vector<uint8_t> buffer(client.read_bytes);
    const size_t count = network_.read(socket, buffer);
    Line& line = lines_[client.line];
    line.downloaded.add(network_.clock(), network_.arrived(socket),
                        facts_.timeout_max[line.profile]);
    client.in.insert(client.in.end(), buffer.begin(),
                     buffer.begin() + static_cast<std::ptrdiff_t>(count));
    while (client.line != kNoLine && parse(number)) {
    }
    if (client.line == kNoLine) return;
    if (count > 0) return set_timer(number, Timer::read_some, 2 * client.gap / kSlowSteps);
    client.reading = true;
    client.read_bytes = 0;
    read(number);
}

void SimClients::read(uint32_t number) {
    Client& client = clients_[number];
    uint8_t buffer[4'096];
    while (client.line != kNoLine) {
        const size_t count = network_.read(lines_[client.line].socket, buffer);
        if (count == 0) break;
        client.in.insert(client.in.end(), buffer, buffer + count);
        while (client.line != kNoLine && parse(number)) {
        }
    }
    if (client.line == kNoLine) return;
    const SimSocket socket = lines_[client.line].socket;
    if (!network_.ended(socket) && network_.error(socket) == 0) return;
    ++counts_.ended;
    judge_end(number);
    drop(number, false);
}

// One message from the server, if it is whole.
bool SimClients::parse(uint32_t number) {
    Client& client = clients_[number];
    SimMessage message;
    switch (client.codec.parse(client.in, message)) {
        case SimCodec::Parsed::more:
            return false;
        case SimCodec::Parsed::garbage:
            // Noise may look like another protocol, and is then refused in that one.
            if (lines_[client.line].innocent) {
                broken("wire", lines_[client.line],
                       "the server sent bytes that are not a message: " + printable(client.in));
            }
            drop(number, true);
            return false;
        case SimCodec::Parsed::message:
            receive(number, message);
            return true;
    }
    return false;
}

void SimClients::receive(uint32_t number, const SimMessage& message) {
    Client& client = clients_[number];
    const Line& line = lines_[client.line];
    switch (message.kind) {
        case SimKind::opened:
            return introduce(number);
        case SimKind::ping: {
            ++counts_.probes;
            const bool silent =
                client.behaviour == Behaviour::mute || client.behaviour == Behaviour::ponger;
            if (silent || client.finished || client.stopped) return;
            std::vector<uint8_t> pong;
            client.codec.put_answer(message, random_, pong);
            const bool slow = client.behaviour == Behaviour::dribbler;
            return enqueue(number, pong, {.frame = true, .answer = true, .slow = slow});
        }
        case SimKind::goodbye:
            ++counts_.goodbyes;
            client.got_goodbye = true;
            client.goodbye_code = message.code;
            return;
        case SimKind::interval:
            if (line.innocent && !repeats_answer_every(client, message))
                broken("answer_every", line, "an interval has another than was asked for");
            return follow(number, message);
        case SimKind::error:
            if (is_refused_login(message.code) && !client.expected.empty() &&
                client.expected.front().kind == SimKind::welcome) {
                client.expected.pop_front();
                return;
            }
            if (line.innocent && message.code != describe(CloseReason::out_of_memory).code) {
                broken("wire", line, "an error for a peer that made none");
            }
            return;
        case SimKind::welcome:
            follow(number, message);
            return receive_answer(number, message);
        case SimKind::pong:
        case SimKind::data:
        case SimKind::hello:
            return receive_answer(number, message);
    }
}

// It is told by what it is judged, and beats by that: sooner than it meant to where that is
// shorter. One that named its profile knew.
void SimClients::follow(uint32_t number, const SimMessage& message) {
    Client& client = clients_[number];
    note_told(lines_[client.line], message.timeout_ms * kMillisecond,
              message.kind == SimKind::welcome);
    const Nanos interval = message.interval_ms * kMillisecond;
    const bool sooner = interval < client.gap;
    if (!facts_.adapts && (message.kind == SimKind::welcome || !sooner)) return;
    client.gap = interval;
    if (!sooner || client.behaviour == Behaviour::tardy) return;
    const auto percent = static_cast<Nanos>(following_.between(0, 95));
    const Nanos at = network_.clock() + interval / 100 * percent;
    if (at >= client.next_beat_at) return;
    client.next_beat_at = at;
    set_timer(number, Timer::beat, at - network_.clock());
}

// Each comes once, in order, with what was asked.
void SimClients::receive_answer(uint32_t number, const SimMessage& message) {
    Client& client = clients_[number];
    Line& line = lines_[client.line];
    ++counts_.answers;
    const std::string_view rule = client.asks_answer_every ? "answer_every" : "wire";
    if (message.kind == SimKind::pong && line.pongs_owed > 0) --line.pongs_owed;
    if (client.expected.empty()) {
        if (line.innocent) broken(rule, line, "an answer that nothing asked for");
        return;
    }
    const Expected expected = client.expected.front();
    client.expected.pop_front();
    if (!line.innocent) return;
    const bool welcome = message.kind == SimKind::welcome;
    const bool numbered = !welcome || client.codec.numbers_welcomes();
    const bool same =
        expected.kind == message.kind && (!numbered || expected.sequence == message.sequence) &&
        expected.payload_hash == (welcome ? message.answer_every : hash_of(message.payload));
    if (!same) broken(rule, line, "an answer that differs from its question");
}

}  // namespace pulse
