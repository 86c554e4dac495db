// How each kind of peer behaves, and how its treatment is judged.
#include "net/sim_clients.h"

#include <algorithm>
#include <string>

#include "core/check.h"

namespace pulse {
namespace {

constexpr uint8_t kMagic = 0xB7;
constexpr uint8_t kPing = 1, kPong = 2, kHello = 3, kWelcome = 4, kData = 5, kGoodbye = 6,
                  kInterval = 7, kError = 8;
constexpr size_t kHeaderBytes = 8;
constexpr uint32_t kNoLine = UINT32_MAX;
constexpr Nanos kConnectPatience = 5 * kSecond;
// A deadline is rounded up twice (the proof's tick, the timeout's ticks), and the probe of a first
// interval is cut to a whole one.
constexpr Nanos kTicksOfRounding = 3;

constexpr std::string_view kBehaviourNames[kBehaviours] = {
    "punctual", "prober",  "mute",   "vanisher", "half_closer", "slow_reader",
    "flapper",  "garbage", "chatty", "dribbler", "tardy"};

uint64_t hash_of(std::span<const uint8_t> bytes) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
    return hash;
}

void put_header(std::vector<uint8_t>& out, uint8_t type, uint32_t sequence, size_t payload_bytes) {
    out.push_back(kMagic);
    out.push_back(type);
    for (int shift = 8; shift >= 0; shift -= 8) {
        out.push_back(static_cast<uint8_t>(payload_bytes >> shift));
    }
    for (int shift = 24; shift >= 0; shift -= 8) {
        out.push_back(static_cast<uint8_t>(sequence >> shift));
    }
}

}  // namespace

SimClients::SimClients(SimNetwork& network, SimBackend& io, SimLog& log, uint64_t seed,
                       const FaultPlan& faults, const SimServerFacts& facts, uint32_t peers,
                       uint32_t places)
    : network_(network),
      io_(io),
      log_(log),
      random_(mix64(seed) ^ 0x7065657273),
      faults_(faults),
      facts_(facts),
      line_of_index_(places, kNoLine) {
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
    needs(Behaviour::vanisher, Fault::vanish);
    needs(Behaviour::half_closer, Fault::half_close);
    needs(Behaviour::slow_reader, Fault::slow_reader);
    for (const uint64_t weight : weights) whole += weight;
    for (uint32_t number = 0; number < peers; ++number) {
        Client& client = clients_.emplace_back();
        uint64_t draw = random_.below(whole);
        size_t kind = 0;
        while (draw >= weights[kind]) draw -= weights[kind++];
        client.behaviour = static_cast<Behaviour>(kind);
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
    Client& client = clients_[number];
    if (client.stopped || (client.epoch & 0xffffff) != cookie >> 40) return;
    switch (static_cast<Timer>(cookie >> 32 & 0xff)) {
        case Timer::connect:
            return client.line == kNoLine ? connect(number) : drop(number, true);
        case Timer::beat:
            return beat(number);
        case Timer::fate:
            return fate(number);
        case Timer::drip:
            if (client.drip.empty()) return;
            client.out.push_back(client.drip.front());
            client.drip.erase(client.drip.begin());
            flush(number);
            return set_timer(number, Timer::drip, client.gap / 200 + 1);
        case Timer::heal:
            if (client.line != kNoLine) network_.set_cut(lines_[client.line].socket, false);
            return;
        case Timer::read:
            client.reading = true;
            read(number);
            if (client.line == kNoLine || !random_.chance(3, 4)) return;
            client.reading = false;
            return set_timer(number, Timer::read, share(client.gap, 50, 400));
        case Timer::reboot:
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
    line.socket = network_.connect(*this, number, facts_.port, {});
    if (line_of_slot_.size() <= line.socket.slot)
        line_of_slot_.resize(line.socket.slot + 1, kNoLine);
    line_of_slot_[line.socket.slot] = id;
    client.line = id;
    client.greeted = client.finished = false;
    client.reading = true;
    client.out.clear();
    client.drip.clear();
    client.in.clear();
    client.expected.clear();
    ++counts_.connects;
    set_timer(number, Timer::connect, kConnectPatience);
}

// The handshake is done.
void SimClients::begin(uint32_t number) {
    Client& client = clients_[number];
    client.greeted = true;
    ++client.epoch;  // forgets the patience
    uint8_t profile = kProfileDefault;
    if (client.profile != 0) {
        profile = client.profile;
        const std::string hello = "{\"type\":\"hello\",\"user\":\"u" + std::to_string(number) +
                                  "\",\"profile\":\"" + facts_.profile_names[profile] + "\"}";
        frame(number, kHello, number,
              {reinterpret_cast<const uint8_t*>(hello.data()), hello.size()}, profile);
        if (client.line == kNoLine) return;
    }
    const Nanos timeout = facts_.timeout_min[profile];
    client.gap = std::min(facts_.interval, timeout / 2);
    set_timer(number, Timer::beat, share(client.gap, 0, 90));
    if (client.behaviour == Behaviour::slow_reader) {
        client.reading = false;
        set_timer(number, Timer::read, share(client.gap, 100, 2'000));
    }
    const bool mortal = client.behaviour == Behaviour::vanisher ||
                        client.behaviour == Behaviour::half_closer ||
                        client.behaviour == Behaviour::flapper;
    if (mortal) set_timer(number, Timer::fate, share(client.gap, 0, 800));
}

// What ends the connections of those who do not stay.
void SimClients::fate(uint32_t number) {
    Client& client = clients_[number];
    if (client.line == kNoLine) return;
    const SimSocket socket = lines_[client.line].socket;
    switch (client.behaviour) {
        case Behaviour::vanisher:
            network_.vanish(socket);
            // Some come back and know nothing: what reaches them is answered by a reset.
            if (random_.chance(1, 3)) network_.reboot(socket);
            release_line(number);
            return reconnect_later(number, share(client.gap, 100, 1'000));
        case Behaviour::half_closer:
            client.finished = true;
            client.drip.clear();
            if (client.out.empty()) network_.finish(socket);
            return;
        default:
            return drop(number, random_.chance(1, 2));
    }
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
void SimClients::beat(uint32_t number) {
    Client& client = clients_[number];
    if (client.line == kNoLine || client.finished) return;
    uint8_t payload[100];
    for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random_.next());
    const size_t payload_bytes = random_.chance(1, 4) ? random_.below(sizeof payload) : 0;
    Nanos next = share(client.gap, 50, 95);
    switch (client.behaviour) {
        case Behaviour::prober:
        case Behaviour::mute:
            break;
        case Behaviour::garbage:
            if (random_.chance(1, 4)) {
                noise(number);
                break;
            }
            [[fallthrough]];
        default:
            ++counts_.beats;
            frame(number, kPing, ++client.sequence, std::span(payload).first(payload_bytes));
    }
    if (client.line == kNoLine) return;
    if (client.behaviour == Behaviour::tardy) {
        next = share(facts_.timeout_min[client.profile == 0 ? kProfileDefault : client.profile], 80,
                     104);
    }
    if (client.behaviour == Behaviour::chatty) {
        std::vector<uint8_t> data(random_.below(random_.chance(1, 20) ? 60'000 : 500));
        for (uint8_t& byte : data) byte = static_cast<uint8_t>(random_.next());
        for (uint64_t left = random_.below(8); left > 0 && client.line != kNoLine; --left) {
            frame(number, kData, ++client.sequence, data);
        }
        next = share(client.gap, 5, 95);
    }
    set_timer(number, Timer::beat, next);
    if (client.line != kNoLine) misfortune(number);
}

void SimClients::misfortune(uint32_t number) {
    const SimSocket socket = lines_[clients_[number].line].socket;
    if (faults_.strikes(Fault::partition, random_)) {
        network_.set_cut(socket, true);
        const auto silence = random_.below(static_cast<uint64_t>(faults_.partition_max));
        set_timer(number, Timer::heal, static_cast<Nanos>(silence));
    }
    if (!faults_.strikes(Fault::reset, random_) || !random_.chance(1, 10)) return;
    drop(number, true);
}

// Octets that are no frame, or begin like one.
void SimClients::noise(uint32_t number) {
    Client& client = clients_[number];
    lines_[client.line].innocent = false;
    const size_t start = client.out.size();
    if (random_.chance(1, 2)) put_header(client.out, static_cast<uint8_t>(random_.below(12)), 1, 3);
    for (uint64_t left = random_.below(40); left > 0; --left) {
        client.out.push_back(static_cast<uint8_t>(random_.next()));
    }
    lines_[client.line].enqueued += client.out.size() - start;
    flush(number);
}

void SimClients::frame(uint32_t number, uint8_t type, uint32_t sequence,
                       std::span<const uint8_t> payload, uint8_t profile) {
    Client& client = clients_[number];
    Line& line = lines_[client.line];
    const bool drips = client.behaviour == Behaviour::dribbler && type == kPing;
    std::vector<uint8_t>& out = drips || !client.drip.empty() ? client.drip : client.out;
    const bool begins_to_drip = drips && client.drip.empty();
    put_header(out, type, sequence, payload.size());
    out.insert(out.end(), payload.begin(), payload.end());
    line.enqueued += kHeaderBytes + payload.size();
    // After noise the server's codec may stand anywhere: nothing that follows is known to be heard.
    if (line.innocent) {
        line.marks.push_back({line.enqueued, true, type == kPing || type == kPong, profile});
    }
    if (type == kPing) client.expected.push_back({kPong, sequence, hash_of(payload)});
    if (type == kData && facts_.echo)
        client.expected.push_back({kData, sequence, hash_of(payload)});
    if (type == kHello) client.expected.push_back({kWelcome, sequence, 0});
    if (begins_to_drip) set_timer(number, Timer::drip, 1);
    flush(number);
}

void SimClients::flush(uint32_t number) {
    Client& client = clients_[number];
    if (client.line == kNoLine || !client.greeted || client.out.empty()) return;
    const SimSocket socket = lines_[client.line].socket;
    const size_t count = network_.write(socket, client.out);
    client.out.erase(client.out.begin(), client.out.begin() + static_cast<std::ptrdiff_t>(count));
    if (client.finished && client.out.empty() && count > 0) network_.finish(socket);
}

// ------------------------------------------------------------------------------------- listening
void SimClients::on_socket(uint64_t cookie) {
    const auto number = static_cast<uint32_t>(cookie);
    Client& client = clients_[number];
    if (client.line == kNoLine) return;
    const SimSocket socket = lines_[client.line].socket;
    if (!client.greeted) {
        if (network_.error(socket) != 0) return drop(number, false);
        if (!network_.connected(socket)) return;
        begin(number);
    }
    flush(number);
    if (client.line != kNoLine && client.reading) read(number);
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
    drop(number, false);
}

// One frame from the server, if it is whole.
bool SimClients::parse(uint32_t number) {
    Client& client = clients_[number];
    const std::vector<uint8_t>& in = client.in;
    if (in.size() < kHeaderBytes) return false;
    const size_t payload_bytes = static_cast<size_t>(in[2]) << 8 | in[3];
    if (in[0] != kMagic || in[1] == 0 || in[1] > kError) {
        // Noise may look like another protocol, and is then refused in that one.
        const Line& line = lines_[client.line];
        if (line.innocent) broken("wire", line, "the server sent octets that are no frame");
        drop(number, true);
        return false;
    }
    const size_t whole = kHeaderBytes + payload_bytes;
    if (in.size() < whole) return false;
    uint32_t sequence = 0;
    for (size_t at = 4; at < kHeaderBytes; ++at) sequence = sequence << 8 | in[at];
    const std::vector<uint8_t> payload(in.begin() + kHeaderBytes,
                                       in.begin() + static_cast<std::ptrdiff_t>(whole));
    const uint8_t type = in[1];
    client.in.erase(client.in.begin(), client.in.begin() + static_cast<std::ptrdiff_t>(whole));
    receive(number, type, sequence, payload);
    return true;
}

void SimClients::receive(uint32_t number, uint8_t type, uint32_t sequence,
                         std::span<const uint8_t> payload) {
    Client& client = clients_[number];
    const Line& line = lines_[client.line];
    switch (type) {
        case kPing:
            ++counts_.probes;
            if (client.behaviour == Behaviour::mute || client.finished || client.stopped) return;
            return frame(number, kPong, sequence, payload);
        case kGoodbye:
            ++counts_.goodbyes;
            return;
        case kInterval:
            return;
        case kError:
            if (line.innocent) broken("wire", line, "an error frame for a peer that made none");
            return;
        default:
            break;
    }
    // Answers: each once, in order, with what was asked.
    ++counts_.answers;
    if (client.expected.empty()) {
        if (line.innocent) broken("wire", line, "an answer that nobody asked for");
        return;
    }
    const Expected expected = client.expected.front();
    client.expected.pop_front();
    if (!line.innocent) return;
    const bool same = expected.type == type && expected.sequence == sequence &&
                      (type == kWelcome || expected.payload_hash == hash_of(payload));
    if (!same) broken("wire", line, "an answer that differs from its question");
}

// --------------------------------------------------------------------------------------- judging
void SimClients::on_attached(Index index, SimSocket far) {
    const uint32_t id = line_of_slot_[far.slot];
    Line& line = lines_[id];
    line_of_index_[index] = id;
    line.server_holds = line.attached = true;
    line.heard_at = network_.clock();
    line.behind_at = io_.behind_total();
}

SimClients::Line* SimClients::line_at(Index index) {
    const uint32_t id = line_of_index_[index];
    return id == kNoLine ? nullptr : &lines_[id];
}

void SimClients::on_delivered(Index index, uint64_t offset) {
    Line* line = line_at(index);
    if (line == nullptr) return;
    while (!line->marks.empty() && line->marks.front().end <= offset) {
        const Mark mark = line->marks.front();
        line->marks.pop_front();
        if (mark.profile != 0) line->profile = mark.profile;
        if (mark.profile == 0 && !counts_as_life(mark)) continue;
        line->heard_at = network_.clock();
        line->behind_at = io_.behind_total();
    }
}

void SimClients::on_closed(Index index) {
    const uint32_t id = std::exchange(line_of_index_[index], kNoLine);
    if (id == kNoLine) return;
    lines_[id].server_holds = false;
    if (!lines_[id].client_holds) free_lines_.push_back(id);
}

std::string SimClients::who(const Line& line) const {
    const Client& client = clients_[line.client];
    return std::string(kBehaviourNames[static_cast<size_t>(client.behaviour)]) + " peer " +
           std::to_string(line.client);
}

void SimClients::broken(std::string_view rule, const Line& line, std::string_view what) {
    log_.broken(network_.clock(), rule, who(line) + ": " + std::string(what));
}

// After a deadline: rounding, and what the server has been behind since then.
Nanos SimClients::lateness_allowed(Nanos behind_at) const {
    return kTicksOfRounding * facts_.tick_ns + (io_.behind_total() - behind_at);
}

// A retune begins the silence of its profile's peers anew.
Nanos SimClients::silence_began(const Line& line) const {
    if (line.profile != kProfileDefault) return line.heard_at;
    return std::max(line.heard_at, facts_.retuned_at);
}

void SimClients::judge_evictions(const ConnectionTable& table, Nanos judged) {
    for (Index index = 0; index < line_of_index_.size(); ++index) {
        Line* line = line_at(index);
        if (line == nullptr || line->evicted) continue;
        const Connection& connection = table[index];
        if (connection.state < ConnectionState::closing ||
            connection.close_reason != CloseReason::idle_timeout) {
            continue;
        }
        line->evicted = true;
        ++counts_.evictions;
        log_.note(network_.clock(), "evicted", index, line->client);
        judge_one(*line, judged);
    }
}

void SimClients::judge_one(Line& line, Nanos judged) {
    if (!line.innocent) return;
    const Nanos deadline = line.heard_at + facts_.timeout_min[line.profile];
    const auto ms = [](Nanos span) { return std::to_string(span / kMillisecond) + " ms"; };
    if (judged < deadline) {
        broken("evicted_early", line, "by " + ms(deadline - judged));
    }
    const SimSocket server =
        network_.valid(line.socket) ? network_.far_end(line.socket) : SimSocket{};
    const auto life = std::ranges::find_if(
        line.marks, [this](const Mark& mark) { return mark.profile != 0 || counts_as_life(mark); });
    if (life != line.marks.end() && network_.valid(server)) {
        const Nanos arrival = network_.arrival_of_offset(server, life->end);
        if (arrival < deadline) {
            broken("punctual_peer_evicted", line,
                   "its heartbeat was in the kernel " + ms(deadline - arrival) +
                       " before the deadline");
        }
    }
    const Nanos latest =
        silence_began(line) + facts_.timeout_max[line.profile] + lateness_allowed(line.behind_at);
    if (io_.now() > latest) broken("evicted_late", line, "by " + ms(io_.now() - latest));
    const Client& client = clients_[line.client];
    const bool answers =
        client.behaviour == Behaviour::prober && line.client_holds && !client.stopped;
    // Who answers at once is heard in time exactly if his link is faster than what an answer has:
    // then nothing excuses the server, and otherwise it cannot know.
    if (answers && facts_.round_trip_max < facts_.answer_time_min[line.profile]) {
        broken("answering_peer_evicted", line, "it answers every probe at once");
    }
}

void SimClients::judge_the_living(const ConnectionTable& table) {
    for (Index index = 0; index < line_of_index_.size(); ++index) {
        Line* line = line_at(index);
        if (line == nullptr) continue;
        const ConnectionState state = table[index].state;
        if (state == ConnectionState::open && line->innocent) {
            const Nanos silence = io_.now() - silence_began(*line);
            if (silence > facts_.timeout_max[line->profile] + lateness_allowed(line->behind_at)) {
                broken("silent_peer_kept", *line, std::to_string(silence / kMillisecond) + " ms");
            }
        }
        if (state != ConnectionState::closing && state != ConnectionState::closed) continue;
        if (line->closing_seen_at == 0) {
            line->closing_seen_at = io_.now();
            line->closing_behind_at = io_.behind_total();
            continue;
        }
        const Nanos closing = io_.now() - line->closing_seen_at;
        const Nanos patience = kCloseLingerNs + 4 * faults_.completion_max;
        if (closing > patience + lateness_allowed(line->closing_behind_at)) {
            broken("close_hangs", *line, std::to_string(closing / kMillisecond) + " ms");
        }
    }
}

}  // namespace pulse
