// Ways for a device to beat: a fixed interval, Tencent Mars, Gojek Courier, and the server's own.
// Those of others are written anew from what their sources do (2026-11); times in seconds.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/heartbeat/nat_reports.h"
#include "core/heartbeat/network_levels.h"

namespace pulse::study {

class Strategy {
  public:
    virtual ~Strategy() = default;
    // Until the next heartbeat.
    virtual double interval() const = 0;
    // The server evicts a connection that was silent for so long.
    virtual double server_timeout() const = 0;
    // The device takes a connection for lost whose heartbeat was not answered for so long.
    virtual double answer_wait() const = 0;
    // A connection begins on this network, a number.
    virtual void connected(uint32_t network, double now) = 0;
    // A heartbeat was answered, so late by the server's reckoning.
    virtual void answered(double late_s, double now) = 0;
    // It was not, or the connection is gone, which the device knew so long after it beat.
    virtual void failed(double after_s, double now) = 0;
    // The server has evicted it, while the device was off.
    virtual void evicted(double) {}
    // The server asks by itself when an interval and a grace are over.
    virtual bool is_probed() const { return false; }
    // Silences that are to be tried from now on, or after a while, each on a connection beside this
    // one; one that is tried and not among them is given up. Asked for again when one has ended;
    // and how it did.
    struct Trial {
        double silence_s;
        double after_s = 0;
    };
    virtual std::vector<Trial> trials(double) { return {}; }
    enum class Tried { kept, lost, unknown };  // unknown: this connection had no answer either
    virtual void tried(double, Tried, double) {}
    // What it has found out by them so far; none where it does not try, or is not done.
    virtual std::optional<double> found() const { return std::nullopt; }
};

// What the server knows of networks: from connections that were lost, and from its clients. None
// but `ours` ask.
struct Knowledge {
    NetworkLevels levels;
    NatReports reports;
};

// One kind of them.
struct Contender {
    std::string_view name;
    std::unique_ptr<Strategy> (*make)(Knowledge& knowledge);
    bool knows = false;    // the networks, from a device that was there before
    bool searches = false;  // by side connections
};
const std::vector<Contender>& contenders();

}  // namespace pulse::study
