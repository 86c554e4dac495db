#!/usr/bin/env python3
"""build/pulsewheel behind TLS: other people's clients over real sockets, on each backend, whose
connections OpenSSL keeps or which are frozen.

Python's ssl, `openssl s_client`, curl and Node, each with certificates that are made here; what is
refused and why; reloads; a crowd that comes at once beside one that is inside. Ends with
`N passed, N failed`.
"""
import os
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Admin  # noqa: E402: its path comes first
from certificates import make_certificate  # noqa: E402
from load import Load  # noqa: E402
from server import TLS_WAYS, Server, Skipped, run_over  # noqa: E402

FOLDER = tempfile.TemporaryDirectory()
AUTHORITY = make_certificate(FOLDER.name, "authority")
CERTIFICATE = make_certificate(FOLDER.name, issuer=AUTHORITY)
RSA = make_certificate(FOLDER.name, "rsa.example", rsa=True, issuer=AUTHORITY)
UPGRADE = (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
PING, PONG = b"\x89\x82\x01\x02\x03\x04ij", b"\x8a\x02hh"


def serving(way, *flags, scheme="wss", certificates=(CERTIFICATE, RSA)):
    given = [flag for path in certificates for flag in ("--tls-cert", path)]
    return Server(way.backend, "--log-level", "debug", *given, *way.flags, *flags, scheme=scheme)


def preferred_suite(way):
    """What clients get that put no suite above another."""
    return "TLS_AES_128_GCM_SHA256" if way.tls_idle == "frozen" else "TLS_AES_256_GCM_SHA384"


def client_context(version=None, trusts=AUTHORITY):
    context = ssl.create_default_context(cafile=trusts)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def connect(server, name="a.example", context=None, session=None, timeout_s=20):
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s)
    return (context or client_context()).wrap_socket(raw, server_hostname=name, session=session)


def until(peer, end, heard=b""):
    while not heard.endswith(end):
        more = peer.recv(65536)
        assert more, f"closed behind {heard}"
        heard += more
    return heard


def converse(peer):
    peer.sendall(UPGRADE + PING)
    until(peer, PONG)


def wait_for_log(server, words, within_s=10):
    deadline = time.monotonic() + within_s
    while words not in server.text():
        assert time.monotonic() < deadline, f"not in the log: {words}\n{server.text()[-3000:]}"
        time.sleep(0.02)


def closed(server, reason):
    return server.stats()["total"]["closed_by_reason"].get(reason, 0)


def wait_for_closed(server, reason, count=1):
    deadline = time.monotonic() + 10
    while closed(server, reason) < count:
        assert time.monotonic() < deadline, server.stats()["total"]["closed_by_reason"]
        time.sleep(0.05)


def wait_for_total(server, **expected):
    """Its statistics are of a second ago at the most."""
    deadline = time.monotonic() + 10
    while any(server.stats()["total"][name] != value for name, value in expected.items()):
        assert time.monotonic() < deadline, server.stats()["total"]
        time.sleep(0.05)


# -------------------------------------------------------------------------------------- the tests

def test_python_of_both_versions_with_names_and_resumption(way):
    with serving(way) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(version)
            for name in ("a.example", "rsa.example"):
                with connect(server, name, context) as peer:
                    converse(peer)
                    session = peer.session
                with connect(server, name, context, session) as peer:
                    converse(peer)
                    assert peer.session_reused, (version, name)
        wait_for_log(server,
                     f"speaks TLS: TLSv1.3 {preferred_suite(way)}, resumed, for rsa.example")


def test_a_ticket_of_before_a_restart_is_a_full_handshake(way):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context, session = client_context(version), None
        for _ in range(2):
            with serving(way) as server, connect(server, "a.example", context, session) as peer:
                converse(peer)
                assert not peer.session_reused, version
                session = peer.session


def test_every_scheme_and_what_auto_serves(way):
    binary = struct.pack(">BBHI", 0xB7, 1, 0, 7), struct.pack(">BBHI", 0xB7, 2, 0, 7)
    lines = b"PING\n", b"PONG\n"
    for scheme, conversations in (("tls+tcp", [binary]), ("tls+jsonl", [lines]),
                                  ("tls+auto", [binary, lines]), ("auto", [binary, lines])):
        with serving(way, scheme=scheme) as server:
            for says, answer in conversations:
                with connect(server) as peer:
                    peer.sendall(says)
                    assert until(peer, answer) == answer
            if scheme == "auto":
                with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
                    plain.sendall(lines[0])
                    assert until(plain, lines[1]) == lines[1]
            assert server.stop() == 0


def test_openssl_s_client(way):
    with serving(way, scheme="tls+jsonl") as server:
        for flag in ("-tls1_2", "-tls1_3"):
            asked = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername",
                 "a.example", "-CAfile", AUTHORITY, "-verify_return_error", "-ign_eof", "-quiet",
                 flag],
                input=b'PING\n{"type":"goodbye"}\n', capture_output=True, timeout=30)
            assert asked.stdout.startswith(b"PONG\n"), asked
            assert asked.returncode == 0, asked
        for flag in ("-tls1", "-tls1_1"):
            asked = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", flag, "-cipher",
                 "ALL:@SECLEVEL=0"], input=b"", capture_output=True, timeout=30)
            assert asked.returncode != 0, asked


class Talk:
    """A client that reads what it is to say, and what it prints of what it is told."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.heard = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def say(self, words, expected):
        """Behind what it printed before."""
        self.heard = b""
        self.process.stdin.write(words)
        self.process.stdin.flush()
        deadline = time.monotonic() + 20
        while expected not in self.heard:
            ready = select.select([self.process.stdout], [], [], deadline - time.monotonic())[0]
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert more, f"{words} is answered by {self.heard}"
            self.heard += more

    def end(self):
        self.process.stdin.close()
        return self.process.wait(timeout=20)


def test_openssl_updates_keys(way):
    """K asks for an update in return, k does not; each goes out with what is said next."""
    with serving(way, scheme="tls+jsonl") as server:
        with Talk("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_3",
                  "-CAfile", AUTHORITY, "-verify_return_error") as client:
            for _ in range(20):
                for key in (b"K\n", b"k\n"):
                    client.say(key, b"KEYUPDATE")
                    client.say(b"PING\n", b"PONG\n")
            client.say(b'{"type":"goodbye"}\n', b"closed")


def test_gnutls(way):
    """Both versions; TLS 1.3's keys updated, and a session resumed."""
    if shutil.which("gnutls-cli") is None:
        raise Skipped("gnutls-cli is not installed; run tools/install-deps.sh clients")
    with serving(way, scheme="tls+jsonl") as server:
        for version in ("1.2", "1.3"):
            with Talk("gnutls-cli", "--x509cafile", AUTHORITY, "--sni-hostname", "a.example",
                      "--verify-hostname", "a.example", "--inline-commands", "--priority",
                      f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "-p", str(server.port),
                      "127.0.0.1") as client:
                client.say(b"PING\n", b"PONG\n")
                for _ in range(5 if version == "1.3" else 0):  # it bears 8 a second
                    client.say(b"^rekey^\n", b"Rekey was completed")
                    client.say(b"PING\n", b"PONG\n")
                client.say(b"^resume^\n", b"This is a resumed session")
                client.say(b"PING\n", b"PONG\n")
                assert client.end() == 0, client.heard


def test_curl(way):
    if shutil.which("curl") is None:
        raise Skipped("curl is not installed")
    with serving(way) as server:
        asked = subprocess.run(
            ["curl", "-sS", "--http1.1", "--cacert", AUTHORITY, "--connect-to",
             f"a.example:443:127.0.0.1:{server.port}", "https://a.example/healthz"],
            capture_output=True, timeout=30)
        assert asked.returncode == 0 and asked.stdout, asked
        refused = subprocess.run(
            ["curl", "-sS", f"http://127.0.0.1:{server.port}/"], capture_output=True, timeout=30)
        assert b"speaks TLS only" in refused.stdout, refused


def test_node(way):
    if shutil.which("node") is None:
        raise Skipped("node is not installed")
    script = """
        const https = require('https'), fs = require('fs');
        const request = https.request({host: '127.0.0.1', port: +process.argv[1],
          servername: 'a.example', ca: fs.readFileSync(process.argv[2]),
          headers: {Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': 13,
                    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ=='}});
        request.on('upgrade', (response, socket) => {
          socket.on('data', (data) => {
            if (!data.includes('hh')) return;
            console.log(response.statusCode, socket.getProtocol());
            socket.end();
          });
          socket.write(Buffer.from('898201020304696a', 'hex'));
        });
        request.end();"""
    with serving(way) as server:
        asked = subprocess.run(["node", "-e", script, str(server.port), AUTHORITY],
                               capture_output=True, timeout=30)
        assert asked.stdout == b"101 TLSv1.3\n", asked


def test_pulseload(way):
    """Its own client, in each protocol; what its user is told of a certificate that is refused."""
    beats = ("--heartbeat-interval", "500ms", "-d", "2s")
    with serving(way, scheme="tls+auto") as server:
        target = f"tls+auto://localhost:{server.port}"
        load = Load(target, "-n", "200", "--mix", "ws=1,ws-json=1,jsonl=1,tcp=1", "--hello",
                    "--tls-ca", AUTHORITY, "--tls-server-name", "a.example", "--tls-resume", "50",
                    "--storm", "kill=50%@500ms,reconnect=none", "--slo",
                    "false-evictions=0,lost=0,tls-failures=0,tls-handshake.p50<10s", *beats)
        assert load.met(), load.text()
        counts, tls = load["counts"], load["tls"]
        assert counts["open"] == 200 and counts["protocol_errors"] == 0, load.text()
        made = counts["tls_full"] + counts["tls_resumed"]
        assert made == counts["connects"] >= 299, counts
        assert counts["tls_full"] > counts["tls_resumed"] > 20, counts
        assert tls["suites"] == {f"TLSv1.3 {preferred_suite(way)}": made}, tls
        assert tls["failures"] == {} and tls["full_per_s"] > 0 and tls["resumed_per_s"] > 0, tls
        assert load["latency"]["tls_handshake"]["count"] == made, load["latency"]
        assert f"{counts['tls_full']} full handshakes" in load.sentences(), load.words
        refused = Load(target, "-n", "20", "--tls-verify", "-d", "1s")
        assert refused.code == 1, refused.text()
        assert "certificate verify failed" in refused.sentences(), refused.text()
        assert "name its authority by --tls-ca" in refused.sentences(), refused.text()
        missing = Load(target, "--tls-ca", "/nowhere.pem", "-d", "1s")
        assert missing.code == 1 and "--tls-ca /nowhere.pem" in missing.complaints, missing.text()
    with Server(way.backend, scheme="tcp") as plain:
        load = Load(f"tls+tcp://127.0.0.1:{plain.port}", "-n", "20", "-d", "1s")
        assert load.code == 1 and load["counts"]["tls_failed"] == 20, load.text()


def test_each_is_kept_as_it_should_be(way):
    """Of TLS 1.2 and 1.3; idle, beating, resumed, until both have said that they end."""
    with serving(way) as server:
        newer = client_context(ssl.TLSVersion.TLSv1_3)
        peers = [connect(server, context=newer) for _ in range(20)]
        peers.append(connect(server, context=client_context(ssl.TLSVersion.TLSv1_2)))
        for peer in peers:
            converse(peer)
        with connect(server, context=newer, session=peers[0].session) as resumed:
            converse(resumed)
            assert resumed.session_reused
            frozen = 21 if way.tls_idle == "frozen" else 0
            wait_for_total(server, tls_frozen=frozen, tls_connections=22)
        for _ in range(5):
            for peer in peers:
                peer.sendall(PING)
                assert until(peer, PONG) == PONG
        for peer in peers:
            peer.unwrap().close()  # close_notify in both directions
        wait_for_closed(server, "peer_closed", 22)
        wait_for_total(server, tls_frozen=0)


def secrets_of(keylog):
    """What each line of a client's key log says of application data."""
    with open(keylog) as file:
        lines = [line.split() for line in file]
    return [bytes.fromhex(line[2]) for line in lines if "TRAFFIC_SECRET_0" in line[0]]


def places_of(secrets, process):
    """How often each is in what the process may write to."""
    counts = [0] * len(secrets)
    of_process = f"/proc/{process.pid}"
    with open(f"{of_process}/maps") as maps, open(f"{of_process}/mem", "rb", 0) as mem:
        for line in maps:
            span, rights = line.split()[:2]
            first, end = (int(text, 16) for text in span.split("-"))
            if not rights.startswith("rw") or end - first > 1 << 30:  # a sanitizer's
                continue
            while first < end:
                try:
                    mem.seek(first)
                    part = mem.read(min(end - first, 1 << 20))
                except OSError:
                    break  # a ring of the kernel's
                first += len(part)
                if part.count(0) == len(part):
                    continue
                counts = [count + part.count(secret) for count, secret in zip(counts, secrets)]
    return counts


def test_a_secret_of_a_frozen_connection_is_in_one_place(way):
    with serving(way, "--tls-idle", "frozen", "--reactors", "1") as server:
        context = client_context(ssl.TLSVersion.TLSv1_3)
        context.keylog_filename = os.path.join(FOLDER.name, f"keys-{way}")
        raws = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(24)]
        peers = [context.wrap_socket(raw, server_hostname="a.example",
                                     do_handshake_on_connect=False) for raw in raws]
        for peer in peers:  # all are in it at once, each with an object of OpenSSL's
            peer.setblocking(False)
            try:
                peer.do_handshake()
            except ssl.SSLWantReadError:
                pass
            peer.settimeout(20)
        for peer in peers:
            peer.do_handshake()
        wait_for_total(server, tls_frozen=len(peers))
        secrets = secrets_of(context.keylog_filename)
        assert len(secrets) == 2 * len(peers), len(secrets)

        def expect_one_place_each():
            places = places_of(secrets, server.process)
            # The object for HMAC has the last that it was used with.
            assert min(places) == 1 and sum(places) <= len(secrets) + 1, places
        expect_one_place_each()  # what the last handshake had waits for nothing that a peer says
        for peer in peers:
            converse(peer)
        expect_one_place_each()
        for peer in peers:
            peer.unwrap().close()
        wait_for_closed(server, "peer_closed", len(peers))
        places = places_of(secrets, server.process)
        assert sum(places) <= 1, places


def test_what_fails_is_explained(way):
    with serving(way) as server:
        try:
            connect(server, context=client_context(trusts=RSA))
            raise AssertionError("an unknown authority was trusted")
        except ssl.SSLCertVerificationError:
            wait_for_log(server, "TLS failed: the peer's alert: unknown CA")
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as garbage:
            garbage.sendall(b"\x00\x01garbage\n")
            assert garbage.recv(100)[:1] in (b"\x15", b""), "an alert"
        with connect(server) as cut:
            converse(cut)
            os.close(cut.detach())  # the stream ends without close_notify
        wait_for_closed(server, "peer_closed")
        assert server.stats()["total"]["tls_connections"] == 0
    with serving(way, "--handshake-timeout", "1s") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
            slow.sendall(b"\x16\x03\x01\x02\x00\x01")
            assert slow.recv(100) == b""
        wait_for_closed(server, "handshake_timeout")


def test_a_drain_says_goodbye_and_ends_tls(way):
    with serving(way, "--drain-timeout", "1s") as server:
        peers = [connect(server) for _ in range(5)]
        for peer in peers:
            converse(peer)
        server.process.send_signal(signal.SIGTERM)
        for peer in peers:
            heard = b""
            # suppress_ragged_eofs is off: an end without close_notify is an error.
            peer.suppress_ragged_eofs = False
            while more := peer.recv(4096):
                heard += more
            assert heard[:1] == b"\x88" and heard[2:4] == struct.pack(">H", 1001), heard
            peer.close()
        assert server.process.wait(timeout=20) == 0


def ends_at(path):
    """When OpenSSL says that a certificate ends, since 1970."""
    text = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-enddate"], check=True,
                          capture_output=True, text=True).stdout
    return ssl.cert_time_to_seconds(text.strip().removeprefix("notAfter="))


def expect_end_in_metrics(admin, path):
    name = "pulsewheel_tls_certificate_not_after_timestamp_seconds"
    line = f'{name}{{certificate="{path}"}} '
    text = admin.ask("GET", "/metrics").body.decode()
    found = [row.removeprefix(line) for row in text.splitlines() if row.startswith(line)]
    assert [float(value) for value in found] == [ends_at(path)], found


def tls_bytes(admin):
    text = admin.ask("GET", "/metrics").body.decode()
    return sum(int(float(value)) for value in re.findall(
        r'^pulsewheel_memory_bytes\{.*kind="tls".*\} (.+)$', text, re.MULTILINE))


def test_a_reload_is_for_those_who_come_and_a_broken_pair_changes_nothing(way):
    own = make_certificate(FOLDER.name, "reload.example", f"reload-{way}.pem")
    address = f"unix:{FOLDER.name}/admin-{way.backend}-{way.tls_idle}"
    with serving(way, "--admin", address, certificates=[own]) as server:
        admin = Admin(address)
        context = client_context(trusts=own)
        expect_end_in_metrics(admin, own)
        inside = connect(server, "reload.example", context)
        converse(inside)

        def reload(words):
            server.process.send_signal(signal.SIGHUP)
            wait_for_log(server, words)

        good = open(own, encoding="ascii").read()
        with open(own, "w", encoding="ascii") as broken:
            broken.write(good.split("-----BEGIN PRIVATE")[0])
        reload(f"--tls-key {own}: has no private key in PEM")
        with connect(server, "reload.example", context) as peer:
            converse(peer)
        make_certificate(FOLDER.name, "reload.example", f"reload-{way}.pem", days=9)
        reload(f"reload: --tls-cert {own}: reload.example")
        expect_end_in_metrics(admin, own)
        deadline = time.monotonic() + 10
        while True:  # until each reactor has the new one
            try:
                connect(server, "reload.example", client_context(trusts=own)).close()
                break
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < deadline
        inside.sendall(PING)
        assert until(inside, PONG) == PONG
        held = tls_bytes(admin)
        inside.close()
        deadline = time.monotonic() + 10
        # OpenSSL has more for each; the entries of what is frozen stay.
        while way.tls_idle == "openssl" and tls_bytes(admin) > held - 5_000:
            assert time.monotonic() < deadline, (held, tls_bytes(admin))
            time.sleep(0.05)


def test_wrong_settings_name_what_to_do(way):
    for flags, words in (
            ((), "a certificate is missing, which 'wss://127.0.0.1:0' needs"),
            (("--tls-cert", "/nowhere.pem"),
             "--tls-cert /nowhere.pem: cannot be read: no such file; name a file"),
            (("--tls-cert", CERTIFICATE, "--tls-key", RSA),
             f"--tls-key {RSA}: is not the key of --tls-cert {CERTIFICATE}"),
            (("--tls-cert", CERTIFICATE, "--tls-ciphers", "TLS_NONE"), "--tls-ciphers 'TLS_NONE'"),
            (("--tls-cert", __file__), "has no certificate in PEM")):
        server = Server(way.backend, *flags, scheme="wss", expect_start=False)
        with server:
            assert server.process.wait(timeout=20) in (1, 2)
            assert words in server.text(), server.text()


def test_clients_are_asked_for_certificates_where_tls_is_spoken(way):
    """Where it need not be, a warning says so; where it never is, the server does not start."""
    asking = ("--tls-client-ca", AUTHORITY)
    with serving(way, *asking, scheme="auto") as server:
        assert "lets in peers without TLS, which show no certificate" in server.text()
        context = client_context()
        context.load_cert_chain(RSA)
        with connect(server, context=context) as peer:
            peer.sendall(b"PING\n")
            assert until(peer, b"\n") == b"PONG\n"
        wait_for_log(server, "as /CN=rsa.example")
        try:
            with connect(server) as peer:  # of TLS 1.3: it hears of it with what it reads
                assert not peer.recv(100)
        except ssl.SSLError as error:
            assert "certificate required" in str(error).lower().replace("_", " "), error
    with serving(way, *asking) as server:
        assert "lets in peers without TLS" not in server.text()
    server = Server(way.backend, "--tls-cert", CERTIFICATE, *asking, scheme="ws",
                    expect_start=False)
    with server:
        assert server.process.wait(timeout=20) == 2
        assert "--tls-client-ca: no listener speaks TLS" in server.text(), server.text()


def resident_bytes(server):
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def begin_handshake(server):
    """A socket whose peer has answered its ClientHello, and waits for what follows."""
    peer = socket.create_connection(("127.0.0.1", server.port), 20)
    sent = ssl.MemoryBIO()
    hello = client_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="a.example")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        peer.sendall(sent.read())
    assert peer.recv(1)
    return peer


def test_what_handshakes_had_goes_back_to_the_kernel(way):
    with serving(way, "--tls-idle", "frozen", "--reactors", "1") as server:
        inside = [connect(server) for _ in range(3)]
        before = resident_bytes(server)
        begun = []
        for at in range(200):
            begun.append(begin_handshake(server))
            if at % 20 == 0:  # what stays lies between what goes
                inside.append(connect(server))
        most = resident_bytes(server)
        assert most - before > 3 << 20, (before, most)
        for peer in begun:
            peer.close()
        deadline = time.monotonic() + 20
        while resident_bytes(server) - before > (most - before) / 2:
            assert time.monotonic() < deadline, (before, most, resident_bytes(server))
            time.sleep(0.2)
        for peer in inside:
            converse(peer)
            peer.close()


def test_a_crowd_at_once_leaves_those_inside_their_heartbeats(way):
    """200 full handshakes at once: each is served, and one that is inside is answered meanwhile."""
    with serving(way, "--reactors", "1") as server:
        inside = connect(server)
        converse(inside)
        errors, waits = [], []

        def come():
            try:
                with connect(server, context=client_context()) as peer:
                    converse(peer)
            except Exception as error:  # reported below
                errors.append(error)

        crowd = [threading.Thread(target=come) for _ in range(200)]
        for one in crowd:
            one.start()
        while any(one.is_alive() for one in crowd):
            began = time.monotonic()
            inside.sendall(PING)
            until(inside, PONG)
            waits.append(time.monotonic() - began)
            time.sleep(0.01)
        for one in crowd:
            one.join()
        assert not errors, errors[:3]
        total = server.stats()["total"]
        print(f"REPORT {way}: 200 handshakes at once, longest wait of one inside "
              f"{max(waits) * 1e3:.1f} ms")
        inside.close()
        assert total["refused"] == 0, total


if __name__ == "__main__":
    sys.exit(run_over(globals(), TLS_WAYS))
