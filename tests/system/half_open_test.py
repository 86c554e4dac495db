#!/usr/bin/env python3
"""Peers that are gone without a word: their cable is pulled.

Server and clients live in two network namespaces with a cable (veth) between them. Once all
beats, the cable's far end goes down: no FIN, no RST, nothing comes any more, and what the server
sends goes nowhere. Every one of them is to be evicted by its deadline, and clients on the server's
own side of the cable are to notice nothing. Skipped by name where namespaces may not be made.
Ends with `N passed, N failed`.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from cable import (Cable, PEER_SIDE, SERVER_ADDRESS, SERVER_SIDE, inside,  # noqa: E402: its path
                   need_namespaces)  # comes first
from server import BUILD, Server, run_over_backends  # noqa: E402

PEERS, CANARIES = 200, 50


def load(namespace, address, count, seconds, path):
    return subprocess.Popen(
        [*inside(namespace), f"{BUILD}/pulseload", "--target", f"auto://{address}",
         "--mix", "ws=1,jsonl=1,tcp=1", "-n", str(count), "-d", f"{seconds}s",
         "--heartbeat-interval", "1s", "--quiet", "--json", path],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def test_a_pulled_cable(backend):
    need_namespaces()
    with Cable() as cable, tempfile.TemporaryDirectory() as directory:
        with Server(backend, "--heartbeat-interval", "1s", "--heartbeat-timeout", "3s",
                    scheme="auto", host="*", inside=inside(SERVER_SIDE)) as server:
            paths = [os.path.join(directory, name) for name in ("peers", "canaries")]
            peers = load(PEER_SIDE, f"{SERVER_ADDRESS}:{server.port}", PEERS, 9, paths[0])
            canaries = load(SERVER_SIDE, f"127.0.0.1:{server.port}", CANARIES, 9, paths[1])
            time.sleep(3.5)
            before = server.stats()["total"]
            assert before["connections"] == PEERS + CANARIES and before["evicted"] == 0, before
            cable.pull()
            assert peers.wait(timeout=60) in (0, 3) and canaries.wait(timeout=60) in (0, 3)
            total = server.stats()["total"]
            assert total["evicted"] == PEERS, total["closed_by_reason"]
            delay = total["eviction_delay"]
            print(f"REPORT {backend}: {PEERS} peers behind a pulled cable were evicted "
                  f"{delay['min_us'] / 1000:.2f} to {delay['max_us'] / 1000:.2f} ms past their "
                  "deadline")
            with open(paths[1]) as file:
                result = json.load(file)
            assert result["counts"]["open"] == CANARIES, result["counts"]
            assert result["counts"]["server_closes"] == 0, result["counts"]
            with open(paths[0]) as file:
                result = json.load(file)
            assert result["counts"]["server_closes"] == 0, "nothing can have been heard"


if __name__ == "__main__":
    sys.exit(run_over_backends(globals()))
