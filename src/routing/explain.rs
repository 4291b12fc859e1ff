use super::alternative::Miss;
use super::host::HostBuffer;
use super::params::Captures;
use super::predicate::{Field, Predicate};
use super::trie::Visit;
use super::{Found, Query, Router};
use crate::message::method::Method;
use crate::values::RouteId;
use std::cmp::Reverse;
use std::fmt;

/// What a lookup looked at, and why it chose as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Every alternative for this host and path, in the order of precedence.
    pub considered: Vec<Considered>,
    /// What came out: always what [`Router::find`] says.
    pub found: Found,
}

/// One alternative of a route that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Whose it is.
    pub route: RouteId,
    /// Its place in the route's `match`.
    pub alternative: usize,
    /// The priority of the route.
    pub priority: i32,
    /// By what it holds for the host.
    pub host: HostMatch,
    /// What became of it.
    pub outcome: Outcome,
}

/// By what an alternative holds for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostMatch {
    /// It names the host.
    Exact,
    /// A wildcard of it does.
    Wildcard,
    /// It is for every host.
    Any,
}

/// What became of an alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the one.
    Chosen,
    /// It would have held, but another one comes first.
    Later,
    /// Its route is not on the listener.
    Listener,
    /// The path does not match its `path_regex`.
    PathRegex,
    /// It does not take the method.
    Method,
    /// A condition on this header field failed.
    Header(String),
    /// A condition on this query parameter failed.
    Query(String),
    /// A condition on this cookie failed.
    Cookie(String),
    /// The client is in none of its networks.
    Client,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen => f.write_str("chosen"),
            Self::Later => f.write_str("holds, but another one comes first"),
            Self::Listener => f.write_str("not on this listener"),
            Self::PathRegex => f.write_str("the path does not match its path_regex"),
            Self::Method => f.write_str("does not take this method"),
            Self::Header(name) => write!(f, "its condition on the header field `{name}` fails"),
            Self::Query(name) => write!(f, "its condition on the query parameter `{name}` fails"),
            Self::Cookie(name) => write!(f, "its condition on the cookie `{name}` fails"),
            Self::Client => f.write_str("the client is in none of its networks"),
        }
    }
}

impl From<Miss<'_>> for Outcome {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Listener => Self::Listener,
            Miss::Expression => Self::PathRegex,
            Miss::Method(_) => Self::Method,
            Miss::Predicate(Predicate::Client(_)) => Self::Client,
            Miss::Predicate(Predicate::Field(field, _)) => match field {
                Field::Header(name) => Self::Header(name.to_string()),
                Field::Query(name) => Self::Query(name.to_string()),
                Field::Cookie(name) => Self::Cookie(name.to_string()),
            },
        }
    }
}

impl Router {
    /// What [`Router::find`] does for this request, with all that it looks at or would look at.
    pub fn explain(&self, query: &Query) -> Explanation {
        let mut buffer = HostBuffer::new();
        let mut gathered = Vec::new();
        for (host_match, host) in self.hosts.candidates(buffer.canonical(query.host)) {
            let mut gather = Gather(Vec::new());
            self.walk(host, query.path, &mut gather);
            gathered.extend(gather.0.into_iter().map(|at| (host_match, &self.alternatives[at as usize])));
        }
        // Gathered by host and path: a stable sort puts the priority before both.
        gathered.sort_by_key(|(_, alternative)| Reverse(alternative.priority));

        let method = Method::new(query.method);
        let mut chosen = false;
        let considered = gathered.into_iter().map(|(host, alternative)| Considered {
            route: alternative.route,
            alternative: alternative.index as usize,
            priority: alternative.priority,
            host,
            outcome: match alternative.check(query, method) {
                Err(miss) => miss.into(),
                Ok(()) if std::mem::replace(&mut chosen, true) => Outcome::Later,
                Ok(()) => Outcome::Chosen,
            },
        });
        Explanation { considered: considered.collect(), found: self.find(query) }
    }
}

/// The visit of an explanation: all.
struct Gather(Vec<u32>);

impl Visit for Gather {
    fn wants(&self, _: i32) -> bool {
        true
    }

    fn leaf(&mut self, alternatives: &[u32], _: &Captures) {
        self.0.extend_from_slice(alternatives);
    }
}
