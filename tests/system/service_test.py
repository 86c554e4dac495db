#!/usr/bin/env python3
"""What a service manager is told (sd_notify(3)): ready, reloading, status, stopping, and a watchdog
that is fed only while every reactor makes progress. On each backend; ends with
`N passed, N failed`.
"""
import os
import signal
import socket
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from frozen import Frozen  # noqa: E402: its path comes first
from server import Server, run_over_backends  # noqa: E402: its path comes first


class Manager:
    """The socket of a service manager, and a server that it starts."""

    def __init__(self, backend, *flags, abstract=False, watchdog_us=0, watchdog_pid=None, name=None,
                 config=None):
        self.directory = tempfile.TemporaryDirectory()
        path = f"{self.directory.name}/notify"
        if abstract:
            path = f"@pulsewheel-test-{os.getpid()}-{time.monotonic_ns()}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if abstract else path)
        self.socket.settimeout(0.05)
        self.messages = []
        self.config = f"{self.directory.name}/config.toml"
        self.write(config or "")

        def before():
            os.environ["NOTIFY_SOCKET"] = name or path
            if watchdog_us:
                os.environ["WATCHDOG_USEC"] = str(watchdog_us)
                os.environ["WATCHDOG_PID"] = str(watchdog_pid or os.getpid())
        self.server = Server(backend, "--max-connections", "100", "--config", self.config, *flags,
                             before=before)

    def write(self, text):
        with open(self.config, "w") as file:
            file.write(text)

    def receive(self):
        """What has come, to the end of `messages`; each is a list of assignments."""
        try:
            while True:
                self.messages.append(self.socket.recv(4096).decode().split("\n"))
        except TimeoutError:
            pass

    def position_of(self, assignment, begin=0, within_s=20):
        """Of the first message at or behind `begin` with an assignment that begins like this."""
        deadline = time.monotonic() + within_s
        while True:
            for position in range(begin, len(self.messages)):
                if any(line.startswith(assignment) for line in self.messages[position]):
                    return position
            assert time.monotonic() < deadline, (assignment, self.messages, self.server.text())
            self.receive()

    def value(self, position, name):
        return next(line.partition("=")[2] for line in self.messages[position]
                    if line.startswith(name + "="))

    def count(self, assignment):
        self.receive()
        return sum(assignment in message for message in self.messages)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.__exit__()
        self.socket.close()
        self.directory.cleanup()


def test_is_ready_once_it_listens(backend):
    for abstract in (False, True):
        with Manager(backend, "--reactors", "2", abstract=abstract) as manager:
            assert manager.position_of("READY=1") == 0, manager.messages
            manager.connect().close()
            assert manager.count("READY=1") == 1, manager.messages
            assert manager.count("WATCHDOG=1") == 0, "no watchdog was asked for"
            assert manager.server.stop() == 0


def test_says_when_it_reloads_and_whether_that_was_refused(backend):
    with Manager(backend, config='heartbeat-interval = "30s"\n') as manager:
        ready = manager.position_of("READY=1")
        manager.write('heartbeat-interval = "20s"\n')
        before_us = time.monotonic_ns() // 1000
        manager.server.process.send_signal(signal.SIGHUP)
        reloading = manager.position_of("RELOADING=1", ready + 1)
        at_us = int(manager.value(reloading, "MONOTONIC_USEC"))
        assert before_us <= at_us <= time.monotonic_ns() // 1000, manager.messages
        again = manager.position_of("READY=1", reloading + 1)
        assert "refused" not in manager.value(again, "STATUS"), manager.messages
        manager.write("nonsense = 1\n")
        manager.server.process.send_signal(signal.SIGHUP)
        reloading = manager.position_of("RELOADING=1", again + 1)
        again = manager.position_of("READY=1", reloading + 1)
        assert "reload was refused" in manager.value(again, "STATUS"), manager.messages
        assert manager.server.stop() == 0


def test_a_reload_is_over_once_every_reactor_has_it(backend):
    with Manager(backend, "--reactors", "1", config='heartbeat-interval = "30s"\n') as manager:
        ready = manager.position_of("READY=1")
        with Frozen(manager.server.reactor_task()):
            manager.write('heartbeat-interval = "20s"\n')
            manager.server.process.send_signal(signal.SIGHUP)
            reloading = manager.position_of("RELOADING=1", ready + 1)
            time.sleep(0.5)
            assert manager.count("READY=1") == 1, manager.messages
        manager.position_of("READY=1", reloading + 1)
        assert manager.server.stop() == 0


def test_its_status_has_the_connections(backend):
    with Manager(backend) as manager:
        ready = manager.position_of("READY=1")
        assert "0 of 100 connections" in manager.value(ready, "STATUS"), manager.messages
        peers = [manager.connect() for _ in range(7)]
        manager.position_of("STATUS=Serving 7 of 100 connections")
        for peer in peers:
            peer.close()
        assert manager.server.stop() == 0


def test_asks_for_time_while_it_drains(backend):
    """A drain may take longer than a unit's TimeoutStopSec."""
    with Manager(backend, "--drain-timeout", "4s") as manager:
        manager.position_of("READY=1")
        peers = [manager.connect() for _ in range(5)]
        for peer in peers:
            peer.sendall(bytes.fromhex("b701000000000001"))
            assert peer.recv(8)[1] == 2, "a pong"
        manager.server.process.send_signal(signal.SIGTERM)
        stopping = manager.position_of("STOPPING=1")
        assert int(manager.value(stopping, "EXTEND_TIMEOUT_USEC")) >= 5_000_000, manager.messages
        assert manager.value(stopping, "STATUS").startswith("Draining"), manager.messages
        again = manager.position_of("EXTEND_TIMEOUT_USEC=", stopping + 1)
        assert "STOPPING=1" not in manager.messages[again], manager.messages
        assert manager.server.process.wait(timeout=30) == 0, manager.server.text()
        for peer in peers:
            peer.close()


def test_feeds_the_watchdog_while_every_reactor_makes_progress(backend):
    with Manager(backend, "--reactors", "2", watchdog_us=400_000) as manager:
        position = manager.position_of("READY=1")
        for _ in range(5):  # also while it has nothing to do
            position = manager.position_of("WATCHDOG=1", position + 1)
        with Frozen(manager.server.reactor_task()):
            time.sleep(0.5)  # what was acknowledged before
            fed = manager.count("WATCHDOG=1")
            time.sleep(1.5)
            assert manager.count("WATCHDOG=1") == fed, manager.messages
            manager.connect().close()  # another reactor serves; that is not enough
        manager.position_of("WATCHDOG=1", len(manager.messages))
        assert manager.server.stop() == 0


def test_leaves_the_watchdog_of_another_process_alone(backend):
    with Manager(backend, watchdog_us=200_000, watchdog_pid=1) as manager:
        manager.position_of("READY=1")
        time.sleep(1)
        assert manager.count("WATCHDOG=1") == 0, manager.messages
        assert manager.server.stop() == 0


def test_serves_though_its_messages_are_not_read(backend):
    with Manager(backend, watchdog_us=4_000) as manager:
        time.sleep(1.5)  # more messages than net.unix.max_dgram_qlen
        for _ in range(3):
            manager.server.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
        with manager.connect() as peer:
            peer.sendall(bytes.fromhex("b701000000000001"))
            assert peer.recv(8)[1] == 2, "a pong"
        # What changes the state of the unit is late, and not lost.
        assert manager.position_of("READY=1") == 0
        last = manager.position_of("RELOADING=1")
        while manager.count("RELOADING=1") > sum("RELOADING=1" in message for message in
                                                 manager.messages[:last + 1]):
            last = manager.position_of("RELOADING=1", last + 1)
        manager.position_of("READY=1", last + 1)
        assert manager.server.stop() == 0


def test_serves_where_the_socket_is_not_one(backend):
    for name in ("relative", "/nonexistent/notify", "@" + "x" * 200):
        with Manager(backend, name=name) as manager:
            manager.connect().close()
            assert manager.server.stop() == 0
            assert "NOTIFY_SOCKET" in manager.server.text(), manager.server.text()


if __name__ == "__main__":
    sys.exit(run_over_backends(globals()))
