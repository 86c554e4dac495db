// All that a server checks tokens with, as one snapshot that never changes: its reactors share it,
// and a reload brings another, whole, or none.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "net/auth/signing_key.h"
#include "net/auth/token_file.h"

namespace pulse {

struct Credentials {
    StaticTokens tokens;
    std::vector<SigningKey> keys;
    // Values of `aud` that this server goes by. A token that has `aud` must have one of them (RFC
    // 7519 section 4.1.3); where this is not empty, each token must.
    std::vector<std::string> audiences;
};

// What an operator asks for. Authentication is on where a file is named.
struct AuthFiles {
    std::string tokens;  // --auth-token-file; empty: none
    std::string keys;    // --auth-jwt-key; empty: none
    std::vector<std::string> audiences;
    bool on() const { return !tokens.empty() || !keys.empty(); }
};

struct LoadedCredentials {
    std::shared_ptr<const Credentials> credentials;  // nullptr where authentication is off
    std::vector<std::string> notes;                  // how many there are, for the log
    std::vector<std::string> warnings;               // what an operator should look at
};

// Reads the files. The error names the flag and the file: "--auth-token-file FILE:3: ..."; it holds
// nothing of a token or a key.
Result<LoadedCredentials> load_credentials(const AuthFiles& files);

}  // namespace pulse
