// Any bytes as a token: as it is, and as the header and claims of one that is signed. Nothing is
// read outside of it, what is accepted was signed, what is judged twice is judged the same, and
// what is given out keeps its bounds.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string>

#include "core/limits.h"
#include "net/auth/key_file.h"
#include "net/auth/verifier.h"

#include "tests/support/recording_sink.h"

namespace {

using namespace pulse;

constexpr char kSecret[] = "a secret that a fuzzer may well know";

void require(bool holds) {
    if (!holds) __builtin_trap();
}

std::string base64url(std::string_view bytes) {
    constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    std::string text;
    uint32_t bits = 0, pending = 0;
    for (const char byte : bytes) {
        bits = bits << 8 | static_cast<uint8_t>(byte);
        for (pending += 8; pending >= 6; pending -= 6) text += kLetters[bits >> (pending - 6) & 63];
    }
    if (pending > 0) text += kLetters[bits << (6 - pending) & 63];
    return text;
}

std::string signed_token(std::string_view header, std::string_view claims) {
    std::string token = base64url(header) + "." + base64url(claims);
    unsigned char code[32];
    HMAC(EVP_sha256(), kSecret, sizeof kSecret - 1,
         reinterpret_cast<const unsigned char*>(token.data()), token.size(), code, nullptr);
    return token + "." + base64url({reinterpret_cast<const char*>(code), sizeof code});
}

TokenVerifier& verifier() {
    static TokenVerifier one(SipKey{1, 2});
    if (one.on()) return one;
    auto credentials = std::make_shared<Credentials>();
    credentials->keys = parse_key_file(kSecret)->keys;
    one.use(credentials);
    return one;
}

AuthFailure judge(const std::string& token) {
    const TokenVerdict verdict = verifier().verify(token, 1'800'000'000);
    const Identity& who = verdict.identity;
    require(verdict.ok() == !who.user.empty());
    require(who.user.size() <= kUserBytesMax && who.device.size() <= kDeviceBytesMax &&
            who.token_id.size() <= kTokenIdBytesMax && who.labels.size() <= kLabelsMax);
    require(is_name(who.user) && is_name(who.device) && is_name(who.token_id));
    for (const Label& label : who.labels) {
        require(!label.name.empty() && label.name.size() <= kLabelBytesMax);
        require(label.value.size() <= kLabelBytesMax && is_name(label.name));
    }
    const AuthFailure failure = verdict.failure;
    require(verifier().verify(token, 1'800'000'000).failure == failure);
    return failure;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const size_t half = std::min(input.find('\n'), input.size());
    const std::string_view header = input.substr(0, half);
    const std::string_view claims = input.substr(std::min(half + 1, input.size()));
    const std::string token = signed_token(header, claims);
    judge(token);
    judge(signed_token(R"({"alg":"HS256"})", input));
    // Without its signature none is right.
    const size_t end = token.rfind('.');
    require(judge(token.substr(0, end + 1) + base64url(std::string(32, 'x'))) != AuthFailure::none);
    if (judge(std::string(input)) == AuthFailure::none) {
        const size_t last = input.rfind('.');
        const size_t dot = input.find('.');
        require(dot != last && last != std::string_view::npos);
    }
    const Result<KeyFile> keys = parse_key_file(input);
    require(!keys || (!keys->keys.empty() && keys->keys.size() <= 64));
    if (!keys) require(keys.error().find("; ") != std::string::npos);
    const Result<StaticTokens> tokens = StaticTokens::parse(input, SipKey{1, 2});
    if (!tokens) require(tokens.error().find(": ") != std::string::npos);
    return 0;
}
