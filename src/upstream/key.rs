//! What of a request decides about its endpoint.

use super::balance::stable_hash;
use crate::config::model::upstream::{Balance, HashKey, SameSite, StickyCookie};
use http::{HeaderName, HeaderValue};
use pingora_http::RequestHeader;
use std::net::IpAddr;

/// What of a request decides about its endpoint, if anything does.
#[derive(Debug)]
pub(super) enum Key {
    Nothing,
    Header(HeaderName),
    Cookie(String),
    ClientIp,
    Path,
    Sticky(Box<SetCookie>),
}

/// A request, as far as it decides about its endpoint.
pub struct Asking<'a> {
    /// Its head.
    pub head: &'a RequestHeader,
    /// Who sent it.
    pub client: IpAddr,
    /// Its normalised path, without the query.
    pub path: &'a str,
}

impl Key {
    pub(super) fn new(balance: &Balance) -> Self {
        match balance {
            Balance::RoundRobin | Balance::LeastRequest | Balance::PeakEwma | Balance::Random => {
                Self::Nothing
            }
            Balance::Hash(HashKey::Header(name)) => name.parse().map_or(Self::Nothing, Self::Header),
            Balance::Hash(HashKey::Cookie(name)) => Self::Cookie(name.clone()),
            Balance::Hash(HashKey::ClientIp) => Self::ClientIp,
            Balance::Hash(HashKey::Path) => Self::Path,
            Balance::Sticky(cookie) => Self::Sticky(Box::new(SetCookie::new(cookie))),
        }
    }

    /// A hash, or the id in a sticky cookie; none if the request has nothing of the kind.
    pub(super) fn hint(&self, asking: &Asking<'_>) -> Option<u64> {
        let value = match self {
            Self::Nothing => return None,
            Self::Header(name) => asking.head.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes),
            Self::Cookie(name) => cookie(asking.head, name).unwrap_or_default().as_bytes(),
            Self::ClientIp => {
                return Some(match asking.client.to_canonical() {
                    IpAddr::V4(address) => stable_hash(&address.octets()),
                    IpAddr::V6(address) => stable_hash(&address.octets()),
                });
            }
            Self::Path => asking.path.as_bytes(),
            Self::Sticky(set) => {
                let id = cookie(asking.head, &set.name).filter(|value| value.len() == 16)?;
                return u64::from_str_radix(id, 16).ok();
            }
        };
        (!value.is_empty()).then(|| stable_hash(value))
    }
}

/// The value of a cookie that a request brings.
fn cookie<'a>(head: &'a RequestHeader, name: &str) -> Option<&'a str> {
    let lines = head.headers.get_all(http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

/// A sticky cookie as it is set.
#[derive(Debug)]
pub(super) struct SetCookie {
    name: String,
    attributes: String,
    secure: Option<bool>,
}

impl SetCookie {
    fn new(cookie: &StickyCookie) -> Self {
        let mut attributes = format!("; Path={}", cookie.path);
        if let Some(domain) = &cookie.domain {
            attributes.push_str(&format!("; Domain={domain}"));
        }
        if let Some(age) = cookie.max_age {
            attributes.push_str(&format!("; Max-Age={}", age.get().as_secs()));
        }
        if cookie.http_only {
            attributes.push_str("; HttpOnly");
        }
        attributes.push_str(match cookie.same_site {
            SameSite::Lax => "; SameSite=Lax",
            SameSite::Strict => "; SameSite=Strict",
            SameSite::None => "; SameSite=None",
        });
        Self { name: cookie.cookie.clone(), attributes, secure: cookie.secure }
    }

    /// The field's value that keeps a client at the endpoint of this id.
    pub(super) fn value(&self, id: u64, over_tls: bool) -> Option<HeaderValue> {
        let secure = if self.secure.unwrap_or(over_tls) { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{}={id:016x}{}{secure}", self.name, self.attributes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(head: &RequestHeader) -> Asking<'_> {
        Asking { head, client: "192.0.2.7".parse().unwrap(), path: "/a" }
    }

    #[test]
    fn what_a_request_brings() {
        let mut head = RequestHeader::build("GET", b"/a?b", None).unwrap();
        head.insert_header("x-user", "alice").unwrap();
        head.insert_header("cookie", "a=1; who=alice; s=00000000000000ff; t=ff").unwrap();
        let hint = |yaml: &str| Key::new(&serde_saphyr::from_str(yaml).unwrap()).hint(&asking(&head));
        let alice = Some(stable_hash(b"alice"));
        for (balance, expected) in [
            ("round_robin", None),
            ("{ hash: { header: X-User } }", alice),
            ("{ hash: { header: x-none } }", None),
            ("{ hash: { cookie: who } }", alice),
            ("{ hash: { cookie: none } }", None),
            ("{ hash: client_ip }", Some(stable_hash(&[192, 0, 2, 7]))),
            ("{ hash: path }", Some(stable_hash(b"/a"))),
            ("{ sticky: { cookie: s } }", Some(255)),
            ("{ sticky: { cookie: t } }", None),
            ("{ sticky: { cookie: who } }", None),
        ] {
            assert_eq!(hint(balance), expected, "{balance}");
        }
    }

    #[test]
    fn the_cookie_as_it_is_set() {
        let set = |yaml: &str, tls| {
            let cookie: StickyCookie = serde_saphyr::from_str(yaml).unwrap();
            SetCookie::new(&cookie).value(255, tls).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(set("cookie: s", false), "s=00000000000000ff; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(set("cookie: s", true), "s=00000000000000ff; Path=/; HttpOnly; SameSite=Lax; Secure");
        let all = "{ cookie: s, max_age: 1h, path: /a, domain: example.com, secure: true, http_only: false, \
                   same_site: none }";
        assert_eq!(
            set(all, false),
            "s=00000000000000ff; Path=/a; Domain=example.com; Max-Age=3600; SameSite=None; Secure"
        );
    }
}
