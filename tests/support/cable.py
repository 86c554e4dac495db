"""Two network namespaces with a cable (veth) between them, for tests that pull it."""
import os
import subprocess

from server import Skipped

SERVER_SIDE, PEER_SIDE = f"pulse-s{os.getpid()}", f"pulse-p{os.getpid()}"
SERVER_ADDRESS, PEER_ADDRESS = "10.99.0.1", "10.99.0.2"


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


def inside(namespace):
    return ["ip", "netns", "exec", namespace]


class Cable:
    """The namespaces and what lies between them; gone with the block."""

    def __enter__(self):
        try:
            for namespace in (SERVER_SIDE, PEER_SIDE):
                ip("netns", "add", namespace)
                ip("-n", namespace, "link", "set", "lo", "up")
            ip("-n", SERVER_SIDE, "link", "add", "near", "type", "veth",
               "peer", "name", "far", "netns", PEER_SIDE)
            for namespace, end, address in ((SERVER_SIDE, "near", SERVER_ADDRESS + "/24"),
                                            (PEER_SIDE, "far", PEER_ADDRESS + "/24")):
                ip("-n", namespace, "addr", "add", address, "dev", end)
                ip("-n", namespace, "link", "set", end, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def pull(self):
        """Nothing passes any more, and neither end is told."""
        ip("-n", PEER_SIDE, "link", "set", "far", "down")

    def become_a_router(self):
        """What was the peer's host has not its address any more, and says so by ICMP."""
        router = "10.98.0.1"
        ip("-n", SERVER_SIDE, "route", "add", router, "dev", "near")
        ip("-n", PEER_SIDE, "addr", "add", router + "/32", "dev", "far")
        ip("-n", PEER_SIDE, "route", "add", SERVER_ADDRESS, "dev", "far", "src", router)
        ip("-n", PEER_SIDE, "route", "add", "unreachable", PEER_ADDRESS)
        ip("netns", "exec", PEER_SIDE, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        ip("-n", PEER_SIDE, "addr", "del", PEER_ADDRESS + "/24", "dev", "far")

    def __exit__(self, *_):
        for namespace in (SERVER_SIDE, PEER_SIDE):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=20)


def need_namespaces():
    try:
        with Cable():
            return
    except (OSError, subprocess.SubprocessError) as error:
        raise Skipped(f"no network namespaces here: {error}") from error
