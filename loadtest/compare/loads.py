"""The load generators, none of them ours but for the paced one: what they are told, and what they said."""

import json
import re
import subprocess

from machine import LOAD_CORE

LUA = """
wrk.method = "%(method)s"
%(headers)s
%(body)s
%(request)s
function done(summary, latency, requests)
    io.write(string.format('RESULT {"requests":%%d,"seconds":%%.6f,"bytes":%%d,"refused":%%d,"errors":%%d,"p50":%%d,"p99":%%d,"p999":%%d}\\n',
        summary.requests, summary.duration / 1e6, summary.bytes, summary.errors.status,
        summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""

# Each next path far from the last, so that no cache of one path helps.
SPREAD = """
local n, count, step = 0, %d, 6181
function request()
    n = (n + step) %% count
    return wrk.format(nil, string.format("%s", n))
end
"""


class Void(Exception):
    """A run that does not count: an error, or an answer that should not have been."""


def run(command, seconds):
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, *map(str, command)], capture_output=True, text=True, timeout=seconds + 60
    )
    if done.returncode != 0:
        raise Void(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def quoted(text):
    """As a string of Lua."""
    return json.dumps(text)


def wrk(scenario, work, port, seconds):
    """HTTP/1.1, as fast as it goes."""
    script = work / "wrk.lua"
    script.write_text(
        LUA
        % {
            "method": scenario.method,
            "headers": "\n".join(f"wrk.headers[{quoted(k)}] = {quoted(v)}" for k, v in scenario.headers.items()),
            "body": f'wrk.body = string.rep("x", {scenario.upload})' if scenario.upload else "",
            "request": SPREAD % (scenario.spread, scenario.path) if scenario.spread else "",
        }
    )
    path = scenario.path if not scenario.spread else "/"
    url = f"http{'s' if scenario.tls else ''}://127.0.0.1:{port}{path}"
    said = run(["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds}s", "-s", script, url], seconds)
    found = re.search(r"RESULT (\{.*\})", said)
    if not found:
        raise Void(f"wrk said nothing: {said[-200:]}")
    result = json.loads(found[1])
    wanted = result["requests"] if scenario.status >= 400 else 0
    result["errors"] += abs(result.pop("refused") - wanted)
    if result.pop("bytes") < result["requests"] * (scenario.answer or 0):
        raise Void("answers are shorter than the origin's")
    return result


def h2load(scenario, work, port, seconds):
    """HTTP/2, in TLS or in the clear: four connections of sixteen streams."""
    # A folder of its own: a proxy may watch the one where its certificate is, and would wake for every line.
    folder = work / "h2load"
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", "-c4", "-m16", f"-D{seconds}", f"--log-file={log}"]
    for name, value in scenario.headers.items():
        command += ["-H", f"{name}: {value}"]
    if scenario.data:
        (folder / "data").write_bytes(scenario.data)
        command += ["-d", folder / "data"]
    said = run([*command, f"http{'s' if scenario.tls else ''}://127.0.0.1:{port}{scenario.path}"], seconds)
    counts = [int(n) for n in re.findall(r"(\d+) (?:failed|errored|timeout)", said)]
    good = int(re.search(r"status codes: (\d+) 2xx", said)[1])
    # start, status, microseconds
    times = sorted(int(line.split()[2]) for line in log.read_text().splitlines() if line.split()[1] == "200")
    if not times:
        raise Void(f"nothing was answered: {said[-200:]}")
    return {"requests": good, "seconds": float(seconds), "errors": sum(counts), **percentiles(times)}


def percentiles(times):
    """Of a sorted list."""
    return {
        name: times[min(len(times) - 1, int(len(times) * part))]
        for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
    }


def paced(scenario, load, port, seconds):
    """A fixed rate, open loop: `examples/load`, which counts an answer's time from when its request was due."""
    said = run(
        [load, "http1", f"127.0.0.1:{port}", "--path", scenario.path, "--rate", scenario.rate,
         "--connections", scenario.connections, "--seconds", seconds], seconds,
    )
    fields = dict(part.split("=", 1) for part in said.split() if "=" in part)
    return {
        "requests": int(fields["answered"]),
        "seconds": float(seconds),
        "errors": int(fields["failed"]) + int(fields["silent"]),
        **{name: int(float(fields[f"{name}_us"])) for name in ("p50", "p99", "p999")},
    }


def handshakes(scenario, script, port, seconds, authority):
    """A new TLS connection for each request."""
    said = run(["python3", script, port, seconds, authority, "resume" if scenario.resume else "full"], seconds)
    return json.loads(said)
