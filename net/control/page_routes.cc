// The live page: its files, which hold nothing of the server and need no token, and the stream of
// figures that it draws, which does.
#include <fmt/format.h>

#include <algorithm>

#include "core/sip_hash.h"
#include "net/control/limits.h"
#include "net/control/routes.h"

namespace pulse {
namespace {

// The page runs its own two files and asks its own origin; no other page may frame it. It sends no
// form: the token that it asks for stays in it.
constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// Weak: a response may be compressed or not.
std::string etag_of(std::string_view text) {
    return fmt::format("W/\"{:016x}\"", sip_hash(SipKey{}, text));
}

// RFC 9110 13.1.2: a list of tags, or *; compared weakly.
bool has_tag(std::string_view list, std::string_view etag) {
    if (list == "*") return true;
    return list.find(etag.substr(2)) != std::string_view::npos;
}

}  // namespace

Reply Routes::page(const Ask& ask) {
    const auto file = std::ranges::find(target_.page(), ask.path, &PageFile::path);
    if (file == target_.page().end())
        return error_reply(404, ask.path, "is not in this program", "GET /api/v1 lists all");
    const std::string etag = etag_of(file->text);
    Reply reply{200, std::string(file->text), std::string(file->type)};
    reply.headers = {{"Cache-Control", "no-cache"},
                     {"Content-Security-Policy", std::string(kPolicy)},
                     {"ETag", etag},
                     {"Referrer-Policy", "no-referrer"},
                     {"Vary", "Accept-Encoding"},
                     {"X-Content-Type-Options", "nosniff"}};
    if (has_tag(ask.if_none_match, etag)) {
        reply.status = 304;
        reply.body.clear();
    }
    return reply;
}

Reply Routes::stream(const Ask&) {
    Result<std::shared_ptr<HttpStream>> stream = status_hub_.follow();
    if (!stream) return error_reply(503, "stream", stream.error());
    if (*stream == nullptr) {
        return error_reply(503, "stream",
                           fmt::format("{} clients watch already", kStatusFollowersMax),
                           "end one of them, or try again later");
    }
    Reply reply;
    reply.stream = std::move(*stream);
    return reply;
}

}  // namespace pulse
