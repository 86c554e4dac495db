#!/usr/bin/env python3
"""What finds out that a peer is gone, and when: heartbeats, and the kernel where they are slow.

Server and peers live in two network namespaces with a cable between them, each peer with an address
of its own, so that the packets of one can be dropped. Of each backend one server has heartbeats of
1 s and 3 s, and one of minutes, and the kernel's bounds are short. Each is given a peer for each
way to be gone. net/README.md has what this prints; skipped by name where namespaces may not be
made. Ends with `N passed, N failed`.
"""
import contextlib
import ctypes
import os
import re
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from cable import (Cable, PEER_SIDE, SERVER_ADDRESS, SERVER_SIDE, inside,  # noqa: E402: its path
                   need_namespaces)  # comes first
from server import BACKENDS, Server, run_tests  # noqa: E402

WATCHERS = {
    "heartbeats": ("--heartbeat-interval", "1s", "--heartbeat-timeout", "3s"),
    "kernel": ("--heartbeat-interval", "60s", "--heartbeat-timeout", "120s",
               "--tcp-keepalive", "2s", "--tcp-user-timeout", "4s")}
TIMEOUT_S, KEEPALIVE_S, USER_TIMEOUT_S = 3, 2, 4
GIVES_UP_S = 60  # what was not found out by then, from before the first peer is made
STAYS_S = 8      # what is not to be found out is looked at so long


class Peer:
    """One connection from an address of its own, that has spoken and had its answer."""

    def __init__(self, cable, number, port):
        self.cable, self.address = cable, cable.add_peer(number)
        self.socket = socket.socket()
        self.socket.settimeout(10)
        self.socket.bind((self.address, 0))
        self.socket.connect((SERVER_ADDRESS, port))
        self.name = f"{self.address}:{self.socket.getsockname()[1]}"
        self.socket.sendall(b"PING\n")
        heard = b""
        while b"PONG\n" not in heard:
            got = self.socket.recv(256)
            assert got, f"{self.name}: the server closed, after {heard!r}"
            heard += got

    def resets(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_cut_off(self):
        self.cable.remove_peer(self.address)

    def is_cut_off_from_an_answer(self):
        self.cable.lose(self.address)
        self.socket.sendall(b'{"type":"data","x":"' + b"y" * 500 + b'"}\n')
        time.sleep(0.2)
        self.cable.remove_peer(self.address)

    def reboots(self):
        self.cable.remove_peer(self.address)
        self.resets()
        self.cable.restore_peer(self.address)


# What becomes of the peer; then by watcher the reason, and after how long at the least. None: it is
# not found out.
WAYS = {
    "it closes: FIN": (lambda peer: peer.socket.close(),
                       {"heartbeats": ("peer_closed", 0), "kernel": ("peer_closed", 0)}),
    "it resets: RST": (Peer.resets,
                       {"heartbeats": ("peer_reset", 0), "kernel": ("peer_reset", 0)}),
    "cut off, idle": (Peer.is_cut_off,
                      {"heartbeats": ("idle_timeout", TIMEOUT_S),
                       "kernel": ("network_timeout", USER_TIMEOUT_S)}),
    "cut off, data on its way to it": (Peer.is_cut_off_from_an_answer,
                                       {"heartbeats": ("idle_timeout", TIMEOUT_S),
                                        "kernel": ("network_timeout", USER_TIMEOUT_S)}),
    "its NAT forgot it": (lambda peer: peer.cable.lose(peer.address),
                          {"heartbeats": ("idle_timeout", TIMEOUT_S),
                           "kernel": ("network_timeout", USER_TIMEOUT_S)}),
    "its host rebooted": (Peer.reboots,
                          {"heartbeats": ("peer_reset", 1), "kernel": ("peer_reset", KEEPALIVE_S)}),
    "its process is stopped": (lambda peer: None,
                               {"heartbeats": ("idle_timeout", TIMEOUT_S), "kernel": None})}


def enter_the_peers_side():
    """This thread; sockets that it makes stay there."""
    with open(f"/var/run/netns/{PEER_SIDE}") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.setns(namespace.fileno(), 0x40000000) == 0, os.strerror(ctypes.get_errno())


def end_of(log, peer):
    """Why it was closed by the debug log of its server, and of a silence how long it was when that
    was decided: the line comes when the goodbye was waited for. None while it is open."""
    accepted = re.search(rf"(r\d+-\S+) accepted from {re.escape(peer.name)} ", log)
    closed = accepted and re.search(rf"{accepted[1]} closed: (\w+)(.*)", log)
    silence = closed and re.search(r"life came for ([\d.]+) s", closed[2])
    return closed and (closed[1], float(silence[1]) if silence else None)


def watch(server, gone, found):
    """Into `found`: of each way the reason and how long it took, until all are known."""
    until = time.monotonic() + GIVES_UP_S
    while len(found) < len(WAYS) and time.monotonic() < until:
        log, now = server.text(), time.monotonic()
        for way, (peer, since) in list(gone.items()):
            end = end_of(log, peer)
            if end is not None and way not in found:
                found[way] = (end[0], end[1] or now - since)
        if len(found) == len(WAYS) - 1 == len(gone) - 1 and now - max(
                since for _, since in list(gone.values())) > STAYS_S:
            return
        time.sleep(0.01)


def run_peers(cable, servers, found, failures):
    try:
        enter_the_peers_side()
        gone = {key: {} for key in servers}
        watchers = [threading.Thread(target=watch, args=(servers[key], gone[key], found[key]))
                    for key in servers]
        for watcher in watchers:
            watcher.start()
        for number, key in enumerate(servers):
            # Each is gone right after it spoke: its silence begins with that.
            for place, (way, (goes, _)) in enumerate(WAYS.items()):
                peer = Peer(cable, number * 20 + place + 1, servers[key].port)
                gone[key][way] = (peer, time.monotonic())
                goes(peer)
        for watcher in watchers:
            watcher.join()
    except Exception as error:  # reported by the test's own thread
        failures.append(error)


def test_each_way_to_be_gone_is_found_out():
    need_namespaces()
    with contextlib.ExitStack() as stack:
        cable = stack.enter_context(Cable())
        servers = {(watcher, backend): stack.enter_context(
            Server(backend, *flags, "--on-message", "echo", "--log-level", "debug",
                   "--log-rate", "1000/s", scheme="auto", host="*", inside=inside(SERVER_SIDE)))
            for watcher, flags in WATCHERS.items() for backend in BACKENDS}
        found, failures = {key: {} for key in servers}, []
        peers = threading.Thread(target=run_peers, args=(cable, servers, found, failures))
        peers.start()
        peers.join()
        if failures:
            raise failures[0]
        for way, (_, expected) in WAYS.items():
            words = []
            for watcher, backend in servers:
                reason, after_s = found[watcher, backend].get(way, (None, None))
                words.append(f"{watcher} {backend} " +
                             (f"{reason} {after_s:.2f} s" if reason else "not found out"))
                wanted = expected[watcher]
                assert (reason is None) == (wanted is None), (way, watcher, backend, reason)
                if wanted is not None:
                    assert reason == wanted[0] and after_s > wanted[1] * 0.9, (way, words[-1])
            print(f"REPORT {way}: {', '.join(words)}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
