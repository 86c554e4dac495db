"""The servers that `make versus` compares: what each needs, how it is built and started, and a
check that it answers pings and echoes messages."""
import base64
import hashlib
import os
import resource
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
SOURCES = os.path.join(ROOT, "bench", "peers")
BUILT = os.path.join(BUILD, "peers")
GROUP_SCRIPT = os.path.join(ROOT, "tools", "perf", "memory_group.py")
GO_ROOT = "/usr/share/gocode"
DEBIAN_PYTHON = "/usr/bin/python3"  # which has Debian's modules, whichever Python runs this
START_S = 20
BUILD_S = 600

sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
from server import free_port  # noqa: E402: its path comes first


class Missing(Exception):
    """Why a peer cannot take part; `packages` of Debian would add it."""

    def __init__(self, why, packages):
        super().__init__(why)
        self.packages = packages


def output_of(*command):
    """What a command prints; empty where it cannot be run or fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              stdin=subprocess.DEVNULL, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def package_version(package):
    return output_of("dpkg-query", "-W", "-f", "${Version}", package)


class Peer:
    """A server: `name` in tables, `title` for a reader, `evicts`: how it finds dead peers."""

    packages = ()

    def __init__(self, name, title, evicts):
        self.name, self.title, self.evicts = name, title, evicts

    def prepare(self):
        """Builds what it needs; raises Missing where that is not installed."""

    def version(self):
        return ""

    def command(self, port, timeout_s, connections):
        raise NotImplementedError


class Ours(Peer):
    def __init__(self, backend):
        super().__init__(f"pulsewheel-{backend.replace('_', '-')}", f"Pulsewheel, {backend}",
                         "its timing wheel")
        self.backend = backend

    def prepare(self):
        if not os.path.exists(os.path.join(BUILD, "pulsewheel")):
            raise Missing(f"{BUILD}/pulsewheel is not built; run make", ())

    def version(self):
        return output_of(os.path.join(BUILD, "pulsewheel"), "--version").split("\n")[0]

    def command(self, port, timeout_s, connections):
        return [os.path.join(BUILD, "pulsewheel"), "--listen", f"ws://127.0.0.1:{port}",
                "--backend", self.backend, "--reactors", "1", "--on-message", "echo",
                "--max-connections", str(connections + 100), "--drain-timeout", "1s",
                "--heartbeat-interval", f"{timeout_s * 500}ms", "--heartbeat-timeout",
                f"{timeout_s}s"]


class Compiled(Peer):
    """A C++ file of bench/peers/, and headers of bench/ that it shares with others."""

    def __init__(self, name, title, evicts, *, header, package, flags, shared=()):
        super().__init__(name, title, evicts)
        self.header, self.packages, self.flags = header, (package,), flags
        self.source = os.path.join(SOURCES, name + ".cc")
        self.sources = [self.source, *(os.path.join(ROOT, "bench", each) for each in shared)]
        self.program = os.path.join(BUILT, name)

    def prepare(self):
        compiler = shlex.split(os.environ.get("CXX", "g++"))
        probe = subprocess.run([*compiler, "-E", "-x", "c++", "-"], stdout=subprocess.DEVNULL,
                               input=f"#include <{self.header}>\n".encode(),
                               stderr=subprocess.DEVNULL)
        if probe.returncode != 0:
            raise Missing(f"<{self.header}> is not installed", self.packages)
        if all(is_newer(self.program, source) for source in self.sources):
            return
        build([*compiler, "-O3", *self.flags[0], self.source, "-o", self.program, *self.flags[1]])

    def version(self):
        return package_version(self.packages[0])

    def command(self, port, timeout_s, connections):
        return [self.program, str(port), *([str(timeout_s)] if self.evicts else [])]


class Gorilla(Peer):
    packages = ("golang-go", "golang-github-gorilla-websocket-dev")

    def prepare(self):
        if not output_of("go", "version"):
            raise Missing("no go", self.packages)
        if not os.path.isdir(os.path.join(GO_ROOT, "src/github.com/gorilla/websocket")):
            raise Missing("no gorilla/websocket", self.packages)
        source = os.path.join(SOURCES, "gorilla.go")
        self.program = os.path.join(BUILT, "gorilla")
        if not is_newer(self.program, source):
            build(["go", "build", "-o", self.program, source], GO111MODULE="off", GOPATH=GO_ROOT,
                  GOFLAGS="", GOCACHE=os.path.join(BUILT, "go-cache"))

    def version(self):
        return f"{package_version(self.packages[1])}, {output_of('go', 'version').split()[2]}"

    def command(self, port, timeout_s, connections):
        return [self.program, str(port), str(timeout_s)]


class NodeWs(Peer):
    packages = ("nodejs", "npm")
    folder = os.path.join(ROOT, "tests", "clients", "node_modules", "ws")

    def prepare(self):
        if not output_of("node", "--version"):
            raise Missing("no node", self.packages)
        if not os.path.isdir(self.folder):
            raise Missing("no npm package ws: run `make deps-clients`", self.packages)

    def version(self):
        package = output_of("node", "-p", f"require('{self.folder}/package.json').version")
        return f"{package}, node {output_of('node', '--version')}"

    def command(self, port, timeout_s, connections):
        return ["node", os.path.join(SOURCES, "node_ws.mjs"), str(port), str(timeout_s)]


class PythonWebsockets(Peer):
    packages = ("python3-websockets", "python3-uvloop")

    def prepare(self):
        if not output_of(DEBIAN_PYTHON, "-c", "import websockets; print(1)"):
            raise Missing("no websockets module", self.packages)

    def version(self):
        uvloop = output_of(DEBIAN_PYTHON, "-c", "import uvloop; print(uvloop.__version__)")
        return package_version(self.packages[0]) + (f", uvloop {uvloop}" if uvloop else "")

    def command(self, port, timeout_s, connections):
        return [DEBIAN_PYTHON, os.path.join(SOURCES, "python_websockets.py"), str(port),
                str(timeout_s)]


PEERS = [
    Ours("epoll"),
    Ours("io_uring"),
    Compiled("bare", "the bare floor", "", header="openssl/sha.h", package="libssl-dev",
             flags=(["-std=c++20", "-I", ROOT], ["-lcrypto"]),
             shared=("floor_epoll.h", "floor_websocket.h")),
    Compiled("libwebsockets", "libwebsockets", "its validity check",
             header="libwebsockets.h", package="libwebsockets-dev",
             flags=(["-std=c++20"], ["-lwebsockets"])),
    Compiled("beast", "Boost.Beast", "its idle timeout", header="boost/beast/websocket.hpp",
             package="libboost-dev", flags=(["-std=c++17"], ["-pthread"])),
    # The library's headers do not compile as C++20.
    Compiled("websocketpp", "WebSocket++", "", header="websocketpp/server.hpp",
             package="libwebsocketpp-dev", flags=(["-std=c++17"], ["-pthread"])),
    Gorilla("gorilla", "gorilla/websocket", "a read deadline"),
    NodeWs("node-ws", "Node ws", "the pings of its README"),
    PythonWebsockets("python-websockets", "python3-websockets", "its keepalive pings"),
]


def is_newer(program, source):
    return os.path.exists(program) and os.path.getmtime(program) > os.path.getmtime(source)


def build(command, **environment):
    os.makedirs(BUILT, exist_ok=True)
    done = subprocess.run(command, env=dict(os.environ, **environment), timeout=BUILD_S,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stdout.decode()}")


# ---------------------------------------------------------------------------------------- running
class Place:
    """Where a measured program runs: on one core (None: any), and before all that is not measured.

    Real-time priority needs root. With it what else the machine does waits for the programs that
    are measured, and costs them caches and not their turn.
    """

    def __init__(self, core, real_time):
        self.core, self.real_time = core, real_time

    def __call__(self):
        """What a child does before it becomes the program."""
        if self.core is not None:
            os.sched_setaffinity(0, {self.core})
        if self.real_time:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # all descriptors that it may have


def may_be_real_time():
    """Whether a child of this process is allowed real-time priority."""
    try:
        done = subprocess.run(["true"], preexec_fn=Place(None, True))
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


class Running:
    """A peer's server, on a free port, in a memory cgroup of its own where one can be made."""

    def __init__(self, peer, folder, timeout_s, connections, place):
        self.peer, self.port = peer, free_port()
        self.group_path = os.path.join(folder, f"{peer.name}.group")
        self.log_path = os.path.join(folder, f"{peer.name}.log")
        command = peer.command(self.port, timeout_s, connections)
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, GROUP_SCRIPT, "run", self.group_path, *command], stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, preexec_fn=place)
        self.wait_until_it_listens()

    def wait_until_it_listens(self):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                return check_conversation(self.port)
            except ConnectionError:
                time.sleep(0.05)
        self.stop()
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            raise RuntimeError(f"{self.peer.name} did not start: {log.read()[-2000:]}")

    def stop(self):
        for how in (signal.SIGCONT, signal.SIGTERM):
            if self.process.poll() is None:
                self.process.send_signal(how)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if os.path.exists(self.group_path):
            subprocess.run([sys.executable, GROUP_SCRIPT, "remove", self.group_path], check=False)
            os.remove(self.group_path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# ---------------------------------------------------------------------------------------- a check
def read_exactly(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            raise ConnectionError("the server closed the connection")
        data += piece
    return data


def write_frame(stream, opcode, payload):
    """A masked frame of at most 125 bytes."""
    mask = b"\x12\x34\x56\x78"
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    stream.sendall(struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload)) + mask + masked)


def read_frame(stream):
    """Opcode and payload of the next frame, which must be whole and not masked."""
    first, length = read_exactly(stream, 2)
    if not first & 0x80 or length > 125:
        raise RuntimeError(f"a frame begins with {first:02x} {length:02x}")
    return first & 0x0f, read_exactly(stream, length)


def check_conversation(port):
    """Raises where a server does not upgrade, answer pings with their bytes, or echo messages."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n")
    with socket.create_connection(("127.0.0.1", port), timeout=START_S) as stream:
        stream.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += read_exactly(stream, 1)
        guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1((key + guid).encode()).digest())
        if not answer.startswith(b"HTTP/1.1 101") or accept not in answer:
            raise RuntimeError(f"the answer to the upgrade is {answer!r}")
        for opcode, payload, wanted in ((9, b"", 10), (9, b"\0\1\2\3", 10), (1, b"hello", 1),
                                        (2, bytes(range(125)), 2), (9, b"x" * 125, 10)):
            write_frame(stream, opcode, payload)
            got = read_frame(stream)
            if got != (wanted, payload):
                raise RuntimeError(f"opcode {opcode} with {payload!r} was answered by {got}")


