// Sorted, escaped, joined.
#include "proto/labels.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/check.h"
#include "core/limits.h"
#include "proto/limits.h"

namespace pulse {
namespace {

void append_escaped(std::string& to, std::string_view text) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (const char character : text) {
        const auto byte = static_cast<uint8_t>(character);
        if (byte > ' ' && byte != '=' && byte != '%' && byte != 0x7F) {
            to += character;
        } else {
            to.append({'%', kDigits[byte >> 4], kDigits[byte & 15]});
        }
    }
}

}  // namespace

bool write_labels(std::string& to, std::span<const Label> labels) {
    std::array<Label, kLabelsMax> sorted;
    PULSE_ASSERT(labels.size() <= sorted.size());
    const auto end = std::copy(labels.begin(), labels.end(), sorted.begin());
    std::sort(sorted.begin(), end,
              [](const Label& one, const Label& other) { return one.name < other.name; });
    to.clear();
    for (auto label = sorted.begin(); label != end; ++label) {
        if (!to.empty()) to += ' ';
        append_escaped(to, label->name);
        to += '=';
        append_escaped(to, label->value);
    }
    return to.size() <= kLabelsBytesMax;
}

}  // namespace pulse
