// Tokens at a whole server of two reactors over real sockets, on each backend: logins, and a
// revocation that reaches each reactor. Also runs under ThreadSanitizer.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/auth/key_file.h"
#include "net/protocols/listen_uri.h"
#include "net/server/server.h"

#include "tests/support/tokens.h"

namespace pulse::test {
namespace {

// A peer that speaks lines of JSON.
class Peer {
  public:
    Peer(const std::string& uri, const std::string& token) {
        const Result<ListenAddress> to = parse_listen_uri(uri);
        socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT_EQ(connect(socket_, &to->address.base, to->address.size_bytes()), 0);
        const std::string hello = R"({"type":"hello","token":")" + token + "\"}\n";
        EXPECT_EQ(send(socket_, hello.data(), hello.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(hello.size()));
    }
    Peer(Peer&& other) noexcept
        : socket_(std::exchange(other.socket_, -1)), heard_(std::move(other.heard_)) {}
    ~Peer() {
        if (socket_ >= 0) ::close(socket_);
    }
    bool heard(std::string_view words) {
        char window[4'096];
        ssize_t bytes;
        while ((bytes = recv(socket_, window, sizeof window, MSG_DONTWAIT)) > 0)
            heard_.append(window, static_cast<size_t>(bytes));
        return heard_.find(words) != std::string::npos;
    }

  private:
    int socket_ = -1;
    std::string heard_;
};

template <class Holds>
bool wait_for(Holds&& holds) {
    for (int left = 3'000; left > 0; --left) {
        if (holds()) return true;
        usleep(10'000);
    }
    return false;
}

class AuthThreads : public testing::TestWithParam<BackendChoice> {};

TEST_P(AuthThreads, ARevocationReachesEachReactor) {
    const Issuer issuer(Issuer::Kind::es256);
    ServerOptions options;
    options.listen = {*parse_listen_uri("jsonl://127.0.0.1:0")};
    options.backend = GetParam();
    options.reactors = 2;
    options.max_connections = 1'000;
    options.max_connections_given = true;
    Result<ServerPlan> plan = plan_server(options);
    ASSERT_TRUE(plan) << plan.error();
    auto credentials = std::make_shared<Credentials>();
    credentials->keys = parse_key_file(issuer.key_file())->keys;
    plan->options.credentials = credentials;
#if defined(PULSE_TSAN)
    plan->own_tables = false;  // it takes equal numbers in two tables for one descriptor
#endif
    Result<std::unique_ptr<Server>> started = Server::start(*plan);
    ASSERT_TRUE(started) << started.error();
    Server& server = **started;
    std::vector<Peer> revoked, others;
    for (int number = 0; number < 20; ++number) {
        const auto token = [&](const char* id) {
            return issuer.token(R"({"sub":"user)" + std::to_string(number) + R"(","device":")" +
                                id + R"(","jti":")" + id + "\"}");
        };
        revoked.emplace_back(server.listening()[0], token("t-1"));
        others.emplace_back(server.listening()[0], token("t-2"));
    }
    for (auto* peers : {&revoked, &others})
        for (Peer& peer : *peers) ASSERT_TRUE(wait_for([&] { return peer.heard("welcome"); }));
    server.revoke("t-1");
    server.revoke("t-0");
    for (Peer& peer : revoked) EXPECT_TRUE(wait_for([&] { return peer.heard("revoked: "); }));
    EXPECT_TRUE(wait_for([&] { return server.deliver() == 0; }));
    const MetricsSnapshot metrics = server.stats().total.metrics;
    EXPECT_EQ(metrics[Metric::closed_by_revocation], 20u);
    EXPECT_EQ(metrics[Metric::tokens_accepted], 40u);
    for (Peer& peer : others) EXPECT_FALSE(peer.heard("revoked"));
    server.stop();
    EXPECT_TRUE(wait_for([&] {
        server.deliver();
        return server.ended(0);
    }));
}

INSTANTIATE_TEST_SUITE_P(Backends, AuthThreads,
                         testing::Values(BackendChoice::epoll, BackendChoice::io_uring),
                         [](const auto& tested) {
                             return tested.param == BackendChoice::epoll ? "epoll" : "io_uring";
                         });

}  // namespace
}  // namespace pulse::test
