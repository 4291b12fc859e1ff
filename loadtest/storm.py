"""Writes one configuration after the other and has each of them put in force.

    storm.py CONFIG CERTIFICATES ADMIN PID RELOADS PAUSE

CONFIG is the file that the gateway PID reads, CERTIFICATES the folder that `reload_storm.sh` has filled, ADMIN the
address of the admin listener, PAUSE the seconds between two reloads. With RELOADS 0 it writes the first one and ends.
Prints what the process has at every twentieth of the way. Fails if a reload is not applied, or if memory or file
descriptors grow: the medians of the last quarter of the samples beside those of the second.
"""

import http.client
import json
import os
import re
import statistics
import sys
import time

SITES = 12
ROUTES = 60
# Memory wanders by some MiB from one sample to the next; 8 KiB that every reload lost would be as much by the end.
SLACK_KIB = 4096


def configuration(at, certificates):
    """The configuration of a round. Only `all`, the two listeners and the name localhost are in every one."""
    limits = (
        f"{{ requests: 1000000000, max_age: 1d, idle: {60 + at % 5}s, header_time: {10 + at % 3}s,"
        f" body: {1 + at % 7}MiB, headers: {32 + at % 9}KiB, client_connections: {2000 + at % 11} }}"
    )
    names = [f"localhost-{at % 4}"] + [f"site-{(at + more) % SITES}" for more in range(4)]
    pems = ", ".join(f"{{ certificate: {certificates}/{name}.pem, key: {certificates}/{name}.key }}" for name in names)
    lines = [
        "version: 1",
        "process: { workers: 1 }",
        "admin: { address: 127.0.0.1:19019, token: storm }",
        "listeners:",
        f"  plain: {{ address: 127.0.0.1:19011, h2c: true, limits: {limits} }}",
        f"  tls: {{ address: 127.0.0.1:19012, limits: {limits}, tls: {{ certificates: [{pems}] }} }}",
        "  bulk: { address: 127.0.0.1:19013 }",
    ]
    if at % 10 >= 5:
        lines.append("  side: { address: 127.0.0.1:19014 }")
    more = ", 127.0.0.1:19003" if at % 2 else ""
    weight = "" if at % 3 else f", {{ address: 127.0.0.1:19005, weight: {1 + at % 5} }}"
    lines += [
        "upstreams:",
        f"  origin: {{ endpoints: [127.0.0.1:19000{more}{weight}], idle_timeout: 5s, timeouts: {{ read: {20 + at % 4}s }} }}",
        "  bulk: { endpoints: [127.0.0.1:19004] }",
    ]
    lines += [f"  u{at % 17 + number}: {{ endpoints: [127.0.0.1:19000], idle_timeout: 5s }}" for number in range(6)]
    policies = f"headers: {{ response: {{ set: {{ x-round: '{at}' }} }} }}, body_limit: {{ max: {1 + at % 6}MiB }}"
    lines += ["routes:", f"  all: {{ on: [plain, tls], policies: {{ {policies} }}, to: origin }}", "  bulk: { on: [bulk], to: bulk }"]
    for number in range(ROUTES):
        name = (at * 7 + number * 3) % (3 * ROUTES)
        upstream = at % 17 + number % 6
        lines.append(
            f"  r{name}: {{ match: {{ path: /r/{name}/*, methods: [GET, POST] }},"
            f" policies: {{ headers: {{ request: {{ set: {{ x-route: r{name} }} }} }} }}, to: u{upstream} }}"
        )
    return "\n".join(lines) + "\n"


class Gateway:
    def __init__(self, config, certificates, admin, pid):
        self.config, self.certificates, self.pid = config, certificates, pid
        self.admin = http.client.HTTPConnection(admin, timeout=60)

    def write(self, at):
        with open(self.config + ".next", "w") as file:
            file.write(configuration(at, self.certificates))
        os.rename(self.config + ".next", self.config)

    def reload(self, at):
        self.write(at)
        began = time.monotonic()
        self.admin.request("POST", "/reload", headers={"authorization": "Bearer storm", "content-length": "0"})
        answer = json.loads(self.admin.getresponse().read())
        if answer["outcome"] != "applied" or answer["needs_upgrade"]:
            raise SystemExit(f"storm.py: reload {at}: {answer}")
        return (time.monotonic() - began) * 1000

    def sample(self):
        self.admin.request("GET", "/metrics")
        text = self.admin.getresponse().read().decode()
        snapshots = int(float(re.search(r"^tollgate_snapshots (\S+)", text, re.M).group(1)))
        connections = sum(float(value) for value in re.findall(r"^tollgate_connections\{.*\} (\S+)", text, re.M))
        with open(f"/proc/{self.pid}/status") as status:
            resident = int(re.search(r"^VmRSS:\s+(\d+)", status.read(), re.M).group(1))
        return resident, len(os.listdir(f"/proc/{self.pid}/fd")), int(connections), snapshots


def main():
    config, certificates, admin, pid, reloads, pause = sys.argv[1:]
    reloads, pause = int(reloads), float(pause)
    if reloads == 0:
        with open(config, "w") as file:
            file.write(configuration(0, certificates))
        return
    gateway = Gateway(config, certificates, admin, pid)
    samples, times = [], []
    print(f"{'reloads':>8}{'resident KiB':>14}{'descriptors':>13}{'connections':>13}{'snapshots':>11}{'reload ms':>11}")
    for at in range(1, reloads + 1):
        times.append(gateway.reload(at))
        if at % max(1, reloads // 20) == 0:
            samples.append(gateway.sample())
            resident, descriptors, connections, snapshots = samples[-1]
            took = statistics.median(times[-max(1, reloads // 20) :])
            print(f"{at:>8}{resident:>14}{descriptors:>13}{connections:>13}{snapshots:>11}{took:>11.1f}", flush=True)
        time.sleep(pause)
    quarter = max(1, len(samples) // 4)
    for what, column, slack in (("resident KiB", 0, SLACK_KIB), ("descriptors", 1, 16)):
        early = statistics.median(sample[column] for sample in samples[quarter : 2 * quarter])
        late = statistics.median(sample[column] for sample in samples[-quarter:])
        print(f"{what}: median {early:.0f} in the second quarter, {late:.0f} in the last")
        if late > early + slack:
            raise SystemExit(f"storm.py: {what} grow")


main()
