#!/usr/bin/env python3
"""Does a drain keep its rate, and does every peer get its goodbye?

    tools/perf/drain.py [--connections N] [--rate N] [--backend NAME]

A build/pulsewheel and peers of the JSON protocol over loopback, in processes of 15,000 each; then
SIGTERM. Prints how long the goodbyes took, the rate of all and of each second (as the peers read
them), what retry_after_ms they were given, and how many got none. With 50,000 connections and
5,000/s it takes about 30 s. Exit code: 0; 1 where a peer got no goodbye, the rate of all was off by
more than 10 %, or a run failed; 2 usage.
"""
import json
import math
import multiprocessing
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from script import run_script, usage

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
PEERS_A_PROCESS = 15_000
PEERS_AN_ADDRESS = 10_000  # each has ports of its own
START_SECONDS_MAX = 20
OPTIONS = {"--connections": 50_000, "--rate": 5_000, "--backend": "epoll"}


class Failed(Exception):
    """A run that cannot be counted; its text says why."""


def start_server(connections, rate, backend, directory):
    log = os.path.join(directory, "log")
    server = subprocess.Popen(
        [os.path.join(BUILD, "pulsewheel"), "--listen", "jsonl://127.0.0.1:0",
         "--backend", backend, "--max-connections", str(connections + 100),
         "--drain-rate", f"{rate}/s",
         "--drain-timeout", f"{math.ceil(connections / rate * 2) + 10}s", "--reactors",
         str(max(2, math.ceil(connections / PEERS_A_PROCESS))), "--heartbeat-interval", "10m",
         "--heartbeat-timeout", "20m", "--log-format", "text",
         "--log-file", log])
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and server.poll() is None:
        if os.path.exists(log):
            with open(log, encoding="utf-8") as lines:
                for line in lines:
                    if "listening on" in line:
                        return server, int(line.rsplit(":", 1)[1])
        time.sleep(0.05)
    server.kill()
    raise Failed("the server did not start")


def peers(first, count, port, results):
    """Connects, says so, and reads what each is sent until its end."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    poller, open_ones = select.epoll(), {}
    for number in range(first, first + count):
        peer = socket.socket()
        peer.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        peer.bind((f"127.0.0.{2 + number // PEERS_AN_ADDRESS}", 0))
        peer.connect(("127.0.0.1", port))
        peer.sendall(b'{"type":"ping"}\n')
        assert b"pong" in peer.recv(4096)
        open_ones[peer.fileno()] = (peer, [])
        poller.register(peer.fileno(), select.EPOLLIN)
    results.send("ready")
    goodbyes, without = [], 0
    while open_ones:
        for descriptor, _ in poller.poll():
            peer, heard = open_ones[descriptor]
            try:
                more = peer.recv(4096)
            except ConnectionError:
                more = b""
            if more and b'"goodbye"' in more:
                heard.append((time.monotonic(), json.loads(more)["retry_after_ms"]))
            if more:
                continue
            goodbyes += heard[:1]
            without += not heard
            open_ones.pop(descriptor)
            peer.close()
    results.send((goodbyes, without))


def one_run(connections, rate, backend):
    """When the signal was sent, [(time, retry_after_ms)] in order, and how many got no goodbye."""
    with tempfile.TemporaryDirectory() as directory:
        server, port = start_server(connections, rate, backend, directory)
        processes, pipes = [], []
        try:
            for first in range(0, connections, PEERS_A_PROCESS):
                here, there = multiprocessing.Pipe()
                count = min(PEERS_A_PROCESS, connections - first)
                processes.append(multiprocessing.Process(target=peers,
                                                         args=(first, count, port, there)))
                processes[-1].start()
                there.close()
                pipes.append(here)
            for pipe in pipes:
                pipe.recv()
            began = time.monotonic()
            server.send_signal(signal.SIGTERM)
            parts = [pipe.recv() for pipe in pipes]
            code = server.wait(timeout=60)
        except EOFError as gone:
            raise Failed("a process of peers ended early") from gone
        finally:
            for process in processes:
                process.kill()
            server.kill()
    if code != 0:
        raise Failed(f"the server ended with {code}")
    return began, sorted(sum((goodbyes for goodbyes, _ in parts), [])), sum(n for _, n in parts)


def main(arguments, **given):
    if arguments:
        return usage("drain.py", f"'{arguments[0]}' is not wanted")
    values = {flag.lstrip("-"): given.get(flag.lstrip("-"), value)
              for flag, value in OPTIONS.items()}
    for flag in ("connections", "rate"):
        if not str(values[flag]).isdigit() or int(values[flag]) == 0:
            return usage("drain.py", f"--{flag} {values[flag]}: must be a whole number above 0")
        values[flag] = int(values[flag])
    try:
        began, goodbyes, without = one_run(**values)
    except Failed as why:
        print(f"drain.py: {why}", file=sys.stderr)
        return 1
    times = [at - began for at, _ in goodbyes]
    waits_ms = sorted(wait_ms for _, wait_ms in goodbyes)
    seconds = [sum(1 for at in times if second <= at < second + 1)
               for second in range(int(times[-1]))]
    mean = len(times) / times[-1]
    print(f"{values['backend']}: {len(times):,} of {values['connections']:,} peers got their "
          f"goodbye, {without} none, in {times[-1]:.2f} s")
    print(f"asked for {values['rate']:,}/s: {mean:,.0f}/s in all, {min(seconds, default=0):,} to "
          f"{max(seconds, default=0):,} in each second")
    print(f"retry_after_ms {waits_ms[0]} to {waits_ms[-1]}, half below "
          f"{waits_ms[len(waits_ms) // 2]}")
    return 0 if without == 0 and abs(mean / values["rate"] - 1) <= 0.1 else 1


if __name__ == "__main__":
    run_script("drain.py", __doc__, main, options=tuple(OPTIONS))
