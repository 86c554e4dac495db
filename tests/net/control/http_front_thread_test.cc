// The sockets of the admin endpoint with real clients, also under ThreadSanitizer: whole requests,
// clients that are idle, go away or send too much, answers that take long or go on as streams; and
// the endpoint as a whole, before a server whose main thread does not answer.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "net/control/admin_address.h"
#include "net/control/control.h"
#include "net/control/event_buffer.h"
#include "net/control/http_front.h"
#include "net/control/limits.h"
#include "net/control/status_hub.h"

namespace pulse {
namespace {

using namespace std::chrono_literals;

std::string response(const std::string& body) {
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// Answers with the length of the request; /slow once it may, or its client has gone.
class Clients : public testing::Test {
  protected:
    Clients() { alarm(120); }
    ~Clients() override {
        for (const int client : clients_) ::close(client);
        alarm(0);
    }

    int connect() {
        const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT_EQ(::connect(client, &to_.base, to_.size_bytes()), 0) << std::strerror(errno);
        clients_.push_back(client);
        return client;
    }
    static void send_text(int client, std::string_view text) {
        EXPECT_EQ(send(client, text.data(), text.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(text.size()));
    }
    // As many bytes, or all until the end.
    static std::string read_text(int client, size_t bytes = SIZE_MAX) {
        std::string text;
        char piece[4'096];
        while (text.size() < bytes) {
            const ssize_t got = recv(client, piece, std::min(sizeof piece, bytes - text.size()), 0);
            if (got <= 0) break;
            text.append(piece, static_cast<size_t>(got));
        }
        return text;
    }
    std::string ask(int client, std::string_view request, const std::string& answer) {
        send_text(client, request);
        return read_text(client, answer.size());
    }

    SocketAddress to_;
    std::vector<int> clients_;
};

class HttpFrontTest : public Clients {
  protected:
    HttpFrontTest() {
        auto listener = AdminListener::open(*parse_admin_address("127.0.0.1:0"));
        PULSE_ASSERT(listener);
        to_ = parse_admin_address(listener->text())->address;
        HttpFront::Answerer answerer;
        answerer.answer = [this](HttpCall& call) {
            ++asked_;
            if (call.head.path() == "/slow") {
                while (!may_answer_ && !call.gone) std::this_thread::sleep_for(1ms);
                gone_ += call.gone;
            }
            if (call.text.find("short") != std::string::npos) throw std::bad_alloc();
            if (call.head.path() == "/stream") {
                const std::lock_guard guard(streams_lock_);
                return HttpAnswer{"head:", true, next_stream_};
            }
            return HttpAnswer{response(std::to_string(call.text.size() + call.body.size())),
                              call.text.find("close") != std::string::npos};
        };
        answerer.is_quick = [](const HttpHead& head) { return head.path() == "/quick"; };
        answerer.refusal = [](int status, std::string_view, std::string_view) {
            return "HTTP/1.1 " + std::to_string(status) + " Refused\r\nContent-Length: 0\r\n\r\n";
        };
        answerer.failed = [this](std::string_view) { ++failed_; };
        auto front = HttpFront::start(listener->take(), std::move(answerer));
        PULSE_ASSERT(front);
        front_ = std::move(*front);
    }
    ~HttpFrontTest() override {
        may_answer_ = true;
        front_.reset();
    }

    std::atomic<int> asked_{0}, gone_{0}, failed_{0};
    std::atomic<bool> may_answer_{false};
    std::mutex streams_lock_;
    std::shared_ptr<HttpStream> next_stream_;
    std::unique_ptr<HttpFront> front_;
};

constexpr std::string_view kQuick = "GET /quick HTTP/1.1\r\n\r\n";
constexpr std::string_view kSlow = "GET /slow HTTP/1.1\r\n\r\n";

TEST_F(HttpFrontTest, ARequestInAnyPiecesIsAnsweredOnceItIsWhole) {
    const std::string request = "POST /a HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\nabcde";
    const int client = connect();
    for (size_t cut = 1; cut < request.size(); ++cut) {
        send_text(client, request.substr(0, cut));
        EXPECT_EQ(ask(client, request.substr(cut), response("44")), response("44")) << cut;
    }
}

TEST_F(HttpFrontTest, RequestsThatComeTogetherAreAnsweredInTheirOrder) {
    std::string requests, answers;
    for (int i = 0; i < 50; ++i) {
        requests += i % 2 == 0 ? std::string(kQuick) : "GET /other HTTP/1.1\r\n\r\n";
        answers += response(i % 2 == 0 ? "23" : "23");
    }
    EXPECT_EQ(ask(connect(), requests, answers), answers);
}

TEST_F(HttpFrontTest, WhatIsQuickIsAnsweredWhileAllWorkersAreBusyAndTheQueueIsFull) {
    const int quick = connect();
    for (uint32_t i = 0; i < kAdminWorkers; ++i) send_text(connect(), kSlow);
    while (asked_ < static_cast<int>(kAdminWorkers)) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(ask(quick, kQuick, response("23")), response("23"));
    may_answer_ = true;
    for (const int client : clients_) {
        if (client == quick) continue;
        EXPECT_EQ(read_text(client, response("22").size()), response("22"));
    }
}

TEST_F(HttpFrontTest, AClientThatGoesAwayIsNoticedWhileItIsAnswered) {
    const int client = connect();
    send_text(client, kSlow);
    while (asked_ == 0) std::this_thread::sleep_for(1ms);
    shutdown(client, SHUT_WR);
    while (gone_ == 0) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(read_text(client), "");
}

TEST_F(HttpFrontTest, IdleClientsMakeRoomForNewOnes) {
    for (size_t i = 0; i < 5 * kAdminConnectionsMax; ++i) connect();
    const int last = connect();
    EXPECT_EQ(ask(last, kQuick, response("23")), response("23"));
    EXPECT_EQ(read_text(clients_[0]), "") << "the first was idle longest";
}

TEST_F(HttpFrontTest, WhatIsTooLongIsRefusedAndTheClientReadsWhy) {
    const auto refused = [&](const std::string& request) {
        const int client = connect();
        send_text(client, request);
        return read_text(client).substr(9, 3);
    };
    EXPECT_EQ(refused("GET / HTTP/1.1\r\nX: " + std::string(kAdminHeadBytesMax, 'x')), "431");
    EXPECT_EQ(refused("GET /" + std::string(kAdminPathBytesMax, 'x') + " HTTP/1.1\r\n\r\n"), "414");
    EXPECT_EQ(refused("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"), "413");
    EXPECT_EQ(refused("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), "400");
    EXPECT_EQ(refused("POST / HTTP/1.1\r\nContent-Length: 5x\r\n\r\n"), "400");
    EXPECT_EQ(refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), "411");
}

// RFC 9110 10.1.1.
TEST_F(HttpFrontTest, AClientThatExpectsToContinueIsAskedForTheBody) {
    const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    const std::string head =
        "POST /a HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n";
    const std::string answer = response(std::to_string(head.size() + 5));
    const int client = connect();
    for (int twice = 0; twice < 2; ++twice) {
        EXPECT_EQ(ask(client, head, go_on), go_on);
        EXPECT_EQ(ask(client, "ab", ""), "") << "it is said once";
        EXPECT_EQ(ask(client, "cde", answer), answer);
    }
    EXPECT_EQ(ask(client, head + "abcde", answer), answer) << "nothing is waited for";
    EXPECT_EQ(ask(client, "POST /a HTTP/1.0" + head.substr(16) + "abcde", answer), answer);
    send_text(client, "POST /a HTTP/1.1\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\n");
    EXPECT_EQ(read_text(client).substr(9, 3), "417");
}

// Its deadline begins with its first byte, though that came before the answer to another.
TEST_F(HttpFrontTest, ARequestThatBeganBehindAnotherHasNoLongerThanOthers) {
    const int client = connect();
    EXPECT_EQ(ask(client, std::string(kQuick) + "GET /par", response("23")), response("23"));
    const auto began = std::chrono::steady_clock::now();
    EXPECT_EQ(read_text(client), "") << "it is closed";
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::nanoseconds(kAdminIdleNs) / 2);
}

TEST_F(HttpFrontTest, WhatIsNotAHeadIsRefusedBeforeItIsAnswered) {
    for (const std::string_view head :
         {"GET  /a HTTP/1.1\r\n\r\n", "GET /a  HTTP/1.1\r\n\r\n", " GET /a HTTP/1.1\r\n\r\n",
          "GET /a b HTTP/1.1\r\n\r\n", "GET\t/a HTTP/1.1\r\n\r\n", "GET /a\r\n\r\n",
          "GET HTTP/1.1\r\n\r\n", "G(T /a HTTP/1.1\r\n\r\n", "GET /\x01 HTTP/1.1\r\n\r\n",
          "GET /a HTTP/2.0\r\n\r\n", "GET /a HTTP/1.1 \r\n\r\n", "/a\r\n\r\n",
          "GET /a HTTP/1.1\r\nHost : h\r\n\r\n", "GET /a HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
          "GET /a HTTP/1.1\r\nA: b\nC: d\r\n\r\n", "GET /a HTTP/1.1\r\nA\r\n\r\n",
          "GET /a HTTP/1.1\r\nHost: h\r\nhost: i\r\n\r\n",
          "POST /a HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"}) {
        const int client = connect();
        send_text(client, head);
        EXPECT_EQ(read_text(client).substr(9, 3), "400") << head;
    }
    EXPECT_EQ(asked_, 0);
}

TEST_F(HttpFrontTest, ItEndsWhileRequestsAreAnswered) {
    for (uint32_t i = 0; i < 3 * kAdminWorkers; ++i) send_text(connect(), kSlow);
    while (asked_ == 0) std::this_thread::sleep_for(1ms);
    front_.reset();
    EXPECT_GE(gone_, 1);
}

// On a worker, and on the front thread.
TEST_F(HttpFrontTest, WhatIsThrownClosesOneClient) {
    const int other = connect();
    for (const std::string_view path : {"/some", "/quick"}) {
        const int client = connect();
        send_text(client, "GET " + std::string(path) + " HTTP/1.1\r\nX: short\r\n\r\n");
        EXPECT_EQ(read_text(client), "") << path;
    }
    EXPECT_EQ(failed_, 2);
    EXPECT_EQ(ask(other, kQuick, response("23")), response("23"));
}

// ---------------------------------------------------------------------------------------- streams
// Says what a test puts there, from its thread.
class TextStream final : public HttpStream {
  public:
    void begin(std::function<void()> wake) override {
        const std::lock_guard guard(lock_);
        wake_ = std::move(wake);
        wake_();
    }
    bool read(std::string& out) override {
        const std::lock_guard guard(lock_);
        out += std::exchange(text_, {});
        return !over_;
    }
    void end() override {
        const std::lock_guard guard(lock_);
        ended = true;
        wake_ = {};
    }
    void say(std::string_view text, bool over = false) {
        const std::lock_guard guard(lock_);
        text_ += text;
        over_ |= over;
        if (wake_) wake_();
    }
    std::atomic<bool> ended{false};

  private:
    std::mutex lock_;
    std::string text_;
    std::function<void()> wake_;
    bool over_ = false;
};

class HttpStreamTest : public HttpFrontTest {
  protected:
    // A client that has asked for a stream, and that stream.
    std::pair<int, std::shared_ptr<TextStream>> follow() {
        auto stream = std::make_shared<TextStream>();
        {
            const std::lock_guard guard(streams_lock_);
            next_stream_ = stream;
        }
        const int client = connect();
        send_text(client, "GET /stream HTTP/1.1\r\n\r\n");
        EXPECT_EQ(read_text(client, 5), "head:");
        return {client, stream};
    }
    static bool eventually(const std::function<bool()>& condition) {
        for (int looks = 0; looks < 10'000 && !condition(); ++looks)
            std::this_thread::sleep_for(1ms);
        return condition();
    }
};

TEST_F(HttpStreamTest, WhatIsSaidLaterIsSentWhileOthersAreAnswered) {
    const auto [client, stream] = follow();
    for (int i = 0; i < 100; ++i) {
        stream->say("event " + std::to_string(100 + i) + ";");
        EXPECT_EQ(read_text(client, 10), "event " + std::to_string(100 + i) + ";");
        if (i % 10 == 0) {
            EXPECT_EQ(ask(connect(), kQuick, response("23")), response("23"));
        }
    }
    stream->say("the last", true);
    EXPECT_EQ(read_text(client), "the last") << "and then it is closed";
    EXPECT_TRUE(eventually([&] { return stream->ended.load(); }));
}

TEST_F(HttpStreamTest, AClientThatGoesAwayEndsItsStream) {
    const auto [client, stream] = follow();
    shutdown(client, SHUT_RDWR);
    EXPECT_TRUE(eventually([&] { return stream->ended.load(); }));
    const auto [other, second] = follow();
    front_.reset();
    EXPECT_TRUE(second->ended) << "and so does the end of the server";
    second->say("nothing hears it");
    EXPECT_EQ(read_text(other), "");
}

// More than the kernel takes at once arrives whole.
TEST_F(HttpStreamTest, AClientThatReadsSlowlyIsSentAllOfIt) {
    const auto [client, stream] = follow();
    const std::string text(16 << 20, 'x');
    stream->say(text);
    std::this_thread::sleep_for(20ms);
    stream->say("end", true);
    EXPECT_EQ(read_text(client), text + "end");
}

TEST(EventBuffer, AFollowerThatDoesNotReadIsDroppedAndToldSo) {
    EventBuffer follower;
    const std::string event = event_text("status", std::string(kFollowerBufferBytes / 4, 'x'));
    uint32_t taken = 0;
    while (offer_status(follower, event)) ++taken;
    EXPECT_EQ(taken, 3u) << "what waits is bounded";
    std::string out;
    EXPECT_FALSE(follower.read(out)) << "that was all";
    EXPECT_TRUE(out.starts_with(event));
    EXPECT_NE(out.find("event: dropped\ndata: {\"reason\":"), std::string::npos);
    EventBuffer reader;
    for (uint32_t events = 0; events < 20; ++events) {
        ASSERT_TRUE(offer_status(reader, event));
        out.clear();
        ASSERT_TRUE(reader.read(out));
        ASSERT_EQ(out, event);
    }
}

// ------------------------------------------------------------------------------------- the whole

// One that has ended.
struct NoReactors final : Reactors {
    std::atomic<bool> throws{false};

    uint32_t count() const override { return 1; }
    bool ended(uint32_t) const override {
        if (throws) throw std::bad_alloc();
        return true;
    }
    bool post(uint32_t, const Message&) override { return false; }
};

// A server whose main thread is busy until it may answer.
struct BusyServer final : ControlTarget {
    NoReactors none;
    std::atomic<bool> asked{false}, may_answer{false};
    mutable std::atomic<int> warnings{0};

    template <class T>
    Result<T> wait() {
        asked = true;
        while (!may_answer) std::this_thread::sleep_for(1ms);
        return Error{"has not answered; try again"};
    }
    Reactors& reactors() override { return none; }
    ServingState serving() const override { return {.connections_max = 1}; }
    Json process() const override { return Json::object(); }
    std::vector<std::string> listeners() const override { return {"tcp://10.0.0.1:9000"}; }
    std::vector<std::string> profiles() const override { return {}; }
    bool is_passed(size_t) const override { return false; }
    size_t send_queue_bytes() const override { return 1 << 20; }
    std::span<const PageFile> page() const override { return {}; }
    AnomalyReport anomalies() const override { return {}; }
    void warn(const std::string&) const override { ++warnings; }
    Result<Result<void>> set_policies(const std::vector<std::string>&) override {
        return wait<Result<void>>();
    }
    Result<Result<void>> roll_back_policies() override { return wait<Result<void>>(); }
    Result<Json> config() override { return wait<Json>(); }
    Result<std::string> log_level() override { return wait<std::string>(); }
    Result<Result<void>> set_log_level(std::string_view) override { return wait<Result<void>>(); }
    Result<Result<Json>> reload() override { return wait<Result<Json>>(); }
    Result<void> revoke(const std::string&) override { return wait<void>(); }
    Result<void> drain() override { return wait<void>(); }
};

class ControlTest : public Clients {
  protected:
    ControlTest() {
        auto listener = AdminListener::open(*parse_admin_address("127.0.0.1:0"));
        PULSE_ASSERT(listener);
        to_ = parse_admin_address(listener->text())->address;
        auto control = Control::start(std::move(*listener), {}, server_);
        PULSE_ASSERT(control);
        control_ = std::move(*control);
    }
    ~ControlTest() override {
        server_.may_answer = true;
        control_.reset();
    }
    static std::string post(std::string_view path, std::string_view body = "{}") {
        return "POST " + std::string(path) +
               " HTTP/1.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
               "Content-Length: " +
               std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
    }
    std::string status_of(std::string_view request) {
        const int client = connect();
        send_text(client, request);
        return read_text(client).substr(9, 3);
    }

    BusyServer server_;
    std::unique_ptr<Control> control_;
};

// GET /api/v1/drain waits for nothing; to begin one is another matter.
TEST_F(ControlTest, AProbeIsAnsweredWhileADrainWaitsForTheMainThread) {
    const int drain = connect();
    send_text(drain, post("/api/v1/drain"));
    while (!server_.asked) std::this_thread::sleep_for(1ms);
    for (const std::string_view method : {"GET", "HEAD"}) {
        EXPECT_EQ(
            status_of(std::string(method) + " /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"),
            "200");
    }
    EXPECT_FALSE(server_.may_answer);
    server_.may_answer = true;
    EXPECT_EQ(read_text(drain).substr(9, 3), "503");
}

// What is thrown on the thread of a stream, since memory is short, ends its streams and not the
// process; those that come again are served.
TEST_F(ControlTest, AStreamEndsWhereMemoryIsShortAndTheNextIsServed) {
    for (const std::string_view path : {"/api/v1/stream", "/api/v1/presence"}) {
        const std::string request = "GET " + std::string(path) + " HTTP/1.1\r\n\r\n";
        server_.none.throws = true;
        const int before = server_.warnings;
        const int ended = connect();
        send_text(ended, request);
        EXPECT_EQ(read_text(ended).find("event:"), std::string::npos) << "it ends";
        EXPECT_GT(server_.warnings, before);
        server_.none.throws = false;
        const int served = connect();
        send_text(served, request);
        std::string heard;
        while (heard.find("event: ") == std::string::npos) {
            const std::string piece = read_text(served, 1);
            ASSERT_FALSE(piece.empty()) << heard;
            heard += piece;
        }
    }
}

TEST_F(ControlTest, AMainThreadThatDoesNotAnswerIsNotTheFaultOfTheRequest) {
    server_.may_answer = true;
    EXPECT_EQ(status_of(post("/api/v1/log-level", R"({"level": "debug"})")), "503");
    EXPECT_EQ(status_of(post("/api/v1/reload")), "503");
    EXPECT_EQ(status_of(post("/api/v1/drain")), "503");
}

}  // namespace
}  // namespace pulse
