// Two levels of keys, by simdjson On-Demand.
#include "proto/json_welcome.h"

#include <simdjson.h>

#include <utility>

#include "core/limits.h"
#include "proto/limits.h"

namespace pulse {
namespace {

using simdjson::ondemand::field;
using simdjson::ondemand::value;

bool take_count(value& from, uint64_t& to) {
    return !from.get_uint64().get(to) && to <= kJsonNumberMax;
}

// The object `resume`. Returns what is wrong with it; empty: nothing.
std::string_view take_resume(value& from, JsonResumption& resumption) {
    simdjson::ondemand::object resume;
    if (from.get_object().get(resume)) return "is not a JSON object";
    for (auto found : resume) {
        field entry;
        std::string_view name;
        if (std::move(found).get(entry) || entry.unescaped_key().get(name)) return "is not JSON";
        bool right = true;
        if (name == "token") {
            right = !entry.value().get_string().get(resumption.token);
        } else if (name == "why") {
            right = !entry.value().get_string().get(resumption.why);
        } else if (name == "resumed") {
            right = !entry.value().get_bool().get(resumption.resumed);
        } else if (name == "received") {
            right = take_count(entry.value(), resumption.received);
        } else if (name == "from") {
            right = take_count(entry.value(), resumption.from);
        }
        if (!right) return "has a value that its key cannot have";
    }
    return {};
}

}  // namespace

struct WelcomeParser::Implementation {
    simdjson::ondemand::parser parser;
};

WelcomeParser::WelcomeParser() : implementation_(std::make_unique<Implementation>()) {}
WelcomeParser::~WelcomeParser() = default;

JsonFault WelcomeParser::parse(std::span<const uint8_t> text, JsonResumption& resumption) {
    resumption = {};
    const simdjson::padded_string_view padded(text.data(), text.size(),
                                              text.size() + kReceivePadBytes);
    simdjson::ondemand::document document;
    simdjson::ondemand::object object;
    if (implementation_->parser.iterate(padded).get(document) || document.get_object().get(object))
        return {"is not a JSON object"};
    for (auto found : object) {
        field entry;
        std::string_view name;
        if (std::move(found).get(entry) || entry.unescaped_key().get(name)) return {"is not JSON"};
        if (name == "session" && entry.value().get_string().get(resumption.session))
            return {"is not a string", "session"};
        if (name != "resume") continue;
        const std::string_view wrong = take_resume(entry.value(), resumption);
        if (!wrong.empty()) return {wrong, "resume"};
    }
    return {};
}

}  // namespace pulse
