// The binary codec and JSON lines alone, without a socket: what a heartbeat and an echo cost, as
// bench/websocket_bench.cc asks of WebSocket; and telling protocols apart.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "proto/binary.h"
#include "net/protocols/first_bytes.h"
#include "proto/json.h"
#include "proto/jsonl.h"

#include "bench/allocations.h"

namespace pulse::bench {
namespace {

using Bytes = std::vector<uint8_t>;

// A session that answers pings and echoes data into a buffer that is never sent.
struct EchoSink {
    JsonParser& json;
    Bytes out = Bytes(256 * 1024);
    size_t used = 0;
    uint64_t answers = 0;

    uint8_t* claim(size_t bytes) {
        if (bytes > out.size() - used) used = 0;
        used += bytes;
        return out.data() + used - bytes;
    }
    void say(const json::Object& line) { line.write(claim(line.bytes())); }

    void on_ping(uint32_t sequence, std::span<uint8_t> payload) {
        answers += binary::write_frame(*this, binary::Type::pong, sequence, payload);
    }
    void on_pong(uint32_t, std::span<uint8_t>) {}
    void on_hello(uint32_t, std::span<uint8_t>) {}
    void on_message(MessageKind kind, uint32_t sequence, std::span<uint8_t> message) {
        if (kind == MessageKind::binary) {
            answers += binary::write_frame(*this, binary::Type::data, sequence, message);
            return;
        }
        JsonMessage found;
        if (!json.parse(message, found).ok()) return;
        const std::string_view text(reinterpret_cast<const char*>(message.data()), message.size());
        switch (found.kind) {
            case JsonKind::ping:
                say(json::pong(found).raw("\n"));
                break;
            case JsonKind::bare_ping:
                say(json::Object().raw("PONG\n"));
                break;
            case JsonKind::data:
                say(json::Object().raw(text).raw("\n"));
                break;
            default:
                return;
        }
        ++answers;
    }
    void on_goodbye(uint16_t, std::span<uint8_t>) {}
    bool hold(std::span<const uint8_t>) { return false; }
    std::span<uint8_t> held() { return {}; }
    void keep_held(size_t) {}
    bool stopped() const { return false; }
};

// What a backend lends: `count` times the same bytes, with slack around them.
struct Lent {
    Lent(const std::string& piece, uint64_t count) : storage(kReceiveFrontBytes) {
        for (; count > 0; --count) storage.insert(storage.end(), piece.begin(), piece.end());
        bytes = storage.size() - kReceiveFrontBytes;
        storage.resize(storage.size() + kReceivePadBytes);
    }
    std::span<uint8_t> input() { return {storage.data() + kReceiveFrontBytes, bytes}; }
    Bytes storage;
    size_t bytes = 0;
};

// Decodes `count` times `piece` a read, again and again. Items are messages, each answered.
template <class Decode>
void decode_again_and_again(benchmark::State& bench, const std::string& piece, uint64_t count,
                            Decode decode) {
    Lent lent(piece, count);
    JsonParser json;
    EchoSink sink{.json = json};
    decode(lent.input(), sink);  // the parser has grown to its longest text
    sink.answers = 0;
    const uint64_t before = allocations;
    for (auto _ : bench) {
        std::span<uint8_t> input = lent.input();
        benchmark::DoNotOptimize(input);
        if (!decode(input, sink).ok()) return bench.SkipWithError("the input was refused");
        benchmark::DoNotOptimize(sink.out.data());
        benchmark::ClobberMemory();
    }
    if (sink.answers != bench.iterations() * count)
        return bench.SkipWithError("something went unanswered");
    bench.counters["allocations"] = benchmark::Counter(static_cast<double>(allocations - before));
    bench.SetItemsProcessed(static_cast<int64_t>(bench.iterations() * count));
    bench.SetBytesProcessed(static_cast<int64_t>(bench.iterations() * lent.bytes));
}

void binary_frames(benchmark::State& bench, binary::Type type, size_t bytes, uint64_t count) {
    struct Growing {
        std::string bytes;
        uint8_t* claim(size_t count) {
            bytes.resize(bytes.size() + count);
            return reinterpret_cast<uint8_t*>(bytes.data() + bytes.size() - count);
        }
    } wire;
    binary::write_frame(wire, type, 7, Bytes(bytes, 'p'));
    binary::State state{};
    decode_again_and_again(bench, wire.bytes, count, [&](std::span<uint8_t> input, EchoSink& sink) {
        return binary::decode(state, input, CodecLimits{}, sink);
    });
}

void lines(benchmark::State& bench, const std::string& line, uint64_t count) {
    decode_again_and_again(bench, line + "\n", count, [](std::span<uint8_t> input, EchoSink& sink) {
        return jsonl::decode(input, CodecLimits{}, sink);
    });
}

std::string data_line(size_t bytes) {
    std::string text = R"({"type":"data","items":[)";
    while (text.size() < bytes) text += R"({"seq":12345,"text":"hello again","ok":true},)";
    text.back() = ']';
    return text + "}";
}

void detect(benchmark::State& bench, const std::string& first) {
    Lent lent(first, 1);
    for (auto _ : bench) {
        std::span<uint8_t> input = lent.input();
        benchmark::DoNotOptimize(input);
        FirstBytes found = classify(input);
        benchmark::DoNotOptimize(found);
    }
    bench.SetItemsProcessed(static_cast<int64_t>(bench.iterations()));
}

constexpr const char* kPing = R"({"type":"ping","seq":123456,"ts":1732312345678})";
constexpr const char* kSpacedPing = R"({ "ts": "2026-11-22T20:07:00Z", "seq": 7, "type": "ping" })";

// Names are workload/size/contender, as bench/run.py makes its tables of.
[[maybe_unused]] const bool kRegistered = [] {
    const auto add = [](const std::string& name, auto run) {
        benchmark::RegisterBenchmark(name.c_str(), run);
    };
    for (const uint64_t count : {1, 16}) {
        const std::string size = "/" + std::to_string(count) + " a read/";
        add("binary_ping" + size + "pulse",
            [=](auto& state) { binary_frames(state, binary::Type::ping, 8, count); });
        add("json_ping" + size + "pulse", [=](auto& state) { lines(state, kPing, count); });
        add("json_ping" + size + "spaced", [=](auto& state) { lines(state, kSpacedPing, count); });
        add("json_ping" + size + "bare", [=](auto& state) { lines(state, "PING", count); });
    }
    for (const size_t bytes : {64, 1'024, 65'000}) {
        const std::string size = "/" + std::to_string(bytes) + " B/";
        add("binary_echo" + size + "pulse",
            [=](auto& state) { binary_frames(state, binary::Type::data, bytes, 1); });
        add("json_echo" + size + "pulse", [=](auto& state) { lines(state, data_line(bytes), 1); });
    }
    add("detect/first bytes/binary", [](auto& state) { detect(state, "\xB7\x01"); });
    add("detect/first bytes/json", [](auto& state) { detect(state, "{\"type\""); });
    add("detect/first bytes/http", [](auto& state) { detect(state, "GET / HTTP/1.1"); });
    return true;
}();

}  // namespace
}  // namespace pulse::bench
