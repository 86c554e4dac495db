// Files: lines of static tokens that are right or wrong, permissions, and that no error, note or
// warning ever holds a secret.
#include "net/auth/credentials.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "core/limits.h"
#include "net/auth/limits.h"
#include "proto/limits.h"

#include "tests/support/tokens.h"

namespace pulse::test {
namespace {

constexpr SipKey kKey{1, 2};
const std::string kWord = "s3cret-w0rd.of_a~test+/==";  // every kind of character

TEST(StaticTokens, LinesThatAreRight) {
    const std::string hashed =
        "sha256:" + std::string("9F86D081884C7D659A2FEAA0C55AD015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    const Result<StaticTokens> tokens = StaticTokens::parse(
        "# a comment\n\n   \t\n" + kWord +
            "\tuser=ann   device=ios labels=ring=canary,region=eu "
            "expires=2027-02-28T23:59:59Z # the rest is one too\r\n" +
            std::string(16, 'x') + " user=b\xc3\xa9 id=t-9\n" + hashed + " user=carl",
        kKey);
    ASSERT_TRUE(tokens) << tokens.error();
    EXPECT_EQ(tokens->size(), 3u);
    EXPECT_TRUE(tokens->holds_secrets());
    const Identity* ann = tokens->find(sha256(kWord));
    ASSERT_NE(ann, nullptr);
    EXPECT_EQ(ann->user, "ann");
    EXPECT_EQ(ann->device, "ios");
    ASSERT_EQ(ann->labels.size(), 2u);
    EXPECT_EQ(ann->labels[1].name, "region");
    EXPECT_EQ(ann->labels[1].value, "eu");
    EXPECT_EQ(ann->expires_at, 1'803'859'199);
    EXPECT_EQ(ann->token_id.size(), 12u);
    const Identity* carl = tokens->find(sha256("test"));
    ASSERT_NE(carl, nullptr) << "the hash is that of 'test'";
    EXPECT_EQ(carl->token_id, "9f86d081884c");
    EXPECT_EQ(carl->expires_at, kNeverExpires);
    EXPECT_EQ(tokens->find(sha256(std::string(16, 'x')))->token_id, "t-9");
    EXPECT_EQ(tokens->find(sha256("another")), nullptr);
    const Result<StaticTokens> hashes = StaticTokens::parse(hashed + " user=carl\n", kKey);
    EXPECT_FALSE(hashes->holds_secrets());
    EXPECT_EQ(StaticTokens::parse("", kKey)->size(), 0u);
}

TEST(StaticTokens, LinesThatAreWrong) {
    const std::string x(16, 'x');
    const std::pair<std::string, const char*> lines[] = {
        {"short user=a", "this one has 5"},
        {std::string(kTokenBytesMax + 1, 'x') + " user=a", "this one has 4097"},
        {std::string(15, 'x') + "\" user=a", "is made of"},
        {x, "has no user"},
        {x + " id=7", "has no user"},
        {x + " user=", "1 to 128 bytes"},
        {x + " user=a\x7f", "1 to 128 bytes"},
        {x + " user=\xff", "1 to 128 bytes"},
        {x + " user=" + std::string(kUserBytesMax + 1, 'u'), "1 to 128 bytes"},
        {x + " user=a user=b", "stands twice"},
        {x + " user=a device=" + std::string(kDeviceBytesMax + 1, 'd'), "1 to 64 bytes"},
        {x + " user=a id=" + std::string(kTokenIdBytesMax + 1, 'd'), "1 to 128 bytes"},
        {x + " user=a labels=ring", "is not a label"},
        {x + " user=a labels==v", "1 to 64 bytes"},
        {x + " user=a labels=a=1,a=2", "is a label already"},
        {x + " user=a expires=2027-02-29T00:00:00Z", "is not a time"},
        {x + " user=a expires=2027-02-28", "is not a time"},
        {x + " user=a expires=2027-13-01T00:00:00Z", "is not a time"},
        {x + " user=a expires=2027-01-01T24:00:00Z", "is not a time"},
        {x + " user=a expires=tomorrow", "is not a time"},
        {x + " user=a group=b", "none of user="},
        {x + " " + kWord + " user=a", "none of user="},
        {"sha256:abc user=a", "64 hex digits"},
        {"sha256:" + std::string(64, 'g') + " user=a", "64 hex digits"},
    };
    for (const auto& [line, wanted] : lines) {
        const Result<StaticTokens> tokens = StaticTokens::parse("\n# one\n" + line + "\n", kKey);
        ASSERT_FALSE(tokens) << line;
        EXPECT_NE(tokens.error().find(wanted), std::string::npos) << tokens.error();
        EXPECT_TRUE(tokens.error().starts_with("3: ")) << tokens.error();
        EXPECT_NE(tokens.error().find("; "), std::string::npos) << tokens.error();
        EXPECT_EQ(tokens.error().find(kWord), std::string::npos) << "a token in an error";
        EXPECT_EQ(tokens.error().find("xxxx"), std::string::npos) << "a token in an error";
    }
    const Result<StaticTokens> twice =
        StaticTokens::parse(kWord + " user=a\n" + kWord + " user=b\n", kKey);
    ASSERT_FALSE(twice);
    EXPECT_TRUE(twice.error().starts_with("2: the token stands in the file twice"));
}

class Files : public testing::Test {
  protected:
    Files() {
        folder_ =
            std::filesystem::temp_directory_path() / ("pulse-auth-" + std::to_string(::getpid()));
        std::filesystem::create_directory(folder_);
    }
    ~Files() override { std::filesystem::remove_all(folder_); }
    std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) {
        const std::string path = folder_ / name;
        std::ofstream(path, std::ios::binary) << text;
        ::chmod(path.c_str(), mode);
        return path;
    }
    std::filesystem::path folder_;
};

TEST_F(Files, AreReadWhole) {
    const Issuer secret(Issuer::Kind::hs256);
    const std::string tokens = write("tokens", kWord + " user=ann\n");
    const std::string keys = write("keys", secret.key_file());
    EXPECT_EQ(load_credentials({})->credentials, nullptr);
    const Result<LoadedCredentials> both = load_credentials({tokens, keys, {"chat"}});
    ASSERT_TRUE(both) << both.error();
    EXPECT_EQ(both->credentials->tokens.size(), 1u);
    EXPECT_EQ(both->credentials->keys.size(), 1u);
    EXPECT_EQ(both->credentials->audiences, std::vector<std::string>{"chat"});
    EXPECT_TRUE(both->warnings.empty()) << both->warnings[0];
    ASSERT_EQ(both->notes.size(), 2u);
    EXPECT_EQ(both->notes[0], "--auth-token-file " + tokens + ": 1 tokens");
    EXPECT_EQ(both->notes[1], "--auth-jwt-key " + keys + ": HS256");
}

TEST_F(Files, ErrorsNameFlagFileAndLine) {
    const std::string bad = write("tokens", "\n" + kWord + "\n");
    const Result<LoadedCredentials> line = load_credentials({bad, "", {}});
    ASSERT_FALSE(line);
    EXPECT_EQ(line.error(),
              "--auth-token-file " + bad + ":2: the token has no user; write TOKEN user=NAME");
    for (const std::string& path : {(folder_ / "missing").string(), folder_.string()}) {
        const Result<LoadedCredentials> keys = load_credentials({"", path, {}});
        ASSERT_FALSE(keys);
        EXPECT_TRUE(keys.error().starts_with("--auth-jwt-key " + path + ": ")) << keys.error();
        EXPECT_NE(keys.error().find("; "), std::string::npos);
    }
    const std::string big = write("big", std::string(kKeyFileBytesMax + 1, 'x'));
    EXPECT_NE(load_credentials({"", big, {}}).error().find("has over 1048576 bytes"),
              std::string::npos);
    const std::string fifo = folder_ / "fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_NE(load_credentials({"", fifo, {}}).error().find("is not a regular file"),
              std::string::npos);
}

TEST_F(Files, WarnOfPermissionsThatAreTooOpen) {
    const Issuer secret(Issuer::Kind::hs256), rsa(Issuer::Kind::rs256);
    const std::string word = kWord + " user=a\n";
    const std::string hashed = "sha256:" + std::string(64, '0') + " user=a\n";
    const auto warnings = [&](const AuthFiles& files) {
        const Result<LoadedCredentials> loaded = load_credentials(files);
        EXPECT_TRUE(loaded) << loaded.error();
        return loaded->warnings;
    };
    EXPECT_TRUE(warnings({write("t", word, 0640), "", {}}).empty());
    EXPECT_EQ(warnings({write("t", word, 0644), "", {}}).size(), 1u);
    EXPECT_EQ(warnings({write("t", word, 0666), "", {}}).size(), 2u);
    EXPECT_TRUE(warnings({write("t", hashed, 0644), "", {}}).empty());
    EXPECT_EQ(warnings({"", write("k", secret.key_file(), 0604), {}}).size(), 1u);
    EXPECT_TRUE(warnings({"", write("k", rsa.key_file(), 0644), {}}).empty());
    EXPECT_EQ(warnings({"", write("k", rsa.key_file(), 0664), {}}).size(), 1u);
    EXPECT_EQ(warnings({write("t", "# none\n"), "", {}}).size(), 1u);
    EXPECT_EQ(warnings({"", "", {"chat"}}).size(), 1u);
    for (const std::string& warning : warnings({write("t", word, 0666), "", {}}))
        EXPECT_EQ(warning.find(kWord), std::string::npos);
}

}  // namespace
}  // namespace pulse::test
