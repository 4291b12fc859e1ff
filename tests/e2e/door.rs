//! What is refused at the door. Nothing of it may reach an upstream: two servers that read one
//! message differently are what request smuggling is made of.

use crate::harness::{Answer, Client, Gateway, Http2, Origin, wait_until};

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// 400 without a body, by Pingora's parser, and the connection ends.
    Parser,
    /// 400 by us, and the connection ends.
    Malformed,
    /// 400 by us for its path; the message itself was sound, so the connection stays.
    BadPath,
    /// It passes, with this target or, for a body, whole.
    Passes,
}
use Fate::{BadPath, Malformed, Parser, Passes};

fn start() -> (Origin, Gateway) {
    let origin = Origin::saying("in");
    let gateway = Gateway::start(&format!(
        "listeners: {{ web: {{ address: '127.0.0.1:PORT_web', h2c: true, limits: {{ body_time: 1s }} }} }}\n\
         upstreams: {{ origin: {{ endpoints: ['{}'] }} }}\n\
         routes: {{ all: {{ to: origin }} }}\n",
        origin.address()
    ));
    (origin, gateway)
}

fn fate(answer: &Answer) -> Option<Fate> {
    if answer.status == 200 {
        return Some(Passes);
    }
    match (answer.status, answer.code().as_str(), answer.closes()) {
        (400, "", true) => Some(Parser),
        (400, "malformed_request", true) => Some(Malformed),
        (400, "bad_path", false) => Some(BadPath),
        _ => None,
    }
}

/// Sends each request on a connection of its own. A request that is refused must not have reached
/// the origin, and the gateway closes the connection exactly if it said so.
fn check(cases: &[(&str, &[u8], Fate)]) {
    let (origin, gateway) = start();
    let mut wrong = Vec::new();
    for (what, request, expected) in cases {
        let before = origin.received().len();
        let mut client = Client::new(gateway.web());
        client.write(request);
        let answer = client.read(false);
        let passed = origin.received().len() > before;
        let right = fate(&answer) == Some(*expected) && passed == (*expected == Passes);
        if !right {
            wrong.push(format!(
                "{what}: passed={passed} {} {:?} {}",
                answer.status,
                answer.fields,
                answer.text()
            ));
        } else if answer.closes() && !client.is_closed() {
            wrong.push(format!("{what}: the connection stays open"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Requests that differ in their header lines.
fn check_heads(start: &str, cases: &[(&str, &[u8], Fate)]) {
    let requests: Vec<(String, Vec<u8>, Fate)> = cases
        .iter()
        .map(|(what, lines, fate)| {
            let mut request = start.as_bytes().to_vec();
            request.extend_from_slice(lines);
            request.extend_from_slice(b"\r\n");
            ((*what).to_owned(), request, *fate)
        })
        .collect();
    let requests: Vec<(&str, &[u8], Fate)> =
        requests.iter().map(|(what, request, fate)| (what.as_str(), &request[..], *fate)).collect();
    check(&requests);
}

/// RFC 9112 section 3.2.
#[test]
fn a_request_has_one_host_and_it_is_one() {
    check_heads(
        "GET / HTTP/1.1\r\n",
        &[
            ("one", b"Host: a.example\r\n", Passes),
            ("one with a port", b"Host: a.example:8080\r\n", Passes),
            ("an address", b"Host: [::1]:8080\r\n", Passes),
            ("none", b"", Malformed),
            ("two", b"Host: a.example\r\nHost: b.example\r\n", Parser),
            ("the same twice", b"Host: a.example\r\nHost: a.example\r\n", Parser),
            ("an empty one", b"Host: \r\n", Malformed),
            ("userinfo", b"Host: user@a.example\r\n", Parser),
            ("userinfo with a password", b"Host: user:pw@a.example\r\n", Parser),
            ("a space", b"Host: a b\r\n", Malformed),
            ("a path", b"Host: a.example/b\r\n", Malformed),
            ("a query", b"Host: a.example?b\r\n", Malformed),
            ("a fragment", b"Host: a.example#b\r\n", Malformed),
            ("a backslash", b"Host: a.example\\b\r\n", Malformed),
            ("two by a comma", b"Host: a.example, b.example\r\n", Malformed),
            ("no number as port", b"Host: a.example:x\r\n", Malformed),
            ("a large port", b"Host: a.example:65536\r\n", Malformed),
            ("two ports", b"Host: a.example:80:80\r\n", Malformed),
            ("half a bracket", b"Host: [::1\r\n", Malformed),
            ("bytes beyond ASCII", b"Host: \xc3\xa9.example\r\n", Malformed),
            ("bytes that are no text", b"Host: \xff\r\n", Malformed),
        ],
    );
    check(&[
        ("HTTP/1.0 needs none", b"GET / HTTP/1.0\r\n\r\n", Passes),
        ("HTTP/1.0 with an empty one", b"GET / HTTP/1.0\r\nHost:\r\n\r\n", Malformed),
        ("the target's", b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Passes),
        ("another than the target's", b"GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Parser),
        ("only the target's", b"GET http://a.example/ HTTP/1.1\r\n\r\n", Malformed),
        ("userinfo in the target", b"GET http://u@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", Parser),
    ]);
}

/// RFC 9110 section 8.6, RFC 9112 sections 6.1 to 6.3. Where they allow to mend, we refuse.
#[test]
fn a_body_has_one_length() {
    let start = "POST / HTTP/1.1\r\nHost: a\r\n";
    check_heads(
        start,
        &[
            ("with Transfer-Encoding", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Malformed),
            ("after Transfer-Encoding", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Malformed),
            ("two", b"Content-Length: 5\r\nContent-Length: 6\r\n", Parser),
            ("the same twice", b"Content-Length: 0\r\nContent-Length: 0\r\n", Malformed),
            ("the same by a comma", b"Content-Length: 0, 0\r\n", Malformed),
            ("two by a comma", b"Content-Length: 5, 6\r\n", Parser),
            ("a sign", b"Content-Length: +0\r\n", Parser),
            ("negative", b"Content-Length: -1\r\n", Parser),
            ("hexadecimal", b"Content-Length: 0x0\r\n", Parser),
            ("a fraction", b"Content-Length: 0.0\r\n", Parser),
            ("a space inside", b"Content-Length: 0 0\r\n", Parser),
            ("no number", b"Content-Length: five\r\n", Parser),
            ("too large for any integer", b"Content-Length: 99999999999999999999999\r\n", Parser),
            ("empty", b"Content-Length: \r\n", Parser),
            ("a space before the colon", b"Content-Length : 0\r\n", Parser),
            ("none", b"", Passes),
            ("zero", b"Content-Length: 0\r\n", Passes),
            ("zeros", b"Content-Length: 000\r\n", Passes),
        ],
    );
    check_heads(
        start,
        &[
            ("another coding", b"Transfer-Encoding: gzip\r\n", Parser),
            ("another coding first", b"Transfer-Encoding: gzip, chunked\r\n", Malformed),
            ("another coding last", b"Transfer-Encoding: chunked, gzip\r\n", Parser),
            ("chunked twice", b"Transfer-Encoding: chunked, chunked\r\n", Malformed),
            (
                "chunked in two lines",
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Malformed,
            ),
            ("identity, too", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", Malformed),
            ("like chunked", b"Transfer-Encoding: xchunked\r\n", Parser),
            ("chunked and more", b"Transfer-Encoding: chunkedx\r\n", Parser),
            ("quoted", b"Transfer-Encoding: \"chunked\"\r\n", Parser),
            ("with a parameter", b"Transfer-Encoding: chunked;q=1\r\n", Parser),
            ("empty", b"Transfer-Encoding:\r\n", Parser),
            ("a comma before", b"Transfer-Encoding: ,chunked\r\n", Malformed),
            ("a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", Parser),
            ("a space before the colon", b"Transfer-Encoding : chunked\r\n", Parser),
            ("a folded line", b"Transfer-Encoding:\r\n chunked\r\n", Parser),
        ],
    );
    check(&[
        (
            "white space around",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \t chunked \r\n\r\n0\r\n\r\n",
            Passes,
        ),
        ("capitals", b"POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n", Passes),
        ("on HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Parser),
    ]);
}

/// RFC 9112 section 7.1. What stands before the mistake may have gone on; the whole never does.
#[test]
fn chunks_are_read_to_the_letter() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases: &[(&str, &[u8], Fate)] = &[
        ("well-formed", b"5\r\nhello\r\n0\r\n\r\n", Passes),
        ("zeros before the size", b"005\r\nhello\r\n000\r\n\r\n", Passes),
        ("an extension", b"5;name=value\r\nhello\r\n0;x\r\n\r\n", Passes),
        ("a trailer", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", Passes),
        ("no number", b"zz\r\nhello\r\n0\r\n\r\n", Malformed),
        ("a sign", b"+5\r\nhello\r\n0\r\n\r\n", Malformed),
        ("negative", b"-5\r\nhello\r\n0\r\n\r\n", Malformed),
        ("prefixed", b"0x5\r\nhello\r\n0\r\n\r\n", Malformed),
        ("a space before", b" 5\r\nhello\r\n0\r\n\r\n", Malformed),
        ("a bare LF after the size", b"5\nhello\r\n0\r\n\r\n", Malformed),
        ("a bare CR after the size", b"5\rhello\r\n0\r\n\r\n", Malformed),
        ("no line break after the chunk", b"5\r\nhello0\r\n\r\n", Malformed),
        ("a bare LF after the chunk", b"5\r\nhello\n0\r\n\r\n", Malformed),
        ("more than the size", b"5\r\nhello!\r\n0\r\n\r\n", Malformed),
        ("too large for any integer", b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", Malformed),
        ("a bare LF after the last", b"5\r\nhello\r\n0\n\n", Malformed),
    ];
    check_bodies(head, cases);
}

/// Pingora's parser of chunks takes an empty size for zero, and anything up to CRLF for an
/// extension. What comes of it is written anew, so no upstream reads it otherwise than we did.
#[test]
fn what_is_forgiven_in_chunks_goes_on_well_formed() {
    let (origin, gateway) = start();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::new(gateway.web());
    assert_eq!(client.send(format!("{head}\r\nhello\r\n0\r\n\r\n")).status, 200);
    assert_eq!(origin.last().body, b"", "a size that is not there");
    let mut client = Client::new(gateway.web());
    assert_eq!(client.send(format!("{head}5;x\nhello\r\n0\r\n\r\n")).status, 408);
    assert_eq!(origin.received().len(), 1, "a bare LF does not end an extension");
}

/// As [`check`], where the origin may have got a part.
fn check_bodies(head: &str, cases: &[(&str, &[u8], Fate)]) {
    let (origin, gateway) = start();
    let mut wrong = Vec::new();
    for (what, body, expected) in cases {
        let before = origin.received().len();
        let mut client = Client::new(gateway.web());
        client.write(head);
        client.write(body);
        let answer = client.read(false);
        let whole = origin.received().get(before).is_some_and(|got| got.body == b"hello");
        let right = match expected {
            Passes => answer.status == 200 && whole,
            _ => fate(&answer) == Some(*expected) && origin.received().len() == before,
        };
        if !right {
            wrong.push(format!(
                "{what}: whole={whole} {} {:?} {}",
                answer.status,
                answer.fields,
                answer.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// RFC 9112 sections 2.2, 5.1 and 5.2, RFC 9110 section 5.5.
#[test]
fn header_lines_are_read_to_the_letter() {
    check_heads(
        "GET / HTTP/1.1\r\nHost: a\r\n",
        &[
            ("NUL in a value", b"X-A: a\0b\r\n", Parser),
            ("a control character in a value", b"X-A: a\x01b\r\n", Parser),
            ("DEL in a value", b"X-A: a\x7fb\r\n", Parser),
            ("a tab in a value", b"X-A: a\tb\r\n", Passes),
            ("bytes beyond ASCII in a value", b"X-A: \xc3\xa9\xff\r\n", Passes),
            ("an empty value", b"X-A:\r\n", Passes),
            ("a bare CR in a value", b"X-A: a\rb\r\n", Parser),
            ("a bare CR as line break", b"X-A: a\rX-B: b\r\n", Parser),
            ("NUL in a name", b"X\0A: a\r\n", Parser),
            ("a control character in a name", b"X\x01A: a\r\n", Parser),
            ("a space in a name", b"X A: a\r\n", Parser),
            ("a space before the colon", b"X-A : a\r\n", Parser),
            ("a tab before the colon", b"X-A\t: a\r\n", Parser),
            ("bytes beyond ASCII in a name", b"X-\xc3\xa9: a\r\n", Parser),
            ("an empty name", b": a\r\n", Parser),
            ("no colon", b"X-A\r\n", Parser),
            ("a folded line", b"X-A: a\r\n b\r\n", Parser),
            ("a line folded by a tab", b"X-A: a\r\n\tb\r\n", Parser),
            ("a delimiter in a name", b"X(A): a\r\n", Parser),
        ],
    );
    check(&[
        ("a folded first line", b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", Parser),
        ("bare LFs", b"GET / HTTP/1.1\nHost: a\n\n", Malformed),
        ("one bare LF", b"GET / HTTP/1.1\r\nX-A: a\nHost: a\r\n\r\n", Malformed),
        ("a bare LF at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\n", Malformed),
        ("an empty line first", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Passes),
    ]);
}

/// RFC 9112 section 3, RFC 9110 section 2.5. Pingora would mend some of these by escaping.
#[test]
fn request_lines_are_read_to_the_letter() {
    let line = |line: &[u8]| [line, b"\r\nHost: a\r\n\r\n"].concat();
    let cases: Vec<(String, Vec<u8>, Fate)> = [
        (&b"GET / HTTP/1.1"[..], Passes),
        (b"get / HTTP/1.1", Passes),
        (b"M-SEARCH / HTTP/1.1", Passes),
        (b"GET /", Parser),
        (b"GET / HTTP/0.9", Parser),
        (b"GET / HTTP/1.2", Parser),
        (b"GET / HTTP/2.0", Parser),
        (b"GET / HTTP/2", Parser),
        (b"GET / HTTP/1.1.1", Parser),
        (b"GET / HTTP/1,1", Parser),
        (b"GET / HTTP/11", Parser),
        (b"GET / http/1.1", Parser),
        (b"GET / HTTPS/1.1", Parser),
        (b"GET / HTTP/1.1 ", Parser),
        (b"GET  / HTTP/1.1", Malformed),
        (b"GET /  HTTP/1.1", Malformed),
        (b" GET / HTTP/1.1", Parser),
        (b"GET\t/ HTTP/1.1", Parser),
        (b"GET /\tHTTP/1.1", Parser),
        (b"GET HTTP/1.1", Parser),
        (b"G\0T / HTTP/1.1", Parser),
        (b"G(T / HTTP/1.1", Parser),
        (b"G\xc3\xa9T / HTTP/1.1", Parser),
        (b"GET /a b HTTP/1.1", Malformed),
        (b"GET /a\tb HTTP/1.1", Malformed),
        (b"GET /a\0b HTTP/1.1", Malformed),
        (b"GET /a\x01b HTTP/1.1", Malformed),
        (b"GET /a\x7fb HTTP/1.1", Malformed),
        (b"GET /a\rb HTTP/1.1", Malformed),
        (b"GET / HTTP/1.1 HTTP/1.1", Parser),
        (b"GET /a?b=c d HTTP/1.1", Malformed),
    ]
    .into_iter()
    .map(|(start, fate)| (start.escape_ascii().to_string(), line(start), fate))
    .collect();
    let cases: Vec<(&str, &[u8], Fate)> =
        cases.iter().map(|(what, request, fate)| (what.as_str(), &request[..], *fate)).collect();
    check(&cases);
}

/// RFC 9112 section 3.2, RFC 3986.
#[test]
fn targets_are_paths() {
    let target = |target: &[u8]| [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let cases: Vec<(String, Vec<u8>, Fate)> = [
        (&b"/a%20b"[..], Passes),
        (b"/a%C3%A9", Passes),
        (b"/?a=%00%zz%ff", Passes),
        (b"/?a={|}^`", Passes),
        (b"/?a=\"", Parser),
        (b"/?a=<b>", Parser),
        (b"/?a=\xc3\xa9", Passes),
        (b"//a/b", Passes),
        (b"http://a/b", Passes),
        (b"http://a", Passes),
        (b"/%00", BadPath),
        (b"/%zz", BadPath),
        (b"/%", BadPath),
        (b"/%2", BadPath),
        (b"/a%2fb", BadPath),
        (b"/a%2Fb", BadPath),
        (b"/a%5cb", BadPath),
        (b"/a\\b", BadPath),
        (b"/%ff", BadPath),
        (b"/%c0%af", BadPath),
        (b"/\xc3\xa9", BadPath),
        (b"/\xff", Parser),
        (b"/?\xff", Parser),
        (b"/a#b", Malformed),
        (b"/?a#b", Malformed),
        (b"http://a/b#c", Malformed),
        (b"?a", BadPath),
        (b"HTTP://a/b", Passes),
        (b"https://a/b", Passes),
        (b"/a/..;/b", BadPath),
        (b"*", BadPath),
        (b"a", BadPath),
        (b"a/b", BadPath),
        (b"ftp://a/b", BadPath),
    ]
    .into_iter()
    .map(|(bytes, fate)| (bytes.escape_ascii().to_string(), target(bytes), fate))
    .collect();
    let cases: Vec<(&str, &[u8], Fate)> =
        cases.iter().map(|(what, request, fate)| (what.as_str(), &request[..], *fate)).collect();
    check(&cases);
}

#[test]
fn absolute_form_goes_on_as_a_path() {
    let (origin, gateway) = start();
    let mut client = Client::new(gateway.web());
    assert_eq!(client.send("GET http://a.example/b?c HTTP/1.1\r\nHost: a.example\r\n\r\n").status, 200);
    let got = origin.last();
    assert_eq!((got.line.as_str(), got.fields("host")), ("GET /b?c HTTP/1.1", vec!["a.example"]));
}

/// RFC 9110 sections 9.3.6 to 9.3.8.
#[test]
fn methods_that_are_not_for_a_gateway() {
    let (origin, gateway) = start();
    let tunnel = Client::new(gateway.web()).send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert_eq!((tunnel.status, tunnel.code().as_str(), tunnel.closes()), (405, "connect_refused", true));
    assert!(tunnel.field("allow").is_some());
    let mut client = Client::new(gateway.web());
    let trace = client.send("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((trace.status, trace.code().as_str()), (405, "trace_refused"));
    let all = client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((all.status, all.body.len()), (204, 0));
    assert_eq!(origin.received().len(), 0);
    assert_eq!(client.get("a", "/", "").status, 200, "the connection was kept");
}

#[test]
fn what_follows_a_body_is_no_part_of_it() {
    let (origin, gateway) = start();
    let first = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked =
        "POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for first in [first, chunked, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let before = origin.received().len();
        let mut client = Client::new(gateway.web());
        client.write(format!("{first}GET /second HTTP/1.1\r\nHost: b\r\n\r\n"));
        assert_eq!(client.read(false).status, 200, "{first}");
        wait_until("the connection is over, or the second request is answered", || {
            client.is_closed() || client.read(false).status == 200
        });
        let got = origin.received().split_off(before);
        assert_eq!(got[0].target(), "/first");
        assert!(got[0].body.is_empty() || got[0].body == b"hello", "{first}");
        assert!(got[1..].iter().all(|second| second.target() == "/second" && second.body.is_empty()));
    }
}

/// Servers that speak CGI's language make one variable of `X-Id` and `X_Id`.
#[test]
fn a_name_with_an_underscore_stays_behind() {
    let (origin, gateway) = start();
    let answer = Client::new(gateway.web()).get("a", "/", "X_Forwarded_For: 203.0.113.9\r\nX-Kept: 1\r\n");
    assert_eq!(answer.status, 200);
    let got = origin.last();
    assert_eq!((got.field("x_forwarded_for"), got.field("x-kept")), (None, Some("1")));
}

#[test]
fn a_head_in_pieces_is_the_same_head() {
    let (origin, gateway) = start();
    for (request, status) in
        [("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", 200), ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400)]
    {
        let mut client = Client::new(gateway.web());
        for byte in request.as_bytes() {
            client.write([*byte]);
            std::thread::yield_now();
        }
        assert_eq!(client.read(false).status, status, "{request:?}");
    }
    assert_eq!(origin.received().len(), 1);
    let mut reused = Client::new(gateway.web());
    assert_eq!(reused.get("a", "/", "").status, 200);
    assert_eq!(reused.get("a", "/a b", "").status, 400, "on a connection that is used again, too");
    assert_eq!(origin.received().len(), 2);
}

/// RFC 9113 sections 8.2 and 8.3.
#[test]
fn http_2_has_the_same_door() {
    let (origin, gateway) = start();
    let client = Http2::clear(gateway.web());
    let request = |uri: &str| http::Request::get(uri);
    for (what, request, status, code) in [
        ("an escaped NUL", request("http://a/%00"), 400, "bad_path"),
        ("an escaped slash", request("http://a/a%2fb"), 400, "bad_path"),
        ("TRACE", request("http://a/").method("TRACE"), 405, "trace_refused"),
        ("a large port", request("http://a:99999/"), 400, "malformed_request"),
    ] {
        let answer = client.send(request, &[]);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}");
    }
    for (what, request) in [
        ("two hosts that differ", request("http://a/").header("host", "b")),
        ("userinfo", request("http://u@a/")),
    ] {
        let answer = client.send(request, &[]);
        assert!(matches!(answer.status, 0 | 400), "{what}: {answer:?}");
    }
    assert_eq!(origin.received().len(), 0);
    assert_eq!(client.get("http://a/").status, 200, "none of it cost the connection");
}

/// RFC 9113 sections 8.2 and 8.3: the stream or the connection ends, by a frame or by 400.
#[test]
fn http_2_fields_are_read_to_the_letter() {
    let (origin, gateway) = start();
    let sound = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
    assert_eq!(frame_for(&gateway, &sound), Some(HEADERS), "what is sound is answered");
    assert_eq!(origin.received().len(), 1);
    for (what, fields) in [
        ("a capital in a name", [("X-A", "1")].as_slice()),
        ("a line break in a value", &[("x-a", "1\r\nx-b: 2")]),
        ("NUL in a value", &[("x-a", "1\0")]),
        ("a colon in a name", &[("x:a", "1")]),
        ("a space in a name", &[("x a", "1")]),
        ("a line break in a name", &[("x-a: 1\r\nx-b", "2")]),
        ("an empty name", &[("", "1")]),
        ("connection", &[("connection", "close")]),
        ("keep-alive", &[("keep-alive", "5")]),
        ("upgrade", &[("upgrade", "websocket")]),
        ("transfer-encoding", &[("transfer-encoding", "chunked")]),
        ("te that is not trailers", &[("te", "gzip")]),
        ("a second path", &[(":path", "/b")]),
        ("an unknown pseudo-header", &[(":x", "1")]),
        ("a pseudo-header of an answer", &[(":status", "200")]),
        ("another host", &[("host", "b")]),
        ("two hosts", &[("host", "a"), ("host", "a")]),
        ("a body that is not there", &[("content-length", "5")]),
        ("a length that is none", &[("content-length", "x")]),
    ] {
        let all: Vec<(&str, &str)> = sound.iter().chain(fields).copied().collect();
        let frame = frame_for(&gateway, &all);
        assert!(
            matches!(frame, Some(RST_STREAM | GOAWAY | HEADERS)) && origin.received().len() == 1,
            "{what}: {frame:?}"
        );
    }
    for (what, at, value) in [
        ("a space in the path", 2, "/a b"),
        ("a line break in the path", 2, "/ HTTP/1.1\r\nx-a: 1"),
        ("a path that is none", 2, "a"),
        ("an empty path", 2, ""),
        ("a line break in the method", 0, "GET / HTTP/1.1\r\nx-a: 1"),
        ("an empty method", 0, ""),
        ("a space in the authority", 3, "a b"),
        ("a path in the authority", 3, "a/b"),
        ("a line break in the authority", 3, "a\r\nx-a: 1"),
        ("a scheme that is none", 1, "http://x/?"),
    ] {
        let mut all = sound;
        all[at].1 = value;
        let frame = frame_for(&gateway, &all);
        assert!(
            matches!(frame, Some(RST_STREAM | GOAWAY | HEADERS)) && origin.received().len() == 1,
            "{what}: {frame:?}"
        );
    }
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// Sends a request of these fields, byte for byte; the type of the frame that tells its fate.
fn frame_for(gateway: &Gateway, fields: &[(&str, &str)]) -> Option<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // RFC 7541 section 6.2.2: a literal, not indexed, with a new name.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut client = Client::new(gateway.web());
    client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // END_HEADERS and END_STREAM, on stream 1.
    let length = u8::try_from(block.len()).unwrap();
    client.write([&[0, 0, length, HEADERS, 5, 0, 0, 0, 1], &block[..]].concat());
    loop {
        let head = client.try_read_bytes(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        client.try_read_bytes(length)?;
        if matches!(head[3], HEADERS | RST_STREAM | GOAWAY) {
            return Some(head[3]);
        }
    }
}
