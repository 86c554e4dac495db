// Objects, strings and rates of a body, and what is wrong with them.
#include "net/control/body.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/units.h"

namespace pulse {
namespace {

// The "filter" of a body: an object of strings, or of lists of them.
Result<ConnectionFilter> filter_of_body(const Json& body, const FilterNames& names) {
    ConnectionFilter filter;
    const auto found = body.find("filter");
    if (found == body.end()) return filter;
    constexpr std::string_view kShape =
        "filter: must be an object of strings or lists of them; write "
        "{\"filter\": {\"protocol\": \"ws\"}}";
    if (!found->is_object()) return Error{std::string(kShape)};
    for (const auto& [key, value] : found->items()) {
        if (value.is_array() && value.empty())
            return Error{key + ": is an empty list; name what is meant, or leave it out"};
        const Json list = value.is_array() ? value : Json::array({value});
        for (const Json& each : list) {
            if (!each.is_string()) return Error{std::string(kShape)};
            if (Result<void> set = set_filter(filter, names, key, each.get<std::string>()); !set)
                return Error{set.error()};
        }
    }
    return filter;
}

}  // namespace

Result<void> only_keys(const Json& body, std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : body.items()) {
        if (std::ranges::find(known, key) != known.end()) continue;
        std::string text = key + ": is not read here; write";
        for (const std::string_view each : known) text.append(" ").append(each);
        return Error{text};
    }
    return {};
}

Result<ConnectionFilter> whom(const Json& body, const FilterNames& names) {
    Result<ConnectionFilter> filter = filter_of_body(body, names);
    if (!filter) return filter;
    const bool all = body.value("all", Json(false)) == Json(true);
    if (filter->empty() == all) return filter;
    return all ? Error{"all: a filter is given as well; write one of them"}
               : Error{"filter: is missing or empty; write a filter, or \"all\": true"};
}

Result<std::string> text_of(const Json& body, std::string_view key, size_t bytes_max) {
    const auto found = body.find(key);
    if (found == body.end()) return std::string();
    if (!found->is_string()) return Error{std::string(key) + ": is not a string; write one"};
    auto text = found->get<std::string>();
    if (text.size() > bytes_max) {
        return Error{
            fmt::format("{}: has {} bytes; write at most {}", key, text.size(), bytes_max)};
    }
    return text;
}

Reply bad(std::string_view error) {
    const size_t colon = error.find(": ");
    return error_reply(400, error.substr(0, colon), error.substr(colon + 2));
}

Result<uint64_t> rate_of(const Json& body) {
    const Result<std::string> text = text_of(body, "rate", 32);
    if (!text) return Error{text.error()};
    if (text->empty()) return uint64_t{0};
    Result<uint64_t> rate = parse_rate(*text);
    if (!rate) return Error{"rate: " + rate.error()};
    if (*rate == 0) {
        return Error{"rate: " + pulse::quoted(*text) +
                     " is not a rate; write one like 500/s, or leave it out"};
    }
    return rate;
}

}  // namespace pulse
