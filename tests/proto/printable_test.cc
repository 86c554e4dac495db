// What peers send and users name, made fit to show.
#include "proto/printable.h"

#include <gtest/gtest.h>

namespace pulse {
namespace {

TEST(Printable, KeepsPlainText) {
    for (const char* text : {"", "plain", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "a b\\x1b\""})
        EXPECT_EQ(printable(text), text);
}

TEST(Printable, EscapesControlsAndWhatIsNotUtf8) {
    EXPECT_EQ(printable("\x1b[2J\n\r\t\x7f"), "\\x1b[2J\\x0a\\x0d\\x09\\x7f");
    EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
    EXPECT_EQ(printable("\xc2\x9b"
                        "2J"),
              "\\x9b2J");  // C1: CSI in one character
    EXPECT_EQ(printable("\xff\xfe"), "\\xff\\xfe");
    EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");                  // too long a form
    EXPECT_EQ(printable("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");         // too long a form
    EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");         // a surrogate
    EXPECT_EQ(printable("\xf4\x90\x80\x80").substr(0, 4), "\\xf4");  // beyond Unicode
    EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");                  // cut
    EXPECT_EQ(printable("\xe2\x80\xae"), "\\u202e");                 // turns the text around
}

TEST(Printable, KeepsWhatSeparatesLinesIfAskedTo) {
    EXPECT_EQ(printable_lines("a\x1b\n\tb\r"), "a\\x1b\n\tb\\x0d");
    EXPECT_EQ(printable_lines("\n"), "\n");
    EXPECT_EQ(printable_lines(""), "");
}

TEST(Printable, AppliedTwiceChangesNothingMore) {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    const std::string once = printable(all);
    EXPECT_EQ(printable(once), once);
}

}  // namespace
}  // namespace pulse
