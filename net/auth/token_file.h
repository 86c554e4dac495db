// What --auth-token-file FILE holds: static tokens, one a line, for services, tests and small
// systems without an issuer.
//
//     # a comment, and an empty line
//     TOKEN user=NAME [device=NAME] [labels=NAME=VALUE,...] [expires=2027-01-31T12:00:00Z] [id=ID]
//     sha256:HEX user=NAME ...
//
// TOKEN is what a peer gives: 16 to 4,096 characters of A-Z a-z 0-9 - . _ ~ + / = (RFC 6750), of
// which an upgrade has room for those of up to about 3,700 (kHandshakeKeptBytesMax). The
// second form has its SHA-256 instead, so that the file holds no secret. `id` is what the token is
// revoked by; without it, the first 12 hex digits of that SHA-256.
//
// In memory are hashes only. A token is looked up by a keyed hash of its SHA-256 and compared in
// constant time, so that the time it takes says nothing about the tokens that there are.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/sip_hash.h"
#include "net/auth/identity.h"

namespace pulse {

using Sha256 = std::array<uint8_t, 32>;
Sha256 sha256(std::string_view text);

class StaticTokens {
  public:
    // `key` is secret. The error begins with the number of the line: "LINE: ..."; of what stands
    // there it holds names and values, never a token.
    static Result<StaticTokens> parse(std::string_view text, const SipKey& key);

    size_t size() const { return tokens_.size(); }
    // Whether a line has a token itself, so that others must not read the file.
    bool holds_secrets() const { return holds_secrets_; }
    // Of the token with this hash; nullptr: there is none. Valid as long as this. Whether it has
    // expired is the caller's question.
    const Identity* find(const Sha256& hash) const;

  private:
    struct Token {
        Sha256 hash{};
        std::string user, device, id;
        std::vector<std::pair<std::string, std::string>> names;  // of labels, and their values
        std::vector<Label> labels;                               // of `names`
        Identity identity;                                       // of all of these
    };
    uint64_t place_of(const Sha256& hash) const;

    SipKey key_{};
    std::unordered_multimap<uint64_t, std::unique_ptr<Token>> tokens_;
    bool holds_secrets_ = false;

    friend struct TokenLine;
};

}  // namespace pulse
