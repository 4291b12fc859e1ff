use super::*;

fn policy(yaml: &str) -> Result<Compress, Vec<Finding>> {
    let config: CompressConfig = serde_saphyr::from_str(yaml).unwrap();
    Compress::compile(&config, &CompileEnv::default())
}

const PLAIN: &[(&str, &str)] = &[("content-type", "text/html; charset=utf-8"), ("content-length", "5000")];

/// An answer after the policy, and whether its body is coded.
fn answered(
    yaml: &str,
    request: &[(&'static str, &str)],
    status: u16,
    answer: &[(&'static str, &str)],
) -> (ResponseHeader, bool) {
    let mut head = RequestHeader::build("GET", b"/", None).unwrap();
    for (name, value) in request {
        head.append_header(*name, *value).unwrap();
    }
    let mut response = ResponseHeader::build(status, None).unwrap();
    for (name, value) in answer {
        response.append_header(*name, *value).unwrap();
    }
    let mut cx = PolicyContext::new();
    policy(yaml).unwrap().on_response(&head, &mut response, &mut cx);
    (response, cx.coder.is_some())
}

fn all(answer: &ResponseHeader, name: &str) -> String {
    answer.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_head_of_a_coded_answer() {
    let fields = [PLAIN, &[("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "origin")]].concat();
    let (answer, coded) = answered("{}", &[("accept-encoding", "gzip, br;q=0.5")], 200, &fields);
    assert!(coded);
    let shown = ["content-encoding", "etag", "vary", "content-length", "accept-ranges"]
        .map(|name| all(&answer, name));
    assert_eq!(shown, ["gzip", "W/\"a\"", "origin, accept-encoding", "", ""]);
}

#[test]
fn what_varies_says_so_once_even_where_it_is_not_coded() {
    for (request, answer, vary) in [
        ("", "", "accept-encoding"),
        ("gzip", "", "accept-encoding"),
        ("gzip", "Accept-Encoding", "Accept-Encoding"),
        ("gzip", "origin , ACCEPT-encoding", "origin , ACCEPT-encoding"),
        ("gzip", "*", "*"),
    ] {
        let fields = [PLAIN, &[("vary", answer)]].concat();
        let fields = if answer.is_empty() { PLAIN } else { &fields };
        let (answer, coded) = answered("{}", &[("accept-encoding", request)], 200, fields);
        assert_eq!((all(&answer, "vary").as_str(), coded), (vary, request == "gzip"));
    }
}

#[test]
fn what_is_left_as_it_is() {
    for (what, status, extra, request) in [
        ("partial content", 206, ("content-range", "bytes 0-1/2"), None),
        ("nothing", 204, ("x", "x"), None),
        ("coded already", 200, ("content-encoding", "br"), None),
        ("not to be changed", 200, ("cache-control", "public, No-Transform"), None),
        ("not to be changed, says the client", 200, ("x", "x"), Some(("cache-control", "no-transform"))),
        ("a digest", 200, ("content-digest", "sha-256=:AA==:"), None),
        ("trailers to come", 200, ("trailer", "x-sum"), None),
        ("gRPC", 200, ("content-type", "application/grpc+proto"), None),
        ("an event stream", 200, ("content-type", "text/event-stream"), None),
        ("an image", 200, ("content-type", "image/png"), None),
        ("too small", 200, ("content-length", "1023"), None),
    ] {
        let kept = PLAIN.iter().filter(|(name, _)| *name != extra.0).copied();
        let fields: Vec<_> = kept.chain([extra]).collect();
        let request: Vec<_> = [("accept-encoding", "gzip")].into_iter().chain(request).collect();
        let (answer, coded) = answered("{}", &request, status, &fields);
        let now: Vec<_> = answer
            .headers
            .iter()
            .map(|(n, v)| (n.as_str().to_owned(), v.to_str().unwrap().to_owned()))
            .collect();
        let before: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!((now, coded), (before, false), "{what}");
    }
}

#[test]
fn a_client_that_refuses_what_is_not_coded_gets_it_coded() {
    let small = &[("content-type", "image/png"), ("content-length", "10")];
    let (answer, coded) = answered("{}", &[("accept-encoding", "gzip, identity;q=0")], 200, small);
    assert!(coded);
    assert_eq!(
        (all(&answer, "content-encoding"), all(&answer, "vary")),
        ("gzip".into(), "accept-encoding".into())
    );
    let (_, coded) = answered("{}", &[("accept-encoding", "identity;q=0, compress")], 200, small);
    assert!(!coded, "there is nothing better to give");
}

#[test]
fn event_streams_are_coded_where_they_are_listed() {
    let stream = &[("content-type", "Text/Event-Stream")];
    let coded =
        |types: &str| answered(&format!("types: {types}"), &[("accept-encoding", "br")], 200, stream).1;
    assert!(!coded("['text/*']"));
    assert!(coded("[text/event-stream]"));
}

#[test]
fn a_304_carries_the_validator_that_it_was_asked_by() {
    for (asked, tag, expected) in [
        ("W/\"a\"", "\"a\"", "W/\"a\""),
        ("\"b\", W/\"a\"", "\"a\"", "W/\"a\""),
        ("\"a\"", "\"a\"", "\"a\""),
        ("*", "\"a\"", "\"a\""),
        ("W/\"a\"", "W/\"a\"", "W/\"a\""),
    ] {
        let (answer, coded) = answered("{}", &[("if-none-match", asked)], 304, &[("etag", tag)]);
        assert_eq!((all(&answer, "etag").as_str(), coded), (expected, false), "{asked}");
    }
}

#[test]
fn a_tag_that_is_none_goes() {
    for (tag, expected) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\""), ("a", "")] {
        let fields = [PLAIN, &[("etag", tag)]].concat();
        assert_eq!(all(&answered("{}", &[("accept-encoding", "br")], 200, &fields).0, "etag"), expected);
    }
}

#[test]
fn media_types() {
    for (pattern, essence, matches) in [
        ("text/*", "text/html", true),
        ("text/*", "TEXT/plain", true),
        ("text/*", "texts/plain", false),
        ("application/json", "application/json", true),
        ("application/json", "application/jsonl", false),
        ("Application/*+JSON", "application/problem+json", true),
        ("application/*+json", "application/json", false),
        ("application/*+json", "text/x+json", false),
    ] {
        assert_eq!(
            Pattern::parse(pattern).unwrap().matches(essence.as_bytes()),
            matches,
            "{pattern} {essence}"
        );
    }
}

#[test]
fn mistakes_have_their_places() {
    for (yaml, path) in [
        ("codings: []", "codings"),
        ("codings: [gzip, br, gzip]", "codings[2]"),
        ("levels: { gzip: 0 }", "levels.gzip"),
        ("levels: { br: 11 }", "levels.br"),
        ("levels: { zstd: 13 }", "levels.zstd"),
        ("types: []", "types"),
        ("types: [text/html, html]", "types[1]"),
        ("types: ['*/*']", "types[0]"),
        ("types: ['text/html; charset=utf-8']", "types[0]"),
        ("types: ['application/*json']", "types[0]"),
        ("types: [application/grpc]", "types[0]"),
    ] {
        let found = policy(yaml).unwrap_err();
        assert_eq!(found.iter().map(|f| f.path.to_string()).collect::<Vec<_>>(), [path], "{yaml}");
    }
}
