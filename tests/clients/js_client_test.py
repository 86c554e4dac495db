#!/usr/bin/env python3
"""The JavaScript client (tools/client/js/) without a server: its parts and a thousand worlds in
simulated time (tests/tools/client/*_test.mjs, by Node's own runner), its types, its package."""
import functools
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import Skipped, run_cases  # noqa: E402: its path comes first

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = os.path.join(ROOT, "tools/client/js")
SUITES = os.path.join(ROOT, "tests/tools/client")
TIMEOUT_S = 300
RESULT = re.compile(r"^ *(not )?ok \d+ - (.*?)$", re.M)


def wanted(program, why):
    if not shutil.which(program):
        raise Skipped(f"no {program}, {why}; run tools/install-deps.sh clients")


def run(*command, cwd=ROOT, timeout_s=TIMEOUT_S):
    """In a process group that ends with it: Node runs each suite in another process."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd,
                          text=True, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


@functools.cache
def results(path, timeout_s=TIMEOUT_S):
    """(name, whether it passed) of each test of a suite, what the suite printed, its exit code:
    what fails outside a test, such as a rejection that nothing handles, shows in that alone."""
    code, output = run("node", "--test", "--test-reporter=tap", path, timeout_s=timeout_s)
    named = [(name, not failed) for failed, name in RESULT.findall(output)]
    return [one for one in named if not one[0].endswith(".mjs")], output, code


def suite_case(path):
    wanted("node", "which runs it")
    tests, output, code = results(path)
    for name, passed in tests:
        print(f"        {'ok' if passed else 'FAILED'} {name}")
    for line in re.findall(r"REPORT .*", output):
        print(line)
    assert code == 0 and tests and all(passed for _, passed in tests), "\n" + output[-4000:]


def written(folder, text):
    path = os.path.join(folder, "a_test.mjs")
    with open(path, "w", encoding="utf-8") as file:
        file.write('import test from "node:test";\n' + text)
    return path


def goes_on(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_runner():
    """A suite fails of what fails outside its tests; one that hangs ends with all its processes."""
    wanted("node", "which runs it")
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder,
                       "test('fine', () => { setTimeout(() => Promise.reject(7), 10); });\n")
        try:
            suite_case(path)
        except AssertionError:
            pass
        else:
            raise AssertionError("a rejection that nothing handles does not fail its suite")
    with tempfile.TemporaryDirectory() as folder:
        pids = os.path.join(folder, "pid")
        path = written(folder, "import {writeFileSync} from 'node:fs';\n"
                       f"writeFileSync('{pids}', String(process.pid)); for (;;);\n")
        for timeout_s in (2, 10, 60):
            try:
                results(path, timeout_s)
            except subprocess.TimeoutExpired:
                pass
            if os.path.exists(pids):  # a busy machine may be too slow to begin it
                break
        with open(pids, encoding="utf-8") as file:
            pid = int(file.read())
        until = time.monotonic() + 10
        while goes_on(pid) and time.monotonic() < until:
            time.sleep(0.05)
        if goes_on(pid):
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("the process of a suite that hangs goes on")


# A program of a stranger's, which the types must allow, and what they must not.
STRANGER = """
import {PulseClient as Declared, PulseError, DEFAULT_POLICIES} from "%(package)s/index.js";
import {PulseClient as Written} from "%(package)s/src/client.js";
type Listeners = "addEventListener" | "removeEventListener";  // typed by name where declared
const written: Omit<Declared, Listeners> = new Written({url: "ws://a"});
const constructor: new (options: import("%(package)s/index.js").Options) => object = Written;
const client = new Declared({url: "ws://a", token: async ({renew}) => String(renew)});
client.addEventListener("retry", ({detail}) => detail.cause.name.trim() + detail.delayMs.toFixed());
client.addEventListener("message", ({detail}) => {
  if (detail.kind === "binary") detail.data.byteLength;
  else if (detail.kind === "text") detail.data.trim();
});
client.addEventListener("nat", ({detail}) => detail.network.trim() + detail.keptMs.toFixed());
new Declared({url: "ws://a", natProbes: true, natMemory: new Map()});
client.send({a: 1}, {confirm: true}).then((answer) => {
  if (answer.status === "dropped") answer.reason === "age";
  // @ts-expect-error
  else answer.reason;
});
client.login({labels: {a: "b"}}).then((welcome) => welcome?.session === "refreshed");
client.connect().catch((error) => error instanceof PulseError && error.reason.name);
// @ts-expect-error
client.send(7);
// @ts-expect-error
new Declared({});
new Declared({url: "ws://a", policies: {kicked: DEFAULT_POLICIES.silent}});
"""


def test_types():
    """The code is what its types say, and the types are of use to others."""
    wanted("tsc", "which checks types")
    with tempfile.TemporaryDirectory() as folder:
        stranger = os.path.join(folder, "stranger.mts")
        with open(stranger, "w", encoding="utf-8") as file:
            file.write(STRANGER % {"package": PACKAGE})
        code, output = run(
            "tsc", "--noEmit", "--allowJs", "--checkJs", "--strict", "--target", "es2022",
            "--module", "node16", "--moduleResolution", "node16", "--lib", "es2022,dom",
            stranger)
    assert code == 0, "\n" + output


def test_package():
    """npm packs the code, its types, the licence and the README, and nothing else."""
    wanted("npm", "which packs")
    code, output = run("npm", "pack", "--dry-run", "--json", "--silent", cwd=PACKAGE)
    assert code == 0, output
    packed = {file["path"] for file in json.loads(output)[0]["files"]}
    sources = {"src/" + os.path.basename(path) for path in glob.glob(PACKAGE + "/src/*.js")}
    assert packed == {"LICENSE", "README.md", "package.json", "index.js", "index.d.ts", *sources}, \
        packed
    with open(os.path.join(PACKAGE, "package.json"), encoding="utf-8") as file:
        package = json.load(file)
    for word in ("dependencies", "peerDependencies", "scripts"):
        assert word not in package, word
    with open(os.path.join(ROOT, "core/version.h"), encoding="utf-8") as file:
        assert f'"{package["version"]}"' in file.read(), "the version is the server's"
    with open(os.path.join(ROOT, "LICENSE"), "rb") as ours, \
            open(os.path.join(PACKAGE, "LICENSE"), "rb") as its:
        assert ours.read() == its.read()


def main():
    suites = sorted(glob.glob(os.path.join(SUITES, "*_test.mjs")))
    cases = [(os.path.basename(path), functools.partial(suite_case, path)) for path in suites]
    others = [("runner", test_runner), ("types", test_types), ("package", test_package)]
    return run_cases([*cases, *others], at_once=2)


if __name__ == "__main__":
    sys.exit(main())
