//! What the gateway tells an upstream about the client: `x-forwarded-for`, `-proto` and `-host`,
//! and RFC 7239's `forwarded`.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use std::net::IpAddr;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A list longer than this is not carried on: it says what this hop knows, no more.
const MAX_LIST: usize = 4096;

/// The hop from the client, or from the proxy before this one, to here.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The address at the other end of the connection.
    pub peer: IpAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The host that the client asked for, with its port if it named one.
    pub host: &'a [u8],
    /// Whether the peer is a trusted proxy, so that what it says of hops before it is passed on.
    pub believed: bool,
}

/// Replaces the forwarding fields of a request with what is true: what a trusted proxy said and this
/// hop after it, or this hop alone.
///
/// `forwarded` says whether the upstream gets RFC 7239's field too. Without belief, whoever calls has
/// taken out what [`tells_of_hops`].
pub fn apply(headers: &mut HeaderMap, hop: &Hop<'_>, forwarded: bool) {
    let forwarded_for = forwarded_for(headers, hop);
    let proto = proto(headers, hop);
    let host = host(headers, hop);
    let standard = forwarded.then(|| self::forwarded(headers, hop));
    let fields = [(FOR, forwarded_for), (PROTO, Some(proto)), (HOST, host)];
    let standard = standard.flatten().map(|value| (header::FORWARDED, Some(value)));
    for (name, value) in fields.into_iter().chain(standard) {
        match value {
            Some(value) => headers.insert(name, value),
            None => headers.remove(&name),
        };
    }
}

/// `x-forwarded-for`: the peer, after what it said if it is believed.
pub fn forwarded_for(incoming: &HeaderMap, hop: &Hop<'_>) -> Option<HeaderValue> {
    let mut list = believed_list(incoming, &FOR, hop);
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    address(&mut list, hop.peer.to_canonical());
    HeaderValue::from_maybe_shared(Bytes::from(list)).ok()
}

/// `x-forwarded-proto`: `http` or `https`, by which the client came.
pub fn proto(incoming: &HeaderMap, hop: &Hop<'_>) -> HeaderValue {
    let said = single(incoming, &PROTO, hop).map(HeaderValue::as_bytes);
    let tls = match said {
        Some(said) if said.eq_ignore_ascii_case(b"https") => true,
        Some(said) if said.eq_ignore_ascii_case(b"http") => false,
        _ => hop.tls,
    };
    HeaderValue::from_static(if tls { "https" } else { "http" })
}

/// `x-forwarded-host`: the host that the client asked for; `None` if there is none.
pub fn host(incoming: &HeaderMap, hop: &Hop<'_>) -> Option<HeaderValue> {
    let said = single(incoming, &HOST, hop).filter(|said| is_host(said.as_bytes()));
    said.cloned().or_else(|| HeaderValue::from_bytes(hop.host).ok().filter(|host| !host.is_empty()))
}

/// RFC 7239's `forwarded`: an element for this hop, after what the peer said if it is believed.
pub fn forwarded(incoming: &HeaderMap, hop: &Hop<'_>) -> Option<HeaderValue> {
    let mut list = believed_list(incoming, &header::FORWARDED, hop);
    let proto = if hop.tls { "https" } else { "http" };
    // A node that has a colon is a quoted string (section 4), an IPv6 address in brackets (section 6).
    match hop.peer.to_canonical() {
        IpAddr::V4(peer) => append(&mut list, format_args!("for={peer};proto={proto}")),
        IpAddr::V6(peer) => append(&mut list, format_args!("for=\"[{peer}]\";proto={proto}")),
    }
    if is_host(hop.host) {
        list.extend_from_slice(b";host=\"");
        list.extend_from_slice(hop.host);
        list.push(b'"');
    }
    HeaderValue::from_bytes(&list).ok()
}

fn believed_list(incoming: &HeaderMap, name: &HeaderName, hop: &Hop<'_>) -> Vec<u8> {
    let mut list = Vec::with_capacity(48);
    if !hop.believed {
        return list;
    }
    for value in incoming.get_all(name).iter().map(|value| value.as_bytes().trim_ascii()) {
        if list.len() + value.len() > MAX_LIST {
            return Vec::new();
        }
        if !list.is_empty() && !value.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value);
    }
    list
}

/// An address as text; by hand for IPv4, which `core::fmt` takes a while for.
fn address(list: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    list.push(b'.');
                }
                let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                let leading = if octet > 99 {
                    0
                } else if octet > 9 {
                    1
                } else {
                    2
                };
                list.extend_from_slice(&digits[leading..]);
            }
        }
        IpAddr::V6(address) => append_plain(list, format_args!("{address}")),
    }
}

fn append_plain(list: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let mut out = String::with_capacity(40);
    let _ = out.write_fmt(text);
    list.extend_from_slice(out.as_bytes());
}

fn append(list: &mut Vec<u8>, element: std::fmt::Arguments<'_>) {
    let mut text = String::with_capacity(64);
    if !list.is_empty() {
        text.push_str(", ");
    }
    let _ = text.write_fmt(element);
    list.extend_from_slice(text.as_bytes());
}

/// The value of a field that stands once, from a peer that is believed.
fn single<'a>(incoming: &'a HeaderMap, name: &HeaderName, hop: &Hop<'_>) -> Option<&'a HeaderValue> {
    if !hop.believed {
        return None;
    }
    let mut values = incoming.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// A host with what characters RFC 3986 gives it (section 3.2.2), a port included: nothing that ends
/// a quoted string or begins another element.
fn is_host(host: &[u8]) -> bool {
    let allowed = |c: &u8| c.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(c);
    !host.is_empty() && host.len() <= 512 && host.iter().all(allowed)
}

/// True for the fields that tell of hops before this one, which nobody is believed who is not trusted:
/// `x-forwarded-*`, `x-real-ip`, `forwarded`.
pub fn tells_of_hops(name: &HeaderName) -> bool {
    *name == header::FORWARDED || name.as_str().starts_with("x-forwarded-") || name.as_str() == "x-real-ip"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tell(headers: &mut HeaderMap, hop: &Hop<'_>, forwarded: bool) {
        let told: Vec<HeaderName> = headers.keys().filter(|name| tells_of_hops(name)).cloned().collect();
        told.iter().filter(|_| !hop.believed).for_each(|name| drop(headers.remove(name)));
        apply(headers, hop, forwarded);
    }

    fn hop(believed: bool) -> Hop<'static> {
        Hop { peer: IpAddr::from([192, 0, 2, 1]), tls: true, host: b"api.example.com", believed }
    }

    fn request(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    fn fields(request: &HeaderMap) -> Vec<(&str, &str)> {
        let mut fields: Vec<_> =
            request.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        fields.sort_unstable();
        fields
    }

    const SAID: &[(&str, &str)] = &[
        ("x-forwarded-for", "203.0.113.5"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example.com"),
        ("x-forwarded-port", "80"),
        ("x-real-ip", "203.0.113.5"),
        ("forwarded", "for=203.0.113.5"),
    ];

    #[test]
    fn a_stranger_is_not_believed() {
        let mut request = request(SAID);
        tell(&mut request, &hop(false), false);
        let expected = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "api.example.com"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(fields(&request), expected);
    }

    #[test]
    fn a_trusted_proxy_is_carried_on() {
        let mut request = request(SAID);
        tell(&mut request, &hop(true), true);
        let expected = [
            ("forwarded", "for=203.0.113.5, for=192.0.2.1;proto=https;host=\"api.example.com\""),
            ("x-forwarded-for", "203.0.113.5, 198.51.100.1, 192.0.2.1"),
            ("x-forwarded-host", "shop.example.com"),
            ("x-forwarded-port", "80"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "203.0.113.5"),
        ];
        assert_eq!(fields(&request), expected);
    }

    #[test]
    fn what_is_malformed_or_doubled_is_replaced() {
        let mut request = request(&[
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "a.example.com"),
            ("x-forwarded-host", "b.example.com"),
        ]);
        tell(&mut request, &hop(true), false);
        assert_eq!(request["x-forwarded-proto"], "https");
        assert_eq!(request["x-forwarded-host"], "api.example.com");
        assert_eq!(request.get_all("x-forwarded-host").iter().count(), 1);
    }

    #[test]
    fn an_address_of_version_6_is_quoted() {
        let hop = Hop { peer: "2001:db8::1".parse().unwrap(), tls: false, host: b"a\"b", believed: false };
        let value = forwarded(&HeaderMap::new(), &hop).unwrap();
        assert_eq!(value, "for=\"[2001:db8::1]\";proto=http");
        assert_eq!(forwarded_for(&HeaderMap::new(), &hop).unwrap(), "2001:db8::1");
    }

    #[test]
    fn a_list_without_end_is_cut_off() {
        let mut request = request(&[("x-forwarded-for", "198.51.100.1, ".repeat(400).as_str())]);
        tell(&mut request, &hop(true), false);
        assert_eq!(request["x-forwarded-for"], "192.0.2.1");
    }

    proptest! {
        #[test]
        fn the_last_hop_is_always_the_peer(said in proptest::collection::vec("[ -~]{0,40}", 0..4), believed: bool) {
            let mut request = request(&[]);
            for value in &said {
                request.append(FOR, value.parse().unwrap());
                request.append(header::FORWARDED, value.parse().unwrap());
            }
            tell(&mut request, &hop(believed), true);
            let list = request["x-forwarded-for"].to_str().unwrap();
            prop_assert_eq!(list.rsplit(", ").next(), Some("192.0.2.1"));
            prop_assert!(believed || list == "192.0.2.1");
            prop_assert!(request["forwarded"].to_str().unwrap().ends_with(";host=\"api.example.com\""));
        }
    }
}
