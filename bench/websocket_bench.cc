// The WebSocket codec alone, without a socket: what a heartbeat and an echo cost, and how fast the
// two loops over every byte are, each against the byte loop that it replaces.
//
// Payloads are masked with a key of zeros: the work is the same, and they are as they were after
// it, so that every round decodes the same text.
#include <benchmark/benchmark.h>

#include <array>
#include <string>
#include <vector>

#include "core/random.h"
#include "proto/handshake.h"
#include "proto/websocket.h"

#include "bench/allocations.h"

namespace pulse::bench {
namespace {

using Bytes = std::vector<uint8_t>;
using websocket::Opcode;

// A session that answers pings and echoes messages into a buffer that is never sent.
struct EchoSink {
    Bytes out = Bytes(256 * 1024);
    size_t used = 0;
    uint64_t frames = 0;

    uint8_t* claim(size_t bytes) {
        if (bytes > out.size() - used) used = 0;
        used += bytes;
        return out.data() + used - bytes;
    }
    void on_ping(uint32_t, std::span<uint8_t> payload) {
        ++frames;
        websocket::write_frame(*this, Opcode::pong, payload);
    }
    void on_pong(uint32_t, std::span<uint8_t>) { ++frames; }
    void on_hello(uint32_t, std::span<uint8_t>) {}
    void on_message(MessageKind kind, uint32_t, std::span<uint8_t> message) {
        ++frames;
        websocket::write_frame(*this, kind == MessageKind::text ? Opcode::text : Opcode::binary,
                               message);
    }
    void on_goodbye(uint16_t, std::span<uint8_t>) {}
    bool hold(std::span<const uint8_t>) { return false; }
    std::span<uint8_t> held() { return {}; }
    void keep_held(size_t) {}
    bool stopped() const { return false; }
};

struct Growing {
    Bytes bytes = Bytes(kReceiveFrontBytes);
    uint8_t* claim(size_t count) {
        bytes.resize(bytes.size() + count);
        return bytes.data() + bytes.size() - count;
    }
};

// Decodes `wire` again and again. Items are frames, bytes are payload.
void decode_again_and_again(benchmark::State& bench, Growing& wire, uint64_t frames,
                            uint64_t payload_bytes) {
    const size_t bytes = wire.bytes.size() - kReceiveFrontBytes;
    wire.bytes.resize(wire.bytes.size() + kReceivePadBytes);
    websocket::State state;
    EchoSink sink;
    Inflater inflater;
    const uint64_t before = allocations;
    for (auto _ : bench) {
        uint8_t* input = wire.bytes.data() + kReceiveFrontBytes;
        benchmark::DoNotOptimize(input);
        const Decoded fault =
            websocket::decode(state, {input, bytes}, CodecLimits{}, sink, inflater);
        benchmark::DoNotOptimize(sink.out.data());
        benchmark::ClobberMemory();
        if (!fault.ok()) return bench.SkipWithError("the bench's own frames were refused");
    }
    if (sink.frames != bench.iterations() * frames) return bench.SkipWithError("frames were lost");
    bench.counters["allocations"] = benchmark::Counter(static_cast<double>(allocations - before));
    bench.SetItemsProcessed(static_cast<int64_t>(bench.iterations() * frames));
    bench.SetBytesProcessed(static_cast<int64_t>(bench.iterations() * payload_bytes));
}

// One ping of 8 bytes a read, as a heartbeat comes.
void ping(benchmark::State& bench) {
    Growing wire;
    websocket::write_frame(wire, Opcode::ping, Bytes(8, 'p'), MaskKey{});
    decode_again_and_again(bench, wire, 1, 8);
}

// Sixteen a read: what is left when the call is shared.
void pings(benchmark::State& bench) {
    Growing wire;
    for (int at = 0; at < 16; ++at)
        websocket::write_frame(wire, Opcode::ping, Bytes(8, 'p'), MaskKey{});
    decode_again_and_again(bench, wire, 16, 16 * 8);
}

void echo(benchmark::State& bench, Opcode opcode, size_t bytes) {
    Growing wire;
    websocket::write_frame(wire, opcode, Bytes(bytes, 'e'), MaskKey{});
    decode_again_and_again(bench, wire, 1, bytes);
}

// --------------------------------------------------------------------------------- bytes a second
// The byte loops are what one writes first, compiled as everything here is.
void unmask_bytes(std::span<uint8_t> payload, MaskKey key) {
    for (size_t at = 0; at < payload.size(); ++at) payload[at] ^= key[at & 3];
}

void unmask(benchmark::State& bench, void (*apply)(std::span<uint8_t>, MaskKey), size_t bytes) {
    Bytes payload(bytes, 'u');
    for (auto _ : bench) {
        apply(payload, {1, 2, 3, 4});
        benchmark::ClobberMemory();
    }
    bench.SetBytesProcessed(static_cast<int64_t>(bench.iterations() * payload.size()));
}

bool continuations(std::span<const uint8_t>& text, size_t count, uint8_t low, uint8_t high) {
    if (text.size() <= count) return false;
    for (size_t at = 1; at <= count; ++at, low = 0x80, high = 0xBF)
        if (text[at] < low || text[at] > high) return false;
    text = text.subspan(count + 1);
    return true;
}

bool utf8_bytes(std::span<const uint8_t> text) {
    while (!text.empty()) {
        const uint8_t lead = text[0];
        if (lead < 0x80) {
            text = text.subspan(1);
        } else if (lead < 0xC2 || lead > 0xF4) {
            return false;
        } else {
            const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
            const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
            if (!continuations(text, lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3, low, high))
                return false;
        }
    }
    return true;
}

void utf8(benchmark::State& bench, bool (*valid)(std::span<const uint8_t>), const char* piece,
          size_t size) {
    std::string text;
    while (text.size() < size) text += piece;
    const Bytes bytes(text.begin(), text.end());
    for (auto _ : bench) {
        bool is_valid = valid(bytes);
        benchmark::DoNotOptimize(is_valid);
        if (!is_valid) return bench.SkipWithError("valid text was refused");
    }
    bench.SetBytesProcessed(static_cast<int64_t>(bench.iterations() * bytes.size()));
}
constexpr const char* kEnglish = "{\"type\":\"data\",\"text\":\"hello again\"} ";
constexpr const char* kGerman =
    "{\"text\":\"sch\xC3\xB6ne Gr\xC3\xBC\xC3\x9F"
    "e, wie immer\"} ";
constexpr const char* kChinese = "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C";

// -------------------------------------------------------------------------------------- handshakes
// What a browser sends, with its cookies and its client hints left out.
void handshake(benchmark::State& bench) {
    const std::string head =
        "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nConnection: Upgrade\r\n"
        "Pragma: no-cache\r\nCache-Control: no-cache\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"
        "Upgrade: websocket\r\nOrigin: https://app.example\r\nSec-WebSocket-Version: 13\r\n"
        "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        "Sec-WebSocket-Protocol: pulse.v1.json\r\n\r\n";
    Bytes lent(kReceiveFrontBytes + head.size() + kReceivePadBytes);
    std::copy(head.begin(), head.end(), lent.begin() + kReceiveFrontBytes);
    EchoSink sink;
    const uint64_t before = allocations;
    for (auto _ : bench) {
        HandshakeState state;
        const Handshake result = serve_handshake(
            state, {lent.data() + kReceiveFrontBytes, head.size()}, {.deflate = true}, sink, sink);
        if (result.status != 101) return bench.SkipWithError("a good request was refused");
        benchmark::ClobberMemory();
    }
    bench.counters["allocations"] = benchmark::Counter(static_cast<double>(allocations - before),
                                                       benchmark::Counter::kAvgIterations);
    bench.SetItemsProcessed(static_cast<int64_t>(bench.iterations()));
}

// ---------------------------------------------------------------------------------- compression
Bytes json_text(size_t bytes) {
    Random random(1);
    std::string text;
    while (text.size() < bytes)
        text += "{\"seq\":" + std::to_string(random.below(100'000)) + ",\"text\":\"hello\"}";
    return {text.begin(), text.begin() + static_cast<ptrdiff_t>(bytes)};
}

void deflate_json(benchmark::State& bench, size_t size) {
    const Bytes text = json_text(size);
    Deflater deflater;
    size_t bytes = 0;
    for (auto _ : bench) bytes = deflater.deflate(text, 15).size();
    bench.counters["deflated_bytes"] = static_cast<double>(bytes);
    bench.SetBytesProcessed(static_cast<int64_t>(bench.iterations() * text.size()));
}

void inflate_json(benchmark::State& bench, size_t size) {
    const Bytes text = json_text(size);
    Deflater deflater;
    const std::span<const uint8_t> payload = deflater.deflate(text, 15);
    Inflater inflater;
    for (auto _ : bench)
        if (inflater.inflate(payload, text.size()).message.size() != text.size())
            return bench.SkipWithError("inflating went wrong");
    bench.SetBytesProcessed(static_cast<int64_t>(bench.iterations() * text.size()));
}

// Names are workload/size/contender, as bench/run.py makes its tables of.
[[maybe_unused]] const bool kRegistered = [] {
    const auto add = [](const std::string& name, auto run) {
        benchmark::RegisterBenchmark(name.c_str(), run);
    };
    add("ws_ping/1 a read/pulse", ping);
    add("ws_ping/16 a read/pulse", pings);
    for (const size_t bytes : {64, 1'024, 65'536}) {
        const std::string size = "/" + std::to_string(bytes) + " B/";
        add("ws_echo" + size + "binary", [=](auto& state) { echo(state, Opcode::binary, bytes); });
        add("ws_echo" + size + "text", [=](auto& state) { echo(state, Opcode::text, bytes); });
        add("unmask" + size + "pulse", [=](auto& state) { unmask(state, apply_mask, bytes); });
        add("unmask" + size + "byte loop",
            [=](auto& state) { unmask(state, unmask_bytes, bytes); });
        for (const auto& [language, piece] :
             {std::pair{"english", kEnglish}, std::pair{"german", kGerman},
              std::pair{"chinese", kChinese}}) {
            const std::string name = std::string("utf8 ") + language + size;
            const char* const text = piece;
            add(name + "pulse", [=](auto& state) { utf8(state, utf8_valid, text, bytes); });
            add(name + "byte loop", [=](auto& state) { utf8(state, utf8_bytes, text, bytes); });
        }
    }
    for (const size_t bytes : {128, 1'024, 65'536}) {
        const std::string size = "/" + std::to_string(bytes) + " B/";
        add("ws_deflate" + size + "out", [=](auto& state) { deflate_json(state, bytes); });
        add("ws_deflate" + size + "in", [=](auto& state) { inflate_json(state, bytes); });
    }
    add("ws_handshake/serve/pulse", handshake);
    return true;
}();

}  // namespace
}  // namespace pulse::bench
