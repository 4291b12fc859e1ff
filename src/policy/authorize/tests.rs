use super::*;
use crate::identity::{Consumer, Identity, Principal, Roles};
use serde_json::{Value, json};

const ROLES: &str = "
reader: { permissions: [orders:read, { methods: [GET], path: /orders/* }], groups: [staff] }
writer: { permissions: [orders:write, { methods: [POST], path: /orders }], includes: [reader], consumers: [acme] }
auditor: {}
";

fn policy(yaml: &str) -> Result<Authorize, Vec<Finding>> {
    let (roles, found) = Roles::compile(&serde_saphyr::from_str(ROLES).unwrap());
    assert_eq!(found, []);
    let config: AuthorizeConfig =
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    let env = CompileEnv { identity: Arc::new(Identity::with_roles(roles)), ..CompileEnv::default() };
    Authorize::compile(&config, &env)
}

fn caller(consumer: &str, groups: &[&str], scopes: &[&str], claims: Value) -> Principal {
    let names = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Vec<Box<str>>>();
    let known = Consumer { groups: names(groups).into(), ..Consumer::named(consumer) };
    Principal { scopes: names(scopes).into(), claims, ..Principal::of(Method::Jwt, "u-17", Arc::new(known)) }
}

/// `let in`, or the cause.
fn decide(yaml: &str, caller: Option<Principal>, method: &str, path: &str) -> &'static str {
    let policy = policy(yaml).unwrap_or_else(|found| panic!("{yaml}: {found:?}"));
    let head = RequestHeader::build(method, path.as_bytes(), None).unwrap();
    let mut cx = PolicyContext { principal: caller.map(Arc::new), ..PolicyContext::new() };
    let rejection = match policy.on_request(&head, &mut cx) {
        Step::Continue => None,
        Step::Reject(rejection) => Some(rejection),
        Step::Answer(_) | Step::Wait(_) => panic!("neither answers nor waits"),
    };
    match rejection {
        None => "let in",
        Some(rejection) => {
            assert_eq!((rejection.code, rejection.status.as_u16()), (FORBIDDEN, 403));
            assert_eq!(rejection.title, "You may not do this");
            let cause = cx.auth_cause.expect("a cause for the log");
            assert!(rejection.detail.starts_with(cause), "{}", rejection.detail);
            cause
        }
    }
}

#[test]
fn each_need_by_itself() {
    let claims =
        || json!({ "groups": ["partners"], "realm": { "roles": ["reader", "unheard-of"] }, "tier": "gold" });
    let acme = || Some(caller("acme", &["staff", "ops"], &["a", "b"], claims()));
    let other = || Some(caller("other", &[], &["a"], claims()));
    for (yaml, caller, expected) in [
        ("scopes: [a, b]", acme(), "let in"),
        ("scopes: [a, b]", other(), "scope_missing"),
        ("scopes: { all: [a, b] }", other(), "scope_missing"),
        ("scopes: { any: [a, b] }", other(), "let in"),
        ("scopes: { any: [c] }", acme(), "scope_missing"),
        ("scopes: [a]", None, "anonymous"),
        ("groups: [none, staff]", acme(), "let in"),
        ("groups: [staff]", other(), "group_missing"),
        ("groups: [partners]", other(), "group_missing"),
        ("{ groups: [partners], claims: { groups: /groups } }", other(), "let in"),
        ("{ groups: [staff], claims: { groups: /groups } }", acme(), "let in"),
        ("roles: [reader]", acme(), "let in"),
        ("roles: [writer]", acme(), "let in"),
        ("roles: [writer]", other(), "role_missing"),
        ("roles: [reader]", other(), "role_missing"),
        ("{ roles: [reader], claims: { roles: /realm/roles } }", other(), "let in"),
        ("{ roles: [writer], claims: { roles: /realm/roles } }", other(), "role_missing"),
        ("{ roles: [auditor, { writer: [POST] }] }", acme(), "role_missing"),
        ("{ roles: [auditor, { writer: [GET] }] }", acme(), "let in"),
        ("roles: [reader]", None, "anonymous"),
        ("permissions: [orders:read, orders:write]", acme(), "let in"),
        ("permissions: [orders:write]", other(), "permission_missing"),
        (
            "{ permissions: { any: [orders:read, orders:write] }, claims: { roles: /realm/roles } }",
            other(),
            "let in",
        ),
        ("when: 'principal.claims.tier == \"gold\"'", other(), "let in"),
        ("when: 'principal.claims.tier == \"iron\"'", other(), "condition_false"),
        ("when: 'principal.claims.none != \"iron\"'", other(), "condition_error"),
        ("when: 'request.method == \"GET\"'", None, "let in"),
        ("{ scopes: [a], groups: [staff], when: 'true' }", acme(), "let in"),
        ("{ scopes: [a], groups: [staff], when: 'true' }", other(), "group_missing"),
    ] {
        assert_eq!(decide(yaml, caller, "GET", "/orders/7"), expected, "{yaml}");
    }
}

#[test]
fn requests_that_roles_permit() {
    let acme = || Some(caller("acme", &[], &[], json!({})));
    let staff = || Some(caller("other", &["staff"], &[], json!({})));
    for (caller, method, path, expected) in [
        (acme(), "GET", "/orders/7", "let in"),
        (acme(), "HEAD", "/orders", "let in"),
        (acme(), "POST", "/orders", "let in"),
        (acme(), "POST", "/orders/7", "request_not_permitted"),
        (staff(), "GET", "/orders/7", "let in"),
        (staff(), "POST", "/orders", "request_not_permitted"),
        (staff(), "GET", "/invoices", "request_not_permitted"),
        (None, "GET", "/orders/7", "anonymous"),
    ] {
        assert_eq!(decide("rbac: true", caller, method, path), expected, "{method} {path}");
    }
}

#[test]
fn the_one_path_that_is_forwarded_is_the_one_that_is_permitted() {
    let policy = policy("rbac: true").unwrap();
    let head = RequestHeader::build("GET", b"/orders/../invoices", None).unwrap();
    let principal = Some(Arc::new(caller("acme", &[], &[], json!({}))));
    let mut cx = PolicyContext { principal, normalised: Some("/invoices".into()), ..PolicyContext::new() };
    assert!(matches!(policy.on_request(&head, &mut cx), Step::Reject(_)));
}

#[test]
fn a_token_without_the_scope_is_told_so_and_no_more() {
    let policy = policy("scopes: [secret-scope]").unwrap();
    let head = RequestHeader::build("GET", b"/", None).unwrap();
    for (method, challenge) in [(Method::Jwt, true), (Method::Introspection, true), (Method::ApiKey, false)] {
        let mut cx =
            PolicyContext { principal: Some(Principal::new(method, "x").into()), ..PolicyContext::new() };
        let Step::Reject(rejection) = policy.on_request(&head, &mut cx) else { panic!("let in") };
        let expected =
            challenge.then(|| (WWW_AUTHENTICATE, "Bearer error=\"insufficient_scope\"".parse().unwrap()));
        assert_eq!(rejection.headers, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn every_need_is_explained() {
    let policy =
        policy("{ scopes: [a], roles: [{ reader: [GET] }], rbac: true, when: 'client.ip == \"\"' }").unwrap();
    let head = RequestHeader::build("GET", b"/orders", None).unwrap();
    let principal = Some(Arc::new(caller("acme", &[], &[], json!({}))));
    let asked = policy.explain(&head, &PolicyContext { principal, ..PolicyContext::new() });
    let shown: Vec<String> = asked
        .iter()
        .map(|one| format!("{}: {:?}", one.what, one.denied.as_ref().map(|(cause, _)| *cause)))
        .collect();
    assert_eq!(
        shown,
        [
            "all of the scopes a: Some(\"scope_missing\")",
            "one of the roles reader (GET): None",
            "a role that permits this method and path: None",
            "that client.ip == \"\": Some(\"condition_false\")",
        ]
    );
    assert_eq!(policy.asked_roles().map(Name::as_str).collect::<Vec<_>>(), ["reader", "reader", "writer"]);
}

#[test]
fn mistakes_have_their_places() {
    for (yaml, path, what) in [
        ("{}", "", "nothing is asked for"),
        ("scopes: []", "scopes", "the list is empty"),
        ("permissions: { any: [] }", "permissions", "the list is empty"),
        ("roles: [reader, readr]", "roles[1]", "unknown role `readr` (did you mean `reader`?)"),
        ("roles: [{ reader: [get] }]", "roles[0].reader[0]", "`get` is not a method"),
        ("roles: [{ reader: [] }]", "roles[0].reader", "there are no methods"),
        (
            "permissions: [order:read]",
            "permissions[0]",
            "unknown permission `order:read` (did you mean `orders:read`?)",
        ),
        ("permissions: { any: [x] }", "permissions.any[0]", "unknown permission `x`"),
        ("when: 'request.methd == 1'", "when", "unknown variable `request.methd`"),
        ("{ groups: [a], claims: { groups: groups } }", "claims.groups", "`groups` is not a JSON pointer"),
    ] {
        let found = policy(yaml).map(|_| ()).unwrap_err();
        assert_eq!(found[0].path.to_string(), path, "{yaml}");
        assert!(found[0].problem.to_string().starts_with(what), "{yaml}: {}", found[0].problem);
    }
}

#[test]
fn what_is_written_is_read_and_written_again() {
    for yaml in [
        "{ scopes: [a], groups: [g], roles: [reader, { writer: [GET] }], permissions: { any: [p] }, rbac: true }",
        "{ scopes: { any: [a, b] }, when: 'true', claims: { roles: /roles } }",
    ] {
        let config: AuthorizeConfig = serde_saphyr::from_str(yaml).unwrap();
        let again: AuthorizeConfig = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
    for wrong in ["roles: [{ a: [GET], b: [GET] }]", "roles: [{}]", "scopes: { none: [a] }", "scopes: 7"] {
        assert!(serde_saphyr::from_str::<AuthorizeConfig>(wrong).is_err(), "{wrong}");
    }
}
