// A run of pulseload as one might be: 120 s, ramp, hold and drain, all behaviours, two storms, a
// server that was watched. For tests of what reports a run, and for looking at the page.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/random.h"
#include "tools/pulseload/run/result.h"

namespace pulse::load::test {

inline constexpr uint32_t kFixtureSeconds = 120;
inline constexpr uint32_t kFixtureRampSeconds = 12;
inline constexpr uint32_t kFixtureWanted = 100'000;

// Log-normal: most near `median`, a long tail.
inline Nanos draw_latency(Random& random, double median_us, double spread) {
    double normal = -6;
    for (int term = 0; term < 12; ++term) normal += random.unit();
    return static_cast<Nanos>(1'000 * median_us * std::exp(spread * normal));
}

// One second's latencies into the run's, and in short into the sample.
inline void fill_latencies(RunResult& run, Sample& sample, Random& random, double stress) {
    const auto add = [&](Timed intended, Timed service, int values, double median_us) {
        Histogram second;
        Histogram served;
        for (int value = 0; value < values; ++value) {
            const Nanos took = draw_latency(random, median_us * stress, 0.55);
            const Nanos late = draw_latency(random, 25, 0.5);
            second.record(took + late);
            served.record(took);
        }
        sample.latency[static_cast<size_t>(intended)] = point_of(second);
        sample.latency[static_cast<size_t>(service)] = point_of(served);
        run.latency[static_cast<size_t>(intended)].merge(second);
        run.latency[static_cast<size_t>(service)].merge(served);
    };
    if (sample.phase == Phase::ramp || stress > 2)
        add(Timed::connect, Timed::connect_service, 400, 640);
    if (sample.phase == Phase::drain) return;
    add(Timed::heartbeat, Timed::heartbeat_service, 500, 310);
    add(Timed::message, Timed::message_service, 100, 420);
}

inline void fill_samples(RunResult& run) {
    Random random(7);
    Counts counts;
    double server_cpu = 0.4;
    double generator_cpu = 0.2;
    for (uint32_t second = 1; second <= kFixtureSeconds; ++second) {
        const bool ramp = second <= kFixtureRampSeconds;
        const bool storm = second == 45 || second == 46 || second == 85;
        const bool recovering = second > 45 && second < 54;
        Sample sample;
        sample.at_s = second;
        sample.phase = ramp ? Phase::ramp : second > 117 ? Phase::drain : Phase::hold;
        const uint64_t target = ramp ? kFixtureWanted * second / kFixtureRampSeconds
                                : sample.phase == Phase::drain
                                    ? kFixtureWanted * (kFixtureSeconds - second) / 3
                                : recovering   ? 50'000 + (second - 45) * 6'000u
                                : second == 45 ? 50'000
                                : second < 60  ? kFixtureWanted
                                               : kFixtureWanted - 920;
        if (target > counts.open) {
            counts.connects += target - counts.open;
            counts.connected += target - counts.open;
        } else {
            const uint64_t gone = counts.open - target;
            if (second == 60) {
                counts.server_closes += gone;
            } else {
                counts.client_closes += gone;
            }
        }
        counts.open = target;
        counts.connecting = ramp || recovering ? 350 + random.below(100) : 0;
        counts.pings += target / 30 + random.below(120);
        counts.pongs = counts.pings - random.below(6);
        counts.messages += target / 200;
        counts.messages_returned = counts.messages;
        counts.probes += second > 40 ? 30 : 0;
        counts.probes_answered += second > 40 ? 10 : 0;
        counts.bytes_sent += target / 30 * 14;
        counts.bytes_received += target / 30 * 10;
        if (recovering) counts.refusals += 800;
        sample.counts = counts;
        fill_latencies(run, sample, random, storm ? 9 : recovering ? 2.6 : ramp ? 1.6 : 1);
        sample.lateness_max = draw_latency(random, storm ? 2'400 : 700, 0.6);
        generator_cpu += storm || recovering || ramp ? 0.9 : 0.38 + 0.04 * random.unit();
        server_cpu += storm || recovering || ramp ? 0.8 : 0.27 + 0.03 * random.unit();
        sample.generator_cpu_seconds = generator_cpu;
        sample.server = {.present = true,
                         .cpu_seconds = server_cpu,
                         .rss_bytes = 6'200'000 + target * 79,
                         .rss_empty_bytes = 6'200'000,
                         .kernel_bytes = target * 1'480 + random.below(900)};
        run.samples.push_back(sample);
    }
    run.counts = counts;
}

inline void fill_detection(RunResult& run) {
    Random random(11);
    Detection& detection = run.detection;
    detection.interval = 10 * kSecond;
    detection.timeout = 30 * kSecond;
    detection.announced = true;
    detection.tolerance = 250 * kMillisecond;
    const auto row = [&](Behaviour behaviour, uint64_t silenced, uint64_t waiting) {
        Detection::Row& filled = detection.rows[static_cast<size_t>(behaviour)];
        filled.silenced = silenced;
        filled.waiting = waiting;
        filled.evicted = silenced - waiting;
        for (uint64_t peer = 0; peer < filled.evicted; ++peer)
            filled.late_by.record(draw_latency(random, 4'600, 0.45));
    };
    row(Behaviour::mute, 600, 0);
    row(Behaviour::vanish, 300, 20);
    row(Behaviour::slowloris, 40, 0);
    detection.codes = {{4003, 880}, {4002, 40}, {1002, 120}, {4006, 75}, {0, 3}};
    detection.server_account = true;
    detection.server_closes = {{"idle_timeout", 880},
                               {"handshake_timeout", 40},
                               {"protocol_error", 120},
                               {"kicked", 75},
                               {"peer_reset", 50'003}};
}

inline RunResult plausible_result() {
    RunResult run;
    run.version = "0.1.0";
    run.command_line =
        "pulseload --target ws://127.0.0.1:9000 --connections 100k --connect-rate 9k/s "
        "--heartbeat-interval 30s --duration 2m --mix ws=70,jsonl=20,tcp=10 --behave "
        "beat=94,mute=0.6,vanish=0.3 --storm kill=50%@45s,reconnect=full-jitter --server-pid 4711";
    run.started_at = "2026-11-22T23:50:00Z";
    run.machine = "2 cores, 23 GiB, Linux 6.18.5";
    run.settings = {{"targets", "ws://127.0.0.1:9000"},
                    {"connections", "100,000 from 8 addresses"},
                    {"connect rate", "9k/s"},
                    {"heartbeat interval", "30s"},
                    {"duration", "2m"},
                    {"backend", "epoll"},
                    {"seed", "1"}};
    run.environment = {{"CPU", "AMD EPYC"},
                       {"kernel", "Linux 6.18.5 x86_64"},
                       {"load before the start", "0.10 0.22 0.31 1/145 24527"},
                       {"git revision", "c6716b94d0a1"}};
    run.server = ServerIdentity{.version = "0.1.0",
                                .backend = "io_uring",
                                .pid = 4711,
                                .started_at = "2026-11-22T23:48:12.345Z",
                                .settings = {{"heartbeat-timeout", "30s"}, {"reactors", "6"}}};
    run.wanted = kFixtureWanted;
    run.target = "ws://127.0.0.1:9000";
    run.connected_s = kFixtureRampSeconds;
    run.connected_all = kFixtureWanted;
    run.held_s = 105;
    run.ended_s = kFixtureSeconds;
    fill_samples(run);
    fill_detection(run);
    run.ends = ConnectionOutcome{.there = 99'080, .evicted = 920, .by_kind = 0, .lost = 0};
    run.protocols = {{"ws", 70'000}, {"jsonl", 20'000}, {"tcp", 10'000}};
    const uint64_t shares[kBehaviours] = {93'600, 2'000, 600, 300, 1'000, 800, 1'500, 40, 60, 100};
    for (size_t at = 0; at < kBehaviours; ++at)
        run.behaviours.emplace_back(name_of(static_cast<Behaviour>(at)), shares[at]);
    run.storms = {
        {45, "kill=50%@45s,reconnect=full-jitter", 50'000, 49'998, 8.4, 11'200, 6'400, 57'300, 5},
        {85, "kill=1%@85s,reconnect=none", 1'000, 0, 0, 0, 0, 0, 0}};
    Random random(3);
    for (int value = 0; value < 60'000; ++value)
        run.generator.lateness.record(draw_latency(random, 25, 0.9));
    run.generator.threads = 6;
    run.generator.cores = 2;
    run.generator.cpu_seconds = 62;
    run.generator.busiest_thread = 0.21;
    run.generator.intended = 498'112;
    run.generator.made = 498'104;
    run.errors = {"connect: Connection refused (12 times)"};
    run.files = {{"page", "build/run/report.html"}, {"JSON", "build/run/report.json"}};
    return run;
}

}  // namespace pulse::load::test
