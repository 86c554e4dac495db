// A value for every setting that is not its default.
#pragma once

#include <map>
#include <string_view>
#include <vector>

namespace pulse::serve {

// One value for each setting that is not its default, as a flag would be given it.
inline const std::map<std::string_view, const char*> kOther = {
    {"listen", "jsonl://127.0.0.1:9100"},
    {"proxy-trusted", "10.0.0.0/8"},
    {"share-port", "on"},
    {"max-connections", "5k"},
    {"max-connections-per-address", "50"},
    {"address-share", "20"},
    {"address-share-users", "on"},
    {"accept-rate", "7/s,3"},
    {"address-accept-rate", "20/m,9"},
    {"max-handshakes", "200"},
    {"flapping", "15/1m,5m"},
    {"handshake-timeout", "2s"},
    {"tcp-keepalive", "90s"},
    {"tcp-user-timeout", "20s"},
    {"tls-cert", "a certificate"},
    {"tls-key", "a key"},
    {"tls-min", "1.3"},
    {"tls-ciphers", "TLS_AES_128_GCM_SHA256"},
    {"tls-client-ca", "authorities"},
    {"tls-idle", "frozen"},
    {"tls-handshakes", "100"},
    {"auth-token-file", "a file of tokens"},
    {"auth-jwt-key", "a \"key\""},
    {"auth-audience", "chat"},
    {"auth-deadline", "5s"},
    {"backend", "io_uring"},
    {"reactors", "5"},
    {"gather", "250us"},
    {"overload", "drop"},
    {"overload-lag", "100ms"},
    {"overload-memory", "4GiB"},
    {"overload-step", "1s"},
    {"on-anomaly", "log"},
    {"anomaly-interval", "1s"},
    {"pin", "on"},
    {"drain-delay", "3s"},
    {"drain-rate", "500/s"},
    {"drain-timeout", "1s"},
    {"drain-retry-after", "2s"},
    {"heartbeat-profile", "realtime"},
    {"heartbeat-interval", "20s"},
    {"heartbeat-timeout", "61s"},
    {"heartbeat-probe", "off"},
    {"heartbeat-adaptive", "30s..10m"},
    {"suspect-probe", "1s"},
    {"suspect-misses", "3"},
    {"nat-probes", "500"},
    {"rtt-alpha", "25%"},
    {"liveness", "roundtrip"},
    {"idle-read", "70s=close"},
    {"idle-write", "30s=probe"},
    {"idle-both", "5m=event"},
    {"idle-observe-output", "on"},
    {"tick", "16ms"},
    {"max-lifetime", "4h"},
    {"max-lifetime-jitter", "10"},
    {"duplicate", "allow=3"},
    {"max-connections-per-user", "5"},
    {"presence-linger", "10s"},
    {"resume-hold", "45s"},
    {"resume-window", "20/2KiB/10s"},
    {"resume-bytes", "8MiB"},
    {"policy", "ring=canary,10%: profile=mobile message-rate=20/s,100"},
    {"ledger", "500"},
    {"on-message", "echo"},
    {"max-message-bytes", "4KiB"},
    {"send-queue-bytes", "8KiB"},
    {"buffer-bytes", "16MiB"},
    {"message-rate", "20/s,100"},
    {"user-message-rate", "1k/h"},
    {"ws-deflate", "on"},
    {"ws-origin", "https://b.example:8443"},
    {"admin", "127.0.0.1:9200"},
    {"admin-token-file", "the tokens"},
    {"otlp-endpoint", "http://collector.example:4318"},
    {"trace-ratio", "25%"},
    {"log-file", "a log"},
    {"log-level", "error"},
    {"log-format", "json"},
    {"log-connections", "2.5%"},
    {"log-rate", "5/s,20"},
    {"stats-interval", "500ms"},
    {"stats-json", "a \"quoted\" \\ name # of a file"},
};

// Flags that a setting is refused without.
inline std::vector<const char*> needed_beside(std::string_view setting) {
    if (setting == "tls-client-ca") return {"--tls-cert=a certificate"};
    if (setting == "suspect-misses") return {"--suspect-probe=1s"};
    return {};
}

}  // namespace pulse::serve
