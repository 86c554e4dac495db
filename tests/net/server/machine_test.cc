// What is left to a process, read from files of a test's own.
#include "net/server/machine.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <utility>

namespace pulse {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// A directory that stands for the root of a machine.
class FakeRoot {
  public:
    using Files = std::initializer_list<std::pair<std::string, std::string>>;  // path and text
    explicit FakeRoot(Files files = {}) {
        char path[] = "/tmp/pulsewheel_machine_XXXXXX";
        root_ = mkdtemp(path);
        write("/proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n");
        for (const auto& [name, text] : files) write(name, text);
    }
    ~FakeRoot() { std::filesystem::remove_all(root_); }
    Machine machine() const { return Machine(root_); }

  private:
    void write(const std::string& path, const std::string& text) {
        std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
        std::ofstream(root_ + path) << text;
    }
    std::string root_;
};

TEST(Machine, HasWhatTheKernelSaysIsAvailable) {
    const FakeRoot root;
    EXPECT_EQ(root.machine().memory().bytes, 4096 * kMiB);
    EXPECT_EQ(root.machine().memory().bound, "this machine");
    EXPECT_EQ(root.machine().cpu_quota(), 0);
}

TEST(Machine, IsUnknownWhereNothingIsToBeRead) {
    EXPECT_TRUE(Machine("/nonexistent").memory().bound.empty());
}

TEST(Machine, CountsTheTightestCgroupAboveItAndItsPageCacheAsFree) {
    const FakeRoot root({{"/proc/self/cgroup", "0::/service.slice/wheel.service\n"},
                         {"/sys/fs/cgroup/service.slice/wheel.service/memory.max", "max\n"},
                         {"/sys/fs/cgroup/service.slice/memory.max", "536870912\n"},
                         {"/sys/fs/cgroup/service.slice/memory.current", "209715200\n"},
                         {"/sys/fs/cgroup/service.slice/memory.stat",
                          "anon 1\ninactive_file 52428800\nactive_file 52428800\n"}});
    const MemoryRoom room = root.machine().memory();
    EXPECT_EQ(room.bytes, (512 - 200 + 100) * kMiB);
    EXPECT_EQ(room.bound, "the cgroup's memory limit");
}

TEST(Machine, ReadsVersionOneAndTheContainersOwnRoot) {
    // The path is the host's: below the container's mount there is only its root.
    const FakeRoot root(
        {{"/proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n"},
         {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "209715200\n"},
         {"/sys/fs/cgroup/memory/memory.usage_in_bytes", "10485760\n"},
         {"/sys/fs/cgroup/memory/memory.stat",
          "inactive_file 5\ntotal_inactive_file 4194304\ntotal_active_file 1048576\n"},
         {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n"},
         {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"}});
    EXPECT_EQ(root.machine().memory().bytes, (200 - 10 + 5) * kMiB);
    EXPECT_DOUBLE_EQ(root.machine().cpu_quota(), 1.5);
}

TEST(Machine, ReadsUnlimitedValues) {
    const FakeRoot root({{"/proc/self/cgroup", "5:cpu:/\n4:memory:/\n0::/x\n"},
                         {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
                         {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
                         {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"},
                         {"/sys/fs/cgroup/x/memory.max", "max\n"},
                         {"/sys/fs/cgroup/x/cpu.max", "max 100000\n"}});
    EXPECT_EQ(root.machine().memory().bound, "this machine");
    EXPECT_EQ(root.machine().cpu_quota(), 0);
}

TEST(Machine, AFullCgroupLeavesZeroAndNotUnknown) {
    const FakeRoot root({{"/proc/self/cgroup", "0::/\n"},
                         {"/sys/fs/cgroup/memory.max", "1048576\n"},
                         {"/sys/fs/cgroup/memory.current", "2097152\n"},
                         {"/sys/fs/cgroup/cpu.max", "50000 100000\n"}});
    EXPECT_EQ(root.machine().memory().bytes, 0u);
    EXPECT_FALSE(root.machine().memory().bound.empty());
    EXPECT_DOUBLE_EQ(root.machine().cpu_quota(), 0.5);
}

// 10 MiB of RSS: by a limit that is given, by what the machine leaves, by what tasks waited for.
TEST(Machine, SaysHowShortMemoryIs) {
    const std::string pages = std::to_string(10 * kMiB / static_cast<uint64_t>(getpagesize()));
    const std::pair<std::string, std::string> resident{"/proc/self/statm", "99999 " + pages + " 1"};
    const auto at = [&](const char* available_kib, const char* waited, uint64_t limit) {
        const FakeRoot root(
            {resident,
             {"/proc/meminfo", std::string("MemAvailable: ") + available_kib + " kB\n"},
             {"/proc/pressure/memory", waited}});
        return root.machine().memory_pressure(limit);
    };
    const char* const calm = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    const char* const busy = "some avg10=10.00 avg60=1.00 avg300=0.00 total=9\nfull avg10=99.00\n";
    EXPECT_EQ(at("4194304", calm, 0), 0);
    EXPECT_NEAR(at("4194304", calm, 10 * kMiB * 100 / 95), 1, 1e-3);
    EXPECT_NEAR(at("4194304", calm, 10 * kMiB * 100 / 90), 0.5, 1e-3);
    EXPECT_GT(at("4194304", calm, kMiB), 1);
    const FakeRoot held({resident});
    EXPECT_NEAR(held.machine().memory_pressure(10 * kMiB * 100 / 95, 0), 1, 1e-3);
    EXPECT_EQ(held.machine().memory_pressure(10 * kMiB, 8 * kMiB), 0) << "what is free in RSS";
    EXPECT_NEAR(held.machine().memory_pressure(5 * kMiB * 100 / 95, 5 * kMiB), 1, 1e-3);
    EXPECT_EQ(held.machine().memory_pressure(kMiB, 20 * kMiB), 0) << "as old as another look";
    EXPECT_EQ(at("4194304", busy, 100 * kMiB), 0) << "what was asked for, and nothing else";
    EXPECT_GT(at("256", calm, 0), 1) << "256 KiB are left";
    EXPECT_NEAR(at("4194304", busy, 0), 1, 1e-3);
    EXPECT_EQ(at("4194304", "nonsense", 0), 0);
    const FakeRoot short_of({resident, {"/proc/meminfo", "MemAvailable: 256 kB\n"}});
    EXPECT_GT(short_of.machine().memory_pressure(0, 8 * kMiB), 1) << "others cannot have it";
    EXPECT_EQ(Machine("/nonexistent").memory_pressure(0), 0) << "no file is not an error";
    const FakeRoot grouped({resident,
                            {"/proc/self/cgroup", "0::/a/b\n"},
                            {"/sys/fs/cgroup/a/memory.pressure", "some avg10=5.00 avg60=0.00\n"},
                            {"/proc/pressure/memory", busy}});
    EXPECT_NEAR(grouped.machine().memory_pressure(0), 0.5, 1e-3)
        << "another's shortage is not ours";
}

TEST(Machine, AllowsTheCoresOfTheAffinityMask) {
    cpu_set_t before;
    ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
    const std::vector<uint32_t> all = Machine().allowed_cores();
    EXPECT_EQ(all.size(), static_cast<size_t>(CPU_COUNT(&before)));
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(all.back(), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(Machine().allowed_cores(), std::vector<uint32_t>{all.back()});
    sched_setaffinity(0, sizeof before, &before);
}

}  // namespace
}  // namespace pulse
