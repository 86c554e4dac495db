#!/usr/bin/env python3
"""What build/pulseload reports when the target, the generator or its files fail.

Targets that answer wrongly are sockets of this script; the others are build/pulsewheel. Ends with
`N passed, N failed`.
"""
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import Load  # noqa: E402: its path comes first
from server import BUILD, Server, Skipped, run_tests  # noqa: E402
from websocket_peer import Peer, echo, upgrade  # noqa: E402

BEATS = ("--heartbeat-interval", "1s", "--heartbeat-timeout", "3s")
NOT_CONNECTED, INVALID, MISSED, INCOMPLETE = 1, 3, 4, 5


def ws(port):
    return f"ws://127.0.0.1:{port}"


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def after(seconds, action):
    """For Load(during=...): does `action` once so much time has passed."""
    def wait(_):
        time.sleep(seconds)
        action()
    return wait


# ------------------------------------------------------------------------- nothing opens (C1)

def expect_not_connected(load, reason):
    assert load.code == NOT_CONNECTED, load.text()
    assert reason in load.complaints, load.text()
    assert "All were connected" not in load.words and "To trust?" not in load.words, load.text()
    assert not load["verdict"]["valid"] and load["verdict"]["state"] == "not connected", \
        load["verdict"]
    assert load["rates"]["connects_per_s"] is None, load["rates"]


def test_a_closed_port_ends_the_run_at_once():
    began = time.monotonic()
    load = Load(ws(closed_port()), "-n", "500", "-d", "30s")
    expect_not_connected(load, "Connection refused")
    assert time.monotonic() - began < 15, "it waited for the hold"
    began = time.monotonic()
    load = Load(ws(closed_port()), "-n", "2000", "--connect-rate", "50/s", "-d", "30s")
    expect_not_connected(load, "Connection refused")
    assert time.monotonic() - began < 15, "it tried all of them"


WELCOME = '{"type":"welcome","conn":"r0-000000-1","interval_ms":1000,"timeout_ms":3000%s}'


def lines_server(answers, echoed=""):
    """JSON lines: welcomes each hello, and answers ping number n where answers(n)."""
    def serve(peer, first):
        text, pings = first, 0
        while text:
            *lines, text = text.split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["type"] == "hello":
                    peer.sendall((WELCOME % echoed).encode() + b"\n")
                elif message["type"] == "ping":
                    pings += 1
                    if answers(pings):
                        peer.sendall(json.dumps({"type": "pong", "seq": message["seq"]}).encode()
                                     + b"\n")
            more = peer.recv(65536)
            if not more:
                return
            text += more
    return Peer(serve)


EVERY_SECOND = ("-n", "4", "-d", "2s", "--heartbeat-interval", "100ms", "--answer-every", "2")


def test_answer_every_that_is_not_echoed_ends_the_run_with_words():
    for echoed, reason in (("", "does not echo answer_every"),
                           (',"answer_every":3', "has answer_every 3")):
        with lines_server(lambda number: True, echoed) as peer:
            load = Load(f"jsonl://127.0.0.1:{peer.port}", *EVERY_SECOND)
            expect_not_connected(load, reason)
            assert "leave --answer-every out" in load.complaints, load.text()
            assert load["counts"]["pings"] == load["counts"]["one_way"] == 0, load["counts"]
    with Peer(echo) as peer:
        load = Load(ws(peer.port), *EVERY_SECOND, "--mix", "ws-json=1")
        expect_not_connected(load, "--answer-every 2")
        assert "the target is not Pulsewheel" in load.sentences(), load.text()
        assert "answers a hello with no welcome" in load.sentences(), load.text()


def test_answer_every_finds_answers_that_are_lost_and_that_come_unasked():
    echoed = ',"answer_every":2'
    with lines_server(lambda number: number % 2 == 0, echoed) as peer:
        right = Load(f"jsonl://127.0.0.1:{peer.port}", *EVERY_SECOND)
        assert right.code == 0, right.text()
        counts = right["counts"]
        assert counts["pongs"] == counts["pings"] > 20 and counts["protocol_errors"] == 0, counts
        assert abs(counts["one_way"] - counts["pings"]) <= 4, counts
        assert "were one-way and asked for no answer" in right.sentences(), right.text()
    # The answer to the tenth is left out, and so are others before that of the run's end.
    with lines_server(lambda number: number % 2 == 0 and number != 10, echoed) as peer:
        lost = Load(f"jsonl://127.0.0.1:{peer.port}", *EVERY_SECOND)["counts"]
        assert lost["pings"] - lost["pongs"] == 4, lost
    with lines_server(lambda number: True, echoed) as peer:
        unasked = Load(f"jsonl://127.0.0.1:{peer.port}", *EVERY_SECOND)
        assert unasked["counts"]["protocol_errors"] == 4, unasked["counts"]
        assert "--answer-every 2 leaves without an answer" in unasked.sentences(), unasked.text()


def test_answer_every_of_plain_websocket_is_pongs_that_nothing_asked_for():
    """Any server that follows RFC 6455 can be asked for that."""
    with Peer(echo) as peer:
        load = Load(ws(peer.port), *EVERY_SECOND)
        counts = load["counts"]
        assert load.code == 0 and counts["pongs"] == counts["pings"] > 20, load.text()
        assert abs(counts["one_way"] - counts["pings"]) <= 4, counts


def test_what_is_not_a_websocket_server_ends_the_run_at_once():
    def ok(peer, _):
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def wrong_accept(peer, _):
        peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     b"Connection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n")
        peer.recv(1)

    for answer, reason in ((ok, "HTTP 200"), (wrong_accept, "Sec-WebSocket-Accept"),
                           (None, "before it was open")):
        with Peer(answer) as peer:
            began = time.monotonic()
            load = Load(ws(peer.port), "-n", "20", "-d", "30s")
            expect_not_connected(load, reason)
            assert time.monotonic() - began < 15, "it waited for the hold"


def test_a_target_that_refuses_every_connection_ends_the_run_at_once():
    with Server("epoll", "--max-connections", "1", "--reactors", "1", scheme="auto") as server, \
            socket.create_connection(("127.0.0.1", server.port)) as only:
        only.sendall(b"PING\n")
        assert only.recv(100).startswith(b"PONG")
        for scheme in ("ws", "tcp"):
            began = time.monotonic()
            load = Load(f"{scheme}://127.0.0.1:{server.port}", "-n", "20", "-d", "30s")
            expect_not_connected(load, "503")
            assert load["counts"]["open"] == 0 and load["counts"]["refusals"] > 0, load["counts"]
            assert time.monotonic() - began < 15, "it waited for the hold"


def test_a_handshake_that_never_ends_is_bound_by_the_connect_timeout():
    with Peer(lambda peer, _: peer.recv(1)) as peer:
        # One of TLS is not blamed on a hello, which comes behind it.
        for target, *flags in ((ws(peer.port),), (f"tls+jsonl://127.0.0.1:{peer.port}",
                                                  "--answer-every", "4")):
            began = time.monotonic()
            load = Load(target, "-n", "20", "-d", "30s", "--connect-timeout", "1s", *flags)
            expect_not_connected(load, "took longer than --connect-timeout")
            assert time.monotonic() - began < 15, "it waited for the hold"


# ----------------------------------------------------------------- the target goes away (C2)

def test_a_server_that_is_killed_is_no_eviction():
    with Server("epoll", *BEATS, scheme="auto") as server:
        load = Load(f"auto://127.0.0.1:{server.port}", "--mix", "ws=1,jsonl=1", "-n", "200", "-d",
                    "4s", "--heartbeat-interval", "500ms", during=after(2, server.process.kill))
    assert load.code == INCOMPLETE, load.text()
    assert load["detection"]["false_evictions"] == 0, load["detection"]
    assert load["detection"]["cut_off"] == 200, load["detection"]
    assert load["run"]["target_gone_s"] is not None, load["run"]
    verdict = load["verdict"]
    assert not verdict["valid"] and verdict["state"] == "incomplete", verdict
    assert "false eviction" not in load.sentences(), load.words
    assert "INCOMPLETE" in load.sentences(), load.words


def test_fewer_held_than_asked_is_incomplete():
    with Server("epoll", "--max-connections", "100", scheme="auto") as server:
        load = Load(f"tcp://127.0.0.1:{server.port}", "-n", "150", "-d", "1s")
    assert load.code == INCOMPLETE, load.text()
    assert load["counts"]["open"] == 100 and load["rates"]["lost_connections"] == 50
    assert any("50 of 150" in one for one in load["verdict"]["evidence"]), load["verdict"]
    assert "All were connected" not in load.sentences(), load.words


def test_an_eviction_that_the_server_names_is_still_false():
    """A server that says one timeout and keeps another, and says so: 4003, too early."""
    def early(peer, request):
        peer.sendall(upgrade(request))
        time.sleep(1.0)
        peer.sendall(b"\x88\x02\x0f\xa3")  # close, 4003
        peer.recv(65536)

    with Peer(early) as peer:
        load = Load(ws(peer.port), "-n", "5", "-d", "3s", "--heartbeat-interval", "500ms",
                    "--expect-timeout", "30s")
    assert load.code == INCOMPLETE, load.text()
    assert load["detection"]["false_evictions"] == 5, load["detection"]


# ----------------------------------------------------- the target is frozen in mid-run (C3, C4)

def freeze(server, begin, length):
    def stop(_):
        time.sleep(begin)
        server.process.send_signal(signal.SIGSTOP)
        if length is not None:
            time.sleep(length)
            server.process.send_signal(signal.SIGCONT)
    return stop


def test_every_ping_that_fell_due_in_a_freeze_is_timed():
    with Server("epoll", "--heartbeat-timeout", "90s", scheme="auto") as server:
        load = Load(ws(server.port), "-n", "100", "-d", "6s", "--heartbeat-interval", "100ms",
                    "--slo", "p99<100ms", during=freeze(server, 2.5, 2.0))
    beats = load["hold_latency"]["heartbeat"]
    # A third of the hold was frozen: about a sixth of all pings waited for over a second.
    assert beats["p90_us"] > 800_000, beats
    assert beats["max_us"] > 1_800_000, beats
    assert load["counts"]["pongs"] == load["counts"]["pings"], load["counts"]
    assert load["latency"]["heartbeat"]["count"] == load["counts"]["pongs"]
    assert load.code in (INVALID, MISSED), load.text()


def test_what_is_outstanding_at_the_end_counts_with_its_wait():
    with Server("epoll", "--heartbeat-timeout", "90s", "--on-message", "echo",
                scheme="auto") as server:
        load = Load(ws(server.port), "-n", "100", "-d", "5s", "--heartbeat-interval", "250ms",
                    "--message-rate", "100/s", "--slo", "p99<1s",
                    during=freeze(server, 3.0, None))
    beats = load["hold_latency"]["heartbeat"]
    assert beats["max_us"] > 1_500_000 and beats["p90_us"] > 1_000_000, beats
    assert load["hold_latency"]["message"]["max_us"] > 1_500_000
    counts = load["counts"]
    assert counts["pings"] - counts["pongs"] > 300, counts
    assert counts["messages_lost"] == counts["messages"] - counts["messages_returned"] > 50, counts
    assert "not answered when the run ended" in load.sentences(), load.words
    assert load["run"]["unanswered_max_us"] > 1_500_000, load["run"]
    assert not load["objectives"][0]["met"], load["objectives"]


# ------------------------------------------------------------- the generator is stopped (C5)

def stop_itself(begin, length):
    def stop(process):
        time.sleep(begin)
        process.send_signal(signal.SIGSTOP)
        time.sleep(length)
        process.send_signal(signal.SIGCONT)
    return stop


def test_its_own_gap_makes_a_run_invalid():
    with Server("epoll", *BEATS, scheme="auto") as server:
        load = Load(f"auto://127.0.0.1:{server.port}", "--mix", "ws=1,tcp=1", "-n", "500", "-d",
                    "8s", "--heartbeat-interval", "100ms", during=stop_itself(2, 4))
    assert load.code == INVALID, load.text()
    assert load["detection"]["false_evictions"] == 0, load["detection"]
    assert load["generator"]["gap_max_us"] > 3_000_000, load["generator"]
    assert any("did not run for" in one for one in load["verdict"]["evidence"]), load["verdict"]


def test_every_ping_that_fell_due_while_it_was_stopped_is_timed():
    """They go out as one when it runs again; each is timed from its own instant."""
    with Server("epoll", "--heartbeat-timeout", "90s", scheme="auto") as server:
        load = Load(ws(server.port), "-n", "50", "-d", "6s", "--heartbeat-interval", "100ms",
                    during=stop_itself(2.5, 2))
    assert load.code == INVALID, load.text()
    counts, beats = load["counts"], load["hold_latency"]["heartbeat"]
    # Not that of the last, which leaves when the run ends.
    assert counts["pings"] - counts["pongs"] <= 50, counts
    assert beats["p90_us"] > 800_000 and beats["max_us"] > 1_800_000, beats
    assert load["latency"]["heartbeat"]["count"] >= counts["pongs"], load["latency"]


# ------------------------------------------------------------------------- files (C6, C7)

def run(flags, timeout=60, **streams):
    return subprocess.run([f"{BUILD}/pulseload", *flags], timeout=timeout,
                          stdin=subprocess.DEVNULL, **streams)


SMALL = ("-n", "10", "-d", "1s", "--heartbeat-interval", "200ms")


def test_streams_that_take_nothing_do_not_end_it():
    with Server("epoll", scheme="auto") as server, open("/dev/full", "w") as full, \
            tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "run.json")
        flags = ["--target", ws(server.port), *SMALL, "--json", path, "--progress"]
        # 3: this machine was busy, which is another test's business.
        assert run(flags, stdout=subprocess.DEVNULL, stderr=full).returncode in (0, INVALID)
        assert os.path.getsize(path) > 0
        closed = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", f"{BUILD}/pulseload", *flags],
                                timeout=60, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        assert closed.returncode in (0, INVALID)
        for more in (["--json", "-"], []):
            done = run(["--target", ws(server.port), *SMALL, *more], stdout=full,
                       stderr=subprocess.PIPE)
            assert done.returncode == 1 and b"stdout" in done.stderr, done


def test_help_and_configuration_say_where_they_could_not_be_printed():
    for program, flag in (("pulsewheel", "--print-config"), ("pulsewheel", "--help"),
                          ("pulseload", "--help"), ("pulseload", "--version")):
        with open("/dev/full", "w") as full:
            done = subprocess.run([f"{BUILD}/{program}", flag], stdout=full, timeout=20,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert done.returncode == 1 and b"stdout cannot be written" in done.stderr, done
    for flags in (["--list-faults"], ["--seed", "1", "--minutes", "1"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([f"{BUILD}/pulsesim", *flags], stdout=full, timeout=60,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert done.returncode == 2 and b"stdout cannot be written" in done.stderr, done


def test_a_path_that_cannot_be_written_is_an_error_before_the_run():
    with Server("epoll", scheme="auto") as server:
        for flag in ("--report", "--json", "--csv", "--hlog"):
            began = time.monotonic()
            done = run(["--target", ws(server.port), "-d", "20s", flag, "/nowhere/run"],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert done.returncode == 1 and b"/nowhere/run" in done.stderr, done
            assert time.monotonic() - began < 5, flag


def test_each_file_is_written_whatever_became_of_the_others():
    with Server("epoll", scheme="auto") as server, tempfile.TemporaryDirectory() as directory:
        path = lambda name: os.path.join(directory, name)
        done = run(["--target", ws(server.port), *SMALL, "--report", "/dev/full", "--csv",
                    path("csv"), "--json", path("json"), "--hlog", path("hlog")],
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 1 and b"/dev/full" in done.stderr, done
        for name in ("csv", "json", "hlog"):
            assert os.path.getsize(path(name)) > 0, name


def file_size_limit(size_bytes):
    """For preexec_fn: `ulimit -f`, beyond which write() is EFBIG, or SIGXFSZ ends the writer."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def test_a_file_beyond_the_size_limit_is_named_and_the_others_are_written():
    with Server("epoll", scheme="auto") as server, tempfile.TemporaryDirectory() as directory:
        path = lambda name: os.path.join(directory, name)
        done = run(["--target", ws(server.port), *SMALL, "--report", path("page"), "--csv",
                    path("csv"), "--json", path("json"), "--hlog", path("hlog")],
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                   preexec_fn=file_size_limit(20_000))
        assert done.returncode == 1, done
        assert path("page").encode() in done.stderr and b"File too large" in done.stderr, done
        for name in ("csv", "json", "hlog"):
            assert path(name).encode() not in done.stderr, done
            assert 0 < os.path.getsize(path(name)) < 20_000, name
        # The log of latencies grows during the run; its end must not be the run's.
        done = run(["--target", ws(server.port), *SMALL, "--json", "-", "--hlog", path("hlog")],
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=file_size_limit(600))
        assert done.returncode == 1 and path("hlog").encode() in done.stderr, done
        assert json.loads(done.stdout)["counts"]["open"] == 10, done


def test_a_stdout_beyond_the_size_limit_is_an_error_in_words():
    with tempfile.TemporaryDirectory() as directory:
        for program, code, *flags in (("pulsewheel", 1, "--print-config"),
                                      ("pulsewheel", 1, "--help"), ("pulseload", 1, "--help"),
                                      ("pulsesim", 2, "--list-faults"),
                                      ("pulsesim", 2, "--seed", "1", "--minutes", "1")):
            with open(os.path.join(directory, "out"), "w") as out:
                done = subprocess.run([f"{BUILD}/{program}", *flags], stdout=out, timeout=60,
                                      stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                      preexec_fn=file_size_limit(10))
            assert done.returncode == code, done
            assert b"stdout cannot be written" in done.stderr, done


def test_a_trace_that_is_not_whole_is_an_error():
    seed = (f"{BUILD}/pulsesim", "--seed", "1", "--minutes", "1", "--peers", "20", "--trace")
    with tempfile.TemporaryDirectory() as directory:
        trace = os.path.join(directory, "trace")
        for path, limit, reason in (("/dev/full", None, b"No space left"),
                                    (trace, file_size_limit(10_000), b"File too large")):
            done = subprocess.run([*seed, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, timeout=60, preexec_fn=limit)
            assert done.returncode == 2, done
            assert path.encode() in done.stderr and reason in done.stderr, done


def test_a_hangup_leaves_a_report_that_is_marked():
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        def hang_up(process):
            time.sleep(2)
            process.send_signal(number)

        with Server("epoll", scheme="auto") as server:
            load = Load(ws(server.port), "-n", "10", "-d", "30s", "--heartbeat-interval", "200ms",
                        during=hang_up)
        assert load.code == INCOMPLETE, load.text()
        assert load["run"]["cut_short"], load["run"]
        assert load["verdict"]["state"] == "incomplete", load["verdict"]
        assert f"CUT SHORT by {number.name}" in load.sentences(), load.words


def test_find_max_that_is_interrupted_reports_the_best_so_far():
    """Interrupted in the trial after one that met: that is printed, and its run is in the file."""
    said = ""

    def interrupt(process):
        nonlocal said
        deadline = time.monotonic() + 120
        # On a busy machine a trial may be invalid; the search goes on with a smaller load.
        while " met " not in said:
            part = os.read(process.stderr.fileno(), 65536).decode()
            if part == "" or time.monotonic() > deadline:
                raise Skipped("this machine was too busy for one valid trial: " + said)
            said += part
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)

    with Server("epoll", scheme="auto") as server:
        load = Load(f"tcp://127.0.0.1:{server.port}", "-d", "2s", "--repeat", "1", "--find-max",
                    "refused=0", during=interrupt)
    met = [int(line.split()[0]) for line in (said + load.complaints).splitlines()
           if " connections  met " in line]
    best = int(load.words)
    assert best > 0 and best == met[-1], load.text()
    assert load.code == INCOMPLETE and "interrupted" in load.complaints, load.text()
    assert load["counts"]["open"] == best, load.text()


# -------------------------------------------------------------------------- what peers send

def test_what_a_peer_sends_is_escaped_in_every_output():
    def hostile(peer, _):
        text = b'\xff\xfe\xc2\x9b2J\x1b[2J<script>"'
        peer.sendall(b"\xb7\x08" + (2 + len(text)).to_bytes(2, "big") + bytes(4) +
                     (1008).to_bytes(2, "big") + text)
        peer.recv(65536)
        time.sleep(3)

    with Peer(hostile) as peer, tempfile.TemporaryDirectory() as directory:
        page = os.path.join(directory, "page.html")
        for name in ("file", "-"):
            flags = ["--json", "-"] if name == "-" else []
            load = Load(f"tcp://127.0.0.1:{peer.port}", "-n", "2", "-d", "1s", "--connect-timeout",
                        "2s", "--report", page, *flags, json_file=name == "file")
            assert load.code == NOT_CONNECTED, load.text()
            for shown in (load.words, load.complaints):
                assert "\x1b" not in shown and "\x9b" not in shown, repr(shown)
            with open(page, "rb") as file:
                text = file.read()
            assert b"<script" not in text and b"\x1b" not in text and b"\xc2\x9b" not in text
            text.decode("utf-8")


def test_an_echo_of_what_was_not_sent_is_not_counted():
    """Also an instant whose distance from now is not a number of 64 bits."""
    def forge(peer, request):
        peer.sendall(upgrade(request))
        forged = b"pulse.1\n" + (-2**63).to_bytes(8, sys.byteorder, signed=True) * 2
        peer.sendall(b"\x82" + bytes([len(forged)]) + forged)
        while peer.recv(65536):
            pass

    with Peer(forge) as peer:
        load = Load(ws(peer.port), "-n", "3", "-d", "2s", "--no-hello", "--message-rate", "10/s")
    counts = load["counts"]
    assert counts["messages_returned"] == 0 and counts["messages_lost"] > 5, counts
    assert "came back" in load.words and "lost" in load.sentences(), load.words


if __name__ == "__main__":
    sys.exit(run_tests(globals(), at_once=2))
