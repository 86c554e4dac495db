// Errors and labels as objects.
#include "net/control/reply.h"

#include <algorithm>

namespace pulse {

Reply error_reply(int status, std::string_view offender, std::string_view text) {
    const size_t last = text.rfind("; ");
    const std::string_view reason = text.substr(0, last);
    const std::string_view remedy =
        last == std::string_view::npos ? std::string_view{} : text.substr(last + 2);
    return error_reply(status, offender, reason, remedy);
}

Json labels_json(std::string_view labels) {
    Json object = Json::object();
    while (!labels.empty()) {
        const size_t end = std::min(labels.find(' '), labels.size());
        const std::string_view label = labels.substr(0, end);
        labels.remove_prefix(std::min(end + 1, labels.size()));
        const size_t sign = std::min(label.find('='), label.size());
        object[std::string(label.substr(0, sign))] =
            std::string(label.substr(std::min(sign + 1, label.size())));
    }
    return object;
}

}  // namespace pulse
