#!/usr/bin/env python3
"""The server in the sandboxes that tools/deploy/ proposes: under the filter of the unit, and in a
read-only root as an unprivileged user, as its container runs. On each backend; ends with
`N passed, N failed`.
"""
import ctypes
import glob
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import confine  # noqa: E402: its path comes first
from server import BUILD, Server, Skipped, free_port, run_over_backends  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
UNPRIVILEGED = 65534
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
# CLONE_NEWNS and the other namespaces of clone(2) and unshare(2).
NAMESPACES = 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x20000
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
                "ENTRYPOINT", "CMD"}


def system_calls():
    """Numbers of this machine's system calls, by name."""
    for path in glob.glob("/usr/include/*/asm/unistd_64.h") + ["/usr/include/asm-generic/unistd.h"]:
        if os.path.exists(path):
            with open(path) as file:
                pairs = re.findall(r"#define __NR_(\w+) (\d+)", file.read())
            return {name: int(number) for name, number in pairs}
    raise Skipped("linux-libc-dev is not installed")


def unit_values(name):
    with open(f"{ROOT}/tools/deploy/pulsewheel.service") as file:
        return re.findall(rf"^{name}=(.*)", file.read(), re.M)


def expanded(names):
    """Names of calls and of @sets as calls."""
    calls = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        done = subprocess.run(["systemd-analyze", "syscall-filter", name], stdout=subprocess.PIPE,
                              text=True, check=True)
        listed = [line.strip() for line in done.stdout.splitlines()[1:]]
        calls |= expanded(line for line in listed if line and not line.startswith("#"))
    return calls


def unit_filter():
    if shutil.which("systemd-analyze") is None:
        raise Skipped("systemd-analyze is not installed")
    if platform.machine() != "x86_64":
        raise Skipped("the numbers of system calls are those of x86-64")
    allowed = expanded(["@default"])
    for value in unit_values("SystemCallFilter"):
        if value.startswith("~"):
            allowed -= expanded(value[1:].split()) - expanded(["@default"])
        else:
            allowed |= expanded(value.split())
    numbers = system_calls()
    families = [FAMILIES[name] for name in unit_values("RestrictAddressFamilies")[0].split()]
    return confine.allow_calls({numbers[name] for name in allowed if name in numbers}, families,
                               {numbers["unshare"]: NAMESPACES, numbers["clone"]: NAMESPACES})


def drop_privileges():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(UNPRIVILEGED)
        os.setuid(UNPRIVILEGED)


def limit_locked_memory():
    """LimitMEMLOCK=, or what may be had: the rings of io_uring count."""
    wanted = int(unit_values("LimitMEMLOCK")[0].removesuffix("M")) << 20
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (wanted, wanted))


def deny_new_code():
    """MemoryDenyWriteExecute=, where the kernel has it (6.3)."""
    ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)


def beat(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(bytes.fromhex("b701000000000001"))
        assert peer.recv(8)[1] == 2, "a pong"


def test_serves_under_the_filter_of_the_unit(backend):
    refuse = unit_filter()
    with tempfile.TemporaryDirectory() as directory:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(f"{directory}/notify")
        os.chmod(directory, 0o755)
        os.chmod(f"{directory}/notify", 0o666)
        manager.settimeout(20)

        def before():
            os.environ["NOTIFY_SOCKET"] = f"{directory}/notify"
            limit_locked_memory()
            deny_new_code()
            drop_privileges()
            refuse()
        with Server(backend, "--reactors", "2", "--pin", "--max-connections", "1k", "--stats-json",
                    "/dev/null", before=before) as server:
            assert manager.recv(4096).startswith(b"READY=1"), "a message to the manager"
            manager.close()
            for _ in range(20):
                beat(server.port)
            text = server.text()
            assert "descriptors each" in text, "unshare is refused: " + text
            assert f"backend {backend}" in text, text
            assert server.stop() == 0, server.text()


def test_the_filter_refuses_what_the_server_does_not_need(_):
    """Or the test before would prove nothing."""
    refuse = unit_filter()
    script = ("import ctypes, os, socket\n"
              "libc = ctypes.CDLL(None, use_errno=True)\n"
              "def error(call, *arguments):\n"
              "    return ctypes.get_errno() if getattr(libc, call)(*arguments) < 0 else 0\n"
              "print([error('chroot', b'/'), error('mlockall', 1), error('unshare', 0x10000000),\n"
              "       error('unshare', 0x400), error('socket', 16, 3, 0),\n"
              "       error('socket', 2, 1, 0)])\n")
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                          preexec_fn=refuse)
    assert done.stdout.strip() == "[1, 1, 1, 0, 97, 0]", done.stdout


# -------------------------------------------------------------------------------------- container

def dockerfile():
    """(instruction, words) of each, continued lines joined."""
    with open(f"{ROOT}/tools/deploy/Dockerfile") as file:
        text = re.sub(r"^#.*\n", "", file.read(), flags=re.M).replace("\\\n", "")
    return [line.split(None, 1) for line in text.splitlines() if line.strip()]


def test_the_dockerfile_is_well_formed(_):
    stages = set()
    for instruction, words in dockerfile():
        assert instruction in INSTRUCTIONS, instruction
        if instruction == "FROM":
            assert re.fullmatch(r"debian:12(-slim)?( AS \w+)?", words), words
            stages |= set(re.findall(r" AS (\w+)", words))
        if instruction == "COPY":
            source = words.split()[0]
            stage = re.match(r"--from=(\w+)", source)
            assert stage[1] in stages if stage else os.path.exists(f"{ROOT}/{source}"), words
        if instruction in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
            json.loads(words[words.index("["):])
    last = dict(dockerfile())
    assert last["USER"] == f"{UNPRIVILEGED}:{UNPRIVILEGED}", last


def test_the_compose_file_is_rootless_and_read_only(_):
    try:
        import yaml
    except ImportError:
        raise Skipped("python3-yaml is not installed") from None
    with open(f"{ROOT}/tools/deploy/compose.yaml") as file:
        service = yaml.safe_load(file)["services"]["pulsewheel"]
    assert service["read_only"] is True, service
    assert service["user"] == f"{UNPRIVILEGED}:{UNPRIVILEGED}", service
    assert service["cap_drop"] == ["ALL"], service
    assert os.path.exists(f"{ROOT}/{service['build']['dockerfile']}"), service
    check = subprocess.run([f"{BUILD}/pulsewheel", *service["command"], "--print-config"],
                           capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def libraries_of(path):
    done = subprocess.run(["ldd", path], stdout=subprocess.PIPE, text=True, check=True)
    return re.findall(r"(/\S+) \(", done.stdout)


class Image:
    """A root with the server, bash, what both link to, and nothing else."""

    def __init__(self, directory):
        self.root = f"{directory}/root"
        for folder in ("proc", "dev", "usr/bin", "bin"):
            os.makedirs(f"{self.root}/{folder}")
        self.add(f"{BUILD}/pulsewheel", "/usr/bin/pulsewheel")
        self.add("/bin/bash", "/bin/bash")
        open(f"{self.root}/dev/null", "w").close()
        os.chmod(directory, 0o755)

    def add(self, path, target):
        shutil.copy(path, self.root + target)
        for library in libraries_of(path):
            os.makedirs(os.path.dirname(self.root + library), exist_ok=True)
            if not os.path.exists(self.root + library):
                shutil.copy(library, self.root + library)

    def command(self, *words):
        """Runs `words` in the root, read-only, unprivileged, with the host's network."""
        script = (f"mount --bind {self.root} {self.root} && mount --bind /dev/null "
                  f"{self.root}/dev/null && mount -t proc proc {self.root}/proc && "
                  f"mount -o remount,bind,ro {self.root} && "
                  f"exec setpriv --no-new-privs chroot --userspec "
                  f"{UNPRIVILEGED}:{UNPRIVILEGED} {self.root} \"$@\"")
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh",
                *words]


def test_serves_in_a_read_only_root_unprivileged(backend):
    if os.getuid() != 0 or any(shutil.which(tool) is None for tool in ("unshare", "setpriv")):
        raise Skipped("needs root, unshare and setpriv")
    with tempfile.TemporaryDirectory() as directory:
        image = Image(directory)
        port = free_port()
        log = f"{directory}/log"
        with open(log, "w") as stderr:
            process = subprocess.Popen(
                image.command("/usr/bin/pulsewheel", "--listen", f"auto://127.0.0.1:{port}",
                              "--backend", backend, "--max-connections", "100", "--reactors", "1"),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        try:
            deadline = time.monotonic() + 20
            while "listening on" not in open(log).read():
                assert process.poll() is None and time.monotonic() < deadline, open(log).read()
                time.sleep(0.02)
            beat(port)
            words = dict(dockerfile())["HEALTHCHECK"]
            check = json.loads(words[words.index("["):])
            check[-1] = check[-1].replace("/9000", f"/{port}")
            done = subprocess.run(image.command(*check), capture_output=True, text=True, timeout=20,
                                  env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
            assert done.returncode == 0, done
            done = subprocess.run(image.command("bash", "-c", ": >/file"), capture_output=True,
                                  text=True, timeout=20)
            assert "Read-only file system" in done.stderr, done
        finally:
            # What --kill-child asks the kernel for is lost where the child's user changes.
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
                for child in children.read().split():
                    os.kill(int(child), signal.SIGKILL)
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(run_over_backends(globals()))
