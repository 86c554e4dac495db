"""Draws a flame graph of the server: on a core, off it, or both, each as an SVG for a browser.

  flame.sh                               of a server and load that it starts
  flame.sh --which both --backend io_uring
  flame.sh --pid 4711                    of a server that runs
  flame.sh --from stacks.folded          of stacks that were recorded before

Samples as record.sh does (by perf, else by gdb) and leaves WHICH.svg beside what that leaves. Point
at a frame to read its share; click it to enlarge; Escape shows all. Blue is Pulsewheel's own code.

Exit code: 0; 1 it could not be recorded; 2 usage.
"""
import os

from measuring import flame_svg, record, stacks
from measuring.command import WrongUse
from measuring.environment import headline, read
from measuring.results import Results

TITLES = {"on-cpu": "Pulsewheel on a core", "off-cpu": "Pulsewheel off a core"}


def add_flags(parser):
    record.add_flags(parser, "What is drawn")
    parser.add_argument("--from", dest="source", metavar="FILE",
                        help="folded stacks, a line each, to draw; nothing is started")


def draw(which, folded, unit, results, window):
    words = f"{window.head()}; {headline(results.environment)}"
    results.write(f"{which}.svg", flame_svg.svg(folded, TITLES[which], words, unit, stacks.kind))
    return f"drawn: {os.path.relpath(results.file(which + '.svg'))}\n"


def of_file(options):
    text = read(options.source)
    if text is None:
        raise WrongUse(f"--from {options.source}: cannot be read")
    try:
        folded = stacks.of_text(text)
    except ValueError as error:
        raise WrongUse(f"--from {options.source}: {error}; record.sh writes such files") from None
    if not folded:
        raise WrongUse(f"--from {options.source}: holds no stack; record.sh writes such files")
    results = Results("flame", options)
    unit = "us" if "off-cpu" in os.path.basename(options.source) else "samples"
    results.write("flame.svg", flame_svg.svg(folded, os.path.basename(options.source),
                                             headline(results.environment), unit, stacks.kind))
    results.report({"weight": sum(folded.values()), "unit": unit},
                   [*record.lines_of("stacks", folded, unit),
                    f"drawn: {os.path.relpath(results.file('flame.svg'))}"])
    return 0


def main(options):
    if options.source:
        return of_file(options)
    return record.record("flame", options, draw)
