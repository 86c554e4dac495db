// Random conversations over real sockets on both kernels: every protocol, subprotocol and
// permessage-deflate; messages right, wrong, cut short, in fragments, above one read; delivered
// whole or in pieces; ended in every way. Nothing may be asserted, leak or hang; the sanitizers
// watch. PULSE_CONVERSATIONS=N asks for more than the few that a test run has time for
// (`make conversations`).
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>

#include "core/random.h"

#include "tests/net/io/epoll_world.h"
#include "tests/net/io/uring_world.h"
#include "tests/net/loop/conversation.h"
#include "tests/net/loop/kernel_stage.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

uint64_t conversations() {
    const char* const asked = std::getenv("PULSE_CONVERSATIONS");
    return asked == nullptr ? scaled(4'000) : std::strtoull(asked, nullptr, 10);
}

// What one peer will send, and how.
class Script {
  public:
    explicit Script(uint64_t seed) : random_(seed) {
        switch (random_.below(8)) {
            case 0:
                lines();
                break;
            case 1:
                wire_ = frames(1 + random_.below(6));
                break;
            case 2:
                wire_ = noise(1 + random_.below(300));
                break;
            default:
                websocket();
        }
        // Cut somewhere, one in four.
        if (!wire_.empty() && random_.below(4) == 0) wire_.resize(random_.below(wire_.size()));
        if (wire_.size() > 64 && random_.below(16) == 0) {
            wire_[random_.below(wire_.size())] ^= static_cast<char>(1 << random_.below(8));
        }
    }
    std::string_view wire() const { return wire_; }
    Random& random() { return random_; }

  private:
    std::string noise(size_t bytes) {
        std::string text(bytes, '\0');
        for (char& each : text) each = static_cast<char>(random_.next());
        return text;
    }
    size_t size() {  // mostly small, now and then above one read of either kernel
        const uint64_t kind = random_.below(40);
        return kind == 0 ? 60'000 + random_.below(240'000) : random_.below(kind < 5 ? 9'000 : 200);
    }
    std::string frames(uint64_t count) {
        std::string text;
        // Now and then large ones: the message that they are in comes in more than one read.
        const bool large = random_.below(6) == 0;
        for (; count > 0; --count) {
            const auto type = static_cast<uint8_t>(1 + random_.below(9));
            const std::string payload = type == kBinaryHello
                                            ? R"({"user":"u1","profile":"mobile"})"
                                            : std::string(large ? 9'000 : size() % 65'536, 'p');
            text += binary_frame(type, static_cast<uint32_t>(random_.next()), payload);
        }
        if (random_.below(3) == 0) text.resize(text.size() - random_.below(text.size()));
        return text;
    }
    std::string json() {
        static constexpr std::string_view kTexts[] = {R"({"type":"ping","seq":7})",
                                                      "PING",
                                                      R"({"type":"hello","user":"u1"})",
                                                      R"({"type":"hello","profile":"none"})",
                                                      R"({"type":"pong","seq":1})",
                                                      R"({"type":"goodbye","code":1000})",
                                                      R"({"type":"data","x":[1,{"y":null}]})",
                                                      "{",
                                                      "[]",
                                                      R"({"type":7})",
                                                      R"({"type":"welcome"})"};
        return std::string(kTexts[random_.below(std::size(kTexts))]);
    }
    void lines() {
        for (uint64_t count = 1 + random_.below(6); count > 0; --count)
            wire_ += (random_.below(6) == 0 ? std::string(size(), 'x') : json()) + "\n";
    }
    std::string deflated(const std::string& text) {
        z_stream stream{};
        PULSE_ASSERT(deflateInit2(&stream, 1, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        std::string out(deflateBound(&stream, text.size()) + 16, '\0');
        stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
        stream.avail_in = static_cast<uInt>(text.size());
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        stream.avail_out = static_cast<uInt>(out.size());
        deflate(&stream, Z_SYNC_FLUSH);
        out.resize(out.size() - stream.avail_out - 4);
        deflateEnd(&stream);
        return out;
    }
    void websocket() {
        const uint64_t protocol = random_.below(3);
        const bool deflate = random_.below(2) == 0;
        std::string request = upgrade_request(protocol == 0   ? "pulse.v1.binary"
                                              : protocol == 1 ? "pulse.v1.json"
                                                              : "");
        if (deflate) {
            request.insert(request.size() - 2, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
        }
        wire_ = request;
        for (uint64_t count = random_.below(6); count > 0; --count) message(protocol == 0, deflate);
        if (random_.below(3) == 0) wire_ += masked(0x88, std::string_view("\x03\xE8", 2));
    }
    void message(bool framed, bool may_deflate) {
        if (random_.below(4) == 0) {
            wire_ += masked(random_.below(2) == 0 ? 0x89 : 0x8A, noise(random_.below(126)));
            return;
        }
        const bool text = !framed && random_.below(2) == 0;
        std::string payload = text     ? json()
                              : framed ? frames(1 + random_.below(40))
                                       : noise(size());
        const bool compressed = may_deflate && random_.below(2) == 0;
        if (compressed) payload = random_.below(8) == 0 ? noise(50) : deflated(payload);
        const size_t piece =
            random_.below(3) == 0 ? 1 + random_.below(payload.size() + 1) : payload.size() + 1;
        for (size_t at = 0; at == 0 || at < payload.size(); at += piece) {
            auto first = static_cast<uint8_t>(at > 0 ? 0 : text ? 1 : 2);
            if (at == 0 && compressed) first |= 0x40;
            if (at + piece >= payload.size()) first |= 0x80;
            wire_ += masked(first, std::string_view(payload).substr(at, piece));
            if (random_.below(8) == 0) wire_ += masked(0x89, "between");
        }
    }

    Random random_;
    std::string wire_;
};

constexpr uint32_t kPlaces = 512;

LoopOptions options() {
    LoopOptions options;
    options.heartbeat_interval = kSecond / 2;
    options.heartbeat_timeout = 2 * kSecond;
    options.handshake_timeout = kSecond;
    options.on_message = OnMessage::echo;
    options.ws_deflate = true;
    return options;
}

template <class World>
class RandomConversations : public ::testing::Test {
  protected:
    void turn() { stage_.turn(kMillisecond / 20); }
    void talk(uint64_t seed) {
        Script script(seed);
        Random& random = script.random();
        RealPeer peer = stage_.connect();
        const bool reads = random.below(8) != 0;
        const size_t piece = random.below(2) == 0 ? SIZE_MAX : 1 + random.below(20'000);
        std::string_view left = script.wire();
        std::string heard;
        for (int tries = 400; !left.empty() && tries > 0 && peer.error() == 0; --tries) {
            left.remove_prefix(peer.write(as_bytes(left.substr(0, piece))));
            turn();
            if (reads) peer.read(heard);
        }
        const uint64_t end = random.below(3);
        if (end == 0) peer.finish();
        for (int turns = 0; turns < 3; ++turns) {
            turn();
            if (reads) peer.read(heard);
        }
        if (end == 1) peer.reset();
    }
    bool emptied() {
        for (int left = 40'000; left > 0 && stage_.table().live() > 0; --left) turn();
        return stage_.table().live() == 0;
    }

    KernelStage<World> stage_{kPlaces, options()};
};

using Kernels = ::testing::Types<EpollWorld, UringWorld<Full>>;
TYPED_TEST_SUITE(RandomConversations, Kernels);

TYPED_TEST(RandomConversations, HarmNothing) {
    const uint64_t count = conversations();
    for (uint64_t seed = 1; seed <= count; ++seed) {
        this->talk(seed);
        if (this->stage_.table().live() > kPlaces / 2 || seed == count) {
            ASSERT_TRUE(this->emptied()) << "some stay for ever; up to seed " << seed;
            ASSERT_EQ(this->stage_.reactor().connections().buffers().taken(), 0u)
                << "up to seed " << seed;
            this->stage_.reactor().connections().validate();
        }
        if (seed % 50'000 == 0) std::fprintf(stderr, "%lu of %lu\n", seed, count);
    }
    const MetricsSnapshot seen = this->stage_.metrics();
    EXPECT_EQ(seen[Metric::accepted], seen[Metric::closed]);
    EXPECT_GT(seen[Metric::heartbeats_answered], count / 4);
    EXPECT_GT(seen[Metric::faults], count / 50) << "not wrong enough";
}

}  // namespace
}  // namespace pulse::test
