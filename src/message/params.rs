//! What a path pattern bound.

use std::fmt;

/// The most parameters that a path may have.
pub const MAX_PARAMETERS: usize = 16;

/// A part of the path, in bytes: from, to.
pub type Span = (u32, u32);

/// Where a route's parameters stand in the normalised path. A copy of a few words: nothing is
/// allocated, and the path stays the caller's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Params {
    spans: [Span; MAX_PARAMETERS],
    length: u8,
}

impl Params {
    /// No parameters.
    pub const NONE: Self = Self { spans: [(0, 0); MAX_PARAMETERS], length: 0 };

    /// Appends the next slot's part of the path; beyond [`MAX_PARAMETERS`] it is lost.
    pub fn push(&mut self, span: Span) {
        if let Some(free) = self.spans.get_mut(usize::from(self.length)) {
            *free = span;
            self.length += 1;
        }
    }

    /// The value of the parameter in `slot`, its place in the route's table. `path` is the path
    /// that was asked about. Empty for a slot that the route does not have, and for a group of a
    /// regular expression that took no part in the match.
    pub fn get<'p>(&self, slot: usize, path: &'p str) -> &'p str {
        let Some(&(from, to)) = self.spans[..usize::from(self.length)].get(slot) else {
            return "";
        };
        path.get(from as usize..to as usize).unwrap_or("")
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// True if the route has no parameters.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.spans[..self.len()]).finish()
    }
}
