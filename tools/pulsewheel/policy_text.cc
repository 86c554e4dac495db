// Terms of a match, and effects.
#include "tools/pulsewheel/policy_text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string>
#include <system_error>

#include "core/units.h"
#include "net/loop/loop_options.h"
#include "proto/labels.h"
#include "proto/limits.h"
#include "tools/pulsewheel/settings.h"

namespace pulse::serve {
namespace {

Error wrong(std::string_view text, std::string_view what, std::string_view remedy) {
    return {"'" + std::string(text) + "' " + std::string(what) + "; " + std::string(remedy)};
}

std::string_view trimmed(std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    return text;
}

// "10%", "0.25%": hundredths of a percent; 0: it is none.
uint32_t share_of(std::string_view text) {
    text.remove_suffix(1);
    const size_t point = std::min(text.find('.'), text.size());
    std::string digits(text.substr(0, point));
    std::string fraction(text.substr(std::min(point + 1, text.size())));
    if (digits.empty() || digits.size() > 3 || fraction.size() > 2) return 0;
    if (point < text.size() && fraction.empty()) return 0;
    fraction.resize(2, '0');
    digits += fraction;
    if (!std::ranges::all_of(digits, [](unsigned char c) { return std::isdigit(c) != 0; }))
        return 0;
    const unsigned long share = std::stoul(digits);
    return share <= kCohortShares ? static_cast<uint32_t>(share) : 0;
}

Result<void> add_term(CohortPolicy& policy, std::string_view term, bool& has_share) {
    if (term.ends_with('%')) {
        policy.share = share_of(term);
        if (policy.share == 0 || has_share) {
            return wrong(term, has_share ? "is a second share" : "is not a share of the users",
                         "write one, from 0.01% to 100%, such as 10%");
        }
        has_share = true;
        return {};
    }
    const size_t equals = std::min(term.find('='), term.size());
    const Label label{term.substr(0, equals), term.substr(std::min(equals + 1, term.size()))};
    std::string kept;
    if (equals == term.size() || label.name.empty() || !write_labels(kept, {{label}})) {
        return wrong(term, "is not a label and not a share",
                     "write NAME=VALUE or a percentage, such as ring=canary,10%");
    }
    const auto has_name = [&](const std::string& other) {
        return other.substr(0, other.find('=')) == kept.substr(0, kept.find('='));
    };
    if (std::ranges::any_of(policy.labels, has_name))
        return wrong(term, "names a label twice", "a label has one value");
    if (policy.labels.size() == kLabelsMax)
        return wrong(term, "is one label too many", "no login has more than 16");
    policy.labels.push_back(kept);
    return {};
}

Result<void> add_effect(CohortPolicy& policy, std::string_view effect) {
    const size_t equals = std::min(effect.find('='), effect.size());
    const std::string_view name = effect.substr(0, equals);
    const std::string_view value = effect.substr(std::min(equals + 1, effect.size()));
    if (name == "profile" && policy.profile.empty()) {
        if (std::ranges::count(kNamedProfiles, value, &NamedProfile::name) == 0) {
            return wrong(effect, "is not a heartbeat profile",
                         "write realtime, standard, mobile or powersave");
        }
        policy.profile = value;
        return {};
    }
    if (name == "message-rate" && policy.message_rate.events == 0) {
        const Result<RateLimit> rate = parse_rate_limit(value);
        if (!rate) return Error{rate.error()};
        policy.message_rate = *rate;
        return {};
    }
    if (name == "max-connections-per-user" && policy.sessions_max == 0) {
        uint32_t most = 0;
        const auto [end, failure] =
            std::from_chars(value.data(), value.data() + value.size(), most);
        const bool whole = failure == std::errc{} && end == value.data() + value.size();
        if (!whole || most == 0 || most > kSessionsPerUserMax) {
            return wrong(effect, "is not a number of connections",
                         "write 1 to " + std::to_string(kSessionsPerUserMax));
        }
        policy.sessions_max = most;
        return {};
    }
    if (name == "move-to" && policy.move_to.empty()) {
        const auto is_plain = [](unsigned char c) {
            return c > ' ' && c < 0x7F && c != '"' && c != '\\' && c != ';';
        };
        const bool has_scheme = value.find("://") != std::string_view::npos && value[0] != ':';
        if (!has_scheme || value.size() > kMoveToBytesMax ||
            !std::ranges::all_of(value, is_plain)) {
            return wrong(effect, "is not an address for clients",
                         "write a URI of at most 64 bytes, such as move-to=wss://b.example:9000");
        }
        policy.move_to = value;
        return {};
    }
    if (name == "move-over" && !policy.move_over) {
        const Result<Nanos> over = parse_duration(value);
        if (!over || *over > kMoveOverMaxNs)
            return wrong(effect, "is not a time to move in", "write 0s to 24h, such as 10s");
        policy.move_over = *over;
        return {};
    }
    using Drains = CohortPolicy::Drains;
    if (name == "drain" && policy.drains == Drains::with_the_rest) {
        if (value != "first" && value != "last")
            return wrong(effect, "is not an order", "write drain=first or drain=last");
        policy.drains = value == "first" ? Drains::first : Drains::last;
        return {};
    }
    return wrong(effect, "is not an effect, or there twice",
                 "write profile=NAME, message-rate=RATE, max-connections-per-user=N, drain=first, "
                 "drain=last, move-to=URI or move-over=TIME, with blanks between them");
}

// Calls take(piece) for each that is not empty, until one fails.
template <class Take>
Result<void> each_piece(std::string_view text, char separator, Take&& take) {
    while (!text.empty()) {
        const size_t end = std::min(text.find(separator), text.size());
        const std::string_view piece = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        if (piece.empty()) continue;
        if (Result<void> taken = take(piece); !taken) return taken;
    }
    return {};
}

}  // namespace

Result<CohortPolicy> parse_policy(std::string_view text) {
    CohortPolicy policy;
    text = trimmed(text);
    policy.text = text;
    const auto is_control = [](unsigned char c) { return c < ' ' || c == 0x7F; };
    if (text.size() > kPolicyBytesMax || std::ranges::any_of(text, is_control)) {
        return wrong(text.substr(0, kPolicyBytesMax), "is too long, or has a control character",
                     "write at most " + std::to_string(kPolicyBytesMax) + " bytes on one line");
    }
    // The first: an address behind it has others.
    const size_t colon = std::min(text.find(':'), text.size());
    bool has_share = false;
    const Result<void> matched = each_piece(text.substr(0, colon), ',', [&](std::string_view term) {
        return add_term(policy, term, has_share);
    });
    if (!matched) return Error{matched.error()};
    if (policy.labels.empty() && !has_share) {
        return wrong(text, "is for no cohort",
                     "write labels or a share in front of a colon, such as 'ring=canary,10%: "
                     "profile=mobile'");
    }
    std::ranges::sort(policy.labels);
    const Result<void> effects =
        each_piece(text.substr(std::min(colon + 1, text.size())), ' ',
                   [&](std::string_view effect) { return add_effect(policy, effect); });
    if (!effects) return Error{effects.error()};
    if (policy.move_over && policy.move_to.empty())
        return wrong(text, "has move-over and no move-to", "write both, or leave it out");
    return policy;
}

}  // namespace pulse::serve
