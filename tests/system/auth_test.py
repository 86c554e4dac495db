#!/usr/bin/env python3
"""Tokens over real sockets, on each backend: each way in, each algorithm with keys that openssl
made, what is refused, the ends of tokens, reloads of the files, and that no secret is ever written.

Ends with `N passed, N failed`.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Admin  # noqa: E402: its path comes first
from frozen import Frozen  # noqa: E402
from hs256 import base64url, mac, unsigned  # noqa: E402
from server import BUILD, Server, run_over_backends  # noqa: E402

SECRET = "a secret of this test that is long enough"
WORD = "st4tic-token_of.bob~1"
LEEWAY_S = 30
HELLO = 3


def openssl(*arguments, data=b""):
    return subprocess.run(["openssl", *arguments], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True).stdout


class Issuer:
    """HS256 by Python; RS256, ES256 and EdDSA by openssl, with a key made by it."""

    def __init__(self, directory, algorithm):
        self.algorithm = algorithm
        self.path = os.path.join(directory, algorithm)
        self.private = self.path + ".private"
        if algorithm == "HS256":
            write(self.path, SECRET + "\n")
            return
        kind = {"RS256": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
                "ES256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
                "EdDSA": ("ED25519",)}[algorithm]
        openssl("genpkey", "-out", self.private, "-algorithm", *kind)
        openssl("pkey", "-in", self.private, "-pubout", "-out", self.path)
        os.chmod(self.path, 0o600)

    def sign(self, text):
        if self.algorithm == "HS256":
            return mac(SECRET.encode(), text)
        if self.algorithm == "EdDSA":
            with open(self.path + ".text", "wb") as file:
                file.write(text)
            return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private,
                           "-in", self.path + ".text")
        signature = openssl("dgst", "-sha256", "-sign", self.private, data=text)
        return raw_pair(signature) if self.algorithm == "ES256" else signature

    def token(self, user, in_s=None, **claims):
        claims["sub"] = user
        if in_s is not None:  # with its leeway it ends so many seconds from now
            claims["exp"] = time.time() + in_s - LEEWAY_S
        text = unsigned(self.algorithm, claims)
        return text.decode() + "." + base64url(self.sign(text))


def raw_pair(der):
    """Two DER integers as two numbers of 32 bytes (RFC 7518 section 3.4)."""
    first = der[3]
    r, s = der[4:4 + first], der[6 + first:]
    return b"".join(int.from_bytes(part, "big").to_bytes(32, "big") for part in (r, s))


def write(path, text, mode=0o600):
    with open(path + ".new", "w") as file:
        file.write(text)
    os.chmod(path + ".new", mode)
    os.rename(path + ".new", path)


class Setting:
    """A server with a file of static tokens, and one of keys."""

    def __init__(self, backend, algorithm, *flags):
        self.directory = subprocess.run(["mktemp", "-d"], stdout=subprocess.PIPE,
                                        check=True).stdout.decode().strip()
        self.issuer = Issuer(self.directory, algorithm)
        self.tokens = os.path.join(self.directory, "tokens")
        write(self.tokens, f"# for tests\n{WORD} user=bob id=b-1\n")
        self.server = Server(backend, "--auth-token-file", self.tokens, "--auth-jwt-key",
                             self.issuer.path, "--log-level", "debug", *flags, scheme="auto")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self.server:
            pass
        subprocess.run(["rm", "-r", self.directory], check=True)


def line(**members):
    return json.dumps({"type": "hello", **members}).encode() + b"\n"


def binary_hello(**members):
    payload = json.dumps(members).encode()
    return struct.pack(">BBHI", 0xB7, HELLO, len(payload), 7) + payload


def masked(opcode, payload):
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else \
        bytes([0x80 | 126]) + struct.pack(">H", len(payload))
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def upgrade(*fields, path="/"):
    lines = [f"GET {path} HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


class Peer:
    def __init__(self, server, words=b""):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self.heard = b""
        self.socket.sendall(words)

    def until(self, words):
        """All that it was sent, once that has the words; it must come."""
        while words not in self.heard:
            more = self.socket.recv(65536)
            assert more, (words, self.heard)
            self.heard += more
        return self.heard

    def until_end(self):
        while more := self.socket.recv(65536):
            self.heard += more
        return self.heard

    def ask(self, words, until):
        self.heard = b""
        self.socket.sendall(words)
        return self.until(until)


def total(server, name, least):
    """The figure, once it is at least so much."""
    deadline = time.monotonic() + 20
    while server.stats()["total"].get(name, 0) < least:
        assert time.monotonic() < deadline, (name, server.stats()["total"].get(name))
        time.sleep(0.1)
    return server.stats()["total"]


# -------------------------------------------------------------------------------------- the tests

def test_each_way_in_with_each_algorithm(backend):
    for algorithm in ("HS256", "RS256", "ES256", "EdDSA"):
        with Setting(backend, algorithm) as here:
            server, issuer = here.server, here.issuer
            token = issuer.token("ann", 3600, device="d-1")
            Peer(server, line(token=token)).until(b'"user":"ann","device":"d-1"')
            Peer(server, binary_hello(token=issuer.token("carl"))).until(b'"user":"carl"')
            socket_peer = Peer(server, upgrade("Sec-WebSocket-Protocol: pulse.v1.json"))
            socket_peer.until(b"\r\n\r\n")
            socket_peer.ask(masked(1, line(token=issuer.token("eve"))), b'"user":"eve"')
            for fields in (("Authorization: Bearer " + issuer.token("una"),),
                           ("Sec-WebSocket-Protocol: pulse.v1.json, bearer." +
                            issuer.token("una"),)):
                bearer = Peer(server, upgrade(*fields))
                heard = bearer.until(b"\r\n\r\n")
                assert heard.startswith(b"HTTP/1.1 101 ") and b"bearer" not in heard, heard
                bearer.ask(masked(1, line(device="tab")), b'"user":"una"')
                bearer.socket.close()
            Peer(server, line(token=WORD)).until(b'"user":"bob"')
            figures = total(server, "tokens_accepted", 6)
            assert figures["tokens_refused"] == 0, figures


def test_refusals(backend):
    with Setting(backend, "ES256", "--reactors", "1") as here:  # each counts failures for itself
        server, issuer = here.server, here.issuer
        right = issuer.token("ann", 3600)
        forged = right[:-8] + ("A" if right[-8] != "A" else "B") + right[-7:]
        none = base64url(b'{"alg":"none"}') + right[right.index("."):right.rindex(".") + 1]
        with open(issuer.path, "rb") as file:  # HMAC with the public key as its secret
            public = file.read()
        confused = base64url(b'{"alg":"HS256"}') + right[right.index("."):right.rindex(".")]
        confused += "." + base64url(mac(public, confused.encode()))
        for token, word in ((forged, b"bad_signature"), (none, b"malformed"),
                            (confused, b"wrong_algorithm"), (issuer.token("ann", -1), b"expired"),
                            ("nonsense-nonsense", b"unknown_token"), (right + ".", b"malformed")):
            heard = Peer(server, line(token=token)).until_end()
            assert heard.startswith(b'{"type":"error","code":4001,"message":"' + word), heard
            assert b'"code":4001,"reason":"unauthorized"' in heard, heard
            heard = Peer(server, upgrade("Authorization: Bearer " + token)).until_end()
            assert heard.startswith(b"HTTP/1.1 401 Unauthorized\r\n"), heard
            assert b'WWW-Authenticate: Bearer error="invalid_token", error_description="' + word \
                in heard, heard
            assert token.encode() not in heard
        assert b"wrong_user" in Peer(server, line(token=right, user="bob")).until_end()
        assert b"no_token" in Peer(server, line(user="bob")).until_end()
        url = Peer(server, upgrade(path="/?token=" + WORD + "&access_token=" + WORD))
        url.until(b"\r\n\r\n")
        figures = total(server, "tokens_refused", 14)
        assert figures["tokens_refused_by_reason"]["expired"] == 2, figures
        assert figures["tokens_accepted"] == 0, figures
        # Twenty of one address are looked at, and then none for a while.
        for _ in range(20):
            Peer(server, line(token="guess-guess-guess")).until_end()
        heard = Peer(server, upgrade("Authorization: Bearer " + right)).until_end()
        assert heard.startswith(b"HTTP/1.1 429 ") and b"\r\nRetry-After: 1\r\n" in heard, heard


def test_deadline_expiry_announcement_and_refresh(backend):
    with Setting(backend, "HS256", "--auth-deadline", "2s") as here:
        server, issuer = here.server, here.issuer
        anonymous = Peer(server, b'{"type":"ping"}\n')
        anonymous.until(b"pong")
        ends = Peer(server, line(token=issuer.token("ann", 3)))
        stays = Peer(server, line(token=issuer.token("eve", 3)))
        told = Peer(server, line(token=issuer.token("una", 62)))
        for peer in (ends, stays, told):
            peer.until(b'"type":"welcome"')
        assert b"no_token" in anonymous.until_end(), anonymous.heard
        stays.until(b'"type":"expiring","in_ms":')
        heard = stays.ask(line(token=issuer.token("eve", 3600)), b'"session":')
        assert b'"session":"refreshed"' in heard, heard
        assert b'"code":4006,"reason":"token_expired"' in ends.until_end(), ends.heard
        heard = told.until(b'"type":"expiring","in_ms":')
        in_ms = int(heard.split(b'"in_ms":')[1].split(b"}")[0])
        assert 30_000 < in_ms <= 60_000, heard
        stays.ask(b'{"type":"ping"}\n', b"pong")
        figures = total(server, "closed", 2)
        assert figures["closed_by_reason"]["token_expired"] == 1, figures
        assert figures["closed_by_reason"]["unauthorized"] == 1, figures


def test_a_revoked_token_closes_who_has_given_it(backend):
    with Setting(backend, "HS256", "--reactors", "2", "--admin", "127.0.0.1:0") as here:
        server = here.server
        admin = Admin(re.search(r"admin endpoint on (\S+),", server.text())[1])
        token = here.issuer.token("ann", jti="t-1")
        ann = [Peer(server, line(token=token, device=f"d-{number}")) for number in range(8)]
        eve = Peer(server, line(token=here.issuer.token("eve", jti="t-2")))
        bob = Peer(server, line(token=WORD))
        for peer in (*ann, eve, bob):
            peer.until(b'"type":"welcome"')
        assert admin.post("/api/v1/tokens/revoke", {"token_id": "t-1"}) == {
            "done": 8, "skipped": 0}
        for peer in ann:
            heard = peer.until_end()
            assert b'"code":4001,"message":"revoked: ' in heard, heard
        assert b"revoked: " in Peer(server, line(token=token)).until_end()
        said = subprocess.run([f"{BUILD}/pulsectl", "--admin", admin.address, "revoke", "b-1"],
                              stdout=subprocess.PIPE, check=True).stdout.decode()
        assert said == "1 connections had given it and were closed\n", said
        assert b"revoked: " in bob.until_end()
        eve.ask(b'{"type":"ping"}\n', b"pong")
        for body, words in (({}, b"is missing or empty"), ({"token_id": 7}, b"is not a string"),
                            ({"token_id": "a" * 129}, b"has 129 bytes"),
                            ({"id": "t-2"}, b"is not read here")):
            reply = admin.ask("POST", "/api/v1/tokens/revoke", body)
            assert reply.status == 400 and words in reply.body, reply.body
        shown = admin.ask("GET", "/metrics").body
        assert b'pulsewheel_tokens_refused_by_reason_total{reason="revoked"} 1\n' in shown, shown
        assert total(server, "closed_by_revocation", 9)["closed_by_revocation"] == 9


def test_a_revocation_reaches_a_reactor_that_was_stuck_for_longer_than_the_wait(backend):
    with Setting(backend, "HS256", "--reactors", "2", "--admin", "127.0.0.1:0") as here:
        server = here.server
        admin = Admin(re.search(r"admin endpoint on (\S+),", server.text())[1])
        token = here.issuer.token("ann", jti="t-1")
        ann = [Peer(server, line(token=token, device=f"d-{number}")) for number in range(8)]
        names = [json.loads(peer.until(b"}\n").split(b"\n")[0])["conn"] for peer in ann]
        task = server.reactor_task()
        with open(f"/proc/{server.process.pid}/task/{task}/comm") as file:
            stuck = int(file.read().split()[1])
        there = [peer for peer, name in zip(ann, names) if name.startswith(f"r{stuck}-")]
        with Frozen(task):
            reply = admin.ask("POST", "/api/v1/tokens/revoke", {"token_id": "t-1"})
            assert reply.status == 202 and reply.json() == {
                "done": 8 - len(there), "skipped": 0, "not_yet": [stuck]}, (reply.body, names)
            for peer in ann:
                if peer not in there:
                    assert b"revoked: " in peer.until_end()
        for peer in there:
            assert b"revoked: " in peer.until_end()
        assert total(server, "closed_by_revocation", 8)["closed_by_revocation"] == 8


def test_another_log_level_leaves_it_on(backend):
    with Setting(backend, "HS256", "--admin", "127.0.0.1:0") as here:
        admin = Admin(re.search(r"admin endpoint on (\S+),", here.server.text())[1])
        for level in ("info", "debug"):
            admin.post("/api/v1/log-level", {"level": level})
            assert b"no_token" in Peer(here.server, line(user="mallory")).until_end()
        Peer(here.server, line(token=WORD)).until(b'"user":"bob"')


def test_files_are_read_again_whole_or_not_at_all(backend):
    with Setting(backend, "HS256") as here:
        server = here.server
        Peer(server, line(token=WORD)).until(b'"user":"bob"')
        write(here.tokens, "an0ther-token_of.carl user=carl\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, "reloaded: ")
        Peer(server, line(token="an0ther-token_of.carl")).until(b'"user":"carl"')
        assert b"unknown_token" in Peer(server, line(token=WORD)).until_end()
        write(here.tokens, "an0ther-token_of.carl user=carl\nhalf-a-line-of-a-token\n")
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, f"nothing was changed: --auth-token-file {here.tokens}:2: ")
        Peer(server, line(token="an0ther-token_of.carl")).until(b'"user":"carl"')


def wait_for(server, words):
    deadline = time.monotonic() + 20
    while words not in server.text():
        assert time.monotonic() < deadline, server.text()
        time.sleep(0.05)


def test_no_secret_is_written(backend):
    with Setting(backend, "HS256") as here:
        server = here.server
        os.chmod(here.tokens, 0o666)
        token = here.issuer.token("ann")
        Peer(server, line(token=token)).until(b"welcome")
        Peer(server, line(token=WORD)).until(b"welcome")
        Peer(server, line(token="wrong-wrong-wrong-wr0ng")).until_end()
        write(here.tokens, f"{WORD}\n", 0o666)  # no user
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, "the token has no user")
        write(here.tokens, f"{WORD} user=bob\n", 0o666)
        server.process.send_signal(signal.SIGHUP)
        wait_for(server, "every user of this machine may read it")
        flags = [f"{BUILD}/pulsewheel", "--auth-token-file", here.tokens, "--auth-jwt-key",
                 here.issuer.path]
        shown = subprocess.run([*flags, "--print-config"], stdout=subprocess.PIPE,
                               check=True).stdout.decode()
        assert f'auth-token-file = "{here.tokens}"' in shown, shown
        checked = subprocess.run([*flags, "--check-config"], stdout=subprocess.PIPE,
                                 check=True).stdout.decode()
        assert "authentication by" in checked and "1 tokens" in checked, checked
        server.stats()
        with open(server.stats_path) as file:
            written = server.text() + shown + checked + file.read()
        for secret in (WORD, SECRET, token, token.rsplit(".", 1)[1], "wr0ng"):
            assert secret not in written, secret


def test_a_start_names_what_is_wrong(backend):
    with Setting(backend, "RS256") as here:
        for flag, text, words in (
                ("--auth-jwt-key", "short", "a secret of HS256 has 32 to 4096 bytes"),
                ("--auth-jwt-key", open(here.issuer.private).read(), "holds a private key"),
                ("--auth-token-file", "x\n", ":1: a token has 16 to 4096 characters")):
            path = os.path.join(here.directory, "bad")
            write(path, text)
            done = subprocess.run([f"{BUILD}/pulsewheel", "--backend", backend, flag, path,
                                   "--check-config"], stderr=subprocess.PIPE,
                                  stdout=subprocess.DEVNULL)
            assert done.returncode == 1, done
            assert f"{flag} {path}" in done.stderr.decode(), done.stderr
            assert words in done.stderr.decode(), done.stderr
            assert "BEGIN" not in done.stderr.decode()


if __name__ == "__main__":
    sys.exit(run_over_backends(globals(), at_once=2))
