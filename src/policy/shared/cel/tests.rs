use super::*;
use crate::identity::certificate::{ClientCertificate, ClientTls};
use crate::identity::{Consumer, Method, Principal};
use crate::policy::context::PolicyContext;
use crate::policy::shared::template::Scope;
use pingora_http::RequestHeader;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

fn claims() -> Json {
    json!({
        "tier": "gold", "level": 3, "ratio": 0.5, "big": 18_446_744_073_709_551_615_u64, "flag": true,
        "none": null, "roles": ["admin", "dev"], "numbers": [1, 2, 3], "empty": [],
        "org": { "id": 7, "name": "acme" },
    })
}

fn principal() -> Principal {
    let groups = ["staff", "ops"].map(Box::from);
    let consumer = Consumer {
        plan: Some("gold".into()),
        tenant: Some("big".into()),
        groups: groups.into(),
        ..Consumer::named("acme")
    };
    Principal {
        claims: claims(),
        scopes: ["orders:read", "orders:write"].map(Box::from).into(),
        provider: Some("main".into()),
        ..Principal::of(Method::Jwt, "u-17", Arc::new(consumer))
    }
}

fn head() -> RequestHeader {
    let target = "/orders/a%20b?q=x+y&admin=%74rue&twice=1&twice=2&flag&%71q=z";
    let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
    for (name, value) in [
        ("host", "API.example.com:8443"),
        ("x-tier", "gold"),
        ("x-many", "a"),
        ("x-many", "b"),
        ("cookie", "a=1; b=2; b=3"),
    ] {
        head.append_header(name, value).unwrap();
    }
    head.append_header("x-bytes", http::HeaderValue::from_bytes(b"\xff").unwrap()).unwrap();
    head
}

fn context(principal: Option<Principal>) -> PolicyContext {
    let mut cx = PolicyContext::new();
    cx.client = "192.0.2.7".parse().unwrap();
    cx.secure = true;
    cx.params.push((8, 13));
    cx.principal = principal.map(Arc::new);
    cx
}

/// A connection whose client has shown a certificate, if it has.
fn over_tls(certificate: bool) -> Arc<ClientTls> {
    let shown = || {
        let mut params = rcgen::CertificateParams::new(vec!["billing.internal".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "billing");
        let issued = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        Box::new(ClientCertificate::parse(issued.der()).unwrap())
    };
    let (sni, certificate) = (Some("api.example.com".to_owned()), certificate.then(shown));
    Arc::new(ClientTls { sni, version: "TLSv1.3", certificate, ..ClientTls::default() })
}

#[test]
fn what_tls_has_settled() {
    let holds = |text: &str, tls: Option<Arc<ClientTls>>| {
        let (head, cx) = (head(), PolicyContext { tls, ..context(None) });
        compile(text).unwrap().holds(&Facts::new(&head, &cx)).ok()
    };
    for (text, with_certificate, without, in_the_clear) in [
        (r#"tls.version == "TLSv1.3" && tls.sni == "api.example.com""#, Some(true), Some(true), None),
        (r#"tls.client.subject == "CN=billing""#, Some(true), None, None),
        (r#""billing.internal" in tls.client.dns && tls.client.emails.size() == 0"#, Some(true), None, None),
        (r#"tls.client.uris.size() == 0 && tls.client.serial.size() > 0"#, Some(true), None, None),
        (r#"tls.client.fingerprint.matches("^[0-9a-f]{64}$")"#, Some(true), None, None),
        (r#"has(tls.client.subject)"#, Some(true), Some(false), Some(false)),
        (r#"has(tls.client)"#, Some(true), Some(false), Some(false)),
        (r#"tls.client.subject != "CN=mallory""#, Some(true), None, None),
    ] {
        assert_eq!(holds(text, Some(over_tls(true))), with_certificate, "{text}");
        assert_eq!(holds(text, Some(over_tls(false))), without, "{text}");
        assert_eq!(holds(text, None), in_the_clear, "{text}");
    }
    assert!(compile(r#"tls.client.dns == "a""#).is_err(), "a list is no text");
}

fn compile(text: &str) -> Result<Condition, Problem> {
    let params = ["id".to_owned()];
    Condition::compile(text, &Scope { params: &params, route: None, of_this_route: Cell::new(false) })
}

/// None for an error.
fn holds(text: &str, principal: Option<Principal>) -> Option<bool> {
    let condition = compile(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    let (head, cx) = (head(), context(principal));
    let facts = Facts::new(&head, &cx);
    condition.holds(&facts).ok()
}

#[test]
fn what_the_variables_stand_for() {
    for text in [
        r#"request.method == "GET" && request.scheme == "https" && request.host == "api.example.com""#,
        r#"request.path == "/orders/a%20b" && request.params.id == "a b" && request.params["id"].size() == 3"#,
        r#"request.headers["X-Tier"] == "gold" && request.headers.host.startsWith("API")"#,
        r#""x-tier" in request.headers && !("x-none" in request.headers) && has(request.headers.host)"#,
        r#"request.query.q == "x y" && request.query["admin"] == "true" && request.query.flag == """#,
        r#"request.query.qq == "z" && "twice" in request.query && !("TWICE" in request.query)"#,
        r#"request.cookies.a == "1" && "b" in request.cookies"#,
        r#"client.ip == "192.0.2.7" && client.ip.inNetwork("192.0.2.0/24") && !client.ip.inNetwork("10.0.0.0/8")"#,
        r#"principal.subject == "u-17" && principal.consumer == "acme" && principal.plan == "gold" && principal.tenant == "big""#,
        r#"principal.method == "jwt" && principal.provider == "main""#,
        r#""staff" in principal.groups && principal.scopes == ["orders:read", "orders:write"]"#,
        r#"principal.claims.tier == "gold" && principal.claims["level"] >= 3 && principal.claims.ratio < 1"#,
        r#""admin" in principal.claims.roles && "id" in principal.claims.org && principal.claims.org.id == 7"#,
        r#"has(principal.claims.tier) && !has(principal.claims.none_such) && has(principal.plan)"#,
        r#"principal.claims.roles.exists(r, r.startsWith("a")) && principal.groups.all(g, g.size() > 2)"#,
        r#"principal.claims.numbers.map(n, n * 2) == [2, 4, 6] && principal.claims.org.exists_one(k, k == "id")"#,
        r#"["ops", "none"].filter(g, g in principal.groups) == ["ops"]"#,
        r#"principal.subject.matches("^u-[0-9]+$") && "ABC".lowerAscii() == "abc""#,
        r#"(principal.claims.flag ? "yes" : "no") == "yes" && principal.claims.none == null"#,
        r#"int("7") + 1 == 8 && double(3) == 3.0 && string(7) == "7" && -principal.claims.level == -3"#,
    ] {
        assert_eq!(holds(text, Some(principal())), Some(true), "{text}");
    }
}

#[test]
fn what_is_not_there_or_not_clear_is_an_error_and_an_error_can_be_outvoted() {
    for (text, expected) in [
        (r#"principal.subject != "bob""#, None),
        (r#"!(principal.claims.tier == "bronze")"#, None),
        (r#"has(principal.subject)"#, Some(false)),
        (r#"principal.subject == "bob" || request.method == "GET""#, Some(true)),
        (r#"principal.subject == "bob" && request.method == "PUT""#, Some(false)),
        (r#"principal.groups.all(g, g == "x")"#, None),
    ] {
        assert_eq!(holds(text, None), expected, "anonymous: {text}");
    }
    for (text, expected) in [
        (r#"request.headers["x-none"] != "a""#, None),
        (r#"request.headers["x-many"] != "a""#, None),
        (r#"request.headers["x-bytes"] != "a""#, None),
        (r#"request.query.twice != "1""#, None),
        (r#"request.cookies.b != "2""#, None),
        (r#"principal.claims.nothing != "a""#, None),
        (r#"principal.claims.tier"#, None),
        (r#"principal.claims.flag"#, Some(true)),
        (r#"principal.claims.tier > 3"#, None),
        (r#"principal.claims.roles[2] == "x""#, None),
        (r#"principal.claims.level / 0 == 1"#, None),
        (r#"principal.claims.numbers.exists(n, n == 2 || n.size() == 1)"#, Some(true)),
        (r#"principal.claims.numbers.exists(n, n.size() == 1)"#, None),
        (r#"principal.claims.roles.all(r, r == "x" || r.nothing == 1)"#, None),
    ] {
        assert_eq!(holds(text, Some(principal())), expected, "{text}");
    }
}

#[test]
fn the_budget_ends_what_a_caller_makes_long() {
    let list: Vec<Json> = (0..2000).map(Json::from).collect();
    let long = "x".repeat(64 << 10);
    let caller = || Some(Principal { claims: json!({ "list": list, "long": long }), ..principal() });
    for (text, expected) in [
        ("principal.claims.list.exists(n, n == 1999)", Some(true)),
        ("principal.claims.list.all(n, principal.claims.list.exists(m, m == n))", None),
        ("principal.claims.list.map(n, principal.claims.long + principal.claims.long).size() == 1", None),
        ("principal.claims.list.map(n, principal.claims.list).size() == 2000", Some(true)),
    ] {
        assert_eq!(holds(text, caller()), expected, "{text}");
    }
}

#[test]
fn mistakes_are_found_when_the_expression_is_read() {
    for (text, what) in [
        ("", "the expression is not CEL"),
        ("request.method ==", "the expression is not CEL"),
        ("request.metod == 'GET'", "unknown variable `request.metod` (did you mean `request.method`?)"),
        ("principle.subject == ''", "unknown variable `principle`"),
        ("request", "`request` is no value of its own"),
        ("request.headers == 1", "`request.headers` is no value of its own"),
        ("request.headers.all(h, true)", "`request.headers` is no value of its own"),
        ("request.headers['a b'] == ''", "`a b` is not a header field's name"),
        ("request.params.idd == ''", "unknown path parameter `idd` (did you mean `id`?)"),
        ("request.path.startWith('/a')", "unknown function `startWith` (did you mean `startsWith`?)"),
        ("request.path.startsWith(7)", "what `startsWith` is given must be a string, and this is an int"),
        ("request.path.startsWith()", "`startsWith` takes 1 arguments"),
        ("request.path", "the value of the expression is a string"),
        ("1 + 1", "the value of the expression is an int"),
        ("request.method == 7", "a string is never equal to an int"),
        ("request.method > 7", "a string and an int have no order"),
        ("request.method && true", "each side of `&&` and `||` must be a bool"),
        ("request.method in 'GET'", "a string is never in a string"),
        ("7 in principal.groups", "an int is never in a list"),
        ("request.method.name == ''", "`.name` is asked of a string"),
        ("request.method + 1 == ''", "`+` between a string and an int"),
        ("request.path.matches('(')", "`(` is not a regular expression: unclosed group"),
        ("request.path.matches(request.method)", "what `matches` is given must be written out"),
        ("request.path.matches('(a{1000}){1000}')", "is not a regular expression"),
        ("client.ip.inNetwork('10.0.0.1/8')", "`10.0.0.1/8`"),
        ("principal.groups.exists(1, true)", "the first argument of `exists` is the name of a variable"),
        ("principal.groups.exists(g)", "`exists` needs a variable"),
        ("request.path.exists(c, true)", "`exists` walks through a list, and this is a string"),
        ("{'a': true}['a']", "a map cannot be written here"),
        ("b'a' == b'a'", "bytes have no use here"),
        ("has(request)", "`has` asks for a field"),
        ("principal.?claims == null", "the expression is not CEL"),
        ("principal.groups.exists(g, g == h)", "unknown variable `h`"),
    ] {
        let problem = compile(text).expect_err(text).to_string();
        assert!(problem.contains(what), "{text}: {problem}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let long = format!("request.method == '{}'", "x".repeat(MAX_LENGTH));
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let many = vec!["true"; 400].join(" && ");
    for text in [long, deep, many] {
        assert!(compile(&text).is_err(), "{} bytes", text.len());
    }
}

/// Claims as the crate's values: a whole number is an int where it fits.
fn owned(value: &Json) -> cel::Value {
    match value {
        Json::Number(number) if number.is_i64() => number.as_i64().unwrap().into(),
        Json::Array(list) => list.iter().map(owned).collect::<Vec<_>>().into(),
        Json::Object(map) => {
            map.iter().map(|(key, value)| (key.clone(), owned(value))).collect::<HashMap<_, _>>().into()
        }
        other => cel::to_value(other).unwrap(),
    }
}

/// What the same request is to the interpreter of the crate.
fn reference(text: &str) -> Option<bool> {
    let program = cel::Env::stdlib().compile(text).ok()?;
    let mut context = cel::Context::default();
    let principal = principal();
    let consumer = principal.consumer.as_ref().unwrap();
    let variables = [
        ("request", json!({ "method": "GET", "path": "/orders/a%20b", "headers": { "x-tier": "gold" } })),
        (
            "principal",
            json!({ "claims": claims(), "groups": consumer.groups, "scopes": principal.scopes, "subject": "u-17" }),
        ),
    ];
    for (name, value) in variables {
        context.add_variable(name, owned(&value)).unwrap();
    }
    match program.execute(&context) {
        Ok(cel::Value::Bool(truth)) => Some(truth),
        _ => None,
    }
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "'GET'",
        "'admin'",
        "'staff'",
        "''",
        "'é'",
        "request.method",
        "request.path",
        "principal.subject",
        "principal.claims.tier",
        "request.headers['x-tier']",
        "string(7)",
        "principal.groups[0]",
        "principal.claims.nothing",
        "principal.claims.roles[1]",
        "'a' + request.method",
    ])
    .prop_map(str::to_owned)
}

fn number() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "0",
        "1",
        "3",
        "-7",
        "9223372036854775807",
        "2u",
        "18446744073709551615u",
        "0.5",
        "3.0",
        "1e300",
        "principal.claims.level",
        "principal.claims.ratio",
        "principal.claims.big",
        "principal.claims.org.id",
        "principal.claims.tier",
        "size(principal.groups)",
        "principal.claims.roles.size()",
        "size('é')",
        "int('12')",
        "int('x')",
        "int(2.9)",
        "double(3)",
        "principal.claims.none",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(2, 8, 2, |inner| {
        let sign = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            (inner.clone(), sign, inner.clone()).prop_map(|(one, sign, two)| format!("({one} {sign} {two})")),
            inner.prop_map(|one| format!("(-{one})")),
        ]
    })
}

fn list() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "[]",
        "[1, 2, 3]",
        "['admin', 'dev']",
        "['staff', 1]",
        "principal.groups",
        "principal.scopes",
        "principal.claims.roles",
        "principal.claims.numbers",
        "principal.claims.empty",
        "principal.claims.level",
        "[principal.claims.tier, request.method]",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} + {two})")),
            inner.clone().prop_map(|one| format!("{one}.filter(x, x != 'dev')")),
            inner.clone().prop_map(|one| format!("{one}.map(x, x + x)")),
            inner.prop_map(|one| format!("{one}.map(x, x == 2 || x == 'admin', [x])")),
        ]
    })
}

fn truth() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec![
            "true",
            "false",
            "principal.claims.flag",
            "principal.claims.tier",
            "has(principal.claims.tier)",
            "has(principal.claims.nothing)",
            "has(principal.claims.org.id)",
            "has(principal.claims.level.x)",
            "'x-tier' in request.headers",
            "'id' in principal.claims.org",
            "principal.claims.nothing",
        ])
        .prop_map(str::to_owned),
        (text(), prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]), text())
            .prop_map(|(one, sign, two)| format!("{one} {sign} {two}")),
        (number(), prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]), number())
            .prop_map(|(one, sign, two)| format!("{one} {sign} {two}")),
        (list(), prop::sample::select(vec!["==", "!="]), list())
            .prop_map(|(one, sign, two)| format!("{one} {sign} {two}")),
        (prop_oneof![text(), number()], list()).prop_map(|(one, many)| format!("{one} in {many}")),
        (text(), prop::sample::select(vec!["startsWith", "endsWith", "contains"]), text())
            .prop_map(|(one, how, two)| format!("{one}.{how}({two})")),
        (text(), prop::sample::select(vec!["^[a-z]+$", "G", ""]))
            .prop_map(|(one, how)| format!("{one}.matches('{how}')")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let turn = prop::sample::select(vec!["all", "exists", "exists_one"]);
        prop_oneof![
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} && {two})")),
            (inner.clone(), inner.clone()).prop_map(|(one, two)| format!("({one} || {two})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(one, two, three)| format!("({one} ? {two} : {three})")),
            (list(), turn.clone(), inner.clone())
                .prop_map(|(many, how, one)| format!("{many}.{how}(x, {one})")),
            (list(), turn, text())
                .prop_map(|(many, how, one)| format!("{many}.{how}(x, x == {one} || x > 1)")),
        ]
    })
}

proptest! {
    /// Whatever we take at all means the same as to the crate's interpreter, errors included.
    #[test]
    fn the_interpreter_of_the_crate_agrees(text in truth()) {
        if let Ok(condition) = compile(&text) {
            let (head, cx) = (head(), context(Some(principal())));
            let facts = Facts::new(&head, &cx);
            prop_assert_eq!(condition.holds(&facts).ok(), reference(&text), "{}", text);
        }
    }

    #[test]
    fn no_text_panics(text in "[ -~é]{0,60}") {
        if let Ok(condition) = compile(&text) {
            let (head, cx) = (head(), context(None));
            let _ = condition.holds(&Facts::new(&head, &cx));
        }
    }
}
