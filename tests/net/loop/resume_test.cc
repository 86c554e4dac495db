// Sessions that their clients resume, over several reactors, each on a simulated kernel of its own
// and turned by hand: nothing is lost, nothing comes twice, and the order is kept, wherever the
// connection is cut and whichever reactor the client comes back to.
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/random.h"

#include "tests/net/loop/conversation.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

using Json = nlohmann::json;
using Kind = PresenceChange::Kind;

constexpr size_t kLines = 0, kFrames = 1, kAuto = 2;
constexpr size_t kReactors = 3;

LoopOptions resumable() {
    LoopOptions options;
    options.on_message = OnMessage::echo;
    options.resume_hold = 30 * kSecond;
    return options;
}

class Resume : public testing::Test {
  protected:
    Resume() { restart(resumable()); }
    void restart(const LoopOptions& options) {
        for (uint32_t number = 0; number < kReactors; ++number) {
            stages_[number] = std::make_unique<ReactorStage>(
                StagePlan{.listen = {"jsonl://10.0.0.1:9000", "tcp://10.0.0.1:9001",
                                     "auto://10.0.0.1:9002"},
                          .options = options,
                          .places = 600,
                          .number = number,
                          .mailboxes = mailboxes_});
            mailboxes_[number] = &stages_[number]->mailbox();
        }
    }
    ReactorStage& stage(size_t reactor) { return *stages_[reactor]; }
    // All messages that are on their way arrive.
    void settle(Nanos each = 5 * kMillisecond) {
        for (int round = 0; round < 12; ++round)
            for (const auto& at : stages_) at->settle(each / 12 + kMillisecond / 4);
    }
    // Of all reactors.
    uint64_t count(Metric metric) const {
        uint64_t sum = 0;
        for (const auto& at : stages_) sum += at->metrics()[metric];
        return sum;
    }
    Gauges gauges() const {
        Gauges sum;
        for (const auto& at : stages_) {
            const Gauges gauges = at->stats().gauges;
            sum.sessions += gauges.sessions;
            sum.users += gauges.users;
            sum.users_suspect += gauges.users_suspect;
            sum.resume_held += gauges.resume_held;
            sum.logins_waiting += gauges.logins_waiting;
        }
        return sum;
    }
    std::vector<Kind> changes() const {
        std::vector<Kind> kinds;
        for (const auto& at : stages_) {
            const PresenceStream& stream = at->directory().stream();
            for (uint64_t i = stream.first(); i < stream.end(); ++i)
                kinds.push_back(stream.at(i).kind);
        }
        return kinds;
    }

    std::array<Mailbox*, kReactors> mailboxes_{};
    std::array<std::unique_ptr<ReactorStage>, kReactors> stages_;
};

// A client on lines that does what PROTOCOL.md, "Resuming", says.
class Client {
  public:
    explicit Client(std::string user) : user_(std::move(user)) {}

    void connect(ReactorStage& stage) {
        stage_ = &stage;
        peer_ = stage.connect(kLines);
        welcomed_ = false;
        Json hello = {{"type", "hello"}, {"user", user_}, {"resume", Json::object()}};
        if (!token_.empty()) hello["resume"] = {{"token", token_}, {"last_seq", received_.size()}};
        stage.write(peer_, hello.dump() + "\n");
    }
    // The connection is gone; `how`: 0 reset, 1 closed, 2 still there for the server.
    void cut(uint64_t how) {
        if (stage_ != nullptr && how < 2) stage_->close(peer_, how == 0);
        stage_ = nullptr;
    }
    bool is_connected() const { return stage_ != nullptr; }
    bool was_welcomed() const { return welcomed_; }
    bool is_welcomed() const { return stage_ != nullptr && welcomed_; }
    void say() {
        waiting_.push_back(R"({"type":"data","n":)" + std::to_string(++said_) + "}");
        if (is_welcomed()) send();
    }
    void acknowledge() {
        if (is_welcomed())
            stage_->write(peer_, R"({"type":"ack","received":)" +
                                     std::to_string(received_.size()) + "}\n");
    }
    // Reads one line of what has come, if there is a whole one.
    bool read() {
        if (stage_ == nullptr) return false;
        std::string& heard = stage_->heard(peer_);
        const size_t end = heard.find('\n');
        if (end == std::string::npos) return false;
        const std::string line = heard.substr(0, end);
        heard.erase(0, end + 1);
        const Json object = Json::parse(line);
        const std::string type = object["type"];
        if (type == "welcome") welcome(object);
        if (type == "data") received_.push_back(object["n"]);
        return true;
    }

    const std::vector<uint64_t>& received() const { return received_; }
    uint64_t said() const { return said_; }
    const Json& last() const { return last_; }
    std::string token() const { return token_; }
    size_t peer() const { return peer_; }

  private:
    void welcome(const Json& object) {
        welcomed_ = true;
        last_ = object;
        const Json& resume = object["resume"];
        token_ = resume["token"];
        if (resume["resumed"] == true) {
            // What the server has is not sent again.
            while (confirmed_ < resume["received"]) {
                ASSERT_FALSE(sent_.empty());
                sent_.pop_front();
                ++confirmed_;
            }
            EXPECT_EQ(resume["lost"], 0u);
            EXPECT_EQ(resume["from"], received_.size() + 1);
        } else {
            EXPECT_TRUE(sent_.empty() && received_.empty()) << "it was resumable: " << object;
        }
        for (; !sent_.empty(); sent_.pop_back()) waiting_.push_front(sent_.back());
        send();
    }
    void send() {
        for (; !waiting_.empty(); waiting_.pop_front()) {
            stage_->write(peer_, waiting_.front() + "\n");
            sent_.push_back(waiting_.front());
        }
    }

    std::string user_, token_;
    ReactorStage* stage_ = nullptr;
    size_t peer_ = 0;
    bool welcomed_ = false;
    uint64_t said_ = 0, confirmed_ = 0;
    std::deque<std::string> waiting_, sent_;
    std::vector<uint64_t> received_;
    Json last_;
};

std::vector<uint64_t> up_to(uint64_t last) {
    std::vector<uint64_t> numbers;
    for (uint64_t number = 1; number <= last; ++number) numbers.push_back(number);
    return numbers;
}

TEST_F(Resume, AHelloThatAsksForItIsGivenAToken) {
    Client client("u1");
    client.connect(stage(0));
    settle();
    while (client.read()) {
    }
    const Json& resume = client.last()["resume"];
    EXPECT_EQ(client.last()["session"], "new");
    EXPECT_EQ(resume["token"].get<std::string>().size(), 40u);
    EXPECT_EQ(resume["hold_ms"], 30'000);
    EXPECT_EQ(resume["resumed"], false);
    EXPECT_FALSE(resume.contains("why"));
    for (const char* other :
         {R"({"type":"hello","user":"u2"})", R"({"type":"hello","resume":{}})"}) {
        const size_t peer = stage(0).connect(kLines);
        stage(0).write(peer, std::string(other) + "\n");
        settle();
        EXPECT_NE(stage(0).heard(peer).find("welcome"), std::string::npos);
        EXPECT_EQ(stage(0).heard(peer).find("resume"), std::string::npos) << other;
    }
}

TEST_F(Resume, OffItIsALoginLikeAnyOther) {
    LoopOptions off = resumable();
    off.resume_hold = 0;
    restart(off);
    const size_t peer = stage(0).connect(kLines);
    stage(0).write(peer, "{\"type\":\"hello\",\"user\":\"u1\",\"resume\":{}}\n");
    settle();
    EXPECT_NE(stage(0).heard(peer).find(R"("session":"new"})"), std::string::npos);
    stage(0).close(peer, true);
    settle();
    EXPECT_EQ(gauges().sessions, 0u);
}

// Each place that a conversation of four messages can be cut at, and each way; the client comes
// back to each reactor, also before the server knows that it was gone.
TEST_F(Resume, WhereverItIsCutNothingIsLostOrDoubled) {
    int user = 0;
    for (int written = 0; written <= 4; ++written)
        for (int read = 0; read <= 5; ++read)
            for (uint64_t how = 0; how < 3; ++how) {
                Client client("u" + std::to_string(++user));
                client.connect(stage(user % kReactors));
                for (int i = 0; i < written; ++i) client.say();
                for (int i = 0; i < read; ++i) {
                    settle();
                    client.read();
                }
                client.cut(how);
                if (how == 1 || !client.was_welcomed()) settle();
                client.connect(stage(user / 3 % kReactors));
                if (written < 4) client.say();
                settle();
                settle();
                while (client.read()) settle();
                ASSERT_TRUE(client.is_welcomed()) << written << " " << read << " " << how;
                ASSERT_EQ(client.received(), up_to(client.said()))
                    << written << " " << read << " " << how;
            }
    EXPECT_EQ(count(Metric::resume_lost), 0u);
    EXPECT_EQ(gauges().logins_waiting, 0u);
    EXPECT_EQ(gauges().sessions, static_cast<uint64_t>(user));
    for (const auto& at : stages_) at->directory().validate();
}

// One seed, one run: what a client does, when it is cut, where it comes back, and what arrives in
// between, all from it.
TEST_F(Resume, InAThousandRunsNothingIsLostOrDoubledAndTheOrderIsKept) {
    constexpr uint64_t kMessages = 15;
    uint64_t cuts = 0;
    for (uint64_t seed = 1; seed <= scaled(1'000); ++seed) {
        if (seed % 50 == 1) restart(resumable());  // connections that were left are gone
        Random random(seed);
        Client client("u" + std::to_string(seed));
        for (int step = 0; client.received().size() < kMessages; ++step) {
            ASSERT_LT(step, 5'000) << "seed " << seed << " does not end";
            if (!client.is_connected()) {
                client.connect(stage(random.below(kReactors)));
            } else if (step < 400 && random.chance(1, 12)) {
                client.cut(random.below(3));
                ++cuts;
                // A hello that is read behind that of the next connection is the newer login.
                if (!client.was_welcomed()) settle();
            } else if (client.said() < kMessages && random.chance(1, 3)) {
                client.say();
            } else if (random.chance(1, 8)) {
                client.acknowledge();
            } else if (random.chance(1, 2)) {
                client.read();
            } else {
                stage(random.below(kReactors)).settle(random.below(4) * kMillisecond);
            }
        }
        while (client.read()) {
        }
        ASSERT_EQ(client.received(), up_to(kMessages)) << "seed " << seed;
    }
    settle();
    EXPECT_EQ(count(Metric::resume_lost), 0u);
    EXPECT_GT(cuts, scaled(1'000));
    for (const auto& at : stages_) at->directory().validate();
}

TEST_F(Resume, PresenceSaysSuspectMeanwhileAndOfflineOnceItIsOver) {
    Client client("u1");
    client.connect(stage(0));
    settle();
    client.read();
    client.cut(0);
    settle();
    EXPECT_EQ(gauges().resume_held, 1u);
    EXPECT_EQ(gauges().users, 1u);
    EXPECT_EQ(gauges().users_suspect, 1u);
    client.connect(stage(1));
    settle();
    client.read();
    EXPECT_EQ(client.last()["session"], "resumed");
    EXPECT_EQ(changes(), (std::vector{Kind::online, Kind::suspect, Kind::replaced, Kind::well}));
    EXPECT_EQ(count(Metric::resumed), 1u);
    EXPECT_EQ(count(Metric::takeovers), 0u);
    client.cut(0);
    settle();
    for (const auto& at : stages_) at->settle(31 * kSecond);
    EXPECT_EQ(changes().back(), Kind::offline);
    EXPECT_EQ(count(Metric::resume_over), 1u);
    client.connect(stage(2));
    settle();
    const std::string heard = stage(2).heard(client.peer());
    EXPECT_NE(heard.find(R"("resumed":false,"why":"unknown"})"), std::string::npos) << heard;
    EXPECT_EQ(count(Metric::resume_missed), 1u);
}

TEST_F(Resume, WhatTheWindowHasNoMoreTheClientIsTold) {
    LoopOptions small = resumable();
    small.resume_window.messages = 2;
    restart(small);
    Client client("u1");
    client.connect(stage(0));
    settle();
    client.read();
    for (int i = 0; i < 5; ++i) client.say();
    settle();
    client.read();  // the first echo
    const std::string token = client.token();
    client.cut(0);
    settle();
    const size_t peer = stage(1).connect(kLines);
    stage(1).write(peer, R"({"type":"hello","user":"u1","resume":{"token":")" + token +
                             "\",\"last_seq\":1}}\n");
    settle();
    const std::string heard = stage(1).heard(peer);
    EXPECT_NE(heard.find(R"("resumed":true,"received":5,"from":4,"lost":2})"), std::string::npos)
        << heard;
    EXPECT_TRUE(heard.ends_with("{\"type\":\"data\",\"n\":4}\n{\"type\":\"data\",\"n\":5}\n"));
    EXPECT_EQ(count(Metric::resume_dropped_count), 3u);
    EXPECT_EQ(count(Metric::resume_lost), 2u);
    EXPECT_EQ(count(Metric::resume_resent), 2u);
}

// An end that the client or an operator wanted, and another login of its device.
TEST_F(Resume, IsOverWhereItWasEnded) {
    const struct {
        const char* what;
        void (*end)(Resume& test, ReactorStage& stage, size_t peer);
    } ends[] = {
        {"goodbye",
         [](Resume&, ReactorStage& s, size_t peer) { s.write(peer, "{\"type\":\"goodbye\"}\n"); }},
        {"kick",
         [](Resume&, ReactorStage& s, size_t peer) {
             s.post({Message::Kick{s.table().id(*s.index(peer)), CloseReason::kicked}});
         }},
        {"revoked",
         [](Resume&, ReactorStage& s, size_t peer) {
             s.post({Message::Kick{s.table().id(*s.index(peer)), CloseReason::unauthorized}});
         }},
        {"taken over",
         [](Resume&, ReactorStage& s, size_t) {
             s.write(s.connect(kLines), "{\"type\":\"hello\",\"user\":\"u1\"}\n");
         }},
        {"drain", [](Resume&, ReactorStage& s, size_t) { s.reactor().drain(); }},
    };
    for (const auto& each : ends) {
        restart(resumable());
        Client client("u1");
        client.connect(stage(0));
        settle();
        client.read();
        each.end(*this, stage(0), client.peer());
        settle();
        for (const auto& at : stages_) at->settle(15 * kSecond);
        EXPECT_EQ(gauges().resume_held, 0u) << each.what;
        client.cut(0);
        const size_t peer = stage(1).connect(kLines);
        stage(1).write(peer, R"({"type":"hello","user":"u1","resume":{"token":")" +
                                 client.token() + "\"}}\n");
        settle();
        EXPECT_NE(stage(1).heard(peer).find(R"("why":"unknown")"), std::string::npos) << each.what;
    }
}

// A client that gives up a connection may have its goodbye delivered yet.
TEST_F(Resume, AGoodbyeOfAClientThatComesBackEndsTheConnectionAlone) {
    const std::string code("\x0f\xa0", 2);
    const struct {
        size_t listener;
        std::string upgrade, hello, goodbye;
    } clients[] = {
        {kLines, "", "{\"type\":\"hello\",\"user\":\"l\",\"resume\":{}}\n",
         "{\"type\":\"goodbye\",\"code\":4000}\n"},
        {kFrames, "", binary_frame(kBinaryHello, 1, R"({"user":"f","resume":{}})"),
         binary_frame(kBinaryGoodbye, 0, code)},
        {kAuto, upgrade_request(),
         masked(0x81, R"({"type":"hello","user":"w","resume":{}})"), masked(0x88, code)}};
    uint64_t held = 0;
    for (const auto& each : clients) {
        const size_t peer = stage(0).connect(each.listener);
        for (const std::string& words : {each.upgrade, each.hello, each.goodbye}) {
            if (!words.empty()) stage(0).write(peer, words);
            settle();
        }
        EXPECT_EQ(gauges().resume_held, ++held);
        EXPECT_TRUE(stage(0).ended(peer));
    }
}

TEST_F(Resume, ATokenIsOfOneUserAndOneSecret) {
    Client client("u1");
    client.connect(stage(0));
    settle();
    client.read();
    client.cut(0);
    settle();
    std::string wrong = client.token();
    wrong[5] = wrong[5] == '0' ? '1' : '0';
    for (const auto& [user, token] :
         {std::pair<std::string, std::string>{"u2", client.token()}, {"u1x", wrong},
          {"u3", ""}, {"u4", "nonsense"}, {"u5", std::string(40, 'f')}}) {
        const size_t peer = stage(1).connect(kLines);
        stage(1).write(peer, R"({"type":"hello","user":")" + user +
                                 R"(","device":"d","resume":{"token":")" + token + "\"}}\n");
        settle();
        const std::string heard = stage(1).heard(peer);
        EXPECT_NE(heard.find(R"("resumed":false,"why":"unknown"})"), std::string::npos) << heard;
    }
    const size_t same = stage(1).connect(kLines);  // its user, and a secret that is nearly right
    stage(1).write(same, R"({"type":"hello","user":"u1","device":"d","resume":{"token":")" +
                             wrong + "\"}}\n");
    settle();
    EXPECT_NE(stage(1).heard(same).find(R"("why":"unknown")"), std::string::npos);
    client.connect(stage(2));
    settle();
    client.read();
    EXPECT_EQ(client.last()["session"], "resumed") << "it waits all the while";
}

// Of two connections that name one session the last has it.
TEST_F(Resume, OfTwoThatNameItTheLastHasIt) {
    Client client("u1");
    client.connect(stage(0));
    settle();
    client.read();
    const std::string hello =
        R"({"type":"hello","user":"u1","resume":{"token":")" + client.token() + "\"}}\n";
    std::vector<size_t> peers;
    for (size_t reactor = 0; reactor < kReactors; ++reactor) {
        peers.push_back(stage(reactor).connect(kLines));
        stage(reactor).write(peers.back(), hello);
        stage(reactor).settle();
    }
    settle();
    settle();
    int has = 0;
    for (size_t reactor = 0; reactor < kReactors; ++reactor) {
        const std::string& heard = stage(reactor).heard(peers[reactor]);
        has += heard.find("taken_over") == std::string::npos &&
               heard.find("\"resumed\"") != std::string::npos;
    }
    EXPECT_EQ(has, 1);
    EXPECT_EQ(gauges().sessions, 1u);
    EXPECT_EQ(gauges().logins_waiting, 0u);
}

// Under --duplicate reject a client may come back before its old connection is known to be dead.
TEST_F(Resume, IsNotADuplicateOfItself) {
    LoopOptions reject = resumable();
    reject.duplicate.rule = DuplicateRule::reject;
    restart(reject);
    for (size_t reactor = 0; reactor < kReactors; ++reactor) {
        Client client("u" + std::to_string(reactor));
        client.connect(stage(reactor));
        settle();
        client.read();
        client.cut(2);
        client.connect(stage(0));
        settle();
        client.read();
        EXPECT_EQ(client.last()["session"], "resumed");
    }
    EXPECT_EQ(count(Metric::logins_duplicate), 0u);
}

// Else who comes and goes would keep those out that come and stay.
TEST_F(Resume, ThoseThatAreWaitedForGiveWayToALogin) {
    DirectoryConfig directory;
    directory.sessions_max = 2;
    ReactorStage alone({.listen = {"jsonl://10.0.0.1:9000"},
                        .options = resumable(),
                        .directory = directory});
    for (const char* user : {"a", "b", "c", "d"}) {
        const size_t peer = alone.connect(0);
        const std::string hello = std::string("{\"type\":\"hello\",\"user\":\"") + user + "\"";
        const std::string heard = answer(alone, peer, hello + ",\"resume\":{}}\n");
        EXPECT_NE(heard.find("welcome"), std::string::npos) << user << heard;
        alone.close(peer, true);
        alone.settle();
        EXPECT_LE(alone.stats().gauges.resume_held, 2u);
    }
    EXPECT_EQ(alone.metrics()[Metric::resume_over], 2u);
}

TEST_F(Resume, AnAckOfMoreThanWasSentIsAnOffence) {
    Client client("u1");
    client.connect(stage(0));
    settle();
    client.read();
    const std::string one = "{\"type\":\"ack\",\"received\":1}\n";
    const std::string heard = answer(stage(0), client.peer(), one);
    EXPECT_NE(heard.find("'received' is more than was sent"), std::string::npos) << heard;
    client.say();
    settle();
    stage(0).heard(client.peer()).clear();
    EXPECT_EQ(answer(stage(0), client.peer(), one), "");
    EXPECT_EQ(answer(stage(0), client.peer(), "{\"type\":\"ack\"}\n"), "") << "none, which is true";
}

// Binary frames come back with their sequence, and in the other forms as they were.
TEST_F(Resume, EachProtocolIsSentItsOwnFormsAgain) {
    const size_t first = stage(0).connect(kFrames);
    const std::string welcome =
        answer(stage(0), first, binary_frame(kBinaryHello, 1, R"({"user":"b","resume":{}})"));
    settle();
    std::string heard = welcome + stage(0).heard(first);
    const std::string token = Json::parse(heard.substr(8))["resume"]["token"];
    stage(0).write(first, binary_frame(kBinaryData, 77, "seventy") +
                              binary_frame(kBinaryData, 78, "more") +
                              binary_frame(10, 0, std::string("\0\0\0\0\0\0\0\1", 8)));
    settle();
    stage(0).close(first, true);
    settle();
    const std::string hello = R"({"user":"b","resume":{"token":")" + token + R"(","last_seq":1}})";
    const size_t second = stage(1).connect(kFrames);
    stage(1).write(second, binary_frame(kBinaryHello, 2, hello));
    settle();
    EXPECT_TRUE(stage(1).heard(second).ends_with(binary_frame(kBinaryData, 78, "more")));
    EXPECT_EQ(stage(1).heard(second).find("seventy"), std::string::npos);
    // On lines its frames would mean nothing: it begins anew, under the same token.
    stage(1).close(second, true);
    settle();
    const size_t lines = stage(0).connect(kLines);
    stage(0).write(lines, R"({"type":"hello","user":"b","resume":{"token":")" + token + "\"}}\n");
    settle();
    EXPECT_NE(stage(0).heard(lines).find(R"("session":"new")"), std::string::npos);
    EXPECT_NE(stage(0).heard(lines).find(R"("resumed":false,"why":"protocol")"), std::string::npos);
}

TEST_F(Resume, OverWebSocketTextsAndBytesAreTheApplications) {
    const auto join = [this](size_t reactor, const std::string& resume) {
        const size_t peer = stage(reactor).connect(kAuto);
        stage(reactor).write(peer, upgrade_request());
        settle();
        stage(reactor).heard(peer).clear();
        stage(reactor).write(peer, masked(0x81, R"({"type":"hello","user":"w","resume":)" +
                                                    resume + "}"));
        settle();
        return peer;
    };
    const size_t first = join(0, "{}");
    const std::string heard = stage(0).heard(first);
    const std::string token = Json::parse(heard.substr(heard.find('{')))["resume"]["token"];
    stage(0).write(first, masked(0x81, "any text") + masked(0x82, std::string("\0\1", 2)) +
                              masked(0x81, R"({"type":"data","n":1})"));
    settle();
    stage(0).close(first, false);
    settle();
    const size_t second = join(2, R"({"token":")" + token + R"(","last_seq":0})");
    const std::string again = plain(0x81, "any text") + plain(0x82, std::string("\0\1", 2)) +
                              plain(0x81, R"({"type":"data","n":1})");
    EXPECT_TRUE(stage(2).heard(second).ends_with(again));
    EXPECT_NE(stage(2).heard(second).find(R"("received":3,"from":1,"lost":0)"), std::string::npos);
}

}  // namespace
}  // namespace pulse::test
