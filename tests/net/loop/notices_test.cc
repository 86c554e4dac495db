// What is logged once, whatever happens again.
#include "net/loop/notices.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace pulse::test {
namespace {

TEST(Notices, LostCompletionsAreLoggedOnce) {
    std::vector<std::string> lines;
    Notices notices(3, [&](const std::string& line) { lines.push_back(line); });
    notices.completions_lost(0);
    EXPECT_TRUE(lines.empty());
    for (const uint64_t total : {5, 5, 900}) notices.completions_lost(total);
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_TRUE(lines[0].starts_with("reactor 3: the kernel had no memory for 5 completions"))
        << lines[0];
    EXPECT_NE(lines[0].find("--backend epoll"), std::string::npos) << lines[0];
}

TEST(Notices, WithoutALogNothingIsMade) {
    Notices notices(0, {});
    notices.completions_lost(5);
    EXPECT_EQ(notices.due_at(), kNever);
}

}  // namespace
}  // namespace pulse::test
