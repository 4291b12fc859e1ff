//! What a server says of the end of an HTTP/2 connection, read beside the h2 crate, which does not tell.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// No GOAWAY so far. Stream numbers have 31 bits.
const NONE: u64 = u64::MAX;

/// The last GOAWAY of a connection (RFC 9113 section 6.8), and whether the server has closed it.
#[derive(Clone)]
pub struct LastWord(Arc<Word>);

struct Word {
    last: AtomicU64,
    closed: AtomicBool,
}

impl LastWord {
    pub fn was_said(&self) -> bool {
        self.0.last.load(Ordering::Relaxed) != NONE
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Whether the server has said that it did not and will not look at this stream.
    pub fn is_beyond(&self, stream: u32) -> bool {
        let last = self.0.last.load(Ordering::Relaxed);
        last != NONE && u64::from(stream) > last
    }
}

/// A client's connection whose incoming frames are looked at.
pub struct Watched<S> {
    stream: S,
    last: LastWord,
    /// What has come of a frame's head and, if it is GOAWAY, of the number after it.
    seen: Vec<u8>,
    /// How much of a payload is still to come that is not looked at.
    skip: usize,
}

const HEAD: usize = 9;
const GOAWAY: u8 = 7;

impl<S> Watched<S> {
    pub fn new(stream: S) -> (Self, LastWord) {
        let last = LastWord(Arc::new(Word { last: AtomicU64::new(NONE), closed: AtomicBool::new(false) }));
        (Self { stream, last: last.clone(), seen: Vec::with_capacity(HEAD + 4), skip: 0 }, last)
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let is_goaway = self.seen.get(3) == Some(&GOAWAY);
            let wanted = if self.seen.len() >= HEAD && is_goaway { HEAD + 4 } else { HEAD };
            let taken = (wanted - self.seen.len()).min(bytes.len());
            self.seen.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            let Some(&[a, b, c, kind, _, _, _, _, _, ref number @ ..]) = self.seen.get(..wanted) else {
                continue;
            };
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            match *number {
                [] if kind == GOAWAY && length >= 4 => {}
                [w, x, y, z] => {
                    let last = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
                    self.last.0.last.store(u64::from(last), Ordering::Relaxed);
                    self.seen.clear();
                    self.skip = length - 4;
                }
                _ => {
                    self.seen.clear();
                    self.skip = length;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let came = &buf.filled()[before..];
        if read.is_err() || came.is_empty() {
            self.last.0.closed.store(true, Ordering::Relaxed);
        }
        self.look(came);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
