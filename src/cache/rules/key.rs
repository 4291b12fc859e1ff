//! The key of what is kept (RFC 9111 section 2): the URL that a client asks for, and whatever else decides
//! about the answer. Two requests with one key get one answer, so that what is not in it must not matter.

use super::vary;
use crate::policy::cache::{Query, Settings};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use std::borrow::Cow;

/// A request, as far as it decides about the key.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The authority that was asked for.
    pub authority: &'a str,
    /// The normalised path.
    pub path: &'a str,
    /// The query, without its question mark.
    pub query: Option<&'a str>,
    /// The client's fields.
    pub headers: &'a HeaderMap,
    /// Whose it is, and by which rules it is answered: the tenant, the route.
    pub realm: [&'a str; 2],
    /// Who calls, where callers have keys of their own.
    pub caller: Option<&'a str>,
}

/// A key. It begins with the URL; no two different lists of parts give one text, since none of them can
/// hold a line break.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    text: Box<str>,
    url: u32,
}

impl Key {
    /// The key of a request. `edits` are what policies set on it, which the upstream sees.
    pub fn new<'e>(
        parts: &Parts<'_>,
        edits: impl Iterator<Item = (&'e str, &'e [u8])>,
        settings: &Settings,
    ) -> Self {
        let query = query(parts.query, &settings.query);
        let [tenant, route] = parts.realm;
        // Most keys are no longer than this, and so are made in one piece.
        let length = parts.scheme.len() + parts.authority.len() + parts.path.len() + "://\n\n".len();
        let length = length + query.as_ref().map_or(0, |query| query.len() + 1) + tenant.len() + route.len();
        let mut text = String::with_capacity(length);
        push_url(&mut text, (parts.scheme, parts.authority), parts.path, query.as_deref());
        let url = u32::try_from(text.len()).unwrap_or(u32::MAX);
        for part in parts.realm {
            text.push('\n');
            text.push_str(part);
        }
        if settings.by_caller {
            line(&mut text, "caller", parts.caller.map(str::as_bytes));
        }
        let mut value = Vec::new();
        for name in &settings.vary_on {
            value.clear();
            vary::normalised(name, parts.headers, &mut value);
            line(&mut text, name.as_str(), parts.headers.contains_key(name).then_some(&value));
        }
        for name in &settings.cookies {
            line(&mut text, name, cookie(parts.headers, name).as_deref());
        }
        for (name, value) in edits {
            line(&mut text, name, Some(value));
        }
        Self { text: text.into(), url }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL that it begins with.
    pub fn url(&self) -> &str {
        self.text.get(..self.url as usize).unwrap_or_default()
    }

    /// The key of a text that [`Self::as_str`] gave; none if it is no key.
    pub fn from_text(text: &str) -> Option<Self> {
        let url = u32::try_from(text.find('\n')?).ok()?;
        Some(Self { text: text.into(), url })
    }
}

/// Appends a line that says of a part what it is, or that it is not there.
fn line(text: &mut String, name: &str, value: Option<&[u8]>) {
    text.push('\n');
    text.push_str(name);
    let Some(value) = value else { return };
    text.push('=');
    for c in value {
        // Text stays text, and a line stays one line.
        match c {
            b' '..=b'~' if *c != b'\\' => text.push(char::from(*c)),
            _ => text.push_str(&format!("\\{c:02x}")),
        }
    }
}

/// A URL as keys have it: host in lower case, without the port that its scheme has anyway.
pub fn url(scheme: &str, authority: &str, path: &str, query: Option<&str>) -> String {
    let mut url = String::with_capacity(scheme.len() + authority.len() + path.len() + 64);
    push_url(&mut url, (scheme, authority), path, query);
    url
}

fn push_url(text: &mut String, (scheme, authority): (&str, &str), path: &str, query: Option<&str>) {
    text.push_str(scheme);
    text.push_str("://");
    push_authority(text, scheme, authority);
    text.push_str(path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
}

/// An authority as keys have it, and as whoever fetches for all has to name it: what an upstream makes of
/// other ways to write it would be for all as well.
pub fn push_authority(text: &mut String, scheme: &str, authority: &str) {
    let default = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(default).unwrap_or(authority);
    let (host, port) = match authority.rfind(':') {
        Some(at) if !authority.ends_with(']') => authority.split_at(at),
        _ => (authority, ""),
    };
    let from = text.len();
    text.push_str(host.trim_end_matches('.'));
    text.push_str(port);
    if let Some(added) = text.get_mut(from..) {
        added.make_ascii_lowercase();
    }
}

/// What of a query counts, and so what of it goes upstream when something is fetched for all.
pub fn query<'a>(query: Option<&'a str>, rule: &Query) -> Option<Cow<'a, str>> {
    let query = query?;
    let kept = |wanted: &dyn Fn(&str) -> bool| {
        let mut pairs: Vec<&str> =
            query.split('&').filter(|pair| wanted(pair.split('=').next().unwrap_or_default())).collect();
        pairs.sort_by_key(|pair| pair.split('=').next().unwrap_or_default());
        let joined = pairs.join("&");
        (!joined.is_empty()).then_some(Cow::Owned(joined))
    };
    // Names are compared as they are written: what is spelt differently may mean something else upstream.
    match rule {
        Query::All => Some(Cow::Borrowed(query)),
        Query::Sorted => kept(&|_| true),
        Query::Keep(names) => kept(&|name| names.iter().any(|known| **known == *name)),
        Query::Drop(names) => kept(&|name| !names.iter().any(|known| **known == *name)),
    }
}

/// The values of all cookies of a name: which of them counts is for the upstream to say, and some take the last.
fn cookie(headers: &HeaderMap, name: &str) -> Option<Vec<u8>> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|c| *c == b';')).map(<[u8]>::trim_ascii);
    let values: Vec<&[u8]> = pairs
        .filter_map(|pair| {
            let (known, value) = pair.split_at_checked(pair.iter().position(|c| *c == b'=')?)?;
            (known.trim_ascii_end() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default())
        })
        .collect();
    // No value can hold what they are joined by.
    (!values.is_empty()).then(|| values.join(&b';'))
}
