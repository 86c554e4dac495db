// Reactors, channels between them and a plain map of who is online, from a seed.
//
// Every reactor has a shard and a book, as in the server; messages between two reactors keep their
// order, and nothing else has one: a stalled reactor's wait for as long as the seed likes. Beside
// each shard lives a model that is told the same reports in the same order and does with maps and
// linear walks what directory.h promises. After each report both must agree.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/random.h"
#include "core/sessions/directory.h"
#include "core/sessions/session_book.h"

#include "tests/support/presence_model.h"

namespace pulse::test {

// One world. run() returns what was wrong, or nothing.
class PresenceWorld {
  public:
    explicit PresenceWorld(uint64_t seed);
    std::optional<std::string> run();

  private:
    struct LoginMessage {
        std::string user, device, labels;
        ConnectionRef connection;
        SessionBook::Handle entry;
        SessionHandle session;
    };
    struct AnswerMessage {
        SessionBook::Handle entry;
        LoginAnswer answer;
    };
    struct LogoutMessage {
        SessionHandle session;
        ConnectionRef connection;
        CloseReason reason;
    };
    struct SuspectMessage {
        SessionHandle session;
        ConnectionRef connection;
        bool suspect;
    };
    struct ReplacedMessage {
        ConnectionId connection;
    };
    using Message =
        std::variant<LoginMessage, AnswerMessage, LogoutMessage, SuspectMessage, ReplacedMessage>;

    struct Connection {
        ConnectionId id;
        std::string user;
        SessionBook::Handle entry = 0;
        bool live = true;
        bool said_hello = false;
        bool welcome = false;
        bool replaced = false;
    };
    struct Reactor {
        Reactor(const DirectoryConfig& config, uint64_t key)
            : directory(config, {key, 7}), book(1'000), model(config) {}
        Directory directory;
        SessionBook book;
        PresenceModel model;
        std::vector<Connection> connections;  // by index; a place is used again when it is free
        std::vector<std::string> names;       // of entries of the stream, as they were read
        uint64_t read = 0;
        bool stalled = false;
    };

    void step();
    void client_step();
    void hello(uint32_t reactor, Connection& connection);
    void close(uint32_t reactor, Connection& connection, CloseReason reason);
    void take_outcome(uint32_t reactor, const SessionBook::Outcome& outcome);
    bool deliver_one();
    void deliver(uint32_t from, uint32_t to, const Message& message);
    void on(uint32_t from, uint32_t at, const LoginMessage& message);
    void on(uint32_t from, uint32_t at, const AnswerMessage& message);
    void on(uint32_t from, uint32_t at, const LogoutMessage& message);
    void on(uint32_t from, uint32_t at, const SuspectMessage& message);
    void on(uint32_t from, uint32_t at, const ReplacedMessage& message);
    void compare(uint32_t reactor);
    void compare_user(const Directory& directory, const std::string& name,
                      const PresenceModel::User& expected);
    void compare_changes(Reactor& reactor);
    void settle();
    void close_all();
    void check_owners();
    void expect(bool truth, const std::string& what);
    uint32_t shard_of(const std::string& user) const;
    std::deque<Message>& channel(uint32_t from, uint32_t to) {
        return channels_[from * reactors_.size() + to];
    }

    Random random_;
    DirectoryConfig config_;
    Nanos now_ = kSecond;
    uint32_t users_;
    uint32_t devices_;
    uint32_t generations_ = 0;
    std::vector<std::unique_ptr<Reactor>> reactors_;
    std::vector<std::deque<Message>> channels_;
    std::optional<std::string> fault_;
};

}  // namespace pulse::test
