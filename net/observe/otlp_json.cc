// Spans, their events and attributes, as nlohmann's objects, and as one text.
#include "net/observe/otlp_json.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/close_reason.h"
#include "core/random.h"
#include "core/sessions/explain.h"
#include "core/sessions/timeline.h"
#include "net/io/address.h"
#include "net/loop/public_name.h"
#include "net/loop/trace_table.h"
#include "net/observe/limits.h"
#include "net/protocols/listen_uri.h"
#include "net/protocols/protocol.h"

namespace pulse {
namespace {

using Json = nlohmann::ordered_json;

// The version of OpenTelemetry's semantic conventions whose names these are.
constexpr std::string_view kSchemaUrl = "https://opentelemetry.io/schemas/1.27.0";
enum SpanKind { kInternal = 1, kServer = 2 };
constexpr int kStatusError = 2;
// Span.flags: those of the W3C in the lowest byte; whether the parent is remote is known, and is.
constexpr uint32_t kSampled = 1, kHasIsRemote = 0x100, kIsRemote = 0x200;

template <size_t kBytes>
std::string hex(const std::array<uint8_t, kBytes>& id) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (const uint8_t byte : id) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

class Attributes {
  public:
    Attributes& text(std::string_view key, std::string_view value) {
        return add(key, {{"stringValue", value}});
    }
    Attributes& number(std::string_view key, uint64_t value) {
        return add(key, {{"intValue", std::to_string(value)}});
    }
    Attributes& boolean(std::string_view key, bool value) {
        return add(key, {{"boolValue", value}});
    }
    Json take() { return std::move(list_); }

  private:
    Attributes& add(std::string_view key, Json value) {
        list_.push_back({{"key", key}, {"value", std::move(value)}});
        return *this;
    }
    Json list_ = Json::array();
};

struct Event {
    Nanos at = 0;
    std::string name;
    uint32_t probe = 0;  // 0: it is not about one
};

// One span; `events` in the order of time, and none outside of it.
class SpanWriter {
  public:
    explicit SpanWriter(Nanos wall_offset) : wall_offset_(wall_offset) {}

    Json span(const SpanIds& ids, std::string_view name, SpanKind kind, Nanos start, Nanos end,
              bool parent_remote) const {
        Json span = {{"traceId", hex(ids.trace)}, {"spanId", hex(ids.span)}};
        if (is_present(ids.parent)) span["parentSpanId"] = hex(ids.parent);
        span["flags"] = kSampled | kHasIsRemote | (parent_remote ? kIsRemote : 0);
        span["name"] = name;
        span["kind"] = static_cast<int>(kind);
        span["startTimeUnixNano"] = unix_nano(start);
        span["endTimeUnixNano"] = unix_nano(std::max(start, end));
        return span;
    }
    Json events(std::vector<Event> list, Nanos start, Nanos end) const {
        for (Event& event : list) event.at = std::clamp(event.at, start, std::max(start, end));
        std::ranges::stable_sort(list, {}, &Event::at);
        Json events = Json::array();
        for (const Event& event : list) {
            events.push_back({{"timeUnixNano", unix_nano(event.at)}, {"name", event.name}});
            if (event.probe != 0)
                events.back()["attributes"] =
                    Attributes().number("pulsewheel.probe", event.probe).take();
        }
        return events;
    }

  private:
    std::string unix_nano(Nanos at) const { return std::to_string(at + wall_offset_); }
    Nanos wall_offset_;
};

// False: the ledger had forgotten how it ended, and the facts are few, and of the close.
bool is_remembered(const TraceRecord& record) {
    return !record.refused && record.facts.ended_at != 0;
}

bool is_eviction(const TraceRecord& record) {
    if (!is_remembered(record)) return false;
    const CloseReason reason = record.facts.reason;
    return reason == CloseReason::idle_timeout || reason == CloseReason::slow_upload;
}

Nanos start_of(const TraceRecord& record) {
    return record.accepted_at != 0 ? record.accepted_at : record.facts.at;
}

// network.protocol.name, in lower case.
std::string_view protocol_name(uint8_t protocol) {
    const Protocol& row = *kProtocols[protocol];
    if (row.framing == Framing::websocket) return "websocket";
    return row.framing == Framing::lines ? "jsonl" : row.framing == Framing::stream ? "tcp" : "";
}

std::string address_text(const SocketAddress& address) {
    std::string text = address.text();
    text.resize(text.rfind(':'));
    if (text.starts_with('[')) text = text.substr(1, text.size() - 2);
    return text;
}

void add_peers(Attributes& attributes, const Evidence& facts) {
    const PeerAddress& socket =
        facts.transport.peer.present() || facts.proxied ? facts.transport.peer : facts.peer;
    if (socket.present()) {
        attributes.text("network.transport", "tcp")
            .text("network.type", socket.family == 4 ? "ipv4" : "ipv6")
            .text("network.peer.address", address_text(socket_address(socket)))
            .number("network.peer.port", socket.port);
    }
    if (!facts.peer.present()) return;
    attributes.text("client.address", address_text(socket_address(facts.peer)))
        .number("client.port", facts.peer.port);
}

void add_listener(Attributes& attributes, const Evidence& facts, const TraceSource& source) {
    if (facts.listener >= source.listeners.size()) return;
    const std::string& text = source.listeners[facts.listener];
    if (const Result<ListenAddress> listener = parse_listen_uri(text);
        listener && listener->address.port() != 0) {
        attributes.number("server.port", listener->address.port());
    }
    attributes.text("pulsewheel.listener", text);
}

std::string explanation(const Evidence& facts, const TraceSource& source) {
    const FixedText<64> name = public_name(facts.reactor, facts.id);
    const std::string peer = facts.peer.present() ? socket_address(facts.peer).text() : "";
    const bool known = facts.listener < source.listeners.size();
    return explain_end(
        facts, {.name = name.view(),
                .peer = peer,
                .protocol = kProtocols[facts.protocol]->title,
                .listener =
                    known ? std::string_view(source.listeners[facts.listener]) : std::string_view(),
                .error = facts.error != 0 ? std::strerror(facts.error) : ""});
}

std::string_view cause_of(const TraceRecord& record) {
    if (!record.sampled) return "anomaly";
    return record.parent_remote ? "traceparent" : "ratio";
}

void add_counts(Attributes& attributes, const TraceRecord& record) {
    if (record.sampled) {
        attributes.number("pulsewheel.messages", record.messages)
            .number("pulsewheel.heartbeats", record.heartbeats)
            .number("pulsewheel.probes", record.probes)
            .number("pulsewheel.probe_answers", record.probe_answers);
    }
    const TransportFacts& transport = record.facts.transport;
    if (!transport.known) return;
    attributes.number("pulsewheel.received_bytes", transport.received_bytes)
        .number("pulsewheel.acknowledged_bytes", transport.acked_bytes)
        .number("pulsewheel.retransmitted_segments", transport.retransmitted_segments);
}

Json connection_attributes(const TraceRecord& record, const TraceSource& source) {
    const Evidence& facts = record.facts;
    const CloseReasonInfo& reason = describe(facts.reason);
    Attributes attributes;
    add_peers(attributes, facts);
    if (const std::string_view name = protocol_name(facts.protocol); !name.empty())
        attributes.text("network.protocol.name", name);
    add_listener(attributes, facts, source);
    if (is_anomaly(facts.reason)) attributes.text("error.type", reason.name);
    if (!record.refused)
        attributes.text("pulsewheel.connection", public_name(facts.reactor, facts.id).view());
    attributes.text("pulsewheel.traced_for", cause_of(record))
        .text("pulsewheel.close.reason", reason.name)
        .text("pulsewheel.close.party", name_of(reason.party))
        .boolean("pulsewheel.refused", record.refused);
    const bool decided = is_remembered(record);
    if (decided)
        attributes.number(
            "pulsewheel.close.took_ms",
            static_cast<uint64_t>(std::max<Nanos>(0, record.ended_at - facts.at) / kMillisecond));
    if (!facts.detail.empty()) attributes.text("pulsewheel.close.detail", facts.detail.view());
    if (facts.peer_code != 0) attributes.number("pulsewheel.close.peer_code", facts.peer_code);
    if (decided && facts.closing())
        attributes.text("pulsewheel.close.explanation", explanation(facts, source));
    add_counts(attributes, record);
    return attributes.take();
}

Json connection_span(const TraceRecord& record, const TraceSource& source,
                     const SpanWriter& writer) {
    const Nanos start = start_of(record);
    Json span = writer.span(record.ids, "connection", kServer, start, record.ended_at,
                            record.parent_remote);
    span["attributes"] = connection_attributes(record, source);
    std::vector<Event> events;
    if (record.upgraded_at != 0) events.push_back({record.upgraded_at, "upgraded"});
    if (record.hello_at != 0) events.push_back({record.hello_at, "hello"});
    if (is_remembered(record)) events.push_back({record.facts.at, "its end was decided"});
    span["events"] = writer.events(std::move(events), start, record.ended_at);
    span["status"] = Json::object();
    if (is_anomaly(record.facts.reason)) {
        span["status"] = {{"message", describe(record.facts.reason).text}, {"code", kStatusError}};
    }
    return span;
}

// Probes left one interval after the other, the last at probed_at. Each was missed when the next
// was due, and the last one at the end.
void add_probes(std::vector<Event>& events, const Evidence& facts) {
    const uint32_t sent = facts.probes_sent;
    const uint32_t shown = std::min<uint32_t>(sent, kTraceEventsMax / 2);
    for (uint32_t probe = sent - shown + 1; probe <= sent; ++probe) {
        const Nanos left_at = facts.probed_at - Nanos{sent - probe} * facts.interval;
        const Nanos missed_at = probe == sent ? facts.at : left_at + facts.interval;
        events.push_back({left_at, "probe sent", probe});
        events.push_back({missed_at, "probe missed", probe});
    }
}

// A child of the connection's, whose id follows from its parent's.
SpanIds eviction_ids(const SpanIds& connection) {
    uint64_t number = 0;
    for (const uint8_t byte : connection.span) number = number << 8 | byte;
    return {connection.trace, span_id_of(mix64(number)), connection.span};
}

Json eviction_span(const TraceRecord& record, const SpanWriter& writer) {
    const Evidence& facts = record.facts;
    std::vector<Event> events;
    // What the ledger's timeline has of the silence; its probes are added one by one.
    for (const Moment& moment : timeline(facts)) {
        const bool is_last = moment.what == "last byte in" || moment.what == "last byte out" ||
                             moment.what == "last acknowledged" ||
                             moment.what == "last proof of life";
        if (is_last) events.push_back({moment.at, std::string(moment.what)});
    }
    add_probes(events, facts);
    const Nanos began = std::max(start_of(record), facts.heard_at);
    Json span =
        writer.span(eviction_ids(record.ids), "eviction", kInternal, began, facts.at, false);
    span["attributes"] =
        Attributes()
            .text("error.type", describe(facts.reason).name)
            .number("pulsewheel.heartbeat.interval_ms",
                    static_cast<uint64_t>(facts.interval / kMillisecond))
            .number("pulsewheel.heartbeat.timeout_ms",
                    static_cast<uint64_t>(facts.timeout / kMillisecond))
            .number("pulsewheel.eviction.delay_us",
                    static_cast<uint64_t>(std::max<Nanos>(0, facts.at - facts.deadline) / 1'000))
            .number("pulsewheel.probes", facts.probes_sent)
            .take();
    span["events"] = writer.events(std::move(events), began, facts.at);
    span["status"] = {{"message", describe(facts.reason).text}, {"code", kStatusError}};
    return span;
}

Json drain_span(const DrainTrace& drain, const SpanWriter& writer) {
    Json span = writer.span(drain.ids, "drain", kInternal, drain.began_at, drain.ended_at, false);
    span["attributes"] =
        Attributes()
            .number("pulsewheel.drain.connections", drain.connections)
            .number("pulsewheel.drain.reset", drain.reset)
            .number("pulsewheel.drain.goodbyes_per_second", drain.goodbyes_per_second)
            .boolean("pulsewheel.drain.cut_short", drain.cut_short)
            .boolean("pulsewheel.drain.stopped_hard", drain.stopped_hard)
            .take();
    span["events"] = Json::array();
    span["status"] = Json::object();
    if (drain.cut_short || drain.stopped_hard)
        span["status"] = {{"message", describe(CloseReason::hard_stop).text},
                          {"code", kStatusError}};
    return span;
}

Json resource(const TraceSource& source) {
    return {{"attributes", Attributes()
                               .text("service.name", "pulsewheel")
                               .text("service.version", source.version)
                               .text("service.instance.id", source.instance)
                               .text("host.name", source.host)
                               .number("process.pid", static_cast<uint64_t>(source.pid))
                               .take()}};
}

// What a peer sent may be anything; what is not UTF-8 is replaced.
std::string dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

size_t spans_of(const TraceRecord& record) { return is_eviction(record) ? 2 : 1; }

size_t spans_of(const TraceBatch& batch) {
    size_t spans = batch.drain ? 1 : 0;
    for (const TraceRecord& record : batch.records) spans += spans_of(record);
    return spans;
}

std::string otlp_request(const TraceBatch& batch, const TraceSource& source, Nanos wall_offset) {
    const SpanWriter writer(wall_offset);
    std::string text;
    // Pages that are not written are not backed.
    text.reserve((batch.records.size() + 1) * kTraceRecordJsonBytesMax);
    text.append(R"({"resourceSpans":[{"resource":)").append(dump(resource(source)));
    text.append(R"(,"scopeSpans":[{"scope":)");
    text.append(dump({{"name", "pulsewheel"}, {"version", source.version}}));
    text.append(R"(,"spans":[)");
    // Each as text before the next is made: as objects they take several times as much.
    auto add = [&, first = true](const Json& span) mutable {
        if (!std::exchange(first, false)) text.push_back(',');
        text.append(dump(span));
    };
    for (const TraceRecord& record : batch.records) {
        add(connection_span(record, source, writer));
        if (is_eviction(record)) add(eviction_span(record, writer));
    }
    if (batch.drain) add(drain_span(*batch.drain, writer));
    const std::string schema = dump(kSchemaUrl);
    text.append(R"(],"schemaUrl":)").append(schema).append(R"(}],"schemaUrl":)").append(schema);
    text.append("}]}");
    return text;
}

OtlpPartialSuccess read_otlp_answer(std::string_view body) {
    OtlpPartialSuccess partial;
    const Json answer = Json::parse(body, nullptr, false);
    if (!answer.is_object() || !answer.contains("partialSuccess")) return partial;
    const Json& found = answer["partialSuccess"];
    if (!found.is_object()) return partial;
    const Json rejected = found.value("rejectedSpans", Json());
    // Numbers of 64 bits are strings in this encoding, and readers take both.
    if (rejected.is_number_unsigned()) partial.rejected_spans = rejected.get<uint64_t>();
    if (rejected.is_string())
        partial.rejected_spans =
            std::strtoull(rejected.get_ref<const std::string&>().c_str(), nullptr, 10);
    if (const Json message = found.value("errorMessage", Json()); message.is_string())
        partial.message = message.get<std::string>();
    return partial;
}

}  // namespace pulse
