use super::*;
use proptest::prelude::*;

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

fn v4_addresses() -> Vec<u8> {
    [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0, 80].to_vec()
}

fn v6_addresses() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
    let destination: Ipv6Addr = "2001:db8::1".parse().unwrap();
    [&source.octets()[..], &destination.octets(), &[0x12, 0x34, 0, 80]].concat()
}

fn client(address: &str) -> Result<Header, Garbage> {
    Ok(Header::Client(address.parse().unwrap()))
}

/// Feeds a header as [`read`] does, and answers how many bytes it took.
fn feed(bytes: &[u8]) -> (Result<Header, Garbage>, usize) {
    let mut taken = 0;
    loop {
        let more = match Header::parse(&bytes[..taken]) {
            Ok(Header::Needs(more)) => more,
            Ok(Header::NeedsLine) => bytes[taken..]
                .iter()
                .position(|c| *c == b'\n')
                .map_or(1, |end| end + 1)
                .min(LONGEST_LINE - taken),
            done => return (done, taken),
        };
        assert!(more > 0, "it comes to an end");
        if taken + more > bytes.len() {
            return (Header::parse(&bytes[..taken]), taken);
        }
        taken += more;
    }
}

#[test]
fn both_versions_name_clients() {
    let with_more = [&v4_addresses()[..], &[4, 0, 3, 1, 2, 3]].concat();
    let unix = vec![0; 216];
    let table = [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 80\r\n".to_vec(), client("192.0.2.7:4660")),
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(),
            client("255.255.255.255:65535"),
        ),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 80\r\n".to_vec(), client("[2001:db8::7]:4660")),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".to_vec(), client("0.0.0.0:0")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Ok(Header::Local)),
        (b"PROXY UNKNOWN whatever they like\r\n".to_vec(), Ok(Header::Local)),
        (v2(1, 0x11, &v4_addresses()), client("192.0.2.7:4660")),
        (v2(1, 0x11, &with_more), client("192.0.2.7:4660")),
        (v2(1, 0x21, &v6_addresses()), client("[2001:db8::7]:4660")),
        (v2(0, 0x11, &v4_addresses()), Ok(Header::Local)),
        (v2(0, 0x00, &[]), Ok(Header::Local)),
        (v2(1, 0x00, &[]), Ok(Header::Local)),
        (v2(1, 0x31, &unix), Ok(Header::Local)),
        (v2(1, 0x12, &v4_addresses()), Ok(Header::Local)),
    ];
    for (bytes, expected) in table {
        let whole = bytes.len();
        let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(feed(&followed), (expected, whole), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_is_no_header_is_garbage() {
    let long_line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 15));
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n"[..],
        b"PROXY",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 80\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4660\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 80 1\r\n",
        b"PROXY TCP4 192.0.2.7  198.51.100.1 4660 80\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 04660 80\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 80\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 80\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 80\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 80\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 80\r\n",
        b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 80\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 80\r\n",
        b"PROXY \xff\xff\xff\xff\xff\xff\xff\xff\xff\r\n",
        b"proxy tcp4 192.0.2.7 198.51.100.1 1 80\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaa",
        long_line.as_bytes(),
        &v2(2, 0x11, &v4_addresses()),
        &v2(1, 0x41, &v4_addresses()),
        &v2(1, 0x13, &v4_addresses()),
        &v2(1, 0x11, &v4_addresses()[..11]),
        &v2(1, 0x21, &v4_addresses()),
        &v2(1, 0x11, &vec![0; LONGEST]),
    ] {
        let (found, _) = feed(bytes);
        let expected = if bytes == b"PROXY" { Ok(Header::Needs(15)) } else { Err(Garbage) };
        assert_eq!(found, expected, "{}", bytes.escape_ascii());
    }
    let mut version_1_in_binary = v2(1, 0x11, &v4_addresses());
    version_1_in_binary[12] = 0x11;
    assert_eq!(feed(&version_1_in_binary).0, Err(Garbage));
}

proptest! {
    #[test]
    fn no_bytes_are_trouble(start in 0usize..4, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let starts: [&[u8]; 4] = [b"", b"PROXY TCP4 ", SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"];
        let bytes = [starts[start], &bytes].concat();
        let (_, taken) = feed(&bytes);
        prop_assert!(taken <= LONGEST.max(LONGEST_LINE));
        let _ = Header::parse(&bytes);
    }

    #[test]
    fn every_client_comes_through(v4: bool, octets: [u8; 16], port: u16, text: bool, behind: Vec<u8>) {
        let source = if v4 { IpAddr::from(*octets.first_chunk::<4>().unwrap()) } else { IpAddr::from(octets) };
        let destination = if v4 { IpAddr::from([198, 51, 100, 1]) } else { IpAddr::from([0x20; 16]) };
        let header = if text {
            let family = if v4 { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {source} {destination} {port} 443\r\n").into_bytes()
        } else {
            let octets = |address| match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let ports = [port.to_be_bytes(), 443u16.to_be_bytes()].concat();
            v2(1, if v4 { 0x11 } else { 0x21 }, &[octets(source), octets(destination), ports].concat())
        };
        let followed = [&header[..], &behind].concat();
        prop_assert_eq!(feed(&followed), (Ok(Header::Client(SocketAddr::new(source, port))), header.len()));
        for cut in 0..header.len() {
            let (part, _) = feed(&header[..cut]);
            prop_assert!(matches!(part, Ok(Header::Needs(_) | Header::NeedsLine)), "cut at {}: {:?}", cut, part);
        }
    }
}
