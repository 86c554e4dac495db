// One thread of clients, as the run that started it sees it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <ctime>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/io/mapped_pages.h"
#include "net/server/descriptors.h"
#include "tools/pulseload/run/crowd.h"

namespace pulse::load {

inline constexpr Nanos kLeaveMax = 30 * kSecond;

inline Nanos monotonic_now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return Nanos{time.tv_sec} * kSecond + time.tv_nsec;
}

// The crowd is made and unmade on the thread, because its descriptors are its own; in between the
// observer may look.
struct Worker {
    CrowdPlan plan;
    bool own_table = true;
    std::thread thread;
    std::atomic<Crowd*> crowd{nullptr};
    std::atomic<bool> ended{false};  // the books are closed, or it failed
    std::atomic<bool> may_leave{false};
    std::string error;
    Nanos cpu_at_hold = 0;
    Nanos cpu = 0;

    void run() {
        if (own_table) {
            if (Result<void> own = own_descriptor_table(); !own) return fail(own.error());
        }
        MappedPages pages;
        ConnectionTable table(pages, plan.clients);
        if (!table.ok()) return fail("no address space for the connections");
        Crowd clients(plan, pages, table);
        if (!clients.ready()) return fail(clients.ready().error());
        crowd.store(&clients, std::memory_order_release);
        while (!plan.conductor->stop.load(std::memory_order_relaxed)) clients.turn();
        clients.finish_detection();
        ended.store(true, std::memory_order_release);
        while (!may_leave.load(std::memory_order_acquire)) usleep(1'000);
        crowd.store(nullptr, std::memory_order_release);
        const Nanos until = monotonic_now() + kLeaveMax;
        while (!clients.leave() && monotonic_now() < until) {
        }
    }
    void fail(std::string why) {
        error = std::move(why);
        ended.store(true, std::memory_order_release);
    }
};

using Workers = std::vector<std::unique_ptr<Worker>>;

}  // namespace pulse::load
