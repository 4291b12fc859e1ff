//! The token that a request presents, and where.

use crate::message::cookies;
use crate::values::{ConfigPath, Finding, Problem};
use http::HeaderName;
use http::header::AUTHORIZATION;
use pingora_http::RequestHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A place in a request that may hold a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenPlace {
    /// The field `authorization` with the scheme `Bearer` (RFC 6750, section 2.1).
    Bearer,
    /// Another header field.
    Header(HeaderPlace),
    /// The cookie of this name.
    Cookie(String),
    /// The query parameter of this name. URLs end up in logs and histories: prefer any other place.
    Query(String),
}

/// A header field that holds a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderPlace {
    /// The field's name.
    pub name: String,
    /// What stands before the token, with a space between. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
}

/// Where tokens are by default.
pub fn bearer() -> Vec<TokenPlace> {
    vec![TokenPlace::Bearer]
}

/// Where a token is looked for, compiled.
#[derive(Debug)]
pub struct Places(Box<[Place]>);

/// A place, compiled.
#[derive(Debug)]
pub enum Place {
    /// A header field, and the scheme before the token.
    Header(HeaderName, Option<Box<str>>),
    /// A cookie.
    Cookie(Box<str>),
    /// A query parameter.
    Query(Box<str>),
}

/// What a request presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No token.
    Nothing,
    /// One.
    Token(Cow<'a, str>),
    /// Several, or what cannot be one: which of them was meant, nobody knows (RFC 6750, section 2).
    Ambiguous,
}

impl<'a> Presented<'a> {
    fn and(self, token: Option<Cow<'a, str>>) -> Self {
        match (self, token) {
            (Self::Nothing, Some(token)) => Self::Token(token),
            _ => Self::Ambiguous,
        }
    }
}

impl Places {
    /// The places.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    /// Compiles places; what is wrong has paths from their list.
    ///
    /// # Errors
    /// Names that are none, and a list that is empty.
    pub fn compile(places: &[TokenPlace]) -> Result<Self, Vec<Finding>> {
        if places.is_empty() {
            let problem = Problem::new("it says nowhere where the token is").remedy("write `[bearer]`");
            return Err(vec![Finding::error(ConfigPath::root(), problem)]);
        }
        let mut found = Vec::new();
        let mut compiled = Vec::with_capacity(places.len());
        for (index, place) in places.iter().enumerate() {
            match compile(place) {
                Ok(place) => compiled.push(place),
                Err(problem) => found.push(Finding::error(ConfigPath::root().index(index), problem)),
            }
        }
        if found.is_empty() { Ok(Self(compiled.into())) } else { Err(found) }
    }

    /// The token that a request presents.
    pub fn find<'h>(&self, head: &'h RequestHeader) -> Presented<'h> {
        let mut presented = Presented::Nothing;
        for place in &self.0 {
            match place {
                Place::Header(name, scheme) => {
                    for value in head.headers.get_all(name) {
                        match (value.to_str(), scheme) {
                            (Ok(value), None) => presented = presented.and(Some(Cow::Borrowed(value))),
                            (Ok(value), Some(scheme)) => {
                                if let Some(token) = after_scheme(value, scheme) {
                                    presented = presented.and(Some(Cow::Borrowed(token)));
                                }
                            }
                            (Err(_), _) => presented = presented.and(None),
                        }
                    }
                }
                Place::Cookie(name) => {
                    let values = cookies::pairs(&head.headers).filter(|(key, _)| *key == name.as_bytes());
                    for (_, value) in values {
                        presented = presented.and(std::str::from_utf8(value).ok().map(Cow::Borrowed));
                    }
                }
                Place::Query(name) => {
                    let pairs = head.uri.query().map(|query| url::form_urlencoded::parse(query.as_bytes()));
                    for (_, value) in pairs.into_iter().flatten().filter(|(key, _)| key == &**name) {
                        presented = presented.and(Some(value));
                    }
                }
            }
        }
        presented
    }

    /// True if `authorization` with the scheme `Bearer` is one of the places.
    pub fn has_bearer(&self) -> bool {
        let is_bearer = |place: &Place| matches!(place, Place::Header(name, Some(scheme)) if name == AUTHORIZATION && scheme.eq_ignore_ascii_case("bearer"));
        self.0.iter().any(is_bearer)
    }
}

fn compile(place: &TokenPlace) -> Result<Place, Problem> {
    let shown = |name: &str| name.chars().take(40).collect::<String>();
    let field = |name: &str| {
        HeaderName::try_from(name).map_err(|_| {
            Problem::new(format!("{:?} is not a name", shown(name)))
                .remedy("use letters, digits and hyphens, such as `x-token`")
        })
    };
    match place {
        TokenPlace::Bearer => Ok(Place::Header(AUTHORIZATION, Some("Bearer".into()))),
        TokenPlace::Header(place) => {
            let scheme = place.scheme.as_deref();
            // A scheme is a token, as a field's name is (RFC 9110, section 11.1).
            if let Some(scheme) = scheme {
                field(scheme)?;
            }
            Ok(Place::Header(field(&place.name)?, scheme.map(Into::into)))
        }
        // So is the name of a cookie (RFC 6265, section 4.1.1).
        TokenPlace::Cookie(name) => field(name).map(|_| Place::Cookie(name.as_str().into())),
        TokenPlace::Query(name) if name.is_empty() => {
            Err(Problem::new("the parameter has no name").remedy("write one, such as `access_token`"))
        }
        TokenPlace::Query(name) => Ok(Place::Query(name.as_str().into())),
    }
}

/// What follows a scheme and its spaces; the scheme's case does not count (RFC 9110, section 11.1). None
/// for another scheme.
pub fn after_scheme<'v>(value: &'v str, scheme: &str) -> Option<&'v str> {
    let (said, rest) = value.split_once(' ').unwrap_or((value, ""));
    said.eq_ignore_ascii_case(scheme).then(|| rest.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn everywhere() -> Places {
        let scheme = |scheme: &str| Some(scheme.to_owned());
        Places::compile(&[
            TokenPlace::Bearer,
            TokenPlace::Header(HeaderPlace { name: "x-token".to_owned(), scheme: None }),
            TokenPlace::Header(HeaderPlace { name: "x-auth".to_owned(), scheme: scheme("Token") }),
            TokenPlace::Cookie("session".to_owned()),
            TokenPlace::Query("access_token".to_owned()),
        ])
        .unwrap()
    }

    #[test]
    fn tokens_are_found_where_they_are_looked_for() {
        let places = everywhere();
        let token = |token: &'static str| Presented::Token(token.into());
        for (target, fields, presented) in [
            ("/", &[][..], Presented::Nothing),
            ("/", &[("authorization", "Bearer abc")], token("abc")),
            ("/", &[("authorization", "bearer   abc")], token("abc")),
            ("/", &[("authorization", "Bearer")], token("")),
            ("/", &[("authorization", "Bearer ")], token("")),
            ("/", &[("authorization", "Basic abc")], Presented::Nothing),
            ("/", &[("authorization", "Bearerabc")], Presented::Nothing),
            ("/", &[("x-token", "abc")], token("abc")),
            ("/", &[("x-auth", "Token abc")], token("abc")),
            ("/", &[("x-auth", "abc")], Presented::Nothing),
            ("/", &[("cookie", "a=1; session=abc")], token("abc")),
            ("/?a=1&access_token=a%62c", &[], token("abc")),
            ("/?access_token=abc&access_token=abd", &[], Presented::Ambiguous),
            ("/?access_token=abc", &[("x-token", "abc")], Presented::Ambiguous),
            ("/", &[("authorization", "Bearer abc"), ("authorization", "Bearer abc")], Presented::Ambiguous),
            ("/", &[("authorization", "Bearer abc"), ("authorization", "Basic abc")], token("abc")),
            ("/", &[("cookie", "session=a; session=b")], Presented::Ambiguous),
        ] {
            assert_eq!(places.find(&request(target, fields)), presented, "{target} {fields:?}");
        }
    }

    #[test]
    fn names_that_are_none_are_told() {
        let header = |name: &str, scheme: Option<&str>| {
            TokenPlace::Header(HeaderPlace { name: name.to_owned(), scheme: scheme.map(str::to_owned) })
        };
        for place in [
            header("", None),
            header("x token", None),
            header("x-token", Some("")),
            header("x-token", Some("a b")),
            TokenPlace::Cookie("a=b".to_owned()),
            TokenPlace::Query(String::new()),
        ] {
            assert_eq!(
                Places::compile(&[TokenPlace::Bearer, place.clone()]).unwrap_err().len(),
                1,
                "{place:?}"
            );
        }
        assert!(Places::compile(&[]).is_err());
        assert!(everywhere().has_bearer());
    }
}
