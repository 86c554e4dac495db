#!/usr/bin/env python3
"""build/pulseload against build/pulsewheel, as its user runs both, on each backend.

Ends with `N passed, N failed`.
"""
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from load import Load  # noqa: E402: its path comes first
from server import BUILD, Server, run_over_backends  # noqa: E402

MIX = "ws=40,ws-json=20,jsonl=20,tcp=20"
BEATS = ("--heartbeat-interval", "1s", "--heartbeat-timeout", "3s")


def run_load(server, *flags, scheme="auto"):
    return Load(f"{scheme}://127.0.0.1:{server.port}", "--server-pid", str(server.process.pid),
                *flags)


# -------------------------------------------------------------------------------------- the tests

def test_every_protocol_beats_and_is_answered(backend):
    with Server(backend, *BEATS, scheme="auto") as server:
        load = run_load(server, "--mix", MIX, "-n", "400", "-d", "3s", "--heartbeat-interval", "1s",
                        "--slo", "false-evictions=0,refused=0,lost=0,p50<5s")
        assert load.met(), load.text()
        counts = load["counts"]
        assert counts["open"] == counts["connected"] == 400, counts
        assert counts["pings"] >= 1000 and counts["pongs"] >= counts["pings"] - 400, counts
        assert counts["protocol_errors"] == counts["error_frames"] == 0, load["errors"]
        assert load["run"]["protocols"].keys() == {"ws", "ws-json", "jsonl", "tcp"}
        assert load["detection"]["announced"] and load["detection"]["timeout_ms"] == 3000
        assert load["latency"]["heartbeat"]["count"] == counts["pongs"]
        time.sleep(1.2)  # the server's last line is as old as that
        total = server.stats()["total"]
        assert total["accepted"] == 400 and total["evicted"] == 0, total


def test_the_silent_are_evicted_and_no_others(backend):
    with Server(backend, *BEATS, scheme="auto") as server:
        load = run_load(server, "--mix", MIX, "--behaviour", "beat=60,idle=20,mute=10,vanish=10",
                        "-n", "400", "-d", "6s", "--heartbeat-interval", "1s", "--server-stats",
                        server.stats_path,
                        "--slo", "false-evictions=0,missed-evictions=0,early-evictions=0")
        assert load.met(), load.text()
        detection = load["detection"]
        for behaviour in ("mute", "vanish"):
            row = detection["by_behaviour"][behaviour]
            assert row["silenced"] == row["evicted"] == load["run"]["behaviours"][behaviour], row
            assert row["late_by"]["max_us"] < 1_000_000, row
        silent = detection["all"]["evicted"]
        assert detection["close_codes"] == {"4003": silent}, detection["close_codes"]
        assert detection["server_closes"] == {"idle_timeout": silent}, detection["server_closes"]
        assert load["counts"]["open"] == 400 - silent


def test_a_server_with_half_the_timeout_is_caught(backend):
    """What it promised is six seconds: to its peers it is broken."""
    with Server(backend, *BEATS, scheme="auto") as server:
        load = run_load(server, "--mix", MIX, "--behaviour", "beat=80,mute=20", "-n", "200",
                        "-d", "5s", "--heartbeat-interval", "1s", "--expect-timeout", "6s",
                        "--slo", "early-evictions=0")
        assert load.code in (3, 4) and not load.met(), load.text()
        row = load["detection"]["all"]
        assert row["early"] == row["silenced"] > 0 and row["evicted"] == 0, row
        assert 2_500_000 < row["early_by"]["p50_us"] < 3_500_000, row


def test_a_server_that_never_evicts_is_caught(backend):
    with Server(backend, "--heartbeat-interval", "5m", "--heartbeat-timeout", "15m",
                scheme="auto") as server:
        load = run_load(server, "--mix", MIX, "--behaviour", "beat=80,mute=20", "-n", "200",
                        "-d", "3s", "--expect-timeout", "1s", "--slo", "missed-evictions=0")
        assert load.code in (3, 4) and not load.met(), load.text()
        row = load["detection"]["all"]
        assert row["missed"] == row["silenced"] > 0, row


def test_a_starved_generator_is_called_invalid(backend):
    with Server(backend, "--on-message", "echo", scheme="auto") as server:
        load = run_load(server, "-n", "100", "-d", "3s", "--threads", "1",
                        "--message-rate", "50000000/s")
        assert load.code == 3, load.text()
        assert not load["verdict"]["valid"] and load["verdict"]["evidence"], load["verdict"]
        assert "INVALID" in load.words, load.words
        assert load["generator"]["made"] < load["generator"]["intended"] / 2


def test_a_healthy_generator_is_not(backend):
    with Server(backend, "--on-message", "echo", scheme="auto") as server:
        for _ in range(3):  # a neighbour on this machine may take its core away for once
            load = run_load(server, "--mix", MIX, "-n", "200", "-d", "4s", "--heartbeat-interval",
                            "1s", "--message-rate", "poisson:200/s")
            if load.code == 0:
                break
        assert load.code == 0, load.text()
        assert load["verdict"]["valid"] and "INVALID" not in load.words
        counts = load["counts"]
        assert counts["messages"] > 500, counts
        assert counts["messages_returned"] >= counts["messages"] - 20, counts


def test_storms(backend):
    """Killed clients come back by their policy; silenced ones are evicted in time."""
    with Server(backend, *BEATS, scheme="auto") as server:
        load = run_load(server, "--mix", MIX, "-n", "400", "-d", "7s", "--heartbeat-interval", "1s",
                        "--storm", "kill=50%@1s,reconnect=full-jitter",
                        "--storm", "silence=40@2s", "--storm", "vanish=10@2s")
        assert load.met(), load.text()
        kill, silence, vanish = load["storms"]
        assert kill["killed"] == kill["recovered"] == 200 or kill["killed"] == 199, kill
        assert kill["recovered"] == kill["killed"] and 0 < kill["recovery_s"] < 3, kill
        assert kill["tries"] >= kill["killed"] and kill["tries_max"] >= 1, kill
        assert (silence["killed"], vanish["killed"]) == (40, 10)
        rows = load["detection"]["by_behaviour"]
        assert rows["mute"]["evicted"] == 40 and rows["vanish"]["evicted"] == 10, rows
        assert load["detection"]["false_evictions"] == 0


def test_clients_that_misbehave_hurt_nobody(backend):
    with Server(backend, *BEATS, "--on-message", "echo", "--send-queue-bytes", "96KiB",
                "--max-message-bytes", "64KiB", "--handshake-timeout", "2s",
                scheme="auto") as server:
        load = run_load(server, "--mix", MIX, "--behaviour",
                        "beat=60,slow-reader=8,flapper=8,slowloris=8,garbage=8,duplicate-login=8",
                        "-n", "300", "-d", "8s", "--heartbeat-interval", "1s",
                        "--flap-interval", "1s", "--slo", "false-evictions=0")
        assert load.met(), load.text()
        behaviours, codes = load["run"]["behaviours"], load["detection"]["close_codes"]
        # A goodbye behind which the server left requests unread is lost with the reset.
        ended = codes.get("4004", 0) + codes.get("0", 0)
        assert ended == behaviours["slow-reader"], (codes, behaviours)
        counts = load["counts"]
        assert counts["client_closes"] > behaviours["flapper"], counts
        time.sleep(1.2)
        closed = server.stats()["total"]["closed_by_reason"]
        assert closed.get("protocol_error", 0) + closed.get("wrong_protocol", 0) >= \
            behaviours["garbage"], closed
        assert closed["handshake_timeout"] >= 1, closed
        assert closed["slow_reader"] == behaviours["slow-reader"], closed


def test_a_full_server_is_told_apart(backend):
    with Server(backend, "--max-connections", "100", scheme="auto") as server:
        load = run_load(server, "--mix", "tcp=1", "-n", "150", "-d", "1s",
                        "--connect-rate", "1000/s", "--slo", "refused=0")
        assert load.code == 5 and not load.met(), load.text()
        assert load["counts"]["open"] == 100 and load["counts"]["refusals"] == 50, load["counts"]
        assert any(error.startswith("refused: ") and "503" in error
                   for error in load["errors"]), load["errors"]


def test_finds_the_most_that_holds(backend):
    with Server(backend, "--max-connections", "1500", scheme="auto") as server:
        load = run_load(server, "--mix", "tcp=1", "-d", "300ms", "--find-max", "refused=0")
        assert load.code == 0, load.text()
        assert 1350 <= int(load.words) <= 1500, load.words
        assert load["run"]["wanted"] == int(load.words), load["run"]
        assert "1000 met" in load["run"]["settings"]["search"], load["run"]["settings"]
        below = run_load(server, "--mix", "tcp=1", "-d", "300ms", "--find-max", "refused=0",
                         "--connections", "1200", "--repeat", "1")
        assert below.code == 0 and int(below.words) == 1200, below.text()


def test_rounds_take_turns(backend):
    with Server(backend, scheme="auto") as one, Server(backend, scheme="auto") as other:
        targets = [f"tcp://127.0.0.1:{server.port}" for server in (one, other)]
        load = Load(targets[0], "--target", targets[1], "--repeat", "2", "-n", "50", "-d", "1s",
                    "--heartbeat-interval", "100ms", "--slo", "lost=0")
        assert load["schema"] == "pulseload-rounds/1", load.text()
        assert [run["run"]["target"] for run in load["runs"]] == targets * 2
        assert [target["target"] for target in load["targets"]] == targets
        for target in load["targets"]:
            valid = target["states"].count("valid")
            values = target["headlines"]["heartbeat p50"]["values"] if valid else []
            assert len(values) == valid, target
        assert load.code in (0, 3), load.text()


def test_files(backend):
    """Every way of telling a run is there, and each is what it says it is."""
    with Server(backend, *BEATS, scheme="auto") as server:
        with tempfile.TemporaryDirectory() as directory:
            path = lambda name: os.path.join(directory, name)
            load = run_load(server, "--mix", MIX, "-n", "100", "-d", "2s", "--heartbeat-interval",
                            "500ms", "--report", path("run.html"), "--csv", path("run.csv"),
                            "--hlog", path("run.hlog"))
            assert load.met(), load.text()
            read = lambda name: open(path(name), encoding="utf-8").read()
            page = read("run.html")
            assert page.startswith("<!doctype html>") and "</html>" in page
            assert "://" not in page.replace("http://www.w3.org/", "").replace(
                f"auto://127.0.0.1:{server.port}", ""), "it needs a network"
            rows = read("run.csv").splitlines()
            assert len(rows) >= 3 and all(
                len(row.split(",")) == len(rows[0].split(",")) for row in rows)
            log = read("run.hlog")
            assert "#[Histogram log format version 1.3]" in log.splitlines()[:3], log[:120]
            assert "Tag=heartbeat," in log and "Tag=connect," in log
            for name in ("run.html", "run.csv", "run.hlog"):
                assert name in load.words, load.words


def test_logins_that_take_over_are_neither_lost_nor_falsely_evicted(backend):
    with Server(backend, "--reactors", "2", scheme="auto") as server:
        load = run_load(server, "-n", "400", "-d", "3s", "--users", "50", "--devices", "2", "--mix",
                        "ws=1,jsonl=1,tcp=1", "--heartbeat-interval", "1s", "--connect-rate",
                        "400/s")
        time.sleep(1.2)  # the server's last line is as old as that
        total = server.stats()["total"]
    assert load["counts"]["taken_over"] == 300, load["counts"]
    assert load["detection"]["false_evictions"] == 0, load["detection"]
    assert load["detection"]["cut_off"] == 0 and load["counts"]["error_frames"] == 0, load.text()
    assert load["verdict"]["state"] != "incomplete", load["verdict"]
    assert "300 were taken over by a later login" in load.sentences(), load.words
    assert total["takeovers"] == 300 and total["logins"] == 400, total
    assert total["closed_by_reason"]["taken_over"] == 300, total["closed_by_reason"]


def test_usage_errors_name_the_offender(_backend):
    cases = [
        (["-n", "0"], "--connections"),
        (["--mix", "mqtt=1"], "mqtt"),
        (["--target", "https://127.0.0.1:1"], "wss://"),
        (["--tls-verify"], "without TLS"),
        (["--tls-resume", "5", "--target", "wss://127.0.0.1:1", "--tcp-only"], "without TLS"),
        (["--tls-resume", "101", "--target", "wss://127.0.0.1:1"], "from 0 to 100"),
        (["--tls-handshakes", "0", "--target", "wss://127.0.0.1:1"], "--tls-handshakes 0"),
        (["--tls-idle", "ktls", "--target", "wss://127.0.0.1:1"], "neither openssl nor frozen"),
        (["--tls-idle", "frozen"], "without TLS"),
        (["--tls-idle", "frozen", "--tls-resume", "5", "--target", "wss://127.0.0.1:1"], "tickets"),
        (["--tls-ca", "", "--target", "wss://127.0.0.1:1"], "--tls-ca ''"),
        (["--tls-server-name", "", "--target", "wss://127.0.0.1:1"], "--tls-server-name ''"),
        (["--tls-server-name", "a" * 256, "--target", "wss://127.0.0.1:1"], "from 1 to 255"),
        (["--target", "tcp://127.0.0.1:1", "--mix", "ws=1"], "tcp://127.0.0.1:1"),
        (["--slo", "p99"], "--slo"),
        (["--storm", "maim=1@1s"], "maim"),
        (["--message-bytes", "5"], "--message-bytes"),
        (["--source-ips", "127.0.0.9-127.0.0.2"], "127.0.0.9-127.0.0.2"),
        (["--find-rate"], "--find-rate"),
        (["--message-rate", "1/s", "--behaviour", "idle=1"], "--message-rate"),
        (["--behaviour", "chatty=1"], "--message-rate"),
        (["--storm", "kill=1@1m"], "kill=1@1m"),
        (["--message-bytes", "200"], "--message-rate"),
        (["--flap-interval", "1s"], "flapper"),
        (["--tolerance", "1s"], "silent"),
        (["--reconnect-cap", "1s"], "--reconnect"),
        (["--tcp-only", "--hello"], "--hello"),
        (["--quiet", "--progress"], "--progress"),
        (["--hello", "--no-hello"], "--no-hello"),
        (["--answer-every", "9"], "must be from 1 to 8"),
        (["--answer-every", "0"], "must be from 1 to 8"),
        (["--answer-every", "4", "--heartbeat-interval", "0"], "no client beats"),
        (["--answer-every", "4", "--tcp-only"], "no client beats"),
        (["--answer-every", "4", "--no-hello", "--target", "jsonl://127.0.0.1:1"], "--no-hello"),
        (["--users", "5", "--no-hello"], "--users"),
        (["--users", "5", "--tcp-only"], "--users"),
        (["--devices", "2"], "--users"),
        (["--users", "5", "--devices", "0"], "--devices 0"),
        (["--profile", "mobile", "--expect-timeout", "9s"], "--profile"),
        (["--repeat", "0"], "--repeat"),
        (["--repeat", "2", "--csv", "x"], "--csv"),
        (["--header", "no colon"], "no colon"),
        (["--target", "tcp://127.0.0.1:1", "--header", "A: b"], "--header"),
        (["--find-max", "refused=0", "--slo", "p99<1s"], "--slo"),
        (["--no-such-flag"], "--no-such-flag"),
    ]
    for flags, words in cases:
        done = subprocess.run([f"{BUILD}/pulseload", *flags], capture_output=True, text=True,
                              timeout=20, stdin=subprocess.DEVNULL)
        assert done.returncode == 2 and words in done.stderr, (flags, done.returncode, done.stderr)
        assert done.stdout == "", done.stdout


if __name__ == "__main__":
    sys.exit(run_over_backends(globals(), at_once=2))
