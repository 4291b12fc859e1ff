//! Content codings at work: bodies coded as they pass, and whole ones decoded within bounds.

#[cfg(test)]
mod tests;

use crate::message::negotiate::Coding;
use bytes::Bytes;
use std::io::{self, Read, Write};

/// A window of 256 KiB: it bounds what a stream costs, and larger ones gain little below a MiB.
const WINDOW_LOG: u32 = 18;
/// The largest window that a client of `zstd` has to keep (RFC 9659 section 3).
const ZSTD_WINDOW_LOG: u32 = 23;
/// How much is decoded between two looks at the bounds.
const STEP: usize = 16 << 10;
/// Small bodies may grow by any factor up to this size: no harm is in them.
const FREE: u64 = 64 << 10;

/// Codes a body piece by piece, into the next piece of the coded one. Its memory is bounded: below
/// 3 MiB, whatever the body's length.
pub struct Encoder(Inner);

enum Inner {
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Ended,
}

impl Encoder {
    /// A new stream. Levels are the coding's own: gzip 1 to 9, brotli 0 to 11, zstd 1 to 22.
    ///
    /// # Errors
    /// The library has no memory.
    pub fn new(coding: Coding, level: u8) -> io::Result<Self> {
        let level = u32::from(level);
        Ok(Self(match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(level);
                Inner::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
            Coding::Brotli => {
                let writer = brotli::CompressorWriter::new(Vec::new(), 4096, level, WINDOW_LOG);
                Inner::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level.cast_signed())?;
                encoder.window_log(WINDOW_LOG)?;
                Inner::Zstd(Box::new(encoder))
            }
        }))
    }

    /// Takes the next piece. With `flush`, what comes out holds all that went in, so that whoever
    /// reads along misses nothing; without it some may stay inside.
    ///
    /// # Errors
    /// The library has no memory, or the stream has ended.
    pub fn push(&mut self, piece: &[u8], flush: bool) -> io::Result<Bytes> {
        let writer: &mut dyn Write = match &mut self.0 {
            Inner::Gzip(writer) => writer,
            Inner::Brotli(writer) => writer,
            Inner::Zstd(writer) => writer,
            Inner::Ended => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        writer.write_all(piece)?;
        if flush {
            writer.flush()?;
        }
        Ok(match &mut self.0 {
            Inner::Gzip(writer) => take(writer.get_mut()),
            Inner::Brotli(writer) => take(writer.get_mut()),
            Inner::Zstd(writer) => take(writer.get_mut()),
            Inner::Ended => Bytes::new(),
        })
    }

    /// Takes the last piece and ends the stream.
    ///
    /// # Errors
    /// The library has no memory, or the stream has ended.
    pub fn finish(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let before = self.push(piece, false)?;
        let rest = match std::mem::replace(&mut self.0, Inner::Ended) {
            Inner::Gzip(writer) => writer.finish()?,
            Inner::Brotli(writer) => writer.into_inner(),
            Inner::Zstd(writer) => writer.finish()?,
            Inner::Ended => Vec::new(),
        };
        if before.is_empty() {
            return Ok(rest.into());
        }
        Ok([&before[..], &rest].concat().into())
    }
}

fn take(out: &mut Vec<u8>) -> Bytes {
    std::mem::take(out).into()
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Inner::Gzip(_) => "Encoder(gzip)",
            Inner::Brotli(_) => "Encoder(br)",
            Inner::Zstd(_) => "Encoder(zstd)",
            Inner::Ended => "Encoder(ended)",
        })
    }
}

/// What a decoded body may be, so that a small one cannot become a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The largest size in bytes.
    pub size: u64,
    /// The largest size as a multiple of the coded one. Up to 64 KiB any multiple will do.
    pub ratio: u32,
}

/// Why a body could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is beyond the bounds.
    TooLarge,
    /// It is not what its coding says, or ends early.
    Malformed,
    /// A coding that is not known, or more of them than anyone needs.
    Unsupported,
}

/// The most codings on top of each other. Honest senders use one.
const MOST_CODINGS: usize = 2;

/// Takes the codings off that the lines of `Content-Encoding` name, the last one first (RFC 9110
/// section 8.4). Without any the body is as it was.
///
/// # Errors
/// See [`DecodeError`]. No more than the bounds allow is ever in memory.
pub fn decode<'a>(
    content_encoding: impl IntoIterator<Item = &'a [u8]>,
    body: &Bytes,
    bounds: Bounds,
) -> Result<Bytes, DecodeError> {
    let names = content_encoding.into_iter().flat_map(|line| line.split(|c| *c == b','));
    let names = names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty());
    let names = names.filter(|name| !name.eq_ignore_ascii_case(b"identity"));
    let codings: Option<Vec<Coding>> = names.take(MOST_CODINGS + 1).map(Coding::named).collect();
    let codings = codings.filter(|codings| codings.len() <= MOST_CODINGS).ok_or(DecodeError::Unsupported)?;
    let by_ratio = (body.len() as u64).saturating_mul(u64::from(bounds.ratio)).max(FREE);
    let most = bounds.size.min(by_ratio);
    let mut body = body.clone();
    for coding in codings.into_iter().rev() {
        body = decode_one(coding, &body, most)?;
    }
    Ok(body)
}

fn decode_one(coding: Coding, body: &[u8], most: u64) -> Result<Bytes, DecodeError> {
    let mut reader: Box<dyn Read + '_> = match coding {
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Coding::Brotli => Box::new(brotli::Decompressor::new(body, STEP)),
        Coding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(body).map_err(|_| DecodeError::Malformed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|_| DecodeError::Malformed)?;
            Box::new(decoder)
        }
    };
    let mut decoded = Vec::new();
    loop {
        let read = reader
            .by_ref()
            .take(STEP as u64)
            .read_to_end(&mut decoded)
            .map_err(|_| DecodeError::Malformed)?;
        if decoded.len() as u64 > most {
            return Err(DecodeError::TooLarge);
        }
        if read == 0 {
            return Ok(decoded.into());
        }
    }
}
