// What tests of TLS say to a ReactorStage: listeners of every kind behind it, certificates, and
// clients that are OpenSSL's.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/net/loop/reactor_stage.h"
#include "tests/support/certificates.h"
#include "tests/support/tls_peer.h"

namespace pulse::test {

inline const std::vector<std::string> kTlsListeners = {
    "wss://10.0.0.1:9000",      "tls+tcp://10.0.0.1:9001", "tls+jsonl://10.0.0.1:9002",
    "tls+auto://10.0.0.1:9003", "auto://10.0.0.1:9004",    "wss://10.0.0.1:9005?proxy=on",
    "ws://10.0.0.1:9006"};
inline constexpr size_t kWebSocket = 0, kBinary = 1, kLines = 2, kDetected = 3, kAuto = 4,
                        kProxied = 5, kPlainWebSocket = 6;

inline const std::string kUpgrade =
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
inline const std::string kMaskedPing{"\x89\x82\x01\x02\x03\x04ij"};  // payload "hh"
inline const std::string kPong{"\x8a\x02hh"};
inline const std::string kBinaryPing{"\xB7\x01\0\0\0\0\0\x07", 8};
inline const std::string kBinaryPong{"\xB7\x02\0\0\0\0\0\x07", 8};

inline uint64_t closed_for(const ReactorStage& stage, CloseReason reason) {
    return stage.metrics().closed[static_cast<size_t>(reason)];
}
inline bool logged(const ReactorStage& stage, std::string_view words) {
    return std::ranges::any_of(stage.debug_lines(), [&](const std::string& line) {
        return line.find(words) != std::string::npos;
    });
}

// One of each, made once: a key of RSA takes a tenth of a second.
struct TlsWorld {
    TestFolder folder;
    TestCertificate authority{{.names = {"authority"}, .authority = true}};
    TestCertificate leaf{{.names = {"a.example"}}, &authority};
    TestCertificate other{{.names = {"b.example", "*.c.example"}}, &authority};
    std::string leaf_file = folder.write("a.pem", leaf.certificate_pem() + leaf.key_pem());
    std::string other_file = folder.write("b.pem", other.certificate_pem() + other.key_pem());
    std::string authority_file = folder.write("authority.pem", authority.certificate_pem());
};
inline const TlsWorld& world() {
    static const TlsWorld made;
    return made;
}

inline std::shared_ptr<const TlsContext> load_context(TlsFiles files, TlsIdle idle,
                                                      const TlsContext* before = nullptr) {
    files.idle = idle;
    const Result<LoadedTls> loaded = load_tls(files, before);
    EXPECT_TRUE(loaded) << (loaded ? "" : loaded.error());
    return loaded ? loaded->context : nullptr;
}

inline StagePlan tls_plan(const TlsFiles& files, TlsIdle idle) {
    StagePlan plan{.listen = kTlsListeners, .keeps_debug_lines = true};
    plan.options.tls_context = load_context(files, idle);
    plan.options.proxy_trusted = loopback_prefixes();
    plan.options.on_message = OnMessage::echo;
    return plan;
}

// A client and its connection.
struct TlsClient {
    ReactorStage& stage;
    size_t number;
    TlsPeer tls;

    TlsClient(ReactorStage& on, size_t listener, const TlsPeerPlan& plan = {})
        : stage(on), number(on.connect(listener)), tls(plan) {}

    void send() {
        const std::string records = tls.records();
        if (!records.empty()) stage.write(number, records);
    }
    void take() {
        const std::string records = std::exchange(stage.heard(number), {});
        tls.take(records);
    }
    // Until nothing more is said by either.
    void talk() {
        for (int round = 0; round < 12; ++round) {
            send();
            stage.settle();
            take();
        }
    }
    void say(std::string_view plain) {
        tls.say(plain);
        talk();
    }
    void upgrade() {
        talk();
        ASSERT_TRUE(tls.open()) << tls.alert;
        say(kUpgrade);
        ASSERT_TRUE(tls.heard.starts_with("HTTP/1.1 101")) << tls.heard;
        tls.heard.clear();
    }
    const Connection* record() const { return stage.record(number); }
};

}  // namespace pulse::test
