//! One key's place in the store: two words. Four places fill a cache line, which is what a look-up reads.

use super::Ticks;
use std::sync::atomic::{AtomicU64, Ordering};

/// No key.
pub(super) const EMPTY: u64 = 0;

/// A key, and when all of it is there again. The lowest bit of the second word is a lock; whoever holds it
/// may change the key. Who only takes from one key changes the word in one step and needs no lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'a> {
    key: &'a AtomicU64,
    word: &'a AtomicU64,
}

const LOCKED: u64 = 1;

/// A slot that nobody else changes until this is dropped.
pub(super) struct Held<'a> {
    slot: Slot<'a>,
    full: Ticks,
}

impl<'a> Slot<'a> {
    /// Two words of a table that begins as zeros.
    pub(super) const fn new([key, word]: &'a [AtomicU64; 2]) -> Self {
        Self { key, word }
    }

    /// Where it is, to tell slots apart.
    pub(super) fn address(self) -> usize {
        std::ptr::from_ref(self.key).addr()
    }

    pub(super) fn key(self) -> u64 {
        self.key.load(Ordering::Acquire)
    }

    /// What it says of `key`, and the word that says it; none if it is another's by now. The order of the
    /// two reads matters: what a new owner has written is read after its key is.
    pub(super) fn read(self, key: u64) -> Option<(Ticks, u64)> {
        let word = self.unlocked();
        (self.key() == key).then_some((word >> 1, word))
    }

    /// Changes it in one step from what was read. False if somebody was faster.
    pub(super) fn advance(self, seen: u64, full: Ticks) -> bool {
        self.word.compare_exchange(seen, full << 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Holds it for `key`; none if it is another's by now.
    pub(super) fn hold(self, key: u64) -> Option<Held<'a>> {
        loop {
            let word = self.unlocked();
            if let Some(held) = self.try_hold(word) {
                return (self.key() == key).then_some(held);
            }
        }
    }

    /// Holds it if nobody needs it: it is empty, or all of its key was there before now, so that forgetting
    /// the key changes nothing.
    pub(super) fn hold_idle(self, now: Ticks) -> Option<Held<'a>> {
        let word = self.word.load(Ordering::Acquire);
        let idle = self.key() == EMPTY || word >> 1 < now;
        if !idle || word & LOCKED != 0 {
            return None;
        }
        self.try_hold(word)
    }

    /// When all of its key is there; none while somebody holds it.
    pub(super) fn full(self) -> Option<Ticks> {
        let word = self.word.load(Ordering::Acquire);
        (word & LOCKED == 0).then_some(word >> 1)
    }

    /// Holds it if it still says what it said.
    pub(super) fn hold_as(self, full: Ticks) -> Option<Held<'a>> {
        self.try_hold(full << 1)
    }

    fn try_hold(self, word: u64) -> Option<Held<'a>> {
        let locked = word | LOCKED;
        self.word.compare_exchange(word, locked, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(Held { slot: self, full: word >> 1 })
    }

    /// The word, once nobody holds it. Holders do a few dozen instructions; one that lost its core meanwhile
    /// gets it back sooner if the others give theirs up.
    fn unlocked(self) -> u64 {
        let mut turns = 0_u32;
        loop {
            let word = self.word.load(Ordering::Acquire);
            if word & LOCKED == 0 {
                return word;
            }
            turns += 1;
            if turns.is_multiple_of(64) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

impl Held<'_> {
    pub(super) const fn full(&self) -> Ticks {
        self.full
    }

    pub(super) const fn set(&mut self, full: Ticks) {
        self.full = full;
    }

    pub(super) fn is(&self, slot: Slot<'_>) -> bool {
        self.slot.address() == slot.address()
    }

    /// Gives it to another key, of which all is there at `full`.
    pub(super) fn give(mut self, key: u64, full: Ticks) {
        // Not what stood there, so that nobody who read that takes this for it.
        self.full = if self.slot.key() == EMPTY { full } else { full.max(self.full + 1) };
        self.slot.key.store(key, Ordering::Release);
    }

    /// Its key is kept elsewhere.
    pub(super) fn empty(self) {
        self.slot.key.store(EMPTY, Ordering::Release);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.slot.word.store(self.full << 1, Ordering::Release);
    }
}
