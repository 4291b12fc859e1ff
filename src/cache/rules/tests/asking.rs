use super::super::conditional::{Outcome, evaluate, range_applies};
use super::super::range::{Ranges, Span, parse};
use super::super::status::{Forward, Report};
use super::super::update;
use super::{DATE, head, secs};
use http::{Method, StatusCode};

const EARLIER: &str = "Sun, 06 Nov 1994 08:00:00 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:30:00 GMT";

#[test]
fn rfc9110_13_conditions() {
    let stored = head(&format!("{DATE}\netag: \"a\"\nlast-modified: {LATER}"));
    use Outcome::{Failed, NotModified, Proceed};
    for (section, request, expected) in [
        ("13.1.2 same tag", "if-none-match: \"a\"".to_owned(), NotModified),
        ("13.1.2 weakly the same", "if-none-match: W/\"a\"".to_owned(), NotModified),
        ("13.1.2 in a list", "if-none-match: \"x,y\" , W/\"a\"".to_owned(), NotModified),
        ("13.1.2 on another line", "if-none-match: \"x\"\nif-none-match: \"a\"".to_owned(), NotModified),
        ("13.1.2 any", "if-none-match: *".to_owned(), NotModified),
        ("13.1.2 another tag", "if-none-match: \"A\"".to_owned(), Proceed),
        ("13.1.2 no tag", "if-none-match: a".to_owned(), Proceed),
        ("13.1.2 no list", "if-none-match: \"a\" \"b\"".to_owned(), Proceed),
        ("13.1.3 not since", format!("if-modified-since: {LATER}"), NotModified),
        ("13.1.3 since", format!("if-modified-since: {EARLIER}"), Proceed),
        ("13.1.3 no date", "if-modified-since: yesterday".to_owned(), Proceed),
        ("13.1.3 twice", format!("if-modified-since: {LATER}\nif-modified-since: {LATER}"), Proceed),
        ("13.2.2 the tag goes first", format!("if-none-match: \"b\"\nif-modified-since: {LATER}"), Proceed),
        ("13.1.1 same tag", "if-match: \"a\"".to_owned(), Proceed),
        ("13.1.1 only strongly", "if-match: W/\"a\"".to_owned(), Failed),
        ("13.1.1 another tag", "if-match: \"b\"".to_owned(), Failed),
        ("13.1.1 any", "if-match: *".to_owned(), Proceed),
        ("13.1.4 unmodified", format!("if-unmodified-since: {LATER}"), Proceed),
        ("13.1.4 modified", format!("if-unmodified-since: {EARLIER}"), Failed),
        ("13.2.2 If-Match goes first", format!("if-match: \"a\"\nif-unmodified-since: {EARLIER}"), Proceed),
        ("13.2.2 then If-None-Match", "if-match: \"a\"\nif-none-match: \"a\"".to_owned(), NotModified),
    ] {
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(evaluate(&method, &head(&request), &stored), expected, "RFC 9110 {section}");
        }
        assert_eq!(evaluate(&Method::PUT, &head(&request), &stored), Proceed, "not for PUT: {section}");
    }
    let untagged = head(DATE);
    let since = head("if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(
        evaluate(&Method::GET, &since, &untagged),
        NotModified,
        "RFC 9111 4.3.2: Date instead of Last-Modified"
    );
    assert_eq!(evaluate(&Method::GET, &head("if-match: \"a\""), &untagged), Failed, "RFC 9110 13.1.1");
}

#[test]
fn rfc9110_13_1_5_if_range() {
    let stored = head(&format!("{DATE}\netag: \"a\"\nlast-modified: {LATER}"));
    for (request, applies) in [
        (String::new(), true),
        ("if-range: \"a\"".to_owned(), true),
        ("if-range: W/\"a\"".to_owned(), false),
        ("if-range: \"b\"".to_owned(), false),
        (format!("if-range: {LATER}"), true),
        (format!("if-range: {EARLIER}"), false),
        ("if-range: Sun, 06 Nov 1994 09:30:00 GMT".to_owned(), false),
        ("if-range: rubbish".to_owned(), false),
    ] {
        assert_eq!(range_applies(&head(&request), &stored), applies, "RFC 9110 13.1.5: {request}");
    }
    let weak = head(&format!("{DATE}\netag: W/\"a\""));
    assert!(!range_applies(&head("if-range: W/\"a\""), &weak), "RFC 9110 13.1.5: never by a weak tag");
    let just_now = head("date: Sun, 06 Nov 1994 08:30:00 GMT\nlast-modified: Sun, 06 Nov 1994 08:30:00 GMT");
    assert!(!range_applies(&head(&format!("if-range: {LATER}")), &just_now), "RFC 9110 8.8.2.2");
}

#[test]
fn rfc9110_14_ranges() {
    let parts = |spans: &[(u64, u64)]| {
        Ranges::Parts(spans.iter().map(|(first, last)| Span { first: *first, last: *last }).collect())
    };
    for (section, range, expected) in [
        ("14.1.2 first to last", "bytes=0-4", parts(&[(0, 4)])),
        ("14.1.2 to the end", "bytes=7-", parts(&[(7, 9)])),
        ("14.1.2 beyond the end", "bytes=7-99", parts(&[(7, 9)])),
        ("14.1.2 the last ones", "bytes=-3", parts(&[(7, 9)])),
        ("14.1.2 more than there are", "bytes=-99", parts(&[(0, 9)])),
        ("14.1.2 several", "bytes=0-0 , 5-6,-1", parts(&[(0, 0), (5, 6), (9, 9)])),
        ("14.1.2 one of them is there", "bytes=50-60,1-1", parts(&[(1, 1)])),
        ("14.1.1 units have no case", "BYTES=1-1", parts(&[(1, 1)])),
        ("14.1.2 overflow", "bytes=0-99999999999999999999999", parts(&[(0, 9)])),
        ("15.5.17 nothing of it", "bytes=10-", Ranges::Unsatisfiable),
        ("15.5.17 the last none", "bytes=-0", Ranges::Unsatisfiable),
        ("14.2 another unit", "lines=1-2", Ranges::Whole),
        ("14.1.1 backwards", "bytes=5-4", Ranges::Whole),
        ("14.1.1 malformed", "bytes=a-b", Ranges::Whole),
        ("14.1.1 nothing", "bytes=", Ranges::Whole),
        ("14.1.1 signed", "bytes=+1-2", Ranges::Whole),
        ("17.15 overlapping", "bytes=0-5,3-9", Ranges::Whole),
        (
            "17.15 too many",
            "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,0-0,0-0,0-0,0-0,0-0,0-0,0-0",
            Ranges::Whole,
        ),
    ] {
        assert_eq!(parse(&head(&format!("range: {range}")), 10), expected, "RFC 9110 {section}");
    }
    assert_eq!(parse(&head("range: bytes=0-1\nrange: bytes=2-3"), 10), Ranges::Whole);
    assert_eq!(parse(&head("range: bytes=0-1"), 0), Ranges::Unsatisfiable);
    assert_eq!(parse(&head(""), 10), Ranges::Whole);
    assert_eq!(Span { first: 1, last: 3 }.content_range(10).unwrap(), "bytes 1-3/10");
}

#[test]
fn rfc9111_4_3_1_asking_about_what_is_kept() {
    let mut request =
        head("if-match: \"x\"\nif-none-match: \"x\"\nif-range: \"x\"\nrange: bytes=0-1\naccept: a");
    update::fetch_whole(&mut request);
    assert_eq!(request, head("accept: a"));
    update::ask_about(&mut request, &head(&format!("etag: W/\"a\"\nlast-modified: {LATER}")));
    assert_eq!(request, head(&format!("accept: a\nif-none-match: W/\"a\"\nif-modified-since: {LATER}")));
    let mut request = head("");
    update::ask_about(&mut request, &head("etag: not-a-tag\nlast-modified: nor a date"));
    assert_eq!(request, head(""), "what is no validator asks nothing");
    assert!(!update::has_validator(&head("etag: not-a-tag")));
}

#[test]
fn rfc9111_4_3_4_which_answer_a_304_is_about() {
    for (section, new, stored, is_about) in [
        ("the same strong tag", "etag: \"a\"", "etag: \"a\"", true),
        ("another one", "etag: \"b\"", "etag: \"a\"", false),
        ("a weak tag that matches", "etag: W/\"a\"", "etag: W/\"a\"", true),
        ("a tag where there was none", "etag: \"a\"", "last-modified: x", false),
        ("no validator", "", "etag: \"a\"", true),
        ("the same date", "last-modified: x", "last-modified: x", true),
        ("another date", "last-modified: y", "last-modified: x", false),
    ] {
        assert_eq!(update::is_about(&head(new), &head(stored)), is_about, "RFC 9111 4.3.4: {section}");
    }
}

#[test]
fn rfc9111_3_2_what_a_304_changes() {
    let mut stored = head(
        "etag: \"a\"\ncontent-type: text/plain\ncontent-length: 5\nx: 1\nx: 2\ny: 1\ncache-control: max-age=1",
    );
    update::merge(
        &mut stored,
        &head(
            "etag: W/\"a\"\ncontent-type: text/html\ncontent-length: 0\ncontent-encoding: gzip\nconnection: z\nz: 1\nx: 3\ncache-control: max-age=2\ncache-control: public",
        ),
    );
    let mut lines: Vec<String> =
        stored.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    let expected = [
        "cache-control: max-age=2",
        "cache-control: public",
        "content-length: 5",
        "content-type: text/plain",
        "etag: \"a\"",
        "x: 3",
        "y: 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn rfc9111_4_3_5_head_speaks_of_get() {
    let stored = head("etag: \"a\"\nlast-modified: x");
    for (new, agrees) in [
        ("etag: \"a\"\ncontent-length: 5", true),
        ("", true),
        ("etag: \"b\"", false),
        ("content-length: 6", false),
        ("last-modified: y", false),
    ] {
        assert_eq!(update::head_agrees(&head(new), &stored, 5), agrees, "RFC 9111 4.3.5: {new}");
    }
}

#[test]
fn rfc9111_4_4_what_invalidates() {
    for (method, status, expected) in [
        ("POST", 200, true),
        ("PUT", 204, true),
        ("DELETE", 303, true),
        ("PATCH", 200, true),
        ("FROB", 200, true),
        ("POST", 404, false),
        ("POST", 500, false),
        ("GET", 200, false),
        ("HEAD", 200, false),
        ("OPTIONS", 200, false),
    ] {
        let method: Method = method.parse().unwrap();
        assert_eq!(
            update::invalidates(&method, StatusCode::from_u16(status).unwrap()),
            expected,
            "RFC 9111 4.4: {method} {status}"
        );
    }
}

#[test]
fn rfc9211_cache_status() {
    for (expected, report) in [
        ("tollgate; hit; ttl=30", Report { hit: true, ttl: Some(Ok(secs(30))), ..Report::default() }),
        ("tollgate; hit; ttl=-4", Report { hit: true, ttl: Some(Err(secs(4))), ..Report::default() }),
        (
            "tollgate; fwd=uri-miss; stored; collapsed; ttl=60",
            Report {
                forward: Some(Forward::UriMiss),
                stored: Some(true),
                collapsed: true,
                ttl: Some(Ok(secs(60))),
                ..Report::default()
            },
        ),
        (
            "tollgate; fwd=stale; fwd-status=304; stored",
            Report {
                forward: Some(Forward::Stale),
                forward_status: Some(304),
                stored: Some(true),
                ..Report::default()
            },
        ),
        (
            "tollgate; fwd=uri-miss; stored=?0; detail=no-store",
            Report {
                forward: Some(Forward::UriMiss),
                stored: Some(false),
                detail: Some("no-store"),
                ..Report::default()
            },
        ),
        ("tollgate; fwd=bypass", Report { forward: Some(Forward::Bypass), ..Report::default() }),
    ] {
        assert_eq!(report.value().unwrap(), expected);
    }
}
