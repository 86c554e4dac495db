// Labels as text: order, escapes, and the bound of all together.
#include "proto/labels.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/limits.h"

namespace pulse {
namespace {

TEST(Labels, AreOneTextWhateverTheirOrder) {
    std::string text = "before";
    EXPECT_TRUE(write_labels(text, {}));
    EXPECT_EQ(text, "");
    const Label two[] = {{"ring", "canary"}, {"region", "eu"}};
    const Label turned[] = {two[1], two[0]};
    EXPECT_TRUE(write_labels(text, two));
    EXPECT_EQ(text, "region=eu ring=canary");
    EXPECT_TRUE(write_labels(text, turned));
    EXPECT_EQ(text, "region=eu ring=canary");
    const Label odd[] = {{"a b", "=%\x7f\n"}, {"\xc3\xa9", ""}};
    EXPECT_TRUE(write_labels(text, odd));
    EXPECT_EQ(text, "a%20b=%3D%25%7F%0A \xc3\xa9=");
}

TEST(Labels, AreBoundedTogether) {
    const std::string value(kLabelsBytesMax / 8 - 3, 'v');
    const std::string names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    std::vector<Label> labels;
    for (const std::string& name : names) labels.push_back({name, value});
    std::string text;
    EXPECT_TRUE(write_labels(text, labels));
    EXPECT_EQ(text.size(), kLabelsBytesMax - 1);
    const std::string longer = value + "vv";
    labels[0].value = longer;
    EXPECT_FALSE(write_labels(text, labels));
}

}  // namespace
}  // namespace pulse
