//! Conditions on header fields, query parameters, cookies and the client's address.

use super::Query;
use super::expression::Expression;
use crate::config::model::route::Condition;
use crate::values::{Network, Problem};
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;
use std::borrow::Cow;
use std::net::IpAddr;

/// One condition beyond host, path and method.
#[derive(Clone, Debug)]
pub(super) enum Predicate {
    Client(Box<[Network]>),
    Field(Field, Test),
}

/// Where the value of a [`Test`] stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Several lines of one field count as one value with `, ` between them (RFC 9110 section 5.3).
    Header(HeaderName),
    /// The first parameter of this name, both decoded as a form is (`+` is a space).
    Query(Box<str>),
    /// The first cookie of this name.
    Cookie(Box<str>),
}

/// What the value must be.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Expression),
    Present(bool),
}

impl Predicate {
    pub(super) fn header(name: &str, condition: &Condition) -> Result<Self, Problem> {
        let shown: String = name.chars().take(60).collect();
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            Problem::new(format!("`{shown}` is not a header field's name"))
                .remedy("a name is letters, digits and `-`, such as `x-channel`")
        })?;
        Ok(Self::Field(Field::Header(name), Test::new(condition)?))
    }

    pub(super) fn query(name: &str, condition: &Condition) -> Result<Self, Problem> {
        if name.is_empty() {
            return Err(Problem::new("a query parameter has no name").remedy("write its name as the key"));
        }
        Ok(Self::Field(Field::Query(name.into()), Test::new(condition)?))
    }

    pub(super) fn cookie(name: &str, condition: &Condition) -> Result<Self, Problem> {
        // A cookie's name is a token as a header field's is (RFC 6265 section 4.1.1).
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let shown: String = name.chars().take(60).collect();
            return Err(Problem::new(format!("`{shown}` is not a cookie's name"))
                .remedy("a name has no spaces, `=`, `;`, `,` or quotes"));
        }
        Ok(Self::Field(Field::Cookie(name.into()), Test::new(condition)?))
    }

    pub(super) fn holds(&self, query: &Query) -> bool {
        match self {
            Self::Client(networks) => contains(networks, query.client),
            Self::Field(Field::Header(name), test) => test.header(&query.head.headers, name),
            Self::Field(Field::Query(name), test) => test.query(query.head.uri.query(), name),
            Self::Field(Field::Cookie(name), test) => test.value(cookie(&query.head.headers, name)),
        }
    }

    /// True if no request can fulfil both. False says nothing.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Client(these), Self::Client(others)) => {
                !these.iter().any(|a| others.iter().any(|b| covers(a, b) || covers(b, a)))
            }
            (Self::Field(field, test), Self::Field(other_field, other)) => {
                field == other_field && (test.excludes(other) || other.excludes(test))
            }
            _ => false,
        }
    }

    /// True if every request that fulfils this fulfils `other`. False says nothing.
    pub(super) fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Client(these), Self::Client(others)) => {
                these.iter().all(|inner| others.iter().any(|outer| covers(outer, inner)))
            }
            (Self::Field(field, test), Self::Field(other_field, other)) => {
                field == other_field && test.implies(other)
            }
            _ => false,
        }
    }
}

impl Test {
    fn new(condition: &Condition) -> Result<Self, Problem> {
        Ok(match condition {
            Condition::Exact(text) => Self::Exact(text.as_str().into()),
            Condition::Prefix(text) => Self::Prefix(text.as_str().into()),
            Condition::Regex(text) => Self::Regex(Expression::new(text)?),
            Condition::Present(is) => Self::Present(*is),
        })
    }

    fn value(&self, value: Option<&[u8]>) -> bool {
        match (self, value) {
            (Self::Present(wanted), value) => *wanted == value.is_some(),
            (_, None) => false,
            (Self::Exact(text), Some(value)) => text.as_bytes() == value,
            (Self::Prefix(text), Some(value)) => value.starts_with(text.as_bytes()),
            (Self::Regex(expression), Some(value)) => expression.matches(value),
        }
    }

    fn header(&self, headers: &HeaderMap<HeaderValue>, name: &HeaderName) -> bool {
        let mut lines = headers.get_all(name).iter();
        let first = lines.next();
        if lines.next().is_none() || matches!(self, Self::Present(_)) {
            return self.value(first.map(HeaderValue::as_bytes));
        }
        // Several lines are rare: to join them is the one place where a lookup allocates.
        let joined: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        self.value(Some(&joined.join(&b", "[..])))
    }

    fn query(&self, query: Option<&str>, name: &str) -> bool {
        let Some(value) = query.and_then(|query| query_value(query, name)) else {
            return self.value(None);
        };
        match self {
            Self::Present(wanted) => *wanted,
            Self::Exact(text) => form_decode(value).eq(text.bytes()),
            Self::Prefix(text) => {
                let mut decoded = form_decode(value);
                text.bytes().all(|byte| decoded.next() == Some(byte))
            }
            Self::Regex(expression) if !value.contains(['%', '+']) => expression.matches(value.as_bytes()),
            Self::Regex(expression) => {
                let spaces = value.replace('+', " ");
                expression.matches(&Cow::from(percent_decode(spaces.as_bytes())))
            }
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Present(false),
                Self::Present(true) | Self::Exact(_) | Self::Prefix(_) | Self::Regex(_),
            ) => true,
            (Self::Exact(a), Self::Exact(b)) => a != b,
            (Self::Exact(text), Self::Prefix(prefix)) => !text.starts_with(&**prefix),
            (Self::Exact(text), Self::Regex(expression)) => !expression.matches(text.as_bytes()),
            (Self::Prefix(a), Self::Prefix(b)) => !a.starts_with(&**b) && !b.starts_with(&**a),
            (Self::Regex(a), Self::Regex(b)) => a.excludes(b),
            _ => false,
        }
    }

    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present(a), Self::Present(b)) => a == b,
            (Self::Present(_), _) | (_, Self::Present(false)) => false,
            (_, Self::Present(true)) => true,
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(text) | Self::Prefix(text), Self::Prefix(prefix)) => text.starts_with(&**prefix),
            (Self::Exact(text), Self::Regex(expression)) => expression.matches(text.as_bytes()),
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

fn contains(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

fn covers(outer: &Network, inner: &Network) -> bool {
    outer.get().contains(&inner.get())
}

/// The value, not decoded, of the first parameter of this name, which is compared decoded.
fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| form_decode(key).eq(name.bytes()))
        .map(|(_, value)| value)
}

/// Decodes what a form wrote, byte by byte; a broken escape stays as it is. A `+` that was escaped
/// is a `+`: spaces are made before escapes are decoded.
fn form_decode(text: &str) -> impl Iterator<Item = u8> {
    text.split('+').enumerate().flat_map(|(at, part)| {
        let space = (at > 0).then_some(b' ');
        space.into_iter().chain(percent_decode(part.as_bytes()))
    })
}

/// The value of the first cookie of this name. HTTP/2 may spread cookies over several lines.
fn cookie<'h>(headers: &'h HeaderMap<HeaderValue>, name: &str) -> Option<&'h [u8]> {
    headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).find_map(
        |pair| {
            let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
            rest.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii)
        },
    )
}
