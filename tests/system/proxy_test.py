#!/usr/bin/env python3
"""build/pulsewheel behind a balancer: PROXY headers over real sockets, on each backend.

Ends with `N passed, N failed`.
"""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import Server, run_over_backends  # noqa: E402: its path comes first

PING = struct.pack(">BBHI", 0xB7, 1, 0, 7)
PONG = struct.pack(">BBHI", 0xB7, 2, 0, 7)
UPGRADE = (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
WS_PING = b"\x89\x82\x01\x02\x03\x04ij"
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version2(command, family, body):
    return SIGNATURE + struct.pack(">BBH", 0x20 | command, family, len(body)) + body


FROM_V6 = version2(1, 0x21, socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) +
                   struct.pack(">HH", 56324, 443) + b"\x04\x00\x03abc")
LOCAL = version2(0, 0, b"")


def proxied(backend, *flags, scheme="auto"):
    return Server(backend, "--log-level", "debug", *flags, scheme=scheme, query="?proxy=on")


def talk(port, *pieces, source=None, until=b"", timeout_s=10):
    """Writes the pieces, a moment apart; what was said until it ends so, or the stream does."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s,
                                  source_address=source) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(0.02)
            peer.sendall(piece)
        heard = b""
        while not (until and heard.endswith(until)):
            more = peer.recv(65536)
            if not more:
                break
            heard += more
        return heard


def in_log(server, words):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if words in server.text():
            return True
        time.sleep(0.05)
    return False


def total(server):
    """The figures, once they tell of what has just happened."""
    time.sleep(2.1)
    return server.stats()["total"]


# -------------------------------------------------------------------------------------- the tests

def test_both_versions_before_every_protocol(backend):
    with proxied(backend) as server:
        for header in (LINE, FROM_V6, LOCAL):
            for words, answer in ((PING, PONG), (b"PING\n", b"PONG\n"),
                                  (UPGRADE + WS_PING, b"\x8a\x02hh")):
                heard = talk(server.port, header + words, until=answer)
                assert heard.endswith(answer), (header, words, heard)
        assert in_log(server, "speaks for 192.0.2.1:56324"), server.text()
        assert in_log(server, "speaks for [2001:db8::7]:56324"), server.text()
        assert in_log(server, "speaks for its proxy"), server.text()
        assert total(server)["proxy_headers"] == 9


def test_headers_in_pieces(backend):
    with proxied(backend, scheme="tcp") as server:
        for header in (LINE, FROM_V6):
            for cut in (1, 5, 6, 12, 14, 16, 20, len(header) - 1, len(header)):
                whole = header + PING
                heard = talk(server.port, whole[:cut], whole[cut:], until=PONG)
                assert heard == PONG, (cut, heard)
        pieces = [bytes([byte]) for byte in LINE + PING]
        assert talk(server.port, *pieces, until=PONG) == PONG


def test_wrong_or_missing_headers(backend):
    wrong = (PING, UPGRADE, b"PROXY TCP4 1.2.3.4 5\r\n", version2(1, 0x99, bytes(12)))
    with proxied(backend) as server:
        for words in wrong:
            assert talk(server.port, words) == b"", words
        assert in_log(server, "refused: this listener expects a PROXY header"), server.text()
        figures = total(server)
        assert figures["closed_by_reason"]["bad_proxy_header"] == len(wrong), figures
        assert figures["faults"] == len(wrong) and figures["proxy_headers"] == 0, figures


def test_deadline(backend):
    with proxied(backend, "--handshake-timeout", "1s") as server:
        began = time.monotonic()
        assert talk(server.port, b"PROXY TCP4 19") == b""
        assert 0.99 <= time.monotonic() - began < 5


def test_strangers(backend):
    with proxied(backend, "--proxy-trusted", "127.0.0.1,127.8.0.0/16") as server:
        for source, welcome in (("127.0.0.1", True), ("127.8.1.2", True), ("127.9.0.1", False)):
            heard = talk(server.port, LINE + b"PING\n" if welcome else b"", source=(source, 0),
                         until=b"PONG\n")
            assert heard.startswith(b"PONG" if welcome else b"HTTP/1.1 403 "), (source, heard)
        assert in_log(server, "127.9.0.1:"), server.text()
        assert total(server)["refused_by_reason"] == {"untrusted_source": 1}


if __name__ == "__main__":
    sys.exit(run_over_backends(globals(), at_once=2))
