// The thread, and cpp-httplib's client.
#include "net/observe/trace_exporter.h"

#include <httplib.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "core/random.h"
#include "core/version.h"
#include "net/io/clocks.h"
#include "net/loop/trace_table.h"
#include "net/observe/limits.h"
#include "net/observe/trace_batches.h"

namespace pulse {
namespace {

Nanos wall_clock() { return read_kernel_clock(CLOCK_REALTIME); }

struct Counters {
#define X(name, family, reason, help) std::atomic<uint64_t> name{0};
#include "net/observe/trace_counters.def"
#undef X
};

// Version 4 of RFC 9562.
std::string random_uuid(Random& random) {
    std::string text = "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx";
    for (char& digit : text) {
        if (digit == 'x') digit = "0123456789abcdef"[random.below(16)];
        if (digit == 'y') digit = "89ab"[random.below(4)];
    }
    return text;
}

SpanIds random_ids(Random& random) {
    return root_span_ids({random.next(), random.next()}, random.next(), 0);
}

std::string host_name() {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) != 0) return "unknown";
    return name;
}

uint64_t fresh_seed() {
    return mix64(static_cast<uint64_t>(wall_clock()) ^ mix64(static_cast<uint64_t>(::getpid())));
}

// What came of one try.
struct Answer {
    ExportOutcome outcome = ExportOutcome::failed;
    Nanos retry_after = 0;
    OtlpPartialSuccess partial;
    std::string words;  // for people
};

}  // namespace

// The thread's, but for what says otherwise. What ends last, owner or thread, frees it.
struct TraceExporter::Shared {
    Shared(OtlpEndpoint to, std::vector<std::string> listeners, std::shared_ptr<TraceQueues> from,
           LogLine line)
        : endpoint(std::move(to)),
          queues(std::move(from)),
          warn(std::move(line)),
          random(fresh_seed()),
          retries(random.next()),
          client(endpoint.host, endpoint.port) {
        source = {std::string(kVersion), random_uuid(random), host_name(), ::getpid(),
                  std::move(listeners)};
        client.set_keep_alive(true);
        const auto set = [](Nanos time, auto&& setter) {
            setter(static_cast<time_t>(time / kSecond),
                   static_cast<time_t>(time % kSecond / 1'000));
        };
        set(kTraceConnectNs, [&](time_t s, time_t us) { client.set_connection_timeout(s, us); });
        set(kTraceRequestNs, [&](time_t s, time_t us) { client.set_read_timeout(s, us); });
        set(kTraceRequestNs, [&](time_t s, time_t us) { client.set_write_timeout(s, us); });
    }

    void run();
    void collect(Nanos now);
    void make_request(Nanos now, bool stopping);
    void try_request(Nanos now);
    Answer post();
    void take(const Answer& answer, Nanos now);
    void drop(std::atomic<uint64_t>& reason);
    void drop_what_is_left();
    void log_failure(const std::string& words, Nanos now);
    bool idle() const { return request.empty() && batches.size() == 0 && !drain; }

    const OtlpEndpoint endpoint;
    const std::shared_ptr<TraceQueues> queues;
    const LogLine warn;
    Random random;
    TraceSource source;
    TraceBatches batches;
    ExportRetries retries;
    std::string request;  // that is tried; empty: none is
    uint64_t request_spans = 0;
    Nanos next_log_at = 0;
    uint64_t failures_unlogged = 0;
    bool failing = false;

    httplib::Client client;  // stop() from any thread
    Counters counters;       // read by any thread
    std::mutex lock;
    std::condition_variable changed;
    // Under the lock.
    bool stopping = false;
    Nanos flush_until = kNever;
    bool ended = false;
    std::optional<DrainTrace> drain;
    bool posting = false;                // the thread is in post(), and touches nothing of its own
    bool left_behind = false;            // while it was; all that it had is counted
    std::atomic<bool> abandoned{false};  // nothing is logged any more: the program ends
    std::atomic<bool> connected{false};  // a request is under way: httplib's lock is free
    std::thread thread;                  // the owner's
};

// -------------------------------------------------------------------------------------- the thread

void TraceExporter::Shared::run() {
    pthread_setname_np(pthread_self(), "traces");
    std::unique_lock guard(lock);
    bool last = false;
    for (;;) {
        // An endpoint that did not answer is asked once more, and at once.
        if (stopping && !last && std::exchange(failing, false)) retries.succeeded();
        last = stopping;
        const Nanos until = flush_until;
        guard.unlock();
        const Nanos now = monotonic_clock();
        bool thrown = false;
        std::string failure;
        try {
            collect(now);
            if (request.empty()) make_request(now, last);
            if (!request.empty() && now >= retries.next_at() && now < until) try_request(now);
        } catch (const std::exception& error) {
            thrown = true;
            failure = error.what();
            const std::lock_guard counting(lock);
            posting = false;
            if (!left_behind) drop(counters.dropped_error);
        }
        if (thrown) log_failure(failure, now);
        guard.lock();
        if (abandoned) break;
        const bool too_late = std::max(monotonic_clock(), retries.next_at()) >= until;
        if (last && (idle() || failing || too_late)) break;
        if (request.empty() && (last || batches.due_at() <= now) && !thrown) continue;
        changed.wait_for(guard, std::chrono::nanoseconds(last ? kTracePollNs / 10 : kTracePollNs),
                         [&] { return stopping && !last; });
    }
    if (!left_behind) drop_what_is_left();
    ended = true;
    changed.notify_all();
}

// Requires: the lock, and that the thread ends or is in post(), which reads `request`.
void TraceExporter::Shared::drop_what_is_left() {
    const auto count = [&](const TraceRecord& record) {
        counters.dropped_shutdown += spans_of(record);
    };
    counters.dropped_shutdown += std::exchange(request_spans, 0);
    for (const auto& queue : *queues) queue->pop_batch(queue->capacity(), count);
    for (std::vector<TraceRecord> left = batches.take(); !left.empty(); left = batches.take())
        for (const TraceRecord& record : left) count(record);
    if (std::exchange(drain, std::nullopt)) ++counters.dropped_shutdown;
}

void TraceExporter::Shared::collect(Nanos now) {
    for (const auto& queue : *queues) {
        queue->pop_batch(queue->capacity(), [&](const TraceRecord& record) {
            if (!batches.add(record, now)) counters.dropped_overflow += spans_of(record);
        });
    }
}

void TraceExporter::Shared::make_request(Nanos now, bool is_last) {
    if (!is_last && batches.due_at() > now) return;
    TraceBatch batch;
    batch.records = batches.take();
    if (is_last && batches.size() == 0) {
        const std::lock_guard guard(lock);
        if (drain) {
            drain->ids = random_ids(random);
            batch.drain = std::exchange(drain, std::nullopt);
        }
    }
    if (batch.empty()) return;
    request_spans = spans_of(batch);
    request = otlp_request(batch, source, wall_clock() - monotonic_clock());
    retries.begin(now);
}

void TraceExporter::Shared::drop(std::atomic<uint64_t>& reason) {
    reason += std::exchange(request_spans, 0);
    request.clear();
}

void TraceExporter::Shared::try_request(Nanos now) {
    ++counters.requests;
    {
        const std::lock_guard guard(lock);
        posting = true;
        changed.notify_all();
    }
    const Answer answer = post();
    const std::lock_guard guard(lock);
    posting = false;
    if (!left_behind) take(answer, std::max(now, monotonic_clock()));
}

Answer TraceExporter::Shared::post() {
    httplib::Request sent;
    sent.method = "POST";
    sent.path = endpoint.path;
    sent.headers = {{"Host", endpoint.authority()},
                    {"Content-Type", "application/json"},
                    {"User-Agent", "pulsewheel/" + std::string(kVersion)}};
    // Called once there is a connection.
    sent.content_length_ = request.size();
    sent.content_provider_ = [&](size_t offset, size_t length, httplib::DataSink& sink) {
        connected = true;
        return sink.write(request.data() + offset, length);
    };
    Answer answer;
    int status = 0;
    const auto read_head = [&](const httplib::Response& response) {
        status = response.status;
        if (const std::string after = response.get_header_value("Retry-After"); !after.empty())
            answer.retry_after = parse_retry_after(after, wall_clock()).value_or(0);
        return true;
    };
    sent.response_handler = read_head;
    std::string body;
    const Nanos until = monotonic_clock() + kTraceRequestNs;
    // A body that is too long, or drips, is not read to its end: its status is the answer.
    sent.content_receiver = [&](const char* bytes, size_t count, uint64_t, uint64_t) {
        body.append(bytes, std::min(count, kTraceAnswerBytesMax - body.size()));
        return body.size() < kTraceAnswerBytesMax && monotonic_clock() < until;
    };
    connected = false;
    const httplib::Result result = client.send(sent);
    connected = false;
    if (result) read_head(*result);  // without a body the handler is not called
    if (status == 0) {
        answer.words = httplib::to_string(result.error());
        return answer;
    }
    answer.outcome = outcome_of(status);
    answer.words = "HTTP " + std::to_string(status);
    if (answer.outcome == ExportOutcome::taken) answer.partial = read_otlp_answer(body);
    return answer;
}

void TraceExporter::Shared::take(const Answer& answer, Nanos now) {
    failing = answer.outcome == ExportOutcome::failed;
    switch (answer.outcome) {
        case ExportOutcome::taken: {
            const uint64_t rejected = std::min(answer.partial.rejected_spans, request_spans);
            counters.exported += request_spans - rejected;
            counters.dropped_partial += rejected;
            if (rejected > 0)
                log_failure("it has rejected some spans: " + answer.partial.message, now);
            request.clear();
            request_spans = 0;
            retries.succeeded();
            return;
        }
        case ExportOutcome::refused:
            drop(counters.dropped_refused);
            return log_failure(answer.words, now);
        case ExportOutcome::failed:
            ++counters.failures;
            [[fallthrough]];
        case ExportOutcome::retry:
            log_failure(answer.words, now);
            if (retries.failed(now, answer.retry_after)) {
                ++counters.retries;
            } else {
                drop(counters.dropped_retries);
            }
            return;
    }
}

// What a peer or the endpoint sent is escaped where lines are written.
void TraceExporter::Shared::log_failure(const std::string& words, Nanos now) {
    ++failures_unlogged;
    if (!warn || abandoned || now < next_log_at) return;
    next_log_at = now + kTraceFailureLogNs;
    const uint64_t others = std::exchange(failures_unlogged, 0) - 1;
    warn("traces: " + endpoint.text() + ": " + words.substr(0, 200) +
         (others > 0 ? " (and " + std::to_string(others) + " more failures since the last line)"
                     : "") +
         "; what it does not take is dropped in the end and counted "
         "(pulsewheel_trace_spans_dropped_total); start the collector, or correct --otlp-endpoint");
}

// --------------------------------------------------------------------------------------- the owner

TraceExporter::TraceExporter(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

Result<std::unique_ptr<TraceExporter>> TraceExporter::start(OtlpEndpoint endpoint,
                                                            std::vector<std::string> listeners,
                                                            std::shared_ptr<TraceQueues> queues,
                                                            LogLine warn) {
    auto shared = std::make_shared<Shared>(std::move(endpoint), std::move(listeners),
                                           std::move(queues), std::move(warn));
    try {
        shared->thread = std::thread([shared] { shared->run(); });
    } catch (const std::system_error& error) {
        return Error{"a thread for traces cannot be started: " + error.code().message() +
                     "; raise the limit on threads (pids.max of the cgroup, TasksMax=)"};
    }
    return std::unique_ptr<TraceExporter>(new TraceExporter(std::move(shared)));
}

TraceExporter::~TraceExporter() {
    if (!shared_->thread.joinable()) return;
    {
        const std::lock_guard guard(shared_->lock);
        shared_->flush_until = 0;
        shared_->abandoned = true;
    }
    finish(std::nullopt);
}

void TraceExporter::finish(std::optional<DrainTrace> drain) {
    if (!shared_->thread.joinable()) return;
    std::unique_lock guard(shared_->lock);
    shared_->drain = drain;
    shared_->stopping = true;
    shared_->flush_until = std::min(shared_->flush_until, monotonic_clock() + kTraceFlushNs);
    shared_->changed.notify_all();
    const auto ends_within = [&](Nanos time) {
        return shared_->changed.wait_for(guard, std::chrono::nanoseconds(time),
                                         [&] { return shared_->ended; });
    };
    bool ended = ends_within(std::max<Nanos>(0, shared_->flush_until - monotonic_clock()));
    if (!ended) {
        guard.unlock();
        // Without a connection stop() waits until there is one, or none: in a lookup of a name.
        if (shared_->connected) shared_->client.stop();
        guard.lock();
        ended = ends_within(kTraceCancelNs);
    }
    if (!ended) {
        // A thread that is not in a request is at the end of its work for it.
        shared_->changed.wait(guard, [&] { return shared_->ended || shared_->posting; });
        ended = shared_->ended;
    }
    if (!ended) {
        shared_->left_behind = true;
        shared_->drop_what_is_left();
    }
    shared_->abandoned = true;
    guard.unlock();
    if (ended)
        shared_->thread.join();
    else
        shared_->thread.detach();
}

std::vector<TraceCounter> TraceExporter::counters() const {
    const Counters& counters = shared_->counters;
    return {
#define X(name, family, reason, help) \
    {"pulsewheel_trace_" family "_total", reason, help, counters.name.load()},
#include "net/observe/trace_counters.def"
#undef X
    };
}

size_t TraceExporter::memory_bytes_max(size_t reactors) {
    constexpr size_t kRequestBytes = kTraceBatchRecords * kTraceRecordJsonBytesMax;
    constexpr size_t kBatchBytes = kTraceBatchRecords * sizeof(TraceRecord);  // while it is made
    return reactors * TraceTable::memory_bytes_max() + kTracePendingMax * sizeof(TraceRecord) +
           kRequestBytes + kBatchBytes;
}

}  // namespace pulse
