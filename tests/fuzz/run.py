#!/usr/bin/env python3
"""Runs fuzz targets, each on its kept corpus; `make fuzz` calls it.

    tests/fuzz/run.py RUNS PROGRAM...
    tests/fuzz/run.py --keep PROGRAM...

PROGRAM is build/fuzz/tests/fuzz/NAME_fuzz. Its corpus is an archive, tests/fuzz/corpus/NAME.tar.gz,
which a run unpacks into build/fuzz/kept/NAME and does not write: what it finds new is stored in
build/fuzz/corpus/NAME, and an input that breaks the program in build/fuzz/NAME-crash-..., with the
command that replays it. --keep merges what was found into the kept inputs and packs them anew; the
same inputs always make the same archive. As many programs run at once as there are cores. The last
line is `N passed, N failed`.
"""
import concurrent.futures
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
INPUT_BYTES_MAX = 8192  # past every limit that the targets set
# An input, on the wall clock: on a busy machine a run that takes microseconds was once not
# scheduled for twelve seconds.
INPUT_SECONDS_MAX = 120
SECONDS_MAX = 3600  # a target, against a hang


def archive_of(name):
    return os.path.join(ROOT, "tests", "fuzz", "corpus", name + ".tar.gz")


def name_of(program):
    return re.sub(r"_fuzz$", "", os.path.basename(program))


def found_by(name):
    folder = os.path.join(BUILD, "fuzz", "corpus", name)
    os.makedirs(folder, exist_ok=True)
    return folder


def unpack(name):
    """The kept inputs of a target as files of a folder, which holds nothing else."""
    folder = os.path.join(BUILD, "fuzz", "kept", name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if os.path.exists(archive_of(name)):
        with tarfile.open(archive_of(name), "r:gz") as archive:
            for member in archive.getmembers():
                with open(os.path.join(folder, os.path.basename(member.name)), "wb") as file:
                    file.write(archive.extractfile(member).read())
    return folder


def pack(folder, path):
    """Packs the files of a folder without times, owners and modes: equal inputs, equal archives."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with open(path, "wb") as file:
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            packed.write(content.getvalue())


def keep_found(program):
    name = name_of(program)
    kept = unpack(name)
    before = len(os.listdir(kept))
    subprocess.run([program, "-merge=1", kept, found_by(name)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pack(kept, archive_of(name))
    print(f"{name}: {before} inputs were kept, {len(os.listdir(kept))} are now")


def run_target(program, runs):
    name = name_of(program)
    kept, found = unpack(name), found_by(name)
    prefix = os.path.join(BUILD, "fuzz", name + "-")
    command = [program, f"-runs={runs}", f"-max_len={INPUT_BYTES_MAX}",
               f"-timeout={INPUT_SECONDS_MAX}", f"-max_total_time={SECONDS_MAX}",
               "-print_final_stats=1", f"-artifact_prefix={prefix}", found, kept]
    began = time.monotonic()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=SECONDS_MAX + 60)
        code, output = done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as expired:
        code, output = 1, (expired.stdout or b"").decode(errors="replace") + "\nhung"
    executed = re.search(r"number_of_executed_units:\s*(\d+)", output)
    done_runs = int(executed[1]) if executed else 0
    seconds = time.monotonic() - began
    inputs = f"{len(os.listdir(kept))} inputs kept, {len(os.listdir(found))} found"
    lines = [f"{'ok' if code == 0 else 'FAIL'}  {name}: {done_runs} runs of {runs} in "
             f"{seconds:.0f} s, {inputs}"]
    if code == 0 and done_runs < runs:
        lines.append(f"      cut short after {SECONDS_MAX} s; ask for fewer runs")
    if code != 0:
        lines += ["      " + line for line in output.splitlines()[-40:]]
        artifact = re.search(r"Test unit written to (\S+)", output)
        if artifact:
            lines.append(f"      replay: {program} {artifact[1]}")
    return code == 0, "\n".join(lines)


def main():
    if len(sys.argv) > 2 and sys.argv[1] == "--keep":
        for program in sys.argv[2:]:
            keep_found(program)
        return 0
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        print(__doc__, file=sys.stderr)
        return 2
    runs, programs = int(sys.argv[1]), sys.argv[2:]
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for ok, text in pool.map(lambda program: run_target(program, runs), programs):
            print(text, flush=True)
            passed, failed = passed + ok, failed + (not ok)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
