// A sink that queues, and two patterns.
#include "tools/pulsewheel/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>

#include "proto/json.h"
#include "proto/printable.h"

namespace pulse::serve {
namespace {

// %* in the pattern of JSON: the message as the inside of a string.
class JsonMessageFlag final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&,
                spdlog::memory_buf_t& out) override {
        const std::string_view text(message.payload.data(), message.payload.size());
        std::string escaped(json::escaped_bytes(text), '\0');
        json::write_escaped(reinterpret_cast<uint8_t*>(escaped.data()), text);
        out.append(escaped.data(), escaped.data() + escaped.size());
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
        const std::string shown = printable({message.payload.data(), message.payload.size()});
        out.append(shown.data(), shown.data() + shown.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<PrintableMessageFlag>();
    }
};

std::unique_ptr<spdlog::formatter> formatter_of(LogFormat format) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    if (format == LogFormat::json) {
        formatter->add_flag<JsonMessageFlag>('*');
        formatter->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%*"})");
    } else {
        formatter->add_flag<PrintableMessageFlag>('*');
        formatter->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%-5l%$ %*");
    }
    return formatter;
}

constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                 spdlog::level::warn, spdlog::level::err};

// What stands around the level's name on a terminal, by severity.
constexpr std::string_view kColors[] = {"", "\033[36m", "\033[32m", "\033[33m\033[1m",
                                        "\033[31m\033[1m"};
constexpr std::string_view kPlain = "\033[m";

}  // namespace

class QueueSink final : public spdlog::sinks::base_sink<std::mutex> {
  public:
    QueueSink(std::shared_ptr<LineWriter> writer, bool colors)
        : writer_(std::move(writer)), colors_(colors) {}

  private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        spdlog::memory_buf_t formatted;
        formatter_->format(message, formatted);
        std::string line(formatted.data(), formatted.size());
        const auto level = static_cast<size_t>(message.level);
        if (colors_ && message.color_range_end > message.color_range_start &&
            level < std::size(kColors)) {
            line.insert(message.color_range_end, kPlain);
            line.insert(message.color_range_start, kColors[level]);
        }
        writer_->write(std::move(line));
    }
    void flush_() override {}

    std::shared_ptr<LineWriter> writer_;
    bool colors_;
};

Result<Log> Log::open(const ServerOptions& options) {
    Result<std::unique_ptr<LineWriter>> writer = options.log_file.empty()
                                                     ? LineWriter::to(STDERR_FILENO, "stderr")
                                                     : LineWriter::append_to(options.log_file);
    if (!writer) {
        return Error{(options.log_file.empty() ? "" : "--log-file: ") + writer.error()};
    }
    Log log;
    log.writer_ = std::move(*writer);
    log.sink_ = std::make_shared<QueueSink>(log.writer_,
                                            options.log_file.empty() && isatty(STDERR_FILENO) != 0);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("pulsewheel", log.sink_));
    log.tune(options);
    return log;
}

void Log::tune(const ServerOptions& options) {
    sink_->set_formatter(formatter_of(options.log_format));
    spdlog::default_logger()->set_level(kLevels[static_cast<size_t>(options.log_level)]);
}

void Log::report_trouble() {
    if (const std::optional<std::string> trouble = writer_->take_trouble())
        spdlog::warn("log: {}", *trouble);
}

}  // namespace pulse::serve
