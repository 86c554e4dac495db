#!/usr/bin/env python3
"""A memory cgroup of one program's own, in which the kernel counts what that program costs it.

    tools/perf/memory_group.py run FILE COMMAND...   COMMAND in a new cgroup, whose path is in FILE
    tools/perf/memory_group.py bytes FILE            kernel memory charged to it now, in bytes
    tools/perf/memory_group.py remove FILE           the cgroup, when its processes have ended

Works over cgroup v2 and v1, and needs the right to make a cgroup: usually root. Without it `run`
runs COMMAND all the same and leaves FILE empty, and `bytes` prints nothing: what cannot be measured
is not printed. A socket of a server is charged to the cgroup of the process that accepts it, from
Linux 6.13 on with the socket's own 2 KiB, before that without.
"""
import os
import sys

from script import run_script, usage


def own_groups():
    """Pairs of version and folder in which a cgroup with a memory controller may be made."""
    mounts = []
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields, _, source = line.rstrip("\n").partition(" - ")
            kind, _, options = source.split(None, 2)
            mounts.append((kind, fields.split()[3], fields.split()[4], options.split(",")))
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in own:
        for kind, root, point, options in mounts:
            if kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options:
                yield 1, folder_of(point, root, path)
            if kind == "cgroup2" and controllers == "":
                # A cgroup with processes may not hand its memory on to children; its parent does.
                folder = folder_of(point, root, path)
                yield 2, os.path.dirname(folder) if folder != point else folder


def folder_of(point, root, path):
    return os.path.normpath(os.path.join(point, os.path.relpath(path, root)))


def make_group():
    """The path of a new cgroup that counts kernel memory; None without one."""
    for version, folder in own_groups():
        group = os.path.join(folder, f"pulsewheel-{os.getpid()}")
        try:
            os.mkdir(group)
        except OSError:
            continue
        if os.path.exists(os.path.join(group, counters_of(version)[0])):
            return group
        os.rmdir(group)
    return None


def counters_of(version):
    if version == 2:
        return ["memory.stat"]
    return ["memory.kmem.usage_in_bytes", "memory.kmem.tcp.usage_in_bytes"]


def charged_bytes(group):
    """What the kernel holds for the cgroup: slabs, page tables, stacks, and socket buffers."""
    stat = os.path.join(group, "memory.stat")
    usage = [os.path.join(group, name) for name in counters_of(1)]
    if os.path.exists(usage[0]):
        return sum(int(read(path)) for path in usage if os.path.exists(path))
    rows = dict(line.split() for line in read(stat).splitlines())
    return int(rows["kernel"]) + int(rows["sock"])  # `kernel` from Linux 5.18 on


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def main(arguments):
    if len(arguments) > 2 and arguments[0] == "run":
        group = make_group()
        with open(arguments[1], "w", encoding="utf-8") as file:
            file.write(group or "")
        if group:
            with open(os.path.join(group, "cgroup.procs"), "w", encoding="utf-8") as file:
                file.write(str(os.getpid()))
        os.execvp(arguments[2], arguments[2:])
    if len(arguments) == 2 and arguments[0] in ("bytes", "remove"):
        group = read(arguments[1])
        try:
            if group and arguments[0] == "bytes":
                print(charged_bytes(group))
            elif group:
                os.rmdir(group)
        except (OSError, KeyError) as error:
            print(f"memory_group.py: {group}: {error}", file=sys.stderr)
        return 0
    return usage("memory_group.py", "give run FILE COMMAND..., bytes FILE or remove FILE")


if __name__ == "__main__":
    run_script("memory_group.py", __doc__, main, kept="nothing was printed")
