use super::super::storing::{Asked, Refusal, storable};
use super::super::{directives::RequestDirectives, vary::Vary};
use super::{NOW, at_once, head, keep, keep_with, secs};
use crate::policy::cache::{SetCookie, Settings};
use http::{Method, StatusCode};

#[test]
fn rfc9111_3_what_may_be_kept() {
    let fresh = "cache-control: max-age=60";
    for (section, request, status, answer, expected) in [
        ("3 a fresh answer", "", 200, fresh, Ok(())),
        ("3 no-store", "", 200, "cache-control: max-age=60, no-store", Err(Refusal::NoStore)),
        ("3 private", "", 200, "cache-control: max-age=60, private", Err(Refusal::Private)),
        ("5.2.2.7 private fields", "", 200, "cache-control: max-age=60, private=\"x\"", Ok(())),
        (
            "5.2.2.3 must-understand, understood",
            "",
            200,
            "cache-control: max-age=60, must-understand, no-store",
            Ok(()),
        ),
        (
            "5.2.2.3 must-understand, not understood",
            "",
            299,
            "cache-control: max-age=60, must-understand, no-store",
            Err(Refusal::Status),
        ),
        ("3 a status that nobody understands", "", 299, fresh, Err(Refusal::Status)),
        ("3 a status with a lifetime of its own", "", 302, fresh, Ok(())),
        ("3 a status without", "", 302, "etag: \"a\"", Err(Refusal::Status)),
        ("3 public is enough", "", 302, "cache-control: public\netag: \"a\"", Ok(())),
        ("3 cacheable by itself, with a validator", "", 200, "etag: \"a\"", Ok(())),
        ("4 of use to nobody", "", 200, "", Err(Refusal::NotFresh)),
        (
            "4 stale at once, with a validator",
            "",
            200,
            "cache-control: max-age=0\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT",
            Ok(()),
        ),
        (
            "3.3 a part",
            "",
            206,
            "cache-control: max-age=60\ncontent-range: bytes 0-1/2",
            Err(Refusal::Partial),
        ),
        (
            "3.3 a part in disguise",
            "",
            200,
            "cache-control: max-age=60\ncontent-range: bytes 0-1/2",
            Err(Refusal::Partial),
        ),
        ("3 304 is no answer to keep", "", 304, fresh, Err(Refusal::Status)),
        ("3.5 Authorization", "authorization: x", 200, fresh, Err(Refusal::Authorization)),
        ("3.5 public", "authorization: x", 200, "cache-control: max-age=60, public", Ok(())),
        ("3.5 s-maxage", "authorization: x", 200, "cache-control: s-maxage=60", Ok(())),
        (
            "3.5 must-revalidate",
            "authorization: x",
            200,
            "cache-control: max-age=60, must-revalidate",
            Ok(()),
        ),
        (
            "5.2.1.5 no-store of the client",
            "cache-control: no-store",
            200,
            fresh,
            Err(Refusal::RequestNoStore),
        ),
        ("7.3 Set-Cookie", "", 200, "cache-control: max-age=60\nset-cookie: a=b", Err(Refusal::SetCookie)),
        (
            "7.3 Set-Cookie that is kept out",
            "",
            200,
            "cache-control: max-age=60, no-cache=\"set-cookie\"\nset-cookie: a=b",
            Ok(()),
        ),
        ("4.1 Vary: *", "", 200, "cache-control: max-age=60\nvary: a, *", Err(Refusal::Vary)),
        ("4.1 a Vary that is none", "", 200, "cache-control: max-age=60\nvary: a b", Err(Refusal::Vary)),
        (
            "larger than allowed",
            "",
            200,
            "cache-control: max-age=60\ncontent-length: 99999999",
            Err(Refusal::TooLarge),
        ),
        ("brought about by a request", "", 414, "etag: \"a\"", Err(Refusal::Status)),
        ("400 without a lifetime", "", 400, "etag: \"a\"", Err(Refusal::Status)),
        ("404 is kept by itself", "", 404, "etag: \"a\"", Ok(())),
    ] {
        let kept = keep_with(request, status, answer, &Settings::default()).map(drop);
        assert_eq!(kept, expected, "RFC 9111 {section}");
    }
}

#[test]
fn rfc9111_3_only_answers_to_get() {
    let directives = RequestDirectives::default();
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
        let asked = Asked { method: &method, directives: &directives, is_personal: false };
        let kept = storable(
            asked,
            (StatusCode::OK, &head("cache-control: max-age=9")),
            at_once(),
            &Settings::default(),
        );
        assert_eq!(kept.map(drop), Err(Refusal::Method), "{method}");
    }
}

#[test]
fn rfc9111_3_1_fields_that_are_not_kept() {
    let kept = keep(
        "cache-control: max-age=60, no-cache=\"x-once\", private=\"x-mine, x-too\"
         connection: x-hop, close
         x-hop: 1
         keep-alive: timeout=5
         proxy-authenticate: Basic
         proxy-authentication-info: x
         proxy-connection: close
         te: trailers
         trailer: x
         transfer-encoding: chunked
         upgrade: h2c
         x-once: 1
         x-mine: 1
         x-too: 1
         x-kept: 1
         content-type: text/plain",
    );
    let names: Vec<String> = kept.unwrap().headers.keys().map(ToString::to_string).collect();
    let mut names = names;
    names.sort();
    assert_eq!(names, ["cache-control", "content-type", "date", "x-kept"]);
}

#[test]
fn rfc9110_6_6_1_a_date_is_added_or_repaired() {
    for answer in ["cache-control: max-age=60", "cache-control: max-age=60\ndate: yesterday"] {
        let kept = keep(answer).unwrap();
        assert_eq!(kept.headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(kept.terms.age(NOW + secs(1)), secs(1));
    }
}

#[test]
fn what_a_route_may_say() {
    let strip = Settings { set_cookie: SetCookie::Strip, ..Settings::default() };
    let kept = keep_with("", 200, "cache-control: max-age=60\nset-cookie: a=b", &strip).unwrap();
    assert!(!kept.headers.contains_key("set-cookie"));
    let mine = Settings { by_caller: true, ..Settings::default() };
    assert!(keep_with("authorization: x", 200, "cache-control: max-age=60", &mine).is_ok());
    assert_eq!(
        keep_with("authorization: x", 200, "cache-control: max-age=60, private", &mine),
        Err(Refusal::Private),
        "it is a shared cache all the same"
    );
    let deaf = Settings { obeys_requests: false, ..Settings::default() };
    assert!(keep_with("cache-control: no-store", 200, "cache-control: max-age=60", &deaf).is_ok());
    let negative = Settings { ttl: Box::new([(5, secs(1))]), ..Settings::default() };
    assert_eq!(keep_with("", 503, "", &negative).unwrap().terms.lifetime, secs(1));
    assert_eq!(keep_with("", 503, "", &Settings::default()), Err(Refusal::Status));
}

#[test]
fn a_head_has_a_bound() {
    let long = "v".repeat(33 << 10);
    assert_eq!(keep(&format!("cache-control: max-age=60\nx: {long}")), Err(Refusal::HeadTooLarge));
}

#[test]
fn rfc9111_4_1_vary() {
    let vary = Vary::of(&head("vary: Accept-Encoding, x\nvary: X, accept-encoding")).unwrap();
    assert_eq!(vary.names().len(), 2);
    assert_eq!(
        Vary::of(&head(&format!("vary: {}", (0..17).map(|n| format!("x-{n},")).collect::<String>()))),
        None
    );
    for (same, one, other) in [
        (true, "accept-encoding: gzip, br", "accept-encoding: br ,  gzip;q=1.0"),
        (true, "accept-encoding: gzip\naccept-encoding: br", "accept-encoding: gzip,br"),
        (true, "accept-encoding: GZIP", "accept-encoding: gzip"),
        (false, "accept-encoding: gzip", "accept-encoding: gzip;q=0"),
        (false, "accept-encoding: gzip", ""),
        (false, "accept-encoding:", ""),
        (true, "x: a  ", "x: a"),
        (false, "x: A", "x: a"),
        (false, "x: a, b", "x: b, a"),
        (true, "y: 1\nx: a", "y: 2\nx: a"),
        (false, "x: a", "accept-encoding: a"),
    ] {
        let (a, b) = (vary.of_request(&head(one)), vary.of_request(&head(other)));
        assert_eq!(a == b, same, "RFC 9111 4.1: {one:?} and {other:?}");
    }
}
