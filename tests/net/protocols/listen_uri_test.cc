// Listener URIs: schemes, options, and what is wrong with one.
#include "net/protocols/listen_uri.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "net/protocols/protocol.h"

namespace pulse::test {
namespace {

TEST(ListenUri, KnowsTheSchemesAndTheirDefault) {
    const struct {
        const char* uri;
        const Protocol* protocol;
        bool proxy;
        const char* address;
    } rows[] = {
        {"auto://127.0.0.1:1", &undetected_protocol, false, "127.0.0.1:1"},
        {"127.0.0.1:1", &undetected_protocol, false, "127.0.0.1:1"},
        {"*:9000", &undetected_protocol, false, "[::]:9000"},
        {"ws://[::1]:2", &websocket_protocol, false, "[::1]:2"},
        {"tcp://127.0.0.1:4", &binary_protocol, false, "127.0.0.1:4"},
        {"jsonl://127.0.0.1:5", &jsonl_protocol, false, "127.0.0.1:5"},
        {"ws://127.0.0.1:6/", &websocket_protocol, false, "127.0.0.1:6"},
        {"auto://*:7?proxy=on", &undetected_protocol, true, "[::]:7"},
        {"127.0.0.1:7?proxy=on", &undetected_protocol, true, "127.0.0.1:7"},
        {"ws://127.0.0.1:8/?proxy=on&proxy=off", &websocket_protocol, false, "127.0.0.1:8"},
    };
    for (const auto& row : rows) {
        const Result<ListenAddress> listener = parse_listen_uri(row.uri);
        ASSERT_TRUE(listener) << row.uri << ": " << listener.error();
        EXPECT_EQ(kProtocols[listener->protocol], row.protocol) << row.uri;
        EXPECT_EQ(listener->expects_proxy_header, row.proxy) << row.uri;
        EXPECT_EQ(listener->address.text(), row.address);
        EXPECT_EQ(listener->text, row.uri);
    }
}

TEST(ListenUri, HasTlsBelowEachScheme) {
    const struct {
        const char* uri;
        const Protocol* protocol;
    } rows[] = {
        {"wss://127.0.0.1:1", &websocket_protocol},
        {"tls+ws://127.0.0.1:1", &websocket_protocol},
        {"tls+tcp://127.0.0.1:1?proxy=on", &binary_protocol},
        {"tls+jsonl://fd:web", &jsonl_protocol},
        {"tls+auto://*:1", &undetected_protocol},
    };
    for (const auto& row : rows) {
        const Result<ListenAddress> listener = parse_listen_uri(row.uri);
        ASSERT_TRUE(listener) << row.uri << ": " << listener.error();
        EXPECT_TRUE(listener->tls) << row.uri;
        EXPECT_EQ(kProtocols[listener->protocol], row.protocol) << row.uri;
    }
    EXPECT_FALSE(parse_listen_uri("ws://127.0.0.1:1")->tls);
}

TEST(ListenUri, MayHaveALimitOfItsOwn) {
    EXPECT_EQ(parse_listen_uri("tcp://127.0.0.1:4")->connections_max, 0u);
    const Result<ListenAddress> limited =
        parse_listen_uri("auto://*:7?proxy=on&max-connections=50k");
    ASSERT_TRUE(limited) << limited.error();
    EXPECT_EQ(limited->connections_max, 50'000u);
    EXPECT_TRUE(limited->expects_proxy_header);
    for (const char* wrong : {"", "0", "x", "5G", "1.5"}) {
        const std::string uri = "tcp://127.0.0.1:4?max-connections=" + std::string(wrong);
        const Result<ListenAddress> listener = parse_listen_uri(uri);
        ASSERT_FALSE(listener) << uri;
        EXPECT_NE(listener.error().find("write something like ?max-connections=50k"),
                  std::string::npos)
            << listener.error();
    }
}

TEST(ListenUri, NamesASocketThatIsPassed) {
    for (const auto& [uri, protocol, proxy] :
         {std::tuple{"fd:web", &undetected_protocol, false},
          std::tuple{"tcp://fd:web", &binary_protocol, false},
          std::tuple{"ws://fd:web?proxy=on", &websocket_protocol, true}}) {
        const Result<ListenAddress> listener = parse_listen_uri(uri);
        ASSERT_TRUE(listener) << uri << ": " << listener.error();
        EXPECT_EQ(listener->passed_name, "web");
        EXPECT_EQ(kProtocols[listener->protocol], protocol) << uri;
        EXPECT_EQ(listener->expects_proxy_header, proxy) << uri;
        EXPECT_FALSE(listener->address.present());
        EXPECT_EQ(listener->descriptor, -1);
    }
}

TEST(ListenUri, RefusesWithOffenderAndRemedy) {
    const struct {
        const char* uri;
        std::string error;
    } rows[] = {
        {"tls+http://127.0.0.1:1", "'tls+http' is not a known scheme; write "},
        {"tls://127.0.0.1:1", "with tls+ before it, or wss://, for TLS"},
        {"http://127.0.0.1:1",
         "'http' is not a known scheme; write " + scheme_list() + " before HOST:PORT"},
        {"://127.0.0.1:1", "'' is not a known scheme"},
        {"TCP://127.0.0.1:1", "'TCP' is not a known scheme"},
        {"tcp://x", "'x': no port; write HOST:PORT"},
        {"tcp://", "no host"},
        {"tcp://127.0.0.1:1/chat", "a listener has no path; write only SCHEME://HOST:PORT"},
        {"tcp://127.0.0.1:1?proxy", "'proxy' is not an option of a listener; write ?proxy=on"},
        {"tcp://127.0.0.1:1?tls=on", "'tls=on' is not an option"},
        {"tcp://127.0.0.1:1?proxy=on&x=1", "'x=1' is not an option"},
        {"127.0.0.1", "'127.0.0.1': no port"},
        {"tcp://fd:", "not a name behind fd:; write fd:NAME"},
        {"fd:a:1", "not a name behind fd:"},
    };
    for (const auto& row : rows) {
        const Result<ListenAddress> listener = parse_listen_uri(row.uri);
        ASSERT_FALSE(listener) << row.uri;
        EXPECT_NE(listener.error().find(row.error), std::string::npos) << listener.error();
        EXPECT_NE(listener.error().find("'" + std::string(row.uri) + "'"), std::string::npos);
    }
}

}  // namespace
}  // namespace pulse::test
