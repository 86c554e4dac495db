// A sink that queues, and two patterns.
#include "tools/pulsewheel/log.h"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "proto/json.h"
#include "proto/printable.h"
#include "tools/pulsewheel/line_limiter.h"

namespace pulse::serve {
namespace {

// Of the line that this thread is logging: what spdlog does not pass on.
struct Besides {
    const std::vector<LogEvent::Fact>* facts = nullptr;
    bool limited = true;  // by --log-rate
    uint64_t left_out = 0;
};
thread_local Besides besides;

void append_escaped(spdlog::memory_buf_t& out, std::string_view text) {
    std::string escaped(json::escaped_bytes(text), '\0');
    json::write_escaped(reinterpret_cast<uint8_t*>(escaped.data()), text);
    out.append(escaped.data(), escaped.data() + escaped.size());
}
void append(spdlog::memory_buf_t& out, std::string_view text) {
    out.append(text.data(), text.data() + text.size());
}

// %* in the pattern of JSON: the message as a string, and members behind it.
class JsonMessageFlag final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&,
                spdlog::memory_buf_t& out) override {
        append(out, "\"");
        append_escaped(out, {message.payload.data(), message.payload.size()});
        append(out, "\"");
        if (besides.left_out > 0) append(out, fmt::format(R"(,"left_out":{})", besides.left_out));
        if (besides.facts == nullptr) return;
        for (const LogEvent::Fact& fact : *besides.facts) {
            append(out, fmt::format(R"(,"{}":)", fact.name));
            if (fact.is_number) {
                append(out, fact.value);
                continue;
            }
            append(out, "\"");
            append_escaped(out, fact.value);
            append(out, "\"");
        }
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<JsonMessageFlag>();
    }
};

// %* in the other: the message as one line, whatever peers sent and users named in it.
class PrintableMessageFlag final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&,
                spdlog::memory_buf_t& out) override {
        append(out, printable({message.payload.data(), message.payload.size()}));
        if (besides.left_out > 0)
            append(out, fmt::format(" ({} lines like this were left out)", besides.left_out));
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<PrintableMessageFlag>();
    }
};

std::unique_ptr<spdlog::formatter> formatter_of(LogFormat format, bool to_journal) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    if (format == LogFormat::json) {
        formatter->add_flag<JsonMessageFlag>('*');
        formatter->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%*})");
    } else {
        formatter->add_flag<PrintableMessageFlag>('*');
        formatter->set_pattern(to_journal ? "%*" : "%Y-%m-%d %H:%M:%S.%e %^%-5l%$ %*");
    }
    return formatter;
}

constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                 spdlog::level::warn, spdlog::level::err};

// By severity: what stands around the level's name on a terminal, and syslog's priorities, by which
// the journal knows them (sd-daemon(3)).
constexpr std::string_view kColors[] = {"", "\033[36m", "\033[32m", "\033[33m\033[1m",
                                        "\033[31m\033[1m"};
constexpr std::string_view kPlain = "\033[m";
constexpr std::string_view kPriorities[] = {"<7>", "<7>", "<6>", "<4>", "<3>"};

bool wants_colors() {
    const char* const no_color = std::getenv("NO_COLOR");  // no-color.org: if it is not empty
    const char* const terminal = std::getenv("TERM");
    return (no_color == nullptr || *no_color == '\0') &&
           (terminal == nullptr || std::string_view(terminal) != "dumb");
}

Nanos steady_now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace

class QueueSink final : public spdlog::sinks::base_sink<std::mutex> {
  public:
    QueueSink(std::shared_ptr<LineWriter> writer, bool colors, bool to_journal)
        : writer_(std::move(writer)), colors_(colors), to_journal_(to_journal) {}

    void tune(LogFormat format, const RateLimit& rate) {
        const std::lock_guard lock(mutex_);
        set_formatter_(formatter_of(format, to_journal_));
        limiter_.set(rate);
    }
    std::vector<LineLimiter::LeftOut> take_quiet(Nanos now) {
        const std::lock_guard lock(mutex_);
        return limiter_.take_quiet(now);
    }

  private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        besides.left_out = 0;
        if (besides.limited && message.level > spdlog::level::debug) {
            const LineLimiter::Verdict verdict =
                limiter_.judge({message.payload.data(), message.payload.size()}, steady_now());
            if (!verdict.passes) return;
            besides.left_out = verdict.left_out;
        }
        spdlog::memory_buf_t formatted;
        formatter_->format(message, formatted);
        std::string line(formatted.data(), formatted.size());
        const auto level = static_cast<size_t>(message.level);
        if (colors_ && message.color_range_end > message.color_range_start &&
            level < std::size(kColors)) {
            line.insert(message.color_range_end, kPlain);
            line.insert(message.color_range_start, kColors[level]);
        }
        if (to_journal_ && level < std::size(kPriorities)) line.insert(0, kPriorities[level]);
        writer_->write(std::move(line));
    }
    void flush_() override {}

    std::shared_ptr<LineWriter> writer_;
    LineLimiter limiter_;
    const bool colors_, to_journal_;
};

bool is_journal(int descriptor, const char* stream) {
    struct stat status{};
    if (stream == nullptr || ::fstat(descriptor, &status) != 0) return false;
    return stream == fmt::format("{}:{}", status.st_dev, status.st_ino);
}

Result<Log> Log::open(const ServerOptions& options) {
    const bool to_stderr = options.log_file.empty();
    Result<std::unique_ptr<LineWriter>> writer = to_stderr
                                                     ? LineWriter::to(STDERR_FILENO, "stderr")
                                                     : LineWriter::append_to(options.log_file);
    if (!writer) return Error{(to_stderr ? "" : "--log-file: ") + writer.error()};
    const bool terminal = to_stderr && isatty(STDERR_FILENO) != 0;
    const bool journal = to_stderr && is_journal(STDERR_FILENO, std::getenv("JOURNAL_STREAM"));
    Log log;
    log.writer_ = std::move(*writer);
    log.sink_ = std::make_shared<QueueSink>(log.writer_, terminal && wants_colors(), journal);
    log.automatic_ = terminal || journal ? LogFormat::text : LogFormat::json;
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("pulsewheel", log.sink_));
    log.tune(options);
    return log;
}

void Log::tune(const ServerOptions& options) {
    const LogFormat format = options.log_format;
    sink_->tune(format == LogFormat::automatic ? automatic_ : format, options.log_rate);
    spdlog::default_logger()->set_level(kLevels[static_cast<size_t>(options.log_level)]);
}

void Log::event(const LogEvent& event) {
    besides = {.facts = &event.facts, .limited = false};
    spdlog::info("{}", event.words);
    besides = {};
}

namespace {

// A level that leaves out warnings let none of them come to be left out here.
void log_left_out(const std::vector<LineLimiter::LeftOut>& list) {
    const auto level = std::max(spdlog::level::warn, spdlog::default_logger()->level());
    besides.limited = false;
    for (const LineLimiter::LeftOut& message : list) {
        spdlog::log(level, "log: left out {} lines like '{}' (--log-rate)", message.lines,
                    message.first);
    }
    besides.limited = true;
}

}  // namespace

void Log::report_trouble() {
    if (const std::optional<std::string> trouble = writer_->take_trouble())
        spdlog::warn("log: {}", *trouble);
    log_left_out(sink_->take_quiet(steady_now()));
}

void Log::finish(Nanos wait) {
    log_left_out(sink_->take_quiet(kNever));
    writer_->finish(wait);
}

}  // namespace pulse::serve
