// A line is words, the first of which is the token.
#include "net/auth/token_file.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>

#include "core/limits.h"
#include "net/auth/limits.h"
#include "proto/jwt.h"
#include "proto/limits.h"
#include "proto/utf8.h"

namespace pulse {
namespace {

constexpr std::string_view kHashed = "sha256:";
constexpr size_t kIdBytes = 6;  // of the hash, where a token has no id of its own

bool is_token_byte(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') ||
           std::string_view("-._~+/=").find(byte) != std::string_view::npos;
}

std::string_view next_word(std::string_view& line) {
    const size_t start = std::min(line.find_first_not_of(" \t"), line.size());
    const size_t end = std::min(line.find_first_of(" \t", start), line.size());
    const std::string_view word = line.substr(start, end - start);
    line.remove_prefix(end);
    return word;
}

bool read_hex(std::string_view text, Sha256& to) {
    if (text.size() != 2 * to.size()) return false;
    for (size_t at = 0; at < to.size(); ++at) {
        const char* const from = text.data() + 2 * at;
        const auto read = std::from_chars(from, from + 2, to[at], 16);
        if (read.ec != std::errc{} || read.ptr != from + 2) return false;
    }
    return true;
}

bool read_digits(std::string_view text, size_t at, size_t count, int& to) {
    const char* const from = text.data() + at;
    const auto read = std::from_chars(from, from + count, to);
    return read.ec == std::errc{} && read.ptr == from + count;
}

// 2027-01-31T12:00:00Z, and nothing else.
std::optional<UnixSeconds> read_time(std::string_view text) {
    constexpr std::string_view kShape = "0000-00-00T00:00:00Z";
    if (text.size() != kShape.size()) return std::nullopt;
    for (size_t at = 0; at < text.size(); ++at) {
        const bool digit = text[at] >= '0' && text[at] <= '9';
        if (digit ? kShape[at] != '0' : text[at] != kShape[at]) return std::nullopt;
    }
    std::tm time{};
    read_digits(text, 0, 4, time.tm_year);
    read_digits(text, 5, 2, time.tm_mon);
    read_digits(text, 8, 2, time.tm_mday);
    read_digits(text, 11, 2, time.tm_hour);
    read_digits(text, 14, 2, time.tm_min);
    read_digits(text, 17, 2, time.tm_sec);
    time.tm_year -= 1900;
    time.tm_mon -= 1;
    const std::tm asked = time;
    const UnixSeconds seconds = timegm(&time);
    // A day that the month has not becomes another's.
    if (time.tm_mday != asked.tm_mday || time.tm_mon != asked.tm_mon ||
        time.tm_hour != asked.tm_hour || time.tm_sec != asked.tm_sec)
        return std::nullopt;
    return seconds;
}

bool is_utf8_name(std::string_view text, size_t bytes_max) {
    return !text.empty() && text.size() <= bytes_max && is_name(text) &&
           utf8_valid({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Error bad_name(std::string_view name, size_t bytes_max) {
    return wrong_text(name, "must be 1 to " + std::to_string(bytes_max) + " bytes of UTF-8",
                      "shorten it, and leave out control characters");
}

}  // namespace

Sha256 sha256(std::string_view text) {
    Sha256 hash;
    unsigned bytes = 0;
    const int done =
        EVP_Digest(text.data(), text.size(), hash.data(), &bytes, EVP_sha256(), nullptr);
    PULSE_ASSERT(done == 1 && bytes == hash.size());
    return hash;
}

// One line, as it is read.
struct TokenLine {
    std::unique_ptr<StaticTokens::Token> owned = std::make_unique<StaticTokens::Token>();
    StaticTokens::Token& token = *owned;

    Result<void> read_token(std::string_view word, bool& secret) {
        if (word.starts_with(kHashed)) {
            if (read_hex(word.substr(kHashed.size()), token.hash)) return {};
            return Error{"sha256: is followed by 64 hex digits; write those of the token"};
        }
        if (word.size() < kStaticTokenBytesMin || word.size() > kTokenBytesMax) {
            return Error{"a token has " + std::to_string(kStaticTokenBytesMin) + " to " +
                         std::to_string(kTokenBytesMax) + " characters, and this one has " +
                         std::to_string(word.size()) + "; make one with: openssl rand -hex 32"};
        }
        if (!std::ranges::all_of(word, is_token_byte)) {
            return Error{
                "a token is made of A-Z a-z 0-9 - . _ ~ + / = only; make one with: "
                "openssl rand -hex 32"};
        }
        secret = true;
        token.hash = sha256(word);
        return {};
    }

    Result<void> read_labels(std::string_view list) {
        while (!list.empty()) {
            const size_t end = std::min(list.find(','), list.size());
            const std::string_view label = list.substr(0, end);
            list.remove_prefix(std::min(end + 1, list.size()));
            const size_t equals = label.find('=');
            if (equals == std::string_view::npos)
                return wrong_text(label, "is not a label", "write labels=NAME=VALUE,NAME=VALUE");
            const std::string_view name = label.substr(0, equals);
            const std::string_view value = label.substr(equals + 1);
            for (const std::string_view part : {name, value})
                if (!is_utf8_name(part, kLabelBytesMax)) return bad_name(part, kLabelBytesMax);
            if (token.names.size() == kLabelsMax) {
                return Error{"there are over " + std::to_string(kLabelsMax) +
                             " labels; leave some out"};
            }
            const auto same = [&](const auto& other) { return other.first == name; };
            if (std::ranges::any_of(token.names, same))
                return wrong_text(name, "is a label already", "give each name once");
            token.names.emplace_back(name, value);
        }
        return {};
    }

    // A word behind the token.
    Result<void> read_field(std::string_view word) {
        const size_t equals = word.find('=');
        const std::string_view name = word.substr(0, equals);
        const std::string_view value =
            equals == std::string_view::npos ? std::string_view() : word.substr(equals + 1);
        const auto take = [&](std::string& to, size_t bytes_max) -> Result<void> {
            if (!to.empty()) return wrong_text(name, "stands twice", "give it once");
            if (!is_utf8_name(value, bytes_max)) return bad_name(value, bytes_max);
            to = value;
            return {};
        };
        if (name == "user") return take(token.user, kUserBytesMax);
        if (name == "device") return take(token.device, kDeviceBytesMax);
        if (name == "id") return take(token.id, kTokenIdBytesMax);
        if (name == "labels") return read_labels(value);
        if (name == "expires") {
            const std::optional<UnixSeconds> time = read_time(value);
            if (!time) return wrong_text(value, "is not a time", "write 2027-01-31T12:00:00Z");
            token.identity.expires_at = *time;
            return {};
        }
        // The word itself may be a token that was cut in two.
        return Error{
            "a word behind the token is none of user=, device=, labels=, expires= and id=; write "
            "TOKEN user=NAME"};
    }

    // What its identity points to stays where it is from here on.
    std::unique_ptr<StaticTokens::Token> finish() {
        if (token.id.empty()) {
            constexpr char kHex[] = "0123456789abcdef";
            for (size_t at = 0; at < kIdBytes; ++at)
                token.id.append({kHex[token.hash[at] >> 4], kHex[token.hash[at] & 15]});
        }
        for (const auto& [name, value] : token.names) token.labels.push_back({name, value});
        token.identity.user = token.user;
        token.identity.device = token.device;
        token.identity.labels = token.labels;
        token.identity.token_id = token.id;
        return std::move(owned);
    }
};

Result<StaticTokens> StaticTokens::parse(std::string_view text, const SipKey& key) {
    StaticTokens tokens;
    tokens.key_ = key;
    for (size_t number = 1; !text.empty(); ++number) {
        const size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        const auto at_line = [&](const std::string& what) {
            return Error{std::to_string(number) + ": " + what};
        };
        const std::string_view word = next_word(line);
        if (word.empty() || word.starts_with('#')) continue;
        TokenLine read;
        if (Result<void> done = read.read_token(word, tokens.holds_secrets_); !done)
            return at_line(done.error());
        for (std::string_view field = next_word(line); !field.empty(); field = next_word(line)) {
            if (field.starts_with('#')) break;
            if (Result<void> done = read.read_field(field); !done) return at_line(done.error());
        }
        if (read.token.user.empty()) return at_line("the token has no user; write TOKEN user=NAME");
        if (tokens.find(read.token.hash) != nullptr)
            return at_line("the token stands in the file twice; remove one of the lines");
        if (tokens.size() == kStaticTokensMax) {
            return at_line("there are over " + std::to_string(kStaticTokensMax) +
                           " tokens; use signed tokens (--auth-jwt-key) for so many");
        }
        const uint64_t place = tokens.place_of(read.token.hash);
        tokens.tokens_.emplace(place, read.finish());
    }
    return tokens;
}

const Identity* StaticTokens::find(const Sha256& hash) const {
    const Identity* found = nullptr;
    const auto [first, last] = tokens_.equal_range(place_of(hash));
    for (auto it = first; it != last; ++it) {
        const Token& token = *it->second;
        if (CRYPTO_memcmp(token.hash.data(), hash.data(), hash.size()) == 0)
            found = &token.identity;
    }
    return found;
}

uint64_t StaticTokens::place_of(const Sha256& hash) const {
    return sip_hash(key_, {reinterpret_cast<const char*>(hash.data()), hash.size()});
}

}  // namespace pulse
