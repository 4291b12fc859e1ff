#!/usr/bin/env python3
"""Measures Tollgate beside its peers; `make compare` calls it. See --help.

The proxy under test has one core to itself, load and origin the other. All proxies of a scenario run, one at a time is
driven, and rounds alternate, so that whatever else the machine does hits all alike.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

import envoy
import gateway
import loads
import peers
import report
import credentials
import special
from loads import Void
from machine import PROXY_CORE, LOAD_CORE, CannotRun, Processes, ask, cpu_at_rest, describe, free_ports, memory_kib
from scenarios import scenarios

PROXIES = {
    "tollgate": gateway.tollgate, "floor": gateway.floor, "floor-tuned": gateway.floor_tuned, "nginx": peers.nginx,
    "haproxy": peers.haproxy, "envoy": envoy.envoy, "caddy": peers.caddy, "varnish": peers.varnish,
}
HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Setup:
    """What a proxy needs to know to be configured."""

    scenario: object
    home: pathlib.Path
    origin: int
    port: int
    tls_port: int
    programs: dict
    certificate: pathlib.Path
    key: pathlib.Path
    authority: pathlib.Path
    jwks: pathlib.Path
    public_key: pathlib.Path
    # Where the proxy takes orders, if it does so over HTTP.
    admin: int = 0
    # How it was started, the process that serves, and how many served before it.
    command: list = dataclasses.field(default_factory=list)
    serving: int = 0
    epoch: int = 0


class Compare:
    """A whole run."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.authority, self.certificate, self.key = credentials.certificates(work)
        self.jwks, self.public_key, self.token = credentials.token(work)
        self.programs = {name: getattr(options, name) for name in ("tollgate", "bare", "origin", "load", "envoy", "caddy")}

    def scenario(self, scenario):
        """What came of one: {"name", "title", "note", "proxies": {name: {"rounds": …} or {"reason": …}}}."""
        scenario.headers = {k: v.replace("{token}", self.token) for k, v in scenario.headers.items()}
        result = {"name": scenario.name, "title": scenario.title, "note": scenario.note, "proxies": {}}
        processes = self.processes = Processes(self.work)
        try:
            origin = self.start_origin(scenario, processes)
            seats = {}
            for name in scenario.proxies:
                if self.options.proxies and name not in self.options.proxies:
                    continue
                entry = result["proxies"][name] = {"rounds": []}
                try:
                    seats[name] = self.seat(name, scenario, origin, processes)
                    self.check(*seats[name][:2])
                except (CannotRun, Void, OSError) as why:
                    entry["reason"] = self.placeless(str(why))
                    seats.pop(name, None)
            self.rounds(seats, result)
        finally:
            processes.stop()
        return result

    def start_origin(self, scenario, processes):
        port = free_ports(1)[0]
        if scenario.kind == "grpc":
            command = special.grpc_origin(self.work, port)
        elif scenario.kind == "overload":
            command = ["python3", HERE / "slow_origin.py", port, scenario.capacity]
        else:
            command = [self.programs["origin"], f"127.0.0.1:{port}"]
        processes.start("origin", LOAD_CORE, command, port)
        return port

    def seat(self, name, scenario, origin, processes):
        """Starts a proxy: (scenario as asked of it, setup, process)."""
        home = self.work / f"{scenario.name}-{name}"
        home.mkdir()
        port, tls_port, admin = free_ports(3)
        setup = Setup(scenario, home, origin, port, tls_port, self.programs, self.certificate, self.key, self.authority,
                      self.jwks, self.public_key, admin)
        command = PROXIES[name](setup)
        command, environment = command if isinstance(command, tuple) else (command, None)
        missing = not shutil.which(str(command[0]))
        if missing:
            raise CannotRun(f"{pathlib.Path(str(command[0])).name} is not here")
        process = processes.start(f"{scenario.name}-{name}", PROXY_CORE, command, port, environment)
        setup.command, setup.serving = command, process.pid
        if name == "nginx" and scenario.load == "upgrade":
            # It has put itself into the background.
            setup.serving = int((home / "pid").read_text())
            processes.adopt(setup.serving)
        asked = scenario
        if name.startswith("floor") and scenario.floor_forwards:
            path = scenario.path if scenario.kind == "cache" else "/"
            asked = dataclasses.replace(scenario, path=path, headers={}, status=200, spread=0, answer=scenario.answer or 2)
        return asked, setup, process

    def check(self, scenario, setup, warm=True):
        """Answers are the origin's, or what the scenario says; and the proxy is warm."""
        if scenario.kind == "grpc":
            special.check_grpc(setup.port, self.work)
        elif scenario.kind != "overload":
            path = scenario.path.replace("%d", "0")
            body = b"x" * scenario.upload if scenario.upload else None
            # The first request under a limit of one is let through.
            for _ in range(2):
                status, answer = ask(setup.port, scenario.method, path, scenario.headers, body)
            if status != scenario.status:
                raise Void(f"answers {status} where {scenario.status} is right")
            if scenario.status == 200:
                origin = ask(setup.origin, scenario.method, path, {}, body)
                if (status, answer) != origin:
                    raise Void("answers differ from the origin's")
        if warm and scenario.load in ("wrk", "h2load", "paced", "handshakes"):
            self.drive(scenario, setup, 1)

    def drive(self, scenario, setup, seconds):
        port = setup.tls_port if scenario.tls else setup.port
        if scenario.load == "wrk":
            return loads.wrk(scenario, self.work, port, seconds)
        if scenario.load == "h2load":
            return loads.h2load(scenario, self.work, port, seconds)
        if scenario.load == "paced":
            return loads.paced(scenario, self.programs["load"], port, seconds)
        return loads.handshakes(scenario, HERE / "handshakes.py", port, seconds, self.authority)

    def rounds(self, seats, result):
        for number in range(self.options.rounds):
            for name, (scenario, setup, process) in seats.items():
                entry = result["proxies"][name]
                if "reason" in entry or (number and scenario.load in special.ONCE):
                    continue
                try:
                    figures = self.round(name, scenario, setup, process)
                    self.check(scenario, setup, warm=False)
                    entry["rounds"].append(figures)
                except (Void, CannotRun, OSError, subprocess.SubprocessError) as why:
                    entry["reason"] = self.placeless(str(why) if isinstance(why, CannotRun) else f"void: {why}")
                    entry["rounds"] = []
                    continue
                if peak := memory_kib(process.pid):
                    entry["peak_kib"] = peak
                print(f"{scenario.name:14} {number + 1} {name:12} {json.dumps(entry['rounds'][-1])}", flush=True)
        for name, entry in result["proxies"].items():
            if "reason" in entry:
                print(f"{result['name']:14}   {name:12} {entry['reason']}", flush=True)

    def placeless(self, text):
        """Without where things lie on this machine."""
        for program in self.programs.values():
            text = text.replace(str(pathlib.Path(program).parent) + "/", "")
        return text.replace(str(self.work), "WORK").replace(str(HERE), "loadtest/compare")

    def round(self, name, scenario, setup, process):
        if scenario.load in special.PROGRAMS:
            return special.PROGRAMS[scenario.load](self, name, scenario, setup, process)
        before = cpu_at_rest(process.pid)
        got = self.drive(scenario, setup, self.options.seconds)
        cpu = cpu_at_rest(process.pid) - before
        if got["errors"]:
            raise Void(f"{got['errors']} errors in {got['requests']} requests")
        if not got["requests"]:
            raise Void("no request was answered")
        return {
            "rps": round(got["requests"] / got["seconds"], 1),
            "cpu_us": round(cpu * 1e6 / got["requests"], 2),
            "p50_us": got["p50"], "p99_us": got["p99"], "p999_us": got["p999"], "errors": 0,
        }


def program(given):
    """Where it is, from wherever it is started."""
    found = shutil.which(given)
    return str(pathlib.Path(found).absolute()) if found else given


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("tollgate", "bare", "origin", "load", "envoy", "caddy"):
        parser.add_argument(f"--{name}", required=True, type=program)
    parser.add_argument("--scenarios", default="", help="some of them, by comma; all without")
    parser.add_argument("--proxies", default="", help="some of them, by comma; all without")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of a round")
    parser.add_argument("--json", type=pathlib.Path, required=True, help="where the figures go")
    parser.add_argument("--into", type=pathlib.Path, help="the page whose section is made anew, with plots beside it")
    options = parser.parse_args()
    options.scenarios = list(filter(None, options.scenarios.split(",")))
    options.proxies = list(filter(None, options.proxies.split(",")))
    unknown = set(options.scenarios) - {one.name for one in scenarios()} | set(options.proxies) - set(PROXIES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in scenarios())}")
    for name in ("tollgate", "bare", "origin", "load"):
        if not shutil.which(getattr(options, name)):
            parser.error(f"--{name}: no such program; build it first")
    return options


def versions(options):
    """What each program says it is."""
    asked = {
        "Tollgate": [options.tollgate, "--version"], "nginx": ["nginx", "-v"], "HAProxy": ["haproxy", "-v"],
        "Varnish": ["varnishd", "-V"], "Envoy": [options.envoy, "--version"], "Caddy": [options.caddy, "version"],
        "rustc": ["rustc", "--version"], "h2load": ["h2load", "--version"],
    }
    said = {}
    for name, command in asked.items():
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
            said[name] = next(filter(None, map(str.strip, (done.stdout + done.stderr).splitlines())), "?")
        except OSError:
            said[name] = "not here"
    # hash/version/…; what came before is where it lies here.
    parts = said["Envoy"].rsplit("version: ", 1)[-1].split("/")
    said["Envoy"] = parts[1] if len(parts) > 1 else "not here"
    # Without what some say of where they are from.
    return {name: text.split(" - http")[0][:90] for name, text in said.items()}


def earlier(path):
    """The scenarios of a run before, which one of some scenarios leaves as they are; each has its date."""
    try:
        return json.loads(path.read_text())["scenarios"]
    except FileNotFoundError:
        return []


def merge(record, kept):
    """Puts what was kept among what was measured, in the order of the report."""
    names = [one.name for one in scenarios()]
    measured = {one["name"] for one in record["scenarios"]}
    record["scenarios"] += [one for one in kept if one["name"] not in measured and one["name"] in names]
    record["scenarios"].sort(key=lambda one: names.index(one["name"]))


def main():
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # SIGTERM ends by way of `finally`, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    record = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": describe(), "versions": versions(options), "rounds": options.rounds, "seconds": options.seconds,
        "scenarios": [],
    }
    before = {one["name"]: one for one in earlier(options.json)}
    kept = before.values() if options.scenarios else []
    with tempfile.TemporaryDirectory(prefix="compare-") as work:
        run = Compare(options, pathlib.Path(work))
        for scenario in scenarios():
            if options.scenarios and scenario.name not in options.scenarios:
                continue
            try:
                result = run.scenario(scenario)
            except CannotRun as why:
                result = {"name": scenario.name, "title": scenario.title, "note": scenario.note, "reason": str(why), "proxies": {}}
                print(f"{scenario.name:14} {why}", flush=True)
            result |= {"date": record["date"], "rounds": options.rounds, "seconds": options.seconds}
            if scenario.name in before:
                result["before"] = report.run_before(before[scenario.name])
            # It takes the place of what was kept of it.
            record["scenarios"] = [one for one in record["scenarios"] if one["name"] != scenario.name] + [result]
            # What there is so far, in case the run does not come to its end.
            merge(record, kept)
            options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.into:
        report.write(record, options.into)
    print(f"figures: {options.json}")
    if not options.proxies or "tollgate" in options.proxies:
        asked = [one for one in record["scenarios"] if one["date"] == record["date"]]
        without = [one["name"] for one in asked if not one["proxies"].get("tollgate", {}).get("rounds")]
        if without:
            sys.exit(f"Tollgate was not measured: {', '.join(without)}")


main()
