#!/usr/bin/env python3
"""A page in headless Chromium against build/pulsewheel, on each backend.

chromium.html holds the checks. This script serves it, once for each backend, and is sent the lines
that it has to say. The same page loaded from another name (localhost) is of another origin.
"""
import http.server
import os
import sys
import tempfile
import threading
import urllib.parse

import stage

with open(os.path.join(stage.FOLDER, "chromium.html"), "rb") as file:
    PAGE = file.read()
listeners = {}  # name of a run -> the queue of its lines


class PageHandler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        is_page = urllib.parse.urlsplit(self.path).path == "/"
        self.answer(200 if is_page else 404, PAGE if is_page else b"")

    def do_POST(self):
        """A line of the page's, for the run that the path names."""
        line = self.rfile.read(int(self.headers["Content-Length"])).decode()
        listeners[self.path.strip("/")].put(line)  # before the answer: the page awaits it
        self.answer(204)

    def log_message(self, *_):
        pass


def missing():
    return "" if stage.is_run_by("chromium", "--version") else "no chromium"


def main():
    pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PageHandler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{pages.server_port}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profiles:
        def start(urls, lines):
            run = str(len(listeners))
            listeners[run] = lines
            asked = urllib.parse.urlencode(
                {"run": run, "url": urls[0], "deflating": urls[1], "beating": urls[2]})
            # As root it has no sandbox, and it takes authorities from the system alone; nothing but
            # our own page is loaded.
            return stage.run_program(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu",
                 "--ignore-certificate-errors",
                 "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
                 "--disable-background-networking", "--disable-component-update",
                 "--disable-sync", "--disable-extensions",
                 f"--user-data-dir={profiles}/{run}", "--remote-debugging-port=0",
                 f"{origin}/?{asked}"], lines)
        return stage.main("chromium", missing(), start, origins=(origin,))


if __name__ == "__main__":
    sys.exit(main())
