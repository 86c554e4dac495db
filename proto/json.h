// The JSON objects of the protocol (design.md section 7): what they say, and how ours are written.
// This and json.cc are the only files that know simdjson.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "proto/codec.h"

namespace pulse {

// What a peer says of itself. Views into the parser's memory, valid until its next parse.
struct Hello {
    std::string_view user;
    std::string_view device;
    std::string_view token;
    std::string_view profile;
};

// What is wrong with an object: a literal, and the key it is about (empty: the object as a whole).
struct JsonFault {
    std::string_view what;
    std::string_view key;
    bool ok() const { return what.empty(); }
};

// One a reactor: it owns the parser's buffers, and parsing allocates nothing once they are grown.
class JsonParser {
  public:
    JsonParser();
    ~JsonParser();
    JsonParser(const JsonParser&) = delete;
    JsonParser& operator=(const JsonParser&) = delete;

    // `object` is padded behind by kReceivePadBytes. Unknown keys are passed over.
    JsonFault parse_hello(std::span<const uint8_t> object, Hello& hello);

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace pulse
