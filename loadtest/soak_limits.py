"""A soak of a gateway's limits by a million client addresses, with its memory as a curve.

    soak_limits.py TOLLGATE SECONDS SVG

A failure if it grows by more than FLAT from the middle of the run to its end, once all keys are known.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "compare"))
from machine import Processes, free_ports, memory_kib  # noqa: E402
from world import curves  # noqa: E402

# In MiB; and between two samples, in seconds.
FLAT, EACH = 16, 2.0
METRICS = {
    "keys": "tollgate_limit_keys",
    "forgotten": "tollgate_limit_keys_forgotten_total",
    "quotas": "tollgate_quota_keys",
    "quotas_forgotten": "tollgate_quota_keys_forgotten_total",
}


def configuration(path, web, admin, state):
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"""version: 1
process: {{ workers: 1, state: {state} }}
admin: {{ address: "127.0.0.1:{admin}" }}
listeners:
  web:
    address: 127.0.0.1:{web}
    trusted_proxies: [127.0.0.0/8]
    limits: {{ requests: 1000000000, idle: 10m, max_age: 1d, client_connections: 100000 }}
routes:
  all:
    match: {{ path: / }}
    policies:
      rate_limit: {{ key: client_ip, rate: 100/d }}
      quota: {{ key: client_ip, max: 10000/day }}
    to: {{ respond: {{ body: ok }} }}
"""
        )


def scrape(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=20) as metrics:
        text = metrics.read().decode()
    values = {}
    for name, metric in METRICS.items():
        found = re.search(rf"^{metric}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M)
        values[name] = float(found[1]) if found else 0.0
    return values


def sample(pid, admin, began):
    return {"at": time.monotonic() - began, "resident": memory_kib(pid, "VmRSS") / 1024, **scrape(admin)}


def report(samples, text):
    print("| after s | resident MiB | rate limit's keys | forgotten | quota's keys | forgotten |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for share in range(11):
        one = samples[round(share * (len(samples) - 1) / 10)]
        counts = " | ".join(f"{one[name]:.0f}" for name in METRICS)
        print(f"| {one['at']:.0f} | {one['resident']:.1f} | {counts} |")
    for line in re.findall(r"^ *(\d+ requests in .*|Non-2xx.*|Socket errors.*|99% .*|Requests/sec.*)$", text, re.M):
        print(line.strip())


def main():
    tollgate, seconds, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    web, admin = free_ports(2)
    with tempfile.TemporaryDirectory() as folder:
        processes, load = Processes(pathlib.Path(folder)), None
        try:
            configuration(f"{folder}/gateway.yaml", web, admin, f"{folder}/state")
            gateway = processes.start("gateway", "0", [tollgate, "run", "-c", f"{folder}/gateway.yaml"], web)
            script = os.path.join(os.path.dirname(__file__), "soak_limits.lua")
            run = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", "-s", script, f"http://127.0.0.1:{web}/"]
            load = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
            began = time.monotonic()
            samples = [sample(gateway.pid, admin, began)]
            while load.poll() is None:
                time.sleep(EACH)
                samples.append(sample(gateway.pid, admin, began))
            report(samples, load.communicate()[0])
        finally:
            if load and load.poll() is None:
                load.kill()
                load.wait()
            processes.stop()
    left, right = ("resident", "", "resident memory, MiB"), ("keys", "", "keys known to the rate limit")
    pathlib.Path(path).write_text(curves(samples, left, right), encoding="utf-8")
    # Flat once nearly all keys are known.
    full = [one["resident"] for one in samples if one["keys"] >= 0.98 * samples[-1]["keys"]]
    third = max(1, len(full) // 3)
    grown = max(full[-third:]) - max(full[:-third] or full)
    print(f"from {max(full[:-third] or full):.1f} MiB at most to {max(full[-third:]):.1f} MiB in the last third")
    if samples[-1]["keys"] < 900_000:
        print("not all keys were seen: too short a run to tell whether it is flat")
    elif grown > FLAT:
        raise SystemExit(f"soak_limits.py: it has grown by {grown:.1f} MiB")


main()
