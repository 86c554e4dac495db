#!/usr/bin/env python3
"""How build/pulsewheel ends: goodbyes over the drain window, peers that read slowly or not at all,
pauses in the middle, a second signal. On each backend; ends with `N passed, N failed`.
"""
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched  # noqa: E402: the path comes first
from binary_peer import DATA, GOODBYE, PING, PONG, Peer, frame  # noqa: E402
from server import BUILD, Server, percentiles, run_over_backends  # noqa: E402


def test_says_goodbye_on_sigterm(backend):
    with Server(backend, "--drain-timeout", "3s") as server:
        peers = [Peer(server.port) for _ in range(200)]
        peers[0].send(frame(PING, 1))
        assert peers[0].receive(skip=(PING,))[0] == PONG
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        began, ends = time.monotonic(), []
        poller = select.epoll()
        by_descriptor = {peer.socket.fileno(): peer for peer in peers}
        for descriptor in by_descriptor:
            poller.register(descriptor, select.EPOLLIN)
        while by_descriptor and time.monotonic() - began < 6:
            for descriptor, _ in poller.poll(0.2):
                peer = by_descriptor[descriptor]
                peer.bytes += peer.socket.recv(4096)
                while (found := peer.take()) and found[0] == PING:
                    pass
                if not found:
                    continue
                kind, _, payload = found
                assert kind == GOODBYE and payload[:2] == struct.pack(">H", 1001), found
                assert b"retry_after_ms" in payload
                ends.append(time.monotonic() - began)
                assert peer.receive() is None
                poller.unregister(descriptor)
                by_descriptor.pop(descriptor).socket.close()
        assert len(ends) == 200
        print(f"REPORT {backend}: 200 goodbyes over a drain window of 3 s, at  {percentiles(ends)}")
        first_half = sum(1 for end in ends if end < 1.125)
        assert 50 <= first_half <= 150, f"not spread evenly: {first_half} in the first half"
        assert server.process.wait(timeout=10) == 0, server.text()


def drain_of(backend, count, rate, *flags):
    """Drains `count` peers at a rate; returns how long after the signal each goodbye was read."""
    with Server(backend, "--drain-rate", f"{rate}/s", "--reactors", "2", *flags) as server:
        peers = {}
        poller = select.epoll()
        for number in range(count):
            peer = Peer(server.port)
            peer.send(frame(PING, 1))
            peers[peer.socket.fileno()] = peer
            poller.register(peer.socket.fileno(), select.EPOLLIN)
        for peer in peers.values():
            assert peer.receive(skip=(PING,))[0] == PONG
        server.process.send_signal(signal.SIGTERM)
        began, ends, waits_ms = time.monotonic(), [], []
        while peers:
            for descriptor, _ in poller.poll(20):
                peer = peers.pop(descriptor)
                poller.unregister(descriptor)
                kind, _, payload = peer.receive(skip=(PING,))
                ends.append(time.monotonic() - began)
                assert kind == GOODBYE and payload[:2] == struct.pack(">H", 1001), payload
                waits_ms.append(int(payload.split(b"retry_after_ms=")[1]))
                assert peer.receive() is None, "closed in order, not reset"
                peer.socket.close()
        assert server.process.wait(timeout=20) == 0, server.text()
        return ends, waits_ms, server.text()


def test_goodbyes_keep_to_the_rate(backend):
    """All of both reactors together. That they are not too slow is a matter of the machine: a
    second of it is allowed."""
    count, rate = 3000, 1000
    ends, waits_ms, log = drain_of(backend, count, rate, "--drain-timeout", "60s",
                                   "--drain-retry-after", "2s")
    assert len(ends) == count
    print(f"REPORT {backend}: {count} goodbyes at {rate}/s took {max(ends):.2f} s")
    assert count / 1.1 / rate < max(ends) < count / 0.9 / rate + 1, max(ends)
    waits_ms.sort()
    assert 2000 <= waits_ms[0] < 2200 and 3800 < waits_ms[-1] < 4000, (waits_ms[0], waits_ms[-1])
    assert f"sends {count} goodbyes, 1k/s" in log, log


def test_the_window_holds_where_the_rate_is_too_low(backend):
    ends, _, log = drain_of(backend, 300, 1, "--drain-timeout", "3s")
    assert max(ends) < 10, max(ends)
    assert "300 connections take longer than 3s at --drain-rate 1/s; drains at 134/s" in log, log


def test_is_not_ready_before_it_stops_to_accept(backend):
    with Server(backend, "--drain-delay", "2s", "--drain-timeout", "2s", scheme="auto") as server:
        def health():
            with socket.create_connection(("127.0.0.1", server.port), 10) as asking:
                asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                return asking.recv(4096)[:12]
        assert health() == b"HTTP/1.1 200"
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while health() != b"HTTP/1.1 503":
            assert time.monotonic() - began < 1.5, "ready after the signal"
        late = Peer(server.port)
        late.send(frame(PING, 1))
        assert late.receive(skip=(PING,))[0] == PONG
        assert late.receive(skip=(PING,))[0] == GOODBYE
        assert time.monotonic() - began > 1.9, "not before the delay was over"
        assert late.receive() is None
        assert server.process.wait(timeout=10) == 0, server.text()


def open_peers(port, count):
    peers = [Peer(port) for _ in range(count)]
    for peer in peers:
        peer.send(frame(PING, 1))
        assert peer.receive(skip=(PING,))[0] == PONG
    return peers


def expect_refused(port):
    """Once both reactors have closed theirs."""
    deadline = time.monotonic() + 10
    while True:
        try:
            late = socket.create_connection(("127.0.0.1", port), 10)
        except ConnectionRefusedError:
            return
        late.close()
        assert time.monotonic() < deadline, "it still accepts"


def test_a_listener_is_drained_and_the_others_notice_nothing(backend):
    count, rate = 300, 200
    with Watched(backend, "--listen", "tcp://127.0.0.1:0", "--drain-timeout", "4s") as server:
        admin, ports = server.admin, [int(uri.rsplit(":", 1)[1]) for uri in
                                      server.admin.get("/api/v1/server")["listening"]]
        leave, stay = open_peers(ports[0], count), open_peers(ports[1], count)
        began = time.monotonic()
        state = admin.post("/api/v1/drain", {"listener": "0", "rate": f"{rate}/s"}, 202)
        assert not state["draining"] and state["parts"][0]["connections"] == count, state
        expect_refused(ports[0])
        stay += open_peers(ports[1], 10)
        for peer in leave:
            kind, _, payload = peer.receive(skip=(PING,))
            assert kind == GOODBYE and b"going_away; retry_after_ms=" in payload, payload
            assert peer.receive() is None, "closed in order, not reset"
            peer.socket.close()
        assert time.monotonic() - began > count / 1.1 / rate
        for peer in stay:
            peer.send(frame(PING, 2))
            assert peer.receive(skip=(PING,))[0] == PONG
        part = admin.get("/api/v1/drain")["parts"][0]
        assert part["closed"] == count and part["goodbyes_per_s"] == rate, part
        assert admin.ask("GET", "/readyz").status == 200
        # Those that match, and then the last listener, as a shell would.
        ctl = [f"{BUILD}/pulsectl", "--admin", admin.address, "drain"]
        said = subprocess.run([*ctl, "--idle", "1h"], stdout=subprocess.PIPE, check=True).stdout
        assert b"draining a part: 0 of 0 connections closed" in said, said
        said = subprocess.run([*ctl, "--listener", "1"], stdout=subprocess.PIPE, check=True).stdout
        assert b": 310 of 310 connections closed at 104/s" in said, said
        for peer in stay:
            assert peer.receive(skip=(PING,))[0] == GOODBYE
        reply = admin.ask("GET", "/readyz")
        assert reply.json()["reasons"] == ["every listener is drained"], reply.body
        for body, words in (({"listener": "7"}, b"is not listened on"),
                            ({"listener": "1", "filter": {"idle": "1s"}}, b"excludes listener"),
                            ({"filter": {}}, b"is missing or empty"),
                            ({"rate": "5/s"}, b"the server's own is --drain-rate"),
                            ({"listeners": "1"}, b"is not read here")):
            reply = admin.ask("POST", "/api/v1/drain", body)
            assert reply.status == 400 and words in reply.body, reply.body


def test_those_with_a_label_are_drained(backend):
    with Watched(backend, scheme="jsonl") as server:
        peers = {ring: socket.create_connection(("127.0.0.1", server.port), 20)
                 for ring in ("canary", "stable")}
        for ring, peer in peers.items():
            peer.sendall(b'{"type":"hello","user":"%b","labels":{"ring":"%b"}}\n'
                         % (ring.encode(), ring.encode()))
            assert b'"welcome"' in peer.recv(4096)
        ctl = [f"{BUILD}/pulsectl", "--admin", server.admin.address, "drain"]
        said = subprocess.run([*ctl, "--label", "ring=canary"], stdout=subprocess.PIPE,
                              check=True).stdout
        assert b": 1 of 1 connections closed" in said, said
        assert b'"reason":"going_away"' in peers["canary"].recv(4096)
        peers["stable"].sendall(b'{"type":"ping"}\n')
        assert b'"pong"' in peers["stable"].recv(4096)


def test_a_drain_is_whole_once_every_goodbye_was_sent(backend):
    """However short the window: a peer that took its goodbye and lingers makes nothing worse."""
    with Server(backend, "--drain-timeout", "1s") as server:
        peers = [Peer(server.port) for _ in range(20)]
        for peer in peers:
            peer.send(frame(PING, 1))
            assert peer.receive(skip=(PING,))[0] == PONG
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0, server.text()
        for peer in peers:
            assert peer.receive(skip=(PING,))[0] == GOODBYE
            assert peer.receive() is None, "closed in order, not reset"


def test_a_drain_that_is_paused_says_every_goodbye(backend):
    """Stopped for longer than its window and the grace of the main thread together."""
    with Server(backend, "--drain-timeout", "1s") as server:
        peers = [Peer(server.port) for _ in range(50)]
        for peer in peers:
            peer.send(frame(PING, 1))
            assert peer.receive(skip=(PING,))[0] == PONG
        server.process.send_signal(signal.SIGTERM)
        assert peers[0].receive(skip=(PING,))[0] == GOODBYE
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(7)
        server.process.send_signal(signal.SIGCONT)
        assert server.process.wait(timeout=10) == 0, server.text()
        for peer in peers[1:]:
            assert peer.receive(skip=(PING,))[0] == GOODBYE
            assert peer.receive() is None, "closed in order, not reset"


def wait_for_echoes(server, size_bytes):
    """Until so much was read from a peer, more than the kernel takes back for one."""
    deadline = time.monotonic() + 20
    while server.stats()["total"]["bytes_received"] < size_bytes:
        assert time.monotonic() < deadline, server.stats()["total"]
        time.sleep(0.05)


def test_a_drain_is_cut_short_where_a_goodbye_does_not_leave(backend):
    """Whether the window ends first, or the linger of the peer."""
    for window in ("500ms", "10s"):
        drain_with_a_deaf_peer(backend, window)


def drain_with_a_deaf_peer(backend, window):
    with Server(backend, "--drain-timeout", window, "--on-message", "echo",
                "--send-queue-bytes", "64MiB") as server:
        # It never reads: its echoes fill what the kernel takes, and stay below the send queue.
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(10)
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(frame(DATA, 1, b"x" * 60000) * 300)
            wait_for_echoes(server, 10 << 20)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=10) == 3, server.text()


def read_slowly(peer, bytes_per_second):
    """All until the end of the stream, a hundredth of a second's share at a time."""
    parts, began, size = [], time.monotonic(), 0
    while data := peer.recv(bytes_per_second // 100):
        parts.append(data)
        size += len(data)
        ahead = size / bytes_per_second - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)
    return b"".join(parts)


def test_a_drain_waits_for_what_a_slow_peer_still_reads(backend):
    """1.8 MB on their way at the signal take longer than the linger; the window is 30 s."""
    for bytes_per_second in (400_000, 1_600_000):
        with Server(backend, "--drain-timeout", "30s", "--on-message", "echo") as server, \
                socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            slow.settimeout(10)
            slow.connect(("127.0.0.1", server.port))
            messages = frame(DATA, 1, b"x" * 60_000) * 30
            slow.sendall(messages)
            wait_for_echoes(server, len(messages))
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            answer = read_slowly(slow, bytes_per_second)  # a reset would raise
            assert answer.startswith(messages), f"{len(answer)} of {len(messages)} bytes arrived"
            goodbye = answer[len(messages):]
            assert goodbye[1] == GOODBYE and goodbye[8:10] == struct.pack(">H", 1001), goodbye
            slow.close()
            assert server.process.wait(timeout=10) == 0, server.text()


# Later than the new window and its grace are over: what is due at once is said all the same.
def test_a_reload_shortens_a_drain_that_goes_on(backend):
    with tempfile.TemporaryDirectory() as directory:
        config = f"{directory}/config"
        with open(config, "w") as file:
            file.write('drain-timeout = "60s"\n')
        with Server(backend, "--config", config) as server:
            peers = [Peer(server.port) for _ in range(40)]
            for peer in peers:
                peer.send(frame(PING, 1))
                assert peer.receive(skip=(PING,))[0] == PONG
            server.process.send_signal(signal.SIGTERM)
            time.sleep(6)
            with open(config, "w") as file:
                file.write('drain-timeout = "500ms"\n')
            server.process.send_signal(signal.SIGHUP)
            assert server.process.wait(timeout=20) == 0, server.text()
            assert "reload: drain-timeout: 1m -> 500ms" in server.text(), server.text()
            assert "stopping at once" not in server.text()
            for peer in peers:
                assert peer.receive(skip=(PING,))[0] == GOODBYE


def test_a_second_signal_stops_at_once(backend):
    with Server(backend, "--drain-timeout", "30s") as server:
        peers = [Peer(server.port) for _ in range(10)]
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert server.process.wait(timeout=5) == 3, server.text()
        assert time.monotonic() - began < 2
        del peers


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))
    sys.exit(run_over_backends(globals(), at_once=2))
