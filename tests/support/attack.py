"""WebSocket peers in the least code, for tests that attack a server beside a canary."""
import base64
import os
import socket
import struct
import time


def masked(first, payload):
    """A frame of a client's, masked with zeros."""
    size = len(payload)
    length = (bytes([0x80 | size]) if size < 126 else
              bytes([0xFE]) + struct.pack(">H", size) if size < 65536 else
              bytes([0xFF]) + struct.pack(">Q", size))
    return bytes([first]) + length + b"\0\0\0\0" + payload


# linux/in.h; Python's socket module has no name for it before 3.12.
IP_BIND_ADDRESS_NO_PORT = 24


def connect(port, receive_bytes=None, source="127.0.0.1"):
    peer = socket.socket()
    # The port is chosen by connect(): bind() would refuse each port that a closed connection to
    # any server still holds in TIME_WAIT, and 16,384 of an earlier test hold more than half.
    peer.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    peer.bind((source, 0))
    if receive_bytes:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    peer.settimeout(10)
    peer.connect(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def upgrade(peer, subprotocol="", deflate=False):
    lines = ["GET / HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()]
    if subprotocol:
        lines.append("Sec-WebSocket-Protocol: " + subprotocol)
    if deflate:
        lines.append("Sec-WebSocket-Extensions: permessage-deflate")
    peer.sendall("\r\n".join(lines + ["", ""]).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        more = peer.recv(4096)
        assert more, "closed in the handshake"
        answer += more
    assert answer.startswith(b"HTTP/1.1 101"), answer


class Canary:
    """A peer that pings and is to be answered whatever the others do."""

    def __init__(self, port):
        self.peer = connect(port)
        upgrade(self.peer)

    def beat(self):
        """How long the answer took."""
        began, answer = time.monotonic(), b""
        self.peer.sendall(masked(0x89, b"beat"))
        while len(answer) < 6:
            more = self.peer.recv(4096)
            assert more, "the canary was closed"
            answer += more
        assert answer == b"\x8a\x04beat", answer
        return time.monotonic() - began

    def beats(self, seconds, every=0.01):
        """Sorted round trips."""
        times, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            times.append(self.beat())
            time.sleep(every)
        return sorted(times)
