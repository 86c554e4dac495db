"""Records where the server's threads spend their time: on a core, and off it.

  record.sh                              on a core, of a server and load that it starts
  record.sh --which off-cpu              where it waits, and how long
  record.sh --pid 4711 --which both      of a server that runs

By perf (hardware cycles, or its clock where there are no counters; off a core by context switches),
else by gdb, which stops the server at each sample and sees no kernel. Leaves WHICH.folded (a line a
stack, as flame graph tools read it) and, from perf, WHICH.data for `perf report -i`. flame.sh draws
them.

Exit code: 0; 1 it could not be recorded; 2 usage.
"""
import re
import shutil
import subprocess
import time

from measuring import stacks, tools, workload
from measuring.command import Failed, add_output, add_workload, whole
from measuring.environment import read
from measuring.results import Results, table

WHICH = {"on-cpu": ("on-cpu",), "off-cpu": ("off-cpu",), "both": ("on-cpu", "off-cpu")}
UNITS = {("perf", "on-cpu"): "samples", ("perf", "off-cpu"): "us", ("gdb", "on-cpu"): "samples",
         ("gdb", "off-cpu"): "samples"}
STACK_BYTES = {"on-cpu": 8_192, "off-cpu": 4_096}
GDB_PAUSE_SECONDS = 0.02
GDB_SAMPLES_A_SECOND = 20  # of which stopping and printing leave fewer
GDB_SPARE_SECONDS = 60
TOP = 12


def add_flags(parser, what="What is recorded"):
    group = parser.add_argument_group(what)
    group.add_argument("--which", choices=WHICH, default="on-cpu",
                       help="%(choices)s (default %(default)s)")
    group.add_argument("--method", choices=("auto", "perf", "gdb"), default="auto",
                       help="what samples: %(choices)s (default %(default)s)")
    group.add_argument("--frequency", metavar="N", type=whole(1, 10_000), default=499,
                       help="samples a second of perf, on a core (default %(default)s)")
    group.add_argument("--call-graph", choices=("dwarf", "fp"), default="dwarf",
                       help="how perf unwinds; fp costs less, and loses the caller of a function "
                            "of libc (default %(default)s)")
    add_workload(parser)
    add_output(parser)


def method_for(options, results):
    """perf or gdb, with a note where it is not the best. Fails where there is neither."""
    if options.method != "auto":
        return options.method
    why = tools.why_no_perf()
    if why is None:
        return "perf"
    if not shutil.which("gdb"):
        raise Failed(f"{why}; gdb, which could sample instead, is not installed either")
    results.note(f"perf does not sample: {why}. gdb does: some samples a second, no kernel, and "
                 "the server stands still for each")
    return "gdb"


class Recorder(tools.Controlled):
    """perf record of one kind; end() returns perf script's text."""

    def __init__(self, pid, which, options, results):
        self.data = results.file(f"{which}.data")
        self.lost, self.results, self.which = 0, results, which
        graph = "fp"
        if options.call_graph == "dwarf":
            graph = f"dwarf,{STACK_BYTES[which]}"
        command = ["perf", "record", "-q", "-o", self.data, "--call-graph", graph, "-m", "1024"]
        if which == "off-cpu":
            command += ["-e", "context-switches", "-c", "1", "--switch-events"]
        else:
            event = "cycles" if tools.counts_here("cycles") else "cpu-clock"
            if event == "cpu-clock":
                results.note("no hardware counters here: perf samples by its clock (cpu-clock), "
                             "which does not see where interrupts are off")
            command += ["-e", event, "-F", str(options.frequency)]
        super().__init__(command, pid, results.path)

    def text(self):
        """perf script's, once end() was called."""
        command = ["perf", "script", "-i", self.data, "--no-inline", "-F",
                   "comm,tid,time,ip,sym,dso"]
        if self.which == "off-cpu":
            command.append("--show-switch-events")
        done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                              check=False)
        if done.returncode != 0:
            raise Failed(f"perf script: {done.stderr.strip()[-300:]}")
        lost = sum(map(int, re.findall(r"lost (\d+)", done.stderr)))
        if lost:
            self.results.note(f"{lost} events were lost: make --rate, --frequency or --seconds "
                              "less")
        return done.stdout


class Debugger:
    """gdb, which samples all threads of a process until its count is done."""

    def __init__(self, pid, seconds, results):
        self.pid, self.seconds = pid, seconds
        self.script, self.out = results.file("gdb.commands"), results.file("gdb.txt")
        once = (f"shell cat /proc/{pid}/task/*/stat\nattach {pid}\nthread apply all -s bt\n"
                f"detach\nshell sleep {GDB_PAUSE_SECONDS}\n")
        with open(self.script, "w", encoding="utf-8") as file:
            file.write("set pagination off\nset confirm off\nset print frame-arguments none\n"
                       "set print thread-events off\nset debuginfod enabled off\n")
            file.write(once * max(3, round(seconds * GDB_SAMPLES_A_SECOND)))

    def run(self):
        """The text of its samples: of so many, or as many as the time allows."""
        with open(self.out, "w", encoding="utf-8") as out:
            process = subprocess.Popen(["gdb", "-nx", "-batch", "-x", self.script], stdout=out,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            deadline = time.monotonic() + self.seconds + GDB_SPARE_SECONDS
            try:
                self.wait(process, deadline)
            finally:
                workload.ended(process)
        text = read(self.out) or ""
        if "ptrace: Operation not permitted" in text:
            raise Failed(f"gdb: may not attach to {self.pid}; run as root, or sysctl -w "
                         "kernel.yama.ptrace_scope=0")
        return text

    def wait(self, process, deadline):
        """Until it is done, or has taken its seconds, counted from the first sample."""
        first = None
        while process.poll() is None and time.monotonic() < deadline:
            if first is None and "#0 " in (read(self.out) or ""):
                first = time.monotonic()
            if first is not None and time.monotonic() > first + self.seconds:
                return
            time.sleep(0.05)


def recorded(watched, options, results, method):
    """{which: folded stacks} and the window of the last of them."""
    found, window = {}, None
    if method == "gdb":
        before, started = watched.reading(), time.monotonic()
        text = Debugger(watched.pid, options.seconds, results).run()
        window = workload.Window(before, watched.reading(closing=True),
                                 time.monotonic() - started)
        running, waiting = stacks.from_gdb(text)
        both = {"on-cpu": running, "off-cpu": waiting}
        return {which: both[which] for which in WHICH[options.which]}, window
    for which in WHICH[options.which]:
        recorder = Recorder(watched.pid, which, options, results)
        window, _ = workload.watched_for(watched, options.seconds, recorder.begin, recorder.end)
        fold = stacks.off_cpu if which == "off-cpu" else stacks.on_cpu
        found[which] = fold(recorder.text())
    return found, window


def lines_of(which, folded, unit):
    """The heaviest functions, alone and with all that they call."""
    own, whole_of = stacks.shares(folded)
    total = sum(folded.values())
    kinds = {}
    for stack, weight in folded.items():
        name = stacks.kind(stack[-1])
        kinds[name] = kinds.get(name, 0) + weight
    yield (f"{which}: {total:,} {unit}: " + ", ".join(
        f"{100 * weight / total:.0f} % {name}" for name, weight in
        sorted(kinds.items(), key=lambda row: -row[1])))
    yield ""
    names = sorted(own, key=lambda name: -own[name])[:TOP]
    names += [name for name in sorted(whole_of, key=lambda name: -whole_of[name])
              if stacks.kind(name) == "ours" and name not in names][:TOP // 2]
    yield from table(["function", "itself", "with what it calls"], [
        [name.removesuffix(stacks.KERNEL)[:70], f"{100 * own.get(name, 0) / total:.1f} %",
         f"{100 * whole_of.get(name, 0) / total:.1f} %"] for name in names])
    yield ""


def record(script, options, draw=None):
    """Records, keeps and reports; `draw(which, folded, unit, results, window)` returns a line."""
    results = Results(script, options)
    method = method_for(options, results)
    with workload.loaded(options, results.path) as watched:
        found, window = recorded(watched, options, results, method)
    lines, figures = [window.head(), f"sampled by {method}", ""], {"method": method,
                                                                   **window.figures()}
    if not any(found.values()):
        raise Failed(f"no sample was taken in {options.seconds:g} s; give --seconds more, or more "
                     "load")
    for which, folded in found.items():
        if not folded:
            results.note(f"{which}: no sample was taken; give --seconds more, or more load")
            continue
        unit = UNITS[method, which]
        results.write(f"{which}.folded", stacks.to_text(folded))
        lines += lines_of(which, folded, unit)
        own, _ = stacks.shares(folded)
        figures[which] = {"unit": unit, "weight": sum(folded.values()), "functions": dict(
            sorted(own.items(), key=lambda row: -row[1])[:100])}
        if draw:
            lines.append(draw(which, folded, unit, results, window))
    results.report(figures, lines, workload.summary(options))
    return 0


def main(options):
    return record("record", options)
