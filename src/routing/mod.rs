//! Which route a request is for: by host, path, method, listener and further conditions.
//!
//! [`Router::compile`] builds the tables and says what is wrong with the routes; [`Router::find`]
//! looks a request up. Precedence, the first difference decides:
//!
//! 1. `priority`, the higher one first;
//! 2. the host: exact, wildcard, any;
//! 3. the path, from the left, segment by segment: a literal before a parameter before a prefix
//!    (the end of the path is a literal); then `path_regex`;
//! 4. the number of other conditions, the larger one first: each header field, query parameter and
//!    cookie is one, `methods` is one, `client` is one. `on` is none.
//!
//! An alternative that fails at its listener, its conditions or its method makes way for the next.
//! Two that are equal in all of this and may hold for one request are an error, so the order of
//! lines never decides.

mod alternative;
mod compile;
mod conflict;
mod explain;
mod expression;
mod host;
mod params;
mod pattern;
mod predicate;
mod text;
mod trie;

#[cfg(test)]
mod tests;

pub use crate::message::method::Allowed;
pub use crate::message::params::{MAX_PARAMETERS, Params};
pub use compile::{Limits, RouteSpec, parameters};
pub use explain::{Considered, Explanation, HostMatch, Outcome};

use crate::message::method::Method;
use crate::values::{ListenerId, RouteId};
use ahash::RandomState;
use alternative::{Alternative, Miss};
use host::HostBuffer;
use params::Captures;
use std::collections::HashMap;
use std::net::IpAddr;
use trie::{Leaf, NodeId, Trie, Visit};

/// All routes of a configuration, compiled. Immutable.
#[derive(Debug)]
pub struct Router {
    alternatives: Vec<Alternative>,
    hosts: Hosts,
    trie: Trie,
}

/// A request, as far as routing looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Where it came in.
    pub listener: ListenerId,
    /// The host as the client sent it; port, case and a trailing dot do not count. Empty if it sent
    /// none.
    pub host: &'a str,
    /// The path as [`crate::message::normalize::normalize`] made it.
    pub path: &'a str,
    /// The method; for a CORS preflight the one that it asks about.
    pub method: &'a str,
    /// Header fields, cookies and the query.
    pub head: &'a pingora_http::RequestHeader,
    /// The client's address.
    pub client: IpAddr,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A route, and where its parameters stand.
    Route {
        /// Which.
        id: RouteId,
        /// Its parameters.
        params: Params,
    },
    /// Routes for this listener, host, path and conditions, none of which takes the method: 405.
    MethodNotAllowed(Allowed),
    /// Nothing: 404.
    NotFound,
}

/// The hosts that routes name.
#[derive(Debug)]
struct Hosts {
    exact: HashMap<Box<str>, Host, RandomState>,
    /// By what follows the first label.
    wildcard: HashMap<Box<str>, Host, RandomState>,
    any: Option<Host>,
}

#[derive(Clone, Copy, Debug)]
struct Host {
    root: NodeId,
    /// Those with a `path_regex`, best first.
    expressions: Leaf,
}

impl Hosts {
    /// Those that hold for a canonical host, in the order of precedence.
    fn candidates(&self, name: &str) -> impl Iterator<Item = (HostMatch, Host)> {
        let exact = self.exact.get(name).map(|host| (HostMatch::Exact, *host));
        // Most gateways have no wildcard: they do not look for the dot.
        let rest = if self.wildcard.is_empty() { None } else { name.split_once('.') };
        let wildcard = rest
            .filter(|(label, _)| !label.is_empty())
            .and_then(|(_, rest)| self.wildcard.get(rest))
            .map(|host| (HostMatch::Wildcard, *host));
        let any = self.any.map(|host| (HostMatch::Any, host));
        exact.into_iter().chain(wildcard).chain(any)
    }
}

impl Router {
    /// The route for a request. Allocates nothing, save for a `path_regex` with parameters, for a
    /// condition on a field that came in several lines, for a regular expression on a query with
    /// escapes, and for a 405 with methods that are not well known.
    pub fn find(&self, query: &Query) -> Found {
        let mut search = Search {
            router: self,
            query,
            method: Method::new(query.method),
            floor: i64::MIN,
            best: None,
            params: Params::NONE,
            allowed: Allowed::default(),
        };
        let mut buffer = HostBuffer::new();
        for (_, host) in self.hosts.candidates(buffer.canonical(query.host)) {
            self.walk(host, query.path, &mut search);
        }
        search.finish()
    }

    /// Visits what holds for the path on one host.
    fn walk(&self, host: Host, path: &str, visit: &mut impl Visit) {
        self.trie.walk(host.root, path, visit);
        visit.leaf(self.trie.get(&host.expressions), &Captures::new());
    }
}

/// The visit of a lookup: the first one that holds, unless a later one has a higher priority.
struct Search<'r, 'q> {
    router: &'r Router,
    query: &'q Query<'q>,
    method: Method<'q>,
    /// The priority of the best one so far; below all priorities at first.
    floor: i64,
    best: Option<RouteId>,
    params: Params,
    allowed: Allowed,
}

impl Visit for Search<'_, '_> {
    fn wants(&self, top: i32) -> bool {
        i64::from(top) > self.floor
    }

    fn leaf(&mut self, alternatives: &[u32], captures: &Captures) {
        for at in alternatives {
            let alternative = &self.router.alternatives[*at as usize];
            if !self.wants(alternative.priority) {
                return;
            }
            match alternative.check(self.query, self.method) {
                Ok(()) => {
                    self.floor = i64::from(alternative.priority);
                    self.best = Some(alternative.route);
                    self.params = alternative.params(self.query.path, captures);
                    return;
                }
                Err(Miss::Method(methods)) => self.allowed.add(methods),
                Err(Miss::Listener | Miss::Predicate(_) | Miss::Expression) => {}
            }
        }
    }
}

impl Search<'_, '_> {
    fn finish(self) -> Found {
        match self.best {
            Some(id) => Found::Route { id, params: self.params },
            None if self.allowed.is_empty() => Found::NotFound,
            None => Found::MethodNotAllowed(self.allowed),
        }
    }
}
