// Addresses and listener URIs: a table of what is understood, a table of what is refused and how.
#include "net/io/address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>

namespace pulse {
namespace {

TEST(Address, UnderstandsEveryKindOfHostAndWritesItBack) {
    const struct {
        const char* text;
        int family;
        uint16_t port;
        const char* written;
    } rows[] = {
        {"127.0.0.1:9000", AF_INET, 9000, "127.0.0.1:9000"},
        {"0.0.0.0:1", AF_INET, 1, "0.0.0.0:1"},
        {"255.255.255.255:65535", AF_INET, 65535, "255.255.255.255:65535"},
        {"localhost:80", AF_INET, 80, "127.0.0.1:80"},
        {"*:9000", AF_INET6, 9000, "[::]:9000"},
        {"[::1]:9000", AF_INET6, 9000, "[::1]:9000"},
        {"[2001:db8:0:0::7]:443", AF_INET6, 443, "[2001:db8::7]:443"},
        {"[::ffff:10.0.0.1]:5", AF_INET6, 5, "[::ffff:10.0.0.1]:5"},
        {"127.0.0.2:0", AF_INET, 0, "127.0.0.2:0"},
    };
    for (const auto& row : rows) {
        const Result<SocketAddress> address = parse_address(row.text);
        ASSERT_TRUE(address) << row.text << ": " << address.error();
        EXPECT_TRUE(address->present());
        EXPECT_EQ(address->base.sa_family, row.family) << row.text;
        EXPECT_EQ(address->port(), row.port) << row.text;
        EXPECT_EQ(address->text(), row.written);
        EXPECT_EQ(address->size_bytes(),
                  row.family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    }
}

// Every error names the text, what is wrong with it, and what to write instead.
TEST(Address, RefusesWithOffenderAndRemedy) {
    const struct {
        const char* text;
        const char* error;
    } rows[] = {
        {"", "'': no host; write HOST:PORT, for example 127.0.0.1:9000 or [::1]:9000"},
        {":9000", "no host"},
        {"127.0.0.1", "'127.0.0.1': no port; write HOST:PORT"},
        {"127.0.0.1:", "no port"},
        {"127.0.0.1:x", "'x' is not a port; a port is a number up to 65535"},
        {"127.0.0.1:65536", "'65536' is not a port"},
        {"127.0.0.1:-1", "'-1' is not a port"},
        {"127.0.0.1:80 ", "'80 ' is not a port"},
        {"127.0.0.1: 80", "' 80' is not a port"},
        {"127.0.0.1:+80", "'+80' is not a port"},
        {"127.0.0:80", "'127.0.0' is not an address"},
        {"256.0.0.1:80", "'256.0.0.1' is not an address"},
        {"example.org:80", "names are not looked up"},
        {"::1", "an IPv6 address without brackets"},
        {"::1:9000", "an IPv6 address without brackets"},
        {"2001:db8::7:443", "write [ADDRESS]:PORT"},
        {"[::1]", "no port"},
        {"[::1]9000", "no port"},
        {"[::1:9000", "no closing bracket"},
        {"[]:9000", "'' is no IPv6 address"},
        {"[127.0.0.1]:9000", "'127.0.0.1' is no IPv6 address; write for example [::1]"},
        {"[::1%eth0]:9000", "is no IPv6 address"},
    };
    for (const auto& row : rows) {
        const Result<SocketAddress> address = parse_address(row.text);
        ASSERT_FALSE(address) << row.text;
        EXPECT_NE(address.error().find(row.error), std::string::npos) << address.error();
        EXPECT_NE(address.error().find("'" + std::string(row.text) + "'"), std::string::npos);
        EXPECT_NE(address.error().find("; "), std::string::npos) << address.error();
    }
}

TEST(Address, ADefaultOneIsNone) {
    const SocketAddress none;
    EXPECT_FALSE(none.present());
    EXPECT_EQ(none.size_bytes(), 0u);
    EXPECT_EQ(none.text(), "none");
}

TEST(Address, AMappedIpv4AddressBecomesIpv4) {
    SocketAddress address = *parse_address("[::ffff:10.1.2.3]:77");
    address.unmap();
    EXPECT_EQ(address.text(), "10.1.2.3:77");
    address.unmap();
    EXPECT_EQ(address.text(), "10.1.2.3:77");
    SocketAddress other = *parse_address("[2001:db8::1]:77");
    other.unmap();
    EXPECT_EQ(other.text(), "[2001:db8::1]:77");
}

TEST(Address, ANulInTheTextIsRefused) {
    EXPECT_FALSE(parse_address(std::string_view("127.0.0.1:80\0x", 14)));
}

TEST(Prefix, ContainsAddressesThatBeginWithIt) {
    const struct {
        const char* prefix;
        const char* text;
        std::vector<const char*> inside;
        std::vector<const char*> outside;
    } rows[] = {
        {"10.0.0.0/8", "10.0.0.0/8", {"10.0.0.0:1", "10.255.255.255:2"}, {"11.0.0.0:1", "[::]:1"}},
        {"192.0.2.7", "192.0.2.7/32", {"192.0.2.7:9"}, {"192.0.2.6:9", "192.0.2.8:9"}},
        {"192.0.2.128/25", "192.0.2.128/25", {"192.0.2.128:1", "192.0.2.255:1"}, {"192.0.2.127:1"}},
        {"0.0.0.0/0", "0.0.0.0/0", {"255.1.2.3:1"}, {"[::1]:1"}},
        {"::1", "::1/128", {"[::1]:1"}, {"[::2]:1", "127.0.0.1:1", "[1::1]:1"}},
        {"fd00::/9", "fd00::/9", {"[fd7f:ffff::1]:1"}, {"[fd80::]:1", "[fc00::]:1"}},
        {"::/0", "::/0", {"[ffff::]:1"}, {"127.0.0.1:1"}},
        {"::ffff:10.0.0.0/104", "10.0.0.0/8", {"10.9.9.9:1"}, {"11.0.0.1:1"}},
    };
    for (const auto& row : rows) {
        const Result<AddressPrefix> prefix = parse_prefix(row.prefix);
        ASSERT_TRUE(prefix) << prefix.error();
        EXPECT_EQ(prefix->text(), row.text);
        for (const char* in : row.inside)
            EXPECT_TRUE(prefix->contains(*parse_address(in))) << row.prefix << " " << in;
        for (const char* out : row.outside)
            EXPECT_FALSE(prefix->contains(*parse_address(out))) << row.prefix << " " << out;
        EXPECT_FALSE(prefix->contains(SocketAddress{})) << "an unknown peer is in no block";
    }
}

TEST(Prefix, RefusesWithOffenderAndRemedy) {
    for (const char* text :
         {"", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0/8",
          "localhost/8", "[::1]/128", "10.0.0.0:1", "10.0.0.1/31", "fd00::1/64", "10.128.0.0/8"}) {
        const Result<AddressPrefix> prefix = parse_prefix(text);
        ASSERT_FALSE(prefix) << text;
        EXPECT_TRUE(prefix.error().starts_with("'" + std::string(text) + "': ")) << prefix.error();
        EXPECT_NE(prefix.error().find("; write "), std::string::npos) << prefix.error();
    }
}

}  // namespace
}  // namespace pulse
