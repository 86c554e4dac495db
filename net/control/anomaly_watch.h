// The thread that watches the server's own series for what is not normal (core/anomaly/), and says
// of each anomaly how far from normal, since when, and where it comes from.
//
//     reactors <-- StatsJob each, every --anomaly-interval -- watch --> detector
//     an anomaly begins:  reactors <-- HoldersJob each -- watch
//                         a line for the log; report(); a step of overload (--on-anomaly degrade)
//
// Reactors do nothing for it but what they do for a scrape. While it is off it asks nothing; it has
// a thread from the first time that it is on until stop(). Memory: memory_bytes().
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/anomaly/detector.h"
#include "core/overload.h"
#include "core/result.h"
#include "net/control/anomaly_jobs.h"
#include "net/control/anomaly_report.h"
#include "net/control/anomaly_sampler.h"
#include "net/control/anomaly_steps.h"
#include "net/control/errands.h"

namespace pulse {

class AnomalyWatch {
  public:
    struct Options {
        bool on = false;
        bool degrades = false;
        Nanos interval = 0;
        OverloadRules overload{};  // what `degrades` may enter, and how slowly
        friend bool operator==(const Options& a, const Options& b) {
            return a.on == b.on && a.degrades == b.degrades && a.interval == b.interval &&
                   a.overload.most == b.overload.most && a.overload.span == b.overload.span;
        }
    };
    // Called on the watch's thread; they must not wait.
    struct Hooks {
        std::function<void(const std::string& line)> log;
        std::function<void(OverloadStep step)> degrade;
        std::function<bool()> is_draining;  // what happens then is no anomaly
    };
    // `reactors` outlives this.
    AnomalyWatch(Reactors& reactors, std::vector<std::string> listeners, Hooks hooks);
    // Waits for the thread.
    ~AnomalyWatch();
    AnomalyWatch(const AnomalyWatch&) = delete;
    AnomalyWatch& operator=(const AnomalyWatch&) = delete;

    // One thread. From now on; a baseline that was learned is kept unless the interval is another.
    // The error is that of a thread that cannot be started; then it is off.
    Result<void> tune(const Options& options);
    void stop();
    // Any thread.
    AnomalyReport report() const;

    // What it may hold: copies of what reactors measure, as far as they are backed, jobs with what
    // they found, and events.
    static size_t memory_bytes(uint32_t reactors);

  private:
    void run();
    void report_failure(std::string_view why) const;
    void restart();
    void look();
    bool measure();
    void judge(const AnomalySample& sample);
    void raise(AnomalySeries series);
    void gather(AnomalyEvent& event);
    std::vector<std::string> labels_of(const std::vector<std::shared_ptr<HoldersJob>>& jobs);
    void remember(std::vector<AnomalyEvent>::iterator over);
    void settle(AnomalyEvent& event);
    void degrade();
    void publish();
    bool leaving() const;

    Errands errands_;
    const std::vector<std::string> listeners_;
    const Hooks hooks_;

    mutable std::mutex lock_;
    std::condition_variable changed_;
    Options options_;
    bool stopping_ = false;
    AnomalyReport report_;
    std::thread thread_;

    // The thread's.
    Options running_;
    std::unique_ptr<Detector> detector_;
    std::unique_ptr<AnomalySampler> sampler_;
    AnomalySteps steps_;
    OverloadStep step_ = OverloadStep::none;
    std::vector<AnomalyEvent> active_, past_;  // the newest first
    std::array<uint32_t, kAnomalySeries> gathered_{};
    std::array<uint64_t, kAnomalySeries> counts_{};
    std::array<bool, kAnomalySeries> measured_{};
    uint64_t samples_ = 0;
    uint64_t next_number_ = 1;
    bool draining_ = false;
};

}  // namespace pulse
