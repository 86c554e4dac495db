#!/usr/bin/env python3
"""Adding a gauge, a distribution, an io counter, a counter or a close reason is one line each;
a control message is a kind and what it does, and does not compile without that; a protocol is a
file and a line.

Copies the folders that matter into a temporary tree, adds a line to each table and nothing else,
builds the test of --stats-json and /metrics there, and looks for the new names among the tests that
passed. Built without optimization and from the few sources that the test needs. A protocol is added
to another copy: its file and the table are compiled, everything else is the library of the build.
"""
import concurrent.futures
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCES = ["tests/net/server/stats_test.cc", "net/server/stats.cc", "net/loop/reactor_json.cc",
           "net/control/metrics_text.cc", "core/metrics.cc", "core/histogram.cc",
           "core/units.cc", "core/check.cc"]
CXX = shlex.split(os.environ.get("CXX", "g++"))
FLAGS = ["-std=c++20", "-O0", "-pthread", "-I.", "-Wall", "-Wextra", "-Werror"]
LIBS = ["-lgtest", "-lgtest_main", "-lfmt", "-lprometheus-cpp-core", "-lpthread"]
ADDED = [("core/gauges.def", "Gauges", "added_gauge",
          'X(added_gauge, "added_gauge_us", microseconds, worst, "Added by a test")'),
         ("core/distributions.def", "Distributions", "added_distribution",
          'X(added_distribution, delay, "Added by a test")'),
         ("core/metrics.def", "Counters", "added_counter",
          'X(added_counter, "things", "Added by a test")'),
         ("net/io/io_counters.def", "IoCounters", "added_io_counter",
          'X(added_io_counter, "Added by a test")'),
         ("core/close_reason.def", "CloseReasons", "added_reason",
          'X(added_reason, 4099, by_server, "added_reason", "nothing")')]
# Of the tests of one line that each table has, one of --stats-json and one of /metrics.
TESTS = {"Gauges": ("IsAMemberInItsUnit", "IsAFamilyOfMetrics"),
         "Distributions": ("IsAMemberWithItsSum", "IsAHistogramOfMetrics"),
         "Counters": ("IsAMemberWithItsSum", "IsAFamilyOfMetrics"),
         "IoCounters": ("IsAMemberOfIoWithItsSum", "IsAFamilyOfMetrics"),
         "CloseReasons": ("IsCountedForClosesAndRefusals", "IsALabelOfMetrics")}


# Of a control message: the kind, and what it does.
KIND = ("core/message.h", r"    using Body = std::variant<([^;]*)>;",
        r"    struct Added {};\n    using Body = std::variant<\1, Added>;")
HANDLER = ("net/loop/connections.cc", r"(    void operator\(\)\(const Message::Snapshot&\).*)",
           r"\1\n    void operator()(const Message::Added&) const { connections.drain(); }")


def change(tree, path, pattern, replacement):
    with open(os.path.join(tree, path), encoding="utf-8") as file:
        text, count = re.subn(pattern, replacement, file.read())
    assert count == 1, f"{path}: {pattern} matches {count} times"
    with open(os.path.join(tree, path), "w", encoding="utf-8") as file:
        file.write(text)


def check_message(tree):
    """Two lines of the report: a kind that nothing handles, and one that is handled."""
    handler = HANDLER[0]
    command = [*CXX, *FLAGS, "-fsyntax-only", handler]

    def compiles():
        done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode == 0, done.stdout.decode(errors="replace")
    change(tree, *KIND)
    without, text = compiles()
    yield not without and "Added" in text, f"a kind in {KIND[0]} needs what it does in {handler}"
    change(tree, *HANDLER)
    whole, text = compiles()
    yield whole, "and nothing else" + ("" if whole else ":\n" + text[-4000:])


# A protocol: a file, a line, the only source that is compiled anew for it, and its tests.
LIBRARY = os.path.join(ROOT, os.environ.get("BUILD", "build"), "release/libpulse.a")
PROTOCOL_SOURCES = ["net/protocols/added.cc", "net/protocols/protocols.cc",
                    "tests/net/protocols/protocols_test.cc",
                    "tests/support/add_one/speaks_added.cc"]
PROTOCOL_LIBS = [LIBRARY, *LIBS, "-luring", "-lsimdjson", "-lssl", "-lcrypto",
                 "-lz"]
PROTOCOL_TESTS = {
    r"Rows/EachProtocol\.IsItsListenersSchemeAndIsInTheHelp/added": "is a scheme, and in --help",
    r"Rows/EachProtocol\.IsToldByItsPrefixesAndNoOtherIs/added": "is told by its first bytes",
    r"AddedProtocol\.IsSpokenByItsListenerAndByOneOfAll":
        "is answered, probed and evicted with a goodbye",
    r"AddedProtocol\.IsRefusedInItsWordsAndRefusesInItsName": "is refused, and refuses others"}


def compile_one(tree, source):
    output = os.path.join(tree, source.replace("/", "_") + ".o")
    done = subprocess.run([*CXX, *FLAGS, "-c", source, "-o", output], cwd=tree,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return output, done.returncode, done.stdout.decode(errors="replace")


def build(tree, sources, libs):
    """The program, or None and what the compiler printed."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda source: compile_one(tree, source), sources))
    if any(code for _, code, _ in objects):
        return None, "".join(text for _, _, text in objects)
    program = os.path.join(tree, "added_test")
    done = subprocess.run([*CXX, *FLAGS, *[path for path, _, _ in objects], *libs, "-o", program],
                          cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return (program if done.returncode == 0 else None), done.stdout.decode(errors="replace")


def output_of(program, tree):
    return subprocess.run([program], cwd=tree, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout.decode(errors="replace")


def add_protocol():
    """Returns how many checks passed, and how many failed."""
    passed = failed = 0
    with tempfile.TemporaryDirectory() as tree:
        for folder in ("core", "net", "proto", "tests/net", "tests/support"):
            shutil.copytree(os.path.join(ROOT, folder), os.path.join(tree, folder))
        shutil.copy(os.path.join(tree, "tests/support/add_one/added.cc"),
                    os.path.join(tree, "net/protocols/added.cc"))
        rows = os.path.join(tree, "net/protocols/protocols.def")
        with open(rows, "a", encoding="utf-8") as table:
            table.write("X(added)\n")
        program, text = build(tree, PROTOCOL_SOURCES, PROTOCOL_LIBS)
        output = ""
        if program is None:
            hint = "" if os.path.exists(LIBRARY) else f"; {LIBRARY} is missing: run `make`"
            print(f"      the tree with a protocol more does not build{hint}:\n{text[-4000:]}")
        else:
            output = output_of(program, tree)
        for test, words in PROTOCOL_TESTS.items():
            ok = re.search(rf"\[ +OK \] {test} ", output)
            print(f"{'ok' if ok else 'FAIL'}  a file and a line in net/protocols/: it {words}")
            passed, failed = passed + bool(ok), failed + (not ok)
        whole = re.search(r"\[  PASSED  \] \d+ tests\.\n$", output)
        print(f"{'ok' if whole else 'FAIL'}  and no other protocol is changed by it")
        passed, failed = passed + bool(whole), failed + (not whole)
        if program is not None and failed:
            print(output[-4000:])
    return passed, failed


def main():
    passed, failed = add_protocol()
    with tempfile.TemporaryDirectory() as tree:
        for folder in ("core", "net", "proto", "tests/net/server"):
            shutil.copytree(os.path.join(ROOT, folder), os.path.join(tree, folder))
        for path, _, _, line in ADDED:
            with open(os.path.join(tree, path), "a", encoding="utf-8") as table:
                table.write(line + "\n")
        program, text = build(tree, SOURCES, LIBS)
        output = ""
        if program is None:
            print("      the tree with a line more in each table does not build:\n" + text[-4000:])
        else:
            output = output_of(program, tree)
        for path, suite, name, _ in ADDED:
            for test, where in zip(TESTS[suite], ("--stats-json", "/metrics")):
                ok = re.search(rf"\[ +OK \] {suite}/\w+\.{test}/{name} ", output)
                print(f"{'ok' if ok else 'FAIL'}  a line in {path} is {name} in {where}")
                passed, failed = passed + bool(ok), failed + (not ok)
        whole = re.search(r"\[  PASSED  \] \d+ tests\.\n$", output)
        print(f"{'ok' if whole else 'FAIL'}  and nothing else of them is changed by it")
        passed, failed = passed + bool(whole), failed + (not whole)
        for good, what in check_message(tree):
            print(f"{'ok' if good else 'FAIL'}  {what}")
            passed, failed = passed + good, failed + (not good)
        if program is not None and failed:
            print(output[-4000:])
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
