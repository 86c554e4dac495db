// Whether connections that ended without a goodbye are the target's end or evictions of its own.
#include "tools/pulseload/run/run_finish.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace pulse::load {
namespace {

// A second with so many open at its end and so many cut off until then, of 100 that connected.
Sample sample_of(double at_s, uint64_t open, uint64_t cut_off) {
    Sample sample;
    sample.at_s = at_s;
    sample.counts.connected = 100;
    sample.counts.open = open;
    sample.counts.cut_off = cut_off;
    return sample;
}

// Nothing listens there, or something that takes connections.
class Port {
  public:
    explicit Port(bool listens) {
        socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        SocketAddress address = *parse_address("127.0.0.1:0");
        socklen_t size = address.size_bytes();
        PULSE_ASSERT(bind(socket_, &address.base, size) == 0);
        if (listens) PULSE_ASSERT(listen(socket_, 16) == 0);
        getsockname(socket_, &address.base, &size);
        options.targets.emplace_back().address = address;
    }
    ~Port() { close(socket_); }
    Port(const Port&) = delete;
    Port& operator=(const Port&) = delete;
    LoadOptions options;

  private:
    int socket_ = -1;
};

enum class Then { listens, refuses };

// What is found of a run with these samples, to a target that then listens or refuses.
RunResult run_to(Then target, std::vector<Sample> samples, Nanos timeout = 3 * kSecond) {
    const Port port(target == Then::listens);
    RunResult run;
    run.samples = std::move(samples);
    run.counts = run.samples.back().counts;
    run.detection.timeout = timeout;
    find_target_gone(port.options, run);
    return run;
}

void expect_gone(const RunResult& run, double at_s, std::string_view why, uint64_t cut_off) {
    EXPECT_EQ(run.target_gone_s, at_s);
    EXPECT_EQ(run.target_gone, why);
    EXPECT_EQ(run.detection.cut_off, cut_off);
    EXPECT_EQ(run.detection.false_evictions, 0u);
}

TEST(TargetGone, ConnectionsThatEndTogetherAreACrashThoughItListensAgain) {
    expect_gone(
        run_to(Then::listens, {sample_of(1, 100, 0), sample_of(2, 100, 0), sample_of(3, 5, 95)}), 3,
        "most of its connections ended together, without a goodbye", 95);
}

TEST(TargetGone, ATargetThatRefusesConnectsIsGoneHoweverTheyEnded) {
    // At the last that was cut off.
    expect_gone(
        run_to(Then::refuses, {sample_of(1, 100, 0), sample_of(2, 80, 20), sample_of(3, 60, 40),
                               sample_of(4, 40, 60), sample_of(5, 40, 60)}),
        4, "it refuses connections now", 60);
}

TEST(TargetGone, OneByOneWhileItTakesConnectsTheyAreEvictions) {
    RunResult run =
        run_to(Then::listens, {sample_of(1, 100, 0), sample_of(2, 80, 20), sample_of(3, 60, 40)});
    EXPECT_EQ(run.target_gone_s, 0);
    EXPECT_EQ(run.target_gone, "");
    EXPECT_EQ(run.detection.cut_off, 0u);
    EXPECT_EQ(run.detection.false_evictions, 40u);
    const Nanos unknown = 0;  // nothing can be judged
    run = run_to(Then::listens, {sample_of(1, 100, 0), sample_of(2, 91, 9)}, unknown);
    EXPECT_EQ(run.detection.false_evictions, 0u);
}

TEST(TargetGone, WithoutAnyCutOffNothingIsAsked) {
    expect_gone(run_to(Then::refuses, {sample_of(1, 100, 0), sample_of(2, 0, 0)}), 0, "", 0);
}

}  // namespace
}  // namespace pulse::load
