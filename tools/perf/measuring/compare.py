"""Is B slower than A? Runs both at once and calls a difference only where it is significant.

  compare.sh --b='--gather off'                      a flag of the server, against the default
  compare.sh --a=backend=epoll --b=backend=io_uring
  compare.sh --b=binary=old/pulsewheel               a program, against build/pulsewheel
  compare.sh --a=revision=HEAD~5 --pairs 20          a git revision, built and kept

A side is words of backend=NAME, binary=FILE, revision=REV, and flags of pulsewheel. Each run has a
server and a pulseload of its own. A pair is one run of each side, over the same instants and on the
same cores, so that what the machine does meanwhile is in both [Bulej et al., "Duet benchmarking",
ICPE 2020]; --in-turn makes it one after the other, in random order, where the cores do not bear
both, and callgrind's runs always are. Which side is started first is random. B/A is the
Hodges-Lehmann estimate over the pairs; its interval is that of Wilcoxon's signed-rank test. The
verdict is of --measure alone and is given once, after the last pair; of the other measures the
table has the figures. A run that pulseload calls INVALID is repeated with its pair, and so is one
whose load may have ended while it was measured.

CPU is that of the median tenth of a second: what runs beside it for a moment does not count. Where
the CPU has no counters, --measure instructions is by callgrind, under a small load on epoll, and
needs no quiet machine: it sees what a heartbeat does in user space, not what it waits for.

Exit code: 0 no difference is shown, or B is faster; 3 B is slower; 1 it could not be measured; 2
usage.
"""
import argparse
import contextlib
import dataclasses
import random
import shlex
import statistics
import tempfile

from measuring import callgrind, revision, significance, tools, workload
from measuring.command import Failed, WrongUse, add_output, add_workload, program, whole
from measuring.results import Results, figure, table

MEASURES = {"cpu": "CPU of the server a heartbeat, us",
            "p50": "p50 of heartbeats, us", "p99": "p99 of heartbeats, us",
            "rss": "RSS of the server, KiB",
            "wakeups": "wake-ups of the server a heartbeat",
            "syscalls": "system calls of the backend a heartbeat",
            "instructions": "instructions of the server a heartbeat"}
PAIRS_MAX = 1_000
ATTACH_SECONDS = 1.0  # for perf to begin to count
REPEATED_SHARE = 0.5  # so many pairs more, at most, for those that were invalid
TIMES = ("cpu", "p50", "p99", "instructions")  # of the others there is more or less
WORDS = {"more": ("B is slower", "B has more"), "less": ("B is faster", "B has less"),
         "none": ("no difference is shown", "no difference is shown")}


@dataclasses.dataclass
class Side:
    """A or B: what to run, and the values of each measure by pair."""
    name: str
    text: str
    binary: str
    backend: str
    flags: list
    values: dict = dataclasses.field(default_factory=dict)


def confidence(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 0.9999:
        raise argparse.ArgumentTypeError(f"'{text}' must be from 0.5 to 0.9999")
    return value


def add_flags(parser):
    group = parser.add_argument_group("What is compared")
    group.add_argument("--a", metavar="SIDE", default="", help="(default: as the flags below say)")
    group.add_argument("--b", metavar="SIDE", default="", help="likewise")
    group.add_argument("--measure", choices=MEASURES, default="cpu",
                       help="what the verdict is of: %(choices)s (default %(default)s)")
    group.add_argument("--pairs", metavar="N", type=whole(1, PAIRS_MAX), default=12,
                       help="pairs of runs (default %(default)s)")
    group.add_argument("--confidence", metavar="C", type=confidence, default=0.99,
                       help="of the interval, and so of the verdict (default %(default)s)")
    group.add_argument("--in-turn", action="store_true",
                       help="one side after the other: for loads of which the cores bear one")
    group.add_argument("--any-run", action="store_true",
                       help="count runs that pulseload calls INVALID, too, or whose load may "
                            "have ended: for counts, which a late generator does not blur")
    group.add_argument("--seed", metavar="N", type=whole(0, 2 ** 32), default=1,
                       help="of the order in each pair (default %(default)s)")
    add_workload(parser, running=False)
    parser.set_defaults(seconds=3.0)
    add_output(parser)


def side_of(name, text, options, say):
    side = Side(name, text or "as the flags say", "", options.backend, [])
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise WrongUse(f"--{name.lower()}: {error}; close the quotation") from None
    while words and not words[0].startswith("--"):
        key, _, value = words.pop(0).partition("=")
        if key == "backend" and value in ("auto", "epoll", "io_uring"):
            side.backend = value
        elif key == "binary" and value and not side.binary:
            side.binary = program(value, folder="")
        elif key == "revision" and value and not side.binary:
            side.binary = revision.built(value, say)
        else:
            raise WrongUse(f"--{name.lower()}: '{key}={value}' is not understood; give "
                           "backend=auto|epoll|io_uring, one binary=FILE or revision=REV, flags")
    side.flags = words
    side.binary = side.binary or program("pulsewheel")
    return side


def switches(pid):
    """How often the threads of a process have gone to sleep, and so been woken."""
    return sum(thread["sleeps"] for thread in tools.scheduling(pid).values())


def by_callgrind(side, options):
    """{measure: value} of a run of callgrind, and what is wrong with it: one of both is None."""
    window, instructions = callgrind.counted(of_side(side, options), side.binary)
    if window.rate is None:
        return None, "no heartbeat came"
    return {"instructions": window.per(instructions)}, None


def of_side(side, options):
    return argparse.Namespace(**{**vars(options), "backend": side.backend,
                                 "server": options.server + side.flags})


def measured_at_once(sides, options):
    """{name: {measure: value}} of sides that run over the same instants, and what is wrong."""
    attaching_s = len(sides) * ATTACH_SECONDS if options.measure == "instructions" else 0
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in sides]
        loads = []
        for side, folder in zip(sides, folders):
            later = len(sides) - len(loads) - 1
            loads.append(stack.enter_context(workload.loaded(
                of_side(side, options), folder, side.binary, whole=True, settles=later == 0,
                outlasts_s=later * workload.start_seconds(options) + attaching_s)))
        counters = [tools.Counting(load.pid, ["instructions:u"], folder)
                    for load, folder in zip(loads, folders)
                    if options.measure == "instructions"]
        slept = [-switches(load.pid) for load in loads]
        for counter in counters:
            counter.begin()
        windows = workload.watched_together(loads, options.seconds)
        counted = [counter.end()["instructions:u"] for counter in counters] or [None] * len(sides)
        slept = [before + switches(load.pid) for before, load in zip(slept, loads)]
        resident = [tools.resident_bytes(load.pid) for load in loads]
        reports = [workload.wait_for_load(load) for load in loads]
    found = {}
    for side, load, window in zip(sides, loads, windows):
        if window.after.at_s > load.beats_until_s and not options.any_run:
            return None, f"the load of {side.name} may have ended while it was measured"
    for side, *got in zip(sides, windows, counted, slept, resident, reports):
        wrong = why_not_counted(got[-1], options.any_run)
        if wrong is None and got[0].rate is None:
            wrong = "no heartbeat came"
        if wrong:
            return None, wrong
        found[side.name] = values_of(*got)
    return found, None


def values_of(window, instructions, slept, resident, report):
    """{measure: value} of a run."""
    calls = [reading.counters["io"]["system_calls"] for reading in (window.before, window.after)]
    # Of the median slice: what else ran for a moment is in few of them.
    cpu = statistics.median(window.slices)
    values = {"cpu": cpu / window.rate * 1e6, "rss": resident / 1024, "wakeups": window.per(slept),
              "syscalls": window.per(calls[1] - calls[0])}
    for name in ("p50", "p99"):
        values[name] = report["hold_latency"]["heartbeat"].get(f"{name}_us")
    if instructions is not None:
        values["instructions"] = window.per(instructions)
    return values


def measured_pair(sides, options):
    """{name: {measure: value}} of a run of each side, and what is wrong with it."""
    if not options.in_turn and not options.by_callgrind:
        return measured_at_once(sides, options)
    found = {}
    for side in sides:
        if options.by_callgrind:
            found[side.name], wrong = by_callgrind(side, options)
        else:
            values, wrong = measured_at_once([side], options)
            found[side.name] = None if wrong else values[side.name]
        if wrong:
            return None, wrong
    return found, None


def why_not_counted(report, any_run):
    """What is wrong with a run; None where it counts."""
    if report is None:
        return "pulseload left no report"
    if report["verdict"]["state"] in (("valid", "invalid") if any_run else ("valid",)):
        return None
    return f"{report['verdict']['state']}: {' '.join(report['verdict']['evidence'])}"


def measure(sides, options, results):
    """Fills the sides' values. Returns how many pairs were repeated."""
    order, repeated, pair = random.Random(options.seed), 0, 0
    while pair < options.pairs:
        results.progress(f"pair {pair + 1} of {options.pairs}")
        values, wrong = measured_pair(order.sample(sides, 2), options)
        if wrong:
            repeated += 1
            if repeated > max(2, options.pairs * REPEATED_SHARE):
                raise Failed(f"{repeated} runs were not valid; the last: {wrong.rstrip('.')}; "
                             "make --rate less, wait until the machine is quiet, or give --any-run")
            continue
        for side in sides:
            for name, value in values[side.name].items():
                side.values.setdefault(name, []).append(value)
        pair += 1
    return repeated


def compared(sides, options):
    """{measure: Comparison} of all that was measured in each run and is above 0."""
    found = {}
    for name in MEASURES:
        a, b = (side.values.get(name, []) for side in sides)
        if a and b and all(value is not None and value > 0 for value in a + b):
            found[name] = significance.compared(a, b, options.confidence)
    return found


def spread(values):
    return (f"{figure(statistics.median(values))} ({figure(min(values))}-{figure(max(values))})")


def interval(one):
    return "too few pairs" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"


def verdict_line(found, options):
    one = found.get(options.measure)
    if one is None:
        raise Failed(f"--measure {options.measure}: was not measured in each run")
    needed = significance.pairs_needed(options.confidence)
    if one.low is None:
        return f"no verdict: {options.pairs} pairs are too few for this, {needed} are needed"
    word = WORDS[one.verdict][options.measure not in TIMES]
    return (f"{word}: {MEASURES[options.measure]}, B/A {one.ratio:.3f}, "
            f"{options.confidence * 100:g} % sure to lie in {interval(one)}")


def counts_by_callgrind(options, results):
    """Whether instructions are, which is where the CPU counts none. Fails where nothing can."""
    if options.measure != "instructions":
        return False
    if tools.why_no_perf() is None and tools.counts_here("instructions:u"):
        return False
    if why := callgrind.why_not():
        raise Failed(f"--measure instructions: this machine has no hardware counters, and {why}")
    results.note("instructions are counted by callgrind, since this machine has no hardware "
                 f"counters: of the reactor's turns, {callgrind.SMALL_WORDS}")
    return True


def counted_with(options):
    """The options of the load that there was."""
    small = callgrind.SMALL if options.by_callgrind else {}
    return argparse.Namespace(**{**vars(options), **small})


def main(options):
    results = Results("compare", options)
    options.by_callgrind = counts_by_callgrind(options, results)
    sides = [side_of(name, text, options, results.note)
             for name, text in (("A", options.a), ("B", options.b))]
    if options.by_callgrind and any(side.backend == "io_uring" for side in sides):
        raise WrongUse("--measure instructions: callgrind runs no io_uring here; compare epoll")
    results.environment["programs"] = {
        side.name: tools.environment.binary(side.binary) for side in sides}
    results.write("environment.json", results.environment)
    repeated = measure(sides, options, results)
    if repeated:
        results.note(f"{repeated} pairs were repeated, since a run in them was not valid")
    found = compared(sides, options)
    rows = [[MEASURES[name], *(spread(side.values[name]) for side in sides), f"{one.ratio:.3f}",
             interval(one)] for name, one in found.items()]
    lines = [f"{side.name}: {side.text}" for side in sides]
    verdict = verdict_line(found, options)
    results.report(
        {"measure": options.measure, "confidence": options.confidence,
         "verdict": found[options.measure].verdict, "repeated": repeated,
         "compared": {name: dataclasses.asdict(one) for name, one in found.items()},
         "sides": {side.name: dataclasses.asdict(side) for side in sides}},
        [*lines, "", *table(["medians (least-most)", "A", "B", "B/A",
                             f"{options.confidence * 100:g} % interval"], rows), "", verdict],
        workload.summary(counted_with(options)))
    return 3 if found[options.measure].verdict == "more" else 0
