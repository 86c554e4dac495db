#!/usr/bin/env python3
"""The scripts that measure, as their user calls them: what they print, twice, and how they refuse.

Ends with `N passed, N failed`.
"""
import json
import os
import pty
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import BUILD, run_tests  # noqa: E402: its path comes first

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "perf"))
from density_report import above_empty  # noqa: E402: its path comes first

RUN = os.path.join(ROOT, BUILD, "run")
SCRIPTS = ["tools/perf/demo.sh", "tools/perf/density.sh", "tools/perf/million.sh",
           "tools/perf/million.py", "tools/perf/answers.py", "tools/perf/bare_server.py",
           "tools/perf/drain.py",
           "tools/perf/memory_group.py", "tools/perf/density_report.py", "bench/run.py",
           "bench/instructions.py", "bench/versus.py"]
# As a user's shell has it: not inside the make that runs this test.
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}


def run(*command):
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def run_demo():
    """What `make run` prints, twice as a rule; the last of a repeated flag holds."""
    code, out, err = run("make", f"BUILD={BUILD}", "run",
                         "ARGS=--connections 900 --connections 400 --duration 4s")
    assert code in (0, 2), (code, out, err)  # 2: make's, of a run that is INVALID
    with open(os.path.join(RUN, "report.json"), encoding="utf-8") as file:
        return out, json.load(file)


def test_a_second_run_is_as_complete_as_the_first():
    for _ in range(2):
        out, report = run_demo()
        assert report["run"]["wanted"] == 400, report["run"]
        assert report["detection"]["server_closes"]["idle_timeout"] > 0, report["detection"]
        assert "The server" in out and "Written     page: " in out, out
        widest = max(out.splitlines(), key=len)
        assert len(widest) <= 80, widest
        names = sorted(os.listdir(RUN))
        assert names == ["report.html", "report.json", "server.group", "server.json",
                         "server.log"], names
        with open(os.path.join(RUN, "server.json"), encoding="utf-8") as file:
            uptimes = [json.loads(line)["uptime_s"] for line in file]
        assert uptimes == sorted(uptimes), "reports of an earlier server are in the file"


def test_bytes_per_connection_are_above_the_empty_server():
    _, report = run_demo()
    server = report["server"]
    above = server["rss_bytes"] - server["rss_empty_bytes"]
    assert 0 <= above, server
    # pulseload's definition is that of density.sh.
    ours = above_empty(server["rss_bytes"], server["rss_empty_bytes"], server["open"])
    assert abs(server["rss_bytes_per_connection"] - (ours or 0)) < 1, server
    with open(os.path.join(RUN, "server.group"), encoding="utf-8") as file:
        group = file.read()
    if not group:
        assert server["kernel_bytes"] is None, server
        print("        no cgroup could be made here: the kernel's bytes are not reported")
        return
    # The socket's file, inode and place in the watch set: 1.4 KiB, and with the socket 3.9.
    assert 1_000 < server["kernel_bytes_per_connection"] < 6_000, server
    assert not os.path.exists(group), "the cgroup is left behind"


def density(*numbers, as_json="yes"):
    """The last part of density.sh, of measurements that the caller makes up."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as stats:
        stats.write('{"total": {"connections": 1000}, "backend": "epoll"}')
        stats.flush()
        return run(os.path.join(ROOT, "tools/perf/density_report.py"), as_json, "1000", stats.name,
                   *(str(number) for number in numbers))


def test_density_reports_nothing_that_cannot_be():
    rss, kernel = "rss_bytes_per_connection", "kernel_bytes_above_bare_per_connection"
    code, out, err = density(1_000_000, 1_072_000, 0, 4_000_000, 0, 4_200_000)
    assert code == 0 and err == "", (code, err)
    result = json.loads(out)
    assert (result[rss], result[kernel], result["missed"]) == (72.0, 200.0, []), result
    # Another program's memory was given back meanwhile: -114 B.
    code, out, err = density(1_000_000, 1_072_000, 0, 4_000_000, 0, 3_886_000)
    assert code == 0 and "-114.0 B above a bare socket, which cannot be" in err, (code, err)
    assert json.loads(out)[kernel] is None, out
    code, out, err = density(1_072_000, 1_000_000, "", "", "", "")
    assert code == 1 and "cannot be: not reported" in err and "not measured" in err, (code, err)
    assert json.loads(out)[rss] is None, out
    _, out, _ = density(1_072_000, 1_000_000, 0, 4_000_000, 0, 3_886_000, as_json="no")
    assert "bar" not in out and "met" not in out, out
    code, out, _ = density(1_000_000, 1_101_000, 0, 4_000_000, 0, 4_261_000)
    assert code == 1 and json.loads(out)["missed"] == [rss, kernel], out


def test_the_table_is_seen_while_it_runs():
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        ["make", f"BUILD={BUILD}", "run", "ARGS=--connections 200 --duration 4s"], cwd=ROOT,
        env=ENVIRONMENT, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen, live_at, ended_at = b"", None, None
    while True:
        try:
            piece = os.read(control, 4096)
        except OSError:  # the terminal's last user has gone
            break
        if not piece:
            break
        seen += piece
        if live_at is None and b"heartbeats" in seen:
            live_at = time.monotonic()
    ended_at = time.monotonic()
    process.wait(timeout=30)
    os.close(control)
    assert live_at is not None, seen.decode()
    assert ended_at - live_at > 1.5, f"shown {ended_at - live_at:.1f} s before the end"


def test_every_script_has_a_help_and_refuses_what_it_does_not_know():
    for script in SCRIPTS:
        for flag in ("--help", "-h"):
            code, out, err = run(os.path.join(ROOT, script), flag)
            assert code == 0 and os.path.basename(script) in out and err == "", (script, code, err)
            assert not any(line.startswith("#") for line in out.splitlines()), out
        code, out, err = run(os.path.join(ROOT, script), "--fly")
        assert code == 2 and "--fly" in err + out and "Traceback" not in err, (script, code, err)
    for script in ("tools/perf/density.sh", "tools/perf/million.sh"):
        code, _, err = run(os.path.join(ROOT, script), "--connections")
        assert code == 2 and "--connections needs a value" in err, err
    for flag, value in (("--connections", "2x"), ("--connections", "0"),
                        ("--heartbeat-interval", "1m")):
        code, out, err = run(os.path.join(ROOT, "tools/perf/million.sh"), flag, value)
        assert code == 2 and value in err and "see --help" in err, (flag, value, err)
    code, out, err = run(os.path.join(ROOT, "tools/perf/million.sh"), "--connections", "3000M")
    assert code == 2 and "give --connections less" in err, err


def test_a_stdout_that_is_full_is_an_error_in_words():
    for script in ("tools/perf/million.py", "tools/perf/memory_group.py", "bench/run.py"):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([os.path.join(ROOT, script), "--help"], stdout=full,
                                  stderr=subprocess.PIPE, timeout=20)
        err = done.stderr.decode()
        assert done.returncode == 1 and "stdout: No space left on device" in err, (script, err)
        assert "Traceback" not in err and "Exception" not in err, err


def test_a_word_that_no_bench_holds_is_an_error():
    # A binary without a matching row, as Google Benchmark behaves: it writes no rows.
    code, out, err = run(os.path.join(ROOT, "bench/run.py"), "--only", "no_such_row", "/bin/true")
    assert code == 2 and "--only 'no_such_row'" in err, (code, out, err)
    code, _, err = run(os.path.join(ROOT, "bench/run.py"), "--only")
    assert code == 2 and "needs a word" in err, err


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
