//! Who waits for a turn: no clock, no thread. Times are microseconds since any one moment.
//!
//! As long as the queue empties now and then, who waited longest has the next turn, and everybody has the whole
//! time to wait: a burst is smoothed. Once it has not been empty for that long, more comes than can be done, and
//! whoever waits only makes others wait: then the time to wait is a twentieth of it, and who came last has the
//! first turn, since whoever came long ago is the likeliest to have given up. That is CoDel's reasoning (Nichols
//! and Jacobson, "Controlling Queue Delay", 2012: a standing queue is what has to go, not a burst), in the form that
//! servers have it in (Maurer, "Fail at Scale", 2015: controlled delay, and adaptive LIFO).
//!
//! Of several importances the highest has the next turn, and takes the place of a lower one where the queue is full.

use crate::values::Importance;
use std::collections::VecDeque;

/// A twentieth of the time to wait, where the queue never empties; but so many microseconds at least.
const SHORT: (u64, u64) = (20, 2_000);

/// Who waits.
#[derive(Debug)]
pub struct Queue<T> {
    /// By importance, who came first at the front.
    classes: [VecDeque<(u64, T)>; Importance::ALL.len()],
    len: usize,
    /// When it was empty last.
    empty_at: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { classes: Default::default(), len: 0, empty_at: 0 }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if nobody waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if somebody has been waiting for so long without a break that more comes than can be done.
    pub const fn is_standing(&self, now: u64, wait: u64) -> bool {
        self.len > 0 && now.saturating_sub(self.empty_at) >= wait
    }

    /// Somebody waits from now on. Where `most` do already, somebody who matters less goes in its place.
    ///
    /// # Errors
    /// Whoever does not wait: itself, or who went.
    pub fn push(&mut self, now: u64, importance: Importance, item: T, most: usize) -> Result<(), T> {
        if self.len == 0 {
            self.empty_at = now;
        }
        let mut out = Ok(());
        if self.len >= most {
            let lower = self.classes.iter_mut().take(importance as usize);
            let Some((_, less)) = lower.filter(|class| !class.is_empty()).find_map(VecDeque::pop_front)
            else {
                return Err(item);
            };
            self.len -= 1;
            out = Err(less);
        }
        if let Some(class) = self.classes.get_mut(importance as usize) {
            class.push_back((now, item));
            self.len += 1;
        }
        out
    }

    /// Whose turn it is, where one may wait for `wait` microseconds.
    pub fn pop(&mut self, now: u64, wait: u64) -> Option<T> {
        let standing = self.is_standing(now, wait);
        let class = self.classes.iter_mut().rev().find(|class| !class.is_empty())?;
        let (_, item) = if standing { class.pop_back() } else { class.pop_front() }?;
        self.len -= 1;
        if self.len == 0 {
            self.empty_at = now;
        }
        Some(item)
    }

    /// Whoever has waited for too long by now, one at a time.
    pub fn expired(&mut self, now: u64, wait: u64) -> Option<T> {
        let (part, least) = SHORT;
        let most = if self.is_standing(now, wait) { (wait / part).max(least).min(wait) } else { wait };
        let is_over = |class: &&mut VecDeque<(u64, T)>| {
            class.front().is_some_and(|(came, _)| now.saturating_sub(*came) >= most)
        };
        let (_, item) = self.classes.iter_mut().find(is_over)?.pop_front()?;
        self.len -= 1;
        // What nobody had a turn for does not make it empty: it is still more than can be done.
        Some(item)
    }
}
