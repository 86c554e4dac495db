// What a welcome says of its session, for clients (proto/PROTOCOL.md, "Sessions" and "Resuming");
// proto/json.h reads the rest. Apart from that, so that the messages of a server do not grow by it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "proto/json.h"

namespace pulse {

// Views are the parser's until its next parse.
struct JsonResumption {
    std::string_view session;  // new, took_over, refreshed, resumed; empty: it has none
    std::string_view token;    // empty: the session cannot be resumed
    bool resumed = false;
    std::string_view why;   // where it was not
    uint64_t received = 0;  // of the client's messages
    uint64_t from = 0;      // number of the server's next
};

class WelcomeParser {
  public:
    WelcomeParser();
    ~WelcomeParser();
    WelcomeParser(const WelcomeParser&) = delete;
    WelcomeParser& operator=(const WelcomeParser&) = delete;

    // Requires: a text that JsonParser::parse() has taken for a welcome, with kReceivePadBytes
    // readable behind it. Keys that it does not read are passed over; one that has a value of
    // another kind is a fault.
    JsonFault parse(std::span<const uint8_t> text, JsonResumption& resumption);

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace pulse
