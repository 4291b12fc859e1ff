"""What becomes of the requests of wrk, h2load and curl while something around the gateway breaks or changes.

    disturb.py TOLLGATE SECONDS [ONLY]

SECONDS is how long each disturbance is under load, ONLY a part of the name of those that are wanted. Prints a table; fails if a request failed in a row where none may.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "compare"))
from machine import Processes, free_ports, tree  # noqa: E402
from world import LOAD_CORE, Authority, h2load_says, nginx, until, wrk_says  # noqa: E402

class Names(threading.Thread):
    """A name server for one name: an address that can be changed, to live for a second."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            question, asker = self.socket.recvfrom(512)
            end = question.index(b"\0", 12) + 5
            kind = struct.unpack(">H", question[end - 4 : end - 2])[0]
            found = b""
            if kind == 1:
                found = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(self.address)
            head = question[:2] + struct.pack(">HHHHH", 0x8580, 1, 1 if found else 0, 0, 0)
            self.socket.sendto(head + question[12:end] + found, asker)


@dataclasses.dataclass
class Place:
    """Where everything is."""

    folder: pathlib.Path
    disk: pathlib.Path
    tollgate: str
    web: int
    tls: int
    admin: int
    redis: int
    origins: list
    named: int
    names: int

    def configuration(self):
        return f"""version: 1
process: {{ workers: 1, state: {self.disk}/state }}
admin: {{ address: "127.0.0.1:{self.admin}", token: secret }}
telemetry: {{ access_log: {{ to: {{ file: {self.disk}/access.log }} }} }}
dns: {{ nameservers: ["127.0.0.1:{self.names}"], family: ipv4 }}
caches: {{ kept: {{ memory: 1MiB, disk: {{ path: {self.disk}/cache, size: 64MiB }} }} }}
stores: {{ main: {{ redis: {{ address: "127.0.0.1:{self.redis}", timeout: 5ms }} }} }}
listeners:
  web:
    address: 127.0.0.1:{self.web}
    limits: {{ requests: 1000000000, idle: 10m, max_age: 1d }}
  tls:
    address: 127.0.0.1:{self.tls}
    limits: {{ requests: 1000000000, idle: 10m, max_age: 1d }}
    tls: {{ certificates: [{{ certificate: {self.folder}/localhost.pem, key: {self.folder}/localhost.key }}] }}
upstreams:
  pair: {{ endpoints: ["127.0.0.1:{self.origins[0]}", "127.0.0.1:{self.origins[1]}"], retry: {{}} }}
  named: {{ discover: {{ dns: "origin.test:{self.named}" }}, retry: {{}} }}
routes:
  pair: {{ match: {{ path: /pair }}, to: pair }}
  named: {{ match: {{ path: /named }}, to: named }}
  shared:
    match: {{ path: /shared }}
    policies: {{ rate_limit: {{ key: route, rate: 1000000/s, shared: main, on_failure: local }} }}
    to: pair
  disk:
    match: {{ path: "/disk/*" }}
    policies: {{ quota: {{ key: client_ip, max: 1000000000/day }}, cache: {{ store: kept, default_ttl: 1s }} }}
    to: pair
"""


class World:
    """What runs, and what can be done to it."""

    def __init__(self, place, authority, names):
        self.place, self.authority, self.names = place, authority, names
        self.processes = Processes(place.folder)
        self.by_name = {}

    def start(self, name, command, port, address="127.0.0.1", core=LOAD_CORE):
        self.by_name[name] = self.processes.start(name, core, command, port, address=address)

    def origin(self, at):
        port = self.place.origins[at]
        self.start(f"origin-{at}", nginx(self.place.folder, f"origin-{at}", "127.0.0.1", port), port)

    def named(self, address):
        port = self.place.named
        self.start(address, nginx(self.place.folder, address, address, port), port, address)

    def redis(self):
        port = self.place.redis
        flags = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.place.folder)]
        self.start("redis", ["redis-server", *flags], port)

    def barred(self):
        """Attempts that the retry budget did not allow."""
        return sum(map(float, re.findall(r"^tollgate_retries_barred_total\S* (\S+)", self.admin("/metrics"), re.M)))

    def signal(self, name, number):
        os.kill(self.by_name[name].pid, number)

    def end(self, name):
        process = self.by_name[name]
        process.terminate()
        process.wait(10)

    def admin(self, path, method="GET"):
        ask = urllib.request.Request(f"http://127.0.0.1:{self.place.admin}{path}", method=method)
        ask.add_header("authorization", "Bearer secret")
        with urllib.request.urlopen(ask, timeout=10) as answer:
            return answer.read().decode()


def serial(place):
    """Of the certificate that the gateway shows."""
    context = ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    with socket.create_connection(("127.0.0.1", place.tls), 5) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            return connection.getpeercert()["serialNumber"]


class Curl(threading.Thread):
    """A new process of curl, and with it a new connection, for each request."""

    def __init__(self, url, extra, seconds):
        super().__init__()
        self.command = ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", *extra, url]
        self.end = time.monotonic() + seconds
        self.asked = self.failed = 0
        self.seen = {}

    def run(self):
        while time.monotonic() < self.end:
            ran = subprocess.run(self.command, capture_output=True, text=True)
            status = ran.stdout
            self.asked += 1
            if status != "200":
                self.failed += 1
                status += f" ({ran.stderr.strip()})" if ran.stderr else ""
                self.seen[status] = self.seen.get(status, 0) + 1
            time.sleep(0.02)


def under_load(place, path, seconds, disturb):
    """Three programs ask for `path` for so long, and a quarter into it `disturb` is called. What each of them saw."""
    plain, secure = f"http://127.0.0.1:{place.web}{path}", f"https://localhost:{place.tls}{path}"
    commands = {
        "wrk": ["wrk", "-t1", "-c8", f"-d{seconds}s", plain],
        "h2load": ["h2load", "-t1", "-c4", "-m8", "-D", str(seconds), f"--connect-to=127.0.0.1:{place.tls}", secure],
    }
    running = {
        name: subprocess.Popen(["taskset", "-c", LOAD_CORE, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name, command in commands.items()
    }
    curl = Curl(secure, ["--cacert", str(place.folder / "ca.pem"), "--resolve", f"localhost:{place.tls}:127.0.0.1"], seconds)
    curl.start()
    time.sleep(seconds / 4)
    try:
        said = disturb() or ""
    finally:
        texts = {name: process.communicate(timeout=seconds + 60)[0] for name, process in running.items()}
        curl.join()
    seen = [f"curl: {count} x {status}" for status, count in curl.seen.items()]
    return [wrk_says(texts["wrk"]), h2load_says(texts["h2load"]), (curl.asked, curl.failed)], "; ".join(filter(None, [said, *seen]))


@contextlib.contextmanager
def small_disk(folder):
    """A file system of 16 MiB of its own, or None where this user may not mount."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def disturbances(world, seconds, may_mount):
    """Rows: what is done, the path, whether no request may fail, and how to do it."""
    place = world.place
    pause = seconds / 4

    def restart_one():
        world.end("origin-0")
        time.sleep(pause)
        world.origin(0)

    def kill_one():
        master = world.by_name["origin-0"]
        # With its worker, which has the connections: without its master it would go on.
        for pid in tree(master.pid):
            os.kill(pid, signal.SIGKILL)
        master.wait()
        time.sleep(pause)
        world.origin(0)

    def reload_both():
        for at in (0, 1):
            world.signal(f"origin-{at}", signal.SIGHUP)

    def lose_both():
        for at in (0, 1):
            world.end(f"origin-{at}")
        time.sleep(pause / 2)
        for at in (0, 1):
            world.origin(at)
        return f"both were away for {pause / 2:.0f} s"

    def move_name():
        world.named("127.0.0.3")
        world.names.address = "127.0.0.3"
        time.sleep(pause)
        world.end("127.0.0.2")

    def renew():
        before = serial(place)
        world.authority.issue()
        until("the new certificate is not shown", lambda: serial(place) != before)

    def reload():
        for _ in range(5):
            world.admin("/reload", "POST")
            time.sleep(pause / 5)

    def pause_redis():
        world.signal("redis", signal.SIGSTOP)
        time.sleep(pause)
        world.signal("redis", signal.SIGCONT)

    def kill_redis():
        world.signal("redis", signal.SIGKILL)
        world.by_name["redis"].wait()
        time.sleep(pause)
        world.redis()

    def fill_disk():
        with open(place.disk / "ballast", "wb") as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(65536))
                ballast.flush()
        free = shutil.disk_usage(place.disk).free
        time.sleep(pause)
        lost = re.search(r"^tollgate_access_log_dropped_total\S* (\S+)", world.admin("/metrics"), re.M)
        os.unlink(place.disk / "ballast")
        return f"{free} bytes were free; lines of the access log lost: {float(lost[1]):.0f}" if lost else ""

    yield "nothing", "/pair", True, lambda: None
    yield "one of two origins restarts", "/pair", True, restart_one
    yield "one of two origins is killed and comes back", "/pair", True, kill_one
    yield "both origins reload (nginx, SIGHUP)", "/pair", True, reload_both
    yield "all origins are away", "/pair", False, lose_both
    yield "a name's address changes, then the old one goes", "/named", True, move_name
    yield "certificates are renewed", "/pair", True, renew
    yield "five reloads", "/pair", True, reload
    yield "Redis is paused", "/shared", True, pause_redis
    yield "Redis is killed and comes back", "/shared", True, kill_redis
    if may_mount:
        yield "the disk of log, cache and quotas is full", "/disk/a", True, fill_disk


def main():
    tollgate, seconds, only = os.path.realpath(sys.argv[1]), int(sys.argv[2]), (sys.argv + [""])[3]
    wrong = []
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        (folder / "disk").mkdir()
        names = Names("127.0.0.2")
        names.start()
        web, tls, admin, redis, one, two, named = free_ports(7)
        place = Place(folder, folder / "disk", tollgate, web, tls, admin, redis, [one, two], named, names.port)
        authority = Authority(folder)
        authority.issue()
        world = World(place, authority, names)
        with small_disk(place.disk) as may_mount:
            try:
                for at in (0, 1):
                    world.origin(at)
                world.named("127.0.0.2")
                world.redis()
                (folder / "gateway.yaml").write_text(place.configuration())
                world.start("gateway", [tollgate, "run", "-c", str(folder / "gateway.yaml")], tls, core="0")
                until("no connection to Redis", lambda: 'tollgate_store_connected{store="main"} 1' in world.admin("/metrics"))
                print("| what happens | wrk, HTTP/1.1 | failed | h2load, HTTP/2 over TLS | failed | curl, new connections | failed | |")
                print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
                for what, path, none_may_fail, disturb in disturbances(world, seconds, may_mount):
                    if only not in what:
                        continue
                    before = world.barred()
                    counts, said = under_load(place, path, seconds, disturb)
                    if barred := world.barred() - before:
                        said = "; ".join(filter(None, [said, f"retries beyond the budget: {barred:.0f}"]))
                    cells = " | ".join(f"{asked:,} | {failed:,}" for asked, failed in counts)
                    print(f"| {what} | {cells} | {said} |", flush=True)
                    if none_may_fail and any(failed for _, failed in counts):
                        wrong.append(what)
                    if any(asked == 0 for asked, _ in counts):
                        wrong.append(f"{what}: nothing was asked")
                time.sleep(0.5)
                flying = re.findall(r"^tollgate_(?:http|upstream)_in_flight\S* (\S+)", world.admin("/metrics"), re.M)
                descriptors = len(os.listdir(f"/proc/{world.by_name['gateway'].pid}/fd"))
                print(f"\nin flight at the end: {', '.join(flying)}; descriptors: {descriptors}")
            finally:
                world.processes.stop()
    if wrong:
        raise SystemExit("disturb.py: requests failed: " + "; ".join(wrong))


main()
