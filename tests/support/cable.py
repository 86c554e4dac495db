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

    def add_peer(self, number):
        """One more address on the peer's side, with its link-layer address known for good, so that
        nothing but what a test does to it is noticed. Returns the address."""
        address = f"10.97.0.{number}"
        shown = subprocess.run(["ip", "-n", PEER_SIDE, "-o", "link", "show", "far"], check=True,
                               capture_output=True, text=True, timeout=20).stdout
        self.link_address = shown.split("link/ether ")[1].split()[0]
        ip("-n", PEER_SIDE, "addr", "add", address + "/32", "dev", "far")
        ip("-n", SERVER_SIDE, "route", "add", address + "/32", "dev", "near")
        self.deliver(address)
        return address

    def deliver(self, address):
        self._send_to(address, self.link_address)

    def lose(self, address):
        """What is sent to it from now on is dropped on the far end of the cable."""
        self._send_to(address, "02:00:00:00:00:99")

    def remove_peer(self, address):
        """It says nothing any more, and what comes for it is dropped."""
        ip("-n", PEER_SIDE, "addr", "del", address + "/32", "dev", "far")

    def restore_peer(self, address):
        ip("-n", PEER_SIDE, "addr", "add", address + "/32", "dev", "far")

    def _send_to(self, address, link_address):
        ip("-n", SERVER_SIDE, "neigh", "replace", address, "lladdr", link_address, "dev", "near",
           "nud", "permanent")

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
