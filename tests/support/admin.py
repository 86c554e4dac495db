"""The admin endpoint of a server, as a client of no library sees it, and its description."""
import functools
import json
import os
import re
import socket
import time

import jsonschema

from server import Server

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@functools.cache
def openapi():
    with open(os.path.join(ROOT, "net/control/openapi.json")) as file:
        return json.load(file)


class Reply:
    """A response: its status, headers by lower-case name, and body."""

    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value.strip()
                        for name, _, value in (line.partition(":") for line in lines[1:])}
        assert len(self.body) == int(self.headers["content-length"]), "cut short"

    def json(self):
        return json.loads(self.body)


class Admin:
    """Where a server's admin endpoint is: "HOST:PORT" or "unix:PATH"."""

    def __init__(self, address, token=None):
        self.address, self.token = address, token

    def connect(self, timeout=20):
        if self.address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(timeout)
            client.connect(self.address.removeprefix("unix:"))
            return client
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout)

    def request(self, method, target, body=None, headers=None):
        """The bytes of a request."""
        fields = {"Host": "127.0.0.1", "Connection": "close", **(headers or {})}
        if self.token and "Authorization" not in fields:
            fields["Authorization"] = "Bearer " + self.token
        data = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            fields.setdefault("Content-Type", "application/json")
            fields["Content-Length"] = str(len(data))
        head = f"{method} {target} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        return head.encode() + b"\r\n" + data

    def ask(self, method, target, body=None, headers=None):
        """A response, whose body is checked against what openapi.json says of it."""
        if body is None and method == "POST":
            body = {}
        with self.connect() as client:
            client.sendall(self.request(method, target, body, headers))
            reply = Reply(read_all(client))
        check(method, target, reply)
        return reply

    def get(self, target):
        reply = self.ask("GET", target)
        assert reply.status == 200, (target, reply.status, reply.body)
        return reply.json()

    def post(self, target, body=None, status=200):
        reply = self.ask("POST", target, body)
        assert reply.status == status, (target, reply.status, reply.body)
        return reply.json()

    def pages(self, query="", limit=100):
        """All connections, page by page."""
        cursor = ""
        while True:
            page = self.get(f"/api/v1/connections?limit={limit}{query}{cursor}")
            yield page["connections"]
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"


class Watched(Server):
    """A server with an admin endpoint on a port of the kernel's choice."""

    def __init__(self, backend, *flags, admin="127.0.0.1:0", token=None, **more):
        super().__init__(backend, "--admin", admin, "--reactors", "2", *flags, **more)
        address = re.search(r"admin endpoint on (\S+),", self.text())[1]
        self.admin = Admin(address, token)

    def wait_for_port(self):
        port = super().wait_for_port()
        deadline = time.monotonic() + 10
        while "admin endpoint on" not in self.text():
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.01)
        return port


def read_all(client):
    raw = b""
    while piece := client.recv(65536):
        raw += piece
    return raw


def path_in_openapi(target):
    path = target.partition("?")[0]
    for known in openapi()["paths"]:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", known), path):
            return known
    return None


def check(method, target, reply):
    """Fails where an answer is not what openapi.json says of this path, method and status."""
    operations = openapi()["paths"].get(path_in_openapi(target), {})
    if method.lower() not in operations:
        schema = {"$ref": "#/components/schemas/Error"}  # of what is not there
        assert reply.status in (400, 404, 405, 414), (method, target, reply.status)
    else:
        responses = operations[method.lower()]["responses"]
        # What the endpoint refuses before it looks at the path.
        if reply.status in (403, 411, 414, 431) or str(reply.status) not in responses:
            assert reply.status in (403, 411, 413, 414, 415, 431, 503), (target, reply.status)
            schema = {"$ref": "#/components/schemas/Error"}
        else:
            content = responses[str(reply.status)]["content"]
            kind = reply.headers["content-type"]
            assert kind in content, (target, kind)
            if not kind.startswith("application/json"):
                return
            schema = content[kind]["schema"]
    resolver = jsonschema.RefResolver("", openapi())
    jsonschema.Draft202012Validator(schema, resolver=resolver).validate(reply.json())
