"""System calls of the server for each heartbeat, by name.

  syscalls.sh                                  of a server and load that it starts
  syscalls.sh --backend io_uring --rate 50k
  syscalls.sh --pid 4711 --admin 127.0.0.1:9100    of a server that runs

Counted by perf's tracepoints where they are allowed, else by strace, which slows the server by a
factor and is right about counts all the same, else by the server itself, which knows the calls of
its backend and not their names. The two questions to its admin endpoint, at the begin and at the
end, are among them: about a hundred calls.

Exit code: 0; 1 they could not be counted; 2 usage.
"""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from measuring import tools, workload
from measuring.command import Failed, add_output, add_workload
from measuring.environment import read
from measuring.results import Results, figure, table

METHODS = ("auto", "perf", "strace", "server")
ALL = "raw_syscalls:sys_enter"
# What a server of sockets calls. Each one more takes 0.1 s to attach, so what else there is comes
# as one line.
NAMES = ("accept4", "clock_gettime", "close", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
         "epoll_wait", "futex", "getsockopt", "io_uring_enter", "io_uring_register", "mmap",
         "munmap", "read", "readv", "recvfrom", "recvmsg", "sched_yield", "sendmsg", "sendto",
         "setsockopt", "shutdown", "write", "writev")
EVENT = "syscalls:sys_enter_"
STRACE_ROW = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.M)
ATTACH_SECONDS_MAX = 20


def add_flags(parser):
    parser.add_argument("--method", choices=METHODS, default="auto",
                        help="what counts: %(choices)s (default %(default)s)")
    add_workload(parser)
    add_output(parser)


class Traced:
    """strace, attached to all threads of a process."""

    def __init__(self, pid, folder):
        self.out, self.pid, self.folder = os.path.join(folder, "strace.counts"), pid, folder
        self.process = None

    def begin(self):
        log_path = os.path.join(self.folder, "strace.log")
        threads = len(os.listdir(f"/proc/{self.pid}/task"))
        with open(log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["strace", "-c", "-f", "-o", self.out, "-p", str(self.pid)], stdout=log,
                stderr=log, stdin=subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        deadline = time.monotonic() + ATTACH_SECONDS_MAX
        while not re.search(rf"attached with {threads} threads|{self.pid} attached",
                            read(log_path) or ""):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise Failed(f"strace: could not attach to {self.pid}: {read(log_path)}; run as "
                             "root, or give --method server")
            time.sleep(0.01)

    def end(self):
        """{name: calls}."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=ATTACH_SECONDS_MAX)
        return calls_of(read(self.out) or "")


def calls_of(text):
    """{name: calls} of strace's summary."""
    return {name: int(calls) for calls, name in STRACE_ROW.findall(text) if name != "total"}


def method_for(options, results):
    """What counts here, and a note where it is not the best."""
    if options.method != "auto":
        return options.method
    why = tools.why_no_perf()
    if why is None and tools.counts_here(ALL):
        return "perf"
    why = why or "tracepoints may not be used here; run as root"
    if shutil.which("strace"):
        results.note(f"perf does not count: {why}. strace does, which slows the server: counts are "
                     "right, heartbeats a second and CPU are not the usual")
        return "strace"
    results.note(f"perf does not count: {why}; strace is not installed. The server's own counter "
                 "has the calls of its backend, without their names")
    return "server"


class NotCounted(Failed):
    """perf ran, and has no count: it was not scheduled in the window, or was refused."""


def from_perf(counts):
    """{name: calls} of what perf counted."""
    if counts.get(ALL) is None:
        raise NotCounted(f"perf: did not count {ALL}; measure for longer, or give --method strace")
    calls = {name: int(counts.get(EVENT + name) or 0) for name in NAMES}
    named = sum(calls.values())
    return {**calls, "others": max(0, int(counts[ALL]) - named)}


def count(watched, options, method):
    """{name: calls}, and the window in which they were made."""
    with tempfile.TemporaryDirectory() as folder:
        if method == "perf":
            events = [ALL] + [EVENT + name for name in NAMES if tools.has_event(EVENT + name)]
            counter = tools.Counting(watched.pid, events, folder)
            window, counts = workload.watched_for(watched, options.seconds, counter.begin,
                                                     counter.end)
            return from_perf(counts), window
        if method == "strace":
            counter = Traced(watched.pid, folder)
            window, counts = workload.watched_for(watched, options.seconds, counter.begin,
                                                     counter.end)
            return counts, window
    if watched.admin is None:
        raise Failed("--method server: give --admin, the endpoint that counts")
    window, _ = workload.watched_for(watched, options.seconds)
    calls = [reading.counters["io"]["system_calls"] for reading in (window.before, window.after)]
    window.seconds = window.after.at_s - window.before.at_s
    return {"all of the backend": calls[1] - calls[0]}, window


def main(options):
    results = Results("syscalls", options)
    method = method_for(options, results)
    try:
        with workload.loaded(options, results.path) as watched:
            calls, window = count(watched, options, method)
    except NotCounted as not_counted:
        if options.method != "auto" or not shutil.which("strace"):
            raise
        results.note(f"{not_counted}. strace counts instead, which slows the server: counts are "
                     "right, heartbeats a second and CPU are not the usual")
        method = "strace"
        with workload.loaded(options, results.path) as watched:
            calls, window = count(watched, options, method)
    total = sum(calls.values())
    used = sorted(((name, number) for name, number in calls.items() if number),
                  key=lambda row: -row[1])
    rows = [[name, f"{number:,}", figure(window.per(number)), f"{100 * number / total:.1f} %"]
            for name, number in used]
    rows.append(["all", f"{total:,}", figure(window.per(total)), ""])
    results.report({"method": method, **window.figures(), "calls": dict(used), "all": total,
                    "per_unit": {name: window.per(number) for name, number in used},
                    "all_per_unit": window.per(total)},
                   [window.head(), f"counted by {method}", "",
                    *table(["system call", "calls", window.unit, "share"], rows)],
                   workload.summary(options))
    return 0
