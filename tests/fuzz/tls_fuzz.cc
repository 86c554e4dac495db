// Any bytes as what comes behind a handshake of TLS 1.3: nothing is read or written outside of the
// buffer, and what is read does not depend on how the bytes were cut. The first byte chooses suite
// and role, the second how the rest is cut. Each of the rest says what comes: a record that is
// sealed rightly, with the content that follows, or bytes as they are.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "core/random.h"
#include "proto/endian.h"
#include "proto/tls/records.h"

namespace {

using namespace pulse;

constexpr uint8_t kSecret[2][tls::kSecretBytesMax] = {{1}, {2}};

tls::Beginning beginning(tls::Suite suite, Role role) {
    const size_t bytes = tls::info(suite).secret_bytes;
    return {.suite = suite,
            .role = role,
            .client_secret = {kSecret[0], bytes},
            .server_secret = {kSecret[1], bytes}};
}

struct Heard {
    std::string plain;
    bool ended = false, failed = false;
    tls::Alert alert = tls::Alert::none;
    friend bool operator==(const Heard&, const Heard&) = default;
};

Heard hear(const tls::Beginning& from, const std::vector<uint8_t>& wire, size_t step,
           uint64_t seed) {
    tls::Records records;
    alignas(8) std::array<std::byte, tls::kStateBytesMax> bytes{};
    auto& state = *reinterpret_cast<tls::State*>(bytes.data());
    if (!records.begin(state, from)) __builtin_trap();
    Random random(seed);
    Heard heard;
    std::vector<uint8_t> waiting;
    for (size_t at = 0; at < wire.size() && !heard.failed;) {
        const size_t piece = std::min<size_t>(wire.size() - at, 1 + random.below(step));
        // What came before moves, so that a stale pointer is seen.
        std::vector<uint8_t> all(waiting.size() + piece);
        std::ranges::copy(waiting, all.begin());
        std::copy_n(wire.begin() + static_cast<std::ptrdiff_t>(at), piece,
                    all.begin() + static_cast<std::ptrdiff_t>(waiting.size()));
        at += piece;
        const tls::Opened opened = records.open(state, all);
        heard.plain.append(opened.plain.begin(), opened.plain.end());
        heard.ended = state.has_ended();
        heard.failed = opened.failed;
        heard.alert = opened.alert;
        waiting.assign(all.begin() + static_cast<std::ptrdiff_t>(opened.bytes), all.end());
    }
    std::array<uint8_t, 200> to;
    const std::array<uint8_t, 20> answer{};
    const size_t made = records.seal(state, answer, to.data());
    if (made == 0 || made > tls::sealed_bytes_max(answer.size())) __builtin_trap();
    return heard;
}

// As many records as the input has, sealed with the keys that the end under test opens with.
std::vector<uint8_t> make_wire(const tls::Beginning& from, std::span<const uint8_t> script) {
    tls::KeySchedule schedule;
    tls::Aead aead;
    const tls::SuiteInfo& suite = tls::info(from.suite);
    std::vector<uint8_t> key(suite.key_bytes), wire;
    std::array<uint8_t, tls::kIvBytes> iv{};
    const std::span<const uint8_t> first =
        from.role == Role::client ? from.server_secret : from.client_secret;
    std::vector<uint8_t> secret(first.begin(), first.end());
    uint64_t number = 0;
    const auto derive = [&] {
        schedule.expand(from.suite, secret, "key", key);
        schedule.expand(from.suite, secret, "iv", iv);
        number = 0;
    };
    derive();
    while (!script.empty()) {
        const uint8_t what = script[0];
        script = script.subspan(1);
        const size_t bytes = std::min<size_t>(what & 31, script.size());
        const std::span<const uint8_t> content = script.first(bytes);
        script = script.subspan(bytes);
        const uint8_t kind = what >> 5;
        if (kind == 0) {
            wire.insert(wire.end(), content.begin(), content.end());
            continue;
        }
        constexpr uint8_t kTypes[] = {23, 22, 21, 23, 22, 22, 20};
        std::vector<uint8_t> record(tls::kHeaderBytes);
        record.insert(record.end(), content.begin(), content.end());
        record.push_back(kTypes[kind - 1]);
        if (kind == 4) record.resize(record.size() + 40);  // padding
        record.resize(record.size() + tls::kTagBytes);
        record[0] = 23;
        record[1] = record[2] = 3;
        store_be16(&record[3], static_cast<uint16_t>(record.size() - tls::kHeaderBytes));
        const std::span<uint8_t> all(record);
        aead.seal({from.suite, key, std::span<const uint8_t, tls::kIvBytes>(iv)}, number++,
                  all.first(tls::kHeaderBytes), all.subspan(tls::kHeaderBytes));
        wire.insert(wire.end(), record.begin(), record.end());
        if (kind == 6) {  // as behind a KeyUpdate
            schedule.expand(from.suite, secret, "traffic upd", secret);
            derive();
        }
    }
    return wire;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 3) return 0;
    const auto suite = static_cast<tls::Suite>(1 + data[0] % 3);
    const Role role = (data[0] & 4) != 0 ? Role::client : Role::server;
    const tls::Beginning from = beginning(suite, role);
    const std::vector<uint8_t> wire = make_wire(from, {data + 2, size - 2});
    const size_t step = size_t{1} << data[1] % 8;
    const Heard whole = hear(from, wire, wire.size() + 1, 0);
    const Heard cut = hear(from, wire, step, data[1]);
    // The bound of KeyUpdates is one of a read.
    if (whole.alert == tls::Alert::unexpected_message) return 0;
    if (!(whole == cut)) __builtin_trap();
    return 0;
}
