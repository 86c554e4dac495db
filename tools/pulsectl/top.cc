// The live table: the anomalies that go on, and what each reactor does a second; renewed in place.
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "core/overload.h"
#include "core/units.h"
#include "tools/pulsectl/actions.h"
#include "tools/pulsectl/table.h"

namespace pulse::ctl {
namespace {

using Align = Table::Align;

std::atomic<bool> interrupted{false};

// The terminal as it was, again at the end: its screen, its cursor, its keys.
class Screen {
  public:
    Screen() : on_(::isatty(STDOUT_FILENO) == 1) {
        struct sigaction action{};
        action.sa_handler = [](int) { interrupted = true; };
        for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
        if (on_) print("\x1b[?1049h\x1b[?25l");
        keys_ = ::isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &before_) == 0;
        if (!keys_) return;
        termios now = before_;
        now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &now);
    }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;
    ~Screen() {
        if (keys_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
        if (on_) print("\x1b[?25h\x1b[?1049l");
    }

    // Over what was there; as many lines as there are rows.
    int show(const std::vector<std::string>& lines) const {
        std::string text = on_ ? "\x1b[H" : "";
        winsize size{};
        const bool known = on_ && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1;
        const size_t rows = known ? size.ws_row - 1u : lines.size();
        const size_t columns = known ? size.ws_col : SIZE_MAX;
        for (size_t line = 0; line < std::min(rows, lines.size()); ++line)
            text += lines[line].substr(0, columns) + (on_ ? "\x1b[K\n" : "\n");
        return print(text + (on_ ? "\x1b[J" : "\n"));
    }
    // True: the operator wants to end.
    bool wait(Nanos most) const {
        pollfd input{.fd = keys_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
        const int ready = poll(&input, 1, static_cast<int>(most / kMillisecond));
        char key = 0;
        const bool pressed = ready == 1 && read(STDIN_FILENO, &key, 1) == 1;
        return interrupted || (pressed && (key == 'q' || key == 'Q'));
    }

  private:
    const bool on_;
    bool keys_ = false;
    termios before_{};
};

// What a reactor had done at one moment.
struct Moment {
    double at_s = 0;
    double heartbeats = 0, received = 0, sent = 0, evicted = 0, waited_s = 0;
    uint64_t connections = 0;
    double judge_lag_us = 0;
    uint64_t overload_step = 0;

    Moment& operator+=(const Moment& other) {
        heartbeats += other.heartbeats;
        received += other.received;
        sent += other.sent;
        evicted += other.evicted;
        waited_s += other.waited_s;
        connections += other.connections;
        judge_lag_us = std::max(judge_lag_us, other.judge_lag_us);
        overload_step = std::max(overload_step, other.overload_step);
        return *this;
    }
};

Moment moment_of(const Json& reactor, double at_s) {
    return {.at_s = at_s,
            .heartbeats = reactor.value("heartbeats_answered", 0.0),
            .received = reactor.value("bytes_received", 0.0),
            .sent = reactor.value("bytes_sent", 0.0),
            .evicted = reactor.value("evicted", 0.0),
            .waited_s = reactor.value("wait_s", 0.0),
            .connections = reactor.value("connections", uint64_t{0}),
            .judge_lag_us = reactor.value("judge_lag_us", 0.0),
            .overload_step = reactor.value("overload_step", uint64_t{0})};
}

std::string step_name(uint64_t step) {
    const bool known = step <= static_cast<uint64_t>(OverloadStep::close);
    return known ? std::string(name_of(static_cast<OverloadStep>(step))) : std::to_string(step);
}

// Rates since `before`; the first table has what was since the start.
void add_row(Table& table, const std::string& name, const Moment& now, const Moment& before,
             double reactors) {
    const double seconds = std::max(1e-3, now.at_s - before.at_s);
    const double busy = 1 - (now.waited_s - before.waited_s) / (seconds * reactors);
    table.add({name, grouped(now.connections),
               short_rate((now.heartbeats - before.heartbeats) / seconds, ""),
               short_rate((now.received - before.received) / seconds, "B"),
               short_rate((now.sent - before.sent) / seconds, "B"),
               short_rate((now.evicted - before.evicted) / seconds, ""),
               fmt::format("{:.1f} ms", now.judge_lag_us / 1'000),
               fmt::format("{:.0f} %", std::clamp(busy, 0.0, 1.0) * 100)});
}

class Top {
  public:
    std::vector<std::string> table(const Json& answer, const std::string& address,
                                   const std::vector<std::string>& anomalies) {
        const double at_s = answer.value("uptime_s", 0.0);
        const Json& list = answer["reactors"];
        std::vector<Moment> now;
        Moment all{.at_s = at_s};
        for (const Json& reactor : list) {
            now.push_back(moment_of(reactor, at_s));
            all += now.back();
        }
        before_.resize(now.size());
        Moment all_before{.at_s = before_at_s_};
        for (const Moment& each : before_) all_before += each;
        Table table({{"REACTOR"},
                     {"CONNECTIONS", Align::right},
                     {"HEARTBEATS/S", Align::right},
                     {"IN/S", Align::right},
                     {"OUT/S", Align::right},
                     {"EVICTED/S", Align::right},
                     {"JUDGE LAG", Align::right},
                     {"BUSY", Align::right}});
        add_row(table, "all", all, all_before,
                static_cast<double>(std::max<size_t>(1, now.size())));
        for (size_t i = 0; i < now.size(); ++i) {
            const std::string state = list[i].value("state", std::string());
            std::string name = std::to_string(list[i].value("reactor", i));
            if (state != "serving") name += " " + state;
            if (now[i].overload_step > 0) name += " overload: " + step_name(now[i].overload_step);
            add_row(table, name, now[i], before_[i], 1);
        }
        std::vector<std::string> lines = table.lines();
        const double cpu =
            (answer.value("cpu_s", 0.0) - cpu_before_s_) / std::max(1e-3, at_s - before_at_s_);
        lines.insert(lines.begin(), anomalies.begin(), anomalies.end());
        lines.insert(lines.begin(),
                     fmt::format("pulsewheel at {}, up {}, CPU {:.0f} % of one core", address,
                                 short_time(static_cast<int64_t>(at_s * 1'000)), cpu * 100));
        before_ = std::move(now);
        before_at_s_ = at_s;
        cpu_before_s_ = answer.value("cpu_s", 0.0);
        return lines;
    }

  private:
    std::vector<Moment> before_;
    double before_at_s_ = 0;
    double cpu_before_s_ = 0;
};

}  // namespace

int run_top(Client& client, const Request& request) {
    const Result<Nanos> interval = parse_duration(request.get("interval", "1s"));
    if (!interval || *interval < 100 * kMillisecond || *interval > 3'600 * kSecond) {
        std::fprintf(stderr, "pulsectl: --interval '%s': write something from 100ms to 1h\n",
                     request.get("interval").c_str());
        return kUsage;
    }
    const Result<uint64_t> count = parse_count(request.get("count", "1_000_000_000"));
    if (!count || *count == 0) {
        std::fprintf(stderr, "pulsectl: --count '%s': write a number of tables\n",
                     request.get("count").c_str());
        return kUsage;
    }
    Result<Json> answer = client.get_json("/api/v1/reactors");
    if (!answer) return refused(answer.error());
    Top top;
    {
        const Screen screen;
        for (uint64_t shown = 0; answer; ++shown) {
            const Result<Json> anomalies =
                request.json ? Json::object() : client.get_json("/api/v1/anomalies");
            const auto living = lines_of_living_anomalies(anomalies ? *anomalies : Json::object());
            const int code = request.json
                                 ? print_json(*answer)
                                 : screen.show(top.table(*answer, client.address(), living));
            if (code != kDone || shown + 1 == *count || screen.wait(*interval)) return code;
            answer = client.get_json("/api/v1/reactors");
        }
    }
    return refused(answer.error());
}

}  // namespace pulse::ctl
