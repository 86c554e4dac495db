// What a run reports of where it took place, and what it reads of the server's own statistics.
#include "tools/pulseload/run/environment.h"

#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "tools/pulseload/run/server_watch.h"

namespace pulse::load {
namespace {

std::string value_of(const Facts& facts, std::string_view name) {
    const auto found = std::ranges::find(facts, name, &Facts::value_type::first);
    return found == facts.end() ? "" : found->second;
}

TEST(Environment, NamesTheMachineTheKernelAndTheBuild) {
    const Facts facts = describe_environment();
    for (const char* name :
         {"cores", "memory", "kernel", "virtualisation", "mitigations", "load before the start",
          "descriptors", "net.core.somaxconn", "net.ipv4.ip_local_port_range", "git revision",
          "compiler", "build flags"})
        EXPECT_NE(value_of(facts, name), "") << name;
    EXPECT_NE(value_of(facts, "kernel").find("Linux"), std::string::npos);
}

TEST(ServerWatch, CountsWorkOfLessThanATickOfTheKernel) {
    const auto watch = ServerWatch::of(getpid());
    ASSERT_TRUE(watch);
    double before_s = watch->read().cpu_seconds;
    for (int round = 0; round < 5; ++round) {
        const clock_t began = clock();
        while (clock() - began < CLOCKS_PER_SEC / 1'000) {
        }
        const double after_s = watch->read().cpu_seconds;
        EXPECT_GE(after_s - before_s, 0.000'9);
        before_s = after_s;
    }
}

Result<ServerAccount> account_of(const std::string& text) {
    const std::string path = testing::TempDir() + "account.json";
    std::ofstream(path) << text;
    return read_server_account(path);
}

TEST(ServerAccount, HasClosesAndIdentityOfTheLastLine) {
    const auto account = account_of(
        "{\"total\":{\"closed_by_reason\":{\"kicked\":1}}}\n"
        "{\"schema\":\"pulsewheel/2\",\"version\":\"0.2.0\",\"pid\":7,\"backend\":\"epoll\","
        "\"started_at\":\"2026-11-27T04:00:00.000Z\",\"settings\":{\"tick\":\"8ms\",\"reactors\":2,"
        "\"listen\":[\"auto://*:1\"]},\"total\":{\"closed_by_reason\":{\"kicked\":3}}}\n\n");
    ASSERT_TRUE(account) << account.error();
    EXPECT_EQ(account->closes, (std::vector<std::pair<std::string, uint64_t>>{{"kicked", 3}}));
    ASSERT_TRUE(account->identity);
    EXPECT_EQ(account->identity->version, "0.2.0");
    EXPECT_EQ(account->identity->backend, "epoll");
    EXPECT_EQ(account->identity->pid, 7u);
    EXPECT_EQ(account->identity->settings,
              (Facts{{"tick", "8ms"}, {"reactors", "2"}, {"listen", "[\"auto://*:1\"]"}}));
}

TEST(ServerAccount, MayBeOlderOrEmptyAndMayNotBeAnythingElse) {
    const auto old = account_of("{\"total\":{\"closed_by_reason\":{}}}\n");
    ASSERT_TRUE(old);
    EXPECT_FALSE(old->identity);
    EXPECT_TRUE(account_of(""));
    for (const char* text : {"{}", "[]", "nothing", "{\"total\":3}",
                             "{\"total\":{\"closed_by_reason\":{\"kicked\":\"x\"}}}",
                             "{\"total\":{\"closed_by_reason\":[1]}}"})
        EXPECT_FALSE(account_of(text)) << text;
    EXPECT_FALSE(read_server_account("/nowhere"));
    const auto odd = account_of(
        "{\"pid\":-1,\"version\":null,\"settings\":{},\"total\":{\"closed_by_reason\":{}}}");
    ASSERT_TRUE(odd) << odd.error();
    EXPECT_EQ(odd->identity->pid, 0u);
}

}  // namespace
}  // namespace pulse::load
