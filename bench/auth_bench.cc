// What it costs a reactor to check a token, by algorithm: one that it sees for the first time, and
// one of a peer that reconnects. Static tokens beside them.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "net/auth/key_file.h"
#include "net/auth/verifier.h"

#include "tests/support/tokens.h"

namespace pulse::bench {
namespace {

using test::Issuer;

constexpr SipKey kKey{1, 2};
constexpr UnixSeconds kNow = 1'800'000'000;

// Claims of the size that identity servers hand out.
std::string claims(int number) {
    return R"({"iss":"https://login.example/realms/chat","sub":"0b6f61e4-6f7a-4c35-9a31-)" +
           std::to_string(100'000'000'000 + number) +
           R"(","aud":"chat","exp":1800003600,"iat":1800000000,"jti":"5d1d9f2e-2a86-4b8c-)" +
           std::to_string(number) +
           R"(","azp":"app","scope":"openid profile","device":"ios","labels":{"ring":"canary"}})";
}

std::shared_ptr<const Credentials> credentials_for(const Issuer& issuer) {
    auto credentials = std::make_shared<Credentials>();
    credentials->keys = parse_key_file(issuer.key_file())->keys;
    credentials->audiences = {"chat"};
    return credentials;
}

// Each token is new to it: the cache is emptied after each round of them.
void first_time(benchmark::State& state, Issuer::Kind kind, uint32_t rsa_bits) {
    const Issuer issuer(kind, rsa_bits);
    const std::shared_ptr<const Credentials> credentials = credentials_for(issuer);
    TokenVerifier verifier(kKey);
    std::vector<std::string> tokens;
    for (int number = 0; number < 500; ++number) tokens.push_back(issuer.token(claims(number)));
    size_t at = 0;
    for (auto _ : state) {
        if (at % tokens.size() == 0) {
            state.PauseTiming();
            verifier.use(credentials);
            state.ResumeTiming();
        }
        const TokenVerdict verdict = verifier.verify(tokens[at++ % tokens.size()], kNow);
        if (!verdict.ok() || verdict.cost_us == 0) state.SkipWithError("not a first check");
    }
    state.counters["token_bytes"] = static_cast<double>(tokens[0].size());
}

void again(benchmark::State& state, Issuer::Kind kind) {
    const Issuer issuer(kind);
    TokenVerifier verifier(kKey);
    verifier.use(credentials_for(issuer));
    const std::string token = issuer.token(claims(7));
    if (!verifier.verify(token, kNow).ok()) state.SkipWithError("the token is not right");
    for (auto _ : state) {
        const TokenVerdict verdict = verifier.verify(token, kNow);
        if (!verdict.ok() || verdict.cost_us != 0) state.SkipWithError("not a second check");
    }
    state.counters["token_bytes"] = static_cast<double>(token.size());
}

// A signature that is wrong, which a peer may send as often as it likes.
void forged(benchmark::State& state, Issuer::Kind kind) {
    const Issuer issuer(kind), stranger(kind);
    TokenVerifier verifier(kKey);
    verifier.use(credentials_for(issuer));
    const std::string token = stranger.token(claims(7));
    for (auto _ : state)
        if (verifier.verify(token, kNow).failure != AuthFailure::bad_signature)
            state.SkipWithError("a forged token passed");
}

void fixed(benchmark::State& state) {
    std::string lines;
    for (int number = 0; number < 1'000; ++number)
        lines += "token-of-a-service-" + std::to_string(number) + " user=service\n";
    auto credentials = std::make_shared<Credentials>();
    credentials->tokens = std::move(*StaticTokens::parse(lines, kKey));
    TokenVerifier verifier(kKey);
    verifier.use(credentials);
    for (auto _ : state)
        if (!verifier.verify("token-of-a-service-700", kNow).ok())
            state.SkipWithError("the token is not known");
}

BENCHMARK_CAPTURE(first_time, HS256, Issuer::Kind::hs256, 0)->Name("token/first/HS256");
BENCHMARK_CAPTURE(first_time, RS256, Issuer::Kind::rs256, 2048)->Name("token/first/RS256_2048");
BENCHMARK_CAPTURE(first_time, RS256, Issuer::Kind::rs256, 4096)->Name("token/first/RS256_4096");
BENCHMARK_CAPTURE(first_time, ES256, Issuer::Kind::es256, 0)->Name("token/first/ES256");
BENCHMARK_CAPTURE(first_time, EdDSA, Issuer::Kind::eddsa, 0)->Name("token/first/EdDSA");
BENCHMARK_CAPTURE(again, HS256, Issuer::Kind::hs256)->Name("token/again/HS256");
BENCHMARK_CAPTURE(again, RS256, Issuer::Kind::rs256)->Name("token/again/RS256_2048");
BENCHMARK_CAPTURE(again, ES256, Issuer::Kind::es256)->Name("token/again/ES256");
BENCHMARK_CAPTURE(again, EdDSA, Issuer::Kind::eddsa)->Name("token/again/EdDSA");
BENCHMARK_CAPTURE(forged, ES256, Issuer::Kind::es256)->Name("token/forged/ES256");
BENCHMARK_CAPTURE(forged, EdDSA, Issuer::Kind::eddsa)->Name("token/forged/EdDSA");
BENCHMARK(fixed)->Name("token/static/1000");

}  // namespace
}  // namespace pulse::bench
