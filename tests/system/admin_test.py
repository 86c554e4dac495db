#!/usr/bin/env python3
"""The admin endpoint of a real server on both backends, with some hundred real connections: what it
answers, what it refuses, and what it leaves undisturbed."""
import contextlib
import json
import os
import re
import resource
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from admin import Admin, ROOT, Reply, Watched, openapi, read_all
from frozen import Frozen
from server import Server, run_over_backends

PEERS = 60  # of each protocol
PING = b"\xb7\x01\0\0\0\0\0\1"
UPGRADE = (b"GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n")
TOKEN = "correct-horse-battery-staple"


def read_until(peer, end):
    heard = b""
    while not heard.endswith(end):
        piece = peer.recv(4096)
        assert piece, heard
        heard += piece
    return heard


def connect(port, kind):
    """A connection that has spoken: binary, jsonl, or websocket."""
    peer = socket.create_connection(("127.0.0.1", port), 20)
    if kind == "binary":
        peer.sendall(PING)
        read_until(peer, b"\xb7\x02\0\0\0\0\0\1")
    elif kind == "jsonl":
        peer.sendall(b'{"type":"ping","seq":1}\n')
        read_until(peer, b"\n")
    else:
        protocol = b"" if kind == "websocket" else b"Sec-WebSocket-Protocol: pulse.v1.json\r\n"
        peer.sendall(UPGRADE + protocol + b"\r\n")
        read_until(peer, b"\r\n\r\n")
    return peer


def crowd(port, each=PEERS):
    kinds = ("binary", "jsonl", "websocket", "websocket_json")
    return {kind: [connect(port, kind) for _ in range(each)] for kind in kinds}


def login(port, user, device="", labels=None):
    """A connection that is logged in."""
    peer = socket.create_connection(("127.0.0.1", port), 20)
    hello = {"type": "hello", "user": user, "device": device, "labels": labels or {}}
    peer.sendall(json.dumps(hello, ensure_ascii=False).encode() + b"\n")
    assert b'"type":"welcome"' in read_until(peer, b"\n")
    return peer


class Follower:
    """A client of /api/v1/presence, or of another stream, and the events that it was sent."""

    def __init__(self, admin, last_id=None, path="/api/v1/presence"):
        self.socket = admin.connect()
        headers = {"Last-Event-ID": last_id} if last_id else {}
        self.socket.sendall(admin.request("GET", path, None, headers))
        self.file = self.socket.makefile("rb")
        head = b"".join(iter(self.file.readline, b"\r\n"))
        assert b"200 OK" in head and b"text/event-stream" in head, head
        self.last_id = last_id

    def next(self):
        """The next event as an object; None where the stream has ended."""
        event = {}
        while line := self.file.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "data":
                event.update(json.loads(value))
            elif name in ("event", "id"):
                event[name] = value
            elif event:
                self.last_id = event.get("id", self.last_id)
                return event
        return None

    def until(self, name, **members):
        """All events up to the first of this name that has these members."""
        events = []
        while True:
            events.append(self.next())
            assert events[-1] is not None, events
            if events[-1]["event"] == name and members.items() <= events[-1].items():
                return events

    def close(self):
        self.file.close()
        self.socket.close()


def eventually(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_every_path_answers_as_openapi_says(backend):
    with Watched(backend, scheme="auto") as server:
        peers = crowd(server.port, 5)
        admin = server.admin
        gone = admin.get("/api/v1/connections?protocol=jsonl&limit=1")["connections"][0]
        assert admin.ask("DELETE", "/api/v1/connections/" + gone["id"]).status == 200
        one = admin.get("/api/v1/connections?protocol=jsonl&state=open")["connections"][0]
        user = login(server.port, "a/b \u00fc")
        tried = set()
        for path, operations in openapi()["paths"].items():
            for method in operations:
                tried.add((method.upper(), path))
                if (method, path) == ("post", "/api/v1/drain"):
                    continue  # the last
                if path == "/api/v1/presence":
                    assert Follower(admin).until("live")[0]["event"] == "snapshot"
                    continue
                if path == "/api/v1/stream":
                    assert Follower(admin, path=path).next()["event"] == "status"
                    continue
                body = {"/api/v1/log-level": {"level": "warning"},
                        "/api/v1/kick": {"filter": {"protocol": "binary"}},
                        "/api/v1/broadcast": {"all": True, "text": "a"},
                        "/api/v1/users/{name}/send": {"text": "a"},
                        "/api/v1/retune": {"all": True, "profile": "mobile"},
                        "/api/v1/policies": {"policies": ["10%: profile=mobile"]},
                        "/api/v1/tokens/revoke": {"token_id": "t-1"}}.get(path)
                known = gone if path.startswith("/api/v1/closed") else one
                target = path.replace("{id}", known["id"]).replace("{name}", "a%2Fb%20%C3%BC")
                reply = admin.ask(method.upper(), target, body)
                assert reply.status == 200, (method, path, reply.body)
        listed = {(route["method"], route["path"]) for route in admin.get("/api/v1")["routes"]}
        assert listed == tried, listed ^ tried
        assert admin.post("/api/v1/drain", status=202)["draining"] is True
        del peers, user


def test_the_page_is_served_whole_and_may_be_kept(backend):
    with tempfile.NamedTemporaryFile("w") as file, contextlib.ExitStack() as stack:
        file.write(TOKEN + "\n")
        file.flush()
        server = stack.enter_context(Watched(backend, "--admin-token-file", file.name, token=TOKEN))
        open_to_all = Admin(server.admin.address)
        for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"),
                           ("/page.css", "text/css"), ("/icon.svg", "image/svg+xml")):
            reply = open_to_all.ask("GET", path)
            assert reply.status == 200 and reply.headers["content-type"].startswith(kind)
            name = "index.html" if path == "/" else path[1:]
            with open(os.path.join(ROOT, "tools/pulsewheel/page", name), "rb") as source:
                assert reply.body == source.read()
            assert reply.headers["cache-control"] == "no-cache"
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy, policy
            tag = reply.headers["etag"]
            for given, status in ((tag, 304), ("*", 304), (f'"a", {tag[2:]}', 304), ('"a"', 200)):
                with open_to_all.connect() as client:
                    headers = {"If-None-Match": given}
                    client.sendall(open_to_all.request("GET", path, None, headers))
                    head, _, body = read_all(client).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 %d " % status), (given, head)
                assert status == 200 or (body == b"" and b"content-length" not in head.lower())
        assert open_to_all.ask("GET", "/api/v1/stream").status == 401


def test_a_stream_of_figures_is_true_and_bounded(backend):
    with Watched(backend, "--heartbeat-profile", "mobile", scheme="auto") as server:
        peers = crowd(server.port, 5)
        followers = [Follower(server.admin, path="/api/v1/stream") for _ in range(16)]
        first = [each.next() for each in followers]
        assert server.admin.ask("GET", "/api/v1/stream").status == 503, "16 may watch"
        assert {event["pid"] for event in first} == {server.process.pid}
        event = followers[0].until("status", connections=20)[-1]
        while event["by_protocol"] != {kind: 5 for kind in peers}:
            event = followers[0].next()
        assert event["total"]["heartbeats_answered"] == 10
        assert sum(each["connections"] for each in event["reactors"]) == 20
        levels = event["wheel"]
        assert [len(levels[level]["entries"]) for level in ("lower", "upper")] == [64, 64]
        entries = sum(sum(level["entries"]) for level in levels.values())
        assert entries == event["total"]["wheel_entries"] >= 20
        later = followers[0].next()
        ahead = (later["wheel"]["lower"]["hand"] - levels["lower"]["hand"]) % 1
        passed = later["uptime_s"] - event["uptime_s"]
        # A hand is where the turn before the figures left it, at most an event ago.
        assert 0 < passed, passed
        assert abs(ahead * levels["lower"]["span_s"] - passed) < passed + 1, (ahead, passed)
        followers.pop().close()
        eventually(lambda: Follower(server.admin, path="/api/v1/stream").next() is not None,
                   "the place of one that left is free")
        for each in followers:
            each.close()


def test_the_figures_are_true(backend):
    with Watched(backend, "--heartbeat-profile", "mobile", scheme="auto") as server:
        peers = crowd(server.port)
        count = server.admin.get("/api/v1/count")
        assert count["connections"] == 4 * PEERS
        assert count["by_protocol"] == {kind: PEERS for kind in peers}, count
        assert count["by_state"] == {"open": 4 * PEERS}
        whole = server.admin.get("/api/v1/server")
        assert whole["connections"] == whole["total"]["connections"] == 4 * PEERS
        assert whole["total"]["heartbeats_answered"] == 2 * PEERS
        assert whole["state"] == "serving" and whole["reactors"] == 2
        table = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        assert abs(whole["descriptors"] - table) < 8 and table < whole["descriptors_max"], whole
        assert abs(whole["start_time_s"] + whole["uptime_s"] - time.time()) < 60
        assert 0 < whole["rss_bytes"] < whole["virtual_bytes"]
        assert whole["memory_available_bytes"] > 0
        reactors = server.admin.get("/api/v1/reactors")["reactors"]
        assert sum(reactor["connections"] for reactor in reactors) == 4 * PEERS
        text = server.admin.ask("GET", "/metrics").body.decode()
        assert sum(float(n) for n in re.findall(
            r'^pulsewheel_connections\{reactor="\d"\} (\S+)$', text, re.M)) == 4 * PEERS
        states = {(protocol, state): float(n) for protocol, state, n in re.findall(
            r'^pulsewheel_connections_by_state\{protocol="(\w+)",state="(\w+)"\} (\S+)$', text,
            re.M)}
        assert {protocol: states[protocol, "open"] for protocol in peers} == count["by_protocol"]
        assert sum(states.values()) == 4 * PEERS, states
        settings = {row["name"]: row for row in server.admin.get("/api/v1/config")["settings"]}
        assert settings["heartbeat-profile"] == {
            "name": "heartbeat-profile", "value": "mobile", "origin": "--heartbeat-profile",
            "reload": "live"}
        assert settings["tick"]["origin"] == "default"


def test_metrics_follow_the_rules_of_names(backend):
    with Watched(backend) as server:
        kinds = {}
        for line in server.admin.ask("GET", "/metrics").body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name not in kinds, name + " twice"
                kinds[name] = kind
                assert (kind == "counter") == name.endswith("_total"), line
                assert not re.search(r"_(us|ms|ns|kb|mib)(_|$)", name), line
            elif not line.startswith("#"):
                name = re.match(r"[a-z_][a-z0-9_]*", line)[0]
                base = re.sub(r"_(sum|count|bucket)$", "", name)
                assert name in kinds or kinds.get(base) == "histogram", line
                float(line.rsplit(" ", 1)[1])


def test_filters_and_both_orders(backend):
    with Watched(backend, scheme="auto") as server:
        crowd_of = crowd(server.port, 30)
        time.sleep(0.3)
        for peer in crowd_of["binary"]:  # heard of later than all others
            peer.sendall(PING)
            read_until(peer, b"\xb7\x02\0\0\0\0\0\1")
        admin = server.admin
        for limit in (1, 7, 1000):
            rows = [row for page in admin.pages(limit=limit) for row in page]
            assert len(rows) == 120 and len({row["id"] for row in rows}) == 120, limit
        own = {"%s:%d" % peer.getsockname()[:2] for peers in crowd_of.values() for peer in peers}
        assert {row["address"] for row in rows} == own
        idlest = [row for page in admin.pages("&sort=idle", 7) for row in page]
        assert len({row["id"] for row in idlest}) == 120
        assert {row["protocol"] for row in idlest[-30:]} == {"binary"}
        at_once = admin.get("/api/v1/connections?sort=idle&limit=1000")["connections"]
        idle = [row["idle_ms"] for row in at_once]
        assert idle[0] >= idle[-1] + 200, idle

        def number(query):
            return admin.get("/api/v1/count?" + query)["connections"]
        assert number("protocol=ws") == 60 and number("protocol=websocket_json") == 30
        assert number("protocol=jsonl&protocol=binary") == 60
        assert number("address=127.0.0.1") == number("address=127.0.0.0/8") == 120
        assert number("address=10.0.0.0/8") == 0 and number("state=closing") == 0
        assert number("listener=0") == number("profile=default") == 120
        assert number("idle=200ms&protocol=binary") == 0 or number("idle=1h") == 0


def test_one_connection(backend):
    with Watched(backend, scheme="auto") as server:
        peer = connect(server.port, "jsonl")
        peer.sendall(b'{"type":"hello","profile":"mobile"}\n')
        name = re.search(rb'"conn":"([^"]+)"', read_until(peer, b"}\n"))[1].decode()
        facts = server.admin.get("/api/v1/connections/" + name)
        assert facts["id"] == name and facts["profile"] == "mobile", facts
        assert facts["timeout_ms"] == 120_000 and 110_000 < facts["closes_in_ms"] <= 121_000, facts
        assert server.admin.ask("DELETE", "/api/v1/connections/" + name).json()["done"] == 1
        assert b'"reason":"kicked"' in read_all(peer)
        eventually(lambda: server.admin.ask(
            "GET", "/api/v1/connections/" + name).status == 404, "it is gone")
        assert server.admin.ask("DELETE", "/api/v1/connections/" + name).status == 404
        assert server.admin.ask("GET", "/api/v1/connections/r9-000001-0").status == 404
        assert server.admin.ask("GET", "/api/v1/connections/nonsense").status == 400


def test_users_and_filters_by_them(backend):
    with Watched(backend, scheme="auto") as server:
        admin = server.admin
        anonymous = connect(server.port, "jsonl")
        time.sleep(0.2)
        peers = {(user, device): login(server.port, user, device, {"ring": ring, "region": "eu"})
                 for user, device, ring in (("ann", "phone", "canary"), ("ann", "web", "stable"),
                                            ("bob", "phone", "stable"))}

        def number(query):
            return admin.get("/api/v1/count?" + query)["connections"]
        assert number("user=ann") == 2 and number("user=eve") == 0
        assert number("label=ring%3Dcanary") == 1 and number("label=ring") == 3
        assert number("label=ring%3Dstable&label=region%3Deu&user=ann") == 1
        assert number("user=ann&user=bob") == 3 and number("user=ann&user=eve") == 2
        assert number("label=ring%3Dstable&label=ring%3Dcanary&user=ann") == 2
        names = [row["id"] for page in admin.pages("&user=ann") for row in page]
        assert number("id=" + "&id=".join(names)) == 2
        assert number(f"id={names[0]}&id={names[1]}&user=bob&user=eve") == 0
        assert number("age=150ms") >= 1 and number("age=1h") == 0
        rows = [row for page in admin.pages("&label=region", 2) for row in page]
        assert {(row["user"], row["device"]) for row in rows} == set(peers), rows
        assert all(row["labels"]["region"] == "eu" for row in rows)
        oldest = admin.get("/api/v1/connections?sort=age&limit=1")["connections"][0]
        assert oldest["user"] is None and oldest["address"].endswith(
            str(anonymous.getsockname()[1])), oldest
        assert number("id=" + oldest["id"]) == 1
        facts = admin.get("/api/v1/users/ann")
        assert facts["state"] == "online" and facts["sessions"] == 2 and facts["reason"] is None
        assert [each["device"] for each in facts["devices"]] == ["phone", "web"], facts
        assert facts["devices"][0]["labels"] == {"ring": "canary", "region": "eu"}
        assert admin.post("/api/v1/users/ann/send", {"text": "hi"}) == {"done": 2, "skipped": 0}
        for device in ("phone", "web"):
            assert read_until(peers["ann", device], b"\n") == b'{"type":"data","text":"hi"}\n'
        assert admin.ask("POST", "/api/v1/users/eve/send", {"text": "hi"}).status == 404
        done = admin.post("/api/v1/retune", {"filter": {"label": "ring=canary"},
                                             "profile": "mobile"})
        assert done == {"done": 1, "skipped": 0}
        assert b'"interval_ms":60000' in read_until(peers["ann", "phone"], b"\n")
        done = admin.post("/api/v1/retune", {"filter": {"id": oldest["id"]}, "profile": "mobile"})
        assert done["done"] == 1 and b"60000" in read_until(anonymous, b"\n")
        assert admin.post("/api/v1/kick", {"filter": {"user": ["eve", "ann"]}})["done"] == 2
        for device in ("phone", "web"):
            assert b'"reason":"kicked"' in read_all(peers["ann", device])
            peers["ann", device].close()
        facts = admin.get("/api/v1/users/ann")
        assert (facts["state"], facts["reason"], facts["devices"]) == ("offline", "kicked", [])
        states = {row["user"]: row["state"] for row in admin.get("/api/v1/users")["users"]}
        assert states == {"ann": "offline", "bob": "online"}, states
        page = admin.get("/api/v1/users?limit=1")
        rest = admin.get("/api/v1/users?limit=1&cursor=" + page["next"])
        assert {page["users"][0]["user"], rest["users"][0]["user"]} == {"ann", "bob"}
        online = admin.get("/api/v1/users?state=online")["users"]
        assert [row["user"] for row in online] == ["bob"]
        assert admin.ask("GET", "/api/v1/users/eve").status == 404


# Also what changes while none follows, and a takeover, which is never offline in between.
def test_the_stream_of_presence(backend):
    with Watched(backend, "--heartbeat-probe", "off", scheme="auto") as server:
        admin = server.admin
        kept = login(server.port, "kept")
        first = Follower(admin)
        snapshot = first.until("live")
        assert [event["event"] for event in snapshot] == ["snapshot", "user", "live"], snapshot
        assert snapshot[1]["user"] == "kept" and snapshot[1]["state"] == "online"
        old = login(server.port, "ann", "phone")
        assert first.until("change")[-1]["change"] == "online"
        second = Follower(admin)
        assert len(second.until("live")) == 4
        for _ in range(20):
            new = login(server.port, "ann", "phone")
            assert b"taken_over" in read_all(old)
            old.close()
            old = new
        changes = [first.until("change")[-1] for _ in range(20)]
        assert [change["change"] for change in changes] == ["replaced"] * 20, changes
        assert [change["sequence"] for change in changes] == list(range(2, 22))
        assert [second.until("change")[-1] for _ in range(20)] == changes, "as the other was sent"
        # A follower comes back, and has missed nothing.
        for follower in (first, second):
            follower.close()
        old.close()
        eventually(lambda: admin.get("/api/v1/users/ann")["state"] == "offline", "it is gone")
        third = Follower(admin, first.last_id)
        event = third.next()
        assert (event["event"], event["change"], event["reason"]) == (
            "change", "offline", "peer_closed"), event
        assert event["id"].split(".")[2:] == [str(event["generation"]), str(event["sequence"])]
        # One with an id of another server's start is told that, and begins anew.
        epoch, _, rest = first.last_id.partition(".")
        fourth = Follower(admin, f"{int(epoch) - 1}.{rest}")
        told = fourth.until("live")
        assert [event["event"] for event in told] == ["gap", "snapshot", "user", "live"], told
        del kept


def test_followers_are_bounded(backend):
    with Watched(backend, scheme="jsonl") as server:
        followers = [Follower(server.admin) for _ in range(32)]
        assert server.admin.ask("GET", "/api/v1/presence").status == 503
        assert server.admin.ask("GET", "/readyz").status == 200, "others have a place"
        followers.pop().close()
        peer = login(server.port, "ann")
        for follower in followers:
            follower.until("change", user="ann")
        eventually(lambda: is_streaming(server.admin), "there is room again")
        del peer
        for follower in followers:
            follower.close()


# 60,000 changes are more than is kept for one that lags, and than its socket takes.
def test_a_follower_that_does_not_read_is_told(backend):
    with Watched(backend, "--reactors", "1", scheme="jsonl") as server:
        slow = Follower(server.admin)
        slow.until("live")
        peer = login(server.port, "ann")
        hellos = b"".join(b'{"type":"hello","user":"ann","labels":{"n":"%d"}}\n' % (n % 2)
                          for n in range(1_000))
        for _ in range(60):
            peer.sendall(hellos)
            answers = 0
            while answers < 1_000:
                answers += peer.recv(1 << 20).count(b"\n")
        eventually(lambda: server.admin.get("/api/v1/users/ann")["sequence"] > 59_000, "all came")
        events = list(iter(slow.next, None))
        assert events[-1]["event"] == "dropped", events[-1]
        assert [event["sequence"] for event in events[:-1]] == list(range(1, len(events)))
        slow.close()
        again = Follower(server.admin, slow.last_id)
        told = again.until("live")
        assert [event["event"] for event in told] == ["gap", "snapshot", "user", "live"], told
        again.close()


def is_streaming(admin):
    with admin.connect() as client:
        client.sendall(admin.request("GET", "/api/v1/presence"))
        return client.recv(12).endswith(b"200")


def test_those_that_ended(backend):
    with Watched(backend, "--ledger", "30", scheme="auto") as server:
        admin = server.admin
        peers = crowd(server.port, 5)
        user = connect(server.port, "jsonl")
        user.sendall(b'{"type":"hello","user":"ann"}\n')
        name = re.search(rb'"conn":"([^"]+)"', read_until(user, b"}\n"))[1].decode()
        assert "is open for" in admin.get("/api/v1/connections/" + name)["explanation"]
        for peer in peers["binary"] + [user]:
            peer.close()
        done = admin.post("/api/v1/kick", {"filter": {"protocol": "websocket"}, "reason": "moved"})
        assert done["done"] == 5, done

        def closed(query="", limit=100):
            rows, cursor = [], ""
            while cursor is not None:
                page = admin.get(f"/api/v1/closed?limit={limit}{query}" +
                                 (f"&cursor={cursor}" if cursor else ""))
                rows, cursor = rows + page["closed"], page["next"]
            return rows
        eventually(lambda: len(closed()) == 11, "all have ended")
        assert {row["id"] for row in closed(limit=3)} == {row["id"] for row in closed()}
        ages = [row["ago_ms"] for row in closed()]
        assert ages == sorted(ages), ages
        assert [row["id"] for row in closed("&user=ann")] == [name]
        kicked = closed("&reason=kicked")
        assert len(kicked) == 5 and "an operator closed it: moved." in kicked[0]["cause"], kicked
        assert kicked[0]["ended_by"] == "operator" and kicked[0]["lasted_ms"] >= 0
        assert len(closed("&protocol=binary&reason=peer_closed&since=1h")) == 5
        assert closed("&address=10.0.0.0/8") == []
        own = "%s:%d" % peers["websocket"][0].getsockname()
        assert own in {row["address"] for row in kicked}
        facts = admin.get("/api/v1/closed/" + name)
        assert "was closed as peer_closed after" in facts["explanation"], facts
        assert facts["transport"]["received_bytes"] == len(
            b'{"type":"ping","seq":1}\n{"type":"hello","user":"ann"}\n'), facts
        what = [moment["what"] for moment in facts["timeline"]]
        assert what[0] == "accepted" and what[-1] == "the socket was closed", what
        assert admin.ask("GET", "/api/v1/connections/" + name).status == 404
        for peer in sum(crowd(server.port, 20).values(), []):
            peer.close()
        # Of each reactor's half.
        eventually(lambda: len(closed()) == 30, "no more than --ledger")
        assert admin.ask("GET", "/api/v1/closed/" + name).status == 404, "newer ones came"
    with Watched(backend, "--ledger", "off") as server:
        connect(server.port, "binary").close()
        eventually(lambda: server.admin.get("/api/v1/count")["connections"] == 0, "it is gone")
        assert server.admin.get("/api/v1/closed") == {"closed": [], "next": None, "kept": 0}


def take_intervals(peer):
    """Of each line that has come before a heartbeat's answer: all must be intervals."""
    peer.sendall(b"PING\n")
    lines = [json.loads(line) for line in read_until(peer, b"PONG\n").splitlines()[:-1]]
    assert all(line["type"] == "interval" for line in lines), lines
    return [line["interval_ms"] for line in lines]


def test_a_policy_is_rolled_out_compared_and_rolled_back(backend):
    """Users of two reactors, whose shards may be the other's; most of them have the label."""
    with Watched(backend, "--reactors", "2", "--heartbeat-probe", "off", scheme="jsonl") as server:
        admin = server.admin
        rest = [login(server.port, f"r{n}") for n in range(20)]
        canaries = [login(server.port, f"c{n}", labels={"ring": "canary"}) for n in range(80)]

        def rows():
            return {row["policy"]: row for row in admin.get("/api/v1/policies")["cohorts"]}
        assert rows() == {}
        assert admin.ask("POST", "/api/v1/policies/rollback").status == 409
        some, all_of_them = "ring=canary,25%: profile=mobile", "ring=canary: profile=mobile"
        admin.post("/api/v1/policies", {"policies": [some]})
        # Which are in it follows from their names; both reactors have told theirs when no more
        # of them come.
        seen = []

        def settled():
            seen.append(rows().get(some, {"sessions": 0})["sessions"])
            return len(seen) >= 10 and len(set(seen[-10:])) == 1 and seen[-1] > 0
        eventually(settled, seen)
        assert 5 < seen[-1] < 40 and rows()[None]["sessions"] == 100 - seen[-1], rows()
        admin.post("/api/v1/policies", {"policies": [all_of_them]})
        eventually(lambda: rows()[all_of_them]["sessions"] == 80, rows())
        assert some not in rows() and rows()[None]["sessions"] == 20
        # Each is sent it once: a share that grows leaves those that are in it alone.
        assert [take_intervals(peer) for peer in canaries] == [[60_000]] * 80
        assert [take_intervals(peer) for peer in rest[:5]] == [[]] * 5
        assert rows()[all_of_them]["heartbeats"] == 80 and rows()[None]["heartbeats"] == 5, rows()
        metrics = admin.ask("GET", "/metrics").body.decode()
        assert f'pulsewheel_cohort_heartbeats_total{{policy="{all_of_them}"}} 80\n' in metrics
        assert 'pulsewheel_cohort_sessions{policy="rest"} 20\n' in metrics
        canaries.pop().close()
        eventually(lambda: rows()[all_of_them]["ended"] == 1, rows())
        admin.post("/api/v1/policies/rollback")
        eventually(lambda: some in rows() and rows()[some]["sessions"] + rows()[None]["sessions"]
                   == 99, rows())
        back = [told for told in map(take_intervals, canaries) if told]
        assert back == [[30_000]] * (79 - rows()[some]["sessions"]), back
        admin.post("/api/v1/policies", {"policies": []})
        assert rows() == {}
        assert b"pulsewheel_cohort" not in admin.ask("GET", "/metrics").body


def test_a_policy_moves_connections_to_another_server(backend):
    """In the words of each protocol; anonymous ones too, where it has no labels."""
    to = "wss://b.example:9000"
    with Watched(backend, "--policy", f"ring=canary: move-to={to}", "--drain-retry-after", "100ms",
                 scheme="auto") as server:
        user = b'{"type":"hello","user":"%s","labels":{"ring":"canary"}}'
        lines, web, binary = (connect(server.port, kind) for kind in
                              ("jsonl", "websocket", "binary"))
        lines.sendall(user % b"a" + b"\n")
        heard = read_until(lines, to.encode() + b'"}\n')
        welcome, goodbye = map(json.loads, heard.splitlines())
        assert welcome["type"] == "welcome", welcome
        assert goodbye["reason"] == "moved" and goodbye["move_to"] == to, goodbye
        assert 100 <= goodbye["retry_after_ms"] <= 200, goodbye
        payload = user % b"b"
        web.sendall(bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload)
        assert f'"move_to":"{to}"'.encode() in read_until(web, to.encode() + b'"}')
        for peer, ping, pong in ((lines, b"PING\n", b"PONG\n"),
                                 (web, b"\x81\x84" + bytes(4) + b"PING", b"\x81\x04PONG")):
            peer.sendall(ping)
            assert read_until(peer, pong) == pong, "it is served until it has gone"
        payload = user % b"c"
        binary.sendall(struct.pack(">BBHI", 0xB7, 3, len(payload), 1) + payload)
        assert f"moved: {to}; retry_after_ms=".encode() in read_to_end(binary)
        anonymous = connect(server.port, "jsonl")
        anonymous.sendall(b"PING\n")
        assert read_until(anonymous, b"\n") == b"PONG\n"
        server.admin.post("/api/v1/policies", {"policies": [
            f"100%: move-to={to} move-over=0s"]})
        anonymous.sendall(b"PING\n")
        assert b'"reason":"moved"' in read_until(anonymous, b"}\n")
        for peer in (lines, web, binary, anonymous):
            peer.close()
        eventually(lambda: server.admin.get("/api/v1/server")["total"]["closed_by_reason"] ==
                   {"moved": 4}, "they have gone")


def read_to_end(peer):
    peer.settimeout(20)
    return b"".join(iter(lambda: peer.recv(4096), b""))


def test_kick_broadcast_and_retune(backend):
    with Watched(backend, "--heartbeat-probe", "off", scheme="auto") as server:
        peers = crowd(server.port)
        admin = server.admin
        text = 'at 5 o\'clock: "\u00fcbung"'
        done = admin.post("/api/v1/broadcast", {"all": True, "text": text})
        assert done == {"done": 4 * PEERS, "skipped": 0}, done
        data = text.encode()
        quoted = text.replace('"', '\\"').encode()
        for kind, said in (
                ("binary", b"\xb7\x05" + struct.pack(">HI", len(data), 0) + data),
                ("jsonl", b'{"type":"data","text":"' + quoted + b'"}\n'),
                ("websocket", b"\x81" + bytes([len(data)]) + data)):
            for peer in peers[kind]:
                assert read_until(peer, said[-4:]) == said, kind
        for peer in peers["websocket_json"]:
            assert read_until(peer, b'"}')[2:] == b'{"type":"data","text":"' + quoted + b'"}'
        done = admin.post("/api/v1/retune", {"filter": {"protocol": "jsonl"},
                                             "profile": "powersave"})
        assert done == {"done": PEERS, "skipped": 0}
        for peer in peers["jsonl"]:
            assert read_until(peer, b"\n") == (
                b'{"type":"interval","interval_ms":300000,"timeout_ms":600000}\n')
        assert admin.get("/api/v1/count?profile=powersave")["connections"] == PEERS
        done = admin.post("/api/v1/kick", {"filter": {"protocol": ["binary", "ws"]},
                                           "reason": "moved"})
        assert done["done"] == 3 * PEERS
        assert read_all(peers["binary"][0]).endswith(b"kicked: moved")
        assert b"kicked: moved" in read_all(peers["websocket"][0])
        for kind in ("binary", "websocket", "websocket_json"):
            for peer in peers[kind]:
                peer.close()
        eventually(lambda: admin.get("/api/v1/count")["connections"] == PEERS, "they are closed")
        closed = admin.get("/api/v1/server")["total"]["closed_by_reason"]
        assert closed == {"kicked": 3 * PEERS}, closed


# As many a second as were asked for, of both reactors together; and the rest stays when the client
# that asked goes away.
def test_a_kick_with_a_rate_ends_with_its_client(backend):
    with Watched(backend) as server:
        peers = [connect(server.port, "binary") for _ in range(100)]
        admin = server.admin
        began = time.monotonic()
        done = admin.post("/api/v1/kick", {"all": True, "rate": "100/s"})
        took = time.monotonic() - began
        assert done["done"] == 100 and 0.9 <= took <= 10, took
        for peer in peers:
            peer.close()
        peers = [connect(server.port, "binary") for _ in range(100)]
        client = admin.connect()
        client.sendall(admin.request("POST", "/api/v1/kick", {"all": True, "rate": "20/s"}))
        time.sleep(0.5)
        client.close()
        time.sleep(0.5)
        left = admin.get("/api/v1/count?state=open")["connections"]
        assert 60 <= left < 100, left
        time.sleep(0.5)
        assert admin.get("/api/v1/count?state=open")["connections"] == left
        del peers


def test_what_is_wrong_is_refused_in_words(backend):
    with Watched(backend, scheme="auto") as server:
        peer = connect(server.port, "jsonl")
        admin = server.admin

        def refused(status, method, target, body=None, headers=None, *words):
            reply = admin.ask(method, target, body, headers)
            assert reply.status == status, (target, reply.status, reply.body)
            error = reply.json()["error"]
            assert error["reason"] and error["remedy"] and error["status"] == status, error
            for word in words:
                assert word in str(error), (word, error)
            return reply
        refused(404, "GET", "/api/v2")
        reply = refused(405, "DELETE", "/api/v1/kick")
        assert reply.headers["allow"] == "POST"
        refused(400, "GET", "/api/v1/connections?limit=0", None, None, "'0'", "1 to 1000")
        refused(400, "GET", "/api/v1/connections?limit=1001")
        refused(400, "GET", "/api/v1/connections?sort=size", None, None, "id, idle or age")
        refused(400, "GET", "/api/v1/connections?cursor=x")
        refused(400, "GET", "/api/v1/connections?colour=red", None, None, "colour", "protocol")
        refused(400, "GET", "/api/v1/count?protocol=smtp", None, None, "smtp", "jsonl")
        refused(400, "GET", "/api/v1/count?address=10.0.0.1/8")
        refused(400, "GET", "/api/v1/closed?reason=boredom", None, None, "boredom", "kicked")
        refused(400, "GET", "/api/v1/closed?state=open", None, None, "state", "since")
        refused(400, "GET", "/api/v1/closed?cursor=1.2")
        refused(400, "GET", "/api/v1/closed/nonsense")
        refused(400, "GET", "/api/v1/count?id=7", None, None, "r3-000123-9")
        refused(400, "GET", "/api/v1/count?user=" + "x" * 129, None, None, "128")
        refused(400, "GET", "/api/v1/users?state=away", None, None, "'away'", "suspect")
        refused(400, "GET", "/api/v1/users?cursor=7.1")
        refused(400, "POST", "/api/v1/kick", {})
        refused(400, "POST", "/api/v1/kick", {"filter": {}})
        refused(400, "POST", "/api/v1/kick", {"filter": {"idle": "1s"}, "all": True})
        refused(400, "POST", "/api/v1/kick", {"all": True, "rate": "fast"}, None, "rate")
        for none in ("0/s", "off"):
            refused(400, "POST", "/api/v1/kick", {"all": True, "rate": none}, None, none, "500/s")
        refused(400, "GET", "/api/v1/count?protocol=ws&protocol=smtp", None, None, "smtp", "jsonl")
        refused(400, "GET", "/api/v1/count?idle=1s&idle=2s", None, None, "'2s'", "second")
        for key, two in (("idle", ["1s", "2s"]), ("age", ["1s", "2s"])):
            refused(400, "POST", "/api/v1/kick", {"filter": {key: two}}, None, key, two[1])
        many = [f"u{n}" for n in range(65)]
        refused(400, "POST", "/api/v1/kick", {"filter": {"user": many}}, None, "'u64'", "64")
        for key in ("state", "listener", "profile", "idle", "address", "user", "label", "id"):
            refused(400, "POST", "/api/v1/kick", {"filter": {key: [], "protocol": "jsonl"}}, None,
                    key, "empty list")
        refused(400, "POST", "/api/v1/kick", {"filter": {"protocol": [], "state": "open"}}, None,
                "protocol", "empty list")
        refused(400, "POST", "/api/v1/kick", {"all": True, "filtre": {}}, None, "filtre")
        refused(400, "POST", "/api/v1/kick", {"all": True, "reason": "x" * 81})
        refused(400, "POST", "/api/v1/broadcast", {"all": True})
        refused(400, "POST", "/api/v1/retune", {"all": True, "profile": "fast"}, None, "mobile")
        refused(400, "POST", "/api/v1/log-level", {"level": "loud"}, None, "'loud'", "debug")
        refused(400, "POST", "/api/v1/kick", [1])
        refused(415, "POST", "/api/v1/kick", {"all": True}, {"Content-Type": "text/plain"})
        refused(403, "GET", "/api/v1/server", None, {"Host": "evil.example"}, "Host")
        refused(413, "POST", "/api/v1/broadcast", {"all": True, "text": "x" * 20_000})
        refused(431, "GET", "/api/v1", None, {"X-Long": "x" * 9_000})
        refused(414, "GET", "/" + "x" * 600)
        refused(411, "POST", "/api/v1/kick", None, {"Transfer-Encoding": "chunked"})
        assert admin.get("/api/v1/count")["connections"] == 1
        del peer


def test_a_token_is_asked_for(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "tokens")
        with open(path, "w") as file:
            file.write("# of the team\n\n" + TOKEN + "\nanother-token-of-sixteen\n")
        flags = ("--admin-token-file", path)
        with Watched(backend, *flags, admin="0.0.0.0:0", token=TOKEN) as server:
            server.admin.address = server.admin.address.replace("0.0.0.0", "127.0.0.1")
            assert server.admin.get("/api/v1/count")["connections"] == 0
            other = Admin(server.admin.address, "another-token-of-sixteen")
            assert other.ask("GET", "/metrics").status == 200
            for wrong in (None, TOKEN[:-1], TOKEN + "x", "x" * len(TOKEN)):
                stranger = Admin(server.admin.address, wrong)
                reply = stranger.ask("GET", "/api/v1/server")
                assert reply.status == 401 and reply.headers["www-authenticate"] == "Bearer"
                assert stranger.ask("POST", "/api/v1/drain").status == 401
                assert stranger.ask("GET", "/healthz").status == 200
                assert stranger.ask("GET", "/readyz").status == 200


def raw_reply(admin, head, body=b""):
    """The reply to a request that is written out here."""
    with admin.connect() as client:
        client.sendall(head.encode() + b"\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" + body)
        return Reply(read_all(client))


# Before a token is looked at, and whatever the stack of a thread is without being asked for: what
# reads a request must not recurse as far as a client likes.
def test_no_request_needs_more_stack_than_there_is(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "tokens")
        with open(path, "w") as file:
            file.write(TOKEN + "\n")

        def small_stacks():
            _, most = resource.getrlimit(resource.RLIMIT_STACK)
            resource.setrlimit(resource.RLIMIT_STACK, (2 << 20, most))
        with Watched(backend, "--admin-token-file", path, before=small_stacks) as server:
            long, admin = "a" * 7_800, server.admin
            for status, head in (
                    (400, "GET  /api/v1/connections/" + long + " HTTP/1.1"),
                    (414, "GET /api/v1/connections/" + long + " HTTP/1.1"),
                    (401, "GET /api/v1/connections?user=" + long + " HTTP/1.1"),
                    (200, "GET /healthz HTTP/1.1\r\nRange: bytes=" + "1" * 7_800 + "-"),
                    (200, "GET /healthz HTTP/1.1\r\nRange: bytes=" + ",".join(["0-0"] * 1_900)),
                    (401, "GET /metrics HTTP/1.1\r\nAccept: " + long)):
                assert raw_reply(admin, head).status == status, head[:60]
            form = ("--b\r\nContent-Disposition: form-data; name=\"" + long * 2 +
                    "\"\r\n\r\n\r\n--b--").encode()
            nested = b'{"filter":{"protocol":' + b"[" * 8_000 + b"]" * 8_000 + b"}}"
            for kind, body, shown in (("multipart/form-data; boundary=b", form, ""),
                                      ("application/json", nested, ""),
                                      ("application/json", nested, "Bearer " + TOKEN)):
                reply = raw_reply(admin, f"POST /api/v1/kick HTTP/1.1\r\nContent-Type: {kind}\r\n"
                                  f"Authorization: {shown}\r\nContent-Length: {len(body)}", body)
                assert reply.status == (400 if shown else 401), (kind, reply.status, reply.body)
            assert server.process.poll() is None


# A range is a part of an answer, and thousands of them would be thousands of answers.
def test_range_is_ignored(backend):
    with Watched(backend) as server:
        plain = server.admin.ask("GET", "/metrics")
        for ranges in ("0-", "5-9", ",".join(["0-"] * 2_000)):
            reply = server.admin.ask("GET", "/metrics", None, {"Range": "bytes=" + ranges})
            assert reply.status == 200, ranges[:20]
            assert reply.headers["content-type"] == plain.headers["content-type"]
            assert abs(len(reply.body) - len(plain.body)) < 1_000, (len(reply.body), ranges[:20])


def start_error(backend, *flags):
    with Server(backend, *flags, expect_start=False) as server:
        code = server.process.wait(timeout=20)
        return code, server.text()


def test_starts_that_are_refused(backend):
    code, said = start_error(backend, "--admin", "0.0.0.0:9100")
    assert code == 2 and "--admin-token-file" in said and "0.0.0.0:9100" in said, said
    code, said = start_error(backend, "--admin", "nowhere")
    assert code == 2 and "--admin" in said, said
    code, said = start_error(backend, "--admin", "127.0.0.1:0", "--admin-token-file", "/nowhere/t")
    assert code == 1 and "--admin-token-file" in said, said
    with Watched(backend) as server:
        code, said = start_error(backend, "--admin", server.admin.address)
        assert code == 1 and server.admin.address in said and "in use" in said, said
        assert "listening on" not in said, said


def test_a_socket_of_the_file_system(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "admin.sock")
        with Watched(backend, admin="unix:" + path) as server:
            assert server.admin.get("/healthz")["status"] == "ok"
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            code, said = start_error(backend, "--admin", "unix:" + path)
            assert code == 1 and "in use" in said, said
            server.process.kill()  # leaves its file behind
            server.process.wait()
        assert os.path.exists(path)
        with Watched(backend, admin="unix:" + path) as server:
            assert server.admin.get("/healthz")["status"] == "ok"
            assert server.stop() == 0
        assert not os.path.exists(path)


def test_a_thousand_idle_clients_disturb_nothing(backend):
    with Watched(backend) as server:
        peer = connect(server.port, "binary")
        idle = [server.admin.connect() for _ in range(1_000)]
        slow = [server.admin.connect() for _ in range(20)]
        for client in slow:
            client.sendall(b"GET /api/v1/server HTTP/1.1\r\nHo")
        for _ in range(20):
            began = time.monotonic()
            assert server.admin.get("/readyz")["ready"] is True
            assert server.admin.get("/api/v1/count")["connections"] == 1
            assert time.monotonic() - began < 5
            peer.sendall(PING)
            read_until(peer, b"\xb7\x02\0\0\0\0\0\1")
        descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        assert descriptors < 200, descriptors
        del idle, slow


def test_clients_that_go_away_or_do_not_read(backend):
    with Watched(backend, scheme="auto") as server:
        peers = crowd(server.port)
        admin = server.admin
        for _ in range(200):
            with admin.connect() as client:
                client.sendall(admin.request("GET", "/api/v1/connections?limit=1000"))
        deaf = []
        for _ in range(30):
            client = admin.connect()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            for _ in range(10):
                client.sendall(admin.request("GET", "/metrics", None, {"Connection": None}))
            deaf.append(client)
        for _ in range(10):
            assert admin.get("/api/v1/count")["connections"] == 4 * PEERS
        del deaf, peers


def test_a_connection_serves_several_requests(backend):
    with Watched(backend) as server:
        admin = server.admin
        with admin.connect() as client:
            for _ in range(3):
                client.sendall(admin.request("GET", "/healthz", None, {"Connection": None}) +
                               admin.request("GET", "/api/v1/count", None, {"Connection": None}))
                raw = b""
                while raw.count(b"by_state") < 1:
                    raw += client.recv(65536)
                first, _, second = raw[1:].partition(b"HTTP/1.1")
                assert b'"ok"' in first and b'"connections": 0' in second, raw


def test_drain_and_readiness(backend):
    with Watched(backend, "--drain-timeout", "3s") as server:
        peers = [connect(server.port, "binary") for _ in range(PEERS)]
        admin = server.admin
        assert admin.ask("GET", "/readyz").status == 200
        begun = admin.post("/api/v1/drain", status=202)
        assert begun["connections_at_drain"] == PEERS and begun["window_s"] == 3, begun
        reply = admin.ask("GET", "/readyz")
        assert reply.status == 503, reply.body
        assert reply.json()["reasons"][0].startswith("it drains: "), reply.body
        assert admin.post("/api/v1/drain", status=202)["draining"] is True, "again: no harm"
        left = [admin.get("/api/v1/drain")["connections"]]

        def close_those_that_end():
            for peer in peers:
                peer.settimeout(20)
                heard = read_all(peer)
                assert b"going_away" in heard, heard
                peer.close()
        reader = threading.Thread(target=close_those_that_end)
        reader.start()
        try:
            while server.process.poll() is None:
                left.append(admin.get("/api/v1/drain")["connections"])
                time.sleep(0.1)
        except (OSError, IndexError):
            pass  # it has ended
        reader.join()
        assert left == sorted(left, reverse=True) and left[0] > left[-1], left
        assert server.process.wait(timeout=20) == 0


def test_a_full_server_is_not_ready(backend):
    with Watched(backend, "--max-connections", "3") as server:
        peers = [connect(server.port, "binary") for _ in range(3)]
        reply = server.admin.ask("GET", "/readyz")
        assert reply.status == 503 and "3 of 3" in reply.json()["reasons"][0]
        peers.pop().close()
        eventually(lambda: server.admin.ask("GET", "/readyz").status == 200, "ready again")


# Though no order is outstanding and no service manager watches.
def test_a_server_with_a_stuck_reactor_is_not_ready(backend):
    with Watched(backend) as server:
        def readiness():
            reply = server.admin.ask("GET", "/readyz")
            return reply.status, reply.json()["reasons"]
        with Frozen(server.reactor_task()):
            eventually(lambda: readiness() == (503, ["1 reactors do not answer"]), "it is seen", 60)
        eventually(lambda: readiness() == (200, []), "ready again", 60)


def test_log_level_and_reload(backend):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "config.toml")

        def write(text):
            with open(path, "w") as file:
                file.write(text)
        write('heartbeat-interval = "20s"\n')
        with Watched(backend, "--config", path) as server:
            admin = server.admin
            assert admin.get("/api/v1/log-level") == {"level": "info"}
            assert admin.post("/api/v1/log-level", {"level": "debug"}) == {"level": "debug"}
            connect(server.port, "binary")
            eventually(lambda: "accepted from" in server.text(), "a debug line")
            write('heartbeat-interval = "25s"\nhandshake-timeout = "7s"\n')
            reloaded = admin.post("/api/v1/reload")
            settings = [change["setting"] for change in reloaded["applied"]]
            assert settings == ["heartbeat-interval", "heartbeat-timeout", "log-level"], reloaded
            assert [c["setting"] for c in reloaded["wait_for_a_restart"]] == ["handshake-timeout"]
            write("heartbeat-interval = 5\n")
            reply = admin.ask("POST", "/api/v1/reload", {})
            assert reply.status == 409 and "heartbeat-interval" in str(reply.json()), reply.body
            given = {row["name"]: row for row in admin.get("/api/v1/config")["settings"]}
            assert given["heartbeat-interval"]["value"] == "25s"
            assert given["heartbeat-interval"]["origin"].startswith(path + ":1")


if __name__ == "__main__":
    sys.exit(run_over_backends(globals()))
