use super::super::key::{Key, Parts, query, url};
use super::head;
use crate::policy::cache::{Query, Settings};
use http::HeaderMap;

fn key(change: impl FnOnce(&mut Parts<'_>), settings: &Settings) -> Key {
    let empty = HeaderMap::new();
    let mut parts = Parts {
        scheme: "https",
        authority: "a.example",
        path: "/x",
        query: Some("b=2&a=1"),
        headers: &empty,
        realm: ["default", "route"],
        caller: None,
    };
    change(&mut parts);
    Key::new(&parts, std::iter::empty(), settings)
}

#[test]
fn rfc9111_2_whatever_differs_has_another_key() {
    let settings = Settings::default();
    let keys = [
        key(|_| {}, &settings),
        key(|parts| parts.scheme = "http", &settings),
        key(|parts| parts.authority = "b.example", &settings),
        key(|parts| parts.authority = "a.example:8443", &settings),
        key(|parts| parts.path = "/X", &settings),
        key(|parts| parts.path = "/x/", &settings),
        key(|parts| parts.query = None, &settings),
        key(|parts| parts.query = Some(""), &settings),
        key(|parts| parts.query = Some("a=1&b=2"), &settings),
        key(|parts| parts.realm = ["other", "route"], &settings),
        key(|parts| parts.realm = ["default", "other"], &settings),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert!(keys.iter().skip(at + 1).all(|other| other != one), "{one:?}");
    }
}

#[test]
fn rfc9110_4_2_3_urls_that_are_the_same() {
    for (one, other) in [
        (url("https", "A.Example", "/", None), url("https", "a.example:443", "/", None)),
        (url("http", "a.example.", "/", None), url("http", "a.example:80", "/", None)),
        (url("http", "a.example.:81", "/", None), url("http", "a.example:81", "/", None)),
        (url("http", "[::1]:80", "/", None), url("http", "[::1]", "/", None)),
    ] {
        assert_eq!(one, other);
    }
    assert_ne!(url("http", "a.example:443", "/", None), url("http", "a.example", "/", None));
}

#[test]
fn what_of_the_query_counts() {
    let names = |names: &[&str]| names.iter().map(|name| Box::from(*name)).collect::<Box<[Box<str>]>>();
    for (rule, text, expected) in [
        (Query::All, Some("b=2&a=1"), Some("b=2&a=1")),
        (Query::Sorted, Some("b=2&a=1&a=0"), Some("a=1&a=0&b=2")),
        (Query::Keep(names(&["a"])), Some("b=2&a=1&A=3"), Some("a=1")),
        (Query::Keep(names(&["c"])), Some("b=2&a=1"), None),
        (Query::Drop(names(&["utm_source"])), Some("utm_source=x&b=2&a"), Some("a&b=2")),
        // Cloaking: another parser may see a second parameter, which is then not in the key; so it does not
        // go upstream either.
        (Query::Drop(names(&["utm_source"])), Some("utm_source=x;callback=evil&a=1"), Some("a=1")),
        (Query::Drop(names(&["utm_source"])), None, None),
    ] {
        assert_eq!(query(text, &rule).as_deref(), expected, "{rule:?}");
    }
}

#[test]
fn fields_cookies_callers_and_edits_are_told_apart() {
    let settings = Settings {
        vary_on: Box::new(["x-a".parse().unwrap()]),
        cookies: Box::new(["shop".into()]),
        by_caller: true,
        ..Settings::default()
    };
    let with = |fields: &str, caller: Option<&str>, edits: &[(&str, &[u8])]| {
        let headers = head(fields);
        let parts = Parts {
            scheme: "https",
            authority: "a",
            path: "/",
            query: None,
            headers: &headers,
            realm: ["t", "r"],
            caller,
        };
        Key::new(&parts, edits.iter().copied(), &settings)
    };
    let plain = with("", None, &[]);
    for other in [
        with("x-a: 1", None, &[]),
        with("x-a:", None, &[]),
        with("cookie: shop=de", None, &[]),
        with("", Some("alice"), &[]),
        with("", None, &[("x-consumer", b"alice")]),
        with("x-a: x\\0ashop=de", None, &[]),
    ] {
        assert_ne!(plain, other);
    }
    assert_eq!(with("cookie: a=b; shop=de", None, &[]), with("cookie: shop=de\ncookie: z=1", None, &[]));
    assert_eq!(with("cookie: session=1", None, &[]), plain, "other cookies do not count");
    assert_ne!(
        with("", None, &[("x", b"a\ny=b")]),
        with("", None, &[("x", b"a"), ("y", b"b")]),
        "no value can forge a line"
    );
    assert_eq!(plain.url(), "https://a/");
    assert_eq!(Key::from_text(plain.as_str()), Some(plain));
    assert_eq!(Key::from_text("https://a/"), None);
}
