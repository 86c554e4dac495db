"""What the tests with real clients share: servers on each backend, and the counting of checks.

A client is a program of its own, in its own language. It is given three addresses, of a server, of
one with --ws-deflate on and of one that beats every second, and says one line a check:

    ok NAME       FAILED NAME: WHY
    DRAIN         stop the first server; what it says to its peers is the last check
    DONE          nothing follows

A client that ends without DRAIN and DONE has failed. Each runs on both backends, plain and over
TLS, whose connections OpenSSL keeps or which are frozen (server.TLS_WAYS), all at once: what takes
time is the wait for heartbeats. Ends with `N passed, N failed`.
"""
import collections
import concurrent.futures
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from certificates import make_certificate  # noqa: E402: its path comes first
from server import BUILD, EVERY_TLS_WAY, PLAIN_WAYS, TLS_WAYS, Server  # noqa: E402

FOLDER = os.path.dirname(os.path.abspath(__file__))
# What is asked of every way over TLS is asked of it alone.
WAYS = TLS_WAYS if EVERY_TLS_WAY else PLAIN_WAYS + TLS_WAYS
# Where Python and Go, and where Node, look for authorities besides their own.
AUTHORITIES = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
GOOD_ORIGIN = "http://allowed.example"
# A client that answers probes outlives the timeout; one that does not is let go. All other checks
# are made with the usual heartbeats: they bear a client that is not scheduled for seconds.
HEARTBEATS = ("--heartbeat-interval", "1s", "--heartbeat-timeout", "4s")
PATIENCE_S = 120
INSTALL = "run tools/install-deps.sh clients"


def say(line):
    """Prints a line whole, whatever the other backend's thread prints."""
    print(line + "\n", end="", flush=True)


class Tally:
    """The checks of one client in one way."""

    def __init__(self, way):
        self.way = way
        self.passed = self.failed = 0
        self.other_lines = collections.deque(maxlen=20)

    def line(self, line):
        """Takes a line of the client's."""
        word, _, rest = line.partition(" ")
        if word not in ("ok", "FAILED"):
            return self.other_lines.append(line)
        self.passed += word == "ok"
        self.failed += word == "FAILED"
        say(f"{word:<7} {self.way} {rest}")

    def fail(self, why):
        """What went wrong with the client as a whole, after what else it said."""
        self.failed += 1
        for line in self.other_lines:
            say(f"        {self.way} | {line}")
        say(f"FAILED  {self.way} {why}")


def lines_until(deadline, lines):
    """What a queue of lines gives until its end (None) or the deadline; raises when that passes."""
    while True:
        try:
            line = lines.get(timeout=max(0.01, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(f"the client did not end within {PATIENCE_S} s") from None
        if line is None:
            return
        yield line


def listen(lines, tally, server):
    """Counts a client's checks, and stops its server when it asks for that; true if it is done."""
    deadline = time.monotonic() + PATIENCE_S
    for line in lines_until(deadline, lines):
        if line == "DRAIN":
            server.process.send_signal(signal.SIGTERM)
        elif line == "DONE":
            return True
        else:
            tally.line(line)
    tally.fail("the client ended in the middle of its checks")
    return False


def run_program(command, lines):
    """Starts a client whose printed lines go into the queue; the caller ends it."""
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL, errors="replace", cwd=FOLDER,
                              start_new_session=True)

    def read():
        for line in client.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)
    threading.Thread(target=read, daemon=True).start()
    return client


def end(client):
    """Ends a client and whatever it started."""
    try:
        os.killpg(client.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    client.wait()


def expect_way(way, server):
    """Of TLS 1.3, which all of them speak, each connection is kept as the way says."""
    frozen, handshakes = (server.text().count(words) for words in (", frozen", "speaks TLS: "))
    assert handshakes > 0 and frozen == (handshakes if way.tls_idle == "frozen" else 0), (
        f"{frozen} of {handshakes} connections were frozen")


def check_on(way, certificate, start, origins):
    tally = Tally(way)
    flags = ("--on-message", "echo", "--drain-timeout", "300ms", "--max-connections", "1000",
             "--tls-cert", certificate, "--log-level", "debug", *way.flags)
    backend, scheme = way.backend, "wss" if way.tls_idle else "ws"
    any_scheme = {"ws": "auto", "wss": "tls+auto"}[scheme]
    allowed = [flag for origin in origins for flag in ("--ws-origin", origin)]
    try:
        with Server(backend, *flags, *allowed, scheme=any_scheme) as server, \
                Server(backend, *flags, "--ws-deflate", "on", scheme=scheme) as deflating, \
                Server(backend, *flags, *HEARTBEATS, scheme=any_scheme) as beating:
            servers = (server, deflating, beating)
            lines = queue.Queue()
            client = start([f"{scheme}://127.0.0.1:{one.port}" for one in servers], lines)
            try:
                done = listen(lines, tally, server)
            finally:
                end(client)
            deflating.process.send_signal(signal.SIGTERM)
            beating.process.send_signal(signal.SIGTERM)
            for one in servers if done else ():
                if one.process.wait(timeout=30) != 0:
                    tally.fail("the server did not stop in order: " + one.text())
                if way.tls_idle:
                    expect_way(way, one)
    except Exception as error:  # one backend may fail in any way; the other still runs
        tally.fail(f"{type(error).__name__}: {error}")
    return tally


def main(name, missing, start, origins=(GOOD_ORIGIN,)):
    """Runs a client on every backend, plain and over TLS, or names it as skipped if something is
    `missing`.

    start(urls, lines): starts the client and returns its process; its lines go into the queue.
    """
    if missing:
        for way in WAYS:
            print(f"SKIPPED {way} {name}: {missing}; {INSTALL}")
        print(f"0 passed, 0 failed, {len(WAYS)} skipped")
        return 0
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(len(WAYS)) as pool:
        certificate = make_certificate(folder)
        os.environ.update(dict.fromkeys(AUTHORITIES, certificate))
        tallies = list(pool.map(lambda way: check_on(way, certificate, start, origins), WAYS))
    failed = sum(tally.failed for tally in tallies)
    print(f"{sum(tally.passed for tally in tallies)} passed, {failed} failed")
    return 1 if failed else 0


def is_run_by(*command):
    """Whether a command can be run, and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=60, cwd=FOLDER).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main_of_program(name, missing, command):
    """main() for a client that is a program given the addresses as its arguments."""
    return main(name, missing, lambda urls, lines: run_program([*command, *urls], lines))
