"""Scenarios that are more than a load on a proxy at rest: idle connections, reloads, upgrades, overload; and gRPC's origin.

Each of `PROGRAMS` gets (run, name, scenario, setup, process) and answers a round's figures.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys
import time

from loads import Void
from machine import LOAD_CORE, PROXY_CORE, CannotRun, ask, cpu_at_rest, memory_kib

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def grpc_origin(work, port):
    """nginx: every call is answered with an empty message and the trailer `grpc-status: 0`."""
    home = work / "grpc"
    home.mkdir(exist_ok=True)
    (home / "answer").write_bytes(b"\0\0\0\0\0")
    (home / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log crit; user root;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; http2_max_concurrent_streams 1024; default_type application/grpc;
    client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
    uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
    server {{
        listen 127.0.0.1:{port} http2; root {home}; error_page 405 =200 $uri; add_trailer grpc-status 0 always;
    }}
}}
""")
    return ["nginx", "-c", home / "nginx.conf", "-p", home]


def check_grpc(port, work):
    """A call: the message by curl, the trailer by nghttp (curl does not show trailers)."""
    url = f"http://127.0.0.1:{port}/answer"
    (work / "call").write_bytes(b"\0\0\0\0\0")
    fields = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    curl = ["curl", "-s", "--http2-prior-knowledge", "-m", "10", *fields, "--data-binary", f"@{work / 'call'}", url]
    message = subprocess.run(curl, capture_output=True, timeout=20).stdout
    said = subprocess.run(["nghttp", "-v", *fields, "-d", work / "call", url], capture_output=True, timeout=20).stdout
    if message != b"\0\0\0\0\0" or b"grpc-status: 0" not in said:
        raise Void("the call is not answered with its message and its trailer")


def idle(run, name, scenario, setup, process):
    """Memory of a connection that is kept after one request. One round alone: memory that was used once and is free
    again would flatter the next."""
    port = setup.tls_port if scenario.tls else setup.port
    client = subprocess.Popen(
        ["taskset", "-c", LOAD_CORE, sys.executable, REPOSITORY / "loadtest/idle.py", f"127.0.0.1:{port}",
         "tls" if scenario.tls else "plain", str(scenario.connections)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        if client.stdout.readline().strip() != "ready":
            raise Void(client.stderr.read()[-200:])
        before = memory_kib(process.pid, "VmRSS")
        client.stdin.write("go\n")
        client.stdin.flush()
        if client.stdout.readline().strip() != "open":
            raise Void(client.stderr.read()[-200:])
        cpu_at_rest(process.pid)
        grown = memory_kib(process.pid, "VmRSS") - before
    finally:
        client.kill()
        client.wait()
    return {"kib_each": round(grown / scenario.connections, 2), "errors": 0}


def under_load(run, setup, seconds, meanwhile):
    """`examples/load` for so long, 2,000 requests a second on 32 connections, a tenth of which are new ones all the
    time, while `meanwhile` is called; its fields."""
    command = ["taskset", "-c", LOAD_CORE, run.programs["load"], "http1", f"127.0.0.1:{setup.port}", "--connections",
               "32", "--rate", "2000", "--requests", "200", "--seconds", "0"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        time.sleep(0.5)
        meanwhile()
        time.sleep(max(0.5, seconds - (time.monotonic() - began)))
        client.terminate()
        said, _ = client.communicate(timeout=60)
    finally:
        if client.poll() is None:
            client.kill()
            client.wait()
    fields = dict(part.split("=", 1) for part in said.split() if "=" in part)
    took = time.monotonic() - began
    return {
        "rps": round(int(fields["answered"]) / took, 1),
        "errors": int(fields["failed"]) + int(fields["silent"]),
        **{f"{p}_us": int(float(fields[f"{p}_us"])) for p in ("p50", "p99", "p999")},
    }


def reload(run, name, scenario, setup, process):
    """Three of them. What clients were failed is the figure, not a reason to void the run."""

    def thrice():
        for number in range(3):
            if name == "tollgate":
                reload_tollgate(setup, f"more-{time.monotonic_ns()}")
            else:
                process.send_signal(signal.SIGUSR2 if name == "haproxy" else signal.SIGHUP)
                time.sleep(0.7)

    return under_load(run, setup, run.options.seconds, thrice)


def reload_tollgate(setup, route):
    """One more route in the file, which the gateway sees by itself; waits until it is in force."""
    path = setup.home / "gateway.yaml"
    config = json.loads(path.read_text())
    config["routes"][route] = {"match": {"path": f"/{route}"}, "to": "origin"}
    port = int(config["admin"]["address"].rsplit(":", 1)[1])
    before = reloads(port)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(config, indent=1))
    new.replace(path)
    deadline = time.monotonic() + 10
    while reloads(port) <= before:
        if time.monotonic() > deadline:
            raise Void("a changed configuration was not in force after ten seconds")
        time.sleep(0.05)


def reloads(admin):
    """How many it has applied."""
    text = ask(admin, "GET", "/metrics", {})[1].decode()
    found = re.search(r'^tollgate_reloads_total\{outcome="applied"\} (\d+)', text, re.M)
    return int(found[1]) if found else 0


def upgrade(run, name, scenario, setup, process):
    """A new process takes over. The next round upgrades what this one left."""
    if name == "nginx":
        raise CannotRun("nginx ignores USR2 unless it has put itself into the background, where it is not this driver's child")

    def once():
        config = setup.home / "gateway.yaml"
        done = subprocess.run(
            ["taskset", "-c", PROXY_CORE, setup.programs["tollgate"], "upgrade", "-c", config, "--binary",
             setup.programs["tollgate"]], capture_output=True, text=True, timeout=60,
        )
        serving = re.search(r"process (\d+) serves", done.stdout + done.stderr)
        if serving:
            run.processes.adopt(int(serving[1]))
        if done.returncode != 0 or not serving:
            raise Void(f"the upgrade failed: {done.stderr.strip()[-200:]}")

    return under_load(run, setup, run.options.seconds, once)


def overload(run, name, scenario, setup, process):
    """Twice as many requests a second as the upstream bears, open loop; good answers and their times."""
    rate = 2 * scenario.capacity / 0.02
    before = cpu_at_rest(process.pid)
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, run.programs["load"], "http1", f"127.0.0.1:{setup.port}", "--connections",
         str(scenario.connections), "--rate", str(rate), "--seconds", str(run.options.seconds)],
        capture_output=True, text=True, timeout=run.options.seconds + 60,
    )
    cpu = cpu_at_rest(process.pid) - before
    fields = dict(part.split("=", 1) for part in done.stdout.split() if "=" in part)
    total = int(fields["answered"]) + int(fields["wrong"])
    if not total:
        raise Void("nothing was answered")
    return {
        "rps": round(int(fields["answered"]) / run.options.seconds, 1),
        "refused": int(fields["wrong"]),
        "cpu_us": round(cpu * 1e6 / total, 2),
        **{f"{p}_us": int(float(fields[f"{p}_us"])) for p in ("p50", "p99", "p999")},
        "errors": int(fields["failed"]) - int(fields["wrong"]),
    }


PROGRAMS = {"idle": idle, "reload": reload, "upgrade": upgrade, "overload": overload}
# One round says all there is.
ONCE = ("idle",)
