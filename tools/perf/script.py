"""How the measuring scripts read their arguments, and what they do where stdout takes nothing."""
import os
import sys

from measuring.command import heed_signals


def usage(script, complaint):
    """Prints what is wrong with the arguments. Returns the exit code."""
    print(f"{script}: {complaint}; see --help", file=sys.stderr)
    return 2


def run_script(script, text, main, kept=None, options=()):
    """Calls main(arguments, **options) and exits with the code that it returns.

    `text` is printed for --help. Each of `options` may stand in front with one word behind it,
    which main() is given under the option's name. `kept` says what is not lost where stdout takes
    nothing. SIGTERM ends it as SIGINT does.
    """
    heed_signals()
    try:
        code = call(script, text, main, options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{script}: interrupted; what it started is ended", file=sys.stderr)
        code = 130
    except OSError as error:
        if kept is None:
            raise
        print(f"{script}: stdout: {error.strerror}; free space, or write elsewhere: {kept}",
              file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its exit
        code = 1
    sys.exit(code)


def call(script, text, main, options):
    arguments, given = sys.argv[1:], {}
    if arguments[:1] in (["-h"], ["--help"]):
        print(text.strip())
        return 0
    while arguments[:1] and arguments[0] in options:
        if len(arguments) < 2:
            return usage(script, f"{arguments[0]} needs a word")
        given[arguments[0].lstrip("-")] = arguments[1]
        arguments = arguments[2:]
    if arguments[:1] and arguments[0].startswith("-"):
        return usage(script, f"'{arguments[0]}' is not an option")
    return main(arguments, **given)
