//! Methods as sets: one bit for each well-known one.

use crate::values::Problem;
use http::HeaderValue;
use std::fmt;

/// In the order of the alphabet, which is the order of an `Allow` field.
const KNOWN: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
const GET: u16 = 1 << 2;
const HEAD: u16 = 1 << 3;

/// A request's method, looked up once.
#[derive(Clone, Copy, Debug)]
pub struct Method<'q> {
    bit: u16,
    name: &'q str,
}

impl<'q> Method<'q> {
    /// Looks it up.
    pub fn new(name: &'q str) -> Self {
        let bit = match name {
            "GET" => GET,
            "HEAD" => HEAD,
            _ => KNOWN.iter().position(|known| *known == name).map_or(0, |at| 1 << at),
        };
        Self { bit, name }
    }
}

/// The methods that a route takes. GET brings HEAD with it (RFC 9110 section 9.3.2), as with nginx
/// and Envoy; nothing brings OPTIONS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodSet {
    /// Named by the route.
    named: u16,
    /// Those, and HEAD where there is GET.
    taken: u16,
    /// Sorted.
    others: Vec<Box<str>>,
}

impl MethodSet {
    /// Adds one.
    ///
    /// # Errors
    /// It is no method.
    pub fn add(&mut self, method: &str) -> Result<(), Problem> {
        if let Some(known) = KNOWN.iter().position(|known| *known == method) {
            self.named |= 1 << known;
            self.taken |= self.named;
            if self.named & GET != 0 {
                self.taken |= HEAD;
            }
            return Ok(());
        }
        let shown: String = method.chars().take(40).collect();
        if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(method)) {
            let upper = method.to_ascii_uppercase();
            return Err(Problem::new(format!("`{shown}` is not a method: case counts"))
                .remedy(format!("write `{upper}`")));
        }
        if http::Method::from_bytes(method.as_bytes()).is_err() {
            return Err(Problem::new(format!("`{shown}` is not a method"))
                .remedy("a method is a word such as `GET`, without spaces"));
        }
        if let Err(at) = self.others.binary_search_by(|other| (**other).cmp(method)) {
            self.others.insert(at, method.into());
        }
        Ok(())
    }

    /// True if this method is taken.
    pub fn contains(&self, method: Method) -> bool {
        if method.bit != 0 { self.taken & method.bit != 0 } else { self.has_other(method.name) }
    }

    fn has_other(&self, name: &str) -> bool {
        self.others.iter().any(|other| **other == *name)
    }

    /// True if HEAD is one of them by name: it then comes before a GET that brings HEAD along.
    pub const fn names_head(&self) -> bool {
        self.named & HEAD != 0
    }

    /// True if some method is named by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.named & other.named != 0 || self.others.iter().any(|name| other.has_other(name))
    }

    /// True if it takes all that `other` takes.
    pub fn covers(&self, other: &Self) -> bool {
        other.taken & !self.taken == 0 && other.others.iter().all(|name| self.has_other(name))
    }
}

/// Those that are named.
impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = KNOWN.iter().enumerate().filter(|(at, _)| self.named & (1 << at) != 0);
        let names: Vec<&str> =
            known.map(|(_, name)| *name).chain(self.others.iter().map(|name| &**name)).collect();
        f.write_str(&names.join(", "))
    }
}

/// What a 405 allows: the methods of all routes that would have taken the request with another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(MethodSet);

impl Allowed {
    /// Adds what a route takes.
    pub fn add(&mut self, methods: &MethodSet) {
        self.0.taken |= methods.taken;
        for other in &methods.others {
            if let Err(at) = self.0.others.binary_search(other) {
                self.0.others.insert(at, other.clone());
            }
        }
    }

    /// True if there is none: nothing matched.
    pub fn is_empty(&self) -> bool {
        self.0.taken == 0 && self.0.others.is_empty()
    }

    /// The methods, sorted.
    pub fn methods(&self) -> Vec<&str> {
        let known = KNOWN.iter().enumerate().filter(|(at, _)| self.0.taken & (1 << at) != 0);
        let others = self.0.others.iter().map(|other| &**other);
        let mut methods: Vec<&str> = known.map(|(_, name)| *name).chain(others).collect();
        methods.sort_unstable();
        methods
    }

    /// The value of the `Allow` field (RFC 9110 section 10.2.1).
    pub fn header_value(&self) -> HeaderValue {
        // A method is a token, and tokens are fine in a field value.
        HeaderValue::from_str(&self.to_string()).unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.methods().join(", "))
    }
}
