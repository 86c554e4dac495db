#!/usr/bin/env python3
"""Debian's python3-websockets against build/pulsewheel, on each backend.

python_websockets.py holds the checks. It runs in Debian's own Python, whichever runs this test.
"""
import sys

import stage

PYTHON = "/usr/bin/python3"


def missing():
    return "" if stage.is_run_by(PYTHON, "-c", "import websockets.client") else "no websockets"


if __name__ == "__main__":
    sys.exit(stage.main_of_program("python_websockets", missing(),
                                   [PYTHON, "-u", "python_websockets.py"]))
