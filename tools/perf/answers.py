#!/usr/bin/env python3
"""What answer_every saves: the server's CPU a heartbeat, where each k-th is answered.

    tools/perf/answers.py [--connections N] [--rounds N] [--seconds N] [--backend NAME]
                          [--wire NAME] [--rate N] [--every K,K...] [--gather auto|off|TIME]

One server of one reactor on core 0, build/pulseload on core 1, over loopback; 1 and every K in
turn, in --rounds rounds, each with a server of its own. Prints a table: medians, and in brackets
the least and the most; the ratio is that of the medians, to answering each. Heartbeats are those
that the clients sent in the hold, answered or not. Where they come in bursts, a server that answers
less is woken more often, so turns are printed, too; --gather is the server's. With 15,000
connections and 8 seconds it takes about 12 s a round and K. Exit code: 0; 1 where a run failed or
was not valid; 2 usage.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from script import run_script, usage

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
CORES = 2
SCHEMES = {"ws": "ws", "ws-json": "ws", "jsonl": "jsonl", "tcp": "tcp"}
START_SECONDS_MAX = 20
RUN_SLACK_SECONDS = 60


class Failed(Exception):
    """A run that cannot be counted; its text says why."""


OPTIONS = {"--connections": 15_000, "--rounds": 3, "--seconds": 8, "--backend": "epoll",
           "--wire": "tcp", "--rate": 15_000, "--every": "1,4", "--gather": "auto"}


class Options:
    """What was given, or the values of OPTIONS. Raises ValueError, which names the offender."""

    def __init__(self, given):
        for flag, value in OPTIONS.items():
            name = flag.lstrip("-")
            word = given.get(name, str(value))
            if isinstance(value, int):
                if not word.isdigit() or int(word) == 0:
                    raise ValueError(f"{flag} {word}: must be a whole number above 0")
                word = int(word)
            setattr(self, name, word)
        if self.wire not in SCHEMES:
            raise ValueError(f"--wire {self.wire}: must be one of {', '.join(SCHEMES)}")
        words = self.every.split(",")
        if not all(word in list("12345678") for word in words):
            raise ValueError(f"--every {self.every}: must be numbers from 1 to 8, with commas")
        self.every = sorted({1, *map(int, words)})


def on_core(core, *command):
    return ["taskset", "-c", str(core), *command]


def listening(stats):
    """The address in the server's first report, once it is there."""
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until:
        try:
            with open(stats, encoding="utf-8") as file:
                return json.loads(file.readline())["listening"][0].split("://")[1].split("?")[0]
        except (OSError, ValueError):
            time.sleep(0.05)
    raise Failed(f"the server did not start within {START_SECONDS_MAX} s")


def one_run(options, every, directory):
    stats, result = (os.path.join(directory, name) for name in ("server.json", "load.json"))
    scheme = SCHEMES[options.wire]
    server = subprocess.Popen(
        on_core(0, os.path.join(BUILD, "pulsewheel"), "--listen", f"{scheme}://127.0.0.1:0",
                "--reactors", "1", "--backend", options.backend, "--gather", options.gather,
                "--log-level", "error", "--max-connections", str(options.connections + 10),
                "--heartbeat-interval", "60s", "--heartbeat-timeout", "180s",
                "--stats-json", stats, "--stats-interval", "1s"),
        stdout=subprocess.DEVNULL)
    try:
        interval_us = round(options.connections / options.rate * 1e6)
        load = subprocess.run(
            on_core(1, os.path.join(BUILD, "pulseload"), "--quiet", "--target",
                    f"{scheme}://{listening(stats)}", "--mix", f"{options.wire}=1",
                    "--connections", str(options.connections), "--connect-rate", "10000/s",
                    "--heartbeat-interval", f"{interval_us}us", "--duration",
                    f"{options.seconds}s", "--answer-every", str(every), "--server-pid",
                    str(server.pid), "--json", result),
            timeout=options.seconds + RUN_SLACK_SECONDS, check=False)
    finally:
        server.terminate()
        server.wait()
    if load.returncode != 0:
        raise Failed(f"pulseload ended with {load.returncode} at --answer-every {every}")
    with open(result, encoding="utf-8") as file:
        run = json.load(file)
    return figures(run) + (turns(stats, options.connections),)


def turns(stats, connections):
    """Turns of the server a heartbeat, by its reports in which all were connected."""
    with open(stats, encoding="utf-8") as file:
        totals = [json.loads(line)["total"] for line in file]
    totals = [total for total in totals if total["connections"] == connections]
    first, last = totals[0], totals[-1]
    heartbeats = last["heartbeats_received"] - first["heartbeats_received"]
    if heartbeats == 0:
        raise Failed("no two reports of the server are of the hold; give more --seconds")
    return (last["turns"] - first["turns"]) / heartbeats


def figures(run):
    """CPU microseconds of the server a heartbeat, heartbeats a second, p99 of answers in ms."""
    held = [sample for sample in run["samples"] if sample["phase"] == "hold"]
    first, last = held[0], held[-1]
    sent = sum(last["counts"][name] - first["counts"][name] for name in ("pings", "one_way"))
    cpu = last["server"]["cpu_s"] - first["server"]["cpu_s"]
    return (cpu / sent * 1e6, sent / (last["at_s"] - first["at_s"]),
            run["hold_latency"]["heartbeat"]["p99_us"] / 1e3)


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main(arguments, **given):
    try:
        options = Options(given)
    except ValueError as wrong:
        return usage("answers.py", wrong)
    if arguments:
        return usage("answers.py", f"'{arguments[0]}' is not wanted")
    if (os.cpu_count() or 1) < CORES:
        print(f"answers.py: {os.cpu_count()} cores; needs {CORES}, one for the load",
              file=sys.stderr)
        return 1
    seen = {every: [] for every in options.every}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(options.rounds):
            for every in options.every:
                try:
                    seen[every].append(one_run(options, every, directory))
                except Failed as why:
                    print(f"answers.py: {why}", file=sys.stderr)
                    return 1
                os.unlink(os.path.join(directory, "server.json"))
    print(f"{options.connections} connections, {options.wire}, {options.backend}, one reactor, "
          f"--gather {options.gather}, {options.rounds} rounds of {options.seconds} s")
    print("| answer_every | heartbeats/s | CPU us a heartbeat | ratio | turns a heartbeat "
          "| p99 of answers, ms |")
    print("|---|---|---|---|---|---|")
    each = statistics.median(run[0] for run in seen[1])
    for every, runs in seen.items():
        cpu, rate, p99, woken = zip(*runs)
        print(f"| {every} | {statistics.median(rate):,.0f} | {spread(cpu)} | "
              f"{statistics.median(cpu) / each:.2f} | {spread(woken)} | {spread(p99)} |")
    return 0


if __name__ == "__main__":
    run_script("answers.py", __doc__, main, options=tuple(OPTIONS))
