#!/usr/bin/env python3
"""Counts the instructions of a heartbeat with callgrind, which a busy machine does not blur.

    bench/instructions.py [LOOP_BENCH [BEFORE]]     (default: build/release/bench/loop_bench)

With a second binary, of another commit, its counts and the ratio stand beside.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools", "perf"))
from script import run_script, usage  # noqa: E402: its path comes first

BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
COUNTED = "*Stage*::run_heartbeats*"
HEARTBEATS = 5 * 200 * 1000  # iterations, turns and connections of bench/loop_bench.cc


def forms_of(binary):
    listed = subprocess.run([binary, "--benchmark_list_tests"], capture_output=True, text=True,
                            check=True)
    return [name for name in listed.stdout.split() if name.startswith("heartbeat/")]


def instructions(binary, form):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--toggle-collect={COUNTED}",
             f"--callgrind-out-file={folder}/out", binary, f"--benchmark_filter=^{form}$"],
            capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"instructions: {form} was not counted:\n{done.stderr}")
    return int(found[1]) / HEARTBEATS


def main(arguments):
    if len(arguments) > 2:
        return usage("bench/instructions.py", "give at most two binaries")
    if not shutil.which("valgrind"):
        sys.exit("instructions: valgrind is not installed; `make deps-bench` installs it")
    binaries = arguments or [os.path.join(BUILD, "release/bench/loop_bench")]
    for binary in binaries:
        if not os.path.exists(binary):
            sys.exit(f"instructions: no binary {binary}; `make bench-build` makes it")
    print("instructions a heartbeat" + ("   now   before   ratio" if len(binaries) == 2 else ""))
    known = {binary: forms_of(binary) for binary in binaries}
    for form in known[binaries[0]]:
        name = form.split("/")[1]
        counts = [instructions(binary, form) for binary in binaries if form in known[binary]]
        line = f"  {name:<24}" + "".join(f" {count:8.1f}" for count in counts)
        ratio = f" {counts[0] / counts[1]:7.3f}" if len(counts) == 2 else ""
        print(line + ratio, flush=True)
    return 0


if __name__ == "__main__":
    run_script("bench/instructions.py", __doc__, main, kept="nothing is kept")
