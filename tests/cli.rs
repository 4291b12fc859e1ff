//! The real binary: what it prints, and its exit codes.

use crate::harness::{Authority, Dns, Process, binary, get, quiet_port};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const GOOD: &str = "version: 1
policies:
  defaults: { headers: { response: { set: { x-a: b } } } }
  enforced: { ip_access: { deny: [203.0.113.0/24] } }
listeners:
  web: { address: '127.0.0.1:8080' }
  inside: { address: '127.0.0.1:8081', policies: { cors: { origins: ['*'] } } }
upstreams:
  orders: { endpoints: ['127.0.0.1:9101'] }
routes:
  orders:
    match: { hosts: [api.example.com], path: '/orders/{id}', methods: [GET] }
    policies: { rewrite: { path: '/v1/{id}' } }
    to: orders
  special:
    match: { hosts: [api.example.com], path: '/orders/{id}', methods: [GET], headers: { x-channel: mobile } }
    to: orders
  rest:
    match: { path: '/*' }
    policies: { headers: off }
    to: { respond: { status: 404 } }
";

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(arguments: &[&str]) -> Run {
    run_in(Path::new(env!("CARGO_MANIFEST_DIR")), arguments)
}

fn run_in(folder: &Path, arguments: &[&str]) -> Run {
    let Output { status, stdout, stderr } = binary().args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), out: text(stdout), err: text(stderr) }
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let (good, _) = file(GOOD);
    let run = run_in(good.path(), &["check", "-c", "gateway.yaml"]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), "gateway.yaml: 0 errors, 0 warnings\n"));
    let json = run_in(good.path(), &["check", "-c", "gateway.yaml", "--format", "json"]);
    assert_eq!(json.code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&json.out).is_ok(), "{}", json.out);

    let (bad, _) =
        file(&GOOD.replace("methods: [GET] }", "methds: [GET] }").replace("to: orders", "to: oders"));
    let run = run_in(bad.path(), &["check", "-c", "gateway.yaml"]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!("check_text", run.out);
    let run = run_in(bad.path(), &["check", "-c", "gateway.yaml", "--format", "json"]);
    assert_eq!(run.code, Some(1));
    insta::assert_snapshot!("check_json", run.out);

    let none = run_in(bad.path(), &["check", "-c", "nothing.yaml"]);
    assert_eq!(none.code, Some(1));
    assert!(none.out.contains("nothing.yaml"), "{}", none.out);
}

#[test]
fn explain_tells_which_route_and_why() {
    let (folder, _) = file(GOOD);
    let explain = |arguments: &[&str]| {
        let run = run_in(folder.path(), &[&["explain", "-c", "gateway.yaml"], arguments].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        run.out
    };
    let url = "http://api.example.com/orders//7?x=y";
    insta::assert_snapshot!("explain_route", explain(&["GET", url]));
    insta::assert_snapshot!(
        "explain_header",
        explain(&["GET", url, "-H", "x-channel: mobile", "--listener", "web"])
    );
    insta::assert_snapshot!(
        "explain_fallback",
        explain(&["POST", "http://other.example/x", "--client", "192.0.2.1"])
    );
    let (strict, _) = file(&GOOD[..GOOD.find("  rest:").unwrap()]);
    let strict =
        |method: &str, url: &str| run_in(strict.path(), &["explain", "-c", "gateway.yaml", method, url]).out;
    assert!(strict("POST", url).contains("405; allowed: GET"), "{}", strict("POST", url));
    assert!(strict("GET", "http://other.example/").contains("404"));

    for (arguments, says) in [
        (&["GET", "http://a/%00"][..], "400"),
        (&["GET", "not a url"], "cannot be asked about"),
        (&["GET", "/x", "-H", "no-colon"], "name: value"),
        (&["GET", "/x", "--listener", "wev"], "web"),
    ] {
        let run = run_in(folder.path(), &[&["explain", "-c", "gateway.yaml"], arguments].concat());
        assert_eq!(run.code, Some(1), "{arguments:?}: {}", run.out);
        assert!(run.err.contains(says), "{arguments:?}: {}", run.err);
    }
}

#[test]
fn explain_tells_the_limits_of_an_upstream() {
    let run = run(&["explain", "-c", "conf/examples/resilience.yaml", "GET", "http://a/orders"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let says = "Room at `orders`: 4 to 1000 requests at once, by how long its answers take; 128 more wait for up to 100ms\n";
    assert!(run.out.contains(says), "{}", run.out);
}

#[test]
fn explain_tells_what_stands_in_for_an_upstream() {
    let run = run(&["explain", "-c", "conf/examples/fallback.yaml", "GET", "http://a/prices/7"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let says = "If that fails (connect, reset, timeout, 502, 503, 504): what the cache has, fresh 1h ago at most, then the \
                upstream `prices-of-yesterday`, then an answer of the gateway's own, 200\n";
    assert!(run.out.contains(says), "{}", run.out);
}

#[test]
fn explain_tells_whether_an_answer_would_be_kept_and_why_not() {
    let (folder, _) = file(
        "version: 1\ncaches: { main: {} }\nlisteners: { web: { address: 127.0.0.1:8080 } }\n\
         upstreams: { shop: { endpoints: [127.0.0.1:9101] } }\n\
         routes: { shop: { policies: { cache: { store: main, grace: 30s, ttl: { 404: 5s } } }, to: shop } }\n",
    );
    let cases: &[(&[&str], &str)] = &[
        (&["GET"], "  what answers say decides: ask with --answer 200"),
        (&["GET", "--answer", "200"], "  no: nothing says how long it is fresh"),
        (
            &["GET", "--answer", "200", "--answer-header", "cache-control: max-age=60"],
            "  yes, fresh for 60s by max-age; then served for 30s while another one is fetched\n",
        ),
        (
            &[
                "GET",
                "--answer",
                "200",
                "--answer-header",
                "cache-control: s-maxage=60, max-age=5, proxy-revalidate",
            ],
            "  yes, fresh for 60s by s-maxage\n",
        ),
        (&["GET", "--answer", "404"], "  yes, fresh for 5s by the route's ttl"),
        (
            &[
                "GET",
                "--answer",
                "200",
                "--answer-header",
                "cache-control: no-cache",
                "--answer-header",
                "etag: \"a\"",
            ],
            "asked before each use",
        ),
        (
            &["GET", "--answer", "200", "--answer-header", "cache-control: private"],
            "  no: the answer says `private`",
        ),
        (
            &[
                "GET",
                "--answer",
                "200",
                "--answer-header",
                "cache-control: max-age=9",
                "--answer-header",
                "set-cookie: a=b",
            ],
            "  no: it sets a cookie",
        ),
        (
            &[
                "GET",
                "-H",
                "authorization: Bearer x",
                "--answer",
                "200",
                "--answer-header",
                "cache-control: max-age=9",
            ],
            "  no: it answers a caller",
        ),
        (&["POST", "--answer", "200"], "  no: only answers to GET"),
    ];
    for (arguments, says) in cases {
        let (method, more) = arguments.split_first().unwrap();
        let all = [&["explain", "-c", "gateway.yaml", *method, "http://a/x"], more].concat();
        let run = run_in(folder.path(), &all);
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
        let (_, kept) = run.out.split_once("\nKept in the cache `main`:\n").unwrap();
        assert!(kept.contains(says), "{arguments:?}: {kept}");
    }
    let wrong = ["explain", "-c", "gateway.yaml", "GET", "/x", "--answer", "99"];
    assert!(run_in(folder.path(), &wrong).err.contains("no status of an answer"));
}

#[test]
fn explain_tells_who_gets_through_and_why() {
    let explain = |arguments: &[&str]| {
        let file = ["explain", "-c", "conf/examples/rbac.yaml"];
        let run = run(&[&file, arguments].concat());
        assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
        run.out
    };
    let (settings, order) = ("http://a/settings/x", "http://a/orders/7");
    insta::assert_snapshot!("explain_role", explain(&["PUT", settings, "--as", "shop"]));
    for (arguments, says) in [
        (&["GET", settings, "--as", "shop"][..], "consumer `shop`: let in"),
        (&["GET", order, "--as", "reports"], "consumer `reports` of the groups staff: let in"),
        (
            &["DELETE", order, "--as", "reports"],
            "    - a role that permits this method and path: request_not_permitted",
        ),
        (&["GET", order], "nobody (`--as`, `--claims` or `--certificate` says who calls): refused"),
        (&["GET", order, "--claims", "{\"sub\": \"u-17\"}"], "`u-17`: refused"),
    ] {
        let out = explain(arguments);
        assert!(out.contains(says), "{arguments:?}: {out}");
    }
    let (folder, _) = file(
        "version: 1\nlisteners: { web: { address: '127.0.0.1:8080' } }\nroutes:\n  a:\n    policies: { authorize: { scopes: [a, b], when: 'principal.claims.tier == \"gold\"' } }\n    to: { respond: {} }\n",
    );
    std::fs::write(folder.path().join("claims.json"), "{ \"scope\": \"x a\", \"tier\": \"gold\" }").unwrap();
    let explain = |arguments: &[&str]| {
        run_in(folder.path(), &[&["explain", "-c", "gateway.yaml", "GET", "/"], arguments].concat())
    };
    assert!(explain(&["--claims", "@claims.json", "--scope", "b"]).out.contains(": let in"));
    assert!(
        explain(&["--claims", "@claims.json"]).out.contains("    - all of the scopes a, b: scope_missing")
    );
    assert!(explain(&["--scope", "b", "--scope", "a"]).out.contains("condition_error, tier is not there"));
    for (arguments, says) in [
        (&["--as", "nobody"][..], "there is no consumer `nobody`"),
        (&["--claims", "[]"], "not a JSON object"),
        (&["--claims", "@nothing.json"], "`nothing.json` cannot be read"),
    ] {
        let run = explain(arguments);
        assert!(run.code == Some(1) && run.err.contains(says), "{arguments:?}: {}", run.err);
    }
}

#[test]
fn explain_shows_the_consumer_that_a_subject_is_admitted_as() {
    let (folder, _) = file(
        "version: 1\nlisteners: { web: { address: '127.0.0.1:8080' } }\nplans: { gold: {} }\n\
         consumers: { listed: { credentials: [{ jwt: { provider: main, subject: bob } }] } }\n\
         identity: { providers: { main: { jwt: { issuer: a, audiences: [api], algorithms: [ES256], keys: { url: 'http://127.0.0.1:1/' }, \
         admit: { groups: /realm/roles, plan: /tier } } }, strict: { jwt: { issuer: b, audiences: [api], algorithms: [ES256], keys: { url: 'http://127.0.0.1:1/' } } } } }\n\
         routes:\n  a:\n    policies: { authenticate: { any_of: [{ jwt: main }, { jwt: strict }] }, authorize: { groups: [staff] } }\n    to: { respond: {} }\n",
    );
    let alice = r#"{ "sub": "alice", "realm": { "roles": ["staff", "x"] }, "tier": "gold" }"#;
    for (provider, claims, says) in [
        ("main", alice, "consumer `main:alice` of the groups staff, x: let in"),
        ("main", r#"{ "sub": "al ice" }"#, "consumer `main:al%20ice`: refused"),
        ("main", r#"{ "sub": "bob", "realm": { "roles": ["staff"] } }"#, "consumer `listed`: refused"),
        ("main", r#"{ "realm": { "roles": ["staff"] } }"#, "refused"),
        ("strict", alice, "`alice`: refused"),
    ] {
        let all = ["explain", "-c", "gateway.yaml", "GET", "/", "--provider", provider, "--claims", claims];
        let run = run_in(folder.path(), &all);
        assert!(run.code == Some(0) && run.out.contains(says), "{claims}: {}{}", run.out, run.err);
    }
}

#[test]
fn check_lists_the_routes_that_ask_for_no_caller() {
    let (folder, _) = file(
        "version: 1\nlisteners: { web: { address: '127.0.0.1:8080' } }\nroutes:\n  \
         a: { match: { path: /a }, policies: { authenticate: { any_of: [{ api_key: { header: x } }] } }, to: { respond: {} } }\n  \
         b: { match: { path: /b }, policies: { authenticate: { any_of: [{ api_key: { header: x } }], optional: true } }, to: { respond: {} } }\n  \
         c: { match: { path: /c }, to: { respond: {} } }\n",
    );
    let text = run_in(folder.path(), &["check", "-c", "gateway.yaml"]);
    let expected =
        "gateway.yaml: 0 errors, 0 warnings\n1 of 3 routes ask for no caller; `--format json` lists them\n";
    assert_eq!((text.code, text.out.as_str()), (Some(0), expected));
    let json = run_in(folder.path(), &["check", "-c", "gateway.yaml", "--format", "json"]).out;
    let facts = serde_json::from_str::<serde_json::Value>(&json).unwrap()["facts"].clone();
    let expected = serde_json::json!({
        "routes": 3, "unauthenticated_routes": ["c"], "optionally_authenticated_routes": ["b"],
    });
    assert_eq!(facts, expected);
}

#[test]
fn check_warns_of_names_that_do_not_resolve() {
    let dns = Dns::new();
    dns.addresses("orders.test", 60, &[Ipv4Addr::LOCALHOST]);
    dns.services("_http._tcp.orders.test", 60, &[(1, 1, 80, "orders.test")]);
    let (folder, _) = file(&format!(
        "version: 1\ndns: {{ nameservers: ['{}'], timeout: 500ms }}\nlisteners: {{ web: {{ address: '127.0.0.1:8080' }} }}\n\
         upstreams:\n  there: {{ discover: {{ dns: 'orders.test:80' }} }}\n  \
         served: {{ discover: {{ srv: _http._tcp.orders.test }} }}\n  \
         gone: {{ discover: {{ dns: 'nobody.test:80' }} }}\n  \
         unserved: {{ discover: {{ srv: _http._tcp.nobody.test }} }}\n\
         routes:\n  a: {{ match: {{ path: /a }}, to: there }}\n  b: {{ match: {{ path: /b }}, to: served }}\n  \
         c: {{ match: {{ path: /c }}, to: gone }}\n  d: {{ match: {{ path: /d }}, to: unserved }}\n",
        dns.address(),
    ));
    let warned = |count: usize| {
        let run = run_in(folder.path(), &["check", "-c", "gateway.yaml"]);
        assert_eq!(run.code, Some(0), "a warning is no error: {}", run.out);
        let found: Vec<&str> =
            run.out.lines().filter(|line| line.contains("the name does not resolve here")).collect();
        assert_eq!(found.len(), count, "{}", run.out);
        run.out
    };
    let out = warned(2);
    assert!(out.contains("gone: {") && out.contains("unserved: {"), "the place is shown: {out}");
    assert!(!out.contains("there: {"), "{out}");
    dns.fail(true);
    warned(4);
}

#[test]
fn check_warns_of_certificates_that_expire_soon() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::within(folder.path());
    let soon = jiff::Timestamp::now() + Duration::from_hours(10 * 24);
    let day = soon.strftime("%Y %m %d").to_string();
    let parts: Vec<i32> = day.split(' ').map(|part| part.parse().unwrap()).collect();
    let soon = (parts[0], parts[1] as u8, parts[2] as u8);
    authority.issue_until(folder.path(), "soon", &["localhost"], soon);
    authority.issue(folder.path(), "late", &["localhost"]);
    let check = |server: &str, client: &str| {
        let text = format!(
            "version: 1\nlisteners:\n  web:\n    address: '127.0.0.1:8080'\n    \
             tls: {{ certificates: [{{ certificate: {server}.pem, key: {server}.key }}] }}\n\
             upstreams:\n  orders:\n    endpoints: ['127.0.0.1:9101']\n    \
             tls: {{ server_name: orders.internal, ca: ca.pem, client: {{ certificate: {client}.pem, key: {client}.key }} }}\n\
             routes: {{ all: {{ to: orders }} }}\n"
        );
        std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
        let run = run_in(folder.path(), &["check", "-c", "gateway.yaml"]);
        assert_eq!(run.code, Some(0), "a warning is no error: {}", run.out);
        run.out.lines().filter(|line| line.contains("`soon.pem` expires soon")).count()
    };
    let found = [check("late", "late"), check("soon", "late"), check("late", "soon"), check("soon", "soon")];
    assert_eq!(found, [0, 1, 1, 2]);
}

#[test]
fn the_schema_in_the_repository_is_the_binarys() {
    let run = run(&["schema"]);
    assert_eq!(run.code, Some(0));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/schema.json");
    let there = std::fs::read_to_string(file).unwrap();
    assert!(there == run.out, "conf/schema.json is stale: run `make schema`");
    let schema: serde_json::Value = serde_json::from_str(&there).unwrap();
    assert!(schema["properties"]["routes"].is_object());
}

#[test]
fn a_bad_command_line_is_told_so() {
    for arguments in [
        &[][..],
        &["fly"],
        &["run"],
        &["check", "-c"],
        &["check", "-c", "x", "--format", "xml"],
        &["explain", "-c", "x", "GET"],
    ] {
        let run = run(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}");
        assert!(run.err.to_lowercase().contains("--help"), "{arguments:?}: {}", run.err);
    }
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in ["run", "demo", "check", "explain", "schema"] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command}: {}", help.out);
        assert_eq!(run(&[command, "--help"]).code, Some(0));
    }
    let version = run(&["--version"]);
    assert_eq!(
        (version.code, version.out.trim()),
        (Some(0), concat!("tollgate ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn run_does_not_start_with_a_mistake() {
    let (folder, _) = file(&GOOD.replace("to: orders", "to: oders"));
    let run = run_in(folder.path(), &["run", "-c", "gateway.yaml"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("gateway.yaml:14:9: error") && run.err.contains("orders"), "{}", run.err);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (folder, _) = file(&format!("admin: off\n{}", GOOD.replace("127.0.0.1:8080", &address)));
    let run = run_in(folder.path(), &["run", "-c", "gateway.yaml"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("in use") && run.err.contains("gateway.yaml:7"), "{}", run.err);
}

#[test]
fn a_word_ends_it_soon() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (admin, web) = (quiet_port(), quiet_port());
        let (_folder, path) = file(&format!(
            "version: 1\nadmin: {{ address: '127.0.0.1:{admin}' }}\nlisteners: {{ web: {{ address: '127.0.0.1:{web}' }} }}\n\
             routes: {{ all: {{ to: {{ respond: {{ body: '${{WORD}}' }} }} }} }}\n"
        ));
        let mut process = Process::run(&path, admin, &[("WORD", "from the environment")]);
        let web = SocketAddr::from(([127, 0, 0, 1], web));
        assert_eq!(get(web, "/").text(), "from the environment");
        let mut idle = crate::harness::Client::new(web);
        assert_eq!(idle.get("a", "/", "").status, 200);
        let began = Instant::now();
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(0), "{signal}");
        assert!(began.elapsed() < Duration::from_secs(20), "it does not sleep out the drain time of 30s");
        assert!(idle.is_closed());
    }
}

#[test]
fn the_readme_names_every_metric_command_and_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let readme = read("README.md");
    let table = read("src/telemetry/metrics/table.rs");
    let metrics: Vec<&str> =
        table.split('"').filter(|word| word.starts_with("tollgate_") && !word.contains(' ')).collect();
    assert!(metrics.len() > 10, "the table is read: {metrics:?}");
    let commands =
        ["run", "demo", "check", "explain", "schema"].map(|command| format!("`tollgate {command}"));
    let examples =
        std::fs::read_dir(root.join("conf/examples")).unwrap().map(|entry| entry.unwrap().file_name());
    let examples = examples.filter(|name| {
        !["pages", "tls", "secrets", "consumers", "lists"].iter().any(|beside| name == beside)
    });
    let examples = examples.map(|name| format!("(conf/examples/{})", name.to_str().unwrap()));
    let metrics = metrics.into_iter().map(|name| format!("`{name}`"));
    let missing: Vec<String> =
        metrics.chain(commands).chain(examples).filter(|name| !readme.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
