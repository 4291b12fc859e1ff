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
    let bytes = authority.as_bytes();
    let name = bytes.iter().position(|c| !IN_NAME[usize::from(*c)]).unwrap_or(bytes.len());
    let host = match bytes.get(name) {
        None | Some(b':') => name,
        Some(b'[') if name == 0 => match authority.find(']') {
            Some(end) if authority[1..end].parse::<std::net::Ipv6Addr>().is_ok() => end + 1,
            _ => return false,
        },
        Some(_) => return false,
    };
    let port_fits = match authority[host..].strip_prefix(':') {
        // `parse` would take a sign.
        Some(digits) => {
            let all_digits = digits.bytes().all(|c| c.is_ascii_digit());
            digits.is_empty() || (all_digits && digits.parse::<u16>().is_ok())
        }
        None => host == bytes.len(),
    };
    port_fits && (1..=255).contains(&host)
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
            "", ":80", "a b", "a@b", "a/b", "a:80:90", "a:+80", "[::1]x", "[::1", "a:99999", "[zz]",
            "a\u{e9}", "a?b", "a#b", "a\\b",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
