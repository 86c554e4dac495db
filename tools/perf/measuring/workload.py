"""A loaded server: one that this starts with pulseload beside it, or one that runs already."""
import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from measuring.command import WIRES, Failed, program
from measuring.environment import read

START_SECONDS_MAX = 20
CONNECTS_A_SECOND = 5_000  # slow enough that a busy machine keeps up
# After the last connect, before anything is measured: for half a second a heartbeat costs up to one
# and a half times what it does later.
SETTLE_SECONDS = 0.8
SLICE_SECONDS = 0.1  # what else wakes on the machine is mostly gone within some of them
SLACK_SECONDS = 0.5  # by which the load outlasts what is measured
ATTACHING_SECONDS_MAX = 60  # for a load that is ended once a profiler has what it wants
END_SECONDS_MAX = 30


@dataclasses.dataclass
class Reading:
    """What a process had done at an instant; counters of the server are None without --admin."""
    at_s: float
    cpu_at_s: float
    cpu_s: float
    counters: dict | None


def cpu_seconds(pid):
    """CPU time of all of a process's threads, to the nanosecond.

    The clock that clock_getcpuclockid() gives, whose number is made so (linux/posix-timers.h).
    """
    try:
        return time.clock_gettime_ns(~pid << 3 | 2) / 1e9
    except OSError:
        raise Failed(f"process {pid}: has ended, or its CPU time may not be read") from None


def cores_in_slices(pids, seconds):
    """Waits so long. Returns the cores that each process used, slice by slice, for all alike.

    Fails where a process ends meanwhile.
    """
    slices = [[] for _ in pids]
    at_s, cpu_s = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    deadline = at_s + seconds
    while (left := deadline - at_s) > 0:
        time.sleep(min(left, SLICE_SECONDS))
        for pid in pids:
            if not os.path.isdir(f"/proc/{pid}"):
                raise Failed(f"process {pid}: ended while it was measured")
        now_s, used_s = time.monotonic(), [cpu_seconds(pid) for pid in pids]
        if now_s - at_s >= SLICE_SECONDS / 2:  # the rest of a window may be a moment
            for used, own in zip((now - then for now, then in zip(used_s, cpu_s)), slices):
                own.append(used / (now_s - at_s))
        at_s, cpu_s = now_s, used_s
    return slices


class Admin:
    """The admin endpoint of a server: "HOST:PORT" or "unix:PATH"."""

    def __init__(self, address, token=None):
        self.address, self.token = address, token

    def get(self, target):
        """The JSON of a response. Fails where the endpoint does not answer with one."""
        return json.loads(self.text(target))

    def text(self, target):
        """The body of a response. Fails where the endpoint does not answer with one."""
        try:
            with self.connect() as client:
                token = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
                client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{token}"
                               "Connection: close\r\n\r\n".encode())
                head, _, body = b"".join(iter(lambda: client.recv(65_536), b"")).partition(
                    b"\r\n\r\n")
        except (OSError, ValueError) as error:
            raise Failed(f"--admin {self.address}: {error}; is it the server's --admin?") from None
        status = head.partition(b"\r\n")[0].decode(errors="replace")
        if " 200 " not in status:
            raise Failed(f"--admin {self.address}: {target} was answered '{status}'; give "
                         "--admin-token-file if the server has one")
        return body.decode()

    def connect(self):
        if self.address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(START_SECONDS_MAX)
            client.connect(self.address.removeprefix("unix:"))
            return client
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), START_SECONDS_MAX)


class Watched:
    """A server under load. `pid` is its process; `load` the report of pulseload, once it ended."""

    def __init__(self, pid, admin):
        self.pid, self.admin, self.load = pid, admin, None

    def reading(self, closing=False):
        """Counters and CPU time. The CPU that counting takes lies outside of two readings."""
        def counted():
            if self.admin is None:
                return time.monotonic(), None
            counters = self.admin.get("/api/v1/server")["total"]
            return time.monotonic(), counters
        if closing:
            cpu_at_s, cpu_s = time.monotonic(), cpu_seconds(self.pid)
            at_s, counters = counted()
        else:
            at_s, counters = counted()
            cpu_at_s, cpu_s = time.monotonic(), cpu_seconds(self.pid)
        return Reading(at_s, cpu_at_s, cpu_s, counters)

    def threads(self):
        """{thread: name} of the process."""
        names = {}
        with contextlib.suppress(FileNotFoundError):
            for task in sorted(map(int, os.listdir(f"/proc/{self.pid}/task"))):
                name = read(f"/proc/{self.pid}/task/{task}/comm")
                if name is not None:
                    names[task] = name
        return names


def heartbeats_a_second(before, after):
    """None where they are not counted, or none came."""
    if before.counters is None or after.counters is None:
        return None
    came = after.counters["heartbeats_received"] - before.counters["heartbeats_received"]
    return came / (after.at_s - before.at_s) if came > 0 else None


def cores_used(before, after):
    return (after.cpu_s - before.cpu_s) / (after.cpu_at_s - before.cpu_at_s)


def summary(options):
    """The workload as a report has it."""
    if getattr(options, "pid", None) is not None:
        return {"pid": options.pid, "seconds": options.seconds}
    return {"connections": options.connections, "rate": options.rate, "wire": options.wire,
            "backend": options.backend, "reactors": options.reactors, "seconds": options.seconds,
            "server_flags": options.server, "load_flags": options.load, "pinned": options.pin}


def cores(options):
    """The cores of server and load; None for both where they may run anywhere."""
    allowed = sorted(os.sched_getaffinity(0))
    if not options.pin or len(allowed) < 2 or options.reactors > 1:
        return None, None
    return allowed[0], allowed[1]


def kept_on(core):
    """What a child does before it becomes the program."""
    def place():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if core is not None:
            os.sched_setaffinity(0, {core})
    return place


def ended(process):
    """Ends a child, and waits for that."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def tail(path, lines=5):
    return " / ".join((read(path) or "").splitlines()[-lines:])


def server_command(options, socket_path, binary):
    return [binary, "--listen", f"{WIRES[options.wire]}://127.0.0.1:0", "--backend",
            options.backend, "--reactors", str(options.reactors), "--max-connections",
            str(options.connections + 64), "--heartbeat-interval", "10m", "--heartbeat-timeout",
            "30m", "--drain-timeout", "1s", "--admin", f"unix:{socket_path}", *options.server]


def load_command(options, port, pid, json_path, spare):
    interval_us = max(1_000, round(options.connections / options.rate * 1e6))
    return [program("pulseload"), "--target", f"{WIRES[options.wire]}://127.0.0.1:{port}", "--mix",
            f"{options.wire}=1", "--connections", str(options.connections), "--connect-rate",
            f"{CONNECTS_A_SECOND}/s", "--heartbeat-interval", f"{interval_us}us", "--duration",
            f"{round((options.seconds + SETTLE_SECONDS + spare) * 1_000)}ms",
            "--server-pid", str(pid), "--json", json_path, "--quiet", *options.load]


def start_seconds(options):
    """In which a server and its load are there and settled, on a machine that is not busy."""
    return 0.5 + SETTLE_SECONDS + options.connections / CONNECTS_A_SECOND


def wait_for_port(server, log):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"listening on .*:(\d+)$", read(log) or "", re.M)
        if found:
            return int(found[1])
        time.sleep(0.01)
    raise Failed(f"the server did not start: {tail(log)}")


def wait_for_connections(options, watched, load, log):
    """Returns when all are connected and beat: an instant at which not all were, yet."""
    missing_at = time.monotonic()
    deadline = missing_at + START_SECONDS_MAX + options.connections / 1_000
    while (asked_at := time.monotonic()) < deadline:
        if load.poll() is not None:
            raise Failed(f"pulseload ended with {load.returncode} before all were connected: "
                         f"{tail(log)}")
        total = watched.admin.get("/api/v1/server")["total"]
        if total["connections"] < options.connections:
            missing_at = asked_at
        elif total["heartbeats_received"] > 0:
            return missing_at
        time.sleep(0.02)
    raise Failed(f"not all of {options.connections} connected: {tail(log)}")


@contextlib.contextmanager
def loaded(options, directory, binary=None, whole=False, wrapped=(), outlasts_s=0.0, settles=True):
    """A server under load, all connected and settled; both are ended behind it.

    `binary` is another pulsewheel; `wrapped` a command that runs the server. With `whole` the load
    ends by itself soon after options.seconds and `outlasts_s`, no sooner than `beats_until_s`, and
    wait_for_load() has its report. Without `settles` it is not settled yet.
    """
    if getattr(options, "pid", None) is not None:
        token = None
        if options.admin_token_file:
            token = (read(options.admin_token_file) or "").split("\n")[0].strip()
        yield Watched(options.pid, Admin(options.admin, token) if options.admin else None)
        return
    at = os.path.join(directory, "")
    server_core, load_core = cores(options)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())  # a socket's path is short
        log = stack.enter_context(open(at + "server.log", "w", encoding="utf-8"))
        command = [*wrapped, *server_command(options, folder + "/admin",
                                             binary or program("pulsewheel"))]
        server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                  env={"PULSEWHEEL_LOG_FORMAT": "text", **os.environ},
                                  preexec_fn=kept_on(server_core))
        stack.callback(ended, server)
        port = wait_for_port(server, at + "server.log")
        words = stack.enter_context(open(at + "load.log", "w", encoding="utf-8"))
        spare = SLACK_SECONDS + outlasts_s if whole else ATTACHING_SECONDS_MAX
        command = load_command(options, port, server.pid, at + "load.json", spare)
        load = subprocess.Popen(command, stdout=words, stderr=words, stdin=subprocess.DEVNULL,
                                preexec_fn=kept_on(load_core))
        stack.callback(ended, load)
        watched = Watched(server.pid, Admin(f"unix:{folder}/admin"))
        watched.load_process, watched.load_path = load, at + "load.json"
        missing_at = wait_for_connections(options, watched, load, at + "load.log")
        watched.beats_until_s = missing_at + options.seconds + SETTLE_SECONDS + spare
        if settles:
            time.sleep(SETTLE_SECONDS)
        yield watched


def wait_for_load(watched):
    """The report of pulseload, once it has ended; None where there is none."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        watched.load_process.wait(timeout=END_SECONDS_MAX + SLACK_SECONDS)
    text = read(watched.load_path)
    watched.load = json.loads(text) if text else None
    return watched.load


@dataclasses.dataclass
class Window:
    """What a measurement is divided by: heartbeats, or seconds where those are not counted."""
    before: Reading
    after: Reading
    seconds: float  # from begin() to end() of what measured
    slices: list = dataclasses.field(default_factory=list)  # cores_in_slices()

    @property
    def rate(self):
        return heartbeats_a_second(self.before, self.after)

    @property
    def unit(self):
        return "a heartbeat" if self.rate else "a second"

    def per(self, count):
        """A count of the window, per unit. None stays None."""
        if count is None:
            return None
        return count / self.seconds / (self.rate or 1.0)

    def head(self):
        """The first line of a report's figures."""
        cpu = cores_used(self.before, self.after)
        if self.rate is None:
            return (f"{100 * cpu:.1f} % of a core; heartbeats are not counted: figures are a "
                    "second's")
        return (f"{self.rate:,.0f} heartbeats a second, {cpu / self.rate * 1e6:.2f} us of CPU for "
                f"each, {100 * cpu:.1f} % of a core")

    def figures(self):
        return {"seconds": self.seconds, "heartbeats_per_s": self.rate, "unit": self.unit,
                "cores_used": cores_used(self.before, self.after)}


def watched_for(watched, seconds, begin=lambda: None, end=lambda: None):
    """Watches for so long. Returns the window, and what end() returned.

    begin() and end() may take their time, as perf does to attach: the readings lie between them.
    """
    begin()
    started = time.monotonic()
    before = watched.reading()
    slices = cores_in_slices([watched.pid], seconds)[0]
    after = watched.reading(closing=True)
    took = time.monotonic() - started
    got = end()
    return Window(before, after, took, slices), got


def watched_together(all_watched, seconds):
    """Watches several servers over the same instants. Returns their windows, in that order."""
    started = time.monotonic()
    before = [watched.reading() for watched in all_watched]
    slices = cores_in_slices([watched.pid for watched in all_watched], seconds)
    after = [watched.reading(closing=True) for watched in all_watched]
    took = time.monotonic() - started
    return [Window(*one) for one in zip(before, after, [took] * len(slices), slices)]
