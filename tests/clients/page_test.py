#!/usr/bin/env python3
"""The live page in headless Chromium, from real servers with some real connections: that what it
shows is what the server says, that it survives a restart, and that all can use it.

SCREENSHOTS=DIR keeps a picture of each look that is tried.
"""
import os
import shutil
import socket
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched  # noqa: E402: its path comes first
from browser import Browser  # noqa: E402
from server import Skipped, free_port, run_tests  # noqa: E402

PING = b"\xb7\x01\0\0\0\0\0\1"
BEATING, SILENT, LINES = 12, 3, 5
TOKEN = "correct-horse-battery-staple"
# Long enough for a thread of this test that is not scheduled for seconds.
FLAGS = ("--heartbeat-interval", "2s", "--heartbeat-timeout", "8s", "--heartbeat-probe", "off",
         "--drain-timeout", "100ms")
STATE = "document.getElementById('link').dataset.state"
# Every row of a table as a list of its texts.
ROWS = "[...document.querySelectorAll('#%s tbody tr')].map(r => [...r.cells].map(" \
       "c => c.textContent))"
TILES = "Object.fromEntries([...document.querySelectorAll('#tiles div')].map(" \
        "d => [d.firstChild.textContent, d.querySelector('span').textContent]))"
browser = None


class Crowd:
    """Peers that beat ten times a second until it ends, and some that say nothing more."""

    def __init__(self, port):
        self.beating = [self.connect(port, PING) for _ in range(BEATING)]
        self.beating += [self.connect(port, b'{"type":"ping","seq":1}\n') for _ in range(LINES)]
        self.silent = [self.connect(port, PING) for _ in range(SILENT)]
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.beat, daemon=True)
        self.thread.start()

    @staticmethod
    def connect(port, first):
        peer = socket.create_connection(("127.0.0.1", port), 20)
        peer.sendall(first)
        assert peer.recv(64)
        return peer

    def beat(self):
        while not self.over.wait(0.1):
            for number, peer in enumerate(self.beating):
                peer.sendall(PING if number < BEATING else b'{"type":"ping","seq":1}\n')
                peer.recv(4096)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        for peer in self.beating + self.silent:
            peer.close()


def keep(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(os.path.join(folder, f"{name}.png"))


def number(text):
    return float(text.replace(",", ""))


def look(page, name, width, height, scheme, motion="no-preference"):
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
              deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia",
              features=[{"name": "prefers-color-scheme", "value": scheme},
                        {"name": "prefers-reduced-motion", "value": motion}])
    wide = page.eval("document.documentElement.scrollWidth")
    assert wide <= width, f"{name}: {wide} pixels, and {width} are there"
    keep(page, name)


def check_figures(page, admin):
    page.wait(STATE + " === 'live'")
    page.wait(f"({TILES})['Connections']", lambda text: text == str(BEATING + LINES))
    page.wait(f"({TILES})['Heartbeats a second']", lambda text: text not in (None, "…", "0"))
    page.wait(ROWS % "protocols", lambda rows: {row[0]: row[1] for row in rows} ==
              {"binary": str(BEATING), "jsonl": str(LINES)})
    total = admin.get("/api/v1/server")["total"]
    assert total["evicted"] == SILENT
    page.wait(ROWS % "ends", lambda rows: ["idle_timeout", "evicted", str(SILENT)] in
              [[row[0], row[1], row[3]] for row in rows])
    times = {row[0]: row[1:] for row in page.eval(ROWS % "times")}
    assert times["Turn"][0].endswith(("µs", "ms", "s")), times
    assert number(times["Eviction, behind its deadline"][-1]) == SILENT, times
    reactors = page.wait(ROWS % "reactors", lambda rows: all(row[1].endswith("%") for row in rows))
    assert len(reactors) == 2 and sum(number(row[2]) for row in reactors) == BEATING + LINES
    closed = page.wait(ROWS % "closed", lambda rows: len(rows) == SILENT)
    names = {one["id"] for one in admin.get("/api/v1/closed")["closed"]}
    assert {row[0] for row in closed} == names and all(row[3] for row in closed), closed


def check_wheel(page):
    drawn = page.eval("""({text: document.getElementById('wheel-entries').textContent,
        drawn: [...document.querySelectorAll('#wheel path:not(.base)')].filter(
            p => p.getAttribute('fill-opacity') !== '0' &&
                 p.getAttribute('fill-opacity') !== '0.000').length,
        sectors: document.querySelectorAll('#wheel path:not(.base)').length,
        rows: %s})""" % (ROWS % "sectors"))
    assert drawn["sectors"] == 128, drawn
    assert number(drawn["text"]) == sum(number(row[2]) for row in drawn["rows"]) > 0, drawn
    assert drawn["drawn"] == len(drawn["rows"]), drawn
    hand = "document.querySelector('#wheel .hand').style.transform"
    before = page.eval(hand)
    page.wait(hand, lambda now: now != before)


def check_access(page):
    """With keys, and to a screen reader."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    unnamed = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in
               ("button", "image", "img", "region", "textbox", "link", "columnheader", "rowheader")
               and not node.get("name", {}).get("value")]
    assert not unnamed, unnamed
    page.key("Tab", 9)
    assert page.eval("document.activeElement.className") == "skip"
    page.key("Tab", 9)
    assert page.eval("document.activeElement.id") == "pause"
    page.key("Enter", 13)
    assert page.eval("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.key("Enter", 13)
    assert page.eval("document.activeElement.getAttribute('aria-pressed')") == "false"


def test_it_shows_what_the_server_says_and_survives_a_restart():
    address = f"127.0.0.1:{free_port()}"
    with Watched("epoll", *FLAGS, admin=address, scheme="auto") as server:
        page = browser.open(f"http://{address}/")
        with Crowd(server.port):
            check_figures(page, server.admin)
            check_wheel(page)
            check_access(page)
            look(page, "light", 1280, 1500, "light")
            look(page, "dark", 1280, 1500, "dark")
            look(page, "phone-light", 360, 2600, "light")
            look(page, "phone-dark", 360, 2600, "dark", "reduce")
            still = "getComputedStyle(document.querySelector('#wheel .hand')).transitionDuration"
            assert page.eval(still) == "0s"
        assert not page.failed_requests, page.failed_requests
        server.stop()
        page.wait(STATE + " === 'stale'")
        said = page.eval("document.getElementById('link-text').textContent")
        assert said.startswith("Stale: "), said
        assert page.eval(f"({TILES})['Connections']") != "", "the last figures are still there"
        keep(page, "stale")
    with Watched("io_uring", *FLAGS, admin=address, scheme="auto") as server:
        page.wait(STATE + " === 'live'")
        page.wait("document.getElementById('about').textContent",
                  lambda text: f"process {server.process.pid} " in text and "io_uring" in text)
        peer = socket.create_connection(("127.0.0.1", server.port), 20)
        page.wait(f"({TILES})['Connections']", lambda text: text == "1")
        assert page.eval(f"({TILES})['Evictions a second']") in ("…", "0"), "counted anew"
        peer.close()
    assert not page.errors, page.errors


def test_it_asks_for_a_token_and_keeps_it_nowhere():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(TOKEN + "\n")
        file.flush()
        with Watched("io_uring", "--admin-token-file", file.name, token=TOKEN) as server:
            page = browser.open(f"http://{server.admin.address}/")
            shown = "!document.getElementById('login').hidden && document.activeElement.id"
            page.wait(shown, lambda focus: focus == "token")
            assert page.eval("document.getElementById('figures').hidden")
            keep(page, "token")
            for token, said in (("wrong-" + TOKEN, "That is not a token of this server."),
                                (TOKEN, "")):
                page.call("Input.insertText", text=token)
                page.key("Enter", 13)
                if said:
                    page.wait("document.getElementById('login-error').textContent",
                              lambda text, said=said: text == said)
                    page.wait(shown, lambda focus: focus == "token")
            page.wait(STATE + " === 'live'")
            assert page.eval("document.getElementById('login').hidden")
            kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
            assert page.eval(kept) == [0, 0, "", f"http://{server.admin.address}/"]
            assert len(page.failed_requests) == 2, page.failed_requests  # 401, as it should be
            assert not page.errors, page.errors


def main():
    global browser
    if not shutil.which("chromium"):
        def skip():
            raise Skipped("no chromium; run tools/install-deps.sh clients")
        return run_tests({"test_page": skip})
    with Browser() as browser:
        return run_tests(globals(), at_once=2)


if __name__ == "__main__":
    sys.exit(main())
