/// An HTTP/1 request line, looked at as its bytes come.
///
/// Pingora's parser mends a line with bytes that it must not have by escaping them, and cuts a
/// fragment off, so that the proxy sees a target which the client did not send; RFC 9112 section 3.2
/// asks for a refusal.
/// Whatever else is wrong with a line, the parser refuses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum RequestLine {
    /// Nothing yet, or empty lines.
    #[default]
    Before,
    /// In the line, after so many spaces.
    Inside { spaces: u8, after_cr: bool },
    /// Its end has come.
    Over,
}

impl RequestLine {
    /// Takes further bytes of the connection. False if the line has what no request line may have:
    /// a space too many, a control character, or `#`.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        let begins = matches!(self, Self::Before) && !matches!(bytes.first(), None | Some(b'\r' | b'\n'));
        match memchr::memchr(b'\n', bytes) {
            // The line came whole, as nearly all do.
            Some(end) if begins => {
                *self = Self::Over;
                let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
                is_sound_line(line)
            }
            _ => self.take_piece(bytes),
        }
    }

    fn take_piece(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            let (spaces, after_cr) = match *self {
                Self::Over => return true,
                Self::Before if matches!(byte, b'\r' | b'\n') => continue,
                Self::Before => (0, false),
                Self::Inside { spaces, after_cr } => (spaces, after_cr),
            };
            if byte == b'\n' {
                *self = Self::Over;
                return true;
            }
            let spaces = spaces.saturating_add(u8::from(byte == b' '));
            *self = Self::Inside { spaces, after_cr: byte == b'\r' };
            if after_cr || spaces > 2 || byte == b'#' || (byte.is_ascii_control() && byte != b'\r') {
                return false;
            }
        }
        true
    }
}

/// Without a way out, so that the compiler looks at many bytes at once.
fn is_sound_line(line: &[u8]) -> bool {
    let spaces = line.iter().fold(0_usize, |spaces, byte| spaces + usize::from(*byte == b' '));
    let clean = line.iter().fold(true, |clean, byte| clean & (*byte != b'#') & !byte.is_ascii_control());
    clean && spaces <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sound(pieces: &[&[u8]]) -> bool {
        let mut line = RequestLine::default();
        pieces.iter().all(|piece| line.take(piece))
    }

    #[test]
    fn only_the_line_counts_and_pieces_make_no_difference() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\nhost: a b c\"<>\x01\r\n\r\n"[..], true),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", true),
            (b"GET / HTTP/1.1\n", true),
            (b"GET /a b HTTP/1.1\r\n", false),
            (b"GET / HTTP/1.1 \r\n", false),
            (b"GET /\x00 HTTP/1.1\r\n", false),
            (b"GET /\x7f HTTP/1.1\r\n", false),
            (b"GET /#a HTTP/1.1\r\n", false),
            (b"GET /\t HTTP/1.1\r\n", false),
            (b"GET /\rHTTP/1.1\r\n", false),
            (b"GET /\xc3\xa9 HTTP/1.1\r\n", true),
        ] {
            assert_eq!(is_sound(&[bytes]), expected, "{}", bytes.escape_ascii());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(is_sound(&single), expected, "{} byte by byte", bytes.escape_ascii());
        }
    }
}
