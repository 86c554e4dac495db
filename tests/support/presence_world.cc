// How a world of reactors, connections and messages goes on, and what must be true of it.
#include "tests/support/presence_world.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace pulse::test {

namespace {

using Kind = PresenceChange::Kind;
using Verdict = LoginAnswer::Verdict;

constexpr int kSteps = 400;
constexpr size_t kConnectionsPerReactor = 12;

DirectoryConfig draw_config(Random& random) {
    DirectoryConfig config;
    config.duplicate = static_cast<DuplicateRule>(random.below(3));
    config.same_device_max =
        config.duplicate == DuplicateRule::allow ? static_cast<uint32_t>(random.between(1, 3)) : 1;
    config.per_user_max = static_cast<uint32_t>(random.between(1, 4));
    config.linger = random.chance(1, 2) ? 0 : static_cast<Nanos>(random.between(1, 5)) * kSecond;
    config.offline_max = static_cast<uint32_t>(random.between(0, 4));
    config.changes_kept = static_cast<uint32_t>(random.between(8, 64));
    return config;
}

// Of users that are kept and of changes; there are no sessions.
size_t texts_in_use(const Directory& directory) {
    std::set<TextStore::Handle> texts;
    for (uint32_t user = 1; user <= directory.last_user(); ++user)
        if (directory.user(user) != nullptr) texts.insert(directory.user(user)->name);
    const PresenceStream& stream = directory.stream();
    for (uint64_t at = stream.first(); at < stream.end(); ++at) {
        texts.insert(stream.at(at).user);
        texts.insert(stream.at(at).device);
    }
    texts.erase(0);
    return texts.size();
}

}  // namespace

PresenceWorld::PresenceWorld(uint64_t seed)
    : random_(seed),
      config_(draw_config(random_)),
      users_(static_cast<uint32_t>(random_.between(1, 6))),
      devices_(static_cast<uint32_t>(random_.between(1, 3))) {
    const uint64_t reactors = random_.between(1, 4);
    for (uint64_t number = 0; number < reactors; ++number)
        reactors_.push_back(std::make_unique<Reactor>(config_, number));
    channels_.resize(reactors * reactors);
}

void PresenceWorld::expect(bool truth, const std::string& what) {
    if (!truth && !fault_) fault_ = what;
}

std::optional<std::string> PresenceWorld::run() {
    for (int steps = 0; steps < kSteps && !fault_; ++steps) step();
    settle();
    if (!fault_) check_owners();
    close_all();
    for (const auto& reactor : reactors_) {
        if (fault_) break;
        expect(reactor->book.taken() == 0, "an entry of a book is left");
        expect(reactor->directory.counts().sessions == 0, "a session outlived its connection");
        expect(reactor->directory.counts().users == 0, "a user without a session is online");
        expect(reactor->directory.texts().texts() == texts_in_use(reactor->directory),
               "a text outlived its holders");
    }
    return fault_;
}

void PresenceWorld::step() {
    if (random_.chance(1, 20)) {
        Reactor& reactor = *reactors_[random_.below(reactors_.size())];
        reactor.stalled = !reactor.stalled;
    }
    if (random_.chance(1, 4)) {
        now_ += static_cast<Nanos>(random_.below(3 * kSecond));
        for (uint32_t at = 0; at < reactors_.size(); ++at) {
            if (reactors_[at]->stalled) continue;
            Reactor& reactor = *reactors_[at];
            while (reactor.directory.advance(now_, 1)) {
            }
            reactor.model.advance(now_);
            compare(at);
        }
    }
    if (random_.chance(1, 2)) return client_step();
    deliver_one();
}

void PresenceWorld::client_step() {
    const auto at = static_cast<uint32_t>(random_.below(reactors_.size()));
    Reactor& reactor = *reactors_[at];
    if (reactor.stalled) return;
    if (reactor.connections.size() < kConnectionsPerReactor && random_.chance(1, 2)) {
        const auto index = static_cast<Index>(reactor.connections.size());
        Connection& made = reactor.connections.emplace_back();
        made.id = {index, ++generations_};
        return hello(at, made);
    }
    if (reactor.connections.empty()) return;
    Connection& connection = reactor.connections[random_.below(reactor.connections.size())];
    if (!connection.live) {  // a new owner of the place
        connection = Connection{.id = {connection.id.index, ++generations_}, .user = {}};
        return hello(at, connection);
    }
    if (random_.chance(1, 3)) return close(at, connection, CloseReason::idle_timeout);
    if (random_.chance(1, 3)) return hello(at, connection);
    if (connection.entry == 0) return;
    const SessionBook::Entry& entry = reactor.book.entry(connection.entry);
    if (entry.session == 0) return;
    channel(at, entry.shard)
        .push_back(SuspectMessage{entry.session, {connection.id, at}, random_.chance(1, 2)});
}

void PresenceWorld::hello(uint32_t reactor, Connection& connection) {
    if (!connection.said_hello) connection.user = "user" + std::to_string(random_.below(users_));
    connection.said_hello = true;
    const uint32_t shard = shard_of(connection.user);
    SessionBook& book = reactors_[reactor]->book;
    const SessionBook::Handle entry = book.begin(connection.entry, connection.id, shard);
    if (entry == 0) return;
    connection.entry = entry;
    channel(reactor, shard)
        .push_back(LoginMessage{connection.user,
                                "device" + std::to_string(random_.below(devices_)),
                                random_.chance(1, 2) ? "ring=canary" : "",
                                {connection.id, reactor},
                                entry,
                                book.entry(entry).session});
}

void PresenceWorld::close(uint32_t reactor, Connection& connection, CloseReason reason) {
    connection.live = false;
    const SessionBook::Handle entry = std::exchange(connection.entry, 0);
    if (entry != 0) take_outcome(reactor, reactors_[reactor]->book.ended(entry, reason));
}

void PresenceWorld::take_outcome(uint32_t reactor, const SessionBook::Outcome& outcome) {
    if (outcome.step != SessionBook::Step::report) return;
    const SessionBook::Entry& entry = outcome.entry;
    channel(reactor, entry.shard)
        .push_back(LogoutMessage{entry.session, {entry.connection, reactor}, entry.reason});
}

bool PresenceWorld::deliver_one() {
    std::vector<std::pair<uint32_t, uint32_t>> ready;
    for (uint32_t from = 0; from < reactors_.size(); ++from)
        for (uint32_t to = 0; to < reactors_.size(); ++to)
            if (!channel(from, to).empty() && !reactors_[to]->stalled) ready.emplace_back(from, to);
    if (ready.empty()) return false;
    const auto [from, to] = ready[random_.below(ready.size())];
    const Message message = channel(from, to).front();
    channel(from, to).pop_front();
    std::visit([&, from = from, to = to](const auto& content) { on(from, to, content); }, message);
    compare(to);
    return true;
}

void PresenceWorld::on(uint32_t from, uint32_t at, const LoginMessage& message) {
    Reactor& reactor = *reactors_[at];
    const LoginAnswer answer = reactor.directory.login(
        {message.user, message.device, message.labels, message.connection, message.session}, now_);
    const LoginAnswer expected =
        reactor.model.login(message.user, {message.connection, message.device, message.labels},
                            message.session != 0, now_);
    expect(answer.verdict == expected.verdict, "the verdict on " + message.user);
    expect(answer.replaces == expected.replaces && answer.replaced == expected.replaced,
           "who is replaced for " + message.user);
    channel(at, from).push_back(AnswerMessage{message.entry, answer});
    if (answer.replaces)
        channel(at, answer.replaced.reactor).push_back(ReplacedMessage{answer.replaced.id});
}

void PresenceWorld::on(uint32_t, uint32_t at, const AnswerMessage& message) {
    Reactor& reactor = *reactors_[at];
    const SessionBook::Outcome outcome = reactor.book.answered(message.entry, message.answer);
    if (outcome.step != SessionBook::Step::welcome && outcome.step != SessionBook::Step::refuse)
        return take_outcome(at, outcome);
    Connection& connection = reactor.connections[outcome.entry.connection.index];
    expect(connection.live && connection.id == outcome.entry.connection,
           "an answer for a connection that is gone");
    connection.welcome = outcome.step == SessionBook::Step::welcome;
    if (outcome.entry.session == 0) connection.entry = 0;
    if (!connection.welcome) close(at, connection, CloseReason::unauthorized);
}

void PresenceWorld::on(uint32_t, uint32_t at, const LogoutMessage& message) {
    Reactor& reactor = *reactors_[at];
    const bool counted =
        reactor.directory.logout(message.session, message.connection, message.reason, now_);
    expect(counted == reactor.model.logout(message.connection, message.reason, now_),
           "whether an end counts");
}

void PresenceWorld::on(uint32_t, uint32_t at, const SuspectMessage& message) {
    Reactor& reactor = *reactors_[at];
    const bool counted =
        reactor.directory.set_suspect(message.session, message.connection, message.suspect, now_);
    expect(counted == reactor.model.set_suspect(message.connection, message.suspect, now_),
           "whether a suspicion counts");
}

void PresenceWorld::on(uint32_t, uint32_t at, const ReplacedMessage& message) {
    Reactor& reactor = *reactors_[at];
    Connection& connection = reactor.connections[message.connection.index];
    if (connection.id != message.connection || !connection.live) return;
    connection.replaced = true;
    if (connection.entry != 0) reactor.book.lost(connection.entry);
    close(at, connection, CloseReason::kicked);
}

void PresenceWorld::compare(uint32_t at) {
    Reactor& reactor = *reactors_[at];
    reactor.directory.validate();
    std::set<std::string> seen;
    for (uint32_t handle = 1; handle <= reactor.directory.last_user(); ++handle)
        if (const Directory::User* user = reactor.directory.user(handle))
            seen.emplace(reactor.directory.text(user->name));
    for (const auto& [name, expected] : reactor.model.users()) {
        compare_user(reactor.directory, name, expected);
        seen.erase(name);
    }
    expect(seen.empty(), "a user that should be forgotten");
    compare_changes(reactor);
}

void PresenceWorld::compare_user(const Directory& directory, const std::string& name,
                                 const PresenceModel::User& expected) {
    const Directory::User* user = directory.find(name);
    if (user == nullptr) return expect(false, name + " is absent");
    const auto same = [&](auto is, auto should, const char* what) {
        expect(is == should, name + ": " + what);
    };
    same(user->presence, expected.presence, "presence");
    same(user->generation, expected.generation, "generation");
    same(user->sequence, expected.sequence, "sequence");
    same(user->seen_at, expected.seen_at, "last seen");
    same(user->reason, expected.reason, "reason");
    same(user->said_suspect, expected.said_suspect, "suspect");
    same(size_t{user->sessions}, expected.sessions.size(), "number of sessions");
    SessionHandle handle = user->first;
    for (const PresenceModel::Session& session : expected.sessions) {
        if (handle == 0) return expect(false, name + " lacks a session");
        const Directory::Session& is = directory.session(handle);
        same(is.ref(), session.connection, "connection");
        same(directory.text(is.device), std::string_view(session.device), "device");
        same(directory.text(is.labels), std::string_view(session.labels), "labels");
        same(is.suspect, session.suspect, "a session's suspicion");
        handle = is.next;
    }
}

void PresenceWorld::compare_changes(Reactor& reactor) {
    std::vector<PresenceModel::Change>& expected = reactor.model.changes();
    const PresenceStream& stream = reactor.directory.stream();
    expect(stream.end() == reactor.read + expected.size(), "number of changes");
    expect(stream.end() - stream.first() == std::min<uint64_t>(stream.end(), config_.changes_kept),
           "changes that are kept");
    for (size_t at = 0; at < expected.size() && !fault_; ++at) {
        if (reactor.read + at < stream.first()) continue;  // pushed out by those behind it
        const PresenceChange& is = stream.at(reactor.read + at);
        const PresenceModel::Change change = {std::string(reactor.directory.text(is.user)),
                                              is.generation,
                                              is.sequence,
                                              is.kind,
                                              is.reason,
                                              is.connection};
        expect(change == expected[at], "a change of " + expected[at].user);
    }
    reactor.read = stream.end();
    expected.clear();
}

// All messages are delivered, and no client does anything meanwhile.
void PresenceWorld::settle() {
    for (const auto& reactor : reactors_) reactor->stalled = false;
    while (!fault_ && deliver_one()) {
    }
}

// One session for each connection that was welcomed and lives, of exactly that connection, and no
// more of a device than the rule has it.
void PresenceWorld::check_owners() {
    using Owner = std::tuple<std::string, uint32_t, uint32_t, uint32_t>;
    std::multiset<Owner> sessions, connections;
    for (const auto& reactor : reactors_) {
        std::map<std::pair<uint32_t, TextStore::Handle>, uint32_t> same;
        const Directory& directory = reactor->directory;
        for (uint32_t user = 1; user <= directory.last_user(); ++user) {
            if (directory.user(user) == nullptr) continue;
            for (SessionHandle at = directory.user(user)->first; at != 0;
                 at = directory.session(at).next) {
                const ConnectionRef ref = directory.session(at).ref();
                sessions.emplace(directory.text(directory.user(user)->name), ref.reactor,
                                 ref.id.index, ref.id.generation);
                const uint32_t count = ++same[{user, directory.session(at).device}];
                expect(count <= config_.same_device_max, "two owners of a device");
            }
        }
    }
    for (uint32_t at = 0; at < reactors_.size(); ++at)
        for (const Connection& connection : reactors_[at]->connections)
            if (connection.live)
                connections.emplace(connection.user, at, connection.id.index,
                                    connection.id.generation);
    expect(sessions == connections, "connections that live, and sessions, are not the same");
}

void PresenceWorld::close_all() {
    for (uint32_t at = 0; at < reactors_.size(); ++at)
        for (Connection& connection : reactors_[at]->connections)
            if (connection.live && !fault_) close(at, connection, CloseReason::peer_closed);
    settle();
    now_ += config_.linger;
    for (uint32_t at = 0; at < reactors_.size() && !fault_; ++at) {
        reactors_[at]->directory.advance(now_, UINT32_MAX);
        reactors_[at]->model.advance(now_);
        compare(at);
    }
}

uint32_t PresenceWorld::shard_of(const std::string& user) const {
    return static_cast<uint32_t>(sip_hash({1, 2}, user) % reactors_.size());
}

}  // namespace pulse::test
