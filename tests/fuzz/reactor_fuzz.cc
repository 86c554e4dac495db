// The whole server over the simulated kernel, with the fuzzer's bytes as the wire. The input is a
// play: a byte that chooses the world, then acts of one byte each (three bits what, three bits
// who, two bits how) with what they need behind them: connect, write, let time pass, finish,
// vanish, stop reading, a word of the operator's, a message of many reads. Eight peers at most, on
// every kind of listener, with and without PROXY headers, from trusted and other sources.
//
// The loop's own assertions and invariants hold all the time; and when the play is over and
// all deadlines have passed, every connection was closed once and every pool is full again.
#include <string_view>

#include "tests/net/loop/reactor_stage.h"

namespace {

using namespace pulse;
using namespace pulse::test;
using namespace std::string_view_literals;

constexpr size_t kPeersMax = 8;
constexpr size_t kActsMax = 256;

void require(bool holds) {
    if (!holds) __builtin_trap();
}

// What gets a peer past the first lines, where the fuzzer would seldom come by itself.
constexpr std::string_view kWords[] = {
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"sv,
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: pulse.v1.binary\r\n\r\n"sv,
    "PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n"sv,
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC0\0\2\1\xC6\x33\x64\x09\xDC\4\1\xBB"sv,
    "\x89\x84\1\2\3\4abcd"sv,
    "\x81\x8F\0\0\0\0{\"type\":\"ping\"}"sv,
    "\x01\x83\0\0\0\0one\x80\x83\0\0\0\0two"sv,
    "\x88\x82\0\0\0\0\x03\xE8"sv,
    "{\"type\":\"ping\",\"seq\":7}\n"sv,
    "{\"type\":\"hello\",\"profile\":\"mobile\",\"labels\":{\"a\":\"b\"}}\n"sv,
    "{\"type\":\"data\",\"x\":[1]}\nPING\n"sv,
    "\xB7\1\0\4\0\0\0\7beat"sv,
    "\xB7\3\0\x12\0\0\0\1{\"profile\":\"mobile\""sv,
    "\xB7\5\0\2\0\0\0\2xy\xB7\6\0\2\0\0\0\0\x03\xE8"sv,
    "\xC2\x87\0\0\0\0\x4A\x4C\x04\0\0\0\0"sv,
    "PROXY UNKNOWN\r\n"sv,
};

// Both of what a client may ask for.
constexpr std::string_view kFramedUpgrade =
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: pulse.v1.binary\r\n"
    "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"sv;

using Bytes = std::vector<uint8_t>;

void put_be(Bytes& out, uint64_t value, size_t bytes) {
    while (bytes-- > 0) out.push_back(static_cast<uint8_t>(value >> 8 * bytes));
}
// Frames of the binary protocol, each with `payload` bytes, `bytes` in all: the last of them is
// cut off, or else shorter (and the whole by less than a header).
Bytes binary_frames(size_t bytes, size_t payload, bool cut_off) {
    constexpr uint8_t kTypes[] = {5, 1, 5, 3, 2};  // data, ping, hello, pong
    Bytes out;
    for (size_t frame = 0; out.size() < bytes; ++frame) {
        if (!cut_off && bytes - out.size() < kBinaryHeaderBytes) return out;
        const size_t room = bytes - out.size() - kBinaryHeaderBytes;
        const size_t declared = cut_off ? payload : std::min(payload, room);
        out.push_back(0xB7);
        out.push_back(kTypes[frame % std::size(kTypes)]);
        put_be(out, declared, 2);
        put_be(out, frame, 4);
        out.resize(out.size() + declared, 'x');
    }
    out.resize(bytes);
    return out;
}
// Deflate, as blocks that are stored as they are.
Bytes stored(const Bytes& bytes) {
    Bytes out;
    for (size_t at = 0; at < bytes.size();) {
        const auto size = static_cast<uint16_t>(std::min<size_t>(bytes.size() - at, 65'535));
        for (const int byte : {0, size & 255, size >> 8, ~size & 255, ~size >> 8 & 255}) {
            out.push_back(static_cast<uint8_t>(byte));
        }
        out.insert(out.end(), bytes.begin() + static_cast<ptrdiff_t>(at),
                   bytes.begin() + static_cast<ptrdiff_t>(at + size));
        at += size;
    }
    out.push_back(0);
    return out;
}
// A client's frame, with a mask that changes nothing.
void put_frame(Bytes& out, uint8_t first, std::span<const uint8_t> payload) {
    const size_t size = payload.size();
    out.push_back(first);
    out.push_back(static_cast<uint8_t>(0x80 | (size < 126 ? size : size < 65'536 ? 126 : 127)));
    if (size >= 126) put_be(out, size, size < 65'536 ? 2 : 8);
    put_be(out, 0, 4);
    out.insert(out.end(), payload.begin(), payload.end());
}

class Play {
  public:
    explicit Play(std::span<const uint8_t> script)
        : script_(script),
          stage_(world_of(take())),
          listeners_(stage_.config().options->listen.size()) {}

    void run() {
        for (size_t act = 0; act < kActsMax && !script_.empty(); ++act) perform(take());
        for (size_t peer = 0; peer < stage_.peers(); ++peer) {
            stage_.set_reading(peer, true);
            if ((peer & 1) != 0) stage_.finish(peer);
        }
        stage_.settle(kMillisecond);
        // The others stay and say nothing: the wheel lets go of them, after ten minutes at the
        // latest (a hello may ask for the profile powersave).
        require(stage_.empty_within(1'000 * kSecond));
        for (size_t peer = 0; peer < stage_.peers(); ++peer) stage_.close(peer, false);
        stage_.settle(kSecond);
        check_pools();
    }

  private:
    static StagePlan world_of(uint8_t choice) {
        StagePlan plan{.listen = {"auto://10.0.0.1:9000", "auto://10.0.0.1:9001?proxy=on",
                                  "ws://10.0.0.1:9002", "ws://10.0.0.1:9003?proxy=on",
                                  "tcp://10.0.0.1:9004", "tcp://10.0.0.1:9005?proxy=on",
                                  "jsonl://10.0.0.1:9006", "jsonl://10.0.0.1:9007?proxy=on"}};
        plan.places = kPeersMax;
        plan.seed = choice;
        LoopOptions& options = plan.options;
        options.on_message = (choice & 1) != 0 ? OnMessage::echo : OnMessage::discard;
        options.ws_deflate = (choice & 2) != 0;
        options.liveness = (choice & 4) != 0 ? Liveness::roundtrip : Liveness::any;
        options.heartbeat_interval = kSecond;
        options.heartbeat_timeout = 3 * kSecond;
        options.handshake_timeout = 2 * kSecond;
        options.drain_timeout = kSecond;
        // Many small reads of small messages, or few large ones of large.
        options.max_message_bytes = (choice & 16) != 0 ? 2'048 : kMessageBytesDefault;
        options.send_queue_bytes = 2 * options.max_message_bytes;
        if ((choice & 8) != 0) plan.faults.submit_in_poll = true;
        if ((choice & 16) != 0) plan.faults.socket_buffer_bytes = 2'048;
        const auto present = [&](Fault fault, uint32_t per_million) {
            plan.faults.present.set(static_cast<size_t>(fault));
            plan.faults.per_million[static_cast<size_t>(fault)] = per_million;
        };
        if ((choice & 32) != 0) present(Fault::short_read, 300'000);
        if ((choice & 64) != 0) present(Fault::late_completion, 300'000);
        if ((choice & 64) != 0) plan.faults.completion_max = 2 * kMillisecond;
        plan.keeps_debug_lines = (choice & 128) != 0;
        return plan;
    }

    uint8_t take() {
        if (script_.empty()) return 0;
        const uint8_t byte = script_.front();
        script_ = script_.subspan(1);
        return byte;
    }
    void perform(uint8_t act) {
        const uint8_t who = act >> 3 & 7;
        const uint8_t how = act >> 6;
        if ((act & 7) == 0) return connect(how);
        if ((act & 7) == 3) return pass_time(how);
        if ((act & 7) == 7 && how != 1) return command(how);
        if (who >= stage_.peers()) return;
        switch (act & 7) {
            case 1: {
                const size_t bytes = std::min<size_t>(take(), script_.size());
                stage_.write(who, script_.first(bytes));
                script_ = script_.subspan(bytes);
                return;
            }
            case 2:
                return stage_.write(who, kWords[take() % std::size(kWords)]);
            case 4:
                return stage_.finish(who);
            case 5:
                return stage_.close(who, (how & 1) != 0);
            case 7:
                return write_much(who);
            default:
                return stage_.set_reading(who, (how & 1) != 0);
        }
    }
    // Binary frames in a WebSocket message, compressed or in fragments, or by themselves: in more
    // than one read, so that the message is held.
    void write_much(uint8_t who) {
        constexpr size_t kSizes[] = {0, 40, 300, 700, 5'000, 66'000, 131'100, 260'000};
        constexpr size_t kPayloads[] = {0, 5, 120, 250, 1'000, 4'000, 30'000, 65'535};
        const uint8_t choice = take();
        size_t size = kSizes[choice & 7];
        if (size == 0) return stage_.write(who, kFramedUpgrade);
        // A play of nothing but these would take seconds, and one of short reads minutes.
        if (size > much_left_) size = 700;
        much_left_ -= std::min(size, much_left_);
        Bytes message = binary_frames(size, kPayloads[take() & 7], (choice & 8) != 0);
        Bytes out;
        if ((choice & 128) != 0) {
            out = message;
        } else {
            if ((choice & 16) != 0) message = stored(message);
            uint8_t first = (choice & 16) != 0 ? 0x42 : 0x02;
            const std::span<const uint8_t> all = message;
            const size_t before = (choice & 32) != 0 ? all.size() / 2 : 0;
            if (before > 0) put_frame(out, std::exchange(first, 0), all.first(before));
            put_frame(out, first | 0x80, all.subspan(before));
        }
        const std::span<const uint8_t> all = out;
        const size_t early = (choice & 64) != 0 ? out.size() / 3 * 2 : 0;
        if (early > 0) {
            stage_.write(who, all.first(early));
            stage_.settle(kMillisecond);
        }
        stage_.write(who, all.subspan(early));
    }
    void connect(uint8_t how) {
        if (stage_.peers() == kPeersMax) return;
        const size_t peer =
            stage_.connect(take() % listeners_, how == 3 ? "10.1.1.1:0"sv : "127.0.0.1:0"sv);
        if (how == 1) stage_.write(peer, kWords[2]);
    }
    void pass_time(uint8_t how) {
        constexpr Nanos kSpans[] = {kMillisecond / 5, 5 * kMillisecond, kSecond / 2, 3 * kSecond};
        stage_.settle(kSpans[how]);
        stage_.reactor().connections().validate();
    }
    void command(uint8_t how) {
        const uint8_t choice = take();
        switch (how) {
            case 0:
                stage_.post({Message::Kick{.target = stage_.table().id(choice % kPeersMax)}});
                return;
            case 2:
                stage_.reload([&](LoopOptions& options) {
                    options.heartbeat_timeout = stage_.config().options->heartbeat_timeout +
                                                choice * stage_.config().clock.tick_ns();
                });
                return;
            default:
                stage_.post(choice > 250 ? Message{Message::Stop{}} : Message{Message::Drain{}});
        }
    }
    void check_pools() {
        stage_.reactor().connections().validate();
        stage_.table().validate();
        const MetricsSnapshot metrics = stage_.metrics();
        require(stage_.log().violations() == 0);
        require(stage_.io().attaches() == stage_.io().closes() && stage_.io().attached() == 0);
        require(metrics[Metric::accepted] == metrics[Metric::closed]);
        require(metrics[Metric::accepted] == stage_.io().attaches());
        require(stage_.reactor().connections().buffers().taken() == 0 &&
                stage_.reactor().connections().outboxes_taken() == 0);
        require(stage_.admitted() == 0 && stage_.io().descriptors_used() == 0);
        require(stage_.io().orphans() == 0);
    }

    std::span<const uint8_t> script_;
    size_t much_left_ = 600'000;
    ReactorStage stage_;
    size_t listeners_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Play({data, size}).run();
    return 0;
}
