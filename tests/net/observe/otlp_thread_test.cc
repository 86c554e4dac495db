// Traces on their way to a collector: the JSON of OTLP, batches and retries in simulated time, and
// the exporter's thread against endpoints that answer, ask for patience, hang, or are not there.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>

#include "net/io/address.h"
#include "net/io/clocks.h"
#include "net/loop/limits.h"
#include "net/observe/otlp_endpoint.h"
#include "net/observe/otlp_json.h"
#include "net/observe/trace_batches.h"
#include "net/observe/trace_exporter.h"

namespace pulse::test {
namespace {

// A lookup of this name lasts as long as a test wants, 20 s at most, and fails.
constexpr std::string_view kSlowName = "slow.test";
std::atomic<bool> lookup_began{false}, lookup_may_end{false};

void look_up_slowly() {
    lookup_began = true;
    for (int step = 0; step < 2'000 && !lookup_may_end; ++step)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
}

}  // namespace
}  // namespace pulse::test

// Before libc's, for cpp-httplib.
extern "C" __attribute__((visibility("default"))) int getaddrinfo(const char* name,
                                                                  const char* service,
                                                                  const addrinfo* hints,
                                                                  addrinfo** found) {
    if (name != nullptr && name == pulse::test::kSlowName) {
        pulse::test::look_up_slowly();
        return EAI_FAIL;
    }
    static const auto next =
        reinterpret_cast<decltype(&getaddrinfo)>(::dlsym(RTLD_NEXT, "getaddrinfo"));
    return next(name, service, hints, found);
}

namespace pulse::test {
namespace {

using Json = nlohmann::ordered_json;

constexpr SipKey kKey = {1, 2};
constexpr Nanos kBoot = 1'700'000'000 * kSecond;  // CLOCK_MONOTONIC was 0

PeerAddress peer_of(const char* text) { return plain_address(*parse_address(text)); }

TraceRecord record_of(CloseReason reason, Nanos at = 100 * kSecond) {
    TraceRecord record;
    record.sampled = true;
    record.facts.id = {12, 3};
    record.facts.at = at;
    record.facts.reason = reason;
    record.facts.stage = Stage::open;
    record.facts.peer = record.facts.transport.peer = peer_of("192.0.2.7:40001");
    record.facts.protocol = 4;
    record.facts.accepted_at = record.accepted_at = at - 90 * kSecond;
    record.ended_at = record.facts.ended_at = at + kSecond;
    record.ids = span_ids_of(kKey, 0, record.facts.id);
    return record;
}

// Silent since 30 s before its end, with probes at 10 and 20 s.
TraceRecord evicted() {
    TraceRecord record = record_of(CloseReason::idle_timeout);
    Evidence& facts = record.facts;
    facts.interval = 10 * kSecond;
    facts.timeout = facts.interval * 3;
    facts.heard_at = facts.at - 30 * kSecond;
    facts.deadline = facts.at - 5 * kMillisecond;
    facts.probes_sent = 2;
    facts.probed_at = facts.at - 10 * kSecond;
    facts.transport.known = true;
    facts.transport.received_bytes = 7;
    facts.transport.since_received = 30 * kSecond;
    facts.transport.acked_bytes = 9;
    facts.transport.since_sent = 10 * kSecond;
    facts.transport.since_acked = 29 * kSecond;
    return record;
}

const TraceSource kSource = {
    "1.2.3", "5d1f6b1e-0000-4000-8000-000000000000", "host", 77, {"jsonl://*:9000"}};

// The spans of a request, whose frame is checked.
Json spans_in(const std::string& text) {
    const Json request = Json::parse(text);
    EXPECT_EQ(request.size(), 1u);
    const Json& resource_spans = request.at("resourceSpans").at(0);
    EXPECT_TRUE(resource_spans.at("schemaUrl").get<std::string>().starts_with("https://opent"));
    const Json& scope_spans = resource_spans.at("scopeSpans").at(0);
    EXPECT_EQ(scope_spans.at("scope"), (Json{{"name", "pulsewheel"}, {"version", "1.2.3"}}));
    return scope_spans.at("spans");
}
Json spans_of_record(const TraceRecord& record) {
    return spans_in(otlp_request({{record}, std::nullopt}, kSource, kBoot));
}
// The value of an attribute; null: there is none.
Json attribute(const Json& of, std::string_view key) {
    for (const Json& each : of.at("attributes"))
        if (each.at("key") == key) return each.at("value");
    return {};
}

TEST(OtlpJson, AResourceNamesTheProcess) {
    const Json request =
        Json::parse(otlp_request({{record_of(CloseReason::kicked)}, std::nullopt}, kSource, 0));
    const Json& resource = request["resourceSpans"][0]["resource"];
    EXPECT_EQ(attribute(resource, "service.name"), (Json{{"stringValue", "pulsewheel"}}));
    EXPECT_EQ(attribute(resource, "service.version"), (Json{{"stringValue", "1.2.3"}}));
    EXPECT_EQ(attribute(resource, "service.instance.id"),
              (Json{{"stringValue", kSource.instance}}));
    EXPECT_EQ(attribute(resource, "host.name"), (Json{{"stringValue", "host"}}));
    EXPECT_EQ(attribute(resource, "process.pid"), (Json{{"intValue", "77"}}));
}

TEST(OtlpJson, AConnectionIsASpan) {
    TraceRecord record = record_of(CloseReason::kicked);
    record.heartbeats = 7;
    record.messages = 9;
    record.upgraded_at = record.accepted_at + kMillisecond;
    record.hello_at = record.accepted_at + 2 * kMillisecond;
    record.facts.detail = CutText<88>("asked \xff for");
    const Json spans = spans_of_record(record);
    ASSERT_EQ(spans.size(), 1u);
    const Json& span = spans[0];
    EXPECT_EQ(span.at("name"), "connection");
    EXPECT_EQ(span.at("kind"), 2);
    EXPECT_EQ(span.at("traceId").get<std::string>().size(), 32u);
    EXPECT_EQ(span.at("spanId").get<std::string>().size(), 16u);
    EXPECT_FALSE(span.contains("parentSpanId"));
    EXPECT_EQ(span.at("flags"), 0x101u);
    EXPECT_EQ(span.at("startTimeUnixNano"), std::to_string(kBoot + 10 * kSecond));
    EXPECT_EQ(span.at("endTimeUnixNano"), std::to_string(kBoot + 101 * kSecond));
    EXPECT_EQ(span.at("status"), Json::object()) << "an operator wanted it";
    EXPECT_EQ(attribute(span, "network.peer.address"), (Json{{"stringValue", "192.0.2.7"}}));
    EXPECT_EQ(attribute(span, "network.peer.port"), (Json{{"intValue", "40001"}}));
    EXPECT_EQ(attribute(span, "client.address"), (Json{{"stringValue", "192.0.2.7"}}));
    EXPECT_EQ(attribute(span, "network.type"), (Json{{"stringValue", "ipv4"}}));
    EXPECT_EQ(attribute(span, "network.protocol.name"), (Json{{"stringValue", "jsonl"}}));
    EXPECT_EQ(attribute(span, "server.port"), (Json{{"intValue", "9000"}}));
    EXPECT_EQ(attribute(span, "pulsewheel.connection"), (Json{{"stringValue", "r0-000012-3"}}));
    EXPECT_EQ(attribute(span, "pulsewheel.close.reason"), (Json{{"stringValue", "kicked"}}));
    EXPECT_EQ(attribute(span, "pulsewheel.close.party"), (Json{{"stringValue", "operator"}}));
    EXPECT_EQ(attribute(span, "pulsewheel.heartbeats"), (Json{{"intValue", "7"}}));
    EXPECT_EQ(attribute(span, "pulsewheel.close.took_ms"), (Json{{"intValue", "1000"}}));
    EXPECT_EQ(attribute(span, "pulsewheel.close.detail"),
              (Json{{"stringValue", "asked \xEF\xBF\xBD for"}}));
    EXPECT_TRUE(attribute(span, "error.type").is_null());
    std::vector<std::string> names;
    for (const Json& event : span.at("events")) names.push_back(event.at("name"));
    EXPECT_EQ(names, (std::vector<std::string>{"upgraded", "hello", "its end was decided"}));
}

TEST(OtlpJson, AClientsTraceIsTheParent) {
    TraceRecord record = record_of(CloseReason::peer_goodbye);
    record.parent_remote = true;
    record.ids.parent = {1, 2, 3, 4, 5, 6, 7, 0xAB};
    const Json span = spans_of_record(record)[0];
    EXPECT_EQ(span.at("parentSpanId"), "01020304050607ab");
    EXPECT_EQ(span.at("flags"), 0x301u);
    EXPECT_EQ(attribute(span, "pulsewheel.traced_for"), (Json{{"stringValue", "traceparent"}}));
}

TEST(OtlpJson, BehindABalancerTheClientIsAnother) {
    TraceRecord record = record_of(CloseReason::peer_goodbye);
    record.facts.proxied = true;
    record.facts.peer = peer_of("[2001:db8::7]:443");
    const Json span = spans_of_record(record)[0];
    EXPECT_EQ(attribute(span, "network.peer.address"), (Json{{"stringValue", "192.0.2.7"}}));
    EXPECT_EQ(attribute(span, "client.address"), (Json{{"stringValue", "2001:db8::7"}}));
    EXPECT_EQ(attribute(span, "client.port"), (Json{{"intValue", "443"}}));
}

TEST(OtlpJson, AnEvictionIsAChildWithItsTimeline) {
    const TraceRecord record = evicted();
    const Json spans = spans_of_record(record);
    EXPECT_EQ(spans_of(record), 2u);
    ASSERT_EQ(spans.size(), 2u);
    const Json &connection = spans[0], &eviction = spans[1];
    EXPECT_EQ(connection.at("status").at("code"), 2);
    EXPECT_EQ(attribute(connection, "error.type"), (Json{{"stringValue", "idle_timeout"}}));
    EXPECT_EQ(eviction.at("name"), "eviction");
    EXPECT_EQ(eviction.at("kind"), 1);
    EXPECT_EQ(eviction.at("traceId"), connection.at("traceId"));
    EXPECT_EQ(eviction.at("parentSpanId"), connection.at("spanId"));
    EXPECT_NE(eviction.at("spanId"), connection.at("spanId"));
    EXPECT_EQ(eviction.at("flags"), 0x101u);
    EXPECT_EQ(eviction.at("startTimeUnixNano"), std::to_string(kBoot + 70 * kSecond));
    EXPECT_EQ(eviction.at("endTimeUnixNano"), std::to_string(kBoot + 100 * kSecond));
    EXPECT_EQ(attribute(eviction, "pulsewheel.eviction.delay_us"), (Json{{"intValue", "5000"}}));
    std::vector<std::pair<std::string, std::string>> events;
    for (const Json& event : eviction.at("events"))
        events.emplace_back(event.at("timeUnixNano"), event.at("name"));
    const auto at = [](Nanos seconds) { return std::to_string(kBoot + seconds * kSecond); };
    EXPECT_EQ(events,
              (std::vector<std::pair<std::string, std::string>>{{at(70), "last byte in"},
                                                                {at(70), "last proof of life"},
                                                                {at(71), "last acknowledged"},
                                                                {at(80), "probe sent"},
                                                                {at(90), "last byte out"},
                                                                {at(90), "probe missed"},
                                                                {at(90), "probe sent"},
                                                                {at(100), "probe missed"}}));
}

// It has no beginning of the silence, no deadline and no instant of the decision.
TEST(OtlpJson, AnEndThatTheLedgerHasForgottenIsNotMadeUp) {
    TraceRecord record = record_of(CloseReason::idle_timeout);
    record.facts.ended_at = 0;
    const Json spans = spans_of_record(record);
    EXPECT_EQ(spans_of(record), 1u);
    ASSERT_EQ(spans.size(), 1u) << "no eviction";
    EXPECT_EQ(attribute(spans[0], "error.type"), (Json{{"stringValue", "idle_timeout"}}));
    EXPECT_TRUE(attribute(spans[0], "pulsewheel.close.took_ms").is_null());
    EXPECT_TRUE(attribute(spans[0], "pulsewheel.close.explanation").is_null());
    EXPECT_EQ(spans[0].at("events"), Json::array());
}

// The longest that one can be: kTraceEventsMax events, and a detail of which all is escaped.
TEST(OtlpJson, ARecordTakesNoMoreThanItsBound) {
    TraceRecord record = evicted();
    record.facts.probes_sent = 255;
    record.facts.probed_at = record.facts.at;
    record.facts.interval = 1;
    record.facts.detail = CutText<88>(std::string(88, '\x01'));
    record.parent_remote = true;
    record.ids.parent = {1, 2, 3, 4, 5, 6, 7, 8};
    record.messages = record.heartbeats = record.facts.transport.received_bytes = ~uint64_t{0};
    const size_t frame = otlp_request({}, kSource, kBoot).size();
    const std::string one = otlp_request({{record}, std::nullopt}, kSource, kBoot);
    RecordProperty("record_json_bytes", static_cast<int>(one.size() - frame));
    EXPECT_LE(one.size() - frame, kTraceRecordJsonBytesMax);
    const TraceBatch batch{std::vector<TraceRecord>(100, record), std::nullopt};
    const std::string text = otlp_request(batch, kSource, kBoot);
    EXPECT_EQ(spans_in(text).size(), 200u);
    EXPECT_LE(text.capacity(), 101 * kTraceRecordJsonBytesMax) << "it did not grow by copies";
}

// What instants and counts there are, a span ends after it began, and its events are within.
TEST(OtlpJson, TimesAreInOrderWhateverIsNotKnown) {
    Random random(5);
    for (int round = 0; round < 300; ++round) {
        TraceRecord record = random.chance(1, 2) ? evicted() : record_of(CloseReason::io_error);
        for (Nanos* instant :
             {&record.accepted_at, &record.upgraded_at, &record.hello_at, &record.ended_at,
              &record.facts.heard_at, &record.facts.probed_at, &record.facts.deadline,
              &record.facts.transport.since_received, &record.facts.transport.since_sent}) {
            if (random.chance(1, 3)) *instant = 0;
            if (random.chance(1, 3))
                *instant = static_cast<Nanos>(random.below(200 * static_cast<uint64_t>(kSecond)));
        }
        record.facts.probes_sent = static_cast<uint8_t>(random.below(256));
        for (const Json& span : spans_of_record(record)) {
            const auto nanos = [](const Json& text) {
                return std::stoull(text.get<std::string>());
            };
            uint64_t before = nanos(span.at("startTimeUnixNano"));
            EXPECT_LE(span.at("events").size(), kTraceEventsMax + 4);
            for (const Json& event : span.at("events")) {
                EXPECT_GE(nanos(event.at("timeUnixNano")), before);
                before = nanos(event.at("timeUnixNano"));
            }
            EXPECT_GE(nanos(span.at("endTimeUnixNano")), before);
        }
    }
}

TEST(OtlpJson, ADrainIsATraceOfItsOwn) {
    DrainTrace drain{.ids = span_ids_of(kKey, 1, {}),
                     .began_at = 5,
                     .ended_at = 9,
                     .connections = 1'000'000,
                     .goodbyes_per_second = 7,
                     .reset = 2};
    const auto span_of = [](const DrainTrace& of) {
        return spans_in(otlp_request({{}, of}, kSource, kBoot)).at(0);
    };
    EXPECT_EQ(spans_of(TraceBatch{{}, drain}), 1u);
    EXPECT_EQ(span_of(drain).at("name"), "drain");
    EXPECT_EQ(span_of(drain).at("status"), Json::object());
    EXPECT_EQ(attribute(span_of(drain), "pulsewheel.drain.connections"),
              (Json{{"intValue", "1000000"}}));
    EXPECT_EQ(attribute(span_of(drain), "pulsewheel.drain.cut_short"),
              (Json{{"boolValue", false}}));
    drain.cut_short = true;
    EXPECT_EQ(span_of(drain).at("status").at("code"), 2);
}

TEST(OtlpJson, APartialSuccessIsRead) {
    const auto rejected = [](const char* body) { return read_otlp_answer(body).rejected_spans; };
    EXPECT_EQ(rejected(R"({"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}})"), 3u);
    EXPECT_EQ(rejected(R"({"partialSuccess":{"rejectedSpans":3}})"), 3u);
    EXPECT_EQ(read_otlp_answer(R"({"partialSuccess":{"errorMessage":"x"}})").message, "x");
    for (const char* other : {"", "{}", "[]", "{\"partialSuccess\":7}", "\x0a\x02\x08\x01",
                              R"({"partialSuccess":{"rejectedSpans":-3}})", "{\"partialSucc"})
        EXPECT_EQ(rejected(other), 0u) << other;
}

TEST(OtlpEndpoints, AreUrls) {
    for (const auto& [text, url] : std::vector<std::pair<const char*, const char*>>{
             {"http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"},
             {"http://otel-collector:4318/", "http://otel-collector:4318/v1/traces"},
             {"http://[::1]:4318", "http://[::1]:4318/v1/traces"},
             {"http://a.b:1/otlp/v1/traces?x=1", "http://a.b:1/otlp/v1/traces?x=1"}}) {
        const Result<OtlpEndpoint> endpoint = parse_otlp_endpoint(text);
        ASSERT_TRUE(endpoint) << endpoint.error();
        EXPECT_EQ(endpoint->text(), url);
    }
    EXPECT_EQ(parse_otlp_endpoint("http://[::1]:4318")->host, "::1");
    for (const char* wrong :
         {"", "127.0.0.1:4318", "http://", "http://127.0.0.1", "http://:4318", "http://a:0",
          "http://a:65536", "http://a:4318x", "http://a:/v1", "http://a b:1", "http://a:1/\r\nX: y",
          "http://u@a:1", "ftp://a:1", "https://a:1", "http://::1:4318"})
        EXPECT_FALSE(parse_otlp_endpoint(wrong)) << wrong;
}

// ----------------------------------------------------------------------------- in simulated time

TEST(TraceBatchesInTime, AreFullOrOldEnough) {
    TraceBatches batches;
    EXPECT_EQ(batches.due_at(), kNever);
    batches.add(record_of(CloseReason::kicked, 1'000), 50);
    batches.add(record_of(CloseReason::kicked, 1'001), 90);
    EXPECT_EQ(batches.due_at(), 50 + kTraceBatchAgeNs) << "by the oldest";
    for (size_t more = 2; more < kTraceBatchRecords + 5; ++more)
        batches.add(record_of(CloseReason::kicked, static_cast<Nanos>(1'000 + more)), 99);
    EXPECT_EQ(batches.due_at(), 0) << "full";
    const std::vector<TraceRecord> batch = batches.take();
    ASSERT_EQ(batch.size(), kTraceBatchRecords);
    EXPECT_EQ(batch[0].facts.at, 1'000);
    EXPECT_EQ(batches.size(), 5u);
    EXPECT_EQ(batches.due_at(), 99 + kTraceBatchAgeNs);
    EXPECT_EQ(batches.take()[0].facts.at, static_cast<Nanos>(1'000 + kTraceBatchRecords));
    EXPECT_TRUE(batches.take().empty());
    for (size_t i = kTracePendingReserve; i < kTracePendingMax; ++i)
        EXPECT_TRUE(batches.add(record_of(CloseReason::kicked), 0));
    EXPECT_FALSE(batches.add(record_of(CloseReason::kicked), 0)) << "the rest is for anomalies";
    TraceRecord anomaly = record_of(CloseReason::idle_timeout);
    anomaly.anomaly = true;
    for (size_t i = 0; i < kTracePendingReserve; ++i) EXPECT_TRUE(batches.add(anomaly, 0));
    EXPECT_FALSE(batches.add(anomaly, 0)) << "bounded";
}

TEST(ExportRetriesInTime, WaitLongerEachTimeAndGiveUp) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
        ExportRetries retries(seed);
        Nanos now = 1'000 * kSecond;
        retries.begin(now);
        EXPECT_LE(retries.next_at(), now);
        Nanos expected = kTraceRetryFirstNs;
        int tries = 1;
        for (; retries.failed(now, 0); ++tries) {
            const Nanos wait = retries.next_at() - now;
            EXPECT_GE(wait, expected / 2);
            EXPECT_LE(wait, expected + expected / 2);
            expected = std::min(kTraceRetryMostNs, 2 * expected);
            now = retries.next_at();
        }
        EXPECT_GE(now - 1'000 * kSecond, kTraceRetryForNs);
        EXPECT_LE(now - 1'000 * kSecond, kTraceRetryForNs + kTraceRetryMostNs * 3 / 2);
        EXPECT_GE(tries, 6);
    }
}

TEST(ExportRetriesInTime, KeepToWhatTheEndpointAsksFor) {
    ExportRetries retries(1);
    retries.begin(0);
    EXPECT_TRUE(retries.failed(10 * kSecond, 60 * kSecond));
    EXPECT_EQ(retries.next_at(), 70 * kSecond);
    EXPECT_TRUE(retries.failed(70 * kSecond, 0));
    EXPECT_LE(retries.next_at(), 73 * kSecond);
    // Also where that request was dropped: the next one waits as well.
    EXPECT_FALSE(retries.failed(kTraceRetryForNs, 40 * kSecond));
    retries.begin(kTraceRetryForNs);
    EXPECT_EQ(retries.next_at(), kTraceRetryForNs + 40 * kSecond);
    retries.succeeded();
    EXPECT_EQ(retries.next_at(), 0);
    // Each server waits for another time.
    std::set<Nanos> waits;
    for (uint64_t seed = 0; seed < 20; ++seed) {
        ExportRetries other(seed);
        other.begin(0);
        other.failed(0, 0);
        waits.insert(other.next_at());
    }
    EXPECT_GE(waits.size(), 19u);
}

TEST(ExportRetriesInTime, RetryAfterIsSecondsOrADate) {
    const Nanos now = 1'445'412'480 * kSecond;  // Wed, 21 Oct 2015 07:28:00 GMT
    EXPECT_EQ(parse_retry_after("7", now), 7 * kSecond);
    EXPECT_EQ(parse_retry_after("0", now), 0);
    EXPECT_EQ(parse_retry_after("99999999999", now), kTraceRetryAfterMostNs);
    EXPECT_EQ(parse_retry_after("Wed, 21 Oct 2015 07:28:30 GMT", now), 30 * kSecond);
    for (const char* other : {"", "soon", "-1", "1.5", "7 ", "Wed, 21 Oct 2015 07:27:00 GMT",
                              "Wed, 21 Oct 2015 07:28:30 GMT+1", "99999999999999999999"})
        EXPECT_EQ(parse_retry_after(other, now), std::nullopt) << other;
    for (const int status : {429, 502, 503, 504})
        EXPECT_EQ(outcome_of(status), ExportOutcome::retry) << status;
    for (const int status : {301, 400, 401, 404, 413, 500, 501})
        EXPECT_EQ(outcome_of(status), ExportOutcome::refused) << status;
    for (const int status : {200, 201, 202, 204, 299})
        EXPECT_EQ(outcome_of(status), ExportOutcome::taken) << status;
}

// ----------------------------------------------------------------------------------- the thread

// Answers each request by the next of `answers`, the last again and again; "": closes without one;
// "hang": keeps the connection.
class Collector {
  public:
    explicit Collector(std::vector<std::string> answers) : answers_(std::move(answers)) {
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in any{};
        any.sin_family = AF_INET;
        any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof any;
        EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&any), size), 0);
        EXPECT_EQ(::listen(listener_, 8), 0);
        EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&any), &size), 0);
        port_ = ntohs(any.sin_port);
        thread_ = std::thread([this] { serve(); });
    }
    ~Collector() {
        ::shutdown(listener_, SHUT_RDWR);
        thread_.join();
        ::close(listener_);
    }
    OtlpEndpoint endpoint() const { return {"127.0.0.1", port_, "/v1/traces"}; }
    std::vector<std::string> requests() {
        const std::lock_guard guard(lock_);
        return requests_;
    }

  private:
    void serve() {
        size_t next = 0;
        for (int peer = 0; (peer = ::accept(listener_, nullptr, nullptr)) >= 0; ::close(peer)) {
            const std::string request = read(peer);
            {
                const std::lock_guard guard(lock_);
                requests_.push_back(request);
            }
            const std::string answer = answers_[std::min(next++, answers_.size() - 1)];
            char byte;
            if (answer == "hang")
                static_cast<void>(::recv(peer, &byte, 1, 0));
            else
                static_cast<void>(::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL));
        }
    }
    static std::string read(int peer) {
        std::string text;
        for (;;) {
            const size_t end = text.find("\r\n\r\n"), at = text.find("Content-Length: ");
            if (end != std::string::npos && at != std::string::npos &&
                text.size() >= end + 4 + std::stoul(text.substr(at + 16)))
                return text;
            char bytes[4'096];
            const ssize_t count = ::recv(peer, bytes, sizeof bytes, 0);
            if (count <= 0) return text;
            text.append(bytes, static_cast<size_t>(count));
        }
    }

    const std::vector<std::string> answers_;
    int listener_ = -1;
    uint16_t port_ = 0;
    std::thread thread_;
    std::mutex lock_;
    std::vector<std::string> requests_;
};

std::string http(const std::string& status, const std::string& fields = "",
                 const std::string& body = "{}") {
    return "HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nConnection: close\r\n" +
           fields + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

class Exporting : public ::testing::Test {
  protected:
    void start(const OtlpEndpoint& endpoint) {
        for (int reactor = 0; reactor < 2; ++reactor)
            queues_->push_back(std::make_unique<TraceQueue>(kTraceQueueSlots));
        auto exporter = TraceExporter::start(endpoint, {"jsonl://*:9000"}, queues_,
                                             [this](const std::string& line) {
                                                 const std::lock_guard guard(lock_);
                                                 lines_.push_back(line);
                                             });
        ASSERT_TRUE(exporter) << exporter.error();
        exporter_ = std::move(*exporter);
    }
    void push(size_t count, CloseReason reason = CloseReason::kicked) {
        for (size_t i = 0; i < count; ++i)
            ASSERT_TRUE((*queues_)[i % 2]->try_push(record_of(reason)));
    }
    uint64_t count(std::string_view family, std::string_view reason = "") const {
        for (const TraceCounter& each : exporter_->counters())
            if (each.family == "pulsewheel_trace_" + std::string(family) + "_total" &&
                each.reason == reason)
                return each.value;
        ADD_FAILURE() << family;
        return 0;
    }
    template <class Look>
    static bool within(Nanos time, Look look) {
        for (const Nanos until = monotonic_clock() + time; monotonic_clock() < until;) {
            if (look()) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        return look();
    }

    std::shared_ptr<TraceQueues> queues_ = std::make_shared<TraceQueues>();
    std::unique_ptr<TraceExporter> exporter_;
    std::mutex lock_;
    std::vector<std::string> lines_;
};
constexpr Nanos kLong = 60 * kSecond;

TEST_F(Exporting, SendsWhatReactorsPushAndADrainAtTheEnd) {
    Collector collector({http("200 OK")});
    start(collector.endpoint());
    push(10);
    EXPECT_TRUE(within(kLong, [&] { return count("spans_exported") == 10; }));
    push(5, CloseReason::idle_timeout);
    exporter_->finish(DrainTrace{.began_at = 1, .ended_at = 2, .connections = 3});
    EXPECT_EQ(count("spans_exported"), 10u + 2 * 5 + 1);
    const std::vector<std::string> requests = collector.requests();
    ASSERT_EQ(requests.size(), 2u);
    EXPECT_TRUE(requests[0].starts_with("POST /v1/traces HTTP/1.1\r\n"));
    EXPECT_NE(requests[0].find("Content-Type: application/json\r\n"), std::string::npos);
    const std::string body = requests[1].substr(requests[1].find("\r\n\r\n") + 4);
    const Json spans = Json::parse(body)["resourceSpans"][0]["scopeSpans"][0]["spans"];
    ASSERT_EQ(spans.size(), 11u);
    EXPECT_EQ(spans.back().at("name"), "drain");
    EXPECT_NE(spans.back().at("traceId"), std::string(32, '0'));
    EXPECT_TRUE(lines_.empty());
}

TEST_F(Exporting, TriesAgainWhatTheEndpointAsksForAndCountsPartialSuccess) {
    Collector collector({http("503 Busy"), http("429 Slow", "Retry-After: 1\r\n"),
                         http("200 OK", "", R"({"partialSuccess":{"rejectedSpans":"3"}})")});
    start(collector.endpoint());
    push(10);
    EXPECT_TRUE(within(kLong, [&] { return count("spans_exported") == 7; }));
    EXPECT_EQ(count("spans_dropped", "partial_success"), 3u);
    EXPECT_EQ(count("retries"), 2u);
    const std::vector<std::string> requests = collector.requests();
    ASSERT_EQ(requests.size(), 3u);
    EXPECT_EQ(requests[0], requests[2]) << "the same request";
    exporter_->finish(std::nullopt);
    EXPECT_EQ(lines_.size(), 1u) << "the first failure, and then one a minute";
}

TEST_F(Exporting, DropsWhatIsRefused) {
    Collector collector({http("400 Bad"), http("200 OK")});
    start(collector.endpoint());
    push(kTraceBatchRecords);  // a full batch is sent at once
    EXPECT_TRUE(
        within(kLong, [&] { return count("spans_dropped", "refused") == kTraceBatchRecords; }));
    push(1);
    exporter_->finish(std::nullopt);
    EXPECT_EQ(count("spans_exported"), 1u);
    EXPECT_EQ(count("retries"), 0u);
}

// However the endpoint is, an end comes; what was not taken is counted.
TEST_F(Exporting, EndsInTimeWhereNothingAnswers) {
    for (const char* how : {"dead", "hang", "", "503"}) {
        queues_ = std::make_shared<TraceQueues>();
        Collector collector({how == std::string("503") ? http("503 Busy", "Retry-After: 30\r\n")
                                                       : std::string(how)});
        OtlpEndpoint endpoint = collector.endpoint();
        if (how == std::string("dead")) endpoint.port = 1;
        start(endpoint);
        push(6);
        const Nanos began = monotonic_clock();
        exporter_->finish(DrainTrace{});
        EXPECT_LT(monotonic_clock() - began, kTraceFlushNs + kTraceCancelNs + 5 * kSecond) << how;
        EXPECT_EQ(count("spans_dropped", "shutdown"), 7u) << how;
        EXPECT_EQ(count("spans_exported"), 0u);
        EXPECT_GE(count("requests"), 1u) << how << ": tried at least once";
    }
}

TEST_F(Exporting, MayBeDestroyedWithoutAnEnd) {
    Collector collector({"hang"});
    start(collector.endpoint());
    push(kTraceBatchRecords);
    EXPECT_TRUE(within(kLong, [&] { return collector.requests().size() == 1; }));
    const Nanos began = monotonic_clock();
    exporter_.reset();
    EXPECT_LT(monotonic_clock() - began, kTraceCancelNs + 5 * kSecond);
}

// A lookup cannot be cancelled: the thread is left behind, and what it had is counted.
TEST_F(Exporting, EndsInTimeWhereANameIsLookedUp) {
    start({std::string(kSlowName), 4'318, "/v1/traces"});
    push(6);
    EXPECT_TRUE(within(kLong, [] { return lookup_began.load(); }));
    push(3);
    const Nanos began = monotonic_clock();
    exporter_->finish(DrainTrace{});
    EXPECT_LT(monotonic_clock() - began, kTraceFlushNs + kTraceCancelNs + 5 * kSecond);
    EXPECT_EQ(count("spans_dropped", "shutdown"), 10u);
    lookup_may_end = true;
    exporter_->finish(std::nullopt);
    exporter_.reset();
    EXPECT_TRUE(within(kLong, [&] { return queues_.use_count() == 1; })) << "it ends by itself";
}

// Its status is known: it was taken, and to send it again would double it.
TEST_F(Exporting, TakesAnAnswerThatIsTooLong) {
    Collector collector({http("200 OK", "", std::string(4 * kTraceAnswerBytesMax, 'x'))});
    start(collector.endpoint());
    push(5);
    EXPECT_TRUE(
        within(kLong, [&] { return count("requests") >= 1 && count("spans_exported") > 0; }));
    exporter_->finish(std::nullopt);
    EXPECT_EQ(count("spans_exported"), 5u);
    EXPECT_EQ(count("failures"), 0u);
    EXPECT_EQ(collector.requests().size(), 1u);
}

}  // namespace
}  // namespace pulse::test
