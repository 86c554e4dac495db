#!/usr/bin/env python3
"""Traces of a real server, as a collector gets them: each request is checked against the rules of
OTLP's JSON encoding, what happened to connections is found in it, and a collector that is slow,
refuses, hangs or is not there is borne, with what is lost counted."""
import functools
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Watched
from server import BACKENDS, BUILD, Skipped, free_port, run_cases, tests_of

OBSERVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "observe")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SILENCE = ("--heartbeat-interval", "200ms", "--heartbeat-timeout", "600ms")
ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
UNREADABLE = b"\xb7\x63\0\0\0\0\0\0"
UPGRADE = ("GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
           "traceparent: {}\r\n\r\n")


class Collector(http.server.ThreadingHTTPServer):
    """Answers each request by the next of `answers`, the last again and again: a status, or
    (status, headers, body), or "hang", or "close" for none. Checks each request."""
    daemon_threads = True

    def __init__(self, *answers):
        self.answers, self.requests, self.wrong = list(answers or [200]), [], []
        self.hanging = threading.Event()
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            server = self.server
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                assert self.headers["Content-Type"] == "application/json", self.headers
                assert self.path == "/v1/traces", self.path
                check_request(json.loads(body))
            except Exception as error:  # told by the test, not by this thread
                server.wrong.append(f"{type(error).__name__}: {error}")
            answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            server.requests.append((time.monotonic(), answer, json.loads(body)))
            if answer == "hang":
                server.hanging.wait(60)
            if answer in ("hang", "close"):
                self.close_connection = True
                return
            status, headers, reply = answer if isinstance(answer, tuple) else (answer, {}, "{}")
            self.send_response(status)
            for name, value in {"Content-Type": "application/json",
                                "Content-Length": str(len(reply)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.encode())

        def log_message(self, *_):
            pass

    def spans(self):
        """Of the requests that it has taken."""
        return [span for _, answer, request in list(self.requests)
                if answer == 200 or answer[0] == 200 for span in spans_of(request)]

    def __exit__(self, *_):
        self.hanging.set()
        self.shutdown()
        self.server_close()


def spans_of(request):
    return [span for resource in request["resourceSpans"] for scope in resource["scopeSpans"]
            for span in scope["spans"]]


# -------------------------------------------------------------------------------- the rules of OTLP
def is_id(text, digits):
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", text) and text.strip("0") != ""


def is_number(text):
    """64 bits: a string of decimal digits."""
    return isinstance(text, str) and re.fullmatch(r"0|-?[1-9][0-9]*", text)


def check_attributes(attributes):
    keys = [attribute["key"] for attribute in attributes]
    assert len(keys) == len(set(keys)), keys
    for attribute in attributes:
        assert set(attribute) == {"key", "value"} and ATTRIBUTE.fullmatch(attribute["key"])
        (kind, value), = attribute["value"].items()
        right = {"stringValue": lambda: isinstance(value, str),
                 "intValue": lambda: is_number(value),
                 "boolValue": lambda: isinstance(value, bool)}[kind]()
        assert right, attribute


def check_span(span):
    assert set(span) <= {"traceId", "spanId", "parentSpanId", "flags", "name", "kind", "events",
                         "startTimeUnixNano", "endTimeUnixNano", "attributes", "status"}, span
    assert is_id(span["traceId"], 32) and is_id(span["spanId"], 16), span
    assert "parentSpanId" not in span or is_id(span["parentSpanId"], 16), span
    assert type(span["flags"]) is int and span["flags"] & ~0x3FF == 0 and span["flags"] & 1
    assert type(span["kind"]) is int and span["kind"] in (1, 2), span
    assert span["name"] in ("connection", "eviction", "drain"), span
    instants = [span["startTimeUnixNano"],
                *(event["timeUnixNano"] for event in span["events"]), span["endTimeUnixNano"]]
    assert all(is_number(instant) for instant in instants), instants
    instants = list(map(int, instants))
    assert instants == sorted(instants), (span["name"], instants)
    now = time.time() * 1e9
    assert now - 600e9 < instants[0] and instants[-1] < now + 1e9, (now, instants)
    for event in span["events"]:
        assert set(event) <= {"timeUnixNano", "name", "attributes"} and event["name"], event
        check_attributes(event.get("attributes", []))
    assert set(span["status"]) in (set(), {"code", "message"}), span["status"]
    if span["status"]:
        assert type(span["status"]["code"]) is int and span["status"]["code"] == 2, span["status"]
    check_attributes(span["attributes"])


def check_request(request):
    assert set(request) == {"resourceSpans"}, request.keys()
    for resource_spans in request["resourceSpans"]:
        assert set(resource_spans) == {"resource", "scopeSpans", "schemaUrl"}
        assert resource_spans["schemaUrl"].startswith("https://opentelemetry.io/schemas/")
        check_attributes(resource_spans["resource"]["attributes"])
        resource = attributes_of(resource_spans["resource"])
        assert set(resource) == {"service.name", "service.version", "service.instance.id",
                                 "host.name", "process.pid"}, resource
        assert resource["host.name"] == socket.gethostname(), resource
        for scope_spans in resource_spans["scopeSpans"]:
            assert set(scope_spans) == {"scope", "spans", "schemaUrl"}
            assert scope_spans["scope"]["name"] == "pulsewheel" and scope_spans["scope"]["version"]
            assert scope_spans["spans"], "a request without a span"
            for span in scope_spans["spans"]:
                check_span(span)


def attributes_of(thing):
    return {attribute["key"]: next(iter(attribute["value"].values()))
            for attribute in thing["attributes"]}


# ------------------------------------------------------------------------------------------ helpers
class Traced(Watched):
    """A server whose traces go to `collector`."""

    def __init__(self, backend, url, *flags):
        super().__init__(backend, "--otlp-endpoint", url, "--reactors", "1", "--trace-ratio", "1",
                         *flags, scheme="auto")

    def counters(self):
        """Of /metrics, of all reactors together: {"NAME" or "NAME reason": value}."""
        found = {}
        text = self.admin.ask("GET", "/metrics").body.decode()
        line = re.compile(r"^pulsewheel_(trace\w+)(\{.*\})? (\S+)$", re.M)
        for name, labels, value in line.findall(text):
            reason = re.search(r'reason="(\w+)"', labels)
            name = name.removesuffix("_total") + (f" {reason[1]}" if reason else "")
            found[name] = found.get(name, 0) + float(value)
        return found

    def eventually(self, look, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < deadline, (what, self.counters(), self.text())
            time.sleep(0.02)


def connect(server, words=b'{"type":"ping"}\n', answered=True):
    peer = socket.create_connection(("127.0.0.1", server.port), 20)
    peer.sendall(words)
    if answered:
        assert peer.recv(65536)
    return peer


def read_to_end(peer):
    try:
        while peer.recv(65536):
            pass
    except ConnectionError:
        pass
    peer.close()


def only(spans, **wanted):
    """The one span whose attributes are these, `name` aside."""
    name = wanted.pop("name", "connection")
    found = [span for span in spans if span["name"] == name and all(
        attributes_of(span).get(key.replace("__", ".")) == value for key, value in wanted.items())]
    assert len(found) == 1, (name, wanted, [attributes_of(span) for span in spans])
    return found[0]


def leave(server, count):
    """So many connections come and say goodbye."""
    for _ in range(count):
        read_to_end(connect(server, b'{"type":"goodbye"}\n', answered=False))


# -------------------------------------------------------------------------------------------- tests
def happen(server):
    """A clean close, a kick, a breach of the protocol, an upgrade of a client's trace. Returns the
    ports of the peers."""
    ports = {}

    def come(what, *words, **how):
        peer = connect(server, *words, **how)
        ports[what] = str(peer.getsockname()[1])
        return peer
    peer = come("goodbye", b'{"type":"hello"}\n{"type":"ping"}\n{"type":"ping"}\n')
    peer.sendall(b'{"type":"goodbye"}\n')
    read_to_end(peer)
    kicked = come("kick")
    server.admin.post("/api/v1/kick", {"all": True, "reason": "a \u201cquoted\u201d word"})
    read_to_end(kicked)
    read_to_end(come("breach", UNREADABLE, answered=False))
    upgraded = come("upgrade", UPGRADE.format(f"00-{TRACE}-{PARENT}-01").encode())
    upgraded.close()
    malformed = come("malformed", UPGRADE.format(f"00-{TRACE}-{PARENT}-1").encode())
    malformed.close()
    return ports


def check_eviction(spans, connection):
    eviction, = (span for span in spans if span["name"] == "eviction"
                 and span["traceId"] == connection["traceId"])
    assert eviction["parentSpanId"] == connection["spanId"], eviction
    assert eviction["spanId"] != connection["spanId"] and eviction["kind"] == 1
    names = [event["name"] for event in eviction["events"]]
    assert names.count("probe sent") == names.count("probe missed") >= 1, names
    assert {"last byte in", "last proof of life"} <= set(names), names
    assert names[-1] == "probe missed", names
    silence = (int(eviction["endTimeUnixNano"]) - int(eviction["startTimeUnixNano"])) / 1e9
    assert 0.5 <= silence < 5, silence


def test_what_happens_to_connections_is_traced(backend):
    with Collector() as collector, Traced(backend, collector.url, "--drain-rate",
                                          "1000/s") as server:
        ports = happen(server)
        server.eventually(lambda: len(collector.spans()) >= 5, "five connections")
        stays = [connect(server) for _ in range(3)]
        peers = [str(peer.getsockname()[1]) for peer in stays]
        server.process.terminate()
        for peer in stays:
            read_to_end(peer)
        assert server.process.wait(timeout=30) == 0, server.text()
        spans = collector.spans()
        assert not collector.wrong, collector.wrong
        of = {what: only(spans, network__peer__port=port) for what, port in ports.items()}
        reasons = {what: attributes_of(span)["pulsewheel.close.reason"]
                   for what, span in of.items()}
        assert reasons == {"goodbye": "peer_goodbye", "kick": "kicked", "breach": "protocol_error",
                           "upgrade": "peer_closed", "malformed": "peer_closed"}, reasons
        errors = {what for what, span in of.items() if span["status"]}
        assert errors == {"breach"}, errors
        assert attributes_of(of["breach"])["error.type"] == "protocol_error"
        assert all(span["kind"] == 2 for span in of.values())
        assert attributes_of(of["goodbye"])["pulsewheel.heartbeats"] == "2"
        assert [event["name"] for event in of["goodbye"]["events"]][0] == "hello"
        assert attributes_of(of["goodbye"])["network.protocol.name"] == "jsonl"
        assert attributes_of(of["kick"])["pulsewheel.close.detail"] == "a \u201cquoted\u201d word"
        assert (of["upgrade"]["traceId"], of["upgrade"]["parentSpanId"]) == (TRACE, PARENT)
        assert of["upgrade"]["flags"] == 0x301 and of["upgrade"]["events"][0]["name"] == "upgraded"
        assert attributes_of(of["upgrade"])["network.protocol.name"] == "websocket"
        assert of["malformed"]["traceId"] != TRACE and "parentSpanId" not in of["malformed"]
        drain = only(spans, name="drain")
        assert attributes_of(drain)["pulsewheel.drain.connections"] == "3", drain
        assert attributes_of(drain)["pulsewheel.drain.cut_short"] is False and not drain["status"]
        for port in peers:
            left = only(spans, network__peer__port=port)
            assert attributes_of(left)["pulsewheel.close.reason"] == "going_away", left
            assert int(drain["startTimeUnixNano"]) <= int(left["endTimeUnixNano"]) \
                <= int(drain["endTimeUnixNano"]), (drain, left)
        assert len(spans) == len({span["spanId"] for span in spans}) == 9, len(spans)


def test_an_eviction_is_traced(backend):
    with Collector() as collector, Traced(backend, collector.url, *SILENCE) as server:
        read_to_end(connect(server))
        server.eventually(lambda: len(collector.spans()) >= 2, "a connection and its eviction")
        evicted = only(collector.spans(), pulsewheel__close__reason="idle_timeout")
        assert evicted["status"] and not collector.wrong, (evicted, collector.wrong)
        check_eviction(collector.spans(), evicted)


def test_only_anomalies_are_traced_where_none_is_sampled(backend):
    with Collector() as collector, Traced(backend, collector.url, "--trace-ratio",
                                          "off") as server:
        happen(server)
        assert server.stop() == 0
        assert not collector.wrong, collector.wrong
        found = sorted(attributes_of(span).get("pulsewheel.close.reason", span["name"])
                       for span in collector.spans())
        assert found == ["drain", "peer_closed", "protocol_error"], found


def test_an_eviction_is_traced_where_none_is_sampled(backend):
    with Collector() as collector, Traced(backend, collector.url, "--trace-ratio", "off",
                                          *SILENCE) as server:
        read_to_end(connect(server))
        assert server.stop() == 0
        found = {span["name"] for span in collector.spans()}
        assert found == {"connection", "eviction", "drain"}, found
        check_eviction(collector.spans(), only(collector.spans()))


def test_a_collector_that_refuses_is_borne(backend):
    answers = [(503, {}, ""), (429, {"Retry-After": "1"}, ""), "close",
               (200, {}, '{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}'),
               (400, {}, "no"), 200]
    with Collector(*answers) as collector, Traced(backend, collector.url) as server:
        leave(server, 5)
        server.eventually(lambda: len(collector.requests) >= 4, "retried")
        # How many of them were in the first batch, and in the second, is the machine's matter.
        leave(server, 2)
        server.eventually(lambda: len(collector.requests) >= 5, "a second batch")
        leave(server, 1)

        def all_done():
            counters = server.counters()
            return counters["trace_spans_exported"] + sum(
                value for name, value in counters.items()
                if name.startswith("trace_spans_dropped")) == 8
        server.eventually(all_done, "goes on")
        counters, requests = server.counters(), list(collector.requests)
        sizes = [len(spans_of(request)) for _, _, request in requests]
        assert counters["trace_spans_dropped partial_success"] == 1, counters
        assert counters["trace_spans_dropped refused"] == sizes[4], (counters, sizes)
        assert counters["trace_spans_exported"] == sizes[3] - 1 + sum(sizes[5:]), (counters, sizes)
        assert counters["trace_retries"] == 3 and counters["trace_failures"] == 1, counters
        times = [at for at, _, _ in requests]
        assert times[2] - times[1] >= 1.0, "Retry-After is kept to"
        assert all(later - sooner >= 0.5 for sooner, later in zip(times[:3], times[1:4])), times
        assert all(request == requests[0][2] for _, _, request in requests[:4]), "the same again"
        assert not collector.wrong, collector.wrong
        lines = [line for line in server.text().splitlines() if "traces: http" in line]
        assert len(lines) >= 1 and "HTTP 503" in lines[0], lines


def test_what_a_collector_that_hangs_cannot_take_is_counted(backend):
    with Collector("hang") as collector, Traced(backend, collector.url) as server:
        leave(server, 1)
        server.eventually(lambda: collector.requests, "the first request hangs")
        leave(server, 300)
        server.eventually(lambda: server.counters()["traces_lost_queue_full"] > 0, "lost")
        assert server.counters()["traced"] == 301, server.counters()
        peer = connect(server)  # it is served all the same
        peer.sendall(b'{"type":"goodbye"}\n')
        read_to_end(peer)
        began = time.monotonic()
        assert server.stop() == 0, server.text()
        assert time.monotonic() - began < 10, "an end that waits for it"
        text = server.text()
        assert re.search(r"traces: 0 spans were exported, [1-9]\d* dropped", text), text


def test_without_a_collector_a_server_ends_in_time(backend):
    with Traced(backend, f"http://127.0.0.1:{free_port()}") as server:
        leave(server, 3)
        server.eventually(lambda: server.counters()["trace_failures"] >= 1, "no connection")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10, "an end that waits for it"
        assert "traces: 0 spans were exported, 4 dropped" in server.text(), server.text()
        lines = [line for line in server.text().splitlines() if "traces: http" in line]
        assert len(lines) == 1 and "start the collector" in lines[0], lines


def check_the_examples():
    """What the collector's example refers to is in it, its port is what the README and the compose
    file say, and the server takes the README's flags."""
    try:
        import yaml
    except ImportError as missing:
        raise Skipped("python3-yaml is not installed") from missing

    def text_of(name):
        with open(os.path.join(OBSERVE, name), encoding="utf-8") as file:
            return file.read()
    collector = yaml.safe_load(text_of("otel-collector.yaml"))
    services = yaml.safe_load(text_of("traces.compose.yaml"))["services"]
    for pipeline in collector["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind]), (kind, names)
    host, port = collector["exporters"]["otlp"]["endpoint"].split(":")
    assert host in services and port == "4317", host
    received_at = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert services["collector"]["ports"] == [f"127.0.0.1:4318:{received_at.split(':')[1]}"]
    assert services["collector"]["volumes"] == ["./otel-collector.yaml:/etc/otelcol/config.yaml:ro"]
    for name in ("README.md", "traces.compose.yaml"):
        flags = re.search(r"build/pulsewheel (--otlp-endpoint .*)", text_of(name))[1].split()
        done = subprocess.run([f"{BUILD}/pulsewheel", "--check-config", *flags],
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, (name, done.stderr)


if __name__ == "__main__":
    cases = [(f"{backend} {name}", functools.partial(test, backend))
             for name, test in tests_of(globals()) for backend in BACKENDS]
    sys.exit(run_cases([*cases, ("check_the_examples", check_the_examples)], at_once=2))
