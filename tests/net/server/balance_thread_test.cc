// Reactors of a server in this process stay even, whatever the kernel's hash makes of the source
// addresses: four of each, over loopback, on each backend.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "net/protocols/listen_uri.h"
#include "net/server/server.h"

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer believes that all threads share one descriptor table (tests/README.md).
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:net/io/system_calls.h"; }
#endif

namespace pulse {
namespace {

constexpr uint32_t kReactors = 4;
constexpr uint32_t kSources = 4;
constexpr uint32_t kHeld = 1'200;

struct Peer {
    int descriptor = -1;
    uint32_t reactor = 0;
};

class EvenReactors : public testing::TestWithParam<BackendChoice> {
  protected:
    EvenReactors() { alarm(120); }
    ~EvenReactors() override {
        for (const Peer& peer : peers_) close(peer.descriptor);
        alarm(0);
    }

    void start(const std::string& listener, uint64_t max_connections = 10'000) {
        ServerOptions options;
        options.listen = {*parse_listen_uri(listener)};
        options.backend = GetParam();
        options.reactors = kReactors;
        options.max_connections = max_connections;
        options.max_connections_given = true;
        Result<ServerPlan> plan = plan_server(options);
        if (!plan && GetParam() == BackendChoice::io_uring) GTEST_SKIP() << plan.error();
        ASSERT_TRUE(plan) << plan.error();
#if defined(PULSE_TSAN)
        plan->own_tables = false;
#endif
        auto server = Server::start(*plan, {}, [this](const std::string& line) {
            const std::lock_guard lock(mutex_);
            warnings_.push_back(line);
        });
        ASSERT_TRUE(server) << server.error();
        server_ = std::move(*server);
        to_ = parse_listen_uri(server_->listening()[0])->address;
        if (to_.base.sa_family == AF_INET6) {
            SocketAddress v4 = *parse_address("127.0.0.1:0");
            v4.set_port(to_.port());
            to_ = v4;
        }
    }

    // One more connection, and which reactor has it, by the name that its welcome has.
    Peer connect_one() {
        Peer peer{.descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        SocketAddress source =
            *parse_address("127.0.0." + std::to_string(1 + next_source_++ % kSources) + ":0");
        const timeval patience{.tv_sec = 20, .tv_usec = 0};
        setsockopt(peer.descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        EXPECT_EQ(bind(peer.descriptor, &source.base, source.size_bytes()), 0);
        EXPECT_EQ(::connect(peer.descriptor, &to_.base, to_.size_bytes()), 0);
        constexpr std::string_view kHello = "{\"type\":\"hello\"}\n";
        EXPECT_EQ(send(peer.descriptor, kHello.data(), kHello.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(kHello.size()));
        char words[512] = {};
        // With a timeout it is not begun again where the kernel interrupts it, for a ring's sake.
        ssize_t heard = -1;
        do {
            heard = recv(peer.descriptor, words, sizeof words - 1, 0);
        } while (heard < 0 && errno == EINTR);
        const std::string_view text(words, heard > 0 ? static_cast<size_t>(heard) : 0);
        constexpr std::string_view kName = "\"conn\":\"r";
        const size_t name = text.find(kName);
        EXPECT_NE(name, text.npos) << text << " " << heard << " " << std::strerror(errno);
        if (name == text.npos) return peer;
        std::from_chars(text.data() + name + kName.size(), text.data() + text.size(), peer.reactor);
        return peer;
    }
    void connect(uint32_t count) {
        for (uint32_t i = 0; i < count; ++i) peers_.push_back(connect_one());
    }
    uint32_t held_by(uint32_t reactor) const {
        return static_cast<uint32_t>(
            std::ranges::count(peers_, reactor, [](const Peer& peer) { return peer.reactor; }));
    }
    double imbalance() const {
        uint32_t most = 0;
        for (uint32_t reactor = 0; reactor < kReactors; ++reactor)
            most = std::max(most, held_by(reactor));
        return static_cast<double>(most) * kReactors / static_cast<double>(peers_.size());
    }
    void close_some_of(uint32_t reactor, uint32_t count) {
        std::erase_if(peers_, [&](const Peer& peer) {
            if (count == 0 || peer.reactor != reactor) return false;
            --count;
            close(peer.descriptor);
            return true;
        });
        wait_for_server();
    }
    void wait_for_server() {
        for (int left = 2'000; left > 0; --left) {
            if (server_->stats().total.gauges.live == peers_.size()) return;
            usleep(5'000);
        }
        FAIL() << server_->stats().total.gauges.live << " of " << peers_.size() << " are open";
    }

    std::unique_ptr<Server> server_;
    SocketAddress to_;
    std::vector<Peer> peers_;
    uint32_t next_source_ = 0;
    std::mutex mutex_;
    std::vector<std::string> warnings_;
};

TEST_P(EvenReactors, OfFewSourceAddresses) {
    start("jsonl://127.0.0.1:0");
    if (server_ == nullptr) return;
    connect(kHeld);
    EXPECT_LE(imbalance(), 1.1);
    wait_for_server();
    EXPECT_NEAR(server_->stats().imbalance(), imbalance(), 1e-9);
    // A third of one reactor's leaves for good, and as many come.
    const uint32_t leave = held_by(1) / 3;
    close_some_of(1, leave);
    const uint32_t before = held_by(1);
    connect(leave);
    EXPECT_LE(imbalance(), 1.1);
    EXPECT_GT(held_by(1) - before, leave / kReactors) << "more than its part of them";
    connect(kHeld);
    EXPECT_LE(imbalance(), 1.06);
    EXPECT_TRUE(warnings_.empty()) << warnings_.front();
}

TEST_P(EvenReactors, OnAnyAddress) {
    start("jsonl://*:0");
    if (server_ == nullptr) return;
    connect(kHeld);
    close_some_of(0, held_by(0) / 2);
    close_some_of(3, held_by(3) / 2);
    connect(kHeld / 2);
    EXPECT_LE(imbalance(), 1.1);
}

TEST_P(EvenReactors, ADrainEndsAll) {
    start("jsonl://127.0.0.1:0");
    if (server_ == nullptr) return;
    connect(200);
    close_some_of(2, held_by(2));
    connect(100);
    server_->drain();
    for (const Peer& peer : peers_) shutdown(peer.descriptor, SHUT_RDWR);
    EXPECT_TRUE(server_->ended(30 * kSecond));
}

INSTANTIATE_TEST_SUITE_P(Backends, EvenReactors,
                         testing::Values(BackendChoice::epoll, BackendChoice::io_uring),
                         [](const auto& test) {
                             return test.param == BackendChoice::epoll ? "epoll" : "io_uring";
                         });

}  // namespace
}  // namespace pulse
