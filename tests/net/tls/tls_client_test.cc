// The client's end of TLS against the server's, both ours and without a socket: whom it trusts, the
// name that it asks for, sessions that it resumes, and ends.
#include "net/tls/tls_client.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "net/io/mapped_pages.h"
#include "net/tls/openssl_memory.h"
#include "net/tls/tls_connections.h"
#include "net/tls/tls_files.h"
#include "proto/binary.h"

#include "tests/support/certificates.h"
#include "tests/support/tls_peer.h"

namespace pulse::test {
namespace {

constexpr Index kClient = 3, kServer = 7;

using binary::bytes_of;
std::span<uint8_t> records_of(std::string& text) {
    return {reinterpret_cast<uint8_t*>(text.data()), text.size()};
}
std::string text_of(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

// Two ends, and what each has heard.
class TlsPair : public testing::Test {
  protected:
    TlsPair() {
        const TestCertificate leaf({.names = {"a.example"}}, &authority_);
        leaf_ = folder_.write("leaf.pem", leaf.certificate_pem() + leaf.key_pem());
        authorities_ = folder_.write("authority.pem", authority_.certificate_pem());
        serve({});
        trust({.verify = true, .authorities = authorities_});
    }
    void serve(TlsFiles files) {
        files.certificates = {leaf_};
        Result<LoadedTls> loaded = load_tls(files, context_.get());
        ASSERT_TRUE(loaded) << loaded.error();
        context_ = loaded->context;
    }
    void trust(const TlsClientFiles& files) {
        auto made = TlsClientContext::make(files);
        ASSERT_TRUE(made) << made.error();
        client_context_ = std::move(*made);
    }
    // A handshake, as far as it goes, and the ticket behind it. Why the client failed, or nothing.
    std::string connect(const std::string& name, SSL_SESSION* resumes = nullptr) {
        EXPECT_TRUE(server_.begin(kServer, *context_));
        EXPECT_TRUE(client_.begin_client(kClient, {.context = *client_context_,
                                                   .server = name,
                                                   .resumes = resumes,
                                                   .keeps = keeps_}));
        free_tls_session(resumes);
        std::string to_server = text_of(client_.output());
        for (int flights = 0; flights < 4; ++flights) {
            const TlsConnections::Read served = server_.read(kServer, records_of(to_server));
            std::string to_client = text_of(server_.output());
            if (served.failed) return "server: " + std::string(server_.reason());
            const TlsConnections::Read read = client_.read(kClient, records_of(to_client));
            to_server = text_of(client_.output());
            if (read.failed) return std::string(client_.reason());
        }
        EXPECT_FALSE(client_.is_handshaking(kClient));
        EXPECT_FALSE(server_.is_handshaking(kServer));
        return {};
    }
    void end() {
        client_.release(kClient);
        server_.release(kServer);
    }

    TestFolder folder_;
    TestCertificate authority_{{.names = {"authority"}, .authority = true}};
    std::string leaf_, authorities_;
    std::shared_ptr<const TlsContext> context_;
    std::shared_ptr<const TlsClientContext> client_context_;
    MappedPages pages_;
    TlsSessions sessions_{2};
    TlsSessions* keeps_ = &sessions_;
    BufferPool buffers_{size_t{1} << 20};
    TlsConnections client_{pages_, buffers_, 10}, server_{pages_, buffers_, 10};
};

TEST_F(TlsPair, AsksForTheNameAndVerifiesIt) {
    EXPECT_EQ(connect("a.example"), "");
    EXPECT_EQ(client_.suite(kClient), "TLSv1.3 TLS_AES_256_GCM_SHA384");
    EXPECT_NE(server_.describe(kServer).find("for a.example"), std::string::npos);
    end();
    EXPECT_EQ(connect("b.example"), "certificate verify failed: hostname mismatch");
    end();
    // An address is verified, and is not a name to ask for (RFC 6066 section 3).
    EXPECT_EQ(connect("127.0.0.1"), "certificate verify failed: IP address mismatch");
    end();
}

TEST_F(TlsPair, TrustsWhomItIsTold) {
    const TestCertificate stranger({.names = {"stranger"}, .authority = true});
    trust({.verify = true, .authorities = folder_.write("s.pem", stranger.certificate_pem())});
    EXPECT_EQ(connect("a.example").find("certificate verify failed: "), 0u);
    end();
    trust({});
    EXPECT_EQ(connect("b.example"), "");
    end();
    for (const std::string& file : {folder_.path("none.pem"), folder_.write("x.pem", "x")}) {
        const auto made = TlsClientContext::make({.verify = true, .authorities = file});
        ASSERT_FALSE(made);
        EXPECT_EQ(made.error().find("--tls-ca " + file + ": "), 0u) << made.error();
    }
    const auto missing =
        TlsClientContext::make({.verify = true, .authorities = folder_.path("none.pem")});
    EXPECT_NE(missing.error().find("No such file"), std::string::npos) << missing.error();
}

TEST_F(TlsPair, ResumesInBothVersionsAndKeepsNoMoreThanAsked) {
    EXPECT_EQ(sessions_.take(), nullptr);
    for (const bool only_1_2 : {false, true}) {
        SSL_CTX_set_max_proto_version(client_context_->get(), only_1_2 ? TLS1_2_VERSION : 0);
        for (int more = 0; more < 3; ++more) {
            EXPECT_EQ(connect("a.example"), "");
            EXPECT_FALSE(client_.is_resumed(kClient));
            end();
        }
        EXPECT_EQ(sessions_.count(), 2u);
        // Each has another behind it, by its ticket or as the one that it had.
        for (int more = 0; more < 3; ++more) {
            EXPECT_EQ(connect("a.example", sessions_.take()), "");
            EXPECT_TRUE(client_.is_resumed(kClient));
            EXPECT_EQ(sessions_.count(), 2u);
            end();
        }
        while (SSL_SESSION* const session = sessions_.take()) free_tls_session(session);
    }
}

TEST_F(TlsPair, SpeaksAndEnds) {
    ASSERT_EQ(connect("a.example"), "");
    ASSERT_TRUE(client_.seal(kClient, bytes_of("hello")));
    std::string records = text_of(client_.output());
    EXPECT_EQ(text_of(server_.read(kServer, records_of(records)).plain), "hello");
    ASSERT_TRUE(server_.seal(kServer, bytes_of("world")));
    records = text_of(server_.output());
    EXPECT_EQ(text_of(client_.read(kClient, records_of(records)).plain), "world");
    server_.say_end(kServer);
    records = text_of(server_.output());
    const TlsConnections::Read read = client_.read(kClient, records_of(records));
    EXPECT_TRUE(read.ended && !read.failed);
    end();
    EXPECT_EQ(client_.count() + server_.count() + client_.handshaking(), 0u);
}

// Both ends without an object of OpenSSL's: the ticket behind the handshake is skipped, a record
// that comes in two parts is held, and the end is heard.
TEST_F(TlsPair, SpeaksFrozen) {
    serve({.idle = TlsIdle::frozen});
    trust({.verify = true, .authorities = authorities_, .freezes = true});
    keeps_ = nullptr;
    ASSERT_EQ(connect("a.example"), "");
    EXPECT_TRUE(client_.is_frozen(kClient) && server_.is_frozen(kServer));
    for (const std::string& text : {std::string("hello"), std::string(20'000, 'x')}) {
        ASSERT_TRUE(client_.seal(kClient, bytes_of(text)));
        std::string records = text_of(client_.output());
        EXPECT_EQ(text_of(server_.read(kServer, records_of(records)).plain), text);
        ASSERT_TRUE(server_.seal(kServer, bytes_of(text)));
        records = text_of(server_.output());
        EXPECT_EQ(text_of(client_.read(kClient, records_of(records)).plain), text);
    }
    ASSERT_TRUE(server_.seal(kServer, bytes_of("in two parts")));
    std::string records = text_of(server_.output());
    std::string first = records.substr(0, 9), second = records.substr(9);
    const TlsConnections::Read part = client_.read(kClient, records_of(first));
    EXPECT_EQ(part.rest.size(), first.size());
    ASSERT_TRUE(client_.hold(kClient, 0, part.rest));
    EXPECT_EQ(client_.wanted_bytes(kClient), second.size());
    ASSERT_TRUE(client_.hold(kClient, 0, bytes_of(second)));
    EXPECT_EQ(text_of(client_.read(kClient, {}).plain), "in two parts");
    server_.say_end(kServer);
    records = text_of(server_.output());
    const TlsConnections::Read read = client_.read(kClient, records_of(records));
    EXPECT_TRUE(read.ended && !read.failed);
    end();
}

// It must read the tickets.
TEST_F(TlsPair, IsNotFrozenWhereItKeepsSessions) {
    trust({.verify = true, .authorities = authorities_, .freezes = true});
    ASSERT_EQ(connect("a.example"), "");
    EXPECT_FALSE(client_.is_frozen(kClient));
    EXPECT_EQ(sessions_.count(), 1u);
    end();
}

// A client asks its server for as much as it likes: tickets are not the KeyUpdates of a flood.
TEST_F(TlsPair, TakesManyTickets) {
    SSL_CTX_set_num_tickets(context_->first(), 20);
    EXPECT_EQ(connect("a.example"), "");
    EXPECT_EQ(sessions_.count(), 2u);
    end();
}

// As proto/tls/ does for what is frozen. OpenSSL's client follows, and is asked for nothing.
TEST_F(TlsPair, AKeyThatIsWornIsFollowedByAnother) {
    constexpr uint64_t kMost = 20;
    constexpr size_t kRecordBytes = 23, kUpdateBytes = 27;
    for (const TlsVersion least : {TlsVersion::v1_3, TlsVersion::v1_2}) {
        TlsConnections server(pages_, buffers_, 10, kMost);
        serve({.least = least,
               .ciphers = least == TlsVersion::v1_2 ? "ECDHE-ECDSA-AES128-GCM-SHA256" : ""});
        ASSERT_TRUE(server.begin(kServer, *context_));
        TlsPeer client({.most = least == TlsVersion::v1_2 ? TLS1_2_VERSION : TLS1_3_VERSION});
        const auto read = [&] {
            std::string records = client.records();
            EXPECT_FALSE(server.read(kServer, records_of(records)).failed);
            client.take(text_of(server.output()));
        };
        read();
        read();
        ASSERT_TRUE(client.open()) << client.alert;
        size_t updates = 0, last = 0;
        for (size_t record = 1; record <= 5 * kMost; ++record) {
            ASSERT_TRUE(server.seal(kServer, bytes_of("x")));
            if (server.output().size() == kRecordBytes + kUpdateBytes) {
                ++updates;
                EXPECT_LE(record - last, kMost) << "records of a key";
                last = record;
            }
            client.take(text_of(server.output()));
        }
        EXPECT_EQ(client.heard, std::string(5 * kMost, 'x')) << client.alert;
        EXPECT_EQ(client.records(), "") << "it was asked for no key of its own";
        if (least == TlsVersion::v1_3) {
            EXPECT_GE(updates, 4u);
            EXPECT_LE(updates, 6u) << "it is counted from the new key on";
        } else {
            EXPECT_EQ(updates, 0u) << "TLS 1.2 has no such message";
        }
    }
}

// Of this process OpenSSL has memory by now.
TEST_F(TlsPair, MemoryIsNotCountedOnceThereIsSome) {
    EXPECT_FALSE(count_openssl_memory());
    EXPECT_FALSE(openssl_memory_is_counted());
}

}  // namespace
}  // namespace pulse::test
