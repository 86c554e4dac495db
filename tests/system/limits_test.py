#!/usr/bin/env python3
"""Limits of build/pulsewheel over real sockets, on each backend: who is refused, in which words,
and that others are not.

Ends with `N passed, N failed`.
"""
import json
import os
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import Server, Skipped, run_over_backends  # noqa: E402: its path comes first

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + struct.pack(">BBH", 0x20, 0, 0)


def named(source, version):
    """The PROXY header by which a balancer names this source."""
    six = ":" in source
    if version == 1:
        other = "2001:db8::ff" if six else "198.51.100.9"
        return f"PROXY TCP{6 if six else 4} {source} {other} 56324 443\r\n".encode()
    family = socket.AF_INET6 if six else socket.AF_INET
    body = socket.inet_pton(family, source)
    body += bytes(len(body)) + struct.pack(">HH", 56324, 443)
    return SIGNATURE + struct.pack(">BBH", 0x21, 0x21 if six else 0x11, len(body)) + body


def comes(server, source="127.0.0.1", header=b"", host="127.0.0.1"):
    """A peer with what it was answered: PONG, or the goodbye by which it was refused."""
    peer = socket.create_connection((host, server.port), timeout=20, source_address=(source, 0))
    try:
        peer.sendall(header + b"PING\n")
    except ConnectionError:
        pass  # refused before it spoke: the words are there
    line = b""
    while not line.endswith(b"\n"):
        more = peer.recv(4096)
        assert more, f"closed behind {line}"
        line += more
    answer = "PONG" if line == b"PONG\n" else json.loads(line)
    return peer, answer


def is_let_in(server, *peer, **how):
    return comes(server, *peer, **how)[1] == "PONG"


def refused(server, reason):
    """How often, once the figures have come that follow."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        count = server.stats()["total"]["refused_by_reason"].get(reason, 0)
        if count:
            return count
        time.sleep(0.05)
    return 0


def wait_for_total(server, member, count):
    deadline = time.monotonic() + 20
    while server.stats()["total"][member] < count:
        assert time.monotonic() < deadline, f"{member} is not {count}"
        time.sleep(0.05)


def limited(backend, *flags, **how):
    return Server(backend, "--stats-interval", "100ms", *flags, **{"scheme": "jsonl", **how})


# --------------------------------------------------------------------------- connections by address

def test_connections_of_an_address(backend):
    with limited(backend, "--max-connections-per-address", "2", "--reactors", "2") as server:
        kept = [comes(server) for _ in range(2)]
        assert [answer for _, answer in kept] == ["PONG", "PONG"], kept
        refusal = comes(server)[1]
        assert refusal == {"type": "goodbye", "code": 1013, "reason": "address_full",
                           "retry_after_ms": 1000}, refusal
        other = comes(server, "127.0.0.2")
        assert other[1] == "PONG", "another address is refused"
        kept[0][0].close()
        deadline = time.monotonic() + 20
        while not is_let_in(server) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.monotonic() < deadline, "room does not come back"
        assert refused(server, "address_full") >= 1


def test_behind_a_balancer(backend):
    with limited(backend, "--max-connections-per-address", "1", query="?proxy=on") as server:
        kept = [comes(server, header=named("192.0.2.1", 1)),
                comes(server, header=named("192.0.2.2", 2)),
                comes(server, header=named("2001:db8::1", 2)),
                comes(server, header=named("2001:db8:0:1::1", 1))]
        assert [answer for _, answer in kept] == ["PONG"] * 4, kept
        for source in ("192.0.2.1", "192.0.2.2", "2001:db8::2", "2001:db8:0:1:ffff::",
                       "::ffff:192.0.2.1"):
            for version in (1, 2):
                refusal = comes(server, header=named(source, version))[1]
                assert refusal["reason"] == "address_full", (source, version, refusal)
        # The balancer's own checks have no limit.
        checks = [comes(server, header=LOCAL) for _ in range(3)]
        assert [answer for _, answer in checks] == ["PONG"] * 3, checks


# --------------------------------------------------------------------------------- accepts a second

def test_accepts_of_an_address(backend):
    with limited(backend, "--address-accept-rate", "1/m,3", "--reactors", "2") as server:
        answers = [comes(server)[1] for _ in range(6)]
        assert answers[:3] == ["PONG"] * 3, answers
        for refusal in answers[3:]:
            assert refusal["reason"] == "address_rate", answers
            assert 0 < refusal["retry_after_ms"] <= 60_001, answers
        assert is_let_in(server, "127.0.0.2"), "another address is refused"


def test_what_flaps_is_held_off(backend):
    with limited(backend, "--flapping", "3/1h,1h", "--reactors", "2") as server:
        for count in range(1, 4):
            comes(server)[0].close()
            wait_for_total(server, "closed", count)
        refusal = comes(server)[1]
        assert refusal["reason"] == "flapping", refusal
        assert 3_500_000 < refusal["retry_after_ms"] <= 3_600_001, refusal
        assert is_let_in(server, "127.0.0.2"), "another address is refused"


# ------------------------------------------------------------------------------------- behind a NAT

def test_an_address_that_many_share(backend):
    """The newest are let in, the oldest anonymous ones give way, and logged-in ones stay."""
    hello = b'{"type":"hello","user":"u1"}\n'
    with limited(backend, "--address-share", "3", "--reactors", "1") as server:
        user = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        user.sendall(hello)
        assert b"welcome" in user.makefile("rb").readline()
        guests = [comes(server) for _ in range(10)]
        assert [answer for _, answer in guests] == ["PONG"] * 10, guests
        for peer, _ in guests[:7]:
            goodbye = json.loads(peer.makefile("rb").readline())
            assert goodbye["reason"] == "address_share", goodbye
        for peer in (user, *(peer for peer, _ in guests[7:])):
            peer.sendall(b"PING\n")
            assert peer.makefile("rb").readline().endswith(b"PONG\n")


# -------------------------------------------------------------------------------- messages a second

def test_messages_of_a_user(backend):
    """Of two connections, which may be on two reactors."""
    hello = lambda device: f'{{"type":"hello","user":"u1","device":"{device}"}}\n'.encode()
    with limited(backend, "--user-message-rate", "1/h,4", "--reactors", "2") as server:
        peers = []
        for device in ("a", "b"):
            peer = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            lines = peer.makefile("rb")
            peer.sendall(hello(device))
            assert b"welcome" in lines.readline()
            peers.append((peer, lines))
        for _ in range(2):
            for peer, lines in peers:
                peer.sendall(b"PING\n")
                assert lines.readline() == b"PONG\n"
        peer, lines = peers[0]
        peer.sendall(b"PING\n")
        assert json.loads(lines.readline())["reason"] == "user_message_rate"
        assert lines.readline() == b"", "it is not closed"


NAMESPACE = f"pulse-l{os.getpid()}"
SITES = ("2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1")


def test_ipv6_sites_and_mapped_addresses(backend):
    """In a namespace whose loopback has addresses of two sites, with a listener for everything."""
    namespace = f"{NAMESPACE}-{backend}"
    script = ("import socket, sys\n"
              "kept = []\n"
              "for words in sys.argv[2:]:\n"
              "    host, source = words.split(',')\n"
              "    peer = socket.create_connection((host, int(sys.argv[1])), 20, (source, 0))\n"
              "    try:\n"
              "        peer.sendall(b'PING\\n')\n"
              "    except ConnectionError:\n"
              "        pass\n"
              "    print(peer.makefile('rb').readline())\n"
              "    kept.append(peer)\n")
    run = lambda *words: subprocess.run(words, check=True, capture_output=True, timeout=60).stdout
    try:
        run("ip", "netns", "add", namespace)
    except (OSError, subprocess.SubprocessError) as error:
        raise Skipped(f"no network namespaces here: {error}") from error
    try:
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        for site in SITES:
            run("ip", "-n", namespace, "-6", "addr", "add", site + "/128", "dev", "lo", "nodad")
        inside = ("ip", "netns", "exec", namespace)
        with limited(backend, "--max-connections-per-address", "1", host="*",
                     inside=inside) as server:
            # The host that is connected to, and the source: one of each site is let in, and an
            # IPv4 address that comes as ::ffff:127.0.0.2 is itself.
            plan = (("::1", SITES[0], True), ("::1", SITES[1], False), ("::1", SITES[2], True),
                    ("127.0.0.1", "127.0.0.2", True),
                    ("::ffff:127.0.0.1", "::ffff:127.0.0.2", False),
                    ("127.0.0.1", "127.0.0.3", True))
            heard = run(*inside, sys.executable, "-c", script, str(server.port),
                        *(f"{host},{source}" for host, source, _ in plan)).splitlines()
            for (_, source, welcome), line in zip(plan, heard, strict=True):
                assert (b"PONG" in line) == welcome, (source, line)
                assert welcome or b"address_full" in line, (source, line)
    finally:
        subprocess.run(("ip", "netns", "del", namespace), capture_output=True, timeout=20)


if __name__ == "__main__":
    sys.exit(run_over_backends(globals(), at_once=2))
