#!/usr/bin/env python3
"""Runs test programs and counts every test of every one of them.

    tests/run.py [--meanwhile COMMAND] GROUP PROGRAM... [: GROUP PROGRAM...]...

A GoogleTest binary is asked for its results as JSON; a *_test.py prints `N passed, N failed` (with
`, N skipped`) as its last line. Programs below tests/system/ measure time and mostly wait: they run
when all others are done, two at once. With --meanwhile they run first, beside a command that makes
the others and gets what they leave of the cores (SCHED_IDLE). The last line printed is the sum,
alone on its line; the exit code is 1 on any failure.
"""
import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time

TIMEOUT_S = 900
SYSTEM_AT_ONCE = 2  # one that needs a core for a moment leaves one to the other
CLOSING_LINE = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)


class Outcome:
    """What one program did: counts, the names of failed and skipped tests, and its output."""

    def __init__(self, group, program):
        self.group, self.program = group, program
        self.passed, self.failed, self.skipped = 0, 0, 0
        self.notes, self.output, self.seconds = [], "", 0.0


def run_program(group, program):
    outcome = Outcome(group, program)
    started = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".json") as results:
        is_script = program.endswith(".py")
        command = [sys.executable, program] if is_script else [
            os.path.abspath(program), f"--gtest_output=json:{results.name}", "--gtest_brief=1"]
        environment = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:abort_on_error=0",
                           UBSAN_OPTIONS="print_stacktrace=1", TSAN_OPTIONS="halt_on_error=1")
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=TIMEOUT_S, env=environment, stdin=subprocess.DEVNULL)
            outcome.output = done.stdout.decode(errors="replace")
            code = done.returncode
        except subprocess.TimeoutExpired as expired:
            outcome.output = (expired.stdout or b"").decode(errors="replace")
            outcome.notes.append(f"did not end within {TIMEOUT_S} s")
            code = -1
        if is_script:
            count_script(outcome)
        else:
            count_gtest(outcome, results)
    if code != 0 and outcome.failed == 0:
        outcome.failed = 1
        outcome.notes.append(f"exit code {code} without a failed test: it crashed or leaked")
    if outcome.passed + outcome.failed + outcome.skipped == 0:
        outcome.failed = 1
        outcome.notes.append("ran no test")
    outcome.seconds = time.monotonic() - started
    return outcome


def count_script(outcome):
    lines = CLOSING_LINE.findall(outcome.output)
    if lines:
        outcome.passed, outcome.failed, outcome.skipped = (int(n or 0) for n in lines[-1])
    for line in re.findall(r"^SKIPPED .*$", outcome.output, re.M):
        outcome.notes.append(line)


def count_gtest(outcome, results):
    try:
        report = json.load(results)
    except ValueError:
        return
    for suite in report["testsuites"]:
        for test in suite["testsuite"]:
            name = f"{suite['name']}.{test['name']}"
            if test.get("failures"):
                outcome.failed += 1
                outcome.notes.append(f"FAILED {name}")
            elif test.get("result") == "SKIPPED":
                outcome.skipped += 1
                outcome.notes.append(f"SKIPPED {name}")
            elif test.get("status") == "RUN":
                outcome.passed += 1


def show(outcome):
    word = "FAIL" if outcome.failed else "ok"
    print(f"{word:>6}  {outcome.group:<6} {outcome.program:<56} {outcome.passed:>5} passed "
          f"{outcome.seconds:7.1f} s", flush=True)
    for note in outcome.notes:
        print(f"        {note}")
    printed = [line for line in outcome.output.splitlines() if line.startswith("REPORT ")]
    for line in printed:
        print("        " + line[len("REPORT "):])
    if outcome.failed:
        tail = outcome.output.splitlines()[-120:]
        print("\n".join("        | " + line for line in tail), flush=True)


def run_all(jobs, at_once):
    outcomes = []
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for future in concurrent.futures.as_completed(
                [pool.submit(run_program, *job) for job in jobs]):
            outcomes.append(future.result())
            show(outcomes[-1])
    return outcomes


def yield_cores():
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:  # a sandbox that has no such policy
        os.nice(19)


def jobs_of(words):
    jobs, group, expecting_group = [], None, True
    for word in words:
        if word == ":":
            expecting_group = True
        elif expecting_group:
            group, expecting_group = word, False
        else:
            jobs.append((group, word))
    return jobs


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--meanwhile", metavar="COMMAND")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="GROUP PROGRAM...")
    options = parser.parse_args(arguments)
    jobs = jobs_of(options.words)
    alone = [job for job in jobs if "tests/system/" in job[1]]
    together = [job for job in jobs if job not in alone]
    alone.reverse()  # the longest early
    if options.meanwhile:
        # A make that this one is a recipe of has its jobs in a pipe that the command inherits.
        making = subprocess.Popen(options.meanwhile, shell=True, preexec_fn=yield_cores,
                                  close_fds=False)
        outcomes = run_all(alone, SYSTEM_AT_ONCE)
        if making.wait() != 0:
            made = Outcome("make", options.meanwhile)
            made.failed = 1
            made.notes.append(f"exit code {making.returncode}: what it makes was not run")
            outcomes.append(made)
            show(made)
            together = []
        outcomes += run_all(together, os.cpu_count())
    else:
        outcomes = run_all(together, os.cpu_count()) + run_all(alone, SYSTEM_AT_ONCE)
    passed, failed, skipped = (sum(getattr(o, field) for o in outcomes)
                               for field in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
