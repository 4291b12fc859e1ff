//! The cookies of a login: their names, how large ones are split, how they are written and found.

use super::seal::Sealer;
use crate::message::cookies::pairs;
use aws_lc_rs::error::Unspecified;
use cookie::{Cookie, SameSite, time};
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};

/// The longest value of one cookie. Browsers keep 4096 bytes of name, value and, some of them,
/// attributes (RFC 6265 section 6.1).
const CHUNK: usize = 3500;
/// The most cookies that one value is split into.
pub const MOST_CHUNKS: usize = 5;
/// The longest value that is split.
pub const LONGEST: usize = CHUNK * MOST_CHUNKS - 2;
/// The most login attempts of one browser that are looked at.
const MOST_SEEN: usize = 64;

/// The names of one provider's cookies, and where they hold.
///
/// All of them begin with one base name: the session is in `BASE`, `BASE.1` and so on, the time
/// when it was last used in `BASE.seen`, a login attempt in `BASE.login.ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jar {
    base: Box<str>,
    secure: bool,
}

/// What a cookie is for; part of what it is sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The session.
    Session,
    /// When the session was last used.
    Seen,
    /// A login attempt, by its id.
    Login(&'a str),
}

impl Jar {
    /// A jar whose names begin with `name`. On `https` they get `__Host-` before them, with which
    /// a browser takes a cookie only from this very host, over TLS, for all of its paths (RFC
    /// 6265bis section 4.1.3.2); in the clear, on loopback, they cannot have it.
    pub fn new(name: &str, secure: bool) -> Self {
        let prefix = if secure { "__Host-" } else { "" };
        Self { base: format!("{prefix}{name}").into(), secure }
    }

    /// What all names begin with.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// True if a cookie of this name is one of these.
    pub fn owns(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.base.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'.')))
    }

    fn name(&self, purpose: Purpose<'_>) -> String {
        match purpose {
            Purpose::Session => self.base.to_string(),
            Purpose::Seen => format!("{}.seen", self.base),
            Purpose::Login(id) => format!("{}.login.{id}", self.base),
        }
    }

    fn chunk_name(&self, at: usize) -> String {
        if at == 0 { self.base.to_string() } else { format!("{}.{at}", self.base) }
    }

    /// Seals and writes a cookie that is not split: the time of last use, or a login attempt.
    ///
    /// # Errors
    /// It could not be sealed.
    pub fn write(
        &self,
        sealer: &Sealer,
        purpose: Purpose<'_>,
        plain: &[u8],
        seconds: u64,
    ) -> Result<HeaderValue, Unspecified> {
        let name = self.name(purpose);
        let sealed = sealer.seal(&name, plain)?;
        self.set(name, sealed, seconds).ok_or(Unspecified)
    }

    /// Opens a cookie that is not split.
    pub fn read(&self, sealer: &Sealer, purpose: Purpose<'_>, headers: &HeaderMap) -> Option<Vec<u8>> {
        let name = self.name(purpose);
        sealer.open(&name, find(headers, &name)?)
    }

    /// Seals and writes a session, split where it is too long for one cookie, and deletes what is
    /// left of a longer one. None if it is too long for all of them.
    ///
    /// # Errors
    /// It could not be sealed.
    pub fn write_session(
        &self,
        sealer: &Sealer,
        plain: &[u8],
        seconds: u64,
        headers: &HeaderMap,
    ) -> Result<Option<Vec<HeaderValue>>, Unspecified> {
        let sealed = sealer.seal(&self.base, plain)?;
        let Some(chunks) = split(&sealed) else { return Ok(None) };
        let count = chunks.len();
        let written = chunks.into_iter().enumerate();
        let mut cookies: Vec<HeaderValue> =
            written.filter_map(|(at, chunk)| self.set(self.chunk_name(at), chunk, seconds)).collect();
        if cookies.len() != count {
            return Err(Unspecified);
        }
        let stale = (count..MOST_CHUNKS).map(|at| self.chunk_name(at));
        cookies.extend(stale.filter(|name| find(headers, name).is_some()).filter_map(|n| self.delete(n)));
        Ok(Some(cookies))
    }

    /// The session's sealed text, its parts put together; None if there is none or a part is missing.
    pub fn session_text(&self, headers: &HeaderMap) -> Option<String> {
        join(|at| find(headers, &self.chunk_name(at)))
    }

    /// Opens the session's sealed text.
    pub fn open_session(&self, sealer: &Sealer, text: &str) -> Option<Vec<u8>> {
        sealer.open(&self.base, text)
    }

    /// True if the browser sent a session, be it good or not.
    pub fn has_session(&self, headers: &HeaderMap) -> bool {
        find(headers, &self.base).is_some()
    }

    /// The ids of the login attempts that the browser knows of.
    pub fn logins<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h str> {
        let prefix = format!("{}.login.", self.base);
        let id = move |(name, _): (&'h [u8], &'h [u8])| {
            str::from_utf8(name).ok()?.strip_prefix(&prefix).filter(|id| is_login_id(id))
        };
        pairs(headers).filter_map(id).take(MOST_SEEN)
    }

    /// Deletes a login attempt.
    pub fn delete_login(&self, id: &str) -> Option<HeaderValue> {
        self.delete(self.name(Purpose::Login(id)))
    }

    /// Deletes the session and the time of its last use, as far as the browser sent them.
    pub fn delete_session(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let chunks = (0..MOST_CHUNKS).map(|at| self.chunk_name(at));
        let names = chunks.chain([self.name(Purpose::Seen)]);
        names.filter(|name| find(headers, name).is_some()).filter_map(|name| self.delete(name)).collect()
    }

    fn delete(&self, name: String) -> Option<HeaderValue> {
        self.set(name, String::new(), 0)
    }

    fn set(&self, name: String, value: String, seconds: u64) -> Option<HeaderValue> {
        let age = time::Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
        let cookie = Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Lax)
            .max_age(age)
            .build();
        HeaderValue::from_str(&cookie.to_string()).ok()
    }
}

/// True for what a login attempt may be called: it goes into a cookie's name.
pub fn is_login_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

/// The cookies of a request alone.
pub fn only(headers: &HeaderMap) -> HeaderMap {
    headers.get_all(COOKIE).into_iter().map(|value| (COOKIE, value.clone())).collect()
}

/// The parts of a sealed text, the first one with their number before it.
fn split(sealed: &str) -> Option<Vec<String>> {
    if sealed.len() > LONGEST {
        return None;
    }
    let count = (sealed.len() + 2).div_ceil(CHUNK);
    let whole = format!("{count}.{sealed}");
    // Base64 and a digit: a border between bytes is one between characters.
    Some(whole.as_bytes().chunks(CHUNK).map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect())
}

/// What [`split`] took apart, by the parts' places.
fn join<'a>(part: impl Fn(usize) -> Option<&'a str>) -> Option<String> {
    let (count, first) = part(0)?.split_once('.')?;
    let count = match count.as_bytes() {
        [digit @ b'1'..=b'9'] => usize::from(digit - b'0'),
        _ => return None,
    };
    if count > MOST_CHUNKS {
        return None;
    }
    let mut whole = String::with_capacity(first.len() + (count - 1) * CHUNK);
    whole.push_str(first);
    for at in 1..count {
        whole.push_str(part(at)?);
    }
    (whole.len() <= LONGEST).then_some(whole)
}

/// The first cookie of this name. A browser sends one alone of a name with `__Host-`.
fn find<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let (_, value) = pairs(headers).find(|(key, _)| *key == name.as_bytes())?;
    str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::Secret;
    use proptest::prelude::*;

    fn sealer() -> Sealer {
        Sealer::new(&[Secret::new("key")], "sso").unwrap()
    }

    /// What a browser sends after it got these, besides what it had.
    fn browser(had: &HeaderMap, got: &[HeaderValue]) -> HeaderMap {
        let mut kept: Vec<(String, String)> = pairs(had)
            .map(|(n, v)| (String::from_utf8(n.to_vec()).unwrap(), String::from_utf8(v.to_vec()).unwrap()))
            .collect();
        for set in got {
            let cookie = Cookie::parse(set.to_str().unwrap().to_owned()).unwrap();
            kept.retain(|(name, _)| name != cookie.name());
            if cookie.max_age() != Some(time::Duration::ZERO) {
                kept.push((cookie.name().to_owned(), cookie.value().to_owned()));
            }
        }
        let line = kept.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&line).unwrap())])
    }

    #[test]
    fn a_cookie_says_all_that_protects_it() {
        let jar = Jar::new("tollgate-sso", true);
        let set = jar.write(&sealer(), Purpose::Login("abc"), b"x", 600).unwrap();
        let text = set.to_str().unwrap();
        let (pair, attributes) = text.split_once("; ").unwrap();
        assert!(pair.starts_with("__Host-tollgate-sso.login.abc="), "{text}");
        assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600");
        let set = Jar::new("tollgate-sso", false).write(&sealer(), Purpose::Seen, b"x", 60).unwrap();
        let text = set.to_str().unwrap();
        assert!(text.starts_with("tollgate-sso.seen="), "{text}");
        assert!(
            text.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=60"),
            "no Secure in the clear: {text}"
        );
    }

    #[test]
    fn a_jar_knows_its_own() {
        let jar = Jar::new("sso", true);
        for (name, own) in [
            ("__Host-sso", true),
            ("__Host-sso.1", true),
            ("__Host-sso.seen", true),
            ("__Host-sso.login.x", true),
            ("__Host-sso2", false),
            ("sso", false),
            ("", false),
        ] {
            assert_eq!(jar.owns(name.as_bytes()), own, "{name}");
        }
    }

    #[test]
    fn cookies_are_found_among_those_of_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_bytes(b"a=\xff\xfe; =x; b; sso.login.ab-c_1=1").unwrap());
        headers.append(COOKIE, HeaderValue::from_static("sso.login.=2; sso.login.%00=3;  sso.login.d = 4 "));
        let jar = Jar::new("sso", false);
        assert_eq!(jar.logins(&headers).collect::<Vec<_>>(), ["ab-c_1", "d"]);
        assert_eq!(find(&headers, "a"), None, "not text");
        assert_eq!(find(&headers, "sso.login.d"), Some("4"));
    }

    #[test]
    fn a_shorter_session_takes_the_place_of_a_longer_one() {
        let (jar, sealer) = (Jar::new("sso", true), sealer());
        let long = vec![7; 8000];
        let empty = HeaderMap::new();
        let first = browser(&empty, &jar.write_session(&sealer, &long, 60, &empty).unwrap().unwrap());
        assert_eq!(pairs(&first).count(), 4);
        assert_eq!(jar.open_session(&sealer, &jar.session_text(&first).unwrap()).unwrap(), long);
        let second = browser(&first, &jar.write_session(&sealer, b"short", 60, &first).unwrap().unwrap());
        assert_eq!(pairs(&second).count(), 1, "nothing of the longer one is left");
        assert_eq!(jar.open_session(&sealer, &jar.session_text(&second).unwrap()).unwrap(), b"short");
        let third = browser(&second, &jar.delete_session(&second));
        assert_eq!(pairs(&third).count(), 0);
    }

    #[test]
    fn a_session_beyond_all_cookies_is_not_written() {
        let (jar, sealer, empty) = (Jar::new("sso", true), sealer(), HeaderMap::new());
        let longest = LONGEST / 4 * 3 - 29;
        assert!(jar.write_session(&sealer, &vec![0; longest], 60, &empty).unwrap().is_some());
        assert!(jar.write_session(&sealer, &vec![0; longest + 4], 60, &empty).unwrap().is_none());
    }

    #[test]
    fn parts_that_are_not_all_there_make_nothing() {
        for parts in [
            &[][..],
            &["abc"],
            &["0.abc"],
            &["6.abc", "a", "a", "a", "a", "a"],
            &["9.abc"],
            &["2.abc"],
            &["01.abc"],
            &["+1.abc"],
            &["1"],
            &["."],
        ] {
            assert_eq!(join(|at| parts.get(at).copied()), None, "{parts:?}");
        }
        assert_eq!(join(|at| ["2.ab", "c", "d"].get(at).copied()).as_deref(), Some("abc"));
    }

    proptest! {
        #[test]
        fn what_is_split_is_joined(sealed in "[A-Za-z0-9_-]{0,17498}") {
            let parts = split(&sealed).unwrap();
            prop_assert!(parts.len() <= MOST_CHUNKS && parts.iter().all(|part| part.len() <= CHUNK));
            prop_assert_eq!(join(|at| parts.get(at).map(String::as_str)), Some(sealed));
        }

        #[test]
        fn no_session_opens_with_its_parts_changed(from in 0_usize..3, to in 0_usize..3, fill: u8) {
            let (jar, sealer, empty) = (Jar::new("sso", true), sealer(), HeaderMap::new());
            let written = |fill| {
                let cookies = jar.write_session(&sealer, &vec![fill; 6000], 60, &empty).unwrap().unwrap();
                browser(&empty, &cookies)
            };
            let (one, other) = (written(fill), written(fill));
            let part = |headers: &HeaderMap, at| find(headers, &jar.chunk_name(at)).map(str::to_owned);
            let mixed: Vec<String> = (0..3)
                .map(|at| if at == to { part(&other, from) } else { part(&one, at) })
                .map(Option::unwrap)
                .collect();
            let text = join(|at| mixed.get(at).map(String::as_str));
            prop_assert!(text.is_none_or(|text| jar.open_session(&sealer, &text).is_none()));
        }
    }
}
