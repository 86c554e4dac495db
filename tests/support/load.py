"""One run of build/pulseload against a target, for tests that are scripts."""
import json
import os
import signal
import subprocess
import tempfile

from server import BUILD

RUN_SECONDS_MAX = 60


def heed_signals():
    """As from a terminal: what a shell starts in the background ignores SIGINT, and nohup SIGHUP,
    and the generator leaves that as it is."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Load:
    """What one pulseload did: its exit code, its JSON, and what it printed.

    `during(process)` is called once the process runs, for tests that do something to the server or
    to the generator meanwhile.
    """

    def __init__(self, target, *flags, during=None, json_file=True):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "run.json")
            files = ["--json", path] if json_file else []
            process = subprocess.Popen(
                [f"{BUILD}/pulseload", "--target", target, *files, *flags], text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                errors="replace", preexec_fn=heed_signals)
            try:
                if during is not None:
                    during(process)
                self.words, self.complaints = process.communicate(timeout=RUN_SECONDS_MAX)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
            self.code = process.returncode
            self.result = None
            if os.path.exists(path) and os.path.getsize(path) > 0:
                with open(path, encoding="utf-8") as file:
                    self.result = json.load(file)

    def __getitem__(self, name):
        return self.result[name]

    def met(self):
        """Every objective was; whether its numbers may be trusted is another test's."""
        return self.code in (0, 3) and all(one["met"] for one in self["objectives"])

    def sentences(self):
        """What it printed, on one line: where a sentence is broken is its width's business."""
        return " ".join(self.words.split())

    def text(self):
        return f"exit code {self.code}\n{self.complaints}\n{self.words}"
