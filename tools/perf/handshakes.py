#!/usr/bin/env python3
"""How many handshakes of TLS one core of the server does a second, and whose work they are.

    tools/perf/handshakes.py [--connections N] [--rounds N] [--backend NAME]

A server of one reactor (ECDSA P-256, TLS 1.3) and build/pulseload over loopback; plain connects,
full handshakes and resumed ones in turn, in --rounds rounds, each with a server of its own. Prints
a table: medians, and in brackets the least and the most, of the server's CPU a connection, from the
accept on, with its first ping and what of its close is done when the load has ended; the handshakes
that a core does a second at that; what one costs above a plain connect; and the shares of that CPU
which perf saw in OpenSSL (libssl and libcrypto), in libc (memory, most of it for OpenSSL), in the
kernel and in the server itself, where perf may be used. CPU times are the server's alone. Exit
code: 0; 1 where a run failed; 2 usage.
"""
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measuring.command import Failed
from measuring.tools import why_no_perf
from measuring.workload import cpu_seconds, kept_on
from script import run_script, usage
from tls_pair import end, load_command, make_certificate, read_run, serving, whole_numbers

OPTIONS = {"--connections": 5_000, "--rounds": 3, "--backend": "epoll"}
KINDS = {"plain": ("tcp", None), "full": ("tls+tcp", "0"), "resumed": ("tls+tcp", "100")}
# At once; the first of them have no session to resume, so that they are a twentieth at most.
HANDSHAKES_MAX = 64
PERF_WAIT_SECONDS = 1
RUN_SECONDS_MAX = 300
PARTS = ("openssl", "libc", "kernel", "server")


def part_of(dso):
    if dso.startswith(("libssl", "libcrypto")):
        return "openssl"
    return "libc" if dso.startswith("libc.") else "kernel" if dso.startswith("[") else "server"


def shares(data):
    """{part: share of the samples}; None where perf reports none."""
    done = subprocess.run(["perf", "report", "-i", data, "--sort", "dso", "--stdio", "-q"],
                          capture_output=True, text=True, check=False)
    seen = dict.fromkeys(PARTS, 0.0)
    for share, where in re.findall(r"^\s*([\d.]+)%\s+(\S+)", done.stdout, re.M):
        seen[part_of(where)] += float(share)
    return seen if any(seen.values()) else None


def one_run(kind, connections, backend, directory, watch):
    """Server CPU microseconds a connection, and where, or None."""
    scheme, resume = KINDS[kind]
    flags = () if resume is None else (
        "--tls-resume", resume, "--tls-handshakes",
        str(max(1, min(HANDSHAKES_MAX, connections // 20))))
    result, data = (os.path.join(directory, name) for name in ("load.json", "perf.data"))
    perf = None
    with serving(directory, backend, scheme, connections, "--reactors", "1") as (server, address):
        if watch:
            perf = subprocess.Popen(
                ["perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-o", data, "-p",
                 str(server.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                preexec_fn=kept_on(None))
            time.sleep(PERF_WAIT_SECONDS)
        try:
            before = cpu_seconds(server.pid)
            done = subprocess.run(
                load_command(f"{scheme}://{address}", result, "--connections", str(connections),
                             "--heartbeat-interval", "0", "--duration", "100ms", *flags),
                check=False, timeout=RUN_SECONDS_MAX)
            used = cpu_seconds(server.pid) - before
        except subprocess.TimeoutExpired:
            raise Failed(f"pulseload did not end within {RUN_SECONDS_MAX} s") from None
        finally:
            if perf is not None:
                end(perf, signal.SIGINT)
    # Where the generator was late (INVALID), the server's CPU is what it is.
    counts = read_run(result, done.returncode, 3)["counts"]
    made = counts["tls_resumed"] if kind == "resumed" else counts["tls_full"]
    if counts["connected"] < connections:
        raise Failed(f"{counts['connected']} of {connections} connected; let nothing else run")
    if kind != "plain" and made < 0.9 * connections:
        raise Failed(f"{made} of {connections} handshakes were {kind}; let nothing else run")
    return used / connections * 1e6, shares(data) if perf is not None else None


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def show(seen, connections, backend, rounds):
    plain = statistics.median(cpu for cpu, _ in seen["plain"])
    print(f"{connections} connections, {backend}, one reactor, {rounds} rounds")
    print("| | CPU us a connection | a second and core | above plain, us | OpenSSL | libc "
          "| kernel | server |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, runs in seen.items():
        cpu = [one for one, _ in runs]
        where = [share for _, share in runs if share is not None]
        cells = [f"{statistics.median(share[part] for share in where):.0f} %" if where else "-"
                 for part in PARTS]
        middle = statistics.median(cpu)
        print(f"| {kind} | {spread(cpu)} | {1e6 / middle:,.0f} | "
              f"{middle - plain:.1f} | {' | '.join(cells)} |")


def main(arguments, **given):
    try:
        options = whole_numbers(OPTIONS, arguments, given)
    except ValueError as wrong:
        return usage("handshakes.py", wrong)
    why = why_no_perf()
    if why is not None:
        print(f"handshakes.py: shares are not measured: {why}", file=sys.stderr)
    seen = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as directory:
        try:
            make_certificate(directory)
            for _ in range(options["rounds"]):
                for kind in KINDS:
                    seen[kind].append(one_run(kind, options["connections"], options["backend"],
                                              directory, why is None))
        except Failed as wrong:
            print(f"handshakes.py: {wrong}", file=sys.stderr)
            return 1
    show(seen, options["connections"], options["backend"], options["rounds"])
    return 0


if __name__ == "__main__":
    run_script("handshakes.py", __doc__, main, options=tuple(OPTIONS))
