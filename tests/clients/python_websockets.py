"""Debian's python3-websockets as a client: `python_websockets.py URL DEFLATING_URL BEATING_URL`.

stage.py says how it is heard.
"""
import asyncio
import json
import re
import sys
import time

import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatusCode
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

URL, DEFLATING_URL, BEATING_URL = sys.argv[1:4]
TIMEOUT_S = 4  # --heartbeat-timeout of the server that beats
MESSAGE_BYTES_MAX = 1 << 20  # --max-message-bytes of all


def connect(url=URL, **options):
    """A connection that sends no pings of its own and does not compress unless told to."""
    options = {"compression": None, "ping_interval": None, "max_size": 1 << 24, **options}
    return websockets.connect(url, **options)


async def echoes(peer, message):
    await peer.send(message)
    assert await peer.recv() == message, "the echo is another message"


async def ending(peer):
    """The code and reason of the server's close frame, once there is one."""
    await peer.wait_closed()
    return peer.close_code, peer.close_reason


async def status_of(**options):
    try:
        async with connect(**options):
            return 101
    except InvalidStatusCode as refused:
        return refused.status_code


# -------------------------------------------------------------------------------------- the checks

async def echoes_text():
    async with connect() as peer:
        for text in ("", "a", "h\u00e9llo \u4e16\u754c \U0001f600", "x" * 125, "y" * 126,
                     "\u00e9" * 40000):
            await echoes(peer, text)


async def echoes_binary():
    async with connect() as peer:
        for size in (0, 1, 125, 126, 127, 65535, 65536):
            await echoes(peer, bytes(i * 7 % 256 for i in range(size)))


async def echoes_many_in_order():
    async with connect() as peer:
        sent = [f"message {i} {'.' * (i % 300)}" for i in range(1000)]
        for message in sent:
            await peer.send(message)
        assert [await peer.recv() for _ in sent] == sent


async def echoes_a_megabyte():
    async with connect() as peer:
        await echoes(peer, "m" * MESSAGE_BYTES_MAX)
        await echoes(peer, bytes(range(256)) * (MESSAGE_BYTES_MAX // 256))


async def refuses_more_with_1009():
    async with connect() as peer:
        await peer.send(b"m" * (MESSAGE_BYTES_MAX + 1))
        assert (await ending(peer))[0] == 1009, peer.close_code


async def joins_fragments():
    async with connect() as peer:
        async def pieces():
            yield "one, "
            await (await peer.ping(b"between"))
            yield ""
            yield "two \u4e16"
        await peer.send(pieces())
        assert await peer.recv() == "one, two \u4e16"
        await peer.send([b"\0\xff", b"", b"7" * 70000])
        assert await peer.recv() == b"\0\xff" + b"7" * 70000


async def answers_pings():
    async with connect() as peer:
        for payload in (b"", b"payload", b"p" * 125):
            await asyncio.wait_for(await peer.ping(payload), 10)


async def answers_close_codes():
    for code in (1000, 1001, 1003, 1011, 3000, 4000, 4999):
        async with connect() as peer:
            await peer.close(code, "said by the client")
            assert (await ending(peer))[0] == code, (code, peer.close_code)


async def refuses_an_unmasked_frame_with_1002():
    async with connect() as peer:
        peer.transport.write(b"\x81\x01a")
        assert (await ending(peer))[0] == 1002, peer.close_code


async def speaks_pulse_v1_json():
    async with connect(subprotocols=["other.v2", "pulse.v1.json"]) as peer:
        assert peer.subprotocol == "pulse.v1.json", peer.subprotocol
        await peer.send('{"type":"hello","user":"u1","device":"python"}')
        welcome = json.loads(await peer.recv())
        assert welcome["type"] == "welcome" and re.fullmatch(r"r\d+-\d{6}-\d+", welcome["conn"])
        assert (welcome["interval_ms"], welcome["timeout_ms"]) == (30000, 90000), welcome
        await peer.send('{"type":"heartbeat","seq":7,"ts":"noon"}')
        assert json.loads(await peer.recv()) == {"type": "pong", "seq": 7, "ts": "noon"}
        await peer.send("ping")
        assert await peer.recv() == "pong"


async def goes_on_without_a_common_subprotocol():
    async with connect(subprotocols=["other.v2"]) as peer:
        assert peer.subprotocol is None
        await echoes(peer, "all the same")


async def deflates():
    async with connect(DEFLATING_URL, compression="deflate") as peer:
        assert [type(e).__name__ for e in peer.extensions] == ["PerMessageDeflate"]
        for message in ("", "a", "again and again " * 5000, b"\0" * 100000,
                        "m" * MESSAGE_BYTES_MAX):
            await echoes(peer, message)
        await peer.send([b"frag" * 1000, b"ments" * 1000])
        assert await peer.recv() == b"frag" * 1000 + b"ments" * 1000
        await peer.send("m" * (MESSAGE_BYTES_MAX + 1))
        assert (await ending(peer))[0] == 1009, peer.close_code


async def deflates_as_each_side_asks():
    for asked in ({"server_no_context_takeover": True}, {"client_no_context_takeover": True},
                  {"server_max_window_bits": 10}, {"client_max_window_bits": 10}):
        factory = ClientPerMessageDeflateFactory(**asked)
        async with connect(DEFLATING_URL, extensions=[factory]) as peer:
            for i in range(3):
                await echoes(peer, f"in turn {i} " * 3000)


async def refuses_other_origins():
    assert await status_of(origin="http://evil.example") == 403
    async with connect(origin="http://allowed.example") as peer:
        await echoes(peer, "from a page that may")


async def lives_by_answering_probes():
    """Its connection began before all other checks."""
    await asyncio.sleep(max(0, idle_began + TIMEOUT_S + 0.5 - time.monotonic()))
    await echoes(idle, "still here")
    await idle.close()


async def be_deaf():
    """How a connection ends if its client reads no byte until the server has given it up."""
    deaf = await connect(BEATING_URL)
    deaf.transport.pause_reading()
    await asyncio.sleep(TIMEOUT_S + 0.5)
    deaf.transport.resume_reading()
    return await ending(deaf)


async def is_evicted_when_it_answers_no_probe():
    """So did this one."""
    end = await deaf_end
    assert end == (4003, "idle_timeout"), end


async def hears_the_server_go():
    speaker = await connect(subprotocols=["pulse.v1.json"])
    print("DRAIN")
    try:
        goodbye = json.loads(await speaker.recv())
        assert goodbye["type"] == "goodbye" and goodbye["retry_after_ms"] > 0, goodbye
        await speaker.recv()
    except ConnectionClosed:
        code, reason = speaker.close_code, speaker.close_reason
        assert code == 1001 and reason.startswith("going_away"), (code, reason)
    else:
        raise AssertionError("a message came after the goodbye")


CHECKS = (echoes_text, echoes_binary, echoes_many_in_order, echoes_a_megabyte,
          refuses_more_with_1009, joins_fragments, answers_pings, answers_close_codes,
          refuses_an_unmasked_frame_with_1002, speaks_pulse_v1_json,
          goes_on_without_a_common_subprotocol, deflates, deflates_as_each_side_asks,
          refuses_other_origins, lives_by_answering_probes, is_evicted_when_it_answers_no_probe,
          hears_the_server_go)


async def main():
    global idle, idle_began, deaf_end
    idle_began = time.monotonic()
    idle, deaf_end = await connect(BEATING_URL), asyncio.create_task(be_deaf())
    for check in CHECKS:
        try:
            await asyncio.wait_for(check(), 30)
            print(f"ok {check.__name__}")
        except Exception as error:  # whatever went wrong, the other checks still run
            print(f"FAILED {check.__name__}: {type(error).__name__}: {str(error)[:300]}")
    print("DONE")


asyncio.run(main())
