//! Upgrades of HTTP/1.1 (RFC 9110 section 7.8) and of WebSocket (RFC 6455) what a gateway has to
//! know: when a handshake is one, and where a frame ends. What is inside is nobody's business.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Version};
use pingora_http::{RequestHeader, ResponseHeader};

/// The protocol's name in `Upgrade`.
pub const WEBSOCKET: &str = "websocket";
/// The endpoint is going away (RFC 6455 section 7.4.1).
pub const GOING_AWAY: u16 = 1001;

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The protocol that a request asks to be upgraded to, as it wrote it. None where the request is no
/// upgrade or not a whole one: it is then served without, as RFC 9110 section 7.8 allows. A request
/// with a body is one of those: the new protocol would begin in the middle of a message.
pub fn requested(request: &RequestHeader) -> Option<&str> {
    let headers = &request.headers;
    let upgrade = only(headers, &header::UPGRADE)?.trim_ascii();
    let is_upgrade = request.version == Version::HTTP_11 && has_option(headers, b"upgrade");
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let one = !upgrade.is_empty() && !upgrade.iter().any(|c| matches!(c, b',' | b' ' | b'\t'));
    if !is_upgrade || has_body || !one {
        return None;
    }
    let name = std::str::from_utf8(upgrade).ok()?;
    let is_whole = !name.eq_ignore_ascii_case(WEBSOCKET)
        || (request.method == Method::GET && only(headers, &KEY).is_some_and(is_key));
    is_whole.then_some(name)
}

/// Whether a 101 is the answer to this request. One that is not could be somebody else's, or made up
/// to open a tunnel that nobody asked for.
///
/// # Errors
/// What is wrong with it, for the log.
pub fn check_answer(request: &RequestHeader, answer: &ResponseHeader) -> Result<(), &'static str> {
    let Some(asked) = requested(request) else { return Err("nothing was to be upgraded") };
    let headers = &answer.headers;
    if !has_option(headers, b"upgrade") {
        return Err("101 without `connection: upgrade`");
    }
    if !only(headers, &header::UPGRADE).is_some_and(|name| name.eq_ignore_ascii_case(asked.as_bytes())) {
        return Err("101 to another protocol than was asked for");
    }
    if headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err("101 with a body");
    }
    let expected = || only(&request.headers, &KEY).map(accept_for);
    if asked.eq_ignore_ascii_case(WEBSOCKET)
        && only(headers, &ACCEPT).map(<[u8]>::trim_ascii) != expected().as_deref().map(str::as_bytes)
    {
        return Err("101 with another key's `sec-websocket-accept`");
    }
    Ok(())
}

/// What a server makes of a client's key, to show that it read it (RFC 6455 section 4.2.2).
pub fn accept_for(key: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.trim_ascii());
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

/// Sixteen bytes in base64 (RFC 6455 section 4.1).
fn is_key(key: &[u8]) -> bool {
    STANDARD.decode(key.trim_ascii()).is_ok_and(|bytes| bytes.len() == 16)
}

/// The value of a field that stands once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

fn has_option(headers: &HeaderMap, option: &[u8]) -> bool {
    let options =
        headers.get_all(header::CONNECTION).into_iter().flat_map(|v| v.as_bytes().split(|c| *c == b','));
    options.into_iter().any(|found| found.trim_ascii().eq_ignore_ascii_case(option))
}

/// The longest head of a frame: two bytes, eight of length, four of mask (RFC 6455 section 5.2).
const LONGEST_HEAD: usize = 14;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x8;
const MASKED: u8 = 0x80;

/// Follows one direction of a WebSocket: where frames end, and whether it was closed.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    head: [u8; LONGEST_HEAD],
    in_head: usize,
    payload_left: u64,
    closed: bool,
}

impl Frames {
    /// Bytes went by.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let taken = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.head[self.in_head] = bytes[0];
            self.in_head += 1;
            bytes = &bytes[1..];
            if self.in_head == self.head_length() {
                self.closed |= self.head[0] & OPCODE == CLOSE;
                self.payload_left = self.payload_length();
                self.in_head = 0;
            }
        }
    }

    /// True where a frame of our own may stand.
    pub fn is_between(&self) -> bool {
        self.in_head == 0 && self.payload_left == 0
    }

    /// True once a close frame went by: nothing may follow it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How long this head is, as far as its first two bytes are there to tell.
    fn head_length(&self) -> usize {
        if self.in_head < 2 {
            return 2;
        }
        let mask = if self.head[1] & MASKED == 0 { 0 } else { 4 };
        let length = match self.head[1] & !MASKED {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let bytes = match self.head[1] & !MASKED {
            126 => &self.head[2..4],
            127 => &self.head[2..10],
            short => return u64::from(short),
        };
        bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))
    }
}

/// A close frame; a client's is masked (RFC 6455 section 5.3).
pub fn close_frame(code: u16, mask: Option<[u8; 4]>) -> Bytes {
    let [high, low] = code.to_be_bytes();
    match mask {
        None => Bytes::copy_from_slice(&[0x80 | CLOSE, 2, high, low]),
        Some([a, b, c, d]) => {
            Bytes::copy_from_slice(&[0x80 | CLOSE, MASKED | 2, a, b, c, d, high ^ a, low ^ b])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &[(&str, &str)] = &[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn request(method: &str, fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build(method, b"/", None).unwrap();
        request.set_version(Version::HTTP_11);
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn with(fields: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [GOOD, fields].concat()
    }

    #[test]
    fn an_upgrade_is_one_that_is_whole() {
        assert_eq!(requested(&request("GET", GOOD)), Some("websocket"));
        assert_eq!(requested(&request("GET", &with(&[("content-length", "0")]))), Some("websocket"));
        let other = [("connection", "upgrade"), ("upgrade", "chat/2")];
        assert_eq!(requested(&request("POST", &other)), Some("chat/2"));
        let mut old = request("GET", GOOD);
        old.set_version(Version::HTTP_10);
        let refused = [
            old,
            request("POST", GOOD),
            request("GET", &GOOD[1..]),
            request("GET", &GOOD[..2]),
            request("GET", &[GOOD[0], GOOD[2]]),
            request("GET", &with(&[("content-length", "1")])),
            request("GET", &with(&[("transfer-encoding", "chunked")])),
            request("GET", &with(&[("upgrade", "h2c")])),
            request("GET", &with(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")])),
            request("GET", &[GOOD[0], GOOD[1], ("sec-websocket-key", "c2hvcnQ=")]),
            request("GET", &[GOOD[0], ("upgrade", "websocket, h2c"), GOOD[2]]),
            request("GET", &[GOOD[0], ("upgrade", ""), GOOD[2]]),
        ];
        for request in refused {
            assert_eq!(requested(&request), None, "{request:?}");
        }
    }

    #[test]
    fn a_101_must_be_the_answer_to_the_request() {
        let answer = |fields: &[(&'static str, &str)]| {
            let mut answer = ResponseHeader::build(101, None).unwrap();
            for (name, value) in fields {
                answer.append_header(*name, *value).unwrap();
            }
            answer
        };
        // RFC 6455 section 1.3.
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let (upgrade, connection) = (("upgrade", "WebSocket"), ("connection", "Upgrade"));
        let asked = request("GET", GOOD);
        assert_eq!(check_answer(&asked, &answer(&[upgrade, connection, accept])), Ok(()));
        for wrong in [
            &[upgrade, connection][..],
            &[upgrade, accept],
            &[connection, accept],
            &[("upgrade", "h2c"), connection, accept],
            &[upgrade, connection, ("sec-websocket-accept", "x")],
            &[upgrade, connection, accept, accept],
            &[upgrade, connection, accept, ("content-length", "5")],
            &[upgrade, connection, accept, ("transfer-encoding", "chunked")],
        ] {
            assert!(check_answer(&asked, &answer(wrong)).is_err(), "{wrong:?}");
        }
        assert!(check_answer(&request("GET", &[]), &answer(&[upgrade, connection, accept])).is_err());
        let other = request("GET", &[("connection", "upgrade"), ("upgrade", "chat")]);
        assert_eq!(check_answer(&other, &answer(&[("upgrade", "chat"), connection])), Ok(()));
    }

    #[test]
    fn our_own_close_frames_are_frames() {
        for frame in [close_frame(GOING_AWAY, None), close_frame(GOING_AWAY, Some([1, 2, 3, 4]))] {
            let mut frames = Frames::default();
            frames.follow(&frame);
            assert!(frames.is_between() && frames.is_closed(), "{frame:?}");
        }
        assert_eq!(&close_frame(1001, None)[..], [0x88, 2, 3, 0xe9]);
        assert_eq!(&close_frame(1001, Some([0xff, 0, 0, 0]))[6..], [3 ^ 0xff, 0xe9]);
    }

    /// A frame as RFC 6455 section 5.2 has it.
    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(0x88, length + if masked { 4 } else { 0 }));
        frame
    }

    proptest! {
        #[test]
        fn the_ends_of_frames_are_known_however_they_come(
            sizes in proptest::collection::vec((prop_oneof![0usize..200, 65_500usize..65_600], any::<bool>()), 1..8),
            cuts in proptest::collection::vec(1usize..5_000, 1..60),
        ) {
            let frames: Vec<Vec<u8>> = sizes.iter().map(|(size, masked)| frame(1, *masked, *size)).collect();
            let mut ends = vec![0];
            for frame in &frames {
                ends.push(ends[ends.len() - 1] + frame.len());
            }
            let all = frames.concat();
            let mut follower = Frames::default();
            let (mut at, mut cut) = (0, 0);
            while at < all.len() {
                let next = (at + cuts[cut % cuts.len()]).min(all.len());
                follower.follow(&all[at..next]);
                (at, cut) = (next, cut + 1);
                prop_assert_eq!(follower.is_between(), ends.contains(&at), "at {}", at);
            }
            prop_assert!(!follower.is_closed());
            follower.follow(&frame(8, true, 2));
            prop_assert!(follower.is_closed() && follower.is_between());
        }

        #[test]
        fn no_bytes_are_too_wild(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Frames::default().follow(&bytes);
        }
    }
}
