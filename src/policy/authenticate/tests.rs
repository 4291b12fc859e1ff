use super::*;
use crate::identity::{Identity, RolesConfig, Sources, config::ConsumersConfig, config::IdentityConfig};
use crate::outbound::Outbound;
use crate::outbound::redis::Stores;
use crate::retained::Retained;
use crate::telemetry::metrics::{Metrics, MetricsSettings};
use std::collections::BTreeMap;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "another key of another consumer!";

/// Two consumers with a key each.
fn identity() -> Arc<Identity> {
    let json = format!(
        r#"{{"acme":{{"credentials":[{{"api_key":{{"key":"{KEY}"}}}}]}},
            "other":{{"credentials":[{{"api_key":{{"key":"{OTHER}"}}}}]}}}}"#
    );
    let consumers: ConsumersConfig = serde_json::from_str(&json).unwrap();
    let (identity, plans) = (IdentityConfig::default(), BTreeMap::new());
    let sources = Sources {
        identity: &identity,
        consumers: &consumers,
        plans: &plans,
        roles: &RolesConfig::new(),
        stores: &Stores::default(),
    };
    let metrics = Metrics::new(&MetricsSettings::default(), 1);
    let (identity, found) =
        Identity::compile(sources, (&Retained::default(), &Outbound::default()), &metrics);
    assert!(found.is_empty(), "{found:?}");
    Arc::new(identity)
}

fn compile(json: &str) -> Result<Authenticate, Vec<Finding>> {
    let env = CompileEnv { identity: identity(), ..CompileEnv::default() };
    Authenticate::compile(&serde_json::from_str(json).unwrap(), &env)
}

fn head(target: &str, fields: &[(&str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
    for (name, value) in fields {
        head.append_header((*name).to_owned(), (*value).to_owned()).unwrap();
    }
    head
}

/// Who was let in, or why not.
fn outcome(policy: &Authenticate, head: &RequestHeader) -> Result<Option<String>, &'static str> {
    let mut cx = PolicyContext::new();
    let passed = match policy.on_request(head, &mut cx) {
        Step::Continue => true,
        Step::Reject(rejection) => {
            assert_eq!((rejection.status.as_u16(), rejection.code), (401, UNAUTHENTICATED));
            assert!(rejection.headers.iter().any(|(name, _)| name == WWW_AUTHENTICATE));
            false
        }
        Step::Answer(_) | Step::Wait(_) => panic!("an API key neither answers nor waits"),
    };
    match passed {
        true => Ok(cx.principal.map(|principal| principal.subject.to_string())),
        false => {
            assert!(cx.principal.is_none());
            Err(cx.auth_cause.unwrap())
        }
    }
}

#[test]
fn where_a_key_may_be() {
    let policy =
        compile(r#"{"any_of":[{"api_key":{"header":"x-api-key","query":"key","cookie":"session"}}]}"#)
            .unwrap();
    let (cookie, in_query) = (format!("a=b; session={KEY}"), format!("/a?x=1&key={KEY}"));
    let escaped = format!("/a?%6bey={}", KEY.replace('0', "%30"));
    let long = "x".repeat(5000);
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Result<&'a str, &'a str>);
    let table: &[Case<'_>] = &[
        ("/a", &[("x-api-key", KEY)], Ok("acme")),
        ("/a", &[("x-api-key", OTHER)], Ok("other")),
        (&in_query, &[], Ok("acme")),
        (&escaped, &[], Ok("acme")),
        ("/a", &[("cookie", &cookie)], Ok("acme")),
        ("/a?key", &[], Err("malformed")),
        ("/a", &[], Err("missing")),
        ("/a?keys=x", &[("x-api-keys", KEY), ("cookie", "sessions=x")], Err("missing")),
        ("/a", &[("x-api-key", "")], Err("malformed")),
        ("/a", &[("x-api-key", &long)], Err("malformed")),
        ("/a", &[("x-api-key", "0123456789abcdef0123456789abcdeF")], Err("unknown_key")),
        ("/a", &[("x-api-key", &KEY[1..])], Err("unknown_key")),
        // The same key twice is as ambiguous as two.
        ("/a", &[("x-api-key", KEY), ("x-api-key", KEY)], Err("ambiguous")),
        ("/a", &[("x-api-key", KEY), ("x-api-key", "junk")], Err("ambiguous")),
        (&in_query, &[("x-api-key", KEY)], Err("ambiguous")),
        (&format!("{in_query}&key=x"), &[], Err("ambiguous")),
        ("/a", &[("cookie", &cookie), ("cookie", "session=x")], Err("ambiguous")),
    ];
    for (target, fields, expected) in table {
        let expected = expected.map(|name| Some(name.to_owned()));
        assert_eq!(outcome(&policy, &head(target, fields)), expected, "{target} {fields:?}");
    }
}

#[test]
fn an_optional_caller_may_be_nobody_but_not_somebody_false() {
    let policy = compile(r#"{"any_of":[{"api_key":{"header":"x-api-key"}}],"optional":true}"#).unwrap();
    assert_eq!(outcome(&policy, &head("/", &[])), Ok(None));
    assert_eq!(outcome(&policy, &head("/", &[("x-api-key", KEY)])), Ok(Some("acme".to_owned())));
    assert_eq!(outcome(&policy, &head("/", &[("x-api-key", "junk")])), Err("unknown_key"));
}

#[test]
fn the_first_that_is_presented_decides() {
    let policy =
        compile(r#"{"any_of":[{"api_key":{"header":"x-first"}},{"api_key":{"header":"x-second"}}]}"#)
            .unwrap();
    let both = |first, second| outcome(&policy, &head("/", &[("x-second", second), ("x-first", first)]));
    assert_eq!(both(KEY, OTHER), Ok(Some("acme".to_owned())));
    assert_eq!(both("junk", OTHER), Err("unknown_key"));
    assert_eq!(outcome(&policy, &head("/", &[("x-second", OTHER)])), Ok(Some("other".to_owned())));
}

#[test]
fn two_policies_must_see_the_same_caller() {
    let (enforced, own) = (
        compile(r#"{"any_of":[{"api_key":{"header":"x-outer"}}]}"#).unwrap(),
        compile(r#"{"any_of":[{"api_key":{"header":"x-inner"}}],"optional":true}"#).unwrap(),
    );
    let decide = |fields: &[(&str, &str)]| {
        let (head, mut cx) = (head("/", fields), PolicyContext::new());
        for policy in [&enforced, &own] {
            if !matches!(policy.on_request(&head, &mut cx), Step::Continue) {
                return Err(cx.auth_cause.unwrap());
            }
        }
        Ok(cx.principal.unwrap().subject.to_string())
    };
    assert_eq!(decide(&[("x-outer", KEY), ("x-inner", KEY)]), Ok("acme".to_owned()));
    assert_eq!(decide(&[("x-outer", KEY), ("x-inner", OTHER)]), Err("callers_differ"));
    assert_eq!(decide(&[("x-outer", KEY)]), Ok("acme".to_owned()));
    assert_eq!(decide(&[("x-inner", KEY)]), Err("missing"));
}

#[test]
fn the_upstream_does_not_get_the_key_where_it_shall_not() {
    let policy = compile(
        r#"{"any_of":[{"api_key":{"header":"x-api-key","query":"key","cookie":"session","forward":false}},
                      {"api_key":{"header":"x-old","forward":true}}]}"#,
    )
    .unwrap();
    let edits = |target: &str, fields: &[(&str, &str)]| {
        let mut cx = PolicyContext::new();
        assert!(matches!(policy.on_request(&head(target, fields), &mut cx), Step::Continue));
        (cx.edits.query, cx.edits.headers)
    };
    let name = http::HeaderName::from_static("x-api-key");
    assert_eq!(edits("/", &[("x-api-key", KEY), ("x-old", KEY)]), (None, vec![HeaderEdit::Remove(name)]));
    assert_eq!(edits(&format!("/?a=%20&key={KEY}&b"), &[]), (Some("a=%20&b".to_owned()), vec![]));
    assert_eq!(edits(&format!("/?%6Bey={KEY}"), &[]), (Some(String::new()), vec![]));
    let cookie = format!("session={KEY}");
    assert_eq!(
        edits("/?a", &[("cookie", &cookie)]),
        (None, vec![HeaderEdit::RemoveCookie("session".into())])
    );
}

#[test]
fn mistakes() {
    let table = [
        (r#"{"any_of":[]}"#, "any_of: there is no way to prove who calls: nobody would be let in"),
        (r#"{"any_of":[{"api_key":{}}]}"#, "any_of[0].api_key: it says nowhere where the key is"),
        (
            r#"{"any_of":[{"api_key":{"query":"a"}},{"api_key":{"header":"a b"}}]}"#,
            "any_of[1].api_key.header: \"a b\" is not the name of a header",
        ),
        (r#"{"any_of":[{"api_key":{"query":""}}]}"#, "any_of[0].api_key.query: the parameter has no name"),
    ];
    for (json, expected) in table {
        let found = compile(json).unwrap_err();
        let told: Vec<_> =
            found.iter().map(|found| format!("{}: {}", found.path, found.problem.what)).collect();
        assert_eq!(told, [expected]);
    }
}
