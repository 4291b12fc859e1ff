//! What users see of their mistakes: each kind once, pinned. A changed snapshot is read as a user
//! would read it: is the place right, do the words help, does the remedy work?

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tollgate::config::{ConfigErrors, Loader};
use tollgate::runtime::Compiler;
use tollgate::telemetry::metrics::{Metrics, MetricsSettings};

const GOOD: &str = "version: 1
listeners:
  web: { address: 127.0.0.1:8080 }
upstreams:
  orders: { endpoints: [127.0.0.1:9000] }
routes:
  orders: { to: orders }
";

/// A name, and the text of the one file; a text that does not begin with `version` gets one first,
/// on a line of its own.
const MISTAKES: &[(&str, &str)] = &[
    // YAML itself
    ("empty_file", "# nothing\n"),
    ("only_null", "~\n"),
    ("not_a_map", "- version: 1\n"),
    ("tab_as_indentation", "routes:\n\torders: { to: orders }\n"),
    ("bracket_not_closed", "listeners:\n  web: { address: 127.0.0.1:8080\nroutes: {}\n"),
    ("quotes_not_closed", "listeners:\n  web: { address: \"127.0.0.1:8080 }\n"),
    ("colon_in_plain_text", "listeners:\n  web:\n    address: is: this\n"),
    ("wrong_indentation", "listeners:\n  web:\n    address: 127.0.0.1:80\n   h2c: true\n"),
    ("key_without_colon", "listeners:\n  web:\n    address: 127.0.0.1:80\n    h2c\n    tls: {}\n"),
    ("second_document", "version: 1\n---\nversion: 1\n"),
    ("tag", "process: { workers: !!int 4 }\n"),
    ("merge_key", "upstreams:\n  a: &a { endpoints: [127.0.0.1:1] }\n  b: { <<: *a }\n"),
    ("unknown_alias", "upstreams:\n  a: *nothing\n"),
    ("reserved_character", "listeners:\n  web: { address: @home }\n"),
    ("key_that_is_a_list", "routes:\n  [a]: { to: b }\n"),
    ("duplicate_key", "listeners:\n  web: { address: 127.0.0.1:80 }\n  web: { address: 127.0.0.1:81 }\n"),
    ("duplicate_section", "version: 1\nroutes: {}\nlisteners: {}\nroutes: {}\n"),
    // Fields
    ("missing_version", "listeners:\n  web: { address: 127.0.0.1:8080 }\n"),
    ("unknown_version", "version: 2\n"),
    ("version_in_words", "version: one\n"),
    ("unknown_section", "listener:\n  web: { address: 127.0.0.1:8080 }\n"),
    ("unknown_field_near", "routes:\n  a:\n    match: { hostz: [a.example] }\n    to: { echo: {} }\n"),
    ("unknown_field_far", "process: { colour: red }\n"),
    ("missing_field", "listeners:\n  web:\n    h2c: true\n"),
    ("missing_field_in_flow", "routes:\n  a: { match: { path: /a } }\n"),
    ("no_value", "listeners:\n  web:\n    address: 127.0.0.1:8443\n    tls:\n    h2c: false\n"),
    ("section_without_value", "routes:\nlisteners:\n  web: { address: 127.0.0.1:8080 }\n"),
    ("map_for_a_list", "upstreams:\n  a: { endpoints: { one: 127.0.0.1:1 } }\n"),
    ("text_for_a_list", "routes:\n  a: { on: web, to: { echo: {} } }\n"),
    ("list_for_a_map", "listeners:\n  - address: 127.0.0.1:80\n"),
    ("text_for_a_map", "process: fast\n"),
    ("number_for_text", "routes:\n  a: { to: { respond: { body: 42 } } }\n"),
    ("boolean_for_text", "routes:\n  a: { match: { headers: { x-debug: true } }, to: { echo: {} } }\n"),
    ("text_for_a_number", "routes:\n  a: { priority: high, to: { echo: {} } }\n"),
    ("quoted_number", "routes:\n  a: { priority: \"7\", to: { echo: {} } }\n"),
    ("number_too_large", "routes:\n  a: { to: { respond: { status: 70000 } } }\n"),
    ("yes_is_not_a_boolean", "listeners:\n  web: { address: 127.0.0.1:80, h2c: yes }\n"),
    ("on_is_not_a_boolean", "listeners:\n  web: { address: 127.0.0.1:80, h2c: on }\n"),
    // Values
    ("time_without_unit", "process: { drain: 30 }\n"),
    ("time_with_unknown_unit", "process: { drain: 3w }\n"),
    ("size_with_decimal_unit", "listeners:\n  web: { address: 127.0.0.1:80, limits: { body: 10MB } }\n"),
    ("size_without_unit", "listeners:\n  web: { address: 127.0.0.1:80, limits: { body: 1024 } }\n"),
    ("share_without_sign", "telemetry: { access_log: { sample: 5 } }\n"),
    (
        "network_with_host_bits",
        "listeners:\n  web: { address: 127.0.0.1:80, trusted_proxies: [10.0.0.1/8] }\n",
    ),
    ("not_a_name", "routes:\n  \"my route\": { to: { echo: {} } }\n"),
    ("address_without_port", "listeners:\n  web: { address: 127.0.0.1 }\n"),
    ("endpoint_is_a_host_name", "upstreams:\n  a: { endpoints: [orders.internal:8080] }\n"),
    (
        "endpoint_weight_too_large",
        "upstreams:\n  a: { endpoints: [{ address: 127.0.0.1:1, weight: 2000 }] }\n",
    ),
    ("workers", "process: { workers: 0 }\n"),
    (
        "grpc_web_to_http_1",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1] }\n  b: { endpoints: [127.0.0.1:2], protocol: http2 }\nroutes:\n  a: { policies: { grpc_web: {} }, to: a }\n  b: { match: { path: /b }, policies: { grpc_web: {} }, to: b, fallback: { to: [{ upstream: a }] } }\n",
    ),
    ("upgrade_to_http", "routes:\n  a: { upgrades: [websocket, h2c], to: { echo: {} } }\n"),
    ("upgrade_is_no_name", "routes:\n  a: { upgrades: [\"web socket\"], to: { echo: {} } }\n"),
    (
        "upgraded_for_no_time",
        "listeners:\n  web: { address: 127.0.0.1:80, limits: { upgraded: { idle: 0s, age: 0s } } }\n",
    ),
    ("host_rewrite", "upstreams:\n  a: { endpoints: [127.0.0.1:1], host: \"a b\" }\n"),
    // Choices
    ("unknown_word", "telemetry: { error_log: { level: warning } }\n"),
    ("unknown_choice", "routes:\n  a: { to: { redirct: { scheme: https } } }\n"),
    ("two_choices", "routes:\n  a: { to: { echo: {}, respond: { status: 200 } } }\n"),
    ("no_choice", "routes:\n  a: { to: {} }\n"),
    ("choice_without_value", "telemetry: { access_log: { to: file } }\n"),
    ("word_with_value", "telemetry: { access_log: { to: { stdout: {} } } }\n"),
    ("policy_neither_on_nor_off", "policies: { defaults: { cors: no } }\n"),
    ("unknown_policy", "policies: { defaults: { rate_limits: { rate: 1 } } }\n"),
    ("rate_without_time", "policies: { defaults: { rate_limit: { rate: 100 } } }\n"),
    ("rate_of_nothing", "policies: { defaults: { rate_limit: [{ rate: 0/s }] } }\n"),
    ("rate_limit_by_unknown_key", "policies: { defaults: { rate_limit: { key: ip, rate: 1/s } } }\n"),
    (
        "rate_limit_of_unknown_cost",
        "policies: { defaults: { rate_limit: { cost: { header: x }, rate: 1/s } } }\n",
    ),
    ("rate_limit_in_words", "policies: { defaults: { rate_limit: 100/s } }\n"),
    ("concurrency_of_none", "policies: { defaults: { concurrency: { max: 0 } } }\n"),
    (
        "endpoint_priority_too_large",
        "upstreams:\n  a: { endpoints: [{ address: 127.0.0.1:1, priority: 10 }] }\n",
    ),
    (
        "breaker",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], breaker: { failures: 0%, within: 0s, of_at_least: 0, probes: 0, slow: { share: 5% } } }\n  b: { endpoints: [127.0.0.1:1], breaker: { failures: 0%, slow: { after: 0s, share: 0% } } }\n",
    ),
    (
        "endpoint_breaker",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], endpoint_breaker: { failures: 0%, open_for: 0s, probes: 0 } }\nroutes: { a: { to: a } }\n",
    ),
    (
        "passive_health",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], health: { passive: { consecutive_failures: 0, eject: 0s } } }\n  b: { endpoints: [127.0.0.1:1], health: { passive: { success_rate: { deviations: 20 } } } }\n",
    ),
    ("quota_of_no_period", "plans: { gold: { quota: 5/y } }\n"),
    ("zone_of_nowhere", "policies: { defaults: { quota: { max: 5/day, zone: Middle/Earth } } }\n"),
    ("plan_of_no_rate", "plans: { gold: { rate: fast } }\n"),
    ("unknown_coding", "policies: { defaults: { compress: { codings: [deflate] } } }\n"),
    ("enforced_policy_off", "policies: { enforced: { headers: off } }\n"),
    ("empty_match_list", "routes:\n  a: { match: [], to: { echo: {} } }\n"),
    // Variables
    ("variable_not_set", "admin: { address: \"${TOLLGATE_NOT_SET}\" }\n"),
    ("variable_with_bad_name", "process: { drain: \"${my.drain}\" }\n"),
    ("variable_not_closed", "process: { drain: \"${DRAIN\" }\n"),
    ("variable_does_not_fit", "process: { drain: \"${WORD}\" }\n"),
    ("variable_is_never_structure", "upstreams:\n  a: { endpoints: \"${LIST}\" }\n"),
    ("variable_in_a_key", "routes:\n  ${WORD}: { to: { echo: {} } }\n"),
    ("variable_for_a_number", "routes:\n  a: { priority: ${WORD}, to: { echo: {} } }\n"),
    // References
    (
        "unknown_upstream_near",
        "upstreams:\n  orders: { endpoints: [127.0.0.1:1] }\nroutes:\n  a: { to: ordres }\n  b: { to: orders }\n",
    ),
    ("unknown_upstream_none", "routes:\n  a: { to: orders }\n"),
    (
        "unknown_upstream_in_split",
        "upstreams:\n  new: { endpoints: [127.0.0.1:1] }\nroutes:\n  a: { to: { split: { weights: { old: 1, new: 1 } } } }\n",
    ),
    (
        "unknown_listener",
        "listeners:\n  public: { address: 127.0.0.1:80 }\nroutes:\n  a: { on: [web], to: { echo: {} } }\n",
    ),
    (
        "listener_twice_on_a_route",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nroutes:\n  a:\n    on:\n      - web\n      - web\n    to: { echo: {} }\n",
    ),
    ("address_bound_twice", "listeners:\n  a: { address: 127.0.0.1:80 }\n  b: { address: 127.0.0.1:80 }\n"),
    (
        "address_of_the_admin",
        "listeners:\n  a: { address: 127.0.0.1:9901 }\nadmin: { address: 127.0.0.1:9901 }\n",
    ),
    (
        "unused_upstream",
        "listeners:\n  a: { address: 127.0.0.1:80 }\nupstreams:\n  a: { endpoints: [127.0.0.1:1] }\n",
    ),
    ("no_listeners", "routes:\n  a: { to: { echo: {} } }\n"),
    ("open_admin", "listeners:\n  a: { address: 127.0.0.1:80 }\nadmin: { address: 0.0.0.0:9901 }\n"),
    // Ranges
    ("no_endpoints", "upstreams:\n  a: { endpoints: [] }\n"),
    ("all_weights_zero", "upstreams:\n  a: { endpoints: [{ address: 127.0.0.1:1, weight: 0 }] }\n"),
    ("endpoint_twice", "upstreams:\n  a:\n    endpoints:\n      - 127.0.0.1:1\n      - 127.0.0.1:1\n"),
    ("socket_without_path", "upstreams:\n  a: { endpoints: [\"unix:\"] }\n"),
    (
        "discover_what",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], discover: { dns: orders.internal } }\n  b: { endpoints: [127.0.0.1:1], discover: { srv: \"a:80\" } }\n  c: { discover: { file: none.yaml } }\n  d: { discover: { consul: x } }\n",
    ),
    (
        "stores",
        "stores:\n  a: { redis: { address: \"redis://10.0.0.1:6379\" } }\n  b: { redis: { address: \"10.0.0.1\", database: 65536 } }\n  c: { redis: { address: \"127.0.0.1:6379\", password: { file: nothing } } }\n  d: { memcached: {} }\n",
    ),
    ("dns_settings", "dns: { nameservers: [dns.example], timeout: 0s, min_ttl: 9m, family: v4 }\n"),
    (
        "health_settings",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], health: { active: { probe: { http: { path: x, statuses: [99, 300..200] } } } } }\n  b: { endpoints: [127.0.0.1:1], health: { active: { probe: { grpc: {} }, every: 0s, healthy_after: 0 } } }\n  c: { endpoints: [127.0.0.1:1], health: { active: { probe: { http: { path: x } } }, panic: half } }\n",
    ),
    ("balance_unknown", "upstreams:\n  a: { endpoints: [127.0.0.1:1], balance: round_robbin }\n"),
    (
        "hash_of_nothing",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], balance: { hash: { header: \"a b\" } } }\n",
    ),
    (
        "sticky_cookie",
        "upstreams:\n  a:\n    endpoints: [127.0.0.1:1]\n    balance: { sticky: { cookie: \"a b\", secret: short, path: x, domain: \"a/b\", same_site: none } }\n",
    ),
    ("protocol_unknown", "upstreams:\n  a: { endpoints: [127.0.0.1:1], protocol: h2 }\n"),
    (
        "tls_to_an_upstream",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], tls: { server_name: \"https://a\", verify: off } }\n  b: { endpoints: [\"unix:x\"], tls: {} }\n",
    ),
    ("retry_on_what", "upstreams:\n  a: { endpoints: [127.0.0.1:1], retry: { on: [reset, resset] } }\n"),
    ("retry_on_success", "upstreams:\n  a: { endpoints: [127.0.0.1:1], retry: { on: [200] } }\n"),
    (
        "fallback",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1] }\n  b: { endpoints: [127.0.0.1:2] }\nroutes:\n  \
         of_its_own: { to: { echo: {} }, fallback: { to: [{ upstream: a }] } }\n  \
         same: { to: a, fallback: { on: [503, 503], to: [{ upstream: a }] } }\n  \
         unknown: { to: a, fallback: { to: [{ upstream: bb }] } }\n  \
         never: { to: a, fallback: { to: [{ respond: {} }, { upstream: b }] } }\n  \
         nothing: { to: a, fallback: { on: [], to: [] } }\n  \
         status: { to: a, fallback: { to: [{ respond: { status: 1000 } }] } }\n",
    ),
    (
        "limits_that_never_trigger",
        "listeners: { web: { address: '127.0.0.1:8080', policies: { rate_limit: [{ rate: 10/s }, { name: b, rate: 600/m, burst: 10 }] } } }\n\
         upstreams:\n  a: { endpoints: [127.0.0.1:1], limits: { requests: 50, between: 4..10 } }\nroutes:\n  \
         a: { to: a, policies: { rate_limit: [{ rate: 20/s }, { name: b, rate: 10/s, burst: 5 }, { name: c, rate: 5/s, burst: 40 }, { name: d, rate: 30/s, shadow: true }] } }\n  \
         other: { to: a, match: { path: /x }, policies: { rate_limit: [{ rate: 20/s }, { name: b, rate: 10/s, shadow: true }, { name: c, key: route, rate: 1/s }] } }\n",
    ),
    ("retry_twice", "upstreams:\n  a: { endpoints: [127.0.0.1:1], retry: { on: [503, 503] } }\n"),
    ("backoff", "upstreams:\n  a: { endpoints: [127.0.0.1:1], retry: { backoff: 25ms } }\n"),
    ("backoff_backwards", "upstreams:\n  a: { endpoints: [127.0.0.1:1], retry: { backoff: 2s..1s } }\n"),
    (
        "hedges",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1, 127.0.0.1:2], hedge: { after: 0s, at_once: 1001 }, balance: { sticky: { cookie: c } } }\n  \
         b: { endpoints: [127.0.0.1:1], hedge: { after: 15s } }\n",
    ),
    ("hedge_field", "upstreams:\n  a: { endpoints: [127.0.0.1:1, 127.0.0.1:2], hedge: { shares: 5% } }\n"),
    ("budget_is_the_upstreams", "routes:\n  a: { retry: { budget: 5% }, to: { echo: {} } }\n"),
    ("endpoint_port_zero", "upstreams:\n  a: { endpoints: [127.0.0.1:0] }\n"),
    ("split_of_nothing", "routes:\n  a: { to: { split: { weights: {} } } }\n"),
    (
        "split_of_zeros",
        "upstreams:\n  x: { endpoints: [127.0.0.1:1] }\nroutes:\n  a: { to: { split: { weights: { x: 0 } } } }\n",
    ),
    (
        "connection_limits",
        "listeners:\n  a:\n    address: 127.0.0.1:80\n    limits: { connections: 0, client_connections: 0, client_prefix: 8, handshakes: 0, max_age: 0s }\n",
    ),
    (
        "proxy_protocol_from_nobody",
        "listeners:\n  a: { address: 127.0.0.1:80, proxy_protocol: { from: [], time: 0s } }\n",
    ),
    (
        "limits",
        "listeners:\n  a:\n    address: 127.0.0.1:80\n    limits: { headers: 2MiB, header_count: 300, uri: 1MiB, requests: 0, streams: 0, window: 1GiB, idle: 0s }\n",
    ),
    (
        "times_of_an_upstream",
        "upstreams:\n  a: { endpoints: [127.0.0.1:1], timeouts: { connect: 0s }, retry: { attempts: 0 }, idle_timeout: 0s }\n",
    ),
    (
        "times_of_a_route",
        "routes:\n  a: { to: { echo: {} }, timeouts: { total: 0s }, retry: { attempts: 17 } }\n",
    ),
    ("upstream_connections", "process: { upstream_connections: 0 }\n"),
    ("body_memory", "process: { body_memory: 64KiB }\n"),
    ("answer_status", "routes:\n  a: { to: { respond: { status: 99 } } }\n"),
    ("redirect", "routes:\n  a: { to: { redirect: { status: 200, scheme: htps, port: 0 } } }\n"),
    ("buckets", "telemetry: { metrics: { buckets: [10ms, 5ms, 5ms] } }\n"),
    ("no_buckets", "telemetry: { metrics: { buckets: [] } }\n"),
    (
        "log_fields",
        "telemetry: { access_log: { fields: [time, staus, request.x-id, colour], queue: 0, redact: [\"a b\"] } }\n",
    ),
    (
        "host_name",
        "hosts: { \"a b\": {}, \"cdn.example.com:80\": {}, A.example.com: {}, a.example.com.: {} }\n",
    ),
    ("h2c_under_tls", "listeners:\n  a: { address: 127.0.0.1:80, h2c: true, tls: { certificates: [] } }\n"),
    // Files
    (
        "error_pages",
        "routes:\n  a:\n    to: { echo: {} }\n    error_pages:\n      200: page.html\n      404: missing.html\n      500: .\n",
    ),
    ("error_page_by_word", "routes:\n  a: { to: { echo: {} }, error_pages: { not_found: page.html } }\n"),
    (
        "certificates",
        "listeners:\n  a:\n    address: 127.0.0.1:80\n    tls:\n      certificates: [{ certificate: a.crt, key: a.key }]\n      client: { ca: ca.pem, crl: a.crl }\n",
    ),
    ("log_folder", "telemetry: { access_log: { to: { file: missing/access.log } } }\n"),
    ("secret_file_missing", "admin: { token: { file: token } }\n"),
    ("secret_file_empty", "admin: { token: { file: empty } }\n"),
    // Secrets are not shown
    ("secret_on_the_line", "admin: { token: hunter2, adress: 127.0.0.1:1 }\n"),
    ("secret_is_a_list", "admin: { token: [hunter2] }\n"),
    ("secret_is_a_number", "admin: { token: 31337 }\n"),
    ("secret_under_a_misspelt_key", "admin: { tokn: hunter2 }\n"),
    (
        "secret_in_an_address",
        "stores: { a: { redis: { address: 'redis://:hunter2@10.0.0.1:6379', databases: 1 } } }\nidentity:\n  providers:\n    a: { forward: { url: https://ann:hunter2@id.example/a } }\n    b: { jwt: { issuer: 'https://ann:hunter 2@id.example', audiences: [b], algorithms: [ES256], key: 1 } }\n",
    ),
    (
        "secret_in_an_address_of_bad_yaml",
        "stores: { a: { redis: { address: \"redis://:hunter2@10.0.0.1:6379\n",
    ),
    ("secret_before_bad_yaml", "admin: { token: hunter2, address: \"127\n"),
    ("secret_over_several_lines", "admin:\n  token: \"hunter2\n    hunter3\"\n  adress: 127.0.0.1:1\n"),
    (
        "secret_with_old_line_breaks",
        "admin:\r  token: hunter2\r  address: 127.0.0.1:1\rprocess:\r  drain: 3\r",
    ),
    // Several at once, and what only follows from another is not told
    (
        "all_at_once",
        "process: { drain: 30, wrkers: 2 }\nlisteners:\n  web: { adress: 127.0.0.1:80, h2c: yes }\nupstreams:\n  a: { endpoints: [b, c] }\nroutes:\n  a: { to: a, on: [web] }\n  b: { to: c }\n  c: { to: { redirct: {} }, prio: 1 }\n",
    ),
    (
        "consumers",
        "plans: { gold: {} }\nconsumers:\n  a: { plan: gild, groups: [\"a b\"], credentials: [{ api_key: { sha256: 12 } }] }\n  b: { credentials: [{ api_kay: {} }, { jwt: { provider: main } }] }\n  \"c d\": {}\n  e: { plan: gilt }\n  f: { credentials: [{ jwt: { provider: main, subject: x } }] }\n  file: missing.jsonl\n",
    ),
    (
        "consumer_key_is_not_shown",
        "consumers: { a: { credentials: [{ api_key: { kye: hunter2 } }, { api_key: { key: hunter2 } }], plam: x } }\n",
    ),
    (
        "login",
        "identity:\n  providers:\n    a:\n      oidc:\n        issuer: https://id.example.com\n        client: a\n        client_authentication: plain\n        redirect_uri: http://app.example.com/callback\n        algorithms: [none]\n        cookies: { keys: secret }\n",
    ),
    (
        "authenticate",
        "routes:\n  a:\n    to: { echo: {} }\n    policies: { authenticate: { any_of: [{ api_key: { headers: x } }, { apikey: {} }], optionl: true } }\n",
    ),
    (
        "forward_authentication_shape",
        "identity:\n  providers:\n    check: { forward: { url: 'http://auth.example/check', takes: [x], cache: {}, in_flight: 0, breaker: { failures: 0 } } }\n",
    ),
    (
        "signatures_shape",
        "identity: { signatures: { remembered: 0 } }\nconsumers:\n  a: { credentials: [{ signature: { id: k, key: { hmac-sha1: x } } }] }\n  b: { credentials: [{ signature: { key: { hmac-sha256: x } } }] }\nroutes:\n  a:\n    to: { echo: {} }\n    policies: { authenticate: { any_of: [{ signature: { component: [x] } }, { hmac: { max_age: 5m } }] } }\n",
    ),
    (
        "passwords_shape",
        "identity: { passwords: { at_once: 0, waiting: many, keep: 5 } }\nconsumers:\n  a: { credentials: [{ basic: { user: a, password: hunter2 } }] }\nroutes:\n  a:\n    to: { echo: {} }\n    policies: { authenticate: { any_of: [{ basic: { realms: x } }] } }\n",
    ),
    (
        "certificates_of_consumers",
        "consumers:\n  a:\n    credentials:\n      - certificate: { fingerprint: abc }\n      - certificate: { sunject: CN=a }\n      - certificate: { dns: 7 }\n      - certificate: CN=a\nroutes:\n  a:\n    to: { echo: {} }\n    policies: { authenticate: { any_of: [{ certificate: { all: true } }, certificate] } }\n",
    ),
    (
        "authorize_shape",
        "roles:\n  reader: { permissions: [{ method: GET, path: /a }, 7] }\nroutes:\n  a:\n    to: { echo: {} }\n    policies: { authorize: { roles: [{ reader: [GET], writer: [GET] }], scopes: { none: [a] }, wen: x } }\n",
    ),
    (
        "every_policy",
        "routes:\n  a:\n    to: { echo: {} }\n    policies:\n      cors: { origin: [a] }\n      headers: { request: { sett: {} } }\n      ip_access: { deny: [x] }\n      body_limit: { max: 5 }\n",
    ),
];

/// What is found when a configuration is compiled, as `tollgate check` does: names that stand for
/// something else, conditions, what nobody can reach.
const COMPILED: &[(&str, &str)] = &[
    (
        "rate_limits",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nplans:\n  gold: { rate: 1/d, burst: 500 }\n  free: {}\nroutes:\n  a: { match: { path: /a }, policies: { rate_limit: {} }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { rate_limit: [{ rate: 1/s }, { rate: 2/s }] }, to: { echo: {} } }\n  c: { match: { path: /c }, policies: { rate_limit: { rate: 5/s, cost: 6 } }, to: { echo: {} } }\n  d: { match: { path: /d }, policies: { rate_limit: { rate: 5/s, cost: { cel: request.path } } }, to: { echo: {} } }\n  e: { match: { path: /e }, policies: { rate_limit: { key: consumer, plan: true } }, to: { echo: {} } }\n",
    ),
    (
        "quotas",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nplans:\n  gold: { rate: 1/s }\nconsumers:\n  acme: { plan: gold }\nroutes:\n  a: { match: { path: /a }, policies: { quota: {} }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { quota: [{ max: 1/day }, { max: 2/day }] }, to: { echo: {} } }\n  c: { match: { path: /c }, policies: { quota: { max: 5/day, cost: 6 } }, to: { echo: {} } }\n  d: { match: { path: /d }, policies: { quota: { plan: true } }, to: { echo: {} } }\n  e: { match: { path: /e }, policies: { quota: { max: 5/hour, window: rolling, zone: Europe/Berlin } }, to: { echo: {} } }\n  f: { match: { path: /f }, policies: { quota: [] }, to: { echo: {} } }\n",
    ),
    (
        "faults",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nroutes:\n  a: { match: { path: /a }, policies: { fault: {} }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { fault: { delay: { by: 2m }, abort: { status: 302, share: 0% } } }, to: { echo: {} } }\n",
    ),
    (
        "concurrency",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nplans:\n  gold: { concurrency: 5 }\nconsumers:\n  acme: { plan: gold }\nroutes:\n  a: { match: { path: /a }, policies: { concurrency: {} }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { concurrency: [{ max: 1 }, { max: 2 }] }, to: { echo: {} } }\n  c: { match: { path: /c }, policies: { concurrency: [] }, to: { echo: {} } }\n",
    ),
    (
        "rate_limits_that_limit_nobody",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nplans:\n  gold: { rate: 1/s }\n  free: {}\nconsumers:\n  acme: { plan: gold }\nroutes:\n  a: { match: { path: /a }, policies: { rate_limit: { key: { header: x-user }, rate: 1/s } }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { rate_limit: { key: consumer, rate: 1/s } }, to: { echo: {} } }\n  c: { match: { path: /c }, policies: { rate_limit: { key: [client_ip, { header: x-user }], rate: 1/s } }, to: { echo: {} } }\n",
    ),
    (
        "forward_authentication",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nidentity:\n  providers:\n    check: { forward: { url: 'https://auth.example/check', send: [x-forwarded-uri, 'a b'], take: [connection], subject: '', refusals: { statuses: [200, 503, 302], headers: [host] }, cache: { time: 0s } } }\n    key: { jwt: { issuer: 'https://id.example', audiences: any, algorithms: [ES256] } }\nroutes:\n  a: { match: { path: /a }, policies: { authenticate: { any_of: [{ forward: chek }, { forward: key }, { jwt: check }] } }, to: { echo: {} } }\n",
    ),
    (
        "signatures",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nconsumers:\n  a:\n    credentials:\n      - signature: { id: k1, key: { hmac-sha256: too-short } }\n      - signature: { id: 'k\"2', key: { hmac-sha256: 0123456789abcdef0123456789abcdef } }\n      - signature: { id: k3, key: { ed25519: 0123456789abcdef0123456789abcdef } }\n      - signature: { id: k4, key: { hmac-sha256: 0123456789abcdef0123456789abcdef } }\n  b: { credentials: [{ signature: { id: k4, key: { hmac-sha256: 0123456789abcdef0123456789abcdeX } } }] }\nroutes:\n  a: { match: { path: /a }, policies: { authenticate: { any_of: [{ signature: { components: ['@method', '@status', X-A], max_age: 0s } }] } }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { authenticate: { any_of: [{ hmac: { window: 0s, body: { max: 0B } } }] } }, to: { echo: {} } }\n",
    ),
    (
        "passwords",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nidentity: { passwords: { at_once: 1 } }\nconsumers:\n  a: { credentials: [{ basic: { user: a, hash: hunter2 } }, { basic: { user: 'a:b', hash: '$2y$05$XETrZ1LfZFPiXUzta0Dqb.dw18pM/lhOyJeaBpLjmMRCKJCJ95NOu' } }] }\n  b: { credentials: [{ basic: { user: b, hash: '$2y$20$XETrZ1LfZFPiXUzta0Dqb.dw18pM/lhOyJeaBpLjmMRCKJCJ95NOu' } }, { basic: { user: c, hash: '$2y$05$XETrZ1LfZFPiXUzta0Dqb.dw18pM/lhOyJeaBpLjmMRCKJCJ95NOu' } }] }\n  c: { credentials: [{ basic: { user: c, hash: '$2y$05$XETrZ1LfZFPiXUzta0Dqb.dw18pM/lhOyJeaBpLjmMRCKJCJ95NOu' } }] }\nroutes:\n  a: { policies: { authenticate: { any_of: [{ basic: { realm: \"a \\\"b\\\"\" } }] } }, to: { echo: {} } }\n",
    ),
    (
        "certificates_that_nobody_shows",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nconsumers:\n  a: { credentials: [{ certificate: { subject: 'CN=a, O=Example; Inc.' } }, { certificate: { dns: '' } }] }\n  b: { credentials: [{ certificate: { subject: XY=a } }, { certificate: { uri: 'spiffe://a' } }] }\n  c: { credentials: [{ certificate: { uri: 'spiffe://a' } }] }\nroutes:\n  a: { policies: { authenticate: { any_of: [{ certificate: {} }] }, authorize: { when: 'tls.client.dn == \"CN=a\"' } }, to: { echo: {} } }\n",
    ),
    (
        "certificates_that_nobody_is_asked_for",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nconsumers:\n  a: { credentials: [{ certificate: { subject: CN=a } }] }\nroutes:\n  a: { policies: { authenticate: { any_of: [{ certificate: {} }] } }, to: { echo: {} } }\n",
    ),
    (
        "roles",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nroles:\n  reader: { permissions: [a b, /orders, { path: orders }, { methods: [get], path: /a }], includes: [writr] }\n  writer: { includes: [writer], consumers: [nobody] }\n",
    ),
    (
        "authorize",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nconsumers:\n  acme: { groups: [staff] }\nroles:\n  reader: { permissions: [orders:read], groups: [staff] }\nroutes:\n  a: { match: { path: /a }, policies: { authorize: { roles: [reeder], permissions: { any: [order:read] } } }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { authorize: {} }, to: { echo: {} } }\n  c: { match: { path: /c }, policies: { authorize: { rbac: true, scopes: [], claims: { groups: groups } } }, to: { echo: {} } }\n  d: { match: { path: /d }, policies: { authorize: { roles: [{ reader: [] }, { reader: [get] }] } }, to: { echo: {} } }\n",
    ),
    (
        "revocations",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nidentity:\n  revocations: { file: nothing.jsonl, state: nowhere/revoked, store: mian, refresh: 1ms, keep: 1s, most: 0 }\nstores:\n  main: { redis: { address: \"127.0.0.1:6379\" } }\n",
    ),
    (
        "admission",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nplans: { gold: {} }\nconsumers: { \"b:anybody\": {} }\nidentity:\n  providers:\n    a: { jwt: { issuer: a, audiences: [api], algorithms: [ES256], keys: { url: \"http://127.0.0.1:1/\" }, admit: { id: sub, groups: \"/~\", prefix: \"a b\", default_plan: glod } } }\n    b: { jwt: { issuer: b, audiences: [api], algorithms: [ES256], keys: { url: \"http://127.0.0.1:1/\" }, admit: {} } }\nroutes:\n  a: { policies: { authenticate: { any_of: [{ jwt: a }, { jwt: b }] } }, to: { echo: {} } }\n",
    ),
    (
        "stores_settings",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nstores:\n  a: { redis: { address: \"127.0.0.1:6379\", timeout: 0s, prefix: \"a b\", username: gate } }\n  b: { redis: { address: \"redis.internal:6379\", timeout: 1m, connect_timeout: 2m, prefix: \"a:b\" } }\n  c: { redis: { address: \"unix:/run/redis.sock\", tls: {}, password: \"\" } }\n  d: { redis: { address: \"127.0.0.1:6379\", tls: { ca: nothing.pem } } }\n",
    ),
    (
        "conditions",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nroutes:\n  a: { match: { path: /a }, policies: { authorize: { when: principle.subject == \"x\" } }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { authorize: { when: request.path.startWith(\"/b\") } }, to: { echo: {} } }\n  c: { match: { path: /c }, policies: { authorize: { when: request.path } }, to: { echo: {} } }\n  d: { match: { path: /d }, policies: { authorize: { when: request.path.matches(\"(\") } }, to: { echo: {} } }\n  e: { match: { path: /e }, policies: { authorize: { when: request.path.matches(request.host) } }, to: { echo: {} } }\n  f: { match: { path: /f }, policies: { authorize: { when: request.path == } }, to: { echo: {} } }\n  g: { match: { path: \"/g/{id}\" }, policies: { authorize: { when: request.params.idd == \"1\" } }, to: { echo: {} } }\n  h: { match: { path: /h }, policies: { authorize: { when: request.method == 1 } }, to: { echo: {} } }\n",
    ),
    (
        "caching",
        "caches:\n  main: {}\nlisteners:\n  web: { address: 127.0.0.1:80 }\nconsumers:\n  acme: {}\npolicies:\n  defaults: { authenticate: { any_of: [{ api_key: { header: x-key } }] } }\nupstreams:\n  u: { endpoints: [127.0.0.1:1] }\nroutes:\n  a: { match: { path: /a }, policies: { cache: { store: main } }, to: u }\n  b: { match: { path: /b }, policies: { cache: { store: main, key: { caller: true } } }, to: u }\n  c: { match: { path: /c }, policies: { authenticate: off, cache: { store: main } }, to: u }\n",
    ),
    (
        "caching_mistakes",
        "caches:\n  main: {}\nlisteners:\n  web: { address: 127.0.0.1:80 }\nupstreams:\n  u: { endpoints: [127.0.0.1:1] }\nroutes:\n  a: { match: { path: /a }, policies: { cache: {} }, to: u }\n  b: { match: { path: /b }, policies: { cache: { store: main, ttl: { 7xx: 1s, ok: 1s }, vary_on: ['a b'], tags_from: 'c:', bypass: 'request.heders', key: { keep_query: [a], drop_query: [b] } } }, to: u }\n",
    ),
    (
        "out_of_reach",
        "listeners:\n  web: { address: 127.0.0.1:80 }\nconsumers:\n  acme: { groups: [staff] }\nroles:\n  reader: { groups: [stuff] }\n  writer: {}\npolicies:\n  defaults: { authenticate: { any_of: [{ api_key: { header: x-key } }] } }\nroutes:\n  a: { match: { path: /a }, policies: { authorize: { groups: [staff] } }, to: { echo: {} } }\n  b: { match: { path: /b }, policies: { authorize: { groups: [stuff] } }, to: { echo: {} } }\n  c: { match: { path: /c }, policies: { authorize: { scopes: [a] } }, to: { echo: {} } }\n  d: { match: { path: /d }, policies: { authorize: { roles: [reader] } }, to: { echo: {} } }\n  e: { match: { path: /e }, policies: { authenticate: off, authorize: { groups: [staff] } }, to: { echo: {} } }\n",
    ),
];

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("page.html"), "<p>no</p>").unwrap();
    fs::write(folder.path().join("empty"), "\n").unwrap();
    folder
}

fn loader() -> Loader {
    let variables = [("WORD", "hunter2-and-more"), ("LIST", "[127.0.0.1:1]")];
    Loader::new(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect::<BTreeMap<_, _>>())
}

/// What is said about a path, errors and warnings alike.
fn said(path: &Path) -> ConfigErrors {
    match loader().load(path) {
        Ok(loaded) => loaded.warnings,
        Err(errors) => errors,
    }
}

fn pin(name: &str, folder: &TempDir, errors: &ConfigErrors) {
    let text = errors.to_string().replace(&folder.path().display().to_string(), "conf");
    assert!(!text.is_empty(), "{name}: nothing is said");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn every_kind_of_mistake_is_told_with_its_place_and_a_remedy() {
    for (name, text) in MISTAKES {
        let folder = folder();
        let path = folder.path().join("gateway.yaml");
        let raw = ["empty", "only_null", "not_a_map", "missing_version"];
        let versioned = text.starts_with("version") || raw.iter().any(|prefix| name.starts_with(prefix));
        let text = if versioned { (*text).to_owned() } else { format!("version: 1\n{text}") };
        fs::write(&path, text).unwrap();
        pin(name, &folder, &said(&path));
    }
}

#[test]
fn what_compiling_finds_is_told_with_its_place_and_a_remedy() {
    for (name, text) in COMPILED {
        let folder = folder();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, format!("version: 1\n{text}")).unwrap();
        let compiler = Compiler::new(Metrics::new(&MetricsSettings::default(), 1));
        let told = match compiler.build(loader().read(&path)) {
            Ok((_, warnings)) => warnings,
            Err(errors) => errors,
        };
        pin(name, &folder, &told);
    }
}

#[test]
fn no_secret_and_no_value_of_the_environment_is_ever_told() {
    for (name, text) in MISTAKES {
        let folder = folder();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, format!("version: 1\n{text}")).unwrap();
        let errors = said(&path);
        let all = format!("{errors}{}", errors.to_json());
        assert!(!all.contains("hunter") && !all.contains("31337"), "{name}: {all}");
    }
}

#[test]
fn what_is_not_text_or_not_there_is_told() {
    let folder = folder();
    let file = folder.path().join("gateway.yaml");
    pin("no_such_file", &folder, &said(&file));
    pin("folder_without_yaml", &folder, &said(folder.path()));
    fs::write(&file, b"version: 1\nroutes:\n  \xc3\xbc: \xff\n").unwrap();
    pin("not_utf8", &folder, &said(&file));
    fs::File::create(&file).unwrap().set_len((32 << 20) + 1).unwrap();
    pin("too_large", &folder, &said(&file));
}

#[test]
fn what_is_nested_or_repeated_without_end_is_refused() {
    let folder = folder();
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, format!("a: {}{}\n", "[".repeat(100), "]".repeat(100))).unwrap();
    pin("nested_too_deep", &folder, &said(&file));
    let mut laughs = String::from("l0: &l0 [a, a, a, a, a, a, a, a, a, a]\n");
    for n in 1..12 {
        let before = vec![format!("*l{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("l{n}: &l{n} [{before}]\n"));
    }
    fs::write(&file, laughs).unwrap();
    pin("billion_laughs", &folder, &said(&file));
}

#[test]
fn a_name_in_two_files_is_told_with_both_places() {
    let folder = folder();
    fs::write(folder.path().join("a.yaml"), GOOD).unwrap();
    let second = "process: { drain: 1s }\nroutes:\n  more: { to: { echo: {} } }\n  orders: { to: orders }\n";
    fs::write(folder.path().join("b.yml"), second).unwrap();
    pin("name_in_two_files", &folder, &said(folder.path()));
    fs::write(folder.path().join("b.yml"), "version: 1\nprocess: { drain: 1s }\n").unwrap();
    fs::write(folder.path().join("c.yaml"), "process: { drain: 2s }\nadmin: off\n").unwrap();
    pin("section_in_two_files", &folder, &said(folder.path()));
    fs::write(folder.path().join("a.yaml"), "routes: {}\n").unwrap();
    fs::write(folder.path().join("b.yml"), "listeners: {}\n").unwrap();
    pin("version_in_no_file", &folder, &said(folder.path()));
}

#[test]
fn programs_get_the_same_as_json() {
    let folder = folder();
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, "version: 1\nroutes:\n  a: { to: { echo: {} }, on: [web, web] }\n").unwrap();
    let json = serde_json::to_string_pretty(&said(&path).to_json()).unwrap();
    let json = json.replace(&folder.path().display().to_string(), "conf");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("json", json);
    });
}

#[test]
fn many_mistakes_are_printed_up_to_a_bound() {
    let folder = folder();
    let path = folder.path().join("gateway.yaml");
    let routes: String = (0..250).map(|n| format!("  r{n}: {{ to: nowhere }}\n")).collect();
    fs::write(&path, format!("version: 1\nlisteners: {{}}\nroutes:\n{routes}")).unwrap();
    let errors = said(&path);
    assert_eq!(errors.errors(), 250);
    let text = errors.to_string();
    assert!(text.ends_with("and 150 more\n") || text.ends_with("and 151 more\n"), "{text}");
}
