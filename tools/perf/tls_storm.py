#!/usr/bin/env python3
"""Does a storm of TLS reconnects keep the heartbeats of others waiting?

    tools/perf/tls_storm.py [--connections N] [--storm N] [--backend NAME] [--resume PERCENT]

A wss:// server and --connections clients that beat once a second; --storm others
connect, are cut off all at once and come back at once, with full handshakes unless --resume is
given; all over loopback. The others' load runs at a lower priority (nice 10): what is asked is what
the server does to the established, not what one generator does to the other. Prints a table of the
established's heartbeats, alone and in the seconds of the storm: the middle and the worst of the
seconds' p50 and p99, and the slowest of all. Exit code: 0; 1 where the p99 of a second of the storm
is above 50 ms, an established connection was lost, none of the others came back, or a run failed; 2
usage.
"""
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measuring.command import Failed
from measuring.workload import kept_on
from script import run_script, usage
from tls_pair import (RUN_SECONDS_MAX, load_command, make_certificate, read_run, serving,
                      whole_numbers)

OPTIONS = {"--connections": 20_000, "--storm": 20_000, "--backend": "epoll", "--resume": "0"}
BAR_MS = 50
ALONE_SECONDS = 5  # that the established are measured before the others come
STORM_AFTER_SECONDS = 3  # of the others' hold
STORM_SECONDS = 60  # that it may take


class Load:
    """A pulseload that runs, and when it began by our clock."""

    def __init__(self, directory, name, target, *flags, nice=0):
        self.name, self.json = name, os.path.join(directory, f"{name}.json")
        self.log = os.path.join(directory, f"{name}.log")
        command = [word for word in load_command(target, self.json, *flags) if word != "--quiet"]
        with open(self.log, "w", encoding="utf-8") as out:
            self.began = time.monotonic()
            self.process = subprocess.Popen(["nice", "-n", str(nice), *command, "--progress"],
                                            stdout=out, stderr=out, preexec_fn=kept_on(None))

    def wait_for_hold(self):
        until = time.monotonic() + RUN_SECONDS_MAX
        while True:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                text = file.read()
            if " hold: " in text:
                return
            if self.process.poll() is not None or time.monotonic() > until:
                raise Failed(f"{self.name}: not all connected: {text[-300:]}")
            time.sleep(0.1)

    def end(self, *codes):
        """Its result, interrupted where it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(timeout=RUN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name}: did not end within {RUN_SECONDS_MAX} s") from None
        return read_run(self.json, code, *codes)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def storm_window(load, run):
    """(first, last) by our clock: from when it broke until all were back."""
    broke = run["storms"][0]["at_s"]
    away = [sample["at_s"] for sample in run["samples"]
            if sample["at_s"] > broke and sample["counts"]["open"] < run["run"]["wanted"]]
    return load.began + broke, load.began + (away[-1] if away else broke) + 1


def seconds_between(load, run, first, last):
    """Of the seconds between: what heartbeats took in each, in ms."""
    return [sample["latency"]["heartbeat"] for sample in run["samples"]
            if first < load.began + sample["at_s"] <= last and "heartbeat" in sample["latency"]]


def measure(options, directory, loads):
    """(seconds alone, seconds of the storm, the storm's run, lost)."""
    total = options["connections"] + options["storm"]
    with serving(directory, options["backend"], "wss", total, "--heartbeat-interval", "60s",
                 "--heartbeat-timeout", "180s") as (_, address):
        target = f"wss://{address}"
        established = Load(directory, "established", target, "--connections",
                           str(options["connections"]), "--heartbeat-interval", "1s",
                           "--duration", f"{RUN_SECONDS_MAX}s")
        loads.append(established)
        established.wait_for_hold()
        alone_from = time.monotonic() + 1
        time.sleep(ALONE_SECONDS)
        alone_to = time.monotonic()
        others = Load(directory, "others", target, "--connections", str(options["storm"]),
                      "--heartbeat-interval", "30s", "--duration",
                      f"{STORM_AFTER_SECONDS + STORM_SECONDS}s", "--storm",
                      f"kill=100%@{STORM_AFTER_SECONDS}s,reconnect=none", "--tls-resume",
                      options["resume"], nice=10)
        loads.append(others)
        others.wait_for_hold()
        time.sleep(STORM_AFTER_SECONDS + STORM_SECONDS)
        storm = others.end(0, 3, 5)
        first, last = storm_window(others, storm)
        run = established.end(0, 3, 5)
    lost = options["connections"] - run["counts"]["open"]
    return (seconds_between(established, run, alone_from, alone_to),
            seconds_between(established, run, first, last), storm, last - first, lost)


def row(name, seconds):
    def of(percent, chosen):
        return chosen(second[percent] for second in seconds) / 1e3
    return (f"| {name} | {len(seconds)} | {of('p50_us', statistics.median):.2f} | "
            f"{of('p50_us', max):.2f} | {of('p99_us', statistics.median):.2f} | "
            f"{of('p99_us', max):.2f} | {of('max_us', max):.2f} |")


def show(options, alone, inside, storm, took_s):
    struck = storm["storms"][0]
    print(f"{options['connections']} established, {struck['killed']} of {options['storm']} others "
          f"cut off and {struck['recovered']} back within {took_s:.0f} s, {options['backend']}; "
          f"{storm['counts']['tls_full']} full and {storm['counts']['tls_resumed']} resumed "
          f"handshakes of theirs in all, {storm['counts']['tls_failed']} failed")
    print("| heartbeats of the established, ms | seconds | p50 | worst p50 | p99 | worst p99 "
          "| slowest |")
    print("|---|---|---|---|---|---|---|")
    print(row("alone", alone))
    print(row("in the storm", inside))


def main(arguments, **given):
    try:
        options = whole_numbers(OPTIONS, arguments, given)
    except ValueError as wrong:
        return usage("tls_storm.py", wrong)
    loads = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            make_certificate(directory)
            alone, inside, storm, took_s, lost = measure(options, directory, loads)
        except Failed as wrong:
            print(f"tls_storm.py: {wrong}", file=sys.stderr)
            return 1
        finally:
            for load in loads:
                load.kill()
    if not alone or not inside:
        print("tls_storm.py: no second of the established was measured", file=sys.stderr)
        return 1
    show(options, alone, inside, storm, took_s)
    if lost:
        print(f"tls_storm.py: {lost} of the established were lost", file=sys.stderr)
    if storm["storms"][0]["recovered"] == 0:
        print("tls_storm.py: none of the others came back", file=sys.stderr)
    worst = max(second["p99_us"] for second in inside) / 1e3
    return 1 if lost or worst > BAR_MS or storm["storms"][0]["recovered"] == 0 else 0


if __name__ == "__main__":
    run_script("tls_storm.py", __doc__, main, options=tuple(OPTIONS))
