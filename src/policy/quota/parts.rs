//! A rolling period in parts of equal length.

use super::count::Millis;

/// Parts of a rolling period, besides the one that has begun.
pub const PARTS: usize = 30;

/// What was used in the last parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The part that has begun, since 1970.
    pub newest: u64,
    /// How long one is.
    pub length: Millis,
    /// By part, modulo their number.
    pub used: [u64; PARTS + 1],
}

impl Parts {
    /// Where a part stands in `used`.
    pub const fn place(part: u64) -> usize {
        (part % (PARTS as u64 + 1)) as usize
    }

    /// True if what was used in this part still counts.
    pub const fn counts(&self, part: u64) -> bool {
        part <= self.newest && self.newest - part <= PARTS as u64
    }

    /// What was used in a part, to be changed.
    pub fn cell(&mut self, part: u64) -> &mut u64 {
        &mut self.used[Self::place(part)]
    }

    /// Goes on to this part, and tells what is used.
    pub fn roll(&mut self, part: u64) -> u64 {
        let ahead = self.newest.saturating_sub(part);
        if ahead > PARTS as u64 || part - part.min(self.newest) > PARTS as u64 {
            // A clock that was put back by more than a period, or a silence of one.
            self.used = [0; PARTS + 1];
            self.newest = part;
        }
        while self.newest < part {
            self.newest += 1;
            let newest = self.newest;
            *self.cell(newest) = 0;
        }
        self.used.iter().fold(0, |sum, used| sum.saturating_add(*used))
    }

    /// What is used at this moment.
    pub fn used_at(&mut self, now: Millis) -> u64 {
        self.roll(now / self.length.max(1))
    }

    /// When all of it will be back.
    pub const fn empty_at(&self) -> Millis {
        self.newest.saturating_add(PARTS as u64 + 1).saturating_mul(self.length)
    }

    /// When so much will have come back, in milliseconds since 1970; all of it, if it is not more.
    pub fn back(&self, excess: u64) -> Millis {
        let mut left = excess;
        let first = self.newest.saturating_sub(PARTS as u64);
        for part in first..=self.newest {
            left = left.saturating_sub(self.used[Self::place(part)]);
            if left == 0 {
                return part.saturating_add(PARTS as u64 + 1).saturating_mul(self.length);
            }
        }
        self.newest.saturating_add(PARTS as u64 + 1).saturating_mul(self.length)
    }
}
