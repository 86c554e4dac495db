// Descriptor tables of threads, and the limit on each.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "net/server/descriptors.h"

namespace pulse {
namespace {

int open_one() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST(Descriptors, AreCounted) {
    const uint64_t before = open_descriptors();
    EXPECT_GE(before, 3u);
    const int one = open_one();
    EXPECT_EQ(open_descriptors(), before + 1);
    ::close(one);
    EXPECT_EQ(open_descriptors(), before);
}

TEST(Descriptors, TheSoftLimitIsRaisedToTheHardOne) {
    rlimit limit{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const rlim_t hard = limit.rlim_max;
    limit.rlim_cur = 64;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT_EQ(descriptor_limit(), 64u);
    EXPECT_EQ(raise_descriptor_limit(), hard);
    EXPECT_EQ(descriptor_limit(), hard);
}

TEST(Descriptors, AThreadWithItsOwnTableIsAlone) {
    const int shared = open_one();
    const uint64_t before = open_descriptors();
    int own = -1;
    std::thread([&] {
        const Result<void> alone = own_descriptor_table();
        ASSERT_TRUE(alone) << alone.error();
        EXPECT_EQ(open_descriptors(), before);
        own = open_one();
        EXPECT_EQ(open_descriptors(), before + 1);
        ::close(shared);  // of the copy
    }).join();
    EXPECT_EQ(open_descriptors(), before);
    EXPECT_EQ(fcntl(own, F_GETFD), -1);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(fcntl(shared, F_GETFD), FD_CLOEXEC);
    ::close(shared);
}

TEST(Descriptors, TheLimitIsOfATableNotOfTheProcess) {
    rlimit limit{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const rlimit saved = limit;
    limit.rlim_cur = open_descriptors() + 100;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    std::atomic<int> opened{0}, ready{0};
    // Both hold theirs at the same time, and close them with their tables.
    const auto hold_eighty = [&] {
        const bool alone = static_cast<bool>(own_descriptor_table());
        for (int i = 0; alone && i < 80; ++i) opened += open_one() >= 0 ? 1 : 0;
        ++ready;
        while (ready < 2) std::this_thread::yield();
    };
    std::thread one(hold_eighty);
    std::thread two(hold_eighty);
    one.join();
    two.join();
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
    EXPECT_EQ(opened, 160);
}

// In a process of its own, because it closes what this one prints to.
TEST(Descriptors, StandardOnesAreOpenedWithoutWaitingForAFullPipe) {
    const pid_t child = fork();
    if (child == 0) {
        for (const int descriptor : {0, 1, 2}) ::close(descriptor);
        open_standard_descriptors();
        for (const int descriptor : {0, 1, 2})
            if (fcntl(descriptor, F_GETFD) < 0) _exit(1);
        int ends[2];
        if (pipe(ends) != 0 || ends[0] < 3) _exit(2);
        dup2(ends[1], 2);
        unblock_stderr();
        const char text[4096] = {};
        while (::write(2, text, sizeof text) > 0) continue;
        if (errno != EAGAIN) _exit(3);
        // The pipe's other writers still wait.
        _exit((fcntl(ends[1], F_GETFL) & O_NONBLOCK) == 0 ? 0 : 4);
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace pulse
