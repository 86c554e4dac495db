#!/usr/bin/env python3
"""Accepts connections and does nothing with them: the floor that density.sh measures against.

    tools/perf/bare_server.py PORT CONNECTIONS

Several processes share the port, since each may hold only so many descriptors. Prints `listening`,
and ends when its standard input closes.
"""
import os
import resource
import signal
import socket
import sys

from script import run_script, usage


def hold(port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4096)
    os.write(1, b"listening\n")
    held = []
    while True:
        # detach(): only the descriptor is kept, the floor is the kernel's and not Python's.
        held.append(listener.accept()[0].detach())


def serve(port):
    """A child's, which is ended without a word."""
    try:
        hold(port)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        print(f"bare_server.py: port {port}: {error.strerror}; give --port", file=sys.stderr)
    os._exit(1)


def main(arguments):
    if len(arguments) != 2 or not all(word.isdigit() for word in arguments):
        return usage("bare_server.py", "give PORT and CONNECTIONS")
    port, connections = int(arguments[0]), int(arguments[1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The kernel spreads by a hash; a tenth of slack is many standard deviations.
    processes = connections // int((hard - 64) * 0.9) + 1
    children = []
    try:
        for _ in range(processes):
            child = os.fork()
            if child == 0:
                serve(port)
            children.append(child)
        sys.stdin.read()
    finally:  # density.sh may end it by a signal
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    run_script("bare_server.py", __doc__, main)
