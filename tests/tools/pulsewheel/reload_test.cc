// What a reload changes, from the settings as they were read again to what a reactor works by.
#include "tools/pulsewheel/reload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tools/pulsewheel/flags.h"
#include "tools/pulsewheel/settings.h"

#include "tests/net/loop/reactor_stage.h"
#include "tests/tools/pulsewheel/other_values.h"

namespace pulse::serve {
namespace {

Invocation read(std::vector<const char*> arguments) {
    const Result<Invocation> invocation =
        read_invocation(arguments, [](const char*) -> const char* { return nullptr; });
    EXPECT_TRUE(invocation) << invocation.error();
    return invocation ? *invocation : Invocation{};
}

std::string text(const std::vector<std::string>& values) {
    std::string joined;
    for (const std::string& value : values) joined += (joined.empty() ? "" : ",") + value;
    return joined.empty() ? "none" : joined;
}

// The config of a reactor that was started with `running` and was sent `fresh`.
void expect_in_force(const Setting& setting, const ServerOptions& running, const Reload& reload) {
    test::ReactorStage stage({.listen = {"tcp://10.0.0.1:9000"}, .options = running});
    ASSERT_TRUE(stage.reload_to(std::make_shared<const ServerOptions>(reload.options)));
    stage.settle();
    const Connections& connections = stage.reactor().connections();
    const ReactorConfig& config = connections.config();
    const auto& in_force = static_cast<const ServerOptions&>(*config.options);
    EXPECT_EQ(setting.get(in_force), setting.get(reload.options));
    // And what a server derives that is started with them.
    const ReactorConfig started = make_reactor_config(config.options);
    for (uint8_t profile = 0; profile < started.profile_names.size(); ++profile) {
        const uint8_t place = connections.place_of(profile);
        EXPECT_EQ(config.profiles[place], started.profiles[profile]);
        EXPECT_EQ(config.interval_ms[place], started.interval_ms[profile]);
        EXPECT_EQ(config.timeout_ms[place], started.timeout_ms[profile]);
    }
    EXPECT_EQ(config.clock.tick_ns(), started.clock.tick_ns());
    EXPECT_EQ(config.limits.message_bytes_max, started.limits.message_bytes_max);
}

// A setting that is left out of kOther would not be tested: flags_test.cc fails then.
TEST(Reload, BringsLiveSettingsToTheReactorsAndNamesTheOthers) {
    const ServerOptions running = read({}).options;
    for (const Setting& setting : settings()) {
        SCOPED_TRACE(setting.name);
        const std::string flag = "--" + std::string(setting.name) + "=" + kOther.at(setting.name);
        std::vector<const char*> flags = needed_beside(setting.name);
        flags.push_back(flag.c_str());
        const Invocation fresh = read(flags);
        const Result<Reload> reload = plan_reload(running, fresh.options, fresh.origins);
        ASSERT_TRUE(reload) << reload.error();
        const bool live = setting.reload == ReloadKind::live;
        const auto& changes = live ? reload->applied : reload->deferred;
        const auto named = std::ranges::find(changes, setting.name, &Change::setting);
        ASSERT_NE(named, changes.end());
        EXPECT_EQ(named->text(), std::string(setting.name) + ": " + text(setting.get(running)) +
                                     " -> " + text(setting.get(fresh.options)));
        EXPECT_EQ(setting.get(reload->options), setting.get(live ? fresh.options : running));
        expect_in_force(setting, running, *reload);
    }
}

TEST(Reload, OfTheSameSettingsChangesNothing) {
    const Invocation running = read({"--pin", "--heartbeat-interval", "20s"});
    const Result<Reload> reload = plan_reload(running.options, running.options, running.origins);
    ASSERT_TRUE(reload);
    EXPECT_TRUE(reload->applied.empty() && reload->deferred.empty());
}

TEST(Reload, IsRefusedWhereItDoesNotFitToWhatStays) {
    const ServerOptions running = read({"--tick", "1ms"}).options;
    const Invocation fresh = read({"--tick", "128ms", "--heartbeat-timeout", "20h"});
    const Result<Reload> reload = plan_reload(running, fresh.options, fresh.origins);
    ASSERT_FALSE(reload);
    EXPECT_NE(reload.error().find("--heartbeat-timeout: '20h'"), std::string::npos);
}

}  // namespace
}  // namespace pulse::serve
