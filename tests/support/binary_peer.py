"""A client of the binary protocol, as the system tests speak it (proto/PROTOCOL.md)."""
import socket
import struct
import time

PING, PONG, HELLO, WELCOME, DATA, GOODBYE, INTERVAL, ERROR = range(1, 9)


def frame(kind, sequence=0, payload=b""):
    return struct.pack(">BBHI", 0xB7, kind, len(payload), sequence) + payload


class Peer:
    """A client of the binary protocol on a plain socket."""

    def __init__(self, port, timeout_s=10):
        self.began = time.monotonic()
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.bytes = b""

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def take(self):
        """A frame that has come whole: (kind, sequence, payload), or None."""
        if len(self.bytes) < 8:
            return None
        magic, kind, length, sequence = struct.unpack(">BBHI", self.bytes[:8])
        assert magic == 0xB7, self.bytes[:8]
        if len(self.bytes) < 8 + length:
            return None
        payload, self.bytes = self.bytes[8:8 + length], self.bytes[8 + length:]
        return kind, sequence, payload

    def receive(self, *, skip=()):
        """The next frame whose kind is not in `skip`; None at the end of the stream."""
        while True:
            found = self.take()
            if found and found[0] not in skip:
                return found
            if not found:
                more = self.socket.recv(65536)
                if not more:
                    return None
                self.bytes += more
