// A ring of texts.
#include "net/control/presence_feed.h"

#include <charconv>
#include <utility>

namespace pulse {
namespace {

// What an entry takes besides its text.
constexpr size_t kEntryBytes = 64;

}  // namespace

void PresenceFeed::push(Entry entry) {
    const size_t bytes = entry.text.size() + kEntryBytes;
    entries_.push_back(std::move(entry));
    bytes_ += bytes;
    ++end_;
    while (bytes_ > bytes_max_ && entries_.size() > 1) {
        bytes_ -= entries_.front().text.size() + kEntryBytes;
        entries_.pop_front();
    }
}

void PresenceFeed::append(std::string_view data, uint32_t generation, uint32_t sequence) {
    std::string text = "id: " + id_of(end_ + 1, generation, sequence);
    text.append("\nevent: change\ndata: ").append(data).append("\n\n");
    push({std::move(text), false});
}

std::string PresenceFeed::id_of(uint64_t position, uint32_t generation, uint32_t sequence) const {
    std::string text = std::to_string(epoch_);
    for (const uint64_t number : {position, uint64_t{generation}, uint64_t{sequence}})
        text.append(".").append(std::to_string(number));
    return text;
}

std::optional<uint64_t> PresenceFeed::position_of(std::string_view id) const {
    uint64_t numbers[2] = {};
    for (uint64_t& number : numbers) {
        const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), number);
        if (error != std::errc{} || end == id.data() + id.size() || *end != '.')
            return std::nullopt;
        id.remove_prefix(static_cast<size_t>(end - id.data()) + 1);
    }
    const auto [epoch, position] = std::pair(numbers[0], numbers[1]);
    if (epoch != epoch_ || position < first() || position > end_) return std::nullopt;
    return position;
}

PresenceFeed::Read PresenceFeed::read(uint64_t& position, std::string& out, size_t full) const {
    if (position < first()) return Read::lost;
    while (position < end_ && out.size() < full) {
        const Entry& entry = entries_[position++ - first()];
        if (entry.gap) return Read::gap;
        out += entry.text;
    }
    return Read::done;
}

}  // namespace pulse
