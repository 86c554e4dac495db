"""Servers of a test's own, in the least code: what a load generator meets beside Pulsewheel."""
import base64
import hashlib
import socket
import threading


class Peer:
    """Answers each connection by `answer(socket, request)`; None: closes it at once."""

    def __init__(self, answer, unix_path=None):
        self.answer = answer
        if unix_path is None:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
            self.port = self.listener.getsockname()[1]
        else:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(unix_path)
            self.listener.listen(4)
        self.requests = []
        self.texts = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer:
            try:
                request = peer.recv(65536) if self.answer is not None else b""
                self.requests.append(request)
                if self.answer is echo:
                    echo(peer, request, texts=self.texts)
                elif self.answer is not None:
                    self.answer(peer, request)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def upgrade(request, headers=""):
    """The right answer to a WebSocket handshake, with more header lines."""
    key = [line.split(b":", 1)[1].strip() for line in request.split(b"\r\n")
           if line.lower().startswith(b"sec-websocket-key:")][0]
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key + guid).digest()).decode()
    return ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n{headers}\r\n").encode()


def echo(peer, request, headers="", texts=None):
    """Upgrades, answers pings, and sends messages of up to 125 bytes back."""
    peer.sendall(upgrade(request, headers))
    held = b""
    while True:
        received = peer.recv(65536)
        if not received:
            return
        held += received
        while len(held) >= 6 and len(held) >= 6 + (held[1] & 0x7F):
            length = held[1] & 0x7F
            mask = held[2:6]
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(held[6:6 + length]))
            opcode = held[0] & 0x0F
            held = held[6 + length:]
            if opcode == 8:
                return
            if opcode == 10:
                continue
            if opcode == 1 and texts is not None:
                texts.append(payload)
            answer = 0x8A if opcode == 9 else 0x80 | opcode
            peer.sendall(bytes([answer, length]) + payload)
