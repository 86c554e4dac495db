// From CLI11's options, groups and footer to a manual.
#include "tools/manual/cli11.h"

#include <algorithm>

namespace pulse::manual {
namespace {

Flag flag_of(const CLI::Option& option) {
    Flag flag;
    flag.name = option.get_lnames().empty() ? option.get_snames().front() : option.get_lnames()[0];
    if (!option.get_snames().empty() && !option.get_lnames().empty())
        flag.short_name = option.get_snames()[0];
    if (option.get_items_expected_max() > 0) flag.value = option.get_type_name();
    flag.about = option.get_description();
    return flag;
}

// In the order of --help: groups as they first appear. What has no group is hidden.
std::vector<Group> groups_of(const CLI::App& app) {
    std::vector<Group> groups;
    for (const CLI::Option* option : app.get_options()) {
        if (option->get_positional() || option->get_group().empty()) continue;
        auto group = std::ranges::find(groups, option->get_group(), &Group::title);
        if (group == groups.end()) group = groups.insert(group, {option->get_group(), {}});
        group->flags.push_back(flag_of(*option));
    }
    return groups;
}

std::vector<std::string> operands_of(const CLI::App& app) {
    std::vector<std::string> operands;
    for (const CLI::Option* option : app.get_options())
        if (option->get_positional()) operands.push_back(option->get_single_name());
    return operands;
}

// A footer's unindented lines begin sections, whose lines are indented, as --help prints it.
std::vector<Section> sections_of(std::string_view footer) {
    std::vector<Section> sections;
    while (!footer.empty()) {
        const size_t end = std::min(footer.find('\n'), footer.size());
        const std::string_view line = footer.substr(0, end);
        footer.remove_prefix(std::min(end + 1, footer.size()));
        if (!line.empty() && line[0] != ' ') {
            sections.push_back({std::string(line), {}});
        } else if (!sections.empty()) {
            sections.back().text.append(line).append("\n");
        }
    }
    return sections;
}

}  // namespace

Manual manual_of(const CLI::App& app) {
    Manual manual;
    manual.program = app.get_name();
    manual.about = app.get_description();
    manual.operands = operands_of(app);
    manual.groups = groups_of(app);
    for (const CLI::App* command : app.get_subcommands({})) {
        if (command->get_name().empty()) continue;
        manual.commands.push_back({command->get_name(), command->get_description(),
                                   operands_of(*command), groups_of(*command)});
    }
    manual.sections = sections_of(app.get_footer());
    return manual;
}

void add_generate_flag(CLI::App& app) {
    app.add_option_function<std::string>(
           "--generate",
           [&app](const std::string& kind) {
               Result<std::string> text = generate(manual_of(app), kind);
               if (!text) throw CLI::ValidationError(text.error());
               // CLI11 adds a newline.
               while (text->ends_with('\n')) text->pop_back();
               throw CLI::CallForVersion(*text, 0);
           },
           std::string(kGenerateAbout))
        ->type_name(std::string(kKinds));
}

}  // namespace pulse::manual
