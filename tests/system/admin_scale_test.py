#!/usr/bin/env python3
"""What an operator does to all connections at once: listed, retuned, sent a text, kicked; how long
each takes, and how long the server's turns become for it.

    PEERS=100000 python3 tests/system/admin_scale_test.py      (as it is: 3,000)

Asserts that each connection is listed once and acted on once. Times are printed, and asserted where
PEERS is given, on a quiet machine: each action in less than a second, a scrape of /metrics in less
than 50 ms, no turn above 10 ms of CPU time. The generator stands for as many other hosts and has
as much to do as the server, so it gets what the server leaves of the cores (nice 19). A turn's time
by the clock, which is printed too, also has what other threads took on its core: the generator and
other reactors want as much of it.
"""
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched
from load import heed_signals
from server import BUILD, run_over_backends

PEERS = int(os.environ.get("PEERS", "3000"))
JUDGED = "PEERS" in os.environ


def longest_turn_ms(admin):
    """By the thread's CPU clock and by the wall's, since the start."""
    reactors = admin.get("/api/v1/reactors")["reactors"]
    return [max(reactor[name].get("max_us", 0) for reactor in reactors) / 1_000
            for name in ("turn_cpu", "turn_time")]


def turns_text(before, after):
    cpu, wall = (f"{now:.2f}" if now > then else f"at most {then:.2f}"
                 for then, now in zip(before, after))
    return f"longest turn {cpu} ms of CPU time, {wall} ms by the clock"


def give_way():
    heed_signals()
    os.nice(19)


def timed(admin, name, path, body):
    before = longest_turn_ms(admin)
    began = time.monotonic()
    done = admin.post(path, body)
    took = time.monotonic() - began
    turns = longest_turn_ms(admin)
    print(f"REPORT {name} {PEERS} connections: {took * 1_000:.0f} ms, {turns_text(before, turns)}",
          flush=True)
    assert done == {"done": PEERS, "skipped": 0}, done
    if JUDGED:
        assert took < 1, took
        assert turns[0] <= 10, (before, turns)


def long_turns(text):
    """Of a scrape: turns that took more than 10 ms."""
    name = "pulsewheel_turn_time_seconds"
    all_turns = float(re.search(rf"^{name}_count (\S+)$", text, re.M)[1])
    return all_turns - float(re.search(rf'^{name}_bucket{{le="0.01"}} (\S+)$', text, re.M)[1])


def scrape(admin, backend):
    """Scrapes /metrics, eleven times: reactors look at no connection for it."""
    took, long = [], []
    for _ in range(11):
        began = time.monotonic()
        text = admin.ask("GET", "/metrics").body.decode()
        took.append((time.monotonic() - began) * 1_000)
        long.append(long_turns(text))
    print(f"REPORT {backend} scrape of /metrics at {PEERS} connections: median "
          f"{sorted(took)[5]:.1f} ms, {len(text) // 1_024} KiB, {long[-1] - long[0]:.0f} turns "
          "over 10 ms meanwhile", flush=True)
    held = re.findall(r'^pulsewheel_connections\{reactor="\d+"\} (\d+)$', text, re.M)
    assert sum(map(int, held)) == PEERS, held
    if JUDGED:
        assert sorted(took)[5] < 50, took
        assert long[-1] == long[0], long


def test_each_is_listed_once_and_acted_on_once(backend):
    with Watched(backend, "--max-connections", str(PEERS + 1_000), "--reactors", "auto",
                 "--heartbeat-profile", "powersave", scheme="ws") as server:
        load = subprocess.Popen(
            [f"{BUILD}/pulseload", "--target", f"ws://127.0.0.1:{server.port}/", "--connections",
             str(PEERS), "--connect-rate", "5000/s", "--duration", "100s", "--reconnect", "never",
             "--heartbeat-interval", "100s"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            preexec_fn=give_way)
        try:
            admin = server.admin
            deadline = time.monotonic() + 90
            while admin.get("/api/v1/count?state=open")["connections"] < PEERS:
                assert load.poll() is None and time.monotonic() < deadline, "not all are connected"
                time.sleep(0.2)
            began = time.monotonic()
            ids = [row["id"] for page in admin.pages(limit=1_000) for row in page]
            print(f"REPORT {backend} {PEERS} connections listed in pages of 1,000: "
                  f"{(time.monotonic() - began) * 1_000:.0f} ms", flush=True)
            assert len(ids) == len(set(ids)) == PEERS, (len(ids), len(set(ids)))
            scrape(admin, backend)
            timed(admin, f"{backend} retune of", "/api/v1/retune",
                  {"all": True, "profile": "mobile"})
            timed(admin, f"{backend} broadcast to", "/api/v1/broadcast",
                  {"all": True, "text": "the server moves at five"})
            timed(admin, f"{backend} kick of", "/api/v1/kick", {"all": True})
        finally:
            load.kill()
            load.wait()
            load.stderr.close()


if __name__ == "__main__":
    sys.exit(run_over_backends(globals()))
