"""How often the server wakes for each heartbeat, and how long it waits for a core then.

  wakeups.sh                                   of a server and load that it starts
  wakeups.sh --pid 4711 --admin 127.0.0.1:9100     of a server that runs

By thread: wake-ups and preemptions (/proc/PID/task/*/status), the time on a core and in the run
queue (schedstat). Where perf may trace the scheduler, also the distribution of the time from a
wake-up to the first instant on a core; elsewhere its mean, of wake-ups and preemptions together.

Exit code: 0; 1 it could not be measured; 2 usage.
"""
import os
import re
import subprocess
import tempfile

from measuring import tools, workload
from measuring.command import add_output, add_workload
from measuring.results import Results, figure, table

EVENTS = ("sched:sched_wakeup", "sched:sched_switch")
PERCENTILES = (50, 90, 99, 99.9)
LINE = re.compile(r"^\s*(\d+\.\d+):\s+sched:(\w+):\s+(.*)$")
MOST_THREADS_FILTERED = 64  # a filter is one page of text at most
BAR = 40


def add_flags(parser):
    parser.add_argument("--method", choices=("auto", "perf", "proc"), default="auto",
                        help="whether the scheduler is traced: %(choices)s (default %(default)s)")
    add_workload(parser)
    add_output(parser)


class Scheduler(tools.Controlled):
    """perf, which records the wake-ups of a process's threads and when they come to a core."""

    def __init__(self, pid, threads, folder):
        self.data = os.path.join(folder, "sched.data")
        woken = "||".join(f"pid=={thread}" for thread in threads)
        chosen = "||".join(f"next_pid=={thread}" for thread in threads)
        super().__init__(["perf", "record", "-q", "-o", self.data, "-m", "1024",
                          "-e", EVENTS[0], "--filter", woken, "-e", EVENTS[1], "--filter", chosen,
                          "-a"], None, folder)

    def end(self):
        """Seconds from each wake-up to the core, by thread, and how many events were lost."""
        words = super().end()
        done = subprocess.run(["perf", "script", "-i", self.data, "-F", "time,event,trace"],
                              capture_output=True, text=True, errors="replace", check=False)
        lost = re.findall(r"lost (\d+)", words + done.stderr)
        return delays_of(done.stdout), sum(map(int, lost))


def delays_of(text):
    """{thread: seconds of each wake-up until it ran} of perf script's lines."""
    woken, delays = {}, {}
    for line in text.splitlines():
        found = LINE.match(line)
        if not found:
            continue
        at, event, rest = float(found[1]), found[2], found[3]
        if event == "sched_wakeup":
            thread = re.search(r"(?:comm=.* pid=|:)(\d+)", rest)
            if thread:
                woken.setdefault(int(thread[1]), at)
        else:
            thread = re.search(r"(?:next_pid=|==> .*:)(\d+)", rest)
            if thread and int(thread[1]) in woken:
                delays.setdefault(int(thread[1]), []).append(at - woken.pop(int(thread[1])))
    return delays


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share / 100))]


def histogram(delays):
    """Lines: how many waits fell between each power of two of microseconds."""
    counts = {}
    for delay in delays:
        power = max(0, int(delay * 1e6)).bit_length()
        counts[power] = counts.get(power, 0) + 1
    most = max(counts.values())
    for power in range(min(counts), max(counts) + 1):
        count = counts.get(power, 0)
        low = 0 if power == 0 else 1 << (power - 1)
        yield (f"  {low:>8,} us {count:>9,} {'#' * round(BAR * count / most)}").rstrip()


def traces_here(options, results):
    if options.method != "auto":
        return options.method == "perf"
    why = tools.why_no_perf()
    if why is None and not tools.counts_here(EVENTS[1], everywhere=True):
        why = "tracepoints may not be used here; run as root"
    if why is None:
        return True
    results.note(f"the scheduler is not traced: {why}. The mean of schedstat takes the place of "
                 "the distribution")
    return False


def measured(options, results):
    """The window, {thread: what it did}, delays or None."""
    traced = traces_here(options, results)
    with workload.loaded(options, results.path) as watched, \
            tempfile.TemporaryDirectory() as folder:
        threads = list(watched.threads())
        recorder, delays = None, None
        if traced and len(threads) <= MOST_THREADS_FILTERED:
            recorder = Scheduler(watched.pid, threads, folder)
        elif traced:
            results.note(f"the scheduler is not traced: {len(threads)} threads are more than "
                         f"{MOST_THREADS_FILTERED}, which a filter takes")
        first = {}

        def begin():
            if recorder:
                recorder.begin()
            first.update(tools.scheduling(watched.pid))

        def end():
            last = tools.scheduling(watched.pid)
            return last, recorder.end() if recorder else None
        window, (last, traced) = workload.watched_for(watched, options.seconds, begin, end)
    if traced:
        delays, lost = traced
        if lost:
            results.note(f"{lost} events of the scheduler were lost: the distribution lacks some; "
                         "make --seconds less")
    return window, difference(first, last), delays


def difference(first, last):
    """{thread: what it did in between}, of those that were there all the time."""
    done = {}
    for thread, now in last.items():
        before = first.get(thread)
        if before is not None:
            done[thread] = {"name": now["name"], **{
                key: None if now[key] is None else now[key] - before[key]
                for key in now if key != "name"}}
    return done


def thread_rows(window, done, delays):
    for thread, row in sorted(done.items(), key=lambda item: -(item[1]["ran_ns"] or 0)):
        if not row["slices"] and not row["sleeps"]:
            continue
        waited = row["waited_ns"]
        mean = None if waited is None else waited / max(1, row["slices"]) / 1e3
        here = sorted((delays or {}).get(thread, []))
        yield [row["name"], figure(window.per(row["sleeps"])),
               figure(window.per(row["preemptions"])),
               "-" if row["ran_ns"] is None else f"{row['ran_ns'] / window.seconds / 1e7:.1f}",
               figure(mean), *(figure(percentile(here, share) * 1e6) if here else "-"
                               for share in (50, 99))]


def main(options):
    results = Results("wakeups", options)
    window, done, delays = measured(options, results)
    total = {key: sum(row[key] or 0 for row in done.values())
             for key in ("sleeps", "preemptions", "ran_ns", "waited_ns", "slices")}
    lines = [window.head(), f"{figure(window.per(total['sleeps']))} wake-ups {window.unit}, "
             f"{figure(window.per(total['preemptions']))} preemptions; in the run queue "
             f"{figure(window.per(total['waited_ns'] / 1e3))} us {window.unit}", "",
             *table(["thread", f"wake-ups {window.unit}", "preempted", "on a core, %",
                     "wait, mean us", "p50", "p99"], thread_rows(window, done, delays))]
    figures = {**window.figures(), "wakeups_per_unit": window.per(total["sleeps"]),
               "preemptions_per_unit": window.per(total["preemptions"]),
               "run_queue_us_per_unit": window.per(total["waited_ns"] / 1e3),
               "threads": {str(thread): row for thread, row in done.items()}, "latency_us": None}
    if delays:
        every = sorted(delay for values in delays.values() for delay in values)
        figures["latency_us"] = {"count": len(every), "max": every[-1] * 1e6, **{
            f"p{share:g}": percentile(every, share) * 1e6 for share in PERCENTILES}}
        lines += ["", f"from a wake-up to a core, {len(every):,} of all threads:",
                  *histogram(every)]
    results.report(figures, lines, workload.summary(options))
    return 0
