"""The command line of a measuring script: common flags, errors in words, and how a script runs.

A script is a module with `__doc__` (the text of --help), `add_flags(parser)` and
`main(options) -> exit code`. Exit codes: 0; 1 what was asked for could not be measured; 2 the
command line is wrong; what else a script has is in its help.
"""
import argparse
import os
import shlex
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
WIRES = {"ws": "ws", "ws-json": "ws", "jsonl": "jsonl", "tcp": "tcp"}
CONNECTIONS_MAX = 1_000_000
RATE_MAX = 1_000_000
SECONDS_MAX = 3_600


class Failed(Exception):
    """What cannot be measured; its text names the offender, the reason and the remedy."""


class WrongUse(Exception):
    """What is wrong with the command line."""


class Parser(argparse.ArgumentParser):
    """argparse with this repository's form of an error."""

    def error(self, message):
        raise WrongUse(message)


def whole(least, most):
    """The type of a flag that is a whole number of this range; 10k and 1M are understood."""
    def parse(text):
        units = {"k": 1_000, "M": 1_000_000}
        digits, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
        if not digits.isdigit() or not least <= int(digits) * unit <= most:
            raise argparse.ArgumentTypeError(
                f"'{text}' must be a whole number from {least} to {most}")
        return int(digits) * unit
    return parse


def seconds(text):
    """The type of a flag that is a time in seconds."""
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"'{text}' must be from 0.1 to {SECONDS_MAX} seconds")
    return value


def flags_of(text):
    """The type of a flag that holds flags of another program."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}': {error}; close the quotation") from None


def add_output(parser):
    group = parser.add_argument_group("What is written")
    group.add_argument("--json", action="store_true", help="print the report as JSON")
    group.add_argument("--out", metavar="DIR",
                       help="the result directory (default: a new one in build/perf/)")


def add_workload(parser, running=True):
    """Flags of the server and of the load beside it; with `running`, of a server that runs."""
    group = parser.add_argument_group("Server and load, both started here, over loopback")
    group.add_argument("--connections", metavar="N", type=whole(1, CONNECTIONS_MAX), default=2_000,
                       help="connections that beat (default %(default)s)")
    group.add_argument("--rate", metavar="N", type=whole(1, RATE_MAX), default=10_000,
                       help="heartbeats a second, of all together (default %(default)s)")
    group.add_argument("--seconds", metavar="S", type=seconds, default=5.0,
                       help="how long it is measured (default %(default)s)")
    group.add_argument("--wire", choices=WIRES, default="ws",
                       help="what is spoken: %(choices)s (default %(default)s)")
    group.add_argument("--backend", choices=("auto", "epoll", "io_uring"), default="auto",
                       help="of the server: %(choices)s (default %(default)s)")
    group.add_argument("--reactors", metavar="N", type=whole(1, 1_000), default=1,
                       help="of the server (default %(default)s)")
    group.add_argument("--server", metavar="FLAGS", type=flags_of, default=[],
                       help="more flags of pulsewheel: --server='--gather off'")
    group.add_argument("--load", metavar="FLAGS", type=flags_of, default=[],
                       help="more flags of pulseload")
    group.add_argument("--no-pin", dest="pin", action="store_false",
                       help="do not keep server and load on cores of their own")
    if running:
        group = parser.add_argument_group("Instead of these: a server that runs")
        group.add_argument("--pid", metavar="PID", type=whole(1, 4_194_304),
                           help="the process to watch; nothing is started")
        group.add_argument("--admin", metavar="ADDRESS",
                           help="its admin endpoint, HOST:PORT or unix:PATH, which counts "
                                "heartbeats; without it figures are a second's")
        group.add_argument("--admin-token-file", metavar="FILE",
                           help="the token for that, on the file's first line")


def program(name, folder=None):
    path = os.path.join(folder or BUILD, name)
    if not os.access(path, os.X_OK):
        raise WrongUse(f"{path} is missing; run make first, or set BUILD=DIR")
    return path


def check(options):
    """Raises WrongUse where flags do not go together, or what they need is not there."""
    if hasattr(options, "wire") and getattr(options, "pid", None) is None:
        program("pulsewheel")
        program("pulseload")
    if getattr(options, "pid", None) is None:
        for name in ("admin", "admin_token_file"):
            if getattr(options, name, None) is not None:
                raise WrongUse(f"--{name.replace('_', '-')} is of a server that runs: give --pid")
    elif not os.path.isdir(f"/proc/{options.pid}"):
        raise WrongUse(f"--pid {options.pid}: no such process runs")


def parsed(module, arguments):
    name = module.__name__.rpartition(".")[2]
    parser = Parser(prog=f"tools/perf/{name}.sh", description=module.__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_flags(parser)
    options = parser.parse_args(arguments)
    check(options)
    return options


def heed_signals():
    """SIGTERM ends a script as SIGINT does, so that it ends what it started."""
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def run(module, arguments):
    """Runs a script. Returns its exit code."""
    script = module.__name__.rpartition(".")[2] + ".sh"
    heed_signals()
    try:
        code = module.main(parsed(module, arguments))
        sys.stdout.flush()
    except WrongUse as error:
        print(f"{script}: {error}; see --help", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{script}: interrupted; what it started is ended", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{script}: {error.filename or 'stdout'}: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its exit
        return 1
    return code
