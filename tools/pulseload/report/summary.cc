// One function a line of the summary, one a table.
#include "tools/pulseload/report/summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/units.h"
#include "proto/printable.h"
#include "tools/pulseload/run/derived.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {
namespace {

constexpr size_t kColumns = 80;
constexpr size_t kLabelColumns = 12;

using Lines = std::vector<SummaryLine>;

// The text under construction.
struct Page {
    std::string text;
    bool color = false;

    std::string in(Mood mood, std::string_view words) const {
        if (mood == Mood::plain) return std::string(words);
        return in(mood == Mood::good ? "\x1b[32m" : "\x1b[1;31m", words);
    }
    std::string in(const char* code, std::string_view words) const {
        return color ? fmt::format("{}{}\x1b[0m", code, words) : std::string(words);
    }
    // A label and a sentence behind it, broken between words.
    void say(const SummaryLine& line) {
        std::string_view head = line.label;
        std::string_view sentence = line.words;
        while (!sentence.empty()) {
            size_t size = std::min(sentence.size(), kColumns - kLabelColumns);
            if (size < sentence.size()) {
                const size_t space = sentence.rfind(' ', size);
                size = space != std::string_view::npos ? space : sentence.find(' ');
            }
            const std::string_view part = sentence.substr(0, size);
            sentence.remove_prefix(std::min(sentence.size(), part.size() + 1));
            const std::string padded = fmt::format("{:<{}}", head, kLabelColumns);
            text.append(in(line.mood, padded));
            text.append(part).append("\n");
            head = "";
        }
    }
    void heading(std::string_view words) { text += fmt::format("\n{}\n", in("\x1b[1m", words)); }
    template <class... Arguments>
    void row(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
        std::string line = fmt::format(format, std::forward<Arguments>(arguments)...);
        line.erase(line.find_last_not_of(' ') + 1);
        text.append(line).append("\n");
    }
};

const Histogram& of(const RunResult& result, Timed timed) {
    return reported_latency(result, timed);
}

std::string_view plural(uint64_t count, std::string_view one, std::string_view more) {
    return count == 1 ? one : more;
}

// ----------------------------------------------------------------------------------- ten sentences

void add(Lines& lines, std::string_view label, Mood mood, std::string_view words) {
    lines.push_back({std::string(label), std::string(words), mood});
}

std::string words_of_opening(const RunResult& result) {
    if (result.connected_s <= 0 || result.connected_all == 0) return {};
    const bool all = result.connected_all >= result.wanted;
    return fmt::format(
        " {} after {} ({}/s).",
        all ? "All were connected" : human_count(result.connected_all) + " had connected",
        human_seconds(result.connected_s),
        human_count(static_cast<uint64_t>(connect_rate(result).value_or(0))));
}

void say_held(const RunResult& result, Lines& lines) {
    const Sample* last = last_held(result);
    const uint64_t open = last == nullptr ? 0 : last->counts.open;
    const std::optional<ConnectionOutcome> found = connection_outcome(result);
    const bool whole = found && found->lost == 0;
    std::string words;
    if (!found) {
        words = fmt::format("nothing: {} of {} connections were open when it ended.",
                            human_count(open), human_count(result.wanted));
    } else {
        words = fmt::format("{} of {} connections were open at the end of {}", human_count(open),
                            human_count(result.wanted), human_seconds(result.held_s));
        if (found->evicted > 0)
            words += fmt::format(", {} silent ones evicted", human_count(found->evicted));
        if (found->by_kind > 0)
            words += fmt::format(", {} gone as planned", human_count(found->by_kind));
        words += whole ? "."
                       : fmt::format("; {} {} missing.", human_count(found->lost),
                                     plural(found->lost, "is", "are"));
    }
    words += words_of_opening(result);
    if (const uint64_t failed = result.counts.connect_failures; failed > 0) {
        words += fmt::format(" {} {} failed.", human_count(failed),
                             plural(failed, "connect", "connects"));
    }
    if (const uint64_t taken = result.counts.taken_over; taken > 0) {
        words += fmt::format(" {} {} taken over by a later login of the same user.",
                             human_count(taken), plural(taken, "was", "were"));
    }
    if (const uint64_t refused = result.counts.refusals; refused > 0)
        words +=
            fmt::format(" {} {} refused.", human_count(refused), plural(refused, "was", "were"));
    add(lines, "Held", whole ? Mood::good : Mood::bad, words);
}

// "half within 312 us, 99 % within 1.90 ms, "; what the values are too few for is left out.
std::string words_of_percentiles(const Histogram& latency) {
    std::string words;
    if (latency.count() >= values_for_percentile(50))
        words += fmt::format("half within {}, ", human_duration(latency.percentile(50)));
    if (latency.count() >= values_for_percentile(99))
        words += fmt::format("99 % within {}, ", human_duration(latency.percentile(99)));
    return words;
}

// What became of the pings that were not answered.
std::string words_of_unanswered(const RunResult& result) {
    const Counts& counts = result.counts;
    std::string words;
    const uint64_t gone = counts.pongs + counts.pings_lost + counts.pings_abandoned;
    if (const uint64_t open = counts.pings - std::min(counts.pings, gone); open > 0) {
        words += fmt::format(" {} {} not answered when the run ended: the oldest had waited {}.",
                             human_count(open), plural(open, "was", "were"),
                             human_duration(result.unanswered_max));
    }
    if (counts.pings_lost > 0) {
        words += fmt::format(" {} {} lost with {}.", human_count(counts.pings_lost),
                             plural(counts.pings_lost, "was", "were"),
                             plural(counts.pings_lost, "its connection", "their connections"));
    }
    if (counts.pings_abandoned > 0) {
        words += fmt::format(" {} {} on connections that the client ended.",
                             human_count(counts.pings_abandoned),
                             plural(counts.pings_abandoned, "was", "were"));
    }
    return words;
}

void say_tls(const RunResult& result, Lines& lines) {
    if (!result.tls) return;
    const Counts& counts = result.counts;
    const auto words_of = [](uint64_t count, std::string_view kind, std::optional<double> rate) {
        return fmt::format("{} {} {} ({}/s)", human_count(count), kind,
                           plural(count, "handshake", "handshakes"),
                           human_count(static_cast<uint64_t>(rate.value_or(0))));
    };
    std::string words = words_of(counts.tls_full, "full", tls_full_rate(result));
    if (counts.tls_offered > 0)
        words += ", " + words_of(counts.tls_resumed, "resumed", tls_resumed_rate(result));
    const Histogram& latency = of(result, Timed::tls_handshake);
    if (latency.count() > 0) {
        words += fmt::format(": {}the slowest took {}", words_of_percentiles(latency),
                             human_duration(latency.max()));
    }
    words += ".";
    if (counts.tls_failed > 0) words += fmt::format(" {} failed.", human_count(counts.tls_failed));
    if (const auto rss = generator_rss_per_connection(result))
        words += fmt::format(" The generator has {} for each connection.", human_bytes(*rss));
    add(lines, "TLS", counts.tls_failed > 0 ? Mood::bad : Mood::plain, words);
}

void say_heartbeats(const RunResult& result, Lines& lines) {
    const Counts& counts = result.counts;
    const Histogram& latency = of(result, Timed::heartbeat);
    if (counts.pings + counts.one_way + counts.probes == 0)
        return add(lines, "Heartbeats", Mood::plain, "none were sent.");
    std::string words;
    if (counts.pings > 0) {
        words = fmt::format("{} of {} were answered", human_count(counts.pongs),
                            human_count(counts.pings));
        if (latency.count() > 0) {
            words += fmt::format(": {}the slowest took {}", words_of_percentiles(latency),
                                 human_duration(latency.max()));
        }
        words += "." + words_of_unanswered(result);
    }
    if (counts.one_way > 0) {
        words += fmt::format("{}{} were one-way and asked for no answer.", words.empty() ? "" : " ",
                             human_count(counts.one_way));
    }
    if (counts.probes > 0) {
        words +=
            fmt::format("{}The server sent {} probes, {} were answered.", words.empty() ? "" : " ",
                        human_count(counts.probes), human_count(counts.probes_answered));
    }
    add(lines, "Heartbeats", Mood::plain, words);
}

void say_messages(const RunResult& result, Lines& lines) {
    const Counts& counts = result.counts;
    if (counts.messages == 0) return;
    const Histogram& latency = of(result, Timed::message);
    std::string words = fmt::format("{} of {} came back", human_count(counts.messages_returned),
                                    human_count(counts.messages));
    if (counts.messages_returned > 0) {
        words += fmt::format(": {}the slowest took {}", words_of_percentiles(latency),
                             human_duration(latency.max()));
    }
    words += ".";
    if (counts.messages_lost > 0)
        words += fmt::format(" {} {} lost.", human_count(counts.messages_lost),
                             plural(counts.messages_lost, "was", "were"));
    if (counts.messages_skipped > 0)
        words += fmt::format(" {} were not sent: no talker was open, or its last one was unsent.",
                             human_count(counts.messages_skipped));
    add(lines, "Messages", counts.messages_lost > 0 ? Mood::bad : Mood::plain, words);
}

void say_silent(const RunResult& result, Lines& lines) {
    const Detection& detection = result.detection;
    const Detection::Row sum = silenced_peers(detection);
    if (sum.silenced == 0)
        return add(lines, "The silent", Mood::plain, "none were to fall silent.");
    if (detection.timeout == 0) {
        return add(lines, "The silent", Mood::plain,
                   fmt::format("{} fell silent, but the server's deadline is not known: name "
                               "it with --expect-timeout.",
                               human_count(sum.silenced)));
    }
    const uint64_t due = sum.silenced - std::min(sum.silenced, sum.waiting);
    const bool right = sum.evicted == due && sum.early + sum.missed == 0;
    std::string words;
    if (due == 0) {
        words =
            fmt::format("the run ended before the deadline of all {}.", human_count(sum.waiting));
    } else {
        words = fmt::format("{} of {} were evicted after their deadline of {}",
                            human_count(sum.evicted), human_count(due),
                            format_duration(detection.timeout));
        if (sum.evicted > 0) {
            words +=
                fmt::format(", late by {} at most ({} at p99)", human_duration(sum.late_by.max()),
                            human_duration(sum.late_by.percentile(99)));
        }
        words +=
            fmt::format("; {} early, {} missed.", human_count(sum.early), human_count(sum.missed));
        if (sum.waiting > 0) {
            words += fmt::format(" {} more {} not due yet.", human_count(sum.waiting),
                                 plural(sum.waiting, "was", "were"));
        }
    }
    add(lines, "The silent", due == 0 ? Mood::plain : right ? Mood::good : Mood::bad, words);
}

void say_others(const RunResult& result, Lines& lines) {
    const Detection& detection = result.detection;
    if (detection.timeout == 0 && result.foreign) {
        return add(lines, "The others", Mood::plain,
                   "are not judged: the target does not announce a heartbeat timeout; name it "
                   "with --expect-timeout.");
    }
    if (detection.timeout == 0) return;
    const uint64_t wrong = detection.false_evictions;
    if (wrong > 0) {
        return add(lines, "The others", Mood::bad,
                   fmt::format("{} that beat in time {} evicted: {} false {}.", human_count(wrong),
                               plural(wrong, "was", "were"), human_count(wrong),
                               plural(wrong, "eviction", "evictions")));
    }
    if (detection.cut_off > 0) {
        return add(
            lines, "The others", Mood::bad,
            fmt::format("{} that beat in time {} closed as the target ended.",
                        human_count(detection.cut_off), plural(detection.cut_off, "was", "were")));
    }
    if (result.counts.connected == 0) return;
    add(lines, "The others", Mood::good,
        "were kept: none that beat in time was evicted (0 false evictions).");
}

void say_server(const RunResult& result, Lines& lines) {
    const std::optional<ServerCost> cost = server_cost(result);
    if (!cost) return;
    const ServerReading& server = cost->at_the_end;
    std::string words = fmt::format("used {} of a core, and {} of memory", human_share(cost->cores),
                                    human_bytes(static_cast<double>(server.rss_bytes)));
    if (const auto rss = rss_per_connection(server, cost->open)) {
        words += fmt::format(": {} above the empty server for each of {} connections",
                             human_bytes(*rss), human_count(cost->open));
    }
    if (const auto kernel = kernel_per_connection(server, cost->open)) {
        words +=
            fmt::format(", and {} that the kernel charged to its cgroup", human_bytes(*kernel));
    }
    add(lines, "The server", Mood::plain, words + ".");
}

std::string_view headline(RunState state) {
    switch (state) {
        case RunState::not_connected:
            return "there is nothing to report on.";
        case RunState::invalid:
            return "the generator distorted this run: do not use the numbers above.";
        case RunState::incomplete:
            return "the numbers above are not of the run that was asked for.";
        case RunState::valid:
            break;
    }
    return {};
}

void say_trust(const RunResult& result, const Verdict& verdict, Lines& lines) {
    if (!verdict.valid()) {
        std::string label(name_of(verdict.state));
        std::ranges::transform(label, label.begin(), [](char c) {
            return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
        });
        if (verdict.state == RunState::not_connected) label = "FAILED";
        add(lines, label, Mood::bad, headline(verdict.state));
        for (const std::string& evidence : verdict.evidence) add(lines, "", Mood::plain, evidence);
        for (const std::string& remedy : verdict.remedies) add(lines, "", Mood::plain, remedy);
        return;
    }
    std::string words = "no sign that the generator was the bottleneck";
    const Generator& generator = result.generator;
    if (generator.lateness.count() > 0) {
        words = fmt::format("yes: the generator made 99 % of its sends within {} of their time",
                            human_duration(generator.lateness.percentile(99)));
    }
    if (const std::optional<double> cores = generator_cores(result)) {
        words += fmt::format(", with {:.2f} of {} {}", *cores, generator.cores,
                             plural(generator.cores, "core", "cores"));
    }
    add(lines, "To trust?", Mood::good, words + ".");
}

void say_objectives(const std::vector<ObjectiveResult>& objectives, Lines& lines) {
    if (objectives.empty()) return;
    std::string missed;
    for (const ObjectiveResult& one : objectives) {
        if (!one.met) missed += (missed.empty() ? "" : ", ") + printable(one.objective);
    }
    if (missed.empty()) {
        return add(lines, "Objectives", Mood::good,
                   fmt::format("all {} were met.", objectives.size()));
    }
    add(lines, "Objectives", Mood::bad, "missed: " + missed + ".");
}

// ------------------------------------------------------------------------------------------ tables

void table_latencies(const RunResult& result, Page& page) {
    const auto has_values = [](const Histogram& one) { return one.count() > 0; };
    if (std::none_of(result.latency.begin(), result.latency.end(), has_values)) return;
    page.heading("Latency in the hold, and of all connects; _service counts from the begin");
    page.row("  {:<18}{:>12}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}", "", "count", "p50", "p90", "p99",
             "p99.9", "p99.99", "max");
    for (size_t at = 0; at < kTimed; ++at) {
        const Histogram& one = of(result, static_cast<Timed>(at));
        if (one.count() == 0) continue;
        page.row("  {:<18}{:>12}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}", name_of(static_cast<Timed>(at)),
                 human_count(one.count()), human_percentile(one, 50), human_percentile(one, 90),
                 human_percentile(one, 99), human_percentile(one, 99.9),
                 human_percentile(one, 99.99), human_duration(one.max()));
    }
}

void table_detection(const RunResult& result, Page& page) {
    const Detection& detection = result.detection;
    if (detection.timeout == 0 || silenced_peers(detection).silenced == 0) return;
    page.heading(fmt::format("Silenced peers: deadline {}{}, tolerance {}",
                             format_duration(detection.timeout),
                             detection.announced ? " (as the server announced)" : "",
                             format_duration(detection.tolerance)));
    page.row("  {:<12}{:>9}{:>9}{:>6}{:>7}{:>8}{:>9}{:>9}{:>9}", "", "silenced", "evicted", "early",
             "missed", "not due", "late p50", "late max", "early by");
    for (size_t at = 0; at < kBehaviours; ++at) {
        const Detection::Row& row = detection.rows[at];
        if (row.silenced == 0) continue;
        page.row("  {:<12}{:>9}{:>9}{:>6}{:>7}{:>8}{:>9}{:>9}{:>9}",
                 name_of(static_cast<Behaviour>(at)), human_count(row.silenced),
                 human_count(row.evicted), human_count(row.early), human_count(row.missed),
                 human_count(row.waiting),
                 row.evicted > 0 ? human_duration(row.late_by.percentile(50)) : "-",
                 row.evicted > 0 ? human_duration(row.late_by.max()) : "-",
                 row.early > 0 ? human_duration(row.early_by.max()) : "-");
    }
}

void table_storms(const RunResult& result, Page& page) {
    if (result.storms.empty()) return;
    page.heading("Storms");
    page.row("  {:>8}{:>10}{:>10}{:>9}{:>11}{:>10}{:>10}{:>9}", "at", "killed", "back", "99 % in",
             "accepts/s", "refused", "tries", "most");
    for (const StormResult& storm : result.storms) {
        page.row("  {:>8}{:>10}{:>10}{:>9}{:>11}{:>10}{:>10}{:>9}", human_seconds(storm.at_s),
                 human_count(storm.killed), human_count(storm.recovered),
                 storm.recovery_s > 0 ? human_seconds(storm.recovery_s)
                 : storm.tries > 0    ? "never"
                                      : "-",
                 human_count(static_cast<uint64_t>(storm.peak_accepts_per_s)),
                 human_count(storm.refusals), human_count(storm.tries), storm.tries_max);
        page.say({"", printable(storm.what), Mood::plain});
    }
}

void table_objectives(const std::vector<ObjectiveResult>& objectives, Page& page) {
    if (objectives.empty()) return;
    page.heading("Objectives");
    for (const ObjectiveResult& one : objectives) {
        page.row("  {}  {:<30} {}",
                 page.in(one.met ? Mood::good : Mood::bad, one.met ? "met   " : "MISSED"),
                 printable(one.objective),
                 one.why.empty() ? one.measured : "not measured: " + printable(one.why));
    }
}

void list_errors(const RunResult& result, Page& page) {
    if (result.errors.empty()) return;
    page.heading("What went wrong");
    for (const std::string& error : result.errors) page.say({"", printable(error), Mood::plain});
}

}  // namespace

std::vector<SummaryLine> summary_lines(const RunResult& result, const Verdict& verdict,
                                       const std::vector<ObjectiveResult>& objectives) {
    Lines lines;
    if (result.cut_short) {
        add(lines, "CUT SHORT", Mood::bad,
            fmt::format("by {} after {}; what follows is of the part that ran.",
                        result.cut_short_by, human_seconds(result.ended_s)));
    }
    say_held(result, lines);
    say_tls(result, lines);
    say_heartbeats(result, lines);
    say_messages(result, lines);
    say_silent(result, lines);
    say_others(result, lines);
    say_server(result, lines);
    say_trust(result, verdict, lines);
    say_objectives(objectives, lines);
    return lines;
}

std::string summary_text(const RunResult& result, const Verdict& verdict,
                         const std::vector<ObjectiveResult>& objectives, bool color) {
    Page page{.text = {}, .color = color};
    for (const SummaryLine& line : summary_lines(result, verdict, objectives)) page.say(line);
    for (const auto& [what, path] : result.files)
        page.say({"Written", printable(what + ": " + path), Mood::plain});
    table_latencies(result, page);
    table_detection(result, page);
    table_storms(result, page);
    table_objectives(objectives, page);
    list_errors(result, page);
    return page.text;
}

}  // namespace pulse::load
