// Labels of a connection as one text, in which they are kept: "region=eu ring=canary", by name, so
// that the same labels are the same text.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace pulse {

struct Label {
    std::string_view name, value;
};

// Writes them to `to`, which is emptied first. Of a name or value a byte that is a space, '=', '%'
// or a control character is written %20. False: they are over kLabelsBytesMax. Requires: at most
// kLabelsMax, each name once.
bool write_labels(std::string& to, std::span<const Label> labels);

}  // namespace pulse
