"""A server behind TLS and the load on it, for the scripts that measure handshakes."""
import contextlib
import json
import os
import signal
import subprocess
import time

from measuring.command import Failed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
START_SECONDS_MAX = 20
RUN_SECONDS_MAX = 600
END_SECONDS_MAX = 30


def whole_numbers(defaults, arguments, given):
    """The words of options as their defaults are: numbers above 0, or text."""
    if arguments:
        raise ValueError(f"'{arguments[0]}' is not wanted")
    values = {}
    for flag, default in defaults.items():
        name = flag.lstrip("-")
        word = given.get(name, str(default))
        if isinstance(default, int):
            if not word.isdigit() or int(word) == 0:
                raise ValueError(f"{flag} {word}: must be a whole number above 0")
            word = int(word)
        values[name.replace("-", "_")] = word
    return values


def make_certificate(directory):
    done = subprocess.run([os.path.join(ROOT, "tools/perf/demo_certificate.sh"), directory],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())


def listening(stats, server):
    """HOST:PORT in the server's first report, once it is there."""
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            with open(stats, encoding="utf-8") as file:
                return json.loads(file.readline())["listening"][0].split("://")[1].split("?")[0]
        time.sleep(0.05)
    raise Failed(f"the server ended, or did not start within {START_SECONDS_MAX} s; its lines "
                 "above say why")


@contextlib.contextmanager
def serving(directory, backend, scheme, connections, *flags):
    """(process, HOST:PORT) of a server with the certificate of `directory`."""
    stats = os.path.join(directory, "server.json")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(stats)
    server = subprocess.Popen(
        [os.path.join(BUILD, "pulsewheel"), "--listen", f"{scheme}://127.0.0.1:0", "--backend",
         backend, "--tls-cert", os.path.join(directory, "demo.pem"), "--tls-key",
         os.path.join(directory, "demo.key"), "--log-level", "error", "--max-connections",
         str(connections + 100), "--stats-json", stats, "--stats-interval", "1s", *flags],
        stdout=subprocess.DEVNULL)
    try:
        yield server, listening(stats, server)
    finally:
        end(server, signal.SIGTERM)


def end(process, number):
    """By a signal, or by SIGKILL where that does not do."""
    process.send_signal(number)
    try:
        process.wait(timeout=END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load_command(target, json_path, *flags):
    return [os.path.join(BUILD, "pulseload"), "--quiet", "--target", target, "--json", json_path,
            *flags]


def read_run(json_path, code, *codes):
    """What pulseload wrote; 0, or one of `codes`, is how it may end."""
    if code not in (0, *codes):
        raise Failed(f"pulseload ended with {code}")
    with open(json_path, encoding="utf-8") as file:
        return json.load(file)
