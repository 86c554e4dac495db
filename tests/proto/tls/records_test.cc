// Records of TLS 1.3: RFC 8448's bytes, and every decision on a record beside a live SSL object
// that reads the same bytes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "proto/binary.h"
#include "proto/endian.h"
#include "proto/tls/records.h"

#include "tests/support/scale.h"
#include "tests/support/tls_pair.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;
using tls::Alert;
using tls::Suite;

constexpr Suite kAll[] = {Suite::aes_128_gcm_sha256, Suite::aes_256_gcm_sha384,
                          Suite::chacha20_poly1305_sha256};
constexpr uint8_t kAlertType = 21, kHandshakeType = 22, kDataType = 23;

std::vector<uint8_t> unhex(std::string_view text) {
    std::vector<uint8_t> bytes;
    for (size_t at = 0; at + 1 < text.size(); at += 2)
        bytes.push_back(
            static_cast<uint8_t>(std::stoi(std::string(text.substr(at, 2)), nullptr, 16)));
    return bytes;
}
using binary::bytes_of;
std::string text_of(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

// One end of a connection, by our records.
class End {
  public:
    explicit End(const tls::Beginning& from) { EXPECT_TRUE(records_.begin(state(), from)); }
    tls::State& state() { return *reinterpret_cast<tls::State*>(bytes_.data()); }

    std::string seal(std::string_view plain) {
        std::string to(tls::sealed_bytes_max(plain.size()), '\0');
        to.resize(records_.seal(state(), bytes_of(plain), reinterpret_cast<uint8_t*>(to.data())));
        return to;
    }
    std::string alert(Alert alert) {
        std::string to(tls::kAlertRecordBytes, '\0');
        to.resize(records_.seal_alert(state(), alert, reinterpret_cast<uint8_t*>(to.data())));
        return to;
    }
    // As its callers do: what is not whole is given again.
    Verdict read(std::string_view piece) {
        waiting_ += piece;
        Verdict verdict;
        if (failed_) return verdict;
        std::span<uint8_t> all{reinterpret_cast<uint8_t*>(waiting_.data()), waiting_.size()};
        opened_ = records_.open(state(), all);
        verdict.plain = text_of(opened_.plain);
        waiting_.erase(0, opened_.bytes);
        verdict.ended = state().has_ended();
        verdict.failed = failed_ = opened_.failed;
        verdict.alert = opened_.alert;
        return verdict;
    }
    const tls::Opened& opened() const { return opened_; }

  private:
    tls::Records records_;
    alignas(8) std::array<std::byte, tls::kStateBytesMax> bytes_{};
    std::string waiting_;
    tls::Opened opened_;
    bool failed_ = false;
};

// A peer that seals anything, whatever a record may hold.
class Forger {
  public:
    explicit Forger(const tls::Beginning& peer)
        : suite_(peer.suite),
          secret_(peer.client_secret.begin(), peer.client_secret.end()),
          number_(peer.records_read) {
        derive();
    }
    std::string record(uint8_t type, std::string_view content, size_t padding = 0) {
        const std::string inner =
            std::string(content) + static_cast<char>(type) + std::string(padding, '\0');
        return sealed(inner);
    }
    std::string sealed(std::string_view inner) {
        std::string all = "\x17\x03\x03"s + std::string(2, '\0') + std::string(inner) +
                          std::string(tls::kTagBytes, '\0');
        auto* const at = reinterpret_cast<uint8_t*>(all.data());
        store_be16(at + 3, static_cast<uint16_t>(inner.size() + tls::kTagBytes));
        EXPECT_TRUE(aead_.seal({suite_, key_, std::span<const uint8_t, tls::kIvBytes>(iv_)},
                               number_++, {at, tls::kHeaderBytes},
                               {at + tls::kHeaderBytes, all.size() - tls::kHeaderBytes}));
        return all;
    }
    void update() {
        EXPECT_TRUE(schedule_.expand(suite_, secret_, "traffic upd", secret_));
        derive();
        number_ = 0;
    }

  private:
    void derive() {
        key_.resize(tls::info(suite_).key_bytes);
        EXPECT_TRUE(schedule_.expand(suite_, secret_, "key", key_));
        EXPECT_TRUE(schedule_.expand(suite_, secret_, "iv", iv_));
    }
    const Suite suite_;
    std::vector<uint8_t> secret_, key_;
    std::array<uint8_t, tls::kIvBytes> iv_{};
    uint64_t number_;
    tls::KeySchedule schedule_;
    tls::Aead aead_;
};

// ---------------------------------------------------------------------------------------- RFC 8448

const std::vector<uint8_t> kClientSecret =
    unhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5");
const std::vector<uint8_t> kServerSecret =
    unhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");

// Section 3: of the server's records one came before, a ticket.
TEST(TlsRecords, AreThoseOfRfc8448) {
    std::vector<uint8_t> payload(50);
    std::iota(payload.begin(), payload.end(), uint8_t{0});
    tls::Beginning from{.suite = Suite::aes_128_gcm_sha256,
                        .client_secret = kClientSecret,
                        .server_secret = kServerSecret,
                        .records_written = 1};
    End server(from);
    from.role = Role::client;
    from.records_read = 1;
    from.records_written = 0;
    End client(from);
    const std::string data = client.seal(text_of(payload));
    EXPECT_EQ(data, text_of(unhex("1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f"
                                  "2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae6"
                                  "3aeebb21694915e4")));
    EXPECT_EQ(server.read(data).plain, text_of(payload));
    const std::string answer = server.seal(text_of(payload));
    EXPECT_EQ(answer,
              text_of(unhex("17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36"
                            "e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf33254"
                            "0dd032e167c2955d")));
    EXPECT_EQ(client.read(answer).plain, text_of(payload));
    const std::string end = client.alert(Alert::close_notify);
    EXPECT_EQ(end, text_of(unhex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3")));
    EXPECT_TRUE(server.read(end).ended);
    const std::string other_end = server.alert(Alert::close_notify);
    EXPECT_EQ(other_end, text_of(unhex("1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9")));
    EXPECT_TRUE(client.read(other_end).ended);
    EXPECT_EQ(client.alert(Alert::close_notify), "") << "once";
}

// ---------------------------------------------------------------------------------- beside OpenSSL

std::string message(uint8_t type, std::string_view body) {
    std::string all{static_cast<char>(type), 0, static_cast<char>(body.size() >> 8),
                    static_cast<char>(body.size())};
    return all.append(body);
}
const std::string kUpdate = message(24, "\0"s), kAskingUpdate = message(24, "\1"s);
const std::string kCanceled = "\1\x5a"s, kEnd = "\1\0"s;

// What a peer does, right or wrong.
struct Act {
    const char* name;
    std::string (*records)(Forger&);
};
std::string repeated(Forger& peer, int count, uint8_t type, std::string_view content) {
    std::string all;
    for (int record = 0; record < count; ++record) all += peer.record(type, content);
    return all;
}
std::string updated(Forger& peer, const std::string& records) {
    peer.update();
    return records;
}
std::string forged(std::string record, size_t at) {
    record[at] = static_cast<char>(record[at] ^ 1);
    return record;
}

const Act kRight[] = {
    {"data", [](Forger& peer) { return peer.record(kDataType, "some words"); }},
    {"no data", [](Forger& peer) { return peer.record(kDataType, ""); }},
    {"padded data", [](Forger& peer) { return peer.record(kDataType, "padded", 300); }},
    {"padding only", [](Forger& peer) { return peer.record(kDataType, "", 5); }},
    {"as much as a record may have",
     [](Forger& peer) { return peer.record(kDataType, std::string(16'384, 'x')); }},
    {"as much padding as a record may have",
     [](Forger& peer) { return peer.record(kDataType, "x", 16'384 + 256 - 18); }},
    {"a KeyUpdate",
     [](Forger& peer) { return updated(peer, peer.record(kHandshakeType, kUpdate)); }},
    {"a KeyUpdate that asks for one",
     [](Forger& peer) { return updated(peer, peer.record(kHandshakeType, kAskingUpdate, 9)); }},
    {"a KeyUpdate in pieces",
     [](Forger& peer) {
         return updated(peer, peer.record(kHandshakeType, kUpdate.substr(0, 1)) +
                                  peer.record(kHandshakeType, kUpdate.substr(1, 3)) +
                                  peer.record(kHandshakeType, kUpdate.substr(4)));
     }},
    {"a warning", [](Forger& peer) { return peer.record(kAlertType, kCanceled); }},
    {"empty records, as many as may be",
     [](Forger& peer) { return repeated(peer, 32, kDataType, "") + peer.record(kDataType, "x"); }},
};

const Act kWrong[] = {
    {"the end", [](Forger& peer) { return peer.record(kAlertType, kEnd); }},
    {"an end that is fatal", [](Forger& peer) { return peer.record(kAlertType, "\2\0"s); }},
    {"an alert", [](Forger& peer) { return peer.record(kAlertType, "\2\x28"); }},
    {"an alert that warns", [](Forger& peer) { return peer.record(kAlertType, "\1\x64"); }},
    {"warnings", [](Forger& peer) { return repeated(peer, 5, kAlertType, kCanceled); }},
    {"an alert of one byte", [](Forger& peer) { return peer.record(kAlertType, "\2"); }},
    {"an alert of three bytes", [](Forger& peer) { return peer.record(kAlertType, "\2\x28x"); }},
    {"an empty alert", [](Forger& peer) { return peer.record(kAlertType, ""); }},
    {"an empty message", [](Forger& peer) { return peer.record(kHandshakeType, ""); }},
    {"more than a record may have",
     [](Forger& peer) { return peer.record(kDataType, std::string(16'385, 'x')); }},
    {"one byte more than a record may be",
     [](Forger& peer) { return peer.record(kDataType, "x", 16'384 + 256 - 17); }},
    {"more empty records than may be",
     [](Forger& peer) { return repeated(peer, 33, kDataType, ""); }},
    {"a type of zero", [](Forger& peer) { return peer.sealed(std::string(20, '\0')); }},
    {"nothing but a type of zero", [](Forger& peer) { return peer.sealed("\0"s); }},
    {"no type", [](Forger& peer) { return peer.sealed(""); }},
    {"a type that is not known", [](Forger& peer) { return peer.record(99, "x"); }},
    {"an empty record of such a type", [](Forger& peer) { return peer.record(99, ""); }},
    {"a sealed ChangeCipherSpec", [](Forger& peer) { return peer.record(20, "\1"); }},
    {"a ChangeCipherSpec", [](Forger&) { return "\x14\3\3\0\1\1"s; }},
    {"an alert that is not sealed", [](Forger&) { return "\x15\3\3\0\2\2\x28"s; }},
    {"a message that is not sealed", [](Forger&) { return "\x16\3\3\0\5\x18\0\0\1\0"s; }},
    {"another type", [](Forger&) { return "GET / HTTP/1.1\r\n\r\n"s; }},
    {"another version", [](Forger& peer) { return forged(peer.record(kDataType, "x"), 1); }},
    {"another minor version", [](Forger& peer) { return forged(peer.record(kDataType, "x"), 2); }},
    {"a wrong tag", [](Forger& peer) {
         const std::string record = peer.record(kDataType, "x");
         return forged(record, record.size() - 1);
     }},
    {"a wrong byte", [](Forger& peer) { return forged(peer.record(kDataType, "x"), 5); }},
    {"another length", [](Forger& peer) { return forged(peer.record(kDataType, "x"), 4) + "x"; }},
    {"no length", [](Forger&) { return "\x17\3\3\0\0"s; }},
    {"the length of a tag", [](Forger&) { return "\x17\3\3\0\x10"s + std::string(16, 'x'); }},
    {"a record again",
     [](Forger& peer) {
         const std::string record = peer.record(kDataType, "x");
         return record + record;
     }},
    {"a record that is left out",
     [](Forger& peer) {
         peer.record(kDataType, "x");
         return peer.record(kDataType, "y");
     }},
    {"a KeyUpdate that asks for something else",
     [](Forger& peer) {
         return updated(peer, peer.record(kHandshakeType, message(24, "\2")));
     }},
    {"a KeyUpdate without a body",
     [](Forger& peer) { return peer.record(kHandshakeType, message(24, "")); }},
    {"a KeyUpdate of two bytes",
     [](Forger& peer) { return peer.record(kHandshakeType, message(24, "\0\0"s)); }},
    {"a KeyUpdate and more",
     [](Forger& peer) { return peer.record(kHandshakeType, kUpdate + "\x18"); }},
    {"KeyUpdates in one record",
     [](Forger& peer) { return peer.record(kHandshakeType, kUpdate + kUpdate); }},
    {"data with the key before a KeyUpdate",
     [](Forger& peer) {
         return peer.record(kHandshakeType, kUpdate) + peer.record(kDataType, "x");
     }},
    {"data in the middle of a message",
     [](Forger& peer) {
         return peer.record(kHandshakeType, kUpdate.substr(0, 3)) + peer.record(kDataType, "x");
     }},
    {"an end in the middle of a message",
     [](Forger& peer) {
         return peer.record(kHandshakeType, kUpdate.substr(0, 3)) + peer.record(kAlertType, kEnd);
     }},
    {"a hello request", [](Forger& peer) { return peer.record(kHandshakeType, message(0, "")); }},
    {"a ClientHello",
     [](Forger& peer) { return peer.record(kHandshakeType, message(1, std::string(60, 'x'))); }},
    {"a ticket of a client",
     [](Forger& peer) { return peer.record(kHandshakeType, message(4, std::string(60, 'x'))); }},
    {"a certificate",
     [](Forger& peer) { return peer.record(kHandshakeType, message(11, std::string(9, 'x'))); }},
    {"a message that is not known",
     [](Forger& peer) { return peer.record(kHandshakeType, message(254, "x")); }},
};

// In pieces of at most so many bytes, as they come; 0: at once.
Verdict read_by_ours(const tls::Beginning& from, std::string_view records, size_t most,
                     Random& random) {
    End end(from);
    Verdict all;
    while (!records.empty()) {
        const size_t piece =
            most == 0 ? records.size() : std::min<size_t>(random.between(1, most), records.size());
        const Verdict got = end.read(records.substr(0, piece));
        records.remove_prefix(piece);
        all.plain += got.plain;
        all.ended = got.ended;
        all.failed = got.failed;
        all.alert = got.alert;
        if (got.failed) break;
    }
    return all;
}

void expect_same(TlsPair& pair, const std::string& records, const std::string& what) {
    Random random(records.size());
    const Verdict expected = read_by_openssl(pair.server(), records);
    for (const size_t most : {size_t{0}, size_t{1}, size_t{40}, size_t{5'000}}) {
        const Verdict got = read_by_ours(pair.server_beginning(), records, most, random);
        EXPECT_EQ(got.plain, expected.plain) << what << ", " << most;
        EXPECT_EQ(got.ended, expected.ended) << what << ", " << most;
        EXPECT_EQ(got.failed, expected.failed) << what << ", " << most;
        EXPECT_EQ(got.alert, expected.alert) << what << ", " << most;
    }
}

TEST(TlsRecords, AreJudgedAsOpensslJudgesThem) {
    size_t acts = 0;
    for (const Suite suite : kAll) {
        for (const std::span<const Act> all : {std::span<const Act>(kRight), {kWrong}}) {
            for (const Act& act : all) {
                TlsPair pair(suite);
                Forger peer(pair.server_beginning());
                std::string records = peer.record(kDataType, "before");
                records += act.records(peer);
                records += peer.record(kDataType, "behind");
                expect_same(pair, records, act.name);
                ++acts;
            }
        }
    }
    EXPECT_EQ(acts, 3 * (std::size(kRight) + std::size(kWrong)));
}

// Random conversations, which end in what is wrong or do not.
TEST(TlsRecords, AreJudgedAsOpensslJudgesThemInAnyOrder) {
    for (uint64_t seed = 1; seed <= scaled(300); ++seed) {
        Random random(seed);
        TlsPair pair(kAll[seed % std::size(kAll)]);
        Forger peer(pair.server_beginning());
        std::string records, what = std::to_string(seed);
        const uint64_t right = random.below(7);
        for (uint64_t act = 0; act < right; ++act) {
            const Act& chosen = kRight[random.below(std::size(kRight))];
            records += chosen.records(peer);
            what.append("; ").append(chosen.name);
        }
        if (random.chance(2, 3)) {
            const Act& chosen = kWrong[random.below(std::size(kWrong))];
            records += chosen.records(peer) + peer.record(kDataType, "behind");
            what.append("; ").append(chosen.name);
        }
        if (random.chance(1, 4)) records.resize(records.size() - random.below(records.size() + 1));
        expect_same(pair, records, what);
    }
}

// However many tickets went before.
TEST(TlsRecords, OpensslReadsOurs) {
    for (const Suite suite : kAll) {
        for (const int tickets : {0, 1, 2, 5}) {
            TlsPair pair(suite, tickets);
            EXPECT_EQ(pair.server_beginning().records_written, static_cast<uint64_t>(tickets));
            End server(pair.server_beginning());
            std::string all = pair.written_by(pair.server()), said;
            for (const size_t bytes : {1, 10, 16'384, 16'385, 50'000}) {
                const std::string words(bytes, static_cast<char>('a' + bytes % 26));
                said += words;
                all += server.seal(words);
            }
            const Verdict heard =
                read_by_openssl(pair.client(), all + server.alert(Alert::close_notify));
            EXPECT_EQ(heard.plain, said);
            EXPECT_TRUE(heard.ended);
            EXPECT_EQ(heard.alert, Alert::none);
        }
    }
}

TEST(TlsRecords, AClientSkipsTicketsAndIsRead) {
    for (const Suite suite : kAll) {
        TlsPair pair(suite, 3);
        End client(pair.client_beginning());
        SSL_write(pair.server(), "words", 5);
        std::string heard;
        for (const char byte : pair.written_by(pair.server()))
            heard += client.read(std::string(1, byte)).plain;
        EXPECT_EQ(heard, "words");
        EXPECT_EQ(read_by_openssl(pair.server(), client.seal("an answer")).plain, "an answer");
        SSL_key_update(pair.server(), SSL_KEY_UPDATE_REQUESTED);
        SSL_write(pair.server(), "more", 4);
        EXPECT_EQ(client.read(pair.written_by(pair.server())).plain, "more");
        EXPECT_EQ(read_by_openssl(pair.server(), client.seal("yes")).plain, "yes");
    }
}

TEST(TlsRecords, KeysAreUpdatedByEachEnd) {
    for (const Suite suite : kAll) {
        TlsPair pair(suite);
        End server(pair.server_beginning());
        read_by_openssl(pair.client(), pair.written_by(pair.server()));
        for (int round = 0; round < 20; ++round) {
            SSL_key_update(pair.client(), round % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED
                                                         : SSL_KEY_UPDATE_NOT_REQUESTED);
            SSL_write(pair.client(), "words", 5);
            ASSERT_EQ(server.read(pair.written_by(pair.client())).plain, "words");
            const uint64_t before = server.state().number[1];
            ASSERT_EQ(read_by_openssl(pair.client(), server.seal("answer")).plain, "answer");
            EXPECT_EQ(server.state().number[1], round % 2 == 0 ? 1 : before + 1);
        }
    }
}

TEST(TlsRecords, KeysAreUpdatedBeforeTheyAreWornOut) {
    for (const Suite suite : kAll) {
        TlsPair pair(suite);
        tls::Beginning from = pair.server_beginning();
        from.records_written = kTlsRecordsPerKeyMax - 2;
        End server(from);
        from.role = Role::client;
        from.records_read = kTlsRecordsPerKeyMax - 2;
        from.records_written = 0;
        End client(from);
        for (uint64_t record = 0; record < 5; ++record) {
            const Verdict heard = client.read(server.seal("words"));
            ASSERT_EQ(heard.plain, "words") << client.opened().reason;
            EXPECT_EQ(server.state().number[1],
                      record < 2 ? kTlsRecordsPerKeyMax - 1 + record : record - 1);
        }
    }
}

TEST(TlsRecords, AFloodOfKeyUpdatesIsRefused) {
    TlsPair pair(Suite::aes_128_gcm_sha256);
    Forger peer(pair.server_beginning());
    std::string records;
    for (uint32_t update = 0; update < kTlsKeyUpdatesPerRead; ++update)
        records += updated(peer, peer.record(kHandshakeType, kUpdate));
    End server(pair.server_beginning());
    EXPECT_FALSE(server.read(records).failed);
    records.clear();
    for (uint32_t update = 0; update <= kTlsKeyUpdatesPerRead; ++update)
        records += updated(peer, peer.record(kHandshakeType, kUpdate));
    EXPECT_EQ(server.read(records).alert, Alert::unexpected_message);
}

// How often this process has, in what it may write to, the bytes of which `inverted` has the
// complement: so the search does not find itself, nor in its window, which is a mapping apart.
size_t places_of(const std::vector<uint8_t>& inverted) {
    constexpr size_t kWindow = size_t{1} << 20;
    const auto is_complement = [](uint8_t a, uint8_t b) { return (a ^ b) == 0xff; };
    const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    auto* const window = static_cast<uint8_t*>(mmap(nullptr, kWindow, PROT_READ | PROT_WRITE,
                                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(window, kWindow, MADV_DONTFORK);  // not one mapping with its neighbours
    const auto own = reinterpret_cast<uintptr_t>(window);
    std::ifstream maps("/proc/self/maps");
    size_t places = 0;
    for (std::string line; std::getline(maps, line);) {
        size_t first = 0, end = 0;
        char rights[5] = {};
        if (std::sscanf(line.c_str(), "%zx-%zx %4s", &first, &end, rights) != 3) continue;
        const bool is_of_a_sanitizer = end - first > size_t{1} << 30;
        if (rights[1] != 'w' || is_of_a_sanitizer || (first <= own && own < end)) continue;
        for (; first < end; first += kWindow) {
            const ssize_t got = pread(memory, window, std::min(kWindow, end - first),
                                      static_cast<off_t>(first));
            const uint8_t* const behind = window + std::max<ssize_t>(got, 0);
            for (const uint8_t* at = window;; ++at, ++places) {
                at = std::search(at, behind, inverted.begin(), inverted.end(), is_complement);
                if (at == behind) break;
            }
        }
    }
    munmap(window, kWindow);
    close(memory);
    return places;
}

// Or what was sealed with it could be opened by one that reads this memory later.
TEST(TlsRecords, AKeyIsForgottenWhenAnotherFollows) {
    End server({.suite = Suite::aes_128_gcm_sha256,
                .client_secret = kClientSecret,
                .server_secret = kServerSecret,
                .records_written = kTlsRecordsPerKeyMax - 1});
    const tls::SuiteInfo& suite = tls::info(Suite::aes_128_gcm_sha256);
    const auto* const key = reinterpret_cast<const uint8_t*>(&server.state()) + sizeof(tls::State) +
                            2 * suite.secret_bytes + suite.key_bytes + tls::kIvBytes;
    std::vector<uint8_t> inverted;
    for (size_t byte = 0; byte < suite.key_bytes; ++byte)
        inverted.push_back(static_cast<uint8_t>(~key[byte]));
    server.seal("the last with it");
    EXPECT_GE(places_of(inverted), 2u) << "the state's, and a context's";
    server.seal("the first with the next");
    EXPECT_EQ(places_of(inverted), 0u);
}

// More connections than contexts keep their key.
TEST(TlsRecords, ConnectionsDoNotShareKeys) {
    tls::Records records;
    struct One {
        tls::Beginning from;
        alignas(8) std::array<std::byte, tls::kStateBytesMax> bytes{};
        std::unique_ptr<End> client;
        tls::State& state() { return *reinterpret_cast<tls::State*>(bytes.data()); }
    };
    std::vector<std::unique_ptr<TlsPair>> pairs;
    std::vector<One> all(30);
    for (size_t i = 0; i < all.size(); ++i) {
        pairs.push_back(std::make_unique<TlsPair>(kAll[i % std::size(kAll)]));
        ASSERT_TRUE(records.begin(all[i].state(), pairs[i]->server_beginning()));
        all[i].client = std::make_unique<End>(pairs[i]->client_beginning());
        EXPECT_EQ(all[i].client->read(pairs[i]->written_by(pairs[i]->server())).plain, "");
    }
    Random random(7);
    for (int round = 0; round < 2'000; ++round) {
        One& one = all[random.chance(1, 2) ? random.below(4) : random.below(all.size())];
        std::string words = one.client->seal("PING"), answer(100, '\0');
        const tls::Opened opened = records.open(
            one.state(), {reinterpret_cast<uint8_t*>(words.data()), words.size()});
        ASSERT_EQ(text_of(opened.plain), "PING");
        answer.resize(records.seal(one.state(), bytes_of("PONG"),
                                   reinterpret_cast<uint8_t*>(answer.data())));
        ASSERT_EQ(one.client->read(answer).plain, "PONG");
    }
}

// The one fault from which no secret would recover ends the process instead.
TEST(TlsRecordsDeathTest, ANonceIsNotUsedTwice) {
    TlsPair pair(Suite::aes_128_gcm_sha256);
    tls::Records records;
    alignas(8) std::array<std::byte, tls::kStateBytesMax> bytes{}, copy{};
    auto& state = *reinterpret_cast<tls::State*>(bytes.data());
    ASSERT_TRUE(records.begin(state, pair.server_beginning()));
    copy = bytes;
    auto& other = *reinterpret_cast<tls::State*>(copy.data());
    std::array<uint8_t, 100> to;
    ASSERT_GT(records.seal(state, bytes_of("one"), to.data()), 0u);
    EXPECT_DEATH(records.seal(other, bytes_of("two"), to.data()), "next_number");
}

}  // namespace
}  // namespace pulse::test
