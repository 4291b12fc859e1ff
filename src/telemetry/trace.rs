//! W3C Trace Context: which trace a request belongs to.
//!
//! <https://www.w3.org/TR/trace-context/>, level 1, with the random flag of level 2.

use super::random;
use http::{HeaderMap, HeaderValue};

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;
/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// More members than this the standard forbids (section 3.3.1.1).
const MAX_STATE_MEMBERS: usize = 32;
/// The standard asks for at least 512 characters to be passed along.
const MAX_STATE_LENGTH: usize = 4096;

/// A place in a trace, as `traceparent` carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// A new trace with its first span. `sampled` tells those upstream that this side records it.
    pub fn begin(sampled: bool) -> Self {
        let trace = u128::from(random::next_u64()) << 64 | u128::from(random::next_u64());
        let flags = RANDOM | if sampled { SAMPLED } else { 0 };
        Self { trace: trace.max(1), span: random_span(), flags }
    }

    /// The place in the trace that the caller named, if there is exactly one `traceparent` and it is
    /// valid. Whether the caller is believed is not decided here.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    /// Reads a `traceparent` (section 3.2.2): lower-case hexadecimal, ids that are not all zero, any
    /// version but `ff`; of a version after 00 only what 00 defines.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = (value.get(..2)?, value.get(2..LENGTH)?);
        let version = hex(version)?;
        let length_fits = match version {
            0 => value.len() == LENGTH,
            0xff => false,
            _ => value.get(LENGTH).is_none_or(|next| *next == b'-'),
        };
        let dashes_fit = rest[0] == b'-' && rest[33] == b'-' && rest[50] == b'-';
        if !length_fits || !dashes_fit {
            return None;
        }
        let trace = hex(&rest[1..33]).filter(|trace| *trace != 0)?;
        let span = hex(&rest[34..50]).filter(|span| *span != 0)?;
        let flags = hex(&rest[51..53])?;
        Some(Self { trace, span: span as u64, flags: flags as u8 & (SAMPLED | RANDOM) })
    }

    /// A span of one's own under this one: what goes upstream.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: random_span(), ..*self }
    }

    /// The trace's id, 32 digits.
    pub fn trace_id(&self) -> HexId<32> {
        HexId::new(self.trace)
    }

    /// The span's id, 16 digits.
    pub fn span_id(&self) -> HexId<16> {
        HexId::new(u128::from(self.span))
    }

    /// Whether the caller may have recorded the trace.
    pub const fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of `traceparent`, version 00.
    pub fn header_value(&self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(self.trace_id().as_bytes());
        text[36..52].copy_from_slice(self.span_id().as_bytes());
        text[54] = b'0' + self.flags;
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// The two digits of each byte.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

/// An id in lower-case hexadecimal digits, of which there is an even number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HexId<const DIGITS: usize>([u8; DIGITS]);

impl<const DIGITS: usize> HexId<DIGITS> {
    pub(super) fn new(id: u128) -> Self {
        let bytes = id.to_be_bytes();
        let mut digits = [b'0'; DIGITS];
        // Byte by byte: to shift all 128 bits for each digit costs several times as much.
        for (pair, byte) in digits.rchunks_exact_mut(2).zip(bytes.iter().rev()) {
            pair.copy_from_slice(&PAIRS[usize::from(*byte)]);
        }
        Self(digits)
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The digits as text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The `tracestate` to pass along with a `traceparent` that was taken over: all fields as one value
/// (section 3.3), or nothing if a member is malformed, a key stands twice, or it is too long.
pub fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all("tracestate").iter();
    let first = values.next()?;
    if values.next().is_none() {
        return state_is_valid(first.as_bytes()).then(|| first.clone());
    }
    let mut joined = Vec::new();
    for value in headers.get_all("tracestate") {
        if joined.len() + value.len() > MAX_STATE_LENGTH {
            return None;
        }
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(value.as_bytes());
    }
    if !state_is_valid(&joined) {
        return None;
    }
    HeaderValue::from_bytes(&joined).ok()
}

fn state_is_valid(value: &[u8]) -> bool {
    if value.len() > MAX_STATE_LENGTH {
        return false;
    }
    let mut keys = [[].as_slice(); MAX_STATE_MEMBERS];
    let mut count = 0;
    // Empty members are allowed (section 3.3.1.1), and say nothing.
    for member in value.split(|c| *c == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        let Some(equals) = member.iter().position(|c| *c == b'=') else { return false };
        let (key, content) = (&member[..equals], &member[equals + 1..]);
        if count == MAX_STATE_MEMBERS || !key_is_valid(key) || !content_is_valid(content) {
            return false;
        }
        if keys[..count].contains(&key) {
            return false;
        }
        keys[count] = key;
        count += 1;
    }
    count > 0
}

/// `simple-key` or `tenant@system` (section 3.3.1.3.1).
fn key_is_valid(key: &[u8]) -> bool {
    let allowed = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_-*/".contains(c);
    let letter_first = |part: &[u8]| part.first().is_some_and(u8::is_ascii_lowercase);
    match key.iter().position(|c| *c == b'@') {
        None => key.len() <= 256 && letter_first(key) && key.iter().all(allowed),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            let starts = tenant.first().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            starts
                && tenant.len() <= 241
                && system.len() <= 14
                && letter_first(system)
                && tenant.iter().chain(system).all(allowed)
        }
    }
}

/// Up to 256 printable characters without `,` and `=` (section 3.3.1.3.2).
fn content_is_valid(content: &[u8]) -> bool {
    content.len() <= 256 && content.iter().all(|c| matches!(c, b' '..=b'~') && !b",=".contains(c))
}

fn random_span() -> u64 {
    random::next_u64().max(1)
}

fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests;
