"""Two gateways that share limits in a Redis, which is paused, killed and restarted under load.

    shared_limits.py TOLLGATE SECONDS

SECONDS is how long each state lasts. Prints tables: that the limit holds under wrk, and what became of
requests in each state by `on_failure`.
"""

import collections
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "compare"))
from machine import free_ports  # noqa: E402
from world import until  # noqa: E402

# Routes without a limit, with one that the gateway decides, with one in Redis: what a decision costs.
PRICED = {"free": "", "here": "rate_limit: { key: route, rate: 1000000/s }", "there": "rate_limit: { key: route, rate: 1000000/s, shared: main }", "leased": "rate_limit: { key: route, rate: 1000000/s, shared: main, lease: 100 }"}
RATE, MODES = 200, ("local", "allow", "deny")
# Clients for each gateway, and the pause after each answer: well over the limits, well under what fits.
CLIENTS, PAUSE = 6, 0.008


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def configuration(path, redis, web, admin):
    limits = "".join(
        f"""
  {mode}:
    match: {{ path: /{mode} }}
    policies:
      rate_limit: {{ key: route, rate: {RATE}/s, shared: main, on_failure: {mode}, local_share: 50% }}
    to: {{ respond: {{ body: ok }} }}"""
        for mode in MODES
    ) + "".join(
        f"""
  {name}:
    match: {{ path: /{name} }}
    policies: {{ {policy} }}
    to: {{ respond: {{ body: ok }} }}"""
        for name, policy in PRICED.items()
    )
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"""version: 1
process: {{ workers: 1 }}
admin: {{ address: "127.0.0.1:{admin}" }}
listeners:
  web:
    address: 127.0.0.1:{web}
    limits: {{ requests: 1000000000, idle: 10m, max_age: 1d, client_connections: 100000 }}
stores:
  main: {{ redis: {{ address: "127.0.0.1:{redis}", timeout: 5ms }} }}
routes:{limits}
"""
        )


class Redis:
    def __init__(self, port, folder):
        self.port, self.folder, self.process = port, folder, None

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder],
            stdout=subprocess.DEVNULL,
        )
        until("Redis does not listen", lambda: accepts(self.port))

    def ask(self, command):
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(command.encode() + b"\r\n")
            head, body = b"", b""
            while b"\r\n" not in head:
                head += connection.recv(65536)
            head, body = head.split(b"\r\n", 1)
            while len(body) < int(head[1:]):
                body += connection.recv(65536)
            return body.decode()

    def accepted(self):
        """Connections that it has accepted, this one included."""
        return int(re.search(r"total_connections_received:(\d+)", self.ask("INFO stats"))[1])

    def signal(self, number):
        self.process.send_signal(number)


class Client(threading.Thread):
    """One kept connection that asks for each of the routes in turn."""

    def __init__(self, port, rows, over):
        super().__init__(daemon=True)
        self.port, self.rows, self.over = port, rows, over

    def run(self):
        connection, turn = None, 0
        while not self.over.is_set():
            mode = MODES[turn % len(MODES)]
            turn += 1
            began = time.monotonic()
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(f"GET /{mode} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                status = answer(connection)
            except (OSError, ValueError):
                connection, status = None, "broken"
            self.rows.append((began, mode, status, time.monotonic() - began))
            time.sleep(PAUSE)


def answer(connection):
    text = b""
    while b"\r\n\r\n" not in text:
        piece = connection.recv(65536)
        if not piece:
            raise OSError("closed")
        text += piece
    head, body = text.split(b"\r\n\r\n", 1)
    length = re.search(rb"content-length: *(\d+)", head, re.I)
    left = int(length[1]) - len(body) if length else 0
    while left > 0:
        left -= len(connection.recv(65536))
    return head[9:12].decode()


def connected(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as metrics:
        return b'tollgate_store_connected{store="main"} 1' in metrics.read()


def holds(webs, seconds):
    """What both admit under wrk, and the most that one gateway would have."""
    began = time.monotonic()
    runs = [
        subprocess.Popen(
            ["wrk", "-t1", "-c32", f"-d{seconds}s", f"http://127.0.0.1:{port}/deny"], stdout=subprocess.PIPE, text=True
        )
        for port in webs
    ]
    texts = [run.communicate()[0] for run in runs]
    took = time.monotonic() - began
    total = sum(int(re.search(r"(\d+) requests in", text)[1]) for text in texts)
    refused = sum(int(m[1]) for text in texts if (m := re.search(r"Non-2xx or 3xx responses: (\d+)", text)))
    return total, total - refused, RATE + RATE * took, took


def cpu(pid):
    """What a process has run so far, all threads: user and system, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return tuple(int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:13])


def prices(port, pid, seconds):
    """CPU for a request to each of the priced routes in microseconds, user and system: medians of three runs in turns."""
    each = {name: [] for name in PRICED}
    for _ in range(3):
        for name in PRICED:
            before = cpu(pid)
            run = ["wrk", "-t1", "-c32", f"-d{seconds}s", f"http://127.0.0.1:{port}/{name}"]
            text = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout
            count = int(re.search(r"(\d+) requests in", text)[1])
            each[name].append([1e6 * (now - then) / count for now, then in zip(cpu(pid), before)])
    return {name: [sorted(part)[1] for part in zip(*runs)] for name, runs in each.items()}


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def report(rows, states):
    print("| state | on_failure | a second: 200 | 429 | 503 | broken | p50 ms | p99 ms | longest ms |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, start, end in states:
        for mode in MODES:
            mine = [row for row in rows if row[1] == mode and start <= row[0] < end]
            count = collections.Counter(row[2] for row in mine)
            each = [f"{count[status] / (end - start):.0f}" for status in ("200", "429", "503")]
            times = [1000 * row[3] for row in mine]
            tail = [f"{value:.1f}" for value in (percentile(times, 0.5), percentile(times, 0.99), max(times, default=0))]
            cells = [name, f"`{mode}`", *each, str(count["broken"]), *tail]
            print("| " + " | ".join(cells) + " |")


def last_refused(rows, since, end):
    """When the last request that was refused for want of the store came, in seconds after `since`."""
    late = [row[0] - since for row in rows if row[2] == "503" and since <= row[0] < end]
    return max(late, default=0.0)


def main():
    tollgate, seconds = sys.argv[1], float(sys.argv[2])
    store, *ports = free_ports(5)
    webs, admins = ports[:2], ports[2:]
    with tempfile.TemporaryDirectory() as folder:
        redis, gateways, over = Redis(store, folder), [], threading.Event()
        try:
            redis.start()
            for at, (web, admin) in enumerate(zip(webs, admins)):
                path = os.path.join(folder, f"gateway-{at}.yaml")
                configuration(path, store, web, admin)
                log = open(os.path.join(folder, f"gateway-{at}.log"), "wb")
                run = [tollgate, "run", "-c", path]
                gateways.append(subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=log))
            for web, admin in zip(webs, admins):
                until("a gateway does not listen", lambda web=web: accepts(web))
                until("no connection to Redis", lambda admin=admin: connected(admin))
            total, admitted, most, took = holds(webs, max(2, int(seconds)))
            print(f"wrk on both for {took:.2f} s: {total} requests, {admitted} admitted, {most:.0f} are the most that can be")
            wrong = [] if admitted <= most else ["more were admitted than one gateway would have"]

            print("\n| CPU of a request, us | user | system | both | more than without |")
            print("| --- | ---: | ---: | ---: | ---: |")
            priced = prices(webs[0], gateways[0].pid, 2)
            for name, what in (("free", "no limit"), ("here", "a limit of the gateway's own"), ("there", "one in Redis"), ("leased", "one in Redis, leased by 100")):
                user, system = priced[name]
                more = user + system - sum(priced["free"])
                print(f"| {what} | {user:.1f} | {system:.1f} | {user + system:.1f} | {more:.1f} |")
            print()

            rows = []
            clients = [Client(port, rows, over) for port in webs for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            states, back = [], {}

            def state(name, settle=0.0):
                time.sleep(settle)
                start = time.monotonic()
                time.sleep(seconds)
                states.append((name, start, time.monotonic()))

            state("all there", 1.0)
            before = redis.accepted()
            for what, lose, find in (
                ("paused", lambda: redis.signal(signal.SIGSTOP), lambda: redis.signal(signal.SIGCONT)),
                ("killed", lambda: redis.signal(signal.SIGKILL), redis.start),
            ):
                lose()
                state(f"{what} (SIG{'STOP' if what == 'paused' else 'KILL'})")
                if what == "killed":
                    redis.process.wait()
                    # Those of `accepts` and of `ask`.
                    before = 0
                since = time.monotonic()
                find()
                until("a gateway does not come back", lambda: all(connected(admin) for admin in admins))
                back[what] = since, time.monotonic() - since
                state(f"after it was {what}", 0.3)
                now = redis.accepted()
                back[what] += (now - before - (2 if what == "killed" else 1), states[-1][2])
            over.set()
            for client in clients:
                client.join(10)
            report(rows, states)
            print("\n| Redis was | both gateways connected after | last 503 after | connections that they made |")
            print("| --- | ---: | ---: | ---: |")
            for what, (since, took, made, end) in back.items():
                print(f"| {what} | {took:.2f} s | {last_refused(rows, since, end):.2f} s | {made} |")
            wrong += [f"{count} requests broke" for count in [sum(row[2] == "broken" for row in rows)] if count]
            if wrong:
                raise SystemExit("shared_limits.py: " + "; ".join(wrong))
        finally:
            over.set()
            for process in [*gateways, redis.process]:
                if process and process.poll() is None:
                    process.kill()
                    process.wait()


main()
