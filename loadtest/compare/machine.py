"""Processes on cores of their own: what is started, what it costs, and that it ends."""

import http.client
import os
import platform
import pathlib
import signal
import socket
import subprocess
import time

PROXY_CORE, LOAD_CORE = "0", "1"
TICKS = os.sysconf("SC_CLK_TCK")


class CannotRun(Exception):
    """A scenario that a proxy cannot do here; its text is the reason, as the report gives it."""


def free_ports(count):
    """Ports of the system's choice, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class Processes:
    """What was started. `stop` ends all of it, by process id; every path out of a scenario goes through it."""

    def __init__(self, work):
        self.work = work
        self.running = []
        self.adopted = []

    def adopt(self, pid):
        """Takes on a process that one of ours started and left, so that it ends with the others."""
        self.adopted.append(pid)

    def start(self, name, core, command, port, environment=None, address="127.0.0.1"):
        """Starts `command` on `core` and waits until it listens on `port` of `address` (at most 30 s)."""
        log = open(self.work / f"{name}.log", "wb")
        process = subprocess.Popen(
            ["taskset", "-c", core, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **(environment or {})},
            cwd=self.work,
        )
        log.close()
        self.running.append(process)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((address, port), 1).close()
                return process
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    why = self.last_words(name) if process.poll() is not None else "it does not listen after 30 s"
                    raise CannotRun(f"did not start: {why}") from None
                time.sleep(0.02)

    def last_words(self, name):
        """The end of what a process wrote to standard error, without this machine's paths."""
        text = (self.work / f"{name}.log").read_text(errors="replace").strip()
        return " / ".join(text.replace(str(self.work), "WORK").splitlines()[-3:])[-300:]

    def stop(self):
        """Ends what runs: asks, and after five seconds insists."""
        everyone = [one for pid in self.adopted for one in tree(pid)]
        for pid in filter(alive, self.adopted):
            os.kill(pid, signal.SIGTERM)
        for process in reversed(self.running):
            everyone += [pid for pid in tree(process.pid) if pid != process.pid]
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running, self.adopted = [], []
        # Children of a server that did not end them (a killed nginx leaves its worker).
        deadline = time.monotonic() + 2
        while any(map(alive, everyone)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in filter(alive, everyone):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def alive(pid):
    """Whether it runs still (a zombie does not)."""
    fields = stat(pid)
    return fields is not None and fields[0] != "Z"


def stat(pid):
    """The fields of /proc/PID/stat from the third on (the second may hold blanks), or None."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(pid):
    """A process and everything below it."""
    found = [pid]
    for parent in found:
        try:
            for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def cpu_seconds(pid):
    """User and system time of a process, all its threads, and its children (those that ended included)."""
    total = 0
    for one in tree(pid):
        fields = stat(one)
        if fields:
            total += sum(map(int, fields[11:15]))
    return total / TICKS


def cpu_at_rest(pid):
    """The same once it does nothing: what was left to do belongs to the requests before (waits at most 5 s)."""
    deadline = time.monotonic() + 5
    now, last = cpu_seconds(pid), -1.0
    while now != last and time.monotonic() < deadline:
        time.sleep(0.1)
        now, last = cpu_seconds(pid), now
    return now


def memory_kib(pid, field="VmHWM"):
    """Resident memory of a process and its children: the most there was (VmHWM), or what there is (VmRSS)."""
    total = 0
    for one in tree(pid):
        try:
            status = pathlib.Path(f"/proc/{one}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(field + ":"))
    return total


def ask(port, method, path, headers, body=None):
    """One request by a client that is none of the load generators: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def describe():
    """The machine, as the report names it."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) >> 20
    return f"{os.cpu_count()} cores ({model or platform.machine()}), {memory} GiB, Linux {platform.release()}"
