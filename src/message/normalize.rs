//! The one normalised path: what is matched, authorised, cached and forwarded.
//!
//! Escapes of unreserved characters (RFC 3986 section 2.3) are decoded, all other escapes are
//! upper-cased (section 6.2.2.1), dot segments are removed (section 5.2.4, escaped dots included)
//! and doubled slashes merged. A path that climbs above the root stays at the root. Normalising
//! twice changes nothing.
//!
//! `;params` stay, with one exception. RFC 3986 takes `..;` for an ordinary name, but some servers
//! cut the parameters off before they look at the dots, so that `/public/..;/admin` is `/admin`
//! behind a gateway that saw a path below `/public`. No honest client sends it: it is refused.

use std::borrow::Cow;
use std::fmt;

/// How the paths of a host are read. The default is the safe one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What becomes of doubled slashes.
    pub slashes: Slashes,
    /// What becomes of escapes that can hide a separator.
    pub escapes: Escapes,
}

/// What becomes of doubled slashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slashes {
    /// One slash is made of several, before dot segments are removed: `/a//../b` is `/b`.
    #[default]
    Merge,
    /// They stay. An empty segment is a segment: `/a//../b` is `/a/b`, and `/a/..//b` is `//b`,
    /// which must never be written into a `Location` as it is.
    Keep,
}

/// What becomes of `%2F`, `%5C` and escapes whose bytes are not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escapes {
    /// The path is refused.
    #[default]
    Refuse,
    /// They stay, upper-cased.
    Keep,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It does not begin with a slash.
    NoLeadingSlash,
    /// `%` without two hexadecimal digits after it.
    BrokenEscape,
    /// `%00`.
    EscapedNul,
    /// `%2F`.
    EscapedSlash,
    /// `%5C`.
    EscapedBackslash,
    /// Escapes whose bytes are not UTF-8, overlong forms included.
    NotUtf8,
    /// A backslash as it is.
    Backslash,
    /// A space or a control character as it is.
    Control,
    /// A byte above `0x7F` as it is.
    NotAscii,
    /// `?` or `#`, which end a path.
    Delimiter,
    /// A dot segment with parameters, such as `..;` or `.;x`.
    DotSegmentWithParameters,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLeadingSlash => "the path does not begin with `/`",
            Self::BrokenEscape => "the path has a `%` without two hexadecimal digits",
            Self::EscapedNul => "the path has an escaped NUL (`%00`)",
            Self::EscapedSlash => "the path has an escaped slash (`%2F`)",
            Self::EscapedBackslash => "the path has an escaped backslash (`%5C`)",
            Self::NotUtf8 => "the path has escapes that are not UTF-8",
            Self::Backslash => "the path has a backslash",
            Self::Control => "the path has a space or a control character",
            Self::NotAscii => "the path has a byte that is not ASCII",
            Self::Delimiter => "the path has a `?` or `#`",
            Self::DotSegmentWithParameters => "the path has a dot segment with parameters (`..;`)",
        })
    }
}

impl std::error::Error for BadPath {}

/// Normalises a path, without its query. A path that is normal already is borrowed, after one scan.
///
/// `*`, the target of a server-wide OPTIONS, is no path and is refused; the caller looks for it
/// before.
///
/// # Errors
/// [`BadPath`], to be answered with 400.
pub fn normalize(path: &str, options: Options) -> Result<Cow<'_, str>, BadPath> {
    if inspect(path.as_bytes(), options)? {
        return Ok(Cow::Borrowed(path));
    }
    Ok(Cow::Owned(rewrite(path.as_bytes(), options)))
}

/// What the current segment is so far, with escapes of dots decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Empty,
    Dot,
    DotDot,
    Other,
}

impl Segment {
    const fn after_dot(self) -> Self {
        match self {
            Self::Empty => Self::Dot,
            Self::Dot => Self::DotDot,
            Self::DotDot | Self::Other => Self::Other,
        }
    }

    const fn is_dots(self) -> bool {
        matches!(self, Self::Dot | Self::DotDot)
    }
}

/// Refuses what must be refused; true if nothing is left to do.
fn inspect(bytes: &[u8], options: Options) -> Result<bool, BadPath> {
    let [b'/', rest @ ..] = bytes else {
        return Err(BadPath::NoLeadingSlash);
    };
    let mut normal = true;
    let mut segment = Segment::Empty;
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        at += 1;
        match byte {
            b'/' => {
                let doubled = segment == Segment::Empty && options.slashes == Slashes::Merge;
                normal &= !doubled && !segment.is_dots();
                segment = Segment::Empty;
            }
            b'.' => segment = segment.after_dot(),
            b'%' => {
                let escapes = &rest[at - 1..];
                let decoded = escaped_byte(escapes)?;
                let length = refuse_escape(decoded, escapes, options)? * 3;
                normal &= !is_unreserved(decoded) && !escapes[..length].iter().any(u8::is_ascii_lowercase);
                if decoded == b';' && segment.is_dots() {
                    return Err(BadPath::DotSegmentWithParameters);
                }
                segment = if decoded == b'.' { segment.after_dot() } else { Segment::Other };
                at += length - 1;
            }
            b';' if segment.is_dots() => return Err(BadPath::DotSegmentWithParameters),
            b'\\' => return Err(BadPath::Backslash),
            b'?' | b'#' => return Err(BadPath::Delimiter),
            0..=0x20 | 0x7F => return Err(BadPath::Control),
            0x80.. => return Err(BadPath::NotAscii),
            _ => segment = Segment::Other,
        }
    }
    Ok(normal && !segment.is_dots())
}

/// How many escapes from the first one on are accepted as one character; the first one is `decoded`.
fn refuse_escape(decoded: u8, escapes: &[u8], options: Options) -> Result<usize, BadPath> {
    match decoded {
        0 => Err(BadPath::EscapedNul),
        _ if options.escapes == Escapes::Keep => Ok(1),
        b'/' => Err(BadPath::EscapedSlash),
        b'\\' => Err(BadPath::EscapedBackslash),
        0x80.. => character_length(escapes),
        _ => Ok(1),
    }
}

/// How many escapes make up the character that begins with the first one.
fn character_length(escapes: &[u8]) -> Result<usize, BadPath> {
    let mut character = [0; 4];
    for taken in 0..character.len() {
        let escape = escapes.get(taken * 3..).filter(|rest| rest.first() == Some(&b'%'));
        character[taken] = escaped_byte(escape.ok_or(BadPath::NotUtf8)?)?;
        match std::str::from_utf8(&character[..=taken]) {
            Ok(_) => return Ok(taken + 1),
            Err(error) if error.error_len().is_some() => return Err(BadPath::NotUtf8),
            Err(_) => {}
        }
    }
    Err(BadPath::NotUtf8)
}

/// The byte that the escape at the beginning of `escape` stands for.
fn escaped_byte(escape: &[u8]) -> Result<u8, BadPath> {
    let digit = |at: usize| escape.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    match (digit(1), digit(2)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(BadPath::BrokenEscape),
    }
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Rewrites a path that [`inspect`] let pass.
fn rewrite(bytes: &[u8], options: Options) -> String {
    let mut out = String::with_capacity(bytes.len());
    out.push('/');
    let mut at = 1;
    while at < bytes.len() {
        match (bytes[at], escaped_byte(&bytes[at..])) {
            (b'/', _) => {
                let dots = end_segment(&mut out);
                if !(dots || options.slashes == Slashes::Merge && out.ends_with('/')) {
                    out.push('/');
                }
                at += 1;
            }
            (b'%', Ok(decoded)) if is_unreserved(decoded) => {
                out.push(char::from(decoded));
                at += 3;
            }
            (b'%', _) => {
                out.extend(bytes[at..].iter().take(3).map(|b| char::from(b.to_ascii_uppercase())));
                at += 3;
            }
            (byte, _) => {
                out.push(char::from(byte));
                at += 1;
            }
        }
    }
    end_segment(&mut out);
    out
}

/// Takes a dot segment, and for `..` the one before it, off the end; true if there was one. What
/// is left then ends with the slash before it.
fn end_segment(out: &mut String) -> bool {
    let start = out.rfind('/').map_or(0, |slash| slash + 1);
    match &out[start..] {
        "." => out.truncate(start),
        ".." => {
            let parent = out[..start].strip_suffix('/').and_then(|before| before.rfind('/'));
            out.truncate(parent.map_or(start, |slash| slash + 1));
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests;
