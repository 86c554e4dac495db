// The head of an HTTP/1.1 request, read by hand and strictly: what is not a head word for word is
// refused before anything else reads it (RFC 9112 2.2, 3 and 5).
#pragma once

#include <optional>
#include <string_view>

#include "core/result.h"

namespace pulse {

// Views of the text that was parsed.
struct HttpHead {
    std::string_view method;
    std::string_view target;   // as it was sent
    std::string_view version;  // HTTP/1.0 or HTTP/1.1
    std::string_view fields;   // the lines behind the first

    // The target without its query, as it was sent.
    std::string_view path() const { return target.substr(0, target.find('?')); }
    // The value of the first header with this name, which is written in lower case.
    std::optional<std::string_view> header(std::string_view name) const;
};

// Whether it is this word, which is written in lower case, in any case.
bool is_same_word(std::string_view given, std::string_view lower_case);

// `text` ends with the line break of the last header, or with the empty line behind it. The error
// is "REASON; REMEDY".
Result<HttpHead> parse_http_head(std::string_view text);

}  // namespace pulse
