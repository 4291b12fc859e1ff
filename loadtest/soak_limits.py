"""A soak of a gateway's limits by a million client addresses, with its memory as a curve.

    soak_limits.py TOLLGATE SECONDS SVG

A failure if it grows by more than FLAT from the middle of the run to its end, once all keys are known.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

# In MiB; and between two samples, in seconds.
FLAT, EACH = 16, 2.0
METRICS = {
    "keys": "tollgate_limit_keys",
    "forgotten": "tollgate_limit_keys_forgotten_total",
    "quotas": "tollgate_quota_keys",
    "quotas_forgotten": "tollgate_quota_keys_forgotten_total",
}


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


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


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


def scrape(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=20) as metrics:
        text = metrics.read().decode()
    values = {}
    for name, metric in METRICS.items():
        found = re.search(rf"^{metric}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.M)
        values[name] = float(found[1]) if found else 0.0
    return values


def svg(samples):
    """Memory (left axis, MiB) and keys known to the rate limit (right axis, thousands) over time."""
    width, height, left, right, top, bottom = 760, 320, 60, 60, 30, 40
    end = max(sample["at"] for sample in samples)
    most = max(sample["resident"] for sample in samples) * 1.2
    keys = max(max(sample["keys"] for sample in samples), 1) * 1.2

    def x(at):
        return left + (width - left - right) * at / end

    def y(share):
        return height - bottom - (height - top - bottom) * share

    def line(name, scale, color):
        points = " ".join(f"{x(sample['at']):.1f},{y(sample[name] / scale):.1f}" for sample in samples)
        return f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>'

    def text(at, anchor, color, what):
        return f'<text x="{at[0]:.0f}" y="{at[1]:.0f}" text-anchor="{anchor}" fill="{color}">{what}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for step in range(5):
        share = step / 4 / 1.2
        parts.append(f'<path stroke="#ddd" d="M{left} {y(share):.1f}H{width - right}"/>')
        parts.append(text((left - 6, y(share) + 4), "end", "#1f6feb", f"{most * share:.0f}"))
        parts.append(text((width - right + 6, y(share) + 4), "start", "#c4530a", f"{keys * share / 1000:.0f}k"))
        parts.append(text((x(end * step / 4), height - bottom + 18), "middle", "#333", f"{end * step / 4:.0f} s"))
    parts += [
        line("resident", most, "#1f6feb"),
        line("keys", keys, "#c4530a"),
        text((left, 18), "start", "#1f6feb", "resident memory, MiB"),
        text((width - right, 18), "end", "#c4530a", "keys known to the rate limit"),
        "</svg>\n",
    ]
    return "\n".join(parts)


def sample(pid, admin, began):
    return {"at": time.monotonic() - began, "resident": resident(pid), **scrape(admin)}


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
    started = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            configuration(f"{folder}/gateway.yaml", web, admin, f"{folder}/state")
            with open(f"{folder}/log", "wb") as log:
                run = [tollgate, "run", "-c", f"{folder}/gateway.yaml"]
                gateway = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=log)
            started.append(gateway)
            end = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", web), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > end or gateway.poll() is not None:
                        raise SystemExit("soak_limits.py: " + open(f"{folder}/log").read()[-2000:]) from None
                    time.sleep(0.05)
            script = os.path.join(os.path.dirname(__file__), "soak_limits.lua")
            run = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency", "-s", script, f"http://127.0.0.1:{web}/"]
            load = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
            started.append(load)
            began = time.monotonic()
            samples = [sample(gateway.pid, admin, began)]
            while load.poll() is None:
                time.sleep(EACH)
                samples.append(sample(gateway.pid, admin, began))
            report(samples, load.communicate()[0])
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                    process.wait()
    with open(path, "w", encoding="utf-8") as file:
        file.write(svg(samples))
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
