"""A pulsewheel of another git revision, built once and kept in build/perf/revisions/."""
import os
import subprocess

from measuring.command import BUILD, ROOT, Failed, WrongUse
from measuring.environment import git


def built(revision, say):
    """The path of the program. It takes minutes the first time."""
    commit = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise WrongUse(f"revision={revision}: git has no such commit; see `git log`")
    tree = os.path.join(BUILD, "perf", "revisions", commit[:12])
    binary = os.path.join(tree, "build", "pulsewheel")
    if os.path.exists(binary):
        return binary
    say(f"building pulsewheel of {commit[:12]} in {os.path.relpath(tree)}: some minutes")
    os.makedirs(tree, exist_ok=True)
    archive = subprocess.Popen(["git", "-c", "safe.directory=*", "archive", commit], cwd=ROOT,
                               stdout=subprocess.PIPE)
    unpacked = subprocess.run(["tar", "-x", "-C", tree], stdin=archive.stdout, check=False)
    if archive.wait() != 0 or unpacked.returncode != 0:
        raise Failed(f"revision={revision}: could not be unpacked into {tree}; is there room?")
    log = os.path.join(tree, "build.log")
    outside = {name: value for name, value in os.environ.items()
               if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "BUILD")}
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(["make", "-C", tree, "BUILD=build", "build/pulsewheel"],
                              stdout=file, stderr=file, env=outside, check=False)
    if done.returncode != 0 or not os.path.exists(binary):
        raise Failed(f"revision={revision}: does not build; {log} has the reason")
    return binary
