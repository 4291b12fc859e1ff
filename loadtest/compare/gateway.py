"""Tollgate's own configurations, and the bare Pingora proxies that are the floor."""

import json
import subprocess

from machine import CannotRun, free_ports

LIMITS = {
    "requests": 1_000_000_000, "idle": "10m", "max_age": "1d", "client_connections": 100_000, "streams": 1024,
    "body": "64MiB",
}


def tollgate(setup):
    """Metrics and access log on, as they are for everybody; configuration as JSON, which YAML includes."""
    home, scenario = setup.home, setup.scenario
    config = {
        "version": 1,
        "process": {"workers": 1, "control": str(home / "control")},
        "admin": {"address": f"127.0.0.1:{free_ports(1)[0]}"},
        "listeners": {
            "plain": {"address": f"127.0.0.1:{setup.port}", "h2c": scenario.kind == "grpc", "limits": LIMITS},
            "tls": {
                "address": f"127.0.0.1:{setup.tls_port}",
                "tls": {"certificates": [{"certificate": str(setup.certificate), "key": str(setup.key)}],
                        "default": "localhost"},
                "limits": LIMITS,
            },
        },
        "upstreams": {"origin": {"endpoints": [f"127.0.0.1:{setup.origin}"]}},
        "routes": {"all": {"match": {"path": "/*"}, "to": "origin"}},
    }
    KINDS.get(scenario.kind, lambda *_: None)(config, setup)
    path = home / "gateway.yaml"
    path.write_text(json.dumps(config, indent=1))
    checked = subprocess.run([setup.programs["tollgate"], "check", "-c", path], capture_output=True, text=True, timeout=120)
    if checked.returncode != 0:
        said = (checked.stderr + checked.stdout).replace(str(home), "WORK").strip()
        raise CannotRun(f"the configuration is refused: {' '.join(said.split())[:200]}")
    return [setup.programs["tollgate"], "run", "-c", path]


def provider(setup):
    return {
        "providers": {
            "main": {
                "jwt": {"issuer": "https://issuer.test", "audiences": ["api"], "algorithms": ["ES256"],
                        "forward": False, "keys": {"file": str(setup.jwks)}}
            }
        }
    }


def policy(config, setup):
    """1,000 routes; tokens; a limit for each caller; fields of request and answer."""
    config["identity"] = provider(setup)
    config["consumers"] = {"acme": {"credentials": [{"jwt": {"provider": "main", "subject": "alice"}}]}}
    config["policies"] = {
        "defaults": {
            "authenticate": {"any_of": [{"jwt": "main"}]},
            "rate_limit": {"key": "consumer", "rate": "1000000/s", "burst": 1_000_000},
            "headers": {
                "request": {"set": {"x-caller": "{consumer.name}"}},
                "response": {"set": {"x-served-by": "gateway"}, "remove": ["server"]},
            },
        }
    }
    config["routes"] = {
        f"r{n}": {"match": {"path": f"/service-{n}/*"}, "to": "origin"} for n in range(setup.scenario.routes)
    }


def refuse(config, setup):
    config["identity"] = provider(setup)
    config["routes"] = {
        "private": {
            "match": {"path": "/private"},
            "policies": {"authenticate": {"any_of": [{"jwt": "main"}]}},
            "to": "origin",
        },
        "limited": {"match": {"path": "/limited"}, "policies": {"rate_limit": {"rate": "1/h", "burst": 1}}, "to": "origin"},
    }


def cache(config, setup):
    config["caches"] = {"default": {"memory": "256MiB"}}
    config["routes"]["all"]["policies"] = {"cache": {"default_ttl": "1h"}}


def grpc(config, setup):
    config["upstreams"]["origin"]["protocol"] = "http2"


def routes(config, setup):
    config["routes"] = {
        f"r{n}": {
            "match": {"path": f"/service-{n}/*"},
            "policies": {"headers": {"request": {"set": {"x-route": f"r{n}"}}}},
            "to": "origin",
        }
        for n in range(setup.scenario.routes)
    }


def consumers(config, setup):
    write_consumers(setup.home / "consumers.jsonl", setup.scenario.consumers)
    config["consumers"] = {"file": "consumers.jsonl"}
    config["plans"] = {"gold": {}, "free": {}}
    config["routes"]["all"]["policies"] = {"authenticate": {"any_of": [{"api_key": {"header": "x-api-key"}}]}}


def write_consumers(path, count):
    """Keys are `key-of-consumer-N`."""
    import hashlib

    with open(path, "w") as file:
        for n in range(count):
            digest = hashlib.sha256(f"key-of-consumer-{n:08}".encode()).hexdigest()
            plan = ("gold", "free")[n % 2]
            file.write(
                f'{{"name":"consumer-{n:08}","plan":"{plan}","credentials":[{{"api_key":{{"sha256":"{digest}"}}}}]}}\n'
            )


def overload(config, setup):
    config["upstreams"]["origin"]["limits"] = {"requests": setup.scenario.capacity}


KINDS = {
    "policy": policy, "refuse": refuse, "cache": cache, "grpc": grpc, "routes": routes, "consumers": consumers,
    "overload": overload,
}


def floor(setup, *more):
    """The stock service: no feature. Where a scenario wants some, it forwards plainly, which is the floor for them."""
    speaks = "h2:" if setup.scenario.kind == "grpc" else ""
    return [
        setup.programs["bare"], *more, "1", f"{speaks}127.0.0.1:{setup.origin}", f"127.0.0.1:{setup.port}",
        f"127.0.0.1:{setup.tls_port}", setup.certificate, setup.key,
    ]


def floor_tuned(setup):
    """The same with small buffers and without work stealing."""
    return floor(setup, "tuned")
