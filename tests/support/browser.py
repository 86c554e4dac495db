"""Headless Chromium over its DevTools protocol, on a pipe: no library, no port.

https://chromedevtools.github.io/devtools-protocol/: objects that end with a zero byte.
"""
import base64
import itertools
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time

# As root it has no sandbox; nothing but our own pages is loaded.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--no-proxy-server", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-extensions",
         "--remote-debugging-pipe")
ANSWER_S = 60  # of a browser on a busy machine


class Browser:
    """A process, and pages in it that do not know of each other."""

    def __init__(self):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self.to_browser = os.pipe()
        from_browser, at_browser = os.pipe()
        # It reads from descriptor 3 and writes to 4.
        self.process = subprocess.Popen(
            ["sh", "-c", f"exec chromium \"$@\" 3<&{to_browser} 4>&{at_browser}", "sh", *FLAGS,
             f"--user-data-dir={self.profile.name}", "about:blank"],
            pass_fds=(to_browser, at_browser), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(to_browser)
        os.close(at_browser)
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.answers, self.pages = {}, {}
        self.reader = threading.Thread(target=self.read, args=(from_browser,), daemon=True)
        self.reader.start()

    def read(self, descriptor):
        text = b""
        with open(descriptor, "rb", buffering=0) as pipe:
            while piece := pipe.read(1 << 16):
                *whole, text = (text + piece).split(b"\0")
                for message in map(json.loads, whole):
                    if "id" in message:
                        self.answers.pop(message["id"]).put(message)
                    elif page := self.pages.get(message.get("sessionId")):
                        page.event(message["method"], message["params"])

    def call(self, method, session=None, **parameters):
        number, answer = next(self.numbers), queue.Queue()
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.answers[number] = answer
        with self.lock:
            os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        reply = answer.get(timeout=ANSWER_S)
        assert "error" not in reply, (method, reply)
        return reply["result"]

    def open(self, url):
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)
        session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, session["sessionId"])
        self.pages[page.session] = page
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.call("Page.navigate", url=url)
        assert page.loaded.wait(ANSWER_S), url
        return page

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.reader.join(timeout=10)
        os.close(self.to_browser)
        self.profile.cleanup()


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.loaded = threading.Event()
        self.errors = []  # that its program or its policy made
        self.failed_requests = []  # what the browser says of a server that is away, or refuses

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def event(self, method, parameters):
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.errors.append(parameters["args"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            entry = parameters["entry"]
            is_request = entry["source"] == "network"
            (self.failed_requests if is_request else self.errors).append(entry)

    def eval(self, expression):
        """The value of an expression of JavaScript, or of what it promises."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)
        assert "exceptionDetails" not in reply, (expression, reply)
        return reply["result"].get("value")

    def wait(self, expression, wanted=None, seconds=60):
        """The value, once it is true, or what `wanted` says yes to."""
        deadline = time.monotonic() + seconds
        while True:
            value = self.eval(expression)
            if wanted(value) if wanted else value:
                return value
            assert time.monotonic() < deadline, (expression, value, self.errors)
            time.sleep(0.05)

    def key(self, key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code, **text)

    def hide(self):
        """Puts it into the background, where its timers are throttled."""
        self.call("Emulation.setFocusEmulationEnabled", enabled=False)
        self.set_window("minimized")

    def show(self):
        self.set_window("normal")

    def set_window(self, state):
        window = self.call("Browser.getWindowForTarget")["windowId"]
        self.call("Browser.setWindowBounds", windowId=window, bounds={"windowState": state})

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
