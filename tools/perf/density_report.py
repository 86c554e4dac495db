#!/usr/bin/env python3
"""
density_report.py [--out DIR --command WORDS]
                  JSON CONNECTIONS STATS RSS_EMPTY RSS_FULL BARE0 BARE1 SERVER0 SERVER1 [BAR]

What density.sh has measured, in bytes a connection: RSS above the empty server, and kernel memory
above a bare socket. JSON is yes or no; STATS is the server's last line of --stats-json; the four
behind RSS are kernel bytes before and after, of the bare server and of ours, or empty where they
were not measured; BAR is that of RSS, 100 if it is left out. What cannot be, 0 or less, is not
reported and meets no bar. With --out the report is kept in DIR, as those of the other scripts are
(measuring/results.py), as what WORDS have measured. Exit code 1 when a bar is missed, when RSS is
not reported, or when fewer connections were held.
"""
import argparse
import json
import sys

from measuring.results import Results
from script import run_script, usage

RSS, KERNEL = "rss_bytes_per_connection", "kernel_bytes_above_bare_per_connection"
BARS = {RSS: 100, KERNEL: 260}


COMPLAINTS = []  # what a reader must know to read the figures right


def complain(text):
    COMPLAINTS.append(text)
    print(f"density.sh: {text}", file=sys.stderr)


def above_empty(full_bytes, empty_bytes, connections):
    """The one definition of bytes per connection; pulseload's is the same (report/json_report.cc).

    None where it cannot be.
    """
    above = (full_bytes - empty_bytes) / connections
    return round(above, 1) if above > 0 else None


def figures(connections, rss, kernel):
    """`rss`: empty and full; `kernel`: bare before and after, ours before and after, or None."""
    result = {RSS: above_empty(rss[1], rss[0], connections), KERNEL: None}
    if result[RSS] is None:
        complain(f"RSS went from {rss[0]} to {rss[1]} B, which cannot be: not reported")
    if kernel is None:
        complain("kernel memory is not measured: no cgroup could be made; run as root")
        return result
    bare, ours = kernel[1] - kernel[0], kernel[3] - kernel[2]
    result[KERNEL] = above_empty(ours, bare, connections)
    if result[KERNEL] is None:
        complain(f"the kernel charged {(ours - bare) / connections:.1f} B above a bare socket, "
                 "which cannot be: not reported; let nothing else run in this cgroup")
    return result


def rows_of(result, bars, missed):
    for name, value in result.items():
        if value is None:
            continue
        verdict = "missed" if name in missed else "met"
        bar = f"   bar {bars[name]}: {verdict}" if name in bars else ""
        yield f"  {name.replace('_', ' '):<40} {value:>10}{bar}"


def show(result, missed, lines, as_json, out, command):
    """Prints it; with `out` keeps it there, too."""
    if out is not None:
        results = Results("density", argparse.Namespace(json=as_json, out=out))
        results.command = command or results.command
        results.notes.extend(COMPLAINTS)
        results.report({**result, "missed": missed}, lines)
    elif as_json:
        print(json.dumps(dict(result, missed=missed)))
    else:
        print("\n".join(lines))


def main(arguments, out=None, command=None):
    if len(arguments) not in (9, 10):
        return usage("density_report.py", f"{len(arguments)} words in place of 9 or 10")
    as_json, connections = arguments[0] == "yes", int(arguments[1])
    with open(arguments[2], encoding="utf-8") as file:
        stats = json.load(file)
    rss = [int(word) for word in arguments[3:5]]
    kernel = [int(word) for word in arguments[5:9]] if all(arguments[5:9]) else None
    measured = figures(connections, rss, kernel)
    bars = {**BARS, **({RSS: int(arguments[9])} if len(arguments) == 10 else {})}
    missed = [name for name, bar in bars.items()
              if measured[name] is not None and measured[name] > bar]
    live = stats["total"]["connections"]
    result = {"connections": live, "backend": stats["backend"], "rss_empty_bytes": rss[0],
              **measured}
    if live != connections:
        complain(f"{live} of {connections} were held")
    show(result, missed, list(rows_of(result, bars, missed)), as_json, out, command)
    return 1 if missed or measured[RSS] is None or live != connections else 0


if __name__ == "__main__":
    run_script("density_report.py", __doc__, main, kept="nothing",
               options=("--out", "--command"))
