// The policy table: for each cause of an end, whether to try again, how often, and after what wait.
// Pure. The rows, with what each is for, are in tools/client/js/README.md; a test compares them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "core/random.h"
#include "core/result.h"
#include "net/client/backoff.h"
#include "net/client/cause.h"

namespace pulse::client {

inline constexpr uint32_t kAlways = UINT32_MAX;

struct Policy {
    uint32_t tries = 0;  // ends of this cause in a row that are tried again; 0: never; kAlways
    Delay delay{};
    bool renews_token = false;  // only where a function gives tokens, which is asked for another
};

struct PolicyRow {
    std::string_view name;
    Policy policy;
};

// By name: causes of this client, reasons of the server, http_NNN, close_NNNN.
std::span<const PolicyRow> default_policies();

// The default rows, and those of the program in the place of them or beside them.
class PolicyTable {
  public:
    PolicyTable();

    // Fails for what cannot be meant; the table is then as before.
    Result<void> replace(std::string_view name, const Policy& policy);

    // The row of a cause: its own, or that of its class of status or of its close code.
    PolicyRow find(const Cause& cause) const;

  private:
    std::map<std::string, Policy, std::less<>> rows_;
};

// Counts ends, and decides about each.
class Retries {
  public:
    explicit Retries(PolicyTable table) : table_(std::move(table)) {}

    struct Decision {
        bool retry = false;
        Nanos wait = 0;
        uint32_t attempt = 0;  // ends in a row, of any cause
        bool renews_token = false;
    };
    Decision decide(const Cause& cause, bool can_renew_token, Random& random);

    // A connection has lasted: ends before it do not count any more.
    void reset() {
        attempt_ = 0;
        counts_.clear();
    }

  private:
    PolicyTable table_;
    uint32_t attempt_ = 0;
    std::map<std::string, uint32_t, std::less<>> counts_;  // by row
};

}  // namespace pulse::client
