#!/usr/bin/env python3
"""Starts one of the measuring scripts: `python3 tools/perf/measuring NAME ARGUMENTS...`.

tools/perf/NAME.sh does this; the module of the same name here has the text of its --help.
"""
import importlib
import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
from measuring import command  # noqa: E402: its path comes first

if __name__ == "__main__":
    sys.exit(command.run(importlib.import_module("measuring." + sys.argv[1]), sys.argv[2:]))
