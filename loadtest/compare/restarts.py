"""How each proxy takes on another configuration, and how a new process of it takes over, as its manual says.

Each of `RELOADS` and `UPGRADES` gets (run, setup) and answers once the change is in force; `setup.serving` is the
process that serves. A configuration changes by one more route each time.
"""

import json
import os
import re
import signal
import subprocess
import time

from loads import Void
from machine import PROXY_CORE, CannotRun, alive, ask, tree

PATIENCE = 20


def until(what, done):
    """Waits until `done` (at most `PATIENCE` seconds); answers what it said."""
    deadline = time.monotonic() + PATIENCE
    while not (said := done()):
        if time.monotonic() > deadline:
            raise Void(f"after {PATIENCE} s: {what}")
        time.sleep(0.02)
    return said


def run_here(command):
    """On the proxy's core, as a command that ends; what it printed."""
    done = subprocess.run(
        ["taskset", "-c", PROXY_CORE, *map(str, command)], capture_output=True, text=True, timeout=60
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise Void(f"{os.path.basename(str(command[0]))} ended with {done.returncode}: {said.strip()[-200:]}")
    return said


def replace(path, text):
    """All at once, by a rename."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def one_more(path, rule):
    """Puts a rule before the mark `# more` of a configuration; `{}` in it is a name of its own."""
    rule = rule.replace("{}", f"more-{time.monotonic_ns()}")
    replace(path, path.read_text().replace("# more\n", f"{rule}\n# more\n"))


def children(pid):
    return set(tree(pid)) - {pid}


# Reloads


def reload_tollgate(run, setup):
    """It sees the changed file by itself."""
    path = setup.home / "gateway.yaml"
    config = json.loads(path.read_text())
    name = f"more-{time.monotonic_ns()}"
    config["routes"][name] = {"match": {"path": f"/{name}"}, "to": "origin"}
    port = int(config["admin"]["address"].rsplit(":", 1)[1])

    def applied():
        text = ask(port, "GET", "/metrics", {})[1].decode()
        found = re.search(r'^tollgate_reloads_total\{outcome="applied"\} (\d+)', text, re.M)
        return int(found[1]) if found else 0

    before = applied()
    replace(path, json.dumps(config, indent=1))
    until("the changed configuration is not in force", lambda: applied() > before)


def reload_nginx(run, setup):
    one_more(setup.home / "nginx.conf", "location /{} { return 204; }")
    before = children(setup.serving)
    os.kill(setup.serving, signal.SIGHUP)
    until("no new worker", lambda: children(setup.serving) - before)


def reload_haproxy(run, setup):
    """The master executes its binary anew, and gets the sockets from the worker before."""
    one_more(setup.home / "haproxy.cfg", "    http-request return status 204 if { path /{} }")
    before = children(setup.serving)
    os.kill(setup.serving, signal.SIGUSR2)
    until("no new worker", lambda: children(setup.serving) - before)


def reload_envoy(run, setup):
    """Routes come from a file (RDS), which it watches."""
    path = setup.home / "routes.json"
    config = json.loads(path.read_text())
    name = f"/more-{time.monotonic_ns()}"
    virtual_host = config["resources"][0]["virtual_hosts"][0]
    virtual_host["routes"].insert(0, {"match": {"path": name}, "direct_response": {"status": 204}})
    replace(path, json.dumps(config))
    until("the changed routes are not in force", lambda: ask(setup.port, "GET", name, {})[0] == 204)


def reload_caddy(run, setup):
    """By its admin API, as `caddy reload` does."""
    file = setup.home / "Caddyfile"
    one_more(file, "respond /{} 204")
    address = f"127.0.0.1:{setup.admin}"
    run_here([setup.programs["caddy"], "reload", "--config", file, "--adapter", "caddyfile", "--address", address])


# Upgrades


def upgrade_tollgate(run, setup):
    binary = setup.programs["tollgate"]
    said = run_here([binary, "upgrade", "-c", setup.home / "gateway.yaml", "--binary", binary])
    found = re.search(r"process (\d+) serves", said)
    if not found:
        raise Void(f"the upgrade failed: {said.strip()[-200:]}")
    take_over(run, setup, int(found[1]))


def upgrade_nginx(run, setup):
    """USR2 starts the new binary beside the old one; QUIT ends the old one once its requests are answered."""
    pid, old = setup.home / "pid", setup.serving
    os.kill(old, signal.SIGUSR2)

    def started():
        # It is renamed meanwhile.
        try:
            text = pid.read_text().strip()
        except FileNotFoundError:
            return None
        return text and int(text) != old and children(int(text)) and int(text)

    new = until("no new process", started)
    os.kill(old, signal.SIGQUIT)
    take_over(run, setup, new)


def upgrade_haproxy(run, setup):
    """A new process gets the sockets from the old one (`-x`) and has it finish (`-sf`)."""
    config = setup.home / "haproxy.cfg"
    command = ["haproxy", "-db", "-f", config, "-x", setup.home / "stats", "-sf", setup.serving]
    take_over(run, setup, run.processes.start(f"haproxy-{time.monotonic_ns()}", PROXY_CORE, command, setup.port).pid)


def upgrade_envoy(run, setup):
    """Hot restart: the next epoch gets the sockets and has the one before drain."""
    setup.epoch += 1
    command = [*setup.command, "--restart-epoch", str(setup.epoch)]
    new = run.processes.start(f"envoy-{setup.epoch}-{setup.port}", PROXY_CORE, command, setup.port).pid
    take_over(run, setup, new)


def upgrade_caddy(run, setup):
    raise CannotRun("Caddy hands its sockets over to no other process")


def take_over(run, setup, new):
    """The new process is the one that serves; waits until the old one has ended."""
    old, setup.serving = setup.serving, new
    run.processes.adopt(new)
    until("the process before has not ended", lambda: not alive(old))


RELOADS = {
    "tollgate": reload_tollgate, "nginx": reload_nginx, "haproxy": reload_haproxy, "envoy": reload_envoy,
    "caddy": reload_caddy,
}
UPGRADES = {
    "tollgate": upgrade_tollgate, "nginx": upgrade_nginx, "haproxy": upgrade_haproxy, "envoy": upgrade_envoy,
    "caddy": upgrade_caddy,
}
