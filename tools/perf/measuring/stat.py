"""What a heartbeat costs the CPU: cycles, instructions, cache and branch misses, switches.

  stat.sh                                of a server and load that it starts
  stat.sh --pid 4711 --admin 127.0.0.1:9100    of a server that runs
  stat.sh --callgrind yes                instructions by callgrind, whatever perf can do

By perf. Where the machine has no counters (most virtual ones), callgrind counts the instructions of
the reactor's turns in place of that: of a second server, on epoll, under a small load of its own
(50 connections, 500 heartbeats a second), since callgrind slows it by a factor. Its count is of
user space alone.

Exit code: 0; 1 it could not be measured; 2 usage.
"""
import tempfile

from measuring import callgrind, tools, workload
from measuring.command import Failed, add_output, add_workload
from measuring.results import Results, figure, table

SOFTWARE = ("task-clock", "context-switches", "cpu-migrations", "page-faults")
HARDWARE = ("cycles", "instructions", "branches", "branch-misses", "cache-references",
            "cache-misses")


def add_flags(parser):
    parser.add_argument("--callgrind", choices=("auto", "yes", "no"), default="auto",
                        help="count instructions by callgrind; auto: where perf cannot (default "
                             "%(default)s)")
    add_workload(parser)
    add_output(parser)


def by_perf(options, results):
    """(window, {event: count}) of the events that are counted here; None where perf may not be."""
    why = tools.why_no_perf()
    if why:
        results.note(f"nothing is counted by perf: {why}")
        return None
    events = [event for event in SOFTWARE + HARDWARE if tools.counts_here(event)]
    if not set(events) & set(HARDWARE):
        results.note("this machine has no hardware counters, as most virtual machines: cycles, "
                     "instructions and misses are not counted")
    with workload.loaded(options, results.path) as watched, \
            tempfile.TemporaryDirectory() as folder:
        counter = tools.Counting(watched.pid, events, folder)
        return workload.watched_for(watched, options.seconds, counter.begin, counter.end)


def rows_of(window, counts):
    for event, count in counts.items():
        if count is None:
            continue
        name, value = event, window.per(count)
        if event.startswith("task-clock"):
            name, value = "task-clock, us", window.per(count) * 1e3  # perf counts milliseconds
        yield [name, figure(value)]
    if counts.get("cycles") and counts.get("instructions"):
        yield ["instructions a cycle", figure(counts["instructions"] / counts["cycles"])]


def wants_callgrind(options, results, counts):
    if options.callgrind != "auto":
        return options.callgrind == "yes"
    if counts.get("instructions") is not None:
        return False
    if options.pid is not None:
        results.note("callgrind counts a server that it starts: not one that runs (--pid)")
        return False
    if why := callgrind.why_not():
        results.note(f"instructions are not counted: {why}")
        return False
    return True


def main(options):
    results = Results("stat", options)
    measured = by_perf(options, results)
    figures, lines, counts = {}, [], {}
    if measured:
        window, counts = measured
        figures = {**window.figures(), "counts": counts, "per_unit": {
            event: window.per(count) for event, count in counts.items()}}
        lines += [window.head(), "", *table(["counted by perf", window.unit],
                                            rows_of(window, counts))]
    figures["callgrind"] = None
    if wants_callgrind(options, results, counts):
        results.progress("callgrind: some seconds to start")
        window, instructions = callgrind.counted(options, keep=results.file("callgrind.out"))
        if window.rate is None:
            raise Failed("callgrind: no heartbeat came while it counted; give --seconds more")
        turns = window.after.counters["turns"] - window.before.counters["turns"]
        beats = window.rate * (window.after.at_s - window.before.at_s)
        figures["callgrind"] = {"instructions": instructions, "heartbeats_per_s": window.rate,
                                "heartbeats_per_turn": beats / max(1, turns),
                                "instructions_per_heartbeat": window.per(instructions)}
        lines += ["", f"counted by callgrind: {window.per(instructions):,.0f} instructions a "
                  f"heartbeat in the reactor's turns, user space alone; epoll, {window.rate:,.0f} "
                  f"heartbeats a second, {beats / max(1, turns):.1f} a turn"]
    if not lines:
        raise Failed("nothing could be counted; the notes above have the reasons")
    results.report(figures, lines, workload.summary(options))
    return 0
