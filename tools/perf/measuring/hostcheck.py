"""What this machine should have otherwise to hold many connections, and why. Changes nothing.

  hostcheck.sh                        for a million connections
  hostcheck.sh --connections 100k     for fewer

Looks at limits, sysctls, memory, CPU governors, the network's queues and where their interrupts go,
and at what profilers need. Each finding has what was found, why it matters, and the command that
changes it. `must`: so many connections cannot be held, or are lost under load; `should`: it costs
throughput, latency or the trust in a measurement; `ok`; `unknown`: it cannot be read here.

Exit code: 0; 3 where at least one finding is a `must`; 1 a file cannot be written; 2 usage.
"""
import dataclasses
import re
import textwrap

from measuring import host_network, host_processor
from measuring.command import add_output, whole
from measuring.host import Finding, Host
from measuring.results import Results

# What a connection costs: the socket, its place in the watch set, and the server's own
# (README.md, "An idle connection"; tools/perf/README.md, make density).
BYTES_A_CONNECTION = 3_810 + 260 + 100
MEMORY_SHARE_MAX = 0.8
REACTOR_SPARE_DESCRIPTORS = 64
ORDER = ("must", "should", "unknown", "ok")
WIDTH = 96


def add_flags(parser):
    group = parser.add_argument_group("What is checked")
    group.add_argument("--connections", metavar="N", type=whole(1, 100_000_000), default=1_000_000,
                       help="connections that it shall hold (default %(default)s)")
    group.add_argument("--root", metavar="DIR", default="/",
                       help="read proc/ and sys/ below this folder: of another machine, copied")
    group.add_argument("--all", action="store_true", help="show what is as it should be, too")
    add_output(parser)


def descriptors(host, connections):
    """Each reactor has a table of its own, so the limit is a thread's."""
    text = host.read("proc/self/limits") or ""
    found = re.search(r"^Max open files\s+(\S+)\s+(\S+)", text, re.M)
    if not found:
        return Finding("unknown", "descriptors (RLIMIT_NOFILE)", None, "/proc/self/limits has none")
    hard = connections * 2 if found[2] == "unlimited" else int(found[2])
    reactors = -(-connections // max(1, hard - REACTOR_SPARE_DESCRIPTORS))
    cores = max(1, host.cores())
    why = (f"a thread opens at most {hard:,} files: {connections:,} connections take "
           f"{reactors} reactor{'s' if reactors > 1 else ''} on {cores} cores")
    change = "ulimit -Hn 1048576, or LimitNOFILE=1048576 in the unit"
    if reactors > cores:
        return Finding("should", "descriptors (RLIMIT_NOFILE)", f"{found[1]}, hard {found[2]}", why,
                       change)
    return Finding("ok", "descriptors (RLIMIT_NOFILE)", f"{found[1]}, hard {found[2]}", why)


def files_of_all(host, connections):
    return host.at_least("fs.file-max", connections + 10_000, "must",
                         "all open files of the machine; each connection is one")


def memory(host, connections):
    text = host.read("proc/meminfo") or ""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.M)
    needs = connections * BYTES_A_CONNECTION
    if not found:
        return Finding("unknown", "memory", None, f"{needs >> 20:,} MiB are needed")
    available = int(found[1]) * 1024
    enough = needs <= available * MEMORY_SHARE_MAX
    return Finding("ok" if enough else "must", "memory", f"{available >> 20:,} MiB available",
                   f"{connections:,} idle connections take {needs >> 20:,} MiB, of which the "
                   "kernel has 97 %", None if enough else "more memory, or --connections less")


def cgroup_memory(host, connections):
    limit = host.read("sys/fs/cgroup/memory.max")
    needs = connections * BYTES_A_CONNECTION
    if limit is None or limit == "max":
        return Finding("ok", "memory of the cgroup", limit or "no limit is seen",
                       "sockets are charged to the cgroup that accepts them")
    enough = needs <= int(limit) * MEMORY_SHARE_MAX
    return Finding("ok" if enough else "must", "memory of the cgroup", f"{int(limit) >> 20:,} MiB",
                   f"sockets are charged to it: {needs >> 20:,} MiB",
                   None if enough else "MemoryMax= of the unit, --memory of the container")


def swap(host, _):
    text = host.read("proc/meminfo") or ""
    found = re.search(r"^SwapTotal:\s+(\d+) kB", text, re.M)
    swappiness = host.sysctl("vm.swappiness")
    if not found or int(found[1]) == 0 or swappiness in (None, "0", "1"):
        return Finding("ok", "swap", "off" if found and found[1] == "0" else swappiness,
                       "a server whose records are swapped out answers late")
    return Finding("should", "swap", f"{int(found[1]) >> 10:,} MiB, vm.swappiness {swappiness}",
                   "a server whose records are swapped out answers late, and looks dead to its "
                   "peers", "sysctl -w vm.swappiness=1, or swapoff -a")


def io_uring(host, _):
    value = host.sysctl("kernel.io_uring_disabled")
    if value in (None, "0"):
        return Finding("ok", "kernel.io_uring_disabled", value, "--backend io_uring needs 0")
    return Finding("should", "kernel.io_uring_disabled", value,
                   "--backend io_uring cannot be used; epoll is", "sysctl -w "
                   "kernel.io_uring_disabled=0")


CHECKS = (descriptors, files_of_all, memory, cgroup_memory, swap, io_uring, *host_network.CHECKS,
          *host_processor.CHECKS)


def findings(host, connections):
    """All of them, the worst first."""
    found = []
    for check in CHECKS:
        one = check(host, connections)
        found += one if isinstance(one, list) else [one]
    return sorted(found, key=lambda finding: ORDER.index(finding.level))


def lines_of(found, show_all):
    for finding in found:
        if finding.level == "ok" and not show_all:
            continue
        value = "cannot be read" if finding.value is None else finding.value
        yield f"{finding.level:<8} {finding.name}: {value}"
        yield from textwrap.wrap(finding.why, WIDTH, initial_indent=" " * 9,
                                 subsequent_indent=" " * 9)
        if finding.change:
            yield f"{'':9}change: {finding.change}"


def main(options):
    results = Results("hostcheck", options)
    found = findings(Host(options.root), options.connections)
    counts = {level: sum(finding.level == level for finding in found) for level in ORDER}
    lines = [f"For {options.connections:,} connections; nothing is changed.", "",
             *lines_of(found, options.all), "",
             f"{counts['must']} must, {counts['should']} should, {counts['unknown']} unknown, "
             f"{counts['ok']} ok{'' if options.all else ' (shown with --all)'}"]
    results.report({"connections": options.connections, "counts": counts,
                    "findings": [dataclasses.asdict(finding) for finding in found]}, lines)
    return 3 if counts["must"] else 0
