//! Whom a request is addressed to.

use http::header::HOST;
use pingora_http::RequestHeader;

/// The authority of a request as the client wrote it: `:authority` on HTTP/2, else the target's
/// own (absolute form), else `Host` (RFC 9110 section 7.2). Empty if there is none.
pub fn authority(head: &RequestHeader) -> &str {
    if let Some(authority) = head.uri.authority() {
        return authority.as_str();
    }
    head.headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The host of an authority, without its port: `[::1]:80` gives `[::1]`.
pub fn host(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// True for a host with an optional port that RFC 3986 section 3.2.2 allows: a name of
/// unreserved characters, sub-delimiters and escapes, or an IPv6 address in brackets.
pub fn is_valid(authority: &str) -> bool {
    let host_part = host(authority);
    let port = &authority[host_part.len()..];
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => digits.is_empty() || digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    if !port_fits || host_part.is_empty() || host_part.len() > 255 {
        return false;
    }
    if let Some(inner) = host_part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host_part.bytes().all(|c| IN_NAME[usize::from(c)])
}

/// The characters of a host that is a name, by a table: this is asked of each request.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%";
    let mut at = 0;
    while at < allowed.len() {
        table[allowed[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_without_ports() {
        for (authority, expected) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host(authority), expected, "{authority}");
        }
    }

    #[test]
    fn what_may_stand_in_a_host() {
        for good in ["a.example", "a.example:80", "a.example:", "[::1]:80", "127.0.0.1", "a_b", "x%20y"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a@b", "a/b", "a:80:90", "[::1", "a:99999", "[zz]", "a\u{e9}", "a?b", "a#b",
            "a\\b",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
