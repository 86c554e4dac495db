// One function an object of the schema.
#include "tools/pulseload/report/json_report.h"

#include <utility>

#include "proto/printable.h"
#include "tools/pulseload/report/text_file.h"
#include "tools/pulseload/run/derived.h"

namespace pulse::load {
namespace {

using Json = nlohmann::ordered_json;

int64_t to_us(Nanos duration) { return duration / static_cast<Nanos>(Histogram::kUnitNanos); }

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json histogram_json(const Histogram& histogram) {
    if (histogram.count() == 0) return {{"count", 0}};
    Json json = {{"count", histogram.count()},
                 {"min_us", to_us(histogram.min())},
                 {"mean_us", histogram.mean() / static_cast<double>(Histogram::kUnitNanos)}};
    constexpr std::pair<const char*, double> kPercentiles[] = {
        {"p50_us", 50}, {"p75_us", 75},     {"p90_us", 90},       {"p95_us", 95},
        {"p99_us", 99}, {"p99_9_us", 99.9}, {"p99_99_us", 99.99}, {"p99_999_us", 99.999}};
    for (const auto& [name, percent] : kPercentiles)
        json[name] = to_us(histogram.percentile(percent));
    json["max_us"] = to_us(histogram.max());
    return json;
}

template <class Counts>
Json named_counts(const Counts& counts) {
    Json json = Json::object();
    for (const auto& [name, count] : counts) json[std::string(name)] = count;
    return json;
}

Json counts_json(const Counts& counts) {
    Json json = Json::object();
    counts.visit([&](std::string_view name, uint64_t value) { json[std::string(name)] = value; });
    return json;
}

Json run_json(const RunResult& result) {
    Json settings = Json::object();
    for (const auto& [name, value] : result.settings) settings[name] = value;
    return {{"version", result.version},
            {"command_line", result.command_line},
            {"started_at", result.started_at},
            {"machine", result.machine},
            {"settings", std::move(settings)},
            {"target", printable(result.target)},
            {"foreign", result.foreign},
            {"cut_short", result.cut_short},
            {"cut_short_by", result.cut_short ? Json(result.cut_short_by) : Json()},
            {"target_gone_s", result.target_gone_s > 0 ? Json(result.target_gone_s) : Json()},
            {"wanted", result.wanted},
            {"connected_s", result.connected_s > 0 ? Json(result.connected_s) : Json()},
            {"held_s", result.held_s},
            {"ended_s", result.ended_s},
            {"unanswered_max_us", to_us(result.unanswered_max)},
            {"protocols", named_counts(result.protocols)},
            {"behaviours", named_counts(result.behaviours)}};
}

Json environment_json(const RunResult& result) {
    Json json = Json::object();
    for (const auto& [name, value] : result.environment) json[name] = value;
    return json;
}

Json server_identity_json(const RunResult& result) {
    if (!result.server) return nullptr;
    const ServerIdentity& server = *result.server;
    Json settings = Json::object();
    for (const auto& [name, value] : server.settings) settings[name] = value;
    return {{"version", server.version},
            {"backend", server.backend},
            {"pid", server.pid},
            {"started_at", server.started_at},
            {"settings", std::move(settings)}};
}

Json rates_json(const RunResult& result) {
    const std::optional<ConnectionOutcome> found = connection_outcome(result);
    return {{"connects_per_s", or_null(connect_rate(result))},
            {"heartbeats_per_s", or_null(heartbeat_rate(result))},
            {"lost_connections", found ? Json(found->lost) : Json()}};
}

Json detection_json(const Detection& detection) {
    const auto row_json = [](const Detection::Row& row) {
        return Json{{"silenced", row.silenced},
                    {"evicted", row.evicted},
                    {"early", row.early},
                    {"missed", row.missed},
                    {"waiting", row.waiting},
                    {"late_by", histogram_json(row.late_by)},
                    {"early_by", histogram_json(row.early_by)}};
    };
    const bool judged = detection.timeout != 0;
    Json rows = Json::object();
    for (size_t at = 0; at < kBehaviours; ++at) {
        const Detection::Row& row = detection.rows[at];
        if (row.silenced > 0)
            rows[std::string(name_of(static_cast<Behaviour>(at)))] = row_json(row);
    }
    Json codes = Json::object();
    for (const auto& [code, count] : detection.codes) codes[std::to_string(code)] = count;
    return {{"judged", judged},
            {"interval_ms", detection.interval / kMillisecond},
            {"timeout_ms", detection.timeout / kMillisecond},
            {"announced", detection.announced},
            {"tolerance_ms", detection.tolerance / kMillisecond},
            {"false_evictions", judged ? Json(detection.false_evictions) : Json()},
            {"cut_off", detection.cut_off},
            {"own_silences", detection.own_silences},
            {"all", row_json(silenced_peers(detection))},
            {"by_behaviour", std::move(rows)},
            {"close_codes", std::move(codes)},
            {"server_closes",
             detection.server_account ? named_counts(detection.server_closes) : Json()}};
}

Json tls_json(const RunResult& result) {
    if (!result.tls) return nullptr;
    return {{"full_per_s", or_null(tls_full_rate(result))},
            {"resumed_per_s", or_null(tls_resumed_rate(result))},
            {"suites", named_counts(result.tls->suites)},
            {"failures", named_counts(result.tls->failures)}};
}

Json storms_json(const std::vector<StormResult>& storms) {
    Json list = Json::array();
    for (const StormResult& storm : storms) {
        list.push_back({{"at_s", storm.at_s},
                        {"what", storm.what},
                        {"killed", storm.killed},
                        {"recovered", storm.recovered},
                        {"recovery_s", storm.recovery_s > 0 ? Json(storm.recovery_s) : Json()},
                        {"peak_accepts_per_s", storm.peak_accepts_per_s},
                        {"refusals", storm.refusals},
                        {"tries", storm.tries},
                        {"tries_max", storm.tries_max}});
    }
    return list;
}

Json generator_json(const RunResult& result) {
    const Generator& generator = result.generator;
    return {{"threads", generator.threads},
            {"cores", generator.cores},
            {"cpu_s", generator.cpu_seconds},
            {"cores_used_in_hold", or_null(generator_cores(result))},
            {"busiest_thread_share", generator.busiest_thread},
            {"intended", generator.intended},
            {"made", generator.made},
            {"gap_max_us", to_us(generator.gap_max)},
            {"pings_untimed", generator.untimed},
            {"rss_bytes", generator.rss_bytes > 0 ? Json(generator.rss_bytes) : Json()},
            {"rss_empty_bytes", generator.rss_empty_bytes},
            {"rss_bytes_per_connection", or_null(generator_rss_per_connection(result))},
            {"lateness", histogram_json(generator.lateness)}};
}

Json server_json(const RunResult& result) {
    const std::optional<ServerCost> cost = server_cost(result);
    if (!cost) return nullptr;
    const ServerReading& server = cost->at_the_end;
    return {{"cores_used_in_hold", cost->cores},
            {"open", cost->open},
            {"rss_bytes", server.rss_bytes},
            {"rss_empty_bytes", server.rss_empty_bytes},
            {"kernel_bytes", server.kernel_bytes ? Json(*server.kernel_bytes) : Json()},
            {"rss_bytes_per_connection", or_null(rss_per_connection(server, cost->open))},
            {"kernel_bytes_per_connection", or_null(kernel_per_connection(server, cost->open))}};
}

Json sample_json(const Sample& sample) {
    Json latency = Json::object();
    for (size_t at = 0; at < kTimed; ++at) {
        const LatencyPoint& point = sample.latency[at];
        if (point.count == 0) continue;
        latency[std::string(name_of(static_cast<Timed>(at)))] = {
            {"count", point.count},          {"p50_us", to_us(point.p50)},
            {"p90_us", to_us(point.p90)},    {"p99_us", to_us(point.p99)},
            {"p99_9_us", to_us(point.p999)}, {"max_us", to_us(point.max)}};
    }
    Json json = {{"at_s", sample.at_s},
                 {"phase", name_of(sample.phase)},
                 {"counts", counts_json(sample.counts)},
                 {"latency", std::move(latency)},
                 {"lateness_max_us", to_us(sample.lateness_max)},
                 {"generator_cpu_s", sample.generator_cpu_seconds},
                 {"server", nullptr}};
    if (sample.server.present) {
        json["server"] = {{"cpu_s", sample.server.cpu_seconds},
                          {"rss_bytes", sample.server.rss_bytes},
                          {"kernel_bytes", nullptr}};
        if (sample.server.kernel_bytes)
            json["server"]["kernel_bytes"] = *sample.server.kernel_bytes;
    }
    return json;
}

}  // namespace

Json to_json(const RunResult& result, const Verdict& verdict,
             const std::vector<ObjectiveResult>& objectives) {
    Json judged = Json::array();
    for (const ObjectiveResult& one : objectives) {
        judged.push_back({{"objective", one.objective},
                          {"met", one.met},
                          {"measured", one.why.empty() ? Json(one.measured) : Json()},
                          {"why_not_measured", one.why.empty() ? Json() : Json(one.why)}});
    }
    Json latency = Json::object();
    Json hold_latency = Json::object();
    for (size_t at = 0; at < kTimed; ++at) {
        const std::string name(name_of(static_cast<Timed>(at)));
        latency[name] = histogram_json(result.latency[at]);
        hold_latency[name] = histogram_json(result.hold_latency[at]);
    }
    Json samples = Json::array();
    for (const Sample& sample : result.samples) samples.push_back(sample_json(sample));
    return {{"schema", kJsonSchema},
            {"run", run_json(result)},
            {"environment", environment_json(result)},
            {"server_identity", server_identity_json(result)},
            {"verdict",
             {{"valid", verdict.valid()},
              {"state", name_of(verdict.state)},
              {"evidence", verdict.evidence},
              {"remedies", verdict.remedies}}},
            {"objectives", std::move(judged)},
            {"counts", counts_json(result.counts)},
            {"rates", rates_json(result)},
            {"latency", std::move(latency)},
            {"hold_latency", std::move(hold_latency)},
            {"detection", detection_json(result.detection)},
            {"tls", tls_json(result)},
            {"storms", storms_json(result.storms)},
            {"generator", generator_json(result)},
            {"server", server_json(result)},
            {"errors", result.errors},
            {"samples", std::move(samples)}};
}

std::string dumped(const nlohmann::ordered_json& json) {
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string json_text(const RunResult& result, const Verdict& verdict,
                      const std::vector<ObjectiveResult>& objectives) {
    return dumped(to_json(result, verdict, objectives));
}

Result<void> write_json(const std::string& path, const RunResult& result, const Verdict& verdict,
                        const std::vector<ObjectiveResult>& objectives) {
    return write_file(path, json_text(result, verdict, objectives));
}

}  // namespace pulse::load
