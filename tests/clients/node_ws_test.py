#!/usr/bin/env python3
"""Node's `ws` against build/pulsewheel, on each backend (node_ws.mjs holds the checks)."""
import sys

import stage


def missing():
    if not stage.is_run_by("node", "--version"):
        return "no node"
    if not stage.is_run_by("node", "--input-type=module", "-e", "import 'ws'"):
        return "no npm package ws in tests/clients/node_modules"
    return ""


if __name__ == "__main__":
    sys.exit(stage.main_of_program("node_ws", missing(), ["node", "node_ws.mjs"]))
