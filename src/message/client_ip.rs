//! Who the client is, behind proxies that are believed.

use std::net::{IpAddr, SocketAddr};

/// More hops than this nobody has; what is left of them is not looked at.
const MAX_HOPS: usize = 64;

/// The client's address: the last one, seen from here, that no trusted proxy stands for.
///
/// `forwarded_for` are the values of `x-forwarded-for`, in the order in which they came. They are
/// read from the right, the nearest hop first, as long as the hop that wrote them is trusted. What
/// is no address ends the search: the nearest hop before it is the answer. IPv4 addresses inside
/// IPv6 ones come out as IPv4.
pub fn client_address<'a>(
    peer: IpAddr,
    forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusted(client) {
        return client;
    }
    let hops = forwarded_for.rev().flat_map(|value| value.rsplit(|c| *c == b','));
    // An empty list element says nothing (RFC 9110 section 5.6.1.2), but counts as work.
    for hop in hops.take(MAX_HOPS).map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
        let Some(address) = parse(hop) else { return client };
        client = address;
        if !trusted(client) {
            return client;
        }
    }
    client
}

/// An address, with a port or without, IPv6 in brackets or without.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?;
    let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match unbracketed {
        Some(inside) => IpAddr::V6(inside.parse().ok()?),
        None => text.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip())).ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted(address: IpAddr) -> bool {
        address.to_string().starts_with("10.") || address.to_string() == "2001:db8::1"
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        client_address(peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes()), trusted).to_string()
    }

    #[test]
    fn the_walk_ends_at_the_first_hop_that_is_not_trusted() {
        let table: &[(&str, &[&str], &str)] = &[
            ("192.0.2.9", &["198.51.100.1"], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.66, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.66, 198.51.100.1 ,10.0.0.2\t, 10.0.0.3"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.66", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1,,", ""], "198.51.100.1"),
        ];
        for (peer, lines, expected) in table {
            assert_eq!(client(peer, lines), *expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn ports_and_brackets_are_no_part_of_an_address() {
        let table = [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
        ];
        for (hop, expected) in table {
            assert_eq!(client("10.0.0.1", &[hop]), expected, "{hop}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for garbage in ["unknown", "_hidden", "300.1.1.1", "[198.51.100.1]", "198.51.100.1:", "fe80::1%eth0"]
        {
            let line = format!("198.51.100.1, {garbage}, 10.0.0.2");
            assert_eq!(client("10.0.0.1", &[&line]), "10.0.0.2", "{garbage}");
        }
    }

    #[test]
    fn an_endless_list_is_not_read_to_its_end() {
        let line = format!("198.51.100.1{}", ", 10.0.0.2".repeat(MAX_HOPS));
        assert_eq!(client("10.0.0.1", &[&line]), "10.0.0.2");
        let line = format!("198.51.100.1{}", ",".repeat(MAX_HOPS));
        assert_eq!(client("10.0.0.1", &[&line]), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_address(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..4), all: bool) {
            let peer = IpAddr::from([10, 0, 0, 1]);
            let found = client_address(peer, lines.iter().map(Vec::as_slice), |_| all);
            prop_assert!(all || found == peer);
        }

        #[test]
        fn the_client_is_trusted_only_if_every_hop_is(hops in proptest::collection::vec(any::<[u8; 4]>(), 1..20)) {
            let line = hops.iter().map(|hop| IpAddr::from(*hop).to_string()).collect::<Vec<_>>().join(",");
            let trusted = |address: IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[0] < 200);
            let found = client_address(IpAddr::from([10, 0, 0, 1]), [line.as_bytes()].into_iter(), trusted);
            let expected = hops.iter().rev().map(|hop| IpAddr::from(*hop)).find(|hop| !trusted(*hop));
            prop_assert_eq!(found, expected.unwrap_or(IpAddr::from(hops[0])));
        }
    }
}
