//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): a balancer's word on which
//! client stands behind a connection, before anything else on it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What comes before the addresses in version 2: the signature, command, family and a length.
const FIXED: usize = 16;
/// The longest header of version 2 that is read; what follows the addresses is skipped.
const LONGEST: usize = 4096;
/// The longest line of version 1, its end included (section 2.1).
const LONGEST_LINE: usize = 107;
/// The shortest line of version 1: `PROXY UNKNOWN`.
const SHORTEST_LINE: usize = 15;

/// A header, or what is missing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// So many more bytes belong to it in any case.
    Needs(usize),
    /// It is a line of version 1, whose end has not come.
    NeedsLine,
    /// It is whole, and names the client.
    Client(SocketAddr),
    /// It is whole, and the connection is the balancer's own: a health check, or a client that cannot be
    /// named.
    Local,
}

/// Not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

impl Header {
    /// Looks at what has come so far, which is read piece by piece as [`Header::Needs`] and
    /// [`Header::NeedsLine`] say, so that nothing behind the header is ever among it.
    ///
    /// # Errors
    /// Whatever follows, this is no header.
    pub fn parse(seen: &[u8]) -> Result<Self, Garbage> {
        if seen.len() < SHORTEST_LINE {
            let common = |start: &[u8]| {
                let length = start.len().min(seen.len());
                start[..length] == seen[..length]
            };
            return if common(b"PROXY ") || common(SIGNATURE) {
                Ok(Self::Needs(SHORTEST_LINE - seen.len()))
            } else {
                Err(Garbage)
            };
        }
        match seen.strip_prefix(SIGNATURE) {
            Some(_) if seen.len() < FIXED => Ok(Self::Needs(FIXED - seen.len())),
            Some(_) => binary(seen),
            None => line(seen),
        }
    }
}

/// Section 2.1.
fn line(seen: &[u8]) -> Result<Header, Garbage> {
    if !seen.starts_with(b"PROXY ") {
        return Err(Garbage);
    }
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if seen.len() < LONGEST_LINE { Ok(Header::NeedsLine) } else { Err(Garbage) };
    };
    if end + 1 != seen.len() || seen.len() > LONGEST_LINE {
        return Err(Garbage);
    }
    let line = seen[..end].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok()).ok_or(Garbage)?;
    let mut words = line.split(' ').skip(1);
    let is_v4 = match words.next() {
        Some("UNKNOWN") => return Ok(Header::Local),
        Some("TCP4") => true,
        Some("TCP6") => false,
        _ => return Err(Garbage),
    };
    let mut address = || {
        let word = words.next().ok_or(Garbage)?;
        if is_v4 {
            word.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| Garbage)
        } else {
            word.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| Garbage)
        }
    };
    let (source, _) = (address()?, address()?);
    let (source_port, _) = (port(words.next())?, port(words.next())?);
    if words.next().is_some() {
        return Err(Garbage);
    }
    Ok(Header::Client(SocketAddr::new(source, source_port)))
}

/// Decimal, without leading zeros.
fn port(word: Option<&str>) -> Result<u16, Garbage> {
    let word = word.ok_or(Garbage)?;
    let is_plain = word.bytes().all(|c| c.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if is_plain { word.parse().map_err(|_| Garbage) } else { Err(Garbage) }
}

/// Section 2.2. `seen` begins with the signature and has at least the fixed part.
fn binary(seen: &[u8]) -> Result<Header, Garbage> {
    let [version_and_command, family, high, low] = seen[12..FIXED] else { return Err(Garbage) };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Garbage),
    };
    let whole = FIXED + usize::from(u16::from_be_bytes([high, low]));
    // The family, and the protocol: unspecified, a stream, datagrams.
    if whole > LONGEST || family >> 4 > 3 || family & 0xf > 2 {
        return Err(Garbage);
    }
    // Datagrams, and clients without an address or on a local socket, have none that is of use here.
    let shortest = match family {
        _ if is_local => 0,
        0x11 => 12,
        0x21 => 36,
        _ => 0,
    };
    if whole < FIXED + shortest {
        return Err(Garbage);
    }
    if seen.len() < whole {
        return Ok(Header::Needs(whole - seen.len()));
    }
    if seen.len() > whole {
        return Err(Garbage);
    }
    let rest = &seen[FIXED..];
    let client = match shortest {
        12 => source::<4>(rest),
        36 => source::<16>(rest),
        _ => None,
    };
    Ok(client.map_or(Header::Local, Header::Client))
}

/// The source of addresses of so many bytes: both addresses come first, then both ports.
fn source<const LENGTH: usize>(rest: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; LENGTH]>,
{
    let address: [u8; LENGTH] = *rest.first_chunk()?;
    let port: [u8; 2] = *rest.get(2 * LENGTH..)?.first_chunk()?;
    Some(SocketAddr::new(address.into(), u16::from_be_bytes(port)))
}

/// Reads a header and not a byte more. `None` if it names nobody.
///
/// # Errors
/// `InvalidData` for what is no header; the connection's own error, its end included.
pub(super) async fn read(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut seen = Vec::with_capacity(64);
    loop {
        let garbage = |_| io::Error::new(io::ErrorKind::InvalidData, "it is no PROXY header");
        let more = match Header::parse(&seen).map_err(garbage)? {
            Header::Client(client) => return Ok(Some(client)),
            Header::Local => return Ok(None),
            Header::Needs(more) => more,
            Header::NeedsLine => up_to_line_end(tcp, LONGEST_LINE - seen.len()).await?,
        };
        let from = seen.len();
        seen.resize(from + more, 0);
        tcp.read_exact(&mut seen[from..]).await?;
    }
}

/// How many bytes that are there belong to the line: up to its end, or all of them.
async fn up_to_line_end(tcp: &TcpStream, most: usize) -> io::Result<usize> {
    let mut ahead = [0; LONGEST_LINE];
    let count = tcp.peek(&mut ahead[..most]).await?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(memchr::memchr(b'\n', &ahead[..count]).map_or(count, |end| end + 1))
}

#[cfg(test)]
#[path = "tests/proxy_header.rs"]
mod tests;
