"""Debian's python3-websockets as a heartbeat server; on uvloop where that is installed.

    /usr/bin/python3 python_websockets.py PORT TIMEOUT_S      0: no peer is evicted
"""
import asyncio
import sys

import websockets

try:
    import uvloop  # its documentation says: faster by it
except ImportError:
    uvloop = None


async def echo(peer):
    async for message in peer:
        await peer.send(message)


async def main(port, timeout_s):
    # Pings by the library: a pong that is not there ping_timeout later closes the connection.
    # A peer that falls silent is never evicted before TIMEOUT_S after its last byte.
    keepalive = {"ping_interval": timeout_s / 2 or None, "ping_timeout": timeout_s or None}
    # Compression is most of what a connection costs by default; asyncio's backlog is 100.
    async with websockets.serve(echo, "127.0.0.1", port, compression=None, backlog=4096,
                                **keepalive):
        print("listening", flush=True)
        await asyncio.Future()


if __name__ == "__main__":
    if uvloop:
        uvloop.install()
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
