#!/usr/bin/env python3
"""pulsectl against a real server: what it prints for people and for scripts, and its exit codes."""
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched
from server import BUILD, run_over_backends

PING = b"\xb7\x01\0\0\0\0\0\1"


def run(*arguments, admin=None, environment=None):
    variables = {name: value for name, value in os.environ.items()
                 if not name.startswith("PULSECTL")}
    if admin is not None:
        variables["PULSECTL_ADMIN"] = admin
    return subprocess.run([f"{BUILD}/pulsectl", *arguments], text=True, timeout=60,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          env={**variables, **(environment or {})})


def done(server, *arguments):
    result = run(*arguments, admin=server.admin.address)
    assert result.returncode == 0 and not result.stderr, (arguments, result)
    return result.stdout


def connect(port, count):
    peers = []
    for _ in range(count):
        peer = socket.create_connection(("127.0.0.1", port), 20)
        peer.sendall(PING)
        assert len(peer.recv(8)) == 8
        peers.append(peer)
    return peers


def test_tables_and_json(backend):
    with Watched(backend, "--heartbeat-profile", "mobile") as server:
        peers = connect(server.port, 12)
        lines = done(server, "ls").splitlines()
        assert lines[0].split() == ["ID", "PROTOCOL", "STATE", "ADDRESS", "USER", "PROFILE",
                                    "IDLE", "PROBES", "QUEUED", "LISTENER"], lines[0]
        assert len(lines) == 14 and lines[-1] == "12 connections", lines
        assert done(server, "ls", "--limit", "5").endswith("5 connections; there are more "
                                                           "(--limit)\n")
        rows = [json.loads(line) for line in done(server, "ls", "--json").splitlines()]
        assert len({row["id"] for row in rows}) == 12
        assert done(server, "ls", "--protocol", "jsonl").endswith("\n0 connections\n")
        assert done(server, "count").startswith("12 connections\n")
        assert json.loads(done(server, "--json", "count"))["connections"] == 12
        explained = done(server, "explain", rows[0]["id"])
        assert re.search(r"^state +open$", explained, re.M), explained
        assert re.search(r"^timeout +2 m 00 s$", explained, re.M), explained
        assert re.search(r"^connections +12$", done(server, "stats"), re.M)
        config = done(server, "config", "--given")
        assert re.search(r"^heartbeat-profile +mobile +--heartbeat-profile +applies it$", config,
                         re.M), config
        assert done(server, "ready") == "ready\n"
        assert done(server, "log-level") == "info\n"
        assert done(server, "log-level", "debug") == "debug\n"
        assert done(server, "reload") == "log-level: debug -> info\n"
        del peers


def test_limits_and_their_use(backend):
    with Watched(backend, "--max-connections", "100", "--max-connections-per-address", "3",
                 "--address-accept-rate", "20/m,50", query="?max-connections=50") as server:
        peers = connect(server.port, 3)
        with socket.create_connection(("127.0.0.1", server.port), 20) as refused:
            assert b"address_full" in refused.recv(4096)
        rows = {row["limit"]: row for row in
                json.loads(done(server, "limits", "--json"))["limits"]}
        assert rows["max-connections"]["most"] == 100 and rows["max-connections"]["used"] == 3
        assert rows["listen"]["most"] == 50 and rows["listen"]["used"] == 3
        assert rows["max-connections-per-address"] == {
            "limit": "max-connections-per-address", "of": "the address that has most",
            "value": "3", "most": 3, "used": 3, "refused": 1}, rows
        assert rows["address-accept-rate"]["value"] == "20/m,50"
        assert rows["flapping"]["value"] == "off" and rows["flapping"]["used"] is None
        table = {line.split()[0]: line.split() for line in done(server, "limits").splitlines()}
        assert table["LIMIT"] == ["LIMIT", "OF", "VALUE", "USED", "REFUSED"], table
        assert table["max-connections"][-3:] == ["100", "3", "0"], table
        assert table["max-handshakes"][-3:] == ["off", "-", "0"], table
        for peer in peers:
            peer.close()


def test_anomalies(backend):
    with Watched(backend) as server:
        assert done(server, "anomalies") == (
            "the server does not look for anomalies (--on-anomaly off)\n")
    # So that the 30 samples from which it learns last for half a minute.
    with Watched(backend, "--on-anomaly", "log", "--anomaly-interval", "1s") as server:
        deadline = time.monotonic() + 20
        while json.loads(done(server, "anomalies", "--json"))["samples"] < 2:
            assert time.monotonic() < deadline, server.text()
        lines = done(server, "anomalies").splitlines()
        assert re.match(r"\d+ samples, one each 1.0 s; overload step: none$", lines[0]), lines
        assert lines[2].split() == ["SERIES", "NOW", "NORMAL", "SPREADS", "ANOMALIES"], lines
        assert [line.split()[0] for line in lines[3:8]] == [
            "evictions", "missed_probes", "round_trip", "newcomers", "loop_lag"], lines
        assert lines[3].split()[1:] == ["0.0", "-", "-", "0"], "nothing is normal yet"
        assert lines[5].split()[1:] == ["-", "-", "-", "0"], "there was no probe"
        assert lines[9].split()[:3] == ["SINCE", "SERIES", "STATE"], lines


def test_policies_are_set_and_rolled_back(backend):
    with Watched(backend, "--policy", "ring=beta: profile=mobile") as server:
        def rows():
            return [line.rsplit(None, 7)[0] for line in done(server, "policy").splitlines()]
        assert rows() == ["POLICY", "ring=beta: profile=mobile", "the rest"], rows()
        done(server, "policy", "ring=canary,10%: drain=last; 5%: message-rate=20/s,100")
        wanted = ["POLICY", "ring=canary,10%: drain=last", "5%: message-rate=20/s,100", "the rest"]
        eventually(lambda: rows() == wanted)
        done(server, "policy", "rollback")
        eventually(lambda: rows() == ["POLICY", "ring=beta: profile=mobile", "the rest"])
        done(server, "policy", "off")
        eventually(lambda: done(server, "policy") == "there is no policy\n")
        wrong = run("policy", "canary: profile=mobile", admin=server.admin.address)
        assert wrong.returncode == 1 and "'canary' is not a label" in wrong.stderr, wrong


def eventually(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_what_it_does_to_connections(backend):
    with Watched(backend, "--heartbeat-probe", "off") as server:
        peers = connect(server.port, 10)
        assert done(server, "broadcast", "hello", "--all") == "10 connections were sent the text\n"
        assert peers[0].recv(100) == b"\xb7\x05\0\5\0\0\0\0hello"
        assert done(server, "retune", "powersave", "--state", "open") == (
            "10 connections have profile powersave\n")
        one = json.loads(done(server, "ls", "--json", "--limit", "1"))["id"]
        assert done(server, "kick", one) == "1 connections were closed\n"
        explained = done(server, "explain", one)
        assert explained.startswith(one + " ("), explained
        assert " as kicked after " in explained.replace("\n", " "), explained
        assert re.search(r"^\S+Z +[0-9.]+ m?s ago  accepted$", explained, re.M), explained
        assert done(server, "kick", "--all", "--rate", "1000/s") == "9 connections were closed\n"
        lines = done(server, "ls", "--closed", "--reason", "kicked", "--since", "1h").splitlines()
        assert lines[0].split() == ["ID", "CLOSED", "LASTED", "REASON", "BY", "PROTOCOL",
                                    "ADDRESS"], lines[0]
        assert len(lines) == 12 and lines[-1] == "10 connections that ended", lines
        assert done(server, "ls", "--closed", "--limit", "3", "--json").count("\n") == 3
        del peers


def hello(port, user, device):
    peer = socket.create_connection(("127.0.0.1", port), 20)
    peer.sendall(json.dumps({"type": "hello", "user": user, "device": device,
                             "labels": {"ring": "canary"}}).encode() + b"\n")
    assert b'"user":"' in peer.recv(4096)
    return peer


def test_who_is_online(backend):
    with Watched(backend, scheme="jsonl") as server:
        phone, web = hello(server.port, "ann", "phone"), hello(server.port, "ann", "web")
        bob = hello(server.port, "bob", "phone")
        lines = done(server, "presence").splitlines()
        assert lines[0].split() == ["USER", "STATE", "SESSIONS", "SEEN", "REASON"], lines
        assert lines[-1] == "2 users" and re.search(r"^ann +online +2 ", "\n".join(lines), re.M)
        shown = done(server, "presence", "ann")
        assert re.search(r"^web +r\d-\d{6}-\d+ +online +\S+Z +ring=canary$", shown, re.M), shown
        assert done(server, "send", "hi", "--user", "bob") == "1 connections were sent the text\n"
        assert bob.recv(100) == b'{"type":"data","text":"hi"}\n'
        assert done(server, "count", "--label", "ring=canary").startswith("3 connections\n")
        for flags, count in ((("--user", "ann", "--user", "bob"), 3),
                             (("--user", "ann", "--user", "bob", "--label", "ring=beta"), 0),
                             (("--label", "ring=beta", "--label", "ring=canary"), 3)):
            assert done(server, "count", *flags).startswith(f"{count} connections\n"), flags
        follower = subprocess.Popen(
            [f"{BUILD}/pulsectl", "--admin", server.admin.address, "presence", "--follow"],
            stdout=subprocess.PIPE, text=True)
        try:
            now = {follower.stdout.readline().split()[2] for _ in range(2)}
            assert now == {"ann", "bob"}, now
            assert done(server, "kick", "--user", "bob") == "1 connections were closed\n"
            line = follower.stdout.readline().split()
            assert line[1:3] == ["offline", "bob"] and line[-1] == "kicked", line
        finally:
            follower.kill()
            follower.wait()
            follower.stdout.close()
        assert re.search(r"^bob +offline +0 .* kicked$", done(server, "presence"), re.M)
        del phone, web


def test_exit_codes_tell_the_truth(backend):
    with Watched(backend) as server:
        address = server.admin.address
        for code, words, arguments in (
                (2, "PULSECTL_ADMIN", ("ls",)),
                (2, "--help", ("--admin", address)),
                (2, "--help", ("--admin", address, "fly")),
                (2, "--help", ("--admin", address, "ls", "--colour", "red")),
                (2, "ID is missing", ("--admin", address, "explain")),
                (2, "--admin", ("--admin", "nowhere", "ls")),
                (2, "--token-file", ("--admin", address, "--token-file", "/nowhere/t", "ls")),
                (2, "is not UTF-8", ("--admin", address, "kick", "--user", os.fsdecode(b"\xe9"))),
                (1, "is not among the last", ("--admin", address, "explain", "r0-000001-7")),
                (1, "filter", ("--admin", address, "kick")),
                (1, "'loud'", ("--admin", address, "log-level", "loud")),
                (1, "'smtp'", ("--admin", address, "ls", "--protocol", "smtp")),
                (1, "'boredom'", ("--admin", address, "ls", "--closed", "--reason", "boredom")),
                (2, "--closed", ("--admin", address, "ls", "--reason", "kicked")),
                (2, "several", ("--admin", address, "drain", "--listener", "0", "--listener", "1")),
                (2, "--sort", ("--admin", address, "ls", "--closed", "--sort", "id")),
                (1, "has not logged in", ("--admin", address, "presence", "ann")),
                (1, "has no session", ("--admin", address, "send", "hi", "--user", "ann")),
                (2, "--user", ("--admin", address, "send", "hi")),
                (1, "is the server running", ("--admin", "127.0.0.1:1", "ready")),
                (1, "--admin of a pulsewheel", ("--admin", f"127.0.0.1:{server.port}", "ready"))):
            result = run(*arguments)
            assert result.returncode == code and words in result.stderr, (arguments, result)
            assert result.stderr.startswith("pulsectl: ") and not result.stdout, result
        assert run("--help").returncode == run("kick", "--help").returncode == 0
        for kind in ("man", "bash", "zsh", "fish"):
            printed = run("--generate", kind)
            assert printed.returncode == 0 and "broadcast" in printed.stdout, printed
        assert run("--generate", "csh").returncode == 2
        assert run("--version").stdout.startswith("pulsectl ")
        with open("/dev/full", "w") as full:
            code = subprocess.run([f"{BUILD}/pulsectl", "--admin", address, "count"], stdout=full,
                                  stderr=subprocess.DEVNULL).returncode
        assert code == 1


def test_a_token_from_a_file(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "tokens")
        with open(path, "w") as file:
            file.write("a-token-of-some-length\n")
        with Watched(backend, "--admin-token-file", path) as server:
            refused = run("count", admin=server.admin.address)
            assert refused.returncode == 1 and "Authorization" in refused.stderr, refused
            assert run("count", "--token-file", path, admin=server.admin.address).returncode == 0
            assert run("count", admin=server.admin.address,
                       environment={"PULSECTL_TOKEN_FILE": path}).returncode == 0


def test_a_drain_is_shown_until_the_server_has_ended(backend):
    with Watched(backend, "--drain-timeout", "1s") as server:
        shown = done(server, "drain")
        # With nothing to close it may end before its answer is whole.
        assert "draining: 0 of 0" in shown or shown == "the server has ended\n", shown
        assert server.process.wait(timeout=20) == 0
        assert run("ready", admin=server.admin.address).returncode == 1


def test_a_drain_has_ended_where_nothing_listens_any_more_and_not_before(backend):
    """A 1 is answered, a 0 is not; then nothing listens. Five 0 in a row are too many."""
    body = b'{"draining":true,"connections":5,"connections_at_drain":5,"since_s":0.1,"window_s":9}'
    answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for answers, code in (("1101001", 0), ("1100000", 1)):
        listener = socket.create_server(("127.0.0.1", 0))
        drain = subprocess.Popen([f"{BUILD}/pulsectl", "--admin",
                                  f"127.0.0.1:{listener.getsockname()[1]}", "drain"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        listener.settimeout(20)
        for answered in answers:
            with listener.accept()[0] as peer:
                peer.recv(65536)
                if answered == "1":
                    peer.sendall(answer)
        listener.close()
        out, err = drain.communicate(timeout=20)
        assert drain.returncode == code, (answers, drain.returncode, out, err)
        assert (b"the server has ended" in out) == (code == 0), out


def test_top_in_a_terminal_ends_with_q_and_gives_the_terminal_back(backend):
    with Watched(backend) as server:
        peers = connect(server.port, 7)
        for how in ("q", "SIGINT"):
            main, child = pty.openpty()
            top = subprocess.Popen(
                [f"{BUILD}/pulsectl", "--admin", server.admin.address, "top", "--interval",
                 "100ms"], stdin=child, stdout=child, stderr=child)
            shown = b""
            deadline = time.monotonic() + 20
            while shown.count(b"\x1b[H") < 4:
                assert time.monotonic() < deadline, shown
                if select.select([main], [], [], 0.5)[0]:
                    shown += os.read(main, 65536)
            assert re.search(rb"REACTOR +CONNECTIONS +HEARTBEATS/S", shown), shown
            assert re.search(rb"all +7 ", shown), shown
            if how == "q":
                os.write(main, b"q")
            else:
                top.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 20
            while not shown.endswith(b"\x1b[?25h\x1b[?1049l"):
                assert time.monotonic() < deadline, shown[-200:]
                if select.select([main], [], [], 0.5)[0]:
                    shown += os.read(main, 65536)
            assert top.wait(timeout=20) == 0
            os.close(main)
            os.close(child)
        tables = done(server, "top", "--count", "2", "--interval", "100ms")
        assert tables.count("REACTOR") == 2 and "\x1b" not in tables, tables
        del peers


if __name__ == "__main__":
    sys.exit(run_over_backends(globals()))
