"""What measures a process: perf's counters, /proc, and whether this machine allows them."""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

from measuring import environment  # noqa: F401: scripts take it from here, too
from measuring.command import Failed
from measuring.environment import read

ATTACH_SECONDS_MAX = 20


def resident_bytes(pid):
    found = re.search(r"^VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status") or "", re.M)
    return int(found[1]) * 1024 if found else 0


def scheduling(pid):
    """{thread: its name, ns that it ran and waited for a core, how often it slept and was put off}.

    From schedstat and status of each thread; `waited_ns` is None where the kernel keeps no
    schedstat.
    """
    threads = {}
    with contextlib.suppress(FileNotFoundError):
        for task in map(int, os.listdir(f"/proc/{pid}/task")):
            folder = f"/proc/{pid}/task/{task}"
            status, name = read(f"{folder}/status"), read(f"{folder}/comm")
            if not status or name is None:
                continue  # it has ended
            switches = dict(re.findall(r"^(\w+)_ctxt_switches:\s+(\d+)$", status, re.M))
            fields = (read(f"{folder}/schedstat") or "").split()
            threads[task] = {"name": name, "sleeps": int(switches["voluntary"]),
                             "preemptions": int(switches["nonvoluntary"]),
                             "ran_ns": int(fields[0]) if len(fields) == 3 else None,
                             "waited_ns": int(fields[1]) if len(fields) == 3 else None,
                             "slices": int(fields[2]) if len(fields) == 3 else None}
    return threads


def why_no_perf():
    """Why perf cannot be used at all; None where it can."""
    if not shutil.which("perf"):
        return "perf is not installed; apt-get install linux-perf"
    done = subprocess.run(["perf", "stat", "-x,", "-e", "task-clock:u", "true"],
                          capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    level = environment.sysctl("kernel.perf_event_paranoid")
    return (f"perf may not be used here (kernel.perf_event_paranoid is {level}, and a container's "
            "seccomp profile may refuse perf_event_open); run as root, or lower it to 1")


def counts_here(event, everywhere=False):
    """Whether perf counts this event on this machine; with `everywhere` of all its processes."""
    done = subprocess.run(["perf", "stat", "-x,", *(["-a"] if everywhere else []), "-e", event,
                           "true"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and re.match(r"\d", done.stderr.strip()) is not None


def has_event(event):
    """Whether perf knows a tracepoint, by the files of the kernel; True where they are not seen."""
    folder = "/sys/kernel/tracing/events"
    return not os.path.isdir(f"{folder}/sched") or os.path.isdir(
        os.path.join(folder, event.replace(":", "/")))


class Controlled:
    """A perf that counts or records only from begin() to end(): one process, or without a pid what
    the command names."""

    def __init__(self, command, pid, folder):
        self.fifos = [os.path.join(folder, name) for name in ("perf.control", "perf.answer")]
        for fifo in self.fifos:
            with contextlib.suppress(FileNotFoundError):
                os.remove(fifo)
            os.mkfifo(fifo)
        self.ends = [os.open(fifo, os.O_RDWR | os.O_NONBLOCK) for fifo in self.fifos]
        self.log = os.path.join(folder, "perf.log")
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*command, "--delay=-1", f"--control=fifo:{self.fifos[0]},{self.fifos[1]}",
                 *(["-p", str(pid)] if pid else [])], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def say(self, word):
        os.write(self.ends[0], f"{word}\n".encode())
        deadline = time.monotonic() + ATTACH_SECONDS_MAX
        answer = b""
        while b"ack\n" not in answer:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Failed(f"perf: did not take '{word}'; {(read(self.log) or '')[-500:]}")
            with contextlib.suppress(BlockingIOError):
                answer += os.read(self.ends[1], 64)
            time.sleep(0.001)

    def begin(self):
        self.say("enable")

    def end(self):
        """Stops, and returns what perf had to say."""
        self.say("disable")
        self.stop()
        return read(self.log) or ""

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=ATTACH_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for end in self.ends:
            os.close(end)
        for fifo in self.fifos:
            os.remove(fifo)
        self.ends, self.fifos = [], []


class Counting(Controlled):
    """Counts events of a process."""

    def __init__(self, pid, events, folder):
        self.out = os.path.join(folder, "perf.counts")
        command = ["perf", "stat", "-x", ",", "-o", self.out]
        for event in events:
            command += ["-e", event]
        super().__init__(command, pid, folder)

    def end(self):
        """{event: count, or None where it is not counted}."""
        super().end()
        counts = {}
        for line in (read(self.out) or "").splitlines():
            fields = line.split(",")
            if len(fields) > 3 and not line.startswith("#"):
                counts[fields[2]] = float(fields[0]) if re.match(r"[\d.]+$", fields[0]) else None
        return counts
