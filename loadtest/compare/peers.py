"""What users would pick instead, each configured for the scenario at hand as its manual recommends.

Each function writes its configuration and answers the command; `setup` has the scenario, the origin's port and the two
ports to listen on. What a peer has no means for is `CannotRun`, with the reason.
"""

import shutil

from machine import CannotRun

MANY = 100_000_000


def nginx(setup):
    """One worker; upstream connections kept; bodies in memory."""
    kind = setup.scenario.kind
    if kind == "policy":
        raise CannotRun("the open source nginx verifies no tokens")
    if kind == "consumers":
        raise CannotRun("nginx knows no consumers")
    home = setup.home
    location = "proxy_pass http://origin;"
    extra, more = "", ""
    if kind == "cache":
        extra = (
            f"proxy_cache_path {home}/cache levels=1:2 keys_zone=kept:16m max_size=512m inactive=1h use_temp_path=off;\n"
            "open_file_cache max=1000 inactive=1h; open_file_cache_valid 1h;"
        )
        location = "proxy_cache kept; proxy_cache_valid 200 1h; proxy_pass http://origin;"
    elif kind == "grpc":
        location = "grpc_pass grpc://origin;"
    elif kind == "routes":
        extra = routes_of_nginx(setup)
        location = "if ($route = '') { return 404; } proxy_set_header x-route $route; proxy_pass http://origin;"
    elif kind == "refuse":
        (home / "users").write_text("nobody:{PLAIN}secret\n")
        extra = "limit_req_zone $binary_remote_addr zone=callers:1m rate=1r/m;"
        location = "return 404;"
        more = (
            f"location /private {{ auth_basic private; auth_basic_user_file {home}/users; proxy_pass http://origin; }}\n"
            "location /limited { limit_req zone=callers; limit_req_status 429; proxy_pass http://origin; }"
        )
    most = f" max_conns={setup.scenario.capacity}" if kind == "overload" else ""
    http2 = " http2" if kind == "grpc" else ""
    # A new binary takes over from one that is its starter's child no more.
    daemon = "on" if setup.scenario.load == "upgrade" else "off"
    (home / "nginx.conf").write_text(f"""
worker_processes 1; daemon {daemon}; pid {home}/pid; error_log {home}/error.log crit; worker_rlimit_nofile 65536; user root;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_requests 1000000000; client_max_body_size 0; client_body_buffer_size 128k;
    variables_hash_max_size 4096; http2_max_concurrent_streams 1024;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffers 32 8k; proxy_max_temp_file_size 8m;
    client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c;
    uwsgi_temp_path {home}/d; scgi_temp_path {home}/e;
    upstream origin {{ server 127.0.0.1:{setup.origin}{most}; keepalive 256; keepalive_requests 1000000000; }}
    ssl_certificate {setup.certificate}; ssl_certificate_key {setup.key};
    ssl_session_cache shared:tls:10m; ssl_protocols TLSv1.2 TLSv1.3;
    {extra}
    server {{
        listen 127.0.0.1:{setup.port}{http2}; listen 127.0.0.1:{setup.tls_port} ssl http2;
        {more}
# more
        location / {{ {location} }}
    }}
}}
""")
    # By its whole path, by which it starts its successor.
    return [shutil.which("nginx") or "nginx", "-c", home / "nginx.conf", "-p", home]


def routes_of_nginx(setup):
    """A hash of them: nginx sorts as many locations for minutes, in quadratic time."""
    count = setup.scenario.routes
    (setup.home / "routes.map").write_text("".join(f"service-{n} r{n};\n" for n in range(count)))
    return f"""
    map_hash_max_size {max(4096, 2 * count)}; map_hash_bucket_size 256;
    map $uri $service {{ ~^/(?<name>service-[0-9]+)/ $name; }}
    map $service $route {{ include {setup.home}/routes.map; }}"""


def haproxy(setup):
    """One thread."""
    kind, home = setup.scenario.kind, setup.home
    if kind == "consumers":
        raise CannotRun("HAProxy knows no consumers")
    rules, extra, speaks = "", "", ""
    if kind == "policy":
        lines = (f"/service-{n}/ r{n}" for n in range(setup.scenario.routes))
        (home / "routes.map").write_text("\n".join(lines) + "\n")
        rules = f"""
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request set-var(txn.sub) var(txn.bearer),jwt_payload_query('$.sub')
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{setup.public_key}") 1 }}
    http-request track-sc0 var(txn.sub) table callers
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {MANY} }}
    http-request deny deny_status 404 unless {{ path,map_beg({home}/routes.map) -m found }}
    http-request set-header x-caller %[var(txn.sub)]
    http-request del-header authorization
    http-response set-header x-served-by gateway
    http-response del-header server"""
        extra = "backend callers\n    stick-table type string len 64 size 100k expire 1m store http_req_rate(1s)\n"
    elif kind == "routes":
        lines = (f"/service-{n}/ r{n}" for n in range(setup.scenario.routes))
        (home / "routes.map").write_text("\n".join(lines) + "\n")
        rules = f"""
    http-request set-header x-route %[path,map_beg({home}/routes.map)]"""
    elif kind == "refuse":
        rules = """
    http-request deny deny_status 404 unless { path_beg /private /limited }
    http-request auth if { path_beg /private } !{ http_auth(users) }
    http-request track-sc0 src table callers if { path_beg /limited }
    http-request deny deny_status 429 if { path_beg /limited } { sc_http_req_rate(0) gt 0 }"""
        extra = (
            "userlist users\n    user nobody insecure-password secret\n"
            "backend callers\n    stick-table type ip size 100k expire 1m store http_req_rate(1m)\n"
        )
        # Refusals of HAProxy close the connection unless a file says otherwise; 401 alone keeps it.
        for status, reason in ((404, "Not Found"), (429, "Too Many Requests")):
            rules = rules.replace(
                f"deny deny_status {status}", f"return status {status} content-type text/plain string refused"
            )
    elif kind == "cache":
        extra = "cache kept\n    total-max-size 256\n    max-object-size 4194304\n    max-age 3600\n"
        rules = """
    http-request cache-use kept
    http-response set-header cache-control max-age=3600
    http-response cache-store kept"""
    elif kind == "grpc":
        speaks = " proto h2"
    most = f" maxconn {setup.scenario.capacity}" if kind == "overload" else ""
    wait = "timeout queue 20ms" if kind == "overload" else "timeout queue 5s"
    (home / "pair.pem").write_text(setup.certificate.read_text() + setup.key.read_text())
    (home / "haproxy.cfg").write_text(f"""
global
    nbthread 1
    stats socket {home}/stats expose-fd listeners
    maxconn 8000
    tune.ssl.cachesize 100000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {wait}
    http-reuse always
frontend web
    bind 127.0.0.1:{setup.port}{speaks}
    bind 127.0.0.1:{setup.tls_port} ssl crt {home}/pair.pem alpn h2,http/1.1{rules}
# more
    default_backend origin
backend origin
    server one 127.0.0.1:{setup.origin}{speaks}{most}
{extra}""")
    # A reload wants the master process.
    master = ["-W"] if setup.scenario.load == "reload" else []
    return ["haproxy", *master, "-db", "-f", home / "haproxy.cfg"]


def caddy(setup):
    """One processor for Go."""
    kind, home = setup.scenario.kind, setup.home
    reasons = {
        "policy": "Caddy verifies no tokens without a plug-in",
        "cache": "Caddy keeps no answers without a plug-in",
        "consumers": "Caddy knows no consumers",
        "routes": "tried with none: Caddy looks through its routes one after the other",
        "overload": "Caddy limits no requests in flight",
    }
    if kind in reasons:
        raise CannotRun(reasons[kind])
    if kind == "refuse" and setup.scenario.status == 429:
        raise CannotRun("Caddy limits no rate without a plug-in")
    scheme = "h2c://" if kind == "grpc" else ""
    proxy = f"reverse_proxy {scheme}127.0.0.1:{setup.origin} {{ \n transport http {{ \n keepalive_idle_conns_per_host 256 \n }} \n }}"
    if kind == "refuse":
        # The digest is of a password nobody gives.
        digest = "$2a$04$abcdefghijklmnopqrstuuJ1Y9i6X9Y0H0yq3G5n0qHkX0y4m1m3e"
        proxy = f"@private path /private*\n basic_auth @private {{ \n nobody {digest} \n }}\n respond 404"
    (home / "Caddyfile").write_text(f"""
{{
    admin 127.0.0.1:{setup.admin}
    auto_https off
    persist_config off
    servers {{
        protocols h1 h2 h2c
    }}
}}
http://:{setup.port} {{
# more
    {proxy}
}}
https://:{setup.tls_port} {{
    tls {setup.certificate} {setup.key}
    {proxy}
}}
""")
    environment = {"GOMAXPROCS": "1", "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home), "HOME": str(home)}
    return [setup.programs["caddy"], "run", "--config", home / "Caddyfile", "--adapter", "caddyfile"], environment


def varnish(setup):
    """One pool of threads, answers in memory."""
    scenario, home = setup.scenario, setup.home
    if scenario.tls:
        raise CannotRun("Varnish ends no TLS")
    if scenario.kind not in ("forward", "cache"):
        raise CannotRun(f"Varnish is a cache; {scenario.kind} is nothing it offers without modules")
    rule = "return (hash);" if scenario.kind == "cache" else "return (pass);"
    if scenario.upload:
        rule = "return (pass);"
    (home / "varnish.vcl").write_text(f"""
vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{setup.origin}"; }}
sub vcl_recv {{ {rule} }}
sub vcl_backend_response {{ set beresp.ttl = 1h; }}
""")
    return [
        "varnishd", "-F", "-j", "none", "-a", f"127.0.0.1:{setup.port}", "-T", "none", "-f", home / "varnish.vcl",
        "-n", home / "instance", "-s", "malloc,256m", "-p", "thread_pools=1", "-p", "thread_pool_min=100",
    ]
