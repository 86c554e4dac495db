#!/usr/bin/env python3
"""Sockets that the service manager passes (sd_listen_fds(3)): by name, by address, all of them, TCP
and Unix, with one reactor and two; and that they outlive the server. On each backend; ends with
`N passed, N failed`.
"""
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Admin, read_all  # noqa: E402: its path comes first
from server import BUILD, run_over_backends  # noqa: E402: its path comes first

# What a service manager does between its fork and its exec: numbers from 3 on, and variables.
LAUNCHER = r"""
import os, sys
count, names, pid = int(sys.argv[1]), sys.argv[2], sys.argv[3]
for i in range(count):
    os.dup2(100 + i, 3 + i)
    os.close(100 + i)
os.environ.update(LISTEN_FDS=str(count), LISTEN_FDNAMES=names, LISTEN_PID=pid or str(os.getpid()))
if pid == "none":
    del os.environ["LISTEN_PID"]
os.execv(sys.argv[4], sys.argv[4:])
"""
PING = bytes.fromhex("b701000000000001")


class Activated:
    """A server that is passed `sockets`, pairs of a name and a socket."""

    def __init__(self, backend, sockets, *flags, pid="", expect_start=True):
        self.directory = tempfile.TemporaryDirectory()
        self.log = f"{self.directory.name}/log"
        numbers = []
        for position, (_, passed) in enumerate(sockets):
            number = fcntl.fcntl(passed.fileno(), fcntl.F_DUPFD, 100 + position)
            assert number == 100 + position, "a number of the test's is taken"
            numbers.append(number)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(len(sockets)),
                 ":".join(name for name, _ in sockets), pid, os.path.abspath(f"{BUILD}/pulsewheel"),
                 "--backend", backend, "--max-connections", "200", *flags],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, pass_fds=numbers)
        for number in numbers:
            os.close(number)
        if expect_start:
            self.wait_for("listening on")

    def wait_for(self, words):
        """Until the log has them: a thread of its own writes it."""
        deadline = time.monotonic() + 20
        while words not in self.text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.text()
            time.sleep(0.02)

    def text(self):
        with open(self.log) as log:
            return log.read()

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def refused(self):
        """What it says when it does not start."""
        assert self.process.wait(timeout=20) == 1, self.text()
        return self.text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.directory.cleanup()


def tcp_socket():
    """Without SO_REUSEPORT: no other socket can have its port."""
    passed = socket.socket()
    passed.bind(("127.0.0.1", 0))
    passed.listen(64)
    return passed


def unix_socket(path):
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(path)
    passed.listen(64)
    return passed


def connect(passed):
    peer = socket.socket(passed.family)
    peer.settimeout(20)
    peer.connect(passed.getsockname())
    return peer


def beats(peer):
    peer.sendall(PING)
    assert peer.recv(8)[1] == 2, "a pong"


def serve_some(passed, count=50):
    peers = [connect(passed) for _ in range(count)]
    for peer in peers:
        beats(peer)
    for peer in peers:
        peer.close()


def test_serves_a_socket_by_its_name(backend):
    for reactors in ("1", "2"):
        with tcp_socket() as passed, Activated(
                backend, [("web", passed)], "--listen", "tcp://fd:web", "--reactors",
                reactors) as server:
            host, port = passed.getsockname()
            server.wait_for(f"listening on tcp://fd:web at {host}:{port}\n")
            serve_some(passed)
            assert server.stop() == 0, server.text()


def test_serves_a_unix_socket(backend):
    for reactors in ("1", "2"):
        with tempfile.TemporaryDirectory() as directory, \
                unix_socket(f"{directory}/socket") as passed, \
                Activated(backend, [("local", passed)], "--listen", "auto://fd:local", "--reactors",
                          reactors, "--log-level", "debug") as server:
            server.wait_for(f"at unix:{directory}/socket\n")
            serve_some(passed)
            server.wait_for("accepted from unix on")
            with connect(passed) as peer:
                peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert peer.recv(100).startswith(b"HTTP/1.1 200"), "auto"
            assert server.stop() == 0, server.text()


def test_believes_a_proxy_header_of_a_unix_socket(backend):
    with tempfile.TemporaryDirectory() as directory, \
            unix_socket(f"{directory}/socket") as passed, \
            Activated(backend, [("local", passed)], "--listen", "tcp://fd:local?proxy=on",
                      "--log-level", "debug") as server:
        with connect(passed) as peer:
            peer.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n")
            beats(peer)
        server.wait_for("speaks for 192.0.2.1:1000")


def test_serves_a_socket_by_its_address(backend):
    with tcp_socket() as passed:
        _, port = passed.getsockname()
        with Activated(backend, [("any", passed)], "--listen", f"tcp://127.0.0.1:{port}") as server:
            serve_some(passed)
            assert server.stop() == 0, server.text()


def test_serves_all_sockets_where_no_listener_is_named(backend):
    with tempfile.TemporaryDirectory() as directory, tcp_socket() as one, tcp_socket() as other, \
            unix_socket(f"{directory}/socket") as local, \
            Activated(backend, [("web", one), ("web", other), ("local", local)]) as server:
        for passed in (one, other, local):
            serve_some(passed, 5)
        assert ":9000" not in server.text(), "the default is not listened on: " + server.text()
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("reloaded: 0 settings changed, 0 wait")
        serve_some(one, 5)
        assert server.stop() == 0, server.text()


def test_a_socket_outlives_the_server_and_who_waits_there(backend):
    """A restart loses no peer that comes meanwhile: it waits in the queue for the next server."""
    for reactors in ("1", "2"):
        with tcp_socket() as passed:
            flags = ("--listen", "tcp://fd:web", "--reactors", reactors, "--drain-timeout", "0s")
            with Activated(backend, [("web", passed)], *flags) as server:
                serve_some(passed, 5)
                assert server.stop() == 0, server.text()
            peers = [connect(passed) for _ in range(10)]
            for peer in peers:
                peer.sendall(PING)
            with Activated(backend, [("web", passed)], *flags) as server:
                for peer in peers:
                    assert peer.recv(8)[1] == 2, "a pong"
                    peer.close()
                assert server.stop() == 0, server.text()


def test_a_passed_socket_is_drained_alone_and_refuses_those_that_come(backend):
    with tcp_socket() as passed, tcp_socket() as other, \
            tempfile.TemporaryDirectory() as directory, Activated(
                backend, [("web", passed), ("other", other)], "--listen", "jsonl://fd:web",
                "--listen", "tcp://fd:other", "--reactors", "2", "--drain-timeout", "2s",
                "--admin", f"unix:{directory}/admin") as server:
        server.wait_for("admin endpoint on")
        admin = Admin(f"unix:{directory}/admin")
        held, stays = [connect(passed) for _ in range(4)], connect(other)
        for peer in held:
            peer.sendall(b"PING\n")
            assert peer.recv(8) == b"PONG\n"
        beats(stays)
        state = admin.post("/api/v1/drain", {"listener": "0", "rate": "1000/s"}, 202)
        assert state["parts"][0]["connections"] == 4, state
        for peer in held:
            assert b'"reason":"going_away","retry_after_ms":' in read_all(peer)
            peer.close()
        for _ in range(8):
            with connect(passed) as late:
                assert b'"reason":"going_away"' in read_all(late), "not left in the queue"
        beats(stays)
        serve_some(other, 4)
        assert admin.ask("GET", "/readyz").status == 200
        assert server.stop() == 0, server.text()


def test_does_not_spin_in_a_drain_while_peers_wait_for_the_next_server(backend):
    with tcp_socket() as passed, Activated(
            backend, [("web", passed)], "--listen", "tcp://fd:web", "--reactors", "1",
            "--drain-timeout", "40s") as server:
        held = [connect(passed) for _ in range(3)]
        for peer in held:
            beats(peer)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("stopping")
        time.sleep(0.2)
        waiting = [connect(passed) for _ in range(3)]
        before = server.cpu_s()
        time.sleep(3)
        assert server.process.poll() is None, "it drains for longer: " + server.text()
        assert server.cpu_s() - before < 0.5, "busy all the time"
        for peer in held + waiting:
            peer.close()


def test_says_what_does_not_fit(backend):
    with tcp_socket() as passed, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        cases = [
            ([("web", passed)], ("--listen", "tcp://fd:other"), "",
             "'tcp://fd:other': no socket of this name was passed; write FileDescriptorName=other"),
            ([("web", passed)], ("--listen", "tcp://fd:web"), "1", "no socket of this name"),
            ([("web", passed)], ("--listen", "tcp://fd:web"), "none", "no socket of this name"),
            ([("web", datagrams)], ("--listen", "tcp://fd:web"), "",
             "descriptor 3 ('web') is not a stream socket that listens; write ListenStream="),
        ]
        for sockets, flags, pid, wanted in cases:
            with Activated(backend, sockets, *flags, pid=pid, expect_start=False) as server:
                assert wanted in server.refused(), (wanted, server.text())
        with Activated(backend, [("web", passed)], "--listen", "tcp://127.0.0.1:0") as server:
            server.wait_for("the socket 'web' at 127.0.0.1:")
            assert server.stop() == 0, server.text()


if __name__ == "__main__":
    sys.exit(run_over_backends(globals()))
