// Words, and a bucket for each sequence of them.
#include "tools/pulsewheel/line_limiter.h"

#include <algorithm>
#include <utility>

namespace pulse::serve {
namespace {

constexpr size_t kWordsBytesMax = 160;
constexpr size_t kFirstBytesMax = 200;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// The beginning of `text`, in whole UTF-8 characters.
std::string_view cut(std::string_view text, size_t bytes) {
    if (text.size() <= bytes) return text;
    while (bytes > 0 && (text[bytes] & '\xC0') == '\x80') --bytes;
    return text.substr(0, bytes);
}

}  // namespace

// From the first quotation mark that opens to the last: what is between may have some, too.
std::string LineLimiter::words_of(std::string_view line) {
    std::string plain;
    size_t opens = 0;
    for (; opens < line.size(); ++opens) {
        const bool quote = line[opens] == '\'' || line[opens] == '"';
        if (quote && (opens == 0 || !is_letter(line[opens - 1]))) break;
    }
    const size_t closes = opens < line.size() ? line.rfind(line[opens]) : line.size();
    plain.append(line.substr(0, opens));
    if (closes > opens && closes < line.size()) plain.append(line.substr(closes + 1));
    std::string words;
    for (std::string_view rest = plain; !rest.empty() && words.size() < kWordsBytesMax;) {
        const size_t end = std::min(rest.find(' '), rest.size());
        const std::string_view word = rest.substr(0, end);
        if (!word.empty() && std::none_of(word.begin(), word.end(), is_digit))
            words.append(cut(word, kWordsBytesMax)).append(" ");
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return words;
}

LineLimiter::Message& LineLimiter::message_of(std::string_view line, Nanos now) {
    std::string words = words_of(line);
    if (const auto known = messages_.find(words); known != messages_.end()) return known->second;
    if (messages_.size() >= kMessagesMax) {
        // Forgets what has nothing to tell and would begin anew.
        std::erase_if(messages_, [&](const auto& entry) {
            return entry.second.left_out == 0 && entry.second.full_at <= now;
        });
        if (messages_.size() >= kMessagesMax) words.clear();
    }
    return messages_[std::move(words)];
}

LineLimiter::Verdict LineLimiter::judge(std::string_view line, Nanos now) {
    if (!rate_.limits()) return {true, 0};
    Message& message = message_of(line, now);
    message.last_at = now;
    if (!rate_.allows(message.full_at, now)) {
        if (message.left_out++ == 0) message.first_left_out = cut(line, kFirstBytesMax);
        return {false, 0};
    }
    message.full_at = rate_.taken(message.full_at, now);
    return {true, std::exchange(message.left_out, 0)};
}

std::vector<LineLimiter::LeftOut> LineLimiter::take_quiet(Nanos now) {
    std::vector<LeftOut> list;
    for (auto& [words, message] : messages_) {
        if (message.left_out == 0 || (now != kNever && now - message.last_at < kQuietNs)) continue;
        list.push_back(
            {std::exchange(message.left_out, 0), std::exchange(message.first_left_out, {})});
    }
    return list;
}

}  // namespace pulse::serve
