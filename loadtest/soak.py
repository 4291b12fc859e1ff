"""A soak by mixed traffic with reloads, with memory and file descriptors as curves.

    soak.py TOLLGATE LOAD SECONDS SVG

Fails if memory or descriptors grow (the medians of the last quarter beside those of the third), if a reload is
refused, if a client was failed, or if something is in flight at the end.
"""

import collections
import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "compare"))
from credentials import token  # noqa: E402
from machine import Processes, free_ports, memory_kib  # noqa: E402
from world import LOAD_CORE, Authority, curves, h2load_says, nginx, until, wrk_says  # noqa: E402

# What may come on top from the third quarter to the last, when all that has a bound is full: MiB, and descriptors.
# Between samples, and between reloads, in seconds.
SLACK_MIB, SLACK_DESCRIPTORS, EACH, RELOAD_EACH = 16, 16, 5.0, 10.0
GAUGES = ("http_in_flight", "upstream_in_flight", "concurrency_in_flight", "connections")


def configuration(work, ports, at):
    """That of a round: rates, routes and a listener come and go."""
    limits = "limits: { requests: 1000000000, idle: 10m, max_age: 1d, client_connections: 100000 }"
    side = f'  side: {{ address: "127.0.0.1:{ports["side"]}" }}\n' if at % 2 else ""
    extra = "".join(f"  extra-{n}: {{ match: {{ path: /extra/{n}/* }}, to: origin }}\n" for n in range(at % 7 * 20))
    consumers = "".join(
        f"  c{n}: {{ plan: {('gold', 'free')[n % 2]}, tenant: t{n % 50}, credentials: [{{ api_key: {{ key: key-of-{n}-which-is-long-enough }} }}] }}\n"
        for n in range(500)
    )
    return f"""version: 1
process: {{ workers: 1, state: {work}/state }}
admin: {{ address: "127.0.0.1:{ports["admin"]}", token: secret }}
telemetry: {{ access_log: {{ to: {{ file: {work}/access.log }} }} }}
caches: {{ kept: {{ memory: 16MiB, disk: {{ path: {work}/cache, size: 64MiB, objects: 50000 }} }} }}
stores: {{ main: {{ redis: {{ address: "127.0.0.1:{ports["redis"]}", timeout: 50ms }} }} }}
listeners:
  web: {{ address: "127.0.0.1:{ports["web"]}", trusted_proxies: [127.0.0.0/8], {limits} }}
  tls:
    address: 127.0.0.1:{ports["tls"]}
    {limits}
    tls: {{ certificates: [{{ certificate: {work}/localhost.pem, key: {work}/localhost.key }}] }}
{side}identity:
  providers:
    issuer: {{ jwt: {{ issuer: "https://issuer.test", audiences: [api], algorithms: [ES256], keys: {{ file: {work}/jwks.json }} }} }}
plans:
  gold: {{ rate: 1000000/s, quota: 1000000000/month, concurrency: 100 }}
  free: {{ rate: {500000 + at % 5}/s, quota: 100000000/day, concurrency: 50 }}
consumers:
{consumers}policies:
  defaults:
    flood: {{ rate: 100000/s, in_flight: 10000 }}
    concurrency: {{ max: 1000 }}
upstreams:
  origin: {{ endpoints: ["127.0.0.1:{ports["origin"]}"], limits: {{ between: 100..1000, wait: 5s }}, breaker: {{ failures: 90%, of_at_least: 100 }} }}
  sockets: {{ endpoints: ["127.0.0.1:{ports["echo"]}"] }}
routes:
  sockets: {{ match: {{ path: /socket }}, upgrades: [websocket], to: sockets }}
  plain: {{ match: {{ path: "/plain/*" }}, policies: {{ rate_limit: {{ key: client_ip, rate: 100000000/d }}, quota: {{ key: client_ip, max: 1000000/day }} }}, to: origin }}
  full:
    match: {{ path: "/full/{{id}}" }}
    policies:
      cors: {{ origins: ["https://app.example.com"] }}
      authenticate: {{ any_of: [{{ jwt: issuer }}] }}
      rate_limit: {{ key: client_ip, rate: {1000 + at % 3}/s }}
      authorize: {{ when: 'principal.subject == "alice"' }}
      headers: {{ request: {{ set: {{ x-id: "{{id}}" }} }}, response: {{ set: {{ x-round: "{at}" }} }} }}
      rewrite: {{ path: "/v1/{{id}}" }}
      compress: {{ min_size: 1B }}
    to: origin
  kept: {{ match: {{ path: "/kept/*" }}, policies: {{ cache: {{ store: kept, default_ttl: 20s }} }}, to: origin }}
  keys:
    match: {{ path: "/keys/*" }}
    policies:
      authenticate: {{ any_of: [{{ api_key: {{ header: x-api-key }} }}] }}
      rate_limit: {{ name: plan, key: consumer, plan: true }}
      quota: {{ name: plan, key: consumer, plan: true }}
      concurrency: {{ key: consumer, plan: true }}
      body_limit: {{ max: 1MiB }}
    to: origin
  shared: {{ match: {{ path: "/shared/*" }}, policies: {{ rate_limit: {{ key: client_ip, rate: 1000000/s, shared: main, on_failure: local }} }}, to: origin }}
  faulty: {{ match: {{ path: "/faulty/*" }}, policies: {{ fault: {{ delay: {{ by: 2ms, share: 20% }} }} }}, to: origin }}
{extra}"""


class Gateway:
    """What is asked of it over its admin listener, and of the kernel about it."""

    def __init__(self, pid, port):
        self.pid, self.port = pid, port

    def admin(self, path, method="GET"):
        ask = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        ask.add_header("authorization", "Bearer secret")
        with urllib.request.urlopen(ask, timeout=60) as answer:
            return answer.read().decode()

    def sample(self, began):
        metrics = self.admin("/metrics")

        def total(name):
            return sum(float(value) for value in re.findall(rf"^tollgate_{name}(?:{{.*}})? (\S+)$", metrics, re.M))

        return {
            "at": time.monotonic() - began,
            "mib": memory_kib(self.pid, "VmRSS") / 1024,
            "descriptors": len(os.listdir(f"/proc/{self.pid}/fd")),
            "keys": total("limit_keys") + total("quota_keys"),
            "snapshots": total("snapshots"),
            "requests": total("http_requests_total"),
            **{name: total(name) for name in GAUGES},
        }


def clients(work, ports, load, seconds, signed):
    """The load: {name: command}."""
    secure, to_tls = f"https://localhost:{ports['tls']}", ["--resolve", f"localhost:{ports['tls']}:127.0.0.1"]
    tls = f"127.0.0.1:{ports['tls']}"
    lua = os.path.join(os.path.dirname(__file__), "soak.lua")
    curl = (
        f"end=$(($(date +%s) + {seconds})); n=0; bad=0; while (($(date +%s) < end)); do "
        f"s=$(curl -s -m 20 -o /dev/null -w '%{{http_code}}' --cacert {work}/ca.pem {' '.join(to_tls)} {secure}/plain/curl);"
        " n=$((n + 1)); [[ $s = 200 ]] || bad=$((bad + 1)); sleep 0.2; done; echo requests $n failed $bad"
    )
    ours = ["--seconds", str(seconds), "--ca", f"{work}/ca.pem"]
    return {
        "wrk": ["env", f"SOAK_TOKEN={signed}", "wrk", "-t1", "-c48", f"-d{seconds}s", "-s", lua, f"http://127.0.0.1:{ports['web']}"],
        "h2load": ["h2load", "-t1", "-c4", "-m4", "-D", str(seconds), "--rps=50", f"--connect-to={tls}", f"{secure}/plain/h2load"],
        "curl": ["bash", "-c", curl],
        "http1-tls-new": [load, "http1", tls, "--path", "/plain/new", "--rate", "20", "--requests", "10", *ours],
        "websocket-tls": [load, "websocket", tls, "--path", "/socket", "--rate", "20", "--requests", "70", *ours],
    }


def failed(name, text):
    """How many of how many requests a client was failed."""
    if name == "wrk":
        return wrk_says(text)
    if name == "h2load":
        return h2load_says(text)
    if name == "curl":
        return tuple(map(int, re.search(r"requests (\d+) failed (\d+)", text).groups()))
    fields = dict(re.findall(r"(\w+)=(\d+)", text))
    return int(fields["answered"]), int(fields["failed"]) + int(fields["silent"])


def count_causes(log, causes):
    """Adds what the access log says of requests that got no good answer, and removes it."""
    with contextlib.suppress(FileNotFoundError), open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            status, cause = re.search(r'"status":(\w+),"cause":("?\w+"?)', line).groups()
            if not status.startswith(("1", "2")):
                causes[f"{status} {cause}"] += 1
        os.unlink(log)


def report(samples):
    print("| after s | requests | resident MiB | descriptors | keys of limits and quotas | connections | snapshots |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for share in range(13):
        one = samples[round(share * (len(samples) - 1) / 12)]
        cells = [f"{one[name]:.0f}" for name in ("at", "requests", "mib", "descriptors", "keys", "connections", "snapshots")]
        print("| " + " | ".join(cells) + " |")


def growth(samples):
    """What has grown too far."""
    quarter = max(1, len(samples) // 4)
    wrong = []
    for what, field, slack in (("resident MiB", "mib", SLACK_MIB), ("descriptors", "descriptors", SLACK_DESCRIPTORS)):
        early = statistics.median(sample[field] for sample in samples[2 * quarter : 3 * quarter])
        late = statistics.median(sample[field] for sample in samples[-quarter:])
        print(f"{what}: median {early:.1f} in the third quarter, {late:.1f} in the last")
        wrong += [f"{what} grow"] if late > early + slack else []
    return wrong


def main():
    tollgate, load, seconds, svg = os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    wrong, reloads, causes = [], 0, collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        ports = dict(zip(("web", "tls", "side", "admin", "redis", "origin", "echo"), free_ports(7)))
        signed = token(work)[2]
        Authority(work).issue()
        processes, running = Processes(work), {}
        try:
            processes.start("origin", LOAD_CORE, nginx(work, "origin", "127.0.0.1", ports["origin"]), ports["origin"])
            processes.start("echo", LOAD_CORE, [load, "echo", f"127.0.0.1:{ports['echo']}"], ports["echo"])
            flags = ["--port", ports["redis"], "--bind", "127.0.0.1", "--save", "", "--dir", folder]
            processes.start("redis", LOAD_CORE, ["redis-server", *flags], ports["redis"])
            (work / "gateway.yaml").write_text(configuration(work, ports, 0))
            pid = processes.start("gateway", "0", [tollgate, "run", "-c", f"{work}/gateway.yaml"], ports["tls"]).pid
            gateway = Gateway(pid, ports["admin"])
            for name, command in clients(work, ports, load, seconds, signed).items():
                with open(work / f"{name}.said", "wb") as said:
                    running[name] = subprocess.Popen(["taskset", "-c", LOAD_CORE, *command], stdout=said, stderr=said)
            began = time.monotonic()
            samples, next_reload = [], began + RELOAD_EACH
            while any(client.poll() is None for client in running.values()):
                samples.append(gateway.sample(began))
                if time.monotonic() >= next_reload:
                    next_reload += RELOAD_EACH
                    reloads += 1
                    (work / "next").write_text(configuration(work, ports, reloads))
                    os.rename(work / "next", work / "gateway.yaml")
                    gateway.admin("/reload", "POST")
                    # The log is rotated, so that the disk holds out.
                    if reloads % 12 == 0:
                        os.rename(work / "access.log", work / "old.log")
                        os.kill(pid, signal.SIGUSR1)
                        count_causes(work / "old.log", causes)
                time.sleep(EACH)
            report(samples)
            wrong += growth(samples)
            count_causes(work / "access.log", causes)
            print(f"{reloads} reloads; answers that were none, in the access log: {dict(causes) or 'none'}")
            for name in running:
                asked, bad = failed(name, (work / f"{name}.said").read_text())
                print(f"{name}: {asked:,} requests, {bad:,} failed")
                wrong += [f"{name} was failed"] if bad or not asked else []
            until("something is in flight still", lambda: not any(gateway.sample(began)[name] for name in GAUGES[:3]))
            last = gateway.sample(began)
            print("at the end: " + ", ".join(f"{name} {last[name]:.0f}" for name in (*GAUGES, "descriptors", "snapshots")))
        except Exception:
            sys.stderr.write(processes.last_words("gateway") + "\n")
            raise
        finally:
            for client in running.values():
                if client.poll() is None:
                    client.kill()
                    client.wait()
            processes.stop()
    left, right = ("mib", "", "resident memory, MiB"), ("descriptors", "", "file descriptors")
    pathlib.Path(svg).write_text(curves(samples, left, right))
    if wrong:
        raise SystemExit("soak.py: " + "; ".join(wrong))


main()
