// A small program's manual: what its page and its completions say, and that CLI11's flags, groups,
// commands and footer come to the same.
#include "tools/manual/manual.h"

#include <gtest/gtest.h>

#include "tools/manual/cli11.h"

namespace pulse::manual {
namespace {

Manual small() {
    Manual manual;
    manual.program = "small";
    manual.about = "Does little. And that's all.";
    manual.groups = {{"Doing",
                      {{"how", "h", "slow|fast|SPEED", "How it's done: [fast]. Or not."},
                       {"log-file", "", "FILE", "Where to."},
                       {"quiet", "", "", "Says nothing."}}}};
    manual.sections = {{"Examples", "First:\n  small --how 'fast' \\ ~\n\n.begins\n"}};
    return manual;
}

bool has(const std::string& text, std::string_view piece) { return text.find(piece) != text.npos; }

TEST(Manual, WordsAreThoseThatAreNotInCapitals) {
    EXPECT_EQ(words_of("on|off"), (std::vector<std::string>{"on", "off"}));
    EXPECT_EQ(words_of("auto|off|TIME"), (std::vector<std::string>{"auto", "off"}));
    EXPECT_TRUE(words_of("TIME").empty());
    EXPECT_TRUE(words_of("").empty());
}

TEST(Manual, GeneratesTheKindsThatItNamesAndRefusesOthers) {
    std::string kinds(kKinds);
    for (const char* kind : {"man", "bash", "zsh", "fish"}) {
        EXPECT_TRUE(has(kinds, kind));
        EXPECT_TRUE(generate(small(), kind)) << kind;
    }
    const Result<std::string> wrong = generate(small(), "csh");
    ASSERT_FALSE(wrong);
    EXPECT_TRUE(has(wrong.error(), "'csh'") && has(wrong.error(), kKinds)) << wrong.error();
}

TEST(Manual, APageEscapesWhatRoffWouldRead) {
    const std::string page = man_page(small());
    EXPECT_TRUE(has(page, ".SH \"NAME\"\nsmall \\- Does little\n")) << page;
    EXPECT_TRUE(has(page, "\\fB\\-h\\fR, \\fB\\-\\-how\\fR \\fIslow|fast|SPEED\\fR\n")) << page;
    EXPECT_TRUE(has(page, ".SH \"EXAMPLES\"\n")) << page;
    EXPECT_TRUE(has(page, "small \\-\\-how \\(aqfast\\(aq \\e \\(ti\n")) << page;
    EXPECT_TRUE(has(page, "\n\\&.begins\n")) << page;
}

TEST(Manual, CompletionsQuoteForTheirShell) {
    EXPECT_TRUE(
        has(zsh_completion(small()), R"('*--how=[How it'\''s done: \[fast\]]:how:(slow fast)')"))
        << zsh_completion(small());
    EXPECT_TRUE(has(zsh_completion(small()), "]:FILE:_files'")) << zsh_completion(small());
    EXPECT_TRUE(has(fish_completion(small()),
                    R"(-l how -s h -x -a 'slow fast' -d 'How it\'s done: [fast]')"))
        << fish_completion(small());
    EXPECT_TRUE(has(bash_completion(small()), ":--how|:-h) ")) << bash_completion(small());
}

TEST(Manual, IsMadeOfACommandLineOfCli11) {
    CLI::App app("Does little.", "small");
    app.footer("\nExamples\n  small --how fast\n");
    std::string text;
    bool quiet = false;
    app.add_option("--how,-H", text, "How")->type_name("slow|fast")->group("Doing");
    app.add_option("--hidden", text)->group("");
    app.add_flag("--quiet", quiet, "Says nothing")->group("Doing");
    CLI::App* command = app.add_subcommand("kick", "Closes one");
    command->add_option("WHO", text)->type_name("ID");
    command->add_option("--rate", text, "How fast")->type_name("RATE");
    const Manual manual = manual_of(app);
    EXPECT_EQ(manual.program, "small");
    ASSERT_EQ(manual.groups.size(), 2u) << "those of --help, and the program's own";
    const Group& doing = manual.groups[1];
    ASSERT_EQ(doing.flags.size(), 2u);
    EXPECT_EQ(doing.title, "Doing");
    EXPECT_EQ(doing.flags[0].name, "how");
    EXPECT_EQ(doing.flags[0].short_name, "H");
    EXPECT_EQ(doing.flags[0].value, "slow|fast");
    EXPECT_EQ(doing.flags[1].value, "") << "a flag takes nothing";
    ASSERT_EQ(manual.commands.size(), 1u);
    EXPECT_EQ(manual.commands[0].operands, std::vector<std::string>{"WHO"});
    EXPECT_EQ(manual.commands[0].groups[0].flags.back().name, "rate");
    ASSERT_EQ(manual.sections.size(), 1u);
    EXPECT_EQ(manual.sections[0].text, "  small --how fast\n");
    const std::string page = man_page(manual);
    EXPECT_TRUE(has(page, ".SH \"COMMANDS\"") && has(page, "\\fIWHO\\fR")) << page;
    const std::string bash = bash_completion(manual);
    EXPECT_TRUE(has(bash, "kick:--rate) return") && has(bash, "kick) command=$word")) << bash;
}

TEST(Manual, TheFlagPrintsAndEndsAsAVersionDoes) {
    CLI::App app("Does little.", "small");
    add_generate_flag(app);
    try {
        app.parse("--generate man");
        ADD_FAILURE() << "went on";
    } catch (const CLI::ParseError& end) {
        EXPECT_EQ(end.get_exit_code(), 0);
        EXPECT_TRUE(has(end.what(), ".TH SMALL 1")) << end.what();
    }
    EXPECT_THROW(app.parse("--generate csh"), CLI::ValidationError);
}

}  // namespace
}  // namespace pulse::manual
