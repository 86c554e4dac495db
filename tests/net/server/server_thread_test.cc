// A whole server in this process: what the main thread asks of reactors that are busy, and reads of
// them, also under ThreadSanitizer.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>

#include "net/protocols/listen_uri.h"
#include "net/server/server.h"

namespace pulse {
namespace {

ServerOptions options_of(BackendChoice backend) {
    ServerOptions options;
    options.listen = {*parse_listen_uri("tcp://127.0.0.1:0")};
    options.backend = backend;
    options.reactors = 2;
    options.max_connections = 100;
    options.max_connections_given = true;
    options.drain_timeout = kSecond;
    options.log_level = LogLevel::debug;
    return options;
}

// A connection, or -1.
int connect_to(const std::string& listener) {
    const Result<ListenAddress> to = parse_listen_uri(listener);
    const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(descriptor, &to->address.base, to->address.size_bytes()) == 0) return descriptor;
    close(descriptor);
    return -1;
}

// ThreadSanitizer takes equal numbers in two descriptor tables for one descriptor: under it, and so
// here at least, the reactors share one.
Result<ServerPlan> plan_of(BackendChoice backend) {
    Result<ServerPlan> plan = plan_server(options_of(backend));
#if defined(PULSE_TSAN)
    if (plan) plan->own_tables = false;
#endif
    return plan;
}

// A server that does not stop ends the test instead of holding it up: the alarm kills the process.
class ServerThreads : public testing::TestWithParam<BackendChoice> {
  protected:
    ServerThreads() { alarm(60); }
    ~ServerThreads() override { alarm(0); }
};

bool ended_within(Server& server, Nanos most) {
    for (Nanos waited = 0; waited < most; waited += kSecond / 4)
        if (server.ended(kSecond / 4)) return true;
    return false;
}

// What feeds a service manager's watchdog: reactors that sleep acknowledge, too.
TEST_P(ServerThreads, EveryReactorAcknowledgesACheck) {
    const Result<ServerPlan> plan = plan_of(GetParam());
    ASSERT_TRUE(plan) << plan.error();
    const auto server = Server::start(*plan);
    ASSERT_TRUE(server) << server.error();
    EXPECT_EQ((*server)->connections(), 0u);
    EXPECT_EQ((*server)->connections_max(), 100u);
    for (int i = 0; i < 20; ++i) {
        (*server)->check();
        while ((*server)->deliver() > 0) usleep(1'000);
    }
    (*server)->stop();
    EXPECT_TRUE(ended_within(**server, 10 * kSecond));
}

// The log sink of one reactor blocks, as if the reactor were stuck, while it is sent 92 reloads.
// Then it runs again.
TEST_P(ServerThreads, ReloadsWhileAReactorIsStuckAreReducedToTheLast) {
    const Result<ServerPlan> plan = plan_of(GetParam());
    ASSERT_TRUE(plan) << plan.error();
    std::mutex gate;
    std::atomic<int> lines{0};
    std::unique_lock closed(gate);
    const auto server = Server::start(*plan, [&](const std::string&) {
        ++lines;
        const std::lock_guard pass(gate);
    });
    ASSERT_TRUE(server) << server.error();
    const int peer = connect_to((*server)->listening()[0]);
    ASSERT_GE(peer, 0);
    while (lines == 0) usleep(1'000);
    ServerOptions options = plan->options;
    for (int second = 31; second <= 120; ++second) {
        options.heartbeat_interval = second * kSecond;
        options.heartbeat_timeout = 3 * options.heartbeat_interval;
        (*server)->reload(options);
    }
    // Of every profile, not only of the flags' own.
    options.liveness = Liveness::roundtrip;
    (*server)->reload(options);
    options.log_level = LogLevel::info;
    (*server)->reload(options);
    // The other reactor handles its own.
    while ((*server)->deliver() > 1) usleep(1'000);
    EXPECT_EQ((*server)->deliver(), 1u);
    const ServerStats& before = (*server)->stats();
    EXPECT_EQ(before.reactors.size(), 2u);
    closed.unlock();
    while ((*server)->deliver() > 0) usleep(1'000);
    (*server)->drain();
    // The peer lingers: the drain ends it all the same.
    ASSERT_TRUE(ended_within(**server, 20 * kSecond)) << "the drain was lost";
    EXPECT_FALSE((*server)->drain_cut_short());
    const ServerStats& after = (*server)->stats();
    EXPECT_EQ(after.total.metrics[Metric::accepted], 1u);
    EXPECT_EQ(lines, 1) << "the log level of the last reload is in force when the peer ends";
    for (const ReactorStats& reactor : after.reactors) {
        if (reactor.metrics[Metric::accepted] == 0) continue;
        // The first reload, the last, the drain, and a snapshot.
        EXPECT_EQ(reactor.metrics[Metric::control_messages], 4u);
    }
    // Orders to a reactor that has ended wait for nothing.
    for (uint32_t i = 0; i <= kMailboxSlots; ++i) (*server)->reload(options);
    EXPECT_EQ((*server)->deliver(), 0u);
    close(peer);
}

// Its sessions may be in those that it knows; others are left for two changes of 15 policies.
TEST_P(ServerThreads, CohortsThatAStuckReactorKnowsAreNotGivenToOtherPolicies) {
    const Result<ServerPlan> plan = plan_of(GetParam());
    ASSERT_TRUE(plan) << plan.error();
    std::mutex gate;
    std::atomic<int> lines{0};
    std::unique_lock closed(gate);
    const auto server = Server::start(*plan, [&](const std::string&) {
        ++lines;
        const std::lock_guard pass(gate);
    });
    ASSERT_TRUE(server) << server.error();
    const int peer = connect_to((*server)->listening()[0]);
    ASSERT_GE(peer, 0);
    while (lines == 0) usleep(1'000);
    ServerOptions options = plan->options;
    options.log_level = LogLevel::info;
    const auto change_to = [&](int round) {
        options.policies.clear();
        for (uint32_t i = 0; i < kPoliciesMax; ++i)
            options.policies.push_back(
                {.text = std::to_string(round) + "." + std::to_string(i), .labels = {"a=b"}});
        const bool has_room = (*server)->has_cohorts_for(options.policies);
        if (has_room) (*server)->reload(options);
        return has_room;
    };
    EXPECT_TRUE(change_to(1));
    EXPECT_TRUE(change_to(2));
    EXPECT_FALSE(change_to(3));
    closed.unlock();
    while ((*server)->deliver() > 0) usleep(1'000);
    for (int round = 3; round < 20; ++round) {
        EXPECT_TRUE(change_to(round));
        while ((*server)->deliver() > 0) usleep(1'000);
    }
    (*server)->stop();
    EXPECT_TRUE(ended_within(**server, 10 * kSecond));
    close(peer);
}

TEST_P(ServerThreads, WhatWasStartedStopsWithTheServer) {
    const Result<ServerPlan> plan = plan_of(GetParam());
    ASSERT_TRUE(plan) << plan.error();
    int peer = -1;
    {
        const auto server = Server::start(*plan, [](const std::string&) {});
        ASSERT_TRUE(server) << server.error();
        peer = connect_to((*server)->listening()[0]);
        ASSERT_GE(peer, 0);
        while ((*server)->stats().total.gauges.live == 0) usleep(1'000);
    }
    char byte = 0;
    EXPECT_LE(recv(peer, &byte, 1, 0), 0) << "reset";
    close(peer);
}

// It has not handled what it was asked for when the server goes: the stop follows.
TEST_P(ServerThreads, AReactorThatIsStuckForAWhileStopsWithTheServer) {
    const Result<ServerPlan> plan = plan_of(GetParam());
    ASSERT_TRUE(plan) << plan.error();
    std::atomic<int> lines{0};
    std::atomic<bool> stuck{true};
    std::thread opener;
    int peer = -1;
    {
        const auto server = Server::start(*plan, [&](const std::string&) {
            ++lines;
            while (stuck) usleep(1'000);
        });
        ASSERT_TRUE(server) << server.error();
        peer = connect_to((*server)->listening()[0]);
        while (lines == 0) usleep(1'000);
        ServerOptions options = plan->options;
        for (uint32_t i = 0; i <= kMailboxSlots; ++i) {
            options.heartbeat_timeout += kSecond;
            (*server)->reload(options);
        }
        EXPECT_GT((*server)->deliver(), 0u);
        opener = std::thread([&] {
            usleep(200'000);
            stuck = false;
        });
    }
    opener.join();
    close(peer);
}

INSTANTIATE_TEST_SUITE_P(Backends, ServerThreads,
                         testing::Values(BackendChoice::epoll, BackendChoice::io_uring),
                         [](const auto& test) {
                             return test.param == BackendChoice::epoll ? "epoll" : "io_uring";
                         });

}  // namespace
}  // namespace pulse
