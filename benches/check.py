#!/usr/bin/env python3
"""Instructions and allocations, held against a baseline: check.py check|baseline PROFILE TOLLGATE ORIGIN [BASELINE]

`make bench-check` and `make bench-baseline` call it. Two kinds of figures, both counted by valgrind's callgrind, which
neither other programs on the machine nor its clock disturb:

- operations: what benches/*_instructions.rs count (router, chain, policies, access log line, compile, cache);
- whole requests through the real binary: N requests on one connection between two dumps, so that its start does not
  count, five times, the median; instructions of all threads, and calls to the allocator.

A figure that grew by more than 3 % is red (exit code 1). Where compiler, C library or valgrind are not those of the
baseline, figures are not comparable: it says so, and is not red.
"""

import json
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "loadtest" / "compare"))

import credentials  # noqa: E402
import gateway  # noqa: E402
from machine import CannotRun, Processes, free_ports  # noqa: E402
from scenarios import scenarios  # noqa: E402

BASELINE = HERE / "baseline.json"
BENCHES = ("router_instructions", "policies_instructions", "cache_instructions")
WHOLE = ("plain", "policy", "refused-401", "refused-404", "cache-1k")
GROWTH = 0.03
REQUESTS, TIMES, WARM = 300, 5, 200


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def environment(profile):
    """What figures depend on besides the code."""
    return {
        "profile": profile,
        "rustc": output("rustc", "--version"),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": output("valgrind", "--version"),
        "machine": platform.machine(),
    }


def operations(profile):
    """{bench: instructions}, of the benches that count them."""
    found = {}
    for bench in BENCHES:
        command = ["cargo", "bench", "--locked", "--profile", profile, "--bench", bench]
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
        if done.returncode != 0:
            sys.exit(f"{bench}: {done.stderr[-2000:]}")
        found |= parse(bench, done.stdout)
    return found


def parse(bench, text):
    """What gungraun prints: a line with the name, below it one with the count, before a bar."""
    found, name = {}, None
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
        if begins := re.match(rf"{bench}::\w+::(\w+) (\w+)", line):
            name = f"{begins[1]} {begins[2]}"
        elif name and (count := re.match(r"\s+Instructions:\s+(\d+)\|", line)):
            found[name] = int(count[1])
            name = None
    if not found:
        sys.exit(f"{bench} printed no counts:\n{text[-2000:]}")
    return found


class Setup:
    """What gateway.tollgate wants to know."""

    def __init__(self, scenario, home, origin, programs):
        self.scenario, self.home, self.origin, self.programs = scenario, home, origin, programs
        self.port, self.tls_port = free_ports(2)
        self.authority, self.certificate, self.key = credentials.certificates(home)
        self.jwks, self.public_key, self.token = credentials.token(home)


def whole_requests(tollgate, origin):
    """{scenario: {"instructions": …, "allocations": …}} a request; a text where it cannot run."""
    found = {}
    for scenario in scenarios():
        if scenario.name in WHOLE:
            with tempfile.TemporaryDirectory(prefix="bench-") as home:
                processes = Processes(pathlib.Path(home))
                try:
                    found[scenario.name] = whole(scenario, processes, tollgate, origin)
                except CannotRun as why:
                    found[scenario.name] = str(why)
                finally:
                    processes.stop()
    return found


def whole(scenario, processes, tollgate, origin):
    port = free_ports(1)[0]
    processes.start("origin", "1", [origin, f"127.0.0.1:{port}"], port)
    setup = Setup(scenario, processes.work, port, {"tollgate": tollgate})
    command = gateway.tollgate(setup)
    dumps = processes.work / "dump"
    callgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={dumps}"]
    process = processes.start("gateway", "0", [*callgrind, *command], setup.port)
    headers = {name: value.replace("{token}", setup.token) for name, value in scenario.headers.items()}
    for _ in range(WARM // 100):
        requests(setup.port, scenario, headers, 100)
    dump(process.pid, dumps, 1)
    counted = []
    for number in range(2, TIMES + 2):
        requests(setup.port, scenario, headers, REQUESTS)
        counted.append(read(dump(process.pid, dumps, number)))
    return {
        "instructions": round(statistics.median(one[0] for one in counted) / REQUESTS),
        "allocations": round(statistics.median(one[1] for one in counted) / REQUESTS, 1),
    }


def requests(port, scenario, headers, count):
    """So many, one after the other on one connection."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for _ in range(count):
            connection.request(scenario.method, scenario.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != scenario.status:
                raise CannotRun(f"answers {answer.status} where {scenario.status} is right")
    finally:
        connection.close()


def dump(pid, dumps, number):
    """Has callgrind write what it counted since the last time; answers the file."""
    time.sleep(0.5)  # what is left to do belongs to the requests before
    subprocess.run(["callgrind_control", "--dump", str(pid)], check=True, capture_output=True, timeout=60)
    path = pathlib.Path(f"{dumps}.{number}")
    deadline = time.monotonic() + 60
    while not (path.exists() and re.search(r"^(totals|summary): \d+", path.read_text()[-4000:], re.M)):
        if time.monotonic() > deadline:
            raise CannotRun("callgrind wrote no dump")
        time.sleep(0.1)
    return path


def read(path):
    """(instructions, calls to the allocator) of a dump; calls that the allocator makes to itself do not count."""
    names, caller, callee, calls = {}, "", "", 0
    total = 0
    for line in path.read_text().splitlines():
        if line.startswith(("fn=", "cfn=")):
            kind, rest = line.split("=", 1)
            found = re.match(r"\((\d+)\)(?: (.*))?", rest)
            if found[2]:
                names[found[1]] = found[2]
            name = names.get(found[1], "")
            caller, callee = (name, callee) if kind == "fn" else (caller, name)
        elif line.startswith("calls=") and allocates(caller, callee):
            calls += int(line[6:].split()[0])
        elif line.startswith(("totals:", "summary:")):
            total = int(line.split()[1])
    return total, calls


def allocates(caller, callee):
    """Whether such a call asks for a block: of our allocator, which may have one, or past it of mimalloc."""
    ours = r".*\ballocator::Allocator\b"
    if re.match(ours + r".*GlobalAlloc>::alloc('\d+)?$", callee):
        return True
    return bool(re.match(r"mi_\w*alloc", callee)) and not re.match(r"_?mi_|" + ours, caller)


def compare(before, now):
    """Prints each figure beside the baseline's; how many are red."""
    if before["environment"] != now["environment"]:
        for name, value in now["environment"].items():
            if before["environment"].get(name) != value:
                print(f"not comparable: {name} is {value}, the baseline's {before['environment'].get(name)}")
        print("`make bench-baseline` makes a new baseline")
        return 0
    red = 0
    old, new = flat(before), flat(now)
    for name in sorted(old.keys() | new.keys()):
        was, value = old.get(name), new.get(name)
        if was is None or value is None:
            print(f"{name:44} {was or '-':>12} {value or '-':>12}   only in one of them")
            red += value is None
            continue
        change = value / was - 1 if was else float(value > 0)
        bad = change > GROWTH
        red += bad
        print(f"{name:44} {was:>12} {value:>12} {change:>+8.1%}{'   RED' if bad else ''}")
    print(f"{red} of {len(old)} grew by more than {GROWTH:.0%}" if red else "nothing grew by more than 3 %")
    return red


def flat(figures):
    found = dict(figures["operations"])
    for scenario, counts in figures["requests"].items():
        if isinstance(counts, dict):
            found |= {f"request {scenario}: {name}": value for name, value in counts.items()}
    return found


def main():
    if len(sys.argv) not in (5, 6) or sys.argv[1] not in ("check", "baseline"):
        sys.exit(__doc__)
    what, profile, tollgate, origin, *rest = sys.argv[1:]
    path = pathlib.Path(rest[0]) if rest else BASELINE
    if what == "check" and not path.exists():
        sys.exit(f"there is no {path.name}; `make bench-baseline` makes one")
    figures = {
        "environment": environment(profile),
        "operations": operations(profile),
        "requests": whole_requests(str(pathlib.Path(tollgate).resolve()), str(pathlib.Path(origin).resolve())),
    }
    for name, why in figures["requests"].items():
        if isinstance(why, str):
            print(f"request {name}: cannot run: {why}")
    if what == "baseline":
        figures["requests"] = {name: one for name, one in figures["requests"].items() if isinstance(one, dict)}
        path.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"written: {path.name}")
        return 0
    return 1 if compare(json.loads(path.read_text()), figures) else 0


if __name__ == "__main__":
    sys.exit(main())
