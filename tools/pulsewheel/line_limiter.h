// Which lines of a log are left out because the same message comes too often. Time is a parameter.
//
// A message is known by its words: what is quoted, and words with a digit in them, are what it was
// filled with. Peers can make a message come often, and fill it with what they like, and get no
// more than its rate of lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/rate_limiter.h"

namespace pulse::serve {

class LineLimiter {
  public:
    // Messages that are told apart; those that come when as many are remembered are one.
    static constexpr size_t kMessagesMax = 256;
    // Without a line for so long, what was left out of a message is reported.
    static constexpr Nanos kQuietNs = 5 * kSecond;

    struct Verdict {
        bool passes;
        uint64_t left_out;  // of the same message, since the last line that passed
    };
    struct LeftOut {
        uint64_t lines;
        std::string first;  // of them; cut
    };

    // No events: all pass. What was counted stays.
    void set(const RateLimit& rate) { rate_ = BucketRate(rate); }
    // Whether this line may be logged. `now` does not move back by much.
    Verdict judge(std::string_view line, Nanos now);
    // What was left out of messages that have become quiet, each once; all, with `now` kNever.
    std::vector<LeftOut> take_quiet(Nanos now);
    size_t messages() const { return messages_.size(); }

    // The words by which a message is known.
    static std::string words_of(std::string_view line);

  private:
    struct Message {
        Nanos full_at = 0;  // of its bucket
        Nanos last_at = 0;
        uint64_t left_out = 0;
        std::string first_left_out;
    };
    Message& message_of(std::string_view line, Nanos now);

    BucketRate rate_;
    std::unordered_map<std::string, Message> messages_;
};

}  // namespace pulse::serve
