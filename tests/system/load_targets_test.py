#!/usr/bin/env python3
"""build/pulseload against targets of all kinds: other servers, Unix sockets, IPv6, proxies.

Ends with `N passed, N failed, N skipped`.
"""
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from certificates import make_certificate  # noqa: E402: its path comes first
from load import Load  # noqa: E402
from server import Server, Skipped, run_tests  # noqa: E402
from websocket_peer import Peer, echo  # noqa: E402

SHORT = ("-n", "50", "-d", "2s", "--heartbeat-interval", "200ms")
CLIENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients")


def expect_whole(load, connections=50):
    """Nothing is missing; whether this machine was quiet enough is not the question."""
    assert load.code in (0, 3), load.text()
    counts = load["counts"]
    assert counts["open"] == connections, load.text()
    assert counts["pongs"] == counts["pings"] >= connections, counts
    assert counts["protocol_errors"] == 0, load["errors"]


def test_a_foreign_server_is_sent_what_was_asked_for_and_no_hello():
    with Peer(echo) as peer:
        load = Load(f"ws://localhost:{peer.port}/chat?room=7", *SHORT, "--header",
                    "Authorization: Bearer abc", "--header", "Origin: https://app.example")
        expect_whole(load)
        assert load["run"]["foreign"] and not load["detection"]["announced"], load["run"]
        assert "not judged" in load.words, load.words
        for request in peer.requests:
            assert request.startswith(b"GET /chat?room=7 HTTP/1.1\r\n"), request
            assert b"\r\nAuthorization: Bearer abc\r\n" in request, request
            assert f"\r\nHost: localhost:{peer.port}\r\n".encode() in request, request
        assert peer.texts == [], peer.texts


def test_a_subprotocol_is_offered_and_may_be_chosen():
    def choose(peer, request):
        assert b"Sec-WebSocket-Protocol: chat.v2" in request
        echo(peer, request, "Sec-WebSocket-Protocol: chat.v2\r\n")

    with Peer(choose) as peer:
        load = Load(f"ws://127.0.0.1:{peer.port}", *SHORT, "--subprotocol", "chat.v2")
        expect_whole(load)
        assert load["run"]["foreign"]


def test_a_server_that_refuses_unknown_offers_is_asked_without_them():
    def strict(peer, request):
        if b"Sec-WebSocket-Protocol" in request:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        else:
            echo(peer, request)

    with Peer(strict) as peer:
        load = Load(f"ws://127.0.0.1:{peer.port}", *SHORT)
        expect_whole(load)
        assert load["run"]["foreign"] and load["counts"]["refusals"] == 0, load["counts"]


def test_pulsewheel_by_ws_announces_its_timeout():
    with Server("epoll", scheme="auto") as server:
        load = Load(f"ws://127.0.0.1:{server.port}", *SHORT)
        expect_whole(load)
        assert load["detection"]["announced"] and not load["run"]["foreign"]
        silent = Load(f"ws://127.0.0.1:{server.port}", *SHORT, "--no-hello")
        expect_whole(silent)
        assert not silent["detection"]["announced"]


def test_ipv6():
    with Server("epoll", scheme="auto", host="[::1]") as server:
        for target in (f"auto://[::1]:{server.port}", f"ws://[::1]:{server.port}/"):
            expect_whole(Load(target, *SHORT))


def test_a_name_is_looked_up():
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        address = ""
    if not address.startswith("127."):
        raise Skipped("this machine's name is not a loopback address")
    with Server("epoll", scheme="auto", host="*") as server:
        load = Load(f"ws://{name}:{server.port}/", *SHORT)
        expect_whole(load)
        target = load["run"]["settings"]["target"]
        assert target == f"ws://{name}:{server.port}/ ({address}:{server.port})", target


def test_unix_socket():
    """Also more at once than its backlog takes."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "app.sock")
        with Peer(echo, unix_path=path) as peer:
            expect_whole(Load(f"unix:{path}:/room?a", *SHORT))
            assert all(request.startswith(b"GET /room?a HTTP/1.1") for request in peer.requests)
        load = Load(f"unix:{path}.none", *SHORT)
        assert load.code == 1 and "No such file" in load.complaints, load.text()


def break_tls(context):
    """Of Pulsewheel's binary protocol over TLS: a pong, a probe, which wants an answer, and in the
    same segment a record that does not open."""
    def answer(peer, request):
        to_tls, from_tls = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(to_tls, from_tls, server_side=True)
        to_tls.write(request)

        def until_done(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    peer.sendall(from_tls.read())
                    to_tls.write(peer.recv(65_536))
        until_done(tls.do_handshake)
        ping = until_done(lambda: tls.read(8))
        tls.write(b"\xB7\x02" + ping[2:] + b"\xB7\x01\0\0\0\0\0\x07")
        peer.sendall(from_tls.read() + b"\x17\x03\x03\0\x20" + bytes(32))
        while peer.recv(65_536):
            pass
    return answer


def test_tls_that_breaks_is_counted_with_its_reason():
    """In the words of what reads the records: OpenSSL, or pulseload itself for a frozen client."""
    with tempfile.TemporaryDirectory() as folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(make_certificate(folder))
    with Peer(break_tls(context)) as peer:
        for kept, words in (("openssl", "bad record mac"),
                            ("frozen", "a record that does not open")):
            load = Load(f"tls+tcp://127.0.0.1:{peer.port}", "-n", "1", "-d", "1s", "--no-hello",
                        "--tls-idle", kept)
            counts, failures = load["counts"], load["tls"]["failures"]
            assert counts["connected"] == counts["tls_failed"] == 1, load.text()
            assert counts["protocol_errors"] == 1, load.text()
            assert words in "".join(failures), failures


def test_several_targets_share_the_connections():
    with Peer(echo) as one, Peer(echo) as other:
        load = Load(f"ws://127.0.0.1:{one.port}", "--target", f"ws://127.0.0.1:{other.port}",
                    *SHORT)
        expect_whole(load)
        assert len(one.requests) == len(other.requests) == 25


def node_server(directory):
    """Node's ws with an echo, on a port that it prints; None where it is not installed."""
    if shutil.which("node") is None or not os.path.isdir(f"{CLIENTS}/node_modules/ws"):
        raise Skipped("node and its ws are not installed (make deps-clients)")
    script = os.path.join(directory, "server.mjs")
    with open(script, "w", encoding="utf-8") as file:
        file.write(f"""
import {{ createRequire }} from 'node:module';
const require = createRequire('{os.path.abspath(CLIENTS)}/x.js');
const {{ WebSocketServer }} = require('ws');
const server = new WebSocketServer({{ host: '127.0.0.1', port: 0, backlog: 4096 }}, () =>
    console.log(server.address().port));
server.on('connection', (socket) => socket.on('message', (data, isBinary) => {{
  if (!isBinary) console.log('text ' + data);
  socket.send(data, {{ binary: isBinary }});
}}));
""")
    process = subprocess.Popen(["node", script], stdout=subprocess.PIPE, text=True,
                               stdin=subprocess.DEVNULL)
    return process, int(process.stdout.readline())


def test_node_ws():
    with tempfile.TemporaryDirectory() as directory:
        process, port = node_server(directory)
        try:
            load = Load(f"ws://127.0.0.1:{port}", "-n", "200", "-d", "3s",
                        "--heartbeat-interval", "500ms", "--message-rate", "100/s",
                        "--server-pid", str(process.pid))
            expect_whole(load, 200)
            counts = load["counts"]
            assert counts["messages_returned"] == counts["messages"] > 100, counts
            assert load["run"]["foreign"], load["run"]
        finally:
            process.kill()
            said = process.communicate()[0]
        assert said == "", "it was sent a text: " + said


def test_nginx_in_front_of_pulsewheel():
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if nginx is None:
        raise Skipped("nginx is not installed (Debian package nginx)")
    with Server("epoll", scheme="auto") as server, \
            tempfile.TemporaryDirectory() as directory:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = os.path.join(directory, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""
daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/log;
events {{ worker_connections 2000; }}
http {{ access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
  fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
  server {{ listen 127.0.0.1:{port}; listen unix:{directory}/nginx.sock;
    location / {{ return 404; }}
    location /ws {{ proxy_pass http://127.0.0.1:{server.port}/; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }} }}
""")
        process = subprocess.Popen([nginx, "-c", config, "-p", directory],
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not os.path.exists(f"{directory}/nginx.sock"):
                assert time.monotonic() < deadline and process.poll() is None, "did not start"
                time.sleep(0.05)
            for target in (f"ws://127.0.0.1:{port}/ws", f"unix:{directory}/nginx.sock:/ws"):
                load = Load(target, *SHORT)
                expect_whole(load)
                assert load["detection"]["announced"], load["detection"]
            wrong = Load(f"ws://127.0.0.1:{port}/elsewhere", *SHORT)
            assert wrong.code == 1 and "HTTP 404" in wrong.complaints, wrong.text()
        finally:
            process.terminate()
            process.wait(timeout=20)


if __name__ == "__main__":
    sys.exit(run_tests(globals(), at_once=2))
