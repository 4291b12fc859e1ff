"""Envoy: one worker, its whole configuration as JSON."""

import json

from machine import CannotRun

TYPE = "type.googleapis.com/envoy."
HTTP = TYPE + "extensions.filters.http."
MANY = 100_000_000


def envoy(setup):
    """Writes the configuration and answers the command."""
    scenario, home = setup.scenario, setup.home
    if scenario.kind == "cache":
        raise CannotRun("Envoy's cache filter is marked as work in progress by its makers")
    if scenario.kind == "consumers":
        raise CannotRun("Envoy knows no consumers")
    listeners = [listener(setup, setup.port, False), listener(setup, setup.tls_port, True)]
    config = {
        "node": {"id": "compare", "cluster": "compare"},
        "static_resources": {"listeners": listeners, "clusters": [cluster(setup)]},
    }
    (home / "envoy.json").write_text(json.dumps(config))
    if scenario.load == "reload":
        resource = {"@type": TYPE + "config.route.v3.RouteConfiguration", "name": "all", "virtual_hosts": hosts(scenario)}
        (home / "routes.json").write_text(json.dumps({"version_info": "1", "resources": [resource]}))
    # Drains for a second, where it would for ten minutes.
    restart = ["--drain-time-s", "1", "--parent-shutdown-time-s", "2"] if scenario.load == "upgrade" else ["--disable-hot-restart"]
    return [
        setup.programs["envoy"], "-c", home / "envoy.json", "--concurrency", "1", "--log-level", "error",
        "--base-id", str(setup.port), *restart,
    ]


def cluster(setup):
    most = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    if setup.scenario.kind == "overload":
        most |= {"max_requests": setup.scenario.capacity}
    made = {
        "name": "origin",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(setup.origin)}}]}],
        },
    }
    if setup.scenario.kind == "grpc":
        made["typed_extension_protocol_options"] = {
            TYPE.split("/")[1] + "extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return made


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def listener(setup, port, tls):
    manager = {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        **where_routes_are(setup),
        "http_filters": [*filters(setup), {"name": "router", "typed_config": {"@type": HTTP + "router.v3.Router"}}],
    }
    chain = {"filters": [{"name": "web", "typed_config": manager}]}
    if tls:
        pair = {"certificate_chain": {"filename": str(setup.certificate)}, "private_key": {"filename": str(setup.key)}}
        chain["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]},
            },
        }
    return {"address": address(port), "filter_chains": [chain]}


def where_routes_are(setup):
    """In the listener, or in a file of their own that is watched, so that they can be changed."""
    if setup.scenario.load != "reload":
        return {"route_config": {"virtual_hosts": hosts(setup.scenario)}}
    source = {"path_config_source": {"path": str(setup.home / "routes.json")}, "resource_api_version": "V3"}
    return {"rds": {"route_config_name": "all", "config_source": source}}


def hosts(scenario):
    host = {"name": "all", "domains": ["*"]}
    if scenario.kind == "routes":
        return [{**host, "matcher": matcher(scenario)}]
    return [{**host, "routes": routes(scenario)}]


def matcher(scenario):
    """A map of paths: a list of routes is looked through one after the other."""
    field = {"@type": TYPE + "type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": ":path"}
    found = {
        prefix: {"action": {"name": "route", "typed_config": {"@type": TYPE + "config.route.v3.Route", **one}}}
        for one in (route(f"/service-{n}/", {"x-route": f"r{n}"}) for n in range(scenario.routes))
        for prefix in (one["match"]["prefix"],)
    }
    return {"matcher_tree": {"input": {"name": "path", "typed_config": field}, "prefix_match_map": {"map": found}}}


def routes(scenario):
    if scenario.kind == "refuse":
        return [route("/private"), route("/limited", limited=True)]
    if scenario.kind == "policy":
        return [route(f"/service-{n}/", {"x-route": f"r{n}"}, answer=True) for n in range(scenario.routes)]
    return [route("/")]


def route(prefix, fields=None, answer=False, limited=False):
    made = {"match": {"prefix": prefix}, "route": {"cluster": "origin", "timeout": "0s"}}
    if fields:
        made["request_headers_to_add"] = [{"header": {"key": k, "value": v}} for k, v in fields.items()]
    if answer:
        made["response_headers_to_add"] = [{"header": {"key": "x-served-by", "value": "gateway"}}]
    if limited:
        made["typed_per_filter_config"] = {"limit": bucket(1, "3600s")}
    return made


def bucket(tokens, interval):
    enabled = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "@type": HTTP + "local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": interval},
        "filter_enabled": enabled,
        "filter_enforced": enabled,
    }


def filters(setup):
    kind = setup.scenario.kind
    if kind not in ("policy", "refuse"):
        return []
    provider = {
        "issuer": "https://issuer.test",
        "audiences": ["api"],
        "local_jwks": {"inline_string": setup.jwks.read_text()},
        "claim_to_headers": [{"header_name": "x-caller", "claim_name": "sub"}],
        "jwt_cache_config": {"jwt_cache_size": 1000},
    }
    prefix = "/" if kind == "policy" else "/private"
    tokens = {
        "@type": HTTP + "jwt_authn.v3.JwtAuthentication",
        "providers": {"main": provider},
        "rules": [{"match": {"prefix": prefix}, "requires": {"provider_name": "main"}}],
    }
    return [
        {"name": "tokens", "typed_config": tokens},
        {"name": "limit", "typed_config": bucket(MANY, "1s")},
    ]
