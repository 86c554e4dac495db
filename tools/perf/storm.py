#!/usr/bin/env python3
"""When a server restarts and all of its clients come back: what does their policy make of it?

For each policy a build/pulsewheel with that many connections of a build/pulseload. SIGTERM: all get
their goodbye at once, with a retry_after_ms of --base to twice --base seconds, which hint alone
follows. The others first wait 0 (none), --base (fixed, exponential) or a part of it that is drawn
(full-jitter); exponential and full-jitter double it at each try, to eight times. After --down
seconds the server is there again. Of each policy: how long until all were back, the most that came
in about a tenth of a second, the tries of each client, and p99 of the heartbeats of those that were
back, a second at a time.

Exit code: 0; 1 where not all came back, or a run failed; 2 usage.
"""
import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from measuring.command import Failed, heed_signals, whole
from measuring.environment import read
from measuring.results import figure, table
from measuring.workload import Admin, kept_on

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
POLICIES = ("none", "fixed", "exponential", "full-jitter", "hint")
DEFAULT_POLICIES = ["none", "full-jitter", "hint"]
CONNECT_RATE = 15_000  # of the first connects, which are no storm
START_SECONDS_MAX = 20
END_SECONDS_MAX = 60
TIMES_LONGER = 8  # than --base an exponential wait is at most
LOOK_SECONDS = 0.1
CALM_SECONDS = 3  # before the restart, and once all are back


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(options, port, folder):
    server = subprocess.Popen(
        [os.path.join(BUILD, "pulsewheel"), "--listen", f"ws://127.0.0.1:{port}", "--backend",
         options.backend, "--max-connections", str(options.connections + 64),
         "--heartbeat-timeout", "2m", "--drain-rate", f"{options.connections * 10}/s",
         "--drain-timeout", "10s", "--drain-retry-after", f"{options.base}s",
         "--admin", f"unix:{folder}/admin", "--log-format", "text",
         "--log-file", f"{folder}/server.log"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and server.poll() is None:
        try:
            Admin(f"unix:{folder}/admin").get("/api/v1/server")
            return server
        except Failed:
            time.sleep(0.01)
    server.kill()
    server.wait()
    said = (read(f"{folder}/server.log") or "nothing").splitlines()[-1]
    raise Failed(f"the server ended, or did not start within {START_SECONDS_MAX} s; "
                 f"it said: {said}")


def start_load(options, policy, port, folder, seconds):
    base = f"{options.base}s"
    return subprocess.Popen(
        [os.path.join(BUILD, "pulseload"), "--target", f"ws://127.0.0.1:{port}", "--connections",
         str(options.connections), "--connect-rate", f"{CONNECT_RATE}/s", "--duration",
         f"{seconds}s", "--heartbeat-interval", "10s", "--reconnect", policy, "--reconnect-base",
         base, "--reconnect-cap", f"{options.base * TIMES_LONGER}s", "--connect-timeout", "60s",
         "--quiet", "--json", f"{folder}/load.json"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=kept_on(None))


def watch_until_all_are_there(options, folder, load, seconds):
    """[(time, connections, accepted)] until all are there, or for so long."""
    admin, looks, deadline = Admin(f"unix:{folder}/admin"), [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        if load.poll() is not None:
            raise Failed(f"pulseload ended with {load.returncode} before the server had "
                         f"{options.connections:,} connections")
        total = admin.get("/api/v1/server")["total"]
        looks.append((time.monotonic(), total["connections"], total["accepted"]))
        if total["connections"] >= options.connections:
            return looks
        time.sleep(LOOK_SECONDS)
    raise Failed(f"{looks[-1][1] if looks else 0:,} of {options.connections:,} connections were "
                 f"there after {seconds} s")


def wait_for_end(process, name):
    try:
        process.wait(timeout=END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} was told to end, and runs {END_SECONDS_MAX} s later") from None


def restart(options, server, port, folder):
    """Returns the next server, and when it was started."""
    down_until = time.monotonic() + options.down
    server.send_signal(signal.SIGTERM)
    wait_for_end(server, "the server")
    time.sleep(max(0.0, down_until - time.monotonic()))
    started = time.monotonic()
    return start_server(options, port, folder), started


def one_run(options, policy):
    """The row of a policy."""
    first = START_SECONDS_MAX + 2 * options.connections // CONNECT_RATE
    again = 60 + 2 * TIMES_LONGER * options.base
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(options, port, folder)
        load = None
        try:
            began = time.monotonic()
            load = start_load(options, policy, port, folder, first + again)
            watch_until_all_are_there(options, folder, load, first)
            time.sleep(CALM_SECONDS)
            server, started = restart(options, server, port, folder)
            looks = watch_until_all_are_there(options, folder, load, again)
            time.sleep(CALM_SECONDS)
            load.send_signal(signal.SIGINT)  # it reports what it has
            wait_for_end(load, "pulseload")
        finally:
            for process in filter(None, (load, server)):
                process.kill()
                process.wait()
        with open(f"{folder}/load.json", encoding="utf-8") as file:
            report = json.load(file)
    return row_of(options, policy, report, looks, started, began)


def row_of(options, policy, report, looks, started, began):
    back_s = looks[-1][0] - started
    looks = [look for look in looks if look[0] - started >= LOOK_SECONDS] or looks[-1:]
    rates = [(b[2] - a[2]) / (b[0] - a[0]) for a, b in zip([(started, 0, 0), *looks], looks)]
    # Of those that are back, from then until some seconds after the last came.
    p99 = [sample["latency"]["heartbeat"]["p99_us"] / 1e3 for sample in report["samples"]
           if "heartbeat" in sample["latency"]
           and started < began + sample["at_s"] <= looks[-1][0] + CALM_SECONDS]
    tries = report["counts"]["connects"] / options.connections - 1
    return {"policy": policy, "all_back_s": back_s, "accepts_per_s_peak": max(rates),
            "tries_per_client": tries,
            "heartbeat_p99_ms_median": statistics.median(p99) if p99 else None,
            "heartbeat_p99_ms_worst": max(p99, default=None)}


def print_table(rows):
    none = next((row for row in rows if row["policy"] == "none"), None)
    lines = []
    for row in rows:
        flatter = none["accepts_per_s_peak"] / row["accepts_per_s_peak"] if none else None
        lines.append([row["policy"], f"{row['all_back_s']:.1f}",
                      f"{row['accepts_per_s_peak']:,.0f}", figure(flatter),
                      f"{row['tries_per_client']:.2f}", figure(row["heartbeat_p99_ms_median"]),
                      figure(row["heartbeat_p99_ms_worst"])])
    print("\n".join(table(["policy", "all back, s", "peak accepts/s", "of none's, 1 in",
                           "tries of each", "p99 of a second, ms", "of the worst"], lines)))


def policies(text):
    names = text.split(",")
    for name in names:
        if name not in POLICIES:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(POLICIES)}")
    return names


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, prog="tools/perf/storm.py",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", metavar="N", type=whole(1, 1_000_000), default=100_000,
                        help="clients (default %(default)s)")
    parser.add_argument("--policies", metavar="LIST", type=policies, default=DEFAULT_POLICIES,
                        help=f"of {','.join(POLICIES)} (default {','.join(DEFAULT_POLICIES)})")
    parser.add_argument("--base", metavar="S", type=whole(1, 600), default=20,
                        help="seconds that a policy begins with (default %(default)s)")
    parser.add_argument("--down", metavar="S", type=whole(1, 600), default=2,
                        help="seconds without a server (default %(default)s)")
    parser.add_argument("--backend", choices=("auto", "epoll", "io_uring"), default="auto",
                        help="of the server (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    return parser.parse_args()


def main():
    heed_signals()
    options = read_options()
    rows = []
    try:
        for number, policy in enumerate(options.policies, 1):
            print(f"{number}/{len(options.policies)}  {policy}", file=sys.stderr)
            rows.append(one_run(options, policy))
    except Failed as why:
        print(f"storm.py: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("storm.py: interrupted; what it started is ended", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
