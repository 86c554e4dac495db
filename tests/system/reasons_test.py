#!/usr/bin/env python3
"""Every reason to close or refuse that exists (core/close_reason.def), provoked once each.

    tests/system/reasons_test.py [WORD]...

Each provocation does one thing to a server, and the server must count it under that reason and no
other, and explain it: what its ledger says of the connection names the cause. A reason that is
neither provoked here nor listed with what provokes it instead is a failed test. Those of the
network need two namespaces and are skipped by name where there may be none.
Ends with `N passed, N failed`.
"""
import functools
import os
import re
import resource
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import attack  # noqa: E402: its path comes first
import hs256  # noqa: E402
from admin import Admin  # noqa: E402
from certificates import make_certificate  # noqa: E402
from cable import (Cable, PEER_SIDE, SERVER_ADDRESS, SERVER_SIDE, inside,  # noqa: E402
                   need_namespaces)
from server import BACKENDS, Server, run_cases  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
# What no peer can provoke over a socket, and what provokes it.
ELSEWHERE = {
    "none": "not a reason: the connection is open",
    "io_error": "the kernel's memory has to fail: ReactorOperations in tests/net/loop/",
}


def reasons():
    with open(os.path.join(ROOT, "core/close_reason.def"), encoding="utf-8") as table:
        return re.findall(r"^X\((\w+),", table.read(), re.M)


# -------------------------------------------------------------- what peers do, given their server

def connect(server, source="127.0.0.1", receive_bytes=None):
    return attack.connect(server.port, receive_bytes, source)


def speaks(server, words=b"PING\n", answer=b"PONG\n", **how):
    """A peer that has said its first words and was answered."""
    peer = connect(server, **how)
    peer.sendall(words)
    heard = b""
    while not heard.endswith(answer):
        more = peer.recv(4096)
        assert more, f"closed behind {heard}"
        heard += more
    return peer


def upgraded(server, **how):
    peer = connect(server, **how)
    attack.upgrade(peer)
    return peer


def read_to_end(peer):
    peer.settimeout(20)
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass


def says(words, first=speaks):
    """Peers that say these words and leave when the server does."""
    def provoke(server):
        peer = first(server)
        peer.sendall(words)
        read_to_end(peer)
        peer.close()
    return provoke


def closes(server):
    peer = speaks(server)
    peer.shutdown(socket.SHUT_WR)
    read_to_end(peer)


def resets(server):
    peer = speaks(server)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def lets_its_token_expire(server):
    """A token that ends 5 s from now: 30 s behind its `exp` (kTokenLeewayS)."""
    token = hs256.token(SECRET, sub="u1", exp=time.time() + 5 - 30)
    peer = speaks(server, f'{{"type":"hello","token":"{token}"}}\n'.encode(), b"}\n")
    read_to_end(peer)
    peer.close()


def reads_nothing(server):
    peer = upgraded(server, receive_bytes=4096)
    peer.settimeout(2)
    message = attack.masked(0x82, bytes(4000))
    try:
        for _ in range(4096):  # 16 MB: more than both kernels take
            peer.sendall(message)
    except OSError:
        pass
    peer.close()


def logs_in(*devices):
    """Peers that log in as one user, one after the other, and leave when the server ends one."""
    def provoke(server):
        peers = []
        for device in devices:
            hello = f'{{"type":"hello","user":"u1","device":"{device}"}}\n'.encode()
            peers.append(speaks(server, hello, b"}\n"))
        ended = select.select(peers, [], [], 20)[0][0]
        read_to_end(ended)
        for peer in peers:
            peer.close()
    return provoke


def is_sent_away(server):
    """A peer that leaves once it is told where to."""
    peer = speaks(server, b'{"type":"hello","user":"u1"}\n', b'"move_to":"ws://b.example:9000"}\n')
    peer.close()


def fills_the_server(server):
    first = speaks(server)
    read_to_end(connect(server))
    first.close()


def fills_one_reactor(server):
    """Connections are kept on one reactor, and closed on the other, until one is refused."""
    kept = []
    for _ in range(4000):
        peer = connect(server)
        peer.sendall(b'{"type":"hello"}\n')
        heard = b""
        while b"\n" not in heard:
            more = peer.recv(4096)
            if not more:
                break
            heard += more
        if b"reactor_full" in heard:
            return
        if b'"conn":"r0-' in heard:
            kept.append(peer)
        else:
            peer.close()
    raise AssertionError(f"{len(kept)} peers did not fill a reactor")


def shares_an_address(server):
    first = speaks(server)
    read_to_end(connect(server))
    first.close()


def stalls_a_handshake(server):
    first = connect(server)
    first.sendall(b"GET / HT")
    other = connect(server)
    read_to_end(other)
    first.sendall(b"TP/1.1\r\nHost: a\r\n\r\n")
    read_to_end(first)


def is_pushed_out(server):
    first = speaks(server)
    second = speaks(server)
    read_to_end(first)
    first.close()
    second.close()


def flaps(server):
    speaks(server).close()
    wait_for(server, lambda counts: "peer_closed" in counts, 10)
    read_to_end(connect(server))


def comes_too_often(reason):
    def provoke(server):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            peer = connect(server)
            peer.settimeout(0.1)
            try:
                if reason in peer.recv(4096):
                    return
            except TimeoutError:
                pass
        raise AssertionError("as many were accepted as came")
    return provoke


def takes_the_descriptors(server):
    task = server.reactor_task()
    used = [int(name) for name in os.listdir(f"/proc/{server.process.pid}/task/{task}/fd")]
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (max(used) + 1, hard))
    inside_ = []
    for _ in range(max(used) + 2 - len(used)):
        inside_.append(connect(server))
        inside_[-1].settimeout(0.5)
        try:
            if b"out_of_descriptors" in inside_[-1].recv(4096):
                return
        except TimeoutError:
            pass
    raise AssertionError("descriptors were left")


def hoards(server):
    hoarders = []
    for _ in range(16):
        peer = upgraded(server)
        peer.sendall(attack.masked(0x82, bytes(60_000))[:-1])
        hoarders.append(peer)
        time.sleep(0.05)
    for peer in hoarders:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()


def is_kicked(server):
    peer = speaks(server)
    assert server.admin.post("/api/v1/kick", {"all": True, "reason": "moved"})["done"] == 1
    read_to_end(peer)
    peer.close()


def is_stopped(*signals):
    """A drain spreads its goodbyes over its window: a second signal finds peers without one."""
    def provoke(server):
        peers = [speaks(server) for _ in range(len(signals) * 5)]
        for number in signals:
            server.process.send_signal(number)
            time.sleep(0.3)
        for peer in peers:
            read_to_end(peer)
            peer.close()
        server.process.wait(timeout=30)
    return provoke


def behind_a_cable(break_it):
    """A peer in another namespace whose network breaks while the server probes it."""
    def provoke(server):
        script = ("import socket, time\n"
                  f"peer = socket.create_connection(('{SERVER_ADDRESS}', {server.port}))\n"
                  "peer.sendall(b'PING\\n')\n"
                  "assert peer.recv(16) == b'PONG\\n'\n"
                  "print('open', flush=True)\n"
                  "time.sleep(60)\n")
        peer = subprocess.Popen([*inside(PEER_SIDE), sys.executable, "-c", script],
                                stdout=subprocess.PIPE)
        try:
            assert peer.stdout.readline() == b"open\n"
            break_it(server.cable)
            wait_for(server, lambda counts: sum(counts.values()) > 0, 20)
        finally:
            peer.kill()
            peer.wait()
            peer.stdout.close()
    return provoke


def forges_a_record(server):
    """A handshake and a ping of a real client, and then a record with one bit changed."""
    records, answers = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl._create_unverified_context()
    client = context.wrap_bio(answers, records)
    peer = connect(server)
    heard = b""
    while not heard.endswith(b"PONG\n"):
        try:
            if client.version() is None or not heard:
                client.do_handshake()
                client.write(b"PING\n")
                heard = b"-"
            heard += client.read()
        except ssl.SSLWantReadError:
            peer.sendall(records.read())
            answers.write(peer.recv(65536))
    client.write(b"PING\n")
    forged = bytearray(records.read())
    forged[-1] ^= 1
    peer.sendall(forged)
    read_to_end(peer)
    peer.close()


HELD_MESSAGE = attack.masked(0x82, bytes(3000))[:200]
ORIGIN = (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
          b"Origin: https://other.example\r\n\r\n")

SECRET = b"what tokens of this test are signed with"
KEY = tempfile.NamedTemporaryFile()
KEY.write(SECRET)
KEY.flush()
CERTIFICATES = tempfile.TemporaryDirectory()

# By what the server is told: the reasons, and what provokes each.
COMMON = ("--handshake-timeout", "1s", "--heartbeat-interval", "500ms", "--heartbeat-timeout",
          "1500ms", "--on-message", "echo", "--max-message-bytes", "4KiB", "--send-queue-bytes",
          "16KiB", "--ws-origin", "https://a.example")
SMALL = ("--max-message-bytes", "64KiB", "--buffer-bytes", "384KiB")
PROXIED = {"scheme": "auto", "query": "?proxy=on"}
IDLE = ("--heartbeat-interval", "200ms", "--heartbeat-timeout", "60s", "--heartbeat-probe", "off")
UNDER_CABLE = ("--heartbeat-interval", "500ms", "--heartbeat-timeout", "60s",
               "--tcp-user-timeout", "1s")
PROVOKED = (
    (COMMON, {}, {
        "peer_goodbye": says(b'{"type":"goodbye"}\n'),
        "peer_closed": closes,
        "peer_reset": resets,
        "idle_timeout": says(b""),
        "slow_upload": says(HELD_MESSAGE, upgraded),
        "handshake_timeout": says(b"GET / HT", connect),
        "http_answered": says(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", connect),
        "wrong_protocol": says(b"SSH-2.0-x\r\n", connect),
        "protocol_error": says(b"\xb7\x63\0\0\0\0\0\0", connect),
        "invalid_data": says(attack.masked(0x81, b"\xff\xfe"), upgraded),
        "message_too_big": says(attack.masked(0x82, bytes(5000)), upgraded),
        "too_many_offences": says(b'{"type":"welcome"}\n' * 8),
        "slow_reader": reads_nothing,
        "unauthorized": says(ORIGIN, connect),
        "kicked": is_kicked}),
    (("--tls-cert", make_certificate(CERTIFICATES.name)), {"scheme": "tls+jsonl"},
     {"tls_handshake_failed": says(b"\x16\x03\x01\x00\x05hello", connect),
      "tls_failed": forges_a_record}),
    ((), {"scheme": "jsonl"}, {"taken_over": logs_in("d", "d")}),
    (("--auth-jwt-key", KEY.name), {"scheme": "jsonl"},
     {"token_expired": lets_its_token_expire}),
    (("--duplicate", "reject"), {"scheme": "jsonl"}, {"duplicate_login": logs_in("d", "d")}),
    (("--max-connections-per-user", "1"), {"scheme": "jsonl"},
     {"user_full": logs_in("d", "e")}),
    (("--policy", "100%: move-to=ws://b.example:9000"), {"scheme": "jsonl"},
     {"moved": is_sent_away}),
    (("--max-connections", "1"), {}, {"server_full": fills_the_server}),
    # With the port shared the reactors do not share out connections by what each holds.
    (("--reactors", "2", "--max-connections", "400", "--share-port"),
     {"before": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (330, 330))},
     {"reactor_full": fills_one_reactor}),
    (("--max-connections-per-address", "1"), {}, {"address_full": shares_an_address}),
    ((), {"query": "?max-connections=1"}, {"listener_full": fills_the_server}),
    (("--max-handshakes", "1"), {"scheme": "ws"}, {"handshakes_full": stalls_a_handshake}),
    (("--address-share", "1"), {}, {"address_share": is_pushed_out}),
    (("--message-rate", "1/h,1"), {}, {"message_rate": says(b"PING\n")}),
    (("--user-message-rate", "1/h,1"), {"scheme": "jsonl"}, {"user_message_rate": says(
        b'{"type":"hello","user":"u1"}\nPING\nPING\n')}),
    (("--flapping", "1/1h,1h"), {}, {"flapping": flaps}),
    (("--overload", "refuse", "--overload-memory", "1MiB", "--overload-step", "100ms"),
     {"scheme": "jsonl"}, {"overloaded": comes_too_often(b"overloaded")}),
    (("--accept-rate", "1/s"), {"scheme": "jsonl"},
     {"accept_rate": comes_too_often(b"accept_rate")}),
    (("--address-accept-rate", "1/s"), {"scheme": "jsonl"},
     {"address_rate": comes_too_often(b"address_rate")}),
    (("--max-lifetime", "1s"), {}, {"max_lifetime": says(b"")}),
    (IDLE + ("--idle-read", "500ms=close"), {}, {"idle_read": says(b"")}),
    (IDLE + ("--idle-write", "500ms=close"), {}, {"idle_write": says(b"")}),
    (IDLE + ("--idle-both", "500ms=close"), {}, {"idle_both": says(b"")}),
    ((), {"scheme": "jsonl"}, {"out_of_descriptors": takes_the_descriptors}),
    (SMALL, {"scheme": "ws"}, {"out_of_memory": hoards}),
    (("--proxy-trusted", "127.9.0.0/16"), PROXIED, {
        "untrusted_source": lambda server: read_to_end(connect(server)),
        "bad_proxy_header": says(b"PING\n", functools.partial(connect, source="127.9.0.1"))}),
    (("--drain-timeout", "1s"), {}, {"going_away": is_stopped(signal.SIGTERM)}),
    (("--drain-timeout", "20s"), {}, {"hard_stop": is_stopped(signal.SIGTERM, signal.SIGTERM)}),
    (UNDER_CABLE, {"host": "*", "cable": True},
     {"network_timeout": behind_a_cable(Cable.pull)}),
    (UNDER_CABLE, {"host": "*", "cable": True},
     {"network_unreachable": behind_a_cable(Cable.become_a_router)}),
)
# A peer that the server keeps leaves, and its own end is counted beside.
BESIDE = {"hard_stop": {"going_away"},
          "taken_over": {"peer_closed"},
          "duplicate_login": {"peer_closed"},
          "user_full": {"peer_closed"},
          "server_full": {"peer_closed"},
          "address_full": {"peer_closed"},
          "flapping": {"peer_closed"},
          "address_share": {"peer_closed"},
          "listener_full": {"peer_closed"},
          "handshakes_full": {"http_answered", "peer_closed"},
          "reactor_full": {"peer_closed", "peer_reset"},
          "address_rate": {"peer_closed", "peer_reset"},
          "overloaded": {"peer_closed"},
          "accept_rate": {"peer_closed", "peer_reset"},
          "out_of_memory": {"peer_reset", "peer_closed"},
          "out_of_descriptors": {"peer_closed", "peer_reset", "handshake_timeout"}}


# What the explanation of each says besides its name; of what is only refused there is none, and of
# a server that has ended none is left.
EXPLAINED = {
    "peer_goodbye": "the peer said goodbye",
    "peer_closed": "the peer ended the stream without a goodbye",
    "peer_reset": "Connection reset by peer, errno 104",
    "network_timeout": "nothing was acknowledged for too long",
    "network_unreachable": "the network reported the peer as unreachable",
    "idle_timeout": "nothing that proves life came for 1.",
    "slow_upload": "a message of which 192 bytes had come stopped",
    "handshake_timeout": "its HTTP request was not whole within 1.0",
    "http_answered": "a plain HTTP request was answered",
    "wrong_protocol": "began with a protocol that is not spoken here",
    "protocol_error": "unknown frame type",
    "invalid_data": "UTF-8",
    "message_too_big": "message_too_big after",
    "tls_handshake_failed": "the TLS handshake failed: ",
    "tls_failed": "a TLS record was wrong: ",
    "too_many_offences": "messages that mean nothing here",
    "slow_reader": "it reads too slowly: ",
    "unauthorized": "Pages of this origin may not connect here.",
    "kicked": "an operator closed it: moved.",
    "taken_over": "taken_over after",
    "max_lifetime": "max_lifetime after",
    "idle_read": " s, and --idle-read is 500ms",
    "idle_write": " s, and --idle-write is 500ms",
    "idle_both": " s, and --idle-both is 500ms",
    "token_expired": "token_expired after",
    "duplicate_login": "this device of the user is logged in.",
    "moved": "moved after",
    "user_full": "the user has as many sessions as it may have",
    "out_of_memory": "the buffers of its reactor were short",
    "address_share": "a newer one of its address took its place",
    "message_rate": "it sent too many messages",
    "user_message_rate": "the connections of its user sent too many messages",
    "bad_proxy_header": "the PROXY header is missing or malformed",
    **dict.fromkeys(("server_full", "reactor_full", "accept_rate", "out_of_descriptors",
                     "address_full", "address_rate", "flapping", "listener_full",
                     "handshakes_full", "overloaded", "untrusted_source", "going_away",
                     "hard_stop")),
}


def check_explanation(server, reason):
    words = EXPLAINED[reason]
    if words is None:
        return
    closed = server.admin.get(f"/api/v1/closed?reason={reason}")["closed"]
    assert closed, "it is not in the ledger"
    facts = server.admin.get("/api/v1/closed/" + closed[0]["id"])
    text = facts["explanation"]
    assert f" as {reason} after " in text and words in text, text
    assert closed[0]["cause"].partition(": ")[2] in text, (closed[0]["cause"], text)


def counts_of(server):
    total = server.stats()["total"]
    counts = dict(total["closed_by_reason"])
    for reason, count in total["refused_by_reason"].items():
        counts[reason] = counts.get(reason, 0) + count
    return counts


def wait_for(server, is_there, seconds):
    deadline = time.monotonic() + seconds
    while not is_there(counts := counts_of(server)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return counts


def provoke(backend, reason, flags, how, act):
    how = dict(how)
    if how.pop("cable", False):
        need_namespaces()
        with Cable() as cable:
            return check(backend, reason, flags, {**how, "inside": inside(SERVER_SIDE)}, act, cable)
    return check(backend, reason, flags, how, act, None)


def check(backend, reason, flags, how, act, cable):
    with tempfile.TemporaryDirectory() as directory, Server(
            backend, "--stats-interval", "200ms", "--admin", f"unix:{directory}/admin",
            *(("--reactors", "1") if "--reactors" not in flags else ()), *flags,
            **{"scheme": "auto", **how}) as server:
        server.cable, server.admin = cable, Admin(f"unix:{directory}/admin")
        act(server)
        counts = wait_for(server, lambda counts: reason in counts, 10)
        assert counts.get(reason, 0) >= 1, counts
        others = set(counts) - {reason} - BESIDE.get(reason, set())
        assert not others, f"counted under {others} as well: {counts}"
        check_explanation(server, reason)


def test_every_reason_is_provoked():
    here = {reason for _, _, acts in PROVOKED for reason in acts}
    known = set(reasons())
    assert set(EXPLAINED) == here, set(EXPLAINED) ^ here
    assert here.isdisjoint(ELSEWHERE), here & set(ELSEWHERE)
    missing = known - here - set(ELSEWHERE)
    assert not missing, f"neither provoked here nor listed with a reason: {sorted(missing)}"
    gone = (here | set(ELSEWHERE)) - known
    assert not gone, f"provoked and not in core/close_reason.def: {sorted(gone)}"


def main():
    cases = [("every reason is provoked", test_every_reason_is_provoked)]
    for flags, how, acts in PROVOKED:
        for reason, act in acts.items():
            for backend in BACKENDS:
                cases.append((f"{backend} {reason}",
                              functools.partial(provoke, backend, reason, flags, how, act)))
    return run_cases(cases)


if __name__ == "__main__":
    sys.exit(main())
