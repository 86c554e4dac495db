// A CodecSink that writes down what a codec calls, a ByteSink that keeps what is appended, and the
// way bytes are handed to a decoder in tests: in pieces, each in a buffer of its own with nothing
// but the promised slack around it, so that AddressSanitizer sees every byte too far.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/limits.h"
#include "proto/codec.h"

namespace pulse::test {

using Bytes = std::vector<uint8_t>;

inline Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }
inline std::string text_of(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }
inline Bytes operator+(Bytes left, const Bytes& right) {
    left.insert(left.end(), right.begin(), right.end());
    return left;
}

// One line a call: "ping:...", "pong:...", "text:...", "binary:...", "hello:...", "goodbye
// 1000:..."; a sequence other than 0 follows the word as "#7".
struct RecordingSink {
    std::vector<std::string> calls;
    size_t hold_bytes_max = SIZE_MAX;    // hold() says no beyond
    size_t stop_after_calls = SIZE_MAX;  // stopped() is true from then on
    bool lost = false;                   // the codec read held() or held more while stopped

    void on_ping(uint32_t sequence, std::span<uint8_t> payload) { note("ping", sequence, payload); }
    void on_pong(uint32_t sequence, std::span<uint8_t> payload) { note("pong", sequence, payload); }
    void on_hello(uint32_t sequence, std::span<uint8_t> object) { note("hello", sequence, object); }
    void on_message(MessageKind kind, uint32_t sequence, std::span<uint8_t> message) {
        note(kind == MessageKind::text ? "text" : "binary", sequence, message);
    }
    void on_goodbye(uint16_t code, std::span<uint8_t> reason) {
        note("goodbye " + std::to_string(code), 0, reason);
    }

    bool hold(std::span<const uint8_t> piece) {
        lost |= stopped();
        if (piece.size() > hold_bytes_max - held_bytes_) return false;
        grow(held_bytes_ + piece.size());
        if (!piece.empty()) std::memcpy(held_.get() + held_bytes_, piece.data(), piece.size());
        held_bytes_ += piece.size();
        return true;
    }
    std::span<uint8_t> held() { return {held_.get(), held_bytes_}; }
    void keep_held(size_t keep_bytes) {
        held_bytes_ = keep_bytes;
        if (keep_bytes > 0) return;
        held_.reset();
        room_ = 0;
    }
    bool stopped() const { return calls.size() >= stop_after_calls; }

  private:
    void note(const std::string& word, uint32_t sequence, std::span<uint8_t> payload) {
        const std::string number = sequence == 0 ? "" : "#" + std::to_string(sequence);
        calls.push_back(word + number + ":" + text_of(payload));
        // D3: padded behind, readable.
        volatile uint8_t last =
            payload.empty() ? uint8_t{0} : payload.data()[payload.size() + kReceivePadBytes - 1];
        static_cast<void>(last);
    }
    void grow(size_t bytes) {
        if (bytes <= room_) return;
        const size_t room = std::max(bytes, room_ + room_ / 2);
        std::unique_ptr<uint8_t[]> larger(new uint8_t[room + kReceivePadBytes]());
        if (held_bytes_ > 0) std::memcpy(larger.get(), held_.get(), held_bytes_);
        held_ = std::move(larger);
        room_ = room;
    }

    std::unique_ptr<uint8_t[]> held_;
    size_t held_bytes_ = 0;
    size_t room_ = 0;
};
static_assert(CodecSink<RecordingSink>);

struct ByteBuffer {
    Bytes bytes;
    size_t room = SIZE_MAX;

    uint8_t* claim(size_t count) {
        if (count > room - bytes.size()) return nullptr;
        bytes.resize(bytes.size() + count);
        return bytes.data() + bytes.size() - count;
    }
    std::string text() const { return text_of(bytes); }
};
static_assert(ByteSink<ByteBuffer>);

// A copy of `piece` as a backend would lend it: slack in front and behind, and not one byte more.
class LentBytes {
  public:
    explicit LentBytes(std::span<const uint8_t> piece)
        : bytes_(piece.size()),
          block_(new uint8_t[kReceiveFrontBytes + piece.size() + kReceivePadBytes]) {
        std::memset(block_.get(), 0xA5, kReceiveFrontBytes + bytes_ + kReceivePadBytes);
        if (bytes_ > 0) std::memcpy(block_.get() + kReceiveFrontBytes, piece.data(), bytes_);
    }
    std::span<uint8_t> span() { return {block_.get() + kReceiveFrontBytes, bytes_}; }

  private:
    size_t bytes_;
    std::unique_ptr<uint8_t[]> block_;
};

// Ascending places at which to cut `wire`; feed(piece) returns false to stop.
inline void feed_in_pieces(std::span<const uint8_t> wire, const std::vector<size_t>& cuts,
                           const std::function<bool(std::span<uint8_t>)>& feed) {
    size_t from = 0;
    for (size_t next = 0; next <= cuts.size(); ++next) {
        const size_t to = next < cuts.size() ? cuts[next] : wire.size();
        if (to == from) continue;
        LentBytes lent(wire.subspan(from, to - from));
        if (!feed(lent.span())) return;
        from = to;
    }
}

inline std::vector<size_t> every_byte(size_t bytes) {
    std::vector<size_t> cuts;
    for (size_t at = 1; at < bytes; ++at) cuts.push_back(at);
    return cuts;
}

}  // namespace pulse::test
