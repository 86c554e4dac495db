// The sockets of the admin endpoint: one thread that accepts, gathers whole requests, and sends
// answers; a few that make them.
//
//     clients ==> front thread: epoll, whole requests --> queue --> workers: answer(request)
//             <==               sends, as clients read <-- done <--
//
// A client that is idle, drips, or does not read costs a descriptor and a buffer, and never a
// worker: it is closed at a deadline, or when another client needs its place (limits.h). What needs
// no waiting is answered on the front thread, so that a probe of the server's health does not
// queue behind requests that wait for a reactor.
//
// HTTP/1.1 with Content-Length; one request at a time a connection. What is in a request is the
// answerer's business (control.h). An answer may go on as a stream, whose source the front reads as
// the client takes it; a client that takes nothing for a while is closed.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "core/types.h"
#include "net/control/http_head.h"

namespace pulse {

// A whole request, and whether its client is still there.
struct HttpCall {
    HttpCall(std::string head_text, std::string body_text);
    HttpCall(const HttpCall&) = delete;
    HttpCall& operator=(const HttpCall&) = delete;

    const std::string text;  // the head, as it came
    const HttpHead head;     // views of it
    const std::string body;
    // The client has closed, or half of it: the answer is not waited for. Any thread.
    std::atomic<bool> gone{false};
};

// What follows an answer, for as long as it likes.
class HttpStream {
  public:
    virtual ~HttpStream() = default;
    // The rest: on the front thread, which must not wait.
    // Before the first read. `wake`, on any thread, has the front read again soon.
    virtual void begin(std::function<void()> wake) = 0;
    // Moves what there is to the end of `out`; also called now and then without a wake. False: that
    // was all, and the connection is closed behind it.
    virtual bool read(std::string& out) = 0;
    // The client is gone. `wake` must not be called after this has returned.
    virtual void end() = 0;
};

struct HttpAnswer {
    std::string bytes;   // a whole HTTP response, or the head of one that `stream` goes on
    bool close = false;  // after it
    std::shared_ptr<HttpStream> stream{};
};

class HttpFront {
  public:
    struct Answerer {
        // On a worker, several at once.
        std::function<HttpAnswer(HttpCall&)> answer;
        // On the front thread: whether `answer` waits for nothing.
        std::function<bool(const HttpHead& head)> is_quick;
        // The response to a request that is refused before it is whole, or because too many wait.
        std::function<std::string(int status, std::string_view reason, std::string_view remedy)>
            refusal;
        // Something was thrown, and the client of it is closed: why. Any thread; empty: not told.
        std::function<void(std::string_view why)> failed{};
    };

    // Takes `listener`, a non-blocking socket that listens. Threads start here; the error says
    // which could not.
    static Result<std::unique_ptr<HttpFront>> start(int listener, Answerer answerer);
    // Closes all clients, waits for requests that are being answered, and for the threads.
    ~HttpFront();
    HttpFront(const HttpFront&) = delete;
    HttpFront& operator=(const HttpFront&) = delete;

  private:
    enum class Phase : uint8_t { reading, answering, writing, streaming, closing };
    struct Client {
        int descriptor = -1;
        Phase phase = Phase::reading;
        bool close_after = false;
        bool told_to_continue = false;  // for the request that is read
        std::string in;
        std::string out;
        size_t sent = 0;
        Nanos deadline = 0;    // kNever while it is answered
        Nanos idle_since = 0;  // since when nothing of a request has come
        std::shared_ptr<HttpCall> call;
        std::shared_ptr<HttpStream> stream;
    };
    struct Done {
        uint64_t client;
        HttpAnswer answer;
    };
    struct Task {
        uint64_t client;
        std::shared_ptr<HttpCall> call;
    };

    HttpFront(int listener, Answerer answerer);
    Result<void> open();
    Result<void> start_thread(void* (*body)(void* self));
    void front_thread();
    void worker_thread();
    HttpAnswer answer(HttpCall& call);
    void deliver(Done done);
    void report(std::string_view why) const;
    // Does it, and closes that client, if it is still there, where something is thrown.
    template <class What>
    void guard_client(uint64_t number, What&& what);
    void accept_some();
    bool make_place();
    void on_event(uint64_t client, uint32_t events);
    void read_some(uint64_t number, Client& client);
    static void begin_request(Client& client);
    void tell_to_continue(uint64_t number, Client& client);
    void consider(uint64_t number, Client& client);
    void begin_answer(uint64_t number, Client& client, size_t head_bytes, size_t body_bytes);
    void refuse(uint64_t number, Client& client, int status, std::string_view reason,
                std::string_view remedy);
    void refuse(uint64_t number, Client& client, int status, std::string_view error);
    void respond(uint64_t number, Client& client, HttpAnswer answer);
    void write_some(uint64_t number, Client& client);
    void read_stream(uint64_t number, Client& client);
    void read_streams();
    void drop_some(uint64_t number, Client& client);
    void ring() const;
    void take_done();
    void close_late(Nanos now);
    void close_client(uint64_t number);
    void watch(uint64_t number, const Client& client, uint32_t events, bool added = false);
    Nanos next_deadline() const;

    const Answerer answerer_;
    const int listener_;
    int set_ = -1;       // epoll
    int doorbell_ = -1;  // rung by workers
    // The front thread's.
    std::unordered_map<uint64_t, Client> clients_;
    uint64_t next_client_ = 0;
    bool accepting_ = true;
    Nanos accept_again_at_ = 0;
    // Of all threads.
    std::mutex lock_;
    std::condition_variable more_;
    std::deque<Task> tasks_;
    std::vector<Done> done_;
    bool stopping_ = false;
    std::vector<pthread_t> threads_;
};

}  // namespace pulse
