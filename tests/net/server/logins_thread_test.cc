// Logins at a whole server over real sockets, raced from several threads over two reactors, which
// also runs under ThreadSanitizer.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "net/protocols/listen_uri.h"
#include "net/server/server.h"
#include "proto/endian.h"
#include "proto/limits.h"

namespace pulse {
namespace {

constexpr uint8_t kHello = 3, kWelcome = 4, kGoodbye = 6;

// A peer that speaks binary frames.
class Peer {
  public:
    explicit Peer(const std::string& uri) {
        const Result<ListenAddress> to = parse_listen_uri(uri);
        socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(socket_, &to->address.base, to->address.size_bytes()) != 0) close_now();
    }
    Peer(Peer&& other) noexcept { *this = std::move(other); }
    Peer& operator=(Peer&& other) noexcept {
        std::swap(user, other.user);
        std::swap(welcomed, other.welcomed);
        std::swap(goodbye, other.goodbye);
        std::swap(socket_, other.socket_);
        std::swap(heard_, other.heard_);
        return *this;
    }
    ~Peer() { close_now(); }

    bool hello(const std::string& as, bool may_resume = false) {
        user = as;
        const std::string object = R"({"user":")" + as + R"(","device":"d")" +
                                   (may_resume ? R"(,"resume":{}})" : "}");
        std::string frame(kBinaryHeaderBytes, '\0');
        auto* header = reinterpret_cast<uint8_t*>(frame.data());
        header[0] = 0xB7;
        header[1] = kHello;
        store_be16(header + 2, static_cast<uint16_t>(object.size()));
        frame += object;
        return send(socket_, frame.data(), frame.size(), MSG_NOSIGNAL) ==
               static_cast<ssize_t>(frame.size());
    }
    // What has come meanwhile.
    void look() {
        char window[4'096];
        ssize_t bytes;
        while (socket_ >= 0 && (bytes = recv(socket_, window, sizeof window, MSG_DONTWAIT)) > 0)
            heard_.append(window, static_cast<size_t>(bytes));
        while (heard_.size() >= kBinaryHeaderBytes) {
            const auto* header = reinterpret_cast<const uint8_t*>(heard_.data());
            const size_t size = kBinaryHeaderBytes + load_be16(header + 2);
            if (heard_.size() < size) return;
            welcomed |= header[1] == kWelcome;
            if (header[1] == kGoodbye) goodbye = load_be16(header + kBinaryHeaderBytes);
            heard_.erase(0, size);
        }
    }
    void close_now() {
        if (socket_ >= 0) ::close(std::exchange(socket_, -1));
    }

    std::string user;
    bool welcomed = false;
    uint16_t goodbye = 0;

  private:
    int socket_ = -1;
    std::string heard_;
};

class LoginThreads : public testing::TestWithParam<BackendChoice> {
  protected:
    LoginThreads() { alarm(120); }  // one that does not stop ends the test
    ~LoginThreads() override { alarm(0); }
    void start(ServerOptions options = {}) {
        options.listen = {*parse_listen_uri("tcp://127.0.0.1:0")};
        options.backend = GetParam();
        options.reactors = 2;
        options.max_connections = 4'000;
        options.max_connections_given = true;
        options.drain_timeout = kSecond;
        Result<ServerPlan> plan = plan_server(options);
        ASSERT_TRUE(plan) << plan.error();
#if defined(PULSE_TSAN)
        plan->own_tables = false;  // it takes equal numbers in two tables for one descriptor
#endif
        Result<std::unique_ptr<Server>> started = Server::start(*plan);
        ASSERT_TRUE(started) << started.error();
        server_ = std::move(*started);
    }
    Peer connect() { return Peer(server_->listening()[0]); }
    // Until it holds, or half a minute.
    template <class Holds>
    bool wait_for(Holds&& holds) {
        for (int left = 3'000; left > 0; --left) {
            if (holds(server_->stats().total)) return true;
            usleep(10'000);
        }
        return false;
    }
    bool end(bool drains) {
        if (drains)
            server_->drain();
        else
            server_->stop();
        for (int left = 3'000; left > 0; --left) {
            server_->deliver();
            if (server_->ended(10 * kMillisecond)) return true;
        }
        return false;
    }
    std::unique_ptr<Server> server_;
};

// Each user is logged in by 20 peers, from four threads. One of them stays, whichever it is.
TEST_P(LoginThreads, OfAThousandRacingLoginsOneOwnerEachIsLeft) {
    constexpr int kThreads = 4, kEach = 250, kUsers = 50;
    start();
    std::vector<std::vector<Peer>> crowds(kThreads);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            for (int number = 0; number < kEach; ++number) {
                Peer peer = connect();
                EXPECT_TRUE(peer.hello("user" + std::to_string((thread + number) % kUsers)));
                crowds[static_cast<size_t>(thread)].push_back(std::move(peer));
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    // Those that were taken over have their goodbye and wait for ours.
    std::map<std::string, int> owners;
    const bool settled = wait_for([&](const ReactorStats& total) {
        owners.clear();
        int pending = 0;
        for (std::vector<Peer>& crowd : crowds)
            for (Peer& peer : crowd) {
                peer.look();
                pending += !peer.welcomed;
                if (peer.goodbye == 0) ++owners[peer.user];
            }
        int all = 0;
        for (const auto& [user, count] : owners) all += count;
        return pending == 0 && all == kUsers && total.gauges.logins_waiting == 0;
    });
    EXPECT_TRUE(settled);
    EXPECT_EQ(owners.size(), static_cast<size_t>(kUsers));
    for (const auto& [user, count] : owners) EXPECT_EQ(count, 1) << user;
    for (std::vector<Peer>& crowd : crowds)
        for (Peer& peer : crowd)
            EXPECT_TRUE(peer.goodbye == 0 || peer.goodbye == 4'008) << peer.goodbye;
    const ReactorStats& total = server_->stats().total;
    EXPECT_EQ(total.metrics[Metric::logins], uint64_t{kThreads * kEach});
    EXPECT_EQ(total.metrics[Metric::takeovers], uint64_t{kThreads * kEach - kUsers});
    EXPECT_EQ(total.gauges.sessions, uint64_t{kUsers});
    EXPECT_EQ(total.gauges.users, uint64_t{kUsers});
    for (const ReactorStats& reactor : server_->stats().reactors)
        EXPECT_GT(reactor.gauges.users, 0u) << "users are spread over the shards";
    // The late ends of the old ones end nothing.
    for (std::vector<Peer>& crowd : crowds)
        for (Peer& peer : crowd)
            if (peer.goodbye != 0) peer.close_now();
    EXPECT_TRUE(
        wait_for([&](const ReactorStats& now) { return now.gauges.live == uint64_t{kUsers}; }));
    EXPECT_EQ(server_->stats().total.gauges.sessions, uint64_t{kUsers});
    ASSERT_TRUE(end(true));
    EXPECT_EQ(server_->stats().total.gauges.sessions, 0u);
    EXPECT_EQ(server_->stats().total.gauges.users, 0u);
}

// A client of a session that it resumes, on blocking sockets; a frame that does not come within ten
// seconds fails it.
class Resumer {
  public:
    Resumer(std::string uri, std::string user) : uri_(std::move(uri)), user_(std::move(user)) {}
    ~Resumer() { cut(true); }

    bool connect() {
        const Result<ListenAddress> to = parse_listen_uri(uri_);
        socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const timeval patience{.tv_sec = 10, .tv_usec = 0};
        setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (::connect(socket_, &to->address.base, to->address.size_bytes()) != 0) return false;
        const std::string resume = token_.empty()
                                       ? std::string()
                                       : R"("token":")" + token_ + R"(","last_seq":)" +
                                             std::to_string(heard_);
        write(kHello, R"({"user":")" + user_ + R"(","resume":{)" + resume + "}}");
        const std::string welcome = read(kWelcome);
        const auto after = [&welcome](std::string_view key) {
            const size_t at = welcome.find(key);
            return at == std::string::npos ? std::string() : welcome.substr(at + key.size());
        };
        if (!token_.empty() && after("\"resumed\":true").empty()) return false;
        token_ = after(R"("token":")").substr(0, 40);
        if (const std::string received = after("\"received\":"); !received.empty())
            sent_ = std::stoull(received);
        return token_.size() == 40;
    }
    // Sends all up to `number` that the server does not have.
    void send_up_to(uint64_t number) {
        while (sent_ < number) write(kData, std::to_string(++sent_));
    }
    // The next echo is the next number.
    bool hear() {
        if (read(kData) != std::to_string(heard_ + 1)) return false;
        ++heard_;
        return true;
    }
    uint64_t heard() const { return heard_; }
    void cut(bool resets) {
        const linger at_once{.l_onoff = 1, .l_linger = 0};
        if (resets && socket_ >= 0)
            setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        if (socket_ >= 0) ::close(std::exchange(socket_, -1));
    }

  private:
    static constexpr uint8_t kData = 5;

    void write(uint8_t type, const std::string& payload) {
        std::string frame(kBinaryHeaderBytes, '\0');
        auto* header = reinterpret_cast<uint8_t*>(frame.data());
        header[0] = 0xB7;
        header[1] = type;
        store_be16(header + 2, static_cast<uint16_t>(payload.size()));
        frame += payload;
        (void)!send(socket_, frame.data(), frame.size(), MSG_NOSIGNAL);
    }
    bool receive(void* to, size_t bytes) {
        return bytes == 0 ||
               recv(socket_, to, bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes);
    }
    // The payload of the next frame of this type; empty: none came.
    std::string read(uint8_t type) {
        uint8_t header[kBinaryHeaderBytes];
        std::string payload;
        do {
            if (!receive(header, sizeof header)) return {};
            payload.resize(load_be16(header + 2));
            if (!receive(payload.data(), payload.size())) return {};
        } while (header[1] != type);
        return payload;
    }

    std::string uri_, user_, token_;
    int socket_ = -1;
    uint64_t sent_ = 0, heard_ = 0;
};

// Each is cut in the middle of its messages, again and again, and comes back to whichever reactor
// accepts it; also while its old connection still lives. What comes back is each number, once.
TEST_P(LoginThreads, AClientThatResumesLosesNothingWhicheverReactorItComesTo) {
    constexpr uint64_t kThreads = 3, kEach = 4, kCuts = 12, kBetween = 7;
    ServerOptions options;
    options.on_message = OnMessage::echo;
    options.resume_hold = 60 * kSecond;
    start(options);
    const std::string uri = server_->listening()[0];
    std::atomic<uint64_t> whole{0};
    std::vector<std::thread> threads;
    for (uint64_t thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            for (uint64_t client = 0; client < kEach; ++client) {
                const std::string user = "u" + std::to_string(thread * kEach + client);
                Resumer resumer(uri, user);
                bool fine = resumer.connect();
                for (uint64_t cut = 1; fine && cut <= kCuts; ++cut) {
                    resumer.send_up_to(cut * kBetween);
                    for (uint64_t i = 0; fine && i < cut % kBetween; ++i) fine = resumer.hear();
                    resumer.cut(cut % 2 == 0);
                    fine = fine && resumer.connect();
                }
                resumer.send_up_to(kCuts * kBetween);
                while (fine && resumer.heard() < kCuts * kBetween) fine = resumer.hear();
                whole += fine;
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(whole, kThreads * kEach);
    const ReactorStats& total = server_->stats().total;
    EXPECT_EQ(total.metrics[Metric::resumed], kThreads * kEach * kCuts);
    EXPECT_EQ(total.metrics[Metric::resume_missed], 0u);
    EXPECT_EQ(total.metrics[Metric::resume_lost], 0u);
    ASSERT_TRUE(end(true));
    EXPECT_EQ(server_->stats().total.gauges.sessions, 0u);
    EXPECT_EQ(server_->stats().total.gauges.resume_held, 0u);
}

TEST_P(LoginThreads, AStopInTheMiddleOfLoginsLosesNoReport) {
    ServerOptions options;
    options.resume_hold = 60 * kSecond;
    for (const bool drains : {false, true}) {
        start(options);
        std::atomic<bool> stopping{false};
        std::vector<std::thread> threads;
        for (int thread = 0; thread < 3; ++thread) {
            threads.emplace_back([&, thread] {
                std::vector<Peer> peers;
                for (int number = 0; !stopping && number < 3'000; ++number) {
                    Peer peer = connect();
                    peer.hello("user" + std::to_string(number % 97 + thread), number % 2 == 0);
                    peer.look();
                    if (number % 3 == 0) peer.close_now();
                    peers.push_back(std::move(peer));
                    if (peers.size() > 200) peers.erase(peers.begin(), peers.begin() + 100);
                }
            });
        }
        EXPECT_TRUE(
            wait_for([](const ReactorStats& now) { return now.metrics[Metric::logins] > 200; }));
        EXPECT_TRUE(end(drains));
        stopping = true;
        for (std::thread& thread : threads) thread.join();
        const ReactorStats& total = server_->stats().total;
        EXPECT_EQ(total.gauges.sessions, 0u);
        EXPECT_EQ(total.gauges.logins_waiting, 0u);
        EXPECT_EQ(total.metrics[Metric::accepted], total.metrics[Metric::closed]);
        server_.reset();
    }
}

TEST_P(LoginThreads, OneThatStaysKeepsItsUserUnderReject) {
    ServerOptions options;
    options.duplicate.rule = DuplicateRule::reject;
    start(options);
    std::vector<Peer> peers;
    for (int number = 0; number < 40; ++number) {
        peers.push_back(connect());
        ASSERT_TRUE(peers.back().hello("u1"));
        if (number > 0) continue;
        EXPECT_TRUE(
            wait_for([](const ReactorStats& now) { return now.metrics[Metric::logins] == 1; }));
    }
    EXPECT_TRUE(wait_for(
        [](const ReactorStats& now) { return now.metrics[Metric::logins_duplicate] == 39; }));
    EXPECT_TRUE(wait_for([&](const ReactorStats&) {
        size_t refused = 0;
        for (Peer& peer : peers) {
            peer.look();
            refused += peer.goodbye == 4'009;
        }
        return refused == 39;
    }));
    EXPECT_TRUE(peers[0].welcomed);
    EXPECT_EQ(peers[0].goodbye, 0);
    EXPECT_EQ(server_->stats().total.gauges.sessions, 1u);
    ASSERT_TRUE(end(false));
}

INSTANTIATE_TEST_SUITE_P(Backends, LoginThreads,
                         testing::Values(BackendChoice::epoll, BackendChoice::io_uring),
                         [](const auto& test) {
                             return test.param == BackendChoice::epoll ? "epoll" : "io_uring";
                         });

}  // namespace
}  // namespace pulse
