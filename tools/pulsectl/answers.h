// Members of the server's answers, which may be missing, and lists that come in pages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/units.h"
#include "tools/pulsectl/commands.h"

namespace pulse::ctl {

// The longest page that the server gives.
inline constexpr uint64_t kPage = 1'000;

inline std::string text_of(const Json& object, const char* name, std::string_view otherwise = "-") {
    const auto found = object.find(name);
    return found != object.end() && found->is_string() ? found->get<std::string>()
                                                       : std::string(otherwise);
}

inline uint64_t number_of(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number() ? found->get<uint64_t>() : 0;
}

// --limit of a list.
inline Result<uint64_t> wanted_of(const Request& request) {
    if (!request.has("limit")) return uint64_t{100};
    if (request.get("limit") == "all") return UINT64_MAX;
    const Result<uint64_t> limit = parse_count(request.get("limit"));
    if (limit && *limit > 0) return limit;
    return Error{"--limit " + pulse::quoted(request.get("limit")) +
                 ": is not a length of a list; write 1 or more, or all"};
}

// Calls row(object) for the members of the list `name`, page by page, until there are `wanted` or
// none is left. `target` has a query. Returns whether there are more; row() returns false to end.
template <class Row>
Result<bool> for_each_row(Client& client, const std::string& target, const char* name,
                          uint64_t wanted, Row&& row) {
    std::string cursor;
    for (uint64_t found = 0; found < wanted;) {
        std::string page_target =
            target + "&limit=" + std::to_string(std::min(kPage, wanted - found));
        if (!cursor.empty()) page_target += "&cursor=" + percent_encoded(cursor);
        const Result<Json> page = client.get_json(page_target);
        if (!page) return Error{page.error()};
        for (const Json& each : (*page)[name]) {
            ++found;
            if (!row(each)) return true;
        }
        cursor = text_of(*page, "next", "");
        if (cursor.empty()) return false;
    }
    return true;
}

}  // namespace pulse::ctl
