"""Instructions of a server's turns by callgrind, where the CPU has no counters.

Of a server of its own, on epoll, under a small load, since callgrind slows it by a factor: user
space alone. A count hardly depends on what else the machine does, only on how many heartbeats come
in a turn.
"""
import argparse
import os
import re
import shutil
import subprocess
import tempfile

from measuring import workload
from measuring.command import Failed
from measuring.environment import read

SMALL = {"connections": 50, "rate": 500, "reactors": 1, "backend": "epoll", "pin": False}
SMALL_WORDS = "50 connections, 500 heartbeats a second, epoll"
TURN = "*Reactor*::turn*"
CONTROL_SECONDS_MAX = 30


def why_not():
    """Why callgrind cannot be used here; None where it can."""
    return None if shutil.which("valgrind") else (
        "valgrind is not installed; apt-get install valgrind")


def control(word, pid):
    try:
        done = subprocess.run(["callgrind_control", word, str(pid)], capture_output=True, text=True,
                              timeout=CONTROL_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"callgrind_control {word}: was not answered within {CONTROL_SECONDS_MAX} s; "
                     "wait until the machine is quiet") from None
    if done.returncode != 0 or "Error" in done.stdout + done.stderr:
        raise Failed(f"callgrind_control {word}: {(done.stdout + done.stderr).strip()[-200:]}")


def counted(options, binary=None, keep=None):
    """(window, instructions) of a server with the flags of options; `keep`: a file for the count.

    Fails where nothing was counted. window.rate is None where no heartbeat came.
    """
    small = argparse.Namespace(**{**vars(options), **SMALL, "pid": None})
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind.out")
        wrapped = ["valgrind", "--quiet", "--tool=callgrind", f"--toggle-collect={TURN}",
                   f"--callgrind-out-file={out}"]
        with workload.loaded(small, folder, binary, wrapped=wrapped) as watched:
            window, _ = workload.watched_for(
                watched, options.seconds, lambda: control("--zero", watched.pid),
                lambda: control("--dump", watched.pid))
        dumps = sorted(name for name in os.listdir(folder) if name.startswith("callgrind.out."))
        text = read(os.path.join(folder, dumps[0])) if dumps else None
        found = re.search(r"^(?:summary|totals): (\d+)", text or "", re.M)
        if not found:
            raise Failed("callgrind: left no count; is valgrind whole?")
        if keep is not None:
            shutil.copy(os.path.join(folder, dumps[0]), keep)
    return window, int(found[1])
