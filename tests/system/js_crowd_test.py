#!/usr/bin/env python3
"""The JavaScript client (tools/client/js/) with real servers: 1,000 connections from Node, and one
from a background tab of Chromium, through a stop of 5 s, a restart and a move to another server;
and the presence board (tools/client/examples/presence/) in Chromium. The C++ client through a
restart, by its example (tools/client/examples/chat.cc), also over TLS.

SCREENSHOTS=DIR keeps a picture of each look of the board.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched  # noqa: E402: its path comes first
from browser import Browser  # noqa: E402
from certificates import make_certificate  # noqa: E402
from server import BUILD, Server, Skipped, free_port, run_cases  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLIENTS = os.path.join(ROOT, "tests/clients")
SERVE = os.path.join(ROOT, "tools/client/examples/presence/serve.mjs")
COUNT = 1000
STOP_S = 5
# A client gives a server up after 3 x 4 s: longer than the stop, and what a busy machine adds.
OPTIONS = {"answerTimeoutMs": 4000, "misses": 3, "labels": {"ring": "canary"}}
FLAGS = ("--heartbeat-interval", "1s", "--heartbeat-timeout", "10s", "--drain-timeout", "500ms",
         "--drain-retry-after", "200ms", "--max-connections", "3000")
PATIENCE_S = 60


def node():
    if not shutil.which("node"):
        raise Skipped("no node; run tools/install-deps.sh clients")
    return "node"


def node_with_ws():
    program = node()
    found = subprocess.run([program, "--input-type=module", "-e", "import 'ws'"], cwd=CLIENTS,
                           capture_output=True)
    if found.returncode != 0:
        raise Skipped("no npm package ws in tests/clients/node_modules; "
                      "run tools/install-deps.sh clients")
    return program


def chromium():
    if not shutil.which("chromium"):
        raise Skipped("no chromium; run tools/install-deps.sh clients")


class Program:
    """A program whose lines are read."""

    def __init__(self, *command, cwd=ROOT, errors=None, environment=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=errors, text=True, cwd=cwd,
                                        env={**os.environ, **(environment or {})})

    def line(self):
        line = self.process.stdout.readline()
        assert line, f"it ended with code {self.process.wait()}"
        return line.strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Crowd(Program):
    """COUNT clients in one process (tests/clients/js_crowd.mjs)."""

    def __init__(self, url):
        super().__init__(node_with_ws(), "js_crowd.mjs", url, str(COUNT), json.dumps(OPTIONS),
                         cwd=CLIENTS)

    def order(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def wait(self, wanted):
        return wait_for(lambda: self.order("status"), wanted)


def wait_for(look, wanted):
    """What `look` sees, once it is wanted."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        seen = look()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)


def all_open(status):
    return status["states"] == {"open": COUNT}


def stop_for_a_while(server, meanwhile=lambda: None):
    """`meanwhile` is called at the end of it: the server has answered nothing for so long."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(STOP_S)
        meanwhile()
    finally:
        server.process.send_signal(signal.SIGCONT)


def is_held_by(server, count):
    """As the server has it."""
    wait_for(lambda: server.stats()["total"]["connections"], lambda live: live == count)


def serve(backend, port, *flags):
    """A server on that port too, which one that comes after it can have again."""
    return Server(backend, "--listen", f"ws://127.0.0.1:{port}", *FLAGS, *flags, scheme="ws")


class Movable(Server):
    """A server that can be told to send those with the label of OPTIONS to another one."""

    def __init__(self, backend, port):
        self.settings = tempfile.NamedTemporaryFile("w", suffix=".toml")
        super().__init__(backend, "--listen", f"ws://127.0.0.1:{port}", *FLAGS,
                         "--config", self.settings.name, scheme="ws")

    def move_to(self, port):
        self.settings.write(f'policy = ["ring=canary: move-to=ws://127.0.0.1:{port} '
                            'move-over=2s"]\n')
        self.settings.flush()
        self.process.send_signal(signal.SIGHUP)

    def __exit__(self, *about):
        super().__exit__(*about)
        self.settings.close()


def test_a_crowd_is_held(backend):
    home, away = free_port(), free_port()
    with serve(backend, home) as server:
        crowd = Crowd(f"ws://127.0.0.1:{home}")
        with crowd:
            crowd.wait(all_open)
            is_held_by(server, COUNT)

            def waits():
                crowd.order("send")
                status = crowd.order("status")
                assert status["pending"] == COUNT and all_open(status), status
            stop_for_a_while(server, waits)
            status = crowd.wait(lambda seen: seen["pending"] == 0)
            assert status["answers"] == {"received": COUNT}, status
            assert all_open(status) and status["lost"] == {}, status
            assert (status["welcomes"], status["gaps"]) == (COUNT, 0), status
            assert server.stop() == 0
            total = server.stats()["total"]
            assert (total["accepted"], total["evicted"]) == (COUNT, 0), total
            survive_a_restart_and_a_move(crowd, backend, home, away)


def survive_a_restart_and_a_move(crowd, backend, home, away):
    crowd.wait(lambda seen: seen["states"].get("open", 0) == 0)
    crowd.order("send")
    began = time.monotonic()
    with Movable(backend, home) as server:
        status = crowd.wait(all_open)
        took = time.monotonic() - began
        assert sum(status["lost"].values()) == COUNT, status
        assert status["ended"] == {} and status["welcomes"] == 2 * COUNT, status
        status = crowd.wait(lambda seen: seen["pending"] == 0)
        assert status["answers"] == {"received": 2 * COUNT}, status
        print(f"REPORT {backend}: {COUNT} back {took:.1f} s after the start, "
              f"{status['retries'] / COUNT:.2f} tries a client", flush=True)
        is_held_by(server, COUNT)
        assert status["gaps"] == COUNT, status
        crowd.order("mark")
        with serve(backend, away) as other:
            server.move_to(away)
            crowd.wait(lambda seen: seen["urls"] == {f"ws://127.0.0.1:{away}/": COUNT})
            crowd.order("send")
            status = crowd.wait(lambda seen: seen["pending"] == 0)
            assert status["answers"] == {"received": 3 * COUNT}, status
            assert status["moves"] == COUNT and sum(status["lost"].values()) == COUNT, status
            assert status["ended"] == {} and status["welcomes"] == 3 * COUNT, status
            assert status["gaps"] == 0 and all_open(status), f"not made before break: {status}"
            is_held_by(other, COUNT)
            is_held_by(server, 0)
            assert server.stats()["total"]["closed_by_reason"] == {"moved": COUNT}
            for one in (server, other):
                assert one.stats()["total"]["evicted"] == 0
            print(f"REPORT {backend}: {COUNT} moved, none without an open connection meanwhile",
                  flush=True)


# A client in a page, and what it had; `ticks` shows whether the page's timers are throttled.
PROBE = """import("/js/index.js").then(({PulseClient}) => {
  window.ticks = 0;
  setInterval(() => ++ticks, 100);
  window.had = {lost: [], ended: [], answers: [], welcomes: 0, urls: [], gaps: 0};
  let sockets = 0;
  class Counted extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("open", () => { ++sockets; this.isCounted = true; });
      this.addEventListener("close", () => { if (this.isCounted && --sockets === 0) ++had.gaps; });
    }
  }
  window.client = new PulseClient({url: "%s", user: "ann", device: "tab", WebSocket: Counted,
    ...%s});
  const on = (name, take) => client.addEventListener(name, ({detail}) => take(detail));
  on("welcome", ({url}) => { ++had.welcomes; had.urls.push(url); });
  on("lost", ({cause}) => had.lost.push(cause.name));
  on("end", ({cause}) => had.ended.push(cause.name));
  return client.connect().then(() => client.state);
})"""
SEND = "client.send({a: 1}, {confirm: true}).then(({status}) => { had.answers.push(status); }), 0"


class Board(Program):
    """The program that serves the presence board, and its address."""

    def __init__(self, server_url, admin="127.0.0.1:9"):
        super().__init__(node(), SERVE, "--listen", "127.0.0.1:0", "--server", server_url,
                         "--admin", f"http://{admin}")
        self.url = self.line()


def had(page, wanted):
    return wait_for(lambda: page.eval("({...had, state: client.state})"), wanted)


def test_a_tab_in_the_background():
    chromium()
    home, away = free_port(), free_port()
    url = f"ws://127.0.0.1:{home}"
    with Board(url) as board:
        with serve("epoll", home) as server:
            page = browser.open(board.url)
            assert page.eval(PROBE % (url, json.dumps(OPTIONS))) == "open"
            page.hide()
            page.wait("document.visibilityState", lambda seen: seen == "hidden")
            before = page.eval("ticks")
            stop_for_a_while(server)
            ticks = page.eval("ticks") - before
            assert ticks <= 2 * STOP_S, f"timers are not throttled: {ticks} of {10 * STOP_S}"
            page.eval(SEND)
            seen = had(page, lambda seen: seen["answers"] == ["received"])
            assert (seen["lost"], seen["welcomes"], seen["gaps"]) == ([], 1, 0), seen
            assert server.stop() == 0
        had(page, lambda seen: seen["state"] != "open")
        page.eval(SEND)
        with Movable("epoll", home) as server, serve("epoll", away):
            seen = had(page, lambda seen: seen["answers"] == ["received"] * 2)
            assert (len(seen["lost"]), seen["ended"], seen["state"]) == (1, [], "open"), seen
            server.move_to(away)
            is_away = f"ws://127.0.0.1:{away}/"
            seen = had(page, lambda seen: seen["urls"][-1] == is_away)
            is_held_by(server, 0)
            seen = page.eval("({...had, state: client.state})")
            assert (len(seen["lost"]), seen["gaps"], seen["state"]) == (1, 1, "open"), seen
            assert page.eval("document.hidden")
            freeze_and_thaw(page)
            page.show()
            page.wait("document.visibilityState", lambda seen: seen == "visible")
        assert not page.errors, page.errors


def freeze_and_thaw(page):
    """Chromium closes the sockets of a page that it freezes; the client comes back behind it."""
    welcomes = page.eval("had.welcomes")
    page.call("Page.setWebLifecycleState", state="frozen")
    time.sleep(1)
    page.call("Page.setWebLifecycleState", state="active")
    page.eval(SEND)
    seen = had(page, lambda seen: len(seen["answers"]) == 3 and seen["state"] == "open")
    assert seen["ended"] == [] and seen["welcomes"] - welcomes == len(seen["lost"]) - 1, seen


STATE_OF = "document.getElementById('%s').dataset.state"
USERS = "[...document.querySelectorAll('#users tbody tr')].map(r => [...r.cells].map(" \
        "c => c.textContent))"
TYPE_IN = "document.getElementById('user').value = %s; " \
          "document.getElementById('join').requestSubmit()"


def join(page, user):
    page.wait(STATE_OF % "feed", lambda state: state == "open")
    page.eval(TYPE_IN % json.dumps(user))
    page.wait(STATE_OF % "link", lambda state: state == "open")


def look(page, name, width, height, scheme):
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
              deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia",
              features=[{"name": "prefers-color-scheme", "value": scheme}])
    wide = page.eval("document.documentElement.scrollWidth")
    assert wide <= width, f"{name}: {wide} pixels, and {width} are there"
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(os.path.join(folder, f"board-{name}.png"))


def check_access(page):
    """With keys, and to a screen reader."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    unnamed = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in
               ("button", "image", "region", "textbox", "link", "columnheader", "rowheader")
               and not node.get("name", {}).get("value")]
    assert not unnamed, unnamed
    page.eval("document.activeElement.blur()")
    focused = []
    for _ in range(3):
        page.key("Tab", 9)
        focused.append(page.eval("document.activeElement.id || document.activeElement.className"))
    assert focused == ["skip", "leave", "scroll"], focused


def test_the_presence_board():
    chromium()
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    listen = ("--listen", f"ws://127.0.0.1:{port}", *FLAGS)
    with Board(f"ws://127.0.0.1:{port}", admin) as board:
        with Watched("epoll", *listen, admin=admin, scheme="ws") as server:
            ann, bob = browser.open(board.url), browser.open(board.url)
            join(ann, "ann")
            join(bob, "bob <b>")
            both = [["ann", "online", "1"], ["bob <b>", "online", "1"]]
            for page in (ann, bob):
                page.wait(USERS, lambda rows: rows == both)
            check_access(ann)
            for name, width, height, scheme in (
                    ("light", 1000, 700, "light"), ("dark", 1000, 700, "dark"),
                    ("phone-light", 360, 1100, "light"), ("phone-dark", 360, 1100, "dark")):
                look(ann, name, width, height, scheme)
            bob.eval("document.getElementById('leave').click()")
            ann.wait(USERS, lambda rows: rows == [both[0], ["bob <b>", "offline", "0"]])
            ann.wait("document.querySelector('#changes li').textContent",
                     lambda text: "bob <b>" in text and "is offline" in text)
            assert server.stop() == 0
            ann.wait(STATE_OF % "feed", lambda state: state == "waiting")
            ann.wait(STATE_OF % "link", lambda state: state in ("waiting", "connecting"))
        with Watched("io_uring", *listen, admin=admin, scheme="ws"):
            ann.wait(STATE_OF % "link", lambda state: state == "open")
            ann.wait(STATE_OF % "feed", lambda state: state == "open")
            ann.wait(USERS, lambda rows: rows == both[:1])
        assert not ann.errors and not bob.errors, (ann.errors, bob.errors)


class Chat(Program):
    """The example in C++; it is killed where it says nothing for too long."""

    def __init__(self, url, errors=None, environment=None):
        super().__init__(os.path.join(ROOT, BUILD, "examples/chat"), url, "ann", errors=errors,
                         environment=environment)
        self.watchdog = threading.Timer(PATIENCE_S, self.process.kill)
        self.watchdog.start()

    def say(self, *lines):
        self.process.stdin.write("".join(line + "\n" for line in lines))
        self.process.stdin.flush()

    def __exit__(self, *about):
        self.watchdog.cancel()
        super().__exit__(*about)


def test_the_chat():
    through_a_restart(lambda port, *flags: serve("epoll", port, *flags), "ws")


def test_the_chat_over_tls():
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(folder)
        trusts = {"SSL_CERT_FILE": certificate}  # which is of 127.0.0.1, and signed by itself

        def serve_tls(port, *flags):
            return Server("epoll", "--listen", f"wss://127.0.0.1:{port}", "--tls-cert", certificate,
                          *FLAGS, *flags, scheme="ws")
        through_a_restart(serve_tls, "wss", trusts)
        for host, environment in (("127.0.0.1", None), ("localhost", trusts)):
            port = free_port()
            url = f"wss://{host}:{port}"
            with serve_tls(port) as server, Chat(url, environment=environment) as stranger:
                stranger.say("one")
                wait_for(lambda: server.stats()["total"]["closed_by_reason"],
                         lambda closed: closed.get("tls_handshake_failed", 0) >= 2)
                total = server.stats()["total"]
                assert (total["sessions"], total["evicted"]) == (0, 0), f"{host} is not trusted"


def through_a_restart(serve_on, scheme, environment=None):
    """What is typed meanwhile arrives behind it, once and in order."""
    port = free_port()
    flags = ("--on-message", "echo", "--resume-hold", "30s")
    with Chat(f"{scheme}://127.0.0.1:{port}", environment=environment) as chat:
        with serve_on(port, *flags) as server:
            chat.say("one", "two")
            assert [chat.line(), chat.line()] == ["one", "two"]
            assert server.stop() == 0
        meanwhile = [f"line {i}" for i in range(50)]
        chat.say(*meanwhile)
        with serve_on(port, *flags):
            assert [chat.line() for _ in meanwhile] == meanwhile
            chat.process.stdin.close()
            assert chat.process.wait(timeout=PATIENCE_S) == 0


def test_the_chat_says_why_it_ends():
    with Server("epoll", *FLAGS, "--duplicate", "reject", scheme="ws") as server, \
            tempfile.TemporaryFile("w+") as said:
        url = f"ws://127.0.0.1:{server.port}"
        with Chat(url):
            wait_for(lambda: server.stats()["total"]["sessions"], lambda sessions: sessions == 1)
            with Chat(url, errors=said) as second:
                second.say("PING")
                assert second.process.wait(timeout=PATIENCE_S) == 1
        said.seek(0)
        lines = said.read()
        assert "* not sent: send: the text is a message of the protocol" in lines, lines
        assert lines.endswith("* ended: duplicate_login\n"), lines


browser = None


def main():
    global browser
    cases = [("epoll a crowd is held", lambda: test_a_crowd_is_held("epoll")),
             ("a tab in the background", test_a_tab_in_the_background),
             ("io_uring a crowd is held", lambda: test_a_crowd_is_held("io_uring")),
             ("the presence board", test_the_presence_board),
             ("the chat", test_the_chat),
             ("the chat says why it ends", test_the_chat_says_why_it_ends),
             ("the chat over TLS", test_the_chat_over_tls)]
    if not shutil.which("chromium"):
        return run_cases(cases, at_once=2)
    with Browser() as browser:
        return run_cases(cases, at_once=2)


if __name__ == "__main__":
    sys.exit(main())
