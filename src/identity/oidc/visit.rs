//! What a request is: a person who opens a page, or a program that wants an answer.

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use http::{Method, header};
use pingora_http::RequestHeader;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// True where a person opens a page, so that a redirect to a login form is of use: a GET that asks
/// for HTML, made by no script and for no prefetching.
pub fn is_navigation(head: &RequestHeader) -> bool {
    head.method == Method::GET && opens_a_page(&head.headers)
}

/// The same for any method: a form that is posted opens a page as well.
pub fn opens_a_page(headers: &HeaderMap) -> bool {
    let navigates = headers.get(SEC_FETCH_MODE).is_none_or(|mode| mode == "navigate");
    let accepts_html = headers.get_all(ACCEPT).into_iter().any(|value| holds(value, b"text/html"));
    let by_script = headers.contains_key(REQUESTED_WITH) || headers.contains_key(header::UPGRADE);
    navigates && accepts_html && !by_script && !headers.contains_key(SEC_PURPOSE)
}

/// True where the browser says that a page of this origin, or the user alone, made the request
/// (Fetch Metadata, section 2.3), or, in browsers that say nothing, where its `Origin` is this one.
pub fn is_our_own(headers: &HeaderMap, origin: &str) -> bool {
    match headers.get(SEC_FETCH_SITE) {
        Some(site) => site == "same-origin" || site == "none",
        None => headers.get(header::ORIGIN).is_some_and(|value| value == origin),
    }
}

fn holds(value: &HeaderValue, part: &[u8]) -> bool {
    value.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, b"/", None).unwrap();
        for (name, value) in fields {
            head.insert_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn only_people_are_sent_to_a_login_form() {
        let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        for (method, fields, navigation) in [
            ("GET", &[html][..], true),
            ("GET", &[html, ("sec-fetch-mode", "navigate")], true),
            ("GET", &[("accept", "Text/HTML")], true),
            ("POST", &[html, ("sec-fetch-mode", "navigate")], false),
            ("HEAD", &[html], false),
            ("GET", &[], false),
            ("GET", &[("accept", "*/*")], false),
            ("GET", &[("accept", "application/json")], false),
            ("GET", &[html, ("sec-fetch-mode", "cors")], false),
            ("GET", &[html, ("sec-fetch-mode", "websocket")], false),
            ("GET", &[html, ("x-requested-with", "XMLHttpRequest")], false),
            ("GET", &[html, ("sec-purpose", "prefetch")], false),
            ("GET", &[html, ("upgrade", "websocket")], false),
        ] {
            assert_eq!(is_navigation(&head(method, fields)), navigation, "{method} {fields:?}");
        }
    }

    #[test]
    fn a_foreign_page_is_told_from_ours() {
        let ours = "https://app.example.com";
        for (fields, own) in [
            (&[("sec-fetch-site", "same-origin")][..], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", ours)], false),
            (&[("origin", ours)], true),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[], false),
        ] {
            assert_eq!(is_our_own(&head("POST", fields).headers, ours), own, "{fields:?}");
        }
    }
}
