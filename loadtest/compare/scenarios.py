"""What is measured. loadtest/scenarios.json has what these scripts and the k6 ones share."""

import dataclasses
import json
import pathlib

SHARED = json.loads((pathlib.Path(__file__).parent.parent / "scenarios.json").read_text())

EVERYBODY = ("tollgate", "floor", "floor-tuned", "nginx", "haproxy", "envoy", "caddy", "varnish")


@dataclasses.dataclass
class Scenario:
    """One of them; times in seconds, sizes in bytes."""

    name: str
    title: str
    # wrk, h2load, paced, handshakes, or a program of special.py
    load: str = "wrk"
    # What the proxies are configured for: see gateway.py and peers.py.
    kind: str = "forward"
    path: str = "/"
    method: str = "GET"
    headers: dict = dataclasses.field(default_factory=dict)
    # Bytes of a request's body, and of the answer's (None: the answer's are not looked at).
    upload: int = 0
    answer: int | None = 2
    data: bytes = b""
    status: int = 200
    tls: bool = False
    resume: bool = False
    connections: int = 64
    rate: int = 0
    routes: int = 1
    spread: int = 0
    consumers: int = 0
    # Requests at once that the upstream of the overload bears.
    capacity: int = 0
    proxies: tuple = EVERYBODY
    # Said below the table.
    note: str = ""

    @property
    def floor_forwards(self):
        """Whether the floor does a plain forward in the place of what is asked of the others."""
        return self.kind in ("policy", "refuse", "cache", "routes", "consumers")


def shared(name, **more):
    """A scenario as loadtest/scenarios.json has it."""
    entry = SHARED["scenarios"][name]
    fields = {key: entry[key] for key in ("title", "path", "method", "headers", "status") if key in entry}
    return Scenario(name=name, upload=entry.get("upload", 0), answer=entry.get("answer"), **fields, **more)


def scenarios():
    """All of them, in the order of the report. `{token}` in a header is filled in by the driver."""
    floor_plain = "The floor does a plain forward of the same answer, which is what policies are measured against."
    many = dict(kind="routes", spread=1000, note="Paths spread over all routes; the floor forwards plainly.")
    return [
        shared("plain"),
        shared("tls", tls=True),
        shared("tls-h2", tls=True, load="h2load"),
        Scenario("handshake", "New TLS connections, in full", load="handshakes", tls=True,
                 note="One client, one connection after the other; the rate is the client's, CPU is the figure."),
        Scenario("resume", "New TLS connections, resumed", load="handshakes", tls=True, resume=True,
                 note="As above, each with the session of the one before."),
        shared("large"),
        shared("upload"),
        shared("policy", kind="policy", routes=1000,
               note=floor_plain + " Envoy limits all callers together, and keeps verified tokens."),
        shared("refused-401", kind="refuse",
               note=floor_plain + " nginx, HAProxy and Caddy ask for a password, Envoy and Tollgate for a token."),
        shared("refused-429", kind="refuse", note=floor_plain + " Envoy limits all callers together."),
        shared("refused-404", kind="refuse", note=floor_plain),
        shared("cache-1k", kind="cache", note=floor_plain),
        shared("cache-1m", kind="cache", connections=16, note=floor_plain),
        Scenario("grpc", "gRPC, a unary call", load="h2load", kind="grpc", path="/answer", method="POST",
                 headers={"content-type": "application/grpc", "te": "trailers"}, data=b"\0\0\0\0\0", answer=5,
                 note="HTTP/2 in the clear on both sides, nginx as the server, with trailers."),
        Scenario("rate-5000", "5,000 requests a second, evenly spread", load="paced", rate=5000,
                 note="Open loop: time counts from when a request was due (no coordinated omission)."),
        Scenario("routes-1", "One route of the following two", kind="routes", routes=1, spread=1, path="/service-%d/item",
                 proxies=("tollgate", "floor"), note="Paths spread over all routes; the floor forwards plainly."),
        Scenario("routes-10k", "10,000 routes", routes=10_000, path="/service-%d/item",
                 proxies=("tollgate", "floor", "nginx", "haproxy", "envoy"), **{**many, "spread": 10_000}),
        Scenario("routes-100k", "100,000 routes", routes=100_000, path="/service-%d/item",
                 proxies=("tollgate", "floor", "nginx", "haproxy", "envoy"), **{**many, "spread": 100_000}),
        Scenario("consumers-1", "API keys, one consumer", kind="consumers", consumers=1,
                 headers={"x-api-key": "key-of-consumer-00000000"}, proxies=("tollgate", "floor"), note=floor_plain),
        Scenario("consumers-1m", "API keys, 1,000,000 consumers", kind="consumers", consumers=1_000_000,
                 headers={"x-api-key": "key-of-consumer-00500000"}, proxies=("tollgate", "floor"), note=floor_plain),
        Scenario("idle", "Idle connections, plain", load="idle", connections=2000,
                 note="KiB resident for each connection kept after one request, 2,000 connections."),
        Scenario("idle-tls", "Idle connections, TLS", load="idle", tls=True, connections=2000, note="The same in TLS."),
        Scenario("reload", "Reloads under load", load="reload", proxies=("tollgate", "nginx", "haproxy", "envoy", "caddy"),
                 note="Three reloads a round while 2,000 requests a second come, by `examples/load`: requests that got no answer (`failed`), and connections that ended without a word of it before, on which a client must send its request again (`silent`)."),
        Scenario("upgrade", "Upgrades under load", load="upgrade",
                 proxies=("tollgate", "nginx", "haproxy", "envoy", "caddy"),
                 note="One new process takes over under load; counted as above."),
        Scenario("overload", "Overload at twice capacity", load="overload", kind="overload", capacity=20, connections=200,
                 proxies=("tollgate", "floor", "nginx", "haproxy", "envoy"),
                 note="The upstream bears 20 requests at once, 20 ms each; twice that comes. `req/s` are good answers."),
    ]
