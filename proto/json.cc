// JSON by simdjson On-Demand: one pass, no tree.
#include "proto/json.h"

#include <simdjson.h>

namespace pulse {

static_assert(kReceivePadBytes >= simdjson::SIMDJSON_PADDING);

struct JsonParser::Implementation {
    simdjson::ondemand::parser parser;
};

JsonParser::JsonParser() : implementation_(std::make_unique<Implementation>()) {}
JsonParser::~JsonParser() = default;

JsonFault JsonParser::parse_hello(std::span<const uint8_t> object, Hello& hello) {
    struct Key {
        std::string_view name;
        std::string_view& value;
    };
    const Key keys[] = {{"user", hello.user},
                        {"device", hello.device},
                        {"token", hello.token},
                        {"profile", hello.profile}};
    const simdjson::padded_string_view padded(object.data(), object.size(),
                                              object.size() + kReceivePadBytes);
    simdjson::ondemand::document document;
    if (implementation_->parser.iterate(padded).get(document)) return {"hello is not JSON", {}};
    simdjson::ondemand::object fields;
    if (document.get_object().get(fields)) return {"hello is not an object", {}};
    for (auto field : fields) {
        std::string_view name;
        if (field.unescaped_key().get(name)) return {"hello is not JSON", {}};
        for (const Key& key : keys) {
            if (name != key.name) continue;
            if (field.value().get_string().get(key.value)) return {"is not a string", key.name};
        }
    }
    const char* rest = nullptr;
    if (document.current_location().get(rest) == simdjson::OUT_OF_BOUNDS) return {};
    return {"hello has something behind the object", {}};
}

}  // namespace pulse
