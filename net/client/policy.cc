// The rows, and the decision.
#include "net/client/policy.h"

#include <string>
#include <utility>

namespace pulse::client {
namespace {

constexpr Policy kNever{};

constexpr Policy linear(uint32_t tries, int base_s, int cap_s) {
    return {tries, {Shape::linear, base_s * kSecond, cap_s * kSecond, Jitter::equal}};
}
constexpr Policy exponential(uint32_t tries, int base_s, int cap_s) {
    return {tries, {Shape::exponential, base_s * kSecond, cap_s * kSecond, Jitter::full}};
}
constexpr Policy immediate(uint32_t tries) {
    return {tries, {Shape::immediate, kSecond, 60 * kSecond, Jitter::full}};
}

constexpr Policy kUsual = exponential(kAlways, 1, 60);
constexpr Policy kAskToken{2, immediate(2).delay, true};

constexpr PolicyRow kRows[] = {
    // -------------------------------------------------------------------- no connection came up
    {"connect_timeout", linear(5, 2, 10)},
    {"refused", kUsual},
    {"http_401", kAskToken},
    {"http_429", exponential(3, 5, 120)},
    {"http_503", exponential(3, 2, 120)},
    {"http_4xx", kNever},
    {"http_5xx", exponential(3, 2, 120)},
    {"http_other", kNever},
    {"welcome_timeout", exponential(5, 2, 60)},
    {"hello_refused", kNever},
    {"hello_put_off", exponential(5, 2, 60)},
    {"token_failed", exponential(5, 2, 60)},
    {"bad_url", kNever},  // the JavaScript client's; here check_options() refuses such a URL

    // ------------------------------------------------------------------------ a connection ended
    {"silent", immediate(kAlways)},
    {"moved", immediate(kAlways)},
    {"max_lifetime", immediate(kAlways)},
    {"going_away", kUsual},
    {"hard_stop", kUsual},
    {"idle_timeout", immediate(kAlways)},
    {"handshake_timeout", exponential(5, 2, 60)},
    {"slow_upload", exponential(kAlways, 5, 120)},
    {"slow_reader", exponential(kAlways, 5, 120)},
    {"message_rate", exponential(kAlways, 5, 120)},
    {"user_message_rate", exponential(kAlways, 5, 120)},
    {"message_too_big", exponential(3, 2, 60)},
    {"user_full", exponential(3, 10, 120)},
    {"unauthorized", kAskToken},
    {"token_expired", kAskToken},

    // Terminal: to come back would take the place of the other, or do the same wrong again.
    {"kicked", kNever},
    {"taken_over", kNever},
    {"duplicate_login", kNever},
    {"wrong_protocol", kNever},
    {"protocol_error", kNever},
    {"invalid_data", kNever},
    {"too_many_offences", kNever},
    {"untrusted_source", kNever},

    // ------------------------------- close codes, where no reason of the server's came with one
    {"close_1000", kUsual},
    {"close_1001", kUsual},
    {"close_1002", kNever},
    {"close_1003", kNever},
    {"close_1006", kUsual},  // without a close frame: the network, or the end of a process
    {"close_1007", kNever},
    {"close_1008", kNever},
    {"close_1009", exponential(3, 2, 60)},
    {"close_1010", kNever},
    {"close_1011", exponential(kAlways, 2, 120)},
    {"close_1012", kUsual},
    {"close_1013", exponential(kAlways, 5, 120)},
    {"close_1014", exponential(kAlways, 2, 120)},
    {"close_1015", exponential(5, 5, 120)},
    {"close_4001", kAskToken},
    {"close_4002", exponential(5, 2, 60)},
    {"close_4003", immediate(kAlways)},
    {"close_4005", kNever},
    {"close_4006", kAskToken},
    {"close_4008", kNever},
    {"close_4009", kNever},
    {"close_4010", exponential(3, 10, 120)},
    {"close_4012", immediate(kAlways)},
    {"close_4013", exponential(kAlways, 5, 120)},  // an idle clock, which would close it again
    {"close_other", exponential(kAlways, 2, 120)},
};

std::string class_of_status(uint16_t status) {
    const int hundreds = status / 100;
    if (hundreds != 4 && hundreds != 5) return "http_other";
    return "http_" + std::to_string(hundreds) + "xx";
}

}  // namespace

std::span<const PolicyRow> default_policies() { return kRows; }

PolicyTable::PolicyTable() {
    for (const PolicyRow& row : kRows) rows_.emplace(row.name, row.policy);
}

Result<void> PolicyTable::replace(std::string_view name, const Policy& policy) {
    const Delay& delay = policy.delay;
    const bool has_none = delay.shape == Shape::immediate && delay.base == 0 && delay.cap == 0;
    if (!has_none && (delay.base <= 0 || delay.cap < delay.base)) {
        return Error{"policy " + quoted(name) +
                     ": the base must be above 0, and the cap not below it"};
    }
    rows_.insert_or_assign(std::string(name), policy);
    return {};
}

PolicyRow PolicyTable::find(const Cause& cause) const {
    auto row = rows_.find(cause.name);
    if (row == rows_.end() && cause.status != 0) row = rows_.find(class_of_status(cause.status));
    if (row == rows_.end() && cause.code != 0)
        row = rows_.find("close_" + std::to_string(cause.code));
    if (row == rows_.end()) row = rows_.find("close_other");
    return {row->first, row->second};
}

Retries::Decision Retries::decide(const Cause& cause, bool can_renew_token, Random& random) {
    const PolicyRow row = table_.find(cause);
    const uint32_t count = ++counts_[std::string(row.name)];
    ++attempt_;
    // A goodbye that moves the client, say, is not slower for refusals before it.
    const uint32_t nth = row.policy.delay.shape == Shape::immediate ? count : attempt_;
    std::optional<Hint> hint;
    if (cause.retry_after) hint = Hint{*cause.retry_after, cause.status != 0};
    Decision decision;
    decision.renews_token = row.policy.renews_token;
    decision.retry = (row.policy.tries == kAlways || count <= row.policy.tries) &&
                     (!decision.renews_token || can_renew_token);
    decision.wait = wait_before(row.policy.delay, nth, hint, random);
    decision.attempt = attempt_;
    return decision;
}

}  // namespace pulse::client
