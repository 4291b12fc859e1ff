//! Bodies: whole ones, and those that come, which any number of readers follow from the first byte.

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Bodies are kept, and sent, in pieces of up to this size. Each write of a piece ends in a segment that is not full,
/// and may wake its reader: in pieces of 64 KiB a MiB costs three times as much of the kernel's time.
const PIECE: usize = 1 << 20;

/// Larger ones stay in the pieces in which they came, if those are not small: to put them together is a copy that holds
/// up a worker.
const LARGEST_JOINED: u64 = 8 << 20;

/// Pieces of such a size are not small.
const NOT_SMALL: u64 = 32 << 10;

/// How many pieces of what will not be kept wait for the slowest reader.
const WINDOW: usize = 16;

/// The same while there is no memory to spare: readers that are slow, however many, cannot take it all.
const NARROW: usize = 2;

/// A body that is there.
#[derive(Debug)]
pub struct Whole {
    pieces: Box<[Bytes]>,
    length: u64,
}

impl Whole {
    /// Of these pieces, put together where they are small.
    pub fn new(pieces: &[Bytes]) -> Self {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        let least = if length > LARGEST_JOINED { NOT_SMALL } else { PIECE as u64 / 2 };
        let is_dense = pieces.len() <= 1 || length / pieces.len() as u64 >= least;
        if is_dense {
            return Self { pieces: pieces.into(), length };
        }
        let mut dense = Vec::new();
        let mut rest = length;
        let mut next = BytesMut::new();
        for piece in pieces {
            let mut piece = piece.as_ref();
            while !piece.is_empty() {
                if next.capacity() == 0 {
                    next = BytesMut::with_capacity(usize::try_from(rest).unwrap_or(PIECE).min(PIECE));
                }
                let (fits, more) = piece.split_at(piece.len().min(next.capacity() - next.len()));
                next.extend_from_slice(fits);
                rest -= fits.len() as u64;
                piece = more;
                if next.len() == next.capacity() {
                    dense.push(std::mem::take(&mut next).freeze());
                }
            }
        }
        if !next.is_empty() {
            dense.push(next.freeze());
        }
        Self { pieces: dense.into(), length }
    }

    /// Its length in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// What it takes, in bytes.
    pub fn weight(&self) -> u64 {
        self.length + self.pieces.len() as u64 * 64
    }

    /// All its pieces.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// A piece by its number.
    pub fn piece(&self, at: usize) -> Option<Bytes> {
        self.pieces.get(at).cloned()
    }

    /// What is left from this byte on of the piece that it is in, and the number of the next piece.
    fn rest_at(&self, byte: u64) -> Option<(Bytes, usize)> {
        let mut skip = byte;
        self.pieces.iter().zip(1..).find_map(|(piece, next)| match piece.len() as u64 {
            length if skip >= length => {
                skip -= length;
                None
            }
            // Less than the length of a piece.
            _ => Some((piece.slice(skip as usize..), next)),
        })
    }

    /// The part from `first` on, `count` bytes of it, in pieces.
    pub fn part(&self, first: u64, count: u64) -> impl Iterator<Item = Bytes> {
        let (mut skip, mut left) = (first, count);
        self.pieces.iter().filter_map(move |piece| {
            let length = piece.len() as u64;
            let from = skip.min(length);
            skip -= from;
            let take = (length - from).min(left);
            left -= take;
            // Both are at most the length of a piece.
            (take > 0).then(|| piece.slice(from as usize..(from + take) as usize))
        })
    }
}

/// How a body that came has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is whole.
    Whole,
    /// It broke off.
    Broken,
}

/// What a reader gets next.
#[derive(Debug)]
pub enum Next {
    /// A piece.
    Piece(Bytes),
    /// The end.
    End(End),
}

/// A body on its way. One writes; any number read, each at its pace.
#[derive(Debug)]
pub struct Filling {
    state: Mutex<State>,
    /// Something came.
    came: Notify,
    /// Something was read.
    read: Notify,
    declared: Option<u64>,
    largest: u64,
    budget: Arc<Budget>,
}

/// Memory of all bodies that are on their way.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    most: AtomicU64,
}

impl Budget {
    /// So many bytes at most.
    pub const fn new(most: u64) -> Self {
        Self { used: AtomicU64::new(0), most: AtomicU64::new(most) }
    }

    /// Changes the most.
    pub fn set(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// The bytes that are in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn is_exceeded(&self) -> bool {
        self.used() > self.most.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.most.load(Ordering::Relaxed)
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct State {
    /// The pieces from number `gone` on.
    pieces: VecDeque<Bytes>,
    gone: usize,
    length: u64,
    held: u64,
    end: Option<End>,
    /// What came, once it is known to be whole and is kept: it goes on to those that still read from there.
    whole: Option<Arc<Whole>>,
    /// It will not be kept: it is too large. Pieces go when all have them.
    passing: bool,
    /// Where each reader is.
    readers: Vec<Option<usize>>,
}

impl State {
    fn slowest(&self) -> Option<usize> {
        self.readers.iter().flatten().min().copied()
    }

    /// Lets go of what nobody needs any more; how many bytes that was.
    fn trim(&mut self) -> u64 {
        let upto = self.slowest().unwrap_or(self.gone + self.pieces.len());
        let mut freed = 0;
        while self.passing && self.gone < upto {
            freed += self.pieces.pop_front().map_or(0, |piece| piece.len() as u64);
            self.gone += 1;
        }
        self.held -= freed;
        freed
    }
}

impl Filling {
    /// A body of which nothing has come yet; at most `largest` bytes of it are kept.
    pub fn new(declared: Option<u64>, largest: u64, budget: Arc<Budget>) -> Self {
        Self { state: Mutex::default(), came: Notify::new(), read: Notify::new(), declared, largest, budget }
    }

    /// The length that its head declares.
    pub const fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// Adds a piece. If the body has become too large to be kept, waits until its readers have most of it.
    /// False if there is nobody to go on for.
    pub async fn push(&self, piece: &[u8]) -> bool {
        {
            let mut state = self.state.lock();
            state.length += piece.len() as u64;
            state.held += piece.len() as u64;
            // A copy of its own: a slice would keep the whole of the connection's buffer.
            state.pieces.push_back(Bytes::copy_from_slice(piece));
            let has_room = self.budget.take(piece.len() as u64);
            state.passing |= !has_room || state.length > self.largest;
        }
        self.came.notify_waiters();
        loop {
            let read = self.read.notified();
            tokio::pin!(read);
            read.as_mut().enable();
            {
                let mut state = self.state.lock();
                if !state.passing {
                    return true;
                }
                self.budget.give_back(state.trim());
                if state.slowest().is_none() {
                    return false;
                }
                if state.pieces.len() <= if self.is_narrow() { NARROW } else { WINDOW } {
                    return true;
                }
            }
            read.await;
        }
    }

    /// True while no more of it should be in hand than goes out at once.
    pub fn is_narrow(&self) -> bool {
        self.budget.is_exceeded()
    }

    /// True if it will not be kept.
    pub fn is_passing(&self) -> bool {
        self.state.lock().passing
    }

    /// Ends it. The whole, if it is one that is kept; it is on its way no longer, however slowly some read it.
    pub fn finish(&self, end: End) -> Option<Arc<Whole>> {
        let (pieces, kept) = {
            let mut state = self.state.lock();
            let is_short = self.declared.is_some_and(|declared| declared != state.length);
            let end = if is_short { End::Broken } else { end };
            state.end = Some(*state.end.get_or_insert(end));
            let kept = end == End::Whole && !state.passing && state.whole.is_none();
            (if kept { state.pieces.iter().cloned().collect() } else { Vec::new() }, kept)
        };
        self.came.notify_waiters();
        if !kept {
            return None;
        }
        let whole = Arc::new(Whole::new(&pieces));
        let mut state = self.state.lock();
        state.whole = Some(Arc::clone(&whole));
        state.pieces = VecDeque::new();
        self.budget.give_back(std::mem::take(&mut state.held));
        Some(whole)
    }

    /// A reader from the first byte on; none if the first bytes are gone.
    pub fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut state = self.state.lock();
        if state.gone > 0 {
            return None;
        }
        let id = state.readers.iter().position(Option::is_none).unwrap_or(state.readers.len());
        match state.readers.get_mut(id) {
            Some(free) => *free = Some(0),
            None => state.readers.push(Some(0)),
        }
        drop(state);
        Some(Follower { filling: Arc::clone(self), id, at: 0, read: 0, in_whole: None })
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.budget.give_back(self.state.get_mut().held);
    }
}

/// Who writes a body. One that goes before the end, whatever the reason, leaves a body that breaks off, not one that
/// its readers wait for without end.
#[derive(Debug)]
pub struct Writer(pub Arc<Filling>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.finish(End::Broken);
    }
}

/// One reader of a body on its way.
#[derive(Debug)]
pub struct Follower {
    filling: Arc<Filling>,
    id: usize,
    /// How many pieces, and bytes, it has.
    at: usize,
    read: u64,
    /// The number of the next piece, once it reads from the whole.
    in_whole: Option<usize>,
}

impl Follower {
    /// What comes next.
    pub async fn next(&mut self) -> Next {
        loop {
            let came = self.filling.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            {
                let mut state = self.filling.state.lock();
                if let Some(whole) = &state.whole {
                    let next = match self.in_whole {
                        Some(at) => whole.piece(at).map(|piece| (piece, at + 1)),
                        None => whole.rest_at(self.read),
                    };
                    let Some((piece, next)) = next else { return Next::End(End::Whole) };
                    self.in_whole = Some(next);
                    return Next::Piece(piece);
                }
                let piece = self.at.checked_sub(state.gone).and_then(|at| state.pieces.get(at).cloned());
                if let Some(piece) = piece {
                    self.at += 1;
                    self.read += piece.len() as u64;
                    let at = self.at;
                    if let Some(place) = state.readers.get_mut(self.id) {
                        *place = Some(at);
                    }
                    let passing = state.passing;
                    drop(state);
                    if passing {
                        self.filling.read.notify_waiters();
                    }
                    return Next::Piece(piece);
                }
                if let Some(end) = state.end {
                    return Next::End(end);
                }
            }
            came.await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(place) = self.filling.state.lock().readers.get_mut(self.id) {
            *place = None;
        }
        self.filling.read.notify_waiters();
    }
}
