//! What callers may do: who gets through, who does not, what the client, the upstream and the log learn.

use crate::harness::{Answer, Client, Gateway, Origin, get, wait_until};
use std::fs;

const CONSUMERS: &str = "
plans: { gold: {} }
consumers:
  acme: { plan: gold, groups: [partners, staff], credentials: [{ api_key: { key: key-of-acme-0123456789 } }] }
  solo: { credentials: [{ api_key: { key: key-of-solo-0123456789 } }] }
roles:
  reader: { permissions: [orders:read, { methods: [GET], path: '/orders/{id}' }], groups: [staff] }
  writer: { permissions: [orders:write, { methods: [PUT], path: /orders/* }], includes: [reader] }
";
const ACME: &str = "x-api-key: key-of-acme-0123456789";
const SOLO: &str = "x-api-key: key-of-solo-0123456789";

fn gateway(origin: &Origin, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         admin: {{ address: '127.0.0.1:PORT_admin' }}\n\
         telemetry: {{ access_log: {{ to: {{ file: access.log }}, fields: [status, consumer, auth, cause, path] }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n{CONSUMERS}{rest}",
        origin.address()
    ))
}

fn ask(client: &mut Client, line: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(format!("{line} HTTP/1.1\r\nhost: example.com\r\n{fields}\r\n"))
}

const POLICIES: &str = "
policies:
  defaults: { authenticate: { any_of: [{ api_key: { header: x-api-key } }] } }
  enforced: { authorize: { when: '!(\"x-blocked\" in request.headers)' } }
routes:
  group: { match: { path: /group }, policies: { authorize: { groups: [partners] } }, to: origin }
  role: { match: { path: /role }, policies: { authorize: { roles: [{ reader: [GET] }] } }, to: origin }
  permission: { match: { path: /permission }, policies: { authorize: { permissions: [orders:read] } }, to: origin }
  orders: { match: { path: '/orders/*' }, policies: { authorize: { rbac: true } }, to: origin }
  own: { match: { path: '/own/{name}' }, policies: { authorize: { when: 'request.params.name == principal.consumer' } }, to: origin }
  plan: { match: { path: /plan }, policies: { authorize: { when: 'principal.plan != \"free\"' } }, to: origin }
  open: { match: { path: /open }, policies: { authorize: off }, to: origin }
";

#[test]
fn each_caller_gets_what_it_may_have_and_the_log_knows_why_not() {
    let origin = Origin::saying("in");
    let gateway = gateway(&origin, POLICIES);
    let mut client = Client::new(gateway.web());
    let table: &[(&str, &str, u16, &str)] = &[
        ("GET /group", ACME, 200, "api_key"),
        ("GET /group", SOLO, 403, "group_missing"),
        ("GET /role", ACME, 200, "api_key"),
        ("HEAD /role", ACME, 200, "api_key"),
        ("PUT /role", ACME, 403, "role_missing"),
        ("GET /role", SOLO, 403, "role_missing"),
        ("GET /permission", ACME, 200, "api_key"),
        ("GET /permission", SOLO, 403, "permission_missing"),
        ("GET /orders/7", ACME, 200, "api_key"),
        ("GET /orders//./7", ACME, 200, "api_key"),
        ("GET /orders/%37", ACME, 200, "api_key"),
        ("GET /orders/7/lines", ACME, 403, "request_not_permitted"),
        ("GET /orders/7/../7/lines", ACME, 403, "request_not_permitted"),
        ("PUT /orders/7", ACME, 403, "request_not_permitted"),
        ("GET /orders/7", SOLO, 403, "request_not_permitted"),
        ("GET /own/acme", ACME, 200, "api_key"),
        ("GET /own/solo", ACME, 403, "condition_false"),
        ("GET /own/%73olo", SOLO, 200, "api_key"),
        ("GET /plan", ACME, 200, "api_key"),
        ("GET /plan", SOLO, 403, "condition_error"),
        ("GET /open", SOLO, 200, "api_key"),
    ];
    for (line, key, status, _) in table {
        let answer = ask(&mut client, line, &[key]);
        assert_eq!(answer.status, *status, "{line} {key}");
        if *status == 403 {
            assert_eq!((answer.code().as_str(), answer.field("www-authenticate")), ("forbidden", None));
            let told = answer.text();
            assert!(["group", "role", "plan", "condition"].iter().all(|word| !told.contains(word)), "{told}");
        }
    }
    assert_eq!(ask(&mut client, "GET /open", &[SOLO, "x-blocked: 1"]).status, 403, "enforced");
    let through = table.iter().filter(|(_, _, status, _)| *status == 200).count();
    assert_eq!(origin.received().len(), through, "nothing refused goes upstream");

    let log = || fs::read_to_string(gateway.folder().join("access.log")).unwrap_or_default();
    wait_until("all is logged", || log().lines().count() == table.len() + 1);
    // Each worker writes on its own, so the order of the lines is not that of the requests.
    let mut logged: Vec<String> = log()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["path"] != "/open" || line["status"] == 200)
        .map(|line| format!("{} {} {}", line["path"], line["status"], line["auth"]))
        .collect();
    let path = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
    let mut expected: Vec<String> =
        table.iter().map(|(line, _, status, auth)| format!("{:?} {status} {auth:?}", path(line))).collect();
    logged.sort_unstable();
    expected.sort_unstable();
    assert_eq!(logged, expected);
    let metrics = get(gateway.at("admin"), "/metrics").text();
    for sample in [
        "tollgate_authorize_denied_total{cause=\"role_missing\"} 2",
        "tollgate_authorize_denied_total{cause=\"request_not_permitted\"} 4",
        "tollgate_authorize_denied_total{cause=\"condition_error\"} 1",
        "tollgate_rejections_total{code=\"forbidden\"} 11",
    ] {
        assert!(metrics.contains(sample), "{sample} is not in\n{metrics}");
    }
}

#[test]
fn what_a_service_learns_of_a_caller_no_client_can_say() {
    let origin = Origin::saying("in");
    let rest = "
routes:
  all:
    policies:
      authenticate: { any_of: [{ api_key: { header: x-api-key, forward: false } }], optional: true }
      headers:
        request:
          set: { x-consumer: '{consumer.name}', x-plan: '{consumer.plan}', x-proof: '{principal.method}/{principal.subject}' }
          add: { x-groups: '{consumer.groups}' }
      rewrite: { path: '/of/{principal.subject}{request.path}' }
    to: origin
";
    let gateway = gateway(&origin, rest);
    let mut client = Client::new(gateway.web());
    let spoofed =
        ["x-consumer: root", "X-Plan: platinum", "x-groups: admins", "x-proof: jwt/root", "x_consumer: root"];
    let seen = || {
        ["x-consumer", "x-plan", "x-groups", "x-proof", "x_consumer", "x-api-key"]
            .map(|name| origin.last().field(name).map(str::to_owned))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(ask(&mut client, "GET /a", &[&spoofed[..], &[ACME]].concat()).status, 200);
    assert_eq!(
        seen(),
        [some("acme"), some("gold"), some("partners,staff"), some("api_key/acme"), None, None]
    );
    assert_eq!(origin.last().target(), "/of/acme/a");
    assert_eq!(ask(&mut client, "GET /a", &[&spoofed[..], &[SOLO]].concat()).status, 200);
    assert_eq!(seen(), [some("solo"), None, None, some("api_key/solo"), None, None]);
    assert_eq!(ask(&mut client, "GET /a", &spoofed).status, 200);
    assert_eq!(seen(), [None, None, None, None, None, None], "nobody is nobody");
    // A client that asks for our own fields to be dropped on the way gets no say in it.
    assert_eq!(ask(&mut client, "GET /a", &[ACME, "connection: x-consumer"]).status, 200);
    assert_eq!(origin.last().field("x-consumer"), Some("acme"));
}
