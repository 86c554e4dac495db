#!/usr/bin/env python3
"""What million.sh measured, as a table or an object: pulseload's JSON and the server's own report.

    tools/perf/million.py DIR CONNECTIONS [yes|no]     yes: an object

DIR is what million.sh was given by --out, build/million by default. Exit code 1 when a peer that
beat was evicted, a silent one was not, or not all were held to the end.
"""
import json
import os
import sys

from script import run_script, usage


def read_server(directory):
    """The lines of the server's --stats-json file."""
    with open(os.path.join(directory, "server.json")) as file:
        return [json.loads(line) for line in file if line.strip()]


def scraping(directory, connections, held):
    """What million.sh --scrape found from when all connections were open, for as long as `held` or
    more were; {} without it.
    """
    try:
        with open(os.path.join(directory, "scrapes.json")) as file:
            lines = [json.loads(line) for line in file if line.strip()]
    except FileNotFoundError:
        return {}
    full = [line["at_s"] for line in lines if line["connections"] >= connections]
    lines = [line for line in lines
             if full and line["at_s"] >= full[0] and line["connections"] >= held]
    if not lines:
        return {}
    took = sorted(line["took_ms"] for line in lines)
    return {"scrapes": len(lines), "scrape_kib": lines[-1]["bytes"] // 1_024,
            "scrape_median_ms": took[len(took) // 2],
            "scrape_p99_ms": took[len(took) * 99 // 100], "scrape_max_ms": took[-1],
            "turns_over_10_ms": int(lines[-1]["long_turns"] - lines[0]["long_turns"]),
            "turns_over_10_ms_of_cpu":
                int(lines[-1]["long_turns_cpu"] - lines[0]["long_turns_cpu"])}


def report(directory, connections, as_json):
    with open(os.path.join(directory, "run.json")) as file:
        run = json.load(file)
    lines = read_server(directory)
    # The last word before the drain: everything up to the end of the hold is in it.
    open_at_the_end = run["counts"]["open"]
    holding = [line for line in lines if line["total"]["connections"] >= open_at_the_end]
    server = (holding or lines)[-1]["total"]
    full = [s for s in run["samples"] if s["phase"] == "hold"]
    held = full[0] if full else run["samples"][-1]
    detection, silent = run["detection"], run["detection"]["all"]
    cost = run["server"] or {}
    hold_s = run["run"]["held_s"]
    hold_cpu = [s["server"]["cpu_s"] for s in full if s["server"]]
    own_cpu = [s["generator_cpu_s"] for s in full]
    share = lambda cpu: round((cpu[-1] - cpu[0]) / hold_s, 3) if len(cpu) > 1 else None
    # A hold that ends before the deadline of the silenced has seen none late.
    in_ms = lambda us: None if us is None else us / 1000
    rounded = lambda value: None if value is None else round(value, 1)
    latency, delay = run["hold_latency"]["heartbeat"], server["eviction_delay"]
    result = {
        "backend": lines[-1]["backend"],
        "machine": run["run"]["machine"],
        "date": run["run"]["started_at"][:10],
        "connections": held["counts"]["open"],
        "held_s": round(hold_s, 1),
        "connect_p99_ms": run["latency"]["connect"]["p99_us"] / 1000,
        "connect_rate_per_s": round(run["rates"]["connects_per_s"] or 0),
        "rss_bytes": cost.get("rss_bytes"),
        "rss_bytes_per_connection": rounded(cost.get("rss_bytes_per_connection")),
        "kernel_bytes_per_connection": rounded(cost.get("kernel_bytes_per_connection")),
        "server_cores": share(hold_cpu),
        "generator_cores": share(own_cpu),
        "heartbeats": latency["count"],
        "heartbeat_p50_ms": latency["p50_us"] / 1000,
        "heartbeat_p99_ms": latency["p99_us"] / 1000,
        "heartbeat_p99_9_ms": latency["p99_9_us"] / 1000,
        "silenced": silent["silenced"],
        "evicted": silent["evicted"],
        "early": silent["early"],
        "missed": silent["missed"] + silent["waiting"],
        "false_evictions": detection["false_evictions"],
        "late_by_client_p99_ms": in_ms(silent["late_by"].get("p99_us")),
        "late_by_client_max_ms": in_ms(silent["late_by"].get("max_us")),
        "late_by_server_max_ms": in_ms(delay.get("max_us")),
        "judge_lag_max_ms": server["judge_lag_max_us"] / 1000,
        "longest_turn_ms": server["turn_time"]["max_us"] / 1000,
        "longest_wheel_slice_ms": server["wheel_slice"]["max_us"] / 1000,
        "longest_wheel_slice_cpu_ms": server.get("wheel_slice_cpu", {}).get("max_us", 0) / 1000,
        "wheel_slice_p99_9_ms": server["wheel_slice"]["p99_9_us"] / 1000,
        "valid": run["verdict"]["valid"],
        "evidence": run["verdict"]["evidence"],
        **scraping(directory, connections, open_at_the_end),
    }
    held_to_the_end = run["counts"]["open"] == connections - result["silenced"]
    good = (held_to_the_end and result["early"] == result["missed"] == 0
            and result["false_evictions"] == 0 and result["evicted"] == result["silenced"] > 0)
    result["good"] = good
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            if value is None:
                continue  # not measured
            print(f"{name.replace('_', ' '):<40} {value}")
    return 0 if good else 1


def main(arguments):
    if len(arguments) not in (2, 3) or not arguments[1].isdigit():
        return usage("million.py", "give DIR and CONNECTIONS")
    try:
        return report(arguments[0], int(arguments[1]), arguments[2:] == ["yes"])
    except OSError as error:
        print(f"million.py: {error}; give the folder that million.sh wrote", file=sys.stderr)
        return 2


if __name__ == "__main__":
    run_script("million.py", __doc__, main, kept="the run's files are kept")
