//! Header fields that are meant for the next hop alone (RFC 9110 section 7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

/// The fields that never pass. `transfer-encoding` belongs to them too, but is left to Pingora,
/// which reads off it how to frame the body that it writes anew.
///
/// `proxy-authorization` and its companions are for the first proxy that asks for them (RFC 9110
/// section 11.7): a gateway ends that hop.
const FIELDS: [HeaderName; 8] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Fields that a `Connection` option may not take away: without them the message would be another
/// one, which is what an attacker nominates them for.
const FRAMING: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

/// True for what the framing of a message, the choice of the upstream or the protocol itself depends on,
/// by its name in lower case: nobody who writes a configuration may set or take such a field.
pub fn is_the_protocols(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name)
}

/// What of the next hop's fields goes on after all, because both hops agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// `trailer`: the next hop can carry trailers.
    pub trailers: bool,
    /// `upgrade`, with a `connection: upgrade` of our own.
    pub upgrade: bool,
}

/// True where a request has nothing for this hop alone, or no more than the usual word on its connection
/// (`close`, `keep-alive`), which is a field that whoever forwards it must still take out.
pub fn is_free(request: &HeaderMap) -> bool {
    const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
    request.keys().all(|name| {
        *name != header::TRANSFER_ENCODING
            && *name != HTTP2_SETTINGS
            && !FIELDS.contains(name)
            && (*name != header::CONNECTION || is_usual(request))
    })
}

fn is_usual(request: &HeaderMap) -> bool {
    let usual = |value: &HeaderValue| {
        [b"close".as_slice(), b"keep-alive"].iter().any(|word| value.as_bytes().eq_ignore_ascii_case(word))
    };
    request.get_all(header::CONNECTION).iter().all(usual)
}

/// The fields that `Connection` nominates, besides those above. Framing fields are left out, and so
/// is what is no field name.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let options = headers.get_all(header::CONNECTION).into_iter().flat_map(|value| {
        value.as_bytes().split(|c| *c == b',').map(<[u8]>::trim_ascii).filter(|option| !is_common(option))
    });
    options
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| !FRAMING.contains(name))
        .collect()
}

/// True where `Connection` takes fields away that are not this hop's by themselves: whoever is next sees another
/// request than the one that came.
pub fn takes_more_away(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONNECTION) && !nominated(headers).is_empty()
}

/// Removes from a request what is meant for this hop alone, for requests that do not take Pingora's
/// way: it does the same by the peer's `HttpUpstreamRequestPolicy`.
pub fn strip_request(request: &mut RequestHeader) {
    for name in doomed(&request.headers) {
        request.remove_header(&name);
    }
    request.remove_header(&header::TRANSFER_ENCODING);
}

/// Removes from a response what is meant for this hop alone. (Pingora does it for requests.)
pub fn strip_response(response: &mut ResponseHeader, keep: Keep) {
    let doomed = doomed(&response.headers);
    if doomed.is_empty() {
        return;
    }
    let upgrade = response.headers.get(header::UPGRADE).filter(|_| keep.upgrade).cloned();
    let trailer = response.headers.get(header::TRAILER).filter(|_| keep.trailers).cloned();
    for name in doomed {
        response.remove_header(&name);
    }
    if let Some(trailer) = trailer {
        let _ = response.insert_header(header::TRAILER, trailer);
    }
    if let Some(upgrade) = upgrade {
        let _ = response.insert_header(header::UPGRADE, upgrade);
        let _ = response.insert_header(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// The names of all fields to remove; empty, and no allocation, for most messages.
fn doomed(headers: &HeaderMap) -> Vec<HeaderName> {
    // Most messages have no such field, and comparing names is cheaper than looking each one up.
    let fixed = |name: &&HeaderName| **name == header::CONNECTION || FIELDS.contains(name);
    let mut names: Vec<HeaderName> = headers.keys().filter(fixed).cloned().collect();
    if names.contains(&header::CONNECTION) {
        names.extend(nominated(headers));
    }
    names
}

/// Options of `Connection` that nominate no field, or one that goes anyway.
fn is_common(option: &[u8]) -> bool {
    option.is_empty()
        || [b"close".as_slice(), b"keep-alive", b"upgrade", b"te"]
            .iter()
            .any(|common| option.eq_ignore_ascii_case(common))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in fields {
            answer.append_header(*name, *value).unwrap();
        }
        answer
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn fixed_and_nominated_fields_go() {
        let mut answer = answer(&[
            ("host", "example.com"),
            ("connection", "close, X-One ,, x-two"),
            ("connection", "X-Three"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-two", "2 again"),
            ("x-three", "3"),
            ("x-four", "4"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
        ]);
        strip_response(&mut answer, Keep::default());
        assert_eq!(names(&answer.headers), ["host", "transfer-encoding", "x-four"]);
    }

    #[test]
    fn a_request_loses_its_hop() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [
            ("host", "example.com"),
            ("connection", "upgrade, x-one, host"),
            ("upgrade", "websocket"),
            ("x-one", "1"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-two", "2"),
        ] {
            request.append_header(name, value).unwrap();
        }
        strip_request(&mut request);
        assert_eq!(names(&request.headers), ["host", "x-two"]);
    }

    #[test]
    fn a_request_is_free_only_without_anything_for_its_hop() {
        let is_free = |fields: &[(&'static str, &str)]| {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.append_header("host", "example.com").unwrap();
            for (name, value) in fields {
                request.append_header(*name, *value).unwrap();
            }
            super::is_free(&request.headers)
        };
        assert!(is_free(&[]));
        assert!(is_free(&[("accept", "*/*"), ("content-length", "3"), ("connection", "Keep-Alive")]));
        assert!(is_free(&[("connection", "close"), ("connection", "close")]));
        for value in ["close, x-one", "keep-alive,", "upgrade", "host", "", "\"close\"", ":authority"] {
            assert!(!is_free(&[("connection", value)]), "{value}");
            assert!(!is_free(&[("connection", "close"), ("connection", value)]), "{value}");
        }
        for name in
            FIELDS.into_iter().chain(["transfer-encoding", "http2-settings"].map(HeaderName::from_static))
        {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            request.append_header(name.clone(), "x").unwrap();
            assert!(!super::is_free(&request.headers), "{name}");
        }
    }

    #[test]
    fn framing_cannot_be_nominated_away() {
        let mut answer = answer(&[
            ("host", "example.com"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("connection", "Host, content-length, TRANSFER-ENCODING"),
        ]);
        strip_response(&mut answer, Keep::default());
        assert_eq!(names(&answer.headers), ["content-length", "host", "transfer-encoding"]);
    }

    #[test]
    fn trailers_stay_where_the_next_hop_carries_them() {
        let fields = [("te", "gzip;q=0.5, Trailers"), ("trailer", "x-sum"), ("connection", "te")];
        let mut kept = answer(&fields);
        strip_response(&mut kept, Keep { trailers: true, upgrade: false });
        assert_eq!(names(&kept.headers), ["trailer"]);
        let mut without = answer(&[("te", "gzip")]);
        strip_response(&mut without, Keep { trailers: true, upgrade: false });
        assert!(without.headers.is_empty());
    }

    #[test]
    fn an_upgrade_stays_where_it_is_asked_for() {
        let fields = [("upgrade", "websocket"), ("connection", "keep-alive, Upgrade, x-one"), ("x-one", "1")];
        let mut kept = answer(&fields);
        strip_response(&mut kept, Keep { trailers: false, upgrade: true });
        assert_eq!(names(&kept.headers), ["connection", "upgrade"]);
        assert_eq!(kept.headers["connection"], "upgrade");
        let mut plain = answer(&[("connection", "upgrade")]);
        strip_response(&mut plain, Keep { trailers: false, upgrade: true });
        assert!(plain.headers.is_empty(), "no upgrade was asked for");
    }

    #[test]
    fn a_response_loses_its_hop_too() {
        let fields = [
            ("connection", "keep-alive, x-inner"),
            ("keep-alive", "timeout=5"),
            ("x-inner", "1"),
            ("proxy-authenticate", "Basic"),
            ("upgrade", "h2c"),
            ("trailer", "x-sum"),
            ("content-length", "3"),
            ("date", "now"),
        ];
        let build = || {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for (name, value) in fields {
                response.append_header(name, value).unwrap();
            }
            response
        };
        let mut response = build();
        strip_response(&mut response, Keep::default());
        assert_eq!(names(&response.headers), ["content-length", "date"]);
        let mut response = build();
        strip_response(&mut response, Keep { trailers: true, upgrade: true });
        assert_eq!(names(&response.headers), ["connection", "content-length", "date", "trailer", "upgrade"]);
    }

    proptest! {
        #[test]
        fn whatever_is_nominated_goes(options in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
            let mut answer = answer(&[("host", "example.com"), ("x-one", "1"), ("x-two", "2")]);
            for option in &options {
                answer.append_header("connection", option.as_str()).unwrap();
            }
            answer.append_header("connection", "x-one").unwrap();
            strip_response(&mut answer, Keep::default());
            prop_assert_eq!(names(&answer.headers), ["host", "x-two"]);
        }
    }
}
