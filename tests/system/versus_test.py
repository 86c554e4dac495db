#!/usr/bin/env python3
"""`make versus`: each server of bench/peers/ converses, and the comparison as its user calls it.

A server that is not installed is skipped by name. Ends with `N passed, N failed, N skipped`.
"""
import functools
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
sys.path.insert(0, os.path.join(ROOT, "bench"))
from server import Skipped, run_cases, tests_of  # noqa: E402: its path comes first
import versus  # noqa: E402
import versus_page  # noqa: E402
from versus_peers import PEERS, Missing, Place, Running, check_conversation  # noqa: E402
from websocket_peer import Peer, echo, upgrade  # noqa: E402

OURS, BARE = "pulsewheel-epoll", "bare"


def prepared(peer):
    try:
        peer.prepare()
    except Missing as missing:
        raise Skipped(f"{missing} ({' '.join(missing.packages)})") from None
    return peer


def converse(peer):
    """Pings with and without bytes and messages, twice: with and without a timeout."""
    with tempfile.TemporaryDirectory() as folder:
        for timeout_s in (60, 2):
            with Running(prepared(peer), folder, timeout_s, 100, Place(None, False)) as server:
                check_conversation(server.port)
            assert server.process.poll() is not None


def test_a_server_that_answers_wrongly_is_found():
    def pong_without_bytes(stream, request):
        stream.sendall(upgrade(request))
        while stream.recv(4_096):
            stream.sendall(b"\x8a\0")

    def not_accepted(stream, _):
        stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n\r\n")

    with Peer(echo) as peer:
        check_conversation(peer.port)
    for answer, words in ((pong_without_bytes, "was answered by"), (not_accepted, "upgrade")):
        with Peer(answer) as peer:
            try:
                check_conversation(peer.port)
            except RuntimeError as error:
                assert words in str(error), error
                continue
            raise AssertionError(f"{answer.__name__} passes for a right server")


def run_versus(*flags, path=None):
    """Exit code, what it prints, and its JSON if it wrote some."""
    environment = dict(os.environ, **({"PATH": path} if path else {}))
    with tempfile.TemporaryDirectory() as folder:
        json_path = os.path.join(folder, "out.json")
        done = subprocess.run([sys.executable, os.path.join(ROOT, "bench", "versus.py"), "--quick",
                               "--json", json_path, *flags], env=environment, cwd=ROOT,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
        result = None
        if os.path.exists(json_path):
            with open(json_path, encoding="utf-8") as file:
                result = json.load(file)
            with open(os.path.join(folder, "out.html"), encoding="utf-8") as file:
                assert "<svg" in file.read()
            assert os.path.exists(os.path.join(folder, "out.md"))
        return done.returncode, done.stdout.decode(), done.stderr.decode(), result


def another_peer():
    """The name of a peer that is installed and can evict; the floor where there is none."""
    for name in ("python-websockets", "node-ws", "gorilla", "libwebsockets"):
        with_name = [peer for peer in PEERS if peer.name == name]
        try:
            with_name[0].prepare()
            return name
        except Missing:
            continue
    return BARE


def test_the_quick_comparison_measures_ours_and_another():
    other = another_peer()
    code, out, err, result = run_versus("--connections", "200", "--no-real-time", "--peers",
                                        f"{OURS},{other}")  # other tests run beside it
    assert code in (0, 3), (code, out, err)  # 3: on a busy machine a run is not valid
    assert list(result["peers"]) == [OURS, other], result["peers"]
    assert result["schema"] == "versus/1" and result["machine"]["other_work_cores"] >= 0, result
    for name, peer in result["peers"].items():
        assert peer["version"], peer
        assert name in out and not any("FAILED" in note for note in peer["notes"]), (out, peer)
    if code == 0:
        ours = result["peers"][OURS]["figures"]
        assert ours["lost_by_stop"]["median"] == 0 and ours["evicted_early"]["median"] == 0, ours
        assert ours["cpu_us.1"]["median"] > 0 and ours["connects_per_s"]["median"] > 0, ours
        assert 0 <= ours["evicted_late_p50_ms"]["median"] <= 1_000, ours
    assert "about" in out and "round 1 of 1" in err, (out, err)


def test_what_is_not_installed_is_skipped_by_name_with_its_packages():
    code, out, err, result = run_versus("--peers", "node-ws", path="/nonexistent")
    assert code == 1 and "no server to compare is installed" in err, (code, out, err)
    assert "SKIPPED node-ws: no node (nodejs npm)" in out, out
    assert "apt-get install -y nodejs npm" in out and result is None, out


def test_a_peer_that_is_not_known_is_a_usage_error():
    for flags, words in ((("--peers", "apache"), "'apache' is not a peer"),
                         (("--rates", "1,2"), "'1,2' is not three rates"),
                         (("--rounds", "0"), "'0' is not a number of at least 1")):
        code, _, err, _ = run_versus(*flags)
        assert code == 2 and words in err and "Traceback" not in err, (code, err)


def figure(*values):
    return {"median": sorted(values)[len(values) // 2], "min": min(values), "max": max(values),
            "values": list(values)}


def small_result():
    peer = {"title": "Slow", "version": "1", "evicts": "", "offered": [1_000, 9_000, 9_000],
            "notes": [], "figures": {"rss_bytes": figure(76, 77, 90), "kernel_bytes": figure(1),
                                     "cpu_us.0": figure(9.25), "cpu_us.1": figure(90, 94, 95),
                                     "cpu_us.2": figure(12), "p50_ms.1": figure(0.4),
                                     "connects_per_s": figure(1_234), "lost_by_stop": figure(0)}}
    return {"settings": {"rates": [1_000, 15_000, 75_000], "judged": 3_000, "connections": 15_000,
                         "stop_s": 5, "timeout_s": 2, "rounds": 3}, "peers": {"slow": peer}}


def test_a_cell_has_the_median_its_spread_and_a_rate_of_its_own():
    result = small_result()
    peer = result["peers"]["slow"]
    cells = {key: versus_page.cell(result, peer, key) for key, *_ in versus_page.columns(result)}
    assert cells["rss_bytes"] == "77 (76-90)", cells
    assert cells["cpu_us.0"] == "9.25" and cells["connects_per_s"] == "1,234", cells
    assert cells["cpu_us.1"] == "94 (90-95) at 9,000/s", cells
    assert cells["p99_ms.1"] == "-" and cells["evicted_early"] == "none", cells
    assert versus_page.missing(result) == [], versus_page.missing(result)
    del peer["figures"]["cpu_us.2"]
    peer["evicts"] = "a timer"
    lacking = [key for _, key in versus_page.missing(result)]
    assert lacking == ["cpu_us.2", "evicted_late_p50_ms", "evicted_late_max_ms",
                       "evicted_early"], lacking


def test_a_peer_is_offered_no_more_than_its_core_serves():
    plan = versus.Plan(versus.parse([]))
    figures = versus.Figures(PEERS[0])
    assert versus.rate_offered(plan, figures, 0) == 1_000
    assert versus.rate_offered(plan, figures, 1) == 15_000  # nothing is known of the rate before
    figures.add("cpu_us.0", 100.0)
    assert versus.rate_offered(plan, figures, 1) == 15_000  # foreseen: 40 us, 0.6 of a core
    assert versus.rate_offered(plan, figures, 2) == 15_000  # the rate between has no valid run
    figures.add("cpu_us.0", 250.0)
    assert versus.rate_offered(plan, figures, 1) == 6_000
    figures.add("cpu_us.1", 14.0)
    assert versus.rate_offered(plan, figures, 2) == 75_000
    figures.add("cpu_us.1", 1_000.0)
    assert versus.rate_offered(plan, figures, 2) == 600


def test_a_quick_run_leaves_the_files_of_a_whole_one():
    for flags, name in (([], "versus.json"), (["--quick"], "quick.json")):
        assert os.path.basename(versus.parse(flags).json) == name, flags
    assert versus.parse(["--quick", "--json", "a.json"]).json == "a.json"


def test_connects_are_paced_by_what_a_server_can_take():
    plan = versus.Plan(versus.parse([]))
    figures = versus.Figures(PEERS[0])
    assert versus.connect_rate(plan, figures) == "1250/s"  # nothing is known
    for measured, wanted in ((3_542.0, "885/s"), (29_254.0, "5000/s"), (80.0, "100/s")):
        figures.add("connects_per_s", measured)
        assert versus.connect_rate(plan, figures) == wanted, measured


def main():
    converses = [(f"{peer.name} converses", functools.partial(converse, peer)) for peer in PEERS]
    return run_cases(converses + tests_of(globals()))


if __name__ == "__main__":
    sys.exit(main())
