// A whole reactor with TLS under attack, over the simulated kernel.
//
// Peers drawn from a seed: clients of OpenSSL's, one of whose flights is flipped, cut, lost,
// repeated or replaced by other bytes, anywhere between its ClientHello and its close_notify, and
// delivered in pieces. Nothing is left behind when they are gone, and each is treated alike by a
// server that leaves connections to OpenSSL and by one that freezes them: the same plaintext, alert
// and end. PULSE_TLS_SEEDS=N asks for more than a test run has time for (`make tls-attacks`).
//
// And memory: each allocation of OpenSSL's, and each of ours that may fail, fails in turn.
#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <sstream>

#include "core/random.h"

#include "tests/net/loop/tls_conversation.h"
#include "tests/support/scale.h"
#include "tests/support/websocket_frames.h"

// ------------------------------------------------------------------------------------------ memory

namespace {

// Which allocations fail while it is armed: from the `first` on, `count` of them.
struct Failing {
    bool armed = false;
    uint64_t first = 0, count = 0, seen = 0;
    bool strikes() {
        if (!armed) return false;
        ++seen;
        return seen >= first && seen - first < count;
    }
};
Failing failing;

void* take(size_t bytes, const char*, int) { return failing.strikes() ? nullptr : malloc(bytes); }
void give_back(void* block, const char*, int) { free(block); }
void* take_again(void* block, size_t bytes, const char* file, int line) {
    if (bytes > 0) return failing.strikes() ? nullptr : realloc(block, bytes);
    give_back(block, file, line);
    return nullptr;
}

// Before libssl has memory, as in tools/pulsewheel/main.cc.
void stand_before_malloc() { CRYPTO_set_mem_functions(&take, &take_again, &give_back); }
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const kBeforeLibraries)() = &stand_before_malloc;

}  // namespace

// What else may fail: the other operator new ends the program.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
    return failing.strikes() ? nullptr : ::operator new(bytes);
}

namespace pulse::test {
namespace {

using namespace std::string_literals;

class TlsAttacks : public testing::TestWithParam<TlsIdle> {
  protected:
    void SetUp() override { failing = {}; }
    StagePlan plan() const { return tls_plan({.certificates = {world().leaf_file}}, GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Kept, TlsAttacks, testing::Values(TlsIdle::openssl, TlsIdle::frozen),
                         [](const auto& test) {
                             return test.param == TlsIdle::frozen ? "frozen" : "openssl";
                         });

uint64_t closed_without_memory(const ReactorStage& stage) {
    return closed_for(stage, CloseReason::tls_handshake_failed) +
           closed_for(stage, CloseReason::tls_failed) +
           closed_for(stage, CloseReason::out_of_memory);
}

// As talk(), but the server's memory alone fails.
void talk_without_memory(TlsClient& client) {
    for (int round = 0; round < 4; ++round) {
        client.send();
        failing.armed = true;
        client.stage.settle();
        failing.armed = false;
        client.take();
    }
}

// A handshake, an upgrade, a heartbeat with another key, an end. True: it was served whole.
bool lives_without_memory(TlsClient& client) {
    talk_without_memory(client);
    const auto lives = [&] {
        return client.tls.open() && !client.tls.failed() && !client.tls.ended();
    };
    if (!lives()) return false;
    client.tls.say(kUpgrade + kMaskedPing);
    talk_without_memory(client);
    if (!lives() || !client.tls.heard.ends_with(kPong)) return false;
    client.tls.heard.clear();
    if (SSL_version(client.tls.ssl()) == TLS1_3_VERSION)
        SSL_key_update(client.tls.ssl(), SSL_KEY_UPDATE_REQUESTED);
    client.tls.say(kMaskedPing);
    talk_without_memory(client);
    if (!lives() || client.tls.heard != kPong) return false;
    SSL_shutdown(client.tls.ssl());
    talk_without_memory(client);
    // Without memory it is not said, but it ends all the same.
    return client.tls.ended() || client.stage.ended(client.number);
}

// Each in turn, alone and with all behind it, until none is reached.
TEST_P(TlsAttacks, AnyAllocationMayFail) {
    const char* const asked = std::getenv("PULSE_TLS_SEEDS");
    uint64_t reached = 0, survived = 0;
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
        for (const uint64_t count : {uint64_t{1}, UINT64_MAX}) {
            ReactorStage stage(plan());
            TlsClient other(stage, kWebSocket);
            other.upgrade();
            Random random(count + static_cast<uint64_t>(version));
            const uint64_t step = asked != nullptr ? 1 : 8 * kSlowness;
            for (bool ended = false; !ended;) {
                const uint64_t nth = 1 + random.below(step) + reached;
                failing = {.armed = false, .first = nth, .count = count, .seen = 0};
                SCOPED_TRACE(nth);
                const uint64_t before = closed_without_memory(stage);
                TlsClient client(stage, kWebSocket, {.least = version, .most = version});
                const bool served = lives_without_memory(client);
                ended = failing.seen < nth;
                reached = nth;
                survived += served;
                ASSERT_TRUE(served || !ended) << client.tls.alert;
                stage.close(client.number, true);
                stage.settle();
                // One that has said that it ends may be closed for either reason.
                const uint64_t closed = closed_without_memory(stage) - before;
                ASSERT_LE(closed, 1u);
                ASSERT_TRUE(served || closed == 1);
                ASSERT_EQ(stage.record(client.number), nullptr);
                ASSERT_EQ(stage.admission().tls_handshakes(), 0u);
                ASSERT_EQ(stage.stats().gauges.tls_connections, 1u);
                ASSERT_EQ(stage.stats().gauges.buffers, 0u);
                other.say(kMaskedPing);
                ASSERT_EQ(std::exchange(other.tls.heard, {}), kPong);
            }
            std::printf("REPORT TLS %s %s: %lu allocations, each %s fails\n",
                        version == TLS1_3_VERSION ? "1.3" : "1.2",
                        GetParam() == TlsIdle::frozen ? "frozen" : "openssl", reached,
                        count == 1 ? "alone" : "and all behind it");
            reached = 0;
        }
    }
    EXPECT_GT(survived, 4u);
}

// Memory in pages: the table of connections, and the slab of what is frozen.
TEST_P(TlsAttacks, AnyPageMayFail) {
    for (size_t left = 0, served = 0; served == 0; ++left) {
        ASSERT_LT(left, 20u);
        ReactorStage stage(plan());
        stage.pages().fail_after(left);
        TlsClient client(stage, kWebSocket);
        const bool lives = lives_without_memory(client);
        stage.pages().fail_after(SIZE_MAX);
        stage.close(client.number, true);
        stage.settle();
        EXPECT_EQ(stage.admitted(), 0u) << left;
        EXPECT_EQ(stage.admission().tls_handshakes(), 0u);
        EXPECT_EQ(stage.stats().gauges.tls_connections, 0u);
        const bool all =
            stage.stats().gauges.tls_frozen_bytes > 0 || GetParam() == TlsIdle::openssl;
        if (lives && all) ++served;
        TlsClient after(stage, kWebSocket);
        after.upgrade();
        after.say(kMaskedPing);
        EXPECT_EQ(after.tls.heard, kPong) << left;
    }
}

// ----------------------------------------------------------------------------------------- attacks

enum class Harm : uint8_t { none, flip, cut, reset, twice, lost, late, foreign };
constexpr size_t kHarms = 8;

// In front of the flight that it replaces, or alone.
const std::string kForeign[] = {
    "\x14\x03\x03\0\1\1"s,              // ChangeCipherSpec
    "\x17\x03\x03\0\0"s,                // no record that is sealed has no bytes
    "\x17\x03\x03\xff\xff"s,            // longer than any
    "\x17\x03\x03\x41\x01"s,            // longer than any of TLS 1.3
    "\x15\x03\x03\0\2\1\0"s,            // close_notify, not sealed
    "\x16\x03\x03\0\4\0\0\0\0"s,        // a hello request
    "\x80\x2e\1\0\2\0\x15\0\0\0\x10"s,  // SSL 2
    "GET / HTTP/1.1\r\n\r\n"s,
    std::string(40, '\0'),
};

// What happened to one peer.
struct Fate {
    bool open = false, failed = false, ended = false;
    std::string heard, alert;
    friend bool operator==(const Fate&, const Fate&) = default;
};
std::ostream& operator<<(std::ostream& out, const Fate& fate) {
    return out << "{open " << fate.open << ", failed " << fate.failed << ", ended " << fate.ended
               << ", alert '" << fate.alert << "', " << fate.heard.size()
               << " bytes: " << testing::PrintToString(fate.heard.substr(0, 300)) << "}";
}

// One peer, with what it does drawn from a seed.
class Attacker {
  public:
    Attacker(ReactorStage& stage, uint64_t seed)
        : random_(seed),
          listener_(random_.below(kAuto + 1)),
          client_(stage, listener_, plan_of(random_)),
          harm_(static_cast<Harm>(random_.below(kHarms))),
          steps_(3 + random_.below(8)),
          harmed_step_(random_.below(steps_)),
          piece_(random_.below(3) == 0 ? 1 + random_.below(200) : SIZE_MAX) {}

    // One more flight, until there are enough.
    void act() {
        if (step_ == steps_ || client_.tls.failed()) return;
        const bool harmed = step_ == harmed_step_;
        ++step_;
        if (client_.tls.open() && !closing_) speak();
        std::string records = std::exchange(late_, {}) + client_.tls.records();
        if (harmed && !records.empty()) spoil(records);
        deliver(records);
    }
    void take() { client_.take(); }
    size_t number() const { return client_.number; }
    Fate fate() const {
        return {client_.tls.open(), client_.tls.failed(), client_.tls.ended(), client_.tls.heard,
                client_.tls.alert};
    }

  private:
    // One suite, so that flights have the same lengths whatever the server would rather have.
    static TlsPeerPlan plan_of(Random& random) {
        constexpr const char* kSuites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                           "TLS_CHACHA20_POLY1305_SHA256"};
        const int version = random.below(5) == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
        return {.least = version,
                .most = version,
                .suites = kSuites[random.below(3)],
                .ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256"};
    }

    void speak() {
        if (!std::exchange(greeted_, true)) return client_.tls.say(greeting());
        switch (random_.below(10)) {
            case 0:
                if (SSL_version(client_.tls.ssl()) == TLS1_3_VERSION)
                    SSL_key_update(client_.tls.ssl(), random_.below(2) == 0
                                                          ? SSL_KEY_UPDATE_REQUESTED
                                                          : SSL_KEY_UPDATE_NOT_REQUESTED);
                return client_.tls.say(heartbeat());
            case 1:
                closing_ = true;
                SSL_shutdown(client_.tls.ssl());
                return;
            case 2:
                return client_.tls.say(large());
            case 3:
                return;  // it is silent
            default:
                for (uint64_t count = 1 + random_.below(4); count > 0; --count)
                    client_.tls.say(heartbeat());
        }
    }
    bool speaks_websocket() const { return listener_ == kWebSocket; }
    bool speaks_binary() const { return listener_ == kBinary || listener_ == kDetected; }
    std::string greeting() const { return speaks_websocket() ? kUpgrade : heartbeat(); }
    std::string heartbeat() const {
        return speaks_websocket() ? kMaskedPing : speaks_binary() ? kBinaryPing : "PING\n"s;
    }
    // In several records, and echoed.
    std::string large() {
        const std::string words(1 + random_.below(40'000), 'w');
        if (!speaks_websocket()) return heartbeat();
        const Bytes whole = frame(0x82, words);
        return {whole.begin(), whole.end()};
    }

    void spoil(std::string& records) {
        const size_t at = random_.below(records.size());
        ReactorStage& stage = client_.stage;
        switch (harm_) {
            case Harm::none:
                return;
            case Harm::flip:
                // Headers of records are few among its bytes.
                records[random_.below(2) == 0 ? at : at % 5] ^=
                    static_cast<char>(1 << random_.below(8));
                return;
            case Harm::cut:
            case Harm::reset:
                deliver(records.substr(0, at));
                records.clear();
                if (harm_ == Harm::cut) {
                    stage.finish(client_.number);
                } else {
                    stage.close(client_.number, true);
                }
                step_ = steps_;
                return;
            case Harm::twice:
                records += records;
                return;
            case Harm::lost:
                records.clear();
                return;
            case Harm::late:
                late_ = records.substr(at);
                records.resize(at);
                return;
            case Harm::foreign:
                records = kForeign[random_.below(std::size(kForeign))] +
                          (random_.below(2) == 0 ? records : "");
        }
    }
    void deliver(std::string_view records) {
        // Not a piece for each byte of a long flight.
        const size_t piece = std::max(piece_, records.size() / 100);
        while (!records.empty()) {
            client_.stage.write(client_.number, records.substr(0, piece));
            records.remove_prefix(std::min(piece, records.size()));
            if (!records.empty()) client_.stage.settle(kMillisecond);
        }
    }

    Random random_;
    size_t listener_;
    TlsClient client_;
    Harm harm_;
    size_t steps_, harmed_step_, step_ = 0, piece_;
    bool greeted_ = false, closing_ = false;
    std::string late_;
};

// What became of a world, and what of it must not depend on who keeps connections.
struct End {
    std::vector<Fate> fates;
    std::string closed;  // how many, by reason
};

class Attack {
  public:
    // `faulty`: the kernel, too, reads little and is late.
    Attack(uint64_t seed, TlsIdle idle, bool faulty)
        : random_(seed), stage_(plan_of(seed, idle, faulty)) {}

    End run() {
        for (uint64_t count = 1 + random_.below(4); count > 0; --count)
            attackers_.push_back(std::make_unique<Attacker>(stage_, random_.next()));
        for (int round = 0; round < 12; ++round) {
            for (const auto& attacker : attackers_) attacker->act();
            disturb();
            stage_.settle(5 * kMillisecond);
            for (const auto& attacker : attackers_) attacker->take();
        }
        stage_.settle(kSecond);
        End end;
        for (const auto& attacker : attackers_) {
            attacker->take();
            end.fates.push_back(attacker->fate());
            if ((attacker->number() & 1) != 0) stage_.finish(attacker->number());
        }
        EXPECT_TRUE(stage_.empty_within(300 * kSecond));
        end.closed = closed();
        check_nothing_is_left();
        return end;
    }

  private:
    static StagePlan plan_of(uint64_t seed, TlsIdle idle, bool faulty) {
        StagePlan plan = tls_plan({.certificates = {world().leaf_file}}, idle);
        plan.seed = seed;
        plan.keeps_debug_lines = false;
        plan.options.heartbeat_interval = kSecond;
        plan.options.heartbeat_timeout = 3 * kSecond;
        plan.options.handshake_timeout = 2 * kSecond;
        if (!faulty) return plan;
        const auto present = [&](Fault fault) {
            plan.faults.present.set(static_cast<size_t>(fault));
            plan.faults.per_million[static_cast<size_t>(fault)] = 300'000;
        };
        present(Fault::short_read);
        present(Fault::late_completion);
        plan.faults.completion_max = 2 * kMillisecond;
        plan.faults.submit_in_poll = true;
        plan.faults.socket_buffer_bytes = 4'096;
        return plan;
    }
    // What an operator does, and a machine, now and then.
    void disturb() {
        switch (random_.below(60)) {
            case 0:
                stage_.post(
                    {.body = Message::Kick{stage_.table().id(static_cast<Index>(random_.below(4))),
                                           CloseReason::kicked}});
                return;
            case 1:
                return stage_.io().pass_time(random_.below(4) * kSecond);
            case 2:
                stage_.post({.body = Message::Drain{}});
        }
    }
    std::string closed() const {
        std::ostringstream out;
        const MetricsSnapshot metrics = stage_.metrics();
        for (size_t reason = 0; reason < metrics.closed.size(); ++reason) {
            if (metrics.closed[reason] > 0)
                out << describe(static_cast<CloseReason>(reason)).name << ' '
                    << metrics.closed[reason] << "; ";
        }
        return out.str();
    }
    void check_nothing_is_left() {
        const ReactorStats stats = stage_.stats();
        EXPECT_EQ(stage_.admission().tls_handshakes(), 0u);
        EXPECT_EQ(stats.gauges.tls_connections, 0u);
        EXPECT_EQ(stats.gauges.tls_frozen, 0u);
        EXPECT_EQ(stats.gauges.buffers, 0u);
        EXPECT_EQ(stage_.reactor().connections().outboxes_taken(), 0u);
        EXPECT_EQ(stage_.admitted(), 0u);
        const MetricsSnapshot metrics = stage_.metrics();
        EXPECT_EQ(metrics[Metric::accepted], metrics[Metric::closed]);
        EXPECT_EQ(stage_.log().violations(), 0u);
        stage_.reactor().connections().validate();
        stage_.table().validate();
    }

    Random random_;
    ReactorStage stage_;
    std::vector<std::unique_ptr<Attacker>> attackers_;
};

TEST(TlsAttack, LeavesNothingAndIsTreatedAlikeFrozenOrNot) {
    const char* const asked = std::getenv("PULSE_TLS_SEEDS");
    const uint64_t seeds = asked == nullptr ? scaled(150) : std::strtoull(asked, nullptr, 10);
    uint64_t opened = 0, failed = 0;
    for (uint64_t seed = 1; seed <= seeds && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        const bool faulty = seed % 3 == 0;
        const End openssl = Attack(seed, TlsIdle::openssl, faulty).run();
        const End frozen = Attack(seed, TlsIdle::frozen, faulty).run();
        for (const Fate& fate : frozen.fates) {
            opened += fate.open;
            failed += fate.failed;
        }
        if (seed % 1'000 == 0) std::fprintf(stderr, "seed %lu of %lu\n", seed, seeds);
        if (faulty) continue;  // when something comes is drawn anew for each read
        EXPECT_EQ(openssl.fates, frozen.fates);
        EXPECT_EQ(openssl.closed, frozen.closed);
    }
    EXPECT_GT(opened, seeds / 2);
    EXPECT_GT(failed, seeds / 10) << "not wrong enough";
}

}  // namespace
}  // namespace pulse::test
