#!/usr/bin/env python3
"""Peers on slow lines: one message that takes longer than the heartbeat timeout, up and down.

Bytes of a message on their way are life, whatever the protocol and the liveness asked for; a peer
that stops in the middle of one is gone, and is evicted beside them. Ends with `N passed, N failed`.
"""
import os
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import Server, run_over_backends  # noqa: E402: its path comes first

TIMEOUT_S = 2
SLOW_S = 3 * TIMEOUT_S  # what a slow message takes
FLAGS = ("--heartbeat-interval", "500ms", "--heartbeat-timeout", f"{TIMEOUT_S}s",
         "--on-message", "echo", "--max-message-bytes", "4MiB")
UPGRADE = (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
LINE = b'{"type":"data","x":"' + b"y" * 200_000 + b'"}\n'
DATA = struct.pack(">BBHI", 0xB7, 5, 60_000, 1) + b"z" * 60_000
LINE_PING, PING = b'{"type":"ping","seq":1}\n', struct.pack(">BBHI", 0xB7, 1, 0, 1)


def masked(size):
    """A binary WebSocket message, and what comes back for it."""
    content = os.urandom(64) * (size // 64)
    mask = b"\x5a\xa5\x0f\xf0"
    hidden = (int.from_bytes(content, "big") ^ int.from_bytes(mask * (size // 4), "big"))
    head = struct.pack(">BBQ", 0x82, 0x80 | 127, size) + mask
    return head + hidden.to_bytes(size, "big"), struct.pack(">BBQ", 0x82, 127, size) + content


class Line:
    """A connection that has said its first words and had their answer."""

    def __init__(self, port, first_words):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(first_words)
        assert self.socket.recv(65_536)

    def send(self, message, seconds):
        """Evenly over so long; nothing else is sent meanwhile."""
        steps = 100
        for step in range(steps):
            self.socket.sendall(message[len(message) * step // steps:
                                        len(message) * (step + 1) // steps])
            time.sleep(seconds / steps)

    def find(self, answer, seconds=0):
        """Reads, over about so long, until `answer` has come, behind and between other things;
        an error if the stream ends first."""
        heard, began = b"", time.monotonic()
        piece = 65_536 if seconds == 0 else max(1, len(answer) // 200)
        while answer not in heard[-len(answer) - piece:]:
            more = self.socket.recv(piece)
            assert more, f"the stream ended after {len(heard)} bytes: {heard[-200:]}"
            heard += more
            ahead = len(heard) * seconds / len(answer) - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)
        return time.monotonic() - began

    def ends_after(self):
        """How long until the server closes it; nothing is said to it meanwhile."""
        began = time.monotonic()
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionResetError:
            pass
        return time.monotonic() - began


def all_at_once(*jobs):
    """Runs them in threads of their own, and raises what the first of them raised."""
    raised = []

    def run(job):
        try:
            job()
        except Exception as error:  # reported by the test's own thread
            raised.append(error)
    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def upload(port, first_words, message, answer):
    line = Line(port, first_words)
    line.send(message, SLOW_S)
    line.find(answer)


def stop_in_the_middle(port, first_words, message):
    line = Line(port, first_words)
    line.socket.sendall(message[:len(message) // 2])
    gone_after_s = line.ends_after()
    assert TIMEOUT_S * 0.9 < gone_after_s < SLOW_S + TIMEOUT_S, gone_after_s


def download(port, first_words, message, answer):
    line = Line(port, first_words)
    line.socket.sendall(message)
    took_s = line.find(answer, SLOW_S)
    assert took_s > 2 * TIMEOUT_S, f"was not slow: {took_s:.1f} s"


def run_slowly(backend, jobs_of, closed):
    """`jobs_of` gives what to do with a server's port; it runs under both kinds of liveness.
    `closed`: by reason, what it comes to."""
    with Server(backend, *FLAGS, scheme="auto") as one, \
            Server(backend, *FLAGS, "--liveness", "roundtrip", scheme="auto") as other:
        all_at_once(*jobs_of(one.port), *jobs_of(other.port))
        for server in (one, other):
            assert server.stop() == 0, server.text()
            reasons = server.stats()["total"]["closed_by_reason"]
            assert reasons == closed, reasons


def test_a_message_may_take_longer_than_the_timeout(backend):
    message, answer = masked(256 * 1024)

    def jobs(port):
        return [lambda: upload(port, UPGRADE, message, answer),
                lambda: upload(port, PING, DATA, DATA),
                lambda: upload(port, LINE_PING, LINE, LINE),
                lambda: stop_in_the_middle(port, UPGRADE, message),
                lambda: stop_in_the_middle(port, PING, DATA),
                lambda: stop_in_the_middle(port, LINE_PING, LINE)]
    run_slowly(backend, jobs, {"peer_closed": 3, "slow_upload": 3})


def test_an_answer_may_take_longer_than_the_timeout(backend):
    """4 MiB, the longest message that these servers take, and of many pieces in the kernel."""
    message, answer = masked(4 * 1024 * 1024)

    def jobs(port):
        return [lambda: download(port, UPGRADE, message, answer)]
    run_slowly(backend, jobs, {"peer_closed": 1})


if __name__ == "__main__":
    sys.exit(run_over_backends(globals(), at_once=2))
