#!/usr/bin/env python3
"""pulseload's interval log, read by npm's hdr-histogram-js (hlog.mjs): the same percentiles.

The log is what the test Hlog.AddsUpToTheWholeRun writes, with what it must read as beside it.
"""
import json
import os
import subprocess
import sys
import tempfile

import stage

WRITER = os.path.join(os.path.abspath(stage.BUILD), "release/tests",
                      "tools/pulseload/report/hlog_test")
TIMEOUT_S = 60


def missing():
    if not stage.is_run_by("node", "--version"):
        return "no node"
    if not stage.is_run_by("node", "--input-type=module", "-e", "import 'hdr-histogram-js'"):
        return "no npm package hdr-histogram-js in tests/clients/node_modules"
    return "" if os.path.exists(WRITER) else f"no {WRITER}"


def differences(expected, read):
    """Sentences; none if both tell the same."""
    if sorted(expected) != sorted(read):
        yield f"tags {sorted(read)}, not {sorted(expected)}"
        return
    for tag, of_tag in expected.items():
        for name, value in of_tag.items():
            if read[tag].get(name) != value:
                yield f"{tag}: {name} is {read[tag].get(name)}, not {value}"


def main():
    lacking = missing()
    if lacking:
        print(f"SKIPPED hlog: {lacking}; {stage.INSTALL}\n0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([WRITER, "--gtest_filter=Hlog.AddsUpToTheWholeRun"], check=True,
                       stdout=subprocess.DEVNULL, timeout=TIMEOUT_S,
                       env=dict(os.environ, TEST_TMPDIR=folder))
        with open(os.path.join(folder, "whole.json"), encoding="utf-8") as file:
            expected = json.load(file)
        read = json.loads(subprocess.run(
            ["node", "hlog.mjs", os.path.join(folder, "whole.hlog")], cwd=stage.FOLDER, check=True,
            stdout=subprocess.PIPE, timeout=TIMEOUT_S).stdout)
    wrong = list(differences(expected, read))
    for sentence in wrong:
        print(f"FAILED  {sentence}")
    # A comparison that sees nothing would pass: it must see one wrong percentile.
    expected["heartbeat"]["percentiles_us"][4] += 1
    blind = not list(differences(expected, read))
    if blind:
        print("FAILED  a wrong percentile was not seen")
    failed = bool(wrong) + blind
    print(f"{2 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
