pub(super) use crate::message::params::{MAX_PARAMETERS, Params, Span};

/// What the walk down the trie has bound so far, in the order of the pattern. One place more than
/// a pattern has names, for the rest below `/*`.
pub(super) struct Captures {
    spans: [Span; MAX_PARAMETERS + 1],
    length: usize,
}

impl Captures {
    pub(super) const fn new() -> Self {
        Self { spans: [(0, 0); MAX_PARAMETERS + 1], length: 0 }
    }

    pub(super) fn push(&mut self, from: usize, to: usize) {
        if let Some(free) = self.spans.get_mut(self.length) {
            *free = (from as u32, to as u32);
        }
        self.length += 1;
    }

    pub(super) const fn pop(&mut self) {
        self.length -= 1;
    }

    pub(super) fn get(&self, at: u16) -> Span {
        self.spans.get(usize::from(at)).copied().unwrap_or_default()
    }
}
