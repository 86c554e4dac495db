#!/usr/bin/env python3
"""A machine that stutters: the server is stopped, runs for a moment, and is stopped for longer than
its timeout, while thousands of peers go on sending their heartbeats on time. None may be evicted.

    tests/system/stutter_test.py [--tries N] [epoll|io_uring]

One try on each backend by default; the campaign that this comes from is `--tries 20`. With probes
off a stale stamp is not corrected by anything: bytes that were read after the pause, stamped with a
clock of before it, evicted 241 to 626 of 3,000 living peers on epoll and 32 on io_uring.
Ends with `N passed, N failed`.
"""
import os
import select
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import BACKENDS, Server, backends_parser  # noqa: E402: its path comes first

PEERS = 3000
BEAT_EVERY_S = 1.0
PING = struct.pack(">BBHI", 0xB7, 1, 0, 7)
STOPPED_BEFORE_S, STOPPED_AFTER_S = 0.5, 3.0
# What the server runs between the two, by its own CPU clock: in the middle of a batch of what came
# in during the first stop, however busy the machine is.
RUNNING_NS = (150_000, 300_000, 500_000, 800_000)


class Beaters:
    """Peers that send a ping once a second, spread over the second, and read what they get."""

    def __init__(self, port):
        self.poll = select.epoll()
        self.sockets = {}
        self.lost = 0
        for _ in range(PEERS):
            peer = socket.create_connection(("127.0.0.1", port), timeout=10)
            peer.setblocking(False)
            self.sockets[peer.fileno()] = peer
            self.poll.register(peer.fileno(), select.EPOLLIN)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        order, step, began = list(self.sockets), 0, time.monotonic()
        while not self.ending.is_set():
            due = int((time.monotonic() - began) / BEAT_EVERY_S * len(order))
            for _ in range(min(due - step, len(order))):
                self.beat(order[step % len(order)])
                step += 1
            for number, _ in self.poll.poll(0.002):
                self.read(number)

    def beat(self, number):
        if number not in self.sockets:
            return
        try:
            self.sockets[number].send(PING)
        except OSError:
            self.lose(number)

    def read(self, number):
        try:
            data = self.sockets[number].recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lose(number)

    def lose(self, number):
        self.poll.unregister(number)
        self.sockets.pop(number).close()
        self.lost += 1

    def end(self):
        self.ending.set()
        self.thread.join()
        for peer in self.sockets.values():
            peer.close()
        self.poll.close()


def cpu_ns(process):
    total = 0
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total


def stutter(process, running_ns):
    process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_BEFORE_S)
    until, give_up = cpu_ns(process) + running_ns, time.monotonic() + 1
    process.send_signal(signal.SIGCONT)
    while cpu_ns(process) < until and time.monotonic() < give_up:
        pass
    process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_AFTER_S)
    process.send_signal(signal.SIGCONT)


def stutter_once(backend):
    """Living peers that were lost, and what the server says of evictions."""
    flags = ["--heartbeat-probe", "off", "--heartbeat-interval", "1s",
             "--heartbeat-timeout", "2s", "--reactors", "1", "--max-connections", "4000"]
    with Server(backend, *flags) as server:
        beaters = Beaters(server.port)
        beaters.thread.start()
        time.sleep(1.5)
        for running_ns in RUNNING_NS:
            stutter(server.process, running_ns)
            time.sleep(1.5)
        time.sleep(1.2)
        evicted = server.stats()["total"]["evicted"]
        beaters.end()
        return beaters.lost, evicted


def main():
    parser = backends_parser(__doc__)
    parser.add_argument("--tries", type=int, default=1, help="on each backend (default 1)")
    arguments = parser.parse_args()
    passed = failed = 0
    for backend in arguments.backends or BACKENDS:
        for number in range(arguments.tries):
            lost, evicted = stutter_once(backend)
            good = lost == 0 and evicted == 0
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok' if good else 'FAILED':7} {backend} try {number + 1}: {lost} of {PEERS} "
                  f"living peers lost, {evicted} evicted", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
