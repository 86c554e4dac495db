#!/usr/bin/env python3
"""TLS for longer than a test run has time for, on each backend, with OpenSSL's objects and frozen:
`make tls-peers` calls it, apart from `make test`.

5,000 handshakes at once; `openssl s_time`; keys that both ends update beside a crowd that beats;
peers that are cut at random in their handshakes; a flood of tiny records. Needs build/pulsewheel
and build/pulseload. Ends with `N passed, N failed`.
"""
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tls_test as basis  # noqa: E402: its path comes first
from attack import Canary  # noqa: E402
from load import Load  # noqa: E402
from server import TLS_WAYS, percentiles, run_over  # noqa: E402

CROWD = 5_000
BEATS = ("--heartbeat-interval", "500ms")


def target(server):
    return f"tls+jsonl://127.0.0.1:{server.port}"


def test_a_crowd_of_5000_at_once(way):
    with basis.serving(way, "--tls-handshakes", "6000", scheme="tls+jsonl") as server:
        load = Load(target(server), "-n", str(CROWD), "--connecting-max", str(CROWD), "-d", "5s",
                    "--slo", "false-evictions=0,lost=0,tls-failures=0", *BEATS)
        counts = load["counts"]
        assert load.met() and counts["open"] == CROWD, load.text()
        most = load["latency"]["tls_handshake"]["max_us"] / 1e3
        print(f"REPORT {way}: {CROWD} handshakes at once, the last after {most:.0f} ms")
        basis.wait_for_total(server, tls_connections=0, tls_handshaking=0, tls_frozen=0)


def test_the_crowd_that_is_too_large_is_refused_and_leaves_nothing(way):
    with basis.serving(way, "--tls-handshakes", "50", scheme="tls+jsonl") as server:
        load = Load(target(server), "-n", str(CROWD), "--connecting-max", str(CROWD), "-d", "3s")
        counts = load["counts"]
        assert counts["open"] >= 50, load.text()
        assert basis.closed(server, "handshakes_full") > 0, server.stats()["total"]
        basis.wait_for_total(server, tls_connections=0, tls_handshaking=0, tls_frozen=0)
        with basis.connect(server) as after:
            after.sendall(b"PING\n")
            assert basis.until(after, b"\n") == b"PONG\n"


def test_openssl_s_time(way):
    """As many connections as it makes in two seconds or three, with and without a ticket."""
    for version in ("-tls1_2", "-tls1_3"):
        for flag in ("-new", "-reuse"):
            with basis.serving(way) as server:
                asked = subprocess.run(
                    ["openssl", "s_time", "-connect", f"127.0.0.1:{server.port}", flag, version,
                     "-time", "2", "-www", "/healthz", "-CAfile", basis.AUTHORITY, "-verify", "2"],
                    capture_output=True, text=True, timeout=60)
                made = re.search(r"^(\d+) connections in (\d+) real seconds", asked.stdout, re.M)
                assert asked.returncode == 0 and made and int(made[1]) > 20, asked
                print(f"REPORT {way}: s_time {version} {flag}: {made[1]} connections in "
                      f"{made[2]} s")
                resumed = server.stats()["total"]["tls_resumed"]
                assert (resumed > 0) == (flag == "-reuse"), server.stats()["total"]


def test_keys_are_updated_under_load(way):
    """The client's 600 times and the server's 300 times, while 2,000 others beat."""
    with basis.serving(way, scheme="tls+jsonl") as server:
        def update(_process):
            with basis.Talk("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}",
                            "-tls1_3") as client:
                for turn in range(600):
                    client.say(b"K\n" if turn % 2 else b"k\n", b"KEYUPDATE")
                    client.say(b"PING\n", b"PONG\n")
        load = Load(target(server), "-n", "2000", "-d", "10s", "--slo",
                    "false-evictions=0,lost=0,tls-failures=0", *BEATS, during=update)
        assert load.met() and load["counts"]["open"] == 2_000, load.text()


def flights(context):
    """What a client sends, of a handshake that is answered by `answer(bytes)`: step by step."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = context.wrap_bio(incoming, outgoing, server_hostname="a.example")

    def step(heard):
        incoming.write(heard)
        try:
            peer.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return outgoing.read()
    return step


def test_handshakes_that_are_cut_anywhere_leave_nothing(way):
    """By FIN, by a reset and by bytes that are wrong; the seed is printed with what fails."""
    with basis.serving(way, "--handshake-timeout", "2s") as server:
        inside = basis.connect(server)
        basis.converse(inside)
        for seed in range(2_000):
            draw = random.Random(seed)
            version = draw.choice((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
            step = flights(basis.client_context(version))
            raw = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            heard = b""
            try:
                for _ in range(draw.randrange(3)):
                    raw.sendall(step(heard))
                    heard = raw.recv(65536)
                last = bytearray(step(heard) or os.urandom(20))
                how = draw.randrange(3)
                if how == 0:
                    last[draw.randrange(len(last))] ^= 1 << draw.randrange(8)
                raw.sendall(last if how == 0 else last[:draw.randrange(len(last))])
                if how == 2:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except TimeoutError as error:
                raise AssertionError(f"seed {seed} was not answered") from error
            except (ssl.SSLError, ConnectionError):
                pass  # it was told that its bytes were wrong
            raw.close()
            if seed % 200 == 0:
                inside.sendall(basis.PING)
                assert basis.until(inside, basis.PONG) == basis.PONG, seed
        basis.wait_for_total(server, tls_connections=1, tls_handshaking=0)
        inside.close()


def flood(port, authority, seconds_to_wait):
    """A process of its own: seals what 20 peers say, a byte a record, waits, and sends it all."""
    peers = []
    for _ in range(20):
        context = basis.client_context(ssl.TLSVersion.TLSv1_3, authority)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
        raw = socket.create_connection(("127.0.0.1", port), timeout=20)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
        for _ in range(8_000):
            for byte in b"PING\n":
                tls.write(bytes([byte]))
        raw.setblocking(False)
        peers.append([raw, memoryview(outgoing.read())])
    print("ready", flush=True)
    time.sleep(seconds_to_wait)
    deadline = time.monotonic() + 60
    while any(left for _, left in peers) and time.monotonic() < deadline:
        for peer in peers:
            try:
                peer[0].recv(1 << 20)
            except BlockingIOError:
                pass
            try:
                peer[1] = peer[1][peer[0].send(peer[1]):]
            except BlockingIOError:
                pass
    assert not any(left for _, left in peers)


def test_a_flood_of_records_of_a_byte_leaves_the_others_their_heartbeats(way):
    with basis.serving(way, "--reactors", "1", "--log-level", "info", scheme="auto") as server:
        flooder = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--flood", str(server.port),
             basis.AUTHORITY],
            stdout=subprocess.PIPE)
        assert flooder.stdout.readline() == b"ready\n"
        canary, times = Canary(server.port), []
        while flooder.poll() is None:
            times.append(canary.beat())
            time.sleep(0.005)
        assert flooder.wait() == 0
        print(f"REPORT {way}: beside 800,000 records of a byte a heartbeat takes, in s: "
              f"{percentiles(times)}")
        assert max(times) < 0.25, percentiles(times)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--flood"]:
        flood(int(sys.argv[2]), sys.argv[3], 0.2)
        sys.exit(0)
    sys.exit(run_over(globals(), TLS_WAYS))
