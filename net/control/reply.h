// Answers of the admin endpoint, before they are HTTP: JSON, and errors that name the offender, the
// reason and the remedy.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/control/http_front.h"
#include "net/control/target.h"

namespace pulse {

struct Reply {
    int status = 200;
    std::string body;
    std::string type = "application/json";
    std::string allow{};  // the methods that the path has, where the request's is another
    std::shared_ptr<HttpStream> stream{};  // follows the head, instead of the body
    // Besides what every answer has; of these names, instead.
    std::vector<std::pair<std::string, std::string>> headers{};
};

// Text from outside may be anything; what is not UTF-8 is replaced.
inline Reply json_reply(const Json& object, int status = 200) {
    return {status, object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"};
}

inline Reply error_reply(int status, std::string_view offender, std::string_view reason,
                         std::string_view remedy) {
    return json_reply(
        {{"error",
          {{"status", status}, {"offender", offender}, {"reason", reason}, {"remedy", remedy}}}},
        status);
}

// An error of ours is "OFFENDER: REASON; REMEDY", or the same with a quotation before the reason.
Reply error_reply(int status, std::string_view offender, std::string_view text);

// "ring=canary region=eu", the labels of a session, as an object.
Json labels_json(std::string_view labels);

// What a request asks.
struct Ask {
    std::string id;  // of the path, where that has one, or the name
    std::string path{};
    std::string last_event_id{};
    std::string if_none_match{};
    std::multimap<std::string, std::string> query;
    Json body;                   // of a POST, an object; null otherwise
    std::function<bool()> gone;  // the client does not wait any more
};

}  // namespace pulse
