#!/usr/bin/env python3
"""How both programs start where they get less than they want: under seccomp, in small cgroups, on
one core, with descriptors closed, on a port that is taken. Ends with `N passed, N failed`.
"""
import json
import os
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
import confine  # noqa: E402: its path comes first
from server import BACKENDS, BUILD, Server, Skipped, free_port, run_tests  # noqa: E402

PING = struct.pack(">BBHI", 0xB7, 1, 0, 7)
PONG = struct.pack(">BBHI", 0xB7, 2, 0, 7)
MIB = 1 << 20


def answers(port, host="127.0.0.1"):
    """Whether a server of the binary protocol answers a ping there."""
    with socket.create_connection((host, port), timeout=10) as peer:
        peer.sendall(PING)
        received = b""
        while len(received) < len(PONG):
            more = peer.recv(len(PONG) - len(received))
            if not more:
                return False
            received += more
        return received == PONG


def pulsewheel(*flags, before=None, timeout=20):
    """A pulsewheel that ends by itself."""
    return subprocess.run([f"{BUILD}/pulsewheel", *flags], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=timeout, preexec_fn=before)


INVALID = 3  # pulseload's exit code where the machine was too busy to measure on


def assert_served(done, counts, connections):
    """All were connected and answered, however slowly on a busy machine."""
    assert done.returncode in (0, INVALID), (done.returncode, done.stdout, done.stderr)
    assert counts["connected"] == connections and counts["connect_failures"] == 0, counts
    assert counts["pongs"] > 0 and counts["server_closes"] == 0, counts


def load(port, *flags, before=None, connections=50):
    """A short run of pulseload that must hold all its connections."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        done = subprocess.run(
            [f"{BUILD}/pulseload", "--target", f"tcp://127.0.0.1:{port}", "--connections",
             str(connections), "--duration", "1s", "--threads", "2", "--heartbeat-interval",
             "200ms", "--json", report.name, *flags],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
            preexec_fn=before)
        assert_served(done, json.load(report)["counts"], connections)
        return done


def lower_descriptors(limit):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def both(*steps):
    def run():
        for step in steps:
            step()
    return run


# ------------------------------------------------------------------------------------- seccomp

CONTAINER = ("unshare", "io_uring_setup", "io_uring_enter")


def test_serves_under_a_containers_seccomp_profile():
    with Server("auto", before=confine.refuse_calls(*CONTAINER)) as server:
        assert answers(server.port)
        text = server.text()
        assert "backend epoll" in text, text
        assert text.count("unshare(") == 1, "said once:\n" + text
        done = load(server.port, before=confine.refuse_calls(*CONTAINER))
        assert "unshare" in done.stdout + done.stderr, done.stdout + done.stderr
        assert server.stop() == 0, server.text()


def test_says_what_one_shared_descriptor_table_cannot_hold():
    before = both(lower_descriptors(4000), confine.refuse_calls("unshare"))
    done = pulsewheel("--max-connections", "100k", "--listen", "tcp://127.0.0.1:0", before=before)
    assert done.returncode == 1, done.stderr
    for word in ("--max-connections 100000", "share one descriptor table", "RLIMIT_NOFILE",
                 "unshare", "ulimit"):
        assert word in done.stderr, (word, done.stderr)
    with Server("epoll", "--max-connections", "2k", before=before) as server:
        assert answers(server.port)
    done = subprocess.run([f"{BUILD}/pulseload", "--target", "tcp://127.0.0.1:1", "--connections",
                           "9000"], capture_output=True, text=True, timeout=20, preexec_fn=before)
    assert done.returncode == 1 and "--connections 9000" in done.stderr, done.stderr
    assert "unshare" in done.stderr, done.stderr


def test_a_shared_table_has_its_size_before_the_first_connection():
    """Each doubling of one makes a reactor stand still for a grace period of the kernel."""
    def size_of(process):
        with open(f"/proc/{process.pid}/status") as file:
            return int(dict(line.split(":", 1) for line in file)["FDSize"])

    before = both(lower_descriptors(4000), confine.refuse_calls("unshare"))
    with Server("epoll", "--max-connections", "2048", before=before) as server:
        # 2,048 and what the reactors open for themselves.
        assert 2_048 < size_of(server.process) <= 4_096, size_of(server.process)
        load_run = subprocess.Popen(
            [f"{BUILD}/pulseload", "--target", f"tcp://127.0.0.1:{server.port}", "-n", "2000",
             "--connect-rate", "100/s", "--quiet"], preexec_fn=before, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            assert 2_000 < size_of(load_run) <= 4_096, size_of(load_run)
        finally:
            load_run.kill()
            load_run.wait()
    with Server("epoll", "--max-connections", "2048", before=lower_descriptors(4000)) as server:
        assert size_of(server.process) <= 256, "a table of one thread grows without a wait"


def test_shares_one_table_among_reactors_that_come_and_go():
    """Connections of several reactors in one table: each is served, and closed with its reactor."""
    before = confine.refuse_calls("unshare")
    # The last of them may wait for its turn longer than a handshake has by default.
    with Server("epoll", "--reactors", "4", "--max-connections", "300", "--handshake-timeout",
                "60s", before=before) as server:
        peers = [socket.create_connection(("127.0.0.1", server.port), timeout=10)
                 for _ in range(300)]
        for peer in peers:
            peer.sendall(PING)
            answer = peer.recv(8)
            assert answer == PONG, (answer, server.text())
        assert server.stop() == 0, server.text()
        for peer in peers:
            received = b""
            while more := peer.recv(4096):
                received += more
            assert received[1] == 6, received  # a goodbye
            peer.close()


def test_auto_takes_what_was_measured_to_be_faster_and_says_why():
    with Server("auto") as server:
        assert answers(server.port)
        assert "backend epoll (auto: io_uring costs less CPU only where" in server.text()
        assert server.stop() == 0


def test_refuses_a_ring_that_may_not_be_entered_if_it_was_asked_for():
    with Server("auto", before=confine.refuse_calls("io_uring_enter")) as server:
        assert answers(server.port)
        assert server.stop() == 0
    done = pulsewheel("--backend", "io_uring", "--listen", "tcp://127.0.0.1:0",
                      before=confine.refuse_calls("io_uring_enter"))
    assert done.returncode == 1 and "--backend io_uring: io_uring_enter" in done.stderr, done.stderr


def test_serves_without_prlimit():
    with Server("auto", before=confine.refuse_calls("prlimit64", "getrlimit")) as server:
        assert answers(server.port)
        load(server.port, before=confine.refuse_calls("prlimit64", "getrlimit"))
        assert server.stop() == 0, server.text()


def test_names_the_remedy_where_no_thread_can_be_started():
    """Not an exception: with clone3 refused, and with a full pids limit."""
    before = confine.refuse_calls("clone3")
    done = pulsewheel("--listen", "tcp://127.0.0.1:0", before=before)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "cannot be started" in done.stderr and "pids.max" in done.stderr, done.stderr
    with Server("epoll") as server:
        done = subprocess.run([f"{BUILD}/pulseload", "--target", f"tcp://127.0.0.1:{server.port}",
                               "--connections", "10", "--duration", "1s"], capture_output=True,
                              text=True, timeout=30, preexec_fn=before)
        assert done.returncode == 1 and "cannot be started" in done.stderr, done


def test_ends_where_the_pids_limit_stops_the_last_reactors():
    """Some reactors run when one cannot be started: they stop, and the process ends with 1."""
    group = None
    try:
        group = confine.pids_cgroup(5)
    except OSError as why:
        raise Skipped(f"no cgroup with a pids limit can be made: {why}")
    try:
        done = pulsewheel("--listen", "tcp://127.0.0.1:0", "--reactors", "16",
                          "--max-connections", "100", before=group.enter)
        assert done.returncode == 1, (done.returncode, done.stderr)
        assert "of 16 cannot be started" in done.stderr and "--reactors" in done.stderr, done.stderr
    finally:
        group.remove()


# ------------------------------------------------------------------------------- memory and cores

def test_starts_in_a_cgroup_of_200_mb():
    try:
        group = confine.memory_cgroup(200 * MIB)
    except OSError as why:
        raise Skipped(f"no cgroup with a memory limit can be made: {why}")
    try:
        done = pulsewheel("--max-connections", "1M", "--listen", "tcp://127.0.0.1:0",
                          "--reactors", "64", before=both(group.enter))
        assert done.returncode == 1, done.stderr
        assert "cgroup's memory limit leaves" in done.stderr, done.stderr
        with Server("auto", before=group.enter) as server:
            assert answers(server.port)
            text = server.text()
            assert "instead of the default 100000" in text and "cgroup" in text, text
            load(server.port, before=group.enter)
            assert server.stop() == 0, server.text()
    finally:
        group.remove()


def test_counts_the_address_space_limit():
    def before():
        resource.setrlimit(resource.RLIMIT_AS, (600 * MIB, 600 * MIB))
    done = pulsewheel("--max-connections", "1M", "--listen", "tcp://127.0.0.1:0", "--reactors",
                      "64", before=before)
    assert done.returncode == 1 and "RLIMIT_AS" in done.stderr, done.stderr


def test_stays_on_the_cores_that_are_allowed():
    core = max(os.sched_getaffinity(0))
    with Server("auto", "--pin", "--max-connections", "1k",
                before=lambda: os.sched_setaffinity(0, {core})) as server:
        assert answers(server.port)
        assert "1 cores, 1 reactors pinned" in server.text(), server.text()
        for task in os.listdir(f"/proc/{server.process.pid}/task"):
            assert os.sched_getaffinity(int(task)) == {core}
        load(server.port, before=lambda: os.sched_setaffinity(0, {core}))
        assert server.stop() == 0


def test_a_default_shrinks_and_what_was_asked_for_refuses():
    def low():
        lower_descriptors(1024)()
        # 20 reactors are too many for 2 cores, and not for all that this machine may have.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

    with Server("epoll", "--reactors", "1", before=low) as server:
        assert answers(server.port)
        assert "warn" in server.text() and "instead of the default 100000" in server.text()
    with Server("epoll", before=low) as server:
        text = server.text()
        assert "instead of the default 100000" in text, text
        reactors = int(text.split(" reactors")[0].rsplit(" ", 1)[1])
        assert reactors <= 4 * min(2, len(os.sched_getaffinity(0))), text
    done = pulsewheel("--reactors", "1", "--max-connections", "100k", "--listen",
                      "tcp://127.0.0.1:0", before=low)
    assert done.returncode == 1 and "--max-connections 100000" in done.stderr, done.stderr
    with Server("epoll", "--reactors", "20", "--max-connections", "100", before=low) as server:
        assert "20 reactors on" in server.text() and "warn" in server.text(), server.text()


# ------------------------------------------------------------------------------------ descriptors

def close_standard_descriptors():
    for descriptor in (0, 1, 2):
        os.close(descriptor)


def test_starts_with_descriptors_0_to_2_closed():
    """Nothing that is opened later takes their numbers: no log line lands in the statistics."""
    with tempfile.TemporaryDirectory() as directory:
        stats, port = f"{directory}/stats", free_port()
        # A shell closes them: subprocess keeps its own pipe open on one of them.
        process = subprocess.Popen(
            ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', f"{BUILD}/pulsewheel", "--listen",
             f"tcp://127.0.0.1:{port}", "--stats-json", stats, "--stats-interval", "100ms",
             "--log-level", "debug"])
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert answers(port)
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            for descriptor in (0, 1, 2):
                assert os.readlink(f"/proc/{process.pid}/fd/{descriptor}") == "/dev/null"
            done = subprocess.run(
                ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', f"{BUILD}/pulseload", "--target",
                 f"tcp://127.0.0.1:{port}", "--connections", "20", "--duration", "1s",
                 "--heartbeat-interval", "200ms", "--json", f"{directory}/report"], timeout=60,
                text=True)
            with open(f"{directory}/report") as report:
                assert_served(done, json.load(report)["counts"], 20)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        with open(stats) as file:
            for line in file:
                json.loads(line)


def test_a_start_that_runs_out_of_descriptors_ends():
    """With every limit from far too low to enough, and so with each open of the start refused."""
    inherited = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    messages = []
    try:
        for limit in range(max(inherited) + 4, 256):
            process = subprocess.Popen(
                [f"{BUILD}/pulsewheel", "--listen", "tcp://127.0.0.1:0", "--backend", "epoll",
                 "--reactors", "8", "--max-connections", "5"], text=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=inherited,
                preexec_fn=lower_descriptors(limit))
            # It ends by itself, or listens and is stopped; one that hangs is stopped too late.
            watchdog = threading.Timer(20, process.kill)
            watchdog.start()
            try:
                text = ""
                for line in process.stderr:
                    text += line
                    if "listening on" in line:
                        process.send_signal(signal.SIGTERM)
                code = process.wait()
            finally:
                watchdog.cancel()
                process.kill()
                process.wait()
                process.stderr.close()
            if "listening on" in text:
                assert code == 0, (limit, code, text)
                break
            assert code == 1, (limit, code, text)
            messages.append(text.splitlines()[-1])
            assert ";" in messages[-1], f"a limit of {limit} without a remedy: {messages[-1]}"
        else:
            raise AssertionError("never enough")
    finally:
        for descriptor in inherited:
            os.close(descriptor)
    doorbells = [text for text in messages if "eventfd: Too many open files; " in text]
    assert len(doorbells) > 1, messages


def full_pipe():
    """The write end of a pipe that is full, and its read end, which is not read."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"." * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(write_end, True)
    return read_end, write_end


def test_starts_with_a_stderr_that_is_not_read():
    port, (read_end, write_end) = free_port(), full_pipe()
    process = subprocess.Popen([f"{BUILD}/pulsewheel", "--listen", f"tcp://127.0.0.1:{port}"],
                               stderr=write_end, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                assert answers(port)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.05)
        done = subprocess.run(
            [f"{BUILD}/pulseload", "--target", f"tcp://127.0.0.1:{port}", "--connections", "20",
             "--duration", "1s", "--heartbeat-interval", "200ms", "--progress"], stderr=write_end,
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=30)
        assert done.returncode in (0, INVALID) and "20 of 20" in done.stdout, done
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(read_end)
        os.close(write_end)


# ----------------------------------------------------------------------------------- checked only

def test_a_check_finds_what_a_start_would_refuse():
    with tempfile.TemporaryDirectory() as directory:
        for flags, word in (
                (("--max-connections", "900M"), "--max-connections 900000000"),
                (("--listen", "tcp://192.0.2.1:9000"), "192.0.2.1"),
                (("--stats-json", f"{directory}/none/file"), "--stats-json"),
                (("--log-file", directory), "--log-file"),
                (("--backend", "io_uring"), "--backend io_uring")):
            before = confine.refuse_calls("io_uring_setup") if "--backend" in flags else None
            done = pulsewheel("--check-config", *flags, before=before)
            assert done.returncode == 1, (flags, done.stdout, done.stderr)
            assert word in done.stderr and ";" in done.stderr, (flags, done.stderr)
        path = f"{directory}/stats"
        done = pulsewheel("--check-config", "--stats-json", path, "--listen", "tcp://127.0.0.1:0")
        assert done.returncode == 0 and "makes sense" in done.stdout, done
        assert not os.path.exists(path), "a check creates nothing"
        # A service manager opens the ports that the server itself may not have.
        done = pulsewheel("--check-config", "--listen", "tcp://127.0.0.1:443",
                          before=confine.refuse_calls("bind", error=confine.EACCES))
        assert done.returncode == 0, done.stderr
        assert "warning: cannot listen on 'tcp://127.0.0.1:443': Permission denied" in done.stdout


def test_a_check_beside_the_server_that_runs_is_not_an_error():
    with Server("epoll") as server:
        done = pulsewheel("--check-config", "--listen", f"tcp://127.0.0.1:{server.port}")
        assert done.returncode == 0, done.stderr


def test_says_so_where_what_it_prints_is_lost():
    with open("/dev/full", "w") as full:
        for flag in ("--print-config", "--help", "--version", "--check-config"):
            done = subprocess.run([f"{BUILD}/pulsewheel", flag], stdout=full, text=True,
                                  stderr=subprocess.PIPE, timeout=20)
            assert done.returncode == 1, (flag, done)
            assert "stdout cannot be written: No space" in done.stderr, (flag, done)


# ------------------------------------------------------------------------------------------ ports

def test_refuses_a_port_on_which_another_pulsewheel_listens():
    for backend in BACKENDS:
        with Server(backend) as server:
            done = pulsewheel("--listen", f"tcp://127.0.0.1:{server.port}", "--backend", backend)
            assert done.returncode == 1, done.stderr
            for word in (str(server.port), "Address already in use", "--share-port"):
                assert word in done.stderr, done.stderr
            done = pulsewheel("--listen", f"tcp://*:{server.port}")
            assert done.returncode == 1, done.stderr
            assert answers(server.port)


def test_shares_a_port_if_asked_to():
    """The next server starts beside the last one, which need not know."""
    with Server("epoll") as first:
        process = subprocess.Popen(
            [f"{BUILD}/pulsewheel", "--listen", f"tcp://127.0.0.1:{first.port}", "--share-port"],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        try:
            for line in process.stderr:
                if "listening on" in line:
                    break
            else:
                raise AssertionError("the second did not start")
            assert first.stop() == 0
            assert answers(first.port), "the second took over"
        finally:
            process.kill()
            process.communicate()


def test_starts_again_where_its_connections_are_in_time_wait():
    port = free_port()
    listen = ("--listen", f"tcp://127.0.0.1:{port}")
    for _ in range(3):
        process = subprocess.Popen([f"{BUILD}/pulsewheel", *listen], stderr=subprocess.PIPE,
                                   stdin=subprocess.DEVNULL, text=True)
        try:
            text = ""
            for line in process.stderr:
                text += line
                if "listening on" in line:
                    break
            else:
                raise AssertionError(text)
            peer = socket.create_connection(("127.0.0.1", port), timeout=10)
            peer.sendall(PING)
            assert peer.recv(8) == PONG
            process.send_signal(signal.SIGTERM)  # the server closes first: TIME_WAIT is its
            while peer.recv(4096):
                pass
            peer.close()
            process.communicate(timeout=20)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()


def test_two_that_start_at_once_never_both_listen():
    for _ in range(5):
        port = free_port()
        racers = [subprocess.Popen(
            [f"{BUILD}/pulsewheel", "--listen", f"tcp://127.0.0.1:{port}"], text=True,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) for _ in range(2)]
        try:
            deadline = time.monotonic() + 10
            while all(racer.poll() is None for racer in racers):
                assert time.monotonic() < deadline, "both listen"
                time.sleep(0.02)
        finally:
            for racer in racers:
                racer.kill()
                racer.communicate()


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
