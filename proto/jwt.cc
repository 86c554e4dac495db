// JSON by simdjson On-Demand, as json.cc does it.
#include "proto/jwt.h"

#include <simdjson.h>

#include <algorithm>
#include <cmath>

#include "core/limits.h"
#include "proto/base64url.h"

namespace pulse {
namespace {

using simdjson::ondemand::field;
using simdjson::ondemand::json_type;
using simdjson::ondemand::value;

static_assert(kReceivePadBytes >= simdjson::SIMDJSON_PADDING);

constexpr size_t kPartBytes = base64url_decoded_bytes(kTokenBytesMax);
// Of a time that can be told from a slip: the year 33658.
constexpr double kSecondsMax = 1e12;

struct AlgorithmName {
    std::string_view name;
    JwtAlgorithm algorithm;
};
constexpr AlgorithmName kAlgorithms[] = {
    {"HS256", JwtAlgorithm::hs256},
    {"RS256", JwtAlgorithm::rs256},
    {"ES256", JwtAlgorithm::es256},
    {"EdDSA", JwtAlgorithm::eddsa},
};

struct Part {
    std::array<uint8_t, kPartBytes + kReceivePadBytes> bytes;
    size_t size = 0;
};

// Depth of brackets, those in strings left out; what is not JSON is found elsewhere.
bool too_deep(std::string_view text) {
    uint32_t depth = 0;
    bool quoted = false;
    for (size_t at = 0; at < text.size(); ++at) {
        if (text[at] == '"') {
            quoted = !quoted;
        } else if (quoted) {
            at += text[at] == '\\';
        } else if (text[at] == '{' || text[at] == '[') {
            if (++depth > kJsonDepthMax) return true;
        } else if ((text[at] == '}' || text[at] == ']') && depth > 0) {
            --depth;
        }
    }
    return false;
}

bool take_string(value& from, size_t bytes_max, std::string_view& to) {
    std::string_view text;
    if (from.get_string().get(text) || text.size() > bytes_max || !is_name(text)) return false;
    to = text;
    return true;
}

bool take_seconds(value& from, std::optional<int64_t>& to) {
    json_type type;
    double seconds = 0;
    if (from.type().get(type) || type != json_type::number) return false;
    if (from.get_double().get(seconds) || !(seconds >= 0 && seconds <= kSecondsMax)) return false;
    to = static_cast<int64_t>(std::floor(seconds));
    return true;
}

}  // namespace

bool is_name(std::string_view utf8_text) {
    for (size_t at = 0; at < utf8_text.size(); ++at) {
        const auto byte = static_cast<uint8_t>(utf8_text[at]);
        if (byte < 0x20 || byte == 0x7F) return false;
        // U+0080 to U+009F, which terminals obey.
        if (byte == 0xC2 && at + 1 < utf8_text.size() &&
            static_cast<uint8_t>(utf8_text[at + 1]) < 0xA0)
            return false;
    }
    return true;
}

struct JwtParser::Implementation {
    Part header, claims, signature;
    // One each: a document's strings live until its parser's next.
    simdjson::ondemand::parser header_parser, claims_parser;
    std::array<Label, kLabelsMax> labels;
    std::array<std::string_view, kTokenAudiencesMax> audiences;

    // Calls take(name, value) for each member; one that returns false fails with `wrong`.
    template <class Take>
    static AuthFailure walk(simdjson::ondemand::parser& parser, Part& part, AuthFailure wrong,
                            Take take);
    bool take_labels(value& from, JwtClaims& to);
    bool take_audience(value& from, JwtClaims& to);
    bool take_claim(std::string_view name, value& from, JwtClaims& to);
};

JwtParser::JwtParser() : implementation_(std::make_unique<Implementation>()) {}
JwtParser::~JwtParser() = default;

AuthFailure JwtParser::split(std::string_view token) {
    if (token.size() > kTokenBytesMax) return AuthFailure::too_long;
    const size_t first = token.find('.');
    const size_t last = token.rfind('.');
    if (first == std::string_view::npos || first == last) return AuthFailure::malformed;
    const auto decode = [](std::string_view text, Part& to) {
        const std::optional<size_t> bytes = decode_base64url(text, to.bytes);
        to.size = bytes.value_or(0);
        return to.size > 0;
    };
    // A dot more, as five parts have, is not of the alphabet.
    if (!decode(token.substr(0, first), implementation_->header) ||
        !decode(token.substr(first + 1, last - first - 1), implementation_->claims) ||
        !decode(token.substr(last + 1), implementation_->signature))
        return AuthFailure::malformed;
    signed_text_ = token.substr(0, last);
    signature_ = {implementation_->signature.bytes.data(), implementation_->signature.size};
    return AuthFailure::none;
}

template <class Take>
AuthFailure JwtParser::Implementation::walk(simdjson::ondemand::parser& parser, Part& part,
                                            AuthFailure wrong, Take take) {
    const std::string_view text(reinterpret_cast<const char*>(part.bytes.data()), part.size);
    if (text.front() != '{' || too_deep(text)) return AuthFailure::malformed;
    simdjson::ondemand::document document;
    simdjson::ondemand::object object;
    const simdjson::padded_string_view padded(part.bytes.data(), part.size, part.bytes.size());
    if (parser.iterate(padded).get(document) || document.get_object().get(object))
        return AuthFailure::malformed;
    std::array<std::string_view, kTokenKeysMax> names;
    size_t count = 0;
    for (auto found : object) {
        field entry;
        std::string_view name;
        if (std::move(found).get(entry) || entry.unescaped_key().get(name))
            return AuthFailure::malformed;
        const auto end = names.begin() + static_cast<ptrdiff_t>(count);
        if (std::find(names.begin(), end, name) != end) return AuthFailure::duplicate_key;
        if (count == kTokenKeysMax) return wrong;
        names[count++] = name;
        if (!take(name, entry.value())) return wrong;
    }
    const char* behind = nullptr;
    if (document.current_location().get(behind) != simdjson::OUT_OF_BOUNDS)
        return AuthFailure::malformed;
    return AuthFailure::none;
}

// ------------------------------------------------------------------------------------- the header

AuthFailure JwtParser::header(JwtHeader& header) {
    header = {};
    bool has_algorithm = false;
    const auto take = [&](std::string_view name, value& from) {
        if (name == "alg") {
            std::string_view algorithm;
            if (from.get_string().get(algorithm)) return false;
            has_algorithm = true;
            for (const AlgorithmName& known : kAlgorithms)
                if (known.name == algorithm) header.algorithm = known.algorithm;
            return true;
        }
        if (name == "kid") {
            std::string_view key_id;
            if (!take_string(from, kKeyIdBytesMax, key_id) || key_id.empty()) return false;
            header.key_id = key_id;
            return true;
        }
        // What must be understood (RFC 7515 section 4.1.11), and none of it is; and encryption.
        return name != "crit" && name != "enc" && name != "b64";
    };
    const AuthFailure failure = Implementation::walk(
        implementation_->header_parser, implementation_->header, AuthFailure::bad_header, take);
    if (failure != AuthFailure::none) return failure;
    return has_algorithm ? AuthFailure::none : AuthFailure::bad_header;
}

// ------------------------------------------------------------------------------------- the claims

AuthFailure JwtParser::claims(JwtClaims& claims) {
    claims = {};
    const auto take = [&](std::string_view name, value& from) {
        return implementation_->take_claim(name, from, claims);
    };
    const AuthFailure failure = Implementation::walk(
        implementation_->claims_parser, implementation_->claims, AuthFailure::bad_claims, take);
    if (failure != AuthFailure::none) return failure;
    return claims.subject.empty() ? AuthFailure::bad_claims : AuthFailure::none;
}

bool JwtParser::Implementation::take_claim(std::string_view name, value& from, JwtClaims& to) {
    if (name == "sub") return take_string(from, kUserBytesMax, to.subject);
    if (name == "device") return take_string(from, kDeviceBytesMax, to.device);
    if (name == "jti") return take_string(from, kTokenIdBytesMax, to.token_id);
    if (name == "exp") return take_seconds(from, to.expires_at);
    if (name == "nbf") return take_seconds(from, to.not_before);
    if (name == "aud") return take_audience(from, to);
    if (name == "labels") return take_labels(from, to);
    return true;
}

// One string, or a list of them (RFC 7519 section 4.1.3).
bool JwtParser::Implementation::take_audience(value& from, JwtClaims& to) {
    to.has_audience = true;
    json_type type;
    if (from.type().get(type)) return false;
    size_t count = 0;
    if (type == json_type::string) {
        if (from.get_string().get(audiences[count++])) return false;
    } else {
        simdjson::ondemand::array list;
        if (from.get_array().get(list)) return false;
        for (auto found : list) {
            if (count == kTokenAudiencesMax) return false;
            if (std::move(found).get_string().get(audiences[count++])) return false;
        }
    }
    to.audiences = {audiences.data(), count};
    return true;
}

bool JwtParser::Implementation::take_labels(value& from, JwtClaims& to) {
    simdjson::ondemand::object members;
    if (from.get_object().get(members)) return false;
    size_t count = 0;
    for (auto found : members) {
        field entry;
        Label label;
        if (std::move(found).get(entry) || entry.unescaped_key().get(label.name)) return false;
        if (label.name.empty() || label.name.size() > kLabelBytesMax || !is_name(label.name))
            return false;
        if (!take_string(entry.value(), kLabelBytesMax, label.value)) return false;
        if (count == kLabelsMax) return false;
        const auto same = [&](const Label& other) { return other.name == label.name; };
        if (std::any_of(labels.begin(), labels.begin() + static_cast<ptrdiff_t>(count), same))
            return false;
        labels[count++] = label;
    }
    to.labels = {labels.data(), count};
    return true;
}

}  // namespace pulse
