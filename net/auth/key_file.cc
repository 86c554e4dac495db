// PEM by OpenSSL, JWK by nlohmann.
#include "net/auth/key_file.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "net/auth/limits.h"
#include "proto/base64url.h"
#include "proto/limits.h"

namespace pulse {
namespace {

using Json = nlohmann::json;
using Bytes = std::vector<uint8_t>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

constexpr std::string_view kPublicKey = "-----BEGIN PUBLIC KEY-----";
constexpr std::string_view kBegin = "-----BEGIN ";

const Error kTooMany{"there are over " + std::to_string(kSigningKeysMax) +
                     " keys; remove those that sign no token any more"};

Result<KeyFile> parse_pem(std::string_view text) {
    if (text.find("PRIVATE KEY-----") != std::string_view::npos) {
        return Error{
            "it holds a private key; give the public one, made with: openssl pkey -pubout"};
    }
    KeyFile file;
    for (size_t at = text.find(kBegin); at != std::string_view::npos; at = text.find(kBegin, at)) {
        const std::string_view block = text.substr(at);
        if (!block.starts_with(kPublicKey)) {
            return Error{
                "a block of it is not a PUBLIC KEY; of a certificate take the key, with: openssl "
                "x509 -noout -pubkey"};
        }
        if (file.keys.size() == kSigningKeysMax) return kTooMany;
        const Bio bio(BIO_new_mem_buf(block.data(), static_cast<int>(block.size())), BIO_free);
        evp_pkey_st* const key =
            bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr) : nullptr;
        ERR_clear_error();
        if (key == nullptr)
            return Error{"a PUBLIC KEY of it is damaged; write it anew with: openssl pkey -pubout"};
        Result<SigningKey> parsed = SigningKey::from_public_key(key);
        if (!parsed) return Error{parsed.error()};
        file.keys.push_back(std::move(*parsed));
        at += kPublicKey.size();
    }
    return file;
}

// A member that is a string; empty where it is missing or another thing.
std::string text_of(const Json& jwk, const char* name) {
    const auto found = jwk.find(name);
    return found != jwk.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// A member that is base64url; none where it is missing or is not.
std::optional<Bytes> bytes_of(const Json& jwk, const char* name) {
    const std::string text = text_of(jwk, name);
    Bytes bytes(base64url_decoded_bytes(text.size()));
    const std::optional<size_t> count = decode_base64url(text, bytes);
    if (!count || *count == 0) return std::nullopt;
    bytes.resize(*count);
    return bytes;
}

Error missing(const char* members) {
    return {std::string("a key lacks ") + members + " in base64url; add what is missing"};
}

// Whether it is meant for the signatures of tokens, as far as it says.
bool is_for_us(const Json& jwk) {
    const auto operations = jwk.find("key_ops");
    if (jwk.contains("use") && text_of(jwk, "use") != "sig") return false;
    return operations == jwk.end() || !operations->is_array() ||
           std::ranges::any_of(*operations, [](const Json& each) { return each == "verify"; });
}

// No value: of a kind that is not for us.
std::optional<Result<SigningKey>> parse_public(const Json& jwk, const std::string& kind,
                                               std::string key_id) {
    const std::string curve = text_of(jwk, "crv");
    if (kind == "RSA") {
        const auto n = bytes_of(jwk, "n"), e = bytes_of(jwk, "e");
        if (!n || !e) return missing("n or e");
        return SigningKey::from_rsa(*n, *e, std::move(key_id));
    }
    if (kind == "EC" && curve == "P-256") {
        const auto x = bytes_of(jwk, "x"), y = bytes_of(jwk, "y");
        if (!x || !y) return missing("x or y");
        return SigningKey::from_p256(*x, *y, std::move(key_id));
    }
    if (kind == "OKP" && curve == "Ed25519") {
        const auto x = bytes_of(jwk, "x");
        if (!x) return missing("x");
        return SigningKey::from_ed25519(*x, std::move(key_id));
    }
    return std::nullopt;
}

std::optional<Result<SigningKey>> parse_jwk(const Json& jwk) {
    if (!jwk.is_object()) return Error{"a key of it is not an object; write {\"kty\":...}"};
    if (!is_for_us(jwk)) return std::nullopt;
    const std::string kind = text_of(jwk, "kty");
    std::string key_id = text_of(jwk, "kid");
    if (key_id.size() > kKeyIdBytesMax || (jwk.contains("kid") && key_id.empty())) {
        return Error{"a kid of it is not a string of 1 to " + std::to_string(kKeyIdBytesMax) +
                     " bytes; give the key another"};
    }
    std::optional<Result<SigningKey>> key;
    if (kind == "oct") {
        const auto secret = bytes_of(jwk, "k");
        key = secret ? SigningKey::from_secret(*secret, std::move(key_id)) : missing("k");
    } else if (jwk.contains("d")) {
        return Error{"it holds a private key; leave out d, p, q, dp, dq and qi"};
    } else {
        key = parse_public(jwk, kind, std::move(key_id));
    }
    if (!key || !*key) return key;
    const std::string algorithm = text_of(jwk, "alg");
    // A key for an algorithm that is not ours, such as RS512 or PS256.
    if (!algorithm.empty() && algorithm != (*key)->algorithm_name()) return std::nullopt;
    return key;
}

Result<KeyFile> parse_jwks(std::string_view text) {
    const Json document = Json::parse(text, nullptr, false);
    if (document.is_discarded() || !document.is_object())
        return Error{"it begins with { and is not JSON; write {\"keys\":[...]}"};
    const bool single = document.contains("kty");
    if (!single && (!document.contains("keys") || !document["keys"].is_array()))
        return Error{"it is JSON without keys; write {\"keys\":[...]}"};
    const Json keys = single ? Json::array({document}) : document["keys"];
    KeyFile file;
    for (const Json& jwk : keys) {
        std::optional<Result<SigningKey>> key = parse_jwk(jwk);
        if (!key) {
            ++file.passed_over;
            continue;
        }
        if (!*key) return Error{key->error()};
        const SigningKey& parsed = **key;
        const auto same = [&](const SigningKey& other) {
            return !parsed.key_id().empty() && other.key_id() == parsed.key_id();
        };
        if (std::ranges::any_of(file.keys, same))
            return Error{"two keys of it have one kid; give each its own"};
        if (file.keys.size() == kSigningKeysMax) return kTooMany;
        file.secret |= parsed.algorithm() == JwtAlgorithm::hs256;
        file.keys.push_back(parsed);
    }
    if (file.keys.empty()) {
        return Error{
            "none of its keys is for HS256, RS256, ES256 or EdDSA signatures; add one that is"};
    }
    return file;
}

bool is_public_der(std::span<const uint8_t> bytes) {
    const uint8_t* at = bytes.data();
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        d2i_PUBKEY(nullptr, &at, static_cast<long>(bytes.size())), EVP_PKEY_free);
    ERR_clear_error();
    return key != nullptr;
}

// Whether a text that is to be a secret is a public key in another clothing: DER, the base64 of it,
// or SSH's. All the world knows it, and could sign with it.
bool is_public_key(std::string_view text) {
    if (text.starts_with("ssh-") || text.starts_with("ecdsa-") ||
        text.find("-----") != std::string_view::npos)
        return true;
    if (is_public_der({reinterpret_cast<const uint8_t*>(text.data()), text.size()})) return true;
    std::string plain;
    for (const char byte : text) {
        if (byte == '+' || byte == '/')
            plain.push_back(byte == '+' ? '-' : '_');
        else if (std::string_view("= \t\r\n").find(byte) == std::string_view::npos)
            plain.push_back(byte);
    }
    Bytes bytes(base64url_decoded_bytes(plain.size()));
    const std::optional<size_t> count = decode_base64url(plain, bytes);
    return count && is_public_der({bytes.data(), *count});
}

}  // namespace

Result<KeyFile> parse_key_file(std::string_view text) {
    // A secret is what neither of the others is.
    if (text.find(kBegin) != std::string_view::npos) return parse_pem(text);
    const size_t start = text.find_first_not_of(" \t\r\n");
    if (start != std::string_view::npos && text[start] == '{') return parse_jwks(text);
    if (is_public_key(text)) {
        return Error{
            "it holds a public key that is not in PEM; write it with: openssl pkey -pubin -inform "
            "DER -outform PEM"};
    }
    if (text.ends_with('\n')) text.remove_suffix(1);
    if (text.ends_with('\r')) text.remove_suffix(1);
    Result<SigningKey> key =
        SigningKey::from_secret({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    if (!key) return Error{key.error()};
    return KeyFile{.keys = {std::move(*key)}, .secret = true, .passed_over = 0};
}

}  // namespace pulse
