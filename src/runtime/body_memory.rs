//! Memory for request bodies that are held because a policy has to see them whole: one budget for
//! all of them, so that clients cannot fill the process.

use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first buffer of a body that does not say how long it is.
const FIRST: usize = 16 << 10;

/// The budget. What is in use outlives a configuration, its limit does not.
#[derive(Debug)]
pub struct BodyMemory {
    used: Arc<AtomicU64>,
    limit: u64,
}

/// The budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl BodyMemory {
    /// A budget of `limit` bytes, of which `used` are in use.
    pub const fn new(used: Arc<AtomicU64>, limit: u64) -> Self {
        Self { used, limit }
    }

    /// An empty buffer.
    pub fn buffer(&self) -> Buffer {
        Buffer {
            bytes: BytesMut::new(),
            lease: Lease { used: self.used.clone(), limit: self.limit, bytes: 0 },
        }
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    used: Arc<AtomicU64>,
    limit: u64,
    bytes: u64,
}

impl Lease {
    fn grow(&mut self, by: u64) -> Result<(), Full> {
        let fits = |used: u64| used.checked_add(by).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Full)?;
        self.bytes += by;
        Ok(())
    }

    fn shrink(&mut self, by: u64) {
        self.used.fetch_sub(by, Ordering::Relaxed);
        self.bytes -= by;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body that grows within the budget: by what has come, not by what was announced.
#[derive(Debug)]
pub struct Buffer {
    bytes: BytesMut,
    lease: Lease,
}

impl Buffer {
    /// How many bytes are in it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True before anything came.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends. `most` is the largest that the body can become.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn push(&mut self, piece: &[u8], most: usize) -> Result<(), Full> {
        let needed = self.bytes.len() + piece.len();
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let grown = capacity.saturating_mul(2).max(FIRST).min(most).max(needed);
            // Both are in memory until the one is copied into the other.
            self.lease.grow(grown as u64)?;
            let mut larger = BytesMut::with_capacity(grown);
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
            self.lease.shrink(capacity as u64);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Forgets what is in it and gives its part of the budget back.
    pub fn clear(&mut self) {
        self.lease.shrink(self.lease.bytes);
        self.bytes = BytesMut::new();
    }

    /// The body, with the part of the budget that it has.
    pub fn into_parts(self) -> (Bytes, Lease) {
        (self.bytes.freeze(), self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_budget_holds_and_comes_back(
            pieces in proptest::collection::vec((0..3_usize, proptest::collection::vec(any::<u8>(), 0..20_000)), 0..20),
            limit in 0_u64..200_000,
        ) {
            let used = Arc::<AtomicU64>::default();
            let memory = BodyMemory::new(used.clone(), limit);
            let mut buffers = [memory.buffer(), memory.buffer(), memory.buffer()];
            let mut expected = [const { Vec::new() }; 3];
            for (at, piece) in &pieces {
                if buffers[*at].push(piece, 100_000).is_ok() {
                    expected[*at].extend_from_slice(piece);
                }
                let now = used.load(Ordering::Relaxed);
                prop_assert!(now <= limit);
                prop_assert!(now >= expected.iter().map(Vec::len).sum::<usize>() as u64, "all of it is counted");
            }
            let [mut cleared, others @ ..] = buffers;
            cleared.clear();
            prop_assert!(cleared.is_empty());
            let parts: Vec<_> = others.into_iter().map(Buffer::into_parts).collect();
            for ((bytes, _), expected) in parts.iter().zip(&expected[1..]) {
                prop_assert_eq!(bytes, expected);
            }
            drop(parts);
            prop_assert_eq!(used.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn a_body_of_known_length_takes_no_more_than_that() {
        let used = Arc::<AtomicU64>::default();
        let memory = BodyMemory::new(used.clone(), 1 << 20);
        let mut buffer = memory.buffer();
        for _ in 0..100 {
            buffer.push(&[0; 1000], 100_000).unwrap();
        }
        assert_eq!((buffer.len(), used.load(Ordering::Relaxed)), (100_000, 100_000));
        let mut other = memory.buffer();
        assert_eq!(other.push(&[0; (1 << 20) - 99_999], 1 << 20), Err(Full));
        assert_eq!(used.load(Ordering::Relaxed), 100_000, "what was refused takes nothing");
    }
}
