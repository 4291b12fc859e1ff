//! What a path pattern bound.

/// The most parameters that one pattern may bind.
pub const MAX_PARAMS: usize = 16;

/// The parameters of a matched path, as ranges into the normalised path: no allocation, and
/// nothing to keep alive. A slot is a place in the route's table of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    ranges: [(u32, u32); MAX_PARAMS],
    len: u8,
}

impl Params {
    /// How many slots there are.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// True if nothing was bound.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Binds `slot` to the bytes `start..end` of the path. A slot beyond [`MAX_PARAMS`] is ignored.
    pub fn set(&mut self, slot: usize, start: usize, end: usize) {
        if let (Some(range), Ok(start), Ok(end)) =
            (self.ranges.get_mut(slot), u32::try_from(start), u32::try_from(end))
        {
            *range = (start, end);
            self.len = self.len.max(slot as u8 + 1);
        }
    }

    /// The value in `slot`; empty if nothing is bound there.
    pub fn get<'p>(&self, slot: usize, path: &'p str) -> &'p str {
        self.ranges.get(slot).and_then(|(start, end)| path.get(*start as usize..*end as usize)).unwrap_or("")
    }
}
