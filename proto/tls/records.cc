// Decisions on records, in the order in which OpenSSL makes them.
#include "proto/tls/records.h"

#include <openssl/err.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "proto/endian.h"

namespace pulse::tls {

// RFC 8446 section 5.1.
enum class Records::ContentType : uint8_t {
    alert = 21,
    handshake = 22,
    application_data = 23,
};

namespace {

constexpr size_t kRead = 0, kWritten = 1;
constexpr uint8_t kVersion[] = {3, 3};  // legacy_record_version, of every record
constexpr uint8_t kWarning = 1, kFatal = 2;
// Handshake messages (RFC 8446 section 4).
constexpr uint8_t kNewSessionTicket = 4, kKeyUpdate = 24;
constexpr size_t kMessageHeadBytes = 4;

// Behind a state: secret, key and IV of what is read, and of what is written.
uint8_t* secret_of(State& state, size_t way) {
    const SuiteInfo& suite = info(state.suite);
    auto* const behind = reinterpret_cast<uint8_t*>(&state) + sizeof(State);
    return behind + way * (suite.secret_bytes + suite.key_bytes + kIvBytes);
}
uint8_t* key_of(State& state, size_t way) {
    return secret_of(state, way) + info(state.suite).secret_bytes;
}
uint8_t* iv_of(State& state, size_t way) {
    return key_of(state, way) + info(state.suite).key_bytes;
}
TrafficKey traffic_key(State& state, size_t way) {
    return {.suite = state.suite,
            .key = {key_of(state, way), info(state.suite).key_bytes},
            .iv = std::span<const uint8_t, kIvBytes>(iv_of(state, way), kIvBytes)};
}

void fail(Opened& opened, Alert alert, std::string_view reason) {
    opened.failed = true;
    opened.alert = alert;
    opened.reason = reason;
}

uint32_t load_be24(const uint8_t* from) {
    return uint32_t{from[0]} << 16 | uint32_t{from[1]} << 8 | from[2];
}
void store_be24(uint8_t* to, uint32_t value) {
    to[0] = static_cast<uint8_t>(value >> 16);
    store_be16(to + 1, static_cast<uint16_t>(value));
}

}  // namespace

size_t record_bytes(std::span<const uint8_t> header) {
    PULSE_ASSERT(header.size() >= kHeaderBytes);
    return kHeaderBytes + load_be16(&header[3]);
}

// ------------------------------------------------------------------------------------------- keys

bool Records::begin(State& state, const Beginning& from) {
    const size_t bytes = info(from.suite).secret_bytes;
    PULSE_ASSERT(from.suite != Suite::none);
    PULSE_ASSERT(from.client_secret.size() == bytes && from.server_secret.size() == bytes);
    const bool is_client = from.role == Role::client;
    state = State{};
    state.number = {from.records_read, from.records_written};
    state.suite = from.suite;
    state.flags = is_client ? State::kClient : 0;
    std::ranges::copy(is_client ? from.server_secret : from.client_secret,
                      secret_of(state, kRead));
    std::ranges::copy(is_client ? from.client_secret : from.server_secret,
                      secret_of(state, kWritten));
    return derive(state, kRead) && derive(state, kWritten);
}

// RFC 8446 section 7.3.
bool Records::derive(State& state, size_t way) {
    const std::span<const uint8_t> secret{secret_of(state, way), info(state.suite).secret_bytes};
    return schedule_.expand(state.suite, secret, "key",
                            {key_of(state, way), info(state.suite).key_bytes}) &&
           schedule_.expand(state.suite, secret, "iv", {iv_of(state, way), kIvBytes});
}

// RFC 8446 section 7.2. The numbers begin anew, under a key that has sealed nothing.
bool Records::update(State& state, size_t way) {
    const std::span<uint8_t> secret{secret_of(state, way), info(state.suite).secret_bytes};
    aead_.forget(traffic_key(state, way));
    if (!schedule_.expand(state.suite, secret, "traffic upd", secret)) return false;
    if (!derive(state, way)) return false;
    state.number[way] = 0;
    return true;
}

// ----------------------------------------------------------------------------------------- opening

Opened Records::open(State& state, std::span<uint8_t> bytes) {
    Opened opened;
    updates_ = 0;
    while (!opened.failed && !state.has_ended()) {
        const std::span<uint8_t> rest = bytes.subspan(opened.bytes);
        if (rest.size() < kHeaderBytes || !begins_well(rest, opened)) break;
        const size_t whole = record_bytes(rest);
        if (rest.size() < whole) break;
        opened.bytes += whole;
        open_one(state, rest.first(whole), opened);
    }
    if (state.has_ended() || opened.failed) opened.bytes = bytes.size();
    return opened;
}

// What can be said of a record by its header is not put off until it is whole.
bool Records::begins_well(std::span<const uint8_t> header, Opened& opened) {
    if (header[1] != kVersion[0]) {
        fail(opened, Alert::protocol_version, "a record of another version");
    } else if (header[0] != static_cast<uint8_t>(ContentType::application_data)) {
        fail(opened, Alert::unexpected_message, "a record that is not sealed");
    } else if (header[2] != kVersion[1]) {
        fail(opened, Alert::decode_error, "a record of another version");
    } else if (load_be16(&header[3]) > kTlsRecordBytesMax + kTlsExpansionBytesMax) {
        fail(opened, Alert::record_overflow, "a record that is longer than any may be");
    }
    return !opened.failed;
}

void Records::open_one(State& state, std::span<uint8_t> record, Opened& opened) {
    const std::span<uint8_t> sealed = record.subspan(kHeaderBytes);
    if (sealed.size() <= kTagBytes ||
        !aead_.open(traffic_key(state, kRead), state.number[kRead], record.first(kHeaderBytes),
                    sealed)) {
        ERR_clear_error();
        return fail(opened, Alert::bad_record_mac, "a record that does not open");
    }
    ++state.number[kRead];
    // RFC 8446 section 5.4: zeros pad what is in it, whose type comes before them.
    size_t end = sealed.size() - kTagBytes;
    while (end > 0 && sealed[end - 1] == 0) --end;
    if (end == 0) return fail(opened, Alert::unexpected_message, "a record of padding only");
    on_content(state, static_cast<ContentType>(sealed[end - 1]), sealed.first(end - 1), opened);
}

void Records::on_content(State& state, ContentType type, std::span<uint8_t> content,
                         Opened& opened) {
    const bool is_data = type == ContentType::application_data;
    if (!is_data && type != ContentType::alert && type != ContentType::handshake)
        return fail(opened, Alert::unexpected_message, "a record of an unknown type");
    if (!is_data && content.empty())
        return fail(opened, Alert::unexpected_message, "a message without a byte");
    if (content.size() > kTlsRecordBytesMax)
        return fail(opened, Alert::record_overflow, "a record with more in it than any may have");
    if (content.empty()) {
        if (++state.empty_records > kTlsEmptyRecordsMax)
            fail(opened, Alert::unexpected_message, "more empty records than any peer needs");
        return;
    }
    state.empty_records = 0;
    if (type != ContentType::alert) state.warnings = 0;
    if (type == ContentType::handshake) return on_handshake(state, content, opened);
    if (state.head_bytes > 0)
        return fail(opened, Alert::unexpected_message, "a record in the middle of a message");
    if (type == ContentType::alert) return on_alert(state, content, opened);
    if (opened.plain.empty()) {
        opened.plain = content;
    } else {
        uint8_t* const behind = opened.plain.data() + opened.plain.size();
        std::memmove(behind, content.data(), content.size());
        opened.plain = {opened.plain.data(), opened.plain.size() + content.size()};
    }
}

// Levels mean nothing any more (RFC 8446 section 6).
void Records::on_alert(State& state, std::span<const uint8_t> content, Opened& opened) {
    if (content.size() != 2)
        return fail(opened, Alert::unexpected_message, "an alert that is not two bytes");
    const auto alert = static_cast<Alert>(content[1]);
    if (alert == Alert::close_notify) {
        state.flags |= State::kEnded;
    } else if (alert == Alert::user_canceled) {
        if (state.warnings == kTlsWarningsMax)
            return fail(opened, Alert::unexpected_message, "more warnings than any peer needs");
        ++state.warnings;
    } else {
        fail(opened, Alert::none, "an alert of the peer");
        opened.peer_alert = alert;
    }
}

// Messages may share a record, and be cut by records. Of a KeyUpdate one byte follows the header.
void Records::on_handshake(State& state, std::span<const uint8_t> content, Opened& opened) {
    while (!content.empty() && !opened.failed) {
        if ((state.flags & State::kSkips) != 0) {
            const uint32_t left = load_be24(&state.head[1]);
            const auto skipped = static_cast<uint32_t>(std::min<size_t>(left, content.size()));
            content = content.subspan(skipped);
            store_be24(&state.head[1], left - skipped);
            if (skipped == left) {
                state.flags &= static_cast<uint8_t>(~State::kSkips);
                state.head_bytes = 0;
            }
        } else if (state.head_bytes < kMessageHeadBytes) {
            state.head[state.head_bytes] = content[0];
            ++state.head_bytes;
            content = content.subspan(1);
            if (state.head_bytes == kMessageHeadBytes) begin_message(state, opened);
        } else {
            // What follows it is sealed with another key.
            if (content.size() > 1)
                return fail(opened, Alert::unexpected_message, "a KeyUpdate amid a record");
            state.head_bytes = 0;
            return on_key_update(state, content[0], opened);
        }
    }
}

// Its header has come.
void Records::begin_message(State& state, Opened& opened) {
    const uint32_t length = load_be24(&state.head[1]);
    const bool is_ticket =
        state.head[0] == kNewSessionTicket && (state.flags & State::kClient) != 0;
    if (!is_ticket && state.head[0] != kKeyUpdate)
        return fail(opened, Alert::unexpected_message, "a message behind the handshake");
    if (length > (is_ticket ? kTlsTicketBytesMax : 1))
        return fail(opened, Alert::illegal_parameter, "a message that is too long");
    if (length == 0) return fail(opened, Alert::decode_error, "a message without a body");
    if (is_ticket) state.flags |= State::kSkips;
}

void Records::on_key_update(State& state, uint8_t request, Opened& opened) {
    if (request > 1)
        return fail(opened, Alert::illegal_parameter, "a KeyUpdate that asks for something else");
    if (++updates_ > kTlsKeyUpdatesPerRead) {
        return fail(opened, Alert::unexpected_message,
                    "more KeyUpdates at once than any peer needs");
    }
    if (request == 1) state.flags |= State::kOwesUpdate;
    if (!update(state, kRead)) fail(opened, Alert::internal_error, "no memory for keys");
}

// ----------------------------------------------------------------------------------------- sealing

// The number is used up before anything is sealed with it, whatever comes of that.
size_t Records::seal_one(State& state, ContentType type, std::span<const uint8_t> content,
                         uint8_t* to) {
    const uint64_t number = state.number[kWritten]++;
    // Or it could wrap: a key is followed by another long before.
    PULSE_ASSERT(number <= kTlsRecordsPerKeyMax + 1);
    const size_t sealed_bytes = content.size() + 1 + kTagBytes;
    to[0] = static_cast<uint8_t>(ContentType::application_data);
    std::ranges::copy(kVersion, to + 1);
    store_be16(to + 3, static_cast<uint16_t>(sealed_bytes));
    uint8_t* const text = to + kHeaderBytes;
    std::ranges::copy(content, text);
    text[content.size()] = static_cast<uint8_t>(type);
    const bool done = aead_.seal(traffic_key(state, kWritten), number, {to, kHeaderBytes},
                                 {text, sealed_bytes});
    if (done) return kHeaderBytes + sealed_bytes;
    ERR_clear_error();
    return 0;
}

size_t Records::seal(State& state, std::span<const uint8_t> plain, uint8_t* to) {
    PULSE_ASSERT(!state.said_end() && !plain.empty());
    size_t written = 0;
    while (!plain.empty()) {
        const bool is_worn = state.number[kWritten] >= kTlsRecordsPerKeyMax;
        if (is_worn || (state.flags & State::kOwesUpdate) != 0) [[unlikely]] {
            // Answers one of the peer's, too (RFC 8446 section 4.6.3); asks for none.
            constexpr uint8_t kMessage[] = {kKeyUpdate, 0, 0, 1, 0};
            const size_t bytes = seal_one(state, ContentType::handshake, kMessage, to + written);
            if (bytes == 0 || !update(state, kWritten)) return 0;
            state.flags &= static_cast<uint8_t>(~State::kOwesUpdate);
            written += bytes;
        }
        const std::span<const uint8_t> part =
            plain.first(std::min(plain.size(), kTlsRecordBytesMax));
        const size_t bytes = seal_one(state, ContentType::application_data, part, to + written);
        if (bytes == 0) return 0;
        written += bytes;
        plain = plain.subspan(part.size());
    }
    return written;
}

size_t Records::seal_alert(State& state, Alert alert, uint8_t* to) {
    if (state.said_end()) return 0;
    state.flags |= State::kSaidEnd;
    const bool warns = alert == Alert::close_notify || alert == Alert::user_canceled;
    const uint8_t message[] = {warns ? kWarning : kFatal, static_cast<uint8_t>(alert)};
    return seal_one(state, ContentType::alert, message, to);
}

}  // namespace pulse::tls
