//! `Cache-Control` (RFC 9111 section 5.2), of requests and of answers, and what extends it (RFC 5861,
//! RFC 8246).

use super::targeted;
use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use http::{HeaderMap, HeaderValue};
use std::borrow::Cow;
use std::time::Duration;

/// The longest time that is told apart from a longer one: 2^31 seconds (RFC 9111 section 1.2.2).
const MOST_SECONDS: u64 = 1 << 31;

/// The most fields that a directive may name.
const MOST_FIELDS: usize = 32;

/// How far `no-cache` or `private` reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It is not there.
    #[default]
    None,
    /// The answer as a whole.
    All,
    /// These fields of it.
    Fields(Vec<HeaderName>),
}

impl Reach {
    /// Joins what two directives of one name say.
    fn join(&mut self, value: Option<&str>) {
        let fields = value.map(|list| {
            let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(|name| name.parse().ok()).collect::<Option<Vec<HeaderName>>>()
        });
        // Names that are none, or too many to look at, make the directive reach everything.
        let fields = fields.flatten().filter(|fields| !fields.is_empty() && fields.len() <= MOST_FIELDS);
        match (fields, &mut *self) {
            (_, Self::All) => {}
            (None, _) => *self = Self::All,
            (Some(more), Self::Fields(known)) if known.len() + more.len() <= MOST_FIELDS => {
                known.extend(more);
            }
            (Some(_), Self::Fields(_)) => *self = Self::All,
            (Some(fields), Self::None) => *self = Self::Fields(fields),
        }
    }

    /// The fields that it names, if it reaches no further.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(fields) => fields,
            Self::None | Self::All => &[],
        }
    }
}

/// What an answer says of how it may be cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`.
    pub no_cache: Reach,
    /// `private`.
    pub private: Reach,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `max-age`; zero if its argument is none (RFC 9111 section 4.2.1).
    pub max_age: Option<Duration>,
    /// `s-maxage`, as `max_age`.
    pub s_maxage: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 section 3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
    /// True if they come from a field that is for us alone (RFC 9213), so that Expires does not count.
    pub targeted: bool,
}

impl ResponseDirectives {
    /// What an answer's fields say: the targeted field if there is one, else Cache-Control.
    pub fn of(headers: &HeaderMap) -> Self {
        if let Some(directives) = targeted::directives(headers) {
            return directives;
        }
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for (name, value) in Items::of(line) {
                directives.add(&name, value.as_deref());
            }
        }
        directives
    }

    /// One directive; an unknown one says nothing (RFC 9111 section 5.2.3).
    pub(super) fn add(&mut self, name: &str, value: Option<&str>) {
        // Of two with the same name the first counts (RFC 9111 section 4.2.1).
        let first = |known: &mut Option<Duration>, fallback: Option<Duration>| {
            if known.is_none() {
                *known = value.and_then(seconds).or(fallback);
            }
        };
        match name {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache.join(value),
            "private" => self.private.join(value),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "max-age" => first(&mut self.max_age, Some(Duration::ZERO)),
            "s-maxage" => first(&mut self.s_maxage, Some(Duration::ZERO)),
            "stale-while-revalidate" => first(&mut self.stale_while_revalidate, None),
            "stale-if-error" => first(&mut self.stale_if_error, None),
            _ => {}
        }
    }

    /// True if a stale answer must not be served for want of a better one (RFC 9111 section 4.2.4),
    /// whatever is configured. `s-maxage` says so as well, by section 5.2.2.10.
    pub const fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.s_maxage.is_some()
    }
}

/// What a client asks of caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`, or `Pragma: no-cache` where there is no Cache-Control (RFC 9111 section 5.4).
    pub no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`; zero if its argument is none.
    pub max_age: Option<Duration>,
    /// `min-fresh`.
    pub min_fresh: Option<Duration>,
    /// `max-stale`; without an argument any time.
    pub max_stale: Option<Duration>,
    /// `stale-if-error` (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
}

impl RequestDirectives {
    /// What a request's fields say.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            let says_no_cache = |line: &HeaderValue| Items::of(line).any(|(name, _)| name == "no-cache");
            directives.no_cache = headers.get_all(PRAGMA).iter().any(says_no_cache);
            return directives;
        }
        for (name, value) in headers.get_all(CACHE_CONTROL).iter().flat_map(Items::of) {
            directives.add(&name, value.as_deref());
        }
        directives
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        let time = value.and_then(seconds);
        match name {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age = self.max_age.or(Some(time.unwrap_or_default())),
            "min-fresh" => self.min_fresh = self.min_fresh.or(time),
            "max-stale" if value.is_none() => {
                self.max_stale = self.max_stale.or(Some(Duration::from_secs(MOST_SECONDS)));
            }
            "max-stale" => self.max_stale = self.max_stale.or(time),
            "stale-if-error" => self.stale_if_error = self.stale_if_error.or(time),
            _ => {}
        }
    }
}

/// Delta-seconds (RFC 9111 section 1.2.2): digits alone; what is too much is 2^31 seconds.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().unwrap_or(MOST_SECONDS).min(MOST_SECONDS)))
}

/// The directives of one line: names in lower case, with their arguments, quoted or not. What is
/// neither is passed over up to the next comma.
pub(super) struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    pub(super) fn of(line: &'a HeaderValue) -> Self {
        Self { rest: line.as_bytes() }
    }

    fn token(&mut self) -> &'a [u8] {
        let is_token = |c: &u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.iter().position(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    /// A quoted string without its quotes; none if it does not end.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut bytes = self.rest.iter().enumerate().skip(1);
        while let Some((at, c)) = bytes.next() {
            match c {
                b'"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Some(text);
                }
                b'\\' => text.extend(bytes.next().map(|(_, c)| *c)),
                c => text.push(*c),
            }
        }
        self.rest = &[];
        None
    }

    fn skip(&mut self, what: &[u8]) {
        while let [c, rest @ ..] = self.rest
            && what.contains(c)
        {
            self.rest = rest;
        }
    }

    /// To the next comma that stands in no quotes.
    fn skip_item(&mut self) {
        while let [c, rest @ ..] = self.rest {
            match c {
                b',' => return,
                b'"' => drop(self.quoted()),
                _ => self.rest = rest,
            }
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = (Cow<'a, str>, Option<Cow<'a, str>>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.skip(b" \t,");
            if self.rest.is_empty() {
                return None;
            }
            let name = self.token();
            let mut value = None;
            let mut is_sound = !name.is_empty();
            if let [b'=', rest @ ..] = self.rest {
                self.rest = rest;
                value = match self.rest.first() {
                    Some(b'"') => {
                        self.quoted().map(|text| String::from_utf8_lossy(&text).into_owned().into())
                    }
                    _ => Some(String::from_utf8_lossy(self.token())),
                };
                is_sound &= value.is_some();
            }
            self.skip(b" \t");
            // Rubbish behind the argument makes it none: `max-age=60;x` is no 60.
            if !matches!(self.rest.first(), None | Some(b',')) {
                value = value.map(|_| Cow::Borrowed(""));
                self.skip_item();
            }
            if is_sound {
                let name = String::from_utf8_lossy(name);
                let is_lower = !name.bytes().any(|c| c.is_ascii_uppercase());
                return Some((if is_lower { name } else { name.to_ascii_lowercase().into() }, value));
            }
        }
    }
}
