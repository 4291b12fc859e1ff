//! The file of an object: what it says, and how it is known to be what was written.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `TGCACHE` and the number of this form |
//! | 4 | length of the head, `h` |
//! | 8 | checksum of the three other parts up to the end of the head |
//! | `h` | the head: status, terms, moment, key, variant, fields, tags, length of the body, a checksum for each 64 KiB of it |
//! | the rest | the body |
//!
//! Numbers are little-endian; checksums are XXH3, 64 bits. A file whose length is not what its head says is
//! refused, and so is a piece of a body that its checksum does not fit: what is served has been checked.

use crate::cache::rules::storing::Terms;
use crate::cache::rules::vary::Vary;
use crate::cache::store::object::{Head, MOST_TAGS, Object};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What a file begins with. The last byte is the number of the form: a file of another one is no file.
const MAGIC: [u8; 8] = *b"TGCACHE\x01";

/// Bytes before the head.
pub const PREFIX: usize = 20;

/// The largest head that is written or read, in bytes.
pub const LARGEST_HEAD: usize = 1 << 20;

/// Bodies are checked in pieces of so many bytes.
pub const PIECE: usize = 64 << 10;

/// The beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Length of the head.
    pub head: usize,
    checksum: u64,
}

/// What a file says of its object.
#[derive(Clone, Debug)]
pub struct Record {
    /// The text of its key.
    pub key: Box<str>,
    /// Status, fields and terms.
    pub head: Head,
    /// What of the request it varies on.
    pub variant: Box<[u8]>,
    /// Hashes of its tags.
    pub tags: Box<[u64]>,
    /// When its request was sent, on the clock of purges.
    pub born: u64,
    /// Bytes of its body.
    pub length: u64,
    /// A checksum for each [`PIECE`] of its body.
    pub sums: Box<[u64]>,
}

impl Record {
    /// How long a file with a head of so many bytes is.
    pub const fn file_length(&self, head: usize) -> u64 {
        PREFIX as u64 + head as u64 + self.length
    }
}

/// The checksum of a piece of a body.
pub fn sum(piece: &[u8]) -> u64 {
    xxh3_64(piece)
}

/// The checksums of a body that comes in any pieces.
pub fn sums<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Box<[u64]> {
    let (mut sums, mut hash, mut room) = (Vec::new(), Xxh3::new(), PIECE);
    for mut piece in pieces {
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(room));
            hash.update(now);
            room -= now.len();
            piece = later;
            if room == 0 {
                sums.push(hash.digest());
                (hash, room) = (Xxh3::new(), PIECE);
            }
        }
    }
    if room < PIECE {
        sums.push(hash.digest());
    }
    sums.into()
}

/// Everything before the body; none if it does not fit into the form.
pub fn encode(key: &str, object: &Object, (length, sums): (u64, &[u64])) -> Option<Vec<u8>> {
    let Head { status, headers, terms, .. } = &object.head;
    let mut out = vec![0; PREFIX];
    put(&mut out, &status.as_u16().to_le_bytes());
    out.push(u8::from(terms.no_cache) | u8::from(terms.must_revalidate) << 1);
    for time in [terms.answered, terms.initial_age, terms.lifetime, terms.grace, terms.stale_if_error] {
        put(&mut out, &time.as_secs().to_le_bytes());
        put(&mut out, &time.subsec_nanos().to_le_bytes());
    }
    put(&mut out, &object.born.to_le_bytes());
    put_text(&mut out, key.as_bytes())?;
    put_text(&mut out, &object.variant)?;
    put(&mut out, &u32::try_from(headers.len()).ok()?.to_le_bytes());
    for (name, value) in headers.iter() {
        put_text(&mut out, name.as_str().as_bytes())?;
        put_text(&mut out, value.as_bytes())?;
    }
    put(&mut out, &u32::try_from(object.tags.len()).ok()?.to_le_bytes());
    for number in object.tags.iter().chain([&length]).chain(sums) {
        put(&mut out, &number.to_le_bytes());
    }
    let head = out.len() - PREFIX;
    if head > LARGEST_HEAD {
        return None;
    }
    let prefix = out.get_mut(..12)?;
    prefix.get_mut(..8)?.copy_from_slice(&MAGIC);
    prefix.get_mut(8..)?.copy_from_slice(&u32::try_from(head).ok()?.to_le_bytes());
    let checksum = checksum(out.get(..12)?, out.get(PREFIX..)?);
    out.get_mut(12..PREFIX)?.copy_from_slice(&checksum.to_le_bytes());
    Some(out)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    put(out, &u32::try_from(text.len()).ok()?.to_le_bytes());
    put(out, text);
    Some(())
}

fn checksum(prefix: &[u8], head: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(prefix);
    hash.update(head);
    hash.digest()
}

/// The beginning of a file; none if it is not ours.
pub fn prefix(bytes: &[u8]) -> Option<Prefix> {
    let mut rest = Rest(bytes.get(..PREFIX)?);
    if rest.take(8)? != MAGIC {
        return None;
    }
    let head = rest.u32()? as usize;
    (head <= LARGEST_HEAD).then_some(Prefix { head, checksum: rest.u64()? })
}

/// What a head says; `bytes` are the file's up to the end of the head. None if anything is not as it was
/// written.
pub fn decode(bytes: &[u8]) -> Option<Record> {
    let known = prefix(bytes)?;
    let head = bytes.get(PREFIX..)?;
    if head.len() != known.head || checksum(bytes.get(..12)?, head) != known.checksum {
        return None;
    }
    parse(head)
}

/// The fields of a head that is sound; still nothing is taken on trust, for another version of this program
/// may have written it.
pub fn parse(head: &[u8]) -> Option<Record> {
    let mut rest = Rest(head);
    let status = StatusCode::from_u16(rest.u16()?).ok()?;
    let flags = rest.u8()?;
    let mut times = [Duration::ZERO; 5];
    for time in &mut times {
        let (seconds, nanos) = (rest.u64()?, rest.u32()?);
        *time = (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))?;
    }
    let [answered, initial_age, lifetime, grace, stale_if_error] = times;
    let (no_cache, must_revalidate) = (flags & 1 != 0, flags & 2 != 0);
    let terms = Terms { answered, initial_age, lifetime, grace, stale_if_error, no_cache, must_revalidate };
    let born = rest.u64()?;
    let key = std::str::from_utf8(rest.text()?).ok()?.into();
    let variant = rest.text()?.into();
    let mut headers = HeaderMap::new();
    for _ in 0..rest.u32()? {
        let name = HeaderName::from_bytes(rest.text()?).ok()?;
        headers.try_append(name, HeaderValue::from_bytes(rest.text()?).ok()?).ok()?;
    }
    let vary = Vary::of(&headers)?;
    let count = usize::try_from(rest.u32()?).ok().filter(|count| *count <= MOST_TAGS)?;
    let tags = (0..count).map(|_| rest.u64()).collect::<Option<_>>()?;
    let length = rest.u64()?;
    let pieces = length.div_ceil(PIECE as u64);
    if flags > 3 || rest.0.len() as u64 != pieces.checked_mul(8)? {
        return None;
    }
    let sums = (0..pieces).map(|_| rest.u64()).collect::<Option<_>>()?;
    let head = Head { status, headers: Arc::new(headers), vary, terms };
    Some(Record { key, head, variant, tags, born, length, sums })
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }
}
