#!/usr/bin/env python3
"""How pulsewheel is operated while it serves: outputs that are not read, signals, reloads, and a
reactor that is stuck. On each backend; ends with `N passed, N failed`.
"""
import collections
import fcntl
import json
import os
import pty
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from binary_peer import (DATA, GOODBYE, HELLO, INTERVAL, PING, PONG,  # noqa: E402: the path
                         WELCOME, frame)
from admin import Admin  # noqa: E402
from frozen import Frozen  # noqa: E402
from server import BUILD, Server, free_port, run_over_backends  # noqa: E402


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def receive(peer):
    """The next frame that is not a ping: (kind, payload); None at the end."""
    while True:
        head = read_exactly(peer, 8)
        if head is None:
            return None
        _, kind, length, _ = struct.unpack(">BBHI", head)
        payload = read_exactly(peer, length)
        if kind != PING:
            return kind, payload


def read_exactly(peer, count):
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        if not more:
            return None
        data += more
    return data


def wait_until(condition, what, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)


class Stuck:
    """A pipe that is full and not read."""

    def __init__(self):
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.write_end, False)
        try:
            while True:
                os.write(self.write_end, b"." * 512)
        except BlockingIOError:
            pass
        os.set_blocking(self.write_end, True)

    def read_until(self, wanted, timeout_s=10):
        """Reads it from now on, until `wanted` has come; all that came."""
        os.set_blocking(self.read_end, False)
        data, deadline = b"", time.monotonic() + timeout_s
        while wanted not in data:
            assert time.monotonic() < deadline, data[-2000:]
            try:
                data += os.read(self.read_end, 65536)
            except BlockingIOError:
                time.sleep(0.02)
        return data

    def close(self):
        os.close(self.read_end)
        os.close(self.write_end)


class Process:
    """A pulsewheel with outputs of the test's choice, on a port of the test's choice."""

    def __init__(self, backend, *flags, **outputs):
        self.port = free_port()
        outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **outputs}
        self.process = subprocess.Popen(
            [f"{BUILD}/pulsewheel", "--listen", f"tcp://127.0.0.1:{self.port}", "--backend",
             backend, "--max-connections", "1k", *flags], stdin=subprocess.DEVNULL, **outputs)

    def __enter__(self):
        def listens():
            assert self.process.poll() is None, "it ended"
            try:
                connect(self.port).close()
                return True
            except ConnectionRefusedError:
                return False
        try:
            wait_until(listens, "does not listen")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self, within_s=8):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=within_s)


def serve_some(port, count=100):
    """That many peers come, are answered and go."""
    for number in range(count):
        with connect(port) as peer:
            peer.sendall(frame(PING, number))
            assert receive(peer) == (PONG, b"")


# ---------------------------------------------------------------------------------------- outputs

def test_serves_and_stops_with_a_stderr_that_is_not_read(backend):
    stuck = Stuck()
    with Process(backend, "--log-level", "debug", stderr=stuck.write_end) as server:
        serve_some(server.port)
        assert server.stop() == 0
    stuck.close()


def test_counts_the_log_lines_that_it_dropped(backend):
    stuck = Stuck()
    with Process(backend, "--log-level", "debug", stderr=stuck.write_end) as server:
        for _ in range(15000):  # a line of about 100 B each, and 1 MiB of them waits
            connect(server.port).close()
        serve_some(server.port, 5)
        text = stuck.read_until(b" lines while it was not read")
        assert b"log: stderr: dropped " in text
        assert server.stop() == 0
    stuck.close()


def by_default(**more):
    """An environment in which --log-format is what it is by default."""
    hidden = ("PULSEWHEEL_LOG_FORMAT", "NO_COLOR", "JOURNAL_STREAM")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "TERM": "xterm", **more}


def logged_to_a_file(backend, path, *flags, **environment):
    with open(path, "w") as file:
        with Process(backend, *flags, stderr=file, env=by_default(**environment)) as server:
            assert server.stop() == 0
    with open(path) as file:
        return file.read()


def test_without_a_terminal_the_log_is_json(backend):
    with tempfile.TemporaryDirectory() as directory:
        lines = logged_to_a_file(backend, f"{directory}/log").splitlines()
        objects = [json.loads(line) for line in lines]
        assert len(objects) > 3 and all(set(line) == {"time", "level", "message"}
                                        for line in objects), objects
        assert any(line["message"].startswith("listening on tcp://") for line in objects), objects


def test_the_journal_gets_priorities_and_no_times(backend):
    """stderr is a file here; JOURNAL_STREAM names it as systemd names a socket to the journal."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/log"
        open(path, "w").close()
        status = os.stat(path)
        stream = f"{status.st_dev}:{status.st_ino}"
        text = logged_to_a_file(backend, path, JOURNAL_STREAM=stream)
        assert re.match(r"<6>pulsewheel [0-9.]+\n", text), text
        assert "<6>listening on tcp://" in text, text
        assert all(re.match(r"<[3467]>[^<]", line) for line in text.splitlines()), text
        text = logged_to_a_file(backend, path, "--log-format", "json", JOURNAL_STREAM=stream)
        for line in text.splitlines():
            json.loads(line.removeprefix("<6>").removeprefix("<4>"))
        # Another program's stream, inherited: stderr is not it.
        assert logged_to_a_file(backend, path, JOURNAL_STREAM=stream + "0").startswith("{")


def shown_on_a_terminal(backend, **environment):
    control, terminal = pty.openpty()
    with Process(backend, stderr=terminal, env=by_default(**environment)) as server:
        assert server.stop() == 0
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(control, 65536)
        except OSError:  # all of it was read, and no program has it open
            break
    os.close(control)
    return shown.decode()


def test_a_terminal_is_shown_text_in_colour(backend):
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "
    text = shown_on_a_terminal(backend)
    assert re.search(line + "\x1b\\[32minfo \x1b\\[m listening on tcp://", text), text
    for off in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        text = shown_on_a_terminal(backend, **off)
        assert re.search(line + "info  listening on tcp://", text) and "\x1b" not in text, text


def test_stops_with_a_stdout_that_is_not_read(backend):
    stuck = Stuck()
    with Process(backend, "--stats-interval", "100ms", stdout=stuck.write_end) as server:
        time.sleep(0.5)
        serve_some(server.port, 5)
        assert server.stop() == 0
    stuck.close()


def test_stops_with_a_fifo_that_is_not_read(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/fifo"
        os.mkfifo(path)
        with Process(backend, "--stats-interval", "100ms", "--stats-json", path) as server:
            time.sleep(0.3)
            serve_some(server.port, 5)
            assert server.stop() == 0
        with Process(backend, "--stats-interval", "100ms", "--stats-json", path) as server:
            with open(path, "rb") as reader:
                json.loads(reader.readline())  # a reader that comes later gets whole objects
                time.sleep(1)  # and stops reading
                serve_some(server.port, 5)
                assert server.stop() == 0


def test_survives_signals_and_a_file_size_limit(backend):
    with tempfile.TemporaryDirectory() as directory:
        log = f"{directory}/log"
        with Process(backend, "--log-file", log, "--log-level", "debug", preexec_fn=lambda:
                     resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))) as server:
            for number in (signal.SIGUSR2, signal.SIGXFSZ, signal.SIGPIPE):
                server.process.send_signal(number)
            serve_some(server.port)
            assert os.path.getsize(log) <= 4096
            assert server.stop() == 0


def test_opens_its_files_anew_on_sigusr1(backend):
    with tempfile.TemporaryDirectory() as directory:
        log, stats = f"{directory}/log", f"{directory}/stats"
        with Process(backend, "--log-file", log, "--stats-json", stats, "--stats-interval",
                     "100ms") as server:
            wait_until(lambda: os.path.exists(stats), "no statistics")
            os.rename(log, log + ".1")
            os.rename(stats, stats + ".1")
            server.process.send_signal(signal.SIGUSR1)
            wait_until(lambda: os.path.exists(log) and os.path.exists(stats), "not opened anew")
            serve_some(server.port, 5)
            assert server.stop() == 0
        with open(log) as file:
            text = file.read()
        assert "anew" in text and "ended:" in text, text
        with open(stats) as file:
            assert json.loads(file.read().splitlines()[-1])["last"] is True


# ---------------------------------------------------------------------------------------- reloads

class Configured:
    """A server with a config file that the test rewrites."""

    def __init__(self, backend, text, *flags):
        self.directory = tempfile.TemporaryDirectory()
        self.path = f"{self.directory.name}/config.toml"
        self.write(text)
        self.server = Server(backend, "--config", self.path, *flags)

    def write(self, text):
        with open(self.path, "w") as file:
            file.write(text)

    def reload(self, text):
        """What the log says of it."""
        self.write(text)
        return self.hang_up()

    def hang_up(self):
        before = len(self.server.text())
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reload" in self.server.text()[before:], lambda: self.server.text())
        time.sleep(0.1)
        return self.server.text()[before:]

    def check(self):
        return subprocess.run([f"{BUILD}/pulsewheel", "--config", self.path, "--check-config"],
                              capture_output=True, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.__exit__()
        self.directory.cleanup()


def hears(peer, wanted):
    """The next frame of that kind."""
    while (heard := receive(peer))[0] != wanted:
        pass
    return heard[1]


def test_steps_of_overload_are_entered_and_left(backend):
    """Memory is short by a limit below what the server has, and then not any more: no step depends
    on the speed of this machine."""
    def config(last_step, memory):
        return (f'overload = "{last_step}"\noverload-memory = "{memory}"\n'
                'overload-step = "100ms"\non-message = "echo"\nheartbeat-interval = "30s"\n')
    with Configured(backend, config("refuse", "1TiB"), "--reactors", "1",
                    "--stats-interval", "100ms") as configured:
        server = configured.server

        def reaches(step):
            wait_until(lambda: server.stats()["total"]["overload_step"] == step, server.text, 30)

        def is_answered():
            inside.sendall(frame(PING, 1))
            hears(inside, PONG)
        silent = [connect(server.port) for _ in range(20)]
        for peer in silent:
            peer.sendall(frame(PING, 1))
            assert receive(peer)[0] == PONG
        inside = connect(server.port)
        is_answered()

        configured.reload(config("refuse", "1MiB"))
        reaches(1)
        with connect(server.port) as refused:
            assert b"overloaded" in refused.recv(4096)
        is_answered()
        configured.reload(config("stretch", "1MiB"))
        assert struct.unpack(">II", hears(inside, INTERVAL)) == (60_000, 180_000)
        reaches(2)
        configured.reload(config("drop", "1MiB"))
        reaches(3)
        inside.sendall(frame(DATA, 2, b"left out"))
        is_answered()  # and nothing comes before it
        assert server.stats()["total"]["messages_echoed"] == 0
        configured.reload(config("close", "1MiB"))
        assert hears(silent[0], GOODBYE)[2:].startswith(b"overloaded")
        is_answered()
        assert "memory: overload step 'close' (entered): at " in server.text(), server.text()

        configured.reload(config("close", "1TiB"))
        assert struct.unpack(">II", hears(inside, INTERVAL)) == (30_000, 90_000)
        reaches(0)
        assert "memory: overload step 'none' (back to it): at 0 %" in server.text(), server.text()
        with connect(server.port) as welcome:
            welcome.sendall(frame(PING, 1))
            assert receive(welcome)[0] == PONG
        inside.sendall(frame(DATA, 3, b"not any more"))
        assert hears(inside, DATA) == b"not any more"
        total = server.stats()["total"]
        assert total["overload_steps"] == 4 and total["messages_dropped"] == 1, total
        assert total["closed_by_reason"]["overloaded"] >= 1, total


class Lossy:
    """Peers of 127.0.77.0/24 that come and say nothing more, some 200 a second, while it is
    entered; each is evicted. And 20 of other networks that beat."""

    def __init__(self, port):
        self.port = port
        self.over, self.losing = threading.Event(), threading.Event()
        self.lively = [self.come(f"127.0.{i}.1") for i in range(1, 21)]
        self.threads = [threading.Thread(target=self.beat), threading.Thread(target=self.lose)]

    def come(self, source):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20,
                                        source_address=(source, 0))

    def beat(self):
        while not self.over.wait(0.3):
            for peer in self.lively:
                peer.sendall(frame(PING, 1))

    def lose(self):
        peers = collections.deque()
        while not self.over.wait(0.1):
            if self.losing.is_set():
                peers.extend(self.come(f"127.0.77.{i}") for i in range(1, 21))
            while len(peers) > 1_000:
                peers.popleft().close()
        for peer in peers:
            peer.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        for peer in self.lively:
            peer.close()


def test_a_prefix_that_is_lost_is_an_anomaly_that_degrades(backend):
    """Heartbeats and samples are short, and nothing has to happen within a time: the loss goes on
    until it was found, and it is an anomaly by far, however unquiet this machine is."""
    config = ('on-anomaly = "{}"\nanomaly-interval = "100ms"\noverload = "close"\n'
              'overload-step = "100ms"\noverload-lag = "1h"\noverload-memory = "1TiB"\n'
              'heartbeat-interval = "1s"\nheartbeat-timeout = "3s"\nledger = "1k"\n')
    with Configured(backend, config.format("log"), "--admin", "127.0.0.1:0", "--reactors", "2",
                    "--stats-interval", "100ms") as configured:
        server = configured.server
        wait_until(lambda: "admin endpoint on" in server.text(), server.text)
        admin = Admin(re.search(r"admin endpoint on (\S+),", server.text())[1])

        def anomalies():
            return admin.get("/api/v1/anomalies")

        def evictions():
            return [event for event in anomalies()["events"] if event["series"] == "evictions"]
        with Lossy(server.port) as peers:
            wait_until(lambda: anomalies()["samples"] >= 40, anomalies, 60)
            assert evictions() == []
            peers.losing.set()
            wait_until(lambda: evictions() and evictions()[-1]["prefix"], anomalies, 60)
            event = evictions()[-1]
            assert event["prefix"]["of"] == "127.0.77.0/24" and event["prefix"]["part"] > 0.8, event
            assert event["peak"] > event["normal"] + 5 and event["spreads"] > 3, event
            assert event["since"] <= event["raised"] and event["examined"] > 0, event
            assert server.stats()["total"]["overload_steps"] == 0, "it only logs"

            def top():
                return subprocess.run(
                    [f"{BUILD}/pulsectl", "--admin", admin.address, "top", "--count", "1"],
                    stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode()
            wait_until(lambda: re.search(
                r"^anomaly: evictions, peak [\d.]+, normal [\d.]+, since \S+; "
                r"from 127\.0\.77\.0/24 \(\d+ %\)$", top(), re.M), top, 60)

            configured.reload(config.format("degrade"))
            wait_until(lambda: server.stats()["total"]["overload_step"] == 2, server.text, 60)
            assert "anomalies: overload step 'stretch' (entered)" in server.text(), server.text()
            peers.losing.clear()
            wait_until(lambda: server.stats()["total"]["overload_step"] == 0, server.text, 90)
            assert evictions()[-1]["over"], evictions()
            assert "anomaly: evictions" not in top(), "it is over"
            assert server.stats()["total"]["messages_dropped"] == 0
            assert "overload step 'drop'" not in server.text(), "further than a guess may lead"
            log = server.text()
            assert re.search(r"anomaly \d+: evictions: \d+ connections in 100ms", log), log
            assert re.search(r"anomaly \d+: evictions: over after ", log), log
            metrics = admin.ask("GET", "/metrics").body.decode()
            assert re.search(r'^pulsewheel_anomalies_total{series="evictions"} [1-9]', metrics,
                             re.M), metrics
            configured.reload(config.format("off"))
            wait_until(lambda: anomalies()["on_anomaly"] == "off", anomalies)
            said = configured.reload('on-anomaly = "degrade"\n')
            assert "'degrade' has no step that it may take while --overload is off" in said, said


def test_a_step_for_memory_is_left_when_the_peak_is_over(backend):
    """Of messages that are not whole, whose buffers then are free and stay in RSS, since the last
    peers hold what lies behind them."""
    def config(memory):
        return (f'overload = "refuse"\noverload-memory = "{memory}"\noverload-step = "100ms"\n'
                'heartbeat-interval = "30s"\n')
    with Configured(backend, config("1TiB"), "--reactors", "1",
                    "--stats-interval", "100ms") as configured:
        server = configured.server

        def reaches(step):
            wait_until(lambda: server.stats()["total"]["overload_step"] == step, server.text, 30)

        def held():
            return server.stats()["total"]["memory"]["buffers_bytes"]
        before = server.stats()["rss_bytes"]
        peers = [connect(server.port) for _ in range(250)]
        part = frame(DATA, 1, bytes(65_000))[:-100]
        for peer in peers:
            peer.sendall(part)
        wait_until(lambda: held() > 14_000_000, server.text)
        configured.reload(config(f"{(before + 7_000_000) * 100 // 95 // 1024}KiB"))
        reaches(1)
        for peer in peers[:230]:
            peer.close()
        wait_until(lambda: held() < 3_000_000, server.text)
        reaches(0)


def test_a_reload_names_what_it_applied_and_what_waits(backend):
    with Configured(backend, 'heartbeat-interval = "30s"\n') as configured:
        said = configured.reload('heartbeat-interval = "20s"\nmax-connections = 5000\n'
                                 'on-message = "echo"\nlog-format = "text"\n')
        assert "reload: heartbeat-interval: 30s -> 20s\n" in said, said
        assert "reload: heartbeat-timeout: 90s -> 1m\n" in said, said
        assert "reload: max-connections: 100k -> 5k waits for a restart\n" in said, said
        assert "reload: on-message: discard -> echo waits for a restart\n" in said, said
        assert "reloaded: 2 settings changed, 2 wait for a restart\n" in said, said
        with connect(configured.server.port) as peer:
            peer.sendall(frame(HELLO, 1, b'{"user":"u"}'))
            _, welcome = receive(peer)
            assert json.loads(welcome)["interval_ms"] == 20000, welcome
            peer.sendall(frame(5, 2, b"x") + frame(PING, 3))
            assert receive(peer)[0] == PONG, "on-message was not applied"
        assert "reloaded: 0 settings changed, 2 wait" in configured.hang_up(), "as before"


def test_a_reload_with_an_error_changes_nothing(backend):
    with Configured(backend, 'heartbeat-interval = "30s"\n') as configured:
        peer = connect(configured.server.port)
        # The last three are no settings: a reload is a serve, and cannot become another action.
        for wrong in ('liveness = "sometimes"\n', 'heartbeat-timeout = "5s"\n', "=\n",
                      "print-config = true\n", "check-config = true\n", "help = true\n"):
            said = configured.reload('heartbeat-interval = "20s"\n' + wrong)
            # FILE:LINE: OFFENDER: REASON; REMEDY, as --check-config reports it.
            assert f"nothing was changed: {configured.path}:2: " in said, said
            assert "; " in said and "->" not in said and "reloaded" not in said, said
            check = configured.check()
            assert check.returncode == 2, check
            assert check.stderr.removeprefix("pulsewheel: ").strip() in said, (check, said)
        peer.settimeout(0.3)
        try:
            raise AssertionError(f"told of a change: {receive(peer)}")
        except TimeoutError:
            pass
        peer.close()


def test_a_reload_opens_other_statistics_or_changes_nothing(backend):
    with tempfile.TemporaryDirectory() as directory:
        config, log = f"{directory}/config.toml", f"{directory}/log"
        first, second = f"{directory}/first", f"{directory}/second"

        def reload(text):
            with open(config, "w") as file:
                file.write(text)
            server.process.send_signal(signal.SIGHUP)

        def logged(words):
            with open(log) as file:
                return words in file.read()
        with open(config, "w") as file:
            file.write(f'stats-json = "{first}"\nstats-interval = "100ms"\n')
        with Process(backend, "--config", config, "--log-file", log) as server:
            reload(f'stats-json = "{directory}/none/file"\nheartbeat-interval = "7s"\n')
            wait_until(lambda: logged(f"nothing was changed: {config}:1: stats-json: "), "no error")
            reload(f'stats-json = "{second}"\nstats-interval = "200ms"\n')
            wait_until(lambda: logged(f"reload: stats-json: {first} -> {second}\n"), "not applied")
            wait_until(lambda: os.path.exists(second) and os.path.getsize(second) > 0, "no second")
            assert server.stop() == 0
        with open(second) as file:
            assert json.loads(file.read().splitlines()[-1])["last"] is True


def test_a_reload_checks_heartbeats_against_the_tick_that_runs(backend):
    with Configured(backend, "", "--tick", "1ms") as configured:
        assert "nothing was changed" in configured.reload('heartbeat-timeout = "20h"\n')
    with Configured(backend, 'tick = "1ms"\n') as configured:
        said = configured.reload('tick = "128ms"\nheartbeat-timeout = "20h"\n')
        assert "nothing was changed" in said and "wheel of this --tick" in said, said


def test_a_reload_keeps_a_config_that_came_from_a_pipe(backend):
    port = free_port()
    process = subprocess.Popen(
        ["sh", "-c", 'printf \'heartbeat-interval = "7s"\\n\' | "$0" "$@"', f"{BUILD}/pulsewheel",
         "--listen", f"tcp://127.0.0.1:{port}", "--backend", backend, "--config", "/dev/stdin"],
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr))
    reader.start()
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                peer = connect(port)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, lines
                time.sleep(0.02)
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        with open(children) as file:
            server = next(int(pid) for pid in file.read().split()
                          if os.readlink(f"/proc/{pid}/exe").endswith("/pulsewheel"))
        os.kill(server, signal.SIGHUP)
        wait_until(lambda: any("pipe" in line for line in lines), lambda: "".join(lines))
        peer.sendall(frame(HELLO, 1, b'{"user":"u"}'))
        _, welcome = receive(peer)
        assert json.loads(welcome)["interval_ms"] == 7000, welcome
        os.kill(server, signal.SIGTERM)
        process.wait(timeout=20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # a session of the test's own
        process.wait()
        reader.join()
        process.stderr.close()


def test_a_reload_changes_the_log_level_and_the_statistics(backend):
    with Configured(backend, "") as configured:
        def come_and_go():
            before = len(configured.server.text())
            serve_some(configured.server.port, 1)
            time.sleep(0.3)
            return configured.server.text()[before:]
        assert "accepted from" not in come_and_go()
        assert "log-level" in configured.reload('log-level = "debug"\n')
        assert "accepted from" in come_and_go()
        configured.reload('log-level = "info"\n')
        assert "accepted from" not in come_and_go()
        # Flags win over the file: that of the statistics stays where it was.
        assert "stats-json" not in configured.reload('stats-json = "elsewhere"\n')


def test_a_reload_retunes_every_profile(backend):
    with Configured(backend, 'liveness = "any"\n') as configured:
        peers = []
        for profile in ("realtime", "mobile", "standard", "powersave"):
            peer = connect(configured.server.port)
            peer.sendall(frame(HELLO, 1, b'{"profile":"%s"}' % profile.encode()))
            kind, payload = receive(peer)
            assert kind == WELCOME
            peers.append((peer, json.loads(payload)["interval_ms"]))
        said = configured.reload('liveness = "roundtrip"\n')
        assert "reload: liveness: any -> roundtrip\n" in said, said
        for peer, interval_ms in peers:
            kind, payload = receive(peer)
            assert kind == INTERVAL, kind
            assert struct.unpack(">II", payload)[0] == interval_ms
            peer.close()


def test_named_profiles_have_the_timeouts_of_their_table(backend):
    with Server(backend) as server:
        for name, interval_ms, timeout_ms in (("realtime", 15000, 45000),
                                              ("standard", 30000, 90000),
                                              ("mobile", 60000, 120000),
                                              ("powersave", 300000, 600000)):
            with connect(server.port) as peer:
                peer.sendall(frame(HELLO, 1, b'{"user":"u","profile":"%s"}' % name.encode()))
                welcome = json.loads(receive(peer)[1])
                assert welcome["interval_ms"] == interval_ms, welcome
                assert welcome["timeout_ms"] == timeout_ms, welcome


# ------------------------------------------------------------------------------ a stuck reactor

def test_a_second_signal_ends_it_though_a_reactor_is_stuck(backend):
    with Server(backend, "--reactors", "1", "--max-connections", "100", "--drain-timeout",
                "60s") as server:
        peer = connect(server.port)
        with Frozen(server.reactor_task()) as frozen:
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert frozen.wait_for_end_of(server.process, 10) == 3
        assert "leaving it behind" in server.text(), server.text()
        peer.close()


def test_loses_no_order_to_a_reactor_that_is_stuck_for_a_while(backend):
    """Of 90 reloads the last is not lost, nor the drain that follows."""
    with Configured(backend, 'heartbeat-interval = "30s"\n', "--reactors", "1",
                    "--max-connections", "100", "--drain-timeout", "2s") as configured:
        server = configured.server
        peers = [connect(server.port) for _ in range(20)]
        for peer in peers:
            peer.sendall(frame(PING, 1))
            assert receive(peer)[0] == PONG
        with Frozen(server.reactor_task()):
            began = time.monotonic()
            for seconds in range(31, 121):
                configured.write(f'heartbeat-interval = "{seconds}s"\n')
                before = len(server.text())
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda: "reload" in server.text()[before:], server.text)
            wait_until(lambda: "have not acknowledged their orders" in server.text(), server.text)
            # Statistics every second do not wait for it each time, so that signals are acted on.
            assert time.monotonic() - began < 45, time.monotonic() - began
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        for peer in peers:
            last_interval, ended = 0, None
            while ended is None:
                kind, payload = receive(peer)
                if kind == INTERVAL:
                    last_interval = struct.unpack(">II", payload)[0]
                if kind == GOODBYE:
                    ended = payload[:2]
            assert last_interval == 120000, last_interval
            assert ended == struct.pack(">H", 1001), ended
            peer.close()
        assert server.process.wait(timeout=20) == 0, server.text()


if __name__ == "__main__":
    sys.exit(run_over_backends(globals(), at_once=2))
