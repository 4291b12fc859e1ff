//! JSON values, written by hand: no line of the log can be broken by what a client sent.

use crate::values::digits;
use std::io::Write as _;
use std::net::IpAddr;

/// Longer values are cut here, at a character's border, and end in `…`.
pub(super) const MAX_VALUE: usize = 8192;

/// A string in quotes. Control characters (C0, C1, DEL) and the line separators of Unicode come out
/// as escapes, what is not UTF-8 as U+FFFD.
pub(super) fn string(line: &mut Vec<u8>, value: &[u8]) {
    line.push(b'"');
    text(line, value);
    line.push(b'"');
}

/// What [`string`] writes between its quotes.
pub(super) fn text(line: &mut Vec<u8>, value: &[u8]) {
    let (value, cut) = match value.get(..MAX_VALUE) {
        Some(beginning) if value.len() > MAX_VALUE => (beginning, true),
        _ => (value, false),
    };
    // Without a way out, so that the compiler looks at many bytes at once.
    if value.iter().fold(true, |plain, c| plain & is_plain(*c)) && !cut {
        return line.extend_from_slice(value);
    }
    let plain = value.iter().position(|c| !is_plain(*c)).unwrap_or(value.len());
    line.extend_from_slice(&value[..plain]);
    for chunk in value[plain..].utf8_chunks() {
        escaped(line, chunk.valid());
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if cut {
        line.extend_from_slice("…".as_bytes());
    }
}

/// Milliseconds with three decimals.
pub(super) fn milliseconds(line: &mut Vec<u8>, duration: std::time::Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(line, micros / 1000);
    let rest = micros % 1000;
    let digit = |value: u64| b'0' + (value % 10) as u8;
    line.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// A number.
pub(super) fn number(line: &mut Vec<u8>, value: impl Into<u64>) {
    line.extend_from_slice(digits::of(value.into(), &mut digits::Room::default()));
}

/// An address, in quotes.
pub(super) fn ip(line: &mut Vec<u8>, address: IpAddr) {
    line.push(b'"');
    bare_ip(line, address);
    line.push(b'"');
}

fn bare_ip(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    line.push(b'.');
                }
                number(line, octet);
            }
        }
        IpAddr::V6(address) => {
            let _ = write!(line, "{address}");
        }
    }
}

const fn is_plain(c: u8) -> bool {
    matches!(c, b' '..=b'~') && c != b'"' && c != b'\\'
}

fn escaped(line: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        match c {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            '\n' => line.extend_from_slice(b"\\n"),
            '\r' => line.extend_from_slice(b"\\r"),
            '\t' => line.extend_from_slice(b"\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            c => line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: &[u8]) -> String {
        let mut line = Vec::new();
        string(&mut line, value);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_could_break_a_line_is_escaped() {
        let table: &[(&[u8], &str)] = &[
            (b"plain /path?x=1", r#""plain /path?x=1""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"\n\r\t\0\x1b\x7f", r#""\n\r\t\u0000\u001b\u007f""#),
            ("é\u{9b}\u{2028}".as_bytes(), r#""é\u009b\u2028""#),
            (b"a\xff\xc3", "\"a\u{fffd}\u{fffd}\""),
        ];
        for (value, expected) in table {
            assert_eq!(written(value), *expected);
        }
    }

    #[test]
    fn numbers_and_addresses_are_as_the_library_has_them() {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut line = Vec::new();
            write(&mut line);
            String::from_utf8(line).unwrap()
        };
        for value in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(text(&|line| number(line, value)), value.to_string());
            let micros = std::time::Duration::from_micros(value);
            let expected = format!("{}.{:03}", value / 1000, value % 1000);
            assert_eq!(text(&|line| milliseconds(line, micros)), expected);
        }
        for address in ["0.0.0.0", "203.0.113.255", "::1", "2001:db8::ffff"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(text(&|line| ip(line, address)), format!("\"{address}\""));
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(written(&vec![b'a'; MAX_VALUE]).len(), MAX_VALUE + 2);
        let text = written("é".repeat(MAX_VALUE).as_bytes());
        assert_eq!(text.len(), MAX_VALUE + "\"…\"".len());
        assert!(text.ends_with("é…\""));
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(value in ".{0,200}") {
            let read: String = serde_json::from_str(&written(value.as_bytes())).unwrap();
            prop_assert_eq!(read, value);
        }

        #[test]
        fn any_bytes_are_one_line_of_json(value: Vec<u8>) {
            let text = written(&value);
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            let read: String = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.as_str(), String::from_utf8_lossy(&value));
        }
    }
}
