// States of a service, as lines for its manager.
#include "tools/pulsewheel/service_manager.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <string_view>

#include "tools/pulsewheel/limits.h"
#include "tools/pulsewheel/take_variable.h"

namespace pulse::serve {
namespace {

Nanos monotonic_now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

std::optional<int64_t> number(const std::optional<std::string>& text) {
    int64_t value = 0;
    if (!text) return std::nullopt;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc{} || end != text->data() + text->size()) return std::nullopt;
    return value;
}

}  // namespace

ServiceManager ServiceManager::take_from_environment() {
    ServiceManager manager;
    const std::optional<std::string> name = take_variable("NOTIFY_SOCKET");
    const std::optional<int64_t> timeout_us = number(take_variable("WATCHDOG_USEC"));
    const std::optional<int64_t> pid = number(take_variable("WATCHDOG_PID"));
    if (!name || name->empty()) return manager;
    Result<NotifySocket> socket = NotifySocket::open(*name);
    if (!socket) {
        manager.trouble_ = socket.error();
        return manager;
    }
    manager.socket_ = std::move(*socket);
    const bool is_ours = !pid || *pid == getpid();
    constexpr int64_t kMostUs = INT64_MAX / 1'000;
    if (is_ours && timeout_us && *timeout_us > 0 && *timeout_us < kMostUs)
        manager.watchdog_ = std::max(*timeout_us * 1'000, kWatchdogLeastNs);
    return manager;
}

std::string ServiceManager::status() const {
    const uint32_t open = server_->connections();
    switch (phase_) {
        case Phase::draining:
            return fmt::format("Draining: {} connections are left", open);
        case Phase::at_once:
            return fmt::format("Stopping at once: {} connections are left", open);
        case Phase::reloading:
            return "Reloading";
        case Phase::starting:
        case Phase::serving:
            break;
    }
    return fmt::format("Serving {} of {} connections{}", open, server_->connections_max(),
                       reload_refused_ ? "; the last reload was refused, see the log" : "");
}

void ServiceManager::started(Server& server) {
    if (!socket_.present()) return;
    server_ = &server;
    phase_ = Phase::serving;
    last_status_ = status();
    socket_.send("READY=1\nSTATUS=" + last_status_);
    const Nanos now = monotonic_now();
    next_status_ = now + kStatusEveryNs;
    if (watchdog_ > 0) next_check_ = now;
    due_at_ = std::min(next_status_, next_check_);
}

void ServiceManager::reload_began() {
    if (phase_ != Phase::serving && phase_ != Phase::reloading) return;
    phase_ = Phase::reloading;
    reload_refused_ = true;
    last_status_ = status();
    // Type=notify-reload compares the time with that of its signal.
    socket_.send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS={}", monotonic_now() / 1'000,
                             last_status_));
}

void ServiceManager::acknowledged() {
    if (std::exchange(checking_, false)) socket_.send_if_taken("WATCHDOG=1");
    if (phase_ != Phase::reloading) return;
    phase_ = Phase::serving;
    last_status_ = status();
    socket_.send("READY=1\nSTATUS=" + last_status_);
}

void ServiceManager::draining() {
    if (phase_ == Phase::starting) return;
    phase_ = Phase::draining;
    last_status_ = status();
    socket_.send(fmt::format("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS={}",
                             kDrainExtensionNs / 1'000, last_status_));
    next_status_ = monotonic_now() + kDrainStatusEveryNs;
    due_at_ = std::min(due_at_, next_status_);
}

// What it takes from here on is bounded, and short: no more time is asked for.
void ServiceManager::stopping_at_once() {
    if (phase_ == Phase::starting) return;
    phase_ = Phase::at_once;
    last_status_ = status();
    socket_.send("STOPPING=1\nSTATUS=" + last_status_);
}

void ServiceManager::send_status() {
    const std::string text = status();
    if (phase_ == Phase::draining) {
        // Its end is bounded by the operator's part, which makes it a stop at once.
        socket_.send_if_taken(
            fmt::format("EXTEND_TIMEOUT_USEC={}\nSTATUS={}", kDrainExtensionNs / 1'000, text));
    } else if (text != last_status_) {
        socket_.send_if_taken("STATUS=" + text);
    }
    last_status_ = text;
}

void ServiceManager::tend(Nanos now) {
    if (server_ == nullptr) return;
    socket_.flush();
    if (now >= next_check_) {
        server_->check();
        checking_ = true;
        next_check_ = now + watchdog_ / kWatchdogParts;
    }
    if (now >= next_status_) {
        send_status();
        next_status_ = now + (phase_ == Phase::draining ? kDrainStatusEveryNs : kStatusEveryNs);
    }
    due_at_ = std::min(next_status_, next_check_);
}

std::optional<std::string> ServiceManager::take_trouble() {
    if (trouble_) return std::exchange(trouble_, std::nullopt);
    return socket_.take_trouble();
}

}  // namespace pulse::serve
