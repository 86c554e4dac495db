#!/usr/bin/env python3
"""RFC 6455 over real sockets, on each backend, plain and over TLS, frozen and not: every kind of
fault with its close code, and what is right answered, each delivered whole, a byte at a time (over
TLS a record at a time), and glued to the upgrade.

The whole suite is tests/proto/rfc6455_*_test.cc; this is the part of it that a loop, a kernel and a
closing handshake could still spoil. Prints the cases of each section. Ends with
`N passed, N failed`.
"""
import collections
import os
import socket
import ssl
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from certificates import make_certificate  # noqa: E402: its path comes first
from server import EVERY_TLS_WAY, PLAIN_WAYS, TLS_WAYS, Server, run_over  # noqa: E402

# What is asked of every way over TLS is asked of it alone.
WAYS = TLS_WAYS if EVERY_TLS_WAY else PLAIN_WAYS + TLS_WAYS
FOLDER = tempfile.TemporaryDirectory()
CERTIFICATE = make_certificate(FOLDER.name)
CONTEXT = ssl.create_default_context(cafile=CERTIFICATE)
MASK = b"\x37\xFA\x21\x3D"
MESSAGE_BYTES_MAX = 65536
UPGRADE = (b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


def length_bytes(count, form, flag):
    form = form or (7 if count < 126 else 16 if count < 65536 else 64)
    if form == 7:
        return bytes([flag | count])
    return struct.pack(">BH", flag | 126, count) if form == 16 else struct.pack(
        ">BQ", flag | 127, count)


def frame(first, payload=b"", mask=MASK, form=None, declared=None):
    """A frame as a client sends it, right or wrong."""
    count = len(payload) if declared is None else declared
    head = bytes([first]) + length_bytes(count, form, 0x80 if mask else 0)
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + (mask or b"") + payload


def close(code, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


Case = collections.namedtuple("Case", "section wire replies code")


def fault(section, wire, code=1002, replies=()):
    """The server closes with this code, and has answered with `replies` before."""
    return Case(section, wire, list(replies), code)


def good(section, wire, *replies):
    return Case(section, wire, list(replies), None)


def framing_cases():
    masks, framing, fragments = "5.1 masks required", "5.2 base framing", "5.4 fragmentation"
    for first in (TEXT, BINARY, 0x01, CLOSE, PING, PONG):
        yield fault(masks, frame(first, b"ab", mask=None))
    yield fault(masks, frame(TEXT, b"a") + frame(TEXT, b"b", mask=None), replies=[(TEXT, b"a")])
    for reserved in (0x40, 0x20, 0x10, 0x70):
        yield fault("5.2 reserved bits", frame(TEXT | reserved, b"a"))
        yield fault("5.2 reserved bits", frame(PING | reserved))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield fault("5.2 reserved opcodes", frame(0x80 | opcode, b"a"))
        yield fault("5.2 reserved opcodes", frame(0x01, b"a") + frame(0x80 | opcode))
    for count, form in ((0, 16), (125, 16), (5, 64), (126, 64), (65535, 64)):
        yield fault(framing, frame(BINARY, b"x" * count, form=form))
    yield fault(framing, frame(BINARY, b"x", form=64, declared=1 << 63))
    yield fault(framing, frame(PING, b"x", form=16))
    for count in (0, 1, 125, 126, 127, 65535, 65536):
        yield good(framing, frame(BINARY, b"m" * count), (BINARY, b"m" * count))
    for mask in (bytes(4), b"\xff\xff\xff\xff", b"\0\0\0\x80"):
        yield good("5.3 masking", frame(BINARY, b"12345", mask=mask), (BINARY, b"12345"))
    yield good(fragments, frame(0x01, b"ab") + frame(0x00) + frame(0x80, b"cd"), (TEXT, b"abcd"))
    yield good(fragments, frame(0x02, b"ab") + frame(PING, b"p") + frame(0x80, b"cd"),
               (PONG, b"p"), (BINARY, b"abcd"))
    yield good(fragments, frame(0x01) + frame(PONG, b"?") + frame(0x80), (TEXT, b""))
    for first in (0x08, 0x09, 0x0A):
        yield fault(fragments, frame(first))
    for first in (0x01, 0x02, TEXT, BINARY):
        yield fault(fragments, frame(0x01, b"a") + frame(first, b"b"))
    for first in (0x00, 0x80):
        yield fault(fragments, frame(first, b"a"))
        yield fault(fragments, frame(TEXT, b"a") + frame(first), replies=[(TEXT, b"a")])


def control_cases():
    for count in (0, 1, 125):
        yield good("5.5.2 ping", frame(PING, b"p" * count), (PONG, b"p" * count))
    yield good("5.5.2 ping", frame(PING, b"1") + frame(PING, b"2"), (PONG, b"1"), (PONG, b"2"))
    yield good("5.5.3 pong", frame(PONG, b"unasked for") + frame(PING), (PONG, b""))
    for first in (CLOSE, PING, PONG):
        yield fault("5.5 control frames", frame(first, b"\x03\xe8" + b"x" * 124))
    yield fault("5.5.1 close", frame(CLOSE, b"\x03"))
    yield fault("5.5.1 close", close(1000, b"\xc3\x28"), 1007)
    yield fault("5.5.1 close", frame(CLOSE), None, [(CLOSE, b"")])
    yield fault("5.5.1 close", close(1000, b"bye") + frame(PING) + frame(0x83), 1000)
    yield fault("5.5.1 close", frame(0x01, b"unfinished") + close(1001), 1001)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000,
                 3999, 4000, 4999):
        yield fault("7.4 status codes", close(code, b"why"), code)
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield fault("7.4 status codes", close(code), 1002)


def text_cases():
    utf8 = "8.1 UTF-8"
    text = "κόσμε \U0001f600".encode()
    yield good(utf8, frame(TEXT, text), (TEXT, text))
    pieces = [frame(0x00, bytes([byte])) for byte in text]
    yield good(utf8, frame(0x01) + b"".join(pieces) + frame(0x80), (TEXT, text))
    for bad in (b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\xff",
                b"a\xc3"):
        yield fault(utf8, frame(TEXT, b"ok " + bad), 1007)
        if bad != b"a\xc3":  # which the next fragment could still complete
            yield fault(utf8, frame(0x01, b"ok " + bad), 1007)  # and does not wait for the end
        yield good(utf8, frame(BINARY, bad), (BINARY, bad))
    yield fault(utf8, frame(0x01, b"\xe2\x82") + frame(0x80, b"x"), 1007)
    limits = "10.4 limits"
    yield fault(limits, frame(BINARY, b"", declared=MESSAGE_BYTES_MAX + 1, form=64), 1009)
    yield fault(limits, frame(0x02, b"x" * MESSAGE_BYTES_MAX) + frame(0x80, b"x"), 1009)
    yield good("5.6 data frames", frame(BINARY, bytes(range(256))), (BINARY, bytes(range(256))))
    yield good("6.2 receiving data", frame(TEXT, b"one") + frame(BINARY, b"two") + frame(TEXT),
               (TEXT, b"one"), (BINARY, b"two"), (TEXT, b""))


CASES = [*framing_cases(), *control_cases(), *text_cases()]


class Peer:
    def __init__(self, server, upgrade=True, timeout_s=20):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.way.tls_idle:  # an end without close_notify is an error
            self.socket = CONTEXT.wrap_socket(self.socket, server_hostname="127.0.0.1",
                                              suppress_ragged_eofs=False)
        self.bytes = b""
        if upgrade:
            self.socket.sendall(UPGRADE)
            self.take_answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_bytewise(self, data):
        """One write a byte; the server may have heard enough, and closed, before the last."""
        try:
            for byte in data:
                self.socket.send(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass

    def more(self):
        data = self.socket.recv(65536)
        self.bytes += data
        return bool(data)

    def take_answer(self):
        while b"\r\n\r\n" not in self.bytes:
            assert self.more(), self.bytes
        head, self.bytes = self.bytes.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101 ") and ACCEPT in head, head

    def receive(self):
        """The next frame: (first byte, payload); None at the end of the stream."""
        while True:
            count, start = (self.bytes[1], 2) if len(self.bytes) > 1 else (0, 1 << 30)
            assert count < 128, "a server does not mask"
            if count == 126 and len(self.bytes) >= 4:
                count, start = struct.unpack(">H", self.bytes[2:4])[0], 4
            elif count == 127 and len(self.bytes) >= 10:
                count, start = struct.unpack(">Q", self.bytes[2:10])[0], 10
            elif count > 125:
                start = 1 << 30
            if len(self.bytes) >= start + count:
                found = self.bytes[0], self.bytes[start:start + count]
                self.bytes = self.bytes[start + count:]
                return found
            if not self.more():
                assert not self.bytes, "the stream ends inside a frame"
                return None


def check(case, peer):
    """All the answers, in order; then the close code and FIN, or a connection that still lives."""
    for reply in case.replies:
        found = peer.receive()
        assert found == reply, (found and found[:1], reply[:1])
    if case.code is not None:
        found = peer.receive()
        assert found and found[0] == CLOSE, found
        assert struct.unpack(">H", found[1][:2])[0] == case.code, found
    elif case.replies[-1][0] != CLOSE:
        peer.socket.sendall(frame(PING, b"alive?"))
        assert peer.receive() == (PONG, b"alive?")
        return
    assert peer.receive() is None, "in order, and no reset"


def whole(peer, wire):
    peer.socket.sendall(wire)
    peer.take_answer()


def byte_by_byte(peer, wire):
    """All that a fault could lie in; the rest of a long payload at once."""
    peer.socket.sendall(wire[:len(UPGRADE)])
    peer.take_answer()
    frames = wire[len(UPGRADE):]
    several = frames if len(frames) < 2000 else frames[:20]
    peer.send_bytewise(several)
    peer.socket.sendall(frames[len(several):])


def after_the_upgrade(peer, wire):
    peer.socket.sendall(wire[:len(UPGRADE)])
    peer.take_answer()
    peer.socket.sendall(wire[len(UPGRADE):])


DELIVERIES = (whole, after_the_upgrade, byte_by_byte)


def started(way):
    server = Server(way.backend, "--on-message", "echo", "--max-message-bytes",
                    str(MESSAGE_BYTES_MAX), "--tls-cert", CERTIFICATE, *way.flags,
                    scheme="wss" if way.tls_idle else "auto")
    assert ("TLS 1.3 is frozen" in server.text()) == (way.tls_idle == "frozen"), server.text()
    server.way = way
    return server


def report(way, section, cases, deliveries):
    print(f"REPORT {way!s:<20} RFC 6455 {section:<24} {cases:3} cases {deliveries:4} deliveries")


def every_case(server):
    """Each in every delivery, on a connection of its own. How many cases a section has."""
    sections, failures = collections.Counter(), []
    for number, case in enumerate(CASES):
        for deliver in DELIVERIES:
            try:
                with Peer(server, upgrade=False) as peer:
                    deliver(peer, UPGRADE + case.wire)
                    check(case, peer)
            except (AssertionError, OSError) as error:
                failures.append(f"{case.section} #{number} {deliver.__name__} "
                                f"{case.wire[:24].hex()}: {error!r}")
        sections[case.section] += 1
    assert server.stop() == 0, server.text()
    assert not failures, "\n".join(failures)
    return sections


# -------------------------------------------------------------------------------------- the tests

def test_every_case_in_every_delivery(way):
    with started(way) as server:
        sections = every_case(server)
    if way.tls_idle:
        sections = {"all of it": sum(sections.values())}
    for section, count in sections.items():
        report(way, section, count, len(DELIVERIES) * count)


def test_echo_cut_at_every_byte(way):
    text = "κόσμε".encode()
    wire = (frame(0x01, text[:3]) + frame(PING, b"beat") + frame(0x80, text[3:]) +
            frame(BINARY, b"b" * 130))
    expected = [(PONG, b"beat"), (TEXT, text), (BINARY, b"b" * 130)]
    with started(way) as server:
        with Peer(server) as peer:
            for cut in range(1, len(wire)):
                peer.socket.sendall(wire[:cut])
                time.sleep(0.001)  # so that it is read before the rest comes
                peer.socket.sendall(wire[cut:])
                for reply in expected:
                    assert peer.receive() == reply, cut
    report(way, "5.4, 5.6 echo, every cut", 1, len(wire) - 1)


def test_upgrades(way):
    """Sections 4.2 and 4.4: what is not an upgrade is answered with the reason, and closed."""
    def without(line):
        return b"\r\n".join(each for each in UPGRADE.split(b"\r\n") if not each.startswith(line))
    rows = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200), (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (without(b"Upgrade"), 426), (without(b"Sec-WebSocket-Key"), 400), (without(b"Host"), 400),
        (without(b"Connection"), 400), (UPGRADE.replace(b"Version: 13", b"Version: 8"), 426),
        (UPGRADE.replace(b"GET", b"POST"), 405), (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (UPGRADE.replace(b"dGhl", b"====", 1), 400),
        (UPGRADE[:-2] + b"X: " + b"x" * 20000 + b"\r\n\r\n", 431),
    ]
    with started(way) as server:
        for request, status in rows:
            for bytewise in (False, True):
                with Peer(server, upgrade=False) as peer:
                    if bytewise:
                        peer.send_bytewise(request[:1000])
                    peer.socket.sendall(request[1000:] if bytewise else request)
                    while peer.more():
                        pass
                    assert peer.bytes.startswith(f"HTTP/1.1 {status} ".encode()), (
                        request, peer.bytes)
                    if status == 426:
                        assert b"Sec-WebSocket-Version: 13\r\n" in peer.bytes, peer.bytes
    report(way, "4.2, 4.4 handshake", len(rows), 2 * len(rows))


def test_close_handshake_ends_though_the_peer_does_not_answer(way):
    with started(way) as server:
        with Peer(server) as peer:
            peer.socket.sendall(frame(0x83))
            began = time.monotonic()
            assert peer.receive()[0] == CLOSE and peer.receive() is None
            # We do not close: the server resets after its linger of a second.
            try:
                for _ in range(500):
                    peer.socket.send(frame(PING))
                    time.sleep(0.01)
                raise AssertionError("never reset")
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                assert 0.5 < time.monotonic() - began < 5


if __name__ == "__main__":
    sys.exit(run_over(globals(), WAYS))
