//! What a request holds is kept from the upstream.

use crate::identity::presented::{Place, Places, after_scheme};
use crate::policy::context::{HeaderEdit, PolicyContext};
use http::HeaderValue;
use http::header::COOKIE;
use pingora_http::RequestHeader;

/// Keeps the token from the upstream.
pub fn token(places: &Places, head: &RequestHeader, cx: &mut PolicyContext) {
    for place in places.iter() {
        match place {
            Place::Header(name, scheme) => {
                let is_token = |value: &HeaderValue| match (value.to_str(), scheme) {
                    (Ok(value), Some(scheme)) => after_scheme(value, scheme).is_some(),
                    _ => true,
                };
                if head.headers.get_all(name).iter().any(is_token) {
                    cx.edits.headers.push(HeaderEdit::Remove(name.clone()));
                }
            }
            Place::Cookie(name) if head.headers.contains_key(COOKIE) => {
                cx.edits.headers.push(HeaderEdit::RemoveCookie(name.clone()));
            }
            Place::Cookie(_) => {}
            Place::Query(name) => parameter(name, head, cx),
        }
    }
}

/// Keeps a query parameter from the upstream; the rest stays as it was written.
pub fn parameter(name: &str, head: &RequestHeader, cx: &mut PolicyContext) {
    let Some(query) = cx.edits.query.as_deref().or(head.uri.query()) else { return };
    let is_other =
        |pair: &&str| url::form_urlencoded::parse(pair.as_bytes()).next().is_none_or(|(key, _)| key != name);
    let rest: Vec<&str> = query.split('&').filter(is_other).collect();
    if rest.len() < query.split('&').count() {
        cx.edits.query = Some(rest.join("&"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::presented::{HeaderPlace, TokenPlace};
    use http::HeaderName;

    #[test]
    fn tokens_are_kept_from_the_upstream() {
        let scheme = |scheme: &str| Some(scheme.to_owned());
        let places = Places::compile(&[
            TokenPlace::Bearer,
            TokenPlace::Header(HeaderPlace { name: "x-token".to_owned(), scheme: None }),
            TokenPlace::Header(HeaderPlace { name: "x-auth".to_owned(), scheme: scheme("Token") }),
            TokenPlace::Cookie("session".to_owned()),
            TokenPlace::Query("access_token".to_owned()),
        ]);
        let mut head = RequestHeader::build("GET", b"/?a=1&access%5ftoken=x&b", None).unwrap();
        for (name, value) in
            [("authorization", "Basic abc"), ("x-token", "a"), ("x-auth", "Token a"), ("cookie", "session=a")]
        {
            head.append_header(name, value).unwrap();
        }
        let mut cx = PolicyContext::new();
        token(&places.unwrap(), &head, &mut cx);
        let removed = ["x-token", "x-auth"].map(|name| HeaderEdit::Remove(HeaderName::from_static(name)));
        assert_eq!(cx.edits.headers[..2], removed);
        assert_eq!(cx.edits.headers[2..], [HeaderEdit::RemoveCookie("session".into())]);
        assert_eq!(cx.edits.query.as_deref(), Some("a=1&b"));
    }
}
