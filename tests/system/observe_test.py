#!/usr/bin/env python3
"""/metrics and tools/observe/ by the programs that they are for: promtool and amtool check them,
and a real Prometheus scrapes real servers, answers each query of the dashboard, and alerts.

What Debian's packages prometheus and prometheus-alertmanager have; without them it is skipped.
"""
import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched
from server import BACKENDS, Skipped, free_port, run_cases

OBSERVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "observe")
PING = b"\xb7\x01\0\0\0\0\0\1"
SILENT = 300  # peers that are evicted at once
METRIC = re.compile(r"\b(?:pulsewheel|process)_\w+")


def text_of(name):
    with open(os.path.join(OBSERVE, name), encoding="utf-8") as file:
        return file.read()


def run(program, *arguments, given=None):
    """What it printed; fails where it does."""
    if shutil.which(program) is None:
        raise Skipped(f"{program} is not installed")
    done = subprocess.run([program, *arguments], input=given, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, cwd=OBSERVE, timeout=60)
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def connect(port, count, first=b""):
    peers = [socket.create_connection(("127.0.0.1", port), 20) for _ in range(count)]
    for peer in peers:
        peer.sendall(first)
    return peers


def eventually(look, what, seconds=60):
    """What `look` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def test_metrics_are_clean(backend):
    with Watched(backend, scheme="auto") as server:
        peers = connect(server.port, 3, PING)
        for peer in peers:
            assert len(peer.recv(64)) == 8
        text = server.admin.ask("GET", "/metrics").body
        assert run("promtool", "check", "metrics", given=text) == ""


def test_each_rule_fires_when_it_should_and_not_before():
    run("promtool", "check", "rules", "alerts.yml")
    run("promtool", "test", "rules", "alerts_test.yml")
    rules = re.findall(r"- alert: (\w+)", text_of("alerts.yml"))
    tests = dict(re.findall(r"\n  - name: (\w+)\n((?:.*\n)*?)(?=\n  (?:- name|#)|\Z)",
                            text_of("alerts_test.yml") + "\n"))
    assert len(rules) == len(set(rules)) >= 10 and set(rules) == set(tests), (rules, list(tests))
    for rule, test in tests.items():
        assert f'alertname="{rule}"' in test and 'instance="bad"' in test, rule
        assert 'instance="good"' in test, f"{rule}: nothing of when it does not fire"
        assert """expr: 'ALERTS{alertstate="firing"}'}""" in test, f"{rule}: from when on"


def test_examples_are_valid():
    run("promtool", "check", "config", "prometheus.yml")
    run("amtool", "check-config", "alertmanager.yml")


class Pages(http.server.ThreadingHTTPServer):
    """Where Alertmanager sends alerts."""

    def __init__(self):
        self.received = []
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.received.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass


class Observer:
    """A program of Prometheus' in a folder of the test's own, with HTTP on a port."""

    def __init__(self, program, folder, config, *flags):
        if shutil.which(program) is None:
            raise Skipped(f"{program} is not installed")
        path = os.path.join(folder, program + ".yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(config)
        self.port = free_port()
        self.log_path = path + ".log"
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                [program, f"--config.file={path}", f"--web.listen-address=127.0.0.1:{self.port}",
                 "--log.level=warn", *flags], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                cwd=folder, env=dict(os.environ, GOMAXPROCS="1"))

    def get(self, path, **arguments):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=20) as reply:
            return reply.read()

    def is_ready(self):
        with open(self.log_path) as log:
            assert self.process.poll() is None, log.read()
        try:
            self.get("/-/ready")
            return True
        except OSError:
            return False

    def query(self, expression):
        """Series of an instant query."""
        reply = json.loads(self.get("/api/v1/query", query=expression))
        assert reply["status"] == "success", (expression, reply)
        return reply["data"]["result"]

    def samples(self, selector):
        """(time, value) of the samples of one series."""
        series = self.query(selector + "[10m]")
        return [(at, float(value)) for at, value in series[0]["values"]] if series else []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def replaced(text, *pairs):
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def prometheus_config(folder, targets, alertmanager):
    """The example with shorter intervals, and its rules with one that records each evaluation."""
    rules = os.path.join(folder, "alerts.yml")
    with open(rules, "w", encoding="utf-8") as file:
        file.write(text_of("alerts.yml").replace(
            "    rules:\n", "    rules:\n      - {record: evaluated, expr: vector(1)}\n", 1))
    return replaced(text_of("prometheus.yml"), ("scrape_interval: 15s", "scrape_interval: 500ms"),
                    ("scrape_timeout: 10s", "scrape_timeout: 500ms"),
                    ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                    ("[alerts.yml]", f"[{rules}]"), ('"127.0.0.1:9093"', f'"{alertmanager}"'),
                    ('"127.0.0.1:9100"', ", ".join(f'"{target}"' for target in targets)))


def dashboard_queries():
    """(panel, expression), with what Grafana would put in."""
    dashboard = json.loads(text_of("dashboard.json"))
    for panel in dashboard["panels"] + dashboard["annotations"]["list"]:
        for target in panel.get("targets", [panel] if "expr" in panel else []):
            yield panel.get("title", panel.get("name")), replaced(
                target["expr"], ("$job", "pulsewheel"), ("$instance", ".*")).replace(
                    "$__rate_interval", "10s")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)",
                                           variable["query"]["query"]).groups()
            yield variable["name"], f"count by ({label}) ({selector})".replace("$job", "pulsewheel")


def check_queries(prometheus):
    names = set(json.loads(prometheus.get("/api/v1/label/__name__/values"))["data"])
    rules = re.sub(r"#.*|summary:.*|description:.*", "", text_of("alerts.yml"))
    for name in METRIC.findall(rules):
        assert name in names or name + "_bucket" in names, f"alerts.yml: {name} is not measured"
    count = 0
    for panel, expression in dashboard_queries():
        unknown = set(METRIC.findall(expression)) - names
        assert not unknown, (panel, unknown)
        found = prometheus.query(expression)
        assert found or panel in ("Restarts", "Alerts"), f"{panel}: {expression} finds nothing"
        count += 1
    print(f"REPORT {count} queries of the dashboard answered", flush=True)


def test_a_mass_eviction_becomes_an_alert_and_the_dashboard_shows_it():
    flags = ("--reactors", "1", "--heartbeat-interval", "500ms", "--heartbeat-timeout", "1500ms")
    with tempfile.TemporaryDirectory() as folder, Pages() as pages, \
            Watched("epoll", *flags) as noisy, Watched("io_uring", scheme="auto") as calm, \
            Observer("prometheus-alertmanager", folder, replaced(
                text_of("alertmanager.yml"),
                ("127.0.0.1:9095", f"127.0.0.1:{pages.server_address[1]}")),
                     "--cluster.listen-address=") as alertmanager:
        targets = [noisy.admin.address, calm.admin.address]
        config = prometheus_config(folder, targets, f"127.0.0.1:{alertmanager.port}")
        with Observer("prometheus", folder, config, "--storage.tsdb.path=data") as prometheus:
            calm_peers = connect(calm.port, 5, PING)
            eventually(alertmanager.is_ready, "Alertmanager is ready")
            eventually(prometheus.is_ready, "Prometheus is ready")
            eventually(lambda: len(prometheus.query("up == 1")) == 2, "both are scraped")
            silent = connect(noisy.port, SILENT)
            path, page = eventually(lambda: pages.received[0] if pages.received else None,
                                    "the alert has come")
            alert = page["alerts"][0]
            assert path == "/page" and len(page["alerts"]) == 1, (path, page)
            assert alert["labels"] == {"alertname": "PulsewheelMassEviction", "job": "pulsewheel",
                                       "instance": targets[0], "severity": "page"}, alert
            assert re.match(r"\S+ evicted \S+ connections in 2 minutes",
                            alert["annotations"]["summary"]), alert

            evicted = prometheus.samples(f'pulsewheel_evicted_total{{instance="{targets[0]}"}}')
            seen = min(at for at, value in evicted if value > 100)
            fired = min(at for at, _ in prometheus.samples('ALERTS{alertstate="firing"}'))
            evaluations = [at for at, _ in prometheus.samples("evaluated") if seen < at <= fired]
            print(f"REPORT a mass eviction fires at evaluation {len(evaluations)} after the scrape "
                  "that saw it", flush=True)
            assert len(evaluations) <= 2, (seen, fired, evaluations)
            check_queries(prometheus)
            del calm_peers, silent


if __name__ == "__main__":
    cases = [(f"{name} test_metrics_are_clean", functools.partial(test_metrics_are_clean, name))
             for name in BACKENDS]
    cases += [(test.__name__, test) for test in (
        test_each_rule_fires_when_it_should_and_not_before, test_examples_are_valid,
        test_a_mass_eviction_becomes_an_alert_and_the_dashboard_shows_it)]
    sys.exit(run_cases(cases, at_once=2))
