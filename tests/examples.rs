//! Every file in `conf/examples` is read by the production `check` and serves requests that show
//! what it is for. A file without an entry here is a red test.

use crate::harness::{
    Answer, Authority, Client, Gateway, Http2, Issuer, LoginIssuer, Modern, Origin, Received, Signer,
    Streams, Visitor, binary, curl, send, trailers, turned_away, wait_until,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A request and what its answer shows.
struct Ask {
    by: By,
    status: u16,
    /// What the answer, head and body, holds.
    has: &'static [&'static str],
    /// What it does not hold.
    lacks: &'static [&'static str],
}

enum By {
    /// A request in the clear to this listener: its lines, a blank one before a body.
    Plain(&'static str, &'static str),
    /// The arguments of curl; `{web}` is the port of the listener `web`.
    Curl(&'static [&'static str]),
    /// Curl gets no answer: the handshake fails.
    Refused(&'static [&'static str]),
}

struct Example {
    name: &'static str,
    asks: &'static [Ask],
    /// What takes more than one request to show.
    more: fn(&Gateway),
}

const fn ask(
    listener: &'static str,
    request: &'static str,
    status: u16,
    has: &'static [&'static str],
) -> Ask {
    Ask { by: By::Plain(listener, request), status, has, lacks: &[] }
}

const fn lacks(mut ask: Ask, lacks: &'static [&'static str]) -> Ask {
    ask.lacks = lacks;
    ask
}

const fn by_curl(arguments: &'static [&'static str], status: u16, has: &'static [&'static str]) -> Ask {
    Ask { by: By::Curl(arguments), status, has, lacks: &[] }
}

const fn refused(arguments: &'static [&'static str]) -> Ask {
    Ask { by: By::Refused(arguments), status: 0, has: &[], lacks: &[] }
}

const fn example(name: &'static str, asks: &'static [Ask]) -> Example {
    Example { name, asks, more: |_| {} }
}

const EXAMPLES: &[Example] = &[
    example(
        "../gateway.yaml",
        &[
            ask("web", "GET /hello", 200, &["origin 9101", "GET /hello"]),
            ask("web", "GET /api/users?page=2", 200, &["GET /v1/users?page=2", "x-served-by: tollgate"]),
            ask("web", "DELETE /api/users", 405, &["allow: get, head, post"]),
            ask("web", "GET /echo/x", 200, &["\"path\": \"/echo/x\""]),
            ask("web", "GET /whoami", 401, &["www-authenticate: bearer realm", "unauthenticated"]),
            ask("web", "GET /whoami\nauthorization: Bearer TOKEN_alice", 200, &["\"path\": \"/whoami\""]),
        ],
    ),
    Example {
        name: "access-log.yaml",
        asks: &[ask("web", "GET /hello?a=b\nx-tag: seen\nauthorization: Basic c2VjcmV0", 200, &["hello"])],
        more: |gateway| {
            let line = logged(&gateway.folder().join("access.log"));
            assert_eq!(line["route"], "hello");
            assert_eq!(line["path"], "/hello");
            assert_eq!(
                (&line["request.x-tag"], &line["request.authorization"]),
                (&"seen".into(), &"***".into())
            );
        },
    },
    Example {
        name: "admin.yaml",
        asks: &[
            ask("admin", "GET /readyz", 200, &["ready"]),
            ask("admin", "GET /config", 401, &["www-authenticate: bearer"]),
            lacks(
                ask("admin", "GET /config\nauthorization: Bearer secret", 200, &["routes:", "hello:"]),
                &["secret\n"],
            ),
            ask("admin", "POST /routes/hello/off\nauthorization: Bearer secret", 200, &["\"off\": true"]),
            ask("web", "GET /hello", 503, &["route_off"]),
            ask("admin", "POST /routes/hello/on\nauthorization: Bearer secret", 200, &["\"off\": false"]),
            ask("web", "GET /hello", 200, &["origin"]),
        ],
        more: |_| {},
    },
    example(
        "api-keys.yaml",
        &[
            ask("web", "GET /orders", 401, &["www-authenticate: apikey realm", "unauthenticated"]),
            ask("web", "GET /orders\nx-api-key: not-a-key-of-anybody", 401, &["unauthenticated"]),
            lacks(
                ask("web", "GET /orders\nx-api-key: demo-key-of-acme-0123456789", 200, &["origin 9101"]),
                &["demo-key"],
            ),
            lacks(
                ask("web", "GET /orders?key=demo-key-of-the-workshop&a=b", 200, &["GET /orders?a=b "]),
                &["demo-key"],
            ),
            ask("web", "GET /orders\nx-api-key: demo-key-in-a-file-of-its-own", 200, &["origin"]),
            ask("web", "GET /news", 200, &["origin"]),
            ask("web", "GET /news\nx-api-key: not-a-key-of-anybody", 401, &["unauthenticated"]),
        ],
    ),
    example(
        "authorize-cel.yaml",
        &[
            ask("web", "GET /accounts/acme", 401, &["unauthenticated"]),
            ask("web", "GET /accounts/acme\nx-api-key: demo-key-of-acme-inc", 200, &["origin"]),
            lacks(
                ask("web", "GET /accounts/solo\nx-api-key: demo-key-of-acme-inc", 403, &["forbidden"]),
                &["principal", "condition"],
            ),
            ask("web", "GET /reports/7\nx-api-key: demo-key-of-somebody", 200, &["origin"]),
            ask("web", "GET /reports/exports/7\nx-api-key: demo-key-of-somebody", 403, &["forbidden"]),
            ask("web", "GET /reports/x/../exports/7\nx-api-key: demo-key-of-somebody", 403, &["forbidden"]),
            ask("web", "GET /reports/exports/7\nx-api-key: demo-key-of-acme-inc", 200, &["origin"]),
            ask("web", "PUT /reports/7\nx-api-key: demo-key-of-acme-inc", 403, &["forbidden"]),
            ask(
                "web",
                "PUT /reports/7\nx-api-key: demo-key-of-acme-inc\nx-forwarded-for: 192.0.2.7",
                200,
                &["origin"],
            ),
            ask("web", "GET /search?limit=10", 200, &["origin"]),
            ask("web", "GET /search?limit=11", 401, &["www-authenticate: apikey", "unauthenticated"]),
            ask("web", "GET /search?limit=11\nx-api-key: demo-key-of-somebody", 200, &["origin"]),
            ask("web", "GET /search?limit=1&limit=99", 401, &["unauthenticated"]),
        ],
    ),
    Example {
        name: "balance.yaml",
        asks: &[
            ask("web", "GET /turns", 200, &["origin 910"]),
            ask("web", "GET /busy", 200, &["origin 910"]),
            ask("web", "GET /drawn", 200, &["origin 910"]),
            ask("web", "GET /caches\nx-user: alice", 200, &["origin 910"]),
        ],
        more: |gateway| {
            let ask = || send(gateway.web(), &wire("GET /caches\nx-user: alice")).text();
            let first = ask();
            assert!((0..8).all(|_| ask().lines().next() == first.lines().next()), "the same user");
        },
    },
    example(
        "basic.yaml",
        &[
            ask("web", "GET /", 401, &["www-authenticate: basic realm=\"reports\"", "unauthenticated"]),
            lacks(
                ask(
                    "web",
                    "GET /\nauthorization: Basic YWxpY2U6ZGVtby1wYXNzd29yZC1vZi1hbGljZQ==",
                    200,
                    &["x-user: alice"],
                ),
                &["authorization"],
            ),
            ask(
                "web",
                "GET /internal/x\nauthorization: Basic YWxpY2U6ZGVtby1wYXNzd29yZC1vZi1hbGljZQ==",
                200,
                &["origin"],
            ),
            ask("web", "GET /\nauthorization: Basic Ym9iOmRlbW8tcGFzc3dvcmQtb2YtYm9i", 200, &["x-user: bob"]),
            ask(
                "web",
                "GET /internal/x\nauthorization: Basic Ym9iOmRlbW8tcGFzc3dvcmQtb2YtYm9i",
                403,
                &["forbidden"],
            ),
            ask(
                "web",
                "GET /\nauthorization: Basic YWxpY2U6ZGVtby1wYXNzd29yZC1vZi1ib2I=",
                401,
                &["unauthenticated"],
            ),
        ],
    ),
    example(
        "body-limit.yaml",
        &[
            ask("web", "POST /notes\ncontent-length: 5\n\nshort", 200, &["origin"]),
            ask("web", "POST /notes\ncontent-length: 1025", 413, &["body_too_large"]),
            ask("web", "POST /uploads/a\ncontent-length: 5\n\nshort", 200, &["origin"]),
            ask("web", "POST /uploads/a\ncontent-length: 16385", 413, &["body_too_large"]),
        ],
    ),
    Example {
        name: "browser-oidc.yaml",
        asks: &[
            // No issuer is there yet: that costs logins alone.
            ask("web", "GET /a\nhost: localhost\naccept: text/html", 503, &["try again later", "no-store"]),
            ask(
                "web",
                "GET /a\naccept: application/json",
                401,
                &["www-authenticate: cookie", "unauthenticated"],
            ),
            ask("web", "GET /public/a\naccept: text/html", 200, &["origin 9101"]),
            ask("web", "GET /goodbye", 200, &["Goodbye."]),
        ],
        more: |gateway| {
            let issuer = LoginIssuer::start();
            let text = std::fs::read_to_string(gateway.folder().join("browser-oidc.yaml")).unwrap();
            let text = text
                .replace("http://127.0.0.1:9120", &issuer.name())
                .replace(&gateway.web().to_string(), "127.0.0.1:PORT_web");
            let gateway = Gateway::start(&text);
            let mut visitor = Visitor::of(gateway.web());
            assert_eq!(visitor.log_in(&issuer, "/reports?year=2026", "ann"), "/reports?year=2026");
            let page = visitor.open("/reports?year=2026");
            assert!(page.text().contains("GET /reports?year=2026") && !page.text().contains("cookie:"));
            assert_eq!(visitor.open("/public/a").status, 200);
            let ended = visitor.open("/logout");
            assert!(ended.field("location").unwrap().starts_with(&issuer.name()), "{ended:?}");
            assert_eq!(visitor.open("/reports").status, 302);
        },
    },
    Example {
        name: "cache-disk.yaml",
        asks: &[ask("web", "GET /shop/a", 200, &["cache-status: tollgate; fwd=uri-miss", "origin 9101"])],
        more: |gateway| {
            let files = gateway.folder().join("cache-files");
            let written = || {
                let folders = std::fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path());
                folders.filter(|path| path.is_dir()).any(|path| path.read_dir().unwrap().next().is_some())
            };
            wait_until("the answer is on disk", written);
            let mut client = Client::new(gateway.web());
            assert!(client.get("127.0.0.1", "/shop/a", "").field("cache-status").is_some());
            assert_eq!(client.send("PURGE /shop/a HTTP/1.1\r\nhost: a\r\n\r\n").text(), "purged\n");
            let answer = client.get("a", "/shop/a", "");
            assert!(answer.field("cache-status").unwrap().contains("fwd=uri-miss"));
        },
    },
    Example {
        name: "cache-shared.yaml",
        asks: &[ask("web", "GET /shop/a", 200, &["cache-status: tollgate; fwd=uri-miss", "origin 9101"])],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            let mut ask = || client.get("127.0.0.1", "/shop/b", "").field("cache-status").map(str::to_owned);
            wait_until("what is kept is served", || ask().is_some_and(|status| status.contains("hit")));
            // Without the store a purge holds here, and waits to be passed on.
            let purge = "PURGE /shop/b HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
            assert_eq!(Client::new(gateway.web()).send(purge).text(), "purged\n");
            assert!(ask().unwrap().contains("fwd=uri-miss"));
        },
    },
    Example {
        name: "cache.yaml",
        asks: &[
            ask("web", "GET /shop/a", 200, &["cache-status: tollgate; fwd=uri-miss", "origin 9101"]),
            ask("web", "GET /shop/a\ncookie: preview=1", 200, &["cache-status: tollgate; fwd=bypass"]),
        ],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            let mut ask = |target: &str| client.get("a", target, "").field("cache-status").map(str::to_owned);
            wait_until("what is kept is served", || {
                ask("/shop/b").is_some_and(|status| status.contains("hit"))
            });
            assert!(ask("/shop/b?utm_source=x").unwrap().contains("hit"));
            assert!(ask("/shop/b?page=2").unwrap().contains("fwd=uri-miss"));
        },
    },
    example(
        "client-certificates.yaml",
        &[
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/billing.pem",
                    "--key",
                    "tls/billing.key",
                    "https://localhost:{secure}/orders/7",
                ],
                200,
                &["x-consumer: billing"],
            ),
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/billing.pem",
                    "--key",
                    "tls/billing.key",
                    "https://localhost:{secure}/invoices/7",
                ],
                200,
                &["x-consumer: billing"],
            ),
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/reports.pem",
                    "--key",
                    "tls/reports.key",
                    "https://localhost:{secure}/orders/7",
                ],
                200,
                &["x-consumer: reports"],
            ),
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/reports.pem",
                    "--key",
                    "tls/reports.key",
                    "https://localhost:{secure}/invoices/7",
                ],
                403,
                &["forbidden"],
            ),
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/reports.pem",
                    "--key",
                    "tls/reports.key",
                    "https://localhost:{secure}/workloads/7",
                ],
                200,
                &["origin"],
            ),
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/me.pem",
                    "--key",
                    "tls/me.key",
                    "https://localhost:{secure}/orders/7",
                ],
                401,
                &["www-authenticate: Certificate realm", "unauthenticated"],
            ),
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/me.pem",
                    "--key",
                    "tls/me.key",
                    "https://localhost:{secure}/workloads/7",
                ],
                403,
                &["forbidden"],
            ),
            by_curl(
                &["--cacert", "tls/ca.pem", "https://localhost:{secure}/orders/7"],
                401,
                &["unauthenticated"],
            ),
            by_curl(&["--cacert", "tls/ca.pem", "https://localhost:{secure}/health"], 200, &["fine"]),
            refused(&[
                "--cacert",
                "tls/ca.pem",
                "--cert",
                "tls/former.pem",
                "--key",
                "tls/former.key",
                "https://localhost:{secure}/orders/7",
            ]),
        ],
    ),
    example(
        "compress.yaml",
        &[
            ask(
                "web",
                "GET /manual\naccept-encoding: gzip",
                200,
                &["content-encoding: gzip", "vary: accept-encoding"],
            ),
            ask("web", "GET /manual\naccept-encoding: gzip;q=0.5, zstd", 200, &["content-encoding: zstd"]),
            lacks(
                ask(
                    "web",
                    "GET /manual\naccept-encoding: gzip;q=0",
                    200,
                    &["vary: accept-encoding", "not to be"],
                ),
                &["content-encoding"],
            ),
            ask("web", "GET /site\naccept-encoding: zstd, gzip, br", 200, &["content-encoding: br"]),
            by_curl(
                &["-H", "accept-encoding: gzip", "--compressed", "http://127.0.0.1:{web}/site"],
                200,
                &["Content-Encoding: gzip", "\"id\": 3"],
            ),
            ask("web", "GET /events\naccept-encoding: br", 200, &["content-encoding: br"]),
            lacks(
                ask("web", "GET /downloads\naccept-encoding: gzip", 200, &["\"a\""]),
                &["content-encoding", "vary"],
            ),
        ],
    ),
    Example {
        name: "concurrency.yaml",
        asks: &[
            ask("web", "GET /reports", 200, &["origin"]),
            ask("web", "GET /orders/7\nx-api-key: demo-key-of-acme-inc", 200, &["origin"]),
        ],
        more: |gateway| {
            let refused = || Client::new(gateway.web()).get("a", "/reports", "").status == 429;
            wait_until("one is refused while the other is in flight", || {
                let mut slow = Client::new(gateway.web());
                // Its body does not come yet: it stays in flight, unless it was refused itself.
                slow.write("POST /reports HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n");
                let was_refused = refused();
                slow.write("x");
                slow.read(false).status == 200 && was_refused
            });
            wait_until("it has ended", || !refused());
        },
    },
    example(
        "conditions.yaml",
        &[
            ask("web", "GET /page", 200, &["any"]),
            ask("web", "GET /page\nx-channel: mobile", 200, &["mobile"]),
            ask("web", "GET /page?preview\ncookie: a=b; role=editor", 200, &["preview"]),
            ask("web", "GET /page?preview\ncookie: role=reader", 200, &["any"]),
            ask("web", "GET /page\nx-channel: mobile\nuser-agent: Mozilla (MSIE 6)", 200, &["old"]),
            ask("web", "GET /office\nx-forwarded-for: 192.0.2.9", 200, &["office"]),
            ask("web", "GET /office", 404, &["route_not_found"]),
        ],
    ),
    Example {
        name: "connection-limits.yaml",
        asks: &[ask("web", "GET /", 200, &["hello"])],
        more: |gateway| {
            let open = "tollgate_connections{listener=\"web\"}";
            wait_until("the one before has gone", || gateway.metric(open) == 0.0);
            let mut clients = [Client::new(gateway.web()), Client::new(gateway.web())];
            for client in &mut clients {
                assert_eq!(client.get("a", "/", "").status, 200);
            }
            assert!(turned_away(gateway.web()), "the third of two");
            let refused = "tollgate_connections_refused_total{listener=\"web\",cause=\"client\"}";
            wait_until("it is counted", || gateway.metric(refused) == 1.0);
        },
    },
    example(
        "consumers.yaml",
        &[
            ask("web", "GET /a", 401, &["unauthenticated"]),
            ask("web", "GET /a\nx-api-key: demo-key-of-consumer-1", 200, &["origin"]),
            ask("web", "GET /a\nx-api-key: demo-key-of-consumer-2", 200, &["origin"]),
            ask("web", "GET /a\nx-api-key: demo-key-of-the-operator", 200, &["origin"]),
            ask("web", "GET /health", 200, &["origin"]),
        ],
    ),
    example(
        "content-digest.yaml",
        &[
            ask(
                "web",
                "PUT /notes\ncontent-digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\ncontent-length: 5\n\nhello",
                200,
                &["origin 9101"],
            ),
            ask(
                "web",
                "PUT /notes\ncontent-digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\ncontent-length: 5\n\nhallo",
                400,
                &["digest_mismatch"],
            ),
            ask("web", "PUT /notes\ncontent-length: 5\n\nhello", 200, &["origin 9101"]),
            ask(
                "web",
                "PUT /payments\ncontent-length: 5\n\nhello",
                400,
                &["digest_required", "want-content-digest: sha-512=5, sha-256=5"],
            ),
            ask(
                "web",
                "PUT /payments\ncontent-digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\ntransfer-encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n",
                411,
                &["length_required"],
            ),
            ask("web", "GET /payments", 200, &["origin 9101"]),
        ],
    ),
    example(
        "cors.yaml",
        &[
            lacks(
                ask(
                    "web",
                    "OPTIONS /api/x\norigin: https://app.example.com\naccess-control-request-method: PUT",
                    204,
                    &[
                        "access-control-allow-origin: https://app.example.com",
                        "access-control-allow-methods: get, put",
                        "access-control-max-age: 3600",
                        "access-control-allow-credentials: true",
                    ],
                ),
                &["origin 9101"],
            ),
            ask(
                "web",
                "GET /api/x\norigin: https://eu.partner.example",
                200,
                &[
                    "access-control-allow-origin: https://eu.partner.example",
                    "access-control-expose-headers: x-total",
                ],
            ),
            lacks(
                ask("web", "GET /api/x\norigin: https://evil.example", 200, &["vary: origin"]),
                &["access-control-allow-origin"],
            ),
        ],
    ),
    example(
        "discover.yaml",
        &[ask("web", "GET /named", 200, &["origin 9101"]), ask("web", "GET /listed", 200, &["origin 910"])],
    ),
    example(
        "echo.yaml",
        &[ask(
            "web",
            "GET /mirror//a/../b?c=d\ncookie: secret=1",
            200,
            &["\"path\": \"/mirror/b\"", "\"query\": \"c=d\"", "\"***\""],
        )],
    ),
    example(
        "edge-jwt-plans.yaml",
        &[
            ask("web", "GET /orders/7", 401, &["www-authenticate: bearer realm"]),
            lacks(
                ask(
                    "web",
                    "GET /orders/7\nauthorization: Bearer TOKEN_alice",
                    200,
                    &["x-consumer: main:alice", "x-plan: free"],
                ),
                &["authorization"],
            ),
            ask("web", "GET /reports/7\nauthorization: Bearer TOKEN_bob", 403, &["forbidden"]),
            ask("web", "GET /orders/8\nauthorization: Bearer TOKEN_alice", 200, &["origin 9101"]),
            ask("web", "GET /orders/9\nauthorization: Bearer TOKEN_alice", 429, &["retry-after"]),
            ask("web", "GET /orders/9\nauthorization: Bearer TOKEN_carol", 200, &["x-consumer: main:carol"]),
        ],
    ),
    example(
        "error-pages.yaml",
        &[
            ask("web", "GET /nowhere", 404, &["content-type: text/html", "There is nothing here."]),
            ask(
                "web",
                "POST /upload\ncontent-length: 2000",
                413,
                &["content-type: application/json", "at most one KiB"],
            ),
        ],
    ),
    example(
        "fallback.yaml",
        &[
            ask("web", "GET /prices/7", 200, &["origin 9101", "tollgate-fallback: upstream"]),
            // It may have been sent already, and is not sent twice.
            ask(
                "web",
                "POST /prices/7",
                200,
                &[
                    "{\"item\":\"7\",\"price\":null}",
                    "content-type: application/json",
                    "tollgate-fallback: respond",
                ],
            ),
            ask(
                "web",
                "GET /basket/3",
                503,
                &["retry-after: 30", "closed for a moment", "tollgate-fallback: respond"],
            ),
        ],
    ),
    example(
        "fault.yaml",
        &[
            ask("web", "GET /orders", 200, &["origin 9101"]),
            ask("web", "GET /orders\nx-fault: yes", 503, &["fault_injected"]),
        ],
    ),
    Example {
        name: "flood.yaml",
        asks: &[ask("web", "GET /hello", 200, &["origin"]), ask("web", "GET /login", 200, &["origin"])],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            wait_until("twenty a minute are too many", || client.get("a", "/login", "").status == 429);
            let refused = client.get("a", "/login", "");
            assert_eq!((refused.code().as_str(), refused.field("retry-after")), ("flooding", Some("60")));
            assert_eq!(client.get("a", "/hello", "").status, 200);
        },
    },
    example(
        "folder",
        &[
            ask("web", "GET /orders/7", 200, &["origin 9101"]),
            ask("web", "GET /stock/7", 200, &["origin 9102"]),
        ],
    ),
    example(
        "forward-auth.yaml",
        &[
            ask("web", "GET /", 302, &["location: https://login.example.com/"]),
            lacks(
                ask(
                    "web",
                    "GET /\ncookie: session=bob\nx-user: root",
                    200,
                    &["x-user: bob", "x-teams: billing"],
                ),
                &["root"],
            ),
            ask("web", "GET /admin/x\ncookie: session=bob\nx-teams: ops", 403, &["forbidden"]),
            ask("web", "GET /admin/x\ncookie: session=alice", 200, &["x-user: alice"]),
            ask("web", "GET /health", 200, &["fine"]),
        ],
    ),
    example(
        "grpc-web.yaml",
        &[
            ask(
                "web",
                "POST /demo.Greeter/Hello\norigin: https://app.example.com\ncontent-type: application/grpc-web-text\n\
                 content-length: 12\n\nAAAAAAJoaQ==",
                200,
                &[
                    "content-type: application/grpc-web-text",
                    "access-control-expose-headers: grpc-status",
                    "AAAAAAJoaQ==",
                ],
            ),
            ask(
                "web",
                "OPTIONS /demo.Greeter/Hello\norigin: https://app.example.com\naccess-control-request-method: POST\n\
                 access-control-request-headers: content-type,x-grpc-web",
                204,
                &["access-control-allow-origin: https://app.example.com"],
            ),
        ],
    ),
    Example {
        name: "grpc.yaml",
        asks: &[ask("web", "GET /demo.Greeter/Hello", 405, &["allow: post"])],
        more: |gateway| {
            let call =
                http::Request::post("http://a/demo.Greeter/Hello").header("content-type", "application/grpc");
            let answer =
                Http2::clear(gateway.web()).send(call.header("te", "trailers"), &[b"\0\0\0\0\x02hi"]);
            assert_eq!(
                (answer.body.as_slice(), answer.trailer("grpc-status")),
                (&b"\0\0\0\0\x02hi"[..], Some("0"))
            );
        },
    },
    example(
        "h2c.yaml",
        &[
            by_curl(
                &["--http2-prior-knowledge", "http://127.0.0.1:{web}/"],
                200,
                &["HTTP/2", "\"path\": \"/\""],
            ),
            ask("web", "GET /", 200, &["\"path\": \"/\""]),
        ],
    ),
    example(
        "headers.yaml",
        &[lacks(
            ask(
                "web",
                "GET /orders/7?tag=a\nx-internal: 1\nx-order: mine",
                200,
                &[
                    "x-order: 7\n",
                    "x-client: 127.0.0.1\n",
                    "x-route: orders\n",
                    "x-tag: a\n",
                    "cache-control: no-store\n",
                    "vary: accept-language\n",
                ],
            ),
            &["x-internal", "x-order: mine", "server: test"],
        )],
    ),
    example("health.yaml", &[ask("web", "GET /a", 200, &["origin 910", "GET /a"])]),
    Example {
        name: "hedge.yaml",
        asks: &[ask("web", "GET /a", 200, &["origin 910"]), ask("web", "GET /quick", 200, &["origin 910"])],
        more: |gateway| {
            let count = |outcome| {
                gateway.metric(&format!("tollgate_hedges_total{{upstream=\"search\",outcome=\"{outcome}\"}}"))
            };
            wait_until("it went to both", || count("won") + count("lost") >= 1.0);
        },
    },
    example(
        "hosts-signed-urls.yaml",
        &[
            ask("web", "GET /a//b%2Fc\nhost: files.example.com", 200, &["GET /a//b%2Fc"]),
            ask("web", "GET /a//b\nhost: www.example.com", 200, &["GET /a/b "]),
            ask("web", "GET /a%2Fb\nhost: www.example.com", 400, &["bad_path"]),
        ],
    ),
    example(
        "ip-access.yaml",
        &[
            ask("web", "GET /", 200, &["origin"]),
            ask("web", "GET /\nx-forwarded-for: 203.0.113.7", 403, &["ip_denied"]),
            ask("web", "GET /\nx-forwarded-for: 2001:db8:bad::1", 403, &["ip_denied"]),
            ask("web", "GET /staff/", 403, &["ip_denied"]),
            ask("web", "GET /staff/\nx-forwarded-for: 192.0.2.1", 200, &["origin"]),
            ask("web", "GET /staff/\nx-forwarded-for: 192.0.2.66", 403, &["ip_denied"]),
        ],
    ),
    example(
        "jwt.yaml",
        &[
            ask("web", "GET /orders/7", 401, &["www-authenticate: bearer realm", "unauthenticated"]),
            ask("web", "GET /orders/7\nauthorization: Bearer abc", 401, &["error=\"invalid_token\""]),
            lacks(
                ask("web", "GET /orders/7\nauthorization: Bearer TOKEN_alice", 200, &["origin 9101"]),
                &["authorization"],
            ),
            ask("web", "GET /catalogue/7", 200, &["origin 9101"]),
            ask("web", "GET /catalogue/7\nauthorization: Bearer abc", 401, &["unauthenticated"]),
        ],
    ),
    example(
        "layers.yaml",
        &[
            ask("web", "GET /plain", 200, &["x-layer: defaults", "x-content-type-options: nosniff"]),
            ask("internal", "GET /plain", 200, &["x-layer: listener", "x-content-type-options: nosniff"]),
            ask("web", "GET /own", 200, &["x-layer: route", "x-content-type-options: nosniff"]),
            ask("internal", "GET /own", 200, &["x-layer: route"]),
            lacks(ask("internal", "GET /bare", 200, &["x-content-type-options: nosniff"]), &["x-layer"]),
            ask("web", "GET /bare\nx-forwarded-for: 203.0.113.7", 403, &["ip_denied", "nosniff"]),
            ask("web", "GET /nowhere", 404, &["x-layer: defaults", "nosniff"]),
        ],
    ),
    example(
        "machine-to-machine.yaml",
        &[
            ask("web", "GET /orders/7", 401, &["www-authenticate: bearer realm"]),
            ask("web", "GET /orders/7\nauthorization: Bearer unknown", 401, &["error=\"invalid_token\""]),
            ask(
                "web",
                "GET /orders/7\nauthorization: Bearer token-of-a-machine",
                200,
                &["authorization: bearer granted-"],
            ),
            ask(
                "web",
                "GET /billing/7\nauthorization: Bearer token-of-a-machine",
                200,
                &["authorization: bearer granted-"],
            ),
            lacks(
                ask(
                    "web",
                    "GET /stock/7\nauthorization: Bearer token-of-a-machine",
                    200,
                    &["x-api-key: only-for-trying-out"],
                ),
                &["token-of-a-machine"],
            ),
        ],
    ),
    example(
        "mtls.yaml",
        &[
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--cert",
                    "tls/me.pem",
                    "--key",
                    "tls/me.key",
                    "https://localhost:{secure}/",
                ],
                200,
                &["partners"],
            ),
            refused(&["--cacert", "tls/ca.pem", "https://localhost:{secure}/"]),
            by_curl(&["--cacert", "tls/ca.pem", "https://localhost:{optional}/"], 200, &["open"]),
            refused(&[
                "--cacert",
                "tls/ca.pem",
                "--cert",
                "tls/former.pem",
                "--key",
                "tls/former.key",
                "https://localhost:{optional}/",
            ]),
        ],
    ),
    example(
        "overload.yaml",
        &[
            ask("web", "GET /reports", 200, &["origin"]),
            ask("web", "GET /checkout", 200, &["origin"]),
            ask("health", "GET /healthz", 204, &[]),
            ask("admin", "GET /metrics", 200, &["tollgate_overload_level 0"]),
        ],
    ),
    example(
        "path-patterns.yaml",
        &[
            ask("web", "GET /orders", 200, &["\nexact"]),
            ask("web", "GET /orders/", 404, &[]),
            ask("web", "GET /orders/7", 200, &["\nparameter", "x-id: 7"]),
            ask("web", "GET /orders/new", 200, &["\nliteral"]),
            ask("web", "GET /files", 200, &["\nprefix"]),
            ask("web", "GET /files/a/b", 200, &["\nprefix"]),
            ask("web", "GET /filesystem", 404, &[]),
            ask("web", "GET /static/css/a.css", 200, &["\nrest", "x-rest: css/a.css"]),
            ask("web", "GET /v12/status", 200, &["\nregex", "x-version: 12"]),
            ask("web", "GET /v12/statuses", 404, &[]),
            ask("web", "GET /a", 200, &["\nseveral"]),
            ask("web", "GET /b", 405, &["allow: post"]),
        ],
    ),
    Example {
        name: "proxy-protocol.yaml",
        asks: &[ask("direct", "GET /", 200, &["x-forwarded-for: 127.0.0.1\n"])],
        more: |gateway| {
            let mut named = Client::new(gateway.web());
            named.write("PROXY TCP4 192.0.2.7 198.51.100.1 4660 80\r\n");
            let answer = named.get("a", "/", "");
            assert!(answer.text().contains("x-forwarded-for: 192.0.2.7\n"), "{}", answer.text());
            let mut denied = Client::new(gateway.web());
            denied.write("PROXY TCP4 192.0.2.66 198.51.100.1 4660 80\r\n");
            assert_eq!(denied.get("a", "/", "").status, 403);
            let mut silent = Client::new(gateway.web());
            silent.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            assert!(silent.is_closed(), "a balancer must name the client");
        },
    },
    Example {
        // No Redis is there: it shows what a gateway does by itself.
        name: "quota-shared.yaml",
        asks: &[
            ask("web", "GET /reports", 200, &["ratelimit-policy: \"client_ip\";q=3;w="]),
            ask("web", "GET /exports", 503, &["limit_unavailable"]),
        ],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            wait_until("three a month are used up", || client.get("a", "/reports", "").status == 429);
        },
    },
    Example {
        name: "quota.yaml",
        asks: &[
            ask(
                "web",
                "GET /reports\nx-api-key: demo-key-of-acme-inc",
                200,
                &["\"plan\";q=1000000", "r=999999"],
            ),
            ask("web", "GET /reports\nx-api-key: demo-key-of-somebody", 200, &["\"plan\";q=3", "r=2"]),
            ask("web", "GET /public/a", 200, &["origin"]),
            ask(
                "admin",
                "GET /quotas?for=solo\nauthorization: Bearer secret",
                200,
                &["\"used\": 1", "\"left\": 2", "\"quota\": \"plan\""],
            ),
        ],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            let mut ask =
                |target: &str, key: &str| client.get("a", target, &format!("x-api-key: {key}\r\n")).status;
            let exports: Vec<u16> = (0..11).map(|_| ask("/reports/export", "demo-key-of-acme-inc")).collect();
            assert_eq!(exports, [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 429]);
            assert_eq!(ask("/reports/7", "demo-key-of-acme-inc"), 200, "what is no export is free there");
            let tenants = ["acme-inc", "acme-labs", "acme-inc", "acme-labs", "acme-inc"];
            let of_tenant = tenants.map(|who| ask("/storage/a", &format!("demo-key-of-{who}")));
            assert_eq!(of_tenant, [200, 200, 200, 200, 429], "both are of one tenant");
            assert_eq!(ask("/storage/a", "demo-key-of-somebody"), 200, "somebody is of none");
            wait_until("three a day are used up", || ask("/reports", "demo-key-of-somebody") == 429);
            wait_until("it is on disk", || gateway.folder().join("state/quotas").exists());
        },
    },
    Example {
        // No Redis is there: it shows what a gateway has by itself.
        name: "rate-limit-shared.yaml",
        asks: &[ask("web", "GET /search", 200, &["ratelimit-policy: \"client_ip\";q=3"])],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            wait_until("its half is used up", || client.get("a", "/search", "").status == 429);
        },
    },
    Example {
        name: "rate-limit.yaml",
        asks: &[
            ask(
                "web",
                "GET /search",
                200,
                &["ratelimit-policy: \"client_ip\";q=3;w=30", "ratelimit: \"client_ip\";r=2"],
            ),
            ask("web", "GET /orders/7\nx-api-key: demo-key-of-acme-inc", 200, &["\"plan\";q=200;w=2"]),
            ask("web", "GET /orders/7\nx-api-key: demo-key-of-somebody", 200, &["\"plan\";q=5;w=60"]),
            ask("web", "GET /query", 200, &["origin"]),
        ],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            let mut ask = |target: &str, fields: &str| client.get("a", target, fields);
            wait_until("three at once are used up", || ask("/search", "").status == 429);
            assert!(ask("/search", "").field("retry-after").is_some());
            let key = "x-api-key: demo-key-of-acme-inc\r\n";
            let exports: Vec<u16> = (0..3).map(|_| ask("/orders/export", key).status).collect();
            assert_eq!(exports, [200, 200, 429]);
            assert_eq!(ask("/orders/7", key).status, 200, "what is no export is free there");
        },
    },
    example(
        "rbac.yaml",
        &[
            ask("web", "GET /orders/7", 401, &["unauthenticated"]),
            ask(
                "web",
                "GET /orders/7\nx-api-key: demo-key-of-reports\nx-consumer: root",
                200,
                &["x-consumer: reports"],
            ),
            ask("web", "POST /orders\nx-api-key: demo-key-of-reports", 403, &["forbidden"]),
            ask("web", "GET /orders\nx-api-key: demo-key-of-the-shop", 200, &["x-consumer: shop"]),
            ask("web", "PUT /orders/7\nx-api-key: demo-key-of-the-shop", 200, &["origin"]),
            ask("web", "PUT /orders/7/lines\nx-api-key: demo-key-of-the-shop", 403, &["forbidden"]),
            ask("web", "DELETE /orders/7\nx-api-key: demo-key-of-the-admin", 200, &["origin"]),
            ask("web", "POST /orders/7/approve\nx-api-key: demo-key-of-the-shop", 200, &["origin"]),
            ask("web", "POST /orders/7/approve\nx-api-key: demo-key-of-reports", 403, &["forbidden"]),
            ask("web", "GET /settings/a\nx-api-key: demo-key-of-the-shop", 200, &["origin"]),
            ask("web", "PUT /settings/a\nx-api-key: demo-key-of-the-shop", 403, &["forbidden"]),
            ask("web", "PUT /settings/a\nx-api-key: demo-key-of-the-admin", 200, &["origin"]),
        ],
    ),
    example(
        "redirect-https.yaml",
        &[
            ask(
                "web",
                "GET /a?b=c\nhost: localhost:8080",
                308,
                &["location: https://localhost:8443/a?b=c\n"],
            ),
            ask("web", "GET /health", 200, &["ok"]),
            by_curl(
                &["--cacert", "tls/ca.pem", "https://localhost:{secure}/a"],
                200,
                &["strict-transport-security: max-age=31536000", "x-forwarded-proto: https"],
            ),
            by_curl(
                &["--cacert", "tls/ca.pem", "https://localhost:{secure}/documentation/a/b?x"],
                301,
                &["location: https://docs.example.com/v2/a/b\n"],
            ),
        ],
    ),
    example("resilience.yaml", &[ask("web", "GET /orders/7", 200, &["origin 9101"])]),
    example(
        "respond.yaml",
        &[
            ask(
                "web",
                "GET /robots.txt",
                200,
                &["cache-control: max-age=3600", "Disallow: /\n", "text/plain"],
            ),
            ask("web", "GET /shop/a", 503, &["retry-after: 120", "application/json", "we move house"]),
            ask("web", "GET /favicon.ico", 204, &[]),
        ],
    ),
    example(
        "retry.yaml",
        &[
            ask("web", "GET /", 200, &["origin 9101"]),
            ask("web", "GET /", 200, &["origin 9101"]),
            ask("web", "GET /once", 503, &["overloaded"]),
        ],
    ),
    example(
        "revocation.yaml",
        &[
            ask("web", "GET /orders/7\nauthorization: Bearer TOKEN_alice", 200, &["origin 9101"]),
            ask(
                "web",
                "GET /orders/7\nauthorization: Bearer TOKEN_mallory",
                401,
                &["error=\"invalid_token\""],
            ),
            ask("admin", "GET /revocations", 401, &["www-authenticate: bearer"]),
            ask(
                "admin",
                "POST /revocations\nauthorization: Bearer secret\ncontent-length: 19\n\n{\"subject\":\"alice\"}",
                201,
                &["\"subject\": \"alice\"", "\"saved\": false"],
            ),
            ask("web", "GET /orders/7\nauthorization: Bearer TOKEN_alice", 401, &["unauthenticated"]),
            ask(
                "admin",
                "GET /revocations\nauthorization: Bearer secret",
                200,
                &["\"in_file\": 1", "\"count\": 1"],
            ),
        ],
    ),
    example(
        "rewrite.yaml",
        &[
            ask("web", "GET /shop/a/b?c=d", 200, &["GET /v2/shop/a/b?c=d HTTP"]),
            ask("web", "GET /shop", 200, &["GET /v2/shop HTTP"]),
            ask("web", "GET /t/acme/orders", 200, &["GET /orders HTTP", "host: acme.internal.example"]),
        ],
    ),
    example(
        "secrets-env.yaml",
        &[
            ask("web", "GET /", 200, &["origin 9101", "x-region: nowhere"]),
            ask("web", "GET /literal", 200, &["${HOME}"]),
            lacks(
                ask(
                    "admin",
                    "GET /config\nauthorization: Bearer secret",
                    200,
                    &["${TOLLGATE_EXAMPLE_REGION:-nowhere}"],
                ),
                &["secret\n"],
            ),
        ],
    ),
    Example {
        name: "signed-requests.yaml",
        asks: &[
            ask("web", "GET /orders/7", 401, &["www-authenticate: signature realm", "unauthenticated"]),
            ask("web", "GET /scripts/7", 401, &["www-authenticate: hmac-sha256 realm", "unauthenticated"]),
        ],
        more: |gateway| {
            let secret = "demo-secret-of-the-partner-0123456789";
            let partner = Signer { secret, key: "partner-2026", host: "example.com" };
            let ask = |line: &str, fields: &str, body: &str| {
                let length = body.len();
                let head = format!("{line} HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n{fields}");
                let answer = send(gateway.web(), &format!("{head}content-length: {length}\r\n\r\n{body}"));
                (answer.status, answer.text())
            };
            let fields = partner.fields("POST", "/orders/7?a=b", "1", Some(b"3 pieces"));
            let (status, text) = ask("POST /orders/7?a=b", &fields, "3 pieces");
            assert!(status == 200 && text.contains("x-consumer: partner"), "{status}: {text}");
            assert_eq!(ask("POST /orders/7?a=b", &fields, "3 pieces").0, 401, "once");
            let fields = partner.fields("POST", "/orders/7?a=b", "2", Some(b"3 pieces"));
            assert_eq!(ask("POST /orders/7?a=b", &fields, "9 pieces").0, 401, "another body");
            let fields = partner.simply("GET", "/scripts/7", &Signer::date(0), None);
            let (status, text) = ask("GET /scripts/7", &fields, "");
            assert!(status == 200 && text.contains("x-consumer: partner"), "{status}: {text}");
        },
    },
    Example {
        name: "split-canary.yaml",
        asks: &[ask("web", "GET /\nx-canary: yes", 200, &["origin 9102"])],
        more: |gateway| {
            let side = |n: usize| {
                let request =
                    format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: session={n}\r\nconnection: close\r\n\r\n");
                send(gateway.web(), &request).text().contains("origin 9102")
            };
            let first: Vec<bool> = (0..100).map(side).collect();
            let second: Vec<bool> = (0..100).map(side).collect();
            assert_eq!(first, second, "a session stays on its side");
            let canary = first.iter().filter(|canary| **canary).count();
            assert!((1..40).contains(&canary), "{canary} of 100 sessions meet the canary");
        },
    },
    Example {
        name: "sse.yaml",
        asks: &[],
        more: |gateway| {
            let mut client = Client::new(gateway.web());
            client.write("GET /events/a HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n");
            let mut came = Vec::new();
            while !came.ends_with(b"data: 1\n\n") {
                came.extend(client.try_read_bytes(1).expect("the first event comes although no other does"));
            }
        },
    },
    Example {
        name: "sticky-cookie.yaml",
        asks: &[ask("web", "GET /", 200, &["set-cookie: endpoint=", "; httponly; samesite=lax"])],
        more: |gateway| {
            let first = send(gateway.web(), &wire("GET /"));
            let cookie = first.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
            for _ in 0..5 {
                let again = send(gateway.web(), &wire(&format!("GET /\ncookie: {cookie}")));
                assert_eq!(again.text().lines().next(), first.text().lines().next());
            }
        },
    },
    example(
        "timeouts-retry.yaml",
        &[
            ask("web", "GET /", 200, &["origin"]),
            ask("web", "GET /reports/slow", 200, &["origin"]),
            ask("web", "GET /quick", 504, &["upstream_timeout"]),
        ],
    ),
    example(
        "tls-sni.yaml",
        &[
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--resolve",
                    "api.example.com:{secure}:127.0.0.1",
                    "https://api.example.com:{secure}/",
                ],
                200,
                &["HTTP/2", "\napi"],
            ),
            by_curl(
                &[
                    "--cacert",
                    "tls/ca.pem",
                    "--resolve",
                    "one.apps.example.com:{secure}:127.0.0.1",
                    "https://one.apps.example.com:{secure}/",
                ],
                200,
                &["\napps"],
            ),
            by_curl(&["-k", "-H", "host: api.example.com", "https://127.0.0.1:{secure}/"], 200, &["\napi"]),
        ],
    ),
    example(
        "trusted-proxies.yaml",
        &[
            ask(
                "web",
                "GET /\nx-forwarded-for: 192.0.2.7, 10.1.2.3\nx-request-id: theirs",
                200,
                &[
                    "x-client: 192.0.2.7\n",
                    "x-forwarded-for: 192.0.2.7, 10.1.2.3, 127.0.0.1\n",
                    "x-request-id: theirs\n",
                ],
            ),
            lacks(
                ask(
                    "direct",
                    "GET /\nx-forwarded-for: 192.0.2.7\nx-request-id: theirs",
                    200,
                    &["x-client: 127.0.0.1\n", "x-forwarded-for: 127.0.0.1\n"],
                ),
                &["192.0.2.7", "theirs"],
            ),
        ],
    ),
    example("upstream-http2.yaml", &[ask("web", "GET /a", 200, &["\"version\":\"HTTP/2.0\""])]),
    example(
        "upstream-tls.yaml",
        &[ask("web", "GET /a", 200, &["\"sni\":\"orders.internal\"", "\"client\":\"me\"", "HTTP/2.0"])],
    ),
    example("upstream-unix.yaml", &[ask("web", "GET /", 200, &["socket"])]),
    Example {
        name: "websocket.yaml",
        asks: &[ask("web", "GET /chat/hello", 200, &["GET /chat/hello"])],
        more: |gateway| {
            let handshake = |path| {
                format!(
                    "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
                )
            };
            let mut chat = Client::new(gateway.web());
            assert_eq!(chat.send(handshake("/chat/room")).status, 101);
            chat.write(b"\x81\x82\0\0\0\0hi");
            assert_eq!(chat.try_read_bytes(8).as_deref(), Some(&b"\x81\x82\0\0\0\0hi"[..]));
            assert_eq!(Client::new(gateway.web()).send(handshake("/other")).status, 200);
        },
    },
];

/// The fixed ports of the examples, with the listener that has each.
const LISTENERS: [(u16, &str); 7] = [
    (8080, "web"),
    (8081, "internal"),
    (8081, "direct"),
    (8081, "health"),
    (8443, "secure"),
    (8444, "optional"),
    (9901, "admin"),
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples")
}

#[test]
fn every_example_has_an_entry() {
    let names =
        std::fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let beside = ["pages", "tls", "secrets", "consumers", "lists"];
    let there: BTreeSet<String> = names.filter(|name| !beside.contains(&name.as_str())).collect();
    let here: Vec<&str> =
        EXAMPLES.iter().map(|example| example.name).filter(|name| !name.contains('/')).collect();
    assert_eq!(there, here.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
    assert!(here.is_sorted(), "in the order of their names");
}

#[test]
fn every_example_passes_the_check_without_a_warning() {
    let folder = with_files();
    for example in EXAMPLES {
        let path = match example.name.strip_prefix("../") {
            Some(_) => examples().join(example.name),
            None => folder.path().join(example.name),
        };
        let output = binary().arg("check").arg("-c").arg(&path).output().unwrap();
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && report.contains("0 errors, 0 warnings"), "{report}");
    }
}

#[test]
fn every_example_does_what_it_shows() {
    let mut wrong = Vec::new();
    for example in EXAMPLES {
        let shown = std::panic::catch_unwind(|| show(example));
        if shown.is_err() {
            wrong.push(example.name);
        }
    }
    assert!(wrong.is_empty(), "the reasons stand above: {wrong:?}");
}

fn show(example: &Example) {
    let origins = [origin("9101"), origin("9102")];
    let issuer = issuer();
    let folder = with_files();
    let others = Others::new(folder.path());
    let list = folder.path().join("lists/endpoints.yaml");
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, with_addresses(&text, &origins, &issuer)).unwrap();
    let sources = match example.name {
        "folder" => vec!["folder/listeners.yaml", "folder/orders.yaml", "folder/stock.yaml"],
        name => vec![name],
    };
    let texts: Vec<(&str, String)> = sources
        .iter()
        .map(|source| {
            let text = std::fs::read_to_string(examples().join(source)).unwrap();
            let text = with_addresses(&text, &origins, &issuer);
            (source.trim_start_matches("../"), others.with_addresses(text))
        })
        .collect();
    let files: Vec<(&str, &str)> = texts.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let gateway = Gateway::start_files(folder, example.name.trim_start_matches("../"), &files);
    for ask in example.asks {
        check(example.name, &gateway, &issuer, ask);
    }
    (example.more)(&gateway);
}

/// The examples as they are, beside keys and secrets that are made for this test alone.
fn with_files() -> TempDir {
    let folder = TempDir::new().unwrap();
    copy(&examples(), folder.path());
    let tls = folder.path().join("tls");
    let authority = Authority::within(&tls);
    authority.issue(&tls, "site", &["localhost"]);
    authority.issue(&tls, "api", &["api.example.com"]);
    authority.issue(&tls, "apps", &["*.apps.example.com"]);
    authority.issue(&tls, "me", &["me.example"]);
    authority.issue(&tls, "orders", &["orders.internal"]);
    authority.issue(&tls, "former", &["former.example"]);
    authority.issue(&tls, "billing", &["billing.internal"]);
    authority.issue(&tls, "reports", &["spiffe://example.internal/reports"]);
    authority.revoke(&tls, &["former"]);
    std::fs::copy(folder.path().join("tls/ca.pem"), folder.path().join("tls/clients.pem")).unwrap();
    std::fs::create_dir_all(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/admin-token"), "secret\n").unwrap();
    std::fs::write(folder.path().join("secrets/sticky-secret"), "0123456789abcdef\n").unwrap();
    std::fs::write(folder.path().join("secrets/workshop-key"), "demo-key-in-a-file-of-its-own\n").unwrap();
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

fn with_addresses(text: &str, origins: &[Origin; 2], issuer: &Issuer) -> String {
    let mut text = text.to_owned();
    for (port, origin) in ["127.0.0.1:9101", "127.0.0.1:9102"].iter().zip(origins) {
        text = text.replace(port, &origin.address().to_string());
        let named = port.replace("127.0.0.1", "localhost");
        text = text.replace(&named, &format!("localhost:{}", origin.address().port()));
    }
    for address in ["127.0.0.1:9110", "127.0.0.1:9111"] {
        text = text.replace(address, issuer.url().trim_start_matches("http://"));
    }
    for (port, name) in LISTENERS {
        let section = format!("  {name}:");
        if name == "admin" || text.contains(&section) {
            text = text
                .replace(&format!("address: 127.0.0.1:{port}"), &format!("address: 127.0.0.1:PORT_{name}"));
        }
    }
    text
}

/// Origins of other kinds.
struct Others {
    calls: Streams,
    clear: Modern,
    tls: Modern,
    overloaded: Origin,
    sessions: Origin,
}

impl Others {
    fn new(folder: &Path) -> Self {
        let socket = folder.join("run/app.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // All of the request, lest the answer is lost by what is left of it.
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let _ =
                    stream.write_all(&crate::harness::answer("200 OK", "connection: close\r\n", "socket"));
            }
        });
        let overloaded = crate::harness::answer("503 Service Unavailable", "", "overloaded");
        let calls = Streams::start(|mut call| async move {
            let mut body = call.begin(200, &[("content-type", "application/grpc")]);
            while let Some(message) = call.read().await {
                let _ = body.send_data(message, false);
            }
            let _ = body.send_trailers(trailers(&[("grpc-status", "0")]));
        });
        Self {
            calls,
            clear: Modern::clear(),
            tls: Modern::tls(&folder.join("tls"), "orders", &["h2", "http/1.1"], Some("ca.pem")),
            overloaded: Origin::start(move |_, stream| stream.write_all(&overloaded).is_ok()),
            sessions: Origin::start(|asked, stream| stream.write_all(&session(asked)).is_ok()),
        }
    }

    fn with_addresses(&self, text: String) -> String {
        let replace = |text: String, port: &str, address: std::net::SocketAddr| {
            text.replace(&format!("127.0.0.1:{port}"), &address.to_string())
        };
        let text = replace(text, "9103", self.clear.address());
        let text = replace(text, "9105", self.calls.address());
        let text = replace(text, "9443", self.tls.address());
        let text = replace(text, "9106", self.sessions.address());
        replace(text, "9104", self.overloaded.address())
    }
}

/// A service that knows people by their sessions.
fn session(asked: &Received) -> Vec<u8> {
    let told = match asked.field("cookie") {
        Some("session=alice") => ("200 OK", "x-user: alice\r\nx-teams: ops, billing\r\n"),
        Some("session=bob") => ("200 OK", "x-user: bob\r\nx-teams: billing\r\n"),
        _ => ("302 Found", "location: https://login.example.com/\r\n"),
    };
    crate::harness::answer(told.0, told.1, "")
}

/// Whoever issues tokens in the examples.
fn issuer() -> Issuer {
    let issuer = Issuer::start();
    issuer.tell("token-of-a-machine", &json!({ "active": true, "sub": "machine-7" }));
    issuer
}

/// `TOKEN_NAME` in a request is a token for NAME.
fn with_tokens(request: &str, issuer: &Issuer) -> String {
    let Some((before, rest)) = request.split_once("TOKEN_") else { return request.to_owned() };
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let claims = json!({ "sub": rest[..end], "aud": "demo", "iat": crate::harness::now() });
    format!("{before}{}{}", issuer.token(&claims), &rest[end..])
}

/// Says its name and what it got; slow at `/quick`.
fn origin(name: &'static str) -> Origin {
    Origin::start(move |request, stream| {
        if let Some(key) = request.field("sec-websocket-key").filter(|_| request.field("upgrade").is_some()) {
            let accept = tollgate::message::websocket::accept_for(key.as_bytes());
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket";
            let _ = write!(stream, "{head}\r\nsec-websocket-accept: {accept}\r\n\r\n");
            let _ = std::io::copy(&mut stream.try_clone().unwrap(), stream);
            return false;
        }
        if request.target().starts_with("/events/") {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = stream.write_all([head, "9\r\ndata: 1\n\n\r\n"].concat().as_bytes());
            // The next one comes only when the client has gone.
            let _ = std::io::Read::read(stream, &mut [0]);
            return false;
        }
        if request.target() == "/quick" {
            std::thread::park_timeout(std::time::Duration::from_secs(2));
        }
        let body =
            format!("origin {name}\n{}\n{}\n", request.line, request.fields.join("\n").to_ascii_lowercase());
        stream.write_all(&crate::harness::answer("200 OK", "server: test\r\n", &body)).is_ok()
    })
}

fn check(example: &str, gateway: &Gateway, issuer: &Issuer, ask: &Ask) {
    let (status, text, asked) = match ask.by {
        By::Plain(listener, request) => {
            let answer = send(gateway.at(listener), &wire(&with_tokens(request, issuer)));
            (answer.status, as_text(&answer), request.to_owned())
        }
        By::Curl(arguments) | By::Refused(arguments) => {
            let arguments: Vec<String> =
                arguments.iter().map(|argument| with_port(gateway, argument)).collect();
            let output = curl(gateway.folder(), &arguments);
            let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
            let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
            (status, text, format!("{} {trouble}", arguments.join(" ")))
        }
    };
    assert_eq!(status, ask.status, "{example}: {asked}\n{text}");
    for has in ask.has {
        assert!(text.contains(has), "{example}: {asked}: `{has}` is missing in\n{text}");
    }
    for lacks in ask.lacks {
        assert!(!text.contains(lacks), "{example}: {asked}: `{lacks}` is in\n{text}");
    }
}

fn with_port(gateway: &Gateway, argument: &str) -> String {
    match argument.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?))) {
        Some((before, (listener, after))) => format!("{before}{}{after}", gateway.at(listener).port()),
        None => argument.to_owned(),
    }
}

/// `GET /a`, further lines and a body as they go over the wire.
fn wire(request: &str) -> String {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
    let host = if fields.contains("host:") { "" } else { "host: example.com\r\n" };
    let fields: String = fields.lines().map(|field| format!("{field}\r\n")).collect();
    format!("{line} HTTP/1.1\r\n{host}{fields}connection: close\r\n\r\n{body}")
}

fn as_text(answer: &Answer) -> String {
    format!("{}\n\n{}", answer.fields.join("\n").to_ascii_lowercase(), answer.text())
}

fn logged(file: &Path) -> serde_json::Value {
    let text = || std::fs::read_to_string(file).unwrap_or_default();
    wait_until("the request is logged", || text().ends_with('\n'));
    serde_json::from_str(text().lines().next().unwrap()).unwrap()
}
