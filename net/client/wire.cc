// Writing a hello; reading what an end says about its cause.
#include "net/client/wire.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "core/limits.h"
#include "proto/http_date.h"
#include "proto/http_fields.h"
#include "proto/json.h"
#include "proto/labels.h"
#include "proto/limits.h"
#include "proto/utf8.h"

namespace pulse::client {
namespace {

constexpr uint16_t kAbnormal = 1006;  // RFC 6455 7.1.5: there was no close frame

bool is_utf8(std::string_view text) {
    return utf8_valid({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Result<void> check_text(std::string_view name, std::string_view text, size_t bytes_max) {
    if (text.size() > bytes_max)
        return Error{std::string(name) + ": has " + std::to_string(text.size()) +
                     " bytes; at most " + std::to_string(bytes_max) + " are taken"};
    if (!is_utf8(text)) return Error{std::string(name) + ": is not UTF-8; encode it so"};
    return {};
}

void add_quoted(std::string& to, std::string_view text) {
    const size_t before = to.size();
    const size_t bytes = json::escaped_bytes(text);
    to.resize(before + bytes + 2);
    to[before] = '"';
    json::write_escaped(reinterpret_cast<uint8_t*>(to.data()) + before + 1, text);
    to.back() = '"';
}

void add_member(std::string& to, std::string_view name, std::string_view text) {
    if (text.empty()) return;
    to.append(",\"").append(name).append("\":");
    add_quoted(to, text);
}

void add_labels(std::string& to, const Identity& identity) {
    if (identity.labels.empty()) return;
    to += R"(,"labels":{)";
    const char* comma = "";
    for (const auto& [name, value] : identity.labels) {
        to += comma;
        add_quoted(to, name);
        to += ':';
        add_quoted(to, value);
        comma = ",";
    }
    to += '}';
}

bool is_reason(std::string_view text) {
    return !text.empty() && text[0] >= 'a' && text[0] <= 'z' &&
           std::ranges::all_of(
               text, [](char byte) { return (byte >= 'a' && byte <= 'z') || byte == '_'; });
}

// One of no time at all asks for nothing: a crowd would come at one moment.
std::optional<Nanos> as_hint(Nanos wait) { return wait > 0 ? std::optional(wait) : std::nullopt; }

// Takes "; retry_after_ms=N", or that alone, off the end.
std::optional<Nanos> take_hint(std::string_view& words) {
    constexpr std::string_view kHint = "retry_after_ms=";
    const size_t at = words.rfind(kHint);
    if (at == words.npos) return std::nullopt;
    const std::string_view digits = words.substr(at + kHint.size());
    const bool apart = at == 0 || words.substr(0, at).ends_with("; ");
    uint32_t hint_ms = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stopped, error] = std::from_chars(digits.data(), end, hint_ms);
    if (!apart || error != std::errc{} || stopped != end) return std::nullopt;
    words = words.substr(0, at == 0 ? 0 : at - 2);
    return as_hint(hint_ms * kMillisecond);
}

}  // namespace

Result<void> check_token(std::string_view token) {
    return check_text("token", token, kTokenBytesMax);
}

Result<void> check_identity(const Identity& identity) {
    for (const Result<void>& check :
         {check_text("user", identity.user, kUserBytesMax),
          check_text("device", identity.device, kDeviceBytesMax),
          check_text("profile", identity.profile, kJsonStringBytesMax)}) {
        if (!check) return check;
    }
    if (identity.labels.size() > kLabelsMax)
        return Error{"labels: are " + std::to_string(identity.labels.size()) + "; at most " +
                     std::to_string(kLabelsMax) + " are taken"};
    std::vector<Label> labels;
    for (const auto& [name, value] : identity.labels) {
        for (const std::string& text : {name, value}) {
            if (Result<void> check = check_text("labels", text, kLabelBytesMax); !check)
                return check;
        }
        if (std::ranges::find(labels, name, &Label::name) != labels.end())
            return Error{"labels: " + quoted(name) + " stands twice; leave one out"};
        labels.push_back({name, value});
    }
    std::string written;
    if (!write_labels(written, labels))
        return Error{"labels: have over " + std::to_string(kLabelsBytesMax) +
                     " bytes together; shorten them"};
    return {};
}

std::string hello_text(const Identity& identity, std::string_view token,
                       const std::optional<ResumeRequest>& resume) {
    std::string text = R"({"type":"hello")";
    add_member(text, "user", identity.user);
    add_member(text, "device", identity.device);
    add_labels(text, identity);
    add_member(text, "profile", identity.profile);
    add_member(text, "token", token);
    if (resume) {
        text += R"(,"resume":{)";
        if (!resume->token.empty()) {
            text += R"("token":)";
            add_quoted(text, resume->token);
            text += R"(,"last_seq":)" + std::to_string(resume->last_seq);
        }
        text += '}';
    }
    return text + '}';
}

Cause cause_of_close(uint16_t code, std::string_view words) {
    if (code == 0) code = kAbnormal;
    Cause cause;
    cause.code = code;
    cause.retry_after = take_hint(words);
    const size_t colon = words.find(": ");
    const std::string_view name = words.substr(0, colon);
    if (is_reason(name)) {
        cause.name = name;
        const std::string_view detail = colon == words.npos ? "" : words.substr(colon + 2);
        const std::string_view first = detail.substr(0, detail.find(';'));
        (name == "moved" ? cause.move_to : cause.message) = first;
    } else {
        cause.name = "close_" + std::to_string(code);
        cause.message = words;
    }
    return cause;
}

std::optional<Nanos> parse_retry_after(std::string_view field, Nanos wall_now) {
    field = trim_blanks(field);
    uint32_t wait_s = 0;
    const char* const end = field.data() + field.size();
    const auto [stopped, error] = std::from_chars(field.data(), end, wait_s);
    if (error == std::errc{} && stopped == end) return as_hint(wait_s * kSecond);
    const std::optional<int64_t> date = parse_http_date(field, wall_now / kSecond);
    if (!date) return std::nullopt;
    // Bounded, so that nothing overflows whatever the year.
    const int64_t ahead_s = std::clamp<int64_t>(*date - wall_now / kSecond, 0, UINT32_MAX);
    return as_hint(ahead_s * kSecond - wall_now % kSecond);
}

}  // namespace pulse::client
