"""What a number depends on besides the program: machine, kernel, limits, settings, versions.

`python3 tools/perf/measuring environment DIR` writes DIR/environment.json, for scripts of the
shell; the others write it into their result directory.
"""
import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess

from measuring.command import BUILD, ROOT

SYSCTLS = ("fs.file-max", "fs.nr_open", "kernel.io_uring_disabled", "kernel.kptr_restrict",
           "kernel.numa_balancing", "kernel.perf_event_paranoid", "kernel.sched_rt_runtime_us",
           "kernel.sched_autogroup_enabled", "kernel.randomize_va_space", "kernel.watchdog",
           "net.core.busy_poll", "net.core.netdev_max_backlog", "net.core.rmem_max",
           "net.core.rps_sock_flow_entries", "net.core.somaxconn", "net.core.wmem_max",
           "net.ipv4.ip_local_port_range", "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_mem",
           "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies",
           "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_wmem", "net.netfilter.nf_conntrack_max",
           "vm.max_map_count", "vm.overcommit_memory", "vm.swappiness")
TOOLS = {"perf": ("perf", "--version"), "strace": ("strace", "--version"),
         "gdb": ("gdb", "--version"), "valgrind": ("valgrind", "--version"),
         "python3": ("python3", "--version"), "compiler": ("g++", "--version")}
COMMAND_SECONDS_MAX = 10


def read(path):
    """The text of a file, stripped; None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def output_of(*command):
    """What a command prints, stripped; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT,
                              stdin=subprocess.DEVNULL, timeout=COMMAND_SECONDS_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def first_line(text):
    return text.splitlines()[0] if text else None


def sysctl(name, root="/"):
    return read(os.path.join(root, "proc/sys", name.replace(".", "/")))


def cpu():
    info = read("/proc/cpuinfo") or ""
    models = re.findall(r"^model name\s*: (.*)$", info, re.M)
    devices = "/sys/devices/system/cpu"
    return {"model": models[0] if models else platform.machine(), "cores": os.cpu_count(),
            "cores_allowed": sorted(os.sched_getaffinity(0)),
            "governor": read(f"{devices}/cpu0/cpufreq/scaling_governor"),
            "boost": read(f"{devices}/cpufreq/boost"),
            "no_turbo": read(f"{devices}/intel_pstate/no_turbo"),
            "smt": read(f"{devices}/smt/control"), "isolated": read(f"{devices}/isolated"),
            "virtual": " hypervisor" in info,
            "clock_source": read(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            "mitigations": {name: read(f"{devices}/vulnerabilities/{name}")
                            for name in sorted(os.listdir(f"{devices}/vulnerabilities"))}
            if os.path.isdir(f"{devices}/vulnerabilities") else {}}


def memory():
    lines = (read("/proc/meminfo") or "").splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {"total_bytes": values.get("MemTotal"), "available_bytes": values.get("MemAvailable"),
            "swap_bytes": values.get("SwapTotal"),
            "transparent_huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled")}


def limits():
    """Soft and hard, by the names of /proc/self/limits."""
    rows = {}
    for line in (read("/proc/self/limits") or "").splitlines()[1:]:
        name, soft, hard = re.match(r"(Max [a-z -]+?)  +(\S+) +(\S+)", line).groups()
        rows[name] = [soft, hard]
    return rows


def git(*arguments):
    """What git prints, of a checkout that another user owns, too; None where it fails."""
    return output_of("git", "-c", "safe.directory=*", *arguments)


def git_state():
    if git("rev-parse", "--is-inside-work-tree") != "true":
        return None
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"revision": git("rev-parse", "HEAD"),
            "described": git("describe", "--always", "--dirty"),
            "changed_files": changed.splitlines() if changed else []}


def binary(path):
    """A program's version, size and SHA-256: which build a number is of."""
    path = shutil.which(path) or path
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": os.path.relpath(path, ROOT), "bytes": os.path.getsize(path),
            "sha256": digest, "version": first_line(output_of(path, "--version"))}


def capture(binaries=()):
    """All of it, as an object of JSON; what cannot be read is null."""
    status = read("/proc/self/status") or ""
    capabilities = re.search(r"^CapEff:\s*(\w+)", status, re.M)
    programs = binaries or [os.path.join(BUILD, name) for name in ("pulsewheel", "pulseload")]
    return {"at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "kernel": " ".join((platform.system(), platform.release(), platform.version())),
            "kernel_command_line": read("/proc/cmdline"),
            "distribution": first_line(read("/etc/os-release")), "cpu": cpu(),
            "memory": memory(), "load_average": list(os.getloadavg()),
            "user": os.geteuid(), "capabilities": capabilities[1] if capabilities else None,
            "cgroup_cpu_max": read("/sys/fs/cgroup/cpu.max"), "limits": limits(),
            "sysctls": {name: sysctl(name) for name in SYSCTLS},
            "tools": {name: first_line(output_of(*call)) if shutil.which(call[0]) else None
                      for name, call in TOOLS.items()},
            "git": git_state(), "programs": {os.path.basename(path) + (
                "" if index < 2 else f" {index}"): binary(path)
                for index, path in enumerate(programs)}}


def headline(captured):
    """One line for the head of a table."""
    machine = captured["cpu"]
    revision = (captured["git"] or {}).get("described") or "unknown"
    kernel = " ".join(captured["kernel"].split()[:2])
    return (f"{captured['at'][:10]}, {machine['model']}, {machine['cores']} cores"
            f"{' (virtual)' if machine['virtual'] else ''}, {kernel}"
            f", revision {revision}, load "
            f"{captured['load_average'][0]:.1f} at the start")


def add_flags(parser):
    parser.add_argument("directory", metavar="DIR")


def main(options):
    with open(os.path.join(options.directory, "environment.json"), "w", encoding="utf-8") as file:
        json.dump(capture(), file, indent=1)
        file.write("\n")
    return 0
