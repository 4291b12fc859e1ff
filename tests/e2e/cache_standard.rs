//! What the standards ask of a shared cache, over real sockets: a table of two requests each, and what takes more.
//! docs/cache-requirements.md names them by section.

use crate::harness::{Answer, Client, Gateway, Origin, Received, answer, wait_until};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What becomes of the second request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// It gets the first answer, and the origin is not asked.
    Hit,
    /// It gets what the origin says, which is asked for the whole.
    Miss,
    /// It gets the first answer, after the origin was asked by this field.
    Validated(&'static str),
    /// The gateway makes an answer of this status of the first one.
    Made(u16),
}
use Seen::{Hit, Made, Miss, Validated};

/// Section, fields of the first request, status and fields of the answer, fields of the second request.
type Case = (&'static str, &'static str, (&'static str, &'static str), &'static str, Seen);

const OK: &str = "200 OK";
const FRESH: (&str, &str) =
    (OK, "cache-control: max-age=60\r\netag: \"1\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");

/// Stale since a second, with these directives beside the lifetime.
macro_rules! stale {
    ($more:literal) => {
        (OK, concat!("cache-control: max-age=60", $more, "\r\nage: 61\r\netag: \"1\"\r\n"))
    };
}

const CASES: &[Case] = &[
    ("RFC 9111 3 fresh", "", FRESH, "", Hit),
    ("RFC 9111 3 no-store", "", (OK, "cache-control: no-store, max-age=60\r\n"), "", Miss),
    ("RFC 9111 3 private", "", (OK, "cache-control: private, max-age=60\r\n"), "", Miss),
    (
        "RFC 9111 3 a final status that is not understood",
        "",
        ("299 Odd", "cache-control: max-age=60\r\n"),
        "",
        Miss,
    ),
    (
        "RFC 9111 3 a status that is cacheable where it says so",
        "",
        ("302 Found", "cache-control: max-age=60\r\nlocation: /\r\n"),
        "",
        Hit,
    ),
    ("RFC 9111 3 and not by itself", "", ("302 Found", "etag: \"1\"\r\nlocation: /\r\n"), "", Miss),
    (
        "RFC 9111 3.3 a part",
        "",
        ("206 Partial Content", "cache-control: max-age=60\r\ncontent-range: bytes 0-4/9\r\n"),
        "",
        Miss,
    ),
    ("RFC 9111 3.5 Authorization", "authorization: Basic eDp5\r\n", FRESH, "", Miss),
    (
        "RFC 9111 3.5 and public",
        "authorization: Basic eDp5\r\n",
        (OK, "cache-control: max-age=60, public\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9111 3.5 and s-maxage",
        "authorization: Basic eDp5\r\n",
        (OK, "cache-control: s-maxage=60\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9111 3.5 and must-revalidate",
        "authorization: Basic eDp5\r\n",
        (OK, "cache-control: max-age=60, must-revalidate\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9111 4.1 Vary, the same",
        "x-a: 1\r\n",
        (OK, "cache-control: max-age=60\r\nvary: x-a\r\n"),
        "x-a: 1\r\n",
        Hit,
    ),
    (
        "RFC 9111 4.1 Vary, another",
        "x-a: 1\r\n",
        (OK, "cache-control: max-age=60\r\nvary: x-a\r\n"),
        "x-a: 2\r\n",
        Miss,
    ),
    (
        "RFC 9111 4.1 Vary, one has it not",
        "x-a: 1\r\n",
        (OK, "cache-control: max-age=60\r\nvary: x-a\r\n"),
        "",
        Miss,
    ),
    ("RFC 9111 4.1 Vary: *", "", (OK, "cache-control: max-age=60\r\nvary: *\r\n"), "", Miss),
    ("RFC 9111 4.2.1 s-maxage goes first", "", (OK, "cache-control: max-age=0, s-maxage=60\r\n"), "", Hit),
    (
        "RFC 9111 4.2.1 s-maxage goes first, stale",
        "",
        (OK, "cache-control: max-age=60, s-maxage=0\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    ("RFC 9111 4.2.1 Expires", "", (OK, "expires: Sat, 06 Nov 2094 08:49:37 GMT\r\n"), "", Hit),
    (
        "RFC 9111 4.2.1 two lines, the first counts",
        "",
        (OK, "cache-control: max-age=60\r\ncache-control: max-age=0\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9111 4.2.1 no number is stale",
        "",
        (OK, "cache-control: max-age=soon\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    ("RFC 9111 4.2.2 heuristic", "", (OK, "last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "", Hit),
    (
        "RFC 9111 4.2.2 not beside what is explicit",
        "",
        (OK, "cache-control: max-age=0\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        "",
        Validated("if-modified-since"),
    ),
    (
        "RFC 9111 4.2.3 Age",
        "",
        (OK, "cache-control: max-age=60\r\nage: 60\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    (
        "RFC 9111 4.2.3 Date",
        "",
        (OK, "cache-control: max-age=60\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    ("RFC 9111 4.2.4 not stale without leave", "", stale!(""), "", Validated("if-none-match")),
    ("RFC 9111 4.2.4 stale with the client's", "", stale!(""), "cache-control: max-stale=600\r\n", Hit),
    (
        "RFC 9111 4.3.1 by Last-Modified",
        "",
        (OK, "cache-control: no-cache\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        "",
        Validated("if-modified-since"),
    ),
    ("RFC 9111 4.3.2 If-None-Match", "", FRESH, "if-none-match: \"0\", W/\"1\"\r\n", Made(304)),
    (
        "RFC 9111 4.3.2 another tag",
        "",
        FRESH,
        "if-none-match: \"2\"\r\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        Hit,
    ),
    (
        "RFC 9111 4.3.2 If-Modified-Since",
        "",
        FRESH,
        "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        Made(304),
    ),
    (
        "RFC 9111 5.1 the first of several ages",
        "",
        (OK, "cache-control: max-age=60\r\nage: 1, 99\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9111 5.2 names have no case, arguments may be quoted",
        "",
        (OK, "Cache-Control: Max-Age=\"60\"\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9111 5.2.1.1 max-age",
        "",
        (OK, "cache-control: max-age=60\r\nage: 10\r\netag: \"1\"\r\n"),
        "cache-control: max-age=9\r\n",
        Validated("if-none-match"),
    ),
    ("RFC 9111 5.2.1.3 min-fresh", "", FRESH, "cache-control: min-fresh=61\r\n", Validated("if-none-match")),
    ("RFC 9111 5.2.1.4 no-cache", "", FRESH, "cache-control: no-cache\r\n", Validated("if-none-match")),
    ("RFC 9111 5.2.1.5 no-store", "cache-control: no-store\r\n", FRESH, "", Miss),
    ("RFC 9111 5.2.1.7 only-if-cached, kept", "", FRESH, "cache-control: only-if-cached\r\n", Hit),
    (
        "RFC 9111 5.2.1.7 only-if-cached, stale",
        "",
        stale!(""),
        "cache-control: only-if-cached\r\n",
        Made(504),
    ),
    (
        "RFC 9111 5.2.2.2 must-revalidate",
        "",
        stale!(", must-revalidate"),
        "cache-control: max-stale\r\n",
        Validated("if-none-match"),
    ),
    (
        "RFC 9111 5.2.2.3 must-understand",
        "",
        (OK, "cache-control: max-age=60, must-understand, no-store\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9111 5.2.2.3 must-understand, not understood",
        "",
        ("299 Odd", "cache-control: max-age=60, must-understand\r\n"),
        "",
        Miss,
    ),
    (
        "RFC 9111 5.2.2.4 no-cache",
        "",
        (OK, "cache-control: max-age=60, no-cache\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    (
        "RFC 9111 5.2.2.8 proxy-revalidate",
        "",
        stale!(", proxy-revalidate"),
        "cache-control: max-stale\r\n",
        Validated("if-none-match"),
    ),
    (
        "RFC 9111 5.2.2.10 s-maxage",
        "",
        (OK, "cache-control: s-maxage=60\r\nage: 61\r\netag: \"1\"\r\n"),
        "cache-control: max-stale\r\n",
        Validated("if-none-match"),
    ),
    (
        "RFC 9111 5.2.3 unknown directives",
        "",
        (OK, "cache-control: max-age=60, frob=\"no-store\", blub\r\n"),
        "cache-control: frob\r\n",
        Hit,
    ),
    (
        "RFC 9111 5.3 an Expires that is no date",
        "",
        (OK, "expires: 0\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    ("RFC 9111 5.3 max-age before Expires", "", (OK, "expires: 0\r\ncache-control: max-age=60\r\n"), "", Hit),
    ("RFC 9111 5.4 Pragma", "", FRESH, "pragma: no-cache\r\n", Validated("if-none-match")),
    (
        "RFC 9111 5.4 Pragma beside Cache-Control",
        "",
        FRESH,
        "pragma: no-cache\r\ncache-control: max-age=60\r\n",
        Hit,
    ),
    ("RFC 9111 7.3 Set-Cookie", "", (OK, "cache-control: max-age=60\r\nset-cookie: a=b\r\n"), "", Miss),
    ("RFC 5861 3 within", "", stale!(", stale-while-revalidate=600"), "", Hit),
    (
        "RFC 5861 3 beyond",
        "",
        (OK, "cache-control: max-age=10, stale-while-revalidate=5\r\nage: 61\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    (
        "RFC 9213 2.2 CDN-Cache-Control goes first",
        "",
        (OK, "cache-control: no-store\r\ncdn-cache-control: max-age=60\r\n"),
        "",
        Hit,
    ),
    (
        "RFC 9213 2.2 in both directions",
        "",
        (OK, "cache-control: max-age=60\r\ncdn-cache-control: no-store\r\n"),
        "",
        Miss,
    ),
    (
        "RFC 9213 2.2 nor does Expires count",
        "",
        (OK, "expires: Sat, 06 Nov 2094 08:49:37 GMT\r\ncdn-cache-control: max-age=0\r\netag: \"1\"\r\n"),
        "",
        Validated("if-none-match"),
    ),
    (
        "RFC 9213 2.1 what is no dictionary",
        "",
        (OK, "cache-control: max-age=60\r\ncdn-cache-control: no-store,,=\r\n"),
        "",
        Hit,
    ),
    ("RFC 9110 13.1.1 If-Match", "", FRESH, "if-match: \"0\", \"1\"\r\n", Hit),
    ("RFC 9110 13.1.1 If-Match, another", "", FRESH, "if-match: \"0\"\r\n", Made(412)),
    (
        "RFC 9110 13.1.4 If-Unmodified-Since",
        "",
        FRESH,
        "if-unmodified-since: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
        Made(412),
    ),
    ("RFC 9110 13.1.5 If-Range", "", FRESH, "range: bytes=0-1\r\nif-range: \"1\"\r\n", Made(206)),
    ("RFC 9110 13.1.5 If-Range, another", "", FRESH, "range: bytes=0-1\r\nif-range: \"0\"\r\n", Hit),
    ("RFC 9110 13.1.5 If-Range without Range", "", FRESH, "if-range: \"0\"\r\n", Hit),
    ("RFC 9110 14.2 Range", "", FRESH, "range: bytes=-2\r\n", Made(206)),
    ("RFC 9110 14.2 a Range that is none", "", FRESH, "range: bytes=2-1\r\n", Hit),
    ("RFC 9110 15.5.17 beyond the end", "", FRESH, "range: bytes=5-\r\n", Made(416)),
];

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "admin: {{ address: '127.0.0.1:PORT_admin', token: secret }}\n\
         caches: {{ default: {{ memory: 8MiB }} }}\n\
         listeners: {{ web: {{ address: '127.0.0.1:PORT_web' }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ policies: {{ cache: {{ }} }}, to: origin }} }}\n",
        origin.address(),
    ))
}

/// Waits until what was fetched is kept, if it is to be.
fn settle(gateway: &Gateway) {
    let fetches = "tollgate_cache_fetches{cache=\"default\"}";
    wait_until("no fetch is under way", || gateway.metric(fetches) == 0.0);
}

fn is_conditional(request: &Received) -> bool {
    request.field("if-none-match").or(request.field("if-modified-since")).is_some()
}

#[test]
fn what_two_requests_get() {
    let asked: Arc<Vec<AtomicUsize>> = Arc::new(CASES.iter().map(|_| AtomicUsize::new(0)).collect());
    let counts = Arc::clone(&asked);
    let origin = Origin::start(move |request, stream| {
        let at: usize = request.target().trim_start_matches('/').parse().unwrap();
        let (_, _, (status, fields), _, _) = CASES[at];
        let bytes = match counts[at].fetch_add(1, Ordering::SeqCst) {
            0 => answer(status, fields, "first"),
            // One with a validator that is not the kept answer's would be about another one (RFC 9111 section 4.3.3).
            _ if request.field("if-none-match").is_some() => {
                b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n".to_vec()
            }
            _ if is_conditional(request) => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
            _ => answer(OK, fields, "second"),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    for (at, (section, first, (status, _), again, seen)) in CASES.iter().enumerate() {
        let target = format!("/{at}");
        let answer = client.get("a", &target, first);
        assert_eq!(
            (answer.status.to_string().as_str(), answer.text().as_str()),
            (&status[..3], "first"),
            "{section}"
        );
        settle(&gateway);
        let answer = client.get("a", &target, again);
        let requests: Vec<Received> =
            origin.received().into_iter().filter(|request| request.target() == target).collect();
        let asked = match requests.as_slice() {
            [_] => None,
            // Whoever is served meanwhile has asked as well, or will.
            [_, asked] if *seen != Hit => Some(asked),
            [_, _] => None,
            _ => panic!("{section}: {requests:?}"),
        };
        let was = match (answer.status, answer.text().as_str(), asked) {
            (_, "first", None) => Hit,
            (_, "first", Some(asked)) => {
                let by = ["if-none-match", "if-modified-since"]
                    .into_iter()
                    .find(|name| asked.field(name).is_some());
                Validated(by.unwrap_or("nothing"))
            }
            (_, "second", Some(asked)) => {
                assert!(!is_conditional(asked), "{section}");
                Miss
            }
            (status, _, None) => Made(status),
            other => panic!("{section}: {other:?}"),
        };
        assert_eq!(was, *seen, "{section}: {answer:?}");
    }
}

/// Two requests that do not end up in a table.
fn kept(fields: &'static str, body: &'static str) -> (Origin, Gateway) {
    let origin = Origin::start(move |request, stream| {
        let bytes = match request.line.split(' ').next() {
            Some("GET") => answer(OK, fields, body),
            _ => answer("500 Internal Server Error", "", ""),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    assert_eq!(Client::new(gateway.web()).get("a", "/", "").status, 200);
    settle(&gateway);
    (origin, gateway)
}

fn has(answer: &Answer, names: &[&str]) -> Vec<bool> {
    names.iter().map(|name| answer.field(name).is_some()).collect()
}

/// RFC 9110 section 15.4.5: a 304 says what a 200 would have said of the answer, and nothing of the body.
#[test]
fn rfc9110_15_4_5_what_a_304_says() {
    const FIELDS: &str = "cache-control: max-age=60\r\ncontent-location: /x\r\netag: \"1\"\r\nvary: x-a\r\n\
                          expires: Sat, 06 Nov 2094 08:49:37 GMT\r\ncontent-type: text/plain\r\n\
                          content-language: en\r\n";
    let (_origin, gateway) = kept(FIELDS, "body");
    let answer = Client::new(gateway.web()).get("a", "/", "if-none-match: \"1\"\r\n");
    assert_eq!((answer.status, answer.body.len()), (304, 0));
    let told = ["cache-control", "content-location", "date", "etag", "expires", "vary"];
    assert_eq!(has(&answer, &told), [true; 6], "{answer:?}");
    let of_the_body = ["content-length", "content-type", "content-language", "content-encoding"];
    assert_eq!(has(&answer, &of_the_body), [false; 4], "{answer:?}");
}

/// RFC 9110 section 15.3.7: what comes of one part, of several, and of none.
#[test]
fn rfc9110_15_3_7_what_a_206_says() {
    const FIELDS: &str = "cache-control: max-age=60\r\ncontent-location: /x\r\netag: \"1\"\r\nvary: x-a\r\n\
                          expires: Sat, 06 Nov 2094 08:49:37 GMT\r\ncontent-type: text/plain\r\n";
    let (_origin, gateway) = kept(FIELDS, "0123456789");
    let mut client = Client::new(gateway.web());
    let told = ["cache-control", "content-location", "date", "etag", "expires", "vary"];
    let one = client.get("a", "/", "range: bytes=2-4\r\n");
    assert_eq!(
        (one.status, one.field("content-range"), one.text().as_str()),
        (206, Some("bytes 2-4/10"), "234")
    );
    assert_eq!((one.field("content-type"), one.field("content-length")), (Some("text/plain"), Some("3")));
    assert_eq!(has(&one, &told), [true; 6], "{one:?}");
    let several = client.get("a", "/", "range: bytes=0-1,-1\r\n");
    assert_eq!((several.status, several.field("content-range")), (206, None), "15.3.7.2");
    assert_eq!(has(&several, &told), [true; 6], "{several:?}");
    let kind = several.field("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, text: &str| {
        format!(
            "--{boundary}\r\ncontent-type: text/plain\r\ncontent-range: bytes {range}/10\r\n\r\n{text}\r\n"
        )
    };
    let body = several.text();
    assert_eq!(body.trim_start(), format!("{}{}--{boundary}--\r\n", part("0-1", "01"), part("9-9", "9")));
    let single = client.get("a", "/", "range: bytes=1-1, 77-\r\n");
    assert_eq!(
        (single.status, single.field("content-range")),
        (206, Some("bytes 1-1/10")),
        "15.3.7.2: one is left"
    );
    let none = client.get("a", "/", "range: bytes=10-\r\n");
    assert_eq!((none.status, none.field("content-range")), (416, Some("bytes */10")), "15.5.17");
    let mut head = client.send("HEAD / HTTP/1.1\r\nhost: a\r\nrange: bytes=0-0\r\n\r\n");
    head.fields.retain(|line| !line.starts_with("date"));
    assert_eq!((head.status, head.field("content-length")), (200, Some("10")), "14.2: a range is for GET");
}

/// RFC 9111 section 4: whatever is not safe goes through; section 4.4: if it fails, what is kept stays.
#[test]
fn rfc9111_4_unsafe_methods_are_written_through() {
    let (origin, gateway) = kept("cache-control: max-age=60\r\n", "body");
    let mut client = Client::new(gateway.web());
    for method in ["POST", "PUT", "DELETE", "PATCH", "FROB"] {
        let before = origin.received().len();
        let answer = client.send(format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx"));
        assert_eq!(answer.status, 500, "{method}");
        assert_eq!(origin.received().len(), before + 1, "{method}");
        assert_eq!(origin.last().body, b"x", "{method}");
        assert!(client.get("a", "/", "").field("age").is_some(), "{method}: it failed, what is kept stays");
        assert_eq!(origin.received().len(), before + 1, "{method}");
    }
}

/// RFC 9111 section 4.4: what an answer names of another origin stays.
#[test]
fn rfc9111_4_4_other_origins_are_not_invalidated() {
    let origin = Origin::start(|request, stream| {
        let bytes = match request.line.split(' ').next() {
            Some("GET") => answer(OK, "cache-control: max-age=60\r\n", "body"),
            _ => answer(OK, "location: http://b/x\r\ncontent-location: //b/y\r\n", ""),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    for target in ["/x", "/y"] {
        client.get("b", target, "");
    }
    settle(&gateway);
    assert_eq!(client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").status, 200);
    let before = origin.received().len();
    for target in ["/x", "/y"] {
        assert!(client.get("b", target, "").field("age").is_some(), "{target}");
    }
    assert_eq!(origin.received().len(), before);
}

/// RFC 9111 section 5.2: directives go through in both directions, also those that nobody knows; section 3.1: so do
/// unknown fields, from what is kept too; section 4: with the age that it has, in place of what came.
#[test]
fn rfc9111_5_2_directives_go_through() {
    const FIELDS: &str =
        "cache-control: max-age=60, frob=\"a, b\", no-transform\r\nage: 7\r\nx-odd: 1\r\nx-odd: 2\r\n";
    let (origin, gateway) = kept(FIELDS, "body");
    let mut client = Client::new(gateway.web());
    let answer = client.get("a", "/", "");
    assert_eq!(answer.fields("cache-control"), ["max-age=60, frob=\"a, b\", no-transform"]);
    assert_eq!(answer.fields("x-odd"), ["1", "2"]);
    let age: Vec<u64> = answer.fields("age").iter().map(|age| age.parse().unwrap()).collect();
    assert!(matches!(age.as_slice(), [7..=60]), "{age:?}");
    client.get("a", "/other", "cache-control: max-stale=3, frob\r\n");
    assert_eq!(origin.last().fields("cache-control"), ["max-stale=3, frob"]);
}

/// RFC 9111 section 4: of several that would do, the latest.
#[test]
fn rfc9111_4_the_most_recent_one_is_used() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        // Without the field by which it varies, the answer is for all that have it.
        let vary = if request.field("x-a").is_some() { "vary: x-a\r\n" } else { "" };
        let bytes = answer(OK, &format!("cache-control: max-age=60\r\n{vary}"), &format!("answer {number}"));
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    assert_eq!(client.get("a", "/", "x-a: 1\r\n").text(), "answer 1");
    settle(&gateway);
    assert_eq!(client.get("a", "/", "").text(), "answer 2");
    settle(&gateway);
    assert_eq!(client.get("a", "/", "x-a: 1\r\n").text(), "answer 2", "both are for it");
}

/// RFC 9111 section 4.3.3: a whole answer to a question whether the old one is good takes its place, and so does not
/// an error, for which the old one stands in by leave; section 5.2.2.2: never against must-revalidate.
#[test]
fn rfc9111_4_3_3_what_comes_of_a_validation() {
    let origin = Origin::start(|request, stream| {
        let lifetime = match request.target() {
            "/strict" => "max-age=0, must-revalidate, stale-if-error=600",
            "/lenient" => "max-age=0, stale-if-error=600",
            _ => "max-age=0",
        };
        let fields = format!("cache-control: {lifetime}\r\netag: \"1\"\r\n");
        let bytes = match (request.field("if-none-match"), request.target()) {
            (None, _) => answer(OK, &fields, "old"),
            (Some(_), "/new") => answer(OK, "cache-control: max-age=60\r\netag: \"2\"\r\n", "new"),
            (Some(_), _) => answer("503 Service Unavailable", "", "broken"),
        };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = gateway(&origin);
    let mut client = Client::new(gateway.web());
    for (target, expected) in [
        ("/new", (200, "new")),
        ("/strict", (503, "broken")),
        ("/lenient", (200, "old")),
        ("/plain", (503, "broken")),
    ] {
        assert_eq!(client.get("a", target, "").text(), "old");
        settle(&gateway);
        let answer = client.get("a", target, "");
        assert_eq!((answer.status, answer.text().as_str()), expected, "{target}");
        settle(&gateway);
    }
    let before = origin.received().len();
    assert_eq!(client.get("a", "/new", "").text(), "new");
    assert_eq!(origin.received().len(), before, "the new one is kept");
}

/// RFC 9110 section 6.6.1: an answer without a date gets the one when it came; RFC 9211 section 2: what the gateway
/// says by itself tells nothing of a cache, and what others said of theirs stays, before ours.
#[test]
fn rfc9211_2_who_says_what() {
    let (_origin, gateway) = kept("cache-control: max-age=60\r\ncache-status: \"edge one\"; hit\r\n", "body");
    let mut client = Client::new(gateway.web());
    let answer = client.get("a", "/", "");
    assert!(answer.field("date").is_some_and(|date| date.ends_with("GMT")), "{answer:?}");
    let all = answer.fields("cache-status");
    assert!(
        matches!(all.as_slice(), ["\"edge one\"; hit", ours] if ours.starts_with("tollgate; hit")),
        "{all:?}"
    );
    let own = client.get("a", "/nowhere", "cache-control: only-if-cached\r\n");
    assert_eq!((own.status, own.code().as_str(), own.field("cache-status")), (504, "not_cached", None));
}
