// What each command does: asks the server, prints for people or as JSON, returns an exit code.
#pragma once

#include <string>
#include <vector>

#include "tools/pulsectl/commands.h"

namespace pulse::ctl {

int run_top(Client& client, const Request& request);
int run_ls(Client& client, const Request& request);
int run_count(Client& client, const Request& request);
int run_explain(Client& client, const Request& request);
// Of run_ls, with --closed: `wanted` at most.
int list_closed(Client& client, const Request& request, uint64_t wanted);
int run_kick(Client& client, const Request& request);
int run_broadcast(Client& client, const Request& request);
int run_send(Client& client, const Request& request);
int run_presence(Client& client, const Request& request);
int run_policy(Client& client, const Request& request);
int run_retune(Client& client, const Request& request);
int run_revoke(Client& client, const Request& request);
int run_drain(Client& client, const Request& request);
int run_ready(Client& client, const Request& request);
int run_stats(Client& client, const Request& request);
int run_limits(Client& client, const Request& request);
int run_anomalies(Client& client, const Request& request);
int run_config(Client& client, const Request& request);
int run_reload(Client& client, const Request& request);
int run_log_level(Client& client, const Request& request);

// A line for each anomaly that goes on, of an answer of /api/v1/anomalies.
std::vector<std::string> lines_of_living_anomalies(const Json& answer);

// An error on stderr, and kRefused.
int refused(const std::string& error);
// Of a command line that makes no sense, and kUsage.
int usage(const std::string& error);
// A text on stdout; kRefused where it cannot be written.
int print(const std::string& text);
// An object as it is, a line.
int print_json(const Json& object);

}  // namespace pulse::ctl
