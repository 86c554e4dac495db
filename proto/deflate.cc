// Negotiation by the letter, and zlib kept within bounds.
#include "proto/deflate.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/check.h"
#include "core/limits.h"
#include "proto/http_fields.h"

namespace pulse {
namespace {

// What a sender leaves out at the end of each message (RFC 7692 section 7.2.1): LEN and NLEN of the
// empty stored block that a sync flush ends with.
constexpr uint8_t kTail[] = {0x00, 0x00, 0xFF, 0xFF};

constexpr uint8_t kWindowBitsMin = 8;
constexpr uint8_t kWindowBitsMax = 15;
// What z_stream::data_type says after inflate(): bits of the last byte not used, and two flags.
constexpr int kUnusedBits = 63;
constexpr int kInFinalBlock = 64;
constexpr int kAtBlockEnd = 128;

constexpr int kAnyWindow = -15;  // negative: raw deflate, without zlib's header

// Speed first: on JSON of 128 B to 4 KiB level 6 took up to twice the time of level 1 for at most 6
// % fewer bytes, and the smaller hash table, which every message clears, a quarter less time than
// the default one.
constexpr int kLevel = 1;
constexpr int kMemoryLevel = 5;

// One extension of a list, with what permessage-deflate can say.
struct Offer {
    std::string_view name;
    bool acceptable = true;  // all parameters known, once each, with a value that they may have
    bool server_no_context = false;
    bool client_no_context = false;
    bool client_window = false;
    uint8_t server_window_bits = 0;
};

// 8..15 without a leading zero (section 7.1.2.1); 0: anything else.
uint8_t window_bits_of(std::string_view value) {
    if (value.size() == 1 && value[0] >= '8' && value[0] <= '9')
        return static_cast<uint8_t>(value[0] - '0');
    if (value.size() == 2 && value[0] == '1' && value[1] >= '0' && value[1] <= '5')
        return static_cast<uint8_t>(10 + value[1] - '0');
    return 0;
}

void apply_parameter(Offer& offer, std::string_view name, bool has_value, std::string_view value) {
    if (name == "server_no_context_takeover") {
        offer.acceptable &= !has_value && !offer.server_no_context;
        offer.server_no_context = true;
    } else if (name == "client_no_context_takeover") {
        offer.acceptable &= !has_value && !offer.client_no_context;
        offer.client_no_context = true;
    } else if (name == "server_max_window_bits") {
        const uint8_t bits = window_bits_of(value);
        offer.acceptable &= bits != 0 && offer.server_window_bits == 0;
        offer.server_window_bits = bits != 0 ? bits : kWindowBitsMax;
    } else if (name == "client_max_window_bits") {
        offer.acceptable &= (!has_value || window_bits_of(value) != 0) && !offer.client_window;
        offer.client_window = true;
    } else {
        offer.acceptable = false;
    }
}

// extension = token *( ";" param ); param = token [ "=" value ]. False: not the grammar.
bool take_offer(FieldScanner& scanner, Offer& offer) {
    offer = {};
    offer.name = scanner.take_token();
    if (offer.name.empty()) return false;
    for (;;) {
        scanner.skip_blanks();
        if (!scanner.take(';')) return true;
        scanner.skip_blanks();
        const std::string_view name = scanner.take_token();
        if (name.empty()) return false;
        scanner.skip_blanks();
        const bool has_value = scanner.take('=');
        std::string_view value;
        if (has_value) {
            scanner.skip_blanks();
            value = scanner.take_value();
            if (value.empty()) return false;
        }
        apply_parameter(offer, name, has_value, value);
    }
}

// Calls visit(offer) for each extension of all lines. False: not the grammar.
template <class F>
bool each_offer(std::span<const std::string_view> values, F visit) {
    Offer offer;
    for (const std::string_view value : values) {
        FieldScanner scanner(value);
        bool any = false;
        for (;;) {
            scanner.skip_blanks();
            if (scanner.take(',')) continue;  // empty elements are allowed, an empty list is not
            if (scanner.at_end()) break;
            if (!take_offer(scanner, offer)) return false;
            if (!scanner.at_end() && !scanner.take(',')) return false;
            visit(offer);
            any = true;
        }
        if (!any) return false;
    }
    return true;
}

}  // namespace

DeflateAgreement agree_on_deflate(std::span<const std::string_view> values) {
    DeflateAgreement agreement;
    const bool well_formed = each_offer(values, [&](const Offer& offer) {
        if (agreement.window_bits != 0 || offer.name != "permessage-deflate" || !offer.acceptable)
            return;
        agreement.window_bits_named = offer.server_window_bits != 0;
        agreement.window_bits =
            agreement.window_bits_named ? offer.server_window_bits : kWindowBitsMax;
    });
    if (!well_formed) return {.malformed = true};
    return agreement;
}

DeflateAgreement check_deflate_answer(std::span<const std::string_view> values) {
    DeflateAgreement agreement;
    bool agreeable = true;
    const bool well_formed = each_offer(values, [&](const Offer& answer) {
        // Once, and no parameter that answers something we did not offer (client_max_window_bits).
        agreeable &= agreement.window_bits == 0 && answer.name == "permessage-deflate" &&
                     answer.acceptable && answer.server_no_context && !answer.client_window;
        agreement.window_bits = kWindowBitsMax;
    });
    if (!well_formed || !agreeable) return {.malformed = true};
    return agreement;
}

// ------------------------------------------------------------------------------------ buffer
DeflateBuffer::~DeflateBuffer() { std::free(data_); }

bool DeflateBuffer::reserve(size_t bytes) {
    if (bytes <= capacity_) return true;
    void* grown = std::realloc(data_, bytes + kReceivePadBytes);
    if (grown == nullptr) return false;
    data_ = static_cast<uint8_t*>(grown);
    capacity_ = bytes;
    return true;
}

void DeflateBuffer::trim() {
    if (capacity_ <= kDeflateKeepBytes) return;
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
}

// --------------------------------------------------------------------------------- inflating
Inflater::~Inflater() {
    if (ready_) inflateEnd(&stream_);
}

bool Inflater::prepare() {
    if (!ready_) {
        stream_ = {};
        ready_ = inflateInit2(&stream_, kAnyWindow) == Z_OK;
        return ready_;
    }
    return inflateReset(&stream_) == Z_OK;
}

// Gives `piece` to zlib until it is used up, and grows the buffer up to bytes_max + 1 as bytes
// come out. zlib stops at the end of each block (Z_BLOCK), so that blocks can be counted.
Decoded Inflater::pump(std::span<const uint8_t> piece, size_t bytes_max) {
    stream_.next_in = const_cast<uint8_t*>(piece.data());
    stream_.avail_in = static_cast<uInt>(piece.size());
    for (;;) {
        if (produced_ > bytes_max)
            return {CloseReason::message_too_big,
                    "message inflates to more than --max-message-bytes"};
        const size_t room = std::min(buffer_.capacity(), bytes_max + 1) - produced_;
        if (room == 0) {
            if (!buffer_.reserve(std::min(buffer_.capacity() * 2, bytes_max + 1)))
                return {CloseReason::out_of_memory, "no memory to inflate a message"};
            continue;
        }
        stream_.next_out = buffer_.data() + produced_;
        stream_.avail_out = static_cast<uInt>(room);
        const int code = ::inflate(&stream_, Z_BLOCK);
        produced_ += room - stream_.avail_out;
        if (code == Z_MEM_ERROR)
            return {CloseReason::out_of_memory, "no memory to inflate a message"};
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
            return {CloseReason::invalid_data, "message is no DEFLATE data"};
        ended_ = code == Z_STREAM_END;
        // Blocks after a final one go on with the same window (RFC 7692 section 7.2.3.4).
        if (ended_) inflateResetKeep(&stream_);
        if ((stream_.data_type & kAtBlockEnd) != 0 && blocks_left_-- == 0)
            return {CloseReason::invalid_data, "compressed message of too many blocks"};
        // After a final block zlib has one more thing to say, and needs no input for it.
        constexpr int kFinalBlockEnd = kAtBlockEnd | kInFinalBlock;
        if (!ended_ && (stream_.data_type & kFinalBlockEnd) == kFinalBlockEnd) continue;
        if (stream_.avail_in == 0 && stream_.avail_out > 0) return {};
        if (code == Z_BUF_ERROR && stream_.avail_out > 0)
            return {CloseReason::invalid_data, "message is no DEFLATE data"};
    }
}

Inflater::Outcome Inflater::inflate(std::span<const uint8_t> payload, size_t message_bytes_max) {
    PULSE_ASSERT(payload.size() <= kMessageBytesMax);
    produced_ = 0;
    ended_ = false;
    blocks_left_ = kInflateBlocksMin + payload.size() / kInflateBytesPerBlockMin;
    const size_t guess =
        std::min(std::max<size_t>(payload.size() * 4, 1024), message_bytes_max + 1);
    if (!prepare() || !buffer_.reserve(guess))
        return {{CloseReason::out_of_memory, "no memory to inflate a message"}, {}};
    if (!payload.empty()) {
        const Decoded fault = pump(payload, message_bytes_max);
        if (!fault.ok()) return {fault, {}};
    }
    // A final block that ends with the payload needs no tail; strict senders add a zero byte.
    if (!ended_) {
        const size_t produced = produced_;
        // A tail that gives bytes was swallowed by a block that wanted more.
        const Decoded fault = pump(kTail, message_bytes_max);
        if (!fault.ok()) return {fault, {}};
        if (ended_ || produced_ != produced || (stream_.data_type & kAtBlockEnd) == 0 ||
            (stream_.data_type & kUnusedBits) != 0)
            return {{CloseReason::invalid_data, "compressed message is cut short"}, {}};
    }
    return {{}, {buffer_.data(), produced_}};
}

// --------------------------------------------------------------------------------- deflating
Deflater::~Deflater() {
    for (z_stream* stream : streams_) {
        if (stream == nullptr) continue;
        deflateEnd(stream);
        delete stream;
    }
}

z_stream* Deflater::stream_for(uint8_t window_bits) {
    PULSE_ASSERT(window_bits >= kWindowBitsMin && window_bits <= kWindowBitsMax);
    // zlib makes no raw stream with a window of 256, but with one of 512 it never looks back more
    // than 512 - 262 bytes (its MIN_LOOKAHEAD), which a receiver with 256 follows.
    const uint8_t bits = std::max<uint8_t>(window_bits, 9);
    z_stream*& stream = streams_[bits];
    if (stream != nullptr) return deflateReset(stream) == Z_OK ? stream : nullptr;
    stream = new (std::nothrow) z_stream{};
    if (stream == nullptr) return nullptr;
    if (deflateInit2(stream, kLevel, Z_DEFLATED, -bits, kMemoryLevel, Z_DEFAULT_STRATEGY) != Z_OK) {
        delete stream;
        stream = nullptr;
    }
    return stream;
}

std::span<const uint8_t> Deflater::deflate(std::span<const uint8_t> message, uint8_t window_bits) {
    if (message.size() < kDeflateBytesMin || message.size() > kMessageBytesMax) return {};
    z_stream* stream = stream_for(window_bits);
    // Room for what is one byte shorter than the message; if that is too little it does not pay.
    const size_t room = message.size() - 1 + sizeof(kTail);
    if (stream == nullptr || !buffer_.reserve(room)) return {};
    stream->next_in = const_cast<uint8_t*>(message.data());
    stream->avail_in = static_cast<uInt>(message.size());
    stream->next_out = buffer_.data();
    stream->avail_out = static_cast<uInt>(room);
    if (::deflate(stream, Z_SYNC_FLUSH) != Z_OK || stream->avail_out == 0) return {};
    return {buffer_.data(), room - stream->avail_out - sizeof(kTail)};
}

}  // namespace pulse
