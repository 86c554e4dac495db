// Lines to a pipe that is read late or never, to a file that is renamed, and to a full device.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "tools/pulsewheel/line_writer.h"

namespace pulse::serve {
namespace {

class LineWriterTest : public testing::Test {
  protected:
    void SetUp() override {
        std::signal(SIGPIPE, SIG_IGN);  // as main() does
        char path[] = "/tmp/pulsewheel_lines_XXXXXX";
        directory_ = mkdtemp(path);
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    std::string path(const std::string& name) const { return directory_ + "/" + name; }
    static std::string content(const std::string& path) {
        std::ostringstream text;
        text << std::ifstream(path).rdbuf();
        return text.str();
    }
    std::string directory_;
};

TEST_F(LineWriterTest, WritesAllLinesOfAllThreadsInOrder) {
    const auto writer = LineWriter::append_to(path("log"));
    ASSERT_TRUE(writer) << writer.error();
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 3; ++thread) {
        threads.emplace_back([&, thread] {
            for (int line = 0; line < 100; ++line)
                (*writer)->write(std::to_string(thread) + " " + std::to_string(line) + "\n");
        });
    }
    for (std::thread& thread : threads) thread.join();
    (*writer)->finish(10 * kSecond);
    EXPECT_FALSE((*writer)->take_trouble());
    std::istringstream lines(content(path("log")));
    int next[3] = {};
    for (int thread, line; lines >> thread >> line;) EXPECT_EQ(line, next[thread]++);
    EXPECT_EQ(next[0] + next[1] + next[2], 300);
}

// A full disk takes a part of a line. The next line that it takes is a line of its own.
TEST_F(LineWriterTest, ALineThatWasCutEndsBeforeTheNext) {
    std::signal(SIGXFSZ, SIG_IGN);  // as main() does
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto writer = LineWriter::append_to(path("log"));
    ASSERT_TRUE(writer) << writer.error();
    const rlimit limit{.rlim_cur = 10, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    (*writer)->write("{\"first\": 1}\n");
    (*writer)->write("{\"second\": 2}\n");
    (*writer)->finish(10 * kSecond);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    (*writer)->write("{\"third\": 3}\n");
    (*writer)->write("{\"fourth\": 4}\n");
    (*writer)->finish(10 * kSecond);
    EXPECT_EQ(content(path("log")), "{\"first\": \n{\"third\": 3}\n{\"fourth\": 4}\n");
    EXPECT_NE((*writer)->take_trouble().value_or("").find("lost 2 lines (File too large)"),
              std::string::npos);
}

// The file tells, not the writer that cut the line: it may have been another process.
TEST_F(LineWriterTest, ALineThatWasCutEndsBeforeTheNextOfAFileThatIsOpenedAnew) {
    std::ofstream(path("log")) << "{\"first\": ";
    const auto writer = LineWriter::append_to(path("log"));
    ASSERT_TRUE(writer) << writer.error();
    (*writer)->write("{\"second\": 2}\n");
    (*writer)->finish(10 * kSecond);
    EXPECT_EQ(content(path("log")), "{\"first\": \n{\"second\": 2}\n");
    std::ofstream(path("log"), std::ios::app) << "{\"third\": ";
    (*writer)->reopen();
    (*writer)->write("{\"fourth\": 4}\n");
    (*writer)->reopen();
    (*writer)->write("{\"fifth\": 5}\n");
    (*writer)->finish(10 * kSecond);
    EXPECT_EQ(content(path("log")),
              "{\"first\": \n{\"second\": 2}\n{\"third\": \n{\"fourth\": 4}\n{\"fifth\": 5}\n");
    EXPECT_FALSE((*writer)->take_trouble());
}

TEST_F(LineWriterTest, DropsAndCountsWhatAPipeDoesNotTakeAndNeverWaits) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const auto writer = LineWriter::to(ends[1], "the pipe");
    ASSERT_TRUE(writer) << writer.error();
    const std::string line = std::string(999, 'x') + "\n";
    constexpr size_t kLines = 3'000;  // 3 MB: the pipe takes 64 KiB, the queue 1 MiB
    for (size_t i = 0; i < kLines; ++i) (*writer)->write(line);
    (*writer)->finish(kMillisecond);
    EXPECT_FALSE((*writer)->take_trouble()) << "it is still stuck";
    size_t read_bytes = 0;
    std::thread reader([&] {
        char buffer[65'536];
        for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
            read_bytes += static_cast<size_t>(got);
    });
    (*writer)->finish(30 * kSecond);
    const std::optional<std::string> trouble = (*writer)->take_trouble();
    ::close(ends[1]);
    reader.join();
    ::close(ends[0]);
    const size_t whole = read_bytes / line.size();
    EXPECT_EQ(read_bytes % line.size(), 0u);
    EXPECT_GE(whole, 1'048u);
    EXPECT_LE(whole, 1'200u);
    ASSERT_TRUE(trouble);
    EXPECT_EQ(*trouble, "the pipe: dropped " + std::to_string(kLines - whole) +
                            " lines while it was not read");
}

TEST_F(LineWriterTest, OpensARenamedFileAnew) {
    const auto writer = LineWriter::append_to(path("log"));
    ASSERT_TRUE(writer);
    (*writer)->write("one\n");
    (*writer)->finish(10 * kSecond);
    std::filesystem::rename(path("log"), path("log.1"));
    (*writer)->write("two\n");
    (*writer)->finish(10 * kSecond);
    (*writer)->reopen();
    (*writer)->write("three\n");
    (*writer)->finish(10 * kSecond);
    EXPECT_EQ(content(path("log.1")), "one\ntwo\n");
    EXPECT_EQ(content(path("log")), "three\n");
}

TEST_F(LineWriterTest, WaitsForTheReaderOfAFifoAndForTheNextOne) {
    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    const auto writer = LineWriter::append_to(path("fifo"));
    ASSERT_TRUE(writer) << writer.error();
    for (int reader = 0; reader < 2; ++reader) {
        (*writer)->write("line\n");
        const int descriptor = open(path("fifo").c_str(), O_RDONLY | O_CLOEXEC);
        char text[5];
        size_t got = 0;
        while (got < sizeof text) {
            const ssize_t more = ::read(descriptor, text + got, sizeof text - got);
            if (more > 0) got += static_cast<size_t>(more);
        }
        EXPECT_EQ(std::string_view(text, sizeof text), "line\n");
        ::close(descriptor);
        (*writer)->write("lost with its reader\n");
        (*writer)->finish(10 * kSecond);
    }
}

TEST_F(LineWriterTest, CountsWhatAFullDeviceRefuses) {
    const auto writer = LineWriter::append_to("/dev/full");
    ASSERT_TRUE(writer) << writer.error();
    (*writer)->write("one\n");
    (*writer)->write("two\n");
    (*writer)->finish(10 * kSecond);
    EXPECT_EQ((*writer)->take_trouble(), "/dev/full: lost 2 lines (No space left on device)");
    EXPECT_FALSE((*writer)->take_trouble());
}

TEST_F(LineWriterTest, ACheckAgreesWithOpeningAndCreatesNothing) {
    for (const std::string& place : {path("new"), path("none/new"), directory_}) {
        const bool possible = static_cast<bool>(can_append_to(place));
        EXPECT_FALSE(std::filesystem::is_regular_file(place));
        EXPECT_EQ(possible, static_cast<bool>(LineWriter::append_to(place))) << place;
    }
}

}  // namespace
}  // namespace pulse::serve
