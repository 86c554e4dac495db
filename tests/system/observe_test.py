#!/usr/bin/env python3
"""/metrics and tools/observe/ by the programs that they are for: promtool and amtool check them,
and a real Prometheus scrapes real servers, answers each query of the dashboard, and alerts; rsyslog
parses the log and sends it on.

What Debian's packages prometheus, prometheus-alertmanager and rsyslog have; without them it is
skipped.
"""
import datetime
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
import tomllib
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched
from certificates import make_certificate
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
            Watched("epoll", *flags) as noisy, \
            Watched("io_uring", "--tls-cert", make_certificate(folder, days=30),
                    scheme="auto") as calm, \
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


# ------------------------------------------------------------------------------------- the log

HOSTILE = 'moved "away"\n2026-01-01 \\ \x1b[31m\x7f \u202e{"event":"x"} \u00e4'


class Lines:
    """A host to which lines are sent; `text` is what came."""

    def __init__(self):
        self.text = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.receive, daemon=True).start()

    def receive(self):
        try:
            peer, _ = self.listener.accept()
            with peer:
                while piece := peer.recv(65536):
                    self.text += piece
        except OSError:  # closed
            pass

    def lines(self):
        return self.text.decode().split("\n")[:-1]


class Logged(Watched):
    """A server that logs into a file, in JSON by default; its text is the messages."""

    def __init__(self, path, *flags, **more):
        self.path = path
        super().__init__("epoll", "--log-file", path, "--log-format", "auto", *flags, **more)

    def text(self):
        if not os.path.exists(self.path):
            return ""
        return "".join(line["message"] + "\n" for line in members_of(self.path))


def log_of_some(folder):
    """Where the log of a server is that some came to and were kicked with hostile words."""
    path = os.path.join(folder, "log")
    with Logged(path, "--log-connections", "100%", "--max-connections-per-address", "3",
                scheme="auto") as server:
        peers = connect(server.port, 3, PING)
        for peer in peers:
            assert len(peer.recv(64)) == 8
        connect(server.port, 1)[0].recv(512)  # one too many
        admin_reply = server.admin.post("/api/v1/kick", {"all": True, "reason": HOSTILE})
        assert admin_reply["done"] == 3, admin_reply
        for peer in peers:
            while peer.recv(512):
                pass
            peer.close()
        eventually(lambda: events_in(path).count("close") == 3, "the closes are logged")
        assert server.stop() == 0
    return path


def members_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def events_in(path):
    return [line["event"] for line in members_of(path) if "event" in line]


def test_rsyslog_parses_the_log_and_sends_it_on():
    if shutil.which("rsyslogd") is None:
        raise Skipped("rsyslogd is not installed")
    with tempfile.TemporaryDirectory() as folder:
        log = log_of_some(folder)
        written = members_of(log)
        assert sorted(set(events_in(log))) == ["accept", "close", "open", "refuse"], written
        kicked = [line for line in written if line.get("reason") == "kicked"]
        assert len(kicked) == 3 and all(line["detail"] == HOSTILE for line in kicked), kicked
        with open(log, "a", encoding="utf-8") as file:
            file.write("not JSON\n")
        host = Lines()
        config = os.path.join(folder, "rsyslog.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(replaced(
                text_of("rsyslog.conf"), ("/var/log/pulsewheel", folder),
                ("/var/spool/rsyslog", folder), ("logs.example.net", "127.0.0.1"),
                ('port="5170"', f'port="{host.port}"')))
        run("rsyslogd", "-N1", "-f", config)
        collector = subprocess.Popen(
            ["rsyslogd", "-n", "-f", config, "-i", os.path.join(folder, "pid")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: len(host.lines()) >= len(written), "all lines have come")
            unparsed = os.path.join(folder, "unparsed")
            eventually(lambda: os.path.exists(unparsed) and os.path.getsize(unparsed), "unparsed")
        finally:
            collector.terminate()
            collector.wait()
            host.listener.close()
        assert [json.loads(line) for line in host.lines()] == written
        with open(unparsed, encoding="utf-8") as file:
            assert file.read() == "not JSON\n"
        assert members_of(os.path.join(folder, "closed.json")) == [
            line for line in written if line.get("event") == "close"]
    print(f"REPORT rsyslog parsed {len(written)} lines and sent them on", flush=True)


def test_fluentd_and_vector_expect_what_the_log_has():
    with tempfile.TemporaryDirectory() as folder:
        written = members_of(log_of_some(folder))
    members = {name for line in written for name in line}
    events = {line["event"] for line in written if "event" in line}
    fluentd = text_of("fluentd.conf")
    time_key = re.search(r"time_key (\w+)", fluentd)[1]
    time_format = re.search(r"time_format (\S+)", fluentd)[1].replace("%L", "%f")
    for line in written:
        datetime.datetime.strptime(line[time_key], time_format)
    keys = re.findall(r"^ +key (\w+)$", fluentd, re.M)
    assert len(keys) == 2 and set(keys) <= members, keys
    assert set(re.search(r"\^\((accept\S*)\)\$", fluentd)[1].split("|")) == events, events
    vector = tomllib.loads(text_of("vector.toml"))
    program = vector["transforms"]["parsed"]["source"]
    named = set(re.findall(r"(?<![\w)])\.(\w+)", program)) - {"timestamp"}
    assert named == {"message", "time"} and named <= members, named
    assert 'parse_timestamp!(.time, format: "%+")' in program  # RFC 3339, as fromisoformat() reads
    for line in written:
        assert datetime.datetime.fromisoformat(line["time"]).tzinfo is not None
    condition = re.fullmatch(r'\.(\w+) == "(\w+)"', vector["transforms"]["closed"]["condition"])
    assert condition[1] in members and condition[2] in events, condition
    counter = vector["transforms"]["by_reason"]["metrics"][0]
    used = {counter["field"], *re.findall(r"{{(\w+)}}", " ".join(counter["tags"].values()))}
    for line in written:
        assert line.get("event") != "close" or used <= set(line), (used, line)
    for transform in vector["transforms"].values():
        assert set(transform["inputs"]) <= {*vector["sources"], *vector["transforms"]}, transform


if __name__ == "__main__":
    cases = [(f"{name} test_metrics_are_clean", functools.partial(test_metrics_are_clean, name))
             for name in BACKENDS]
    cases += [(test.__name__, test) for test in (
        test_each_rule_fires_when_it_should_and_not_before, test_examples_are_valid,
        test_a_mass_eviction_becomes_an_alert_and_the_dashboard_shows_it,
        test_rsyslog_parses_the_log_and_sends_it_on,
        test_fluentd_and_vector_expect_what_the_log_has)]
    sys.exit(run_cases(cases, at_once=2))
