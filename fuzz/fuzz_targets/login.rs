//! No cookie and no query of a login panics, and no cookie opens that was not sealed here.

#![no_main]

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tollgate::identity::oidc::attempt::{Attempt, Return};
use tollgate::identity::oidc::cookies::{Jar, Purpose};
use tollgate::identity::oidc::return_to::ReturnTo;
use tollgate::identity::oidc::seal::Sealer;
use tollgate::identity::oidc::session::{Seen, Session};
use tollgate::values::Secret;

fuzz_target!(|input: (&[u8], &str)| {
    let (cookie, query) = input;
    let sealer = Sealer::new(&[Secret::new("a key of the fuzzer's")], "sso").unwrap();
    let jar = Jar::new("sso", false);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(cookie) {
        headers.append(COOKIE, value);
    }
    if let Some(text) = jar.session_text(&headers) {
        assert!(jar.open_session(&sealer, &text).is_none());
    }
    assert!(jar.read(&sealer, Purpose::Seen, &headers).is_none());
    for state in jar.logins(&headers) {
        assert!(jar.read(&sealer, Purpose::Login(state), &headers).is_none());
    }
    let _ = jar.delete_session(&headers);
    let _ = (Session::from_cookie(cookie), Seen::from_cookie(cookie), Attempt::from_cookie(cookie));
    let _ = Return::parse(query);
    if let Some(to) = ReturnTo::parse(query) {
        assert!(to.as_str().starts_with('/') && !to.as_str().starts_with("//"));
    }
});
