use super::index::Index;
use crate::values::Sha256;

/// What consumers hold that is found by a name: password hashes by user, keys by their id.
#[derive(Debug)]
pub(super) struct Held<T> {
    /// By the digest of the name, places in `items`.
    index: Index<u32>,
    /// Each with whose it is.
    items: Box<[(u32, T)]>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { index: Index::default(), items: Box::default() }
    }
}

/// [`Held`] under construction.
#[derive(Debug)]
pub(super) struct Holding<T> {
    names: Vec<(Sha256, u32)>,
    items: Vec<(u32, T)>,
}

impl<T> Default for Holding<T> {
    fn default() -> Self {
        Self { names: Vec::new(), items: Vec::new() }
    }
}

impl<T> Holding<T> {
    /// Adds what this consumer holds under a name.
    pub(super) fn add(&mut self, name: Sha256, consumer: u32, item: T) {
        // Fewer than 2^32: each is several bytes of a file that is counted in 32 bits of consumers.
        self.names.push((name, self.items.len() as u32));
        self.items.push((consumer, item));
    }

    /// All of it; names that are there twice go to `twice` with both holders.
    pub(super) fn build(self, mut twice: impl FnMut(u32, u32)) -> Held<T> {
        let Self { names, items } = self;
        let holder = |at: u32| items.get(at as usize).map_or(0, |(consumer, _)| *consumer);
        let index = Index::new(names, |first, other| twice(holder(first), holder(other)));
        Held { index, items: items.into() }
    }
}

impl<T> Held<T> {
    /// What is held under this name, and by whom.
    pub(super) fn get(&self, name: &Sha256) -> Option<(u32, &T)> {
        self.items.get(self.index.get(name)? as usize).map(|(consumer, item)| (*consumer, item))
    }

    /// One of all, by a number.
    pub(super) fn any(&self, number: u64) -> Option<&T> {
        let at = number.checked_rem(self.items.len() as u64)?;
        self.items.get(at as usize).map(|(_, item)| item)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The names, digested, each with its holder.
    pub(super) fn names(&self) -> impl Iterator<Item = (Sha256, u32)> {
        self.index.iter().filter_map(|(name, at)| Some((*name, self.items.get(*at as usize)?.0)))
    }

    /// Who holds what is under this name.
    pub(super) fn holder(&self, name: &Sha256) -> Option<u32> {
        self.get(name).map(|(consumer, _)| consumer)
    }

    /// The memory that it takes, without what the items hold elsewhere, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.index.bytes() + size_of_val(&*self.items)
    }
}
