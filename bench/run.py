#!/usr/bin/env python3
"""Runs the benches and prints tables that can be read and quoted; `make bench` calls it.

    bench/run.py [--only WORD] BINARY...        (make bench ARGS='--only WORD')

Each Google Benchmark binary leaves its JSON in build/bench/NAME.json. Rows named
workload/size/contender become one table a workload and size, with every contender's time as a ratio
to ours, which is the one named `pulse`; all other rows are listed as they are. Then every
bench/*_bench.py runs, which prints its own tables. With --only, just the rows (and scripts) whose
name holds WORD.
"""
import datetime
import glob
import json
import os
import platform
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools", "perf"))
from script import run_script, usage  # noqa: E402: its path comes first

BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
OURS = "pulse"
SUFFIXES = re.compile(
    r"/(iterations:\d+|repeats:\d+|min_time:[\d.]+|manual_time|real_time|process_time"
    r"|threads:\d+)(?=/|$)")
NANOSECONDS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
# What Google Benchmark reports of a row besides the counters that the bench gave it.
STANDARD = {"name", "family_index", "per_family_instance_index", "run_name", "run_type",
            "repetitions", "repetition_index", "threads", "iterations", "real_time", "cpu_time",
            "time_unit", "label", "aggregate_name", "aggregate_unit", "items_per_second",
            "bytes_per_second", "error_occurred", "error_message"}


def say_machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = re.findall(r"^model name\s*: (.*)$", file.read(), re.M)
    revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    print(f"{datetime.date.today()}, {models[0] if models else platform.machine()}, "
          f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, "
          f"revision {revision.strip() or 'unknown'}, load {os.getloadavg()[0]:.1f} at the start")


def run_binary(binary, only):
    name = os.path.basename(binary)
    out = os.path.join(BUILD, "bench", name + ".json")
    command = [binary, f"--benchmark_out={out}", "--benchmark_out_format=json"]
    if only:
        command.append(f"--benchmark_filter={re.escape(only)}")
    if os.path.exists(out):
        os.remove(out)  # an earlier run's rows are not this one's
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode != 0:
        print(f"{name} failed with exit code {done.returncode}:\n{done.stderr.decode()}")
        return None
    try:
        with open(out, encoding="utf-8") as file:
            return json.load(file)["benchmarks"]
    except (ValueError, FileNotFoundError):
        return []  # the filter left nothing


def time_text(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns" if ns >= 0.1 else "< 0.1 ns"


def number_text(value):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def print_table(title, headings, rows):
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    print(f"\n{title}")
    for row in [headings, *rows]:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]
        print("  " + "   ".join(cells).rstrip())


def row_of(bench):
    """Name, nanoseconds, and the counters, of which rates come first."""
    counters = {}
    if "items_per_second" in bench:
        counters["items/s"] = bench["items_per_second"]
    if "bytes_per_second" in bench:
        counters["bytes/s"] = bench["bytes_per_second"]
    counters.update((key, value) for key, value in bench.items() if key not in STANDARD)
    # A bench with a clock of its own names it so; of all others it is the time on a processor.
    time = bench["real_time" if "/manual_time" in bench["run_name"] else "cpu_time"]
    return time * NANOSECONDS[bench["time_unit"]], counters


def print_rows(benches):
    """One table for each workload/size, one for all the rest."""
    tables = {}
    spreads = {bench["run_name"]: bench["real_time"] for bench in benches
               if bench.get("aggregate_name") == "spread"}
    for bench in benches:
        if bench.get("error_occurred"):
            print(f"\n{bench['name']}: {bench['error_message']}")
            continue
        if bench.get("aggregate_name", "median") != "median":
            continue
        parts = SUFFIXES.sub("", bench["run_name"]).split("/")
        title, name = " ".join(parts[:2]), parts[2:]
        if len(parts) != 3:
            title, name = "", parts
        row = ("/".join(name), bench.get("label", ""), *row_of(bench))
        if bench["run_name"] in spreads:
            row[3]["spread"] = spreads[bench["run_name"]]
        tables.setdefault(title, []).append(row)
    for title, rows in tables.items():
        keys = list(dict.fromkeys(key for row in rows for key in row[3]))
        ours = next((row[2] for row in rows if row[0] == OURS), None) if title else None
        headings = ["", "time", *(["to ours"] if ours else []),
                    *(key.replace("_", " ") for key in keys)]
        lines = []
        for contender, _, ns, counters in rows:
            ratio = [f"{ns / ours:.2f} x" if ours >= 0.5 else "-"] if ours else []
            values = [number_text(counters[key]) if key in counters else "-" for key in keys]
            lines.append([contender, time_text(ns), *ratio, *values])
        label = next((row[1] for row in rows if row[1]), "") if title else ""
        print_table((f"{title}: {label}" if label else title) or "other rows", headings, lines)


def main(arguments, only=""):
    if not arguments:
        return usage("bench/run.py", "no BINARY is given; `make bench` gives them all")
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    say_machine()
    failed = matched = 0
    for binary in arguments:
        benches = run_binary(binary, only)
        failed += benches is None
        matched += len(benches or [])
        print_rows(benches or [])
        sys.stdout.flush()
    for script in sorted(glob.glob(os.path.join(ROOT, "bench", "*_bench.py"))):
        if only in os.path.basename(script):
            matched += 1
            print(f"\n{os.path.basename(script)}", flush=True)
            failed += subprocess.run([sys.executable, script], cwd=ROOT).returncode != 0
    if matched == 0 and failed == 0:
        return usage("bench/run.py",
                     f"--only '{only}': the name of no row and no script holds it")
    print(f"\nJSON of every row: {os.path.relpath(os.path.join(BUILD, 'bench'), ROOT)}/")
    return 1 if failed else 0


if __name__ == "__main__":
    run_script("bench/run.py", __doc__, main, kept="the JSON files are kept", options=("--only",))
