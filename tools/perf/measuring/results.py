"""The result directory of a script, and its report: environment.json, report.json, report.txt."""
import datetime
import json
import os
import shlex
import sys

from measuring import environment
from measuring.command import BUILD, Failed

SCHEMA = "perf/1"


class Results:
    """One directory, made when this is; its `path` is absolute."""

    def __init__(self, script, options, binaries=()):
        self.script, self.notes = script, []
        self.as_json = options.json
        self.path = os.path.abspath(options.out) if options.out else new_directory(script)
        try:
            os.makedirs(self.path, exist_ok=True)
        except OSError as error:
            raise Failed(f"--out {options.out}: {error.strerror}; name another folder") from None
        self.environment = environment.capture(binaries)
        self.command = f"tools/perf/{script}.sh " + shlex.join(sys.argv[2:])
        self.write("environment.json", self.environment)

    def file(self, name):
        return os.path.join(self.path, name)

    def write(self, name, content):
        """A text as it is, anything else as JSON."""
        with open(self.file(name), "w", encoding="utf-8") as file:
            if isinstance(content, str):
                file.write(content)
            else:
                json.dump(content, file, indent=1)
                file.write("\n")

    def note(self, text):
        """What a reader must know to read the figures right: printed at once, and reported."""
        if text not in self.notes:
            self.notes.append(text)
            print(f"{self.script}.sh: {text}", file=sys.stderr, flush=True)

    def progress(self, text):
        if sys.stderr.isatty():
            print(f"{self.script}.sh: {text}", file=sys.stderr, flush=True)

    def report(self, figures, lines, workload=None):
        """Prints and keeps what was found: `lines` for people, `figures` for programs."""
        report = {"schema": SCHEMA, "script": self.script, "command": self.command,
                  "directory": self.path, "workload": workload, "figures": figures,
                  "notes": self.notes, "environment": self.environment}
        self.write("report.json", report)
        text = "\n".join([environment.headline(self.environment), *(
            [describe(workload)] if workload else []), "", *lines, *(
            f"note: {note}" for note in self.notes)]) + "\n"
        self.write("report.txt", text)
        if self.as_json:
            print(json.dumps(report))
        else:
            print(f"{text}\nkept in {os.path.relpath(self.path)}/", flush=True)


def new_directory(script):
    stem = os.path.join(BUILD, "perf", script + datetime.datetime.now().strftime("-%Y%m%d-%H%M%S"))
    for number in range(1, 1_000):
        path = stem + (f"-{number}" if number > 1 else "")
        try:
            os.makedirs(path)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}; give --out DIR") from None
    raise Failed(f"{stem}: 1,000 such folders are there; give --out DIR")


def describe(workload):
    """The line under the headline: what was measured."""
    if workload.get("pid"):
        return f"process {workload['pid']}, for {workload['seconds']:g} s"
    return (f"{workload['connections']:,} connections, {workload['rate']:,} heartbeats a second, "
            f"{workload['wire']}, {workload['backend']}, {workload['reactors']} "
            f"reactor{'s' if workload['reactors'] > 1 else ''}, {workload['seconds']:g} s")


def table(headings, rows):
    """Lines of a Markdown table; all but the first column are right-aligned."""
    cells = [headings, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = []
    for row in cells:
        padded = [row[0].ljust(widths[0]),
                  *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("| " + " | ".join(padded) + " |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [lines[0], "| " + " | ".join(rule) + " |", *lines[1:]]


def figure(value):
    """Three digits, as people read them; '-' for what was not measured."""
    if value is None:
        return "-"
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
