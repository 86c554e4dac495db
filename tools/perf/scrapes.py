#!/usr/bin/env python3
"""What a scrape of /metrics costs a server: how long each takes, and how many turns were long.

    tools/perf/scrapes.py SOCKET FILE

Scrapes the admin endpoint at a Unix socket each second, as Prometheus would, until it is told to
end, the server is gone, or three hours are over. Writes an object a line: `at_s`, `took_ms`,
`bytes`, `connections`, and how many turns have taken more than 10 ms since the start, by the
clock (`long_turns`) and in CPU time (`long_turns_cpu`). Exit code: 0; 1 where none was answered; 2
usage.
"""
import json
import re
import sys
import time

from measuring.command import Failed
from measuring.workload import Admin
from script import run_script, usage

SECONDS_MAX = 3 * 3_600


def long_turns(text, name):
    """How many took more than 10 ms."""
    counts = [float(number) for number in
              re.findall(rf"^pulsewheel_{name}_seconds_count(?:{{.*}})? (\S+)$", text, re.M)]
    short = [float(number) for number in
             re.findall(rf'^pulsewheel_{name}_seconds_bucket{{.*le="0.01".*}} (\S+)$', text, re.M)]
    return sum(counts) - sum(short)


def line_of(at_s, took_s, text):
    held = re.findall(r"^pulsewheel_connections{.*} (\d+)$", text, re.M)
    return {"at_s": round(at_s, 3), "took_ms": round(took_s * 1_000, 2), "bytes": len(text),
            "connections": sum(map(int, held)), "long_turns": long_turns(text, "turn_time"),
            "long_turns_cpu": long_turns(text, "turn_cpu")}


def scrape_each_second(admin, file):
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SECONDS_MAX:
        asked_at = time.monotonic()
        try:
            text = admin.text("/metrics")
        except Failed as error:  # once there were some, its end
            if count == 0:
                print(f"scrapes.py: {error}", file=sys.stderr)
            break
        answered_at = time.monotonic()
        file.write(json.dumps(line_of(asked_at - began, answered_at - asked_at, text)) + "\n")
        file.flush()
        count += 1
        time.sleep(max(0.0, asked_at + 1 - time.monotonic()))
    return 0 if count > 0 else 1


def main(arguments):
    if len(arguments) != 2:
        return usage("scrapes.py", "give a SOCKET and a FILE")
    with open(arguments[1], "w", encoding="utf-8") as file:
        try:
            return scrape_each_second(Admin(f"unix:{arguments[0]}"), file)
        except KeyboardInterrupt:  # it is told to end: million.sh does so each time
            return 0


if __name__ == "__main__":
    run_script("scrapes.py", __doc__, main)
