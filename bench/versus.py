#!/usr/bin/env python3
"""Compares Pulsewheel with other people's WebSocket servers, side by side; `make versus` calls it.

Each server of bench/peers/ and ours answer the same load from build/pulseload, in turn, in several
rounds. It prints one table: the median of the rounds, and in brackets the least and the most. A
server has core 0, the load core 1; run by root, both have real-time priority, so that what else is
done on the machine waits for them. In each round a server is

  loaded      with --connections that beat at each of three rates: memory, CPU, latency, connects
  stopped     for 5 s (SIGSTOP) under a timeout of 2 s, with 3,000 peers that beat all the while:
              how many are lost afterwards
  judged      by a fifth of 3,000 peers, silenced at once, under a timeout of 2 s: evicted how late
              behind the deadline, how many before it

A server whose core is not enough for a rate, by its CPU at the rate before, is offered 60 % of
what it could serve; that rate is then in the table. A run that pulseload does not call valid does
not count; a figure without a valid run is a dash. What is not installed is skipped by name.

Written to build/versus/: versus.json (schema versus/1), versus.html and versus.md; quick: quick.*.
Exit code: 0 whole; 1 a server or a run failed; 2 usage; 3 a figure has no valid run.
"""
import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import versus_page
from versus_peers import (BUILD, PEERS, ROOT, Missing, Place, Running, may_be_real_time,
                          output_of)

PULSELOAD = os.path.join(BUILD, "pulseload")
OUT = os.path.join(BUILD, "versus")
IDLE_TIMEOUT_S = 60    # of the servers under load: longer than a run, as in service
# What a heartbeat costs at a rate is foreseen from the rate before: a busier server sleeps less and
# answers several at once. At the first, lowest rate it costs some 2.5 times as much as at the next.
FIRST_COSTS_TIMES = 2.5
CORES_FORESEEN_MAX = 1.1  # more than its one core, since it costs less yet at the rate itself
CORE_SHARE = 0.6          # of its core, where that is not enough: the connects need time, too
DESCRIPTORS_SPARE = 200
RUN_SLACK_S = 60       # a load run that takes this much longer than its plan is ended
OTHER_WORK_MAX = 0.3   # cores that other work had; above it, a warning


class Plan:
    """How much is done: the whole comparison, or the quick one that shows that all works."""

    def __init__(self, options):
        quick = options.quick
        self.connections = options.connections or (500 if quick else 15_000)
        self.rates = options.rates or ([100, 500, 2_500] if quick else [1_000, 15_000, 75_000])
        self.rounds = options.rounds or (1 if quick else 3)
        self.hold_s = 1 if quick else 8
        self.judged = min(self.connections, 3_000)  # of the stop and of evictions
        self.timeout_s, self.stop_s = (1, 3) if quick else (2, 5)
        self.connect_rate = 5_000  # but for the run whose connect rate is measured
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.shrunk_from = None
        if self.connections > hard - DESCRIPTORS_SPARE:
            self.shrunk_from, self.connections = self.connections, hard - DESCRIPTORS_SPARE
        cores = sorted(os.sched_getaffinity(0))
        self.has_two_cores = len(cores) > 1
        self.real_time = not options.no_real_time and self.has_two_cores and may_be_real_time()
        self.server_place = Place(cores[0] if self.has_two_cores else None, self.real_time)
        self.load_place = Place(cores[1] if self.has_two_cores else None, self.real_time)

    def seconds_a_peer(self):
        """What a round takes for one peer, about."""
        load = len(self.rates) * (self.hold_s + 1.5 + self.connections / self.connect_rate)
        return 2 + load + self.stopped_hold_s() + self.evicting_hold_s() + 2 * 1.5

    def stopped_hold_s(self):
        return 2 + self.stop_s + self.timeout_s

    def evicting_hold_s(self):
        return 2 + 3 * self.timeout_s  # the latest end a timeout after the deadline


# ---------------------------------------------------------------------------------------- one run
def cpu_of_machine():
    """Seconds that its cores worked, all together."""
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Load:
    """Runs of pulseload, and how much of the machine other work had meanwhile."""

    def __init__(self, plan, folder):
        self.plan, self.path = plan, os.path.join(folder, "run.json")
        self.other_work, self.load_averages = [], []

    def run(self, server, connections, hold_s, interval_ms, *flags, during=None):
        """One run: its report. `during` is called once all are connected."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path)  # an earlier run's report is not this one's
        command = [PULSELOAD, "--target", f"ws://127.0.0.1:{server.port}", "--no-hello", "-n",
                   str(connections), "-d", f"{hold_s}s", "--heartbeat-interval", f"{interval_ms}ms",
                   "--server-pid", str(server.process.pid), "--json", self.path, *flags]
        began, machine = time.monotonic(), cpu_of_machine()
        ours = cpu_of_children() + cpu_of(server.process.pid)
        self.load_averages.append(os.getloadavg()[0])
        text = self.watch(command, hold_s + connections / 1_000 + RUN_SLACK_S, during)
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended by itself; {server.log_path} has its last words")
        ours = cpu_of_children() + cpu_of(server.process.pid) - ours
        other = (cpu_of_machine() - machine - ours) / (time.monotonic() - began)
        self.other_work.append(max(0.0, other))
        try:
            with open(self.path, encoding="utf-8") as file:
                return json.load(file)
        except (FileNotFoundError, ValueError):
            raise RuntimeError(f"pulseload wrote no report: {text[-1000:]}") from None

    def watch(self, command, seconds, during):
        command = [*command, "--progress"] if during else [*command, "--quiet"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                 text=True, stdin=subprocess.DEVNULL,
                                 preexec_fn=self.plan.load_place)
        try:
            seen = ""
            for line in child.stderr if during else ():
                seen += line
                if " hold: " in line:
                    during()
                    break
            return seen + child.communicate(timeout=seconds)[1]
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGTERM)  # it reports what it has
            return child.communicate(timeout=30)[1]
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()


# ---------------------------------------------------------------------------------------- a peer
class Figures:
    """What was measured of one peer: values by round."""

    def __init__(self, peer):
        self.peer, self.version = peer, peer.version()
        self.values, self.offered, self.notes = {}, {}, []

    def add(self, key, value):
        if value is not None:
            self.values.setdefault(key, []).append(value)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def summary(self):
        return {key: {"median": statistics.median(values), "min": min(values), "max": max(values),
                      "values": values} for key, values in self.values.items()}


def measure_load(plan, load, server, figures, progress):
    """Memory, CPU, latency and the connect rate: one server, each rate in turn."""
    load.run(server, 64, 0.3, 50)  # its code is read and its heap has its first size
    for number, rate in enumerate(plan.rates):
        offered = figures.offered.setdefault(number, rate_offered(plan, figures, number))
        progress(f"{offered:,} heartbeats a second")
        paced = () if number == 0 else ("--connect-rate", connect_rate(plan, figures))
        interval_ms = max(1, round(plan.connections * 1_000 / offered))
        report = load.run(server, plan.connections, plan.hold_s, interval_ms, *paced)
        if not report["verdict"]["valid"]:
            figures.note(f"{offered:,}/s: {report['verdict']['state']}: "
                         f"{' '.join(report['verdict']['evidence'])}")
            continue
        answered, watched = report["rates"]["heartbeats_per_s"], report["server"]
        figures.add(f"cpu_us.{number}", 1e6 * watched["cores_used_in_hold"] / answered)
        for name in ("p50", "p99", "p99_9"):
            value = report["hold_latency"]["heartbeat"].get(f"{name}_us")
            figures.add(f"{name}_ms.{number}", None if value is None else value / 1_000)
        if number == 0:
            figures.add("rss_bytes", watched["rss_bytes_per_connection"])
            figures.add("kernel_bytes", watched["kernel_bytes_per_connection"])
            figures.add("connects_per_s", report["rates"]["connects_per_s"])


def rate_offered(plan, figures, number):
    """The planned rate, or what a core has room for by the CPU at the rates before."""
    foreseen_us = None
    for before in range(number):
        if f"cpu_us.{before}" in figures.values:
            measured = figures.values[f"cpu_us.{before}"][-1]
            foreseen_us = measured / FIRST_COSTS_TIMES if before == 0 else measured
    if not foreseen_us or foreseen_us * plan.rates[number] / 1e6 <= CORES_FORESEEN_MAX:
        return plan.rates[number]
    most = CORE_SHARE * 1e6 / foreseen_us
    step = 1_000 if most >= 2_000 else 100
    return max(step, int(most // step) * step)


def connect_rate(plan, figures):
    """Slow enough that a server has time for heartbeats beside it."""
    measured = figures.values.get("connects_per_s", [plan.connect_rate])[-1]
    return f"{min(plan.connect_rate, max(100, int(measured / 4)))}/s"


def judging_flags(plan, figures):
    return "--expect-timeout", f"{plan.timeout_s}s", "--connect-rate", connect_rate(plan, figures)


def measure_stop(plan, load, server, figures, progress):
    """How many living peers are gone after the process stood still for longer than its timeout."""
    progress(f"stopped for {plan.stop_s} s")

    def stop_for_a_while():
        time.sleep(1.5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(plan.stop_s)
        server.process.send_signal(signal.SIGCONT)
    report = load.run(server, plan.judged, plan.stopped_hold_s(), plan.timeout_s * 250,
                      *judging_flags(plan, figures), during=stop_for_a_while)
    if report["detection"]["own_silences"] or report["counts"]["connected"] < plan.judged:
        return figures.note("stopped: " + " ".join(report["verdict"]["evidence"]))
    figures.add("lost_by_stop", plan.judged - report["counts"]["open"])


def measure_evictions(plan, load, server, figures, progress):
    progress("silence of a fifth")
    report = load.run(server, plan.judged, plan.evicting_hold_s(), plan.timeout_s * 250,
                      *judging_flags(plan, figures), "--storm", "silence=20%@1s", "--tolerance",
                      f"{2 * plan.timeout_s}s")
    if not report["verdict"]["valid"]:
        return figures.note("evictions: " + " ".join(report["verdict"]["evidence"]))
    rows = report["detection"]["all"]
    figures.add("evicted_late_p50_ms", milliseconds(rows["late_by"], "p50_us"))
    figures.add("evicted_late_max_ms", milliseconds(rows["late_by"], "max_us"))
    figures.add("evicted_early", rows["early"])
    figures.add("evicted_missed", rows["missed"])
    figures.add("evicted_falsely", report["detection"]["false_evictions"])


def milliseconds(row, key):
    return row[key] / 1_000 if row.get("count") else None


def measure_round(plan, load, figures, folder, progress):
    peer = figures.peer
    with Running(peer, folder, IDLE_TIMEOUT_S, plan.connections, plan.server_place) as server:
        measure_load(plan, load, server, figures, progress)
    with Running(peer, folder, plan.timeout_s, plan.connections, plan.server_place) as server:
        measure_stop(plan, load, server, figures, progress)
        if peer.evicts:
            measure_evictions(plan, load, server, figures, progress)


# ---------------------------------------------------------------------------------------- reports
def machine_of(plan):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = re.findall(r"^model name\s*: (.*)$", file.read(), re.M)
    revision = output_of("git", "-C", ROOT, "describe", "--always", "--dirty")
    return {"date": str(datetime.date.today()), "cpu": models[0] if models else platform.machine(),
            "cores": os.cpu_count(), "kernel": platform.release(), "revision": revision,
            "server_core": plan.server_place.core, "load_core": plan.load_place.core,
            "real_time": plan.real_time}


def result_of(plan, machine, load, all_figures, skipped, command):
    work = load.other_work or [0.0]
    return {
        "schema": "versus/1", "command": command, "machine": dict(
            machine, load_average_max=round(max(load.load_averages or [0.0]), 1),
            other_work_cores=round(statistics.median(work), 2),
            other_work_cores_max=round(max(work), 2)),
        "settings": {"connections": plan.connections, "rates": plan.rates, "rounds": plan.rounds,
                     "hold_s": plan.hold_s, "judged": plan.judged, "timeout_s": plan.timeout_s,
                     "stop_s": plan.stop_s},
        "peers": {figures.peer.name: {
            "title": figures.peer.title, "version": figures.version, "evicts": figures.peer.evicts,
            "offered": [figures.offered.get(number) for number in range(len(plan.rates))],
            "figures": figures.summary(), "notes": figures.notes} for figures in all_figures},
        "skipped": [{"name": name, "why": why, "packages": list(packages)}
                    for name, why, packages in skipped],
    }


def write_reports(result, json_path):
    """Writes the JSON, and the page and the Markdown beside it. Returns their paths."""
    stem = os.path.splitext(json_path)[0]
    written = {json_path: json.dumps(result, indent=1) + "\n",
               stem + ".html": versus_page.page(result), stem + ".md": versus_page.markdown(result)}
    for path, text in written.items():
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return list(written)


def prepare(names):
    """The peers that can take part, and those that are skipped: (name, why, packages)."""
    taking_part, skipped = [], []
    for peer in PEERS:
        if names and peer.name not in names:
            continue
        try:
            say(f"\r{'':79}\rbuilding {peer.name}", end="" if sys.stderr.isatty() else "\n")
            peer.prepare()
            taking_part.append(Figures(peer))
        except Missing as missing:
            skipped.append((peer.name, str(missing), missing.packages))
    say(f"\r{'':79}\r", end="")
    return taking_part, skipped


def say(line, end="\n"):
    """Progress, on stderr; where that is not a terminal, whole lines only."""
    if sys.stderr.isatty():
        print(line, end=end, file=sys.stderr, flush=True)
    elif end == "\n":
        print(line.strip("\r "), file=sys.stderr, flush=True)


def announce(plan, machine, all_figures, skipped):
    print(f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Linux "
          f"{machine['kernel']}, revision {machine['revision'] or 'unknown'}, load "
          f"{os.getloadavg()[0]:.1f} at the start")
    if plan.shrunk_from:
        print(f"{plan.connections:,} connections instead of {plan.shrunk_from:,}: a process may "
              "open no more descriptors (ulimit -Hn)")
    if not plan.has_two_cores:
        print("one core only: server and load share it, and every figure is worse for that")
    for name, why, packages in skipped:
        print(f"SKIPPED {name}: {why}" + (f" ({' '.join(packages)})" if packages else ""))
    packages = sorted({package for _, _, names in skipped for package in names})
    if packages:
        print(f"these packages would add what is missing: apt-get install -y {' '.join(packages)}")
    seconds = plan.rounds * len(all_figures) * plan.seconds_a_peer()
    print(f"{counted(len(all_figures), 'server')}, {counted(plan.rounds, 'round')}, "
          f"{plan.connections:,} connections: about "
          f"{f'{seconds:.0f} s' if seconds < 120 else f'{seconds / 60:.0f} minutes'}, "
          f"{plan.seconds_a_peer():.0f} s a server and round", flush=True)


def counted(number, thing):
    return f"{number} {thing}" + ("" if number == 1 else "s")


def measure_all(plan, load, all_figures, folder):
    """Every round of every peer, peers in turn. Returns how many failed."""
    began, failed, done = time.monotonic(), 0, 0
    for number in range(1, plan.rounds + 1):
        for figures in all_figures:
            def progress(what, name=figures.peer.name, number=number):
                share = done / (plan.rounds * len(all_figures))
                say(f"\r{int(time.monotonic() - began):5} s {share:4.0%}  round {number} of "
                    f"{plan.rounds}  {name}: {what:<36}", end="" if sys.stderr.isatty() else "\n")
            try:
                measure_round(plan, load, figures, folder, progress)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                failed += 1
                figures.note(f"FAILED in round {number}: {error}")
                say(f"\n{figures.peer.name} FAILED in round {number}: {error}")
            done += 1
    say("")
    return failed


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench/versus.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true",
                        help="few connections, one round, holds of 1 s: shows that all works")
    parser.add_argument("--peers", metavar="A,B", type=peers_named, default=[],
                        help="only these: " + ", ".join(peer.name for peer in PEERS))
    parser.add_argument("--connections", metavar="N", type=at_least_100,
                        help="held under load (default 15000; quick: 500)")
    parser.add_argument("--rates", metavar="A,B,C", type=rates_named,
                        help="heartbeats a second (default 1000,15000,75000)")
    parser.add_argument("--rounds", metavar="N", type=at_least_1,
                        help="of all peers, which take turns (default 3; quick: 1)")
    parser.add_argument("--no-real-time", action="store_true",
                        help="leave servers and load at the usual priority")
    parser.add_argument("--json", metavar="FILE",
                        help="where the JSON goes, and .html and .md beside it (default "
                             "build/versus/versus.json; quick: build/versus/quick.json)")
    options = parser.parse_args(arguments)
    if options.json is None:
        options.json = os.path.join(OUT, "quick.json" if options.quick else "versus.json")
    return options


def peers_named(text):
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in [peer.name for peer in PEERS]:
            raise argparse.ArgumentTypeError(f"'{name}' is not a peer; see --help for those known")
    return names


def at_least(least, text):
    if not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of at least {least}")
    return int(text)


def at_least_1(text):
    return at_least(1, text)


def at_least_100(text):
    return at_least(100, text)


def rates_named(text):
    rates = [at_least(1, rate) for rate in text.split(",")]
    if len(rates) != 3:
        raise argparse.ArgumentTypeError(f"'{text}' is not three rates, such as 1000,15000,75000")
    return rates


def main(arguments):
    options = parse(arguments)
    if not os.path.exists(PULSELOAD):
        print(f"bench/versus.py: {PULSELOAD} is missing; run make first", file=sys.stderr)
        return 2
    plan = Plan(options)
    all_figures, skipped = prepare(options.peers)
    machine = dict(machine_of(plan), load_average_at_start=round(os.getloadavg()[0], 1))
    announce(plan, machine, all_figures, skipped)
    if not all_figures:
        print("bench/versus.py: no server to compare is installed", file=sys.stderr)
        return 1
    folder = tempfile.mkdtemp(prefix="versus-")
    load = Load(plan, folder)
    interrupted = False
    try:
        failed = measure_all(plan, load, all_figures, folder)
    except KeyboardInterrupt:
        failed, interrupted = 1, True
    finally:
        shutil.rmtree(folder)
    command = " ".join(["bench/versus.py", *arguments])
    result = result_of(plan, machine, load, all_figures, skipped, command)
    written = write_reports(result, options.json)
    print(versus_page.text(result))
    if result["machine"]["other_work_cores"] > OTHER_WORK_MAX:
        print("other work had a good part of the machine: compare rows, not figures")
    print("written: " + ", ".join(os.path.relpath(path) for path in written))
    if interrupted:
        return 130
    return 1 if failed else 3 if versus_page.missing(result) else 0


def run():
    def stop(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, stop)  # as SIGINT: what was started is ended
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        print(f"bench/versus.py: {error.filename or 'stdout'}: {error.strerror}; free space, or "
              "write elsewhere with --json", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its exit
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    run()
