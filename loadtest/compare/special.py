"""Scenarios that are more than a load on a proxy at rest: idle connections, reloads, upgrades, overload; and gRPC's origin.

Each of `PROGRAMS` gets (run, name, scenario, setup, process) and answers a round's figures.
"""

import pathlib
import subprocess
import sys
import time

import restarts
from loads import Void
from machine import LOAD_CORE, cpu_at_rest, memory_kib

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def grpc_origin(work, port):
    """nginx: every call is answered with an empty message and the trailer `grpc-status: 0`.

    `mirror` has it read the whole call before it answers, as a server of gRPC does: what it answers early it follows by
    RST_STREAM, for which nginx as the proxy (1.22) fails the next call on that connection.
    """
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
        mirror /read; location = /read {{ internal; return 204; }}
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
        "errors": int(fields["failed"]),
        "silent": int(fields["silent"]),
        **{f"{p}_us": int(float(fields[f"{p}_us"])) for p in ("p50", "p99", "p999")},
    }


def reload(run, name, scenario, setup, process):
    """Three of them. What clients were failed is the figure, not a reason to void the run."""

    def thrice():
        for _ in range(3):
            restarts.RELOADS[name](run, setup)
            # Workers of before finish meanwhile; nobody reloads faster than by hand.
            time.sleep(0.5)

    return under_load(run, setup, run.options.seconds, thrice)


def upgrade(run, name, scenario, setup, process):
    """A new process takes over. The next round upgrades what this one left."""
    return under_load(run, setup, run.options.seconds, lambda: restarts.UPGRADES[name](run, setup))


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
