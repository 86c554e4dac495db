"""A build/pulsewheel of a test's own, for tests that are scripts, and how such a script runs."""
import argparse
import collections
import concurrent.futures
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ.get("BUILD", "build")
# What tests look for in logs, they look for in text; where stderr is no terminal, JSON is the
# default. A test of that removes it.
os.environ.setdefault("PULSEWHEEL_LOG_FORMAT", "text")
BACKENDS = ("epoll", "io_uring")
TLS_MODES = ("openssl", "frozen")


class Way(collections.namedtuple("Way", "backend tls_idle")):
    """How a server is run: `tls_idle` is one of TLS_MODES, or empty where it has no TLS."""

    def __str__(self):
        return f"{self.backend} {'tls ' + self.tls_idle if self.tls_idle else 'plain'}"

    @property
    def flags(self):
        return ("--tls-idle", self.tls_idle) if self.tls_idle else ()


# PULSE_TLS_WAYS=all (`make tls-peers`): each backend with each mode. Else each of both once.
EVERY_TLS_WAY = os.environ.get("PULSE_TLS_WAYS") == "all"
PLAIN_WAYS = tuple(Way(backend, "") for backend in BACKENDS)
TLS_WAYS = tuple(Way(backend, mode) for backend in BACKENDS for mode in TLS_MODES
                 if EVERY_TLS_WAY or (backend == "epoll") == (mode == "frozen"))


def backends_parser(text):
    """Arguments of a campaign, which runs on the backends that are named, or on both."""
    parser = argparse.ArgumentParser(description=text,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backends", nargs="*", metavar="BACKEND", type=backend_named,
                        help=" or ".join(BACKENDS) + " (default: both)")
    return parser


def backend_named(text):
    if text not in BACKENDS:
        raise argparse.ArgumentTypeError(f"'{text}' is not a backend: {', '.join(BACKENDS)}")
    return text


def free_port():
    """A port of 127.0.0.1 outside the range that the kernel chooses from: until it is used,
    neither a listener on port 0 nor a connection of another test can get it."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        lowest, highest = map(int, file.read().split())
    outside = [port for port in range(10_000, 65_536) if not lowest <= port <= highest]
    for port in random.sample(outside, 100):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("100 ports outside net.ipv4.ip_local_port_range are taken")


class Server:
    """One pulsewheel process on a port of the kernel's choice; `inside`: a command to run it by;
    `before`: what the child does before it becomes the server."""

    def __init__(self, backend, *flags, scheme="tcp", host="127.0.0.1", query="", inside=(),
                 before=None, expect_start=True):
        self.directory = tempfile.TemporaryDirectory()
        self.stats_path = os.path.join(self.directory.name, "stats")
        self.log_path = os.path.join(self.directory.name, "log")
        self.log = open(self.log_path, "w+")
        self.process = subprocess.Popen(
            [*inside, f"{BUILD}/pulsewheel", "--listen", f"{scheme}://{host}:0{query}",
             "--backend", backend, "--stats-json", self.stats_path, "--stats-interval", "1s",
             *flags],
            stdout=subprocess.DEVNULL, stderr=self.log, stdin=subprocess.DEVNULL,
            preexec_fn=before)
        if expect_start:
            self.port = self.wait_for_port()

    def text(self):
        with open(self.log_path) as log:
            return log.read()

    def wait_for_port(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.text().splitlines():
                if "listening on" in line:
                    return int(line.rsplit(":", 1)[1].split("?")[0])
            time.sleep(0.02)
        raise AssertionError("did not start: " + self.text())

    def stats(self):
        """The last object; the first one is waited for."""
        deadline = time.monotonic() + 10
        while True:
            try:
                with open(self.stats_path) as file:
                    return json.loads(file.read().rpartition("\n")[0].splitlines()[-1])
            except (FileNotFoundError, IndexError):
                assert time.monotonic() < deadline, "no statistics: " + self.text()
                time.sleep(0.02)

    def reactor_task(self):
        """A thread that serves."""
        for task in sorted(map(int, os.listdir(f"/proc/{self.process.pid}/task"))):
            with open(f"/proc/{self.process.pid}/task/{task}/comm") as file:
                if file.read().startswith("reactor"):
                    return task
        raise AssertionError("no thread is called a reactor")

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """Its exit code, told to stop."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.log.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.directory.cleanup()


class Skipped(Exception):
    """What a test raises that this machine or this backend cannot run; it says why."""


def tests_of(namespace):
    return [(name, test) for name, test in namespace.items() if name.startswith("test_")]


def line_of(error):
    """Where in the test it failed."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if frame.name.startswith("test_")]
    return f"line {lines[0]}: " if lines else ""


def percentiles(values):
    """In words, for a REPORT line."""
    values = sorted(values)
    at = lambda share: values[min(len(values) - 1, int(share * len(values)))]
    return f"min {values[0]:.4f}  p50 {at(.5):.4f}  p99 {at(.99):.4f}  max {values[-1]:.4f}"


def outcome_of(test):
    """(word, what there is to say) of one test."""
    try:
        test()
        return "ok", ""
    except Skipped as reason:
        return "SKIPPED", f": {reason}"
    except Exception as error:  # a test may fail in any way; the others still run
        return "FAILED", f": {line_of(error)}{type(error).__name__}: {error}"


def run_cases(cases, at_once=1):
    """Pairs of a name and what to call: all, or those that the script's arguments name; so many of
    them at once."""
    wanted = sys.argv[1:]
    chosen = [case for case in cases if not wanted or any(word in case[0] for word in wanted)]
    words = []
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for (name, _), outcome in zip(chosen, pool.map(outcome_of, (test for _, test in chosen))):
            words.append(outcome[0])
            print(f"{outcome[0]:<7} {name}{outcome[1]}", flush=True)
    passed, failed, skipped = map(words.count, ("ok", "FAILED", "SKIPPED"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


def run_tests(namespace, at_once=1):
    """Every test_*() of a script, or those that its arguments name; so many at once."""
    return run_cases(tests_of(namespace), at_once)


def run_over_backends(namespace, at_once=1):
    """Every test_*(backend) of a script on each backend, or those that its arguments name; so many
    at once, where they mostly wait."""
    return run_over(namespace, BACKENDS, at_once)


def run_over(namespace, ways, at_once=1):
    """The same with anything that servers are run by: each test is given each."""
    return run_cases([(f"{way} {name}", functools.partial(test, way))
                      for name, test in tests_of(namespace) for way in ways], at_once)
