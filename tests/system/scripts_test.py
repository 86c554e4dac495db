#!/usr/bin/env python3
"""The scripts that measure, as their user calls them: what they print, twice, and how they refuse.

Ends with `N passed, N failed`.
"""
import argparse
import concurrent.futures
import contextlib
import json
import os
import pty
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest.mock
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import BUILD, Server, Skipped, free_port, run_tests  # noqa: E402: its path comes first

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "perf"))
from density_report import above_empty  # noqa: E402: its path comes first
from measuring import compare, flame_svg, hostcheck, significance, stacks  # noqa: E402
from measuring import syscalls, wakeups, workload  # noqa: E402
from measuring.host import Host  # noqa: E402
from measuring.tools import why_no_perf  # noqa: E402

RUN = os.path.join(ROOT, BUILD, "run")
MEASURING = [f"tools/perf/{name}.sh" for name in
             ("compare", "flame", "hostcheck", "record", "stat", "sweep", "syscalls", "wakeups")]
SCRIPTS = [*MEASURING, "tools/perf/demo.sh", "tools/perf/density.sh", "tools/perf/million.sh",
           "tools/perf/million.py", "tools/perf/scrapes.py", "tools/perf/answers.py",
           "tools/perf/bare_server.py", "tools/perf/drain.py", "tools/perf/storm.py",
           "tools/perf/demo_certificate.sh", "tools/perf/handshakes.py", "tools/perf/tls_storm.py",
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


def density(*numbers, as_json="yes", out=None, held=1000):
    """The last part of density.sh, of measurements that the caller makes up."""
    kept = () if out is None else ("--out", out, "--command", "density.sh --flag")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as stats:
        stats.write(f'{{"total": {{"connections": {held}}}, "backend": "epoll"}}')
        stats.flush()
        return run(os.path.join(ROOT, "tools/perf/density_report.py"), *kept, as_json, "1000",
                   stats.name, *(str(number) for number in numbers))


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


def test_density_keeps_its_report_where_the_others_do():
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "kept")
        code, printed, err = density(1_000_000, 1_072_000, 0, 4_000_000, 0, 4_200_000, out=out)
        assert code == 0 and err == "", (code, err)
        with open(os.path.join(out, "report.json"), encoding="utf-8") as file:
            report = json.load(file)
        assert report["schema"] == "perf/1" and report["script"] == "density", report
        assert report["command"] == "density.sh --flag", report["command"]
        assert report["figures"]["rss_bytes_per_connection"] == 72.0, report["figures"]
        assert json.loads(printed)["figures"] == report["figures"], printed
        with open(os.path.join(out, "report.txt"), encoding="utf-8") as file:
            assert "bar 100: met" in file.read()
        with open(os.path.join(out, "environment.json"), encoding="utf-8") as file:
            assert json.load(file) == report["environment"]
        # What a reader must know is kept, too.
        code, _, err = density(1_000_000, 1_072_000, 0, 4_000_000, 0, 4_200_000, out=out, held=900)
        assert code == 1 and "900 of 1000 were held" in err, (code, err)
        with open(os.path.join(out, "report.json"), encoding="utf-8") as file:
            assert json.load(file)["notes"] == ["900 of 1000 were held"]


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
                        ("--heartbeat-interval", "1m"), ("--tls-idle", "frozen"),
                        ("--protocol", "tcp")):
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


# --------------------------------------------------------------------------------- USDT probes

# Of the types of arguments in net/loop/usdt.h: bytes, negative where they are signed.
ARGUMENT_BYTES = {"uint8_t": 1, "bool": 1, "uint32_t": 4, "Index": 4, "int64_t": -8,
                  "const char*": 8}


def promised_probes():
    """Of net/loop/usdt.h: the names of the probes, and the sizes of their arguments."""
    with open(os.path.join(ROOT, "net/loop/usdt.h"), encoding="utf-8") as file:
        text = file.read()
    probes = {}
    for name, parameters in re.findall(r"inline void (\w+)\(([^)]*)\)", text):
        types = [re.match(r"(.+?)\s*\w+$", parameter.strip())[1]
                 for parameter in parameters.split(",")]
        probes[name] = [ARGUMENT_BYTES[kind] for kind in types]
    return probes


def noted_probes():
    """Of the program's ELF notes: (provider, name) to the sizes of arguments at each place."""
    done = subprocess.run(["readelf", "-n", f"{BUILD}/pulsewheel"], capture_output=True, text=True,
                          check=True, cwd=ROOT)
    notes = re.findall(r"Provider: (\S+)\s+Name: (\S+)\s+Location: \S+, Base: \S+, "
                       r"Semaphore: (\S+)\s+Arguments:([^\n]*)", done.stdout)
    probes = {}
    for provider, name, semaphore, arguments in notes:
        assert int(semaphore, 16) == 0, f"{name} has a semaphore"
        sizes = [int(size) for size in re.findall(r"(-?\d+)@\S+", arguments)]
        probes.setdefault((provider, name), []).append(sizes)
    return probes


def test_the_program_has_the_probes_that_are_promised():
    promised, noted = promised_probes(), noted_probes()
    assert set(promised) == {"accept", "frame", "probe", "evict", "close", "turn", "slice",
                             "mailbox"}, promised
    assert set(noted) == {("pulsewheel", name) for name in promised}, noted
    for (_, name), places in noted.items():
        for sizes in places:
            # The sign of a constant is that of the compiler's choice.
            assert sizes == promised[name], (name, sizes, promised[name])
    print(f"        {sum(map(len, noted.values()))} places of {len(promised)} probes")


BPF = os.path.join(ROOT, "tools", "perf", "bpf")


def test_bpftrace_scripts_name_probes_that_there_are():
    promised = promised_probes()
    scripts = sorted(os.listdir(BPF))
    assert len(scripts) >= 5 and all(name.endswith(".bt") for name in scripts), scripts
    with open(os.path.join(ROOT, "tools/perf/README.md"), encoding="utf-8") as file:
        table = file.read()
    used = set()
    for name in scripts:
        with open(os.path.join(BPF, name), encoding="utf-8") as file:
            text = file.read()
        assert f"bpftrace -p \"$(pidof pulsewheel)\" tools/perf/bpf/{name}" in text, name
        assert f"`bpf/{name}`" in table, f"{name} is not in tools/perf/README.md"
        code = re.sub(r"(//|#!)[^\n]*", "", text)
        for head, body in re.findall(r"^(\S[^{]*)\{(.*?)^\}", code, re.M | re.S):
            probe = re.match(r"usdt::pulsewheel:(\w+)\s", head)
            arguments = {int(number) for number in re.findall(r"\barg(\d)\b", head + body)}
            if probe is None:
                assert "usdt" not in head and not arguments, (name, head)
                if "tracepoint" in head:  # -p limits probes of the program alone
                    assert re.search(r"/@(ours|woken)\[args->(next_)?pid\] != 0/", head), head
                continue
            used.add(probe[1])
            assert probe[1] in promised, (name, probe[1])
            assert max(arguments, default=-1) < len(promised[probe[1]]), (name, head)
    assert used == set(promised), f"no script asks for {set(promised) - used}"


# What each prints where peers come, beat and go.
BPF_SHOWS = {"answers.bt": "answered", "batches.bt": "@messages_a_turn[0]",
             "evictions.bt": "@closed_by_reason[peer_closed]", "turns.bt": "@took_us[0]",
             "wakeups.bt": "@waited_us[0]"}


def bpftrace(server, path, *flags):
    return subprocess.run(["timeout", "-k", "1", "30", "bpftrace", *flags, "-p",
                           str(server.process.pid), path], capture_output=True, text=True,
                          check=False)


def knows_tracepoints():
    """Whether bpftrace can read the scheduler's events: else tracefs is not mounted, as in most
    containers, or not where this bpftrace looks for it."""
    done = subprocess.run(["timeout", "-k", "1", "30", "bpftrace", "-d", "-e",
                           "tracepoint:sched:sched_waking { @woken[args->pid] = nsecs; }"],
                          capture_output=True, check=False)
    return done.returncode == 0


def beat(port, until):
    while not until.is_set():
        with socket.create_connection(("127.0.0.1", port), 10) as peer:
            peer.sendall(b"\xb7\x01\0\0\0\0\0\1")
            peer.recv(64)
        time.sleep(0.01)


def test_bpftrace_understands_its_scripts_and_sees_the_server():
    if shutil.which("bpftrace") is None:
        raise Skipped("bpftrace is not installed")
    if os.geteuid() != 0:
        raise Skipped("bpftrace wants root")
    assert sorted(BPF_SHOWS) == sorted(os.listdir(BPF))
    ended = threading.Event()
    without = []  # those that would trace what cannot be traced here
    may_trace = knows_tracepoints()
    with tempfile.TemporaryDirectory() as folder, Server("epoll", "--reactors", "1") as server:
        beating = threading.Thread(target=beat, args=(server.port, ended))
        beating.start()
        try:
            for name, shown in BPF_SHOWS.items():
                with open(os.path.join(BPF, name), encoding="utf-8") as file:
                    text = file.read() + "\ninterval:s:1 { exit(); }\n"
                if "\ntracepoint:" in text and not may_trace:
                    without.append(name)
                    continue
                dry = bpftrace(server, os.path.join(BPF, name), "-d")
                assert dry.returncode == 0, (name, dry.stderr)
                path = os.path.join(folder, name)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                done = bpftrace(server, path)
                if done.returncode != 0:  # no BPF, no uprobes, a kernel that is locked down
                    raise Skipped(f"bpftrace may not attach here: {done.stderr.strip()[-200:]}")
                assert shown in done.stdout, (name, done.stdout, done.stderr)
        finally:
            ended.set()
            beating.join()
    if without:
        raise Skipped(f"bpftrace knows no tracepoint here (tracefs): {', '.join(without)}")


# A load that any machine can bear, measured for a moment.
BRIEF = ("--connections", "50", "--rate", "1000", "--seconds", "0.4", "--json")


def report_of(script, *flags, code=0):
    """The report of a short run of a measuring script, whose directory must be whole."""
    with tempfile.TemporaryDirectory() as folder:
        got, out, err = run(os.path.join(ROOT, "tools/perf", script), *flags, "--out", folder)
        assert got == code, (script, got, out[-500:], err)
        report = json.loads(out)
        names = os.listdir(folder)
        assert {"environment.json", "report.json", "report.txt"} <= set(names), names
        with open(os.path.join(folder, "report.json"), encoding="utf-8") as file:
            assert json.load(file) == report
    environment = report["environment"]
    for name in ("kernel", "cpu", "limits", "sysctls", "tools", "programs", "git"):
        assert environment[name], (script, name, environment)
    return report


def compare_backends():
    report = report_of("compare.sh", *BRIEF, "--a=backend=epoll", "--b=backend=io_uring",
                       "--pairs", "1", "--any-run")
    figures = report["figures"]
    assert figures["verdict"] == "none", "one pair is too few for any verdict"
    for side in ("A", "B"):
        values = figures["sides"][side]["values"]
        assert 0.1 < values["cpu"][0] < 10_000 and values["syscalls"][0] > 0, values
    assert report["workload"]["connections"] == 50 and report["environment"]["programs"]["A"]


def check_this_host():
    with tempfile.TemporaryDirectory() as folder:
        code, out, err = run(os.path.join(ROOT, "tools/perf/hostcheck.sh"), "--connections", "1k",
                             "--json", "--out", folder)
    assert code in (0, 3) and err == "", (code, err)
    found = json.loads(out)["figures"]["findings"]
    assert all(one["change"] for one in found if one["level"] in ("must", "should")), found


def count_system_calls():
    figures = report_of("syscalls.sh", *BRIEF)["figures"]
    # One to receive and one to send for each heartbeat, on epoll; and those of the turns.
    assert 1 < figures["all_per_unit"] < 20 and figures["unit"] == "a heartbeat", figures
    if figures["method"] == "perf":
        assert figures["calls"]["recvfrom"] > 0 < figures["calls"]["sendto"], figures


def count_wake_ups():
    report = report_of("wakeups.sh", *BRIEF)
    figures = report["figures"]
    assert 0 < figures["wakeups_per_unit"] < 20, figures
    assert any(row["name"].startswith("reactor") for row in figures["threads"].values()), figures
    if figures["latency_us"] is None:
        assert any("not traced" in note for note in report["notes"]), report["notes"]
    else:
        assert 0 < figures["latency_us"]["p50"] <= figures["latency_us"]["max"], figures


def compare_instructions():
    """By the CPU's counters, or by callgrind: user space alone, so never many thousands."""
    report = report_of("compare.sh", *BRIEF, "--pairs", "1", "--measure", "instructions",
                       "--any-run")
    compared = report["figures"]["compared"]["instructions"]
    assert 500 < compared["median_a"] < 50_000, compared
    assert report["figures"]["verdict"] == "none", "a pair is too few"


def come_back_after_a_restart():
    code, out, err = run(os.path.join(ROOT, "tools/perf/storm.py"), "--connections", "200",
                         "--base", "1", "--down", "1", "--policies", "none,hint", "--json")
    assert code == 0, (code, out[-500:], err)
    none, hint = json.loads(out)
    assert hint["all_back_s"] < 30 and none["tries_per_client"] >= 1, (none, hint)
    # A client beats every 10 s, and those that are back are watched for 3 s at least.
    assert hint["heartbeat_p99_ms_worst"] >= hint["heartbeat_p99_ms_median"] > 0, hint


def draw_flames():
    """Where perf samples: both graphs, which name our functions. gdb would take longer."""
    if why_no_perf():
        print("        perf may not be used here: no flame graph is drawn")
        return
    with tempfile.TemporaryDirectory() as folder:
        code, out, err = run(os.path.join(ROOT, "tools/perf/flame.sh"), *BRIEF, "--which", "both",
                             "--out", folder)
        assert code == 0, (code, out[-500:], err)
        figures = json.loads(out)["figures"]
        for which in set(figures) & {"on-cpu", "off-cpu"}:
            with open(os.path.join(folder, which + ".svg"), encoding="utf-8") as file:
                text = file.read()
            xml.etree.ElementTree.fromstring(text)
            assert "pulse::" in text, f"{which}.svg does not name our functions"
        assert figures["off-cpu"]["weight"] > 0, figures
        again = report_of("flame.sh", "--json", "--from", os.path.join(folder, "off-cpu.folded"))
        assert again["figures"]["weight"] == figures["off-cpu"]["weight"], again["figures"]


def sweep_the_rate():
    with tempfile.TemporaryDirectory() as folder:
        code, out, err = run(os.path.join(ROOT, "tools/perf/sweep.sh"), *BRIEF, "--flag", "rate",
                             "--values", "500,1k", "--rounds", "1", "--any-run", "--out", folder)
        assert code == 0, (code, out[-500:], err)
        values = json.loads(out)["figures"]["values"]
        assert list(values) == ["500", "1k"] and all(len(one["cpu"]) == 1 for one in
                                                     values.values()), values
        xml.etree.ElementTree.parse(os.path.join(folder, "sweep.svg"))


def count_the_costs():
    if why_no_perf():
        code, _, err = run(os.path.join(ROOT, "tools/perf/stat.sh"), *BRIEF, "--callgrind", "no")
        assert code == 1 and "nothing could be counted" in err, (code, err)
        return
    report = report_of("stat.sh", *BRIEF, "--callgrind", "no")
    if report["figures"]["counts"].get("instructions") is None:
        assert any("no hardware counters" in note for note in report["notes"]), report["notes"]
    assert report["figures"]["per_unit"], report["figures"]


def test_measuring_scripts_measure():
    cases = (compare_backends, compare_instructions, come_back_after_a_restart, draw_flames,
             count_system_calls, sweep_the_rate, count_wake_ups, count_the_costs, check_this_host)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(case) for case in cases]:
            future.result()


def test_sides_are_loaded_over_the_same_instants():
    """Or in turn, where that is asked for; not counted where a load may have ended before."""
    began, loads = [], []

    @contextlib.contextmanager
    def loaded(_options, _folder, _binary, **_):
        loads.append(types.SimpleNamespace(pid=os.getpid(), beats_until_s=ends_at_s))
        yield loads[-1]

    def watched_together(watched, _seconds):
        began.append(len(watched))
        before, after = (workload.Reading(at, at, at / 2, {
            "heartbeats_received": at * 100, "io": {"system_calls": at * 200}}) for at in (0, 1))
        return [workload.Window(before, after, 1.0, [0.5]) for _ in watched]

    report = {"verdict": {"state": "valid"}, "hold_latency": {"heartbeat": {}}}
    sides = [compare.Side(name, name, "", "epoll", []) for name in "AB"]
    with unittest.mock.patch.multiple(workload, loaded=loaded, watched_together=watched_together,
                                      wait_for_load=lambda _load: report):
        for in_turn, ends_at_s, expected in ((False, 2, [2]), (True, 2, [1, 1]), (False, 0.9, [2])):
            began.clear()
            options = argparse.Namespace(in_turn=in_turn, by_callgrind=False, measure="cpu",
                                         any_run=False, seconds=1.0, connections=50, server=[])
            found, wrong = compare.measured_pair(sides, options)
            assert began == expected, (in_turn, began)
            if ends_at_s < 1:
                assert found is None and "load of A may have ended" in wrong, (found, wrong)
            else:
                assert set(found) == {"A", "B"} and found["A"]["cpu"] == 5_000, (found, wrong)


def test_scrapes_end_when_they_are_told_to():
    with tempfile.TemporaryDirectory() as folder:
        address, kept = os.path.join(folder, "admin"), os.path.join(folder, "scrapes.json")
        with Server("epoll", "--admin", f"unix:{address}"):
            script = os.path.join(ROOT, "tools/perf/scrapes.py")
            scraping = subprocess.Popen([script, address, kept], stderr=subprocess.PIPE)
            try:
                deadline = time.monotonic() + 20
                while not os.path.exists(kept) or not os.path.getsize(kept):
                    assert scraping.poll() is None and time.monotonic() < deadline
                    time.sleep(0.02)
                scraping.terminate()
                _, err = scraping.communicate(timeout=20)
            finally:
                scraping.kill()
            assert scraping.returncode == 0 and err == b"", (scraping.returncode, err)
        with open(kept, encoding="utf-8") as file:
            line = json.loads(file.readline())
    assert line["connections"] == 0 and line["bytes"] > 1_000 and line["long_turns"] >= 0, line


def test_what_only_accepts_ends_whole():
    port = free_port()
    server = subprocess.Popen([os.path.join(ROOT, "tools/perf/bare_server.py"), str(port), "10"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with server:
        assert server.stdout.readline() == b"listening\n"
        server.terminate()
        server.wait(timeout=20)  # its end is not that of its input
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0, "it accepts still"


def running_with(word):
    """The command lines of processes that have this word in one of theirs."""
    lines = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            lines.append(file.read().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if word in line]


def test_a_million_that_is_told_to_end_leaves_nothing_running():
    with tempfile.TemporaryDirectory() as folder:
        script = subprocess.Popen(
            [os.path.join(ROOT, "tools/perf/million.sh"), "--connections", "100", "--hold", "2m",
             "--backend", "epoll", "--port", str(free_port()), "--out", folder],
            env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        progress, deadline = os.path.join(folder, "progress.txt"), time.monotonic() + 60
        while not os.path.exists(progress) or not os.path.getsize(progress):
            assert script.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        script.terminate()
        script.wait(timeout=60)
        deadline = time.monotonic() + 20
        while (left := running_with(folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, left
        if os.path.getsize(os.path.join(folder, "server.group")):
            with open(os.path.join(folder, "server.group"), encoding="utf-8") as file:
                assert not os.path.exists(file.read()), "the cgroup is left behind"


def test_what_profilers_print_is_read():
    woken = ("  10.000100: sched:sched_wakeup: comm=reactor 0 pid=77 prio=120 target_cpu=000\n"
             "  10.000105: sched:sched_wakeup: comm=reactor 0 pid=77 prio=120 target_cpu=000\n"
             "  10.000150: sched:sched_switch: swapper/0:0 [120] R ==> reactor 0:77 [120]\n"
             "  10.000200: sched:sched_switch: a:1 [120] R ==> reactor 0:77 [120]\n"
             "  10.000300: sched:sched_wakeup: admin:78 [120] success=1 CPU:000\n"
             "  10.000310: sched:sched_switch: prev_comm=a prev_pid=1 ==> next_comm=admin "
             "next_pid=78 next_prio=120\n")
    delays = wakeups.delays_of(woken)
    assert [round(delay * 1e6) for delay in delays[77]] == [50], delays  # from the first wake-up
    assert [round(delay * 1e6) for delay in delays[78]] == [10], delays
    table = (" 43.51    0.001234           1      2096           sendto\n"
             "  9.00    0.000100           1       100        96 accept4\n"
             "------ ----------- ----------- --------- --------- ----------------\n"
             "100.00    0.001334           1      2196        96 total\n")
    assert syscalls.calls_of(table) == {"sendto": 2096, "accept4": 100}
    counts = {syscalls.ALL: 10.0, syscalls.EVENT + "sendto": 7.0, syscalls.EVENT + "read": None}
    calls = syscalls.from_perf(counts)
    assert (calls["sendto"], calls["read"], calls["others"]) == (7, 0, 3), calls


PERF_TEXT = """reactor 0   77 10.000100:
	ffffffff821f94c3 schedule ([kernel.kallsyms])
	ffffffff82200000 do_epoll_wait ([kernel.kallsyms])
	          108d6d epoll_pwait2 (/usr/lib/libc.so.6)
	          1c0c26 pulse::Reactor<pulse::EpollBackend>::turn (/usr/bin/pulsewheel)
	ffffffffffffffff [unknown] ([unknown])

reactor 0   77 10.000110: PERF_RECORD_SWITCH OUT
reactor 0   77 10.000600: PERF_RECORD_SWITCH IN
reactor 0   77 10.000700:
	          1c0c26 pulse::Reactor<pulse::EpollBackend>::turn (/usr/bin/pulsewheel)

"""
GDB_TEXT = """77 (reactor 0) R 1 77 77
78 (admin worker) S 1 77 77

Thread 2 (Thread 0x7f01 (LWP 78) "admin worker"):
#0  0x00007f02 in __futex_abstimed_wait (...) at ./nptl/futex-internal.c:57
#1  pulse::HttpFront::worker_thread (this=...) at net/control/http_front.cc:90
#2  0x00007f03 in pulse::HttpFront::open()::{lambda(void*)#1}::_FUN ()

Thread 1 (Thread 0x7f00 (LWP 77) "reactor 0"):
#0  0x00007f02 in __send (...) from /usr/lib/libc.so.6
#1  pulse::Connections::flush (...) at net/loop/connections.cc:1
"""


def test_stacks_are_folded():
    turn, wait = "pulse::Reactor<pulse::EpollBackend>::turn", "do_epoll_wait_[k]"
    off = stacks.off_cpu(PERF_TEXT)
    assert off == {("reactor 0", turn, "epoll_pwait2", wait): 500}, off
    on = stacks.on_cpu(PERF_TEXT)
    assert on[("reactor 0", turn)] == 1 and len(on) == 2, on
    assert stacks.of_text(stacks.to_text(on)) == on
    running, waiting = stacks.from_gdb(GDB_TEXT)
    assert running == {("reactor 0", "pulse::Connections::flush", "__send"): 1}, running
    assert [stack[0] for stack in waiting] == ["admin worker"], waiting
    assert "pulse::HttpFront::worker_thread" in next(iter(waiting)), waiting
    picture = flame_svg.svg({("a", 'f<"x">&'): 3, ("a", "g"): 1}, "T", "W", "samples", stacks.kind)
    root = xml.etree.ElementTree.fromstring(picture)
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert 'f<"x">&: 3 samples, 75.00 %' in titles and "all: 4 samples, 100.00 %" in titles, titles


def test_what_a_sweep_or_a_side_does_not_understand_is_an_error():
    for script, flags, word in (("sweep.sh", (), "--flag and --values"),
                                ("sweep.sh", ("--flag", "tick", "--values", "1ms"), "1ms"),
                                ("sweep.sh", ("--flag", "rate", "--values", "1,x"), "'x'"),
                                ("compare.sh", ("--b=backend=poll",), "backend=poll"),
                                ("compare.sh", ("--b=revision=nosuch",), "revision=nosuch"),
                                ("compare.sh", ("--b=binary=/nosuch",), "/nosuch"),
                                ("compare.sh", ("--confidence", "2"), "'2'"),
                                ("flame.sh", ("--from", "/nosuch"), "/nosuch"),
                                ("stat.sh", ("--admin", "127.0.0.1:1"), "--pid"),
                                ("wakeups.sh", ("--pid", "4194304"), "4194304")):
        with tempfile.TemporaryDirectory() as folder:
            code, _, err = run(os.path.join(ROOT, "tools/perf", script), *flags, "--out", folder)
        assert code == 2 and word in err and "see --help" in err, (script, flags, code, err)


def test_where_perf_is_not_allowed_something_else_measures():
    """A perf that fails, as in a container, in front of the path: a word, and the next method."""
    with tempfile.TemporaryDirectory() as folder:
        perf = os.path.join(folder, "perf")
        with open(perf, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 255\n")
        os.chmod(perf, 0o755)
        before = ENVIRONMENT["PATH"]
        ENVIRONMENT["PATH"] = folder + ":" + before
        try:
            report = report_of("syscalls.sh", *BRIEF)
            assert report["figures"]["method"] in ("strace", "server"), report["figures"]
            assert any("perf may not be used" in note for note in report["notes"]), report["notes"]
            assert report["figures"]["all_per_unit"] > 1, report["figures"]
        finally:
            ENVIRONMENT["PATH"] = before


def made_up_pairs(draw, pairs, slower, spread):
    """Runs of A and B whose machine drifts by a tenth, and that scatter."""
    drift = [1 + 0.1 * pair / pairs for pair in range(pairs)]
    return ([8 * part * draw.lognormvariate(0, spread) for part in drift],
            [8 * slower * part * draw.lognormvariate(0, spread) for part in drift])


def verdicts(slower, spread=0.02, trials=20, pairs=12, confidence=0.99):
    draw = random.Random(7)
    return [significance.compared(*made_up_pairs(draw, pairs, slower, spread), confidence).verdict
            for _ in range(trials)]


def test_a_verdict_needs_a_difference():
    assert verdicts(1.0).count("none") == 20, verdicts(1.0)
    assert verdicts(1.05).count("more") == 20, verdicts(1.05)
    assert verdicts(1 / 1.05).count("less") == 20, verdicts(1 / 1.05)
    # What is called different although nothing is: as often as the confidence allows.
    wrong = sum(word != "none" for word in verdicts(1.0, trials=2_000, confidence=0.9))
    assert 140 <= wrong <= 260, wrong
    assert verdicts(1.05, spread=0.3).count("none") >= 18, "the noise hides it"


def test_an_interval_is_that_of_the_signed_rank_test():
    # Wilcoxon's critical values, two-sided, as tables have them: 8 of 10 pairs at 5 %, 0 of 8
    # at 1 %.
    assert significance.cut_off(10, 0.95) == 9 and significance.cut_off(8, 0.99) == 1
    assert significance.cut_off(7, 0.99) is None and significance.pairs_needed(0.99) == 8
    one = significance.compared([10.0] * 8, [11.0] * 7 + [900.0], 0.99)
    assert abs(one.ratio - 1.1) < 1e-9 and one.verdict == "more", one  # one outlier moves nothing
    alike = significance.compared([10.0] * 8, [10.0] * 8, 0.99)
    assert (alike.ratio, alike.verdict) == (1.0, "none"), alike
    few = significance.compared([10.0] * 7, [20.0] * 7, 0.99)
    assert (few.low, few.verdict) == (None, "none"), few


def made_up_host(folder, files):
    for path, text in files.items():
        os.makedirs(os.path.join(folder, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(folder, path), "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return {one.name: one for one in hostcheck.findings(Host(folder, privileged=False), 1_000_000)}


def test_hostcheck_finds_what_a_host_lacks():
    files = {"proc/self/limits": "Limit\nMax open files            1024       20000      files",
             "proc/meminfo": "MemAvailable:    2000000 kB\nSwapTotal:  1000000 kB",
             "proc/loadavg": "0.10 0.1 0.1 1/100 1", "proc/sys/vm/swappiness": "60",
             "proc/sys/fs/file-max": "100000", "proc/sys/net/core/somaxconn": "128",
             "proc/sys/net/netfilter/nf_conntrack_max": "262144",
             "proc/sys/net/netfilter/nf_conntrack_count": "17",
             "proc/sys/kernel/perf_event_paranoid": "3", "sys/class/net/eth0/device/x": "",
             "sys/class/net/eth0/queues/rx-0/rps_cpus": "0",
             "proc/interrupts": "  CPU0 CPU1\n 40: 1 2 PCI eth0-0\n 41: 1 2 PCI eth0-1",
             "proc/irq/40/smp_affinity_list": "0", "proc/irq/41/smp_affinity_list": "0"}
    for core in (0, 1):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        files[f"{folder}/scaling_governor"] = "powersave"
    with tempfile.TemporaryDirectory() as folder:
        poor = made_up_host(folder, files)
    for name in ("fs.file-max", "memory", "connection tracking"):
        assert poor[name].level == "must" and poor[name].change, poor[name]
    for name in ("descriptors (RLIMIT_NOFILE)", "swap", "net.core.somaxconn", "CPU governor",
                 "receive queues of eth0", "interrupts of eth0", "kernel.perf_event_paranoid"):
        assert poor[name].level == "should" and poor[name].change, poor[name]
    assert poor["net.ipv4.tcp_mem"].level == "unknown" and poor["other work"].level == "ok"
    files.update({"proc/sys/fs/file-max": "9000000", "proc/sys/net/core/somaxconn": "4096",
                  "proc/meminfo": "MemAvailable:   20000000 kB\nSwapTotal:  0 kB",
                  "proc/sys/net/netfilter/nf_conntrack_count": "0",
                  "proc/irq/41/smp_affinity_list": "1", "proc/sys/kernel/perf_event_paranoid": "1",
                  "sys/class/net/eth0/queues/rx-0/rps_cpus": "3",
                  "proc/self/limits": "Limit\nMax open files    1024   2000000      files",
                  "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
                  "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance"})
    with tempfile.TemporaryDirectory() as folder:
        good = made_up_host(folder, files)
    for name in poor:
        assert good[name].level in ("ok", "unknown"), good[name]


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
