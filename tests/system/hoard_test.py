#!/usr/bin/env python3
"""Peers that make the server hold as much for them as they can, beside a canary and a newcomer.

    tests/system/hoard_test.py [WORD]...

267 unfinished messages of 1 MiB, 89 peers that read nothing of 7 MiB echoed, 16,384 unfinished
heads of 16 KiB (of which each costs 4 KiB at most, and none is closed), and 267 unfinished messages
of one address beside an honest upload of 4 MiB from another, which completes; each on one reactor
with its 256 MiB of buffers, on both backends. The canary is answered within 25 ms in 99 of 100 (a
second round is granted: the machine is shared), a newcomer enters and is answered, and what the
server holds is given back afterwards.
Ends with `N passed, N failed`.
"""
import os
import resource
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from attack import Canary, connect, masked, upgrade  # noqa: E402: its path comes first
from server import Server, run_over_backends  # noqa: E402

P99_S = 0.025
MIB = 1 << 20
FLAGS = ("--reactors", "1", "--max-connections", "17000", "--handshake-timeout", "60s",
         "--on-message", "echo")


def push(peer, data, seconds=5):
    """As much of it as the server takes."""
    peer.settimeout(0.2)
    view, until = memoryview(data), time.monotonic() + seconds
    while view and time.monotonic() < until:
        try:
            view = view[peer.send(view):]
        except TimeoutError:
            return
        except OSError:  # it was this one's turn to give way
            return


def attack(backend, hoard, *flags):
    with Server(backend, *FLAGS, *flags, scheme="ws") as server:
        began = time.monotonic()
        canary = Canary(server.port)
        canary.beat()
        hoarders = hoard(server.port, canary)
        for _ in range(2):
            times = canary.beats(1)
            p99 = times[len(times) * 99 // 100]
            if p99 <= P99_S:
                break
        newcomer = Canary(server.port)
        newcomer.beat()
        time.sleep(1.1)
        stats = server.stats()["total"]
        closed = stats["closed_by_reason"]
        print(f"  {backend}: canary p99 {p99 * 1e3:.1f} ms, most {times[-1] * 1e3:.1f} ms; held "
              f"{stats['memory']['buffers_bytes'] / MIB:.0f} MiB, closed {closed}")
        assert p99 <= P99_S, times[-5:]
        short = [line for line in server.text().splitlines() if "is short of buffers" in line]
        assert bool(short) == ("out_of_memory" in closed), (short, closed)
        assert all("warning reactor 0 is" in line and "raise --buffer-bytes" in line
                   for line in short), short
        assert len(short) <= time.monotonic() - began + 1, "more than a line a second"
        assert stats["memory"]["buffers_bytes"] <= (256 + 64) * MIB, stats["memory"]
        assert "slow_reader" not in closed or hoard is never_read, closed
        if hoard is unfinished_heads:
            assert stats["memory"]["buffers_bytes"] <= len(hoarders) * 4096, stats["memory"]
            assert not closed, closed
        for hoarder in hoarders:
            hoarder.close()
        until, left = time.monotonic() + 20, MIB + 1
        while time.monotonic() < until and left > MIB:
            time.sleep(0.5)
            left = server.stats()["total"]["memory"]["buffers_bytes"]
        assert left <= MIB, f"{left} bytes were not given back"
        canary.beat()


def push_each(count, port, canary, data, receive_bytes=None, source="127.0.0.1"):
    hoarders = []
    for _ in range(count):
        peer = connect(port, receive_bytes, source)
        upgrade(peer)
        push(peer, data)
        hoarders.append(peer)
        canary.beat()
    return hoarders


def unfinished_messages(port, canary):
    return push_each(267, port, canary, masked(0x82, bytes(MIB - 64))[:-1])


def never_read(port, canary):
    messages = masked(0x82, bytes(3 * MIB + MIB // 2)) * 2
    return push_each(89, port, canary, messages, receive_bytes=4096)


class Upload(threading.Thread):
    """One message of 4 MiB from an address of its own, over six seconds; then a ping."""

    def __init__(self, port):
        super().__init__()
        self.peer, self.answer = connect(port, source="127.0.0.3"), b""
        upgrade(self.peer)
        self.start()

    def run(self):
        message, pieces = masked(0x82, bytes(4 * MIB)), 120
        for at in range(0, len(message), len(message) // pieces):
            self.peer.sendall(message[at:at + len(message) // pieces])
            time.sleep(6 / pieces)
        self.peer.sendall(masked(0x89, b"done"))
        while len(self.answer) < 6:
            more = self.peer.recv(4096)
            if not more:
                return
            self.answer += more


def unfinished_beside_an_upload(port, canary):
    """267 of one address, which the upload of another outlives."""
    upload = Upload(port)
    hoarders = push_each(267, port, canary, masked(0x82, bytes(MIB - 64))[:-1], source="127.0.0.2")
    upload.join(30)
    assert upload.answer == b"\x8a\x04done", upload.answer
    return [*hoarders, upload.peer]


def unfinished_heads(port, canary):
    head = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 16_000
    hoarders = []
    for number in range(16_384):
        peer = connect(port)
        push(peer, head)
        hoarders.append(peer)
        if number % 64 == 0:
            canary.beat()
    return hoarders


def test_unfinished_messages_of_267_peers(backend):
    attack(backend, unfinished_messages)


def test_an_upload_beside_267_peers_of_another_address(backend):
    attack(backend, unfinished_beside_an_upload, "--max-message-bytes", "4MiB", "--on-message",
           "discard")


def test_89_peers_that_never_read(backend):
    attack(backend, never_read, "--max-message-bytes", "4MiB", "--send-queue-bytes", "8MiB")


def test_unfinished_heads_of_16384_peers(backend):
    attack(backend, unfinished_heads)


if __name__ == "__main__":
    HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
    sys.exit(run_over_backends(dict(globals())))
