// proto/PROTOCOL.md against the code: types, keys, close reasons, bounds, probes, and its
// conversations, which are played against a reactor over the simulated kernel.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/close_reason.h"
#include "net/loop/limits.h"
#include "proto/binary.h"
#include "proto/json.h"

#include "tests/net/loop/conversation.h"
#include "tests/support/recording_sink.h"

namespace pulse::test {
namespace {

using Row = std::vector<std::string>;

// Tests run at the root of the repository.
std::string document() {
    std::ifstream file("proto/PROTOCOL.md");
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::string trimmed(std::string cell) {
    const size_t from = cell.find_first_not_of(" `");
    const size_t to = cell.find_last_not_of(" `");
    return from == std::string::npos ? "" : cell.substr(from, to - from + 1);
}

// The rows of the table whose header line begins like this.
std::vector<Row> table(const std::string& header) {
    std::istringstream lines(document());
    std::string line;
    while (std::getline(lines, line) && !line.starts_with(header)) {
    }
    std::getline(lines, line);  // the rule
    std::vector<Row> rows;
    while (std::getline(lines, line) && line.starts_with("|")) {
        std::istringstream cells(line.substr(1));
        std::string cell;
        Row row;
        while (std::getline(cells, cell, '|')) row.push_back(trimmed(cell));
        rows.push_back(row);
    }
    return rows;
}

TEST(Protocol, BinaryTypesAreThoseThatTheCodecTakes) {
    const std::vector<Row> rows = table("| type | number |");
    ASSERT_EQ(rows.size(), 10u);
    const CodecLimits limits;
    for (const Row& row : rows) {
        const auto type = static_cast<uint8_t>(std::stoi(row[1]));
        const int least = std::stoi(row[3]);
        const int most = std::stoi(row[3].substr(row[3].find("to ") + 3));
        for (const auto& [role, sender] :
             {std::pair{Role::server, "client"}, {Role::client, "server"}}) {
            const bool taken = row[2] == "both" || row[2] == sender;
            for (const int bytes : {0, 1, 2, 7, 8, 9, 65'535}) {
                const uint8_t header[kBinaryHeaderBytes] = {binary::kMagic, type,
                                                            static_cast<uint8_t>(bytes >> 8),
                                                            static_cast<uint8_t>(bytes)};
                const bool fits = bytes >= least && bytes <= most;
                EXPECT_EQ(binary::judge_header(header, sizeof header, role, limits).ok(),
                          taken && fits)
                    << row[0] << " of " << bytes << " bytes from the " << sender;
            }
        }
    }
}

TEST(Protocol, JsonTypesReadTheirKeysAndNoOthers) {
    const std::vector<Row> rows = table("| type | sent by | keys |");
    const std::map<std::string, JsonKind> kinds = {
        {"ping", JsonKind::ping},         {"heartbeat", JsonKind::ping},
        {"pong", JsonKind::pong},         {"hello", JsonKind::hello},
        {"welcome", JsonKind::welcome},   {"data", JsonKind::data},
        {"interval", JsonKind::interval}, {"goodbye", JsonKind::goodbye},
        {"error", JsonKind::error},       {"expiring", JsonKind::expiring},
        {"ack", JsonKind::ack}};
    ASSERT_EQ(rows.size(), kinds.size());
    JsonParser parser;
    for (const Row& row : rows) {
        for (const char* key : {"seq", "ts", "user", "device", "token", "profile", "labels", "conn",
                                "interval_ms", "timeout_ms", "answer_every", "code", "reason",
                                "retry_after_ms", "message", "in_ms", "received", "resume", "probe",
                                "nat"}) {
            // No key may be an array: one that is read is a fault, one that is not is passed over.
            Bytes text = bytes_of("{\"type\":\"" + row[0] + "\",\"" + key + "\":[1]}");
            LentBytes lent(text);
            JsonMessage message;
            const JsonFault fault = parser.parse(lent.span(), message);
            const bool read = (row[2] + "`,").find(std::string(key) + "`,") != std::string::npos;
            EXPECT_EQ(fault.ok(), !read) << row[0] << " " << key;
            EXPECT_EQ(message.kind, kinds.at(row[0]));
        }
    }
}

TEST(Protocol, CloseReasonsHaveTheseCodes) {
    const std::vector<Row> rows = table("| reason | code |");
    ASSERT_EQ(rows.size(), kCloseReasons);
    for (size_t at = 0; at < kCloseReasons; ++at) {
        EXPECT_EQ(rows[at][0], kCloseReasonInfos[at].name);
        EXPECT_EQ(rows[at][1], std::to_string(kCloseReasonInfos[at].code));
    }
}

TEST(Protocol, BoundsAreTheCodes) {
    const std::string text = document();
    static_assert(kFrameOverheadBytesMin == 98'304 && kPayloadBytesPerOverheadByte == 8);
    static_assert(kJsonBytesMax == size_t{1} << 20 && kJsonDepthMax == 64);
    static_assert(kJsonStringBytesMax == 4'096 && kJsonTokenBytesMax == 256);
    static_assert(kLabelsMax == 16 && kLabelBytesMax == 64 && kOffencesMax == 8);
    static_assert(kAnswerEveryMax == 8);
    for (const char* bound : {"98,304 bytes", "at most 1 MiB and 64 deep", "at most 4,096 bytes",
                              "256 bytes", "at most 16 strings", "at most 64 bytes",
                              "forgiven seven times", "a whole number from 1 to 8"}) {
        EXPECT_NE(text.find(bound), std::string::npos) << bound;
    }
    EXPECT_NE(text.find("`" + std::string(json::kProbe) + "`"), std::string::npos);
}

// ------------------------------------------------------------------------------ conversations

// B7 01 'text': bytes as hex, and as text.
std::string bytes_in(const std::string& line) {
    std::string bytes;
    for (size_t at = 0; at < line.size();) {
        if (line[at] == ' ') {
            ++at;
        } else if (line[at] == '\'') {
            const size_t end = line.rfind('\'');
            bytes += line.substr(at + 1, end - at - 1);
            at = end + 1;
        } else {
            bytes += static_cast<char>(std::stoi(line.substr(at, 2), nullptr, 16));
            at += 2;
        }
    }
    return bytes;
}

constexpr std::string_view kAnything = "\u2026";

// One conversation: what the client says, what it is to hear, and a token that it was given.
class Play {
  public:
    // `title`: the form of the conversation, and maybe "nat-probes", which the server has then.
    explicit Play(const std::string& title)
        : form_(title.substr(0, title.find(' '))),
          stage_({.listen = {form_ == "lines"    ? "jsonl://10.0.0.1:9000"
                             : form_ == "frames" ? "tcp://10.0.0.1:9000"
                                                 : "ws://10.0.0.1:9000"},
                  .options = options(title.ends_with(" nat-probes"))}) {}

    void line(const std::string& line) {
        const bool is_http = line.starts_with(">>") || line.starts_with("<<");
        const size_t from = std::min<size_t>(is_http ? 3 : 2, line.size());
        std::string words = line.substr(from);
        if (is_http)
            words += "\r\n";
        else if (form_ == "lines")
            words += "\n";
        else if (line[0] != '=')
            words = bytes_in(words);
        if (line[0] == '>') return say(words);
        if (line[0] == '<') {
            expected_ += words;
            return;
        }
        finish();
        direct(line.substr(2));
    }
    // What it has heard is what it was to hear.
    void finish() {
        if (!peer_) return;
        stage_.settle();
        const std::string heard = std::exchange(stage_.heard(*peer_), {});
        const std::string wanted = std::exchange(expected_, {});
        size_t at = 0;
        for (size_t from = 0; from <= wanted.size();) {
            const size_t gap = std::min(wanted.find(kAnything, from), wanted.size());
            const std::string piece = wanted.substr(from, gap - from);
            const size_t found = from == 0 ? (heard.starts_with(piece) ? 0 : std::string::npos)
                                           : heard.find(piece, at);
            ASSERT_NE(found, std::string::npos)
                << "\nwanted " << testing::PrintToString(wanted) << "\nheard  "
                << testing::PrintToString(heard);
            if (from != 0) token_ = heard.substr(at, found - at);
            at = found + piece.size();
            from = gap + kAnything.size();
        }
        EXPECT_EQ(heard.substr(at), "") << "more than " << testing::PrintToString(wanted);
    }

  private:
    static LoopOptions options(bool nat_probes) {
        LoopOptions options;
        options.nat_probes = nat_probes ? 10 : 0;
        options.on_message = OnMessage::echo;
        options.resume_hold = 30 * kSecond;
        return options;
    }
    void say(std::string words) {
        if (!expected_.empty()) finish();
        if (const size_t gap = words.find(kAnything); gap != std::string::npos)
            words.replace(gap, kAnything.size(), token_);
        if (!peer_) peer_ = stage_.connect(0);
        stage_.write(*peer_, words);
    }
    void direct(const std::string& words) {
        if (words.starts_with("ended")) {
            EXPECT_TRUE(peer_ && stage_.ended(*peer_));
        } else if (words.starts_with("cut")) {
            stage_.close(*peer_, true);
            stage_.settle(kSecond);
            peer_.reset();
        } else {
            stage_.settle(std::stoi(words) * kSecond);
        }
    }

    std::string form_;
    ReactorStage stage_;
    std::optional<size_t> peer_;  // connects when it says something
    std::string expected_, token_;
};

TEST(Protocol, ItsConversationsAreWhatAServerSays) {
    std::istringstream lines(document());
    std::string line;
    int played = 0;
    while (std::getline(lines, line)) {
        constexpr std::string_view kFence = "```play ";
        if (!line.starts_with(kFence)) continue;
        SCOPED_TRACE("conversation " + std::to_string(++played));
        Play play(line.substr(kFence.size()));
        while (std::getline(lines, line) && line != "```") {
            SCOPED_TRACE(line);
            play.line(line);
        }
        play.finish();
    }
    EXPECT_EQ(played, 6);
}

}  // namespace
}  // namespace pulse::test
