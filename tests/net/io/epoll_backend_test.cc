// What is the epoll backend's alone: socket options, its fallbacks, its budgets, and what it does
// when any one of its system calls fails.
#include "net/io/epoll_backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "net/io/sockets.h"
#include "net/protocols/listen_uri.h"
#include "net/server/descriptors.h"

#include "tests/net/io/epoll_world.h"
#include "tests/net/io/io_stage.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

using EpollStage = Stage<EpollWorld>;

int option_of(int descriptor, int level, int name) {
    int value = -1;
    socklen_t size_bytes = sizeof(value);
    EXPECT_EQ(getsockopt(descriptor, level, name, &value, &size_bytes), 0);
    return value;
}

void fail_next(EpollBackend& io, int error, uint64_t ahead = 1) {
    io.system_calls().fail_at(io.counters().system_calls + ahead, error);
}

TEST(EpollBackend, WhatIsAcceptedInheritsTheOptionsOfItsListener) {
    const auto records = std::make_unique<Connection[]>(4);
    const SocketOptions wanted{.tcp_keepalive = 40 * kSecond, .tcp_user_timeout = 7 * kSecond};
    EpollBackend io({.sockets = wanted}, records.get(), 4);
    Recorder seen(io, records.get(), 4);
    RealWorld world;
    const ListenAddress address = world.free_address();
    ASSERT_TRUE(io.listen(std::span(&address, 1)));
    RealPeer peer = world.connect(address.address);
    seen.in_poll = true;
    while (seen.all.empty()) io.poll(io.now() + kMillisecond, seen);
    const int accepted = records[seen.all[0].index].descriptor;
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_NODELAY), 1);
    EXPECT_EQ(option_of(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 40);
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT), 7000);
    io.bound_silence(seen.all[0].index, {.tcp_user_timeout = 600 * kSecond});
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 40);
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT), 600'000);
    io.bound_silence(seen.all[0].index, {.tcp_keepalive = 300 * kSecond});
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 300);
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_KEEPINTVL), 75);
    EXPECT_EQ(option_of(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT), 600'000);
    EXPECT_NE(fcntl(accepted, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(fcntl(accepted, F_GETFL) & O_NONBLOCK, 0);
    seen.close(seen.all[0], CloseMode::reset);
    while (seen.live > 0) io.poll(io.now(), seen);
}

// Whether the kernel draws connections to this address by shares. Ends it, for that is how to ask.
bool is_spread(const ListenAddress& address) {
    uint64_t made = 0;
    SystemCalls calls(made);
    const Result<int> opened = open_listener(calls, address, {});
    EXPECT_TRUE(opened);
    const Descriptor in_group(*opened);
    const int ignored = 0;
    return setsockopt(in_group.number(), SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &ignored,
                      sizeof ignored) == 0;
}

TEST(EpollBackend, WhereOneListenerIsNotSpreadNoneIs) {
    const auto records = std::make_unique<Connection[]>(4);
    EpollBackend io({}, records.get(), 4);
    RealWorld world;
    const std::array<ListenAddress, 3> three{world.free_address(), world.free_address(),
                                             world.free_address()};
    ASSERT_TRUE(io.listen(three));
    const std::array<uint32_t, 2> shares{1, 3};
    ASSERT_TRUE(io.spread_accepts(shares));
    for (const ListenAddress& address : three) EXPECT_TRUE(is_spread(address)) << address.text;

    ASSERT_TRUE(io.spread_accepts(shares));
    fail_next(io, ENOMEM, 2);
    const bool is_done = io.spread_accepts(shares);
    const int error = errno;
    EXPECT_FALSE(is_done);
    EXPECT_EQ(error, ENOMEM);
    for (const ListenAddress& address : three) EXPECT_FALSE(is_spread(address)) << address.text;
}

TEST(EpollBackend, AnyAddressTakesBothFamiliesAndNamesEachByItsOwn) {
    if (const Descriptor probe(socket(AF_INET6, SOCK_STREAM, 0)); probe.number() < 0)
        GTEST_SKIP() << "no IPv6 here";
    EpollStage stage;
    stage.address = stage.world.free_address();
    const uint16_t port = stage.address.address.port();
    // The port is held as an IPv4 one; both families are free for a socket that shares.
    stage.address = *parse_listen_uri("tcp://*:" + std::to_string(port));
    const Result<void> listening = stage.io.listen(std::span(&stage.address, 1));
    ASSERT_TRUE(listening) << listening.error();
    for (const char* host : {"127.0.0.1:", "[::1]:"}) {
        stage.address.address = *parse_address(host + std::to_string(port));
        auto one = stage.join();
        EXPECT_EQ(one.seen->peer.text(), one.peer.local().text());
        EXPECT_EQ(one.seen->peer.text().substr(0, std::strlen(host)), host);
    }
    stage.close_all();
}

TEST(EpollBackend, AListenErrorNamesTheRemedy) {
    EpollStage stage;
    const ListenAddress taken = stage.world.taken_address();
    const Result<void> in_use = stage.io.listen(std::span(&taken, 1));
    ASSERT_FALSE(in_use);
    EXPECT_EQ(in_use.error(), "cannot listen on '" + taken.text +
                                  "': Address already in use; stop the program that has this port, "
                                  "choose another, or share it with --share-port");
    const ListenAddress foreign = *parse_listen_uri("tcp://192.0.2.1:9000");
    const Result<void> absent = stage.io.listen(std::span(&foreign, 1));
    ASSERT_FALSE(absent);
    EXPECT_NE(absent.error().find("no interface of this machine"), std::string::npos);
    const std::vector<ListenAddress> many(kListenersMax + 1, stage.world.free_address());
    const Result<void> too_many = stage.io.listen(many);
    ASSERT_FALSE(too_many);
    EXPECT_EQ(too_many.error(), "65 listeners; at most 64 are possible");
    ASSERT_TRUE(stage.io.listen(std::span(many).first(kListenersMax)));
}

TEST(EpollBackend, AConnectThatFailsAtOnceIsReportedByThePoll) {
    EpollStage stage;
    Seen& seen = stage.seen.connect(*parse_address("255.255.255.255:9"), {});
    EXPECT_EQ(seen.connects, 0);
    ASSERT_TRUE(stage.until([&] { return seen.connects == 1; }));
    EXPECT_NE(seen.connect_error, 0);
    stage.close_all();
}

// Urgent data cuts a receive short although more is behind it, which must not wait for an edge.
TEST(EpollBackend, UrgentDataDoesNotHideWhatFollowsIt) {
    EpollStage stage;
    stage.listen();
    auto one = stage.join();
    for (size_t round = 1; round <= 3; ++round) {
        one.peer.write(as_bytes("before"));
        ASSERT_EQ(::send(one.peer.descriptor(), "!", 1, MSG_OOB), 1);
        one.peer.write(as_bytes("behind"));
        stage.world.stall(5 * kMillisecond);
        const size_t expected = 12 * round;
        EXPECT_TRUE(stage.until([&] { return one.seen->bytes.size() == expected; }));
    }
    EXPECT_EQ(one.seen->bytes, "beforebehindbeforebehindbeforebehind");
    EXPECT_LE(stage.polls_within(50 * kMillisecond), 15u);
    stage.close_all();
}

TEST(EpollBackend, WithoutEpollPwait2ItRoundsUpAndStillSleeps) {
    EpollStage stage;
    stage.listen();
    stage.settle();
    fail_next(stage.io, ENOSYS);
    stage.turn(0);
    for (int round = 0; round < 5; ++round) {
        const Nanos until = stage.io.now() + 1'300'000;
        const uint64_t calls = stage.io.counters().system_calls;
        stage.turn(1'300'000);
        EXPECT_GE(stage.io.now(), until) << "rounded down: the loop would spin to its deadline";
        EXPECT_EQ(stage.io.counters().system_calls, calls + 1);
    }
    auto one = stage.join();
    stage.close_all();
}

TEST(EpollBackend, AcceptingPausesWhileMemoryIsShort) {
    EpollStage stage;
    stage.listen();
    stage.settle();
    auto peer = stage.connect();
    stage.world.stall(5 * kMillisecond);
    fail_next(stage.io, ENOMEM, 2);  // the wait, then the accept
    const uint64_t before = stage.io.counters().polls;
    ASSERT_TRUE(stage.until([&] { return stage.io.counters().accept_failures == 1; }));
    const Nanos failed_at = stage.io.now();
    while (stage.seen.accepts == 0 && stage.io.now() < failed_at + 5 * kSecond)
        stage.turn(failed_at + 5 * kSecond - stage.io.now());
    EXPECT_EQ(stage.seen.accepts, 1);
    EXPECT_LE(stage.io.counters().polls - before, 15u) << "it spun";
    EXPECT_GE(stage.io.now() - failed_at, kAcceptRestNs);
    stage.close_all();
}

// However many flood, one poll reads a bounded amount from them, each gets its turn, and
// drained_until moves on, but never past the instant when one that has more was last sent bytes.
TEST(EpollBackend, FloodersShareABudget) {
    constexpr uint32_t kFlooders = 200;
    EpollStage stage(kFlooders);
    stage.listen();
    std::vector<EpollStage::Joined> flooders;
    for (uint32_t i = 0; i < kFlooders; ++i) flooders.push_back(stage.join());
    const std::string flood = pattern(1, 300'000);
    std::vector<size_t> written(kFlooders, 0), given(kFlooders, 0);
    std::vector<Nanos> given_at(kFlooders, 0);
    // A peer that filled the buffer is read on within the budget; all others come back by an event.
    std::vector<bool> more(kFlooders, false), more_before(kFlooders, false);
    size_t bytes = 0, shared_bytes = 0;
    stage.seen.bytes_hook = [&](Seen& seen) {
        const size_t size = seen.bytes.size();
        bytes += size;
        if (more_before[seen.index]) shared_bytes += size;
        more[seen.index] = size == kReceiveBufferBytes;
        given[seen.index] += size;
        given_at[seen.index] = stage.io.clock();
        seen.bytes.clear();
    };
    const Nanos start = stage.io.now();
    size_t most_wanted = 0;
    for (int round = 0; round < 12; ++round) {
        for (auto& each : flooders) written[each.seen->index] += each.peer.write(as_bytes(flood));
        stage.world.stall(kMillisecond);
        more_before = more;
        const auto wanting = static_cast<size_t>(std::ranges::count(more, true));
        most_wanted = std::max(most_wanted, wanting * kReceiveBufferBytes);
        bytes = shared_bytes = 0;
        stage.turn(0);
        EXPECT_GT(bytes, 0u);
        EXPECT_LE(shared_bytes, kFloodBytesPerPoll);
        for (uint32_t i = 0; i < kFlooders; ++i) {
            if (given[i] < written[i]) {
                EXPECT_LE(stage.io.drained_until(), given_at[i]) << i;
            }
        }
    }
    EXPECT_GE(most_wanted, 2 * kFloodBytesPerPoll) << "they never wanted more than the budget";
    for (auto& each : flooders) EXPECT_GE(each.seen->reads, 3);
    EXPECT_GT(stage.io.drained_until(), start);
    stage.close_all();
}

TEST(EpollBackend, AFailedConstructorNamesWhatItLacks) {
    const auto records = std::make_unique<Connection[]>(1);
    RealWorld world;
    std::vector<Descriptor> held;
    world.exhaust();
    const rlim_t full = descriptor_limit();
    int failures = 0;
    for (rlim_t room = 0; room <= 3 + kWatchMarks; ++room) {
        rlimit limit{.rlim_cur = full + room, .rlim_max = 0};
        rlimit hard{};
        getrlimit(RLIMIT_NOFILE, &hard);
        limit.rlim_max = hard.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        const EpollBackend io({}, records.get(), 1);
        if (io.ready()) continue;
        ++failures;
        const std::string error = io.ready().error();
        world.relieve();
        EXPECT_NE(error.find("Too many open files; raise the descriptor limit"), std::string::npos)
            << error;
    }
    world.relieve();
    EXPECT_EQ(failures, 3 + static_cast<int>(kWatchMarks))
        << "an epoll set, a doorbell, marks and a spare";
}

// --------------------------------------------------------------------- fail the Nth system call

// Everything that the backend can do, with a fault somewhere in it. The handler lets go of whatever
// reports an error; nothing may be left over that reports nothing.
class Ordeal {
  public:
    Ordeal() : stage_(16) {
        stage_.seen.end_hook = [&](Seen& seen) { let_go(seen); };
        stage_.seen.connected_hook = [&](Seen& seen) {
            if (seen.connect_error != 0) let_go(seen);
        };
        stage_.seen.sent_hook = [&](Seen& seen) {
            if (seen.sent_error != 0) let_go(seen);
        };
        stage_.seen.bytes_hook = [&](Seen& seen) {
            if (seen.bytes == "ping") stage_.seen.send(seen, "pong");
        };
    }

    void run(uint64_t nth, int error) {
        fail_next(stage_.io, error, nth);
        listen();
        serve();
        choke();
        refuse();
        exhaust();
        dial();
        close_everything();
        // The fault is behind us, or never came: all is as it should be.
        fail_next(stage_.io, 0, UINT64_MAX / 2);
        listen();
        auto one = join();
        one.peer.write(as_bytes("ping"));
        std::string got;
        EXPECT_TRUE(stage_.peer_reads(one.peer, got, 4));
        EXPECT_EQ(got, "pong");
        close_everything();
    }
    uint64_t system_calls() { return stage_.io.counters().system_calls; }

  private:
    void let_go(Seen& seen) {
        if (!seen.close_called) stage_.seen.close(seen, CloseMode::orderly);
    }
    // A second time, if need be: the fault comes once.
    void listen() {
        stage_.address = stage_.world.free_address();
        const bool done = stage_.io.listen(std::span(&stage_.address, 1)) ||
                          stage_.io.listen(std::span(&stage_.address, 1));
        EXPECT_TRUE(done);
    }
    // A second time, too: with no descriptor left the first is refused.
    EpollStage::Joined join() {
        const size_t count = stage_.seen.all.size();
        const int refusals = stage_.seen.refusals;
        EpollStage::Joined joined{stage_.connect(), nullptr};
        EXPECT_TRUE(stage_.until([&] {
            return stage_.seen.all.size() > count || stage_.seen.refusals > refusals;
        })) << "stuck";
        if (stage_.seen.all.size() == count) return stage_.join();
        joined.seen = &stage_.seen.all.back();
        return joined;
    }
    void serve() {
        for (int i = 0; i < 2; ++i) {
            auto one = join();
            one.peer.write(as_bytes("ping"));
            std::string got;
            EXPECT_TRUE(stage_.peer_reads(one.peer, got, 4)) << "stuck";
            EXPECT_TRUE(got == "pong" || one.seen->close_called) << "neither answered nor let go";
            one.peer.finish();
            EXPECT_TRUE(stage_.until([&] { return one.seen->closes == 1; })) << "stuck";
        }
    }
    // A send that falls short, a finish behind it, a peer that reads late.
    void choke() {
        auto one = join();
        static const std::string text = pattern(1, 6 << 20);
        if (one.seen->close_called) return;
        stage_.seen.send(*one.seen, text);
        if (!one.seen->close_called) stage_.io.finish(one.seen->index);
        stage_.settle(kMillisecond);
        std::string got;
        EXPECT_TRUE(stage_.peer_reads_to_end(one.peer, got)) << "stuck";
        EXPECT_TRUE(std::string_view(text).starts_with(got));
        EXPECT_TRUE(got == text || one.seen->close_called);
        one.peer.reset();
        EXPECT_TRUE(stage_.until([&] { return one.seen->close_called; })) << "stuck";
    }
    void refuse() {
        stage_.seen.accept_hook = [&](const Accepted& accepted) {
            stage_.seen.refuse(accepted);
            return true;
        };
        auto peer = stage_.connect();
        std::string got;
        EXPECT_TRUE(stage_.peer_reads_to_end(peer, got)) << "stuck";
        stage_.seen.accept_hook = nullptr;
    }
    void exhaust() {
        auto peer = stage_.connect();
        const int accepts = stage_.seen.accepts;
        stage_.world.exhaust();
        stage_.settle(2 * kMillisecond);
        stage_.world.relieve();
        EXPECT_TRUE(stage_.until([&] { return stage_.seen.accepts > accepts; })) << "stuck";
    }
    void dial() {
        auto listener = stage_.world.open_listener();
        for (const bool alive : {true, false}) {
            Seen& seen =
                stage_.seen.connect(alive ? listener.address() : stage_.world.dead_address(),
                                    stage_.world.source_address());
            EXPECT_TRUE(stage_.until([&] { return seen.connects == 1; })) << "stuck";
        }
    }
    void close_everything() {
        CloseMode mode = CloseMode::reset;
        for (Seen& each : stage_.seen.all) {
            if (!each.close_called) stage_.seen.close(each, mode);
            mode = mode == CloseMode::reset ? CloseMode::orderly : CloseMode::reset;
        }
        EXPECT_TRUE(stage_.until([&] { return stage_.seen.live == 0; })) << "stuck";
        EXPECT_TRUE(stage_.io.listen({}));
    }

    EpollStage stage_;
};

TEST(EpollBackend, AnySystemCallMayFailOnce) {
    const uint64_t baseline = open_descriptors();
    uint64_t runs = 0, first = 1;
    for (const int error : {ENOMEM, EMFILE, EINTR, ECONNABORTED}) {
        // Two errors share the calls between them; a sanitizer samples.
        first = 3 - first;
        for (uint64_t nth = first;; nth += kSlowness > 1 ? 6 : 2) {
            Ordeal ordeal;
            const uint64_t before = ordeal.system_calls();
            ordeal.run(nth, error);
            ++runs;
            ASSERT_FALSE(testing::Test::HasFailure())
                << "system call " << nth << " failed with " << std::strerror(error);
            if (before + nth > ordeal.system_calls()) break;
        }
        EXPECT_EQ(open_descriptors(), baseline) << "a descriptor was lost";
    }
    std::printf("REPORT %llu runs with one failing system call each\n",
                static_cast<unsigned long long>(runs));
}

}  // namespace
}  // namespace pulse::test
