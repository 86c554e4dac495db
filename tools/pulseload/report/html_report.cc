// One function a section of the page.
#include "tools/pulseload/report/html_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/units.h"
#include "tools/pulseload/report/html_plots.h"
#include "tools/pulseload/report/html_style.h"
#include "tools/pulseload/report/html_table.h"
#include "tools/pulseload/report/markup.h"
#include "tools/pulseload/report/summary.h"
#include "tools/pulseload/report/text_file.h"
#include "tools/pulseload/run/close_codes.h"
#include "tools/pulseload/run/derived.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {
namespace {

constexpr std::string_view kMoods[] = {"", "good", "bad"};
std::string_view class_of(Mood mood) { return kMoods[static_cast<size_t>(mood)]; }

// ------------------------------------------------------------------------------------------ tables

std::string latency_table(const RunResult& result) {
    HtmlTable table("Latencies",
                    {"", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max", "mean"});
    for (size_t at = 0; at < kTimed; ++at) {
        const Histogram& one = reported_latency(result, static_cast<Timed>(at));
        if (one.count() == 0) continue;
        std::string name(name_of(static_cast<Timed>(at)));
        std::replace(name.begin(), name.end(), '_', ' ');
        table.row().cell(name).count(one.count());
        for (const double percent : {50.0, 90.0, 99.0, 99.9, 99.99, 100.0})
            table.cell(human_percentile(one, percent));
        table.cell(human_duration(static_cast<Nanos>(one.mean())));
    }
    const std::string html = table.html();
    if (html.empty()) return {};
    return html +
           "<p class=\"soft\">Counted from the instant at which each was due, so that "
           "waiting in the generator or before the server is in it; service from the "
           "instant at which it began.</p>\n";
}

std::string detection_table(const Detection& detection) {
    HtmlTable table("Silenced peers", {"", "silenced", "evicted", "early", "missed", "not due",
                                       "late p50", "late p99", "late max", "early max"});
    for (size_t at = 0; at < kBehaviours; ++at) {
        const Detection::Row& row = detection.rows[at];
        if (row.silenced == 0) continue;
        const auto wrong = [](uint64_t count) { return count > 0 ? "bad" : ""; };
        const auto delay = [](const Histogram& histogram, double percent) {
            return histogram.count() == 0 ? "–" : human_duration(histogram.percentile(percent));
        };
        table.row().cell(name_of(static_cast<Behaviour>(at))).count(row.silenced);
        table.count(row.evicted).cell(human_count(row.early), wrong(row.early));
        table.cell(human_count(row.missed), wrong(row.missed)).count(row.waiting);
        table.cell(delay(row.late_by, 50)).cell(delay(row.late_by, 99));
        table.cell(delay(row.late_by, 100)).cell(delay(row.early_by, 100));
    }
    std::string html = table.html();
    if (html.empty()) return html;
    if (detection.timeout == 0)
        return html + "<p class=\"soft\">The server's timeout is not known: nothing is judged.</p>";
    return html + fmt::format(
                      "<p class=\"soft\">Deadline {} after the last byte{}; up to {} late "
                      "is neither missed nor remarked on.</p>\n",
                      format_duration(detection.timeout),
                      detection.announced ? ", as the server announced" : "",
                      format_duration(detection.tolerance));
}

std::string storm_table(const std::vector<StormResult>& storms) {
    HtmlTable table("Storms", {"at", "killed", "back", "99 % back in", "peak accepts", "refused",
                               "tries", "most of one", ""});
    for (const StormResult& storm : storms) {
        table.row().cell(human_seconds(storm.at_s)).count(storm.killed).count(storm.recovered);
        if (storm.recovery_s > 0) {
            table.cell(human_seconds(storm.recovery_s));
        } else {
            table.cell(storm.tries > 0 ? "never" : "–", storm.tries > 0 ? "bad" : "");
        }
        table.cell(human_count(static_cast<uint64_t>(storm.peak_accepts_per_s)) + "/s");
        table.count(storm.refusals).count(storm.tries).count(storm.tries_max);
        table.cell(storm.what, "wide");
    }
    return table.html();
}

std::string objective_table(const std::vector<ObjectiveResult>& objectives) {
    HtmlTable table("Objectives", {"objective", "measured", ""});
    for (const ObjectiveResult& one : objectives) {
        table.row().cell(one.objective);
        table.cell(one.why.empty() ? one.measured : "not measured: " + one.why);
        table.cell(one.met ? "met" : "missed", one.met ? "good" : "bad");
    }
    return table.html();
}

std::string closes_tables(const Detection& detection) {
    HtmlTable codes("As clients received", {"code", "connections"});
    for (const auto& [code, count] : detection.codes) {
        codes.row().cell(name_of_close_code(code)).count(count);
    }
    HtmlTable reasons("As the server counts", {"reason", "connections"});
    for (const auto& [reason, count] : detection.server_closes)
        reasons.row().cell(reason).count(count);
    if (!codes.any() && !reasons.any()) return "";
    return "<h2>Closed by the server</h2>\n<div class=\"pair\"><div>" + codes.html(3) +
           "</div><div>" + reasons.html(3) + "</div></div>\n";
}

std::string crowd_tables(const RunResult& result) {
    HtmlTable protocols("Protocols", {"protocol", "connections"});
    for (const auto& [name, count] : result.protocols) protocols.row().cell(name).count(count);
    HtmlTable behaviours("Behaviours", {"behaviour", "connections"});
    for (const auto& [name, count] : result.behaviours) {
        if (count > 0) behaviours.row().cell(name).count(count);
    }
    HtmlTable counts("Counts", {"what", "in all"});
    result.counts.visit([&](std::string_view name, uint64_t value) {
        std::string words(name);
        std::replace(words.begin(), words.end(), '_', ' ');
        if (value > 0) counts.row().cell(words).count(value);
    });
    return "<div class=\"pair\"><div>" + counts.html(3) + "</div><div>" + behaviours.html(3) +
           protocols.html(3) + "</div></div>\n";
}

std::string settings_section(const RunResult& result) {
    HtmlTable table("Settings", {"setting", ""});
    for (const auto& [name, value] : result.settings) table.row().cell(name).cell(value, "wide");
    std::string html = "<h2>How it was run</h2>\n";
    if (!result.command_line.empty()) html += "<pre>" + escaped(result.command_line) + "</pre>\n";
    html += table.html(3);
    HtmlTable server("The server", {"setting", ""});
    if (result.server) {
        server.row().cell("version").cell(result.server->version, "wide");
        server.row().cell("backend").cell(result.server->backend, "wide");
        server.row().cell("process").cell(std::to_string(result.server->pid), "wide");
        server.row().cell("started at").cell(result.server->started_at, "wide");
        for (const auto& [name, value] : result.server->settings)
            server.row().cell(name).cell(value, "wide");
    }
    html += server.html(3);
    HtmlTable environment("The machine and the build", {"what", ""});
    for (const auto& [name, value] : result.environment)
        environment.row().cell(name).cell(value, "wide");
    return html + environment.html(3);
}

// ------------------------------------------------------------------------------------------- above

std::string_view headline_of(RunState state) {
    switch (state) {
        case RunState::not_connected:
            return "FAILED: not one connection opened";
        case RunState::invalid:
            return "INVALID: the generator distorted this run; "
                   "its numbers do not describe the target";
        case RunState::incomplete:
            return "INCOMPLETE: the numbers are not of the run that was asked for";
        case RunState::valid:
            break;
    }
    return "Valid";
}

std::string verdict_section(const RunResult& result, const Verdict& verdict,
                            const std::vector<ObjectiveResult>& objectives) {
    std::string html;
    if (result.cut_short) {
        html += fmt::format(
            "<div class=\"verdict bad\"><strong>Cut short</strong><p>Ended by {} "
            "after {}; what follows is of the part that ran.</p></div>\n",
            escaped(result.cut_short_by), human_seconds(result.ended_s));
    }
    if (verdict.valid()) {
        html +=
            "<div class=\"verdict\"><strong>Valid</strong><p>No sign that the generator was "
            "the bottleneck: the numbers are the server's.</p>";
    } else {
        html += fmt::format("<div class=\"verdict bad\"><strong>{}</strong><ul>",
                            headline_of(verdict.state));
        for (const auto* sentences : {&verdict.evidence, &verdict.remedies}) {
            for (const std::string& sentence : *sentences)
                html += "<li>" + escaped(sentence) + "</li>";
        }
        html += "</ul>";
    }
    html += "</div>\n";
    std::string missed;
    for (const ObjectiveResult& one : objectives) {
        if (one.met) continue;
        missed += fmt::format("<li>{}: {}</li>", escaped(one.objective),
                              escaped(one.why.empty() ? one.measured : "not measured, " + one.why));
    }
    if (!missed.empty()) {
        html += "<div class=\"verdict bad\"><strong>Objectives missed</strong><ul>" + missed +
                "</ul></div>\n";
    } else if (!objectives.empty()) {
        html += "<div class=\"verdict\"><strong>All objectives met</strong></div>\n";
    }
    return html;
}

std::string summary_section(const std::vector<SummaryLine>& lines) {
    std::string html = "<h2>What happened</h2>\n<dl class=\"happened\">\n";
    for (const SummaryLine& line : lines) {
        // The verdict stands above already.
        constexpr std::string_view kAbove[] = {"", "INVALID", "INCOMPLETE", "FAILED", "CUT SHORT"};
        if (std::ranges::find(kAbove, line.label) != std::end(kAbove)) continue;
        html += fmt::format("<dt class=\"{}\">{}</dt><dd>{}</dd>\n", class_of(line.mood),
                            escaped(line.label), escaped(line.words));
    }
    return html + "</dl>\n";
}

std::string tile(std::string_view name, std::string_view value, std::string_view below,
                 Mood mood = Mood::plain) {
    return fmt::format("<li class=\"{}\"><span>{}</span><b>{}</b><span>{}</span></li>\n",
                       class_of(mood), escaped(name), escaped(value), escaped(below));
}

std::string silent_tile(const Detection& detection) {
    const Detection::Row sum = silenced_peers(detection);
    const uint64_t due = sum.silenced - std::min(sum.silenced, sum.waiting);
    const bool right = sum.early + sum.missed == 0 && sum.evicted == due;
    return tile("Silent, evicted on time", human_count(sum.evicted) + " / " + human_count(due),
                sum.late_by.count() > 0
                    ? "late by " + human_duration(sum.late_by.max()) + " at most"
                    : "none after its deadline",
                right ? Mood::good : Mood::bad);
}

std::string tiles(const RunResult& result) {
    std::string html;
    if (const Sample* last = last_held(result); last != nullptr) {
        html += tile("Connections held", human_count(last->counts.open),
                     "of " + human_count(result.wanted) + " for " + human_seconds(result.held_s));
    }
    const Histogram& beats = reported_latency(result, Timed::heartbeat);
    if (beats.count() > 0) {
        html += tile("Heartbeat p99", human_duration(beats.percentile(99)),
                     "half within " + human_duration(beats.percentile(50)));
    }
    if (const auto rate = heartbeat_rate(result)) {
        html += tile("Heartbeats a second", human_count(static_cast<uint64_t>(*rate)),
                     human_count(result.counts.pongs) + " answered");
    }
    if (any_judged(result.detection)) html += silent_tile(result.detection);
    if (result.detection.timeout != 0) {
        const uint64_t wrong = result.detection.false_evictions;
        html += tile("False evictions", human_count(wrong), "of peers that beat in time",
                     wrong == 0 ? Mood::good : Mood::bad);
    }
    if (const uint64_t cut_off = result.detection.cut_off; cut_off > 0)
        html += tile("Cut off", human_count(cut_off), "as the target went away", Mood::bad);
    if (const auto rate = connect_rate(result)) {
        html +=
            tile("Connects a second", human_count(static_cast<uint64_t>(*rate)), "during the ramp");
    }
    if (const auto cost = server_cost(result)) {
        if (const auto bytes = rss_per_connection(cost->at_the_end, cost->open)) {
            html += tile("Server memory", human_bytes(*bytes), "RSS a connection, above empty");
        }
        html += tile("Server CPU", human_share(cost->cores), "of a core in the hold");
    }
    return html.empty() ? html : "<ul class=\"tiles\">\n" + html + "</ul>\n";
}

std::string head(const RunResult& result) {
    const std::string title = fmt::format("{} connections", human_count(result.wanted));
    std::string about = "pulseload " + result.version;
    for (const std::string* part : {&result.started_at, &result.machine}) {
        if (!part->empty()) about += " · " + *part;
    }
    std::string target = result.target.empty() ? "" : "Target: " + result.target;
    if (result.server) {
        target += fmt::format(" · pulsewheel {}, {}, process {}", result.server->version,
                              result.server->backend, result.server->pid);
    } else if (result.foreign) {
        target += " · not Pulsewheel";
    }
    return fmt::format(
        "<!doctype html>\n<!-- A run of pulseload. -->\n<html lang=\"en\">\n<head>\n"
        "<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
        "<title>pulseload: {0}, {1}</title>\n<style>{2}</style>\n</head>\n<body>\n<main>\n"
        "<header><p class=\"soft\">{3}</p><h1>{0}, {4}</h1><p class=\"soft\">{5}</p></header>\n",
        title, escaped(result.started_at), kPageStyle, escaped(about),
        human_seconds(result.ended_s), escaped(target));
}

std::string errors_section(const std::vector<std::string>& errors) {
    if (errors.empty()) return "";
    std::string html = "<h2>What went wrong</h2>\n<ul>\n";
    for (const std::string& error : errors) html += "<li>" + escaped(error) + "</li>\n";
    return html + "</ul>\n";
}

}  // namespace

std::string html_page(const RunResult& result, const Verdict& verdict,
                      const std::vector<ObjectiveResult>& objectives, const std::string& above) {
    std::string html = head(result);
    html += above;
    html += verdict_section(result, verdict, objectives);
    html += tiles(result);
    html += summary_section(summary_lines(result, verdict, objectives));
    html += objective_table(objectives);
    if (const std::string plots = html_plots(result); !plots.empty())
        html += "<h2>Over time</h2>\n<div class=\"plots\">\n" + plots + "</div>\n";
    html += latency_table(result);
    html += detection_table(result.detection);
    html += storm_table(result.storms);
    html += closes_tables(result.detection);
    html += errors_section(result.errors);
    html += settings_section(result);
    html += crowd_tables(result);
    html +=
        "<footer>Written by pulseload; nothing on this page is fetched from "
        "elsewhere.</footer>\n</main>\n</body>\n</html>\n";
    return html;
}

Result<void> write_html(const std::string& path, const RunResult& result, const Verdict& verdict,
                        const std::vector<ObjectiveResult>& objectives) {
    return write_file(path, html_page(result, verdict, objectives));
}

}  // namespace pulse::load
