#!/usr/bin/env python3
"""Runs fuzz targets, each on its kept corpus; `make fuzz` calls it.

    tests/fuzz/run.py RUNS PROGRAM...

PROGRAM is build/fuzz/tests/fuzz/NAME_fuzz; its corpus is tests/fuzz/corpus/NAME, which is read
and never written: what a run finds new lands in build/fuzz/corpus/NAME, and an input that breaks
the program in build/fuzz/NAME-crash-..., with the command that replays it. To keep what was found,
merge it: PROGRAM -merge=1 tests/fuzz/corpus/NAME build/fuzz/corpus/NAME. As many programs run at
once as there are cores. The last line is `N passed, N failed`.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
INPUT_BYTES_MAX = 8192  # past every limit that the targets set
# An input, on the wall clock: on a busy machine a run that takes microseconds was once not
# scheduled for twelve seconds.
INPUT_SECONDS_MAX = 120
SECONDS_MAX = 3600  # a target, against a hang


def run_target(program, runs):
    name = re.sub(r"_fuzz$", "", os.path.basename(program))
    kept = os.path.join(ROOT, "tests", "fuzz", "corpus", name)
    found = os.path.join(BUILD, "fuzz", "corpus", name)
    os.makedirs(found, exist_ok=True)
    prefix = os.path.join(BUILD, "fuzz", name + "-")
    command = [program, f"-runs={runs}", f"-max_len={INPUT_BYTES_MAX}",
               f"-timeout={INPUT_SECONDS_MAX}", f"-max_total_time={SECONDS_MAX}",
               "-print_final_stats=1", f"-artifact_prefix={prefix}", found]
    if os.path.isdir(kept):
        command.append(kept)
    began = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=SECONDS_MAX + 60)
        code, output = done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as expired:
        code, output = 1, (expired.stdout or b"").decode(errors="replace") + "\nhung"
    executed = re.search(r"number_of_executed_units:\s*(\d+)", output)
    done_runs = int(executed[1]) if executed else 0
    seconds = time.monotonic() - began
    corpus = len(os.listdir(kept)) if os.path.isdir(kept) else 0
    lines = [f"{'ok' if code == 0 else 'FAIL'}  {name}: {done_runs} runs of {runs} in "
             f"{seconds:.0f} s, {corpus} inputs kept, {len(os.listdir(found))} found"]
    if code == 0 and done_runs < runs:
        lines.append(f"      cut short after {SECONDS_MAX} s; ask for fewer runs")
    if code != 0:
        lines += ["      " + line for line in output.splitlines()[-40:]]
        artifact = re.search(r"Test unit written to (\S+)", output)
        if artifact:
            lines.append(f"      replay: {program} {artifact[1]}")
    return code == 0, "\n".join(lines)


def main():
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        print(__doc__, file=sys.stderr)
        return 2
    runs, programs = int(sys.argv[1]), sys.argv[2:]
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for ok, text in pool.map(lambda program: run_target(program, runs), programs):
            print(text, flush=True)
            passed, failed = passed + ok, failed + (not ok)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
