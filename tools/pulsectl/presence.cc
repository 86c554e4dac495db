// Who is online: tables of users, and the stream of their changes.
#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <utility>

#include "proto/printable.h"
#include "tools/pulsectl/actions.h"
#include "tools/pulsectl/answers.h"
#include "tools/pulsectl/table.h"

namespace pulse::ctl {
namespace {

using Align = Table::Align;

// Attempts to come back to a server that has ended a stream, a second between two.
constexpr uint32_t kAttempts = 10;

int list_users(Client& client, const Request& request) {
    const Result<uint64_t> wanted = wanted_of(request);
    if (!wanted) return usage(wanted.error());
    std::string target = "/api/v1/users?";
    target += request.has("state") ? "state=" + percent_encoded(request.get("state")) : "";
    Table table(
        {{"USER"}, {"STATE"}, {"SESSIONS", Align::right}, {"SEEN", Align::right}, {"REASON"}});
    uint64_t found = 0;
    int code = kDone;
    const Result<bool> more = for_each_row(client, target, "users", *wanted, [&](const Json& row) {
        ++found;
        if (request.json) return (code = print_json(row)) == kDone;
        const auto seen = static_cast<int64_t>(number_of(row, "seen_ago_ms"));
        table.add({text_of(row, "user"), text_of(row, "state"),
                   std::to_string(number_of(row, "sessions")), short_time(seen) + " ago",
                   text_of(row, "reason")});
        return true;
    });
    if (!more) return refused(more.error());
    if (request.json) return code;
    return print(table.text() + fmt::format("{} users{}\n", grouped(found),
                                            *more ? "; there are more (--limit)" : ""));
}

int show_user(Client& client, const Request& request) {
    const Result<Json> user = client.get_json("/api/v1/users/" + percent_encoded(request.argument));
    if (!user) return refused(user.error());
    if (request.json) return print_json(*user);
    const bool offline = text_of(*user, "state") == "offline";
    std::string text = fmt::format(
        "{} is {}, last seen {} ago{}\n", printable(text_of(*user, "user")),
        text_of(*user, "state"), short_time(static_cast<int64_t>(number_of(*user, "seen_ago_ms"))),
        offline ? ", ended as " + text_of(*user, "reason") : "");
    if ((*user)["devices"].empty()) return print(text);
    Table table({{"DEVICE"}, {"CONNECTION"}, {"STATE"}, {"SINCE"}, {"LABELS"}});
    for (const Json& device : (*user)["devices"]) {
        std::string labels;
        for (const auto& [name, value] : device["labels"].items())
            labels += (labels.empty() ? "" : " ") + name + "=" + value.get<std::string>();
        table.add({text_of(device, "device"), text_of(device, "connection"),
                   device.value("suspect", false) ? "suspect" : "online", text_of(device, "since"),
                   labels});
    }
    return print(text + "\n" + table.text());
}

// What a stream says, as lines, and what was said before.
class Presence {
  public:
    explicit Presence(bool json) : json_(json) {}

    // The line of an event; empty: it says nothing new.
    std::string line(const Event& event) {
        if (!event.id.empty()) last_id_ = event.id;
        Json data = Json::parse(event.data, nullptr, false);
        if (!data.is_object()) return {};
        if (event.name == "snapshot") known_.clear();
        const bool is_user = event.name == "user", changes = event.name == "change";
        if ((is_user || changes) && !is_news(data)) return {};
        if (json_) {
            Json object = {{"event", event.name}, {"id", event.id}};
            object.update(data);
            return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
        }
        const std::string user = printable(text_of(data, "user"));
        if (is_user)
            return fmt::format("{:24}  {:9}  {}  {} sessions\n", "now", text_of(data, "state"),
                               user, number_of(data, "sessions"));
        if (changes) {
            std::string text =
                fmt::format("{:24}  {:9}  {}", text_of(data, "at"), text_of(data, "change"), user);
            for (const char* more : {"device", "connection", "reason"})
                if (!text_of(data, more, "").empty()) text += "  " + printable(text_of(data, more));
            return text + "\n";
        }
        const bool tells = event.name == "gap" || event.name == "dropped";
        return tells ? event.name + ": " + printable(text_of(data, "reason")) + "\n" : "";
    }
    const std::string& last_id() const { return last_id_; }

  private:
    // A snapshot is read while users change: changes may tell what it has told.
    bool is_news(const Json& data) {
        const std::pair now(number_of(data, "generation"), number_of(data, "sequence"));
        auto& before = known_[text_of(data, "user")];
        if (now <= before) return false;
        before = now;
        return true;
    }

    const bool json_;
    std::string last_id_;
    std::map<std::string, std::pair<uint64_t, uint64_t>> known_;
};

// Comes back where the stream ends. What was missed is sent then, or that it was.
int follow(Client& client, const Request& request) {
    Presence presence(request.json);
    int code = kDone;
    for (uint32_t attempts = 0;;) {
        const Result<bool> ended =
            client.follow("/api/v1/presence", presence.last_id(), [&](const Event& event) {
                attempts = 0;
                const std::string line = presence.line(event);
                if (!line.empty()) code = print(line);
                return code == kDone;
            });
        if (code != kDone) return code;
        const bool had_some = !presence.last_id().empty();
        if (!ended && (!had_some || ++attempts == kAttempts)) return refused(ended.error());
        ::usleep(1'000'000);
    }
}

}  // namespace

int run_presence(Client& client, const Request& request) {
    if (request.has("follow")) {
        if (!request.argument.empty() || request.has("state") || request.has("limit"))
            return usage("--follow: shows all users; leave out USER, --state and --limit");
        return follow(client, request);
    }
    return request.argument.empty() ? list_users(client, request) : show_user(client, request);
}

}  // namespace pulse::ctl
