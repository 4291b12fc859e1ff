//! What a request pays for being authorised.

use criterion::{Criterion, criterion_group, criterion_main};
use pingora_http::RequestHeader;
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use tollgate::identity::{Consumer, Identity, Method, Principal, Roles, RolesConfig};
use tollgate::policy::authorize::{Authorize, AuthorizeConfig};
use tollgate::policy::context::PolicyContext;
use tollgate::policy::{CompileEnv, Policy as _, Step};

const CASES: &[(&str, &str)] = &[
    ("scope", "scopes: [orders:read]"),
    ("group", "groups: [partners, staff]"),
    ("group in a claim", "{ groups: [internal], claims: { groups: /realm/groups } }"),
    ("role", "roles: [reader]"),
    ("request permitted by a role, of 20", "rbac: true"),
    ("cel: 1 term", "when: 'request.method == \"GET\"'"),
    ("cel: claim", "when: 'principal.claims.tier == \"gold\"'"),
    (
        "cel: 3 terms",
        "when: 'request.method == \"GET\" && principal.claims.tier == \"gold\" && \"staff\" in principal.groups'",
    ),
    (
        "cel: header and query",
        "when: 'request.headers[\"x-tier\"] == \"gold\" && request.query.dry == \"1\"'",
    ),
    ("cel: regular expression", "when: 'request.path.matches(\"^/orders/[0-9]+$\")'"),
    ("cel: list of 3", "when: 'principal.claims.realm.groups.exists(g, g.startsWith(\"int\"))'"),
];

fn context() -> PolicyContext {
    let groups: Vec<Box<str>> = vec!["staff".into()];
    let consumer = Consumer { groups: groups.into(), ..Consumer::named("acme") };
    let claims = json!({
        "iss": "https://id.example", "sub": "u-17", "aud": "api", "tier": "gold", "email": "a@example.com",
        "realm": { "groups": ["a", "b", "internal"] },
    });
    let principal = Principal {
        claims,
        scopes: ["orders:read".into(), "orders:write".into()].into(),
        ..Principal::of(Method::Jwt, "u-17", Arc::new(consumer))
    };
    PolicyContext { principal: Some(Arc::new(principal)), ..PolicyContext::new() }
}

fn authorize(criterion: &mut Criterion) {
    let mut roles = String::from(
        "reader: { permissions: [{ methods: [GET], path: '/orders/{id}' }], groups: [staff] }\n",
    );
    for at in 0..19 {
        roles.push_str(&format!(
            "a{at}: {{ permissions: [{{ methods: [GET], path: /other{at}/* }}], groups: [g{at}] }}\n"
        ));
    }
    let Ok(roles) = serde_saphyr::from_str::<RolesConfig>(&roles) else { return };
    let identity = Arc::new(Identity::with_roles(Roles::compile(&roles).0));
    let Ok(mut head) = RequestHeader::build("GET", b"/orders/4711?expand=items&dry=1", None) else { return };
    for (name, value) in [("host", "api.example.com"), ("accept", "*/*"), ("x-tier", "gold")] {
        let _ = head.insert_header(name, value);
    }
    let mut cx = context();
    for (name, yaml) in CASES {
        let Ok(config) = serde_saphyr::from_str::<AuthorizeConfig>(yaml) else { continue };
        let env = CompileEnv { identity: Arc::clone(&identity), ..CompileEnv::default() };
        let Ok(policy) = Authorize::compile(&config, &env) else { continue };
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| assert!(matches!(policy.on_request(black_box(&head), &mut cx), Step::Continue)));
        });
    }
}

criterion_group!(benches, authorize);
criterion_main!(benches);
