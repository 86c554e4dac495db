// One table a target.
#include "tools/pulseload/report/rounds_report.h"

#include <fmt/format.h>

#include "proto/printable.h"
#include "tools/pulseload/report/html_report.h"
#include "tools/pulseload/report/html_table.h"
#include "tools/pulseload/report/json_report.h"

namespace pulse::load {
namespace {

std::string states_of(const TargetRounds& rounds) {
    std::string states;
    for (size_t at = 0; at < rounds.rounds.size(); ++at) {
        states += fmt::format("{}{}: {}", at == 0 ? "" : ", ", at + 1,
                              name_of(rounds.rounds[at]->verdict.state));
    }
    return states;
}

}  // namespace

std::string rounds_text(const std::vector<TargetRounds>& targets, bool color) {
    std::string text;
    for (const TargetRounds& rounds : targets) {
        const bool valid = state_of(rounds) == RunState::valid;
        const char* const code = valid ? "\x1b[32m" : "\x1b[1;31m";
        text += fmt::format("\n{}\n", printable(rounds.target));
        text += fmt::format("  {}rounds  {}{}\n", color ? code : "", states_of(rounds),
                            color ? "\x1b[0m" : "");
        for (const Attempt* round : rounds.rounds) {
            for (const std::string& evidence : round->verdict.evidence)
                text += "  " + evidence + "\n";
        }
        text += fmt::format("  {:<25}{:>13}{:>13}{:>13}{:>8}\n", "", "median", "least", "most",
                            "rounds");
        for (const Headline& headline : headlines_of(rounds)) {
            text += fmt::format("  {:<25}{:>13}{:>13}{:>13}{:>8}\n", headline.name,
                                headline.human(headline.median()), headline.human(headline.min()),
                                headline.human(headline.max()), headline.values.size());
        }
        for (const ObjectiveResult& objective : objectives_of(rounds)) {
            text += fmt::format("  {}  {:<30} {}\n", objective.met ? "met   " : "MISSED",
                                printable(objective.objective), objective.measured);
        }
    }
    return text;
}

nlohmann::ordered_json rounds_json(const std::vector<TargetRounds>& targets,
                                   const std::deque<Attempt>& attempts) {
    using Json = nlohmann::ordered_json;
    Json list = Json::array();
    for (const TargetRounds& rounds : targets) {
        Json headlines = Json::object();
        for (const Headline& headline : headlines_of(rounds)) {
            headlines[headline.name] = {{"median", headline.median()},
                                        {"min", headline.min()},
                                        {"max", headline.max()},
                                        {"unit", headline.unit},
                                        {"human", headline.human(headline.median())},
                                        {"values", headline.values}};
        }
        Json states = Json::array();
        for (const Attempt* round : rounds.rounds) states.push_back(name_of(round->verdict.state));
        Json objectives = Json::array();
        for (const ObjectiveResult& one : objectives_of(rounds)) {
            objectives.push_back(
                {{"objective", one.objective}, {"met", one.met}, {"measured", one.measured}});
        }
        list.push_back({{"target", printable(rounds.target)},
                        {"state", name_of(state_of(rounds))},
                        {"states", std::move(states)},
                        {"headlines", std::move(headlines)},
                        {"objectives", std::move(objectives)}});
    }
    Json runs = Json::array();
    for (const Attempt& made : attempts)
        runs.push_back(to_json(made.result, made.verdict, made.objectives));
    return {{"schema", kRoundsSchema}, {"targets", std::move(list)}, {"runs", std::move(runs)}};
}

std::string rounds_page(const std::vector<TargetRounds>& targets) {
    std::string section;
    for (const TargetRounds& rounds : targets) {
        HtmlTable table("Rounds: " + rounds.target, {"", "median", "least", "most", "rounds"});
        for (const Headline& headline : headlines_of(rounds)) {
            table.row().cell(headline.name).cell(headline.human(headline.median()));
            table.cell(headline.human(headline.min())).cell(headline.human(headline.max()));
            table.count(headline.values.size());
        }
        section += table.html();
        section += "<p class=\"soft\">Rounds: " + escaped(states_of(rounds)) +
                   "; the numbers are of the valid ones. Below is the typical round of the first "
                   "target.</p>\n";
    }
    const Attempt& typical = typical_round(targets.front());
    return html_page(typical.result, typical.verdict, typical.objectives, section);
}

}  // namespace pulse::load
