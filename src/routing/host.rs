//! Host names: as a route names them, and as a client sends them.

use crate::values::Problem;
use std::io::Write as _;
use std::net::Ipv6Addr;

/// Longer than any host name (RFC 1035 section 2.3.4: 253 characters without the last dot).
const BUFFER: usize = 256;

/// What a route says about the host, canonical: lower case, no port, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HostPattern {
    /// This one. An IPv6 address stands in brackets, in its shortest form.
    Exact(String),
    /// One label before this: `example.com` for `*.example.com`.
    Wildcard(String),
    /// Every host, and a request without one.
    Any,
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let shown: String = text.chars().take(60).collect();
        let wrong = |why: &str, remedy: &str| {
            Problem::new(format!("`{shown}` is not a host: {why}")).remedy(remedy.to_owned())
        };
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
            return address.map(|address| Self::Exact(format!("[{address}]"))).ok_or_else(|| {
                wrong("not an IPv6 address in brackets", "write it as `[2001:db8::1]`, without a port")
            });
        }
        if text == "*" {
            return Err(wrong("it stands for every host", "leave `hosts` out, which means the same"));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(wrong("an IPv6 address stands in brackets", "write it as `[2001:db8::1]`"));
        }
        if text.contains("://") || text.contains('/') {
            return Err(wrong("it is a URL", "write the host name alone, such as `api.example.com`"));
        }
        if text.contains(':') {
            return Err(wrong("it has a port", "leave the port out: it does not count for matching"));
        }
        if !text.is_ascii() {
            return Err(wrong("it is not ASCII", "write its A-label form, which begins with `xn--`"));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (wildcard, rest) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name.as_str()),
        };
        if rest.contains('*') {
            let remedy = "a wildcard is the whole first label, as in `*.example.com`";
            return Err(wrong("its `*` is in the wrong place", remedy));
        }
        let label_fits = |label: &str| {
            let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(allowed)
        };
        if name.len() > 253 || !rest.split('.').all(label_fits) {
            return Err(wrong(
                "its labels are not host name labels",
                "a host name is labels of 1 to 63 letters, digits, `-` or `_` with dots between them, \
                 253 characters at most",
            ));
        }
        Ok(if wildcard { Self::Wildcard(rest.to_owned()) } else { Self::Exact(name) })
    }
}

/// A place to put a host in that must be changed before it is looked up.
pub(super) struct HostBuffer([u8; BUFFER]);

impl HostBuffer {
    pub(super) const fn new() -> Self {
        Self([0; BUFFER])
    }

    /// The host as it is looked up: no port, no trailing dot, lower case; an IPv6 address in its
    /// shortest form. Empty if it is longer than any host name.
    pub(super) fn canonical<'b>(&'b mut self, host: &'b str) -> &'b str {
        if host.starts_with('[') {
            return self.canonical_ipv6(host);
        }
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name);
        if !name.bytes().any(|c| c.is_ascii_uppercase()) {
            return name;
        }
        let Some(lower) = self.0.get_mut(..name.len()) else {
            return "";
        };
        lower.copy_from_slice(name.as_bytes());
        lower.make_ascii_lowercase();
        std::str::from_utf8(lower).unwrap_or("")
    }

    fn canonical_ipv6(&mut self, host: &str) -> &str {
        let inside = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let address = inside.and_then(|(address, _)| address.parse::<Ipv6Addr>().ok());
        let Some(address) = address else {
            return "";
        };
        let mut free = &mut self.0[..];
        // The buffer is six times as long as the longest address.
        let written = write!(free, "[{address}]").map_or(0, |()| BUFFER - free.len());
        std::str::from_utf8(&self.0[..written]).unwrap_or("")
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    }
}
