"""One flag over a range of values: what each costs, as a table and a plot.

  sweep.sh --flag tick --values 1ms,8ms,64ms
  sweep.sh --flag rate --values 1k,10k,40k       of the load: rate or connections
  sweep.sh --flag gather --values off,100us,auto --rounds 5 --backend io_uring

Each value is run once a round, in an order that is drawn anew each round, with a server and a
pulseload of its own. The table has medians and in brackets the least and the most; values whose
ranges overlap are not shown to differ: compare.sh tells. The plot is sweep.svg. A run that
pulseload calls INVALID is repeated.

Exit code: 0; 1 it could not be measured; 2 usage.
"""
import argparse
import os
import random

from measuring import compare, sweep_svg, workload
from measuring.command import Failed, WrongUse, add_output, add_workload, program, whole
from measuring.results import Results, table

LOAD = ("rate", "connections")
VALUES_MAX = 50
PLOTTED = ("cpu", "p50", "p99")


def add_flags(parser):
    group = parser.add_argument_group("What is swept")
    group.add_argument("--flag", metavar="NAME",
                       help="a flag of pulsewheel, without its dashes; or rate, or connections")
    group.add_argument("--values", metavar="V,V...", help="its values, with commas")
    group.add_argument("--rounds", metavar="N", type=whole(1, 1_000), default=3,
                       help="runs of each value (default %(default)s)")
    group.add_argument("--any-run", action="store_true",
                       help="count runs that pulseload calls INVALID, too")
    group.add_argument("--seed", metavar="N", type=whole(0, 2 ** 32), default=1,
                       help="of the orders (default %(default)s)")
    add_workload(parser, running=False)
    parser.set_defaults(seconds=3.0)
    add_output(parser)


def values_of(options):
    """What is run for each value: {text: (side, options)}."""
    if not options.flag or not options.values:
        raise WrongUse("--flag and --values are needed, as --flag tick --values 1ms,8ms")
    texts = options.values.split(",")
    if not 2 <= len(set(texts)) <= VALUES_MAX or "" in texts:
        raise WrongUse(f"--values {options.values}: must be from 2 to {VALUES_MAX} values that "
                       "differ, with commas")
    runs = {}
    for text in dict.fromkeys(texts):
        given = argparse.Namespace(**{**vars(options), "measure": "cpu"})
        side = compare.Side(text, text, program("pulsewheel"), options.backend, [])
        if options.flag in LOAD:
            setattr(given, options.flag, load_value(options.flag, text))
        else:
            side.flags = [f"--{options.flag.lstrip('-')}={text}"]
        runs[text] = (side, given)
    return runs


def load_value(flag, text):
    try:
        return whole(1, 1_000_000)(text)
    except argparse.ArgumentTypeError as error:
        raise WrongUse(f"--values of {flag}: {error}") from None


def measure(runs, options, results):
    order, repeated = random.Random(options.seed), 0
    for number in range(options.rounds):
        waiting = order.sample(list(runs), len(runs))
        while waiting:
            text = waiting.pop()
            side, given = runs[text]
            results.progress(f"round {number + 1} of {options.rounds}, {options.flag} {text}")
            found, wrong = compare.measured_at_once([side], given)
            if wrong:
                repeated += 1
                if repeated > max(3, options.rounds * len(runs) // 2):
                    raise Failed(f"{repeated} runs were not valid; the last, {options.flag} {text}"
                                 f": {wrong.rstrip('.')}; make --rate less, or give --any-run")
                waiting.insert(0, text)
                continue
            for name, value in found[side.name].items():
                side.values.setdefault(name, []).append(value)
    return repeated


def main(options):
    runs = values_of(options)
    results = Results("sweep", options)
    repeated = measure(runs, options, results)
    if repeated:
        results.note(f"{repeated} runs were repeated, since they were not valid")
    measured = [name for name in compare.MEASURES if all(
        name in side.values and None not in side.values[name] for side, _ in runs.values())]
    rows = [[text, *(compare.spread(side.values[name]) for name in measured)]
            for text, (side, _) in runs.items()]
    words = [compare.MEASURES[name] for name in measured]
    panels = [(compare.MEASURES[name], [side.values[name] for side, _ in runs.values()])
              for name in PLOTTED if name in measured]
    picture = sweep_svg.svg(f"pulsewheel: {options.flag}", list(runs), panels)
    results.write("sweep.svg", picture)
    results.report({"flag": options.flag, "repeated": repeated,
                    "values": {text: side.values for text, (side, _) in runs.items()}},
                   [*table([options.flag, *words], rows), "",
                    f"drawn: {os.path.relpath(results.file('sweep.svg'))}"],
                   workload.summary(options))
    return 0
